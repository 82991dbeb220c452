"""Masks: from probabilities to objects, and how good either is.

The gap: scikit-image's steps take what they are given. They threshold no probabilities, measure the size of a region
differently from function to function, and know no batches. scikit-learn's scores take rows, not images, and call two
empty masks 0 or give a warning. NumPy broadcasts a mask of shape (n, n, 1) against one of (n, n) without a word.

A mask has dtype bool, or whole numbers with 0 as the background. A label image holds a different number for each
object.

**Shapes.** Steps take one image of shape (height, width), or a batch of shape (n, height, width) whose images have
nothing to do with each other, and return a new array of the same shape and dtype. `split_touching` and the scores take
one image. No array has a channel axis: three axes of which the last has a length of 1 to 4 are refused, as they look
like the channels of one image; give images so narrow one by one.

**Unknown pixels.** Where the truth of a score is -1, which is how `helpers.images.open_pairs` marks *void*, a pixel is
taken for background in the truth and in the prediction: it counts for neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import reconstruction
from skimage.segmentation import relabel_sequential, watershed

Step = Callable[..., Any]
Spacing = float | Sequence[float]
LARGEST = float(np.finfo(float).max)


def binarize(y_prob: ArrayLike, threshold: float = 0.5) -> NDArray[np.bool_]:
    """Threshold probabilities: the mask is true where they are at least `threshold`.

    Parameters
    ----------
    y_prob : array-like of float
        Probabilities of one class, of any shape. A map that is 0 or 1 everywhere, as float32 makes it of large logits,
        is a map like any other.
    threshold : float
        In [0, 1].

    Returns
    -------
    ndarray of bool of the same shape

    Raises
    ------
    ValueError
        The threshold is out of range, or the values are no probabilities of one class: logits, NaN, whole numbers, a
        mask, or a softmax of shape ([n,] height, width, classes).

    Examples
    --------
    >>> binarize([[0.2, 0.5, 0.9]])
    array([[False,  True,  True]])
    """
    _check_number(threshold, "threshold", "a number in [0, 1]", 0, 1)
    return _probabilities(y_prob) >= threshold


def hysteresis(y_prob: ArrayLike, low: float, high: float, connectivity: int = 1) -> NDArray[np.bool_]:
    """Threshold probabilities at `low`, and keep the regions that reach `high` somewhere.

    Parameters
    ----------
    y_prob : array-like of float of shape (height, width) or (n, height, width)
        Probabilities of one class.
    low, high : float
        In [0, 1], `low` not above `high`. Both count as reached when equal.
    connectivity : {1, 2}
        As in `remove_small_regions`.

    Returns
    -------
    ndarray of bool of the same shape

    Raises
    ------
    ValueError
        As in `binarize` and `remove_small_regions`.

    Notes
    -----
    ``skimage.filters.apply_hysteresis_threshold`` takes values above the thresholds only, and one image.

    Examples
    --------
    >>> hysteresis([[0.6, 0.9, 0.1, 0.6]], low=0.5, high=0.8)
    array([[ True,  True, False, False]])
    """
    _check_number(high, "high", "a number in [0, 1]", 0, 1)
    _check_number(low, "low", f"a number in [0, 1], not above high, which is {high}", 0, high)
    probabilities = _check_shape(_probabilities(y_prob), "y_prob", batch=True)
    regions = _label_regions(probabilities >= low, connectivity)
    return np.isin(regions, regions[probabilities >= high])


def remove_small_regions(mask: ArrayLike, min_size: int, connectivity: int = 1) -> NDArray[Any]:
    """Set regions of fewer than `min_size` pixels to 0.

    Parameters
    ----------
    mask : array-like of shape (height, width) or (n, height, width)
        Masks or label images. A region is connected and has one value: objects that touch are several, and an object
        in two parts is two.
    min_size : int
        Pixels. Regions of exactly this size stay.
    connectivity : {1, 2}
        As in scikit-image. 1: pixels that share a side are connected (4 neighbours). 2: also those that share a corner
        (8 neighbours).

    Returns
    -------
    ndarray of the same shape and dtype

    Raises
    ------
    ValueError
        Probabilities, negative numbers, a channel axis, or a parameter that does not fit.

    Notes
    -----
    ``skimage.morphology.remove_small_objects`` takes the largest size that goes, not the smallest that stays, and
    adds up the parts of a label. In areas: divide by the area of a pixel.

    Examples
    --------
    >>> remove_small_regions([[1, 1, 0, 1], [0, 0, 1, 0]], min_size=2)
    array([[1, 1, 0, 0],
           [0, 0, 0, 0]])
    >>> remove_small_regions([[1, 1, 0, 1], [0, 0, 1, 0]], min_size=2, connectivity=2)
    array([[1, 1, 0, 1],
           [0, 0, 1, 0]])
    """
    _check_number(min_size, "min_size", "a whole number of pixels, at least 0", 0, kind=Integral)
    values = _mask(mask, "mask", batch=True)
    regions = _label_regions(values, connectivity)
    large = np.bincount(regions.ravel(), minlength=1) >= min_size
    large[0] = False
    kept = np.take(large, regions)
    return kept if values.dtype == bool else values * kept


def fill_holes(mask: ArrayLike, max_size: int | None = None, connectivity: int = 1) -> NDArray[Any]:
    """Fill what the mask encloses: regions of background that do not reach the border of the image.

    Parameters
    ----------
    mask : array-like of shape (height, width) or (n, height, width)
        0 and one other value, which fills the holes.
    max_size : int, optional
        Pixels. Larger holes stay. All are filled when it is left out.
    connectivity : {1, 2}
        Of the background, as in `remove_small_regions`.

    Returns
    -------
    ndarray of the same shape and dtype

    Raises
    ------
    ValueError
        As in `remove_small_regions`; and a label image: a hole between two objects belongs to neither.

    Notes
    -----
    ``skimage.morphology.remove_small_holes`` also fills what the border of the image cuts off;
    ``scipy.ndimage.binary_fill_holes`` knows no size.

    Examples
    --------
    >>> fill_holes([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    array([[1, 1, 1],
           [1, 1, 1],
           [1, 1, 1]])
    """
    if max_size is not None:
        _check_number(max_size, "max_size", "a whole number of pixels, at least 0", 0, kind=Integral)
    values, value = _one_value(mask)
    regions = _label_regions(values == 0, connectivity)
    sizes = np.bincount(regions.ravel(), minlength=1)
    holes = sizes <= (sizes.max() if max_size is None else max_size)
    for border in (regions[..., :1, :], regions[..., -1:, :], regions[..., :1], regions[..., -1:]):
        holes[border] = False
    holes[0] = False
    return np.where(holes[regions], value, values)


def opening(mask: ArrayLike, radius: float, *, spacing: Spacing = 1.0) -> NDArray[Any]:
    """Remove what a disc of a radius does not fit into: thin links, spikes, specks.

    What lies outside the image is not known to be background: an object at the border is not eroded there, and
    `closing` fills a gap to the border, too. The cost does not depend on the radius.

    Parameters
    ----------
    mask : array-like of shape (height, width) or (n, height, width)
        0 and one other value.
    radius : float
        In the units of `spacing`.
    spacing : float or sequence of two floats
        Height and width of a pixel.

    Returns
    -------
    ndarray of the same shape and dtype

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
    return _by_disc(mask, radius, spacing, _opened)


def closing(mask: ArrayLike, radius: float, *, spacing: Spacing = 1.0) -> NDArray[Any]:
    """Fill what a disc of a radius does not fit into: gaps, notches, small holes. Parameters and errors: `opening`.

    Examples
    --------
    >>> closing([[1, 1, 0, 1, 1]], radius=1)
    array([[1, 1, 1, 1, 1]])
    """
    return _by_disc(mask, radius, spacing, lambda inside, *disc: ~_opened(~inside, *disc))


def split_touching(
    mask: ArrayLike, markers: ArrayLike | None = None, min_depth: float = 0.3, *, spacing: Spacing = 1.0
) -> NDArray[np.int32]:
    """Split a mask into objects, also where they touch, by a watershed.

    Parameters
    ----------
    mask : array-like of shape (height, width)
        0 and 1.
    markers : array-like of the same shape, optional
        A mask with one region inside each object, such as the second channel of `helpers.unet.targets`: each pixel
        goes to the region that is nearest within the mask. When left out: the maxima of the distance to the background.
    min_depth : float
        By how much each of two objects must be thicker than the neck between them, from the middle to the boundary and
        in the units of `spacing`. More of it splits fewer objects that are one, and leaves more together that are two.
        Not used with markers.
    spacing : float or sequence of two floats
        Height and width of a pixel.

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
    _check_number(min_depth, "min_depth", "a finite number above 0", np.nextafter(0, 1))
    sampling = _spacing(spacing)
    if markers is None:
        [inside] = _images(mask=mask)
        seeds, elevation = _h_maxima(inside, min_depth, sampling)
    else:
        inside, marked = _images(mask=mask, markers=markers)
        seeds, _ = ndimage.label(marked & inside)
        elevation = _distance(seeds == 0, sampling)
    regions, _ = ndimage.label(inside)
    alone = inside & ~np.isin(regions, regions[seeds > 0])
    objects = watershed(elevation, np.where(alone, seeds.max(initial=0) + regions, seeds), mask=inside)
    # A marker connected at a corner only may lie in two regions, or be flooded apart: each part is an object.
    return label(objects, connectivity=1).astype(np.int32)


def _h_maxima(inside: NDArray[Any], min_depth: float, sampling: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Label the maxima that rise by `min_depth` above all passes around them; return them and the elevation to flood.

    scikit-image's h_maxima marks the highest pixels only, of which a long ridge has several.
    """
    depth = _distance(inside, sampling)
    depth = np.where(np.isfinite(depth), depth, 0)
    # Boundaries are stairs of pixels: unsmoothed, the middle of a slanting rod is a row of maxima.
    depth = ndimage.gaussian_filter(depth, 1)
    # From 0 at the passes to min_depth at the maxima that count, but for rounding, which the two tolerances allow for.
    rise = np.where(inside, depth - reconstruction(depth - min_depth, depth), 0)
    maxima, number = ndimage.label(rise > 1e-9 * min_depth, np.ones((3, 3)))
    heights = np.asarray(ndimage.maximum(rise, maxima, np.arange(number + 1)))
    return np.where(heights[maxima] > 0.999 * min_depth, maxima, 0), -depth


def iou(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the intersection over union of two masks; of two empty masks, which agree, 1.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (height, width)
        bool, or 0 and 1; in `y_true` also -1 for pixels that do not count.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        The shapes differ, or a mask holds anything else, such as probabilities or labels.

    Examples
    --------
    >>> iou([[1, 1, 0]], [[0, 1, 0]])
    0.5
    """
    true, predicted = _images(y_true=y_true, y_pred=y_pred)
    union = int((true | predicted).sum())
    return int((true & predicted).sum()) / union if union else 1.0


def dice(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the Dice coefficient, which is the F1 of the pixels; arguments and empty masks as in `iou`.

    Examples
    --------
    >>> round(dice([[1, 1, 0]], [[0, 1, 0]]), 4)
    0.6667
    """
    overlap = iou(y_true, y_pred)
    return 2 * overlap / (1 + overlap)


def boundary_iou(y_true: ArrayLike, y_pred: ArrayLike, width: float = 2) -> float:
    """Return the boundary IoU of two masks: the intersection over union of their inner borders only.

    Large objects hide a bad outline in `iou`; here they do not. From Cheng et al. (2021).

    Parameters
    ----------
    y_true, y_pred : array-like of shape (height, width)
        As in `iou`.
    width : float
        Pixels of a mask that are at most so far from the outside are its border. The border of the image is none.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> a = np.zeros((12, 12), bool)
    >>> a[1:11, 1:11] = True
    >>> b = np.roll(a, 1, axis=1)
    >>> round(iou(a, b), 3), round(boundary_iou(a, b), 3)
    (0.818, 0.568)
    """
    _check_number(width, "width", "at least 1 pixel", 1)
    true, predicted = _images(y_true=y_true, y_pred=y_pred)
    borders = [mask & (_distance(mask) <= width) for mask in (true, predicted)]
    # A full mask has no border, as an empty one, and they do not agree.
    return iou(*borders) if any(border.any() for border in borders) else iou(true, predicted)


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


def count_objects(labels_true: ArrayLike, labels_pred: ArrayLike, iou_threshold: float = 0.5) -> ObjectCounts:
    """Count the objects that were found, each at most once.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (height, width)
        Label images; -1 in `labels_true` for pixels that do not count.
    iou_threshold : float
        An object is found if its intersection over union with a predicted one is larger than this, in [0.5, 1): then no
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
    _check_number(iou_threshold, "iou_threshold", "a number in [0.5, 1)", 0.5, np.nextafter(1, 0))
    images = _images(binary=False, labels_true=labels_true, labels_pred=labels_pred)
    # Unsigned holds all numbers of objects; consecutive ones are small.
    true, predicted = (np.asarray(relabel_sequential(image.astype(np.uint64))[0]).astype(np.int64) for image in images)
    sizes_true, sizes_pred = (np.bincount(labels.ravel(), minlength=1) for labels in (true, predicted))
    # Only pairs that overlap: a table of all pairs would not fit into memory.
    pairs, intersection = np.unique(true * len(sizes_pred) + predicted, return_counts=True)
    first, second = np.divmod(pairs, len(sizes_pred))
    union = sizes_true[first] + sizes_pred[second] - intersection
    found = (first > 0) & (second > 0) & (intersection > iou_threshold * union)
    tp = int(found.sum())
    iou_sum = float((intersection[found] / union[found]).sum())
    return ObjectCounts(tp, len(sizes_pred) - 1 - tp, len(sizes_true) - 1 - tp, iou_sum)


def _label_regions(values: NDArray[Any], connectivity: int) -> NDArray[np.integer]:
    """Number connected pixels of one value, through all images of a batch; 0 is the background."""
    _check_number(connectivity, "connectivity", "1 (shared sides) or 2 (corners too)", 1, 2, Integral)
    if _has_one_value(values):
        # SciPy is faster, and would take values that touch for one region. Nothing connects images of a batch.
        neighbours = ndimage.generate_binary_structure(2, connectivity)
        if values.ndim > 2:
            neighbours = np.pad(neighbours[np.newaxis], [(1, 1), (0, 0), (0, 0)])
        return np.asarray(ndimage.label(values, neighbours)[0])
    # Images below each other, with a row of background between them.
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(0, 1), (0, 0)])
    regions = label(padded.reshape(-1, padded.shape[-1]), connectivity=connectivity)
    return np.asarray(regions).reshape(padded.shape)[..., :-1, :]


def _has_one_value(values: NDArray[Any]) -> bool:
    return values.dtype == bool or bool(((values == 0) | (values == values.max(initial=0))).all())


def _opened(inside: NDArray[np.bool_], radius: float, sampling: NDArray[Any]) -> NDArray[np.bool_]:
    # Not scikit-image's isotropic_erosion: where there is no background at all, its distances have no meaning.
    eroded = _distance(inside, sampling) > radius
    return _distance(~eroded, sampling) <= radius


def _by_disc(mask: ArrayLike, radius: float, spacing: Spacing, operation: Step) -> NDArray[Any]:
    _check_number(radius, "radius", "a finite number, at least 0", 0)
    sampling = _spacing(spacing)
    values, value = _one_value(mask)
    result = np.zeros_like(values)
    for image in np.ndindex(values.shape[:-2]):
        result[image][operation(values[image] > 0, radius, sampling)] = value
    return result


def _distance(inside: NDArray[np.bool_], sampling: NDArray[Any] | None = None) -> NDArray[np.float64]:
    # What lies outside the image is not known to be background.
    return np.full(inside.shape, np.inf) if inside.all() else ndimage.distance_transform_edt(inside, sampling)


def _check_number(value: Any, name: str, accepted: str, low: float, high: float = LARGEST, kind: Any = Real) -> None:
    """Refuse what is no number of a range. Not scikit-learn's check_scalar, which lets NaN and True pass."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, kind) or not low <= value <= high:
        raise ValueError(f"{name} must be {accepted}; got {value!r}.")


def _spacing(spacing: Spacing) -> NDArray[np.float64]:
    sizes = np.asarray(spacing)
    fits = sizes.shape in ((), (2,)) and sizes.dtype.kind in "iuf"
    if not (fits and (np.isfinite(sizes) & (sizes > 0)).all()):
        raise ValueError(f"spacing must be one size above 0, or one for each of 2 axes; got {spacing!r}.")
    return np.broadcast_to(sizes, 2).astype(float)


def _probabilities(y_prob: ArrayLike) -> NDArray[np.floating]:
    values = _array(y_prob, "y_prob")
    if values.dtype.kind != "f":
        hint = "a mask already" if values.dtype.kind == "b" else "labels, or bytes: divide those by 255"
        raise ValueError(f"y_prob must be probabilities, which are floats; got {values.dtype}, perhaps {hint}.")
    lowest, highest = (values.min(), values.max()) if values.size else (0, 1)
    if not (lowest >= 0 and highest <= 1):
        missing = np.isnan(values).sum()
        found = f"NaN in {missing} places" if missing else f"{lowest:.4g} … {highest:.4g}: logits need a sigmoid first"
        raise ValueError(f"y_prob must be probabilities in [0, 1]; got {found}.")
    if values.ndim > 2 and values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1, atol=1e-3):
        found = f"{values.shape[-1]} classes along the last axis, which sum to 1: take argmax, or one of them"
        raise ValueError(f"y_prob must be probabilities of one class; got {found}.")
    return values


def _mask(values: ArrayLike, name: str, *, batch: bool = False, binary: bool = False) -> NDArray[Any]:
    array = _check_shape(_array(values, name), name, batch)
    if array.dtype.kind not in "biu":
        found = f"{array.dtype}{': threshold probabilities by binarize first' if array.dtype.kind == 'f' else ''}"
    elif array.min(initial=0) < -name.endswith("_true"):  # Of the truth, -1 is not known.
        found = "negative numbers"
    elif binary and array.max(initial=0) > 1:
        found = "larger numbers: compare labels with 0 first"
    else:
        return array
    wanted = "a mask of 0 and 1" if binary else "bool or whole numbers from 0"
    raise ValueError(f"{name} must be {wanted}; got {found}.")


def _one_value(mask: ArrayLike) -> tuple[NDArray[Any], Any]:
    values = _mask(mask, "mask", batch=True)
    if not _has_one_value(values):
        raise ValueError("mask must hold 0 and one other value; got labels: do it object by object.")
    # An empty mask has no value of its own; for bool this is True.
    return values, values.max(initial=0) or values.dtype.type(1)


def _images(*, binary: bool = True, **named: ArrayLike) -> list[NDArray[Any]]:
    """Return masks or label images of one shape, given by the names of their arguments."""
    arrays = [_mask(values, name, binary=binary) for name, values in named.items()]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1:
        raise ValueError(f"{' and '.join(named)} must have the same shape; got {' and '.join(map(str, shapes))}.")
    known = [np.where(arrays[0] >= 0, array, 0) for array in arrays]
    return [array.astype(bool) if binary else array for array in known]


def _array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be one array; got rows or images of several shapes.") from None


def _check_shape(array: NDArray[Any], name: str, batch: bool) -> NDArray[Any]:
    channels = array.ndim == 3 and array.shape[-1] in (1, 2, 3, 4)
    if not ((batch and array.ndim == 3 and not channels) or (array.ndim == 2 and (batch or array.size))):
        accepted = "(height, width) or (n, height, width)" if batch else "(height, width), not empty"
        hint = ": take one channel; images so narrow, one by one" if channels and array.shape[-1] > 1 else ""
        raise ValueError(f"{name} must be of shape {accepted}, without a channel axis; got {array.shape}{hint}.")
    return array
