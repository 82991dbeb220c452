"""The reader's images, alone or with masks: read, paired by name, validated.

The gap: Pillow and tifffile read files; neither says that an image lies on its side or has no mask, that a mask has
another size, was saved as JPEG, or holds classes instead of objects. Every set ends in a `Dataset` or in one clear
sentence.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage
from skimage import measure, segmentation

from helpers.data import OWN, Dataset, binary_labels
from helpers.notebook import UserError, first_line, some
from helpers.tables import existing_path, require

IGNORE = -1  # In a label image: nobody knows what the pixel shows. Scores and losses leave it out.
VOID = 255, 224 << 32 | 224 << 16 | 192  # The same in files: PASCAL VOC's index 255, and its colour.
MIN_PAIRS = 6  # Training, validation and test need images of their own.
MIN_SIDE = 8
# A word stands between separators or digits: not in gtex_1, but in mask01. Cellpose saves a_cp_masks.png.
WORDS = r"(?<![^-_. \d])(?:masks?|labels?|gt|ground[-_. ]?truth|segs?|segmentations?|annotations?)(?![^-_. \d])"
MASK_WORD, WORD = (re.compile(w, re.IGNORECASE) for w in (WORDS, WORDS.replace("masks?", "masks?|imgs?|images?|cp")))
LOSSY = "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"
UNREADABLE = "empty, damaged, too large, or in a format that neither Pillow nor tifffile reads: save it as PNG or TIFF"
PAGES = "more than one page, or a stack: save each page as a file"
NO_BACKGROUND = "mask_dir: no mask holds objects and 0 (black), the background: all are full, or folders are exchanged."
SMOOTHED = "as after smoothing, resizing or JPEG: save masks as PNG and resize them without interpolation"
LOST = "which changes labels and loses small ones: save masks as PNG, unless the folders are exchanged"
PHOTOGRAPHS = "or in photographs: the folders are exchanged, or cut-outs on black, whose mask is their alpha channel"
EXIF = "only one of the pair has an EXIF orientation: turn both and save them without (ImageOps.exif_transpose)"
REDUCED = "colours of 16 bits and are read"
DARK = "12 bits or dark? Scale all images alike and save as 8 bit: (pixels // 16).astype(np.uint8), of 12 bits"
# What they log of a file's tags is no news to a reader: the pixels are whole, or the file is refused.
logging.getLogger("tifffile").disabled = logging.getLogger("PIL.TiffImagePlugin").disabled = True


def read_image(source: str | os.PathLike[str] | BinaryIO | NDArray[Any]) -> NDArray[np.uint8]:
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
        return _rgb(_pixels(Image.fromarray(source))[0])
    try:
        with warnings.catch_warnings(action="error"):
            return _rgb(_pillow(source, first_page=True)[0])
    except Exception as error:  # Over a damaged file, Pillow raises whatever its parser stumbles on.
        named = isinstance(source, (str, os.PathLike))
        what = f"{str(source)[:300]!r} is" if named else "the file is"
        why = first_line(error)[:300].rstrip(".")
        raise (UserError if named else ValueError)(f"{what} no readable image: {why}.") from error


def _highest(path: Path) -> tuple[int, str]:
    """Return the highest value of an image of 16 bits, of another the highest there is, and a note."""
    pixels, note = _pillow(path, first_page=True)
    return int(pixels.max()) if pixels.dtype.itemsize == 2 else 65535, note


def _rgb(pixels: NDArray[Any], bits: int = 16) -> NDArray[np.uint8]:
    """Return three channels of 8 bits; `bits` says how many of 16 are in use."""
    if pixels.dtype.itemsize == 2:
        dark = bits > 14 and 0 < pixels.max() < 2**14
        require(not dark, f"it holds 16-bit values up to {pixels.max()}: {DARK}")
        pixels = (pixels // ((2**bits - 1) // 255)).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


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
        Its X holds the files' paths, for `read_image`. Where all images are grey with 16 bits, of which 14 or fewer are
        in use over the whole folder, it holds the images, as `read_image` returns them, all scaled alike.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    UserError
        No image in any sub-folder, folders in folders, images that `read_image` refuses, or labels that
        `binary_labels` refuses.
    """
    path, notes = existing_path(path), list[str]()
    files = _images_in(path.glob("[!.]*/**/*"), notes)
    if loose := some(sorted(file.name for file in path.glob("*") if _is_image(file))):
        notes.append(f"images in no sub-folder have no class and are left out: {loose}")
    names = [file.relative_to(path) for file in files]
    require(files, f"{str(path)!r} must hold one sub-folder of images a class; no image was found in any.")
    nested = some([str(name.parent) for name in names if len(name.parts) > 2], most=1)
    require(not nested, f"{path} holds folders in folders ({nested}): name the one whose sub-folders are the classes.")
    y, class_names = binary_labels([name.parts[0] for name in names], positive_label, path.name)
    X = np.array([str(file) for file in files], dtype=object)
    where = files, f"images in {path.name}", path, notes
    highest = _read_all(_highest, *where)
    if any(0 < value < 2**14 for value in highest):
        bits = max(8, max(highest).bit_length())
        pixels = _read_all(lambda file: (_rgb(_pillow(file, first_page=True)[0], bits), ""), *where)
        X = np.fromiter(pixels, dtype=object)
        notes.append(f"16-bit images use {bits} bits: all are scaled alike")
    return Dataset(path.name, "image", X, y, class_names, str(path), OWN, notes=tuple(notes))


