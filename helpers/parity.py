"""Do two pipelines give the same outputs for the same raw inputs, and do decisions change?

The gap: ``numpy.testing.assert_allclose`` compares two arrays. It does not know which raw input made them differ, what
the difference does to a decision, that one pipeline gave NaN or raised an error, or which inputs and which changes of
them to try.

A *pipeline* is any function from a batch of raw inputs to one output a row: a fitted transformer's ``transform``, a
Keras model, a served signature, a whole prediction. `compare` reports on two of them, `gallery` on one beside many.
`edge_cases` holds the inputs that make pipelines differ, `hypothesis_strategy` draws from them, and `usual_skews` makes
the changes that inputs suffer between training and serving.
"""

from __future__ import annotations

import copy
import html
import string
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from helpers.decisions import FINITE, FROM_0, check_numbers
from helpers.notebook import first_line

MAX_EXAMPLES = 5
MAX_RAISED = 1000
MAX_RAISED_OF_MANY = 100
MAX_TEXT = 200

Pipeline = Callable[[Any], Any]
Change = Callable[[Any], Any]
Kind = Literal["number", "category", "text"]


class ParityReport(NamedTuple):
    """What `compare` found; prints as text, and shows as a table in Jupyter.

    Each row is counted once: as raising, as missing, as differing, or as the same.

    Attributes
    ----------
    rows : int
        Raw inputs compared.
    both_raised : int
        For how many of them both pipelines raise an error.
    one_raised : ndarray of int
        The rows for which only one pipeline raises.
    one_nan : ndarray of int
        The rows for which both return something, and one of them NaN, or another missing value, where the other has a
        value.
    no_answer : ndarray of int
        The rows of `one_raised` and `one_nan` for which the reference answers and the candidate does not.
    difference : ndarray of shape (rows,), float64
        Largest absolute difference in the outputs of a row; 0 where both are missing or the same infinity, inf where
        only one is, or where only one pipeline raises; at least 1 where whole numbers differ, 1 where objects do.
    max_relative : float
        Largest difference relative to the reference's value.
    max_ulp : float
        Largest difference in units in the last place, that is, how many numbers of the coarser of the two dtypes lie
        between (bfloat16 counts as float32); inf where one is not finite, NaN where the outputs are not floating point.
    differing : ndarray of int
        The rows whose outputs differ by more than the tolerance.
    flipped : ndarray of int
        The rows for which both give a number, on different sides of the threshold.
    atol, rtol : float
    threshold : float or None
    examples : DataFrame
        The first rows that flip, for which one pipeline raises or gives NaN, or that differ, by their labels: the ``raw
        input``, and what ``reference`` and ``candidate`` give where they differ most, or the error that they raise, as
        text.
    """

    rows: int
    both_raised: int
    one_raised: NDArray[np.intp]
    one_nan: NDArray[np.intp]
    no_answer: NDArray[np.intp]
    difference: NDArray[np.float64]
    max_relative: float
    max_ulp: float
    differing: NDArray[np.intp]
    flipped: NDArray[np.intp]
    atol: float
    rtol: float
    threshold: float | None
    examples: pd.DataFrame

    @property
    def max_difference(self) -> float:
        """Largest absolute difference; 0 for no rows."""
        return float(self.difference.max(initial=0))

    @property
    def same(self) -> bool:
        """True if rows were compared, none flips or differs beyond the tolerance, and errors and NaN come in both.

        No rows at all are the same; rows for which both pipelines always raise are not.
        """
        nothing = 0 < self.rows == self.both_raised
        return not (nothing or any(map(len, (self.differing, self.flipped, self.one_raised, self.one_nan))))

    @property
    def _tolerance(self) -> str:
        return f"atol={self.atol:g}, rtol={self.rtol:g}"

    @property
    def verdict(self) -> str:
        """The report in one line.

        Rows that "agree to the last bit" have equal values, whatever their dtypes: a whole number beyond 2^53 is not
        equal to the float that it is rounded to. 0.0 equals -0.0, and what is missing (NaN, NaT, None) equals itself.
        """
        rows = _count(self.rows, "row")
        if self.same:
            how = "to the last bit" if self.max_difference == 0 else f"within {self._tolerance}"
            both = f", of which both pipelines raise for {self.both_raised}" if self.both_raised else ""
            return f"same: {rows} agree {how}{both}."
        if self.both_raised == self.rows:
            first = self.examples["reference"].iloc[0]
            return f"nothing compared: both pipelines raise for {rows}; at the first, the reference {first}"
        # Strings and whole numbers are equal or not.
        graded = not np.isnan(self.max_ulp)
        beyond = f" by more than {self._tolerance}" if graded else ""
        largest = self.difference[self.differing].max(initial=0)
        parts = {
            f"{len(self.flipped)} of {_count(self.rows, 'decision')} flip": len(self.flipped),
            f"one pipeline raises for {_count(len(self.one_raised), 'row')}": len(self.one_raised),
            f"one pipeline gives NaN for {_count(len(self.one_nan), 'row')}": len(self.one_nan),
            f"{len(self.differing)} of {rows} differ{beyond}": len(self.differing),
        }
        told = f"; largest difference {largest:.3g}" * bool(graded and 0 < largest < np.inf)
        return f"different: {', '.join(part for part, number in parts.items() if number)}{told}."

    def _table(self) -> dict[str, str]:
        found = self.difference if self.rows else np.zeros(1)
        numbers = {
            "rows compared": self.rows,
            "largest difference": self.max_difference,
            **{f"{q:.0%} of the rows are within": np.quantile(found, q, method="higher") for q in (0.5, 0.9, 0.99)},
            "largest relative difference": self.max_relative,
            "largest in units in the last place": "-" if np.isnan(self.max_ulp) else self.max_ulp,
            f"rows that differ by more than {self._tolerance}": len(self.differing),
            "rows for which one pipeline gives NaN": len(self.one_nan),
            "rows for which one pipeline raises": len(self.one_raised),
            "rows for which both raise": self.both_raised,
        }
        if self.threshold is not None:
            numbers[f"decisions that flip at {self.threshold:g}"] = len(self.flipped)
        return {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in numbers.items()}

    def __repr__(self) -> str:
        lines = [self.verdict, *(f"  {name}: {value}" for name, value in self._table().items())]
        for label, *example in self.examples.itertuples():
            lines.append("  row {}: {}\n    reference {}\n    candidate {}".format(label, *example))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [pd.DataFrame({"": self._table()}).to_html(header=False, border=0), self.examples.to_html(border=0)]
        return "\n".join([f"<p><b>{html.escape(self.verdict)}</b></p>", *parts[: 1 + (len(self.examples) > 0)]])


