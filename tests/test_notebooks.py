"""What holds for every notebook, present and future. nbval compares the stored outputs beside this file's tests."""

import base64
import contextlib
import html
import io
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import anatomy
import nbformat
import papermill
import pytest
from anatomy import code, compared, headings, pictures, printed, prose, tags
from nbconvert import HTMLExporter
from own_data import KINDS, write_pairs
from papermill.inspection import inspect_notebook

from helpers import notebook
from helpers.notebook import ROOT
from tools import lab, run

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MEGABYTE = 1_000_000


def marked(paths):
    return pytest.mark.parametrize("path", paths, ids=[path.stem for path in paths])


each = marked(PATHS)


def read(path):
    return nbformat.read(path, as_version=4)


def schema(path):
    return notebook.read_schema(code(read(path))[0].source)


def test_there_are_notebooks_and_their_names_are_numbered():
    assert PATHS
    assert run.notebooks() == PATHS
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem) for path in PATHS)


# --- as stored ---------------------------------------------------------------------------------------------------


@each
def test_every_code_cell_was_executed_in_order(path):
    cells = code(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@each
def test_no_error_no_stderr_and_no_huge_output_is_stored(path):
    for cell in code(read(path)):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            assert len(json.dumps(output)) < MEGABYTE


def test_notebooks_are_small_on_average():
    assert sum(path.stat().st_size for path in PATHS) < 0.45 * MEGABYTE * len(PATHS)


@each
def test_no_path_of_a_machine_is_stored(path):
    text = path.read_text(encoding="utf-8")
    images = re.compile(r'"image/png": "[^"]*"|data:image/[^"\\]*')
    found = re.findall(r"/(?:home|root|Users|tmp|var|work|mnt|opt)/[\w.]+|[A-Z]:\\\\\\\\?\w+", images.sub("", text))
    assert not found


@each
def test_the_notebook_is_as_the_formatter_leaves_it(path):
    """What differs from run to run is not stored: see tools/store.py."""
    metadata = read(path).metadata
    assert set(metadata) == {"kernelspec", "language_info"}
    assert metadata.kernelspec.name == "python3"
    assert all(set(cell.metadata) <= {"tags"} for cell in read(path).cells)


@each
def test_every_figure_has_alternative_text_in_the_page_and_in_plain_text(path):
    for cell in code(read(path)):
        for output in cell.outputs:
            data = output.get("data", {})
            assert not any(kind.startswith("image/") for kind in data), "a figure is shown by plots.show"
            for picture in pictures(data.get("text/html", "")):
                alt = re.search(r'\balt="([^"]{20,})"', picture)
                assert alt, picture[:200]
                assert base64.b64decode(re.search(r"base64,([^\"']+)", picture).group(1))
                assert html.unescape(alt.group(1)) == data["text/plain"].strip()
                assert data["text/plain"].strip() in " ".join(printed([cell]).split())
            assert not data.get("text/plain", "").startswith("<pandas.io.formats.style"), "a table has a plain text"


@each
def test_no_output_widget(path):
    """nbclient answers one on the shell channel, and ipykernel 7 may then miss the next cell and wait forever."""
    sources = "\n".join(cell.source for cell in code(read(path)))
    assert not re.search(r"\binteract(ive|ive_output|_manual)?\(|\bOutput\(", sources)


@each
def test_images_in_prose_have_alternative_text(path):
    assert not re.search(r"!\[\s*\]\(|<img(?![^>]*alt=)", "\n".join(prose(read(path))))


@each
def test_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", "\n".join(prose(read(path)))):
        if target.startswith(("http", "attachment:")):
            continue
        file = path if not target else path.parent / target
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            titles = anatomy.headings_of(file.read_text(encoding="utf-8"))
            assert anchor in [anatomy.slug(name) for _, name in titles], anchor
        elif anchor:
            assert anchor in [name.replace(" ", "-") for _, name in headings(read(file))], anchor


# --- anatomy -----------------------------------------------------------------------------------------------------


@each
def test_every_decimal_number_in_the_prose_was_printed_by_a_compared_cell(path):
    assert anatomy.unprinted_decimals(read(path)) == []


@each
def test_a_lesson_has_what_a_lesson_is_made_of(path):
    assert anatomy.problems(read(path)) == []


TERMS = ("threshold", "precision", "accuracy", "prevalence", "bootstrap")


WRONG = """\
**For teachers**: common wrong answers.

| typed | the check says |
|---|---|
| `NAME = 2` | `NAME` is not right yet: you gave 2. |
| `NAME = 2 \\| 4` | `NAME` is not right yet: you gave …. |"""
NOTE = "**For teachers**: ask first.\n\n" + "\n\n".join(f"**{label}**: x." for label in anatomy.LABELS)


def exercise(name):
    text, cell = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    return [
        text("<details><summary>Hint</summary>One.</details>"),
        cell(f"# Your turn\n{name} = ..."),
        cell(f"{name} = 1", metadata={"tags": ["solution"]}),
        cell(f"notebook.check({name}, lambda a: a == 1)"),
        text(WRONG.replace("NAME", name), metadata={"tags": ["instructor"]}),
    ]


def sample():
    """The smallest lesson there can be."""
    text, cell = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    quarter = [nbformat.v4.new_output("stream", name="stdout", text="0.25\n")]
    picture = [nbformat.v4.new_output("display_data", {"text/html": "<img alt='bars'>"})]
    head = "**After this lesson you can** x\n\n**You need** y\n\n**Time**: 20 minutes to read, 9 seconds to run"
    cells = [
        text("# How many?"),
        text("One in four: 0.25.", metadata={"tags": ["result"]}),
        text(head),
        text(NOTE, metadata={"tags": ["instructor"]}),
        text("The naive way: " + ", ".join(f"[**{term}**](../docs/glossary.md#{term})" for term in TERMS)),
        cell("plots.show(bars)", outputs=picture),
        *[made for name in "abcd" for made in exercise(name)],
        cell("print(1 / 4)", outputs=quarter),
        text("\n\n".join(f"## {name}" for name in anatomy.SECTIONS)),
        cell("notebook.open_exercises()"),
        text("1. a\n2. b\n3. c\n\n**References**: [d](https://d.org), 10.1109/5.771073. **Next**: e."),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_the_smallest_lesson_is_one():
    assert anatomy.problems(sample()) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("How many?", "How many", "title is a question"),
        ("in four: 0.25", "in four: 0.26", "numbers that no compared cell printed"),
        ("**You need**", "", "lacks **You need**"),
        ("20 minutes", "some time", "minutes to read"),
        ("**For teachers**: ask", "Ask", "begins with **For teachers**"),
        ("**Fast pairs**", "", "the first note for teachers has, in this order"),
        ("| `a = 2` |", "| a = 2 |", "a table of two or more common wrong answers"),
        ("naive way", "usual way", "no section shows the naive way"),
        ("[**bootstrap**]", "[bootstrap]", "at least five standard terms"),
        ("#bootstrap", "#boots", "terms that the glossary lacks: ['boots']"),
        ("plots.show(bars)", "bars", "shown by plots.show"),
        ("a = ...", "a = 1", "place is"),
        ("# Your turn\na", "a", "at least four exercises"),
        ("<details>", "", "a hint"),
        ("notebook.check(a", "assert(a", "after the place come"),
        ("a = 1", "a = 1\nb = 1", "what a student writes is read elsewhere: ['b']"),
        ("print(1 / 4)", "print(a)", "what a student writes is read elsewhere: ['a']"),
        ("print(1 / 4)", "def f(b):\n    return [a for b in b]", "what a student writes is read elsewhere: ['a']"),
        ("print(1 / 4)", "x = 0.25\n" * 40, "a tenth is meant, 8 % are the least"),
        ("## In production", "", "sections are missing"),
        ("## Results\n\n## What to remember", "## What to remember\n\n## Results", "another order"),
        ("notebook.open_exercises()", "pass", "the last code cell"),
        ("3. c", "", "three sentences"),
        ("**References**", "", "lacks **References**"),
        ("10.1109/5.771073", "Chow (1970)", "at least two works"),
    ],
)
def test_what_a_lesson_lacks_is_named(old, new, message):
    lesson = sample()
    cell = next(cell for cell in lesson.cells if old in cell.source)
    cell.source = cell.source.replace(old, new)
    assert any(message in problem for problem in anatomy.problems(lesson)), anatomy.problems(lesson)


