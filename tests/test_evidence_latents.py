"""The table that lesson 71 draws: rows that are computed again lie in it, and it is complete."""

import evidence
import numpy as np
import pytest
from sklearn.datasets import load_digits

from helpers import data

LEARNERS = ["logistic", "SVM"]


@pytest.fixture(scope="module")
def again():
    """Both questions about digits on another split, by the script's own functions, with 50 labels."""
    pytest.importorskip("keras")
    script = evidence.script("latents")
    digits, digit, seed = data.load("digits"), load_digits().target, 77
    pool, judged = data.split(digits, test_size=1 / 3, seed=seed)
    learnt, rest = np.split(np.random.default_rng(seed).permutation(pool), [179])
    low, high, judged_high = pool[digit[pool] < 5], pool[digit[pool] >= 5], judged[digit[judged] >= 5]
    learners = {name: script["LEARNERS"][name] for name in LEARNERS}
    found = {}
    for task, y, known, labelled, test in [
        ("5 or more", digits.y, learnt, rest, judged),
        ("odd, 5 to 9", digit % 2, low, high, judged_high),
    ]:
        inputs = {"columns": digits.X} | script["layers_of"](digits.X, digit, known, seed)
        for row in script["curve"](task, seed, inputs, y, labelled, test, (50,), learners):
            found[task, row[3], row[4]] = float(row[5])
    return found


@pytest.mark.parametrize("task", ["5 or more", "odd, 5 to 9"])
@pytest.mark.parametrize("features", ["columns", "first", "last_but_one", "logits"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_layer_does_on_another_split_what_the_table_says(table, again, task, features, learner):
    rows = table.query("task == @task and features == @features and learner == @learner and amount == 50")["score"]
    assert len(rows) == 10
    assert evidence.lies_within(rows, again[task, features, learner], least=0.01)


def test_every_repetition_has_every_row(table):
    counted = table.groupby("seed").size()
    assert list(counted.index) == list(range(10)) and counted.nunique() == 1
    assert not table.duplicated(["task", "seed", "amount", "features", "learner"]).any()
    assert table["score"].between(0, 1).all()


def test_a_forest_does_not_mind_the_scale_and_neighbours_do(table):
    for name in ("late_flights", "breast_cancer"):
        rows = table[table["task"] == f"{name}, scaling"]
        both = rows.pivot(index=["learner", "seed"], columns="features", values="score")
        change = (both["scaled"] - both["as they come"]).groupby("learner").mean()
        assert abs(change["forest"]) < 0.003 < change["neighbours"]


def test_guessing_gets_the_share_of_anomalies(table):
    chance = table[table["features"] == "chance"].groupby("task")["score"].agg(["min", "max"])
    assert chance.loc["shuttle"].between(0.06, 0.085).all()
    assert chance.loc["one digit"].between(0.06, 0.14).all()
