"""Make unet.keras: the U-Net that lesson 40 writes out, trained by the same lines on the lesson's own training images.

python datasets/cells/make_unet.py --force

The file is overwritten with --force only: two savings differ in their bytes.
"""

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from helpers import data

STEPS = 2000
Arrays = list[NDArray[Any]]


def split() -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the numbers of the drawings to train, to validate and to test."""
    rest, test = data.split(data.load("cells"), test_size=2 / 9, seed=0)
    return (*data.split(data.load("cells"), rest, test_size=1 / 7, seed=0), test)


def standardize(image: NDArray[Any]) -> NDArray[np.float32]:
    image = image.astype("float32")
    return (image - image.mean(axis=(0, 1))) / np.maximum(image.std(axis=(0, 1)), 1e-6)


def convolve(x: Any, filters: int) -> Any:
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return x


def build_unet(channels: int = 1, filters: int = 8, with_skips: bool = True) -> keras.Model:
    """Build the lesson's U-Net: three halvings, skip connections that concatenate, one logit a pixel."""
    image = x = keras.Input((None, None, channels), name="image")
    skips = []
    for width in (filters, 2 * filters, 4 * filters):
        x = convolve(x, width)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = convolve(x, 8 * filters)
    for width in (4 * filters, 2 * filters, filters):
        x = layers.Conv2DTranspose(width, 2, strides=2)(x)
        if with_skips:
            x = layers.Concatenate()([skips.pop(), x])
        x = convolve(x, width)
    return keras.Model(image, layers.Conv2D(1, 1, name="logits")(x))


def batches(images: Arrays, masks: Arrays, side: int = 64, size: int = 8, seed: int = 0) -> Iterator[Any]:
    """Yield endless batches of crops, taken at random from images that are at least as large."""
    random = np.random.default_rng(seed)
    while True:
        crops = []
        for i in random.integers(len(images), size=size):
            top, left = (random.integers(n - side + 1) for n in images[i].shape[:2])
            crops.append([array[i][top : top + side, left : left + side] for array in (images, masks)])
        X, y = zip(*crops, strict=True)
        yield np.stack(X), np.stack(y)


def fit(network: keras.Model, images: Arrays, masks: Arrays, steps: int, seed: int = 0, **options: Any) -> Any:
    """Train with a learning rate that falls from 0.01 to 0; return the history, an epoch of 50 steps."""
    rate = keras.optimizers.schedules.CosineDecay(0.01, steps)
    network.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
    crops = batches(images, masks, seed=seed)
    return network.fit(crops, steps_per_epoch=50, epochs=steps // 50, verbose=0, shuffle=False, **options)


def make(steps: int = STEPS) -> keras.Model:
    """Train on the lesson's training images; those to validate and to test have not been seen."""
    cells, (train, _, _) = data.load("cells"), split()
    keras.utils.set_random_seed(0)
    network = build_unet()
    images = [standardize(cells.X[i]) for i in train]
    fit(network, images, [(cells.y[i] > 0)[..., np.newaxis].astype("float32") for i in train], steps)
    # Without the optimizer's state and the loss, which prediction does not need.
    return keras.Model(network.inputs[0], network.outputs[0])


if __name__ == "__main__":
    target = Path(__file__).with_name("unet.keras")
    if target.exists() and "--force" not in sys.argv:
        raise SystemExit(f"{target.name} exists: --force makes it anew")
    make().save(target)
    # Keras does not compress, and a fifth of the file is HDF5's empty space.
    with zipfile.ZipFile(io.BytesIO(target.read_bytes())) as saved, zipfile.ZipFile(target, "w") as smaller:
        for entry in saved.namelist():
            smaller.writestr(entry, saved.read(entry), zipfile.ZIP_DEFLATED)
