"""Masks of nuclei by several networks, on one budget: the table that lesson 42 draws.

python benchmarks/evidence/mask_architectures.py --photographs FOLDER

FOLDER holds `images` and `masks`, PNG files of the same names; masks number their objects. The table was made with 100
photographs of BBBC038 (2018 Data Science Bowl, CC0), 256 by 256 pixels, which the project does not ship: without
FOLDER nothing is written. Split k permutes the sorted names by default_rng(k); 70 train, 30 test.

Every network learns masks and markers as `helpers.unet.train` teaches them: its targets, loss, optimizer, schedule and
crops of as many pixels. The peak of the learning rate of two (0.01 against 0.003) was chosen on the last 15 training
images of split 0. Rows are written as they come; ``--resume`` makes those that the table lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np
import pandas as pd
import psutil
from keras import layers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks import images as bench_images
from benchmarks.cell_images import SPLITS, parts, pooled
from benchmarks.evidence_table import write_table
from helpers import images, notebook, unet

ENCODER = notebook.ROOT / "datasets" / "encoder" / "encoder.keras"
TRAINING, FEW, LONG = 70, (5, 20), (2000,)
KEYS = ["part", "architecture", "split", "images", "steps"]
# Steps that take about 40 CPU-seconds, peak of the learning rate, side of a crop; of a larger crop fewer in a batch.
RANDOM = "same encoder, random weights"
RECIPES = {
    "U-Net of helpers.unet": (250, 1e-2, 128),
    "textbook U-Net": (10, 1e-3, 128),
    "DeepLabV3+": (135, 1e-2, 256),
    "pre-trained encoder": (160, 1e-2, 128),
    "pre-trained encoder, frozen": (300, 1e-2, 128),
    RANDOM: (160, 1e-2, 128),
}


def convolve(x: Any, filters: int, size: int = 3, rate: int = 1) -> Any:
    """Return a convolution with batch normalisation."""
    x = layers.Conv2D(filters, size, dilation_rate=rate, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def unet_on(encoder: keras.Model) -> keras.Model:
    """Return a U-Net whose way down is a trained classifier's."""
    *skips, x = encoder.outputs
    for filters in (64, 32, 16):
        x = layers.Conv2DTranspose(filters, 2, strides=2, use_bias=False)(x)
        x = convolve(convolve(layers.Concatenate()([x, skips.pop()]), filters), filters)
    x = layers.ReLU()(layers.Conv2DTranspose(16, 2, strides=2)(x))
    return keras.Model(encoder.inputs, layers.Conv2D(2, 1)(x))


