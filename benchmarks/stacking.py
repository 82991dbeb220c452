"""Chapter 09: out-of-fold features beside ``cross_val_predict``, and a layer's output beside ``predict``.

Called by bench.py; as a script it prints the tables.
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from helpers.crossval import out_of_fold_features
from helpers.estimators import KerasBinaryClassifier
from helpers.notebook import ENVIRONMENT

Array = NDArray[Any]
Calls = dict[str, Callable[[], Any]]

ROWS, COLUMNS, FOLDS = 5_000, 20, 5
CHUNK = 8192
TURNS = {10**3: 30, 10**4: 10, 10**5: 4, 10**6: 4}
# Seconds; of the ways to features, what takes longer is not repeated.
LONG = 5


def network(n_features: int) -> Any:
    """Build a small network that ends in one logit."""
    import keras

    layers = [keras.Input((n_features,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def encoder() -> Any:
    """Return the first half of a small autoencoder, untrained: the time does not depend on the weights."""
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((COLUMNS,))
    latent = keras.layers.Dense(8, name="latent")(keras.layers.Dense(64, "relu")(x))
    autoencoder = keras.Model(x, keras.layers.Dense(COLUMNS)(keras.layers.Dense(64, "relu")(latent)))
    return keras.Model(autoencoder.inputs[0], autoencoder.get_layer("latent").output)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of one call, and its result."""
    started = time.perf_counter()
    answer = call()
    return time.perf_counter() - started, answer


def in_turns(calls: Calls, turns: int, same: Callable[[str, Any], bool], long: float = np.inf) -> dict[str, float]:
    """Return the least time of each way; what takes longer than `long` is not repeated."""
    best = dict.fromkeys(calls, np.inf)
    for turn in range(turns):
        for name, call in calls.items():
            if turn and best[name] > long:
                continue
            passed, answer = timed(call)
            best[name] = min(best[name], passed)
            if not same(name, answer):
                raise AssertionError(f"{name} gives other numbers.")
    return best


def fold_ways(model: Any, X: Array, y: Array) -> Calls:
    """Return what is compared; the ratios are to the first one."""

    def theirs(n_jobs: int) -> Array:
        found: Array = cross_val_predict(model, X, y, cv=FOLDS, method="predict_proba", n_jobs=n_jobs)
        return found

    def ours(n_jobs: int) -> Array:
        found: Array = out_of_fold_features(model, X, y, cv=FOLDS, n_jobs=n_jobs)
        return found

    return {
        "cross_val_predict": lambda: theirs(1),
        "cross_val_predict, n_jobs=2": lambda: theirs(2),
        "out_of_fold_features": lambda: ours(1),
        "out_of_fold_features, n_jobs=2": lambda: ours(2),
    }


def same_folds(name: str, answer: Any, expected: Array) -> bool:
    """Compare with the first answer: the same bits, whoever computed them, and in whatever process."""
    return np.array_equal(answer, expected)


def fold_rows(turns: int = 2) -> Iterator[str]:
    """Yield the rows of a table: seconds of five fits and predictions, without the fit for new rows.

    The last column is a first call, which starts the workers and imports scikit-learn or TensorFlow in each of them;
    all other calls find them warm. joblib gives a worker one core: a model with threads of its own has one there.
    """
    X, y = make_classification(ROWS, COLUMNS, n_informative=8, random_state=0)
    # The network comes last: once Keras is imported here, each worker imports it too, whatever it fits.
    models = {
        "RandomForestClassifier, 100 trees, n_jobs=1": RandomForestClassifier(100, n_jobs=1, random_state=0),
        "HistGradientBoostingClassifier, with its own threads": HistGradientBoostingClassifier(random_state=0),
        "KerasBinaryClassifier, 20 → 32 → 1, 10 epochs": KerasBinaryClassifier(network, epochs=10),
    }
    names = list(fold_ways(None, X, y))
    yield f"| {FOLDS} folds of {ROWS:,} × {COLUMNS}, seconds | {' | '.join(names)} | its first call |"
    yield "|---" * (2 + len(names)) + "|"
    for what, model in models.items():
        if isinstance(model, KerasBinaryClassifier):
            # The import in this process is no part of any way.
            network(COLUMNS)
        calls = fold_ways(model, X, y)
        get_reusable_executor().shutdown(wait=True)
        cold, expected = timed(calls[names[-1]])
        best = in_turns(calls, turns, partial(same_folds, expected=expected))
        best["cold"] = cold
        cells = [f"{passed:.3g} ({passed / best[names[0]]:.2g})" for passed in best.values()]
        yield f"| {what} | {' | '.join(cells)} |"


def feature_ways(model: Any, X: Array, folder: Path) -> Calls:
    """Return what is compared; the ratios are to the first one."""
    from helpers.estimators import cached_features, compute_features, feature_key

    # No folder twice: each call has to compute and write.
    fresh = (folder / f"first {number}" for number in itertools.count())
    starts = range(0, len(X), CHUNK)
    return {
        "predict": lambda: model.predict(X, verbose=0),
        "predict, batch_size=8192": lambda: model.predict(X, batch_size=CHUNK, verbose=0),
        "model(x), chunks of 8192": lambda: np.concatenate([np.asarray(model(X[at : at + CHUNK])) for at in starts]),
        "compute_features": lambda: compute_features(model, X),
        "cached_features, first call: computes and writes": lambda: cached_features(next(fresh), model, X),
        "cached_features, second call: reads": lambda: cached_features(folder / "second", model, X),
        "feature_key alone: hashes the model and the rows": lambda: feature_key(model, X),
    }


def same_features(name: str, answer: Any, expected: Array) -> bool:
    """Compare with compute_features: what it or the cache gives has to be the same bits."""
    if name.startswith("feature_key"):
        return True
    if name.startswith(("compute_features", "cached_features")):
        return np.array_equal(answer, expected)
    return np.allclose(answer, expected, atol=1e-5)


def feature_rows() -> Iterator[str]:
    """Yield the rows of a table: milliseconds for more and more rows, and the share of one `feature_key`."""
    model, columns = encoder(), []
    for n, turns in TURNS.items():
        X = np.random.default_rng(n).normal(size=(n, COLUMNS)).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            calls = feature_ways(model, X, Path(folder))
            # Of the calls that read, the first one writes.
            expected = calls["cached_features, second call: reads"]()
            columns.append(in_turns(calls, turns, partial(same_features, expected=expected), LONG))
    sizes = " | ".join(f"10^{round(math.log10(n))} rows" for n in TURNS)
    yield f"| {COLUMNS} columns → 64 → 8, milliseconds | {sizes} |"
    yield "|---" * (1 + len(TURNS)) + "|"
    for name in columns[0]:
        cells = [f"{_shown(best[name])} ({best[name] / best['predict']:.2g})" for best in columns]
        yield f"| {name} | {' | '.join(cells)} |"
    *_, read, key = columns[0]
    cells = [f"{best[key] / best[read]:.0%}" for best in columns]
    yield f"| one feature_key, share of the second call | {' | '.join(cells)} |"


def _shown(duration: float) -> str:
    return f"{1000 * duration:,.0f}" if duration >= 1 else f"{1000 * duration:.3g}"


def rows() -> Iterator[str]:
    """Yield the rows of both tables."""
    yield from fold_rows()
    yield ""
    yield from feature_rows()


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT | dict(os.environ))
    for row in rows():
        print(row, flush=True)
