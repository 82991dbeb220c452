import hashlib
import json
import os
import pickle
import shutil
import subprocess
import warnings
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
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from helpers import bundle as module
from helpers.bundle import BundleError, Field, load_bundle, save_bundle

FILES = ["SHA256SUMS", "golden.json", "manifest.json", "model.keras", "preprocessing.skops"]


def sigmoid(width, *before):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((width,)), *before, keras.layers.Dense(1, activation="sigmoid")])


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    numbers = {"wind": rng.normal(10, 3, 120), "count": rng.integers(0, 9, 120)}
    frame = pd.DataFrame({**numbers, "town": rng.choice(["Bonn", "Köln", "Ulm"], 120).astype(object)})
    frame.loc[::9, "wind"] = frame.loc[::11, "town"] = np.nan
    return frame


@pytest.fixture(scope="module")
def outside(table):
    """The arguments of a bundle with scikit-learn in front."""
    words = make_pipeline(SimpleImputer(strategy="constant", fill_value=""), OneHotEncoder(handle_unknown="ignore"))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    preprocessing = ColumnTransformer([("n", numbers, ["wind", "count"]), ("w", words, ["town"])]).fit(table)
    model, golden = sigmoid(6), table.iloc[:12]
    rest = {"y_prob": model(preprocessing.transform(golden)).numpy()[:, 0], "threshold": 0.3, "seed": 7}
    fixed = {"model": model, "preprocessing": preprocessing, "X_train": table, "golden": golden}
    return {**fixed, **rest, "metrics": {"auc": 0.5}}


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
    assert loaded.versions["keras"] == keras.__version__
    assert loaded.replay().same
    assert [*loaded.schema] == [Field.of(table[name]) for name in table]
    assert (loaded.schema[0].low, loaded.schema[0].high) == (table["wind"].min(), table["wind"].max())
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=saved, check=True, capture_output=True)


def test_a_text_model_takes_strings(tmp_path):
    texts = [f"good film number {number}" for number in range(50)] + ["", "caf\u00e9 \u0085"]
    vectorize = keras.layers.TextVectorization(vocabulary=["good", "film"], output_mode="multi_hot")
    raw = keras.Input((), dtype="string", name="anything")
    model = keras.Model(raw, {"probability": keras.layers.Dense(1, activation="sigmoid")(vectorize(raw))})
    y_prob = model(np.array(texts, dtype=object))["probability"].numpy()
    loaded = save_bundle(tmp_path / "texts", model, X_train=texts, golden=texts, y_prob=y_prob)
    for same in (texts, pd.Series(texts), pd.DataFrame({"text": texts})):
        assert np.allclose(loaded.predict(same), y_prob[:, 0])
    assert "outside 0 to 19 characters" in loaded.unseen(["x" * 99])[0]
    with pytest.raises(BundleError, match=r"'text' takes str of valid Unicode; got b'a' \(bytes\)"):
        loaded.predict([b"a"])


def test_what_was_fitted_without_names_gets_one_column_of_texts_or_an_array(tmp_path, table):
    texts = pd.DataFrame({"text": table["town"].fillna("") + " is a town"})
    for rows, part in ((texts, TfidfVectorizer()), (table[["count"]].astype(float), StandardScaler())):
        taken = part.fit_transform(rows["text"] if "text" in rows else rows.to_numpy())
        model = sigmoid(taken.shape[1])
        options = {"y_prob": model(getattr(taken, "toarray", lambda x=taken: x)()), "preprocessing": part}
        with warnings.catch_warnings(action="error", category=UserWarning):
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


def test_a_calibrator_comes_after_the_model(tmp_path, outside):
    raw = outside["y_prob"][:, np.newaxis].astype(float)
    methods = ("sigmoid", "isotonic", "temperature")
    several = [CalibratedClassifierCV(LogisticRegression(), cv=2, method=method) for method in methods]
    for number, calibrator in enumerate([*several, IsotonicRegression(), DecisionTreeClassifier(max_depth=2)]):
        calibrator.fit(raw, np.arange(12) % 2)
        prob = calibrator.predict_proba(raw)[:, 1] if hasattr(calibrator, "predict_proba") else calibrator.predict(raw)
        loaded = save_bundle(tmp_path / str(number), **{**outside, "calibrator": calibrator, "y_prob": prob})
        assert np.allclose(loaded.predict(outside["golden"]), prob)


