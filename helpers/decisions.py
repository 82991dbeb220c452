"""From a model's output to a decision: probabilities, log-odds, thresholds, costs, calibration.

scikit-learn tunes, applies and calibrates inside its own estimators (``TunedThresholdClassifierCV``,
``CalibratedClassifierCV``). Three gaps are closed here. The array that a TensorFlow model returns may hold logits, two
columns or NaN, and NumPy compares it with any threshold without a word. A cost is a curve over *all* thresholds, which
one sort gives exactly and a loop over metrics gives slowly. And scikit-learn draws a reliability diagram but has no
calibration error and no decomposition of a score.

Everywhere here a row is called positive when its probability is at least the threshold. No rows at all are refused;
one row, one class, ties and weights are fine unless a function says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, xlogy

__all__ = [
    "CalibrationBins",
    "Decomposition",
    "ThresholdCurve",
    "reject_interval",
    "apply_threshold",
    "calibration_bins",
    "check_probabilities",
    "adjust_prior",
    "cost_threshold",
    "decompose_score",
    "expected_calibration_error",
    "log_odds",
    "precision_at_k",
    "threshold_curve",
]

CHUNK = 65_536
NEAR = 1e-9

Floats = NDArray[np.floating]
Counts = NDArray[Any]


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
        Another shape (two softmax columns among them), NaN, or values outside [0, 1] (logits among them).

    Examples
    --------
    >>> check_probabilities([[0.25], [0.75]])
    array([0.25, 0.75])
    """
    values = np.asarray(y_prob)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got dtype {values.dtype}.")
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    if values.ndim == 2 and values.shape[1] == 2:
        raise ValueError(
            f"{name} has two columns, one for each class: pass the positive class's, {name}[:, 1]; got {values.shape}."
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{name} must have the shape (n,) or (n, 1); got {values.shape}.")
    if not values.size:
        return values
    low, high = values.min(), values.max()
    if np.isnan(low):
        missing = int(np.isnan(values).sum())
        raise ValueError(f"{name} holds {missing} NaN among {len(values)} values: a NaN is no probability.")
    if low < 0 or high > 1:
        hint = "percentages, divide by 100" if low >= 0 and 2 < high <= 100 else "logits, apply a sigmoid first"
        # Not rounded where rounding would show a value as the 1 that it exceeds.
        shown = f"{high:.4g}" if high > 1.001 else repr(float(high))
        raise ValueError(f"{name} must lie in [0, 1]; got values from {low:.4g} to {shown}. If they are {hint}.")
    return values


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
    if (saturated := int(((p == 0) | (p == 1)).sum())) > 0:
        raise ValueError(
            f"y_prob holds {saturated} of {len(p)} values that are exactly 0 or 1, whose log-odds are lost:"
            " let the model return its logits, they are the log-odds."
        )
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
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.integer, np.floating)):
        raise TypeError(f"threshold must be one number in [0, 1]; got {threshold!r}.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1]; got {threshold}.")
    # As a Python float it is rounded to the dtype of the probabilities: a float32 0.7 reaches the threshold 0.7.
    return (check_probabilities(y_prob) >= float(threshold)).astype(np.int64)


@dataclass(frozen=True)
class ThresholdCurve:
    """What each threshold does to a set of rows; see `threshold_curve`.

    Attributes
    ----------
    threshold : ndarray of shape (k,)
        Every threshold that makes a difference, falling: 1 where it calls nobody positive, the distinct probabilities,
        and 0 in place of the lowest of them, which calls everybody positive.
    tp, fp, fn, tn : ndarray of shape (k,)
        Rows, or their weights, that are truly or falsely called positive or negative.
    """

    threshold: Floats
    tp: Counts
    fp: Counts
    fn: Counts
    tn: Counts

    @property
    def recall(self) -> Floats:
        """Share of the positive rows that are found; NaN if there are none."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def precision(self) -> Floats:
        """Share of positives among the rows called positive; NaN where nobody is."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def false_positive_rate(self) -> Floats:
        """Share of the negative rows that are called positive; NaN if there are none."""
        return _ratio(self.fp, self.fp + self.tn)

    def cost(self, cost_fp: float, cost_fn: float) -> Floats:
        """Mean cost of a row at each threshold, in the unit of the two costs."""
        _check_costs(cost_fp=cost_fp, cost_fn=cost_fn)
        return (cost_fp * self.fp + cost_fn * self.fn) / (self.tp + self.fp + self.fn + self.tn)

    def cheapest(self, cost_fp: float, cost_fn: float) -> tuple[float, float]:
        """Return the threshold of least cost and that cost; of several, the one nearest to `cost_threshold`."""
        cost = self.cost(cost_fp, cost_fn)
        least = np.flatnonzero(cost == cost.min())
        best = least[np.argmin(np.abs(self.threshold[least] - cost_threshold(cost_fp, cost_fn)))]
        return float(self.threshold[best]), float(cost[best])

    def at_precision(self, precision: float) -> tuple[float, float]:
        """Return the threshold of largest recall whose precision is at least `precision`, and that recall.

        Raises
        ------
        ValueError
            No threshold reaches that precision.
        """
        enough = np.flatnonzero(self.precision >= precision)
        if not enough.size:
            raise ValueError(
                f"no threshold reaches a precision of {precision}; the best is {np.nanmax(self.precision):.4g}."
            )
        # Recall only grows along the curve. Of equal recalls the first has the fewest false positives.
        best = enough[np.argmax(self.recall[enough])]
        return float(self.threshold[best]), float(self.recall[best])


