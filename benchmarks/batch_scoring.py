"""Notebook 13: scoring a Parquet file of 10 million rows, beside reading and writing the same without a model.

As a script it prints the table; each way runs in a process of its own, for its peak of memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from helpers import scoring
from helpers.notebook import ENVIRONMENT

FEATURES = [f"x{number}" for number in range(20)]
GROUP = 131_072
WAYS = {"copy": "reading and writing, no model", "score": "helpers.scoring.score_file"}


def write(file: Path, rows: int) -> None:
    """Write random numbers, a row group at a time."""
    random = np.random.default_rng(0)
    with pq.ParquetWriter(file, pa.schema([(name, pa.float32()) for name in FEATURES]), use_dictionary=False) as out:
        for start in range(0, rows, GROUP):
            columns = random.standard_normal((len(FEATURES), min(GROUP, rows - start)), dtype=np.float32)
            out.write_table(pa.table(list(columns), names=FEATURES))


def save_model(file: Path) -> None:
    """Save a network from 20 numbers to one."""
    import keras

    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(64, "relu"), keras.layers.Dense(8, "relu")]
    keras.Sequential([keras.Input((len(FEATURES),)), *hidden, keras.layers.Dense(1, "sigmoid")]).save(file)


def copy(source: Path, folder: Path) -> None:
    """Read the same row groups and write as many numbers, without a model."""
    columns = dict.fromkeys(FEATURES, pa.float32())
    for number, table in scoring.read_blocks([source], columns):
        start = number * scoring.BLOCK_ROWS
        numbers = np.arange(start, start + len(table))
        scoring.write_part(folder, number, pa.table({scoring.ROW: numbers, "prediction": table["x0"]}), "{}")


def measure(way: str, source: Path, model_path: Path, turns: int = 3) -> float:
    """Return the median of the seconds, in this process; a first turn compiles."""
    seconds = []
    for _ in range(turns + 1):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            if way == "copy":
                copy(source, Path(folder))
            else:
                scoring.score_file(source, model_path, folder)
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


def watched(*arguments: object) -> tuple[float, float]:
    """Return the seconds that a process prints, and its peak of memory in MiB, seen from outside."""
    command = [sys.executable, __file__, *map(str, arguments)]
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, **os.environ})
    peak = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            peak = max(peak, process.memory_info().rss)
        time.sleep(0.01)
    return float(process.stdout.read()), peak / 2**20


def main() -> None:
    """Print the table, or, as a process of its own, one measurement."""
    if len(sys.argv) > 1:
        way, *paths = sys.argv[1:]
        print(measure(way, Path(paths[0]), Path(paths[1])))
        return
    print("| rows scored | way | seconds | relative | rows a second | memory, MiB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        source, model = Path(name) / "rows.parquet", Path(name) / "model.keras"
        save_model(model)
        for rows in (1_000_000, 10_000_000):
            write(source, rows)
            baseline = 0.0
            for way, told in WAYS.items():
                seconds, mib = watched(way, source, model)
                baseline = baseline or seconds
                relative = f"{seconds:.3g} | {seconds / baseline:.2g} | {rows / seconds:,.0f}"
                print(f"| {rows:,} | {told} | {relative} | {mib:.0f} |")


if __name__ == "__main__":
    main()
