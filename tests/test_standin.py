"""The stand-in for TensorFlow Serving and its client: formats, types, refusals, load and faults, on loopback."""

import asyncio
import contextlib
import gc
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import weakref
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from helpers.notebook import UserError
from serving import local_server
from serving.client import Client, ServingError

# ---- models -------------------------------------------------------------------------------------


class Scaled(tf.Module):
    """One input, one output: the version is in every answer."""

    def __init__(self, factor):
        self.factor = tf.Variable(tf.constant(factor, tf.float64))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64, name="x")])
    def __call__(self, x):
        return {"y": self.factor * x}


class Echo(tf.Module):
    """Every type that goes over the interface, there and back."""

    DTYPES = ("float32", "float64", "int8", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string")

    @tf.function(input_signature=[tf.TensorSpec([None], dtype, name=dtype) for dtype in DTYPES])
    def __call__(self, *tensors):
        answers = {dtype: tf.identity(tensor) for dtype, tensor in zip(self.DTYPES, tensors, strict=True)}
        return answers | {"string_bytes": tf.identity(answers["string"])}


class Matrix(tf.Module):
    """Two inputs, a fixed width, a refusal of its own, and a second signature."""

    def __init__(self):
        self.weights = tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))

    @tf.function(
        input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x"), tf.TensorSpec([None], tf.string, name="word")]
    )
    def both(self, x, word):
        x = tf.debugging.check_numerics(x, "Matrix: x is not finite")
        return {"product": x @ self.weights, "upper": tf.strings.upper(word)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def scalar(self, x):
        return {"y": x + 1.0}


class Half(tf.Module):
    """A type that JSON does not carry, on either side."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, name="x")])
    def taken(self, x):
        return {"y": tf.cast(x, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def given(self, x):
        return {"y": tf.cast(x, tf.float16)}


class Python(tf.Module):
    """What a model server cannot run."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64, name="x")])
    def __call__(self, x):
        return {"y": tf.py_function(lambda value: value * 3, [x], tf.float64)}


def save(module, folder, **signatures):
    tf.saved_model.save(module, os.fspath(folder), signatures=signatures or {"serving_default": module.__call__})
    return folder


def save_models(folder):
    """Save the models that the client's tests use; return their base folders."""
    save(Scaled(2.0), folder / "scaled" / "1")
    save(Echo(), folder / "echo" / "1")
    matrix, half = Matrix(), Half()
    save(matrix, folder / "matrix" / "7", serving_default=matrix.both, scalar=matrix.scalar)
    save(half, folder / "half" / "1", serving_default=half.taken, given=half.given)
    return {name: folder / name for name in ("scaled", "echo", "matrix", "half")}


def put(saved, base, version):
    """Put a version in place in one step, as an export does."""
    shutil.copytree(saved, base / "copy")
    (base / "copy").rename(base / str(version))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    versions = {factor: save(Scaled(float(factor)), folder / str(factor)) for factor in (1, 2, 3)}
    return versions | {"python": save(Python(), folder / "python")}


@pytest.fixture(scope="module")
def swapped(tmp_path_factory, saved):
    base = tmp_path_factory.mktemp("swapped")
    put(saved[1], base, 1)
    return base


@pytest.fixture(scope="module")
def url(models, swapped):
    with local_server.running({**models, "swapped": swapped}) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    with Client(url) as client:
        yield client


def ask(url, method, path, body=None):
    """Send a request as it is; return the code and the JSON of the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def predict(url, model, document):
    return ask(url, "POST", f"/v1/models/{model}:predict", json.dumps(document))


def server_process(url):
    """Find the process that listens at a URL among our children."""
    port = urlsplit(url).port
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in child.net_connections("tcp")):
                return child
    raise AssertionError(f"nothing listens at {url}")


# ---- formats: also run against the container ------------------------------------------------------


def test_a_single_input_may_be_bare_or_named_in_either_format(url):
    assert predict(url, "scaled", {"instances": [1.0, 2.5]}) == (200, {"predictions": [2.0, 5.0]})
    assert predict(url, "scaled", {"instances": [{"x": 1.0}, {"x": 2.5}]}) == (200, {"predictions": [2.0, 5.0]})
    assert predict(url, "scaled", {"inputs": [1, 2.5]}) == (200, {"outputs": [2.0, 5.0]})
    assert predict(url, "scaled", {"inputs": {"x": [1, 2.5]}}) == (200, {"outputs": [2.0, 5.0]})


def test_several_inputs_and_outputs_are_named(url):
    rows = [{"x": [1, 0, 0], "word": "a"}, {"x": [0, 1, 1], "word": {"b64": "Yg=="}}]
    assert predict(url, "matrix", {"instances": rows}) == (
        200,
        {"predictions": [{"product": [0.0, 1.0], "upper": "A"}, {"product": [6.0, 8.0], "upper": "B"}]},
    )
    columns = {"x": [[1, 0, 0], [0, 1, 1]], "word": ["a", {"b64": "Yg"}]}
    assert predict(url, "matrix", {"inputs": columns}) == (
        200,
        {"outputs": {"product": [[0.0, 1.0], [6.0, 8.0]], "upper": ["A", "B"]}},
    )


def test_a_signature_is_chosen_by_name_and_may_take_one_value(url):
    assert predict(url, "matrix", {"signature_name": "scalar", "inputs": 1.5}) == (200, {"outputs": 2.5})
    assert predict(url, "matrix", {"signature_name": "scalar", "inputs": {"x": 1.5}}) == (200, {"outputs": 2.5})
    assert predict(url, "scaled", {"signature_name": "", "inputs": [1]}) == (200, {"outputs": [2.0]})


def test_a_version_may_be_named(url):
    body = json.dumps({"inputs": [1.0]})
    assert ask(url, "POST", "/v1/models/scaled/versions/1:predict", body) == (200, {"outputs": [2.0]})
    assert ask(url, "POST", "/V1/Models/scaled/versions/0001:Predict", body) == (200, {"outputs": [2.0]})


def test_the_first_of_two_equal_names_counts(url):
    assert ask(url, "POST", "/v1/models/scaled:predict", '{"inputs": [1], "inputs": [2]}') == (200, {"outputs": [2.0]})


def test_a_name_that_the_signature_lacks_is_passed_over_in_columns_and_refused_in_rows(url):
    assert predict(url, "scaled", {"inputs": {"x": [1.0], "z": [1.0]}})[0] == 200
    assert predict(url, "scaled", {"instances": [{"x": 1.0, "z": 1.0}]})[0] == 400


def test_status_and_metadata_are_those_of_the_protocol(url):
    state = {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/matrix", "/v1/models/matrix/versions/7"):
        assert ask(url, "GET", path) == (200, {"model_version_status": [state]})
    for path in ("/v1/models/matrix/metadata", "/v1/models/matrix/versions/7/metadata"):
        code, answer = ask(url, "GET", path)
        assert code == 200
        assert answer["model_spec"] == {"name": "matrix", "signature_name": "", "version": "7"}
        definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert definition["method_name"] == "tensorflow/serving/predict"
        assert definition["inputs"]["x"]["dtype"] == "DT_FLOAT"
        assert definition["inputs"]["x"]["tensor_shape"] == {
            "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
            "unknown_rank": False,
        }


def test_the_client_tells_what_a_model_takes_and_gives(client):
    assert client.status("matrix") == [{"version": 7, "state": "AVAILABLE", "code": "OK", "message": ""}]
    assert client.status("matrix", 7) == client.status("matrix")
    found = client.metadata("matrix")
    assert found["version"] == 7
    assert found["signatures"] == {
        "serving_default": {
            "inputs": {"x": ("float32", (None, 3)), "word": ("string", (None,))},
            "outputs": {"product": ("float32", (None, 2)), "upper": ("string", (None,))},
        },
        "scalar": {"inputs": {"x": ("float32", ())}, "outputs": {"y": ("float32", ())}},
    }


def columns_of(count):
    whole = {name: getattr(np, name) for name in Echo.DTYPES if "int" in name}
    return st.fixed_dictionaries(
        {
            "float32": hnp.arrays(np.float32, count),
            "float64": hnp.arrays(np.float64, count),
            **{name: hnp.arrays(kind, count) for name, kind in whole.items()},
            "bool": hnp.arrays(np.bool_, count),
            "string": st.lists(st.text(), min_size=count, max_size=count).map(lambda words: np.array(words, object)),
        }
    )


@pytest.mark.parametrize("rows", [False, True], ids=["columns", "rows"])
@settings(max_examples=40, deadline=None)
@given(columns=st.integers(1, 3).flatmap(columns_of))
def test_every_value_of_every_type_comes_back_as_it_was(client, rows, columns):
    answer = client.predict("echo", columns, rows=rows)
    encoded = [word.encode() for word in columns["string"]]
    assert answer.pop("string_bytes").tolist() == encoded
    assert answer.keys() == columns.keys()
    for name, column in columns.items():
        assert answer[name].dtype == column.dtype
        np.testing.assert_array_equal(answer[name], column)


@pytest.mark.parametrize("rows", [False, True], ids=["columns", "rows"])
def test_nan_and_infinity_go_both_ways(client, rows):
    values = [np.nan, np.inf, -np.inf, -0.0, 1e-300]
    answer = client.predict("scaled", {"x": values}, rows=rows)["y"]
    np.testing.assert_array_equal(answer, 2 * np.array(values))


def test_bytes_that_are_no_text_arrive_and_come_back(client):
    ones = {name: np.ones(1, name) for name in Echo.DTYPES if name != "string"}
    raw = bytes(range(256))
    with pytest.raises(ServingError, match=r"is no JSON .* needs a name that ends in '_bytes'\.$"):
        client.predict("echo", {**ones, "string": np.array([raw], object)})
    answer = client.predict("echo", {**ones, "string": np.array([b"a\0b"], object)})
    assert (answer["string"][0], answer["string_bytes"][0]) == ("a\0b", b"a\0b")


def test_what_the_graph_refuses_is_the_clients_fault_in_the_graphs_words(client):
    with pytest.raises(ServingError, match="Matrix: x is not finite") as caught:
        client.predict("matrix", {"x": [[1, 2, np.nan]], "word": ["a"]})
    assert caught.value.status == 400
    assert "\n" not in str(caught.value)


REFUSED = [
    # what is no JSON, or not of the form
    ("scaled", "", 400, "JSON Parse error: The document is empty"),
    ("scaled", "instances = [1, 2]", 400, "JSON Parse error: Invalid value"),
    ("scaled", '{"instances": [1, 2}', 400, "JSON Parse error: Missing a comma or"),
    ("scaled", '{"instances": [1]} x', 400, "JSON Parse error: The document root must not be followed by other values"),
    ("scaled", '{"instances": [1', 400, "JSON Parse error"),
    ("scaled", b'{"instances": ["\xff"]}', 400, "JSON Parse error"),
    ("scaled", "[1, 2]", 400, "Is not object"),
    ("scaled", "{}", 400, "Missing 'inputs' or 'instances' key"),
    ("scaled", '{"instances": [1], "inputs": [1]}', 400, "Not formatted correctly expecting only one of"),
    ("scaled", '{"instances": 1}', 400, "to be an list/array"),
    ("scaled", '{"instances": []}', 400, "No values in 'instances' array"),
    ("scaled", '{"signature_name": 5, "instances": [1]}', 400, "'signature_name' key must be a string value"),
    ("scaled", '{"signature_name": "no", "instances": [1]}', 400, 'Serving signature name: "no" not found'),
    # wrong types
    ("scaled", '{"instances": ["a"]}', 400, "is not of expected type: double"),
    ("scaled", '{"instances": [true]}', 400, "is not of expected type: double"),
    ("scaled", '{"instances": [null]}', 400, "is not of expected type: double"),
    ("scaled", '{"inputs": [1, {"b64": "YQ=="}]}', 400, "is not of expected type: double"),
    ("scaled", '{"inputs": [1e999]}', 400, "Number too big to be stored in double"),
    # wrong shapes
    ("scaled", '{"inputs": [[1, 2], [3]]}', 400, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ("scaled", '{"inputs": [1, [2]]}', 400, "Encountered list at unexpected level: 1 expected < 1"),
    ("scaled", '{"inputs": [[1], 2]}', 400, "found at incorrect level"),
    (
        "scaled",
        '{"instances": [[1, 2], [3]]}',
        400,
        "Failed to process element: 1 .*Expecting tensor size: 2 but got: 1",
    ),
    (
        "scaled",
        '{"instances": [[1, 2], [[3, 4]]]}',
        400,
        r"Failed to process element: 1 .*Expecting shape \[2\] but got",
    ),
    # several inputs
    ("matrix", '{"instances": [1]}', 400, "instances is a plain list, but expecting list of objects"),
    ("matrix", '{"inputs": [1]}', 400, "inputs is a plain value/list, but expecting an object"),
    ("matrix", '{"inputs": {"x": [[1, 2, 3]]}}', 400, "Missing named input: word in 'inputs' object"),
    ("matrix", '{"instances": [{"x": [1, 2, 3]}]}', 400, "Failed to process element: 0 of 'instances' list"),
    (
        "matrix",
        '{"instances": [{"x": [1, 2, 3], "word": "a", "z": 1}]}',
        400,
        "Failed to process element: 0 key: z .* does not have named input: z",
    ),
    ("matrix", '{"instances": [{"x": [1, 2, 3], "word": "a"}, [1]]}', 400, "Expecting object but got list at item 1"),
    ("scaled", '{"instances": [1, {"x": 1}]}', 400, "Expecting value/list but got object at item 1"),
    ("matrix", '{"inputs": {"x": [[1, 2, 3]], "word": [1]}}', 400, "is not of expected type: string"),
    ("matrix", '{"inputs": {"x": [[1, 2, 3]], "word": [{"b64": "?"}]}}', 400, "Unable to base64 decode"),
    ("matrix", '{"inputs": {"x": [[1, 2, 3]], "word": [{"b65": "YQ=="}]}}', 400, "for base64 data"),
    ("matrix", '{"inputs": {"x": [[1, 2, 3]], "word": ["\\ud800"]}}', 400, "surrogate pair"),
    ("matrix", '{"inputs": {"x": [[1, 2, 1e39]], "word": ["a"]}}', 400, "1e\\+39 to float without loss of precision"),
    ("matrix", '{"inputs": {"x": [[1, 2]], "word": ["a"]}}', 400, ""),
    # a row needs a batch, and some types have no JSON
    ("matrix", '{"signature_name": "scalar", "instances": [1.0]}', 400, ""),
    ("half", '{"inputs": [1.0]}', 501, "Conversion of JSON Value: .* to type: half"),
    ("half", '{"signature_name": "given", "inputs": [1.0]}', 400, "Failed to write JSON value for tensor type: half"),
]


@pytest.mark.parametrize(("model", "body", "code", "sentence"), REFUSED)
def test_a_wrong_request_gets_its_code_and_one_sentence(url, model, body, code, sentence):
    answered, answer = ask(url, "POST", f"/v1/models/{model}:predict", body)
    assert answered == code
    assert answer.keys() == {"error"}
    assert len(answer["error"]) < 400
    assert "\n" not in answer["error"].strip()
    assert re.search(sentence, answer["error"]), answer["error"]
    assert predict(url, "scaled", {"inputs": [1.0]}) == (200, {"outputs": [2.0]})


WHOLE = {"int8": (-128, 127), "uint8": (0, 255), "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1)}
WHOLE |= {"int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1)}


@pytest.mark.parametrize("dtype", WHOLE)
def test_a_whole_number_must_fit_its_type(url, dtype):
    ones = {name: ["a"] if name == "string" else [True] if name == "bool" else [1] for name in Echo.DTYPES}
    for value in (*WHOLE[dtype], 0):
        code, answer = predict(url, "echo", {"inputs": ones | {dtype: [value]}})
        assert (code, answer.get("outputs", {}).get(dtype)) == (200, [value])
    for wrong in (WHOLE[dtype][0] - 1, WHOLE[dtype][1] + 1, 1.0, True, "1"):
        code, answer = predict(url, "echo", {"inputs": ones | {dtype: [wrong]}})
        assert code == 400
        assert f"is not of expected type: {dtype}" in answer["error"]


PATHS = [
    ("GET", "/v1/models/none", 404, "Could not find any versions of model none"),
    ("GET", "/v1/models/scaled/versions/99", 404, "Could not find version 99 of model scaled"),
    ("GET", "/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
    ("GET", "/v1/models/scaled/versions/99/metadata", 404, "Servable not found for request: Specific(scaled, 99)"),
    ("POST", "/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
    ("POST", "/v1/models/scaled/versions/99:predict", 404, "Servable not found for request: Specific(scaled, 99)"),
    ("POST", "/v1/models/scaled/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
    ("POST", f"/v1/models/scaled/versions/{2**64}:predict", 400, f"Failed to convert version: {2**64} to numeric."),
    ("GET", "/v1/models/scaled:predict", 400, "Malformed request: GET /v1/models/scaled:predict"),
    ("PUT", "/v1/models/scaled:predict", 400, "Malformed request: PUT /v1/models/scaled:predict"),
    ("DELETE", "/v1/models/scaled", 400, "Malformed request: DELETE /v1/models/scaled"),
    ("POST", "/v1/models/scaled", 400, "Malformed request: POST /v1/models/scaled"),
    ("POST", "/v1/models/scaled/metadata", 400, "Malformed request: POST /v1/models/scaled/metadata"),
    ("POST", "/v1/models/scaled/version/1:predict", 400, "Malformed request: POST /v1/models/scaled/version/1:predict"),
    ("POST", "/v1/models/scaled/versions/one:predict", 400, "Malformed request: "),
    ("POST", "/v1/models/scaled/versions/-1:predict", 400, "Malformed request: "),
    ("GET", "/v1/models", 400, "Missing model name in request."),
    ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
    ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
    ("GET", "/v1/models/a/../../../etc/passwd", 400, "Malformed request: "),
    ("GET", "/v1/models/scaled%2f..%2f", 404, "Could not find any versions of model scaled/../"),
]


@pytest.mark.parametrize(("method", "path", "code", "sentence"), PATHS)
def test_a_wrong_path_or_method_gets_its_code_and_one_sentence(url, method, path, code, sentence):
    answered, answer = ask(url, method, path, '{"inputs": [1.0]}' if method == "POST" else None)
    assert answered == code
    assert answer["error"].startswith(sentence)


def test_what_is_no_json_is_told_before_that_there_is_no_such_model(url):
    assert ask(url, "POST", "/v1/models/none:predict", "{")[0] == 400


# ---- the stand-in alone ---------------------------------------------------------------------------


def test_whole_decimals_and_short_ones_are_written_as_the_model_server_writes_them(url):
    floats = [9000000.0, 1234560.0, 0.5, 0.0003, 0.00003, 555557.5, 0.2, 1 / 3]
    body = {name: ["a"] * 8 if name == "string" else [True] * 8 if name == "bool" else [1] * 8 for name in Echo.DTYPES}
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("POST", "/v1/models/echo:predict", json.dumps({"inputs": body | {"float32": floats}}))
    text = connection.getresponse().read().decode()
    connection.close()
    assert '"float32": [9e+06, 1.23456e+06, 0.5, 0.0003, 3e-05, 555557.5, 0.2, 0.333333343]' in text


def test_a_shape_that_the_signature_does_not_allow_is_named(url):
    _, answer = predict(url, "matrix", {"inputs": {"x": [[1, 2]], "word": ["a"]}})
    assert answer["error"] == "Input 'x' has shape [1,2], but the signature expects [-1,3]."


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "b64", "z"]), inner, max_size=2)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["inputs", "instances"]),
    st.sampled_from(["scaled", "matrix", "half"]),
)
def test_no_document_makes_the_server_fail(url, value, key, model):
    code, answer = predict(url, model, {key: value})
    assert code in (200, 400, 501)
    assert code == 200 or (list(answer) == ["error"] and answer["error"])


@pytest.mark.parametrize("depth", [65, 500, 960, 990, 1000, 5000, 200_000])
def test_deep_nesting_is_refused(url, depth):
    lists = "[" * depth + "]" * depth
    for body in (f'{{"inputs": {lists}}}', f'{{"instances": {lists}}}', f'{{"other": {lists}}}', lists, "[" * depth):
        code, answer = ask(url, "POST", "/v1/models/scaled:predict", body)
        assert code == 400, answer
    assert predict(url, "scaled", {"inputs": [1.0]})[0] == 200


def test_a_body_beyond_the_limit_is_read_and_refused(url):
    code, answer = ask(url, "POST", "/v1/models/scaled:predict", b" " * 50_000_000)
    assert code == 413
    assert answer["error"] == "The body has 50,000,000 bytes; this stand-in takes at most 33,554,432."
    chunks = (b" " * 1_000_000 for _ in range(50))
    assert ask(url, "POST", "/v1/models/scaled:predict", chunks)[0] == 413
    assert ask(url, "POST", "/elsewhere", b" " * 50_000_000)[0] == 413
    whole = b'{"inputs": [1.0]}'.ljust(standin.LIMIT)
    assert ask(url, "POST", "/v1/models/scaled:predict", whole) == (200, {"outputs": [2.0]})


def test_clients_that_go_away_or_speak_no_http_do_no_harm(url):
    where = urlsplit(url)
    for text in (
        b"POST /v1/models/scaled:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"\x16\x03\x01 no http\r\n\r\n",
        b"GET /v1/models/scaled HTTP/1.1\r\nHost: x\r\n",
        b"",
    ):
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall(text)
    assert predict(url, "scaled", {"inputs": [1.0]}) == (200, {"outputs": [2.0]})


def test_a_client_that_goes_away_while_it_sends_is_no_error(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    app, sent = local_server.create_app({"a": tmp_path}), []
    path = b"/v1/models/a:predict"
    scope = {
        "type": "http",
        "method": "POST",
        "path": path.decode(),
        "raw_path": path,
        "headers": [],
        "query_string": b"",
    }

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message.get("status"))

    asyncio.run(app(scope, receive, send))
    assert sent[0] == 499


def test_there_are_no_pages_and_no_other_methods(url):
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/v1"):
        assert ask(url, "GET", path) == (404, {"error": f"Not Found: {path}"})
    assert ask(url, "BREW", "/v1/models/scaled") == (405, {"error": "Method Not Allowed: BREW"})
    assert ask(url, "POST", "/v1/models/scaled:classify", "{}")[0] == 501


def test_it_listens_on_this_machine_only(url, capsys):
    listening = [c.laddr.ip for c in server_process(url).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]
    with pytest.raises(SystemExit) as caught:
        local_server.main(["a=b", "--host", "0.0.0.0"])
    assert caught.value.code == 2
    assert "--host" in capsys.readouterr().err


# ---- load and faults ------------------------------------------------------------------------------


@contextlib.contextmanager
def in_the_background(count, work, stop=None):
    """Run work(k) in `count` threads; at the end of the block set `stop`, wait, and raise what any of them raised."""
    errors = []

    def guarded(k):
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        if stop is not None:
            stop.set()
        for thread in threads:
            thread.join()
        assert errors == []


def test_ten_thousand_requests_of_32_clients_are_answered_each_with_its_own(client):
    answered = np.full(10_000, np.nan)

    def work(k):
        for value in range(k, len(answered), 32):
            answer = client.predict("scaled", {"x": [value, -value, 0.5]}, rows=value % 2 == 1)["y"]
            assert answer.tolist() == [2 * value, -2 * value, 1.0]
            answered[value] = answer[0] / 2

    with in_the_background(32, work):
        pass
    assert np.array_equal(answered, np.arange(10_000))


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


def states(client):
    return {state["version"]: state["state"] for state in client.status("swapped")}


def test_versions_change_under_load_without_a_failed_request_and_broken_ones_change_nothing(url, saved, swapped):
    stop, seen = threading.Event(), [[] for _ in range(8)]

    def work(k):
        while not stop.is_set():
            seen[k].append(client.predict("swapped", {"x": [1.0]})["y"].item())

    def scenario():
        put(saved[2], swapped, 2)
        until(lambda: states(client) == {1: "END", 2: "AVAILABLE"}, "version 2")
        for _ in range(200):
            assert client.predict("swapped", {"x": [1.0]})["y"].item() == 2.0
        with pytest.raises(ServingError, match=r"404: Servable not found for request: Specific\(swapped, 1\)"):
            client.predict("swapped", {"x": [1.0]}, version=1)
        # Half a copy: the graph is cut in two, then whole but without its variables.
        (swapped / "3").mkdir()
        whole = (saved[3] / "saved_model.pb").read_bytes()
        (swapped / "3" / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
        until(lambda: states(client).get(3) == "END", "the refusal of half a graph")
        (swapped / "3" / "saved_model.pb").write_bytes(whole)
        until(lambda: "variables" in client.status("swapped", 3)[0]["message"], "the refusal of a lone graph")
        assert client.status("swapped", 3)[0]["code"] != "OK"
        assert states(client)[2] == "AVAILABLE"
        put(saved["python"], swapped, 4)
        until(lambda: states(client).get(4) == "END", "the refusal of a graph that calls Python")
        assert "EagerPyFunc" in client.status("swapped", 4)[0]["message"]
        assert states(client)[2] == "AVAILABLE"
        shutil.rmtree(swapped / "4")
        # The copy ends.
        shutil.copytree(saved[3], swapped / "3", dirs_exist_ok=True)
        until(lambda: states(client)[3] == "AVAILABLE", "version 3")
        # The highest one is taken away: the one below it comes back.
        shutil.rmtree(swapped / "3")
        until(lambda: states(client)[2] == "AVAILABLE" and states(client)[3] == "END", "version 2 again")

    # Without patience: nothing may be lost, not even for a moment.
    with Client(url, patience=0) as client, in_the_background(8, work, stop):
        scenario()
    for answers in seen:
        changes = [value for value, before in zip(answers, [None, *answers], strict=False) if value != before]
        assert changes == [1.0, 2.0, 3.0, 2.0]


def test_a_server_that_is_killed_and_started_again_loses_nothing(models, monkeypatch):
    stop, done = threading.Event(), [0] * 8
    forced, kill = [], subprocess.Popen.kill
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: (forced.append(process), kill(process)))

    def work(k):
        while not stop.is_set():
            value = 8 * done[k] + k
            assert client.predict("scaled", {"x": [value]}, rows=k % 2 == 1)["y"].tolist() == [2 * value]
            done[k] += 1

    def reach(more):
        before = list(done)
        until(lambda: all(now >= then + more for now, then in zip(done, before, strict=True)), "more requests")

    with (
        local_server.running({"scaled": models["scaled"]}) as url,
        Client(url, patience=120) as client,
        pytest.raises(ZeroDivisionError),
        in_the_background(8, work, stop) as threads,
    ):
        reach(20)
        server_process(url).send_signal(signal.SIGKILL)
        with local_server.running(models, port=urlsplit(url).port) as again:
            assert again == url
            process = server_process(url)
            reach(20)
            stop.set()
            until(lambda: not any(thread.is_alive() for thread in threads), "the end of the load")
            # The process ends with its block also if the block fails.
            _ = 1 / 0
    assert not process.is_running()
    assert forced == []
    with pytest.raises(ServingError, match=rf"^No answer from {url}: .*refused"):
        Client(url, patience=0).predict("scaled", {"x": [1.0]})


def test_an_old_version_is_freed_once_it_is_dropped(saved, tmp_path):
    model = local_server._Model("swapped")
    put(saved[1], tmp_path, 1)
    model.poll(tmp_path)
    held, old = model.serving, weakref.ref(model.serving)
    put(saved[2], tmp_path, 2)
    model.poll(tmp_path)
    # A request that still holds the old version is answered by it.
    signature = held.signature("")
    assert signature.run(np.array([3.0]))[0].tolist() == [3.0]
    del held, signature
    gc.collect()
    assert old() is None


def test_an_empty_base_folder_leaves_nothing_to_serve_and_a_missing_one_changes_nothing(saved, tmp_path):
    model = local_server._Model("swapped")
    put(saved[1], tmp_path, 1)
    model.poll(tmp_path)
    model.poll(tmp_path / "gone")
    assert model.serving.number == 1
    shutil.rmtree(tmp_path / "1")
    (tmp_path / "not-a-number").mkdir()
    model.poll(tmp_path)
    assert model.serving is None
    assert model.status(None)["model_version_status"][0]["state"] == "END"


# ---- starting and stopping ------------------------------------------------------------------------


def test_what_cannot_start_says_why_in_one_line(saved, tmp_path):
    with pytest.raises(UserError, match=r"^Model 'a' has nothing to serve: .* has no folder named as a number"):
        local_server.create_app({"a": tmp_path})
    put(saved["python"], tmp_path, 1)
    sentence = r"^The stand-in did not start: .*version 1: EagerPyFunc in .* calls back into the Python process .*$"
    with pytest.raises(RuntimeError, match=sentence):
        local_server.running({"a": tmp_path}).__enter__()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RuntimeError, match="in use"):
        local_server.running({"a": tmp_path}, port=taken.getsockname()[1]).__enter__()


@pytest.mark.parametrize("models", [{}, {"": "x"}, {"a/b": "x"}, {"a:b": "x"}, {"a=b": "x"}])
def test_names_that_cannot_stand_in_a_url_are_refused(models):
    with pytest.raises(UserError, match="model"):
        local_server.running(models).__enter__()


# ---- the client alone -----------------------------------------------------------------------------


@contextlib.contextmanager
def answering(*answers):
    """Serve these answers, one a request, and the last for ever; yield the URL and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            code, body = answers[min(len(asked), len(answers)) - 1]
            if code is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            info = {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": "-1"}], "unknown_rank": False}}
            found = {"inputs": {"x": info}, "outputs": {"y": info}, "method_name": "tensorflow/serving/predict"}
            body = json.dumps(
                {
                    "model_spec": {"version": "1"},
                    "metadata": {"signature_def": {"signature_def": {"serving_default": found}}},
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


RIGHT = (200, b'{"outputs": [9007199254740993]}')


@pytest.mark.parametrize("lost", [(503, b'{"error": "busy"}'), (None, b"")], ids=["503", "lost connection"])
def test_503_and_lost_connections_are_tried_again_while_there_is_patience(lost):
    with answering(lost, lost, RIGHT) as (url, asked), Client(url, patience=30) as client:
        answer = client.predict("m", {"x": [1]})["y"]
        assert (answer.dtype, answer.tolist()) == (np.int64, [9007199254740993])
        assert len(asked) == 3
        assert len(set(asked)) == 1
    with answering(lost, RIGHT) as (url, asked), Client(url, patience=0) as client:
        with pytest.raises(ServingError) as caught:
            client.predict("m", {"x": [1]})
        assert caught.value.status == lost[0]
        assert type(caught.value) is ServingError
        assert len(asked) == 1


@pytest.mark.parametrize("code", [400, 404, 413, 429, 500, 501, 504])
def test_any_other_answer_is_final(code):
    body = b'{"error": "No, because of this.\\n\\t [[{{node x}}]]"}'
    with answering((code, body), RIGHT) as (url, asked), Client(url, patience=30) as client:
        with pytest.raises(ServingError, match=rf"^The server answered {code}: No, because of this\.$") as caught:
            client.predict("m", {"x": [1]})
        assert caught.value.status == code
        assert len(asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[1]",
        b"{}",
        b'{"predictions": [1]}',
        b'{"outputs": [1.5]}',
        b'{"outputs": [true]}',
        b'{"outputs": ["1"]}',
        b'{"outputs": [9223372036854775808]}',
        b'{"outputs": [[1], [2, 3]]}',
        b'{"outputs": [[1]]}',
        b'{"outputs": {"y": [1]}}',
        b"\xff",
    ],
)
def test_an_answer_that_does_not_fit_the_signature_is_no_prediction(body):
    with answering((200, body)) as (url, _), Client(url) as client, pytest.raises(ServingError):
        client.predict("m", {"x": [1]})


def test_an_empty_answer_keeps_its_dtype():
    with answering((200, b'{"outputs": []}')) as (url, _), Client(url) as client:
        answer = client.predict("m", {"x": np.zeros(0, int)})["y"]
        assert (answer.dtype, answer.shape) == (np.int64, (0,))


def test_inputs_that_cannot_be_sent_are_refused_before_they_are():
    with answering(RIGHT) as (url, asked), Client(url) as client:
        for inputs, rows, sentence in [
            ({}, False, "inputs is empty"),
            ({"x": [1, 2], "k": [1, 2, 3]}, False, "differ in length: 'x' has 2, 'k' has 3"),
            ({"x": [1, 2], "k": [1, 2, 3]}, True, "differ in length"),
            ({"x": 1.0}, True, "'x'.* is one value"),
            ({"x": [1, [2]]}, False, "'x'.* is no array"),
            ({"x": [1, None]}, False, "'x'.* holds NoneType among objects"),
            ({"x": np.array(["a", None], object)}, False, "'x'.* holds NoneType"),
            ({"x": [1j]}, False, "'x'.* holds complex128"),
            ({"x": np.array(["2020-01-01"], "M8[D]")}, False, "'x'.* holds datetime64"),
            ({"x": np.zeros((0, 3))}, False, r"'x'.* has shape \(0, 3\)"),
        ]:
            with pytest.raises(UserError, match=sentence):
                client.predict("m", inputs, rows=rows)
        assert asked == []


@pytest.mark.parametrize("outputs", [{"old": ("int64", (None,))}, {"y": ("string", (None,))}, {"a": None, "b": None}])
def test_a_signature_that_has_changed_is_asked_for_again(url, outputs):
    with Client(url) as client:
        known = (
            time.monotonic() + 60,
            type(client._signature("scaled", None, "serving_default", True))({"x": None}, outputs),
        )
        client._signatures["scaled", None, "serving_default"] = known
        answer = client.predict("scaled", {"x": [0.5]})
        assert {name: values.tolist() for name, values in answer.items()} == {"y": [1.0]}


def test_an_input_that_the_server_passed_over_is_told(client):
    with pytest.raises(UserError, match=r"inputs has 'z', which the server passed over; it takes 'x'\."):
        client.predict("scaled", {"x": [1.0], "z": [1.0]})


@pytest.mark.parametrize("url", ["127.0.0.1:8501", "ftp://a", "", None, "http://"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UserError, match=r"^url must be such as 'http://127\.0\.0\.1:8501'"):
        Client(url)


def test_read_only_arrays_tensors_and_tuples_can_be_sent(client):
    x = np.array([1.0, 2.0])
    x.flags.writeable = False
    assert client.predict("scaled", {"x": x})["y"].tolist() == [2.0, 4.0]
    assert client.predict("scaled", {"x": tf.constant(x)})["y"].tolist() == [2.0, 4.0]
    assert client.predict("scaled", {"x": (1, 2)})["y"].tolist() == [2.0, 4.0]


def test_a_name_goes_into_the_path_as_it_is():
    with answering(RIGHT) as (url, asked), Client(url + "/") as client:
        client.predict("a/b c", {"x": [1]}, version=3)
        assert asked[0][0] == "/v1/models/a%2Fb%20c/versions/3:predict"
