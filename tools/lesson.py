"""A lesson, read for those who teach it: its stretches, the minutes of each, its exercises, and its notes for teachers.

Notes stand in cells tagged ``instructor``, beside what they speak of; everything else is taken from the cells that
readers see, so that nothing is written twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.notebook import UserError
from tools.lab import tags, wrong_answers

WORDS_A_MINUTE = 200
LINES_A_MINUTE = 24
"""Our assumption, two and a half seconds for a line of code; with it a lesson of full length takes 20 minutes."""
MINUTES_A_PREDICTION = 2
HEADING = re.compile(r"^(#{2,3}) (.+)$", flags=re.MULTILINE)
HEADER = "Question and answer"
NOTES = ("Plan", "Ask", "Skip first", "Fast pairs", "Watch for")


def plain(text: str) -> str:
    """Return Markdown whose links into the project are plain text: it is read elsewhere.

    >>> plain("a [**threshold**](../docs/glossary.md#threshold), [pages](https://example.org)")
    'a **threshold**, [pages](https://example.org)'
    """
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


def printed(cell: Any) -> str:
    """Return what a cell printed, without the sentences that stand below figures."""
    outputs = cell.get("outputs", [])
    spoken = {" ".join(text.split()) for text in (output.get("data", {}).get("text/plain", "") for output in outputs)}
    texts = [output.get("text", "") for output in outputs if output.output_type == "stream"]
    texts += [output.data.get("text/plain", "") for output in outputs if output.output_type == "execute_result"]
    return "\n".join(text.rstrip() for text in texts if text.strip() and " ".join(text.split()) not in spoken)


@dataclass
class Stretch:
    """What is done in one go: a part of a section that is talked through, or an exercise."""

    section: str
    title: str
    cells: list[Any] = field(default_factory=list)

    def first(self, tag: str) -> Any:
        """Return the first cell with a tag; an empty one if there is none."""
        return next((cell for cell in self.cells if tag in tags(cell)), nbformat.v4.new_markdown_cell())

    @property
    def exercise(self) -> bool:
        """Whether a student writes here."""
        return any(cell.cell_type == "code" and "# Your turn" in cell.source for cell in self.cells)

    @property
    def prose(self) -> str:
        """Its text, without results, notes and hints."""
        kept = [
            c.source for c in self.cells if c.cell_type == "markdown" and not {"result", "instructor"} & set(tags(c))
        ]
        return plain(
            re.sub(r"<details>.*?</details>|!\[[^\]]*\]\([^)]*\)", "", "\n\n".join(kept), flags=re.DOTALL)
        ).strip()

    @property
    def hint(self) -> str:
        """The hint of an exercise."""
        found = re.search(r"</summary>(.*?)</details>", "\n".join(cell.source for cell in self.cells), flags=re.DOTALL)
        return plain(found.group(1)).strip() if found else ""

    @property
    def wrong(self) -> list[tuple[str, str]]:
        """Common wrong answers, and what the check says to each."""
        return wrong_answers(self.first("instructor").source)

    @property
    def output(self) -> str:
        """What the solution prints."""
        return printed(self.first("solution"))

    @property
    def results(self) -> list[str]:
        """What the text says of results."""
        return [plain(cell.source) for cell in self.cells if "result" in tags(cell)]

    @property
    def expected(self) -> bool:
        """Whether a guide has something to say here: an exercise, or what comes out."""
        return self.exercise or bool(self.results and self.section != HEADER)

    @property
    def predictions(self) -> int:
        """How often a student writes down what will come out."""
        return sum("**Predict before you run" in cell.source for cell in self.cells)

    @property
    def reading(self) -> float:
        """Minutes to read text and code at the stated speeds."""
        texts = [c.source for c in self.cells if c.cell_type == "markdown" and "instructor" not in tags(c)]
        code = [c.source for c in self.cells if c.cell_type == "code" and not {"parameters", "solution"} & set(tags(c))]
        words = sum(len(text.split()) for text in [*texts, f"{self.title}"])
        return (
            words / WORDS_A_MINUTE + sum(len(re.findall(r"^\s*[^\s#]", c, re.MULTILINE)) for c in code) / LINES_A_MINUTE
        )


@dataclass
class Lesson:
    """A notebook; its name begins with its number."""

    path: Path

    @property
    def number(self) -> str:
        """The first two digits of its name."""
        return self.path.name[:2]

    @cached_property
    def cells(self) -> list[Any]:
        """Its cells."""
        return nbformat.read(self.path, as_version=4).cells

    @cached_property
    def head(self) -> str:
        """The texts above the first section."""
        return "\n\n".join(cell.source for cell in self.stretches[0].cells if cell.cell_type == "markdown")

    @property
    def title(self) -> str:
        """The question."""
        return self._found(r"^# (.+)$", "a title")

    @property
    def answer(self) -> str:
        """The answer that stands on top."""
        return plain(self.stretches[0].first("result").source)

    @property
    def objectives(self) -> list[str]:
        """What one can do afterwards, as verbs."""
        return [
            plain(one).strip(" .") for one in self._found(r"\*\*After this lesson you can\*\* (.+)$", "aims").split("·")
        ]

    @property
    def needs(self) -> str:
        """What one has to know before."""
        return plain(self._found(r"\*\*You need\*\* (.+?) \*\*Time\*\*", "needs"))

    @property
    def minutes(self) -> tuple[float, float]:
        """Minutes to run and minutes of exercises, as the header states them."""
        seconds = self._found(r"to read, (\d+) seconds to run", "seconds to run")
        return int(seconds) / 60, int(self._found(r"(\d+) minutes of exercises", "minutes of exercises"))

    def _found(self, pattern: str, what: str) -> str:
        found = re.search(pattern, self.head, flags=re.MULTILINE)
        if found is None:
            raise UserError(f"{self.path.name}: the header lacks {what}; CONTRIBUTING.md shows what it holds.")
        return found.group(1)

    @cached_property
    def notes(self) -> dict[str, str]:
        """The notes for teachers by their labels."""
        text = plain(self.stretches[0].first("instructor").source)
        parts = re.split(rf"^\*\*({'|'.join(NOTES)})\*\*:\s*", text, flags=re.MULTILINE)
        return dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))

    @cached_property
    def stretches(self) -> list[Stretch]:
        """The lesson cut at its headings and after each check; the first one is the header."""
        stretches, checked = [Stretch(HEADER, HEADER)], False
        for level, title, cell in _pieces(self.cells):
            now = stretches[-1]
            if level or (checked and "instructor" not in tags(cell)):
                section = title if level == "##" else now.section
                stretches.append(Stretch(section, title or section))
                checked = False
            stretches[-1].cells.append(cell)
            checked = checked or (cell.cell_type == "code" and "notebook.check(" in cell.source)
        return stretches

    @property
    def sections(self) -> list[str]:
        """Its sections, the header first."""
        return list(dict.fromkeys(stretch.section for stretch in self.stretches))

    def taught(self, skip: list[str]) -> list[Stretch]:
        """Return the stretches of the sections that are not skipped.

        Raises
        ------
        UserError
            There is no such section.
        """
        if unknown := [section for section in skip if section not in self.sections]:
            raise UserError(f"{self.path.name} has no section {unknown[0]!r}; there are: {', '.join(self.sections)}.")
        return [stretch for stretch in self.stretches if stretch.section not in skip]

    def minutes_of(self, stretch: Stretch) -> float:
        """Return the minutes of a stretch: to read, to run, to do its exercise; those of all make up the lesson."""
        running, exercises = self.minutes
        codes = [sum(cell.cell_type == "code" for cell in one.cells) for one in (stretch, *self.stretches)]
        places = sum(one.exercise for one in self.stretches)
        predicted = MINUTES_A_PREDICTION * sum(one.predictions for one in self.stretches)
        each = (exercises - predicted) / max(places, 1)
        own = MINUTES_A_PREDICTION * stretch.predictions + each * stretch.exercise
        return stretch.reading + running * codes[0] / sum(codes[1:]) + own


def _pieces(cells: list[Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield level and text of a heading, or two empty texts, and what follows it: a cell may hold several headings."""
    for cell in cells:
        parts = HEADING.split(cell.source) if cell.cell_type == "markdown" and "instructor" not in tags(cell) else [""]
        if len(parts) == 1:
            yield "", "", cell
            continue
        if parts[0].strip():
            yield "", "", nbformat.from_dict({**cell, "source": parts[0].strip()})
        for level, title, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            yield level, title, nbformat.from_dict({**cell, "source": text.strip()})
