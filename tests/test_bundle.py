import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from helpers import bundle as module
from helpers.bundle import BundleError, load_bundle, save_bundle
from helpers.estimators import LatentFeatures
from helpers.notebook import fresh_process

FILES = ["SHA256SUMS", "golden.json", "manifest.json", "model.keras", "preprocessing.skops"]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "wind": rng.normal(10, 3, 120),
            "count": rng.integers(0, 9, 120),
            "town": rng.choice(["Bonn", "Köln", "Ulm"], 120).astype(object),
        }
    )
    frame.loc[::9, "wind"] = np.nan
    frame.loc[::11, "town"] = np.nan
    return frame


@pytest.fixture(scope="module")
def outside(table):
    """The arguments of a bundle with scikit-learn in front."""
    words = make_pipeline(SimpleImputer(strategy="constant", fill_value=""), OneHotEncoder(handle_unknown="ignore"))
    preprocessing = ColumnTransformer(
        [("n", make_pipeline(SimpleImputer(), StandardScaler()), ["wind", "count"]), ("w", words, ["town"])]
    ).fit(table)
    features = np.asarray(preprocessing.transform(table))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((features.shape[1],)), keras.layers.Dense(1, activation="sigmoid")])
    golden = table.iloc[:12]
    y_prob = model(features[:12]).numpy()[:, 0]
    return {
        "model": model,
        "preprocessing": preprocessing,
        "X_train": table,
        "golden": golden,
        "y_prob": y_prob,
        "threshold": 0.3,
        "seed": 7,
        "metrics": {"auc": 0.5},
    }


