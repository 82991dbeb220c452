"""A run of a notebook, the main job around it, and copies for the reader."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import nbformat
import psutil
import pytest

from helpers.notebook import ROOT, ParameterError
from tools import run

CELL = """\
threshold: float = 0.5  # threshold on the probability, in [0, 1]
results_path: str = ""  # JSON file; empty: none is written
"""


@pytest.fixture
def write(tmp_path):
    """A function that writes a notebook of cells, or of code, after the parameters; it returns the path."""

    def written(*cells, name="07_tiny.ipynb"):
        parameters = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})
        start = nbformat.v4.new_code_cell("from helpers import notebook\nnotebook.setup(globals())")
        cells = [
            nbformat.v4.new_markdown_cell("# Tiny", metadata={"tags": ["core"]}),
            parameters,
            start,
            nbformat.v4.new_markdown_cell("## The work"),
            *(cell if isinstance(cell, dict) else nbformat.v4.new_code_cell(cell) for cell in cells),
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / name)
        return tmp_path / name

    return written


def visible(folder):
    return sorted(path.name for path in folder.glob("[!.]*"))


def test_a_run_brings_results_memory_and_sections(write, tmp_path):
    path = write(
        "import time\nblock = b'x' * 200_000_000\ntime.sleep(0.5)",
        "notebook.write_results({'half': threshold / 2}, results_path)",
    )
    seen = []
    # Workers of other tests may still wait for work.
    others = sum(child.memory_info().rss for child in psutil.Process().children(recursive=True)) / 1e6
    done = run.run_notebook(path, tmp_path / "out", {"threshold": "0.8"}, on_cell=lambda *cell: seen.append(cell))
    assert done.error == ""
    assert done.results == {"half": 0.4}
    assert 240 < done.peak_mb < 1000 + others
    assert seen[-1] == (8, 8, "The work")
    assert visible(tmp_path / "out") == ["07_tiny.ipynb", "07_tiny.json"]
    assert ".results" not in done.output.read_text(), "the copy names the file that was asked for"


def tagged(tag, text):
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": [tag]})


def sources(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells]


def test_a_run_with_other_parameters_states_them_and_no_results_of_the_defaults(write, tmp_path):
    path = write(tagged("result", "Half of it is 0.25."), "print(threshold)", tagged("instructor", "ask"))
    done = run.run_notebook(path, tmp_path / "out", {"threshold": "0.8", "results_path": str(tmp_path / "x.json")})
    assert done.error == ""
    title, told, *others = sources(done.output)
    assert title == "# Tiny"
    assert told == (
        "Run with: `threshold = 0.8`. What the prose states of results holds for the defaults and is left out."
    )
    assert "Half of it is 0.25." not in others
    assert nbformat.read(done.output, as_version=4).cells[-2].outputs[0].text == "0.8\n"


def test_what_is_said_to_be_left_out_is_left_out(write, tmp_path):
    """An older notebook's prose has no cells for results alone."""
    done = run.run_notebook(write("print(1)"), tmp_path / "out", {"threshold": 0.8})
    assert sources(done.output)[1].endswith(". What the prose states of results holds for the defaults.")


def test_a_long_parameter_is_cut(write, tmp_path):
    path = write(name="own.ipynb")
    path.write_text(
        path.read_text().replace("results_path: str", 'note: str = \\"\\"  # a remark\\n", "results_path: str')
    )
    done = run.run_notebook(path, tmp_path / "out", {"note": "a" * 1000})
    assert done.error == ""
    assert len(sources(done.output)[1]) < 200


@pytest.mark.parametrize("parameters", [{}, {"threshold": 0.5}, {"results_path": "x.json"}])
def test_a_run_with_the_defaults_keeps_every_cell(write, tmp_path, monkeypatch, parameters):
    monkeypatch.chdir(tmp_path)
    path = write(tagged("result", "Half of it is 0.25."), tagged("instructor", "ask"))
    done = run.run_notebook(path, tmp_path / "out", parameters)
    assert [source for source in sources(done.output) if "# Parameters" not in source] == sources(path)


