"""What lessons draw from tables that took longer than a lesson may: a row that is computed again lies in the table."""

import evidence
import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.evidence_table import write_table
from helpers import data
from helpers.notebook import ROOT


@pytest.fixture(scope="module")
def table():
    return evidence.table("decisions")


@pytest.fixture(scope="module")
def live():
    """The probabilities of the trained network, of the same calibrated, and of a logistic regression; the test rows."""
    keras = pytest.importorskip("keras")
    flights = data.load("late_flights")
    train, unseen = data.split(flights, test_size=0.5)
    validation, test = data.split(flights, unseen, test_size=0.5)
    network = keras.saving.load_model(ROOT / "datasets" / "late_flights" / "network.keras")
    prob = (
        network.predict(flights.X.astype("float32"), batch_size=4096, verbose=0)[:, 0]
        .astype(float)
        .clip(1e-6, 1 - 1e-6)
    )
    log_odds = logit(prob)[:, np.newaxis]
    platt = LogisticRegression(C=np.inf).fit(log_odds[validation], flights.y[validation])
    logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(flights.X[train], flights.y[train])
    found = {
        "network": prob,
        "calibrated network": platt.predict_proba(log_odds)[:, 1],
        "logistic regression": logistic.predict_proba(flights.X)[:, 1],
    }
    return flights.y[test], {model: values[test] for model, values in found.items()}


@pytest.mark.parametrize("cost_fn", [50, 100, 200, 400, 900])
@pytest.mark.parametrize("rule", ["network", "calibrated network", "logistic regression"])
def test_the_formula_costs_on_another_split_what_the_table_says(table, live, rule, cost_fn):
    y, prob = live
    alarm = prob[rule] >= 100 / (100 + cost_fn)
    cost = np.where(alarm, 100 * (y == 0), cost_fn * (y == 1)).mean()
    rows = table[(table["rule"] == f"{rule}, formula") & (table["cost_fn"] == cost_fn)]
    rows = rows[rows["split"].str.startswith("seed")]
    assert len(rows) == 20
    assert evidence.lies_within(rows["cost"], cost)


def test_every_split_has_every_rule_on_equal_rows(table):
    counted = table.groupby("split").size()
    assert len(counted) == 21 and counted.nunique() == 1
    assert not table["cost"].isna().any() and (table["cost"] > 0).all()
    never = table[table["rule"] == "never"].pivot(index="split", columns="cost_fn", values="cost")
    np.testing.assert_allclose(never[900], 9 * never[100], atol=0.1)


@pytest.mark.parametrize("path", sorted(evidence.FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_a_table_is_written_as_it_is_stored(path, tmp_path):
    rows = pd.read_csv(path, comment="#", dtype=str, keep_default_na=False)
    write_table(str(tmp_path / "a.py"), rows, seeds="0", budget="1 epoch", note="costs;\nin dollars")
    head, body = [], []
    for line in (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines():
        (head if line.startswith("#") else body).append(line)
    assert [line.partition(" ")[2].split(":")[0] for line in head[:4]] == ["seeds", "budget", "versions", "date"]
    assert head[4:] == ["# in dollars"]
    assert body == [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


# --- calibration -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrations():
    return evidence.table("calibration")


@pytest.fixture(scope="module")
def calibrated_here():
    """The log loss of the stored models on lesson 21's split, by the script's own calibrations."""
    keras = pytest.importorskip("keras")
    repairs = evidence.script("calibration")["repairs"]
    flights, folder = data.load("late_flights"), ROOT / "datasets" / "late_flights"
    train, unseen = data.split(flights, test_size=0.5)
    validation, test = data.split(flights, unseen, test_size=0.5)
    X = flights.X.astype("float32")
    overfit = keras.saving.load_model(folder / "overfit.keras").predict(X, batch_size=4096, verbose=0)["logit"]
    weighted = keras.saving.load_model(folder / "network.keras").predict(X, batch_size=4096, verbose=0)
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(flights.X[train], flights.y[train])
    logits = {
        "overfit network": overfit[:, 0].astype(float),
        "network with class weights": logit(weighted[:, 0].astype(float).clip(1e-6, 1 - 1e-6)),
        "logistic regression": linear.decision_function(flights.X),
    }
    edge = 0.5 / len(validation)
    return {
        (model, repair): log_loss(flights.y[test], prob[test].clip(edge, 1 - edge))
        for model, z in logits.items()
        for repair, prob in repairs(z, validation).items()
    }


@pytest.mark.parametrize("repair", ["as trained", "temperature", "Platt", "isotonic"])
@pytest.mark.parametrize("model", ["overfit network", "network with class weights", "logistic regression"])
def test_calibration_does_on_another_split_what_the_table_says(calibrations, calibrated_here, model, repair):
    rows = calibrations.query("model == @model and repair == @repair and rows == 'all' and split != 'in order of time'")
    assert len(rows) == 20
    assert evidence.lies_within(rows["log_loss"], calibrated_here[model, repair])


def test_calibrations_that_keep_the_order_keep_the_auc(calibrations):
    counted = calibrations.groupby("split").size()
    assert len(counted) == 21 and (counted == 4 * 3 * 4).all()
    every = calibrations.pivot(index=["split", "model", "rows"], columns="repair", values="auc")
    for repair in ("temperature", "Platt"):
        np.testing.assert_allclose(every[repair], every["as trained"], atol=2e-4)
    assert (every["isotonic"] < every["as trained"]).mean() > 0.8, "its ties cost a little"
    exact = calibrations.query("impossible > 0").groupby("repair")["impossible"].max()
    assert exact.drop("isotonic").max() <= 1 < exact["isotonic"]
