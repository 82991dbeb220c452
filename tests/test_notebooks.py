"""What holds for every notebook, present and future. nbval compares the stored outputs beside this file's tests."""

import ast
import base64
import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from papermill.inspection import inspect_notebook
from PIL import Image

from helpers import notebook
from helpers.notebook import ROOT

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECTIONS = ["When it goes wrong", "In production", "Exercises", "Results", "What to remember"]
MEGABYTE = 1_000_000

each = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def read(path):
    return nbformat.read(path, as_version=4)


def tags(cell):
    return cell.metadata.get("tags", [])


def code(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path):
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


def headings(path):
    return re.findall(r"^(#+) (.+)$", "\n".join(prose(path)), flags=re.MULTILINE)


def contract(path):
    return notebook.read_schema(code(path)[0].source)


def compared(path):
    return [cell for cell in code(path) if "nbval-ignore-output" not in tags(cell)]


def printed(cells):
    outputs = [output for cell in cells for output in cell.outputs]
    texts = [output.get("text", "") for output in outputs]
    return "\n".join(texts + [output.get("data", {}).get("text/plain", "") for output in outputs])


def test_there_are_notebooks_and_their_names_are_numbered():
    assert PATHS
    assert notebook.notebooks() == PATHS
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem) for path in PATHS)


# --- as stored ---------------------------------------------------------------------------------------------------


@each
def test_every_code_cell_was_executed_in_order(path):
    assert [cell.execution_count for cell in code(path)] == list(range(1, len(code(path)) + 1))


@each
def test_no_error_no_stderr_and_no_huge_output_is_stored(path):
    for cell in code(path):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            assert len(json.dumps(output)) < MEGABYTE


@each
def test_no_path_of_a_machine_is_stored(path):
    text = path.read_text(encoding="utf-8")
    images = re.compile(r'"image/png": "[^"]*"')
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
def test_every_image_has_alternative_text_that_is_printed_too(path):
    for cell in code(path):
        for output in cell.outputs:
            for kind in output.get("data", {}):
                assert not kind.startswith("image/svg"), "SVG text would be compared"
                if kind.startswith("image/"):
                    alt = output.metadata.get(kind, {}).get("alt", "")
                    assert len(alt) > 20
                    assert alt in " ".join(printed([cell]).split())
                    assert base64.b64decode(output.data[kind])


@each
def test_no_output_widget(path):
    """nbclient answers one on the shell channel, and ipykernel 7 may then miss the next cell and wait forever."""
    sources = "\n".join(cell.source for cell in code(path))
    assert not re.search(r"\binteract(ive|ive_output|_manual)?\(|\bOutput\(", sources)


@each
def test_images_in_prose_have_alternative_text(path):
    assert not re.search(r"!\[\s*\]\(|<img(?![^>]*alt=)", "\n".join(prose(path)))


# --- anatomy -----------------------------------------------------------------------------------------------------


@each
def test_the_header_asks_answers_and_says_how_long_it_takes(path):
    title, answer, *rest = prose(path)[0].split("\n\n")
    assert re.fullmatch(r"# .+\?", title)
    assert len(answer.split()) > 25
    for word in ("**What you will do**", "**What you need**", "**Time**"):
        assert any(part.startswith(word) for part in rest), f"{word} is missing"
    assert re.search(r"\*\*Time\*\*: \d+ minutes to read, \d+ minutes? to run", prose(path)[0])


@each
def test_the_sections_stand_in_order(path):
    levels = [name for level, name in headings(path) if level == "##"]
    assert levels[0] == "Setup"
    places = [levels.index(name) for name in SECTIONS]
    assert places == sorted(places)
    assert places[-1] == len(levels) - 1
    assert [level for level, _ in headings(path)].count("#") == 1


@each
def test_something_is_tried_the_naive_way_first(path):
    assert any("naive way" in name for _, name in headings(path))


@each
def test_it_ends_with_three_sentences_and_a_next_step(path):
    last = prose(path)[-1]
    assert re.findall(r"^(\d)\. \S", last, flags=re.MULTILINE) == ["1", "2", "3"]
    assert "**Next**" in last


