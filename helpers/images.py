"""The reader's images, alone or with masks: read, paired by name, validated.

The gap: Pillow and tifffile read files; neither says that an image lies on its side or has no mask, that a mask has
another size, was saved as JPEG, or holds classes instead of objects. Every set ends in a `Dataset` or in one clear
sentence.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from helpers.data import OWN, Dataset, binary_labels
from helpers.notebook import UserError, some
from helpers.tables import existing_path, require

__all__ = ["open_folder", "open_pairs", "read_image"]

MIN_PAIRS = 6  # Training, validation and test need images of their own.
MIN_SIDE = 8
# A word stands between separators or digits: not in gtex_1, but in mask01. Cellpose saves a_cp_masks.png.
WORDS = r"(?<![^-_. \d])(?:masks?|labels?|gt|ground[-_. ]?truth|segs?|segmentations?|annotations?)(?![^-_. \d])"
MASK_WORD, WORD = (re.compile(w, re.IGNORECASE) for w in (WORDS, WORDS.replace("masks?", "masks?|imgs?|images?|cp")))
LOSSY = "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"
# Of a mask, a palette's index is the label and alpha may be all there is.
IMAGE_MODES, MASK_MODES = ("L", "I", "F"), ("1", "L", "I", "F", "P", "LA", "PA", "RGBA")
UNREADABLE = "empty, damaged, too large, or in a format that neither Pillow nor tifffile reads: save it as PNG or TIFF"
PAGES = "more than one page, or a stack: save each page as a file"
NO_BACKGROUND = "no mask holds objects and 0 (black), the background: objects cover all, or the folders are exchanged."
SMOOTHED = "as after smoothing, resizing or JPEG: save masks as PNG and resize them without interpolation"


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
        if source.dtype != np.uint8 or source.ndim < 2 or source.shape[2:] not in ((), (3,), (4,)):
            raise ValueError(f"an image array must be uint8, grey, RGB or RGBA; got {source.dtype}, {source.shape}.")
        return np.asarray(Image.fromarray(source).convert("RGB"))
    try:
        return _rgb(source)
    except Exception as error:  # Over a damaged file, Pillow raises whatever its parser stumbles on.
        if isinstance(source, (str, os.PathLike)):
            raise UserError(f"{str(source)!r} is no readable image: {error}.") from error
        raise ValueError(f"the file is no readable image: {error}.") from error


def _rgb(source: Any) -> NDArray[np.uint8]:
    pixels, _ = _pillow(source, IMAGE_MODES, first_page=True)
    if pixels.dtype.itemsize == 2:
        pixels = (pixels // 257).astype(np.uint8)
    require(pixels.dtype == np.uint8, "it holds 32-bit values: scale them to 0-255 and save as 8 bit")
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=2)


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
    files = sorted(filter(_is_image, path.glob("[!.]*/**/*")))
    names = [file.relative_to(path) for file in files]
    require(files, f"{str(path)!r} must hold one sub-folder of images a class; no image was found in any.")
    nested = some([str(name.parent) for name in names if len(name.parts) > 2], most=1)
    require(not nested, f"{path} holds folders in folders ({nested}): name the one whose sub-folders are the classes.")
    y, class_names = binary_labels([name.parts[0] for name in names], positive_label, path.name)
    _read_all(lambda file: (_rgb(file).shape, ""), files, f"images in {path.name}", path, [])
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
        mask_files = [path for path in mask_files if MASK_WORD.search(path.stem)]
        image_files = [path for path in image_files if not MASK_WORD.search(path.stem)]
        where = f"{str(image_path)!r}, where {'every' if mask_files else 'no'} name holds mask, label, gt, seg or"
        hint = "annotation as a word: the masks cannot be told from the images"
        require(mask_files and image_files, f"image_dir and mask_dir are both {where} {hint}.")
    pairs = _pair(image_files, mask_files)
    too_few = f"{str(image_path)!r} holds {len(pairs)} images with a mask: at least {MIN_PAIRS} are needed."
    require(len(pairs) >= MIN_PAIRS, too_few)
    notes = list[str]()
    images = _read_all(_image, list(pairs), "images", image_path, notes)
    masks = _read_all(_mask, list(pairs.values()), "masks", mask_path, notes)
    _require_same_sizes(pairs, images, masks)
    if left := sorted(path.name for path in set(mask_files) - set(pairs.values())):
        notes.append(f"{len(left)} masks have no image and are left out: {some(left)}")
    X, y = _same_channels(images, notes), _objects(masks, notes)
    name, class_names = image_path.resolve().name, ("background", "object")
    return Dataset(name, "mask", X, y, class_names, str(image_path), OWN, notes=tuple(notes))


def _is_image(path: Path) -> bool:
    readable = Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN
    return readable and not path.name.startswith(".") and path.is_file()


def _files(folder: str | os.PathLike[str], argument: str) -> tuple[Path, list[Path]]:
    path = existing_path(folder, argument)
    inside = some(sorted({file.parent.name for file in path.glob("*/*") if _is_image(file)}))
    hint = f"; its sub-folders do: name one of them as {argument}: {inside}" if inside else ""
    found = sorted(filter(_is_image, path.glob("*")))
    require(found, f"{argument} must be a folder of images; {str(path)!r} holds no image{hint}.")
    return path, found


def _bare(stem: str) -> str:
    """Return a name without its words such as img or mask, and with one separator only."""
    return re.sub(r"[-_. ]+", "_", WORD.sub("", stem)).strip("_") or stem


def _pair(images: list[Path], masks: list[Path]) -> dict[Path, Path]:
    """Return the mask of each image: by the same name first, what is left over by the name without its words."""
    pairs: dict[Path, Path] = {}
    for key in (str, _bare):
        left = _by_key(set(images) - set(pairs), key, "images")
        left_masks = _by_key(set(masks) - set(pairs.values()), key, "masks") if left else {}
        pairs |= {path: left_masks[name] for name, path in left.items() if name in left_masks}
    alone = [path.name for path in images if path not in pairs]
    require(not alone, f"{len(alone)} of {len(images)} images have no mask of the same name: {some(alone)}.")
    return {path: pairs[path] for path in images}


def _by_key(paths: Iterable[Path], key: Callable[[str], str], noun: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(paths):
        other = found.setdefault(name := key(path.stem), path)
        require(other is path, f"two {noun} go by the name {name!r}: {some([other.name, path.name])}; keep one.")
    return found


def _read_all(
    read: Callable[[Path], tuple[Any, str]], files: list[Path], noun: str, folder: Path, notes: list[str]
) -> list[Any]:
    """Return what `read` makes of each file, and add to `notes`; UserError counts and names the files with a fault."""
    results, found = [], defaultdict[str, list[str]](list)
    # A large image is no attack here, and what a damaged file warns of is refused below.
    with warnings.catch_warnings(action="ignore"):
        for path in files:
            try:
                result, note = read(path)
                results.append(result)
            except Exception as error:  # Over a damaged file, either library raises whatever its parser stumbles on.
                note = f"cannot be used, {error if isinstance(error, UserError) else UNREADABLE}"
            found[note].append(str(path.relative_to(folder)))
    found.pop("", None)
    for note, names in found.items():
        notes.append(f"{len(names)} of {len(files)} {noun} {note}: {some(names)}")
        require(not note.startswith("cannot be used"), f"{notes[-1]}.")
    return results


def _read(path: Path, modes: tuple[str, ...]) -> tuple[NDArray[Any], str]:
    """Return pixels of shape (height, width, 1 or 3), and a note on how they were read."""
    pixels, note = _tiff(path) or _pillow(path, modes)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] in (2, 4):
        pixels, alpha = pixels[..., :-1], pixels[..., -1:]
        if np.ptp(alpha) > 0 and (pixels == pixels[0, 0]).all():
            pixels, note = alpha, "are read from the transparency of an image of one colour"
    return pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels, note


def _pillow(source: Any, modes: tuple[str, ...], first_page: bool = False) -> tuple[NDArray[Any], str]:
    with Image.open(source) as image:
        # The further pages of MPO, a JPEG of a phone, are previews.
        require(first_page or image.format == "MPO" or getattr(image, "n_frames", 1) == 1, PAGES)
        lossy = image.format in LOSSY or image.info.get("compression") == "jpeg"
        reduced = image.mode.startswith("RGB") and any(";16" in str(tile.args) for tile in image.tile)
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode not in modes and not upright.mode.startswith("I;16"):
        upright = upright.convert("RGB")
    if modes is MASK_MODES:
        require(not reduced, "colours of 16 bits, of which only 8 can be read: save labels as 16-bit grey")
        two_values = not lossy or upright.getcolors(2)
        require(two_values, "saved as JPEG or the like, which changes labels: save masks as PNG")
    return np.array(upright), "hold colours of 16 bits and are read with 8" * reduced


def _tiff(path: Path) -> tuple[NDArray[Any], str] | None:
    """Return what tifffile reads, as it keeps all bits; None where Pillow has to, which knows more encodings."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages.first
            series, pixels = file.series[0], file.asarray(series=0)
    except Exception:  # Whatever its parser stumbles on, Pillow may read the file.
        return None
    require(len(file.series) == 1 and series.axes in ("YX", "YXS", "SYX", "CYX"), PAGES)
    # Pillow turns images upright, and tifffile would fill strips that are not there with 0.
    plain = page.photometric.name in ("MINISBLACK", "RGB") and page.compression.name in ("NONE", "ADOBE_DEFLATE")
    whole = page.tags.valueof("Orientation", 1) == 1 and len(page.dataoffsets) == np.prod(page.chunked)
    if not plain or not whole or page.bitspersample < 8:
        return None
    if pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1) if series.axes[0] in "SC" else pixels
        alpha = bool({1, 2} & set(page.extrasamples))
        pixels = pixels[..., : 3 if page.photometric.name == "RGB" else pixels.shape[2] - alpha]
        require(pixels.shape[2] in (1, 3), "neither one nor three colour channels: save it as grey or RGB")
    return pixels, ""


