"""Smoothing and outliers against loops over explicit windows and other libraries; margins by simulation."""

import math
import statistics
import tracemalloc
from contextlib import nullcontext
from fractions import Fraction
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage, signal

from helpers import forecasts
from helpers.forecasts import conformal_margin, find_outliers, replace_outliers, smooth

METHODS = ["mean", "exponential", "median", "savgol", "gaussian"]
WINDOWED = ["mean", "median", "savgol", "gaussian"]
NAN = float("nan")

# Eighths are exact in floating point, so that a brute-force result is, too.
value = st.integers(-800, 800).map(lambda eighths: eighths / 8) | st.just(NAN)
series = arrays(np.float64, st.integers(1, 30), elements=value)


@st.composite
def cases(draw, most=15):
    """Return series along an axis, a window, and whether it is causal."""
    shape = draw(st.lists(st.integers(1, 3), max_size=2))
    axis = draw(st.integers(0, len(shape)))
    shape.insert(axis, draw(st.integers(1, 24)))
    y = draw(arrays(np.float64, tuple(shape), elements=value))
    causal = draw(st.booleans())
    window = draw(st.integers(1, most))
    return y, window if causal else window // 2 * 2 + 1, causal, draw(st.sampled_from([axis, axis - y.ndim]))


def tiny_blocks():
    """Let even short series be worked on in many pieces."""
    return mock.patch.multiple(forecasts, BLOCK=20, LAID_OUT=16)


def window_of(y, i, window, causal):
    """Return the places, relative to i, and the values of what exists in the window of y[i]."""
    first, last = (i - window + 1, i) if causal else (i - window // 2, i + window // 2)
    return [(j - i, y[j]) for j in range(max(first, 0), min(last, len(y) - 1) + 1) if not math.isnan(y[j])]


def parabola_at_0(found):
    """Solve the normal equations in fractions: exact, whatever their condition."""
    size = min(3, len(found))
    rows = [
        [sum(Fraction(t) ** (a + b) for t, _ in found) for b in range(size)]
        + [sum(Fraction(t) ** a * Fraction(v) for t, v in found)]
        for a in range(size)
    ]
    for a in range(size):
        rows[a] = [cell / rows[a][a] for cell in rows[a]]
        for b in range(size):
            if b != a:
                rows[b] = [cell - rows[b][a] * pivot for cell, pivot in zip(rows[b], rows[a], strict=True)]
    return float(rows[0][-1])


def by_hand(y, window, method, causal):
    """Smooth one series, value by value, from the definitions."""
    result = []
    for i in range(len(y)):
        # The weights of 'exponential' have no end.
        found = window_of(y, i, window if method != "exponential" else 2 * len(y) + 1, causal)
        if not found:
            result.append(NAN)
            continue
        places, values = zip(*found, strict=True)
        if method == "median":
            result.append(statistics.median(values))
        elif method == "savgol":
            result.append(parabola_at_0(found))
        else:
            nearest = min(map(abs, places))
            alpha = 2 / (window + 1)
            weight = {
                "mean": lambda t: 1.0,
                "exponential": lambda t: (1 - alpha) ** (abs(t) - nearest),  # noqa: B023
                "gaussian": lambda t: math.exp(-((t / (window / 6)) ** 2) / 2),
            }[method]
            weights = [weight(t) for t in places]
            result.append(math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights))
    return np.array(result)


def long_series(n=40_000, missing=0.0, seed=0):
    random = np.random.default_rng(seed)
    y = 20 + np.cumsum(random.normal(size=n)) / 10 + random.normal(size=n)
    y[random.random(n) < missing] = NAN
    return y


# --- smoothing, against other ways to the same result ------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=120)
@given(cases(), st.booleans())
def test_every_method_is_what_a_loop_over_the_windows_gives(method, case, pieces):
    y, window, causal, axis = case
    expected = np.apply_along_axis(by_hand, axis, y, window, method, causal)
    with tiny_blocks() if pieces else nullcontext():
        found = smooth(y, window, method, causal=causal, axis=axis)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("missing", [0, 0.001, 0.2])
