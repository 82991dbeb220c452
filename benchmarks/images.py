"""Chapter 4, one measurement a process: peak memory and a fresh TensorFlow belong to a process.

Called by bench.py as ``images.py train ours|textbook`` or ``images.py predict whole|tiles|loop SIDE``; prints one line
of JSON.
"""

from __future__ import annotations

import json
import os
import resource
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

    def twice(x: object, filters: int) -> object:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        return x

    x, skips = image, []
    for filters in (64, 128, 256):
        skips.append(twice(x, filters))
        x = layers.MaxPooling2D()(skips[-1])
    x = twice(x, 512)
    for filters in (256, 128, 64):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = twice(layers.Concatenate()([x, skips.pop()]), filters)
    return keras.Model(image, layers.Conv2D(1, 1)(x))


def train(which: str) -> dict[str, float]:
    """Return the seconds of training, tracing included, until the mean IoU of test images reaches the goal."""
    keras.utils.set_random_seed(0)
    cells, ours = data.load("cells"), which == "ours"
    X, y = unet.standardize(cells.X), unet.targets(cells.y)[..., :1]
    model, passed = textbook(), 0.0
    # As usual for it; a step takes seconds, so that other rates are not searched here.
    model.compile(keras.optimizers.Adam(3e-4), keras.losses.BinaryCrossentropy(from_logits=True))
    # Of ours a whole cycle belongs to its number of steps: the shortest that arrives counts, from its own start.
    for number, steps in enumerate((100, 150, 200, 300, 450) if ours else (25,) * 99):
        started = time.perf_counter()
        if ours:
            passed = 0.0
            model = unet.train(cells.X[:TRAINING], cells.y[:TRAINING], steps=steps, crop=96, seed=number)
        else:
            crops = unet.random_crops(list(X[:TRAINING]), list(y[:TRAINING]), 96, seed=number)
            model.fit(crops, steps_per_epoch=steps, verbose=0, shuffle=False)
        passed += time.perf_counter() - started
        logits = [unet.predict_tiled(model, image)[..., 0] for image in X[-TEST:]]
        iou = np.mean([masks.iou(labels > 0, logit > 0) for labels, logit in zip(cells.y[-TEST:], logits, strict=True)])
        if iou >= GOAL or passed > 300:
            break
    return {"seconds": passed, "iou": float(iou), "weights": model.count_params()}


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

    # Traced for any size by small ones, so that tracing is not timed.
    for small in (64, 72, 80):
        model.predict_on_batch(image[None, :small, :small])
    model.predict(image[None, :352, :352], verbose=0)
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    if way == "loop":
        loop()
    else:
        unet.predict_tiled(model, image, tile=side if way == "whole" else 512, out=answer)
    passed = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": passed, "mib": (peak - before) / 2**20, "crc": zlib.crc32(answer.tobytes())}


if __name__ == "__main__":
    kind, which, *sides = sys.argv[1:]
    print(json.dumps(train(which) if kind == "train" else predict(which, int(sides[0]))))
