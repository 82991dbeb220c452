"""The parameter contract, a run, and the main job around it."""

import json
import os
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import notebook

CELL = """\
threshold: float = 0.5  # cut on the probability, in [0, 1]
rate: float = 0.1  # learning rate, in (0, 1)
window: int = 24  # hours, in [1, 168]
method: str = "mean"  # kind of smoothing, one of mean, median
shuffle: bool = True  # whether rows are shuffled
data_path: str = ""  # a file; empty: embedded data
results_path: str = ""  # JSON file; empty: none is written
"""


@pytest.fixture
def contract():
    return notebook.read_schema(CELL)


@pytest.fixture
def notebook(tmp_path):
    """A function that writes a notebook of code cells after the contract; it returns the path."""

    def write(*cells, name="07_tiny.ipynb"):
        parameters = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})
        start = nbformat.v4.new_code_cell("from helpers import runs\nruns.begin(globals())")
        cells = [
            nbformat.v4.new_markdown_cell("# Tiny"),
            parameters,
            start,
            nbformat.v4.new_markdown_cell("## The work"),
            *map(nbformat.v4.new_code_cell, cells),
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / name)
        return tmp_path / name

    return write


def test_a_contract_is_read(contract):
    assert list(contract) == ["threshold", "rate", "window", "method", "shuffle", "data_path", "results_path"]
    assert contract["window"] == notebook.Parameter("window", int, 24, "hours, in [1, 168]")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("threshold = 0.5", "declared as"),
        ("threshold: float = 1 / 2", "literal"),
        ("threshold: float", "declared as"),
        ("sizes: list = [1]", "type is one of int, float, str, bool"),
        ("threshold: float | None = 0.5", "type is one of"),
        ("print(1)", "declared as"),
    ],
)
def test_what_is_no_declaration_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        notebook.read_schema(source)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 0),
        ("threshold", 1),
        ("rate", 0.001),
        ("window", 168),
        ("method", "median"),
        ("shuffle", False),
        ("data_path", ""),
        ("data_path", sys.executable),
    ],
)
def test_accepted_values(contract, name, value):
    checked = contract[name].check(value)
    assert checked == value
    assert type(checked) is contract[name].type


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshold", 1.01, r"threshold takes a float in \[0, 1\]; got 1.01."),
        ("threshold", float("nan"), "got nan"),
        ("threshold", float("inf"), "got inf"),
        ("threshold", "0.5", "got '0.5'"),
        ("threshold", True, "got True"),
        ("threshold", None, "got None"),
        ("rate", 0, r"rate takes a float in \(0, 1\); got 0"),
        ("rate", 1.0, "got 1.0"),
        ("window", 0, r"window takes an int in \[1, 168\]; got 0"),
        ("window", 24.0, "got 24.0"),
        ("window", True, "got True"),
        ("method", "mode", "method takes a str one of mean, median; got 'mode'"),
        ("shuffle", 1, "shuffle takes a bool; got 1"),
        ("data_path", "/no/such/file.csv", "data_path: nothing is at '/no/such/file.csv'"),
        ("data_path", 7, "data_path takes a str; got 7"),
    ],
)
def test_refused_values(contract, name, value, message):
    with pytest.raises(notebook.ParameterError, match=message) as caught:
        contract[name].check(value)
    assert "\n" not in str(caught.value)


@given(st.floats() | st.integers())
def test_a_number_is_accepted_exactly_inside_its_interval(value):
    parameter = notebook.read_schema("x: float = 0.5  # x, in (0, 1]")["x"]
    if 0 < value <= 1:
        assert parameter.check(value) == value
    else:
        with pytest.raises(notebook.ParameterError):
            parameter.check(value)


