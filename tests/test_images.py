"""The reader's images and masks: what is read and paired, how masks are understood, and what is said if not."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

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
MASK = np.where(LABELS, 255, 0).astype(np.uint8)
EMPTY = np.zeros(SHAPE, dtype=np.uint8)


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
    """Return a PNG of 16-bit colours, which Pillow does not write."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture
def folders(tmp_path):
    """Six grey images and six binary masks."""
    for name, pixels in (("photos", GREY), ("masks", MASK)):
        (tmp_path / name).mkdir()
        for number in range(6):
            save(tmp_path / name / f"{number}.png", pixels)
    return tmp_path / "photos", tmp_path / "masks"


def replace(folder, pixels, suffix="png", numbers=range(6), **options):
    for number in numbers:
        (folder / f"{number}.png").unlink()
        save(folder / f"{number}.{suffix}", pixels, **options)


def same_objects(found, expected):
    """Whether two label images hold the same objects, numbered in any order."""
    both = np.unique(np.stack([found.ravel(), np.asarray(expected).ravel()]), axis=1)
    numbers = [len(np.unique(row)) for row in both]
    return both.shape[1] == numbers[0] == numbers[1] and np.array_equal(found == 0, np.asarray(expected) == 0)


def refused(folders, *parts):
    with pytest.raises(UserError) as caught:
        images.open_pairs(*folders)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    assert all(part in message for part in parts), message


# --- one image, and folders of two classes -----------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """A folder of images of two classes, in every mode and size that readers bring."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number, mode in enumerate(("RGB", "L", "P", "RGBA", "CMYK", "1", "LA") * 2):
            pixels = RNG.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)
            suffix = "tiff" if mode in ("CMYK", "1") else "png"
            Image.fromarray(pixels).convert(mode).save(tmp_path / "photos" / label / f"{number}.{suffix}")
    return tmp_path / "photos"


def test_a_folder_of_two_classes(photos):
    (photos / "cat" / "Thumbs.db").write_bytes(b"no image")
    (photos / ".hidden").mkdir()
    save(photos / ".hidden" / "a.png", GREY)
    dataset = data.open_data(photos, positive_label="cat")
    assert (dataset.kind, len(dataset), dataset.class_names) == ("image", 28, ("dog", "cat"))
    assert dataset.y.tolist() == [int("cat" in path) for path in dataset.X]
    for path in dataset.X:
        pixels = images.read_image(path)
        assert (pixels.dtype, pixels.shape[1:]) == (np.uint8, (30, 3))


def test_folders_that_are_refused(photos):
    with pytest.raises(UserError, match="one sub-folder of images a class"):
        data.open_data(photos / "cat")
    (photos / "train").mkdir()
    (photos / "cat").rename(photos / "train" / "cat")
    with pytest.raises(UserError, match=r"folders in folders .*name the folder whose sub-folders are the classes"):
        data.open_data(photos)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_image_is_refused(photos, suffix, share):
    path = photos / "cat" / f"cut.{suffix}"
    save(path, RNG.integers(0, 255, (200, 200, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=rf"cut\.{suffix}' is no readable image"):
        images.read_image(path)
    with pytest.raises(ValueError, match="the file is no readable image") as caught:
        images.read_image(io.BytesIO(path.read_bytes()))
    assert not isinstance(caught.value, UserError)
    with pytest.raises(UserError, match=rf"1 of 29 images in photos cannot be used, empty, .*'cat.cut.{suffix}'"):
        data.open_data(photos)


def test_images_are_turned_upright_and_16_bits_are_scaled(tmp_path):
    exif = Image.Exif()
    for orientation, quarters in ((6, 1), (3, 2), (8, 3)):
        exif[0x0112] = orientation
        save(tmp_path / "a.png", np.rot90(COLOURS, quarters), exif=exif)
        np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), COLOURS)
    save(tmp_path / "a.png", np.array([[0, 256, 32896, 65535]], dtype=np.uint16))
    assert images.read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 128, 255]
    save(tmp_path / "a.tiff", Image.fromarray(np.ones(SHAPE, dtype=np.int32)))
    with pytest.raises(UserError, match="holds 32-bit values: scale them to 0-255"):
        images.read_image(tmp_path / "a.tiff")


