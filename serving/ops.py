"""Fitted scikit-learn estimators as TensorFlow ops: pre- and post-processing become part of a model's graph.

The gap: a model server runs a graph and no Python, so ``tf.py_function`` around scikit-learn works in the notebook and
nowhere else; and the converters that exist miss estimators or are silently wrong (skl2onnx by 0.178 on isotonic
calibration). `to_tensorflow` converts what it can convert exactly, and refuses everything else by name.

Numbers are computed in float64, whatever dtype comes in, as scikit-learn does for float64 input: float32 distances of
`KMeans` are wrong for most rows once the data lie far from 0. Random forests and `GradientBoosting…` round their input
to float32, as scikit-learn does there. What is equal to the bit: scalers, imputers, encoders, uniform quantiles,
isotonic regression, the sums of trees. What is computed by another library's ``exp``, product of matrices or normal
quantile differs in the last digits. Three things differ by more. Distances of `KMeans` are taken from centred data,
more exactly than scikit-learn's: a row halfway between two centres may get the other label. TensorFlow may count
numbers below 2.2e-308 (in float32 1.2e-38) as 0. A one-hot encoder that returns a sparse matrix gives a dense tensor.

Two estimators depend on the dtype of the rows by more than the last digits, and follow it: scikit-learn's
`QuantileTransformer` gives float32 rows other tails, and other values at repeated quantiles, than it gives float64
rows; and its `SimpleImputer` compares float32 rows with a float32 mark. An exported signature takes float64. If rows
must come as float32, export ``dataclasses.replace(ops, spec=tf.TensorSpec((None, n), tf.float32))``. In a pipeline, a
`QuantileTransformer` behind another step takes float64 alone. Floats of 16 bits are refused.

Where scikit-learn raises (NaN, infinity, an unknown category), the graph stops with an InvalidArgumentError. Strings
have no missing value in a tensor: fill them before fitting. Encoders compare each row with each category; at a million
rows and thousands of categories that takes gigabytes, so send such tables in parts.

**To add an estimator**, write a function from the fitted estimator to `Ops` in this module and mark it with
`converts`: then `to_tensorflow`, `Pipeline`, `ColumnTransformer` and `serving.export` find it. For one that takes
numbers, `_numeric` checks and casts the input, and each method gets a float64 tensor of shape (n, n_features)::

    @converts(MaxAbsScaler)
    def _max_abs_scaler(scaler: MaxAbsScaler) -> Ops:
        if scaler.clip:
            raise _refused(scaler, "clip=True")
        return _numeric(scaler, {"transform": lambda x: _divided(x, scaler.scale_)}, allow_nan=True)

Use the operations, and the order of operations, of scikit-learn's own method; refuse with `_refused` each option that
you do not convert. Then name the class in the docstring of `to_tensorflow`, add a fitted one to ``NUMERIC`` in
tests/test_ops.py, which holds it to what every conversion promises, and write one test with `assert_same` on values
where the method bends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce, singledispatch
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from scipy.special import ndtri
from sklearn import cluster, decomposition, dummy, ensemble, frozen, impute, isotonic, linear_model, preprocessing
from sklearn.base import is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from helpers.notebook import some
from serving.trees import Array, forest_trees, gradient_trees, histogram_trees, in_chunks, leaf_sums

Method = Callable[[Any], tf.Tensor]
Spec: TypeAlias = tf.TensorSpec | dict[str, tf.TensorSpec]


@dataclass(frozen=True)
class Ops:
    """A fitted scikit-learn estimator as TensorFlow ops: its methods are attributes, as in ``ops.predict(X)``.

    A method takes a tensor of shape (n, n_features); or, if the estimator was fitted on a table, a mapping from the
    names of columns to tensors of shape (n,) or (n, 1). It returns a tensor whose first axis is the batch: float64, or
    labels in scikit-learn's dtype. It works in a `tf.function` as well as outside, for every n, also 0.

    Parameters
    ----------
    estimator : str
        The name of the class.
    spec : tf.TensorSpec or dict of str to tf.TensorSpec
        What the methods take, as the signature of a `tf.function` of any batch size: a matrix; or, if the estimator was
        fitted on a table, the columns that are needed.
    calls : mapping of str to callable
        The methods by name.
    """

    estimator: str
    spec: Spec
    calls: Mapping[str, Method] = field(repr=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods."""
        return tuple(self.calls)

    def __getattr__(self, name: str) -> Method:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self.calls:
            raise AttributeError(f"{self.estimator} has no {name!r}; it has: {', '.join(self.calls)}")
        # Nothing here depends on values, so there is nothing for AutoGraph to rewrite.
        return tf.autograph.experimental.do_not_convert(self.calls[name])


