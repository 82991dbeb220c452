"""Keras models and scores inside scikit-learn; a layer's output as features: trained, computed fast, kept."""

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import TunedThresholdClassifierCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import check_class_weight_classifiers, check_estimator

from helpers import estimators
from helpers.estimators import KerasBinaryClassifier, LatentFeatures, ScoreClassifier, cached_features, feature_key
from helpers.notebook import fresh_process

logging.getLogger("tensorflow").setLevel(logging.ERROR)
X = np.random.default_rng(0).normal(size=(120, 5))
Y = (X[:, 0] > 0).astype(int)


def build(n_features, units=1, **changes):
    """A network with the layer that `LatentFeatures` looks for."""
    latent = keras.layers.Dense(**{"units": 3, "activation": "tanh", "name": "latent", **changes})
    model = keras.Sequential([keras.Input((n_features,)), latent, keras.layers.Dense(units)])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def autoencoder(n_features, out=None, optimizer="adam", latent=None):
    latent = latent or [keras.layers.Dense(2, name="latent")]
    noise = keras.layers.GaussianNoise(0.5)
    model = keras.Sequential([keras.Input((n_features,)), noise, *latent, keras.layers.Dense(out or n_features)])
    model.compile(optimizer=optimizer, loss="mse")
    return model


@pytest.fixture(scope="module")
def table():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), np.array(["malignant", "benign"])[y]


@pytest.fixture
def latent():
    return LatentFeatures(autoencoder, epochs=2).fit(X)


def failed(estimator, **expected):
    results = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    assert sum(result["status"] == "passed" for result in results) > 40
    return [result["check_name"] for result in results if result["status"] == "failed"]


@pytest.mark.filterwarnings("ignore")
def test_they_are_scikit_learn_estimators():
    """Weights are not repetitions for stochastic gradient descent, and one epoch of it follows no weight of 1,000."""
    weights = {"check_sample_weight_equivalence_on_dense_data": "batches", "check_class_weight_classifiers": "epochs"}
    assert failed(KerasBinaryClassifier(build, epochs=1), **weights) == []
    check_class_weight_classifiers("KerasBinaryClassifier", KerasBinaryClassifier(build, epochs=30))
    # What comes out has the type that Keras calculates in.
    assert failed(LatentFeatures(autoencoder, epochs=1), check_transformer_preserve_dtypes="float32") == []


def test_probabilities_labels_and_logits_agree(table):
    X, y = table
    model = KerasBinaryClassifier(build, epochs=3).fit(X, y)
    proba, logits = model.predict_proba(X), model.decision_function(X)
    assert model.classes_.tolist() == ["benign", "malignant"]
    np.testing.assert_allclose(logits, model.model_.predict(X, verbose=0)[:, 0], atol=1e-4)
    np.testing.assert_allclose(proba, np.column_stack([1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits))]), atol=1e-6)
    assert ((proba[:, 1] >= 0.5) == (model.predict(X) == "malignant")).all()
    assert (model.predict(X) == y).mean() > 0.9


@pytest.mark.parametrize("model", [KerasBinaryClassifier(build, epochs=1), LatentFeatures(autoencoder, epochs=1)])
def test_a_fit_starts_afresh_and_the_seed_decides(model):
    def answers(model):
        fitted = model.fit(X, Y)
        return fitted.transform(X) if hasattr(fitted, "transform") else fitted.decision_function(X)

    first = answers(model)
    np.testing.assert_array_equal(answers(model), first)
    np.testing.assert_array_equal(answers(clone(model)), first)
    assert not np.array_equal(answers(clone(model).set_params(seed=1)), first)


def test_class_weights_are_weights_of_rows_and_reach_the_loss(table):
    X, y = table
    given, balanced = np.linspace(0.5, 2, len(y)), compute_sample_weight("balanced", y)
    plain = KerasBinaryClassifier(build, epochs=2).fit(X, y).decision_function(X)
    for weight, whole in ((None, balanced), (given, given * balanced)):
        by_class = KerasBinaryClassifier(build, epochs=2, class_weight="balanced").fit(X, y, sample_weight=weight)
        by_row = KerasBinaryClassifier(build, epochs=2).fit(X, y, sample_weight=whole)
        np.testing.assert_array_equal(by_class.decision_function(X), by_row.decision_function(X))
        assert not np.array_equal(by_row.decision_function(X), plain)
    heavy = KerasBinaryClassifier(build, epochs=2, class_weight={"benign": 1e-6, "malignant": 1}).fit(X, y)
    assert heavy.decision_function(X).mean() > plain.mean() + 0.1


