"""Smoothing and outliers against loops over explicit windows and other libraries; intervals by simulation."""

import math
import re
import statistics
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter1d

from helpers import forecasts
from helpers.forecasts import METHODS, conformal_margin, find_outliers, replace_outliers, smooth

NAN = float("nan")
every_method = pytest.mark.parametrize("method", METHODS)


@st.composite
def cases(draw):
    """Return series along an axis, a window, whether it is causal, and the axis."""
    shape = draw(st.lists(st.integers(1, 3), max_size=2))
    axis = draw(st.integers(0, len(shape)))
    shape.insert(axis, draw(st.integers(1, 24)))
    # Eighths are exact in floating point, so that a brute-force median is, too.
    value = st.integers(-800, 800).map(lambda eighths: eighths / 8) | st.just(NAN)
    y = draw(arrays(np.float64, tuple(shape), elements=value))
    causal, window = draw(st.booleans()), draw(st.integers(1, 15) | st.just(10**15))
    return y, window if causal else window // 2 * 2 + 1, causal, draw(st.sampled_from([axis, axis - y.ndim]))


def window_of(y, i, window, causal):
    """Return the places, relative to i, and the values of what exists in the window of y[i]."""
    first, last = (i - window + 1, i) if causal else (i - window // 2, i + window // 2)
    return [(j - i, y[j]) for j in range(max(first, 0), min(last, len(y) - 1) + 1) if not math.isnan(y[j])]


def by_hand(y, window, method, causal):
    """Smooth one series, value by value, from the definitions."""
    result = np.full(len(y), NAN)
    for i in range(len(y)):
        # The weights of 'exponential' have no end.
        found = window_of(y, i, window if method != "exponential" else 2 * len(y) + 1, causal)
        if found:
            places, values = map(np.array, zip(*found, strict=True))
            decay = 1 - 2 / (window + 1)
            result[i] = {
                "mean": lambda t, v: v.mean(),
                "exponential": lambda t, v: np.average(v, weights=decay ** (abs(t) - abs(t).min())),  # noqa: B023
                "median": lambda t, v: statistics.median(v),
                "gaussian": lambda t, v: np.average(v, weights=np.exp(-((t / (window / 6)) ** 2) / 2)),
            }[method](places, values)
    return result


def long_series(n=40_000, missing=0.0):
    random = np.random.default_rng(0)
    y = 20 + np.cumsum(random.normal(size=n)) / 10 + random.normal(size=n)
    y[random.random(n) < missing] = NAN
    return y


# --- smoothing, against other ways to the same result ----------------------------------------------------------------


@every_method
@settings(deadline=None, max_examples=150)
@given(cases())
def test_every_method_is_what_a_loop_over_the_windows_gives(method, case):
    y, window, causal, axis = case
    if method == "exponential":
        window, causal = max(window, 2), True
    expected = np.apply_along_axis(by_hand, axis, y, window, method, causal)
    np.testing.assert_allclose(smooth(y, window, method, causal=causal, axis=axis), expected, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_each_helper_is_the_library_call_that_its_lesson_names(causal, missing):
    y = long_series(400, missing)
    rolling = pd.Series(y).rolling(7, center=not causal, min_periods=1)
    np.testing.assert_allclose(smooth(y, 7, causal=causal), rolling.mean(), rtol=1e-12)
    np.testing.assert_allclose(smooth(y, 7, "median", causal=causal), rolling.median(), rtol=1e-12)
    np.testing.assert_allclose(smooth(y, 7, "exponential", causal=True), pd.Series(y).ewm(span=7).mean(), rtol=1e-12)
    if not causal and not missing:
        inside = slice(3, -3)
        np.testing.assert_allclose(
            smooth(y, 7, "gaussian")[inside], gaussian_filter1d(y, 7 / 6, radius=3)[inside], rtol=1e-12
        )


def test_exponential_weights_are_causal():
    with pytest.raises(ValueError, match="'exponential' takes causal=True"):
        smooth([1, 2], 3, "exponential")
    np.testing.assert_array_equal(smooth([1, NAN, 2], 1, "exponential", causal=True), [1, NAN, 2])


def test_a_mean_at_a_high_level_keeps_its_digits():
    y = 1e6 + np.random.default_rng(0).normal(size=6000)
    exact = [math.fsum(y[i : i + 51]) / 51 for i in range(len(y) - 50)]
    assert np.abs(smooth(y, 51)[25:-25] - exact).max() < 1e-9, "a running sum is off by 1e-7 and more"


@pytest.mark.parametrize("window", [9, 1001])
def test_many_series_are_smoothed_as_each_alone(window):
    y = long_series(1200, 0.1).reshape(4, 300)
    for method in ("mean", "gaussian"):
        each = [smooth(row, window, method) for row in y]
        np.testing.assert_allclose(smooth(y, window, method), each, rtol=1e-12)


def test_a_method_is_added_in_one_place(monkeypatch):
    monkeypatch.setitem(METHODS, "max", lambda x, window: forecasts._by_windows(x, window, lambda w: np.nanmax(w, 1)))
    assert smooth([[1, 5, 2, NAN, 0]], 3, "max").tolist() == [[5, 5, 5, 2, 0]]
    with pytest.raises(ValueError, match="'gaussian', 'max'; got 'average'"):
        smooth([1, 2], 3, "average")


# --- what comes in, and what comes out -------------------------------------------------------------------------------


@every_method
def test_any_numbers_and_layout_are_read_and_nothing_is_written_to(method):
    causal = method == "exponential"
    y = (1e6 + long_series(480, 0.1)).astype(np.float32).reshape(60, 8)
    y.flags.writeable = False
    wide = y.astype(np.float64)
    expected, frame = (
        smooth(wide, 5, method, causal=causal, axis=0),
        pd.DataFrame(wide, index=pd.date_range("2024", periods=60)),
    )
    column = smooth(frame[0].astype("Float64"), 5, method, causal=causal)
    np.testing.assert_allclose(column, expected[:, 0], rtol=1e-12)
    for given_as in (frame, y, np.asfortranarray(y), np.repeat(y, 2, axis=0)[::2], y.astype(">f8")):
        before = np.array(given_as)
        dtype = np.float32 if before.dtype == np.float32 else np.float64
        found = [
            smooth(given_as, 5, method, causal=causal, axis=0),
            replace_outliers(given_as, 5, axis=1),
            smooth(given_as, 1, method, causal=causal, axis=1),
        ]
        np.testing.assert_allclose(found[0], expected.astype(dtype), rtol=2e-7, strict=True)
        assert (found[1].dtype, find_outliers(given_as, 5, axis=1).dtype) == (dtype, bool)
        assert not any(np.shares_memory(result, given_as) for result in found)
        np.testing.assert_array_equal(given_as, before)
    masked = smooth(np.ma.masked_array(np.nan_to_num(y), np.isnan(y)), 5, method, causal=causal, axis=0)
    np.testing.assert_array_equal(masked, expected.astype(np.float32), strict=True)
    bits = np.random.default_rng(0).integers(0, 2, 40)
    for dtype in (bool, np.uint8, np.int64, np.float16):
        found = smooth(bits.astype(dtype), np.uint8(5), method, causal=causal)
        np.testing.assert_array_equal(found, smooth(bits.tolist(), 5, method, causal=causal), strict=True)


@every_method
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 40)])
def test_nothing_and_nothing_but_nan(method, shape):
    y = np.full(shape, NAN, np.float32)
    for axis in range(len(shape)):
        for found in (
            smooth(y, 3, method, causal=method == "exponential", axis=axis),
            replace_outliers(y, 3, axis=axis),
        ):
            np.testing.assert_array_equal(found, y, strict=True)
        np.testing.assert_array_equal(find_outliers(y, 4, causal=True, axis=axis), y == y, strict=True)


