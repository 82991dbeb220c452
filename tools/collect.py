"""Which checks pass in the notebooks that students returned? A table for the teacher; no server.

    make collect STUDENTS=returned       (or python tools/collect.py returned)

A student is a sub-folder of the folder, or what a file's name says beside the lesson's: ``20_decisions_ann.ipynb``.
Each notebook is judged as the lesson with its title. From it come the answers, and the cells that the student added;
all other cells, the checks among them, are the lesson's own. It runs in an empty folder, in a process with a limit of
time and, where the system has one, of memory. Whatever happens there ends in a row. This is no sandbox: the answers
are programs that run on your machine, so collect only from people whom you would let use it.

Written anew into build/collected: ``collected.csv``, a line for each answer, and ``collected.md``, the table.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from helpers.notebook import ROOT, first_line, write_text
from tools import lab

CELL_SECONDS, NOTEBOOK_SECONDS, MEMORY_GB, PARALLEL = 300, 1200, 6, 2
STATES = ("right", "not right", "not set", "did not run")

# A hard limit, which no later cell can raise; Windows has none.
LIMIT = f"""
try:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY_GB} * 10**9,) * 2)
except (ImportError, ValueError, OSError):
    pass
"""
# Checks are called by a module of their own: an answer may have exchanged `notebook.check`, or `notebook`.
TRUSTED = """
import importlib.util as _of
notebook = _of.module_from_spec(_of.find_spec("helpers.notebook"))
notebook.__spec__.loader.exec_module(notebook)
"""
RESTORED = "from helpers import notebook"


@dataclass
class Answer:
    """What became of one exercise of one student."""

    student: str
    lesson: str
    exercise: str
    state: str
    message: str = ""


class Judge(NotebookClient):
    """Runs all cells whatever they raise, and keeps only what checks print: an endless print fills no memory."""

    def output(self, outs: list[Any], msg: Any, display_id: Any, cell_index: int) -> Any:
        keep = self.nb.cells[cell_index].metadata.get("check") and len(outs) < 100
        return super().output(outs, msg, display_id, cell_index) if keep else None


def _note_fault(cell: Any, cell_index: int, execute_reply: Any) -> None:
    content = execute_reply["content"]
    cell.metadata["fault"] = f"{content['ename']}: {first_line(content['evalue'])}"


def lessons(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return name and notebook of each lesson, by its title."""
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("[0-9]*.ipynb"))}
    return {_title(notebook): (name, notebook) for name, notebook in read.items()}


def _title(notebook: dict[str, Any]) -> str:
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return (re.findall(r"^# (.+)$", text, flags=re.MULTILINE) or [""])[0].strip()


def exercises(lesson: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return for the id of each check the id of its place, and the heading above both."""
    found, heading, place = {}, "", ""
    for cell in lesson["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = (re.findall(r"^#+ (.+)$", source, flags=re.MULTILINE) or [heading])[-1]
        elif "# Your turn" in source:
            place = cell["id"]
        elif "notebook.check(" in source:
            found[cell["id"]] = place, heading
    return found


def merged(lesson: dict[str, Any], returned: dict[str, Any]) -> Any:
    """Return the lesson with the student's answers and added cells, each behind the cell that it follows."""
    checks, known = exercises(lesson), [cell["id"] for cell in lesson["cells"]]
    places = [place for place, _ in checks.values()]
    answers: dict[str, str] = {}
    added: dict[str, list[str]] = {}
    behind = known[0]
    for cell in _identified(returned["cells"], places):
        source, name = "".join(cell["source"]), cell["id"]
        behind = name if name in known else behind
        if cell["cell_type"] == "code" and name in places:
            answers[name] = source
        elif cell["cell_type"] == "code" and name not in known:
            added.setdefault(behind, []).append(source)
    cells = [new_code_cell(LIMIT)]
    for cell in lab.for_student(lesson)["cells"]:
        name, check = cell["id"], cell["id"] in checks
        if check:
            (source,) = ("".join(own["source"]) for own in lesson["cells"] if own["id"] == name)
            cells.append(new_code_cell(f"{TRUSTED}{source}\n{RESTORED}", metadata={"check": name}))
        elif cell["cell_type"] == "code":
            cells.append(new_code_cell(answers.get(name, "".join(cell["source"])), metadata={"place": name}))
        # What stands between a place and its check stays there.
        cells += map(new_code_cell, added.get(name, []))
    return new_notebook(cells=cells)


def _identified(cells: list[Any], places: list[str]) -> list[Any]:
    """Return the cells; of a notebook whose program has given them other names, the places alone, known by order."""
    if not any(cell["id"] in places for cell in cells):
        turns = [c for c in cells if c["cell_type"] == "code" and "# Your turn" in "".join(c["source"])]
        if len(turns) == len(places):
            return [{**cell, "id": place} for cell, place in zip(turns, places, strict=True)]
    return cells


async def judge(notebook: Any) -> str:
    """Run a notebook, and return why it ended before its last cell, if it did."""
    said = {"ename": "TimeoutError", "evalue": f"longer than {CELL_SECONDS} seconds", "traceback": []}
    with tempfile.TemporaryDirectory() as folder:
        client = Judge(
            notebook,
            kernel_name="python3",
            allow_errors=True,
            timeout=CELL_SECONDS,
            interrupt_on_timeout=True,
            error_on_timeout=said,
            on_cell_error=_note_fault,
            resources={"metadata": {"path": folder}},
        )
        try:
            # From an empty folder, too, the kernel finds the packages.
            await asyncio.wait_for(client.async_execute(env={**os.environ, "PYTHONPATH": str(ROOT)}), NOTEBOOK_SECONDS)
        except (TimeoutError, CellTimeoutError):
            return f"the notebook took longer than {NOTEBOOK_SECONDS} seconds"
        except DeadKernelError:
            return "an answer ended the process"
        except Exception as error:  # Nothing that one notebook does stops the collection.
            return f"{type(error).__name__}: {first_line(error)}"
        finally:
            if client.km is not None:
                await cast(Any, client.km).shutdown_kernel(now=True)
    return ""


def verdict(cell: Any, why: str) -> tuple[str, str]:
    """Return the state of an exercise and what its check said, or why it did not run."""
    text = "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")
    for line in text.splitlines():
        if found := re.match(r"(.+) is (right|not right yet|not set yet)(?:: (.*))?[.]$", line):
            state = found[2].removesuffix(" yet")
            return state, first_line(line) if state == "not right" else ""
    return "did not run", why or cell.metadata.get("fault") or "the check printed nothing"