@each
def test_each_exercise_has_a_place_a_solution_and_a_check(path):
    kinds = [
        "solution" if "solution" in tags(cell) else "place" if "# Your turn" in cell.source else "other"
        for cell in code(path)
    ]
    exercises = [name for level, name in headings(path) if level == "###" and re.match(r"\d\. ", name)]
    assert 2 <= len(exercises) <= 3
    assert kinds.count("place") == kinds.count("solution") == len(exercises)
    for number, kind in enumerate(kinds):
        if kind == "place":
            assert kinds[number + 1] == "solution"
            assert "assert" in code(path)[number + 2].source, "the cell after the solution checks it"


@each
def test_every_decimal_number_in_the_prose_was_printed_by_a_compared_cell(path):
    text = re.sub(
        r"`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|<[^>]*>|^\|.*\|$", "", "\n".join(prose(path)), flags=re.MULTILINE
    )
    shown = set(re.findall(r"\d+\.\d+", printed(compared(path))))
    numbers = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)", text)
    settings = {str(parameter.default) for parameter in contract(path).values()}
    asked = set(re.findall(r"\d+\.\d+", headings(path)[0][1]))
    bounds = {
        str(node.value) for cell in code(path) for node in ast.walk(parsed(cell)) if isinstance(node, ast.Constant)
    }
    assert [number for number in numbers if number not in shown | settings | bounds | asked] == []


def parsed(cell):
    return ast.parse(re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE))


@each
def test_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", "\n".join(prose(path))):
        if target.startswith("http"):
            continue
        file = path if not target else path.parent / target
        assert file.exists(), target
        if anchor:
            assert anchor in [name.replace(" ", "-") for _, name in headings(file)], anchor


# --- parameters --------------------------------------------------------------------------------------------------


@each
def test_parameters_are_literals_in_the_first_code_cell(path):
    assert [number for number, cell in enumerate(code(path)) if "parameters" in tags(cell)] == [0]
    names = set(contract(path))
    assert {"seed", "results_path"} <= names
    assert any(name.endswith(("_path", "_dir")) for name in names - {"results_path"})


@each
def test_papermill_shows_every_parameter_with_type_and_help(path):
    with contextlib.redirect_stdout(io.StringIO()):
        shown = inspect_notebook(path)
    assert set(shown) == set(contract(path))
    for name, parameter in shown.items():
        assert parameter["inferred_type_name"] in notebook.TYPES, name
        assert len(parameter["help"]) > 10, name


@each
def test_numbers_have_a_range_and_defaults_lie_in_it(path):
    for parameter in contract(path).values():
        if parameter.type in (int, float):
            assert " in " in parameter.accepted, f"{parameter.name} states no range"
        assert parameter.check(parameter.default) == parameter.default


def refused(path):
    """Three requests that no notebook may accept: a misspelt name, a wrong type, a value out of range."""
    number = next(parameter for parameter in contract(path).values() if parameter.type in (int, float))
    return [({f"{number.name}s": 0}, "no parameter"), ({number.name: "abc"}, "takes"), ({number.name: -1e9}, "takes")]


@each
def test_bad_parameters_are_refused_before_a_kernel_starts(path):
    for values, sentence in refused(path):
        with pytest.raises(notebook.ParameterError, match=sentence) as caught:
            notebook.check_parameters(path, values)
        assert "\n" not in str(caught.value)


@each
@pytest.mark.parametrize("number", range(3))
def test_bad_parameters_are_refused_in_the_notebook_too(path, tmp_path, number):
    """papermill alone accepts all three."""
    values, sentence = refused(path)[number]
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(path, tmp_path / "out.ipynb", values, progress_bar=False, cwd=tmp_path)
    assert caught.value.ename == "ParameterError"
    assert sentence in caught.value.evalue
    assert "\n" not in caught.value.evalue
    assert len("".join(caught.value.traceback)) < 300, "Jupyter shows the sentence, not a traceback"


# --- runs --------------------------------------------------------------------------------------------------------


