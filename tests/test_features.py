"""A layer of a Keras model as features: trained, computed fast, kept."""

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from helpers.estimators import LatentFeatures, cached_features, compute_features, feature_key
from helpers.notebook import fresh_process

logging.getLogger("tensorflow").setLevel(logging.ERROR)
X = np.random.default_rng(0).normal(size=(120, 5))
Y = (X[:, 0] > 0).astype(int)


def autoencoder(n_features, width=2, out=None, noise=False):
    inputs = keras.Input((n_features,))
    hidden = keras.layers.GaussianNoise(0.5)(inputs) if noise else inputs
    hidden = keras.layers.Dense(6, activation="relu")(hidden)
    code = keras.layers.Dense(width, name="latent")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(out or n_features)(code))
    model.compile(optimizer="adam", loss="mse")
    return model


def in_a_picture(n_features):
    shapes = [keras.layers.Reshape((n_features, 1), name="latent"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((n_features,)), *shapes])
    model.compile(loss="mse")
    return model


def one_logit(n_features):
    hidden = keras.layers.Dense(3, activation="tanh", name="latent")
    model = keras.Sequential([keras.Input((n_features,)), hidden, keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return model


@pytest.fixture
def latent():
    return LatentFeatures(autoencoder, epochs=2).fit(X)


@pytest.fixture
def in_float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.filterwarnings("ignore")
def test_it_is_a_scikit_learn_transformer(in_float64):
    # In float32, check_transformer_preserve_dtypes fails: what comes out has the type that Keras calculates in.
    results = check_estimator(LatentFeatures(autoencoder, epochs=1), on_fail=None, on_skip=None)
    assert [result["check_name"] for result in results if result["status"] == "failed"] == []
    assert sum(result["status"] == "passed" for result in results) > 40


def test_codes_and_the_error_of_reconstruction(latent):
    found = latent.transform(X)
    restored = latent.model_.predict(X, verbose=0)
    error = np.log(((X.astype("float32") - restored) ** 2).mean(axis=1) + keras.config.epsilon())
    codes = keras.Model(latent.model_.inputs[0], latent.model_.get_layer("latent").output).predict(X, verbose=0)
    np.testing.assert_allclose(found, np.column_stack([codes, error]), atol=1e-5)
    assert latent.get_feature_names_out().tolist() == ["latent0", "latent1", "log_error"]


def test_a_fit_starts_afresh_and_the_seed_decides(latent):
    first = latent.transform(X)
    np.testing.assert_array_equal(clone(latent).fit(X).transform(X), first)
    assert not np.array_equal(clone(latent).set_params(seed=1).fit(X).transform(X), first)


def test_noise_is_for_training_only():
    noisy = LatentFeatures(lambda n: autoencoder(n, noise=True), epochs=1).fit(X)
    np.testing.assert_array_equal(noisy.transform(X), noisy.transform(X))


def test_labels_reach_the_activations_of_target_y_and_no_others():
    supervised = LatentFeatures(one_logit, target="y", epochs=30)
    told, by_lot = (supervised.fit(X, labels).transform(X) for labels in (Y, Y[::-1]))
    assert told.shape == (120, 3)
    assert supervised.get_feature_names_out().tolist() == ["latent0", "latent1", "latent2"]
    assert not np.array_equal(told, by_lot)
    plain = LatentFeatures(autoencoder, epochs=1)
    np.testing.assert_array_equal(plain.fit(X, Y).transform(X), plain.fit(X, Y[::-1]).transform(X))


def test_frozen_it_survives_a_clone_and_a_pickle(latent):
    before = latent.transform(X)
    route = clone(make_pipeline(FrozenEstimator(latent), LogisticRegression())).fit(X[:60], Y[:60])
    np.testing.assert_array_equal(route[0].transform(X), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(latent)).transform(X), before)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"target": "labels"}, "target must be 'X' or 'y'; got 'labels'"),
        ({"target": "y"}, "target='y' requires y"),
        ({"layer": "code"}, "layer 'code' is not in the model; it has: .*latent"),
        (
            {"build": lambda n: autoencoder(n, out=3)},
            r"what it gets, rows of 5; the model gives \(None, 3\)",
        ),
        ({"build": lambda n: in_a_picture(n)}, r"layer 'latent' must give a row of numbers; it gives \(None, 5, 1\)"),
    ],
)
def test_what_is_no_autoencoder_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        LatentFeatures(**{"build": autoencoder, "epochs": 1, **settings}).fit(X)


