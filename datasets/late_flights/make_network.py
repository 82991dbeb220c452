"""Make the trained models that the lessons on decisions load; needed only to make them again.

python datasets/late_flights/make_network.py          writes only those that are not there
python datasets/late_flights/make_network.py --force  overwrites: two savings of equal weights differ in their bytes

They learn from half of the days, the first part of `data.split(flights, test_size=0.5)`, and have not seen the others.
network.keras: late flights are rare, so it is trained with class weights, as is often advised; that makes its output
larger than the probability. overfit.keras: a large network, trained until it fits its own days far better than others,
so that its outputs lie too near to 0 and 1.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from helpers import data, notebook

EPOCHS = 20


def make(X: np.ndarray, y: np.ndarray, seed: int = 0, *, weighted: bool = True) -> Any:
    """Train a small network with a sigmoid; weighted: by class weights that make both classes count the same."""
    # Not above: TensorFlow reads what `notebook.setup` sets when it is imported.
    import keras

    keras.utils.set_random_seed(seed)
    scale = keras.layers.Normalization()
    scale.adapt(X)
    network = keras.Sequential([keras.layers.Input(X.shape[1:]), scale])
    for _ in range(2):
        network.add(keras.layers.Dense(32, activation="relu"))
        network.add(keras.layers.Dropout(0.3))
    network.add(keras.layers.Dense(1, activation="sigmoid"))
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.BinaryCrossentropy())
    weights = {label: 0.5 / np.mean(y == label) for label in (0, 1)} if weighted else None
    network.fit(X, y, epochs=EPOCHS, batch_size=64, class_weight=weights, verbose=0)
    # Without the optimizer's state and the loss, which prediction does not need.
    return keras.Model(network.inputs, network.outputs)


def make_overfit(X: np.ndarray, y: np.ndarray, seed: int = 0) -> Any:
    """Train a large network for long; its outputs are named 'logit' and 'probability'."""
    import keras

    keras.utils.set_random_seed(seed)
    scale = keras.layers.Normalization()
    scale.adapt(X)
    layers = [keras.layers.Dense(128, activation="relu"), keras.layers.Dense(128, activation="relu")]
    network = keras.Sequential([keras.layers.Input(X.shape[1:]), scale, *layers, keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    network.fit(X, y, epochs=30, batch_size=64, verbose=0)
    (logit,) = network.outputs
    return keras.Model(network.inputs, {"logit": logit, "probability": keras.layers.Activation("sigmoid")(logit)})


if __name__ == "__main__":
    notebook.setup({})
    flights = data.load("late_flights")
    train, _ = data.split(flights, test_size=0.5)
    for name, recipe in {"network.keras": make, "overfit.keras": make_overfit}.items():
        path = Path(__file__).with_name(name)
        if path.exists() and "--force" not in sys.argv:
            print(f"{name} is there already; --force overwrites it.")
        else:
            recipe(flights.X[train].astype("float32"), flights.y[train]).save(path)
