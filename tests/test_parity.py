import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers.parity import assert_parity, compare, edge_case_rows, edge_cases, hypothesis_strategy


def plus(amount):
    return lambda x: np.asarray(x) + amount


def constant(values):
    """A path that returns what it is told to, whatever comes in."""
    return lambda _: np.asarray(values)


# --- what is measured --------------------------------------------------------------------------------------------


def test_equal_paths_are_the_same_to_the_last_bit():
    report = compare(np.sin, np.sin, np.linspace(-5, 5, 100), tolerance=0)
    assert report.same
    assert report.verdict == "same: 100 rows agree to the last bit."
    assert (report.max_difference, report.max_ulp, report.max_relative) == (0, 0, 0)
    assert report.examples == ()


def test_differences_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    report = compare(constant(a), constant(b), range(50))
    rows = np.abs(a - b).max(axis=1)
    assert np.array_equal(report.difference, rows)
    assert report.max_difference == rows.max()
    assert report.max_relative == pytest.approx((np.abs(a - b) / np.abs(a)).max())
    assert report.quantiles[0.9] == np.quantile(rows, 0.9, method="higher")
    assert len(report.differing) == 50


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [1.0, -1.0, 0.0, 6e-8, -3.3, 1000.0])
def test_neighbours_are_one_unit_in_the_last_place_apart(dtype, value):
    a = np.array([value], dtype=dtype)
    b = np.nextafter(a, dtype(np.inf))
    assert compare(constant(a), constant(b), [0], tolerance=0).max_ulp == 1
    assert compare(constant(b), constant(a), [0], tolerance=0).max_ulp == 1


def test_units_are_counted_in_the_coarser_type_and_across_zero():
    third = np.array([1 / 3])
    assert compare(constant(third), constant(third.astype(np.float32)), [0]).max_ulp == 0
    tiny = np.array([5e-324])
    assert compare(constant(tiny), constant(-tiny), [0], tolerance=0).max_ulp == 2
    assert np.isnan(compare(constant([1]), constant([2]), [0]).max_ulp)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_equal_themselves_only(value):
    assert compare(constant([value]), constant([value]), [0]).same
    report = compare(constant([value]), constant([1.0]), [0])
    assert not report.same
    assert report.max_difference == np.inf
    assert not compare(constant([1.0]), constant([value]), [0]).same


def test_negative_zero_is_zero():
    assert compare(constant([0.0]), constant([-0.0]), [0], tolerance=0).verdict.endswith("to the last bit.")


def test_tolerance_is_absolute_below_one_and_relative_above():
    assert compare(constant([0.5]), constant([0.5 + 9e-4]), [0], tolerance=1e-3).same
    assert not compare(constant([0.5]), constant([0.5 + 2e-3]), [0], tolerance=1e-3).same
    assert compare(constant([1e6]), constant([1e6 + 900]), [0], tolerance=1e-3).same
    assert not compare(constant([1e6]), constant([1e6 + 1100]), [0], tolerance=1e-3).same


def test_decisions_flip_where_the_threshold_lies_between():
    a, b = [0.2, 0.5, 0.8, 0.4], [0.3, 0.49, 0.7, np.nan]
    report = compare(constant(a), constant(b), range(4), tolerance=1, threshold=0.5)
    assert report.flipped.tolist() == [1, 3], "NaN is no decision"
    assert "2 of 4 decisions flip" in report.verdict
    assert [example.row for example in report.examples] == [1, 3]


def test_a_flip_counts_even_within_the_tolerance():
    report = compare(constant([0.5]), constant([0.5 - 1e-12]), [0], threshold=0.5)
    assert len(report.differing) == 0
    assert not report.same


def test_the_threshold_is_rounded_to_the_type_of_the_outputs():
    assert compare(constant([0.7]), constant(np.float32([0.7])), [0], threshold=0.7).same


