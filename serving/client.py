"""A client for TensorFlow Serving's REST interface: NumPy arrays in, NumPy arrays out.

The gap: the published client speaks gRPC only and imports all of TensorFlow; a bare HTTP call gives nested lists
without types, loses the name of a single output, passes over a misspelt input, and fails while a server restarts.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.notebook import first_line, some
from serving.tensors import from_json, to_json

# How the interface calls two of the types; the others have NumPy's names.
_NAMES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64"}
# What an answer of another form does to a line that reads it.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


class ServingError(ValueError):
    """What a server answered instead of a prediction, or that it did not answer.

    Attributes
    ----------
    status : int or None
        The HTTP code; None without an answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Connections to one server, shared by any number of threads.

    Parameters
    ----------
    url : str
        Where the server is, such as ``http://127.0.0.1:8501``.
    patience : float, default 15.0
        For how many seconds a lost connection, or an answer that says "not now" (429, 502, 503, 504: from the server,
        or from the proxy in front of it), is tried again, after pauses that grow to a second, of random length, so
        that clients do not come back together. The default is longer than a restart takes. Any other answer is final.
        A prediction changes nothing on the server, so asking twice is safe.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8501") as client:  # doctest: +SKIP
    ...     client.predict("half_plus_two", {"x": [1.0, 2.0]})
    {'y': array([2.5, 3. ], dtype=float32)}
    """

    def __init__(self, url: str, *, patience: float = 15.0) -> None:
        # An address that cannot be asked is refused here: no patience makes it better.
        if not url.startswith(("http://", "https://")) or not httpx.URL(url).host:
            raise ValueError(f"url must be such as 'http://127.0.0.1:8501'; got {url!r}.")
        self.url, self.patience = url.rstrip("/"), patience
        # No proxy from the environment: it would not find this machine's servers. No bound on the connections: a
        # thread would wait for those of the others.
        self._http = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits())

    def __enter__(self) -> Client:
        """Return the client; the end of the block closes its connections."""
        return self

    def __exit__(self, *_: object) -> None:
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
    ) -> dict[str, NDArray[Any]]:
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
            The server refused, in its own words, did not answer, or answered what is no prediction: other outputs,
            types or shapes than its metadata names, or another number of rows than were sent.
        ValueError
            Inputs that differ in length, or that the signature does not have.
        TypeError
            Inputs that JSON cannot carry.
        """
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        lengths = {name: len(array) for name, array in arrays.items() if array.ndim}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"inputs must have the same length; got {lengths}.")
        columns = {name: to_json(array) for name, array in arrays.items()}
        by_row = zip(*columns.values(), strict=True) if rows else ()
        values = [dict(zip(columns, row, strict=True)) for row in by_row] or columns
        body, before = json.dumps({"signature_name": signature, "instances" if rows else "inputs": values}), None
        while True:
            # Asked for each time, and then by its number: the latest version may be another by the time it answers.
            latest, signatures = self._ask(_path(model, version, "/metadata"), "metadata", _signatures)
            number = latest if version is None else version
            found = signatures.get(signature, {"inputs": columns, "outputs": {}})
            if extra := sorted(columns.keys() - found["inputs"]):
                raise ValueError(f"inputs has {some(extra)}, which {model!r} does not take.")
            try:
                answer = self._ask(_path(model, number, ":predict"), "predictions" if rows else "outputs", body=body)
                return _unpacked(answer, found["outputs"], rows, next(iter(lengths.values()), None))
            except ServingError as error:
                # Replaced between the two questions, if the latest has another number now.
                if error.status != 404 or number in (version, before):
                    raise
            before = number

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
            There is no such model or version, no answer, or one of another form.
        """
        return self._ask(_path(model, version), "model_version_status", _states)

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
            As the server describes it: by the name of the signature, its ``inputs`` and ``outputs``, each by name with
            ``dtype`` (such as 'DT_FLOAT') and ``tensor_shape``, in which the size -1 is any.

        Raises
        ------
        ServingError
            There is no such model or version, no answer, or one of another form.
        """
        return self._ask(_path(model, version, "/metadata"), "metadata", _signatures)[1]

    def _ask(self, path: str, key: str, read: Callable[..., Any] = lambda found, _: found, body: Any = None) -> Any:
        deadline, pause = time.monotonic() + self.patience, 0.1
        while True:
            status = None
            try:
                reply = self._http.request("GET" if body is None else "POST", self.url + path, content=body)
                status = reply.status_code
                if reply.is_success:
                    return read((whole := reply.json())[key], whole)
                message = f"The server answered {status}: {first_line(reply.json()['error']):.300}"
            except httpx.HTTPError as error:
                message = f"No answer from {self.url}: {first_line(error) or type(error).__name__}."
            except _MALFORMED:
                message = f"The answer {status} is not of this interface: it has no {key!r} that can be read."
            if status not in (None, 429, 502, 503, 504) or time.monotonic() + pause > deadline:
                raise ServingError(message, status)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, 1.0)


def _states(found: Any, _: Any) -> list[dict[str, Any]]:
    return sorted(map(_state, found), key=lambda state: -state["version"])


def _state(one: Any) -> dict[str, Any]:
    error = {"code": one["status"]["error_code"], "message": one["status"]["error_message"]}
    return {"version": int(one["version"]), "state": one["state"], **error}


def _signatures(found: Any, whole: Any) -> tuple[int | None, dict[str, Any]]:
    signatures, number = found["signature_def"]["signature_def"].items(), whole.get("model_spec", {}).get("version")
    read = {name: one | {kind: dict(one[kind]) for kind in ("inputs", "outputs")} for name, one in signatures}
    return int(number) if number else None, read


def _path(model: str, version: int | None, what: str = "") -> str:
    return f"/v1/models/{quote(model, safe='')}{'' if version is None else f'/versions/{version}'}{what}"


def _unpacked(answer: Any, outputs: Mapping[str, Any], rows: bool, count: int | None) -> dict[str, NDArray[Any]]:
    """Return the outputs of an answer by name: a single one comes without it."""
    try:
        if len(outputs) == 1:
            answer = dict.fromkeys(outputs, answer)
        elif rows:
            answer = {name: [row[name] for row in answer] for name in outputs}
        dtypes = {name: _NAMES.get(info["dtype"], info["dtype"][3:].lower()) for name, info in sorted(outputs.items())}
        found = {name: from_json(answer[name], dtype) for name, dtype in dtypes.items()}
        # In columns, an output may have another number of rows if its shape in the metadata says so.
        by_row = [name for name in found if rows or _sides(outputs[name])[:1] == ["-1"]]
        wrong = [f"{name!r} has the shape {found[name].shape}" for name in by_row if found[name].shape[:1] != (count,)]
        if not found or (wrong and count is not None):
            raise ValueError(f"{count} rows were sent, {wrong[0] if wrong else 'and no output is named'}")
        return found
    except _MALFORMED as error:
        reason = f"{type(error).__name__}: {first_line(error):.200}"
        raise ServingError(f"The answer does not fit the outputs {some(sorted(outputs))}: {reason}.", 200) from None


def _sides(info: Mapping[str, Any]) -> list[str]:
    """Return the shape that the metadata names; any number of rows if it does not say."""
    return [str(side["size"]) for side in info["tensor_shape"]["dim"]] if "tensor_shape" in info else ["-1"]
