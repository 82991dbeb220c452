"""TensorFlow Serving's own files: image, flags, ports, mounts, models and batching, as the model server reads them."""

import re

import tensorflow as tf
import yaml

from helpers.notebook import ROOT

FOLDER = ROOT / "serving"
(SERVICE,) = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"].values()


def test_image_flags_ports_and_mounts():
    assert SERVICE["image"].rpartition(".")[0] == f"tensorflow/serving:{tf.__version__.rpartition('.')[0]}"
    ports = {"port": "8500", "rest_api_port": "8501"}
    files = {"model_config_file": "/config/models.config", "batching_parameters_file": "/config/batching.config"}
    rest = {"enable_batching": "true", "enable_model_warmup": "true", "file_system_poll_wait_seconds": "1"}
    assert dict(flag.removeprefix("--").split("=") for flag in SERVICE["command"]) == ports | files | rest
    # On this machine only, and for reading only.
    assert sorted(SERVICE["ports"]) == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    models, *files = [tuple(volume.rsplit(":", 2)) for volume in SERVICE["volumes"]]
    assert models[1:] == ("/models", "ro")
    assert files == [(f"./{name}", f"/config/{name}", "ro") for name in ("models.config", "batching.config")]


def test_the_models_are_where_they_are_mounted_and_the_batching_parameters_let_the_server_start():
    files = [FOLDER / "models.config", FOLDER / "batching.config"]
    models, batching = (re.sub(r"#.*", "", file.read_text(encoding="utf-8")) for file in files)
    names = re.findall(r'\bname: "([\w-]+)"', models)
    assert names
    assert re.findall(r'base_path: "(.+)"', models) == [f"/models/{name}" for name in names]
    assert models.count('model_platform: "tensorflow"') == models.count("latest { num_versions: 1 }") == len(names)
    fields = dict(re.findall(r"(\w+) \{ value: (\w+) \}", batching))
    assert fields.pop("enable_large_batch_splitting") == "true"
    numbers = {name: int(value) for name, value in fields.items() if int(value) > 0}
    assert numbers.pop("max_execution_batch_size") <= numbers.pop("max_batch_size")
    assert numbers.keys() == {"batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"}
