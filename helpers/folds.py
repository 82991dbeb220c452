"""Folds to compare models on, and the interval that such a comparison deserves.

The gap: scikit-learn has no repeated folds that keep groups whole, and no interval over folds. The usual one, the
standard error of the scores, takes them as independent; they share most of their training rows, and it is far too
narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold, check_cv

__all__ = ["Folds", "Interval", "checked_folds", "fold_count", "fold_interval", "repeated_folds"]

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


class Interval(NamedTuple):
    """A mean over folds, and the limits between which it would lie on other data of the kind.

    Attributes
    ----------
    mean, low, high : float
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:z.3f} ({self.low:z.3f} to {self.high:z.3f})"


def repeated_folds(
    y: ArrayLike, groups: ArrayLike | None = None, *, n_splits: int = 5, n_repeats: int = 1, seed: int = 0
) -> Folds:
    """Return shuffled folds, both classes in the same proportion, groups whole where there are any.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels.
    groups : array-like of shape (n,), optional
        Rows of one group go to one side.
    n_splits : int
        Folds in one repetition, at least 2.
    n_repeats : int
        Repetitions, each shuffled anew, at least 1.
    seed : int
        The same seed gives the same folds.

    Returns
    -------
    list of (train, test)
        ``n_splits * n_repeats`` pairs of row numbers; what scikit-learn takes as ``cv``.

    Raises
    ------
    ValueError
        A number is too small, or a class has fewer rows (or groups) than there are folds.

    Examples
    --------
    >>> folds = repeated_folds([0, 0, 1, 1], n_splits=2, n_repeats=3)
    >>> len(folds)
    6
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise ValueError(f"y must have shape (n,); got {y.shape}.")
    for name, value, least in (("n_splits", n_splits, 2), ("n_repeats", n_repeats, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    if groups is not None and len(np.asarray(groups)) != len(y):
        raise ValueError(f"groups must have a value for each of the {len(y)} rows; got {len(np.asarray(groups))}.")
    names, labels = np.unique(y, return_inverse=True)
    units = "rows" if groups is None else "groups"
    for name, label in zip(names.tolist(), range(len(names)), strict=True):
        rows = labels == label
        found = int(rows.sum()) if groups is None else len(np.unique(np.asarray(groups)[rows]))
        if found < n_splits:
            raise ValueError(f"class {name!r} has {found} {units}: too few for {n_splits} folds.")
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    seeds = np.random.SeedSequence(seed).generate_state(n_repeats)
    return [
        fold
        for repeat in seeds.tolist()
        for fold in splitter(n_splits, shuffle=True, random_state=repeat).split(np.zeros(len(y)), labels, groups)
    ]


def fold_count(y: ArrayLike, groups: ArrayLike | None = None, *, most: int = 5) -> int:
    """Return how many folds a table allows: three rows (or groups) of each class in each, but two folds at least.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels.
    groups : array-like of shape (n,), optional
    most : int
        No more than these.

    Returns
    -------
    int

    Examples
    --------
    >>> fold_count([0] * 50 + [1] * 10)
    3
    """
    labels = np.asarray(y)
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    fewest = min(len(np.unique(units[labels == name])) for name in np.unique(labels))
    return max(2, min(most, fewest // 3))


def fold_interval(values: ArrayLike, folds: Sequence[tuple[Any, Any]], *, confidence: float = 0.95) -> Interval:
    """Return the mean of scores over folds with its corrected interval (Nadeau and Bengio 2003).

    The training sets of two folds overlap, so that their scores agree more than those of two independent experiments
    would. The variance of the mean is therefore taken as ``(1 / m + n_test / n_train)`` times that of the scores, and
    not as ``1 / m`` times.

    Parameters
    ----------
    values : array-like of shape (m,)
        A score a fold; or, to compare two models, the difference of their scores on the same fold.
    folds : sequence of (train, test)
        On which they were measured, in any order.
    confidence : float
        In (0, 1).

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        Fewer than two values, another number of them than of folds, one that is not finite, a wrong confidence.

    References
    ----------
    C. Nadeau, Y. Bengio (2003). Inference for the generalization error. Machine Learning 52.

    Examples
    --------
    >>> folds = repeated_folds([0] * 10 + [1] * 10, n_splits=5)
    >>> print(fold_interval([0.7, 0.8, 0.7, 0.8, 0.75], folds))
    0.750 (0.657 to 0.843)
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"values must hold two scores or more, in one row; got shape {scores.shape}.")
    if len(scores) != len(folds):
        raise ValueError(f"there are {len(scores)} values and {len(folds)} folds; one value for each is needed.")
    if not np.isfinite(scores).all():
        raise ValueError(f"values must be finite; fold {int(np.flatnonzero(~np.isfinite(scores))[0])} is not.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1); got {confidence!r}.")
    ratio = float(np.mean([len(test) / len(train) for train, test in folds]))
    spread = np.sqrt((1 / len(scores) + ratio) * scores.var(ddof=1))
    reach = float(student_t.ppf(0.5 + confidence / 2, len(scores) - 1) * spread)
    mean = float(scores.mean())
    return Interval(mean, mean - reach, mean + reach)


def checked_folds(cv: Any, X: Any, y: NDArray[Any], groups: ArrayLike | None, *, classifier: bool) -> Folds:
    """Return the folds that a number, a splitter or a list means, if none trains on what it predicts.

    Parameters
    ----------
    cv : int, splitter or iterable of (train, test)
        A number means folds in the order of the rows: stratified for classifiers, groups whole where there are any.
    X : array-like of shape (n, n_features)
    y : ndarray of shape (n,)
    groups : array-like of shape (n,) or None
    classifier : bool
        Whether `y` holds labels.

    Returns
    -------
    list of (train, test)

    Raises
    ------
    ValueError
        A fold has a row, or a group, on both sides.
    """
    if groups is not None and isinstance(cv, (int, np.integer)):
        cv = StratifiedGroupKFold(cv) if classifier else GroupKFold(cv)
    folds = [
        (np.asarray(train), np.asarray(test))
        for train, test in check_cv(cv, y, classifier=classifier).split(X, y, groups)
    ]
    for number, (train, test) in enumerate(folds):
        if np.isin(test, train).any():
            raise ValueError(f"fold {number} trains on rows that it predicts: they would know their labels.")
        shared = [] if groups is None else np.intersect1d(np.asarray(groups)[test], np.asarray(groups)[train]).tolist()
        if shared:
            raise ValueError(f"fold {number} trains on the group {shared[0]!s} that it predicts: pass cv as a number.")
    return folds
