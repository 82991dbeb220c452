"""The local model server and its client: formats, types, refusals, versions under load and faults, on loopback."""

import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import httpx
import numpy as np
import psutil
import pytest
import tensorflow as tf

from serving import Client, ServingError, local_server

# ---- models ---------------------------------------------------------------------------------------

NUMBERS = ("float32", "float64", "int8", "int32", "int64", "uint8", "uint32", "uint64", "bool")
SCALED = {"x": ("float64", [None])}
ECHO = {name: (name, [None]) for name in (*NUMBERS, "string")}


def matrix(x, word):
    product = tf.debugging.check_numerics(x, "x is not finite") @ tf.reshape(tf.range(6.0), (3, 2))
    return {"product": product, "upper": tf.strings.upper(word)}


# The dtype and shape of each input, and the function.
MODELS = {
    "scaled": (SCALED, lambda x: {"y": 2.0 * x}),
    "echo": (ECHO, lambda **given: given | {"string_bytes": given["string"]}),
    "matrix": ({"x": ("float32", [None, 3]), "word": ("string", [None])}, matrix),
}


def save(folder, inputs, function):
    """Save a function of named tensors as a version; return the base folder."""
    module = tf.Module()
    module.serve = tf.function(lambda **given: {name: tf.identity(one) for name, one in function(**given).items()})
    specs = {name: tf.TensorSpec(shape, dtype, name) for name, (dtype, shape) in inputs.items()}
    tf.saved_model.save(module, folder, signatures=module.serve.get_concrete_function(**specs))
    return folder.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for k, base in enumerate(("swapped", "saved", "saved"), 1):
        save(folder / base / str(k), SCALED, lambda x, k=k: {"y": float(k) * x})
    save(folder / "saved" / "4", SCALED, lambda x: {"y": tf.py_function(lambda x: x, [x], tf.float64)})
    return folder


@pytest.fixture(scope="module")
def client(folder):
    models = {name: save(folder / name / "7", *model) for name, model in MODELS.items()}
    with local_server.running({**models, "swapped": folder / "swapped"}) as url, Client(url) as client:
        yield client


def ask(client, method, path, body=None):
    """Send a request as it is; return the code and the JSON of the answer."""
    content, url = body if isinstance(body, str | None) else json.dumps(body), f"{client.url}/v1/models{path}"
    answer = httpx.request(method, url, content=content, trust_env=False, timeout=60)
    return answer.status_code, answer.json()


# ---- the protocol ---------------------------------------------------------------------------------


def test_rows_and_columns_bare_and_named(client):
    rows = [{"x": [1, 0, 0], "word": "a"}, {"x": [0, 1, 1], "word": {"b64": "Yg=="}}]
    found = [{"product": [0.0, 1.0], "upper": "A"}, {"product": [6.0, 8.0], "upper": "B"}]
    columns, outputs = ({name: [row[name] for row in table] for name in table[0]} for table in (rows, found))
    for model, request, answer in [
        ("scaled", {"instances": [1.0, 2.5]}, {"predictions": [2.0, 5.0]}),
        ("scaled", {"instances": [{"x": 1.0}, {"x": 2.5}]}, {"predictions": [2.0, 5.0]}),
        ("scaled", {"inputs": [1, 2.5]}, {"outputs": [2.0, 5.0]}),
        ("scaled", {"inputs": {"x": [1, 2.5], "passed over": [1]}}, {"outputs": [2.0, 5.0]}),
        ("scaled/versions/7", {"inputs": [1.0]}, {"outputs": [2.0]}),
        ("matrix", {"instances": rows}, {"predictions": found}),
        ("matrix", {"inputs": columns}, {"outputs": outputs}),
    ]:
        assert ask(client, "POST", f"/{model}:predict", request) == (200, answer)


