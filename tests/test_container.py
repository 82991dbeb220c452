"""TensorFlow Serving itself: its configuration, and the protocol's tests against its container where Docker runs."""

# ruff: noqa: F401
# The tests that are imported are collected here too, and run against the container.

import contextlib
import re
import shutil
import subprocess
import time

import pytest
import tensorflow as tf
import yaml
from test_local_server import (
    save_models,
    test_a_wrong_request_gets_its_code_and_one_sentence,
    test_every_value_of_every_type_comes_back_as_it_was,
    test_rows_and_columns_bare_and_named,
    test_status_and_metadata_are_those_of_the_protocol,
)

from helpers.notebook import ROOT
from serving import Client, ServingError

FOLDER = ROOT / "serving"
(SERVICE,) = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"].values()


def docker(*arguments):
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the container is not tested: docker {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    if shutil.which("docker") is None:
        pytest.skip("the container is not tested: there is no docker here")
    docker("info")
    docker("pull", SERVICE["image"])
    folder = tmp_path_factory.mktemp("container")
    names = save_models(folder)
    configs = "".join(f'config {{ name: "{name}" base_path: "/models/{name}" }}\n' for name in names)
    (folder / "models.config").write_text(f"model_config_list {{\n{configs}}}\n", encoding="utf-8")
    # One model takes a value without an axis, which cannot be batched.
    flags = [flag for flag in SERVICE["command"] if "batching" not in flag]
    mounts = ["-v", f"{folder}:/models:ro", "-v", f"{folder / 'models.config'}:/config/models.config:ro"]
    options = [
        "--rm",
        "-d",
        "--platform",
        SERVICE["platform"],
        "-p",
        "127.0.0.1::8501",
        "--entrypoint",
        *SERVICE["entrypoint"],
    ]
    container = docker("run", *options, *mounts, SERVICE["image"], *flags)
    try:
        url, end = f"http://{docker('port', container, '8501/tcp')}", time.monotonic() + 60
        with Client(url, patience=60) as client:
            while not all(is_available(client, name) for name in names):
                assert time.monotonic() < end, docker("logs", container)
                time.sleep(0.5)
        yield url
    finally:
        docker("kill", container)


def is_available(client, name):
    with contextlib.suppress(ServingError):
        return client.status(name)[0]["state"] == "AVAILABLE"
    return False


@pytest.fixture(scope="module")
def client(url):
    with Client(url) as client:
        yield client


def test_the_models_are_mounted_and_the_highest_version_is_served():
    config = re.sub(r"#.*", "", (FOLDER / "models.config").read_text(encoding="utf-8"))
    names = re.findall(r'\bname: "([\w-]+)"', config)
    assert names
    assert re.findall(r'base_path: "(.+)"', config) == [f"/models/{name}" for name in names]
    assert config.count('model_platform: "tensorflow"') == config.count("latest { num_versions: 1 }") == len(names)
    assert "/models" in [volume.split(":")[-2] for volume in SERVICE["volumes"]]


def test_the_batching_parameters_are_those_of_the_model_server():
    config = re.sub(r"#.*", "", (FOLDER / "batching.config").read_text(encoding="utf-8"))
    fields = dict(re.findall(r"(\w+) \{ value: (\w+) \}", config))
    numbers = {"batch_timeout_micros", "max_enqueued_batches", "num_batch_threads", "max_batch_size"}
    assert fields.keys() == {*numbers, "max_execution_batch_size", "enable_large_batch_splitting"}
    assert all(int(fields[name]) > 0 for name in numbers)
    # Else the server does not start.
    assert 0 < int(fields["max_execution_batch_size"]) <= int(fields["max_batch_size"])
    assert fields["enable_large_batch_splitting"] in ("true", "false")


def test_flags_ports_mounts_and_image():
    assert dict(flag.removeprefix("--").split("=") for flag in SERVICE["command"]) == {
        "port": "8500",
        "rest_api_port": "8501",
        "model_config_file": "/config/models.config",
        "enable_batching": "true",
        "batching_parameters_file": "/config/batching.config",
        "file_system_poll_wait_seconds": "1",
        "enable_model_warmup": "true",
    }
    assert sorted(SERVICE["ports"]) == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    for volume in SERVICE["volumes"]:
        source, target, mode = volume.rsplit(":", 2)
        assert mode == "ro"
        assert not source.startswith("./") or ((FOLDER / source).is_file() and f"={target}" in str(SERVICE["command"]))
    name, tag = SERVICE["image"].split(":")
    assert (name, tag.split(".")[:2]) == ("tensorflow/serving", tf.__version__.split(".")[:2])
