"""Series and forecasts: smoothing, outliers, and the half-width of a prediction interval.

The gap: ``np.convolve`` shortens a series or bends its ends towards zero, and loses every window that holds a NaN.
``scipy.ndimage.uniform_filter1d`` is a running sum: it loses digits where the level is high, and everything after the
first NaN. ``scipy.signal.savgol_filter`` knows no NaN either, and no causal window. pandas keeps the rules below for
means and medians, but has no parabola and no centred exponential weights. A Hampel filter that leaves NaN out, and a
conformal half-width, are in none of them.

A result has as many values as the series, and these rules hold throughout:

- A window holds only what exists. At the ends it shrinks, and nothing is made up to fill it; so it may also be longer
  than the series.
- NaN is a missing value. Windows are taken without it, and a window that holds nothing else gives NaN.
- With ``causal=False`` a window is centred on each value, and half of it is the future, which a forecast does not know.
  With ``causal=True`` it ends with the value itself, and the result lags.

To add a smoothing method, write a function of a series and its `Window`, and enter it in `METHODS` at the end of this
module: `smooth` and its messages take it from there, and its test asks for a loop to compare with. The series is
float64 of shape (..., steps), with NaN where a value is missing; the function returns an array of that shape.
`_weighted_mean` does the work for any weights, and `_by_windows` calls a function of the windows themselves, of shape
(windows, values).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d
from scipy.signal import lfilter

from helpers.decisions import FROM_0, SHARE, Floats, check_numbers, check_real

Axis = int | None

# Values of windows laid out side by side: with a few copies they stay in a processor's cache.
LAID_OUT = 65_536
# Beyond this, the sum of a window may overflow.
LARGEST = 1e290
# The standard deviation of normal values, over their median absolute deviation.
MAD_TO_SIGMA = 1.4826


class Window(NamedTuple):
    """The window of a value; see `METHODS`.

    Attributes
    ----------
    size : int
        Values in a window, as the caller gave it.
    steps : ndarray of int
        Places in the window, relative to the value: 0 is the value itself, -1 the one before. A window that reaches
        beyond the series is cut to its length.
    causal : bool
        The window ends with its value.
    """

    size: int
    steps: NDArray[np.int64]
    causal: bool


def smooth(y: ArrayLike, window: int, method: str = "mean", *, causal: bool = False, axis: Axis = None) -> Floats:
    """Smooth series by windows; ends, NaN and `causal` as the module says.

    Parameters
    ----------
    y : array-like
        One series, or many along the other axes. Finite real numbers; NaN and masked values are missing.
    window : int
        Values in a window, from 1 on; odd when centred.
    method : {'mean', 'exponential', 'median', 'savgol', 'gaussian'}
        A key of `METHODS`: what is taken of a window.

        - 'mean': its mean.
        - 'exponential': a mean with weights (1 - alpha)^k, alpha = 2 / (window + 1), for values k steps away. They have
          no end: every value counts, and every NaN that has one before it (or after it, when centred) is filled.
        - 'median': its median.
        - 'savgol': at the value, the parabola that fits the window best (Savitzky and Golay 1964); through two values
          a line. Where values are missing on one side, at the ends and when causal, it smooths less, and beyond the
          values of a long gap it may swing far.
        - 'gaussian': a mean with the weights of a normal curve around the value, of a standard deviation of window / 6
          steps.

        Time grows with the window, but for 'exponential'. 'median' and 'savgol' lay out each window: for long series
        without gaps, SciPy's ``median_filter`` and ``savgol_filter`` are many times as fast.
    causal : bool
        False: windows centred on each value. True: each value and the ``window - 1`` before it.
    axis : int, optional
        The axis of time: 0 for series in columns, -1 for series in rows. None: the last; but for a DataFrame, and for
        a last axis of one step, as predictions of shape (n, 1) have it, the axis must be named.

    Returns
    -------
    ndarray of the shape of y
        float32 for float32, though computed in float64; else float64. An empty series gives an empty one.

    Raises
    ------
    TypeError
        `y` holds no real numbers, `window` or `axis` is no whole number, or `causal` is no bool.
    ValueError
        `y` is a single number, infinite or beyond ±1e290; `window` is below 1, or even when centred; an unknown
        method; an axis that `y` does not have, or that must be named.

    Examples
    --------
    >>> smooth([1, 2, 6, 4, 5], window=3)
    array([1.5, 3. , 4. , 5. , 4.5])
    >>> smooth([1, 2, np.nan, 4, 5], window=3, causal=True)
    array([1. , 1.5, 1.5, 3. , 4.5])
    >>> smooth([[1, 9, 1], [2, 2, 8]], window=3, method="median")
    array([[5., 1., 5.],
           [2., 2., 5.]])
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}; got {method!r}.")
    series, reach, restore = _check(y, window, causal, axis)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the NaN of a window without values.
        return restore(METHODS[method](series, reach) if series.size else series)