@singledispatch
def to_tensorflow(estimator: Any) -> Ops:
    """Convert a fitted scikit-learn estimator to TensorFlow ops.

    Ensembles of trees are converted, too, but take longer than in scikit-learn from some hundred rows on: a warning
    says so of large ones, which are better served from a second process.

    Parameters
    ----------
    estimator : fitted estimator
        Of one of the classes `StandardScaler`, `MinMaxScaler`, `RobustScaler`, `QuantileTransformer`,
        `FunctionTransformer` (without a function), `OneHotEncoder`, `OrdinalEncoder`, `SimpleImputer`, `PCA`, `KMeans`,
        `LogisticRegression`, `IsotonicRegression`, `CalibratedClassifierCV`, `FrozenEstimator`,
        `RandomForestClassifier`, `RandomForestRegressor`, `GradientBoostingClassifier`, `GradientBoostingRegressor`,
        `HistGradientBoostingClassifier`, `HistGradientBoostingRegressor`; or a `Pipeline` or `ColumnTransformer` of
        these. The module's docstring says how to add one.

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
    name = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
    known = sorted(cls.__name__ for cls in to_tensorflow.registry if cls is not object)
    raise TypeError(f"{name} has no exact conversion to TensorFlow ops; there is one for {', '.join(known)}.")


def converts(*classes: type) -> Callable[[Callable[[Any], Ops]], Callable[[Any], Ops]]:
    """Register a function as the conversion of some classes, for `to_tensorflow`; see the module's docstring.

    Parameters
    ----------
    *classes : type
        The function is called with fitted estimators of exactly these classes.

    Returns
    -------
    callable
        The decorator.
    """

    def register(convert: Callable[[Any], Ops]) -> Callable[[Any], Ops]:
        def checked(estimator: Any) -> Ops:
            # The dispatch also finds subclasses, whose methods may differ.
            if type(estimator) not in classes:
                return to_tensorflow.dispatch(object)(estimator)
            check_is_fitted(estimator)
            return convert(estimator)

        for cls in classes:
            to_tensorflow.register(cls, checked)
        return convert

    return register


def _refused(estimator: Any, option: str) -> ValueError:
    return ValueError(f"{type(estimator).__name__} with {option} is not converted to TensorFlow ops.")


# --- input adapter -----------------------------------------------------------------------------------------------


class _Inputs:
    """Input adapter: checks a tensor or a mapping of columns, and hands out columns, or numbers as a matrix."""

    def __init__(self, estimator: Any) -> None:
        self.what, self.n_features = type(estimator).__name__, getattr(estimator, "n_features_in_", 1)
        self.names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]

    def spec(self, dtypes: Mapping[int, tf.DType]) -> Spec:
        """Return what the methods take, from the dtypes of the columns that are needed."""
        if self.names:
            return {self.names[at]: tf.TensorSpec((None,), dtype, self.names[at]) for at, dtype in dtypes.items()}
        kinds = set(dtypes.values())
        if tf.string in kinds and len(kinds) > 1:
            raise ValueError(f"{self.what} takes strings and numbers, and no tensor holds both; fit it on a DataFrame.")
        return tf.TensorSpec((None, self.n_features), kinds.pop() if len(kinds) == 1 else tf.float64)

    def matrix(self, X: Any) -> tf.Tensor:
        """Return a tensor of shape (n, n_features)."""
        X = tf.convert_to_tensor(X)
        if not X.shape.is_compatible_with((None, self.n_features)):
            raise ValueError(f"{self.what} takes shape (n, {self.n_features}); got {tuple(X.shape)}.")
        return tf.ensure_shape(X, (None, self.n_features))

    def columns(self, X: Any, places: Iterable[int] | None = None) -> list[tf.Tensor]:
        """Return some columns, or all, each of shape (n,)."""
        if not isinstance(X, Mapping):
            X, places = self.matrix(X), range(self.n_features) if places is None else places
            return [X[:, place] for place in places]
        if not self.names:
            raise TypeError(f"{self.what} was fitted without names of columns; give a tensor, not a mapping.")
        if places is None and (unknown := [str(name) for name in X if name not in self.names]):
            raise ValueError(f"{self.what} was fitted without column {unknown[0]!r}.")
        names = self.names if places is None else [self.names[place] for place in places]
        if missing := [name for name in names if name not in X]:
            raise ValueError(f"{self.what} misses column {missing[0]!r}; it got {some(list(map(str, X)))}.")
        columns = [tf.convert_to_tensor(X[name]) for name in names]
        return [tf.reshape(column, tf.shape(column)[:1]) for column in columns]

    def numbers(self, X: Any, dtype: Any = tf.float64, allow_nan: bool = False, allow_inf: bool = False) -> tf.Tensor:
        """Return a matrix of `dtype`, or of the one that scikit-learn keeps; refuse what scikit-learn refuses."""
        parts = self.columns(X) if isinstance(X, Mapping) else [self.matrix(X)]
        for part in parts:
            if not (part.dtype in (tf.float32, tf.float64) or part.dtype.is_integer or part.dtype.is_bool):
                raise TypeError(f"{self.what} takes numbers; got {part.dtype.name}.")
        dtype = dtype or (tf.float32 if {part.dtype for part in parts} == {tf.float32} else tf.float64)
        parts = [tf.cast(part, dtype) for part in parts]
        x = tf.stack(parts, axis=1) if isinstance(X, Mapping) else parts[0]
        return x if allow_inf else _finite(x, self.what, allow_nan=allow_nan)


def _numeric(estimator: Any, calls: Mapping[str, Method], **accepted: Any) -> Ops:
    """Return the ops of an estimator of numbers; its methods take what `_Inputs.numbers` gives with these options."""
    inputs = _Inputs(estimator)
    spec = inputs.spec(dict.fromkeys(range(inputs.n_features), tf.float64))

    def adapted(call: Method) -> Method:
        return lambda X: call(inputs.numbers(X, **accepted))

    return Ops(inputs.what, spec, {name: adapted(call) for name, call in calls.items()})


def _finite(x: tf.Tensor, what: str, *, allow_nan: bool) -> tf.Tensor:
    wrong = tf.math.is_inf(x) if allow_nan else ~tf.math.is_finite(x)
    return _demand(~tf.reduce_any(wrong), f"{what}: X holds {'' if allow_nan else 'NaN or '}infinity.", x)


def _demand(holds: tf.Tensor, message: str, result: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(holds, [message])]):
        return tf.identity(result)


def _constant(values: Any) -> tf.Tensor:
    return tf.constant(np.asarray(values, np.float64))


def _divided(x: tf.Tensor, by: Any) -> tf.Tensor:
    # TensorFlow rewrites a division by a constant to a multiplication, which rounds otherwise; not so this op.
    return tf.math.divide_no_nan(x, _constant(by))


# --- scalers and quantiles ---------------------------------------------------------------------------------------


@converts(preprocessing.StandardScaler, preprocessing.RobustScaler)
def _scaler(scaler: Any) -> Ops:
    # A StandardScaler without centring has means, too; what is not used is None otherwise.
    centre = scaler.center_ if hasattr(scaler, "center_") else scaler.mean_ if scaler.with_mean else None

    def transform(x: tf.Tensor) -> tf.Tensor:
        x = x if centre is None else x - _constant(centre)
        return x if scaler.scale_ is None else _divided(x, scaler.scale_)

    return _numeric(scaler, {"transform": transform}, allow_nan=True)


@converts(preprocessing.MinMaxScaler)
def _min_max_scaler(scaler: preprocessing.MinMaxScaler) -> Ops:
    def transform(x: tf.Tensor) -> tf.Tensor:
        x = x * _constant(scaler.scale_) + _constant(scaler.min_)
        return tf.clip_by_value(x, *map(float, scaler.feature_range)) if scaler.clip else x

    return _numeric(scaler, {"transform": transform}, allow_nan=True)


@converts(preprocessing.QuantileTransformer)
def _quantile_transformer(transformer: preprocessing.QuantileTransformer) -> Ops:
    references, normal = transformer.references_, transformer.output_distribution == "normal"
    # scikit-learn's BOUNDS_THRESHOLD, and the finite ends that it gives the normal distribution.
    near = 1e-7
    ends = ndtri(near - np.spacing(1)), ndtri(1 - (near - np.spacing(1)))

    def column(x: tf.Tensor, knots: Array) -> tf.Tensor:
        # scikit-learn adds in the dtype of the rows, compares and interpolates in float64, and writes over the rows.
        low, wide, high = (tf.cast(one, tf.float64) for one in (x - near, x, x + near))
        backward = _interpolated(-wide, -knots[::-1], -references[::-1])
        y = 0.5 * (_interpolated(wide, knots, references) - backward)
        below, above = (low < knots[0], high > knots[-1]) if normal else (wide == knots[0], wide == knots[-1])
        y = tf.where(below, tf.zeros_like(y), tf.where(above, tf.ones_like(y), y))
        y = tf.cast(tf.cast(y, x.dtype), tf.float64)
        return tf.clip_by_value(tf.math.ndtri(y), *ends) if normal else y

    def transform(x: tf.Tensor) -> tf.Tensor:
        knots = transformer.quantiles_.T.astype(np.float64)
        return tf.stack([column(*pair) for pair in zip(tf.unstack(x, axis=1), knots, strict=True)], axis=1)

    return _numeric(transformer, {"transform": transform}, dtype=None, allow_nan=True)


def _interpolated(x: tf.Tensor, knots: Array, heights: Array, side: str = "right") -> tf.Tensor:
    """Return what NumPy's ``interp`` gives; NaN stays NaN."""
    steps = np.diff(knots)
    slopes = np.diff(heights) / np.where(steps == 0, 1, steps)
    # A row for each number of knots that lie to the left; outside the knots, the curve is flat.
    rows = np.concatenate([[0], slopes, [0]]), np.insert(knots, 0, knots[0]), np.insert(heights, 0, heights[0])
    at = tf.searchsorted(knots, x, side=side)
    slope, left, height = (tf.gather(tf.constant(row, x.dtype), at) for row in rows)
    return slope * (x - left) + height


