"""Sweeps on this machine: what is refused, kept and run again, and what is left when something is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest

from helpers.notebook import ROOT, UserError
from tools import run, sweep
from tools.sweep import _figure, _plan, _write_tables

CELL = """\
a: int = 1  # a number, in [-10, 100000]
b: float = 0.5  # another
word: str = "x"  # a text
flag: bool = False  # a switch
data_path: str = ""  # a file
results_path: str = ""  # JSON file
"""
# Two of the runs fail until a file says that what they lacked is there.
WORK = """\
import json, pathlib
assert a not in (3, 17) or b < 0 or pathlib.Path("fixed").exists(), f"{a} | lacks it"
"""
RESULTS = "pathlib.Path(results_path).write_text(json.dumps({'score': a * b / 3, 'a': a, 'long': flag}))"


def written(path, *cells, parameters=CELL):
    cells = [
        nbformat.v4.new_markdown_cell("# Tiny"),
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *map(nbformat.v4.new_code_cell, cells),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return written(tmp_path / "tiny.ipynb", WORK, RESULTS)


def values(tiny, grid, **parameters):
    return _plan(tiny, grid, parameters, tiny.parent / "out").grid


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a", "10,20, 40", [10, 20, 40]),
        ("a", "0:5", [0, 1, 2, 3, 4]),
        ("a", "0:10:4,-3:-1", [0, 4, 8, -3, -2]),
        ("a", "3:0:-1", [3, 2, 1]),
        ("a", range(2), [0, 1]),
        ("b", "-1,.5,1e-3,4:6", [-1.0, 0.5, 0.001, 4.0, 5.0]),
        ("b", pd.Series([0.1, 0.2]).to_numpy(), [0.1, 0.2]),
        ("word", '"a,b",,c d,10:30,"say ""hi"""', ["a,b", "", "c d", "10:30", 'say "hi"']),
        ("word", "", [""]),
        ("flag", "true,False", [True, False]),
        ("data_path", "tiny.ipynb,", ["tiny.ipynb", ""]),
    ],
)
def test_values_are_read_in_the_type_of_their_parameter(tiny, name, text, expected):
    read = values(tiny, {name: text})[name]
    assert read == expected
    assert [type(value) for value in read] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the grid is empty"),
        (["-g", "aa", "1"], "there is no parameter 'aa'; did you mean 'a'?"),
        (["-g", "a", "1,100001"], "a takes an int in [-10, 100000]; got 100001"),
        (["-g", "a", "1,x"], "a takes an int in [-10, 100000]; got 'x'"),
        (["-g", "a", "-11:3"], "got -11"),
        (["-g", "a", "5:5"], "a: the range '5:5' is empty; 0:5 is 0 to 4"),
        (["-g", "a", "1,5:0"], "a: the range '5:0' is empty"),
        (["-g", "a", "0:5:0"], "a: the range '0:5:0' is empty"),
        (["-g", "b", "10,10.0"], "b holds 10.0 twice"),
        (["-g", "flag", "true,TRUE"], "flag holds True twice"),
        (["-g", "word", '"x'], "is not quoted as in CSV"),
        (["-g", "word", "x\ny"], "values are parted by commas on one line"),
        (["-g", "data_path", "no.csv"], "data_path: nothing is at 'no.csv'"),
        (["-g", "data_path", "0:3"], "data_path: nothing is at '0'"),
        (["-g", "results_path", "x.json"], "results_path: the runs of a sweep would overwrite each other's file"),
        (["-g", "a", "1", "-p", "results_path", "x.json"], "results_path: the runs of a sweep would overwrite"),
        (["-g", "a", "1", "-p", "a", "2"], "a is in the grid and fixed by -p"),
        (["-g", "a", "1", "-g", "a", "2"], "a name stands twice after -g: 'a', 'a'"),
        (["-g", "a", "1", "-p", "b", "x"], "b takes a finite float; got 'x'"),
        (["-g", "a", "0:101", "-g", "b", "0:100"], "the grid has more than the 10,000 runs that a sweep takes"),
        (["-g", "b", "0:999999999999999"], "the grid has more than the 10,000 runs"),
        (["-g", "a", "1", "--engine", "spark"], "engine is one of joblib, dask, ray; got 'spark'"),
        (["-g", "a", "1", "--address", "host:1"], "an address needs the engine dask or ray"),
        (["-g", "a", "1", "--workers", "0"], "workers is a whole number of 1 or more; got 0"),
    ],
)
def test_a_grid_is_refused_before_anything_starts(tiny, capsys, arguments, message):
    assert sweep.main([str(tiny), *arguments, "-o", "out"]) == 2
    printed = capsys.readouterr().out
    assert f"Nothing was run: {message}" in printed or ("Nothing was run: " in printed and message in printed)
    assert len(printed) < 600
    assert not (tiny.parent / "out").exists()


