"""Does path B give what path A gave, on the same raw inputs, and do decisions change?

The gap: ``numpy.testing.assert_allclose`` compares two arrays. It does not know which raw input made them differ, what
the difference does to a decision, that NaN came out of one path and an error out of the other, or which inputs to try.

A *path* is any function from a batch of raw inputs to one output a row: a fitted transformer's ``transform``, a Keras
model, a served signature, a whole prediction. The inputs that break paths apart are in `edge_cases`, and as hypothesis
strategies in `hypothesis_strategy`.
"""

from __future__ import annotations

import copy
import html
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from helpers.notebook import first_line

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "Difference",
    "ParityReport",
    "edge_cases",
    "edge_case_rows",
    "assert_parity",
    "compare",
    "hypothesis_strategy",
]

SHOWN = 5
MOST_REFUSED = 1000
QUANTILES = (0.5, 0.9, 0.99)

Path = Callable[[Any], Any]
Kind = Literal["number", "category", "text"]


class OutputError(ValueError):
    """A path returns what cannot be compared, whatever the rows."""


@dataclass(frozen=True)
class Difference:
    """One raw input on which the paths disagree.

    Attributes
    ----------
    row : int
        Its place in the inputs.
    label : object
        Its label in the index of a DataFrame, else its place.
    inputs : object
        The raw input itself.
    reference, candidate : object
        The two outputs where they differ most, or the error with which a path refused the input.
    """

    row: int
    label: Any
    inputs: Any
    reference: Any
    candidate: Any

    @property
    def outputs(self) -> tuple[str, str]:
        """Both outputs as text, with as many digits as tell them apart."""
        both = _short(self.reference), _short(self.candidate)
        numbers = isinstance(self.reference, np.floating) and isinstance(self.candidate, np.floating)
        brief = (f"{self.reference:.6g}", f"{self.candidate:.6g}") if numbers else both
        if brief[0] != brief[1]:
            return brief
        # Two long texts that begin alike are shown from where they part.
        long = repr(self.reference), repr(self.candidate)
        parts = (at for at, (one, other) in enumerate(zip(*long, strict=False)) if one != other)
        start = max(next(parts, 20) - 20, 0)
        return (f"… {_short(long[0][start:])}", f"… {_short(long[1][start:])}") if both[0] == both[1] else both


