"""The project's datasets, and the reader's own tables, texts and series: what is accepted, and what is said if not."""

import gzip
import hashlib
import json
import runpy
import warnings

import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.special import expit, softmax
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from helpers import data
from helpers.notebook import ROOT, UserError, fresh_process

TABLE = "height,weight,label\n" + "".join(f"{n / 2},{n % 7},{'yes' if n % 3 else 'no'}\n" for n in range(60))


@pytest.fixture
def write(tmp_path):
    def _write(content, name="a.csv", encoding="utf-8"):
        text = content if isinstance(content, str) else content.to_csv(index=False)
        (tmp_path / name).write_text(text, encoding=encoding, newline="")
        return tmp_path / name

    return _write


def table(columns, rows=40):
    return pd.DataFrame({**columns, "label": ["no", "yes"] * (rows // 2)})


def refused(message, read, *arguments, **options):
    with pytest.raises(UserError, match=message) as caught:
        read(*arguments, **options)
    assert "\n" not in str(caught.value)


# --- tables of numbers -------------------------------------------------------------------------------------------

SPELLINGS = {"a.csv": TABLE, "quoted.csv": TABLE.replace("height", '"height"'), "tabs.txt": TABLE.replace(",", "\t")}
SPELLINGS["trailing.CSV"] = TABLE.replace(",", ";").replace("\n", ";\n").replace("label;", "label")
SPELLINGS["office.tsv"] = "\ufeff" + TABLE.replace(",", " | ").replace("\n", " \r\n")


@pytest.mark.parametrize(("name", "text"), SPELLINGS.items(), ids=SPELLINGS)
def test_a_table_of_numbers(write, name, text):
    path = write(text, name)
    packed = path.with_name(f"{name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for dataset in (data.open_data(path), data.open_data(packed)):
        assert (dataset.kind, dataset.X.dtype, dataset.notes) == ("numeric", np.float64, ())
        np.testing.assert_array_equal(dataset.X, [[n / 2, n % 7] for n in range(60)])
        assert [dataset.class_names[label] for label in dataset.y] == ["yes" if n % 3 else "no" for n in range(60)]
        assert (dataset.feature_names, dataset.column("weight")[8]) == (("height", "weight"), 1)


def test_numbers_are_read_to_the_last_bit_and_what_hinders_that_is_told(write):
    numbers = np.random.default_rng(0).normal(size=40) * 10.0 ** np.arange(-20, 20)
    columns = {"x": numbers, "sim": [89 * 10**18 + n // 2 for n in range(40)], "price": "1.200,50 €"}
    dataset = data.open_data(write(table({**columns, "rank": ["unknown", *range(39)]})))
    np.testing.assert_array_equal(dataset.X[:, 0], numbers)
    assert dataset.feature_names == ("x", "sim")
    assert "column 'sim' holds whole numbers above 2^53, which float64 rounds" in " ".join(dataset.notes)
    for name, values in (("price", "40 values such as '1.200,50 €'"), ("rank", "1 values such as 'unknown'")):
        assert f"column {name!r} would be numeric but for {values}" in dataset.notes


def test_what_is_left_out_or_missing_is_noted(write):
    marks = ["", "?", " ", "NA", "nan"]
    rows = "".join(f"{n},{marks[n] if n < 5 else n},name{n},,{n % 2}\n" for n in range(30))
    path = write(",age,name,empty,label\n" + rows)
    for words, why in ((False, "not numeric: 'name'"), (True, "too many categories: 'name'")):
        dataset = data.open_data(path, words=words)
        assert np.isnan(dataset.column("age").astype(float)).tolist() == [True] * 5 + [False] * 25
        left_out = {f"columns left out, {each}" for each in (why, "empty: 'empty'", "without a name: 'Unnamed: 0'")}
        gaps = {"column 'age' reads '?', 'NA', 'nan' as missing", "5 missing values are kept as NaN"}
        assert set(dataset.notes) == left_out | gaps
    assert str(data.open_data(path)).startswith("a.csv: 30 numeric rows, 50.0% '1' (1), the rest '0' (0)\n  note: ")


# --- labels and groups -------------------------------------------------------------------------------------------

LABELS = [(["01", "NA"], "01", ("NA", "01"), 20), (["a", "b", "c", "d"], "b", ("not b", "b"), 10)]
LABELS += [(["yes", " yes", "no", "no "], "", ("no", "yes"), 20), (["9", "10"], "", ("9", "10"), 20)]
LABELS += [(["None", "churn"], "", ("None", "churn"), 20), (["-1", "1"], "", ("-1", "1"), 20)]


def test_what_stands_against_a_positive_label_is_told(write):
    path = write("x,label\n" + "".join(f"{n / 7},{'abc'[n % 3]}\n" for n in range(60)) + "1,Total\n")
    assert "'not a' holds the labels 'b: 20', 'c: 20', 'Total: 1'" in data.open_data(path, positive_label="a").notes


def test_nothing_but_a_date_that_separates_or_never_changes(write):
    for dates in (["2013-01-01", "2014-01-01"], ["2013-01-01"] * 2):
        assert len(data.open_data(write(table({"day": dates * 20})), words=True).notes) == 2


@pytest.mark.parametrize(("labels", "positive_label", "class_names", "positives"), LABELS)
def test_labels_are_read_as_they_are_written(write, labels, positive_label, class_names, positives):
    path = write("x,target\n" + "".join(f"{n},{labels[n % len(labels)]}\n" for n in range(40)))
    dataset = data.open_data(path, label_column="target", positive_label=positive_label)
    assert (dataset.class_names, dataset.y.sum(), dataset.y.dtype) == (class_names, positives, np.int64)
    assert dataset.y[labels.index(class_names[1])] == 1


def test_rows_of_one_group_go_to_one_side(write):
    day = ["Mon", "Mon ", "NA", "NA", "07", "07", "7", "7", None, None] * 4
    dataset = data.open_data(write(table({"age": np.arange(40.0), "day": day})), group_column="day", words=True)
    assert dataset.feature_names == ("age",)
    assert dataset.groups[:8].tolist() == dataset.groups[10:18].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(dataset.groups)) == 4 + 8, "a row without a value stands alone"
    train, test = data.split(dataset, seed=1)
    assert not set(dataset.groups[train]) & set(dataset.groups[test])


def test_columns_that_should_be_no_features_are_told(write):
    rng = np.random.default_rng(0)
    columns = {"x": rng.normal(size=40).round(3), "copy": ["A", "B"] * 20, "number": np.arange(40) ** 2, "one": 7}
    columns |= {
        "late": np.where(np.arange(40) % 2, 50, 1) + rng.normal(size=40),
        "ward": [f"w{n // 2}" for n in range(40)],
    }
    columns["gap"] = [None, None, *["c", "d"] * 19]
    columns |= {"boat": ["1", None] * 20, "patient": [f"p{n // 2}" for n in range(40)]}
    dataset = data.open_data(write(table(columns)), group_column="patient", words=True)
    assert dataset.notes[:-1] == (
        "warning: columns that give the label away, in other words: 'copy', 'boat'",
        "columns that hold whole numbers, all different, as ids do: 'number'",
        "columns that hold one value only: 'one'",
        "warning: columns that alone separate the classes perfectly, as what is known only after the label: "
        "'late', 'gap'",
        "columns that are the group column in other words: 'ward'",
    )
    assert "\n  warning: columns that give" in str(dataset) and "\n  note: columns that hold" in str(dataset)


def test_words_for_missing_values_are_names_in_columns_of_names(write):
    columns = {"x": [1.5, 2.5, "NA", 3.5] * 10, "area": ["NA", "EU", "?", None] * 10, "zip": ["07", "7"] * 20}
    columns["code"] = [
        *["NA", "null", "a ", " a", "A", "b", "c", "d"] * 4,
        *["NA", "null", "A", "b", "c", "d", "a", "e"][::-1],
    ]
    dataset = data.open_data(write(table(columns)), words=True, group_column="code")
    assert dataset.X["area"][:3].tolist() == ["NA", "EU", "?"] and dataset.X["area"].isna().sum() == 10
    assert dataset.X["zip"][:2].tolist() == ["07", "7"] and dataset.X["x"].isna().sum() == 10
    assert dataset.groups[:8].tolist() == [0, 1, 2, 2, 3, 4, 5, 6]
    for note in (
        "'code' keeps 'NA', 'null' as",
        "'code' holds names that may be one: ",
        "'area' keeps 'NA', '?' as",
    ):
        assert note in " ".join(dataset.notes)


# --- tables with categorical columns -----------------------------------------------------------------------------


def test_categorical_columns_are_kept_and_dates_become_seconds(write):
    columns = {"age": [1.5, np.nan] * 20, "town": ["Köln", "Bonn", None, "007"] * 10, "member": [True, False] * 20}
    columns |= {"day": "2026-11-20T12:00:00.250+01:00", "until": ["9999-12-31", None] * 20, "no": "1970-99-99"}
    dataset = data.open_data(write(table(columns)), words=True)
    assert (dataset.kind, dataset.feature_names) == ("table", tuple(columns))
    assert dataset.X.dtypes.tolist() == [np.float64, object, np.float64, np.float64, np.float64, object]
    assert dataset.X["town"][[0, 1, 3]].tolist() == ["Köln", "Bonn", "007"]
    assert dataset.X.isna().sum().tolist() == [20, 10, 0, 0, 20, 0]
    assert dataset.X["member"].tolist() == dataset.column("member").tolist() == [1, 0] * 20
    assert dataset.X.loc[0, ["day", "until", "no"]].tolist() == [1_795_172_400, 253_402_214_400, "1970-99-99"]
    assert "dates are read as seconds since 1970: 'day', 'until'" in dataset.notes
    assert "column 'no' holds dates as words, such as '1970-99-99': write them as 2013-05-09" in dataset.notes
    assert data.open_data(write(table(columns))).feature_names == ("age", "member")


def test_names_are_made_fit_for_a_signature(write):
    names = ["net income ($)", "größe", "1st", "class", "self", "a b", "a/b", "市"]
    dataset = data.open_data(write(table(dict.fromkeys(names, [1.0] * 40))), words=True)
    assert dataset.feature_names == ("net_income", "groe", "x_1st", "x_class", "x_self", "a_b", "a_b_2", "column")
    assert "'net income ($) is net_income'" in " ".join(dataset.notes)


# --- texts -------------------------------------------------------------------------------------------------------


def test_a_table_with_texts(write):
    dataset = data.open_data(write("review,label\n" + '"good, very",pos\n,neg\n' * 10), text_column="review")
    notes = ("10 rows without text are kept as empty texts",)
    assert (dataset.kind, dataset.X[:2].tolist(), dataset.notes) == ("text", ["good, very", ""], notes)


# str.splitlines would break at U+0085 and U+2028, and make a line of half a sentence.
LINES = ("{label}\tSee\tyou, {n}", "See\tyou, "), ('"See you, {n}\t{label}\r', '"See you, ')
LINES += (("__label__{label}\tone {n}", "one "),)
LINES += (("__label__{label} one\u0085two\u2028three {n}", "one\u0085two\u2028three "),)


@pytest.mark.parametrize(("line", "text"), LINES)
def test_text_files(write, line, text):
    lines = [line.format(label=("spam", "ham")[n % 2], n=n or "") for n in range(30)]
    dataset = data.open_data(write("\n".join([*lines, "", " ", ""]), "a.txt"))
    assert (dataset.kind, dataset.class_names, dataset.y[:2].tolist()) == ("text", ("ham", "spam"), [1, 0])
    assert dataset.X[:2].tolist() == [text.strip(), f"{text}1"]


# --- what is refused ---------------------------------------------------------------------------------------------

HEAD = "x,label\n"
FAULTS = [
    ("a.csv", "", {}, "is empty"),
    ("a.csv", HEAD, {}, "a header and no rows"),
    ("a.csv", "a,b\n1,2\n", {}, "label_column 'label' is not a column of a.csv; there are: 'a', 'b'"),
    ("a.csv", TABLE, {"text_column": "label"}, "of their own; got 'label', 'label'"),
    ("a.csv", TABLE, {"positive_label": "maybe"}, "'maybe' is no label of column 'label' of a.csv: 'no', 'yes'"),
    ("a.csv", HEAD + "1,a\n" * 30, {}, "one class only"),
    ("a.csv", HEAD + "1,a\n" * 30 + "1,b\n" * 9, {}, "9 rows of class 'b': at least 10"),
    ("a.csv", table({"x": range(40), "day": 5 * [*range(8)]}), {"group_column": "day"}, "into 4 groups: at least 6"),
    (
        "a.csv",
        table({"x": range(40), "day": 8 * [*"abcde"]}),
        {"time_column": "day"},
        "holds 'a'.* write times by ISO 8601",
    ),
    ("a.csv", HEAD + "".join(f"{n},{n}\n" for n in range(30)), {}, "30 labels.*name one as positive_label"),
    ("a.csv", HEAD + "1,a\n2,b\n" * 20 + "3,\n" * 2, {}, "no label in 2 of 42 rows"),
    ("a.csv", HEAD + "red,a\nblue,b\n" * 20, {}, "no numeric column: for a text, name its column as text_column"),
    ("a.csv", HEAD + "1,a\n-inf,b\n" * 20, {}, "infinite.* in: 'x'"),
    ("a.csv", HEAD + "1,a\n2,b\n3,A\n" * 20, {"positive_label": "b"}, r"several ways \('A', 'a'\): write it in one"),
    ("a.csv", HEAD + "1,1\n2,0\n3,1.0\n" * 20, {"positive_label": "1"}, r"several ways \('1', '1.0'\)"),
    ("a.csv", HEAD + "1,1\n2,0\n3,nan\n" * 20, {"positive_label": "1"}, r"no label in 20 of 60 rows \('nan'\)"),
    (
        "a.csv",
        "y," + HEAD + "7,1.1,a\n7,2.1,b\n" * 20 + "7,3,label\n",
        {"positive_label": "a"},
        "label_column 'label' .*a value of",
    ),
    ("a.csv", HEAD + '"1,107",a\n"900",b\n' * 20, {}, "numeric column: column 'x' would .* 20 values such as '1,107'"),
    ("a.txt", "\tone\nspam\ttwo\n" * 20, {}, "a.txt has no label in 20 of 40 rows"),
    ("a.txt", "__label__a __label__b one\n__label__b two\n" * 20, {}, "line 1 of a.txt is neither.* with one label"),
    *(("a.txt", f"{one} one\n\nno\n", {}, "line 3 of a.txt is neither.*'no'") for one in ("a\t", "__label__a")),
    *((name, HEAD + "1,a\t\n" * 3000 + "é", {}, "not UTF-8") for name in ("a.csv", "a.txt")),
    ("a.jpg", "", {}, "a.jpg is one image: name a folder"),
]


@pytest.mark.parametrize(("name", "text", "options", "message"), FAULTS)
def test_faults_get_one_sentence(write, name, text, options, message):
    refused(message, data.open_data, write(text, name, encoding="latin-1"), **options)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing is at .*looked in"):
        data.open_data(tmp_path / "no.csv")
    for path in ("a" * 300, "a\0b", "~no-such-user-here/a"):
        with pytest.raises((UserError, FileNotFoundError), match=r"cannot be opened|nothing is at"):
            data.open_series(path)
    refused("is a folder: it has no column of groups or times", data.open_data, tmp_path, time_column="day")
    # As a path, an empty name would be the folder in which the process happens to run.
    refused("path is empty: name a file or a folder", data.open_data, "")


# --- the project's datasets --------------------------------------------------------------------------------------


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no dataset 'cancer'; there are: breast_cancer"):
        data.load("cancer")
    with pytest.raises(ValueError, match="breast_cancer has no column 'age'; it has: 'mean radius'"):
        data.load("breast_cancer").column("age")
    with pytest.raises(ModuleNotFoundError, match="pip install no-such-thing"):
        data.package_file("no_such_thing", "a.csv")


def test_split_keeps_classes_in_proportion_and_covers_all_rows():
    dataset = data.load("breast_cancer")
    parts = [data.split(dataset, test_size=0.3, seed=seed) for seed in (0, 1, 1)]
    for train, test in parts:
        assert [*train] == sorted(train) and sorted([*train, *test]) == list(range(len(dataset)))
        assert dataset.y[test].sum() == 64
    assert parts[1][1].tolist() == parts[2][1].tolist() != parts[0][1].tolist()
    validation, judged = data.split(dataset, train, test_size=0.5)
    assert sorted([*validation, *judged]) == [*train], "what is left is split again"
    assert abs(dataset.y[validation].sum() - dataset.y[judged].sum()) <= 1
    for test_size in (0, 1, float("nan")):
        with pytest.raises(ValueError, match=r"test_size must lie in \(0, 1\)"):
            data.split(dataset, test_size=test_size)
    with pytest.raises(ValueError, match=r"new_york_temperatures is a series.*cut it by time"):
        data.split(data.load("new_york_temperatures"))


def test_the_network_of_late_flights_has_seen_half_of_the_days_and_says_too_much():
    """What lesson 20 rests on. Two trainings differ in their bytes, and hardly in what they predict."""
    keras = pytest.importorskip("keras")
    flights, folder = data.load("late_flights"), ROOT / "datasets" / "late_flights"
    train, unseen = data.split(flights, test_size=0.5)
    digest = hashlib.sha256(np.unique(flights.groups[train]).tobytes()).hexdigest()
    assert digest.startswith("74546387d2e3"), "the split has changed: the network knows rows that count as unseen"
    make = runpy.run_path(str(folder / "make_network.py"))["make"]
    X, y = flights.X.astype("float32"), flights.y
    for network in (keras.saving.load_model(folder / "network.keras"), make(X[train], y[train])):
        prob = network.predict(X[unseen], batch_size=4096, verbose=0)[:, 0]
        assert 0.74 < roc_auc_score(y[unseen], prob) < 0.76
        assert 0.40 < prob.mean() < 0.50 and 0.18 < y[unseen].mean() < 0.19


def test_the_overfit_network_of_late_flights_fits_its_own_days_far_better():
    """What lesson 21 repairs: it ranks, and its log loss on other days is worse than the base rate's."""
    keras = pytest.importorskip("keras")
    flights, folder = data.load("late_flights"), ROOT / "datasets" / "late_flights"
    train, unseen = data.split(flights, test_size=0.5)
    network, y = keras.saving.load_model(folder / "overfit.keras"), flights.y
    output = network.predict(flights.X.astype("float32"), batch_size=4096, verbose=0)
    prob = output["probability"][:, 0].astype(float)
    np.testing.assert_allclose(prob, expit(output["logit"][:, 0]), atol=1e-6)
    assert log_loss(y[train], prob[train]) < 0.38 < 0.5 < log_loss(y[unseen], prob[unseen]) < 0.53
    assert 0.70 < roc_auc_score(y[unseen], prob[unseen]) < 0.73
    made = runpy.run_path(str(folder / "make_network.py"))["make_overfit"](flights.X[train], y[train])
    again = made.predict(flights.X[unseen], batch_size=4096, verbose=0)["probability"][:, 0]
    assert 0.47 < log_loss(y[unseen], np.clip(again.astype(float), 1e-6, 1 - 1e-6)) < 0.56


def test_the_forecasters_of_new_york_zigzag_each_in_its_own_way_and_the_one_from_zeros_does_not():
    """What lesson 52 rests on."""
    keras = pytest.importorskip("keras")
    folder, y = ROOT / "datasets" / "new_york_temperatures", data.load("new_york_temperatures").column("JFK")
    recipe, end = runpy.run_path(str(folder / "make_network.py")), int(0.6 * len(y))
    learnt, later = recipe["windows"](y, end), recipe["windows"](y[end:], int(0.2 * len(y)))
    assert [len(part) for part in learnt] == [5071, 5071]

    def second(network):
        forecast = network.predict(later[0], batch_size=4096, verbose=0).astype(float)
        assert 2.0 < np.sqrt(np.mean((forecast - later[1]) ** 2)) < 2.3
        return np.diff(forecast, 2, axis=1)

    five = [second(keras.saving.load_model(folder / f"network_{seed}.keras")) for seed in range(5)]
    again = second(recipe["make"](*learnt, seed=9))
    for bends in (*five, again):
        assert 0.65 < np.abs(bends).mean() < 0.9
    # Independent zigzags: the mean of five keeps a fifth of the mean square.
    single, averaged = np.mean(np.square(five)), np.mean(np.mean(five, axis=0) ** 2)
    assert 0.2 < averaged / single < 0.26
    for zeros in (keras.saving.load_model(folder / "zeros_0.keras"), recipe["make"](*learnt, seed=9, start="zeros")):
        assert np.abs(second(zeros)).mean() < 0.2


def test_the_network_of_digits_is_overconfident_on_those_it_has_not_seen():
    keras = pytest.importorskip("keras")
    digits, digit, folder = data.load("digits"), load_digits().target, ROOT / "datasets" / "digits"
    train, unseen = data.split(digits, test_size=0.9)
    assert (len(train), int(digit[train].sum())) == (179, 816), "the split has changed: the network knows unseen rows"
    X, make = digits.X.astype("float32"), runpy.run_path(str(folder / "make_network.py"))["make"]
    for network in (keras.saving.load_model(folder / "network.keras"), make(X[train], digit[train])):
        prob = softmax(network.predict(X, batch_size=4096, verbose=0), axis=1)
        right = prob.argmax(axis=1) == digit
        assert right[train].all() and 0.90 < right[unseen].mean() < 0.94
        assert 0.95 < prob[unseen].max(axis=1).mean() < 0.98


def test_the_network_of_textures_takes_small_images_from_0_to_1():
    """What lesson 11 rests on: forgetting to divide by 255 leaves most decisions as they are, and no probability."""
    keras = pytest.importorskip("keras")
    textures, folder = data.load("textures"), ROOT / "datasets" / "textures"
    train, test = data.split(textures)
    assert sorted(set(textures.groups[test])) == ["grass 0", "gravel 2"], "the network knows tiles of other bands"
    made = data.make_network("textures", textures.X[train], textures.y[train])
    for network in (keras.saving.load_model(folder / "network.keras"), made):
        assert (network.input_shape, network.output_shape) == ((None, 64, 64, 3), (None, 1))
        logits = {scale: network.predict(textures.X[test] / scale, verbose=0)[:, 0] for scale in (1, 255)}
        right = {scale: ((values > 0) == textures.y[test]).mean() for scale, values in logits.items()}
        # On some processors the training ends in a worse network.
        assert right[255] > (0.8 if network is made else 0.9) and right[1] > 0.6
        assert (abs(logits[1]) > 7).mean() > 0.9 > (abs(logits[255]) > 7).mean()


def test_the_network_of_cells_finds_the_objects_of_drawings_that_it_has_not_seen():
    """What lessons 43 and 44 rest on: masks and markers, nearly without a miss."""
    keras = pytest.importorskip("keras")
    from helpers import masks, unet

    cells = data.load("cells")
    network = keras.saving.load_model(ROOT / "datasets" / "cells" / "markers.keras")
    found = [unet.predict_objects(network, image) for image in cells.X[700:760]]
    counts = [masks.count_objects(*pair) for pair in zip(cells.y[700:760], found, strict=True)]
    assert sum(counts, masks.ObjectCounts(0, 0, 0)).f1 > 0.98
    ious = [masks.iou(true > 0, labels > 0) for true, labels in zip(cells.y[700:760], found, strict=True)]
    assert 0.94 < np.mean(ious) < 0.96


def test_the_model_of_flights_stands_behind_its_preprocessing_and_has_not_seen_the_other_days():
    """What lessons 30 to 32 rest on: features of float64, a network of float32."""
    keras = pytest.importorskip("keras")
    from helpers.bundle import TRUSTED

    flights, folder = data.load("flights"), ROOT / "datasets" / "flights"
    train, test = data.split(flights, seed=0)
    stored = (
        skops.io.load(folder / "preprocessing.skops", trusted=TRUSTED),
        keras.saving.load_model(folder / "network.keras"),
    )
    made = data.make_network("flights", flights.X.iloc[train], flights.y[train])
    features = [preprocessing.transform(flights.X.iloc[test]) for preprocessing, _ in (stored, made)]
    assert np.array_equal(*features) and features[0].shape == (2010, 178) and features[0].dtype == np.float64
    for _, network in (stored, made):
        prob = network.predict(features[0].astype("float32"), batch_size=4096, verbose=0)[:, 0]
        assert prob.dtype == np.float32 and 0.65 < roc_auc_score(flights.y[test], prob) < 0.69
        assert 600 < (prob >= 0.25).sum() < 850
    numbers = flights.X.iloc[train][["temp", "wind_speed"]]
    preprocessing, network = data.make_network("flights", numbers, flights.y[train], seed=1)
    assert network.input_shape == (None, preprocessing.transform(numbers).shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.make_network("flights", numbers.assign(constant=1.0), flights.y[train])
    for message, X in {
        "none of the 2 columns holds numbers": flights.X[["dest", "origin"]],
        "'narrow' spans only 5e-07: give it in a smaller unit": flights.X.assign(narrow=5e-7 * flights.y),
    }.items():
        refused(message, data.make_network, "flights", X, flights.y)


def test_the_latent_network_of_flights_has_seen_two_thirds_of_the_training_days():
    """What lessons 60 to 62 rest on: an embedding and a logit, with days left to fit what comes after them."""
    keras = pytest.importorskip("keras")
    flights, folder = data.load("flights"), ROOT / "datasets" / "flights"
    rest, test = data.split(flights, seed=0)
    train, validation = data.split(flights, rest, seed=0)
    assert (len(train), len(validation)) == (2666, 1324), "the split has changed: the network knows unseen rows"
    X = flights.X.fillna({name: "" for name in flights.X if flights.X[name].dtype == object})
    recipe = runpy.run_path(str(folder / "make_network.py"))
    scale = recipe["scale"](X.iloc[train])
    features = {rows: scale.transform(X.iloc[which]) for rows, which in (("train", train), ("test", test))}
    made = recipe["make_latent"](features["train"], flights.y[train])
    for network in (keras.saving.load_model(folder / "latent.keras"), made):
        found = network.predict(features["test"].astype("float32"), batch_size=4096, verbose=0)
        assert found["embedding"].shape == (2010, 8) and 0.66 < roc_auc_score(flights.y[test], found["logit"]) < 0.71


def test_the_table_model_of_flights_takes_columns_as_they_are():
    """What lesson 14 exports: look-ups of strings, imputing and scaling are inside."""
    keras = pytest.importorskip("keras")
    flights, folder = data.load("flights"), ROOT / "datasets" / "flights"
    train, test = data.split(flights, seed=0)
    X = flights.X.fillna({name: "" for name in flights.X if flights.X[name].dtype == object})
    recipe = runpy.run_path(str(folder / "make_network.py"))
    made = recipe["make_table"](X.iloc[train], flights.y[train])
    for network in (keras.saving.load_model(folder / "table.keras"), made):
        found = network(recipe["tensors"](X.iloc[test]))["probability"].numpy()
        assert found.shape == (2010, 1) and 0.66 < roc_auc_score(flights.y[test], found) < 0.70
    strange = X.iloc[test[:2]].assign(dest="nowhere", temp=np.nan, carrier="")
    assert np.isfinite(made(recipe["tensors"](strange))["probability"]).all(), "unknown and missing values are taken"


def test_the_table_model_is_trained_on_tables_without_a_known_string_too():
    """A column whose strings are all missing has no vocabulary, and is left out."""
    pytest.importorskip("keras")
    X = pd.DataFrame({"a": [1.0, np.nan] * 8, "empty": [np.nan] * 16, "town": [""] * 16})
    network = data.make_network("flights", X, np.arange(16) // 2 % 2, recipe="make_table", seed=1)
    assert list(network.input) == ["a", "empty"]


def test_the_network_of_breast_cancer_takes_standardised_rows_and_has_seen_the_training_rows():
    """What lessons on inference rest on: without the scaler every row is positive, and the ranking hardly moves."""
    keras = pytest.importorskip("keras")
    rows, file = data.load("breast_cancer"), ROOT / "datasets" / "breast_cancer" / "network.keras"
    train, test = data.split(rows, seed=0)
    digest = hashlib.sha256(train.astype("<i8").tobytes()).hexdigest()
    assert digest.startswith("28e5ae59ff97"), "the split has changed: the network knows rows that count as unseen"
    stored = keras.saving.load_model(file)
    assert {weight.dtype for weight in stored.weights} == {"float32"} and file.stat().st_size < 30_000
    scale = StandardScaler().fit(rows.X[train])
    trained = data.make_network("breast_cancer", scale.transform(rows.X[train]), rows.y[train])
    for network in (stored, trained):
        logit = network.predict(scale.transform(rows.X[test]).astype("float32"), verbose=0)[:, 0]
        assert 0.93 < ((logit >= 0) == rows.y[test]).mean() < 0.98 < roc_auc_score(rows.y[test], logit)
        assert logit.max() > 16.65, "beyond it, a float32 sigmoid is exactly 1"
        unscaled = network.predict(rows.X[test].astype("float32"), verbose=0)[:, 0]
        assert (unscaled > 0).all() and roc_auc_score(rows.y[test], unscaled) > 0.9


def test_the_recipe_of_breast_cancer_takes_missing_values_and_few_rows():
    pytest.importorskip("keras")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, 3))
    y = (X[:, 0] > 0).astype(int)
    X[::5, 1] = np.nan
    logit = data.make_network("breast_cancer", X, y, seed=1).predict(np.nan_to_num(X), verbose=0)[:, 0]
    assert np.isfinite(logit).all() and roc_auc_score(y, logit) > 0.9


def test_the_network_of_movie_reviews_takes_strings_has_seen_the_first_part_and_knows_no_order():
    """What lesson 12 rests on. Two trainings differ in their bytes, and hardly in what they predict."""
    keras, tf = pytest.importorskip("keras"), pytest.importorskip("tensorflow")
    reviews, path = data.load("movie_reviews"), ROOT / "datasets" / "movie_reviews" / "network.keras"
    train, test = data.split(reviews, seed=0)
    digest = hashlib.sha256(train.astype("int64").tobytes()).hexdigest()
    assert digest.startswith("6ba698c6a793"), "the split has changed: the network knows sentences that count as unseen"
    assert path.stat().st_size < 600_000
    texts = tf.constant([*reviews.X[test], "", "not a bad film", "a bad film not"])
    made = data.make_network("movie_reviews", reviews.X[train], reviews.y[train])
    for network in (keras.saving.load_model(path), made):
        output = network.predict(texts, batch_size=512, verbose=0)
        logit, prob = output["logit"][:, 0], output["probability"][:, 0]
        assert logit.dtype == np.float32 and np.isfinite(logit).all()
        assert 0.82 < roc_auc_score(reviews.y[test], logit[:-3]) < 0.845
        assert np.allclose(prob, 1 / (1 + np.exp(-logit)), atol=1e-6)
        assert 0.4 < prob[-3] < 0.6, "an empty text has a mean of zero"
        assert prob[-2] == pytest.approx(prob[-1], abs=1e-6) and prob[-1] < 0.1


def test_the_recipe_of_movie_reviews_takes_any_texts_and_can_be_saved(tmp_path):
    keras, tf = pytest.importorskip("keras"), pytest.importorskip("tensorflow")
    texts = ["", "...", "\U0001f600 \U0001f600", "slow\x85paced slow", "\0", "до свидания", "good " * 900, "a"] * 4
    network = data.make_network("movie_reviews", texts, np.arange(32) % 2, seed=1)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    one, two = (each.predict(tf.constant(texts), verbose=0)["logit"] for each in (network, again))
    assert np.isfinite(one).all() and np.array_equal(one, two)
    refused("none of the 4 texts holds a word", data.make_network, "movie_reviews", ["", "..."] * 2, np.arange(4) % 2)


def test_the_tokenizer_of_movie_reviews_is_made_the_same_each_time_and_its_network_ranks():
    """What lesson 34 rests on. The tokenizer's file is made again byte by byte, the network in its predictions."""
    keras, tokenizers = pytest.importorskip("keras"), pytest.importorskip("tokenizers")
    reviews, folder = data.load("movie_reviews"), ROOT / "datasets" / "movie_reviews"
    train, test = data.split(reviews, seed=0)
    file, path = folder / "tokenizer.json", folder / "subwords.keras"
    assert file.stat().st_size < 300_000 and path.stat().st_size < 600_000
    make = runpy.run_path(str(folder / "make_tokenizer.py"))["make"]
    tokenizer, made = make(reviews.X[train], reviews.y[train])
    assert json.loads(tokenizer.to_str()) == json.loads(file.read_text(encoding="utf-8"))
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    assert tokenizer.encode("\u00c9clair, UNWATCHABLE").tokens == tokenizer.encode("eclair , unwatchable").tokens
    texts = [*reviews.X[test], "", "\u4e00", "good film " * 5000]
    ids = np.array([encoded.ids for encoded in tokenizer.encode_batch(texts)])
    assert ids.shape[1] == 55 and ids.max() < tokenizer.get_vocab_size() == 4000
    assert ids[-3].tolist() == [2, 3] + [0] * 53, "[CLS] and [SEP] around nothing, and padding"
    for network in (keras.saving.load_model(path), made):
        output = network.predict(ids, batch_size=512, verbose=0)
        logit = output["logit"][:, 0]
        assert logit.dtype == np.float32 and np.isfinite(logit).all()
        assert 0.81 < roc_auc_score(reviews.y[test], logit[:-3]) < 0.835
        assert np.allclose(output["probability"][:, 0], 1 / (1 + np.exp(-logit)), atol=1e-6)
        shorter = network.predict(ids[-3:-2, :2], verbose=0)["logit"]
        assert np.allclose(shorter, logit[-3], atol=1e-6), "padding changes nothing"


def test_the_recipe_of_the_tokenizer_takes_any_texts_and_writes_both_files(tmp_path):
    keras, tokenizers = pytest.importorskip("keras"), pytest.importorskip("tokenizers")
    recipe = runpy.run_path(str(ROOT / "datasets" / "movie_reviews" / "make_tokenizer.py"))
    texts = ["", "...", "\U0001f600 \U0001f600", "slow\x85paced", "\0", "\u4e00\u90e8", "good " * 90, "a" * 200] * 4
    recipe["save"](tmp_path, texts, np.arange(32) % 2, seed=1)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    network = keras.saving.load_model(tmp_path / "subwords.keras")
    ids = np.array([encoded.ids for encoded in tokenizer.encode_batch(texts)])
    assert np.isfinite(network.predict(ids, verbose=0)["logit"]).all()
    refused("none of the 4 texts holds a character", recipe["make"], ["", " "] * 2, np.arange(4) % 2)


def test_a_tokenizer_from_a_file_asks_nobody(tmp_path):
    """In a fresh process: nothing of a hub is imported, and Python opens no socket."""
    pytest.importorskip("tokenizers")
    (tmp_path / "offline.py").write_text(
        "import sys\n"
        "events = []\n"
        "sys.addaudithook(lambda event, _: event.startswith('socket.') and events.append(event))\n"
        "from tokenizers import Tokenizer\n"
        "ids = Tokenizer.from_file(sys.argv[1]).encode('a fine film').ids\n"
        "print(len(ids), 'huggingface_hub' in sys.modules, events)\n"
    )
    file = ROOT / "datasets" / "movie_reviews" / "tokenizer.json"
    assert fresh_process(tmp_path / "offline.py", file).split() == ["5", "False", "[]"]


def test_a_second_split_keeps_groups_whole():
    flights = data.load("late_flights")
    winter = np.flatnonzero(flights.groups < 60)
    validation, test = data.split(flights, winter, test_size=0.5, seed=1)
    assert sorted([*validation, *test]) == [*winter]
    assert not set(flights.groups[validation]) & set(flights.groups[test])


def test_with_a_time_column_the_last_rows_are_tested(write):
    days = [f"{1 + (7 * n) % 20:02}/03/2024" for n in range(40)]
    options = {"time_column": "day", "time_format": "%d/%m/%Y", "group_column": "who"}
    rows = data.open_data(write(table({"x": range(40), "day": days, "who": 10 * [*range(4)]}), "a.csv"), **options)
    assert rows.feature_names == ("x",)
    assert [str(time)[8:10] + "/03/2024" for time in rows.times] == days
    train, test = data.split(rows, test_size=0.3, seed=1)
    assert sorted([*train, *test]) == list(range(40)) and len(test) == 12
    assert rows.times[train].max() < rows.times[test].min()
    validation, judged = data.split(rows, test, test_size=0.4)
    assert rows.times[validation].max() < rows.times[judged].min()
    assert len(judged) == 6, "of the 5 rows that were asked for, one shares its day with a sixth"
    late = data.Dataset(**vars(rows) | {"y": (rows.times > rows.times[train].max()).astype(int)})
    refused("before or from 2024-03-15 00:00:00 on, all rows are of one class", data.split, late)


def test_a_network_is_trained_on_other_rows_by_the_recipe_of_the_stored_one():
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    network = data.make_network("late_flights", X, (X[:, 0] > 0).astype(int), seed=1, weighted=False)
    assert isinstance(network, keras.Model) and network.predict(X, verbose=0).shape == (80, 1)


def test_images_with_masks_are_counted_in_objects_and_pixels_and_split_without_classes():
    labels = [np.zeros((10, 10 + number % 2 * 10), np.int32) for number in range(10)]
    for image in labels:
        image[0, 0], image[0, 1:] = 2, 1
    pictures = data.Dataset("cells", "mask", labels, labels, ("background", "cell"), "", "CC0", notes=("10 by 10",))
    assert str(pictures) == "cells: 10 images with masks, 20 objects, 10.0% of the pixels 'cell'\n  note: 10 by 10"
    train, test = data.split(pictures, test_size=0.2, seed=1)
    assert (len(train), sorted([*train, *test])) == (8, list(range(10)))


# --- series ------------------------------------------------------------------------------------------------------


def hours(rows=100, **columns):
    times = pd.date_range("2013-03-01", periods=rows, freq="h").strftime("%Y-%m-%d %H:%M")
    return pd.DataFrame({"time": times, "level": np.arange(rows) ** 2 / 8, **columns})


STEPS = {"30s": "30 seconds", "h": "hour", "14D": "2 weeks", "ME": "month", "2MS": "2 months", "QE": "quarter"}


@pytest.mark.parametrize(("freq", "name"), STEPS.items())
def test_times_and_values_come_back_whatever_the_step(write, freq, name):
    times = pd.date_range("1899-12-01", periods=100, freq=freq)
    series = data.open_series(write(hours(time=times.strftime("%Y-%m-%d %H:%M:%S"))))
    assert (series.kind, series.name, series.feature_names, series.notes) == ("series", "a.csv", ("level",), ())
    assert (series.X.dtype, series.y.shape, series.y.dtype) == ("datetime64[s]", (100, 1), np.float64)
    np.testing.assert_array_equal(series.X, times.to_numpy().astype("datetime64[s]"))
    assert series.column("level").tolist() == [n * n / 8 for n in range(100)]
    assert f", every {name}: 'level'; 0 values missing" in str(series)


@pytest.mark.parametrize("freq", ["h", "D", "MS", "ME", "7D"])
def test_missing_lines_become_nan_and_order_does_not_matter(write, freq):
    """pandas' asfreq is the oracle."""
    full = pd.Series(np.arange(90.0), index=pd.date_range("2001-01-01", periods=90, freq=freq), name="v")
    for seed in range(5):
        kept = full.drop(full.index[1:-1].to_series().sample(12, random_state=seed))
        # Without a name for the index, as pandas writes it.
        series, expected = data.open_series(write(kept.sample(frac=1, random_state=seed).to_csv())), kept.asfreq(freq)
        np.testing.assert_array_equal(series.X, expected.index.to_numpy().astype("datetime64[s]"))
        np.testing.assert_array_equal(series.y[:, 0], expected.to_numpy())


def test_what_was_changed_is_noted_and_other_columns_are_passed_over(write):
    frame = hours().drop(index=[5, 6, 40]).iloc[::-1].assign(remark=np.nan, ok="yes").reset_index(names="")
    frame.loc[78, "level"] = np.nan
    series = data.open_series(write(frame))
    assert np.flatnonzero(np.isnan(series.y[:, 0])).tolist() == [5, 6, 20, 40]
    assert str(series) == (
        "a.csv: 100 times from 2013-03-01 00:00 to 2013-03-05 03:00, every hour: 'level'; 4 values missing"
        "\n  note: lines are sorted by time\n  note: 3 steps have no line and are NaN"
    )


def test_clocks_that_change(write):
    new_york = {"periods": 100, "freq": "h", "tz": "America/New_York"}
    autumn, spring = pd.date_range("2013-11-01", **new_york), pd.date_range("2013-03-09", **new_york)
    for times in (
        [time.isoformat() for time in autumn],
        *map(autumn.tz_convert("UTC").strftime, ("%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M UTC")),
    ):
        series = data.open_series(write(hours(time=times)))
        np.testing.assert_array_equal(series.X, autumn.tz_convert(None).to_numpy().astype("datetime64[s]"))
        assert series.notes == ("times have an offset and are turned into UTC",)
    local = write(hours(time=autumn.strftime("%Y-%m-%d %H:%M")))
    refused(r"2013-11-03 01:00:00 stands in lines 51, 52 of a\.csv.*clocks.*-04:00", data.open_series, local)
    assert np.isnan(data.open_series(write(hours(time=spring.strftime("%Y-%m-%d %H:%M")))).y).sum() == 1


def test_days_of_a_place_business_days_and_decimal_commas(write):
    days = pd.date_range("2013-09-01", periods=120, tz="America/New_York", name="t")
    values = pd.DataFrame({"v": np.arange(120) / 8}, index=days)
    local = data.open_series(write(values.to_csv(), "a.csv"))
    np.testing.assert_array_equal(local.X, days.tz_localize(None).to_numpy().astype("datetime64[s]"))
    assert local.notes == ("midnights with an offset are read as days, without it",)
    office = data.open_series(
        write(values.set_axis(pd.bdate_range("2013-09-02", periods=120)).to_csv(sep=";", decimal=","))
    )
    assert office.y[4:8, 0].tolist()[::3] == [0.5, 0.625] and np.isnan(office.y).sum() == 46
    assert office.notes == (
        "column 'v' is read with decimal commas",
        "46 steps have no line and are NaN, all on Saturdays and Sundays",
    )


@pytest.mark.parametrize(
    ("time_format", "first"),
    [("%d/%m/%Y", "2013-01-01"), ("%m/%d/%Y", ""), ("%d.%m.%y %H:%M", ""), ("mixed", ""), ("%Q", ""), ("", "")],
)
def test_other_forms_of_time_are_read_if_they_are_named_and_never_guessed(write, time_format, first):
    days = pd.date_range("2013-01-01", periods=60)
    path = write(pd.DataFrame({"day": days.strftime("%d/%m/%Y"), "v": np.arange(60.0)}))
    if first:
        series = data.open_series(path, time_format=time_format)
        np.testing.assert_array_equal(series.X, days.to_numpy().astype("datetime64[s]"))
    else:
        refused("time_format", data.open_series, path, time_format=time_format)


def test_months_as_year_and_month(write):
    months = [f"{year}-{month:02}" for year in range(1, 6) for month in range(1, 13)]
    path = write(pd.DataFrame({"Month": months, "Sales": np.arange(60) + 0.5}))
    refused("time_format", data.open_series, path)
    series = data.open_series(path, time_format="%y-%m")
    assert "from 2001-01-01 00:00 to 2005-12-01 00:00, every month" in str(series)


def test_years_are_times_if_they_are_named(write):
    series = data.open_series(write(pd.DataFrame({"YEAR": range(1700, 1800), "N": np.arange(100) % 11})), "N", "YEAR")
    assert "1700-01-01 00:00 to 1799-01-01 00:00, every year" in str(series)


def one(column, value):
    """Return a series with another value in one line."""
    frame = hours().astype(object)
    frame.loc[4, column] = value
    return frame


SERIES_FAULTS = [
    (hours(49), {}, r"column 'level' of a\.csv holds 49 numbers: at least 50 are needed"),
    (hours(level=3.5), {}, r"holds 3\.5 throughout: there is nothing to forecast"),
    (hours(flow=1.5), {}, r"2 columns of numbers \('level', 'flow'\): name one as value_column"),
    (hours(level="high"), {}, "no column of numbers; there are: 'time', 'level'"),
    (hours(x=1)[["level", "x"]], {}, "no column of times by ISO 8601.*, or by time_format"),
    (hours(), {"value_column": "levle"}, "value_column 'levle' is not a column.*did you mean 'level'"),
    (hours(), {"value_column": "time"}, "need columns of their own; both are 'time'"),
    (hours(400).iloc[np.r_[:30, 370:400]], {}, "60 lines for 400 steps: most are missing"),
    *((one("level", n), {"value_column": "level"}, f"holds '{n}' in line 6, which is no") for n in ("x1", "inf")),
    *((one("time", at), {}, f"'{at}' in line 6: .*8601") for at in ("", "01.03.2013", "2013-03-01 04:00:00.5")),
    (
        hours(level="5 %"),
        {},
        r"no column of numbers \(column 'level' would be numeric but for 100 values",
    ),
    (hours().rename(columns={"time": "2013-01-01"}), {"time_column": "2013-01-01"}, "looks like data"),
    (hours(), {"time_format": "%H:%M %p"}, "or with %I and %p"),
    (one("time", "2013-03-01 04:10"), {}, "are 3,600 seconds apart.* but not line 6: average"),
    (one("time", "2013-03-01 04:00Z"), {}, "an offset.* without one in lines 2, 3, 4, 5, 7, …"),
    (one("time", "2013-03-01 03:00"), {}, "03:00:00 stands in lines 5, 6 of a.csv: keep one"),
]


@pytest.mark.parametrize(("frame", "options", "message"), SERIES_FAULTS)
def test_faults_of_a_series_get_one_sentence(write, frame, options, message):
    refused(message, data.open_series, write(frame), **options)
