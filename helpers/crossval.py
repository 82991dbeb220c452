"""Cross-validation of models that feed each other: folds, intervals, out-of-fold features, leakage.

Three gaps are closed here. scikit-learn has no repeated folds that keep groups whole, and its usual interval over folds
takes scores as independent that share most of their training rows: far too narrow. ``cross_val_predict`` refuses time
series splits, cuts groups apart when ``cv`` is a number, uses one seed for all folds and keeps no model for new rows;
``StackingClassifier`` takes folds as ``cv=list(splits)``, but keeps its features to itself. And
``permutation_test_score`` permutes the labels of features that are there already, which hides what the features know:
here they are made again from permuted labels.

Two kinds of intervals, both of 95 %: `fold_interval` where folds share their training rows, `draw_interval` where data
are drawn anew for each score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold, check_cv, cross_val_score
from sklearn.utils import _safe_indexing, check_array, check_consistent_length, check_scalar, column_or_1d

from helpers.decisions import check_real

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
METHODS = ("predict_proba", "decision_function", "predict")
# Alarms begin where an interval lies above these. Folds share a little always; less than this changes no conclusion.
CHANCE, OPTIMISM = 0.55, 0.03


class Interval(NamedTuple):
    """A mean, and its 95 % interval: where it would lie on other data of the kind.

    Attributes
    ----------
    mean, low, high : float
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:z.3f} (95 %: {self.low:z.3f} to {self.high:z.3f})"


