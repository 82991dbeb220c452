"""Keras models and scores inside scikit-learn; a layer's output as features: trained, computed fast, kept."""

import logging
import pickle
import re
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import estimator_checks_generator

from helpers import estimators
from helpers.data import Dataset
from helpers.estimators import (
    KerasBinaryClassifier,
    LatentFeatures,
    ScoreClassifier,
    cached_features,
    feature_key,
    given_scores,
)
from helpers.notebook import UserError, fresh_process

logging.getLogger("tensorflow").setLevel(logging.ERROR)
X = np.random.default_rng(0).normal(size=(120, 5))
Y = (X[:, 0] > 0).astype(int)
WORDS = np.array(["no", "yes"])[Y]


def build(n_features, units=1):
    model = keras.Sequential([keras.Input((n_features,)), keras.layers.Dense(units)])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.3), loss=loss, run_eagerly=True)
    return model


def autoencoder(n_features, out=None, rate=0.001, latent=None):
    latent = latent or [keras.layers.Dense(2, name="latent")]
    noise = keras.layers.GaussianNoise(0.5)
    model = keras.Sequential([keras.Input((n_features,)), noise, *latent, keras.layers.Dense(out or n_features)])
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="mse", run_eagerly=True)
    return model


@pytest.fixture
def latent():
    return LatentFeatures(autoencoder, epochs=1).fit(X)


# Weights are not repetitions for stochastic gradient descent, and one epoch of it follows no weight of 1,000.
WEIGHTS = {"check_sample_weight_equivalence_on_dense_data": "batches", "check_class_weight_classifiers": "epochs"}
# What comes out has the type that Keras calculates in.
TYPES = {"check_transformer_preserve_dtypes": "float32"}
CHECKS = [
    pair
    for estimator, expected in ((KerasBinaryClassifier(build), WEIGHTS), (LatentFeatures(autoencoder), TYPES))
    for pair in estimator_checks_generator(
        estimator.set_params(epochs=1, batch_size=128), expected_failed_checks=expected, mark="xfail"
    )
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_probabilities_labels_and_logits_agree():
    model = KerasBinaryClassifier(build, epochs=5).fit(X, WORDS)
    logits, proba = model.decision_function(X), model.predict_proba(X)
    np.testing.assert_allclose(logits, model.model_.predict(X, verbose=0)[:, 0], atol=1e-5)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-logits)), atol=1e-6)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert model.predict(X).tolist() == model.classes_[(proba[:, 1] >= 0.5).astype(int)].tolist()
    assert (model.predict(X) == WORDS).mean() > 0.9


def test_a_fit_starts_afresh_and_the_seed_decides():
    for model, answer in (
        (KerasBinaryClassifier(build), "decision_function"),
        (LatentFeatures(autoencoder), "transform"),
    ):
        one, other = clone(model).set_params(epochs=1), clone(model).set_params(epochs=1, seed=1)
        answers = [getattr(fitted.fit(X, Y), answer)(X) for fitted in (one, one, clone(one), other)]
        assert [np.array_equal(answers[0], found) for found in answers] == [True, True, True, False]


def test_class_weights_are_weights_of_rows_and_reach_the_loss():
    few, given = Y * (np.arange(120) % 4 == 0), np.linspace(0.5, 2, 120)
    whole = compute_sample_weight("balanced", few) * given
    plain = KerasBinaryClassifier(build, epochs=2).fit(X, few).decision_function(X)
    by_class = KerasBinaryClassifier(build, epochs=2, class_weight="balanced").fit(X, few, sample_weight=given)
    by_row = KerasBinaryClassifier(build, epochs=2).fit(X, few, sample_weight=whole)
    np.testing.assert_array_equal(by_class.decision_function(X), by_row.decision_function(X))
    assert by_row.decision_function(X).mean() > plain.mean() + 0.05


def test_a_network_works_where_scikit_learn_tunes_and_calibrates():
    model = make_pipeline(StandardScaler(), KerasBinaryClassifier(build, epochs=3))
    for meta in (
        TunedThresholdClassifierCV(model, scoring="balanced_accuracy", cv=2),
        CalibratedClassifierCV(model, method="temperature", cv=2),
    ):
        assert (meta.fit(X, WORDS).predict(X) == WORDS).mean() > 0.8


