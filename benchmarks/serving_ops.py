"""Lessons 60 and 62: scikit-learn as TensorFlow ops, beside scikit-learn itself and beside a py_function around it.

Called by bench.py; as a script it prints the table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from helpers.notebook import ENVIRONMENT

Array = NDArray[Any]

SIZES = (1, 1_000, 1_000_000)
# Of trees: a walk over a million rows would take a minute.
FEWER = 100_000
TURNS = {1: 40, 1_000: 15}
# Seconds; what takes longer is not repeated.
LONG = 0.7


class Case(NamedTuple):
    """A fitted estimator, its method, and what draws rows for it."""

    what: str
    estimator: Any
    method: str
    draw: Callable[[int], Array]
    largest: int = SIZES[-1]


def numbers(n: int, columns: int = 8) -> Array:
    """Draw rows of numbers."""
    return np.random.default_rng(n).normal(size=(n, columns)) * 3 + 1


def towns(n: int) -> Array:
    """Draw rows of two strings out of ten."""
    known = np.array([f"town {at}" for at in range(10)], dtype=object)
    return known[np.random.default_rng(n).integers(0, 10, (n, 2))]


def cases() -> Iterator[Case]:
    """Yield what is converted, fitted on a little data."""
    X = numbers(3_000)
    score = X[:, 0] * X[:, 1] / 3 + X[:, 2] + np.random.default_rng(0).normal(size=len(X))
    y, few = (score > 2).astype(int), partial(numbers, columns=2)
    logistic = LogisticRegression(max_iter=1000)
    transformer = QuantileTransformer(output_distribution="normal").fit(few(3_000))
    yield Case("QuantileTransformer, normal, 2 columns", transformer, "transform", few)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    yield Case("OneHotEncoder, 2 columns of 10 strings", one_hot.fit(towns(3_000)), "transform", towns)
    yield Case("KMeans, 5 centres, labels", KMeans(5, random_state=0).fit(X), "predict", numbers)
    pipeline = make_pipeline(StandardScaler(), logistic).fit(X, y)
    yield Case("Pipeline: scaler, logistic", pipeline, "predict_proba", numbers)
    model = CalibratedClassifierCV(logistic, method="isotonic").fit(X, y)
    yield Case("CalibratedClassifierCV, 5 × logistic, isotonic", model, "predict_proba", numbers)
    for model, which in (
        (GradientBoostingClassifier(), "100 trees of 8 leaves"),
        (HistGradientBoostingClassifier(), "100 trees of 31 leaves"),
        (RandomForestClassifier(100, random_state=0), "100 trees of about 300 leaves"),
    ):
        yield Case(f"{type(model).__name__}, {which}", model.fit(X, y), "predict_proba", numbers, FEWER)


def ways(case: Case) -> dict[str, Callable[[Array], Callable[[], Any]]]:
    """Return, for each way, what makes a call for rows: each way is given the rows as it takes them."""
    import tensorflow as tf

    from serving.ops import to_tensorflow

    ops, method = to_tensorflow(case.estimator), getattr(case.estimator, case.method)
    strings = isinstance(case.draw(1)[0, 0], str)
    dtype = tf.int32 if case.method == "predict" and isinstance(case.estimator, KMeans) else tf.float64

    def given(tensor: Any) -> Array:
        array = tensor.numpy()
        return np.char.decode(array.astype(bytes), "utf-8").astype(object) if strings else array

    @tf.function(input_signature=[ops.spec], autograph=False)
    def around(X: Any) -> Any:
        return tf.py_function(lambda tensor: method(given(tensor)), [X], dtype)

    compiled = tf.function(getattr(ops, case.method), input_signature=[ops.spec], autograph=False)

    def as_tensor(X: Array) -> Any:
        return tf.constant(X.tolist() if strings else X)

    def of(call: Callable[[Any], Any], convert: Callable[[Array], Any]) -> Callable[[Array], Callable[[], Any]]:
        return lambda X: partial(call, convert(X))

    return {
        "scikit-learn": of(method, lambda X: X),
        "py_function": of(around, as_tensor),
        "ops": of(compiled, as_tensor),
    }


def times(case: Case, n: int, of: dict[str, Callable[[Array], Callable[[], Any]]]) -> dict[str, float]:
    """Time the ways in turns; all must give the same."""
    X = case.draw(n)
    calls = {name: make(X) for name, make in of.items()}
    best = dict.fromkeys(calls, np.inf)
    for turn in range(TURNS.get(n, 4)):
        expected = None
        for name, call in calls.items():
            if turn and best[name] > LONG:
                continue
            started = time.perf_counter()
            answer = call()
            best[name] = min(best[name], time.perf_counter() - started)
            if turn:
                continue
            expected = np.asarray(answer) if expected is None else expected
            if not np.allclose(expected, np.asarray(answer), rtol=1e-9, atol=1e-6, equal_nan=True):
                raise AssertionError(f"{case.what}: scikit-learn and {name} differ.")
    return best


def rows() -> Iterator[str]:
    """Rows of the table: milliseconds of scikit-learn, and the others as multiples of it."""
    sizes = ("1 row", "10³ rows", "10⁶ rows (trees: 10⁵)")
    yield (
        "| "
        + " | ".join(["scikit-learn as ops", *(f"{size}, scikit-learn | py_function | ops" for size in sizes)])
        + " |"
    )
    yield "|---" * (1 + 3 * len(sizes)) + "|"
    for case in cases():
        of, cells = ways(case), [case.what]
        for make in of.values():
            # The first call makes the graph.
            make(case.draw(1))()
        for n in SIZES:
            best = times(case, min(n, case.largest), of)
            base = best["scikit-learn"]
            cells.append(f"{1000 * base:.3g} ms")
            cells += [f"{best[name] / base:.2g}" for name in ("py_function", "ops")]
        yield "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT | dict(os.environ))
    for row in rows():
        print(row, flush=True)
