"""One photograph of nuclei under a fluorescence microscope, and the nuclei that a person has outlined."""

from pathlib import Path

import numpy as np
from PIL import Image

from helpers.data import Dataset

HERE = Path(__file__).parent


def build() -> Dataset:
    with Image.open(HERE / "image.png") as image, Image.open(HERE / "mask.png") as mask:
        X, labels = np.asarray(image), np.asarray(mask)
    # The source leaves out some numbers.
    _, y = np.unique(labels, return_inverse=True)
    return Dataset(
        name="nuclei",
        kind="mask",
        X=X[np.newaxis, ..., np.newaxis],
        y=y.reshape(1, *X.shape).astype(np.int32),
        class_names=("background", "nucleus"),
        source="stardist 0.9.2 (PyPI), from the 2018 Data Science Bowl, BBBC038",
        licence="CC0 1.0",
    )
