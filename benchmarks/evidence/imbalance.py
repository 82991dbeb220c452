"""What each treatment of rare positives does to three models, over repeated folds: the table that lesson 72 draws.

python benchmarks/evidence/imbalance.py     writes imbalance.csv beside it, in about ten minutes on two cores

The table is `cancellations`: 20,000 flights, of which 492 were cancelled. Five times the days are dealt anew into four
folds. All preprocessing, and every treatment, is fitted inside the training part of a fold. Each network takes the same
number of gradient updates, whatever rows its treatment leaves; one more line has the epochs equal instead. A tuned
threshold is the one of least cost on a third of the training days, by a model trained on the other two thirds.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE, SMOTENC
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import RandomUnderSampler
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils import compute_sample_weight
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.evidence_table import write_table
from helpers import crossval, data, decisions, notebook

FLIGHTS = data.load("cancellations")
X, Y, DAYS = FLIGHTS.X, FLIGHTS.y, np.asarray(FLIGHTS.groups)
COST_FP, COST_FN = 10, 200
SPLITS, REPEATS, SEED = 4, 5, 1
UPDATES, BATCH = 100, 256
GENTLE = {"learning_rate": 0.1, "max_iter": 80, "max_leaf_nodes": 8, "max_features": 0.5, "l2_regularization": 10.0}
GENTLE |= {"early_stopping": False}
NUMBERS = [name for name in X if X[name].dtype == np.float64]
WORDS = [name for name in X if name not in NUMBERS]
Rows = NDArray[np.intp]


class Network(ClassifierMixin, BaseEstimator):
    """A small Keras network that takes a given number of gradient updates."""

    def __init__(self, loss: str = "usual", class_weight: Any = None, bias: bool = False, updates: int = UPDATES):
        self.loss, self.class_weight, self.bias, self.updates = loss, class_weight, bias, updates

    def fit(self, X: Any, y: Any) -> Network:
        """Train on shuffled rows that are repeated until the updates are done."""
        import keras
        import tensorflow as tf

        self.classes_ = np.unique(y)
        keras.utils.set_random_seed(0)
        start = keras.initializers.Constant(np.log(y.mean() / (1 - y.mean())) if self.bias else 0.0)
        layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(1, bias_initializer=start)]
        self.model_ = keras.Sequential([keras.Input((X.shape[1],)), *layers])
        kinds = {"usual": keras.losses.BinaryCrossentropy, "focal": keras.losses.BinaryFocalCrossentropy}
        self.model_.compile(optimizer=keras.optimizers.Adam(0.003), loss=kinds[self.loss](from_logits=True))
        weight = compute_sample_weight(self.class_weight, y)
        rows = tf.data.Dataset.from_tensor_slices((X.astype("float32"), y.astype("float32"), weight.astype("float32")))
        batches = rows.shuffle(len(y), seed=0).repeat().batch(BATCH)
        self.model_.fit(batches, steps_per_epoch=self.updates, verbose=0)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities of both classes, of shape (n, 2)."""
        logits = np.asarray(self.model_(X.astype("float32")))[:, 0].astype(np.float64)
        p = 1 / (1 + np.exp(-logits))
        return np.column_stack([1 - p, p])


def pipelines(train: Rows) -> dict[tuple[str, str], Any]:
    """Return all pipelines by model and treatment; the last one needs grouped folds of its training rows."""
    fill = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    words = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=50, sparse_output=False)
    columns = make_column_transformer((fill, NUMBERS), (words, WORDS))
    unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1, "encoded_missing_value": -2}
    codes = make_column_transformer((OrdinalEncoder(**unknown), WORDS), (fill, NUMBERS))
    coded = list(range(len(WORDS)))
    after = make_column_transformer((words, coded), remainder="passthrough")
    logistic = LogisticRegression(C=0.1, solver="newton-cholesky")
    gentle = HistGradientBoostingClassifier(random_state=0, **GENTLE)
    models = {"logistic regression": logistic, "boosting": gentle, "network": Network()}
    under, mixed = RandomUnderSampler(random_state=0), SMOTENC(coded, random_state=0)
    found: dict[tuple[str, str], Any] = {}
    for name, model in models.items():
        weighted = clone(model).set_params(class_weight="balanced")
        found[name, "untreated"] = make_pipeline(columns, model)
        found[name, "class weights"] = make_pipeline(columns, weighted)
        found[name, "undersampling"] = make_pipeline(columns, under, model)
        found[name, "SMOTE"] = make_pipeline(columns, SMOTE(random_state=0), model)
        if name != "network":
            found[name, "SMOTENC"] = make_pipeline(codes, mixed, after, model)
    found["network", "focal loss"] = make_pipeline(columns, Network(loss="focal"))
    found["network", "output bias"] = make_pipeline(columns, Network(bias=True))
    found["network", "undersampling, equal epochs"] = make_pipeline(columns, under, Network(updates=5))
    missing = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    native = make_column_transformer((missing, WORDS), remainder="passthrough")
    plain = HistGradientBoostingClassifier(random_state=0, categorical_features=coded)
    found["plain boosting", "untreated"] = make_pipeline(native, plain)
    # The recommended pipeline: nothing is resampled; its last step calibrates and weighs two models.
    both = [("boosting", make_pipeline(native, clone(plain).set_params(**GENTLE)))]
    both.append(("logistic", make_pipeline(columns, logistic)))
    folds = crossval.repeated_folds(Y[train], DAYS[train], n_splits=4, seed=SEED)
    last = {"final_estimator": LogisticRegression(), "stack_method": "decision_function"}
    found["recommended", "untreated"] = StackingClassifier(both, cv=folds, **last)
    return found


