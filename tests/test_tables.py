"""One reader for all tables: what is read, what is noted, and what is refused with its line."""

import csv
import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from helpers import tables
from helpers.notebook import UserError

HEAD = "size;town;label\n"
ROWS = "".join(f"{n}.5;Köln, {n % 3};{'yes' if n % 2 else 'no'}\n" for n in range(30))


@pytest.fixture
def write(tmp_path):
    def _write(content, name="a.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return _write


def expected(text, separator=";"):
    return [[field.strip() for field in row] for row in csv.reader(io.StringIO(text), delimiter=separator)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_every_spelling_of_a_table_is_read_alike(write, encoding, end, separator):
    text = (HEAD + ROWS).replace(";", separator).replace("\n", end)
    frame, notes = tables.read_table(write(text, encoding=encoding))
    assert [list(frame), *frame.to_numpy().tolist()] == expected(HEAD + ROWS) and not notes
    assert frame.index.tolist() == list(range(2, 32)), "the line on which each row begins"


def test_packed_tables_are_unpacked_whatever_their_name(write, tmp_path):
    for suffix in (".gz", ".bz2", ".xz", ".zip", ".csv"):
        packed = tmp_path / f"b.csv{suffix}"
        pd.DataFrame({"a": ["x", "y"]}).to_csv(packed, index=False, compression={".csv": "gzip"}.get(suffix, "infer"))
        assert tables.read_table(packed)[0]["a"].tolist() == ["x", "y"]


NOTED = [
    ("a,b\n1,2\n,\n\n3,4\n,\n\n", [["1", "2"], ["3", "4"]], ["empty rows are left out: 3"]),
    ("sep=;\na;b\n1,5;2\n", [["1,5", "2"]], []),
    ("a,b,,\n1,2,,\n", [["1", "2"]], []),
    ("a,b\n1,2,\n3,4,,\n", [["1", "2"], ["3", "4"]], []),
    ("a,b,\n1,2\n3,4\n", [["1", "2"], ["3", "4"]], []),
    ("a;b, kW\nx;0,5\ny;1,5\n", [["x", "0,5"], ["y", "1,5"]], []),
    ('a,b\n1, "2, 3"\n"4 ""x""",5" disk\n', [["1", "2, 3"], ['4 "x"', '5" disk']], []),
    ('a,b\n1,"two\nlines"\n', [["1", "two\nlines"]], ["line breaks within quotes are kept (up to 2 lines a row)"]),
    ("0,1,2\n5,6,7\n", [["5", "6", "7"]], []),
    ("id,Red,Blue\n1,Red,\n2,,Blue\n", [["1", "Red", ""], ["2", "", "Blue"]], []),
    ("office,1.5\n5,6\n", [["5", "6"]], []),
    (",Unnamed: 0,x\n5,6,7\n", [["5", "6", "7"]], []),
]


@pytest.mark.parametrize(("text", "rows", "noted"), NOTED)
def test_what_is_read_and_what_is_noted(write, text, rows, noted):
    frame, notes = tables.read_table(write(text))
    assert frame.to_numpy().tolist() == rows and len(notes) == len(noted)
    assert all(part in note for part, note in zip(noted, notes, strict=True))


REFUSED = [
    (
        "label,review\nno,good film, but long\n",
        "line 2 of a.csv has 3 fields, its header 2: name every column, quote fields that hold ','",
    ),
    ("day,load\n2013-01,0,5\n", "line 2 of a.csv has 3 fields"),
    ("v1,v2,,,\nham,good film, but long,,\n", "line 2 of a.csv has 5 fields, its header 2"),
    ('label\ttext\n1\t"Great" film\n', "line 2 of a.csv holds a quote that is not closed, or not doubled"),
    ("a,b\n1,2\n\n3\n", "line 4 of a.csv has 1 fields"),
    ("a,b,a\n1,2,3\n", "'a' stands twice in the header"),
    ("a,b\n1,2\na,b\n3,4\n", "line 3 of a.csv repeats the header: remove it"),
    ("6,148,1\n1,85,0\n8,183,1\n", "the first line of a.csv looks like data.*put the columns' names above it"),
    ("39, Private, <=50K\n50, Private, >50K\n38, Own, <=50K\n", "looks like data"),
    ("1981-01-01,20.7\n1981-01-02,17.9\n", "looks like data"),
    ("good film,pos\nbad film,neg\nfine film,pos\n", "looks like data"),
    ('a,b\n"x,1\ny,2\nz,3\n"u,4\n', "line 2 of a.csv holds a quote that is not closed, or not doubled"),
    ('a,b\n"x,1\ny,2\nz,3\nu",4\n', "line 2 of a.csv begins a quoted field that holds 2 lines like rows"),
    ('a,b\n"x,1\n', "line 2 of a.csv holds a quote that is not closed"),
    ("a,b\n1,\0\n", "is no text, or UTF-16 without its first mark"),
    (HEAD.encode() + "Köln und Zürich;1;2\n".encode("cp1252") * 9, r"not UTF-8 text \(byte \d+\), perhaps cp125.*save"),
    (b"\xd0\xcf\x11\xe0 old workbook", "a workbook: save its sheet as CSV UTF-8"),
    (b"\x1f\x8b\x08 no archive", "cannot be read"),
    (b"PK\x03\x04 no archive", "cannot be read"),
    (" \n", "is empty"),
    ("a,b\n", "a header and no rows"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_what_is_refused(write, content, message):
    with pytest.raises(UserError, match=message) as caught:
        tables.read_table(write(content))
    assert "\n" not in str(caught.value)


def test_workbooks_and_folders_are_refused(write, tmp_path):
    book = tmp_path / "b.dat"
    with zipfile.ZipFile(book, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    for path in (write("", "a.xlsx"), book):
        with pytest.raises(UserError, match="save its sheet as CSV UTF-8"):
            tables.read_table(path)
    with pytest.raises(UserError, match="is no file"):
        tables.read_table(tmp_path)


def test_parquet_is_read_as_the_same_table_would_be_from_csv(tmp_path):
    days = pd.date_range("2020-03-08", periods=3, tz="America/New_York")
    frame = pd.DataFrame({"x": np.float32([0.1, 1e30, np.nan]), "n": pd.array([2**60 + 1, None, 7], "Int64")})
    frame = frame.assign(c=pd.Categorical(["NA", "b ", None]), d=days, t=[True, False, True], w=["007", "", "ü"])
    frame.to_parquet(tmp_path / "a.parquet")
    read, notes = tables.read_table(tmp_path / "a.parquet")
    assert read["x"].tolist() == ["0.10000000149011612", "1.0000000150474662e+30", ""] and not notes
    assert [read[name].tolist() for name in "nctw"] == [
        [str(2**60 + 1), "", "7"],
        ["NA", "b", ""],
        ["True", "False", "True"],
        ["007", "", "ü"],
    ]
    assert read["d"].tolist()[::2] == ["2020-03-08T00:00:00-05:00", "2020-03-10T00:00:00-04:00"]
    frame.set_index("d").rename_axis(None)[["x"]].to_parquet(tmp_path / "b.parquet")
    assert list(tables.read_table(tmp_path / "b.parquet")[0]) == ["x", "Unnamed: 1"], "an index is a column"
    pd.DataFrame({"x": [[1, 2]], "y": 1}).to_parquet(tmp_path / "c.parquet")
    read, notes = tables.read_table(tmp_path / "c.parquet")
    assert read["x"].tolist() == [""] and notes[0].startswith("column 'x' holds list<element: int64> and is left out")
    (tmp_path / "d.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot be read"):
        tables.read_table(tmp_path / "d.parquet")


NUMBERS = [
    "1",
    "-1.5e-3",
    ".5",
    "5.",
    "+7",
    "0.1000000000000000055511151231257827",
    "NA",
    "?",
    "1e400",
    "inf",
    str(2**70),
]
NO_NUMBERS = ["1_000", "0x10", "1e", "--1", "12:30", "1 000", "٣", "True", "1,5.2"]
COMMAS = [
    (["1,5", "2"], [1.5, 2.0]),
    (["1.107,25", "900"], [1107.25, 900]),
    (["0,107", "-1,107"], [0.107, -1.107]),
    (["1,107", "900"], None),
    (["0,5", "0.5"], None),
    (["0.125", "0,5"], None),
    (["1,234,567", "0,5"], None),
]


def test_numbers_are_those_of_python():
    numbers, rest, form = tables.parse_numbers(pd.Series([*NUMBERS, *NO_NUMBERS], dtype="str"))
    wanted = [np.nan if text in ("NA", "?") else float(text) for text in NUMBERS]
    np.testing.assert_array_equal(numbers, wanted + [np.nan] * len(NO_NUMBERS))
    assert (rest.tolist(), form) == (NO_NUMBERS, "other")


@pytest.mark.parametrize(("texts", "values"), COMMAS)
def test_decimal_commas_are_read_where_they_cannot_be_anything_else(texts, values):
    numbers, _, form = tables.parse_numbers(pd.Series(texts, dtype="str"))
    assert (form == "decimal commas") == (values is not None)
    assert values is None or numbers.tolist() == values


@pytest.mark.parametrize(
    ("texts", "note"),
    [
        (["900", "1.107", "NA"], "'x' reads '1.107' as a decimal: remove points"),
        (["900", "1.107", "NA"], "'x' reads 'NA' as missing"),
        (["1,5", "2", ""], "'x' is read with decimal commas"),
        (["07", "7"], "'x' holds leading zeros"),
        ([str(2**53 + 1), "1"], "'x' holds whole numbers above 2^53"),
        ([str(2**53), "0.107", "-900.125"], ""),
    ],
)
def test_numbers_that_may_be_meant_otherwise_are_noted(texts, note):
    notes = tables.as_feature(pd.Series(texts, dtype="str", name="x"), False)[2]
    assert note in " ".join(notes) and bool(note) == bool(notes)


@pytest.mark.parametrize("other", ["A b", "a  b", "a\u00a0b", "a\u200b b", "\uff41 b"])
def test_names_that_look_alike_are_noted(other):
    notes = tables.name_notes(pd.Series(["a b", other, "c"], dtype="str", name="x"))
    assert len(notes) == 1 and notes[0].startswith("column 'x' holds names that may be one: 'a b', ")
    assert not tables.look_alike(["größe", "grösse", "1", "-1", "a", "ab"])
    assert tables.look_alike(["café", "cafe\u0301", "7", "007", "7.0"]) == ["café", "cafe\u0301", "7", "007", "7.0"]


@pytest.mark.parametrize("text", ["1\u202f234,50", "1 234,50", "1'234.5", "12 %", "$5", "USD 5", "5 kg"])
def test_numbers_in_other_clothes_are_told_and_dates_are_no_scores(text):
    column = pd.Series([text, "x", "y"], dtype="str", name="x")
    assert tables.as_feature(column[:1], False)[2] == [f"column 'x' would be numeric but for 1 values such as {text!r}"]
    for texts in (["3-2-1", "0/0/0"], ["C85", "E46"], ["12B", "A11"]):
        assert not tables.as_feature(pd.Series(texts, dtype="str", name="x"), True)[2]


def test_a_table_is_described_column_by_column(write):
    text = "id,size,day,town,ok\n" + "".join(f'0{n},"{n},5",2013-05-{n + 10},,True\n' for n in range(5))
    rows = tables.describe(tables.read_table(write(text))[0])
    assert rows["kind"].tolist() == ["categories", "decimal commas", "dates", "empty", "truth values"]
    assert rows.loc["town", ["missing", "different"]].tolist() == [5, 0]
    assert rows.loc["size", "first values"] == "'0,5', '1,5', '2,5'"