def compare(
    reference: Pipeline,
    candidate: Pipeline,
    inputs: Any,
    *,
    atol: float = 1e-6,
    rtol: float = 1e-6,
    threshold: float | None = None,
) -> ParityReport:
    """Return a report of where two pipelines differ on the same raw inputs, and which decisions flip.

    Each pipeline gets its own copy of the whole batch. If it raises an error, the batch is halved until the rows are
    found for which it raises, and it gets the rest: a row for which one pipeline raises is a difference, a row for
    which both raise is none. If both raise for every row, nothing was compared, and that is not the same.

    Parameters
    ----------
    reference, candidate : callable
        From a batch of n raw inputs to n outputs: an array, tensor or sparse matrix of numbers or strings whose first
        axis has length n. A last axis of length 1 is left out: (n, 1) is one output a row.
    inputs : DataFrame, Series, array, tensor, sparse matrix or sequence
        The raw inputs, n rows.
    atol, rtol : float
        How much two outputs may differ, as in `numpy.isclose`: by ``atol + rtol * abs(reference)``. Whole numbers,
        strings, dates, and objects that float64 does not hold must be equal.
    threshold : float, optional
        An output is a positive decision if it is at least this much; NaN is no decision, and no flip. Only where each
        row has one number as its output.

    Returns
    -------
    ParityReport

    Raises
    ------
    TypeError
        A pipeline is not callable, the inputs are no batch, or a tolerance or `threshold` is no number.
    ValueError
        One of these is out of range; the pipelines return different shapes; one returns another number of rows than it
        got, or a dictionary; it raises for more than 1,000 rows, or for a batch though for none of its rows alone.

    Examples
    --------
    >>> right, wrong = lambda x: x / 2, lambda x: x / 2 + (x > 2)
    >>> print(compare(right, wrong, np.arange(4.0), threshold=2).verdict)
    different: 1 of 4 decisions flip, 1 of 4 rows differ by more than atol=1e-06, rtol=1e-06; largest difference 1.
    """
    inputs = _checked(inputs, atol, rtol, threshold)
    outputs = _outputs("reference", reference, inputs), _outputs("candidate", candidate, inputs)
    return _report(inputs, *outputs, atol, rtol, threshold)