def dilated(encoder: keras.Model) -> keras.Model:
    """Return the encoder with an output stride of 8: where it halved last it is dilated instead, the weights remain."""
    names = [layer.name for layer in encoder.layers]

    def change(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        if isinstance(layer, layers.DepthwiseConv2D) and names.index(layer.name) > names.index("eighth"):
            config |= {"strides": (1, 1), "dilation_rate": (1, 1) if layer.strides[0] > 1 else (2, 2)}
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(encoder, clone_function=change)
    copy.set_weights(encoder.get_weights())
    return copy


def deeplab(encoder: keras.Model, filters: int = 64) -> keras.Model:
    """Return DeepLabV3+ with the published rates, and a quarter of the published filters, as the encoder has."""
    encoder = dilated(encoder)
    _, quarter, _, x = encoder.outputs
    pyramid = layers.Concatenate()([convolve(x, filters, 1), *[convolve(x, filters, 3, rate) for rate in (6, 12, 18)]])
    # The mean over the image is the same everywhere: added here, it does what a fifth branch would do.
    pooled = layers.Conv2D(filters, 1, use_bias=False)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Add()([layers.Conv2D(filters, 1, use_bias=False)(pyramid), pooled])
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
    x = layers.Concatenate()([x, convolve(quarter, 16, 1)])
    x = layers.Conv2D(2, 1)(convolve(convolve(x, filters), filters))
    return keras.Model(encoder.inputs, layers.UpSampling2D(4, interpolation="bilinear")(x))


def textbook() -> keras.Model:
    """Return the network of `benchmarks.images`, with an output more."""
    one = bench_images.textbook()
    return keras.Model(one.inputs, layers.Conv2D(2, 1)(one.layers[-1].input))


def build(name: str) -> keras.Model:
    """Return a network by its name in `RECIPES`."""
    encoder = keras.models.load_model(ENCODER)
    if name == "U-Net of helpers.unet":
        return unet.build_unet()
    if name == "textbook U-Net":
        return textbook()
    if name == "DeepLabV3+":
        return deeplab(encoder)
    if "random" in name:
        return unet_on(keras.models.clone_model(encoder))
    encoder.trainable = "frozen" not in name
    return unet_on(encoder)


def channels(model: keras.Model, image: Any) -> Any:
    """Return a standardised grey image with the channels that a model takes."""
    return np.repeat(unet.standardize(image), model.inputs[0].shape[-1], axis=-1)


def train(model: keras.Model, X: Any, labels: Any, steps: int, rate: float, crop: int, seed: int) -> float:
    """Train as `helpers.unet.train` does; return the seconds of all cores together."""
    weights = [len(np.unique(image)) for image in labels]
    batch = 8 * 128**2 // crop**2
    inputs, outputs = [channels(model, image) for image in X], [unet.targets(image) for image in labels]
    crops = unet.random_crops(inputs, outputs, crop, batch, seed=seed, weights=weights)
    started = time.process_time()
    unet.fit(model, crops, steps, rate=rate)
    return time.process_time() - started


def objects(model: keras.Model, image: Any) -> tuple[Any, Any]:
    """Return mask and objects as `helpers.unet.predict_objects` makes them, of models that it cannot pad."""
    logits = model.predict_on_batch(channels(model, image)[np.newaxis])[0]
    found = unet.find_objects(logits)
    return (logits[..., 0] > 0) | (found > 0), found


def score(model: keras.Model, X: Any, labels: Any) -> dict[str, float]:
    """Return IoU and F1 of objects, pooled over images."""
    inside, found = zip(*(objects(model, image) for image in X), strict=True)
    return {name: round(value, 4) for name, value in pooled(labels, inside, found).items()}


def cost(name: str, side: int = 1024) -> dict[str, object]:
    """Return weights, and the seconds and peak memory of a prediction: to be called in a process of its own."""
    model = build(name)
    image = np.zeros((1, side, side, model.inputs[0].shape[-1]), np.float32)
    model.predict_on_batch(image[:, :64, :64])
    # Traced anew: Keras's bilinear upsampling refuses a graph for any size.
    model.make_predict_function(force=True)
    before = psutil.Process().memory_info().rss
    model.predict_on_batch(image)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    started = time.process_time()
    model.predict_on_batch(image)
    seconds = time.process_time() - started
    found = {"weights": model.count_params(), "cpu_ms": round(1000 * seconds), "mib": round((peak - before) / 2**20)}
    return {"part": "cost", "architecture": name, **found}


def rows_of_split(photographs: Any, split: int, done: set[tuple[Any, ...]]) -> Iterator[dict[str, object]]:
    """Yield the rows of one split: all networks, three of them on fewer images, one after fewer and more steps."""
    known, unseen = parts("photographs", photographs, split)
    jobs = [("networks", name, TRAINING, RECIPES[name][0]) for name in RECIPES if "textbook" not in name or not split]
    jobs += [("images", name, n, RECIPES[name][0]) for n in FEW for name in list(RECIPES)[3:]]
    jobs += [("time", "U-Net of helpers.unet", TRAINING, steps) for steps in (125, 500, 1000, *LONG[split:])]
    for part, name, n, steps in jobs:
        if (part, name, split, n, steps) in done:
            continue
        keras.utils.set_random_seed(split)
        model, few = build(name), known[:n]
        given = [photographs.X[i] for i in few], [photographs.y[i] for i in few]
        seconds = train(model, *given, steps, *RECIPES[name][1:], seed=split)
        row = {"part": part, "architecture": name, "split": split, "images": n, "steps": steps}
        row |= {"cpu_seconds": round(seconds), "weights": model.count_params()}
        yield row | score(model, [photographs.X[i] for i in unseen], [photographs.y[i] for i in unseen])


def write(rows: list[Any]) -> None:
    """Write the rows that there are."""
    note = """100 photographs of BBBC038 (2018 Data Science Bowl, CC0), 70 to train, 30 to test;
cpu_seconds: of training, all cores together (on two, about half); iou, f1: pooled over the test images;
cpu_ms, mib: of a prediction of 1,024 by 1,024 pixels, mib beyond what the loaded network holds"""
    seeds, budget = (
        "0 to 2 (split, weights, crops)",
        "about 40 CPU-seconds (32 to 45) for each network; in part time as told",
    )
    packages = ("keras", "tensorflow-cpu", "scikit-image", "numpy")
    # Whole numbers that may be missing.
    table = pd.DataFrame(rows).convert_dtypes().sort_values(["part", "split"], kind="stable")
    write_table(__file__, table, seeds=seeds, budget=budget, note=note, packages=packages)


def main() -> None:
    """Write the table, or print the cost of one network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--cost", choices=list(RECIPES))
    options = parser.parse_args()
    if options.cost:
        return print(json.dumps(cost(options.cost)))
    if not options.photographs:
        return print("nothing is written: --photographs names a folder with images and masks; see the docstring")
    photographs = images.open_pairs(options.photographs / "images", options.photographs / "masks")
    path = Path(__file__).with_suffix(".csv")
    old = (
        pd.read_csv(path, comment="#").convert_dtypes()
        if path.exists() and options.resume
        else pd.DataFrame(columns=KEYS)
    )
    rows: list[Any] = old.astype(object).where(old.notna(), None).to_dict("records")
    if "cost" not in set(old["part"]):
        rows = [json.loads(notebook.fresh_process(__file__, "--cost", name)) for name in RECIPES]
    done = {tuple(row[key] for key in KEYS) for row in rows}
    for row in (row for split in SPLITS for row in rows_of_split(photographs, split, done)):
        rows.append(row)
        write(rows)


if __name__ == "__main__":
    main()
