"""What lesson 14 says of models that it has not seen, and that the readers which it uses report to nobody.

The lesson's functions are taken from its cells; its own exports are run by nbval.
"""

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import anatomy
import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf

from helpers.notebook import ROOT

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

LESSON = ROOT / "notebooks" / "14_model_formats.ipynb"
CONSTANTS = {"FORMATS", "ENDINGS", "READERS"}
RUNS, REFUSED, NO_FILE = "yes", "no", "no file"


def kept(statement):
    """Tell whether a statement defines something, and computes nothing."""
    targets = [*getattr(statement, "targets", []), getattr(statement, "target", None)]
    named = {target.id for target in targets if isinstance(target, ast.Name)}
    return isinstance(statement, (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Try)) or bool(named & CONSTANTS)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """Return the lesson's functions, with a folder of their own and nothing exported yet."""
    cells = [
        cell
        for cell in anatomy.code(nbformat.read(LESSON, as_version=4))
        if "solution" not in cell.metadata.get("tags", [])
    ]
    statements = [statement for cell in cells for statement in ast.parse(anatomy.python(cell)).body]
    # The reader that is in no lock has a test of its own.
    module = ast.Module(
        [one for one in statements if kept(one) and "OpenVINO" not in ast.unparse(one).split("def ")[0]], []
    )
    space = {"seed": 0, "threshold": 0.5, "folder": tmp_path_factory.mktemp("formats")}
    space |= {"inputs": {}, "known": {}, "errors": {}}
    exec(compile(module, str(LESSON), "exec"), space)
    return space


def lstm(unroll):
    series = keras.Input((6, 3), name="series")
    return series, keras.layers.Dense(2)(keras.layers.LSTM(4, unroll=unroll)(series))


def two_inputs():
    first, second = keras.Input((3,), name="z"), keras.Input((3,), name="a")
    # Not the same if the two are exchanged.
    return [first, second], {"y": keras.layers.Dense(1)(first - 2 * second), "b": first + 3 * second}


def ids():
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    mean = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(50, 4)(tokens))
    return tokens, keras.layers.Dense(3, "softmax")(mean)


def string():
    word = keras.Input((1,), dtype="string", name="word")
    return word, keras.layers.StringLookup(vocabulary=["0", "b"], output_mode="one_hot")(word)


def enlarged(size):
    image = keras.Input((size, size, 3), name="image")
    return image, keras.layers.UpSampling2D(interpolation="bilinear")(keras.layers.Conv2D(2, 3)(image))


def normalised():
    x = keras.Input((4,), name="x")
    return x, keras.layers.Normalization(mean=[0.0, 1, 2, 3], variance=[1.0, 2, 3, 4])(x)


def batch_normalised():
    x = keras.Input((4,), name="x")
    return x, keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.layers.Dense(5)(x)))


def binned():
    x = keras.Input((4,), name="x")
    return x, keras.layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0])(x)


def double():
    x = keras.Input((4,), name="x", dtype="float64")
    return x, keras.layers.Dense(2, dtype="float64")(x)


@keras.saving.register_keras_serializable("tests")
class Softplus(keras.layers.Layer):
    """A layer that no library has."""

    def call(self, x):
        return keras.ops.softplus(2 * x)


def own_layer():
    x = keras.Input((4,), name="x")
    return x, keras.layers.Dense(2)(Softplus()(x))


