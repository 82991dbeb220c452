"""The reader's images, alone or with masks: read, paired by name, validated.

The gap: Pillow reads files; it does not say that an image lies on its side or has no mask, that a mask has
another size, was saved as JPEG, or holds classes instead of objects. Every set ends in a `Dataset` or in one clear
sentence.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin
from scipy import ndimage
from skimage import color, measure, segmentation, util

from helpers.data import OWN, Dataset, binary_labels
from helpers.notebook import UserError, first_line, some
from helpers.tables import AnyPath, existing_path, require

IGNORE = -1  # In a label image: nobody knows what the pixel shows. Scores and losses leave it out.
VOID, VOID_COLOUR = 255, 224 << 32 | 224 << 16 | 192  # The same in files: PASCAL VOC's index, and its colour.
LEAST, MIN_SIDE = 6, 8  # Training, validation and test need images of their own.
# A word stands between separators or digits: not in gtex_1, but in mask01. Cellpose saves a_cp_masks.png.
WORDS = r"(?<![^-_. \d])(?:masks?|labels?|gt|ground[-_. ]?truth|segs?|segmentations?|annotations?)(?![^-_. \d])"
MASK_WORD, WORD = (re.compile(w, re.IGNORECASE) for w in (WORDS, WORDS.replace("masks?", "masks?|imgs?|images?|cp")))
UNREADABLE = "empty, damaged, too large, or in no format that Pillow reads, as 64 bits: save it as PNG or TIFF"
PAGES = "more than one page, or a stack: save each page as a file"
NO_BACKGROUND = "mask_dir: no mask holds objects and 0 (black), the background: all are full, or folders are exchanged."
SMOOTHED = "as after smoothing, resizing or JPEG: save masks as PNG and resize them without interpolation"
PHOTOGRAPHS = "or in photographs: the folders are exchanged, or cut-outs on black, whose mask is their alpha channel"
LOST = "which changes labels and loses small ones: save masks as PNG, unless the folders are exchanged"
SIDEWAYS = "an uncompressed TIFF on its side, which Pillow garbles, or EXIF data behind its pixels: save it upright"
BOTH = "image_dir and mask_dir are both one folder: give its masks alone names with mask, label, gt or seg as a word."
EXIF = "only one of the pair has an EXIF orientation: turn both and save them without (ImageOps.exif_transpose)"
DEEP = "colours of 16 bits, of which Pillow reads 8: save labels as 16-bit grey, and scale images to 8 bit"
DARK = "12 bits or dark? Scale all images alike and save as 8 bit: (pixels // 16).astype(np.uint8), of 12 bits"
CLASSES = "values lie in several regions: values are read as classes, and each region is an object"
# What they log of a file's tags is no news to a reader: the pixels are whole, or the file is refused.
TiffImagePlugin.logger.disabled = True


def read_image(source: AnyPath | BinaryIO | NDArray[Any]) -> NDArray[np.uint8]:
    """Read any image as upright RGB.

    Pillow leaves the EXIF orientation to the caller, gives grey, palette and RGBA images two to four channels, and
    clips 16-bit grey to white; all of that is undone here. What is transparent becomes white, unless all is alike.

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
        No image, a damaged one (a UserError if `source` is a path), an array of another shape or dtype, 32-bit values,
        or 16-bit values of which fewer than 15 bits are in use: whether they are fewer bits or dark, one image does not
        tell. Scale all images alike, such as ``(pixels // 16).astype(np.uint8)`` for 12 bits.

    Examples
    --------
    >>> read_image(np.zeros((4, 6), dtype=np.uint8)).shape
    (4, 6, 3)
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim < 2 or not source.size or source.shape[2:] not in ((), (3,), (4,)):
            raise ValueError(f"an image array must be uint8, grey, RGB or RGBA; got {source.dtype}, {source.shape}.")
        return _rgb(np.atleast_3d(source))[0]
    try:
        with warnings.catch_warnings(action="error"):
            return _rgb(_read(source, "photo"))[0]
    except Exception as error:  # Over a damaged file, Pillow raises whatever its parser stumbles on.
        kind, what = (ValueError, "the file") if hasattr(source, "read") else (UserError, repr(str(source)[:300]))
        raise kind(f"{what} is no readable image: {first_line(error)[:300].rstrip('.')}.") from error


def open_folder(path: AnyPath, positive_label: str = "") -> Dataset:
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
        No image in any sub-folder, images beside or below these, images that `read_image` refuses, or labels that
        `binary_labels` refuses.
    """
    path, notes = existing_path(path), list[str]()
    files = _images_in([*path.glob("[!.]*"), *path.glob("[!.]*/**/[!.]*")], notes)
    wrong = some([str(name) for file in files if len((name := file.relative_to(path)).parts) != 2], most=3)
    needed = "must hold one sub-folder of images a class, and no images elsewhere"
    require(files and not wrong, f"{str(path)!r} {needed}; it holds {wrong or 'none'}.")
    y, class_names = binary_labels([file.parent.name for file in files], positive_label, path.name)
    _read_all(lambda file: (None, _rgb(_read(file, "photo"))[1]), files, f"images in {path.name}", path, notes)
    X = np.array([str(file) for file in files], dtype=object)
    return Dataset(path.name, "image", X, y, class_names, str(path), OWN, notes=tuple(notes))


def open_pairs(image_dir: AnyPath, mask_dir: AnyPath) -> Dataset:
    """Read the reader's own images and the masks of their objects.

    An image and its mask have the same name, but for the extension; where not all have, words such as img, mask,
    label or seg do not count: 000_img.png belongs to 000_masks.png.

    Parameters
    ----------
    image_dir, mask_dir : path-like
        The folders, searched without their sub-folders. They may be one: then the masks are the files with mask,
        label, gt, seg or annotation in their names. Where each object has a file of its own, `mask_dir` holds a folder
        of them for each image, with its name; or both are one folder with ``NAME/images/NAME.png`` and
        ``NAME/masks/*.png``, as in the Data Science Bowl of 2018.

    Returns
    -------
    Dataset of kind 'mask'
        X : list of ndarray (height, width, channels)
            In the files' precision: uint8, uint16 or float32. One channel if all images are grey, else three; upright
            as their EXIF data say, what is partly transparent laid on white. Sizes may differ.
        y : list of ndarray (height, width), dtype int32
            0 is the background, 1..n are the objects, and `IGNORE`, which is -1, are pixels of which nobody knows.

    Raises
    ------
    FileNotFoundError
        Nothing is at `image_dir` or `mask_dir`.
    UserError
        A folder without images, an image without a mask, a name that fits twice, fewer than 6 pairs, unreadable or
        unsuitable files, a mask of another size, an EXIF orientation that only one of a pair has while their pixels fit
        without it, photographs as masks, or masks without objects, without background or after smoothing.

    Notes
    -----
    If no mask holds more than one value beside 0, every connected region is an object; pixels that touch only at a
    corner are not connected. Otherwise every value or colour is an object, unless more than half of them lie in
    several regions: then values are classes, and every connected region of a value is an object. Of a palette the
    colours count, with black as the background, not their numbers. The value 255 beside labels 1..n, or as a rim around
    most of the others, and the colour (224, 224, 192) beside others, mark *void*: `IGNORE`. The alpha channel is the
    mask of a photograph or of one colour; else what is transparent is background. Grey borders between 0 and 255 are
    cut at 128.

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
    notes = list[str]()
    images, masks = existing_path(image_dir, "image_dir"), existing_path(mask_dir, "mask_dir")
    pairs = _pair(*_find(images, masks, notes), notes)
    require(len(pairs) >= LEAST, f"image_dir holds {len(pairs)} images with a mask: at least {LEAST} are needed.")
    sides = (list(pairs), "images", images, notes), (list(pairs.values()), "masks", masks, notes)
    _require_same_sizes(pairs, *(_read_all(_header, *side) for side in sides))
    X = _same_channels(_read_all(_image, *sides[0]), notes)
    y = _objects(_read_all(_mask, *sides[1]), notes, any(path.is_dir() for path in pairs.values()))
    return Dataset(images.resolve().name, "mask", X, y, ("background", "object"), str(images), OWN, notes=tuple(notes))


def _is_image(path: Path) -> bool:
    return Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN and path.is_file()


def _images_in(paths: Iterable[Path], notes: list[str]) -> list[Path]:
    """Return the image files, in order; what else is there but folders goes into a note."""
    found = [path for path in paths if not path.is_dir()]
    left = some(sorted({path.name for path in found if not _is_image(path)}))
    notes += [f"what is no image file is left out: {left}"] * bool(left)
    return sorted(filter(_is_image, found))


def _find(image_path: Path, mask_path: Path, notes: list[str]) -> tuple[list[Path], list[Path]]:
    """Return the images and the masks; of masks with a file for each object, their folders."""
    same = image_path.samefile(mask_path)
    if same and (images := sorted(image_path.glob("*/images/[!.]*"))):
        return images, sorted(image_path.glob("*/masks/"))
    images, inside = _images_in(image_path.glob("[!.]*"), notes), sorted(image_path.glob("[!.]*/"))
    hint = f"; it holds folders, name one of them: {some([path.name for path in inside])}" * bool(inside)
    require(images, f"image_dir must be a folder of images; {str(image_path)!r} holds no image{hint}.")
    masks = [path for path in images if same and MASK_WORD.search(path.stem)]
    require(not same or 0 < len(masks) < len(images), BOTH)
    masks = masks or _images_in(mask_path.glob("[!.]*"), notes) or sorted(mask_path.glob("[!.]*/"))
    return sorted(set(images) - set(masks)), masks


def _pair(images: list[Path], masks: list[Path], notes: list[str]) -> dict[Path, Path]:
    """Return the mask of each image: by the same name first, what is left over by the name without its words."""
    pairs: dict[Path, Path] = {}
    for words in (True, False):
        left = _by_name(set(images) - set(pairs), words, "images")
        left_masks = _by_name(set(masks) - set(pairs.values()), words, "masks") if left else {}
        pairs |= {path: left_masks[name] for name, path in left.items() if name in left_masks}
    alone = [path.name for path in images if path not in pairs]
    require(not alone, f"{len(alone)} of {len(images)} images have no mask of the same name: {some(alone)}.")
    unused = sorted(path.name for path in set(masks) - set(pairs.values()))
    notes += [f"{len(unused)} masks have no image and are left out: {some(unused)}"] * bool(unused)
    return dict(sorted(pairs.items()))


def _by_name(paths: Iterable[Path], words: bool, noun: str) -> dict[str, Path]:
    """Return paths by their names, or by these without words such as img or mask and with one separator only."""
    found: dict[str, Path] = {}
    for path in sorted(paths):
        # Of a file for each object, the folder has the name.
        name = (path.parent if path.name == "masks" else path).name if path.is_dir() else path.stem
        name = name if words else re.sub(r"[-_. ]+", "_", WORD.sub("", name)).strip("_") or name
        other = found.setdefault(name, path)
        require(other is path, f"two {noun} go by the name {name!r}: {some([other.name, path.name])}; keep one.")
    return found


def _read_all(read: Callable[[Path], Any], files: list[Path], noun: str, folder: Path, notes: list[str]) -> list[Any]:
    """Return what `read` makes of each file, and add to `notes`; UserError counts and names the files with a fault."""
    results, found = dict[Path, Any](), dict[str, list[str]]()
    for path in files:
        try:
            # What a library warns of may be damaged, or too large for memory.
            with warnings.catch_warnings(action="error"):
                results[path], note = read(path)
        except Exception as error:  # Over a damaged file, a library raises whatever its parser stumbles on.
            note = f"cannot be used, {error if isinstance(error, UserError) else UNREADABLE}"
        found.setdefault(note, []).append(str(path.relative_to(folder)))
    for note in filter(None, found):
        notes.append(f"{len(found[note])} of {len(files)} {noun} {note}: {some(found[note])}")
        require(not note.startswith("cannot be used"), f"{notes[-1]}.")
    return list(results.values())


def _header(path: Path) -> tuple[tuple[Any, Any, bool], str]:
    """Return (width, height) of a file, or of the first of a folder, as stored, then upright, and if it is turned."""
    with Image.open(min(filter(_is_image, path.glob("[!.]*"))) if path.is_dir() else path) as image:
        # Not image.getexif, which decodes a PNG. Of a TIFF, Pillow tells the upright size.
        orientation = Image.Image.getexif(image).get(0x0112, 1)
        upright = image.size[::-1] if orientation > 4 and image.format != "TIFF" else image.size
    require(min(upright) >= MIN_SIDE, f"a side shorter than {MIN_SIDE} pixels")
    return (upright[::-1] if orientation > 4 else upright, upright, orientation > 1), ""


def _require_same_sizes(pairs: dict[Path, Path], images: list[Any], masks: list[Any]) -> None:
    wrong = []
    for (image, mask), (stored, size, turned), (raw, (w, h), flipped) in zip(pairs.items(), images, masks, strict=True):
        require(turned == flipped or stored != raw, f"{image.name!r}, {mask.name!r}: {EXIF}.")
        hint = ": it looks turned by a quarter" * (size == (h, w))
        other = f"its image {image.name!r} {size[0]} × {size[1]}{hint}"
        wrong += [f"{mask.name!r} is {w} × {h} pixels (width × height), {other}"] * (size != (w, h))
    require(not wrong, f"{len(wrong)} of {len(masks)} masks have another size than their image: {''.join(wrong[:1])}.")


def _read(source: Any, use: str) -> NDArray[Any]:
    """Return a file's upright pixels, with alpha, of a palette its colours, for use as photo, image or mask."""
    with Image.open(source) as image:
        image.verify()  # Else Pillow would not look at the checksums of a PNG.
    with Image.open(source) as image:
        # The further pages of MPO, a JPEG of a phone, are previews.
        require(use == "photo" or image.format == "MPO" or getattr(image, "n_frames", 1) == 1, PAGES)
        lossy = image.format in ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF") or image.info.get("compression") == "jpeg"
        deep = image.mode in ("RGB", "RGBA", "LA") and ";16" in str(getattr(image, "tile", ""))
        sideways = image.info.get("compression") == "raw" and Image.Image.getexif(image).get(0x0112, 1) > 4
        early = image.info.get("exif")
        # Of samples per pixel (277), Pillow would drop the second.
        require(getattr(image, "tag_v2", {}).get(277) != 2 or image.mode[-1] == "A", "two channels: save one, or RGB")
        image.load()
        require(not sideways and image.info.get("exif") == early, SIDEWAYS)
        stored = ImageOps.exif_transpose(image)
    # 16 and 32 bits are left as they are.
    shown = stored if stored.mode[0] in "IF" else stored.convert("RGBA" if stored.has_transparency_data else "RGB")
    pixels = np.atleast_3d(np.array(shown))
    if use == "mask":
        require(not lossy or (shown.getcolors(2) and pixels.max() >= 128), f"saved as JPEG or the like, {LOST}")
        repeated = stored.mode == "P" and len(stored.getcolors() or ()) > len(shown.getcolors() or ())
        require(not repeated, "a palette with one colour for several labels: save labels as grey")
    require(not deep or (use == "photo" and pixels.max() >= 64), DEEP)
    return pixels


def _opaque(pixels: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Return the colours, laid on white if some is transparent and some is not, in one channel if all are grey."""
    partly = pixels.shape[2] == 4 and np.ptp(pixels[..., 3]) > 0
    pixels = util.img_as_ubyte(color.rgba2rgb(pixels)) if partly else pixels
    return _grey(pixels[..., :3]), "are partly transparent and are laid on white" * bool(partly)


def _grey(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels


def _rgb(pixels: NDArray[Any]) -> tuple[NDArray[np.uint8], str]:
    """Return three channels of 8 bits, and a note; UserError where one image does not tell its scale."""
    pixels, note = _opaque(pixels)
    require(pixels.dtype.itemsize < 3, "it holds 32-bit values: scale them to 0-255, save as 8 bit")
    if pixels.dtype.itemsize == 2:
        require(not 0 < pixels.max() < 2**14, f"it holds 16-bit values up to {pixels.max()}: {DARK}")
        pixels = (pixels // 257).astype(np.uint8)
    return np.repeat(pixels, 3 // pixels.shape[2], axis=2), note


def _image(path: Path) -> tuple[NDArray[Any], str]:
    pixels, note = _opaque(_read(path, "image"))
    limits = np.finfo(np.float32) if pixels.dtype.kind == "f" else np.iinfo(np.uint16)
    in_range = limits.min <= pixels.min() and pixels.max() <= limits.max
    require(in_range, "NaN, infinite values or integers beyond 0..65535: scale them and save as 16 bit")
    return pixels.astype(np.uint8 if pixels.dtype == np.uint8 else limits.dtype), note


def _mask(path: Path) -> tuple[NDArray[np.int64], str]:
    """Return a mask's labels; if they are 0 and 255 with smoothed borders, cut at 128."""
    labels, note = _merged(path) if path.is_dir() else _labels(path)
    grey = (labels > 0) & (labels < 255)
    # Around the labels of classes, which are low, 255 is void.
    if labels.max() != 255 or (greys := np.unique(labels[grey])).max(initial=0) < 128:
        return labels, note
    edge = (ndimage.minimum_filter(labels, 5) == 0) & (ndimage.maximum_filter(labels, 5) == 255)
    if np.sum(grey & edge) >= 0.9 * grey.sum():
        return (labels > 127) * np.int64(255), "have smoothed borders, cut at 128"
    # Labels of objects: as a rule, 255 is no larger than all others together.
    require(greys.size <= 8 or np.sum(labels == 255) <= grey.sum(), f"0, 255 and many greys between them, {SMOOTHED}")
    return labels, note


def _labels(path: Path) -> tuple[NDArray[np.int64], str]:
    """Return the labels in a file, or one number for each colour, of shape (height, width)."""
    pixels = _read(path, "mask")
    require((pixels == np.floor(abs(pixels))).all(), "values that are no whole numbers, such as probabilities")
    colours, alpha = _grey(pixels[..., :3]), pixels[..., -1].astype(np.int64)
    labels = colours.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1][-colours.shape[2] :])
    if pixels.shape[2] < 4 or np.ptp(alpha) == 0:
        return labels, ""
    if not 1 < len(np.unique(labels)) <= min(256, labels.size / 8):
        return alpha, "are read from the transparency of one colour or of a photograph"
    return np.where(alpha == 0, 0, labels), "are read with what is transparent as background"


