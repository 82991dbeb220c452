"""Images and masks of the reader: what is paired, how masks are understood, and the sentence for what is not."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

from helpers import images

RNG = np.random.default_rng(0)
SHAPE = (12, 16)
IMAGE = RNG.integers(0, 200, SHAPE, dtype=np.uint8)
COLOURS = RNG.integers(0, 200, (*SHAPE, 3), dtype=np.uint8)
# Two objects that touch in one column, and one apart.
LABELS = np.zeros(SHAPE, dtype=np.uint8)
LABELS[1:4, 1:4], LABELS[1:4, 4:7], LABELS[7:11, 9:14] = 7, 3, 200
MASK = np.where(LABELS, 255, 0).astype(np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Six grey images and six binary masks: the folders, and a function that saves one more file in either."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    for number in range(6):
        save(tmp_path / "photos" / f"{number}.png", IMAGE)
        save(tmp_path / "masks" / f"{number}.png", MASK)
    return tmp_path / "photos", tmp_path / "masks"


def save(path, pixels, **options):
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, **options)
    else:
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)


def save_png16(path, pixels):
    """Write colours of 16 bits, which Pillow does not."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def all_masks(folder, pixels, suffix="png", **options):
    for number in range(6):
        (folder / f"{number}.png").unlink()
        save(folder / f"{number}.{suffix}", pixels[number] if isinstance(pixels, list) else pixels, **options)


def same_objects(found, expected):
    """Whether two label images hold the same objects, numbered in any order."""
    both = np.unique(np.stack([found.ravel(), np.asarray(expected).ravel()]), axis=1)
    numbers = [len(np.unique(row)) for row in both]
    return both.shape[1] == numbers[0] == numbers[1] and (found == 0).tolist() == (np.asarray(expected) == 0).tolist()


def refused(folders, *parts):
    with pytest.raises(ValueError) as caught:
        images.open_pairs(*folders)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for part in parts:
        assert part in message, message


def test_a_set_of_pairs(folders):
    dataset = images.open_pairs(*folders)
    assert (dataset.kind, dataset.name, dataset.source) == ("mask", "photos", str(folders[0]))
    assert (dataset.class_names, dataset.licence) == (("background", "object"), "the reader's own")
    assert (len(dataset.X), len(dataset.y)) == (6, 6)
    for image, labels in zip(dataset.X, dataset.y, strict=True):
        np.testing.assert_array_equal(image, IMAGE[..., None])
        assert (image.dtype, labels.dtype, labels.shape) == (np.uint8, np.int32, SHAPE)
        assert image.flags.writeable and labels.flags.writeable
    assert "each connected region is an object" in " ".join(dataset.notes)


def test_paths_may_be_words_and_relative(folders, monkeypatch):
    monkeypatch.chdir(folders[0])
    dataset = images.open_pairs(".", "../masks")
    assert (dataset.name, len(dataset.X)) == ("photos", 6)


# --- images ------------------------------------------------------------------------------------------------------


def alpha(pixels, value=90):
    return np.dstack([pixels, np.full(SHAPE, value, pixels.dtype)])


