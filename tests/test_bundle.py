import hashlib
import json
import os
import pickle
import shutil
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
import skops.io
import tensorflow as tf
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from helpers import bundle as module
from helpers.bundle import BundleError, Field, load_bundle, save_bundle

FILES = ["SHA256SUMS", "golden.json", "manifest.json", "model.keras", "preprocessing.skops"]


def sigmoid(width, *before):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((width,)), *before, keras.layers.Dense(1, activation="sigmoid")])


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"wind": rng.normal(10, 3, 120), "count": rng.integers(0, 9, 120)})
    frame["town"] = rng.choice(["Bonn", "Köln", "Ulm"], 120).astype(object)
    frame.loc[::9, "wind"] = frame.loc[::11, "town"] = np.nan
    return frame


@pytest.fixture(scope="module")
def outside(table):
    """The arguments of a bundle with scikit-learn in front."""
    words = make_pipeline(SimpleImputer(strategy="constant", fill_value=""), OneHotEncoder(handle_unknown="ignore"))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    preprocessing = ColumnTransformer([("n", numbers, ["wind", "count"]), ("w", words, ["town"])]).fit(table)
    model, golden = sigmoid(6), table.iloc[:12]
    rest = {"threshold": 0.3, "seed": 7, "metrics": {"auc": 0.5}, "X_train": table, "golden": golden}
    y_prob = model(preprocessing.transform(golden)).numpy()[:, 0]
    return {"model": model, "preprocessing": preprocessing, "y_prob": y_prob, **rest}