def threshold_curve(y_true: ArrayLike, y_prob: ArrayLike, sample_weight: ArrayLike | None = None) -> ThresholdCurve:
    """Count right and wrong calls at all thresholds at once: one sort, O(n log n).

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1. One class only is fine; what it leaves undefined is NaN.
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of class 1. Equal ones share a threshold.
    sample_weight : array-like of shape (n,), optional
        Finite, not negative, not all zero.

    Returns
    -------
    ThresholdCurve

    Raises
    ------
    TypeError, ValueError
        As in `check_probabilities`; no rows; labels other than 0 and 1; lengths that differ; bad weights.

    Examples
    --------
    >>> curve = threshold_curve([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
    >>> curve.threshold
    array([1. , 0.8, 0.4, 0. ])
    >>> curve.fp
    array([0, 0, 1, 2])
    >>> curve.cheapest(cost_fp=1, cost_fn=5)
    (0.4, 0.25)
    """
    y, p, weight = _checked(y_true, y_prob, sample_weight)
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    positive = y if sample_weight is None else y * weight[order]
    every = np.arange(1, len(p) + 1) if sample_weight is None else np.cumsum(weight[order])
    last_of_ties = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    tp = np.cumsum(positive)[last_of_ties]
    called = every[last_of_ties]
    threshold = p[last_of_ties]
    if threshold[0] < 1:
        threshold, tp, called = np.append(1.0, threshold), np.append(0, tp), np.append(0, called)
    threshold[-1] = 0
    # Differences of weights may be a rounding error below 0.
    fp = np.maximum(called - tp, 0)
    return ThresholdCurve(threshold, tp, fp, np.maximum(tp[-1] - tp, 0), np.maximum(fp[-1] - fp, 0))


def cost_threshold(cost_fp: float, cost_fn: float) -> float:
    """Return the threshold of least expected cost, **if the probabilities are calibrated**.

    Calling a row of probability p positive costs (1 - p) ``cost_fp`` on average, calling it negative p ``cost_fn``; the
    two are equal at ``cost_fp / (cost_fp + cost_fn)`` (Elkan 2001, The foundations of cost-sensitive learning).

    Parameters
    ----------
    cost_fp, cost_fn : float
        What a false positive and a false negative cost more than the right call, in one unit. Where protecting costs C
        and an unprotected event loses L, these are C and L - C, and the threshold is C / L.

    Returns
    -------
    float

    Examples
    --------
    >>> cost_threshold(cost_fp=10, cost_fn=40)
    0.2
    """
    _check_costs(cost_fp=cost_fp, cost_fn=cost_fn)
    if cost_fp + cost_fn == 0:
        raise ValueError("cost_fp and cost_fn are both 0: every threshold costs the same.")
    return cost_fp / (cost_fp + cost_fn)