def test_words_are_equal_or_not():
    report = compare(constant(["a", "ß"]), constant([b"a", b"ss"]), [0, 1])
    assert report.differing.tolist() == [1]
    assert report.verdict == "different: 1 of 2 rows differ."
    assert compare(constant(["ß"]), constant(["ß".encode()]), [0]).same, "bytes are read as UTF-8"


@pytest.mark.parametrize(
    "inputs",
    [
        np.arange(6.0),
        list(range(6)),
        pd.Series(range(6), index=list("abcdef")),
        pd.DataFrame({"x": range(6)}),
        {"x": np.arange(6)},
    ],
)
def test_inputs_of_many_kinds(inputs):
    def first(batch):
        return np.asarray(batch["x"] if isinstance(batch, (dict, pd.DataFrame)) else batch)

    report = compare(first, lambda batch: first(batch) + (first(batch) == 4), inputs)
    assert report.differing.tolist() == [4]
    (example,) = report.examples
    assert example.row == 4
    assert example.label == ("e" if isinstance(inputs, pd.Series) else 4)
    assert "4" in str(example.inputs)


def test_words_are_compared_whole():
    report = compare(lambda _: ["a", "b\x00"], lambda _: ["a", "b"], [0, 1])
    assert report.differing.tolist() == [1]
    assert compare(list, list, ["", b"caf\xe9"]).same


def test_values_are_not_made_equal_on_the_way():
    large = compare(constant([2**53]), constant([2**53 + 1]), [0])
    assert not large.same
    assert large.max_difference == 1
    assert not compare(constant([5]), constant([6]), [0], tolerance=3).same, "whole numbers are equal or not"
    assert not compare(lambda _: ["a"], lambda _: ["b"], [0], tolerance=3).same
    assert not compare(constant(np.array([None])), constant(["None"]), [0]).same
    assert not compare(lambda _: [b"\xff"], lambda _: [b"\xfe"], [0]).same
    assert compare(constant(np.array([0.0, 1.5], dtype=object)), constant([0.0, 1.5]), [0, 1]).max_ulp == 0
    third = np.array([1 / 3])
    assert "to the last bit" not in compare(constant(third), constant(third.astype(np.float32)), [0]).verdict


def test_outputs_that_share_a_buffer_are_compared_as_they_were():
    buffer = np.zeros(3)
    twice, thrice = (lambda x, by=by: np.multiply(x, by, out=buffer) for by in (2, 3))
    assert len(compare(twice, thrice, np.ones(3)).differing) == 3


def test_missing_is_missing_however_it_is_written():
    missing = [
        pd.DataFrame({"x": pd.array([1, None], dtype="Int64")}),
        pd.DataFrame({"x": [1.0, np.nan]}),
        np.array([1.0, None], dtype=object),
        pd.array([True, None], dtype="boolean"),
    ]
    for output in missing[1:]:
        assert compare(lambda _: missing[0], lambda _, output=output: output, [0, 1]).same
    words = np.array(["a", None], dtype=object), np.array(["a", pd.NA], dtype=object)
    assert compare(lambda _: words[0], lambda _: words[1], [0, 1]).same


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.ma.array([1.0, 2.0], mask=[0, 1]), "masked array"),
        (np.array([np.zeros(2), np.zeros(3)], dtype=object), "arrays as objects"),
        ([(0.5, "yes"), (0.1, "no")], None),
    ],
)
def test_outputs_that_hide_their_values_are_refused(output, message):
    if message:
        with pytest.raises(ValueError, match=message):
            compare(lambda _: output, lambda _: output, [0, 1])
    else:
        assert compare(lambda _: output, lambda _: output, [0, 1]).same


def test_rows_of_dicts_are_copied_too():
    rows = [{"v": 1.0}, {"v": 2.0}]

    def double(batch):
        for row in batch:
            row["v"] *= 2
        return [row["v"] for row in batch]

    assert compare(double, double, rows).same
    assert rows == [{"v": 1.0}, {"v": 2.0}]


def test_sparse_inputs_are_rows():
    assert compare(lambda x: x.sum(axis=1), lambda x: x.toarray().sum(axis=1), sparse.csr_matrix(np.eye(3))).same