@pytest.mark.parametrize(
    ("window", "causal"), [(1, False), (5, False), (51, False), (501, False), (4, True), (64, True)]
)
def test_mean_and_median_of_a_long_series_are_those_of_pandas(window, causal, missing):
    y = long_series(missing=missing)
    rolling = pd.Series(y).rolling(window, center=not causal, min_periods=1)
    np.testing.assert_allclose(smooth(y, window, causal=causal), rolling.mean(), rtol=1e-12)
    np.testing.assert_array_equal(smooth(y, window, "median", causal=causal), rolling.median())


@pytest.mark.parametrize("window", [1, 2, 5, 51, 501])
@pytest.mark.parametrize("missing", [0, 0.001, 0.2])
def test_causal_exponential_weights_are_those_of_pandas(window, missing):
    y = long_series(missing=missing)
    y[100:2500] = NAN if missing else 1
    y[:3] = NAN if missing else 1
    expected = pd.Series(y).ewm(span=window, adjust=True, ignore_na=False).mean()
    np.testing.assert_allclose(smooth(y, window, "exponential", causal=True), expected, rtol=1e-11)


def test_exponential_weights_bridge_a_gap_in_which_they_all_vanish():
    y = np.full(6000, NAN)
    y[10], y[5000] = 1, 3
    centred = smooth(y, 3, "exponential")
    assert centred[[0, 10, 100, 4900, 5000, 5999]].tolist() == [1, 1, 1, 3, 3, 3]
    assert centred[2505] == pytest.approx(2)
    assert (np.diff(centred) >= 0).all()
    causal = smooth(y, 3, "exponential", causal=True)
    assert np.isnan(causal[:10]).all()
    assert (causal[10:5000] == 1).all()
    assert causal[5000] == 3


