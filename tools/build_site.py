"""The site, `make site`: build/site, from the notebooks as they are stored.

    python tools/build_site.py          writes build/site, which opens from disk
    python tools/build_site.py pdf      writes build/tensor-to-decision.pdf, the same pages in one file

The pages that Sphinx reads are prepared in the folders of the project, so that links between its files hold. A new
lesson, dataset card, module or file in docs/ joins without a change.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from docutils.nodes import make_id
from myst_parser.slugs import github_slugify

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.notebook import ENVIRONMENT, ROOT, write_text
from tools import generate, lab
from tools.run import is_core

Cell = dict[str, Any]
SHOWN_VERSIONS = ["tensorflow-cpu", "keras", "scikit-learn", "numpy", "pandas", "scipy", "scikit-image", "jupyterlab"]
# Pages beside docs/ and the lessons, in the order of the side bar.
PAGES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "serving/README.md", "datasets/README.md"]
PDF = Path("build", "tensor-to-decision.pdf")
LONGEST_OUTPUT = 25
LONGEST_DESCRIPTION = 200
LINK = re.compile(r"\]\(([^)\s]+)\)")
RECIPE = re.compile(r"^\| (.+) \| \[.+\]\(\.\./notebooks/([^)#]+)#?([^)]*)\) \|$", flags=re.MULTILINE)


def lessons(project: Path) -> list[Path]:
    """Return the notebooks in their order."""
    return sorted((project / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def recipes(project: Path) -> dict[str, list[tuple[str, str]]]:
    """Return for each notebook's file name its questions, each with the anchor of the section that answers it."""
    found = defaultdict(list)
    for question, name, anchor in RECIPE.findall((project / "docs" / "recipes.md").read_text(encoding="utf-8")):
        found[name].append((question, unquote(anchor)))
    return found


def slug(anchor: str) -> str:
    """Return the anchor of a section on the site from the one that JupyterLab gives it.

    Examples
    --------
    >>> slug("Does-my-machine-work?")
    'does-my-machine-work'
    """
    return github_slugify(unquote(anchor))


def fenced(directive: str, title: str, body: str, *options: str) -> str:
    """Return a MyST directive; four colons, as a body may hold a fence of three."""
    return "\n".join([f"::::{{{directive}}} {title}".rstrip(), *options, "", body, "", "::::"])


# --- a lesson ----------------------------------------------------------------------------------------------------


def lesson_page(path: Path, project: Path) -> dict[str, Any]:
    """Return a notebook as the site shows it: answer and card on top, what a reader should try first folded."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if "instructor" not in lab.tags(cell)]
    answer = "result" in lab.tags(cells[1])
    title, *rest = (dict(cell) for cell in cells)
    top = [title]
    if answer:
        top.append(markdown(fenced("admonition", "The answer", _source(rest.pop(0)), ":class: tip")))
    top += [markdown(fenced("card", "", _source(rest.pop(0)) + "\n\n" + links(path, project)))]
    if questions := recipes(project)[path.name]:
        listed = "\n".join(
            f"- [{question}](#{slug(anchor)})" if anchor else f"- {question}" for question, anchor in questions
        )
        top.append(markdown(fenced("dropdown", "Questions that this lesson answers", listed)))
    described = {**notebook["metadata"], "og:description": description(_source(cells[1]))}
    return {**notebook, "cells": top + list(folded(rest)), "metadata": described}


def folded(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Yield cells: set-up, solutions, checks, and what is said of their results stand behind a click."""
    checked, setup = False, False
    for cell in cells:
        tags, source = lab.tags(cell), _source(cell)
        if cell["cell_type"] == "markdown":
            yield markdown(fenced("dropdown", "What came out", source)) if checked and "result" in tags else cell
            checked = checked and "result" in tags
            continue
        checked = "solution" in tags or "notebook.check(" in source
        if "parameters" in tags:
            yield fold(cell, "Parameters", "hide-input")
        elif "notebook.setup(" in source and not setup:
            setup = True
            yield fold(cell, "Set-up", "hide-input")
        elif checked:
            yield fold(cell, "Solution" if "solution" in tags else "Check", "hide-cell")
        else:
            yield fold(cell, "", *long_output(cell))


