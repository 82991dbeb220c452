"""What every notebook begins and ends with: a checked parameter schema, one environment, results as JSON.

The gap: papermill injects whatever it is given. A misspelt name is a log line and exit status 0, ``threshold=abc``
runs, and a comment that says ``in [0, 1]`` binds nobody. Here the tagged cell is read as a schema,
``name: type = default  # meaning, in [low, high]``, and checked: by ``tools/run.py`` before a kernel starts, and by
`setup` inside the notebook, whichever program runs it. Stored, compared and run outputs agree only where threads,
oneDNN and log level do: `setup` sets them in one place. Next to nothing is imported here, so that
`check_environment` works where packages are missing.
"""

from __future__ import annotations

import ast
import difflib
import html
import json
import linecache
import logging
import math
import os
import re
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, cast

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the project: datasets and notebooks are found from here, whatever the working directory is."""

ENVIRONMENT = {
    # The same kernels on every processor, so that stored and compared outputs agree.
    "TF_ENABLE_ONEDNN_OPTS": "0",
    # Fixed, not the number of cores: sums are split by threads.
    "TF_NUM_INTRAOP_THREADS": "2",
    "TF_NUM_INTEROP_THREADS": "2",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
}
"""What every runner shares; TensorFlow reads it when it is imported. A value that is already set wins."""

# The two builds of TensorFlow hold the same modules: either satisfies the pin of the other.
_TWINS = {"tensorflow": "tensorflow-cpu", "tensorflow-cpu": "tensorflow"}


def fresh_process(script: str | os.PathLike[str], *arguments: object) -> str:
    """Run a Python script in a process that shares nothing with this one, and return what it printed.

    The gap: a model that is loaded where it was made finds every custom function and layer still in memory, so a test
    in the same kernel passes falsely.

    Parameters
    ----------
    script : path-like
        The file.
    *arguments : object
        Its command line, each as ``str``.

    Returns
    -------
    str
        Standard output.

    Raises
    ------
    RuntimeError
        The script failed; the message is the last exception that it named.
    """
    command = [sys.executable, os.fspath(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env={**ENVIRONMENT, **os.environ})
    if done.returncode:
        # The traceback's last line at the left margin names the exception; what follows it explains at length.
        errors = re.findall(r"^[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*", done.stderr, flags=re.MULTILINE)
        reason = (errors or done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{Path(script).name} ended with status {done.returncode}: {reason}")
    return done.stdout


def check_environment(lock: str | None = None) -> list[dict[str, str]]:
    """Compare what is installed with what the lock pins for this machine.

    Parameters
    ----------
    lock : str, optional
        The text of a requirements file; the project's own when left out.

    Returns
    -------
    list of dict
        For each package ``package``, ``pinned``, ``installed``, ``state`` ('right', 'wrong version' or 'missing') and
        ``fix``, the line that fixes it in a cell (empty when right).

    Examples
    --------
    >>> [row["state"] for row in check_environment("no-such-package==1.0")]
    ['missing']
    """
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8") if lock is None else lock
    # Where a package is there twice, the first one is imported.
    there = {re.sub("[-_.]+", "-", found.name).lower(): found.version for found in reversed([*distributions()])}
    rows = []
    for line in re.findall(r"^[A-Za-z0-9][^\\#\n]*", text, flags=re.MULTILINE):
        requirement = Requirement(line.strip())
        if requirement.marker is None or requirement.marker.evaluate():
            name, pinned = requirement.name, str(requirement.specifier).removeprefix("==")
            found = there.get(name) or there.get(_TWINS.get(name, ""))
            state = "missing" if not found else "right" if found == pinned else "wrong version"
            fix = "" if state == "right" else f"%pip install {name}=={pinned}"
            rows.append({"package": name, "pinned": pinned, "installed": found or "-", "state": state, "fix": fix})
    return rows


class UserError(ValueError):
    """A reader's file, folder or parameter that cannot be used; Jupyter shows the message without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def shown(value: object, most: int = 60) -> str:
    """Return a value quoted, for a message; cut in its middle where it is longer than `most` characters.

    Examples
    --------
    >>> shown("a" * 100_000, most=12)
    "'aaaaaaa…aa'"
    """
    with suppress(ValueError):
        text = repr(value)
        return text if len(text) <= most else f"{text[: most * 3 // 4 - 1]}…{text[-(most // 4) :]}"
    return "a number of thousands of digits"


