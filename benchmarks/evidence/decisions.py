"""What rules of decision cost over twenty splits of the late flights: the table that lesson 20 draws.

python benchmarks/evidence/decisions.py     writes decisions.csv beside it, in about three minutes on two cores

For each seed the days of the year are dealt anew: half of them to train a network and a logistic regression, a quarter
to calibrate or to choose a threshold (`validation_rows` of its rows), a quarter to judge. One more split, in order of
time, learns from January to June, chooses on July to September and judges on October to December. Every rule is judged
on the same rows; nothing is chosen on them.
"""

from __future__ import annotations

import csv
import io
import platform
import runpy
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from helpers import data, decisions, notebook

SEEDS = range(20)
COST_FP = 100
COSTS_FN = (50, 100, 200, 400, 900)
FEW = (50, 100, 200, 500, 1000)  # validation rows; all of them in the other tables
FLIGHTS = data.load("late_flights")
Floats = NDArray[np.float64]
Split = list[NDArray[np.intp]]  # rows to train, to choose and to judge on


def splits() -> dict[str, tuple[int, Split]]:
    """Return the name, the seed and the rows of each split."""
    days, day = np.arange(1, 366), FLIGHTS.groups
    assert day is not None
    dealt = {f"seed {seed}": (seed, np.random.default_rng(seed).permutation(days)) for seed in SEEDS}
    dealt["in order of time"] = (0, days)
    return {
        name: (seed, [np.flatnonzero(np.isin(day, part)) for part in np.split(order, [181, 273])])
        for name, (seed, order) in dealt.items()
    }


def probabilities(train: NDArray[np.intp], seed: int) -> tuple[Floats, Floats]:
    """Train both models; return the probabilities of all rows, the network's first."""
    make = runpy.run_path(str(notebook.ROOT / "datasets" / "late_flights" / "make_network.py"))["make"]
    X, y = FLIGHTS.X.astype("float32"), FLIGHTS.y
    network = make(X[train], y[train], seed)
    logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(FLIGHTS.X[train], y[train])
    prob = network.predict(X, batch_size=4096, verbose=0)[:, 0].astype(np.float64)
    return prob.clip(1e-6, 1 - 1e-6), logistic.predict_proba(FLIGHTS.X)[:, 1]


def calibrate(prob: Floats, rows: NDArray[np.intp]) -> Floats:
    """Return the probabilities after Platt scaling on some rows."""
    log_odds = logit(prob)[:, np.newaxis]
    return LogisticRegression(C=np.inf).fit(log_odds[rows], FLIGHTS.y[rows]).predict_proba(log_odds)[:, 1]


def costs(name: str, seed: int, split: Split) -> list[dict[str, object]]:
    """Return the cost per flight of every rule, for all costs of a miss and numbers of validation rows."""
    train, validation, test = split
    network, logistic = probabilities(train, seed)
    y, found = FLIGHTS.y, []

    def judge(rule: str, prob: Floats, threshold: float, cost_fn: float, rows: int) -> None:
        alarm = prob[test] >= threshold
        cost = np.where(alarm, COST_FP * (y[test] == 0), cost_fn * (y[test] == 1)).mean()
        row = {"split": name, "validation_rows": rows, "cost_fn": cost_fn, "rule": rule, "cost": f"{cost:.2f}"}
        found.append(row)

    calibrated = calibrate(network, validation)
    curve = decisions.threshold_curve(y[validation], network[validation])
    for cost_fn in COSTS_FN:
        formula, n = decisions.cost_threshold(COST_FP, cost_fn), len(validation)
        judge("never", network, 2, cost_fn, 0)
        judge("always", network, 0, cost_fn, 0)
        judge("network, 0.5", network, 0.5, cost_fn, 0)
        judge("network, formula", network, formula, cost_fn, 0)
        judge("calibrated network, formula", calibrated, formula, cost_fn, n)
        judge("network, cheapest on validation", network, curve.min_cost(COST_FP, cost_fn)[0], cost_fn, n)
        judge("network, cheapest for a miss of 200", network, curve.min_cost(COST_FP, 200)[0], cost_fn, n)
        judge("logistic regression, 0.5", logistic, 0.5, cost_fn, 0)
        judge("logistic regression, formula", logistic, formula, cost_fn, 0)
    for n in FEW:
        rows = np.random.default_rng(seed).choice(validation, n, replace=False)
        few = decisions.threshold_curve(y[rows], network[rows])
        judge("calibrated network, formula", calibrate(network, rows), 1 / 3, 200, n)
        judge("network, cheapest on validation", network, few.min_cost(COST_FP, 200)[0], 200, n)
    return found


def main() -> None:
    """Write the table."""
    notebook.setup({})
    every = [row for name, (seed, split) in splits().items() for row in costs(name, seed, split)]
    packages = ", ".join(f"{name} {version(name)}" for name in ("keras", "scikit-learn", "numpy"))
    text = io.StringIO()
    text.write(f"# seeds: {SEEDS.start} to {SEEDS.stop - 1} (days, network, choice of few validation rows)\n")
    text.write("# budget: one network of 20 epochs and one logistic regression per split, equal rows for all rules\n")
    text.write(f"# versions: Python {platform.python_version()}, {packages}\n")
    text.write(f"# date: {date.today()}; costs in dollars per flight, a false alarm costs {COST_FP}\n")
    table = csv.DictWriter(text, fieldnames=list(every[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(every)
    notebook.write_text(Path(__file__).with_suffix(".csv"), text.getvalue())


if __name__ == "__main__":
    main()
