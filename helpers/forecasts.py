"""Series and forecasts: smoothing, outliers, and the half-width of a prediction interval.

The gap: ``np.convolve`` shortens a series or bends its ends towards zero. SciPy's filters bend them too, or make up
values beyond them, and one NaN spoils a window or everything after it. pandas keeps the rules below for one series, by
``rolling(window, center=True, min_periods=1)``, and takes hundreds of times as long for thousands of short forecasts.
A Hampel filter that leaves NaN out, and a conformal half-width, are in none of them.

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
(windows, values). For a parabola in each window there is ``scipy.signal.savgol_filter``.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """

    size: int
    steps: NDArray[np.int64]


def smooth(y: ArrayLike, window: int, method: str = "mean", *, causal: bool = False, axis: Axis = None) -> Floats:
    """Smooth series by windows; ends, NaN and `causal` as the module says.

    Parameters
    ----------
    y : array-like
        One series, or many along the other axes. Finite real numbers; NaN and masked values are missing.
    window : int
        Values in a window, from 1 on; odd when centred.
    method : {'mean', 'exponential', 'median', 'gaussian'}
        A key of `METHODS`: what is taken of a window.

        - 'mean': its mean.
        - 'exponential': a mean with weights (1 - alpha)^k, alpha = 2 / (window + 1), for the value k steps ago. They
          have no end: every value before counts, and fills a NaN if window is above 1. It takes ``causal=True``.
        - 'median': its median. Each window is laid out: for long series without gaps, ``scipy.ndimage.median_filter``
          is many times as fast.
        - 'gaussian': a mean with the weights of a normal curve around the value, of a standard deviation of window / 6
          steps.
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
        method, or 'exponential' when centred; an axis that `y` does not have, or that must be named.

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
    if method == "exponential" and not causal:
        raise ValueError("method 'exponential' takes causal=True: its weights fall with the time that has passed.")
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
    series = np.moveaxis(values, axis, -1).astype(np.float64)
    if (largest := np.fmax.reduce(np.abs(series), axis=None, initial=0)) > LARGEST:
        raise ValueError(f"y must hold finite numbers of at most {LARGEST:g}; got {largest:g}.")
    # What of a window lies beyond the longest reach holds nothing.
    before, after = (min(n, series.shape[-1] - 1) for n in ((size - 1, 0) if causal else (size // 2, size // 2)))

    def restore(result: NDArray[Any]) -> NDArray[Any]:
        return np.moveaxis(result, -1, axis).astype(bool if result.dtype == bool else dtype, copy=False)

    return series, Window(size, np.arange(-before, after + 1)), restore


def _ratio(x: Floats, total: Callable[[Floats], Floats]) -> Floats:
    """Return the weighted mean of what is present, from a function that returns weighted sums."""
    present = ~np.isnan(x)
    if present.all():  # The weights of all series are the same.
        return total(x) / total(np.ones(x.shape[-1]))
    return total(np.where(present, x, 0)) / total(present.astype(np.float64))


def _weighted_mean(x: Floats, window: Window, weights: Floats) -> Floats:
    """Return the weighted mean of what is present in each window."""
    reach = max(-window.steps[0], window.steps[-1])
    around = np.zeros(2 * reach + 1)
    around[window.steps + reach] = weights
    return _ratio(x, lambda values: correlate1d(values, around, mode="constant"))


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
    return _ratio(x, lambda values: lfilter([1.0], [1.0, (1 - window.size) / (1 + window.size)], values))


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
    "gaussian": lambda x, window: _weighted_mean(x, window, np.exp(-0.5 * (window.steps * 6 / window.size) ** 2)),
}
