"""Folds that keep what belongs together, and intervals that are wide enough."""

import numpy as np
import pytest
from scipy.stats import t as student_t
from sklearn.model_selection import KFold, StratifiedKFold

from helpers.crossval import Interval, checked_folds, fold_count, fold_interval, repeated_folds

Y = np.array([0] * 40 + [1] * 20)
DAYS = np.arange(60) // 3


@pytest.mark.parametrize("groups", [None, DAYS])
def test_each_repetition_judges_every_row_once_in_proportion(groups):
    folds = repeated_folds(Y, groups, n_splits=4, n_repeats=3, seed=1)
    assert len(folds) == 12
    for start in range(0, 12, 4):
        tests = np.concatenate([test for _, test in folds[start : start + 4]])
        assert sorted(tests) == list(range(60))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(60))
        assert abs(Y[test].mean() - Y.mean()) < 0.15
        if groups is not None:
            assert not np.isin(groups[test], groups[train]).any()


def test_the_seed_decides_and_repetitions_differ():
    def tests(seed):
        return [test.tolist() for _, test in repeated_folds(Y, n_splits=3, n_repeats=2, seed=seed)]

    assert tests(0) == tests(0) != tests(1)
    assert tests(0)[:3] != tests(0)[3:]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"y": np.ones((4, 2))}, r"y must have shape \(n,\)"),
        ({"n_splits": 1}, "n_splits must be a whole number of at least 2"),
        ({"n_splits": True}, "n_splits must be"),
        ({"n_repeats": 0}, "n_repeats must be a whole number of at least 1"),
        ({"groups": [1, 2]}, "a value for each of the 60 rows; got 2"),
        ({"n_splits": 21}, "class 1 has 20 rows: too few for 21 folds"),
        ({"groups": DAYS, "n_splits": 8}, "class 1 has 7 groups: too few for 8 folds"),
    ],
)
def test_folds_that_cannot_be_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        repeated_folds(**{"y": Y, **arguments})


@pytest.mark.parametrize(("groups", "most", "expected"), [(None, 5, 5), (None, 9, 6), (DAYS, 5, 2), (DAYS // 7, 5, 2)])
def test_as_many_folds_as_leave_three_units_of_each_class(groups, most, expected):
    assert fold_count(Y, groups, most=most) == expected


def test_the_interval_is_nadeaus_and_bengios():
    folds = repeated_folds(Y, n_splits=5, n_repeats=2)
    scores = np.linspace(0.6, 0.8, 10)
    found = fold_interval(scores, folds)
    # Folds of a fifth: a test set is a quarter of its training set.
    error = np.sqrt((1 / 10 + 1 / 4) * scores.var(ddof=1))
    reach = student_t.ppf(0.975, 9) * error
    assert found == pytest.approx((0.7, 0.7 - reach, 0.7 + reach))
    naive = student_t.ppf(0.975, 9) * np.sqrt(scores.var(ddof=1) / 10)
    assert reach > 1.8 * naive
    assert fold_interval(scores, folds, confidence=0.5).high < found.high


def test_an_interval_is_printed_without_a_minus_before_zero():
    assert str(Interval(-1e-9, -0.2, -1e-4)) == "0.000 (-0.200 to 0.000)"


def test_the_interval_holds_the_truth_as_often_as_it_says_and_the_naive_one_does_not():
    """A mean as model, whose expected squared error is known: the variance, and its own."""
    random, labels, truth = np.random.default_rng(0), np.arange(40) % 2, 1 + 1 / 32
    held, naive = [], []
    for seed in range(300):
        rows, folds = random.normal(size=40), repeated_folds(labels, n_splits=5, n_repeats=4, seed=seed)
        scores = np.array([((rows[test] - rows[train].mean()) ** 2).mean() for train, test in folds])
        found = fold_interval(scores, folds)
        held.append(found.low < truth < found.high)
        error = scores.std(ddof=1) / np.sqrt(len(scores))
        naive.append(abs(scores.mean() - truth) < student_t.ppf(0.975, len(scores) - 1) * error)
    assert np.mean(held) > 0.88
    assert np.mean(naive) < 0.7


@pytest.mark.parametrize(
    ("values", "confidence", "sentence"),
    [
        ([0.5], 0.95, "two scores or more"),
        ([[0.5, 0.6]], 0.95, "two scores or more"),
        ([0.5, 0.6, 0.7], 0.95, "3 values and 2 folds"),
        ([0.5, np.nan], 0.95, "fold 1 is not"),
        ([0.5, 0.6], 1, "confidence must lie"),
    ],
)
def test_scores_without_an_interval_are_refused(values, confidence, sentence):
    with pytest.raises(ValueError, match=sentence):
        fold_interval(values, repeated_folds(Y, n_splits=2), confidence=confidence)


@pytest.mark.parametrize("number", [4, np.int64(4)])
@pytest.mark.parametrize("classifier", [True, False])
def test_a_number_of_folds_keeps_groups_whole(number, classifier):
    folds = checked_folds(number, np.zeros((60, 1)), Y, DAYS, classifier=classifier)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(60))
    for train, test in folds:
        assert not np.isin(DAYS[test], DAYS[train]).any()


def test_a_number_of_folds_without_groups_is_scikit_learns():
    X = np.zeros((60, 1))
    for classifier, kind in ((True, StratifiedKFold), (False, KFold)):
        tests = [test.tolist() for _, test in checked_folds(4, X, Y, None, classifier=classifier)]
        assert tests == [test.tolist() for _, test in kind(4).split(X, Y)]


def test_folds_that_know_what_they_predict_are_refused():
    X, rows = np.zeros((60, 1)), np.arange(60)
    with pytest.raises(ValueError, match="fold 0 trains on rows that it predicts"):
        checked_folds([(rows, rows[:5])], X, Y, None, classifier=True)
    cut = list(KFold(2, shuffle=True, random_state=0).split(X))
    with pytest.raises(ValueError, match=r"fold 0 trains on the group \d+ that it predicts"):
        checked_folds(cut, X, Y, DAYS, classifier=True)
