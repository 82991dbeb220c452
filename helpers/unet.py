"""A U-Net: the model, its targets and losses, paired augmentation, and the prediction of images of any size.

The gap: Keras has the layers and most losses, and no such model. Its augmentation layers turn a mask with its image
only under one name of a key, and say nothing under any other. ``predict`` wants sides that the network can halve and
memory for the whole image; a loop of ``predict`` over tiles leaves seams, unless each tile is read with a halo that
covers what the network sees.

Images are arrays of shape (n, height, width, channels); masks are the same, one channel a class. Models return logits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import ArrayLike, NDArray
from rich.progress import track
from scipy import ndimage

__all__ = [
    "OneCycle",
    "bce_dice",
    "bce_jaccard",
    "build_unet",
    "compile_model",
    "random_crops",
    "dice_loss",
    "export",
    "iou_metric",
    "augment_pairs",
    "predict_tiled",
    "predict_tta",
    "receptive_field",
    "reset_weights",
    "standardize",
    "targets",
    "weighted_bce",
]


def build_unet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 1),
    *,
    base_filters: int = 16,
    depth: int = 2,
    n_classes: int = 1,
    stem: Literal["half", "full"] = "half",
    bridge: Literal["plain", "aspp"] = "plain",
) -> keras.Model:
    """Build a U-Net that returns logits.

    Parameters
    ----------
    input_shape : tuple
        Height, width and channels; None for any. Sides must be multiples of the stride that `receptive_field` tells,
        ``2 ** depth``, or twice that with a half-resolution stem; `predict_tiled` pads and crops.
    base_filters : int
        Filters at the highest resolution; they double with each level.
    depth : int
        How many times the resolution is halved after the stem.
    n_classes : int
        Channels of the output: each a logit of its own for a sigmoid, or together those of a softmax.
    stem : {'half', 'full'}
        'half': the first convolution takes every second pixel, so that nearly all the work is done on a quarter of
        the pixels; objects should be several pixels wide.
    bridge : {'plain', 'aspp'}
        The lowest level: two convolutions, or DeepLab's atrous spatial pyramid, dilated convolutions side by side.
        Without its branch of the image's mean: with it no part of an image could be predicted for itself.

    Returns
    -------
    keras.Model
        From (n, height, width, channels) to (n, height, width, n_classes), not compiled.

    Raises
    ------
    ValueError
        A number below 1, or a stem or a bridge that there is not.

    Notes
    -----
    Ronneberger, Fischer and Brox (2015), with three changes that make it fast on a processor: the stem, batch
    normalisation, and skips that are added and not concatenated. The pyramid is Chen et al.'s (2018).

    Examples
    --------
    >>> build_unet((None, None, 3), base_filters=4, n_classes=2).output_shape
    (None, None, None, 2)
    """
    if min(base_filters, depth, n_classes) < 1 or stem not in ("half", "full") or bridge not in ("plain", "aspp"):
        raise ValueError(
            "base_filters, depth and n_classes must be at least 1, stem 'half' or 'full', bridge 'plain' or 'aspp';"
            f" got {base_filters}, {depth}, {n_classes}, {stem!r}, {bridge!r}."
        )

    def convolve(x: Any, filters: int, size: int = 3, **options: int) -> Any:
        x = layers.Conv2D(filters, size, padding="same", use_bias=False, **options)(x)
        # Hundreds of steps are few: Keras's momentum of 0.99 would still remember the first weights.
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    def twice(x: Any, filters: int) -> Any:
        return convolve(convolve(x, filters), filters)

    def pyramid(x: Any, filters: int) -> Any:
        # Three quarters of the filters in each branch: as many weights as two plain convolutions.
        each = 3 * filters // 4
        branches = [convolve(x, each, 1), *(convolve(x, each, dilation_rate=rate) for rate in (1, 2, 4))]
        return convolve(layers.Concatenate()(branches), filters, 1)

    image = keras.Input(input_shape, name="image")
    x = convolve(image, base_filters, strides=2 if stem == "half" else 1)
    skips = []
    for level in range(depth):
        x = twice(x, base_filters * 2**level)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = (twice if bridge == "plain" else pyramid)(x, base_filters * 2**depth)
    for level in reversed(range(depth)):
        x = layers.Conv2DTranspose(base_filters * 2**level, 2, strides=2, use_bias=False)(x)
        x = twice(layers.Add()([x, skips[level]]), base_filters * 2**level)
    if stem == "half":
        x = layers.ReLU()(layers.Conv2DTranspose(base_filters, 2, strides=2)(x))
    return keras.Model(image, layers.Conv2D(n_classes, 1, name="logits")(x))


def receptive_field(model: keras.Model) -> tuple[int, int]:
    """Return how far a model sees around a pixel, and the stride on which its answer depends on the position.

    Parameters
    ----------
    model : keras.Model
        Of convolutions, transposed ones, poolings, upsamplings, sums, concatenations and what acts on each pixel for
        itself; its output has the size of its input.

    Returns
    -------
    radius : int
        Pixels. What lies farther away cannot change the answer.
    stride : int
        Pixels. A shift of the image by a multiple of it shifts the answer, and does nothing else.

    Raises
    ------
    ValueError
        A layer sees the whole image, is not known here or stands in two places; images of different sizes are joined;
        the output has another size than the input; or there are several inputs or outputs.

    Examples
    --------
    >>> receptive_field(build_unet(base_filters=4))
    (48, 8)
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"the model must have one input and one output; it has {len(model.inputs)} and {len(model.outputs)}."
        )
    # Each tensor's cell number i depends on the pixels from scale * i + low to scale * i + high.
    seen = {id(model.inputs[0]): (Fraction(1), Fraction(0), Fraction(0))}
    stride = 1
    # Not model.layers: a sum that is written with + is an operation and no layer. Of a Sequential the same.
    for layer in keras.Model(model.inputs, model.outputs).operations:
        if isinstance(layer, layers.InputLayer):
            continue
        entering = keras.tree.flatten(layer.input)
        if isinstance(layer, keras.Model) or any(id(tensor) not in seen for tensor in entering):
            raise ValueError(f"layer {layer.name!r} is a model, or it or the one before it stands in several places.")
        before = [seen[id(tensor)] for tensor in entering]
        scale, low, high = before[0][0], min(a for _, a, _ in before), max(b for _, _, b in before)
        if any(other != scale for other, _, _ in before):
            raise ValueError(f"layer {layer.name!r} joins images of different sizes.")
        scale, low, high = _through(layer, scale, low, high)
        seen[id(layer.output)] = scale, low, high
        stride = math.lcm(stride, scale.numerator)
    if id(model.outputs[0]) not in seen:
        raise ValueError("the layer of the model's output stands in several places.")
    scale, low, high = seen[id(model.outputs[0])]
    if scale != 1:
        raise ValueError(
            f"the model's output must have the size of its input; one of its pixels covers {float(scale):g}."
        )
    return math.ceil(max(-low, high)), stride


