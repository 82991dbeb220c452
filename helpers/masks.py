"""Masks: from probabilities to objects, and how good either is.

The gap: scikit-image's steps take what they are given. They cut nothing from probabilities, count the pixels of a
region differently from function to function, and know no batches. scikit-learn's scores take rows, not pictures, and
call two empty masks 0 or a warning. NumPy lays a mask of shape (n, n, 1) over one of (n, n) without a word.

A mask has dtype bool, or whole numbers with 0 as the background. A label image holds another number for each object.
Steps take shape (..., height, width), where what stands before is a batch, or with ``ndim=3`` shape (..., depth,
height, width). They return a new array of the same shape and dtype. Scores take one image, of two or three axes.

Connected regions of masks, found by runs.

The gap: every library labels each pixel, and most questions about regions (how large, at the border, which to keep)
need no labels. A run is a stretch of equal pixels along a row. Realistic masks have few: their regions are those of a
graph of runs that touch in neighbouring rows. Dense noise has many, and there SciPy's labelling is faster and used.

A mask has shape (..., height, width), or (..., depth, height, width) with ``ndim=3``; what stands before is a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import product
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label
from skimage.morphology import reconstruction
from skimage.segmentation import relabel_sequential, watershed
from sklearn.model_selection import ParameterGrid

__all__ = [
    "BoundaryDistance",
    "ObjectCounts",
    "PixelRegions",
    "RunRegions",
    "Tuned",
    "apply_pipeline",
    "binarize",
    "boundary_iou",
    "boundary_distance",
    "closing",
    "count_objects",
    "dice",
    "fill_holes",
    "find_regions",
    "has_one_value",
    "hysteresis",
    "iou",
    "keep_largest",
    "opening",
    "remove_small_regions",
    "split_touching",
    "tune",
]

Step = Callable[..., Any]


def binarize(y_prob: ArrayLike, threshold: float = 0.5) -> NDArray[np.bool_]:
    """Cut probabilities into a mask: true where they are at least `threshold`.

    Parameters
    ----------
    y_prob : array-like of float
        Probabilities of one class, of any shape.
    threshold : float
        In [0, 1].

    Returns
    -------
    ndarray of bool of the same shape

    Raises
    ------
    ValueError
        The threshold is out of range, or the values are no probabilities of one class: logits, NaN, whole numbers, a
        mask that is cut already, or classes along the last axis.

    Examples
    --------
    >>> binarize([[0.2, 0.5, 0.9]])
    array([[False,  True,  True]])
    """
    if not 0 <= _number(threshold, "threshold") <= 1:
        raise ValueError(f"threshold must lie in [0, 1]; got {threshold}.")
    return _probabilities(y_prob) >= threshold


def hysteresis(
    y_prob: ArrayLike, low: float, high: float, connectivity: int = 1, *, ndim: int = 2
) -> NDArray[np.bool_]:
    """Cut probabilities at `low`, and keep the regions that reach `high` somewhere.

    Parameters
    ----------
    y_prob : array-like of float of shape (..., height, width)
        Probabilities of one class.
    low, high : float
        In [0, 1], `low` not above `high`. Both count as reached when equal.
    connectivity, ndim : int
        As in `remove_small_regions`.

    Raises
    ------
    ValueError
        As in `binarize` and `remove_small_regions`.

    Examples
    --------
    >>> hysteresis([[0.6, 0.9, 0.1, 0.6]], low=0.5, high=0.8)
    array([[ True,  True, False, False]])
    """
    if not 0 <= _number(low, "low") <= _number(high, "high") <= 1:
        raise ValueError(f"low and high must lie in [0, 1], low first; got {low} and {high}.")
    probabilities = _stack(_probabilities(y_prob), "y_prob", ndim)
    regions = find_regions(probabilities >= low, connectivity, ndim)
    return regions.kept(regions.containing(probabilities >= high))


def remove_small_regions(mask: ArrayLike, min_size: int, connectivity: int = 1, *, ndim: int = 2) -> NDArray[Any]:
    """Set regions of fewer than `min_size` pixels to 0.

    Parameters
    ----------
    mask : array-like of shape (..., height, width), or (..., depth, height, width) with ``ndim=3``
        A mask or label image, or a batch of them. A region is what hangs together and has one value: objects that
        touch are several, and an object in two pieces is two.
    min_size : int
        Pixels. Regions of exactly this size stay.
    connectivity : int
        As scikit-image counts it. 1: pixels that share a side hang together, 4 neighbours, or 6 in a volume. 2: also
        those that share a corner, or an edge in a volume. 3: in a volume, also those that share a corner.
    ndim : {2, 3}
        Axes of one image.

    Returns
    -------
    ndarray of the same shape and dtype

    Raises
    ------
    ValueError
        Probabilities, negative numbers, a channel axis of length 1, or a parameter that does not fit.

    Notes
    -----
    ``skimage.morphology.remove_small_objects`` takes the largest size that goes, not the smallest that stays, and
    adds up the pieces of a label. In areas: divide by the area of a pixel.

    Examples
    --------
    >>> remove_small_regions([[1, 1, 0, 1], [0, 0, 1, 0]], min_size=2)
    array([[1, 1, 0, 0],
           [0, 0, 0, 0]])
    >>> remove_small_regions([[1, 1, 0, 1], [0, 0, 1, 0]], min_size=2, connectivity=2)
    array([[1, 1, 0, 1],
           [0, 0, 1, 0]])
    """
    _whole(min_size, "min_size")
    regions = find_regions(_stack(mask, "mask", ndim), connectivity, ndim)
    return regions.kept(regions.sizes >= min_size)


def keep_largest(mask: ArrayLike, connectivity: int = 1, *, ndim: int = 2) -> NDArray[Any]:
    """Keep the largest region of each image; of equal ones the first. Parameters and errors: `remove_small_regions`.

    Examples
    --------
    >>> keep_largest([[1, 1, 0, 1], [0, 0, 1, 0]])
    array([[1, 1, 0, 0],
           [0, 0, 0, 0]])
    """
    regions = find_regions(_stack(mask, "mask", ndim), connectivity, ndim)
    # Stable, so that the first of equal ones comes first.
    order = np.lexsort((-regions.sizes, regions.images))
    _, first = np.unique(regions.images[order], return_index=True)
    keep = np.zeros(len(order), dtype=bool)
    keep[order[first]] = True
    return regions.kept(keep)


def fill_holes(mask: ArrayLike, max_size: int | None = None, connectivity: int = 1, *, ndim: int = 2) -> NDArray[Any]:
    """Fill what the mask encloses: regions of background that do not reach the border of the image.

    Parameters
    ----------
    mask : array-like of shape (..., height, width), or (..., depth, height, width) with ``ndim=3``
        0 and one other value, which fills the holes.
    max_size : int, optional
        Pixels. Larger holes stay. All are filled when it is left out.
    connectivity : int
        Of the background, as in `remove_small_regions`.
    ndim : {2, 3}
        Axes of one image.

    Returns
    -------
    ndarray of the same shape and dtype

    Raises
    ------
    ValueError
        As in `remove_small_regions`; and a label image: a hole between two objects belongs to neither.

    Examples
    --------
    >>> fill_holes([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    array([[1, 1, 1],
           [1, 1, 1],
           [1, 1, 1]])
    """
    values, value = _one_value(mask, ndim)
    regions = find_regions(values == 0, connectivity, ndim)
    holes = ~regions.at_border
    if max_size is not None:
        _whole(max_size, "max_size")
        holes &= regions.sizes <= max_size
    return np.where(regions.kept(holes), value, values)


def opening(mask: ArrayLike, radius: float, *, spacing: float | Sequence[float] = 1.0, ndim: int = 2) -> NDArray[Any]:
    """Remove what a disc (in a volume: a ball) of a radius does not fit into: thin bridges, spikes, specks.

    What lies outside the image is not known to be background: an object at the border is not worn off there, and
    `closing` fills a gap to the border, too. The cost does not depend on the radius.

    Parameters
    ----------
    mask : array-like
        As in `fill_holes`.
    radius : float
        In the units of `spacing`.
    spacing : float or sequence of float
        Size of a pixel along each axis of the image.
    ndim : {2, 3}
        Axes of one image.

    Raises
    ------
    ValueError
        As in `fill_holes`; the radius is negative, or the spacing does not fit.

    Examples
    --------
    >>> opening([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], radius=1)
    array([[1, 1, 1, 0, 0],
           [1, 1, 1, 1, 0],
           [1, 1, 1, 0, 0]])
    """
    return _by_discs((_eroded, _dilated), mask, radius, spacing, ndim)


def closing(mask: ArrayLike, radius: float, *, spacing: float | Sequence[float] = 1.0, ndim: int = 2) -> NDArray[Any]:
    """Fill what a disc of a radius does not fit into: gaps, notches, small holes. Parameters and errors: `opening`.

    Examples
    --------
    >>> closing([[1, 1, 0, 1, 1]], radius=1)
    array([[1, 1, 1, 1, 1]])
    """
    return _by_discs((_dilated, _eroded), mask, radius, spacing, ndim)


def split_touching(
    mask: ArrayLike,
    markers: ArrayLike | None = None,
    min_depth: float = 0.3,
    *,
    spacing: float | Sequence[float] = 1.0,
) -> NDArray[np.int32]:
    """Cut a mask into objects, also where they touch, by a watershed.

    Parameters
    ----------
    mask : array-like of shape (height, width) or (depth, height, width)
        0 and 1.
    markers : array-like of the same shape, optional
        A mask with one region inside each object, such as the cores of `helpers.unet.targets`: each pixel goes to the
        region that is nearest within the mask. When left out: the tops of the distance to the background.
    min_depth : float
        By how much each of two objects must be thicker than the neck between them, from the middle to the rim and in
        the units of `spacing`. More of it splits fewer objects that are one, and leaves more together that are two.
        Not used with markers.
    spacing : float or sequence of float
        Size of a pixel along each axis.

    Returns
    -------
    ndarray of int32 of the same shape
        0 where the mask is; 1, 2, … the objects. A region of the mask without a marker is an object of its own.

    Raises
    ------
    ValueError
        The shapes differ, a mask holds anything but 0 and 1, or `min_depth` is not above 0.

    Examples
    --------
    >>> split_touching([[1, 1, 1, 1, 0, 1]], markers=[[1, 0, 0, 1, 0, 0]])
    array([[1, 1, 2, 2, 0, 3]], dtype=int32)
    """
    if not _number(min_depth, "min_depth") > 0:
        raise ValueError(f"min_depth must be above 0; got {min_depth}.")
    inside = _mask(mask, "mask")
    sampling = _spacing(spacing, inside.ndim)
    if markers is None:
        seeds, landscape = _tops(inside, min_depth, sampling)
    else:
        cores = _mask(markers, "markers")
        _same_shape(inside, cores)
        seeds, _ = ndimage.label(cores & inside)
        landscape = ndimage.distance_transform_edt(seeds == 0, sampling) if seeds.any() else np.zeros(inside.shape)
    regions, number = ndimage.label(inside)
    marked = np.zeros(number + 1, dtype=bool)
    marked[regions[seeds > 0]] = True
    alone = inside & ~marked[regions]
    objects = watershed(landscape, np.where(alone, seeds.max(initial=0) + regions, seeds), mask=inside)
    # Tops that touch at a corner only may stand in two regions, or be flooded apart: each piece is an object.
    return label(objects, connectivity=1).astype(np.int32)


def _tops(
    inside: NDArray[np.bool_], min_depth: float, sampling: Sequence[float]
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Return labels of the places that rise by `min_depth` above all passes around them, and the landscape upside down.

    scikit-image's h_maxima marks the highest pixels only, of which a long ridge has several.
    """
    depth = _distance(inside, sampling)
    depth = np.where(np.isfinite(depth), depth, 0)
    # Rims are stairs of pixels: unsmoothed, the middle of a slanting rod is a chain of tops.
    depth = ndimage.gaussian_filter(depth, 1)
    above = np.where(inside, depth - reconstruction(depth - min_depth, depth), 0)
    # Differences of floats: what is not above by more than rounding is not above.
    tops, number = ndimage.label(above > 1e-9 * min_depth, np.ones((3,) * inside.ndim))
    heights = np.append(0, ndimage.maximum(above, tops, range(1, number + 1))) if number else np.zeros(1)
    return np.where(heights[tops] > 0.999 * min_depth, tops, 0), -depth


@dataclass(frozen=True)
class Tuned:
    """What `tune` has found.

    Attributes
    ----------
    chain : list of callable
        The steps with their parameters, ready for `apply_pipeline`.
    parameters : dict
        The best ones, of the form ``{"remove_small_regions__min_size": 20}``.
    score : float
        Their mean score over the images. It was chosen as the best: judge on others.
    candidates : list of dict
        All parameters that were tried.
    scores : ndarray of shape (n_candidates, n_images)
        The score of each image.
    """

    chain: list[Step]
    parameters: dict[str, Any]
    score: float
    candidates: list[dict[str, Any]]
    scores: NDArray[np.float64]


def apply_pipeline(chain: Sequence[Step], y_prob: ArrayLike) -> Any:
    """Give each step what the one before it has returned.

    Examples
    --------
    >>> apply_pipeline([binarize, partial(remove_small_regions, min_size=2)], [[0.9, 0.8, 0.1, 0.7]])
    array([[ True,  True, False, False]])
    """
    return reduce(lambda values, step: step(values), chain, y_prob)


def tune(
    chain: Sequence[Step],
    grid: Mapping[str, Sequence[Any]],
    metric: Callable[[Any, Any], float],
    y_prob: Sequence[ArrayLike],
    y_true: Sequence[ArrayLike],
) -> Tuned:
    """Choose the parameters of a chain of steps on validation images. The first of equally good ones is taken.

    The gap: scikit-learn's search wants estimators, and would do the first step anew for each value of the last one.

    Parameters
    ----------
    chain : sequence of callable
        Each is given what the one before it has returned, and its parameters by name.
    grid : mapping of str to sequence
        Values to try, named as in scikit-learn: function, two underscores, parameter.
    metric : callable
        ``metric(truth, result)``, of which more is better; its mean over the images counts.
    y_prob, y_true : sequence of array-like
        What the first step gets, and the truth for the metric; one entry for each image. None of them may be an image
        of the final test: the best of many scores flatters.

    Returns
    -------
    Tuned

    Raises
    ------
    ValueError
        There is no image, the two differ in number, a name in the grid does not fit exactly one step, or has no
        value, or a score is no finite number.

    Examples
    --------
    >>> tuned = tune([binarize], {"binarize__threshold": [0.3, 0.5, 0.7]}, iou, [[[0.2, 0.6, 0.4]]], [[[0, 1, 1]]])
    >>> tuned.parameters, tuned.score
    ({'binarize__threshold': 0.3}, 1.0)
    """
    if len(y_prob) != len(y_true) or not len(y_prob):
        raise ValueError(f"y_prob and y_true must be of one length, at least 1; got {len(y_prob)} and {len(y_true)}.")
    names = [_name(step) for step in chain]
    of_step = [{key: values for key, values in grid.items() if key.startswith(f"{name}__")} for name in names]
    unknown = [key for key in grid if sum(key in keys for keys in of_step) != 1]
    if unknown:
        raise ValueError(
            f"the grid's names must be of the form step__parameter, with one step of the chain {names};"
            f" got {', '.join(map(repr, unknown))}."
        )
    choices = [ParameterGrid(keys) for keys in of_step]

    def outcomes(step: int, images: Sequence[Any], chosen: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
        # Depth first: what a step gave for one choice serves all choices of the steps behind it.
        if step == len(chain):
            yield chosen, images
            return
        for choice in choices[step]:
            bound = _bound(chain[step], choice)
            yield from outcomes(step + 1, [bound(image) for image in images], chosen | choice)

    candidates, scores = [], []
    for chosen, results in outcomes(0, y_prob, {}):
        candidates.append(chosen)
        scores.append([float(metric(*pair)) for pair in zip(y_true, results, strict=True)])
    table = np.array(scores)
    if not np.isfinite(table).all():
        raise ValueError("the metric must give a finite number for each image; say what it is for an empty one.")
    best = int(table.mean(axis=1).argmax())
    tuned = [
        _bound(step, {key: candidates[best][key] for key in keys}) for step, keys in zip(chain, of_step, strict=True)
    ]
    return Tuned(tuned, candidates[best], float(table[best].mean()), candidates, table)


def _name(step: Step) -> str:
    return _name(step.func) if isinstance(step, partial) else str(getattr(step, "__name__", type(step).__name__))


def _bound(step: Step, choice: Mapping[str, Any]) -> Step:
    return partial(step, **{key.partition("__")[2]: value for key, value in choice.items()}) if choice else step


def iou(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the intersection over union of two masks; of two empty masks, which agree, 1.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (height, width) or (depth, height, width)
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


def boundary_iou(y_true: ArrayLike, y_pred: ArrayLike, width: int = 2) -> float:
    """Return the intersection over union of the masks' inner borders only.

    Large objects hide a bad outline in `iou`; here they do not. Boundary IoU of Cheng et al. (2021).

    Parameters
    ----------
    y_true, y_pred : array-like of shape (height, width) or (depth, height, width)
        As in `iou`.
    width : int
        Pixels of a mask that are nearer to the outside than this, or as near, are its border.

    Examples
    --------
    >>> a = np.zeros((12, 12), bool)
    >>> a[1:11, 1:11] = True
    >>> b = np.roll(a, 1, axis=1)
    >>> round(iou(a, b), 3), round(boundary_iou(a, b), 3)
    (0.818, 0.568)
    """
    if _number(width, "width") < 1:
        raise ValueError(f"width must be at least 1 pixel; got {width}.")
    true, found = _two_masks(y_true, y_pred)
    borders = [mask & (_distance(mask) <= width) for mask in (true, found)]
    # A full mask has no border, as an empty one, and they do not agree.
    return iou(*borders) if any(border.any() for border in borders) else iou(true, found)


@dataclass(frozen=True)
class BoundaryDistance:
    """How far apart the boundaries of two masks are, in the units of `spacing`.

    Attributes
    ----------
    hd95 : float
        The 95th percentile of the distances from one boundary to the other, the larger of both directions.
    mean : float
        The mean of the distances of both directions.
    maximum : float
        The Hausdorff distance.
    """

    hd95: float
    mean: float
    maximum: float


def boundary_distance(
    y_true: ArrayLike, y_pred: ArrayLike, *, spacing: float | Sequence[float] = 1.0
) -> BoundaryDistance:
    """Measure how far apart the boundaries of two masks are.

    A mask's boundary are its pixels with a neighbour, side by side, that is not in it; the border of the image bounds
    it too, as in DeepMind's surface-distance and in MedPy. Two empty masks are 0 apart, an empty one and another
    infinitely far.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (height, width) or (depth, height, width)
        0 and 1.
    spacing : float or sequence of float
        Size of a pixel along each axis.

    Raises
    ------
    ValueError
        As in `iou`; or the spacing does not fit.

    Examples
    --------
    >>> boundary_distance([[1, 1, 0, 0]], [[1, 1, 1, 0]], spacing=0.5).mean
    0.1
    """
    true, found = _two_masks(y_true, y_pred)
    sampling = _spacing(spacing, true.ndim)
    if not (true.any() and found.any()):
        apart = 0.0 if true.any() == found.any() else np.inf
        return BoundaryDistance(apart, apart, apart)
    # Outside of the box that holds both masks there is nothing to measure.
    box = ndimage.find_objects((true | found).astype(np.int8))[0]
    rims = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (true, found)]
    there, back = (ndimage.distance_transform_edt(~other, sampling)[rim] for rim, other in (rims, rims[::-1]))
    both = np.concatenate([there, back])
    percentile = max(np.percentile(there, 95), np.percentile(back, 95))
    return BoundaryDistance(float(percentile), float(both.mean()), float(both.max()))


@dataclass(frozen=True)
class ObjectCounts:
    """How many objects were found; counts of several images add up.

    Attributes
    ----------
    tp, fp, fn : int
        Objects that were found, found where there is none, and missed.
    iou_sum : float
        The intersections over union of those that were found, added up.
    """

    tp: int
    fp: int
    fn: int
    iou_sum: float = 0.0

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou_sum + other.iou_sum)

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

    @property
    def panoptic_quality(self) -> float:
        """`f1` times the mean IoU of the found (Kirillov et al., 2019); 1 if none is there and none was found."""
        return 2 * self.iou_sum / (2 * self.tp + self.fp + self.fn) if self.tp + self.fp + self.fn else 1.0


def count_objects(labels_true: ArrayLike, labels_pred: ArrayLike, threshold: float = 0.5) -> ObjectCounts:
    """Count the objects that were found, each at most once.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (height, width) or (depth, height, width)
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
    ObjectCounts(tp=1, fp=0, fn=1, iou_sum=1.0)
    """
    if not 0.5 <= _number(threshold, "threshold") < 1:
        raise ValueError(f"threshold must lie in [0.5, 1); got {threshold}.")
    true, found = _label_image(labels_true, "labels_true"), _label_image(labels_pred, "labels_pred")
    _same_shape(true, found)
    sizes_true, sizes_found = (np.bincount(labels.reshape(-1), minlength=1) for labels in (true, found))
    # Only pairs that overlap: a table of all pairs would not fit into memory.
    pairs, both = np.unique(true * len(sizes_found) + found, return_counts=True)
    first, second = np.divmod(pairs, len(sizes_found))
    real = (first > 0) & (second > 0)
    either = sizes_true[first] + sizes_found[second] - both
    matched = real & (both > threshold * either)
    tp = int(matched.sum())
    overlaps = float((both[matched] / either[matched]).sum())
    return ObjectCounts(tp, len(sizes_found) - 1 - tp, len(sizes_true) - 1 - tp, overlaps)


def _probabilities(y_prob: ArrayLike) -> NDArray[np.floating]:
    values = _array(y_prob, "y_prob")
    if values.dtype.kind != "f":
        known = "a mask that is cut already" if values.dtype.kind == "b" else "labels, or bytes: divide those by 255"
        raise ValueError(f"y_prob must be probabilities, which are floats; got {values.dtype}, perhaps {known}.")
    if not values.size:
        return values
    lowest, highest = values.min(), values.max()
    if not (lowest >= 0 and highest <= 1):
        missing = np.isnan(values).sum()
        known = f"NaN in {missing} places" if missing else f"{lowest:.4g} … {highest:.4g}: logits need a sigmoid first"
        raise ValueError(f"y_prob must be probabilities in [0, 1]; got {known}.")
    if lowest == 0 and highest == 1 and ((values == 0) | (values == 1)).all():
        raise ValueError("y_prob must be probabilities; got 0 and 1 only, a mask that is cut already.")
    if values.ndim > 2 and values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1, atol=1e-3):
        raise ValueError(
            f"y_prob must be probabilities of one class; got {values.shape[-1]} classes along the last axis, which sum"
            " to 1: take argmax, or one of them."
        )
    return values


def _stack(values: ArrayLike, name: str, ndim: int) -> NDArray[Any]:
    if not isinstance(ndim, (int, np.integer)) or ndim not in (2, 3):
        raise ValueError(f"ndim must be 2 or 3; got {ndim!r}.")
    array = _array(values, name)
    if array.dtype.kind == "f" and name == "mask":
        raise ValueError(f"mask must be bool or whole numbers; got {array.dtype}: cut probabilities by binarize first.")
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "i" and array.min(initial=0) < 0):
        known = " with negative numbers" if array.dtype.kind == "i" else ""
        raise ValueError(f"{name} must be bool or whole numbers from 0; got {array.dtype}{known}.")
    if array.ndim < ndim or (array.ndim > ndim and array.shape[-1] == 1):
        axes = "(..., height, width)" if ndim == 2 else "(..., depth, height, width)"
        raise ValueError(f"{name} must be of shape {axes}, without a channel axis; got {array.shape}.")
    return array


