"""Notebook 13: the peak of memory of a process that scores a file, against the number of its rows.

Each row of the table is a process of its own, watched from outside. The flights of `late_flights` are repeated as often
as is needed, and scored by its network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.evidence_table import write_table
from helpers import data
from helpers.notebook import ENVIRONMENT, ROOT

ROWS = (300_000, 1_000_000, 3_000_000)
NETWORK = ROOT / "datasets" / "late_flights" / "network.keras"
ALL_AT_ONCE = """
import sys
import keras
import pandas as pd

source, network, output = sys.argv[1:]
table = pd.read_csv(source) if source.endswith(".csv") else pd.read_parquet(source)
model = keras.saving.load_model(network)
scores = model.predict(table.to_numpy(dtype="float32"), batch_size=8192, verbose=0)
pd.DataFrame({"prediction": scores[:, 0]}).to_parquet(output)
"""


def write_flights(file: Path, rows: int) -> None:
    """Write the flights again and again, as CSV or Parquet, 100,000 rows at a time."""
    flights = data.load("late_flights")
    schema = pa.schema([(name, pa.float32()) for name in flights.feature_names])
    X = np.tile(flights.X.astype("float32"), (5, 1))
    table = pa.table(list(np.ascontiguousarray(X.T)), schema=schema)
    writer = pa.csv.CSVWriter if file.suffix == ".csv" else pq.ParquetWriter
    with writer(file, schema) as out:
        for _ in range(rows // len(table)):
            out.write_table(table)


def measure(way: str, source: Path) -> dict[str, float]:
    """Return the peak of memory in MB, and the seconds, of a process that scores a file."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["-c", ALL_AT_ONCE] if way == "all at once" else ["-m", "helpers.scoring"]
        arguments = [sys.executable, *command, str(source), str(NETWORK), str(Path(folder) / "scores")]
        started, peak = time.perf_counter(), 0
        process = psutil.Popen(arguments, stdout=subprocess.DEVNULL, env={**ENVIRONMENT, **os.environ})
        while process.poll() is None:
            peak = max(peak, memory_of(process))
            time.sleep(0.005)
        if process.returncode:
            raise RuntimeError(f"{way} of {source.name} ended with status {process.returncode}.")
        return {"peak_mb": round(peak / 1e6), "seconds": round(time.perf_counter() - started, 1)}


def memory_of(process: psutil.Popen) -> int:
    """Return the memory that a process holds now; 0 if it has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def main() -> None:
    """Measure all, and write the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in ROWS:
            for kind in ("csv", "parquet"):
                source = Path(folder) / f"flights.{kind}"
                write_flights(source, number)
                for way in ("all at once", "in blocks"):
                    rows.append({"way": way, "file": kind, "rows": number, **measure(way, source)})
                    print(rows[-1], flush=True)
    write_table(
        __file__,
        pd.DataFrame(rows),
        seeds="none, the flights are repeated",
        budget="one process a row, two cores shared with other work, which the seconds contain",
        note="all at once: pandas and one predict; in blocks: python -m helpers.scoring",
        packages=("tensorflow-cpu", "keras", "pandas", "pyarrow"),
    )


if __name__ == "__main__":
    main()
