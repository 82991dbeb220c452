"""A stand-in for TensorFlow Serving: its REST interface over SavedModels, on this machine only.

The gap: the model server comes as a container or is built from source; no package index has it. Without a container
engine a client, a new version and a broken one cannot be tried. This small FastAPI server answers the same requests
with the same answers, codes and sentences, so that the same client talks to either.

It is no replacement. It serves ``predict``, status and metadata, the latest version of each model, over REST on
127.0.0.1. It has no gRPC, no batching, no warm-up, no version labels. Where it differs it is the stricter one: it
refuses to load a graph that calls back into Python, which TensorFlow Serving loads and cannot run; it refuses inputs
whose shape the signature does not allow, which TensorFlow Serving leaves to the ops; it refuses whole numbers that do
not fit an int8 or uint8, which TensorFlow Serving wraps; it tells at once that a version cannot be loaded, not after
five minutes of attempts; and it takes 32 MiB a request.

The graph is run in a session, as the model server does, not by ``tf.saved_model.load``: what a Python object could
still mend is not mended, and a call takes a tenth of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from helpers.notebook import ENVIRONMENT, ROOT, UserError, first_line
from serving.export import python_ops

# The process that starts the server needs neither TensorFlow nor FastAPI: both are imported where the server runs.
if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

__all__ = ["LIMIT", "create_app", "running"]

LIMIT = 32 * 2**20
"""The most bytes that the body of a request may have."""

Array = NDArray[Any]
Folder = str | os.PathLike[str]

_ADDRESS = "127.0.0.1"
_POLL_SECONDS = 1.0
_DEFAULT = "serving_default"
# What the codes of TensorFlow's errors are over HTTP; any other is 500.
_HTTP = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_WHERE = r"(?:/versions/(\d+)|/labels/([^/:]+))?"
_PREDICT = re.compile(rf"/v1/models/([^/:]+){_WHERE}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_STATUS = re.compile(rf"/v1/models(?:/([^/:]+))?{_WHERE}(?:/(metadata))?", re.IGNORECASE | re.ASCII)
# NumPy's bound.
_MOST_AXES = 64
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# A number too large for a double becomes infinite as well: the type tells which one was written as a word.
_WORDS = {"NaN": np.float64("nan"), "Infinity": np.float64("inf"), "-Infinity": np.float64("-inf")}
# The types that the interface carries, each with what JSON may give for it.
_ACCEPTED: dict[str, set[type]] = {
    **{name: {int, float, np.float64} for name in ("float32", "float64")},
    **{name: {int} for name in ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")},
    "bool": {bool},
    "string": {str, dict},
}
_PARSE_ERRORS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or a closing bracket.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
}


class _RefusedError(Exception):
    """What a client gets instead of an answer."""

    def __init__(self, sentence: str, code: str = "INVALID_ARGUMENT") -> None:
        super().__init__(sentence)
        self.code = code


class _Tensor(NamedTuple):
    """One input or output of a signature; a size or shape that is not fixed is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


class _Signature(NamedTuple):
    inputs: dict[str, _Tensor]
    outputs: dict[str, _Tensor]
    run: Callable[..., list[Any]]


class _State(NamedTuple):
    state: str
    code: str = "OK"
    message: str = ""


# ---- the models -----------------------------------------------------------------------------------------------------