def test_the_axis_of_time_of_columns_is_named_not_guessed():
    column, rows = np.array([[1.0], [5.0], [1.0]], np.float32), [[1, 9, 1], [2, 2, 8]]
    np.testing.assert_allclose(smooth(column, 3, axis=0), np.float32([[3], [7 / 3], [3]]))
    np.testing.assert_array_equal(smooth(column, 3, axis=1), column)
    for function in (smooth, find_outliers, replace_outliers):
        for bad in (column, column.tolist(), column[None], column[..., None], pd.DataFrame(column), pd.DataFrame(rows)):
            with pytest.raises(ValueError, match=r"needs its axis: 0 for series in columns, -1 for series in rows\."):
                function(bad, 3)
        for good in (rows, column[:, 0], column.T, column[:1], column[:0]):
            np.testing.assert_array_equal(function(good, 3), function(good, 3, axis=-1))


SERIES, OUTLIERS, INTERVAL = (
    (smooth, find_outliers, replace_outliers),
    (find_outliers, replace_outliers),
    (conformal_margin,),
)


@pytest.mark.parametrize(
    ("functions", "values", "options", "message"),
    [
        (SERIES, [1, 2], {"window": 3.0}, "window must be a whole number from 1 on; got 3.0."),
        (SERIES, [1, 2], {"window": -3}, "window must be a whole number from 1 on; got -3."),
        (SERIES, [1, 2], {"window": 4}, "window must be odd to be centred; got 4: take 5, or causal=True."),
        (SERIES, [1, 2], {"causal": "no"}, "causal must be True or False; got 'no'."),
        (SERIES, [1, 2], {"axis": 1}, "axis 1 is out of bounds for array of dimension 1"),
        (SERIES, [1, 2], {"axis": 0.0}, "axis must be a whole number; got 0.0."),
        (SERIES, 7.0, {}, "y must be a series; got the single number 7.0."),
        (SERIES, [1, np.inf], {}, "y must hold finite numbers of at most 1e+290; got inf."),
        (SERIES, ["1", "2"], {}, "y must hold real numbers; got dtype <U1."),
        (OUTLIERS, [1, 2, 3], {"n_sigmas": -3}, "n_sigmas must be a finite number from 0 on; got -3."),
        (OUTLIERS, [], {"n_sigmas": NAN}, "n_sigmas must be a finite number from 0 on; got nan."),
        (OUTLIERS, [], {"min_deviation": np.inf}, "min_deviation must be a finite number from 0 on; got inf."),
        (OUTLIERS, [1, 2, 3], {"min_deviation": "3"}, "min_deviation must be a finite number from 0 on; got '3'."),
        (INTERVAL, np.zeros((20, 2, 2)), {}, "shape (n,) or (n, horizons); got (20, 2, 2)."),
        (INTERVAL, [1, NAN, np.inf], {}, "residuals must be finite: 2 of 3 are NaN or infinite."),
        (INTERVAL, np.zeros((0, 3)), {}, "a coverage of 0.9 needs at least 9 rows of residuals; got 0."),
        (INTERVAL, [1], {"coverage": 90}, "coverage must be a number in (0, 1); got 90."),
    ],
)
def test_bad_input_gets_one_sentence(functions, values, options, message):
    for function in functions:
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            function(values, **({} if function is conformal_margin else {"window": 3}) | options)


