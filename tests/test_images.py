"""The reader's images and masks: what is read and paired, how masks are understood, and what is said if not."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw, ImageFile
from scipy import ndimage

from helpers import data, images
from helpers.notebook import UserError

RNG = np.random.default_rng(0)
SHAPE = (12, 16)
GREY = RNG.integers(0, 200, SHAPE, dtype=np.uint8)
COLOURS = RNG.integers(0, 200, (*SHAPE, 3), dtype=np.uint8)
DEEP, DEEP_COLOURS = GREY.astype(np.uint16) * 300, COLOURS.astype(np.uint16) * 300
# Two objects that touch in one column, and one apart.
LABELS = np.zeros(SHAPE, dtype=np.uint8)
LABELS[1:4, 1:4], LABELS[1:4, 4:7], LABELS[7:11, 9:14] = 7, 3, 200
MASK, EMPTY = np.where(LABELS, 255, 0).astype(np.uint8), np.zeros(SHAPE, dtype=np.uint8)
PAGES = {"save_all": True, "append_images": [Image.fromarray(MASK)]}
NOUNS = "images", "masks"


def save(path, pixels, **options):
    path.unlink(missing_ok=True)
    if isinstance(pixels, bytes):
        path.write_bytes(pixels)
    elif isinstance(pixels, Image.Image):
        pixels.save(path, **options)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels, **options)
    else:
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)


def png16(pixels):
    """Return a PNG of three channels of 16 bits, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture
def folders(tmp_path):
    """Six grey images and six binary masks."""
    for name, pixels in (("photos", GREY), ("masks", MASK)):
        (tmp_path / name).mkdir()
        replace(tmp_path / name, pixels)
    return tmp_path / "photos", tmp_path / "masks"


def replace(folder, pixels, suffix="png", numbers=range(6), **options):
    for number in numbers:
        for old in folder.glob(f"{number}.*"):
            old.unlink()
        save(folder / f"{number}.{suffix}", pixels, **options)


def same_objects(found, expected):
    """Whether two label images hold the same objects, numbered in any order."""
    pairs = set(zip(found.ravel().tolist(), np.ravel(expected).tolist(), strict=True))
    return len(pairs) == len(np.unique(found)) == len(np.unique(expected)) and (0, 0) in pairs


def refused(read, *parts):
    """Assert that what is read, folders of pairs or one of classes, is refused in one sentence with these parts."""
    with pytest.raises(UserError) as caught:
        images.open_pairs(*read) if isinstance(read, tuple) else data.open_data(read)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    assert all(part in message for part in parts), message


# --- one image, and folders of two classes -----------------------------------------------------------------------


def test_a_folder_of_two_classes(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number, mode in enumerate(("RGB", "L", "P", "RGBA", "CMYK", "1", "LA") * 2):
            pixels = Image.fromarray(RNG.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)).convert(mode)
            save(tmp_path / label / f"{number}.{'tiff' if mode in ('CMYK', '1') else 'png'}", pixels)
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"no image")
    dataset = data.open_data(tmp_path, positive_label="cat")
    assert (dataset.kind, len(dataset), dataset.class_names) == ("image", 28, ("dog", "cat"))
    for path, y in zip(dataset.X, dataset.y, strict=True):
        pixels = images.read_image(path)
        assert (pixels.dtype, pixels.shape[1:], y) == (np.uint8, (30, 3), path.split("/")[-2] == "cat")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "one sub-folder of images a class", "it holds none.")
    refused(tmp_path / "cat", "one sub-folder of images a class", "it holds '0.png'")
    save(tmp_path / "loose.png", Image.fromarray(GREY))
    refused(tmp_path, "one sub-folder of images a class, and no images elsewhere; it holds 'loose.png'.")
    (tmp_path / "loose.png").unlink()
    save(tmp_path / "cat" / "0.png", b"\x89PNG")
    refused(tmp_path, "1 of 28 images in ", " cannot be used, empty, ", "'cat/0.png'.")
    (tmp_path / "cat").rename(tmp_path / "dog" / "cat")
    refused(tmp_path, "one sub-folder of images a class, and no images elsewhere; it holds 'dog/cat/0.png'")


