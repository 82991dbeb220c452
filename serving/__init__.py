"""A fitted model to one graph, its proof without Python, a client and a small local server.

``import serving`` loads neither TensorFlow nor Keras: what needs them imports them when it is called.
"""

from __future__ import annotations

import importlib
from typing import Any

# Functions, not the modules of the same names: bound here, after both modules are loaded.
from serving.audit import audit, python_ops
from serving.client import Client, ServingError
from serving.export import export, inputs_of, run_without_python

# `to_tensorflow` and `local_server` are loaded when they are first used.
__all__ = ["Client", "ServingError", "audit", "export", "inputs_of", "python_ops", "run_without_python"]


def __getattr__(name: str) -> Any:
    if name == "to_tensorflow":
        return importlib.import_module("serving.ops").to_tensorflow
    if name == "local_server":
        return importlib.import_module("serving.local_server")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
