"""What is exported runs in the C runtime, and what cannot run there is named before it is put in place."""

import shutil
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from serving import c_runtime

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 3))


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    inputs = keras.layers.Input((3,), name="features")
    embedding = keras.layers.Dense(4, activation="tanh", name="embedding")(inputs)
    logit = keras.layers.Dense(1, name="logit")(embedding)
    return keras.Model(inputs, {"embedding": embedding, "logit": logit})


@pytest.fixture(scope="module")
def parts(network):
    """KMeans and quantiles, fitted on what the network returns; and what all of it gives in Python."""
    here = {name: value.astype(float) for name, value in network.predict(ROWS, verbose=0).items()}
    kmeans = KMeans(5, n_init=1, random_state=0).fit(here["embedding"])
    quantiles = QuantileTransformer(n_quantiles=50).fit(here["logit"])
    return kmeans, quantiles, here


def save_module(function, specs, path):
    """What most people write: a module with a signature."""
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs, autograph=False)
    tf.saved_model.save(module, path, signatures={"serving_default": module.serve})
    return path


FEATURES = [tf.TensorSpec((None, 3), tf.float64, name="X")]


def py_sum(X):
    return tf.reshape(tf.py_function(lambda x: x.numpy().sum(1), [X], tf.float64), (-1,))


# --- export ------------------------------------------------------------------------------------------------------


def test_one_signature_from_raw_rows_to_a_decision(network, parts, tmp_path):
    kmeans, quantiles, _ = parts
    scaler = StandardScaler().fit(ROWS * 7 + 3)
    to_cluster, to_score = serving.to_tensorflow(kmeans), serving.to_tensorflow(quantiles)
    path = serving.export(
        network,
        tmp_path / "demo",
        pre=scaler,
        post={
            "cluster": lambda embedding: to_cluster.predict(embedding),
            "score": lambda logit: to_score.transform(logit)[:, 0],
        },
        rules={"keep": lambda score, cluster: (score >= 0.7) & (cluster != 2)},
        outputs=["cluster", "score", "keep"],
        examples={"X": ROWS[:6]},
    )
    assert path == tmp_path / "demo" / "1"
    raw = RNG.normal(size=(40, 3)) * 9
    answer = serving.run_without_python(path, {"X": raw})
    assert sorted(answer) == ["cluster", "keep", "score"]
    here = network.predict(scaler.transform(raw), verbose=0)
    score = quantiles.transform(here["logit"].astype(float))[:, 0]
    cluster = kmeans.predict(here["embedding"].astype(float))
    np.testing.assert_array_equal(answer["cluster"], cluster)
    np.testing.assert_allclose(answer["score"], score, atol=1e-5)
    np.testing.assert_array_equal(answer["keep"], (answer["score"] >= 0.7) & (cluster != 2))
    assert answer["score"].dtype == np.float64
    assert serving.audit(path) == []
    signatures = tf.saved_model.load(path).signatures
    assert list(signatures) == ["serving_default"]
    assert signatures["serving_default"].structured_input_signature[1]["X"].shape.as_list() == [None, 3]


def test_a_parameter_with_a_default_is_no_tensor(network, tmp_path):
    rule = {"keep": lambda logit, threshold=0.25: logit[:, 0] >= threshold}
    answer = serving.run_without_python(serving.export(network, tmp_path, rules=rule), {"features": ROWS})
    np.testing.assert_array_equal(answer["keep"], answer["logit"][:, 0] >= 0.25)


