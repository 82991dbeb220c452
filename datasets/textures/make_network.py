"""Make network.keras, the trained model that lesson 11 loads; needed only to make it again.

python datasets/textures/make_network.py          writes only where there is none
python datasets/textures/make_network.py --force  overwrites: two savings of equal weights differ in their bytes

It learns from the first part of `data.split(textures)`. It takes images of 64 by 64 pixels whose values have been
divided by 255, and it does neither itself, as is usual for a model that comes out of a training script.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helpers import data, images, notebook

SIDE, BATCH, STEPS = 64, 16, 900


def make(X: Sequence[Any], y: np.ndarray, seed: int = 0) -> Any:
    """Train a small network on images, or files, of any size; its output is a logit."""
    # Not above: TensorFlow reads what `notebook.setup` sets when it is imported.
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    resize = layers.Resizing(SIDE, SIDE, antialias=True)
    pixels = np.stack([resize(images.read_image(image)[np.newaxis] / 255)[0] for image in X]).astype("float32")
    blocks = [layers.Conv2D(filters, 3, strides=2, activation="relu") for filters in (8, 16, 32)]
    network = keras.Sequential([layers.Input((SIDE, SIDE, 3)), *blocks, layers.GlobalAveragePooling2D()])
    network.add(layers.Dense(1, name="logit"))
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    network.fit(pixels, y, epochs=max(1, round(STEPS * BATCH / len(y))), batch_size=BATCH, verbose=0)
    # Without the optimizer's state and the loss, which prediction does not need.
    return keras.Model(network.inputs[0], network.outputs[0])


if __name__ == "__main__":
    notebook.setup({})
    path = Path(__file__).with_name("network.keras")
    if path.exists() and "--force" not in sys.argv:
        sys.exit(f"{path.name} is there already; --force overwrites it.")
    textures = data.load("textures")
    train, _ = data.split(textures)
    make(textures.X[train], textures.y[train]).save(path)