def reject_interval(cost_fp: float, cost_fn: float, cost_review: float) -> tuple[float, float]:
    """Return the two thresholds between which a row is better reviewed by a person (Chow 1970).

    Below the first, calling the row negative costs less than a review; from the second on, calling it positive does.

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
    _check_costs(cost_review=cost_review)
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
    y, p, _ = _checked(y_true, y_prob, None)
    if not 1 <= k <= len(p):
        raise ValueError(f"k must lie between 1 and the number of rows, {len(p)}; got {k}.")
    cut = np.partition(p, -k)[-k]
    above, tied = p > cut, p == cut
    return float((y[above].sum() + (k - above.sum()) * y[tied].mean()) / k)


class CalibrationBins(NamedTuple):
    """Rows grouped by their probability; empty bins are left out.

    Attributes
    ----------
    mean_prob, frequency : ndarray of shape (m,)
        What was promised, and the share of positives that came.
    rows : ndarray of shape (m,)
        Their number, or weight.
    """

    mean_prob: Floats
    frequency: Floats
    rows: Counts


Strategy = Literal["uniform", "quantile"]


def calibration_bins(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    n_bins: int = 15,
    *,
    strategy: Strategy = "uniform",
    sample_weight: ArrayLike | None = None,
) -> CalibrationBins:
    """Group rows by probability, as scikit-learn's ``calibration_curve`` does, with the counts that it leaves out.

    Parameters
    ----------
    y_true, y_prob, sample_weight
        As in `threshold_curve`.
    n_bins : int
    strategy : {'uniform', 'quantile'}
        Bins of equal width, or of equal numbers of rows. A bin includes its right end.

    Returns
    -------
    CalibrationBins

    Examples
    --------
    >>> calibration_bins([0, 1, 1], [0.2, 0.3, 0.9], n_bins=2).frequency
    array([0.5, 1. ])
    """
    y, p, weight = _checked(y_true, y_prob, sample_weight)
    bins = _bin_numbers(p, _bin_edges(p, n_bins, strategy), strategy)
    rows = np.bincount(bins, weights=None if sample_weight is None else weight, minlength=n_bins)
    filled = rows > 0
    mean_prob = np.bincount(bins, weights=p * weight, minlength=n_bins)[filled] / rows[filled]
    frequency = np.bincount(bins, weights=y * weight, minlength=n_bins)[filled] / rows[filled]
    return CalibrationBins(mean_prob, frequency, rows[filled])


def expected_calibration_error(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    n_bins: int = 15,
    *,
    strategy: Strategy = "uniform",
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the mean distance between promised probability and observed frequency (Naeini et al. 2015).

    Each bin counts with its share of the rows. The value depends on the bins: compare only values of equal `n_bins` and
    `strategy`, and know that few rows in many bins make a calibrated model look bad.

    Parameters
    ----------
    y_true, y_prob, n_bins, strategy, sample_weight
        As in `calibration_bins`. Probabilities, not log-odds: those are refused.

    Returns
    -------
    float
        From 0, calibrated, to 1.

    Examples
    --------
    >>> expected_calibration_error([0, 1], [0.25, 0.75], n_bins=2)
    0.25
    """
    y, p, weight = _checked(y_true, y_prob, sample_weight)
    edges = _bin_edges(p, n_bins, strategy)
    gaps = np.zeros(n_bins)
    # Within a bin, weights times (p - y) sum to rows times (mean probability - frequency). In pieces that fit into a
    # processor's cache, this takes half the time.
    for start in range(0, len(p), CHUNK):
        part = slice(start, start + CHUNK)
        gap = p[part] - y[part]
        if sample_weight is not None:
            gap *= weight[part]
        gaps += np.bincount(_bin_numbers(p[part], edges, strategy), weights=gap, minlength=n_bins)
    return float(np.abs(gaps).sum() / (len(p) if sample_weight is None else weight.sum()))


def _bin_edges(p: Floats, n_bins: int, strategy: Strategy) -> Floats:
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise ValueError(f"n_bins must be a whole number from 1 on; got {n_bins!r}.")
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f"strategy must be 'uniform' or 'quantile'; got {strategy!r}.")
    shares = np.linspace(0, 1, n_bins + 1)
    return shares if strategy == "uniform" else np.quantile(p, shares)


def _bin_numbers(p: Floats, edges: Floats, strategy: Strategy) -> NDArray[np.intp]:
    if strategy == "quantile":
        return np.searchsorted(edges[1:-1], p)
    # A product is a tenth of the time of a search, and right but for probabilities on an edge or beside it.
    scaled = p * (len(edges) - 1)
    bins = scaled.astype(np.intp)
    scaled -= bins
    if scaled.min() < NEAR or scaled.max() > 1 - NEAR:
        beside = np.flatnonzero((scaled < NEAR) | (scaled > 1 - NEAR))
        bins[beside] = np.searchsorted(edges[1:-1], p[beside])
    return bins


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