def _image(path: Path) -> tuple[NDArray[Any], str]:
    pixels, note = _read(path, IMAGE_MODES)
    require(min(pixels.shape[:2]) >= MIN_SIDE, f"a side shorter than {MIN_SIDE} pixels")
    real = pixels.dtype.kind == "f"
    most = np.finfo(np.float32).max if real else 65535
    in_range = pixels.max() <= most and pixels.min() >= (-most if real else 0)
    require(in_range, "NaN, infinite values or integers beyond 0..65535: scale them and save as 16 bit")
    return pixels.astype(np.float32 if real else np.uint8 if pixels.dtype == np.uint8 else np.uint16), note


def _mask(path: Path) -> tuple[NDArray[np.int64], str]:
    """Return a mask's labels, or one number for each colour, of shape (height, width)."""
    pixels, note = _read(path, MASK_MODES)
    whole = pixels.dtype.kind != "f" or (np.isfinite(pixels) & (pixels == np.floor(pixels))).all()
    require(whole, "values that are no whole numbers, such as probabilities")
    require(pixels.min() >= 0, "negative labels")
    return pixels.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1][-pixels.shape[2] :]), note


def _require_same_sizes(pairs: dict[Path, Path], images: list[NDArray[Any]], masks: list[NDArray[Any]]) -> None:
    shapes = [(image.shape, mask.shape) for image, mask in zip(images, masks, strict=True)]
    wrong = [(*names, *both) for names, both in zip(pairs.items(), shapes, strict=True) if both[0][:2] != both[1]]
    for image_file, mask_file, (height, width, _), (mask_height, mask_width) in wrong:
        turned = ": it looks turned by a quarter" * ((height, width) == (mask_width, mask_height))
        raise UserError(
            f"{len(wrong)} of {len(masks)} masks have another size than their image: {mask_file.name!r} is {mask_width}"
            f" × {mask_height} pixels (width × height), its image {image_file.name!r} {width} × {height}{turned}."
        )