_EACH_PIXEL = (
    layers.Activation,
    layers.BatchNormalization,
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
    layers.Softmax,
    layers.Rescaling,
    layers.Add,
    layers.Concatenate,
    layers.Identity,
)


def _through(layer: Any, scale: Fraction, low: Fraction, high: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    if isinstance(layer, _EACH_PIXEL):
        if getattr(layer, "axis", -1) not in (-1, 3):
            raise ValueError(f"layer {layer.name!r} works along axis {layer.axis}, and not along the channels.")
        return scale, low, high
    if isinstance(layer, layers.UpSampling2D) and layer.interpolation in ("nearest", "bilinear"):
        stride, more = _both_sides(layer, layer.size), 0 if layer.interpolation == "nearest" else scale
        return scale / stride, low - scale / stride * (stride - 1) - more, high + more
    if isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D, layers.SeparableConv2D)):
        sides = zip(layer.kernel_size, layer.dilation_rate, strict=True)
        # Of an oblong kernel the longer side counts.
        stride, reach = _both_sides(layer, layer.strides), max((size - 1) * apart + 1 for size, apart in sides)
    elif isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)):
        stride, reach = _both_sides(layer, layer.strides), max(layer.pool_size)
    else:
        raise ValueError(f"how far layer {layer.name!r} ({type(layer).__name__}) sees is not known, or it sees all.")
    if layer.padding != "same" and reach != stride:
        raise ValueError(f"layer {layer.name!r} makes the image smaller at its border: padding must be 'same'.")
    # TensorFlow pads less before than after when it cannot pad both alike.
    before = max(reach - stride, 0) // 2
    if isinstance(layer, layers.Conv2DTranspose):
        return scale / stride, low - scale / stride * (reach - 1 - before), high + scale / stride * before
    return scale * stride, low - scale * before, high + scale * (reach - 1 - before)


