"""Chapter 05, one measurement a process: peak memory and a fresh TensorFlow belong to a process.

Called by bench.py as ``images.py train ours|textbook``, ``images.py predict whole|tiles|loop SIDE`` or
``images.py step float32|bfloat16``; prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib

os.environ.update(TF_ENABLE_ONEDNN_OPTS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np
import psutil
from keras import layers

from helpers import data, masks, unet

GOAL = 0.9
TRAINING, TEST = 600, 60


def textbook() -> keras.Model:
    """Return the U-Net of most tutorials: 64 filters, three halvings, concatenated skips; it returns logits."""
    image = keras.Input((None, None, 1))
    x, skips = image, []

    def twice(x: object, filters: int) -> object:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        return x

    for filters in (64, 128, 256):
        x = twice(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = twice(x, 512)
    for filters, skip in zip((256, 128, 64), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = twice(layers.Concatenate()([x, skip]), filters)
    return keras.Model(image, layers.Conv2D(1, 1)(x))


def train(which: str) -> dict[str, float]:
    """Return the seconds of training, tracing included, until the mean IoU of test images reaches the goal."""
    keras.utils.set_random_seed(0)
    cells = data.load("cells")
    X, targets = unet.standardize(cells.X), unet.targets(cells.y)
    test = range(len(X) - TEST, len(X))

    def iou(model: keras.Model) -> float:
        logits = np.concatenate([model.predict_on_batch(X[part]) for part in np.array_split(test, 6)])
        return float(
            np.mean([masks.iou(cells.y[i] > 0, logit[..., 0] > 0) for i, logit in zip(test, logits, strict=True)])
        )

    passed = 0.0
    if which == "ours":
        # A whole cycle belongs to its number of steps: the shortest of these that arrives counts, from its start.
        for steps in (100, 150, 200, 300, 450):
            model = unet.build_unet(n_classes=2)
            pieces = unet.random_crops(list(X[:TRAINING]), list(targets[:TRAINING]), 96, 6)
            started = time.perf_counter()
            unet.compile_model(model, unet.bce_jaccard)
            model.fit(pieces, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[unet.OneCycle(1.5e-2)])
            passed = time.perf_counter() - started
            if (reached := iou(model)) >= GOAL:
                break
    else:
        model = textbook()
        # As usual for it; a step takes seconds, so that other rates are not searched here.
        model.compile(keras.optimizers.Adam(3e-4), keras.losses.BinaryCrossentropy(from_logits=True))
        pieces = unet.random_crops(list(X[:TRAINING]), list(targets[:TRAINING, ..., :1]), 96, 8)
        while passed < 300:
            started = time.perf_counter()
            model.fit(pieces, steps_per_epoch=25, verbose=0, shuffle=False)
            passed += time.perf_counter() - started
            reached = iou(model)
            print(f"{passed:.0f} s: IoU {reached:.3f}", file=sys.stderr)
            if reached >= GOAL:
                break
    return {"seconds": passed, "iou": reached, "weights": model.count_params()}


def predict(way: str, side: int) -> dict[str, float]:
    """Return the seconds of one prediction and its peak of memory, in MiB above what the process held before."""
    keras.utils.set_random_seed(0)
    model = unet.build_unet(n_classes=2)
    image = np.random.default_rng(0).normal(size=(side, side, 1)).astype(np.float32)
    answer = np.zeros((side, side, 2), dtype=np.float32)

    def loop(tile: int = 256, halo: int = 48) -> None:
        padded = np.pad(image, ((halo, halo), (halo, halo), (0, 0)), mode="reflect")
        for top in range(0, side, tile):
            for left in range(0, side, tile):
                window = padded[top : top + tile + 2 * halo, left : left + tile + 2 * halo]
                logits = model.predict(window[None], verbose=0)[0]
                answer[top : top + tile, left : left + tile] = logits[halo:-halo, halo:-halo]

    calls = {
        "whole": lambda: unet.predict_tiled(model, image, tile=side, out=answer),
        "tiles": lambda: unet.predict_tiled(model, image, out=answer),
        "loop": loop,
    }
    # Traced for any size by two small ones, so that tracing is not timed.
    for small in (64, 72, 80):
        model.predict_on_batch(image[None, :small, :small])
    model.predict(image[None, :352, :352], verbose=0)
    process = psutil.Process()
    before = process.memory_info().rss
    answer.fill(0)
    started = time.perf_counter()
    calls[way]()
    passed = time.perf_counter() - started
    return {"seconds": passed, "mib": (_peak() - before) / 2**20, "crc": zlib.crc32(answer.tobytes())}


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def step(precision: str) -> dict[str, float]:
    """Return the seconds of one training step of the notebook's network."""
    if precision == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    model = unet.build_unet(n_classes=2)
    unet.compile_model(model, unet.bce_jaccard)
    rng = np.random.default_rng(0)
    X = list(rng.normal(size=(60, 96, 96, 1)).astype(np.float32))
    targets = list((rng.random((60, 96, 96, 2)) < 0.2).astype(np.uint8))
    pieces = unet.random_crops(X, targets, 96, 6)
    times: list[float] = []
    model.fit(pieces, steps_per_epoch=10, verbose=0, shuffle=False)
    for _ in range(5):
        started = time.perf_counter()
        model.fit(pieces, steps_per_epoch=40, verbose=0, shuffle=False)
        times.append((time.perf_counter() - started) / 40)
    return {"seconds": min(times)}


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    if kind == "predict":
        result = predict(arguments[0], int(arguments[1]))
    else:
        result = {"train": train, "step": step}[kind](arguments[0])
    print(json.dumps(result))
