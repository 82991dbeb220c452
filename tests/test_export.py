"""What is exported runs in the C runtime, and what cannot run there is named before it is put in place."""

import re
import shutil
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
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import serving

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 3))
X = tf.TensorSpec((None, 3), tf.float64, name="X")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    inputs = keras.layers.Input((3,), name="features")
    embedding = keras.layers.Dense(4, activation="tanh", name="embedding")(inputs)
    return keras.Model(inputs, {"embedding": embedding, "logit": keras.layers.Dense(1, name="logit")(embedding)})


def save(function, path, *specs, signature="serving_default", held=None):
    """Save what most people write: a module with a signature."""
    module = tf.Module()
    module.held = held
    module.serve = tf.function(function, input_signature=specs or [X], autograph=False)
    tf.saved_model.save(module, path, signatures={signature: module.serve})
    return path


def py_sum(X):
    return tf.reshape(tf.py_function(lambda x: x.numpy().sum(1), [X], tf.float64), (-1,))


def test_importing_serving_loads_neither_tensorflow_nor_pictures_and_its_functions_are_no_modules():
    functions = "callable(serving.export) and callable(serving.audit)"
    loaded = "{'tensorflow', 'keras', 'skimage', 'matplotlib'} & set(sys.modules)"
    script = f"import sys, serving.export, serving.audit; assert {functions} and not {loaded}"
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
    path = serving.export(network, tmp_path / "m", pre=scaler, post=post, outputs=list(post), examples={"X": ROWS[:6]})
    raw = RNG.normal(size=(40, 3)) * 9
    answer = serving.run_without_python(path, {"X": raw})
    assert list(answer) == ["cluster", "keep", "score"]
    here = network.predict(scaler.transform(raw), verbose=0)
    np.testing.assert_array_equal(answer["cluster"], kmeans.predict(here["embedding"].astype(float)))
    score = quantiles.transform(here["logit"].astype(float))[:, 0]
    np.testing.assert_allclose(answer["score"], score, atol=1e-5)
    np.testing.assert_array_equal(answer["keep"], (answer["score"] >= 0.7) & (answer["cluster"] != 2))
    assert serving.audit(path) == []
    assert list(tf.saved_model.load(path).signatures) == ["serving_default"]


def test_a_sequential_model_fitted_and_loaded_is_exported_under_its_layers_names(tmp_path):
    model = keras.Sequential([keras.layers.Dense(2, name="hidden"), keras.layers.Dense(1, name="y")])
    model.compile("adam", "mse")
    model.fit(ROWS, ROWS[:, :1], verbose=0)
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    path = serving.export(model, tmp_path / "m", post={"twice": lambda y: 2 * y[:, 0]})
    answer = serving.run_without_python(path, {model.inputs[0].name: ROWS})
    np.testing.assert_allclose(answer["y"], model.predict(ROWS, verbose=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answer["twice"], 2 * answer["y"][:, 0])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)


def free(interpolation):
    image = keras.Input((None, None, 1), name="image")
    return keras.Model(image, keras.layers.UpSampling2D(2, interpolation=interpolation)(image))