def _both_sides(layer: Any, strides: tuple[int, int]) -> int:
    if strides[0] != strides[1]:
        raise ValueError(f"layer {layer.name!r} changes height and width by different factors, {strides}.")
    return strides[0]


def targets(labels: ArrayLike, radius: int = 2) -> NDArray[np.uint8]:
    """Turn label images into what the network learns: the mask, and the cores of the objects.

    Cores are the objects without their borders. They do not touch where objects do, so that they can be counted, and
    a watershed can start from them.

    Parameters
    ----------
    labels : array-like of shape (height, width) or (n, height, width)
        0 is background, each other value an object.
    radius : int
        How many pixels of an object's border are not its core.

    Returns
    -------
    ndarray of shape labels.shape + (2,), dtype uint8
        0 or 1: the mask, the cores.

    Raises
    ------
    ValueError
        Labels of another shape or no whole numbers, or a negative radius.

    Examples
    --------
    >>> targets([[1, 1, 1, 2, 2, 2]], radius=1)[0, :, 1]
    array([1, 1, 0, 0, 1, 1], dtype=uint8)
    """
    labels = np.asarray(labels)
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iub":
        raise ValueError(
            f"labels must be whole numbers of shape (height, width) or (n, height, width); got {labels.dtype}"
            f" of shape {labels.shape}."
        )
    if radius < 0:
        raise ValueError(f"radius must be at least 0 pixels; got {radius}.")
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (y**2 + x**2 <= radius**2).reshape((1,) * (labels.ndim - 2) + y.shape)
    alone = ndimage.minimum_filter(labels, footprint=disk, mode="nearest") == ndimage.maximum_filter(
        labels, footprint=disk, mode="nearest"
    )
    return np.stack([labels > 0, (labels > 0) & alone], axis=-1).astype(np.uint8)


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
    # First: sums of float32 are exact in float64, so that a constant channel spreads by 0 and not by what was rounded.
    image = np.asarray(image, dtype=np.float32)
    if image.ndim < 3 or not image.size:
        raise ValueError(f"image must be of shape (..., height, width, channels); got {image.shape}.")
    mean = image.mean(axis=(-3, -2), keepdims=True, dtype=np.float64)
    std = image.std(axis=(-3, -2), keepdims=True, dtype=np.float64)
    return ((image - mean) / np.where(std > 0, std, 1)).astype(np.float32)