def test_a_network_works_where_scikit_learn_stacks_tunes_calibrates_and_predicts(table):
    X, y = table
    model = make_pipeline(StandardScaler(), KerasBinaryClassifier(build, epochs=2))
    proba = cross_val_predict(model, X, y, cv=2, method="predict_proba")
    assert ((proba[:, 1] > 0.5) == (y == "malignant")).mean() > 0.9
    for meta in (
        TunedThresholdClassifierCV(model, scoring="balanced_accuracy", cv=2),
        CalibratedClassifierCV(model, method="temperature", cv=2),
        StackingClassifier([("network", model)], LogisticRegression(), cv=2),
    ):
        assert (meta.fit(X, y).predict(X) == y).mean() > 0.9


def test_two_classes_and_one_logit_are_needed():
    for labels in (np.zeros(120), np.arange(120) % 3):
        with pytest.raises(ValueError, match=r"y must hold two classes; got [13] class\(es\)"):
            KerasBinaryClassifier(build).fit(X, labels)
    with pytest.raises(ValueError, match=r"one logit a row; got \(2,\)"):
        KerasBinaryClassifier(lambda n: build(n, units=2)).fit(X, Y)


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


def test_saturated_scores_are_as_certain_as_the_rows_allow_on_both_sides():
    scores = ScoreClassifier().fit([[0.0], [0.0], [0.3], [0.6], [1.0]], [0, 0, 0, 1, 1])
    assert scores.limits_ == (0.1, 0.9)
    np.testing.assert_allclose(scores.predict_proba([[0.0], [1.0], [0.01]])[:, 1], [0.1, 0.9, 0.01])
    assert ScoreClassifier().fit([[0.0], [0.001], [1.0]], [0, 0, 1]).limits_[0] == 0.001


@pytest.mark.parametrize(("scores", "message"), [([[-2.0], [3.0]], r"\[0, 1\]"), ([[0.2, 0.8], [0, 1]], "one column")])
def test_scores_that_are_no_probabilities_raise(scores, message):
    with pytest.raises(ValueError, match=message):
        ScoreClassifier().fit(scores, [0, 1])


def test_codes_and_the_error_of_reconstruction(latent):
    found, model = latent.transform(X), latent.model_
    error = np.log(((X.astype("float32") - model.predict(X, verbose=0)) ** 2).mean(axis=1) + keras.config.epsilon())
    codes = keras.Model(model.inputs[0], model.get_layer("latent").output).predict(X, verbose=0)
    np.testing.assert_allclose(found, np.column_stack([codes, error]), atol=1e-5)
    assert latent.get_feature_names_out().tolist() == ["latent0", "latent1", "log_error"]


def test_labels_reach_the_activations_of_target_y_and_no_others():
    for model, told in ((LatentFeatures(build, target="y", epochs=9), True), (LatentFeatures(autoencoder), False)):
        one, other = (model.fit(X, labels).transform(X) for labels in (Y, Y[::-1]))
        assert one.shape == (120, 3)
        assert np.array_equal(one, other) != told


def test_frozen_it_survives_a_clone_and_a_pickle(latent):
    before = latent.transform(X)
    pipeline = clone(make_pipeline(FrozenEstimator(latent), LogisticRegression())).fit(X[:60], Y[:60])
    np.testing.assert_array_equal(pipeline[0].transform(X), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(latent)).transform(X), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "labels"}, "target must be 'X' or 'y'; got 'labels'"),
        ({"target": "y"}, "target='y' requires y"),
        ({"layer": "code"}, "No such layer: code"),
        ({"build": lambda n: autoencoder(n, out=3)}, r"must return its input, \(None, 5\); got \(None, 3\)"),
        (
            {"build": lambda n: autoencoder(n, latent=[keras.layers.Reshape((n, 1), name="latent")])},
            r"layer 'latent' must give a row of numbers; it gives \(None, 5, 1\)",
        ),
        ({"build": lambda n: autoencoder(n, optimizer=keras.optimizers.SGD(1e6))}, "the training diverged"),
    ],
)
def test_what_gives_no_features_raises(settings, message):
    with pytest.raises(ValueError, match=message):
        LatentFeatures(**{"build": autoencoder, "epochs": 3, **settings}).fit(X)


