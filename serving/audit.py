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

Level = Literal["error", "note"]
SIGNATURE = "serving_default"
"""The signature that a server runs when a request names none."""

_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
# What is in the names of operations that read or write files of the server, or send to another address.
_FILE_OPS = re.compile(
    r"^(Write|Save|Restore|Rpc|PrintV2)|(Read|Text|Matching)File|Reader|MergeV2|Immutable|Summary\w*Writer|TextLine|Record"
    r"|(CSV|Sql|LMDB|Save|Load)Dataset|Snapshot.|DataService|Debug(Identity|N)|DistributedSave|CreateSummary|Remap|ImportEvent|RegisterDataset"
)
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
        What was looked at: 'python', 'op', 'file', 'dtype', 'shape', 'batch', 'variable', 'version' or 'signature'.
    where : str
        The node, input, output or folder.
    message : str
        What is wrong with it.
    """

    level: Level
    check: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


def python_ops(saved_model: str | os.PathLike[str]) -> list[Finding]:
    """Return the operations of a SavedModel that need Python, in its graph and in its library of functions.

    Those that run neither in a signature nor at loading are notes, not errors.

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
    return [finding for finding in _op_findings(read_graph(saved_model)) if finding.check == "python"]


def audit(saved_model: str | os.PathLike[str]) -> list[Finding]:
    """Look at everything in a SavedModel that is known to fail, or to surprise, in a server.

    Operations that need Python, that TensorFlow does not have, or that are known to touch files of the server; no
    ``serving_default``; tensors that the graph lacks; dtypes that REST cannot carry; shapes that are unknown; outputs
    without a batch; variables that are not restored (a `tf.Module` that holds a Keras model) or whose files are
    missing; a folder whose name is no version. Nothing is run, and no variable is read.

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
    graph, folder = read_graph(saved_model), Path(saved_model).resolve()
    findings = list(_op_findings(graph))
    if not re.fullmatch(r"[1-9]\d*", folder.name):
        message = f"the folder is named {folder.name!r}: a server looks for versions, folders named 1, 2, 3 …"
        findings.append(Finding("error", "version", folder.name, message))
    if SIGNATURE not in graph.signature_def:
        message = f"there is no {SIGNATURE!r}: each request must name one."
        findings.append(Finding("note", "signature", SIGNATURE, message))
    nodes = {node.name for node in graph.graph_def.node}
    for signature in signatures(graph):
        definition = graph.signature_def[signature]
        if not definition.outputs:
            findings.append(Finding("error", "signature", signature, f"the signature {signature!r} has no output."))
        for kind, infos in (("input", definition.inputs), ("output", definition.outputs)):
            for key, info in sorted(infos.items()):
                findings += _tensor_findings(f"{kind} {key!r}", info, nodes)
        findings += _variable_findings(graph, definition, folder / "variables")
    return sorted(findings, key=lambda finding: finding.level)


def read_graph(saved_model: str | os.PathLike[str]) -> Any:
    """Return the MetaGraphDef of a SavedModel that has the tag 'serve'; ValueError if there is none."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = Path(saved_model, "saved_model.pb")
    if not file.is_file():
        raise ValueError(f"{os.fspath(saved_model)!r} holds no SavedModel: there is no saved_model.pb in it.")
    if file.stat().st_size >= 2**31:
        raise ValueError(f"{os.fspath(file)!r} is no SavedModel: it has more than the 2 GB that one may have.")
    try:
        graphs = SavedModel.FromString(file.read_bytes()).meta_graphs
    except DecodeError:
        raise ValueError(f"{os.fspath(file)!r} is no SavedModel.") from None
    for graph in graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise ValueError(f"{os.fspath(saved_model)!r} has no graph with the tag 'serve'.")


def signatures(graph: Any) -> list[str]:
    """Return the names of a graph's signatures, without those that TensorFlow adds for loading."""
    return sorted(name for name in graph.signature_def if not name.startswith("__saved_model"))


def _op_findings(graph: Any) -> Iterator[Finding]:
    bodies, assets = _bodies(graph), bool(graph.asset_file_def)
    outputs = [info.name for definition in graph.signature_def.values() for info in definition.outputs.values()]
    # What runs when the model is loaded: named in a signature or, in older files, in a collection; and the restoring.
    for key in ("saved_model_main_op", "legacy_init_op"):
        outputs += graph.collection_def[key].node_list.value
    reached = _reached(graph, outputs)
    restoring = reached | _reached(graph, [graph.saver_def.restore_op_name])
    for function, nodes in {"": graph.graph_def.node, **bodies}.items():
        where = f"function {function!r}" if function else "the graph"
        for node in nodes:
            runs = (function or node.name) in (reached if node.op == "RestoreV2" else restoring)
            for level, check, text in _op_finding(node, bodies, runs=runs, assets=assets):
                yield Finding(level, check, f"{where}, node {node.name!r}", f"{node.op} in {where} {text}.")


