"""How much the best of many settings promises too much: post-processing, chosen on few drawings, judged on 300 others.

Validation images are drawn anew for each draw, which shares none with another. What it chooses is judged on the same
300 drawings, which choose nothing. Probabilities are computed once, and so is each split. Takes about an hour.
"""

from __future__ import annotations

import itertools
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.evidence_table import write_table
from helpers import masks, notebook, unet

SEED = 51
POOL, JUDGES = 1000, 300
AMOUNTS = (5, 10, 20, 50, 100)
MOST = 100
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
DEPTHS = (0.01, 0.1, 0.3, 1.0)
SIZES = np.arange(0, 151, 15)
DEFAULT, HALF = (2, 2, 0), (2, 0, 5)
ORDERS = ("split, remove", "remove, split")
# Of each network and order, how many drawings choose, and how many judge.
PLAN = {
    ("early", ORDERS[0]): (POOL, JUDGES),
    ("early", ORDERS[1]): (200, JUDGES),
    ("unet", ORDERS[0]): (100, 150),
    ("markers", ORDERS[0]): (100, 150),
}
# Settings for which the orders are compared: removing before the split has to split again for each size.
BOTH = np.zeros((len(THRESHOLDS), len(DEPTHS), len(SIZES)), dtype=bool)
BOTH[2:4, :2] = True
NOTE = f"""up to {POOL} drawings to choose on, {JUDGES} to judge on (of unet and markers 150), none seen in training;
wide: {len(THRESHOLDS)} thresholds, {len(DEPTHS)} depths, {len(SIZES)} sizes;
threshold: only the thresholds, depth 0.3, nothing removed; order: thresholds 0.5, 0.7, depths 0.01, 0.1, all sizes;
default: threshold 0.5, depth 0.3, nothing removed; half: 0.5, 0.01, removed below 75, half a typical cell;
each size: threshold 0.5, depth 0.01; all: chosen on all drawings to choose on;
best: the best on the drawings that judge, which nobody can choose; best for ...: what all of another network choose"""


def draw(number: int) -> tuple[Any, Any]:
    """Draw one image, whose number is its seed."""
    path = notebook.ROOT / "datasets" / "cells" / "build.py"
    return runpy.run_path(str(path))["draw"](np.random.default_rng([SEED, number]))


def matches(true: Any, found: Any) -> tuple[Any, Any]:
    """Return for each object found its pixels, and whether its IoU with a true one is above one half."""
    table = np.zeros((true.max() + 1, found.max() + 1), dtype=int)
    np.add.at(table, (true, found), 1)
    union = table.sum(axis=1)[:, np.newaxis] + table.sum(axis=0) - table
    return table.sum(axis=0)[1:], (2 * table > union)[1:, 1:].any(axis=0)


def counts(true: Any, prob: Any, order: str) -> Any:
    """Return tp, fp and fn of one image for each threshold, depth and size."""
    result = np.zeros((*BOTH.shape, 3), dtype=np.int16)
    for (i, threshold), (j, depth) in itertools.product(enumerate(THRESHOLDS), enumerate(DEPTHS)):
        if order == ORDERS[1] and not BOTH[i, j, 0]:
            continue
        mask, known = prob >= threshold, dict[int, Any]()
        for k, size in enumerate(SIZES):
            cleaned = masks.remove_small_regions(mask, int(size)) if order == ORDERS[1] else mask
            left = int(cleaned.sum())  # Larger sizes remove more: as many pixels are the same pixels.
            if left not in known:
                known[left] = matches(true, masks.split_touching(cleaned, min_depth=depth))
            areas, right = known[left]
            stays = areas >= (size if order == ORDERS[0] else 0)
            tp = int((stays & right).sum())
            result[i, j, k] = tp, stays.sum() - tp, true.max() - tp
    return result


def f1(table: Any) -> Any:
    """Return F1 of the objects of all images together; images are the last axis but one."""
    tp, fp, fn = np.moveaxis(np.asarray(table, dtype=int).sum(axis=-2), -1, 0)
    return 2 * tp / np.maximum(2 * tp + fp + fn, 1)


