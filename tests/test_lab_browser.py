"""The first minutes in JupyterLab, in a real browser: what `make lab` prints, opens, shows, runs and leaves alone."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import nbformat
import pytest
from test_lab import TASK

from helpers.notebook import ROOT
from tools import lab

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="`make lab` is a line of a Unix shell")
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
WITH_SLIDERS = [path for path in LESSONS if "Slider(" in path.read_text(encoding="utf-8")]


def changed_files():
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def address(browser):
    """The address that `make lab` prints; the server ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The last option lets a test ask JupyterLab what it has run.
    arguments = f"ARGS=--no-browser --port {port} --allow-root --LabApp.expose_app_in_browser=True"
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
def page(browser, address):
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.get_by_role("heading", name="Where am I, and does my machine work?").first.wait_for(timeout=60_000)
    yield page
    page.close()


def test_the_printed_address_opens_the_first_lesson_in_the_readers_copies(address):
    assert "/lab/tree/build/lab/00_start_here.ipynb" in address


def test_reading_asks_no_other_machine_and_shows_no_news(page):
    page.wait_for_timeout(2000)
    assert page.get_by_text("Jupyter news").count() == 0
    assert {re.match(r"\w+:(//[^/:]+)?", url).group(0) for url in page.asked} <= {
        "http://127.0.0.1",
        "data:",
        "blob:",
        "attachment:",
    }


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


def test_a_solution_shows_nothing_of_itself_until_it_is_opened(page, address):
    page.goto(address.replace("00_start_here", "20_decisions"))
    solution = page.locator("details:visible", has=page.locator("summary", has_text="Solution")).first
    solution.wait_for(timeout=60_000)
    code = solution.locator("pre")
    assert not code.is_visible()
    solution.locator("summary").click()
    code.wait_for(timeout=5_000)
    assert "own_" in code.text_content()


# --- what runs ---------------------------------------------------------------------------------------------------


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


@pytest.fixture
def unrun(page, address):
    """A function that opens a reader's copy of a lesson, without outputs, as a reader's own copies are left alone."""
    folder = ROOT / "build" / f"browser-{os.getpid()}"

    def opened(path):
        copy = lab.for_reader(json.loads(path.read_text(encoding="utf-8")))
        for cell in copy["cells"]:
            if cell["cell_type"] == "code":
                cell.update(lab.UNRUN)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_text(json.dumps(copy), encoding="utf-8")
        place = f"build/{folder.name}/{path.name}"
        page.goto(address.replace("build/lab/00_start_here.ipynb", place))
        ready = f"opened => (widget => {READY})(window.jupyterapp?.shell.currentWidget)"
        page.wait_for_function(ready, arg=place, timeout=240_000)

    yield opened
    # The kernel ends with its tab.
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    shutil.rmtree(folder)


# The lesson, and not one that JupyterLab opens again beside it, is in front, and its own kernel waits for work.
READY = (
    "widget?.context?.path.endsWith(opened) && widget.sessionContext?.isReady"
    " && widget.sessionContext.session?.kernel?.status === 'idle'"
    " && widget.context?.isReady && window.jupyterapp.commands.isEnabled('notebook:run-all-cells')"
)
CELLS = "window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
ENDED = (
    "cells => { const code = cells.filter(cell => cell.cell_type === 'code' && cell.source);"
    " return code.every(cell => cell.execution_count) ||"
    " code.some(cell => cell.outputs.some(output => output.output_type === 'error')) }"
)


def run(page, command, through=None):
    """Give a command of the menu *Run*, wait until its code cells have a number or one an error, return all cells."""
    page.evaluate("command => { window.jupyterapp.commands.execute(command) }", f"notebook:{command}")
    some = CELLS if through is None else f"{CELLS}.slice(0, {through})"
    page.wait_for_function(f"({ENDED})({some})", timeout=900_000, polling=500)
    return page.evaluate(CELLS)


def errors(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["evalue"] for output in outputs if output["output_type"] == "error"]


@pytest.mark.whole_run
def test_run_all_in_jupyterlab_reaches_the_end_of_the_first_lesson(page, unrun):
    unrun(LESSONS[0])
    cells = run(page, "run-all-cells")
    assert errors(cells) == []
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    assert "TensorFlow learns: True" in json.dumps(cells)


@pytest.mark.whole_run
@pytest.mark.parametrize("path", WITH_SLIDERS, ids=lambda path: path.stem)
def test_a_slider_of_an_explorer_moved_by_a_key_changes_the_picture(page, unrun, path):
    unrun(path)
    cells = page.evaluate(CELLS)
    (number,) = (n for n, cell in enumerate(cells) if "Slider(" in cell["source"] and cell["cell_type"] == "code")
    page.evaluate(
        "async number => { const notebook = window.jupyterapp.shell.currentWidget.content;"
        " notebook.activeCellIndex = number; await notebook.scrollToItem(number) }",
        number,
    )
    # What follows the slider is not run: its picture hangs on what stands above it.
    assert errors(run(page, "run-all-above", through=number)) == []
    assert errors(run(page, "run-cell", through=number + 1)) == []
    output = page.locator(".jp-Cell.jp-mod-active .jp-OutputArea")
    picture, slider = output.locator("img").last, output.get_by_role("slider").first
    picture.wait_for(timeout=60_000)
    before, began = picture.get_attribute("src"), time.perf_counter()
    slider.press(
        "ArrowLeft" if slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax") else "ArrowRight"
    )
    source = "picture => picture.src"
    while picture.evaluate(source) == before:
        assert time.perf_counter() - began < 30, "the picture stays as it was"
        page.wait_for_timeout(20)
    print(f"{path.stem}: the picture changed after {time.perf_counter() - began:.2f} s")