def _same_channels(images: list[NDArray[Any]], notes: list[str]) -> list[NDArray[Any]]:
    dtypes = Counter(str(pixels.dtype) for pixels in images)
    if len(dtypes) > 1:
        notes.append(f"the images differ in precision: {', '.join(f'{n} {dtype}' for dtype, n in dtypes.items())}")
    grey = sum(pixels.shape[2] == 1 for pixels in images)
    if grey in (0, len(images)):
        return images
    notes.append(f"{grey} images are grey, the others are not: their one channel is repeated three times")
    return [np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy() for pixels in images]


def _objects(masks: list[NDArray[np.int64]], notes: list[str]) -> list[NDArray[np.int32]]:
    """Return a label image for each mask, and add to `notes` how the masks were understood."""
    values = [np.unique(mask) for mask in masks]
    filled = [found for found in values if found.any()]
    require(filled, f"no object is in any of the {len(masks)} masks: all pixels are 0, the background.")
    require(not all(found[0] for found in filled), NO_BACKGROUND)
    empty, several = len(masks) - len(filled), sum(np.count_nonzero(found) > 1 for found in values)
    notes += [f"{empty} masks hold no object"] * bool(empty)
    if several and not _smoothed(masks):
        return _instances_or_classes(masks, notes)
    if several:
        notes.append(f"{several} masks have smoothed borders, cut at 128")
        lost = any(mask.any() and mask.max() < 128 for mask in masks)
        require(not lost, f"some masks hold 0 and 255 with greys at the borders, others greys only, {SMOOTHED}.")
    regions = [ndimage.label(mask >= (128 if several else 1))[0] for mask in masks]
    if (share := np.mean([np.mean(labels > 0) for labels in regions])) > 0.5:
        notes.append(f"objects cover {share:.0%} of the pixels: if 0 marks them, invert the masks")
    notes.append("masks hold one value beside 0: each connected region is an object, touching objects are one")
    return regions