def best_of(scores: Any, grid: str) -> tuple[int, int, int]:
    """Return the place of the best setting of a grid, of equal ones the first."""
    allowed = BOTH if grid == "order" else np.full(scores.shape, grid == "wide")
    if grid == "threshold":
        allowed[:, DEFAULT[1], DEFAULT[2]] = True
    i, j, k = np.unravel_index(np.where(allowed, scores, -1).argmax(), scores.shape)
    return int(i), int(j), int(k)


def setting(place: tuple[int, int, int]) -> dict[str, Any]:
    i, j, k = place
    return {"threshold": THRESHOLDS[i], "min_depth": DEPTHS[j], "min_size": int(SIZES[k])}


def rows_of(network: str, order: str, pool: Any, judges: Any) -> Iterator[dict[str, Any]]:
    """Yield for each draw what was chosen from each grid, with its F1 where it was chosen and where it is judged."""
    on_test, every = f1(judges), pool.shape[-2]
    for images in AMOUNTS:
        for number in range(min(every // images, MOST)):
            here = f1(pool[..., number * images : (number + 1) * images, :])
            places = {"order": best_of(here, "order"), "half": HALF}
            if order == ORDERS[0]:
                places |= {grid: best_of(here, grid) for grid in ("wide", "threshold")} | {"default": DEFAULT}
            for grid, place in places.items():
                row = {"network": network, "order": order, "images": images, "draw": number, "grid": grid}
                yield row | setting(place) | {"validation": here[place], "test": on_test[place]}
    on_pool = f1(pool)
    best = [("all", 0, best_of(on_pool, "wide")), ("best", 0, best_of(on_test, "wide"))]
    for grid, number, place in [*best, *(("each size", k, (*HALF[:2], k)) for k in range(len(SIZES)))]:
        row = {"network": network, "order": order, "images": every, "draw": number, "grid": grid}
        yield row | setting(place) | {"validation": on_pool[place], "test": on_test[place]}


def transfers(pools: dict[str, Any], tests: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the setting gives for one network that is best for another one."""
    for network, other in itertools.permutations(pools, 2):
        place, here = best_of(f1(pools[other]), "wide"), f1(pools[network])
        row = {"network": network, "order": ORDERS[0], "images": pools[other].shape[-2], "draw": 0}
        row["grid"] = f"best for {other}"
        yield row | setting(place) | {"validation": here[place], "test": f1(tests[network])[place]}


def tabulate(drawn: Any, network: str, order: str) -> tuple[Any, Any]:
    """Return the counts of the drawings that choose, and of those that judge."""
    model = keras.saving.load_model(notebook.ROOT / "datasets" / "cells" / f"{network}.keras")
    choose, judge = PLAN[network, order]
    numbers = [*range(choose), *range(POOL, POOL + judge)]
    X = np.stack([unet.standardize(drawn[i][0][..., np.newaxis]) for i in numbers])
    prob = expit(model.predict(X, verbose=0)[..., 0].astype(float))
    pairs = notebook.progress(list(zip(numbers, prob, strict=True)), f"{network}, {order}")
    table = np.stack([counts(drawn[i][1], one, order) for i, one in pairs], axis=-2)
    return table[..., :choose, :], table[..., choose:, :]


def main() -> None:
    """Make all rows."""
    notebook.setup({}, exact=False)
    drawn = [draw(number) for number in notebook.progress(range(POOL + JUDGES), "drawing")]
    rows, pools, tests = list[dict[str, Any]](), dict[str, Any](), dict[str, Any]()
    for network, order in PLAN:
        pool, judges = tabulate(drawn, network, order)
        rows += rows_of(network, order, pool, judges)
        if order == ORDERS[0]:
            pools[network], tests[network] = pool, judges
    write_table(
        __file__,
        pd.DataFrame([*rows, *transfers(pools, tests)]).round(4),
        seeds=f"drawings {SEED}, each with its number",
        budget=f"{len(THRESHOLDS) * len(DEPTHS) * len(SIZES)} settings for each network and order",
        note=NOTE,
        packages=("keras", "scikit-image", "numpy"),
    )


if __name__ == "__main__":
    main()
