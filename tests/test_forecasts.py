"""Smoothing and outliers against loops over explicit windows and other libraries; intervals by simulation."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage, signal

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
    causal, window = draw(st.booleans()), draw(st.integers(1, 15))
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
                "savgol": lambda t, v: np.polyfit(t, v, min(2, len(t) - 1))[-1],
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
    expected = np.apply_along_axis(by_hand, axis, y, window, method, causal)
    np.testing.assert_allclose(smooth(y, window, method, causal=causal, axis=axis), expected, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("missing", [0, 0.001, 0.2])
@pytest.mark.parametrize(("window", "causal"), [(1, False), (5, False), (501, False), (4, True), (64, True)])
def test_long_series_with_gaps_are_smoothed_as_by_pandas(window, causal, missing):
    y = long_series(missing=missing)
    y[100:2500] = y[:3] = NAN if missing else 1
    rolling = pd.Series(y).rolling(window, center=not causal, min_periods=1)
    np.testing.assert_allclose(smooth(y, window, causal=causal), rolling.mean(), rtol=1e-12)
    np.testing.assert_array_equal(smooth(y, window, "median", causal=causal), rolling.median())
    expected = pd.Series(y).ewm(span=window, adjust=True, ignore_na=False).mean()
    np.testing.assert_allclose(smooth(y, window, "exponential", causal=True), expected, rtol=1e-11)


@pytest.mark.parametrize("window", [3, 5, 51, 501])
def test_inside_a_series_scipy_and_numpy_agree(window):
    y, half = long_series(5000), window // 2
    inside = slice(half, len(y) - half)
    for method, expected in (
        ("mean", np.convolve(y, np.ones(window) / window, "same")),
        ("median", ndimage.median_filter(y, window)),
        ("savgol", signal.savgol_filter(y, window, 2)),
        ("gaussian", ndimage.gaussian_filter1d(y, window / 6, radius=half)),
    ):
        np.testing.assert_allclose(smooth(y, window, method)[inside], expected[inside])
    weights = signal.savgol_coeffs(window, 2, pos=window - 1, use="dot")
    causal = smooth(y, window, "savgol", causal=True)[window - 1 :]
    np.testing.assert_allclose(causal, np.correlate(y, weights), rtol=1e-10)


def test_exponential_weights_bridge_a_gap_in_which_they_all_vanish():
    y = np.full(6000, NAN)
    y[10], y[5000] = 1, 3
    centred = smooth(y, 3, "exponential")
    assert centred[[0, 10, 100, 4900, 5000, 5999]].tolist() == [1, 1, 1, 3, 3, 3]
    assert centred[2505] == pytest.approx(2)
    causal = smooth(y, 3, "exponential", causal=True)
    assert np.isnan(causal[:10]).all()
    assert causal[[10, 4999, 5000]].tolist() == [1, 1, 3]


def test_savgol_keeps_its_digits_where_few_values_lie_far_from_the_point():
    y = np.full(400, NAN)
    y[:4] = 1e6 + np.array([1, 2, 4, 3])
    t = np.arange(201.0)
    # The parabola through four values by least squares, in exact sums.
    expected = 1e6 + 0.8 + 2.3 * t - 0.5 * t**2
    np.testing.assert_allclose(smooth(y, 401, "savgol")[:201], expected, rtol=1e-9)


def test_a_mean_at_a_high_level_keeps_its_digits():
    y = 1e6 + np.random.default_rng(0).normal(size=6000)
    exact = [math.fsum(y[i : i + 51]) / 51 for i in range(len(y) - 50)]
    assert np.abs(smooth(y, 51)[25:-25] - exact).max() < 1e-9, "a running sum is off by 1e-7 and more"


@pytest.mark.parametrize("other", [NAN, 1e12])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "exponential"])
def test_one_value_touches_no_window_but_its_own(method, other):
    y = long_series(700)
    spoilt = np.where(np.arange(700) == 350, other, y)
    for causal, first, last in ((False, 325, 375), (True, 350, 400)):
        one, two = (np.delete(smooth(v, 51, method, causal=causal), np.s_[first : last + 1]) for v in (y, spoilt))
        np.testing.assert_allclose(one, two, rtol=1e-13)


@every_method
def test_a_window_may_be_longer_than_the_series(method):
    y = long_series(50, 0.1)
    for window in (99, 10**15 + 1):
        np.testing.assert_allclose(smooth(y, window, method), by_hand(y, window, method, False))


def test_a_method_is_added_in_one_place(monkeypatch):
    monkeypatch.setitem(METHODS, "max", lambda x, window: forecasts._by_windows(x, window, lambda w: np.nanmax(w, 1)))
    assert smooth([[1, 5, 2, NAN, 0]], 3, "max").tolist() == [[5, 5, 5, 2, 0]]
    with pytest.raises(ValueError, match="'gaussian', 'max'; got 'average'"):
        smooth([1, 2], 3, "average")


# --- what comes in, and what comes out -------------------------------------------------------------------------------


@every_method
def test_float32_is_computed_in_float64_and_other_numbers_become_float64(method):
    y = (1e6 + long_series(3000)).astype(np.float32)
    y[::301] = NAN
    found = smooth(y, 51, method)
    assert (found.dtype, replace_outliers(y, 51).dtype, find_outliers(y, 51).dtype) == (np.float32, np.float32, bool)
    np.testing.assert_array_equal(found, smooth(y.astype(np.float64), 51, method).astype(np.float32))
    bits = np.random.default_rng(0).integers(0, 2, 40)
    for dtype in (bool, np.int8, np.uint8, np.int64, np.float16, ">f8"):
        found = smooth(bits.astype(dtype), np.uint8(5), method)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, smooth(bits.tolist(), 5, method))


@every_method
def test_pandas_and_any_layout_are_read_and_nothing_is_written_to(method):
    y = long_series(480, 0.1).reshape(60, 8)
    expected = smooth(y, 5, method, axis=0)
    frame = pd.DataFrame(y, index=pd.date_range("2024", periods=60))
    np.testing.assert_array_equal(smooth(frame[0].astype("Float64"), 5, method), smooth(y[:, 0], 5, method))
    y.flags.writeable = False
    for given_as in (frame, y, np.asfortranarray(y), np.repeat(y, 2, axis=0)[::2]):
        before = np.array(given_as)
        np.testing.assert_array_equal(smooth(given_as, 5, method, axis=0), expected)
        found = smooth(given_as, 1, method, axis=0), replace_outliers(given_as, 5, 0.1, axis=0)
        assert not any(np.shares_memory(result, given_as) for result in found)
        np.testing.assert_array_equal(given_as, before)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_masked_values_are_missing(dtype):
    y = np.ma.masked_array(np.array([1, 2, 999, 4, 5], dtype), mask=[0, 0, 1, 0, 0])
    assert not isinstance(smooth(y, 3), np.ma.MaskedArray)
    assert smooth(y, 3).tolist() == [1.5, 1.5, 3, 4.5, 4.5]
    assert np.isnan(replace_outliers(y, 3)).tolist() == [False, False, True, False, False]


@every_method
@pytest.mark.filterwarnings("error")
def test_nothing_and_nothing_but_nan(method):
    for shape in ((0,), (0, 5), (5, 0), (3, 40)):
        for axis in range(len(shape)):
            y = np.full(shape, NAN, np.float32)
            for found in (smooth(y, 3, method, axis=axis), replace_outliers(y, 3, axis=axis)):
                assert (found.shape, found.dtype) == (shape, np.float32)
                assert np.isnan(found).all()
            outliers = find_outliers(y, 4, causal=True, axis=axis)
            assert (outliers.shape, outliers.dtype, outliers.any()) == (shape, bool, False)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        ([1, 2], {"window": 3.0}, "window must be a whole number; got 3.0."),
        ([1, 2], {"window": True}, "window must be a whole number; got True."),
        ([1, 2], {"window": -3}, "window must hold at least 1 value; got -3."),
        ([1, 2], {"window": 4}, "window must be odd to be centred; got 4: take 5, or causal=True."),
        ([1, 2], {"causal": "no"}, "causal must be True or False; got 'no'."),
        ([1, 2], {"axis": 1}, "axis 1 is out of bounds for array of dimension 1"),
        ([1, 2], {"axis": None}, "axis must be a whole number; got None."),
        (7.0, {}, "y must be a series; got the single number 7.0."),
        ([1, np.inf], {}, "y must hold finite numbers of at most 1e+290; got values from 1 to inf."),
        ([1, 1e300], {}, "got values from 1 to 1e+300."),
        (["1", "2"], {}, "y must hold real numbers; got dtype <U1."),
    ],
)
@pytest.mark.parametrize("function", [smooth, find_outliers, replace_outliers])
def test_bad_input_gets_one_sentence(function, y, options, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        function(y, **({"window": 3} | options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("value", [-3, NAN, np.inf, True, "3", [3], None])
@pytest.mark.parametrize("limit", ["n_sigmas", "min_deviation"])
def test_bad_limits_of_outliers_are_told_what_is_accepted(limit, value):
    for function, y in ((find_outliers, [1, 2, 3]), (replace_outliers, [])):
        with pytest.raises((TypeError, ValueError), match=rf"{limit} must be .*(above|at least) 0|{limit}.* a number;"):
            function(y, 3, **{limit: value})


# --- the half-width of a prediction interval -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (20, 0.9), (99, 0.07), (30, 0.95)])
def test_the_interval_holds_the_next_value_as_often_as_asked(n, coverage):
    # Each column is one history of n heavy-tailed residuals, and a next one.
    random = np.random.default_rng(0)
    histories, following = random.standard_t(2, (n, 40_000)), random.standard_t(2, 40_000)
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


@pytest.mark.parametrize(
    ("residuals", "coverage", "message"),
    [
        (np.zeros((20, 2, 2)), 0.9, "shape (n,) or (n, horizons); got (20, 2, 2)."),
        ([1, NAN, np.inf], 0.5, "residuals must be finite: 2 of 3 are NaN or infinite."),
        (["a"], 0.5, "residuals must hold real numbers; got dtype <U1."),
        (np.zeros((0, 3)), 0.9, "a coverage of 0.9 needs at least 9 rows of residuals; got 0."),
        ([1], 90, "coverage must lie in (0, 1); got 90."),
        ([1], NAN, "coverage must lie in (0, 1); got nan."),
        ([1], "0.9", "coverage must be a number; got '0.9'."),
    ],
)
def test_bad_residuals_get_one_sentence(residuals, coverage, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        conformal_margin(residuals, coverage)
    assert message in str(caught.value)