@pytest.mark.parametrize("window", [3, 5, 51, 501])
def test_inside_a_series_the_others_agree(window):
    y, half = long_series(), window // 2
    inside = slice(half, len(y) - half)
    np.testing.assert_allclose(smooth(y, window)[inside], np.convolve(y, np.ones(window) / window, "valid"))
    np.testing.assert_allclose(smooth(y, window)[inside], ndimage.uniform_filter1d(y, window)[inside])
    np.testing.assert_array_equal(smooth(y, window, "median")[inside], ndimage.median_filter(y, window)[inside])
    np.testing.assert_allclose(smooth(y, window, "savgol")[inside], signal.savgol_filter(y, window, 2)[inside])
    expected = ndimage.gaussian_filter1d(y, window / 6, radius=half)[inside]
    np.testing.assert_allclose(smooth(y, window, "gaussian")[inside], expected)
    weights = signal.savgol_coeffs(window, 2, pos=window - 1, use="dot")
    found = smooth(y, window, "savgol", causal=True)[window - 1 :]
    np.testing.assert_allclose(found, np.correlate(y, weights), rtol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("missing", [0, 0.3])
def test_savgol_leaves_a_parabola_as_it_is_also_at_the_ends_and_between_missing_values(causal, missing):
    t = np.arange(300.0)
    parabola = 0.01 * t**2 - 2 * t + 7
    y = np.where(np.random.default_rng(0).random(300) < missing, NAN, parabola)
    start = 10 if causal else 0
    np.testing.assert_allclose(smooth(y, 21, "savgol", causal=causal)[start:], parabola[start:], rtol=1e-9)


def test_savgol_keeps_its_digits_where_few_values_lie_far_from_the_point():
    y = np.full(400, NAN)
    y[:4] = 1e6 + np.array([1, 2, 4, 3])
    found = smooth(y, 401, "savgol")[:201]
    np.testing.assert_allclose(found, by_hand(y, 401, "savgol", False)[:201], rtol=1e-9)


# --- smoothing: precision, and what a value can touch ---------------------------------------------------------------


@pytest.mark.parametrize("window", [5, 51, 501])
def test_the_mean_at_a_high_level_is_at_least_as_exact_as_by_convolve(window):
    y = 1e6 + np.random.default_rng(0).normal(size=6000)
    exact = np.array([math.fsum(y[i : i + window]) / window for i in range(len(y) - window + 1)])
    half = window // 2
    ours = np.abs(smooth(y, window)[half : len(y) - half] - exact).max()
    theirs = np.abs(np.convolve(y, np.ones(window) / window, "valid") - exact).max()
    assert ours <= theirs
    assert ours < 3e-10, "a running sum is off by 1e-7 and more"
    assert np.abs(smooth(y, window, causal=True)[window - 1 :] - exact).max() == ours


@pytest.mark.parametrize("length", [700, 40_000])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("replaced_by", [NAN, 1e12])
@pytest.mark.parametrize("method", WINDOWED)
def test_one_value_touches_no_window_but_its_own(method, replaced_by, causal, length):
    y = long_series(length)
    window, at = 51, length // 2 + 7
    other = y.copy()
    other[at] = replaced_by
    before, after = (0, window) if causal else (window // 2, window // 2 + 1)
    untouched = np.r_[: at - before, at + after : length]
    one, two = (smooth(v, window, method, causal=causal) for v in (y, other))
    if method in ("mean", "median"):
        np.testing.assert_array_equal(one[untouched], two[untouched])
    else:
        # How a library sums a product may depend on where it lies in memory.
        np.testing.assert_allclose(one[untouched], two[untouched], rtol=1e-13)
    assert np.isfinite(two).all()
    if method != "median" or replaced_by == NAN:
        touched = np.arange(at - before, at + after)
        assert (one[touched] != two[touched]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_causal_result_does_not_know_the_future(method):
    y = long_series(2000, missing=0.05)
    all_of_it = smooth(y, 30, method, causal=True)
    for now in (1, 29, 30, 31, 500, 1999):
        np.testing.assert_allclose(smooth(y[:now], 30, method, causal=True), all_of_it[:now], rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_centred_result_is_the_same_from_behind(method):
    y = long_series(2000, missing=0.05)
    np.testing.assert_allclose(smooth(y[::-1], 31, method)[::-1], smooth(y, 31, method), rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("causal", [False, True])
@settings(deadline=None, max_examples=30)
@given(y=series, scale=st.sampled_from([0.25, 3]), shift=st.integers(-9, 9))
def test_units_do_not_matter(method, causal, y, scale, shift):
    found = smooth(scale * y + shift, 7, method, causal=causal)
    np.testing.assert_allclose(found, scale * smooth(y, 7, method, causal=causal) + shift, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_a_window_of_one_value_changes_nothing(method):
    y = long_series(500)
    np.testing.assert_array_equal(smooth(y, 1, method), y)
    np.testing.assert_array_equal(smooth(y, 1, method, causal=True), y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("causal", [False, True])
def test_a_constant_stays_one_up_to_the_ends(method, causal):
    y = np.full(777, 0.1)
    np.testing.assert_allclose(smooth(y, 49, method, causal=causal), y, rtol=1e-14)
    if method in ("mean", "median"):
        np.testing.assert_array_equal(smooth(np.full(777, 7.0), 49, method, causal=causal), 7)


# --- smoothing: shapes, dtypes, and what comes in -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("missing", [0, 0.1])
@pytest.mark.parametrize("causal", [False, True])
def test_a_batch_is_its_series_one_by_one(method, missing, causal):
    batch = long_series(300 * 24, missing).reshape(20, 15, 24)
    together = smooth(batch, 7, method, causal=causal)
    alone = [smooth(y, 7, method, causal=causal) for y in batch.reshape(-1, 24)]
    np.testing.assert_allclose(together.reshape(-1, 24), alone, rtol=1e-11)
    for axis in (0, 1, 2):
        turned = np.moveaxis(batch, -1, axis)
        found = smooth(turned, 7, method, causal=causal, axis=axis)
        assert found.shape == turned.shape
        np.testing.assert_allclose(np.moveaxis(found, axis, -1), together, rtol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_series_of_any_length_side_by_side_in_pieces_of_any_length(method):
    for steps in (1, 2, 30, 8_190, 16_383, 16_384, 16_385, 33_000):
        y = long_series(steps * 3, 0.002).reshape(3, steps)
        found = smooth(y, 101, method)
        np.testing.assert_allclose(found, [smooth(row, 101, method) for row in y], rtol=1e-9)
        assert np.isnan(found).sum() == 0 or steps < 3


@pytest.mark.parametrize("window", [99, 101, 10**6 + 1, 10**15 + 1])
def test_a_window_may_be_longer_than_the_series(window):
    y = long_series(50, 0.1)
    np.testing.assert_allclose(smooth(y, window), np.nanmean(y))
    np.testing.assert_allclose(smooth(y, window, "median"), np.nanmedian(y))
    np.testing.assert_allclose(smooth(y, window, "exponential"), by_hand(y, window, "exponential", False))
    np.testing.assert_allclose(smooth(y, window, "gaussian"), by_hand(y, window, "gaussian", False))
    t = np.arange(50)
    expected = np.polyval(np.polyfit(t[~np.isnan(y)], y[~np.isnan(y)], 2), t)
    np.testing.assert_allclose(smooth(y, window, "savgol"), expected)


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_computed_in_float64_and_comes_back_as_float32(method):
    y = (1e6 + long_series(40_000)).astype(np.float32)
    y[::3001] = NAN
    found = smooth(y, 51, method)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, smooth(y.astype(np.float64), 51, method).astype(np.float32))
    assert replace_outliers(y, 51).dtype == np.float32
    assert find_outliers(y, 51).dtype == np.bool_


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float16, np.longdouble, ">f8", ">i4", list])
def test_other_numbers_become_float64(method, dtype):
    y = np.random.default_rng(0).integers(0, 2, 40)
    given_as = y.tolist() if dtype is list else y.astype(dtype)
    for found in (smooth(given_as, 5, method), replace_outliers(given_as, 5)):
        assert found.dtype == np.float64
        assert found.dtype.isnative
    np.testing.assert_array_equal(smooth(given_as, 5, method), smooth(y.astype(float), 5, method))
    np.testing.assert_array_equal(find_outliers(given_as, 5), find_outliers(y.astype(float), 5))


@pytest.mark.parametrize("window", [np.int64(5), np.uint8(5), np.uint8(255)])
@pytest.mark.parametrize("method", METHODS)
def test_a_window_may_be_a_whole_number_of_numpy(method, window):
    y = long_series(600)
    np.testing.assert_array_equal(smooth(y, window, method), smooth(y, int(window), method))


@pytest.mark.parametrize("method", METHODS)
def test_pandas_comes_back_as_an_array(method):
    y = long_series(60, 0.1)
    frame = pd.DataFrame({"a": y, "b": y[::-1]}, index=pd.date_range("2024", periods=60))
    for found, expected in (
        (smooth(frame["a"], 5, method), smooth(y, 5, method)),
        (smooth(frame["a"].astype("Float64"), 5, method), smooth(y, 5, method)),
        (smooth(frame, 5, method, axis=0)[:, 0], smooth(y, 5, method)),
        (replace_outliers(frame["a"], 5), replace_outliers(y, 5)),
    ):
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_masked_values_are_missing(dtype):
    y = np.ma.masked_array(np.array([1, 2, 999, 4, 5], dtype), mask=[0, 0, 1, 0, 0])
    found = smooth(y, 3)
    assert type(found) is np.ndarray
    assert found.tolist() == [1.5, 1.5, 3, 4.5, 4.5]
    assert np.isnan(replace_outliers(y, 3)).tolist() == [False, False, True, False, False]
    assert not find_outliers(y, 5).any()
    with pytest.raises(ValueError, match="residuals must be finite: 1 of 5"):
        conformal_margin(y, 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_any_layout_in_memory_is_read_and_none_is_written_to(method):
    y = long_series(60 * 8, 0.1).reshape(60, 8)
    y.flags.writeable = False
    for given_as in (y, np.asfortranarray(y), y[::-1, ::-1][::-1, ::-1], np.repeat(y, 2, axis=0)[::2]):
        before = given_as.copy()
        found = smooth(given_as, 1, method, axis=0), smooth(given_as, 5, method, axis=0)
        np.testing.assert_array_equal(found[1], smooth(y, 5, method, axis=0))
        assert not any(np.shares_memory(result, given_as) for result in found)
        replace_outliers(given_as, 5, 0.1, axis=0), find_outliers(given_as, 5, axis=0)
        np.testing.assert_array_equal(given_as, before)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)])
@pytest.mark.parametrize("method", METHODS)
def test_an_empty_series_gives_an_empty_one(method, shape):
    for axis in range(len(shape)):
        assert smooth(np.zeros(shape), 3, method, axis=axis).shape == shape
        assert replace_outliers(np.zeros(shape, np.float32), 3, axis=axis).dtype == np.float32
        assert find_outliers(np.zeros(shape), 3, axis=axis).shape == shape
        assert find_outliers(np.zeros(shape), 3, axis=axis).dtype == np.bool_


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("causal", [False, True])
def test_nothing_but_nan_gives_nan_without_a_warning(method, causal):
    assert np.isnan(smooth(np.full((3, 40), NAN), 5, method, causal=causal)).all()
    assert np.isnan(replace_outliers(np.full((3, 40), NAN), 5, causal=causal)).all()
    assert not find_outliers(np.full((3, 40), NAN), 5, causal=causal).any()
    some = np.full(40, NAN)
    some[20] = 3
    np.testing.assert_allclose(smooth(some, 5, method, causal=causal)[20:23], 3, rtol=1e-15)


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        ([1, 2], {"window": 3.5}, TypeError, "window must be a whole number; got 3.5."),
        ([1, 2], {"window": 3.0}, TypeError, "window must be a whole number; got 3.0."),
        ([1, 2], {"window": True}, TypeError, "window must be a whole number; got True."),
        ([1, 2], {"window": np.True_}, TypeError, "window must be a whole number"),
        ([1, 2], {"window": "3"}, TypeError, "window must be a whole number; got '3'."),
        ([1, 2], {"window": None}, TypeError, "window must be a whole number; got None."),
        ([1, 2], {"window": [3]}, TypeError, "window must be a whole number"),
        ([1, 2], {"window": NAN}, TypeError, "window must be a whole number; got nan."),
        ([1, 2], {"window": 0}, ValueError, "window must hold at least 1 value; got 0."),
        ([1, 2], {"window": -3}, ValueError, "window must hold at least 1 value; got -3."),
        ([1, 2], {"window": 0, "causal": True}, ValueError, "window must hold at least 1 value; got 0."),
        ([1, 2], {"window": 4}, ValueError, "window must be odd to be centred; got 4: take 5, or causal=True."),
        ([1, 2], {"causal": "no"}, TypeError, "causal must be True or False; got 'no'."),
        ([1, 2], {"causal": 1}, TypeError, "causal must be True or False; got 1."),
        ([1, 2], {"axis": 1}, ValueError, "y: axis 1 is out of bounds for array of dimension 1"),
        ([1, 2], {"axis": -2}, ValueError, "y: axis -2 is out of bounds for array of dimension 1"),
        ([1, 2], {"axis": None}, TypeError, "axis must be a whole number; got None."),
        ([1, 2], {"axis": 0.0}, TypeError, "axis must be a whole number; got 0.0."),
        (7.0, {}, ValueError, "y must be a series; got the single number 7.0."),
        ([1, np.inf], {}, ValueError, "y must hold finite numbers of at most 1e+290; got values from 1 to inf."),
        ([NAN, -np.inf], {}, ValueError, "got values from -inf to -inf."),
        ([1, 1e300], {}, ValueError, "got values from 1 to 1e+300."),
        (np.array([1, np.inf], np.float32), {}, ValueError, "got values from 1 to inf."),
        ([1, 2j], {}, TypeError, "y must hold real numbers; got dtype complex128."),
        (["1", "2"], {}, TypeError, "y must hold real numbers; got dtype <U1."),
        ([1, None], {}, TypeError, "y must hold real numbers; got dtype object."),
        (None, {}, TypeError, "y must hold real numbers; got dtype object."),
        (np.array(["2024-01-01"], "M8[D]"), {}, TypeError, r"got dtype datetime64\[D\]."),
        (np.array([1], "m8[D]"), {}, TypeError, r"got dtype timedelta64\[D\]."),
        (pd.DataFrame({"at": pd.date_range("2024", periods=2), "y": [1, 2]}), {}, TypeError, "got dtype object."),
    ],
)
@pytest.mark.parametrize("function", [smooth, find_outliers, replace_outliers])
def test_bad_input_gets_one_sentence(function, y, options, error, message):
    with pytest.raises(error, match=message.replace("+", r"\+")) as caught:
        function(y, **({"window": 3} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["average", "Mean", "", None, 3])
def test_an_unknown_method_is_told_the_known_ones(method):
    with pytest.raises(
        ValueError, match="method must be one of 'mean', 'exponential', 'median', 'savgol', 'gaussian'; "
    ):
        smooth([1, 2, 3], 3, method)


# --- outliers --------------------------------------------------------------------------------------------------------


def outliers_by_hand(y, window, n_sigmas, min_deviation, causal):
    """Return which values are outliers, and the median of each window."""
    outliers, medians = [], []
    for i in range(len(y)):
        values = [v for _, v in window_of(y, i, window, causal)]
        median = statistics.median(values) if values else NAN
        mad = statistics.median([abs(v - median) for v in values]) if values else NAN
        outliers.append(abs(y[i] - median) > max(n_sigmas * 1.4826 * mad, min_deviation))
        medians.append(median)
    return np.array([outliers, medians])


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.sampled_from([0.0, 0.125, 10.0]), st.booleans())
def test_outliers_are_those_of_a_loop_over_the_windows(case, n_sigmas, min_deviation, pieces):
    y, window, causal, axis = case
    both = np.apply_along_axis(outliers_by_hand, axis, y, window, n_sigmas, min_deviation, causal)
    outliers, medians = np.moveaxis(both, axis % y.ndim, 0)
    options = {"n_sigmas": n_sigmas, "min_deviation": min_deviation, "causal": causal, "axis": axis}
    with tiny_blocks() if pieces else nullcontext():
        found, replaced = find_outliers(y, window, **options), replace_outliers(y, window, **options)
    np.testing.assert_array_equal(found, outliers.astype(bool))
    np.testing.assert_array_equal(replaced, np.where(outliers, medians, y))


def test_planted_outliers_are_found_and_their_neighbours_left_alone():
    y = long_series(5000)
    y = smooth(y, 51) + np.random.default_rng(1).normal(size=5000) / 10
    planted = np.arange(20, 5000, 97)
    spoilt = y.copy()
    spoilt[planted] += np.where(planted % 2, 5, -5)
    found = find_outliers(spoilt, 21, n_sigmas=6)
    assert found[planted].all()
    assert found.sum() - len(planted) < 10
    mended = replace_outliers(spoilt, 21, n_sigmas=6)
    assert np.abs(mended - y).max() < 1
    np.testing.assert_array_equal(mended[~found], spoilt[~found])


def test_a_deviation_of_exactly_the_limit_is_no_outlier():
    y = [0, 0, 0, 2, 0, 0, 0]
    assert find_outliers(y, 7).nonzero()[0].tolist() == [3], "MAD is 0 here"
    assert not find_outliers(y, 7, min_deviation=2).any()
    assert find_outliers(y, 7, min_deviation=1.999).nonzero()[0].tolist() == [3]
    # The median of 1 … 5 is 3, and the MAD 1.
    limit = 2 / 1.4826
    assert find_outliers([1, 2, 3, 4, 5], 99, n_sigmas=limit * 0.999).tolist() == [True, False, False, False, True]
    assert not find_outliers([1, 2, 3, 4, 5], 99, n_sigmas=limit * 1.001).any()


def test_a_causal_filter_flags_the_step_that_a_centred_one_understands():
    step = np.repeat([0.0, 10.0], 20) + np.random.default_rng(0).normal(size=40) / 10
    assert not find_outliers(step, 11, n_sigmas=8)[15:25].any()
    assert find_outliers(step, 11, n_sigmas=8, causal=True)[20:25].all()


def test_outliers_of_long_windows_fit_into_little_memory():
    y = long_series(20_000)
    tracemalloc.start()
    find_outliers(y, 501)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6, "the windows side by side would take 80 MB"


@pytest.mark.parametrize("function", [find_outliers, replace_outliers])
@pytest.mark.parametrize("y", [[1, 2, 3], []])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_sigmas": 0}, ValueError, "n_sigmas must be above 0 and finite; got 0."),
        ({"n_sigmas": -3}, ValueError, "n_sigmas must be above 0 and finite; got -3."),
        ({"n_sigmas": NAN}, ValueError, "n_sigmas must be above 0 and finite; got nan."),
        ({"n_sigmas": np.inf}, ValueError, "n_sigmas must be above 0 and finite; got inf."),
        ({"n_sigmas": True}, TypeError, "n_sigmas must be a number; got True."),
        ({"n_sigmas": "3"}, TypeError, "n_sigmas must be a number; got '3'."),
        ({"n_sigmas": [3]}, TypeError, r"n_sigmas must be a number; got \[3\]."),
        ({"min_deviation": -1}, ValueError, "min_deviation must be finite and at least 0; got -1."),
        ({"min_deviation": NAN}, ValueError, "min_deviation must be finite and at least 0; got nan."),
        ({"min_deviation": np.inf}, ValueError, "min_deviation must be finite and at least 0; got inf."),
        ({"min_deviation": None}, TypeError, "min_deviation must be a number; got None."),
    ],
)
def test_bad_limits_of_outliers_get_one_sentence(function, y, options, error, message):
    with pytest.raises(error, match=message):
        function(y, 3, **options)


