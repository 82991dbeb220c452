"""The files around the code: the lock, what is generated, cards, links, and the sanitizing of outputs."""

import ast
import itertools
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution

import nbformat
import numpy as np
import pytest
import yaml
from anatomy import code, headings_of, printed, prose, slug
from nbval.plugin import get_sanitize_patterns
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from helpers import data
from helpers.notebook import ROOT
from tools import generate, store

LOCKS = {name: (ROOT / name).read_text(encoding="utf-8") for name, _ in generate.LOCKS.values()}
LOCK = LOCKS["requirements.txt"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PINS = {name: [Requirement(pin) for pin in generate.packages(text)] for name, text in LOCKS.items()}
# Any of these brings TensorFlow's files: two of them in one environment overwrite each other.
TENSORFLOWS = {"tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel", "tf-nightly"}
# Each of these requires a distribution of its own choice.
BRING_ONE = {"tf-keras", "tensorflow-serving-api", "tensorflow-text", "keras-hub", "tensorflow-hub"}


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_with_hashes_and_no_index_is_named(name):
    blocks = generate.packages(LOCKS[name])
    assert len(blocks) == len(re.findall(r"^[A-Za-z0-9]", LOCKS[name], flags=re.MULTILINE)) > 10
    assert all(re.match(r"\S+==\S+", pin) and "--hash=sha256:" in block for pin, block in blocks.items())
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|file:", LOCKS[name])


def test_pip_too_accepts_the_lock_on_this_python():
    """uv heeds no upper bound of a package's Python; pip, by which conda, Binder and Colab install, refuses it."""
    refused = [
        str(pin)
        for pin in PINS["requirements.txt"]
        if (pin.marker is None or pin.marker.evaluate())
        and not SpecifierSet(distribution(pin.name).metadata.get("Requires-Python", "")).contains(
            platform.python_version()
        )
    ]
    assert refused == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    ("sys_platform", "machine", "build"),
    [("linux", "x86_64", "tensorflow-cpu"), ("win32", "AMD64", "tensorflow-cpu"), ("darwin", "arm64", "tensorflow")],
)
def test_the_locks_together_serve_each_platform_with_one_tensorflow(python, sys_platform, machine, build):
    here = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": sys_platform,
        "platform_machine": machine,
        "platform_system": {"linux": "Linux", "win32": "Windows", "darwin": "Darwin"}[sys_platform],
        "os_name": "nt" if sys_platform == "win32" else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    pins = {str(pin): pin for lock in PINS.values() for pin in lock}.values()
    names = [name for name, _ in {(p.name, str(p.specifier)) for p in pins if not p.marker or p.marker.evaluate(here)}]
    assert len(names) == len(set(names)), "one version of each"
    assert [name for name in names if name in TENSORFLOWS] == [build]
    assert not BRING_ONE & set(names)


def test_every_declared_package_is_in_its_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    base = {pin.name for pin in PINS["requirements.txt"]}
    for extra, (lock, _) in generate.LOCKS.items():
        declared = {Requirement(line).name for line in extras[extra]} - {project["name"]}
        assert declared <= base | {pin.name for pin in PINS[lock]}
    assert {Requirement(line).name for line in [*project["dependencies"], *extras["tensorflow"]]} <= base


@pytest.mark.parametrize("name", [name for name, _ in generate.LOCKS.values()])
def test_uv_accepts_a_lock_under_the_settings_of_pyproject(name, tmp_path):
    """A constraint there has no hash, and an empty .venv is refused; one that is full is not, so no `make` sees it."""
    options = ["--dry-run", "--no-index", "--target", tmp_path, "--require-hashes"]
    locks = ["-r", "requirements.txt", *(["-r", name] if name != "requirements.txt" else [])]
    command = [sys.executable, "-m", "uv", "pip", "install", *map(str, options), *locks]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "index lookups were disabled" in done.stderr, "this is what stops it, for nothing is downloaded here"
    assert "hashes" not in done.stderr