@pytest.mark.parametrize(
    ("old", "tag", "message"),
    [
        ("One in four", [], "tagged result"),
        ("For teachers", [], "the first note for teachers has"),
        ("plots.show", ["instructor"], "is prose"),
        ("a = 1", [], "one solution"),
        ("", ["nbval-ignore-output"], "more than a quarter"),
        ("How many?", ["draft"], "unknown tags: ['draft']"),
    ],
)
def test_a_lesson_with_wrong_tags_is_none(old, tag, message):
    lesson = sample()
    cells = [cell for cell in lesson.cells if old in cell.source]
    for cell in cells if not old else cells[:1]:
        cell.metadata["tags"] = tag
    assert any(message in problem for problem in anatomy.problems(lesson))


def test_a_lesson_whose_exercises_or_figures_come_late_is_none():
    lesson = sample()
    lesson.cells[5:5] = [nbformat.v4.new_markdown_cell("more") for _ in range(30)]
    assert anatomy.problems(lesson) == ["the first exercise stands before the middle"]
    lesson = sample()
    lesson.cells.insert(-2, lesson.cells.pop(5))
    assert anatomy.problems(lesson) == ["the first figure comes among the first ten code cells"]


def test_a_lesson_may_miss_one_aim_of_size_and_not_two():
    lesson = sample()
    lesson.cells[4].source += " word" * 2000
    assert anatomy.problems(lesson) == []
    lesson.cells[5].source += "\n'line'" * 30
    (problem,) = (problem for problem in anatomy.problems(lesson) if problem.startswith("it is two lessons"))
    assert re.search(r"31 lines of the longest cell \(aim: 25\), 20\d\d words \(aim: 1800\)", problem)


