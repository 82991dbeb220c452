"""What a lesson is made of, as rules that name what is missing; `test_notebooks.py` applies them.

A rule is a generator of sentences, one for each thing that is missing.
"""

import ast
import itertools
import re
import symtable

from helpers.notebook import ROOT
from tools import lab

TAGS = {"parameters", "solution", "instructor", "result", "core", "nbval-ignore-output"}
SECTIONS = ["When it goes wrong", "In production", "Results", "What to remember"]
LABELS = ["Plan", "Ask", "Skip first", "Fast pairs", "Watch for"]
# A direction, not a fence: a lesson may miss one of them.
AIMS = {"cells": 50, "lines of code": 260, "lines a code cell": 9, "lines of the longest cell": 25, "words": 1800}
GLOSSARY = ROOT / "docs" / "glossary.md"
DOI = r"\b10\.\d{4,9}/\S+"


# --- reading -----------------------------------------------------------------------------------------------------


def tags(cell):
    return cell.metadata.get("tags", [])


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown" and "instructor" not in tags(cell)]


def headings(notebook):
    return headings_of("\n".join(prose(notebook)))


def headings_of(text):
    return re.findall(r"^(#+) (.+)$", text, flags=re.MULTILINE)


def slug(heading):
    """The anchor that GitHub gives a heading of a .md file."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def compared(notebook):
    return [cell for cell in code(notebook) if "nbval-ignore-output" not in tags(cell)]


def printed(cells):
    outputs = [output for cell in cells for output in cell.outputs]
    texts = [output.get("text", "") for output in outputs]
    return "\n".join(texts + [output.get("data", {}).get("text/plain", "") for output in outputs])


def pictures(page):
    return re.findall(r"<img\b[^>]*>", page)


def figures(cell):
    return [picture for output in cell.outputs for picture in pictures(output.get("data", {}).get("text/html", ""))]


def python(cell):
    """A cell's source without IPython's commands."""
    return re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE)


def lines(cells):
    """For each cell its lines of code: neither empty nor only a comment."""
    return [sum(bool(re.match(r"\s*[^\s#]", line)) for line in cell.source.splitlines()) for cell in cells]


# --- rules -------------------------------------------------------------------------------------------------------


def constants(notebook):
    """Numbers that stand in code, the stated ranges of assertions among them."""
    trees = [ast.parse(python(cell)) for cell in code(notebook)]
    return {str(node.value) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def unprinted_decimals(notebook):
    """Decimal numbers in the prose that no compared cell printed and no code states."""
    outside = rf"`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|<[^>]*>|^\|.*\|$|{DOI}"
    text = re.sub(outside, "", "\n".join(prose(notebook)), flags=re.MULTILINE)
    numbers = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)", text)
    shown = set(re.findall(r"\d+\.\d+", printed(compared(notebook)) + headings(notebook)[0][1]))
    known = shown | constants(notebook)
    return [number for number in numbers if number not in known]


def number_problems(notebook):
    ignored = len(code(notebook)) - len(compared(notebook))
    if 4 * ignored > len(code(notebook)):
        yield "more than a quarter of the outputs are not compared"
    if unprinted_decimals(notebook):
        yield f"numbers that no compared cell printed: {unprinted_decimals(notebook)}"


def sizes(notebook):
    """What `AIMS` limits. Notes for teachers count nowhere, parameters and solutions are no code to read."""
    read = [cell for cell in code(notebook) if not {"parameters", "solution", "instructor"} & set(tags(cell))]
    each = lines(read)
    cells = sum("instructor" not in tags(cell) for cell in notebook.cells)
    words = sum(len(text.split()) for text in prose(notebook))
    return dict(zip(AIMS, (cells, sum(each), sum(each) / max(len(each), 1), max(each, default=0), words), strict=True))


def size_problems(notebook):
    over = {name: value for name, value in sizes(notebook).items() if value > AIMS[name]}
    if len(over) > 1:
        told = [f"{round(value, 1)} {name} (aim: {AIMS[name]})" for name, value in over.items()]
        yield f"it is two lessons: {', '.join(told)}"


def header_problems(notebook):
    title = prose(notebook)[0].split("\n\n")[0]
    head = "\n\n".join(prose(notebook)[:3])
    if not re.fullmatch(r"# .+\?", title):
        yield "the title is a question"
    if not any("result" in tags(cell) for cell in notebook.cells[:2]):
        yield "the answer stands in a cell tagged result at the top"
    for words in ("**After this lesson you can**", "**You need**", "**Time**"):
        if words not in head:
            yield f"the header lacks {words}"
    if not re.search(r"\*\*Time\*\*: \d+ minutes to read, \S+ (seconds?|minutes?) to run", head):
        yield "the header states minutes to read and to run"


def section_problems(notebook):
    levels = [name for level, name in headings(notebook) if level == "##"]
    missing = [name for name in SECTIONS if name not in levels]
    if missing:
        yield f"sections are missing: {missing}"
    elif [levels.index(name) for name in SECTIONS] != sorted(levels.index(name) for name in SECTIONS):
        yield "the last sections stand in another order"
    if not any("naive way" in text.lower() for text in prose(notebook)):
        yield "no section shows the naive way"
    last = prose(notebook)[-1]
    if re.findall(r"^(\d)\. \S", last, flags=re.MULTILINE) != ["1", "2", "3"]:
        yield "it ends with three sentences"
    for words in ("**References**", "**Next**"):
        if words not in last:
            yield f"the end lacks {words}"
    references = last.partition("**References**")[2].partition("**Next**")[0]
    if len(re.findall(rf"\]\(https?://[^)]+\)|{DOI}", references)) < 2:
        yield "References name at least two works by a web address or a DOI"


def term_problems(notebook):
    linked = set(re.findall(r"\[\*\*[^\]]+\*\*\]\(\.\./docs/glossary\.md#([^)]+)\)", "\n".join(prose(notebook))))
    unknown = linked - {slug(name) for _, name in headings_of(GLOSSARY.read_text(encoding="utf-8"))}
    if len(linked) < 5:
        yield "at least five standard terms, bold, lead to the glossary"
    if unknown:
        yield f"terms that the glossary lacks: {sorted(unknown)}"


def instructor_problems(notebook):
    notes = [cell for cell in notebook.cells if "instructor" in tags(cell)]
    if not notes:
        yield "no cell tagged instructor"
    if any(cell.cell_type != "markdown" or not cell.source.startswith("**For teachers**") for cell in notes):
        yield "a cell tagged instructor is prose that begins with **For teachers**"
    starts = [notes[0].source.find(f"**{label}") for label in LABELS] if notes else []
    if -1 in starts or starts != sorted(starts):
        yield f"the first note for teachers has, in this order: {', '.join(LABELS)}"
    for cell, after in itertools.pairwise(notebook.cells):
        checks = cell.cell_type == "code" and "notebook.check(" in cell.source
        if checks and ("instructor" not in tags(after) or len(lab.wrong_answers(after.source)) < 2):
            yield "after each check a note for teachers has a table of two or more common wrong answers"


def figure_problems(notebook):
    drawn = [number for number, cell in enumerate(code(notebook)) if figures(cell)]
    if not drawn or drawn[0] >= 10:
        yield "the first figure comes among the first ten code cells"
    if any("plots.show(" not in code(notebook)[number].source for number in drawn):
        yield "a figure is shown by plots.show"


def places(notebook):
    """Numbers of the code cells in which a student writes; after each come its solution and its check."""
    return [number for number, cell in enumerate(code(notebook)) if "# Your turn" in cell.source]


def exercise_problems(notebook):
    """Exercises stand inside the sections: a place, a solution, a check that never raises; the first one early."""
    cells = code(notebook)
    predictions = [number for number, cell in enumerate(notebook.cells) if "**Predict before you run" in cell.source]
    if len(places(notebook)) + len(predictions) < 4:
        yield "at least four exercises or written predictions"
    if sum("solution" in tags(cell) for cell in cells) != len(places(notebook)):
        yield "each exercise has one solution"
    for number in places(notebook):
        if not re.search(r"= *\.\.\.", cells[number].source):
            yield "an exercise's place is `answer = ...`"
        after = cells[number + 1 : number + 3]
        if len(after) < 2 or "solution" not in tags(after[0]) or "notebook.check(" not in after[1].source:
            yield "after the place come the solution and notebook.check"
        if "<details>" not in before(notebook, cells[number]):
            yield "an exercise has a hint, <details>, before its place"
    early = [position(notebook, cells[number]) for number in places(notebook)] + predictions
    if not early or min(early) > len(notebook.cells) / 2:
        yield "the first exercise stands before the middle"
    if "notebook.open_exercises()" not in cells[-1].source:
        yield "the last code cell calls notebook.open_exercises"


def position(notebook, cell):
    return next(number for number, other in enumerate(notebook.cells) if other is cell)


def before(notebook, cell):
    """The prose between a code cell and the code cell before it."""
    above = notebook.cells[: position(notebook, cell)]
    between = itertools.takewhile(lambda other: other.cell_type == "markdown", reversed(above))
    return "\n".join(other.source for other in between if "instructor" not in tags(other))


def typed_problems(notebook):
    """A student writes a tenth of the code, and no other cell needs it: whoever skips an exercise can go on."""
    cells = code(notebook)
    typed = sum(lines(cell for cell in cells if "solution" in tags(cell))) / max(sum(lines(cells)), 1)
    if typed < 0.08:
        yield f"students write {typed:.0%} of the code; a tenth is meant, 8 % are the least"
    for number in places(notebook):
        own = cells[number : number + 3]
        written = set().union(*(assigned(cell) for cell in own[:2]))
        for cell in cells:
            if not any(cell is other for other in own) and written & reads(cell):
                yield f"what a student writes is read elsewhere: {sorted(written & reads(cell))}"


def assigned(cell):
    """Names that a cell gives to the cells after it."""
    names = symtable.symtable(python(cell), "cell", "exec").get_symbols()
    return {name.get_name() for name in names if name.is_assigned() or name.is_imported()}


def reads(cell):
    """Names that a cell takes from the cells before it; those that it sets itself are its own."""
    tables, taken = [symtable.symtable(python(cell), "cell", "exec")], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        outermost = table.get_type() == "module"
        taken |= {
            name.get_name() for name in table.get_symbols() if name.is_referenced() and (outermost or name.is_global())
        }
    return taken - assigned(cell)


RULES = [
    header_problems,
    section_problems,
    term_problems,
    instructor_problems,
    figure_problems,
    exercise_problems,
    typed_problems,
    size_problems,
    number_problems,
]


def problems(notebook):
    """Return what a lesson lacks, a sentence each."""
    unknown = {tag for cell in notebook.cells for tag in tags(cell)} - TAGS
    found = [f"unknown tags: {sorted(unknown)}"] if unknown else []
    return found + [problem for rule in RULES for problem in rule(notebook)]