@each
def test_it_runs_from_an_empty_folder_and_reports_what_it_printed(path, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = notebook.run_notebook(path, tmp_path / "out")
    assert run.error == ""
    assert list((tmp_path / "elsewhere").iterdir()) == [], "a notebook leaves nothing where it runs"
    first = next(iter(run.results.values()))
    assert isinstance(first, (int, float))
    assert all(isinstance(value, (int, float, str, bool)) for value in run.results.values())
    for name, value in run.results.items():
        assert re.search(rf"^{name} +{re.escape(str(value))}$", printed(compared(path)), flags=re.MULTILINE), (
            name,
            value,
        )
    assert run.peak_mb < 2500


def write_csv(folder):
    """A small table as readers have them: an index, gaps, a category, a text, a constant, words as labels, a score."""
    rng = np.random.default_rng(0)
    lines = [";age;income;town;score;text;year;label"]
    for row in range(80):
        positive = row % 4 == 0
        age = "" if row % 9 == 0 else f"{rng.normal(50 if positive else 30, 8):.1f}"
        town, label = "Bonn" if row % 2 else "Köln", "yes" if positive else "no"
        score = rng.beta(3, 5) if positive else rng.beta(2, 8)
        text = f"{'gladly' if positive else 'not'} today, says number {row}" if row % 7 else ""
        lines.append(f"{row};{age};{rng.integers(900, 9000)};{town};{score:.4f};{text};2013;{label}")
    (folder / "own.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "own.csv"


def write_images(folder):
    """Photographs of two classes, of many sizes and modes, one on its side."""
    rng = np.random.default_rng(0)
    # So alike that no probability saturates: a small difference between two ways of predicting stays visible.
    for label, low in (("day", 10), ("night", 0)):
        (folder / "own" / label).mkdir(parents=True)
        for number in range(14):
            size = rng.integers(20, 140, 2)
            image = Image.fromarray(rng.integers(low, low + 200, (*size, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 6 if number == 0 else 1
            image.convert(("RGB", "L", "P", "RGBA")[number % 4]).save(
                folder / "own" / label / f"{number}.png", exif=exif
            )
    return folder / "own"


def write_text(folder):
    """Messages, label first; among them an empty one, one that is only punctuation, and one in another script."""
    texts = {
        "ham": ["see you at noon", "thanks for the book", "...", "до завтра"],
        "spam": ["win a prize", "free prize now"],
    }
    lines = [f"{label}\t{texts[label][row % len(texts[label])]} {row}" for row in range(40) for label in texts]
    (folder / "own.txt").write_text("\n".join([*lines, "ham\t ", "ham\t..."]), encoding="utf-8")
    return folder / "own.txt"


def write_pairs(image_dir, mask_dir):
    """Images with masks as readers have them: odd sizes, grey and RGBA, one without an object, one of one pixel."""
    rng = np.random.default_rng(0)
    for made in (image_dir, mask_dir):
        made.mkdir(parents=True)
    for number in range(14):
        height, width = rng.integers(40, 110, 2)
        y, x = np.mgrid[:height, :width]
        labels = np.zeros((height, width), dtype=np.uint8)
        for label in range(1, 6):
            centre, radius = rng.uniform(0, [height, width]), rng.uniform(4, 9)
            labels[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = label
        if number == 0:
            labels[:] = 0
        if number == 1:
            labels[0, 0] = 6
        image = np.clip(60 + 90 * (labels > 0) + rng.normal(0, 20, labels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).convert(("L", "RGBA")[number % 2]).save(image_dir / f"cell {number}.png")
        Image.fromarray(labels).save(mask_dir / f"cell {number}_mask.png")
    return image_dir, mask_dir


def write_annotated(folder):
    """A folder of images and a folder of masks, in one."""
    write_pairs(folder / "own" / "images", folder / "own" / "masks")
    return folder / "own"


def write_probabilities(folder):
    """What a network might have said of those images, as grey pictures."""
    images, masks = write_pairs(folder / "pictures", folder / "own" / "masks")
    (folder / "own" / "probabilities").mkdir()
    for path in images.iterdir():
        Image.open(path).convert("L").point(lambda value: min(255, 2 * max(0, value - 50))).save(
            masks.parent / "probabilities" / path.name
        )
    return folder / "own"


def write_series(folder):
    """Hourly values as readers have them: lines out of order, some missing, a gap, a wrong one, a column of words."""
    rng = np.random.default_rng(0)
    level = 50 + 10 * np.sin(2 * np.pi * np.arange(400) / 24) + rng.normal(0, 1, 400)
    level[100] = 500
    hours = np.datetime64("2013-01-01T00") + np.arange(400)
    lines = [f"{hour};{value:.2f};ok" for hour, value in zip(hours, level, strict=True)]
    lines[250] = f"{hours[250]};;ok"
    del lines[300:303]
    (folder / "own.csv").write_text("\n".join(["time;level;state", *lines[200:], *lines[:200]]), encoding="utf-8")
    return folder / "own.csv"


# Words that stand in the comment of `data_path`, and what they promise.
KINDS = {
    "CSV": write_csv,
    "image folder": write_images,
    "text file": write_text,
    "time series": write_series,
    "`images`": write_annotated,
    "`probabilities`": write_probabilities,
}


# It is the reading that is tried, not how well twenty steps teach.
FEW_STEPS = {"steps": 20}


def own_data(path, kind, folder):
    """Parameters that name data of a kind, or None: what `data_path` takes is said in its comment."""
    declared = contract(path)
    if kind == "pairs":
        if not {"image_dir", "mask_dir"} <= set(declared):
            return None
        image_dir, mask_dir = map(str, write_pairs(folder / "own", folder / "masks"))
        return {"image_dir": image_dir, "mask_dir": mask_dir, **FEW_STEPS}
    if "data_path" not in declared or kind not in declared["data_path"].help:
        return None
    return {"data_path": str(KINDS[kind](folder)), **(FEW_STEPS if "steps" in declared else {})}


@each
@pytest.mark.parametrize("kind", [*KINDS, "pairs"])
def test_it_works_on_the_readers_own_data(path, kind, tmp_path):
    parameters = own_data(path, kind, tmp_path)
    if parameters is None:
        pytest.skip(f"it does not take a {kind}")
    run = notebook.run_notebook(path, tmp_path / "out", parameters)
    assert run.error == ""
    shown = [output.get("text", "") for cell in code(run.output) for output in cell.outputs]
    assert any(re.search(r"^own(\.csv|\.txt)?: \d+ ", text, flags=re.MULTILINE) for text in shown)


@each
def test_scores_from_a_file_need_no_tensorflow(path, tmp_path, monkeypatch):
    if "score_column" not in contract(path):
        pytest.skip("it takes no scores")
    for name in ("tensorflow", "keras"):
        (tmp_path / "blocked").mkdir(exist_ok=True)
        (tmp_path / "blocked" / f"{name}.py").write_text("raise ImportError('not for scores')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "blocked"))
    run = notebook.run_notebook(
        path, tmp_path / "out", {"data_path": str(write_csv(tmp_path)), "score_column": "score"}
    )
    assert run.error == ""


@each
def test_it_runs_under_nbconvert(path, tmp_path):
    # Of nbconvert's HTML templates only the classic one writes the alternative text of images.
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "--template", "classic"]
    command += ["--output-dir", str(tmp_path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    html = (tmp_path / f"{path.stem}.html").read_text(encoding="utf-8")
    assert html.count("<img") == html.count("alt=") > 0
    assert "No description has been provided for this image" not in html


@each
def test_the_copy_for_students_has_no_solutions_and_no_outputs(path, tmp_path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"nbconvert (--to notebook .*?) notebooks/\*\.ipynb", makefile, flags=re.DOTALL)
    options = recipe.group(1).replace("\\\n", " ").replace("build/workshop", str(tmp_path)).split()
    subprocess.run([sys.executable, "-m", "nbconvert", *options, str(path)], check=True, capture_output=True)
    student = read(tmp_path / path.name)
    assert not any("solution" in tags(cell) for cell in student.cells)
    assert not any(cell.get("outputs") for cell in student.cells)
    assert len(student.cells) == len(read(path).cells) - sum("solution" in tags(cell) for cell in code(path))


def test_no_test_names_a_notebook():
    """A new notebook is tested like the others."""
    for file in Path(__file__).parent.glob("test_notebooks.py"):
        assert not any(path.stem in file.read_text(encoding="utf-8") for path in PATHS)