def test_environment_yml_has_the_pins_of_the_lock():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert text == generate.environment_yml(LOCK), "run: python tools/generate.py"
    (pip,) = (entry["pip"] for entry in yaml.safe_load(text)["dependencies"] if isinstance(entry, dict))
    assert pip[-1] == "-e ."
    assert {str(Requirement(line)) for line in pip[:-1]} == {str(pin) for pin in PINS["requirements.txt"]}


def test_what_is_generated_is_as_its_sources_say():
    assert generate.with_table(README) == README, "run: python tools/generate.py"
    assert generate.notebook_table() in README


def test_readme_is_short_and_its_commands_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE)
    mentioned = re.findall(r"(?:^|`)make(?: ([a-z-]+))?", README, flags=re.MULTILINE)
    assert {"run", "all", "test", "test-fast", "lab", "lab-edit", "store", "evidence", "clean"} <= set(targets)
    assert {name for name in mentioned if name} <= set(targets)
    assert targets[0] == "run", "the default"
    assert set(re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE).group(1).split()) == set(targets)
    assert set(targets) <= set(re.findall(r"^#   make ([a-z-]+)", makefile, flags=re.MULTILINE))
    assert len(README.splitlines()) <= 150


def test_ci_makes_sure_of_a_browser_and_calls_the_test_command_of_readme():
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "exec make test"
    assert lines[:-1] == [
        'cd "$(dirname "$0")/.." || exit 1',
        "command -v chromium >/dev/null || { apt-get update -q && apt-get install -qy chromium; } || exit 1",
        "export CI=true",
    ]


DOCS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", "datasets/README.md", "benchmarks/README.md", "serving/README.md", *DOCS],
)
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        file = (ROOT / name).parent / target if target else ROOT / name
        assert file.exists(), target
        if anchor and file.suffix == ".ipynb":
            cells = nbformat.read(file, as_version=4).cells
            titles = [title for _, title in headings_of("\n".join(cell.source for cell in cells))]
            assert anchor in [title.replace(" ", "-") for title in titles], anchor
        elif anchor:
            assert anchor in [slug(title) for _, title in headings_of(file.read_text(encoding="utf-8"))], anchor


def test_the_recipes_and_the_first_lesson_lead_to_every_notebook():
    recipes = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    start = "\n".join(prose(nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)))
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert f"(../notebooks/{path.name}#" in recipes, path.name
        assert f"({path.name})" in start or path.stem == "00_start_here", path.name


def test_each_of_the_fifteen_published_examples_has_a_question_what_happens_and_a_section_that_answers_it():
    """That each link leads to its section, the test of all documents holds."""
    text = (ROOT / "docs" / "answers.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if re.match(r"\| \d, ", line)
    ]
    assert len(rows) == 15
    for example, question, happens, answer in rows:
        assert question.endswith("?"), example
        assert re.match(r"It (stops|runs|is built)", happens), example
        assert re.fullmatch(r"(\[[^]]+\]\(\.\./notebooks/\d\d_\w+\.ipynb#[^)\s]+\)(, |$))+", answer), example
    stops = sum(happens.startswith("It stops") for _, _, happens, _ in rows)
    assert stops == 8 and "eight stop with an error" in " ".join(text.split())


LESSON = r"\[(\d\d)\]\(\.\./notebooks/\d\d_\w+\.ipynb\)"


def glossary_problems(text, lessons):
    """Entries are sorted, stand once, say something, and lead to lessons (text by number) in which the term stands."""
    terms = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    entries = re.split(r"^### .+$", text, flags=re.MULTILINE)[1:]
    if terms != sorted(terms, key=str.casefold):
        yield "the terms stand in alphabetical order"
    if len({slug(term) for term in terms}) < len(terms):
        yield "a term stands once"
    for term, entry in zip(terms, entries, strict=True):
        said = " ".join(re.sub(LESSON, "", entry).split())
        if len(said.split()) < 6:
            yield f"{term} is explained"
        if not re.search(rf"{LESSON}$", entry.strip()):
            yield f"{term} leads to a lesson"
        names = [term, *re.split(r"[,;()]+ *", said.partition("Also: ")[2].rstrip("., "))]
        named = "|".join(re.escape(name) for name in names if name)
        for number in re.findall(LESSON, entry):
            if not re.search(rf"(?<!\w)({named})(s|es)?(?!\w)", lessons.get(number, ""), flags=re.IGNORECASE):
                yield f"{term} stands in {number}, to which it leads"


