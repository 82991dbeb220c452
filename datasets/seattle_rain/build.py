"""The weather of one day and whether it rained on the next, from the daily records that vega_datasets ships."""

import numpy as np
import pandas as pd

from helpers.data import Dataset, package_file


def build() -> Dataset:
    # The file is read where it lies: the package itself offers downloads, and nothing here may use them.
    days = pd.read_csv(package_file("vega_datasets", "_data/seattle-weather.csv"), parse_dates=["date"])
    wet = (days["precipitation"] > 0).astype(float)
    season = 2 * np.pi * days["date"].dt.day_of_year / 365.25
    features = pd.DataFrame(
        {
            "precipitation": days["precipitation"],
            "temp_max": days["temp_max"],
            "temp_min": days["temp_min"],
            "wind": days["wind"],
            "wet_today": wet,
            "wet_yesterday": wet.shift(1, fill_value=0.0),
            "season_sin": np.sin(season),
            "season_cos": np.cos(season),
            **{f"is_{name}": (days["weather"] == name).astype(float) for name in sorted(days["weather"].unique())},
        }
    )
    # The last day has no tomorrow.
    return Dataset(
        name="seattle_rain",
        kind="numeric",
        X=features.to_numpy()[:-1],
        y=wet.to_numpy()[1:].astype(np.int64),
        class_names=("dry", "rain"),
        source="PyPI vega_datasets: seattle_weather, 2012 to 2015 (NOAA)",
        licence="package MIT; the records are NOAA's, public domain",
        feature_names=tuple(map(str, features)),
    )