def _instances_or_classes(masks: list[NDArray[np.int64]], notes: list[str]) -> list[NDArray[np.int32]]:
    from skimage import measure, segmentation

    y = [segmentation.relabel_sequential(mask)[0].astype(np.int32) for mask in masks]
    every_region = [measure.label(labels, connectivity=1).astype(np.int32) for labels in y]
    label_of = [a.ravel()[np.unique(b, return_index=True)[1]] for a, b in zip(y, every_region, strict=True)]
    several = np.concatenate([np.bincount(labels)[1:] for labels in label_of]) > 1
    share = f"{several.sum()} of {several.size}"
    if several.mean() <= 0.5:
        notes += [f"{share} objects consist of several regions"] * bool(several.any())
        return y
    sizes = np.concatenate([np.bincount(regions.ravel())[1:] for regions in every_region])
    require(np.median(sizes) > 2, f"most values of the masks lie in many regions of one or two pixels, {SMOOTHED}.")
    read = "values are read as classes, and each connected region of a value is an object"
    notes.append(f"{share} values lie in several regions: {read}")
    return every_region


def _smoothed(masks: list[NDArray[np.int64]]) -> bool:
    """Say whether masks of 0 and 255 have grey borders; UserError if their greys lie elsewhere too."""
    edges = [(ndimage.minimum_filter(mask, 5) == 0) & (ndimage.maximum_filter(mask, 5) == 255) for mask in masks]
    pixels, edge = (np.concatenate(arrays, axis=None) for arrays in (masks, edges))
    grey = (pixels > 0) & (pixels < 255)
    # Labels of objects: as a rule, 255 is no larger than all others together.
    if pixels.max() != 255 or np.sum(pixels == 255) <= grey.sum():
        return False
    smoothed = np.sum(grey & edge) >= 0.9 * grey.sum()
    few_greys = len(np.unique(pixels[grey])) <= 8
    require(smoothed or few_greys, f"the masks hold 0, 255 and many greys between them, {SMOOTHED}.")
    return bool(smoothed)
