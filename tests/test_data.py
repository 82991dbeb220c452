"""Reading the reader's own files: what is accepted, and the sentence for what is not."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import data

ROWS = "".join(f"{number},{number % 7},{'yes' if number % 3 else 'no'}\n" for number in range(60))


@pytest.fixture
def write(tmp_path):
    def _write(name, text, encoding="utf-8"):
        path = tmp_path / name
        path.write_text(text, encoding=encoding, newline="")
        return path

    return _write


@pytest.fixture
def images(tmp_path):
    """A folder of images of two classes, in every mode and size that readers bring."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number, mode in enumerate(("RGB", "L", "P", "RGBA", "CMYK", "1", "LA") * 2):
            pixels = rng.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)
            suffix = "tiff" if mode in ("CMYK", "1") else "png"
            Image.fromarray(pixels).convert(mode).save(tmp_path / "photos" / label / f"{number}.{suffix}")
    return tmp_path / "photos"


def test_csv_with_numbers(write):
    dataset = data.open_data(write("a.csv", "height,weight,label\n" + ROWS))
    assert (dataset.kind, dataset.X.shape, dataset.X.dtype) == ("numeric", (60, 2), np.float64)
    assert dataset.feature_names == ("height", "weight")
    assert dataset.class_names == ("no", "yes")
    assert dataset.y.sum() == 40
    assert dataset.notes == ()


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators(write, separator):
    text = ("height,weight,label\n" + ROWS).replace(",", separator)
    assert data.open_data(write("a.csv", text)).X.shape == (60, 2)


def test_compressed_csv(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(("height,weight,label\n" + ROWS).encode()))
    assert data.open_data(tmp_path / "a.csv.gz").X.shape == (60, 2)


def test_byte_order_mark_crlf_and_spaces(write):
    text = ("\ufeffheight,weight,label\n" + ROWS.replace(",", ", ")).replace("\n", "\r\n")
    dataset = data.open_data(write("a.csv", text))
    assert dataset.feature_names == ("height", "weight")
    assert dataset.class_names == ("no", "yes")


def test_numeric_labels_and_their_names(write):
    rows = "".join(f"{number},{number % 2}\n" for number in range(40))
    dataset = data.open_data(write("a.csv", "x,target\n" + rows), label_column="target")
    assert dataset.class_names == ("0", "1")
    assert dataset.y.tolist() == [number % 2 for number in range(40)]


def test_missing_values_and_columns_that_are_no_features_are_noted(write):
    rows = "".join(f"{n},{'' if n < 3 else n},name{n},,{n % 2}\n" for n in range(30))
    dataset = data.open_data(write("a.csv", ",age,name,empty,label\n" + rows))
    assert dataset.feature_names == ("age",)
    assert np.isnan(dataset.X[:3, 0]).all()
    assert dataset.notes == (
        "columns left out, not numeric: 'name'",
        "columns left out, empty: 'empty'",
        "columns left out, without a name: 'Unnamed: 0'",
        "3 missing values are kept as NaN",
    )
    assert "note: 3 missing values" in str(dataset)


def test_a_column_that_a_few_words_spoil_is_named(write):
    rows = "".join(f"{n},{'unknown' if n == 3 else n},{n % 2}\n" for n in range(30))
    notes = data.open_data(write("a.csv", "x,age,label\n" + rows)).notes
    assert notes[1] == "column 'age' would be numeric but for 1 values such as 'unknown'"


def test_labels_may_be_called_none_or_na(write):
    rows = "".join(f"{n},{('None', 'NA')[n % 2]}\n" for n in range(40))
    assert data.open_data(write("a.csv", "x,label\n" + rows)).class_names == ("NA", "None")


def test_question_marks_and_blanks_are_missing_values(write):
    rows = "".join(f"{'?' if n < 2 else ' ' if n < 4 else n},{n % 2}\n" for n in range(30))
    assert np.isnan(data.open_data(write("a.csv", "age,label\n" + rows)).X).sum() == 4


def test_csv_with_texts(write):
    rows = "".join(f'"good, film {n}",pos\n,neg\n' for n in range(10))
    dataset = data.open_data(write("a.csv", "review,label\n" + rows), text_column="review")
    assert dataset.kind == "text"
    assert dataset.X[0] == "good, film 0"
    assert dataset.X[1] == ""
    assert dataset.notes == ("10 rows without text are kept as empty texts",)


