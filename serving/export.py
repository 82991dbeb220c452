"""From a fitted model and its post-processing to one folder that a model server can load, and the proof that it can.

The gap: ``tf.saved_model.save`` and ``model.export`` write whatever they are given, also what no server can run; a test
that loads it where it was made passes all the same. ``saved_model_cli scan`` ends with status 0 when it finds
something. Here an export is one signature from raw, named inputs to named outputs, is run by the C runtime in a process
without Python's TensorFlow before it is put in place, and is put in place in one step.
"""

from __future__ import annotations

import inspect
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from helpers.notebook import first_line, fresh_process, some
from serving import c_runtime
from serving.ops import Ops, to_tensorflow

__all__ = ["Finding", "Ops", "audit", "export", "inputs_of", "python_ops", "run_without_python", "to_tensorflow"]

SIGNATURE = "serving_default"
# So many examples are also predicted one by one.
MOST_ALONE = 8
PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
WARM_UP = Path("assets.extra", "tf_serving_warmup_requests")
# TensorFlow Serving's REST interface reads and writes these; gRPC knows more.
REST_DTYPES = {"float32", "float64", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"}
REST_DTYPES |= {"bool", "string"}

Tensors = dict[str, Any]
Step = Callable[..., Any]


@dataclass(frozen=True)
class Finding:
    """What is to be said of a SavedModel.

    Attributes
    ----------
    level : {'error', 'note'}
        A server cannot run it or cannot use it; or one should know.
    check : str
        What was looked at: 'python', 'dtype', 'shape', 'batch', 'variable', 'version' or 'signature'.
    where : str
        The node, input, output or folder.
    sentence : str
        What is wrong with it.
    """

    level: Literal["error", "note"]
    check: str
    where: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level}: {self.sentence}"


