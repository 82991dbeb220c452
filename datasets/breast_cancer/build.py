"""The numeric rows: read from scikit-learn, which ships them."""

import numpy as np
from sklearn.datasets import load_breast_cancer

from helpers.data import Dataset


def build() -> Dataset:
    bunch = load_breast_cancer()
    # scikit-learn codes benign as 1; a malignant tumour is what has to be found, so it is the positive class here.
    return Dataset(
        name="breast_cancer",
        kind="numeric",
        X=bunch.data,
        y=(bunch.target == list(bunch.target_names).index("malignant")).astype(np.int64),
        class_names=("benign", "malignant"),
        source="scikit-learn, load_breast_cancer: Wisconsin Diagnostic Breast Cancer (1995)",
        licence="CC BY 4.0",
        feature_names=tuple(map(str, bunch.feature_names)),
    )
