"""The main job, ``make run``: every notebook, several at a time, then a table of what came out.

It stands apart from ``__main__``, which the processes that run the notebooks could not import.
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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from helpers.notebook import RESULTS_PATH, ROOT, check_parameters, first_line

# One notebook's limit, and what a second one must find free before it may run beside the first.
BYTES_PER_NOTEBOOK = 2_500_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 only if every notebook ran to its end."""
    parser = argparse.ArgumentParser(prog="python tools/run.py", description="Run notebooks and show what came out.")
    parser.add_argument("notebook", nargs="*", help="the start of a notebook's name, such as 01; all when left out")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("-o", "--output-dir", type=Path, default=Path("build/runs"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    parameters = dict(options.p)
    try:
        found = [path for prefix in options.notebook or [""] for path in notebooks(prefix)]
    except ValueError as error:
        console.print(f"[red]Nothing was run:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    chosen = list(dict.fromkeys(found))
    for path in chosen:
        try:
            check_parameters(path, parameters)
        except ValueError as error:
            console.print(f"[red]Nothing was run:[/] {path.stem}: {escape(str(error))}", soft_wrap=True)
            return 2
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    finished: list[Run] = []
    interrupted = False
    try:
        _run_all(chosen, options.output_dir, parameters, console, finished)
    except KeyboardInterrupt:
        interrupted = True
    _show_table(finished, console)
    failed = [run for run in finished if run.error]
    for run in failed:
        console.print(f"[red]{run.notebook.stem} failed[/] in {escape(run.error)}", soft_wrap=True)
    if interrupted:
        console.print(f"[red]Interrupted:[/] {len(finished)} of {len(chosen)} notebooks were run to their end.")
        return 130
    return 1 if failed else 0


def _interrupt() -> None:
    raise KeyboardInterrupt


def _workers(count: int) -> int:
    room = psutil.virtual_memory().available // BYTES_PER_NOTEBOOK
    return max(1, min(count, os.cpu_count() or 1, room))


def _run_all(
    chosen: list[Path], folder: Path, parameters: dict[str, str], console: Console, finished: list[Run]
) -> None:
    context = multiprocessing.get_context("spawn")
    workers = _workers(len(chosen))
    console.print(f"Notebooks to run: {len(chosen)}, {workers} at a time, into {folder}")
    section = TextColumn("{task.fields[section]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns = (TextColumn("{task.fields[name]}"), BarColumn(16), TextColumn("{task.fields[cell]}"))
    cells = context.Queue()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(cells,))
    try:
        with Progress(*columns, TimeElapsedColumn(), section, console=console, expand=True) as progress:
            pending: dict[Future[Run], Path] = {
                pool.submit(_run_one, path, folder, parameters): path for path in chosen
            }
            bars = {
                path: progress.add_task("", name=path.stem, section="waiting", cell="", total=None) for path in chosen
            }
            while pending:
                done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                _advance(progress, bars, cells)
                for future in done:
                    path = pending.pop(future)
                    run = _result(future, path, folder)
                    finished.append(run)
                    state = "[red]failed[/]" if run.error else "done"
                    progress.update(bars[path], section=state)
                    progress.stop_task(bars[path])
                    if not console.is_terminal:
                        console.print(f"{path.stem}: {state} after {run.seconds:.0f} s")
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


def _advance(progress: Progress, bars: dict[Path, Any], cells: Any) -> None:
    while True:
        try:
            path, done, total, section = cells.get_nowait()
        except Empty:
            return
        progress.update(bars[path], completed=done, total=total, section=section, cell=f"cell {done}/{total}")


def _result(future: Future[Run], path: Path, folder: Path) -> Run:
    try:
        return future.result()
    except BrokenProcessPool:
        return Run(path, folder / path.name, error="the process that ran it was killed, perhaps for its memory")
    except Exception as error:
        return Run(path, folder / path.name, error=f"{type(error).__name__}: {error}")


def _show_table(finished: list[Run], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("notebook", "seconds", "peak MB", "headline result", "open"):
        table.add_column(name, justify="right" if name in ("seconds", "peak MB") else "left", no_wrap=True)
    for run in sorted(finished, key=lambda run: run.notebook):
        headline = "[red]failed[/]"
        if not run.error:
            headline = next((escape(f"{name} = {value}") for name, value in run.results.items()), "-")
        output = os.path.relpath(run.output) if run.output.exists() else "-"
        table.add_row(run.notebook.stem, f"{run.seconds:.0f}", f"{run.peak_mb:.0f}", headline, output)
    if finished:
        # A path that is cut cannot be opened: a narrow terminal wraps the line instead.
        Console(width=max(console.width, 120), highlight=False).print(table)


CELL_TIMEOUT = 900


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


if __name__ == "__main__":
    sys.exit(main())
