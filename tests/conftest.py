"""What the tests of evidence share: the table that a module is named after, and the script that made it."""

import os
import shutil
import sys

import evidence
import pytest


def _name(request):
    return request.module.__name__.removeprefix("test_evidence_")


@pytest.fixture(scope="module")
def table(request):
    return evidence.table(_name(request))


@pytest.fixture(scope="module")
def script(request):
    pytest.importorskip("keras")
    return evidence.script(_name(request))


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, or another one. Where there is none: a skip, or a failure in CI on Linux, which installs one.

    For a module, not for the whole session: while Playwright is open, no test can run a notebook in this process.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        missing = "no Chromium is here: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") == "true" and sys.platform == "linux" else pytest.skip)(missing)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()