# --- the conformal margin --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (19, 0.9), (20, 0.9), (99, 0.07), (50, 0.5), (30, 0.95)])
def test_the_margin_covers_the_next_value_as_often_as_promised(n, coverage):
    # Each column is one history of n heavy-tailed residuals, and a next one.
    random = np.random.default_rng(0)
    histories, following = random.standard_t(2, (n, 40_000)), random.standard_t(2, 40_000)
    covered = (np.abs(following) <= conformal_margin(histories, coverage)).mean()
    # Exactly this often, for exchangeable residuals without ties.
    expected = math.ceil(Fraction(str(coverage)) * (n + 1)) / (n + 1)
    assert coverage <= expected
    assert covered == pytest.approx(expected, abs=0.008)


@given(st.integers(1, 300), st.sampled_from([0.01, 0.07, 0.1, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99]))
def test_the_margin_is_a_sorted_absolute_residual_or_too_few_are_refused(n, coverage):
    residuals = np.random.default_rng(n).normal(size=n)
    rank = math.ceil(Fraction(str(coverage)) * (n + 1))
    if rank > n:
        needed = next(m for m in range(1, 10**4) if math.ceil(Fraction(str(coverage)) * (m + 1)) <= m)
        with pytest.raises(ValueError, match=f"a coverage of {coverage} needs at least {needed} rows .*; got {n}."):
            conformal_margin(residuals, coverage)
    else:
        assert conformal_margin(residuals, coverage) == sorted(abs(residuals))[rank - 1]