@dataclass(frozen=True, repr=False)
class ParityReport:
    """What `compare` found; prints as text, and shows as a table in Jupyter.

    Attributes
    ----------
    rows : int
        Raw inputs compared.
    both_raised : int
        How many of them neither path answers.
    difference : ndarray of shape (rows,), float64
        Largest absolute difference in the outputs of a row; 0 where both are NaN or the same infinity, inf where only
        one is, or where only one path refuses the row; 1 where two strings differ.
    max_relative : float
        Largest difference relative to the reference's value.
    max_ulp : float
        Largest difference in units in the last place, that is, how many numbers of the coarser of the two dtypes lie
        between (bfloat16 counts as float32); inf where one is not finite, NaN where the outputs are not floating point.
    differing, flipped, refused : ndarray of int
        The rows whose outputs differ by more than the tolerance; whose decisions differ; that only one path refuses.
    tolerance : float
    threshold : float or None
    examples : tuple of Difference
        The first rows that flip, are refused by one path, or differ.
    """

    rows: int
    both_raised: int
    difference: NDArray[np.float64]
    max_relative: float
    max_ulp: float
    differing: NDArray[np.intp]
    flipped: NDArray[np.intp]
    refused: NDArray[np.intp]
    tolerance: float
    threshold: float | None
    examples: tuple[Difference, ...]

    @property
    def max_difference(self) -> float:
        """Largest absolute difference; 0 for no rows."""
        return float(self.difference.max(initial=0))

    @property
    def quantiles(self) -> dict[float, float]:
        """Quantiles of the rows' differences: the median, 90 % and 99 %."""
        if not self.rows:
            return dict.fromkeys(QUANTILES, 0.0)
        return {q: float(np.quantile(self.difference, q, method="higher")) for q in QUANTILES}

    @property
    def same(self) -> bool:
        """True if no row differs by more than the tolerance, flips, or is refused by one path only; nor all by both."""
        nothing = 0 < self.rows == self.both_raised
        return not (nothing or len(self.differing) or len(self.flipped) or len(self.refused))

    @property
    def verdict(self) -> str:
        """The report in one line."""
        if self.same:
            how = "to the last bit" if self.max_difference == 0 else f"within {self.tolerance:g}"
            neither = f", {self.both_raised} of them refused by both" if self.both_raised else ""
            return f"same: {_count(self.rows, 'row')} agree {how}{neither}."
        if self.both_raised == self.rows:
            first = self.examples[0].reference
            return f"nothing compared: both paths refuse {_count(self.rows, 'row')}, the first with {first}"
        parts = []
        if len(self.flipped):
            parts.append(f"{len(self.flipped)} of {_count(self.rows, 'decision')} flip")
        if len(self.refused):
            parts.append(f"{_count(len(self.refused), 'row')} refused by one path only")
        if len(self.differing):
            # Words and whole numbers are equal or not.
            beyond = "" if np.isnan(self.max_ulp) else f" by more than {self.tolerance:g}"
            parts.append(f"{len(self.differing)} of {_count(self.rows, 'row')} differ{beyond}")
        known = np.isfinite(self.max_difference) and not np.isnan(self.max_ulp)
        largest = f"; largest difference {self.max_difference:.3g}" if known else ""
        return f"different: {', '.join(parts)}{largest}."

    def table(self) -> pd.DataFrame:
        """Return what was measured, one line each, as text."""
        lines = {
            "rows compared": f"{self.rows}",
            "largest difference": f"{self.max_difference:.3g}",
            **{f"{q:.0%} of the rows are within": f"{value:.3g}" for q, value in self.quantiles.items()},
            "largest relative difference": f"{self.max_relative:.3g}",
            "largest in units in the last place": "-" if np.isnan(self.max_ulp) else f"{self.max_ulp:.3g}",
            f"rows that differ by more than {self.tolerance:g}": f"{len(self.differing)}",
            "rows that one path refuses": f"{len(self.refused)}",
            "rows that both refuse": f"{self.both_raised}",
        }
        if self.threshold is not None:
            lines[f"decisions that flip at {self.threshold:g}"] = f"{len(self.flipped)}"
        return pd.DataFrame({"": lines})

    def __str__(self) -> str:
        lines = [self.verdict, *(f"  {name}: {value}" for name, value in self.table()[""].items())]
        for example in self.examples:
            reference, candidate = example.outputs
            lines.append(f"  row {example.label}: {_short(example.inputs)}")
            lines.append(f"    reference {reference}")
            lines.append(f"    candidate {candidate}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self.verdict)}</b></p>", self.table().to_html(header=False, border=0)]
        if self.examples:
            rows = [(str(example.label), _short(example.inputs), *example.outputs) for example in self.examples]
            columns = ["row", "raw input", "reference", "candidate"]
            parts.append(pd.DataFrame(rows, columns=columns).to_html(border=0, index=False))
        return "\n".join(parts)