def test_batches_give_what_predict_gives_and_further_training_is_seen(latent):
    model = latent.feature_model_
    for factor in (1, 2):
        model.set_weights([factor * weight for weight in model.get_weights()])
        expected = model.predict(X, verbose=0)
        for size in (1, 7, 120, 10_000):
            found = estimators.compute_features(model, X, batch_size=size)
            np.testing.assert_allclose(found, expected, atol=1e-5)
    assert estimators.compute_features(model, X[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"X must have the shape \(None, 5\); got \(120, 4\)"):
        estimators.compute_features(model, X[:, :4])
    with pytest.raises(ValueError, match="batch_size == 0, must be >= 1"):
        estimators.compute_features(model, X, batch_size=0)


def looked_up(*known):
    layer = keras.layers.IntegerLookup()
    layer.adapt(np.array(known))
    return keras.Sequential([keras.Input((5,), dtype="int64"), layer])


def rare(*texts):
    layer = keras.layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(list(texts))
    return keras.Sequential([keras.Input((), dtype="string"), layer])


def test_a_key_belongs_to_weights_layers_and_numbers(latent):
    def ones(activation="tanh", dtype="float32", name="latent"):
        return build(5, activation=activation, kernel_initializer="zeros", dtype=dtype, name=name).layers[0]

    def alone(layer):
        return keras.Sequential([keras.Input((5,)), layer])

    changed = keras.models.clone_model(latent.feature_model_)
    changed.set_weights([weight + 1e-6 for weight in latent.feature_model_.get_weights()])
    models = [
        *(latent.feature_model_, changed, latent.model_),
        *(alone(ones()), alone(ones("relu")), alone(ones(dtype="mixed_float16")), alone(ones(dtype="mixed_bfloat16"))),
        # A layer with the name of its activation; what lookups have learned, which is no weight.
        *(alone(keras.layers.Activation(name, name=name)) for name in ("relu", "tanh")),
        *(looked_up(1, 2, 3), looked_up(7, 8, 9), rare("a b", "a b"), rare("a b", "a")),
    ]
    assert len({feature_key(model, X) for model in models}) == len(models)
    assert len({feature_key(changed, rows) for rows in (X, X[::-1], X.astype("float32"), X.reshape(-1), X[:0])}) == 5
    assert feature_key(alone(ones()), X) == feature_key(alone(ones()), np.asfortranarray(X))
    with pytest.raises(ValueError, match="X must hold numbers"):
        feature_key(changed, np.array([["a"]], dtype=object))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
def test_what_is_read_has_the_type_and_shape_that_was_computed(tmp_path, policy, monkeypatch):
    layers = [keras.layers.Dense(2, dtype=policy), keras.layers.Reshape((2, 1), dtype=policy)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    for n_rows in (0, 1, 120):
        first = cached_features(tmp_path, model, X[:n_rows])
        with monkeypatch.context() as patch:
            patch.setattr(estimators, "compute_features", lambda *_: pytest.fail("computed anew"))
            second = cached_features(tmp_path, model, X[:n_rows])
        assert first.dtype == second.dtype == policy.removeprefix("mixed_")
        assert first.shape == second.shape == (n_rows, 2, 1)
        assert first.tobytes() == second.tobytes()


def test_two_processes_at_once_write_one_whole_file(latent, tmp_path):
    model, folder = latent.feature_model_, tmp_path / "kept"
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "X.npy", X)
    (tmp_path / "keep.py").write_text(
        "import sys, time, keras, numpy as np\n"
        "from pathlib import Path\n"
        "from helpers.estimators import cached_features\n"
        # Names that Keras counts up are others there.
        "keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n"
        "model, X, folder = keras.saving.load_model(sys.argv[1]), np.load(sys.argv[2]), Path(sys.argv[3])\n"
        "Path(folder.parent, sys.argv[4]).touch()\n"
        # Both are there before either begins.
        "while len(list(folder.parent.glob('ready*'))) < 2: time.sleep(0.01)\n"
        "print(cached_features(folder, model, X).tobytes().hex())\n"
    )
    arguments = (tmp_path / "keep.py", tmp_path / "model.keras", tmp_path / "X.npy", folder)
    with ThreadPoolExecutor(2) as both:
        running = [both.submit(fresh_process, *arguments, f"ready{number}") for number in range(2)]
        one, other = (done.result().split()[-1] for done in running)
    assert one == other == cached_features(folder, model, X).tobytes().hex()
    assert [file.name for file in folder.iterdir()] == [f"{feature_key(model, X)}.npy"]


def test_a_damaged_file_is_written_anew(latent, tmp_path):
    first = cached_features(tmp_path, latent.feature_model_, X)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\3\4", pickle.dumps(first)):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(cached_features(tmp_path, latent.feature_model_, X), first)
        assert list(tmp_path.iterdir()) == [file]
        assert file.read_bytes() == whole
