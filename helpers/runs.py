"""The parameter contract of a notebook, and one run of it.

The gap: papermill injects whatever it is given. A misspelt name is a log line and exit status 0, ``threshold=abc``
runs, and a cell that declares ``in [0, 1]`` declares it to nobody. Here the tagged cell is read as a contract,
``name: type = default  # meaning, in [low, high]``, and held: by `run_notebook` before a kernel starts, and by `begin`
inside the notebook, whoever runs it.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import io
import json
import logging
import math
import os
import re
import tempfile
import threading
import time
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.machine import ENVIRONMENT, ROOT
from helpers.messages import SentenceError, first_line

__all__ = [
    "Parameter",
    "ParameterError",
    "Run",
    "begin",
    "check_parameters",
    "notebooks",
    "plain_values",
    "read_contract",
    "report",
    "run_notebook",
    "write_text",
]

TYPES = {"int": int, "float": float, "str": str, "bool": bool}
RESULTS_PATH = "results_path"
CELL_TIMEOUT = 900
"""Seconds after which a cell is given up; papermill would wait forever."""
_INTERVAL = re.compile(r"in ([\[(])(\S+), (\S+?)([\])])$")
_CHOICE = re.compile(r"one of (.+)$")


class ParameterError(SentenceError):
    """A parameter that the notebook does not accept."""


@dataclass(frozen=True)
class Parameter:
    """One line of the tagged cell.

    Attributes
    ----------
    name : str
    type : type
        int, float, str or bool.
    default : int, float, str or bool
    help : str
        The comment: the meaning, and after it ``in [low, high]`` (a round bracket excludes the end) or
        ``one of a, b``. A ``str`` whose name ends in ``_path`` or ``_dir`` must exist if it is not empty, or be
        a file that can be written if its comment ends in ``none is written``.
    """

    name: str
    type: type
    default: Any
    help: str

    @property
    def accepted(self) -> str:
        """What the parameter takes, for a message."""
        for pattern in (_INTERVAL, _CHOICE):
            if found := pattern.search(self.help):
                return f"{self.type.__name__} {found.group(0)}"
        return self.type.__name__

    def check(self, value: Any) -> Any:
        """Return the value in the declared type, or raise a `ParameterError`."""
        sentence = f"{self.name} takes {_article(self.accepted)}; got {value!r}."
        if self.type is float and type(value) is int:
            value = float(value)
        if type(value) is not self.type:
            raise ParameterError(sentence)
        if found := _INTERVAL.search(self.help):
            left, low, high, right = found.groups()
            number: Any = value
            above = number >= float(low) if left == "[" else number > float(low)
            below = number <= float(high) if right == "]" else number < float(high)
            if not (above and below and math.isfinite(number)):
                raise ParameterError(sentence)
        if (found := _CHOICE.search(self.help)) and value not in found.group(1).split(", "):
            raise ParameterError(sentence)
        if self.type is str and value:
            self._check_path(Path(str(value)).expanduser())
        return value

    def _check_path(self, path: Path) -> None:
        if self.help.endswith("none is written"):
            if path.is_dir():
                raise ParameterError(f"{self.name} takes the name of a file to write; {str(path)!r} is a folder.")
            # Found now and not after the last cell, when the results would be lost.
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            if not (folder.is_dir() and os.access(folder, os.W_OK)):
                raise ParameterError(f"{self.name}: {str(path)!r} cannot be written below {str(folder)!r}.")
        elif self.name.endswith(("_path", "_dir")) and not path.exists():
            raise ParameterError(f"{self.name}: nothing is at {str(path)!r} (looked in {Path.cwd()}).")

    def from_text(self, text: str) -> Any:
        """Return the value that was typed on a command line, or raise a `ParameterError`."""
        value: Any = text
        if self.type is bool:
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif self.type is not str:
            try:
                value = self.type(text)
            except ValueError:
                value = text
        return self.check(value)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def notebooks(prefix: str = "") -> list[Path]:
    """Return the project's notebooks whose name starts with `prefix`, in order.

    Raises
    ------
    ValueError
        None does.

    Examples
    --------
    >>> [path.name for path in notebooks("00")]
    ['00_start_here.ipynb']
    """
    every = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    found = [path for path in every if path.name.startswith(Path(prefix).name)]
    if not found:
        raise ValueError(f"no notebook starts with {prefix!r}; there are: {', '.join(path.stem for path in every)}.")
    return found


def read_contract(source: str) -> dict[str, Parameter]:
    """Read the parameters that a cell declares.

    Parameters
    ----------
    source : str
        The cell's code: only lines of the form ``name: type = literal  # help``.

    Returns
    -------
    dict of str to Parameter

    Raises
    ------
    ValueError
        A line is anything else: values that are derived would go stale when papermill overrides their origin.

    Examples
    --------
    >>> contract = read_contract("threshold: float = 0.5  # cut on the probability, in [0, 1]")
    >>> contract["threshold"].accepted
    'float in [0, 1]'
    """
    comments = {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    contract: dict[str, Parameter] = {}
    for node in ast.parse(source).body:
        line = ast.get_source_segment(source, node)
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise ValueError(f"a parameter is declared as `name: type = literal  # help`; got {line!r}.")
        declared = ast.unparse(node.annotation)
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"a parameter's default is a literal; got {line!r}.") from None
        if declared not in TYPES:
            raise ValueError(f"a parameter's type is one of {', '.join(TYPES)}; got {line!r}.")
        name = node.target.id
        contract[name] = Parameter(name, TYPES[declared], default, comments.get(node.lineno, ""))
    return contract


def _contract_of(path: Path) -> dict[str, Parameter]:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return read_contract("".join(cell["source"]))
    raise ValueError(f"{path.name} has no cell that is tagged 'parameters'.")


def check_parameters(notebook: str | os.PathLike[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Hold values against a notebook's contract; no kernel is needed.

    Parameters
    ----------
    notebook : path-like
        The notebook's file.
    values : mapping of str to object
        Text is read as the declared type, as a command line needs it.

    Returns
    -------
    dict of str to object
        The values in their declared types.

    Raises
    ------
    ParameterError
        An unknown name (the nearest right one is named), a wrong type, a value out of range, nothing at a path.

    Examples
    --------
    >>> check_parameters(notebooks("01")[0], {"treshold": 0.7})
    Traceback (most recent call last):
    helpers.runs.ParameterError: there is no parameter 'treshold'; did you mean 'threshold'?
    """
    contract = _contract_of(Path(notebook))
    _refuse_unknown(values, contract)
    return {
        name: contract[name].from_text(value) if isinstance(value, str) else contract[name].check(value)
        for name, value in values.items()
    }


