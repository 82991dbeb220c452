"""Keras models, or scores alone, where scikit-learn expects a classifier or a transformer.

The gap: ``keras.wrappers.SKLearnClassifier`` has no ``predict_proba`` and rejects a model with one sigmoid unit, so
that neither ``TunedThresholdClassifierCV`` nor ``CalibratedClassifierCV`` can use it; none of Keras's wrappers returns
the activations of a layer; and scikit-learn has no classifier for scores that were computed elsewhere. ``predict``
prepares a data pipeline at each call, and joblib's memory takes the same model for another one once it has been loaded
again.

TensorFlow is imported when a network is fitted or called: scores from a file need none.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from helpers.decisions import check_direction, check_probabilities, log_odds
from helpers.notebook import UserError, first_line

if TYPE_CHECKING:
    import keras

    from helpers.data import Dataset

# Rows of one call: more gain nothing, and the activations of so many fit into little memory.
CHUNK = 8192


class _LogitClassifier(ClassifierMixin, BaseEstimator):
    """Two classes: a decision function in log-odds, and probabilities from it."""

    classes_: NDArray[Any]
    decision_function: Callable[[Any], NDArray[np.floating]]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def predict_proba(self, X: Any) -> NDArray[np.floating]:
        """Return the probabilities of both classes, of shape (n, 2)."""
        positive = expit(self.decision_function(X))
        return np.column_stack([1 - positive, positive])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of each row, the second one from a probability of 0.5 on."""
        labels = (self.decision_function(X) >= 0).astype(int)
        return self.classes_[labels]

    def _check_classes(self, y: NDArray[Any]) -> NDArray[np.int64]:
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if (found := len(self.classes_)) != 2:
            # The first sentence is the one that scikit-learn's estimator checks look for.
            raise ValueError(f"Only binary classification is supported. y needs 2 classes; got {found} class(es).")
        return labels


@dataclass(eq=False, repr=False)
class KerasBinaryClassifier(_LogitClassifier):
    """Fit a Keras model that ends in one logit.

    Parameters
    ----------
    build : callable
        Takes the number of features and returns a compiled model whose output is one logit a row (no sigmoid; compile
        with ``BinaryCrossentropy(from_logits=True)``). A fresh model is built at every fit.
    epochs, batch_size : int
    class_weight : 'balanced', dict or None
        As scikit-learn has it: multiplies the weights of the rows of a class. Probabilities then belong to other base
        rates than those of the data.
    seed : int
        Set before the model is built, for Python, NumPy and TensorFlow.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; the second is the positive class.
    model_ : keras.Model
    n_features_in_ : int
    """

    build: Callable[[int], Any]
    _: KW_ONLY
    epochs: int = 10
    batch_size: int = 32
    class_weight: Any = None
    seed: int = 0

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> KerasBinaryClassifier:
        """Build and fit a fresh model.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Finite numbers; scaling belongs into the model or in a pipeline before it.
        y : array-like of shape (n,)
            Two different labels.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        KerasBinaryClassifier
            Itself.

        Raises
        ------
        ValueError
            Not two classes, weights that are negative or all zero, or a model whose output is not one number a row.
        """
        import keras

        X, y = validate_data(self, X, y, dtype=keras.config.floatx())
        labels = self._check_classes(y)
        weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        weight = weight * compute_sample_weight(self.class_weight, y)
        keras.utils.set_random_seed(self.seed)
        self.model_ = self.build(X.shape[1])
        if self.model_(X[:1]).shape != (1, 1):
            raise ValueError(f"build must return a model with one logit a row; got {self.model_(X[:1]).shape[1:]}.")
        self.model_.fit(X, labels, sample_weight=weight, epochs=self.epochs, batch_size=self.batch_size, verbose=0)
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the logits, of shape (n,)."""
        X = _checked_rows(self, X)
        # Neither `predict` nor a compiled function: cross-validation makes many models, each for one call.
        return np.concatenate([np.asarray(self.model_(X[i : i + CHUNK]))[:, 0] for i in range(0, len(X), CHUNK)])


class ScoreClassifier(_LogitClassifier):
    """Stand for a model of which only the probabilities are known.

    The one feature is the probability that the model gave. With it, scikit-learn's calibration and tuning work on
    scores from a file. A probability of exactly 0 or 1 has no log-odds; it is taken as the most certain one that n rows
    can support, 1 / (2 n) from the end, or as the most certain other score if that is nearer to the end.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    limits_ : tuple of float
        What is used in place of 0 and of 1.

    Examples
    --------
    >>> scores = ScoreClassifier().fit([[0.2], [0.9]], [0, 1])
    >>> scores.predict_proba([[0.75]])
    array([[0.25, 0.75]])
    """

    def fit(self, X: Any, y: Any) -> ScoreClassifier:
        """Note the two labels, and what is used for a probability of exactly 0 or 1."""
        X, y = validate_data(self, X, y)
        prob = check_probabilities(X, "X")
        self._check_classes(y)
        nearest = 1 / (2 * len(prob))
        low, high = np.min(prob[prob > 0], initial=nearest), np.max(prob[prob < 1], initial=1 - nearest)
        self.limits_ = (float(low), float(high))
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the log-odds of the probabilities, of shape (n,)."""
        prob = _checked_rows(self, X)[:, 0]
        return log_odds(np.select([prob == 0, prob == 1], self.limits_, prob))