def assert_parity(reference: Pipeline, candidate: Pipeline, inputs: Any, **options: Any) -> ParityReport:
    """Return the report of `compare`, or raise an AssertionError with it if the pipelines differ; for tests.

    Examples
    --------
    >>> assert_parity(np.sqrt, lambda x: x**0.5, np.arange(3.0)).verdict
    'same: 3 rows agree to the last bit.'
    """
    report = compare(reference, candidate, inputs, **options)
    if not report.same:
        raise AssertionError(str(report))
    return report


def gallery(
    reference: Pipeline,
    skews: Mapping[str, Pipeline],
    rows: Any,
    *,
    threshold: float,
    atol: float = 1e-6,
    rtol: float = 1e-6,
) -> pd.DataFrame:
    """Return a table of what each of many pipelines does to the decisions of one.

    Parameters
    ----------
    reference : callable
        As in `compare`: the pipeline of training, up to one number a row.
    skews : mapping of str to callable
        The same pipeline with one difference, by the difference's name; `usual_skews` makes some.
    rows, threshold, atol, rtol
        As in `compare`.

    Returns
    -------
    DataFrame
        A row for each skew: ``flips``, the decisions that differ; ``no answer``, the rows that the reference answers
        and the skew does not (NaN, an error, another shape); ``differ``, the rows that differ by more than the
        tolerance, flipped ones included; the ``largest difference`` of two answers, NaN if there are none; a ``note``,
        the error if there is one. A skew that raises for more than 100 rows counts as raising for all.

    Examples
    --------
    >>> skews = {"doubled": lambda x: 2 * x, "as a share": lambda x: x / np.where(x > 0, 1, np.nan)}
    >>> gallery(lambda x: x, skews, np.arange(4.0), threshold=2)[["flips", "no answer", "differ"]]
                flips  no answer  differ
    doubled         1          0       3
    as a share      0          1       0
    """
    if not isinstance(skews, Mapping):
        raise TypeError(f"skews must be a mapping from names to pipelines; got {type(skews).__name__}.")
    rows = _checked(rows, atol, rtol, threshold)
    known = _outputs("reference", reference, rows)
    found = {}
    for name, skew in skews.items():
        try:
            answers = _outputs(repr(name), skew, rows, MAX_RAISED_OF_MANY)
            report = _report(rows, known, answers, atol, rtol, threshold)
        except ValueError as error:
            answered = len(known[0]) - len(known[1])
            found[name] = [0, answered, 0, np.nan, str(error)]
            continue
        both = np.setdiff1d(np.arange(report.rows), np.union1d(report.one_raised, report.one_nan))
        largest = report.difference[both].max() if len(both) else np.nan
        note = next(iter(answers[1].values()), "")
        found[name] = [len(report.flipped), len(report.no_answer), len(report.differing), largest, note]
    return pd.DataFrame(found, ["flips", "no answer", "differ", "largest difference", "note"]).T.infer_objects()


def usual_skews(pipeline: Pipeline, rows: Any) -> dict[str, Pipeline]:
    """Return the pipeline behind each of the usual changes that raw inputs suffer between training and serving.

    Parameters
    ----------
    pipeline : callable
        As in `compare`.
    rows : DataFrame, or sequence of str
        Raw inputs of training. Of a table, their columns and categories; of texts, only that they are texts.

    Returns
    -------
    dict of str to callable
        For `gallery`, by the name of the change.

    Examples
    --------
    >>> list(usual_skews(len, ["a text"]))[:3]
    ['upper case', 'lower case', 'no punctuation']
    """
    changes = _table_changes(rows) if isinstance(rows, pd.DataFrame) else _TEXT_CHANGES
    if changes is _TEXT_CHANGES and not all(isinstance(text, str) for text in _batch(rows)):
        raise TypeError("rows must be a DataFrame, or a sequence of str: raw inputs of training.")

    def behind(change: Change) -> Pipeline:
        if isinstance(rows, pd.DataFrame):
            return lambda batch: pipeline(change(batch))
        return lambda batch: pipeline([change(text) for text in batch])

    return {name: behind(change) for name, change in changes.items()}