# --- encoders and the imputer ------------------------------------------------------------------------------------


def _known(encoder: Any, column: str, categories: Array) -> tuple[Array, tf.DType]:
    """Return the categories of one column as TensorFlow can compare them, and the dtype of the column."""
    strings = [isinstance(one, str | bytes) for one in categories.tolist()]
    if all(strings):
        return np.asarray(categories, object), tf.string
    known = np.asarray(categories.tolist()) if categories.dtype == object else categories
    if any(strings) or known.dtype.kind not in "biuf":
        odd = categories.tolist()[strings.index(False)]
        found = f"{type(encoder).__name__}: column {column} holds {'strings and ' if any(strings) else ''}{odd!r}"
        raise ValueError(f"{found}, which no tensor holds; fill what is missing with a string before fitting.")
    # Where float64 would confuse two categories, int64.
    large = known.dtype.kind in "iu" and np.abs(known.astype(np.float64)).max() > 2**53
    return known, tf.int64 if large else tf.float64


def _places(x: tf.Tensor, known: Array, what: str) -> tf.Tensor:
    """Return the places of values among the categories; what is unknown gets the place after the last."""
    if (x.dtype == tf.string) != (known.dtype == object):
        raise TypeError(f"{what} holds {'strings' if known.dtype == object else 'numbers'}; got {x.dtype.name}.")
    if x.dtype == tf.string:
        found = x[:, tf.newaxis] == tf.constant(known.tolist())
    else:
        whole = x.dtype.is_integer and known.dtype.kind in "iu"
        x = tf.cast(x, tf.int64 if whole else tf.float64)[:, tf.newaxis]
        found = x == tf.constant(known, x.dtype)
        if not whole:
            found |= tf.math.is_nan(x) & np.isnan(known)
    return tf.where(tf.reduce_any(found, axis=1), tf.argmax(found, axis=1, output_type=tf.int32), len(known))


