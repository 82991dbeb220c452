"""The stored run of lesson 80: what is shown where Ray is missing."""

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
    asked = re.findall(r'with_ray\(\s*"([^"]+)"', "\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    assert sorted(asked) == sorted(stored)


def test_no_row_was_lost_and_what_the_killed_worker_held_was_scored_after_its_death(stored):
    rows, equal, drafts, killed_at, log = stored["blocks"]
    assert (rows, equal, drafts) == (1_000_000, 123, 1)
    assert len(log["process"]) == 123 and set(log["process"]) == {1, 2, 3}
    late = [began for process, began in zip(log["process"], log["began"], strict=True) if process == 3]
    assert min(late) > killed_at


def test_it_gives_what_the_prose_states(stored):
    assert stored["Ray Data"] == [1_000_000, 0, 0]
    assert stored["written twice"] == 2000
    *naive, best = stored["naive ways"].values()
    assert best > 10 * max(naive)
    order = stored["order"]
    assert sorted(order) == list(range(60))
    assert sum(number != place for place, number in enumerate(order)) > 60 / 3