def test_a_stack_is_one_bundle(tmp_path, outside, table):
    """The features of a network, and a classifier that has learned from them."""
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    codes = model(outside["preprocessing"].transform(table)).numpy()
    after = make_pipeline(StandardScaler(), LogisticRegression()).fit(codes, np.arange(len(table)) % 2)
    y_prob = after.predict_proba(codes)[:, 1]
    save_bundle(tmp_path / "b", **{**outside, "model": model, "calibrator": after, "y_prob": y_prob[:12]})
    np.testing.assert_allclose(load_bundle(tmp_path / "b").predict(table), y_prob, rtol=0, atol=1e-6)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_or_a_missing_file_is_refused_before_anything_is_deserialised(copy, name, monkeypatch):
    for place, function in ((module.skops.io, "loads"), (module.keras.saving, "load_model")):
        monkeypatch.setattr(place, function, lambda *_, **__: pytest.fail("deserialised"))
    content, listing = (copy / name).read_bytes(), name == "SHA256SUMS"
    for position in np.linspace(0, len(content) - 1, 25).astype(int):
        for bit in (1, 32):
            (copy / name).write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
            refuses(copy, "damaged|has changed|lacks" if listing else f"{name} of copy has changed")
    (copy / name).unlink()
    refuses(copy, "no bundle, or one that was never finished" if listing else f"lacks {name}")


def test_only_listed_files_of_a_bundle_are_read(copy):
    shutil.copy(copy / "preprocessing.skops", copy / "calibrator.skops")
    assert load_bundle(copy).calibrator is None
    lines = (copy / "SHA256SUMS").read_text().splitlines()
    for name in ("../outside.keras", "/etc/passwd", "other.txt"):
        listed = sorted([*lines, "0" * 64 + f"  {name}"], key=lambda line: line[66:])
        (copy / "SHA256SUMS").write_text("".join(f"{line}\n" for line in listed))
        refuses(copy, "SHA256SUMS of copy is damaged")
    refuses(copy / "none", "no directory is at")


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


def test_a_pickle_is_not_loaded(copy):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(copy / "was run"),)

    for name, message in (
        ("config.json", "no bundle that can be loaded"),
        ("preprocessing.skops", "a pickle never is"),
    ):
        put(copy, name, pickle.dumps(Malicious()))
        refuses(copy, message)
    assert not (copy / "was run").exists()


def test_an_untrusted_type_is_named(copy):
    for function in (os.system, eval):
        skops.io.dump(FunctionTransformer(function), copy / "preprocessing.skops")
        sums(copy)
        refuses(copy, rf"preprocessing.skops holds .*{function.__name__}, which is not on the list of trusted types")
    assert len(module.TRUSTED) == 5 and not [name for name in module.TRUSTED if "os" in name.split(".")]


def test_a_hostile_model_is_refused_whatever_keras_is_told_elsewhere(copy):
    with zipfile.ZipFile(copy / "model.keras") as archive:
        model = json.loads(archive.read("config.json"))
    whole = model["config"]["layers"]
    for name, config, message in (
        ("layers.Lambda", {"function": "sigmoid"}, "a Lambda layer"),
        ("TFSMLayer", {"filepath": "/tmp/elsewhere"}, "a TFSMLayer, which loads code"),
        ("TextVectorization", {"vocabulary": "/etc/hostname"}, "a vocabulary in another file, '/etc/hostname'"),
        ("NoSuchLayer", {}, "save it again .*NoSuchLayer"),
    ):
        layer = {"module": "keras", "class_name": name, "config": config, "registered_name": None}
        model["config"]["layers"] = [whole[0], layer, *whole[1:]]
        put(copy, "config.json", model)
        with keras.src.saving.serialization_lib.SafeModeScope(False):
            refuses(copy, message)
    put(copy, "config.json", keras.saving.serialize_keras_object(keras.Sequential()))
    refuses(copy, "no model with known inputs")


def test_only_a_fingerprint_shows_that_all_was_replaced(copy, outside):
    fingerprint = load_bundle(copy).fingerprint
    assert load_bundle(copy, fingerprint=f"{fingerprint.upper()}\n").fingerprint == fingerprint
    with pytest.raises(BundleError, match="exists, and a bundle is never overwritten"):
        save_bundle(copy, **outside)
    assert load_bundle(copy).fingerprint == fingerprint
    shutil.rmtree(copy)
    save_bundle(copy, **{**outside, "threshold": 0.9})
    load_bundle(copy)
    for expected in (fingerprint, "", "abc"):
        refuses(copy, "not the expected", fingerprint=expected)


# --- contents that do not fit ------------------------------------------------------------------------------------