def _encoder(encoder: Any, codes: list[Array], finish: Callable[[list[tf.Tensor]], tf.Tensor]) -> Ops:
    """Return the ops of an encoder, from the codes of each column's categories and, last, of what is unknown."""
    inputs = _Inputs(encoder)
    columns = inputs.names or [str(at) for at in range(inputs.n_features)]
    known = [_known(encoder, *pair) for pair in zip(columns, encoder.categories_, strict=True)]

    def transform(X: Any) -> tf.Tensor:
        found = []
        for x, name, (categories, _), table in zip(inputs.columns(X), columns, known, codes, strict=True):
            x = _finite(x, inputs.what, allow_nan=True) if x.dtype.is_floating else x
            place = _places(x, categories, f"{inputs.what}: column {name}")
            if encoder.handle_unknown == "error":
                all_known = tf.reduce_all(place < len(categories))
                place = _demand(all_known, f"{inputs.what}: unknown category in column {name}.", place)
            found.append(tf.gather(tf.constant(table), place))
        return finish(found)

    return Ops(inputs.what, inputs.spec(dict(enumerate(dtype for _, dtype in known))), {"transform": transform})


def _grouped(encoder: Any, column: int, missing: int | None = None) -> Array:
    """Return the code of each category of one column, rare ones grouped as scikit-learn groups them."""
    codes = np.arange(len(encoder.categories_[column]))
    mapping = encoder._default_to_infrequent_mappings[column] if encoder._infrequent_enabled else None
    if mapping is not None:
        codes[codes != (-1 if missing is None else missing)] = mapping
    return codes


