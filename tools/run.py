"""The main job: run notebooks, several at a time, then show the results.

    python tools/run.py                        the core notebooks (`make`)
    python tools/run.py --all                  every notebook (`make all`)
    python tools/run.py 20 52                  some; 5 is chapter 5 (`make run NOTEBOOK=5`)
    python tools/run.py 10 -p threshold 0.7    with another parameter

The gap: papermill runs one notebook, takes any parameter, and leaves a half-written file when it is interrupted. Here
parameters are checked before a kernel starts, a results file means that every cell ran, and no kernel outlives the job.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
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

    from helpers.notebook import RESULTS_PATH, ROOT, check_parameters, first_line
except ModuleNotFoundError as error:
    sys.exit(f"The package {error.name} is missing; `make clean` and then `make` set everything up anew.")

CELL_TIMEOUT = 900
"""Seconds after which a cell is given up; papermill would wait forever."""
BYTES_PER_NOTEBOOK = 2_500_000_000
"""What a second notebook must find free before it may run beside the first."""


@dataclass
class Run:
    """What became of one run.

    Attributes
    ----------
    notebook : Path
        The notebook's file.
    output : Path
        The executed copy; it may be missing if no cell was reached.
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
        raise ValueError(f"no notebook starts with {prefix!r}; there are: {', '.join(path.stem for path in every)}.")
    return found


def is_core(path: Path) -> bool:
    """Tell whether a notebook's header is tagged ``core``."""
    return "core" in json.loads(path.read_text(encoding="utf-8"))["cells"][0]["metadata"].get("tags", [])