def some(values: Sequence[object], most: int = 6) -> str:
    """Return the first of some values, each as `shown` quotes it, as many as 360 characters hold.

    Examples
    --------
    >>> some(["a", "b", "c"], most=2)
    "'a', 'b', …"
    """
    quoted = [shown(value) for value in values[:most]]
    while len(", ".join(quoted)) > 360:
        quoted.pop()
    return ", ".join(quoted) + (", …" if len(quoted) < len(values) else "")


def first_line(text: object) -> str:
    """Return the first line of an error or a text, or its first 360 characters; empty if there is none.

    Examples
    --------
    >>> first_line(ValueError("no such column\\nand much more"))
    'no such column'
    """
    # NumPy explains at length why it cannot be imported, and names the reason last.
    return (str(text).rpartition("Original error was: ")[2].strip().splitlines() or [""])[0][:360]


TYPES = {"int": int, "float": float, "str": str, "bool": bool}
RESULTS_PATH = "results_path"
"""The parameter that names the JSON file of results."""
DECIMAL = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_INTERVAL = re.compile(rf"in ([\[(])({DECIMAL}), *({DECIMAL})([\])])$")
_CHOICE = re.compile(r"one of (.+)$")


class ParameterError(UserError):
    """A parameter that the notebook does not accept."""


@dataclass(frozen=True)
class Parameter:
    """One line of the tagged cell.

    Attributes
    ----------
    name : str
    type : type
        int, float, str or bool. An int has 64 bits, a float is finite; an int is taken for a float.
    default : int, float, str or bool
    help : str
        The comment: the meaning, and after it ``in [low, high]`` (a round bracket excludes the end) or
        ``one of a, b``. A ``str`` whose name ends in ``_path`` or ``_dir`` must exist if it is not empty, or be
        a file that can be written if it is `RESULTS_PATH` or begins with ``output_``; in these, and in no other,
        ``~`` stands for the home folder.
    """

    name: str
    type: type
    default: Any
    help: str

    @property
    def accepted(self) -> str:
        """What the parameter takes, for a message."""
        found = _INTERVAL.search(self.help) or _CHOICE.search(self.help)
        words = {int: "int of 64 bits", float: "finite float", bool: "bool, true or false"}
        return f"{self.type.__name__} {found.group(0)}" if found else words.get(self.type, "str")

    def check(self, value: Any, *, paths: bool = True) -> Any:
        """Return the value in the declared type, or raise a `ParameterError`; False: do not look for paths."""
        if self.type is float and type(value) is int:
            with suppress(OverflowError):
                value = float(value)
        if type(value) is not self.type or not self._in_range(value):
            takes = f"{self.name:.60} takes {'an' if self.type is int else 'a'} {self.accepted:.200}"
            text = self.type is str and not isinstance(value, str)
            hint = f" (papermill: use -r {self.name:.60} {shown(value)})" if text else ""
            raise ParameterError(f"{takes}; got {shown(value)}{hint}.")
        if paths and value and re.search("^output_|_path$|_dir$", self.name):
            self._check_path(str(value))
        return value

    def _in_range(self, value: Any) -> bool:
        choice = _CHOICE.search(self.help)
        if choice or self.type is str:
            return not choice or str(value) in choice.group(1).split(", ")
        if not (found := _INTERVAL.search(self.help)):
            return math.isfinite(value) if self.type is float else abs(value) < 2**63
        left, low, high, right = found.groups()
        above = value >= float(low) if left == "[" else value > float(low)
        below = value <= float(high) if right == "]" else value < float(high)
        return bool(above and below)

    def _check_path(self, text: str) -> None:
        writes = self.name == RESULTS_PATH or self.name.startswith("output_")
        try:
            path = Path(text).expanduser()
            if not writes:
                path.stat()
            elif path.exists() and not path.is_file():
                raise IsADirectoryError("it is a folder or a device")
            elif self.name == RESULTS_PATH and path.exists() and path.read_bytes()[:1] not in (b"", b"{"):
                raise FileExistsError("it is there, and holds no results")
            else:
                # Found now and not after the last cell, when the results would be lost.
                folder = next(parent for parent in path.absolute().parents if parent.exists())
                tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.name}.").close()
        except (OSError, RuntimeError, ValueError) as error:
            fault = f"nothing is at {shown(text, 200)} (looked in {Path.cwd()})"
            if writes:
                fault = f"{shown(text, 200)} cannot be written: {first_line(error.args[-1]).rstrip('.')}"
            raise ParameterError(f"{self.name}: {fault}.") from None

    def from_text(self, text: str) -> Any:
        """Return the value that was typed on a command line, or raise a `ParameterError`.

        A number is written in the digits 0 to 9, without blanks or underscores.
        """
        value: Any = {"true": True, "false": False}.get(text.lower(), text) if self.type is bool else text
        if self.type in (int, float) and re.fullmatch(DECIMAL, text):
            with suppress(ValueError):
                value = self.type(text)
        return self.check(value)


