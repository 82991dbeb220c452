"""The main job: run notebooks, several at a time, then show the results.

    python tools/run.py                        the core notebooks (`make`)
    python tools/run.py --all                  every notebook (`make all`)
    python tools/run.py 20 52                  some; 5 is chapter 5 (`make run NOTEBOOK=5`)
    python tools/run.py 10 -p threshold 0.7    with another parameter

The gap: papermill runs one notebook, takes any parameter, and leaves a half-written file when it is interrupted. Here
parameters are checked before a kernel starts, what bears a notebook's name means that every cell ran, what did not end
is called partial, two runs do not write into each other's files, and no kernel outlives the job.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script finds what lies beside it; the packages lie one folder up, also where they were not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import psutil
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    from helpers.notebook import RESULTS_PATH, ROOT, UserError, check_parameters, first_line, shown, write_text
except ModuleNotFoundError as error:
    sys.exit(f"The package {error.name} is missing; `make clean` and then `make` set everything up anew.")

CELL_TIMEOUT = 900
"""Seconds after which a cell is given up; papermill would wait forever."""
BYTES_PER_NOTEBOOK = 2_500_000_000
"""What a second notebook must find free before it may run beside the first."""
OnCell = Callable[[int, int, str], None]
"""Called with the number of a cell, the number of cells, and the heading above it."""


@dataclass
class Run:
    """What became of one run.

    Attributes
    ----------
    notebook : Path
        The notebook's file.
    output : Path
        The executed copy, or as much of it as there is; it may be missing if no cell was reached.
    seconds : float
    peak_mb : float
        The largest resident memory of the kernel and its children, in 10^6 bytes.
    results : dict
        What the notebook wrote as JSON, the headline first.
    error : str
        Empty, or the section and cell in which the run ended and the error's last line.
    """

    notebook: Path
    output: Path
    seconds: float = 0.0
    peak_mb: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def notebooks(prefix: str = "", *, core: bool = False) -> list[Path]:
    """Return the project's notebooks whose name starts with `prefix`, in order; with `core`, those of a first run.

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
    found = [path for path in every if path.name.startswith(Path(prefix).name) and (not core or is_core(path))]
    if not found:
        names = ", ".join(path.stem for path in every)
        raise ValueError(f"no notebook starts with {shown(prefix)}; there are: {names}.")
    return found


def is_core(path: Path) -> bool:
    """Tell whether a notebook's header is tagged ``core``."""
    return "core" in json.loads(path.read_text(encoding="utf-8"))["cells"][0]["metadata"].get("tags", [])


def run_notebook(
    notebook: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    on_cell: OnCell = lambda done, total, section: None,
    notes: bool = True,
) -> Run:
    """Run a notebook with papermill, its parameters checked first.

    Parameters
    ----------
    notebook : path-like
        The notebook's file.
    output_dir : path-like
        Receives ``<notebook>.ipynb`` and, if no other `RESULTS_PATH` is given, ``<notebook>.json``. What earlier runs
        left under these names is removed first. A run that is under way, or did not come to its end, is
        ``<notebook>.partial.ipynb``, in which the reason stands, and has no results.
    parameters : mapping, optional
        As in `helpers.notebook.check_parameters`. If one differs from its default, the executed copy names it below
        the title, and lacks the cells tagged ``result``, which state what the defaults give.
    on_cell : callable
        Called before each cell with its number, the number of cells, and the heading above it.
    notes : bool
        False: the executed copy lacks the notes for teachers, cells tagged ``instructor``.

    Returns
    -------
    Run
        A cell that fails is told in ``error``, not raised.

    Raises
    ------
    UserError
        Before a kernel starts: a parameter is not accepted, or another run writes the same files.
    """
    notebook, folder = Path(notebook).resolve(), Path(output_dir).resolve()
    values = check_parameters(notebook, parameters or {})
    with _claimed([folder / notebook.name]):
        return _run(notebook, folder, values, on_cell, notes)