def repeated_folds(y: Any, groups: Any = None, *, n_splits: int = 5, n_repeats: int = 1, seed: int = 0) -> Folds:
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
    TypeError, ValueError
        A number is too small or not whole, or a class has fewer rows (or groups) than there are folds.

    Examples
    --------
    >>> folds = repeated_folds([0, 0, 1, 1], n_splits=2, n_repeats=3)
    >>> len(folds)
    6
    """
    check_scalar(n_splits, "n_splits", Integral, min_val=2)
    check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
    labels, grouped = column_or_1d(y), groups is not None
    name, count = _rarest(labels, groups)
    if count < n_splits:
        raise ValueError(f"class {name} has {count} {'groups' if grouped else 'rows'}: too few for {n_splits} folds.")
    splitter = StratifiedGroupKFold if grouped else StratifiedKFold
    seeds = np.random.SeedSequence(seed).generate_state(n_repeats)
    repeats = [splitter(n_splits, shuffle=True, random_state=repeat) for repeat in seeds.tolist()]
    return [fold for repeat in repeats for fold in repeat.split(np.zeros(len(labels)), labels, groups)]


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
    return max(2, min(most, _rarest(column_or_1d(y), groups)[1] // 3))


def _rarest(labels: NDArray[Any], groups: ArrayLike | None) -> tuple[Any, int]:
    """The class with the fewest rows, or groups, and how many these are."""
    check_consistent_length(labels, groups)
    units = pd.Series(np.arange(len(labels)) if groups is None else np.asarray(groups))
    counts = units.groupby(labels).nunique(dropna=False)
    return counts.idxmin(), int(counts.min())


def fold_interval(values: ArrayLike, folds: Sequence[tuple[Any, Any]]) -> Interval:
    """Return the mean of scores over folds with its corrected 95 % interval (Nadeau and Bengio 2003).

    The training sets of two folds overlap, so that their scores agree more than those of two independent experiments
    would. The variance of the mean is therefore taken as ``(1 / m + n_test / n_train)`` times that of the scores, and
    not as ``1 / m`` times.

    Parameters
    ----------
    values : array-like of shape (m,)
        A score a fold; or, to compare two models, the difference of their scores on the same fold.
    folds : sequence of (train, test)
        On which they were measured, in any order; row numbers or boolean masks.

    Returns
    -------
    Interval

    Raises
    ------
    TypeError, ValueError
        No real numbers, fewer than two values, another number of them than of folds, or one that is not finite.

    References
    ----------
    C. Nadeau, Y. Bengio (2003). Inference for the generalization error. Machine Learning 52.

    Examples
    --------
    >>> folds = repeated_folds([0] * 10 + [1] * 10, n_splits=5)
    >>> print(fold_interval([0.7, 0.8, 0.7, 0.8, 0.75], folds))
    0.750 (95 %: 0.657 to 0.843)
    """
    scores = _scores(values)
    if scores.shape != (len(folds),):
        raise ValueError(f"values must hold one score for each of the {len(folds)} folds; got shape {scores.shape}.")
    sizes = [[np.sum(side) if np.asarray(side).dtype == bool else len(side) for side in fold] for fold in folds]
    return _interval(scores, float(np.mean([test / train for train, test in sizes])))


def draw_interval(values: ArrayLike) -> Interval:
    """Return the mean of independent scores with its 95 % interval, by Student's distribution.

    Parameters
    ----------
    values : array-like of shape (m,)
        A score for each time that the data were drawn anew, as by a simulation. Splits of the same rows are no such
        draws: `fold_interval` is for them.

    Returns
    -------
    Interval

    Raises
    ------
    TypeError, ValueError
        No real numbers, fewer than two values, or one that is not finite.

    Examples
    --------
    >>> print(draw_interval([0.7, 0.8, 0.7, 0.8, 0.75]))
    0.750 (95 %: 0.688 to 0.812)
    """
    return _interval(_scores(values), 0)


def _scores(values: ArrayLike) -> NDArray[Any]:
    return check_array(check_real(values), ensure_2d=False, dtype=float, ensure_min_samples=2, input_name="values")


def _interval(scores: NDArray[Any], shared: float) -> Interval:
    """The mean of scores and its limits; what they share adds to its variance."""
    spread = np.sqrt((1 / len(scores) + shared) * scores.var(ddof=1))
    mean, reach = float(scores.mean()), float(student_t.ppf(0.975, len(scores) - 1) * spread)
    return Interval(mean, mean - reach, mean + reach)


def checked_folds(cv: Any, X: Any, y: NDArray[Any], groups: ArrayLike | None, *, classifier: bool) -> Folds:
    """Return the folds that a number, a splitter or a list means, if none trains on what it predicts.

    Parameters
    ----------
    cv : int, splitter or iterable of (train, test)
        A number means folds in the order of the rows: stratified for classifiers, groups whole where there are any.
        The two sides of a fold are row numbers, or boolean masks of all n rows.
    X : array-like of shape (n, n_features)
    y : ndarray of shape (n,)
    groups : array-like of shape (n,) or None
    classifier : bool
        Whether `y` holds labels.

    Returns
    -------
    list of (train, test)
        Row numbers.

    Raises
    ------
    ValueError
        A fold has a row, or a group, on both sides, or is no such pair. Masks of the numbers 0 and 1 are row numbers.
    """
    if groups is not None and isinstance(cv, Integral):
        cv = StratifiedGroupKFold(cv) if classifier else GroupKFold(cv)
    listed = hasattr(cv, "__iter__") and not hasattr(cv, "split")
    splits = cv if listed else check_cv(cv, y, classifier=classifier).split(X, y, groups)
    folds, rows, wanted = [], np.arange(len(y)), f"must be a pair of row numbers below {len(y)}, or of boolean masks"
    for number, fold in enumerate(splits):
        try:
            train, test = (rows[np.asarray(side)].ravel() for side in fold)
        except (IndexError, TypeError, ValueError):
            raise ValueError(f"fold {number} {wanted}.") from None
        folds.append((train, test))
        if np.isin(test, train).any():
            raise ValueError(f"fold {number} trains on rows that it predicts: it has seen them; masks are boolean.")
        shared = [] if groups is None else np.intersect1d(np.asarray(groups)[test], np.asarray(groups)[train]).tolist()
        if shared:
            raise ValueError(f"fold {number} trains on the group {shared[0]!s} that it predicts: pass cv as a number.")
    return folds


def out_of_fold_features(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    cv: Any = 5,
    groups: ArrayLike | None = None,
    method: str = "auto",
    seed: int | None = None,
    n_jobs: int | None = None,
    partial: bool = False,
    return_estimator: bool = False,
) -> Any:
    """Predict each row by a model that has not seen it, as features of the next model.

    Where ``cross_val_predict`` applies, the array equals its.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Is cloned for each fold.
    X : array-like, DataFrame or sparse matrix of shape (n, n_features)
    y : array-like of shape (n,) or (n, 1)
        Labels or numbers.
    cv : int, splitter or iterable of (train, test)
        A number means stratified folds for classifiers, and folds that keep groups whole if there are groups.
    groups : array-like of shape (n,), optional
        No fold may have a group on both sides.
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

    Returns
    -------
    ndarray
        Of shape (n,) or (n, n_classes), as `method` gives it. With `return_estimator`, a tuple of it and the fitted
        estimator.

    Raises
    ------
    ValueError
        Lengths that differ; a fold that trains on rows that it predicts, or on their group; rows that are predicted
        twice or never; a method that there is not; decision functions for classes that a fold has not seen;
        predictions that are not finite, or not one a row; folds that `checked_folds` refuses.

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
    model, y = clone(estimator), column_or_1d(y)
    check_consistent_length(X, y, groups)
    method = _method(model, method)
    folds = checked_folds(cv, X, y, groups, classifier=is_classifier(model))
    rows = np.concatenate([test for _, test in folds])
    times = np.bincount(rows, minlength=len(y))
    if times.max() > 1:
        raise ValueError(f"cv predicts {int((times > 1).sum())} rows more than once: repeat the call instead.")
    if times.min() == 0 and not partial:
        remedy = "as splits by time do: pass partial=True to get NaN there, and train the next model without these rows"
        raise ValueError(f"cv leaves {int((times == 0).sum())} of {len(times)} rows without a prediction, {remedy}.")
    classes = np.unique(y) if is_classifier(model) and method != "predict" else None
    seeds = [None] * (len(folds) + 1) if seed is None else np.random.SeedSequence(seed).generate_state(len(folds) + 1)
    rest = (method, classes, _keras_types(model))
    jobs = (delayed(_fold)(_seeded(model, own), X, y, fold, *rest) for fold, own in zip(folds, seeds, strict=False))
    values = np.concatenate(Parallel(n_jobs=n_jobs)(jobs))
    numeric = values.dtype.kind in "biuf"
    if numeric and not np.isfinite(values).all():
        raise ValueError(f"{type(model).__name__} predicts values that are not finite: scale X, or train more gently.")
    missing = len(rows) < len(y)
    # Strings have no NaN of their own.
    dtype = values.dtype if not missing else float if numeric else object
    features = np.full((len(y), *values.shape[1:]), np.nan if missing else 0, dtype)
    features[rows] = values
    return (features, _seeded(model, seeds[-1]).fit(X, y)) if return_estimator else features


