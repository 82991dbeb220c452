"""A small local model server for the lesson: TensorFlow Serving's REST routes over SavedModels, on this machine only.

The gap: the model server comes as a container or is built from source; no package index has it. Without a container
engine a client, a new version and a broken one cannot be tried.

It is **not** TensorFlow Serving. It answers ``predict``, status and metadata for the highest version of each model,
with TensorFlow Serving's codes and shapes of answers, and error messages of its own. It has no gRPC, batching, warm-up
or labels. Where it differs it is the stricter one: it does not load a version in which `serving.audit` finds an error,
and it refuses inputs whose shape the signature does not allow, and bodies that are long, slow or without a length. For
production see ``compose.yaml`` beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import IPPROTO_TCP, create_server, socket
from typing import Any, NamedTuple

import numpy as np
from starlette.exceptions import HTTPException

from helpers.notebook import ENVIRONMENT, ROOT, first_line
from serving.audit import SIGNATURE, audit, read_graph
from serving.tensors import from_json, to_json

# Bytes of a request, and seconds in which they must come.
MOST_BODY, BODY_SECONDS = 2**25, 20
_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d{1,18}))?(:predict|/metadata)?")


class _Version(NamedTuple):
    number: int
    # The whole object: a signature alone does not hold its variables.
    loaded: Any
    metadata: dict[str, Any]


class _Model:
    """The versions in one base folder, of which the highest is served."""

    def __init__(self, name: str, base: str | os.PathLike[str]) -> None:
        self.name, self.base = name, Path(base)
        self.states: dict[int, dict[str, Any]] = {}
        # Replaced in one step: a request that is under way keeps the version with which it began.
        self.serving: _Version | None = None

    def poll(self) -> None:
        """Load the highest version if it is new; the old one is served until then, and after a failure."""
        folders = {int(path.name): path for path in self.base.glob("*") if path.name.isdecimal()}
        number, old = max(folders, default=0), self.serving
        if not number or (old and number == old.number):
            return
        try:
            self.serving = _load(self.name, number, folders[number])
        except Exception as error:
            # It may be a copy under way, and is tried again each time.
            self._set(number, "END", type(error).__name__, first_line(error))
            return
        self._set(number, "AVAILABLE")
        if old:
            self._set(old.number, "END")

    def _set(self, number: int, state: str, code: str = "OK", message: str = "") -> None:
        status = {"error_code": code, "error_message": message}
        self.states[number] = {"version": str(number), "state": state, "status": status}

    def version(self, number: int | None) -> _Version:
        """Return the version that is served, if it is the one that is asked for."""
        if (serving := self.serving) and number in (None, serving.number):
            return serving
        request = f"Latest({self.name})" if number is None else f"Specific({self.name}, {number})"
        raise HTTPException(404, f"Servable not found for request: {request}")

    def status(self, number: int | None) -> dict[str, Any]:
        """Return the states of all versions, or of one, newest first."""
        states = [state for key, state in sorted(self.states.items(), reverse=True) if number in (None, key)]
        # Without one, `version` raises that there is none.
        return {"model_version_status": states or (self.version(number) and [])}


def _load(name: str, number: int, folder: Path) -> _Version:
    """Load a version, with its signatures as they are in the SavedModel."""
    import tensorflow as tf
    from google.protobuf.json_format import MessageToDict

    if errors := [finding.message for finding in audit(folder) if finding.level == "error"]:
        raise ValueError(errors[0])
    loaded, definitions = tf.saved_model.load(os.fspath(folder)), read_graph(folder).signature_def
    options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    signatures = {"signature_def": {key: MessageToDict(definitions[key], **options) for key in loaded.signatures}}
    spec = {"name": name, "signature_name": "", "version": str(number)}
    return _Version(number, loaded, {"model_spec": spec, "metadata": {"signature_def": signatures}})


def _predict(version: _Version, body: Any) -> dict[str, Any]:
    """Answer a request in column format (``inputs``) or row format (``instances``)."""
    if not isinstance(body, dict) or len({"inputs", "instances"} & body.keys()) != 1:
        raise HTTPException(400, "the body must be a JSON object with either 'inputs' or 'instances'")
    signatures, name = version.loaded.signatures, body.get("signature_name") or SIGNATURE
    if not isinstance(name, str) or name not in signatures:
        raise HTTPException(400, f"signature {name!r} not found; there are: {', '.join(signatures)}")
    specs = signatures[name].structured_input_signature[1]
    inputs = body["inputs"] if "inputs" in body else _columns(body["instances"], specs)
    if not isinstance(inputs, dict) or inputs.keys() == {"b64"}:
        inputs = dict.fromkeys(specs, inputs) if len(specs) == 1 else {}
    if missing := sorted(specs.keys() - inputs):
        raise HTTPException(400, f"missing inputs: {', '.join(missing)}")
    outputs = signatures[name](**{key: _tensor(key, inputs[key], spec) for key, spec in specs.items()})
    columns = {key: to_json(np.asarray(outputs[key]), text=not key.endswith("_bytes")) for key in sorted(outputs)}
    if "inputs" in body:
        return {"outputs": columns if len(columns) > 1 else columns.popitem()[1]}
    try:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    except (TypeError, ValueError):
        raise HTTPException(400, "the outputs have no rows, or not the same number: ask with 'inputs'") from None
    return {"predictions": rows if len(columns) > 1 else columns.popitem()[1]}


def _columns(rows: Any, specs: Mapping[str, Any]) -> Any:
    """Return the values of all rows by input; rows that are no objects as they are."""
    if not isinstance(rows, list) or not rows:
        raise HTTPException(400, "'instances' must be a list of one row or more")
    if not isinstance(rows[0], dict) or rows[0].keys() == {"b64"}:
        return rows
    if any(not isinstance(row, dict) or row.keys() != specs.keys() for row in rows):
        raise HTTPException(400, f"each row must be an object with the inputs: {', '.join(sorted(specs))}")
    return {name: [row[name] for row in rows] for name in specs}


def _tensor(name: str, value: Any, spec: Any) -> Any:
    import tensorflow as tf

    try:
        tensor = tf.constant(from_json(value, spec.dtype.name), spec.dtype)
    except (TypeError, ValueError) as error:
        raise HTTPException(400, f"input {name!r}: {error}") from None
    if not spec.shape.is_compatible_with(tensor.shape):
        raise HTTPException(400, f"input {name!r} must have shape {spec.shape}; got {tensor.shape}")
    return tensor


def _answer(models: Mapping[str, _Model], method: str, path: str, body: bytes | None) -> dict[str, Any]:
    if body is None:
        raise HTTPException(413, f"a body comes with its length, of at most {MOST_BODY} bytes, in {BODY_SECONDS} s")
    name, digits, what = match.groups() if (match := _PATH.fullmatch(path)) else ("", None, None)
    if not match or method != ("POST" if what == ":predict" else "GET"):
        raise HTTPException(400 if path.startswith("/v1/") else 404, f"Malformed request: {method} {path}")
    model, number = models.get(name) or _Model(name, ""), int(digits) if digits else None
    if method == "GET":
        return model.version(number).metadata if what else model.status(number)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON: {error}") from None
    return _predict(model.version(number), document)


def _respond(models: Mapping[str, _Model], method: str, path: str, body: bytes | None) -> tuple[int, str]:
    """Return the HTTP status and the body of the answer; whatever goes wrong is one."""
    try:
        return 200, json.dumps(_answer(models, method, path, body))
    except Exception as error:
        # INVALID_ARGUMENT, FAILED_PRECONDITION and OUT_OF_RANGE are the client's fault.
        status = getattr(error, "status_code", 400 if getattr(error, "error_code", 0) in (3, 9, 11) else 500)
        # Ours, or the runtime's own line, which comes after some about the graph.
        message = getattr(error, "detail", "") or first_line(str(error).rpartition("<stack traces unavailable>")[2])
    return status, json.dumps({"error": message})


def create_app(models: Mapping[str, str | os.PathLike[str]]) -> Any:
    """Load models, by name with their base folders, and return the application that serves them.

    Once a second each base folder is looked at for a new highest version.
    """
    from fastapi import FastAPI, Response

    served = {name: _Model(name, base) for name, base in models.items()}
    for model in served.values():
        model.poll()
        if model.serving is None:
            why = [state["status"]["error_message"] for state in model.states.values()] or ["no folder named 1, 2, 3 …"]
            raise ValueError(f"model {model.name!r} has no version to serve in {os.fspath(model.base)!r}: {why[0]}")

    def watch() -> None:
        while True:
            time.sleep(1)
            for model in served.values():
                # A folder that vanishes while it is looked at is for the next time.
                with suppress(OSError):
                    model.poll()

    async def answer(request: Any) -> Response:
        body, headers = None, request.headers
        if "transfer-encoding" not in headers and int(headers.get("content-length", 0)) <= MOST_BODY:
            with suppress(TimeoutError):
                body = await asyncio.wait_for(request.body(), BODY_SECONDS)
        status, text = await asyncio.to_thread(_respond, served, request.method, request.url.path, body)
        # What has not been read of a body must not be taken for the next request.
        return Response(text, status, {"Connection": "close"} if body is None else None, media_type="application/json")

    threading.Thread(target=watch, daemon=True).start()
    # No pages, which load scripts from the network, and no telemetry.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry={"auto_configure": False})
    app.add_route("/{path:path}", answer, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    return app


@contextmanager
def running(models: Mapping[str, str | os.PathLike[str]], port: int = 0) -> Iterator[str]:
    """Run the local model server as a process of its own for the length of a ``with`` block.

    Parameters
    ----------
    models : mapping
        The base folder of each model, by name. Its subfolders ``1``, ``2``, … are the versions.
    port : int, default 0
        The port on 127.0.0.1; 0 takes one that is free.

    Yields
    ------
    str
        The URL, once every model is loaded.

    Raises
    ------
    RuntimeError
        The process could not start; the message is the last line that it wrote.

    Examples
    --------
    >>> from serving import Client
    >>> with running({"model": "exports/model"}) as url, Client(url) as client:  # doctest: +SKIP
    ...     client.predict("model", {"x": [[5.1, 3.5, 1.4, 0.2]]})
    """
    command = [sys.executable, "-m", "serving.local_server", "--port", str(port), "--until-stdin-ends"]
    command += [f"{name}={Path(base).resolve()}" for name, base in models.items()]
    environment, pipe = {**ENVIRONMENT, **os.environ}, subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        # Leaving the block ends its input, which stops the process, on every platform, and also if this one dies.
        url = process.stdout.readline().strip() if process.stdout else ""
        if not url:
            log.seek(0)
            raise RuntimeError(f"the local server did not start: {(log.read().splitlines() or ['no message'])[-1]}")
        yield url


def main() -> None:
    """Serve until interrupted; the first line that is written is the URL."""
    import uvicorn

    parser = argparse.ArgumentParser("python -m serving.local_server", description="A small local model server.")
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER", help="a model and its base folder of versions")
    parser.add_argument("--port", type=int, default=8501, help="0 takes one that is free (default: 8501)")
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    if wrong := [pair for pair in options.models if not re.fullmatch(r"[^/:=]+=.+", pair)]:
        parser.error(f"{wrong[0]!r} is not NAME=FOLDER, with a name that can stand in a URL")
    # The protocol is named, or asyncio would not switch Nagle's algorithm off, and each answer would take 40 ms.
    try:
        listener = socket(proto=IPPROTO_TCP, fileno=create_server(("127.0.0.1", options.port)).detach())
        app = create_app(dict(pair.split("=", 1) for pair in options.models))
    except (ValueError, OSError, OverflowError) as error:
        sys.exit(f"serving.local_server: {error}")
    # It says who it is, so that nobody takes its answers for TensorFlow Serving's.
    settings: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": 5, "server_header": False}
    server = uvicorn.Server(uvicorn.Config(app, headers=[("server", "serving.local_server")], **settings))

    if options.until_stdin_ends:
        threading.Thread(target=lambda: setattr(server, "should_exit", not sys.stdin.read()), daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
