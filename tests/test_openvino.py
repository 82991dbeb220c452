"""Converted estimators and exports in OpenVINO, an engine that nobody here wrote, against scikit-learn itself.

It computes in float32, whatever dtype a graph names, and refuses some operations: `REFUSED` says which.
"""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from test_ops import MISSING, NUMERIC, ROWS, expected

import serving
from serving.ops import to_tensorflow

# What would report to its makers: with None in its place it cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)
openvino = pytest.importorskip("openvino", reason="OpenVINO is needed: pip install --no-deps -r tests/openvino.txt")

# What it cannot read, by the names of the operations.
REFUSED = {"uniform": "UpperBound", "normal": "Ndtri, UpperBound", "isotonic": "UpperBound"}
# Unasked, a processor that has bfloat16 would multiply matrices in it.
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def read(folder, inputs):
    """Run a SavedModel; return its outputs by name."""
    model = openvino.Core().compile_model(str(folder), "CPU", EXACT)
    found = model(inputs)
    return {output.any_name: found[output] for output in model.outputs}


def saved(ops, folder):
    module = tf.Module()
    call = lambda x: {name: getattr(ops, name)(x) for name in ops.methods}  # noqa: E731
    module.serve = tf.function(call, input_signature=[ops.spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


@pytest.mark.parametrize("name", [name for name, estimator in NUMERIC.items() if name not in REFUSED])
def test_converted_estimators_give_what_scikit_learn_gives(name, tmp_path):
    estimator, ops = NUMERIC[name], to_tensorflow(NUMERIC[name])
    rows = MISSING if "Imputer" in name else ROWS
    found = read(saved(ops, tmp_path), {0: rows.astype(ops.spec.dtype.as_numpy_dtype)})
    assert set(found) == set(ops.methods)
    for method, values in found.items():
        known = expected(estimator, rows, method)
        if known.dtype.kind == "f":
            # The digits of float32, of the largest number on the way: a score is a difference of such.
            np.testing.assert_allclose(values, known, rtol=0, atol=1e-5 * np.nanmax(np.abs(known)) + 1e-6)
        else:
            values = np.array([one.encode() for one in values.tolist()]) if values.dtype.kind == "U" else values
            assert np.array_equal(values, known), method


@pytest.mark.parametrize(("name", "operations"), REFUSED.items())
def test_what_it_refuses_is_named(name, operations, tmp_path):
    with pytest.raises(RuntimeError, match=f"No conversion rule found for operations: {operations}"):
        read(saved(to_tensorflow(NUMERIC[name]), tmp_path), {0: ROWS})


def network(form, columns):
    """Return one small network in one of the forms that Keras has."""
    keras.utils.set_random_seed(0)
    hidden, last = keras.layers.Dense(8, "tanh", name="embedding"), keras.layers.Dense(1, name="logit")
    if form == "sequential":
        return keras.Sequential([keras.Input((columns,), name="x"), hidden, last])
    inputs = keras.Input((columns,), name="x")
    embedding = hidden(inputs)
    return keras.Model(inputs, {"embedding": embedding, "logit": last(embedding)})


@pytest.mark.parametrize("form", ["sequential", "functional"])
def test_exports_from_numbers_to_several_outputs(form, tmp_path):
    model, rows = network(form, 4), (ROWS / [1, 10, 1e4, 0.1]).astype(np.float32)
    table = pd.DataFrame(rows, columns=list("abcd")).mask(np.random.default_rng(0).random(rows.shape) < 0.1)
    pre = make_pipeline(SimpleImputer(), StandardScaler()).fit(table)
    answer = model(pre.transform(table).astype(np.float32))
    answer = answer if isinstance(answer, dict) else {"logit": answer}
    kmeans = KMeans(3, n_init=1, random_state=0).fit(answer["logit"].numpy())
    cluster, post = (
        kmeans.predict(answer["logit"].numpy()),
        {"cluster": lambda logit: to_tensorflow(kmeans).predict(logit)},
    )
    inputs = serving.inputs_of(table)
    folder = serving.export(model, tmp_path / "model", pre=pre, post=post, examples=inputs)
    found, again = read(folder, inputs), serving.run_without_python(folder, inputs)
    assert set(found) == set(again) == {*answer, "cluster"}
    assert np.array_equal(found["cluster"], cluster)
    for name, values in answer.items():
        np.testing.assert_allclose(found[name], values, atol=2e-6)
        np.testing.assert_allclose(again[name], values, atol=2e-6)


def test_strings_are_read_and_not_compared(tmp_path):
    table = pd.DataFrame({"town": ["a", "", "ä"] * 5, "size": np.arange(15.0)})
    parts = [("town", OneHotEncoder(handle_unknown="ignore"), ["town"]), ("size", StandardScaler(), ["size"])]
    folder = serving.export(ColumnTransformer(parts).fit(table), tmp_path / "model")
    with pytest.raises(RuntimeError, match="unsupported src_prc: string"):
        read(folder, {"town": table["town"].to_numpy(str), "size": table["size"].to_numpy()})


def test_without_its_telemetry_it_asks_for_no_address_and_writes_nothing_at_home(tmp_path):
    script = """
        import socket, sys
        sys.modules["openvino_telemetry"] = None
        def refused(*arguments, **options):
            raise SystemExit(f"it asked for {arguments}")
        socket.getaddrinfo = socket.create_connection = socket.socket.connect = refused
        import openvino
        openvino.Core().available_devices
        openvino.convert_model
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The request would run in a process of its own, whose end stops nothing here.
    assert "it asked for" not in done.stderr
    assert list(tmp_path.iterdir()) == []