def test_a_training_that_diverges_is_told():
    def wild(n_features):
        model = autoencoder(n_features)
        model.compile(optimizer=keras.optimizers.SGD(1e6), loss="mse")
        return model

    with pytest.raises(ValueError, match="the training diverged"):
        LatentFeatures(wild, epochs=3).fit(X)


@pytest.mark.parametrize("batch_size", [1, 7, 120, 10_000])
def test_batches_give_what_predict_gives(latent, batch_size):
    model = latent.feature_model_
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(compute_features(model, X, batch_size=batch_size), expected, atol=1e-5)
    assert compute_features(model, X[:0]).shape == (0, 3)


def test_further_training_is_seen(latent):
    model = latent.feature_model_
    before = compute_features(model, X)
    model.set_weights([weight * 2 for weight in model.get_weights()])
    assert not np.allclose(compute_features(model, X), before)


def test_other_rows_are_no_new_graph():
    traced = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            traced.append(inputs.shape)
            return inputs * 2

    model = keras.Sequential([keras.Input((5,)), Counting()])
    compute_features(model, X)
    so_far = len(traced)
    for size in (1, 50, 119):
        compute_features(model, X[:size])
    assert len(traced) == so_far


def test_wrong_shapes_and_batches_are_refused(latent):
    with pytest.raises(ValueError, match=r"X must have the shape \(None, 5\); got \(120, 4\)"):
        compute_features(latent.feature_model_, X[:, :4])
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="batch_size must be"):
            compute_features(latent.feature_model_, X, batch_size=wrong)


def test_a_key_belongs_to_weights_layers_and_numbers(latent, tmp_path):
    model = latent.feature_model_
    key = feature_key(model, X)
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    assert feature_key(again, X) == key
    weights = model.get_weights()
    weights[0][0, 0] += 1e-3
    again.set_weights(weights)
    others = {
        feature_key(again, X),
        feature_key(keras.Model(latent.model_.inputs[0], latent.model_.get_layer("latent").output), X),
        feature_key(latent.model_, X),
        feature_key(model, X[::-1]),
        feature_key(model, X.astype("float32")),
    }
    assert len(others | {key}) == 6
    with pytest.raises(ValueError, match="X must hold numbers"):
        feature_key(model, np.array([["a"]], dtype=object))


def test_an_activation_is_part_of_the_key():
    def key(activation):
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, activation, kernel_initializer="ones")])
        return feature_key(model, X)

    assert key("relu") == key("relu") != key("tanh")


def named(name):
    return keras.Sequential([keras.Input((5,)), keras.layers.Activation(name, name=name)])


def typed(policy):
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, kernel_initializer="ones", dtype=policy)])


def looked_up(*known):
    layer = keras.layers.IntegerLookup()
    layer.adapt(np.array(known))
    return keras.Sequential([keras.Input((5,), dtype="int64"), layer])


def rare(*texts):
    layer = keras.layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(list(texts))
    return keras.Sequential([keras.Input((), dtype="string"), layer])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (named("relu"), named("tanh")),
        (typed("mixed_float16"), typed("mixed_bfloat16")),
        (looked_up(1, 2, 3), looked_up(7, 8, 9)),
        (rare("a b", "a b"), rare("a b", "a")),
    ],
    ids=["a layer with the name of its activation", "types of layers", "a vocabulary", "weights of words"],
)
def test_models_that_differ_where_no_weight_does_have_other_keys(one, other):
    """Each pair had one key, and got each other's features."""
    assert [weight.shape for weight in one.weights] == [weight.shape for weight in other.weights]
    assert feature_key(one, X) != feature_key(other, X)


