"""Two processes: a SavedModel in one, a fitted scikit-learn object in another, behind the REST interface of TF Serving.

The gap: a scikit-learn object that cannot become a graph (an SVC, a nearest-neighbours search, a text pipeline) cannot
run inside TF Serving. Ray Serve puts it into a process of its own and scales it over machines, but with its defaults it
listens beyond this machine, writes a token into the home folder, fills a notebook with log lines, and lets one bad
request spoil all others in its batch. It has no body format of its own; here it is TF Serving's, so clients stay.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import secrets
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil

# ruff: noqa: E402
# Ray reads these when it is imported, and its processes inherit them. A value that is already set wins.
for _name, _value in {
    # Else a local Ray listens on every network interface, whatever address it is given.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Else `uv run` makes Ray copy the working directory and install an environment for each process.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Silences a warning about processes that ask for no GPU.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}.items():
    os.environ.setdefault(_name, _value)

import ray
from ray import cloudpickle, serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["build", "running"]

# Who may talk to the local Ray. Given here, no token file is written into the home folder.
_TOKEN = secrets.token_hex(32)
_APPLICATION = "two_processes"
# How often a request is given to another process when the one that had it dies.
_ATTEMPTS = 3
_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def build(
    saved_model: str | os.PathLike[str],
    estimator_file: str | os.PathLike[str],
    trusted: Sequence[str],
    *,
    name: str = "model",
    features: str = "",
    method: str = "predict",
    output: str = "label",
    replicas: int = 1,
    most_replicas: int = 1,
) -> serve.Application:
    """Compose a SavedModel and a scikit-learn object into one application.

    Parameters
    ----------
    saved_model : path-like
        The folder that holds ``saved_model.pb``; its signature ``serving_default`` takes and returns tensors whose
        first dimension is the batch. Both files must have the same path on every machine of a cluster.
    estimator_file : path-like
        The fitted object, written by ``skops.io.dump``.
    trusted : sequence of str
        The types in that file that you have looked at and trust, beyond those that skops trusts itself.
    name : str
        The name in ``/v1/models/NAME:predict``.
    features : str
        The network's output that goes to scikit-learn; may be left out if there is only one.
    method : str
        What is called: 'predict', 'predict_proba', 'decision_function', 'transform', ...
    output : str
        The name of scikit-learn's answer beside the network's outputs.
    replicas, most_replicas : int
        Processes for scikit-learn: with a larger `most_replicas` Ray starts more of them under load.

    Returns
    -------
    ray.serve.Application
        What `running` deploys.

    Raises
    ------
    ValueError
        A file is not there, or holds types that are not trusted, or a number is out of range.
    """
    import skops.io

    folder, file = Path(saved_model).resolve(), Path(estimator_file).resolve()
    if not (folder / "saved_model.pb").is_file():
        raise ValueError(f"saved_model is {str(saved_model)!r}, a folder without saved_model.pb.")
    if not file.is_file():
        raise ValueError(f"estimator_file is {str(estimator_file)!r}, which is no file.")
    if not 1 <= replicas <= most_replicas and most_replicas != 1:
        raise ValueError(f"replicas is {replicas} and most_replicas {most_replicas}: 1 <= replicas <= most_replicas.")
    if replicas < 1:
        raise ValueError(f"replicas is {replicas}; at least 1 is needed.")
    unknown = sorted(set(skops.io.get_untrusted_types(file=file)) - set(trusted))
    if unknown:
        raise ValueError(f"estimator_file holds types that are not in trusted: {', '.join(unknown)}.")
    size: dict[str, Any] = {"num_replicas": replicas}
    if most_replicas > replicas:
        size = {"autoscaling_config": {"min_replicas": replicas, "max_replicas": most_replicas}}
    version = folder.name if folder.name.isdigit() else "1"
    # Ray's decorator makes something else of a class than a type checker believes.
    gateway, network, post_processing = cast("tuple[Any, Any, Any]", (Gateway, Network, PostProcessing))
    return gateway.bind(
        network.bind(str(folder)),
        post_processing.options(**size).bind(str(file), list(trusted), method),
        name,
        version,
        features,
        output,
    )


@contextmanager
def running(
    application: serve.Application,
    *,
    address: str | None = None,
    port: int = 0,
    cpus: int = 2,
    patience: float = 180,
) -> Iterator[str]:
    """Start Ray on this machine or connect to a cluster, deploy, and stop all of it in the end.

    Parameters
    ----------
    application : ray.serve.Application
        From `build`.
    address : str, optional
        A cluster's address, "HOST:PORT" of its head node, from a machine of the cluster. Left out, Ray is started here,
        reachable from this machine only. In a cluster only the application is removed in the end.
    port : int
        The REST port; 0 takes a free one, in a cluster 8000. A cluster that serves already keeps its own port.
    cpus : int
        How many processors a local Ray counts on: one for the network, one for each replica of scikit-learn.
    patience : float
        Seconds until the application has to be ready.

    Yields
    ------
    str
        The address to which ``/v1/models/NAME:predict`` is appended.

    Raises
    ------
    RuntimeError
        Ray runs already in this process, or the application did not come up; the message has the last reason.
    """
    if ray.is_initialized():
        raise RuntimeError("Ray runs already in this process: leave the other `with running(...)`, or ray.shutdown().")
    local = address is None
    port = port or (_free_port() if local else 8000)
    # The classes travel with the application: a cluster needs TensorFlow, scikit-learn and skops, but not this file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    with ExitStack() as last:
        if local:
            last.enter_context(_local_ray(cpus))
        else:
            ray.init(address, **_SILENT)
        last.callback(ray.shutdown)
        host = ray.util.get_node_ip_address()
        serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port}, logging_config=quiet)
        url = f"http://{host}:{port}"
        _deploy(application, url, quiet, patience)
        if not local:
            last.callback(serve.delete, _APPLICATION)
        yield url


@serve.deployment(max_ongoing_requests=64, max_constructor_retry_count=2)
class Network:
    """The SavedModel, and TensorFlow with it."""

    def __init__(self, saved_model: str) -> None:
        import tensorflow as tf

        _bind_to_node()
        # A signature alone does not keep its variables.
        self._model = tf.saved_model.load(saved_model)
        self._signature = self._model.signatures["serving_default"]
        self._specs = _specs(self._signature.structured_input_signature[1])

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return inputs and outputs as TF Serving's metadata has them."""
        outputs = _specs(self._signature.structured_outputs)
        return {
            side: {name: _tensor_info(dtype, _sizes(shape)) for name, (dtype, shape) in specs.items()}
            for side, specs in (("inputs", self._specs), ("outputs", outputs))
        }

    async def __call__(self, inputs: Any) -> dict[str, np.ndarray]:
        answer = await self._together(self._columns(inputs))
        if isinstance(answer, Exception):
            raise answer
        return answer

    # No waiting: requests that come while a batch is computed make the next one, as the computation holds the loop.
    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def _together(self, requests: list[dict[str, np.ndarray]]) -> list[Any]:
        return self._answers(requests)

    def _answers(self, requests: list[dict[str, np.ndarray]]) -> list[Any]:
        try:
            joined = {name: np.concatenate([request[name] for request in requests]) for name in self._specs}
            outputs = {name: tensor.numpy() for name, tensor in self._signature(**_tensors(joined)).items()}
            ends = np.cumsum([_rows(request) for request in requests])
            for name, array in outputs.items():
                if not array.ndim or len(array) != ends[-1]:
                    raise ValueError(f"the network's output {name!r} has no row for each row of the inputs.")
            parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
            return [{name: part[i] for name, part in parts.items()} for i in range(len(requests))]
        except Exception as error:
            if len(requests) == 1:
                return [ValueError(_sentence(error))]
            # One bad request must not spoil the others: each alone.
            return [answer for request in requests for answer in self._answers([request])]

    def _columns(self, inputs: Any) -> dict[str, np.ndarray]:
        if len(self._specs) == 1 and not isinstance(inputs, dict):
            inputs = {name: inputs for name in self._specs}
        if not isinstance(inputs, dict) or set(inputs) != set(self._specs):
            came = f"has {sorted(inputs)}" if isinstance(inputs, dict) else f"is a {type(inputs).__name__}"
            raise ValueError(f"inputs {came}; the network takes {sorted(self._specs)}.")
        columns = {name: _array(name, inputs[name], *self._specs[name]) for name in self._specs}
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError(f"inputs differ in rows: { {name: len(column) for name, column in columns.items()} }.")
        return columns


