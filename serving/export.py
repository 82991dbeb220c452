"""From a fitted model and its post-processing to one folder that a model server can load, and the proof that it can.

The gap: ``tf.saved_model.save`` and ``model.export`` write whatever they are given, also what no server can run; a test
that loads it where it was made passes all the same. Here an export is one signature from raw, named inputs to named
outputs, is run by the C runtime in a process without Python's TensorFlow before it is put in place, and is put in place
in one step.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from helpers.notebook import fresh_process, some
from serving import c_runtime
from serving.audit import SIGNATURE, audit, read_graph, signatures

# So many examples are also predicted one by one.
_MOST_ALONE = 8

Arrays = dict[str, NDArray[Any]]
# Of tf.TensorSpec.
Specs = Mapping[str, Any]


def export(
    model: Any,
    path: str | os.PathLike[str],
    *,
    pre: Any = None,
    post: Mapping[str, Callable[..., Any]] | None = None,
    outputs: Sequence[str] | None = None,
    examples: Mapping[str, ArrayLike] | None = None,
    version: int | None = None,
) -> Path:
    """Write a SavedModel with one signature, ``serving_default``, from raw named inputs to named outputs.

    It is written under a name that no server looks at, audited, run in the C runtime, and renamed to ``path/version``
    as the last act. The C runtime must give what Python gives, and a row alone what it gives in a batch.

    Parameters
    ----------
    model : keras.Model or fitted scikit-learn estimator
        A network, functional or sequential; its inputs and outputs keep their names. Or an estimator that
        `to_tensorflow` knows, or its `Ops`: its inputs are ``X`` or the columns that it was fitted on, its outputs are
        its methods.
    path : path-like
        The folder of all versions; its name is what the server will call the model. Is made if it is missing.
    pre : fitted scikit-learn transformer or Ops, optional
        Turns the raw inputs into the one input of `model`; its inputs are then those of the signature. In the name of a
        column, each sign that is no letter, digit or underscore becomes an underscore, as no signature can carry it.
    post : mapping of str to callable, optional
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
        exists, or the answers differ. Nothing is left in `path`.
    RuntimeError
        The C runtime refuses the graph or the examples.
    OSError
        Another process wrote the version meanwhile.
    """
    import keras
    import tensorflow as tf

    from serving.signature import adapter, serve, with_pre

    base = Path(path)
    there = [int(entry.name) for entry in base.glob("*") if entry.name.isdecimal()]
    number = max(there, default=0) + 1 if version is None else version
    if number in there:
        raise ValueError(f"version {number} of {base.name!r} exists: a version is never written over another.")
    if isinstance(model, keras.Sequential) and getattr(model, "inputs", None):
        # Only the functional form has names for its outputs; it shares the layers.
        model = keras.Model(model.inputs, model.outputs)
    raw, call = adapter(model)
    if pre is not None:
        raw, call = with_pre(raw, call, pre)
    names = dict(zip(_safe_names(list(raw)), raw, strict=True))
    specs = {safe: tf.TensorSpec(raw[name].shape, raw[name].dtype, safe) for safe, name in names.items()}
    function = tf.function(serve(call, names, post or {}, outputs), input_signature=[specs], autograph=False)
    rows = _examples(specs, examples)
    archive = keras.export.ExportArchive()
    if isinstance(model, keras.Model):
        archive.track(model)
    archive.add_endpoint(SIGNATURE, function)
    base.mkdir(parents=True, exist_ok=True)
    # A server reads folders whose names are numbers; the same file system, so that renaming is one step.
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=base, ignore_cleanup_errors=True) as scratch:
        partial = Path(scratch, str(number))
        archive.write_out(os.fspath(partial), verbose=False)
        _write_warm_up(partial, base.name, [{name: array[:1] for name, array in rows.items()}, rows])
        for finding in audit(partial):
            if finding.level == "error" or (finding.check == "batch" and finding.where.startswith("output")):
                raise ValueError(finding.message)
        _verify(partial, function, rows, made_up=examples is None)
        # Never over another: renaming to a folder that is not empty is an OSError.
        partial.rename(base / str(number))
    return base / str(number)


def inputs_of(table: pd.DataFrame) -> Arrays:
    """Return the columns of a table as inputs of the signature that `export` makes of it.

    The gap: a table has missing strings, and names of columns that no signature can carry.

    Parameters
    ----------
    table : DataFrame of shape (n, m)
        Columns of numbers or bool, and columns of strings.

    Returns
    -------
    dict of str to ndarray of shape (n,)
        Numbers as float64, NaN where one is missing; strings as str objects, empty where one is missing: fit the
        transformer on a table in which missing strings are empty, too.

    Raises
    ------
    ValueError
        Two columns would get the same name.

    Examples
    --------
    >>> inputs_of(pd.DataFrame({"mean radius": [1, None], "town": ["Köln", None]}))
    {'mean_radius': array([ 1., nan]), 'town': array(['Köln', ''], dtype=object)}
    """

    def array(values: pd.Series[Any]) -> NDArray[Any]:
        if pd.api.types.is_numeric_dtype(values):
            return values.to_numpy(np.float64, na_value=np.nan)
        return values.astype(object).where(values.notna(), "").map(str).to_numpy(object)

    names = _safe_names([str(name) for name in table])
    return {name: array(table[column]) for name, column in zip(names, table, strict=True)}


def run_without_python(
    saved_model: str | os.PathLike[str], inputs: Mapping[str, ArrayLike], signature: str = SIGNATURE
) -> Arrays:
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
    import tensorflow as tf

    graph = read_graph(saved_model)
    if signature not in graph.signature_def:
        raise ValueError(f"there is no signature {signature!r}; there are: {', '.join(signatures(graph))}.")
    definition = graph.signature_def[signature]
    specs = {name: tf.TensorSpec(info.tensor_shape, info.dtype) for name, info in definition.inputs.items()}
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


def _safe_names(names: list[str]) -> list[str]:
    """Return names that a signature can carry; ValueError if two become one."""
    safe = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    safe = [name if re.match(r"[A-Za-z]", name) else f"x_{name.lstrip('_')}" for name in safe]
    for name, other in zip(names, safe, strict=True):
        if safe.count(other) > 1:
            raise ValueError(f"input {name!r} and another would both be named {other!r} in the signature: rename one.")
    return safe


def _request(specs: Specs, inputs: Mapping[str, ArrayLike]) -> Arrays:
    """Return the inputs as arrays of the signature's dtypes; nothing is cut off, guessed or broadcast."""
    import tensorflow as tf

    names = sorted(map(str, inputs))
    if names != sorted(specs):
        raise ValueError(f"inputs must be {some(sorted(specs))}; got {some(names) or 'none'} (tables: see inputs_of).")
    request = {}
    for name, spec in specs.items():
        array, dtype = np.asarray(inputs[name]), spec.dtype
        try:
            if dtype == tf.string:
                request[name] = np.asarray(tf.constant(array, dtype).numpy(), object)
            else:
                request[name] = array.astype(dtype.as_numpy_dtype, casting="same_kind")
        except (TypeError, ValueError):
            raise ValueError(f"input {name!r} must hold {dtype.name}; got {array.dtype}.") from None
        if dtype.is_integer and not np.array_equal(request[name], array):
            raise ValueError(f"input {name!r} must hold {dtype.name}; got numbers beyond its range.")
        if not spec.shape.is_compatible_with(array.shape):
            raise ValueError(f"input {name!r} must have shape {tuple(spec.shape)}; got {array.shape}.")
    return request


