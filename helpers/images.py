"""The reader's images, alone or with masks: read, paired by name, validated.

The gap: Pillow and tifffile read files; neither says that an image lies on its side or has no mask, that a mask has
another size, was saved as JPEG, or holds classes instead of objects. Every set ends in a `Dataset` or in one clear
sentence.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from helpers.data import OWN, Dataset, binary_labels, existing_path, require
from helpers.notebook import UserError, some

__all__ = ["open_folder", "open_pairs", "read_image"]

MIN_PAIRS = 6  # Training, validation and test need images of their own.
MIN_SIDE = 8
# A word stands between separators or digits: not in gtex_1, but in mask01. Cellpose saves a_cp_masks.png.
MASK_WORD = r"(?<![^-_. \d])(?:masks?|labels?|gt|ground[-_. ]?truth|segs?|segmentations?|annotations?)(?![^-_. \d])"
WORD = MASK_WORD.replace("masks?", "masks?|imgs?|images?|cp")
LOSSY = "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"
# Of a mask, a palette's index is the label and alpha may be all there is.
IMAGE_MODES, MASK_MODES = ("L", "I", "F"), ("1", "L", "I", "F", "P", "LA", "PA", "RGBA")
SMOOTHED = "as after smoothing, resizing or JPEG: save masks as PNG and resize them without interpolation"
DAMAGED = "empty, damaged, or in a format that neither Pillow nor tifffile reads"
T = TypeVar("T")


def read_image(source: str | os.PathLike[str] | BinaryIO | NDArray[Any]) -> NDArray[np.uint8]:
    """Read any image as upright RGB.

    Pillow leaves the EXIF orientation to the caller, gives grey, palette and RGBA images two to four channels, and
    clips 16-bit grey to white; all of that is undone here. Transparency is dropped.

    Parameters
    ----------
    source : path-like, binary file, or ndarray
        An array must be uint8 of shape (height, width), (height, width, 3) or (height, width, 4).

    Returns
    -------
    ndarray of shape (height, width, 3), dtype uint8

    Raises
    ------
    ValueError
        No image, a damaged one (a UserError if `source` is a path), or an array of another shape or dtype.

    Examples
    --------
    >>> read_image(np.zeros((4, 6), dtype=np.uint8)).shape
    (4, 6, 3)
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))):
            raise ValueError(
                "an image array must be uint8 of shape (height, width) or (height, width, 3 or 4);"
                f" got {source.dtype} of shape {source.shape}."
            )
        return np.asarray(Image.fromarray(source).convert("RGB"))
    is_path = isinstance(source, (str, os.PathLike))
    name, error_type = (repr(str(source)), UserError) if is_path else ("the file", ValueError)
    try:
        with Image.open(source) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise error_type(f"{name} is no readable image: {error}.") from error
    if upright.mode.startswith("I;16"):
        return np.repeat((np.asarray(upright, dtype=np.uint16) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if upright.mode in ("I", "F"):
        raise error_type(f"{name} holds 32-bit values: scale them to 0-255 and save as 8 bit first.")
    return np.asarray(upright.convert("RGB"))


def open_folder(path: str | os.PathLike[str], positive_label: str = "") -> Dataset:
    """Read the reader's own images of two classes, one sub-folder a class.

    Parameters
    ----------
    path : path-like
        The folder whose sub-folders are the classes.
    positive_label : str
        The class that is 1; see `helpers.data.binary_labels`.

    Returns
    -------
    Dataset of kind 'image'
        Its X holds the files' paths, for `read_image`.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    UserError
        No image in any sub-folder, folders in folders, unreadable images, or labels that `binary_labels` refuses.
    """
    path = existing_path(path)
    files = [file for file in sorted(path.glob("[!.]*/**/*")) if _is_image(file)]
    names = [file.relative_to(path) for file in files]
    require(files, f"{str(path)!r} must hold one sub-folder of images a class; no image was found in any.")
    nested = [str(name.parent) for name in names if len(name.parts) > 2]
    require(
        not nested,
        f"{str(path)!r} holds folders in folders ({some(nested, most=1)}): name the folder whose sub-folders are the"
        " classes.",
    )
    y, class_names = binary_labels([name.parts[0] for name in names], positive_label, path.name)
    _read_all(_decode, files, f"images in {path.name}", path)
    X = np.array([str(file) for file in files], dtype=object)
    return Dataset(path.name, "image", X, y, class_names, str(path), OWN)


def open_pairs(image_dir: str | os.PathLike[str], mask_dir: str | os.PathLike[str]) -> Dataset:
    """Read the reader's own images and the masks of their objects.

    An image and its mask have the same name, but for the extension; where not all have, words such as img, mask,
    label or seg do not count: 000_img.png belongs to 000_masks.png.

    Parameters
    ----------
    image_dir, mask_dir : path-like
        The folders, searched without their sub-folders. They may be one: then the masks are the files with mask,
        label, gt, seg or annotation in their names.

    Returns
    -------
    Dataset of kind 'mask'
        X : list of ndarray (height, width, channels)
            In the files' precision: uint8, uint16 or float32. One channel if all images are grey, else three; upright
            as their EXIF data say, without transparency. Sizes may differ.
        y : list of ndarray (height, width), dtype int32
            0 is the background, 1..n are the objects.

    Raises
    ------
    FileNotFoundError
        Nothing is at `image_dir` or `mask_dir`.
    UserError
        A folder without images, an image without a mask, a name that fits twice, fewer than 6 pairs, unreadable or
        unsuitable files, a mask of another size, or masks without objects, without background or after smoothing.

    Notes
    -----
    If no mask holds more than one value beside 0, every connected region is an object; pixels that touch only at a
    corner are not connected. Otherwise every value or colour is an object, unless more than half of them lie in
    several regions: then values are classes, and every connected region of a value is an object.

    Examples
    --------
    >>> import tempfile
    >>> pixels = np.zeros((8, 12), dtype=np.uint8)
    >>> pixels[2:4, 3:6] = pixels[6:, 9:] = 255
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in (f"{number}_{what}.png" for number in range(6) for what in ("img", "masks")):
    ...         Image.fromarray(pixels).save(f"{folder}/{name}")
    ...     cells = open_pairs(folder, folder)
    >>> len(cells.X), cells.X[0].shape, int(cells.y[0].max())
    (6, (8, 12, 1), 2)
    """
    image_path, image_files = _files(image_dir, "image_dir")
    mask_path, mask_files = _files(mask_dir, "mask_dir")
    if image_path.samefile(mask_path):
        mask_files = [path for path in mask_files if _is_mask(path)]
        image_files = [path for path in image_files if not _is_mask(path)]
        require(
            mask_files and image_files,
            f"image_dir and mask_dir are both {str(image_path)!r}, where {'every' if mask_files else 'no'} name holds"
            " mask, label, gt, seg or annotation as a word: the masks cannot be told from the images.",
        )
    pairs = _pair(image_files, mask_files)
    too_few = f"{str(image_path)!r} holds {len(pairs)} images with a mask: at least {MIN_PAIRS} are needed"
    require(len(pairs) >= MIN_PAIRS, f"{too_few}, as training, validation and test need images of their own.")
    images = _read_all(_image, pairs.keys(), "images")
    masks = _read_all(_mask, pairs.values(), "masks")
    _require_same_sizes(pairs, images, masks)
    X, notes = _same_channels(pairs, images)
    if left := sorted(path.name for path in set(mask_files) - set(pairs.values())):
        notes.append(f"{len(left)} masks have no image and are left out: {some(left)}")
    y, more_notes = _objects(masks)
    class_names, notes = ("background", "object"), [*notes, *more_notes]
    return Dataset(image_path.resolve().name, "mask", X, y, class_names, str(image_path), OWN, notes=tuple(notes))


def _is_image(path: Path) -> bool:
    readable = Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN
    return readable and not path.name.startswith(".") and path.is_file()


def _files(folder: str | os.PathLike[str], argument: str) -> tuple[Path, list[Path]]:
    require(os.fspath(folder), f"{argument} is empty: name a folder.")
    path = existing_path(folder, argument)
    require(path.is_dir(), f"{argument} must be a folder of images; {str(path)!r} is a file.")
    found = sorted(filter(_is_image, path.iterdir()))
    inside = sorted({file.parent.name for file in path.glob("*/*") if _is_image(file)})
    hint = f"; its sub-folders do: name one of them as {argument}: {some(inside)}" if inside else ""
    require(found, f"{argument} {str(path)!r} holds no image{hint}.")
    return path, found


def _is_mask(path: Path) -> bool:
    return re.search(MASK_WORD, path.stem, re.IGNORECASE) is not None


def _bare(stem: str) -> str:
    """Return a name without its words such as img or mask, and with one separator only."""
    return re.sub(r"[-_. ]+", "_", re.sub(WORD, "", stem, flags=re.IGNORECASE)).strip("_") or stem


def _pair(images: list[Path], masks: list[Path]) -> dict[Path, Path]:
    """Return the mask of each image: by the same name first, what is left over by the name without its words."""
    pairs: dict[Path, Path] = {}
    for key in (str, _bare):
        left = _by_key(images, key, "images", pairs.keys())
        left_masks = _by_key(masks, key, "masks", pairs.values())
        pairs |= {path: left_masks[name] for name, path in left.items() if name in left_masks}
        if len(pairs) == len(images):
            return {path: pairs[path] for path in images}
    alone = [path.name for path in images if path not in pairs]
    raise UserError(f"{len(alone)} of {len(images)} images have no mask of the same name: {some(alone)}.")


def _by_key(paths: list[Path], key: Callable[[str], str], noun: str, taken: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in set(paths) - set(taken):
        other = found.setdefault(name := key(path.stem), path)
        both = some(sorted([other.name, path.name]))
        require(other is path, f"two {noun} go by the name {name!r}: {both}; keep one.")
    return found


class _UnusableError(Exception):
    """Why a file cannot be used."""


def _read_all(read: Callable[[Path], T], paths: Iterable[Path], noun: str, parent: Path | None = None) -> list[T]:
    results, unusable, paths = [], dict[str, list[str]](), list(paths)
    for path in paths:
        try:
            results.append(read(path))
        except _UnusableError as reason:
            unusable.setdefault(str(reason), []).append(str(path.relative_to(parent or path.parent)))
    for why, names in unusable.items():
        raise UserError(f"{len(names)} of {len(paths)} {noun} cannot be used, {why}: {some(names)}.")
    return results


def _decode(path: Path) -> None:
    try:
        with Image.open(path) as image:
            # At a small size where the format can: a file that was cut short is found all the same.
            image.draft("RGB", (32, 32))
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _UnusableError("empty, damaged, or in a format that Pillow does not read") from error


class _File(NamedTuple):
    pixels: NDArray[Any]  # of a mask, int64 of shape (height, width): labels, or numbers for colours
    lossy: bool = False  # saved as JPEG or the like
    reduced: bool = False  # to 8 bits of 16
    from_alpha: bool = False


def _read(path: Path, modes: tuple[str, ...]) -> _File:
    try:
        # A large image is no attack here, and what a damaged file warns of is refused below.
        with warnings.catch_warnings(action="ignore"):
            pixels = _tiff(path) if path.suffix.lower() in (".tif", ".tiff") else None
            return _pillow(path, modes) if pixels is None else _File(pixels)
    except Image.DecompressionBombError as error:
        raise _UnusableError(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from error
    except _UnusableError:
        raise
    except Exception as error:  # Over a damaged file, either library raises whatever its parser stumbles on.
        raise _UnusableError(DAMAGED) from error


def _pillow(path: Path, modes: tuple[str, ...]) -> _File:
    with Image.open(path) as image:
        # The further pages of MPO, a JPEG of a phone, are previews.
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise _UnusableError("more than one page")
        lossy = image.format in LOSSY or image.info.get("compression") == "jpeg"
        reduced = image.mode.startswith("RGB") and any(";16" in str(tile.args) for tile in image.tile)
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode not in modes and not upright.mode.startswith("I;16"):
        upright = upright.convert("RGB")
    return _File(np.array(upright), lossy, reduced)


def _tiff(path: Path) -> NDArray[Any] | None:
    """Return what tifffile reads, as it keeps all bits; None where Pillow has to, which knows more encodings."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages.first
            series, pixels = file.series[0], file.asarray(series=0)
    except Exception:  # Whatever its parser stumbles on, Pillow may read the file.
        return None
    if len(file.series) > 1 or series.axes not in ("YX", "YXS", "SYX", "CYX"):
        raise _UnusableError("a stack of several pages: save each page as a file")
    turned = "Orientation" in page.tags and page.tags["Orientation"].value != 1
    plain = page.photometric.name in ("MINISBLACK", "RGB") and page.compression.name in ("NONE", "ADOBE_DEFLATE")
    # tifffile would fill strips that are not there with 0.
    lacking = len(page.dataoffsets) != np.prod(page.chunked)
    if turned or lacking or not plain or page.bitspersample < 8:
        return None
    pixels = np.moveaxis(pixels, 0, -1) if series.axes[0] in "SC" else pixels
    if page.photometric.name == "RGB":
        pixels = pixels[..., :3]
    elif 1 in page.extrasamples or 2 in page.extrasamples:
        pixels = pixels[..., :-1]
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        raise _UnusableError("neither one nor three colour channels")
    return pixels


def _image(path: Path) -> _File:
    pixels, _, reduced, _ = _read(path, IMAGE_MODES)
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise _UnusableError(f"a side shorter than {MIN_SIDE} pixels")
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise _UnusableError("NaN or infinite values")
    elif pixels.dtype not in (np.uint8, np.uint16):
        if pixels.min() < 0 or pixels.max() > 65535:
            raise _UnusableError("integers beyond 0..65535: scale them and save as 16 bit")
        pixels = pixels.astype(np.uint16)
    if pixels.ndim == 2 or (pixels == pixels[..., :1]).all():
        pixels = pixels.reshape(*pixels.shape[:2], -1)[..., :1].copy()
    return _File(pixels, reduced=reduced)


def _mask(path: Path) -> _File:
    pixels, lossy, reduced, _ = _read(path, MASK_MODES)
    if reduced:
        raise _UnusableError("colours of 16 bits, of which only 8 can be read: save labels as 16-bit grey")
    if pixels.dtype.kind == "f" and not (np.isfinite(pixels) & (pixels == np.floor(pixels))).all():
        raise _UnusableError("values that are no whole numbers, such as probabilities")
    if pixels.min() < 0:
        raise _UnusableError("negative labels")
    from_alpha = False
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels, alpha = pixels[..., :-1], pixels[..., -1:]
        from_alpha = bool(np.ptp(alpha) > 0 and (pixels == pixels[0, 0]).all())
        pixels = alpha if from_alpha else pixels
    if pixels.ndim == 3:
        grey = (pixels == pixels[..., :1]).all()
        pixels = pixels[..., 0] if grey else pixels.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1])
    if lossy and len(np.unique(pixels)) > 2:
        raise _UnusableError("saved as JPEG or the like, which changes labels: save masks as PNG")
    return _File(pixels.astype(np.int64), from_alpha=from_alpha)


def _require_same_sizes(pairs: dict[Path, Path], images: list[_File], masks: list[_File]) -> None:
    wrong = []
    for (image_file, mask_file), image, mask in zip(pairs.items(), images, masks, strict=True):
        size, mask_size = image.pixels.shape[1::-1], mask.pixels.shape[::-1]
        if size != mask_size:
            turned = ": it looks turned by a quarter" if size == mask_size[::-1] else ""
            wrong.append(
                f"{mask_file.name!r} is {mask_size[0]} × {mask_size[1]} pixels (width × height), its image"
                f" {image_file.name!r} {size[0]} × {size[1]}{turned}"
            )
    require(not wrong, f"{len(wrong)} of {len(masks)} masks have another size than their image: {''.join(wrong[:1])}.")


def _same_channels(pairs: dict[Path, Path], images: list[_File]) -> tuple[list[NDArray[Any]], list[str]]:
    X, notes = [image.pixels for image in images], []
    grey = sum(pixels.shape[2] == 1 for pixels in X)
    if 0 < grey < len(X):
        X = [np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy() for pixels in X]
        notes.append(f"{grey} images are grey, the others are not: their one channel is repeated three times")
    dtypes = Counter(str(pixels.dtype) for pixels in X)
    if len(dtypes) > 1:
        notes.append(f"the images differ in precision: {', '.join(f'{n} {dtype}' for dtype, n in dtypes.items())}")
    if reduced := [path.name for path, image in zip(pairs, images, strict=True) if image.reduced]:
        notes.append(f"{len(reduced)} images hold colours of 16 bits and are read with 8: {some(reduced)}")
    return X, notes


def _objects(found: list[_File]) -> tuple[list[NDArray[np.int32]], list[str]]:
    """Return a label image for each mask, and notes on how the masks were understood."""
    masks, notes = [mask.pixels for mask in found], []
    kinds = [np.unique(mask) for mask in masks]
    filled = [values for values in kinds if values.any()]
    require(filled, f"no object is in any of the {len(masks)} masks: all pixels are 0, the background.")
    require(
        not all(values[0] for values in filled),
        "no mask holds objects and 0 (black), which marks the background: objects cover all pixels, or the two folders"
        " are exchanged.",
    )
    if len(filled) < len(masks):
        notes.append(f"{len(masks) - len(filled)} masks hold no object")
    if n := sum(mask.from_alpha for mask in found):
        notes.append(f"{n} masks are read from the transparency of an image of one colour")
    several = sum(np.count_nonzero(values) > 1 for values in kinds)
    if several and not _smoothed(masks):
        labels, more_notes = _instances_or_classes(masks)
        return labels, notes + more_notes
    if several:
        notes.append(f"{several} masks have smoothed borders, cut at 128")
        lost = any(mask.any() and mask.max() < 128 for mask in masks)
        require(not lost, f"some masks hold 0 and 255 with greys at the borders, others greys only, {SMOOTHED}.")
    regions = [ndimage.label(mask >= (128 if several else 1))[0] for mask in masks]
    if (share := np.mean([np.mean(labels > 0) for labels in regions])) > 0.5:
        notes.append(f"objects cover {share:.0%} of the pixels: if 0 marks them, invert the masks")
    notes.append("masks hold one value beside 0: each connected region is an object, touching objects are one")
    return regions, notes


def _instances_or_classes(masks: list[NDArray[np.int64]]) -> tuple[list[NDArray[np.int32]], list[str]]:
    from skimage import measure

    y, every_region, parts, sizes = [], [], [], []
    for mask in masks:
        codes, values = pd.factorize(mask.ravel(), sort=True)
        y.append((codes + (values[0] != 0)).astype(np.int32).reshape(mask.shape))
        every_region.append(measure.label(y[-1], connectivity=1).astype(np.int32))
        _, first, size = np.unique(every_region[-1], return_index=True, return_counts=True)
        label_of_region = y[-1].ravel()[first]
        parts.append(np.bincount(label_of_region)[1:])
        sizes.append(size[label_of_region > 0])
    several = np.concatenate(parts) > 1
    if several.mean() <= 0.5:
        return y, [f"{several.sum()} of {several.size} objects consist of several regions"] * bool(several.any())
    typical = np.median(np.concatenate(sizes))
    require(typical > 2, f"most values of the masks lie in many regions of one or two pixels, {SMOOTHED}.")
    return every_region, [
        f"{several.sum()} of {several.size} values lie in several regions: values are read as classes, and each"
        " connected region of a value is an object"
    ]


def _smoothed(masks: list[NDArray[np.int64]]) -> bool:
    """Say whether masks of 0 and 255 have grey borders; UserError if their greys lie elsewhere too."""
    if max(mask.max() for mask in masks) != 255:
        return False
    counts = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], axis=0)
    between = counts[1:255].sum()
    # Labels of objects: as a rule, 255 is no larger than all others together.
    if counts[255] <= between:
        return False
    at_borders = 0
    for mask in masks:
        edge = (ndimage.minimum_filter(mask, 5) == 0) & (ndimage.maximum_filter(mask, 5) == 255)
        at_borders += int(np.count_nonzero(edge & (mask > 0) & (mask < 255)))
    smoothed = at_borders >= 0.9 * between
    few_greys = np.count_nonzero(counts[1:255]) <= 8
    require(smoothed or few_greys, f"the masks hold 0, 255 and many greys between them, {SMOOTHED}.")
    return bool(smoothed)