def test_one_label_against_the_rest(write):
    rows = "".join(f"{n},{'abc'[n % 3]}\n" for n in range(60))
    dataset = data.open_data(write("a.csv", "x,label\n" + rows), positive_label="b")
    assert dataset.class_names == ("not b", "b")
    assert dataset.y.sum() == 20


def test_positive_label_turns_two_classes_round(write):
    dataset = data.open_data(write("a.csv", "height,weight,label\n" + ROWS), positive_label="no")
    assert dataset.class_names == ("yes", "no")
    assert dataset.y.sum() == 20


@pytest.mark.parametrize(
    "line",
    ["{label}\tSee you, {n}\n", "See you, {n}\t{label}\n", "__label__{label} See you, {n}\n"],
    ids=["label first", "label last", "fastText"],
)
def test_text_files(write, line):
    text = "".join(line.format(label=("spam", "ham")[n % 2], n=n) for n in range(30)) + "\n\n"
    dataset = data.open_data(write("a.txt", text))
    assert dataset.class_names == ("ham", "spam")
    assert dataset.X[1] == "See you, 1"
    assert dataset.y[:2].tolist() == [1, 0]


def test_a_text_keeps_its_tabs(write):
    text = "".join(f"{'ab'[n % 2]}\tone\ttwo {n}\n" for n in range(30))
    assert data.open_data(write("a.txt", text)).X[0] == "one\ttwo 0"


def test_a_text_keeps_its_line_separators(write):
    """str.splitlines would break at U+0085 and make a line of half a sentence."""
    text = "".join(f"{'ab'[n % 2]}\tone\u0085two\u2028three {n}\n" for n in range(30))
    dataset = data.open_data(write("a.txt", text))
    assert len(dataset) == 30
    assert dataset.X[0] == "one\u0085two\u2028three 0"


def test_tsv_with_a_header(write):
    text = "label\ttext\n" + "".join(f"{'ab'[n % 2]}\tline {n}\n" for n in range(30))
    dataset = data.open_data(write("a.tsv", text), text_column="text")
    assert len(dataset) == 30
    assert dataset.class_names == ("a", "b")


def test_image_folder(images):
    (images / "cat" / "Thumbs.db").write_bytes(b"no image")
    (images / ".hidden").mkdir()
    dataset = data.open_data(images)
    assert (dataset.kind, len(dataset), dataset.class_names) == ("image", 28, ("cat", "dog"))
    for path in dataset.X:
        pixels = images.read_image(path)
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (30, 3)


def test_images_are_turned_upright(tmp_path):
    upright = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    exif = Image.Exif()
    for orientation, stored in ((6, np.rot90(upright)), (3, np.rot90(upright, 2)), (8, np.rot90(upright, 3))):
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), upright)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    deep = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert images.read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_grey_and_transparent_arrays():
    grey = np.full((3, 5), 7, dtype=np.uint8)
    assert images.read_image(grey)[0, 0].tolist() == [7, 7, 7]
    assert images.read_image(np.full((3, 5, 4), 7, dtype=np.uint8)).shape == (3, 5, 3)


CSV_FAULTS = [
    ("", {}, "is empty"),
    ("a,b\n1,2\n", {}, "label_column 'label' is not a column of bad.csv; there are: 'a', 'b'"),
    ("a,Labell\n1,2\n", {}, "label_column 'label' is not a column of bad.csv; did you mean 'Labell'"),
    ("height,weight,label\n" + ROWS, {"label_column": ""}, "label_column '' is not a column"),
    ("height,weight,label\n" + ROWS, {"text_column": "label"}, "are both 'label'"),
    ("height,weight,label\n" + ROWS, {"text_column": "txt"}, "text_column 'txt' is not a column"),
    ("height,weight,label\n" + ROWS, {"positive_label": "maybe"}, "'maybe' is not among the labels.*'no', 'yes'"),
    ("x,label\n" + "1,a\n" * 30, {}, "one class only"),
    ("x,label\n" + "1,a\n" * 30 + "1,b\n" * 3, {}, "3 rows of class 'b': at least 10"),
    ("x,label\n" + "".join(f"{n},{n}\n" for n in range(30)), {}, "30 labels.*name one as positive_label"),
    ("x,label\n" + "1,a\n2,b\n" * 20 + "3,\n" * 2, {}, "no label in 2 of 42 rows"),
    ("x,label\n" + "red,a\nblue,b\n" * 20, {}, "no numeric column: for a text, name its column as text_column"),
    ("x,label\n" + "1,a\ninf,b\n" * 20, {}, "infinite values in: 'x'"),
    ("x,label\n" + '1,a\n"2,b\n' * 20 + '"', {}, "cannot be read as CSV|labels|class"),
    ("x,label\n", {}, "a header and no rows"),
]