def test_arrays():
    np.testing.assert_array_equal(images.read_image(GREY), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(images.read_image(np.dstack([COLOURS, GREY])), COLOURS)
    for bad in (np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="an image array must be uint8"):
            images.read_image(bad)


# --- images of pairs ---------------------------------------------------------------------------------------------


def alpha(pixels, value=90):
    return np.dstack([pixels, np.full(SHAPE, value, pixels.dtype)])


RGB, PLANES = {"photometric": "rgb"}, {"photometric": "rgb", "planarconfig": "separate"}
KINDS = {
    "grey": ("png", GREY, {}, GREY),
    "grey in colour with alpha": ("png", alpha(np.dstack([GREY] * 3)), {}, GREY),
    "grey with alpha": ("png", alpha(GREY), {}, GREY),
    "colour": ("png", COLOURS, {}, COLOURS),
    "colour with alpha": ("png", alpha(COLOURS, 0), {}, COLOURS),
    "palette": ("png", Image.fromarray(COLOURS // 100 * 99).quantize(9), {}, COLOURS // 100 * 99),
    "one bit": ("png", GREY > 99, {}, np.where(GREY > 99, 255, 0).astype(np.uint8)),
    "one-bit TIFF": ("tif", Image.fromarray(GREY > 99), {}, np.where(GREY > 99, 255, 0).astype(np.uint8)),
    "16 bit": ("png", DEEP, {}, DEEP),
    "16-bit TIFF": ("tif", DEEP, {}, DEEP),
    "LZW": ("tif", Image.fromarray(DEEP), {"compression": "tiff_lzw"}, DEEP),
    "zip": ("tif", DEEP_COLOURS, RGB | {"compression": "zlib", "predictor": True}, DEEP_COLOURS),
    "strips": ("tif", DEEP, {"rowsperstrip": 5}, DEEP),
    "big-endian": ("tif", DEEP, {"byteorder": ">"}, DEEP),
    "int16": ("tif", (DEEP // 4).astype(np.int16), {}, DEEP // 4),
    "uint32": ("tif", DEEP.astype(np.uint32), {}, DEEP),
    "double": ("tif", GREY / 7, {}, (GREY / 7).astype(np.float32)),
    "float colours": ("tif", (COLOURS / 7).astype("f4"), RGB, (COLOURS / 7).astype("f4")),
    "16-bit colours": ("tif", alpha(DEEP_COLOURS), RGB | {"extrasamples": ["unassalpha"]}, DEEP_COLOURS),
    "16-bit alpha": ("tif", alpha(DEEP), {"planarconfig": "contig", "extrasamples": ["unassalpha"]}, DEEP),
    "planes": ("tif", np.moveaxis(DEEP_COLOURS, -1, 0), PLANES, DEEP_COLOURS),
    "grey planes": ("tif", np.moveaxis(COLOURS, -1, 0), PLANES | {"photometric": "minisblack"}, COLOURS),
    "ImageJ": ("tif", np.moveaxis(DEEP_COLOURS, -1, 0), {"imagej": True, "metadata": {"axes": "CYX"}}, DEEP_COLOURS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_keep_their_precision(folders, kind):
    suffix, pixels, options, expected = KINDS[kind]
    replace(folders[0], pixels, suffix, **options)
    dataset = images.open_pairs(*folders)
    assert (dataset.kind, dataset.name, dataset.source, len(dataset)) == ("mask", "photos", str(folders[0]), 6)
    assert dataset.class_names == ("background", "object")
    assert dataset.X[0].dtype == expected.dtype and dataset.X[0].dtype.isnative
    assert dataset.X[0].flags.writeable and dataset.y[0].flags.writeable
    np.testing.assert_array_equal(dataset.X[0], expected.reshape(*SHAPE, -1))
    assert (dataset.y[0].dtype, dataset.y[0].shape) == (np.int32, SHAPE)
    assert len(dataset.notes) == 1 and "each connected region is an object" in dataset.notes[0]


def test_images_that_differ_get_a_note(folders):
    for number, pixels in ((1, COLOURS), (2, DEEP), (3, png16(np.dstack([DEEP] * 2)))):
        save(folders[0] / f"{number}.png", pixels)
    dataset = images.open_pairs(*folders)
    assert [image.shape for image in dataset.X] == [(*SHAPE, 3)] * 6
    np.testing.assert_array_equal(dataset.X[0], np.dstack([GREY] * 3))
    dataset.X[0][0, 0, 0] += 1
    assert dataset.X[0][0, 0, 0] != dataset.X[0][0, 0, 1]
    assert dataset.notes[:3] == (
        "5 images are grey, the others are not: their one channel is repeated three times",
        "the images differ in precision: 5 uint8, 1 uint16",
        "1 images hold colours of 16 bits and are read with 8: '3.png'",
    )


@pytest.mark.parametrize("pixels", [GREY, DEEP, COLOURS], ids=["8 bit", "16 bit", "colours"])
def test_images_and_masks_are_turned_upright_and_may_differ_in_size(folders, pixels):
    exif = Image.Exif()
    for orientation, quarters in ((6, 1), (3, 2), (8, 3)):
        exif[0x0112] = orientation
        for folder, upright in zip(folders, (pixels, LABELS), strict=True):
            save(folder / "2.png", np.rot90(upright[:11], quarters), exif=exif)
        dataset = images.open_pairs(*folders)
        np.testing.assert_array_equal(dataset.X[2][..., : len(pixels.shape) * 2 - 3], pixels[:11].reshape(11, 16, -1))
        assert same_objects(dataset.y[2], LABELS[:11])


def test_a_large_image_warns_of_no_bomb(folders, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GREY.size - 1)
    assert len(images.open_pairs(*folders)) == 6
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GREY.size // 4)
    refused(folders, "6 of 6 images cannot be used", "more than 96 pixels")


def test_the_preview_in_a_photo_is_no_second_page(folders):
    photo = Image.fromarray(GREY)
    preview = {"format": "MPO", "save_all": True, "append_images": [photo.resize((8, 8))]}
    replace(folders[0], photo, "jpg", [1], **preview)
    assert images.open_pairs(*folders).X[1].shape == (*SHAPE, 1)


# --- pairs -------------------------------------------------------------------------------------------------------

NAMES = [
    ("{}_img.png", "{}_img_cp_masks.png"),
    ("IMG_{}.PNG", "Mask_{}.tif"),
    ("image{}.png", "label{}.bmp"),
    ("{}.png", "{}.gt.png"),
    ("a {}.png", "a {} segmentation.png"),
    ("gtex-{}.png", "gtex-{}-annotation.png"),
    ("unmask_{}.png", "unmask_{}_gt.png"),
    ("{}img.png", "{}mask.png"),
]


@pytest.mark.parametrize(("image_name", "mask_name"), NAMES)
@pytest.mark.parametrize("one_folder", [True, False])
def test_words_for_image_and_mask_do_not_count(tmp_path, monkeypatch, image_name, mask_name, one_folder):
    monkeypatch.chdir(tmp_path)
    mask_dir = tmp_path / ("a" if one_folder else "b")
    for folder in {tmp_path / "a", mask_dir}:
        folder.mkdir()
    for number in (0, 1, 2, 3, 9, 10):
        # Each pair has its own size, so that a mask of another image would be found out.
        save(tmp_path / "a" / image_name.format(number), np.full((8 + number, 20), number, np.uint8))
        save(mask_dir / mask_name.format(number), np.eye(8 + number, 20, dtype=np.uint8))
    dataset = images.open_pairs("a", mask_dir)
    assert sorted(int(image[0, 0, 0]) for image in dataset.X) == [0, 1, 2, 3, 9, 10]
    assert [labels.shape for labels in dataset.y] == [image.shape[:2] for image in dataset.X]
    # Pixels that touch at a corner only.
    assert dataset.y[0].max() == dataset.y[0].shape[0]


def test_the_same_name_goes_before_a_similar_one_and_what_is_no_image_is_ignored(folders):
    save(folders[1] / "0_mask.png", MASK[:9])
    save(folders[0] / "00_img.png", GREY[:9])
    save(folders[1] / "00_gt.png", MASK[:9])
    for folder in folders:
        for name in (".DS_Store", "._0.png", "Thumbs.db", "0.json", "notes.pdf"):
            (folder / name).write_bytes(b"\0")
        (folder / "more.png").mkdir()
    dataset = images.open_pairs(*folders)
    assert [len(image) for image in dataset.X] == [12, 9, 12, 12, 12, 12, 12], "in the order of the images' names"
    assert "1 masks have no image and are left out: '0_mask.png'" in dataset.notes


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("name", "other"), [("3.png", "3.bmp"), ("7_img.png", "img_7.png")])
def test_two_files_of_one_name(folders, which, name, other):
    save(folders[which] / name, GREY)
    save(folders[which] / other, GREY)
    if which == 1:
        save(folders[0] / "7.png", GREY)
    refused(folders, f"two {('images', 'masks')[which]} go by the name '{name[0]}'", f"'{name}'", f"'{other}'")


def test_folder_faults(folders, tmp_path):
    photos, masks = folders
    for wrong, argument in (((tmp_path / "no", masks), "image_dir"), ((photos, tmp_path / "no"), "mask_dir")):
        with pytest.raises(FileNotFoundError, match=f"{argument}: nothing is at"):
            images.open_pairs(*wrong)
    # As a path, an empty name would be the folder in which the process happens to run.
    refused(("", masks), "image_dir is empty: name a folder")
    refused((photos, ""), "mask_dir is empty: name a folder")
    refused((photos / "0.png", masks), "image_dir must be a folder of images; ", "0.png' is a file")
    refused((tmp_path, masks), "image_dir", "holds no image; its sub-folders do", "'masks', 'photos'")
    refused((photos, photos), "image_dir and mask_dir are both", "no name holds mask")
    for name in ("2.png", "4.png"):
        (masks / name).rename(masks / f"1{name}")
    refused(folders, "2 of 6 images have no mask of the same name: '2.png', '4.png'.")
    for path in list(photos.iterdir()):
        path.rename(photos / f"{path.stem}_mask.png")
    refused((photos, photos), "every name holds mask")


@pytest.mark.parametrize(("shape", "turned"), [((16, 12), ": it looks turned by a quarter."), ((24, 32), ".")])
def test_a_mask_of_another_size(folders, shape, turned):
    save(folders[1] / "2.png", np.eye(*shape, dtype=np.uint8))
    size = f"'2.png' is {shape[1]} × {shape[0]} pixels (width × height), its image '2.png' 16 × 12"
    refused(folders, f"1 of 6 masks have another size than their image: {size}{turned}")


# --- files that cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("share", [0, 0.5, 0.8])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_damaged_files_are_counted_and_named(folders, which, share, suffix):
    replace(folders[which], DEEP if suffix == "tif" else GREY, suffix, (1, 4))
    for number in (1, 4):
        path = folders[which] / f"{number}.{suffix}"
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(folders, f"2 of 6 {('images', 'masks')[which]} cannot be used, empty, damaged", f"'1.{suffix}', '4.")


def test_strips_that_are_missing_are_no_black_pixels(folders):
    replace(folders[0], DEEP, "tif", [1], compression="zlib", rowsperstrip=SHAPE[0])
    with tifffile.TiffFile(folders[0] / "1.tif", mode="r+b") as file:
        file.pages.first.tags["RowsPerStrip"].overwrite(2)
    refused(folders, "1 of 6 images cannot be used, empty, damaged")


def test_few_pairs_and_many_bad_files(folders):
    (folders[0] / "0.png").unlink()
    refused(folders, "holds 5 images with a mask: at least 6 are needed")
    for number in range(6, 14):
        save(folders[0] / f"{number}.png", b"")
        save(folders[1] / f"{number}.png", MASK)
    refused(folders, "8 of 13 images", "'10.png', '11.png', '12.png', '13.png', '6.png', '7.png', ….")


NAN, INFINITE = np.full(SHAPE, np.nan, np.float32), np.full(SHAPE, np.inf, np.float32)
BLACK, CONTIG = {"photometric": "minisblack"}, {"photometric": "minisblack", "planarconfig": "contig"}
BAD_IMAGES = [
    (np.zeros((3, *SHAPE), np.uint8), BLACK, "a stack of several pages"),
    (np.zeros((2, *SHAPE, 3), np.uint16), RGB, "a stack of several pages"),
    (np.zeros((*SHAPE, 5), np.uint8), CONTIG, "neither one nor three"),
    (GREY[:7], {}, "a side shorter than 8 pixels"),
    (GREY[:, :7], {}, "a side shorter than 8 pixels"),
    (NAN, {}, "NaN or infinite"),
    (np.full(SHAPE, 1e300), {}, "NaN or infinite"),
    (np.full(SHAPE, -1, np.int16), {}, "integers beyond 0..65535"),
    (np.full(SHAPE, 65536, np.int32), {}, "integers beyond 0..65535"),
    (GREY / 7, {"extratags": [(274, 3, 1, 6, True)]}, "a format that neither Pillow nor tifffile reads"),
    (GREY / 7, {"photometric": "miniswhite"}, "a format that neither Pillow nor tifffile reads"),
]
BAD_MASKS = [
    (np.where(MASK, 0.7, 0).astype(np.float32), {}, "no whole numbers, such as probabilities"),
    (NAN, {}, "no whole numbers"),
    (INFINITE, {}, "no whole numbers"),
    (-(MASK > 0).astype(np.int8), {}, "negative labels"),
    (-MASK.astype(np.int64), {}, "negative labels"),
    (np.stack([MASK] * 3), BLACK, "a stack of several pages"),
]
BAD = [(0, *bad) for bad in BAD_IMAGES] + [(1, *bad) for bad in BAD_MASKS]


@pytest.mark.parametrize(("which", "pixels", "options", "message"), BAD)
@pytest.mark.filterwarnings("ignore:overflow")
def test_files_that_cannot_be_used(folders, which, pixels, options, message):
    replace(folders[which], pixels, "tif", [1], **options)
    refused(folders, f"1 of 6 {('images', 'masks')[which]} cannot be used, ", message, "'1.tif'.")


@pytest.mark.parametrize("channels", [3, 4])
def test_animations_and_masks_of_16_bit_colours_are_refused(folders, channels):
    save(folders[1] / "2.png", png16(np.dstack([LABELS.astype(np.uint16)] * channels)))
    refused(folders, "1 of 6 masks cannot be used, colours of 16 bits", "'2.png'")
    save(folders[0] / "1.png", Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(MASK)])
    refused(folders, "1 of 6 images cannot be used, more than one page: '1.png'")


# --- masks -------------------------------------------------------------------------------------------------------

# One colour a label; their sums are equal, and so are those of two channels of the first two.
PALETTE = np.zeros((256, 3), dtype=np.uint8)
PALETTE[7], PALETTE[3], PALETTE[200] = (9, 0, 1), (9, 1, 0), (0, 9, 1)
COLOURED, RENAMED = PALETTE[LABELS], np.array([0, *range(100_000, 100_255)])[LABELS]
INDEXED = Image.fromarray(np.digitize(LABELS, [1, 5, 100]).astype(np.uint8)).convert("P")
INDEXED.putpalette([0, 0, 0, 255, 0, 0, 255, 0, 0, 9, 9, 9])
INSTANCES = {
    "8 bit": ("png", LABELS),
    "16 bit": ("png", LABELS.astype(np.uint16) * 300),
    "int32": ("tif", RENAMED.astype(np.int32)),
    "int64": ("tif", RENAMED.astype(np.int64)),
    "double": ("tif", RENAMED.astype(np.float64)),
    "signed bytes": ("tif", (LABELS // 2).astype(np.int8)),
    "equal channels and alpha": ("png", np.dstack([LABELS] * 3 + [LABELS > 5])),
    "colours": ("png", COLOURED),
    "colours and alpha": ("png", np.dstack([COLOURED, LABELS == 7])),
    "16-bit colours": ("tif", COLOURED.astype(np.uint16)),
    "grey and alpha": ("png", np.dstack([LABELS, LABELS == 7])),
    "index of a palette": ("png", INDEXED),
}


@pytest.mark.parametrize("kind", INSTANCES)
def test_each_value_is_an_object(folders, kind):
    suffix, pixels = INSTANCES[kind]
    replace(folders[1], pixels, suffix, **(RGB if suffix == "tif" and pixels.ndim == 3 else {}))
    dataset = images.open_pairs(*folders)
    for labels in dataset.y:
        assert sorted(np.unique(labels)) == [0, 1, 2, 3]
        assert same_objects(labels, LABELS)
    assert dataset.notes == ()


BINARY = {
    "1": MASK // 255,
    "bool": MASK > 0,
    "16 bit": MASK.astype(np.uint16) * 257,
    "red": np.dstack([MASK, EMPTY, EMPTY]),
    "alpha alone": np.dstack([EMPTY, EMPTY, EMPTY, MASK]),
    "alpha of grey": np.dstack([EMPTY + 9, MASK]),
    "opaque": np.dstack([MASK, MASK, MASK, EMPTY + 255]),
}


@pytest.mark.parametrize("kind", BINARY)
def test_connected_regions_of_a_binary_mask_are_objects(folders, kind):
    replace(folders[1], BINARY[kind])
    save(folders[1] / "1.png", MASK // 5)
    dataset = images.open_pairs(*folders)
    for labels in dataset.y:
        assert same_objects(labels, np.where(LABELS == 3, 7, LABELS))
    assert any("5 masks are read from the transparency" in note for note in dataset.notes) == ("alpha" in kind)


def test_all_masks_decide_together(folders):
    """One object a mask is common among masks of objects; it must not be cut in two for that."""
    split = np.where(LABELS == 200, LABELS, 0)
    split[8] = 0
    replace(folders[1], LABELS)
    save(folders[1] / "0.png", split)
    dataset = images.open_pairs(*folders)
    assert dataset.y[0].max() == 1
    assert same_objects(dataset.y[1], LABELS)
    assert dataset.notes == ("1 of 16 objects consist of several regions",)


def test_classes_are_told_from_objects(folders):
    classes, expected = EMPTY.copy(), EMPTY.copy()
    places = ((1, 0, 0), (1, 3, 3), (1, 8, 0), (2, 3, 0), (2, 8, 12), (2, 4, 10))
    for number, (value, row, column) in enumerate(places, start=1):
        classes[row : row + 3, column : column + 3] = value
        expected[row : row + 3, column : column + 3] = number
    replace(folders[1], classes)
    dataset = images.open_pairs(*folders)
    assert same_objects(dataset.y[0], expected)
    assert (dataset.y[0].max(), dataset.y[0].dtype) == (6, np.int32)
    assert "12 of 12 values lie in several regions: values are read as classes" in dataset.notes[0]


def test_half_of_the_values_in_several_regions_are_objects_still(folders):
    labels = np.where(LABELS == 3, 0, LABELS)
    labels[5:8, 0] = 7
    replace(folders[1], labels)
    dataset = images.open_pairs(*folders)
    assert (dataset.y[0].max(), dataset.notes) == (2, ("6 of 12 objects consist of several regions",))
    labels[7:11, 15] = 200
    replace(folders[1], labels)
    assert images.open_pairs(*folders).y[0].max() == 4


def test_empty_masks_full_masks_and_an_object_of_one_pixel(folders):
    dot = EMPTY.copy()
    dot[5, 5] = 255
    opaque = np.dstack([EMPTY, EMPTY, EMPTY, EMPTY + 255])
    for number, pixels in enumerate((EMPTY, dot, EMPTY + 255, opaque)):
        save(folders[1] / f"{number}.png", pixels)
    dataset = images.open_pairs(*folders)
    assert [labels.max() for labels in dataset.y] == [0, 1, 1, 0, 2, 2]
    assert "2 masks hold no object" in dataset.notes
    replace(folders[1], LABELS)
    save(folders[1] / "0.png", LABELS + 1)
    assert sorted(np.unique(images.open_pairs(*folders).y[0])) == [1, 2, 3, 4]
    replace(folders[1], 255 - MASK)
    assert "objects cover 80% of the pixels: if 0 marks them, invert the masks" in images.open_pairs(*folders).notes


@pytest.mark.parametrize("pixels", [EMPTY + 255, MASK // 255 + 1, LABELS + 1], ids=["full", "1 and 2", "labels from 1"])
def test_masks_without_background_or_objects(folders, pixels):
    replace(folders[1], pixels)
    save(folders[1] / "0.png", EMPTY)
    refused(folders, "no mask holds objects and 0 (black), which marks the background")
    replace(folders[1], EMPTY)
    refused(folders, "no object is in any of the 6 masks")


def picture(scale=1):
    """Discs of 40 and 24 pixels, `scale` times as large."""
    image = Image.new("L", (96 * scale, 80 * scale))
    for left, top, size in ((8, 8, 40), (60, 40, 24)):
        ImageDraw.Draw(image).ellipse([scale * edge for edge in (left, top, left + size, top + size)], fill=255)
    return image


def jpeg(image):
    image.save(buffer := io.BytesIO(), format="JPEG", quality=50)
    return Image.open(buffer).copy()


@pytest.fixture
def discs(folders):
    replace(folders[0], np.zeros((80, 96), dtype=np.uint8))
    replace(folders[1], picture())
    return folders


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
def test_lossy_masks_are_refused_unless_they_hold_two_values(discs, suffix):
    options = {"compression": "jpeg"} if suffix == "tif" else {"quality": 100}
    blocks = np.kron([[0, 0], [0, 255]], np.ones((40, 48))).astype(np.uint8)
    replace(discs[1], Image.fromarray(blocks), suffix, [1], **options)
    assert same_objects(images.open_pairs(*discs).y[1], blocks)
    replace(discs[1], picture(), suffix, [0, 3], **options | {"quality": 60})
    refused(discs, "2 of 6 masks cannot be used, saved as JPEG", f"'0.{suffix}', '3.{suffix}'")


SMALL, DOTS = picture().resize((12, 10), Image.Resampling.NEAREST), np.where(np.indices((80, 96)).sum(0) % 9, 0, 255)
SMOOTH = {
    "drawn finer": picture(4).resize((96, 80), Image.Resampling.BOX),
    "made smaller": picture(2).resize((96, 80), Image.Resampling.BILINEAR),
    "made larger": picture().resize((48, 40), Image.Resampling.NEAREST).resize((96, 80)),
}
SPOILT = {
    "large factor": SMALL.resize((96, 80), Image.Resampling.BICUBIC),
    "JPEG once": jpeg(picture()),
    "dots": Image.fromarray(DOTS.astype(np.uint8)).resize((61, 47), Image.Resampling.LANCZOS).resize((96, 80)),
}


@pytest.mark.parametrize("numbers", [[0], range(6)], ids=["one", "all"])
def test_smoothed_borders_are_cut(discs, numbers):
    for smooth in SMOOTH.values():
        replace(discs[1], smooth, numbers=numbers)
        dataset = images.open_pairs(*discs)
        np.testing.assert_array_equal(dataset.y[0] > 0, np.asarray(smooth) >= 128)
        assert dataset.y[0].max() == 2
        assert f"{len(numbers)} masks have smoothed borders, cut at 128" in dataset.notes
    for spoilt in SPOILT.values():
        replace(discs[1], spoilt, numbers=numbers)
        refused(discs, "as after smoothing, resizing or JPEG")


def test_greys_that_smoothing_does_not_explain(discs):
    tiles = np.kron(np.indices((20, 24)).prod(0) % 2, np.full((4, 4), 255)).astype(np.uint8)
    replace(discs[1], tiles)
    save(discs[1] / "0.png", SPOILT["large factor"])
    refused(discs, "the masks hold 0, 255 and many greys between them")
    dot = np.zeros((80, 96), dtype=np.uint8)
    dot[40, 50] = 100
    replace(discs[1], SMOOTH["drawn finer"])
    save(discs[1] / "1.png", dot)
    refused(discs, "some masks hold 0 and 255 with greys at the borders, others greys only")


@pytest.mark.parametrize("values", [(255, 1, 2), (255, 254, 253), (128, 255, 64), (1, 2, 255), (511, 300, 301)])
def test_labels_up_to_255_are_no_smoothing(folders, values):
    """Object 255 may be the largest, and others lie at its border; 511 ends in the same byte."""
    labels = np.zeros(SHAPE, dtype=np.uint16 if max(values) > 255 else np.uint8)
    labels[1:6, 1:9], labels[6:9, 1:9], labels[1:6, 9] = values
    replace(folders[1], labels)
    assert same_objects(images.open_pairs(*folders).y[0], labels)


def test_255_objects_in_one_mask(folders):
    replace(folders[0], np.zeros((48, 48), dtype=np.uint8))
    numbers = np.arange(1, 257).reshape(16, 16).repeat(3, axis=0).repeat(3, axis=1)
    numbers[numbers == 256] = 0
    replace(folders[1], numbers.astype(np.uint8))
    assert same_objects(images.open_pairs(*folders).y[0], numbers)