def run_notebook(
    notebook: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    on_cell: Callable[[int, int, str], None] = lambda done, total, section: None,
) -> Run:
    """Run a notebook with papermill, its parameters checked first.

    Parameters
    ----------
    notebook : path-like
        The notebook's file.
    output_dir : path-like
        Receives ``<notebook>.ipynb`` and ``<notebook>.json``. What an earlier run left there under these names is
        removed first; while it runs, the notebook is ``<notebook>.partial.ipynb``.
    parameters : mapping, optional
        As in `helpers.notebook.check_parameters`.
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
    notebook, folder = Path(notebook).resolve(), Path(output_dir).resolve()
    values = check_parameters(notebook, parameters or {})
    output, results_path = folder / notebook.name, folder / f"{notebook.stem}.json"
    partial = folder / f"{notebook.stem}.partial.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (output, results_path, partial):
        stale.unlink(missing_ok=True)
    values.setdefault(RESULTS_PATH, str(results_path))
    # Kernels find the packages from every folder, installed or not.
    if str(ROOT) not in (paths := os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])
    run, started = Run(notebook, output), time.monotonic()
    with _peak_memory(run):
        run.error = _execute(notebook, partial, values, on_cell)
    run.seconds = time.monotonic() - started
    if partial.exists():
        os.replace(partial, output)
    if not run.error and results_path.exists():
        run.results = json.loads(results_path.read_text(encoding="utf-8"))
    return run


def _execute(notebook: Path, partial: Path, values: dict[str, Any], on_cell: Callable[[int, int, str], None]) -> str:
    """Execute the cells; return an empty text, or where and why the run ended."""
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

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
    options = {
        "engine_name": "watched",
        "kernel_name": "python3",
        "progress_bar": False,
        "cwd": Path.cwd(),
        "execution_timeout": CELL_TIMEOUT,
        # C libraries write to the file descriptor; their log lines are no output of a cell.
        "extra_arguments": ["--IPKernelApp.capture_fd_output=False", "--IPKernelApp.log_level=40"],
    }
    for last_try in (False, True):
        try:
            papermill.execute_notebook(notebook, partial, values, **options)
        except papermill.PapermillExecutionError as error:
            return f"cell {error.exec_count} in {section!r}: {error.ename}: {first_line(error.evalue)}"
        except TimeoutError:
            return f"{section!r}: a cell took more than {CELL_TIMEOUT} s"
        except RuntimeError as error:
            # Kernels have been seen to die at birth; after the first cell it is the notebook that kills them.
            if section or last_try:
                return f"the kernel died in {section!r}: {error}"
            continue
        return ""
    raise AssertionError("the second try returns")


def _section(cells: list[Any]) -> str:
    text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    return (re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE) or [""])[-1]


@contextmanager
def _peak_memory(run: Run) -> Iterator[None]:
    """Write the largest resident memory of this process's children, sampled while the block runs, into `run`."""
    done = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not done.wait(0.1):
            programs, total = {me.pid: me.cmdline()}, 0
            for child in me.children(recursive=True):
                try:
                    programs[child.pid] = child.cmdline()
                    # Until it begins a program of its own, a child shares its parent's memory: that counts once.
                    if programs[child.pid] != programs.get(child.ppid()):
                        total += child.memory_info().rss
                except psutil.Error:
                    continue
            run.peak_mb = max(run.peak_mb, total / 1e6)

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
    parameters = dict(options.p)
    chosen: dict[Path, None] = {}
    try:
        for prefix in options.notebook or [""]:
            chosen.update(dict.fromkeys(notebooks(prefix, core=not (options.notebook or options.all))))
        for path in chosen:
            _check(path, parameters)
    except ValueError as error:
        console.print(f"[red]Nothing was run:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    finished: list[Run] = []
    interrupted = False
    try:
        _run_all(list(chosen), options.output_dir, parameters, console, finished)
    except KeyboardInterrupt:
        interrupted = True
    print(table(finished))
    if interrupted:
        console.print(f"[red]Interrupted:[/] {len(finished)} of {len(chosen)} notebooks were run to their end.")
        return 130
    return 1 if any(run.error for run in finished) else 0


def _check(path: Path, parameters: Mapping[str, str]) -> None:
    try:
        check_parameters(path, parameters)
    except ValueError as error:
        raise ValueError(f"{path.stem}: {error}") from error


def table(finished: Sequence[Run]) -> str:
    """Return what is shown at the end: three lines a notebook, nothing cut, whatever the width of the terminal is."""
    lines = []
    for run in sorted(finished, key=lambda run: run.notebook):
        headline = f"failed in {run.error}"
        if not run.error:
            headline = next((f"{name} = {value}" for name, value in run.results.items()), "no results")
        output = os.path.relpath(run.output) if run.output.exists() else "no output"
        lines += [f"{run.notebook.stem:<40}{run.seconds:6.0f} s{run.peak_mb:8.0f} MB at most"]
        lines += [f"    {headline}", f"    {output}"]
    return "\n".join(lines)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _run_all(
    chosen: list[Path], folder: Path, parameters: dict[str, str], console: Console, finished: list[Run]
) -> None:
    context = multiprocessing.get_context("spawn")
    slots = psutil.virtual_memory().available // BYTES_PER_NOTEBOOK
    workers = max(1, min(len(chosen), os.cpu_count() or 1, slots))
    print(f"Notebooks to run: {len(chosen)}, {workers} at a time, into {folder}", flush=True)
    section = TextColumn("{task.fields[section]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns = (TextColumn("{task.fields[name]}"), BarColumn(16), TextColumn("{task.fields[cell]}"))
    cells = context.Queue()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(cells,))
    # A bar is for a terminal; a log file gets a line for each notebook.
    bar = Progress(*columns, TimeElapsedColumn(), section, console=console, disable=not console.is_terminal)
    try:
        with bar:
            pending: dict[Future[Run], Path] = {
                pool.submit(_run_one, path, folder, parameters): path for path in chosen
            }
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
        pool.shutdown(wait=False, cancel_futures=True)


def _kill_children() -> None:
    """Kill the workers and, with them, their kernels: none may outlive this process."""
    for child in psutil.Process().children(recursive=True):
        try:
            # Python's own tracker of shared resources ends by itself, and complains if it does not.
            if not any("resource_tracker" in part for part in child.cmdline()):
                child.kill()
        except psutil.Error:
            continue


_cells: Any = None


def _begin_worker(cells: Any) -> None:
    global _cells
    _cells = cells
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_one(path: Path, folder: Path, parameters: dict[str, str]) -> Run:
    # Kernels inherit standard error; what C libraries write there would tear the progress bar.
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{path.stem}.log").open("w") as log:
        os.dup2(log.fileno(), 2)
    return run_notebook(
        path, folder, parameters, on_cell=lambda done, total, section: _cells.put((path, done, total, section))
    )


def _advance(bar: Progress, tasks: dict[Path, Any], cells: Any) -> None:
    while True:
        try:
            path, done, total, section = cells.get_nowait()
        except Empty:
            return
        bar.update(tasks[path], completed=done, total=total, section=section, cell=f"cell {done}/{total}")


def _result(future: Future[Run], path: Path, folder: Path) -> Run:
    try:
        return future.result()
    except BrokenProcessPool:
        return Run(path, folder / path.name, error="the process that ran it was killed, perhaps for its memory")
    except Exception as error:
        return Run(path, folder / path.name, error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