@converts(preprocessing.OneHotEncoder)
def _one_hot_encoder(encoder: preprocessing.OneHotEncoder) -> Ops:
    tables, dropped = [], encoder._drop_idx_after_grouping
    for column in range(encoder.n_features_in_):
        codes = _grouped(encoder, column)
        rare: Any = encoder._infrequent_indices[column] if encoder._infrequent_enabled else None
        to_rare = rare is not None and encoder.handle_unknown in ("infrequent_if_exist", "warn")
        codes = np.append(codes, codes[rare[0]] if to_rare else -1)
        if dropped is not None and dropped[column] is not None:
            codes = np.where(codes == dropped[column], -1, codes - (codes > dropped[column]))
        tables.append(codes)

    def one_hot(found: list[tf.Tensor]) -> tf.Tensor:
        widths = map(int, encoder._n_features_outs)
        return tf.concat([tf.one_hot(*pair, dtype=tf.float64) for pair in zip(found, widths, strict=True)], axis=1)

    return _encoder(encoder, tables, one_hot)


@converts(preprocessing.OrdinalEncoder)
def _ordinal_encoder(encoder: preprocessing.OrdinalEncoder) -> Ops:
    tables = []
    for column in range(encoder.n_features_in_):
        missing = encoder._missing_indices.get(column)
        # In the encoder's own dtype, as scikit-learn writes them.
        codes = np.append(_grouped(encoder, column, missing), 0).astype(encoder.dtype)
        if missing is not None:
            codes[missing] = encoder.encoded_missing_value
        if encoder.handle_unknown == "use_encoded_value":
            codes[-1] = encoder.unknown_value
        tables.append(codes.astype(np.float64))
    return _encoder(encoder, tables, lambda found: tf.stack(found, axis=1))


@converts(impute.SimpleImputer)
def _simple_imputer(imputer: impute.SimpleImputer) -> Ops:
    mark, strings, inputs = imputer.missing_values, imputer._fit_dtype.kind == "O", _Inputs(imputer)
    # A column without any value has NaN for a statistic, and goes.
    keep = np.flatnonzero([imputer.keep_empty_features or one == one for one in imputer.statistics_])
    fill = imputer.statistics_[keep].astype(imputer._fill_dtype)
    if strings and (imputer.add_indicator or not all(isinstance(one, str) for one in (mark, *fill))):
        advice = f"missing_values and the fill must be strings, such as '', not {mark!r}, and add_indicator False"
        raise ValueError(f"SimpleImputer was fitted on strings, which no tensor mixes with others: {advice}.")
    is_nan, fill = not strings and np.isnan(mark), fill.tolist() if strings else fill.astype(np.float64)

    def transform(x: tf.Tensor) -> tf.Tensor:
        # A float of Python is compared in the dtype of the rows: float32 holds no 0.1.
        common = tf.string if strings else np.result_type(x.dtype.as_numpy_dtype, mark)
        missing = tf.math.is_nan(x) if is_nan else tf.cast(x, common) == tf.constant(mark, common)
        x = x if strings else tf.cast(x, tf.float64)
        filled = tf.where(tf.gather(missing, keep, axis=1), fill, tf.gather(x, keep, axis=1))
        if not imputer.add_indicator:
            return filled
        indicator = tf.gather(missing, imputer.indicator_.features_, axis=1)
        return tf.concat([filled, tf.cast(indicator, tf.float64)], axis=1)

    if not strings:
        return _numeric(imputer, {"transform": transform}, dtype=None, allow_nan=is_nan)
    spec = inputs.spec(dict.fromkeys(range(inputs.n_features), tf.string))
    return Ops(inputs.what, spec, {"transform": lambda X: transform(tf.stack(inputs.columns(X), axis=1))})


# --- projections, centres, linear models -------------------------------------------------------------------------


@converts(decomposition.PCA)
def _pca(pca: decomposition.PCA) -> Ops:
    offset = np.reshape(pca.mean_, (1, -1)) @ pca.components_.T
    scale = np.maximum(np.sqrt(pca.explained_variance_), np.finfo(pca.explained_variance_.dtype).eps)

    def transform(x: tf.Tensor) -> tf.Tensor:
        x = tf.matmul(x, _constant(pca.components_.T)) - _constant(offset)
        return _divided(x, scale) if pca.whiten else x

    return _numeric(pca, {"transform": transform})