def test_scores_stand_for_a_model():
    random = np.random.default_rng(0)
    truth = random.random(4000)
    y_true = (random.random(4000) < truth).astype(int)
    odds = (truth / (1 - truth)) ** 3
    overconfident = (odds / (1 + odds))[:, np.newaxis]
    scores = ScoreClassifier().fit(overconfident, y_true)
    np.testing.assert_allclose(scores.predict_proba(overconfident)[:, 1], overconfident[:, 0])
    repaired = CalibratedClassifierCV(FrozenEstimator(scores), method="temperature").fit(overconfident, y_true)
    assert np.abs(repaired.predict_proba(overconfident)[:, 1] - truth).max() < 0.03


def test_saturated_scores_are_as_certain_as_the_rows_allow():
    scores = ScoreClassifier().fit([[0.0], [0.0], [0.3], [0.6], [1.0]], [0, 0, 0, 1, 1])
    np.testing.assert_allclose(scores.predict_proba([[0.0], [1.0], [0.01]])[:, 1], [0.1, 0.9, 0.01])
    assert ScoreClassifier().fit([[0.0], [0.001], [1.0]], [0, 0, 1]).limits_ == (0.001, 5 / 6)


P = np.random.default_rng(1).random(120).round(3)
CHURN = (np.random.default_rng(2).random(120) < P).astype(int)


def churn_rows(names=("a", "b"), y=CHURN, **columns):
    """Rows with the columns a and b, whose sigmoid of 3 a - b is the probability P, and more if given."""
    b = np.linspace(-0.1, 0.1, len(y))
    known = {"a": (np.log(np.clip(P, 0.001, 0.999) / (1 - np.clip(P, 0.001, 0.999))) + b) / 3, "b": b, **columns}
    X = np.column_stack([known[name] for name in (*names, *columns)])
    return Dataset("own.csv", "numeric", X, y, ("stay", "churn"), "", "", (*names, *columns))


def saved_model(path, *, inputs=1, output="probability", activation="sigmoid", units=1):
    """Save a model of 3 a - b: one input for both columns, or an input b and an input a."""
    made = [keras.Input((1,), name=name) for name in "ba"] if inputs == 2 else [keras.Input((2,))]
    columns = keras.layers.Concatenate()(made[::-1]) if inputs == 2 else made[0]
    dense = keras.layers.Dense(units, activation, name="dense")
    model = keras.Model(made if inputs == 2 else made[0], {output: dense(columns)} if output else dense(columns))
    model.get_layer("dense").set_weights([np.tile([[3.0], [-1.0]], units), np.zeros(units)])
    model.save(path)
    return str(path)


def test_given_scores_are_the_column_as_float64(capsys):
    given = given_scores(churn_rows(score=P))
    assert given.dtype == np.float64
    np.testing.assert_array_equal(given, P)
    np.testing.assert_array_equal(given_scores(churn_rows(p=P), "p"), P)
    assert not capsys.readouterr().out
    certain = np.where(CHURN == 1, 1.0, P)
    np.testing.assert_array_equal(given_scores(churn_rows(score=certain)), certain)
    assert capsys.readouterr().out == f"scores of exactly 0 or 1: {(certain == 1).sum()}\n"


def test_a_table_without_scores_gets_those_of_a_model_that_learns_from_the_training_rows_alone(capsys):
    rows, train = churn_rows(), np.arange(0, 120, 2)
    prob = given_scores(rows, train=train)
    assert capsys.readouterr().out == "own.csv has no scores: gradient boosting on its columns is the model.\n"
    assert roc_auc_score(rows.y[1::2], prob[1::2]) > 0.7
    turned = np.where(np.arange(120) % 2, 1 - rows.y, rows.y)
    np.testing.assert_array_equal(given_scores(churn_rows(y=turned), train=train), prob)
    with pytest.raises(UserError, match="holds text rows: a table with scores"):
        given_scores(replace(rows, kind="text"), train=train)
    np.testing.assert_array_equal(given_scores(churn_rows(score=P), train=train), P)
    for column in ("Score", "p_churn_prob"):
        with pytest.raises(UserError, match="has no column 'score'; it has: 'a', 'b', "):
            given_scores(churn_rows(**{column: P}), train=train)
    with pytest.raises(UserError, match="has no column 'scroe'"):
        given_scores(rows, "scroe", train=train)


