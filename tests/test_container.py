"""TensorFlow Serving's own files: image, flags, ports, mounts, models and batching, as the model server reads them."""

import os
import re
import shutil
import socket
import subprocess

import pytest
import tensorflow as tf
import yaml

from helpers.notebook import ROOT

FOLDER = ROOT / "serving"
FILES = {"model_config": "models", "batching_parameters": "batching", "monitoring_config": "monitoring"}
(SERVICE,) = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"].values()


def test_image_flags_ports_and_mounts():
    tag = re.fullmatch(r"tensorflow/serving:\$\{TAG:-(\d+)\.(\d+)\.\d+\}", SERVICE["image"])
    # The published image trails TensorFlow: a tag of a later release than ours would be a guess.
    assert [int(part) for part in tag.groups()] <= [int(part) for part in tf.__version__.split(".")[:2]]
    ports = {"port": "8500", "rest_api_port": "8501"}
    files = {f"{kind}_file": f"/config/{name}.config" for kind, name in FILES.items()}
    polls = {"model_config_file_poll_wait_seconds": "1", "file_system_poll_wait_seconds": "1"}
    retries = {"max_num_load_retries": "2", "load_retry_interval_micros": "1000000"}
    rest = ("enable_batching", "enable_model_warmup", "allow_version_labels_for_unavailable_models")
    flags = dict(flag.removeprefix("--").split("=") for flag in SERVICE["command"])
    assert flags == ports | files | polls | retries | dict.fromkeys(rest, "true")
    # On this machine only, and for reading only.
    assert sorted(SERVICE["ports"]) == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert SERVICE["volumes"][0].endswith("}:/models:ro")
    # A folder: of a single file, the container would not see the one that replaces it.
    assert SERVICE["volumes"][1:] == ["${CONFIG:-.}:/config:ro"]
    assert all((FOLDER / f"{name}.config").is_file() for name in FILES.values())


def test_up_wait_returns_when_the_port_is_open_with_what_the_image_has():
    program, shell, option, script = SERVICE["healthcheck"]["test"]
    assert (program, shell, option) == ("CMD", "bash", "-c")
    if os.name == "nt" or not shutil.which("bash"):
        pytest.skip("no bash with /dev/tcp")
    # The image has bash and no curl; here with another port, open and then closed.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = ["bash", "-c", script.replace("8501", str(listener.getsockname()[1]))]
        assert subprocess.run(command, capture_output=True).returncode == 0
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_the_models_are_where_they_are_mounted_and_the_batching_parameters_let_the_server_start():
    files = [FOLDER / "models.config", FOLDER / "batching.config"]
    models, batching = (re.sub(r"#.*", "", file.read_text(encoding="utf-8")) for file in files)
    names = re.findall(r'\bname: "([\w-]+)"', models)
    assert names
    assert re.findall(r'base_path: "(.+)"', models) == [f"/models/{name}" for name in names]
    assert models.count('model_platform: "tensorflow"') == models.count("latest { num_versions: 1 }") == len(names)
    assert models.count("{") == models.count("}")
    monitoring = re.sub(r"\s+", " ", re.sub(r"#.*", "", (FOLDER / "monitoring.config").read_text(encoding="utf-8")))
    assert monitoring.strip() == 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'
    fields = dict(re.findall(r"(\w+) \{ value: (\w+) \}", batching))
    assert fields.pop("enable_large_batch_splitting") == "true"
    numbers = {name: int(value) for name, value in fields.items() if int(value) > 0}
    assert numbers.pop("max_execution_batch_size") <= numbers.pop("max_batch_size")
    assert numbers.keys() == {"batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"}


def test_the_job_runs_the_lesson_on_the_real_server_and_skips_nothing():
    workflow = yaml.safe_load((FOLDER.parent / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["serving"]
    script = "\n".join(step.get("run", "") for step in job["steps"])
    for line in (
        "docker compose -f serving/compose.yaml up --detach --wait",
        "-p server_url http://127.0.0.1:8501",
        "logs | grep 'Finished reading warmup data for model at /models/decision",
        "RepoDigests",
        "record_server.py record",
        "record_server.py compare",
    ):
        assert line in script
    assert not any(step.get("continue-on-error") for step in job["steps"])
    assert "|| true" not in script
    (kept,) = (step["with"]["path"].split() for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    assert "build/serving/recorded.json" in kept