def test_names_that_a_cell_sets_or_binds_itself_are_its_own():
    """Arguments, loops and comprehensions of other cells may be called as a student's answer."""
    lesson = sample()
    own = "f = lambda a: a\nfor b in [1]:\n    b\nprint([c for c in range(3)], f(d := 3), x.a)"
    lesson.cells[5].source += f"\n{own}"
    assert anatomy.problems(lesson) == []


# --- parameters --------------------------------------------------------------------------------------------------


@each
def test_parameters_are_literals_in_the_first_code_cell(path):
    cells = code(read(path))
    assert [number for number, cell in enumerate(cells) if "parameters" in tags(cell)] == [0]
    names = set(schema(path))
    assert {"seed", "results_path"} <= names
    assert any(name.endswith(("_path", "_dir")) for name in names - {"results_path"})


@each
def test_papermill_shows_every_parameter_with_type_and_help(path):
    with contextlib.redirect_stdout(io.StringIO()):
        shown = inspect_notebook(path)
    assert set(shown) == set(schema(path))
    for name, parameter in shown.items():
        assert parameter["inferred_type_name"] in notebook.TYPES, name
        assert len(parameter["help"]) > 10, name


@each
def test_numbers_have_a_range_and_defaults_lie_in_it(path):
    for parameter in schema(path).values():
        if parameter.type in (int, float):
            assert " in " in parameter.accepted, f"{parameter.name} states no range"
        assert parameter.check(parameter.default) == parameter.default


def refused(path):
    """Three requests that no notebook may accept: a misspelt name, a wrong type, a value out of range."""
    number = next(parameter for parameter in schema(path).values() if parameter.type in (int, float))
    return [({f"{number.name}s": 0}, "no parameter"), ({number.name: "abc"}, "takes"), ({number.name: -1e9}, "takes")]


@each
def test_bad_parameters_are_refused_before_a_kernel_starts(path):
    for values, message in refused(path):
        with pytest.raises(notebook.ParameterError, match=message) as caught:
            notebook.check_parameters(path, values)
        assert "\n" not in str(caught.value)


@each
def test_the_parameters_are_checked_in_the_notebook_too(path):
    assert "notebook.setup(globals()" in code(read(path))[1].source


@each
def test_it_says_what_to_type_where_the_packages_are_not_found(path, monkeypatch):
    source = code(read(path))[1].source
    imports = source[: source.index("notebook.setup(")].split("\nif ")[0]
    for name in [name for name in sys.modules if name.split(".")[0] in ("helpers", "serving")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"^helpers is missing: use `make lab`, or type"):
        exec(imports, {})