def export(
    model: Any,
    path: str | os.PathLike[str],
    *,
    pre: Any = None,
    post: Mapping[str, Step] | None = None,
    rules: Mapping[str, Step] | None = None,
    outputs: Sequence[str] | None = None,
    examples: Mapping[str, ArrayLike] | None = None,
    version: int | None = None,
    verify: bool = True,
) -> Path:
    """Write a SavedModel with one signature, ``serving_default``, from raw named inputs to named outputs.

    It is written under a name that no server looks at, checked, and renamed to ``path/version`` as the last act.

    Parameters
    ----------
    model : keras.Model or fitted scikit-learn estimator
        A network; its inputs and outputs keep their names. Or an estimator that `to_tensorflow` knows, or its `Ops`:
        its inputs are ``X`` or the columns that it was fitted on, its outputs are its methods.
    path : path-like
        The folder of all versions; its name is what the server will call the model. Is made if it is missing.
    pre : fitted scikit-learn transformer or Ops, optional
        Turns what comes in into the one input of `model`; its inputs are then those of the signature. The name of a
        column that no signature can carry gets an underscore for each sign that is no letter, digit or underscore.
    post, rules : mapping of str to callable, optional
        Further outputs, in this order: the name of the output, and a function whose *parameters name* the tensors that
        it needs, among inputs, outputs of the model and outputs before it: ``{"keep": lambda probability:
        probability[:, 0] >= 0.7}``. It is called once, with symbolic tensors, and may use TensorFlow ops only. Give a
        lambda and no method of an `Ops`: the parameter of that is named ``X``.
    outputs : sequence of str, optional
        Those that are returned; all, when left out.
    examples : mapping of str to array-like, optional
        Two rows or more of real inputs, by name, with the batch first. They are verified, and become the requests with
        which the server warms up. When left out: made-up numbers and empty strings, if the graph takes them.
    version : int, optional
        At least 1; one more than the highest there is, when left out. The server takes the highest.
    verify : bool
        Whether the C runtime must give what Python gives, and a row alone what it gives in a batch.

    Returns
    -------
    Path
        The folder of the new version.

    Raises
    ------
    TypeError
        `model`, `pre` or a step is nothing that can be exported.
    ValueError
        A name is unknown, taken or unusable, an output loses the batch, Python is needed in the graph, the version
        exists, or `verify` finds a difference. Nothing is left in `path`.
    RuntimeError
        The C runtime refuses the graph or the examples.
    """
    base = Path(path)
    for what, value in (("post", post), ("rules", rules), ("examples", examples)):
        if value is not None:
            _check_mapping(what, value)
    if isinstance(outputs, str):
        raise TypeError(f"outputs must be a list of names; got the string {outputs!r}.")
    number = _version(base, version)
    specs, call, tracked = _door(model, pre)
    steps = {**(post or {}), **(rules or {})}
    twice = sorted(set(post or {}) & set(rules or {}))
    if twice:
        raise ValueError(f"{some(twice)}: named both in post and in rules.")

    def serve(inputs: Tensors) -> Tensors:
        tensors = {**inputs, **(answers := call(inputs))}
        for name, step in steps.items():
            if name in tensors:
                raise ValueError(f"{name!r} is the name of an input or output already.")
            tensors[name] = answers[name] = _result(name, step, tensors)
        missing = sorted(set(outputs or ()) - set(answers))
        if missing:
            raise ValueError(f"outputs: there is no {some(missing)}; there are: {', '.join(answers)}.")
        return {name: tf.identity(answers[name]) for name in outputs or answers}

    function = tf.function(serve, input_signature=[specs], autograph=False)
    for name, tensor in function.get_concrete_function().structured_outputs.items():
        if tensor.shape.rank == 0 or (tensor.shape.rank and tensor.shape[0] is not None):
            raise ValueError(
                f"output {name!r} has shape {tuple(tensor.shape)}: its first axis must be the batch, of any length, "
                "or a server gives one caller another's rows."
            )
    requests = _examples(specs, examples)
    archive = keras.export.ExportArchive()
    if tracked is not None:
        archive.track(tracked)
    archive.add_endpoint(SIGNATURE, function)
    base.mkdir(parents=True, exist_ok=True)
    # A server reads folders whose names are numbers; the same file system, so that renaming is one step.
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=base, ignore_cleanup_errors=True) as scratch:
        partial = Path(scratch, str(number))
        archive.write_out(os.fspath(partial), verbose=False)
        _write_warm_up(partial, base.name, requests)
        found = [finding for finding in audit(partial) if finding.level == "error"]
        if found:
            raise ValueError(found[0].sentence)
        if verify:
            _verify(partial, function, requests[-1], given=examples is not None)
        try:
            partial.rename(base / str(number))
        except OSError as error:
            raise ValueError(f"version {number} of {base.name!r} appeared while this one was written.") from error
    return base / str(number)


