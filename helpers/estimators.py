"""A Keras model, or its scores alone, where scikit-learn expects a classifier.

The gap: ``keras.wrappers.SKLearnClassifier`` has no ``predict_proba`` and rejects a model with one sigmoid unit, so
that neither ``TunedThresholdClassifierCV`` nor ``CalibratedClassifierCV`` can use it; and scikit-learn has no
classifier for scores that were computed elsewhere. TensorFlow is imported when a Keras model is fitted.

What a layer of a Keras model says of a row, for the next model: trained, computed fast, and kept.

The gap: scikit-learn's transformers know no Keras, Keras knows no ``clone``; ``predict`` builds a pipeline and compiles
anew for each call; and joblib's memory keeps pickles, and takes the same model for another one once it has been loaded
again. Here a key is made of what the numbers depend on, and the file is one that every language reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from helpers.decisions import check_probabilities, log_odds

__all__ = [
    "KerasBinaryClassifier",
    "LatentFeatures",
    "ScoreClassifier",
    "cached_features",
    "compute_features",
    "feature_key",
]

CHUNK = 8192


class _LogitClassifier(ClassifierMixin, BaseEstimator):
    """What both share: a decision function in log-odds, and probabilities from it."""

    classes_: NDArray[Any]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        raise NotImplementedError

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
        if len(self.classes_) != 2:
            # The first sentence is the one that scikit-learn's estimator checks look for.
            raise ValueError(
                "Only binary classification is supported."
                f" y must hold two classes; got {len(self.classes_)} class(es): {self.classes_[:6].tolist()}."
            )
        return labels


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
    seed : int or None
        Set before the model is built; None leaves Keras's state as it is.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; the second is the positive class.
    model_ : keras.Model
    n_features_in_ : int
    """

    def __init__(
        self,
        build: Callable[[int], Any],
        *,
        epochs: int = 10,
        batch_size: int = 32,
        class_weight: Any = None,
        seed: int | None = 0,
    ) -> None:
        self.build = build
        self.epochs = epochs
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.seed = seed

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
        """
        import keras

        X, y = validate_data(self, X, y, dtype=keras.config.floatx())
        labels = self._check_classes(y)
        if self.seed is not None:
            keras.utils.set_random_seed(self.seed)
        self.model_ = self.build(X.shape[1])
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            if not weight.any():
                raise ValueError("sample_weight must not be all zero.")
        if self.class_weight is not None:
            of_class = compute_sample_weight(self.class_weight, y)
            weight = of_class if weight is None else weight * of_class
        self.model_.fit(X, labels, sample_weight=weight, epochs=self.epochs, batch_size=self.batch_size, verbose=0)
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the logits, of shape (n,)."""
        check_is_fitted(self)
        import keras

        X = validate_data(self, X, reset=False, dtype=keras.config.floatx())
        # A direct call in large chunks: `predict` compiles anew for each fresh model, and folds make many.
        chunks = [np.asarray(self.model_(X[start : start + CHUNK]))[:, 0] for start in range(0, len(X), CHUNK)]
        return np.concatenate(chunks)


class ScoreClassifier(_LogitClassifier):
    """Stand for a model of which only the probabilities are known.

    The one feature is the probability that the model gave. With it, scikit-learn's calibration and tuning work on
    scores from a file. A probability of exactly 0 or 1 has no log-odds; it is taken as the most certain one that n rows
    can speak for, 1 / (2 n) from the end, or as the most certain other score if that is nearer to the end.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    limits_ : tuple of float
        What stands for 0 and for 1.

    Examples
    --------
    >>> scores = ScoreClassifier().fit([[0.2], [0.9]], [0, 1])
    >>> scores.predict_proba([[0.75]])
    array([[0.25, 0.75]])
    """

    def fit(self, X: Any, y: Any) -> ScoreClassifier:
        """Note the two labels, and what stands for a probability of exactly 0 or 1."""
        X, y = validate_data(self, X, y)
        if X.shape[1] != 1:
            raise ValueError(f"X must have one column, the probability of the second class; got {X.shape[1]}.")
        prob = check_probabilities(X[:, 0], "X")
        self._check_classes(y)
        nearest = 1 / (2 * len(prob))
        self.limits_ = (
            float(np.min(prob[prob > 0], initial=nearest)),
            float(np.max(prob[prob < 1], initial=1 - nearest)),
        )
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Return the log-odds of the probabilities, of shape (n,)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        prob = X[:, 0]
        return log_odds(np.select([prob == 0, prob == 1], self.limits_, prob))


