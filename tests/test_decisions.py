"""Thresholds and log-odds: what a user relies on, and every bad input that was tried."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from sklearn import metrics
from sklearn.calibration import calibration_curve

from helpers.decisions import (
    adjust_prior,
    apply_threshold,
    calibration_bins,
    check_probabilities,
    cost_threshold,
    decompose_score,
    expected_calibration_error,
    log_odds,
    precision_at_k,
    reject_interval,
    threshold_curve,
)

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
        ([12.0, 62.0], r"If they are percentages, divide by 100"),
        ([0.5, 1 + 1e-7], r"got values from 0.5 to 1.0000001"),
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


# --- all thresholds at once ----------------------------------------------------------------------------------------


@st.composite
def labelled(draw, weighted=False):
    """Labels, probabilities with ties, and weights."""
    n = draw(st.integers(1, 40))
    grid = st.sampled_from([0, 0.1, 0.2, 0.5, 0.7, 0.9, 1]) | st.floats(0, 1)
    y_true = draw(arrays(np.int64, n, elements=st.integers(0, 1)))
    y_prob = draw(arrays(np.float64, n, elements=grid))
    weight = draw(arrays(np.float64, n, elements=st.floats(0.1, 5))) if weighted else np.ones(n)
    return y_true, y_prob, weight


@given(labelled(weighted=True))
def test_every_point_of_the_curve_is_what_applying_the_threshold_counts(rows):
    y_true, y_prob, weight = rows
    curve = threshold_curve(y_true, y_prob, weight)
    assert (np.diff(curve.threshold) < 0).all()
    for at, threshold in enumerate(curve.threshold):
        called = apply_threshold(y_prob, threshold) == 1
        assert np.isclose(curve.tp[at], weight[called & (y_true == 1)].sum())
        assert np.isclose(curve.fp[at], weight[called & (y_true == 0)].sum(), atol=1e-9)
        assert np.isclose(curve.fn[at], weight[~called & (y_true == 1)].sum(), atol=1e-9)
        assert np.isclose(curve.tn[at], weight[~called & (y_true == 0)].sum(), atol=1e-9)


@given(labelled(), st.floats(0, 100), st.floats(0, 100))
def test_no_threshold_is_cheaper_than_the_cheapest(rows, cost_fp, cost_fn):
    assume(cost_fp + cost_fn > 0)
    y_true, y_prob, _ = rows
    threshold, cost = threshold_curve(y_true, y_prob).cheapest(cost_fp, cost_fn)

    def brute_force(threshold):
        called = y_prob >= threshold
        return (cost_fp * (called & (y_true == 0)).sum() + cost_fn * (~called & (y_true == 1)).sum()) / len(y_true)

    assert np.isclose(cost, brute_force(threshold))
    for other in np.unique(np.concatenate([y_prob, np.linspace(0, 1, 21)])):
        assert cost <= brute_force(other) + 1e-9


def test_the_curve_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    y_true, y_prob = rng.integers(0, 2, 500), rng.random(500).round(2)
    curve = threshold_curve(y_true, y_prob)
    fpr, tpr, thresholds = metrics.roc_curve(y_true, y_prob, drop_intermediate=False)
    np.testing.assert_allclose(curve.recall, tpr[-len(curve.threshold) :])
    np.testing.assert_allclose(curve.false_positive_rate, fpr[-len(curve.threshold) :])
    precision, recall, thresholds = metrics.precision_recall_curve(y_true, y_prob)
    at = np.searchsorted(-curve.threshold, -thresholds[::-1])
    np.testing.assert_allclose(curve.precision[at], precision[:-1][::-1])
    np.testing.assert_allclose(curve.recall[at], recall[:-1][::-1])


def test_counts_without_weights_are_whole_numbers():
    curve = threshold_curve([0, 1], [0.5, 0.5])
    assert curve.tp.dtype.kind == curve.fp.dtype.kind == "i"
    assert curve.threshold.tolist() == [1, 0]


def test_a_probability_of_one_leaves_no_threshold_that_calls_nobody():
    assert threshold_curve([1, 0], [1.0, 0.5]).threshold.tolist() == [1, 0]


def test_of_equally_cheap_thresholds_the_one_nearest_to_the_formula_is_taken():
    curve = threshold_curve([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.8])
    assert curve.cheapest(0, 1) == (0.0, 0.0)
    assert curve.cheapest(1, 0) == (1.0, 0.0)
    assert curve.cheapest(1, 1) == (0.6, 0.0)


def test_weights_leave_no_negative_counts():
    rng = np.random.default_rng(0)
    curve = threshold_curve(rng.integers(0, 2, 1000), rng.random(1000), rng.random(1000))
    assert min(count.min() for count in (curve.tp, curve.fp, curve.fn, curve.tn)) >= 0
    assert np.nanmax(curve.precision) <= 1


def test_rows_of_no_weight_do_not_count():
    with_them = decompose_score([0, 1, 1], [0.2, 0.7, 0.4], sample_weight=[1, 1, 0])
    assert with_them == decompose_score([0, 1], [0.2, 0.7])


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_or_one_row(label):
    curve = threshold_curve([label], [0.4])
    assert np.isnan(curve.recall if label == 0 else curve.false_positive_rate).all()
    assert curve.cheapest(1, 1)[1] == 0
    assert expected_calibration_error([label], [0.4]) == pytest.approx(abs(label - 0.4))
    assert decompose_score([label], [0.4]).uncertainty == 0


def test_recall_at_a_fixed_precision():
    curve = threshold_curve([1, 0, 1, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert curve.at_precision(0.75) == (0.6, 1.0)
    assert curve.at_precision(1) == (0.9, pytest.approx(1 / 3))
    with pytest.raises(ValueError, match=r"no threshold reaches a precision of 0.9; the best is 0.5"):
        threshold_curve([0, 1], [0.9, 0.1]).at_precision(0.9)


def test_precision_at_k_shares_ties():
    assert precision_at_k([1, 0, 0, 1], [0.9, 0.9, 0.5, 0.1], 1) == 0.5
    assert precision_at_k([1, 0, 0, 1], [0.9, 0.9, 0.5, 0.1], 4) == 0.5
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k must lie between 1 and the number of rows, 4; got {k}"):
            precision_at_k([1, 0, 0, 1], [0.9, 0.9, 0.5, 0.1], k)


# --- costs -----------------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0, 1))
def test_the_formula_is_the_cheaper_call_for_every_probability(cost_fp, cost_fn, p):
    act, wait = (1 - p) * cost_fp, p * cost_fn
    if p >= cost_threshold(cost_fp, cost_fn):
        assert act <= wait + 1e-9
    else:
        assert wait <= act + 1e-9


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0, 50), st.floats(0, 1))
def test_the_zone_is_the_cheapest_of_three_for_every_probability(cost_fp, cost_fn, cost_review, p):
    low, high = reject_interval(cost_fp, cost_fn, cost_review)
    costs = {"wait": p * cost_fn, "act": (1 - p) * cost_fp, "review": cost_review}
    chosen = "wait" if p < low else "act" if p >= high else "review"
    assert costs[chosen] <= min(costs.values()) + 1e-9


def test_an_abstention_zone_that_never_pays_is_the_threshold():
    assert reject_interval(10, 40, 9) == (0.2, 0.2)


@pytest.mark.parametrize("cost", [-1, float("nan"), float("inf")])
def test_bad_costs(cost):
    with pytest.raises(ValueError, match="cost_fn must be a finite number from 0 on"):
        cost_threshold(1, cost)
    with pytest.raises(ValueError, match="cost_fp must be a finite number"):
        threshold_curve([0, 1], [0.2, 0.3]).cost(cost, 1)
    with pytest.raises(ValueError, match="both 0"):
        cost_threshold(0, 0)
    with pytest.raises(ValueError, match="both 0"):
        threshold_curve([0, 1], [0.2, 0.3]).cheapest(0, 0)


# --- calibration -----------------------------------------------------------------------------------------------------


def independent_ece(y_true, y_prob, n_bins, weight=None):
    """The definition, row by row, with scikit-learn's bin edges."""
    edges = np.linspace(0, 1, n_bins + 1)
    bins = [[] for _ in range(n_bins)]
    weight = np.ones(len(y_prob)) if weight is None else weight
    for label, prob, w in zip(y_true, y_prob, weight, strict=True):
        number = next(i for i in range(n_bins) if prob <= edges[i + 1] or i == n_bins - 1)
        bins[number].append((label, prob, w))
    total = sum(weight)
    error = 0.0
    for rows in bins:
        if rows:
            mass = sum(w for *_, w in rows)
            mean = sum(prob * w for _, prob, w in rows) / mass
            frequency = sum(label * w for label, _, w in rows) / mass
            error += mass / total * abs(mean - frequency)
    return error


