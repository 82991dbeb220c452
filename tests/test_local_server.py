"""The local model server and its client: formats, types, refusals, versions under load and faults, on loopback."""

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving import Client, ServingError, local_server

# ---- models ---------------------------------------------------------------------------------------

NUMBERS = ("float32", "float64", "int8", "int32", "int64", "uint8", "uint32", "uint64", "bool")
SPECS = {
    "scaled": {"x": tf.TensorSpec([None], tf.float64)},
    "echo": {name: tf.TensorSpec([None], name) for name in (*NUMBERS, "string")},
    "matrix": {"x": tf.TensorSpec([None, 3], tf.float32), "word": tf.TensorSpec([None], tf.string)},
    "scalar": {"x": tf.TensorSpec([], tf.float32)},
}
MODELS = {
    "scaled": lambda x: {"y": 2.0 * x},
    "echo": lambda **given: given | {"string_bytes": tf.identity(given["string"])},
    "matrix": lambda x, word: {
        "product": tf.debugging.check_numerics(x, "x is not finite") @ tf.reshape(tf.range(6.0), (3, 2)),
        "upper": tf.strings.upper(word),
    },
    "scalar": lambda x: {"y": x + 1.0},
}


def save(function, folder, spec):
    """Save a function of named tensors as a version."""
    module = tf.Module()
    module.serve = tf.function(lambda **given: {name: tf.identity(one) for name, one in function(**given).items()})
    named = {name: tf.TensorSpec(one.shape, one.dtype, name) for name, one in spec.items()}
    tf.saved_model.save(module, folder, signatures=module.serve.get_concrete_function(**named))
    return folder