def read_schema(source: str) -> dict[str, Parameter]:
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
    ParameterError
        A line is anything else: values that are derived would go stale when papermill overrides their origin. Or a
        default is none of its own line's values, or a name stands twice.

    Examples
    --------
    >>> schema = read_schema("threshold: float = 0.5  # cut on the probability, in [0, 1]")
    >>> schema["threshold"].accepted
    'float in [0, 1]'
    """
    schema: dict[str, Parameter] = {}
    for line in source.split("\n"):
        if line.partition("#")[0].strip():
            parameter = _declared(line)
            if parameter.name in schema:
                raise ParameterError(f"{shown(parameter.name)} is declared twice; keep one line.")
            schema[parameter.name] = parameter
    return schema


def _declared(line: str) -> Parameter:
    try:
        with warnings.catch_warnings(action="error"):
            (node,) = cast(Any, ast.parse(line).body)
        comment = line.encode()[node.end_col_offset :].decode().strip().lstrip("# ")
        name, kind, default = node.target.id, TYPES[node.annotation.id], ast.literal_eval(node.value)
    except (SyntaxError, ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError, Warning):
        rule = f"`name: type = literal  # help` in one line, where the type is one of {', '.join(TYPES)}"
        raise ParameterError(f"a parameter is declared as {rule}; got {shown(line)}.") from None
    if re.search(r"in [\[(] *[-+.\d]", comment) and not _INTERVAL.search(comment):
        raise ParameterError(f"a range is written `in [low, high]`, and ends the comment; got {shown(comment)}.")
    return Parameter(name, kind, Parameter(name, kind, default, comment).check(default, paths=False), comment)


def _schema_of(path: Path) -> dict[str, Parameter]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        return read_schema(tagged[0])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = str(error) if isinstance(error, ParameterError) else "it is damaged, or has no cell tagged 'parameters'."
        raise ParameterError(f"{path.name} is no notebook with parameters: {why}") from None


def check_parameters(notebook: str | os.PathLike[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Check values against a notebook's parameter schema; no kernel is needed.

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
    >>> check_parameters(ROOT / "notebooks" / "10_binary_inference.ipynb", {"treshold": 0.7})
    Traceback (most recent call last):
    helpers.notebook.ParameterError: there is no parameter 'treshold'; did you mean 'threshold'?
    """
    schema = _schema_of(Path(notebook))
    _refuse_unknown(values, schema)
    return {n: schema[n].from_text(v) if isinstance(v, str) else schema[n].check(v) for n, v in values.items()}


