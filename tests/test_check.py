"""`make check`: what it says where something is missing, and that a machine with everything is ready."""

import subprocess
import sys

import pytest

from helpers import notebook
from helpers.notebook import ROOT
from tools import check


def looks(monkeypatch, *chosen):
    monkeypatch.setattr(check, "LOOKS", chosen)


def test_this_machine_is_ready():
    done = subprocess.run([sys.executable, ROOT / "tools" / "check.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    _, *lines, last = done.stdout.splitlines()
    assert len(lines) == len(check.LOOKS) < 20, "one screen"
    assert all(line.startswith("  ok  ") for line in lines)
    assert last.startswith("ready (")
    assert done.stderr == ""


def test_without_packages_each_line_says_what_to_type():
    """As where .venv was not set up, or another Python runs it."""
    command = [sys.executable, "-I", "-S", str(ROOT / "tools" / "check.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    wrong = [line for line in done.stdout.splitlines() if line.startswith("  NO")]
    assert len(wrong) == 4
    assert all("is missing: type `make`" in line for line in wrong)
    assert done.stdout.splitlines()[-1].startswith("not ready: memory, packages, model, jupyter")


def test_a_package_of_another_version_is_named(monkeypatch, capsys):
    rows = [{"package": "numpy", "installed": "1.0", "state": "wrong version"}]
    monkeypatch.setattr(notebook, "check_environment", lambda: rows)
    looks(monkeypatch, check.packages)
    assert check.main() == 1
    assert "1 of 1 are missing or have another version (numpy 1.0): type `make`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("look", "name", "said"),
    [(check.disk, "DISK_GB", "delete files"), (check.memory, "MEMORY_GB", "close other programs")],
)
def test_too_little_room_is_told_with_the_remedy(monkeypatch, capsys, look, name, said):
    monkeypatch.setattr(check, name, 10**9)
    looks(monkeypatch, look)
    assert check.main() == 1
    assert said in capsys.readouterr().out


def test_another_python_is_told(monkeypatch):
    monkeypatch.setattr(check, "PYTHON", ((3, 8), (3, 9)))
    assert check.told(check.python) == (False, check.told(check.python)[1])
    assert "set up .venv with Python 3.11" in check.told(check.python)[1]


def test_a_model_that_predicts_something_else_once_it_is_loaded_is_told(monkeypatch, tmp_path):
    np = pytest.importorskip("numpy")
    check.train(tmp_path)
    check.load(tmp_path)
    rows = np.load(tmp_path / "rows.npz")
    np.savez(tmp_path / "rows.npz", X=rows["X"], logit=rows["logit"] + 1)
    with pytest.raises(RuntimeError, match="predicts something else"):
        check.load(tmp_path)


def test_whatever_a_broken_installation_raises_the_other_lines_are_shown(monkeypatch, capsys):
    def model():
        raise SystemError("error return without exception set\nand more")

    looks(monkeypatch, model, check.python)
    assert check.main() == 1
    assert "NO  model     error return without exception set\n  ok  python" in capsys.readouterr().out