DEEP = (COLOURS.astype(np.uint16) * 300)[..., 0]
DEEP_COLOURS = COLOURS.astype(np.uint16) * 300
KINDS = {
    "grey": ("png", IMAGE, {}, IMAGE),
    "grey in colour": ("png", np.dstack([IMAGE] * 3), {}, IMAGE),
    "grey in colour with alpha": ("png", alpha(np.dstack([IMAGE] * 3)), {}, IMAGE),
    "grey with alpha": ("png", alpha(IMAGE), {}, IMAGE),
    "colour": ("png", COLOURS, {}, COLOURS),
    "colour with alpha": ("png", alpha(COLOURS, 0), {}, COLOURS),
    "one bit": ("png", IMAGE > 99, {}, np.where(IMAGE > 99, 255, 0).astype(np.uint8)),
    "16 bit": ("png", DEEP, {}, DEEP),
    "16 bit TIFF": ("tif", DEEP, {}, DEEP),
    "big-endian": ("tif", DEEP, {"byteorder": ">"}, DEEP),
    "int16": ("tif", (DEEP // 4).astype(np.int16), {}, DEEP // 4),
    "uint32": ("tif", DEEP.astype(np.uint32), {}, DEEP),
    "float": ("tif", (IMAGE / 7).astype(np.float32), {}, (IMAGE / 7).astype(np.float32)),
    "double": ("tif", IMAGE / 7, {}, (IMAGE / 7).astype(np.float32)),
    "float colours": ("tif", (COLOURS / 7).astype("f4"), {"photometric": "rgb"}, (COLOURS / 7).astype("f4")),
    "16-bit colours": ("tif", DEEP_COLOURS, {"photometric": "rgb"}, DEEP_COLOURS),
    "16-bit colours with alpha": (
        "tif",
        alpha(DEEP_COLOURS),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        DEEP_COLOURS,
    ),
    "16-bit grey with alpha": (
        "tif",
        alpha(DEEP),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
        DEEP,
    ),
    "planes": (
        "tif",
        np.moveaxis(DEEP_COLOURS, -1, 0),
        {"photometric": "rgb", "planarconfig": "separate"},
        DEEP_COLOURS,
    ),
    "planes without a name": (
        "tif",
        np.moveaxis(COLOURS, -1, 0),
        {"photometric": "minisblack", "planarconfig": "separate"},
        COLOURS,
    ),
    "ImageJ channels": (
        "tif",
        np.moveaxis(DEEP_COLOURS, -1, 0),
        {"imagej": True, "metadata": {"axes": "CYX"}},
        DEEP_COLOURS,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_keep_their_precision(folders, kind):
    suffix, pixels, options, expected = KINDS[kind]
    for number in range(6):
        (folders[0] / f"{number}.png").unlink()
        save(folders[0] / f"{number}.{suffix}", pixels, **options)
    image = images.open_pairs(*folders).X[0]
    assert image.dtype == expected.dtype
    assert image.dtype.isnative
    assert image.flags.writeable
    np.testing.assert_array_equal(image, expected.reshape(*SHAPE, -1))


def test_palettes_are_colours_in_an_image(folders):
    for number in range(6):
        picture = Image.fromarray(COLOURS).quantize(9)
        picture.save(folders[0] / f"{number}.png")
    np.testing.assert_array_equal(images.open_pairs(*folders).X[0], np.asarray(picture.convert("RGB")))


def test_grey_images_among_coloured_ones_have_three_channels_and_a_note(folders):
    save(folders[0] / "2.png", COLOURS)
    dataset = images.open_pairs(*folders)
    assert [image.shape for image in dataset.X] == [(*SHAPE, 3)] * 6
    np.testing.assert_array_equal(dataset.X[0], np.dstack([IMAGE] * 3))
    dataset.X[0][0, 0, 0] += 1
    assert dataset.X[0][0, 0, 0] != dataset.X[0][0, 0, 1]
    assert "5 images are grey" in " ".join(dataset.notes)


def test_images_of_different_precision_get_a_note(folders):
    save(folders[0] / "2.png", DEEP)
    dataset = images.open_pairs(*folders)
    assert [str(image.dtype) for image in dataset.X] == ["uint8", "uint8", "uint16", "uint8", "uint8", "uint8"]
    assert "the images differ in precision: 5 uint8, 1 uint16" in dataset.notes


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_in_a_png_are_noted(folders, channels):
    """Pillow keeps the upper 8 bits and says nothing."""
    save_png16(folders[0] / "2.png", np.dstack([DEEP_COLOURS, DEEP])[..., -channels:])
    assert "1 images hold colours of 16 bits and are read with 8: '2.png'" in images.open_pairs(*folders).notes


def test_sizes_may_differ(folders):
    save(folders[0] / "2.png", IMAGE[:9, :10])
    save(folders[1] / "2.png", MASK[:9, :10])
    dataset = images.open_pairs(*folders)
    assert dataset.X[2].shape == (9, 10, 1)
    assert dataset.y[2].shape == (9, 10)


@pytest.mark.parametrize("pixels", [IMAGE, DEEP, COLOURS], ids=["8 bit", "16 bit", "colours"])
def test_images_and_masks_are_turned_upright(folders, pixels):
    exif = Image.Exif()
    for orientation, stored in ((6, np.rot90), (3, lambda p: np.rot90(p, 2)), (8, lambda p: np.rot90(p, 3))):
        exif[0x0112] = orientation
        save(folders[0] / "2.png", stored(pixels), exif=exif)
        save(folders[1] / "2.png", stored(LABELS), exif=exif)
        dataset = images.open_pairs(*folders)
        np.testing.assert_array_equal(dataset.X[2][..., : 3 if pixels.ndim == 3 else 1], pixels.reshape(*SHAPE, -1))
        assert same_objects(dataset.y[2], LABELS)


def test_a_large_image_warns_of_no_bomb(folders, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", IMAGE.size - 1)
    assert len(images.open_pairs(*folders).X) == 6
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", IMAGE.size // 4)
    refused(folders, "6 of 6 images cannot be used", "more than 96 pixels")


# --- pairs -------------------------------------------------------------------------------------------------------

NAMES = [
    ("{}_img.png", "{}_masks.png"),
    ("{}_img.png", "{}_img_cp_masks.png"),
    ("IMG_{}.PNG", "Mask_{}.tif"),
    ("image{}.png", "label{}.bmp"),
    ("{}.png", "{}.gt.png"),
    ("a {}.png", "a {} segmentation.png"),
    ("{}.tif", "{}_mask.png"),
    ("cell_image_{}.png", "cell_mask_{}.png"),
    ("gtex-{}.png", "gtex-{}-annotation.png"),
    ("unmask_{}.png", "unmask_{}_gt.png"),
    ("{}img.png", "{}mask.png"),
]


@pytest.mark.parametrize(("image_name", "mask_name"), NAMES)
@pytest.mark.parametrize("one_folder", [True, False])
def test_words_for_image_and_mask_do_not_count(tmp_path, image_name, mask_name, one_folder):
    mask_dir = tmp_path / ("a" if one_folder else "b")
    (tmp_path / "a").mkdir()
    mask_dir.mkdir(exist_ok=True)
    for number in (0, 1, 2, 3, 9, 10):
        # Each pair has its own size, so that a mask of another image would be found out.
        size = (8 + number, 20)
        save(tmp_path / "a" / image_name.format(number), np.full(size, number, np.uint8))
        save(mask_dir / mask_name.format(number), np.eye(*size, dtype=np.uint8))
    dataset = images.open_pairs(tmp_path / "a", mask_dir)
    assert sorted(int(image[0, 0, 0]) for image in dataset.X) == [0, 1, 2, 3, 9, 10]
    assert [labels.shape for labels in dataset.y] == [image.shape[:2] for image in dataset.X]


def test_the_same_name_goes_before_a_similar_one(folders):
    save(folders[1] / "0_mask.png", MASK[:9])
    save(folders[0] / "00_img.png", IMAGE[:9])
    save(folders[1] / "00_gt.png", MASK[:9])
    dataset = images.open_pairs(*folders)
    assert [len(image) for image in dataset.X] == [12, 9, 12, 12, 12, 12, 12], "in the order of the images' names"
    assert "1 masks have no image and are left out: '0_mask.png'" in dataset.notes


def test_images_without_a_mask_are_named(folders):
    for name in ("2.png", "4.png"):
        (folders[1] / name).unlink()
    save(folders[1] / "20.png", MASK)
    refused(folders, "2 of 6 images have no mask of the same name: '2.png', '4.png'.")


def test_no_name_fits(folders):
    for number in range(6):
        (folders[1] / f"{number}.png").rename(folders[1] / f"cell{number}.png")
    refused(folders, "6 of 6 images have no mask", "'5.png'")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("name", "other"), [("3.png", "3.bmp"), ("7_img.png", "img_7.png")])
def test_two_files_of_one_name(folders, which, name, other):
    save(folders[which] / name, IMAGE)
    save(folders[which] / other, IMAGE)
    if which == 1:
        save(folders[0] / "7.png", IMAGE)
    refused(folders, f"two {('images', 'masks')[which]} go by the name '{name[0]}'", f"'{name}'", f"'{other}'")


def test_one_folder_without_masks(folders):
    refused((folders[0], folders[0]), "image_dir and mask_dir are both", "no name holds mask")
    for number in range(6):
        (folders[1] / f"{number}.png").rename(folders[1] / f"{number}_mask.png")
    refused((folders[1], folders[1]), "every name holds mask")


def test_what_is_no_image_is_ignored(folders):
    for folder in folders:
        (folder / ".DS_Store").write_bytes(b"\0")
        (folder / "._0.png").write_bytes(b"\0")
        (folder / "Thumbs.db").write_bytes(b"\0")
        (folder / "0.json").write_text("{}")
        (folder / "notes.pdf").write_bytes(b"%PDF")
        (folder / "more.png").mkdir()
        save(folder / "more.png" / "8.png", IMAGE)
    assert len(images.open_pairs(*folders).X) == 6


def test_folder_faults(folders, tmp_path):
    images, masks = folders
    with pytest.raises(FileNotFoundError, match="image_dir: nothing is at"):
        images.open_pairs(tmp_path / "no", masks)
    with pytest.raises(FileNotFoundError, match="mask_dir: nothing is at"):
        images.open_pairs(images, tmp_path / "no")
    refused((images / "0.png", masks), "image_dir must be a folder of images; ", "0.png' is a file")
    refused((tmp_path, masks), "image_dir", "holds no image; its sub-folders do", "'masks', 'photos'")
    (tmp_path / "empty").mkdir()
    refused((images, tmp_path / "empty"), "mask_dir", "empty' holds no image.")
    (images / "0.png").unlink()
    refused(folders, "holds 5 images with a mask: at least 6 are needed")


# --- files that cannot be used -----------------------------------------------------------------------------------


def cut(path, share=0.5):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_damaged_files_are_counted_and_named(folders, which, share, suffix):
    for number in (1, 4):
        (folders[which] / f"{number}.png").unlink()
        save(folders[which] / f"{number}.{suffix}", IMAGE)
        cut(folders[which] / f"{number}.{suffix}", share)
    noun = ("images", "masks")[which]
    refused(folders, f"2 of 6 {noun} cannot be used, empty, damaged", f"'1.{suffix}', '4.{suffix}'.")


def test_a_damaged_tiff_of_16_bit_colours(folders):
    (folders[0] / "1.png").unlink()
    save(folders[0] / "1.tif", DEEP_COLOURS, photometric="rgb")
    cut(folders[0] / "1.tif")
    refused(folders, "1 of 6 images cannot be used, empty, damaged")


def test_of_many_bad_files_six_are_named(folders):
    for number in range(6, 14):
        (folders[0] / f"{number}.png").write_bytes(b"")
        save(folders[1] / f"{number}.png", MASK)
    refused(folders, "8 of 14 images", "'10.png', '11.png', '12.png', '13.png', '6.png', '7.png', ….")


NAN, INFINITE = np.full(SHAPE, np.nan, np.float32), np.full(SHAPE, np.inf, np.float32)
BAD_IMAGES = [
    (np.zeros((3, *SHAPE), np.uint8), {"photometric": "minisblack"}, "a stack of several pages"),
    (np.zeros((7, *SHAPE), np.uint16), {"photometric": "minisblack"}, "a stack of several pages"),
    (np.zeros((2, *SHAPE, 3), np.uint16), {"photometric": "rgb"}, "a stack of several pages"),
    (np.zeros((*SHAPE, 5), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}, "neither one nor three"),
    (np.zeros((*SHAPE, 4), "u2"), {"photometric": "minisblack", "planarconfig": "contig"}, "neither one nor three"),
    (IMAGE[:7], {}, "a side shorter than 8 pixels"),
    (IMAGE[:, :7], {}, "a side shorter than 8 pixels"),
    (NAN, {}, "NaN or infinite"),
    (INFINITE, {}, "NaN or infinite"),
    (np.full(SHAPE, 1e300), {}, "NaN or infinite"),
    (np.full(SHAPE, -1, np.int16), {}, "integers beyond 0..65535"),
    (np.full(SHAPE, 65536, np.int32), {}, "integers beyond 0..65535"),
    (IMAGE / 7, {"extratags": [(274, 3, 1, 6, True)]}, "a TIFF turned or coloured in a way that no reader undoes"),
    (IMAGE / 7, {"photometric": "miniswhite"}, "a TIFF turned or coloured in a way that no reader undoes"),
]


@pytest.mark.parametrize(("pixels", "options", "message"), BAD_IMAGES)
@pytest.mark.filterwarnings("ignore:overflow")
def test_images_that_cannot_be_used(folders, pixels, options, message):
    (folders[0] / "1.png").unlink()
    save(folders[0] / "1.tif", pixels, **options)
    refused(folders, "1 of 6 images cannot be used, ", message, "'1.tif'.")


def test_an_animation_is_refused(folders):
    frames = [Image.fromarray(pixels) for pixels in (IMAGE, MASK)]
    frames[0].save(folders[0] / "1.png", save_all=True, append_images=frames[1:])
    refused(folders, "1 of 6 images cannot be used, more than one page: '1.png'")


def test_the_preview_in_a_photo_is_no_second_page(folders):
    (folders[0] / "1.png").unlink()
    photo = Image.fromarray(IMAGE)
    photo.save(folders[0] / "1.jpg", format="MPO", save_all=True, append_images=[photo.resize((8, 8))])
    assert images.open_pairs(*folders).X[1].shape == (*SHAPE, 1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (16, 12),
            "'2.png' is 12 × 16 pixels (width × height), its image '2.png' 16 × 12: it looks turned by a quarter.",
        ),
        ((24, 32), "'2.png' is 32 × 24 pixels (width × height), its image '2.png' 16 × 12."),
    ],
)
def test_a_mask_of_another_size(folders, shape, message):
    save(folders[1] / "2.png", np.eye(*shape, dtype=np.uint8))
    refused(folders, "1 of 6 masks have another size than their image: " + message)


# --- masks -------------------------------------------------------------------------------------------------------


def coloured(labels):
    """One colour a label; their sums are equal, and so are those of two channels of the first two."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[7], palette[3], palette[200] = (9, 0, 1), (9, 1, 0), (0, 9, 1)
    return palette[labels]


RENAMED = np.array([0, *range(100_000, 100_255)])[LABELS]
INSTANCES = {
    "8 bit": ("png", LABELS),
    "16 bit": ("png", LABELS.astype(np.uint16) * 300),
    "16 bit TIFF": ("tif", LABELS.astype(np.uint16) * 300),
    "int32": ("tif", RENAMED.astype(np.int32)),
    "int64": ("tif", RENAMED.astype(np.int64)),
    "float": ("tif", LABELS.astype(np.float32)),
    "double": ("tif", RENAMED.astype(np.float64)),
    "signed bytes": ("tif", (LABELS // 2).astype(np.int8)),
    "equal channels": ("png", np.dstack([LABELS] * 3)),
    "equal channels and alpha": ("png", np.dstack([LABELS] * 3 + [LABELS > 5])),
    "colours": ("png", coloured(LABELS)),
    "colours and alpha": ("png", np.dstack([coloured(LABELS), LABELS == 7])),
    "16-bit colours": ("tif", coloured(LABELS).astype(np.uint16)),
    "grey and alpha": ("png", np.dstack([LABELS, LABELS == 7])),
}


@pytest.mark.parametrize("kind", INSTANCES)
def test_each_value_is_an_object(folders, kind):
    suffix, pixels = INSTANCES[kind]
    options = {"photometric": "rgb"} if suffix == "tif" and pixels.ndim == 3 else {}
    all_masks(folders[1], pixels, suffix, **options)
    dataset = images.open_pairs(*folders)
    for labels in dataset.y:
        assert sorted(np.unique(labels)) == [0, 1, 2, 3]
        assert same_objects(labels, LABELS)
    assert dataset.notes == ()


def test_a_palette_is_an_index_in_a_mask(folders):
    picture = Image.fromarray(np.digitize(LABELS, [1, 5, 100]).astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 255, 0, 0, 9, 9, 9])
    for number in range(6):
        picture.save(folders[1] / f"{number}.png")
    assert same_objects(images.open_pairs(*folders).y[0], LABELS)


BINARY = {
    "255": MASK,
    "1": MASK // 255,
    "bool": MASK > 0,
    "16 bit": MASK.astype(np.uint16) * 257,
    "red": np.dstack([MASK, 0 * MASK, 0 * MASK]),
    "alpha alone": np.dstack([0 * MASK, 0 * MASK, 0 * MASK, MASK]),
    "alpha of grey": np.dstack([0 * MASK + 9, MASK]),
    "opaque": np.dstack([MASK, MASK, MASK, 0 * MASK + 255]),
}


@pytest.mark.parametrize("kind", BINARY)
def test_connected_regions_of_a_binary_mask_are_objects(folders, kind):
    all_masks(folders[1], BINARY[kind])
    dataset = images.open_pairs(*folders)
    assert same_objects(dataset.y[0], np.where(LABELS == 3, 7, LABELS))
    assert sorted(np.unique(dataset.y[0])) == [0, 1, 2]
    assert any("6 masks are read from the transparency" in note for note in dataset.notes) == ("alpha" in kind)


def test_regions_that_touch_at_a_corner_are_two(folders):
    all_masks(folders[1], np.eye(*SHAPE, dtype=np.uint8))
    assert images.open_pairs(*folders).y[0].max() == 12


def test_all_masks_decide_together(folders):
    """One object a mask is common among masks of objects; it must not be cut in two for that."""
    split = np.where(LABELS == 200, LABELS, 0)
    split[8] = 0
    save(folders[1] / "0.png", split)
    for number in range(1, 6):
        save(folders[1] / f"{number}.png", LABELS)
    dataset = images.open_pairs(*folders)
    assert dataset.y[0].max() == 1
    assert same_objects(dataset.y[1], LABELS)
    assert dataset.notes == ("1 of 16 objects consist of several regions",)


def test_values_may_differ_between_binary_masks(folders):
    save(folders[1] / "0.png", MASK // 255)
    save(folders[1] / "1.png", MASK // 5)
    assert [labels.max() for labels in images.open_pairs(*folders).y] == [2] * 6


def test_classes_are_told_from_objects(folders):
    classes = np.zeros(SHAPE, dtype=np.uint8)
    classes[0:3, 0:3] = classes[0:3, 6:9] = classes[8:11, 0:3] = 1
    classes[3:6, 0:3] = classes[8:11, 12:15] = classes[4:7, 10:13] = 2
    all_masks(folders[1], classes)
    dataset = images.open_pairs(*folders)
    expected = np.zeros(SHAPE, dtype=int)
    places = ((0, 0), (0, 6), (8, 0), (3, 0), (8, 12), (4, 10))
    for number, (row, column) in enumerate(places, start=1):
        expected[row : row + 3, column : column + 3] = number
    assert same_objects(dataset.y[0], expected)
    assert dataset.y[0].max() == 6
    assert dataset.y[0].dtype == np.int32
    assert "12 of 12 values lie in several regions: values are read as classes" in dataset.notes[0]


def test_half_of_the_values_in_several_regions_are_objects_still(folders):
    labels = np.where(LABELS == 3, 0, LABELS)
    labels[5:8, 0] = 7
    all_masks(folders[1], labels)
    dataset = images.open_pairs(*folders)
    assert dataset.y[0].max() == 2
    assert dataset.notes == ("6 of 12 objects consist of several regions",)
    labels[7:11, 15] = 200
    all_masks(folders[1], labels)
    assert images.open_pairs(*folders).y[0].max() == 4


def test_an_empty_mask_and_an_object_of_one_pixel(folders):
    save(folders[1] / "1.png", 0 * MASK)
    dot = 0 * MASK
    dot[5, 5] = 255
    save(folders[1] / "2.png", dot)
    dataset = images.open_pairs(*folders)
    assert [labels.max() for labels in dataset.y] == [2, 0, 1, 2, 2, 2]
    assert "1 masks hold no object" in dataset.notes


def test_a_mask_may_be_covered_wholly_if_others_are_not(folders):
    save(folders[1] / "1.png", MASK | 255)
    assert (images.open_pairs(*folders).y[1] == 1).all()
    all_masks(folders[1], [LABELS + 1, *[LABELS] * 5])
    labels = images.open_pairs(*folders).y[0]
    assert sorted(np.unique(labels)) == [1, 2, 3, 4]


def test_an_opaque_black_mask_is_empty(folders):
    save(folders[1] / "1.png", np.dstack([0 * MASK, 0 * MASK, 0 * MASK, 0 * MASK + 255]))
    assert not images.open_pairs(*folders).y[1].any()


def test_inverted_masks_get_a_note(folders):
    all_masks(folders[1], 255 - MASK)
    assert "objects cover 80% of the pixels: if 0 marks them, invert the masks" in images.open_pairs(*folders).notes


@pytest.mark.parametrize("pixels", [MASK | 255, MASK // 255 + 1, LABELS + 1], ids=["full", "1 and 2", "labels from 1"])
def test_masks_without_background(folders, pixels):
    all_masks(folders[1], [0 * MASK, *[pixels] * 5])
    refused(folders, "no mask holds objects and 0 (black), which marks the background")


def test_masks_without_objects(folders):
    all_masks(folders[1], 0 * MASK)
    refused(folders, "no object is in any of the 6 masks")


BAD_MASKS = [
    (np.where(MASK, 0.7, 0).astype(np.float32), {}, "no whole numbers, such as probabilities"),
    (NAN, {}, "no whole numbers"),
    (INFINITE, {}, "no whole numbers"),
    (-MASK.astype(np.int16), {}, "negative labels"),
    (-(MASK > 0).astype(np.int8), {}, "negative labels"),
    (-MASK.astype(np.int64), {}, "negative labels"),
    (np.stack([MASK] * 3), {"photometric": "minisblack"}, "a stack of several pages"),
]


@pytest.mark.parametrize(("pixels", "options", "message"), BAD_MASKS)
def test_masks_that_cannot_be_used(folders, pixels, options, message):
    (folders[1] / "1.png").unlink()
    save(folders[1] / "1.tif", pixels, **options)
    refused(folders, "1 of 6 masks cannot be used, ", message, "'1.tif'.")


@pytest.mark.parametrize("channels", [3, 4])
def test_a_mask_in_a_png_of_16_bit_colours_is_refused(folders, channels):
    save_png16(folders[1] / "2.png", np.dstack([LABELS.astype(np.uint16)] * channels))
    refused(folders, "1 of 6 masks cannot be used, colours of 16 bits", "'2.png'")


def picture(scale=1):
    """Discs of 40 and 24 pixels, `scale` times as large."""
    image = Image.new("L", (96 * scale, 80 * scale))
    for left, top, size in ((8, 8, 40), (60, 40, 24)):
        ImageDraw.Draw(image).ellipse([scale * edge for edge in (left, top, left + size, top + size)], fill=255)
    return image


@pytest.fixture
def discs(folders):
    """Room for masks of discs: the folders, with larger images."""
    for number in range(6):
        save(folders[0] / f"{number}.png", np.zeros((80, 96), dtype=np.uint8))
        picture().save(folders[1] / f"{number}.png")
    return folders


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
def test_lossy_masks_are_refused(discs, suffix):
    for number in (0, 3):
        (discs[1] / f"{number}.png").unlink()
        options = {"compression": "jpeg"} if suffix == "tif" else {"quality": 60}
        picture().save(discs[1] / f"{number}.{suffix}", **options)
    refused(discs, "2 of 6 masks cannot be used, saved as JPEG", f"'0.{suffix}', '3.{suffix}'")


def test_a_jpeg_of_two_values_is_as_good_as_any(discs):
    blocks = np.zeros((80, 96), dtype=np.uint8)
    blocks[16:48, 32:64] = 255
    (discs[1] / "0.png").unlink()
    save(discs[1] / "0.jpg", blocks, quality=100)
    assert same_objects(images.open_pairs(*discs).y[0], blocks)


SMOOTH = {
    "drawn finer": lambda: picture(4).resize((96, 80), Image.Resampling.BOX),
    "made smaller": lambda: picture(2).resize((96, 80), Image.Resampling.BILINEAR),
    "made larger": lambda: picture().resize((48, 40), Image.Resampling.NEAREST).resize((96, 80)),
}


@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("how_many", [1, 6])
def test_smoothed_borders_are_cut(discs, kind, how_many):
    smooth = SMOOTH[kind]()
    assert len(np.unique(np.asarray(smooth))) > 5
    for number in range(how_many):
        smooth.save(discs[1] / f"{number}.png")
    dataset = images.open_pairs(*discs)
    np.testing.assert_array_equal(dataset.y[0] > 0, np.asarray(smooth) >= 128)
    assert dataset.y[0].max() == 2
    assert f"{how_many} masks have smoothed borders, cut at 128" in dataset.notes


def saved_as_jpeg(folder):
    picture().save(folder / "once.jpeg", quality=50)
    with Image.open(folder / "once.jpeg") as image:
        return image.copy()


@pytest.mark.parametrize("how", ["large factor", "JPEG once", "small factor of dots"])
@pytest.mark.parametrize("how_many", [1, 6])
def test_masks_that_are_smoothed_further_are_refused(discs, tmp_path, how, how_many):
    small = picture().resize((12, 10), Image.Resampling.NEAREST)
    dots = Image.fromarray(np.where(np.indices((80, 96)).sum(0) % 9, 0, 255).astype(np.uint8))
    spoilt = {
        "large factor": small.resize((96, 80), Image.Resampling.BICUBIC),
        "JPEG once": saved_as_jpeg(tmp_path),
        "small factor of dots": dots.resize((61, 47), Image.Resampling.LANCZOS).resize((96, 80)),
    }[how]
    for number in range(how_many):
        spoilt.save(discs[1] / f"{number}.png")
    refused(discs, "as after smoothing, resizing or JPEG")


def test_one_smoothed_mask_is_found_among_many_objects(discs):
    tiles = np.kron(np.indices((20, 24)).prod(0) % 2, np.full((4, 4), 255)).astype(np.uint8)
    all_masks(discs[1], [tiles] * 6)
    picture().resize((12, 10)).resize((96, 80), Image.Resampling.BICUBIC).save(discs[1] / "0.png")
    refused(discs, "the masks hold 0, 255 and many greys between them")


def test_a_grey_object_is_not_lost_to_smoothed_borders(discs):
    SMOOTH["drawn finer"]().save(discs[1] / "0.png")
    dot = np.zeros((80, 96), dtype=np.uint8)
    dot[40, 50] = 100
    save(discs[1] / "1.png", dot)
    refused(discs, "some masks hold 0 and 255 with greys at the borders, others greys only")


@pytest.mark.parametrize("values", [(255, 1, 2), (255, 254, 253), (128, 255, 64), (1, 2, 255)])
def test_labels_up_to_255_are_no_smoothing(folders, values):
    """Object 255 may be the largest, and others lie at its border."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:6, 1:9], labels[6:9, 1:9], labels[1:6, 9] = values
    all_masks(folders[1], labels)
    assert same_objects(images.open_pairs(*folders).y[0], labels)


def test_slivers_at_the_border_of_object_511_are_objects(folders):
    """511 ends in the same byte as 255."""
    labels = np.zeros(SHAPE, dtype=np.uint16)
    labels[2:9, 2:9], labels[1, 2:9], labels[9, 2:9], labels[2:9, 1] = 511, 300, 301, 302
    all_masks(folders[1], labels)
    assert same_objects(images.open_pairs(*folders).y[0], labels)


def test_255_objects_in_one_mask(folders):
    for number in range(6):
        save(folders[0] / f"{number}.png", np.zeros((48, 48), dtype=np.uint8))
    numbers = np.arange(1, 257).reshape(16, 16).repeat(3, axis=0).repeat(3, axis=1)
    numbers[numbers == 256] = 0
    all_masks(folders[1], numbers.astype(np.uint8))
    assert same_objects(images.open_pairs(*folders).y[0], numbers)


@pytest.mark.parametrize("empty", ["image_dir", "mask_dir"])
def test_an_empty_name_is_no_folder(empty, tmp_path):
    """As a path it would be the folder in which the process happens to run."""
    with pytest.raises(ValueError, match=f"{empty} is empty: name a folder"):
        images.open_pairs(**{"image_dir": tmp_path, "mask_dir": tmp_path, empty: ""})