def test_names_alone_make_no_other_key():
    def key(outer, inner):
        part = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(2, "relu", kernel_initializer="ones", name=inner)]
        )
        inputs = keras.Input((5,), name=outer)
        return feature_key(keras.Model(inputs, {"code": part(inputs)}, name=outer), X)

    assert key("relu", "dense") == key("code", "rows") == key("rows", "x")


def test_another_process_finds_the_same_key(latent, tmp_path):
    latent.feature_model_.save(tmp_path / "model.keras")
    np.save(tmp_path / "X.npy", X)
    (tmp_path / "key.py").write_text(
        "import sys, keras, numpy as np\n"
        "from helpers.estimators import feature_key\n"
        # Names that Keras counts up are others there.
        "keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n"
        "print(feature_key(keras.saving.load_model(sys.argv[1]), np.load(sys.argv[2])))\n"
    )
    there = fresh_process(tmp_path / "key.py", tmp_path / "model.keras", tmp_path / "X.npy")
    assert there.split()[-1] == feature_key(latent.feature_model_, X)


def test_the_second_call_reads(latent, tmp_path, monkeypatch):
    model = latent.feature_model_
    first = cached_features(tmp_path / "kept", model, X)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{feature_key(model, X)}.parquet"]
    monkeypatch.setattr(features, "compute_features", lambda *_: pytest.fail("computed anew"))
    second = cached_features(tmp_path / "kept", model, X)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == second.dtype == np.float32


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("n_rows", [0, 1, 120])
def test_what_is_read_has_the_type_that_was_computed(tmp_path, policy, n_rows):
    model = typed(policy)
    first, second = (cached_features(tmp_path, model, X[:n_rows]) for _ in range(2))
    assert first.dtype == second.dtype == policy.removeprefix("mixed_")
    assert first.shape == second.shape == (n_rows, 2)
    assert first.tobytes() == second.tobytes()


def test_only_rows_of_numbers_are_kept(tmp_path):
    with pytest.raises(ValueError, match=r"of shape \(n, k\); the model gives \(120, 5, 1\)"):
        cached_features(tmp_path, keras.Sequential([keras.Input((5,)), keras.layers.Reshape((5, 1))]), X)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once_write_one_whole_file(latent, tmp_path):
    model = latent.feature_model_
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "X.npy", X)
    (tmp_path / "keep.py").write_text(
        "import sys, time, keras, numpy as np\n"
        "from pathlib import Path\n"
        "from helpers.estimators import cached_features\n"
        "model, X, folder = keras.saving.load_model(sys.argv[1]), np.load(sys.argv[2]), Path(sys.argv[3])\n"
        "folder.mkdir(exist_ok=True)\n"
        "Path(folder.parent, sys.argv[4]).touch()\n"
        # Both are there before either begins.
        "while len(list(folder.parent.glob('ready*'))) < 2: time.sleep(0.01)\n"
        "print(cached_features(folder, model, X).tobytes().hex())\n"
    )
    arguments = (tmp_path / "keep.py", tmp_path / "model.keras", tmp_path / "X.npy", tmp_path / "kept")
    with ThreadPoolExecutor(2) as both:
        told = [both.submit(fresh_process, *arguments, f"ready{number}") for number in range(2)]
        one, other = (done.result().split()[-1] for done in told)
    assert one == other
    assert [file.name for file in (tmp_path / "kept").iterdir()] == [f"{feature_key(model, X)}.parquet"]
    assert cached_features(tmp_path / "kept", model, X).tobytes().hex() == one


def test_a_file_that_is_damaged_or_anothers_is_not_believed(latent, tmp_path):
    model = latent.feature_model_
    first = cached_features(tmp_path, model, X)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(cached_features(tmp_path, model, X), first)
    assert list(tmp_path.iterdir()) == [file]
    cached_features(tmp_path / "other", model, X[::-1])
    (other,) = (tmp_path / "other").iterdir()
    file.write_bytes(other.read_bytes())
    np.testing.assert_array_equal(cached_features(tmp_path, model, X), first)
    assert file.read_bytes() == whole