@contextmanager
def _claimed(files: Iterable[Path]) -> Iterator[None]:
    """Keep files for this process by SQLite's lock, which the system releases even if the process is killed."""
    with ExitStack() as locks:
        for file in files:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                lock = sqlite3.connect(file.with_name(f".{file.name}.lock"), timeout=0)
                locks.enter_context(closing(lock)).execute("BEGIN EXCLUSIVE")
            except (OSError, sqlite3.Error) as error:
                busy = "another run is writing it; wait for it, or name another folder with -o"
                reason = busy if "database is locked" in str(error) else f"it cannot be written: {error}"
                raise UserError(f"{shown(str(file), 200)}: {reason}.") from None
        yield


def _run(notebook: Path, folder: Path, values: dict[str, Any], on_cell: OnCell, notes: bool) -> Run:
    output, partial = folder / notebook.name, folder / f"{notebook.stem}.partial.ipynb"
    standard, own = folder / f"{notebook.stem}.json", folder / f".{notebook.stem}.results"
    results_path = Path(values.setdefault(RESULTS_PATH, str(standard)) or own).expanduser().absolute()
    # Kernels find the packages from every folder, installed or not.
    if str(ROOT) not in (paths := os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])
    run, started = Run(notebook, output), time.monotonic()
    try:
        for stale in (output, partial, standard, own, results_path):
            stale.unlink(missing_ok=True)
        with _peak_memory(run):
            _execute(notebook, partial, values, own, on_cell, notes)
        if own.exists():
            run.results = json.loads(own.read_text(encoding="utf-8"))
            write_text(results_path, json.dumps(run.results, indent=2) + "\n")
        os.replace(partial, output)
    except (OSError, RuntimeError, ValueError) as error:
        run.error, run.output = first_line(error), partial
    own.unlink(missing_ok=True)
    run.seconds = time.monotonic() - started
    return run


def _execute(notebook: Path, partial: Path, values: dict[str, Any], own: Path, on_cell: OnCell, notes: bool) -> None:
    """Execute the cells; raise a RuntimeError that says where and why the run ended."""
    import papermill
    from nbformat.v4 import new_output
    from papermill.engines import NBClientEngine, papermill_engines

    section, running = "", None

    class Watched(NBClientEngine):
        @classmethod
        def execute_notebook(cls, nb: Any, *args: Any, **kwargs: Any) -> Any:
            nb.cells = _copied(nb.cells, values, notes)
            return super().execute_notebook(nb, *args, **kwargs)

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
            cells, start_cell = nb_man.nb.cells, nb_man.cell_start

            def cell_start(cell: Any, cell_index: int = 0, **rest: Any) -> None:
                nonlocal section, running
                section, running = _section(cells[: cell_index + 1]), cell
                on_cell(cell_index + 1, len(cells), section)
                start_cell(cell, cell_index, **rest)

            nb_man.cell_start = cell_start
            injected = next(cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", []))
            # Whoever finds results where they were asked for must know that every cell ran: there they come at the end.
            stated, injected.source = injected.source, f"{injected.source}\n{RESULTS_PATH} = {str(own)!r}"
            try:
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
            except Exception as error:
                if running is None:
                    # Kernels have been seen to die at birth.
                    return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
                reason = "the kernel died, perhaps for its memory" if isinstance(error, RuntimeError) else str(error)
                nb_man.cell_exception(running)
                told = new_output("error", ename=type(error).__name__, evalue=reason, traceback=[reason])
                running.setdefault("outputs", []).insert(0, told)
            finally:
                injected.source = stated

    papermill_engines.register("watched", Watched)
    options: dict[str, Any] = {"engine_name": "watched", "kernel_name": "python3", "progress_bar": False}
    # C libraries write to the file descriptor; their log lines are no output of a cell.
    quiet = ["--IPKernelApp.capture_fd_output=False", "--IPKernelApp.log_level=40"]
    options |= {"execution_timeout": CELL_TIMEOUT, "extra_arguments": quiet}
    # papermill fills parameters into braces.
    source, target = (str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, partial))
    try:
        done = papermill.execute_notebook(source, target, values, **options)
    except papermill.PapermillExecutionError as error:
        where = f"cell {error.exec_count or '?'} in {section!r}"
        raise RuntimeError(f"{where}: {error.ename}: {first_line(error.evalue) or 'see its output'}") from None
    if any(cell.get("execution_count", 0) is None and cell.source.strip() for cell in done.cells):
        raise RuntimeError(f"{section!r}: a cell ended the notebook before its last cell")