@pytest.mark.parametrize(
    ("notebook", "message"),
    [("5", "a sweep runs one notebook; '5' is "), ("no.ipynb", "'no.ipynb' is no file"), ("99", "no notebook starts")],
)
def test_one_notebook_is_swept(tiny, notebook, message):
    with pytest.raises(ValueError, match=message):
        run.sweep(notebook, {"a": [1]})


def test_values_of_a_wrong_kind_are_refused_in_python(tiny):
    for wrong, message in ((3, "a grid takes a list of values"), ([], "has no values"), ([1.5], "a takes an int")):
        with pytest.raises(UserError, match=message):
            run.sweep(tiny, {"a": wrong})


def test_a_missing_package_is_named_with_its_remedy(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="the engine ray needs a package that is not here; `make scale` installs it"):
        run.sweep(tiny, {"a": [1]}, engine="ray", output_dir="out")
    assert not (tiny.parent / "out").exists()


GRID = ["-g", "a", "0:4,14:18,30:34", "-g", "b", "0.5,-1.5"]


class Command:
    """A sweep as a command of its own, and its whole family, of which nothing stays."""

    def __init__(self, folder, *arguments):
        command = [sys.executable, str(ROOT / "tools" / "sweep.py"), "tiny.ipynb", *arguments, "-o", "out"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.folder, self.process = folder / "out" / "tiny", subprocess.Popen(command, cwd=folder, **pipes)
        self.family = []

    def until(self, condition):
        while not condition() and self.process.poll() is None:
            time.sleep(0.05)
        assert self.process.poll() is None, self.process.communicate()[0]
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def finished(self):
        return sorted(self.folder.glob("*/run.json"))

    def ended(self):
        printed = self.process.communicate(timeout=120)[0]
        _, alive = psutil.wait_procs(self.family, timeout=20)
        left = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        for one in left:
            one.kill()
        assert not left
        return printed


@pytest.fixture
def command(tiny, tmp_path):
    started = []

    def start(*arguments):
        started.append(Command(tmp_path, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()


def whole(file):
    record = json.loads(file.read_text())
    assert record["error"] or (file.parent / "tiny.ipynb").exists()
    return record


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_sweep_with_failures_that_is_killed_is_resumed_where_it_was(command, tmp_path):
    first = command(*GRID)
    first.until(lambda: len(first.finished()) > 6)
    first.process.send_signal(signal.SIGKILL)
    first.ended()
    good = {file: file.stat().st_mtime_ns for file in first.finished() if not whole(file)["error"]}
    assert 4 <= len(good) < 22

    refused = command(*GRID)
    assert "runs already: --resume" in refused.ended()
    assert refused.process.returncode == 2

    second = command(*GRID, "--resume")
    printed = second.ended()
    assert second.process.returncode == 1
    assert f"24 runs, {len(good)} of them kept" in printed
    assert "2 of 24 runs failed; --resume runs them again." in printed
    assert "a = 17, b = 0.5: cell 3 in 'Tiny': AssertionError: 17 | lacks it" in printed
    assert "24 of 24 done, 2 failed, about 0 s left" in printed

    table = (second.folder / "headlines.md").read_text()
    assert len([line for line in table.splitlines() if line.startswith("| [")]) == 24
    assert table.count("lacks it") == 2
    assert (second.folder / "headlines.png").read_bytes().startswith(b"\x89PNG")

    (tmp_path / "fixed").touch()
    third = command(*GRID, "--resume")
    printed = third.ended()
    assert third.process.returncode == 0
    assert "24 runs, 22 of them kept" in printed
    assert {file: file.stat().st_mtime_ns for file in good} == good, "what was finished is not run again"
    frame = pd.read_parquet(third.folder / "headlines.parquet")
    assert list(frame.columns) == ["a", "b", "score", "a_result", "long", "seconds", "error"]
    expected = [(a, b) for a in (0, 1, 2, 3, 14, 15, 16, 17, 30, 31, 32, 33) for b in (0.5, -1.5)]
    assert list(zip(frame["a"], frame["b"], strict=True)) == expected
    assert list(frame["score"]) == [a * b / 3 for a, b in expected]
    assert set(frame["error"]) == {""}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_keeps_what_is_finished_and_leaves_no_process(command, name):
    job = command(*GRID)
    job.until(lambda: len(job.finished()) > 1)
    job.process.send_signal(getattr(signal, name))
    printed = job.ended()
    assert job.process.returncode == 130
    assert "Interrupted: what is finished is kept; --resume runs the rest." in printed
    assert "Traceback" not in printed
    frame = pd.read_parquet(job.folder / "headlines.parquet")
    done = frame["error"] == ""
    assert 1 <= done.sum() == frame["score"].notna().sum()
    assert (frame["error"] == "not run yet").sum() >= 24 - len(job.finished())
    assert all(map(whole, job.finished()))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_killed_worker_costs_its_own_run_only(command, tmp_path):
    written(tmp_path / "tiny.ipynb", "import json, pathlib, time; time.sleep(3 if a == 1 else 0)", RESULTS)
    job = command("-g", "a", "1:5", "--workers", "2")
    job.until(lambda: len(job.finished()) == 1)
    # The process whose kernel sleeps for longest.
    (victim,) = {one.parent().pid for one in job.family if str(tmp_path) == one.cwd() and kernel_of(one, "a=1")}
    os.kill(victim, signal.SIGKILL)
    printed = job.ended()
    assert job.process.returncode == 1
    assert "failed: a = 1: the process that ran it was killed, perhaps for its memory" in printed
    assert "4 of 4 done, 1 failed" in printed
    again = command("-g", "a", "1:5", "--resume")
    assert "4 runs, 3 of them kept" in again.ended()
    assert again.process.returncode == 0


def kernel_of(process, run_name):
    """Tell whether a process is the kernel of a run: its log is the kernel's standard error."""
    if "ipykernel" not in " ".join(process.cmdline()):
        return False
    return run_name in str(Path(f"/proc/{process.pid}/fd/2").readlink())


def test_two_sweeps_into_one_folder_are_refused(tiny, tmp_path):
    with (
        run._claimed([tmp_path / "out" / "tiny" / "headlines"]),
        pytest.raises(UserError, match="another run is writing it; wait for it, or name another folder"),
    ):
        run.sweep(tiny, {"a": [1]}, output_dir="out")


def test_what_is_resumed_may_have_a_larger_grid_and_other_prose_but_no_other_code(tiny, tmp_path):
    seen = []
    options = {"output_dir": "out", "resume": True, "on_run": lambda *news: seen.append(news)}
    first = run.sweep(str(tiny), {"a": "4:6"}, parameters={"word": "y"}, **options)
    assert [(done, total) for done, total, _ in seen] == [(0, 2), (1, 2), (2, 2)]
    assert sorted(row["a"] for _, _, row in seen[1:]) == [4, 5]

    text = tiny.read_text()
    tiny.write_text(text.replace("# Tiny", "# Tiny, and read again"))
    seen.clear()
    larger = run.sweep(tiny, {"a": "4:7"}, parameters={"word": "y"}, **options)
    assert [row.get("a") for _, _, row in seen] == [None, 6]
    pd.testing.assert_frame_equal(larger[:2], first)

    before = {file: file.read_bytes() for file in (tmp_path / "out" / "tiny").rglob("*") if file.is_file()}
    with pytest.raises(UserError, match="holds runs with word = 'y', which must not be mixed"):
        run.sweep(tiny, {"a": "4:7"}, **options)
    with pytest.raises(UserError, match="holds runs over a, which must not be mixed: name another folder with -o"):
        run.sweep(tiny, {"a": "4:7", "b": "1"}, parameters={"word": "y"}, **options)
    tiny.write_text(text.replace("a * b / 3", "a * b / 4"))
    with pytest.raises(UserError, match=r"holds runs with other code.*the code that they ran is tiny.ipynb there"):
        run.sweep(tiny, {"a": "4:7"}, parameters={"word": "y"}, **options)
    assert {file: file.read_bytes() for file in before} == before
    copy = tmp_path / "out" / "tiny" / "tiny.ipynb"
    pd.testing.assert_frame_equal(run.sweep(copy, {"a": "4:7"}, parameters={"word": "y"}, **options), larger)


def test_a_notebook_without_results_and_with_results_of_any_kind(tiny, tmp_path):
    """Not of this project's making: it declares no results_path, or writes its own JSON."""
    bare = written(tmp_path / "bare.ipynb", "print(rate)", parameters="rate: float = 1  # any")
    frame = run.sweep(bare, {"rate": [0.1, 0.2]}, output_dir="out")
    assert list(frame.columns) == ["rate", "seconds", "error"]
    assert set(frame["error"]) == {""}
    own = (
        "import json; pathlib = __import__('pathlib')\n"
        "made = [{'x': None, 'y': 'a|b', 'z': 2**70, 'n': 1}, {'x': 1.5, 'y': 3, 'z': [1], 'n': 2}, [1]][a]\n"
        "pathlib.Path(results_path).write_text(json.dumps(made))"
    )
    frame = run.sweep(written(tiny, own), {"a": range(3), "word": ["ü/%{}\\:" * 9]}, output_dir="out")
    assert list(frame["n"][:2]) == [1, 2]
    assert str(frame["n"].dtype) == "Int64"
    assert list(frame["y"][:2]) == ["a|b", "3"]
    assert list(frame["z"][:2]) == [str(2**70), "[1]"]
    assert frame["error"][2] == "its results are no JSON object, but a list"
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "tiny" / "headlines.parquet"), frame)


def drawn(tiny, grid, headline):
    """Return the figure of a sweep without its runs; `headline` gives the result of each, or nothing."""
    plan = _plan(tiny, grid, {}, tiny.parent / "out")
    made = {name: headline(**{"a": 0, "b": 0, "word": "", **given}) for name, given in plan.runs.items()}
    rows = {
        name: {"results": {} if value is None else {"score": value}, "seconds": 1.0, "error": "why" * (value is None)}
        for name, value in made.items()
    }
    plan.folder.mkdir(parents=True, exist_ok=True)
    figure, told = _figure(plan, _write_tables(plan, rows))
    assert (plan.folder / "headlines.png").stat().st_size > 5000
    table = (plan.folder / "headlines.md").read_text().splitlines()
    assert len([line for line in table if line[:3].strip("| ").isdigit() or line[2:4].isdigit()]) == len(rows)
    return figure, told


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def test_one_parameter_is_a_line_and_failed_runs_are_marked(tiny):
    figure, told = drawn(tiny, {"a": "1:6"}, lambda a, **_: None if a == 3 else a / 2)
    (axes,) = figure.axes
    assert axes.get_title() == "tiny: score over a"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "score")
    curve = next(line for line in axes.lines if line.get_linestyle() == "-")
    assert list(curve.get_xdata()) == [1, 2, 4, 5]
    assert list(curve.get_ydata()) == [0.5, 1, 2, 2.5]
    assert list(lines(axes)["no result (1 runs)"].get_xdata()) == [3]
    assert told == "score of tiny over a: from 0.5 to 2.5; 1 of 5 runs have no result."


