"""The two-process server against scikit-learn itself, with bad requests and dead processes."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from ipaddress import ip_address
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

# Not importorskip: Ray listens on the network when it is imported before helpers.two_processes.
if find_spec("ray") is None:
    pytest.skip('Ray Serve is not installed: pip install "tensor-to-decision[scale]".', allow_module_level=True)

import skops.io
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from helpers.client import Client, ServingError
from helpers.machine import ROOT, fresh_process
from helpers.two_processes import build, running


def make_network(folder):
    """A layer with a check, from images of 64 pixels to 16 numbers."""
    weights = tf.constant(np.random.default_rng(0).normal(size=(64, 16)) / 8, tf.float32)

    class Layer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 64), tf.float32, name="image")])
        def __call__(self, image):
            return {"embedding": tf.tanh(tf.debugging.check_numerics(image, "image is not finite") @ weights)}

    layer = Layer()
    tf.saved_model.save(layer, str(folder), signatures=layer.__call__)
    return layer


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    # Names that a shell, an address or a format string would stumble over.
    folder = tmp_path_factory.mktemp("a b") / "ü #%20 {x} '"
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    layer = make_network(folder / "7")
    embedding = layer(images)["embedding"].numpy()
    svc = SVC().fit(embedding, labels)
    skops.io.dump(svc, folder / "svc.skops")
    return SimpleNamespace(
        model=folder / "7", svc=folder / "svc.skops", X=images, E=embedding, y=svc.predict(embedding)
    )


@pytest.fixture(scope="module")
def url(files):
    with running(build(files.model, files.svc, [], name="digits")) as address:
        yield address


def ask(url, body, path="/v1/models/digits:predict"):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data), timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error) if "json" in error.headers.get_content_type() else {}


def at_once(url, bodies):
    answers = [None] * len(bodies)

    def run(i):
        answers[i] = ask(url, bodies[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def processes(name):
    return [p for p in psutil.Process().children(recursive=True) if name in " ".join(p.cmdline())]


# --- before anything is started ----------------------------------------------------------------------------------


def test_files_that_are_not_there_and_types_that_are_not_trusted_are_named(files, tmp_path):
    with pytest.raises(ValueError, match=r"saved_model is .*without saved_model.pb"):
        build(tmp_path, files.svc, [])
    with pytest.raises(ValueError, match=r"estimator_file is .*no file"):
        build(files.model, tmp_path / "none.skops", [])
    with pytest.raises(ValueError, match="replicas is 3 and most_replicas 2"):
        build(files.model, files.svc, [], replicas=3, most_replicas=2)
    strange = KNeighborsClassifier(metric=os.path.commonprefix).fit([[0.0], [1.0]], [0, 1])
    skops.io.dump(strange, tmp_path / "strange.skops")
    with pytest.raises(ValueError, match=r"not in trusted: genericpath\.commonprefix"):
        build(files.model, tmp_path / "strange.skops", [])


def test_it_is_silent_and_leaves_nothing_behind(files):
    script = f"""
import os, psutil
from helpers import two_processes
known = dict(os.environ)
with two_processes.running(two_processes.build({str(files.model)!r}, {str(files.svc)!r}, [])) as url:
    folder = two_processes.ray._private.worker._global_node.get_temp_dir_path()
    started = psutil.Process().children(recursive=True)
assert dict(os.environ) == known, set(os.environ.items()) ^ set(known.items())
assert not psutil.wait_procs(started, timeout=10)[1]
assert not os.path.exists(folder), folder
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_same_code_serves_from_a_cluster_that_runs_already(files, tmp_path, monkeypatch):
    """The cluster is one of another process, which does not know this project's files, and stays."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "b" * 64)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    script = tmp_path / "cluster.py"
    script.write_text(
        f"""