@given(labelled(weighted=True), st.integers(1, 30))
def test_ece_is_its_definition(rows, n_bins):
    y_true, y_prob, weight = rows
    ours = expected_calibration_error(y_true, y_prob, n_bins, sample_weight=weight)
    assert ours == pytest.approx(independent_ece(y_true, y_prob, n_bins, weight), abs=1e-12)


@given(st.integers(1, 40))
def test_a_bin_contains_its_right_end(n_bins):
    """Probabilities on the edges, and their neighbours, fall where scikit-learn's calibration_curve puts them."""
    edges = np.linspace(0, 1, n_bins + 1)
    y_prob = np.clip(np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1)]), 0, 1)
    y_true = (np.arange(len(y_prob)) % 3 == 0).astype(int)
    frequency, mean_prob = calibration_curve(y_true, y_prob, n_bins=n_bins)
    bins = calibration_bins(y_true, y_prob, n_bins)
    np.testing.assert_allclose(bins.frequency, frequency, atol=1e-12)
    np.testing.assert_allclose(bins.mean_prob, mean_prob, atol=1e-12)
    assert bins.rows.sum() == len(y_prob)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_bins_agree_with_scikit_learn(strategy):
    rng = np.random.default_rng(0)
    y_prob = rng.beta(0.5, 0.5, 5000)
    y_true = (rng.random(5000) < y_prob).astype(int)
    frequency, mean_prob = calibration_curve(y_true, y_prob, n_bins=15, strategy=strategy)
    bins = calibration_bins(y_true, y_prob, 15, strategy=strategy)
    np.testing.assert_allclose(bins.frequency, frequency, atol=1e-12)
    np.testing.assert_allclose(bins.mean_prob, mean_prob, atol=1e-12)
    gaps = np.abs(bins.frequency - bins.mean_prob) * bins.rows / 5000
    ours = expected_calibration_error(y_true, y_prob, 15, strategy=strategy)
    assert ours == pytest.approx(gaps.sum(), abs=1e-12)