def test_results_path_must_be_writable(contract, tmp_path):
    assert contract["results_path"].check(str(tmp_path / "new" / "results.json"))
    with pytest.raises(notebook.ParameterError, match="is a folder"):
        contract["results_path"].check(str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(notebook.ParameterError, match="cannot be written"):
        contract["results_path"].check(str(tmp_path / "file" / "results.json"))


def test_a_file_to_write_is_told_from_one_to_read_by_its_comment(tmp_path):
    contract = notebook.read_schema(
        'a_path: str = ""  # CSV; empty: none is written\nb_path: str = ""  # CSV; empty: none'
    )
    assert contract["a_path"].check(str(tmp_path / "new.csv"))
    with pytest.raises(notebook.ParameterError, match="nothing is at"):
        contract["b_path"].check(str(tmp_path / "new.csv"))


def test_text_from_a_command_line_is_read_as_the_declared_type(contract):
    assert contract["threshold"].from_text("0.7") == 0.7
    assert contract["window"].from_text("007") == 7
    assert contract["method"].from_text("median") == "median"
    assert contract["shuffle"].from_text("false") is False
    for name, text in (("threshold", "abc"), ("window", "7.5"), ("shuffle", "maybe"), ("threshold", "")):
        with pytest.raises(notebook.ParameterError, match=f"{name} takes"):
            contract[name].from_text(text)


def test_unknown_names_are_refused_with_the_nearest(notebook):
    path = notebook()
    with pytest.raises(notebook.ParameterError, match="no parameter 'treshold'; did you mean 'threshold'"):
        notebook.check_parameters(path, {"treshold": 0.7})
    with pytest.raises(notebook.ParameterError, match="no parameter 'zzz'; there are: threshold, rate"):
        notebook.check_parameters(path, {"zzz": 0.7})


def test_report_prints_and_writes_whole(tmp_path, capsys):
    path = tmp_path / "new" / "results.json"
    notebook.write_results({"auc": np.float64(0.5), "rows": np.int64(3), "good": True}, str(path))
    assert json.loads(path.read_text()) == {"auc": 0.5, "rows": 3, "good": True}
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]
    assert capsys.readouterr().out.splitlines() == ["auc   0.5", "rows  3", "good  True"]


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), ([1], TypeError), (None, TypeError)])
def test_report_refuses_what_is_no_flat_json_and_keeps_the_old_file(tmp_path, value, error):
    path = tmp_path / "results.json"
    notebook.write_results({"auc": 0.5}, str(path))
    with pytest.raises(error):
        notebook.write_results({"auc": value}, str(path))
    assert json.loads(path.read_text()) == {"auc": 0.5}


def test_a_run_brings_results_memory_and_sections(notebook, tmp_path):
    path = notebook(
        "import time\nblock = b'x' * 200_000_000\ntime.sleep(0.5)",
        "notebook.write_results({'half': threshold / 2}, results_path)",
    )
    seen = []
    run = notebook.run_notebook(path, tmp_path / "out", {"threshold": "0.8"}, on_cell=lambda *cell: seen.append(cell))
    assert run.error == ""
    assert run.results == {"half": 0.4}
    assert 240 < run.peak_mb < 1000
    assert seen[-1] == (7, 7, "The work")
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["07_tiny.ipynb", "07_tiny.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system starts processes without a copy")
def test_memory_that_a_child_shares_counts_once(notebook, tmp_path):
    """Between the start of a process and its first instruction, the kernel's memory appears twice in the list."""
    path = notebook(
        "import os, time\nblock = b'x' * 400_000_000",
        "child = os.fork()\nif not child:\n    time.sleep(1)\n    os._exit(0)\nwaited = os.waitpid(child, 0)",
    )
    run = notebook.run_notebook(path, tmp_path / "out")
    assert run.error == ""
    assert 440 < run.peak_mb < 800


def test_a_failing_cell_is_named_and_leaves_no_old_result(notebook, tmp_path):
    notebook.run_notebook(notebook("notebook.write_results({'a': 1}, results_path)"), tmp_path / "out")
    assert (tmp_path / "out" / "07_tiny.json").exists()
    run = notebook.run_notebook(notebook("1 / 0"), tmp_path / "out")
    assert "'The work'" in run.error
    assert "ZeroDivisionError: division by zero" in run.error
    assert run.results == {}
    assert not (tmp_path / "out" / "07_tiny.json").exists()
    assert run.output.exists()


def test_a_kernel_that_dies_is_told(notebook, tmp_path):
    run = notebook.run_notebook(notebook("import os\nos._exit(1)"), tmp_path / "out")
    assert "kernel died in 'The work'" in run.error


def test_a_cell_that_does_not_end_is_given_up(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "CELL_TIMEOUT", 2)
    run = notebook.run_notebook(notebook("import time\ntime.sleep(20)"), tmp_path / "out")
    assert run.error == "'The work': a cell took more than 2 s"
    assert run.output.exists()


