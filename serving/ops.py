"""Fitted scikit-learn parts as TensorFlow ops: what stands before and after a model becomes part of its graph.

The gap: a model server runs a graph and no Python, so ``tf.py_function`` around scikit-learn works in the notebook and
nowhere else; and the converters that exist miss parts or are silently wrong (skl2onnx by 0.178 on isotonic
calibration). `to_tensorflow` converts what it can convert exactly, and refuses everything else by name.

Numbers are computed in float64, whatever dtype comes in, as scikit-learn does for float64 input: float32 distances of
`KMeans` are wrong for most rows once the data lie far from 0. Random forests and `GradientBoosting…` compare in
float32, as scikit-learn does there. What is equal to the bit: scalers, imputers, encoders, uniform quantiles, isotonic
regression, the sums of trees. What is computed by another library's ``exp``, product of matrices or normal quantile
differs in the last digits. Three things differ by more. Distances of `KMeans` are taken from centred data, more exactly
than scikit-learn's: a row halfway between two centres may get the other label. TensorFlow may count numbers below
2.2e-308 (in float32 1.2e-38) as 0. And a one-hot encoder that returns a sparse matrix gives a dense tensor.

Where scikit-learn raises (NaN, infinity, an unknown category), the graph stops with an InvalidArgumentError. Words have
no missing value in a tensor: fill them before fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted

from helpers.notebook import some
from serving.trees import forest_trees, gradient_trees, histogram_trees, in_chunks, leaf_sums

__all__ = ["Ops", "to_tensorflow"]

Array = NDArray[Any]
Method = Callable[[Any], tf.Tensor]

# At a time where it pays: what lies between two ops stays in the processor's cache.
_ROWS = 1 << 15


@dataclass(frozen=True)
class Ops:
    """A fitted scikit-learn estimator as TensorFlow ops: its methods are attributes, as in ``ops.predict(X)``.

    A method takes a tensor of shape (n, `n_features`); or, if the estimator was fitted on a table, a mapping from the
    names of columns to tensors of shape (n,) or (n, 1). It returns a tensor whose first axis is the batch: float64, or
    labels in scikit-learn's dtype. It works in a `tf.function` as well as outside, for every n, also 0.

    Parameters
    ----------
    estimator : str
        The name of the class.
    n_features : int
    columns : dict of str to tf.DType, optional
        The columns that are needed, and what they hold, if the estimator was fitted on a table.
    dtype : tf.DType
        What a tensor in place of a table holds: float64, or string.
    calls : mapping of str to callable
        The methods by name.
    """

    estimator: str
    n_features: int
    columns: dict[str, tf.DType] | None
    dtype: tf.DType
    calls: Mapping[str, Method] = field(repr=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods."""
        return tuple(self.calls)

    @property
    def spec(self) -> tf.TensorSpec | dict[str, tf.TensorSpec]:
        """What the methods take, as the signature of a `tf.function` of any batch size."""
        if self.columns is None:
            return tf.TensorSpec((None, self.n_features), self.dtype)
        return {name: tf.TensorSpec((None,), dtype, name) for name, dtype in self.columns.items()}

    def __getattr__(self, name: str) -> Method:
        if not name.startswith("_") and name in self.calls:
            # Nothing here depends on values, so there is nothing for AutoGraph to rewrite.
            return tf.autograph.experimental.do_not_convert(self.calls[name])
        known = "" if name.startswith("_") else f"{self.estimator} has no {name!r}; it has: {', '.join(self.calls)}"
        raise AttributeError(known or name)


@singledispatch
def to_tensorflow(estimator: Any) -> Ops:
    """Convert a fitted scikit-learn estimator to TensorFlow ops.

    Forests whose trees have more than 64 leaves are converted, too, but take several times as long as in scikit-learn
    from some thousand rows on: they are better served from a second process.

    Parameters
    ----------
    estimator : fitted estimator
        `StandardScaler`, `MinMaxScaler`, `RobustScaler`, `QuantileTransformer`, `OneHotEncoder`, `OrdinalEncoder`,
        `SimpleImputer`, `PCA`, `KMeans`, `LogisticRegression`, `IsotonicRegression`, `CalibratedClassifierCV`,
        `FrozenEstimator`, `RandomForestClassifier` and ``Regressor``, `GradientBoosting…` and `HistGradientBoosting…`
        of both kinds; `Pipeline` and `ColumnTransformer` of these.

    Returns
    -------
    Ops

    Raises
    ------
    TypeError
        There is no exact conversion of this class; a subclass counts as another class.
    ValueError
        The estimator is not fitted, or has an option that is not converted.

    Examples
    --------
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> ops = to_tensorflow(MinMaxScaler().fit([[0.0], [10.0]]))
    >>> ops.methods, ops.transform(tf.constant([[5.0]])).numpy()
    (('transform',), array([[0.5]]))
    """
    raise TypeError(_unknown(estimator))