@converts(cluster.KMeans)
def _kmeans(kmeans: cluster.KMeans) -> Ops:
    centres = kmeans.cluster_centers_.astype(np.float64)
    middle = centres.mean(axis=0)
    centred = centres - middle

    def distances(x: tf.Tensor) -> tf.Tensor:
        """Return squared distances, a row for each centre, less the square of the centred row: so more exact."""
        cross = tf.matmul(_constant(-2 * centred), x - _constant(middle), transpose_b=True)
        return cross + _constant((centred**2).sum(axis=1, keepdims=True))

    def transform(x: tf.Tensor) -> tf.Tensor:
        squares = tf.reduce_sum((x - _constant(middle)) ** 2, axis=1)
        return tf.transpose(tf.sqrt(tf.maximum(distances(x) + squares, 0)))

    def nearest(x: tf.Tensor) -> tf.Tensor:
        if len(centres) > 32:
            return tf.argmin(distances(x), axis=0, output_type=tf.int32)
        # argmin takes one element after the other; whole columns go several at a time.
        least, *others = tf.unstack(distances(x), len(centres))
        label = tf.zeros_like(least, tf.int32)
        for at, other in enumerate(others, 1):
            label, least = tf.where(other < least, at, label), tf.minimum(other, least)
        return label

    # In chunks that stay in the processor's cache: all at once, a million rows take twice as long.
    return _numeric(kmeans, {"predict": lambda x: in_chunks(nearest, x, 1 << 15, (), tf.int32), "transform": transform})


@converts(linear_model.LogisticRegression)
def _logistic_regression(model: linear_model.LogisticRegression) -> Ops:
    coefficients = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_

    def scores(x: tf.Tensor) -> tf.Tensor:
        found = tf.matmul(x, _constant(coefficients.T)) + _constant(model.intercept_)
        return tf.squeeze(found, axis=1) if found.shape[1] == 1 else found

    return _numeric(model, _classifier(model, scores))


def _classifier(model: Any, scores: Method, factor: float = 1, positive: Any = tf.greater) -> dict[str, Method]:
    """Return the methods of a classifier by scores: of shape (n,) if there are two classes, else (n, classes)."""
    labels = _labels(model)

    def predict_proba(x: tf.Tensor) -> tf.Tensor:
        found = factor * scores(x)
        if found.shape.rank == 2:
            return tf.nn.softmax(found)
        return tf.stack([1 - tf.sigmoid(found), tf.sigmoid(found)], axis=1)

    def predict(x: tf.Tensor) -> tf.Tensor:
        found = scores(x)
        by_sign = found.shape.rank == 1
        return labels(tf.cast(positive(found, np.float64(0)), tf.int32) if by_sign else tf.argmax(found, axis=1))

    return {"decision_function": scores, "predict_proba": predict_proba, "predict": predict}


def _by_probabilities(model: Any, predict_proba: Method) -> dict[str, Method]:
    """Return the methods of a classifier that takes the label of the greatest probability."""
    labels = _labels(model)
    return {"predict_proba": predict_proba, "predict": lambda x: labels(tf.argmax(predict_proba(x), axis=1))}


def _labels(model: Any) -> Method:
    classes = np.asarray(model.classes_.tolist()) if model.classes_.dtype == object else model.classes_
    return lambda places: tf.gather(tf.constant(classes), places)


# --- calibration -------------------------------------------------------------------------------------------------


@converts(isotonic.IsotonicRegression)
def _isotonic_regression(model: isotonic.IsotonicRegression) -> Ops:
    ops = _numeric(model, {"predict": lambda x: _isotonic_curve(model)(tf.squeeze(x, axis=1))})

    def predict(X: Any) -> tf.Tensor:
        X = tf.convert_to_tensor(X)
        return ops.predict(X[:, tf.newaxis] if X.shape.rank == 1 else X)

    return Ops(ops.estimator, ops.spec, {"predict": predict, "transform": predict})


def _isotonic_curve(model: isotonic.IsotonicRegression) -> Method:
    knots, heights = model.X_thresholds_, model.y_thresholds_
    # scikit-learn's float64 starts from the knot to the left, its float32 on a knot from the one before.
    side = "right" if knots.dtype == np.float64 else "left"

    def curve(x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, knots.dtype)
        inside = (x >= knots[0]) & (x <= knots[-1])
        if len(knots) > 1 and model.out_of_bounds == "raise":
            x = _demand(tf.reduce_all(inside), "IsotonicRegression: X holds values outside the fitted range.", x)
        y = _interpolated(x, knots, heights, side)
        if len(knots) > 1 and model.out_of_bounds == "nan":
            y = tf.where(inside, y, tf.constant(np.nan, y.dtype))
        return tf.cast(y, tf.float64)

    return curve