def inputs_of(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Return the columns of a table as inputs of the signature that `export` makes of it.

    The gap: a table has missing words, and names of columns that no signature can carry.

    Parameters
    ----------
    table : DataFrame of shape (n, m)
        Columns of numbers or bool, and columns of words.

    Returns
    -------
    dict of str to ndarray of shape (n,)
        Numbers as float64, NaN where one is missing; words as str objects, empty where one is missing: fit the
        transformer on a table in which missing words are empty, too.

    Raises
    ------
    ValueError
        Two columns would get the same name.

    Examples
    --------
    >>> inputs_of(pd.DataFrame({"mean radius": [1, None], "town": ["Köln", None]}))
    {'mean_radius': array([ 1., nan]), 'town': array(['Köln', ''], dtype=object)}
    """
    columns = {}
    for name, column in zip(_safe([str(name) for name in table]), table, strict=True):
        values = table[column]
        if pd.api.types.is_numeric_dtype(values):
            columns[name] = values.to_numpy(np.float64, na_value=np.nan)
        else:
            columns[name] = values.astype(object).where(values.notna(), "").map(str).to_numpy(object)
    return columns


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
    return _python_ops(_read(saved_model))


def _python_ops(message: saved_model_pb2.SavedModel) -> list[Finding]:
    findings = []
    for graph in message.meta_graphs:
        bodies = {"the graph": graph.graph_def.node}
        bodies |= {f"function {body.signature.name!r}": body.node_def for body in graph.graph_def.library.function}
        for place, nodes in bodies.items():
            for node in nodes:
                if node.op in PYTHON_OPS:
                    sentence = (
                        f"{node.op} in {place} calls back into the Python process that made it: no server has it."
                    )
                    findings.append(Finding("error", "python", f"{place}, node {node.name!r}", sentence))
    return findings


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
    message = _read(saved_model)
    findings = _python_ops(message)
    name = Path(saved_model).resolve().name
    if not re.fullmatch(r"[1-9]\d*", name):
        sentence = f"the folder is named {name!r}: a server looks for versions, folders named 1, 2, 3 …"
        findings.append(Finding("error", "version", name, sentence))
    graph = _serving_graph(message, saved_model)
    if SIGNATURE not in graph.signature_def:
        sentence = f"there is no signature {SIGNATURE!r}: every request would have to name one."
        findings.append(Finding("note", "signature", SIGNATURE, sentence))
    for signature in _signatures(graph):
        findings += _audit_signature(graph, signature)
    return sorted(findings, key=lambda finding: finding.level)


def run_without_python(
    saved_model: str | os.PathLike[str], inputs: Mapping[str, ArrayLike], signature: str = SIGNATURE
) -> dict[str, NDArray[Any]]:
    """Run a SavedModel as a model server does: in the C runtime, in a process that never imports tensorflow.

    Parameters
    ----------
    saved_model : path-like
        The folder of one version.
    inputs : mapping of str to array-like
        As the signature names them.
    signature : str
        Which one.

    Returns
    -------
    dict of str to ndarray
        Strings as bytes, as TensorFlow has them.

    Raises
    ------
    ValueError
        There is no such signature, or the inputs are not what it takes.
    RuntimeError
        What the runtime says: the graph cannot be loaded, or not run.
    """
    graph = _serving_graph(_read(saved_model), saved_model)
    if signature not in graph.signature_def:
        raise ValueError(f"there is no signature {signature!r}; there are: {', '.join(_signatures(graph))}.")
    definition = graph.signature_def[signature]
    specs = {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype))
        for name, info in definition.inputs.items()
    }
    request = _request(specs, inputs)
    tensors = {name: info.name for name, info in sorted(definition.outputs.items())}
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        c_runtime.save(source, {definition.inputs[name].name: array for name, array in request.items()})
        try:
            fresh_process(c_runtime.__file__, Path(saved_model).resolve(), source, target, *tensors.values())
        except RuntimeError as error:
            raise RuntimeError(str(error).partition("RuntimeError: ")[2] or str(error)) from None
        answers = c_runtime.load(target)
    return {name: answers[tensor] for name, tensor in tensors.items()}


def _version(base: Path, version: int | None) -> int:
    there = [int(entry.name) for entry in base.iterdir() if entry.name.isdecimal()] if base.is_dir() else []
    if version is None:
        return max(there, default=0) + 1
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"version must be a whole number of at least 1; got {version!r}.")
    if version in there:
        raise ValueError(f"version {version} of {base.name!r} exists: a version is never written over another.")
    return version


def _door(model: Any, pre: Any) -> tuple[dict[str, tf.TensorSpec], Callable[[Tensors], Tensors], keras.Model | None]:
    """What the signature takes, what turns that into the model's outputs, and what holds variables."""
    if isinstance(model, keras.Model):
        (specs, call), tracked = _keras_door(model), model
    else:
        ops = _as_ops(model)
        (specs, call), tracked = _ops_door(ops, ops.methods), None
    if pre is None:
        return specs, call, tracked
    ops = _as_ops(pre)
    if "transform" not in ops.methods:
        raise TypeError(f"pre must be a transformer; {ops.estimator} has {some(list(ops.methods))}.")
    if len(specs) != 1:
        raise ValueError(f"with pre, the model must have one input; it has {len(specs)}: {some(list(specs))}.")
    ((name, spec),) = specs.items()
    first, transform = _ops_door(ops, ("transform",))

    def through(inputs: Tensors) -> Tensors:
        features = tf.cast(transform(inputs)["transform"], spec.dtype)
        wanted = spec.shape[1:]
        if not features.shape[1:].is_compatible_with(wanted):
            raise ValueError(f"pre returns rows of {features.shape[1:]}, the model takes rows of {wanted}.")
        return call({name: features})

    return first, through, tracked


def _as_ops(estimator: Any) -> Ops:
    return estimator if isinstance(estimator, Ops) else to_tensorflow(estimator)


def _keras_door(model: keras.Model) -> tuple[dict[str, tf.TensorSpec], Callable[[Tensors], Tensors]]:
    if not getattr(model, "inputs", None):
        raise ValueError("the Keras model has no defined inputs: call it once, or give it an Input layer.")
    names = _safe([tensor.name for tensor in model.inputs])
    specs = {
        name: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name)
        for name, tensor in zip(names, model.inputs, strict=True)
    }

    def call(inputs: Tensors) -> Tensors:
        arguments = keras.tree.pack_sequence_as(model.input, [inputs[name] for name in names])
        answer = model(arguments, training=False)
        if isinstance(answer, Mapping):
            return dict(answer)
        several = answer if isinstance(answer, list | tuple) else [answer]
        return dict(zip(model.output_names, several, strict=True))

    return specs, call


