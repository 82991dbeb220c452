"""When latent features help, and what an autoencoder finds, over ten repetitions: the tables that lesson 71 draws.

python benchmarks/evidence/latents.py     writes latents.csv beside it, in about a quarter of an hour of one core

Each repetition splits the rows anew, trains its networks anew and draws its labels anew. A third of the rows judges
(half of the flights, by day; 10,000 rows of the shuttle); the rest, the pool, trains what needs no labels. Nothing is
chosen on the rows that judge. Learners have scikit-learn's defaults, but `SVM, tuned`: it gets each kind of features on
one scale (divided by the root of their total variance), and chooses its gamma on the labelled rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.evidence_table import write_table
from helpers import data, estimators, notebook

SEEDS = range(10)
DRAWS = 2
# Times that an epoch goes over the rows: its start takes longer than twenty updates.
ROUNDS = 10
SIZES = {"5 or more": (25, 50, 100, 400), "odd, 5 to 9": (10, 25, 50, 100)}
SHARES = {"shuttle": (0, 0.001, 0.01, 0.072), "one digit": (0, 0.01, 0.09)}
LEARNERS: dict[str, Any] = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "SVM": make_pipeline(StandardScaler(), SVC()),
    "forest": RandomForestClassifier(50, random_state=0),
}
TUNED = GridSearchCV(SVC(), {"gamma": [0.5, 1, 2, 4]}, scoring="roc_auc", cv=3)
Row = tuple[str, int, float, str, str, str]


def rounds(rows: Any) -> Any:
    """Repeat rows, so that one epoch goes over them several times."""
    return np.concatenate([rows] * ROUNDS)


def autoencoder(width: int, hidden: int = 64, noise: float = 0.3) -> Any:
    """Return what builds an autoencoder with so many codes, which learns to clean noisy rows."""

    def build(n_features: int) -> Any:
        import keras

        narrow = [keras.layers.Dense(hidden, activation="relu"), keras.layers.Dense(width, name="latent")]
        wide = [keras.layers.Dense(hidden, activation="relu"), keras.layers.Dense(n_features)]
        model = keras.Sequential([keras.Input((n_features,)), keras.layers.GaussianNoise(noise), *narrow, *wide])
        model.compile(keras.optimizers.Adam(3e-3), "mse", steps_per_execution=20)
        return model

    return build


def without_labels(X: Any, pool: Any, width: int, batch_size: int, seed: int, updates: int = 1150) -> dict[str, Any]:
    """Describe all rows by what learns from the pool without a label."""
    epochs = round(updates / np.ceil(ROUNDS * len(pool) / batch_size))
    ways = {"autoencoder": (0.3, epochs), "autoencoder without noise": (0.0, epochs), "untrained encoder": (0.3, 0)}
    found = {"columns": X, "PCA": PCA(width, random_state=seed).fit(X[pool]).transform(X)}
    for name, (noise, length) in ways.items():
        made = estimators.LatentFeatures(
            autoencoder(width, noise=noise), epochs=length, batch_size=batch_size, seed=seed
        )
        found[name] = made.fit(rounds(X[pool])).transform(X)[:, :-1]
    return found | {"columns and codes": np.hstack([X, found["autoencoder"]])}


def layers_of(X: Any, digit: Any, learnt: Any, seed: int) -> dict[str, Any]:
    """Train a network on the digits of some rows, and describe all rows by each of its layers."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(64, activation="relu", name=name) for name in ("first", "last_but_one")]
    logits = keras.layers.Dense(int(digit[learnt].max()) + 1, name="logits")
    network = keras.Sequential([keras.Input(X.shape[1:]), *layers, logits])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(3e-3), loss, steps_per_execution=20)
    network.fit(rounds(X[learnt]), rounds(digit[learnt]), epochs=100 // ROUNDS, batch_size=32, verbose=0)
    cuts = {layer.name: keras.Model(network.inputs, layer.output) for layer in network.layers}
    return {name: estimators.compute_features(cut, X) for name, cut in cuts.items()}


def curve(
    task: str, seed: int, inputs: Any, y: Any, pool: Any, judged: Any, sizes: Any, learners: Any = None
) -> Iterator[Row]:
    """Yield the mean AUC over a few draws of labels, for each input, learner and number of labels."""
    random = np.random.default_rng(seed)
    for size in sizes:
        draws = list[NDArray[np.intp]]()
        while len(draws) < DRAWS:
            drawn = random.choice(pool, size, replace=False)
            draws += [drawn] if len(np.unique(y[drawn])) == 2 else []
        for name, X in inputs.items():
            for learner, model in (learners or LEARNERS).items():
                scores = [judge(model.fit(X[drawn], y[drawn]), X[judged], y[judged]) for drawn in draws]
                yield task, seed, size, name, learner, f"{np.mean(scores):.4f}"


def one_scale(X: Any, pool: Any) -> Any:
    """Divide all columns by one number, so that their variances over the pool add up to 1."""
    return X / np.sqrt(X[pool].var(axis=0).sum())


def judge(model: Any, X: Any, y: Any) -> float:
    """Return the AUC of a fitted model."""
    score = model.decision_function(X) if hasattr(model, "decision_function") else model.predict_proba(X)[:, 1]
    return roc_auc_score(y, score)


def of_digits(seed: int) -> Iterator[Row]:
    """Yield both questions about digits: one that the network's labels answer, and one about digits it never saw."""
    digits, digit = data.load("digits"), load_digits().target
    pool, judged = data.split(digits, test_size=1 / 3, seed=seed)
    inputs = without_labels(digits.X, pool, 32, 64, seed)
    learnt, rest = np.split(np.random.default_rng(seed).permutation(pool), [179])
    learners = LEARNERS | {"SVM, unscaled": SVC()}
    task = "5 or more"
    more = inputs | layers_of(digits.X, digit, learnt, seed)
    yield from curve(task, seed, more, digits.y, rest, judged, SIZES[task], learners)
    yield from tuned(seed, more, digits.y, learnt, rest, judged)
    high, judged_high = (part[digit[part] >= 5] for part in (pool, judged))
    task = "odd, 5 to 9"
    more = inputs | layers_of(digits.X, digit, pool[digit[pool] < 5], seed)
    yield from curve(task, seed, more, digit % 2, high, judged_high, SIZES[task], learners)


def tuned(seed: int, inputs: Any, y: Any, learnt: Any, rest: Any, judged: Any) -> Iterator[Row]:
    """Yield what a tuned SVM makes of each input, of the pixels with all labels, and what the network answers."""
    scaled, task = {name: one_scale(X, rest) for name, X in inputs.items()}, "5 or more"
    yield from curve(task, seed, scaled, y, rest, judged, SIZES[task], {"SVM, tuned": TUNED})
    random = np.random.default_rng(seed)
    for size in SIZES[task]:
        draws = [random.choice(rest, size, replace=False) for _ in range(DRAWS)]
        every = [np.concatenate([learnt, drawn]) for drawn in draws]
        found = [
            judge(TUNED.fit(scaled["columns"][rows], y[rows]), scaled["columns"][judged], y[judged]) for rows in every
        ]
        yield task, seed, size, "columns, all labels", "SVM, tuned", f"{np.mean(found):.4f}"
    answer = softmax(inputs["logits"], axis=1)[:, 5:].sum(axis=1)
    yield task, seed, 0, "answer", "none", f"{roc_auc_score(y[judged], answer[judged]):.4f}"


def of_table(name: str, seed: int, width: int, sizes: Any) -> Iterator[Row]:
    """Yield scores on a table of columns that mean something, and what scaling changes there."""
    rows = data.load(name)
    pool, judged = data.split(rows, test_size=1 / 2 if rows.groups is not None else 1 / 3, seed=seed)
    X = StandardScaler().fit(rows.X[pool]).transform(rows.X)
    inputs = without_labels(X, pool, width, 256 if len(pool) > 1000 else 64, seed)
    yield from curve(name, seed, inputs, rows.y, pool, judged, sizes)
    mixed = {"as they come": np.hstack([rows.X, inputs["autoencoder"]]), "scaled": inputs["columns and codes"]}
    plain = {"neighbours": KNeighborsClassifier(15), "SVM": SVC(), "forest": LEARNERS["forest"]}
    yield from curve(f"{name}, scaling", seed, mixed, rows.y, pool, judged, sizes[-1:], plain)


def anomalies(task: str, seed: int) -> Iterator[Row]:
    """Yield the average precision of detectors, by the share of anomalies among the rows that they learn from."""
    rows, width, size, batch = data.load("shuttle" if task == "shuttle" else "digits"), 4, 10_000, 256
    y = rows.y
    if task == "one digit":
        y, width, size, batch = (load_digits().target == seed % 10).astype(np.int64), 16, 1100, 64
    pool, judged = (
        np.random.default_rng(seed).permutation(part) for part in data.split(rows, test_size=0.3, seed=seed)
    )
    judged, normal, rare = judged[:10_000], pool[y[pool] == 0][:size], pool[y[pool] == 1]
    for share in SHARES[task]:
        known = np.concatenate([normal, rare[: round(share / (1 - share) * len(normal))]])
        X = StandardScaler().fit(rows.X[known]).transform(rows.X)
        plain = X if task == "shuttle" else rows.X
        pca = PCA(width, random_state=seed).fit(X[known])
        way = {"epochs": round(1000 / np.ceil(ROUNDS * len(known) / batch)), "batch_size": batch, "seed": seed}
        network = estimators.LatentFeatures(autoencoder(width, 4 * width, 0.0), **way).fit(rounds(X[known]))
        scores = {
            "autoencoder": network.transform(X[judged])[:, -1],
            "PCA": ((pca.inverse_transform(pca.transform(X[judged])) - X[judged]) ** 2).mean(axis=1),
            "nearest row": NearestNeighbors(n_neighbors=1).fit(plain[known]).kneighbors(plain[judged])[0][:, 0],
            "isolation forest": -IsolationForest(random_state=seed).fit(X[known]).score_samples(X[judged]),
            "chance": np.zeros(len(judged)),
        }
        for name, score in scores.items():
            yield task, seed, share, name, "none", f"{average_precision_score(y[judged], score):.4f}"


def repetition(seed: int) -> list[Row]:
    """Return all rows of one repetition."""
    with threadpool_limits(1):
        found = [*of_digits(seed), *of_table("late_flights", seed, 8, (50, 200, 1000))]
        found += of_table("breast_cancer", seed, 8, (25, 100, 300))
        return found + [row for task in SHARES for row in anomalies(task, seed)]


def main() -> None:
    """Write the table."""
    notebook.setup({})
    every = [row for seed in notebook.progress(SEEDS, "repetition") for row in repetition(seed)]
    names = ["task", "seed", "amount", "features", "learner", "score"]
    note = """score: AUC, or average precision where amount is a share of anomalies;
amount: number of labels, or that share"""
    budget = "1,150 updates of an autoencoder that describes, 1,000 of one that detects, 100 epochs of a network"
    seeds = f"{SEEDS.start} to {SEEDS.stop - 1} (split, networks, labels; each the mean of {DRAWS} draws)"
    write_table(__file__, pd.DataFrame(every, columns=names, dtype=object), seeds=seeds, budget=budget, note=note)


if __name__ == "__main__":
    main()
