"""The parameter schema, the set-up and the results of a notebook; the packages, and a process of its own."""

import json
import subprocess
import sys
from importlib.metadata import version

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
def schema():
    return notebook.read_schema(CELL)


def test_a_schema_is_read(schema):
    assert list(schema) == ["threshold", "rate", "window", "method", "shuffle", "data_path", "results_path"]
    assert schema["window"] == notebook.Parameter("window", int, 24, "hours, in [1, 168]")


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
def test_accepted_values(schema, name, value):
    checked = schema[name].check(value)
    assert checked == value
    assert type(checked) is schema[name].type


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
def test_refused_values(schema, name, value, message):
    with pytest.raises(notebook.ParameterError, match=message) as caught:
        schema[name].check(value)
    assert "\n" not in str(caught.value)


@given(st.floats() | st.integers())
def test_a_number_is_accepted_exactly_inside_its_interval(value):
    parameter = notebook.read_schema("x: float = 0.5  # x, in (0, 1]")["x"]
    if 0 < value <= 1:
        assert parameter.check(value) == value
    else:
        with pytest.raises(notebook.ParameterError):
            parameter.check(value)


def test_results_path_must_be_writable(schema, tmp_path):
    assert schema["results_path"].check(str(tmp_path / "new" / "results.json"))
    with pytest.raises(notebook.ParameterError, match="is a folder"):
        schema["results_path"].check(str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(notebook.ParameterError, match="cannot be written"):
        schema["results_path"].check(str(tmp_path / "file" / "results.json"))


def test_a_file_to_write_is_told_from_one_to_read_by_its_name(tmp_path):
    """Not by words of the comment, which somebody may reword."""
    schema = notebook.read_schema('output_path: str = ""  # CSV\nb_path: str = ""  # CSV; empty: none is written')
    assert schema["output_path"].check(str(tmp_path / "new.csv"))
    with pytest.raises(notebook.ParameterError, match="nothing is at"):
        schema["b_path"].check(str(tmp_path / "new.csv"))


def test_text_from_a_command_line_is_read_as_the_declared_type(schema):
    assert schema["threshold"].from_text("0.7") == 0.7
    assert schema["window"].from_text("007") == 7
    assert schema["method"].from_text("median") == "median"
    assert schema["shuffle"].from_text("false") is False
    for name, text in (("threshold", "abc"), ("window", "7.5"), ("shuffle", "maybe"), ("threshold", "")):
        with pytest.raises(notebook.ParameterError, match=f"{name} takes"):
            schema[name].from_text(text)


def test_unknown_names_are_refused_with_the_nearest(tmp_path):
    path = tmp_path / "tiny.ipynb"
    cell = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    with pytest.raises(notebook.ParameterError, match="no parameter 'treshold'; did you mean 'threshold'"):
        notebook.check_parameters(path, {"treshold": 0.7})
    with pytest.raises(notebook.ParameterError, match="no parameter 'zzz'; there are: threshold, rate"):
        notebook.check_parameters(path, {"zzz": 0.7})


def test_write_results_prints_and_writes_whole(tmp_path, capsys):
    path = tmp_path / "new" / "results.json"
    notebook.write_results({"auc": np.float64(0.5), "rows": np.int64(3), "good": True}, str(path))
    assert json.loads(path.read_text()) == {"auc": 0.5, "rows": 3, "good": True}
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]
    assert capsys.readouterr().out.splitlines() == ["auc   0.5", "rows  3", "good  True"]


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), ([1], TypeError), (None, TypeError)])
def test_write_results_refuses_what_is_no_flat_json_and_keeps_the_old_file(tmp_path, value, error):
    path = tmp_path / "results.json"
    notebook.write_results({"auc": 0.5}, str(path))
    with pytest.raises(error):
        notebook.write_results({"auc": value}, str(path))
    assert json.loads(path.read_text()) == {"auc": 0.5}


def test_setup_needs_the_parameters():
    with pytest.raises(RuntimeError, match="run the cell with the parameters first"):
        notebook.setup({"In": ["", "import numpy as np"]})


def test_setup_without_a_history_checks_nothing():
    """nbval executes cells without one."""
    notebook.setup({"In": [""]})


def test_setup_takes_the_cell_as_it_was_changed_by_the_reader():
    notebook.setup({"In": ["", "x: int = 3  # x, in [0, 5]"], "x": 3})
    with pytest.raises(notebook.ParameterError, match="x takes an int"):
        notebook.setup({"In": ["", "x: int = 7  # x, in [0, 5]"], "x": 7})


def test_setup_sees_what_papermill_injects():
    cells = ["", "x: int = 3  # x, in [0, 5]", "# Parameters\ny = 4\n"]
    with pytest.raises(notebook.ParameterError, match="no parameter 'y'"):
        notebook.setup({"In": cells, "x": 3, "y": 4})


def test_fast_kernels_are_taken_without_a_message():
    code = "import os; from helpers import notebook; notebook.setup({}, exact=False); import tensorflow as tf"
    code += "; tf.zeros(3) + 1; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert done.stderr == ""


def test_an_error_of_the_readers_is_shown_without_a_traceback():
    assert notebook.ParameterError("n takes an int.")._render_traceback_() == ["ParameterError: n takes an int."]


def test_right_wrong_and_missing_packages():
    rows = notebook.check_environment(f"numpy=={version('numpy')} \\\n    --hash=sha256:00\nscipy==1.0\nno-such==2.0\n")
    assert [(row["package"], row["state"], row["fix"]) for row in rows] == [
        ("numpy", "right", ""),
        ("scipy", "wrong version", "%pip install scipy==1.0"),
        ("no-such", "missing", "%pip install no-such==2.0"),
    ]
    assert notebook.check_environment("no-such==2.0 ; sys_platform == 'plan9'") == []


def test_either_build_of_tensorflow_is_right():
    for name in ("tensorflow", "tensorflow-cpu"):
        (row,) = notebook.check_environment(f"{name}==2.21.0")
        assert row["installed"] != "-"


def test_the_lock_is_what_is_installed():
    assert [row for row in notebook.check_environment() if row["state"] != "right"] == []


def test_a_fresh_process_shares_nothing_and_has_the_environment(tmp_path):
    script = tmp_path / "a.py"
    script.write_text("import os, sys\nprint('numpy' in sys.modules, os.environ['TF_CPP_MIN_LOG_LEVEL'], sys.argv[1:])")
    assert notebook.fresh_process(script, 1, "é").strip() == "False 2 ['1', 'é']"


def test_a_fresh_process_that_fails_says_why(tmp_path):
    script = tmp_path / "a.py"
    script.write_text("raise ValueError('no weights\\n\\nArguments received:\\n  many')")
    with pytest.raises(RuntimeError, match=r"^a\.py ended with status 1: ValueError: no weights$"):
        notebook.fresh_process(script)