def compare(
    reference: Path, candidate: Path, inputs: Any, *, tolerance: float = 1e-6, threshold: float | None = None
) -> ParityReport:
    """Run two paths over the same raw inputs and measure how far their outputs lie apart.

    Each path gets its own copy of the whole batch. If it raises, the batch is halved until the rows that it refuses are
    found, and it gets the rest: an input that one path answers and the other refuses is a difference, one that both
    refuse is none. If both refuse everything, nothing was compared, and that is not the same.

    Parameters
    ----------
    reference, candidate : callable
        From a batch of n raw inputs to n outputs: an array, tensor or sparse matrix of numbers or strings whose first
        axis has length n.
    inputs : DataFrame, ndarray, sequence, or mapping of str to any of these
        The raw inputs, n rows. A mapping holds columns, as a Keras model with named inputs takes them.
    tolerance : float
        How much two outputs may differ: absolutely where the reference is below 1, relatively above. Whole numbers and
        strings must be equal.
    threshold : float, optional
        An output is a positive decision if it is at least this much; NaN is no decision. Only where each row has one
        number as its output.

    Returns
    -------
    ParityReport

    Raises
    ------
    TypeError
        A path is not callable.
    ValueError
        The paths return different shapes; a path returns another number of rows than it got, or a dictionary; it
        refuses more than 1,000 rows, or a batch of which it takes every row alone.

    Examples
    --------
    >>> right, wrong = lambda x: x / 2, lambda x: x / 2 + (x > 2)
    >>> print(compare(right, wrong, np.arange(4.0), threshold=2).verdict)
    different: 1 of 4 decisions flip, 1 of 4 rows differ by more than 1e-06; largest difference 1.
    """
    for name, path in (("reference", reference), ("candidate", candidate)):
        if not callable(path):
            raise TypeError(f"{name} must be a function from raw inputs to outputs; got {type(path).__name__}.")
    for name, number in (("tolerance", tolerance), ("threshold", 0.0 if threshold is None else threshold)):
        if not isinstance(number, Real) or not math.isfinite(number):
            raise ValueError(f"{name} must be a finite number; got {number!r}.")
    if tolerance < 0:
        raise ValueError(f"tolerance must be at least 0; got {tolerance}.")
    rows = _length(inputs)
    a, errors_a = _outputs("reference", reference, inputs, rows)
    b, errors_b = _outputs("candidate", candidate, inputs, rows)
    # A path that refuses every row has no shape of its own.
    a = np.zeros_like(b) if len(errors_a) == rows else a
    b = np.zeros_like(a) if len(errors_b) == rows else b
    if a.shape != b.shape:
        raise ValueError(f"the outputs have different shapes: reference {a.shape}, candidate {b.shape}.")
    shape = (rows, math.prod(a.shape[1:]))
    a, b = a.reshape(shape), b.reshape(shape)
    numbers = a.dtype.kind in "fiub" and b.dtype.kind in "fiub"
    if threshold is not None and not (numbers and shape[1] == 1):
        raise ValueError(f"a threshold needs one number a row; each row has {shape[1]} of dtype {a.dtype}.")
    difference, relative = _differences(a, b) if numbers else [(a != b).astype(np.float64)] * 2
    if numbers and "f" in (a.dtype.kind, b.dtype.kind):
        # Below 1 the relative difference is the larger one.
        beyond, ulp = np.minimum(difference, relative) > tolerance, _ulps(a, b)
    else:
        # Words and whole numbers are equal or not.
        beyond, ulp = a != b, np.full(shape, np.nan)
    refuses = [np.isin(np.arange(rows), list(errors)) for errors in (errors_a, errors_b)]
    both, one = ~(refuses[0] | refuses[1]), refuses[0] ^ refuses[1]
    per_row = np.where(both, difference.max(axis=1, initial=0), np.where(one, np.inf, 0))
    differing, refused = np.flatnonzero(beyond.any(axis=1) & both), np.flatnonzero(one)
    flipped = np.zeros(0, dtype=np.intp)
    if threshold is not None:
        flipped = np.flatnonzero((_decisions(a, threshold) != _decisions(b, threshold)) & both)
    examples = []
    neither = [] if both.any() else np.flatnonzero(~both).tolist()
    for row in list(dict.fromkeys([*flipped.tolist(), *refused.tolist(), *differing.tolist(), *neither]))[:SHOWN]:
        column = int(np.argmax(difference[row])) if shape[1] else 0
        outputs = [
            errors[row] if row in errors else values[row, column] for values, errors in ((a, errors_a), (b, errors_b))
        ]
        label = inputs.index[row] if hasattr(inputs, "iloc") else row
        examples.append(Difference(row, label, _rows(inputs, row), *outputs))
    return ParityReport(
        rows=rows,
        both_raised=int((refuses[0] & refuses[1]).sum()),
        difference=per_row,
        max_relative=float(relative[both].max(initial=0)),
        max_ulp=float(ulp[both].max(initial=0)),
        differing=differing,
        flipped=flipped,
        refused=refused,
        tolerance=tolerance,
        threshold=threshold,
        examples=tuple(examples),
    )


def assert_parity(
    reference: Path, candidate: Path, inputs: Any, *, tolerance: float = 1e-6, threshold: float | None = None
) -> ParityReport:
    """Raise an AssertionError with the report if the paths differ; for tests. Parameters as in `compare`.

    Examples
    --------
    >>> assert_parity(np.sqrt, lambda x: x**0.5, np.arange(3.0)).verdict
    'same: 3 rows agree to the last bit.'
    """
    report = compare(reference, candidate, inputs, tolerance=tolerance, threshold=threshold)
    if not report.same:
        raise AssertionError(str(report))
    return report