def _ops_door(ops: Ops, methods: Sequence[str]) -> tuple[dict[str, tf.TensorSpec], Callable[[Tensors], Tensors]]:
    if isinstance(ops.spec, tf.TensorSpec):
        specs = {"X": tf.TensorSpec(ops.spec.shape, ops.spec.dtype, "X")}
        return specs, lambda inputs: {method: getattr(ops, method)(inputs["X"]) for method in methods}
    names = dict(zip(_safe(list(ops.spec)), ops.spec, strict=True))
    specs = {name: tf.TensorSpec((None,), ops.spec[column].dtype, name) for name, column in names.items()}

    def call(inputs: Tensors) -> Tensors:
        table = {column: inputs[name] for name, column in names.items()}
        return {method: getattr(ops, method)(table) for method in methods}

    return specs, call


def _safe(names: list[str]) -> list[str]:
    safe = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    safe = [name if re.match(r"[A-Za-z]", name) else f"x_{name.lstrip('_')}" for name in safe]
    for name, other in zip(names, safe, strict=True):
        if safe.count(other) > 1:
            raise ValueError(f"input {name!r} and another would both be named {other!r} in the signature: rename one.")
    return safe


def _result(name: str, step: Step, tensors: Tensors) -> Any:
    if not callable(step):
        raise TypeError(f"{name!r} must be a function of tensors; got {type(step).__name__} (see to_tensorflow).")
    parameters = inspect.signature(step).parameters.values()
    wanted = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    missing = [parameter for parameter in wanted if parameter not in tensors]
    if missing:
        raise ValueError(
            f"{name!r} asks for {some(missing)}: the names of its parameters must be among {', '.join(tensors)}."
        )
    try:
        return tf.convert_to_tensor(step(**{parameter: tensors[parameter] for parameter in wanted}))
    except (NotImplementedError, TypeError, AttributeError) as error:
        raise TypeError(
            f"{name!r} leaves the graph: it may use TensorFlow ops only, estimators by way of to_tensorflow, and &, |, "
            f"tf.where for and, or, if ({first_line(error)})."
        ) from None


