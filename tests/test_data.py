"""The project's datasets, and the reader's own tables, texts and series: what is accepted, and what is said if not."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.notebook import UserError

ROWS = "".join(f"{n},{n % 7},{'yes' if n % 3 else 'no'}\n" for n in range(60))
TABLE = "height,weight,label\n" + ROWS


@pytest.fixture
def write(tmp_path):
    def _write(name, text, encoding="utf-8"):
        (tmp_path / name).write_text(text, encoding=encoding, newline="")
        return tmp_path / name

    return _write


@pytest.fixture
def write_table(tmp_path):
    def _write_table(columns, rows=40, **options):
        frame = pd.DataFrame({**columns, "label": ["no", "yes"] * (rows // 2)})
        frame.to_csv(tmp_path / "table.csv", index=False, **options)
        return tmp_path / "table.csv"

    return _write_table


def refused(message, read, *arguments, **options):
    with pytest.raises(UserError, match=message) as caught:
        read(*arguments, **options)
    assert "\n" not in str(caught.value)


# --- tables of numbers -------------------------------------------------------------------------------------------

SPELLINGS = {
    "a.csv": TABLE,
    "A.CSV": TABLE,
    "semicolons.csv": TABLE.replace(",", ";"),
    "tabs.tsv": TABLE.replace(",", "\t"),
    "bars.csv": TABLE.replace(",", "|"),
    "tabs.txt": TABLE.replace(",", "\t"),
    "office.csv": "\ufeff" + TABLE.replace(",", " , ").replace("\n", " \r\n"),
    "quoted.csv": TABLE.replace("height", '"height"'),
    "trailing.csv": TABLE.replace("\n", ",\n").replace("label,", "label"),
}


@pytest.mark.parametrize(("name", "text"), SPELLINGS.items(), ids=SPELLINGS)
def test_a_table_of_numbers(write, name, text):
    dataset = data.open_data(write(name, text))
    assert (dataset.kind, dataset.name, dataset.X.dtype) == ("numeric", name, np.float64)
    np.testing.assert_array_equal(dataset.X, [[n, n % 7] for n in range(60)])
    assert (dataset.feature_names, dataset.class_names) == (("height", "weight"), ("no", "yes"))
    assert dataset.y.tolist() == [int(n % 3 > 0) for n in range(60)]
    assert (dataset.notes, dataset.licence) == ((), "the reader's own")
    assert dataset.column("weight").tolist() == [n % 7 for n in range(60)]


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_compressed_table(tmp_path, separator):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TABLE.replace(",", separator).encode()))
    assert data.open_data(tmp_path / "a.csv.gz").X.shape == (60, 2)


def test_numbers_are_read_to_the_last_bit(write_table):
    numbers = np.random.default_rng(0).normal(size=40) * 10.0 ** np.arange(-20, 20)
    np.testing.assert_array_equal(data.open_data(write_table({"x": numbers})).X[:, 0], numbers)


def test_what_is_left_out_or_missing_is_noted(write):
    marks = ["", "?", " ", "NA", "nan"]
    rows = "".join(f"{n},{marks[n] if n < 5 else n},name{n},,{n % 2}\n" for n in range(30))
    dataset = data.open_data(write("a.csv", ",age,name,empty,label\n" + rows))
    assert dataset.feature_names == ("age",)
    assert np.isnan(dataset.X[:, 0]).tolist() == [True] * 5 + [False] * 25
    assert dataset.notes == (
        "columns left out, not numeric: 'name'",
        "columns left out, empty: 'empty'",
        "columns left out, without a name: 'Unnamed: 0'",
        "5 missing values are kept as NaN",
    )
    assert str(dataset).startswith("a.csv: 30 numeric rows, 50.0% '1' (1), the rest '0' (0)\n  note: ")


@pytest.mark.parametrize("value", ["0,5", "12 %", "$3.20", "1,200.50", "unknown"])
def test_numbers_that_are_written_as_words_are_told(write_table, value):
    path = write_table({"price": [value, *["7"] * 39] if value == "unknown" else [value] * 40, "age": [1.0] * 40})
    note = f"column 'price' would be numeric but for {1 if value == 'unknown' else 40} values such as {value!r}"
    for words in (True, False):
        assert note in data.open_data(path, words=words).notes


def test_integers_beyond_64_bits_are_numbers(write_table):
    path = write_table({"x": range(40), "id": [89 * 10**18 + n for n in range(40)]})
    assert data.open_data(path).feature_names == ("x", "id")


# --- labels and groups -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "positive_label", "class_names", "positives"),
    [
        (["0", "1"], "", ("0", "1"), 20),
        (["None", "NA"], "", ("NA", "None"), 20),
        (["01", "02"], "01", ("02", "01"), 20),
        (["a", "b", "c", "d"], "b", ("not b", "b"), 10),
        (["yes", " yes", "no", "no "], "", ("no", "yes"), 20),
    ],
)
def test_labels_are_read_as_they_are_written(write, labels, positive_label, class_names, positives):
    rows = "".join(f"{n},{labels[n % len(labels)]}\n" for n in range(40))
    dataset = data.open_data(write("a.csv", "x,target\n" + rows), label_column="target", positive_label=positive_label)
    assert (dataset.class_names, dataset.y.sum(), dataset.y.dtype) == (class_names, positives, np.int64)


@pytest.mark.parametrize("words", [True, False])
def test_rows_of_one_group_go_to_one_side(write_table, words):
    day = ["Mon", "Mon ", "NA", "NA", "07", "07", "7", "7", None, None] * 4
    table = data.open_data(write_table({"age": np.arange(40.0), "day": day}), group_column="day", words=words)
    assert table.feature_names == ("age",)
    assert table.groups[:8].tolist() == table.groups[10:18].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(table.groups)) == 4 + 8, "a row without a value stands alone"
    train, test = data.split(table, seed=1)
    assert not set(table.groups[train]) & set(table.groups[test])
    few = write_table({"age": range(40), "site": [n // 8 for n in range(40)]})
    refused("puts 'no' into 5 groups: at least 6 are needed", data.open_data, few, group_column="site", words=words)


# --- tables with categorical columns -----------------------------------------------------------------------------


def test_categorical_columns_are_kept_where_they_are_asked_for(write_table):
    columns = {"age": [1.5, np.nan] * 20, "town": ["Köln", "Bonn", None, "007"] * 10, "member": [True, False] * 20}
    path = write_table(columns)
    table = data.open_data(path, words=True)
    assert (table.kind, table.feature_names) == ("table", ("age", "town", "member"))
    assert table.X.dtypes.tolist() == [np.float64, object, np.float64]
    assert table.X["town"][[0, 1, 3]].tolist() == ["Köln", "Bonn", "007"]
    assert np.isnan(table.X["town"][2])
    assert table.X["member"].tolist() == table.column("member").tolist() == [1, 0] * 20
    assert table.notes == ("30 missing values are kept as NaN",)
    assert data.open_data(path).feature_names == ("age", "member")


def test_columns_that_no_model_can_use_are_left_out(write_table):
    columns = {"": range(40), "name": [f"person {n}" for n in range(40)], "nothing": [None] * 40, "price": ["1,2", "7"]}
    table = data.open_data(write_table({**columns, "price": ["1,200", "7"] * 20}), words=True)
    assert table.feature_names == ("price",)
    assert table.notes == (
        "columns left out, empty: 'nothing'",
        "columns left out, without a name: 'Unnamed: 0'",
        "columns left out, too many categories: 'name'",
        "column 'price' would be numeric but for 20 values such as '1,200'",
    )


def test_codes_keep_their_zeros_in_a_large_file(write):
    """pandas reads large files in parts, and would type each part for itself."""
    lines = ["code,label", *(f"{row % 90:03},0{row % 2 + 1}" for row in range(300_000)), *["x,03"] * 100]
    dataset = data.open_data(write("many.csv", "\n".join(lines)), positive_label="01", words=True)
    assert (dataset.class_names, dataset.y.sum()) == (("not 01", "01"), 150_000)
    assert set(dataset.X["code"]) == {*(f"{code:03}" for code in range(90)), "x"}


def test_dates_become_seconds(write_table):
    columns = {
        "day": ["1970-01-02", None] * 20,
        "moment": ["2026-11-20T12:00:00.250+01:00"] * 40,
        "until": ["9999-12-31", "1600-01-01"] * 20,
        "no": ["1970-99-99"] * 40,
    }
    table = data.open_data(write_table(columns), words=True)
    assert table.X["day"][0] == 86_400 and np.isnan(table.X["day"][1])
    assert table.X["moment"][0] == 1_795_172_400
    assert table.X["until"].tolist()[:2] == [253_402_214_400, -11_676_096_000]
    assert table.X["no"][0] == "1970-99-99"
    assert "dates are read as seconds since 1970: 'day', 'moment', 'until'" in table.notes


def test_names_are_made_fit_for_a_signature(write_table):
    names = ["net income ($)", "a/b", "größe", "1st", "class", "self", "a b", "____", "市", "a-b"]
    table = data.open_data(write_table(dict.fromkeys(names, [1.0] * 40)), words=True)
    assert len(set(table.feature_names)) == len(names)
    assert all(name.isidentifier() and name.isascii() and name[0] != "_" for name in table.feature_names)
    assert not set(table.feature_names) & {"class", "1st", "self"}
    assert "'net income ($) is net_income'" in " ".join(table.notes)


# --- texts -------------------------------------------------------------------------------------------------------


def test_a_table_with_texts(write):
    rows = "".join(f'"good, film {n}",pos\n,neg\n' for n in range(10))
    dataset = data.open_data(write("a.csv", "review,label\n" + rows), text_column="review")
    assert (dataset.kind, dataset.X[:2].tolist()) == ("text", ["good, film 0", ""])
    assert dataset.notes == ("10 rows without text are kept as empty texts",)


LINES = {
    "label first": ("{label}\tSee\tyou, {n}", "See\tyou, 1"),
    "label last": ("See you, {n}\t{label}", "See you, 1"),
    "fastText": ("__label__{label} See you, {n}", "See you, 1"),
    # str.splitlines would break here and make a line of half a sentence.
    "line separators": ("{label}\tone\u0085two\u2028three {n}", "one\u0085two\u2028three 1"),
    "Windows": ("{label}\tSee you, {n}\r", "See you, 1"),
    "quotes": ('"See you, {n}\t{label}', '"See you, 1'),
}


@pytest.mark.parametrize("kind", LINES)
def test_text_files(write, kind):
    line, text = LINES[kind]
    lines = [line.format(label=("spam", "ham")[n % 2], n=n) for n in range(30)]
    dataset = data.open_data(write("a.txt", "\n".join([*lines, "", " ", ""])))
    assert (dataset.kind, dataset.class_names, dataset.y[:2].tolist()) == ("text", ("ham", "spam"), [1, 0])
    assert dataset.X[1] == text


def test_an_empty_text_is_kept(write):
    text = "".join(f"{'ab'[n % 2]}\t{'' if n == 0 else n}\r\n" for n in range(30))
    assert data.open_data(write("a.txt", text)).X[:2].tolist() == ["", "1"]


# --- what is refused ---------------------------------------------------------------------------------------------

FAULTS = [
    ("a.csv", "", {}, "is empty"),
    ("a.txt", "", {}, "is empty"),
    ("a.csv", "x,label\n", {}, "a header and no rows"),
    ("a.csv", "a,b\n1,2\n", {}, "label_column 'label' is not a column of a.csv; there are: 'a', 'b'"),
    ("a.csv", "a,Labell\n1,2\n", {}, "label_column 'label' is not a column of a.csv; did you mean 'Labell'"),
    ("a.tsv", "churned\tcalls\nno\t1\n", {}, "label_column 'label' is not a column of a.tsv"),
    ("a.csv", TABLE, {"label_column": ""}, "label_column '' is not a column"),
    ("a.csv", TABLE, {"text_column": "txt"}, "text_column 'txt' is not a column"),
    ("a.csv", TABLE, {"group_column": "days"}, "group_column 'days' is not a column"),
    ("a.csv", TABLE, {"text_column": "label"}, "need columns of their own; got 'label', 'label'"),
    ("a.csv", TABLE, {"group_column": "label"}, "need columns of their own"),
    ("a.csv", TABLE, {"positive_label": "maybe"}, "'maybe' is not among the labels.*'no', 'yes'"),
    ("a.csv", "x,label\n" + "1,a\n" * 30, {}, "one class only"),
    ("a.csv", "x,label\n" + "1,a\n" * 30 + "1,b\n" * 3, {}, "3 rows of class 'b': at least 10"),
    ("a.csv", "x,label\n" + "".join(f"{n},{n}\n" for n in range(30)), {}, "30 labels.*name one as positive_label"),
    ("a.csv", "x,label\n" + "1,a\n2,b\n" * 20 + "3,\n" * 2, {}, "no label in 2 of 42 rows"),
    (
        "a.csv",
        "x,label\n" + "red,a\nblue,b\n" * 20,
        {},
        "no numeric column: for a text, name its column as text_column",
    ),
    ("a.csv", "x,label\n" + ",a\n,b\n" * 20, {"words": True}, "no column to learn from"),
    ("a.csv", "x,label\n" + "1,a\ninf,b\n" * 20, {}, "infinite values in: 'x'"),
    ("a.csv", "x,label\n" + "1,a\n-inf,b\n" * 20, {"words": True}, "infinite values in: 'x'"),
    ("a.csv", "x,label\n1,a\n1,2,3\n", {}, "cannot be read: .*line 3"),
    ("a.csv", "x,label\n" + '1,a\n"2,b\n' * 20 + '"', {}, "cannot be read"),
    ("a.csv.gz", "PK or not", {}, "cannot be read"),
    ("a.csv.zip", "PK or not", {}, "cannot be read"),
    ("a.csv.xz", "PK or not", {}, "cannot be read"),
    ("a.txt", "a\tone\n\njust a line\n", {}, "line 3 of a.txt is neither label<TAB>text.*'just a line'"),
    ("a.txt", "__label__a one\n\nfree text here\n", {}, "line 3 of a.txt is neither"),
    ("a.txt", "\ta\nspam\tb\n" * 20, {}, "a.txt has no label in 20 of 40 rows"),
    ("a.txt", "churned\tcalls\n" + "no\t1\nyes\t2\n" * 20, {}, "remove a header that was taken for one"),
    ("a.jpg", "", {}, "a.jpg is one image: name a folder"),
]


@pytest.mark.parametrize(("name", "text", "options", "message"), FAULTS)
def test_faults_get_one_sentence(write, name, text, options, message):
    refused(message, data.open_data, write(name, text), **options)


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "x,label\n" + "1,a\n2,b\n" * 3000), ("a.txt", "a\tb\nb\ta\n" * 3000)]
)
@pytest.mark.parametrize("at", [0, 5008])
def test_what_is_not_utf8_is_refused(write, name, text, at):
    refused("not UTF-8", data.open_data, write(name, text[:at] + "é" + text[at:], encoding="latin-1"))


@pytest.mark.parametrize("read", [data.open_data, data.open_series, data.read_csv])
def test_nothing_there(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"nothing is at .*looked in"):
        read(tmp_path / "no.csv")


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
    train, test = data.split(dataset, test_size=0.3, seed=1)
    assert sorted([*train, *test]) == list(range(len(dataset)))
    assert train.tolist() == sorted(train)
    assert data.split(dataset, seed=1)[1].tolist() == test.tolist()
    tests = [data.split(dataset, seed=seed)[1] for seed in range(5)]
    assert len({tuple(test) for test in tests}) == 5
    assert {dataset.y[test].sum() for test in tests} == {64}


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


def test_images_with_masks_are_counted_in_objects_and_pixels_and_split_without_classes():
    labels = [np.zeros((10, 10 + number % 2 * 10), np.int32) for number in range(10)]
    for number, image in enumerate(labels):
        image[:1] = 1
        image[-2:] = 2 if number == 0 else 0
        image[0, 0] = 2
    pictures = data.Dataset(
        "cells", "mask", labels, labels, ("background", "cell"), "drawn", "CC0", notes=("10 by 10",)
    )
    assert str(pictures) == "cells: 10 images with masks, 20 objects, 12.0% of the pixels 'cell'\n  note: 10 by 10"
    train, test = data.split(pictures, test_size=0.2, seed=1)
    assert (len(train), sorted([*train, *test])) == (8, list(range(10)))


def test_a_series_is_not_split_by_chance():
    temperatures = data.load("new_york_temperatures")
    assert set(np.diff(temperatures.X)) == {np.timedelta64(1, "h")}
    with pytest.raises(ValueError, match=r"new_york_temperatures is a series.*cut it by time"):
        data.split(temperatures)


# --- series ------------------------------------------------------------------------------------------------------


@pytest.fixture
def save(tmp_path):
    def _save(frame, name="a.csv", **options):
        frame.to_csv(tmp_path / name, index=False, **options)
        return tmp_path / name

    return _save


def hours(rows=100, **columns):
    times = pd.date_range("2013-03-01", periods=rows, freq="h").strftime("%Y-%m-%d %H:%M")
    return pd.DataFrame({"time": times, "level": np.arange(rows) ** 2 / 8, **columns})


STEPS = {"30s": "30 seconds", "10min": "10 minutes", "h": "hour", "3h": "3 hours", "D": "day", "15D": "15 days"}
STEPS |= {"W": "week", "14D": "2 weeks", "MS": "month", "ME": "month", "2MS": "2 months", "QE": "quarter", "YS": "year"}


@pytest.mark.parametrize(("freq", "name"), STEPS.items())
def test_times_and_values_come_back_whatever_the_step(save, freq, name):
    times = pd.date_range("1899-12-01", periods=80, freq=freq)
    frame = pd.DataFrame({"time": times.strftime("%Y-%m-%d %H:%M:%S"), "level": np.arange(80.0) ** 2})
    series = data.open_series(save(frame))
    assert (series.kind, series.name, series.feature_names, series.notes) == ("series", "a.csv", ("level",), ())
    assert series.X.dtype == "datetime64[s]"
    np.testing.assert_array_equal(series.X, times.to_numpy().astype("datetime64[s]"))
    assert (series.y.shape, series.y.dtype) == ((80, 1), np.float64)
    assert series.column("level").tolist() == [float(n * n) for n in range(80)]
    assert f", every {name}: 'level'; 0 values missing" in str(series)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["h", "D", "MS", "ME", "7D"]), st.data())
def test_missing_lines_become_nan_and_order_does_not_matter(tmp_path_factory, freq, draw):
    """pandas' asfreq is the oracle."""
    full = pd.Series(np.arange(90.0), index=pd.date_range("2001-01-01", periods=90, freq=freq))
    # Two neighbours stay side by side often enough for the step to be seen.
    kept = full.drop(full.index[draw.draw(st.lists(st.integers(1, 88), max_size=12, unique=True))])
    path = tmp_path_factory.mktemp("series") / "a.csv"
    # Without a name for the index, as pandas writes it.
    kept.sample(frac=1, random_state=draw.draw(st.integers(0, 99))).rename("v").to_csv(path)
    series, expected = data.open_series(path), kept.asfreq(freq)
    np.testing.assert_array_equal(series.X, expected.index.to_numpy().astype("datetime64[s]"))
    np.testing.assert_array_equal(series.y[:, 0], expected.to_numpy())