def random_crops(
    images: Sequence[NDArray[Any]],
    masks: Sequence[NDArray[Any]],
    side: int,
    batch_size: int = 8,
    seed: int = 0,
) -> tf.data.Dataset:
    """Return endless batches of square pieces, cut at random from images of any size and turned at random.

    Parameters
    ----------
    images, masks : sequences of ndarray of shape (height, width, channels)
        An image that is smaller than a piece is continued by reflection.
    side : int
        Of the pieces, in pixels.
    batch_size, seed : int
        In each round over the images, every image gives one piece.

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
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if image.ndim != 3 or mask.ndim != 3 or image.shape[:2] != mask.shape[:2]:
            raise ValueError(
                f"image and mask {number} must be of shape (height, width, channels), the same height and width;"
                f" got {image.shape} and {mask.shape}."
            )
        if not image.size or (image.shape[2], mask.shape[2]) != (images[0].shape[2], masks[0].shape[2]):
            raise ValueError(
                f"image and mask {number} must have pixels, and as many channels as the first;"
                f" got {image.shape} and {mask.shape}."
            )

    def batches() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        random = np.random.default_rng(seed)
        waiting: list[int] = []
        while True:
            while len(waiting) < batch_size:
                waiting.extend(random.permutation(len(images)).tolist())
            pairs = [_piece(images[i], masks[i], side, random) for i in waiting[:batch_size]]
            del waiting[:batch_size]
            yield np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])

    signature = tuple(
        tf.TensorSpec((batch_size, side, side, pictures[0].shape[-1]), tf.float32) for pictures in (images, masks)
    )
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)


def _piece(
    image: NDArray[Any], mask: NDArray[Any], side: int, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    top, left = (int(random.integers(0, max(size - side, 0) + 1)) for size in image.shape[:2])
    turns, mirrored = int(random.integers(4)), bool(random.integers(2))

    def cut(picture: NDArray[Any]) -> NDArray[np.float32]:
        piece = picture[top : top + side, left : left + side]
        missing = [(0, side - size) for size in piece.shape[:2]]
        piece = np.rot90(np.pad(piece, (*missing, (0, 0)), mode="reflect"), turns)
        return (piece[:, ::-1] if mirrored else piece).astype(np.float32)

    return cut(image), cut(mask)


def augment_pairs(*augmentations: layers.Layer) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return a function for ``tf.data.Dataset.map`` that changes images and masks alike.

    The gap: Keras's layers move a mask with its image, to the nearest pixel, under the key ``segmentation_masks``;
    under any other name they leave it where it was, without a word.

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
        raise ValueError("RandomElasticTransform moves a mask otherwise than its image, under any key: leave it out.")
    pipeline = layers.Pipeline(list(augmentations))

    # It holds no Python loop; in a notebook AutoGraph fails to read it, and says so at length.
    @tf.autograph.experimental.do_not_convert
    def apply(images: Any, masks: Any) -> tuple[Any, Any]:
        both = pipeline({"images": images, "segmentation_masks": masks}, training=True)
        return both["images"], both["segmentation_masks"]

    return apply


def dice_loss(y_true: Any, logits: Any) -> Any:
    """Return one minus the soft Dice coefficient of each image and channel, from logits: shape (n, channels).

    The gap: ``keras.losses.dice`` costs 1 for an empty mask whatever is predicted, and teaches nothing there.
    """
    probabilities = ops.sigmoid(logits)
    # One pixel more in both: an empty mask, predicted empty, costs nothing.
    both = 2 * ops.sum(y_true * probabilities, axis=(1, 2)) + 1
    return 1 - both / (ops.sum(y_true + probabilities, axis=(1, 2)) + 1)


def _bce(y_true: Any, logits: Any) -> Any:
    return ops.mean(tf.nn.sigmoid_cross_entropy_with_logits(y_true, logits), axis=(1, 2))


def bce_dice(y_true: Any, logits: Any) -> Any:
    """Return binary cross-entropy plus `dice_loss`: shape (n, channels)."""
    return _bce(y_true, logits) + dice_loss(y_true, logits)


def bce_jaccard(y_true: Any, logits: Any) -> Any:
    """Return binary cross-entropy plus one minus the soft intersection over union: shape (n, channels)."""
    probabilities = ops.sigmoid(logits)
    both = ops.sum(y_true * probabilities, axis=(1, 2))
    either = ops.sum(y_true + probabilities, axis=(1, 2)) - both
    # One pixel more, as in `dice_loss`.
    return _bce(y_true, logits) + 1 - (both + 1) / (either + 1)


def weighted_bce(weight: float) -> Callable[[Any, Any], Any]:
    """Return a binary cross-entropy, from logits, in which a pixel of an object counts `weight` times."""

    def loss(y_true: Any, logits: Any) -> Any:
        return ops.mean(tf.nn.weighted_cross_entropy_with_logits(y_true, logits, weight), axis=(1, 2))

    return loss


def iou_metric(y_true: Any, logits: Any) -> Any:
    """Return the intersection over union of the first channel, for each image, from logits cut at 0.

    For ``model.compile(metrics=[iou_metric])``. Two empty masks agree: 1.
    """
    found, there = logits[..., 0] > 0, y_true[..., 0] > 0.5
    both = ops.sum(ops.cast(ops.logical_and(found, there), "float32"), axis=(1, 2))
    either = ops.sum(ops.cast(ops.logical_or(found, there), "float32"), axis=(1, 2))
    return ops.where(either > 0, both / ops.maximum(either, 1), 1.0)


def compile_model(model: keras.Model, loss: Any) -> None:
    """Compile a model with Nadam and `iou_metric`, and make the optimizer's variables now.

    The gap: ``fit`` makes them in its first step, which is therefore traced twice; of these networks that takes longer
    than a hundred steps.

    Parameters
    ----------
    model : keras.Model
    loss : callable or keras.losses.Loss
        From masks and logits.
    """
    model.compile(keras.optimizers.Nadam(), loss, metrics=[iou_metric])
    model.optimizer.build(model.trainable_variables)


def reset_weights(model: keras.Model, seed: int) -> None:
    """Give a compiled model new random weights and its optimizer a new start; what was traced stays.

    Parameters
    ----------
    model : keras.Model
        From `compile_model`.
    seed : int
        Of Python, NumPy and TensorFlow, from here on.
    """
    keras.utils.set_random_seed(seed)
    # Around the same layers and not compiled: of a compiled model Keras would look up the loss by its name, in vain.
    bare = keras.Model(model.inputs, model.outputs)
    model.set_weights(keras.models.clone_model(bare).get_weights())
    fresh = type(model.optimizer).from_config(model.optimizer.get_config())
    fresh.build(model.trainable_variables)
    for old, new in zip(model.optimizer.variables, fresh.variables, strict=True):
        old.assign(new)


class OneCycle(keras.callbacks.Callback):
    """Let the learning rate rise over the first tenth of a fit, and fall along a cosine to 0 over the rest.

    A callback and not one of Keras's schedules: it reads the number of steps from the fit, so that the same traced
    step serves a long training and a short one.

    Parameters
    ----------
    highest : float
        Batch normalisation lets these networks learn at 0.01, ten times Keras's default.

    Examples
    --------
    >>> rates = [OneCycle(1.0).rate(step, 100) for step in (0, 5, 10, 55, 99)]
    >>> [round(rate, 2) for rate in rates]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def __init__(self, highest: float = 1e-2) -> None:
        super().__init__()
        self.highest = highest

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rising = max(steps // 10, 1)
        if step < rising:
            return self.highest * step / rising
        return self.highest * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1))) / 2

    def on_train_begin(self, logs: Any = None) -> None:
        """Count from 0, and keep the rate that the optimizer has."""
        if self.params["steps"] is None:
            raise ValueError("OneCycle must know the number of steps: give fit its steps_per_epoch.")
        self._step, self._before = 0, float(self.model.optimizer.learning_rate.numpy())

    def on_train_end(self, logs: Any = None) -> None:
        """Give the rate back: that of the last step is next to nothing."""
        self.model.optimizer.learning_rate.assign(self._before)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of the step that follows."""
        steps = self.params["epochs"] * self.params["steps"]
        self.model.optimizer.learning_rate.assign(self.rate(self._step + 1, steps + 1))
        self._step += 1


def predict_tiled(
    model: keras.Model,
    image: Any,
    *,
    tile: int = 512,
    halo: int | None = None,
    batch_size: int = 1,
    preprocess: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
    dtype: Literal["float32", "uint8"] = "float32",
    out: Any = None,
    progress: bool = False,
) -> Any:
    """Predict an image of any size, piece by piece; the seams are not hidden, there are none.

    Each tile is read with a halo, predicted, and the halo cut off. Where the halo covers what the network sees, and
    tiles begin on multiples of its stride, the answer is that of the whole image, to the bit; with oneDNN's kernels,
    which add up in another order where there are several images, to the bit in batches of one, else up to rounding.
    Memory is that of one tile, and of `out`. An image of any size is continued by reflection up to a multiple of the
    stride, and cut back.

    Parameters
    ----------
    model : keras.Model
        As in `receptive_field`; of one input.
    image : array-like of shape (height, width, channels)
        Read by slices: a ``np.memmap`` need not fit into memory.
    tile : int
        Pixels a side that are kept of each piece, rounded up to a multiple of the stride; as large as the image or
        larger: the image is predicted whole.
    halo : int, optional
        The halo, in pixels, rounded up likewise; when left out, what the network needs.
    batch_size : int
        Tiles that are predicted at once.
    preprocess : callable
        Done to each piece, such as a division by the spread of the whole image; it must treat each pixel alike.
    dtype : {'float32', 'uint8'}
        uint8: 255 times the output, rounded; for outputs that are probabilities.
    out : array, optional
        Receives the answer, as a ``np.memmap`` does, of shape (height, width, classes).
    progress : bool
        Show a bar.

    Returns
    -------
    array of shape (height, width, classes)
        `out`, or a new one.

    Raises
    ------
    ValueError
        An image, a number or `out` does not fit; an answer outside [0, 1] is asked for as uint8.

    Examples
    --------
    >>> predict_tiled(build_unet(base_filters=4), np.zeros((30, 50, 1)), tile=16).shape
    (30, 50, 1)
    """
    radius, stride = receptive_field(model)
    image = image if hasattr(image, "shape") else np.asarray(image)
    shape, channels, classes = tuple(image.shape), model.inputs[0].shape[-1], model.outputs[0].shape[-1]
    if len(shape) != 3 or shape[-1] != channels or min(shape) < 1:
        raise ValueError(f"image must be of shape (height, width, {channels}); got {shape}.")
    if tile < 1 or batch_size < 1 or (halo is not None and halo < 0) or dtype not in ("float32", "uint8"):
        raise ValueError(
            "tile and batch_size must be at least 1, halo at least 0, dtype 'float32' or 'uint8';"
            f" got {tile}, {batch_size}, {halo}, {dtype!r}."
        )
    out = np.empty((*shape[:2], classes), dtype) if out is None else out
    if out.shape != (*shape[:2], classes) or out.dtype != dtype:
        raise ValueError(
            f"out must be of shape {(*shape[:2], classes)} and {dtype}; got {out.dtype} of shape {out.shape}."
        )

    def whole_strides(pixels: int) -> int:
        return -(-pixels // stride) * stride

    halo, tile = whole_strides(radius if halo is None else halo), whole_strides(tile)
    padded = [whole_strides(size) for size in shape[:2]]
    # All windows have one size, so that the network is traced once: at an edge they are moved inwards.
    window = [min(tile + 2 * halo, size) for size in padded]
    corners = [(top, left) for top in range(0, padded[0], tile) for left in range(0, padded[1], tile)]
    starts = [
        [min(max(at - halo, 0), whole - size) for at, whole, size in zip(corner, padded, window, strict=True)]
        for corner in corners
    ]
    for first in track(range(0, len(corners), batch_size), disable=not progress):
        batch = range(first, min(first + batch_size, len(corners)))
        pieces = np.stack([_window(image, starts[number], window, preprocess) for number in batch])
        for number, answer in zip(batch, model.predict_on_batch(pieces), strict=True):
            (top, left), (above, before) = corners[number], starts[number]
            bottom, right = min(top + tile, shape[0]), min(left + tile, shape[1])
            kept = answer[top - above : bottom - above, left - before : right - before]
            out[top:bottom, left:right] = kept if dtype == "float32" else _as_uint8(kept)
    return out


def _window(
    image: Any, start: Sequence[int], size: Sequence[int], preprocess: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[np.float32]:
    piece = preprocess(np.asarray(image[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]))
    missing = ((0, size[0] - piece.shape[0]), (0, size[1] - piece.shape[1]), (0, 0))
    return np.pad(piece, missing, mode="reflect").astype(np.float32)


def _as_uint8(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("dtype 'uint8' is for probabilities; the model's output is not within [0, 1].")
    return np.rint(255 * probabilities).astype(np.uint8)


def predict_tta(predict: Callable[[NDArray[Any]], NDArray[Any]], image: ArrayLike) -> NDArray[Any]:
    """Predict an image in all eight positions, turned and mirrored, and return the mean of the answers.

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


