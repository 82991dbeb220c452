"""Reading the reader's own series: the grid that comes out, and the sentence for what cannot be one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import open_series


@pytest.fixture
def write(tmp_path):
    def _write(frame, name="a.csv", **options):
        frame.to_csv(tmp_path / name, index=False, **options)
        return tmp_path / name

    return _write


def table(freq="h", rows=100, start="2013-03-01"):
    times = pd.date_range(start, periods=rows, freq=freq)
    return pd.DataFrame({"time": times.strftime("%Y-%m-%d %H:%M"), "level": np.arange(rows) ** 2 / 8})


@pytest.mark.parametrize("freq", ["10min", "h", "3h", "D", "W", "MS", "ME", "QS", "YS", "15D", "30s"])
def test_times_and_values_come_back_whatever_the_step(write, freq):
    times = pd.date_range("1931-01-01", periods=80, freq=freq)
    path = write(pd.DataFrame({"time": times.strftime("%Y-%m-%d %H:%M:%S"), "level": np.arange(80.0) ** 2}))
    series = open_series(path)
    assert (series.kind, series.name, series.feature_names, len(series)) == ("series", "a.csv", ("level",), 80)
    assert series.X.dtype == "datetime64[s]"
    np.testing.assert_array_equal(series.X, times.to_numpy().astype("datetime64[s]"))
    assert series.y.shape == (80, 1)
    assert series.y.dtype == np.float64
    assert series.column("level").tolist() == [float(n * n) for n in range(80)]
    assert series.notes == ()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["h", "D", "MS", "ME", "7D"]), st.data())
def test_missing_lines_become_nan_and_order_does_not_matter(tmp_path_factory, freq, draw):
    """pandas' asfreq is the oracle."""
    full = pd.Series(np.arange(90.0), index=pd.date_range("2001-01-01", periods=90, freq=freq))
    # Two neighbours stay side by side often enough for the step to be seen.
    gone = draw.draw(st.lists(st.integers(1, 88), max_size=12, unique=True))
    kept = full.drop(full.index[gone])
    shuffled = kept.sample(frac=1, random_state=draw.draw(st.integers(0, 99)))
    path = tmp_path_factory.mktemp("series") / "a.csv"
    shuffled.rename_axis("t").rename("v").to_csv(path)
    series = open_series(path)
    expected = kept.asfreq(freq)
    np.testing.assert_array_equal(series.X, expected.index.to_numpy().astype("datetime64[s]"))
    np.testing.assert_array_equal(series.y[:, 0], expected.to_numpy())


def test_what_was_changed_is_noted(write):
    frame = table().drop(index=[5, 6, 50]).iloc[::-1]
    frame.loc[20, "level"] = np.nan
    series = open_series(write(frame))
    assert series.notes == ("lines are sorted by time", "3 steps have no line and are NaN")
    assert np.flatnonzero(np.isnan(series.y[:, 0])).tolist() == [5, 6, 20, 50]
    shown = str(series)
    assert shown.startswith("a.csv: 100 times from 2013-03-01 00:00 to 2013-03-05 03:00, every hour: 'level'; 4 values")
    assert "note: lines are sorted by time" in shown


def test_an_index_and_empty_columns_are_passed_over(write):
    frame = table()
    frame.insert(0, "", range(len(frame)))
    frame["remark"] = np.nan
    frame["place"] = "harbour"
    assert open_series(write(frame, sep=";")).feature_names == ("level",)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv.gz"])
def test_other_files(write, name):
    assert len(open_series(write(table(), name, sep="\t" if "tsv" in name else ","))) == 100


def test_times_with_an_offset_become_utc_and_the_repeated_hour_is_told_apart(write):
    local = pd.date_range("2013-11-01", periods=100, freq="h", tz="America/New_York")
    frame = table().assign(time=[time.isoformat() for time in local])
    series = open_series(write(frame))
    np.testing.assert_array_equal(series.X, local.tz_convert(None).to_numpy().astype("datetime64[s]"))
    assert series.notes == ("times have an offset and are turned into UTC",)
    assert (
        open_series(write(frame.assign(time=local.tz_convert("UTC").strftime("%Y-%m-%dT%H:%MZ")))).X[0] == series.X[0]
    )


def test_local_times_of_autumn_hold_an_hour_twice_and_are_refused(write):
    local = pd.date_range("2013-11-01", periods=100, freq="h", tz="America/New_York")
    frame = table().assign(time=local.strftime("%Y-%m-%d %H:%M"))
    with pytest.raises(ValueError, match=r"2013-11-03 01:00 stands in lines 51, 52 of a\.csv.*clocks.*-04:00"):
        open_series(write(frame))


