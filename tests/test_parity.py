from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from scipy import sparse

from helpers.parity import (
    assert_parity,
    compare,
    edge_case_rows,
    edge_cases,
    gallery,
    hypothesis_strategy,
    row_strategy,
    usual_skews,
)


def outputs(a, b, **options):
    """Compare two pipelines that return what they are told to, whatever comes in."""
    return compare(lambda _: a, lambda _: b, range(len(a)), **options)


def raising_at(*rows):
    def pipeline(batch):
        for value in batch:
            if value in rows:
                raise ValueError(f"{value} is not accepted\nat all")
        return np.asarray(batch, dtype=float)

    return pipeline


# --- what is measured --------------------------------------------------------------------------------------------


def test_differences_are_those_of_numpy():
    a, b = np.random.default_rng(0).normal(size=(2, 50, 3))
    report, rows = outputs(a, b), np.abs(a - b).max(axis=1)
    assert np.array_equal(report.difference, rows)
    assert (report.max_difference, len(report.differing)) == (rows.max(), 50)
    assert report.max_relative == pytest.approx((np.abs(a - b) / np.abs(a)).max())
    assert f"90% of the rows are within: {np.quantile(rows, 0.9, method='higher'):.3g}" in str(report)
    same = outputs(a, a, atol=0, rtol=0)
    assert (same.verdict, same.max_ulp) == ("same: 50 rows agree to the last bit.", 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_units_in_the_last_place_are_those_of_numpy(dtype):
    a = np.array([1.0, -1.0, 0.0, 6e-8, -3.3, 1000.0], dtype=dtype)
    for one, other in zip(a, np.nextafter(a, dtype(np.inf)), strict=True):
        assert outputs(np.array([one]), np.array([other]), atol=0, rtol=0).max_ulp == 1
    a, b = np.random.default_rng(0).uniform(0.5, 2, (2, 100)).astype(dtype)
    assert outputs(a, b).max_ulp == np.testing.assert_array_max_ulp(a, b, maxulp=np.inf).max()
    tiny, largest = np.array([[np.finfo(dtype).smallest_subnormal], [np.finfo(dtype).max]])
    assert outputs(tiny, -tiny, atol=0, rtol=0).max_ulp == 2, "across zero"
    assert outputs(largest, -largest).max_ulp > 2.0 ** (8 * largest.itemsize - 1)
    third = np.array([1 / 3])
    assert outputs(third, third.astype(dtype)).max_ulp == 0, "in the coarser type"
    assert np.isnan(outputs([1], [2]).max_ulp)


def test_nan_and_infinities_equal_themselves_only():
    for value in (np.nan, np.inf, -np.inf):
        assert outputs([value], [value]).same
        assert outputs([value], [1.0]).max_difference == outputs([1.0], [value]).max_difference == np.inf


def test_the_tolerance_is_that_of_numpy():
    a, b = np.random.default_rng(0).normal(0, [[1e-3], [1.0], [1e3]], (2, 3, 500)).reshape(2, -1)
    for atol, rtol in ((0, 0), (0, 1e-1), (1e-2, 0), (1e-1, 1e-1), (1, 10)):
        far = ~np.isclose(b, a, atol=atol, rtol=rtol)
        assert np.array_equal(outputs(a, b, atol=atol, rtol=rtol).differing, np.flatnonzero(far))
    assert outputs([1.0], [1.0 + 1.5e-6]).same and not outputs([1.0], [1.0 + 2.5e-6]).same, "1e-6 each, by default"
    assert len(outputs([np.inf, 1.0], [1.0, np.inf], atol=9, rtol=9).differing) == 2, "no share of an infinity"


def test_each_row_is_counted_once_and_what_is_not_answered_is_told_by_side():
    def reference(x):
        return np.where(x == 1, np.nan, x)

    def candidate(x):
        if 3 in x:
            raise ValueError("three")
        return np.where(x == 2, np.nan, np.where(x == 4, 9.0, x))

    report = compare(reference, candidate, np.arange(6.0), threshold=5)
    found = [rows.tolist() for rows in (report.one_raised, report.one_nan, report.differing, report.flipped)]
    assert found == [[3], [1, 2], [4], [4]] and report.no_answer.tolist() == [2, 3] and not report.same
    assert "one pipeline raises for 1 row, one pipeline gives NaN for 2 rows, 1 of 6 rows differ" in report.verdict
    assert report.verdict.endswith("largest difference 5."), "of those that answer"
    assert compare(candidate, candidate, np.array([2.0])).same
    assert len(compare(raising_at(1), raising_at(1, 2), list(range(4))).no_answer) == 1, "of those with an answer"
    two = outputs(np.array([[1.0, np.nan]]), np.array([[np.nan, 1.0]]))
    assert (two.one_nan.tolist(), two.no_answer.tolist()) == ([0], [0])


def test_decisions_flip_where_the_threshold_lies_between():
    report = outputs([0.2, 0.5, 0.8, 0.4], [0.3, 0.49, 0.7, np.nan], atol=1, threshold=0.5)
    assert (report.flipped.tolist(), report.one_nan.tolist()) == ([1], [3]), "NaN is no decision, and no flip"
    assert report.verdict == "different: 1 of 4 decisions flip, one pipeline gives NaN for 1 row."
    assert report.examples.index.tolist() == [1, 3]
    within = outputs([0.5], [0.5 - 1e-12], threshold=0.5)
    assert len(within.differing) == 0 and not within.same
    assert outputs([0.7], np.float32([0.7]), threshold=0.7).same, "rounded to the outputs"


def test_strings_and_whole_numbers_are_equal_or_not():
    report = outputs(["a", "ß"], [b"a", b"ss"], atol=3)
    assert (report.verdict, report.differing.tolist()) == ("different: 1 of 2 rows differ.", [1])
    assert outputs(["ß"], ["ß".encode()]).same, "bytes are read as UTF-8"
    none = np.array([None])
    for a, b in (([5], [6]), ([2**53], [2**53 + 1]), (["b\x00"], ["b"]), ([b"\xff"], [b"\xfe"]), (["None"], none)):
        assert not outputs(a, b).same and outputs(a, b).max_difference == 1


BIG = 2**60 + 1
DAYS = np.array(["2024-02-29", "NaT"], "M8[D]")


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (np.array([BIG]), np.array([2.0**60]), False),
        (np.array([BIG - 1]), np.array([2.0**60]), True),
        (np.array([2**63 - 1]), np.array([2.0**63]), False),
        (np.array([2**64 - 1], np.uint64), np.array([2.0**64]), False),
        (np.array([2**63], np.uint64), np.array([-(2**63)]), False),
        (np.array([2**63], np.uint64), np.array([2.0**63], np.float32), True),
        (np.array([2**24 + 1]), np.array([2.0**24], np.float32), False),
        ([BIG, 0.5], [2.0**60, 0.5], False),
        ([BIG, None], [2.0**60, None], False),
        ([BIG, None], np.array([BIG, np.nan], object), True),
        (pd.array([BIG, None]), [BIG, None], True),
        (pd.array([BIG, None]), [2.0**60, None], False),
        (pd.DataFrame({"x": pd.array([BIG, None])}), pd.Series([BIG - 1, None], dtype="Int64"), False),
        (pd.DataFrame({"x": [BIG], "y": [0.5]}), np.array([[BIG, 0.5]], object), True),
        (pd.Series([1e300, None]), [1e300, None], True),
        (pd.array([5, 7]), pd.array([5, 7], "Float64"), True),
        ([10**400], [np.inf], False),
        ([Fraction(1, 3)], [1 / 3], False),
        ([Decimal("0.5")], [0.5], True),
        (np.float32([0.1]), [0.1], False),
        (np.float32([0.5]), [0.5], True),
        ([0.0], [-0.0], True),
        ([True, False], [1.0, 0.0], True),
        ([1 + 1e-12j], [1], False),
        ([1 + 0j], [1], True),
        (DAYS, DAYS.astype("M8[ns]"), True),
        (DAYS, np.array(["2024-02-28", "NaT"], "M8[D]"), False),
        (DAYS, ["2024-02-29", None], False),
        (np.array([5], "m8[D]"), np.array([120], "m8[h]"), True),
        (["a", None], np.array(["a", np.nan], object), True),
        (["a", None], ["a", "(missing)"], False),
        (["a", 7], ["a", "7"], False),
    ],
)
def test_the_last_bit_is_the_last_bit_whatever_the_dtypes(a, b, equal):
    for one, other in ((a, b), (b, a)):
        report = outputs(one, other)
        assert ("to the last bit" in report.verdict) == equal == (report.max_difference == 0)
        assert outputs(one, other, atol=0, rtol=0).same == equal


