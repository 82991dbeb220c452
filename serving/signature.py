"""What goes into one signature: adapters for Keras models and scikit-learn estimators, and the steps after them.

An adapter is a pair: the inputs by name, each a `tf.TensorSpec` with the batch first, and a function from tensors by
name to named outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from helpers.notebook import first_line, some
from serving.ops import Ops, to_tensorflow

Specs = dict[str, tf.TensorSpec]
Tensors = dict[str, Any]
Call = Callable[[Tensors], Tensors]
Step = Callable[..., Any]


def adapter(model: Any, methods: Sequence[str] | None = None) -> tuple[Specs, Call]:
    """Return the adapter of a Keras model, or of the methods of an estimator (all, when left out)."""
    if isinstance(model, keras.Model):
        return _keras_adapter(model)
    ops = model if isinstance(model, Ops) else to_tensorflow(model)
    alone, methods = isinstance(ops.spec, tf.TensorSpec), methods or ops.methods
    specs = {"X": ops.spec} if alone else ops.spec
    return specs, lambda inputs: {name: getattr(ops, name)(inputs["X"] if alone else inputs) for name in methods}


def _keras_adapter(model: Any) -> tuple[Specs, Call]:
    wrap = "export keras.Model(x, model(x)) with x = keras.Input(shape, name='x')"
    if not getattr(model, "inputs", None):
        raise ValueError(f"the Keras model has no defined inputs (it is subclassed, or was never called): {wrap}.")
    specs = {tensor.name: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs}

    def call(inputs: Tensors) -> Tensors:
        try:
            answer = model(keras.tree.pack_sequence_as(model.input, [inputs[name] for name in specs]), training=False)
        except Exception as error:
            # Keras puts the reason in bold, between paragraphs of its own.
            reason = first_line(str(error).rpartition("\x1b[1m")[2].partition("\x1b")[0]).partition(". ")[0]
            shapes = ", ".join(str(spec.shape) for spec in specs.values())
            why = f"the model cannot run in a graph on {shapes} ({reason:.200})"
            raise ValueError(f"{why}: {wrap}, no size None.") from None
        flat = keras.tree.flatten(answer)
        named = dict(answer if isinstance(answer, Mapping) else zip(model.output_names, flat, strict=True))
        if len(flat) != len(named) or not all(map(tf.is_tensor, named.values())):
            raise ValueError(f"each output needs a name of its own: {wrap} and a flat dictionary of outputs.")
        return named

    return specs, call


def with_pre(model_specs: Specs, call: Call, pre: Any) -> tuple[Specs, Call]:
    """Return the adapter of a transformer and the model of one input that comes after it."""
    if len(model_specs) != 1:
        raise ValueError(f"with pre, the model must have one input; it has {some(list(model_specs))}.")
    ((name, spec),) = model_specs.items()
    specs, transform = adapter(pre, ["transform"])
    return specs, lambda inputs: call({name: tf.cast(transform(inputs)["transform"], spec.dtype)})


def serve(call: Call, names: Mapping[str, str], post: Mapping[str, Step], outputs: Sequence[str] | None) -> Call:
    """Return the body of the signature: the adapter under the signature's names, then the steps in their order."""

    def body(inputs: Tensors) -> Tensors:
        answers = call({name: inputs[safe] for safe, name in names.items()})
        for name, step in post.items():
            if name in inputs or name in answers:
                raise ValueError(f"{name!r} is the name of an input or output already.")
            answers[name] = _result(name, step, {**inputs, **answers})
        if missing := [name for name in outputs or () if name not in answers]:
            raise ValueError(f"outputs: there is no {some(missing)}; there are: {', '.join(answers)}.")
        return {name: answers[name] for name in outputs or answers}

    return body


def _result(name: str, step: Step, tensors: Tensors) -> Any:
    if not callable(step):
        raise TypeError(f"{name!r} must be a function of tensors; got {type(step).__name__} (see to_tensorflow).")
    parameters = inspect.signature(step).parameters.values()
    wanted = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    if missing := [parameter for parameter in wanted if parameter not in tensors]:
        known = ", ".join(tensors)
        raise ValueError(f"{name!r} asks for {some(missing)}: the names of its parameters must be among {known}.")
    try:
        return tf.identity(step(**{parameter: tensors[parameter] for parameter in wanted}))
    except (NotImplementedError, TypeError, AttributeError) as error:
        raise TypeError(
            f"{name!r} leaves the graph: it may use TensorFlow ops only, estimators by way of to_tensorflow, and &, |, "
            f"tf.where for and, or, if ({first_line(error)})."
        ) from None
