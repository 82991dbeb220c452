"""Connected regions of masks, found by runs.

The gap: every library labels each pixel, and most questions about regions (how large, at the border, which to keep)
need no labels. A run is a stretch of equal pixels along a row. Realistic masks have few: their regions are those of a
graph of runs that touch in neighbouring rows. Dense noise has many, and there SciPy's labelling is faster and used.

A mask has shape (..., height, width), or (..., depth, height, width) with ``ndim=3``; what stands before is a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

__all__ = ["PixelRegions", "RunRegions", "find_regions", "has_one_value"]

# Runs a pixel at which labelling with SciPy has caught up, as measured.
DENSE = 0.07

# Pixels that are copied at a time.
PIECE = 100_000


def find_regions(mask: NDArray[Any], connectivity: int = 1, ndim: int = 2) -> RunRegions | PixelRegions:
    """Find the regions of connected pixels of one value that is not 0.

    Parameters
    ----------
    mask : ndarray of shape (..., height, width), or (..., depth, height, width) with ``ndim=3``
        bool, or whole numbers. Each image of a batch stands for itself.
    connectivity : int
        As scikit-image counts it: 1, pixels that share a side; 2, or an edge; up to `ndim`, or a corner.
    ndim : {2, 3}
        Axes of one image, which are the last ones.

    Returns
    -------
    RunRegions or PixelRegions
        Numbered from 0, image by image. Both have `sizes` and `images` (of shape (n_regions,)), `at_border`,
        `containing` and `kept`.

    Raises
    ------
    ValueError
        `ndim` is not 2 or 3, `connectivity` is not in 1 … `ndim`, or the mask has fewer axes.

    Examples
    --------
    >>> regions = find_regions(np.array([[1, 1, 0, 1], [0, 0, 1, 0]], bool))
    >>> regions.sizes
    array([2, 1, 1])
    >>> regions.kept(regions.sizes > 1).astype(int)
    array([[1, 1, 0, 0],
           [0, 0, 0, 0]])
    """
    whole = all(isinstance(number, (int, np.integer)) for number in (connectivity, ndim))
    if not whole or ndim not in (2, 3) or not 1 <= connectivity <= ndim:
        raise ValueError(f"connectivity must be in 1 … ndim, and ndim 2 or 3; got {connectivity!r} and {ndim!r}.")
    if mask.ndim < ndim:
        raise ValueError(f"mask must have at least {ndim} axes; got shape {mask.shape}.")
    changes = _changes(mask)
    number = np.count_nonzero(changes)
    # Only labels need to be told apart.
    one_value = has_one_value(mask)
    if one_value and number > 2 * DENSE * mask.size:
        return _pixel_regions(mask, connectivity, ndim)
    edges = np.flatnonzero(changes)
    del changes
    starts, ends = edges[:-1], edges[1:]
    width = mask.shape[-1] + 1
    if one_value:
        starts, ends, values = starts[::2], ends[::2], None
    else:
        # The column behind a row is background.
        line, column = np.divmod(starts, width)
        values = np.where(column < width - 1, mask.reshape(-1)[np.minimum(starts - line, max(mask.size - 1, 0))], 0)
        starts, ends, values = starts[values != 0], ends[values != 0], values[values != 0]
    return RunRegions(mask, ndim, starts, ends, _components(mask.shape, ndim, connectivity, starts, ends, values))


def has_one_value(mask: NDArray[Any]) -> bool:
    """Tell whether a mask holds nothing but 0 and one other value, as bool does, and 0 and 255.

    Examples
    --------
    >>> has_one_value(np.array([[0, 255]])), has_one_value(np.array([[0, 1, 2]]))
    (True, False)
    """
    return mask.dtype == bool or bool(((mask == 0) | (mask == mask.max(initial=0))).all())


@dataclass(frozen=True)
class RunRegions:
    """Regions as runs of pixels: what `find_regions` returns for most masks.

    Attributes
    ----------
    mask : ndarray
        Whose regions they are.
    ndim : int
        Axes of one image.
    starts, ends : ndarray of int of shape (n_runs,)
        First pixel of each run and the one behind its last, counted through rows that are one pixel wider.
    region : ndarray of int of shape (n_runs,)
        Number of the region of each run.
    """

    mask: NDArray[Any]
    ndim: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    region: NDArray[np.int32]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Pixels of each region."""
        # Weights make floats, which are exact up to 2^53 pixels.
        return np.bincount(self.region, self.ends - self.starts).astype(np.int64)

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """Number of each region's image within the batch."""
        found = np.zeros(len(self.sizes), dtype=np.int64)
        found[self.region] = self._lines // math.prod(self.mask.shape[-self.ndim : -1])
        return found

    @cached_property
    def at_border(self) -> NDArray[np.bool_]:
        """Whether each region reaches the border of its image."""
        column, line = self.starts % self._width, self._lines
        touching = (column == 0) | (column + self.ends - self.starts == self._width - 1)
        for size in self.mask.shape[-2 : -self.ndim - 1 : -1]:
            line, at = np.divmod(line, size)
            touching |= (at == 0) | (at == size - 1)
        return self._any(touching)

    def containing(self, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which regions hold at least one of the pixels, a mask of the same shape."""
        edges = np.flatnonzero(_changes(pixels))
        behind = np.searchsorted(edges[::2], self.ends, side="left")
        return self._any(behind > np.searchsorted(edges[1::2], self.starts, side="right"))

    def kept(self, keep: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the mask with those regions only whose entry in `keep`, of shape (n_regions,), is true."""
        runs = keep[self.region]
        few = 2 * self.sizes[keep].sum() < self.sizes.sum()
        result = np.zeros(self.mask.shape, self.mask.dtype) if few else self.mask.copy()
        # Fewer pixels are touched when the kept ones are copied, or else the others are erased.
        runs = runs if few else ~runs
        starts, lengths = (self.starts - self._lines)[runs], (self.ends - self.starts)[runs]
        old, new = self.mask.reshape(-1), result.reshape(-1)
        # In pieces: the numbers of the pixels take eight times the space of a mask.
        pieces = np.searchsorted(np.cumsum(lengths), np.arange(PIECE, lengths.sum(), PIECE))
        for start, length in zip(np.split(starts, pieces), np.split(lengths, pieces), strict=True):
            pixels = _ranges(start, length)
            new[pixels] = old[pixels] if few else 0
        return result

    @property
    def _width(self) -> int:
        return int(self.mask.shape[-1]) + 1

    @cached_property
    def _lines(self) -> NDArray[np.int64]:
        return self.starts // self._width

    def _any(self, runs: NDArray[np.bool_]) -> NDArray[np.bool_]:
        found = np.zeros(len(self.sizes), dtype=bool)
        found[self.region[runs]] = True
        return found


@dataclass(frozen=True)
class PixelRegions:
    """Regions as a label image: what `find_regions` returns for dense noise; members as in `RunRegions`.

    Attributes
    ----------
    mask : ndarray of bool, or of 0 and another whole number
        Whose regions they are.
    ndim : int
        Axes of one image.
    labels : ndarray of int of the mask's shape
        0, or the number of the pixel's region plus 1.
    """

    mask: NDArray[Any]
    ndim: int
    labels: NDArray[np.int32]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Pixels of each region."""
        return np.bincount(self.labels.reshape(-1))[1:]

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """Number of each region's image within the batch."""
        last = self.labels.reshape(-1, math.prod(self.mask.shape[-self.ndim :])).max(axis=1)
        return np.searchsorted(np.maximum.accumulate(last), np.arange(1, len(self.sizes) + 1))

    @cached_property
    def at_border(self) -> NDArray[np.bool_]:
        """Whether each region reaches the border of its image."""
        axes = range(-self.ndim, 0)
        return self._any(np.concatenate([self.labels.take((0, -1), axis).reshape(-1) for axis in axes]))

    def containing(self, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which regions hold at least one of the pixels, a mask of the same shape."""
        return self._any(self.labels[pixels])

    def kept(self, keep: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the mask with those regions only whose entry in `keep`, of shape (n_regions,), is true."""
        return np.append(False, keep).astype(self.mask.dtype)[self.labels] * self.mask.max(initial=0)

    def _any(self, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
        found = np.zeros(len(self.sizes) + 1, dtype=bool)
        found[labels] = True
        return found[1:]


def _changes(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell where a pixel differs from the one before it, in rows with one pixel of background before and behind."""
    changes = np.empty((*mask.shape[:-1], mask.shape[-1] + 1), dtype=bool)
    if not mask.size:
        changes[...] = False
        return changes
    np.not_equal(mask[..., 1:], mask[..., :-1], out=changes[..., 1:-1])
    np.not_equal(mask[..., 0], 0, out=changes[..., 0])
    np.not_equal(mask[..., -1], 0, out=changes[..., -1])
    return changes


def _components(
    shape: tuple[int, ...],
    ndim: int,
    connectivity: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    values: NDArray[Any] | None,
) -> NDArray[np.int32]:
    """Return the number of each run's region, in the order of their first runs."""
    starts, ends = (_with_gaps(shape, ndim, starts, edges) for edges in (starts, ends))
    firsts, others = [], []
    for offset in product((-1, 0, 1), repeat=ndim - 1):
        beside = sum(map(abs, offset))
        # Neighbours are mutual: the half that lies ahead is enough.
        if offset <= (0,) * (ndim - 1) or beside > connectivity:
            continue
        distance = offset[-1] * (shape[-1] + 1)
        if ndim == 3:
            distance += offset[0] * (shape[-2] + 1) * (shape[-1] + 1)
        # With a step to spare, a run also touches what lies one pixel to its side.
        wider = int(beside < connectivity)
        low = np.searchsorted(ends, starts + (distance - wider), side="right")
        number = np.maximum(np.searchsorted(starts, ends + (distance + wider), side="left") - low, 0)
        firsts.append(np.repeat(np.arange(len(starts)), number))
        others.append(_ranges(low, number))
    first, other = np.concatenate(firsts), np.concatenate(others)
    if values is not None:
        same = values[first] == values[other]
        first, other = first[same], other[same]
    graph = csr_array((np.ones(len(first)), (first, other)), shape=(len(starts), len(starts)))
    return connected_components(graph, directed=False)[1]


def _with_gaps(
    shape: tuple[int, ...], ndim: int, starts: NDArray[np.int64], edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count pixels as if one row of background stood behind each image, and behind each of its slices."""
    width, planes = shape[-1] + 1, starts // ((shape[-1] + 1) * max(shape[-2], 1))
    edges = edges + planes * width
    return edges + planes // max(shape[-3], 1) * ((shape[-2] + 1) * width) if ndim == 3 else edges


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, … of each length, one after the other."""
    behind = np.cumsum(lengths)
    return np.arange(behind[-1] if len(behind) else 0) + np.repeat(starts - behind + lengths, lengths)


def _pixel_regions(mask: NDArray[Any], connectivity: int, ndim: int) -> PixelRegions:
    structure = np.zeros((3,) * mask.ndim, dtype=bool)
    # Nothing connects the images of a batch.
    structure[(1,) * (mask.ndim - ndim)] = ndimage.generate_binary_structure(ndim, connectivity)
    return PixelRegions(mask, ndim, ndimage.label(mask, structure)[0])
