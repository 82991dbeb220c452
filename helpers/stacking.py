"""One model's predictions as features of another, without letting it know the answers.

The gap: ``cross_val_predict`` refuses time series splits, takes folds that cut groups apart when it is given a number,
uses one seed for all folds and forgets the model for new rows; ``StackingClassifier`` keeps its features to itself.
Whether features know a label that they should not know is asked in `leakage`; what a layer says is in `features`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_consistent_length

from helpers.estimators import KerasBinaryClassifier
from helpers.folds import checked_folds
from helpers.leakage import LeakageReport, leakage_report

if TYPE_CHECKING:
    from helpers.features import LatentFeatures

__all__ = ["LatentFeatures", "LeakageReport", "leakage_report", "out_of_fold_features"]

METHODS = ("predict_proba", "decision_function", "predict")


def __getattr__(name: str) -> Any:
    # Where no network is, neither is TensorFlow: a fold that runs in a process of its own starts without it.
    if name == "LatentFeatures":
        from helpers.features import LatentFeatures

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
