"""A U-Net: the model, its targets and losses, paired augmentation, and prediction of images of any size.

The gap: Keras has the layers and most losses, and no such model. Its augmentation layers move a mask with its image
only under one name of a key, and ignore it under any other without an error. ``predict`` wants sides that the network
can halve, and memory for the whole image; a loop of ``predict`` over tiles leaves artefacts at their edges, unless each
tile is read with a halo as wide as the network's receptive field.

Images are arrays of shape (n, height, width, channels); masks are the same, one channel a class. Models return logits.
Where a mask is below 0, which is how `helpers.images.open_pairs` marks *void*, nobody knows what the pixel shows: it
weighs nothing in losses and metrics.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.special import expit
from skimage.segmentation import relabel_sequential, watershed

from helpers.masks import split_touching

Shape = tuple[int | None, int | None, int]
Images = Sequence[NDArray[Any]]


def build_unet(input_shape: Shape = (None, None, 1), *, base_filters: int = 16, n_classes: int = 2) -> keras.Model:
    """Build a U-Net that returns logits.

    Parameters
    ----------
    input_shape : tuple
        Height, width and channels; None for any. Sides must be multiples of 8; `predict_tiled` pads and crops.
    base_filters : int
        Filters at the highest resolution; they double with each of the two halvings that follow.
    n_classes : int
        Channels of the output: each a logit of its own for a sigmoid, or together those of a softmax.

    Returns
    -------
    keras.Model
        From (n, height, width, channels) to (n, height, width, n_classes), not compiled.

    Raises
    ------
    ValueError
        A number below 1.

    Notes
    -----
    Ronneberger, Fischer and Brox (2015), with three changes that make it fast on a processor: the first convolution
    takes every second pixel, so that nearly all the work is done on a quarter of the pixels (objects should be several
    pixels wide); batch normalisation; and skips that are added and not concatenated.

    Examples
    --------
    >>> build_unet((None, None, 3), base_filters=4, n_classes=3).output_shape
    (None, None, None, 3)
    """
    if min(base_filters, n_classes) < 1:
        raise ValueError(f"base_filters and n_classes must be at least 1; got {base_filters} and {n_classes}.")

    def convolve(x: Any, filters: int, **options: int) -> Any:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, **options)(x)
        # Hundreds of steps are few: Keras's momentum of 0.99 would still remember the first weights.
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    def twice(x: Any, filters: int) -> Any:
        return convolve(convolve(x, filters), filters)

    image = keras.Input(input_shape, name="image")
    x = convolve(image, base_filters, strides=2)
    skips = []
    for filters in (base_filters, 2 * base_filters):
        x = twice(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = twice(x, 4 * base_filters)
    for filters in (2 * base_filters, base_filters):
        x = layers.Conv2DTranspose(filters, 2, strides=2, use_bias=False)(x)
        x = twice(layers.Add()([x, skips.pop()]), filters)
    x = layers.ReLU()(layers.Conv2DTranspose(base_filters, 2, strides=2)(x))
    return keras.Model(image, layers.Conv2D(n_classes, 1, name="logits")(x))


_ELEMENTWISE = (layers.Activation, layers.Dropout, layers.LeakyReLU, layers.ReLU, layers.Rescaling, layers.Softmax)
_POINTWISE = (*_ELEMENTWISE, layers.Add, layers.BatchNormalization, layers.Concatenate)
_DOWN = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.MaxPooling2D, layers.AveragePooling2D)
_UP = (layers.Conv2DTranspose, layers.UpSampling2D)


def receptive_field(model: keras.Model) -> tuple[int, int]:
    """Return the radius of a model's receptive field, and the stride on which its output depends on the position.

    The gap: Keras does not tell, and a halo that is too small changes outputs at the edges of tiles.

    Parameters
    ----------
    model : keras.Model
        Of convolutions, transposed ones, poolings, upsamplings, sums, concatenations and layers that act on each pixel
        alone, nowhere finer than the input; its output has the size of its input.

    Returns
    -------
    radius : int
        Pixels. What lies farther away cannot change the output.
    stride : int
        Pixels. A shift of the image by a multiple of it shifts the output, and does nothing else.

    Raises
    ------
    ValueError
        Another kind of model or layer: it is named, never passed over.

    Examples
    --------
    >>> receptive_field(build_unet(base_filters=4))
    (48, 8)
    """
    # Cell i of a tensor depends on the pixels from size * i + low to size * i + high.
    cells, stride = {id(model.inputs[0]): (1, 0, 0)}, 1
    # Not model.layers: a sum that is written with + is an operation and no layer. Of a Sequential the same.
    for layer in keras.Model(model.inputs, model.outputs).operations[1:]:
        entering = [cells.get(id(tensor), (0, 0, 0)) for tensor in keras.tree.flatten(layer.input)]
        if not entering[0][0] or len({size for size, _, _ in entering}) > 1:
            raise ValueError(f"layer {layer.name!r} joins images of different sizes, or follows a layer used twice.")
        low, high = min(low for _, low, _ in entering), max(high for _, _, high in entering)
        cells[id(layer.output)] = _cells_after(layer, entering[0][0], low, high)
        stride = math.lcm(stride, cells[id(layer.output)][0])
    size, low, high = cells.get(id(model.outputs[0]), (0, 0, 0))
    if size != 1 or len(model.inputs) + len(model.outputs) > 2:
        raise ValueError("the model must have one input, and one output of the same size, and use no layer twice.")
    return max(-low, high), stride


def _cells_after(layer: Any, size: int, low: int, high: int) -> tuple[int, int, int]:
    """Return the same for the output of a layer."""
    if isinstance(layer, _POINTWISE) and getattr(layer, "axis", -1) in (-1, 3):
        return size, low, high
    known = "layers that act on each pixel alone, or square convolutions, poolings or upsamplings with padding='same'"
    unknown = ValueError(f"layer {layer.name!r} ({type(layer).__name__}): its reach is not known: use {known}.")
    if not isinstance(layer, _DOWN + _UP):
        raise unknown
    up, strides = isinstance(layer, _UP), layer.size if isinstance(layer, layers.UpSampling2D) else layer.strides
    kernel = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", strides)
    # Of an oblong kernel the longer side counts.
    dilated = zip(kernel, getattr(layer, "dilation_rate", (1, 1)), strict=True)
    stride, reach = strides[0], max((side - 1) * rate + 1 for side, rate in dilated)
    cut = getattr(layer, "padding", "same") != "same" and reach != stride
    # Bilinear upsampling reads the next cell on either side, too.
    wider = {"nearest": 0, "bilinear": size}.get(getattr(layer, "interpolation", "nearest"))
    if cut or wider is None or set(strides) != {stride} or (up and size % stride):
        raise unknown
    # TensorFlow pads less before than after when it cannot pad both alike.
    before = max(reach - stride, 0) // 2
    after = reach - 1 - before
    if up:
        size //= stride
        return size, low - size * after - wider, high + size * before + wider
    return size * stride, low - size * before, high + size * after


def targets(labels: ArrayLike, depth: float = 0.5) -> NDArray[np.int8]:
    """Turn label images into what the network learns: the mask, and a marker in the middle of each object.

    Markers do not touch where objects do, so that they can be counted, and a watershed can start from them. They shrink
    with their object: an erosion by so many pixels would leave nothing of a small one.

    Parameters
    ----------
    labels : array-like of shape (height, width) or (n, height, width)
        0 is background, -1 is not known, each other value an object.
    depth : float
        In [0, 1): the marker holds the pixels farther from the object's boundary than this share of its deepest one.

    Returns
    -------
    ndarray of shape labels.shape + (2,), dtype int8
        0 or 1: the mask, the markers; -1 where the label is.

    Raises
    ------
    ValueError
        Labels of another dtype or shape, such as those of 1 to 4 channels, values below -1, or a depth out of range.

    Examples
    --------
    >>> targets([[1] * 6 + [2] * 5] * 5)[2, :, 1]
    array([0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0], dtype=int8)
    """
    labels = np.asarray(labels)
    channels = labels.ndim == 3 and labels.shape[-1] in (1, 2, 3, 4)
    if labels.ndim not in (2, 3) or channels or labels.dtype.kind not in "iub" or labels.min(initial=0) < -1:
        found = f"{labels.dtype} of {labels.shape}{', which looks like channels: take one' if channels else ''}"
        raise ValueError(f"labels must be whole numbers from -1, of shape ([n,] height, width); got {found}.")
    if not 0 <= depth < 1:
        raise ValueError(f"depth must be in [0, 1); got {depth}.")
    markers = [depths(labels[image]) > depth for image in np.ndindex(labels.shape[:-2])]
    stacked = np.stack([labels > 0, np.reshape(markers, labels.shape)], axis=-1)
    return np.where(labels[..., np.newaxis] < 0, -1, stacked).astype(np.int8)


def depths(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return how deep each pixel lies in its object: 0 outside, 1 in the middle; shape (height, width) as `labels`."""
    found = np.zeros(labels.shape)
    # Consecutive numbers: there is a slice for each number up to the highest.
    objects, _, _ = relabel_sequential(np.maximum(labels, 0))
    for number, where in enumerate(ndimage.find_objects(objects), start=1):
        distance = ndimage.distance_transform_edt(np.pad(objects[where] == number, 1))[1:-1, 1:-1]
        found[where] += distance / distance.max()
    return found


