"""Folds, intervals, out-of-fold features and leakage, held to scikit-learn where it has them."""

import logging
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import t as student_t
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, RepeatedKFold, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit
from sklearn.model_selection import cross_val_predict as theirs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from helpers.crossval import Interval, checked_folds, draw_interval, fold_count, fold_interval, repeated_folds
from helpers.crossval import leakage_report as report_of
from helpers.crossval import out_of_fold_features as oof
from helpers.notebook import fresh_process

logging.getLogger("tensorflow").setLevel(logging.ERROR)
random = np.random.default_rng(0)
X = random.normal(size=(90, 4))
Y = (X[:, 0] + random.normal(size=90) > 0.5).astype(int)
DAYS = np.arange(90) // 3
LINEAR = LogisticRegression()
FOREST = RandomForestClassifier(5, random_state=0)
CUTS = KFold(4, shuffle=True, random_state=1)
TREE = DecisionTreeClassifier(max_depth=2, random_state=0)


@pytest.mark.parametrize("groups", [None, DAYS])
def test_each_repetition_judges_every_row_once_in_proportion(groups):
    folds = repeated_folds(Y, groups, n_splits=4, n_repeats=3, seed=1)
    assert len(folds) == 12
    for start in range(0, 12, 4):
        assert sorted(np.concatenate([test for _, test in folds[start : start + 4]])) == list(range(90))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(90))
        assert abs(Y[test].mean() - Y.mean()) < 0.15
        assert groups is None or not np.isin(groups[test], groups[train]).any()


def test_the_seed_decides_and_as_many_folds_as_leave_three_units_of_each_class():
    one, same, other = ([test.tolist() for _, test in repeated_folds(Y, n_repeats=2, seed=k)] for k in (0, 0, 1))
    assert one == same != other
    assert one[:5] != one[5:]
    labels = [0] * 40 + [1] * 20
    assert [fold_count(labels), fold_count(labels, most=9), fold_count(labels, DAYS[:60])] == [5, 6, 2]


def test_the_interval_is_nadeaus_and_bengios():
    folds, scores = repeated_folds(Y, n_splits=5, n_repeats=2), np.linspace(0.6, 0.8, 10)
    # Folds of a fifth: a test set is a quarter of its training set.
    reach = student_t.ppf(0.975, 9) * np.sqrt((1 / 10 + 1 / 4) * scores.var(ddof=1))
    assert fold_interval(scores, folds) == pytest.approx((0.7, 0.7 - reach, 0.7 + reach))
    assert str(Interval(-1e-9, -0.2, -1e-4)) == "0.000 (95 %: -0.200 to 0.000)"