def test_outputs_of_many_kinds():
    missing = pd.DataFrame({"x": [1.0, np.nan]}), np.array([1.0, None], dtype=object), pd.array([True, None])
    assert all(outputs(pd.DataFrame({"x": pd.array([1, None])}), other).same for other in missing)
    assert outputs(np.array(["a", None], dtype=object), np.array(["a", pd.NA], dtype=object)).same
    values = np.array([[0.0, 1.0], [2.0, 0.0]])
    assert outputs(values, sparse.csr_matrix(values)).same and outputs([True, False], [1, 0]).same
    assert outputs([1.0, 2.0], [[1.0], [2.0]]).same, "(n,) and (n, 1) are one number a row"
    assert compare(np.sin, np.cos, np.zeros(0)).same
    buffer = np.zeros(3)
    twice, thrice = (lambda x, by=by: np.multiply(x, by, out=buffer) for by in (2, 3))
    assert len(compare(twice, thrice, np.ones(3)).differing) == 3, "one buffer for both"


def test_inputs_of_many_kinds_reach_each_pipeline_unchanged():
    def plain(batch):
        return np.asarray(batch.toarray() if sparse.issparse(batch) else batch, dtype=float).ravel()

    def in_place(batch):
        values = plain(batch) + (plain(batch) == 4)
        batch[:] = [9] * 6 if isinstance(batch, list) else 9
        return values

    series = pd.Series(range(6), index=list("abcdef"))
    for inputs in (np.arange(6.0), list(range(6)), series, series.to_frame(), sparse.lil_array(np.eye(6)[:, [4]] * 4)):
        report = compare(in_place, plain, inputs)
        assert report.differing.tolist() == [4]
        assert report.examples.index.tolist() == ["e" if hasattr(inputs, "iloc") else 4]
        assert "4" in report.examples["raw input"].iloc[0]
    assert compare(lambda rows: [row.pop() for row in rows], lambda rows: [row[0] for row in rows], [[1.0], [2.0]]).same