def find_outliers(
    y: ArrayLike, window: int, n_sigmas: float = 3, *, min_deviation: float = 0, causal: bool = False, axis: Axis = None
) -> NDArray[np.bool_]:
    """Find the values that lie far from the median of their window (Hampel 1974).

    A value is an outlier if ``|y - median| > max(n_sigmas * 1.4826 * MAD, min_deviation)``. MAD is the median absolute
    deviation within the same window, around its own median; times 1.4826 it is the standard deviation of normal values.

    Parameters
    ----------
    y, window, causal, axis
        As in `smooth`.
    n_sigmas : float
        From 0 on; with 0, `min_deviation` alone decides.
    min_deviation : float
        In the unit of `y`, from 0 on: what is nearer to the median is never an outlier. Where more than half of a
        window is equal, MAD is 0, and without this every other value is one.

    Returns
    -------
    ndarray of bool, of the shape of y
        False for NaN.

    Raises
    ------
    TypeError, ValueError
        As in `smooth`; `n_sigmas` or `min_deviation` is no such number.

    Examples
    --------
    >>> find_outliers([1, 2, 30, 4, 5, np.nan], window=5)
    array([False, False,  True, False, False, False])
    """
    series, reach, restore = _check(y, window, causal, axis)
    return restore(_hampel(series, reach, n_sigmas, min_deviation)[0])


def replace_outliers(
    y: ArrayLike, window: int, n_sigmas: float = 3, *, min_deviation: float = 0, causal: bool = False, axis: Axis = None
) -> NDArray[np.floating]:
    """Replace outliers by the median of their window; everything else, NaN too, stays as it is.

    Parameters
    ----------
    y, window, n_sigmas, min_deviation, causal, axis
        As in `find_outliers`.

    Returns
    -------
    ndarray of the shape of y
        float32 for float32, else float64.

    Raises
    ------
    TypeError, ValueError
        As in `find_outliers`.

    Examples
    --------
    >>> replace_outliers([1, 2, 30, 4, 5, np.nan], window=5)
    array([ 1.,  2.,  4.,  4.,  5., nan])
    """
    series, reach, restore = _check(y, window, causal, axis)
    outliers, median = _hampel(series, reach, n_sigmas, min_deviation)
    return restore(np.where(outliers, median, series))


