"""Make the trained forecasters that lesson 52 loads; needed only to make them again.

python datasets/new_york_temperatures/make_network.py          writes only those that are not there
python datasets/new_york_temperatures/make_network.py --force  overwrites: two savings of equal weights differ in bytes

Each sees the last 72 hours at Kennedy airport and forecasts the next 24. They have learnt from the first 60 % of the
year. network_0.keras to network_4.keras differ in their seed only. zeros_0.keras is network_0 with one change: its
output layer starts from zeros, where Keras would draw random weights.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from helpers import data, forecasts, notebook

HISTORY, HORIZON, BATCH = 72, 24, 64


def make(X: np.ndarray, y: np.ndarray, seed: int = 0, *, start: str = "glorot_uniform", steps: int = 600) -> Any:
    """Train a forecaster on windows of a series and what came after each; `start` initialises its output layer."""
    # Not above: TensorFlow reads what `notebook.setup` sets when it is imported.
    import keras

    keras.utils.set_random_seed(seed)
    values = keras.Input(X.shape[1:])
    last, scale = values[:, -1:], float(X.std())
    hidden = (values - last) / scale
    for _ in range(2):
        hidden = keras.layers.Dense(64, activation="relu")(hidden)
    output = keras.layers.Dense(y.shape[1], kernel_initializer=start)(hidden)
    network = keras.Model(values, output * scale + last)
    network.compile(keras.optimizers.Adam(1e-3), "mse", steps_per_execution=40)
    if steps:
        epochs = min(100, int(np.ceil(steps * BATCH / len(X))))  # of short series no more
        network.fit(X, y, epochs=epochs, batch_size=BATCH, verbose=0)
    # Without the optimizer's state and the loss, which prediction does not need.
    return keras.Model(network.inputs, network.outputs)


def windows(y: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the histories and the hours after each that lie before a step, without outliers, gaps and filled hours."""
    clean = forecasts.replace_outliers(y[:end], 7, min_deviation=float(4 * np.nanstd(np.diff(y[:end]))))
    filled = pd.Series(clean).ffill().bfill().to_numpy()
    X = sliding_window_view(filled, HISTORY)[:-HORIZON]
    after = sliding_window_view(clean, HORIZON)[HISTORY:]
    whole = ~np.isnan(after).any(axis=1)
    return X[whole].astype("float32"), after[whole].astype("float32")


if __name__ == "__main__":
    notebook.setup({})
    kennedy = data.load("new_york_temperatures").column("JFK")
    X, y = windows(kennedy, int(0.6 * len(kennedy)))
    wanted: dict[str, dict[str, Any]] = {f"network_{seed}.keras": {"seed": seed} for seed in range(5)}
    for name, options in {**wanted, "zeros_0.keras": {"start": "zeros"}}.items():
        path = Path(__file__).with_name(name)
        if path.exists() and "--force" not in sys.argv:
            print(f"{name} is there already; --force overwrites it.")
        else:
            make(X, y, **options).save(path)
