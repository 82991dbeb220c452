"""Notebook 80: more processes for the same rows, and for the same notebook with other parameters.

As a script it prints the tables; each way runs in a process of its own. Seconds are from a process that has imported
what it needs to the end of the work, with the start of workers, and of a cluster, in them. Memory is that of the whole
tree of processes, shared pages counted in parts. Without Ray and Dask (``make scale``) their rows are missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from batch_scoring import save_model, write

from helpers import scale, scoring
from helpers.notebook import ENVIRONMENT, ROOT

WORKERS = 2
SCORING = {"one process": "", "joblib": "joblib", "Ray Data": "ray"}
SWEEPS = {"serial": "", "joblib": "joblib", "Dask": "dask", "Ray": "ray"}
SWEPT, GRID = "20", {"seed": [0, 1, 2, 3], "cost_fn": [20, 40]}


def score(way: str, source: Path, model: Path, folder: Path) -> None:
    """Score a file."""
    if way == "Ray Data":
        scale.score_with_ray(source, model, folder, workers=WORKERS)
    elif way == "joblib":
        scale.score_in_processes(source, model, folder, workers=WORKERS)
    else:
        scoring.score_file(source, model, folder)


def sweep(way: str, folder: Path) -> None:
    """Run a notebook eight times."""
    from tools.run import notebooks
    from tools.run import sweep as run

    engine = {"engine": SWEEPS[way] or "joblib", "workers": WORKERS if SWEEPS[way] else 1}
    assert not run(notebooks(SWEPT)[0], GRID, output_dir=folder, **engine)["error"].any()


def timed(call: Callable[[], None], folder: Path, pattern: str) -> dict[str, float]:
    """Return the seconds of a call, and those until the first file of a pattern was there."""
    started, first, ended = time.perf_counter(), list[float](), threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            if next(folder.rglob(pattern), None):
                first.append(time.perf_counter() - started)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        call()
    finally:
        seconds = time.perf_counter() - started
        ended.set()
        thread.join()
    return {"seconds": seconds, "first": first[0] if first else seconds}


def resident(process: psutil.Process) -> float:
    """Return the memory of a process and of all below it, in bytes."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            total += one.memory_full_info().pss if psutil.LINUX else one.memory_info().rss
    return total


def watched(*arguments: object) -> dict[str, float]:
    """Return what a process of its own measures, and its peak of memory."""
    environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, *map(str, arguments)]
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    peak = 0.0
    while process.poll() is None:
        with suppress(psutil.Error):
            peak = max(peak, resident(process))
        time.sleep(0.2)
    return {**json.loads(process.stdout.read().splitlines()[-1]), "mib": peak / 2**20}


def rows_of(what: str, ways: dict[str, str], given: list[Any]) -> None:
    """Print a row of the table for each way; the first is what the others are compared with."""
    kind, *paths, folder = given
    baseline = 0.0
    for way, package in ways.items():
        if package and importlib.util.find_spec(package) is None:
            continue
        found = watched(kind, way, *paths, folder / way)
        baseline = baseline or found["seconds"]
        workers = WORKERS if package else 1
        speedup = baseline / found["seconds"]
        shown = f"{found['seconds']:.3g} | {found['first']:.2g} | {speedup:.2g} | {speedup / workers:.0%}"
        print(f"| {what} | {way} | {workers} | {shown} | {found['mib']:.0f} |", flush=True)


def main() -> None:
    """Print the tables, or, as a process of its own, one measurement."""
    if len(sys.argv) > 1:
        what, way, *paths = sys.argv[1:]
        *given, folder = map(Path, paths)
        calls: dict[str, Callable[..., None]] = {"score": score, "sweep": sweep}
        call = partial(calls[what], way, *given, folder)
        print(json.dumps(timed(call, folder, "part-*" if what == "score" else "run.json")))
        return
    head = "way | processes | seconds | to the first result | speed | for each process | memory, MiB"
    print(f"| more processes | {head} |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        source, model = Path(name) / "rows.parquet", Path(name) / "model.keras"
        save_model(model)
        for rows in (1_000_000, 10_000_000):
            write(source, rows)
            rows_of(f"{rows:,} rows scored", SCORING, ["score", source, model, Path(name) / str(rows)])
        rows_of("eight runs of notebook 20", SWEEPS, ["sweep", Path(name) / "sweeps"])


if __name__ == "__main__":
    main()