def open_pairs(image_dir: str | os.PathLike[str], mask_dir: str | os.PathLike[str]) -> Dataset:
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
    mask of a photograph or of one colour; else what is transparent is background, if it has one colour.

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
    image_path, mask_path = existing_path(image_dir, "image_dir"), existing_path(mask_dir, "mask_dir")
    pairs = _pair(*_find(image_path, mask_path, notes), notes)
    too_few = f"{str(image_path)!r} holds {len(pairs)} images with a mask: at least {MIN_PAIRS} are needed."
    require(len(pairs) >= MIN_PAIRS, too_few)
    sides = (list(pairs), "images", image_path, notes), (list(pairs.values()), "masks", mask_path, notes)
    _require_same_sizes(pairs, *(_read_all(_header, *side) for side in sides))
    images, masks = _read_all(_image, *sides[0]), _read_all(_mask, *sides[1])
    X, y = _same_channels(images, notes), _objects(masks, notes, any(path.is_dir() for path in pairs.values()))
    classes, name = ("background", "object"), image_path.resolve().name
    return Dataset(name, "mask", X, y, classes, str(image_path), OWN, notes=tuple(notes))


def _is_image(path: Path) -> bool:
    known = Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN
    return known and path.name[0] != "." and path.is_file()


def _images_in(paths: Iterable[Path], notes: list[str]) -> list[Path]:
    """Return the image files, in order; what else is there but folders goes into a note."""
    found = sorted(path for path in paths if not path.is_dir())
    kept = list(filter(_is_image, found))
    if left := sorted({path.name for path in set(found) - set(kept)}):
        notes.append(f"{len(found) - len(kept)} entries are hidden or no image files, and left out: {some(left)}")
    return kept


def _find(image_path: Path, mask_path: Path, notes: list[str]) -> tuple[list[Path], list[Path]]:
    """Return the images and the masks; of masks with a file for each object, their folders."""
    same = image_path.samefile(mask_path)
    image_files = sorted(filter(_is_image, image_path.glob("*/images/*"))) if same else []
    if image_files:
        return image_files, sorted({file.parent for file in image_path.glob("*/masks/*") if _is_image(file)})
    files = _files(image_path, "image_dir", notes)
    if not same:
        return files, _files(mask_path, "mask_dir", notes)
    mask_files = [path for path in files if MASK_WORD.search(path.stem)]
    image_files = [path for path in files if not MASK_WORD.search(path.stem)]
    named = f"{'every' if mask_files else 'no'} name holds mask, label, gt, seg or annotation as a word"
    require(mask_files and image_files, f"image_dir and mask_dir are both {str(image_path)!r}, where {named}.")
    return image_files, mask_files


