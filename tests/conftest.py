"""What tests share: a browser; the site, built once; for evidence, a module's table, and the script that made it."""

import importlib.util
import os
import shutil
import sys
import time

import evidence
import pytest

from helpers.notebook import ENVIRONMENT, ROOT

BEFORE = {name: os.environ[name] for name in ENVIRONMENT}


@pytest.fixture(autouse=True)
def same_environment():
    """Undo what libraries write into the environment, as tf2onnx does when it is imported."""
    os.environ.update(BEFORE)


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    """The folder of the whole site. The first worker that asks builds it, the others wait."""
    from tools import build_site

    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder, ended = shared / "site", shared / "site-ended"
    try:
        (shared / "site-begun").mkdir()
    except FileExistsError:
        while not ended.exists():
            time.sleep(0.5)
    else:
        try:
            build_site.build(ROOT, folder)
        finally:
            ended.touch()
    assert folder.is_dir(), "the site was not built: see the first test that failed"
    return folder


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


@pytest.fixture(scope="session")
def needs_scale():
    """Ray and Dask. Where they are missing: a skip, or a failure in CI on Linux, where ``make test`` installs them."""
    if missing := [name for name in ("dask", "ray") if importlib.util.find_spec(name) is None]:
        told = f"{' and '.join(missing)} missing: make scale"
        (pytest.fail if os.environ.get("CI") == "true" and sys.platform == "linux" else pytest.skip)(told)