@serve.deployment(max_constructor_retry_count=2)
class PostProcessing:
    """The scikit-learn object."""

    def __init__(self, estimator_file: str, trusted: Sequence[str], method: str) -> None:
        import skops.io

        _bind_to_node()
        estimator = skops.io.load(estimator_file, trusted=trusted)
        self._method = getattr(estimator, method)
        # One row, of numbers or of one text, tells the type of the answer; what is wrong shows now and not later.
        width = getattr(estimator, "n_features_in_", None)
        answer = np.asarray(self._method(np.zeros((1, width)) if width else [""]))
        self._described = _tensor_info(answer.dtype, [-1, *answer.shape[1:]])

    def describe(self) -> dict[str, Any]:
        """Return the answer as TF Serving's metadata has it."""
        return self._described

    def __call__(self, features: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self._method(_decoded(features)))
        except (TypeError, ValueError) as error:
            raise ValueError(_sentence(error)) from None


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
class Gateway:
    """The REST interface: reads a request, asks both, writes the answer."""

    def __init__(
        self,
        network: DeploymentHandle,
        postprocessing: DeploymentHandle,
        name: str,
        version: str,
        features: str,
        output: str,
    ) -> None:
        _bind_to_node()
        self._network, self._postprocessing = network, postprocessing
        self._name, self._version, self._features, self._output = name, version, features, output

    async def __call__(self, request: Request) -> Response:
        found = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict|/metadata)?", request.url.path)
        if not found or found[1] != self._name or found[2] not in (None, self._version):
            return _reply({"error": f"{request.url.path} is not served; /v1/models/{self._name}:predict is."}, 404)
        if request.method != ("POST" if found[3] == ":predict" else "GET"):
            return _reply({"error": f"{request.method} does not go with {request.url.path}."}, 405)
        if found[3] == "/metadata":
            return _reply(await self._metadata())
        if not found[3]:
            state = {"version": self._version, "state": "AVAILABLE"}
            return _reply({"model_version_status": [state | {"status": {"error_code": "OK", "error_message": ""}}]})
        try:
            body = json.loads(await request.body())
            if not isinstance(body, dict) or "inputs" not in body:
                raise ValueError('the body is no {"inputs": {...}}: only the column format is served.')
            if body.get("signature_name", "serving_default") != "serving_default":
                raise ValueError(f"signature_name is {body['signature_name']!r}; 'serving_default' is served.")
            return _reply({"outputs": await self._predict(body["inputs"])})
        except ValueError as error:
            return _reply({"error": _sentence(error)}, 400)

    async def _metadata(self) -> dict[str, Any]:
        definition = await self._network.describe.remote()
        definition["outputs"][self._output] = await self._postprocessing.describe.remote()
        definition["method_name"] = "tensorflow/serving/predict"
        return {
            "model_spec": {"name": self._name, "signature_name": "", "version": self._version},
            "metadata": {"signature_def": {"signature_def": {"serving_default": definition}}},
        }

    async def _predict(self, inputs: Any) -> dict[str, Any]:
        outputs = await _ask(self._network, inputs)
        features = self._features or (next(iter(outputs)) if len(outputs) == 1 else "")
        if features not in outputs:
            raise ValueError(f"features is {self._features!r}; the network's outputs are {sorted(outputs)}.")
        outputs[self._output] = await _ask(self._postprocessing, outputs[features])
        return {name: _decoded(array).tolist() for name, array in outputs.items()}


