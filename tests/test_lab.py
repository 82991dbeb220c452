"""The copies for readers and students; how they look in JupyterLab, `test_lab_browser.py` tests."""

import nbclient
import nbformat
import pytest

from helpers.notebook import ROOT
from tools import lab

SETUP = """\
try:
    from helpers import notebook
except ModuleNotFoundError:
    message = "helpers is missing: use `make lab`, or type `%pip install --no-deps -e ..`"
    raise ModuleNotFoundError(message) from None"""
TASK = """\
### Your turn: how many calls?

How many [**calls**](../docs/glossary.md) reach a third? (One line.)

<details><summary>Hint</summary>Sort.</details>"""


@pytest.fixture
def write(tmp_path):
    """A function that writes a notebook with one exercise; it returns the notebook's path and a place for copies."""

    def written(*check, said="`calls` is right.\n", last="notebook.open_exercises()"):
        text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell

        def ran(source, printed, **more):
            output = nbformat.v4.new_output("stream", name="stdout", text=printed)
            return code(source, outputs=[output], execution_count=3, **more)

        cells = [
            text("# How many? [term](../docs/glossary.md), [next](21_next.ipynb)"),
            text("Eighty.", metadata={"tags": ["result"]}),
            text("**For teachers** ask first", metadata={"tags": ["instructor"]}),
            code(SETUP),
            text(TASK),
            code("# Your turn\ncalls = ..."),
            ran("calls = 80\ncalls", "80\n", metadata={"tags": ["solution"]}),
            ran(check[0] if check else "notebook.check(calls, lambda k: k == 80)", said),
            ran(f"print('share 0.5')\n{last}", "share 0.5\n1 of 1 exercises are done.\n"),
        ]
        original = tmp_path / "notebooks" / "20_how_many.ipynb"
        original.parent.mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=cells), original)
        return original, tmp_path / "build" / "copies"

    return written


@pytest.fixture
def project(write):
    """Two folders, as in the project: the notebooks, and the place of the copies."""
    return write()


def students_copy(original):
    copied = nbformat.from_dict(lab.for_student(nbformat.read(original, as_version=4)))
    nbformat.validate(copied)
    return copied


def read_copy(folder):
    (path,) = folder.glob("*.ipynb")
    copied = nbformat.read(path, as_version=4)
    nbformat.validate(copied)
    return copied


def test_a_readers_copy_has_no_notes_for_teachers_and_its_solutions_are_text_folded_away(project):
    original, folder = project
    before = nbformat.read(original, as_version=4).cells
    assert lab.copy_for_readers(original.parent, folder) == []
    copied = read_copy(folder).cells
    assert [cell.id for cell in copied] == [cell.id for cell in before if "For teachers" not in cell.source]
    solution = copied[5]
    assert solution.cell_type == "markdown"
    assert solution.source == (
        "<details><summary>Solution</summary>\n\n```python\ncalls = 80\ncalls\n```\n\n</details>"
    )


def run_all(cells):
    names = {}
    for cell in cells:
        if cell.cell_type == "code":
            exec(cell.source, names)


def test_run_all_in_a_readers_copy_judges_what_the_reader_typed(project, capsys):
    original, folder = project
    lab.copy_for_readers(original.parent, folder)
    cells = read_copy(folder).cells
    run_all(cells)
    assert "is not set yet" in capsys.readouterr().out
    cells[4].source = "calls = 70"
    run_all(cells)
    assert "is not right yet: you gave 70" in capsys.readouterr().out


def test_a_readers_copy_keeps_results_but_no_verdict_on_exercises(project):
    original, folder = project
    lab.copy_for_readers(original.parent, folder)
    check, last = read_copy(folder).cells[-2:]
    assert (check.outputs, check.execution_count) == ([], None)
    assert [output.text for output in last.outputs] == ["share 0.5\n"]


def test_solutions_of_an_older_notebook_stay_code_for_its_assertions_would_stop_run_all(write):
    original, folder = write("assert calls == 80", said="right\n", last="")
    lab.copy_for_readers(original.parent, folder)
    solution, check = read_copy(folder).cells[5:7]
    assert solution.source == "calls = 80\ncalls"
    assert check.outputs[0].text == "right\n"
    run_all(read_copy(folder).cells)


