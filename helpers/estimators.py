"""A Keras model, or its scores alone, where scikit-learn expects a classifier.

The gap: ``keras.wrappers.SKLearnClassifier`` has no ``predict_proba`` and rejects a model with one sigmoid unit, so
that neither ``TunedThresholdClassifierCV`` nor ``CalibratedClassifierCV`` can use it; and scikit-learn has no
classifier for scores that were computed elsewhere. TensorFlow is imported when a Keras model is fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from helpers.decisions import check_probabilities, log_odds

__all__ = ["KerasBinaryClassifier", "ScoreClassifier"]

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