def _merged(folder: Path) -> tuple[NDArray[np.int64], str]:
    """Return one label image of masks of one object each."""
    parts = [_labels(file)[0] for file in sorted(filter(_is_image, folder.glob("[!.]*")))]
    require(len({one.shape for one in parts}) == 1, "files of different sizes")
    require(all(np.count_nonzero(np.unique(one)) < 2 for one in parts), "more than one value in the file of one object")
    inside = np.array(parts) > 0
    note = "hold objects that overlap, in pixels that the first by name keeps" * bool((inside.sum(axis=0) > 1).any())
    return np.select(list(inside), range(1, len(inside) + 1)), note


def _same_channels(images: list[NDArray[Any]], notes: list[str]) -> list[NDArray[Any]]:
    kinds = sorted({str(pixels.dtype) for pixels in images})
    notes += [f"the images differ in precision: {', '.join(kinds)}"] * (len(kinds) > 1)
    highest = max((pixels.max() for pixels in images if pixels.dtype == np.uint16), default=0)
    notes += [f"images of 16 bits hold up to {highest} only: divide by this, not by 65535"] * bool(0 < highest < 2**14)
    channels = max(pixels.shape[2] for pixels in images)
    grey = sum(pixels.shape[2] < channels for pixels in images)
    notes += [f"{grey} images are grey, the others are not: their one channel is repeated three times"] * bool(grey)
    return [np.repeat(pixels, channels // pixels.shape[2], axis=2) for pixels in images]


def _objects(masks: list[NDArray[np.int64]], notes: list[str], by_file: bool) -> list[NDArray[np.int32]]:
    """Return a label image for each mask, and add to `notes` how the masks were understood."""
    void = 0 if by_file else _void(masks)
    unknown = [mask == (void or IGNORE) for mask in masks]
    share = np.mean([ignored.mean() for ignored in unknown])
    notes += [f"255 (void) beside other labels, {share:.1%} of the pixels, is no object: y is {IGNORE}"] * bool(void)
    masks = [np.where(ignored, 0, mask) for ignored, mask in zip(unknown, masks, strict=True)]
    filled = [mask for mask in masks if mask.any()]
    require(filled, f"mask_dir: no object is in any of the {len(masks)} masks: all pixels are 0, the background.")
    require(not all(mask.all() for mask in filled), NO_BACKGROUND)
    notes += [f"{len(masks) - len(filled)} masks hold no object"] * (len(filled) < len(masks))
    y = [segmentation.relabel_sequential(mask)[0] for mask in (masks if by_file else _instances(masks, notes))]
    return [np.where(ignored, IGNORE, labels).astype(np.int32) for ignored, labels in zip(unknown, y, strict=True)]


def _void(masks: list[NDArray[np.int64]]) -> int:
    """Return the value that marks what is not known, as 255 beside labels 1..n or around most of the others; else 0."""
    values = sorted(set().union(*(np.unique(mask).tolist() for mask in masks)) - {0})
    several = [mask for mask in masks if (mask == VOID).any() and np.count_nonzero(np.unique(mask)) > 1]
    if VOID_COLOUR in values or not several or values[-1] != VOID:
        return VOID_COLOUR * (VOID_COLOUR in values and len(values) > 1)
    if values[:-1] == list(range(1, len(values))):
        return VOID * (len(values) < 255)
    # Numbers of classes, with gaps: void covers most of what is next to them, and is seldom 7 pixels away.
    distances = [ndimage.distance_transform_cdt((mask == 0) | (mask == VOID)) for mask in several]
    distance, value = (np.concatenate(arrays, axis=None) for arrays in (distances, several))
    rim = np.bincount(distance[value == VOID], minlength=2)
    return VOID * bool(rim[1] > 0.5 * np.count_nonzero(distance == 1) and rim[7:].sum() <= rim[1])


def _instances(masks: list[NDArray[np.int64]], notes: list[str]) -> list[NDArray[np.int64]]:
    """Return the masks, or their connected regions if masks hold one value each or most values are in several."""
    regions = [measure.label(mask, connectivity=1) for mask in masks]
    if all(np.count_nonzero(np.unique(mask)) < 2 for mask in masks):
        share = np.mean([np.mean(mask > 0) for mask in masks])
        notes += [f"objects cover {share:.0%} of the pixels: if 0 marks them, invert the masks"] * bool(share > 0.5)
        notes.append("masks hold one value beside 0: each connected region is an object, touching objects are one")
        return regions
    tiny = f"mask_dir: most values of the masks lie in regions of one or two pixels, {SMOOTHED}; {PHOTOGRAPHS}."
    require(np.median(np.concatenate([np.bincount(of.ravel())[1:] for of in regions])) > 2, tiny)
    values = [ndimage.maximum(mask, of, range(1, of.max() + 1)) for mask, of in zip(masks, regions, strict=True)]
    several = np.concatenate([np.unique(found, return_counts=True)[1] for found in values]) > 1
    what = CLASSES if several.mean() > 0.5 else "objects consist of several regions"
    notes += [f"{several.sum()} of {several.size} {what}"] * bool(several.any())
    return regions if what == CLASSES else masks