def decompose_score(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    score: Literal["brier", "log"] = "brier",
    sample_weight: ArrayLike | None = None,
) -> Decomposition:
    """Decompose the Brier score or the log loss without bins.

    The recalibrated probabilities are the isotonic regression of the labels, so that the parts are never negative and
    depend on no number of bins (CORP: Dimitriadis, Gneiting and Jordan 2021).

    Parameters
    ----------
    y_true, y_prob, sample_weight
        As in `threshold_curve`.
    score : {'brier', 'log'}
        With 'log', a probability of exactly 0 or 1 on the wrong side makes score and miscalibration infinite.

    Returns
    -------
    Decomposition

    Examples
    --------
    >>> decompose_score([0, 1, 0, 1], [0.2, 0.6, 0.4, 0.8]).uncertainty
    0.25
    """
    from sklearn.isotonic import isotonic_regression

    y, p, weight = _checked(y_true, y_prob, sample_weight)
    if score not in ("brier", "log"):
        raise ValueError(f"score must be 'brier' or 'log'; got {score!r}.")
    weight = weight * np.ones(len(p))
    y, p, weight = y[weight > 0], p[weight > 0], weight[weight > 0]

    def mean_score(probability: Floats) -> float:
        losses = (probability - y) ** 2 if score == "brier" else -xlogy(y, probability) - xlogy(1 - y, 1 - probability)
        return float(np.average(losses, weights=weight))

    # Rows of equal probability are one step of the regression.
    levels, level = np.unique(p, return_inverse=True)
    total = np.bincount(level, weights=weight, minlength=len(levels))
    mean = np.bincount(level, weights=weight * y, minlength=len(levels)) / total
    recalibrated = isotonic_regression(mean, sample_weight=total)[level]
    base = np.full(len(p), np.average(y, weights=weight))
    ours, best, uncertainty = mean_score(p), mean_score(recalibrated), mean_score(base)
    return Decomposition(ours, ours - best, uncertainty - best, uncertainty)


def adjust_prior(y_prob: ArrayLike, prevalence_then: float, prevalence_now: float) -> Floats:
    """Move probabilities to another base rate (Saerens et al. 2002).

    Right where only the share of positives has changed, and not what positives and negatives look like.

    Parameters
    ----------
    y_prob : array-like of shape (n,) or (n, 1)
        Calibrated probabilities under the base rate `prevalence_then`.
    prevalence_then, prevalence_now : float
        Shares of positives, in (0, 1).

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> adjust_prior([0.5], prevalence_then=0.5, prevalence_now=0.1).round(3)
    array([0.1])
    """
    p = check_probabilities(y_prob)
    for name, value in (("prevalence_then", prevalence_then), ("prevalence_now", prevalence_now)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie in (0, 1); got {value}.")
    with np.errstate(divide="ignore"):
        return expit(logit(p) + (logit(prevalence_now) - logit(prevalence_then)))


def _checked(
    y_true: ArrayLike, y_prob: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.int64], Floats, Any]:
    p = check_probabilities(y_prob).astype(np.float64, copy=False)
    y = np.asarray(y_true)
    if y.shape != p.shape:
        raise ValueError(f"y_true must have the shape of y_prob, {p.shape}; got {y.shape}.")
    if not p.size:
        raise ValueError("y_true and y_prob hold no rows.")
    if y.dtype.kind not in "fiub" or not ((y == 0) | (y == 1)).all():
        raise ValueError(f"y_true must hold 0 and 1 only; got {_some(y)}.")
    if sample_weight is None:
        return y.astype(np.int64, copy=False), p, np.float64(1)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != p.shape:
        raise ValueError(f"sample_weight must have the shape of y_prob, {p.shape}; got {weight.shape}.")
    if not np.isfinite(weight).all() or weight.min() < 0 or weight.sum() == 0:
        raise ValueError("sample_weight must be finite, not negative, and not all zero.")
    return y.astype(np.int64, copy=False), p, weight


def _some(values: NDArray[np.generic]) -> str:
    found = list(dict.fromkeys(map(str, values[:1000].tolist())))[:4]
    return ", ".join(found) + (", …" if len(values) > len(found) else "")


def _check_costs(**costs: float) -> None:
    for name, cost in costs.items():
        if not (np.isfinite(cost) and cost >= 0):
            raise ValueError(f"{name} must be a finite number from 0 on; got {cost}.")


def _ratio(part: Counts, whole: Counts) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