def test_the_copies_of_the_main_job_have_no_notes_for_teachers(write, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    write(tagged("result", "Half is 0.25."), tagged("instructor", "ask"), name="notebooks/00_good.ipynb")
    assert run.main(["00", "-o", str(tmp_path / "out")]) == 0
    assert sources(tmp_path / "out" / "00_good.ipynb")[-1] == "Half is 0.25."


def test_a_cell_that_fails_under_other_parameters_is_named_by_its_number_and_section(write, tmp_path):
    path = write(tagged("result", "Half of it is 0.25."), "1 / 0")
    done = run.run_notebook(path, tmp_path / "out", {"threshold": 0.8})
    assert done.error.startswith("cell 4 in 'The work': ZeroDivisionError")
    (failed,) = [cell for cell in nbformat.read(done.output, as_version=4).cells if cell.source == "1 / 0"]
    assert failed.execution_count == 4


def test_a_failing_cell_is_named_and_leaves_no_old_result(write, tmp_path):
    run.run_notebook(write("notebook.write_results({'a': 1}, results_path)"), tmp_path / "out")
    assert (tmp_path / "out" / "07_tiny.json").exists()
    done = run.run_notebook(write("1 / 0"), tmp_path / "out")
    assert "'The work'" in done.error
    assert "ZeroDivisionError: division by zero" in done.error
    assert done.results == {}
    assert visible(tmp_path / "out") == [done.output.name] == ["07_tiny.partial.ipynb"]


def test_a_kernel_that_dies_is_told_in_the_notebook_that_stays(write, tmp_path):
    source = "notebook.write_results({'a': 1}, results_path)\nimport os\nos._exit(1)"
    done = run.run_notebook(write(source, "2"), tmp_path / "out", {"results_path": str(tmp_path / "x.json")})
    assert "in 'The work': DeadKernelError: the kernel died, perhaps for its memory" in done.error
    assert visible(tmp_path / "out") == [done.output.name] == ["07_tiny.partial.ipynb"]
    assert not (tmp_path / "x.json").exists()
    executed = nbformat.read(done.output, as_version=4)
    assert ["perhaps for its memory" in str(cell.get("outputs")) for cell in executed.cells][-2:] == [True, False]
    assert executed.metadata.papermill.exception is True


def test_a_cell_that_does_not_end_is_given_up(write, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CELL_TIMEOUT", 2)
    done = run.run_notebook(write("import time\ntime.sleep(20)"), tmp_path / "out")
    assert "'The work': CellTimeoutError: A cell timed out while it was being executed, after 2 seconds" in done.error
    assert visible(tmp_path / "out") == ["07_tiny.partial.ipynb"]


def test_a_cell_that_ends_the_notebook_early_is_told(write, tmp_path):
    done = run.run_notebook(write("import sys\nsys.exit(0)", "2"), tmp_path / "out")
    assert done.error == "'The work': a cell ended the notebook before its last cell"
    assert visible(tmp_path / "out") == ["07_tiny.partial.ipynb"]


def test_results_are_shown_from_where_they_were_asked_for_and_braces_are_a_name(write, tmp_path):
    (tmp_path / "x.json").write_text('{"old": 1}')
    for source, results in (("notebook.write_results({'new': 2}, results_path)", {"new": 2}), ("1 / 0", {})):
        done = run.run_notebook(write(source), tmp_path / "{x}", {"results_path": str(tmp_path / "x.json")})
        assert done.results == results
        assert (tmp_path / "x.json").exists() == bool(results)
    assert visible(tmp_path / "{x}") == ["07_tiny.partial.ipynb"]


def test_no_kernel_starts_for_a_wrong_parameter(write, tmp_path):
    with pytest.raises(ParameterError, match="threshold takes"):
        run.run_notebook(write(), tmp_path / "out", {"threshold": 7})
    assert not (tmp_path / "out").exists()


@pytest.fixture
def project(write, tmp_path, monkeypatch):
    """A project of two notebooks, of which the second fails."""
    (tmp_path / "notebooks").mkdir()
    good = write("notebook.write_results({'score': 0.5}, results_path)", name="notebooks/00_good.ipynb")
    bad = write("1 / 0", name="notebooks/01_bad.ipynb")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return good, bad


def test_the_main_job_runs_all_names_the_failed_one_and_says_so(project, capsys):
    assert run.main(["-o", "out"]) == 1
    printed = capsys.readouterr().out
    assert "score = 0.5" in printed
    assert "failed in cell" in printed
    assert "ZeroDivisionError: division by zero" in printed
    assert "out/00_good.ipynb" in printed.replace("\\", "/")
    assert json.loads((project[0].parent.parent / "out" / "00_good.json").read_text()) == {"score": 0.5}


def test_the_main_job_runs_one_and_succeeds(project, capsys):
    assert run.main(["00", "-p", "threshold", "0.7", "-o", "out"]) == 0
    assert "01_bad" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["07"], "no notebook starts with '07'; there are: 00_good, 01_bad"),
        (["00", "-p", "treshold", "0.7"], "did you mean 'threshold'"),
        (["-p", "threshold", "7"], "00_good: threshold takes a float in [0, 1]; got 7.0."),
        (["-p", "threshold", "[/red]"], "got '[/red]'"),
        (["-p", "results_path", "x.json"], "results_path names one file for 2 notebooks"),
        (["00", "-p", "results_path", "a" * 300], "cannot be written: File name too long"),
        (["a" * 100_000], "no notebook starts with 'aaa"),
    ],
)
def test_the_main_job_refuses_before_anything_runs(project, capsys, arguments, message):
    assert run.main([*arguments, "-o", "out"]) == 2
    printed = capsys.readouterr().out
    assert message in printed
    assert len(printed) < 600
    assert not (project[0].parent.parent / "out").exists()


