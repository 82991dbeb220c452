"""What is exported runs in the C runtime, and what cannot run there is named before it is put in place."""

import importlib
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler
from tensorflow.core.framework.tensor_pb2 import TensorProto

import serving
from serving import c_runtime

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 3))
X = tf.TensorSpec((None, 3), tf.float64, name="X")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    inputs = keras.layers.Input((3,), name="features")
    embedding = keras.layers.Dense(4, activation="tanh", name="embedding")(inputs)
    return keras.Model(inputs, {"embedding": embedding, "logit": keras.layers.Dense(1, name="logit")(embedding)})


def save(function, path, *specs, signature="serving_default", **held):
    """Save what most people write: a module with a signature."""
    module = tf.Module()
    module.held = held
    module.serve = tf.function(function, input_signature=specs or [X], autograph=False)
    tf.saved_model.save(module, path, signatures={signature: module.serve})
    return path


def py_sum(X):
    return tf.reshape(tf.py_function(lambda x: x.numpy().sum(1), [X], tf.float64), (-1,))


def test_importing_serving_loads_neither_tensorflow_nor_pictures_and_its_functions_are_no_modules():
    script = (
        "import sys, serving, serving.export, serving.audit\n"
        "loaded = {'tensorflow', 'keras', 'skimage', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "assert callable(serving.export) and callable(serving.audit) and serving.local_server.running"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# ---- export ---------------------------------------------------------------------------------------


def test_one_signature_from_raw_rows_to_a_decision(network, tmp_path):
    here = {name: value.astype(float) for name, value in network.predict(ROWS, verbose=0).items()}
    kmeans = KMeans(5, n_init=1, random_state=0).fit(here["embedding"])
    quantiles = QuantileTransformer(n_quantiles=50).fit(here["logit"])
    scaler = StandardScaler().fit(ROWS * 7 + 3)
    to_cluster, to_score = serving.to_tensorflow(kmeans), serving.to_tensorflow(quantiles)
    post = {
        "cluster": lambda embedding: to_cluster.predict(embedding),
        "score": lambda logit: to_score.transform(logit)[:, 0],
        "keep": lambda score, cluster, threshold=0.7: (score >= threshold) & (cluster != 2),
    }
    names = ["keep", "score", "cluster"]
    path = serving.export(network, tmp_path / "m", pre=scaler, post=post, outputs=names, examples={"X": ROWS[:6]})
    assert path == tmp_path / "m" / "1"
    raw = RNG.normal(size=(40, 3)) * 9
    answer = serving.run_without_python(path, {"X": raw})
    assert sorted(answer) == sorted(names)
    here = network.predict(scaler.transform(raw), verbose=0)
    cluster = kmeans.predict(here["embedding"].astype(float))
    np.testing.assert_array_equal(answer["cluster"], cluster)
    score = quantiles.transform(here["logit"].astype(float))[:, 0]
    np.testing.assert_allclose(answer["score"], score, atol=1e-5)
    np.testing.assert_array_equal(answer["keep"], (answer["score"] >= 0.7) & (cluster != 2))
    assert serving.audit(path) == []
    assert list(tf.saved_model.load(path).signatures) == ["serving_default"]


@pytest.mark.parametrize("how", ["built", "fitted", "loaded"])
def test_a_sequential_model_is_exported_under_its_layers_names(tmp_path, how):
    model = keras.Sequential([keras.layers.Dense(2, name="hidden"), keras.layers.Dense(1, name="y")])
    if how == "fitted":
        model.compile("adam", "mse")
        model.fit(ROWS, ROWS[:, :1], verbose=0)
    else:
        model.build((None, 3))
    if how == "loaded":
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    path = serving.export(model, tmp_path / "m", post={"twice": lambda y: 2 * y[:, 0]})
    answer = serving.run_without_python(path, {model.inputs[0].name: ROWS})
    np.testing.assert_allclose(answer["y"], model.predict(ROWS, verbose=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answer["twice"], 2 * answer["y"][:, 0])


def test_a_column_transformer_takes_the_columns_by_name(tmp_path):
    table = pd.DataFrame({"mean radius": [1.0, 2.0, 4.0, 3.0], "town": ["Köln", "", "Bonn", "Köln"]})
    pre = ColumnTransformer([("n", StandardScaler(), ["mean radius"]), ("w", OneHotEncoder(), ["town"])])
    features = pre.fit_transform(table)
    model = LogisticRegression().fit(features, ["late", "on time", "on time", "late"])
    request = serving.inputs_of(table)
    path = serving.export(model, tmp_path / "m", pre=pre, examples=request)
    answer = serving.run_without_python(path, request)
    np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(features), rtol=1e-14)
    assert [label.decode() for label in answer["predict"]] == ["late", "on time", "on time", "late"]
    with pytest.raises(RuntimeError, match=r"(?i)categor|unknown"):
        serving.run_without_python(path, {**request, "town": ["Köln", "Bonn", "Bonn", "Paris"]})
    with pytest.raises(RuntimeError, match="pass real rows as examples"):
        serving.export(OneHotEncoder().fit(table[["town"]].replace("", "Ulm")), tmp_path / "made up")
    with pytest.raises(ValueError, match="'a b' and another would both be named 'a_b'"):
        serving.inputs_of(pd.DataFrame({"a b": [1], "a-b": [2]}))


def test_inputs_keep_their_names_and_a_vocabulary_is_part_of_the_model(tmp_path):
    word, number = keras.layers.Input((), dtype="string", name="word"), keras.layers.Input((1,), name="number")
    known = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(word)
    total = keras.layers.Dense(1, name="total")(keras.layers.Concatenate()([known, number]))
    model = keras.Model({"word": word, "number": number}, total)
    request = {"number": [[1.0], [2.0]], "word": ["b", "c"]}
    answer = serving.run_without_python(serving.export(model, tmp_path / "m", examples=request), request)
    expected = model({name: tf.constant(value) for name, value in request.items()})
    np.testing.assert_allclose(answer["total"], expected, rtol=1e-6)


def test_versions_go_up_are_never_overwritten_and_are_put_in_place_in_one_step(tmp_path, monkeypatch):
    scaler, seen, rename = StandardScaler().fit(ROWS), [], Path.rename

    def look(self, target):
        seen.append([entry.name for entry in tmp_path.iterdir() if not entry.name.isdecimal()])
        assert (self / "saved_model.pb").exists()
        assert (self / "assets.extra" / "tf_serving_warmup_requests").exists()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", look)
    assert [serving.export(scaler, tmp_path, version=version).name for version in (None, 10, None)] == ["1", "10", "11"]
    assert all(len(names) == 1 and names[0].startswith(".writing-") for names in seen)
    assert len(seen) == 3
    for version in (10, 0, -1, 1.5):
        with pytest.raises(ValueError, match=r"version 10 of .* exists|the folder is named"):
            serving.export(scaler, tmp_path, version=version)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["1", "10", "11"]


REFUSED = {
    "largest row's answer": ({"k": lambda logit: tf.reduce_max(logit) + 0 * logit}, ValueError, "a row alone gives"),
    "no batch": ({"k": lambda logit: tf.reduce_sum(logit)}, ValueError, "'k' is a scalar: without a batch axis"),
    "a fixed batch": ({"k": lambda logit: tf.zeros((1,))}, ValueError, "'k' always has 1 rows"),
    "rows multiplied": ({"k": lambda logit: tf.tile(logit, (2, 1))}, ValueError, "'k' has 6 rows for 3 rows"),
    "rows by rows": ({"k": lambda logit: (logit > 0) & (logit[:, 0] < 1)}, ValueError, "a row alone gives another"),
    "NumPy": ({"k": lambda logit: np.exp(logit)}, TypeError, "'k' leaves the graph: it may use TensorFlow ops only"),
    "and": ({"k": lambda logit: (logit > 0) and (logit < 1)}, TypeError, r"tf\.where for and, or, if"),
    "unknown tensor": ({"k": lambda nothing: nothing}, ValueError, "'k' asks for 'nothing': the names"),
    "a name twice": ({"logit": lambda logit: logit}, ValueError, "'logit' is the name of an input or output"),
    "no function": ({"k": 0.5}, TypeError, "'k' must be a function of tensors; got float"),
    "Python": ({"k": lambda features: py_sum(tf.cast(features, tf.float64))}, ValueError, "calls back into the Python"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_step_that_no_server_can_use_is_refused_and_leaves_nothing(network, tmp_path, name):
    post, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        serving.export(network, tmp_path, post=post)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_one_sentence(network, tmp_path):
    for options, error, message in [
        ({"outputs": ["logit", "keep"]}, ValueError, "there is no 'keep'; there are: embedding, logit"),
        ({"examples": {"X": ROWS}}, ValueError, "inputs must be 'features'; got 'X'"),
        ({"examples": {"features": ROWS[:, :2]}}, ValueError, r"must have shape \(None, 3\); got \(300, 2\)"),
        ({"examples": {"features": ROWS[:1]}}, ValueError, "two or more"),
        ({"pre": StandardScaler().fit(ROWS[:, :2])}, ValueError, "incompatible|shape"),
        ({"pre": LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)}, AttributeError, "has no 'transform'"),
    ]:
        with pytest.raises(error, match=message):
            serving.export(network, tmp_path / "m", **options)
    for model in (None, "model.keras", tf.Module()):
        with pytest.raises(TypeError):
            serving.export(model, tmp_path / "m")
    with pytest.raises(ValueError, match="no defined inputs"):
        serving.export(keras.Sequential([keras.layers.Dense(1)]), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def fields(message):
    """Return the fields of a protocol buffer without its class: number and content."""
    return [(field.field_number, field.data) for field in UnknownFieldSet(Empty.FromString(message))]


def test_the_warm_up_file_holds_prediction_logs(tmp_path):
    """By the field numbers of TensorFlow Serving's public .proto files."""
    path = serving.export(StandardScaler().fit(ROWS), tmp_path / "demo", examples={"X": ROWS[:200]})
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    for record, rows in zip(tf.data.TFRecordDataset(str(file)), (ROWS[:1], ROWS[:200]), strict=True):
        ((predict_log, log),) = fields(record.numpy())
        ((request_number, request),) = fields(log)
        (model_spec, spec), (inputs, entry) = fields(request)
        assert (predict_log, request_number, model_spec, inputs) == (6, 1, 1, 2)
        assert fields(spec) == [(1, b"demo"), (3, b"serving_default")]
        (key, value) = fields(entry)
        assert (key, value[0]) == ((1, b"X"), 2)
        np.testing.assert_array_equal(tf.make_ndarray(TensorProto.FromString(value[1])), rows)


# ---- the C runtime --------------------------------------------------------------------------------


def test_the_c_runtime_has_no_python_and_its_process_never_imports_tensorflow(tmp_path):
    python = save(lambda X: {"y": py_sum(X)}, tmp_path / "1")
    with pytest.raises(RuntimeError, match="No OpKernel was registered to support Op 'EagerPyFunc'") as caught:
        serving.run_without_python(python, {"X": ROWS})
    assert "\n" not in str(caught.value)
    path = save(lambda X: {"y": 2 * X}, tmp_path / "2")
    graph = importlib.import_module("serving.audit").read_graph(path).signature_def["serving_default"]
    c_runtime.save(tmp_path / "in.npz", {graph.inputs["X"].name: ROWS})
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['c', {str(path)!r}, {str(tmp_path / 'in.npz')!r}, {str(tmp_path / 'out.npz')!r},"
        f" {graph.outputs['y'].name!r}]\n"
        f"runpy.run_path({c_runtime.__file__!r}, run_name='__main__')\n"
        "assert not [name for name in sys.modules if name.startswith(('tensorflow', 'keras'))]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    np.testing.assert_array_equal(next(iter(c_runtime.load(tmp_path / "out.npz").values())), 2 * ROWS)


@pytest.mark.parametrize("rows", [0, 3])
def test_every_dtype_strings_and_no_rows_pass_through(tmp_path, rows):
    dtypes = ["bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64"]
    dtypes += ["uint8", "uint16", "uint32", "uint64", "string"]
    values = {dtype: RNG.integers(0, 2, (rows, 2)).astype(dtype) for dtype in dtypes[:-1]}
    values["float64"] = np.array([[np.nan, np.inf], [-np.inf, 5e-324], [-0.0, 1.7e308]])[:rows]
    words = [[b"", "Köln".encode()], [b"a\0b\0", b"long " * 100], [b"\xff\x00", b"z"]][:rows]
    values["string"] = np.array(words, object).reshape(rows, 2)
    specs = [tf.TensorSpec((None, 2), dtype, name=f"in_{dtype}") for dtype in dtypes]
    path = save(lambda *given: dict(zip(dtypes, map(tf.identity, given), strict=True)), tmp_path / "1", *specs)
    answer = serving.run_without_python(path, {f"in_{dtype}": value for dtype, value in values.items()})
    for dtype in dtypes:
        assert answer[dtype].dtype == values[dtype].dtype
        np.testing.assert_array_equal(answer[dtype], values[dtype])


def test_inputs_are_checked_before_a_process_is_started(tmp_path):
    path = save(lambda X: {"y": X}, tmp_path / "1", tf.TensorSpec((None,), tf.int32, name="X"))
    for inputs, message in [
        ({}, "inputs must be 'X'; got none"),
        ({"X": [1], "Y": [1]}, "inputs must be 'X'; got 'X', 'Y'"),
        ({"X": 1}, r"must have shape \(None,\); got \(\)"),
        ({"X": [1.5]}, "must hold int32; got float64"),
        ({"X": ["1"]}, "must hold int32; got <U1"),
        ({"X": [2**40]}, "must hold int32; got numbers beyond its range"),
    ]:
        with pytest.raises(ValueError, match=message):
            serving.run_without_python(path, inputs)
    with pytest.raises(ValueError, match="no signature 'other'; there are: serving_default"):
        serving.run_without_python(path, {"X": [1]}, signature="other")


# ---- audit ----------------------------------------------------------------------------------------


def test_python_is_found_wherever_it_hides(tmp_path):
    def loop(x):
        def step(i, value):
            return i + 1, tf.ensure_shape(tf.numpy_function(np.sin, [value], tf.float64), (None, 3))

        return tf.while_loop(lambda i, _: i < 2, step, [0, x])[1]

    layer = keras.Sequential([keras.layers.Input((3,), dtype="float64"), keras.layers.Lambda(py_sum)])
    layer.export(tmp_path / "layer", verbose=False)
    save(lambda X: {"y": tf.cond(tf.reduce_sum(X) > 0, lambda: loop(X), lambda: X)}, tmp_path / "loop")
    save(lambda X: {"y": tf.map_fn(lambda x: py_sum(x[None])[0], X)}, tmp_path / "map")
    save(lambda X: {"y": tf.map_fn(tf.reduce_sum, X)}, tmp_path / "clean")
    found = [serving.python_ops(tmp_path / name) for name in ("layer", "loop", "map", "clean")]
    assert [bool(findings) for findings in found] == [True, True, True, False]
    assert all(finding.check == "python" and "PyFunc" in str(finding) for findings in found for finding in findings)


def test_the_variable_trap_is_named_and_real(network, tmp_path):
    features = tf.TensorSpec((None, 3), tf.float32, name="X")
    path = save(lambda X: network(X), tmp_path / "1", features, network=network)
    found = serving.audit(path)
    assert {finding.check for finding in found} == {"variable"}
    assert len(found) == len(network.weights)
    with pytest.raises(RuntimeError, match="Could not find variable"):
        serving.run_without_python(path, {"X": ROWS})
    weight = tf.Variable(2.0, dtype=tf.float64)
    path = save(lambda X: {"y": weight * X}, tmp_path / "2", X, weight=weight)
    assert serving.audit(path) == []
    np.testing.assert_array_equal(serving.run_without_python(path, {"X": ROWS})["y"], 2 * ROWS)


def test_shapes_dtypes_names_and_versions_are_looked_at(tmp_path):
    def odd(any, wide):
        half, total = tf.cast(wide, tf.float16), tf.reduce_sum(wide)
        return {"half": half, "total": total, "two": tf.zeros((2, 3)), "same": tf.identity(any)}

    specs = [tf.TensorSpec(None, tf.float64, name="any"), tf.TensorSpec((None, None), tf.float64, name="wide")]
    found = serving.audit(save(odd, tmp_path / "latest", *specs))
    assert [finding.level for finding in found] == ["error"] * 2 + ["note"] * 6
    assert {(finding.check, finding.where) for finding in found} == {
        *(("version", "latest"), ("dtype", "output 'half'"), ("shape", "output 'half'"), ("shape", "input 'any'")),
        *(
            ("shape", "output 'same'"),
            ("shape", "input 'wide'"),
            ("batch", "output 'total'"),
            ("batch", "output 'two'"),
        ),
    }
    (only,) = serving.audit(save(lambda X: {"y": X}, tmp_path / "3", X, signature="other"))
    assert (only.level, only.check) == ("note", "signature")
    with pytest.raises(ValueError, match=r"holds no SavedModel: there is no saved_model\.pb"):
        serving.audit(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x0a\xff\xff\xff\xff\xffnot a model")
    with pytest.raises(ValueError, match="is no SavedModel"):
        serving.python_ops(tmp_path)