def _refuse_unknown(given: Iterable[str], schema: Mapping[str, Parameter]) -> None:
    for name in given:
        if name not in schema:
            near = difflib.get_close_matches(name, schema, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {some(list(schema), most=20)}."
            raise ParameterError(f"there is no parameter {shown(name)}; {hint}")


def setup(namespace: Mapping[str, Any], *, exact: bool = True) -> None:
    """Check a notebook's parameters, and set what TensorFlow reads when it is imported.

    Parameters
    ----------
    namespace : mapping
        ``globals()`` of the notebook. The schema is read from IPython's history of executed cells, ``In``: it needs
        no file, works for a copy of the notebook too, and also sees the cell that papermill injects. nbval keeps no
        history; there the values are the stored ones, and nothing is checked.
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
    os.environ.update({**ENVIRONMENT, **os.environ})
    # A filter, for TensorFlow sets the level of its log when it is imported.
    logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.ERROR)
    _validate(namespace)
    if not exact:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
        # oneDNN announces itself whatever the level of the log is, and C libraries know nothing of Python's sys.stderr.
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(kept, 2)
            for handle in (kept, nowhere):
                os.close(handle)


def _validate(namespace: Mapping[str, Any]) -> None:
    executed = [source for source in namespace.get("In", []) if source.strip()]
    declared = [source for source in executed if re.match(r"(?:\s*#.*\n)*\s*\w+ *: *\w+ *=", source)]
    if executed and not declared:
        raise RuntimeError("run the cell with the parameters first: it is the first one with code.")
    schema = read_schema(declared[-1]) if declared else {}
    for source in executed:
        if source.startswith("# Parameters\n"):
            _refuse_unknown(map(_injected, ast.parse(source).body), schema)
    for name, parameter in schema.items():
        parameter.check(namespace[name])


def _injected(line: Any) -> str:
    """Return the name that a line of papermill's cell sets; the whole line if its name brought code along."""
    with suppress(AttributeError, TypeError, ValueError):
        ast.literal_eval(re.sub(r"float\('-?(nan|inf)'\)", "0", ast.unparse(line.value)))
        return ast.unparse(line) if line.col_offset or line.targets[1:] else str(line.targets[0].id)
    return ast.unparse(line)


def progress(items: Iterable[Any], noun: str) -> Iterator[Any]:
    """Yield items, and print a line after each, or after each tenth of many: for a cell that takes over 10 seconds.

    The gap: a bar redraws itself, and what is stored of it differs from run to run.

    Examples
    --------
    >>> [n * n for n in progress(range(2), "square")]
    square 1 of 2
    square 2 of 2
    [0, 1]
    """
    for number, item in enumerate(items := list(items), start=1):
        yield item
        if number % math.ceil(len(items) / 10) == 0 or number == len(items):
            print(f"{noun} {number} of {len(items)}", flush=True)


# Of each exercise of this kernel, by the text of its answer: why it is open, if it is, and where it was checked last.
_exercises: dict[str, tuple[str, str]] = {}
# What each exercise of a student's copy asks, by its heading.
_asked: dict[str, str] = {}


def check(answer: Any, right: Callable[[Any], Any], *, wrong: Callable[[Any], str] | None = None) -> None:
    """Print whether the answer of an exercise is right, and what came out if it is not.

    The gap: an ``assert`` stops *Run All* at the first exercise that is not done, and says nothing of what came out.
    Whatever the answer is, this prints one line and raises nothing.

    Parameters
    ----------
    answer : object
        What the reader set; ``...``, or a tuple or list with ``...`` in it, is not set yet. It is named as the call
        names it.
    right : callable
        Takes the answer, returns whether it is right. Of an array, a table or a tensor every element must be true,
        and there must be one.
    wrong : callable, optional
        Takes an answer that is not right, returns a sentence on what came out; without it, the answer is shown.

    See Also
    --------
    open_exercises : what is still to do.

    Examples
    --------
    >>> calls = 40
    >>> check(calls, lambda k: k == 80, wrong=lambda k: f"{k} calls reach 30 % of the ill patients")
    `calls` is not right yet: 40 calls reach 30 % of the ill patients.
    """
    caller = sys._getframe(1)
    name, reason, where = _first_argument(caller), _why_open(answer, right, wrong), caller.f_code.co_filename
    _exercises[name] = reason, where
    print(f"{name} is {reason or 'right'}.")
    if reason.startswith("not right") and _asked.get(where):
        print(f"Asked: {_asked[where]}")


def run_check(heading: str, asked: str, packed: str) -> None:
    """Run the check of a student's copy: as text it would tell the answer, so `tools/lab.py` packs it.

    Parameters
    ----------
    heading : str
        Of the exercise; `open_exercises` links to it.
    asked : str
        What the exercise asks, to be printed beside an answer that is not right.
    packed : str
        The cell's source, compressed by zlib, as hexadecimal digits.

    Raises
    ------
    UserError
        The cell failed, without a traceback, which would show its source.

    Examples
    --------
    >>> packed = zlib.compress(b"check(6 * 8, lambda n: n == 42)").hex()
    >>> run_check("Your turn", "What is six times seven?", packed)
    `6 * 8` is not right yet: you gave 48.
    Asked: What is six times seven?
    """
    source = zlib.decompress(bytes.fromhex(packed)).decode()
    # Named like a file, the source tells `check` how the answer is called.
    linecache.cache[heading] = len(source), None, source.splitlines(keepends=True), heading
    _asked[heading] = asked
    try:
        exec(compile(source, heading, "exec"), sys._getframe(1).f_globals)
    except Exception as error:
        raise UserError(f"the check cannot run ({error!r:.200}); run the cells above it first.") from None


def _first_argument(caller: Any) -> str:
    """Return how the call that is under way in a frame names its first argument."""
    # Everything here depends on source that may be missing, as in an embedded interpreter.
    with suppress(Exception):
        from executing import Source

        return f"`{ast.unparse(cast(Any, Source.executing(caller)).node.args[0])}`"
    return "the answer"


def _why_open(answer: Any, right: Callable[[Any], Any], wrong: Callable[[Any], str] | None) -> str:
    """Return why an exercise is open; nothing if it is done."""
    if any(part is ... for part in (answer if isinstance(answer, (tuple, list)) else [answer])):
        return "not set yet: replace the dots above"
    try:
        import numpy as np

        holds = np.asarray(right(answer))
        if holds.size and bool(holds.all()):
            return ""
        told = str(wrong(answer) if wrong else "")
    except Exception as error:
        told = f"you gave {_described(answer)} ({type(error).__name__}: {first_line(error).rstrip('.')})"
    return f"not right yet: {told.rstrip('.') or f'you gave {_described(answer)}'}"


def _described(answer: Any) -> str:
    # Not every object can be shown, and what is no array may call anything its shape.
    with suppress(Exception):
        value = answer.item() if type(answer).__module__ == "numpy" and not answer.shape else answer
        shape = getattr(value, "shape", ())
        return f"{type(value).__name__} of shape {tuple(shape)}" if len(shape) else first_line(shown(value))
    return f"an object of type {type(answer).__name__}"


def open_exercises() -> None:
    """Print which of the exercises that `check` saw are open; for the last cell of a lesson.

    In a student's copy the page shows why each one is open, with a link that leads there.

    Examples
    --------
    >>> _exercises.clear()
    >>> open_exercises()
    No exercise is checked yet: run the checks.
    """
    left, total = {name: found for name, found in _exercises.items() if found[0]}, len(_exercises)
    text = f"{total} of {total} exercises are done." if total else "No exercise is checked yet: run the checks."
    if left:
        text = f"{len(left)} of {total} exercises {'is' if len(left) == 1 else 'are'} open: {', '.join(left)}."
    rows = [(at.replace(" ", "-"), at, name, reason) for name, (reason, at) in left.items() if at in _asked]
    if not rows:
        print(text)
        return
    from IPython.display import display

    lines = ['<li><a href="#{}">{}</a>: {} is {}.</li>'.format(*map(html.escape, row)) for row in rows]
    display({"text/plain": text, "text/html": f"{html.escape(text)}<ul>{''.join(lines)}</ul>"}, raw=True)


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


def write_results(results: Mapping[str, float | int | str | bool], results_path: str = "") -> None:
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
    >>> write_results({"auc": 0.9962, "rows": 171})
    auc   0.9962
    rows  171
    """
    plain = plain_values(results)
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        print(f"{name:{width}}  {value}")
    if results_path:
        write_text(Path(results_path).expanduser(), json.dumps(plain, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: under a temporary name beside it, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