def _refuse_unknown(given: Iterable[str], contract: Mapping[str, Parameter]) -> None:
    for name in given:
        if name not in contract:
            near = difflib.get_close_matches(name, contract, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(contract)}."
            raise ParameterError(f"there is no parameter {name!r}; {hint}")


def begin(namespace: Mapping[str, Any], *, exact: bool = True) -> None:
    """Open a notebook: hold its parameters to their contract, and set what TensorFlow reads when it is imported.

    Parameters
    ----------
    namespace : mapping
        ``globals()`` of the notebook. The contract is read from IPython's history of executed cells, ``In``: it needs
        no file, holds for a copy of the notebook too, and also sees the cell that papermill injects. nbval keeps no
        history; there the values are the stored ones, and nothing is held.
    exact : bool
        False: oneDNN's kernels, which train convolutions faster and round otherwise on each kind of processor. For
        notebooks whose networks could not agree anyway, and that print bounds.

    Raises
    ------
    ParameterError
        As in `check_parameters`.
    RuntimeError
        The cell with the parameters was not executed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # A filter, for TensorFlow sets the level of its log when it is imported.
    logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.ERROR)
    _hold(namespace)
    if not exact:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
        # oneDNN announces itself whatever the level of the log is.
        with _silent_stderr():
            importlib.import_module("tensorflow")


def _hold(namespace: Mapping[str, Any]) -> None:
    executed = [source for source in namespace.get("In", []) if source.strip()]
    if not executed:
        return
    declared = [found for found in map(_declarations, executed) if found]
    if not declared:
        raise RuntimeError("run the cell with the parameters first: it is the first one with code.")
    contract = declared[-1]
    for source in executed:
        if source.startswith("# Parameters\n"):
            assigned = [node.targets[0] for node in ast.parse(source).body if isinstance(node, ast.Assign)]
            _refuse_unknown([ast.unparse(target) for target in assigned], contract)
    for name, parameter in contract.items():
        parameter.check(namespace[name])


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Silence what C libraries write to standard error, which Python's own redirection does not reach."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _declarations(source: str) -> dict[str, Parameter]:
    try:
        return read_contract(source)
    except (ValueError, SyntaxError, tokenize.TokenError):
        return {}


def plain_values(values: Mapping[str, Any]) -> dict[str, float | int | str | bool]:
    """Return values as JSON can hold them: NumPy's as Python's.

    Raises
    ------
    TypeError
        A value is no number, str or bool.
    ValueError
        A number is NaN or infinite: JSON has neither.

    Examples
    --------
    >>> plain_values({"rows": 3, "good": True})
    {'rows': 3, 'good': True}
    """
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
    for name, value in plain.items():
        if not isinstance(value, (int, float, str, bool)):
            raise TypeError(f"{name} must be a number, a str or a bool; got {type(value).__name__}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be finite; got {value}.")
    return plain


def report(results: Mapping[str, float | int | str | bool], results_path: str = "") -> None:
    """Print a notebook's headline numbers, and write them as JSON where a path is given.

    Parameters
    ----------
    results : mapping of str to number, str or bool
        Flat, the headline first; rounded to what holds on another processor.
    results_path : str
        The file to write, whole or not at all; its folder is made. Empty: nothing is written.

    Raises
    ------
    TypeError, ValueError
        As in `plain_values`.

    Examples
    --------
    >>> report({"auc": 0.9962, "rows": 171})
    auc   0.9962
    rows  171
    """
    plain = plain_values(results)
    text = json.dumps(plain, indent=2) + "\n"
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        print(f"{name:{width}}  {value}")
    if results_path:
        write_text(Path(results_path).expanduser(), text)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: under a temporary name beside it, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8", newline="\n"
    ) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


@dataclass
class Run:
    """What became of one run.

    Attributes
    ----------
    notebook, output : Path
        What was run, and the executed copy.
    seconds : float
    peak_mb : float
        Largest resident memory, in MB, of the kernel and its children together.
    results : dict
        What the notebook reported.
    error : str
        Empty, or the section and cell in which the run ended and the error's last line.
    """

    notebook: Path
    output: Path
    seconds: float = 0.0
    peak_mb: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def run_notebook(
    notebook: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    on_cell: Callable[[int, int, str], None] = lambda done, total, section: None,
) -> Run:
    """Run a notebook with papermill, its parameters held to its contract first.

    Parameters
    ----------
    notebook : path-like
        The notebook's file.
    output_dir : path-like
        Receives ``<notebook>.ipynb`` and ``<notebook>.json``. What an earlier run left there under these names is
        removed first; while it runs, the notebook is ``<notebook>.partial.ipynb``.
    parameters : mapping, optional
        As in `check_parameters`.
    on_cell : callable
        Called before each cell with its number, the number of cells, and the heading above it.

    Returns
    -------
    Run
        A cell that fails is told in ``error``, not raised.

    Raises
    ------
    ParameterError
        Before a kernel starts.
    """
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    notebook, folder = Path(notebook).resolve(), Path(output_dir).resolve()
    values = check_parameters(notebook, parameters or {})
    output, results_path = folder / notebook.name, folder / f"{notebook.stem}.json"
    partial = folder / f"{notebook.stem}.partial.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (output, results_path, partial):
        stale.unlink(missing_ok=True)
    values.setdefault(RESULTS_PATH, str(results_path))
    run = Run(notebook, output)
    section = ""

    class Watched(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
            start_cell = nb_man.cell_start

            def cell_start(cell: Any, cell_index: int = 0, **rest: Any) -> None:
                nonlocal section
                section = _section(nb_man.nb.cells[: cell_index + 1])
                on_cell(cell_index + 1, len(nb_man.nb.cells), section)
                start_cell(cell, cell_index, **rest)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("watched", Watched)
    started = time.monotonic()
    with _Memory() as memory:
        for last_try in (False, True):
            try:
                papermill.execute_notebook(
                    notebook,
                    partial,
                    values,
                    engine_name="watched",
                    kernel_name="python3",
                    progress_bar=False,
                    cwd=Path.cwd(),
                    execution_timeout=CELL_TIMEOUT,
                    # C libraries write to the file descriptor; their log lines are no output of a cell.
                    extra_arguments=["--IPKernelApp.capture_fd_output=False", "--IPKernelApp.log_level=40"],
                )
            except papermill.PapermillExecutionError as error:
                run.error = f"cell {error.exec_count} in {section!r}: {error.ename}: {first_line(error.evalue)}"
            except TimeoutError:
                run.error = f"{section!r}: a cell took more than {CELL_TIMEOUT} s"
            except RuntimeError as error:
                # Kernels have been seen to die at birth; after the first cell it is the notebook that kills them.
                if not section and not last_try:
                    continue
                run.error = f"the kernel died in {section!r}: {error}"
            break
    run.seconds, run.peak_mb = time.monotonic() - started, memory.peak_mb
    if partial.exists():
        os.replace(partial, output)
    if not run.error and results_path.exists():
        run.results = json.loads(results_path.read_text(encoding="utf-8"))
    return run


def _section(cells: list[Any]) -> str:
    for cell in reversed(cells):
        headings = (
            re.findall(r"^#+ (.+)$", cell["source"], flags=re.MULTILINE) if cell["cell_type"] == "markdown" else []
        )
        if headings:
            return headings[-1]
    return ""


class _Memory:
    """The largest resident memory of this process's children, sampled while the block runs."""

    def __enter__(self) -> _Memory:
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        me = psutil.Process()
        while not self._done.wait(0.1):
            programs, total = {me.pid: me.cmdline()}, 0
            for child in me.children(recursive=True):
                try:
                    programs[child.pid] = child.cmdline()
                    # Until it begins a program of its own, a child shares its parent's memory: that counts once.
                    if programs[child.pid] != programs.get(child.ppid()):
                        total += child.memory_info().rss
                except psutil.Error:
                    continue
            self.peak_mb = max(self.peak_mb, total / 1e6)