def test_the_glossary_is_in_order_says_something_of_each_term_and_leads_where_it_is_used():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    lessons = {}
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        lessons[path.name[:2]] = "\n".join([*prose(notebook), printed(code(notebook))])
    assert list(glossary_problems(text, lessons)) == []
    assert text.count("\n### ") > 30


def test_what_a_glossary_lacks_is_named():
    link, other = "[20](../notebooks/20_decisions.ipynb)", "[21](../notebooks/21_calibration.ipynb)"
    entries = {
        "recall": f"A share. {link}",
        "Recall": "One two three four five six.",
        "AUC": link,
        "miss": f"One two three four five six. Also: false negative (FN), error. {link}, {other}",
        "test set": f"One two three four five six. Also: test\nrows. {link}",
    }
    text = "\n\n".join(f"### {term}\n\n{said}" for term, said in entries.items())
    lessons = {"20": "Recall, the AUCs, missing values, Test rows, 3 FN", "21": "A miss: false alarm"}
    assert list(glossary_problems(text, lessons)) == [
        "the terms stand in alphabetical order",
        "a term stands once",
        "recall is explained",
        "Recall leads to a lesson",
        "AUC is explained",
    ]
    problems = glossary_problems(text, {"20": "prerecall, AUC, missing values", "21": "errors"})
    assert [problem for problem in problems if "stands in" in problem] == [
        "recall stands in 20, to which it leads",
        "miss stands in 20, to which it leads",
        "test set stands in 20, to which it leads",
    ]


def evidence_problems(folder):
    """A table that took longer than a lesson may lies beside the script that made it, and says how."""
    scripts, tables = ({path.stem for path in folder.glob(f"*.{kind}")} for kind in ("py", "csv"))
    for name in sorted(scripts ^ tables):
        yield f"{name}: a table and its script bear one name"
    for path in sorted(folder.glob("*.csv")):
        lines = path.read_text(encoding="utf-8").splitlines()
        first = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
        missing = [word for word in ("seeds", "budget", "versions", "date") if word not in first]
        if missing:
            yield f"{path.name}: its first lines, which begin with #, lack {missing}"


def test_evidence_has_its_script_and_names_its_seeds_budget_versions_and_date():
    assert list(evidence_problems(ROOT / "benchmarks" / "evidence")) == []


def test_what_evidence_lacks_is_named(tmp_path):
    whole = "# seeds: 0 to 9\n# budget: 1 minute\n# versions: numpy 2\n# date: 2026-01-01\na,b\n1,2\n"
    for name, text in {"good": whole, "late": f"a,b\n{whole}", "part": whole.replace("# date", "# day")}.items():
        (tmp_path / f"{name}.csv").write_text(text)
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "script.py").touch()
    (tmp_path / "table.csv").write_text(whole)
    assert list(evidence_problems(tmp_path)) == [
        "script: a table and its script bear one name",
        "table: a table and its script bear one name",
        "late.csv: its first lines, which begin with #, lack ['seeds', 'budget', 'versions', 'date']",
        "part.csv: its first lines, which begin with #, lack ['date']",
    ]


@pytest.mark.parametrize("name", data.names())
def test_a_card_says_what_the_data_are(name):
    card = (ROOT / "datasets" / name / "README.md").read_text(encoding="utf-8")
    facts = dict(re.findall(r"^\| (\w+) \| (.+) \|$", card, flags=re.MULTILINE))
    dataset = data.load(name)
    assert facts["kind"] == dataset.kind
    assert facts["rows"] == str(len(dataset))
    if dataset.kind == "series":
        assert facts["missing"] == f"{np.isnan(dataset.y).sum()} values"
    else:
        positives = sum(int(y.max()) for y in dataset.y) if dataset.kind == "mask" else dataset.y.sum()
        assert facts["positives"] == f"{positives} {dataset.class_names[1]}"
    assert facts["licence"] == dataset.licence
    assert facts["source"]
    for part in ("**Known.**", "**Unknown.**", "**Not to be used to claim**"):
        assert part in card
    row = f"| [{name}]({name}/README.md) | {dataset.kind} | {len(dataset)} | {dataset.licence} |"
    assert row in (ROOT / "datasets" / "README.md").read_text(encoding="utf-8")