def _table_changes(rows: pd.DataFrame) -> dict[str, Change]:
    """Return functions from a frame to a frame with the same columns."""
    numbers: list[Any] = [name for name in rows if pd.api.types.is_numeric_dtype(rows[name])]
    others: list[Any] = [name for name in rows if name not in numbers]
    by_name = sorted(numbers, key=lambda name: str(name).lower())
    by_name = by_name if by_name != numbers else numbers[::-1]

    def each(names: list[Any], change: Change) -> Change:
        def changed(batch: pd.DataFrame) -> pd.DataFrame:
            with np.errstate(over="ignore"):
                new = {name: change(batch[name]) if name in names else batch[name] for name in batch}
            return pd.DataFrame(new)

        return changed

    def reordered(batch: pd.DataFrame) -> pd.DataFrame:
        new = dict(zip(numbers, by_name, strict=True))
        return batch[[new.get(name, name) for name in batch]].set_axis(list(batch), axis=1)

    def most_frequent(column: pd.Series[Any]) -> pd.Series[Any]:
        known = rows[column.name].dropna()
        return column.where(column.isin(known) | column.isna(), next(iter(known.mode()), np.nan))

    of_numbers = {name: each(numbers, change) for name, change in _NUMBER_CHANGES.items()}
    of_numbers |= {"columns of numbers in another order": reordered}
    of_others = {name: each(others, change) for name, change in _CATEGORY_CHANGES.items()}
    of_others |= {"unseen category as the most frequent": each(others, most_frequent)}
    return {**(of_numbers if numbers else {}), **(of_others if others else {})}


# What happens to a column of numbers, to one of categories, and to one text.
_NUMBER_CHANGES: dict[str, Change] = {
    "raw numbers in float32": lambda column: column.astype(np.float32).astype(np.float64),
    "raw numbers in float16": lambda column: column.astype(np.float16).astype(np.float64),
    "raw numbers to 3 digits": lambda column: column.map(lambda value: float(f"{value:.3g}")),
    "missing numbers as 0": lambda column: column.fillna(0),
    "missing numbers as -999": lambda column: column.fillna(-999),
}
_CATEGORY_CHANGES: dict[str, Change] = {
    "categories in the other case": lambda column: column.map(lambda v: v.swapcase() if isinstance(v, str) else v),
    "a space after each category": lambda column: column.map(lambda v: f"{v} " if isinstance(v, str) else v),
    "missing categories as 'nan'": lambda column: column.fillna("nan"),
}
_TEXT_CHANGES: dict[str, Change] = {
    "upper case": str.upper,
    "lower case": str.lower,
    "no punctuation": lambda text: text.translate(str.maketrans("", "", string.punctuation)),
    "escaped as HTML": html.escape,
    "in quotation marks": '"{}"'.format,
    "typographic apostrophes": lambda text: text.replace("'", "\u2019"),
    "line breaks for spaces": lambda text: text.replace(" ", "\n"),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "accents decomposed (NFD)": lambda text: unicodedata.normalize("NFD", text),
    "UTF-8 read as Latin-1": lambda text: text.encode(errors="replace").decode("latin-1"),
    "the first 80 characters": lambda text: text[:80],
}


def _checked(inputs: Any, atol: float, rtol: float, threshold: float | None) -> Any:
    check_numbers(*FROM_0, atol=atol, rtol=rtol)
    check_numbers(*FINITE, threshold=0 if threshold is None else threshold)
    return _batch(inputs)


