"""Which calibration repairs which model, over twenty splits of the late flights: the table that lesson 21 draws.

python benchmarks/evidence/calibration.py     writes calibration.csv beside it, in about seven minutes on two cores

The splits are those of decisions.py: for each seed the days are dealt anew, half of them to train, a quarter to
calibrate, a quarter to judge, and one more split goes by time. Four models are trained on each: three networks and a
logistic regression. Each is calibrated on 300 rows, on 1,000, and on all of the quarter, and judged on the same rows;
nothing is chosen on them.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.evidence_table import write_table
from helpers import data, notebook

SEEDS = range(20)
SIZES = (300, 1000)
FLIGHTS = data.load("late_flights")
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def logits(train: Rows, seed: int) -> dict[str, Floats]:
    """Train all models; return the logits of all rows."""
    recipes = runpy.run_path(str(notebook.ROOT / "datasets" / "late_flights" / "make_network.py"))
    X, y = FLIGHTS.X.astype("float32"), FLIGHTS.y
    overfit = recipes["make_overfit"](X[train], y[train], seed).predict(X, batch_size=4096, verbose=0)["logit"]
    found = {"overfit network": overfit[:, 0].astype(np.float64)}
    for name, weighted in {"network with class weights": True, "network without class weights": False}.items():
        network = recipes["make"](X[train], y[train], seed, weighted=weighted)
        prob = network.predict(X, batch_size=4096, verbose=0)[:, 0].astype(np.float64)
        found[name] = logit(prob.clip(1e-6, 1 - 1e-6))
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(FLIGHTS.X[train], y[train])
    return found | {"logistic regression": linear.decision_function(FLIGHTS.X)}


def repairs(z: Floats, fit_on: Rows) -> dict[str, Floats]:
    """Return the probabilities of all rows as trained, and by three calibrations fitted on some."""
    y = FLIGHTS.y[fit_on]
    divisor = minimize_scalar(lambda t: log_loss(y, expit(z[fit_on] / t)), bounds=(0.05, 20)).x
    platt = LogisticRegression(C=np.inf).fit(z[fit_on, np.newaxis], y)
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(z[fit_on], y)
    return {
        "as trained": expit(z),
        "temperature": expit(z / divisor),
        "Platt": platt.predict_proba(z[:, np.newaxis])[:, 1],
        "isotonic": isotonic.predict(z),
    }


def judged(name: str, seed: int, split: list[Rows]) -> list[dict[str, object]]:
    """Return log loss, Brier score and AUC of each model with each calibration."""
    train, validation, test = split
    y, found = FLIGHTS.y[test], list[dict[str, object]]()
    order = np.random.default_rng(seed).permutation(validation)
    for model, z in logits(train, seed).items():
        for size in (*SIZES, len(order)):
            for repair, every in repairs(z, order[:size]).items():
                prob = every[test]
                # An outcome that was called impossible has an infinite loss: such rows are counted, and clipped.
                impossible = int((np.where(y == 1, prob, 1 - prob) == 0).sum())
                loss = log_loss(y, prob.clip(0.5 / size, 1 - 0.5 / size) if repair == "isotonic" else prob)
                row: dict[str, object] = {
                    "split": name,
                    "model": model,
                    "rows": size if size in SIZES else "all",
                    "repair": repair,
                }
                row |= {"log_loss": f"{loss:.4f}", "brier": f"{brier_score_loss(y, prob):.4f}"}
                row |= {"auc": f"{roc_auc_score(y, prob):.4f}", "impossible": impossible}
                found.append(row)
    return found


def main() -> None:
    """Write the table."""
    notebook.setup({})
    splits = runpy.run_path(str(Path(__file__).with_name("decisions.py")))["splits"]()
    every = [row for name, (seed, split) in splits.items() for row in judged(name, seed, split)]
    seeds = f"{SEEDS.start} to {SEEDS.stop - 1} (days, networks, rows to calibrate on)"
    budget = "30 epochs for the overfit network, 20 for each other, about 10,000 rows to train on"
    note = """log loss on about 5,000 rows, natural logarithm; impossible: rows whose
outcome had a probability of exactly 0, clipped at 1 / (2 rows) for isotonic regression"""
    write_table(__file__, pd.DataFrame(every), seeds=seeds, budget=budget, note=note)


if __name__ == "__main__":
    main()
