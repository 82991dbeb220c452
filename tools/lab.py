"""Copies of the notebooks, so that working in one changes no tracked file.

    python tools/lab.py     for a reader, into build/lab (`make lab`): solutions are folded away

Notes for teachers stand only in the notebooks themselves. A copy that was changed is the reader's and is never
overwritten; one that was not follows its original. What students get, without solutions and outputs, `for_student`
makes for the workshop kit and the site.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.notebook import ROOT, write_text

NOT_FOR_STUDENTS = {"solution", "instructor", "result"}
UNRUN: dict[str, Any] = {"outputs": [], "execution_count": None}


def for_reader(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook without notes for teachers; in a lesson, solutions and checks are folded away.

    As code, a solution would run after the reader's answer, and the check would judge the solution. In an older
    notebook it has to: its assertions would stop *Run All*.
    """
    cells = [cell for cell in notebook["cells"] if "instructor" not in tags(cell)]
    if any(map(_checks, cells)):
        folded = "<details><summary>Solution</summary>\n\n```python\n{}\n```\n\n</details>"
        for number, cell in enumerate(cells):
            if "solution" in tags(cell):
                kept = {"cell_type": "markdown", "id": cell["id"], "metadata": cell["metadata"]}
                cells[number] = {**kept, "source": folded.format("".join(cell["source"]))}
            elif _checks(cell):
                cells[number] = _collapsed(cell)
    return {**notebook, "cells": cells}


def for_student(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook without solutions, stated results, notes for teachers and outputs; checks are packed."""
    cells, heading, task = [], "Check", ""
    for cell in notebook["cells"]:
        if not NOT_FOR_STUDENTS & set(tags(cell)):
            code, source = cell["cell_type"] == "code", "".join(cell["source"])
            if not code and (
                found := re.findall(r"^#+ (.+)$((?s:.*?))(?=^#|<details>|\Z)", source, flags=re.MULTILINE)
            ):
                heading, task = found[-1]
            cell = {**cell, **UNRUN} if code else cell
            cells.append(_packed(cell, heading, task) if _checks(cell) else cell)
    return {**notebook, "cells": cells}


def _packed(check: dict[str, Any], heading: str, task: str) -> dict[str, Any]:
    """Return a check that tells nothing of the answer even when it is opened, and knows what is asked, and where."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", task).replace("**", "")
    # How many lines an answer takes is a hint, and what follows it as well.
    asked = re.sub(r" *\([^()]*\blines?\b[^()]*\)", "", " ".join(plain.split()))
    packed = zlib.compress("".join(check["source"]).encode(), 9).hex()
    call = f"# Check: run this cell\nnotebook.run_check(\n    {heading!r},\n    {asked!r},\n    {packed!r},\n)"
    return {**_collapsed(check), "source": call}


def _collapsed(check: dict[str, Any]) -> dict[str, Any]:
    """Return a check that tells nothing of the answer until it is opened; JupyterLab shows its first line."""
    metadata = {**check["metadata"], "jupyter": {"source_hidden": True}}
    return {**check, **UNRUN, "metadata": metadata, "source": "# Check\n" + "".join(check["source"])}


def _checks(cell: dict[str, Any]) -> bool:
    return "notebook.check(" in "".join(cell["source"]) and cell["cell_type"] == "code"


def tags(cell: dict[str, Any]) -> list[str]:
    """Return a cell's tags."""
    return cell["metadata"].get("tags", [])


def _text(notebook: dict[str, Any], originals: Path, folder: Path) -> str:
    """Return what is written into a folder; paths to other folders of the project lead there from the copy too."""
    root = Path(os.path.relpath(originals.parent, folder)).as_posix()
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    # In a copy no exercise is done; the cell that says so shows results, too.
    text = re.sub(r'"\d+ of \d+ exercises are done\.(\\n)?"', '""', text)
    return text.replace("](../", f"]({root}/").replace("--no-deps -e ..`", f"--no-deps -e {root}`")


def wrong_answers(note: str) -> list[tuple[str, str]]:
    r"""Return what a teacher's table of common wrong answers holds: what is typed, and what the check says.

    In the table a pipe is written ``\|``, and what the check says may hold ``…`` for anything.

    >>> table = "| typed | the check says |\n|---|---|\n| `a = 1 \| 2` | `a` is not right yet: you gave 3. |"
    >>> wrong_answers(f"**For teachers**: common wrong answers.\n\n{table}")
    [('a = 1 | 2', '`a` is not right yet: you gave 3.')]
    """
    rows = re.findall(r"^\| *(`+)(.+?)\1 *(?<!\\)\| *(.+?) *\|$", note, flags=re.MULTILINE)
    return [(typed.strip().replace(r"\|", "|"), says.replace(r"\|", "|")) for _, typed, says in rows]


def copy_for_readers(originals: Path, folder: Path) -> list[str]:
    """Bring `folder` up to date; return a message for each original that is newer than the reader's changed copy."""
    record = folder / ".copied.json"
    copied: dict[str, str] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    messages = []
    for original in sorted(originals.glob("[0-9]*.ipynb")):
        text = _text(for_reader(json.loads(original.read_text(encoding="utf-8"))), originals, folder)
        there, digest = folder / original.name, hashlib.sha256(text.encode()).hexdigest()
        if there.exists() and hashlib.sha256(there.read_bytes()).hexdigest() != copied.get(original.name):
            if digest != copied.get(original.name):
                messages.append(f"{original.name}: your changed copy is kept; the original is newer.")
            continue
        write_text(there, text)
        copied[original.name] = digest
    write_text(record, json.dumps(copied, indent=1))
    return messages


def main() -> None:
    """Write the copies, and say what was done."""
    for message in copy_for_readers(ROOT / "notebooks", ROOT / "build" / "lab"):
        print(message)
    print("==> copies of the notebooks are in build/lab; they are yours. `make lab-edit` opens the originals.")


if __name__ == "__main__":
    main()
