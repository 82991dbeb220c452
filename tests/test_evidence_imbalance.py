"""What lesson 72 draws from its table: rows that are computed again lie in the table, and the table is whole."""

import evidence
import pytest
from sklearn.base import clone

from helpers import crossval


@pytest.fixture(scope="module")
def fold(script):
    return crossval.repeated_folds(script["Y"], script["DAYS"], n_splits=script["SPLITS"], seed=script["SEED"])[0]


@pytest.mark.parametrize("treatment", ["untreated", "class weights", "undersampling", "SMOTE"])
def test_a_fold_of_logistic_regression_is_as_the_table_has_it(table, script, fold, treatment):
    train, test = fold
    X, y = script["X"], script["Y"]
    model = clone(script["pipelines"](train)["logistic regression", treatment]).fit(X.iloc[train], y[train])
    prob = model.predict_proba(X.iloc[test])[:, 1]
    (row,) = table.query("fold == 0 and model == 'logistic regression' and treatment == @treatment").to_dict("records")
    found = script["scores"](y[test], prob, prob, 0.5)
    for score, tolerance in {"ap": 0.004, "ece": 0.004, "cost_formula": 0.1, "cost_half": 0.1}.items():
        assert float(found[score]) == pytest.approx(row[score], abs=tolerance)


def test_the_recommended_pipeline_does_on_other_days_what_the_table_says(table, script):
    X, y = script["X"], script["Y"]
    train, test = crossval.repeated_folds(y, script["DAYS"], n_splits=4, seed=99)[0]
    model = script["pipelines"](train)["recommended", "untreated"].fit(X.iloc[train], y[train])
    prob = model.predict_proba(X.iloc[test])[:, 1]
    found, rows = script["scores"](y[test], prob, prob, 0.5), table[table["model"] == "recommended"]
    for score in ("ap", "ece", "cost_formula"):
        assert evidence.lies_within(rows[score], float(found[score]))


def test_every_fold_has_every_pipeline(table, script):
    assert set(table["fold"]) == set(range(script["SPLITS"] * script["REPEATS"]))
    pairs = table.groupby("fold").apply(lambda part: tuple(zip(part["model"], part["treatment"], strict=True)))
    assert pairs.nunique() == 1 and len(pairs.iloc[0]) == len(set(pairs.iloc[0]))
    assert not table.isna().any(axis=None)


def test_uncorrected_treatments_ruin_the_probabilities_and_the_correction_repairs_undersampling(table):
    means = table.groupby(["model", "treatment"])[["ece", "ece_corrected"]].mean()
    for model in ("logistic regression", "boosting"):
        assert means.at[(model, "undersampling"), "ece"] > 10 * means.at[(model, "untreated"), "ece"]
        assert means.at[(model, "undersampling"), "ece_corrected"] < 2.5 * means.at[(model, "untreated"), "ece"]