def given_scores(
    rows: Dataset, score_column: str = "score", model_path: str = "", train: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Return the reader's own probabilities of the positive class: a column of the file, or a saved model's output.

    The gap: a saved model does not say whether its columns stand as in the file, and scikit-learn takes logits,
    percentages and the other class's probabilities without a word. What is no probability of the positive class is
    refused here, before anything is chosen for it. How many scores are exactly 0 or 1 is printed, if there are any:
    they have no log-odds.

    Parameters
    ----------
    rows : Dataset
        Numeric rows of two classes.
    score_column : str
        The column of the probabilities; not looked at if there is a `model_path`.
    model_path : str
        A saved ``.keras`` model; empty: none. With several inputs, each gets the column of its name. With one, it gets
        all columns in the file's order, and a note is printed that says so. A dictionary of outputs must hold
        'probability'.
    train : ndarray of int, optional
        Row numbers. Where there is neither a model nor a column that is named, or whose name speaks of scores or
        probabilities, gradient boosting on these rows gives the probabilities, and a note is printed that says so.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    UserError
        No such column; a model that cannot be loaded or takes other columns; values that are no probabilities
        (`check_probabilities`); scores that rank the other class (`check_direction`); one value for all rows.
    """
    if rows.kind != "numeric":
        raise UserError(f"{rows.name} holds {rows.kind} rows: a table with scores or numeric columns is needed.")
    scored = any(re.search("score|prob", column, flags=re.IGNORECASE) for column in rows.feature_names)
    if train is not None and not (scored or model_path) and score_column == "score":
        print(f"{rows.name} has no scores: gradient boosting on its columns is the model.")
        model = HistGradientBoostingClassifier(random_state=0).fit(rows.X[train], rows.y[train])
        return model.predict_proba(rows.X)[:, 1]
    name = "the output of model_path (columns in its order?)" if model_path else score_column
    try:
        prob = check_probabilities(_model_output(rows, model_path) if model_path else rows.column(score_column), name)
        check_direction(rows.y, prob, (rows.class_names[0], rows.class_names[1]), name)
    except Exception as error:
        raise UserError(first_line(error)) from None
    if np.ptp(prob) == 0:
        raise UserError(f"all scores are {prob[0]:.3g}: there is no threshold to choose.")
    if certain := np.isin(prob, (0, 1)).sum():
        print("scores of exactly 0 or 1:", certain)
    return prob.astype(np.float64)


def _model_output(rows: Dataset, path: str) -> Any:
    import keras

    model = keras.saving.load_model(path)
    if len(model.inputs) > 1:
        X = {tensor.name: rows.column(tensor.name)[:, np.newaxis] for tensor in model.inputs}
    elif (takes := model.inputs[0].shape[-1]) == len(rows.feature_names):
        print("The model keeps no column names; it gets them in the file's order:", ", ".join(rows.feature_names))
        X = rows.X
    else:
        raise ValueError(f"{path} takes {takes} columns; there are: {', '.join(rows.feature_names)}.")
    output = model.predict(X, verbose=0)
    return output.get("probability", output) if isinstance(output, dict) else output


@dataclass(eq=False, repr=False)
class LatentFeatures(TransformerMixin, BaseEstimator):
    """The codes of an autoencoder as features, and how well each row came back.

    The gap: none of Keras's wrappers is a transformer that trains on its own input. No label is seen. The features are
    the output of a layer, and after them the logarithm of the mean squared error of reconstruction. To keep one that
    was trained on other rows, wrap the fitted transformer in scikit-learn's ``FrozenEstimator``. For a file without
    pickle, pass ``feature_model_`` to ``save_bundle`` or to ``serving.export``: it holds all that `transform` does. The
    activations of a model that was trained on labels need no helper:
    ``keras.Model(model.inputs, model.get_layer(name).output)``.

    Parameters
    ----------
    build : callable
        Takes the number of columns and returns a compiled functional or sequential model that returns its input, in
        which one layer has the name `layer`. A fresh model is built at every fit.
    layer : str
        The layer whose output becomes features, of shape (n, k).
    epochs, batch_size : int
    seed : int
        Set before the model is built, for Python, NumPy and TensorFlow.

    Attributes
    ----------
    model_ : keras.Model
        The trained model.
    feature_model_ : keras.Model
        From the columns to the features.
    n_features_in_ : int

    Examples
    --------
    >>> import keras
    >>> def build(n_features):
    ...     layers = [keras.layers.Dense(2, name="latent"), keras.layers.Dense(n_features)]
    ...     model = keras.Sequential([keras.Input((n_features,)), *layers])
    ...     model.compile(optimizer="adam", loss="mse")
    ...     return model
    >>> LatentFeatures(build, epochs=1).fit_transform(np.eye(8)).shape
    (8, 3)
    """

    build: Callable[[int], Any]
    _: KW_ONLY
    layer: str = "latent"
    epochs: int = 20
    batch_size: int = 64
    seed: int = 0

    def fit(self, X: Any, y: Any = None) -> LatentFeatures:
        """Build and train a fresh model.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Finite numbers on one scale: a column of large numbers is all that an autoencoder would learn.
        y : None
            Is ignored.

        Returns
        -------
        LatentFeatures
            Itself.

        Raises
        ------
        ValueError
            No layer of that name, a layer or a model of another shape, or features that are not finite: the training
            diverged.
        """
        import keras

        X = validate_data(self, X, dtype=keras.config.floatx())
        keras.utils.set_random_seed(self.seed)
        self.model_ = self.build(X.shape[1])
        codes = self.model_.get_layer(self.layer).output
        if len(codes.shape) != 2:
            raise ValueError(f"layer {self.layer!r} must give a row of numbers; it gives {tuple(codes.shape)}.")
        if self.model_.output_shape != (shape := (None, X.shape[1])):
            raise ValueError(f"an autoencoder must return its input, {shape}; got {self.model_.output_shape}.")
        squares = keras.ops.square(self.model_.inputs[0] - self.model_.outputs[0])
        log_error = keras.ops.log(keras.ops.mean(squares, axis=1, keepdims=True) + keras.config.epsilon())
        self.feature_model_ = keras.Model(self.model_.inputs[0], keras.ops.concatenate([codes, log_error], axis=1))
        self.model_.fit(X, X, epochs=self.epochs, batch_size=self.batch_size, verbose=0)
        if not np.isfinite(compute_features(self.feature_model_, X)).all():
            raise ValueError("the features are not finite: the training diverged. Scale X, or lower the learning rate.")
        return self

    def transform(self, X: Any) -> NDArray[np.floating]:
        """Return the features, of shape (n, k + 1), the error of reconstruction last."""
        return compute_features(self.feature_model_, _checked_rows(self, X))


def _checked_rows(estimator: Any, X: Any) -> NDArray[np.floating]:
    check_is_fitted(estimator)
    return validate_data(estimator, X, reset=False, dtype=[np.float64, np.float32])


def compute_features(model: keras.Model, X: ArrayLike) -> NDArray[np.floating]:
    """Return what a model gives for many rows: one compiled function, called in large batches.

    The gap: ``predict`` prepares a data pipeline at every call and takes 32 rows at a time; a plain call runs without
    compilation, and keeps the activations of all rows at once.

    Parameters
    ----------
    model : keras.Model
        One input, one output with the batch first. Layers behave as in inference.
    X : array-like of shape (n, ...)

    Returns
    -------
    ndarray of shape (n, ...)

    Raises
    ------
    ValueError
        `X` has another shape than the model takes.

    Examples
    --------
    >>> import keras
    >>> double = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(2.0)])
    >>> compute_features(double, [[1.0], [3.0]]).tolist()
    [[2.0], [6.0]]
    """
    import tensorflow as tf

    spec = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
    rows = np.asarray(X)
    if not spec.shape.is_compatible_with(rows.shape):
        raise ValueError(f"X must have the shape {tuple(spec.shape)}; got {rows.shape}.")
    run = _compiled().get_concrete_function(model, spec)
    starts = range(0, max(len(rows), 1), CHUNK)
    return np.concatenate([run(tf.cast(rows[start : start + CHUNK], spec.dtype)).numpy() for start in starts])


@functools.cache
def _compiled() -> Any:
    """The forward pass; one graph a model is kept for as long as the model is."""
    import tensorflow as tf

    return tf.function(lambda model, batch: model(batch, training=False), autograph=False)


def feature_key(model: keras.Model, X: ArrayLike) -> str:
    """Return the name under which features are kept: 16 hexadecimal digits each for the model and for the data.

    Parameters
    ----------
    model : keras.Model
        Its layers, their names and their weights count; its own name, its optimizer and its file do not. A model that
        is loaded again keeps the names of its layers; one that is built again in the same session gets new ones, and
        another key.
    X : array-like
        Its numbers, their type and their order count.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        `X` holds Python objects.

    Examples
    --------
    >>> import keras
    >>> double = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(2.0)])
    >>> feature_key(double, [[1.0]]) == feature_key(keras.models.clone_model(double), [[1.0]])
    True
    """
    rows = np.ascontiguousarray(X)
    if rows.dtype.hasobject:
        raise ValueError(f"X must hold numbers; got dtype {rows.dtype}.")
    # What an adapted lookup layer has learned is neither in its description nor among the weights.
    every = list(model._flatten_layers())
    tables = [layer.get_vocabulary() for layer in every if hasattr(layer, "get_vocabulary")]
    weights = [np.asarray(layer.idf_weights) for layer in every if getattr(layer, "idf_weights", None) is not None]
    weights += [value.numpy() for value in model.weights]
    described = json.dumps([model.get_config() | {"name": None}, tables], sort_keys=True, default=str)
    return f"{joblib.hash([described, weights])[:16]}-{joblib.hash(rows)[:16]}"


def cached_features(folder: str | Path, model: keras.Model, X: ArrayLike) -> NDArray[np.floating]:
    """Return a model's features for rows: from a Parquet file if there is one, else computed and written.

    The file is named by `feature_key`, so that other weights or another row mean another file, and nothing has to be
    remembered or deleted. Any tool that reads Parquet can read it, a column a feature, the rows in their order. A file
    that is damaged is written anew.

    Parameters
    ----------
    folder : path-like
        Is made if it is missing.
    model : keras.Model
        One input, and one output of shape (n, k).
    X : array-like of shape (n, ...)

    Returns
    -------
    ndarray of shape (n, k)
        The same bits, computed or read.

    Raises
    ------
    ValueError
        An output of another shape; else as in `compute_features` and `feature_key`.
    """
    rows, output = np.asarray(X), model.outputs[0]
    if len(output.shape) != 2:
        raise ValueError(f"the model must give a row of numbers; it gives {tuple(output.shape)}: add a Flatten layer.")
    path = Path(folder).expanduser() / f"{feature_key(model, rows)}.parquet"
    # Missing, or whatever a damaged file does to the reader: the features can be computed.
    with contextlib.suppress(Exception):
        return pd.read_parquet(path).to_numpy().astype(output.dtype)
    features = compute_features(model, rows)
    # Parquet knows no bfloat16; a float32 holds each of its values.
    table = pd.DataFrame(features.astype(np.promote_types(features.dtype, np.float32)))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: another process may be reading, or writing the same.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-", ignore_cleanup_errors=True) as scratch:
        table.add_prefix("feature_").to_parquet(Path(scratch, path.name))
        Path(scratch, path.name).replace(path)
    return features