def _report(inputs: Any, known: Any, found: Any, atol: float, rtol: float, threshold: float | None) -> ParityReport:
    """Return the report on two pipelines, each by its outputs and its errors."""
    (a, errors_a), (b, errors_b) = known, found
    rows = len(a)
    raised = np.array([np.isin(np.arange(rows), list(errors)) for errors in (errors_a, errors_b)])
    both, one, answered = raised.all(axis=0), raised[0] ^ raised[1], ~raised.any(axis=0)
    # A pipeline that raises for every row has no shape of its own.
    a = np.zeros_like(b) if raised[0].all() else a
    b = np.zeros_like(a) if raised[1].all() else b
    if a.shape != b.shape:
        raise ValueError(f"the outputs have different shapes: reference {a.shape}, candidate {b.shape}.")
    a, b = (output.reshape(rows, int(np.prod(output.shape[1:]))) for output in (a, b))
    difference, relative, ulp, beyond = _measure(a, b, atol, rtol)
    missing = np.array([(pd.isna(x) & ~pd.isna(y)).any(axis=1) for x, y in ((a, b), (b, a))]) & answered
    numbers = answered & ~missing.any(axis=0)
    flips, differs = _flips(a, b, threshold) & numbers, beyond.any(axis=1) & numbers
    lost = (raised[1] & ~raised[0]) | missing[1]
    flipped, one_raised, one_nan, differing = map(np.flatnonzero, (flips, one, missing.any(axis=0), differs))
    nothing = np.flatnonzero(both & ~answered.any())
    shown = pd.unique(np.concatenate([flipped, one_raised, one_nan, differing, nothing]))[:MAX_EXAMPLES]
    return ParityReport(
        rows=rows,
        both_raised=int(both.sum()),
        one_raised=one_raised,
        one_nan=one_nan,
        no_answer=np.flatnonzero(lost),
        difference=np.where(answered, difference.max(axis=1, initial=0), np.where(one, np.inf, 0)),
        max_relative=float(relative[answered].max(initial=0)),
        max_ulp=float(ulp[answered].max(initial=0)),
        differing=differing,
        flipped=flipped,
        atol=atol,
        rtol=rtol,
        threshold=threshold,
        examples=_examples(inputs, shown, (a, b), difference, (errors_a, errors_b)),
    )


def edge_cases(kind: Kind, known: Sequence[str] = ()) -> dict[str, Any]:
    """Return raw values for which preprocessing pipelines often differ, each with its name.

    Parameters
    ----------
    kind : {'number', 'category', 'text'}
    known : sequence of str
        The categories seen in training, from which near misses are made.

    Returns
    -------
    dict of str to object
        Numbers are float or int, or None where missing; categories are str, int or None; texts are str, or bytes that
        are not UTF-8.

    Examples
    --------
    >>> list(edge_cases("category", ["DFW"]))[-3:]
    ['other case', 'trailing space', 'leading space']
    >>> edge_cases("number")["2^24 + 1"]
    16777217
    """
    if isinstance(known, (str, bytes)):
        raise TypeError(f"known is a sequence of categories; got the single {known!r}.")
    cases = {"number": _NUMBERS, "text": _TEXTS, "category": _CATEGORIES}
    if kind not in cases:
        raise ValueError(f"kind is 'number', 'category' or 'text'; got {kind!r}.")
    values = dict(cases[kind])
    if kind == "category" and len(known):
        first = str(next(iter(known)))
        values |= {"other case": first.swapcase(), "trailing space": f"{first} ", "leading space": f" {first}"}
    return values


def edge_case_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows that are ordinary but for one value: an ordinary row, with an edge case in each column in turn.

    Parameters
    ----------
    frame : DataFrame of shape (n, m)
        Ordinary rows: the first known value of each column makes the row. Columns of numbers get the edge cases of
        numbers, all others those of categories.

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
    if not isinstance(frame, pd.DataFrame) or frame.empty or not frame.columns.is_unique:
        raise ValueError("frame must be a DataFrame with at least one row, and a name of its own for each column.")
    ordinary = {name: frame[name].dropna().iloc[0] for name in frame if frame[name].notna().any()}
    numbers = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name])]
    rows: dict[str, Any] = {}
    for name, usual in ordinary.items():
        cases = edge_cases("number") if name in numbers else edge_cases("category", [usual])
        rows |= {f"{name}: {case}": {**ordinary, name: value} for case, value in cases.items()}
    broken = pd.DataFrame(list(rows.values()), index=list(rows), columns=frame.columns, dtype=object)
    return broken.astype(dict.fromkeys(numbers, np.float64))


