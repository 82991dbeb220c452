"""Make network.keras, the network of ten classes that lesson 21 calibrates; needed only to make it again.

python datasets/digits/make_network.py          writes only where there is none
python datasets/digits/make_network.py --force  overwrites: two savings of equal weights differ in their bytes

It learns from 179 digits, a tenth of them, the first part of `data.split(digits, test_size=0.9)`, and for so long that
it knows them by heart: on the others it is overconfident.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from helpers import data, notebook

EPOCHS = 300


def make(X: np.ndarray, y: np.ndarray, seed: int = 0) -> Any:
    """Train a network that gives a logit for each of ten classes; y holds the digits."""
    # Not above: TensorFlow reads what `notebook.setup` sets when it is imported.
    import keras

    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(64, activation="relu"), keras.layers.Dense(64, activation="relu")]
    network = keras.Sequential([keras.layers.Input(X.shape[1:]), *layers, keras.layers.Dense(10, name="logits")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(3e-3), loss)
    network.fit(X, y, epochs=EPOCHS, batch_size=32, verbose=0)
    # Without the optimizer's state and the loss, which prediction does not need.
    return keras.Model(network.inputs[0], network.outputs[0])


if __name__ == "__main__":
    notebook.setup({})
    path = Path(__file__).with_name("network.keras")
    if path.exists() and "--force" not in sys.argv:
        sys.exit(f"{path.name} is there already; --force overwrites it.")
    digits = data.load("digits")
    train, _ = data.split(digits, test_size=0.9)
    make(digits.X[train].astype("float32"), load_digits().target[train]).save(path)