def _unknown(estimator: Any) -> str:
    name = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
    known = sorted(cls.__name__ for cls in to_tensorflow.registry if cls is not object)
    return f"{name} has no exact conversion to TensorFlow ops; there is one for {', '.join(known)}."


def _converts(*classes: type) -> Callable[[Callable[[Any], Ops]], Callable[[Any], Ops]]:
    def register(convert: Callable[[Any], Ops]) -> Callable[[Any], Ops]:
        def checked(estimator: Any) -> Ops:
            # The dispatch also finds subclasses, whose methods may be others.
            if type(estimator) not in classes:
                raise TypeError(_unknown(estimator))
            try:
                check_is_fitted(estimator)
            except NotFittedError:
                raise ValueError(f"{type(estimator).__name__} is not fitted; fit it before it is converted.") from None
            return convert(estimator)

        for cls in classes:
            to_tensorflow.register(cls, checked)
        return convert

    return register


def _refused(estimator: Any, option: str) -> ValueError:
    return ValueError(f"{type(estimator).__name__} with {option} is not converted to TensorFlow ops.")


# --- the door: what a method is given ----------------------------------------------------------------------------


def _names(estimator: Any) -> list[str] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _ops(estimator: Any, calls: Mapping[str, Method], n_features: int | None = None) -> Ops:
    """Return ops over numbers; each call takes a matrix of float64."""
    n_features = estimator.n_features_in_ if n_features is None else n_features
    names = _names(estimator)
    columns = None if names is None else dict.fromkeys(names, tf.float64)
    return Ops(type(estimator).__name__, n_features, columns, tf.float64, calls)


class _Door:
    """What comes in, checked and cast; messages name the estimator."""

    def __init__(self, estimator: Any, n_features: int | None = None) -> None:
        self.what = type(estimator).__name__
        self.names = _names(estimator)
        self.n_features = estimator.n_features_in_ if n_features is None else n_features

    def columns(self, X: Any, places: Sequence[int] | None = None) -> list[tf.Tensor]:
        """Return some columns, or all, each of shape (n,)."""
        places = range(self.n_features) if places is None else places
        if not isinstance(X, Mapping):
            matrix = self.matrix(X)
            return [matrix[:, place] for place in places]
        if self.names is None:
            raise TypeError(f"{self.what} was fitted without names of columns; give a tensor, not a mapping.")
        for name in self.chosen(places):
            if name not in X:
                raise ValueError(f"{self.what} misses column {name!r}; it got {some(list(map(str, X)))}.")
        return [tf.reshape(tf.convert_to_tensor(X[name]), (-1,)) for name in self.chosen(places)]

    def chosen(self, places: Sequence[int]) -> list[str]:
        """Return the names of some columns."""
        return [(self.names or [])[place] for place in places]

    def matrix(self, X: Any) -> tf.Tensor:
        """Return a tensor of shape (n, features)."""
        X = tf.convert_to_tensor(X)
        if X.shape.rank not in (2, None) or (X.shape.rank == 2 and X.shape[1] not in (self.n_features, None)):
            raise ValueError(f"{self.what} takes shape (n, {self.n_features}); got {tuple(X.shape)}.")
        return tf.ensure_shape(X, (None, self.n_features))

    def numbers(self, X: Any, *, missing: bool = False, infinite: bool = False, dtype: Any = tf.float64) -> tf.Tensor:
        """Return a matrix of `dtype`; refuse what scikit-learn refuses."""
        if isinstance(X, Mapping):
            unknown = [str(name) for name in X if self.names is not None and name not in self.names]
            if unknown:
                raise ValueError(f"{self.what} was fitted without column {unknown[0]!r}.")
            parts = self.columns(X)
            whole = all(part.dtype.is_integer or part.dtype.is_bool for part in parts)
            numbers = tf.stack([self.cast(part, dtype) for part in parts], axis=1)
        else:
            X = self.matrix(X)
            whole = X.dtype.is_integer or X.dtype.is_bool
            numbers = self.cast(X, dtype)
        if whole or infinite:
            return numbers
        if missing:
            return _demand(~tf.reduce_any(tf.math.is_inf(numbers)), f"{self.what}: X holds infinity.", numbers)
        finite = tf.reduce_all(tf.math.is_finite(numbers))
        return _demand(finite, f"{self.what}: X holds NaN or infinity.", numbers)

    def cast(self, x: tf.Tensor, dtype: Any) -> tf.Tensor:
        """Return numbers as `dtype`."""
        if not (x.dtype.is_floating or x.dtype.is_integer or x.dtype.is_bool):
            raise TypeError(f"{self.what} takes numbers; got {x.dtype.name}.")
        return tf.cast(x, dtype)


def _demand(holds: tf.Tensor, sentence: str, result: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(holds, [sentence])]):
        return tf.identity(result)