@converts(frozen.FrozenEstimator)
def _frozen_estimator(estimator: frozen.FrozenEstimator) -> Ops:
    return to_tensorflow(estimator.estimator)


@converts(CalibratedClassifierCV)
def _calibrated_classifier(model: CalibratedClassifierCV) -> Ops:
    ops = [to_tensorflow(member.estimator) for member in model.calibrated_classifiers_]
    members = [_calibrated_member(*pair) for pair in zip(model.calibrated_classifiers_, ops, strict=True)]

    def predict_proba(X: Any) -> tf.Tensor:
        return _divided(sum(member(X) for member in members), len(members))

    return Ops("CalibratedClassifierCV", ops[0].spec, _by_probabilities(model, predict_proba))


def _calibrated_member(member: Any, ops: Ops) -> Method:
    """Return the probabilities of one pair of classifier and calibrators."""
    n_classes, by_scores = len(member.classes), "decision_function" in ops.methods
    places = np.searchsorted(member.classes, member.estimator.classes_) + (n_classes == 2)

    def scores(X: Any) -> tf.Tensor:
        """Return what the calibrators take: one column if there are two classes, else one for each."""
        if by_scores:
            found = ops.decision_function(X)
            return found[:, tf.newaxis] if found.shape.rank == 1 else found
        return ops.predict_proba(X)[:, int(len(member.estimator.classes_) == 2) :]

    def by_temperature(found: tf.Tensor) -> tf.Tensor:
        if found.shape[1] == 1:
            found = tf.concat([-found if by_scores else 1 - found, found], axis=1)
        return tf.nn.softmax(member.calibrators[0].beta_ * _logits(found))

    def one_by_one(found: tf.Tensor) -> tf.Tensor:
        columns = [tf.zeros_like(found[:, 0])] * n_classes
        for place, column, calibrator in zip(places, tf.unstack(found, axis=1), member.calibrators, strict=False):
            columns[place] = _calibrated(calibrator, column)
        if n_classes == 2:
            return tf.stack([1 - columns[1], columns[1]], axis=1)
        total = tf.add_n(columns)
        return tf.stack([tf.where(total != 0, column / total, 1 / n_classes) for column in columns], axis=1)

    def predict_proba(X: Any) -> tf.Tensor:
        found = by_temperature(scores(X)) if member.method == "temperature" else one_by_one(scores(X))
        return tf.where((found > 1) & (found <= 1 + 1e-5), np.float64(1), found)

    return predict_proba


def _calibrated(calibrator: Any, scores: tf.Tensor) -> tf.Tensor:
    if isinstance(calibrator, isotonic.IsotonicRegression):
        return _isotonic_curve(calibrator)(scores)
    return tf.sigmoid(-(calibrator.a_ * scores + calibrator.b_))


def _logits(scores: tf.Tensor) -> tf.Tensor:
    """Return logarithms if all rows are probabilities: scikit-learn decides it from the values."""
    within = tf.reduce_all((scores >= 0) & (scores <= 1))
    # NumPy's isclose.
    to_one = tf.reduce_all(tf.abs(tf.reduce_sum(scores, axis=1) - 1) <= 1e-8 + 1e-5)
    return tf.where(within & to_one, tf.math.log(scores + 1e-12), scores)


# --- trees -------------------------------------------------------------------------------------------------------


@converts(ensemble.RandomForestClassifier, ensemble.RandomForestRegressor)
def _random_forest(forest: Any) -> Ops:
    if forest.n_outputs_ > 1:
        raise _refused(forest, f"{forest.n_outputs_} outputs")
    sums = leaf_sums(forest_trees(forest))

    def mean(x: tf.Tensor) -> tf.Tensor:
        return _divided(sums(x), len(forest.estimators_))

    by_class: Method = lambda x: tf.reshape(mean(x), (-1, forest.n_classes_))  # noqa: E731
    calls = {"predict": mean} if is_regressor(forest) else _by_probabilities(forest, by_class)
    allow_nan = forest.estimators_[0].__sklearn_tags__().input_tags.allow_nan
    return _numeric(forest, calls, dtype=tf.float32, allow_nan=allow_nan)