def test_what_was_changed_is_noted_and_other_columns_are_passed_over(save):
    frame = hours().drop(index=[5, 6, 50]).iloc[::-1].assign(remark=np.nan, place="harbour", ok=True)
    frame.insert(0, "", range(len(frame)))
    frame.loc[20, "level"] = np.nan
    series = data.open_series(save(frame, sep=";"))
    assert series.notes == ("lines are sorted by time", "3 steps have no line and are NaN")
    assert np.flatnonzero(np.isnan(series.y[:, 0])).tolist() == [5, 6, 20, 50]
    assert str(series) == (
        "a.csv: 100 times from 2013-03-01 00:00 to 2013-03-05 03:00, every hour: 'level'; 4 values missing"
        "\n  note: lines are sorted by time\n  note: 3 steps have no line and are NaN"
    )


def test_clocks_that_change(save):
    autumn = pd.date_range("2013-11-01", periods=100, freq="h", tz="America/New_York")
    for times in (
        [time.isoformat() for time in autumn],
        autumn.tz_convert("UTC").strftime("%Y-%m-%dT%H:%MZ"),
    ):
        series = data.open_series(save(hours(time=times)))
        np.testing.assert_array_equal(series.X, autumn.tz_convert(None).to_numpy().astype("datetime64[s]"))
        assert series.notes == ("times have an offset and are turned into UTC",)
    local = save(hours(time=autumn.strftime("%Y-%m-%d %H:%M")))
    refused(r"2013-11-03 01:00:00 stands in lines 51, 52 of a\.csv.*clocks.*-04:00", data.open_series, local)
    spring = pd.date_range("2013-03-09", periods=100, freq="h", tz="America/New_York")
    series = data.open_series(save(hours(time=spring.strftime("%Y-%m-%d %H:%M"))))
    assert np.isnan(series.y).sum() == 1