@pytest.fixture(scope="module")
def saved(outside, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "weather"
    save_bundle(path, **outside)
    return path


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def sums(path):
    """Write SHA256SUMS anew, as somebody would who changes a bundle on purpose."""
    files = sorted(file for file in path.iterdir() if file.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (path / "SHA256SUMS").write_text("".join(lines), newline="\n")


def refuses(path, message, **options):
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(path, **options)
    assert "\n" not in str(caught.value)


# --- a bundle that is whole --------------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved(saved, outside, table):
    loaded = load_bundle(saved)
    assert sorted(file.name for file in saved.iterdir()) == FILES
    y_prob = outside["model"](outside["preprocessing"].transform(table)).numpy()[:, 0]
    np.testing.assert_allclose(loaded.predict(table), y_prob, rtol=0, atol=1e-7)
    assert (loaded.threshold, loaded.seed, loaded.metrics) == (0.3, 7, {"auc": 0.5})
    assert loaded.replay().same
    assert [*loaded.schema] == [Field.of(table[name]) for name in table]


def test_a_text_model_takes_strings(tmp_path):
    texts = [f"good film number {number}" for number in range(50)] + ["", "caf\u00e9 \u0085"]
    vectorize = keras.layers.TextVectorization(vocabulary=["good", "film"], output_mode="multi_hot")
    raw = keras.Input((), dtype="string", name="anything")
    model = keras.Model(raw, {"probability": keras.layers.Dense(1, activation="sigmoid")(vectorize(raw))})
    y_prob = model(np.array(texts, dtype=object))["probability"].numpy()
    loaded = save_bundle(tmp_path / "texts", model, X_train=texts, golden=texts, y_prob=y_prob)
    assert np.allclose(loaded.predict(texts), y_prob[:, 0])
    assert "outside 0 to 19 characters" in loaded.unseen(["x" * 99])[0]


@pytest.mark.filterwarnings("error::UserWarning")
def test_what_was_fitted_without_names_gets_one_column_of_texts_or_an_array(tmp_path, table):
    texts = pd.DataFrame({"text": table["town"].fillna("") + " is a town"})
    for rows, part in ((texts, TfidfVectorizer()), (table[["count"]].astype(float), StandardScaler())):
        taken = part.fit_transform(rows["text"] if "text" in rows else rows.to_numpy())
        model = sigmoid(taken.shape[1])
        options = {"y_prob": model(getattr(taken, "toarray", lambda x=taken: x)()), "preprocessing": part}
        loaded = save_bundle(tmp_path / rows.columns[0], model, X_train=rows, golden=rows, **options)
        assert np.allclose(loaded.predict(rows), options["y_prob"][:, 0])


def test_a_model_of_named_columns_needs_no_scikit_learn(tmp_path, table):
    town = keras.Input((), dtype="string", name="town")
    wind, count = (keras.Input((), name=name) for name in ("wind", "count"))
    numbers = keras.ops.stack([keras.ops.where(keras.ops.isnan(wind), 0.0, wind), count], axis=1)
    words = keras.layers.StringLookup(vocabulary=["Bonn", "Köln"], output_mode="multi_hot")(town[:, None])
    y = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Concatenate()([numbers, words]))
    rows = {name: tf.constant(table[name].fillna("" if name == "town" else np.nan)) for name in table}
    listed, named = keras.Model([town, wind, count], y), keras.Model({"town": town, "wind": wind, "count": count}, y)
    for name, model in (("listed", listed), ("named", named)):
        y_prob = named(rows).numpy()
        loaded = save_bundle(tmp_path / name, model, X_train=table, golden=table, y_prob=y_prob)
        assert np.allclose(loaded.predict(table[["town", "wind", "count"]]), y_prob[:, 0])


def test_a_calibrator_or_a_classifier_comes_after_the_model(tmp_path, outside):
    raw = outside["y_prob"][:, np.newaxis].astype(float)
    methods = ("sigmoid", "isotonic", "temperature")
    parts = [CalibratedClassifierCV(LogisticRegression(), cv=2, method=method) for method in methods]
    several = [(outside["model"], raw, part) for part in (*parts, IsotonicRegression(), GaussianNB())]
    # A stack: the features of a network, and a classifier that has learned from them.
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    codes = model(outside["preprocessing"].transform(outside["golden"])).numpy()
    several.append((model, codes, make_pipeline(StandardScaler(), LogisticRegression())))
    for number, (model, x, part) in enumerate(several):
        part.fit(x, np.arange(12) % 2)
        prob = part.predict_proba(x)[:, 1] if hasattr(part, "predict_proba") else part.predict(x)
        loaded = save_bundle(tmp_path / str(number), **{**outside, "model": model, "calibrator": part, "y_prob": prob})
        assert np.allclose(loaded.predict(outside["golden"]), prob)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_or_a_missing_file_is_refused_before_anything_is_deserialised(copy, name, monkeypatch):
    for place, function in ((module.skops.io, "loads"), (module.keras.saving, "load_model")):
        monkeypatch.setattr(place, function, lambda *_, **__: pytest.fail("deserialised"))
    content, listing = (copy / name).read_bytes(), name == "SHA256SUMS"
    for number, at in enumerate(np.linspace(0, len(content) - 1, 48).astype(int)):
        (copy / name).write_bytes(content[:at] + bytes([content[at] ^ 1 << number % 8]) + content[at + 1 :])
        refuses(
            copy, "damaged|has changed|lacks" if listing else f"{name} of copy, or its line in SHA256SUMS, has changed"
        )
    (copy / name).unlink()
    refuses(copy, "no bundle, or one that was never finished" if listing else f"lacks {name}")


def test_only_listed_files_of_a_bundle_are_read(copy):
    shutil.copy(copy / "preprocessing.skops", copy / "calibrator.skops")
    assert load_bundle(copy).calibrator is None
    lines = (copy / "SHA256SUMS").read_text().splitlines()
    for name in ("../outside.keras", "/etc/passwd", "other.txt"):
        listed = sorted([*lines, "0" * 64 + f"  {name}"], key=lambda line: line[66:])
        (copy / "SHA256SUMS").write_text("".join(f"{line}\n" for line in listed))
        refuses(copy, "SHA256SUMS of copy is damaged: it names files that no bundle has")
    refuses(copy / "none", "no directory is at")


def test_a_file_that_is_gone_is_named_with_hashes_that_fit_too(copy, saved):
    for name in FILES[1:]:
        (copy / name).unlink()
        sums(copy)
        part = name == "preprocessing.skops"
        refuses(
            copy, "takes 'input.*'; there is no preprocessing.skops" if part else f"damaged: it does not name {name}"
        )
        shutil.copy(saved / name, copy / name)
    sums(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    put(copy, "manifest.json", manifest | {"schema": manifest["schema"][1:]})
    refuses(copy, r"the schema does not fit the preprocessing: .*'town'\.$")


# --- intent ------------------------------------------------------------------------------------------------------


def put(path, name, content):
    """Change a file, or config.json in model.keras, and make the hashes fit."""
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    if name == "config.json":
        with zipfile.ZipFile(path / "model.keras", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(name, content)
    else:
        (path / name).write_bytes(content)
    sums(path)


class Malicious:
    def __reduce__(self):
        return pytest.fail, ("run",)


def test_a_pickle_and_untrusted_types_are_not_loaded(copy):
    not_loaded = r"^model.keras: it cannot be loaded, save it again \("
    several = (("config.json", not_loaded), ("model.keras", not_loaded), ("preprocessing.skops", "a pickle never is"))
    for name, message in several:
        put(copy, name, pickle.dumps(Malicious()))
        refuses(copy, message)
    skops.io.dump(FunctionTransformer(os.system), copy / "preprocessing.skops")
    sums(copy)
    refuses(copy, r"preprocessing.skops holds .*system, which is not on the list of trusted types")


def test_a_hostile_model_is_refused_whatever_keras_is_told_elsewhere(copy, outside):
    model = keras.saving.serialize_keras_object(outside["model"])
    whole = model["config"]["layers"]
    for name, config, message in (
        ("layers.Lambda", {"function": "sigmoid"}, "^model.keras: it is not loaded, as it holds .* a Lambda layer"),
        ("Dense", {"activation": {"value": ["4wEA", None, None]}}, "a Python function as activation"),
        ("TFSMLayer", {"filepath": "/tmp/elsewhere"}, "a TFSMLayer, which loads code"),
        ("TextVectorization", {"vocabulary": "/etc/hostname"}, "a vocabulary in another file, '/etc/hostname'"),
        ("NoSuchLayer", {}, "^model.keras: it cannot be loaded, save it again .*NoSuchLayer"),
    ):
        layer = {"module": "keras", "class_name": name, "config": config, "registered_name": None}
        model["config"]["layers"] = [whole[0], layer, *whole[1:]]
        put(copy, "config.json", model)
        with keras.src.saving.serialization_lib.SafeModeScope(False):
            refuses(copy, message)


def layers(*more):
    """Change the layers of a model's description: what comes before its last one."""

    def change(model):
        first, *_, last = model["config"]["layers"]
        made = [{"module": "keras.layers", "class_name": name, "config": config} for name, config in more]
        model["config"]["layers"] = [first, *made, last]

    return change


def free(model):
    """Leave the input's size free, and with it that of what comes after."""
    layers(("Reshape", {"target_shape": [-1, 6]}), ("UpSampling1D", {"size": 10**9}), ("GlobalMaxPooling1D", {}))(model)
    model["config"]["layers"][0]["config"]["batch_shape"] = [None, None]


FORGED = {
    "units": lambda model: model["config"]["layers"][-1]["config"].update(units=10**9),
    "outputs": layers(("RepeatVector", {"n": 10**8}), ("GlobalAveragePooling1D", {})),
    "free sizes": free,
    "lookup": layers(("IntegerLookup", {"num_oov_indices": 10**8, "vocabulary": [1]})),
    "unroll": layers(("RepeatVector", {"n": 3000}), ("LSTM", {"units": 2, "unroll": True})),
    "layers": layers(*[("Activation", {"activation": "relu"})] * 110),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_model_that_would_be_large_is_refused_before_it_is_made(copy, outside, name, monkeypatch):
    make = keras.initializers.GlorotUniform.__call__

    def small(initializer, shape, **options):
        assert np.prod(shape) < 10**6, "made"
        return make(initializer, shape, **options)

    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", small)
    model = json.loads(json.dumps(keras.saving.serialize_keras_object(outside["model"])))
    FORGED[name](model)
    put(copy, "config.json", model)
    refuses(copy, "at most 150,000,000 are read|holds a lookup with|holds a Sequential of more than 100 layers")


def test_archives_and_texts_are_measured_before_they_are_read(copy, monkeypatch):
    several = (("BYTES", 2_000), ("TEXT", 20), ("OBJECTS", 2), ("CATEGORIES", 2))
    for limit, value in several:
        with monkeypatch.context() as patch:
            patch.setattr(module, f"MOST_{limit}", value)
            refuses(copy, rf"at most {value:,} are read|preprocessing.skops is no file of skops")
    with zipfile.ZipFile(copy / "preprocessing.skops", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.npz", bytes(module.MOST_BYTES + 1))
    # An archive opens behind other bytes too.
    (copy / "preprocessing.skops").write_bytes(b"x" + (copy / "preprocessing.skops").read_bytes())
    sums(copy)
    monkeypatch.setattr(module.skops.io, "loads", lambda *_, **__: pytest.fail("read"))
    refuses(copy, "preprocessing.skops is no file of skops and is not loaded")
    with (copy / "golden.json").open("r+b") as file:
        file.truncate(20 * 10**9)
    refuses(copy, "at most 150,000,000 are read")


def test_an_activation_without_foreign_code_is_read(tmp_path, outside):
    activations = ("relu", keras.layers.LeakyReLU(), keras.ops.softplus)
    model = sigmoid(6, *(keras.layers.Dense(3, activation=of) for of in activations))
    y_prob = model(outside["preprocessing"].transform(outside["golden"])).numpy()[:, 0]
    save_bundle(tmp_path / "b", **{**outside, "model": model, "y_prob": y_prob})
    written = sigmoid(6, keras.layers.Dense(3, activation=lambda x: x))
    with pytest.raises(BundleError, match="a Python function as activation"):
        save_bundle(tmp_path / "c", **{**outside, "model": written})


def test_a_model_whose_layers_bring_their_own_arrays_is_read(tmp_path, outside):
    norm = keras.layers.Normalization(mean=[0.5] * 6, variance=[2.0] * 6)
    model = sigmoid(6, norm)
    y_prob = model(outside["preprocessing"].transform(outside["golden"])).numpy()[:, 0]
    save_bundle(tmp_path / "b", **{**outside, "model": model, "y_prob": y_prob})
    assert load_bundle(tmp_path / "b").model.count_params() == model.count_params()


def test_a_long_name_is_no_other_exception(outside, tmp_path):
    save_bundle(tmp_path / ("b" * 250), **outside)
    refuses(tmp_path / ("b" * 300), "is no bundle that can be loaded")
    with pytest.raises(BundleError, match="cannot be written: File name too long"):
        save_bundle(tmp_path / ("b" * 300), **outside)


def test_only_a_fingerprint_shows_that_all_was_replaced(copy, outside):
    fingerprint = load_bundle(copy).fingerprint
    assert load_bundle(copy, fingerprint=f"{fingerprint.upper()}\n").fingerprint == fingerprint
    with pytest.raises(BundleError, match="exists, and a bundle is never overwritten"):
        save_bundle(copy, **outside)
    sums(copy)
    assert load_bundle(copy).fingerprint == fingerprint, "of the form that sha256sum has"
    shutil.rmtree(copy)
    save_bundle(copy, **{**outside, "threshold": 0.9})
    load_bundle(copy)
    for expected in (fingerprint, "", "abc", 123, b"abc"):
        refuses(copy, "not the expected", fingerprint=expected)


# --- contents that do not fit ------------------------------------------------------------------------------------


def test_contents_that_contradict_themselves_are_refused_with_a_sentence(copy):
    manifest, golden = (json.loads((copy / name).read_text()) for name in ("manifest.json", "golden.json"))
    wrong = [("format", 2), ("threshold", 2), ("threshold", True), ("seed", {}), ("metrics", "lots"), ("versions", [1])]
    fields = [("missing", "false"), ("categories", "abc"), ("kind", "foo"), ("dtype", "str"), ("name", 1), ("low", 9e9)]
    wrong += [("schema", [manifest["schema"][0] | {name: value}, *manifest["schema"][1:]]) for name, value in fields]
    several = [("y_prob", golden["y_prob"][1:]), ("inputs", golden["inputs"] | {"wind": ["x"] * 12})]
    several.append(("inputs", {name.replace("w", "v"): values for name, values in golden["inputs"].items()}))
    for file, content, changes in (("manifest.json", manifest, wrong), ("golden.json", golden, several)):
        for name, value in changes:
            put(copy, file, content | {name: value})
            named = {
                "y_prob": "12 rows and 11 y_prob",
                "inputs": "breaks the schema: ('wind' takes|the rows lack 'wind')",
            }
            refuses(copy, f"^golden.json (has )?{named[name]}" if name in named else ".")
        put(copy, file, dict(list(content.items())[1:]))
        refuses(copy, "copy is no bundle that can be loaded, save it again")
        put(copy, file, content)
        load_bundle(copy)


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"1" * 5000, b"null"])
@pytest.mark.parametrize("name", FILES[1:])
def test_every_exception_is_a_bundle_error(copy, name, content, monkeypatch):
    put(copy, name, content)
    # Of null, which is JSON, the next line complains.
    where = "copy is no bundle that can" if content == b"null" and "json" in name else f"^{name}: it cannot"
    refuses(copy, f"{where} be loaded, save it again" if "skops" not in name else "no file of skops")
    monkeypatch.setattr(module.json, "loads", lambda _: (_ for _ in ()).throw(MemoryError("too large\nby far")))
    refuses(copy, r"^manifest.json: it cannot be loaded, save it again \(MemoryError: too large\)")


def test_golden_examples_that_no_longer_come_out_are_counted_and_other_versions_named(copy):
    manifest, golden = (json.loads((copy / name).read_text()) for name in ("manifest.json", "golden.json"))
    put(copy, "manifest.json", manifest | {"versions": manifest["versions"] | {"skops": "0.1"}})
    load_bundle(copy)
    put(copy, "golden.json", golden | {"y_prob": [min(value + 0.01, 1) for value in golden["y_prob"]]})
    refuses(copy, r"of 12 golden examples do not come out as stored \(largest difference 0\.0.*skops 0\.1, here")


def test_arguments_that_make_no_bundle_are_refused_and_nothing_is_left(outside, tmp_path):
    for name, value, message in (
        ("threshold", 2, "threshold must lie in"),
        ("y_prob", np.full(12, 0.5), "12 of 12 golden examples do not come out as stored"),
        ("calibrator", LinearRegression().fit(np.eye(12)[:, :1], np.arange(12)), "has no probability"),
        ("model", keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)]), r"\(12, 2\) came for 12 rows"),
        ("model", sigmoid(6, keras.layers.Lambda(lambda x: x * 2)), "a Lambda layer"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            save_bundle(tmp_path / "b", **{**outside, name: value})
    assert list(tmp_path.iterdir()) == []


# --- rows --------------------------------------------------------------------------------------------------------


def test_rows_that_do_not_fit_are_refused(saved, table):
    loaded, rows = load_bundle(saved), table.iloc[:3]
    for wrong, message in (
        (rows.drop(columns="wind"), "the rows lack 'wind'; they have: count, town"),
        (rows.assign(wind="12"), r"'wind' takes finite numbers; got '12'\."),
        *((rows.assign(wind=value), "'wind' takes finite numbers") for value in (np.inf, 1 + 2j, 10**400)),
        (rows.assign(town=7), r"'town' takes str of valid Unicode; got 7 \(int\)"),
        (rows.iloc[0].to_dict(), "raw inputs are a batch"),
    ):
        with pytest.raises(BundleError, match=message):
            loaded.predict(wrong)


def test_rows_that_fit_are_taken_in_any_form(saved, table, monkeypatch):
    loaded, rows = load_bundle(saved), table.iloc[:10]
    expected = loaded.predict(rows)
    for same in (
        rows[["town", "count", "wind"]].assign(extra=1),
        rows.to_dict("records"),
        rows.astype(object).where(rows.notna(), None),
        rows.assign(town=rows["town"].astype("category"), wind=rows["wind"].astype("Float64")),
        rows.assign(count=pd.Series([*map(np.float32, rows["count"])], rows.index, dtype=object)),
    ):
        assert np.array_equal(loaded.predict(same), expected)
    monkeypatch.setattr(module, "CHUNK", 3)
    assert np.allclose([*loaded.predict(rows), *loaded.predict(rows[:0])], expected)


def test_what_training_never_saw_is_told(saved, table):
    loaded = load_bundle(saved)
    assert loaded.unseen(table) == []
    strange = table.iloc[:3].assign(wind=10, count=[9, np.nan, 2], town=["Rom", "Bonn", "Ulm"])
    town = "'town': 1 not among the categories of training, such as 'Rom'"
    assert loaded.unseen(strange) == ["'count': 2 outside 0 to 8, such as 9.0", town]