def test_no_kernel_starts_for_a_wrong_parameter(notebook, tmp_path):
    with pytest.raises(notebook.ParameterError, match="threshold takes"):
        notebook.run_notebook(notebook(), tmp_path / "out", {"threshold": 7})
    assert not (tmp_path / "out").exists()


def test_begin_needs_the_parameters():
    with pytest.raises(RuntimeError, match="run the cell with the parameters first"):
        notebook.setup({"In": ["", "import numpy as np"]})


def test_begin_without_a_history_holds_nothing():
    """nbval executes cells without one."""
    notebook.setup({"In": [""]})


def test_begin_takes_the_cell_as_it_was_changed_by_the_reader():
    notebook.setup({"In": ["", "x: int = 3  # x, in [0, 5]"], "x": 3})
    with pytest.raises(notebook.ParameterError, match="x takes an int"):
        notebook.setup({"In": ["", "x: int = 7  # x, in [0, 5]"], "x": 7})


def test_begin_sees_what_papermill_injects():
    cells = ["", "x: int = 3  # x, in [0, 5]", "# Parameters\ny = 4\n"]
    with pytest.raises(notebook.ParameterError, match="no parameter 'y'"):
        notebook.setup({"In": cells, "x": 3, "y": 4})


@pytest.fixture
def house(notebook, tmp_path, monkeypatch):
    """A project of two notebooks, of which the second fails."""
    (tmp_path / "notebooks").mkdir()
    good = notebook("notebook.write_results({'score': 0.5}, results_path)", name="notebooks/00_good.ipynb")
    bad = notebook("1 / 0", name="notebooks/01_bad.ipynb")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return good, bad


def test_the_main_job_runs_all_names_the_failed_one_and_says_so(house, capsys):
    assert cli.main(["-o", "out"]) == 1
    printed = capsys.readouterr().out
    assert "score = 0.5" in printed
    assert "01_bad failed in cell" in printed
    assert "ZeroDivisionError: division by zero" in printed
    assert "out/00_good.ipynb" in printed.replace("\\", "/")
    assert json.loads((house[0].parent.parent / "out" / "00_good.json").read_text()) == {"score": 0.5}


def test_the_main_job_runs_one_and_succeeds(house, capsys):
    assert cli.main(["00", "-p", "threshold", "0.7", "-o", "out"]) == 0
    assert "01_bad" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["07"], "no notebook starts with '07'; there are: 00_good, 01_bad"),
        (["00", "-p", "treshold", "0.7"], "did you mean 'threshold'"),
        (["-p", "threshold", "7"], "00_good: threshold takes a float in [0, 1]; got 7.0."),
        (["-p", "threshold", "[/red]"], "got '[/red]'"),
    ],
)
def test_the_main_job_refuses_before_anything_runs(house, capsys, arguments, message):
    assert cli.main([*arguments, "-o", "out"]) == 2
    assert message in capsys.readouterr().out
    assert not (house[0].parent.parent / "out").exists()


def test_an_interrupted_job_leaves_no_kernel_and_no_finished_looking_file(house, tmp_path):
    import psutil

    house[0].write_text(
        house[0].read_text().replace("notebook.write_results", "__import__('time').sleep(60); notebook.write_results")
    )
    script = f"from helpers import cli, runs\nimport pathlib\nruns.ROOT = pathlib.Path({str(tmp_path)!r})\n"
    script += "if __name__ == '__main__':\n    raise SystemExit(cli.main(['00', '-o', 'out']))\n"
    (tmp_path / "job.py").write_text(script)
    job = subprocess.Popen([sys.executable, "job.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    partial = tmp_path / "out" / "00_good.partial.ipynb"
    children = []
    for _ in range(200):
        psutil.time.sleep(0.1)
        children = psutil.Process(job.pid).children(recursive=True)
        if partial.exists() and any("ipykernel" in " ".join(child.cmdline()) for child in children):
            break
    job.terminate()
    printed = job.communicate(timeout=30)[0].decode()
    assert job.returncode == 130
    assert "Interrupted" in printed
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert sorted(path.name for path in (tmp_path / "out").glob("*.ipynb")) == ["00_good.partial.ipynb"]


def test_fast_kernels_are_taken_without_a_word():
    code = (
        "import os; from helpers import runs; notebook.setup({}, exact=False); import tensorflow as tf; tf.zeros(3) + 1"
    )
    code += "; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert done.stderr == ""