def _bind_to_node() -> None:
    """Let this process listen on the address of its node: Serve opens a port on every interface, without an option."""
    from ray.serve._private import replica

    bind, host = replica.add_port_to_grpc_server, ray.util.get_node_ip_address()
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", host))


async def _ask(handle: DeploymentHandle, argument: Any) -> Any:
    """Call another process; a prediction changes nothing, so what dies with its process may be asked again."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await handle.remote(argument)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, ValueError) else error) from None
        except RayActorError:
            if attempt == _ATTEMPTS:
                raise


def _array(name: str, value: Any, dtype: np.dtype[Any], shape: Any) -> np.ndarray:
    if dtype.kind == "O":
        array = _texts(value)
    else:
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(f"inputs[{name!r}] has rows of different lengths.") from None
        # Whole numbers may become floats, but 1.5 must not become 1.
        kinds = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}.get(dtype.kind, "")
        if array.size and array.dtype.kind not in kinds:
            raise ValueError(f"inputs[{name!r}] holds something that is no {dtype}.")
        try:
            array = np.asarray(value, dtype=dtype)
        except OverflowError:
            raise ValueError(f"inputs[{name!r}] holds a number that is too large for {dtype}.") from None
    if not array.ndim or not shape.is_compatible_with(array.shape):
        raise ValueError(f"inputs[{name!r}] has shape {array.shape}; the network takes {shape}.")
    return array


def _texts(value: Any) -> np.ndarray:
    """Return bytes in an array; TF Serving's {"b64": ...} stands for bytes that are no text."""

    def text(item: Any) -> Any:
        if isinstance(item, list):
            return [text(each) for each in item]
        if isinstance(item, dict) and set(item) == {"b64"}:
            return base64.b64decode(item["b64"], validate=True)
        if not isinstance(item, str):
            raise ValueError(f"a text is wanted where {json.dumps(item)[:40]} came.")
        return item.encode()

    return np.array(text(value), dtype=object)