with warnings.catch_warnings():
    # It asks pandas for an option that pandas has announced to drop.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    import fastparquet


CHUNK = 8192
"""Rows of one call: more gain nothing, and the activations of so many fit into little memory."""
REFERENCES = ("name", "keras_history", "input_layers", "output_layers")
"""Where Keras's description of a model names a layer."""


class LatentFeatures(TransformerMixin, BaseEstimator):
    """A layer of a Keras model as features: the codes of an autoencoder, or the activations of a classifier.

    The gap: none of Keras's wrappers is a transformer. To keep one that was trained on other rows, wrap the fitted
    transformer in scikit-learn's ``FrozenEstimator``. For a file without pickle, hand ``feature_model_`` to
    ``save_bundle`` or `export` like any other Keras model: it holds all that `transform` does.

    Parameters
    ----------
    build : callable
        Takes the number of columns and returns a compiled functional or sequential model with one input, in which one
        layer has the name `layer`. A fresh model is built at every fit.
    layer : str
        The layer whose output becomes the features, of shape (n, k).
    target : {'X', 'y'}
        What the model learns. 'X': its own input, an autoencoder; no label is seen, and one more feature follows the
        k: the logarithm of the mean squared error of reconstruction. 'y': a label; then the features of training rows
        know their labels, and no folds help: each network has axes of its own. Fit it on rows of its own.
    epochs, batch_size : int
    seed : int or None
        Set before the model is built; None leaves Keras's state as it is.

    Attributes
    ----------
    model_ : keras.Model
        The trained model.
    feature_model_ : keras.Model
        From the columns to the features.
    n_features_in_ : int

    Examples
    --------
    >>> def build(n_features):
    ...     layers = [keras.layers.Dense(2, name="latent"), keras.layers.Dense(n_features)]
    ...     model = keras.Sequential([keras.Input((n_features,)), *layers])
    ...     model.compile(optimizer="adam", loss="mse")
    ...     return model
    >>> LatentFeatures(build, epochs=1).fit_transform(np.eye(8)).shape
    (8, 3)
    """

    def __init__(
        self,
        build: Callable[[int], Any],
        *,
        layer: str = "latent",
        target: Literal["X", "y"] = "X",
        epochs: int = 20,
        batch_size: int = 64,
        seed: int | None = 0,
    ) -> None:
        self.build = build
        self.layer = layer
        self.target = target
        self.epochs = epochs
        self.batch_size = batch_size
        self.seed = seed

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.target == "y"
        return tags

    def fit(self, X: Any, y: Any = None) -> LatentFeatures:
        """Build and train a fresh model.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Finite numbers on one scale: a column of large numbers is all that an autoencoder would learn.
        y : array-like of shape (n,), optional
            Numbers; used for target 'y' alone.

        Returns
        -------
        LatentFeatures
            Itself.

        Raises
        ------
        ValueError
            A wrong `target`, no `y` where one is needed, no layer of that name, a layer or a model of another shape,
            or features that are not finite: the training diverged.
        """
        if self.target not in ("X", "y"):
            raise ValueError(f"target must be 'X' or 'y'; got {self.target!r}.")
        if self.target == "y":
            if y is None:
                raise ValueError("target='y' requires y to be passed, but the target y is None.")
            X, wanted = validate_data(self, X, y, dtype=keras.config.floatx(), y_numeric=True)
        else:
            X = wanted = validate_data(self, X, dtype=keras.config.floatx())
        if self.seed is not None:
            keras.utils.set_random_seed(self.seed)
        model = self.build(X.shape[1])
        names = [layer.name for layer in model.layers]
        if self.layer not in names:
            raise ValueError(f"layer {self.layer!r} is not in the model; it has: {', '.join(names)}.")
        if self.target == "X" and model.output_shape != (None, X.shape[1]):
            raise ValueError(
                f"an autoencoder gives back what it gets, rows of {X.shape[1]}; the model gives {model.output_shape}."
            )
        code = model.get_layer(self.layer).output
        if len(code.shape) != 2:
            raise ValueError(f"layer {self.layer!r} must give a row of numbers; it gives {tuple(code.shape)}.")
        model.fit(X, wanted, epochs=self.epochs, batch_size=self.batch_size, verbose=0)
        outputs = code
        if self.target == "X":
            error = keras.ops.mean(keras.ops.square(model.inputs[0] - model.outputs[0]), axis=1, keepdims=True)
            outputs = keras.ops.concatenate([code, keras.ops.log(error + keras.config.epsilon())], axis=1)
        self.model_, self.feature_model_ = model, keras.Model(model.inputs[0], outputs)
        if not np.isfinite(compute_features(self.feature_model_, X)).all():
            raise ValueError("the features are not finite: the training diverged. Scale X, or lower the learning rate.")
        return self

    def transform(self, X: Any) -> NDArray[np.floating]:
        """Return the features, of shape (n, k), or (n, k + 1) with the error of reconstruction last."""
        check_is_fitted(self)
        return compute_features(self.feature_model_, validate_data(self, X, reset=False, dtype=keras.config.floatx()))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the features."""
        check_is_fitted(self)
        width = self.feature_model_.output_shape[1]
        names = [f"{self.layer}{number}" for number in range(width - (self.target == "X"))]
        return np.array(names + ["log_error"] * (self.target == "X"), dtype=object)


def compute_features(model: keras.Model, X: ArrayLike, *, batch_size: int = CHUNK) -> NDArray[np.floating]:
    """Return what a model gives for many rows: one compiled function, called in large batches.

    The gap: ``predict`` prepares a data pipeline at every call and takes 32 rows at a time; a plain call runs without
    compilation, and keeps the activations of all rows at once.

    Parameters
    ----------
    model : keras.Model
        One input, one output with the batch first. Layers behave as in inference.
    X : array-like of shape (n, ...)
    batch_size : int
        Rows of one call.

    Returns
    -------
    ndarray of shape (n, ...)

    Raises
    ------
    ValueError
        `X` has another shape than the model takes.

    Examples
    --------
    >>> double = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(2.0)])
    >>> compute_features(double, [[1.0], [3.0]]).tolist()
    [[2.0], [6.0]]
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1; got {batch_size!r}.")
    spec = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
    rows = np.asarray(X)
    if not spec.shape.is_compatible_with(rows.shape):
        raise ValueError(f"X must have the shape {tuple(spec.shape)}; got {rows.shape}.")
    run = _apply.get_concrete_function(model, spec)
    starts = range(0, max(len(rows), 1), batch_size)
    return np.concatenate([run(tf.cast(rows[start : start + batch_size], spec.dtype)).numpy() for start in starts])