def test_independent_draws_have_students_interval():
    scores = np.linspace(0.6, 0.8, 10)
    assert draw_interval(scores) == pytest.approx(
        (0.7, *student_t.interval(0.95, 9, 0.7, scores.std(ddof=1) / 10**0.5))
    )
    # Splits of the same rows share what they know: their interval is wider.
    assert fold_interval(scores, repeated_folds(Y, n_splits=5, n_repeats=2)).low < draw_interval(scores).low


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: repeated_folds(Y, n_splits=1), "n_splits == 1, must be >= 2"),
        (lambda: repeated_folds(Y, [1, 2]), "inconsistent numbers of samples"),
        (lambda: repeated_folds([0] * 40 + [1] * 20, n_splits=21), "class 1 has 20 rows: too few for 21 folds"),
        (lambda: repeated_folds([0] * 69 + [1] * 21, DAYS, n_splits=8), "class 1 has 7 groups: too few for 8 folds"),
        (lambda: fold_interval([0.5], [([0], [1])]), "minimum of 2"),
        (lambda: fold_interval([0.5, 0.6, 0.7], repeated_folds(Y, n_splits=2)), "for each of the 2 folds"),
        (lambda: fold_interval(["a", "b"], repeated_folds(Y, n_splits=2)), "values must hold real numbers; got dtype"),
        (lambda: oof(Flat(), X, Y, method="predict"), r"Flat predicts an array of shape \(1, 18\) for 18 rows"),
        (lambda: oof(LINEAR, X, np.c_[Y, Y]), "1d array"),
        (lambda: fold_interval([0.5, np.nan], repeated_folds(Y, n_splits=2)), "values contains NaN"),
        (lambda: draw_interval([0.5]), "minimum of 2"),
        (lambda: draw_interval([0.5, np.inf]), "values contains infinity"),
        (lambda: report_of(TREE, X, np.zeros(90), features=in_sample), "y must hold two classes; got 1"),
        (
            lambda: report_of(TREE, X, Y * (np.arange(90) > 45), features=in_sample, cv=KFold(2)),
            "fewer than two folds",
        ),
        (lambda: report_of(TREE, X, Y, features=in_sample, n_permutations=2), "n_permutations == 2, must be >= 3"),
        (lambda: report_of(TREE, X, Y, features=lambda X, y, new: (X[1:], new)), "for each of the 90 rows; got 89"),
        (lambda: oof(LINEAR, X, Y[1:]), "inconsistent numbers of samples"),
        (lambda: oof(LINEAR, X, Y, cv=[(np.arange(90), np.arange(90))]), "fold 0 trains on rows that it predicts"),
        (lambda: oof(LINEAR, X, Y, cv=list(CUTS.split(X)), groups=DAYS), "fold 0 trains on the group"),
        (lambda: oof(LINEAR, X, Y, cv=RepeatedKFold(n_splits=3, n_repeats=2)), "predicts 90 rows more than once"),
        (lambda: oof(LINEAR, X, Y, method="score_samples"), "method must be one of auto, predict_proba"),
        (lambda: oof(LINEAR, X, Y, method="transform"), "'transform' is refused: each fold's transformer has axes"),
        (lambda: oof(StandardScaler(), X, Y), "'auto' is refused: each fold's transformer has axes"),
        (lambda: oof(Recording(np.nan), X, Y, method="predict"), "Recording predicts values that are not finite"),
        (lambda: oof(LogisticRegression, X, Y), "instance of scikit-learn estimator"),
    ],
)
def test_what_would_give_a_wrong_answer_raises(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize(("classifier", "kind"), [(True, StratifiedKFold), (False, KFold)])
def test_a_number_means_scikit_learns_folds_with_groups_whole(classifier, kind):
    tests = [test.tolist() for _, test in checked_folds(4, X, Y, None, classifier=classifier)]
    assert tests == [test.tolist() for _, test in kind(4).split(X, Y)]
    folds = checked_folds(np.int64(4), X, Y, DAYS, classifier=classifier)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(90))
    assert not any(np.isin(DAYS[test], DAYS[train]).any() for train, test in folds)


def test_boolean_masks_are_folds():
    folds = list(CUTS.split(X))
    masks = [tuple(np.isin(np.arange(90), side) for side in fold) for fold in folds]
    np.testing.assert_array_equal(oof(LINEAR, X, Y, cv=masks), oof(LINEAR, X, Y, cv=folds))
    np.testing.assert_array_equal(oof(LINEAR, X, Y[:, None], cv=np.array(masks).tolist()), oof(LINEAR, X, Y, cv=folds))
    assert fold_interval([0.5, 0.6, 0.7, 0.8], masks) == fold_interval([0.5, 0.6, 0.7, 0.8], folds)
    for bad in (
        [(masks[0][0][:80], masks[0][1][:80])],
        [masks[0][1]],
        [masks[0][1].tolist()],
        np.arange(90) % 3,
        [(np.arange(80), np.arange(80, 91))],
        [(np.arange(80), np.arange(80.0, 90.0))],
        [(np.arange(80), [])],
        [(1, 2, 3)],
    ):
        with pytest.raises(ValueError, match="fold 0 must be a pair of row numbers below 90, or of boolean masks"):
            oof(LINEAR, X, Y, cv=bad)
    with pytest.raises(ValueError, match=r"trains on rows that it predicts: .*; masks are boolean"):
        oof(LINEAR, X, Y, cv=[tuple(side.astype(int) for side in fold) for fold in masks])


TABLE, SPARSE = pd.DataFrame(X, columns=list("abcd")), sparse.csr_matrix(X)


