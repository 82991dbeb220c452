"""Make network.keras, the trained model that lessons on inference load; needed only to make it again.

python datasets/breast_cancer/make_network.py          writes only where there is none
python datasets/breast_cancer/make_network.py --force  overwrites: two savings of equal weights differ in their bytes

It learns from the training rows of `data.split(rows, seed=0)`, and has not seen the others. It takes standardised rows,
and the scaler is not in the file: as with many a model that one is handed. It returns a logit.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from helpers import data, notebook


def make(X: np.ndarray, y: np.ndarray, seed: int = 0) -> Any:
    """Train a small network from standardised rows to one logit; a missing value (NaN) is taken as the mean, 0."""
    # Not above: TensorFlow reads what `notebook.setup` sets when it is imported.
    import keras

    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(16, activation="relu")
    network = keras.Sequential([keras.layers.Input(X.shape[1:]), hidden, keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    # About 500 steps, whatever the number of rows, and every row at least twice.
    batch_size = int(np.clip(len(y) // 16, 8, 256))
    epochs = max(2, round(500 * batch_size / len(y)))
    network.fit(np.where(np.isnan(X), 0, X).astype("float32"), y, batch_size=batch_size, epochs=epochs, verbose=0)
    # Without the optimizer's state and the loss, which prediction does not need.
    return keras.Model(network.inputs[0], network.outputs[0])


if __name__ == "__main__":
    notebook.setup({})
    from sklearn.preprocessing import StandardScaler

    path = Path(__file__).with_name("network.keras")
    if path.exists() and "--force" not in sys.argv:
        sys.exit(f"{path.name} is there already; --force overwrites it.")
    rows = data.load("breast_cancer")
    train, _ = data.split(rows, seed=0)
    make(StandardScaler().fit_transform(rows.X[train]), rows.y[train]).save(path)
