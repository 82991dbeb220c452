"""What the tests of evidence share: the table that a module is named after, and the script that made it."""

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