@converts(ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor)
def _gradient_boosting(model: Any) -> Ops:
    if model.init_ != "zero" and type(model.init_) not in (dummy.DummyClassifier, dummy.DummyRegressor):
        raise _refused(model, f"init={type(model.init_).__name__}")
    raw = leaf_sums(gradient_trees(model))
    # The exponential loss takes half of the logarithm of the odds as its score.
    factor = 2 if model.loss == "exponential" else 1
    calls = {"predict": raw} if is_regressor(model) else _classifier(model, raw, factor, tf.greater_equal)
    return _numeric(model, calls, dtype=tf.float32)


@converts(ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)
def _hist_gradient_boosting(model: Any) -> Ops:
    if model.is_categorical_ is not None:
        advice = "put OneHotEncoder(sparse_output=False) before it in a pipeline and set categorical_features=None"
        raise _refused(model, f"categorical features, whose splits are sets of categories ({advice}),")
    raw = leaf_sums(histogram_trees(model))
    # Losses of counts and of positive numbers predict the logarithm of the mean.
    mean = (lambda x: tf.exp(raw(x))) if model.loss in ("poisson", "gamma") else raw
    calls = {"predict": mean} if is_regressor(model) else _classifier(model, raw)
    return _numeric(model, calls, allow_nan=True, allow_inf=True)


# --- compositions ------------------------------------------------------------------------------------------------


@converts(preprocessing.FunctionTransformer)
def _function_transformer(transformer: preprocessing.FunctionTransformer) -> Ops:
    # What scikit-learn writes in place of 'passthrough' when it fits.
    if transformer.func is not None or transformer.validate:
        raise _refused(transformer, "a function")
    return _numeric(transformer, {"transform": tf.identity}, allow_nan=True, allow_inf=True)


@converts(Pipeline)
def _pipeline(pipeline: Pipeline) -> Ops:
    used = [step for _, step in pipeline.steps if step not in (None, "passthrough")]
    steps = list(map(to_tensorflow, used))
    # At any depth: what it gives for float32 hangs on how each step before it rounds. 10**9 keeps the text whole.
    wide = any("QuantileTransformer" in step.__repr__(10**9) for step in used[1:])
    if not steps:
        raise _refused(pipeline, "no step that does anything")
    # scikit-learn calls transform of every step but the last.
    transforms = [ops.transform for ops in steps[:-1]]

    def through(call: Method) -> Method:
        def called(X: Any) -> tf.Tensor:
            if wide and tf.float32 in [tf.convert_to_tensor(part).dtype for part in tf.nest.flatten(X)]:
                raise ValueError("QuantileTransformer after another step takes float64: fit and ask the Pipeline so.")
            return call(reduce(lambda x, transform: transform(x), transforms, X))

        return called

    ends = pipeline.steps[-1][1] in (None, "passthrough")
    calls = {name: through(call) for name, call in steps[-1].calls.items() if not ends or name == "transform"}
    return Ops("Pipeline", steps[0].spec, calls)


@converts(ColumnTransformer)
def _column_transformer(transformer: ColumnTransformer) -> Ops:
    inputs, weights = _Inputs(transformer), transformer.transformer_weights or {}
    parts: list[tuple[list[int], Ops, float | None]] = []
    dtypes: dict[int, tf.DType] = {}
    for name, step, _ in transformer.transformers_:
        places = list(transformer._transformer_to_input_indices[name])
        if step == "drop" or not places:
            continue
        ops = to_tensorflow(step)
        if isinstance(ops.spec, dict):
            places, specs = [inputs.names.index(column) for column in ops.spec], list(ops.spec.values())
        else:
            specs = [ops.spec] * len(places)
        for place, spec in zip(places, specs, strict=True):
            if dtypes.setdefault(place, spec.dtype) != spec.dtype:
                raise _refused(transformer, f"column {place} as {dtypes[place].name} and as {spec.dtype.name}")
        parts.append((places, ops, weights.get(name)))

    def transform(X: Any) -> tf.Tensor:
        outputs = []
        for places, ops, weight in parts:
            columns = inputs.columns(X, places)
            named = isinstance(ops.spec, dict)
            output = ops.transform(dict(zip(ops.spec, columns, strict=True)) if named else tf.stack(columns, axis=1))
            outputs.append(output if weight is None else output * weight)
        if len({output.dtype for output in outputs}) > 1:
            raise TypeError("ColumnTransformer would return strings beside numbers, and no tensor holds both.")
        return tf.concat(outputs, axis=1)

    return Ops("ColumnTransformer", inputs.spec(dtypes), {"transform": transform})
