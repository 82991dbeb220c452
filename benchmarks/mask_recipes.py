"""How a U-Net is trained by a recipe of which one thing is changed at a time: for the table of mask_training.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from scipy import ndimage
from scipy.special import expit

from helpers import unet


@dataclass(frozen=True)
class Recipe:
    """The reference, field by field; a treatment changes one."""

    loss: str = "BCE"
    optimizer: str = "Adam"
    rate: float = 0.01
    dropout: float = 0.0
    batch_norm: bool = True
    pixels: str = "z-score"
    side: int = 64
    batch: int = 6
    turns: bool = True
    change: str = ""
    channels: int = 1


def dice(y: Any, z: Any, axis: Any = None) -> Any:
    """Keras's Dice loss, of logits."""
    return keras.losses.dice(y, ops.sigmoid(z), axis=axis)


def boundary(y: Any, z: Any) -> Any:
    """Cross-entropy in which a pixel within 2 pixels of a boundary weighs 5 times as much."""
    near = ops.max_pool(y, 5, 1, "same") + ops.max_pool(-y, 5, 1, "same")
    return ops.sum((1 + 4 * near) * tf.nn.sigmoid_cross_entropy_with_logits(y, z)) / ops.sum(1 + 4 * near)


bce = keras.losses.BinaryCrossentropy(from_logits=True)
LOSSES: dict[str, Any] = {
    "BCE": bce,
    "weighted BCE": lambda y, z: tf.nn.weighted_cross_entropy_with_logits(y, z, 6.0),
    "Dice, per batch": dice,
    "Dice, per image": lambda y, z: dice(y, z, (1, 2, 3)),
    "BCE + Dice": lambda y, z: bce(y, z) + dice(y, z),
    "focal": keras.losses.BinaryFocalCrossentropy(from_logits=True),
    "boundary-weighted BCE": boundary,
}
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Adam": keras.optimizers.Adam,
    "AdamW": keras.optimizers.AdamW,
    "AdamW, decay 0.1": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.1),
    "SGD with momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
}
PIXELS: dict[str, Any] = {"z-score": unet.standardize, "/255": lambda x: x / np.float32(255), "raw": np.float32}


def network(recipe: Recipe) -> keras.Model:
    """Return the U-Net, with what the recipe adds or leaves out."""

    def changed(layer: Any) -> Any:
        options, kind = layer.get_config(), type(layer)
        if not recipe.batch_norm and kind is layers.BatchNormalization:
            return layers.Lambda(lambda x, mask=None: x)
        if not recipe.batch_norm and kind in (layers.Conv2D, layers.Conv2DTranspose):
            options["use_bias"] = True
        fresh = kind.from_config(options)
        dropped = recipe.dropout and kind is layers.MaxPooling2D
        return keras.Sequential([fresh, layers.Dropout(recipe.dropout)]) if dropped else fresh

    return keras.models.clone_model(unet.build_unet(n_classes=recipe.channels), clone_function=changed)


@cache
def weights(seed: int, recipe: Recipe) -> Any:
    """Return initial weights."""
    keras.utils.set_random_seed(seed)
    return network(recipe).get_weights()


@cache
def compiled(recipe: Recipe, steps: int) -> tuple[keras.Model, Any]:
    """Return a network, traced once for all repetitions, and its learning rate; no steps: a constant one."""
    model, peak = network(recipe), keras.Variable(recipe.rate, trainable=False)
    warmup = steps // 10
    decay = max(steps - warmup, 1)
    cosine = keras.optimizers.schedules.CosineDecay(0.0, decay, warmup_target=peak, warmup_steps=warmup)
    metrics = [] if steps else [unet.iou_metric]
    model.compile(OPTIMIZERS[recipe.optimizer](cosine if steps else 0.0), LOSSES[recipe.loss], metrics=metrics)
    model.optimizer.build(model.trainable_variables)
    return model, peak