def edge_cases(kind: Kind, known: Sequence[str] = ()) -> dict[str, Any]:
    """Return raw values that break preprocessing paths apart, each with its name.

    Parameters
    ----------
    kind : {'number', 'category', 'text'}
    known : sequence of str
        The categories seen in training, from which near misses are made.

    Returns
    -------
    dict of str to object
        Numbers are float or int, or None where missing; categories are str, int or None; texts are str, or bytes that
        are no UTF-8.

    Examples
    --------
    >>> list(edge_cases("category", ["DFW"]))[-3:]
    ['other case', 'trailing space', 'leading space']
    >>> edge_cases("number")["2^24 + 1"]
    16777217
    """
    if isinstance(known, (str, bytes)):
        raise TypeError(f"known is a sequence of categories; got the single {known!r}.")
    known = list(known)
    if kind == "number":
        return dict(_NUMBERS)
    if kind == "text":
        return dict(_TEXTS)
    if kind != "category":
        raise ValueError(f"kind is 'number', 'category' or 'text'; got {kind!r}.")
    values: dict[str, Any] = {
        "unseen": "never seen in training",
        "empty": "",
        "missing": None,
        "a number as int": 7,
        "the same as str": "7",
        "Keras's own token": "[UNK]",
    }
    if known:
        values |= {
            "other case": str(known[0]).swapcase(),
            "trailing space": f"{known[0]} ",
            "leading space": f" {known[0]}",
        }
    return values


def edge_case_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows that are ordinary but for one value: an ordinary row, with each column broken in turn.

    Parameters
    ----------
    frame : DataFrame of shape (n, m)
        Ordinary rows: the first known value of each column makes the row. Columns of numbers get the adversarial
        numbers, all others the adversarial categories.

    Returns
    -------
    DataFrame
        The same columns, numbers as float64 and the rest as objects; the index says what is wrong, as ``'wind: NaN'``.

    Examples
    --------
    >>> rows = edge_case_rows(pd.DataFrame({"wind": [3.5], "town": ["Köln"]}))
    >>> rows.index[0], rows.loc["town: trailing space", "town"]
    ('wind: NaN', 'Köln ')
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a DataFrame; got {type(frame).__name__}.")
    if frame.empty or frame.columns.duplicated().any():
        raise ValueError("frame needs at least one row, and a name of its own for each column.")
    ordinary = {name: frame[name].dropna().iloc[0] for name in frame if frame[name].notna().any()}
    rows, index = [], []
    for name in ordinary:
        number = pd.api.types.is_numeric_dtype(frame[name])
        values = edge_cases("number") if number else edge_cases("category", [ordinary[name]])
        for what, value in values.items():
            rows.append({**ordinary, name: float("nan" if value is None else value) if number else value})
            index.append(f"{name}: {what}")
    broken = pd.DataFrame(rows, index=index, columns=frame.columns, dtype=object)
    numbers = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name])]
    return broken.astype(dict.fromkeys(numbers, np.float64))


def hypothesis_strategy(kind: Kind, known: Sequence[str] = ()) -> SearchStrategy[Any]:
    """Return a hypothesis strategy: the adversarial values of `edge_cases`, ordinary ones, and random ones.

    Parameters
    ----------
    kind, known
        As in `edge_cases`.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
    """
    from hypothesis import strategies as st

    values, known = list(edge_cases(kind, known).values()), list(known)
    random: dict[str, SearchStrategy[Any]] = {
        "number": st.floats(),
        "category": st.sampled_from(known) | st.text(max_size=12) if known else st.text(max_size=12),
        "text": st.text(),
    }
    return st.sampled_from(values) | random[kind]


_NUMBERS: dict[str, Any] = {
    "NaN": float("nan"),
    "missing": None,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "zero": 0.0,
    "negative zero": -0.0,
    "subnormal": 5e-324,
    "subnormal in float32": 1e-40,
    "2^24 + 1": 2**24 + 1,
    "epoch seconds": 1_700_000_001,
    "1e308": 1e308,
    "-1e308": -1e308,
    "int beyond float32": 10**39,
    "a third": 1 / 3,
}