@given(labelled())
def test_weights_are_repetitions(rows):
    y_true, y_prob, _ = rows
    times = np.arange(len(y_true)) % 3 + 1
    weighted = expected_calibration_error(y_true, y_prob, sample_weight=times)
    repeated = expected_calibration_error(np.repeat(y_true, times), np.repeat(y_prob, times))
    assert weighted == pytest.approx(repeated, abs=1e-12)
    for score in ("brier", "log"):
        one = decompose_score(y_true, y_prob, score=score, sample_weight=times)
        other = decompose_score(np.repeat(y_true, times), np.repeat(y_prob, times), score=score)
        np.testing.assert_allclose(one, other, atol=1e-9)


@given(labelled())
def test_the_parts_of_a_score_add_up_and_are_not_negative(rows):
    y_true, y_prob, _ = rows
    for score in ("brier", "log"):
        parts = decompose_score(y_true, y_prob, score=score)
        if np.isfinite(parts.score):
            assert parts.score == pytest.approx(
                parts.miscalibration - parts.discrimination + parts.uncertainty, abs=1e-9
            )
        assert parts.miscalibration >= -1e-9
        assert parts.discrimination >= -1e-9


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    y_true, y_prob = rng.integers(0, 2, 300), rng.random(300)
    assert decompose_score(y_true, y_prob).score == pytest.approx(metrics.brier_score_loss(y_true, y_prob))
    assert decompose_score(y_true, y_prob, score="log").score == pytest.approx(metrics.log_loss(y_true, y_prob))


