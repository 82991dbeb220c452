"""Folds to compare models on, and the interval that such a comparison deserves.

The gap: scikit-learn has no repeated folds that keep groups whole, and no interval over folds. The usual one, the
standard error of the scores, takes them as independent; they share most of their training rows, and it is far too
narrow.

One model's predictions as features of another, without letting it know the answers.

The gap: ``cross_val_predict`` refuses time series splits, takes folds that cut groups apart when it is given a number,
uses one seed for all folds and forgets the model for new rows; ``StackingClassifier`` keeps its features to itself.
Whether features know a label that they should not know is asked in `leakage`; what a layer says is in `features`.

Do features know labels that they should not know?

The gap: a leak and a good feature look the same, a high score in cross-validation; scikit-learn's
``permutation_test_score`` shuffles the labels of features that are there already, which hides what they know. Here the
features are made again from labels drawn by lot, and then nothing can predict those.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_consistent_length

from helpers.estimators import KerasBinaryClassifier

__all__ = [
    "Folds",
    "Interval",
    "LatentFeatures",
    "LeakageReport",
    "checked_folds",
    "fold_count",
    "fold_interval",
    "leakage_report",
    "out_of_fold_features",
    "repeated_folds",
]

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


if TYPE_CHECKING:
    from helpers.estimators import LatentFeatures


METHODS = ("predict_proba", "decision_function", "predict")


def __getattr__(name: str) -> Any:
    # Where no network is, neither is TensorFlow: a fold that runs in a process of its own starts without it.
    if name == "LatentFeatures":
        from helpers.estimators import LatentFeatures

        return LatentFeatures
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def out_of_fold_features(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    cv: Any = 5,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    method: str = "auto",
    seed: int | None = None,
    n_jobs: int | None = None,
    partial: bool = False,
    return_estimator: bool = False,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> Any:
    """Predict each row by a model that has not seen it, as features of the next model.

    Where ``cross_val_predict`` applies, the array equals its.

    Parameters
    ----------
    estimator : scikit-learn estimator or callable
        Is cloned for each fold. A callable stands for ``KerasBinaryClassifier(callable)``.
    X : array-like, DataFrame or sparse matrix of shape (n, n_features)
    y : array-like of shape (n,)
        Labels or numbers.
    cv : int, splitter or iterable of (train, test)
        A number means stratified folds for classifiers, and folds that keep groups whole if there are groups.
    groups : array-like of shape (n,), optional
        No fold may have a group on both sides.
    sample_weight : array-like of shape (n,), optional
        For fitting; to the last step of a pipeline.
    method : {'auto', 'predict_proba', 'decision_function', 'predict'}
        'auto': the first of these that the estimator has. A transformer's output is refused: each fold's has axes of
        its own.
    seed : int, optional
        Gives each fold, and the model for new rows, a seed of its own, wherever a parameter of the estimator is named
        ``seed`` or ``random_state``. None: they keep what they have.
    n_jobs : int, optional
        As joblib has it; ``joblib.parallel_config`` chooses the engine. The numbers do not depend on it.
    partial : bool
        Whether `cv` may leave rows out, as splits by time leave the earliest ones: these rows hold NaN, and have to
        be left out of the next model's training.
    return_estimator : bool
        Whether to fit one more clone on all rows: the model that makes these features of new rows.
    on_fold : callable
        Called after each fold with the number of those done and of all.

    Returns
    -------
    ndarray
        Of shape (n,) or (n, n_classes), as `method` gives it. With `return_estimator`, a tuple of it and the fitted
        estimator.

    Raises
    ------
    ValueError
        Lengths that differ; a fold that trains on rows that it predicts, or on their group; rows that are predicted
        twice or never; a method that there is not; scores for classes that a fold has not seen; predictions that are
        not finite.

    References
    ----------
    D. H. Wolpert (1992). Stacked generalization. Neural Networks 5.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = np.array([[0.0], [1.0], [0.1], [0.9]]), np.array([0, 1, 0, 1])
    >>> out_of_fold_features(LogisticRegression(), X, y, cv=2).shape
    (4, 2)
    """
    model = _as_estimator(estimator)
    y = np.asarray(y)
    weight = None if sample_weight is None else np.asarray(sample_weight)
    check_consistent_length(X, y, weight, groups)
    folds = checked_folds(cv, X, y, groups, classifier=is_classifier(model))
    times = np.bincount(np.concatenate([test for _, test in folds]), minlength=len(y))
    if times.max() > 1:
        raise ValueError(f"cv predicts {int((times > 1).sum())} rows more than once: repeat the call instead.")
    if times.min() == 0 and not partial:
        raise ValueError(
            f"cv leaves {int((times == 0).sum())} of {len(y)} rows without a prediction, as splits by time do:"
            " pass partial=True to get NaN there, and leave these rows out of the next model's training."
        )
    method = _method(model, method)
    classes = np.unique(y) if is_classifier(model) else None
    seeds = [None] * (len(folds) + 1) if seed is None else np.random.SeedSequence(seed).generate_state(len(folds) + 1)
    jobs = (
        delayed(_fold)(_seeded(model, own), X, y, weight, fold, method, classes, _types(model))
        for fold, own in zip(folds, seeds[:-1], strict=True)
    )
    features = np.empty(0)
    predictions = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    for done, ((_, test), values) in enumerate(zip(folds, predictions, strict=True), start=1):
        if done == 1:
            missing = times.min() == 0
            # Words have no NaN of their own.
            dtype = values.dtype if not missing else float if values.dtype.kind in "biuf" else object
            features = np.full((len(y), *values.shape[1:]), np.nan if missing else 0, dtype)
        features[test] = values
        on_fold(done, len(folds))
    if not return_estimator:
        return features
    return features, _fitted(_seeded(model, seeds[-1]), X, y, weight)


def _as_estimator(estimator: Any) -> Any:
    if hasattr(estimator, "fit") and not isinstance(estimator, type):
        return estimator
    if callable(estimator) and not isinstance(estimator, type):
        return KerasBinaryClassifier(estimator)
    raise TypeError(
        f"estimator must be a scikit-learn estimator or a function that builds a network; got {estimator!r}."
    )


def _method(model: Any, method: str) -> str:
    there = [name for name in METHODS if hasattr(model, name)]
    if method == "auto" and there:
        return there[0]
    if method == "transform" or not there:
        raise ValueError(f"method {method!r} is refused: each fold's transformer has axes of its own.")
    if method not in there:
        raise ValueError(f"method must be one of {', '.join(['auto', *there])}; got {method!r}.")
    return method


def _seeded(model: Any, seed: Any) -> Any:
    copy = clone(model)
    if seed is not None:
        names = [name for name in copy.get_params() if name.rpartition("__")[2] in ("seed", "random_state")]
        copy.set_params(**dict.fromkeys(names, int(seed)))
    return copy


def _types(model: Any) -> tuple[str, str] | None:
    """What Keras calculates in here, if it is asked at all: importing it costs a process seconds and 600 MB.

    Its layers do not follow ``set_floatx`` once there has been one: they have a type of their own.
    """
    keras = sys.modules.get("keras")
    return (keras.config.floatx(), keras.config.dtype_policy().name) if keras and _builds(model) else None


def _builds(model: Any) -> bool:
    parts = [model, *model.get_params().values()]
    # A frozen model hides its parameters, but still casts its input.
    inside = (part.estimator for part in parts if isinstance(part, FrozenEstimator))
    return any(hasattr(part, "build") for part in parts) or any(map(_builds, inside))


def _fold(
    model: Any,
    X: Any,
    y: NDArray[Any],
    weight: NDArray[Any] | None,
    fold: tuple[Any, Any],
    method: str,
    classes: NDArray[Any] | None,
    types: tuple[str, str] | None,
) -> NDArray[Any]:
    if types is not None:
        import keras

        # A process of its own starts with float32, or with what an earlier call has left there.
        keras.config.set_floatx(types[0])
        keras.config.set_dtype_policy(types[1])
    train, test = fold
    _fitted(model, _safe_indexing(X, train), y[train], None if weight is None else weight[train])
    values = np.asarray(getattr(model, method)(_safe_indexing(X, test)))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{type(model).__name__} predicts values that are not finite: scale X, or train more gently.")
    if classes is None or method == "predict" or len(model.classes_) == len(classes):
        return values
    unseen = [name for name in classes.tolist() if name not in model.classes_]
    if method != "predict_proba":
        raise ValueError(f"a fold has no training rows of class {unseen[0]!r}: there is no {method} for it.")
    whole = np.zeros((len(values), len(classes)), values.dtype)
    whole[:, np.searchsorted(classes, model.classes_)] = values
    return whole


def _fitted(model: Any, X: Any, y: NDArray[Any], weight: NDArray[Any] | None) -> Any:
    if weight is None:
        return model.fit(X, y)
    steps, step = [], model
    while isinstance(step, Pipeline):
        steps.append(step.steps[-1][0])
        step = step.steps[-1][1]
    return model.fit(X, y, **{"__".join([*steps, "sample_weight"]): weight})


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
    def leaks(self) -> bool:
        """Whether labels drawn by lot are predicted better than by chance, beyond the noise of the permutations."""
        return max(self.permuted.low, self.permuted_shifted.low) > CHANCE

    @property
    def sentence(self) -> str:
        """The verdict."""
        if not self.leaks:
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
    >>> leakage_report(told, X, y, estimator=LogisticRegression(), n_permutations=3).leaks
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