def test_long_texts_are_shown_where_they_part():
    report = compare(lambda _: ["a " * 500 + "x  y"], lambda _: ["a " * 500 + "x y"], [0])
    first, second = report.examples[0].outputs
    assert first != second
    assert "x  y" in first


def test_outputs_of_many_kinds():
    values = np.array([[0.0, 1.0], [2.0, 0.0]])
    assert compare(constant(values), lambda _: sparse.csr_matrix(values), [0, 1]).same
    assert compare(constant([1.0, 2.0]), constant([[1.0], [2.0]]), [0, 1]).same, "(n,) and (n, 1) are one number a row"
    assert compare(constant([True, False]), constant([1, 0]), [0, 1]).same


def test_no_rows_are_the_same():
    assert compare(np.sin, np.cos, np.zeros(0)).same


# --- rows that a path refuses ------------------------------------------------------------------------------------


def only(accept):
    def path(batch):
        for value in batch:
            if not accept(value):
                raise ValueError(f"{value} is not accepted")
        return np.asarray(batch, dtype=float)

    return path


def test_a_row_that_one_path_refuses_is_a_difference():
    report = compare(lambda x: np.asarray(x, float), only(lambda value: value not in (3, 77)), list(range(100)))
    assert report.refused.tolist() == [3, 77]
    assert report.verdict == "different: 2 rows refused by one path only."
    assert "ValueError: 3 is not accepted" in str(report)
    assert report.difference[3] == np.inf


def test_a_row_that_both_refuse_is_none():
    both = only(lambda value: value != 5)
    report = compare(both, only(lambda value: value not in (5,)), list(range(10)))
    assert report.same
    assert report.both_raised == 1
    assert "1 of them refused by both" in report.verdict
    assert len(compare(np.sin, only(lambda _: False), [1, 2]).refused) == 2


def test_two_broken_paths_are_not_the_same():
    frame = pd.DataFrame({"column": [1, 2]})
    report = compare(lambda rows: rows["colum"], lambda rows: rows["colmn"], frame)
    assert not report.same
    assert report.verdict == "nothing compared: both paths refuse 2 rows, the first with KeyError: 'colum'"
    with pytest.raises(AssertionError, match="nothing compared"):
        assert_parity(lambda rows: 1 / 0, lambda rows: 1 / 0, [1])


def test_a_path_that_takes_rows_only_one_by_one_is_told():
    with pytest.raises(ValueError, match="candidate takes 50 rows one by one, not together: ZeroDivisionError"):
        compare(np.copy, lambda x: x if len(x) == 1 else 1 / 0, np.arange(50.0))


@pytest.mark.parametrize("inputs", [np.arange(4.0), pd.DataFrame({"x": np.arange(4.0)}), {"x": np.arange(4.0)}])
def test_what_a_path_does_to_its_inputs_does_not_reach_the_other(inputs):
    def in_place(batch):
        column = batch if isinstance(batch, np.ndarray) else batch["x"]
        column += 1
        return np.asarray(column)

    report = compare(in_place, lambda batch: np.asarray(batch if isinstance(batch, np.ndarray) else batch["x"]), inputs)
    assert len(report.differing) == 4
    assert np.asarray(inputs if isinstance(inputs, np.ndarray) else inputs["x"]).tolist() == [0, 1, 2, 3]


