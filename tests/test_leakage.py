"""The report finds features that know labels, and leaves the others alone."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from helpers.crossval import _shifted, checked_folds, leakage_report, out_of_fold_features

TREE = DecisionTreeClassifier(max_depth=2, random_state=0)
FOREST = RandomForestClassifier(10, min_samples_leaf=3, random_state=0)
LINEAR = LogisticRegression(C=1000, max_iter=1000)


def rows(seed, n=240, columns=6):
    """Return inputs and labels that depend on the first column, with noise."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, columns))
    return X, (X[:, 0] + random.normal(size=n) > 0).astype(int)


def in_sample(X, y, X_new, groups=None):
    model = FOREST.fit(X, y)
    return model.predict_proba(X)[:, 1], model.predict_proba(X_new)[:, 1]


def out_of_fold(X, y, X_new, groups=None):
    found, model = out_of_fold_features(FOREST, X, y, groups=groups, return_estimator=True)
    return found[:, 1:], model.predict_proba(X_new)[:, 1:]


def out_of_fold_linear(X, y, X_new, groups=None):
    found, model = out_of_fold_features(LINEAR, X, y, method="decision_function", return_estimator=True)
    return found, model.decision_function(X_new)


def without_labels(X, y, X_new, groups=None):
    return X[:, :2] * X[:, 2:4], X_new[:, :2] * X_new[:, 2:4]


def test_a_planted_leak_is_found():
    X, y = rows(0)
    report = leakage_report(in_sample, X, y, estimator=TREE, n_permutations=5)
    assert report.leaks
    assert report.permuted.mean > 0.9
    assert report.as_used.mean > report.nested.mean + 0.1
    assert report.sentence.startswith("Leak: labels drawn by lot are predicted with an AUC of 0.9")


@pytest.mark.parametrize("way", [out_of_fold, without_labels])
def test_clean_features_raise_no_alarm(way):
    alarms = [leakage_report(way, *rows(seed), estimator=TREE, n_permutations=5, seed=seed) for seed in range(6)]
    assert sum(report.leaks for report in alarms) == 0
    assert abs(np.mean([report.permuted.mean for report in alarms]) - 0.5) < 0.05
    assert alarms[0].sentence.startswith("No leak")


def test_the_second_leak_is_found_and_shifted_folds_weaken_it():
    X, y = rows(0, n=300, columns=60)
    modest = make_pipeline(StandardScaler(), LogisticRegression())
    report = leakage_report(out_of_fold_linear, X, y, estimator=modest, n_permutations=6)
    assert report.leaks
    assert report.permuted.mean > report.permuted_shifted.mean > 0.55
    new_X, new_y = rows(1, n=4000, columns=60)
    old, new = out_of_fold_linear(X, y, new_X)
    fitted = modest.fit(np.column_stack([X, old]), y)
    truth = roc_auc_score(new_y, fitted.decision_function(np.column_stack([new_X, new])))
    assert abs(report.nested.mean - truth) < 0.05
    assert report.as_used.mean > truth + 0.1


def test_without_and_gain_belong_to_the_same_folds():
    X, y = rows(3)
    report = leakage_report(out_of_fold, X, y, estimator=TREE, n_permutations=3)
    assert report.gain.mean == pytest.approx(report.nested.mean - report.without.mean)


def test_groups_are_handed_on_and_kept_whole():
    X, y = rows(0)
    days, seen = np.arange(240) // 4, []

    def way(X, y, X_new, groups):
        seen.append((X[:, 0], groups))
        return without_labels(X, y, X_new)

    report = leakage_report(way, X, y, estimator=TREE, groups=days, n_permutations=3)
    assert not report.leaks
    day_of = dict(zip(X[:, 0], days, strict=True))
    for some, groups in seen:
        assert [day_of[value] for value in some] == groups.tolist()
    # All rows for each permutation and once for the true labels, then inside each of five folds: whole days.
    assert [len(some) for some, _ in seen[:4]] == [240] * 4
    for _, groups in seen[4:]:
        assert (np.unique(groups, return_counts=True)[1] == 4).all()


def test_shifted_folds_share_half_with_each_of_two_folds_and_keep_groups_whole():
    days = np.arange(240) // 4
    folds = checked_folds(5, np.zeros((240, 1)), np.arange(240) % 2, days, classifier=True)
    shifted = _shifted(folds, days)
    assert sorted(np.concatenate([test for _, test in shifted])) == list(range(240))
    for train, test in shifted:
        assert sorted([*train, *test]) == list(range(240))
        assert not np.isin(days[test], days[train]).any()
        shared = sorted(np.isin(test, before).mean() for _, before in folds)
        assert shared[:3] == [0, 0, 0]
        assert min(shared[3:]) > 0.4


def test_a_table_gets_the_features_as_columns():
    X, y = rows(0)
    names = []

    class Watched(DecisionTreeClassifier):
        def fit(self, X, y):
            names.append(list(X.columns))
            return super().fit(X, y)

    table = pd.DataFrame(X[:, :2], columns=["a", "b"])
    leakage_report(lambda X, y, new: (X**2, new**2), table, y, estimator=Watched(max_depth=1), n_permutations=3)
    assert ["a", "b", "feature_0", "feature_1"] in names
    assert ["a", "b"] in names


def test_lists_are_inputs_and_a_column_is_never_replaced():
    X, y = rows(0, n=60)
    inputs = np.asarray(X).tolist()

    def square(X, y, X_new):
        return np.asarray(X) ** 2, np.asarray(X_new) ** 2

    options = {"estimator": TREE, "n_permutations": 3}
    assert leakage_report(square, inputs, y, **options) == leakage_report(square, X, y, **options)
    table = pd.DataFrame(X).rename(columns={3: "feature_2"})
    with pytest.raises(ValueError, match="X has a column 'feature_2' already"):
        leakage_report(square, table, y, **options)


def test_the_report_is_repeatable():
    X, y = rows(0, n=60)
    one, same, other = (leakage_report(without_labels, X, y, estimator=TREE, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one.permuted != other.permuted
    assert one.nested == other.nested


def test_all_lines_are_shown():
    X, y = rows(0)
    text = str(leakage_report(in_sample, X, y, estimator=TREE, n_permutations=3))
    assert len(text.splitlines()) == 7
    assert "labels drawn by lot, shifted folds" in text


def test_what_cannot_be_asked_is_refused():
    X, y = rows(0)
    with pytest.raises(ValueError, match="y must hold two classes; got 1"):
        leakage_report(in_sample, X, np.zeros(240), estimator=TREE)
    with pytest.raises(ValueError, match="n_permutations must be a whole number of at least 3; got 2"):
        leakage_report(in_sample, X, y, estimator=TREE, n_permutations=2)
    with pytest.raises(ValueError, match="a row for each of the 240 rows; got 239"):
        leakage_report(lambda X, y, new: (X[1:], new), X, y, estimator=TREE)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        leakage_report(in_sample, X, y[1:], estimator=TREE)
