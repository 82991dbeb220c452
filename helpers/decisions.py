"""From a model's output to a decision: probabilities, log-odds, thresholds, costs, calibration.

scikit-learn tunes, applies and calibrates inside its own estimators (``TunedThresholdClassifierCV``,
``CalibratedClassifierCV``), and ``sklearn.metrics.confusion_matrix_at_thresholds`` counts at all thresholds. Three gaps
are closed here. The array that a TensorFlow model returns may hold logits, two columns or NaN, and NumPy compares it
with any threshold without a word. Costs, reject intervals and other prior probabilities are formulas that no library
has. And scikit-learn draws a reliability diagram but has no calibration error and no decomposition of a score.

Everywhere here a row is predicted positive when its probability is at least the threshold. An empty input is refused;
one row, one class and ties are fine unless a function says otherwise. Labels and probabilities belong together by
their position, each of shape (n,) or (n, 1), and no array is broadcast against another.
"""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, xlogy
from scipy.stats import rankdata
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import confusion_matrix_at_thresholds

from helpers.notebook import UserError

Floats = NDArray[np.floating]
Counts = NDArray[np.int64]
Strategy = Literal["uniform", "quantile"]
# What is accepted, and its limits: the arguments of `check_numbers`.
FROM_0 = "a finite number from 0 on", 0, float(np.finfo(float).max)
FINITE = "a finite number", -FROM_0[2], FROM_0[2]
SHARE = "a number in (0, 1)", np.nextafter(0, 1), np.nextafter(1, 0)


def check_real(values: ArrayLike, name: str = "values") -> Floats:
    """Return real numbers as floating point, NaN where they are masked.

    The gap: ``np.asarray`` shows what is masked, and makes numbers of nothing but lets strings and objects pass.

    Parameters
    ----------
    values : array-like
        Of any shape; tensors, lists, masked arrays and pandas objects too.
    name : str
        The argument's name, for the messages.

    Returns
    -------
    ndarray of the same shape
        The same floating dtype; integers and booleans become float64.

    Raises
    ------
    TypeError
        The values are not real numbers, or objects or strings.

    Examples
    --------
    >>> check_real(np.ma.masked_equal([1, -9], -9))
    array([ 1., nan])
    """
    array = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}.")
    return np.ma.filled(array if array.dtype.kind == "f" else array.astype(np.float64), np.nan)


def check_probabilities(y_prob: ArrayLike, name: str = "y_prob") -> NDArray[np.floating]:
    """Return the positive class's probabilities as a vector, or say what they are instead.

    Parameters
    ----------
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of the positive class, as a one-unit sigmoid model returns them.
    name : str
        The argument's name, for the messages.

    Returns
    -------
    ndarray of shape (n,)
        The same values and dtype; integers and booleans become float64.

    Raises
    ------
    TypeError
        The values are not real numbers.
    ValueError
        Another shape (two softmax columns among them), NaN or masked values, or values outside [0, 1] (logits among
        them).

    Examples
    --------
    >>> check_probabilities([[0.25], [0.75]])
    array([0.25, 0.75])
    """
    values = check_real(y_prob, name)
    if values.ndim == 0 or values.shape[1:] not in ((), (1,)):
        two = f"has two columns, one for each class: pass the positive class's, {name}[:, 1]"
        wrong = two if values.shape[1:] == (2,) else "must have the shape (n,) or (n, 1)"
        raise ValueError(f"{name} {wrong}; got {values.shape}.")
    values = values.reshape(-1)
    if ((values >= 0) & (values <= 1)).all():
        return values
    if missing := int(np.isnan(values).sum()):
        raise ValueError(f"{name} holds {missing} NaN among {len(values)} values: a NaN is no probability.")
    low, high = values.min(), values.max()
    hint = "percentages, divide by 100" if low >= 0 and 2 < high <= 100 else "logits, apply a sigmoid first"
    # Not rounded where rounding would show a value as the 1 that it exceeds.
    shown = f"{high:.4g}" if high > 1.001 else repr(float(high))
    raise ValueError(f"{name} must lie in [0, 1]; got values from {low:.4g} to {shown}. If they are {hint}.")


