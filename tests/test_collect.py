"""`make collect`: a row for each exercise of each student, whatever the returned notebooks do."""

import asyncio
import csv
import json

import nbformat
import pytest

from helpers.notebook import ROOT
from tools import collect, lab

TASK = "### Your turn: how many?\n\nHow many calls?"


def lesson(title="How many?", answers=("calls", "rate")):
    """A lesson with an exercise for each answer: twice 40."""
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [text(f"# {title}", id="c0"), code("from helpers import notebook\nhalf = 40", id="c1")]
    for name in answers:
        told = "lambda own: f'{own} calls'"
        cells += [
            text(TASK.replace("how many", name), id=f"{name}-text"),
            code(f"# Your turn\n{name} = ...", id=f"{name}-place"),
            code(f"{name} = 80", id=f"{name}-own", metadata={"tags": ["solution"]}),
            code(f"notebook.check({name}, lambda own: own == 2 * half, wrong={told})", id=f"{name}-check"),
        ]
    return nbformat.v4.new_notebook(cells=[*cells, code("notebook.open_exercises()", id="last")])


@pytest.fixture
def returned(tmp_path, monkeypatch):
    """A function that hands in a copy in which places are as typed; and the rows that come of all that were."""
    monkeypatch.setattr(collect, "CELL_SECONDS", 4)
    monkeypatch.setattr(collect, "NOTEBOOK_SECONDS", 40)
    folder = tmp_path / "returned"

    def hand_in(name, change=lambda cells: cells, **typed):
        student = nbformat.from_dict(lab.for_student(lesson()))
        for cell in student.cells:
            cell.source = typed.get(cell.id.removesuffix("-place"), cell.source)
        student.cells = change(student.cells)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(student, folder / name)

    def rows():
        found = asyncio.run(collect.collect(folder, {"How many?": ("20_calls", json.loads(nbformat.writes(lesson())))}))
        return {(row.student, row.exercise): (row.state, row.message) for row in found}

    hand_in.rows, hand_in.folder = rows, folder
    return hand_in


def test_answers_are_judged_by_the_lessons_own_checks(returned):
    returned("ann/20_calls.ipynb", calls="calls = half * 2", rate="rate = 70")
    returned("20_calls_bob.ipynb", calls="calls = undefined")
    rows = returned.rows()
    assert rows == {
        ("ann", "calls?"): ("right", ""),
        ("ann", "rate?"): ("not right", "`rate` is not right yet: 70 calls."),
        ("bob", "calls?"): ("did not run", "NameError: name 'undefined' is not defined"),
        ("bob", "rate?"): ("not set", ""),
    }


CHEATS = [
    "notebook.check = lambda *_, **__: print('`calls` is right.')",
    "class notebook:\n    check = print",
    "import builtins\nhalf = 0",
]


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_check_that_an_answer_has_exchanged_is_not_believed(returned, cheat):
    returned("ann.ipynb", calls=f"calls = 70\n{cheat}")
    assert returned.rows()["ann", "calls?"][0] == "not right"


def test_an_answer_that_does_not_end_or_ends_the_process_stops_nobody_else(returned):
    returned("loop.ipynb", calls="while True:\n    pass", rate="rate = 80")
    returned("exit.ipynb", calls="calls = 80", rate="exit()")
    returned("killed.ipynb", calls="calls = 80", rate="import os\nos._exit(3)")
    returned("prints.ipynb", calls="calls = 80\nwhile True:\n    print('x' * 10_000)", rate="rate = 80")
    returned("good.ipynb", calls="calls = 80", rate="rate = 80")
    rows = returned.rows()
    assert rows["loop", "calls?"] == ("did not run", "TimeoutError: longer than 4 seconds")
    assert rows["loop", "rate?"] == ("right", "")
    assert rows["exit", "calls?"] == rows["killed", "calls?"] == ("right", "")
    assert rows["killed", "rate?"] == ("did not run", "an answer ended the process")
    assert rows["exit", "rate?"][0] == "did not run"
    assert rows["prints", "calls?"] == ("right", "")
    assert rows["good", "calls?"] == rows["good", "rate?"] == ("right", "")


