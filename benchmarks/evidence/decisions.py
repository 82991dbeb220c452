"""What rules of decision cost over twenty splits of the late flights: the table that lesson 20 draws.

python benchmarks/evidence/decisions.py     writes decisions.csv beside it, in about five minutes on two cores

For each seed the days of the year are dealt anew: half of them to train the models, a quarter to calibrate or to choose
a threshold, a quarter to judge. One more split, in order of time, learns from January to June, chooses on July to
September and judges on October to December. Every rule is judged on the same rows; nothing is chosen on them. Rules
that calibrate or search use the validation rows besides; a logistic regression that is fitted to both is there to
compare.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.evidence_table import write_table
from helpers import data, decisions, notebook

SEEDS = range(20)
COST_FP = 100
COSTS_FN = (50, 100, 200, 400, 900)
FLIGHTS = data.load("late_flights")
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Split = list[Rows]  # to train, to choose and to judge on


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


def probabilities(train: Rows, validation: Rows, seed: int) -> dict[str, Floats]:
    """Train all models; return the probabilities of all rows."""
    make = runpy.run_path(str(notebook.ROOT / "datasets" / "late_flights" / "make_network.py"))["make"]
    X, y = FLIGHTS.X.astype("float32"), FLIGHTS.y

    def network(weighted: bool) -> Floats:
        trained = make(X[train], y[train], seed, weighted=weighted)
        prob = trained.predict(X, batch_size=4096, verbose=0)[:, 0].astype(np.float64)
        return prob.clip(1e-6, 1 - 1e-6)

    def logistic(rows: Rows, columns: slice | list[int] = slice(None)) -> Floats:
        features = FLIGHTS.X[:, columns]
        fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[rows], y[rows])
        return fitted.predict_proba(features)[:, 1]

    weighted = network(True)
    log_odds = logit(weighted)[:, np.newaxis]
    platt = LogisticRegression(C=np.inf).fit(log_odds[validation], y[validation])
    both = np.concatenate([train, validation])
    return {
        "network": weighted,
        "calibrated network": platt.predict_proba(log_odds)[:, 1],
        # Balanced weights act as if one half were late.
        "network, weights undone": decisions.adjust_prior(weighted, 0.5, y[train].mean()),
        "network without class weights": network(False),
        "logistic regression": logistic(train),
        "logistic regression with the validation rows": logistic(both),
        "logistic regression on the mean delay alone": logistic(train, [FLIGHTS.feature_names.index("mean_delay")]),
    }


def costs(name: str, seed: int, split: Split) -> list[dict[str, object]]:
    """Return the cost per flight of every rule, for all costs of a miss."""
    train, validation, test = split
    y, found = FLIGHTS.y, []
    prob = probabilities(train, validation, seed)
    network = prob["network"]
    curve = decisions.threshold_curve(y[validation], network[validation])

    for cost_fn in COSTS_FN:
        formula = decisions.cost_threshold(COST_FP, cost_fn)
        rules = {f"{model}, formula": (values, formula) for model, values in prob.items()}
        rules |= {f"{model}, 0.5": (prob[model], 0.5) for model in ("network", "logistic regression")}
        rules["never"], rules["always"] = (network, 2), (network, 0)
        rules["network, cheapest on validation"] = (network, curve.min_cost(COST_FP, cost_fn)[0])
        rules["network, cheapest for a miss of 200"] = (network, curve.min_cost(COST_FP, 200)[0])
        for rule, (values, threshold) in rules.items():
            cost = np.where(values[test] >= threshold, COST_FP * (y[test] == 0), cost_fn * (y[test] == 1)).mean()
            found.append({"split": name, "cost_fn": cost_fn, "rule": rule, "cost": f"{cost:.2f}"})
    return found


def main() -> None:
    """Write the table."""
    notebook.setup({})
    every = [row for name, (seed, split) in splits().items() for row in costs(name, seed, split)]
    note = f"costs in dollars per flight, a false alarm costs {COST_FP}"
    budget = "20 epochs for each of two networks per split, about 10,000 rows to train and 5,000 to choose"
    seeds = f"{SEEDS.start} to {SEEDS.stop - 1} (days, networks)"
    write_table(__file__, pd.DataFrame(every), seeds=seeds, budget=budget, note=note)


if __name__ == "__main__":
    main()