def test_contents_that_contradict_themselves_are_refused_with_a_sentence(copy):
    manifest, golden = (json.loads((copy / name).read_text()) for name in ("manifest.json", "golden.json"))
    wrong = [("format", 2), ("threshold", 2), ("threshold", True), ("seed", {}), ("metrics", "lots"), ("versions", [1])]
    fields = [("missing", "false"), ("categories", "abc"), ("kind", "foo"), ("dtype", "str"), ("name", 1), ("low", 9e9)]
    wrong += [("schema", [manifest["schema"][0] | {name: value}, *manifest["schema"][1:]]) for name, value in fields]
    inputs, y_prob = golden["inputs"], golden["y_prob"]
    several = [("y_prob", y_prob[1:]), ("y_prob", [7.0, *y_prob[1:]]), ("inputs", inputs | {"wind": ["x"] * 12})]
    several += [("inputs", inputs | {"wind": inputs["wind"][1:]}), ("inputs", {"wind": inputs["wind"]})]
    for file, content, changes in (("manifest.json", manifest, wrong), ("golden.json", golden, several)):
        for name, value in changes:
            put(copy, file, content | {name: value})
            refuses(copy, ".")
        put(copy, file, dict(list(content.items())[1:]))
        refuses(copy, "copy is no bundle that can be loaded, save it again")
        put(copy, file, content)
    load_bundle(copy)
    put(copy, "golden.json", {"inputs": {name: [] for name in inputs}, "y_prob": []})
    refuses(copy, "save it again")
    put(copy, "golden.json", golden | {"inputs": inputs | {"gust": inputs["wind"]}})
    put(copy, "manifest.json", json.dumps(manifest).replace('"wind"', '"gust"').encode())
    refuses(copy, "the schema does not fit the preprocessing: it names 'gust', 'count', 'town'")


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"1" * 5000, b"null"])
@pytest.mark.parametrize("name", FILES[1:])
def test_every_exception_is_a_bundle_error(copy, name, content, monkeypatch):
    put(copy, name, content)
    refuses(copy, "copy is no bundle that can be loaded, save it again" if "skops" not in name else "no file of skops")
    refuses(copy / ("x" * 300), "File name too long")
    monkeypatch.setattr(module.json, "loads", lambda _: (_ for _ in ()).throw(MemoryError("too large\nby far")))
    refuses(copy, r"no bundle that can be loaded, save it again \(MemoryError: too large\)")


def test_golden_examples_that_no_longer_come_out_are_counted_and_other_versions_named(copy, outside):
    manifest = json.loads((copy / "manifest.json").read_text())
    put(copy, "manifest.json", manifest | {"versions": manifest["versions"] | {"skops": "0.1"}})
    load_bundle(copy)
    other = keras.models.clone_model(outside["model"])
    other.set_weights([weight * 1.01 for weight in outside["model"].get_weights()])
    other.save(copy / "model.keras")
    sums(copy)
    refuses(copy, r"of 12 golden examples do not come out as stored \(largest difference 0\.0.*skops 0\.1, here")


def test_arguments_that_make_no_bundle_are_refused_and_nothing_is_left(outside, tmp_path):
    for name, value, message in (
        ("threshold", 2, "threshold must lie in"),
        ("model", "model", r"model must be a keras\.Model; got str"),
        ("y_prob", np.zeros(3), "same length"),
        ("y_prob", np.full(12, 0.5), "12 of 12 golden examples do not come out as stored"),
        ("golden", pd.DataFrame({"wind": [1.0] * 12}), "the rows lack 'count', 'town'"),
        ("X_train", pd.DataFrame(), "X_train has no rows"),
        ("metrics", {"auc": np.nan}, "auc must be finite"),
        ("calibrator", LinearRegression().fit(np.eye(12)[:, :1], np.arange(12)), "has no probability"),
        ("model", keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)]), r"\(12, 2\) came for 12 rows"),
        ("model", sigmoid(3), "no bundle that can be loaded"),
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
        (
            rows.assign(wind=np.array([1, np.float32(np.inf), 2], dtype=object)),
            "'wind' takes finite numbers; got .*inf",
        ),
        (rows.assign(town=7), r"'town' takes str of valid Unicode; got 7 \(int\)"),
        (rows.assign(town="\ud800"), "'town' takes str of valid Unicode"),
        (rows.iloc[0].to_dict(), "raw inputs are a batch"),
        (["a", "b"], "the rows lack 'wind'"),
        ([*rows.to_dict("records"), {"wind": 1.0}], "row 3 has other keys than row 0"),
        (pd.concat([rows, rows[["wind"]]], axis=1), "the column 'wind' is there twice"),
    ):
        with pytest.raises(BundleError, match=message) as caught:
            loaded.predict(wrong)
        assert "\n" not in str(caught.value)


def test_rows_that_fit_are_taken_in_any_form(saved, table, monkeypatch):
    loaded, rows = load_bundle(saved), table.iloc[:10]
    expected = loaded.predict(rows)
    for same in (
        rows[["town", "count", "wind"]].assign(extra=1),
        rows.to_dict("records"),
        rows.astype(object).where(rows.notna(), None),
        rows.assign(town=rows["town"].astype("category"), wind=rows["wind"].astype("Float64")),
        rows.set_index(pd.Index(list("abcdefghij"))),
        rows.assign(count=pd.Series([*map(np.float32, rows["count"])], rows.index, dtype=object)),
    ):
        assert np.array_equal(loaded.predict(same), expected)
    monkeypatch.setattr(module, "CHUNK", 3)
    assert np.allclose(loaded.predict(rows), expected)
    assert loaded.predict(rows[:0]).shape == (0,)


def test_what_training_never_saw_is_told(saved, table):
    loaded = load_bundle(saved)
    assert loaded.unseen(table) == []
    strange = table.iloc[:3].assign(wind=10, count=[9, np.nan, 2], town=["Rom", "Bonn", "Ulm"])
    town = "'town': 1 not among the categories of training, such as 'Rom'"
    assert loaded.unseen(strange) == ["'count': 2 outside 0 to 8, such as 9.0", town]