def test_memory_has_a_limit_where_the_system_has_one(returned):
    pytest.importorskip("resource")
    returned("ann.ipynb", calls="calls = bytearray(40 * 10**9)", rate="rate = 80")
    rows = returned.rows()
    assert rows["ann", "calls?"][1].startswith("MemoryError")
    assert rows["ann", "rate?"] == ("right", "")


def test_what_is_no_notebook_of_a_lesson_is_a_row_that_says_so(returned):
    returned("ann.ipynb", lambda cells: cells[1:])
    (returned.folder / "bob.ipynb").write_text('{"cells": [')
    (returned.folder / "eve.ipynb").write_bytes(b"\x89PNG\r\n")
    (returned.folder / "empty.ipynb").write_text("")
    rows = returned.rows()
    assert rows["ann", ""] == ("did not run", "its title is that of no lesson")
    assert all(rows[name, ""][1].startswith("damaged, no notebook: ") for name in ("bob", "eve", "empty"))


def test_added_cells_run_deleted_ones_are_the_lessons_and_a_missing_answer_is_told(returned):
    def changed(cells):
        helper = nbformat.v4.new_code_cell("def twice(n):\n    return 2 * n")
        return [cells[0], helper, *(cell for cell in cells[2:] if cell.id not in ("rate-place", "calls-check"))]

    returned("ann.ipynb", changed, calls="calls = twice(half)")
    assert returned.rows() == {
        ("ann", "calls?"): ("right", ""),
        ("ann", "rate?"): ("not set", "its cell is not in the notebook"),
    }


def test_cells_that_another_program_has_renamed_are_known_by_their_order(returned):
    def renamed(cells):
        return [nbformat.from_dict({**cell, "id": f"x{number}"}) for number, cell in enumerate(cells)]

    returned("ann.ipynb", renamed, calls="# Your turn\ncalls = 80")
    assert returned.rows()["ann", "calls?"] == ("right", "")


def answers():
    row = collect.Answer
    return [
        row("ann", "20_calls", "a", "right"),
        row("bob", "20_calls", "a", "not right", "`a` is not right yet: 70.5 calls."),
        row("=eve", "20_calls", "a", "not right", "`a` is not right yet: 9 | 8 calls."),
        row("fay", "x.ipynb", "", "did not run", "its title is that of no lesson"),
    ]


def test_the_table_has_a_line_for_each_student_and_for_each_exercise():
    text = collect.tables(answers())
    assert "| student | a |\n| --- | --- |\n| ann | right |\n| bob | not right |\n" in text
    assert "- a: 1 of 3 right; most often (1): `a` is not right yet: … calls." in text
    assert "| fay | its title is that of no lesson |" in text


def test_a_spreadsheet_takes_no_text_for_a_formula():
    rows = list(csv.reader(collect.as_csv(answers()).splitlines()))
    assert rows[0] == ["student", "lesson", "exercise", "state", "message"]
    assert rows[3][0] == "'=eve"


def test_without_notebooks_it_says_what_to_name(tmp_path):
    with pytest.raises(SystemExit, match="is no folder; name the one"):
        collect.main([str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="holds no notebook"):
        collect.main([str(tmp_path)])


def is_place(cell):
    return cell.cell_type == "code" and "# Your turn" in cell.source


def is_solution(cell):
    return "solution" in cell.metadata.get("tags", [])


@pytest.mark.whole_run
def test_the_solutions_of_a_lesson_are_right(tmp_path):
    path = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))[0]
    stored = nbformat.read(path, as_version=4)
    place, solution = (next(cell for cell in stored.cells if marks(cell)) for marks in (is_place, is_solution))
    place.source = solution.source
    (tmp_path / "ann").mkdir()
    nbformat.write(nbformat.from_dict(lab.for_student(stored)), tmp_path / "ann" / "renamed.ipynb")
    assert collect.main([str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "collected.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["right", *["not set"] * (len(rows) - 1)]
    assert rows[0]["lesson"] == path.stem
    assert f"## {path.stem}" in (tmp_path / "out" / "collected.md").read_text()
