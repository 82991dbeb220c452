"""The copies for readers and students; and the first minutes in JupyterLab, in a real browser: what `make lab` prints,
opens, shows and leaves alone."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import nbclient
import nbformat
import pytest

from helpers.notebook import ROOT
from tools import lab

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
in_browser = pytest.mark.skipif(
    not CHROMIUM or sys.platform == "win32", reason="Debian's Chromium is missing: apt-get install chromium"
)


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
    original, folder = project
    lab.copy_for_students(original.parent, folder)
    copied = read_copy(folder)
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
    with pytest.raises(SystemExit, match="perhaps with answers: move it away first"):
        lab.copy_for_students(original.parent, folder)


def ran(cells, answer):
    """The outputs of a student's copy after *Run All* with an answer: of the check, and of the last cell."""
    lesson = nbformat.v4.new_notebook(cells=cells)
    next(cell for cell in cells if cell.source.startswith("# Your turn")).source = answer
    nbclient.NotebookClient(lesson, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    check, last = (cell.outputs for cell in cells[-2:])
    return "".join(output.text for output in check), last[-1]


def test_a_students_check_says_what_came_out_and_what_was_asked_and_the_last_cell_leads_there(project):
    original, folder = project
    lab.copy_for_students(original.parent, folder)
    said, last = ran(read_copy(folder).cells, "calls = 70")
    assert said == "`calls` is not right yet: you gave 70.\nAsked: How many calls reach a third?\n"
    assert last.data["text/plain"] == "1 of 1 exercises is open: `calls`."
    link = '<a href="#Your-turn:-how-many-calls?">Your turn: how many calls?</a>'
    assert f"<li>{link}: `calls` is not right yet: you gave 70.</li>" in last.data["text/html"]

    said, last = ran(read_copy(folder).cells, "calls = ...")
    assert said == "`calls` is not set yet: replace the dots above.\n", "who has not begun is not told again"
    said, last = ran(read_copy(folder).cells, "calls = 80")
    assert (said, last.text) == ("`calls` is right.\n", "share 0.5\n1 of 1 exercises are done.\n")


def test_a_check_that_cannot_run_tells_nothing_of_the_answer(project):
    original, folder = project
    lab.copy_for_students(original.parent, folder)
    with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
        ran(read_copy(folder).cells, "pass")
    assert caught.value.evalue == (
        "the check cannot run (NameError(\"name 'calls' is not defined\")); run the cells above it first."
    )
    assert "80" not in caught.value.traceback


@pytest.mark.parametrize(
    ("copy", "command"),
    [(lab.copy_for_readers, "make lab"), (lab.copy_for_students, "make lab-edit NOTEBOOKS=build/workshop")],
)
def test_a_copy_says_how_it_is_opened_where_helpers_is_missing(project, copy, command):
    """Two folders up is the project; `make lab` would open copies with solutions."""
    original, folder = project
    copy(original.parent, folder)
    (setup,) = (cell.source for cell in read_copy(folder).cells if cell.source.startswith("try:"))
    assert f"use `{command}`, or type `%pip install --no-deps -e ../..`" in setup


@pytest.mark.parametrize("copy", [lab.copy_for_readers, lab.copy_for_students])
def test_links_of_a_copy_lead_where_those_of_the_notebook_lead(project, copy):
    original, folder = project
    copy(original.parent, folder)
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


def changed_files():
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def address():
    """The address that `make lab` prints; the server ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = f"ARGS=--no-browser --port {port} --allow-root"
    server = subprocess.Popen(
        ["make", "lab", arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed = ""
        for line in server.stdout:
            printed += line
            if found := re.search(r"http://127\.0\.0\.1:\d+/\S+", line):
                yield found.group(0)
                break
        else:
            pytest.fail(f"no address was printed:\n{printed}")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=30)


@pytest.fixture(scope="module")
def page(address):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        page.get_by_role("heading", name="Where am I, and does my machine work?").first.wait_for(timeout=60_000)
        yield page
        browser.close()


@in_browser
def test_the_printed_address_opens_the_first_lesson_in_the_readers_copies(address):
    assert "/lab/tree/build/lab/00_start_here.ipynb" in address


@in_browser
def test_reading_asks_no_other_machine_and_shows_no_news(page):
    page.wait_for_timeout(2000)
    assert page.get_by_text("Jupyter news").count() == 0
    assert {re.match(r"\w+:(//[^/:]+)?", url).group(0) for url in page.asked} <= {
        "http://127.0.0.1",
        "data:",
        "blob:",
        "attachment:",
    }


@in_browser
def test_a_figure_has_its_alternative_text_in_the_page_and_no_tracked_file_changes(page, address):
    before = changed_files()
    page.goto(address.replace("00_start_here", "20_decisions"))
    picture = page.locator(".jp-OutputArea img").first
    picture.wait_for(state="attached", timeout=60_000)
    assert len(picture.get_attribute("alt")) > 20
    page.get_by_role("menuitem", name="File").click()
    page.get_by_text("Save Notebook", exact=True).click()
    page.wait_for_timeout(1000)
    assert changed_files() == before


@in_browser
def test_a_solution_shows_nothing_of_itself_until_it_is_opened(page, address):
    page.goto(address.replace("00_start_here", "20_decisions"))
    solution = page.locator("details:visible", has=page.locator("summary", has_text="Solution")).first
    solution.wait_for(timeout=60_000)
    code = solution.locator("pre")
    assert not code.is_visible()
    solution.locator("summary").click()
    code.wait_for(timeout=5_000)
    assert "own_" in code.text_content()


@pytest.fixture
def student_page(page, address):
    """A student's copy of a lesson that is longer than a screen, open in JupyterLab; removed after the test."""
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [text("# How many?"), code(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom helpers import notebook")]
    for name in ("calls", "rate"):
        cells += [text(TASK.replace("calls?", f"{name}?")), code(f"# Your turn\n{name} = ...")]
        cells += [code(f"notebook.check({name}, lambda own: own == 80)"), text("A line.\n\n" * 60)]
    path = ROOT / "build" / "lab" / "student_of_a_test.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    lesson = nbformat.v4.new_notebook(cells=[*cells, code("notebook.open_exercises()")], metadata=kernel)
    nbformat.write(nbformat.from_dict(lab.for_student(lesson)), path)
    page.goto(address.replace("00_start_here", path.stem))
    yield page
    path.unlink()


@in_browser
def test_the_last_cell_leads_to_the_open_exercise_and_its_hint_opens_by_keyboard(student_page):
    student_page.locator("h1:visible", has_text="How many?").wait_for(timeout=60_000)
    student_page.get_by_role("menuitem", name="Run", exact=True).click()
    student_page.get_by_text("Run All Cells", exact=True).click()
    link = student_page.locator(".jp-OutputArea a:visible", has_text="Your turn: how many rate?")
    link.wait_for(timeout=60_000)
    heading = student_page.locator("h3:visible", has_text="Your turn: how many rate?")
    link.click()
    student_page.wait_for_timeout(2000)
    assert 0 < heading.bounding_box()["y"] < 300, "the exercise stands at the top of the screen"
    hint = student_page.locator("details:visible summary", has_text="Hint").last
    hint.focus()
    student_page.keyboard.press("Enter")
    assert hint.evaluate("hint => hint.parentElement.open")