def _op_finding(node: Any, bodies: Iterable[str], *, runs: bool, assets: bool) -> Iterator[tuple[Level, str, str]]:
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    # The registry also holds custom ops that this process has loaded; raw_ops lacks TensorFlow's internal ones.
    internal = node.op.startswith(("_", "Xla")) and op_def_registry.get(node.op) is not None
    if node.op in _PYTHON_OPS:
        yield "error" if runs else "note", "python", "calls back into the Python that made it: no server has it"
    elif not (hasattr(tf.raw_ops, node.op) or internal or node.op in bodies):
        yield "error", "op", "is no operation of TensorFlow: only a server that was built with it loads the model"
    elif missing := [name for name in _called(node) if name not in bodies]:
        yield "error", "op", f"calls the function {missing[0]!r}, which is missing"
    elif runs and _FILE_OPS.search(node.op) and not (assets and node.op.startswith("InitializeTable")):
        yield "note", "file", "reads or writes what the server can reach: serve only what you trust"


def _tensor_findings(where: str, info: Any, nodes: Iterable[str]) -> list[Finding]:
    import tensorflow as tf

    found: list[tuple[Level, str, str]] = []
    names = {dtype.as_datatype_enum: dtype.name for dtype in vars(tf.dtypes).values() if isinstance(dtype, tf.DType)}
    dtype = names.get(info.dtype, f"of the unknown type {info.dtype}")
    shape = [side.size if side.size >= 0 else None for side in info.tensor_shape.dim]
    if (name := info.name.partition(":")[0]) not in nodes:
        what = f"is tensor {info.name!r}, which the graph lacks" if name else "is no dense tensor"
        found.append(("error", "signature", what))
    elif dtype not in _REST_DTYPES:
        found.append(("error", "dtype", f"is {dtype}: REST cannot carry it"))
    if info.tensor_shape.unknown_rank:
        found.append(("note", "shape", "has an unknown shape: a request of any shape is accepted"))
    elif not shape or shape[0] is not None:
        what = f"always has {shape[0]} rows" if shape else "is a scalar"
        found.append(("note", "batch", f"{what}: without a batch axis, a server cannot join requests into one batch"))
    elif None in shape[1:]:
        found.append(("note", "shape", f"has shape {tuple(shape)}: only requests of one size can share a batch"))
    return [Finding(level, check, where, f"{where} {text}.") for level, check, text in found]


def _variable_findings(graph: Any, definition: Any, folder: Path) -> Iterator[Finding]:
    variables = {node.name for node in graph.graph_def.node if node.op == "VarHandleOp"}
    restored = variables & _reached(graph, [graph.saver_def.restore_op_name])
    used = variables & _reached(graph, (info.name for info in definition.outputs.values()))
    for name in sorted(used - restored):
        message = f"variable {name!r} is used but never restored: Python finds it, the C runtime does not"
        yield Finding("error", "variable", name, f"{message} (a tf.Module with a Keras model? use serving.export).")
    data = [file for file in folder.glob("variables.data-*") if file.stat().st_size]
    if used & restored and not ((folder / "variables.index").is_file() and data):
        yield Finding("error", "variable", folder.name, "the folder 'variables' lacks files: no variable is restored.")


def _bodies(graph: Any) -> dict[str, Any]:
    return {body.signature.name: body.node_def for body in graph.graph_def.library.function}


def _called(node: Any) -> list[str]:
    """Return the names of the functions that a node calls."""
    values = [one for value in node.attr.values() for one in (value.func, *value.list.func)]
    return [value.name for value in values if value.name]


def _reached(graph: Any, tensors: Iterable[str]) -> set[str]:
    """Return the nodes of the graph, and the functions, on which some tensors depend."""
    nodes, bodies = {node.name: node for node in graph.graph_def.node}, _bodies(graph)
    waiting, seen = list(tensors), set()
    while waiting:
        name = re.sub(r"^\^|:\d+$", "", waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        for node in [nodes[name]] if name in nodes else bodies.get(name, []):
            # The op of a call may be the function's name; other ops may be names of nodes.
            waiting += [*_called(node), *({node.op} & bodies.keys()), *(node.input if name in nodes else ())]
    return seen
