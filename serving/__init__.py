"""A fitted model to one graph, its proof without Python, a client and a small local server.

``import serving`` is cheap: a module is loaded when the first of its names is used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Client": "client",
    "ServingError": "client",
    "audit": "export",
    "export": "export",
    "inputs_of": "export",
    "python_ops": "export",
    "run_without_python": "export",
    "to_tensorflow": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = found
    return found