def check_rows(y_true: Any, y_prob: Any) -> tuple[Counts, Floats]:
    """Return labels and probabilities of the same rows as two vectors, or say what they are instead.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, 1)
        The numbers 0 and 1, or booleans.
    y_prob : array-like of shape (n,) or (n, 1)
        As in `check_probabilities`.

    Returns
    -------
    y_true : ndarray of shape (n,), dtype int64
    y_prob : ndarray of shape (n,), dtype float64

    Raises
    ------
    TypeError, ValueError
        As in `check_probabilities`; no rows; lengths that differ; labels other than 0 and 1, strings, objects and
        masked ones among them; two pandas objects with one index in two orders.

    Examples
    --------
    >>> check_rows([[False], [True]], [0.25, 0.5])
    (array([0, 1]), array([0.25, 0.5 ]))
    """
    p = check_probabilities(y_prob).astype(np.float64, copy=False)
    y = check_real(y_true, "y_true") if isinstance(y_true, np.ma.MaskedArray) else np.asarray(y_true)
    y = y[:, 0] if y.shape[1:] == (1,) else y
    if y.shape != p.shape or not p.size:
        raise ValueError(f"y_true must have the shape of y_prob, {p.shape}, and at least one row; got {y.shape}.")
    if y.dtype.kind not in "fiub" or not ((y == 0) | (y == 1)).all():
        found = ", ".join(list(dict.fromkeys(f"{value!r:.40}" for value in y.tolist()))[:4])
        raise ValueError(f"y_true must be 0 or 1; got {found}, dtype {y.dtype}: pass np.asarray(labels) == positive.")
    one, other = (getattr(values, "index", None) if hasattr(values, "iloc") else None for values in (y_true, y_prob))
    if one is not None and other is not None and not one.equals(other) and set(one) == set(other):
        raise ValueError("y_true and y_prob have one index in two orders: reindex one, or pass arrays in one order.")
    return y.astype(np.int64, copy=False), p


def check_direction(y_true: ArrayLike, y_score: ArrayLike, class_names: tuple[str, str], name: str) -> None:
    """Refuse scores that rank the other class, before a threshold is chosen for them.

    The gap: probabilities of the class that is *not* taken as positive are probabilities too, and any threshold can be
    chosen for them. Their AUC tells. They are refused if its 99 % interval lies below 0.5, so that neither a weak model
    nor a few unlucky rows are: with fewer than five rows in each class nothing is refused.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, 1)
        0 or 1. One class only has no AUC, and passes.
    y_score : array-like of shape (n,) or (n, 1)
        Numbers that should rise with class 1: probabilities, logits or any others. Equal ones count half.
    class_names : tuple of str
        Of class 0 and class 1. For one class against the rest, its name comes second.
    name : str
        Where the scores come from, for the messages.

    Raises
    ------
    UserError
        The scores rank class 0 above class 1, beyond chance; see `ThresholdCurve.auc`.
    TypeError, ValueError
        Scores that are no real numbers, or NaN; otherwise as in `check_rows`.

    Examples
    --------
    >>> check_direction([0, 1] * 9, [0.2, 0.7] * 9, ("stay", "churn"), "score")
    >>> check_direction([0, 1] * 9, [0.7, 0.2] * 9, ("churn", "stay"), "score")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    helpers.notebook.UserError: score ranks 'stay' below 'churn' (AUC for 'stay': 0.000 ± 0.360), so no threshold ...
    """
    # Ranks have the AUC of the scores, and lie in [0, 1].
    rank = rankdata(np.atleast_1d(check_real(y_score, name)), axis=0, nan_policy="raise")
    auc, reach = threshold_curve(y_true, rank / max(1, len(rank))).auc
    if auc + reach < 0.5:
        negative, positive = (f"{label!r:.60}" for label in class_names)
        fact = f"{name} ranks {positive} below {negative} (AUC for {positive}: {auc:.3f} ± {reach:.3f})"
        remedy = f"if it is the probability of {negative}, set positive_label={negative}, or pass 1 - score"
        raise UserError(f"{fact}, so no threshold is chosen: {remedy}.")


