"""One reader for all tables: CSV in its many spellings and Parquet, as columns of text; then numbers and times of them.

The gap: pandas cuts rows that are longer than the header, fills those that are shorter, numbers columns that stand
there twice, makes gaps of groups called NA and floats of ids with a gap, and takes a first row for names. Here every
value stays the text that it is, what cannot be read without a guess is refused with its line, and what may be meant
otherwise is noted.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from charset_normalizer import from_bytes
from pyarrow import parquet

from helpers.notebook import DECIMAL, UserError, first_line, shown, some

AnyPath = str | os.PathLike[str]
MISSING = ["", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "None", "null", "NULL"]
"""What stands for a missing number; in columns of names, all but the empty text are names."""
MOST_CATEGORIES = 1000
TABLES = {".csv", ".tsv", ".parquet"}
WORKBOOKS = {".xls", ".xlsx", ".xlsm", ".xlsb", ".ods"}
PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\0": lzma}
ENCODINGS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Not str.splitlines, which breaks at U+0085 and U+2028 too.
LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+\Z")
# Where two split all rows alike, the comma is the last to be taken: it may be a decimal one.
SEPARATORS = "\t;|,"
LIKELY_ENCODINGS = ["cp1252", "cp1250", "cp1251", "utf_16_le", "utf_16_be", "shift_jis", "gb18030", "euc_kr"]
ROWS_AT_ONCE = 20_000
ZONE = r"(?:Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)"
CLOCK = r"[0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:\.[0-9]+)?)?)?"
ISO = rf"[0-9]{{4}}-[0-9]{{2}}(?:-[0-9]{{2}}(?:[T ]{CLOCK}\s*{ZONE}?)?)?"
ZONED = rf".+[T ].*[0-9]\s*{ZONE}"
DATE = r"(?:[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.](?:[0-9]{2}|[0-9]{4}))\b.*"
NUMBER = rf"(?:{DECIMAL}|[+-]?[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)"
DECIMAL_COMMA = r"[+-]?(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})+|[0-9]+)?(?:,[0-9]+)?(?:[eE][+-]?[0-9]+)?"
IN_UNITS = r"(?:[$€£¥₩]|[A-Z]{3} )?\s*-?[0-9][0-9.,'’ \u00a0\u202f\u2009]*(?:\s*[%$€£¥₩]| [A-Za-z]{1,3})?"
THOUSANDS = r"[+-]?[1-9][0-9]{0,2}(?:[.,][0-9]{3})+"


def require(condition: object, message: str) -> None:
    """Raise `UserError` with a message about the reader's own file, unless a condition holds."""
    if not condition:
        raise UserError(message)


def existing_path(path: AnyPath, argument: str = "path") -> Path:
    """Return a path with its ``~`` expanded.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    UserError
        It is empty, which as a path would be the folder in which the process happens to run, or cannot be a path.
    """
    require(os.fspath(path), f"{argument} is empty: name a file or a folder.")
    try:
        found = Path(path).expanduser()
        found.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{argument}: nothing is at {shown(str(found))} (looked in {Path.cwd()}).") from None
    except (OSError, RuntimeError, ValueError) as error:  # Too long, not allowed, an unknown user's, or with a NUL.
        raise UserError(f"{argument} {shown(str(path))} cannot be opened: {_why(error)}.") from None
    return found


