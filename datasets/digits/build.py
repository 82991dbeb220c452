"""Handwritten digits, as numbers: read from scikit-learn, which ships them."""

import numpy as np
from sklearn.datasets import load_digits

from helpers.data import Dataset


def build() -> Dataset:
    bunch = load_digits()
    return Dataset(
        name="digits",
        kind="numeric",
        X=bunch.data / 16,
        y=(bunch.target >= 5).astype(np.int64),
        class_names=("0 to 4", "5 to 9"),
        source="scikit-learn, load_digits: Optical Recognition of Handwritten Digits (1998), its test set",
        licence="CC BY 4.0",
        feature_names=tuple(f"row{row}_column{column}" for row in range(8) for column in range(8)),
    )
