"""The main job, ``make run``: every notebook, several at a time, then a table of what came out.

It stands apart from ``__main__``, which the processes that run the notebooks could not import.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from helpers import runs

# One notebook's limit, and what a second one must find free before it may run beside the first.
BYTES_PER_NOTEBOOK = 2_500_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 only if every notebook ran to its end."""
    parser = argparse.ArgumentParser(prog="python -m helpers", description="Run notebooks and show what came out.")
    parser.add_argument("notebook", nargs="*", help="the start of a notebook's name, such as 01; all when left out")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("-o", "--output-dir", type=Path, default=Path("build/runs"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    parameters = dict(options.p)
    try:
        found = [path for prefix in options.notebook or [""] for path in runs.notebooks(prefix)]
    except ValueError as error:
        console.print(f"[red]Nothing was run:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    chosen = list(dict.fromkeys(found))
    for path in chosen:
        try:
            runs.check_parameters(path, parameters)
        except ValueError as error:
            console.print(f"[red]Nothing was run:[/] {path.stem}: {escape(str(error))}", soft_wrap=True)
            return 2
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    finished: list[runs.Run] = []
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
    chosen: list[Path], folder: Path, parameters: dict[str, str], console: Console, finished: list[runs.Run]
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
            pending: dict[Future[runs.Run], Path] = {
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


def _run_one(path: Path, folder: Path, parameters: dict[str, str]) -> runs.Run:
    # Kernels inherit standard error; what C libraries write there would tear the progress bar.
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{path.stem}.log").open("w") as log:
        os.dup2(log.fileno(), 2)
    return runs.run_notebook(
        path, folder, parameters, on_cell=lambda done, total, section: _cells.put((path, done, total, section))
    )


def _advance(progress: Progress, bars: dict[Path, Any], cells: Any) -> None:
    while True:
        try:
            path, done, total, section = cells.get_nowait()
        except Empty:
            return
        progress.update(bars[path], completed=done, total=total, section=section, cell=f"cell {done}/{total}")


def _result(future: Future[runs.Run], path: Path, folder: Path) -> runs.Run:
    try:
        return future.result()
    except BrokenProcessPool:
        return runs.Run(path, folder / path.name, error="the process that ran it was killed, perhaps for its memory")
    except Exception as error:
        return runs.Run(path, folder / path.name, error=f"{type(error).__name__}: {error}")


def _show_table(finished: list[runs.Run], console: Console) -> None:
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