def test_a_rising_map_changes_miscalibration_only():
    rng = np.random.default_rng(0)
    y_prob = rng.random(500)
    y_true = (rng.random(500) < y_prob).astype(int)
    before, after = decompose_score(y_true, y_prob), decompose_score(y_true, y_prob**3)
    assert after.discrimination == pytest.approx(before.discrimination)
    assert after.miscalibration > before.miscalibration


def test_a_certain_probability_that_is_wrong_costs_infinitely_much():
    assert decompose_score([1, 0], [0.0, 0.5], score="log").score == np.inf


@given(inner, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_prevalence_there_and_back(y_prob, then, now):
    there = adjust_prior(y_prob, then, now)
    np.testing.assert_allclose(adjust_prior(there, now, then), y_prob, atol=1e-7)


def test_prevalence_is_bayes():
    """Two groups with known likelihoods: the corrected posterior is the posterior under the new prior."""
    likelihood = 3.0
    then, now = 0.4, 0.1
    posterior = [prior * likelihood / (prior * likelihood + 1 - prior) for prior in (then, now)]
    assert adjust_prior([posterior[0]], then, now)[0] == pytest.approx(posterior[1])
    assert adjust_prior([0.0, 1.0], then, now).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"prevalence_now must lie in \(0, 1\); got 0"):
        adjust_prior([0.5], 0.5, 0)


LABELLED = [
    threshold_curve,
    expected_calibration_error,
    calibration_bins,
    decompose_score,
    lambda y, p: precision_at_k(y, p, 1),
]


@pytest.mark.parametrize("function", LABELLED)
@pytest.mark.parametrize(
    ("y_true", "y_prob", "message"),
    [
        ([], [], "hold no rows"),
        ([0, 1], [0.5, np.nan], "1 NaN among 2 values"),
        ([0, 1], [-2.0, 3.0], "If they are logits, apply a sigmoid first"),
        ([0, 1], [0.5, 1.0001], r"\[0, 1\]"),
        ([0, 2], [0.5, 0.5], "0 and 1 only; got 0, 2"),
        ([-1, 1], [0.5, 0.5], "0 and 1 only; got -1, 1"),
        ([0.5, 1], [0.5, 0.5], "0 and 1 only"),
        (["no", "yes"], [0.5, 0.5], "0 and 1 only; got no, yes"),
        ([0, 1, 1], [0.5, 0.5], r"shape of y_prob, \(2,\); got \(3,\)"),
        ([[0], [1]], [0.5, 0.5], r"got \(2, 1\)"),
        ([0, 1], [[0.5, 0.5], [0.2, 0.8]], "two columns"),
    ],
)
def test_bad_labels_and_probabilities(function, y_true, y_prob, message):
    with pytest.raises(ValueError, match=message):
        function(y_true, y_prob)


@pytest.mark.parametrize("weight", [[1, -1], [0, 0], [1, np.nan], [1, np.inf], [1], [[1], [1]]])
@pytest.mark.parametrize("function", LABELLED[:4])
def test_bad_weights(function, weight):
    with pytest.raises(ValueError, match="sample_weight must"):
        function([0, 1], [0.5, 0.5], sample_weight=weight)


@pytest.mark.parametrize("n_bins", [0, -1, 2.5, True])
def test_bad_bins(n_bins):
    with pytest.raises(ValueError, match="n_bins must be a whole number from 1 on"):
        expected_calibration_error([0, 1], [0.5, 0.5], n_bins)
    with pytest.raises(ValueError, match="strategy must be 'uniform' or 'quantile'; got 'equal'"):
        calibration_bins([0, 1], [0.5, 0.5], strategy="equal")


def test_boolean_labels_and_columns_are_fine():
    assert expected_calibration_error([False, True], [[0.25], [0.75]], 2) == 0.25
