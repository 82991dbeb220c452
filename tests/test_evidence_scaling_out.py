"""The stored run of lesson 80 says what the lesson says, and is looked up by the names that the lesson asks for."""

import json
import re

import nbformat
import pytest

from helpers.notebook import ROOT


@pytest.fixture
def stored(table):
    return {row.what: json.loads(row.gave) for row in table.itertuples()}


def test_it_holds_what_the_lesson_looks_up(stored):
    cells = nbformat.read(ROOT / "notebooks" / "80_scaling_out.ipynb", as_version=4).cells
    asked = re.findall(r'with_ray\("([^"]+)"', "\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    assert sorted(asked) == sorted(stored)


def test_no_row_was_lost_or_doubled_and_a_worker_was_killed(stored):
    run = stored["blocks"]
    processes = set(run["log"]["process"])
    assert (run["rows"], run["equal"], run["drafts"]) == (1_000_000, 123, 1)
    assert len(processes) == 3, "two workers, and the successor of one"
    after = [at for process, at in zip(run["log"]["process"], run["log"]["began"], strict=True) if process == 2]
    assert min(after) > run["killed"]
    assert stored["Ray Data"]["flipped"] == 0 and stored["Ray Data"]["rows"] == 1_000_000