def test_a_subclassed_model_and_free_sizes_are_refused_with_a_remedy_that_works(tmp_path):
    called, never, shared = Subclassed(), Subclassed(), keras.layers.Dense(1, name="o")
    called(np.ones((2, 3)))
    x = keras.Input((3,), name="x")
    for model, message in [
        *((model, r"no defined inputs .*: export keras\.Model\(x, model\(x\)\)") for model in (called, never)),
        (free("bilinear"), r"cannot run in a graph on \(None, None, None, 1\).*export keras\.Model\(x, model\(x\)\)"),
        (keras.Model(x, [shared(x), shared(2 * x)]), "each output needs a name of its own"),
        (keras.Model(x, {"a": {"b": shared(x)}, "c": x}), "each output needs a name of its own"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            serving.export(model, tmp_path / "m")
        assert "\n" not in str(caught.value)
    image = keras.Input((4, 4, 1), name="x")
    for number, (inputs, model) in enumerate([(x, called), (image, free("bilinear")), (None, free("nearest"))]):
        model = model if inputs is None else keras.Model(inputs, model(inputs))
        assert serving.export(model, tmp_path / str(number)).name == "1"


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


def fields(message):
    """Return the fields of a protocol buffer without its class: their content by their numbers."""
    return {field.field_number: field.data for field in UnknownFieldSet(Empty.FromString(message))}


def test_versions_go_up_and_are_put_in_place_in_one_step_with_their_warm_up(tmp_path, monkeypatch):
    base, seen, rename = tmp_path / "demo", [], Path.rename

    def look(self, target):
        seen.append([self.parent.name[:9], self.parent.parent, *sorted(entry.name for entry in self.glob("*.*"))])
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", look)
    scaler, examples = StandardScaler().fit(ROWS), {"X": ROWS[:200]}
    paths = [serving.export(scaler, base, version=version, examples=examples) for version in (None, 10, None)]
    assert paths == [base / "1", base / "10", base / "11"]
    assert seen == [[".writing-", base, "assets.extra", "fingerprint.pb", "saved_model.pb"]] * 3
    for version in (10, 0, -1, 1.5):
        with pytest.raises(ValueError, match=r"version 10 of .* exists|the folder is named"):
            serving.export(scaler, base, version=version)
    assert sorted(entry.name for entry in base.iterdir()) == ["1", "10", "11"]
    file = str(base / "11" / "assets.extra" / "tf_serving_warmup_requests")
    for record, rows in zip(tf.data.TFRecordDataset(file), (ROWS[:1], ROWS[:200]), strict=True):
        # By the field numbers of TensorFlow Serving's public .proto files.
        request = fields(fields(fields(record.numpy())[6])[1])
        assert fields(request[1]) == {1: b"demo", 3: b"serving_default"}
        name, tensor = (fields(request[2])[number] for number in (1, 2))
        assert name == b"X"
        np.testing.assert_array_equal(tf.make_ndarray(TensorProto.FromString(tensor)), rows)


# Steps after the network, or other arguments.
REFUSED = {
    "largest row's answer": (lambda logit: tf.reduce_max(logit) + 0 * logit, ValueError, "a row alone gives"),
    "no batch": (lambda logit: tf.reduce_sum(logit), ValueError, "'k' is a scalar: without a batch axis"),
    "rows multiplied": (lambda logit: tf.tile(logit, (2, 1)), ValueError, "'k' has 6 rows for 3 rows"),
    "NumPy": (lambda logit: np.exp(logit), TypeError, "'k' leaves the graph: it may use TensorFlow ops only"),
    "and": (lambda logit: (logit > 0) and (logit < 1), TypeError, r"tf\.where for and, or, if"),
    "unknown tensor": (lambda nothing: nothing, ValueError, "'k' asks for 'nothing': the names"),
    "no function": (0.5, TypeError, "'k' must be a function of tensors; got float"),
    "Python": (lambda features: py_sum(tf.cast(features, tf.float64)), ValueError, "calls back into the Python"),
    "a name twice": ({"post": {"logit": lambda logit: logit}}, ValueError, "'logit' is the name of an input or output"),
    "unknown output": ({"outputs": ["logit", "keep"]}, ValueError, "there is no 'keep'; there are: embedding, logit"),
    "unknown input": ({"examples": {"X": ROWS}}, ValueError, "inputs must be 'features'; got 'X'"),
    "columns": ({"examples": {"features": ROWS[:, :2]}}, ValueError, r"must have shape \(None, 3\); got \(300, 2\)"),
    "one row": ({"examples": {"features": ROWS[:1]}}, ValueError, "two or more"),
    "pre": ({"pre": LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)}, AttributeError, "has no 'transform'"),
    "no model": ({"model": tf.Module()}, TypeError, "Module"),
    "not built": ({"model": keras.Sequential([keras.layers.Dense(1)])}, ValueError, "no defined inputs"),
}


@pytest.mark.parametrize(("given", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_server_can_use_is_refused_and_leaves_nothing(network, tmp_path, given, error, message):
    options = given if isinstance(given, dict) else {"post": {"k": given}}
    with pytest.raises(error, match=message):
        serving.export(**{"model": network, "path": tmp_path, **options})
    assert list(tmp_path.iterdir()) == []


# ---- the C runtime --------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 3])
def test_every_dtype_strings_and_no_rows_pass_through(tmp_path, rows):
    numbers = ["bool", "float16", "float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
    values = {dtype: RNG.integers(0, 2, (rows, 2)).astype(dtype) for dtype in numbers}
    values["float64"] = np.array([[np.nan, np.inf], [-np.inf, 5e-324], [-0.0, 1.7e308]])[:rows]
    words = [[b"", "Köln".encode()], [b"a\0b\0", b"long " * 100], [b"\xff\x00", b"z"]][:rows]
    values["string"] = np.array(words, object).reshape(rows, 2)
    specs = [tf.TensorSpec((None, 2), dtype, name=f"in_{dtype}") for dtype in values]
    path = save(lambda *given: dict(zip(values, map(tf.identity, given), strict=True)), tmp_path / "1", *specs)
    answer = serving.run_without_python(path, {f"in_{dtype}": value for dtype, value in values.items()})
    for dtype, value in values.items():
        assert answer[dtype].dtype == value.dtype
        np.testing.assert_array_equal(answer[dtype], value)


def test_the_c_runtime_has_no_python_and_inputs_are_checked_before_its_process_is_started(tmp_path):
    # Where Python's TensorFlow is imported, this op has a kernel.
    with pytest.raises(RuntimeError, match=r"^No OpKernel was registered to support Op 'EagerPyFunc'.*$"):
        serving.run_without_python(save(lambda X: {"y": py_sum(X)}, tmp_path / "1"), {"X": ROWS})
    path = save(lambda X: {"y": X}, tmp_path / "2", tf.TensorSpec((None,), tf.int32, name="X"))
    for inputs, message in [
        ({}, "inputs must be 'X'; got none"),
        ({"X": 1}, r"must have shape \(None,\); got \(\)"),
        ({"X": [1.5]}, "must hold int32; got float64"),
        ({"X": [2**40]}, "must hold int32; got numbers beyond its range"),
    ]:
        with pytest.raises(ValueError, match=message):
            serving.run_without_python(path, inputs)
    with pytest.raises(ValueError, match="no signature 'other'; there are: serving_default"):
        serving.run_without_python(path, {"X": [1]}, signature="other")


# ---- audit ----------------------------------------------------------------------------------------


def test_python_is_found_wherever_it_hides(tmp_path):
    save(lambda X: {"y": tf.cond(X[0, 0] > 0, lambda: py_sum(X), lambda: X[:, 0])}, tmp_path / "if")
    save(lambda X: {"y": tf.map_fn(lambda x: py_sum(x[None])[0], X)}, tmp_path / "map")
    save(lambda X: {"y": tf.map_fn(tf.reduce_sum, X)}, tmp_path / "clean")
    found = [{finding.check for finding in serving.python_ops(tmp_path / name)} for name in ("if", "map", "clean")]
    assert found == [{"python"}, {"python"}, set()]


def test_a_variable_that_is_not_restored_is_named_and_real(network, tmp_path):
    path = save(lambda X: network(X), tmp_path / "1", tf.TensorSpec((None, 3), tf.float32, name="X"), held=[network])
    assert [finding.check for finding in serving.audit(path)] == ["variable"] * len(network.weights)
    with pytest.raises(RuntimeError, match="Could not find variable"):
        serving.run_without_python(path, {"X": ROWS})


def test_shapes_dtypes_names_and_versions_are_looked_at(tmp_path):
    def odd(any, wide):
        half, total = tf.cast(wide, tf.float16), tf.reduce_sum(wide)
        return {"half": half, "total": total, "two": tf.zeros((2, 3)), "same": tf.identity(any)}

    specs = [tf.TensorSpec(None, tf.float64, name="any"), tf.TensorSpec((None, None), tf.float64, name="wide")]
    found = [(one.level, one.check, one.where) for one in serving.audit(save(odd, tmp_path / "latest", *specs))]
    assert found[:2] == [("error", "version", "latest"), ("error", "dtype", "output 'half'")]
    shapes = [("note", "shape", where) for where in ("input 'any'", "input 'wide'", "output 'half'", "output 'same'")]
    assert sorted(found[2:]) == [("note", "batch", f"output '{name}'") for name in ("total", "two")] + shapes
    other = serving.audit(save(lambda X: {"y": X}, tmp_path / "3", signature="other"))
    assert [(one.level, one.check) for one in other] == [("note", "signature")]
    with pytest.raises(ValueError, match=r"holds no SavedModel: there is no saved_model\.pb"):
        serving.audit(tmp_path)


def edited(source, target, change):
    """Copy a SavedModel, and change its graph: what Python's TensorFlow would not write."""
    shutil.copytree(source, target)
    model = SavedModel.FromString((target / "saved_model.pb").read_bytes())
    change(model.meta_graphs[0])
    (target / "saved_model.pb").write_bytes(model.SerializeToString())
    return target


def rename_ops(graph, name="NearestCentre"):
    for body in graph.graph_def.library.function:
        for node in body.node_def:
            node.op = name if node.op == "Mul" else node.op


def other_tensor(graph):
    graph.signature_def["serving_default"].outputs["y"].name = "nowhere:0"


def other_dtype(graph):
    graph.signature_def["serving_default"].outputs["y"].dtype = 999


def no_tensor(graph):
    graph.signature_def["serving_default"].outputs["y"].name = ""


HOSTILE = {
    "custom op": (rename_ops, "NearestCentre in function .* is no operation of TensorFlow", "Op type not registered"),
    "prefix": (lambda graph: rename_ops(graph, "XlaMyOwn"), "XlaMyOwn in function", "Op type not registered"),
    "_": (lambda graph: rename_ops(graph, "_Mine"), "_Mine in function .* is no operation", "Op type not registered"),
    "no functions": (lambda graph: graph.graph_def.library.ClearField("function"), "which is missing", "function"),
    "another tensor": (other_tensor, "is tensor 'nowhere:0', which the graph lacks", "no tensor 'nowhere:0'"),
    "no dense tensor": (no_tensor, "output 'y' is no dense tensor", "the graph has no tensor ''"),
    "unknown dtype": (other_dtype, "is of the unknown type 999: REST cannot carry it", None),
    "no output": (lambda graph: graph.signature_def["serving_default"].ClearField("outputs"), "has no output", "fetch"),
}


@pytest.mark.parametrize(("change", "message", "refusal"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_server_refuses_is_an_error_and_the_c_runtime_refuses_it(tmp_path, change, message, refusal):
    weight = tf.Variable([1.0, 2.0, 3.0], dtype=tf.float64)
    path = edited(save(lambda X: {"y": X * weight}, tmp_path / "a", held=weight), tmp_path / "1", change)
    errors = [finding.message for finding in serving.audit(path) if finding.level == "error"]
    assert re.search(message, errors[0])
    if refusal:
        with pytest.raises(RuntimeError, match=refusal):
            serving.run_without_python(path, {"X": ROWS})


DATA = "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    ("lost", "emptied"), [("variables", False), ("variables/variables.index", False), (DATA, False), (DATA, True)]
)
def test_lost_files_of_variables_are_found(tmp_path, lost, emptied):
    weight = tf.Variable([1.0, 2.0, 3.0], dtype=tf.float64)
    path = save(lambda X: {"y": X * weight}, tmp_path / "1", held=weight)
    assert serving.audit(path) == []
    (path / lost).write_bytes(b"") if emptied else shutil.move(path / lost, tmp_path / "away")
    assert [finding.check for finding in serving.audit(path)] == ["variable"]
    with pytest.raises(RuntimeError):
        serving.run_without_python(path, {"X": ROWS})


def after(operation):
    def call(X):
        with tf.control_dependencies([operation()]):
            return {"y": X[:, 0] + 0}

    return call


def test_what_touches_files_is_noted_also_in_a_loop_and_not_the_saving_of_variables(tmp_path):
    write = after(lambda: tf.io.write_file(str(tmp_path / "written"), "a"))
    words = lambda: tf.raw_ops.TensorDataset(components=["a"], output_shapes=[()])  # noqa: E731
    touching = {
        "read": after(lambda: tf.io.read_file(__file__)),
        "write": write,
        "loop": lambda X: {"y": tf.map_fn(lambda row: write(row[None])["y"][0], X)},
        "records": after(
            lambda: tf.raw_ops.DatasetToTFRecord(input_dataset=words(), filename="b", compression_type="")
        ),
        "print": after(lambda: tf.print("a", output_stream=f"file://{tmp_path / 'printed'}")),
    }
    for name, call in touching.items():
        found = serving.audit(save(call, tmp_path / name / "1"))
        assert [(finding.level, finding.check) for finding in found] == [("note", "file")], name
    assert not (tmp_path / "written").exists()
    words = keras.layers.StringLookup(vocabulary=["a", "b"])
    held = [words, tf.Variable(0.0)]
    text = tf.TensorSpec((None,), tf.string, name="X")
    assert serving.audit(save(lambda X: {"y": words(X)}, tmp_path / "9", text, held=held)) == []


def also_when_restoring(graph):
    graph.saver_def.restore_op_name = "write"


def in_a_collection(graph):
    graph.collection_def["saved_model_main_op"].node_list.value[:] = ["write"]
    graph.signature_def.pop("__saved_model_init_op", None)


@pytest.mark.parametrize("loading", [also_when_restoring, in_a_collection])
def test_what_writes_when_the_model_is_loaded_is_noted_and_does_write(tmp_path, loading):
    def change(graph):
        for name, text in (("name", str(tmp_path / "written")), ("text", "a")):
            node = graph.graph_def.node.add(name=name, op="Const")
            node.attr["dtype"].type = tf.string.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))
        graph.graph_def.node.add(name="write", op="WriteFile", input=["name", "text"])
        loading(graph)

    weight = tf.Variable(2.0, dtype=tf.float64)
    path = edited(save(lambda X: {"y": X}, tmp_path / "a", held=weight), tmp_path / "1", change)
    assert [(finding.level, finding.check) for finding in serving.audit(path)] == [("note", "file")]
    assert not (tmp_path / "written").exists()
    serving.run_without_python(path, {"X": ROWS})
    assert (tmp_path / "written").exists()


def test_python_that_no_signature_runs_is_a_note_and_is_served(tmp_path):
    module = tf.Module()
    module.serve = tf.function(lambda X: {"y": 2 * X}, input_signature=[X], autograph=False)
    module.other = tf.function(py_sum, input_signature=[X], autograph=False)
    tf.saved_model.save(module, tmp_path / "1", signatures=module.serve)
    assert [(finding.level, finding.check) for finding in serving.audit(tmp_path / "1")] == [("note", "python")]
    np.testing.assert_array_equal(serving.run_without_python(tmp_path / "1", {"X": ROWS})["y"], 2 * ROWS)


def test_a_table_from_a_file_of_the_server_is_noted_and_one_from_an_asset_is_not(tmp_path):
    (tmp_path / "words").write_text("a\nb\n")
    index, text = tf.lookup.TextFileIndex, tf.TensorSpec((None,), tf.string, name="X")
    columns = tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
    table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(str(tmp_path / "words"), *columns), -1)
    assert serving.audit(save(lambda X: {"y": table.lookup(X)}, tmp_path / "a" / "1", text, held=table)) == []

    def own(X):
        table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
        fill = tf.raw_ops.InitializeTableFromTextFileV2
        with tf.control_dependencies([fill(table_handle=table, filename="/etc/passwd", key_index=-2, value_index=-1)]):
            return {"y": tf.raw_ops.LookupTableSizeV2(table_handle=table) + tf.ones_like(X, tf.int64)}

    found = serving.audit(save(own, tmp_path / "b" / "1", text))
    assert [(finding.level, finding.check) for finding in found] == [("note", "file")]


def test_garbage_is_no_savedmodel_whatever_its_bytes_are(tmp_path):
    file = save(lambda X: {"y": X}, tmp_path / "1") / "saved_model.pb"
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    for garbage in (b"", b"\n" * 100_000, rng.bytes(5000), whole[:-50]):
        file.write_bytes(garbage)
        with pytest.raises(ValueError, match=r"no SavedModel|no graph with the tag"):
            serving.audit(tmp_path / "1")
    with file.open("wb") as huge:
        huge.truncate(3 * 2**30)
    with pytest.raises(ValueError, match="more than the 2 GB"):
        serving.audit(tmp_path / "1")
    for _ in range(300):
        spoilt = np.frombuffer(whole, np.uint8).copy()
        spoilt[rng.integers(len(whole), size=3)] = rng.integers(256, size=3)
        file.write_bytes(spoilt.tobytes())
        try:
            serving.audit(tmp_path / "1")
        except ValueError as error:
            assert "no SavedModel" in str(error) or "no graph with the tag" in str(error)