def _method(model: Any, method: str) -> str:
    there = [name for name in METHODS if hasattr(model, name)]
    if method == "transform" or not there:
        raise ValueError(f"method {method!r} is refused: each fold's transformer has axes of its own.")
    if method not in ("auto", *there):
        raise ValueError(f"method must be one of {', '.join(['auto', *there])}; got {method!r}.")
    return there[0] if method == "auto" else method


def _seeded(model: Any, seed: Any) -> Any:
    copy = clone(model)
    if seed is not None:
        names = [name for name in copy.get_params() if name.rpartition("__")[2] in ("seed", "random_state")]
        copy.set_params(**dict.fromkeys(names, int(seed)))
    return copy


def _keras_types(model: Any) -> tuple[str, str] | None:
    """What a network is calculated in, if there is one: importing Keras costs a process seconds and 600 MB."""
    if not any(hasattr(part, "build") for part in (model, *model.get_params().values())):
        return None
    import keras

    return keras.config.floatx(), keras.config.dtype_policy().name


def _fold(model: Any, X: Any, y: Any, fold: Any, method: str, classes: Any, types: Any) -> NDArray[Any]:
    if types is not None:
        import keras

        # A process of its own starts with float32, or with what an earlier call has left there.
        keras.config.set_floatx(types[0])
        keras.config.set_dtype_policy(types[1])
    train, test = fold
    model.fit(_safe_indexing(X, train), y[train])
    values = np.asarray(getattr(model, method)(_safe_indexing(X, test)))
    if len(values) != len(test):
        raise ValueError(f"{type(model).__name__} predicts an array of shape {values.shape} for {len(test)} rows.")
    if classes is None or len(model.classes_) == len(classes):
        return values
    if method == "decision_function":
        unseen = np.setdiff1d(classes, model.classes_)[0]
        raise ValueError(f"a fold has no training rows of class {unseen}: there is no {method} for it.")
    whole = np.zeros((len(values), len(classes)), values.dtype)
    whole[:, np.searchsorted(classes, model.classes_)] = values
    return whole


