"""``make lock`` and what is generated: environment.yml from the lock, README's table from the notebooks' headers.

    python tools/generate.py            write environment.yml and README's table
    python tools/generate.py --upgrade  first resolve the newest allowed versions into requirements.txt

A test holds each generated text to its source.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat

from helpers.notebook import ROOT, write_text
from tools.run import notebooks

LOCK_HEADER = """\
# The lock: every package pinned with its hashes, for Linux, macOS and Windows and Python 3.11 to 3.13.
# Made from pyproject.toml by `make lock`; do not edit.
"""
TABLE = re.compile(r"(?<=<!-- notebooks: made by tools/generate.py -->\n).*?(?=<!-- end -->)", flags=re.DOTALL)


def lock() -> None:
    """Resolve pyproject.toml into requirements.txt; no index address is written into it."""
    path = ROOT / "requirements.txt"
    command = ["uv", "pip", "compile", "pyproject.toml", "--extra", "test", "--upgrade", "--universal", "--quiet"]
    options = ["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
    bin_dir = Path(sys.executable).parent
    done = subprocess.run(
        [str(bin_dir / command[0]), *command[1:], *options],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    write_text(path, LOCK_HEADER + done.stdout)


def environment_yml(lock_text: str) -> str:
    """Return environment.yml, for conda and Binder, with the pins of a lock."""
    pins = [line.removesuffix("\\").strip() for line in lock_text.splitlines() if re.match(r"[A-Za-z0-9].*==", line)]
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
            *(f'      - "{pin}"' for pin in pins),
            "      - -e .",
            "",
        ]
    )


def header(path: Path) -> dict[str, str]:
    """Return a notebook's title and the minutes it takes, from its first cell."""
    text = nbformat.read(path, as_version=4).cells[0].source
    title = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    minutes = re.search(r"(\d+) minutes to read, (\S+ \S+) to run", text)
    if title is None or minutes is None:
        raise ValueError(f"{path.name}: the first cell needs '# title' and '… minutes to read, … to run'.")
    return {"title": title.group(1), "read": f"{minutes.group(1)} min", "run": minutes.group(2)}


def notebook_table() -> str:
    """Return README's table of notebooks."""
    lines = ["| notebook | question | to read | to run |", "|---|---|---|---|"]
    for path in notebooks():
        found = header(path)
        row = (f"[`{path.stem}`](notebooks/{path.name})", found["title"], found["read"], found["run"])
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def with_table(readme: str) -> str:
    """Return README's text with the table as it should be."""
    return TABLE.sub(lambda _: notebook_table(), readme)


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
