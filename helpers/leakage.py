"""Do features know labels that they should not know?

The gap: a leak and a good feature look the same, a high score in cross-validation; scikit-learn's
``permutation_test_score`` shuffles the labels of features that are there already, which hides what they know. Here the
features are made again from labels drawn by lot, and then nothing can predict those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.utils import _safe_indexing, check_consistent_length

from helpers.folds import Folds, Interval, checked_folds, fold_interval

__all__ = ["LeakageReport", "leakage_report"]

CHANCE = 0.5
"""The AUC of a model that knows nothing, whatever the share of positives is."""


@dataclass(frozen=True)
class LeakageReport:
    """Whether features know labels that they should not know, and what that does to a score. All scores are AUC.

    Attributes
    ----------
    permuted, permuted_shifted : Interval
        With labels that were drawn by lot, over the permutations; the folds of `cv`, and folds that are shifted by
        half. Without a leak both are chance, 0.5; second-hand knowledge, by way of the folds, is largest on the folds
        that made the features, and falls when they are shifted.
    as_used : Interval
        With the true labels: the features made once, the next model scored on folds of them.
    nested : Interval
        With the true labels: the features made anew inside each fold. This is what new rows will get.
    without : Interval
        The next model without these features, on the same folds.
    gain : Interval
        `nested` minus `without`, fold by fold.
    """

    permuted: Interval
    permuted_shifted: Interval
    as_used: Interval
    nested: Interval
    without: Interval
    gain: Interval

    @property
    def knows_labels(self) -> bool:
        """Whether labels drawn by lot are predicted better than by chance, beyond the noise of the permutations."""
        return max(self.permuted.low, self.permuted_shifted.low) > CHANCE

    @property
    def sentence(self) -> str:
        """The verdict."""
        if not self.knows_labels:
            return "No leak found: from these features, labels drawn by lot are not predicted better than by chance."
        worst = max(self.permuted.mean, self.permuted_shifted.mean)
        return (
            f"Leak: labels drawn by lot are predicted with an AUC of {worst:.3f}. Of the {self.as_used.mean:.3f} that"
            f" folds of these features promise, {self.nested.mean:.3f} is left when the features are made inside"
            " each fold."
        )

    def __str__(self) -> str:
        rows = {
            "labels drawn by lot": self.permuted,
            "labels drawn by lot, shifted folds": self.permuted_shifted,
            "true labels, features made once": self.as_used,
            "true labels, features made in each fold": self.nested,
            "true labels, without the features": self.without,
            "gain of the features": self.gain,
        }
        width = max(map(len, rows))
        return "\n".join([*(f"{name:{width}}  {interval}" for name, interval in rows.items()), self.sentence])


def leakage_report(
    features: Callable[..., tuple[ArrayLike, ArrayLike]],
    X: Any,
    y: ArrayLike,
    *,
    estimator: Any,
    cv: int = 5,
    groups: ArrayLike | None = None,
    n_permutations: int = 10,
    seed: int = 0,
) -> LeakageReport:
    """Find out whether a way of making features lets them know labels, by making them from labels drawn by lot.

    The gap: a high score in cross-validation may be a good feature or a leak, and looks the same. Labels that were
    shuffled cannot be predicted from anything: a score above chance is a leak, whatever the procedure is.

    Parameters
    ----------
    features : callable
        ``features(X, y, X_new)`` returns the features of the rows of `X`, as the next model's training would get them,
        and those of `X_new`, for which there are no labels. With `groups` it is called as
        ``features(X, y, X_new, groups)``. It may fit what it likes, but only on what it is given.
    X : array-like or DataFrame of shape (n, n_features)
        Whatever `features` and `estimator` take. The next model gets these columns and the features beside them.
    y : array-like of shape (n,)
        Two classes.
    estimator : scikit-learn classifier
        The next model.
    cv : int
        Folds: of the same kind, and in the same order, as `out_of_fold_features` makes from this number.
    groups : array-like of shape (n,), optional
    n_permutations : int
        At least 3; each makes all features anew.
    seed : int

    Returns
    -------
    LeakageReport

    Raises
    ------
    ValueError
        Not two classes, too few permutations, or features for another number of rows.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    >>> def told(X, y, X_new):
    ...     return y, np.zeros(len(X_new))
    >>> leakage_report(told, X, y, estimator=LogisticRegression(), n_permutations=3).knows_labels
    True
    """
    y = np.asarray(y)
    check_consistent_length(X, y, groups)
    if len(np.unique(y)) != 2:
        raise ValueError(f"y must hold two classes; got {len(np.unique(y))}.")
    if isinstance(n_permutations, bool) or not isinstance(n_permutations, int) or n_permutations < 3:
        raise ValueError(f"n_permutations must be a whole number of at least 3; got {n_permutations!r}.")
    score = get_scorer("roc_auc")

    def made(train: Any, test: Any, labels: NDArray[Any]) -> tuple[Any, Any]:
        """The inputs of the next model for some rows, and for new ones."""
        old, new = _safe_indexing(X, train), _safe_indexing(X, test)
        more = () if groups is None else (np.asarray(groups)[train],)
        found = features(old, labels[train], new, *more)
        return _beside(old, found[0]), _beside(new, found[1])

    def scored(inputs: Any, labels: NDArray[Any], folds: Folds) -> list[float]:
        fitted = ((clone(estimator).fit(_safe_indexing(inputs, train), labels[train]), test) for train, test in folds)
        return [float(score(model, _safe_indexing(inputs, test), labels[test])) for model, test in fitted]

    every, few = np.arange(len(y)), np.arange(2)
    random = np.random.default_rng(seed)
    by_lot: list[list[float]] = []
    for _ in range(n_permutations):
        labels = random.permutation(y)
        folds = checked_folds(cv, X, labels, groups, classifier=True)
        inputs, _ = made(every, few, labels)
        by_lot.append([float(np.mean(scored(inputs, labels, on))) for on in (folds, _shifted(folds, groups))])
    permuted, shifted = (_over_permutations(values) for values in zip(*by_lot, strict=True))
    folds = checked_folds(cv, X, y, groups, classifier=True)
    as_used, without = scored(made(every, few, y)[0], y, folds), scored(X, y, folds)
    nested = []
    for train, test in folds:
        inputs, new = made(train, test, y)
        nested.append(float(score(clone(estimator).fit(inputs, y[train]), new, y[test])))
    return LeakageReport(
        permuted=permuted,
        permuted_shifted=shifted,
        as_used=_within(fold_interval(as_used, folds)),
        nested=_within(fold_interval(nested, folds)),
        without=_within(fold_interval(without, folds)),
        gain=fold_interval(np.subtract(nested, without), folds),
    )


def _over_permutations(values: Any) -> Interval:
    # Permutations are independent, and a test set for each other: no correction. 99 %, as the two verdicts share it.
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    reach = student_t.ppf(0.995, len(values) - 1) * error
    return _within(Interval(float(mean), float(mean - reach), float(mean + reach)))


def _within(score: Interval) -> Interval:
    """An interval of an AUC, which ends at 0 and 1."""
    return Interval(score.mean, max(score.low, 0.0), min(score.high, 1.0))


def _shifted(folds: Folds, groups: ArrayLike | None) -> Folds:
    """Folds each of which holds half of one fold and half of the next."""
    halves = []
    for _, test in folds:
        names = test if groups is None else np.asarray(groups)[test]
        first = np.isin(names, np.unique(names)[::2])
        halves.append((test[first], test[~first]))
    tests = [np.sort(np.concatenate([halves[k - 1][1], halves[k][0]])) for k in range(len(halves))]
    every = np.concatenate(tests)
    return [(np.setdiff1d(every, test), test) for test in tests]


def _beside(X: Any, features: ArrayLike) -> Any:
    columns = np.asarray(features)
    if len(columns) != len(X):
        raise ValueError(f"features must return a row for each of the {len(X)} rows; got {len(columns)}.")
    columns = columns.reshape(len(columns), -1)
    if hasattr(X, "assign"):
        named = {f"feature_{number}": columns[:, number] for number in range(columns.shape[1])}
        taken = [name for name in named if name in X]
        if taken:
            raise ValueError(
                f"X has a column {taken[0]!r} already, which a feature would replace: give it another name."
            )
        return X.assign(**named)
    return np.hstack([X, columns])