def conformal_margin(residuals: ArrayLike, coverage: float = 0.9) -> np.float64 | Floats:
    """Return the half-width of a prediction interval around a forecast (split conformal, Papadopoulos et al. 2002).

    The ``ceil((n + 1) * coverage)``-th smallest absolute residual of n, of which a plain ``np.quantile`` falls short.
    The interval, forecast ± half-width, holds the next value with at least that probability if the residuals are those
    of values that the model has not seen, and the next one is exchangeable with them, whatever their distribution; a
    series whose noise changes keeps it only roughly.

    Parameters
    ----------
    residuals : array-like of shape (n,) or (n, horizons)
        Truth minus forecast, in either order.
    coverage : float
        In (0, 1).

    Returns
    -------
    float, or ndarray of shape (horizons,)
        One half-width, or one for each horizon, each of which holds by itself.

    Raises
    ------
    TypeError
        The residuals are no real numbers.
    ValueError
        Another shape, NaN or infinite residuals, a coverage out of range, or too few rows for it: 0.9 needs 9.

    Examples
    --------
    >>> float(conformal_margin([0.1, -0.4, 0.2, 0.3], coverage=0.8))
    0.4
    """
    values = check_real(residuals, "residuals")
    if values.ndim not in (1, 2):
        raise ValueError(f"residuals must be of shape (n,) or (n, horizons); got {values.shape}.")
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"residuals must be finite: {bad} of {values.size} are NaN or infinite.")
    check_numbers(*SHARE, coverage=coverage)
    # A product such as 100 * 0.07 = 7.000000000000001 is a 7.
    rank = max(1, int(np.ceil((len(values) + 1) * coverage - 1e-9)))
    if rank > len(values):
        needed = np.ceil(coverage / (1 - coverage) - 1e-9)
        raise ValueError(f"a coverage of {coverage} needs at least {needed:.0f} rows of residuals; got {len(values)}.")
    return np.sort(np.abs(values).astype(np.float64, copy=False), axis=0)[rank - 1]


