"""What tests share: the site, built once; for those of evidence, the table a module is named after, and its script."""

import time

import evidence
import pytest

from helpers.notebook import ROOT


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
