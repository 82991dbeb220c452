"""Sweeps: run one notebook over a grid of parameters, in parallel, and put all its headline numbers into one table.

    python tools/sweep.py 20 -g cost_fn 10,20,40,80 -g seed 0:5     (`make sweep NOTEBOOK=20 ARGS="-g …"`)
    python tools/sweep.py my.ipynb -g rate 0.1,0.2 -p rows 500 --engine ray --resume

The gap: papermill runs one notebook; sweeps have been asked of it since 2017. A pool of processes loses every run when
one process is killed, and a loop in a shell takes any parameter, mixes old results with new ones, and starts afresh
after an interruption. Here the whole grid is checked before anything starts, each run has a folder and is whole or
missing, whatever is killed costs its own run only, and ``--resume`` runs what is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import importlib.util
import io
import itertools
import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from helpers.notebook import (
    ENVIRONMENT,
    RESULTS_PATH,
    ROOT,
    ParameterError,
    UserError,
    check_parameters,
    first_line,
    read_schema,
    shown,
    some,
    write_text,
)
from helpers.scale import ray_cluster
from tools.run import _claimed, _kill_children, at_once, notebooks, run_notebook

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

MOST_RUNS = 10_000
"""A grid that is larger is a slip of the keyboard more often than a plan."""
ENGINES = {"joblib": "joblib", "dask": "dask.distributed", "ray": "ray"}
"""What runs in parallel, and the package that it needs."""
# Sums are split by threads: with one, a run gives the same bits on every engine and machine.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
KILLED = "the process that ran it was killed, perhaps for its memory"
RANGE = re.compile(r"(-?\d{1,18}):(-?\d{1,18})(?::(-?\d{1,18}))?")
Submit = Callable[..., "Future[dict[str, Any]]"]
OnRun = Callable[[int, int, dict[str, Any]], None]
"""Called with the number of runs that are done, the number of runs, and the last one's row; first without a row."""


@dataclass
class _Sweep:
    """A grid over a notebook: its runs, and the folder in which they lie."""

    notebook: Path
    folder: Path
    code: str
    fixed: dict[str, Any]
    grid: dict[str, list[Any]]

    @cached_property
    def runs(self) -> dict[str, dict[str, Any]]:
        """The values of each run by the name of its folder."""
        every = (dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values()))
        return {_folder_name(values): values for values in every}

    @property
    def copy(self) -> Path:
        """What is run: the notebook may be edited meanwhile."""
        return self.folder / self.notebook.name


def sweep(
    notebook: str | os.PathLike[str],
    grid: Mapping[str, Any],
    *,
    parameters: Mapping[str, Any] | None = None,
    output_dir: str | os.PathLike[str] = "build/sweeps",
    engine: str = "joblib",
    workers: int | None = None,
    address: str = "",
    resume: bool = False,
    on_run: OnRun = lambda done, total, row: None,
) -> DataFrame:
    """Run a notebook once for each combination of parameters, several at a time.

    Parameters
    ----------
    notebook : path-like
        A notebook's file with a cell tagged ``parameters``, or the start of a name in the project, as ``20``.
    grid : mapping of str to sequence or str
        The values of each parameter. Text is read as on the command line: ``10,20``, ``0:5`` for 0 to 4, ``0:10:2``;
        text that holds a comma is quoted as in CSV.
    parameters : mapping, optional
        What is the same in every run, as in `helpers.notebook.check_parameters`.
    output_dir : path-like
        Its folder ``<notebook>`` receives a folder for each run, with the executed notebook, its JSON, its log and
        ``run.json``, and of all runs ``headlines.parquet``, ``headlines.md`` and ``headlines.png``.
    engine : {'joblib', 'dask', 'ray'}
        joblib: processes of this machine. dask and ray: the same, or a cluster. The results are the same to the bit.
    workers : int, optional
        How many runs at a time; as many as there are processors and memory when left out, or as the cluster takes.
    address : str
        Of a running cluster whose machines find the project and `output_dir` under the same paths as this one.
    resume : bool
        Run only what is missing or failed; the grid may have grown. Without it, a folder with runs is refused. So is
        with it one whose runs had other code or other fixed parameters: they are neither mixed nor overwritten.
    on_run : callable
        Called with the number of runs done, the number of runs and the row of the last one; before the first run
        with an empty row.

    Returns
    -------
    pandas.DataFrame
        A row for each run, in the order of the grid: its values, its headline results (``<name>_result`` where a
        column has the name), ``seconds`` and ``error``, empty if the run came to its end.

    Raises
    ------
    UserError
        Before anything starts: a parameter, the folder, the engine or the address is not accepted.
    KeyboardInterrupt
        After the tables of what is finished were written.
    """
    plan = _plan(_found(notebook), grid, parameters or {}, Path(output_dir).expanduser().resolve())
    _require(engine, workers, address)
    with _claimed([plan.folder / "headlines"]):
        rows = _kept(plan, resume)
        try:
            if todo := [name for name in plan.runs if name not in rows]:
                limit = workers or (len(todo) if address else at_once(len(todo)))
                with POOLS[engine](limit, address) as submit:
                    if plan.copy != plan.notebook:
                        write_text(plan.copy, plan.notebook.read_text(encoding="utf-8"))
                    _run_all(plan, todo, submit, limit, 0 if address else os.getpid(), rows, on_run)
        except KeyboardInterrupt:
            _write_tables(plan, rows)
            raise
        return _write_tables(plan, rows)


