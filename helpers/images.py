"""Images with their masks: read, paired by name, checked.

The gap: Pillow and tifffile read files; neither says that an image has no mask, that a mask has another size, is
turned, was saved as JPEG, or holds classes instead of objects. Every set ends in a `Dataset` or in one clear sentence.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage
from skimage import measure

from helpers.data import Dataset, labels_of, shown
from helpers.notebook import UserError, some

__all__ = ["open_folder", "open_pairs", "read_image"]

MIN_PAIRS = 6  # Training, validation and test need images of their own.
MIN_SIDE = 8
# A word stands between separators or digits: not in gtex_1, but in mask01. Cellpose saves a_cp_masks.png.
MASK_WORD = r"(?<![^-_. \d])(?:masks?|labels?|gt|ground[-_. ]?truth|segs?|segmentations?|annotations?)(?![^-_. \d])"
WORD = MASK_WORD.replace("masks?", "masks?|imgs?|images?|cp")
LOSSY = "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"
SMOOTHED = "as after smoothing, resizing or JPEG: save masks as PNG and resize them without interpolation"
BITS, SAMPLE_FORMAT = 258, 339  # The numbers of TIFF tags.
T = TypeVar("T")


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
    ValueError
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
    for argument, folder in (("image_dir", image_dir), ("mask_dir", mask_dir)):
        if not os.fspath(folder):
            raise UserError(f"{argument} is empty: name a folder.")
    image_path, mask_path = Path(image_dir).expanduser(), Path(mask_dir).expanduser()
    image_files, mask_files = _files(image_path, "image_dir"), _files(mask_path, "mask_dir")
    if image_path.samefile(mask_path):
        mask_files = [path for path in mask_files if _is_mask(path)]
        image_files = [path for path in image_files if not _is_mask(path)]
        if not mask_files or not image_files:
            raise UserError(
                f"image_dir and mask_dir are both {str(image_path)!r}, where {'every' if mask_files else 'no'} name"
                " holds mask, label, gt, seg or annotation as a word: the masks cannot be told from the images."
            )
    pairs = _pair(image_files, mask_files)
    if len(pairs) < MIN_PAIRS:
        raise UserError(
            f"{str(image_path)!r} holds {len(pairs)} images with a mask: at least {MIN_PAIRS} are needed, as training,"
            " validation and test need images of their own."
        )
    images = _read_all(_image, pairs.keys(), "images")
    masks = _read_all(_mask, pairs.values(), "masks")
    _same_sizes(pairs, images, masks)
    X, notes = _same_channels(pairs, images)
    objects: Any
    objects, more_notes = _objects(masks)
    if left := sorted(path.name for path in set(mask_files) - set(pairs.values())):
        notes.append(f"{len(left)} masks have no image and are left out: {some(left)}")
    return Dataset(
        name=image_path.resolve().name,
        kind="mask",
        X=X,
        y=objects,
        class_names=("background", "object"),
        source=str(image_path),
        licence="the reader's own",
        notes=(*notes, *more_notes),
    )


class _Unusable(Exception):
    """Why a file cannot be used."""


class _File(NamedTuple):
    pixels: NDArray[Any]
    lossy: bool = False
    reduced: bool = False


class _Mask(NamedTuple):
    labels: NDArray[np.int32]  # 0, or the place of the pixel's value in values, from 1
    values: NDArray[np.int64]  # sorted, without 0
    has_background: bool
    from_alpha: bool


def _files(folder: Path, argument: str) -> list[Path]:
    if not folder.exists():
        raise FileNotFoundError(f"{argument}: nothing is at {str(folder)!r} (looked in {Path.cwd()}).")
    if not folder.is_dir():
        raise UserError(f"{argument} must be a folder of images; {str(folder)!r} is a file.")
    found = _images_in(folder)
    if not found:
        inside = sorted(child.name for child in folder.iterdir() if child.is_dir() and _images_in(child))
        hint = f"; its sub-folders do: name one of them as {argument}: {some(inside)}" if inside else ""
        raise UserError(f"{argument} {str(folder)!r} holds no image{hint}.")
    return found


def _images_in(folder: Path) -> list[Path]:
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def _is_mask(path: Path) -> bool:
    return re.search(MASK_WORD, path.stem, re.IGNORECASE) is not None


def _bare(stem: str) -> str:
    """Return a name without its words such as img or mask, and with one separator only."""
    return re.sub(r"[-_. ]+", "_", re.sub(WORD, "", stem, flags=re.IGNORECASE)).strip("_") or stem


def _pair(images: list[Path], masks: list[Path]) -> dict[Path, Path]:
    """Return the mask of each image: by the same name first, what is left over by the name without its words."""
    pairs: dict[Path, Path] = {}
    for key in (str, _bare):
        taken = {*pairs, *pairs.values()}
        left = _by_key([path for path in images if path not in taken], key, "images")
        left_masks = _by_key([path for path in masks if path not in taken], key, "masks")
        pairs |= {path: left_masks[name] for name, path in left.items() if name in left_masks}
        if len(pairs) == len(images):
            break
    if alone := [path.name for path in images if path not in pairs]:
        raise UserError(f"{len(alone)} of {len(images)} images have no mask of the same name: {some(alone)}.")
    return {path: pairs[path] for path in images}


def _by_key(paths: Iterable[Path], key: Callable[[str], str], noun: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(name := key(path.stem), path)
        if other is not path:
            raise UserError(f"two {noun} go by the name {name!r}: {other.name!r} and {path.name!r}; keep one.")
    return found


def _read_all(read: Callable[[Path], T], paths: Iterable[Path], noun: str) -> list[T]:
    results, unusable, paths = [], dict[str, list[str]](), list(paths)
    for path in paths:
        try:
            results.append(read(path))
        except _Unusable as reason:
            unusable.setdefault(str(reason), []).append(path.name)
    for why, names in unusable.items():
        raise UserError(f"{len(names)} of {len(paths)} {noun} cannot be used, {why}: {some(names)}.")
    return results


def _read(path: Path, *, labels: bool) -> _File:
    try:
        # A large image is no attack here, and what a damaged file warns of is refused below.
        with warnings.catch_warnings(action="ignore"):
            try:
                file = _pillow(path, labels)
            except Image.UnidentifiedImageError:
                if path.suffix.lower() not in (".tif", ".tiff"):
                    raise
                return _tiff(path)
            if file.reduced and path.suffix.lower() in (".tif", ".tiff"):
                # tifffile decodes LZW with a further package only; eight of the bits are better than none.
                with suppress(Exception):
                    return _tiff(path)
            return file
    except Image.DecompressionBombError as error:
        raise _Unusable(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from error
    except ImportError as error:
        raise _Unusable("a TIFF for which the package tifffile must be installed") from error
    except _Unusable:
        raise
    except Exception as error:  # Over a damaged file, either library raises whatever its parser stumbles on.
        raise _Unusable("empty, damaged, or in a format that neither Pillow nor tifffile reads") from error


def _pillow(path: Path, labels: bool) -> _File:
    with Image.open(path) as image:
        lossy = image.format in LOSSY or image.info.get("compression") == "jpeg"
        # Pillow keeps 8 bits of 16-bit colours, and reads signed bytes as unsigned.
        tags = getattr(image, "tag_v2", {})
        deep = max(tags.get(BITS, (8,))) > 8 or any(";16" in str(tile.args) for tile in image.tile)
        reduced = (deep and image.mode.startswith("RGB")) or (image.mode == "L" and tags.get(SAMPLE_FORMAT) == (2,))
        # The further pages of MPO, a JPEG of a telephone, are previews.
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            if image.format == "TIFF":
                return _tiff(path)
            raise _Unusable("more than one page")
        image.load()
        upright = ImageOps.exif_transpose(image)
    # Of a mask, a palette's index is the label and alpha may be all there is.
    kept = ("1", "L", "I", "F", "P", "LA", "PA", "RGBA") if labels else ("L", "I", "F")
    if upright.mode not in kept and not upright.mode.startswith("I;16"):
        upright = upright.convert("RGB")
    return _File(np.array(upright), lossy, reduced)


def _tiff(path: Path) -> _File:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        series = file.series[0]
        if len(file.series) > 1 or series.axes not in ("YX", "YXS", "SYX", "CYX"):
            raise _Unusable("a stack of several pages: save each page as a file")
        turned = "Orientation" in page.tags and page.tags["Orientation"].value != 1
        if turned or page.photometric.name not in ("MINISBLACK", "RGB"):
            raise _Unusable("a TIFF turned or coloured in a way that no reader undoes: save it again as PNG")
        pixels = series.asarray()
    if series.axes[0] in "SC":
        pixels = np.moveaxis(pixels, 0, -1)
    if page.photometric.name == "RGB":
        pixels = pixels[..., :3]
    elif 1 in page.extrasamples or 2 in page.extrasamples:
        pixels = pixels[..., :-1]
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        raise _Unusable("neither one nor three colour channels")
    return _File(pixels)


def _image(path: Path) -> _File:
    pixels, _, reduced = _read(path, labels=False)
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise _Unusable(f"a side shorter than {MIN_SIDE} pixels")
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise _Unusable("NaN or infinite values")
    elif pixels.dtype not in (np.uint8, np.uint16):
        if pixels.min() < 0 or pixels.max() > 65535:
            raise _Unusable("integers beyond 0..65535: scale them and save as 16 bit")
        pixels = pixels.astype(np.uint16)
    if pixels.ndim == 2 or (pixels == pixels[..., :1]).all():
        pixels = pixels.reshape(*pixels.shape[:2], -1)[..., :1].copy()
    return _File(pixels, reduced=reduced)


def _mask(path: Path) -> _Mask:
    pixels, lossy, reduced = _read(path, labels=True)
    if reduced:
        raise _Unusable("colours of 16 bits, of which only 8 can be read: save labels as 16-bit grey")
    if pixels.dtype.kind == "f" and not (np.isfinite(pixels) & (pixels == np.floor(pixels))).all():
        raise _Unusable("values that are no whole numbers, such as probabilities")
    if pixels.min() < 0:
        raise _Unusable("negative labels")
    from_alpha = False
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels, alpha = pixels[..., :-1], pixels[..., -1:]
        from_alpha = bool(np.ptp(alpha) > 0 and (pixels == pixels[0, 0]).all())
        pixels = alpha if from_alpha else pixels
    if pixels.ndim == 3:
        grey = (pixels == pixels[..., :1]).all()
        pixels = pixels[..., 0] if grey else pixels.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1])
    # A hash table: np.unique would sort a million pixels of each mask.
    codes, values = pd.factorize(pixels.astype(np.int64).ravel(), sort=True)
    has_background = bool(values[0] == 0)
    labels = codes.reshape(pixels.shape).astype(np.int32) + (not has_background)
    if lossy and len(values) > 2:
        raise _Unusable("saved as JPEG or the like, which changes labels: save masks as PNG")
    return _Mask(labels, values[int(has_background) :], has_background, from_alpha)


def _same_sizes(pairs: dict[Path, Path], images: list[_File], masks: list[_Mask]) -> None:
    wrong = []
    for names, image, mask in zip(pairs.items(), images, masks, strict=True):
        size, mask_size = image.pixels.shape[1::-1], mask.labels.shape[::-1]
        if size != mask_size:
            turned = ": it looks turned by a quarter" if size == mask_size[::-1] else ""
            wrong.append(
                f"{names[1].name!r} is {mask_size[0]} × {mask_size[1]} pixels (width × height), its image"
                f" {names[0].name!r} {size[0]} × {size[1]}{turned}"
            )
    if wrong:
        raise UserError(f"{len(wrong)} of {len(masks)} masks have another size than their image: {wrong[0]}.")


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


def _objects(masks: Sequence[_Mask]) -> tuple[list[NDArray[np.int32]], list[str]]:
    notes = []
    filled = [mask for mask in masks if len(mask.values)]
    if not filled:
        raise UserError(f"no object is in any of the {len(masks)} masks: all pixels are 0, the background.")
    if not any(mask.has_background for mask in filled):
        raise UserError(
            "no mask holds objects and 0 (black), which marks the background: objects cover all pixels,"
            " or the two folders are exchanged."
        )
    if len(filled) < len(masks):
        notes.append(f"{len(masks) - len(filled)} masks hold no object")
    if n := sum(mask.from_alpha for mask in masks):
        notes.append(f"{n} masks are read from the transparency of an image of one colour")
    y = [mask.labels for mask in masks]
    if max(len(mask.values) for mask in filled) > 1 and _smoothed(filled):
        y = [(_grey(mask) >= 128).astype(np.int32) for mask in masks]
        if any(len(mask.values) and not labels.any() for mask, labels in zip(masks, y, strict=True)):
            raise UserError(f"some masks hold 0 and 255 with greys at the borders, others greys only, {SMOOTHED}.")
        notes.append(f"{sum(len(mask.values) > 1 for mask in masks)} masks have smoothed borders, cut at 128")
    if max(labels.max() for labels in y) == 1:
        if (share := np.mean([np.mean(labels > 0) for labels in y])) > 0.5:
            notes.append(f"objects cover {share:.0%} of the pixels: if 0 marks them, invert the masks")
        notes.append("masks hold one value beside 0: each connected region is an object, touching objects are one")
        return [ndimage.label(labels)[0] for labels in y], notes
    return _instances_or_classes(y, notes)


def _instances_or_classes(y: list[NDArray[np.int32]], notes: list[str]) -> tuple[list[NDArray[np.int32]], list[str]]:
    parts, sizes = [], []
    for labels in y:
        regions = measure.label(labels, connectivity=1)
        label_of_region = np.zeros(regions.max() + 1, dtype=np.int64)
        label_of_region[regions] = labels
        parts.append(np.bincount(label_of_region, minlength=labels.max() + 1)[1:])
        sizes.append(np.bincount(regions.ravel())[1:])
    several = np.concatenate(parts) > 1
    if several.mean() <= 0.5:
        if several.any():
            notes.append(f"{several.sum()} of {several.size} objects consist of several regions")
        return y, notes
    if np.median(np.concatenate(sizes)) <= 2:
        raise UserError(f"most values of the masks lie in many regions of one or two pixels, {SMOOTHED}.")
    notes.append(
        f"{several.sum()} of {several.size} values lie in several regions: values are read as classes, and each"
        " connected region of a value is an object"
    )
    return [measure.label(labels, connectivity=1).astype(np.int32) for labels in y], notes


def _grey(mask: _Mask) -> NDArray[np.uint8]:
    return np.append(0, mask.values).astype(np.uint8)[mask.labels]


def _smoothed(masks: Sequence[_Mask]) -> bool:
    """Say whether masks of 0 and 255 have grey borders; ValueError if their greys lie elsewhere too."""
    if max(mask.values[-1] for mask in masks) != 255:
        return False
    counts = np.sum([np.bincount(_grey(mask).ravel(), minlength=256) for mask in masks], axis=0)
    between = counts[1:255].sum()
    # Labels of objects: as a rule, 255 is no larger than all others together.
    if counts[255] <= between:
        return False
    at_borders = 0
    for grey in map(_grey, masks):
        edge = (ndimage.minimum_filter(grey, 5) == 0) & (ndimage.maximum_filter(grey, 5) == 255)
        at_borders += int(np.count_nonzero(edge & (grey > 0) & (grey < 255)))
    if at_borders >= 0.9 * between:
        return True
    if np.count_nonzero(counts[1:255]) > 8:
        raise UserError(f"the masks hold 0, 255 and many greys between them, {SMOOTHED}.")
    return False


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
        No image, a damaged one, or an array of another shape or dtype.

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
    try:
        with Image.open(source) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{shown(source)} is no readable image: {error}.") from error
    if upright.mode.startswith("I;16"):
        return np.repeat((np.asarray(upright, dtype=np.uint16) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if upright.mode in ("I", "F"):
        raise ValueError(f"{shown(source)} holds 32-bit values: scale them to 0-255 and save as 8 bit first.")
    return np.asarray(upright.convert("RGB"))


def open_folder(path: Path, positive_label: str) -> Dataset:
    suffixes = set(Image.registered_extensions())
    classes = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    files = [
        file
        for child in classes
        for file in sorted(child.rglob("*"))
        if file.suffix.lower() in suffixes and not file.name.startswith(".")
    ]
    if not files:
        raise ValueError(f"{str(path)!r} must hold one sub-folder of images a class; no image was found in any.")
    nested = [file for file in files if len(file.relative_to(path).parts) > 2]
    if nested:
        raise ValueError(
            f"{str(path)!r} holds folders in folders ({str(nested[0].relative_to(path).parent)!r}):"
            " name the folder whose sub-folders are the classes."
        )
    labels = [file.relative_to(path).parts[0] for file in files]
    y, class_names = labels_of(labels, positive_label, path.name)
    unreadable = []
    for file in files:
        try:
            with Image.open(file) as image:
                # Decoded at a small size where the format can: a file that was cut short is found here.
                image.draft("RGB", (32, 32))
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            unreadable.append(str(file.relative_to(path)))
    if unreadable:
        raise ValueError(f"{len(unreadable)} of {len(files)} images in {path.name} are unreadable: {some(unreadable)}.")
    X = np.array([str(file) for file in files], dtype=object)
    return Dataset(path.name, "image", X, y, class_names, str(path), "the reader's own")