def hypothesis_strategy(kind: Kind, known: Sequence[str] = ()) -> Any:
    """Return a hypothesis strategy: the values of `edge_cases`, ordinary ones, and random ones.

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
    words = st.text(max_size=12)
    random = {"number": st.floats(), "category": st.sampled_from(known) | words if known else words, "text": st.text()}
    return st.sampled_from(values) | random[kind]


def row_strategy(frame: pd.DataFrame) -> Any:
    """Return a hypothesis strategy: a row of a table as JSON has it, with one to three values of `hypothesis_strategy`.

    Parameters
    ----------
    frame : DataFrame of shape (n, m)
        Ordinary rows; columns of numbers, and of categories.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of dictionaries; what is missing is None.
    """
    from hypothesis import strategies as st

    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    changes = []
    for name, column in frame.items():
        kind: Kind = "number" if pd.api.types.is_numeric_dtype(column) else "category"
        values = hypothesis_strategy(kind, sorted({*map(str, column.dropna())}))
        changes.append(st.tuples(st.just(name), values.filter(lambda value: value == value)))
    new = st.lists(st.one_of(changes), min_size=1, max_size=3)
    return st.builds(lambda row, new: row | dict(new), st.sampled_from(rows), new)


# fmt: off
_NUMBERS: dict[str, Any] = {
    "NaN": np.nan, "missing": None, "inf": np.inf, "-inf": -np.inf, "zero": 0.0, "negative zero": -0.0,
    "subnormal": 5e-324, "subnormal in float32": 1e-40, "2^24 + 1": 2**24 + 1, "epoch seconds": 1_700_000_001,
    "1e308": 1e308, "-1e308": -1e308, "int beyond float32": 10**39, "a third": 1 / 3,
}
_CATEGORIES: dict[str, Any] = {
    "unseen": "never seen in training", "empty": "", "missing": None,
    "a number as int": 7, "the same as str": "7", "Keras's own token": "[UNK]",
}
_TEXTS: dict[str, Any] = {
    "empty": "", "only spaces": " \t ", "only punctuation": "?!... --- ;)",
    "HTML": "<p>Great&nbsp;film,<br />really</p>", "emoji": "loved it 👍🏽👨‍👩‍👧",
    "accents, composed": "caf\u00e9 d\u00e9j\u00e0 vu", "accents, combining": "cafe\u0301 de\u0301ja\u0300 vu",
    "capital accents": "\u00c9CLAIR \u00dcBER",
    "right to left": "\u05e1\u05e8\u05d8 \u05de\u05e6\u05d5\u05d9\u05df, \u0641\u064a\u0644\u0645",
    "zero-width space": "great\u200bfilm", "no-break space": "great\u00a0film",
    "next-line character": "great\u0085film", "CRLF": "great\r\nfilm\r\n", "null character": "great\x00film",
    "very long": "good film " * 5000, "one very long word": "a" * 20_000, "bytes that are no UTF-8": b"caf\xe9 film",
    "capital dotted I": "\u0130STANBUL F\u0130LM", "final sigma": "\u039f\u0394\u039f\u03a3",
    "sharp s": "STRASSE stra\u00dfe", "apostrophes": "don't can\u2019t",
    "underscores and digits": "snake_case 3.5 stars 10/10", "upper case": "GREAT FILM",
    "Chinese": "\u4e00\u90e8\u597d\u7535\u5f71",
}
# fmt: on


def _batch(inputs: Any) -> Any:
    """Return the inputs as what has rows in an order: pandas, sparse, list or ndarray."""
    if hasattr(inputs, "iloc") or sparse.issparse(inputs):
        return inputs
    if isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes)):
        return list(inputs)
    if not getattr(inputs, "shape", ()):
        raise TypeError(f"inputs must be a batch of rows, such as a frame or a list; got one {type(inputs).__name__}.")
    return np.asarray(inputs)


def _rows(inputs: Any, rows: NDArray[np.intp]) -> Any:
    """Return a copy of some rows: what a pipeline does to them in place must not reach the other one."""
    if isinstance(inputs, list):
        return copy.deepcopy([inputs[row] for row in rows])
    return inputs.iloc[rows] if hasattr(inputs, "iloc") else inputs[rows]


def _outputs(name: str, pipeline: Pipeline, inputs: Any, most: int = MAX_RAISED) -> tuple[NDArray[Any], dict[int, str]]:
    """Return the outputs, without a last axis of length 1, and the error of each row for which the pipeline raises."""
    rows = inputs.shape[0] if hasattr(inputs, "shape") else len(inputs)
    if not callable(pipeline):
        raise TypeError(f"{name} must be a function from raw inputs to outputs; got {type(pipeline).__name__}.")
    errors: dict[int, str] = {}
    every = np.arange(rows)
    pending = [every]

    def run(which: NDArray[np.intp]) -> tuple[Any, Exception | None]:
        # What matters is measured; warnings would come once for every half.
        with warnings.catch_warnings(action="ignore"):
            try:
                return pipeline(_rows(inputs, which)) if len(which) else np.zeros(0), None
            except Exception as error:
                return None, error

    while pending and len(errors) <= most:
        output, error = run(which := pending.pop())
        if error is not None and len(which) == 1:
            errors[int(which[0])] = f"raises {type(error).__name__}: {first_line(error)}"
        elif error is not None:
            pending += reversed(np.array_split(which, 2))
    if len(errors) > most:
        raise ValueError(f"{name} raises for more than {most} rows; the first {errors[min(errors)]}")
    if errors or len(which) < rows:
        every = np.setdiff1d(every, list(errors))
        output, error = run(every)
    if error is not None:
        raise ValueError(f"{name} raises for a batch of {len(every)} rows, but for none alone: {first_line(error)}")
    found = _array(name, output, len(every))
    outputs = np.zeros((rows, *found.shape[1:]), dtype=found.dtype)
    outputs[every] = found
    return outputs, errors


def _array(name: str, output: Any, rows: int) -> NDArray[Any]:
    """Return what a pipeline returned: numbers, or objects that are equal or not."""
    if isinstance(output, Mapping):
        raise ValueError(f"{name} returns a dictionary: let it return one of {', '.join(map(repr, output))}.")
    exact = isinstance(output, (list, tuple)) and any(np.isscalar(value) and not _fits(value) for value in output)
    try:
        # A copy, for two pipelines may write into one buffer; and objects, for NumPy's own strings would lose null
        # characters at their end, and whole numbers beside a float their last digits.
        values = output.toarray() if sparse.issparse(output) else np.array(output, dtype=object if exact else None)
        # pandas rounds a whole number beside a missing one, or in a column beside one of floats.
        if hasattr(output, "isna") and values.dtype == np.float64 and (np.abs(values) >= 2**53).any():
            values = np.array(output.astype(object))
    except ValueError as error:
        raise ValueError(f"{name} returns rows of different lengths.") from error
    nested = values.dtype == object and any(isinstance(value, (list, tuple, np.ndarray)) for value in values.flat)
    if values.ndim == 0 or len(values) != rows or nested or np.ma.isMaskedArray(output):
        what = "arrays as objects" if nested else f"a {type(output).__name__} of shape {values.shape}"
        raise ValueError(f"{name} got {_count(rows, 'row')} and returned {what}: let it return one output a row.")
    values = values[..., 0] if values.shape[1:] and values.shape[-1] == 1 else values
    values = values.astype(np.float32) if values.dtype.name == "bfloat16" else values
    if values.dtype.kind in "fiub":
        return values
    flat = [np.nan if value is None or value is pd.NA else value for value in values.flat]
    flat = [value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value for value in flat]
    return np.array(flat, dtype=np.float64 if all(map(_fits, flat)) else object).reshape(values.shape)


def _fits(one: Any) -> bool:
    """Whether float64 holds a value."""
    return (kind := np.asarray(one).dtype.kind) in "fb" or (kind in "iu" and abs(int(one)) <= 2**53)


def _measure(a: NDArray[Any], b: NDArray[Any], atol: float, rtol: float) -> tuple[NDArray[Any], ...]:
    """Return the differences: absolute, relative, in units in the last place, and whether beyond the tolerance."""
    kinds = a.dtype.kind + b.dtype.kind
    # NumPy rounds a whole number before it compares it with a float; Python does not.
    equal = a == b if kinds[0] == kinds[1] else a.astype(object) == b.astype(object)
    alike = np.asarray(equal, dtype=bool) | (pd.isna(a) & pd.isna(b))
    x, y = (values.astype(np.float64) for values in ((~alike, alike & False) if "O" in kinds else (a, b)))
    whole = "O" in kinds or "f" not in kinds
    with np.errstate(all="ignore"):
        # What differs shows, also where both have become one float64.
        difference = np.maximum(np.abs(x - y), np.where(whole | (np.abs(x) >= 2**53), 1, 5e-324))
        relative = difference / np.abs(x)
    difference, relative = (np.where(alike, 0, np.where(np.isnan(v), np.inf, v)) for v in (difference, relative))
    if whole:
        return difference, relative, np.full(a.shape, np.nan), ~alike
    # An infinity is close to itself only, whatever a share of it would allow.
    within = difference <= atol + rtol * np.abs(np.where(np.isfinite(x), x, 0))
    return difference, relative, _ulps(a, b), ~alike & ~within


def _ulps(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many representable numbers lie between two, in the coarser floating dtype, at most float64."""
    dtype = np.dtype(f"f{min(8, *(array.itemsize for array in (a, b) if array.dtype.kind == 'f'))}")
    integer = np.dtype(f"i{dtype.itemsize}")
    with np.errstate(over="ignore"):
        a, b = a.astype(dtype), b.astype(dtype)
    # With negative numbers mirrored, neighbouring floats are neighbouring integers; their distance needs 64 bits.
    bits = [array.view(integer).astype(np.int64) for array in (a, b)]
    first, second = (np.where(array < 0, np.iinfo(integer).min - array, array) for array in bits)
    apart = np.maximum(first, second).view(np.uint64) - np.minimum(first, second).view(np.uint64)
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(alike, 0, np.where(np.isfinite(a) & np.isfinite(b), apart, np.inf))