def test_what_is_sanitized():
    """nbval drops a pair without a word if it is not written to its liking."""
    text = (ROOT / "tests" / "sanitize.cfg").read_text(encoding="utf-8")
    patterns = get_sanitize_patterns(text)
    assert len(patterns) == len(re.findall(r"^regex", text, flags=re.MULTILINE)) == 3

    def sanitize(line):
        for regex, replacement in patterns:
            line = re.sub(regex, replacement, line)
        return line

    assert sanitize("took 12.5 ms and 3 s") == sanitize("took 7 ms and 0.25 s")
    assert sanitize("<Layer at 0x7f3bc4e91d90>") == sanitize("<Layer at 0x7fd1a2b3c4d5>")
    shown = '<img alt="a" src="data:image/png;base64,{}">'
    assert sanitize(shown.format("AA")) == sanitize(shown.format("BB"))
    assert sanitize("AUC 0.992, 13 of 120 decisions") == "AUC 0.992, 13 of 120 decisions"
    assert sanitize("3 samples") == "3 samples"


def test_a_changed_number_in_a_stored_output_is_noticed(tmp_path):
    """The comparison can fail: the options of `make test`, on a notebook whose stored output is wrong."""
    cells = [
        nbformat.v4.new_code_cell(
            "print(1 + 1)", execution_count=1, outputs=[nbformat.v4.new_output("stream", name="stdout", text="3\n")]
        ),
        nbformat.v4.new_code_cell(
            "import sys\nprint('log', file=sys.stderr)\nprint('took 3 ms')",
            execution_count=2,
            outputs=[nbformat.v4.new_output("stream", name="stdout", text="took 5 ms\n")],
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "wrong.ipynb")
    for name in ("conftest.py", "pyproject.toml", "tests/sanitize.cfg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "pytest", "-n0", "wrong.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr


def test_what_differs_from_run_to_run_is_not_stored():
    output = nbformat.v4.new_output("stream", name="stdout", text="a\n")
    pieces = [output, nbformat.v4.new_output("stream", name="stdout", text="b\n")]
    cell = nbformat.v4.new_code_cell("print()", outputs=pieces, execution_count=9, metadata={"papermill": {"x": 1}})
    injected = nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["injected-parameters"]})
    cleaned = store.clean(nbformat.v4.new_notebook(cells=[injected, cell], metadata={"papermill": {"x": 1}}))
    assert len(cleaned.cells) == 1
    assert cleaned.cells[0].execution_count == 1
    assert cleaned.cells[0].outputs[0].text == "a\nb\n"
    assert "papermill" not in cleaned.metadata
    assert "papermill" not in cleaned.cells[0].metadata


@pytest.mark.parametrize("package", ["helpers", "serving"])
def test_importing_a_package_is_cheap(package):
    """Modules are counted, not seconds."""
    script = f"import sys, {package}; print(*(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "skimage", "matplotlib"} & set(loaded)


@pytest.mark.parametrize(
    "module", ["crossval", "data", "decisions", "estimators", "forecasts", "images", "notebook", "parity"]
)
def test_a_module_that_needs_no_network_imports_no_tensorflow(module):
    script = f"import sys, helpers.{module}; print(*(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "matplotlib"} & set(loaded)


def imported(file):
    """Modules of the project that a file imports, with the private names that it takes from them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize(
    ("package", "forbidden"), [("helpers", "serving|tools|tests|benchmarks"), ("serving", "tools|tests|benchmarks")]
)
def test_arrows_point_one_way_and_at_public_names(package, forbidden):
    """notebooks → serving → helpers → libraries."""
    files = sorted((ROOT / package).glob("*.py"))
    assert files
    for file in files:
        for module, name in imported(file):
            assert not re.match(rf"({forbidden})\b", module), (file.name, module)
            assert not (re.match(r"(helpers|serving)\b", module) and name.startswith("_")), (file.name, name)