class _Version:
    """A SavedModel in a session of its own; the last request that holds it frees both."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf
        from google.protobuf.json_format import MessageToDict

        findings = python_ops(folder)
        if findings:
            raise _RefusedError(findings[0].sentence, "UNIMPLEMENTED")
        self.number = int(folder.name)
        session = tf.compat.v1.Session(graph=tf.Graph())
        with session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], os.fspath(folder))
        # The one without a method is no signature: it tells the loader how to initialise.
        self.signatures = {
            name: _signature(session, found) for name, found in meta.signature_def.items() if found.method_name
        }
        self.metadata = {
            name: MessageToDict(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            for name, found in meta.signature_def.items()
        }

    def signature(self, name: str) -> _Signature:
        """Return a signature; the name is empty for the default one."""
        found = self.signatures.get(name or _DEFAULT)
        if found is None:
            raise _RefusedError(f'Serving signature name: "{name or _DEFAULT}" not found in signature def')
        if not found.inputs:
            raise _RefusedError(f"Failed to get input map for signature: {name or 'DEFAULT'}")
        return found


def _signature(session: Any, definition: Any) -> _Signature:
    from tensorflow.core.protobuf.config_pb2 import CallableOptions

    inputs, outputs = (
        {key: _tensor_info(info) for key, info in sorted(side.items())}
        for side in (definition.inputs, definition.outputs)
    )
    options = CallableOptions()
    options.feed.extend(tensor.name for tensor in inputs.values())
    options.fetch.extend(tensor.name for tensor in outputs.values())
    # The one way into the session that adds nothing: Session.run takes ten times as long, checks shapes of its own
    # and rewrites the runtime's sentences.
    return _Signature(inputs, outputs, session._make_callable_from_options(options))


def _tensor_info(info: Any) -> _Tensor:
    import tensorflow as tf

    shape = tf.TensorShape(info.tensor_shape)
    return _Tensor(info.name, tf.as_dtype(info.dtype).name, None if shape.rank is None else tuple(shape))


class _Model:
    """The versions of one base folder, of which the highest is served."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.states: dict[int, _State] = {}
        self.serving: _Version | None = None
        self._refused: tuple[int, object] | None = None

    def poll(self, base: Path) -> None:
        """Load the highest version if it is new; what is served is dropped only after that."""
        if not base.is_dir():
            return
        found = {int(path.name): path for path in base.iterdir() if path.name.isdecimal() and path.is_dir()}
        old = self.serving
        if not found:
            self._serve(None)
            return
        number = max(found)
        if old is not None and number == old.number:
            return
        # What could not be loaded, and may be a copy under way, is tried again once it has changed.
        attempt = (number, _contents(found[number]))
        if attempt == self._refused:
            return
        self.states[number] = _State("LOADING")
        try:
            new = _Version(found[number])
        except Exception as error:
            self._refused = attempt
            self.states[number] = _State("END", *_reason(error))
        else:
            self._serve(new)

    def _serve(self, new: _Version | None) -> None:
        # In this order: what the status calls available answers.
        old, self.serving = self.serving, new
        if new is not None:
            self.states[new.number] = _State("AVAILABLE")
        if old is not None:
            self.states[old.number] = _State("END")

    def version(self, number: int | None) -> _Version:
        """Return what is served, if it is the number that was asked for."""
        serving = self.serving
        if serving is None or number not in (None, serving.number):
            asked = f"Latest({self.name})" if number is None else f"Specific({self.name}, {number})"
            raise _RefusedError(f"Servable not found for request: {asked}", "NOT_FOUND")
        return serving

    def status(self, number: int | None) -> dict[str, Any]:
        """Return the states of the versions, newest first."""
        found = [(key, state) for key, state in sorted(self.states.items(), reverse=True) if number in (None, key)]
        if not found:
            what = "any versions" if number is None else f"version {number}"
            raise _RefusedError(f"Could not find {what} of model {self.name}", "NOT_FOUND")
        return {
            "model_version_status": [
                {
                    "version": str(key),
                    "state": state.state,
                    "status": {"error_code": state.code, "error_message": state.message},
                }
                for key, state in found
            ]
        }

    def metadata(self, number: int | None) -> dict[str, Any]:
        """Return the signatures as they are in the SavedModel."""
        version = self.version(number)
        return {
            "model_spec": {"name": self.name, "signature_name": "", "version": str(version.number)},
            "metadata": {"signature_def": {"signature_def": version.metadata}},
        }

    def predict(self, number: int | None, document: dict[str, Any]) -> bytes:
        """Answer one request."""
        name = document.get("signature_name", "")
        if not isinstance(name, str):
            raise _RefusedError(
                f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
            )
        signature = self.version(number).signature(name)
        rows, arrays = _inputs(document, signature.inputs)
        for key, tensor in signature.inputs.items():
            if not _allowed(tensor.shape, arrays[key].shape):
                raise _RefusedError(
                    f"Input '{key}' has shape {_shape(arrays[key].shape)}, but the signature expects "
                    f"{_shape(tensor.shape or ())}."
                )
        results = signature.run(*(arrays[key] for key in signature.inputs))
        return _written(dict(zip(signature.outputs, results, strict=True)), signature.outputs, rows)