@pytest.mark.parametrize("method", ["predict_proba", "decision_function", "predict"])
@pytest.mark.parametrize(
    ("inputs", "labels", "options"),
    [
        (X, Y, {"cv": 3}),
        (TABLE, np.array(["no", "maybe"])[Y], {"cv": CUTS}),
        (SPARSE, np.digitize(X[:, 1], [-0.5, 0.5]), {"cv": 3}),
        (X, Y, {"cv": StratifiedGroupKFold(5), "groups": DAYS}),
    ],
)
def test_out_of_fold_is_cross_val_predict(inputs, labels, options, method):
    ours = oof(LINEAR, inputs, labels, method=method, **options)
    np.testing.assert_array_equal(ours, theirs(LINEAR, inputs, labels, method=method, **options))


def test_it_is_cross_val_predict_of_numbers_and_keeps_groups_whole_by_itself():
    squares = X[:, 1] ** 2
    np.testing.assert_array_equal(oof(LinearRegression(), X, squares), theirs(LinearRegression(), X, squares))
    by_day = oof(LINEAR, X, Y, cv=StratifiedGroupKFold(5), groups=DAYS)
    np.testing.assert_array_equal(oof(LINEAR, X, Y, groups=DAYS), by_day)


def test_a_class_that_a_fold_has_not_seen_has_no_probability():
    labels = np.array([0, 1, 2] * 30)
    labels[:30] = np.where(labels[:30] == 2, 0, labels[:30])
    folds = [(np.arange(30, 90), np.arange(30)), (np.arange(30), np.arange(30, 90))]
    found = oof(LINEAR, X, labels, cv=folds)
    assert (found[30:, 2] == 0).all()
    with pytest.warns(RuntimeWarning, match="Number of classes in training fold"):
        np.testing.assert_array_equal(found, theirs(LINEAR, X, labels, cv=folds, method="predict_proba"))
    with pytest.raises(ValueError, match="no training rows of class 2: there is no decision_function"):
        oof(LINEAR, X, labels, cv=folds, method="decision_function")


class Recording(ClassifierMixin, BaseEstimator):
    """Predicts its seed, and notes which rows it was fitted on and which it was asked for."""

    calls: ClassVar = []

    def __init__(self, random_state=5):
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_, self.rows_ = np.unique(y), X
        return self

    def predict(self, X):
        return np.full(len(X), self.random_state)

    def decision_function(self, X):
        self.calls.append((self.rows_[:, 0].astype(int), X[:, 0].astype(int)))
        return X[:, -1]


class Flat(Recording):
    """Predicts a row for a column."""

    def predict(self, X):
        return np.zeros((1, len(X)))


def test_each_fold_has_a_seed_of_its_own_and_the_model_for_new_rows_has_seen_all():
    def seeds(model, seed):
        found, fitted = oof(model, X, Y, cv=3, method="predict", seed=seed, return_estimator=True)
        assert len(fitted[-1].rows_) == 90
        return {*found.tolist(), fitted[-1].random_state}

    model = make_pipeline(Recording())
    assert len(seeds(model, 0)) == 4
    assert seeds(model, 0) == seeds(model, 0) != seeds(model, 1)
    assert seeds(model, None) == {5}
    assert not hasattr(model[-1], "rows_")


def test_splits_by_time_leave_the_first_rows_out_and_say_so():
    by_time, words = TimeSeriesSplit(4), np.array(["no", "maybe"])[Y]
    with pytest.raises(ValueError, match="cv leaves 18 of 90 rows without a prediction"):
        oof(FOREST, X, Y, cv=by_time)
    found = oof(FOREST, X, Y, cv=by_time, partial=True)
    assert np.isnan(found[:18]).all()
    for train, test in by_time.split(X):
        np.testing.assert_array_equal(found[test], FOREST.fit(X[train], Y[train]).predict_proba(X[test]))
    found = oof(FOREST, X, words, cv=by_time, partial=True, method="predict")
    assert pd.isna(found[:18]).all()


def test_without_a_network_tensorflow_is_not_loaded(tmp_path):
    (tmp_path / "scores.py").write_text(
        "import sys, numpy as np\nfrom helpers.crossval import out_of_fold_features\n"
        "from helpers.estimators import ScoreClassifier\n"
        "out_of_fold_features(ScoreClassifier(), np.linspace(0, 1, 40)[:, None], np.arange(40) % 2)\n"
        "print('keras' in sys.modules or 'tensorflow' in sys.modules)\n"
    )
    assert fresh_process(tmp_path / "scores.py").split() == ["False"]