def _check_mapping(what: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        advice = "; inputs_of makes one of a table" if isinstance(value, pd.DataFrame) else ""
        raise TypeError(f"{what} must be a mapping from names; got {type(value).__name__}{advice}.")


def _request(specs: Mapping[str, tf.TensorSpec], inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """The inputs as arrays of the signature's dtypes; nothing is cut off, guessed or broadcast."""
    _check_mapping("inputs", inputs)
    if set(specs) != set(inputs):
        raise ValueError(f"inputs must be {some(sorted(specs))}; got {some(sorted(map(str, inputs))) or 'none'}.")
    request = {}
    for name, spec in specs.items():
        array, kind = np.asarray(inputs[name]), spec.dtype
        if kind == tf.string:
            if any(not isinstance(value, str | bytes) for value in array.ravel().tolist()):
                raise ValueError(f"input {name!r} must hold strings; got {array.dtype}.")
            words = [value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()]
            texts = np.empty(len(words), object)
            texts[:] = words
            array = texts.reshape(array.shape)
        elif array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, kind.as_numpy_dtype, "same_kind"):
            raise ValueError(f"input {name!r} must hold {kind.name}; got {array.dtype}.")
        else:
            array = array.astype(kind.as_numpy_dtype)
        if not spec.shape.is_compatible_with(array.shape):
            raise ValueError(f"input {name!r} must have shape {tuple(spec.shape)}; got {array.shape}.")
        request[name] = array
    return request


def _examples(
    specs: Mapping[str, tf.TensorSpec], examples: Mapping[str, ArrayLike] | None
) -> list[dict[str, NDArray[Any]]]:
    """Two requests: a single row, and several."""
    examples = examples if examples is not None else {name: _made_up(spec) for name, spec in specs.items()}
    rows = _request(specs, examples)
    lengths = {len(array) for array in rows.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(
            "examples must have the same number of rows, two or more, as one does not show whether rows are mixed; "
            f"got {sorted(lengths)}."
        )
    return [{name: array[:1] for name, array in rows.items()}, rows]


def _made_up(spec: tf.TensorSpec) -> NDArray[Any]:
    shape = [3, *(side or 1 for side in spec.shape[1:])]
    if spec.dtype == tf.string:
        return np.full(shape, "")
    numbers = np.random.default_rng(0).normal(size=shape)
    return numbers if spec.dtype.is_floating else (numbers > 0).astype(spec.dtype.as_numpy_dtype)


def _verify(partial: Path, function: Any, request: dict[str, NDArray[Any]], *, given: bool) -> None:
    try:
        there = run_without_python(partial, request)
    except RuntimeError as error:
        advice = "" if given else " (pass real rows as examples, if made-up numbers and empty strings are no input)"
        raise RuntimeError(f"the C runtime refuses the graph: {error}{advice}") from None
    here = _answers(function, request)
    rows = len(next(iter(request.values())))
    for name, answer in here.items():
        if len(answer) != rows:
            raise ValueError(f"output {name!r} has {len(answer)} rows for {rows} rows of input.")
        if not _same(there[name], answer):
            raise ValueError(f"output {name!r}: the C runtime gives another answer than Python.")
    for row in range(min(rows, MOST_ALONE)):
        alone = _answers(function, {name: array[row : row + 1] for name, array in request.items()})
        for name, answer in here.items():
            if not _same(alone[name], answer[row : row + 1]):
                shapes = f" (shape {alone[name].shape} alone, {answer.shape} in a batch of {rows})"
                shapes = "" if alone[name].shape[1:] == answer.shape[1:] else shapes
                raise ValueError(f"output {name!r}: a row alone gives another answer than in a batch{shapes}.")


def _answers(function: Any, request: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    tensors = {name: tf.constant(array) for name, array in request.items()}
    return {name: tensor.numpy() for name, tensor in function(tensors).items()}


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape or one.dtype.kind != "f":
        return np.array_equal(one, other)
    # float32 kernels and batches of another size add up in another order; `parity.compare` is for the last digits.
    return np.allclose(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)


def _write_warm_up(folder: Path, name: str, requests: list[dict[str, NDArray[Any]]]) -> None:
    """What the server runs when it loads: a TFRecord of PredictionLog messages, put together field by field.

    The classes for these messages are in tensorflow-serving-api, which would be one more package for five nested fields
    (PredictionLog.predict_log.request with model_spec and inputs).
    """
    (folder / WARM_UP).parent.mkdir()
    with tf.io.TFRecordWriter(os.fspath(folder / WARM_UP)) as writer:
        for request in requests:
            message = _field(1, _field(1, name.encode()) + _field(3, SIGNATURE.encode()))
            for key, array in request.items():
                tensor = tf.make_tensor_proto(array).SerializeToString()
                message += _field(2, _field(1, key.encode()) + _field(2, tensor))
            writer.write(_field(6, _field(1, message)))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    length, size = len(content), b""
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def _read(saved_model: str | os.PathLike[str]) -> saved_model_pb2.SavedModel:
    file = Path(saved_model, "saved_model.pb")
    if not file.is_file():
        raise ValueError(f"{os.fspath(saved_model)!r} holds no SavedModel: there is no saved_model.pb in it.")
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(file.read_bytes())
    except Exception:
        raise ValueError(f"{os.fspath(file)!r} is no SavedModel.") from None
    return message


def _serving_graph(
    message: saved_model_pb2.SavedModel, saved_model: str | os.PathLike[str]
) -> meta_graph_pb2.MetaGraphDef:
    for graph in message.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise ValueError(f"{os.fspath(saved_model)!r} has no graph with the tag 'serve'.")


def _signatures(graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    # TensorFlow adds one of its own, for restoring.
    return sorted(name for name in graph.signature_def if not name.startswith("__saved_model"))


def _audit_signature(graph: meta_graph_pb2.MetaGraphDef, signature: str) -> Iterator[Finding]:
    definition = graph.signature_def[signature]
    for kind, infos in (("input", definition.inputs), ("output", definition.outputs)):
        for name, info in sorted(infos.items()):
            where, dtype, shape = f"{kind} {name!r}", tf.as_dtype(info.dtype).name, tf.TensorShape(info.tensor_shape)
            if dtype not in REST_DTYPES:
                yield Finding("error", "dtype", where, f"{where} is {dtype}: REST cannot carry it.")
            if shape.rank is None:
                yield Finding("note", "shape", where, f"{where} has an unknown shape: any request passes the door.")
            elif shape.rank == 0 or shape[0] is not None:
                found = "is a scalar" if shape.rank == 0 else f"has {shape[0]} rows, whatever comes"
                sentence = f"{where} {found}: without a batch axis, a server cannot join requests into one batch."
                yield Finding("note", "batch", where, sentence)
            elif None in shape[1:].as_list():
                sentence = f"{where} has shape {tuple(shape)}: only requests of one size can share a batch."
                yield Finding("note", "shape", where, sentence)
    restored = _handles(graph, [graph.saver_def.restore_op_name])
    used = _handles(graph, [info.name for info in definition.outputs.values()])
    for name in sorted(used - restored):
        sentence = (
            f"variable {name!r} is used but never restored: Python finds it, the C runtime does not (a tf.Module that "
            "holds a Keras model is saved like this; use serving.export)."
        )
        yield Finding("error", "variable", name, sentence)


def _handles(graph: meta_graph_pb2.MetaGraphDef, tensors: Sequence[str]) -> set[str]:
    """The variables on which some tensors depend."""
    nodes = {node.name: node for node in graph.graph_def.node}
    waiting, seen = [re.sub(r"^\^|:\d+$", "", name) for name in tensors if name], set()
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in seen:
            seen.add(name)
            waiting += [re.sub(r"^\^|:\d+$", "", source) for source in nodes[name].input]
    return {name for name in seen if nodes[name].op == "VarHandleOp"}