def _copied(cells: list[Any], values: Mapping[str, Any], notes: bool) -> list[Any]:
    """Return the cells of an executed copy: what its prose states of results must not be those of other parameters."""
    from nbformat.v4 import new_markdown_cell

    from helpers.notebook import read_schema

    tagged = [(cell, cell.metadata.get("tags", [])) for cell in cells]
    schema = read_schema(next(cell.source for cell, tags in tagged if "parameters" in tags))
    own = [name for name in values if name != RESULTS_PATH and values[name] != schema[name].default]
    hidden = {"" if notes else "instructor", "result" if own else ""}
    kept = [cell for cell, tags in tagged if hidden.isdisjoint(tags)]
    if own:
        told = f"Run with: {', '.join(f'`{name} = {shown(values[name])}`' for name in own)}. What the prose states of "
        left = " and is left out" if any("result" in tags for _, tags in tagged) else ""
        kept.insert(1, new_markdown_cell(f"{told}results holds for the defaults{left}."))
    return kept


def _section(cells: list[Any]) -> str:
    text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    return (re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE) or [""])[-1]


def _resident(process: psutil.Process) -> int:
    """Return a process's memory in bytes; what it shares with others, as TensorFlow's library, counts in parts."""
    return process.memory_full_info().pss if psutil.LINUX else process.memory_info().rss