def _why(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or first_line(error) or type(error).__name__).rstrip(".")[:200]


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked, in the Unicode encoding that its first bytes name, or else UTF-8.

    Raises
    ------
    UserError
        It is no file, empty, damaged, a workbook, or text of another encoding, whose likely name is told.
    """
    try:
        require(path.is_file(), "it is no file")
        content = _unpacked(path)
    except Exception as error:  # Over a damaged archive, each library raises what its parser stumbles on.
        raise UserError(f"{shown(str(path))} cannot be read: {_why(error)}.") from error
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        # The mark of UTF-8 also begins lines of files that were put together.
        text = re.sub("(?m)^\ufeff", "", content.decode(encoding))
    except UnicodeDecodeError as error:
        best = from_bytes(content[:50_000], cp_isolation=LIKELY_ENCODINGS).best()
        like = f", perhaps {best.encoding}" if best else ""
        where = f"{path.name} is not {encoding.upper()} text (byte {error.start})"
        raise UserError(f"{where}{like}: save it as UTF-8.") from None
    require("\0" not in text, f"{path.name} is no text, or UTF-16 without its first mark: save it as UTF-8 first.")
    require(text.strip(), f"{path.name} is empty.")
    return text


def _unpacked(path: Path) -> bytes:
    workbook = "it is a workbook: save its sheet as CSV UTF-8"
    content = path.read_bytes()
    require(path.suffix.lower() not in WORKBOOKS and not content.startswith(b"\xd0\xcf\x11\xe0"), workbook)
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            require(not {"[Content_Types].xml", "mimetype"} & set(names), workbook)
            require(len(names) == 1, f"it holds {len(names)} files: unpack it and name one")
            return archive.read(names[0])
    return next((bytes(by.decompress(content)) for mark, by in PACKED.items() if content.startswith(mark)), content)


def read_table(path: AnyPath) -> tuple[pd.DataFrame, list[str]]:
    """Read a CSV file whatever its separator, or a Parquet file; every value stays the text that it is.

    Parameters
    ----------
    path : path-like
        A CSV file has a header and is text as in `read_text`, perhaps packed (gzip, bz2, xz, zip); a comma, semicolon,
        tab or bar separates its fields, which RFC 4180 allows to be quoted.

    Returns
    -------
    frame : DataFrame of str
        Without blanks at the ends of names and values; an empty field, or a null of Parquet, is an empty text. The
        index holds the line on which each row begins, or from Parquet its number from 1. A column without a name is
        called ``Unnamed: 2`` by its place.
    notes : list of str
        What was left out, or may be meant otherwise.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    UserError
        As in `read_text`; no rows, a row with another number of fields than the header, a quote that is not closed or
        swallows rows, a name that stands twice, a header that is repeated or is data, columns of lists in Parquet.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("day;code\\n2013-01-01;007\\n2013-01-02;\\n")
    ...     frame, notes = read_table(Path(folder, "a.csv"))
    >>> frame["code"].tolist(), frame.index.tolist(), notes
    (['007', ''], [2, 3], [])
    """
    path = existing_path(path)
    names, frame, notes = _parquet(path) if is_parquet(path) else _csv(path)
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    require(not twice, f"{some(twice)} stands twice in the header of {path.name}: give each column a name of its own.")
    kept = [number for number, name in enumerate(names) if name or (frame[number] != "").any()]
    # A table that pandas has saved twice has an index of this name, and another without any.
    unnamed = [f"Unnamed: {number}" + "." * (f"Unnamed: {number}" in names) for number in range(len(names))]
    frame.columns = pd.Index([name or other for name, other in zip(names, unnamed, strict=True)])
    return frame.iloc[:, kept], notes


def is_parquet(path: Path) -> bool:
    """Tell whether a file is Parquet, by its first bytes."""
    return path.is_file() and np.fromfile(path, np.uint8, count=4).tobytes() == b"PAR1"


def _csv(path: Path) -> tuple[list[str], pd.DataFrame, list[str]]:
    # The first line by which spreadsheets tell each other the separator.
    text = re.sub(r'^"?sep=(.)"?(?=\r?\n)', "", read_text(path)).rstrip("\r\n")
    parts, notes = list[pd.DataFrame](), list[str]()
    rows = _rows(text, _separator(text), path.name, notes)
    _, names = next(rows)
    # In parts: as objects of Python, all fields of a large file would take ten times the file's size.
    while part := list(islice(rows, ROWS_AT_ONCE)):
        lines, fields = zip(*part, strict=True)
        parts.append(pd.DataFrame(fields, index=lines, dtype="str"))
    require(parts, f"{path.name} has a header and no rows.")
    frame = pd.concat(parts)
    _require_header(names, frame, path.name)
    return names, frame, notes


def _separator(text: str) -> str:
    """Return what separates the fields: it splits the first rows alike, or else the first one into most."""
    found = {separator: list[int]() for separator in SEPARATORS}
    for separator, widths in found.items():
        with suppress(csv.Error):  # It is said when the whole is read.
            for *_, fields in islice(_records(text[:100_000], separator), 20):
                widths.extend([len(fields)] * any(fields))
    alike = {one: [*widths, 0][0] * (len(set(widths)) == 1) for one, widths in found.items()}
    return max(SEPARATORS, key=lambda one: (alike[one] > 1, [*found[one], 0][0]))


def _records(text: str, separator: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the first and the last line of each record, and its fields."""
    csv.field_size_limit(2**31 - 1)
    lines = (found.group() for found in LINE.finditer(text))
    reader, line = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True), 1
    for record in reader:
        yield line, reader.line_num, [field.strip() for field in record]
        line = reader.line_num + 1