def test_a_students_copy_has_no_solutions_no_results_and_no_outputs(project):
    copied = students_copy(project[0])
    sources = [cell.source for cell in copied.cells]
    assert [source.splitlines()[0] for source in sources[2:]] == [
        "### Your turn: how many calls?",
        "# Your turn",
        "# Check: run this cell",
        "print('share 0.5')",
    ]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in copied.cells)
    (check,) = (cell.source for cell in copied.cells if cell.metadata.get("jupyter", {}).get("source_hidden"))
    assert "80" not in check.rpartition("\n    '")[0], "a check tells how to find the answer"


def ran(cells, answer):
    """The outputs of a student's copy after *Run All* with an answer: of the check, and of the last cell."""
    lesson = nbformat.v4.new_notebook(cells=cells)
    next(cell for cell in cells if cell.source.startswith("# Your turn")).source = answer
    nbclient.NotebookClient(lesson, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    check, last = (cell.outputs for cell in cells[-2:])
    return "".join(output.text for output in check), last[-1]


def test_a_students_check_says_what_came_out_and_what_was_asked_and_the_last_cell_leads_there(project):
    original, _ = project
    said, last = ran(students_copy(original).cells, "calls = 70")
    assert said == "`calls` is not right yet: you gave 70.\nAsked: How many calls reach a third?\n"
    assert last.data["text/plain"] == "1 of 1 exercises is open: `calls`."
    link = '<a href="#Your-turn:-how-many-calls?">Your turn: how many calls?</a>'
    assert f"<li>{link}: `calls` is not right yet: you gave 70.</li>" in last.data["text/html"]

    said, last = ran(students_copy(original).cells, "calls = ...")
    assert said == "`calls` is not set yet: replace the dots above.\n", "who has not begun is not told again"
    said, last = ran(students_copy(original).cells, "calls = 80")
    assert (said, last.text) == ("`calls` is right.\n", "share 0.5\n1 of 1 exercises are done.\n")


def test_a_check_that_cannot_run_tells_nothing_of_the_answer(project):
    with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
        ran(students_copy(project[0]).cells, "pass")
    assert caught.value.evalue == (
        "the check cannot run (NameError(\"name 'calls' is not defined\")); run the cells above it first."
    )
    assert "80" not in caught.value.traceback


def test_a_copy_says_how_it_is_opened_where_helpers_is_missing(project):
    """Two folders up is the project."""
    original, folder = project
    lab.copy_for_readers(original.parent, folder)
    (setup,) = (cell.source for cell in read_copy(folder).cells if cell.source.startswith("try:"))
    assert "use `make lab`, or type `%pip install --no-deps -e ../..`" in setup


def test_links_of_a_copy_lead_where_those_of_the_notebook_lead(project):
    original, folder = project
    lab.copy_for_readers(original.parent, folder)
    assert "[term](../../docs/glossary.md), [next](21_next.ipynb)" in read_copy(folder).cells[0].source


def test_a_copy_that_the_reader_changed_is_kept_and_one_that_was_not_follows_its_original(project):
    original, folder = project
    copied = folder / original.name
    lab.copy_for_readers(original.parent, folder)
    original.write_text(original.read_text().replace("Eighty", "Ninety"))
    assert lab.copy_for_readers(original.parent, folder) == []
    assert "Ninety" in copied.read_text()

    copied.write_text(copied.read_text().replace("calls = ...", "calls = 70"))
    assert lab.copy_for_readers(original.parent, folder) == [], "the original is as it was"
    # What readers do not see is no news for them.
    original.write_text(original.read_text().replace("ask first", "ask twice"))
    assert lab.copy_for_readers(original.parent, folder) == []
    original.write_text(original.read_text().replace("Ninety", "A hundred"))
    (message,) = lab.copy_for_readers(original.parent, folder)
    assert message == "20_how_many.ipynb: your changed copy is kept; the original is newer."
    assert "calls = 70" in copied.read_text()