# In the order SavedModel, LiteRT, ONNX.
CASES = {
    "LSTM": (lambda: lstm(False), [RUNS, REFUSED, RUNS]),
    "unrolled LSTM": (lambda: lstm(True), [RUNS] * 3),
    "two inputs and outputs": (two_inputs, [RUNS] * 3),
    "IDs": (ids, [RUNS] * 3),
    "string": (string, [RUNS] * 3),
    "image of free size": (lambda: enlarged(None), [NO_FILE] * 3),
    "image of fixed size": (lambda: enlarged(16), [RUNS] * 3),
    "normalised": (normalised, [RUNS] * 3),
    "batch normalised": (batch_normalised, [RUNS] * 3),
    "binned": (binned, [RUNS, RUNS, REFUSED]),
    "float64": (double, [RUNS, REFUSED, RUNS]),
    "own layer": (own_layer, [RUNS] * 3),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_lesson_says_of_a_model_is_so(case, lesson):
    """A file that runs gives what Keras gives, by name; where none runs, a reason is told."""
    keras.utils.set_random_seed(0)
    (inputs, outputs), expected = CASES[case][0](), CASES[case][1]
    outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
    model = lesson["by_name"](keras.Model(inputs, outputs), **outputs)
    rows = {tensor.name: lesson["made_up"](tensor) for tensor in model.inputs}
    lesson["add"](case, model, rows)
    table = lesson["survey"]([case], ["SavedModel", "LiteRT", "ONNX"])
    assert list(table["runs"]) == expected, table.to_string()
    assert set(table["flipped"][table["runs"] == RUNS]) <= {"0"} and set(table["difference"]) <= {"< 1e-05", ""}
    assert all(table["why"][table["runs"] != RUNS].str.len() > 5)


def test_a_file_that_gives_something_else_is_told(lesson):
    x = keras.Input((4,), name="x")
    right, wrong = (keras.Model({"x": x}, {"y": keras.layers.Dense(1)(x)}) for _ in range(2))
    lesson["add"]("right", right, {"x": lesson["made_up"](x)})
    lesson["known"]["right"] = lesson["ask_keras"](wrong, lesson["inputs"]["right"])
    table = lesson["survey"](["right"], ["SavedModel", "LiteRT", "ONNX"])
    assert set(table["runs"]) == {RUNS}
    assert (table["difference"] != "< 1e-05").all() and (table["flipped"] != "0").all()


@pytest.mark.parametrize("told", [True, False])
def test_the_readers_ask_for_no_address_and_write_nothing_at_home(told, tmp_path, lesson):
    """The pinned ONNX Runtime is silent by itself; newer ones write an ID beside the cache, unless they are told."""
    x = keras.Input((4,), name="x")
    lesson["add"]("silent", keras.Model({"x": x}, {"y": keras.layers.Dense(1)(x)}), {"x": lesson["made_up"](x)})
    script = """
        import socket, sys
        def refused(*arguments, **options):
            raise SystemExit(f"it asked for {arguments}")
        socket.getaddrinfo = socket.create_connection = socket.socket.connect = refused
        import numpy as np, onnx, onnxruntime
        from ai_edge_litert.interpreter import Interpreter
        onnxruntime.disable_telemetry_events()
        rows = np.zeros((2, 4), "float32")
        onnxruntime.InferenceSession(sys.argv[1] + ".onnx").run(None, {"x": rows})
        Interpreter(sys.argv[1] + ".tflite").get_signature_runner()(x=rows)
    """
    left_out = ("CI", "TF_BUILD", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    environment |= {"ORT_DISABLE_TELEMETRY": "1"} if told else {}
    command = [sys.executable, "-c", textwrap.dedent(script), str(lesson["folder"] / "silent")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows it writes events, which the lesson switches off")
def test_the_pinned_onnx_runtime_knows_no_address_of_its_makers():
    """Its own library asks for addresses past Python's sockets, so the library itself is searched."""
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("onnxruntime_pybind11_state*.so")
    assert b"events.data.microsoft.com" not in library.read_bytes()


def test_a_file_without_its_constants_is_written_without_a_word_in_the_log(tmp_path, caplog):
    """As the lesson says of the numbers; of a table of strings the log does tell."""
    silent, told = (keras.Model(*case()) for case in (normalised, string))
    silent(np.zeros((2, 4), "float32")), told(tf.constant([["b"]]))  # Keras exports to ONNX what was called once
    silent.export(tmp_path / "silent.onnx", format="onnx", verbose=False)
    assert [record for record in caplog.records if record.name.startswith("tf2onnx")] == []
    assert len(onnxruntime.InferenceSession(tmp_path / "silent.onnx").get_inputs()) > 1
    told.export(tmp_path / "told.onnx", format="onnx", verbose=False)
    assert any(record.levelname == "ERROR" for record in caplog.records)


def test_onnx_runtime_is_imported_nowhere_before_it_is_told_to_be_silent():
    sources = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("[a-z]*/*.py")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        sources[path] = "\n".join(cell.source for cell in anatomy.code(nbformat.read(path, as_version=4)))
    users = {
        path for path, source in sources.items() if re.search(r"^\s*(import|from) onnxruntime", source, re.MULTILINE)
    }
    assert LESSON in users
    for path in users:
        before = re.split(r"^\s*(?:import|from) onnxruntime", sources[path], flags=re.MULTILINE)[0]
        assert 'os.environ["ORT_DISABLE_TELEMETRY"] = "1"' in before, path