def test_a_second_parameter_is_a_colour_and_a_third_is_averaged(tiny):
    grid = {"word": "x,y", "b": "0.001,0.1,1", "a": "0:3"}
    figure, _ = drawn(tiny, grid, lambda a, b, word: b + a + 10 * (word == "y"))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_xscale()) == ("b", "log")
    assert len(axes.get_legend_handles_labels()[1]) == 3
    figure, _ = drawn(tiny, {"a": "0:3", "word": "x,y", "b": "1,3"}, lambda a, b, word: b + a + 10 * (word == "y"))
    (axes,) = figure.axes
    assert axes.get_title() == "tiny: score over a and b; lines and cells: mean over word"
    assert list(lines(axes)["b = 3.0"].get_ydata()) == [8, 9, 10]


def test_many_colours_become_a_heat_map(tiny):
    figure, _ = drawn(tiny, {"a": "0:3", "b": "0:30"}, lambda a, b, **_: None if a == b == 1 else a * b)
    axes, bar = figure.axes
    assert bar.get_ylabel() == "score"
    cells = axes.images[0].get_array()
    assert cells.shape == (30, 3)
    assert cells[7, 2] == 14
    assert [tuple(line.get_xydata()[0]) for line in axes.lines] == [(1, 1)]
    assert len(axes.get_yticks()) <= 20


def test_words_are_places_on_either_axis_and_no_result_at_all_is_drawn_too(tiny):
    figure, told = drawn(tiny, {"word": "low,high"}, lambda word, **_: word == "high")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["low", "high"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["False", "True"]
    assert told.startswith("score of tiny over word: 2 different values")
    figure, _ = drawn(tiny, {"a": "0:3"}, lambda **_: None)
    assert "no result (3 runs)" in lines(figure.axes[0])
