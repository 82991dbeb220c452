"""Make the trained models that lessons on parity and on serving load; needed only to make them again.

python datasets/flights/make_network.py          writes only those that are not there
python datasets/flights/make_network.py --force  overwrites: two savings of equal weights differ in their bytes

preprocessing.skops and network.keras learn from the first part of `data.split(flights, seed=0)` and have not seen the
other days. The preprocessing is scikit-learn's, in float64; the network takes what comes out of it, as float32.
latent.keras learns from the first part of a second split of these days, `data.split(flights, train, seed=0)`; what
comes after it is fitted on the others. It takes what `scale` prepares, and returns an embedding and a logit.
table.keras has seen the same days as network.keras, and takes the columns as they are: what prepares them is inside.
"""

import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

from helpers import data, notebook

STEPS = 150


def make(X: pd.DataFrame, y: np.ndarray, seed: int = 0) -> tuple[ColumnTransformer, Any]:
    """Fit the preprocessing of a table, and train a small network with a sigmoid on what comes out of it."""
    # Not above: TensorFlow reads what `notebook.setup` sets when it is imported.
    import keras

    numbers, categories = _columns(X)
    spans = X[numbers].max() - X[numbers].min()
    if len(narrow := spans[(spans > 0) & (spans < 1e-6)]):
        # scikit-learn keeps no bin that is narrower than 1e-8, and fails where it keeps none.
        raise notebook.UserError(f"{narrow.index[0]!r} spans only {narrow.iloc[0]:.1g}: give it in a smaller unit.")
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    no_category = SimpleImputer(strategy="constant", fill_value="", keep_empty_features=True)
    bins = KBinsDiscretizer(5, encode="onehot-dense", quantile_method="averaged_inverted_cdf")
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [
        ("scaled", make_pipeline(fill, StandardScaler()), numbers),
        ("binned", make_pipeline(fill, bins), numbers),
        ("coded", make_pipeline(no_category, one_hot), categories),
    ]
    preprocessing = ColumnTransformer(steps if categories else steps[:2])
    with warnings.catch_warnings():
        # Where many values are equal, some of the five bins are empty and are dropped; where all are, one bin is left.
        warnings.filterwarnings("ignore", message="Bins whose width|Feature .* is constant")
        features = preprocessing.fit_transform(X).astype(np.float32)

    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
    network = keras.Sequential([keras.layers.Input(features.shape[1:], name="features"), *layers])
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryCrossentropy())
    _fit(network, features, y)
    # Without the optimizer's state and the loss, which prediction does not need.
    return preprocessing, keras.Model(network.inputs[0], network.outputs[0])


def scale(X: pd.DataFrame) -> ColumnTransformer:
    """Fit the plainer preprocessing of the lessons on serving; missing categories are empty strings already."""
    numbers, categories = _columns(X)
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [("scaled", make_pipeline(fill, StandardScaler()), numbers), ("coded", one_hot, categories)]
    return ColumnTransformer(steps if categories else steps[:1]).fit(X)


def make_latent(features: np.ndarray, y: np.ndarray, seed: int = 0) -> Any:
    """Train a small network on prepared features; its outputs are named 'embedding', of 8 numbers, and 'logit'."""
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.layers.Input(features.shape[1:], name="features")
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    embedding = keras.layers.Dense(8, activation="tanh", name="embedding")(hidden)
    logit = keras.layers.Dense(1, name="logit")(embedding)
    network = keras.Model(inputs, logit)
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    _fit(network, features.astype(np.float32), y)
    return keras.Model(inputs, {"embedding": embedding, "logit": logit})


def make_table(X: pd.DataFrame, y: np.ndarray, seed: int = 0) -> Any:
    """Train a small network on columns as they are, strings too; its inputs are named as they, each of shape (n, 1).

    A missing number is NaN and becomes the median, a missing string is empty.
    """
    import keras

    keras.utils.set_random_seed(seed)
    numbers, categories = _columns(X)
    vocabularies = {name: sorted(set(X[name]) - {""}) for name in categories}
    types = dict.fromkeys(numbers, "float32") | {name: "string" for name, known in vocabularies.items() if known}
    inputs = {name: keras.Input((1,), name=name, dtype=dtype) for name, dtype in types.items()}

    medians = X[numbers].median().fillna(0)
    filled = X[numbers].fillna(medians)
    number = keras.layers.Concatenate()([inputs[name] for name in numbers])
    number = keras.ops.where(keras.ops.isnan(number), medians.to_numpy(np.float32)[None], number)
    scaled = keras.layers.Normalization(mean=filled.mean().to_numpy(), variance=filled.var(ddof=0).to_numpy())(number)
    coded = [
        keras.layers.StringLookup(vocabulary=known, output_mode="one_hot", name=f"{name}_lookup")(inputs[name])
        for name, known in vocabularies.items()
        if known
    ]
    features = keras.layers.Concatenate()([scaled, *coded])
    prepared = keras.Model(inputs, features)(tensors(X[list(types)])).numpy()

    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
    network = keras.Sequential([keras.layers.Input(prepared.shape[1:]), *layers])
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryCrossentropy())
    _fit(network, prepared, y)
    return keras.Model(inputs, {"probability": network(features)})


def tensors(X: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of a table as the inputs of what `make_table` returns."""
    import tensorflow as tf

    return {str(name): tf.constant(_column(X[name])[:, None]) for name in X}


def _column(values: pd.Series) -> np.ndarray:
    return values.to_numpy(np.float32 if values.dtype == np.float64 else object)


def _columns(X: pd.DataFrame) -> tuple[list[Any], list[Any]]:
    numbers = [name for name in X if X[name].dtype == np.float64]
    if not numbers:
        raise notebook.UserError(f"none of the {X.shape[1]} columns holds numbers: name a table that has some.")
    return numbers, [name for name in X if name not in numbers]


def _fit(network: Any, features: np.ndarray, y: np.ndarray) -> None:
    batch_size = int(np.clip(len(y) // 50, 16, 256))
    epochs = max(2, round(STEPS * batch_size / len(y)))
    network.fit(features, y, epochs=epochs, batch_size=batch_size, verbose=0)


if __name__ == "__main__":
    notebook.setup({})
    folder, flights = Path(__file__).parent, data.load("flights")
    if (folder / "network.keras").exists() and "--force" not in sys.argv:
        print("network.keras is there already; --force overwrites it.")
    else:
        train, _ = data.split(flights, seed=0)
        preprocessing, network = make(flights.X.iloc[train], flights.y[train])
        skops.io.dump(preprocessing, folder / "preprocessing.skops", compression=zipfile.ZIP_DEFLATED)
        network.save(folder / "network.keras")
    if (folder / "latent.keras").exists() and "--force" not in sys.argv:
        print("latent.keras is there already; --force overwrites it.")
    else:
        earlier, _ = data.split(flights, seed=0)
        train, _ = data.split(flights, earlier, seed=0)
        rows = flights.X.iloc[train].fillna({name: "" for name in _columns(flights.X)[1]})
        make_latent(scale(rows).transform(rows), flights.y[train]).save(folder / "latent.keras")
    if (folder / "table.keras").exists() and "--force" not in sys.argv:
        print("table.keras is there already; --force overwrites it.")
    else:
        train, _ = data.split(flights, seed=0)
        rows = flights.X.iloc[train].fillna({name: "" for name in _columns(flights.X)[1]})
        make_table(rows, flights.y[train]).save(folder / "table.keras")