def _examples(specs: Specs, examples: Mapping[str, ArrayLike] | None) -> Arrays:
    rows = _request(specs, {name: _made_up(spec) for name, spec in specs.items()} if examples is None else examples)
    lengths = sorted({len(array) for array in rows.values()})
    if len(lengths) != 1 or lengths[0] < 2:
        raise ValueError(f"examples must have the same number of rows, two or more; got {lengths}.")
    return rows


def _made_up(spec: Any) -> NDArray[Any]:
    shape = [3, *(side or 1 for side in spec.shape[1:])]
    if spec.dtype.name == "string":
        return np.full(shape, "")
    numbers = np.random.default_rng(0).normal(size=shape)
    return numbers if spec.dtype.is_floating else (numbers > 0).astype(spec.dtype.as_numpy_dtype)


def _verify(partial: Path, function: Any, request: Arrays, *, made_up: bool) -> None:
    try:
        there = run_without_python(partial, request)
    except RuntimeError as error:
        advice = " (pass real rows as examples, if made-up numbers and empty strings are no input)" if made_up else ""
        raise RuntimeError(f"the C runtime refuses the graph: {error}{advice}") from None
    here, rows = function(request), len(next(iter(request.values())))
    alone = [function({name: array[[row]] for name, array in request.items()}) for row in range(min(rows, _MOST_ALONE))]
    for name, answer in ((name, tensor.numpy()) for name, tensor in here.items()):
        if len(answer) != rows:
            raise ValueError(f"output {name!r} has {len(answer)} rows for {rows} rows of input.")
        if not _same(there[name], answer):
            raise ValueError(f"output {name!r}: the C runtime gives another answer than Python.")
        if not all(_same(single[name].numpy(), answer[[row]]) for row, single in enumerate(alone)):
            raise ValueError(f"output {name!r}: a row alone gives another answer than in a batch.")


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape or one.dtype.kind != "f":
        return np.array_equal(one, other)
    # float32 kernels and batches of another size add up in another order; `parity.compare` is for the last digits.
    return np.allclose(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)


def _write_warm_up(folder: Path, model: str, requests: Sequence[Arrays]) -> None:
    """Write what the server runs when it loads: a TFRecord of PredictionLog messages, put together field by field.

    The classes for these messages are in tensorflow-serving-api, which brings a second TensorFlow.
    """
    import tensorflow as tf

    def field(number: int, content: bytes) -> bytes:
        # Of variable length: a BytesList is one such field, with the number 1.
        return bytes([number << 3 | 2]) + tf.train.BytesList(value=[content]).SerializeToString()[1:]

    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    with tf.io.TFRecordWriter(os.fspath(file)) as writer:
        for request in requests:
            # PredictionLog.predict_log.request, with its model_spec and inputs.
            message = field(1, field(1, model.encode()) + field(3, SIGNATURE.encode()))
            for name, array in request.items():
                tensor = tf.make_tensor_proto(array).SerializeToString()
                message += field(2, field(1, name.encode()) + field(2, tensor))
            writer.write(field(6, field(1, message)))