def test_a_column_transformer_takes_the_columns_by_name(tmp_path):
    table = pd.DataFrame({"mean radius": [1.0, 2.0, 4.0, 3.0], "town": ["Köln", "", "Bonn", "Köln"]})
    pre = ColumnTransformer([("n", StandardScaler(), ["mean radius"]), ("w", OneHotEncoder(), ["town"])])
    features = pre.fit_transform(table)
    model = LogisticRegression().fit(features, [0, 1, 1, 0])
    request = {"mean_radius": table["mean radius"], "town": table["town"]}
    path = serving.export(model, tmp_path / "m", pre=pre, examples=request)
    answer = serving.run_without_python(path, request)
    np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(features), rtol=1e-14)
    np.testing.assert_array_equal(answer["predict"], [0, 1, 1, 0])
    with pytest.raises(RuntimeError, match=r"(?i)categor|unknown"):
        serving.run_without_python(path, {**request, "town": ["Köln", "Bonn", "Bonn", "Paris"]})


def test_an_estimator_alone_is_a_model(tmp_path):
    model = LogisticRegression().fit(ROWS, np.where(ROWS[:, 0] > 0, "spät", "early"))
    answer = serving.run_without_python(serving.export(model, tmp_path / "m"), {"X": ROWS})
    assert [word.decode() for word in answer["predict"]] == model.predict(ROWS).tolist()
    np.testing.assert_allclose(answer["decision_function"], model.decision_function(ROWS), rtol=1e-12)


def test_a_model_of_several_inputs_and_a_vocabulary(tmp_path):
    """Tables of words are part of the model; inputs of a model that takes a dictionary keep their names."""
    word, number = keras.layers.Input((), dtype="string", name="word"), keras.layers.Input((1,), name="number")
    known = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(word)
    total = keras.layers.Dense(1, name="total")(keras.layers.Concatenate()([known, number]))
    model = keras.Model({"word": word, "number": number}, total)
    request = {"number": [[1.0], [2.0]], "word": ["b", "c"]}
    answer = serving.run_without_python(serving.export(model, tmp_path / "m", examples=request), request)
    inside = {"word": tf.constant(["b", "c"]), "number": tf.constant([[1.0], [2.0]])}
    np.testing.assert_allclose(answer["total"], model(inside), rtol=1e-6)


def test_versions_go_up_and_are_never_overwritten(parts, tmp_path):
    kmeans = parts[0]
    assert [serving.export(kmeans, tmp_path, verify=False).name for _ in range(2)] == ["1", "2"]
    assert serving.export(kmeans, tmp_path, version=10, verify=False).name == "10"
    assert serving.export(kmeans, tmp_path, verify=False).name == "11"
    before = (tmp_path / "10" / "saved_model.pb").read_bytes()
    with pytest.raises(ValueError, match=r"version 10 of .* exists"):
        serving.export(kmeans, tmp_path, version=10)
    assert (tmp_path / "10" / "saved_model.pb").read_bytes() == before


@pytest.mark.parametrize("version", [0, -1, 1.0, "2", True])
def test_a_version_is_a_whole_number(parts, tmp_path, version):
    with pytest.raises(ValueError, match="version must be a whole number of at least 1"):
        serving.export(parts[0], tmp_path, version=version)


def test_a_server_that_polls_never_sees_half_a_version(parts, tmp_path, monkeypatch):
    seen = []
    rename = serving.Path.rename

    def look(self, target):
        seen.append(sorted(entry.name for entry in tmp_path.iterdir()))
        assert (self / "saved_model.pb").exists()
        assert (self / serving.WARM_UP).exists()
        return rename(self, target)

    monkeypatch.setattr(serving.Path, "rename", look)
    serving.export(parts[0], tmp_path, verify=False)
    assert len(seen) == 1
    assert len(seen[0]) == 1
    assert seen[0][0].startswith(".writing-")
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]


