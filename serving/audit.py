"""What in a SavedModel fails, or surprises, in a model server: found by reading the file, before any server does.

The gap: Python's TensorFlow loads and runs graphs that no server can run, and ``saved_model_cli scan`` ends with
status 0 when it finds something.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SIGNATURE = "serving_default"
"""The signature that a server runs when a request names none."""

_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
# TensorFlow Serving's REST interface reads and writes these; gRPC knows more.
_REST_DTYPES = {"float32", "float64", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64", "bool", "string"}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, in a SavedModel.

    Attributes
    ----------
    level : {'error', 'note'}
        A server cannot run it or cannot use it; or one should know.
    check : str
        What was looked at: 'python', 'dtype', 'shape', 'batch', 'variable', 'version' or 'signature'.
    where : str
        The node, input, output or folder.
    message : str
        What is wrong with it.
    """

    level: Literal["error", "note"]
    check: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


def python_ops(saved_model: str | os.PathLike[str]) -> list[Finding]:
    """Return the operations of a SavedModel that need Python, in its graph and in its library of functions.

    Parameters
    ----------
    saved_model : path-like
        The folder of one version.

    Returns
    -------
    list of Finding
        Empty if there is none.

    Raises
    ------
    ValueError
        The folder holds no SavedModel.
    """
    return list(_python_ops(read_graph(saved_model)))


def audit(saved_model: str | os.PathLike[str]) -> list[Finding]:
    """Look at everything in a SavedModel that is known to fail, or to surprise, in a server.

    Operations that need Python; no ``serving_default``; dtypes that REST cannot carry; shapes that are unknown; outputs
    without a batch; variables that are not restored (a `tf.Module` that holds a Keras model); a folder whose name is
    no version.

    Parameters
    ----------
    saved_model : path-like
        The folder of one version.

    Returns
    -------
    list of Finding
        Errors first.

    Raises
    ------
    ValueError
        The folder holds no SavedModel.
    """
    graph, name = read_graph(saved_model), Path(saved_model).resolve().name
    findings = list(_python_ops(graph))
    if not re.fullmatch(r"[1-9]\d*", name):
        message = f"the folder is named {name!r}: a server looks for versions, folders named 1, 2, 3 …"
        findings.append(Finding("error", "version", name, message))
    if SIGNATURE not in graph.signature_def:
        message = f"there is no signature {SIGNATURE!r}: every request would have to name one."
        findings.append(Finding("note", "signature", SIGNATURE, message))
    for signature in signatures(graph):
        definition = graph.signature_def[signature]
        for kind, infos in (("input", definition.inputs), ("output", definition.outputs)):
            for key, info in sorted(infos.items()):
                findings += _tensor_findings(f"{kind} {key!r}", info)
        findings += _variable_findings(graph, definition)
    return sorted(findings, key=lambda finding: finding.level)


def read_graph(saved_model: str | os.PathLike[str]) -> Any:
    """Return the MetaGraphDef of a SavedModel that has the tag 'serve'; ValueError if there is none."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = Path(saved_model, "saved_model.pb")
    if not file.is_file():
        raise ValueError(f"{os.fspath(saved_model)!r} holds no SavedModel: there is no saved_model.pb in it.")
    try:
        graphs = SavedModel.FromString(file.read_bytes()).meta_graphs
    except DecodeError:
        raise ValueError(f"{os.fspath(file)!r} is no SavedModel.") from None
    for graph in graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise ValueError(f"{os.fspath(saved_model)!r} has no graph with the tag 'serve'.")


def signatures(graph: Any) -> list[str]:
    """Return the names of a graph's signatures, without the one that TensorFlow adds for restoring."""
    return sorted(name for name in graph.signature_def if not name.startswith("__saved_model"))


def _python_ops(graph: Any) -> Iterator[Finding]:
    bodies = {"the graph": graph.graph_def.node}
    bodies |= {f"function {body.signature.name!r}": body.node_def for body in graph.graph_def.library.function}
    for place, nodes in bodies.items():
        for node in nodes:
            if node.op in _PYTHON_OPS:
                message = f"{node.op} in {place} calls back into the Python process that made it: no server has it."
                yield Finding("error", "python", f"{place}, node {node.name!r}", message)


def _tensor_findings(where: str, info: Any) -> Iterator[Finding]:
    import tensorflow as tf

    dtype, shape = tf.as_dtype(info.dtype).name, tf.TensorShape(info.tensor_shape)
    if dtype not in _REST_DTYPES:
        yield Finding("error", "dtype", where, f"{where} is {dtype}: REST cannot carry it.")
    if shape.rank is None:
        yield Finding("note", "shape", where, f"{where} has an unknown shape: a request of any shape is accepted.")
    elif shape.rank == 0 or shape[0] is not None:
        found = "is a scalar" if shape.rank == 0 else f"always has {shape[0]} rows"
        message = f"{where} {found}: without a batch axis, a server cannot join requests into one batch."
        yield Finding("note", "batch", where, message)
    elif None in shape[1:].as_list():
        message = f"{where} has shape {tuple(shape)}: only requests of one size can share a batch."
        yield Finding("note", "shape", where, message)


def _variable_findings(graph: Any, definition: Any) -> Iterator[Finding]:
    restored = _variables(graph, [graph.saver_def.restore_op_name])
    used = _variables(graph, (info.name for info in definition.outputs.values()))
    for name in sorted(used - restored):
        message = (
            f"variable {name!r} is used but never restored: Python finds it, the C runtime does not (a tf.Module that "
            "holds a Keras model is saved like this; use serving.export)."
        )
        yield Finding("error", "variable", name, message)


def _variables(graph: Any, tensors: Iterable[str]) -> set[str]:
    """Return the variables on which some tensors depend."""
    nodes = {node.name: node for node in graph.graph_def.node}
    waiting, seen = list(tensors), set()
    while waiting:
        name = re.sub(r"^\^|:\d+$", "", waiting.pop())
        if name in nodes and name not in seen:
            seen.add(name)
            waiting += nodes[name].input
    return {name for name in seen if nodes[name].op == "VarHandleOp"}