def _found(notebook: str | os.PathLike[str]) -> Path:
    """Return the file that is meant by a path or by the start of a name."""
    path = Path(notebook).expanduser()
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    found = notebooks(os.fspath(notebook)) if path.suffix != ".ipynb" else []
    if len(found) != 1:
        names = f"{len(found)} notebooks: {some([one.stem for one in found])}" if found else "no file"
        raise UserError(f"a sweep runs one notebook; {shown(os.fspath(notebook), 200)} is {names}.")
    return found[0]


def _plan(notebook: Path, grid: Mapping[str, Any], parameters: Mapping[str, Any], folder: Path) -> _Sweep:
    """Check every value; nothing is written."""
    for name in (*grid, *parameters):
        if name == RESULTS_PATH or name.startswith("output_"):
            raise UserError(f"{name}: the runs of a sweep would overwrite each other's file; leave it out.")
        if name in grid and name in parameters:
            raise UserError(f"{name} is in the grid and fixed by -p; leave one out.")
    fixed = check_parameters(notebook, parameters)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [
        (cell["metadata"].get("tags", []), "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"
    ]
    schema = read_schema(next(source for tags, source in code if "parameters" in tags))
    checked: dict[str, list[Any]] = {}
    for name, given in grid.items():
        # The same sentence about an unknown name as everywhere.
        check_parameters(notebook, {name: schema[name].default} if name in schema else {name: ""})
        checked[name] = _values(name, given, schema[name])
    total = math.prod(map(len, checked.values()))
    if not checked:
        raise UserError("the grid is empty; name a parameter and its values: -g seed 0:5.")
    if total > MOST_RUNS:
        raise UserError(
            f"the grid has more than the {MOST_RUNS:,} runs that a sweep takes; leave values out, or split it."
        )
    digest = hashlib.sha256(json.dumps([source for _, source in code]).encode()).hexdigest()
    return _Sweep(notebook, folder / notebook.stem, digest, fixed, checked)


def _values(name: str, given: Any, parameter: Any) -> list[Any]:
    """Return the values of one parameter in its type."""
    if isinstance(given, str):
        values = [value for text in _split(name, given) for value in _typed(text, parameter)]
    else:
        try:
            plain = [
                value.item() if getattr(value, "shape", None) == () else value
                for value in itertools.islice(given, MOST_RUNS + 1)
            ]
        except TypeError:
            raise UserError(f"{name}: a grid takes a list of values, or text as '0:5'; got {shown(given)}.") from None
        values = [parameter.from_text(value) if isinstance(value, str) else parameter.check(value) for value in plain]
    if not values:
        raise UserError(f"{name} has no values in {shown(given)}; leave it out, or give it one.")
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise UserError(f"{name} holds {shown(value)} twice; each run has values of its own.")
        seen.add(value)
    return values


def _split(name: str, text: str) -> list[str]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)) or [[""]]
    except csv.Error as error:
        raise UserError(f"{name}: {shown(text)} is not quoted as in CSV ({error}).") from None
    if len(rows) > 1:
        raise UserError(f"{name}: values are parted by commas on one line; got {shown(text)}.")
    return rows[0] or [""]


