"""The site as it is built: what each page holds, where its links lead, and that it needs no network."""

import itertools
import json
import re
import shutil
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from helpers.notebook import ROOT
from tools import build_site, generate

NOTEBOOKS = build_site.lessons(ROOT)
# Elements that a browser fetches by itself, and by which attribute.
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """A page's anchors, links, fetched files, descriptions and text."""

    def __init__(self, path):
        super().__init__()
        self.path, self.ids, self.links, self.fetched, self.meta = path, set(), [], [], {}
        self.words, self.open, self.folds = [], [], 0
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())
        self.visible = "".join(self.open)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.folds += tag == "details"
        self.ids.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") in ("canonical", "search", "index", "next", "prev"):
            return
        if found.get(FETCHED.get(tag)):
            self.fetched.append(found[FETCHED[tag]])
        if tag == "meta":
            self.meta[found.get("name") or found.get("property")] = found.get("content")

    def handle_endtag(self, tag):
        self.folds -= tag == "details"

    def handle_data(self, data):
        self.words.append(data)
        if not self.folds:
            self.open.append(data)


@pytest.fixture(scope="module")
def pages(site):
    return {
        path.relative_to(site).as_posix(): Page(path)
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def lesson(request, pages):
    return request.param, nbformat.read(request.param, as_version=4), pages[f"notebooks/{request.param.stem}.html"]


def tagged(notebook, tag):
    return [cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def plain(markdown):
    """Words of prose without its marks, as far as both a page and a cell have them."""
    text = re.sub(r"```.*?```|<[^>]*>|\$[^$]*\$", " ", markdown, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.findall(r"[a-z]{3,}", re.sub(r"[*`_]", "", text).lower())


def test_each_lesson_has_its_answer_its_minutes_and_its_downloads_on_top(site, lesson):
    path, notebook, page = lesson
    answer = plain(tagged(notebook, "result")[0])[:12]
    assert " ".join(answer) in " ".join(plain(page.text))
    header = generate.header(path)
    assert f"{header['read'].split()[0]} minutes to read, {header['run']} to run" in page.text
    for download in (path.name, f"students/{path.name}", f"{path.stem}.py"):
        assert f"../downloads/{download}" in page.links
        assert (site / "downloads" / download).is_file()


def test_no_page_and_no_download_shows_notes_for_teachers(site, pages):
    for page in pages.values():
        # CONTRIBUTING says how such notes are written.
        assert page.path.stem == "CONTRIBUTING" or not re.search(r"For teachers:|Watch for", page.text), page.path
    for path in [*site.glob("downloads/**/*.*"), *site.glob("colab/*")]:
        assert "**For teachers**" not in path.read_text(encoding="utf-8"), path


def test_a_solution_and_what_it_gave_stand_behind_a_click(lesson):
    _, notebook, page = lesson
    html = page.path.read_text(encoding="utf-8")
    assert html.count("<summary>Solution</summary>") == len(tagged(notebook, "solution"))
    others = "".join(cell.source for cell in notebook.cells if "solution" not in cell.metadata.get("tags", []))
    for line in "\n".join(tagged(notebook, "solution")).splitlines():
        assert len(line.strip()) < 15 or line.strip() in others or line.strip() not in page.visible
    shown = [cell for cell in notebook.cells if "instructor" not in cell.metadata.get("tags", [])]
    after_checks = [
        cell.source
        for before, cell in itertools.pairwise(shown)
        if "notebook.check(" in before.source and "result" in cell.metadata.get("tags", [])
    ]
    assert html.count("What came out") == len(after_checks)


def test_a_students_download_holds_no_solution_and_no_output(site, lesson):
    path, notebook, _ = lesson
    copy = nbformat.read(site / "downloads" / "students" / path.name, as_version=4)
    nbformat.validate(copy)
    assert not any(cell.get("outputs") for cell in copy.cells)
    sources = {cell.source for cell in copy.cells}
    assert not sources & {*tagged(notebook, "solution"), *tagged(notebook, "result")}


def test_a_downloaded_script_is_python_with_the_lessons_code(site, lesson):
    path, notebook, _ = lesson
    script = (site / "downloads" / f"{path.stem}.py").read_text(encoding="utf-8")
    compile(script, path.stem, "exec")
    assert script.count("\n# %%\n") == sum(
        cell.cell_type == "code" and "solution" not in cell.metadata.get("tags", []) for cell in notebook.cells
    )


def test_no_page_fetches_anything_from_another_machine(site, pages):
    for name, page in pages.items():
        remote = [address for address in page.fetched if urlsplit(address).scheme not in ("", "data")]
        assert not remote and not any(address.startswith("//") for address in page.fetched), name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_link_and_anchor_on_the_site_leads_somewhere(site, pages):
    dead = defaultdict(list)
    for name, page in pages.items():
        for link in page.links + page.fetched:
            target = urlsplit(link)
            if target.scheme or link.startswith("//") or name == "404.html":
                continue
            file = (page.path.parent / unquote(target.path)).resolve() if target.path else page.path
            there = (
                pages.get(file.relative_to(site.resolve()).as_posix()) if file.is_relative_to(site.resolve()) else None
            )
            if not file.is_file() or (there and target.fragment and unquote(target.fragment) not in there.ids):
                dead[name].append(link)
    assert not dead


def test_every_question_of_the_recipes_can_be_found_and_leads_to_a_section(site, pages):
    script = (site / "_static" / "questions.js").read_text(encoding="utf-8")
    entries = json.loads(script.partition(" = ")[2].rstrip(";\n"))
    asked = {question.replace("`", "") for its in build_site.recipes(ROOT).values() for question, _ in its}
    assert asked and asked <= {entry["text"] for entry in entries}
    for entry in entries:
        page, _, anchor = entry["url"].partition("#")
        assert not anchor or anchor in pages[page].ids, entry


def test_each_lesson_lists_the_questions_that_it_answers(lesson):
    path, _, page = lesson
    for question, _ in build_site.recipes(ROOT)[path.name]:
        assert " ".join(plain(question)) in " ".join(plain(page.text))


def test_previews_describe_each_lesson_by_its_answer(pages, lesson):
    _, notebook, page = lesson
    said = plain(page.meta["description"])
    assert said and said == plain(tagged(notebook, "result")[0])[: len(said)]
    assert page.meta["og:description"] == page.meta["description"]
    assert page.meta["og:title"].replace("’", "'") == re.sub(r"[*`]", "", notebook.cells[0].source[2:].split("\n")[0])
    assert page.meta["og:image"].endswith("_static/pipeline.png")
    assert len({other.meta.get("description") for other in pages.values()}) > len(NOTEBOOKS)


def test_figures_keep_their_alternative_text(lesson):
    _, notebook, page = lesson
    pictures = re.findall(r"<img [^>]*>", page.path.read_text(encoding="utf-8"))
    assert all(re.search(r'alt="[^"]{5,}', picture) for picture in pictures if "data:image" in picture)
    drawn = [output for cell in notebook.cells for output in cell.get("outputs", []) if "<img alt" in str(output)]
    assert sum("data:image" in picture for picture in pictures) == sum(
        str(o).count("<img alt") > 0 and "text/html" in o.get("data", {}) for o in drawn
    )


def test_a_page_that_is_not_there_has_a_page_that_leads_back(pages):
    missing = pages["404.html"]
    assert "not found" in missing.text.lower()
    assert any(link.endswith("index.html") for link in missing.links)


def test_versions_licences_and_how_to_cite_are_told(pages):
    text = pages["docs/about.html"].text
    pins = generate.packages((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    for name, version in (pin.partition(" ")[0].split("==") for pin in pins):
        assert name not in build_site.SHOWN_VERSIONS or re.search(rf"{name} .{{,20}}{re.escape(version)}", text)
    assert "cff-version" in text and "Apache-2.0" in text and "CC BY 4.0" in text


def test_every_module_of_the_packages_has_a_page_with_its_functions(pages):
    for package in ("helpers", "serving"):
        for path in (ROOT / package).glob("[a-z]*.py"):
            assert pages[f"api/{package}.{path.stem}.html"].text
    assert "helpers.decisions.threshold_curve" in pages["api/helpers.decisions.html"].ids


@pytest.fixture
def project(tmp_path):
    """A copy of the project with one lesson, one card and no module, which is quickly built."""
    copy = tmp_path / "project"
    for folder in ("docs", "benchmarks", "datasets/cells"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("*.keras", "*.gz", "evidence"))
    for name in ("pyproject.toml", "requirements.txt", "CITATION.cff", "LICENSE", "LICENSE-prose", "pipeline.png"):
        shutil.copyfile(ROOT / name, copy / name)
    for name in build_site.PAGES:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("# A page\n", encoding="utf-8")
    (copy / "datasets" / "cells" / "README.md").write_text("# A card\n", encoding="utf-8")
    (copy / "docs" / "answers.md").unlink(missing_ok=True)
    shutil.rmtree(copy / "docs" / "workshop", ignore_errors=True)
    (copy / "docs" / "glossary.md").write_text("# Glossary\n\n### AUC\n\nAn area.\n", encoding="utf-8")
    (copy / "docs" / "home.md").write_text(
        "# Home\n\n<!-- site: questions -->\n\n<!-- site: contents -->\n", encoding="utf-8"
    )
    (copy / "notebooks").mkdir()
    row = "| How many? | [80, How many?](../notebooks/80_more.ipynb#How-many?) |"
    (copy / "docs" / "recipes.md").write_text(
        f"# Recipes\n\n| your question | section |\n|---|---|\n{row}\n", encoding="utf-8"
    )
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [
        text("# Why one more?"),
        text("Because.", metadata={"tags": ["result"]}),
        text("**Time**: 5 minutes to read, 2 seconds to run, see [the area](../docs/glossary.md#auc)."),
        text("**For teachers** ask", metadata={"tags": ["instructor"]}),
        text("## How many?"),
        code("1 + 1", execution_count=1, outputs=[nbformat.v4.new_output("stream", text="2\n")]),
    ]
    language = {"language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=language), copy / "notebooks" / "80_more.ipynb")
    return copy


def test_a_lesson_of_a_new_chapter_joins_without_a_change(project, tmp_path):
    site = tmp_path / "out" / "site"
    build_site.build(project, site)
    page, home = Page(site / "notebooks" / "80_more.html"), Page(site / "index.html")
    assert "Because." in page.text and "../docs/glossary.html#auc" in page.links
    assert "notebooks/80_more.html#how-many" in home.links
    assert "Why one more?" in Page(site / "chapters" / "8.html").text
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_a_link_that_leads_nowhere_stops_the_build_and_leaves_the_site_that_was_there(project, tmp_path, capfd):
    site = tmp_path / "out" / "site"
    (site / "kept").mkdir(parents=True)
    recipes = project / "docs" / "recipes.md"
    recipes.write_text(recipes.read_text(encoding="utf-8") + "\n[gone](glossary.md#nowhere)\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="left as it was"):
        build_site.build(project, site)
    assert "nowhere" in capfd.readouterr().err
    assert (site / "kept").is_dir()


def test_the_address_of_the_project_is_set_in_one_place(project):
    settings = project / "pyproject.toml"
    text = settings.read_text(encoding="utf-8").replace("tensor-to-decision/tensor-to-decision", "me/mine")
    settings.write_text(text.replace('branch = "main"', 'branch = "trunk"'), encoding="utf-8")
    row = build_site.links(Path("notebooks/80_more.ipynb"), project)
    assert "https://mybinder.org/v2/gh/me/mine/trunk?urlpath=lab/tree/notebooks/80_more.ipynb" in row
    assert "https://colab.research.google.com/github/me/mine/blob/gh-pages/colab/80_more.ipynb" in row