def check_numbers(accepted: str, low: float, high: float, kind: Any = Real, /, **values: Any) -> None:
    """Raise unless each value is a number from `low` to `high`.

    The gap: ``sklearn.utils.check_scalar`` lets NaN and booleans pass.

    Parameters
    ----------
    accepted : str
        What is accepted, for the message.
    low, high : float
        Both ends are accepted.
    kind : type
        ``numbers.Real`` or ``numbers.Integral``.
    **values
        The arguments to check, by their names.

    Raises
    ------
    TypeError
        A value of another kind, or a boolean.
    ValueError
        A value out of range, or NaN.

    Examples
    --------
    >>> check_numbers("a number in [0, 1]", 0, 1, threshold=1.5)
    Traceback (most recent call last):
    ValueError: threshold must be a number in [0, 1]; got 1.5.
    """
    for name, value in values.items():
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, kind):
            raise TypeError(f"{name} must be {accepted}; got {value!r}.")
        if not low <= value <= high:
            raise ValueError(f"{name} must be {accepted}; got {value}.")


def log_odds(y_prob: ArrayLike) -> NDArray[np.floating]:
    """Log-odds, log(p / (1 - p)), of probabilities that have not saturated.

    The gap: ``scipy.special.logit`` returns ±inf where a float32 sigmoid has rounded to exactly 0 or 1 (from a logit
    of about 16.65 on). What the logit was cannot be told from the probability, so this is refused: keep the logits.

    Parameters
    ----------
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of the positive class.

    Returns
    -------
    ndarray of shape (n,)
        Natural logarithms of the odds, same floating dtype.

    Raises
    ------
    TypeError, ValueError
        As in `check_probabilities`, or a probability is exactly 0 or 1.

    Examples
    --------
    >>> log_odds([0.5, 0.75]).round(3)
    array([0.   , 1.099])
    """
    p = check_probabilities(y_prob)
    if saturated := int(((p == 0) | (p == 1)).sum()):
        lost = f"{saturated} of {len(p)} values that are exactly 0 or 1, whose log-odds are lost"
        raise ValueError(f"y_prob holds {lost}: let the model return its logits, they are the log-odds.")
    return logit(p)


def apply_threshold(y_prob: ArrayLike, threshold: float = 0.5) -> NDArray[np.int64]:
    """Label 1 where the probability reaches the threshold, else 0.

    Parameters
    ----------
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of the positive class.
    threshold : float
        In [0, 1]. A probability equal to it is positive, as in scikit-learn's ``FixedThresholdClassifier``.

    Returns
    -------
    ndarray of shape (n,), dtype int64
        A vector also for (n, 1): a column compared with ``y_true`` of shape (n,) would broadcast to (n, n).

    Raises
    ------
    TypeError, ValueError
        As in `check_probabilities`, or a threshold that is no number in [0, 1].

    Examples
    --------
    >>> apply_threshold([0.2, 0.5, 0.9])
    array([0, 1, 1])
    """
    check_numbers("a number in [0, 1]", 0, 1, threshold=threshold)
    # As a Python float it is rounded to the dtype of the probabilities: a float32 0.7 reaches the threshold 0.7.
    return (check_probabilities(y_prob) >= float(threshold)).astype(np.int64)