def _files(path: Path, argument: str, notes: list[str]) -> list[Path]:
    """Return the images of a folder; of mask_dir, if it has none, its sub-folders with a file for each object."""
    found = _images_in(path.glob("*"), notes)
    inside = sorted({file.parent for file in path.glob("*/*") if _is_image(file)})
    # Three are rather train, validation and test.
    if not found and len(inside) > 3 and argument == "mask_dir":
        return inside
    hint = f"; its sub-folders do: name one of them as {argument}: {some([each.name for each in inside])}"
    require(found, f"{argument} must be a folder of images; {str(path)!r} holds no image{hint * bool(inside)}.")
    return found


def _bare(stem: str) -> str:
    """Return a name without its words such as img or mask, and with one separator only."""
    return re.sub(r"[-_. ]+", "_", WORD.sub("", stem)).strip("_") or stem


def _pair(images: list[Path], masks: list[Path], notes: list[str]) -> dict[Path, Path]:
    """Return the mask of each image: by the same name first, what is left over by the name without its words."""
    pairs: dict[Path, Path] = {}
    for key in (str, _bare):
        left = _by_key(set(images) - set(pairs), key, "images")
        left_masks = _by_key(set(masks) - set(pairs.values()), key, "masks") if left else {}
        pairs |= {path: left_masks[name] for name, path in left.items() if name in left_masks}
    alone = [path.name for path in images if path not in pairs]
    require(not alone, f"{len(alone)} of {len(images)} images have no mask of the same name: {some(alone)}.")
    if unused := sorted(path.name for path in set(masks) - set(pairs.values())):
        notes.append(f"{len(unused)} masks have no image and are left out: {some(unused)}")
    return {path: pairs[path] for path in images}