BAD_STEPS = {
    "the largest row's answer": (
        {"k": lambda logit: tf.reduce_max(logit) + 0 * logit},
        ValueError,
        "a row alone gives",
    ),
    "another row's answer": (
        {"k": lambda logit: logit / tf.reduce_max(logit)},
        ValueError,
        "a row alone gives another",
    ),
    "no batch": ({"k": lambda logit: tf.reduce_sum(logit)}, ValueError, "first axis must be the batch"),
    "a fixed batch": ({"k": lambda logit: tf.zeros((1,))}, ValueError, "first axis must be the batch"),
    "rows multiplied": ({"k": lambda logit: tf.tile(logit, (2, 1))}, ValueError, "'k' has 6 rows for 3 rows"),
    "NumPy": ({"k": lambda logit: np.exp(logit)}, TypeError, "'k' leaves the graph: it may use TensorFlow ops only"),
    "scikit-learn": (
        {"k": lambda features: StandardScaler().fit(ROWS).transform(features)},
        TypeError,
        "by way of to_tensorflow",
    ),
    "and": ({"k": lambda logit: (logit > 0) and (logit < 1)}, TypeError, r"tf\.where for and, or, if"),
    "a matrix of rows by rows": (
        {"k": lambda logit: (logit > 0) & (logit[:, 0] < 1)},
        ValueError,
        r"\(shape \(1, 1\) alone, \(3, 3\) in a batch of 3\)",
    ),
    "unknown tensor": ({"k": lambda nothing: nothing}, ValueError, "'k' asks for 'nothing': the names"),
    "a name twice": ({"logit": lambda logit: logit}, ValueError, "'logit' is the name of an input or output"),
    "no function": ({"k": 0.5}, TypeError, "'k' must be a function of tensors; got float"),
    "Python": ({"k": lambda features: py_sum(tf.cast(features, tf.float64))}, ValueError, "calls back into the Python"),
}


@pytest.mark.parametrize("name", BAD_STEPS)
def test_a_step_that_no_server_can_use_is_refused_and_leaves_nothing(network, tmp_path, name):
    steps, error, sentence = BAD_STEPS[name]
    with pytest.raises(error, match=sentence):
        serving.export(network, tmp_path, post=steps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"post": {"a": lambda logit: logit}, "rules": {"a": lambda logit: logit}}, ValueError, "both in post and"),
        ({"outputs": ["logit", "keep"]}, ValueError, "there is no 'keep'; there are: embedding, logit"),
        ({"examples": {"X": ROWS}}, ValueError, "inputs must be 'features'; got 'X'"),
        ({"examples": {"features": ROWS[:, :2]}}, ValueError, r"must have shape \(None, 3\); got \(300, 2\)"),
        ({"examples": {"features": [["a"] * 3]}}, ValueError, "must hold float32; got <U1"),
        ({"examples": {"features": ROWS[:1]}}, ValueError, "two or more"),
        ({"examples": ROWS}, TypeError, "examples must be a mapping from names; got ndarray"),
        ({"examples": pd.DataFrame(ROWS)}, TypeError, "got DataFrame; inputs_of makes one of a table"),
        ({"post": [lambda logit: logit]}, TypeError, "post must be a mapping from names; got list"),
        ({"outputs": "logit"}, TypeError, "outputs must be a list of names; got the string 'logit'"),
        ({"pre": StandardScaler().fit(ROWS[:, :2])}, ValueError, "pre returns rows of"),
        ({"pre": LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)}, TypeError, "pre must be a transformer"),
    ],
)
def test_what_does_not_fit_is_one_sentence(network, tmp_path, options, error, sentence):
    with pytest.raises(error, match=sentence):
        serving.export(network, tmp_path, **options)
    assert not tmp_path.exists() or list(tmp_path.iterdir()) == []


def test_made_up_rows_that_the_graph_refuses_ask_for_real_ones(tmp_path):
    encoder = OneHotEncoder().fit(pd.DataFrame({"town": ["Köln", "Bonn"]}))
    with pytest.raises(RuntimeError, match="pass real rows as examples"):
        serving.export(encoder, tmp_path)
    assert list(tmp_path.iterdir()) == []
    serving.export(encoder, tmp_path, examples={"town": ["Bonn", "Köln"]})


@pytest.mark.parametrize("model", [None, "model.keras", tf.Module(), lambda x: x])
def test_what_is_no_model_is_refused(tmp_path, model):
    with pytest.raises(TypeError):
        serving.export(model, tmp_path)


