"""One mask for each object: ways to separate what touches, on drawings and on photographs; lesson 43 draws the table.

python benchmarks/evidence/touching_objects.py                      makes the rows of the drawings anew
python benchmarks/evidence/touching_objects.py --photographs DIR    those of photographs: DIR/images and DIR/masks

Networks have one architecture, one recipe (that of `helpers.unet.train`) and one budget; they differ in what they
learn. Nothing is chosen on the images that judge. Split k of the photographs permutes their sorted names by
default_rng(k) and trains on the first 70; that of the drawings trains on 300 of the first 600, and judges on 100 of the
others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import ndimage
from scipy.special import expit, softmax
from skimage.feature import peak_local_max
from skimage.measure import label
from skimage.morphology import disk, h_maxima
from skimage.segmentation import expand_labels, find_boundaries, relabel_sequential, watershed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.cell_images import CROPS, parts, write_by_kind
from helpers import masks, notebook, unet

STEPS, BATCH = 300, 8
CUTS = np.arange(50, 100, 5)
CIRCLE = 21  # Pixels of the smallest objects of the photographs: circles that the annotators' tool drew.
NOTE = """photographs: 100 photographs of BBBC038, 2018 Data Science Bowl, CC0, 70 to train, 30 to judge;
drawings: datasets/cells, 300 to train, 100 to judge; markers.keras: 600 steps on 600 drawings;
merged, nothing there, outline: why objects were missed; circles: objects of 21 pixels; no marker: objects of which
the target of the network's markers holds fewer than 4 pixels"""


def eroded(labels: Any, pixels: int) -> Any:
    """Erode each object by so many pixels."""
    highest, lowest = (of(labels, footprint=disk(pixels)) for of in (ndimage.maximum_filter, ndimage.minimum_filter))
    return np.where(highest == lowest, labels, 0)


def softmax_jaccard(y_true: Any, logits: Any) -> Any:
    """Return what `unet.bce_jaccard` does, for classes that exclude each other."""
    probability = ops.softmax(logits)
    both = ops.sum(y_true * probability, axis=(1, 2))
    union = ops.sum(y_true + probability, axis=(1, 2)) - both
    cross_entropy = keras.losses.categorical_crossentropy(y_true, logits, from_logits=True)
    return ops.mean(cross_entropy) + ops.mean(1 - (both + 1) / (union + 1))


def mask_and_depth(y_true: Any, logits: Any) -> Any:
    """Return the loss of a mask, and the cross-entropy of a depth, which is least where the two are equal."""
    depth = keras.losses.binary_crossentropy(y_true[..., 1:], logits[..., 1:], from_logits=True)
    return ops.mean(unet.bce_jaccard(y_true[..., :1], logits[..., :1])) + ops.mean(depth)


# What each network learns, and its loss.
NETWORKS: dict[str, tuple[Any, Any]] = {
    "markers, eroded by 1 px": (lambda y: np.stack([y > 0, eroded(y, 1) > 0], -1), unet.bce_jaccard),
    "markers, eroded by 2 px": (lambda y: np.stack([y > 0, eroded(y, 2) > 0], -1), unet.bce_jaccard),
    "markers, half of the depth": (unet.targets, unet.bce_jaccard),
    "border class": (lambda y: np.eye(3)[np.where(find_boundaries(y, mode="inner"), 2, y > 0)], softmax_jaccard),
    "distance map": (lambda y: np.stack([y > 0, unet.depths(y)], -1), mask_and_depth),
}


def learn(X: Any, y: Any, network: str, crop: int, seed: int) -> keras.Model:
    """Train as `unet.train` does."""
    to_targets, loss = NETWORKS[network]
    keras.utils.set_random_seed(seed)
    made = [np.asarray(to_targets(labels), dtype=np.float32) for labels in y]
    model = unet.build_unet((None, None, X[0].shape[-1]), n_classes=made[0].shape[-1])
    weights = [len(np.unique(labels)) for labels in y]
    crops = unet.random_crops([unet.standardize(x) for x in X], made, crop, BATCH, seed, weights)
    unet.fit(model, crops, STEPS, loss=loss)
    return model


def seeds_of(marker: Any, by_shape: bool) -> Any:
    """Number the markers of at least 4 pixels, as `unet.predict_objects` does; split them by their shape, if asked."""
    seeds = masks.split_touching(marker, min_depth=0.4) if by_shape else label(marker, connectivity=1)
    return np.where(np.bincount(seeds.ravel())[seeds] < 4, 0, seeds)


def from_mask(mask: Any) -> dict[str, Any]:
    """Return objects that need a mask only."""
    distance, peaks = ndimage.distance_transform_edt(mask), np.zeros(mask.shape, dtype=int)
    every = peak_local_max(distance, footprint=np.ones((3, 3)), labels=label(mask), exclude_border=False)
    peaks[tuple(every.T)] = range(1, len(every) + 1)
    return {
        "connected components": label(mask, connectivity=1),
        "watershed, every maximum": watershed(-distance, peaks, mask=mask),
        "watershed, deep maxima": masks.split_touching(mask),
    }