def _check(y: ArrayLike, window: int, causal: bool, axis: Axis) -> tuple[Floats, Window, Callable[[Any], Any]]:
    """Return the series along the last axis, the window of a value, and the way back to the axis and dtype of y."""
    if not isinstance(causal, (bool, np.bool_)):
        raise TypeError(f"causal must be True or False; got {causal!r}.")
    check_numbers("a whole number from 1 on", 1, np.inf, Integral, window=window)
    check_numbers("a whole number", -np.inf, np.inf, Integral, axis=-1 if axis is None else axis)
    size = int(window)
    if not causal and size % 2 == 0:
        raise ValueError(f"window must be odd to be centred; got {window}: take {size + 1}, or causal=True.")
    values = check_real(y, "y")
    if not values.ndim:
        raise ValueError(f"y must be a series; got the single number {values}.")
    if axis is None and values.ndim > 1 and (values.shape[-1] == 1 < values.size or hasattr(y, "iloc")):
        raise ValueError(f"y of shape {values.shape} needs its axis: 0 for series in columns, -1 for series in rows.")
    axis, dtype = -1 if axis is None else axis, np.float32 if values.dtype == np.float32 else np.float64
    low, high = (float(extreme(values, axis=None, initial=np.nan)) for extreme in (np.fmin.reduce, np.fmax.reduce))
    if low < -LARGEST or high > LARGEST:
        raise ValueError(f"y must hold finite numbers of at most {LARGEST:g}; got values from {low:g} to {high:g}.")
    series = np.moveaxis(values, axis, -1).astype(np.float64)
    # What of a window lies beyond the longest reach holds nothing.
    before, after = (min(n, series.shape[-1] - 1) for n in ((size - 1, 0) if causal else (size // 2, size // 2)))

    def restore(result: NDArray[Any]) -> NDArray[Any]:
        return np.moveaxis(result, -1, axis).astype(bool if result.dtype == bool else dtype, copy=False)

    return series, Window(size, np.arange(-before, after + 1), bool(causal)), restore


def _with_presence(x: Floats) -> Floats:
    """Return the values, 0 in place of NaN, and 1 where there is one: of shape (2, *x.shape)."""
    return np.stack([np.nan_to_num(x), ~np.isnan(x)])


def _weighted_mean(x: Floats, window: Window, weights: Floats) -> Floats:
    """Return the weighted mean of what is present in each window."""
    origin = -int(window.steps[0]) - len(weights) // 2
    total, weight = correlate1d(_with_presence(x), weights, mode="constant", origin=origin)
    return total / weight


def _by_windows(x: Floats, window: Window, take: Callable[[Floats], Floats]) -> Floats:
    """Return what `take` finds in each window; it gets many of them, of shape (windows, values)."""
    ends = [(0, 0)] * (x.ndim - 1) + [(-window.steps[0], window.steps[-1])]
    windows = sliding_window_view(np.pad(x, ends, constant_values=np.nan), len(window.steps), axis=-1)
    result, portion = np.empty(x.shape), max(1, LAID_OUT // len(window.steps))
    for start in range(0, x.size, portion):
        part = np.unravel_index(np.arange(start, min(start + portion, x.size)), x.shape)
        result[part] = take(windows[part])
    return result


def _exponential(x: Floats, window: Window) -> Floats:
    decay = (window.size - 1) / (window.size + 1)
    total, weight, ago = _until_last(x, decay)
    if window.causal:
        return total / weight
    later, later_weight, ahead = (v[..., ::-1] for v in _until_last(x[..., ::-1], decay))
    # Deep in a gap all weights vanish, but not their ratios: count from the nearer of its two ends.
    nearer = np.minimum(ago, ahead)
    past, future = decay ** (ago - nearer), decay ** (ahead - nearer)
    here, present = _with_presence(x)
    total = past * total + future * later - here
    return total / (past * weight + future * later_weight - present)


def _until_last(x: Floats, decay: float) -> tuple[Floats, Floats, Floats]:
    """Return the decaying sums of values and weights up to the last value present, and how many steps ago that was."""
    steps = np.arange(x.shape[-1])
    last = np.maximum.accumulate(np.where(np.isnan(x), 0, steps), axis=-1)
    sums = lfilter([1.0], [1.0, -decay], _with_presence(x))
    total, weight = np.take_along_axis(sums, last[np.newaxis], axis=-1)
    return total, weight, np.where(weight > 0, steps - last, np.inf)


def _parabola(windows: Floats, steps: NDArray[np.int64]) -> Floats:
    """Return the value at step 0 of the parabola that fits each window best.

    By polynomials that are orthogonal on the values present (Forsythe 1957): normal equations would lose all digits
    where few of them lie close together and far from the value.
    """
    values, steps = windows.T, steps[:, np.newaxis]
    present = ~np.isnan(values)
    n = present.sum(axis=0)
    mean, centre = (np.where(present, v, 0.0).sum(axis=0) / n for v in (values, steps))
    line = np.where(present, steps - centre, 0.0)
    spread, shift = (line**2).sum(axis=0) / n, (steps * line**2).sum(axis=0) / (line**2).sum(axis=0)
    curve = np.where(present, (steps - shift) * line - spread, 0.0)
    above = np.where(present, values - mean, 0.0)
    slope, bend = ((above * basis).sum(axis=0) / (basis**2).sum(axis=0) for basis in (line, curve))
    return mean - np.where(n > 1, slope * centre, 0.0) + np.where(n > 2, bend * (shift * centre - spread), 0.0)


def _median(windows: Floats) -> Floats:
    # np.nanmedian takes a hundred times as long. Sorted, NaN come last.
    ordered = np.sort(windows, axis=1)
    n = ordered.shape[1] - np.isnan(ordered).sum(axis=1, keepdims=True)
    middle = np.concatenate([np.maximum(n - 1, 0) // 2, n // 2], axis=1)
    return np.take_along_axis(ordered, middle, axis=1).mean(axis=1)


def _hampel(x: Floats, window: Window, n_sigmas: float, min_deviation: float) -> tuple[NDArray[np.bool_], Floats]:
    """Return which values are outliers, and the median of each window."""
    check_numbers(*FROM_0, n_sigmas=n_sigmas, min_deviation=min_deviation)
    if not x.size:
        return np.zeros(x.shape, dtype=bool), x
    median = _by_windows(x, window, _median)
    deviation = _by_windows(x, window, lambda windows: _median(np.abs(windows - _median(windows)[:, np.newaxis])))
    return np.abs(x - median) > np.maximum(n_sigmas * MAD_TO_SIGMA * deviation, min_deviation), median


METHODS: dict[str, Callable[[Floats, Window], Floats]] = {
    "mean": lambda x, window: _weighted_mean(x, window, np.ones(len(window.steps))),
    "exponential": _exponential,
    "median": lambda x, window: _by_windows(x, window, _median),
    "savgol": lambda x, window: _by_windows(x, window, partial(_parabola, steps=window.steps)),
    "gaussian": lambda x, window: _weighted_mean(x, window, np.exp(-0.5 * (window.steps * 6 / window.size) ** 2)),
}
