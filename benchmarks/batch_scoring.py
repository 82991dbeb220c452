"""Notebook 13: scoring a Parquet file of 10 million rows, beside reading and writing the same without a model.

As a script it prints the table; each way runs in a process of its own, for its peak of memory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from helpers import scoring
from helpers.notebook import fresh_process

FEATURES = [f"x{number}" for number in range(20)]
GROUP = 131_072


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


def measure(way: str, source: Path, model_path: Path, turns: int = 3) -> dict[str, float]:
    """Return the median of the seconds, and the peak of memory in MiB."""
    seconds = []
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            if way == "copy":
                copy(source, Path(folder))
            else:
                scoring.score_file(source, model_path, folder)
            seconds.append(time.perf_counter() - started)
    memory = psutil.Process().memory_info()
    return {"seconds": float(np.median(seconds)), "mib": getattr(memory, "peak_wset", 0) / 2**20 or peak_mib()}


def peak_mib() -> float:
    """Return this process' peak of memory; Windows tells it otherwise."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Print the table, or, as a process of its own, one measurement."""
    if len(sys.argv) > 1:
        way, *paths = sys.argv[1:]
        print(json.dumps(measure(way, Path(paths[0]), Path(paths[1]))))
        return
    print("| rows | way | seconds | relative | rows a second | memory, MiB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        source, model = Path(name) / "rows.parquet", Path(name) / "model.keras"
        save_model(model)
        for rows in (1_000_000, 10_000_000):
            write(source, rows)
            ways = {"copy": "reading and writing, no model", "score": "helpers.scoring.score_file"}
            found = {way: json.loads(fresh_process(__file__, way, source, model)) for way in ways}
            for way, told in ways.items():
                seconds, relative = found[way]["seconds"], found[way]["seconds"] / found["copy"]["seconds"]
                speed = f"{rows / seconds:,.2g}"
                print(f"| {rows:,} | {told} | {seconds:.3g} | {relative:.2g} | {speed} | {found[way]['mib']:.0f} |")


if __name__ == "__main__":
    main()
