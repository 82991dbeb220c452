"""Notebook 60: requests a second over REST, the local server beside an endpoint as tutorials write it and no server.

As a script it prints the table.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from helpers.notebook import ENVIRONMENT
from serving import Client, local_server

Array = NDArray[Any]
Ask = Callable[[Array], Array]

FEATURES = 20
SECONDS = 1.5
TUTORIAL = """
import sys
import keras, numpy, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

model = keras.saving.load_model(sys.argv[1])
app = FastAPI(telemetry={"auto_configure": False})

class Body(BaseModel):
    x: list[list[float]]

@app.post("/predict")
def predict(body: Body):
    return {"y": model.predict(numpy.array(body.x, "float32"), verbose=0).tolist()}

uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


def save(folder: Path) -> None:
    """Save one small network twice: as a SavedModel, and as Keras saves it."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((FEATURES,), name="x"), keras.layers.Dense(64, "relu"), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.save(folder / "model.keras")
    model.export(folder / "model" / "1", verbose=False)


def in_process(folder: Path) -> Ask:
    """Load the SavedModel here, as a program does that needs no server."""
    import tensorflow as tf

    model = tf.saved_model.load(folder / "model" / "1")

    def ask(x: Array) -> Array:
        (answer,) = model.signatures["serving_default"](x=tf.constant(x)).values()
        return np.asarray(answer)

    return ask


@contextmanager
def over_rest(folder: Path) -> Iterator[Ask]:
    """Start the local model server; ask with the client."""
    with local_server.running({"model": folder / "model"}) as url, Client(url) as client:

        def ask(x: Array) -> Array:
            (answer,) = client.predict("model", {"x": x}).values()
            return answer

        yield ask


@contextmanager
def as_in_tutorials(folder: Path) -> Iterator[Ask]:
    """Start an endpoint with a pydantic body around `model.predict`; ask with the HTTP library that the client uses."""
    script = folder / "tutorial.py"
    script.write_text(TUTORIAL, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, os.fspath(script), os.fspath(folder / "model.keras"), str(port)]
    process = subprocess.Popen(command, env={**ENVIRONMENT, **os.environ})
    with httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=None)) as http:

        def ask(x: Array) -> Array:
            answer = http.post(f"http://127.0.0.1:{port}/predict", json={"x": x.tolist()})
            return np.array(answer.raise_for_status().json()["y"], np.float32)

        try:
            while process.poll() is None:
                try:
                    ask(np.zeros((1, FEATURES)))
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            yield ask
        finally:
            process.terminate()
            process.wait()


def measured(ask: Ask, clients: int, batch: int) -> str:
    """Ask from so many threads for some seconds; return requests a second, and how long an answer takes."""
    x = np.random.default_rng(0).normal(size=(batch, FEATURES)).astype(np.float32)
    took: list[float] = []

    def work() -> None:
        while time.perf_counter() < end:
            started = time.perf_counter()
            ask(x)
            took.append(time.perf_counter() - started)

    ask(x)
    begun = time.perf_counter()
    end = begun + SECONDS
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The last answers come after the end.
    rate = len(took) / (time.perf_counter() - begun)
    p50, p99 = 1000 * np.quantile(took, [0.5, 0.99])
    return f"{rate:,.0f} ({p50:,.1f}, {p99:,.1f})"


def serving_rows() -> Iterator[str]:
    """Notebook 60: rows of a table; the ways take turns, and all must give the same answer."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        save(folder)
        ways = {
            "no server, SavedModel in this process": in_process(folder),
            "serving.local_server and serving.Client": stack.enter_context(over_rest(folder)),
            "pydantic and model.predict": stack.enter_context(as_in_tutorials(folder)),
        }
        yield f"| requests a second (p50, p99 in ms) | {' | '.join(ways)} |"
        yield "|---" * (1 + len(ways)) + "|"
        x = np.random.default_rng(1).normal(size=(5, FEATURES)).astype(np.float32)
        expected, *answers = (ask(x) for ask in ways.values())
        for way, answer in zip(list(ways)[1:], answers, strict=True):
            if not np.allclose(answer, expected, atol=1e-6):
                raise AssertionError(f"{way} gives another answer than the SavedModel.")
        for clients in (1, 32):
            for batch in (1, 100):
                cells = [measured(ask, clients, batch) for ask in ways.values()]
                yield f"| {clients} {'client' if clients == 1 else 'clients'}, batch {batch} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for row in serving_rows():
        print(row, flush=True)