class LeakageReport(NamedTuple):
    """Whether features know labels that they should not know, and what that does to a score. All scores are AUC.

    Attributes
    ----------
    permuted, permuted_shifted : Interval
        With permuted labels, over the permutations; the folds of `cv`, and folds that are shifted by half. Without a
        leak both are chance, 0.5. Leakage through shared folds is largest on the folds that made the features, and
        falls when they are shifted.
    non_nested : Interval
        With the true labels: the features made once, the next model scored on folds of them.
    nested : Interval
        With the true labels: the features made anew inside each fold. This is what new rows will get.
    baseline : Interval
        The next model without these features, on the same folds.
    optimism, gain : Interval
        `non_nested` minus `nested`, and `nested` minus `baseline`, fold by fold.
    copies : int
        Rows that have a copy of themselves, label included, on the training side of their fold.
    alarms : tuple of str
        What speaks for a leak, a sentence each.
    """

    permuted: Interval
    permuted_shifted: Interval
    non_nested: Interval
    nested: Interval
    baseline: Interval
    optimism: Interval
    gain: Interval
    copies: int
    alarms: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether there is an alarm."""
        return bool(self.alarms)

    @property
    def message(self) -> str:
        """The verdict."""
        return "\n".join(self.alarms) or "No leak found."

    def __str__(self) -> str:
        rows = ["permuted labels", "permuted labels, shifted folds", "features made once", "features made in each fold"]
        rows += ["without the features", "made once minus in each fold", "gain of the features"]
        lines = [f"{name:30}  {interval}" for name, interval in zip(rows, self, strict=False)]
        return "\n".join([*lines, self.message])


def leakage_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    features: Callable[..., tuple[ArrayLike, ArrayLike]],
    cv: Any = 5,
    groups: ArrayLike | None = None,
    n_permutations: int = 10,
    seed: int = 0,
) -> LeakageReport:
    """Find out whether a way of making features lets them know labels that they should not know.

    The gap: a high score in cross-validation may be a good feature or a leak, and looks the same. Three things tell
    them apart. Permuted labels cannot be predicted from anything: features that are made from them and predict them
    have seen them (in-sample predictions, a target encoding, shared folds; with `groups`, whose labels are permuted
    together, also rows of one group). Features that score better when they are made once than when they are made
    inside each fold know labels of the rows that are judged; with `cv` by time, also those of later rows. And a copy of
    a row knows its label. What no fold can find is a column that is written after the label is known.

    Parameters
    ----------
    estimator : scikit-learn classifier
        The next model.
    X : array-like or DataFrame of shape (n, n_features)
        Whatever `features` and `estimator` take. The next model gets these columns and the features beside them.
    y : array-like of shape (n,)
        Two classes.
    features : callable
        ``features(X, y, X_new)`` returns the features of the rows of `X`, as the next model's training would get them,
        and those of `X_new`, for which there are no labels. With `groups` it is called as
        ``features(X, y, X_new, groups)``. It may fit what it likes, but only on what it is given.
    cv : int, splitter or iterable of (train, test)
        Folds on which the next model is judged. A number: of the same kind, and in the same order, as
        `out_of_fold_features` makes from it. Rows in order of time: ``TimeSeriesSplit``.
    groups : array-like of shape (n,), optional
    n_permutations : int
        At least 3; each makes all features anew.
    seed : int

    Returns
    -------
    LeakageReport

    Raises
    ------
    TypeError, ValueError
        Not two classes; too few permutations; features for another number of rows; a column of `X` with the name of a
        feature; fewer than two folds with both classes on both sides (others have no AUC, and are left out).

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    >>> def leaking(X, y, X_new):
    ...     return y, np.zeros(len(X_new))
    >>> leakage_report(LogisticRegression(), X, y, features=leaking, n_permutations=3).leaks
    True
    """
    y = column_or_1d(y)
    check_consistent_length(X, y, groups)
    if len(np.unique(y)) != 2:
        raise ValueError(f"y must hold two classes; got {len(np.unique(y))}.")
    check_scalar(n_permutations, "n_permutations", Integral, min_val=3)

    def inputs(labels: NDArray[Any], train: Any, test: Any) -> tuple[Any, Any]:
        """What the next model gets for some rows, and for new ones."""
        old, new = _safe_indexing(X, train), _safe_indexing(X, test)
        more = () if groups is None else (np.asarray(groups)[train],)
        made_old, made_new = features(old, labels[train], new, *more)
        return _beside(old, made_old), _beside(new, made_new)

    def scores(inputs: Any, labels: NDArray[Any], folds: Folds) -> NDArray[np.float64]:
        judged = _with_both(folds, labels)
        return cross_val_score(estimator, inputs, labels, cv=judged, scoring="roc_auc", error_score="raise")

    every, few = np.arange(len(y)), np.arange(2)
    random, aucs = np.random.default_rng(seed), []
    for _ in range(n_permutations):
        labels = _permuted(y, groups, random)
        folds = checked_folds(cv, X, labels, groups, classifier=True)
        made, _ = inputs(labels, every, few)
        aucs.append([scores(made, labels, on).mean() for on in (folds, _shifted(folds, groups))])
    folds = _with_both(checked_folds(cv, X, y, groups, classifier=True), y)
    once, without, inside = scores(inputs(y, every, few)[0], y, folds), scores(X, y, folds), []
    for train, test in folds:
        made, new = inputs(y, train, test)
        inside.append(get_scorer("roc_auc")(clone(estimator).fit(made, y[train]), new, y[test]))
    # Permutations are independent, and a test set for each other.
    found = [draw_interval(of) for of in np.transpose(aucs)]
    found += [fold_interval(of, folds) for of in (once, inside, without)]
    found = [Interval(*np.clip(interval, 0, 1).tolist()) for interval in found]
    found += [fold_interval(np.subtract(a, b), folds) for a, b in ((once, inside), (inside, without))]
    return LeakageReport._make([*found, copies := _copies(X, y, folds), tuple(_alarms(found, copies))])


def _with_both(folds: Folds, y: NDArray[Any]) -> Folds:
    kept = [fold for fold in folds if all(len(np.unique(y[side])) == 2 for side in fold)]
    if len(kept) < 2:
        raise ValueError("fewer than two folds of cv have both classes on both sides: there is no AUC to compare.")
    return kept


def _alarms(found: list[Interval], copies: int) -> Iterator[str]:
    one, two, once, inside, _, more, _ = found
    if max(one.low, two.low) > CHANCE:
        yield f"Leak: permuted labels are predicted with an AUC of {max(one.mean, two.mean):.3f}."
    if more.low > OPTIMISM:
        yield f"Leak: features made once promise an AUC of {once.mean:.3f}, made in each fold {inside.mean:.3f}."
    if copies:
        yield f"Leak: {copies} rows have a copy of themselves on the training side of their fold."


def _permuted(y: NDArray[Any], groups: ArrayLike | None, random: np.random.Generator) -> NDArray[Any]:
    """Labels at random; rows of one group get those of another one, so that they stay as alike as they are."""
    units = np.arange(len(y)) if groups is None else pd.factorize(np.asarray(groups), use_na_sentinel=False)[0]
    here, there = (np.argsort(random.permutation(len(y))[units], kind="stable") for _ in range(2))
    labels = np.empty_like(y)
    labels[here] = y[there]
    return labels


def _copies(X: Any, y: NDArray[Any], folds: Folds) -> int:
    """The number of rows with a copy on the training side, if rows that are equal have equal labels beyond chance."""
    keys = pd.util.hash_pandas_object(pd.DataFrame(X), index=False).to_numpy()
    share = np.mean(positive := y == np.unique(y)[1])
    equal = pd.Series(positive).groupby(keys).agg(["size", "mean"]).query("size > 1")
    chance_of_equal_labels = np.log(share ** equal["size"] + (1 - share) ** equal["size"]).sum()
    if equal["mean"].isin([0, 1]).mean() < 0.98 or chance_of_equal_labels > np.log(0.001):
        return 0
    return len(np.unique(np.concatenate([test[np.isin(keys[test], keys[train])] for train, test in folds])))


def _shifted(folds: Folds, groups: ArrayLike | None) -> Folds:
    """Folds each of which holds half of one fold and half of the next."""
    units = [test if groups is None else np.asarray(groups)[test] for _, test in folds]
    first = [np.isin(of, np.unique(of)[::2]) for of in units]
    halves = [(test[part], test[~part]) for (_, test), part in zip(folds, first, strict=True)]
    tests = [np.sort(np.concatenate([halves[k - 1][1], halves[k][0]])) for k in range(len(halves))]
    every = np.concatenate(tests)
    return [(np.setdiff1d(every, test), test) for test in tests]


def _beside(X: Any, features: ArrayLike) -> Any:
    columns = np.asarray(features)
    if len(columns) != len(X):
        raise ValueError(f"features must return a row for each of the {len(X)} rows; got {len(columns)}.")
    columns = columns.reshape(len(columns), -1)
    if not isinstance(X, pd.DataFrame):
        return np.hstack([X, columns])
    return pd.concat([X, pd.DataFrame(columns, X.index).add_prefix("feature_")], axis=1, verify_integrity=True)