def _by_key(paths: Iterable[Path], key: Callable[[str], str], noun: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(paths):
        folder = path.parent if path.name == "masks" else path  # Of a file for each object.
        other = found.setdefault(name := key(folder.name if path.is_dir() else path.stem), path)
        require(other is path, f"two {noun} go by the name {name!r}: {some([other.name, path.name])}; keep one.")
    return found


def _read_all(read: Callable[[Path], Any], files: list[Path], noun: str, folder: Path, notes: list[str]) -> list[Any]:
    """Return what `read` makes of each file, and add to `notes`; UserError counts and names the files with a fault."""
    results, found = [], defaultdict[str, list[str]](list)
    for path in files:
        try:
            # What a library warns of may be damaged, or too large for memory.
            with warnings.catch_warnings(action="error"):
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


def _header(path: Path) -> tuple[tuple[int, int, int], str]:
    """Return width, height and EXIF orientation of a file, or of the first of a folder; no pixel is read."""
    path = min(filter(_is_image, path.glob("*"))) if path.is_dir() else path
    try:
        with tifffile.TiffFile(path) as file:  # Pillow knows no floats of 64 bits, and tells the upright size.
            page: Any = file.pages.first
            width, height, orientation = page.imagewidth, page.imagelength, page.tags.valueof("Orientation", 1)
    except tifffile.TiffFileError:
        with Image.open(path) as image:
            # Not image.getexif, which decodes a PNG.
            (width, height), orientation = image.size, Image.Image.getexif(image).get(0x0112, 1)
    most = Image.MAX_IMAGE_PIXELS or np.inf
    require(width * height <= most, f"more than {most:,} pixels: cut it into regions")
    require(min(width, height) >= MIN_SIDE, f"a side shorter than {MIN_SIDE} pixels")
    return (width, height, orientation), ""


def _pillow(source: Any, mask: bool = False, first_page: bool = False) -> tuple[NDArray[Any], str]:
    """Return a file's upright pixels as `_pixels` does; of a mask, UserError if they may not be its labels."""
    with Image.open(source) as image:
        image.verify()  # Else Pillow would not look at the checksums of a PNG.
    with Image.open(source) as image:
        # The further pages of MPO, a JPEG of a phone, are previews.
        require(first_page or image.format == "MPO" or getattr(image, "n_frames", 1) == 1, PAGES)
        lossy = image.format in LOSSY or image.info.get("compression") == "jpeg"
        reduced = image.mode in ("RGB", "RGBA", "LA") and ";16" in str(getattr(image, "tile", ""))
        sideways = image.info.get("compression") == "raw" and Image.Image.getexif(image).get(0x0112, 1) > 4
        require(not sideways, "an uncompressed TIFF on its side, which Pillow garbles: save it upright")
        early = image.info.get("exif")
        image.load()
        require(image.info.get("exif") == early, "EXIF data behind its pixels: save it anew")
        shown = ImageOps.exif_transpose(image)
    pixels, note = _pixels(shown, keep_alpha=mask)
    if mask:
        require(not reduced, f"{REDUCED} with 8: save labels as 16-bit grey")
        require(not lossy or (shown.getcolors(2) and pixels.max() >= 128), f"saved as JPEG or the like, {LOST}")
        repeated = shown.mode == "P" and len(shown.getcolors() or ()) > len(shown.convert("RGBA").getcolors() or ())
        require(not repeated, "a palette with one colour for several labels: save labels as grey")
    require(not reduced or not 0 < pixels.max() < 64, f"{REDUCED} with 8, up to {pixels.max()}: {DARK}")
    require(not first_page or pixels.dtype.itemsize < 3, "it holds 32-bit values: scale them to 0-255, save as 8 bit")
    return pixels, note or f"hold {REDUCED} with 8" * reduced


def _pixels(image: Image.Image, keep_alpha: bool = False) -> tuple[NDArray[Any], str]:
    """Return pixels of shape (height, width, 1, 3 or, with alpha, 4), of a palette its colours; and a note."""
    note = ""
    if image.mode[0] not in "IF":  # 16 and 32 bits are left as they are.
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode == "RGBA" and not keep_alpha:
        if np.ptp(image.getchannel("A").getextrema()):
            note = "are partly transparent and are laid on white"
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    return _grey(np.atleast_3d(np.array(image))), note


def _grey(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels


def _tiff(path: Path) -> tuple[NDArray[Any], str] | None:
    """Return what tifffile reads, as it keeps all bits; None where Pillow has to, which knows more encodings."""
    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages.first
            axes, shape = file.series[0].axes, file.series[0].shape
            known = len(file.series) == 1 and axes in ("YX", "YXS", "SYX", "CYX") and np.prod(shape) < 2**30
            pixels: Any = file.asarray() if known else None
    except Exception:  # Whatever its parser stumbles on, Pillow may read the file.
        return None
    require(known, PAGES)
    pixels = np.atleast_3d(np.moveaxis(pixels, 0, -1) if axes[0] in "SC" else pixels)
    # Pillow turns images upright, and tifffile would fill strips that are not there with 0.
    plain = page.photometric.name in ("MINISBLACK", "RGB") and page.compression.name in ("NONE", "ADOBE_DEFLATE")
    whole = page.tags.valueof("Orientation", 1) == 1 and len(page.dataoffsets) == np.prod(page.chunked)
    alpha = bool({1, 2} & set(page.extrasamples))
    if not plain or not whole or page.bitspersample < 8 or (alpha and np.ptp(pixels[..., -1]) > 0):
        return None
    pixels = pixels[..., : 3 if page.photometric.name == "RGB" else pixels.shape[2] - alpha]
    require(pixels.shape[2] in (1, 3), "neither one nor three colour channels: save it as grey or RGB")
    return _grey(pixels), ""


def _image(path: Path) -> tuple[NDArray[Any], str]:
    pixels, note = _tiff(path) or _pillow(path)
    limits = np.finfo(np.float32) if pixels.dtype.kind == "f" else np.iinfo(np.uint16)
    in_range = limits.min <= pixels.min() and pixels.max() <= limits.max
    require(in_range, "NaN, infinite values or integers beyond 0..65535: scale them and save as 16 bit")
    return pixels.astype(np.uint8 if pixels.dtype == np.uint8 else limits.dtype), note


def _mask(path: Path) -> tuple[NDArray[np.int64], str]:
    """Return a mask's labels, or one number for each colour, of shape (height, width)."""
    if path.is_dir():
        return _merged(path)
    pixels, note = _tiff(path) or _pillow(path, mask=True)
    whole = np.isfinite(pixels).all() and not (pixels % 1).any()
    require(whole, "values that are no whole numbers, such as probabilities")
    require(pixels.min() >= 0, "negative labels")
    colours = _grey(pixels[..., :3])
    labels = colours.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1][-colours.shape[2] :])
    if pixels.shape[2] < 4 or np.ptp(alpha := pixels[..., 3]) == 0:
        return labels, note
    number = len(np.unique(labels))
    if number == 1 or number > min(256, labels.size / 8):
        return alpha.astype(np.int64), "are read from the transparency of one colour or of a photograph"
    if (alpha == 0).any() and np.ptp(labels[alpha == 0]) == 0:
        return np.where(alpha == 0, 0, labels), "are read with what is transparent as background"
    return labels, "have a transparency that is not used"