def standardize(image: ArrayLike) -> NDArray[np.float32]:
    """Return an image with mean 0 and standard deviation 1 in each channel, whatever its exposure and bit depth.

    Parameters
    ----------
    image : array-like of shape (..., height, width, channels)
        A constant channel becomes 0.

    Returns
    -------
    ndarray of the same shape, dtype float32

    Raises
    ------
    ValueError
        Fewer than three dimensions, or nothing in them.

    Examples
    --------
    >>> standardize([[[0], [2]]])[0, :, 0]
    array([-1.,  1.], dtype=float32)
    """
    # First: sums of float32 are exact in float64, so that a constant channel has a deviation of 0, not of a rounding.
    image = np.asarray(image, dtype=np.float32)
    if image.ndim < 3 or not image.size:
        raise ValueError(f"image must be of shape (..., height, width, channels); got {image.shape}.")
    mean, std = (of(axis=(-3, -2), keepdims=True, dtype=np.float64) for of in (image.mean, image.std))
    return ((image - mean) / np.where(std > 0, std, 1)).astype(np.float32)


def random_crops(
    images: Images, masks: Images, side: int, batch_size: int = 8, seed: int = 0, weights: ArrayLike | None = None
) -> tf.data.Dataset:
    """Return endless batches of square crops, taken at random from images of any size, turned and mirrored at random.

    The gap: Keras's ``RandomCrop`` takes one crop of a whole batch of images of one size.

    Parameters
    ----------
    images, masks : sequences of ndarray of shape (height, width, channels)
        An image that is smaller than a crop is continued by reflection.
    side : int
        Of the crops, in pixels.
    batch_size, seed : int
    weights : array-like of shape (n,), optional
        How often each image is taken, beside the others. When left out, every image gives one crop in each round.

    Returns
    -------
    tf.data.Dataset
        Of pairs of float32 tensors (batch_size, side, side, channels). Quarter turns and mirrors move pixels and do
        not blur them; anything else, see `augment_pairs`, is the caller's.

    Raises
    ------
    ValueError
        Not one mask for each image, another shape, another number of channels than the first, or a number below 1.
    """
    if side < 1 or batch_size < 1:
        raise ValueError(f"side and batch_size must be at least 1; got {side} and {batch_size}.")
    if len(images) != len(masks) or not len(images):
        raise ValueError(f"there are {len(images)} images and {len(masks)} masks; one mask for each image is needed.")
    channels = images[0].shape[2:], masks[0].shape[2:]
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        same = image.ndim == 3 and image.size and image.shape[:2] == mask.shape[:-1]
        if not same or (image.shape[2:], mask.shape[2:]) != channels:
            wanted = "of one height and width and of shape (height, width, channels), with the first's channels"
            raise ValueError(f"image and mask {number} must be {wanted}; got {image.shape} and {mask.shape}.")

    if weights is not None and np.shape(weights) != (len(images),):
        raise ValueError(f"weights must be {len(images)} numbers, one for each image; got {np.shape(weights)}.")
    p = None if weights is None else np.asarray(weights) / np.sum(weights)

    def batches() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        random = np.random.default_rng(seed)
        number = len(images)
        rounds = (
            random.permutation(number) if p is None else random.choice(number, number, p=p) for _ in itertools.count()
        )
        endless = itertools.chain.from_iterable(rounds)
        # Each batch is drawn before its crops.
        while batch := list(itertools.islice(endless, batch_size)):
            crops = np.stack([_crop((images[i], masks[i]), side, random) for i in batch])
            yield crops[..., : channels[0][0]], crops[..., channels[0][0] :]

    signature = tuple(tf.TensorSpec((batch_size, side, side, *depth), tf.float32) for depth in channels)
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)


