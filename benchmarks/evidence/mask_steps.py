"""Each step of post-processing by itself, on drawings and on photographs; lesson 50 draws the table.

python benchmarks/evidence/mask_steps.py                      makes the rows of the drawings anew
python benchmarks/evidence/mask_steps.py --photographs DIR    those of photographs: DIR/images and DIR/masks

Networks are stopped early, so that their masks are noisy. Sizes of steps follow from the objects of the training
images; nothing is chosen on the images that judge. Splits are those of touching_objects.py: split k of the photographs
permutes their sorted names by default_rng(k) and trains on the first 70; that of the drawings trains on 300 of the
first 600, and judges on 100 of the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from skimage.measure import label, regionprops

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.cell_images import CROPS, parts, write_by_kind
from helpers import masks, unet

STEPS = 60
NOTE = (
    "photographs: 100 photographs of BBBC038, 2018 Data Science Bowl, CC0, 70 to train, 30 to judge;\n"
    "drawings: datasets/cells, 300 to train, 100 to judge;\n"
    "each step is followed by a split, or follows it; small: the smallest tenth of the training objects, or smaller"
)


def holes_of_each(labels: Any) -> Any:
    """Fill the holes of each object."""
    filled = labels.copy()
    for region in regionprops(labels):
        hole = region.image_filled & (labels[region.slice] == 0)
        filled[region.slice][hole] = region.label
    return filled


def steps_of(typical: float) -> dict[str, Callable[[Any], Any]]:
    """Return ways from probabilities to objects, with sizes from the median area of an object."""
    eighth, half, radius = int(typical / 8), int(typical / 2), np.sqrt(typical / np.pi)
    cut, split = masks.binarize, masks.split_touching
    return {
        "connected components": lambda p: label(cut(p), connectivity=1),
        "split": lambda p: split(cut(p)),
        "threshold 0.3, split": lambda p: split(p >= 0.3),
        "threshold 0.7, split": lambda p: split(p >= 0.7),
        "below 1/8 removed, split": lambda p: split(masks.remove_small_regions(cut(p), eighth)),
        "below 1/2 removed, split": lambda p: split(masks.remove_small_regions(cut(p), half)),
        "split, below 1/8 removed": lambda p: masks.remove_small_regions(split(cut(p)), eighth),
        "split, below 1/2 removed": lambda p: masks.remove_small_regions(split(cut(p)), half),
        "holes filled, split": lambda p: split(masks.fill_holes(cut(p))),
        "split, holes filled": lambda p: holes_of_each(split(cut(p))),
        "hysteresis 0.9, split": lambda p: split(masks.hysteresis(p, 0.5, 0.9)),
        "opened by 0.2 r, split": lambda p: split(masks.opening(cut(p), 0.2 * radius)),
        "closed by 0.2 r, split": lambda p: split(masks.closing(cut(p), 0.2 * radius)),
    }


def areas_of(labels: Any) -> Any:
    """Return the areas of all objects."""
    areas = np.concatenate([np.bincount(np.maximum(y, 0).ravel())[1:] for y in labels])
    return areas[areas > 0]


def judge(true: Any, found: Any, small: float) -> dict[str, Any]:
    """Return what the table tells of label images."""
    every, few = masks.ObjectCounts(0, 0, 0), masks.ObjectCounts(0, 0, 0)
    for y, labels in zip(true, found, strict=True):
        areas = np.bincount(np.maximum(y, 0).ravel())
        every += masks.count_objects(y, labels)
        few += masks.count_objects(np.where((areas <= small)[y], y, 0), labels)
    iou = np.mean([masks.iou(np.sign(y), labels > 0) for y, labels in zip(true, found, strict=True)])
    counts = {"found": every.tp, "false": every.fp, "missed": every.fn, "small found": few.tp, "small": few.tp + few.fn}
    return {"F1": every.f1, "IoU": iou} | counts


def repetition(kind: str, cells: Any, k: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one split."""
    train, test = parts(kind, cells, k)
    areas, true = areas_of(cells.y[i] for i in train), [cells.y[i] for i in test]
    given = [cells.X[i] for i in train], [cells.y[i] for i in train]
    network = unet.train(*given, steps=STEPS, crop=CROPS[kind], seed=k)
    y_prob = [expit(unet.predict_tiled(network, unet.standardize(cells.X[i]))[..., 0]) for i in test]
    for name, way in steps_of(float(np.median(areas))).items():
        row = judge(true, [way(p) for p in y_prob], np.quantile(areas, 0.1))
        yield {"images": kind, "split": k, "way": name} | row


if __name__ == "__main__":
    write_by_kind(__file__, repetition, budget=f"{STEPS} steps of 8 crops", note=NOTE)