def test_local_times_of_spring_lack_an_hour(write):
    local = pd.date_range("2013-03-09", periods=100, freq="h", tz="America/New_York")
    series = open_series(write(table().assign(time=local.strftime("%Y-%m-%d %H:%M"))))
    assert np.isnan(series.y).sum() == 1


def test_years_are_times_if_they_are_named(write):
    frame = pd.DataFrame({"YEAR": range(1700, 1800), "SUNACTIVITY": np.arange(100) % 11})
    series = open_series(write(frame), time_column="YEAR")
    assert series.X[0] == np.datetime64("1700-01-01")
    assert "every year" in str(series)
    with pytest.raises(ValueError, match="a column of years must be named as time_column"):
        open_series(write(frame))


def two_numbers():
    return table().assign(flow=1.5)


def two_times():
    return table().assign(stored=table()["time"])


def with_value(line, value):
    frame = table().astype({"level": object})
    frame.loc[line, "level"] = value
    return frame


def with_time(line, value):
    frame = table()
    frame.loc[line, "time"] = value
    return frame


FAULTS = {
    "short": (table(rows=49), {}, r"column 'level' of a\.csv holds 49 numbers: at least 50 are needed"),
    "constant": (table().assign(level=3.5), {}, r"holds 3\.5 throughout: there is nothing to forecast"),
    "two numbers": (two_numbers(), {}, r"2 columns of numbers \('level', 'flow'\): name one as value_column"),
    "no number": (table().assign(level="high"), {}, r"no column of numbers beside the times; there are: 'level'"),
    "times alone": (table()[["time"]], {}, "no column of numbers beside the times; there are: none"),
    "two times": (two_times(), {}, r"2 columns of times \('time', 'stored'\): name one as time_column"),
    "no time": (table()[["level"]].assign(x=1), {}, "no column of times by ISO 8601, such as 2013-05-09 02:00"),
    "misspelt": (table(), {"value_column": "levle"}, "'levle' is not a filled column.*did you mean 'level'"),
    "far off": (table(), {"time_column": "zzz"}, "time_column 'zzz' is not a filled column.*'time', 'level'"),
    "the same twice": (table(), {"value_column": "time"}, "time_column and value_column are both 'time'"),
    "word": (with_value(7, "calm"), {"value_column": "level"}, "'level' of a.csv holds 'calm' in line 9, which is no"),
    "comma": (with_value(7, "1,5"), {"value_column": "level"}, "holds '1,5' in line 9, which is no finite number"),
    "infinite": (with_value(7, "inf"), {}, "holds 'inf' in line 9, which is no finite number"),
    "no such day": (with_time(4, "2013-02-30 04:00"), {}, "'time' of a.csv holds '2013-02-30 04:00' in line 6"),
    "other order": (with_time(4, "01.03.2013 04:00"), {}, "looks like times, but '01.03.2013 04:00' in line 6"),
    "no time there": (with_time(4, None), {}, "'time' of a.csv holds no time in line 6"),
    "below a second": (with_time(4, "2013-03-01 04:00:00.5"), {}, r"04:00:00\.5' in line 6 is not by ISO"),
    "off the step": (with_time(4, "2013-03-01 04:10"), {}, "are 3,600 seconds apart, line 6 is off this step"),
    "zone now and then": (with_time(4, "2013-03-01 04:00Z"), {}, "with and without an offset from UTC: lines 2, 3, 4"),
    "twice": (with_time(4, "2013-03-01 03:00"), {}, "time 2013-03-01 03:00 stands in lines 5, 6 of a.csv: keep one"),
    "mostly gaps": (
        table(rows=400).iloc[np.r_[:30, 370:400]], {}, "60 lines for 400 steps: more are missing than there",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("frame", "options", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_get_one_sentence(write, frame, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_series(write(frame), **options)
    assert "\n" not in str(caught.value)


def test_a_day_late_is_off_the_step_of_months(write):
    frame = table("MS")
    frame.loc[12, "time"] = "2014-03-02 00:00"
    with pytest.raises(ValueError, match=r"most times of a\.csv are 1 month apart, line 14 is off this step"):
        open_series(write(frame))


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing is at"):
        open_series(tmp_path / "no.csv")


def test_a_picture_is_no_table(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        open_series(tmp_path / "a.csv")


def test_a_file_that_the_project_brings(tmp_path):
    """The three airports, as a reader would bring them: one must be named."""
    path = data.ROOT / "datasets" / "new_york_temperatures" / "temperatures.csv.gz"
    with pytest.raises(ValueError, match=r"3 columns of numbers \('EWR', 'JFK', 'LGA'\): name one as value_column"):
        open_series(path)
    own, ours = open_series(path, "JFK"), data.load("new_york_temperatures")
    np.testing.assert_array_equal(own.X, ours.X)
    np.testing.assert_array_equal(own.y[:, 0], ours.column("JFK"))