def test_16_bits_are_scaled_and_what_is_unsuitable_is_refused(tmp_path):
    np.testing.assert_array_equal(images.read_image(np.dstack([COLOURS, EMPTY + 9])), COLOURS)
    for wrong in (GREY / 255, GREY[:0], GREY[..., None], GREY[0]):
        with pytest.raises(ValueError, match="an image array must be uint8"):
            images.read_image(wrong)
    save(tmp_path / "a.png", np.array([[0, 256, 32896, 65535]], dtype=np.uint16))
    assert images.read_image(tmp_path / "a.png")[0].tolist() == [[value] * 3 for value in (0, 0, 128, 255)]
    for dark in (DEEP // 16, DEEP // 4, DEEP // 1000):
        save(tmp_path / "b.png", dark)
        with pytest.raises(UserError, match=f"16-bit values up to {dark.max()}: 12 bits or dark.*pixels // 16"):
            images.read_image(tmp_path / "b.png")
    save(tmp_path / "b.png", 0 * DEEP)
    assert not images.read_image(tmp_path / "b.png").any(), "black at any scale"
    save(tmp_path / "b.png", png16(DEEP_COLOURS // 16))
    with pytest.raises(UserError, match="colours of 16 bits, of which Pillow reads 8"):
        images.read_image(tmp_path / "b.png")
    for dtype in (np.int32, np.float32):
        save(tmp_path / "a.tiff", Image.fromarray(np.ones(SHAPE, dtype=dtype)))
        with pytest.raises(UserError, match="holds 32-bit values: scale them to 0-255"):
            images.read_image(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="the file is no readable image") as caught:
        images.read_image(io.BytesIO(b"GIF89a"))
    assert not isinstance(caught.value, UserError)
    save(tmp_path / "a.gif", Image.fromarray(GREY), **PAGES)
    assert images.read_image(tmp_path / "a.gif").shape == (*SHAPE, 3), "the first image of an animation"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "array"])
def test_what_is_transparent_is_white(tmp_path, mode):
    """A black drawing on a transparent ground, as of an icon."""
    drawing = Image.fromarray(np.dstack([EMPTY, EMPTY, EMPTY, MASK]))
    if mode != "array":
        drawing = (
            drawing.quantize(4) if mode == "P" else drawing.convert("LA") if mode == "PA" else drawing.convert(mode)
        )
        save(tmp_path / "a.png", drawing)
    found = images.read_image(np.asarray(drawing) if mode == "array" else tmp_path / "a.png")
    np.testing.assert_array_equal(found, np.dstack([255 - MASK] * 3))


def test_what_an_image_folder_accepts_is_read_later(tmp_path, recwarn):
    for label in "ab":
        (tmp_path / label).mkdir()
        replace(tmp_path / label, COLOURS, numbers=range(10))
    save(tmp_path / "a" / "0.png", np.dstack([COLOURS, MASK]))
    (tmp_path / "a" / "x.png").mkdir()
    os.mkfifo(tmp_path / "b" / "y.png")
    (tmp_path / "b" / "z.png").symlink_to("nowhere")
    dataset = data.open_data(tmp_path)
    assert len(dataset) == len([images.read_image(path) for path in dataset.X]) == 20
    assert dataset.notes == (
        "what is no image file is left out: 'y.png', 'z.png'",
        f"1 of 20 images in {tmp_path.name} are partly transparent and are laid on white: 'a/0.png'",
    )
    for faulty in (DEEP // 16, DEEP.astype(np.int32), (GREY / 255).astype(np.float32)):
        save(tmp_path / "a" / "0.tif", Image.fromarray(faulty))
        refused(tmp_path, "1 of 21 images in ", "cannot be used, it holds ", "'a/0.tif'.")
    assert not recwarn.list


def test_dark_images_of_a_folder_are_refused_with_the_remedy(tmp_path):
    """What a network would be trained on has to be what `read_image` makes of the next image."""
    for label in "ab":
        (tmp_path / label).mkdir()
        replace(tmp_path / label, DEEP // 16, numbers=range(10))
    save(tmp_path / "a" / "3.png", png16(DEEP_COLOURS))
    refused(tmp_path, "it holds 16-bit values up to 3731: 12 bits or dark? Scale all images alike", "pixels // 16")
    for label in "ab":
        replace(tmp_path / label, DEEP.astype(">u2"), "tif", numbers=range(10))
    assert data.open_data(tmp_path).notes == ()


# --- images of pairs ---------------------------------------------------------------------------------------------

RGB, PLANES = {"photometric": "rgb"}, {"photometric": "rgb", "planarconfig": "separate"}
BLACK = {"photometric": "minisblack"}
FEW_COLOURS, FLAT = COLOURS // 100 * 99, np.full_like(DEEP, 90)
KINDS = [
    *(("png", pixels, {}, GREY) for pixels in (GREY, np.dstack([GREY, FLAT.astype("u1")]))),
    *(("png", pixels, {}, COLOURS) for pixels in (COLOURS, np.dstack([COLOURS, EMPTY]))),
    ("png", np.dstack([COLOURS, MASK]), {}, np.where(MASK[..., None], COLOURS, 255)),
    ("png", Image.fromarray(FEW_COLOURS).quantize(9), {}, FEW_COLOURS),
    ("tif", Image.fromarray(GREY > 99), {}, np.where(GREY > 99, 255, 0).astype(np.uint8)),
    *(("tif", DEEP, options, DEEP) for options in ({"rowsperstrip": 5}, {"byteorder": ">"})),
    *((suffix, Image.fromarray(DEEP), o, DEEP) for suffix, o in (("png", {}), ("tif", {"compression": "tiff_lzw"}))),
    ("tif", (DEEP // 4).astype(np.int16), {}, DEEP // 4),
    ("tif", (GREY / 7).astype("f4"), {}, (GREY / 7).astype("f4")),
    ("tif", np.moveaxis(COLOURS, -1, 0), PLANES, COLOURS),
]


@pytest.mark.parametrize(("suffix", "pixels", "options", "expected"), KINDS)
def test_images_keep_their_precision(folders, suffix, pixels, options, expected):
    replace(folders[0], pixels, suffix, **options)
    dataset = images.open_pairs(*folders)
    assert (dataset.kind, dataset.name, dataset.source, len(dataset)) == ("mask", "photos", str(folders[0]), 6)
    assert dataset.X[0].dtype == expected.dtype and dataset.X[0].flags.writeable
    np.testing.assert_array_equal(dataset.X[0], expected.reshape(*SHAPE, -1))
    assert (dataset.y[0].dtype, dataset.y[0].shape) == (np.int32, SHAPE)
    assert "each connected region is an object" in dataset.notes[-1]
    transparent = suffix == "png" and np.ptp(np.atleast_3d(pixels)[..., -1]) == 255
    said = {"laid on white": transparent, "images of 16 bits hold up to": dataset.X[0].max() == 14925}
    assert [what for what in said if what in "".join(dataset.notes[:-1])] == [what for what in said if said[what]]


def test_images_that_differ_get_a_note(folders):
    for number, pixels in ((1, COLOURS), (2, DEEP)):
        save(folders[0] / f"{number}.png", pixels)
    dataset = images.open_pairs(*folders)
    assert [image.shape for image in dataset.X] == [(*SHAPE, 3)] * 6
    np.testing.assert_array_equal(dataset.X[0], np.dstack([GREY] * 3))
    assert dataset.notes[:2] == (
        "the images differ in precision: uint16, uint8",
        "5 images are grey, the others are not: their one channel is repeated three times",
    )


def test_images_and_masks_are_turned_upright_and_may_differ_in_size(folders):
    exif = Image.Exif()
    for orientation, quarters, pixels in ((6, 1, COLOURS), (3, 2, GREY), (8, 3, DEEP)):
        exif[0x0112] = orientation
        for folder, upright in zip(folders, (pixels, LABELS), strict=True):
            save(folder / "2.png", np.rot90(upright[:11], quarters), exif=exif)
        dataset = images.open_pairs(*folders)
        np.testing.assert_array_equal(dataset.X[2].T[0], pixels[:11].T.reshape(-1, 16, 11)[0])
        assert images.read_image(folders[0] / "2.png").shape == (11, 16, 3)
        assert same_objects(dataset.y[2], LABELS[:11])


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_orientation_that_only_one_has_is_followed_only_if_its_size_says_so(folders, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for this, other in (folders, folders[::-1]):
        replace(
            this, Image.fromarray(GREY if this == folders[0] else MASK), suffix, [3], exif=exif, compression="tiff_lzw"
        )
        refused(folders, f"3.{suffix}'", "'3.png'", ": only one of the pair has an EXIF orientation: turn both")
        upright = images.ImageOps.exif_transpose(Image.open(this / f"3.{suffix}"))
        if orientation > 4:
            replace(other, Image.fromarray(MASK).resize(upright.size), numbers=[3])
            assert images.open_pairs(*folders).X[3].shape[:2] == upright.size[::-1]
        for folder, pixels in zip(folders, (GREY, MASK), strict=True):
            replace(folder, pixels, numbers=[3])


def test_an_uncompressed_tiff_on_its_side_is_refused(folders):
    """Pillow 13.0 takes its rows for columns; where it does no more, this can be read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    replace(folders[0], Image.fromarray(np.rot90(GREY)), "tif", exif=exif)
    refused(folders, "6 of 6 images cannot be used, an uncompressed TIFF on its side")
    with pytest.raises(UserError, match=r"which Pillow garbles, or .*: save it upright"):
        images.read_image(folders[0] / "1.tif")
    replace(folders[0], Image.fromarray(np.rot90(GREY)), "tif", exif=exif, compression="tiff_lzw")
    np.testing.assert_array_equal(images.open_pairs(*folders).X[0][..., 0], GREY)


def test_an_orientation_behind_the_pixels_of_a_png_is_refused(folders):
    """As ImageMagick writes it: it is not seen before all is decoded."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folders[0] / "1.png", GREY, exif=exif)
    whole = (folders[0] / "1.png").read_bytes()
    start = whole.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", whole[start : start + 4])[0]
    (folders[0] / "1.png").write_bytes(whole[:start] + whole[end:-12] + whole[start:end] + whole[-12:])
    refused(folders, "1 of 6 images cannot be used, ", "EXIF data behind its pixels: save it upright: '1.png'")


def test_a_bomb_is_refused_and_a_preview_is_no_second_page(folders, monkeypatch, recwarn):
    photo = Image.fromarray(GREY)
    replace(folders[0], photo, "jpg", [1], format="MPO", save_all=True, append_images=[photo.resize((8, 8))])
    assert images.open_pairs(*folders).X[1].shape == (*SHAPE, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GREY.size - 1)
    refused(folders, "6 of 6 images cannot be used, ", "too large")
    replace(folders[0], GREY, "tif")
    refused(folders, "6 of 6 images cannot be used, ", "too large")
    with pytest.raises(UserError, match=r"0\.png' is no readable image: Image size .* exceeds limit"):
        images.read_image(folders[1] / "0.png")
    assert not recwarn.list


@pytest.mark.parametrize("which", [0, 1])
def test_sizes_are_compared_before_anything_is_decoded(folders, which, monkeypatch):
    save(folders[which] / "2.png", np.zeros((400, 300, 3), np.uint8))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    refused(folders, "1 of 6 masks have another size than their image: '2.png'")


def test_what_libraries_log_or_warn_of_is_a_refusal(folders, caplog, recwarn):
    replace(folders[0], GREY, "tif")
    path = folders[0] / "1.tif"
    whole = bytearray(path.read_bytes())
    tags = [index for index in range(8, 200) if whole[index : index + 2] in (b"\x03\x01", b"\x06\x01", b"\x15\x01")]
    for index in tags:
        for value in (0, 44, 255):
            broken = whole.copy()
            broken[index + 8] = value
            path.write_bytes(broken)
            try:
                images.open_pairs(*folders)
            except UserError as error:
                assert "'1.tif'" in str(error)
    assert tags and not caplog.records and not recwarn.list


def test_a_damaged_pixel_of_a_png_is_seen(folders):
    for folder, noun in zip(folders, NOUNS, strict=True):
        whole = bytearray((folder / "1.png").read_bytes())
        whole[whole.index(b"IDAT") + 12] ^= 1
        (folder / "1.png").write_bytes(whole)
        refused(folders, f"1 of 6 {noun} cannot be used", "'1.png'.")
        save(folder / "1.png", GREY)


# --- pairs -------------------------------------------------------------------------------------------------------

NAMES = [
    *(("{}_img.png", "{}_img_cp_masks.png", "a"), ("IMG_{}.PNG", "Mask_{}.tif", "a"), ("{}.png", "{}.gt.png", "b")),
    *(("gtex-{}.png", "gtex-{}-annotation.png", "b"), ("{}img.png", "{}mask.png", "a")),
]


@pytest.mark.parametrize(("image_name", "mask_name", "mask_dir"), NAMES)
def test_words_for_image_and_mask_do_not_count(tmp_path, image_name, mask_name, mask_dir):
    for folder in {"a", mask_dir}:
        (tmp_path / folder).mkdir()
    for number in (0, 1, 2, 3, 9, 10):
        # Each pair has its own size: a mask of another image would be refused.
        save(tmp_path / "a" / image_name.format(number), np.full((8 + number, 20), number, np.uint8))
        save(tmp_path / mask_dir / mask_name.format(number), np.eye(8 + number, 20, dtype=np.uint8))
    dataset = images.open_pairs(tmp_path / "a", tmp_path / mask_dir)
    # Pixels that touch at a corner only.
    assert sorted(labels.max() for labels in dataset.y) == [8, 9, 10, 11, 17, 18]


def test_the_same_name_goes_before_a_similar_one_and_what_is_no_image_is_ignored(folders):
    for folder, name in ((0, "00_img.png"), (1, "00_gt.png"), (1, "0_mask.png")):
        save(folders[folder] / name, MASK[:9])
    for name in ("._0.png", "Thumbs.db", "notes.pdf"):
        (folders[0] / name).write_bytes(b"\0")
    dataset = images.open_pairs(*folders)
    assert [len(image) for image in dataset.X] == [12, 9, 12, 12, 12, 12, 12], "in the order of the images' names"
    assert "1 masks have no image and are left out: '0_mask.png'" in dataset.notes


def test_folder_faults(folders, tmp_path):
    photos, masks = folders
    with pytest.raises(FileNotFoundError, match="mask_dir: nothing is at"):
        images.open_pairs(photos, tmp_path / "no")
    refused((photos, ""), "mask_dir is empty: name a file or a folder")
    refused((photos / "0.png", masks), "image_dir must be a folder of images; ", "0.png' holds no image.")
    refused((tmp_path, masks), "image_dir", "holds no image; it holds folders, name one of them: 'masks', 'photos'.")
    refused((photos, photos), "image_dir and mask_dir are both one folder: give its masks alone names with mask, ")
    refused((photos, tmp_path / "photos" / "0.png"), "6 of 6 images have no mask of the same name: ")
    (photos / "0.png").unlink()
    refused(folders, "holds 5 images with a mask: at least 6 are needed")
    for name in ("2.png", "4.png"):
        (masks / name).rename(masks / f"1{name}")
    refused(folders, "2 of 5 images have no mask of the same name: '2.png', '4.png'.")
    for folder, noun in ((masks, "masks"), (photos, "images")):
        save(folder / "3.bmp", GREY)
        refused(folders, f"two {noun} go by the name '3'", "'3.bmp', '3.png'")


def test_a_mask_of_another_size(folders):
    for shape, turned in (((16, 12), ": it looks turned by a quarter."), ((24, 32), ".")):
        save(folders[1] / "2.png", np.eye(*shape, dtype=np.uint8))
        size = f"'2.png' is {shape[1]} × {shape[0]} pixels (width × height), its image '2.png' 16 × 12"
        refused(folders, f"1 of 6 masks have another size than their image: {size}{turned}")


# --- files that cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_damaged_files_are_counted_and_named(folders, which, suffix):
    replace(folders[which], DEEP if suffix == "tif" else GREY, suffix, (1, 4))
    whole = (folders[which] / f"1.{suffix}").read_bytes()
    for share in (0.8, 0.5, 0):
        replace(folders[which], whole[: int(len(whole) * share)], suffix, (1, 4))
        refused(folders, f"2 of 6 {NOUNS[which]} cannot be used, empty, damaged", f"'1.{suffix}', '4.")
        with pytest.raises(UserError, match=rf"1\.{suffix}' is no readable image"):
            images.read_image(folders[which] / f"1.{suffix}")


TWICE = Image.fromarray(np.digitize(LABELS, [1, 5, 100]).astype(np.uint8)).convert("P")
TWICE.putpalette([0, 0, 0, 255, 0, 0, 255, 0, 0, 9, 9, 9])
BAD = [
    *((n, "tif", np.stack([MASK] * 3), BLACK, "more than one page, or a stack") for n in (0, 1)),
    (0, "png", Image.fromarray(GREY), PAGES, "more than one page, or a stack"),
    (0, "tif", np.moveaxis(DEEP_COLOURS, -1, 0), {"imagej": True, "metadata": {"axes": "CYX"}}, "more than one page"),
    (0, "tif", np.zeros((*SHAPE, 5), np.uint8), BLACK | {"planarconfig": "contig"}, "in no format that Pillow reads"),
    (0, "tif", COLOURS[..., :2], BLACK | {"planarconfig": "contig"}, "two channels: save one, or RGB"),
    (0, "tif", GREY / 7, {}, "in no format that Pillow reads, as 64 bits: save it as PNG or TIFF"),
    (0, "tif", GREY[:, :7], {}, "a side shorter than 8 pixels"),
    *((0, "tif", np.full(SHAPE, value, np.float32), {}, "NaN, infinite values") for value in (np.nan, np.inf)),
    *((0, "tif", np.full(SHAPE, n, np.int32), {}, "integers beyond 0..65535") for n in (-1, 65536)),
    *(
        (1, "tif", np.float32(MASK * np.float32(n)), {}, "no whole numbers, such as probabilities")
        for n in (0.7, np.nan, -1)
    ),
    (1, "tif", -MASK.astype(np.int16), {}, "no whole numbers"),
    *(
        (n, "png", png16(DEEP_COLOURS), {}, "colours of 16 bits, of which Pillow reads 8: save labels as")
        for n in (0, 1)
    ),
    (0, "tif", DEEP_COLOURS, RGB, "colours of 16 bits, of which Pillow reads 8: save labels as 16-bit grey, and scale"),
    *(
        (1, "jpg", LABELS // n, {}, "JPEG or the like, which changes labels and loses small ones")
        for n in (1, 100, 255)
    ),
    (
        1,
        "png",
        TWICE,
        {},
        "a palette with one colour for several labels",
    ),
]


@pytest.mark.parametrize(("which", "suffix", "pixels", "options", "message"), BAD)
def test_files_that_cannot_be_used(folders, which, suffix, pixels, options, message):
    replace(folders[which], pixels, suffix, [1], **options)
    refused(folders, f"1 of 6 {NOUNS[which]} cannot be used, ", message, f"'1.{suffix}'.")


# --- masks -------------------------------------------------------------------------------------------------------

INDEX = np.digitize(LABELS, [1, 5, 100]).astype(np.uint8)
# One colour a label; their sums are equal, and so are those of two channels of the first two.
COLOURED = np.array([(0, 0, 0), (9, 1, 0), (9, 0, 1), (0, 9, 1)], dtype=np.uint8)[INDEX]
RENAMED, INDEXED = np.array([0, 100_000, 100_002, 100_001])[INDEX], Image.fromarray(INDEX).convert("P")
INDEXED.putpalette([0, 0, 0, 255, 0, 0, 255, 0, 1, 9, 9, 9])
# Black is the third colour, and others were there first.
LATE = Image.fromarray((INDEX + 2).astype(np.uint8) % 5).convert("P")
LATE.putpalette([9, 9, 9, 255, 0, 0, 0, 0, 0, 0, 9, 9, 255, 0, 1])
GROUND = np.where(INDEX[..., None], COLOURED, 255).astype(np.uint8)
OPAQUE, FROM_ALPHA = np.dstack([MASK, MASK, MASK, EMPTY + 255]), np.dstack([EMPTY, EMPTY, EMPTY, MASK])
TRANSPARENT, ONE = "6 of 6 masks are read from the transparency", "one value"
MASKS = [
    *(("png", pixels, "") for pixels in (LABELS, LABELS.astype(np.uint16) * 300, COLOURED, INDEXED, LATE)),
    ("gif", Image.fromarray(COLOURED), ""),
    ("png", Image.fromarray(COLOURED).quantize(4), ""),
    ("png", np.dstack([GROUND, MASK]), "6 of 6 masks are read with what is transparent as background"),
    ("png", np.dstack([RNG.integers(0, 255, (*SHAPE, 3), np.uint8), MASK]), TRANSPARENT),
    *(("tif", pixels, "") for pixels in (RENAMED.astype(np.int32), RENAMED.astype(np.float32))),
    *(("png", pixels, ONE) for pixels in (MASK // 255, MASK > 0, MASK.astype(np.uint16) * 257, OPAQUE)),
    *(("png", pixels, TRANSPARENT) for pixels in (FROM_ALPHA, np.dstack([EMPTY + 9, MASK]))),
]


@pytest.mark.parametrize(("suffix", "pixels", "note"), MASKS)
def test_each_value_is_an_object_or_each_region_of_a_binary_mask(folders, suffix, pixels, note):
    replace(folders[1], pixels, suffix)
    if note == ONE:
        save(folders[1] / "1.png", MASK // 5)
    dataset = images.open_pairs(*folders)
    for labels in dataset.y:
        assert same_objects(labels, np.where(LABELS == 3, 7, LABELS) if note in (ONE, TRANSPARENT) else LABELS)
        assert labels.max() == len(np.unique(labels)) - 1
    assert note in "".join(dataset.notes) and bool(note) == bool(dataset.notes)


def test_all_masks_decide_together_whether_values_are_objects_or_classes(folders):
    """One object a mask is common among masks of objects; it must not be cut in two for that."""
    split = np.where((LABELS == 200) & (np.indices(SHAPE)[0] != 8), LABELS, 0)
    replace(folders[1], LABELS)
    save(folders[1] / "0.png", split)
    dataset = images.open_pairs(*folders)
    assert (dataset.y[0].max(), dataset.notes) == (1, ("1 of 16 objects consist of several regions",))
    assert same_objects(dataset.y[1], LABELS)
    expected = np.kron([[1, 0, 2, 0], [0, 3, 0, 4], [0, 0, 0, 0]], np.ones((4, 4), dtype=int))
    # Two of a class touch at a corner only.
    replace(folders[1], np.array([0, 1, 2, 1, 2], dtype=np.uint8)[expected])
    dataset = images.open_pairs(*folders)
    assert same_objects(dataset.y[0], expected) and dataset.y[0].dtype == np.int32
    assert "12 of 12 values lie in several regions: values are read as classes" in dataset.notes[0]


def test_empty_masks_and_full_masks(folders):
    for number, pixels in enumerate((EMPTY, EMPTY + 255)):
        save(folders[1] / f"{number}.png", pixels)
    dataset = images.open_pairs(*folders)
    assert [labels.max() for labels in dataset.y] == [0, 1, 2, 2, 2, 2]
    assert "1 masks hold no object" in dataset.notes
    replace(folders[1], 255 - MASK)
    assert "objects cover 80% of the pixels: if 0 marks them, invert the masks" in images.open_pairs(*folders).notes
    replace(folders[1], LABELS + 1)
    refused(folders, "mask_dir: no mask holds objects and 0 (black), the background")
    replace(folders[1], EMPTY)
    refused(folders, "mask_dir: no object is in any of the 6 masks")


def picture(scale=1):
    """Discs of 40 and 24 pixels, `scale` times as large."""
    image = Image.new("L", (96 * scale, 80 * scale))
    for edges in ((8, 8, 48, 48), (60, 40, 84, 64)):
        ImageDraw.Draw(image).ellipse([scale * edge for edge in edges], fill=255)
    return image


@pytest.fixture
def discs(folders):
    replace(folders[0], np.zeros((80, 96), dtype=np.uint8))
    replace(folders[1], picture())
    return folders


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_masks_are_refused_unless_they_hold_two_values(discs, suffix):
    blocks = np.kron([[0, 0], [0, 255]], np.ones((40, 48))).astype(np.uint8)
    replace(discs[1], Image.fromarray(blocks), suffix, [1], quality=100)
    assert same_objects(images.open_pairs(*discs).y[1], blocks)
    replace(discs[1], picture(), suffix, [0, 3], quality=60)
    refused(discs, "2 of 6 masks cannot be used, saved as JPEG", f"'0.{suffix}', '3.{suffix}'")


SMOOTH = [picture(4).resize((96, 80), Image.Resampling.BOX), picture(2).resize((96, 80), Image.Resampling.BILINEAR)]
picture().save(JPEG := io.BytesIO(), format="JPEG", quality=50)
SPOILT = [picture().resize((12, 10)).resize((96, 80), Image.Resampling.BICUBIC), Image.open(JPEG).copy()]


@pytest.mark.parametrize("numbers", [[0], range(6)], ids=["one", "all"])
def test_smoothed_borders_are_cut(discs, numbers):
    for smooth in SMOOTH:
        replace(discs[1], smooth, numbers=numbers)
        dataset = images.open_pairs(*discs)
        np.testing.assert_array_equal(dataset.y[0] > 0, np.asarray(smooth) >= 128)
        assert dataset.y[0].max() == 2
        assert dataset.notes[0].startswith(f"{len(numbers)} of 6 masks have smoothed borders, cut at 128: '0.png'")
    for spoilt, why in zip(SPOILT, ("", "many greys between them, "), strict=True):
        replace(discs[1], spoilt, numbers=numbers)
        refused(discs, f"{why}as after smoothing, resizing or JPEG")


def test_labels_up_to_255_are_no_smoothing(folders):
    """Object 255 may be the largest, and others lie at its border; 511 ends in the same byte."""
    for values in ((255, 254, 253), (128, 255, 64), (1, 2, 255), (511, 300, 301)):
        labels = np.zeros(SHAPE, dtype=np.uint16 if max(values) > 255 else np.uint8)
        labels[1:6, 1:9], labels[6:9, 1:9], labels[1:6, 9] = values
        labels[11, :12] = np.repeat(range(20, 24), 3)
        replace(folders[1], labels)
        assert same_objects(images.open_pairs(*folders).y[0], labels)


# --- void, files of single objects, photographs ------------------------------------------------------------------


def void_around(labels, width, numbers):
    """Masks as of PASCAL VOC: objects by `numbers`, with a rim of 255."""
    ring = (labels == 0) & (ndimage.grey_dilation(labels, width) > 0)
    return np.where(ring, 255, np.array([0, *numbers])[labels]).astype(np.uint8)


FOUR = np.kron([[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]], np.ones((9, 9), dtype=int))
PALETTE = [
    sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(8))
    for number in range(256)
    for channel in range(3)
]


@pytest.mark.parametrize("numbers", [(1, 2, 3, 4), (1, 1, 1, 1), (15, 7, 20, 2)])
@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("width", [3, 5])
def test_void_is_no_object(folders, numbers, palette, width):
    mask = void_around(FOUR, width, numbers)
    shown = Image.fromarray(mask)
    if palette:
        shown = shown.convert("P")
        shown.putpalette(PALETTE)
    replace(folders[0], np.zeros(FOUR.shape, np.uint8))
    replace(folders[1], shown)
    dataset = images.open_pairs(*folders)
    assert all((labels[mask == 255] == images.IGNORE).all() for labels in dataset.y)
    assert same_objects(np.where(mask == 255, 0, dataset.y[0]), FOUR)
    assert dataset.notes[0].startswith("255 (void) beside other labels, ")


def test_void_around_small_objects_is_no_smoothed_border(folders):
    small = np.kron(FOUR[::9, ::9], np.pad(np.ones((2, 2), int), 2))
    mask = void_around(small, 3, (15, 7, 20, 2))
    assert np.sum(mask == 255) > np.sum((mask > 0) & (mask < 255))
    replace(folders[0], np.zeros(small.shape, np.uint8))
    replace(folders[1], mask)
    dataset = images.open_pairs(*folders)
    assert same_objects(np.where(mask == 255, 0, dataset.y[0]), small)
    assert (dataset.y[0][mask == 255] == images.IGNORE).all()


def test_255_that_is_an_object_stays_one(folders):
    dense = np.zeros((40, 300), int)
    dense[::4, ::6] = np.arange(1, 501).reshape(10, 50)
    dense = ndimage.grey_dilation(np.where(dense < 256, dense, 0), (3, 5))
    replace(folders[0], np.zeros(dense.shape, np.uint8))
    for labels in (dense.astype(np.uint8), np.array([0, 64, 128, 255], np.uint8)[dense % 4]):
        replace(folders[1], labels)
        assert min(found.min() for found in images.open_pairs(*folders).y) == 0
    replace(folders[1], (dense > 0).astype(np.uint8))
    save(folders[1] / "3.png", np.where(dense, 255, 0).astype(np.uint8))
    assert images.open_pairs(*folders).y[3].max() == 255, "of two values, whatever the others hold"


@pytest.mark.parametrize("layout", ["folder for each image", "data science bowl"])
def test_a_file_for_each_object(folders, tmp_path, layout):
    """Two that overlap in two pixels, and one in two parts."""
    objects = [np.zeros(SHAPE, bool) for _ in range(3)]
    objects[0][1:4, 1:4] = objects[1][1:4, 3:6] = objects[2][8, 2:5] = objects[2][8, 8:9] = True
    objects[1][1] = False
    for number in range(6):
        one = tmp_path / f"nucleus.{number}"
        image, where = (
            (one / "images", one / "masks") if "bowl" in layout else (tmp_path / "i", tmp_path / "m" / one.name)
        )
        for folder in (image, where):
            folder.mkdir(parents=True, exist_ok=True)
        save(image / f"{one.name}.png", np.dstack([COLOURS, EMPTY + 255]))
        for name, pixels in zip("abc", objects, strict=True):
            save(where / f"{name}.png", pixels if name == "a" else np.where(pixels, 255, 0).astype(np.uint8))
    where = (tmp_path, tmp_path) if "bowl" in layout else (tmp_path / "i", tmp_path / "m")
    dataset = images.open_pairs(*where)
    expected = np.select(objects, [1, 2, 3])
    assert all(np.array_equal(labels, expected) for labels in dataset.y) and dataset.X[0].shape == (*SHAPE, 3)
    assert dataset.notes[0].startswith(
        "6 of 6 masks hold objects that overlap, in pixels that the first by name keeps: "
    )
    last = next(tmp_path.glob("nucleus.5/masks" if "bowl" in layout else "m/nucleus.5"))
    save(last / "c.png", LABELS)
    refused(where, "1 of 6 masks cannot be used, more than one value in the file of one object")
    save(last / "c.png", MASK[:9])
    refused(where, "1 of 6 masks cannot be used, files of different sizes")
    for path in last.iterdir():
        path.unlink()
    refused(where, "1 of 6 masks cannot be used, empty, ", "nucleus.5")


def photograph(seed, channels=3):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(48, 64, channels)), (4, 4, 0))
    return (1 + 254 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8).squeeze()


@pytest.mark.parametrize("cut_out", [True, False])
def test_photographs_are_no_masks_and_the_guess_is_named(folders, cut_out):
    inside = np.zeros((48, 64), bool)
    inside[8:30, 8:30] = True
    replace(folders[0], np.where(inside, 255, 0).astype(np.uint8))
    for number in range(6):
        photo = photograph(number)
        photo[~inside if cut_out else np.s_[:2, :2]] = 0
        save(folders[1] / f"{number}.png", photo)
    refused(
        folders, "one or two pixels, ", "the folders are exchanged, or cut-outs on black, whose mask is their alpha"
    )
    replace(folders[1], Image.fromarray(photograph(0)), "jpg")
    refused(folders, "saved as JPEG", "unless the folders are exchanged")


def test_thousands_of_labels_are_labels(folders):
    labels = np.kron(np.arange(1, 3001).reshape(50, 60), np.pad(np.ones((3, 3), int), (0, 1)))
    replace(folders[0], np.zeros(labels.shape, np.uint8))
    replace(folders[1], labels.astype(np.uint16))
    assert all(same_objects(found, labels) for found in images.open_pairs(*folders).y)


def test_coloured_labels_with_smoothed_borders_are_refused(folders):
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 0), (0, 0, 255)], np.uint8)[FOUR]
    replace(folders[0], np.zeros(FOUR.shape, np.uint8))
    replace(folders[1], Image.fromarray(colours).resize((18, 18), 2).resize((36, 36), 2))
    refused(folders, "one or two pixels, as after smoothing, resizing or JPEG")