@pytest.fixture(scope="module")
def saved(outside, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "weather"
    save_bundle(path, **outside)
    return path


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


def sums(path):
    """Write SHA256SUMS anew, as somebody would who changes a bundle on purpose."""
    names = sorted(file.name for file in path.iterdir() if file.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (path / "SHA256SUMS").write_text("".join(lines), newline="\n")


def refuses(path, message, **options):
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(path, **options)
    assert "\n" not in str(caught.value)


# --- a bundle that is whole --------------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved(saved, outside, table):
    loaded = load_bundle(saved)
    assert sorted(file.name for file in saved.iterdir()) == FILES
    features = np.asarray(outside["preprocessing"].transform(table))
    assert np.allclose(loaded.predict(table), outside["model"](features).numpy()[:, 0], rtol=0, atol=1e-7)
    assert (loaded.threshold, loaded.seed, loaded.metrics) == (0.3, 7, {"auc": 0.5})
    assert loaded.versions["keras"] == keras.__version__
    assert loaded.replay().same


def test_the_schema_says_what_training_saw(saved, table):
    wind, count, town = load_bundle(saved).schema
    assert (wind.name, wind.dtype, wind.missing) == ("wind", "float64", True)
    assert (wind.low, wind.high) == (table["wind"].min(), table["wind"].max())
    assert (count.kind, count.missing) == ("number", False)
    assert town.categories == ("Bonn", "Köln", "Ulm")


def test_a_text_model_takes_strings(tmp_path):
    texts = [f"good film number {number}" for number in range(50)] + ["", "caf\u00e9 \u0085"]
    vectorize = keras.layers.TextVectorization(vocabulary=["good", "film"], output_mode="multi_hot")
    raw = keras.Input((), dtype="string", name="anything")
    model = keras.Model(raw, {"probability": keras.layers.Dense(1, activation="sigmoid")(vectorize(raw))})
    y_prob = model(np.array(texts, dtype=object))["probability"]
    loaded = save_bundle(tmp_path / "texts", model, X_train=texts, golden=texts, y_prob=y_prob)
    assert [field.kind for field in loaded.schema] == ["text"]
    assert np.allclose(loaded.predict(texts), np.asarray(y_prob)[:, 0])
    assert loaded.predict(pd.DataFrame({"text": texts})).shape == (52,)
    assert "outside 0 to 19 characters" in loaded.unseen(["x" * 99])[0]
    with pytest.raises(BundleError, match="'text' takes str of valid Unicode; got b'a'"):
        loaded.predict([b"a"])


def test_a_model_of_named_columns_needs_no_scikit_learn(tmp_path, table):
    town = keras.Input((), dtype="string", name="town")
    wind, count = (keras.Input((), name=name) for name in ("wind", "count"))
    numbers = keras.ops.stack([wind, count], axis=1)
    numbers = keras.ops.where(keras.ops.isnan(numbers), 0.0, numbers)
    words = keras.layers.StringLookup(vocabulary=["Bonn", "Köln"], output_mode="multi_hot")(town[:, None])
    both = keras.layers.Concatenate()([numbers, words])
    model = keras.Model({"town": town, "wind": wind, "count": count}, keras.layers.Dense(1, activation="sigmoid")(both))
    rows = {name: table[name].fillna("" if name == "town" else np.nan).to_numpy() for name in table}
    y_prob = model({name: keras.ops.convert_to_tensor(column) for name, column in rows.items()})
    loaded = save_bundle(tmp_path / "named", model, X_train=table, golden=table, y_prob=y_prob)
    assert np.allclose(loaded.predict(table[["town", "wind", "count"]]), np.asarray(y_prob)[:, 0])


@pytest.mark.parametrize(
    "calibrator",
    [
        LogisticRegression(),
        IsotonicRegression(out_of_bounds="clip"),
        *(
            CalibratedClassifierCV(LogisticRegression(), cv=2, method=method)
            for method in ("sigmoid", "isotonic", "temperature")
        ),
        DecisionTreeClassifier(max_depth=2),
    ],
    ids=lambda calibrator: type(calibrator).__name__,
)
def test_a_calibrator_comes_after_the_model(tmp_path, outside, calibrator):
    y_true = np.arange(12) % 2
    raw = outside["y_prob"][:, np.newaxis].astype(float)
    calibrator.fit(raw, y_true)
    better = calibrator.predict_proba(raw)[:, 1] if hasattr(calibrator, "predict_proba") else calibrator.predict(raw)
    loaded = save_bundle(tmp_path / "b", **{**outside, "calibrator": calibrator, "y_prob": better})
    assert (tmp_path / "b" / "calibrator.skops").exists()
    assert np.allclose(loaded.predict(outside["golden"]), better)


def test_a_layer_and_the_next_model_travel_as_one(tmp_path, outside, table):
    """A stack: the features of a network, and a classifier that has learned from them."""
    features = np.asarray(outside["preprocessing"].transform(table))

    def autoencoder(width):
        layers = [keras.layers.Dense(3, name="latent"), keras.layers.Dense(width)]
        model = keras.Sequential([keras.Input((width,)), *layers])
        model.compile(optimizer="adam", loss="mse")
        return model

    latent = LatentFeatures(autoencoder, epochs=2).fit(features)
    codes = latent.transform(features)
    after = make_pipeline(StandardScaler(), LogisticRegression()).fit(codes, np.arange(len(table)) % 2)
    y_prob = after.predict_proba(codes)[:, 1]
    stack = {"model": latent.feature_model_, "calibrator": after, "golden": table.iloc[:12], "y_prob": y_prob[:12]}
    save_bundle(tmp_path / "stack", **{**outside, **stack})
    table.to_json(tmp_path / "rows.json", double_precision=15)
    (tmp_path / "load.py").write_text(
        "import sys, json, pandas as pd\nfrom helpers.bundle import load_bundle\n"
        "print(json.dumps(load_bundle(sys.argv[1]).predict(pd.read_json(sys.argv[2])).tolist()))"
    )
    there = fresh_process(tmp_path / "load.py", tmp_path / "stack", tmp_path / "rows.json")
    np.testing.assert_allclose(json.loads(there.splitlines()[-1]), y_prob, rtol=0, atol=1e-6)
    with pytest.raises(BundleError, match=r"one probability a row; \(12, 4\) came for 12 rows"):
        save_bundle(tmp_path / "half", **{**outside, **stack, "calibrator": None})


def test_the_hashes_can_be_checked_without_python(saved):
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum")
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=saved, check=True, capture_output=True)


def test_a_bundle_is_never_overwritten(saved, outside):
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    with pytest.raises(BundleError, match="exists, and a bundle is never overwritten"):
        save_bundle(saved, **outside)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_anywhere_is_refused(copy, name):
    content = (copy / name).read_bytes()
    for position in np.linspace(0, len(content) - 1, 25).astype(int):
        for bit in (0, 5):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            (copy / name).write_bytes(changed)
            with pytest.raises(BundleError) as caught:
                module._verified(copy)
            assert "\n" not in str(caught.value)
    (copy / name).write_bytes(content)
    module._verified(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_refused(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    refuses(copy, "is no bundle, or one that was never finished" if name == "SHA256SUMS" else f"lacks {name}")
    (copy / name).write_bytes(content[: len(content) // 2])
    refuses(copy, "damaged" if name == "SHA256SUMS" else f"{name} .* has changed since it was saved")


def test_hashes_are_checked_before_anything_is_deserialised(copy, monkeypatch):
    monkeypatch.setattr(module.skops.io, "loads", lambda *_, **__: pytest.fail("deserialised"))
    monkeypatch.setattr(module.keras.saving, "load_model", lambda *_, **__: pytest.fail("deserialised"))
    (copy / "preprocessing.skops").write_bytes(b"other")
    refuses(copy, "has changed")


def test_a_file_that_nobody_listed_is_refused_if_it_would_be_loaded(copy):
    (copy / ".DS_Store").write_bytes(b"harmless")
    load_bundle(copy)
    (copy / "calibrator.skops").write_bytes((copy / "preprocessing.skops").read_bytes())
    refuses(copy, r"holds calibrator.skops, which SHA256SUMS does not name")


@pytest.mark.parametrize("name", ["../outside.keras", "/etc/passwd", "other.txt"])
def test_only_known_names_are_read(copy, name):
    with (copy / "SHA256SUMS").open("a") as file:
        file.write("0" * 64 + f"  {name}\n")
    refuses(copy, "SHA256SUMS of copy is damaged")


def test_nothing_there_is_told(tmp_path):
    refuses(tmp_path / "none", "no directory is at")
    refuses(tmp_path, "has no SHA256SUMS")


# --- intent ------------------------------------------------------------------------------------------------------


def test_a_pickle_is_not_loaded(copy):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(copy / "was run"),)

    (copy / "preprocessing.skops").write_bytes(pickle.dumps(Malicious()))
    sums(copy)
    refuses(copy, "preprocessing.skops is no file of skops .*a pickle never is")
    assert not (copy / "was run").exists()


def test_a_pickle_inside_the_keras_file_is_not_loaded(copy):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(copy / "was run"),)

    buffer = io.BytesIO()
    with zipfile.ZipFile(copy / "model.keras") as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            new.writestr(entry, pickle.dumps(Malicious()) if entry == "config.json" else content)
    (copy / "model.keras").write_bytes(buffer.getvalue())
    sums(copy)
    refuses(copy, "model.keras does not load")
    assert not (copy / "was run").exists()


@pytest.mark.parametrize("function", [os.system, os.getcwd, eval])
def test_an_untrusted_type_is_named(copy, function):
    skops.io.dump(FunctionTransformer(function), copy / "preprocessing.skops")
    sums(copy)
    refuses(copy, rf"preprocessing.skops holds .*{function.__name__}, which is not on the list of trusted types")


def test_code_is_refused_when_loading_and_when_saving(copy, outside, tmp_path):
    careless = keras.Sequential(
        [keras.Input((6,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(1, activation="sigmoid")]
    )
    careless.save(copy / "model.keras")
    sums(copy)
    refuses(copy, "a Lambda layer")
    with pytest.raises(BundleError, match="a Lambda layer"):
        save_bundle(tmp_path / "careless", **{**outside, "model": careless})
    assert not (tmp_path / "careless").exists()


def edit_config(path, change):
    """Change config.json inside model.keras, and make the hashes fit."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path / "model.keras") as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            new.writestr(entry, change(content) if entry == "config.json" else content)
    (path / "model.keras").write_bytes(buffer.getvalue())
    sums(path)


def with_layer(class_name, **config):
    def change(content):
        model = json.loads(content)
        layer = {"module": "keras", "class_name": class_name, "config": config, "registered_name": None}
        model["config"]["layers"].insert(1, layer)
        return json.dumps(model).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_layer("layers.Lambda", function="sigmoid"), "a Lambda layer"),
        (with_layer("TFSMLayer", filepath="/tmp/elsewhere"), "a TFSMLayer, which loads code"),
        (with_layer("TextVectorization", vocabulary="/etc/hostname"), "a vocabulary in another file, '/etc/hostname'"),
        (lambda _: b"[" * 200_000, "no file of Keras"),
        (lambda _: b"null", "no file of Keras"),
        (lambda _: json.dumps(keras.saving.serialize_keras_object(keras.layers.Dense(1))).encode(), "."),
        (lambda _: json.dumps(keras.saving.serialize_keras_object(keras.Sequential())).encode(), "."),
    ],
)
def test_a_hostile_description_of_a_model_is_refused(copy, change, message):
    edit_config(copy, change)
    refuses(copy, message)


def test_a_loss_that_is_a_lambda_is_no_danger(outside, tmp_path):
    model = keras.models.clone_model(outside["model"])
    model.set_weights(outside["model"].get_weights())
    model.compile(loss=lambda y_true, y_pred: y_pred)
    save_bundle(tmp_path / "b", **{**outside, "model": model})


def test_sequential_and_listed_inputs_need_no_scikit_learn(tmp_path):
    frame = pd.DataFrame({"b": [1.0, 2.0, 4.0], "a": [0.5, 0.1, 0.9]})
    single = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    y_prob = single(frame[["a"]].to_numpy())
    loaded = save_bundle(tmp_path / "s", single, X_train=frame[["a"]], golden=frame[["a"]], y_prob=y_prob)
    assert loaded.predict(frame).shape == (3,)
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    both = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Concatenate()([a, 2 * b]))
    listed = keras.Model([a, b], both)
    y_prob = listed([frame[["a"]].to_numpy(), frame[["b"]].to_numpy()])
    loaded = save_bundle(tmp_path / "l", listed, X_train=frame, golden=frame, y_prob=y_prob)
    assert np.allclose(loaded.predict(frame), np.asarray(y_prob)[:, 0])


def test_unsafe_deserialisation_switched_on_elsewhere_changes_nothing(copy):
    keras.Sequential([keras.Input((6,)), keras.layers.Lambda(lambda x: x * 2)]).save(copy / "model.keras")
    sums(copy)
    state = keras.src.backend.common.global_state
    before = state.get_global_attribute("safe_mode_saving")
    keras.config.enable_unsafe_deserialization()
    try:
        refuses(copy, "a Lambda layer")
    finally:
        state.set_global_attribute("safe_mode_saving", before)


@pytest.mark.parametrize("fingerprint", ["", "abc", "0" * 63])
def test_a_fingerprint_that_is_none_is_refused(saved, fingerprint):
    refuses(saved, "64 hexadecimal digits", fingerprint=fingerprint)


def test_only_a_fingerprint_shows_that_all_was_replaced(copy, saved, outside):
    fingerprint = load_bundle(saved).fingerprint
    assert load_bundle(copy, fingerprint=f"{fingerprint.upper()}\n").fingerprint == fingerprint
    shutil.rmtree(copy)
    save_bundle(copy, **{**outside, "threshold": 0.9})
    load_bundle(copy)
    refuses(copy, "not the expected", fingerprint=fingerprint)


def test_the_trusted_types_are_a_list_that_somebody_wrote():
    assert module.TRUSTED == [
        "numpy.dtype",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.tree._tree.Tree",
    ]


# --- a schema and examples that do not fit -----------------------------------------------------------------------


def rename(path, old, new):
    for name in ("manifest.json", "golden.json"):
        text = (path / name).read_text(encoding="utf-8")
        (path / name).write_text(text.replace(f'"{old}"', f'"{new}"'), encoding="utf-8")
    sums(path)


def test_a_schema_of_other_columns_is_refused(copy):
    rename(copy, "wind", "wind_kmh")
    refuses(copy, "the schema does not fit the preprocessing: it names 'wind_kmh'")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("manifest.json", lambda content: content.pop("schema")),
        ("manifest.json", lambda content: content["schema"][0].pop("name")),
        ("manifest.json", lambda content: content.update(format=2)),
        ("manifest.json", lambda content: content.update(threshold="high")),
        ("manifest.json", lambda content: content.update(threshold=2)),
        ("manifest.json", lambda content: content.update(versions=["1"])),
        ("manifest.json", lambda content: content.update(seed={"a": 1})),
        ("manifest.json", lambda content: content.update(metrics="lots")),
        ("manifest.json", lambda content: content.update(threshold=True)),
        ("manifest.json", lambda content: content["schema"][0].update(missing="false")),
        ("manifest.json", lambda content: content["schema"][0].update(categories="abc")),
        ("manifest.json", lambda content: content["schema"][0].update(low=9e9)),
        ("manifest.json", lambda content: content["schema"][0].update(kind="foo")),
        ("manifest.json", lambda content: content["schema"][0].update(dtype="str")),
        ("manifest.json", lambda content: content["schema"][0].update(low="low")),
        ("golden.json", lambda content: content.pop("y_prob")),
        ("golden.json", lambda content: content["y_prob"].pop()),
        ("golden.json", lambda content: content.update(y_prob=[])),
        ("golden.json", lambda content: content["inputs"].pop("wind")),
        ("golden.json", lambda content: content["inputs"]["wind"].pop()),
        ("golden.json", lambda content: content["inputs"].update(wind=["x"] * 12)),
        ("golden.json", lambda content: content["y_prob"].__setitem__(0, 7.0)),
    ],
)
def test_contents_of_another_form_are_refused_with_a_sentence(copy, file, change):
    content = json.loads((copy / file).read_text(encoding="utf-8"))
    change(content)
    (copy / file).write_text(json.dumps(content), encoding="utf-8")
    sums(copy)
    refuses(copy, ".")


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"1" * 5000, b"[]", b"null"])
def test_contents_that_are_no_manifest_are_refused(copy, content):
    (copy / "manifest.json").write_bytes(content)
    sums(copy)
    refuses(copy, "no bundle of format 1")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([keras.layers.Dense(1)], "golden examples .*row 0 has no probability"),
        ([keras.layers.Dense(2, activation="softmax")], r"one probability a row; \(12, 2\) came for 12 rows"),
        ([keras.layers.Dense(3), keras.layers.Reshape((3, 1))], "one probability a row"),
    ],
)
def test_a_model_that_returns_no_probability_is_refused_with_the_reason(outside, tmp_path, layers, message):
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.set_weights([weight + 5 for weight in model.get_weights()])
    with pytest.raises(BundleError, match=message):
        save_bundle(tmp_path / "b", **{**outside, "model": model})
    with pytest.raises(TypeError, match=r"model must be a keras\.Model; got str"):
        save_bundle(tmp_path / "b", **{**outside, "model": "model"})


def test_a_calibrator_that_leaves_the_unit_interval_is_refused(outside, tmp_path):
    line = LinearRegression().fit(outside["y_prob"][:, np.newaxis], np.arange(12) * 10.0)
    with pytest.raises(BundleError, match="has no probability"):
        save_bundle(tmp_path / "b", **{**outside, "calibrator": line})


def test_a_vectorizer_takes_texts(tmp_path):
    texts = ["good film", "bad film", "", "good good"]
    vectorizer = TfidfVectorizer().fit(texts)
    features = vectorizer.transform(texts).toarray()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    y_prob = model(features).numpy()
    loaded = save_bundle(tmp_path / "b", model, X_train=texts, golden=texts, y_prob=y_prob, preprocessing=vectorizer)
    assert np.allclose(loaded.predict(pd.Series(texts, index=[5, 6, 7, 8])), y_prob[:, 0])


def test_a_scaler_that_was_fitted_on_an_array_gets_one(tmp_path, table):
    numbers = table[["count"]].astype(float)
    scaler = StandardScaler().fit(numbers.to_numpy())
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    y_prob = model(scaler.transform(numbers.to_numpy())).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        save_bundle(tmp_path / "b", model, X_train=numbers, golden=numbers, y_prob=y_prob, preprocessing=scaler)


def test_golden_examples_that_no_longer_come_out_are_counted(copy, outside):
    other = keras.models.clone_model(outside["model"])
    other.set_weights([weight * 1.01 for weight in outside["model"].get_weights()])
    other.save(copy / "model.keras")
    sums(copy)
    refuses(copy, r"of 12 golden examples do not come out as stored \(largest difference 0\.0")


def test_other_versions_are_named_when_examples_fail(copy, outside):
    content = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    content["versions"]["scikit-learn"] = "0.1"
    (copy / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    sums(copy)
    load_bundle(copy)
    test_golden = json.loads((copy / "golden.json").read_text(encoding="utf-8"))
    test_golden["y_prob"][0] = 1 - test_golden["y_prob"][0]
    (copy / "golden.json").write_text(json.dumps(test_golden), encoding="utf-8")
    sums(copy)
    refuses(copy, "Saved with scikit-learn 0.1, here")


def test_examples_of_the_wrong_path_are_refused_when_saving(outside, tmp_path):
    with pytest.raises(BundleError, match="1 of 12 golden examples do not come out as stored"):
        wrong = outside["y_prob"].copy()
        wrong[3] += 1e-3
        save_bundle(tmp_path / "wrong", **{**outside, "y_prob": wrong})
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_save_that_is_killed_leaves_nothing_that_loads(outside, tmp_path, monkeypatch):
    """Stopped after each file in turn, as by a power cut: no clean-up runs."""
    monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(module, "load_bundle", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_bundle(tmp_path / "torn", **outside)
    monkeypatch.undo()
    assert not (tmp_path / "torn").exists()
    (draft,) = tmp_path.iterdir()
    assert draft.name.startswith(".torn.")
    for name in reversed(FILES[1:]):
        shutil.copytree(draft, tmp_path / f"without {name}")
        (tmp_path / f"without {name}" / name).unlink()
        refuses(tmp_path / f"without {name}", "lacks")
    (draft / "SHA256SUMS").unlink()
    refuses(draft, "never finished")


# --- rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="wind"), "the rows lack 'wind'; they have: count, town"),
        (lambda rows: rows.assign(wind="12"), "'wind' takes finite numbers; got '12'"),
        (lambda rows: rows.assign(wind=np.inf), "'wind' takes finite numbers; got inf"),
        (lambda rows: rows.assign(wind=1 + 2j), "'wind' takes finite numbers"),
        (lambda rows: rows.assign(wind=pd.Timestamp("2026-01-01")), "'wind' takes finite numbers"),
        (lambda rows: rows.assign(wind=10**400), "'wind' takes finite numbers"),
        (lambda rows: rows.assign(town=7), r"'town' takes str of valid Unicode; got 7 \(int\)"),
        (lambda rows: rows.assign(town=b"Bonn"), r"'town' takes str of valid Unicode; got b'Bonn' \(bytes\)"),
        (lambda rows: rows.iloc[0].to_dict(), "raw inputs are a batch"),
        (lambda rows: "Bonn", "raw inputs are a batch"),
        (lambda rows: 3, "raw inputs are a batch"),
        (lambda rows: rows["town"].fillna("").tolist(), "the rows lack 'wind'"),
        (lambda rows: [*rows.to_dict("records"), {"wind": 1.0}], "row 3 has other keys than row 0"),
        (lambda rows: rows.assign(town="\ud800"), "'town' takes str of valid Unicode"),
        (lambda rows: rows.assign(wind=[[1], [2], [3]]), "'wind' takes finite numbers"),
        (lambda rows: pd.concat([rows, rows[["wind"]]], axis=1), "the column 'wind' is there twice"),
    ],
)
def test_rows_that_do_not_fit_are_refused(saved, table, change, message):
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(saved).predict(change(table.iloc[:3].copy()))
    assert "\n" not in str(caught.value)


def test_rows_that_fit_are_taken_in_any_form(saved, table):
    loaded = load_bundle(saved)
    rows = table.iloc[:10]
    expected = loaded.predict(rows)
    assert expected.shape == (10,)
    assert np.array_equal(loaded.predict(rows[["town", "count", "wind"]].assign(extra=1)), expected)
    assert np.array_equal(loaded.predict(rows.to_dict("records")), expected)
    assert np.array_equal(loaded.predict(rows.astype(object).where(rows.notna(), None)), expected)
    assert np.array_equal(loaded.predict(rows.assign(town=rows["town"].astype("category"))), expected)
    assert np.array_equal(loaded.predict(rows.set_index(pd.Index(list("abcdefghij")))), expected)
    assert np.allclose(np.concatenate([loaded.predict(rows[row : row + 1]) for row in range(10)]), expected)
    assert loaded.predict(rows[:0]).shape == (0,)


def test_what_training_never_saw_is_told(saved, table):
    loaded = load_bundle(saved)
    assert loaded.unseen(table) == []
    strange = table.iloc[:3].assign(wind=[1e6, 10, 10], town=["Rom", "Bonn", "Ulm"], count=[1, np.nan, 2])
    sentences = loaded.unseen(strange)
    assert len(sentences) == 3
    assert "1 outside" in sentences[0] and "1000000.0" in sentences[0]
    assert "'count': 1 missing" in sentences[1]
    assert "1 not among the categories of training, such as 'Rom'" in sentences[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 2}, "threshold must lie in"),
        ({"y_prob": np.zeros(3)}, "same length"),
        ({"y_prob": np.full(12, 2.0)}, r"must lie in \[0, 1\]"),
        ({"golden": pd.DataFrame({"wind": [1.0] * 12})}, "golden lacks 'count', 'town'"),
        ({"X_train": pd.DataFrame()}, "X_train has no rows"),
        ({"metrics": {"auc": np.nan}}, "metrics"),
        ({"threshold": "high"}, "threshold must lie in"),
        ({"golden": pd.Series(["a"] * 12, index=range(5, 17))}, "golden lacks"),
    ],
)
def test_arguments_that_make_no_bundle_are_refused(outside, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        save_bundle(tmp_path / "b", **{**outside, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_process_loads_it(saved, table, tmp_path):
    expected = load_bundle(saved).predict(table)
    script = (
        "import sys, json, pandas as pd\nfrom helpers.bundle import load_bundle\n"
        "print(json.dumps(load_bundle(sys.argv[1]).predict(pd.read_json(sys.argv[2])).tolist()))"
    )
    table.to_json(tmp_path / "rows.json", double_precision=15)
    done = subprocess.run(
        [sys.executable, "-c", script, saved, tmp_path / "rows.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert np.allclose(json.loads(done.stdout), expected, atol=1e-6)