@pytest.mark.whole_run
@pytest.mark.parametrize("number", range(3))
def test_bad_parameters_are_refused_in_a_kernel(tmp_path, number):
    """papermill alone accepts all three."""
    values, message = refused(PATHS[0])[number]
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(PATHS[0], tmp_path / "out.ipynb", values, progress_bar=False, cwd=tmp_path)
    assert caught.value.ename == "ParameterError"
    assert message in caught.value.evalue
    assert "\n" not in caught.value.evalue
    assert len("".join(caught.value.traceback)) < 300, "Jupyter shows the message, not a traceback"


# --- runs --------------------------------------------------------------------------------------------------------


def own_data(path, folder):
    """Parameters that name a reader's data: what `data_path` takes is said in its comment. Few steps: the reading is
    tried, not how well they teach."""
    declared = schema(path)
    few = {"steps": 20} if "steps" in declared else {}
    if {"image_dir", "mask_dir"} <= set(declared):
        image_dir, mask_dir = map(str, write_pairs(folder / "own", folder / "masks"))
        return {"image_dir": image_dir, "mask_dir": mask_dir, **few}
    if "ray_address" in declared and find_spec("ray") is None:
        return {}  # Without Ray it shows a stored run, which is not of the reader's data.
    for kind, write in KINDS.items():
        if "data_path" in declared and kind in declared["data_path"].help:
            return {"data_path": str(write(folder)), **few}
    return {}


@pytest.mark.whole_run
@each
def test_it_runs_from_an_empty_folder_on_the_readers_own_data(path, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    parameters = own_data(path, tmp_path)
    done = run.run_notebook(path, tmp_path / "out", parameters)
    assert done.error == ""
    assert list((tmp_path / "elsewhere").iterdir()) == [], "a notebook leaves nothing where it runs"
    assert isinstance(next(iter(done.results.values())), (int, float))
    shown = printed(code(read(done.output)))
    for name, value in done.results.items():
        assert re.search(rf"^{name} +{re.escape(str(value))}$", shown, flags=re.MULTILINE), (name, value)
    if parameters:
        assert re.search(r"^own(\.csv|\.txt|\.parquet)?: \d+ ", shown, flags=re.MULTILINE)
    assert done.peak_mb < (2500 if "ray_address" in schema(path) else 1700)


@each
def test_the_results_are_printed_in_a_compared_cell(path):
    (cell,) = (cell for cell in compared(read(path)) if "notebook.write_results(" in cell.source)
    assert re.search(r"^\w+ +\S+$", printed([cell]), flags=re.MULTILINE)


@each
def test_it_renders_with_alternative_texts_and_without_a_remote_address(path):
    # The template's own scripts come from a CDN; what is asked here is whether the notebook brings an address.
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    body, _ = exporter.from_filename(str(path))
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures(body))
    assert "No description has been provided for this image" not in body
    assert not re.search(r'(src|<link[^>]* href)="(https?:)?//', body)


@pytest.mark.whole_run
def test_a_notebook_runs_under_nbconvert(tmp_path):
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "--output-dir", str(tmp_path)]
    done = subprocess.run([*command, str(PATHS[0])], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / f"{PATHS[0].stem}.html").exists()


@each
def test_the_copy_for_students_has_no_solutions_and_no_outputs(path):
    student = nbformat.from_dict(lab.for_student(read(path)))
    nbformat.validate(student)
    hidden = {"solution", "instructor", "result"}
    assert not any(hidden & set(tags(cell)) or cell.get("outputs") for cell in student.cells)
    assert len(student.cells) == sum(not hidden & set(tags(cell)) for cell in read(path).cells)


def told(stored, student):
    """What a student's copy tells: lines of solutions and stated results, and where a hint holds more than one line."""
    page = "\n".join("".join(cell["source"]) for cell in student["cells"])
    outside_hints, before, found = re.sub(r"(?s)<details>.*?</details>", "", page), set(), []
    for cell in stored.cells:
        lines = {line.strip() for line in cell.source.splitlines()}
        if "solution" in tags(cell):
            own = {line for line in lines - before if len(line) >= 15 and re.search(r"[=(]", line)}
            there = sorted(line for line in own if line in page)
            found += [line for line in there if line in outside_hints or len(there) > 1]
        elif "result" in tags(cell):
            found += [line for line in lines if line and line in page]
        else:
            before |= lines
    return found


