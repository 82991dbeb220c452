"""The recorder of a server's answers, and the local server beside what is recorded: offline, with a fixture."""

import copy
import json
from pathlib import Path

import httpx
import pytest
import record_server

from helpers.notebook import ROOT
from serving import local_server

FIXTURE = Path(__file__).with_name("recorded_fixture.json")
# Written by the workflow, with the digest of the image that answered; it is there once somebody has put it there.
OBSERVED = ROOT / "serving" / "recorded.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorder")
    record_server.make_models(folder / "models", folder / "config")
    return folder


@pytest.fixture(scope="module")
def url(folder):
    with local_server.running({record_server.MODEL: folder / "models" / record_server.MODEL}) as url:
        yield url


@pytest.fixture(scope="module")
def answers(url):
    return record_server.ask(url)


def test_the_fixture_says_that_it_is_one_and_what_made_it():
    fixture = json.loads(FIXTURE.read_text(encoding="utf-8"))
    assert fixture["fixture"] is True
    assert "not TensorFlow Serving" in fixture["made by"] or "not by TensorFlow Serving" in fixture["made by"]
    assert fixture["server"] == "serving.local_server"
    assert "image" not in fixture


def test_the_local_server_answers_as_the_fixture(answers):
    fixture = json.loads(FIXTURE.read_text(encoding="utf-8"))
    assert list(record_server.differences(answers, fixture)) == []
    assert {one["status"] for one in answers} == {200, 400, 404}


@pytest.mark.skipif(not OBSERVED.exists(), reason="no answer of a real server has been put into the repository")
def test_the_local_server_answers_as_tensorflow_serving_did(answers):
    observed = json.loads(OBSERVED.read_text(encoding="utf-8"))
    assert (observed["fixture"], observed["server"]) == (False, "TensorFlow Serving")
    assert "@sha256:" in observed["image"]
    assert list(record_server.differences(answers, observed)) == []


def test_what_differs_is_named(answers):
    recorded = {"answers": copy.deepcopy(answers)}
    named = {one["request"]: one for one in recorded["answers"]}
    named["null"]["status"] = 500
    named["columns"]["answer"]["outputs"]["sums"][0][0] += 0.001
    named["NaN"]["answer"]["outputs"]["finite"] = [0]
    named["status"]["answer"]["model_version_status"][0]["version"] = "2"
    signature = named["metadata"]["answer"]["metadata"]["signature_def"]["signature_def"]["serving_default"]
    signature["inputs"]["x"]["dtype"] = "DT_DOUBLE"
    found = [sentence.split(":")[0] for sentence in record_server.differences(answers, recorded)]
    assert found == ["columns", "NaN", "null", "status", "metadata"]
    named["rows"]["answer"]["predictions"][0]["sums"][0] += 1e-7
    assert len(list(record_server.differences(answers, recorded))) == 5, "within the tolerance"
    (sentence,) = record_server.differences(answers[1:], recorded)
    assert sentence == "the requests are not those that were recorded"


def test_a_record_has_a_digest_or_says_that_it_is_a_fixture(url, tmp_path, monkeypatch):
    for given in ({}, {"digest": "a@sha256:0", "fixture": "a test"}):
        with pytest.raises(ValueError, match="digest"):
            record_server.record(url, **given)
    # The local server's answers are never recorded as those of an image.
    command = ["record_server.py", "record", url, str(tmp_path / "a.json"), "--digest", "a@sha256:0"]
    monkeypatch.setattr("sys.argv", [*command, "--config", "models.config", "--models", "models"])
    with pytest.raises(SystemExit, match=r"serving\.local_server answered"):
        record_server.main()
    assert not (tmp_path / "a.json").exists()


def test_the_server_is_named_by_what_it_says(monkeypatch):
    pages = {}

    def handler(request):
        return pages.get(request.url.path, httpx.Response(404, text="Not found"))

    def client(**options):
        return real(transport=httpx.MockTransport(handler), **options)

    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", client)
    assert record_server.server_name("http://a") == "unknown"
    pages["/monitoring/prometheus/metrics"] = httpx.Response(200, text=":tensorflow:serving:request_count{} 1")
    assert record_server.server_name("http://a") == "TensorFlow Serving"
    pages["/v2"] = httpx.Response(200, json={"name": "OpenVINO Model Server", "version": "2026.4"})
    assert record_server.server_name("http://a") == "OpenVINO Model Server"


def test_labels_are_written_into_the_configuration_and_taken_out_again(folder, tmp_path, monkeypatch):
    config, models = folder / "config" / "models.config", tmp_path
    before = config.read_text(encoding="utf-8")
    (models / f"{record_server.MODEL}_next" / "2").mkdir(parents=True)
    (models / record_server.MODEL).mkdir()

    def get(url, **_):
        # The last, as the first stand in a comment of the other model.
        text, label = config.read_text(encoding="utf-8"), url.split("/")[-2]
        number = text.rpartition(f'key: "{label}" value: ')[2].split()[0]
        return httpx.Response(200, json={"model_spec": {"version": number}})

    monkeypatch.setattr(httpx, "get", get)
    found = record_server.labels("http://a", config, models)
    assert [one["led to"] for one in found] == [{"stable": a, "canary": b} for a, b in ((1, 2), (1, 1), (2, 2))]
    assert config.read_text(encoding="utf-8") == before
    assert (models / record_server.MODEL / "2").exists()