def _crop(pair: tuple[NDArray[Any], ...], side: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return one crop, the channels of the mask behind those of the image."""
    corner = [int(random.integers(0, max(size - side, 0) + 1)) for size in pair[0].shape[:2]]
    turns, mirrored = int(random.integers(4)), bool(random.integers(2))
    crop = np.rot90(np.concatenate([_window(picture, corner, (side, side)) for picture in pair], axis=-1), turns)
    return crop[:, ::-1] if mirrored else crop


def augment_pairs(*augmentations: layers.Layer) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return a function for ``tf.data.Dataset.map`` that changes images and masks alike.

    The gap: Keras's layers move a mask with its image, to the nearest pixel, under the key ``segmentation_masks``;
    under any other name they leave it where it was, without an error.

    Parameters
    ----------
    *augmentations : keras.layers.Layer
        Keras's preprocessing layers, such as ``RandomRotation``; those of brightness leave masks alone.

    Returns
    -------
    callable
        From images and masks, both of shape (n, height, width, channels), to the same.

    Raises
    ------
    ValueError
        A ``RandomElasticTransform``: Keras draws it once for the images and once more for the masks.
    """
    if any(isinstance(layer, layers.RandomElasticTransform) for layer in augmentations):
        raise ValueError("RandomElasticTransform moves a mask differently from its image, under any key: leave it out.")
    pipeline = layers.Pipeline(list(augmentations))

    # It holds no Python loop; in a notebook AutoGraph fails to read it, and says so at length.
    @tf.autograph.experimental.do_not_convert
    def apply(images: Any, masks: Any) -> tuple[Any, Any]:
        both = pipeline({"images": images, "segmentation_masks": masks}, training=True)
        return both["images"], both["segmentation_masks"]

    return apply


def _known(y_true: Any, logits: Any) -> tuple[Any, Any, Any]:
    """Return masks and probabilities, 0 where a mask is below 0, and the weights of pixels, whose mean is 1 or 0."""
    y_true, logits = ops.convert_to_tensor(y_true), ops.convert_to_tensor(logits)
    if not logits.shape.is_compatible_with(y_true.shape):
        raise ValueError(f"masks and logits must have one shape; got {y_true.shape} and {logits.shape}.")
    known = ops.cast(y_true >= 0, logits.dtype)
    share = ops.mean(known, axis=(1, 2), keepdims=True)
    return ops.cast(y_true, logits.dtype) * known, ops.sigmoid(logits) * known, known / ops.where(share > 0, share, 1)


def bce_jaccard(y_true: Any, logits: Any) -> Any:
    """Return binary cross-entropy plus one minus the soft intersection over union, from logits: shape (n, channels).

    The gap: ``keras.losses.Dice`` takes probabilities, and by default one score of the whole batch; per image, an empty
    mask costs 1 whatever is predicted. ValueError: masks and logits differ in shape. Masks below 0 weigh nothing.
    """
    y_true, probabilities, weights = _known(y_true, logits)
    intersection = ops.sum(y_true * probabilities, axis=(1, 2))
    union = ops.sum(y_true + probabilities, axis=(1, 2)) - intersection
    cross_entropy = ops.mean(weights * tf.nn.sigmoid_cross_entropy_with_logits(y_true, logits), axis=(1, 2))
    # One pixel more in both: an empty mask, predicted empty, costs nothing.
    return cross_entropy + 1 - (intersection + 1) / (union + 1)


def iou_metric(y_true: Any, logits: Any) -> Any:
    """Return the intersection over union of the first channel, for each image, with a logit above 0 as foreground.

    For ``model.compile(metrics=[iou_metric])``. Two empty masks agree: 1. ValueError and masks below 0: as in
    `bce_jaccard`.
    """
    true = _known(y_true[..., :1], logits[..., :1])[0][..., 0] > 0.5
    predicted = ops.logical_and(logits[..., 0] > 0, y_true[..., 0] >= 0)
    intersection = ops.sum(ops.cast(ops.logical_and(predicted, true), "float32"), axis=(1, 2))
    union = ops.sum(ops.cast(ops.logical_or(predicted, true), "float32"), axis=(1, 2))
    return ops.where(union > 0, intersection / ops.maximum(union, 1), 1.0)


def train(
    images: Images,
    labels: Images,
    *,
    steps: int = 1000,
    crop: int = 128,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Train a U-Net for masks and markers, for objects about 6 to 60 pixels across; `predict_objects` takes it on.

    The gap: Keras trains any model, and leaves all that decides here to you: what is standardised, what the markers
    are (compared in `benchmarks/evidence/touching_objects.csv`), that an image with many objects is shown more often,
    the loss, and a learning rate that rises to 0.01 and falls to 0.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width, channels)
        As they are: `standardize` is applied here, and in `predict_objects` and `export`. Sizes may differ.
    labels : sequence of ndarray of shape (height, width)
        See `targets`.
    steps : int
        Of 8 crops each. 1,000 take about 80 seconds on two cores.
    crop : int
        Side of a crop in pixels, rounded up to a multiple of 8.
    seed : int
        Of Python, NumPy and TensorFlow, from here on.
    callbacks : sequence of keras.callbacks.Callback
        For ``fit``; an epoch has about 50 steps.

    Returns
    -------
    keras.Model
        Of logits of shape (n, height, width, 2).

    Raises
    ------
    ValueError
        Images and labels do not fit, hold no object at all, or a number is below 1.
    """
    if steps < 1 or not any(np.any(np.asarray(image) > 0) for image in labels):
        raise ValueError(f"steps must be at least 1, and a label image hold an object; got {steps} steps.")
    keras.utils.set_random_seed(seed)
    model = build_unet((None, None, images[0].shape[-1]))
    pairs = [standardize(image) for image in images], [targets(image) for image in labels]
    weights = [len(np.unique(image)) for image in labels]
    crops = random_crops(*pairs, -(-crop // 8) * 8, seed=seed, weights=weights)
    fit(model, crops, steps, epochs=max(steps // 50, 1), metrics=[iou_metric], callbacks=callbacks)
    return model


def fit(
    model: keras.Model,
    crops: tf.data.Dataset,
    steps: int,
    *,
    epochs: int = 1,
    rate: float = 1e-2,
    loss: Any = bce_jaccard,
    metrics: Sequence[Any] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Compile a model and train it, with a learning rate that rises to `rate` in a tenth of the steps and falls to 0.

    Parameters
    ----------
    model : keras.Model
        Of logits; any architecture.
    crops : tf.data.Dataset
        From `random_crops`.
    steps, epochs : int
        An epoch has ``steps // epochs`` steps.
    rate : float
    loss, metrics, callbacks
        For ``compile`` and ``fit``.
    """
    warmup = -(-steps // 10)
    rates = keras.optimizers.schedules.CosineDecay(0.0, max(steps - warmup, 1), warmup_target=rate, warmup_steps=warmup)
    model.compile(keras.optimizers.Nadam(rates), loss, metrics=list(metrics))
    # Else ``fit`` makes the variables in its first step, which is traced twice: as long as a hundred steps.
    model.optimizer.build(model.trainable_variables)
    options = {"steps_per_epoch": steps // epochs, "epochs": epochs, "verbose": 0, "shuffle": False}
    model.fit(crops, callbacks=list(callbacks), **options)


def predict_objects(
    model: keras.Model, image: ArrayLike, *, threshold: float = 0.5, min_depth: float = 0.4
) -> NDArray[np.int32]:
    """Return the objects of an image, also where they touch: `find_objects` of what the model predicts.

    Parameters
    ----------
    model : keras.Model
        From `train`.
    image : array-like of shape (height, width, channels)
        As it is, of any size.
    threshold, min_depth : float
        See `find_objects`.

    Returns
    -------
    ndarray of shape (height, width), dtype int32
        0 is background, 1, 2, … are the objects.

    Raises
    ------
    ValueError
        Another number of channels, or `min_depth` is not above 0.
    """
    return find_objects(predict_tiled(model, standardize(image)), threshold=threshold, min_depth=min_depth)


def find_objects(logits: NDArray[Any], *, threshold: float = 0.5, min_depth: float = 0.4) -> NDArray[np.int32]:
    """Return the objects of an image: a watershed from the predicted markers, within the predicted mask.

    Parameters
    ----------
    logits : ndarray of shape (height, width, 2)
        Of mask and markers.
    threshold : float
        Of the mask's probability.
    min_depth : float
        Markers that have run into each other are split, too; see `helpers.masks.split_touching`.

    Returns
    -------
    ndarray of shape (height, width), dtype int32
        0 is background, 1, 2, … are the objects. What has no marker of at least 4 pixels is none.

    Raises
    ------
    ValueError
        `min_depth` is not above 0.
    """
    mask, marker = np.moveaxis(expit(logits), -1, 0)
    seeds = split_touching(marker > 0.5, min_depth=min_depth)
    seeds = np.where(np.bincount(seeds.ravel())[seeds] < 4, 0, seeds)
    objects = watershed(-marker, seeds, mask=(mask > threshold) | (seeds > 0))
    return relabel_sequential(objects)[0].astype(np.int32)


def predict_tiled(
    model: keras.Model,
    image: Any,
    *,
    tile: int = 512,
    halo: int | None = None,
    preprocess: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
    dtype: Literal["float32", "uint8"] = "float32",
    out: Any = None,
) -> Any:
    """Predict an image of any size, tile by tile, and get what a prediction of the whole image would give.

    Each tile is read with a halo, predicted, and the halo cut off. Where the halo covers the receptive field, and tiles
    begin on multiples of the stride, the result is that of the whole image: up to rounding, on many processors to the
    bit. Memory is that of one tile, and of `out`. An image of any size is continued by reflection up to a multiple of
    the stride, and cut back.

    Parameters
    ----------
    model : keras.Model
        As in `receptive_field`.
    image : array-like of shape (height, width, channels)
        Read by slices: a ``np.memmap`` need not fit into memory.
    tile : int
        Pixels a side that are kept of each prediction, rounded up to a multiple of the stride; as large as the image or
        larger: the image is predicted whole.
    halo : int, optional
        Pixels around each tile, rounded up likewise; when left out, what `receptive_field` tells.
    preprocess : callable
        Done to each tile with its halo, such as a division by the standard deviation of the whole image; it must treat
        each pixel alike.
    dtype : {'float32', 'uint8'}
        uint8: 255 times the output, rounded; for outputs that are probabilities.
    out : array, optional
        Receives the result, as a ``np.memmap`` does, of shape (height, width, classes).

    Returns
    -------
    array of shape (height, width, classes)
        `out`, or a new one.

    Raises
    ------
    ValueError
        An image, a number or `out` does not fit; an output outside [0, 1] is asked for as uint8.

    Examples
    --------
    >>> predict_tiled(build_unet(base_filters=4), np.zeros((30, 50, 1)), tile=16).shape
    (30, 50, 2)
    """
    radius, stride = receptive_field(model)
    image = image if hasattr(image, "shape") else np.asarray(image)
    shape, channels, classes = tuple(image.shape), model.inputs[0].shape[-1], model.outputs[0].shape[-1]
    if len(shape) != 3 or shape[-1] != channels or min(shape) < 1:
        raise ValueError(f"image must be of shape (height, width, {channels}); got {shape}.")
    halo = radius if halo is None else halo
    if tile < 1 or halo < 0 or dtype not in ("float32", "uint8"):
        found = f"{tile}, {halo}, {dtype!r}"
        raise ValueError(f"tile must be at least 1, halo at least 0, dtype 'float32' or 'uint8'; got {found}.")
    expected = (*shape[:2], classes)
    out = np.empty(expected, dtype) if out is None else out
    if out.shape != expected or out.dtype != dtype:
        raise ValueError(f"out must be of shape {expected} and {dtype}; got {out.dtype} of shape {out.shape}.")
    halo, tile, *padded = (-(-pixels // stride) * stride for pixels in (halo, tile, *shape[:2]))
    window = [min(tile + 2 * halo, size) for size in padded]
    for corner in itertools.product(*(range(0, size, tile) for size in padded)):
        # All windows have one size, so that the network is traced once: at an edge they are moved inwards.
        start = [min(max(at - halo, 0), size - n) for at, size, n in zip(corner, padded, window, strict=True)]
        end = [min(at + tile, size) for at, size in zip(corner, shape, strict=False)]
        output = model.predict_on_batch(_window(image, start, window, preprocess)[np.newaxis])[0]
        kept = output[tuple(slice(a - s, b - s) for a, b, s in zip(corner, end, start, strict=True))]
        if dtype == "uint8" and not ((kept >= 0) & (kept <= 1)).all():
            raise ValueError("dtype 'uint8' is for probabilities; the model's output is not within [0, 1].")
        out[corner[0] : end[0], corner[1] : end[1]] = np.rint(255 * kept) if dtype == "uint8" else kept
    return out


def _window(image: Any, start: Sequence[int], size: Sequence[int], preprocess: Any = np.asarray) -> NDArray[Any]:
    part = preprocess(np.asarray(image[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]))
    missing = ((0, size[0] - part.shape[0]), (0, size[1] - part.shape[1]), (0, 0))
    return np.pad(part, missing, mode="reflect").astype(np.float32)


def predict_tta(predict: Callable[[NDArray[Any]], NDArray[Any]], image: ArrayLike) -> NDArray[Any]:
    """Predict an image in all eight orientations, turned and mirrored, and return the mean of the outputs.

    Test-time augmentation, for objects that have no up and down. It takes eight times as long.

    Parameters
    ----------
    predict : callable
        From (height, width, channels) to (height, width, classes), for any height and width.
    image : array-like of shape (height, width, channels)

    Returns
    -------
    ndarray of shape (height, width, classes)

    Examples
    --------
    >>> predict_tta(lambda image: 2 * image, [[[1.0], [2.0]]])[0, :, 0]
    array([2., 4.])
    """
    image = np.asarray(image)
    total: Any = 0.0
    for turns in range(4):
        turned = np.rot90(image, turns)
        total = total + np.rot90(predict(turned), -turns) + np.rot90(predict(turned[:, ::-1])[:, ::-1], -turns)
    return total / 8


def export(model: keras.Model, folder: str | os.PathLike[str]) -> None:
    """Write a SavedModel from raw images of any size to probabilities: `standardize`, padding and sigmoid included.

    Its one signature takes ``images``, float32 of shape (n, height, width, channels), each side at least as long as
    the model's stride, and ``scale``, by which an image is resized before, and the output back after: 0.5 for an image
    in which objects are twice as large as in training, else 1. It returns ``probabilities``.

    Parameters
    ----------
    model : keras.Model
        As in `receptive_field`; it returns logits.
    folder : path-like
        Is made.

    Raises
    ------
    ValueError
        `folder` exists.
    """
    if Path(folder).exists():
        raise ValueError(f"{os.fspath(folder)!r} exists: a model is never written over another.")
    _, stride = receptive_field(model)

    def serve(images: Any, scale: Any) -> dict[str, Any]:
        size = tf.shape(images)[1:3]

        def resized(images: Any, by: Any) -> Any:
            scaled = tf.cast(tf.round(tf.cast(size, tf.float32) * by), tf.int32)
            return tf.image.resize(images, tf.maximum(scaled, stride))

        # LiteRT and OpenVINO lack the antialias filter: in two steps, no pixel is skipped down to a quarter.
        standard = resized(resized(images, tf.sqrt(scale)), scale)
        # What `standardize` does in float64: a second mean takes what rounding left of the first.
        for _ in range(2):
            standard -= tf.reduce_mean(standard, (1, 2), keepdims=True)
        standard = tf.math.divide_no_nan(standard, tf.sqrt(tf.reduce_mean(standard**2, (1, 2), keepdims=True)))
        inside = tf.shape(standard)[1:3]
        for axis in (1, 2):
            last = inside[axis - 1] - 1
            places = tf.range((last // stride + 1) * stride)
            standard = tf.gather(standard, last - tf.abs(last - places), axis=axis)
        output = tf.sigmoid(model(standard, training=False))[:, : inside[0], : inside[1]]
        return {"probabilities": tf.image.resize(output, size)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    image_spec = tf.TensorSpec((None, None, None, model.inputs[0].shape[-1]), tf.float32, name="images")
    archive.add_endpoint("serve", serve, input_signature=[image_spec, tf.TensorSpec((), tf.float32, name="scale")])
    archive.write_out(os.fspath(folder), verbose=False)
