"""Chapter 06: removing small regions, ours beside the other libraries; OpenCV and cc3d where they are installed.

Called by bench.py; as a script it prints the table.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import disk
from skimage.measure import label, regionprops
from skimage.morphology import remove_small_objects

from helpers.masks import remove_small_regions

Mask = NDArray[np.bool_]
# Regions that a loop in Python visits within some seconds.
LOOP = 200_000


class Case(NamedTuple):
    """A mask, or a batch of masks, and the size from which its regions stay."""

    what: str
    mask: Mask
    min_size: int
    regions: int


def discs(side: int, number: int) -> Mask:
    """Return a mask of `number` discs of many sizes, none of which touch."""
    random = np.random.default_rng(0)
    per_row = ceil(sqrt(number))
    pitch = side // per_row
    shapes = []
    for radius in np.unique(np.linspace(1, (pitch - 1) / 2, 20)):
        shape = np.zeros((pitch - 1, pitch - 1), dtype=bool)
        shape[disk(((pitch - 2) / 2,) * 2, radius, shape=shape.shape)] = True
        shapes.append(shape)
    mask = np.zeros((side, side), dtype=bool)
    for place, which in enumerate(random.integers(0, len(shapes), number)):
        top, left = (pitch * at for at in divmod(place, per_row))
        mask[top : top + pitch - 1, left : left + pitch - 1] = shapes[which]
    return mask


def blobs(shape: tuple[int, ...], noise: float = 0.0) -> Mask:
    """Return masks such as a network draws them, of which a share of the pixels is wrong."""
    random = np.random.default_rng(0)
    field = random.normal(size=shape).astype(np.float32)
    mask = ndimage.gaussian_filter(field, (0,) * (len(shape) - 2) + (8, 8)) > 0.01
    return mask ^ (random.random(shape) < noise)


def cases() -> Iterator[Case]:
    """Yield the masks of the table, one after the other: the largest take 64 MiB."""
    for side, numbers in ((512, (10, 10_000)), (2048, (10, 100_000)), (8192, (10, 100_000))):
        for number in numbers:
            mask = discs(side, number)
            yield _case(f"{side}², {number:,} regions", mask, int(mask.sum() / number))
    yield _case("2048², blobs and 1 % noise", blobs((2048, 2048), 0.01), 64)
    yield _case("2048², 40 % noise", np.random.default_rng(0).random((2048, 2048)) < 0.4, 64)
    yield _case("64 × 256², blobs", blobs((64, 256, 256)), 64)


def _case(what: str, mask: Mask, min_size: int) -> Case:
    return Case(what, mask, min_size, ndimage.label(mask, _structure(mask))[1])


def _structure(mask: Mask) -> Mask:
    structure = np.zeros((3,) * mask.ndim, dtype=bool)
    structure[(1,) * (mask.ndim - 2)] = ndimage.generate_binary_structure(2, 1)
    return structure


def with_scipy(mask: Mask, min_size: int) -> Mask:
    """Label, count, look up."""
    return _looked_up(ndimage.label(mask, _structure(mask))[0], min_size)


def with_skimage(mask: Mask, min_size: int) -> Mask:
    """Call what scikit-image has for it."""
    return _each(lambda image: remove_small_objects(image, max_size=min_size - 1), mask)


def with_loop(mask: Mask, min_size: int) -> Mask:
    """Visit each region, as many a tutorial does."""

    def one(image: Mask) -> Mask:
        kept = image.copy()
        for region in regionprops(label(image, connectivity=1)):
            if region.area < min_size:
                kept[tuple(region.coords.T)] = False
        return kept

    return _each(one, mask)


def others() -> dict[str, Callable[[Mask, int], Mask]]:
    """Return the ways of libraries that are no dependency, if they are there."""
    found: dict[str, Callable[[Mask, int], Mask]] = {}
    try:
        import cv2

        def one_by_cv2(image: Mask, min_size: int) -> Mask:
            return _looked_up(cv2.connectedComponents(image.view(np.uint8), connectivity=4)[1], min_size)

        found["OpenCV and bincount"] = lambda mask, size: _each(lambda image: one_by_cv2(image, size), mask)
    except ImportError:
        pass
    try:
        import cc3d

        def one_by_cc3d(image: Mask, min_size: int) -> Mask:
            return _looked_up(cc3d.connected_components(image, connectivity=4), min_size)

        found["cc3d and bincount"] = lambda mask, size: _each(lambda image: one_by_cc3d(image, size), mask)
    except ImportError:
        pass
    return found


def _looked_up(labels: NDArray[Any], min_size: int) -> Mask:
    keep = np.bincount(labels.reshape(-1)) >= min_size
    keep[0] = False
    return keep[labels]


def _each(call: Callable[[Mask], Mask], mask: Mask) -> Mask:
    images = mask.reshape(-1, *mask.shape[-2:])
    return call(mask) if mask.ndim == 2 else np.stack([call(image) for image in images]).reshape(mask.shape)


def region_rows(turns: int = 3) -> Iterator[str]:
    """Chapter 06: rows of a table; the ways take turns, and all must give the same mask."""
    ours: dict[str, Callable[[Mask, int], Mask]] = {
        "helpers.masks": remove_small_regions,
        "SciPy, label and bincount": with_scipy,
    }
    theirs = {"scikit-image, remove_small_objects": with_skimage, **others(), "loop over regionprops": with_loop}
    names = [*ours, *theirs]
    yield f"| small regions removed, milliseconds | {' | '.join(names)} | bytes a pixel, helpers.masks and SciPy |"
    yield "|---" * (2 + len(names)) + "|"
    for case in cases():
        ways = {name: way for name, way in (ours | theirs).items() if way is not with_loop or case.regions <= LOOP}
        expected = remove_small_regions(case.mask, case.min_size)
        best = dict.fromkeys(ways, np.inf)
        for turn in range(turns):
            for name, way in ways.items():
                # Once is enough of what takes long.
                if turn and best[name] > 5:
                    continue
                started = time.perf_counter()
                answer = way(case.mask, case.min_size)
                best[name] = min(best[name], time.perf_counter() - started)
                if not np.array_equal(answer, expected):
                    raise AssertionError(f"{case.what}: ours and {name} differ.")
        base = best["SciPy, label and bincount"]
        cells = [f"{1000 * best[name]:.3g} ({best[name] / base:.2g})" if name in best else "–" for name in names]
        space = " and ".join(f"{_peak(way, case):.1f}" for way in ours.values())
        yield f"| {case.what} | {' | '.join(cells)} | {space} |"


def _peak(way: Callable[[Mask, int], Mask], case: Case) -> float:
    tracemalloc.start()
    try:
        way(case.mask, case.min_size)
        return tracemalloc.get_traced_memory()[1] / case.mask.size
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    for row in region_rows():
        print(row, flush=True)
