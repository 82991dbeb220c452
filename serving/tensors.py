"""Arrays in the JSON of TensorFlow Serving's REST interface, as the client and the local server write and read them.

The gap: NumPy takes ``true`` for 1, cuts 1.5 to 1, and has no notation for bytes.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What JSON may give for a kind of dtype.
_LEAVES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, bytes}}


def to_json(array: NDArray[Any], *, text: bool = False) -> Any:
    """Return an array as nested lists that `json.dumps` can write; bytes as ``{"b64": …}``, or decoded as `text`."""

    def encoded(value: Any) -> Any:
        if isinstance(value, list):
            return [encoded(item) for item in value]
        if not isinstance(value, bytes):
            return value
        return value.decode() if text else {"b64": base64.b64encode(value).decode()}

    return encoded(array.tolist()) if array.dtype.kind in "OS" else array.tolist()


def from_json(value: Any, dtype: str) -> NDArray[Any]:
    """Return nested lists as an array; nothing is converted that would not come back the same.

    Parameters
    ----------
    value : nested lists
        Numbers, bool, str, or ``{"b64": …}`` for bytes.
    dtype : str
        NumPy's name, or 'string' for an array of objects.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        Lists of different lengths, another type, or a number beyond the range of `dtype`.

    Examples
    --------
    >>> from_json([[1, 2.5]], "float32")
    array([[1. , 2.5]], dtype=float32)
    """

    # As objects, since NumPy would take true for 1 and 1 for "1".
    array = np.array(_decoded(value) if dtype == "string" else value, dtype=object)
    kind = np.dtype(object if dtype == "string" else dtype)
    wrong = sorted({type(leaf).__name__ for leaf in array.ravel().tolist() if type(leaf) not in _LEAVES[kind.kind]})
    if wrong:
        raise ValueError(f"must hold {dtype}, in lists of equal length; got {', '.join(wrong)}")
    try:
        with np.errstate(over="raise"):
            return array.astype(kind)
    except (OverflowError, FloatingPointError):
        raise ValueError(f"must hold {dtype}; got a number beyond its range") from None


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict) or value.keys() != {"b64"}:
        return value
    return base64.b64decode(str(value["b64"]), validate=True)
