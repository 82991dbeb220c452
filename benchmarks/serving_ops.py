"""Chapter 08: scikit-learn as TensorFlow ops, beside scikit-learn itself and beside a py_function around it.

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
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

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


def gaps(n: int) -> Array:
    """Draw rows of numbers, of which a tenth is missing."""
    X = numbers(n)
    return np.where(np.random.default_rng(n).random(X.shape) < 0.1, np.nan, X)


def words(n: int) -> Array:
    """Draw rows of two words out of ten."""
    known = np.array([f"town {at}" for at in range(10)], dtype=object)
    return known[np.random.default_rng(n).integers(0, 10, (n, 2))]


def cases() -> Iterator[Case]:
    """Yield what is converted, fitted on a little data."""
    X = numbers(3_000)
    score = X[:, 0] * X[:, 1] / 3 + X[:, 2] + np.random.default_rng(0).normal(size=len(X))
    binary, three = (score > 2).astype(int), np.digitize(score, [0, 3])
    few, one = partial(numbers, columns=2), partial(numbers, columns=1)
    rounded = lambda n: np.round(numbers(n, 2))  # noqa: E731
    logistic = LogisticRegression(max_iter=1000)
    for scaler in (StandardScaler(), MinMaxScaler(clip=True), RobustScaler()):
        yield Case(f"{type(scaler).__name__}, 8 columns", scaler.fit(X), "transform", numbers)
    for distribution in ("uniform", "normal"):
        transformer = QuantileTransformer(output_distribution=distribution).fit(few(3_000))
        yield Case(f"QuantileTransformer, {distribution}, 2 columns", transformer, "transform", few)
    yield Case("SimpleImputer, 8 columns", SimpleImputer().fit(gaps(3_000)), "transform", gaps)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    yield Case("OneHotEncoder, 2 columns of 10 words", one_hot.fit(words(3_000)), "transform", words)
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    yield Case("OrdinalEncoder, 2 columns of words", ordinal.fit(words(3_000)), "transform", words)
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    yield Case("OrdinalEncoder, 2 columns of numbers", ordinal.fit(rounded(3_000)), "transform", rounded)
    yield Case("PCA, 8 columns to 3", PCA(3).fit(X), "transform", numbers)
    kmeans = KMeans(5, random_state=0).fit(X)
    yield Case("KMeans, 5 centres, labels", kmeans, "predict", numbers)
    yield Case("KMeans, 5 centres, distances", kmeans, "transform", numbers)
    yield Case("LogisticRegression, 2 classes", logistic.fit(X, binary), "predict_proba", numbers)
    yield Case("LogisticRegression, 3 classes", LogisticRegression().fit(X, three), "predict_proba", numbers)
    curve = IsotonicRegression(out_of_bounds="clip").fit(X[:, 0], binary)
    yield Case("IsotonicRegression", curve, "predict", one)
    for method in ("sigmoid", "isotonic", "temperature"):
        model = CalibratedClassifierCV(logistic, method=method).fit(X, binary)
        yield Case(f"CalibratedClassifierCV, 5 × logistic, {method}", model, "predict_proba", numbers)
    chain = make_pipeline(SimpleImputer(), StandardScaler(), PCA(3), LogisticRegression()).fit(X, binary)
    yield Case("Pipeline: imputer, scaler, PCA, logistic", chain, "predict_proba", gaps)
    for model, which in (
        (GradientBoostingClassifier(), "100 trees of 8 leaves"),
        (HistGradientBoostingClassifier(), "100 trees of 31 leaves"),
        (RandomForestClassifier(100, max_depth=6, random_state=0), "100 trees of up to 64 leaves"),
        (RandomForestClassifier(100, random_state=0), "100 trees of about 300 leaves"),
    ):
        yield Case(f"{type(model).__name__}, {which}", model.fit(X, binary), "predict_proba", numbers, FEWER)


def ways(case: Case) -> dict[str, Callable[[Array], Callable[[], Any]]]:
    """Return, for each way, what makes a call for rows: each way is given the rows as it takes them."""
    import tensorflow as tf

    from serving.ops import to_tensorflow

    ops, method = to_tensorflow(case.estimator), getattr(case.estimator, case.method)
    dtype = tf.int32 if case.method == "predict" and isinstance(case.estimator, KMeans) else tf.float64

    def given(tensor: Any) -> Array:
        array = tensor.numpy()
        return np.char.decode(array.astype(bytes), "utf-8").astype(object) if ops.dtype == tf.string else array

    @tf.function(input_signature=[ops.spec], autograph=False)
    def around(X: Any) -> Any:
        return tf.py_function(lambda tensor: method(given(tensor)), [X], dtype)

    compiled = tf.function(getattr(ops, case.method), input_signature=[ops.spec], autograph=False)

    def as_tensor(X: Array) -> Any:
        return tf.constant(X.tolist() if ops.dtype == tf.string else X)

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
    cells = ["a call that does nothing"]
    cells += ["–", *(f"{1000 * passed:.2g} ms" for passed in calls_alone()), *["–"] * 6]
    yield "| " + " | ".join(cells) + " |"


def calls_alone() -> tuple[float, float]:
    """Return what a py_function and a graph cost that hand back their argument: no conversion can be faster."""
    import tensorflow as tf

    spec = tf.TensorSpec((None, 8), tf.float64)
    around = tf.function(
        lambda X: tf.py_function(lambda x: x, [X], tf.float64), input_signature=[spec], autograph=False
    )
    graph = tf.function(lambda X: X + 0, input_signature=[spec], autograph=False)
    X, found = tf.constant(numbers(1)), [np.inf, np.inf]
    for _ in range(100):
        for at, call in enumerate((around, graph)):
            started = time.perf_counter()
            call(X)
            found[at] = min(found[at], time.perf_counter() - started)
    return found[0], found[1]


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT | dict(os.environ))
    for row in rows():
        print(row, flush=True)
