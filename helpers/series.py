"""A series over time: read from the reader's own file, on an even grid of times, checked.

The gap: pandas parses times and resamples; it does not say that a time stands there twice because clocks were put back,
that one line is off the step, or which of five columns is the series. Every file ends in a `Dataset` or in one clear
sentence.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.data import Dataset, read_csv
from helpers.messages import SentenceError, some

__all__ = ["open_series"]

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
            raise SentenceError(f"{parameter} {column!r} is not a filled column of {path.name}; {hint}")
    time_column = time_column or _time_column(frame, path.name)
    value_column = value_column or _value_column(frame.drop(columns=time_column), path.name)
    if time_column == value_column:
        raise SentenceError(f"time_column and value_column are both {time_column!r}: a series needs two columns.")
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
        raise SentenceError(f"{file} has {len(found)} columns of times ({some(found)}): name one as time_column.")
    if found:
        return found[0]
    for name in frame:
        known = frame[name].dropna()
        if known.str.fullmatch(LIKE_A_DATE).mean() > 0.5:
            bad = ~known.str.fullmatch(ISO)
            raise SentenceError(
                f"column {name!r} of {file} looks like times, but {known[bad].iloc[0]!r} in"
                f" {_lines(known.index[bad] + 2)} is not by ISO 8601: write 2013-05-09 02:00."
            )
    raise SentenceError(
        f"{file} has no column of times by ISO 8601, such as 2013-05-09 02:00 (a column of years must be named as"
        f" time_column); there are: {some(_names(frame), most=20)}."
    )


def _value_column(frame: pd.DataFrame, file: str) -> str:
    numeric = frame.apply(pd.to_numeric, errors="coerce")
    found = [name for name in _names(frame) if numeric[name].notna().equals(frame[name].notna())]
    if len(found) == 1:
        return found[0]
    if found:
        raise SentenceError(
            f"{file} has {len(found)} columns of numbers ({some(found, most=20)}): name one as value_column."
        )
    raise SentenceError(
        f"{file} has no column of numbers beside the times; there are: {some(_names(frame), most=20) or 'none'}."
    )


def _numbers(column: pd.Series[str], file: str) -> NDArray[np.float64]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(values) & column.notna().to_numpy() | np.isinf(values)
    where = f"column {str(column.name)!r} of {file}"
    if bad.any():
        raise SentenceError(
            f"{where} holds {column[bad].iloc[0]!r} in {_lines(np.flatnonzero(bad) + 2)}, which is no finite number."
        )
    known = values[~np.isnan(values)]
    if len(known) < MIN_ROWS:
        raise SentenceError(f"{where} holds {len(known)} numbers: at least {MIN_ROWS} are needed.")
    if np.ptp(known) == 0:
        raise SentenceError(f"{where} holds {known[0]:g} throughout: there is nothing to forecast.")
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
        raise SentenceError(
            f"{where} holds {what} in {_lines(np.flatnonzero(bad) + 2)}: write times by ISO 8601, to the second,"
            " as 2013-05-09 02:00."
        )
    zoned = column.str.fullmatch(ZONE)
    if 0 < zoned.sum() < len(zoned):
        raise SentenceError(
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
    raise SentenceError(f"the time {time} stands in {both} of {file}{more}: {hint}.")


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
        raise SentenceError(
            f"most times of {file} are {each} apart, {_lines(sorted(lines[off]))} {'are' if off.size > 1 else 'is'}"
            f" off this step, counted from {times[0]}: average or interpolate first."
        )
    places = position // step
    if places[-1] + 1 > 2 * len(times):
        raise SentenceError(f"{file} has {len(times)} lines for {places[-1] + 1} steps: more are missing than there.")
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
