"""The check of the packages, and a process of its own."""

from importlib.metadata import version

import pytest

from helpers import notebook


def test_right_wrong_and_missing_packages():
    rows = notebook.check_environment(f"numpy=={version('numpy')} \\\n    --hash=sha256:00\nscipy==1.0\nno-such==2.0\n")
    assert [(row["package"], row["state"], row["mend"]) for row in rows] == [
        ("numpy", "right", ""),
        ("scipy", "wrong version", "%pip install scipy==1.0"),
        ("no-such", "missing", "%pip install no-such==2.0"),
    ]


def test_pins_for_other_machines_are_left_out():
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