def fold(cell: Cell, name: str, *tags: str) -> Cell:
    """Return a code cell with what folds it, and with figures that bring their own caption."""
    metadata = {**cell["metadata"], "tags": [*lab.tags(cell), *tags], "mystnb": {"code_prompt_show": name}}
    return {**cell, "metadata": metadata, "outputs": list(captioned(cell["outputs"]))}


def long_output(cell: Cell) -> list[str]:
    """Return the tag that makes a long printed output scroll."""
    lines = [len("".join(output.get("text", "")).splitlines()) for output in cell["outputs"]]
    return ["scroll-output"] if max(lines, default=0) > LONGEST_OUTPUT else []


def captioned(outputs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield outputs; the text printed below a figure becomes its caption, a widget a sentence."""
    caption = ""
    for output in outputs:
        data = output.get("data", {})
        page = "".join(data.get("text/html", ""))
        printed = " ".join("".join(output.get("text", "")).split())
        if "application/vnd.jupyter.widget-view+json" in data:
            note = "<p><em>Here stands a widget with sliders: run the lesson to move them.</em></p>"
            yield {**output, "data": {"text/html": note}}
        elif page.startswith("<img alt="):
            caption = " ".join("".join(data["text/plain"]).split())
            # A screen reader has read the same words as the picture's alternative text.
            below = f'<figcaption aria-hidden="true">{_escaped(caption)}</figcaption>'
            yield {**output, "data": {"text/html": f"<figure>{page}{below}</figure>"}}
        elif not caption or printed != caption:
            yield output


def links(path: Path, project: Path) -> str:
    """Return the row of a lesson's downloads and launch buttons, as HTML."""
    where = generate.settings(project)
    hub = where["repository"].removeprefix("https://github.com/")
    offered = {
        "Notebook": f"../downloads/{path.name}",
        "Student’s copy": f"../downloads/students/{path.name}",
        "Python script": f"../downloads/{path.stem}.py",
    }
    launched = {
        "Binder": f"https://mybinder.org/v2/gh/{hub}/{where['branch']}?urlpath=lab/tree/notebooks/{path.name}",
        "Colab": f"https://colab.research.google.com/github/{hub}/blob/gh-pages/colab/{path.name}",
    }
    anchors = [f'<a download href="{address}">{name}</a>' for name, address in offered.items()]
    anchors += [f'<a href="{address}">{name}</a>' for name, address in launched.items()]
    return (
        f'<p class="lesson-links"><span>Download:</span> {anchors[0]} {anchors[1]} {anchors[2]}</p>\n\n'
        f'<p class="lesson-links"><span>Open in:</span> {anchors[3]} {anchors[4]} JupyterLab: type '
        f"<code>make lab</code> and open <code>{path.name}</code></p>"
    )


def percent(notebook: dict[str, Any]) -> str:
    """Return a notebook as a Python script in the percent format, which editors and Jupytext read as cells."""
    parts = []
    for cell in notebook["cells"]:
        lines, code = _source(cell).splitlines(), cell["cell_type"] == "code"
        commented = [line if code and not line.startswith(("%", "!")) else f"# {line}".rstrip() for line in lines]
        parts.append("\n".join(["# %%" if code else "# %% [markdown]", *commented]))
    return "\n\n".join(parts) + "\n"


def markdown(source: str) -> Cell:
    """Return a Markdown cell."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _source(cell: Cell) -> str:
    return "".join(cell["source"])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def description(answer: str) -> str:
    """Return what search engines and previews tell of a lesson: the first sentences of its answer.

    Examples
    --------
    >>> description("Use **one** [scaler](x.md). " + "So it goes on. " * 20)
    'Use one scaler. So it goes on. So it goes on. So it goes on. So it goes on. So it goes on. So it goes on. \
So it goes on. So it goes on. So it goes on. So it goes on. So it goes on. So it goes on.'
    """
    text = re.sub(r"[*`]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", answer))
    text = " ".join(text.split())
    if len(text) <= LONGEST_DESCRIPTION:
        return text
    whole, end, _ = text[:LONGEST_DESCRIPTION].rpartition(". ")
    return whole + "." if end else text[:LONGEST_DESCRIPTION].rpartition(" ")[0] + " …"


# --- the other pages ---------------------------------------------------------------------------------------------


def toctree(entries: Sequence[str], *options: str) -> str:
    """Return a table of contents that only the side bar shows."""
    return fenced("toctree", "", "\n".join(entries), ":hidden:", *options)


def chapters(project: Path) -> Iterator[tuple[str, str, list[Path]]]:
    """Yield number, name and lessons of each chapter that has lessons."""
    for number, name in generate.CHAPTERS.items():
        if its := [path for path in lessons(project) if path.name.startswith(number)]:
            yield number, name, its


def chapter_pages(project: Path) -> dict[str, str]:
    """Return a page for each chapter that has lessons, by its name."""
    pages = {}
    for number, name, its in chapters(project):
        entries = [f"{path.stem[:2]} · {generate.header(path)['title']} <../notebooks/{path.stem}>" for path in its]
        pages[f"chapters/{number}"] = f"# {number} · {name}\n\n{lesson_table(its, '../')}\n\n{toctree(entries)}\n"
    return pages


def lesson_table(paths: Sequence[Path], up: str = "") -> str:
    """Return a table of lessons with their questions and minutes."""
    lines = ["| lesson | question | to read | to run |", "|---|---|---|---|"]
    for path in paths:
        found, star = generate.header(path), " ★" if is_core(path) else ""
        link = f"[{found['title']}]({up}notebooks/{path.name})"
        lines.append(f"| {path.stem[:2]}{star} | {link} | {found['read']} | {found['run']} |")
    return "\n".join(lines)


def questions(project: Path) -> str:
    """Return the recipes' questions, a fold for each chapter."""
    parts, known = [], recipes(project)
    for number, name in generate.CHAPTERS.items():
        rows = [
            f"- [{question}](notebooks/{file}{'#' + anchor.replace(' ', '-') if anchor else ''})"
            for file in known
            if file.startswith(number)
            for question, anchor in known[file]
        ]
        if rows:
            parts.append(fenced("dropdown", f"{number} · {name}: {len(rows)} questions", "\n".join(rows)))
    return "\n\n".join(parts)


def all_lessons(project: Path) -> str:
    """Return the table of lessons, by chapter."""
    return "\n\n".join(
        f"### [{number} · {name}](chapters/{number}.md)\n\n{lesson_table(its)}"
        for number, name, its in chapters(project)
    )


def contents(project: Path) -> str:
    """Return the side bar: chapters, then the pages beside them."""
    taught = toctree(list(chapter_pages(project)), ":caption: Lessons")
    found = sorted(path.relative_to(project).with_suffix("").as_posix() for path in (project / "docs").rglob("*.md"))
    teaching = [name for name in found if name.startswith("docs/workshop/")]
    first = ["docs/recipes", "docs/glossary"]
    other = [name for name in found if name not in [*first, *teaching, "docs/home"]]
    beside = [name.removesuffix(".md") for name in PAGES]
    parts = [taught, toctree([*first, *other, *beside, "api/index"], ":caption: Look up")]
    return "\n\n".join([*parts, toctree(teaching, ":caption: Teach")] if teaching else parts)


def versions(project: Path) -> str:
    """Return the table of pinned versions that a reader asks for."""
    pins = generate.packages((project / "requirements.txt").read_text(encoding="utf-8"))
    found = defaultdict(list)
    for pin in pins:
        name, _, version = pin.partition(" ")[0].partition("==")
        found[name].append(version)
    rows = [f"| {name} | {' or '.join(found[name])} |" for name in SHOWN_VERSIONS if name in found]
    return "\n".join(["| package | version |", "|---|---|", *rows])


def api_pages(project: Path) -> dict[str, str]:
    """Return a page for each module of the packages, and the one that lists them."""
    names = [
        f"{package}.{path.stem}"
        for package in ("helpers", "serving")
        for path in sorted((project / package).glob("[a-z]*.py"))
    ]
    pages = {
        f"api/{name}": f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n" for name in names
    }
    rows = "\n".join(f"- [{name}]({name}.md)" for name in names)
    pages["api/index"] = f"# Modules\n\nWhat lessons import, from its docstrings.\n\n{rows}\n\n{toctree(names)}\n"
    return pages


def home(project: Path) -> dict[str, str]:
    """Return the first page, and the page of versions, with their places filled."""
    search = (
        '<form class="question" action="search.html" role="search"><input type="search" name="q" '
        'aria-label="Your question" placeholder="Type some words of it"><button>Search</button></form>'
    )
    citation = (project / "CITATION.cff").read_text(encoding="utf-8")
    filled = {
        "search": search,
        "questions": questions(project),
        "lessons": all_lessons(project),
        "contents": contents(project),
        "versions": versions(project),
        "citation": f"```yaml\n{citation}```",
        "pdf": f"All pages are in [one PDF](../{PDF.as_posix()})." if (project / PDF).exists() else "",
    }
    pages = {}
    for name, original in {"index": "home", "docs/about": "about"}.items():
        text = (project / "docs" / f"{original}.md").read_text(encoding="utf-8")
        for place, value in filled.items():
            text = text.replace(f"<!-- site: {place} -->", value)
        pages[name] = (
            text.replace("](../", "](").replace("](about.md)", "](docs/about.md)") if name == "index" else text
        )
    return pages


def searchable(project: Path) -> str:
    """Return the script that holds what the field on the first page finds: lessons, questions, terms, other pages."""
    titles = {path.name: generate.header(path)["title"] for path in lessons(project)}
    found = []
    for path in lessons(project):
        top = json.loads(path.read_text(encoding="utf-8"))["cells"][1:3]
        found.append((titles[path.name], f"notebooks/{path.name}", "", path.name[:2], " ".join(map(_source, top))))
    for name, its in recipes(project).items():
        found += [(question, f"notebooks/{name}", section, titles[name], "") for question, section in its]
    for name in ["docs/glossary.md", "docs/about.md", *PAGES]:
        title, *sections = re.findall(r"^##* (.+)$", (project / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        found += [(section, name, section, title, "") for section in sections]
    entries = []
    for text, page, section, where, more in found:
        url = f"{page.rpartition('.')[0]}.html" + (f"#{make_id(section)}" if section else "")
        entries.append({"text": text.replace("`", ""), "url": url, "where": where, "more": more})
    return f"window.QUESTIONS = {json.dumps(entries)};\n"


# --- the whole ---------------------------------------------------------------------------------------------------


def prepare(project: Path, source: Path) -> None:
    """Write what Sphinx reads."""
    cards = [path.relative_to(project).as_posix() for path in sorted((project / "datasets").glob("*/README.md"))]
    docs = [path.relative_to(project).as_posix() for path in (project / "docs").rglob("*.md")]
    pages = {name.removesuffix(".md"): (project / name).read_text(encoding="utf-8") for name in [*PAGES, *cards, *docs]}
    del pages["docs/home"]
    pages["docs/glossary"] = pages["docs/glossary"].replace("\n### ", "\n## ")
    # The badge is a picture of another machine.
    pages["README"] = re.sub(r"\A# .+\n+(\[!\[.+\n)?", "# Run it yourself\n", pages["README"])
    pages["datasets/README"] += "\n" + toctree([name.removeprefix("datasets/").removesuffix(".md") for name in cards])
    for name, text in {**pages, **chapter_pages(project), **api_pages(project), **home(project)}.items():
        write_text(source / f"{name}.md", _led(text, f"{name}.md", project, source))
    for path in lessons(project):
        page = lesson_page(path, project)
        for cell in page["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = _led(_source(cell), f"notebooks/{path.name}", project, source)
        numbered = [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(page["cells"])]
        write_text(source / "notebooks" / path.name, json.dumps({**page, "cells": numbered}))


def _led(text: str, page: str, project: Path, source: Path) -> str:
    """Return a page whose links lead somewhere on the site: to sections, to files copied into it, or to the project."""
    where = generate.settings(project)

    def led(match: re.Match[str]) -> str:
        target, _, anchor = match.group(1).replace("attachment:", "../").partition("#")
        if ":" in target or not target:
            return match.group(0)
        file = (project / page).parent.joinpath(target).resolve()
        if target.endswith(".ipynb") and anchor:
            return f"]({target}#{slug(anchor)})"
        if file.is_dir():
            return f"]({where['repository']}/tree/{where['branch']}/{file.relative_to(project).as_posix()})"
        if file.is_file() and file.suffix not in {".md", ".ipynb"}:
            copied = source / file.relative_to(project)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)
            return f"]({target})"
        return match.group(0)

    return LINK.sub(led, text)


def write_downloads(project: Path, site: Path) -> None:
    """Write each lesson's downloads; what it links to in the project leads to where that is published."""
    where = generate.settings(project)
    published = f"]({where['repository']}/blob/{where['branch']}/"
    for path in lessons(project):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        reader, student = lab.for_reader(notebook), lab.for_student(notebook)
        colab = generate.for_colab(notebook, path.name)
        texts = {"downloads": reader, "downloads/students": student, "colab": colab}
        for folder, copy in texts.items():
            write_text(
                site / folder / path.name,
                json.dumps(copy, indent=1, ensure_ascii=False).replace("](../", published) + "\n",
            )
        write_text(site / "downloads" / f"{path.stem}.py", percent(reader).replace("](../", published))


def sphinx(project: Path, work: Path, builder: str) -> Path:
    """Run Sphinx in a folder with what it reads, and return what it wrote; exit if anything is amiss."""
    options = ["-b", builder, "-W", "--keep-going", "-q", "-j", "2", "-c", project / "docs", "-d", work / "trees"]
    command = [sys.executable, "-m", "sphinx", *map(str, [*options, work / "source", work / builder])]
    if subprocess.run(command, cwd=project, env={**os.environ, **ENVIRONMENT}, check=False).returncode:
        sys.exit("The site was not built: see the sentences above. What was there is left as it was.")
    return work / builder


def build(project: Path = ROOT, site: Path = ROOT / "build" / "site") -> None:
    """Write the site whole or not at all."""
    work = site.with_name(f"{site.name}-work")
    shutil.rmtree(work, ignore_errors=True)
    prepare(project, work / "source")
    fresh = sphinx(project, work, "html")
    write_downloads(project, fresh)
    write_text(fresh / "_static" / "questions.js", searchable(project))
    shutil.copyfile(project / "pipeline.png", fresh / "_static" / "pipeline.png")
    shutil.rmtree(site, ignore_errors=True)
    fresh.rename(site)
    shutil.rmtree(work)


def print_pdf(project: Path = ROOT) -> None:
    """Print all pages as one file; exit where there is no browser that prints."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("Chromium prints the PDF and is missing: on Debian, type `apt-get install chromium`.")
    target = project / PDF
    work = target.with_name("pdf-work")
    shutil.rmtree(work, ignore_errors=True)
    prepare(project, work / "source")
    whole = sphinx(project, work, "singlehtml") / "index.html"
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(whole.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(fold => (fold.open = true))")
        page.evaluate("window.MathJax && MathJax.startup.promise")
        page.pdf(path=work / target.name, format="A4", outline=True, tagged=True)
        browser.close()
    os.replace(work / target.name, target)
    shutil.rmtree(work)


def main(arguments: Sequence[str]) -> None:
    """Build, and say where it is."""
    if list(arguments) == ["pdf"]:
        print_pdf()
        print(f"==> all pages in one file: {ROOT / PDF}; the next `make site` offers it")
        return
    build()
    print(f"==> the site is in build/site: open {ROOT / 'build' / 'site' / 'index.html'}")


if __name__ == "__main__":
    main(sys.argv[1:])