@tf.function(autograph=False)
def _apply(model: keras.Model, batch: tf.Tensor) -> tf.Tensor:
    return model(batch, training=False)


def feature_key(model: keras.Model, X: ArrayLike) -> str:
    """Return the name under which features are kept: 16 hexadecimal digits each for the model and for the data.

    Parameters
    ----------
    model : keras.Model
        Its weights and its layers count, not its name, its optimizer or the file that it came from.
    X : array-like
        Its numbers, their type and their order count.

    Returns
    -------
    str

    Examples
    --------
    >>> double = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(2.0)])
    >>> feature_key(double, [[1.0]]) == feature_key(keras.models.clone_model(double), [[1.0]])
    True
    """
    return "-".join(digest[:16] for digest in (_model_digest(model), _data_digest(np.asarray(X))))


def cached_features(folder: str | os.PathLike[str], model: keras.Model, X: ArrayLike) -> NDArray[np.floating]:
    """Return a model's features for rows: from a Parquet file if there is one, else computed and written.

    The file is named by `feature_key`, so that other weights or another row mean another file, and nothing has to be
    remembered or deleted. Both digests stand in the file whole. A file that is damaged is written anew.

    Parameters
    ----------
    folder : path-like
        Is made if it is missing.
    model : keras.Model
        One input, one output of shape (n, k).
    X : array-like of shape (n, ...)

    Returns
    -------
    ndarray of shape (n, k)
        The same bits, computed or read.

    Raises
    ------
    ValueError
        As in `compute_features`, or the model gives no rows of numbers.
    """
    rows = np.asarray(X)
    marks = {"model": _model_digest(model), "data": _data_digest(rows)}
    path = Path(folder).expanduser() / f"{feature_key(model, rows)}.parquet"
    kept = _read(path, marks, len(rows), model.outputs[0].dtype)
    if kept is not None:
        return kept
    features = compute_features(model, rows)
    if features.ndim != 2:
        raise ValueError(f"features must be rows of numbers, of shape (n, k); the model gives {features.shape}.")
    # The writer has no floats of two bytes, and every one of them is a float of four.
    wide = features.astype(np.float32) if features.dtype.itemsize == 2 else features
    table = pd.DataFrame(wide, columns=[f"feature_{number}" for number in range(features.shape[1])])
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: another process may be reading, or writing the same.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-", ignore_cleanup_errors=True) as scratch:
        partial = Path(scratch, path.name)
        fastparquet.write(os.fspath(partial), table, compression="UNCOMPRESSED", custom_metadata=marks)
        os.replace(partial, path)
    return features


