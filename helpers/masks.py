"""Masks: how good one is, and the objects in it.

The gap: scikit-learn's scores take rows, not pictures, and call two empty masks 0 or a warning; NumPy lays a mask of
shape (n, n, 1) over one of (n, n) without a word, and the result is wrong; scikit-image has the watershed and no word
on what to do with an object that no marker fell on.

A mask has shape (height, width) and dtype bool, or whole numbers 0 and 1. A label image holds 0 for the background and
another whole number for each object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

__all__ = ["ObjectCounts", "border_iou", "count_objects", "dice", "iou", "split_touching"]


def iou(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the intersection over union of two masks; of two empty masks, which agree, 1.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (height, width)
        bool, or 0 and 1.

    Raises
    ------
    ValueError
        The shapes differ, or a mask holds anything else, such as probabilities or labels.

    Examples
    --------
    >>> iou([[1, 1, 0]], [[0, 1, 0]])
    0.5
    """
    true, found = _two_masks(y_true, y_pred)
    either = int((true | found).sum())
    return int((true & found).sum()) / either if either else 1.0


def dice(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the Dice coefficient, which is the F1 of the pixels; arguments and empty masks as in `iou`.

    Examples
    --------
    >>> round(dice([[1, 1, 0]], [[0, 1, 0]]), 4)
    0.6667
    """
    overlap = iou(y_true, y_pred)
    return 2 * overlap / (1 + overlap)


def border_iou(y_true: ArrayLike, y_pred: ArrayLike, width: int = 2) -> float:
    """Return the intersection over union of the masks' inner borders only.

    Large objects hide a bad outline in `iou`; here they do not. Boundary IoU of Cheng et al. (2021).

    Parameters
    ----------
    y_true, y_pred : array-like of shape (height, width)
        As in `iou`.
    width : int
        Pixels of a mask that are nearer to the outside than this, or as near, are its border.

    Examples
    --------
    >>> a = np.zeros((12, 12), bool)
    >>> a[1:11, 1:11] = True
    >>> b = np.roll(a, 1, axis=1)
    >>> round(iou(a, b), 3), round(border_iou(a, b), 3)
    (0.818, 0.568)
    """
    if width < 1:
        raise ValueError(f"width must be at least 1 pixel; got {width}.")
    true, found = _two_masks(y_true, y_pred)
    borders = [mask & (_distance(mask) <= width) for mask in (true, found)]
    # A full mask has no border, as an empty one, and they do not agree.
    return iou(*borders) if any(border.any() for border in borders) else iou(true, found)


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    # What lies outside the image is not known to be background.
    return ndimage.distance_transform_edt(mask) if not mask.all() else np.full(mask.shape, np.inf)


@dataclass(frozen=True)
class ObjectCounts:
    """How many objects were found; counts of several images add up.

    Attributes
    ----------
    tp, fp, fn : int
        Objects that were found, found where there is none, and missed.
    """

    tp: int
    fp: int
    fn: int

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Share of the found that are there; 1 if none was found."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 1.0

    @property
    def recall(self) -> float:
        """Share of those that are there that were found; 1 if none is there."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 1 if none is there and none was found."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp + self.fp + self.fn else 1.0


def count_objects(labels_true: ArrayLike, labels_pred: ArrayLike, threshold: float = 0.5) -> ObjectCounts:
    """Count the objects that were found, each at most once.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (height, width)
        Label images.
    threshold : float
        An object is found if the intersection over union with a found one is larger than this, in [0.5, 1): then no
        other one can claim it too.

    Returns
    -------
    ObjectCounts

    Raises
    ------
    ValueError
        The shapes differ, labels are no whole numbers or negative, or the threshold is out of range.

    Examples
    --------
    >>> count_objects([[1, 1, 0, 2]], [[5, 5, 0, 0]])
    ObjectCounts(tp=1, fp=0, fn=1)
    """
    if not 0.5 <= threshold < 1:
        raise ValueError(f"threshold must lie in [0.5, 1); got {threshold}.")
    true, found = _label_image(labels_true, "labels_true"), _label_image(labels_pred, "labels_pred")
    _same_shape(true, found)
    _, true = np.unique(np.append(0, true), return_inverse=True)
    _, found = np.unique(np.append(0, found), return_inverse=True)
    sizes_true, sizes_found = np.bincount(true), np.bincount(found)
    # Only pairs that overlap: a table of all pairs would not fit into memory.
    pairs, both = np.unique(true * len(sizes_found) + found, return_counts=True)
    first, second = np.divmod(pairs, len(sizes_found))
    real = (first > 0) & (second > 0)
    either = sizes_true[first] + sizes_found[second] - both
    tp = int((real & (both > threshold * either)).sum())
    return ObjectCounts(tp, len(sizes_found) - 1 - tp, len(sizes_true) - 1 - tp)


def split_touching(mask: ArrayLike, markers: ArrayLike | None = None, min_distance: int = 4) -> NDArray[np.int32]:
    """Cut a mask into objects, also where they touch, by a watershed.

    Parameters
    ----------
    mask : array-like of shape (height, width)
        As in `iou`.
    markers : array-like of shape (height, width), optional
        A mask with one region inside each object, such as the cores of `helpers.unet.targets`: each pixel goes to the
        region that is nearest within the mask. When left out: the points that lie deepest inside the mask.
    min_distance : int
        Pixels between two such points.

    Returns
    -------
    ndarray of shape (height, width), dtype int32
        0 where the mask is; 1, 2, … the objects. A region of the mask without a marker is an object of its own.

    Raises
    ------
    ValueError
        The shapes differ, a mask holds anything but 0 and 1, or `min_distance` is below 1.

    Examples
    --------
    >>> split_touching([[1, 1, 1, 1, 0, 1]], markers=[[1, 0, 0, 1, 0, 0]])
    array([[1, 1, 2, 2, 0, 3]], dtype=int32)
    """
    if min_distance < 1:
        raise ValueError(f"min_distance must be at least 1 pixel; got {min_distance}.")
    inside = _mask(mask, "mask")
    depth = _distance(inside)
    if markers is None:
        depth = ndimage.gaussian_filter(np.minimum(depth, max(inside.shape)), 1)
        seeds = np.zeros(inside.shape, dtype=np.int32)
        peaks = peak_local_max(depth, min_distance=min_distance, labels=inside.astype(np.int32), exclude_border=False)
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        landscape = -depth
    else:
        cores = _mask(markers, "markers")
        _same_shape(inside, cores)
        seeds, _ = ndimage.label(cores & inside)
        landscape = ndimage.distance_transform_edt(~(cores & inside)) if cores.any() else depth
    regions, number = ndimage.label(inside)
    marked = np.zeros(number + 1, dtype=bool)
    marked[regions[seeds > 0]] = True
    alone = inside & ~marked[regions]
    seeds = np.where(alone, seeds.max(initial=0) + regions, seeds)
    objects = watershed(landscape, seeds, mask=inside)
    _, numbers = np.unique(np.append(0, objects), return_inverse=True)
    return numbers[1:].reshape(inside.shape).astype(np.int32)


def _two_masks(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    true, found = _mask(y_true, "y_true"), _mask(y_pred, "y_pred")
    _same_shape(true, found)
    return true, found


def _mask(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be of shape (height, width); got {array.shape}.")
    if array.dtype.kind not in "biu" or (array.dtype.kind != "b" and not ((array == 0) | (array == 1)).all()):
        known = "probabilities or logits: cut them first" if array.dtype.kind == "f" else "labels: compare with 0 first"
        raise ValueError(f"{name} must be a mask of 0 and 1; got {array.dtype} values, perhaps {known}.")
    return array.astype(bool)


def _label_image(values: ArrayLike, name: str) -> NDArray[np.integer]:
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "biu" or array.min(initial=0) < 0:
        raise ValueError(
            f"{name} must be whole numbers from 0 of shape (height, width); got {array.dtype} of shape {array.shape}."
        )
    return array


def _same_shape(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"both must have the same shape; got {first.shape} and {second.shape}.")