async def collected(file: Path, student: str, known: dict[str, tuple[str, dict[str, Any]]]) -> list[Answer]:
    """Return a row for each exercise of a returned notebook, or one that says why there are none."""
    try:
        returned = json.loads(nbformat.writes(nbformat.read(file, as_version=4)))
        name, lesson = known[_title(returned)]
    except KeyError:
        return [Answer(student, file.name, "", STATES[3], "its title is that of no lesson")]
    except Exception as error:
        return [Answer(student, file.name, "", STATES[3], f"damaged, no notebook: {first_line(error)[:100]}")]
    notebook, there = merged(lesson, returned), {cell.get("id") for cell in returned["cells"]}
    ended = await judge(notebook)
    faults = {cell.metadata.get("place"): cell.metadata.get("fault", "") for cell in notebook.cells}
    checks = exercises(lesson)
    rows = []
    for cell in notebook.cells:
        if check := cell.metadata.get("check"):
            place, heading = checks[check]
            state, message = verdict(cell, faults[place] or ended)
            message = message or "its cell is not in the notebook" * (state == "not set" and place not in there)
            rows.append(Answer(student, name, heading.removeprefix("Your turn: "), state, message))
    return rows


def who(file: Path, folder: Path, names: Sequence[str]) -> str:
    """Return a student's name, from the sub-folder or else from the file's name."""
    inside = file.relative_to(folder).parts
    if len(inside) > 1:
        return inside[0]
    rest = file.stem
    for name in names:
        rest = rest.replace(name, "")
    return rest.strip(" _-.()") or file.stem


def tables(rows: Sequence[Answer]) -> str:
    """Return for each lesson a table of students by exercises, and a line for each exercise, as Markdown."""
    parts = []
    for lesson in dict.fromkeys(row.lesson for row in rows):
        own = [row for row in rows if row.lesson == lesson]
        tasks = list(dict.fromkeys(row.exercise for row in own if row.exercise))
        states = {(row.student, row.exercise): row.state for row in own}
        lines = [["student", *(tasks or ["why"])], ["---"] * (1 + max(len(tasks), 1))]
        for student in dict.fromkeys(row.student for row in own):
            why = [row.message for row in own if row.student == student and not row.exercise]
            lines.append([student, *(why or [states.get((student, task), "-") for task in tasks])])
        parts.append(f"## {lesson}\n\n" + "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))
        parts += ["\n".join(f"- {_summary(task, [row for row in own if row.exercise == task])}" for task in tasks)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _summary(task: str, rows: Sequence[Answer]) -> str:
    right = sum(row.state == "right" for row in rows)
    # Numbers differ from student to student.
    said = Counter(re.sub(r"\d+(?:[.,]\d+)*", "…", row.message) for row in rows if row.message).most_common(1)
    often = "".join(f"; most often ({times}): {message}" for message, times in said)
    return f"{task}: {right} of {len(rows)} right{often}"


def as_csv(rows: Sequence[Answer]) -> str:
    """Return the rows for a spreadsheet, to which a text is no formula."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["student", "lesson", "exercise", "state", "message"])
    for row in rows:
        writer.writerow(re.sub(r"^[=+@-]", r"'\g<0>", value) for value in vars(row).values())
    return file.getvalue()


async def collect(folder: Path, known: dict[str, tuple[str, dict[str, Any]]]) -> list[Answer]:
    """Return all rows; some notebooks run side by side."""
    files = sorted(file for file in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in file.parts)
    names, room = [name for name, _ in known.values()], asyncio.Semaphore(PARALLEL)

    async def one(file: Path) -> list[Answer]:
        async with room:
            rows = await collected(file, who(file, folder, names), known)
        print(
            f"{file.relative_to(folder)}: {sum(row.state == 'right' for row in rows)} of {len(rows)} right", flush=True
        )
        return rows

    return [row for rows in await asyncio.gather(*map(one, files)) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the notebooks of a folder, and show and write the tables; return the exit status."""
    parser = argparse.ArgumentParser(prog="python tools/collect.py", description="Which checks pass for each student?")
    parser.add_argument("students", type=Path, help="the folder of returned notebooks")
    parser.add_argument(
        "-o", "--output-dir", type=Path, default=ROOT / "build" / "collected", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    if not options.students.is_dir():
        sys.exit(f"{options.students} is no folder; name the one with the returned notebooks: make collect STUDENTS=…")
    rows = asyncio.run(collect(options.students.resolve(), lessons(ROOT / "notebooks")))
    if not rows:
        sys.exit(f"{options.students} holds no notebook, neither itself nor in its sub-folders.")
    write_text(options.output_dir / "collected.csv", as_csv(rows))
    write_text(options.output_dir / "collected.md", text := f"# Collected answers\n\n{tables(rows)}")
    print(f"\n{text}\n==> also in {options.output_dir}: collected.md, collected.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