def _merged(folder: Path) -> tuple[NDArray[np.int64], str]:
    """Return one label image of masks of one object each."""
    objects = [_mask(file)[0] for file in sorted(filter(_is_image, folder.glob("*")))]
    require(len({mask.shape for mask in objects}) == 1, "files of different sizes")
    one_each = all(np.count_nonzero(np.unique(mask)) < 2 for mask in objects)
    require(one_each, "more than one value in the file of one object")
    inside = np.array(objects) > 0
    note = "hold objects that overlap, in pixels that the first by name keeps" * bool((inside.sum(axis=0) > 1).any())
    return np.select(list(inside), range(1, len(inside) + 1)), note


def _require_same_sizes(pairs: dict[Path, Path], images: list[Any], masks: list[Any]) -> None:
    wrong = []
    for files, *both in zip(pairs.items(), images, masks, strict=True):
        one_turned = (both[0][2] > 1) != (both[1][2] > 1) and both[0][:2] == both[1][:2]
        require(not one_turned, f"{some([path.name for path in files])}: {EXIF}.")
        upright = [size[:2] if size[2] < 5 else size[1::-1] for size in both]
        wrong += [(*files, *upright)] * (upright[0] != upright[1])
    for image_file, mask_file, (width, height), size in wrong:
        turned = ": it looks turned by a quarter" * (size == (height, width))
        found = f"{mask_file.name!r} is {size[0]} × {size[1]} pixels (width × height)"
        other = f"its image {image_file.name!r} {width} × {height}{turned}"
        raise UserError(f"{len(wrong)} of {len(masks)} masks have another size than their image: {found}, {other}.")


