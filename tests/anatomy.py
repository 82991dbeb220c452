"""What a lesson is made of, as rules that name what is missing; `test_notebooks.py` applies them."""

import ast
import re

TAGS = {"parameters", "solution", "instructor", "result", "core", "nbval-ignore-output"}
SECTIONS = ["When it goes wrong", "In production", "Results", "What to remember"]


def tags(cell):
    return cell.metadata.get("tags", [])


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown" and "instructor" not in tags(cell)]


def headings(notebook):
    return re.findall(r"^(#+) (.+)$", "\n".join(prose(notebook)), flags=re.MULTILINE)


def compared(notebook):
    return [cell for cell in code(notebook) if "nbval-ignore-output" not in tags(cell)]


def printed(cells):
    outputs = [output for cell in cells for output in cell.outputs]
    texts = [output.get("text", "") for output in outputs]
    return "\n".join(texts + [output.get("data", {}).get("text/plain", "") for output in outputs])


def constants(notebook):
    """Numbers that stand in code, the stated ranges of assertions among them."""
    trees = [ast.parse(re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE)) for cell in code(notebook)]
    return {str(node.value) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def unprinted_decimals(notebook):
    """Decimal numbers in the prose that no compared cell printed and no code states."""
    text = re.sub(
        r"`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|<[^>]*>|^\|.*\|$", "", "\n".join(prose(notebook)), flags=re.MULTILINE
    )
    numbers = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)", text)
    shown = set(re.findall(r"\d+\.\d+", printed(compared(notebook)) + headings(notebook)[0][1]))
    known = shown | constants(notebook)
    return [number for number in numbers if number not in known]


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
    last = prose(notebook)[-1]
    if re.findall(r"^(\d)\. \S", last, flags=re.MULTILINE) != ["1", "2", "3"]:
        yield "it ends with three sentences"
    for words in ("**References**", "**Next**"):
        if words not in last:
            yield f"the end lacks {words}"


def exercise_problems(notebook):
    """Exercises stand inside the sections: a place, a solution, a check that never raises; the first one early."""
    cells = code(notebook)
    places = [number for number, cell in enumerate(cells) if "# Your turn" in cell.source]
    predictions = [number for number, cell in enumerate(notebook.cells) if "**Predict before you run" in cell.source]
    if len(places) + len(predictions) < 4:
        yield "at least four exercises or written predictions"
    if sum("solution" in tags(cell) for cell in cells) != len(places):
        yield "each exercise has one solution"
    for number in places:
        if not re.search(r"= *\.\.\.", cells[number].source):
            yield "an exercise's place is `answer = ...`"
        after = cells[number + 1 : number + 3]
        if len(after) < 2 or "solution" not in tags(after[0]) or "notebook.check(" not in after[1].source:
            yield "after the place come the solution and notebook.check"
    early = [notebook.cells.index(cells[number]) for number in places] + predictions
    if not early or min(early) > len(notebook.cells) / 2:
        yield "the first exercise stands before the middle"


def problems(notebook):
    """Return what a lesson lacks, a sentence each."""
    found = [*header_problems(notebook), *section_problems(notebook), *exercise_problems(notebook)]
    unknown = {tag for cell in notebook.cells for tag in tags(cell)} - TAGS
    if unknown:
        found.append(f"unknown tags: {sorted(unknown)}")
    ignored = len(code(notebook)) - len(compared(notebook))
    if 4 * ignored > len(code(notebook)):
        found.append("more than a quarter of the outputs are not compared")
    if unprinted_decimals(notebook):
        found.append(f"numbers that no compared cell printed: {unprinted_decimals(notebook)}")
    return found