class ThresholdCurve(NamedTuple):
    """What each threshold does to a set of rows; see `threshold_curve`.

    Attributes
    ----------
    threshold : ndarray of shape (k,)
        Every threshold that makes a difference, falling: 1 where no row is predicted positive by it, the distinct
        probabilities, and 0 in place of the lowest of them, by which every row is predicted positive.
    tp, fp, fn, tn : ndarray of shape (k,), dtype int64
        Numbers of true positives, false positives, false negatives and true negatives.
    """

    threshold: Floats
    tp: Counts
    fp: Counts
    fn: Counts
    tn: Counts

    @property
    def auc(self) -> tuple[float, float]:
        """Area under the ROC curve, and the half-width of its 99 % interval; NaN without both classes.

        The half-width is 2.576 standard errors of the rank test, the variance of Hanley and McNeil (1982) at 0.5: what
        scores that know nothing would show, also in few rows and next to 0 or 1.
        """
        m, n = self.tp[-1], self.fp[-1]
        area = np.trapezoid(np.append(0, self.recall), np.append(0, self.false_positive_rate))
        return float(area), float(2.576 * np.sqrt(_ratio(m + n + 1, 12 * m * n)))

    @property
    def recall(self) -> Floats:
        """Share of the positive rows that are predicted positive; NaN if there are none."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def precision(self) -> Floats:
        """Share of positives among the rows predicted positive; NaN where no row is."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def false_positive_rate(self) -> Floats:
        """Share of the negative rows that are predicted positive; NaN if there are none."""
        return _ratio(self.fp, self.fp + self.tn)

    def cost(self, cost_fp: float, cost_fn: float) -> Floats:
        """Mean cost of a row at each threshold, in the unit of the two costs."""
        check_numbers(*FROM_0, cost_fp=cost_fp, cost_fn=cost_fn)
        return (cost_fp * self.fp + cost_fn * self.fn) / (self.tp + self.fp + self.fn + self.tn)

    def min_cost(self, cost_fp: float, cost_fn: float) -> tuple[float, float]:
        """Return the threshold of least cost and that cost; of several, the one nearest to `cost_threshold`.

        Warns
        -----
        UserWarning
            The probabilities rank class 0 above class 1, beyond chance; see `check_direction`.
        """
        self._warn_if_reversed()
        cost, formula = self.cost(cost_fp, cost_fn), cost_threshold(cost_fp, cost_fn)
        best = np.lexsort([np.abs(self.threshold - formula), cost])[0]
        return float(self.threshold[best]), float(cost[best])

    def at_precision(self, precision: float) -> tuple[float, float]:
        """Return the threshold of largest recall whose precision is at least `precision`, and that recall.

        Raises
        ------
        ValueError
            No threshold reaches that precision.

        Warns
        -----
        UserWarning
            As in `min_cost`.
        """
        self._warn_if_reversed()
        reached = self.precision
        if not (reached >= precision).any():
            raise ValueError(f"no threshold reaches a precision of {precision}; the best is {np.nanmax(reached):.4g}.")
        # Of equal recalls the first has the fewest false positives.
        best = np.argmax(np.where(reached >= precision, self.recall, -1))
        return float(self.threshold[best]), float(self.recall[best])

    def _warn_if_reversed(self) -> None:
        if sum(self.auc) < 0.5:
            fact = f"AUC {self.auc[0]:.3f} ± {self.auc[1]:.3f}: the probabilities rank class 0 above class 1"
            warnings.warn(f"{fact}; if they are those of class 0, pass 1 - y_prob.", stacklevel=3)


def threshold_curve(y_true: ArrayLike, y_prob: ArrayLike) -> ThresholdCurve:
    """Count right and wrong predictions at all thresholds at once.

    The counts of ``sklearn.metrics.confusion_matrix_at_thresholds``, after `check_probabilities`, as whole numbers, and
    with both ends: a threshold by which no row is predicted positive, and one by which every row is.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, 1)
        0 or 1. One class only is fine; what it leaves undefined is NaN.
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of class 1. Equal ones share a threshold.

    Returns
    -------
    ThresholdCurve

    Raises
    ------
    TypeError, ValueError
        As in `check_rows`.

    Examples
    --------
    >>> curve = threshold_curve([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
    >>> curve.threshold
    array([1. , 0.8, 0.4, 0. ])
    >>> curve.fp
    array([0, 0, 1, 2])
    >>> curve.min_cost(cost_fp=1, cost_fn=5)
    (0.4, 0.25)
    """
    y, p = check_rows(y_true, y_prob)
    tn, fp, fn, tp, threshold = confusion_matrix_at_thresholds(y, p, pos_label=1)
    first = int(threshold[0] == 1)
    counts = np.column_stack([[0, 0, tp[-1], fp[-1]], [tp, fp, fn, tn]]).astype(np.int64)[:, first:]
    threshold = np.append(1.0, threshold)[first:]
    threshold[-1] = 0
    return ThresholdCurve(threshold, *counts)


