"""A client for TensorFlow Serving's REST interface: NumPy arrays in, NumPy arrays out.

The gap: the published client speaks gRPC only and imports all of TensorFlow; a bare HTTP call gives nested lists
without types, loses the name of a single output, passes over a misspelt input, and fails while a server restarts.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import numpy as np
import tenacity
from numpy.typing import ArrayLike, NDArray

from helpers.notebook import UserError, first_line, some

__all__ = ["Client", "ServingError"]

Array = NDArray[Any]
# The dtype of a tensor and its shape.
Described = tuple[str, tuple[int | None, ...] | None]

_TIMEOUT_SECONDS = 60.0
# TensorFlow Serving looks for new versions once a second: so long is what is known of a signature taken to hold.
_KNOWN_SECONDS = 1.0
# The connection could not be made, or broke before the answer was there; an answer that takes too long is neither.
_LOST = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
# The types that the interface carries: how it calls them, and NumPy.
_NAMES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64"}
_DTYPES = {
    **{name: np.dtype(name) for name in ("float32", "float64", "bool", "int8", "int16", "int32", "int64")},
    **{name: np.dtype(name) for name in ("uint8", "uint32", "uint64")},
}
# What JSON gives for a kind of dtype.
_JSON: dict[str, set[type]] = {"f": {float, int}, "i": {int}, "u": {int}, "b": {bool}}


class ServingError(UserError):
    """What a server answered instead of a prediction, or that it did not answer.

    Attributes
    ----------
    status : int or None
        The HTTP code; None without an answer.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class _TryAgainError(ServingError):
    """A lost connection, or 503."""


class _Signature(NamedTuple):
    inputs: dict[str, Described]
    outputs: dict[str, Described]