def _one_value(mask: ArrayLike, ndim: int) -> tuple[NDArray[Any], Any]:
    values = _stack(mask, "mask", ndim)
    if not has_one_value(values):
        raise ValueError("mask must hold 0 and one other value; got labels: do it object by object.")
    # An empty mask has no value of its own; for bool this is True.
    return values, values.max(initial=0) or values.dtype.type(1)


def _by_discs(
    operations: Sequence[Step], mask: ArrayLike, radius: float, spacing: float | Sequence[float], ndim: int
) -> NDArray[Any]:
    if _number(radius, "radius") < 0:
        raise ValueError(f"radius must be at least 0; got {radius}.")
    values, value = _one_value(mask, ndim)
    chain = [partial(operation, radius=radius, sampling=_spacing(spacing, ndim)) for operation in operations]
    result = np.zeros_like(values)
    for image in np.ndindex(values.shape[: values.ndim - ndim]):
        result[image][apply_pipeline(chain, values[image] > 0)] = value
    return result


# Not scikit-image's isotropic_erosion: where there is no background at all, its distances have no meaning.
def _eroded(mask: NDArray[np.bool_], radius: float, sampling: Sequence[float]) -> NDArray[np.bool_]:
    return _distance(mask, sampling) > radius


def _dilated(mask: NDArray[np.bool_], radius: float, sampling: Sequence[float]) -> NDArray[np.bool_]:
    return _distance(~mask, sampling) <= radius


