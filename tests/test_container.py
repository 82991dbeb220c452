"""TensorFlow Serving itself: its configuration, and the client's tests against its container where Docker runs."""

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
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from test_standin import (
    predict,
    save_models,
    test_a_name_that_the_signature_lacks_is_passed_over_in_columns_and_refused_in_rows,
    test_a_signature_is_chosen_by_name_and_may_take_one_value,
    test_a_single_input_may_be_bare_or_named_in_either_format,
    test_a_version_may_be_named,
    test_every_value_of_every_type_comes_back_as_it_was,
    test_nan_and_infinity_go_both_ways,
    test_several_inputs_and_outputs_are_named,
    test_status_and_metadata_are_those_of_the_protocol,
    test_ten_thousand_requests_of_32_clients_are_answered_each_with_its_own,
    test_the_client_tells_what_a_model_takes_and_gives,
    test_the_first_of_two_equal_names_counts,
    test_what_is_no_json_is_told_before_that_there_is_no_such_model,
    test_what_the_graph_refuses_is_the_clients_fault_in_the_graphs_words,
)

from helpers.notebook import ROOT
from serving.client import Client, ServingError

FOLDER = ROOT / "serving"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
(SERVICE,) = COMPOSE["services"].values()

# ---- the container --------------------------------------------------------------------------------


def docker(*arguments):
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    if shutil.which("docker") is None:
        pytest.skip("the container is not tested: there is no docker here")
    try:
        docker("info")
        docker("pull", SERVICE["image"])
    except RuntimeError as error:
        pytest.skip(f"the container is not tested: {error}")
    folder = tmp_path_factory.mktemp("container")
    names = save_models(folder)
    configs = "".join(f'config {{ name: "{name}" base_path: "/models/{name}" }}\n' for name in names)
    (folder / "models.config").write_text(f"model_config_list {{\n{configs}}}\n", encoding="utf-8")
    # One model takes a value without an axis, which cannot be batched.
    flags = [flag for flag in SERVICE["command"] if "batching" not in flag]
    (program,) = SERVICE["entrypoint"]
    mounts = ["-v", f"{folder}:/models:ro", "-v", f"{folder / 'models.config'}:/config/models.config:ro"]
    options = ["--rm", "--detach", "--platform", SERVICE["platform"], "-p", "127.0.0.1::8501", "--entrypoint", program]
    container = docker("run", *options, *mounts, SERVICE["image"], *flags)
    try:
        url = f"http://{docker('port', container, '8501/tcp')}"
        with Client(url, patience=60) as client:
            end = time.monotonic() + 60
            while True:
                with contextlib.suppress(ServingError):
                    if all(client.status(name)[0]["state"] == "AVAILABLE" for name in names):
                        break
                assert time.monotonic() < end, docker("logs", container)
                time.sleep(0.5)
        yield url
    finally:
        docker("kill", container)


@pytest.fixture(scope="module")
def client(url):
    with Client(url) as client:
        yield client


def test_a_wrong_request_is_refused_with_the_code_of_the_stand_in(url):
    for model, document, code in [
        ("none", {"inputs": [1.0]}, 404),
        ("scaled", {}, 400),
        ("scaled", {"inputs": ["a"]}, 400),
        ("scaled", {"inputs": [1, [2]]}, 400),
        ("scaled", {"instances": []}, 400),
        ("scaled", {"signature_name": "no", "inputs": [1.0]}, 400),
        ("matrix", {"inputs": {"x": [[1, 2, 3]]}}, 400),
        ("matrix", {"inputs": {"x": [[1, 2]], "word": ["a"]}}, 400),
        ("half", {"inputs": [1.0]}, 501),
    ]:
        answered, answer = predict(url, model, document)
        assert (answered, list(answer)) == (code, ["error"])


# ---- its configuration ----------------------------------------------------------------------------