def test_each_horizon_has_its_margin():
    residuals = np.random.default_rng(0).normal(size=(40, 3)) * [1, 10, 100]
    before = residuals.copy()
    margins = conformal_margin(residuals)
    assert margins.shape == (3,)
    assert margins.tolist() == [conformal_margin(column) for column in residuals.T]
    np.testing.assert_array_equal(residuals, before)
    assert isinstance(conformal_margin(residuals[:, 0]), float)
    assert conformal_margin(residuals.astype(np.float32)).dtype == np.float64
    assert conformal_margin(pd.Series(residuals[:, 0])) == margins[0]
    assert conformal_margin(list(range(9))) == 8
    assert conformal_margin(range(9), np.float32(0.5)) == 4
    assert conformal_margin([3, 1, 2], 1e-12) == 1


@pytest.mark.parametrize(
    ("residuals", "coverage", "error", "message"),
    [
        (3.0, 0.9, ValueError, r"shape \(n,\) or \(n, horizons\); got \(\)."),
        (np.zeros((20, 2, 2)), 0.9, ValueError, r"shape \(n,\) or \(n, horizons\); got \(20, 2, 2\)."),
        ([1, NAN, np.inf], 0.5, ValueError, "residuals must be finite: 2 of 3 are NaN or infinite."),
        (["a"], 0.5, TypeError, "residuals must hold real numbers; got dtype <U1."),
        ([1j], 0.5, TypeError, "residuals must hold real numbers; got dtype complex128."),
        ([None], 0.5, TypeError, "residuals must hold real numbers; got dtype object."),
        ([], 0.5, ValueError, "a coverage of 0.5 needs at least 1 rows? of residuals; got 0."),
        (np.zeros((0, 3)), 0.9, ValueError, "a coverage of 0.9 needs at least 9 rows of residuals; got 0."),
        ([1] * 8, 0.9, ValueError, "a coverage of 0.9 needs at least 9 rows of residuals; got 8."),
        ([1] * 18, 0.95, ValueError, "a coverage of 0.95 needs at least 19 rows of residuals; got 18."),
        ([1], 0, ValueError, r"coverage must lie in \(0, 1\); got 0."),
        ([1], 1, ValueError, r"coverage must lie in \(0, 1\); got 1."),
        ([1], 90, ValueError, r"coverage must lie in \(0, 1\); got 90."),
        ([1], NAN, ValueError, r"coverage must lie in \(0, 1\); got nan."),
        ([1], "0.9", TypeError, "coverage must be a number; got '0.9'."),
        ([1], True, TypeError, "coverage must be a number; got True."),
    ],
)
def test_residuals_that_give_no_margin_get_one_sentence(residuals, coverage, error, message):
    with pytest.raises(error, match=message):
        conformal_margin(residuals, coverage)
