"""Run a SavedModel in TensorFlow's C runtime: what a model server links, and nothing of Python's TensorFlow.

`serving.run_without_python` runs this file as a script, in a process that never imports tensorflow:
``python c_runtime.py MODEL INPUTS.npz OUTPUTS.npz TENSOR ...``.

The gap: no model server can be installed from a package index, and a model that is loaded by Python's TensorFlow finds
there what a server does not have. The C library inside the same wheel is the runtime of the server.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Linux, macOS and Windows.
LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib", "tensorflow_cc.dll")
STRING, BYTES_PER_STRING = 7, 24
# The numbers of types.proto, with NumPy's names.
DTYPES = {1: "f4", 2: "f8", 19: "f2", 10: "?", 6: "b", 5: "i2", 3: "i4", 9: "i8", 4: "u1", 17: "u2", 22: "u4", 23: "u8"}
NUMBERS = {np.dtype(name): number for number, name in DTYPES.items()}


class Output(ctypes.Structure):
    """The C API's ``TF_Output``: one output of one operation."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


def library() -> Path:
    """Return the path of the C library in the installed TensorFlow, which is not imported."""
    spec = importlib.util.find_spec("tensorflow")
    places = spec.submodule_search_locations if spec is not None else None
    found = [Path(place) / name for place in places or () for name in LIBRARIES if (Path(place) / name).exists()]
    if not found:
        raise FileNotFoundError(f"the installed TensorFlow has none of {', '.join(LIBRARIES)}.")
    return found[0]


def _api() -> Any:
    api, fetched = ctypes.CDLL(str(library())), [POINTER(Output), POINTER(c_void_p), c_int]
    one: Any = [c_void_p]
    load: Any = [c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, *one * 3]
    run = [c_void_p, c_void_p, *fetched, *fetched, c_void_p, c_int, c_void_p, c_void_p]
    # What a function returns, and the functions that do, with their arguments.
    functions: dict[Any, dict[str, list[Any]]] = {
        c_void_p: {"TF_NewStatus": [], "TF_NewGraph": [], "TF_NewSessionOptions": [], "TF_TensorData": one}
        | {"TF_LoadSessionFromSavedModel": load, "TF_GraphOperationByName": [c_void_p, c_char_p]}
        | {"TF_AllocateTensor": [c_int, POINTER(c_int64), c_int, c_size_t], "TF_StringGetDataPointer": one},
        c_char_p: {"TF_Message": one},
        c_int64: {"TF_Dim": [c_void_p, c_int]},
        c_size_t: dict.fromkeys(("TF_TensorByteSize", "TF_StringGetSize"), one),
        c_int: dict.fromkeys(("TF_GetCode", "TF_NumDims", "TF_TensorType"), one),
        None: {"TF_StringInit": one, "TF_StringCopy": [c_void_p, c_char_p, c_size_t], "TF_SessionRun": run},
    }
    for result, named in functions.items():
        for name, arguments in named.items():
            getattr(api, name).restype, getattr(api, name).argtypes = result, arguments
    return api


def run(folder: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
    """Load a SavedModel with the tag ``serve`` and run it once.

    Parameters
    ----------
    folder : str
        Of the SavedModel.
    inputs : mapping of str to ndarray
        By the name of the tensor ('name:0'); strings as arrays of objects of type bytes.
    outputs : sequence of str
        The names of the tensors that are wanted.

    Returns
    -------
    list of ndarray

    Raises
    ------
    RuntimeError
        What the runtime says.
    """
    api = _api()
    status, graph = api.TF_NewStatus(), api.TF_NewGraph()

    def check() -> None:
        if api.TF_GetCode(status):
            raise RuntimeError(api.TF_Message(status).decode(errors="replace"))

    def place(name: str) -> Output:
        operation, _, index = name.partition(":")
        if not (found := api.TF_GraphOperationByName(graph, operation.encode())):
            raise RuntimeError(f"the graph has no tensor {name!r}")
        return Output(found, int(index or 0))

    tags, options = (c_char_p * 1)(b"serve"), api.TF_NewSessionOptions()
    session = api.TF_LoadSessionFromSavedModel(options, None, folder.encode(), tags, 1, graph, None, status)
    check()
    feeds = (Output * len(inputs))(*map(place, inputs))
    values = (c_void_p * len(inputs))(*(_tensor(api, array) for array in inputs.values()))
    wanted, answers = (Output * len(outputs))(*map(place, outputs)), (c_void_p * len(outputs))()
    api.TF_SessionRun(session, None, feeds, values, len(inputs), wanted, answers, len(outputs), None, 0, None, status)
    check()
    return [_array(api, answer) for answer in answers]


def save(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of numbers, and of bytes as objects, to a file that is read without pickle."""
    content = {f"array {name}": _texts(array) if array.dtype == object else array for name, array in arrays.items()}
    with Path(path).open("wb") as file:
        np.savez(file, **content)  # type: ignore[arg-type]


def load(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key.removeprefix("array "): file[key] for key in file}
    for name, array in arrays.items():
        if array.dtype.kind == "S":
            arrays[name] = _objects([value[:-1] for value in array.ravel()], array.shape)
    return arrays


def _texts(array: NDArray[Any]) -> NDArray[Any]:
    # NumPy's own strings lose null characters at their end: hence the dot, and the None below.
    return np.array([value + b"." for value in array.ravel()], "S").reshape(array.shape)


def _objects(values: list[bytes], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.array([*values, None], object)[:-1].reshape(shape)


def _tensor(api: Any, array: NDArray[Any]) -> int:
    text = array.dtype == object
    size = array.size * (BYTES_PER_STRING if text else array.itemsize)
    dims = (c_int64 * array.ndim)(*array.shape)
    tensor: int = api.TF_AllocateTensor(STRING if text else NUMBERS[array.dtype], dims, array.ndim, size)
    data = api.TF_TensorData(tensor)
    if not text:
        ctypes.memmove(data, array.tobytes(), size)
        return tensor
    for number, value in enumerate(array.ravel()):
        api.TF_StringInit(data + number * BYTES_PER_STRING)
        api.TF_StringCopy(data + number * BYTES_PER_STRING, value, len(value))
    return tensor


def _array(api: Any, tensor: Any) -> NDArray[Any]:
    shape = tuple(api.TF_Dim(tensor, axis) for axis in range(api.TF_NumDims(tensor)))
    data, dtype = api.TF_TensorData(tensor), api.TF_TensorType(tensor)
    if dtype != STRING:
        content = ctypes.string_at(data, api.TF_TensorByteSize(tensor)) if 0 not in shape else b""
        return np.frombuffer(content, DTYPES[dtype]).reshape(shape)
    places = (data + number * BYTES_PER_STRING for number in range(int(np.prod(shape))))
    texts = ((api.TF_StringGetDataPointer(place), api.TF_StringGetSize(place)) for place in places)
    return _objects([ctypes.string_at(*text) for text in texts], shape)


if __name__ == "__main__":
    answers = run(sys.argv[1], load(sys.argv[2]), sys.argv[4:])
    save(sys.argv[3], dict(zip(sys.argv[4:], answers, strict=True)))