def _same_channels(images: list[NDArray[Any]], notes: list[str]) -> list[NDArray[Any]]:
    dtypes = Counter(str(pixels.dtype) for pixels in images)
    count = ", ".join(f"{number} {dtype}" for dtype, number in dtypes.items())
    notes += [f"the images differ in precision: {count}"] * (len(dtypes) > 1)
    highest = max((pixels.max() for pixels in images if pixels.dtype == np.uint16), default=0)
    if 0 < highest < 2**14:
        notes.append(f"images of 16 bits hold values up to {highest} only: divide by this, not by 65535")
    grey = sum(pixels.shape[2] == 1 for pixels in images)
    if 0 < grey < len(images):
        notes.append(f"{grey} images are grey, the others are not: their one channel is repeated three times")
        return [np.repeat(pixels, 3 // pixels.shape[2], axis=2) for pixels in images]
    return images


def _objects(masks: list[NDArray[np.int64]], notes: list[str], by_file: bool) -> list[NDArray[np.int32]]:
    """Return a label image for each mask, and add to `notes` how the masks were understood."""
    void = 0 if by_file else _void(masks)
    unknown = [mask == (void or IGNORE) for mask in masks]
    share = np.mean([ignored.mean() for ignored in unknown])
    notes += [f"255 (void) beside other labels, {share:.1%} of the pixels, is no object: y is {IGNORE}"] * bool(void)
    masks = [np.where(ignored, 0, mask) for ignored, mask in zip(unknown, masks, strict=True)]
    values = [np.unique(mask) for mask in masks]
    filled = [found for found in values if found.any()]
    require(filled, f"mask_dir: no object is in any of the {len(masks)} masks: all pixels are 0, the background.")
    require(not all(found[0] for found in filled), NO_BACKGROUND)
    empty, several = len(masks) - len(filled), sum(np.count_nonzero(found) > 1 for found in values)
    notes += [f"{empty} masks hold no object"] * bool(empty)
    y = [segmentation.relabel_sequential(mask)[0].astype(np.int32) for mask in masks]
    if several and not by_file and not _smoothed(masks):
        y = _instances_or_classes(y, notes)
    elif not by_file:
        y = _regions(masks, notes, int(several))
    return [np.where(ignored, IGNORE, labels) for ignored, labels in zip(unknown, y, strict=True)]


def _void(masks: list[NDArray[np.int64]]) -> int:
    """Return the value that marks what is not known, as 255 beside labels 1..n or around most of the others; else 0."""
    values = sorted(set().union(*(np.unique(mask).tolist() for mask in masks)) - {0})
    if len(values) > 1 and VOID[1] in values:
        return VOID[1]
    several = [mask for mask in masks if (mask == VOID[0]).any() and np.count_nonzero(np.unique(mask)) > 1]
    if not several or values[-1] != VOID[0]:
        return 0
    if values[:-1] == list(range(1, len(values))):
        return VOID[0] * (len(values) < 255)
    # Numbers of classes, with gaps: void covers most of what is next to them, and is seldom 7 pixels away.
    distances = [ndimage.distance_transform_cdt((mask == 0) | (mask == VOID[0])) for mask in several]
    distance, value = (np.concatenate(arrays, axis=None) for arrays in (distances, several))
    rim = np.bincount(distance[value == VOID[0]], minlength=2)
    return VOID[0] * bool(rim[1] > 0.5 * np.count_nonzero(distance == 1) and rim[7:].sum() <= rim[1])


def _regions(masks: list[NDArray[np.int64]], notes: list[str], several: int) -> list[NDArray[np.int32]]:
    """Return the connected regions of masks with one value beside 0, whose borders may be smoothed in `several`."""
    notes += [f"{several} masks have smoothed borders, cut at 128"] * bool(several)
    regions = [ndimage.label(mask >= (128 if several else 1))[0] for mask in masks]
    if (share := np.mean([np.mean(labels > 0) for labels in regions])) > 0.5:
        notes.append(f"objects cover {share:.0%} of the pixels: if 0 marks them, invert the masks")
    notes.append("masks hold one value beside 0: each connected region is an object, touching objects are one")
    return regions


def _instances_or_classes(masks: list[NDArray[np.int32]], notes: list[str]) -> list[NDArray[np.int32]]:
    """Return the masks, or, where most of their values lie in several regions, the connected regions of each value."""
    every_region = [measure.label(mask, connectivity=1).astype(np.int32) for mask in masks]
    sizes = [np.bincount(regions.ravel())[1:] for regions in every_region]
    tiny = f"mask_dir: most values of the masks lie in regions of one or two pixels, {SMOOTHED}; {PHOTOGRAPHS}."
    require(np.median(np.concatenate(sizes)) > 2, tiny)
    value_of = [ndimage.maximum(mask, of, range(1, of.max() + 1)) for mask, of in zip(masks, every_region, strict=True)]
    several = np.concatenate([np.bincount(values)[1:] for values in value_of]) > 1
    share = f"{several.sum()} of {several.size}"
    if several.mean() <= 0.5:
        notes += [f"{share} objects consist of several regions"] * bool(several.any())
        return masks
    notes.append(f"{share} values lie in several regions: values are read as classes, and each region is an object")
    return every_region


def _smoothed(masks: list[NDArray[np.int64]]) -> bool:
    """Say whether masks of 0 and 255 have grey borders; UserError if their greys lie elsewhere too."""
    edges = [(ndimage.minimum_filter(mask, 5) == 0) & (ndimage.maximum_filter(mask, 5) == 255) for mask in masks]
    pixels, edge = (np.concatenate(arrays, axis=None) for arrays in (masks, edges))
    grey = (pixels > 0) & (pixels < 255)
    # Labels of objects: as a rule, 255 is no larger than all others together.
    if pixels.max() != 255 or np.sum(pixels == 255) <= grey.sum():
        return False
    unlike = any(mask.any() and mask.max() < 128 for mask in masks)
    smoothed = np.sum(grey & edge) >= 0.9 * grey.sum() and not unlike
    between = f"mask_dir: the masks hold 0, 255 and many greys between them, {SMOOTHED}."
    require(smoothed or len(np.unique(pixels[grey])) <= 8, between)
    return bool(smoothed)
