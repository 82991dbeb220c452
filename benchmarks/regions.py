"""Chapter 5: removing small regions, ours beside SciPy, scikit-image and a loop over regions.

Called by bench.py; as a script it prints the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.morphology import remove_small_objects

from helpers.masks import remove_small_regions

Mask = NDArray[np.bool_]
MIN_SIZE = 64


def blobs(side: int) -> Mask:
    """Return a mask such as a network draws it, of which 1 % of the pixels are wrong."""
    random = np.random.default_rng(0)
    field = random.normal(size=(side, side)).astype(np.float32)
    return (ndimage.gaussian_filter(field, 8) > 0.01) ^ (random.random((side, side)) < 0.01)


def with_scipy(mask: Mask) -> Mask:
    """Label, count, look up."""
    labels: NDArray[Any] = ndimage.label(mask)[0]
    keep = np.bincount(labels.ravel()) >= MIN_SIZE
    keep[0] = False
    return keep[labels]


def with_loop(mask: Mask) -> Mask:
    """Visit each region, as many a tutorial does."""
    kept = mask.copy()
    for region in regionprops(label(mask, connectivity=1)):
        if region.area < MIN_SIZE:
            kept[tuple(region.coords.T)] = False
    return kept


WAYS: dict[str, Callable[[Mask], Mask]] = {
    "helpers.masks": lambda mask: remove_small_regions(mask, MIN_SIZE),
    "SciPy, label and bincount": with_scipy,
    "scikit-image, remove_small_objects": lambda mask: remove_small_objects(mask, max_size=MIN_SIZE - 1),
    "loop over regionprops": with_loop,
}


def region_rows(sides: tuple[int, ...] = (96, 512, 2048, 8192)) -> Iterator[str]:
    """Rows of a table; the ways take turns, and all must give the same mask."""
    yield f"| small regions removed, milliseconds | {' | '.join(WAYS)} |"
    yield "|---" * (1 + len(WAYS)) + "|"
    for side in sides:
        mask = blobs(side)
        expected = remove_small_regions(mask, MIN_SIZE)
        # The loop over regions takes minutes on the largest.
        ways = {name: way for name, way in WAYS.items() if side < 4096 or "loop" not in name}
        best = dict.fromkeys(ways, np.inf)
        for _ in range(100 if side < 1000 else 3):
            for name, way in ways.items():
                started = time.perf_counter()
                answer = way(mask)
                best[name] = min(best[name], time.perf_counter() - started)
                if not np.array_equal(answer, expected):
                    raise AssertionError(f"{side}²: ours and {name} differ.")
        base = best["SciPy, label and bincount"]
        cells = [f"{1000 * best[name]:.3g} ({best[name] / base:.2g})" if name in best else "" for name in WAYS]
        yield f"| {side}², blobs and 1 % noise | {' | '.join(cells)} |"


if __name__ == "__main__":
    for row in region_rows():
        print(row, flush=True)