class Client:
    """Connections to one server, shared by any number of threads.

    Parameters
    ----------
    url : str
        Where the server is, such as ``http://127.0.0.1:8501``.
    patience : float, default 5.0
        For how many seconds a lost connection, or the answer 503, is tried again, after pauses that grow to a
        second. Any other answer is final. A prediction changes nothing on the server, so asking twice is safe.

    Raises
    ------
    UserError
        No URL, or no number of seconds.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8501") as client:  # doctest: +SKIP
    ...     client.predict("half_plus_two", {"x": [1.0, 2.0]})
    {'y': array([2.5, 3. ], dtype=float32)}
    """

    def __init__(self, url: str, *, patience: float = 5.0) -> None:
        try:
            parsed = httpx.URL(url)
        except (TypeError, httpx.InvalidURL):
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UserError(f"url must be such as 'http://127.0.0.1:8501', but is {url!r}.")
        if not patience >= 0:
            raise UserError(f"patience must be a number of seconds, 0 or more, but is {patience!r}.")
        self.url = str(parsed).rstrip("/")
        # No proxy from the environment: it would not find this machine's servers. No bound on the connections: a
        # thread would wait for those of the others.
        self._http = httpx.Client(
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )
        self._retrying = tenacity.Retrying(
            stop=tenacity.stop_before_delay(patience),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
            retry=tenacity.retry_if_exception_type(_TryAgainError),
            reraise=True,
        )
        self._signatures: dict[tuple[str, int | None, str], tuple[float, _Signature]] = {}

    def __enter__(self) -> Client:
        """Return the client; the end of the block closes its connections."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        version: int | None = None,
        rows: bool = False,
        signature: str = "serving_default",
    ) -> dict[str, Array]:
        """Ask for a prediction.

        Parameters
        ----------
        model : str
            The name of the model.
        inputs : mapping
            By name, the values of each input: numbers, bool, str or bytes, of any shape. The first axis is the batch,
            of the same length in all. NaN and infinity arrive as they are.
        version : int, optional
            A version of the model; the latest when left out.
        rows : bool, default False
            Send the row format, an object for each example, instead of the column format, a list for each input.
            Columns are shorter and quicker to read.
        signature : str, default 'serving_default'
            The signature that is called.

        Returns
        -------
        dict of ndarray
            By name, the values of each output, in the dtype that the signature names. Strings are str in an array of
            objects, or bytes if the name of the output ends in ``_bytes``.

        Raises
        ------
        ServingError
            The server refused, in its own sentence, or did not answer.
        UserError
            Inputs that differ in length, that JSON cannot carry, or that the signature does not have.
        """
        arrays = _checked(inputs, rows)
        values = {name: _plain(name, array) for name, array in arrays.items()}
        body: dict[str, Any] = {"signature_name": signature, "inputs": values}
        if rows:
            del body["inputs"]
            body["instances"] = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        answer = self._asked("POST", f"{_path(model, version)}:predict", json.dumps(body).encode())
        for known in (True, False):
            found = self._signature(model, version, signature, known)
            try:
                outputs = _unpacked(answer, found.outputs, rows)
                break
            except _MismatchError as error:
                # Another version, with other outputs, may have taken over since its signature was asked for.
                if not known:
                    raise ServingError(f"The answer for {model!r} does not fit its signature: {error}.") from None
        extra = sorted(arrays.keys() - found.inputs)
        if extra:
            raise UserError(
                f"inputs has {some(extra)}, which the server passed over; it takes {some([*found.inputs])}."
            )
        return outputs

    def status(self, model: str, version: int | None = None) -> list[dict[str, Any]]:
        """Return the versions of a model, newest first.

        Parameters
        ----------
        model : str
            The name of the model.
        version : int, optional
            Only this one.

        Returns
        -------
        list of dict
            Each with ``version`` (int), ``state`` ('AVAILABLE' where it answers), ``code`` ('OK', or the kind of the
            error) and ``message``.

        Raises
        ------
        ServingError
            There is no such model or version, or no answer.
        """
        answer = self._asked("GET", _path(model, version))
        states = [
            {
                "version": int(found["version"]),
                "state": found["state"],
                "code": found["status"]["error_code"],
                "message": found["status"]["error_message"],
            }
            for found in answer["model_version_status"]
        ]
        return sorted(states, key=lambda state: -state["version"])

    def metadata(self, model: str, version: int | None = None) -> dict[str, Any]:
        """Return what a model takes and gives.

        Parameters
        ----------
        model : str
            The name of the model.
        version : int, optional
            The latest when left out.

        Returns
        -------
        dict
            ``version`` (int), and ``signatures``: by name, its ``inputs`` and ``outputs``, each by name as a pair of
            dtype ('string' for words) and shape. In a shape None is any size; it is None itself for any rank.

        Raises
        ------
        ServingError
            There is no such model or version, or no answer.
        """
        answer = self._asked("GET", f"{_path(model, version)}/metadata")
        definitions = answer["metadata"]["signature_def"]["signature_def"]
        return {
            "version": int(answer["model_spec"]["version"]),
            "signatures": {
                name: {
                    side: {key: _described(info) for key, info in sorted(found[side].items())}
                    for side in ("inputs", "outputs")
                }
                for name, found in definitions.items()
                # The one without a method tells the server how to initialise.
                if found["method_name"]
            },
        }

    def _signature(self, model: str, version: int | None, name: str, known: bool) -> _Signature:
        key = (model, version, name)
        asked, found = self._signatures.get(key, (-np.inf, _Signature({}, {})))
        if not known or time.monotonic() - asked > _KNOWN_SECONDS:
            signatures = self.metadata(model, version)["signatures"]
            found = _Signature(**signatures.get(name, {"inputs": {}, "outputs": {}}))
            self._signatures[key] = (time.monotonic(), found)
        return found

    def _asked(self, method: str, path: str, body: bytes | None = None) -> Any:
        try:
            return self._retrying(self._asked_once, method, path, body)
        except _TryAgainError as error:
            raise ServingError(str(error), error.status) from None

    def _asked_once(self, method: str, path: str, body: bytes | None) -> Any:
        try:
            response = self._http.request(method, self.url + path, content=body)
        except _LOST as error:
            raise _TryAgainError(f"No answer from {self.url}: {first_line(error)}.") from None
        except httpx.HTTPError as error:
            raise ServingError(f"No answer from {self.url}: {type(error).__name__}: {first_line(error)}.") from None
        try:
            answer = json.loads(response.content)
        except ValueError as error:
            if response.is_success:
                raise ServingError(
                    f"The answer of {self.url} is no JSON ({first_line(error)}); an output of bytes needs a name that "
                    "ends in '_bytes'."
                ) from None
            answer = {}
        if response.is_success and isinstance(answer, dict):
            return answer
        sentence = answer.get("error") if isinstance(answer, dict) else None
        said = first_line(sentence) or response.reason_phrase
        kind = _TryAgainError if response.status_code == 503 else ServingError
        raise kind(f"The server answered {response.status_code}: {said}", response.status_code)


class _MismatchError(Exception):
    """An answer that is not what the signature says."""


def _path(model: str, version: int | None) -> str:
    return f"/v1/models/{quote(model, safe='')}" + ("" if version is None else f"/versions/{version}")


def _checked(inputs: Mapping[str, ArrayLike], rows: bool) -> dict[str, Array]:
    if not inputs:
        raise UserError("inputs is empty: name at least one, such as {'x': [1.0, 2.0]}.")
    arrays = {}
    for name, value in inputs.items():
        try:
            arrays[name] = np.asarray(value)
        except ValueError as error:
            raise UserError(f"inputs[{name!r}] is no array: {first_line(error)}") from None
        if rows and arrays[name].ndim == 0:
            raise UserError(f"inputs[{name!r}] is one value; the row format needs a list of them.")
        if 0 in arrays[name].shape[:-1]:
            raise UserError(f"inputs[{name!r}] has shape {arrays[name].shape}, of which JSON keeps only the first 0.")
    lengths = {name: len(array) for name, array in arrays.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        raise UserError(
            "The inputs differ in length: " + ", ".join(f"{name!r} has {size}" for name, size in lengths.items()) + "."
        )
    return arrays


def _plain(name: str, array: Array) -> Any:
    """Return an array as what JSON carries."""
    kind = array.dtype.kind
    if kind in "biu" or (kind == "f" and array.dtype.itemsize <= 8):
        return array.tolist()
    wrong = "" if kind in "OSUT" else str(array.dtype)
    for value in array.reshape(-1).tolist() if kind == "O" else []:
        if not isinstance(value, str | bytes):
            wrong = f"{type(value).__name__} among objects"
    if wrong:
        raise UserError(f"inputs[{name!r}] holds {wrong}; accepted are numbers of up to 64 bits, bool, str and bytes.")
    return _encoded(array.tolist())


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    if not isinstance(value, str):
        raise _MismatchError(f"{value!r} is no string")
    return value


def _described(info: dict[str, Any]) -> Described:
    shape, dtype = info["tensor_shape"], info["dtype"]
    sizes = tuple(None if int(dim["size"]) < 0 else int(dim["size"]) for dim in shape["dim"])
    return _NAMES.get(dtype, dtype.removeprefix("DT_").lower()), None if shape["unknown_rank"] else sizes


def _unpacked(answer: dict[str, Any], outputs: dict[str, Described], rows: bool) -> dict[str, Array]:
    """Return the outputs of an answer by name: a single one comes without it."""
    values = answer.get("predictions" if rows else "outputs")
    if len(outputs) == 1:
        return {name: _array(name, values, *described) for name, described in outputs.items()}
    heads: list[Any] = values if rows and isinstance(values, list) else [values]
    for head in heads:
        if not isinstance(head, dict) or head.keys() != outputs.keys():
            raise _MismatchError(f"it does not have {some([*outputs])}")
    columns = {name: [head[name] for head in heads] if rows else heads[0][name] for name in outputs}
    return {name: _array(name, columns[name], *described) for name, described in outputs.items()}


def _array(name: str, value: Any, dtype: str, shape: tuple[int | None, ...] | None) -> Array:
    try:
        if dtype == "string":
            array = np.array(_decoded(value), dtype=object)
        elif dtype not in _DTYPES:
            array = np.array(value)
        else:
            # Types are looked at one by one: NumPy would make 1 of 1.5 and of True, and decimals of large numbers.
            leaves = np.array(value, dtype=object).reshape(-1).tolist()
            wrong = set(map(type, leaves)) - _JSON[_DTYPES[dtype].kind]
            if wrong:
                raise _MismatchError(f"{name!r} is {dtype}, but {some(sorted(kind.__name__ for kind in wrong))} came")
            array = np.array(value, dtype=_DTYPES[dtype])
    except (ValueError, OverflowError) as error:
        raise _MismatchError(f"{name!r} is no array of {dtype}: {first_line(error)}") from None
    if shape is None:
        return array
    if not array.size:
        # A list without items has lost the axes within.
        array = array.reshape([*array.shape, *(size or 0 for size in shape[array.ndim :])])
    if array.ndim != len(shape):
        raise _MismatchError(f"{name!r} has {array.ndim} axes, not {len(shape)}")
    return array