@pytest.mark.parametrize(("text", "options", "message"), CSV_FAULTS)
def test_csv_faults_get_one_sentence(write, text, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        data.open_data(write("bad.csv", text), **options)
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("name", ["bad.csv", "bad.txt"])
@pytest.mark.parametrize("where", [0, 5000])
def test_not_utf8(write, name, where):
    text = "x,label\n" if name == "bad.csv" else ""
    rows = "1,a\n2,b\n" * 3000 if name == "bad.csv" else "a\tone\nb\ttwo\n" * 3000
    at = len(text) + where
    text = (text + rows)[:at] + "é" + (text + rows)[at:]
    with pytest.raises(ValueError, match="not UTF-8"):
        data.open_data(write(name, text, encoding="latin-1"))


def test_a_text_file_without_labels(write):
    with pytest.raises(ValueError, match=r"line 2 of bad.txt is neither label<TAB>text"):
        data.open_data(write("bad.txt", "a\tone\njust a line\n"))


def test_a_fasttext_file_with_a_line_of_another_kind(write):
    with pytest.raises(ValueError, match=r"line 3 of bad.txt is neither"):
        data.open_data(write("bad.txt", "__label__a one\n\nfree text here\n"))


def test_an_empty_text_is_kept(write):
    text = "".join(f"{'ab'[n % 2]}\t{'' if n == 0 else n}\r\n" for n in range(30))
    assert data.open_data(write("a.txt", text)).X[:2].tolist() == ["", "1"]


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("nothing is at")):
        data.open_data(tmp_path / "no.csv")


def test_image_folder_faults(images, tmp_path):
    with pytest.raises(ValueError, match="one sub-folder of images a class"):
        data.open_data(tmp_path / "photos" / "cat")
    (images / "dog" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"1 of 29 images in photos are unreadable: 'dog.broken.png'"):
        data.open_data(images)
    with pytest.raises(ValueError, match=r"broken.png' is no readable image"):
        images.read_image(images / "dog" / "broken.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_a_truncated_image_is_refused(images, suffix):
    cut = images / "cat" / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(cut)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="no readable image"):
        images.read_image(cut)
    with pytest.raises(ValueError, match=rf"1 of 29 images in photos are unreadable: 'cat.cut.{suffix}'"):
        data.open_data(images)


def test_folders_in_folders_are_refused(images):
    (images / "train").mkdir()
    (images / "cat").rename(images / "train" / "cat")
    with pytest.raises(ValueError, match=r"folders in folders .*name the folder whose sub-folders are the classes"):
        data.open_data(images)


def test_one_image_is_no_folder(images):
    with pytest.raises(ValueError, match=r"0.png is one image: name a folder"):
        data.open_data(images / "cat" / "0.png")


def test_a_tsv_is_a_table_whatever_its_columns_are_called(write):
    text = "churned\tcalls\n" + "".join(f"{('no', 'yes')[n % 2]}\t{n}\n" for n in range(30))
    assert data.open_data(write("a.tsv", text), label_column="churned").feature_names == ("calls",)
    with pytest.raises(ValueError, match=r"label_column 'label' is not a column of a\.tsv"):
        data.open_data(write("a.tsv", text))
    with pytest.raises(ValueError, match="remove a header that was taken for one"):
        data.open_data(write("a.txt", text))


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)])
def test_arrays_that_are_no_images(bad):
    with pytest.raises(ValueError, match="an image array must be uint8"):
        images.read_image(bad)