def _typed(text: str, parameter: Any) -> Iterator[Any]:
    """Yield the value that a text is, or those of a range: for a parameter that takes text, ``10:30`` is text."""
    try:
        yield parameter.from_text(text)
    except ParameterError:
        if not (found := RANGE.fullmatch(text)):
            raise
        start, stop, step = (int(number) for number in (*found.groups()[:2], found.group(3) or 1))
        numbers = range(start, stop, step) if step else range(0)
        if not numbers:
            raise UserError(
                f"{parameter.name}: the range {shown(text)} is empty; 0:5 is 0 to 4, 0:10:2 is 0 to 8."
            ) from None
        # One more than a sweep takes is enough to be refused.
        yield from (parameter.from_text(str(number)) for number in numbers[: MOST_RUNS + 1])


def _require(engine: str, workers: int | None, address: str) -> None:
    if engine not in ENGINES:
        raise UserError(f"engine is one of {', '.join(ENGINES)}; got {shown(engine)}.")
    if engine == "joblib" and address:
        raise UserError("joblib runs on this machine only; an address needs the engine dask or ray.")
    if workers is not None and (type(workers) is not int or workers < 1):
        raise UserError(f"workers is a whole number of 1 or more; got {shown(workers)}.")
    if importlib.util.find_spec(ENGINES[engine].partition(".")[0]) is None:
        raise UserError(f"the engine {engine} needs a package that is not here; `make scale` installs it.")


def _folder_name(values: Mapping[str, Any]) -> str:
    """Return a name that can be read and is one's own, whatever the values are and in whatever order."""
    ordered = {name: values[name] for name in sorted(values)}
    words = ",".join(f"{name[:20]}={str(value)[-20:]}" for name, value in ordered.items())
    digest = hashlib.sha256(json.dumps(ordered).encode()).hexdigest()
    return f"{re.sub('[^A-Za-z0-9.,=+-]', '_', words)[:80]}-{digest[:10]}"


def _record(folder: Path) -> dict[str, Any]:
    """Return what ``run.json`` holds; nothing if it is missing or damaged."""
    with suppress(OSError, ValueError):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if isinstance(record, dict) and {"values", "fixed", "code_sha256", "results", "error"} <= set(record):
            return record
    return {}


def _kept(plan: _Sweep, resume: bool) -> dict[str, dict[str, Any]]:
    """Return the records of runs that stay, or refuse a folder whose runs would be mixed with others."""
    there = {file.parent.name: _record(file.parent) for file in plan.folder.glob("*/run.json")}
    if there and not resume:
        remedy = "--resume (resume=True) runs what is missing, -o (output_dir) names another folder"
        raise UserError(f"{shown(str(plan.folder), 200)} holds {len(there)} runs already: {remedy}.")
    good = {name: record for name, record in there.items() if record and not record["error"]}
    for record in good.values():
        kind = "with other code" if record["code_sha256"] != plan.code else ""
        kind = kind or (
            f"with {_told(record['fixed']) or 'no fixed parameters'}" if record["fixed"] != plan.fixed else ""
        )
        kind = kind or (f"over {', '.join(record['values'])}" if set(record["values"]) != set(plan.grid) else "")
        if kind:
            copy = f"; the code that they ran is {plan.copy.name} there" if "code" in kind else ""
            remedy = f"name another folder with -o (output_dir){copy}"
            raise UserError(f"{shown(str(plan.folder), 200)} holds runs {kind}, which must not be mixed: {remedy}.")
    return {name: good[name] for name in plan.runs if name in good and (plan.folder / name / plan.copy.name).exists()}


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {shown(value, 30)}" for name, value in values.items())