def cost_threshold(cost_fp: float, cost_fn: float) -> float:
    """Return the threshold of least expected cost, **if the probabilities are calibrated**.

    To predict positive for a row of probability p costs (1 - p) ``cost_fp`` on average, negative p ``cost_fn``; the two
    are equal at ``cost_fp / (cost_fp + cost_fn)`` (Elkan 2001, The foundations of cost-sensitive learning).

    Parameters
    ----------
    cost_fp, cost_fn : float
        What a false positive and a false negative cost more than the right prediction, in one unit. Where protecting
        costs C and an unprotected event loses L, these are C and L - C, and the threshold is C / L.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        A cost that is no finite number from 0 on, or both are 0.

    Examples
    --------
    >>> cost_threshold(cost_fp=10, cost_fn=40)
    0.2
    """
    check_numbers(*FROM_0, cost_fp=cost_fp, cost_fn=cost_fn)
    if cost_fp + cost_fn == 0:
        raise ValueError("cost_fp and cost_fn are both 0: every threshold costs the same.")
    return cost_fp / (cost_fp + cost_fn)


def reject_interval(cost_fp: float, cost_fn: float, cost_review: float) -> tuple[float, float]:
    """Return the two thresholds between which human review costs least (the reject option, Chow 1970).

    Below the first, predicting negative costs less than a review; from the second on, predicting positive does.

    Parameters
    ----------
    cost_fp, cost_fn, cost_review : float
        In one unit. A review is taken to find the truth.

    Returns
    -------
    low, high : float
        Equal, and then the `cost_threshold`, where a review never pays.

    Examples
    --------
    >>> reject_interval(cost_fp=10, cost_fn=40, cost_review=4)
    (0.1, 0.6)
    """
    threshold = cost_threshold(cost_fp, cost_fn)
    check_numbers(*FROM_0, cost_review=cost_review)
    if cost_review * (cost_fp + cost_fn) >= cost_fp * cost_fn:
        return threshold, threshold
    return cost_review / cost_fn, 1 - cost_review / cost_fp


def precision_at_k(y_true: ArrayLike, y_prob: ArrayLike, k: int) -> float:
    """Return the share of positives among the k rows of highest probability.

    Where the cut falls among equal probabilities, those rows are taken in equal parts: the result is what drawing among
    them would give on average.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    y_prob : array-like of shape (n,) or (n, 1)
    k : int
        From 1 to n.

    Returns
    -------
    float

    Examples
    --------
    >>> precision_at_k([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1], k=2)
    0.75
    """
    y, p = check_rows(y_true, y_prob)
    check_numbers(f"a whole number from 1 to the number of rows, {len(p)}", 1, len(p), Integral, k=k)
    cut = np.partition(p, -k)[-k]
    above, tied = p > cut, p == cut
    return float((y[above].sum() + (k - above.sum()) * y[tied].mean()) / k)


class CalibrationBins(NamedTuple):
    """Rows grouped by their probability; empty bins are left out.

    Attributes
    ----------
    mean_prob, frequency : ndarray of shape (m,)
        Mean predicted probability, and observed share of positives.
    rows : ndarray of shape (m,), dtype int64
    """

    mean_prob: Floats
    frequency: Floats
    rows: Counts


def calibration_bins(y_true: Any, y_prob: Any, n_bins: int = 15, *, strategy: Strategy = "uniform") -> CalibrationBins:
    """Group rows by probability, as scikit-learn's ``calibration_curve`` does, with the counts that it leaves out.

    Parameters
    ----------
    y_true, y_prob
        As in `threshold_curve`.
    n_bins : int
        From 1 on.
    strategy : {'uniform', 'quantile'}
        Bins of equal width, or of equal numbers of rows. A bin includes its right end.

    Returns
    -------
    CalibrationBins

    Raises
    ------
    TypeError, ValueError
        As in `threshold_curve`; another `n_bins` or `strategy`.

    Examples
    --------
    >>> calibration_bins([0, 1, 1], [0.2, 0.3, 0.9], n_bins=2).frequency
    array([0.5, 1. ])
    """
    y, p = check_rows(y_true, y_prob)
    check_numbers("a whole number from 1 on", 1, np.iinfo(np.intp).max, Integral, n_bins=n_bins)
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f"strategy must be 'uniform' or 'quantile'; got {strategy!r}.")
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.searchsorted((edges if strategy == "uniform" else np.quantile(p, edges))[1:-1], p)
    _, bins, rows = np.unique(bins, return_inverse=True, return_counts=True)
    mean_prob, frequency = (np.bincount(bins, weights=values) / rows for values in (p, y))
    return CalibrationBins(mean_prob, frequency, rows)