def test_unknown_dataset():
    with pytest.raises(ValueError, match=r"no dataset 'cancer'; there are: breast_cancer"):
        data.load("cancer")


def test_split_keeps_classes_in_proportion_and_covers_all_rows():
    dataset = data.load("breast_cancer")
    train, test = data.split(dataset, test_size=0.3, seed=1)
    assert sorted([*train, *test]) == list(range(len(dataset)))
    assert abs(dataset.y[test].mean() - dataset.y[train].mean()) < 0.01
    assert data.split(dataset, seed=1)[1].tolist() == test.tolist()
    assert data.split(dataset, seed=2)[1].tolist() != test.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_split_keeps_groups_whole(seed):
    dataset = data.load("textures")
    train, test = data.split(dataset, seed=seed)
    assert not set(dataset.groups[train]) & set(dataset.groups[test])
    assert set(dataset.y[train]) == set(dataset.y[test]) == {0, 1}


@pytest.mark.parametrize("test_size", [0, 1, 30, float("nan")])
def test_split_refuses_a_wrong_size(test_size):
    with pytest.raises(ValueError, match=r"test_size must lie in \(0, 1\)"):
        data.split(data.load("breast_cancer"), test_size=test_size)


# --- tables with words -------------------------------------------------------------------------------------------


def write_table(tmp_path, columns, rows=40):
    frame = pd.DataFrame({**columns, "label": ["no", "yes"] * (rows // 2)})
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_words_are_kept_where_they_are_asked_for(tmp_path):
    columns = {"age": [1.5, np.nan] * 20, "town": ["Köln", "Bonn", None, "007"] * 10, "member": [True, False] * 20}
    path = write_table(tmp_path, columns)
    table = data.open_data(path, words=True)
    assert table.kind == "table"
    assert table.feature_names == ("age", "town", "member")
    assert table.X.dtypes.tolist() == [np.float64, object, np.float64]
    assert table.X["town"].tolist()[:2] == ["Köln", "Bonn"]
    assert table.X["town"][3] == "007", "not a number"
    assert np.isnan(table.X["town"][2])
    assert "30 missing values are kept as NaN" in table.notes
    assert data.open_data(path).feature_names == ("age", "member")


@pytest.mark.parametrize("words", [True, False])
def test_rows_of_one_group_go_to_one_side(tmp_path, words):
    day = ["Mon", "Mon", "Tue", "Tue", "Wed", "Wed", "Thu", "Thu", None, None] * 4
    path = write_table(tmp_path, {"age": np.arange(40.0), "day": day})
    table = data.open_data(path, group_column="day", words=words)
    assert table.feature_names == ("age",)
    assert table.groups[:8].tolist() == table.groups[10:18].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(table.groups)) == 4 + 8, "a row without a value stands alone"
    train, test = data.split(table, seed=1)
    assert not set(table.groups[train]) & set(table.groups[test])
    with pytest.raises(ValueError, match="group_column 'days' is not a column"):
        data.open_data(path, group_column="days", words=words)
    with pytest.raises(ValueError, match="groups need a column of their own"):
        data.open_data(path, group_column="label", words=words)
    few = write_table(tmp_path, {"age": range(40), "site": [number // 8 for number in range(40)]})
    with pytest.raises(ValueError, match="puts 'no' into 5 groups: at least 6 are needed"):
        data.open_data(few, group_column="site", words=words)


def test_columns_that_no_model_can_use_are_left_out(tmp_path):
    columns = {
        "": range(40),
        "name": [f"person {number}" for number in range(40)],
        "nothing": [None] * 40,
        "price": ["1,200", "7"] * 20,
    }
    table = data.open_data(write_table(tmp_path, columns), words=True)
    assert table.feature_names == ("price",)
    notes = " ".join(table.notes)
    assert "too many different words: 'name'" in notes
    assert "empty: 'nothing'" in notes
    assert "without a name" in notes
    assert "'price' would be numeric but for 20 values such as '1,200'" in notes


def test_dates_become_seconds(tmp_path):
    columns = {
        "day": ["1970-01-02", None] * 20,
        "moment": ["2026-11-20T12:00:00+01:00"] * 40,
        "no": ["1970-99-99"] * 40,
    }
    table = data.open_data(write_table(tmp_path, columns), words=True)
    assert table.X["day"].tolist()[0] == 86_400
    assert np.isnan(table.X["day"][1])
    assert table.X["moment"][0] == 1_795_172_400
    assert table.X["no"][0] == "1970-99-99"
    assert "dates are read as seconds since 1970: 'day', 'moment'" in table.notes


def test_names_are_made_fit_for_a_signature(tmp_path):
    names = ["net income ($)", "a/b", "größe", "1st", "class", "self", "a b", "____", "市"]
    table = data.open_data(write_table(tmp_path, dict.fromkeys(names, [1.0] * 40)), words=True)
    assert len(set(table.feature_names)) == len(names)
    assert all(name.isidentifier() and name.isascii() and name[0] != "_" for name in table.feature_names)
    assert not set(table.feature_names) & {"class", "1st", "self"}
    assert "'net income ($) is net_income'" in " ".join(table.notes)


def test_a_table_without_a_usable_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"table\.csv has no column to learn from"):
        data.open_data(write_table(tmp_path, {"nothing": [None] * 40}), words=True)
    with pytest.raises(ValueError, match="infinite values in: 'age'"):
        data.open_data(write_table(tmp_path, {"age": [np.inf, 1] * 20}), words=True)


def test_flights_have_numbers_words_and_gaps():
    flights = data.load("flights")
    assert {np.dtype(object), np.dtype(np.float64)} == set(flights.X.dtypes)
    assert 0.1 < flights.X["pressure"].isna().mean() < 0.13
    train, test = data.split(flights)
    assert not set(flights.groups[train]) & set(flights.groups[test])
    assert flights.X["departs"].is_monotonic_increasing


def test_labels_are_read_as_they_are_written(tmp_path):
    """pandas reads large files in parts, and would type each part for itself."""
    lines = ["code,label", *(f"{row % 90:03},0{row % 2 + 1}" for row in range(300_000)), *["x,03"] * 100]
    (tmp_path / "many.csv").write_text("\n".join(lines))
    dataset = data.open_data(tmp_path / "many.csv", positive_label="01", words=True)
    assert dataset.class_names == ("not 01", "01")
    assert dataset.y.sum() == 150_000
    assert set(dataset.X["code"]) == {*(f"{code:03}" for code in range(90)), "x"}


def test_a_separator_at_the_end_of_each_line_shifts_nothing(tmp_path):
    lines = ["label,smoker,age", *(f"{'ab'[row % 2]},{row % 2},{row}," for row in range(40))]
    (tmp_path / "trailing.csv").write_text("\n".join(lines))
    dataset = data.open_data(tmp_path / "trailing.csv")
    assert dataset.class_names == ("a", "b")
    assert dataset.column("age").tolist() == list(range(40))


def test_dates_without_an_end_are_dates(tmp_path):
    table = data.open_data(write_table(tmp_path, {"until": ["9999-12-31", "1600-01-01"] * 20}), words=True)
    assert table.X["until"].tolist()[:2] == [253_402_214_400, -11_676_096_000]


@pytest.mark.parametrize("value", ["0,5", "12 %", "$3.20", "1,200.50"])
def test_numbers_that_are_written_as_words_are_told(tmp_path, value):
    for rows, values in ((20, [value, "7"] * 20), (40, [value] * 40)):
        table = data.open_data(write_table(tmp_path, {"price": values, "age": [1.0] * 40}), words=True)
        assert any(f"'price' would be numeric but for {rows} values such as" in note for note in table.notes)


def test_a_damaged_archive_is_refused(tmp_path):
    for name in ("t.csv.gz", "t.csv.zip"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 or not")
        with pytest.raises(ValueError, match="cannot be read as CSV"):
            data.open_data(tmp_path / name)


@pytest.fixture
def pictures():
    """Two objects in every image, on 30 % of the pixels of one and 10 % of the others; sizes differ."""
    labels = [np.zeros((10, 10 + number % 2 * 10), np.int32) for number in range(10)]
    for number, image in enumerate(labels):
        image[:1] = 1
        image[-2:] = 2 if number == 0 else 0
        image[0, 0] = 2
    images = [np.zeros((*image.shape, 1), np.uint8) for image in labels]
    return data.Dataset("cells", "mask", images, labels, ("background", "cell"), "drawn", "CC0", notes=("10 by 10",))


def test_images_with_masks_are_counted_in_objects_and_pixels(pictures):
    assert str(pictures) == ("cells: 10 images with masks, 20 objects, 12.0% of the pixels 'cell'\n  note: 10 by 10")
    same_size = np.stack([image[:, :10] for image in pictures.y])
    array = data.Dataset("cells", "mask", same_size, same_size, ("background", "cell"), "drawn", "CC0")
    assert str(array) == "cells: 10 images with masks, 20 objects, 12.0% of the pixels 'cell'"
    assert len(array) == len(pictures) == 10


def test_images_with_masks_are_split_without_classes(pictures):
    train, test = data.split(pictures, test_size=0.2, seed=1)
    assert (len(train), len(test)) == (8, 2)
    assert sorted([*train, *test]) == list(range(10))
    assert train.tolist() == sorted(train)
    assert data.split(pictures, test_size=0.2, seed=1)[1].tolist() == test.tolist()
    assert len({tuple(data.split(pictures, test_size=0.2, seed=seed)[1]) for seed in range(5)}) > 2


# --- series ------------------------------------------------------------------------------------------------------


def test_temperatures_stand_on_every_hour_with_their_gaps():
    temperatures = data.load("new_york_temperatures")
    assert temperatures.feature_names == ("EWR", "JFK", "LGA")
    assert temperatures.y.shape == (len(temperatures.X), 3)
    assert set(np.diff(temperatures.X)) == {np.timedelta64(1, "h")}
    assert np.isnan(temperatures.y).sum(axis=0).tolist() == [28, 24, 24]
    assert np.nanmin(temperatures.y) > -15
    assert np.nanmax(temperatures.y) < 40


def test_one_reading_only_is_denied_by_the_other_airports():
    temperatures = data.load("new_york_temperatures")
    odd = []
    for name in temperatures.feature_names:
        others = [temperatures.column(other) for other in temperatures.feature_names if other != name]
        odd += [(name, time) for time in temperatures.X[abs(temperatures.column(name) - np.mean(others, axis=0)) > 15]]
    assert odd == [("JFK", np.datetime64("2013-05-09T02:00:00"))]


def test_a_series_says_its_times_and_what_is_missing():
    y = np.array([[1.0, 2.0], [np.nan, 3.0], [4.0, np.nan]])
    days = np.arange("2013-01-01", "2013-01-04", dtype="datetime64[D]").astype("datetime64[s]")
    levels = data.Dataset("levels", "series", days, y, (), "drawn", "CC0", feature_names=("a", "b"), notes=("short",))
    assert str(levels) == (
        "levels: 3 times from 2013-01-01 00:00 to 2013-01-03 00:00, every day: 'a', 'b'; 2 values missing"
        "\n  note: short"
    )
    assert levels.column("b").tolist()[:2] == [2, 3]
    with pytest.raises(ValueError, match="levels has no numeric column 'c'"):
        levels.column("c")


def test_a_series_is_not_split_by_chance():
    with pytest.raises(ValueError, match=r"new_york_temperatures is a series.*cut it by time"):
        data.split(data.load("new_york_temperatures"))


@pytest.mark.parametrize(
    ("freq", "name"),
    [
        ("s", "second"),
        ("15min", "15 minutes"),
        ("h", "hour"),
        ("6h", "6 hours"),
        ("D", "day"),
        ("W", "week"),
        ("14D", "2 weeks"),
        ("MS", "month"),
        ("ME", "month"),
        ("2MS", "2 months"),
        ("QE", "quarter"),
        ("YS", "year"),
    ],
)
def test_a_step_has_a_name(freq, name):
    assert data.step_name(pd.date_range("1899-12-01", periods=30, freq=freq).to_numpy()) == name


def test_a_csv_can_be_read_as_text(write):
    frame = data.read_csv(write("a.csv", "code;when\n007;2013-01-01\nNA;\n"), as_text=True)
    assert frame["code"].tolist()[0] == "007"
    assert frame.isna().to_numpy().tolist() == [[False, False], [True, True]]
    with pytest.raises(FileNotFoundError, match="nothing is at"):
        data.read_csv("no.csv")