# --- rows for which a pipeline raises ----------------------------------------------------------------------------


def test_a_row_for_which_one_pipeline_raises_is_a_difference():
    report = compare(lambda x: np.asarray(x, float), raising_at(3, 77), list(range(100)))
    assert report.one_raised.tolist() == [3, 77]
    assert report.verdict == "different: one pipeline raises for 2 rows."
    assert report.examples["candidate"].tolist() == [f"raises ValueError: {row} is not accepted" for row in (3, 77)]
    assert report.difference[3] == np.inf
    assert len(compare(np.sin, raising_at(1, 2), [1, 2]).one_raised) == 2


def test_a_row_for_which_both_raise_is_none_but_not_if_all_do():
    report = compare(raising_at(5), raising_at(5), list(range(10)))
    assert (report.same, report.both_raised) == (True, 1)
    assert report.verdict == "same: 10 rows agree to the last bit, of which both pipelines raise for 1."
    frame = pd.DataFrame({"column": [1, 2]})
    with pytest.raises(AssertionError, match=r"nothing compared: both pipelines raise for 2 rows.*KeyError: 'colum'"):
        assert_parity(lambda rows: rows["colum"], lambda rows: rows["colmn"], frame)
    assert (
        "KeyError: &#x27;&lt;b&gt;" in compare(lambda rows: rows["<b>"], lambda rows: rows["<b>"], frame)._repr_html_()
    )