def _tensors(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(column) for name, column in columns.items()}


def _rows(columns: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(columns.values())))


def _decoded(array: np.ndarray) -> np.ndarray:
    """Return texts as str, and anything else as it is."""
    if array.dtype.kind != "O":
        return array
    return np.vectorize(lambda item: item.decode() if isinstance(item, bytes) else item, otypes=[object])(array)


def _specs(specs: Mapping[str, Any]) -> dict[str, tuple[np.dtype[Any], Any]]:
    return {name: (np.dtype(spec.dtype.as_numpy_dtype), spec.shape) for name, spec in specs.items()}


def _sizes(shape: Any) -> list[int | None] | None:
    return None if shape.rank is None else shape.as_list()


def _tensor_info(dtype: np.dtype[Any], shape: Sequence[int | None] | None) -> dict[str, Any]:
    names = {"float64": "DOUBLE", "float32": "FLOAT", "float16": "HALF"}
    name = "STRING" if dtype.kind in "OUS" else names.get(dtype.name, dtype.name.upper())
    sizes = [{"size": str(-1 if size is None else size), "name": ""} for size in shape or []]
    return {"dtype": f"DT_{name}", "tensor_shape": {"dim": sizes, "unknown_rank": shape is None}, "name": ""}


def _reply(body: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json")


def _sentence(error: Exception) -> str:
    """Return the line that says what is wrong; TensorFlow wraps it in others about the graph."""
    text = str(error).strip()
    found = re.search(r"([^\n]+)\n\s*\[\[\{\{node", text)
    return found[1] if found else (text.splitlines() or [type(error).__name__])[0]


@contextmanager
def _local_ray(cpus: int) -> Iterator[None]:
    """Start Ray for this machine alone, and leave no file, variable or process behind."""
    before = set(psutil.Process().children(recursive=True))
    kept = {
        name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONBREAKPOINT", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    }
    # Sockets lie in this folder, and their paths may have about 100 characters: TMPDIR is too long for them on a Mac.
    with tempfile.TemporaryDirectory(
        prefix="ray", dir="/tmp" if os.name == "posix" else None, ignore_cleanup_errors=True
    ) as folder:
        # jsonschema, which every process of Ray imports, spends two seconds on a grammar of web addresses if it finds
        # one, and JupyterLab brings it: ten processes without it start in a third of the time.
        lean = Path(folder, "lean")
        lean.mkdir()
        (lean / "rfc3987_syntax.py").write_text("raise ImportError\n", encoding="utf-8")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(lean), os.environ.get("PYTHONPATH")]))
        os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)
        try:
            # 100 MB: arguments pass through this memory only when they are large.
            options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 100_000_000}
            ray.init("local", _temp_dir=folder, **options, **_SILENT)
            if not ip_address(ray.util.get_node_ip_address()).is_loopback:
                raise RuntimeError(f"Ray was imported before {__name__}: it would listen on the network.")
            yield
        finally:
            ray.shutdown()
            # A start that failed leaves its processes alone.
            for process in set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.Error):
                    process.kill()
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _deploy(application: serve.Application, url: str, quiet: dict[str, Any], patience: float) -> None:
    """Deploy, and wait until the address answers."""
    if _APPLICATION in serve.status().applications:
        raise RuntimeError(f"the cluster serves {_APPLICATION!r} already: serve.delete({_APPLICATION!r}) removes it.")
    target = serve.RunTarget(application, _APPLICATION, logging_config=quiet)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    end = time.monotonic() + patience
    while (state := serve.status().applications[_APPLICATION]).status != "RUNNING":
        if state.status in ("DEPLOY_FAILED", "UNHEALTHY") or time.monotonic() > end:
            reasons = [state.message, *(deployment.message for deployment in state.deployments.values())]
            raise RuntimeError(f"the application is {state.status}: {' '.join(filter(None, reasons))}")
        time.sleep(0.2)
    # No proxy of the environment: this is another process of the cluster.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(f"{url}/-/healthz", timeout=max(1.0, end - time.monotonic())).close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