def expected_calibration_error(y_true: Any, y_prob: Any, n_bins: int = 15, *, strategy: Strategy = "uniform") -> float:
    """Return the mean distance between predicted probability and observed frequency (Naeini et al. 2015).

    Each bin counts with its share of the rows. The value depends on the bins: compare only values of equal `n_bins` and
    `strategy`, and know that few rows in many bins make a calibrated model look bad.

    Parameters
    ----------
    y_true, y_prob, n_bins, strategy
        As in `calibration_bins`. Probabilities, not log-odds: those are refused.

    Returns
    -------
    float
        From 0, calibrated, to 1.

    Raises
    ------
    TypeError, ValueError
        As in `calibration_bins`.

    Examples
    --------
    >>> expected_calibration_error([0, 1], [0.25, 0.75], n_bins=2)
    0.25
    """
    mean_prob, frequency, rows = calibration_bins(y_true, y_prob, n_bins, strategy=strategy)
    return float(np.average(np.abs(mean_prob - frequency), weights=rows))


class Decomposition(NamedTuple):
    """A score in three parts: score = miscalibration - discrimination + uncertainty.

    Attributes
    ----------
    score : float
        Mean Brier score or log loss (natural logarithm); lower is better.
    miscalibration : float
        At most what recalibration could save. It is measured on the rows themselves, so that a calibrated model of few
        rows shows some too.
    discrimination : float
        What telling rows apart saves over one probability for all.
    uncertainty : float
        The score of the base rate for all: the difficulty of the data.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def decompose_score(y_true: ArrayLike, y_prob: ArrayLike, *, score: Literal["brier", "log"] = "brier") -> Decomposition:
    """Decompose the Brier score or the log loss without bins.

    The recalibrated probabilities are the isotonic regression of the labels, so that the parts are never negative and
    depend on no number of bins (CORP: Dimitriadis, Gneiting and Jordan 2021).

    Parameters
    ----------
    y_true, y_prob
        As in `threshold_curve`.
    score : {'brier', 'log'}
        With 'log', a probability of exactly 0 or 1 on the wrong side makes score and miscalibration infinite.

    Returns
    -------
    Decomposition

    Raises
    ------
    TypeError, ValueError
        As in `threshold_curve`; another `score`.

    Examples
    --------
    >>> decompose_score([0, 1, 0, 1], [0.2, 0.6, 0.4, 0.8]).uncertainty
    0.25
    """
    y, p = check_rows(y_true, y_prob)
    if score not in ("brier", "log"):
        raise ValueError(f"score must be 'brier' or 'log'; got {score!r}.")

    def mean_score(probability: Floats) -> float:
        losses = (probability - y) ** 2 if score == "brier" else -xlogy(y, probability) - xlogy(1 - y, 1 - probability)
        return float(losses.mean())

    # Rows of equal probability are one step of the regression.
    _, level, rows = np.unique(p, return_inverse=True, return_counts=True)
    recalibrated = isotonic_regression(np.bincount(level, weights=y) / rows, sample_weight=rows)[level]
    ours, best, uncertainty = mean_score(p), mean_score(recalibrated), mean_score(np.full(len(p), y.mean()))
    return Decomposition(ours, ours - best, uncertainty - best, uncertainty)


def adjust_prior(y_prob: ArrayLike, prevalence_then: float, prevalence_now: float) -> Floats:
    """Adjust probabilities to another share of positives (prior-probability shift; Saerens et al. 2002).

    Right where only that share has changed, and not what positives and negatives look like.

    Parameters
    ----------
    y_prob : array-like of shape (n,) or (n, 1)
        Calibrated probabilities where the share of positives was `prevalence_then`.
    prevalence_then, prevalence_now : float
        Shares of positives, in (0, 1).

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    TypeError, ValueError
        As in `check_probabilities`; a share outside (0, 1).

    Examples
    --------
    >>> adjust_prior([0.5], prevalence_then=0.5, prevalence_now=0.1).round(3)
    array([0.1])
    """
    p = check_probabilities(y_prob)
    check_numbers(*SHARE, prevalence_then=prevalence_then, prevalence_now=prevalence_now)
    return expit(logit(p) + (logit(prevalence_now) - logit(prevalence_then)))


def _ratio(part: Any, whole: Any) -> Floats:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