@pytest.mark.parametrize("output", ["probability", ""])
def test_a_saved_model_gets_its_columns_by_name_or_in_the_order_of_the_file(tmp_path, output, capsys):
    named = saved_model(tmp_path / "named.keras", inputs=2, output=output)
    unnamed = saved_model(tmp_path / "unnamed.keras", output=output)
    for rows in (churn_rows(), churn_rows(("b", "a")), churn_rows(score=1 - P)):
        np.testing.assert_allclose(given_scores(rows, model_path=named), P, atol=0.002)
    assert "order" not in capsys.readouterr().out
    given = given_scores(churn_rows(), "no such column", unnamed)
    np.testing.assert_allclose(given, P, atol=0.002)
    assert (given.dtype, given.shape) == (np.float64, (120,))
    assert "in the file's order: a, b\n" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"the output of model_path \(columns in its order\?\) ranks 'churn' below 'stay'"
    ):
        given_scores(churn_rows(("b", "a")), model_path=unnamed)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"scores": P}, "own.csv has no column 'score'; it has: 'a', 'b', 'scores'."),
        ({"score": 100 * P}, "score must lie in [0, 1]; "),
        ({"score": np.where(P < 0.1, np.nan, P)}, "a NaN is no probability."),
        ({"score": 1 - P}, "score ranks 'churn' below 'stay' (AUC for 'churn': "),
        ({"score": np.full(120, 0.3)}, "all scores are 0.3: there is no threshold to choose."),
    ],
)
def test_scores_that_are_no_probability_of_the_positive_class_are_refused_in_a_sentence(columns, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        given_scores(churn_rows(**columns))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "model", "message"),
    [
        ({"c": P}, {}, "takes 2 columns; there are: a, b, c."),
        ({"names": ["a"]}, {"inputs": 2}, "has no column 'b'"),
        ({}, {"activation": None}, r"the output of model_path \(columns in its order\?\) must lie in \[0, 1\]"),
        ({}, {"units": 2}, "has two columns, one for each class"),
        ({}, None, "missing.keras"),
    ],
)
def test_models_that_give_no_probability_for_the_rows_are_refused_in_a_sentence(tmp_path, rows, model, message):
    path = str(tmp_path / "missing.keras") if model is None else saved_model(tmp_path / "m.keras", **model)
    with pytest.raises(UserError, match=message) as caught:
        given_scores(churn_rows(**rows), model_path=path)
    assert "\n" not in str(caught.value)


def test_codes_and_the_error_of_reconstruction(latent):
    found, model = latent.transform(X), latent.model_
    error = np.log(((X.astype("float32") - model.predict(X, verbose=0)) ** 2).mean(axis=1) + keras.config.epsilon())
    codes = keras.Model(model.inputs[0], model.get_layer("latent").output).predict(X, verbose=0)
    np.testing.assert_allclose(found, np.column_stack([codes, error]), atol=1e-5)


def test_labels_do_not_reach_the_features():
    one, other = (LatentFeatures(autoencoder, epochs=1).fit(X, labels).transform(X) for labels in (Y, Y[::-1]))
    assert one.shape == (120, 3)
    np.testing.assert_array_equal(one, other)


def test_frozen_it_survives_a_clone_and_a_pickle(latent):
    before = latent.transform(X)
    pipeline = clone(make_pipeline(FrozenEstimator(latent), LogisticRegression())).fit(X[:60], Y[:60])
    np.testing.assert_array_equal(pipeline[0].transform(X), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(latent)).transform(X), before)