_TEXTS: dict[str, Any] = {
    "empty": "",
    "only spaces": " \t ",
    "only punctuation": "?!... --- ;)",
    "HTML": "<p>Great&nbsp;film,<br />really</p>",
    "emoji": "loved it 👍🏽👨‍👩‍👧",
    "accents, composed": "caf\u00e9 d\u00e9j\u00e0 vu",
    "accents, combining": "cafe\u0301 de\u0301ja\u0300 vu",
    "capital accents": "\u00c9CLAIR \u00dcBER",
    "right to left": "\u05e1\u05e8\u05d8 \u05de\u05e6\u05d5\u05d9\u05df, \u0641\u064a\u0644\u0645",
    "zero-width space": "great\u200bfilm",
    "no-break space": "great\u00a0film",
    "next-line character": "great\u0085film",
    "CRLF": "great\r\nfilm\r\n",
    "null character": "great\x00film",
    "very long": "good film " * 5000,
    "one very long word": "a" * 20_000,
    "bytes that are no UTF-8": b"caf\xe9 film",
    "capital dotted I": "\u0130STANBUL F\u0130LM",
    "final sigma": "\u039f\u0394\u039f\u03a3",
    "sharp s": "STRASSE stra\u00dfe",
    "apostrophes": "don't can\u2019t",
    "underscores and digits": "snake_case 3.5 stars 10/10",
    "upper case": "GREAT FILM",
    "Chinese": "\u4e00\u90e8\u597d\u7535\u5f71",
}