def _divided(x: tf.Tensor, by: Any) -> tf.Tensor:
    # TensorFlow rewrites a division by a constant to a multiplication, which rounds otherwise; not so this op.
    return tf.math.divide_no_nan(x, _row(by))


def _row(values: Any) -> tf.Tensor:
    return tf.constant(np.asarray(values, np.float64))


def _select(condition: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    # Three times as fast as tf.where, and enough where all three have one shape.
    return tf.compat.v1.where(condition, x, y)


# --- scalers -----------------------------------------------------------------------------------------------------


@_converts(StandardScaler)
def _standard_scaler(scaler: StandardScaler) -> Ops:
    return _scaled(scaler, scaler.mean_ if scaler.with_mean else None, scaler.scale_ if scaler.with_std else None)


@_converts(RobustScaler)
def _robust_scaler(scaler: RobustScaler) -> Ops:
    return _scaled(
        scaler, scaler.center_ if scaler.with_centering else None, scaler.scale_ if scaler.with_scaling else None
    )


def _scaled(scaler: Any, centre: Array | None, scale: Array | None) -> Ops:
    door = _Door(scaler)

    def transform(X: Any) -> tf.Tensor:
        x = door.numbers(X, missing=True)
        x = x if centre is None else x - _row(centre)
        return x if scale is None else _divided(x, scale)

    return _ops(scaler, {"transform": transform})


@_converts(MinMaxScaler)
def _min_max_scaler(scaler: MinMaxScaler) -> Ops:
    door = _Door(scaler)

    def transform(X: Any) -> tf.Tensor:
        x = door.numbers(X, missing=True) * _row(scaler.scale_) + _row(scaler.min_)
        # NaN stays NaN.
        return tf.clip_by_value(x, *map(float, scaler.feature_range)) if scaler.clip else x

    return _ops(scaler, {"transform": transform})


@_converts(QuantileTransformer)
def _quantile_transformer(transformer: QuantileTransformer) -> Ops:
    door, normal = _Door(transformer), transformer.output_distribution == "normal"
    quantiles = np.ascontiguousarray(transformer.quantiles_.T, np.float64)
    n_features, m = quantiles.shape
    table = np.concatenate([_quantile_rows(knots, transformer.references_, normal) for knots in quantiles])
    offsets = (np.arange(n_features, dtype=np.int32) * (m + 1))[:, np.newaxis]
    # scikit-learn's BOUNDS_THRESHOLD, and the finite ends that it gives the normal distribution.
    near = 1e-7
    ends = ndtri(near - np.spacing(1)), ndtri(1 - (near - np.spacing(1)))

    def transform(X: Any) -> tf.Tensor:
        x = door.numbers(X, missing=True)
        at = tf.transpose(tf.searchsorted(quantiles, tf.transpose(x)) + offsets)
        knot, on_knot, slope, left, reference_left, reference = tf.unstack(tf.gather(_row(table), at), axis=-1)
        from_left = slope * (x - left) + reference_left
        from_right = slope * (knot - x) - reference
        # NaN goes through all of this.
        y = _select(x == knot, on_knot, 0.5 * (from_left - from_right))
        if normal:
            y = _select(x + near > quantiles[:, -1], tf.ones_like(y), y)
            y = _select(x - near < quantiles[:, 0], tf.zeros_like(y), y)
            y = tf.clip_by_value(tf.math.ndtri(y), *ends)
        return y

    return _ops(transformer, {"transform": transform})


def _quantile_rows(knots: Array, references: Array, normal: bool) -> Array:
    """Return, for each knot, what interpolation needs on it and to its left, and a row for all that lies above."""
    before = np.maximum(np.arange(len(knots)) - 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = (references - references[before]) / (knots - knots[before])
    # On a knot, scikit-learn's mean of two interpolations is that of the first and the last of equal knots.
    last = np.searchsorted(knots, knots, side="right") - 1
    on_knot = 0.5 * (references[last] + references)
    if not normal:
        on_knot[knots == knots[-1]] = 1
        on_knot[0] = 0
    rows = np.stack([knots, on_knot, slopes, knots[before], references[before], references], axis=1)
    # Where knots are equal, nothing lies between them.
    rows[~np.isfinite(slopes), 2] = 0
    # Below the first knot its reference counts, above the last knot the last one.
    above = [0, references[-1], 0, 0, references[-1], references[-1]]
    return np.vstack([rows, above])


# --- encoders and the imputer ------------------------------------------------------------------------------------


class _Lookup:
    """From values of one column to their places among its categories; what is unknown gets the place after the last.

    Categories are found by bisection: of numbers, or of the fingerprints of words, which are then compared. So time and
    memory do not grow with the number of categories, and there is no table that a server has to initialise.
    """

    def __init__(self, categories: Array, estimator: Any, column: str) -> None:
        self.what, self.column, self.size = type(estimator).__name__, column, len(categories)
        known = categories.tolist()
        words = [isinstance(one, str | bytes) for one in known]
        self.words = all(words)
        if any(words) and not self.words:
            raise ValueError(
                f"{self.what}: column {column} holds words and {known[words.index(False)]}, and no tensor holds both;"
                " fill what is missing with a word before fitting."
            )
        keys = _fingerprints(known).numpy() if self.words else np.asarray(known)
        if keys.dtype.kind not in "biuf":
            raise ValueError(f"{self.what}: column {column} has categories that are neither words nor numbers.")
        # A table of numbers is one of float64; only where that would confuse two categories, of int64.
        large = keys.dtype.kind in "iu" and (np.abs(keys.astype(np.float64)) > 2**53).any()
        self.dtype = tf.string if self.words else tf.int64 if large else tf.float64
        there = np.flatnonzero(~np.isnan(keys))
        self._missing = self.size if len(there) == self.size else int(np.flatnonzero(np.isnan(keys))[0])
        self._order = there[np.argsort(keys[there])]
        self._keys = keys[self._order]
        self._values = [known[at] for at in self._order] if self.words else self._keys
        if (self._keys[1:] == self._keys[:-1]).any():
            raise ValueError(f"{self.what}: column {column} holds two words with one fingerprint.")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        if (x.dtype == tf.string) != self.words:
            kind = "words" if self.words else "numbers"
            raise TypeError(f"{self.what}: column {self.column} holds {kind}; got {x.dtype.name}.")
        if self.words:
            keys = _fingerprints(x)
        else:
            whole = x.dtype.is_integer and self._keys.dtype.kind in "iu"
            keys = x = tf.cast(x, tf.int64 if whole else tf.float64)
        place = tf.fill(tf.shape(x), self.size)
        if len(self._order):
            known = self._keys.astype(keys.dtype.as_numpy_dtype)
            at = tf.minimum(tf.searchsorted(known, keys), len(known) - 1)
            values = tf.constant(self._values if self.words else known)
            found = tf.gather(values, at) == x
            place = _select(found, tf.gather(tf.constant(self._order, tf.int32), at), place)
        if self._missing == self.size or not x.dtype.is_floating:
            return place
        return _select(tf.math.is_nan(x), tf.fill(tf.shape(x), self._missing), place)


def _fingerprints(words: Any) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(words, np.iinfo(np.int64).max)


def _lookups(encoder: Any) -> tuple[list[_Lookup], dict[str, tf.DType] | None, tf.DType]:
    names = _names(encoder) or [str(at) for at in range(encoder.n_features_in_)]
    lookups = [_Lookup(known, encoder, name) for known, name in zip(encoder.categories_, names, strict=True)]
    dtypes = {lookup.dtype for lookup in lookups}
    if _names(encoder) is not None:
        return lookups, dict(zip(names, (lookup.dtype for lookup in lookups), strict=True)), tf.string
    if len(dtypes) > 1 and tf.string in dtypes:
        raise ValueError(
            f"{type(encoder).__name__} has columns of words and of numbers, which no tensor holds together; fit it on a"
            f" table with names of columns."
        )
    return lookups, None, tf.string if tf.string in dtypes else tf.float64


def _grouped(encoder: Any, column: int, size: int, missing: int | None = None) -> Array:
    """Return the code of each category of one column, rare ones grouped as scikit-learn groups them."""
    codes = np.arange(size)
    mapping = encoder._default_to_infrequent_mappings[column] if encoder._infrequent_enabled else None
    if mapping is not None:
        codes[codes != (-1 if missing is None else missing)] = mapping
    return codes


def _finite(x: tf.Tensor, what: str) -> tf.Tensor:
    if not x.dtype.is_floating:
        return x
    return _demand(~tf.reduce_any(tf.math.is_inf(x)), f"{what}: X holds infinity.", x)


def _encoded(encoder: Any, lookups: Sequence[_Lookup], X: Any) -> list[tf.Tensor]:
    """Return the places of the values, a tensor of shape (n,) for each column; refuse what is unknown."""
    door, places = _Door(encoder), []
    for lookup, x in zip(lookups, door.columns(X), strict=True):
        place = lookup(_finite(x, lookup.what))
        if encoder.handle_unknown == "error":
            known = tf.reduce_all(place < lookup.size)
            place = _demand(known, f"{lookup.what}: unknown category in column {lookup.column}.", place)
        places.append(place)
    return places


@_converts(OneHotEncoder)
def _one_hot_encoder(encoder: OneHotEncoder) -> Ops:
    lookups, columns, dtype = _lookups(encoder)
    dropped = encoder._drop_idx_after_grouping
    tables = []
    for column, lookup in enumerate(lookups):
        codes = _grouped(encoder, column, lookup.size)
        rare: Any = encoder._infrequent_indices[column] if encoder._infrequent_enabled else None
        to_rare = rare is not None and encoder.handle_unknown in ("infrequent_if_exist", "warn")
        codes = np.append(codes, codes[rare[0]] if to_rare else -1)
        if dropped is not None and dropped[column] is not None:
            drop = int(dropped[column])
            codes = np.where(codes == drop, -1, codes - (codes > drop))
        tables.append(codes)

    def transform(X: Any) -> tf.Tensor:
        parts = [
            tf.one_hot(tf.gather(tf.constant(codes, tf.int32), place), int(width), dtype=tf.float64)
            for codes, place, width in zip(tables, _encoded(encoder, lookups, X), encoder._n_features_outs, strict=True)
        ]
        return tf.concat(parts, axis=1)

    return Ops("OneHotEncoder", encoder.n_features_in_, columns, dtype, {"transform": transform})


@_converts(OrdinalEncoder)
def _ordinal_encoder(encoder: OrdinalEncoder) -> Ops:
    lookups, columns, dtype = _lookups(encoder)
    tables = []
    for column, lookup in enumerate(lookups):
        missing = encoder._missing_indices.get(column)
        # In the encoder's own dtype, as scikit-learn writes them.
        codes = np.append(_grouped(encoder, column, lookup.size, missing), 0).astype(encoder.dtype)
        if missing is not None:
            codes[missing] = encoder.encoded_missing_value
        if encoder.handle_unknown == "use_encoded_value":
            codes[-1] = encoder.unknown_value
        tables.append(codes.astype(np.float64))

    def transform(X: Any) -> tf.Tensor:
        places = _encoded(encoder, lookups, X)
        return tf.stack(
            [tf.gather(tf.constant(codes), place) for codes, place in zip(tables, places, strict=True)], axis=1
        )

    return Ops("OrdinalEncoder", encoder.n_features_in_, columns, dtype, {"transform": transform})


@_converts(SimpleImputer)
def _simple_imputer(imputer: SimpleImputer) -> Ops:
    door, gap = _Door(imputer), imputer.missing_values
    # A column without any value has NaN for a statistic, and goes.
    keep = np.flatnonzero([imputer.keep_empty_features or one == one for one in imputer.statistics_])
    fill = imputer.statistics_[keep].astype(imputer._fill_dtype)
    words = imputer._fit_dtype.kind == "O"
    if words:
        if not all(isinstance(one, str) for one in fill) or not isinstance(gap, str):
            raise ValueError(
                "SimpleImputer of words is converted only with missing_values a word, such as '', because a tensor of"
                f" strings holds no {gap!r}."
            )
        if imputer.add_indicator:
            raise _refused(imputer, "add_indicator=True over words")
    elif isinstance(gap, str) or gap is None or not np.isscalar(gap):
        raise _refused(imputer, f"missing_values={gap!r}")
    is_nan = not words and np.isnan(gap)
    fill = list(fill) if words else fill.astype(np.float64)
    shown = imputer.indicator_.features_ if imputer.add_indicator else None

    def transform(X: Any) -> tf.Tensor:
        if words:
            x = tf.stack(door.columns(X), axis=1) if isinstance(X, Mapping) else door.matrix(X)
            if x.dtype != tf.string:
                raise TypeError(f"SimpleImputer was fitted on words; got {x.dtype.name}.")
            mask = x == gap
        else:
            x = door.numbers(X, missing=is_nan)
            mask = tf.math.is_nan(x) if is_nan else x == tf.constant(gap, tf.float64)
        kept, gaps = (part if len(keep) == door.n_features else tf.gather(part, keep, axis=1) for part in (x, mask))
        filled = _select(gaps, tf.broadcast_to(fill, tf.shape(kept)), kept)
        if shown is None:
            return filled
        return tf.concat([filled, tf.cast(tf.gather(mask, shown, axis=1), tf.float64)], axis=1)

    ops = _ops(imputer, {"transform": transform})
    if not words:
        return ops
    columns = None if ops.columns is None else dict.fromkeys(ops.columns, tf.string)
    return Ops(ops.estimator, ops.n_features, columns, tf.string, ops.calls)


# --- projections, centres, linear models -------------------------------------------------------------------------


@_converts(PCA)
def _pca(pca: PCA) -> Ops:
    door = _Door(pca)
    offset = np.reshape(pca.mean_, (1, -1)) @ pca.components_.T
    scale = np.sqrt(pca.explained_variance_)
    scale = np.maximum(scale, np.finfo(scale.dtype).eps)

    def transform(X: Any) -> tf.Tensor:
        x = tf.matmul(door.numbers(X), _row(pca.components_.T)) - _row(offset)
        return _divided(x, scale) if pca.whiten else x

    return _ops(pca, {"transform": transform})


@_converts(KMeans)
def _kmeans(kmeans: KMeans) -> Ops:
    door = _Door(kmeans)
    centres = kmeans.cluster_centers_.astype(np.float64)
    middle = centres.mean(axis=0)
    centred = centres - middle
    norms = (centred**2).sum(axis=1)

    def distances(x: tf.Tensor) -> tf.Tensor:
        """Return squared distances, less the square of the row."""
        return tf.matmul(x, _row(-2 * centred.T)) + _row(norms)

    def nearest(x: tf.Tensor) -> tf.Tensor:
        # Cast, for TensorFlow finds places in int64 faster.
        return tf.cast(tf.argmin(distances(x - _row(middle)), axis=1), tf.int32)

    def roots(x: tf.Tensor) -> tf.Tensor:
        x = x - _row(middle)
        return tf.sqrt(tf.maximum(distances(x) + tf.reduce_sum(x * x, axis=1, keepdims=True), 0))

    def predict(X: Any) -> tf.Tensor:
        return in_chunks(nearest, door.numbers(X), _ROWS, tf.TensorSpec((None,), tf.int32))

    def transform(X: Any) -> tf.Tensor:
        return in_chunks(roots, door.numbers(X), _ROWS, tf.TensorSpec((None, len(centres)), tf.float64))

    return _ops(kmeans, {"predict": predict, "transform": transform})


@_converts(LogisticRegression)
def _logistic_regression(model: LogisticRegression) -> Ops:
    door = _Door(model)
    coefficients = np.asarray(model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_)

    def decision_function(X: Any) -> tf.Tensor:
        scores = tf.matmul(door.numbers(X), _row(coefficients.T)) + _row(model.intercept_)
        return _one_column(scores)

    def predict_proba(X: Any) -> tf.Tensor:
        return _probabilities(decision_function(X))

    return _ops(model, _classifier(model, decision_function, predict_proba))


def _probabilities(scores: tf.Tensor) -> tf.Tensor:
    if scores.shape.rank == 2:
        return tf.nn.softmax(scores)
    positive = tf.sigmoid(scores)
    return tf.stack([1 - positive, positive], axis=1)


def _classifier(
    model: Any, decision_function: Method, predict_proba: Method, positive: Callable[..., tf.Tensor] = tf.greater
) -> dict[str, Method]:
    labels = _labels(model)

    def predict(X: Any) -> tf.Tensor:
        scores = decision_function(X)
        if scores.shape.rank == 2:
            return labels(tf.argmax(scores, axis=1))
        return labels(tf.cast(positive(scores, np.float64(0)), tf.int32))

    return {"decision_function": decision_function, "predict_proba": predict_proba, "predict": predict}


def _labels(model: Any) -> Method:
    classes = np.asarray(model.classes_)
    words = [isinstance(one, str) for one in classes.tolist()]
    if any(words) and not all(words):
        raise _refused(model, "classes that are words and numbers")
    if classes.dtype.kind == "O" and not any(words):
        classes = np.asarray(classes.tolist())
    if not all(words) and classes.dtype.kind not in "biuf":
        raise _refused(model, f"classes of dtype {classes.dtype}")
    table = classes.tolist() if all(words) else classes
    return lambda places: tf.gather(tf.constant(table), places)


# --- calibration -------------------------------------------------------------------------------------------------


@_converts(IsotonicRegression)
def _isotonic_regression(model: IsotonicRegression) -> Ops:
    door = _Door(model, 1)
    curve = _isotonic_curve(model)

    def predict(X: Any) -> tf.Tensor:
        if not isinstance(X, Mapping):
            X = tf.convert_to_tensor(X)
            X = X[:, tf.newaxis] if X.shape.rank == 1 else X
        return curve(tf.squeeze(door.numbers(X), axis=1))

    return _ops(model, {"predict": predict, "transform": predict}, 1)


def _isotonic_curve(model: IsotonicRegression) -> Method:
    knots, heights = model.X_thresholds_, model.y_thresholds_
    low, high = knots[0], knots[-1]
    # scikit-learn's float64 starts from the knot to the left, its float32 on a knot from the one before.
    double = knots.dtype == np.float64
    slopes = np.append(np.diff(heights) / np.diff(knots), knots.dtype.type(0))
    table = np.stack([slopes, knots, heights], axis=1)

    def curve(x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, knots.dtype)
        if model.out_of_bounds == "clip":
            x = tf.clip_by_value(x, low, high)
        if len(knots) == 1:
            return tf.cast(tf.fill(tf.shape(x), heights[0]), tf.float64)
        inside = (x >= low) & (x <= high)
        if model.out_of_bounds == "raise":
            x = _demand(tf.reduce_all(inside), "IsotonicRegression: X holds values outside the fitted range.", x)
        after = tf.searchsorted(knots, x, side="right" if double else "left")
        at = tf.clip_by_value(after, 1, len(knots)) - 1
        slope, left, height = tf.unstack(tf.gather(tf.constant(table), at), axis=-1)
        y = slope * (x - left) + height
        if model.out_of_bounds == "nan":
            y = tf.where(inside, y, tf.constant(np.nan, y.dtype))
        return tf.cast(y, tf.float64)

    return curve


@_converts(FrozenEstimator)
def _frozen_estimator(frozen: FrozenEstimator) -> Ops:
    return to_tensorflow(frozen.estimator)


@_converts(CalibratedClassifierCV)
def _calibrated_classifier(model: CalibratedClassifierCV) -> Ops:
    members = [_calibrated_member(member) for member in model.calibrated_classifiers_]
    labels, first = _labels(model), to_tensorflow(model.calibrated_classifiers_[0].estimator)

    def predict_proba(X: Any) -> tf.Tensor:
        total = members[0](X)
        for member in members[1:]:
            total += member(X)
        return _divided(total, len(members))

    def predict(X: Any) -> tf.Tensor:
        return labels(tf.argmax(predict_proba(X), axis=1))

    calls = {"predict_proba": predict_proba, "predict": predict}
    return Ops("CalibratedClassifierCV", first.n_features, first.columns, first.dtype, calls)


def _calibrated_member(member: Any) -> Method:
    """Return the probabilities of one pair of classifier and calibrators."""
    ops, n_classes = to_tensorflow(member.estimator), len(member.classes)
    by_scores = "decision_function" in ops.methods
    places = np.searchsorted(member.classes, member.estimator.classes_) + (n_classes == 2)
    curves = [] if member.method == "temperature" else [_curve(calibrator) for calibrator in member.calibrators]

    def scores(X: Any) -> tf.Tensor:
        """Return what the calibrators take: one column if there are two classes, else one for each."""
        if by_scores:
            found = ops.decision_function(X)
            return found[:, tf.newaxis] if found.shape.rank == 1 else found
        found = ops.predict_proba(X)
        return found[:, 1:] if len(member.estimator.classes_) == 2 else found

    def by_temperature(X: Any) -> tf.Tensor:
        logits = scores(X)
        if logits.shape[1] == 1:
            logits = tf.concat([-logits, logits] if by_scores else [1 - logits, logits], axis=1)
        return tf.nn.softmax(member.calibrators[0].beta_ * _logits(logits))

    def one_by_one(X: Any) -> tf.Tensor:
        found = tf.unstack(scores(X), axis=1)
        columns = [tf.zeros_like(found[0])] * n_classes
        for place, column, curve in zip(places, found, curves, strict=False):
            columns[place] = curve(column)
        if n_classes == 2:
            columns[0] = 1 - columns[1]
            return tf.stack(columns, axis=1)
        total = tf.add_n(columns)
        return tf.stack([tf.where(total != 0, column / total, 1 / n_classes) for column in columns], axis=1)

    def predict_proba(X: Any) -> tf.Tensor:
        found = by_temperature(X) if member.method == "temperature" else one_by_one(X)
        return tf.where((found > 1) & (found <= 1 + 1e-5), np.float64(1), found)

    return predict_proba


def _curve(calibrator: Any) -> Method:
    if isinstance(calibrator, IsotonicRegression):
        return _isotonic_curve(calibrator)
    return lambda x: tf.sigmoid(-(calibrator.a_ * x + calibrator.b_))


def _logits(scores: tf.Tensor) -> tf.Tensor:
    """Return logarithms if all rows are probabilities: scikit-learn decides it from the values."""
    within = tf.reduce_all((scores >= 0) & (scores <= 1))
    # NumPy's isclose.
    to_one = tf.reduce_all(tf.abs(tf.reduce_sum(scores, axis=1) - 1) <= 1e-8 + 1e-5)
    return tf.where(within & to_one, tf.math.log(scores + 1e-12), scores)


# --- trees -------------------------------------------------------------------------------------------------------


@_converts(RandomForestClassifier, RandomForestRegressor)
def _random_forest(forest: Any) -> Ops:
    if forest.n_outputs_ > 1:
        raise _refused(forest, f"{forest.n_outputs_} outputs")
    door, sums = _Door(forest), leaf_sums(forest_trees(forest), tf.float32)
    missing = forest.estimators_[0].__sklearn_tags__().input_tags.allow_nan

    def mean(X: Any) -> tf.Tensor:
        return _divided(sums(door.numbers(X, missing=missing, dtype=tf.float32)), len(forest.estimators_))

    if isinstance(forest, RandomForestRegressor):
        return _ops(forest, {"predict": lambda X: tf.squeeze(mean(X), axis=1)})
    labels = _labels(forest)
    return _ops(forest, {"predict_proba": mean, "predict": lambda X: labels(tf.argmax(mean(X), axis=1))})


@_converts(GradientBoostingClassifier, GradientBoostingRegressor)
def _gradient_boosting(model: Any) -> Ops:
    if model.init_ != "zero" and type(model.init_) not in (DummyClassifier, DummyRegressor):
        raise _refused(model, f"init={type(model.init_).__name__}")
    door, sums = _Door(model), leaf_sums(gradient_trees(model), tf.float32)

    def raw(X: Any) -> tf.Tensor:
        return _one_column(sums(door.numbers(X, dtype=tf.float32)))

    if isinstance(model, GradientBoostingRegressor):
        return _ops(model, {"predict": raw})
    # The exponential loss takes half of the logarithm of the odds as its score.
    factor = 2 if model.loss == "exponential" else 1
    return _ops(model, _classifier(model, raw, lambda X: _probabilities(factor * raw(X)), tf.greater_equal))


@_converts(HistGradientBoostingClassifier, HistGradientBoostingRegressor)
def _hist_gradient_boosting(model: Any) -> Ops:
    if model.is_categorical_ is not None:
        raise _refused(model, "categorical features")
    door, sums = _Door(model), leaf_sums(histogram_trees(model), tf.float64)

    def raw(X: Any) -> tf.Tensor:
        return _one_column(sums(door.numbers(X, infinite=True)))

    if isinstance(model, HistGradientBoostingClassifier):
        return _ops(model, _classifier(model, raw, lambda X: _probabilities(raw(X))))
    # Losses of counts and of positive numbers predict the logarithm of the mean.
    logarithm = model.loss in ("poisson", "gamma")
    return _ops(model, {"predict": (lambda X: tf.exp(raw(X))) if logarithm else raw})


def _one_column(x: tf.Tensor) -> tf.Tensor:
    return tf.squeeze(x, axis=1) if x.shape[1] == 1 else x


# --- compositions ------------------------------------------------------------------------------------------------


@_converts(Pipeline)
def _pipeline(pipeline: Pipeline) -> Ops:
    steps = [to_tensorflow(step) for _, step in pipeline.steps if not _passes(step)]
    if not steps:
        raise _refused(pipeline, "no step that does anything")
    *before, last = steps
    for ops in before:
        if "transform" not in ops.methods:
            raise _refused(pipeline, f"{ops.estimator} before the last step")

    def through(call: Method) -> Method:
        def method(X: Any) -> tf.Tensor:
            for ops in before:
                X = ops.transform(X)
            return call(X)

        return method

    ends = _passes(pipeline.steps[-1][1])
    calls = {name: through(call) for name, call in last.calls.items() if not ends or name == "transform"}
    return Ops("Pipeline", steps[0].n_features, steps[0].columns, steps[0].dtype, calls)


@_converts(ColumnTransformer)
def _column_transformer(transformer: ColumnTransformer) -> Ops:
    door, weights = _Door(transformer), transformer.transformer_weights or {}
    parts, dtypes = [], set()
    columns: dict[str, tf.DType] = {}
    for name, step, _ in transformer.transformers_:
        places = list(transformer._transformer_to_input_indices[name])
        if (isinstance(step, str) and step == "drop") or not places:
            continue
        ops = None if _passes(step) else to_tensorflow(step)
        if ops is not None and "transform" not in ops.methods:
            raise _refused(transformer, f"{ops.estimator}, which has no transform,")
        parts.append((places, ops, weights.get(name)))
        for place in places:
            column = str(place) if door.names is None else door.names[place]
            if ops is not None and ops.columns is not None and column not in ops.columns:
                continue
            dtype = tf.float64 if ops is None else (ops.columns or {}).get(column, ops.dtype)
            if column in columns and tf.string in (dtype, columns[column]) and dtype != columns[column]:
                raise _refused(transformer, f"column {column!r} as words and as numbers")
            columns[column] = dtype
            dtypes.add(dtype)
    if door.names is None and len(dtypes) > 1 and tf.string in dtypes:
        raise ValueError(
            "ColumnTransformer takes words and numbers, and no tensor holds both; fit it on a table with names."
        )

    def transform(X: Any) -> tf.Tensor:
        outputs = []
        for places, ops, weight in parts:
            output = _passed(door, X, places) if ops is None else ops.transform(_part(door, X, places, ops))
            outputs.append(output if weight is None else output * weight)
        if len({output.dtype for output in outputs}) > 1:
            raise TypeError("ColumnTransformer would return words beside numbers, and no tensor holds both.")
        return tf.concat(outputs, axis=1)

    dtype = tf.string if tf.string in dtypes else tf.float64
    named = None if door.names is None else columns
    return Ops("ColumnTransformer", transformer.n_features_in_, named, dtype, {"transform": transform})


def _passes(step: Any) -> bool:
    if isinstance(step, str) or step is None:
        return step in (None, "passthrough")
    # What scikit-learn writes in place of 'passthrough' when it fits.
    return type(step) is FunctionTransformer and step.func is None and not step.validate


def _part(door: _Door, X: Any, places: list[int], ops: Ops) -> Any:
    if not isinstance(X, Mapping):
        return tf.gather(door.matrix(X), places, axis=1)
    needed = [place for place in places if ops.columns is None or (door.names or [])[place] in ops.columns]
    return dict(zip(door.chosen(needed), door.columns(X, needed), strict=True))


def _passed(door: _Door, X: Any, places: list[int]) -> tf.Tensor:
    return tf.stack([door.cast(column, tf.float64) for column in door.columns(X, places)], axis=1)