def _rows(text: str, separator: str, file: str, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the header, then the rows, each with its line and as many fields as the header has."""
    header, last, empty, longest = list[str](), 0, 0, 0
    try:
        for line, last, fields in _records(text, separator):
            if not any(fields):
                empty += bool(header)
                continue
            # A separator at the end of some rows, or of the header, begins no field.
            given = max(n for n, field in enumerate(fields, 1) if field)
            header = header or fields[:given]
            where, width = f"line {line} of {file}", len(header)
            remedy = f"name every column, quote fields that hold {separator!r}, and write it for empty ones"
            fits = given <= width <= len(fields)
            require(fits, f"{where} has {max(given, len(fields))} fields, its header {width}: {remedy}.")
            if last > line:
                swallowed = max((_look_like_rows(field, separator, width) for field in fields), default=0)
                stray = f"{where} begins a quoted field that holds {swallowed} lines like rows"
                require(not swallowed, f"{stray}: remove the stray quote, or double it within a quoted field.")
                longest = max(longest, last - line + 1)
            yield line, fields[:width]
    except csv.Error as error:
        where = f"line {last + 1} of {file} holds a quote that is not closed, or not doubled within a quoted field"
        raise UserError(f"{where}, or another separator than , ; | and tab ({error}): correct it.") from None
    notes += [f"empty rows are left out: {empty}"] * bool(empty)
    kept = f"line breaks within quotes are kept (up to {longest} lines a row): a stray quote would do that"
    notes += [kept] * bool(longest)


def _look_like_rows(field: str, separator: str, width: int) -> int:
    """Return how many lines a field holds, if all between its first and last have the table's number of fields."""
    inner = re.split(r"\r\n?|\n", field)[1:-1]
    alike = width > 1 and len(inner) > 1 and all(line.count(separator) == width - 1 for line in inner)
    return len(inner) * alike


def _parquet(path: Path) -> tuple[list[str], pd.DataFrame, list[str]]:
    try:
        # Its index, if it has one, is a column of its own.
        table = parquet.ParquetFile(path).read()
    except Exception as error:  # Whatever the library stumbles on.
        raise UserError(f"{shown(str(path))} cannot be read: {_why(error)}.") from error
    require(table.num_rows, f"{path.name} has no rows.")
    columns, notes = dict[int, list[str]](), list[str]()
    for number, field in enumerate(table.schema):
        plain = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
        strange = pyarrow.types.is_nested(plain) or pyarrow.types.is_binary(plain)
        columns[number] = [_text(None if strange else value) for value in table.column(number).to_pylist()]
        notes += [f"column {field.name!r} holds {plain!s:.60} and is left out"] * strange
    frame = pd.DataFrame(columns, index=np.arange(1, table.num_rows + 1), dtype="str")
    return [re.sub(r"^__index_level_\d+__$", "", name.strip()) for name in table.schema.names], frame, notes


def _text(value: Any) -> str:
    """Return a value of Parquet as it would stand in a CSV file."""
    if value is None or value != value:
        return ""
    text = value.isoformat() if hasattr(value, "isoformat") else str(value).strip()
    return text.removesuffix(".0") if isinstance(value, float) else text


def _require_header(names: list[str], frame: pd.DataFrame, file: str) -> None:
    """Refuse a header that is repeated as a row, or that is data itself: numbers, times, and values of the columns."""
    given = {number: name for number, name in enumerate(names) if name}
    words = [number for number, name in given.items() if not re.fullmatch(f"{NUMBER}|{ISO}|{DATE}", name)]
    # Where a column holds nothing but its name, as one of a survey may, that is no value among others.
    own = [number for number in words if set(frame[number]) - {""} > {names[number]}]
    # pandas writes 0, 1, 2 where columns have no names.
    counted = list(given.values()) in ([str(n + start) for n in range(len(given))] for start in (0, 1))
    repeated = frame.index[(frame == names).all(axis=1)]
    require(not (words and len(repeated)), f"line {[*repeated, 0][0]} of {file} repeats the header: remove it.")
    data = f"the first line of {file} looks like data ({some(list(given.values()), most=3)})"
    require(len(own) < max(1, len(words) / 2) if words else counted, f"{data}: put the columns' names above it.")


def parse_numbers(column: pd.Series[str]) -> tuple[pd.Series[float], pd.Series[str], str]:
    """Read the numbers of a column of text.

    Parameters
    ----------
    column : Series of str
        Numbers are those of Python's ``float``, in ASCII; decimal commas are read if all values can have one and some
        value cannot be meant otherwise, as 1,107 can.

    Returns
    -------
    numbers : Series of float64
        NaN where there is no number.
    rest : Series of str
        The values that are neither numbers nor `MISSING`.
    form : {'numbers', 'decimal commas', 'other'}

    Examples
    --------
    >>> parse_numbers(pd.Series(["1.200,5", "NA", "7"]))[0].tolist()
    [1200.5, nan, 7.0]
    """
    known, form = column[~column.isin(MISSING)], "numbers"
    exact = known.str.fullmatch(NUMBER)
    if not exact.all() and known.str.fullmatch(DECIMAL_COMMA).all():
        commas = known.str.contains(",", regex=False)
        if (commas & ~known.str.fullmatch(THOUSANDS)).any():
            known = known.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
            exact, form = known.str.fullmatch(NUMBER), "decimal commas"
    numbers = pd.Series(known[exact].to_numpy(dtype=object).astype(np.float64), known.index[exact])
    rest = column.loc[known.index[~exact]]
    return numbers.reindex(column.index), rest, form if rest.empty else "other"


def parse_times(column: pd.Series[str], time_format: str = "") -> pd.Series[pd.Timestamp]:
    """Read times that are written by ISO 8601 or by a format, in UTC if they have an offset from it, else NaT.

    Raises
    ------
    UserError
        `time_format` is no format of ``strptime``.
    """
    if not time_format:
        iso = column.where(column.str.fullmatch(ISO)).str.replace(r"\s*UTC$", "Z", regex=True)
        return pd.to_datetime(iso, format="ISO8601", utc=True, errors="coerce").dt.tz_localize(None)
    fits = "%" in time_format and not {"%H", "%p"} <= set(re.findall("%.", time_format))
    require(fits, f"time_format {time_format!r} is no format: write it as '%d/%m/%Y %H:%M', or with %I and %p.")
    if "%y" in time_format and "%f" not in time_format:
        column = column.str.replace(r"(?<![0-9])[0-9](?![0-9])", r"0\g<0>", regex=True)
    try:
        times = pd.to_datetime(column, format=time_format, utc=True, errors="coerce")
    except (ValueError, re.error) as error:
        raise UserError(f"time_format {time_format!r} is no format: {_why(error)}.") from None
    return times.dt.tz_localize(None)


def as_feature(column: pd.Series[str], words: bool) -> tuple[pd.Series[Any] | None, str, list[str]]:
    """Return a column as a feature, or None if it is left out; its kind; and how its values may be meant otherwise.

    Numbers and truth values are float64, dates seconds since 1970; with `words`, categories are strings, and so are
    whole numbers with leading zeros. A missing value is NaN.
    """
    known, where = column[~column.isin(MISSING)], f"column {str(column.name)!r}"
    numbers, rest, form = parse_numbers(column)
    zeros, notes = bool(known.str.fullmatch("0[0-9]+").any()), list[str]()
    if str(column.name).startswith("Unnamed:") or known.empty:
        return None, "empty" if known.empty else "without a name", notes
    if rest.empty and not (words and zeros):
        large = known[numbers.loc[known.index].abs().between(2**53, 1e308)]
        if any(re.fullmatch("[+-]?[0-9]+", value) and int(value) != float(value) for value in large):
            notes.append(f"{where} holds whole numbers above 2^53, which float64 rounds, such as {large.iloc[0]!r}")
        points = known[known.str.contains(".", regex=False)]
        if len(points) and points.str.fullmatch(THOUSANDS).all():
            notes.append(f"{where} reads {points.iloc[0]!r} as a decimal: remove points that separate thousands")
        if gaps := column[column.isin(MISSING[1:])].unique().tolist():
            notes.append(f"{where} reads {some(gaps)} as missing")
        notes += [f"{where} is read with decimal commas"] * (form == "decimal commas")
        return numbers, form, notes + [f"{where} holds leading zeros, which numbers lose"] * zeros
    if known.str.lower().isin(["true", "false"]).all():
        return (known.str.lower() == "true").astype(np.float64).reindex(column.index), "truth values", notes
    if len(rest) and (len(rest) <= len(known) / 2 or rest.str.fullmatch(IN_UNITS).mean() > 0.5):
        notes.append(f"{where} would be numeric but for {len(rest)} values such as {shown(rest.iloc[0])}")
    if not words:
        return None, "not numeric", notes
    times = parse_times(known)
    if times.notna().all() and known.str.len().min() >= len("2013-05-09"):
        # Seconds, not nanoseconds, which end in 2262: an open end is often written as 9999-12-31.
        seconds = times.astype("datetime64[s]").astype(np.int64).astype(np.float64)
        mixed = known.str.fullmatch(ZONED).nunique() > 1
        notes += [f"{where} holds times with an offset from UTC and without: all are read as UTC"] * mixed
        return seconds.reindex(column.index), "dates", notes
    if known.str.fullmatch(DATE).mean() > 0.5:
        notes.append(f"{where} holds dates as words, such as {shown(known.iloc[0])}: write them as 2013-05-09")
    named = column[column != ""]
    if named.nunique() > min(MOST_CATEGORIES, max(20, len(named) / 2)):
        return None, "too many categories", notes
    return named.astype(object).reindex(column.index), "categories", notes + name_notes(column)


def name_notes(column: pd.Series[str]) -> list[str]:
    """Say what of a column of names, as of groups, is kept as a name and may be meant otherwise."""
    names, where = column[column != ""].unique().tolist(), f"column {str(column.name)!r}"
    gaps = [name for name in names if name in MISSING]
    notes = [f"{where} keeps {some(gaps)} as a name: leave fields empty where it is missing"] if gaps else []
    alike = look_alike(names)
    return notes + ([f"{where} holds names that may be one: {some(alike)}"] if alike else [])


def look_alike(names: Iterable[str]) -> list[str]:
    """Return the names that differ in case, in blanks, in signs that show nothing, or in how a number is written.

    Examples
    --------
    >>> look_alike(["7", "07", "Yes", "yes", "no"])
    ['7', '07', 'Yes', 'yes']
    """
    looks = defaultdict[object, list[str]](list)
    for name in names:
        plain = "".join(filter(str.isprintable, unicodedata.normalize("NFKC", name).lower()))
        looks[float(plain) if re.fullmatch(NUMBER, plain) else " ".join(plain.split())].append(name)
    return [name for alike in looks.values() if len(alike) > 1 for name in alike]


def describe(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what was read, a row for each column: its kind, missing and different values, and the first ones.

    Parameters
    ----------
    frame : DataFrame of str
        As `read_table` returns it.

    Examples
    --------
    >>> print(describe(pd.DataFrame({"size": ["1,5", "NA", "2"]}, dtype="str")).to_string())
                    kind  missing  different      first values
    size  decimal commas        1          2  '1,5', 'NA', '2'
    """
    rows = {}
    for name, column in frame.items():
        feature, kind, _ = as_feature(column, True)
        values = column.mask(column == "") if feature is None else feature
        rows[name] = [kind, int(values.isna().sum()), values.nunique(), some(column.iloc[:3].tolist())]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["kind", "missing", "different", "first values"])