def objects_of(network: str, logits: Any) -> dict[str, Any]:
    """Return what can be made of a network's output: a label image for each way."""
    classes, (mask, second) = softmax(logits, axis=-1), np.moveaxis(expit(logits.astype(float)), -1, 0)[:2]
    marker = second > 0.5
    if network == "border class":
        mask, second, marker = 1 - classes[..., 0], classes[..., 1], classes.argmax(axis=-1) == 1
    seeds = {network: seeds_of(marker, False), f"{network}, split by shape": seeds_of(marker, True)}
    if network == "distance map":
        seeds = {network: label(h_maxima(ndimage.gaussian_filter(second, 1), 0.05) * (mask > 0.5))}
    found = {way: watershed(-second, seed, mask=(mask > 0.5) | (seed > 0)) for way, seed in seeds.items()}
    return found | (from_mask(mask > 0.5) if network == "markers, half of the depth" else {})


def ceilings(labels: Any) -> dict[str, Any]:
    """Return what would be found if the mask, or all, were known, or all but for a pixel."""
    mask = labels > 0
    return {
        "true mask, connected components": label(mask, connectivity=1),
        "true mask, watershed": masks.split_touching(mask),
        "true mask, 1 px wider, watershed": masks.split_touching(ndimage.binary_dilation(mask)),
        "true mask, 1 px narrower, watershed": masks.split_touching(ndimage.binary_erosion(mask)),
        "true objects, 1 px wider": expand_labels(labels, 1),
        "true objects, 1 px narrower": eroded(labels, 1),
    }


def judge(true: Any, found: Any) -> dict[str, Any]:
    """Return what the table tells of label images."""
    iou, reasons, circles, predicted = [np.zeros(0)], np.zeros(3, dtype=int), np.zeros(2, dtype=int), 0
    for y, labels in zip(true, (relabel_sequential(one)[0] for one in found), strict=True):
        edges = [np.arange(of.max() + 2) - 0.5 for of in (y, labels)]
        table = np.histogram2d(y.ravel(), labels.ravel(), bins=edges)[0]
        # The background is a partner, too, that shares nothing.
        shared, size = table[1:] * (np.arange(table.shape[1]) > 0), table[1:].sum(axis=1)
        best = (shared / (size[:, None] + table.sum(axis=0) - shared)).max(axis=1, initial=0)
        missed, covered = best <= 0.5, shared.max(axis=1, initial=0) > 0.1 * size
        # Merged: the partner holds most of another object, too.
        merged = covered & ((2 * shared > size[:, None]).sum(axis=0)[shared.argmax(axis=1)] > 1)
        reasons += [(missed & why).sum() for why in (merged, ~covered, covered & ~merged)]
        circles += [(size == CIRCLE).sum(), (~missed & (size == CIRCLE)).sum()]
        iou, predicted = [*iou, best], predicted + labels.max()
    each = np.concatenate(iou)
    tp = (each[:, None] > CUTS / 100).sum(axis=0)
    row = {"F1": 2 * tp[0] / (len(each) + predicted)}
    row["IoU"] = np.mean([masks.iou(y > 0, labels > 0) for y, labels in zip(true, found, strict=True)])
    row |= {"objects": len(each), "found": tp[0], "false": predicted - tp[0]}
    names = "merged", "nothing there", "outline", "circles", "circles found"
    row |= dict(zip(names, [*reasons, *circles], strict=True))
    return row | {f"AP{cut}": tp[i] / (len(each) + predicted - tp[i]) for i, cut in enumerate(CUTS)}


def repetition(kind: str, cells: Any, k: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one split."""
    train, test = parts(kind, cells, k)
    true, found = [cells.y[i] for i in test], dict[str, list[Any]]()
    for way, labels in (pair for y in true for pair in ceilings(y).items()):
        found.setdefault(way, []).append(labels)
    if kind == "drawings":
        stored = keras.saving.load_model(notebook.ROOT / "datasets" / "cells" / "markers.keras")
        found["markers.keras"] = [unet.predict_objects(stored, cells.X[i]) for i in test]
    lost = dict[str, int]()
    for network in notebook.progress(list(NETWORKS), f"{kind}, split {k}, network"):
        model = learn([cells.X[i] for i in train], [cells.y[i] for i in train], network, CROPS[kind], k)
        for i in test:
            logits = unet.predict_tiled(model, unet.standardize(cells.X[i]))
            for way, labels in objects_of(network, logits).items():
                found.setdefault(way, []).append(labels)
        if network.startswith("markers"):
            markers = [y * (np.asarray(NETWORKS[network][0](y))[..., 1] > 0) for y in true]
            sizes = [np.bincount(m.ravel(), minlength=y.max() + 1) for y, m in zip(true, markers, strict=True)]
            lost[network] = sum((n[np.unique(y[y > 0])] < 4).sum() for y, n in zip(true, sizes, strict=True))
    for way, results in found.items():
        yield {"images": kind, "split": k, "method": way} | judge(true, results) | {"no marker": lost.get(way)}


if __name__ == "__main__":
    write_by_kind(__file__, repetition, budget=f"{STEPS} steps of {BATCH} crops", note=NOTE)