def test_a_pipeline_that_is_broken_is_told():
    with pytest.raises(ValueError, match="candidate raises for a batch of 50 rows, but for none alone: division by"):
        compare(np.copy, lambda x: x if len(x) == 1 else 1 / 0, np.arange(50.0))
    calls = []
    with pytest.raises(ValueError, match=r"candidate raises for more than 1000 rows; the first raises AttributeError"):
        compare(np.sin, lambda batch: calls.append(len(batch)) or batch.column, np.arange(1e6))
    assert len(calls) < 5000


BAD = [
    (np.zeros(3), [0], {}, "candidate must be a function"),
    (np.sin, "one text", {}, "inputs must be a batch of rows.*got one str"),
    (np.sin, {"a": [1]}, {}, "inputs must be a batch of rows.*got one dict"),
    (lambda x: x[:2], np.zeros(3), {}, r"candidate got 3 rows .* shape \(2,\)"),
    (lambda x: np.ma.array(x, mask=x == 0), np.zeros(3), {}, "a MaskedArray"),
    (lambda x: [[1], [1, 2]], [0, 0], {}, "rows of different lengths"),
    (lambda x: x.swapaxes(1, 2), np.zeros((1, 2, 3)), {}, r"different shapes: reference \(1, 2, 3\), candidate"),
    (lambda x: {"probability": x}, [0], {}, "dictionary.*'probability'"),
    (np.sin, np.zeros((3, 2)), {"threshold": 0.5}, "each row has 2"),
    (lambda x: ["a"], [0], {"threshold": 0.5}, "threshold needs"),
    *((np.sin, [0], {"atol": bad}, "atol must be a finite") for bad in (-1, np.nan, np.inf, "0.1", None)),
    (np.sin, [0], {"rtol": -1}, "rtol must be a finite"),
    (np.sin, [0], {"threshold": np.nan}, "threshold must be a finite number"),
]