def rows(seed, n=240, columns=6):
    """Return inputs and labels that depend on the first column, with noise."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, columns))
    return X, (X[:, 0] + random.normal(size=n) > 0).astype(int)


def in_sample(X, y, X_new, groups=None):
    model = RandomForestClassifier(10, random_state=0).fit(X, y)
    return model.predict_proba(X)[:, 1], model.predict_proba(X_new)[:, 1]


def out_of_fold(X, y, X_new):
    found, fitted = oof(FOREST, X, y, return_estimator=True)
    return found[:, 1:], fitted.predict_proba(X_new)[:, 1:]


def out_of_fold_linear(X, y, X_new):
    model = LogisticRegression(C=1000, solver="newton-cholesky")
    found, fitted = oof(model, X, y, method="decision_function", return_estimator=True)
    return found, fitted.decision_function(X_new)


def without_labels(X, y, X_new, groups=None):
    return np.asarray(X)[:, :2] ** 2, np.asarray(X_new)[:, :2] ** 2


def test_a_planted_leak_is_found():
    X, y = rows(0)
    report = report_of(TREE, X, y, features=in_sample, n_permutations=5)
    assert report == report_of(TREE, X.tolist(), y, features=in_sample, n_permutations=5)
    assert report == report_of(TREE, X, np.array(["no", "yes"])[y], features=in_sample, n_permutations=5)
    assert report.leaks
    assert report.permuted.mean > 0.9
    assert report.optimism.mean == pytest.approx(report.non_nested.mean - report.nested.mean)
    assert report.optimism.low > 0.05
    assert report.gain.mean == pytest.approx(report.nested.mean - report.baseline.mean)
    first, second = report.alarms
    assert first.startswith("Leak: permuted labels are predicted with an AUC of 0.9")
    assert second.startswith("Leak: features made once promise an AUC of")
    assert str(report).endswith(report.message) and len(str(report).splitlines()) == 9


def mean_label(X, y, X_new, groups=None):
    """A target encoding of the last column."""
    means = pd.Series(y).groupby(np.asarray(X)[:, -1]).mean()
    return [pd.Series(np.asarray(of)[:, -1]).map(means).fillna(y.mean()).to_numpy() for of in (X, X_new)]


def groups_cut(X, y, X_new, groups):
    """Out of fold, but rows of one group on both sides."""
    found, fitted = oof(FOREST, X, y, cv=CUTS, return_estimator=True)
    return found[:, 1:], fitted.predict_proba(X_new)[:, 1:]


def groups_whole(X, y, X_new, groups):
    found, fitted = oof(FOREST, X, y, groups=groups, return_estimator=True)
    return found[:, 1:], fitted.predict_proba(X_new)[:, 1:]


def neighbours(X, y, X_new):
    """The labels of the ten rows around each, as a join without regard to time gives them."""
    labels = pd.Series(y, dtype=float)
    around = (labels.rolling(11, center=True, min_periods=1).sum() - labels) / 10
    return around.to_numpy(), np.full(len(X_new), y[-10:].mean())


def rows_of(kind, seed):
    """Return X, y and options of a table in which the features of this kind leak, or do not."""
    random = np.random.default_rng(seed)
    X, y = rows(seed)
    if kind == "categories":
        return np.column_stack([X, random.permutation(240) // 4]), y, {}
    if kind == "groups":
        groups, centres = np.arange(240) // 4, random.normal(size=(60, 6))
        labels = (centres[:, 0] + random.normal(size=60) > 0).astype(int)
        return centres[groups] + 0.1 * random.normal(size=(240, 6)), labels[groups], {"groups": groups}
    if kind == "time":
        level = np.convolve(random.normal(size=613), np.ones(14) / 14**0.5, "valid")
        return (
            random.normal(size=(600, 3)),
            (level + 0.2 * random.normal(size=600) > 0).astype(int),
            {"cv": TimeSeriesSplit(5)},
        )
    if kind == "copies":
        twice = random.choice(240, 80)
        return np.vstack([X, X[twice]]), np.r_[y, y[twice]], {}
    return X, y, {}


@pytest.mark.parametrize(
    ("kind", "features", "expected"),
    [
        ("", in_sample, True),
        ("categories", mean_label, True),
        ("groups", groups_cut, True),
        ("time", neighbours, True),
        ("copies", without_labels, True),
        ("", out_of_fold, False),
        ("groups", groups_whole, False),
        ("time", without_labels, False),
        ("categories", without_labels, False),
    ],
)
def test_planted_leaks_of_five_kinds_raise_an_alarm_and_clean_features_none(kind, features, expected):
    found = []
    for seed in range(3):
        X, y, options = rows_of(kind, seed)
        found.append(report_of(TREE, X, y, features=features, n_permutations=6, seed=seed, **options).leaks)
    assert found == [expected] * 3


def test_rows_that_are_equal_by_nature_are_no_copies():
    random = np.random.default_rng(0)
    X = random.integers(0, 2, (240, 4)).astype(float)
    y = (X[:, 0] + random.normal(size=240) > 0.5).astype(int)
    assert report_of(TREE, X, y, features=without_labels, n_permutations=3).copies == 0
    X, y, _ = rows_of("copies", 0)
    # In the folds of one group each, a copy never faces its original.
    groups = pd.factorize(pd.Series(map(tuple, X)))[0]
    whole = report_of(TREE, X, y, features=without_labels, groups=groups, n_permutations=3)
    assert whole.copies == 0
    assert report_of(TREE, X, y, features=without_labels, n_permutations=3).copies > 100


@pytest.mark.parametrize("features", [out_of_fold, without_labels])
def test_clean_features_raise_no_alarm(features):
    found = [report_of(TREE, *rows(k), features=features, n_permutations=4, seed=k) for k in range(4)]
    assert not any(report.leaks for report in found)
    assert abs(np.mean([report.permuted.mean for report in found]) - 0.5) < 0.05
    assert found[0].message == "No leak found."


def test_leakage_through_shared_folds_is_found_and_shifted_folds_weaken_it():
    X, y = rows(0, n=300, columns=60)
    modest = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
    report = report_of(modest, X, y, features=out_of_fold_linear, n_permutations=4)
    assert report.leaks
    assert report.permuted.mean > report.permuted_shifted.mean + 0.02 > 0.6
    new_X, new_y = rows(1, n=4000, columns=60)
    old, new = out_of_fold_linear(X, y, new_X)
    fitted = modest.fit(np.column_stack([X, old]), y)
    truth = roc_auc_score(new_y, fitted.decision_function(np.column_stack([new_X, new])))
    assert abs(report.nested.mean - truth) < 0.05
    assert report.non_nested.mean > truth + 0.1


def test_groups_are_passed_on_and_no_score_cuts_one_apart():
    X, y = np.column_stack([np.arange(240), rows(0)[0]]), rows(0)[1]
    Recording.calls, seen = [], []

    def features(X, y, X_new, groups):
        seen.append(groups)
        np.testing.assert_array_equal(X[:, 0].astype(int) // 4, groups)
        return without_labels(X, y, X_new)

    report_of(Recording(), X, y, features=features, groups=np.arange(240) // 4, n_permutations=3)
    # All rows for each permutation and once for the true labels, then inside each of five folds: whole groups.
    assert [len(groups) for groups in seen[:4]] == [240] * 4
    assert all((np.unique(groups, return_counts=True)[1] == 4).all() for groups in seen[4:])
    for train, test in Recording.calls:
        assert sorted([*train, *test]) == list(range(240))
        assert not np.isin(test // 4, train // 4).any()


def test_a_table_gets_the_features_as_columns_and_none_is_replaced():
    X, y = rows(0)
    table, seen = pd.DataFrame(X[:, :2], columns=["a", "b"]), set()
    watched = make_pipeline(FunctionTransformer(lambda X: seen.add((*X.columns,)) or X), TREE)
    report_of(watched, table, y, features=without_labels, n_permutations=3)
    assert seen == {("a", "b", "feature_0", "feature_1"), ("a", "b")}
    with pytest.raises(ValueError, match="feature_1"):
        report_of(TREE, table.rename(columns={"a": "feature_1"}), y, features=without_labels)
