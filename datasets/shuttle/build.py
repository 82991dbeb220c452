"""Sensor readings of a space shuttle: the table that make.py has made, beside this file."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import Dataset


def build() -> Dataset:
    table = pd.read_csv(Path(__file__).with_name("shuttle.csv.gz"))
    features = table.drop(columns="anomaly")
    return Dataset(
        name="shuttle",
        kind="numeric",
        X=features.to_numpy(np.float64),
        y=table["anomaly"].to_numpy(np.int64),
        class_names=("normal", "anomaly"),
        source="PyPI river 0.26.1: Statlog (Shuttle), NASA, 1990, as a question of two classes",
        licence="CC BY 4.0",
        feature_names=tuple(map(str, features)),
    )