def _length(inputs: Any) -> int:
    if isinstance(inputs, Mapping):
        lengths = {name: _length(column) for name, column in inputs.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the columns of inputs must have one length; got {lengths}.")
        return next(iter(lengths.values()))
    if sparse.issparse(inputs):
        return inputs.shape[0]
    single = isinstance(inputs, (str, bytes)) or getattr(inputs, "shape", None) == ()
    if single or not hasattr(inputs, "__getitem__"):
        raise TypeError(f"inputs must be a batch of rows, in order; got one {type(inputs).__name__}.")
    return len(inputs)


def _rows(inputs: Any, which: int | NDArray[np.intp]) -> Any:
    """Return one row, or a copy of some rows: what a path does to them in place must not reach the other path."""
    if isinstance(inputs, Mapping):
        return {name: _rows(column, which) for name, column in inputs.items()}
    if hasattr(inputs, "iloc"):
        rows = inputs.iloc[which]
        return rows.to_dict() if isinstance(inputs, pd.DataFrame) and isinstance(which, int) else rows
    if isinstance(which, int) or isinstance(inputs, np.ndarray) or sparse.issparse(inputs):
        return inputs[which]
    if hasattr(inputs, "numpy"):
        return inputs.numpy()[which]
    return [copy.deepcopy(inputs[row]) for row in which]


def _outputs(name: str, path: Path, inputs: Any, rows: int) -> tuple[NDArray[Any], dict[int, str]]:
    """Return the outputs, without a last axis of length 1, and the error of each row that the path refuses."""
    errors: dict[int, str] = {}

    def answer(which: NDArray[np.intp]) -> Any:
        # What matters is measured; warnings would come once for every half.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return path(_rows(inputs, which))

    def search(which: NDArray[np.intp]) -> None:
        if len(errors) > MOST_REFUSED:
            return
        try:
            answer(which)
        except Exception as error:
            if len(which) == 1:
                errors[int(which[0])] = _reason(error)
            else:
                search(which[: len(which) // 2])
                search(which[len(which) // 2 :])

    def together(which: NDArray[np.intp]) -> NDArray[Any]:
        return _array(name, answer(which), len(which))

    if not rows:
        return np.zeros(0), errors
    every = np.arange(rows)
    try:
        return together(every), errors
    except OutputError:
        raise
    except Exception:
        search(every)
    if len(errors) > MOST_REFUSED:
        raise ValueError(f"{name} refuses more than {MOST_REFUSED} rows; the first with {next(iter(errors.values()))}")
    taken = np.setdiff1d(every, list(errors))
    if not len(taken):
        return np.zeros(rows), errors
    try:
        found = together(taken)
    except OutputError:
        raise
    except Exception as error:
        raise ValueError(f"{name} takes {len(taken)} rows one by one, not together: {_reason(error)}") from error
    outputs = np.zeros((rows, *found.shape[1:]), dtype=found.dtype)
    outputs[taken] = found
    return outputs, errors


def _array(name: str, answer: Any, rows: int) -> NDArray[Any]:
    if isinstance(answer, Mapping):
        raise OutputError(f"{name} returns a dictionary: let it return one of {', '.join(map(repr, answer))}.")
    if np.ma.isMaskedArray(answer):
        raise OutputError(f"{name} returns a masked array: let it fill what is masked.")
    words = isinstance(answer, (list, tuple)) and any(isinstance(value, (str, bytes)) for value in answer)
    try:
        # A copy, for two paths may write into one buffer; and objects, for NumPy's own strings would lose null
        # characters at their end.
        output = answer.toarray() if sparse.issparse(answer) else np.array(answer, dtype=object if words else None)
    except ValueError as error:
        raise OutputError(f"{name} returns rows of different lengths.") from error
    if output.ndim == 0 or len(output) != rows:
        raise OutputError(f"{name} got {_count(rows, 'row')} and returned an output of shape {output.shape}.")
    if output.shape[1:] and output.shape[-1] == 1:
        output = output[..., 0]
    if output.dtype.name == "bfloat16":
        return output.astype(np.float32)
    if output.dtype == object:
        values = [np.nan if value is None or value is pd.NA else value for value in output.ravel()]
        if any(isinstance(value, (list, tuple, np.ndarray)) for value in values):
            raise OutputError(f"{name} returns arrays as objects: let it return one array.")
        if all(isinstance(value, (Real, np.bool_)) for value in values):
            return np.array(values, dtype=np.float64).reshape(output.shape)
    if output.dtype.kind in "fiub":
        return output
    return np.array([_word(value) for value in output.ravel()], dtype=object).reshape(output.shape)


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return "(missing)"
    return value if isinstance(value, str) else f"{type(value).__name__} {value!r}"


def _differences(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the absolute differences, and those relative to `a`."""
    # Before they become floats: large whole numbers would turn equal.
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    whole = a.dtype.kind in "iub" and b.dtype.kind in "iub"
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        difference = np.abs(a - b)
        difference = np.maximum(difference, 1) if whole else difference
        relative = difference / np.abs(a)
    difference[~alike & ~np.isfinite(difference)] = np.inf
    relative[np.isnan(relative)] = np.inf
    difference[alike] = relative[alike] = 0
    return difference, relative


def _ulps(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many representable numbers lie between two, in the coarser floating dtype; NaN above float64."""
    dtype = min((array.dtype for array in (a, b) if array.dtype.kind == "f"), key=lambda found: found.itemsize)
    if dtype.itemsize > 8:
        return np.full(a.shape, np.nan)
    # Under this order, and with negative numbers mirrored, neighbouring floats are neighbouring integers.
    whole = np.dtype(f"i{dtype.itemsize}")
    with np.errstate(over="ignore"):
        a, b = (np.ascontiguousarray(array.astype(dtype)) for array in (a, b))
    first, second = (np.where(bits < 0, np.iinfo(whole).min - bits, bits) for bits in (a.view(whole), b.view(whole)))
    # In integers where they cannot overflow: as float64, neighbours among them would be equal.
    across = (first < 0) != (second < 0)
    near = np.abs(np.where(across, 0, first) - np.where(across, 0, second)).astype(np.float64)
    apart = np.where(across, np.abs(first.astype(np.float64)) + np.abs(second.astype(np.float64)), near)
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(alike, 0, np.where(np.isfinite(a) & np.isfinite(b), apart, np.inf))


def _decisions(outputs: NDArray[Any], threshold: float) -> NDArray[np.int8]:
    """Return 1 for positive, 0 for negative, -1 for none."""
    values = outputs[:, 0]
    # As a Python float the threshold is rounded to the dtype of the outputs, as in `decisions.apply_threshold`.
    with np.errstate(over="ignore"):
        positive = values >= float(threshold)
    return np.where(np.isnan(values), -1, positive).astype(np.int8)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _short(value: Any, most: int = 200) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]} …"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