def judged(number: int, train: Rows, test: Rows) -> list[dict[str, object]]:
    """Return the scores of every pipeline on one fold."""
    warnings.simplefilter("ignore")  # Keras, of a data set that is repeated
    threadpool_limits(1)
    notebook.setup({})
    part, late = crossval.repeated_folds(Y[train], DAYS[train], n_splits=3, seed=SEED)[0]
    part, late = train[part], train[late]
    found = list[dict[str, object]]()
    for (model, treatment), pipeline in pipelines(train).items():
        inner = clone(pipelines(part)[model, treatment]).fit(X.iloc[part], Y[part])
        chosen = decisions.threshold_curve(Y[late], inner.predict_proba(X.iloc[late])[:, 1])
        tuned = chosen.min_cost(COST_FP, COST_FN)[0]
        prob = clone(pipeline).fit(X.iloc[train], Y[train]).predict_proba(X.iloc[test])[:, 1]
        moved = treatment.partition(",")[0] in ("class weights", "undersampling", "SMOTE", "SMOTENC")
        right = decisions.adjust_prior(prob, 0.5, Y[train].mean()) if moved else prob
        row: dict[str, object] = {"fold": number, "model": model, "treatment": treatment}
        found.append(row | scores(Y[test], prob, right, tuned))
    return found


def scores(y: NDArray[Any], prob: Any, corrected: Any, tuned: float) -> dict[str, object]:
    """Return the scores of probabilities, as they are and with the prior corrected."""
    formula = decisions.cost_threshold(COST_FP, COST_FN)

    def cost(p: Any, threshold: float) -> float:
        return float(np.where(p >= threshold, COST_FP * (y == 0), COST_FN * (y == 1)).mean())

    def ece(p: Any) -> float:
        return decisions.expected_calibration_error(y, p, 10, strategy="quantile")

    found = {"ap": average_precision_score(y, prob), "ece": ece(prob), "ece_corrected": ece(corrected)}
    found |= {"cost_formula": cost(prob, formula), "cost_corrected": cost(corrected, formula)}
    found |= {"cost_half": cost(prob, 0.5), "cost_tuned": cost(prob, tuned), "tuned": tuned}
    return {name: f"{value:.4f}" for name, value in found.items()}


def main() -> None:
    """Write the table."""
    folds = crossval.repeated_folds(Y, DAYS, n_splits=SPLITS, n_repeats=REPEATS, seed=SEED)
    jobs = (delayed(judged)(number, *fold) for number, fold in enumerate(folds))
    every = [row for rows in Parallel(n_jobs=int(os.environ.get("JOBS", "2")))(jobs) for row in rows]
    note = f"""costs a row, for {COST_FP} a false alarm and {COST_FN} a miss; ECE: 10 bins
of equally many rows; corrected: from a prevalence of one half to that of the training rows"""
    budget = f"{SPLITS} folds, {REPEATS} times; {UPDATES} updates of {BATCH} rows for each network"
    seeds, packages = (
        f"{SEED} (folds, tuning), 0 (models, resampling)",
        ("keras", "scikit-learn", "imbalanced-learn", "numpy"),
    )
    write_table(__file__, pd.DataFrame(every), seeds=seeds, budget=budget, note=note, packages=packages)


if __name__ == "__main__":
    main()