@each
def test_the_copy_for_students_tells_no_answer_and_no_stated_result(path):
    stored = read(path)
    assert told(stored, lab.for_student(stored)) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("One.", "`calls = 80 + 0 * rows`", 0),
        ("One.", "`calls = 80 + 0 * rows`, `less = calls / 2 - 40`", 2),
        ("print(1 / 4)", "calls = 80 + 0 * rows", 1),
        ("1. a", "One in four: 0.25.", 1),
    ],
)
def test_a_hint_may_tell_one_line_of_a_solution_and_the_rest_of_a_copy_none(old, new, found):
    lesson = sample()
    next(
        cell for cell in lesson.cells if "solution" in tags(cell)
    ).source = "calls = 80 + 0 * rows\nless = calls / 2 - 40"
    assert told(lesson, lab.for_student(lesson)) == []
    cell = next(cell for cell in lesson.cells if old in cell.source)
    cell.source = cell.source.replace(old, new)
    assert len(told(lesson, lab.for_student(lesson))) == found


def wrong_answers(stored):
    """For the id of each check, the rows of the teacher's table below it."""
    check, found = "", {}
    for cell in stored.cells:
        if "notebook.check(" in cell.source:
            check = cell.id
        elif "instructor" in tags(cell) and lab.wrong_answers(cell.source):
            found[check] = lab.wrong_answers(cell.source)
    return found


def type_wrong_answers(student, tables):
    """Put before each check a cell for each wrong answer, the check after it, and then the place's dots again."""
    cells = []
    for cell in student.cells:
        if "# Your turn" in cell.source:
            dots = "\n".join(re.findall(r"^[\w, ]+ = \.\.\..*$", cell.source, flags=re.MULTILINE))
        for number, (typed, _) in enumerate(tables.get(cell.id, [])):
            cells.append(nbformat.v4.new_code_cell(typed))
            cells.append({**cell, "id": f"{cell.id}-wrong-{number}"})
            cells.append(nbformat.v4.new_code_cell(dots))
        cells.append(cell)
    student.cells = [nbformat.from_dict(cell) for cell in cells]


def like(says):
    """A pattern of what a check says, in which … stands for anything."""
    return ".*".join(map(re.escape, says.split("…")))


@pytest.mark.whole_run
@each
def test_a_students_copy_runs_to_the_end_and_names_every_exercise_as_open(path, tmp_path):
    """On the way, common wrong answers are typed: each check says what the teacher's table states."""
    stored, student = read(path), nbformat.from_dict(lab.for_student(read(path)))
    type_wrong_answers(student, tables := wrong_answers(stored))
    nbformat.write(student, tmp_path / path.name)
    done = run.run_notebook(tmp_path / path.name, tmp_path / "out")
    assert done.error == ""
    exercises = len(anatomy.places(stored))
    assert f"{exercises} of {exercises} exercises are open: " in printed(code(read(done.output))[-1:])
    said = {cell.id: printed([cell]) for cell in code(read(done.output))}
    for check, rows in tables.items():
        for number, (typed, says) in enumerate(rows):
            told = said[f"{check}-wrong-{number}"].splitlines()
            assert any(re.fullmatch(like(says), line) for line in told), f"{typed} is told {told}, not {says}"


def test_wrong_answers_are_typed_before_the_check_and_the_dots_come_back():
    lesson = sample()
    tables = wrong_answers(lesson)
    assert len(tables) == 4
    assert next(iter(tables.values()))[1] == ("a = 2 | 4", "`a` is not right yet: you gave ….")
    student = nbformat.from_dict(lab.for_student(lesson))
    type_wrong_answers(student, tables)
    nbformat.validate(student)
    sources = [cell.source for cell in student.cells]
    place = sources.index("# Your turn\na = ...")
    assert sources[place + 4] == "a = 2 | 4"
    assert sources[place + 3] == "a = ..."
    assert sources[place + 2] == sources[place + 5] == sources[place + 7] != ""
    assert re.fullmatch(like("`a` is … yet."), "`a` is not right yet.")


def test_no_test_names_a_notebook():
    """A new notebook is tested like the others."""
    for name in ("test_notebooks.py", "anatomy.py"):
        text = (Path(__file__).parent / name).read_text(encoding="utf-8")
        assert not any(path.stem in text for path in PATHS)
