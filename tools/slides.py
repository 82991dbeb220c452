"""Slides of a lesson, from its notebook, with the installed sphinx-revealjs' reveal.js: they open without a network.

A slide holds a question, a figure, a few lines of code or a task. The answer comes last; what a figure shows, and the
solution of an exercise, appear when the teacher asks for them.
"""

from __future__ import annotations

import html
import math
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from tools.lab import tags
from tools.lesson import HEADER, Lesson, Stretch, plain, printed

CODE_LINES = 12
OUTPUT_LINES = 14
TEXT_LETTERS = 900
NO_SLIDES = (HEADER, "Results", "What to remember")
ASSETS = {
    "sphinx-revealjs": (
        "dist/reset.css",
        "dist/reveal.css",
        "dist/reveal.js",
        "plugin/notes/notes.js",
        "revealjs/LICENSE",
    ),
    "sphinx-mathjax-offline": ("mathjax/tex-svg.js",),
}
MARKDOWN = MarkdownIt("commonmark").enable("table")
CODE = HtmlFormatter(style="default", cssclass="code", nobackground=True)
PICTURE = re.compile(r"<img\b[^>]*>")


@dataclass
class Slide:
    """One screen of 1280 by 720."""

    title: str
    body: str
    notes: str = ""
    level: str = "h2"

    @property
    def small(self) -> str:
        """The class that makes a longer text fit: its height is estimated by lines, of text and of code."""
        blocks = [html.unescape(re.sub(r"<[^>]+>", "", block)) for block in re.findall(r"(?s)<pre.*?</pre>", self.body)]
        code = sum(1 + sum(max(1, math.ceil(len(line) / 90)) for line in block.splitlines()) for block in blocks)
        rest = re.sub(r"(?s)<pre.*?</pre>", "", self.body)
        paragraphs = re.findall(r"(?s)<(?:p|li|tr)\b.*?(?=<(?:p|li|tr)\b|\Z)", rest)
        letters = [len(html.unescape(re.sub(r"<[^>]+>", "", text))) for text in paragraphs]
        height = (
            100 + 46 * (len(self.title) // 48) + 28 * code + sum(39 * math.ceil(count / 75) + 14 for count in letters)
        )
        return "" if "<img" in rest or height < 650 else "small" if height < 760 else "tiny"


def code_style() -> str:
    """Return the style sheet of code."""
    return CODE.get_style_defs()


def copy_assets(folder: Path) -> None:
    """Copy what slides load; with its licence, as reveal.js asks."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, names in ASSETS.items():
        installed = [(str(file), file.locate()) for file in files(package) or ()]
        for name in names:
            source = next(path for written, path in installed if written.endswith(name))
            shutil.copy(str(source), folder / name.rpartition("/")[2])


def first_sentence(text: str) -> str:
    """Return the first sentence of a text: what is a table or a list is none.

    >>> first_sentence("| a |\\n\\nSee e.g. `fit`. Then more.")
    'See e.g. `fit`.'
    """
    paragraphs = [part for part in text.split("\n\n") if re.match(r"[\w*`(\[$]", part.strip())]
    return (
        re.split(r"(?<=[.?!])(?<!\.[a-z]\.)\s+(?=[A-Z*`\[(])", " ".join(paragraphs[0].split()))[0] if paragraphs else ""
    )


def stacks(lesson: Lesson, taught: Iterable[Stretch], minutes: Mapping[str, int]) -> Iterator[list[Slide]]:
    """Yield stacks of slides: an arrow to the right leads to the next stack, an arrow down to what is below.

    `minutes` holds those of each exercise, by its title.
    """
    aims = "<p>Afterwards you can</p><ul>" + "".join(f"<li>{_inline(aim)}</li>" for aim in lesson.objectives) + "</ul>"
    notes = "\n\n".join(f"**{label}**: {text}" for label, text in lesson.notes.items())
    yield [Slide(_inline(lesson.title), aims, MARKDOWN.render(notes), "h1")]
    for stretch in taught:
        if stretch.exercise:
            yield _exercise(stretch, minutes[stretch.title])
        elif stretch.section not in NO_SLIDES:
            yield from _talk(stretch)
    yield [Slide("The answer", MARKDOWN.render(lesson.answer))]
    last = lesson.stretches[-1].prose.partition("**References**")[0]
    yield [Slide("What to remember", MARKDOWN.render(last))]


def _talk(stretch: Stretch) -> Iterator[list[Slide]]:
    """The first sentence, with a few lines of code whose output is a text; then each figure.

    Where there is no such code, the sentence stands above the first figure; where there is neither, the text is short.
    """
    title, opening = _inline(stretch.title), first_sentence(stretch.prose)
    notes = MARKDOWN.render(stretch.prose)
    codes = sorted(filter(None, map(_short_code, stretch.cells)), key=lambda code: "plots." in code)
    pictures = [found for place in range(len(stretch.cells)) for found in _figures(stretch.cells, place)]
    if codes:
        yield [Slide(title, MARKDOWN.render(opening) + codes[0], notes)]
    elif pictures:
        pictures[0] = MARKDOWN.render(opening) + pictures[0]
    elif stretch.prose:
        text = stretch.prose if len(stretch.prose) < TEXT_LETTERS else opening
        yield [Slide(title, MARKDOWN.render(text), notes)]
    yield from ([Slide(title, f'<div class="figure">{picture}</div>', notes)] for picture in pictures)


def _figures(cells: list[Any], place: int) -> Iterator[str]:
    """Each figure of a cell; what the text below says of it appears on demand."""
    for name, kinds in cells[place].get("attachments", {}).items():
        alternative = re.search(rf"!\[([^\]]*)\]\(attachment:{re.escape(name)}\)", cells[place].source)
        kind, encoded = next(iter(kinds.items()))
        yield f'<img alt="{html.escape(alternative[1] if alternative else name)}" src="data:{kind};base64,{encoded}">'
    pages = "".join(output.get("data", {}).get("text/html", "") for output in cells[place].get("outputs", []))
    said = cells[place + 1].source if place + 1 < len(cells) and "result" in tags(cells[place + 1]) else ""
    caption = f'<div class="fragment quiet">{MARKDOWN.render(first_sentence(plain(said)))}</div>' if said else ""
    for picture in PICTURE.findall(pages):
        # The size in the page's own style would win over that of the slide.
        yield re.sub(r'\s(?:style|width|height)="[^"]*"', "", picture) + caption


def _short_code(cell: Any) -> str:
    """A cell of few lines with few lines of output, and no figure."""
    source, out = cell.source.strip(), printed(cell)
    wanted = (
        cell.cell_type == "code"
        and out
        and "notebook." not in source
        and not {"solution", "parameters"} & set(tags(cell))
    )
    if not wanted or source.count("\n") >= CODE_LINES or out.count("\n") >= OUTPUT_LINES:
        return ""
    return _code(source) + _out(out)


def _exercise(stretch: Stretch, minutes: int) -> list[Slide]:
    """The task with its minutes; below it the solution. Common wrong answers are in the speaker's notes."""
    place = next(cell for cell in stretch.cells if cell.cell_type == "code")
    task = MARKDOWN.render(stretch.prose) + _code(place.source) + f'<p class="quiet">{minutes} minutes</p>'
    wrong = "".join(f"<p><code>{html.escape(typed)}</code> → {_inline(says)}</p>" for typed, says in stretch.wrong)
    out = stretch.output
    solution = _code(stretch.first("solution").source) + (_out(out) if out and out.count("\n") < OUTPUT_LINES else "")
    return [Slide(_inline(stretch.title), task, wrong), Slide("Solution", solution)]


def _code(source: str) -> str:
    return highlight(source, PythonLexer(), CODE)


def _out(text: str) -> str:
    return f'<pre class="out">{html.escape(text)}</pre>'


def _inline(text: str) -> str:
    return MARKDOWN.renderInline(plain(text))
