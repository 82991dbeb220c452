"""What lesson 70 draws from a table of evidence: rows that are computed again lie in the table's spread."""

import evidence
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers import crossval, data


def within(rows, column, value):
    assert len(rows) == 20
    assert evidence.lies_within(rows[column], value)


def test_every_split_has_every_row(table):
    counted = table.groupby("split").size()
    assert len(counted) == 20 and counted.nunique() == 1
    assert table["auc"].between(0.5, 1).all() and table["log_loss"].gt(0).all()
    every = table.pivot(index="split", columns=["part", "b", "choice"], values="auc")
    pd.testing.assert_series_equal(
        every["all rows", "trees", "logit"], every["all rows", "trees", "probability"], check_names=False, atol=2e-3
    )


def test_without_a_lies_in_the_spread(table, script):
    past, new = data.split(script["LATE"], test_size=0.5)
    empty = script["X"][past, :0], script["X"][new, :0]
    for _, b, choice, _, auc, loss in script["score"]("without", {"nothing": empty}, past, new):
        rows = table[(table["part"] == "all rows") & (table["b"] == b) & (table["choice"] == choice)]
        within(rows, "auc", auc)
        within(rows, "log_loss", loss)


def test_a_network_in_sample_does_on_another_split_what_the_table_says(table, script):
    past, new = data.split(script["LATE"], test_size=0.5)
    a = script["train_a"](past, 7)
    column = {"logit, in sample": tuple(a.decision_function(script["X"][rows])[:, None] for rows in (past, new))}
    ((_, _, _, promised, auc, _),) = script["score"]("all rows", column, past, new, ["logistic"])
    rows = table.query("part == 'all rows' and b == 'logistic' and choice == 'logit, in sample'")
    within(rows, "promised", float(promised))
    within(rows, "auc", auc)


def test_the_other_table_gets_no_score_of_a_later_flight(script):
    table, late = script["timetable"](), script["LATE"]
    clock = script["clock"](late.groups, late.column("hour"))
    assert clock.is_monotonic_increasing and table["time"].is_monotonic_increasing
    assert (clock.dt.day_of_year.to_numpy() == late.groups).all()
    scores = pd.DataFrame({"time": clock, "made": clock, "origin": script["PORTS"][late.X[:, -3:].argmax(axis=1)]})
    joined = pd.merge_asof(table, scores, on="time", by="origin", tolerance=pd.Timedelta("3h"))
    old = joined["time"] - joined["made"]
    assert old.min() >= pd.Timedelta(0) and old.max() <= pd.Timedelta("3h")
    assert joined["made"].notna().mean() > 0.9


def test_shared_folds_predict_permuted_labels_and_nested_folds_do_not():
    flights = data.load("late_flights")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    random, once, nested, new = np.random.default_rng(0), [], [], []
    for _ in range(4):
        rows, labels = random.permutation(len(flights)), random.permutation(flights.y)
        rows, rest = rows[:500], rows[500:5000]
        X, y, day = flights.X[rows], labels[rows], flights.groups[rows]
        folds = list(GroupKFold(4).split(X, y, day))
        column = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
        once.append(cross_val_score(model, np.column_stack([X, column]), y, cv=folds, scoring="roc_auc").mean())
        for train, test in folds:
            made = crossval.out_of_fold_features(
                model, X[train], y[train], cv=4, groups=day[train], return_estimator=True
            )
            b = model.fit(np.column_stack([X[train], made[0][:, 1]]), y[train])
            beside = [np.column_stack([Z, made[1].predict_proba(Z)[:, 1]]) for Z in (X[test], flights.X[rest])]
            nested.append(roc_auc_score(y[test], b.predict_proba(beside[0])[:, 1]))
            new.append(roc_auc_score(labels[rest], b.predict_proba(beside[1])[:, 1]))
    assert np.mean(once) > 0.6
    assert abs(np.mean(nested) - 0.5) < 0.06 and abs(np.mean(new) - 0.5) < 0.03