def test_two_columns_that_would_get_one_name_are_refused(tmp_path):
    table = pd.DataFrame({"a b": ROWS[:, 0], "a-b": ROWS[:, 1]})
    with pytest.raises(ValueError, match="'a b' and another would both be named 'a_b'"):
        serving.export(StandardScaler().fit(table), tmp_path)


def test_the_warm_up_file_holds_prediction_logs(parts, tmp_path):
    """Read back by classes built here from the field numbers of TensorFlow Serving's public .proto files."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="w.proto", package="w", syntax="proto3")
    file.dependency.append("tensorflow/core/framework/tensor.proto")
    for name, fields in {
        "ModelSpec": [("name", 1, "string"), ("signature_name", 3, "string")],
        "Entry": [("key", 1, "string"), ("value", 2, ".tensorflow.TensorProto")],
        "PredictRequest": [("model_spec", 1, ".w.ModelSpec"), ("inputs", 2, "*.w.Entry")],
        "PredictLog": [("request", 1, ".w.PredictRequest")],
        "PredictionLog": [("predict_log", 6, ".w.PredictLog")],
    }.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            entry = message.field.add(name=field, number=number, label=3 if kind[0] == "*" else 1)
            if kind == "string":
                entry.type = 9
            else:
                entry.type, entry.type_name = 11, kind.lstrip("*")
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    log = message_factory.GetMessageClass(pool.FindMessageTypeByName("w.PredictionLog"))
    path = serving.export(parts[0], tmp_path / "demo", examples={"X": ROWS[:200, [0, 1, 2, 0]]}, verify=False)
    records = list(tf.data.TFRecordDataset(str(path / "assets.extra" / "tf_serving_warmup_requests")))
    requests = [log.FromString(record.numpy()).predict_log.request for record in records]
    assert [request.model_spec.name for request in requests] == ["demo", "demo"]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default"] * 2
    assert [tf.make_ndarray(request.inputs[0].value).shape for request in requests] == [(1, 4), (200, 4)]
    assert requests[0].inputs[0].key == "X"
    np.testing.assert_array_equal(tf.make_ndarray(requests[1].inputs[0].value), ROWS[:200, [0, 1, 2, 0]])


# --- what a server does not have ---------------------------------------------------------------------------------


def test_python_is_found_wherever_it_hides(network, tmp_path):
    @tf.function
    def inner(x):
        def step(i, value):
            return i + 1, tf.ensure_shape(tf.numpy_function(np.sin, [value], tf.float64), (None, 3))

        return tf.while_loop(lambda i, _: i < 2, step, [0, x])[1]

    @tf.function
    def outer(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: inner(x), lambda: x)

    nested = save_module(lambda X: {"y": tf.reshape(outer(X), (-1, 3))}, FEATURES, tmp_path / "nested")
    layer = keras.Sequential([keras.layers.Input((3,), dtype="float64"), keras.layers.Lambda(py_sum)])
    layer.export(tmp_path / "layer", verbose=False)
    mapped = save_module(lambda X: {"y": tf.map_fn(lambda x: py_sum(x[None])[0], X)}, FEATURES, tmp_path / "mapped")
    clean = save_module(lambda X: {"y": tf.map_fn(tf.reduce_sum, X)}, FEATURES, tmp_path / "clean")
    found = {path.name: serving.python_ops(path) for path in (nested, tmp_path / "layer", mapped, clean)}
    assert {name: bool(findings) for name, findings in found.items()} == {
        "nested": True,
        "layer": True,
        "mapped": True,
        "clean": False,
    }
    assert all(finding.check == "python" for findings in found.values() for finding in findings)
    assert "PyFunc" in str(found["nested"][0])


def test_the_c_runtime_has_no_python(tmp_path):
    path = save_module(lambda X: {"y": py_sum(X)}, FEATURES, tmp_path / "1")
    with pytest.raises(RuntimeError, match="No OpKernel was registered to support Op 'EagerPyFunc'") as caught:
        serving.run_without_python(path, {"X": ROWS})
    assert "\n" not in str(caught.value)


def test_the_process_never_imports_tensorflow(tmp_path):
    """Also not by way of the folder that holds the script."""
    path = save_module(lambda X: {"y": 2 * X}, FEATURES, tmp_path / "1")
    c_runtime.save(tmp_path / "in.npz", {"serving_default_X:0": ROWS})
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['c', {str(path)!r}, {str(tmp_path / 'in.npz')!r}, {str(tmp_path / 'out.npz')!r},"
        " 'StatefulPartitionedCall:0']\n"
        f"try:\n    runpy.run_path({c_runtime.__file__!r}, run_name='__main__')\n"
        "except RuntimeError:\n    sys.argv[-1] = 'PartitionedCall:0'\n"
        f"    runpy.run_path({c_runtime.__file__!r}, run_name='__main__')\n"
        "assert not [name for name in sys.modules if name.startswith(('tensorflow', 'keras'))]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    np.testing.assert_array_equal(next(iter(c_runtime.load(tmp_path / "out.npz").values())), 2 * ROWS)


SIZES = {"float": (16, 32, 64), "int": (8, 16, 32, 64), "uint": (8, 16, 32, 64)}
DTYPES = ["bool", *(f"{kind}{size}" for kind, sizes in SIZES.items() for size in sizes)]


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_every_dtype_and_no_rows_pass_through(tmp_path, rows):
    specs = [tf.TensorSpec((None, 2), dtype, name=f"in_{dtype}") for dtype in DTYPES]
    path = save_module(
        lambda *tensors: dict(zip(DTYPES, map(tf.identity, tensors), strict=True)), specs, tmp_path / "1"
    )
    values = {f"in_{dtype}": RNG.integers(0, 2, (rows, 2)).astype(dtype) for dtype in DTYPES}
    answer = serving.run_without_python(path, values)
    for dtype in DTYPES:
        assert answer[dtype].dtype == dtype
        np.testing.assert_array_equal(answer[dtype], values[f"in_{dtype}"])


def test_strings_pass_whole(tmp_path):
    path = save_module(
        lambda X: {"y": tf.strings.join([X, "!"])}, [tf.TensorSpec((None,), tf.string, name="X")], tmp_path / "1"
    )
    words = ["", "Köln", "a\0b", "long " * 100, "日本", b"\xff\x00"]
    expected = [(word.encode() if isinstance(word, str) else word) + b"!" for word in words]
    assert serving.run_without_python(path, {"X": np.array(words, object)})["y"].tolist() == expected
    assert serving.run_without_python(path, {"X": np.array([], str)})["y"].tolist() == []


def test_nan_and_infinity_pass(tmp_path):
    path = save_module(lambda X: {"y": tf.identity(X)}, FEATURES, tmp_path / "1")
    rows = np.array([[np.nan, np.inf, -np.inf], [5e-324, -0.0, 1.7e308]])
    np.testing.assert_array_equal(serving.run_without_python(path, {"X": rows})["y"], rows)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, "inputs must be 'X'; got none"),
        ({"X": ROWS, "Y": ROWS}, "inputs must be 'X'; got 'X', 'Y'"),
        ({"X": ROWS[0]}, r"must have shape \(None, 3\); got \(3,\)"),
        ({"X": ROWS.astype(complex)}, "must hold float64; got complex128"),
        ({"X": [["1", "2", "3"]]}, "must hold float64; got <U1"),
    ],
)
def test_inputs_are_checked_before_a_process_is_started(tmp_path, inputs, sentence):
    path = save_module(lambda X: {"y": X}, FEATURES, tmp_path / "1")
    with pytest.raises(ValueError, match=sentence):
        serving.run_without_python(path, inputs)


def test_numbers_are_never_cut_to_whole_ones(tmp_path):
    path = save_module(lambda X: {"y": X}, [tf.TensorSpec((None,), tf.int64, name="X")], tmp_path / "1")
    with pytest.raises(ValueError, match="must hold int64; got float64"):
        serving.run_without_python(path, {"X": [1.5]})
    with pytest.raises(ValueError, match="no signature 'other'; there are: serving_default"):
        serving.run_without_python(path, {"X": [1]}, signature="other")


# --- audit -------------------------------------------------------------------------------------------------------


def checks(path):
    return sorted((finding.level, finding.check) for finding in serving.audit(path))


def test_the_variable_trap_is_named_and_real(network, tmp_path):
    module = tf.Module()
    module.network = network
    spec = [tf.TensorSpec((None, 3), tf.float32, name="X")]
    module.serve = tf.function(lambda X: network(X), input_signature=spec, autograph=False)
    tf.saved_model.save(module, tmp_path / "1", signatures={"serving_default": module.serve})
    found = serving.audit(tmp_path / "1")
    assert {finding.check for finding in found} == {"variable"}
    assert len(found) == len(network.weights)
    assert "never restored" in str(found[0])
    with pytest.raises(RuntimeError, match="Could not find variable"):
        serving.run_without_python(tmp_path / "1", {"X": ROWS})
    network.export(tmp_path / "2", verbose=False)
    assert checks(tmp_path / "2") == []


def test_raw_variables_are_no_trap(tmp_path):
    module = tf.Module()
    module.weight = tf.Variable(2.0, dtype=tf.float64)
    module.serve = tf.function(lambda X: {"y": module.weight * X}, input_signature=FEATURES, autograph=False)
    tf.saved_model.save(module, tmp_path / "1", signatures={"serving_default": module.serve})
    assert checks(tmp_path / "1") == []
    np.testing.assert_array_equal(serving.run_without_python(tmp_path / "1", {"X": ROWS})["y"], 2 * ROWS)


def test_shapes_dtypes_names_and_versions_are_looked_at(tmp_path):
    specs = [tf.TensorSpec(None, tf.float64, name="any"), tf.TensorSpec((None, None), tf.float64, name="wide")]

    def odd(any, wide):
        return {
            "half": tf.cast(wide, tf.float16),
            "total": tf.reduce_sum(wide),
            "two": tf.zeros((2, 3)),
            "same": tf.identity(any),
        }

    save_module(odd, specs, tmp_path / "latest")
    found = {(finding.check, finding.where): finding.level for finding in serving.audit(tmp_path / "latest")}
    assert found == {
        ("version", "latest"): "error",
        ("dtype", "output 'half'"): "error",
        ("shape", "output 'half'"): "note",
        ("shape", "input 'any'"): "note",
        ("shape", "output 'same'"): "note",
        ("shape", "input 'wide'"): "note",
        ("batch", "output 'total'"): "note",
        ("batch", "output 'two'"): "note",
    }
    assert serving.audit(tmp_path / "latest")[0].level == "error"
    module = tf.Module()
    module.serve = tf.function(lambda X: {"y": X}, input_signature=FEATURES, autograph=False)
    tf.saved_model.save(module, tmp_path / "3", signatures={"other": module.serve})
    assert checks(tmp_path / "3") == [("note", "signature")]


def test_what_is_no_saved_model_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"holds no SavedModel: there is no saved_model\.pb"):
        serving.audit(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x0a\xff\xff\xff\xff\xffnot a model")
    with pytest.raises(ValueError, match="is no SavedModel"):
        serving.python_ops(tmp_path)


def test_a_damaged_model_is_an_error_and_not_a_crash(parts, tmp_path):
    path = serving.export(parts[0], tmp_path / "m", verify=False)
    shutil.rmtree(path / "variables")
    content = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(content[: len(content) // 2])
    with pytest.raises((RuntimeError, ValueError)):
        serving.run_without_python(path, {"X": np.zeros((1, 4))})