def _read(path: Path, marks: dict[str, str], n_rows: int, dtype: str) -> NDArray[np.floating] | None:
    if not path.is_file():
        return None
    try:
        file = fastparquet.ParquetFile(os.fspath(path))
        if {name: file.key_value_metadata.get(name) for name in marks} != marks:
            return None
        features = file.to_pandas().to_numpy(dtype)
    except Exception:
        # Whatever a damaged file does to the reader, the features can be computed again.
        return None
    return features if len(features) == n_rows else None


def _model_digest(model: keras.Model) -> str:
    described = model.get_config()
    # Keras counts the names of layers up in each process: what counts is which one is meant.
    names: dict[str, str] = {}
    _collect_names(described, names)
    digest = hashlib.sha256(json.dumps(_renamed(described, names), sort_keys=True, default=str).encode())
    # What a lookup has learned is no weight.
    learned = [layer.get_vocabulary() for layer in model._flatten_layers() if hasattr(layer, "get_vocabulary")]
    tables = [layer.idf_weights for layer in model._flatten_layers() if getattr(layer, "idf_weights", None) is not None]
    digest.update(json.dumps(learned, default=str).encode())
    for weight in [*model.weights, *tables]:
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _collect_names(config: Any, names: dict[str, str]) -> None:
    if isinstance(config, dict):
        name = config.get("name")
        if isinstance(name, str):
            names.setdefault(name, f"layer {len(names)}")
        for key, value in config.items():
            # A policy of types has a name, too, and that one counts.
            if key != "dtype":
                _collect_names(value, names)
    elif isinstance(config, list | tuple):
        for value in config:
            _collect_names(value, names)


def _renamed(config: Any, names: dict[str, str], refers: bool = False) -> Any:
    # Only where a layer is meant: an activation may be called as one is.
    if isinstance(config, dict):
        return {
            key: value if key == "dtype" else _renamed(value, names, refers or key in REFERENCES)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [_renamed(value, names, refers) for value in config]
    return names.get(config, config) if refers and isinstance(config, str) else config


def _data_digest(rows: NDArray[Any]) -> str:
    if rows.dtype.hasobject:
        raise ValueError(f"X must hold numbers; got dtype {rows.dtype}.")
    digest = hashlib.sha256(f"{rows.dtype.str}{rows.shape}".encode())
    digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()
