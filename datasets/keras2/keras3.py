"""Read a model that Keras 2 saved, and return it as a model of Keras 3; lesson 15 explains it, and proves it.

Copy it into a project of yours: a converted model that uses `hard_sigmoid` needs it when it is loaded.
"""

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras

# Arguments that Keras 3 has dropped, with the one value that changes nothing; any other value is left, and refused.
NO_EFFECT = {"time_major": False, "groups": 1, "score_mode": "dot", "softmax_robust_masking": False}
# Arguments without effect on predictions, by the beginning of the class's name.
UNUSED = {
    "SpatialDropout": {"trainable"},
    "SeparableConv": {"kernel_initializer", "kernel_regularizer", "kernel_constraint"},
    "Random": {"rng_type"},
}


@keras.saving.register_keras_serializable("keras2")
def hard_sigmoid(x: Any) -> Any:
    """Return what Keras 2 calls hard_sigmoid; the slope of Keras 3's is 1/6."""
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


def read_config(path: Path) -> tuple[str, Any]:
    """Return the version of Keras that wrote a model and its configuration, without loading it; None: it has none."""
    if (path / "keras_metadata.pb").is_file():
        # The classes of Keras 2's metadata; TensorFlow still ships them, under a private name.
        from tensorflow.python.keras.protobuf.saved_metadata_pb2 import SavedMetadata

        nodes = SavedMetadata.FromString((path / "keras_metadata.pb").read_bytes()).nodes
        root = json.loads(nodes[0].metadata)
        return root.get("keras_version", ""), root.get("model_config")
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if {"metadata.json", "config.json"} <= set(archive.namelist()):
                version = json.loads(archive.read("metadata.json")).get("keras_version", "")
                return version, json.loads(archive.read("config.json"))
    if not (path.is_file() and h5py.is_hdf5(path)):
        return "", None
    with h5py.File(path) as file:
        texts = [file.attrs.get(key, b"") for key in ("keras_version", "model_config")]
    # Old versions wrote bytes.
    version, config = (text.decode() if isinstance(text, bytes) else text for text in texts)
    return version, json.loads(config) if config else None


def layers_in(node: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return class and arguments of every layer in a configuration, the nested ones too."""
    if isinstance(node, list):
        return [found for part in node for found in layers_in(part)]
    if not isinstance(node, dict):
        return []
    inner = layers_in(list(node.values()))
    config = node.get("config")
    if "class_name" in node and isinstance(config, dict) and "name" in config:
        return [(node["class_name"], config), *inner]
    return inner


def _count_calls_from_0(config: dict[str, Any]) -> None:
    """Number the calls of nested models as Keras 3 does; Keras 2 counts how each was built as its first."""
    nested = {}
    for layer in config["layers"]:
        inner = layer["config"].get("layers")
        if inner and inner[0]["class_name"] == "InputLayer":
            nested[layer["name"]] = layer["class_name"]
    calls = [call for layer in config["layers"] for node in layer["inbound_nodes"] for call in node]
    # Of an output that is a nested Functional, Keras 3 subtracts 1 itself.
    calls += [call for call in config["output_layers"] if nested.get(call[0]) == "Sequential"]
    for call in calls:
        if isinstance(call, list) and call[0] in nested:
            call[1] -= 1


def cleaned(node: Any) -> Any:
    """Return a configuration of Keras 2 in the words of Keras 3."""
    if isinstance(node, list):
        return [cleaned(part) for part in node]
    if not isinstance(node, dict):
        return node
    node = {key: cleaned(value) for key, value in node.items() if key != "compile_config"}
    kind, config = str(node.get("class_name")), node.get("config")
    if kind == "Policy":
        return config["name"]
    if kind == "Functional" and "module" in node:
        node["module"] = "keras.src.models.functional"
    if kind == "Sequential" and isinstance(config, list):
        # Before Keras 2.2.3 a Sequential was a list of layers, without a name.
        node["config"] = {"name": "sequential", "layers": config}
    elif isinstance(config, dict):
        drop = {key for key, value in NO_EFFECT.items() if config.get(key, ...) == value}
        drop |= {key for start, keys in UNUSED.items() if kind.startswith(start) for key in keys}
        node["config"] = config = {key: value for key, value in config.items() if key not in drop}
        if kind == "BatchNormalization" and isinstance(config.get("axis"), list):
            (config["axis"],) = config["axis"]
        if kind != "InputLayer" and "batch_input_shape" in config:
            # Keras 3 would take the whole of it, the batch too, for the shape of one row.
            config["input_shape"] = config.pop("batch_input_shape")[1:]
        if kind == "GRU":
            # Files from before the argument have one bias: as Keras 3 with False, which is not its default.
            config.setdefault("reset_after", False)
        if "input_layers" in config:
            _count_calls_from_0(config)
    return node


def _copy_archive(path: Path, copy: Path) -> None:
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, json.dumps(cleaned(json.loads(content))) if name == "config.json" else content)


def _copy_folder(path: Path, copy: Path) -> None:
    """Write the variables of a SavedModel, named layer/weight, as Keras 2 writes them to an .h5, layer by layer."""
    import tensorflow as tf

    weights: dict[str, dict[str, Any]] = {}
    for variable in tf.saved_model.load(path).variables:
        weights.setdefault(variable.name.split("/")[0], {})[variable.name] = variable.numpy()
    with h5py.File(copy, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = list(weights)
        group.attrs["keras_version"] = read_config(path)[0]
        for layer, arrays in weights.items():
            group.create_group(layer).attrs["weight_names"] = list(arrays)
            for name, array in arrays.items():
                group[layer][name] = array


def convert(path: Path, custom_objects: dict[str, Any] | None = None) -> Any:
    """Return the model of Keras 3 that an .h5, a .keras or a SavedModel of Keras 2 describes.

    Parameters
    ----------
    path : Path
    custom_objects : dict of str to class or function, optional
        The author's own, written for Keras 3, under the names that are in the file.

    Returns
    -------
    keras.Model
        Not compiled.

    Raises
    ------
    ValueError
        There is no configuration, or Keras 3 refuses a part of it (also TypeError).
    """
    config = read_config(path)[1]
    if config is None:
        raise ValueError(
            f"{path.name} holds no configuration of a model: build the model in Keras 3 and load the weights alone, "
            "or, for a SavedModel, use keras.layers.TFSMLayer."
        )
    with tempfile.TemporaryDirectory() as folder:
        archive = path.is_file() and zipfile.is_zipfile(path)
        copy = Path(folder, f"copy{'.keras' if archive else '.h5'}")
        (_copy_archive if archive else _copy_folder if path.is_dir() else shutil.copyfile)(path, copy)
        if not archive:
            with h5py.File(copy, "a") as file:
                file.attrs["model_config"] = json.dumps(cleaned(config))
        model = keras.saving.load_model(copy, custom_objects=custom_objects, compile=False)
    # The cells of recurrent layers are among them.
    for layer in model._flatten_layers():
        for name in ("activation", "recurrent_activation"):
            # A recurrent layer only shows its cell's: there it is read-only.
            own = not isinstance(getattr(type(layer), name, None), property)
            if own and getattr(layer, name, None) is keras.activations.hard_sigmoid:
                setattr(layer, name, hard_sigmoid)
    return model
