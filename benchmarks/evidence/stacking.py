"""What a model's output is worth to the next model, over twenty grouped splits: the table that lesson 70 draws.

python benchmarks/evidence/stacking.py     writes stacking.csv beside it, in about eight minutes on two cores

Ten times the days of the late flights are dealt anew into halves, and each half is once the past, once the new days.
A is a network, B gets its own columns and one choice of what A says. All choices of a part have the same rows of B and
the same new days; nothing is chosen on them.

all rows: A learns too long, B learns from all rows of the past; A out of fold, or in sample, as it should not be.
half of the rows: A learns from one half of the past's days, B from the other; so B can get the layer of one network.
300 rows: A (stopped early) learns from the past, B from 300 rows of the new days, judged on the others of them.
other table: B learns from `flights` on the new days, with the weather of the hour of departure; the same A's last score
at the airport, two hours before a departure of its own, is joined as of it. Mean over five grouped folds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.evidence_table import write_table
from helpers import crossval, data, notebook
from helpers.estimators import KerasBinaryClassifier

REPEATS, PORTS = 10, np.array(["EWR", "JFK", "LGA"])
LATE = data.load("late_flights")
X, Y, DAYS = LATE.X, LATE.y, np.asarray(LATE.groups)
SPLITS = crossval.repeated_folds(Y, DAYS, n_splits=2, n_repeats=REPEATS)
MODELS = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "trees": HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=8, random_state=0),
}
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def build(n_features: int) -> Any:
    """Return a network with one logit, and a layer of 16 activations before it."""
    import keras

    hidden = [keras.layers.Dense(64, activation="relu"), keras.layers.Dense(16, activation="relu", name="hidden")]
    network = keras.Sequential([keras.Input((n_features,)), *hidden, keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(0.01), keras.losses.BinaryCrossentropy(from_logits=True))
    return network


def train_a(rows: Rows, seed: int, epochs: int = 20) -> Any:
    """Train A on some rows."""
    network = KerasBinaryClassifier(build, epochs=epochs, batch_size=512, seed=seed)
    return make_pipeline(StandardScaler(), network).fit(X[rows], Y[rows])


def activations(model: Any, rows: Rows) -> Floats:
    """Return the 16 activations before A's logit."""
    import keras

    network = model[-1].model_
    cut = keras.Model(network.inputs[0], network.get_layer("hidden").output)
    return np.asarray(cut(model[0].transform(X[rows]).astype("float32")), dtype=np.float64)


def engineered(z: Floats) -> dict[str, Floats]:
    """Return choices of what to take from a logit, each of shape (n, k)."""
    p = expit(z)
    return {"logit": z[:, None], "probability": p[:, None], "logit and variance": np.column_stack([z, p * (1 - p)])}


def score(part: str, inputs: dict[str, Any], rows: Rows, new: Rows, models: Any = tuple(MODELS)) -> list[list[Any]]:
    """Return B's AUC in folds of features made once (for three choices), and its AUC and log loss on new days."""
    found: list[list[Any]] = []
    folds = crossval.repeated_folds(Y[rows], DAYS[rows], n_splits=5) if part == "all rows" else []
    for choice, (old, later) in inputs.items():
        old, later, promised = np.hstack([X[rows], old]), np.hstack([X[new], later]), ""
        for name in models:
            if folds and choice in ("nothing", "logit, in sample", "logit"):
                promised = f"{cross_val_score(MODELS[name], old, Y[rows], cv=folds, scoring='roc_auc').mean():.4f}"
            p = clone(MODELS[name]).fit(old, Y[rows]).predict_proba(later)[:, 1]
            found.append([part, name, choice, promised, roc_auc_score(Y[new], p), log_loss(Y[new], p)])
    return found


def same_table(past: Rows, new: Rows, seed: int) -> list[list[Any]]:
    """Score all choices where A and B have the same table and as many rows."""
    folds = crossval.repeated_folds(Y[past], DAYS[past], n_splits=5, seed=seed)
    z, mixed, of_folds = np.empty(len(past)), np.empty((len(past), 16)), []
    for number, (train, held_out) in enumerate(folds):
        of_fold = train_a(past[train], seed + number)
        z[held_out], mixed[held_out] = (
            of_fold.decision_function(X[past[held_out]]),
            activations(of_fold, past[held_out]),
        )
        of_folds.append(of_fold.decision_function(X[new]))
    whole = train_a(past, seed + len(folds))
    z_past, z_new = (whole.decision_function(X[rows]).astype(float) for rows in (past, new))
    nothing, later = np.empty((len(X), 0)), engineered(z_new)
    inputs = {"nothing": (nothing[past], nothing[new])}
    inputs |= {name: (values, later[name]) for name, values in engineered(z).items()}
    inputs["logit, mean of fold models"] = z[:, None], np.mean(of_folds, axis=0)[:, None]
    inputs["logit, in sample"] = z_past[:, None], z_new[:, None]
    found = score("all rows", inputs, past, new)
    mixed_inputs = {"activations, mixed folds": (mixed, activations(whole, new))}
    found += score("all rows", mixed_inputs, past, new, ["logistic"])
    on_past, on_new = roc_auc_score(Y[past], z_past), roc_auc_score(Y[new], z_new)
    found.append(["all rows", "A alone", "logit", f"{on_past:.4f}", on_new, log_loss(Y[new], expit(z_new))])
    half = np.isin(DAYS[past], np.random.default_rng(seed).permutation(np.unique(DAYS[past]))[::2])
    a, rows = train_a(past[half], seed), past[~half]
    sides = {"logit": lambda i: a.decision_function(X[i])[:, None], "activations": lambda i: activations(a, i)}
    inputs = {"nothing": (nothing[rows], nothing[new])} | {name: (f(rows), f(new)) for name, f in sides.items()}
    return found + score("half of the rows", inputs, rows, new)