def test_a_path_that_is_broken_is_told_after_a_thousand_rows():
    calls = []

    def broken(batch):
        calls.append(len(batch))
        raise KeyError("column")

    with pytest.raises(ValueError, match=r"candidate refuses more than 1000 rows; the first with KeyError: 'column'"):
        compare(np.sin, broken, np.arange(1e6))
    assert len(calls) < 5000


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros(3), np.sin, np.zeros(3)), {}, TypeError, "reference must be a function"),
        ((np.sin, None, np.zeros(3)), {}, TypeError, "candidate must be a function"),
        ((np.sin, np.sin, "one text"), {}, TypeError, "inputs must be a batch of rows, in order; got one str"),
        ((np.sin, np.sin, 3.0), {}, TypeError, "inputs must be a batch"),
        ((np.sin, np.sin, {1, 2}), {}, TypeError, "inputs must be a batch of rows, in order; got one set"),
        ((np.sin, np.sin, {"a": 1}), {}, TypeError, "inputs must be a batch"),
        ((np.sin, np.sin, np.array(1.0)), {}, TypeError, "inputs must be a batch"),
        ((np.sin, np.sin, {"a": [1], "b": [1, 2]}), {}, ValueError, "one length"),
        ((np.sin, lambda x: x[:2], np.zeros(3)), {}, ValueError, r"candidate got 3 rows .* shape \(2,\)"),
        ((np.sin, np.sum, np.zeros(3)), {}, ValueError, r"candidate got 3 rows"),
        ((np.sin, lambda x: np.zeros((3, 2)), np.zeros(3)), {}, ValueError, r"reference \(3,\), candidate \(3, 2\)"),
        ((np.sin, lambda x: {"probability": x}, np.zeros(3)), {}, ValueError, "dictionary.*'probability'"),
        ((lambda x: np.zeros((3, 2)),) * 2 + (np.zeros(3),), {"threshold": 0.5}, ValueError, "each row has 2"),
        ((np.sin, np.sin, np.zeros(3)), {"tolerance": -1}, ValueError, "tolerance"),
        ((np.sin, np.sin, np.zeros(3)), {"tolerance": np.nan}, ValueError, "tolerance"),
        ((np.sin, np.sin, np.zeros(3)), {"tolerance": np.inf}, ValueError, "tolerance"),
        ((np.sin, np.sin, np.zeros(3)), {"tolerance": "0.1"}, ValueError, "tolerance must be a finite number"),
        ((np.sin, np.sin, np.zeros(3)), {"threshold": np.nan}, ValueError, "threshold must be a finite number"),
        ((np.sin, lambda x: [[1], [1, 2], [3]], np.zeros(3)), {}, ValueError, "rows of different lengths"),
        ((lambda x: ["a"] * 3,) * 2 + (np.zeros(3),), {"threshold": 0.5}, ValueError, "threshold needs"),
    ],
)
def test_bad_input_is_refused_with_one_sentence(arguments, options, error, message):
    with pytest.raises(error, match=message) as caught:
        compare(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_shapes_that_would_broadcast_or_flatten_alike_are_refused():
    with pytest.raises(ValueError, match="different shapes"):
        compare(constant(np.zeros((4, 2, 3))), constant(np.zeros((4, 3, 2))), range(4))


# --- reports -----------------------------------------------------------------------------------------------------


def test_a_report_reads_as_text_and_as_html():
    report = compare(constant([0.1, 0.9]), constant([0.1, 0.2]), ["<b>", "two"], threshold=0.5)
    for text in (str(report), repr(report), report._repr_html_()):
        assert "1 of 2 decisions flip" in text
        assert "0.9" in text
        assert "0.2" in text
    assert "<table" in report._repr_html_()
    assert "rows compared" in report._repr_html_()
    rows = compare(constant([1.0]), constant([2.0]), ["<b>"])._repr_html_()
    assert "&lt;b&gt;" in rows, "raw inputs are escaped"


def test_outputs_are_shown_with_as_many_digits_as_tell_them_apart():
    report = compare(constant([1 / 3]), constant([1 / 3 + 1e-12]), [0], tolerance=0)
    first, second = report.examples[0].outputs
    assert first != second
    assert compare(constant([1 / 3]), constant([0.5]), [0]).examples[0].outputs == ("0.333333", "0.5")


def test_assert_parity_is_a_test():
    assert assert_parity(np.sin, np.sin, np.zeros(2)).same
    with pytest.raises(AssertionError, match="2 of 2 rows differ by more than"):
        assert_parity(np.sin, plus(1), np.ones(2))


# --- what to try -------------------------------------------------------------------------------------------------


def test_adversarial_numbers_hold_what_breaks_float32():
    numbers = edge_cases("number")
    assert float(np.float32(numbers["2^24 + 1"])) != numbers["2^24 + 1"]
    with np.errstate(over="ignore"):
        assert np.isinf(np.float32(numbers["1e308"]))
        assert np.isinf(np.float32(float(numbers["int beyond float32"])))
    assert np.float32(numbers["subnormal"]) == 0 < numbers["subnormal"]
    assert np.signbit(numbers["negative zero"])
    assert numbers["missing"] is None


def test_adversarial_categories_are_near_the_known_ones():
    values = edge_cases("category", ["Köln"])
    assert values["trailing space"] == "Köln "
    assert values["other case"] == "kÖLN"
    assert {type(value) for value in values.values()} == {str, int, type(None)}
    assert "trailing space" not in edge_cases("category")


def test_adversarial_texts_hold_what_breaks_text_paths():
    texts = edge_cases("text")
    with pytest.raises(UnicodeDecodeError):
        texts["bytes that are no UTF-8"].decode("utf-8")
    assert len("\u0130".lower()) == 2 and "\u0130" in texts["capital dotted I"]
    assert texts["accents, composed"] != texts["accents, combining"]
    assert texts["empty"] == ""
    assert all(isinstance(text, (str, bytes)) for text in texts.values())


def test_what_is_returned_is_the_callers_own():
    edge_cases("number").clear()
    assert edge_cases("number")


def test_adversarial_rows_break_one_column_at_a_time():
    frame = pd.DataFrame({"wind": [np.nan, 3.5], "town": ["Köln", "Bonn"], "count": [1, 2]})
    rows = edge_case_rows(frame)
    assert list(rows) == list(frame)
    assert rows.dtypes.tolist() == [np.float64, object, np.float64]
    assert len(rows) == 2 * len(edge_cases("number")) + len(edge_cases("category", ["Köln"]))
    assert rows.index.is_unique
    ordinary = {"wind": 3.5, "town": "Köln", "count": 1}
    for label, row in rows.iterrows():
        broken = label.partition(": ")[0]
        assert all(row[name] == ordinary[name] for name in ordinary if name != broken), label
    with pytest.raises(ValueError, match="at least one row"):
        edge_case_rows(frame[:0])
    with pytest.raises(ValueError, match="a name of its own"):
        edge_case_rows(pd.concat([frame, frame], axis=1))
    with pytest.raises(TypeError, match="frame must be a DataFrame; got ndarray"):
        edge_case_rows(frame.to_numpy())
    assert edge_case_rows(pd.DataFrame({0: [1.0]})).index[0] == "0: NaN"


def test_known_categories_are_a_sequence():
    assert edge_cases("category", pd.Series(["Ulm"], index=[7]))["trailing space"] == "Ulm "
    for call in (edge_cases, strategy):
        with pytest.raises(TypeError, match="got the single 'Ulm'"):
            call("category", "Ulm")


@settings(max_examples=50, deadline=None)
@given(st.lists(hypothesis_strategy("number"), min_size=1), st.lists(hypothesis_strategy("text"), min_size=1))
def test_strategies_give_what_compare_takes(numbers, texts):
    values = np.array([np.nan if value is None else value for value in numbers], dtype=float)
    assert compare(np.copy, np.copy, values, tolerance=0).same
    assert compare(list, list, texts).same


def test_strategies_find_what_breaks_a_path():
    @settings(max_examples=200, deadline=None, database=None)
    @given(hypothesis_strategy("category", ["Bonn", "Köln"]))
    def check(word):
        assert_parity(lambda batch: batch, lambda batch: [str(value).strip() for value in batch], [word])

    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("call", [edge_cases, strategy])
def test_an_unknown_kind_is_refused(call):
    with pytest.raises(ValueError, match="kind is 'number', 'category' or 'text'; got 'image'"):
        call("image")
