"""Thresholds and log-odds: what a user relies on, and every bad input that was tried."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from helpers.decisions import apply_threshold, check_probabilities, log_odds

probabilities = arrays(np.float64, st.integers(0, 50), elements=st.floats(0, 1))
inner = arrays(np.float64, st.integers(0, 50), elements=st.floats(1e-6, 1 - 1e-6))


def test_a_probability_equal_to_the_threshold_is_positive():
    assert apply_threshold([0.69, 0.7, 0.71], 0.7).tolist() == [0, 1, 1]


@pytest.mark.parametrize("threshold", [0.7, np.float64(0.7), np.float32(0.7)])
def test_a_float32_probability_equal_to_the_threshold_is_positive(threshold):
    assert apply_threshold(np.array([0.7], dtype=np.float32), threshold).tolist() == [1]


def test_a_column_comes_back_as_a_vector():
    labels = apply_threshold(np.array([[0.2], [0.9]]))
    assert labels.shape == (2,)
    assert labels.dtype == np.int64
    assert (labels == np.array([0, 1])).shape == (2,)


def test_empty_and_single():
    assert apply_threshold([]).shape == (0,)
    assert apply_threshold([0.5]).tolist() == [1]


def test_the_input_is_not_changed():
    y_prob = np.array([0.2, 0.8])
    apply_threshold(y_prob)
    log_odds(y_prob)
    assert y_prob.tolist() == [0.2, 0.8]


@given(probabilities, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_adds_a_positive(y_prob, one, other):
    low, high = sorted((one, other))
    assert (apply_threshold(y_prob, high) <= apply_threshold(y_prob, low)).all()


@given(inner)
def test_sigmoid_undoes_log_odds(y_prob):
    np.testing.assert_allclose(expit(log_odds(y_prob)), y_prob, rtol=1e-9)


@given(inner)
def test_log_odds_are_antisymmetric(y_prob):
    np.testing.assert_allclose(log_odds(1 - y_prob), -log_odds(y_prob), atol=1e-8)


def test_log_odds_keep_float32():
    assert log_odds(np.array([0.25], dtype=np.float32)).dtype == np.float32


def test_saturated_probabilities_are_refused_and_counted():
    saturated = np.float32(expit(np.float32(17)))
    assert saturated == 1
    with pytest.raises(ValueError, match=r"2 of 3 values that are exactly 0 or 1.*logits"):
        log_odds(np.array([saturated, 0, 0.5], dtype=np.float32))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([0.5, np.nan], r"1 NaN among 2 values"),
        ([0.5, 1.2], r"\[0, 1\]; got values from 0.5 to 1.2"),
        ([-3.0, 4.0], r"If they are logits, apply a sigmoid first"),
        ([np.inf, 0.5], r"\[0, 1\]"),
        ([[0.3, 0.7]], r"two columns, one for each class: pass the positive class's, y_prob\[:, 1\]"),
        ([[0.1, 0.2, 0.7]], r"shape \(n,\) or \(n, 1\); got \(1, 3\)"),
        (0.5, r"shape \(n,\) or \(n, 1\); got \(\)"),
        (np.zeros((2, 4, 4, 1)), r"got \(2, 4, 4, 1\)"),
    ],
)
@pytest.mark.parametrize("function", [apply_threshold, log_odds, check_probabilities])
def test_bad_values_get_one_sentence(function, bad, message):
    with pytest.raises(ValueError, match=message) as caught:
        function(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [["a", "b"], [None, 0.5], [1 + 2j]])
def test_values_that_are_no_numbers(bad):
    with pytest.raises(TypeError, match="real numbers"):
        apply_threshold(bad)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf"), 70])
def test_threshold_out_of_range(threshold):
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\]"):
        apply_threshold([0.5], threshold)


@pytest.mark.parametrize("threshold", ["0.5", None, [0.5], True])
def test_threshold_that_is_no_number(threshold):
    with pytest.raises(TypeError, match="threshold must be one number"):
        apply_threshold([0.5], threshold)