def clock(days: Any, hours: Any) -> pd.Series[Any]:
    """Return New York's clock at the scheduled departure."""
    since = pd.to_timedelta(days, unit="D") + pd.to_timedelta(hours, unit="h")
    return pd.Series(pd.Timestamp("2012-12-31") + since).dt.round("min")


def timetable() -> pd.DataFrame:
    """Return the rows of `flights`, each with its departure, its day and its label."""
    flights = data.load("flights")
    local = pd.to_datetime(flights.X["departs"], unit="s", utc=True).dt.tz_convert("America/New_York")
    table = flights.X.drop(columns="departs").assign(
        late=flights.y, day=local.dt.day_of_year, engine=flights.X["engine"].fillna("")
    )
    table["time"] = clock(table["day"], (local - local.dt.normalize()).dt.total_seconds() / 3600)
    return table.astype({"origin": "str"}).sort_values("time", kind="stable", ignore_index=True)


def another(past: Rows, new: Rows, seed: int) -> list[list[Any]]:
    """Score B where A has seen many more rows than B, or another table."""
    z = train_a(past, seed, epochs=4).decision_function(X).astype(float)
    order = np.random.default_rng(seed).permutation(np.unique(DAYS[new]))
    rest = new[np.isin(DAYS[new], order[::2])]
    few = np.random.default_rng(seed).permutation(np.setdiff1d(new, rest))[:300]
    inputs = {"nothing": (X[few, :0], X[rest, :0]), "logit": (z[few, None], z[rest, None])}
    found = score("300 rows", inputs, few, rest)
    found.append(
        ["300 rows", "A alone", "logit", "", roc_auc_score(Y[rest], z[rest]), log_loss(Y[rest], expit(z[rest]))]
    )
    scores = (
        pd.DataFrame(X)
        .add_prefix("input ")
        .assign(a=z, origin=PORTS[X[:, -3:].argmax(axis=1)], time=clock(DAYS, X[:, 0]))
    )
    table = timetable()
    table = table[table["day"].isin(np.unique(DAYS[new]))]
    joined = pd.merge_asof(table, scores, on="time", by="origin", tolerance=pd.Timedelta("3h"))
    y, a_inputs = joined["late"], [str(name) for name in joined if str(name).startswith("input ")]
    joined = joined.drop(columns=["late", "time"])
    folds = crossval.repeated_folds(y, joined["day"], n_splits=5, seed=seed)
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=30, sparse_output=False)
    filled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encode = make_column_transformer(
        (filled, make_column_selector(dtype_include="number")), (one_hot, make_column_selector(dtype_exclude="number"))
    )
    b = make_pipeline(encode, LogisticRegression(C=0.1, max_iter=1000))
    choices = {"nothing": ["day", "a", *a_inputs], "logit": ["day", *a_inputs], "A's inputs": ["day", "a"]}
    every = {name: joined.drop(columns=without) for name, without in choices.items()} | {"A alone": joined[["a"]]}
    for choice, columns in every.items():
        both = cross_validate(b, columns, y, cv=folds, scoring=["roc_auc", "neg_log_loss"])
        name = "A alone" if choice == "A alone" else "logistic"
        choice = "logit" if choice == "A alone" else choice
        means = both["test_roc_auc"].mean(), -both["test_neg_log_loss"].mean()
        found.append(["other table", name, choice, "", *means])
    return found


def main() -> None:
    """Write the table."""
    notebook.setup({})
    names, rows = ["split", "part", "b", "choice", "promised", "auc", "log_loss"], list[list[Any]]()
    with threadpool_limits(1):
        for number, (past, new) in enumerate(notebook.progress(SPLITS, "split")):
            every = same_table(past, new, 100 * number) + another(past, new, 100 * number)
            rows += [[number, *row[:4], f"{row[4]:.4f}", f"{row[5]:.4f}"] for row in every]
    note = """promised: AUC in five grouped folds of features made once (A alone: on its
training rows); auc, log_loss: on about 10,000 rows of new days (other table: five grouped folds)"""
    budget = "20 epochs for each network, 4 for `300 rows` and `other table`; about 10,000 rows to learn from"
    seeds = "0 for the splits, 100 times the split's number for networks, folds and draws"
    write_table(__file__, pd.DataFrame(rows, columns=names), seeds=seeds, budget=budget, note=note)


if __name__ == "__main__":
    main()
