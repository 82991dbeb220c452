"""The first minutes in JupyterLab, in a real browser: what `make lab` prints, opens, shows and leaves alone."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from helpers.notebook import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    not CHROMIUM or sys.platform == "win32", reason="Debian's Chromium is missing: apt-get install chromium"
)


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