def _run_all(
    plan: _Sweep,
    todo: Sequence[str],
    submit: Submit,
    limit: int,
    driver: int,
    rows: dict[str, dict[str, Any]],
    on_run: OnRun,
) -> None:
    """Run what is to do, at most `limit` at a time, and put the records into `rows`."""
    every, waiting = plan.runs, deque(todo)
    running: dict[Future[dict[str, Any]], str] = {}
    environment = {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()} | THREADS
    on_run(len(rows), len(every), {})
    while waiting or running:
        while waiting and len(running) < limit:
            name = waiting.popleft()
            task = {"values": every[name], "fixed": plan.fixed, "code_sha256": plan.code}
            where = {"cwd": str(Path.cwd()), "environment": environment, "driver": driver}
            running[submit(str(ROOT), "run_one", str(plan.copy), str(plan.folder / name), task, where)] = name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            record = rows[name] = _outcome(plan, name, future)
            on_run(len(rows), len(every), {**every[name], "seconds": record["seconds"], "error": record["error"]})


def _outcome(plan: _Sweep, name: str, future: Future[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of a run that ended; that of one which failed is written here."""
    folder = plan.folder / name
    try:
        record = future.result()
        if not record["error"] and not _record(folder):
            record["error"] = f"it ran, but not into {folder}: a cluster needs a disk that all its machines share"
    except Exception as error:
        lost = isinstance(error, BrokenProcessPool) or type(error).__name__ in ("KilledWorker", "WorkerCrashedError")
        # Ray wraps what a run raised into its whole traceback.
        cause = getattr(error, "cause", None) or error
        reason = KILLED if lost else f"{type(cause).__name__}: {first_line(cause)}"
        record = {"values": plan.runs[name], "fixed": plan.fixed, "code_sha256": plan.code, "seconds": 0.0}
        record |= {"results": {}, "error": reason}
    if record["error"]:
        write_text(folder / "run.json", json.dumps(record, indent=2) + "\n")
    return record


def _elsewhere(root: str, name: str, *arguments: Any) -> Any:
    """Call a function of this module in a worker, which may know nothing of the project."""
    import sys

    if root not in sys.path:
        sys.path.insert(0, root)
    from tools import sweep

    return getattr(sweep, name)(*arguments)


# It travels as a text, not by the name of a module that a worker has yet to find.
_elsewhere.__module__ = "__main__"
_alone = threading.Lock()
_watching = threading.Event()


def begin(driver: int) -> None:
    """Prepare a worker on this machine: an interrupt in the terminal is the driver's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(driver)


def watch(driver: int) -> None:
    """Have this worker end with the process of this number."""
    if not _watching.is_set():
        _watching.set()
        threading.Thread(target=_end_with, args=(psutil.Process(driver),), daemon=True).start()


def run_one(notebook: str, folder: str, task: dict[str, Any], where: dict[str, Any]) -> dict[str, Any]:
    """Run a notebook in this worker; the record of a run that came to its end is written last.

    Parameters
    ----------
    notebook, folder : str
    task : dict
        ``values`` and ``fixed`` parameters, and ``code_sha256``, which only goes into the record.
    where : dict
        ``cwd``, ``environment``, and ``driver``: the process with which this one ends; 0 for none.

    Returns
    -------
    dict
        ``values``, ``fixed``, ``code_sha256``, ``seconds``, ``peak_mb``, ``results`` and ``error``.
    """
    if where["driver"]:
        watch(where["driver"])
    # Working directory and environment belong to the process: a Dask worker may have several threads.
    with _alone, _surroundings(where, Path(folder)):
        run = run_notebook(notebook, folder, {**task["fixed"], **task["values"]}, notes=False)
    if not isinstance(run.results, dict):
        run.results, run.error = {}, run.error or f"its results are no JSON object, but a {type(run.results).__name__}"
    record = {**task, "seconds": round(run.seconds, 3), "peak_mb": round(run.peak_mb), "results": run.results}
    record["error"] = run.error
    if not run.error:
        write_text(Path(folder) / "run.json", json.dumps(record, indent=2) + "\n")
    return record


@contextmanager
def _surroundings(where: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Give the kernel the driver's working directory and environment, and its standard error a file."""
    before, stderr = dict(os.environ), os.dup(2)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        os.environ.update(where["environment"])
        with contextlib.chdir(where["cwd"]), (folder / "run.log").open("w") as log:
            os.dup2(log.fileno(), 2)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.environ.clear()
        os.environ.update(before)


def _end_with(driver: psutil.Process) -> None:
    """End this worker and its kernel as soon as the driver is gone, even if it was killed."""
    with suppress(psutil.Error):
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
    _kill_children()
    os._exit(1)


@contextmanager
def _loky(workers: int, address: str) -> Iterator[Submit]:
    """Processes of this machine, each in a pool of its own: a pool ends as a whole when one process is killed."""
    from joblib.externals.loky import ProcessPoolExecutor

    mine, pools = threading.local(), []

    def run(*task: Any) -> dict[str, Any]:
        if getattr(mine, "pool", None) is None:
            # A worker that gets no task before this process is killed has to end, too.
            mine.pool = ProcessPoolExecutor(1, initializer=_elsewhere, initargs=(str(ROOT), "begin", os.getpid()))
            pools.append(mine.pool)
        try:
            return mine.pool.submit(_elsewhere, *task).result()
        except BrokenProcessPool:
            mine.pool = None
            raise

    threads = ThreadPoolExecutor(workers)
    try:
        yield partial(threads.submit, run)
    finally:
        for pool in pools:
            pool.shutdown(kill_workers=True)
        threads.shutdown(cancel_futures=True)


@contextmanager
def _dask(workers: int, address: str) -> Iterator[Submit]:
    import dask
    from dask.distributed import Client, LocalCluster

    # A run whose worker was killed is told; Dask would try it three times more.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), contextlib.ExitStack() as stack:
        options: dict[str, Any] = {
            "n_workers": workers,
            "threads_per_worker": 1,
            "dashboard_address": None,
            "scheduler_kwargs": {"dashboard": False},
        }
        if not address:
            # An interrupt in a terminal reaches workers, too; they leave it to this process.
            with _signals(signal.SIGINT, signal.SIG_IGN):
                cluster = stack.enter_context(LocalCluster(**options, memory_limit=0, silence_logs=50))
        try:
            client = stack.enter_context(Client(address or cluster, timeout=10))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"no Dask scheduler answers at {shown(address)}: {first_line(error)}.") from None
        try:
            yield partial(client.get_executor(pure=False, retries=0).submit, _elsewhere)
        except BaseException:
            # The cluster would wait for runs that nobody needs any more.
            for nanny in [] if address else cluster.workers.values():
                _kill_children(nanny.pid)
            raise


@contextmanager
def _signals(number: int, handler: Any = None) -> Iterator[None]:
    """Handle a signal in another way while the block runs, and as before after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(number)
    try:
        signal.signal(number, before if handler is None else handler)
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def _ray(workers: int, address: str) -> Iterator[Submit]:
    with contextlib.ExitStack() as stack:
        # Ray takes SIGTERM for itself, and would end this process without its tables.
        with _signals(signal.SIGTERM):
            ray = stack.enter_context(ray_cluster(address, workers))
        # A run whose worker was killed is told, not tried again by Ray.
        remote = ray.remote(num_cpus=1, max_retries=0)(_elsewhere)
        running: dict[Future[Any], Any] = {}

        def submit(*task: Any) -> Future[Any]:
            reference = remote.remote(*task)
            future = reference.future()
            running[future] = reference
            future.add_done_callback(running.pop)
            return future

        try:
            yield submit
        finally:
            for reference in list(running.values()):
                ray.cancel(reference, force=True)


POOLS = {"joblib": _loky, "dask": _dask, "ray": _ray}


def _frame(plan: _Sweep, rows: Mapping[str, dict[str, Any]]) -> DataFrame:
    """Return a row for each run of the grid."""
    import pandas as pd

    every = plan.runs
    records = [rows.get(name, {"results": {}, "seconds": 0.0, "error": "not run yet"}) for name in every]
    frame = pd.DataFrame(list(every.values()))
    for result in dict.fromkeys(name for record in records for name in record["results"]):
        column = result
        while column in frame or column in ("seconds", "error"):
            column += "_result"
        frame[column] = _column([record["results"].get(result) for record in records])
    frame["seconds"] = [float(record["seconds"]) for record in records]
    frame["error"] = [record["error"] for record in records]
    return frame


def _column(values: list[Any]) -> Series:
    """Return results as a column of one type, which Parquet asks for; runs without one are missing in it."""
    import pandas as pd

    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return pd.Series(values, dtype="boolean")
    if types == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pd.Series(values, dtype="Int64")
    if types and types <= {int, float}:
        return pd.Series([math.nan if value is None else float(value) for value in values], dtype="float64")
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pd.Series(texts)


def _write_tables(plan: _Sweep, rows: Mapping[str, dict[str, Any]]) -> DataFrame:
    """Write the headlines of all runs, and return them."""
    frame = _frame(plan, rows)
    draft = plan.folder / f".headlines.parquet.{os.getpid()}"
    frame.to_parquet(draft)
    draft.replace(plan.folder / "headlines.parquet")
    figure, description = _figure(plan, frame)
    draft = draft.with_name(f".headlines.png.{os.getpid()}")
    figure.savefig(draft, format="png", dpi=150)
    draft.replace(plan.folder / "headlines.png")
    write_text(plan.folder / "headlines.md", _markdown(plan, frame, description))
    return frame


def _markdown(plan: _Sweep, frame: DataFrame, description: str) -> str:
    """Return the table of all runs, each with a link to its notebook."""
    rows = [["run", *map(str, frame.columns)], ["---"] * (len(frame.columns) + 1)]
    for name, row in zip(plan.runs, frame.itertuples(index=False), strict=True):
        file = next(iter(sorted((plan.folder / name).glob("*.ipynb"))), None)
        number = str(len(rows) - 1)
        link = f"[{number}](<{name}/{file.name}>)" if file else number
        rows.append([link, *("" if value is None or value != value else str(value) for value in map(_plain, row))])
    lines = ["| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", r"\|") for cell in row) + " |" for row in rows]
    ended = int((frame["error"] == "").sum())
    fixed = f", with {_told(plan.fixed)}" if plan.fixed else ""
    head = f"# {plan.notebook.stem}: {ended} of {len(frame)} runs came to their end{fixed}"
    return "\n".join([head, "", f"![{description}](headlines.png)", "", *lines, ""])


def _plain(value: Any) -> Any:
    """Return None for pandas' own missing value, which cannot be compared."""
    return None if type(value).__name__ == "NAType" else value


def _figure(plan: _Sweep, frame: DataFrame) -> tuple[Figure, str]:
    """Draw the headline over the grid: lines, a heat map where colours would be too many; return also what is seen."""
    from matplotlib.figure import Figure

    from helpers.plots import COLOURS

    results = [name for name in frame.columns if name not in (*plan.grid, "seconds", "error")]
    headline = results[0] if results else "seconds"
    free = [name for name, values in plan.grid.items() if len(values) > 1] or list(plan.grid)[:1]
    # The parameter that makes the best axis is one of numbers.
    free.sort(key=lambda name: type(plan.grid[name][0]) not in (int, float))
    across, colour, rest = free[0], next(iter(free[1:]), ""), free[2:]
    y, levels = _numbers(frame[headline].where(frame["error"] == ""))
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    x = _axis(axes, plan.grid[across], across)
    failed = frame["error"] != ""
    groups = plan.grid[colour] if colour else [None]
    if len(groups) > len(COLOURS):
        _heat_map(figure, axes, plan, (across, colour, headline), y, levels)
    else:
        for group, paint in zip(groups, COLOURS, strict=False):
            mine = frame[colour] == group if colour else failed | ~failed
            label = f"{colour} = {shown(group, 20)}" if colour else None
            at = frame.loc[mine, across].map(x)
            axes.plot(at, y[mine], "o", color=paint, alpha=0.4 if rest else 1, label=None if rest else label)
            mean = y[mine].groupby(at).mean().dropna()
            if type(plan.grid[across][0]) in (int, float) or rest:
                axes.plot(mean.index, mean, "-", color=paint, label=label if rest else None)
        axes.set_ylabel(headline)
        if levels:
            axes.set_yticks(range(len(levels)), [shown(level, 24).strip("'") for level in levels])
        if failed.any():
            at = frame.loc[failed, across].map(x)
            bottom = axes.get_xaxis_transform()
            axes.plot(at, [0.02] * len(at), "x", color="black", transform=bottom, label=f"no result ({len(at)} runs)")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=9)
    over = " and ".join(filter(None, (across, colour)))
    mean_of = f"; lines and cells: mean over {', '.join(rest)}" if rest else ""
    axes.set_title(f"{plan.notebook.stem}: {headline} over {over}{mean_of}", fontsize=11, wrap=True)
    seen = f"from {y.min():g} to {y.max():g}" if y.notna().any() and not levels else f"{len(levels)} different values"
    none = f"{int(failed.sum())} of {len(frame)} runs have no result."
    told = f"{headline} of {plan.notebook.stem} over {over}: {seen}; {none}"
    return figure, re.sub(r"[\[\]]", "", told)


def _numbers(column: Series) -> tuple[Series, list[Any]]:
    """Return a column as numbers; of text, or of true and false, the places in the list of what there is."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.astype("float64"), []
    levels = sorted(column.dropna().unique().tolist())
    return column.map({level: place for place, level in enumerate(levels)}).astype("float64"), levels


def _axis(axes: Any, values: list[Any], name: str, which: str = "x") -> dict[Any, float]:
    """Label an axis, and return the place of each value on it."""
    getattr(axes, f"set_{which}label")(name)
    if type(values[0]) in (int, float) and which == "x":
        if min(values) > 0 and max(values) >= 50 * min(values):
            axes.set_xscale("log")
        return {value: float(value) for value in values}
    return _places(axes, values, which)


def _places(axes: Any, values: list[Any], which: str) -> dict[Any, float]:
    """Give values places at equal distances; of many, some are labelled."""
    shown_ones = range(0, len(values), math.ceil(len(values) / 20))
    labels = [
        f"{values[place]:g}" if type(values[place]) is float else str(values[place])[-24:] for place in shown_ones
    ]
    turned = {"rotation": 30, "ha": "right"} if which == "x" and max(map(len, labels)) * len(labels) > 80 else {}
    getattr(axes, f"set_{which}ticks")(list(shown_ones), labels, **turned)
    return {value: float(place) for place, value in enumerate(values)}


def _heat_map(
    figure: Figure, axes: Any, plan: _Sweep, names: tuple[str, str, str], y: Series, levels: list[Any]
) -> None:
    import numpy as np

    across, colour, headline = names
    axes.set_xscale("linear")
    x, rows = _places(axes, plan.grid[across], "x"), _places(axes, plan.grid[colour], "y")
    axes.set_ylabel(colour)
    found: dict[tuple[int, int], list[float]] = {}
    for values, number in zip(plan.runs.values(), y, strict=True):
        found.setdefault((int(rows[values[colour]]), int(x[values[across]])), []).append(number)
    cells = np.full((len(rows), len(x)), np.nan)
    for place, numbers in found.items():
        good = [number for number in numbers if number == number]
        cells[place] = np.mean(good) if good else np.nan
    drawn = axes.imshow(cells, aspect="auto", origin="lower", cmap="viridis", interpolation="nearest")
    bar = figure.colorbar(drawn, label=headline)
    if levels:
        bar.set_ticks(range(len(levels)), labels=[str(level)[:24] for level in levels])
    missing = np.argwhere(np.isnan(cells))
    axes.plot(missing[:, 1], missing[:, 0], "x", color="black", label="no result")
    if len(missing):
        axes.legend(fontsize=9, loc="upper right")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 only if every run came to its end."""
    parser = argparse.ArgumentParser(prog="python tools/sweep.py", description="Run a notebook over a grid.")
    parser.add_argument("notebook", nargs="?", default="", help="the start of a name, as 20, or the path of your own")
    two: dict[str, Any] = {"nargs": 2, "action": "append", "default": []}
    parser.add_argument("-g", **two, metavar=("NAME", "VALUES"), help="10,20,40 or 0:5, which is 0 to 4; repeat it")
    parser.add_argument("-p", **two, metavar=("NAME", "VALUE"), help="a parameter that is the same in every run")
    parser.add_argument("-o", "--output-dir", type=Path, default=Path("build/sweeps"), help="default: %(default)s")
    parser.add_argument("--engine", default="joblib", help=f"one of {', '.join(ENGINES)}; default: %(default)s")
    parser.add_argument("--address", default="", help="of a running cluster of Dask or Ray")
    parser.add_argument("--workers", type=int, help="runs at a time; default: as many as processors and memory take")
    parser.add_argument("--resume", action="store_true", help="run only what is missing or failed")
    # Values such as -1,0,1 and -5:5 are no options.
    parser._negative_number_matcher = re.compile(r"-[.\d]")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = _Told(console)
    try:
        with progress.bar:
            frame = sweep(
                options.notebook,
                _once("-g", options.g),
                parameters=_once("-p", options.p),
                output_dir=options.output_dir,
                engine=options.engine,
                workers=options.workers,
                address=options.address,
                resume=options.resume,
                on_run=progress,
            )
    except (OSError, ValueError) as error:
        console.print(f"[red]Nothing was run:[/] {escape(f'{error!s:.600}')}", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("[red]Interrupted:[/] what is finished is kept; --resume runs the rest.", soft_wrap=True)
        return 130
    failed = frame[frame["error"] != ""]
    for _, row in failed.head(10).iterrows():
        print(f"failed: {_told({name: row[name] for name in _once('-g', options.g)})}: {row['error']}")
    if len(failed):
        print(f"{len(failed)} of {len(frame)} runs failed; --resume runs them again.")
    table = options.output_dir / _found(options.notebook).stem / "headlines.md"
    print(f"{len(frame) - len(failed)} of {len(frame)} runs: {os.path.relpath(table)}")
    return int(len(failed) > 0)


def _once(option: str, pairs: Sequence[Sequence[str]]) -> dict[str, str]:
    given = {name: value for name, value in pairs}
    if len(given) < len(pairs):
        raise UserError(f"a name stands twice after {option}: {some([name for name, _ in pairs])}; write it once.")
    return given


class _Told:
    """Progress: a bar on a terminal, a line for each run in a log file."""

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(24), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task("starting", total=None)
        self.started, self.kept, self.failed = 0.0, 0, 0

    def __call__(self, done: int, total: int, row: dict[str, Any]) -> None:
        if not row:
            self.started, self.kept = time.monotonic(), done
            text = f"{total} runs, {done} of them kept"
        else:
            self.failed += bool(row["error"])
            left = (time.monotonic() - self.started) / (done - self.kept) * (total - done)
            values = _told({name: value for name, value in row.items() if name not in ("seconds", "error")})
            text = f"{done} of {total} done, {self.failed} failed, about {left:.0f} s left"
            if self.bar.disable:
                text += f"; {values}: {row['error'] or 'done'} after {row['seconds']:.0f} s"
        self.bar.update(self.task, completed=done, total=total, description=escape(text))
        if self.bar.disable:
            print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