@contextmanager
def _peak_memory(run: Run) -> Iterator[None]:
    """Write the largest resident memory of this process's children, sampled while the block runs, into `run`."""
    done = threading.Event()

    def watch() -> None:
        me, spent = psutil.Process(), 0.0
        # Where there are many processes, as Ray's, looking takes long: no more than a fifth of one processor.
        while not done.wait(max(0.1, 4 * spent)):
            began, programs, total = time.thread_time(), {me.pid: me.cmdline()}, 0
            for child in me.children(recursive=True):
                with suppress(psutil.Error):
                    programs[child.pid] = child.cmdline()
                    # Until it begins a program of its own, a child shares its parent's memory: that counts once.
                    if programs[child.pid] != programs.get(child.ppid()):
                        total += _resident(child)
            run.peak_mb, spent = max(run.peak_mb, total / 1e6), time.thread_time() - began

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 only if every notebook ran to its end."""
    parser = argparse.ArgumentParser(prog="python tools/run.py", description="Run notebooks and show the results.")
    parser.add_argument("notebook", nargs="*", help="the start of a name: 20, or 5 for chapter 5; the core if left out")
    parser.add_argument("--all", action="store_true", help="every notebook, not only the core")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("-o", "--output-dir", type=Path, default=Path("build/runs"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    finished: list[Run] = []
    with ExitStack() as locks:
        try:
            folder = options.output_dir.resolve()
            chosen = _chosen(options)
            locks.enter_context(_claimed(folder / path.name for path in chosen))
        except (OSError, ValueError) as error:
            console.print(f"[red]Nothing was run:[/] {escape(f'{error!s:.600}')}", soft_wrap=True)
            return 2
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _run_all(chosen, folder, console, finished)
            status = int(any(run.error for run in finished))
        except KeyboardInterrupt:
            status = 130
            console.print(f"[red]Interrupted:[/] {len(finished)} of {len(chosen)} notebooks were run to their end.")
    print(table(finished))
    return status


def _chosen(options: argparse.Namespace) -> dict[Path, dict[str, Any]]:
    """Return the notebooks that are meant, and for each the parameters, checked."""
    chosen: dict[Path, dict[str, Any]] = {}
    core = not (options.notebook or options.all)
    for path in [path for prefix in options.notebook or [""] for path in notebooks(prefix, core=core)]:
        try:
            chosen[path] = check_parameters(path, dict(options.p))
        except ValueError as error:
            raise UserError(f"{path.stem}: {error}") from error
    if len(chosen) > 1 and dict(options.p).get(RESULTS_PATH):
        raise UserError(f"{RESULTS_PATH} names one file for {len(chosen)} notebooks; leave it out: each has its own.")
    return chosen


def table(finished: Sequence[Run]) -> str:
    """Return what is shown at the end: three lines a notebook, nothing cut, whatever the width of the terminal is."""
    lines = []
    for run in sorted(finished, key=lambda run: run.notebook):
        result = next((f"{name} = {value}" for name, value in run.results.items()), "no results")
        headline = f"failed in {run.error}" if run.error else result
        output = os.path.relpath(run.output) if run.output.exists() else "no output"
        lines += [f"{run.notebook.stem:<40}{run.seconds:6.0f} s{run.peak_mb:8.0f} MB at most"]
        lines += [f"    {headline}", f"    {output}"]
    return "\n".join(lines)


def at_once(runs: int) -> int:
    """Return how many of some runs have a processor and memory at a time."""
    slots = psutil.virtual_memory().available // BYTES_PER_NOTEBOOK
    return max(1, min(runs, os.cpu_count() or 1, slots))


def _run_all(chosen: dict[Path, dict[str, Any]], folder: Path, console: Console, finished: list[Run]) -> None:
    context = multiprocessing.get_context("spawn")
    workers = at_once(len(chosen))
    print(f"Notebooks to run: {len(chosen)}, {workers} at a time, into {os.path.relpath(folder)}", flush=True)
    section = TextColumn("{task.fields[section]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns = (TextColumn("{task.fields[name]}"), BarColumn(16), TextColumn("{task.fields[cell]}"))
    cells = context.Queue()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(cells,))
    # A bar is for a terminal; a log file gets a line for each notebook.
    bar = Progress(*columns, TimeElapsedColumn(), section, console=console, disable=not console.is_terminal)
    try:
        with bar:
            pending = {pool.submit(_run_one, path, folder, chosen[path]): path for path in chosen}
            tasks = {path: bar.add_task("", name=path.stem, section="waiting", cell="", total=None) for path in chosen}
            while pending:
                done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                _advance(bar, tasks, cells)
                for future in done:
                    path = pending.pop(future)
                    run = _result(future, path, folder)
                    finished.append(run)
                    state = "failed" if run.error else "done"
                    bar.update(tasks[path], section=state)
                    bar.stop_task(tasks[path])
                    if bar.disable:
                        print(f"{path.stem}: {state} after {run.seconds:.0f} s", flush=True)
    except BaseException:
        _kill_children()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _kill_children(of: int | None = None) -> None:
    """Kill the workers of this process, or of another, and with them their kernels: none may outlive it."""
    for child in psutil.Process(of).children(recursive=True):
        # Python's own tracker of shared resources ends by itself, and complains if it does not.
        with suppress(psutil.Error):
            if not any("resource_tracker" in part for part in child.cmdline()):
                child.kill()


_cells: Any = None


def _begin_worker(cells: Any) -> None:
    global _cells
    _cells = cells
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker and its kernel as soon as the job is gone, even if it was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        _kill_children()
        os._exit(1)


def _run_one(path: Path, folder: Path, values: dict[str, Any]) -> Run:
    # Kernels inherit standard error; what C libraries write there would tear the progress bar.
    with (folder / f"{path.stem}.log").open("w") as log:
        os.dup2(log.fileno(), 2)
    return _run(path, folder, values, lambda *cell: _cells.put((path, *cell)), notes=False)


def _advance(bar: Progress, tasks: dict[Path, Any], cells: Any) -> None:
    while not cells.empty():
        path, done, total, section = cells.get()
        bar.update(tasks[path], completed=done, total=total, section=section, cell=f"cell {done}/{total}")


def _result(future: Future[Run], path: Path, folder: Path) -> Run:
    try:
        return future.result()
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, BrokenProcessPool):
            reason = "the process that ran it, or one beside it, was killed, perhaps for its memory"
        return Run(path, folder / f"{path.stem}.partial.ipynb", error=reason)


def __getattr__(name: str) -> Any:
    """Find `sweep` when it is asked for: a run needs none of what it imports."""
    if name == "sweep":
        from tools.sweep import sweep

        return sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