def messages(**fields):
    """Make message classes with these fields: name, type, and * for many of them."""
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="config", syntax="proto3")
    kinds = {"int64": 3, "bool": 8, "string": 9}
    for name, content in fields.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate((part.split(":") for part in content.split()), 1):
            label = 3 if kind.endswith("*") else 1
            kind = kind.rstrip("*")
            if kind in kinds:
                message.field.add(name=field, number=number, label=label, type=kinds[kind])
            else:
                message.field.add(name=field, number=number, label=label, type=11, type_name=f".config.{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"config.{name}")) for name in fields}


# What these files use of TensorFlow Serving's messages; a name that is not there does not parse.
MESSAGES = messages(
    Latest="num_versions:int64",
    Specific="versions:int64*",
    Policy="latest:Latest specific:Specific",
    Model="name:string base_path:string model_platform:string model_version_policy:Policy",
    Models="config:Model*",
    ModelServerConfig="model_config_list:Models",
    Value="value:int64",
    Switch="value:bool",
    BatchingParameters=(
        "max_batch_size:Value batch_timeout_micros:Value max_enqueued_batches:Value num_batch_threads:Value "
        "allowed_batch_sizes:int64* enable_large_batch_splitting:Switch max_execution_batch_size:Value"
    ),
)
FLAGS = {
    "port": r"8500",
    "rest_api_port": r"8501",
    "model_config_file": r"/config/models\.config",
    "enable_batching": r"true",
    "batching_parameters_file": r"/config/batching\.config",
    "file_system_poll_wait_seconds": r"\d+",
    "enable_model_warmup": r"true",
}


def read(name):
    return (FOLDER / name).read_text(encoding="utf-8")


def test_the_models_are_named_and_have_a_base_folder_that_is_mounted():
    config = text_format.Parse(read("models.config"), MESSAGES["ModelServerConfig"]())
    models = config.model_config_list.config
    assert len(models) >= 1
    mounted = [volume.split(":")[-2] for volume in SERVICE["volumes"]]
    for model in models:
        assert re.fullmatch(r"[\w-]+", model.name)
        assert model.base_path == f"/models/{model.name}"
        assert "/models" in mounted
        assert model.model_platform == "tensorflow"
        assert model.model_version_policy.latest.num_versions == 1


def test_the_batching_parameters_are_whole_and_positive():
    config = text_format.Parse(read("batching.config"), MESSAGES["BatchingParameters"]())
    fields = {field.name: value.value for field, value in config.ListFields()}
    waiting = {"batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"}
    sizes = {"max_batch_size", "max_execution_batch_size", "enable_large_batch_splitting"}
    assert fields.keys() == waiting | sizes
    assert all(value > 0 for value in fields.values())
    # Else the server does not start.
    assert fields["max_execution_batch_size"] <= fields["max_batch_size"]
    with pytest.raises(text_format.ParseError):
        text_format.Parse(read("batching.config").replace("max_batch", "max_bath"), MESSAGES["BatchingParameters"]())


def test_the_flags_are_those_of_the_model_server():
    flags = dict(flag.removeprefix("--").split("=") for flag in SERVICE["command"])
    assert flags.keys() == FLAGS.keys()
    for name, value in flags.items():
        assert re.fullmatch(FLAGS[name], value), name


def test_the_ports_are_on_this_machine_only_and_what_is_mounted_is_read_only():
    assert sorted(SERVICE["ports"]) == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert all(volume.endswith(":ro") for volume in SERVICE["volumes"])
    for volume in SERVICE["volumes"]:
        source, target, _ = volume.rsplit(":", 2)
        if source.startswith("./"):
            assert (FOLDER / source).is_file()
            assert f"={target}" in " ".join(SERVICE["command"])


def test_the_image_is_of_the_release_that_exports():
    name, tag = SERVICE["image"].split(":")
    assert name == "tensorflow/serving"
    assert tag.split(".")[:2] == tf.__version__.split(".")[:2]
    assert len(tag.split(".")) == 3
