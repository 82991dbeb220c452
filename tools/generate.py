"""``make lock`` and what is generated: the locks, environment.yml, README's table of notebooks.

    python tools/generate.py            write everything but the locks
    python tools/generate.py --upgrade  first resolve the newest allowed versions into the locks

A test compares each generated text with its source.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.notebook import ROOT, write_text
from tools.lab import UNRUN, for_reader
from tools.run import is_core, notebooks

# Each lock holds what the first one does not: they are installed together.
LOCKS = {
    "notebooks": ("requirements.txt", "what the lessons need"),
    "test": ("requirements-test.txt", "what the tests need beside requirements.txt"),
    "scale": ("requirements-scale.txt", "what more than one machine needs beside requirements.txt"),
}
LOCK_HEADER = """\
# The lock of {}: pinned with hashes, for Linux, macOS and Windows and Python 3.11 to 3.13.
# Made from pyproject.toml by `make lock`; do not edit.
"""
CHAPTERS = {
    "0": "Start",
    "1": "Predict",
    "2": "Decide",
    "3": "Preprocess alike in training and serving",
    "4": "Image masks",
    "5": "Post-processing",
    "6": "Serving",
    "7": "Predictions as features",
    "8": "More than one machine",
}
COLAB_CELL = """\
# In Colab: the project, and the versions of packages that the lesson was written with. A few minutes, once a session.
import os
import runpy
import subprocess
import sys
from pathlib import Path

project = Path("/content" if "google.colab" in sys.modules else ".").resolve() / "{folder}"
if Path("../tools/colab.py").exists():
    project = Path("..").resolve()  # this cell has run before
elif not project.exists():
    subprocess.run(["git", "clone", "--quiet", "--depth=1", "--branch={branch}", "{repository}", project], check=True)
os.chdir(project / "notebooks")
sys.path.insert(0, str(project))
runpy.run_path("../tools/colab.py")["prepare"]()"""
TABLE = re.compile(r"(?<=<!-- notebooks: made by tools/generate.py -->\n).*?(?=<!-- end -->)", flags=re.DOTALL)


def compile_lock(extra: str, constraints: Path, output: Path) -> str:
    """Resolve one extra of pyproject.toml; no index address is written into the text."""
    command = [Path(sys.executable).parent / "uv", "pip", "compile", "pyproject.toml", "--extra", extra, "--upgrade"]
    options = ["--universal", "--quiet", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]
    options += ["--no-header", "--no-annotate", "--constraint", str(constraints), "--output-file", str(output)]
    subprocess.run([*map(str, command), *options], cwd=ROOT, check=True)
    return output.read_text(encoding="utf-8")


def lock() -> None:
    """Write the locks: one version of each package in all of them."""
    with TemporaryDirectory() as folder:
        base, nothing = Path(folder) / "notebooks.txt", Path(folder) / "nothing.txt"
        nothing.touch()
        for extra, (name, meaning) in LOCKS.items():
            first = extra == "notebooks"
            text = compile_lock(extra, nothing if first else base, base if first else Path(folder) / f"{extra}.txt")
            known = set() if first else set(packages(base.read_text(encoding="utf-8")))
            blocks = [block for pin, block in packages(text).items() if pin not in known]
            write_text(ROOT / name, LOCK_HEADER.format(meaning) + "".join(blocks))


def packages(lock_text: str) -> dict[str, str]:
    """Return the blocks of a lock, a pin with its hashes, by the pin."""
    blocks = re.findall(r"^[A-Za-z0-9].*\n(?: .*\n?)*", lock_text, flags=re.MULTILINE)
    return {block.splitlines()[0].removesuffix("\\").strip(): block for block in blocks}


def environment_yml(lock_text: str) -> str:
    """Return environment.yml, for conda and Binder, with the pins of a lock."""
    return "\n".join(
        [
            "# For conda and Binder, with the pins of requirements.txt. Made by tools/generate.py; do not edit.",
            "name: tensor-to-decision",
            "channels:",
            "  - conda-forge",
            "dependencies:",
            "  - python=3.11",
            "  - pip",
            "  - pip:",
            *(f'      - "{pin}"' for pin in packages(lock_text)),
            "      - -e .",
            "",
        ]
    )


def header(path: Path) -> dict[str, str]:
    """Return a notebook's title and the minutes it takes, from its first cells."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells[:3] if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    minutes = re.search(r"(\d+) minutes to read, (\S+ \S+) to run", text)
    if title is None or minutes is None:
        raise ValueError(f"{path.name}: the header needs '# title' and '… minutes to read, … to run'.")
    return {"title": title.group(1), "read": f"{minutes.group(1)} min", "run": minutes.group(2)}


def notebook_table() -> str:
    """Return README's table of notebooks, by chapter."""
    lines = ["| notebook | question | to read | to run |", "|---|---|---|---|"]
    chapter = ""
    for path in notebooks():
        if path.name[0] != chapter:
            chapter = path.name[0]
            lines.append(f"| **{chapter} · {CHAPTERS[chapter]}** | | | |")
        found, star = header(path), " ★" if is_core(path) else ""
        row = (f"[`{path.stem}`](notebooks/{path.name}){star}", found["title"], found["read"], found["run"])
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def with_table(readme: str) -> str:
    """Return README's text with the table as it should be."""
    return TABLE.sub(lambda _: notebook_table(), readme)


def settings(project: Path = ROOT) -> dict[str, str]:
    """Return where the project is published, from its one place."""
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["tensor-to-decision"]


def for_colab(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a reader's copy that Colab opens alone: a first cell fetches the rest, and links lead out of the copy."""
    where = settings()
    repository, branch = where["repository"], where["branch"]
    first = COLAB_CELL.format(folder=repository.rpartition("/")[2], branch=branch, repository=repository)
    cells = [{"cell_type": "code", "id": "colab", "metadata": {}, "source": first, **UNRUN}]
    others = f"](https://colab.research.google.com/github/{repository.removeprefix('https://github.com/')}/blob/gh-pages/colab/"
    for cell in for_reader(notebook)["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"]).replace("](../", f"]({repository}/blob/{branch}/")
            cell = {**cell, "source": re.sub(r"\]\((?=\d\d_\w+\.ipynb)", others, text)}
        cells.append(cell)
    return {**notebook, "cells": cells, "metadata": {**notebook["metadata"], "colab": {"name": name}}}


def main(arguments: list[str]) -> None:
    """Write what is generated."""
    if "--upgrade" in arguments:
        lock()
    lock_text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    write_text(ROOT / "environment.yml", environment_yml(lock_text))
    readme = ROOT / "README.md"
    write_text(readme, with_table(readme.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
