"""Chapter 7: out-of-fold features beside ``cross_val_predict``, and a layer's output beside ``predict``.

Called by bench.py; as a script it prints the tables. Each way has to give the numbers of the first one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from helpers.crossval import out_of_fold_features
from helpers.estimators import CHUNK, KerasBinaryClassifier, cached_features, compute_features
from helpers.notebook import ENVIRONMENT

ROWS, COLUMNS, FOLDS = 5_000, 20, 5
SIZES = (10**3, 10**4, 10**5, 10**6)


def network(n_features: int) -> Any:
    """Build a small network that ends in one logit."""
    import keras

    model = keras.Sequential([keras.Input((n_features,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def seconds(calls: Mapping[str, Callable[[], Any]], turns: int = 3) -> dict[str, float]:
    """Return the least time of each way; the ways take turns, after one call of each that starts what they need."""
    expected = next(iter(calls.values()))()
    best = dict.fromkeys(calls, np.inf)
    for turn in range(turns + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            found = call()
            passed = time.perf_counter() - started
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)
            best[name] = min(best[name], passed) if turn else np.inf
    return best


def fold_rows() -> Iterator[str]:
    """Yield the rows of a table: seconds of five fits and predictions."""
    X, y = make_classification(ROWS, COLUMNS, n_informative=8, random_state=0)
    yield f"| {FOLDS} folds of {ROWS:,} × {COLUMNS}, seconds | cross_val_predict | out_of_fold_features | n_jobs=2 |"
    yield "|---|---|---|---|"
    for what, model in {
        "RandomForestClassifier, 100 trees": RandomForestClassifier(100, random_state=0),
        "KerasBinaryClassifier, 20 → 32 → 1, 10 epochs": KerasBinaryClassifier(network),
    }.items():
        calls = {
            "cross_val_predict": partial(cross_val_predict, model, X, y, cv=FOLDS, method="predict_proba"),
            "out_of_fold_features": partial(out_of_fold_features, model, X, y, cv=FOLDS),
            "n_jobs=2": partial(out_of_fold_features, model, X, y, cv=FOLDS, n_jobs=2),
        }
        yield f"| {what} | {' | '.join(f'{passed:.3g}' for passed in seconds(calls, turns=1).values())} |"


def feature_rows() -> Iterator[str]:
    """Yield the rows of a table: milliseconds for few and many rows."""
    model = network(COLUMNS)
    ways = ["predict", f"predict, batch_size={CHUNK}", "compute_features", "cached_features, second call"]
    yield f"| rows of {COLUMNS} columns, milliseconds | {' | '.join(ways)} |"
    yield "|---" * (1 + len(ways)) + "|"
    for n in SIZES:
        X = np.random.default_rng(n).normal(size=(n, COLUMNS)).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            calls = [
                partial(model.predict, X, verbose=0),
                partial(model.predict, X, batch_size=CHUNK, verbose=0),
                partial(compute_features, model, X),
                partial(cached_features, folder, model, X),
            ]
            best = seconds(dict(zip(ways, calls, strict=True)))
        yield f"| {n:,} | {' | '.join(f'{1000 * passed:.3g}' for passed in best.values())} |"


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT | dict(os.environ))
    for row in (*fold_rows(), "", *feature_rows()):
        print(row, flush=True)
