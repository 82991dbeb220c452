"""What lesson 52 draws from a table of evidence: rows that are computed again are those of the table."""

import evidence
import numpy as np
import pytest

from helpers import crossval

KEYS = ["month", "model", "smoothing"]


def test_every_month_has_every_row(table):
    counted = table.groupby("month").size()
    assert list(counted.index) == list(range(5, 13)) and counted.nunique() == 1
    assert table[["rmse", "first"]].gt(0).all(axis=None) and not table[["rmse", "first", "jitter"]].isna().any(
        axis=None
    )
    assert set(table.loc[table["model"] == "one network", "seed"]) == set(range(5))


def test_no_two_months_share_a_reading_that_judges(script):
    first, second = (script["examples"]("JFK", month) for month in (11, 12))
    hours = [24 * days - script["HORIZON"] + 1 for days in (30, 30)]  # the year ends on 30 December
    assert [len(X) for X, _ in (first, second)] == hours
    np.testing.assert_array_equal(second[0][0][-script["HORIZON"] :], first[1][-1])


@pytest.mark.parametrize("model", ["ridge regression", "naive", "seasonal naive"])
def test_models_without_a_seed_are_computed_again(table, script, model):
    forecast = script["unlearned"]("JFK", 12)[model]
    rows = table[(table["month"] == 12) & (table["model"] == model)]
    for new, old in zip(script["judged"]("JFK", 12, model, 0, forecast), rows.to_dict("records"), strict=True):
        assert (new["smoothing"], new["window"]) == (old["smoothing"], old["window"])
        for column in ("rmse", "first", "jitter"):
            assert float(new[column]) == pytest.approx(old[column], abs=2e-3), column


@pytest.mark.parametrize(("model", "start"), [("one network", "glorot_uniform"), ("output from zeros", "zeros")])
def test_a_network_lies_in_the_spread_of_its_seeds(table, script, model, start):
    forecast = script["trained"]("JFK", 12, 1, start)
    rows = table.query("month == 12 and model == @model and smoothing == 'none'")
    new = script["judged"]("JFK", 12, model, 1, forecast)[0]
    for column, least in {"rmse": 0.2, "first": 0.1, "jitter": 0.05}.items():
        assert evidence.lies_within(rows[column], float(new[column]), least), column


def test_what_the_lesson_says(table):
    """The signs that its sentences rest on."""
    mean = table.groupby(["model", "smoothing", "month"])[["rmse", "first", "jitter"]].mean()
    issued = mean.loc["one network", "none"]
    folds = [(range(730 * (month - 2)), range(730)) for month in issued.index]
    zeros = mean.loc["output from zeros", "none"] - issued
    smoothed = mean.loc["one network", "gaussian 9"] - issued
    assert crossval.fold_interval(zeros["jitter"], folds).high < -0.3
    assert crossval.fold_interval(smoothed["jitter"], folds).high < -0.3
    assert crossval.fold_interval(zeros["first"], folds).high < 0