def restarted(recipe: Recipe, seed: int, steps: int) -> keras.Model:
    """Return the network with new weights."""
    model, peak = compiled(replace(recipe, rate=0.0), steps)
    plain = Recipe(dropout=recipe.dropout, batch_norm=recipe.batch_norm, channels=recipe.channels)
    model.set_weights(weights(seed, plain))
    for variable in model.optimizer.variables:
        variable.assign(ops.zeros_like(variable))
    (peak if steps else model.optimizer.learning_rate).assign(recipe.rate)
    keras.utils.set_random_seed(seed)
    return model


def batches(X: Any, Y: Any, recipe: Recipe, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield crops; what Keras changes in them comes later."""
    random, side = np.random.default_rng(seed), recipe.side
    while True:
        crops = []
        for i in random.integers(len(X), size=recipe.batch):
            top, left = (random.integers(size - side + 1) for size in X[i].shape[:2])
            crop = np.concatenate([X[i], Y[i]], axis=-1)[top : top + side, left : left + side]
            turns, mirror = random.integers(4), random.integers(2)
            if recipe.turns:
                crop = np.rot90(crop, int(turns))[:, :: 1 - 2 * mirror]
            if recipe.change == "elastic":
                crop = elastic(crop, random)
            crops.append(crop)
        both = np.stack(crops).astype(np.float32)
        image, mask = both[..., : -recipe.channels], both[..., -recipe.channels :]
        if recipe.change == "brightness":
            gain, shift = (random.uniform(-of, of, (len(both), 1, 1, 1)) for of in (0.3, 0.5))
            image = (image * (1 + gain) + shift).astype(np.float32)
        yield image, mask


def elastic(crop: Any, random: np.random.Generator, width: float = 8, reach: float = 2) -> Any:
    """Move image and mask by one smooth random field, of `reach` pixels in standard deviation."""
    field = np.stack([ndimage.gaussian_filter(random.normal(size=crop.shape[:2]), width) for _ in range(2)])
    where = np.indices(crop.shape[:2]) + reach * field / field.std()
    orders = (int(channel == 0) for channel in range(crop.shape[-1]))
    moved = [ndimage.map_coordinates(crop[..., n], where, order=k, mode="reflect") for n, k in enumerate(orders)]
    return np.stack(moved, axis=-1)


def rotation(change: str, seed: int) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return what Keras does to images and masks: a rotation, of both or of one."""
    factor = (180 if "180" in change else 10) / 360
    first, second = (layers.RandomRotation(factor, fill_mode="reflect", seed=seed + n) for n in range(2))
    if change.endswith("alone"):
        return lambda x, y: (first(x, training=True), y)
    if change.endswith("two seeds"):
        return lambda x, y: (first(x, training=True), second(y, training=True))
    if change.endswith("ignored key"):
        return lambda x, y: tuple(first({"images": x, "masks": y}, training=True).values())
    return unet.augment_pairs(first)


def crops(X: Any, Y: Any, recipe: Recipe, seed: int) -> tf.data.Dataset:
    """Return endless batches for ``fit``."""
    shape = (recipe.batch, recipe.side, recipe.side)
    signature = tuple(tf.TensorSpec((*shape, depth), tf.float32) for depth in (X[0].shape[-1], recipe.channels))
    stream = tf.data.Dataset.from_generator(lambda: batches(X, Y, recipe, seed), output_signature=signature)
    return stream.map(rotation(recipe.change, seed)) if "°" in recipe.change else stream


def trained(recipe: Recipe, X: Any, Y: Any, seed: int, steps: int) -> keras.Model:
    """Train on images and masks as they are."""
    model = restarted(recipe, seed, steps)
    stream = crops([PIXELS[recipe.pixels](image) for image in X], Y, recipe, seed)
    model.fit(stream, steps_per_epoch=steps, verbose=0, shuffle=False)
    return model


def probabilities(model: keras.Model, recipe: Recipe, X: Any) -> Any:
    """Return what the network predicts of images as they are."""
    logits = model.predict(np.stack([PIXELS[recipe.pixels](image) for image in X]), batch_size=50, verbose=0)
    return expit(logits)
