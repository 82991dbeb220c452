"""The parameter schema, the set-up and the results of a notebook; the packages, and a process of its own."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import nbclient
import nbformat
import numpy as np
import pandas as pd
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
        ("x: int = 1; y: int = 2", "declared as"),
        ("x: str = (\n'a')", "declared as"),
        ("x: str = '''a", "declared as"),
        ("x: str = '\\d'", "declared as"),
        ("(" * 5000, "declared as"),
        ("x: int = " + "-" * 100_000 + "1", "declared as"),
        ("x: int = 1\0", "declared as"),
        ("\ud800", "declared as"),
        ("x: int = {[]: 1}", "declared as"),
        ("x: int = True", "x takes an int of 64 bits; got True"),
        ("x: int = 'a'", "x takes an int of 64 bits; got 'a'"),
        ("x: float = 1e999", "x takes a finite float; got inf"),
        ("x: int = 7  # x, in [0, 5]", r"x takes an int in \[0, 5\]; got 7"),
        ("x: str = 'b'  # x, one of a, c", "x takes a str one of a, c; got 'b'"),
        ("x: int = 1\nx: int = 2", "'x' is declared twice"),
        ("x: float = 0.5  # x, in [0; 1]", "a range is written"),
        ("x: float = 0.5  # x, in [0, 1].", "a range is written"),
        ("x: str = 'b'  # one of " + "a" * 100_000, "x takes a str one of aaa"),
    ],
)
def test_what_is_no_declaration_is_refused(source, message):
    with pytest.raises(notebook.ParameterError, match=message) as caught:
        notebook.read_schema(source)
    assert len(str(caught.value)) < 400


def test_an_int_is_a_float_and_a_hash_in_a_text_is_no_comment():
    schema = notebook.read_schema(
        "\n# cost\nx: float = 1  # é, in [0,1]\ny: str = 'é#'  # é\nk: int = 2  # one of 1, 2\n"
    )
    assert [(p.default, type(p.default), p.help) for p in schema.values()] == [
        (1.0, float, "é, in [0,1]"),
        ("é#", str, "é"),
        (2, int, "one of 1, 2"),
    ]
    assert len(notebook.read_schema("".join(f"a{n}: int = 1\n" for n in range(5000)))) == 5000


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
        ("shuffle", 1, "shuffle takes a bool, true or false; got 1"),
        ("data_path", "/no/such/file.csv", "data_path: nothing is at '/no/such/file.csv'"),
        ("data_path", 7, r"data_path takes a str; got 7 \(papermill: use -r data_path 7\)"),
        ("data_path", "a" * 300, "data_path: nothing is at 'aaa"),
        ("data_path", "a\0b", "data_path: nothing is at"),
        ("data_path", "~no-such-user/x", "data_path: nothing is at '~no-such-user/x'"),
        ("results_path", "a" * 300, "results_path: 'aaa.* cannot be written: File name too long"),
        ("results_path", "a" * 250, "cannot be written: File name too long"),
        ("results_path", "a\0b", "cannot be written: embedded null byte"),
        ("results_path", "~no-such-user/x", "cannot be written: Could not determine home directory"),
        ("results_path", os.devnull, "is a folder or a device"),
        ("threshold", 10**400, "threshold takes a float .* got 1000"),
        ("method", "a" * 100_000, "got 'aaa"),
    ],
)
def test_refused_values(schema, name, value, message):
    with pytest.raises(notebook.ParameterError, match=message) as caught:
        schema[name].check(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_tilde_is_the_home_folder_in_paths_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.csv").touch()
    schema = notebook.read_schema("data_path: str = ''  # a\nlabel_column: str = ''  # b")
    assert schema["data_path"].check("~/own.csv") == "~/own.csv"
    for text in ("~target", "~no-such-user", "a\0b", "x" * 300):
        assert schema["label_column"].from_text(text) == text


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
    own = tmp_path / "own.csv"
    own.write_text("x,label")
    with pytest.raises(notebook.ParameterError, match="it is there, and holds no results"):
        schema["results_path"].check(str(own))
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


ODD = [("threshold", text) for text in ("nan", "1e400", "0_1", "١", " 0.5 ", "0,5", "0x1")]
ODD += [("window", text) for text in ("1_0", "١", " 5 ", "1e1", "9" * 5000)]


def test_text_from_a_command_line_is_read_as_the_declared_type(schema):
    assert schema["threshold"].from_text("0.7") == 0.7
    assert schema["window"].from_text("007") == 7
    assert notebook.read_schema("x: int = 0")["x"].from_text(f"{2**63 - 1}") == 2**63 - 1
    with pytest.raises(notebook.ParameterError, match="x takes an int of 64 bits; got 9223372036854775808"):
        notebook.read_schema("x: int = 0")["x"].from_text(f"{2**63}")
    assert schema["method"].from_text("median") == "median"
    assert schema["shuffle"].from_text("false") is False
    for name, text in (("threshold", "abc"), ("window", "7.5"), ("shuffle", "maybe"), ("threshold", ""), *ODD):
        with pytest.raises(notebook.ParameterError, match=f"{name} takes"):
            schema[name].from_text(text)


def test_unknown_names_are_refused_with_the_nearest(tmp_path):
    path = tmp_path / "tiny.ipynb"
    cell = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    with pytest.raises(notebook.ParameterError, match="no parameter 'treshold'; did you mean 'threshold'"):
        notebook.check_parameters(path, {"treshold": 0.7})
    with pytest.raises(notebook.ParameterError, match="no parameter 'zzz'; there are: 'threshold', 'rate'"):
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


@pytest.mark.parametrize("line", ["x = print(1)", "x = 1; z = 2", "x = z = 2", "print(x) = 2".replace(" =", " #=")])
def test_setup_sees_code_in_the_name_of_a_parameter(line):
    with pytest.raises(notebook.ParameterError, match="there is no parameter"):
        notebook.setup({"In": ["", "x: int = 3  # x", f"# Parameters\n{line}\n"], "x": 3})


def test_setup_takes_the_last_schema_and_says_what_is_wrong_in_it():
    cells = ["", "%matplotlib", "# mine\n\nx: int = 'a'  # x", "x: int = 3  # x", "# Parameters\nx = 4\n", "y = 1"]
    notebook.setup({"In": cells, "x": 4})
    with pytest.raises(notebook.ParameterError, match=r"declared as .* got 'x: int = 1 / 2'"):
        notebook.setup({"In": [*cells, "x: int = 1 / 2"], "x": 4})


def test_values_in_messages_are_cut():
    assert notebook.some(["a" * 100_000] * 20, most=20).startswith("'aaa")
    assert len(notebook.some(["a" * 100_000] * 20, most=20)) < 370
    assert notebook.shown("a" * 58) == repr("a" * 58)
    assert len(notebook.shown("\0" * 100_000)) == 60
    assert len(notebook.first_line("a" * 100_000)) == 360
    with pytest.raises(notebook.ParameterError, match="x takes an int of 64 bits; got a number of thousands of digits"):
        notebook.read_schema("x: int = 0")["x"].check(10**5000)
    numpy = "\n\nIMPORTANT: PLEASE READ THIS\n\n* The Python version is: 3\n\nOriginal error was: no memory\n"
    assert notebook.first_line(ImportError(numpy)) == "no memory"


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


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 1}', '{"cells": [{"metadata": {}}]}', "[" * 100_000])
def test_a_damaged_notebook_is_told_by_its_name(tmp_path, content):
    (tmp_path / "20_x.ipynb").write_text(content)
    with pytest.raises(notebook.ParameterError, match=r"20_x.ipynb is no notebook with parameters"):
        notebook.check_parameters(tmp_path / "20_x.ipynb", {})


# --- exercises ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_exercises(monkeypatch):
    monkeypatch.setattr(notebook, "_exercises", {})


class Lines:
    def __repr__(self):
        return "first line\nand more"


class Odd:
    shape = 3

    def __repr__(self):
        raise RuntimeError("cannot be shown")


@pytest.mark.parametrize(
    ("calls", "right", "said"),
    [
        (..., None, "`calls` is not set yet: replace the dots above."),
        ((0.2, ...), None, "`calls` is not set yet: replace the dots above."),
        (80, lambda k: k == 80, "`calls` is right."),
        (np.float64(0.5), lambda k: k == 0.2, "`calls` is not right yet: you gave 0.5."),
        ("a", lambda k: k > 3, "`calls` is not right yet: you gave 'a' (TypeError: '>' not supported between"),
        (None, lambda k: k == 80, "`calls` is not right yet: you gave None."),
        (float("nan"), lambda k: k == 80, "`calls` is not right yet: you gave nan."),
        (pd.NA, lambda k: k == 80, "`calls` is not right yet: you gave <NA> (TypeError: boolean value of NA"),
        (np.arange(3), lambda k: k == np.arange(3), "`calls` is right."),
        (np.arange(3), lambda k: k > 0, "`calls` is not right yet: you gave ndarray of shape (3,)."),
        (np.array([]), lambda k: k == np.arange(1), "`calls` is not right yet: you gave ndarray of shape (0,)."),
        (np.arange(3), lambda k: k == np.arange(2), "`calls` is not right yet: you gave ndarray of shape (3,) ("),
        (pd.DataFrame({"a": [1, 2]}), lambda k: k == k, "`calls` is right."),
        (pd.Series([1, 2]), lambda k: k > 1, "`calls` is not right yet: you gave Series of shape (2,)."),
        ([1, 2], lambda k: k == [1, 2], "`calls` is right."),
        ("a" * 10**6, lambda k: False, "`calls` is not right yet: you gave 'aaa"),
        (Lines(), lambda k: False, "`calls` is not right yet: you gave first line."),
        (Odd(), lambda k: False, "`calls` is not right yet: you gave an object of type Odd."),
        (Odd(), lambda k: isinstance(k, Odd), "`calls` is right."),
    ],
)
def test_a_check_says_what_is_the_case_in_one_line_and_raises_nothing(capsys, calls, right, said):
    notebook.check(calls, right)
    out = capsys.readouterr().out
    assert out.startswith(said), out
    assert out.count("\n") == 1
    assert len(out) < 300


def test_a_check_takes_tensors(capsys):
    tf = pytest.importorskip("tensorflow")
    tensor = tf.constant([1.0, 2.0])
    notebook.check(tensor, lambda t: t == tf.constant([1.0, 2.0]))
    notebook.check(tensor, lambda t: t > 1.5)
    notebook.check(tensor[0], lambda t: t == 1.0)
    assert capsys.readouterr().out.splitlines() == [
        "`tensor` is right.",
        "`tensor` is not right yet: you gave EagerTensor of shape (2,).",
        "`tensor[0]` is right.",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda k: f"with {k} calls you reach 30%", "with 98 calls you reach 30%."),
        (lambda k: "that is too many.", "that is too many."),
        (lambda k: "", "you gave 98."),
        (lambda k: 1 / 0, "you gave 98 (ZeroDivisionError: division by zero)."),
    ],
)
def test_a_wrong_answer_is_told_what_came_out(capsys, wrong, said):
    calls = 98
    notebook.check(
        calls,
        lambda k: k == 80,
        wrong=wrong,
    )
    assert capsys.readouterr().out == f"`calls` is not right yet: {said}\n"


def test_an_answer_without_source_has_no_name(capsys):
    """For example in an embedded interpreter."""
    exec("check(3, lambda n: n == 3)", {"check": notebook.check})
    assert capsys.readouterr().out == "the answer is right.\n"


def test_what_is_open_is_named_and_a_check_counts_as_it_was_run_last(capsys):
    calls = threshold = rate = ...
    notebook.open_exercises()
    for _ in range(2):
        notebook.check(calls, bool)
    notebook.check(threshold, bool)
    notebook.check(rate, bool)
    notebook.open_exercises()
    calls = threshold = 1
    notebook.check(calls, bool)
    notebook.check(threshold, bool)
    notebook.open_exercises()
    rate = 1
    notebook.check(rate, bool)
    notebook.open_exercises()
    said = [line for line in capsys.readouterr().out.splitlines() if "exercise" in line]
    assert said == [
        "No exercise is checked yet: run the checks.",
        "3 of 3 exercises are open: `calls`, `threshold`, `rate`.",
        "1 of 3 exercises is open: `rate`.",
        "3 of 3 exercises are done.",
    ]


CHECKS = ["calls = ...", "# é\nnotebook.check(calls, lambda k: k == 80)", "notebook.open_exercises()"]


def exercises():
    cells = [nbformat.v4.new_code_cell(source) for source in ["from helpers import notebook", *CHECKS]]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.mark.parametrize("store_history", [True, False])
def test_a_check_names_the_answer_in_a_kernel(store_history):
    """Jupyter, papermill and nbconvert keep a history, nbval does not."""
    lesson = exercises()
    client = nbclient.NotebookClient(lesson, kernel_name="python3")
    with client.setup_kernel(cwd=str(notebook.ROOT)):
        for number, cell in enumerate(lesson.cells):
            client.execute_cell(cell, number, store_history=store_history)
    said = [output.text for cell in lesson.cells for output in cell.outputs]
    assert said == ["`calls` is not set yet: replace the dots above.\n", "1 of 1 exercises is open: `calls`.\n"]