def export(
    model: keras.Model, folder: str | os.PathLike[str], activation: Literal["sigmoid", "softmax"] = "sigmoid"
) -> None:
    """Write a SavedModel that takes raw images of any size and returns probabilities: `standardize`, padding and all.

    Its one signature takes ``images``, float32 of shape (n, height, width, channels), each side at least as long as
    the model's stride, and ``scale``, by which an image is resized before, and the answer back after: 0.5 for an image
    in which objects are twice as large as in training, else 1. It returns ``probabilities``.

    Parameters
    ----------
    model : keras.Model
        As in `receptive_field`; it returns logits.
    folder : path-like
        Is made.
    activation : {'sigmoid', 'softmax'}
        What turns its logits into probabilities.

    Raises
    ------
    ValueError
        `folder` exists, or `activation` is another.
    """
    if activation not in ("sigmoid", "softmax"):
        raise ValueError(f"activation must be 'sigmoid' or 'softmax'; got {activation!r}.")
    if Path(folder).exists():
        raise ValueError(f"{os.fspath(folder)!r} exists: a model is never written over another.")
    _, stride = receptive_field(model)
    channels = model.inputs[0].shape[-1]
    probabilities_of = keras.activations.get(activation)

    def serve(images: Any, scale: Any) -> dict[str, Any]:
        size = tf.shape(images)[1:3]
        scaled = tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32)
        # What `standardize` does, as exact.
        resized = tf.cast(tf.image.resize(images, tf.maximum(scaled, stride), antialias=True), tf.float64)
        mean, variance = tf.nn.moments(resized, (1, 2), keepdims=True)
        standard = tf.cast((resized - mean) / tf.where(variance > 0, tf.sqrt(variance), 1), tf.float32)
        # A constant channel spreads after resizing by what was rounded: that would be made as large as a picture.
        varied = tf.reduce_max(images, (1, 2), keepdims=True) > tf.reduce_min(images, (1, 2), keepdims=True)
        standard = tf.where(varied, standard, 0)
        inside = tf.shape(standard)[1:3]
        missing = -inside % stride
        padded = tf.pad(standard, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]], mode="REFLECT")
        answer = probabilities_of(model(padded, training=False))[:, : inside[0], : inside[1]]
        return {"probabilities": tf.image.resize(answer, size, antialias=True)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [
        tf.TensorSpec((None, None, None, channels), tf.float32, name="images"),
        tf.TensorSpec((), tf.float32, name="scale"),
    ]
    archive.add_endpoint("serve", serve, input_signature=signature)
    archive.write_out(os.fspath(folder), verbose=False)