def save_models(folder):
    """Save the models that the protocol's tests use; return their base folders."""
    return {name: save(function, folder / name / "7", SPECS[name]).parent for name, function in MODELS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for k in (1, 2, 3):
        save(lambda x, k=k: {"y": float(k) * x}, folder / "saved" / str(k), SPECS["scaled"])
    save(lambda x: {"y": tf.py_function(lambda x: 3 * x, [x], tf.float64)}, folder / "saved" / "4", SPECS["scaled"])
    shutil.copytree(folder / "saved" / "1", folder / "swapped" / "1")
    return folder


@pytest.fixture(scope="module")
def url(folder):
    with local_server.running({**save_models(folder), "swapped": folder / "swapped"}) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    with Client(url) as client:
        yield client


def ask(url, method, path, body=None):
    """Send a request as it is; return the code and the JSON of the answer."""
    answer = httpx.request(method, url + path, content=body, trust_env=False, timeout=60)
    return answer.status_code, answer.json()


def predict(url, model, document):
    return ask(url, "POST", f"/v1/models/{model}:predict", json.dumps(document))


# ---- the protocol: also run against the container -------------------------------------------------


def test_rows_and_columns_bare_and_named(url):
    assert predict(url, "scaled", {"instances": [1.0, 2.5]}) == (200, {"predictions": [2.0, 5.0]})
    assert predict(url, "scaled", {"instances": [{"x": 1.0}, {"x": 2.5}]}) == (200, {"predictions": [2.0, 5.0]})
    assert predict(url, "scaled", {"inputs": [1, 2.5]}) == (200, {"outputs": [2.0, 5.0]})
    assert predict(url, "scaled", {"inputs": {"x": [1, 2.5], "passed over": [1]}}) == (200, {"outputs": [2.0, 5.0]})
    rows = [{"x": [1, 0, 0], "word": "a"}, {"x": [0, 1, 1], "word": {"b64": "Yg=="}}]
    found = [{"product": [0.0, 1.0], "upper": "A"}, {"product": [6.0, 8.0], "upper": "B"}]
    assert predict(url, "matrix", {"instances": rows}) == (200, {"predictions": found})
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    expected = {name: [row[name] for row in found] for name in found[0]}
    assert predict(url, "matrix", {"inputs": columns}) == (200, {"outputs": expected})
    assert predict(url, "scalar", {"inputs": 1.5}) == (200, {"outputs": 2.5})
    body = json.dumps({"inputs": [1.0]})
    assert ask(url, "POST", "/v1/models/scaled/versions/7:predict", body) == (200, {"outputs": [2.0]})


def test_status_and_metadata_are_those_of_the_protocol(url):
    state = {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/matrix", "/v1/models/matrix/versions/7"):
        assert ask(url, "GET", path) == (200, {"model_version_status": [state]})
        code, answer = ask(url, "GET", f"{path}/metadata")
        assert (code, answer["model_spec"]) == (200, {"name": "matrix", "signature_name": "", "version": "7"})
        definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert definition["method_name"] == "tensorflow/serving/predict"
        assert definition["inputs"]["x"]["dtype"] == "DT_FLOAT"
        dims = [{"size": "-1", "name": ""}, {"size": "3", "name": ""}]
        assert definition["inputs"]["x"]["tensor_shape"] == {"dim": dims, "unknown_rank": False}


@pytest.mark.parametrize("rows", [False, True], ids=["columns", "rows"])
@settings(max_examples=25, deadline=None)
@given(data=st.data(), count=st.integers(1, 3))
def test_every_value_of_every_type_comes_back_as_it_was(client, rows, data, count):
    columns = {name: data.draw(hnp.arrays(name, count)) for name in NUMBERS}
    words = data.draw(st.lists(st.text(), min_size=count, max_size=count))
    answer = client.predict("echo", columns | {"string": np.array(words, object)}, rows=rows)
    assert answer.pop("string_bytes").tolist() == [word.encode() for word in words]
    assert answer.pop("string").tolist() == words
    assert {name: value.dtype for name, value in answer.items()} == {name: np.dtype(name) for name in NUMBERS}
    for name, column in columns.items():
        np.testing.assert_array_equal(answer[name], column)


REFUSED = {
    "scaled": ["", '{"inputs": ', "[1]", "{}", '{"instances": [1], "inputs": [1]}', "[" * 9999, '{"inputs": {}}']
    + [f'{{"instances": {value}}}' for value in ("1", "[]", '["a"]', "[true]", "[null]", "[[1], 2]")]
    + [f'{{"inputs": {value}}}' for value in ("[1, [2]]", '[{"b64": "YQ=="}]', '"1"')]
    + [f'{{"signature_name": {name}, "inputs": [1]}}' for name in ('"no"', "5", "[5]")],
    "matrix": [
        f'{{"instances": [{row}]}}' for row in ("1", '{"x": [1, 2, 3]}', '{"x": [1, 2, 3], "word": "a", "z": 1}')
    ]
    + [f'{{"inputs": {{"x": [[{x}]], "word": [{w}]}}}}' for x, w in [("1, 2, NaN", '"a"'), ("1, 2, 1e39", '"a"')]]
    + ['{"inputs": {"x": [[1, 2, 3]]}}', '{"inputs": {"x": [[1, 2, 3]], "word": [{"b64": "?"}]}}'],
    "scalar": ['{"instances": [1.0]}'],
    "none": ["{"],
}


def test_a_wrong_request_gets_its_code_and_one_sentence(url):
    for model, body, code in [
        *((model, body, 400) for model, bodies in REFUSED.items() for body in bodies),
        *((model, '{"inputs": [1]}', 404) for model in ("none", "scaled/versions/9")),
    ]:
        answered, answer = ask(url, "POST", f"/v1/models/{model}:predict", body)
        assert (answered, list(answer)) == (code, ["error"]), body[:80]
        assert answer["error"]


# ---- the local model server alone -----------------------------------------------------------------


def test_sentences_paths_and_whole_numbers(url):
    code, answer = ask(url, "POST", "/v1/models/scaled/versions/99:predict", '{"inputs": [1]}')
    assert (code, answer["error"]) == (404, "Servable not found for request: Specific(scaled, 99)")
    code, answer = predict(url, "matrix", {"inputs": {"x": [[1, 2, float("inf")]], "word": ["a"]}})
    assert (code, answer["error"]) == (400, "x is not finite : Tensor had Inf values")
    for method, path, expected in [
        *(("GET", f"/v1/models/{path}", 404) for path in ("none", "none/metadata", "scaled/versions/99")),
        *((method, "/v1/models/scaled", 400) for method in ("PUT", "DELETE", "POST")),
        *(("GET", path, 400) for path in ("/v1/models/scaled:predict", "/v1/models/scaled/versions/one", "/v1/models")),
        *(("GET", path, 404) for path in ("/", "/docs", "/openapi.json")),
    ]:
        code, answer = ask(url, method, path)
        assert (code, list(answer)) == (expected, ["error"]), path
    # TensorFlow Serving leaves the shapes to the operations.
    assert predict(url, "scaled", {"inputs": [[1, 2]]})[0] == 400
    ones = {name: [name == "bool" or 1] for name in NUMBERS} | {"string": ["a"]}
    for dtype, wrong in [("int8", 128), ("uint8", -1), ("int64", 2**63), ("uint32", 1.0), ("int32", True), ("bool", 1)]:
        assert predict(url, "echo", {"inputs": ones | {dtype: [wrong]}})[0] == 400
    assert predict(url, "echo", {"inputs": ones | {"uint64": [2**64 - 1]}})[1]["outputs"]["uint64"] == [2**64 - 1]


def until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.05)


def test_versions_change_under_load_without_a_failed_request_and_broken_ones_change_nothing(url, folder, client):
    stop, seen, base = threading.Event(), {k: [] for k in range(1, 6)}, folder / "swapped"

    def work(k):
        # Without patience: nothing may be lost, not even for a moment.
        with Client(url, patience=0) as hasty:
            while not stop.is_set():
                seen[k].append(hasty.predict("swapped", {"x": [k]}, rows=k % 2 == 1)["y"].item() / k)

    def is_in(version, state, message=""):
        found = {one["version"]: one for one in client.status("swapped")}.get(version, {"state": "", "message": ""})
        return found["state"] == state and message in found["message"]

    def put(version):
        shutil.copytree(folder / "saved" / str(version), base / "copy")
        (base / "copy").rename(base / str(version))

    with ThreadPoolExecutor() as pool:
        loads = [pool.submit(work, k) for k in seen]
        try:
            put(2)
            until(lambda: is_in(2, "AVAILABLE") and is_in(1, "END"), "version 2")
            assert client.predict("swapped", {"x": [1.0]}, version=2)["y"] == 2.0
            with pytest.raises(ServingError, match=r"404: Servable not found for request: Specific\(swapped, 1\)"):
                client.predict("swapped", {"x": [1.0]}, version=1)
            put(4)
            until(lambda: is_in(4, "END", "EagerPyFunc"), "the refusal of a graph that calls Python")
            shutil.rmtree(base / "4")
            # A copy that is slow, and one that is taken away: the version below it comes back.
            (base / "3").mkdir()
            until(lambda: is_in(3, "END", "no saved_model.pb") and is_in(2, "AVAILABLE"), "the refusal of half a copy")
            shutil.copytree(folder / "saved" / "3", base / "3", dirs_exist_ok=True)
            until(lambda: is_in(3, "AVAILABLE"), "version 3")
            shutil.rmtree(base / "3")
            until(lambda: is_in(2, "AVAILABLE") and is_in(3, "END"), "version 2 again")
        finally:
            stop.set()
        for load in loads:
            load.result()
    for answers in seen.values():
        assert [one for one, before in zip(answers, [0, *answers], strict=False) if one != before] == [1, 2, 3, 2]


def test_it_starts_on_this_machine_only_stops_with_its_block_and_says_why_it_cannot(folder):
    with pytest.raises(RuntimeError, match=r"did not start: .*'a' .*no folder named 1, 2, 3"):
        local_server.running({"a": folder / "none"}).__enter__()
    with pytest.raises(ZeroDivisionError), local_server.running({"a": folder / "saved" / ".." / "swapped"}) as url:
        children = psutil.Process().children()
        (child,) = [child for child in children if child.cmdline()[-1] == f"a={folder.resolve() / 'swapped'}"]
        assert [c.laddr for c in child.net_connections("inet")] == [(urlsplit(url).hostname, urlsplit(url).port)]
        assert url.startswith("http://127.0.0.1:")
        with pytest.raises(RuntimeError, match="in use"):
            local_server.running({"a": folder}, port=urlsplit(url).port).__enter__()
        _ = 1 / 0
    assert not child.is_running()
    with pytest.raises(ServingError, match=rf"^No answer from {url}: .*refused"):
        Client(url, patience=0).predict("a", {"x": [1.0]})


# ---- the client alone -----------------------------------------------------------------------------


@pytest.fixture
def answering(monkeypatch):
    """Return a function that makes clients get these answers, one a prediction, and the last for ever."""
    real, info = httpx.Client, {"y": {"dtype": "DT_INT64"}}
    signatures = {"serving_default": {"inputs": {"x": {}}, "outputs": info}}

    def answer(*answers):
        asked = []

        def handler(request):
            if request.method == "GET":
                return httpx.Response(200, json={"metadata": {"signature_def": {"signature_def": signatures}}})
            asked.append(request.url.raw_path)
            code, body = answers[min(len(asked), len(answers)) - 1]
            if code is None:
                raise httpx.ReadError("lost")
            return httpx.Response(code, content=body)

        monkeypatch.setattr(httpx, "Client", partial(real, transport=httpx.MockTransport(handler)))
        return asked

    return answer


RIGHT = (200, b'{"outputs": [9007199254740993]}')


@pytest.mark.parametrize("lost", [(503, b'{"error": "busy"}'), (None, b"")], ids=["503", "lost connection"])
def test_503_and_lost_connections_are_tried_again_while_there_is_patience(answering, lost):
    asked = answering(lost, lost, RIGHT)
    answer = Client("http://a/", patience=30).predict("a/b c", {"x": [1]}, version=3)["y"]
    assert (answer.dtype, answer.tolist()) == (np.int64, [9007199254740993])
    assert asked == [b"/v1/models/a%2Fb%20c/versions/3:predict"] * 3
    asked = answering(lost, RIGHT)
    with pytest.raises(ServingError) as caught:
        Client("http://a", patience=0).predict("m", {"x": [1]})
    assert (caught.value.status, len(asked)) == (lost[0], 1)


def test_any_other_answer_is_final_and_what_is_no_prediction_is_an_error(answering):
    for code in (400, 404, 429, 500):
        asked = answering((code, b'{"error": "No, because of this.\\n\\t [[{{node x}}]]"}'), RIGHT)
        with pytest.raises(ServingError, match=rf"^The server answered {code}: No, because of this\.$") as caught:
            Client("http://a").predict("m", {"x": [1]})
        assert (caught.value.status, len(asked)) == (code, 1)
    bodies = ["<html>", "[1]", "{}", '{"predictions": [1]}', "[" * 9999]
    for value in ("[1.5]", "[true]", '["1"]', "[9223372036854775808]", "[[1], [2, 3]]", '{"y": [1]}', "[null]"):
        bodies.append(f'{{"outputs": {value}}}')
    for body in bodies:
        answering((200, body.encode()))
        with pytest.raises(ServingError):
            Client("http://a").predict("m", {"x": [1]})


def test_what_cannot_be_sent_is_refused(client):
    for inputs, error, message in [
        ({"x": [1.0, 2.0], "k": [1]}, ValueError, "must have the same length; got {'x': 2, 'k': 1}"),
        ({"x": [1.0], "z": [1.0]}, ValueError, "inputs has 'z', which the server passed over"),
        ({"x": [1j]}, TypeError, "complex"),
        ({"x": np.array([1.0, None], object)}, ServingError, "'x': must hold float64.*got NoneType"),
    ]:
        with pytest.raises(error, match=message):
            client.predict("scaled", inputs)
    for url in ("127.0.0.1:8501", "ftp://a", ""):
        with pytest.raises(ValueError, match=r"^url must be such as 'http://127\.0\.0\.1:8501'"):
            Client(url)
    assert client.predict("scaled", {"x": tf.constant([1.0, np.nan], tf.float64)})["y"].tolist()[0] == 2.0
    assert client.predict("scaled", {"x": []})["y"].dtype == np.float64