def test_status_and_metadata_are_those_of_the_protocol(client):
    state = {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    dims = [{"size": "-1", "name": ""}, {"size": "3", "name": ""}]
    for path in ("/matrix", "/matrix/versions/7"):
        assert ask(client, "GET", path) == (200, {"model_version_status": [state]})
        code, answer = ask(client, "GET", f"{path}/metadata")
        assert (code, answer["model_spec"]) == (200, {"name": "matrix", "signature_name": "", "version": "7"})
        definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert definition["inputs"]["x"]["dtype"] == "DT_FLOAT"
        assert definition["inputs"]["x"]["tensor_shape"] == {"dim": dims, "unknown_rank": False}


@pytest.mark.parametrize("rows", [False, True], ids=["columns", "rows"])
def test_every_value_of_every_type_comes_back_as_it_was(client, rows):
    # Any bits, also those of NaN, and the largest number of the unsigned types.
    bits = b"\xff" * 8 + np.random.default_rng(0).bytes(8000)
    columns = {name: np.frombuffer(bits, name)[:1000] for name in NUMBERS[:-1]} | {"bool": np.arange(1000) % 3 == 0}
    words = ["", "Köln", '"\\\0\n', "\U0001f600", "b64"] * 200
    answer = client.predict("echo", columns | {"string": np.array(words, object)}, rows=rows)
    assert answer.pop("string_bytes").tolist() == [word.encode() for word in words]
    assert answer.pop("string").tolist() == words
    assert answer.keys() == columns.keys()
    for name, column in columns.items():
        np.testing.assert_array_equal(answer[name], column, strict=True)


ONES = {name: [name == "bool" or 1] for name in NUMBERS} | {"string": ["a"]}
BEYOND = (128, True, 2**63, -1, 1.0, 2**64, 1)
REFUSED = {
    "scaled": ["", '{"inputs": ', [1], {}, {"instances": [1], "inputs": [1]}, "[" * 9999, {"inputs": {}}]
    + [{"instances": value} for value in (1, [], ["a"], [True], [None], [[1], 2])]
    + [{"inputs": value} for value in ([1, [2]], [[1, 2]], [{"b64": "YQ=="}], "1")]
    + [{"signature_name": name, "inputs": [1]} for name in ("no", 5)],
    "matrix": [{"instances": [row]} for row in (1, {"x": [1, 2, 3]}, {"x": [1, 2, 3], "word": "a", "z": 1})]
    + [{"inputs": {"x": [[1, 2, value]], "word": ["a"]}} for value in (np.nan, 1e39)]
    + [{"inputs": {"x": [[1, 2, 3]], **word}} for word in ({}, {"word": [{"b64": "?"}]})],
    "echo": [{"inputs": ONES | {dtype: [value]}} for dtype, value in zip(NUMBERS[2:], BEYOND, strict=True)],
}


def test_a_wrong_request_gets_its_code_and_one_sentence(client):
    for method, path, body, code in [
        *(("POST", f"/{model}:predict", body, 400) for model, bodies in REFUSED.items() for body in bodies),
        *(("POST", f"/{model}:predict", {"inputs": [1]}, 404) for model in ("none", "scaled/versions/9")),
        *((method, "/scaled", None, 400) for method in ("PUT", "DELETE", "POST")),
        *(("GET", path, None, 400) for path in ("/scaled:predict", "/scaled/versions/one", "")),
        # The dots lead out of the models' routes.
        *(("GET", path, None, 404) for path in ("/none", "/none/metadata", "/scaled/versions/9", "/../../docs")),
    ]:
        answered, answer = ask(client, method, path, body)
        assert (answered, list(answer), all(answer.values())) == (code, ["error"], True), (method, path, str(body)[:80])
    _, answer = ask(client, "POST", "/matrix:predict", {"inputs": {"x": [[1, 2, np.inf]], "word": ["a"]}})
    assert answer["error"] == "x is not finite : Tensor had Inf values"


# ---- versions, start and end ----------------------------------------------------------------------


def test_versions_change_under_load_without_a_failed_request_and_broken_ones_change_nothing(folder, client):
    stop, base, saved = threading.Event(), folder / "swapped", folder / "saved"
    # Each has an answer of version 1 before there is another.
    begun = threading.Barrier(6, timeout=60)

    def work(k):
        seen = []
        # Without patience: nothing may be lost, not even for a moment.
        with Client(client.url, patience=0) as hasty:
            while not stop.is_set():
                seen.append(hasty.predict("swapped", {"x": [k]}, rows=k % 2 == 1)["y"].item() / k)
                if len(seen) == 1:
                    begun.wait()
        return [version for version, _ in groupby(seen)]

    def until(version, state):
        for _ in range(1200):
            time.sleep(0.05)
            found = {one["version"]: one for one in client.status("swapped")}
            if found.get(version, {}).get("state") == state:
                return found[version]["message"]
        raise AssertionError(f"version {version} does not become {state}: {found}")

    with ThreadPoolExecutor(5) as pool:
        loads = [pool.submit(work, k) for k in range(1, 6)]
        try:
            begun.wait()
            (saved / "2").rename(base / "2")
            until(2, "AVAILABLE")
            with pytest.raises(ServingError, match=r"404: Servable not found for request: Specific\(swapped, 1\)"):
                client.predict("swapped", {"x": [1.0]}, version=1)
            # A slow copy, a version that needs Python, and both taken away: the version below comes back.
            (base / "3").mkdir()
            assert "no saved_model.pb" in until(3, "END")
            shutil.copytree(saved / "3", base / "3", dirs_exist_ok=True)
            until(3, "AVAILABLE")
            (saved / "4").rename(base / "4")
            assert "EagerPyFunc" in until(4, "END")
            shutil.rmtree(base / "4")
            shutil.rmtree(base / "3")
            until(2, "AVAILABLE")
            # For a last answer of each.
            time.sleep(0.5)
        finally:
            stop.set()
    assert [load.result() for load in loads] == [[1, 2, 3, 2]] * 5


def test_requests_good_and_malformed_a_swap_and_a_killed_server_nothing_is_lost_and_nothing_wrong(tmp_path):
    """As 10,000 requests did, once, with the same result."""

    def other(x):
        x = tf.debugging.check_numerics(x, "x is not finite")
        return {"y": 2.0 * x, "more": tf.cast(x, tf.float32)}

    base, count, seen, killed = tmp_path / "m", 600, [], threading.Event()
    save(base / "1", SCALED, lambda x: {"y": tf.debugging.check_numerics(x, "x is not finite")})
    save(tmp_path / "next" / "2", SCALED, other)
    bad = [{"x": [1.0, np.inf]}, {"x": ["a"]}, {"x": [[1.0]]}, {"x": [None]}, {"x": [1j]}, {"x": [1.0], "z": [1.0]}]
    before = set(psutil.Process().children())

    def one(i):
        if i == 150:
            (child,) = set(psutil.Process().children()) - before
            child.kill()
            killed.set()
        if i == 350:
            (tmp_path / "next" / "2").rename(base / "2")
        inputs = bad[i // 10 % len(bad)] if i % 10 == 3 else {"x": i + np.arange(1 + i % 5) / 4}
        try:
            answer = client.predict("m", inputs, rows=i % 3 == 0)
        except (ServingError, ValueError, TypeError) as error:
            return i, getattr(error, "status", type(error).__name__)
        factor = 2.0 if "more" in answer else 1.0
        seen.append(factor)
        return i, np.array_equal(answer["y"], factor * np.asarray(inputs["x"]))

    with local_server.running({"m": base}) as url, Client(url, patience=60) as client, ThreadPoolExecutor(6) as pool:
        answers = pool.map(one, range(count))
        assert killed.wait(60)
        with local_server.running({"m": base}, port=httpx.URL(url).port):
            outcomes = dict(answers)
            while client.status("m")[0]["version"] != 2:
                time.sleep(0.1)
            assert one(0) == (0, True)
    refused = {3: 400, 13: 400, 23: 400, 33: 400, 43: "TypeError", 53: "ValueError"}
    for i, outcome in outcomes.items():
        assert outcome == (refused[i % 60] if i % 10 == 3 else True), i
    assert (len(outcomes), set(seen)) == (count, {1.0, 2.0})


def test_it_says_who_it_is(client):
    assert httpx.get(f"{client.url}/v1/models/scaled", trust_env=False).headers.get_list("server") == [
        "serving.local_server"
    ]


def test_it_says_why_it_cannot_start(folder, client):
    with pytest.raises(RuntimeError, match=r"did not start: .*'a' .*no folder named 1, 2, 3"):
        local_server.running({"a": folder / "none"}).__enter__()
    with pytest.raises(RuntimeError, match="in use"):
        local_server.running({"a": folder}, port=httpx.URL(client.url).port).__enter__()


def test_it_runs_on_this_machine_only_and_stops_with_its_block(folder):
    before = set(psutil.Process().children())
    with pytest.raises(ZeroDivisionError), local_server.running({"a": folder / "swapped"}) as url:
        (child,) = set(psutil.Process().children()) - before
        assert [c.laddr for c in child.net_connections("inet")] == [("127.0.0.1", httpx.URL(url).port)]
        _ = 1 / 0
    assert not child.is_running()
    with pytest.raises(ServingError, match=rf"^No answer from {url}: .*refused"):
        Client(url, patience=0).predict("a", {"x": [1.0]})


# ---- the client alone -----------------------------------------------------------------------------


INFO = {"serving_default": {"inputs": {"x": {}}, "outputs": {"y": {"dtype": "DT_INT64"}}}}
REASON = b'{"error": "No, because of this.\\n\\t [[{{node x}}]]"}'
RIGHT = (200, b'{"outputs": [9007199254740993]}')


def answered(patience, *answers):
    """Return a client that gets these answers, one a prediction, and the list of the paths that it asks for."""

    def handler(request):
        if request.method == "GET":
            return httpx.Response(200, json={"metadata": {"signature_def": {"signature_def": INFO}}})
        asked.append(request.url.raw_path)
        code, body = answers[len(asked) - 1]
        if code is None:
            raise httpx.ReadError("lost")
        return httpx.Response(code, content=body)

    asked, client = [], Client("http://a/", patience=patience)
    client._http = httpx.Client(transport=httpx.MockTransport(handler))
    return client, asked


def test_not_now_and_lost_connections_are_tried_again_while_there_is_patience_and_no_other_answer_is():
    for code in (503, 429, 502, 504, None):
        client, asked = answered(30, (code, REASON), (code, REASON), RIGHT)
        answer = client.predict("a/b c", {"x": [1]}, version=3)["y"]
        assert (answer.dtype, answer.tolist()) == (np.int64, [9007199254740993])
        assert asked == [b"/v1/models/a%2Fb%20c/versions/3:predict"] * 3
    for code in (503, 429, None, 400, 404, 413, 500):
        client, asked = answered(0 if code in (503, 429, None) else 30, (code, REASON), RIGHT)
        message = f"The server answered {code}: No, because of this." if code else "No answer from http://a: lost."
        with pytest.raises(ServingError, match=f"^{message}$") as caught:
            client.predict("m", {"x": [1]})
        assert (caught.value.status, len(asked)) == (code, 1)


def test_pauses_grow_and_are_of_random_length(monkeypatch):
    pauses = []
    monkeypatch.setattr("serving.client.time.sleep", pauses.append)
    for _ in range(2):
        answered(60, *[(503, REASON)] * 6, RIGHT)[0].predict("m", {"x": [1]})
    for pause, first, second in zip((0.1, 0.2, 0.4, 0.8, 1.0, 1.0), pauses[:6], pauses[6:], strict=True):
        assert pause / 2 <= min(first, second) < max(first, second) <= pause


def test_an_answer_is_read_by_the_signature_of_the_version_that_gave_it():
    """Version 2, of another signature, replaces version 1 between the question for the signature and the prediction."""
    served = iter([])

    def handler(request):
        number = next(served)
        if request.method == "GET":
            found = {"inputs": {"x": {}}, "outputs": {"y": {"dtype": "DT_INT64" if number == 1 else "DT_STRING"}}}
            whole = {"signature_def": {"signature_def": {"serving_default": found}}}
            return httpx.Response(200, json={"model_spec": {"version": str(number)}, "metadata": whole})
        if request.url.path != f"/v1/models/m/versions/{number}:predict":
            return httpx.Response(404, content=REASON)
        return httpx.Response(200, json={"outputs": ["two"]})

    client = Client("http://a", patience=0)
    client._http = httpx.Client(transport=httpx.MockTransport(handler))
    served = iter([1, 2, 2, 2])
    assert client.predict("m", {"x": [1]})["y"].tolist() == ["two"]
    # A version that is named, or one that the server describes and does not serve, is an error.
    for version, numbers in ((1, [1, 2]), (None, [1, 2, 1, 2])):
        served = iter(numbers)
        with pytest.raises(ServingError, match="404: No, because of this"):
            client.predict("m", {"x": [1]}, version=version)
        assert next(served, None) is None


def test_what_is_no_prediction_is_an_error():
    values = ["[1.5]", "[true]", '["1"]', "[9223372036854775808]", "[[1], [2, 3]]", '{"y": [1]}', "[null]"]
    for body in ["<html>", "[1]", "{}", '{"predictions": [1]}', *(f'{{"outputs": {value}}}' for value in values)]:
        with pytest.raises(ServingError):
            answered(0, (200, body.encode()))[0].predict("m", {"x": [1]})


def test_metadata_and_states_of_another_form_and_other_numbers_of_rows_are_serving_errors(monkeypatch):
    right, info = {"dtype": "DT_INT64"}, INFO["serving_default"]
    deep, wrong = "[" * 5000 + "]" * 5000, [None, 5, "x", [], [1], {}, {"signature_def": 5}]
    forms = [*wrong, *({"signature_def": {"signature_def": one}} for one in (*wrong, {"serving_default": 5}))]
    forms += [{"signature_def": {"signature_def": {"serving_default": info | {"outputs": one}}}} for one in wrong]
    forms += [{"signature_def": {"signature_def": {"serving_default": {"inputs": [3], "outputs": {"y": right}}}}}]
    bodies = [json.dumps({"metadata": form, "outputs": [1], "model_version_status": form}) for form in forms]
    for body in [
        *bodies,
        f'{{"metadata": {deep}, "outputs": [1], "model_version_status": {deep}}}',
        f'{{"error": {deep}}}',
    ]:
        for code in (200, 500):
            client = Client("http://a", patience=0)
            reply = httpx.Response(code, content=body)
            client._http = httpx.Client(transport=httpx.MockTransport(lambda _, reply=reply: reply))
            with pytest.raises(ServingError) as caught:
                client.predict("m", {"x": [1]})
            assert "\n" not in str(caught.value)
            if body not in (bodies[3], bodies[5]):
                with pytest.raises(ServingError):
                    client.status("m")
    for body in ("[]", "[1]", "[1, 2, 3]", "5"):
        with pytest.raises(ServingError, match="2 rows were sent"):
            answered(0, (200, f'{{"outputs": {body}}}'.encode()))[0].predict("m", {"x": [1, 2]})
    fixed = {"tensor_shape": {"dim": [{"size": "3"}]}, **right}
    monkeypatch.setitem(INFO, "serving_default", {"inputs": {"x": {}}, "outputs": {"y": fixed}})
    assert answered(0, (200, b'{"outputs": [1, 2, 3]}'))[0].predict("m", {"x": [1, 2]})["y"].tolist() == [1, 2, 3]
    assert Client("http://a").patience >= 10, "longer than a restart takes"


def test_a_body_that_is_long_or_has_no_length_is_refused_and_its_connection_closed(client):
    url = httpx.URL(client.url)
    for headers in (f"Content-Length: {10**10}", "Transfer-Encoding: chunked"):
        with socket.create_connection((url.host, url.port), timeout=30) as connection:
            connection.sendall(f"POST /v1/models/scaled:predict HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n".encode())
            # Until the server closes it.
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'{"error": "a body comes with its length' in answer
    status, text = local_server._respond({}, "POST", "/v1/models/scaled:predict", None)
    assert (status, list(json.loads(text))) == (413, ["error"])


def test_what_cannot_be_sent_is_refused(client):
    for inputs, error, message in [
        ({"x": [1.0, 2.0], "k": [1]}, ValueError, "must have the same length; got {'x': 2, 'k': 1}"),
        ({"x": [1.0], "z": [1.0]}, ValueError, "inputs has 'z', which 'scaled' does not take"),
        ({"x": [1j]}, TypeError, "complex"),
        ({"x": np.array([1.0, None], object)}, ServingError, "'x': must hold float64.*got NoneType"),
    ]:
        with pytest.raises(error, match=message):
            client.predict("scaled", inputs)
    for url in ("127.0.0.1:8501", "http://", "ftp://a"):
        with pytest.raises(ValueError, match=rf"^url must be such as 'http://127\.0\.0\.1:8501'; got '{url}'"):
            Client(url)
    with pytest.raises(httpx.InvalidURL, match="port"):
        Client("http://127.0.0.1:port")
    assert client.predict("scaled", {"x": []})["y"].dtype == np.float64