@pytest.mark.parametrize(("candidate", "inputs", "options", "message"), BAD)
def test_bad_input_is_refused_with_one_sentence(candidate, inputs, options, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        compare(np.sin, candidate, inputs, **options)
    assert "\n" not in str(caught.value)


# --- reports -----------------------------------------------------------------------------------------------------


def test_a_report_reads_as_text_and_as_html_and_shows_how_outputs_differ():
    report = compare(lambda _: [0.1, 0.9], lambda _: [0.1, 0.2], ["two", "<b>"], threshold=0.5)
    for text in (str(report), repr(report), report._repr_html_()):
        assert all(part in text for part in ("1 of 2 decisions flip", "rows compared", "0.9", "0.2"))
    assert "&lt;b&gt;" in report._repr_html_(), "raw inputs are escaped"
    assert "last bit" not in outputs([1 / 3], np.float32([1 / 3])).verdict
    long = "a " * 500 + "x  y"
    for a, b, shown in ((1 / 3, 0.5, "0.333333"), (1 / 3, 1 / 3 + 1e-12, repr(1 / 3)), (long, long[:-3] + "y", "x  y")):
        example = outputs([a], [b], atol=0, rtol=0).examples.iloc[0]
        assert shown in example["reference"] != example["candidate"]


# --- many pipelines beside one ------------------------------------------------------------------------------------


def test_a_gallery_counts_flips_apart_from_answers_that_do_not_come():
    def some_raise(x):
        if (x == 0).any():
            raise KeyError("zero")
        return 2 * x

    skews = {
        "nothing": lambda x: x,
        "doubled": lambda x: 2 * x,
        "no logarithm": lambda x: np.where(x < 3, np.nan, 0),
        "raises for one": some_raise,
        "raises for all": lambda x: x.columns,
        "another shape": lambda x: np.ones((len(x), 2)),
    }
    calls = []
    table = gallery(lambda x: calls.append(len(x)) or x, skews, np.arange(200.0), threshold=10)
    assert calls == [200], "the reference is asked once"
    assert table.index.tolist() == list(skews)
    counts = table[["flips", "no answer", "differ"]].to_numpy().tolist()
    assert counts == [[0, 0, 0], [5, 0, 199], [190, 3, 197], [5, 1, 199], [0, 200, 0], [0, 200, 0]]
    assert table["largest difference"].tolist()[:4] == [0, 199, 199, 199]
    assert table["note"].tolist()[:4] == ["", "", "", "raises KeyError: 'zero'"]
    assert "raises for more than 100 rows; the first raises AttributeError" in table.loc["raises for all", "note"]
    assert "different shapes: reference (200,), candidate (200, 2)" in table.loc["another shape", "note"]
    assert table.dtypes.tolist()[:3] == [np.int64] * 3
    for bad, options, message in (([np.sin], {}, "a mapping"), ({}, {"threshold": np.nan}, "threshold must be")):
        with pytest.raises((TypeError, ValueError), match=message):
            gallery(np.sin, bad, np.zeros(2), **{"threshold": 0.5, **options})
    assert gallery(np.sin, {}, np.zeros(2), threshold=0.5).empty
    nothing = gallery(np.cos, {"NaN": lambda x: x * np.nan}, np.zeros(2), threshold=0.5).iloc[0]
    assert nothing["no answer"] == 2 and np.isnan(nothing["largest difference"]), "0 would read as equal"
    some = gallery(raising_at(1), {"another shape": lambda x: np.ones((len(x), 2))}, list(range(4)), threshold=0.5)
    assert some["no answer"].tolist() == [3], "of those that the reference answers"


def test_usual_skews_change_a_copy_of_raw_inputs_and_keep_their_columns():
    frame = pd.DataFrame({"wind": [3.14159, np.nan], "count": [70_000, 2], "town": ["Köln", None]})
    before, seen = frame.copy(deep=True), {}
    for name, skew in usual_skews(lambda rows: rows, frame).items():
        seen[name] = skew(frame)
        assert list(seen[name]) == list(frame) and len(seen[name]) == 2
        assert seen[name].equals(frame) == (name == "unseen category as the most frequent"), name
    pd.testing.assert_frame_equal(frame, before)
    assert seen["raw numbers in float16"]["count"].tolist() == [np.inf, 2]
    assert seen["raw numbers in float32"]["wind"].iloc[0] == np.float32(3.14159)
    assert seen["raw numbers to 3 digits"]["wind"].iloc[0] == 3.14
    assert seen["missing numbers as -999"]["wind"].tolist() == [3.14159, -999]
    assert seen["columns of numbers in another order"]["wind"].tolist() == [70_000, 2]
    assert seen["a space after each category"]["town"].iloc[0] == "Köln "
    assert seen["missing categories as 'nan'"]["town"].tolist() == ["Köln", "nan"]
    unseen = usual_skews(lambda rows: rows["town"], frame)["unseen category as the most frequent"]
    assert unseen(frame.assign(town=["Ulm", "Köln"])).tolist() == ["Köln", "Köln"]
    assert list(usual_skews(np.sin, frame[["town"]])) == list(seen)[6:]
    assert list(usual_skews(np.sin, frame[["wind"]])) == list(seen)[:6]
    sorted_already = usual_skews(lambda rows: rows["a"], pd.DataFrame({"a": [1.0], "b": [2.0]}))
    assert sorted_already["columns of numbers in another order"](pd.DataFrame({"a": [1.0], "b": [2.0]})).tolist() == [2]
    numbered = pd.DataFrame({0: [1.5, 2.5], 1: ["a", "b"]})
    assert all(list(skew(numbered)) == [0, 1] for skew in usual_skews(lambda rows: rows, numbered).values())


def test_usual_skews_of_texts_change_one_text_at_a_time():
    text = "Don't miss: Café\u200a<br>!"
    skews = usual_skews(list, [text])
    changed = {name: skew([text, "plain"])[0] for name, skew in skews.items()}
    assert changed["UTF-8 read as Latin-1"].count("Ã©") == 1 and "Cafe\u0301" in changed["accents decomposed (NFD)"]
    assert changed["no punctuation"] == "Dont miss Café\u200abr" and "&lt;br&gt;" in changed["escaped as HTML"]
    assert all(len(skew(np.array(["a", "b"]))) == 2 for skew in skews.values())
    for bad in ("one text", ["a", 3], 5):
        with pytest.raises(TypeError):
            usual_skews(list, bad)


# --- what to try -------------------------------------------------------------------------------------------------


def test_edge_cases_hold_what_breaks_pipelines():
    numbers, texts = edge_cases("number"), edge_cases("text")
    assert float(np.float32(numbers["2^24 + 1"])) != numbers["2^24 + 1"]
    assert np.float32(numbers["subnormal"]) == 0 < numbers["subnormal"]
    with pytest.raises(UnicodeDecodeError):
        texts["bytes that are no UTF-8"].decode("utf-8")
    numbers.clear()
    assert edge_cases("number"), "what is returned is the caller's own"
    assert compare(list, list, list(texts.values())).same
    values = edge_cases("category", pd.Series(["Köln"], index=[7]))
    assert (values["trailing space"], values["other case"]) == ("Köln ", "kÖLN")
    for call in (edge_cases, hypothesis_strategy):
        with pytest.raises(TypeError, match="got the single 'Ulm'"):
            call("category", "Ulm")
        with pytest.raises(ValueError, match="kind is 'number', 'category' or 'text'; got 'image'"):
            call("image")


def test_edge_case_rows_change_one_column_at_a_time():
    frame = pd.DataFrame({"wind": [np.nan, 3.5], "town": ["Köln", "Bonn"], "count": [1, 2]})
    rows = edge_case_rows(frame)
    assert rows.dtypes.to_dict() == {"wind": np.float64, "town": object, "count": np.float64}
    assert len(rows) == 2 * len(edge_cases("number")) + len(edge_cases("category", ["Köln"]))
    ordinary = {"wind": 3.5, "town": "Köln", "count": 1}
    for label, row in rows.iterrows():
        broken = label.partition(": ")[0]
        assert all(row[name] == ordinary[name] for name in ordinary if name != broken), label
    for bad in (frame[:0], pd.concat([frame, frame], axis=1), frame.to_numpy()):
        with pytest.raises(ValueError, match="a DataFrame with at least one row, and a name of its own"):
            edge_case_rows(bad)


def test_strategies_find_what_breaks_a_pipeline():
    @settings(max_examples=200, deadline=None, database=None)
    @given(hypothesis_strategy("category", ["Bonn", "Köln"]))
    def check(word):
        assert_parity(lambda batch: batch, lambda batch: [str(value).strip() for value in batch], [word])

    with pytest.raises(AssertionError):
        check()


def test_rows_are_ordinary_but_for_three_values():
    frame = pd.DataFrame({"wind": [3.5, np.nan], "count": [1, 2], "town": ["Köln", None]}, index=[7, 7])
    frame["other"] = 0.25
    ordinary, changed = [row | {"other": 0.25} for row in ({"wind": 3.5, "count": 1, "town": "Köln"},)], set()
    ordinary.append({"wind": None, "count": 2, "town": None, "other": 0.25})

    @settings(max_examples=200, deadline=None, database=None)
    @given(row_strategy(frame))
    def check(row):
        assert list(row) == list(frame)
        assert all(value == value for value in row.values()), "JSON has no NaN"
        new = min(([name for name in row if row[name] != known[name]] for known in ordinary), key=len)
        assert len(new) <= 3
        changed.update(new)

    check()
    assert changed == set(frame)