def _contents(folder: Path) -> object:
    files = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in files]


def _reason(error: Exception) -> tuple[str, str]:
    """Return the code and the sentence for what went wrong."""
    if isinstance(error, _RefusedError):
        return error.code, str(error)
    # TensorFlow's own errors are known by their number: the module is not imported here for that.
    number, message = getattr(error, "error_code", None), getattr(error, "message", None)
    if number is None:
        return "INTERNAL", f"{type(error).__name__}: {first_line(error)}"
    from tensorflow.core.protobuf.error_codes_pb2 import Code

    return str(Code.Name(number)), first_line(message)


# ---- from JSON to tensors -------------------------------------------------------------------------------------------


def _document(body: bytes) -> dict[str, Any]:
    if not body:
        raise _RefusedError("JSON Parse error: The document is empty")
    try:
        # Of a name that comes twice the first one counts.
        document = json.loads(
            body.decode("utf-8-sig"),
            parse_constant=_WORDS.__getitem__,
            object_pairs_hook=lambda pairs: dict(reversed(pairs)),
        )
    except json.JSONDecodeError as error:
        sentence = _PARSE_ERRORS.get(error.msg, error.msg)
        raise _RefusedError(f"JSON Parse error: {sentence} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise _RefusedError(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from None
    except RecursionError:
        raise _RefusedError("JSON Parse error: The document is nested too deeply.") from None
    except ValueError as error:
        raise _RefusedError(f"JSON Parse error: {first_line(error)}") from None
    if not isinstance(document, dict):
        raise _RefusedError(f"JSON Value: {_shown(document)} Is not object")
    return document


def _inputs(document: dict[str, Any], inputs: dict[str, _Tensor]) -> tuple[bool, dict[str, Array]]:
    """Return whether the request is in rows, and its tensors."""
    if "instances" in document and "inputs" in document:
        raise _RefusedError(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist"
        )
    if "instances" in document:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise _RefusedError(f"JSON Value: {_shown(document)} Excepting 'instances' to be an list/array")
        if not rows:
            raise _RefusedError(f"JSON Value: {_shown(document)} No values in 'instances' array")
        arrays = _from_rows(rows, inputs)
    elif "inputs" in document:
        arrays = _from_columns(document["inputs"], inputs)
    else:
        raise _RefusedError("Missing 'inputs' or 'instances' key")
    missing = sorted(inputs.keys() - arrays)
    if missing:
        raise _RefusedError(
            f"input size does not match signature: {len(arrays)}!={len(inputs)} len({{{','.join(arrays)}}}) != "
            f"len({{{','.join(inputs)}}}). Sent extra: {{}}. Missing but required: {{{','.join(missing)}}}."
        )
    return "instances" in document, arrays


def _from_columns(value: Any, inputs: dict[str, _Tensor]) -> dict[str, Array]:
    if not _is_object(value):
        if len(inputs) > 1:
            raise _RefusedError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {name: _array(value, tensor.dtype) for name, tensor in inputs.items()}
    for name in inputs:
        if name not in value:
            raise _RefusedError(f"Missing named input: {name} in 'inputs' object.")
    # A name that the signature does not have is passed over, as TensorFlow Serving does in this format.
    return {name: _array(value[name], tensor.dtype) for name, tensor in inputs.items()}


def _from_rows(rows: list[Any], inputs: dict[str, _Tensor]) -> dict[str, Array]:
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise _RefusedError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if not _is_object(rows[0]):
        for place, row in enumerate(rows):
            if _is_object(row):
                raise _RefusedError(f"Expecting value/list but got object at item {place} of input list")
        name = min(inputs)
        return {name: _stacked(rows, "", inputs[name].dtype)}
    names = inputs.keys()
    for place, row in enumerate(rows):
        if not _is_object(row):
            raise _RefusedError(f"Expecting object but got list at item {place} of input list")
        if row.keys() != names:
            where = f"Failed to process element: {place}"
            extra = sorted(row.keys() - names)
            if extra:
                raise _RefusedError(
                    f"{where} key: {extra[0]} of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not "
                    f"have named input: {extra[0]}"
                )
            raise _RefusedError(
                f"{where} of 'instances' list. JSON object: {_shown(row)} keys must be equal to: {','.join(inputs)}"
            )
    return {
        name: _stacked([row[name] for row in rows], f" key: {name}", tensor.dtype) for name, tensor in inputs.items()
    }


def _stacked(values: list[Any], key: str, dtype: str) -> Array:
    """Return the values of all rows as one tensor; a complaint tells the row."""
    try:
        return _array(values, dtype)
    except _RefusedError as refused:
        if refused.code != "INVALID_ARGUMENT":
            raise
        together = refused
    first: Array | None = None
    for place, value in enumerate(values):
        try:
            array = _array(value, dtype)
            first = array if first is None else first
            if array.size != first.size:
                raise _RefusedError(f"Expecting tensor size: {first.size} but got: {array.size}")
            if array.shape != first.shape:
                raise _RefusedError(f"Expecting shape {_shape(first.shape)} but got: {_shape(array.shape)}")
        except _RefusedError as refused:
            raise _RefusedError(
                f"Failed to process element: {place}{key} of 'instances' list. Error: INVALID_ARGUMENT: {refused}"
            ) from None
    raise together


def _array(value: Any, dtype: str) -> Array:
    """Return nested lists as a tensor; nothing is converted that would not come back the same."""
    if dtype not in _ACCEPTED:
        raise _RefusedError(f"Conversion of JSON Value: {_shown(value)} to type: {_said(dtype)}", "UNIMPLEMENTED")
    sizes = []
    probe = value
    while isinstance(probe, list):
        sizes.append(len(probe))
        if not probe:
            break
        probe = probe[0]
    if len(sizes) > _MOST_AXES:
        raise _RefusedError(f"Lists are nested {len(sizes)} deep; a tensor has at most {_MOST_AXES} dimensions.")
    values = [value]
    for size in sizes:
        if any(not isinstance(item, list) or len(item) != size for item in values):
            _complain(value, sizes, dtype)
        values = list(chain.from_iterable(values))
    # Types are looked at one by one, since NumPy would take true for 1 and 1 for "1".
    if not set(map(type, values)) <= _ACCEPTED[dtype]:
        _complain(value, sizes, dtype)
    try:
        flat = _converted(values, dtype)
    except (ValueError, OverflowError):
        _complain(value, sizes, dtype)
        raise
    return flat.reshape(sizes)


def _converted(values: list[Any], dtype: str) -> Array:
    """Return a list of what JSON gives for a type as an array; OverflowError or ValueError for what does not fit."""
    if dtype == "string":
        return np.array([_bytes(value) for value in values], dtype=np.object_)
    if not dtype.startswith("float"):
        return np.array(values, dtype=dtype)
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all() and any(type(value) is float and np.isinf(value) for value in values):
        raise OverflowError
    if dtype == "float64":
        return array
    if (np.abs(array[np.isfinite(array)]) > np.finfo(np.float32).max).any():
        raise OverflowError
    return array.astype(np.float32)


def _bytes(value: str | dict[str, Any]) -> bytes:
    if isinstance(value, str):
        return value.encode()
    text = re.sub(r"\s", "", value["b64"]).rstrip("=") if _is_bytes(value) else "?"
    # Padding is optional.
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _complain(value: Any, sizes: list[int], dtype: str, level: int = 0) -> None:
    """Find the first thing that is wrong with a tensor, and refuse it in TensorFlow Serving's words."""
    rank = len(sizes)
    if isinstance(value, list):
        if level >= rank:
            raise _RefusedError(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(value) != sizes[level]:
            raise _RefusedError(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {sizes[level]}"
            )
        for item in value:
            _complain(item, sizes, dtype, level + 1)
        return
    shown = f"JSON Value: {_shown(value)}"
    if level != rank:
        raise _RefusedError(f"{shown} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}")
    said = _said(dtype)
    wrong = _RefusedError(f"{shown} Type: {_type(value)} is not of expected type: {said}")
    if type(value) not in _ACCEPTED[dtype]:
        raise wrong
    if dtype == "string" and isinstance(value, dict) and not _is_bytes(value):
        raise _RefusedError(f"{shown} not formatted correctly for base64 data")
    try:
        _converted([value], dtype)
    except UnicodeEncodeError:
        raise _RefusedError("JSON Parse error: The surrogate pair in string is invalid.") from None
    except binascii.Error:
        raise _RefusedError("Unable to base64 decode") from None
    except OverflowError:
        if said not in ("float", "double"):
            raise wrong from None
        if said == "double" or isinstance(value, int) or np.isinf(value):
            raise _RefusedError("JSON Parse error: Number too big to be stored in double.") from None
        raise _RefusedError(
            f"Cannot convert JSON value: {_shown(value)} to {said} without loss of precision."
        ) from None


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_bytes(value)


def _type(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {None: "Null", True: "True", False: "False"}[value]
    kinds: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return kinds.get(type(value), "Number")


def _said(dtype: str) -> str:
    return {"float16": "half", "float32": "float", "float64": "double"}.get(dtype, dtype)


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "…"
    return text if len(text) <= 100 else text[:99] + "…"


def _shape(sizes: tuple[int | None, ...]) -> str:
    return "[" + ",".join("-1" if size is None else str(size) for size in sizes) + "]"


def _allowed(expected: tuple[int | None, ...] | None, shape: tuple[int, ...]) -> bool:
    return expected is None or (
        len(expected) == len(shape) and all(size in (None, given) for size, given in zip(expected, shape, strict=True))
    )


# ---- from tensors to JSON -------------------------------------------------------------------------------------------


def _written(results: dict[str, Any], outputs: dict[str, _Tensor], rows: bool) -> bytes:
    """Return the answer in the format of the request."""
    if not results:
        raise _RefusedError("Cannot convert empty tensor map to JSON")
    arrays = {
        name: np.asarray(result, dtype=object if outputs[name].dtype == "string" else None)
        for name, result in results.items()
    }
    if rows:
        _check_rows(arrays)
    texts = {}
    for name, array in arrays.items():
        tokens = _tokens(array, outputs[name].dtype, name.endswith("_bytes"))
        texts[name] = _nested(tokens, array.shape, until=1 if rows else 0)
    if not rows:
        columns = {name: text[0] for name, text in texts.items()}
        answer = f'{{"outputs": {_object(columns)}}}'
    else:
        names = list(texts)
        items = (_object(dict(zip(names, row, strict=True))) for row in zip(*texts.values(), strict=True))
        answer = f'{{"predictions": [{", ".join(items)}]}}'
    return answer.encode("utf-8", "surrogateescape")


def _check_rows(arrays: dict[str, Array]) -> None:
    batch = None
    for name, array in arrays.items():
        if array.ndim == 0:
            raise _RefusedError(f"Tensor name: {name} has no shape information ")
        if batch is not None and len(array) != batch:
            raise _RefusedError(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)


def _object(texts: dict[str, str]) -> str:
    """Return a JSON object; the one value alone where there is but one."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"


def _nested(tokens: list[str], shape: tuple[int, ...], until: int) -> list[str]:
    """Close the brackets of the axes from the last one to `until`."""
    for axis in range(len(shape) - 1, until - 1, -1):
        size = shape[axis]
        tokens = [f"[{', '.join(tokens[at * size : (at + 1) * size])}]" for at in range(prod(shape[:axis]))]
    return tokens


def _tokens(array: Array, dtype: str, binary: bool) -> list[str]:
    flat = array.reshape(-1)
    if dtype in ("float32", "float64"):
        return _decimals(flat)
    if dtype == "bool":
        return ["true" if value else "false" for value in flat.tolist()]
    if dtype == "string":
        if binary:
            return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in flat.tolist()]
        # Bytes that are no text go out as they are: the name of such an output should end in _bytes.
        return [json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False) for value in flat.tolist()]
    if dtype not in _ACCEPTED:
        raise _RefusedError(f"Failed to write JSON value for tensor type: {_said(dtype)}")
    return list(map(str, flat.tolist()))


def _decimals(flat: Array) -> list[str]:
    """Write six digits where they read back as the same number, and all digits where they do not."""
    if not len(flat):
        return []
    values = flat.tolist()
    tokens = (" ".join(["%g"] * len(values)) % tuple(values)).split(" ")
    digits = 9 if flat.dtype == np.float32 else 17
    for place in np.flatnonzero(np.array(tokens, dtype=flat.dtype) != flat).tolist():
        tokens[place] = f"{values[place]:.{digits}g}"
    tokens = [token if "." in token or "e" in token else f"{token}.0" for token in tokens]
    for place in np.flatnonzero(~np.isfinite(flat)).tolist():
        tokens[place] = "NaN" if np.isnan(flat[place]) else "Infinity" if flat[place] > 0 else "-Infinity"
    return tokens


# ---- the server -----------------------------------------------------------------------------------------------------


def create_app(models: Mapping[str, Folder]) -> FastAPI:
    """Load the models and return the application that serves them.

    While it runs, each base folder is looked at once a second. A new highest version is loaded while the old one
    serves, and takes its place; one that cannot be loaded is told in the status and leaves the old one in place.

    Parameters
    ----------
    models : mapping
        The base folder of each model, by name. Its subfolders ``1``, ``2``, … are the versions.

    Returns
    -------
    FastAPI

    Raises
    ------
    UserError
        A name that cannot stand in a URL, or a model without a version that can be loaded.
    """
    from fastapi import FastAPI, Response
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    bases = {name: Path(base) for name, base in _checked(models).items()}
    served = {name: _Model(name) for name in bases}
    for name, model in served.items():
        model.poll(bases[name])
        if model.serving is None:
            told = "; ".join(f"version {number}: {state.message}" for number, state in model.states.items())
            raise UserError(
                f"Model {name!r} has nothing to serve: "
                + (told or f"{bases[name]} has no folder named as a number, such as {bases[name] / '1'}.")
            )
    pool = ThreadPoolExecutor(4 * (os.cpu_count() or 1), "predict")

    @asynccontextmanager
    async def polling(app: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        watched = [(model, bases[name]) for name, model in served.items()]
        threading.Thread(target=_poll, args=(watched, stop), name="poll", daemon=True).start()
        yield
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)

    async def answer(request: Request) -> Response:
        body = bytearray()
        length = 0
        try:
            # To its end even if it is too long: a client that is still sending would not see the answer.
            async for chunk in request.stream():
                length += len(chunk)
                if length <= LIMIT:
                    body += chunk
        except ClientDisconnect:
            return Response(status_code=_HTTP["CANCELLED"])
        if length > LIMIT:
            return _refusal(413, f"The body has {length:,} bytes; this stand-in takes at most {LIMIT:,}.")
        path = request.scope["raw_path"].decode("latin-1")
        if not path.lower().startswith("/v1/"):
            return _refusal(404, f"Not Found: {path}")
        work = partial(_answer, served, request.method, path, bytes(body))
        try:
            content = await asyncio.get_running_loop().run_in_executor(pool, work)
        except Exception as error:
            code, sentence = _reason(error)
            return _refusal(_HTTP.get(code, 500), sentence)
        return Response(content, media_type="application/json")

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _refusal(error.status_code, f"{error.detail}: {request.method}")

    app = FastAPI(
        title="Stand-in for TensorFlow Serving",
        # The pages of FastAPI load scripts from the network, and its telemetry may be switched on from outside.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=polling,
    )
    # The paths are TensorFlow Serving's own pattern, in which case does not matter and a name may hold escapes.
    app.add_route("/{path:path}", answer, methods=_METHODS)
    app.add_exception_handler(HTTPException, refuse)
    return app


def _checked(models: Mapping[str, Folder]) -> Mapping[str, Folder]:
    if not models:
        raise UserError("models is empty: name at least one, such as {'half': 'models/half'}.")
    for name in models:
        if not name or re.search(r"[/:=]", name):
            raise UserError(f"The name of a model may not be empty or hold '/', ':' or '=': {name!r}.")
    return models


def _poll(models: list[tuple[_Model, Path]], stop: threading.Event) -> None:
    while not stop.wait(_POLL_SECONDS):
        for model, base in models:
            # A file that vanishes while it is looked at is for the next time.
            with suppress(OSError):
                model.poll(base)


def _answer(served: Mapping[str, _Model], method: str, path: str, body: bytes) -> bytes:
    """Answer a request, or raise what is wrong with it."""
    pattern = {"POST": _PREDICT, "GET": _STATUS}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise _RefusedError(f"Malformed request: {method} {path}")
    name, version, label, what = match.groups()
    if not name:
        raise _RefusedError("Missing model name in request.")
    digits = (version or "").lstrip("0") or "0"
    if len(digits) > 19 or int(digits) >= 2**63:
        raise _RefusedError(f"Failed to convert version: {version} to numeric.")
    number = int(digits) if version else None
    # In TensorFlow Serving's order: what is no JSON is told before that there is no such model.
    document = _document(body) if method == "POST" else {}
    if label:
        raise _RefusedError(f"Unrecognized servable version label: {unquote(label)}")
    model = served.get(unquote(name)) or _Model(unquote(name))
    if what is None:
        return json.dumps(model.status(number), indent=1).encode()
    if what.lower() == "metadata":
        return json.dumps(model.metadata(number), indent=1).encode()
    if what.lower() != "predict":
        raise _RefusedError(f"The stand-in answers predict, not {what}.", "UNIMPLEMENTED")
    return model.predict(number, document)


def _refusal(status: int, sentence: str) -> Response:
    from fastapi import Response

    return Response(json.dumps({"error": sentence}).encode(), status, media_type="application/json")


@contextmanager
def running(models: Mapping[str, Folder], port: int = 0) -> Iterator[str]:
    """Run the stand-in as a process of its own for the length of a ``with`` block.

    Parameters
    ----------
    models : mapping
        The base folder of each model, by name, as for :func:`create_app`.
    port : int, default 0
        The port on 127.0.0.1; 0 takes one that is free.

    Yields
    ------
    str
        The URL, once every model is loaded.

    Raises
    ------
    UserError
        A name that cannot stand in a URL.
    RuntimeError
        The process could not start; the message is the last line that it wrote.

    Examples
    --------
    >>> from serving.client import Client
    >>> with running({"model": "exports/model"}) as url, Client(url) as client:  # doctest: +SKIP
    ...     client.predict("model", {"x": [[5.1, 3.5, 1.4, 0.2]]})
    """
    command = [sys.executable, "-m", "serving.local_server", "--port", str(port), "--until-stdin-ends"]
    command += [f"{name}={Path(base).resolve()}" for name, base in _checked(models).items()]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**ENVIRONMENT, **os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            encoding="utf-8",
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                process.wait()
                complaints.seek(0)
                lines = complaints.read().strip().splitlines()
                raise RuntimeError(f"The stand-in did not start: {lines[-1] if lines else 'it wrote nothing'}")
            yield url
        finally:
            # The end of its input tells the process to stop, on every platform, and also if this process dies.
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def main(arguments: list[str] | None = None) -> None:
    """Serve until it is interrupted; the first line that is written is the URL."""
    parser = argparse.ArgumentParser(
        "python -m serving.local_server",
        description="A stand-in for TensorFlow Serving's REST interface, on 127.0.0.1 only.",
    )
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER", help="a model and its base folder of versions")
    parser.add_argument("--port", type=int, default=8501, help="0 takes one that is free (default: 8501)")
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop when standard input ends")
    chosen = parser.parse_args(arguments)
    for pair in chosen.models:
        if "=" not in pair:
            parser.error(f"{pair!r} is not NAME=FOLDER")
    try:
        _serve(dict(pair.split("=", 1) for pair in chosen.models), chosen.port, chosen.until_stdin_ends)
    except (UserError, OSError, OverflowError) as error:
        sys.exit(f"serving.local_server: {error}")


def _serve(models: Mapping[str, Folder], port: int, until_stdin_ends: bool) -> None:
    # The protocol is named, or asyncio would not switch Nagle's algorithm off, and each answer would take 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        # As servers do where a port stays reserved for a while after its last user.
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Before TensorFlow is imported, so that a port in use is told at once.
        listener.bind((_ADDRESS, port))
        import tensorflow as tf
        import uvicorn

        # The loader of the model server's format announces that it is old.
        tf.get_logger().setLevel("ERROR")
        app = create_app(models)
        listener.listen(2048)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        if until_stdin_ends:
            threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
        print(f"http://{_ADDRESS}:{listener.getsockname()[1]}", flush=True)
        server.run(sockets=[listener])


def _stop_at_end_of_input(server: Any) -> None:
    while os.read(0, 1024):
        continue
    server.should_exit = True


if __name__ == "__main__":
    main()
