"""Decisions: against definitions, brute force and scikit-learn; and every bad input that was tried."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from sklearn import metrics
from sklearn.calibration import calibration_curve

from helpers import decisions
from helpers.notebook import UserError

inner = arrays(np.float64, st.integers(0, 50), elements=st.floats(1e-6, 1 - 1e-6))
costs = st.floats(0.01, 100)


@st.composite
def labelled(draw):
    """Labels, of one class too, and probabilities with ties."""
    n = draw(st.integers(1, 40))
    grid = st.sampled_from([0, 0.1, 0.2, 0.5, 0.7, 0.9, 1]) | st.floats(0, 1, allow_subnormal=False)
    return draw(arrays(np.int64, n, elements=st.integers(0, 1))), draw(arrays(np.float64, n, elements=grid))


# --- probabilities, log-odds, one threshold --------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.7, np.float64(0.7), np.float32(0.7)])
def test_a_probability_equal_to_the_threshold_is_positive_in_any_precision(threshold):
    assert decisions.apply_threshold([0.69, 0.7, 0.71], 0.7).tolist() == [0, 1, 1]
    assert decisions.apply_threshold(np.array([0.7], dtype=np.float32), threshold).tolist() == [1]


def test_a_column_comes_back_as_a_vector():
    y_prob = np.array([[0.2], [0.9]])
    labels = decisions.apply_threshold(y_prob)
    assert (labels.shape, labels.dtype) == ((2,), np.int64)
    assert decisions.log_odds(y_prob).shape == decisions.check_probabilities(y_prob).shape == (2,)
    assert decisions.apply_threshold([]).shape == decisions.log_odds(np.zeros((0, 1))).shape == (0,)


@given(inner)
def test_sigmoid_undoes_log_odds(y_prob):
    np.testing.assert_allclose(expit(decisions.log_odds(y_prob)), y_prob, rtol=1e-9)
    assert decisions.log_odds(y_prob.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([0.5, np.nan], r"1 NaN among 2 values"),
        ([-3.0, 4.0], r"If they are logits, apply a sigmoid first"),
        ([12.0, 62.0], r"If they are percentages, divide by 100"),
        ([0.5, 1 + 1e-7], r"got values from 0.5 to 1.0000001"),
        ([[0.3, 0.7]], r"two columns, one for each class: pass the positive class's, y_prob\[:, 1\]"),
        ([[0.1, 0.2, 0.7]], r"shape \(n,\) or \(n, 1\); got \(1, 3\)"),
        (["a", "b"], r"y_prob must hold real numbers; got dtype <U1"),
        (0.5, r"shape \(n,\) or \(n, 1\); got \(\)"),
    ],
)
@pytest.mark.parametrize("name", ["apply_threshold", "log_odds", "check_probabilities", "precision_at_k"])
def test_bad_values_get_one_sentence(name, bad, message):
    arguments = ([1], bad, 1) if name == "precision_at_k" else (bad,)
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(decisions, name)(*arguments)


# --- all thresholds at once ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(labelled(), st.floats(0, 100), st.floats(0, 100))
def test_the_curve_counts_what_each_threshold_does_and_no_other_costs_less(rows, cost_fp, cost_fn):
    y_true, y_prob = rows
    curve = decisions.threshold_curve(y_true, y_prob)
    assert (np.diff(curve.threshold) < 0).all()
    assert {count.dtype for count in (curve.tp, curve.fp, curve.fn, curve.tn)} == {np.dtype(np.int64)}
    for threshold, tp, fp, fn, tn in zip(*curve, strict=True):
        expected = metrics.confusion_matrix(y_true, decisions.apply_threshold(y_prob, threshold), labels=[0, 1])
        assert expected.tolist() == [[tn, fp], [fn, tp]]
    assume(cost_fp + cost_fn > 0)
    threshold, least = curve.min_cost(cost_fp, cost_fn)
    for other in np.concatenate([[threshold], y_prob, np.linspace(0, 1, 21)]):
        positive = y_prob >= other
        cost = (cost_fp * (positive & (y_true == 0)) + cost_fn * (~positive & (y_true == 1))).mean()
        assert least <= cost + 1e-9
        assert other != threshold or np.isclose(least, cost)


def test_rates_along_the_curve_are_those_of_scikit_learn_and_nan_where_undefined():
    rng = np.random.default_rng(0)
    y_true, y_prob = rng.integers(0, 2, 500), rng.random(500).round(2)
    y_prob[0] = 1
    curve = decisions.threshold_curve(y_true, y_prob)
    fpr, tpr, _ = metrics.roc_curve(y_true, y_prob, drop_intermediate=False)
    precision = metrics.precision_recall_curve(y_true, y_prob)[0]
    np.testing.assert_allclose([curve.false_positive_rate, curve.recall], [fpr[1:], tpr[1:]])
    np.testing.assert_allclose(curve.precision, precision[-2::-1])
    assert np.isnan(decisions.threshold_curve([0, 1], [0.2, 0.6]).precision[0])
    assert np.isnan(decisions.threshold_curve([0, 0], [0.4, 0.6]).recall).all()
    assert np.isnan(decisions.threshold_curve([1, 1], [0.4, 0.6]).false_positive_rate).all()


def test_thresholds_at_the_ends_at_least_cost_and_at_a_precision():
    for y_prob, expected in (([0.5, 0.5], [1, 0]), ([0.5, 1.0], [1, 0]), ([0.2, 0.6], [1, 0.6, 0])):
        assert decisions.threshold_curve([0, 1], y_prob).threshold.tolist() == expected
    # Of equally cheap thresholds, the one nearest to the formula.
    curve = decisions.threshold_curve([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.8])
    assert [curve.min_cost(*costs) for costs in ((0, 1), (1, 0), (1, 1))] == [(0, 0), (1, 0), (0.6, 0)]
    curve = decisions.threshold_curve([1, 0, 1, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert [curve.at_precision(least) for least in (0.75, 1)] == [(0.6, 1), (0.9, pytest.approx(1 / 3))]


def test_precision_at_k_shares_ties():
    for k, expected in ((1, 0.5), (2, 0.5), (3, 1 / 3), (4, 0.5)):
        assert decisions.precision_at_k([1, 0, 0, 1], [0.9, 0.9, 0.5, 0.1], k) == pytest.approx(expected)


# --- costs and priors ------------------------------------------------------------------------------------------------


@given(costs, costs, st.floats(0, 50), st.floats(0, 1))
def test_threshold_and_reject_interval_cost_least_for_every_probability(cost_fp, cost_fn, cost_review, p):
    assert decisions.reject_interval(10, 40, 9) == (0.2, 0.2), "where a review never pays"
    cost = {"negative": p * cost_fn, "positive": (1 - p) * cost_fp, "review": cost_review}
    chosen = "positive" if p >= decisions.cost_threshold(cost_fp, cost_fn) else "negative"
    assert cost[chosen] <= min(cost["negative"], cost["positive"]) + 1e-9
    low, high = decisions.reject_interval(cost_fp, cost_fn, cost_review)
    chosen = "negative" if p < low else "positive" if p >= high else "review"
    assert cost[chosen] <= min(cost.values()) + 1e-9


@given(inner, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_an_adjusted_prior_is_the_rule_of_bayes_and_can_be_undone(y_prob, then, now):
    adjusted = decisions.adjust_prior(y_prob, then, now)
    positive, negative = y_prob * now / then, (1 - y_prob) * (1 - now) / (1 - then)
    np.testing.assert_allclose(adjusted, positive / (positive + negative), rtol=1e-9)
    np.testing.assert_allclose(decisions.adjust_prior(adjusted, now, then), y_prob, atol=1e-7)
    assert decisions.adjust_prior([0.0, 1.0], then, now).tolist() == [0, 1]


# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("n_bins", [1, 7, 10, 15, 40])
def test_bins_are_those_of_scikit_learn_also_on_the_edges(n_bins, strategy):
    edges = np.linspace(0, 1, n_bins + 1)
    beside = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1)]).clip(0, 1)
    rng = np.random.default_rng(0)
    for y_prob in (beside, rng.beta(0.5, 0.5, 5000)):
        y_true = (rng.random(len(y_prob)) < y_prob).astype(int)
        frequency, mean_prob = calibration_curve(y_true, y_prob, n_bins=n_bins, strategy=strategy)
        bins = decisions.calibration_bins(y_true, y_prob, n_bins, strategy=strategy)
        np.testing.assert_allclose(bins.frequency, frequency, atol=1e-12)
        np.testing.assert_allclose(bins.mean_prob, mean_prob, atol=1e-12)
        assert (bins.rows.sum(), bins.rows.dtype) == (len(y_prob), np.int64)
        expected = np.average(np.abs(bins.frequency - bins.mean_prob), weights=bins.rows)
        found = decisions.expected_calibration_error(y_true, y_prob, n_bins, strategy=strategy)
        assert found == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(labelled())
def test_a_score_is_that_of_scikit_learn_and_its_parts_add_up(rows):
    y_true, y_prob = rows
    brier, log = (decisions.decompose_score(y_true, y_prob, score=score) for score in ("brier", "log"))
    assert brier.score == pytest.approx(metrics.brier_score_loss(y_true, y_prob, labels=[0, 1]))
    inside = y_prob.clip(0.001, 0.999)
    expected = metrics.log_loss(y_true, inside, labels=[0, 1])
    assert decisions.decompose_score(y_true, inside, score="log").score == pytest.approx(expected)
    rising = decisions.decompose_score(y_true, y_prob / 2)
    assert rising.discrimination == pytest.approx(brier.discrimination)
    for parts in (brier, log):
        if np.isfinite(parts.score):
            total = parts.miscalibration - parts.discrimination + parts.uncertainty
            assert parts.score == pytest.approx(total, abs=1e-9)
        assert min(parts.miscalibration, parts.discrimination) >= -1e-9
    assert decisions.decompose_score([1, 0], [0.0, 0.5], score="log").score == np.inf


# --- whose probability is it? ----------------------------------------------------------------------------------------


def churners(n=600):
    """Labels, 1 for those who leave, and their probability of leaving."""
    rng = np.random.default_rng(1)
    score = rng.random(n).round(3)
    return (rng.random(n) < score**1.5).astype(int), score


@settings(deadline=None, max_examples=60)
@given(labelled())
def test_the_auc_is_that_of_scikit_learn_with_the_interval_of_the_rank_test(rows):
    y_true, y_prob = rows
    auc, reach = decisions.threshold_curve(y_true, y_prob).auc
    n, m = np.bincount(y_true, minlength=2)
    if n and m:
        assert auc == pytest.approx(metrics.roc_auc_score(y_true, y_prob))
        assert reach == pytest.approx(2.576 * np.sqrt((n + m + 1) / (12 * n * m)))
    else:
        assert np.isnan([auc, reach]).any()


def test_scores_of_the_other_class_are_refused_with_the_remedy():
    y_true, score = churners()
    for right in (score, score[:, None], np.float32(score), expit(score) * 7 - 50):
        decisions.check_direction(y_true, right, ("stay", "churn"), "score")
        message = (
            "score ranks 'stay' below 'churn' (AUC for 'stay': 0.158 ± 0.062), so no threshold is chosen:"
            " if it is the probability of 'churn', set positive_label='churn', or pass 1 - score."
        )
        with pytest.raises(UserError, match=re.escape(message)):
            decisions.check_direction(1 - y_true, right, ("churn", "stay"), "score")
    with pytest.raises(UserError, match="ranks 'A' below 'not A'"):
        decisions.check_direction(np.repeat([1, 0, 0], 9) == 1, np.repeat([1, 2, 3], 9), ("not A", "A"), "score")


@pytest.mark.parametrize(
    ("y_true", "score"),
    [
        ([0, 1] * 30, [0.5] * 60),
        ([1, 1, 1], [0.1, 0.2, 0.3]),
        ([1] + [0] * 200, np.linspace(0.1, 0.9, 201)),
        ([1] * 4 + [0] * 4, np.linspace(0.1, 0.9, 8)),
        ([0, 1] * 500, np.random.default_rng(0).random(1000)),
        ([0, 1], [-np.inf, np.inf]),
    ],
)
def test_few_rows_ties_one_class_and_weak_models_are_no_alarm(y_true, score):
    decisions.check_direction(y_true, score, ("no", "yes"), "score")


def test_scores_that_know_nothing_are_refused_once_in_a_hundred():
    rng = np.random.default_rng(0)
    for m in (5, 40):
        curves = (decisions.threshold_curve([0] * m + [1] * m, rng.random(2 * m)) for _ in range(1000))
        assert sum(sum(curve.auc) < 0.5 for curve in curves) <= 15, "one side of 99 %"


def test_a_threshold_for_the_other_class_is_not_chosen_silently():
    y_true, score = churners()
    curve = decisions.threshold_curve(1 - y_true, score)
    for choose in (lambda: curve.min_cost(1, 5), lambda: curve.at_precision(0.1)):
        with pytest.warns(
            UserWarning, match="AUC 0.158 ± 0.062: the probabilities rank class 0 above class 1; if"
        ) as w:
            choose()
        assert w[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        decisions.threshold_curve(y_true, score).min_cost(1, 5)


# --- shapes and kinds of arrays --------------------------------------------------------------------------------------

LABELS, PROB = np.array([0, 1, 1, 0, 1]), np.array([0.25, 0.75, 0.5, 0.5, 1])
OF_ROWS = {
    "curve": lambda y, p: decisions.threshold_curve(y, p),
    "ece": lambda y, p: decisions.expected_calibration_error(y, p),
    "bins": lambda y, p: decisions.calibration_bins(y, p),
    "score": lambda y, p: decisions.decompose_score(y, p),
    "at_k": lambda y, p: decisions.precision_at_k(y, p, 2),
    "direction": lambda y, p: decisions.check_direction(y, p, ("no", "yes"), "y_prob"),
}


@pytest.mark.parametrize("call", OF_ROWS.values(), ids=OF_ROWS)
def test_columns_and_vectors_mean_the_same_and_other_shapes_are_refused(call):
    expected, index = call(LABELS, PROB), list("abcde")
    for form in (
        lambda v: v[:, None],
        lambda v: v.tolist(),
        lambda v: np.float16(v),
        lambda v: pd.Series(v, index),
        lambda v: pd.DataFrame(v).astype("Float64"),
        lambda v: np.ma.masked_array(v),
    ):
        for y, p in ((form(LABELS), PROB), (LABELS, form(PROB)), (form(LABELS), form(PROB))):
            for one, other in zip(np.atleast_1d(call(y, p)), np.atleast_1d(expected), strict=True):
                np.testing.assert_array_equal(one, other)
    wrong = [PROB[None], np.c_[1 - PROB, PROB], PROB[:, None, None], PROB[0], PROB[:0], PROB[1:], PROB + 0j]
    wrong += [PROB.astype(object), PROB.astype(str), np.ma.masked_equal(PROB, 0.75), np.where(PROB == 1, np.nan, PROB)]
    for bad in wrong:
        for y, p in ((bad, PROB), (LABELS, bad)):
            with pytest.raises((TypeError, ValueError)) as caught:
                call(y, p)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y_true", "message"),
    [
        (["1", "0"], "y_true must be 0 or 1; got '1', '0', dtype <U1: pass np.asarray(labels) == positive."),
        (np.array([True, False], object), "got True, False, dtype object: pass"),
        (np.array(["x" * 99, "b"]), f"got {'x' * 39}, 'b', dtype <U99".replace("got ", "got '")),
        ([0, np.nan], "got 0.0, nan, dtype float64"),
        (np.ma.masked_array([0, 1], [1, 0]), "got nan, 1.0, dtype float64"),
        ([-1, 1], "got -1, 1, dtype int64"),
        (pd.Series([0, 1], [1, 0]), "one index in two orders"),
    ],
)
def test_labels_that_are_not_0_or_1_are_named_with_their_dtype(y_true, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        decisions.threshold_curve(y_true, pd.Series([0.9, 0.1]))


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["threshold_curve", "expected_calibration_error", "calibration_bins", "decompose_score"]
)
@pytest.mark.parametrize(
    ("y_true", "y_prob", "message"),
    [
        ([], [], "at least one row"),
        ([0, 1], [-2.0, 3.0], "If they are logits, apply a sigmoid first"),
        ([0, 2], [0.5, 0.5], r"must be 0 or 1; got 0, 2, dtype int64: pass"),
        (["no", "yes"], [0.5, 0.5], r"got 'no', 'yes', dtype <U3: pass np.asarray"),
        ([0, 1, 1], [0.5, 0.5], r"shape of y_prob, \(2,\).*; got \(3,\)"),
    ],
)
def test_bad_labels_and_probabilities(name, y_true, y_prob, message):
    getattr(decisions, name)([False, True], [[0.25], [0.75]])
    with pytest.raises(ValueError, match=message):
        getattr(decisions, name)(y_true, y_prob)


ROW, COSTS, PRIOR = {"y_true": [1], "y_prob": [0.2]}, {"cost_fp": 1, "cost_fn": 1}, {"y_prob": [0.5]}


@pytest.mark.parametrize(
    ("function", "given", "name", "accepted", "out_of_range"),
    [
        (decisions.apply_threshold, PRIOR, "threshold", "a number in [0, 1]", (-0.1, 1.1)),
        (decisions.cost_threshold, COSTS, "cost_fn", "a finite number from 0 on", (-1, np.inf)),
        (decisions.reject_interval, COSTS, "cost_review", "a finite number from 0 on", (-1, np.inf)),
        (decisions.threshold_curve(**ROW).cost, COSTS, "cost_fp", "a finite number from 0 on", (-1, np.inf)),
        (decisions.precision_at_k, ROW, "k", "a whole number from 1 to the number of rows, 1", (0, 2, 0.5)),
        (decisions.calibration_bins, ROW, "n_bins", "a whole number from 1 on", (0, -1, 2.5)),
        (decisions.adjust_prior, PRIOR | {"prevalence_now": 0.5}, "prevalence_then", "a number in (0, 1)", (0, 1)),
        (decisions.adjust_prior, PRIOR | {"prevalence_then": 0.5}, "prevalence_now", "a number in (0, 1)", (0, 1)),
    ],
)
def test_bad_numbers_are_told_what_is_accepted(function, given, name, accepted, out_of_range):
    for value in (*out_of_range, float("nan"), "0.5", None, [1], True):
        with pytest.raises((TypeError, ValueError), match=re.escape(f"{name} must be {accepted}; got ")):
            function(**given | {name: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decisions.calibration_bins(**ROW, strategy="equal"), "strategy must be 'uniform' or 'quantile'; got"),
        (lambda: decisions.decompose_score(**ROW, score="auc"), "score must be 'brier' or 'log'; got 'auc'"),
        (lambda: decisions.threshold_curve(**ROW).min_cost(0, 0), "both 0"),
        (lambda: decisions.threshold_curve([0, 1], [0.9, 0.1]).at_precision(0.9), "of 0.9; the best is 0.5"),
        (lambda: decisions.log_odds(expit(np.float32([17, -200, 0]))), "2 of 3 values that are exactly 0 or 1.*logits"),
    ],
)
def test_what_has_no_answer_raises(call, message):
    with pytest.raises(ValueError, match=message):
        call()