def _flips(a: NDArray[Any], b: NDArray[Any], threshold: float | None) -> NDArray[np.bool_]:
    """Return for which rows the decisions differ; NaN is no decision."""
    if threshold is None:
        return np.zeros(len(a), dtype=bool)
    if a.shape[1] != 1 or "O" in a.dtype.kind + b.dtype.kind:
        raise ValueError(f"a threshold needs one number a row; each row has {a.shape[1]} of dtype {a.dtype}.")
    # As a Python float the threshold is rounded to the dtype of the outputs, as in `decisions.apply_threshold`.
    with np.errstate(over="ignore"):
        first, second = (np.where(np.isnan(values), -1, values >= float(threshold)) for values in (a[:, 0], b[:, 0]))
    return first != second


def _examples(inputs: Any, shown: Any, outputs: Any, difference: NDArray[Any], errors: Any) -> pd.DataFrame:
    """Return the rows that a report shows: the raw input, and the outputs where they differ most or the errors."""
    table = []
    for row in shown:
        raw = inputs.iloc[row] if hasattr(inputs, "iloc") else inputs[row]
        most = difference[row].argmax()
        texts = zip(errors, _texts(*(output[row, most] for output in outputs)), strict=True)
        raw = raw.to_dict() if isinstance(inputs, pd.DataFrame) else raw
        table.append([_cut(repr(raw)), *(error.get(row) or _cut(text) for error, text in texts)])
    labels = pd.Index(inputs.index[shown] if hasattr(inputs, "iloc") else shown, name="row")
    return pd.DataFrame(table, labels, columns=["raw input", "reference", "candidate"], dtype=object)


def _texts(a: Any, b: Any) -> tuple[str, str]:
    """Return two outputs as text, with as many digits as tell them apart, from where they differ if they are long."""
    a, b = (value.item() if isinstance(value, (np.number, np.bool_)) else value for value in (a, b))
    brief = [f"{value:.6g}" if isinstance(value, float) else repr(value) for value in (a, b)]
    one, other = brief if brief[0] != brief[1] else (repr(a), repr(b))
    start = next((at for at, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), 0)
    start = start - 20 if start > MAX_TEXT / 2 else 0
    return one[start:], other[start:]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} …"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