def latents(**settings):
    return LatentFeatures(**{"build": autoencoder, "epochs": 1, **settings}).fit(X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KerasBinaryClassifier(build).fit(X, np.zeros(120)), "y needs 2 classes; got 1 class"),
        (lambda: KerasBinaryClassifier(build).fit(X, np.arange(120) % 3), "y needs 2 classes; got 3 class"),
        (lambda: KerasBinaryClassifier(lambda n: build(n, units=2)).fit(X, Y), r"one logit a row; got \(2,\)"),
        (lambda: ScoreClassifier().fit([[-2.0], [3.0]], [0, 1]), r"X must lie in \[0, 1\]"),
        (lambda: ScoreClassifier().fit([[0.2, 0.8], [0.3, 0.7]], [0, 1]), "X has two columns, one for each class"),
        (lambda: latents(layer="code"), "No such layer: code"),
        (lambda: latents(build=lambda n: autoencoder(n, out=3)), r"return its input, \(None, 5\); got \(None, 3\)"),
        (
            lambda: latents(build=lambda n: autoencoder(n, latent=[keras.layers.Reshape((n, 1), name="latent")])),
            "a row",
        ),
        (lambda: latents(build=lambda n: autoencoder(n, rate=1e6), epochs=3), "the training diverged"),
        (lambda: estimators.compute_features(build(5), X[:, :4]), r"shape \(None, 5\); got \(120, 4\)"),
        (lambda: cached_features("never made", alone(keras.layers.Reshape((5, 1))), X), "it gives .*: add a Flatten"),
        (lambda: feature_key(build(1), np.array([["a"]], dtype=object)), "X must hold numbers"),
    ],
)
def test_what_gives_no_answer_raises(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_chunks_give_what_predict_gives_and_further_training_is_seen(latent, monkeypatch):
    model = latent.feature_model_
    for _ in range(2):
        expected = model.predict(X, verbose=0)
        for size in (1, 7, 120, 10_000):
            monkeypatch.setattr(estimators, "CHUNK", size)
            np.testing.assert_allclose(estimators.compute_features(model, X), expected, atol=1e-5)
        model.set_weights([2 * weight for weight in model.get_weights()])
    assert estimators.compute_features(model, X[:0]).shape == (0, 3)


def alone(layer, known=(), dtype="float32"):
    if known:
        layer.adapt(np.array(known))
    return keras.Sequential([keras.Input(() if known else (5,), dtype=dtype, name="rows"), layer])


def test_a_key_belongs_to_weights_layers_and_numbers(latent):
    def dense(activation="tanh", dtype="float32"):
        return alone(keras.layers.Dense(2, activation, kernel_initializer="ones", dtype=dtype, name="code"))

    changed = keras.models.clone_model(latent.feature_model_)
    assert feature_key(dense(), X) == feature_key(dense(), np.asfortranarray(X))
    changed.set_weights([weight + 1e-6 for weight in latent.feature_model_.get_weights()])
    models = [latent.feature_model_, changed, latent.model_, dense(), dense("relu")]
    models += [dense(dtype="mixed_float16"), dense(dtype="mixed_bfloat16")]
    # What lookup layers have learned is no weight.
    models += [alone(keras.layers.IntegerLookup(name="ids"), known, "int64") for known in ((1, 2), (7, 8))]
    idf = {"output_mode": "tf_idf", "name": "words"}
    models += [
        alone(keras.layers.TextVectorization(**idf), texts, "string") for texts in (("a b", "a"), ("a b", "a", "a"))
    ]
    assert len({feature_key(model, X) for model in models}) == len(models)
    assert len({feature_key(changed, rows) for rows in (X, X[::-1], X.astype("float32"), X.reshape(-1), X[:0])}) == 5


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
def test_what_is_read_has_the_type_and_shape_that_was_computed(tmp_path, policy, monkeypatch):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, dtype=policy)])
    first = [cached_features(tmp_path, model, X[:n_rows]) for n_rows in (0, 1, 120)]
    monkeypatch.setattr(estimators, "compute_features", lambda *_: pytest.fail("computed anew"))
    for computed in first:
        read = cached_features(tmp_path, model, X[: len(computed)])
        assert read.dtype == computed.dtype == policy.removeprefix("mixed_")
        assert read.shape == (len(computed), 2)
        assert read.tobytes() == computed.tobytes()


def test_a_file_is_found_by_other_processes_and_written_anew_if_damaged(latent, tmp_path):
    model, kept = latent.feature_model_, tmp_path / "kept"
    first = cached_features(kept, model, X)
    (file,) = kept.iterdir()
    assert file.name == f"{feature_key(model, X)}.parquet"
    table = pd.read_parquet(file)
    assert table.columns.tolist() == ["feature_0", "feature_1", "feature_2"]
    np.testing.assert_array_equal(table, first)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\3\4", pickle.dumps(first)):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(cached_features(kept, model, X), first)
        assert file.read_bytes() == whole
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "X.npy", X)
    (tmp_path / "key.py").write_text(
        "import sys, keras, numpy as np\nfrom helpers.estimators import feature_key\n"
        "print(feature_key(keras.saving.load_model(sys.argv[1]), np.load(sys.argv[2])))"
    )
    there = fresh_process(tmp_path / "key.py", tmp_path / "model.keras", tmp_path / "X.npy")
    assert there.split()[-1] == feature_key(model, X)