def _whole(number: int, name: str) -> None:
    if isinstance(number, (bool, np.bool_)) or not isinstance(number, (int, np.integer)) or number < 0:
        raise ValueError(f"{name} must be a whole number of pixels, at least 0; got {number!r}.")


def _number(value: float, name: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not -np.inf < value < np.inf:
        raise ValueError(f"{name} must be a finite number; got {value!r}.")
    return float(value)


def _spacing(spacing: float | Sequence[float], ndim: int) -> list[float]:
    sizes = np.asarray(spacing)
    fits = sizes.shape in ((), (ndim,)) and sizes.dtype.kind in "iuf"
    if not (fits and (np.isfinite(sizes) & (sizes > 0)).all()):
        raise ValueError(f"spacing must be one size above 0, or one for each of {ndim} axes; got {spacing!r}.")
    return [float(size) for size in np.broadcast_to(sizes, ndim)]


def _distance(mask: NDArray[np.bool_], sampling: Sequence[float] | None = None) -> NDArray[np.float64]:
    # What lies outside the image is not known to be background.
    return np.full(mask.shape, np.inf) if mask.all() else ndimage.distance_transform_edt(mask, sampling)


def _two_masks(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    true, found = _mask(y_true, "y_true"), _mask(y_pred, "y_pred")
    _same_shape(true, found)
    return true, found


def _mask(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = _image(values, name)
    if array.dtype.kind not in "biu" or (array.dtype.kind != "b" and not ((array == 0) | (array == 1)).all()):
        labels = ", perhaps labels: compare with 0 first"
        known = {"f": ", perhaps probabilities or logits: cut them first", "i": labels, "u": labels}
        raise ValueError(
            f"{name} must be a mask of 0 and 1; got {array.dtype} values{known.get(array.dtype.kind, '')}."
        )
    return array.astype(bool)


def _label_image(values: ArrayLike, name: str) -> NDArray[np.integer]:
    array = _image(values, name)
    if array.dtype.kind not in "biu" or array.min() < 0:
        known = " with negative numbers" if array.dtype.kind == "i" else ""
        raise ValueError(f"{name} must be a label image of whole numbers from 0; got {array.dtype}{known}.")
    # Unsigned, which holds all names of objects; consecutive ones are small.
    return np.asarray(relabel_sequential(array.astype(np.uint64))[0]).astype(np.int64)


def _image(values: ArrayLike, name: str) -> NDArray[Any]:
    array = _array(values, name)
    if array.ndim not in (2, 3) or not array.size or (array.ndim == 3 and array.shape[-1] == 1):
        raise ValueError(
            f"{name} must be of shape (height, width) or (depth, height, width), without a channel axis;"
            f" got {array.shape}."
        )
    return array


def _array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be one array; got rows or images of several shapes.") from None


def _same_shape(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"both must have the same shape; got {first.shape} and {second.shape}.")


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