def test_years_are_times_if_they_are_named(save):
    path = save(pd.DataFrame({"YEAR": range(1700, 1800), "SUNACTIVITY": np.arange(100) % 11}))
    series = data.open_series(path, time_column="YEAR")
    assert series.X[0] == np.datetime64("1700-01-01")
    assert "every year" in str(series)
    refused("years only must be named as time_column", data.open_series, path)


def changed(column, line, value):
    frame = hours().astype(object)
    frame.loc[line, column] = value
    return frame


SERIES_FAULTS = {
    "short": (hours(49), {}, r"column 'level' of a\.csv holds 49 numbers: at least 50 are needed"),
    "constant": (hours(level=3.5), {}, r"holds 3\.5 throughout: there is nothing to forecast"),
    "two numbers": (hours(flow=1.5), {}, r"2 columns of numbers \('level', 'flow'\): name one as value_column"),
    "no number": (hours(level="high"), {}, "no column of numbers; there are: 'time', 'level'"),
    "two times": (hours(at=hours()["time"]), {}, r"2 columns of times \('time', 'at'\): name one as time_column"),
    "no time": (hours(x=1)[["level", "x"]], {}, "no column of times by ISO 8601, such as 2013-05-09 02:00"),
    "misspelt": (hours(), {"value_column": "levle"}, "value_column 'levle' is not a column.*did you mean 'level'"),
    "far off": (hours(), {"time_column": "zzz"}, "time_column 'zzz' is not a column.*'time', 'level'"),
    "the same twice": (hours(), {"value_column": "time"}, "need columns of their own; both are 'time'"),
    "word": (changed("level", 7, "none"), {"value_column": "level"}, "'level' of a.csv holds 'none' in line 9, which"),
    "comma": (
        changed("level", 7, "1,5"),
        {"value_column": "level"},
        "holds '1,5' in line 9, which is no finite number",
    ),
    "infinite": (changed("level", 7, "inf"), {}, "holds 'inf' in line 9, which is no finite number"),
    "no such day": (changed("time", 4, "2013-02-30 04:00"), {}, "'time' of a.csv holds '2013-02-30 04:00' in line 6"),
    "other order": (changed("time", 4, "01.03.2013 04:00"), {}, r"holds '01\.03\.2013 04:00' in line 6: write .* ISO"),
    "no time there": (changed("time", 4, None), {}, "'time' of a.csv holds no time in line 6"),
    "below a second": (changed("time", 4, "2013-03-01 04:00:00.5"), {}, r"04:00:00\.5' in line 6: .* to the second"),
    "off the step": (changed("time", 4, "2013-03-01 04:10"), {}, "are 3,600 seconds apart.* but not line 6: average"),
    "zone now and then": (changed("time", 4, "2013-03-01 04:00Z"), {}, "an offset.* without one in lines 2, 3, 4"),
    "twice": (changed("time", 4, "2013-03-01 03:00"), {}, "03:00:00 stands in lines 5, 6 of a.csv: keep one"),
    "mostly missing": (hours(400).iloc[np.r_[:30, 370:400]], {}, "60 lines for 400 steps: most are missing"),
}


@pytest.mark.parametrize(("frame", "options", "message"), SERIES_FAULTS.values(), ids=SERIES_FAULTS)
def test_faults_of_a_series_get_one_sentence(save, frame, options, message):
    refused(message, data.open_series, save(frame), **options)


def test_a_day_late_is_off_the_step_of_months(save):
    times = pd.date_range("2013-03-01", periods=100, freq="MS").strftime("%Y-%m-%d").to_series(index=range(100))
    times[12] = "2014-03-02"
    refused(r"most times of a\.csv are 1 month apart.* but not line 14", data.open_series, save(hours(time=times)))


def test_a_file_that_the_project_brings():
    """The three airports, as a reader would bring them: one must be named."""
    path = data.ROOT / "datasets" / "new_york_temperatures" / "temperatures.csv.gz"
    refused(r"3 columns of numbers \('EWR', 'JFK', 'LGA'\): name one as value_column", data.open_series, path)
    own, ours = data.open_series(path, "JFK"), data.load("new_york_temperatures")
    np.testing.assert_array_equal(own.X, ours.X)
    np.testing.assert_array_equal(own.y[:, 0], ours.column("JFK"))