import json, subprocess, sys, urllib.request
sys.path.insert(0, {str(ROOT)!r})
from helpers import two_processes
driver = '''
import json, sys, urllib.request
sys.path.insert(0, {str(ROOT)!r})
from helpers import two_processes
application = two_processes.build({str(files.model)!r}, {str(files.svc)!r}, [])
with two_processes.running(application, address=sys.argv[1], port=int(sys.argv[2])) as url:
    body = json.dumps({{"inputs": {{"image": {files.X[:5].tolist()}}}}}).encode()
    print(json.load(urllib.request.urlopen(url + "/v1/models/model:predict", body))["outputs"]["label"])
'''
port = two_processes._free_port()
with two_processes._local_ray(2):
    address = two_processes.ray.get_runtime_context().gcs_address
    sys.path.pop(0)
    done = subprocess.run([sys.executable, "-c", driver, address, str(port)], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    print(sorted(two_processes.serve.status().applications), two_processes.ray.is_initialized())
"""
    )
    lines = fresh_process(script).split("\n")
    assert lines[0] == str(files.y[:5].tolist()), lines
    assert lines[-2] == "[] True", lines


# --- one server for the rest -------------------------------------------------------------------------------------


def test_the_answer_is_that_of_scikit_learn_in_the_format_of_tf_serving(files, url):
    status, body = ask(url, {"inputs": {"image": files.X[:300].tolist()}})
    assert (status, sorted(body), sorted(body["outputs"])) == (200, ["outputs"], ["embedding", "label"])
    np.testing.assert_array_equal(body["outputs"]["label"], files.y[:300])
    np.testing.assert_allclose(body["outputs"]["embedding"], files.E[:300], atol=1e-6)
    # As in TF Serving, the name may be left out where there is one input.
    assert ask(url, {"inputs": files.X[:1].tolist()})[1]["outputs"]["label"] == [files.y[0]]
    status, body = ask(url, None, "/v1/models/digits")
    assert body["model_version_status"][0]["state"] == "AVAILABLE"
    assert body["model_version_status"][0]["version"] == "7"


def test_the_client_of_tf_serving_works(files, url):
    with Client(url) as client:
        outputs = client.predict("digits", {"image": files.X[:20]})
        np.testing.assert_array_equal(outputs["label"], files.y[:20])
        assert (outputs["label"].dtype, outputs["embedding"].dtype) == (np.int64, np.float32)
        assert [found["state"] for found in client.status("digits")] == ["AVAILABLE"]
        with pytest.raises(ServingError, match="image is not finite"):
            client.predict("digits", {"image": files.X[:1] * np.nan})
        with pytest.raises(ServingError, match="signature_name is 'other'"):
            client.predict("digits", {"image": files.X[:1]}, signature="other")


@pytest.mark.parametrize(
    "body, status, sentence",
    [
        ({"inputs": {"image": [[1, 2]]}}, 400, "has shape (1, 2); the network takes (None, 64)"),
        ({"inputs": {"image": [[0] * 64, [1]]}}, 400, "rows of different lengths"),
        ({"inputs": {"image": [["a"] * 64]}}, 400, "no float32"),
        ({"inputs": {"image": [[None] * 64]}}, 400, "no float32"),
        ({"inputs": {"image": [[float("nan")] * 64]}}, 400, "image is not finite"),
        ({"inputs": {"picture": [[0] * 64]}}, 400, "has ['picture']; the network takes ['image']"),
        ({"instances": [[0] * 64]}, 400, "only the column format"),
        ([], 400, "only the column format"),
    ],
)
def test_a_bad_request_gets_one_sentence(url, body, status, sentence):
    found, answer = ask(url, body)
    assert found == status
    assert sentence in answer["error"]
    assert "\n" not in answer["error"]


def test_another_model_and_another_version_are_not_found(url):
    assert ask(url, {"inputs": []}, "/v1/models/cats:predict")[0] == 404
    assert ask(url, {"inputs": []}, "/v1/models/digits/versions/6:predict")[0] == 404
    assert ask(url, None, "/v1/models/digits:predict")[0] == 405


def test_a_bad_request_spoils_no_other_one_of_its_batch(files, url):
    good = [{"inputs": {"image": files.X[i : i + 1 + i % 3].tolist()}} for i in range(30)]
    bad = [{"inputs": {"image": [[float("inf")] * 64]}} for _ in range(5)]
    answers = at_once(url, good + bad)
    assert [status for status, _ in answers] == [200] * 30 + [400] * 5
    for i, (_, body) in enumerate(answers[:30]):
        assert body["outputs"]["label"] == files.y[i : i + 1 + i % 3].tolist()


def test_nothing_listens_beyond_this_machine(url):
    own = psutil.Process().children(recursive=True)
    ports = [c.laddr for p in own for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN or not c.raddr]
    assert len(ports) > 5
    for port in ports:
        address = ip_address(port.ip)
        assert (getattr(address, "ipv4_mapped", None) or address).is_loopback, port
    outside = socket.gethostbyname(socket.gethostname())
    if not ip_address(outside).is_loopback:
        for port in ports:
            with socket.socket() as probe:
                probe.settimeout(2)
                assert probe.connect_ex((outside, port.port)) != 0, port


@pytest.mark.parametrize("name", ["PostProcessing", "Network"])
def test_no_request_is_lost_when_a_process_dies(files, url, name):
    (victim,) = processes(f"ServeReplica:two_processes:{name}")
    # Requests large enough to be under way in it when it dies: it has begun to compute.
    rows = np.resize(files.X, (3000, 64)).tolist()
    before = victim.cpu_times().user
    answers = []
    sender = threading.Thread(target=lambda: answers.extend(at_once(url, [{"inputs": {"image": rows}}] * 8)))
    sender.start()
    while victim.cpu_times().user < before + 0.1:
        time.sleep(0.001)
    victim.kill()
    sender.join()
    assert [status for status, _ in answers] == [200] * 8
    assert all(body["outputs"]["label"] == np.resize(files.y, 3000).tolist() for _, body in answers)
    assert victim.pid not in [process.pid for process in processes(f"ServeReplica:two_processes:{name}")]