# --- outliers --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([0.0, 0.125, 10.0]))
def test_outliers_are_those_of_a_loop_over_the_windows(case, n_sigmas, min_deviation):
    y, window, causal, axis = case

    def replaced_by_hand(y):
        result = y.copy()
        for i in np.flatnonzero(~np.isnan(y)):
            values = [v for _, v in window_of(y, i, window, causal)]
            median = statistics.median(values)
            mad = statistics.median([abs(v - median) for v in values])
            if abs(y[i] - median) > max(n_sigmas * 1.4826 * mad, min_deviation):
                result[i] = median
        return result

    expected = np.apply_along_axis(replaced_by_hand, axis, y)
    options = {"n_sigmas": n_sigmas, "min_deviation": min_deviation, "causal": causal, "axis": axis}
    np.testing.assert_array_equal(replace_outliers(y, window, **options), expected)
    np.testing.assert_array_equal(find_outliers(y, window, **options), ~np.isnan(y) & (expected != y))


# --- the half-width of a prediction interval -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (20, 0.9), (99, 0.07)])
def test_the_interval_holds_the_next_value_as_often_as_asked(n, coverage):
    # Each column is one history of n heavy-tailed residuals, and a next one.
    *histories, following = np.random.default_rng(0).standard_t(2, (n + 1, 40_000))
    covered = (np.abs(following) <= conformal_margin(histories, coverage)).mean()
    # Exactly this often, for exchangeable residuals without ties.
    expected = math.ceil(Fraction(str(coverage)) * (n + 1)) / (n + 1)
    assert covered == pytest.approx(expected, abs=0.008)


@given(st.integers(1, 300), st.sampled_from([0.01, 0.07, 0.1, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99]))
def test_the_half_width_is_a_sorted_absolute_residual_or_too_few_are_refused(n, coverage):
    residuals = np.random.default_rng(n).normal(size=(n, 2))
    rank = math.ceil(Fraction(str(coverage)) * (n + 1))
    if rank > n:
        needed = next(m for m in range(1, 10**4) if math.ceil(Fraction(str(coverage)) * (m + 1)) <= m)
        with pytest.raises(ValueError, match=f"a coverage of {coverage} needs at least {needed} rows .*; got {n}."):
            conformal_margin(residuals, coverage)
    else:
        assert conformal_margin(residuals, coverage).tolist() == np.sort(abs(residuals), axis=0)[rank - 1].tolist()
        assert conformal_margin(residuals[:, 0], coverage) == conformal_margin(residuals, coverage)[0]