@pytest.fixture
def job(project, tmp_path):
    """A job that has written its results and sleeps, and its children; whatever it leaves is killed."""

    def started(seconds, until=".00_good.results"):
        source = project[0].read_text().replace("results_path)", f"results_path); __import__('time').sleep({seconds})")
        project[0].write_text(source)
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        script += f"from tools import run\nimport pathlib\nrun.ROOT = pathlib.Path({str(tmp_path)!r})\n"
        script += "if __name__ == '__main__':\n    raise SystemExit(run.main(['00', '-o', 'out']))\n"
        (tmp_path / "job.py").write_text(script)
        command = [sys.executable, "job.py"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(300):
            psutil.time.sleep(0.1)
            if (tmp_path / "out" / until).exists():
                break
        children.extend(psutil.Process(process.pid).children(recursive=True))
        return process, children

    children = []
    yield started
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()


MARKS = {"runner": "job.py", "worker": "spawn_main", "kernel": "ipykernel"}
# A worker leaves an interrupt to its job.
KILLS = [
    (victim, name)
    for victim in MARKS
    for name in ("SIGINT", "SIGTERM", "SIGKILL")
    if (victim, name) != ("worker", "SIGINT")
]


def living(folder):
    """Return what still works in a folder."""
    processes = psutil.process_iter(["cwd", "status"])
    mine = [one for one in processes if one.info["cwd"] == str(folder) and one.info["status"] != "zombie"]
    return [one for one in mine if one.pid != os.getpid()]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_job_that_is_killed_while_its_kernel_starts_leaves_nothing(job, tmp_path, name):
    process, _ = job(60, until="00_good.log")
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=30)
    for _ in range(100):
        psutil.time.sleep(0.1 * bool(living(tmp_path)))
    assert not living(tmp_path)
    assert set(visible(tmp_path / "out")) <= {"00_good.log", "00_good.partial.ipynb"}


@pytest.mark.parametrize(("victim", "name"), KILLS)
def test_whatever_is_killed_nothing_looks_finished_and_nothing_is_left(job, tmp_path, victim, name):
    process, children = job(60)
    family = [psutil.Process(process.pid), *children]
    (target,) = [one for one in family if MARKS[victim] in " ".join(one.cmdline())]
    target.send_signal(getattr(signal, name))
    printed = process.communicate(timeout=30)[0].decode()
    status = -9 if name == "SIGKILL" else 130
    assert process.returncode == (status if victim == "runner" else 1)
    assert "Traceback" not in printed
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert visible(tmp_path / "out") == ["00_good.log", "00_good.partial.ipynb"]
    with run._claimed([tmp_path / "out" / "00_good.ipynb"]):
        """What it kept for itself is free."""


def test_a_second_run_into_the_same_files_is_refused_and_touches_nothing(job, tmp_path, capsys):
    process, _ = job(3)
    assert run.main(["-o", "out", "-p", "threshold", "0.9"]) == 2
    assert "another run is writing it" in capsys.readouterr().out
    assert visible(tmp_path / "out") == ["00_good.log", "00_good.partial.ipynb"]
    assert process.wait(30) == 0
    assert visible(tmp_path / "out") == ["00_good.ipynb", "00_good.json", "00_good.log"]


def test_a_folder_that_cannot_be_written_is_refused(project, capsys):
    for folder in ("job/out", "a" * 300, "a\0b"):
        (project[0].parent.parent / "job").touch()
        assert run.main(["00", "-o", folder]) == 2
        assert "Nothing was run: " in capsys.readouterr().out


def test_a_chapter_is_run_by_its_digit_and_the_core_by_default(monkeypatch):
    assert {path.name[0] for path in run.notebooks("7")} == {"7"}
    core = run.notebooks(core=True)
    assert 0 < len(core) < len(run.notebooks())
    assert all(run.is_core(path) for path in core)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_table_cuts_nothing(terminal, monkeypatch, tmp_path):
    """Not on a narrow terminal, nor in a log file, for the longest names there are."""
    monkeypatch.setenv("COLUMNS", "40" if terminal else "")
    output = tmp_path / "60_serving_postprocessing.ipynb"
    output.touch()
    results = {"flips_when_the_words_are_numbered_by_hand": 1134.123456}
    shown = run.table(
        [run.Run(output, output, 1234.5, 2475.1, results), run.Run(output, tmp_path / "no", error="why " * 30)]
    )
    for text in ("60_serving_postprocessing", "flips_when_the_words_are_numbered_by_hand = 1134.123456", "why " * 30):
        assert text.strip() in shown
    assert os.path.relpath(output) in shown
    assert max(map(len, shown.splitlines()[:2])) <= 80


def test_kernels_find_the_packages_from_every_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    done = run.run_notebook(write("import os; assert os.environ['PYTHONPATH']", "import helpers, serving"), "out")
    assert done.error == ""
