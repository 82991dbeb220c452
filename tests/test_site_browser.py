"""The site as a reader has it: opened from disk, in a real browser, in both themes and at a phone's width."""

import json
from urllib.parse import unquote, urldefrag

import pytest

from helpers.notebook import ROOT

LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
THREE = [LESSONS[0], LESSONS[len(LESSONS) // 2], LESSONS[-1]]
PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1366, "height": 768}
# What somebody may type, and the beginning of the page that answers it.
QUESTIONS = {
    "my probabilities are exactly 1": "notebooks/10_",
    "scikit-learn in TensorFlow Serving": "notebooks/60_",
    "small spots in mask": "notebooks/50_",
    "imbalanced positives": "notebooks/72_",
    "which threshold for costs": "notebooks/20_",
    "other predictions in production than in training": "notebooks/30_",
    "cells touch": "notebooks/43_",
    "load_model refuses my SavedModel": "notebooks/10_",
    "early stopping patience": "notebooks/41_",
    "how do I smooth a forecast": "notebooks/52_",
}
FOUND = """() => ({
    links: [...document.querySelectorAll("a[href]")].map(link => link.href),
    places: [...document.querySelectorAll("[id], a[name]")].map(one => one.id || one.name),
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""


@pytest.fixture(scope="module")
def reader(browser):
    """A context in which no other machine is reached; it notes who is asked, and what the console says."""
    # Without transitions: a colour on its way to another theme is neither theme's.
    context = browser.new_context(viewport=PHONE, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    context.asked, context.said = [], []

    def only_from_disk(route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            context.asked.append(route.request.url)
            route.abort()

    context.route("**/*", only_from_disk)
    context.on("console", lambda message: message.type == "error" and context.said.append(message.text))
    context.on("weberror", lambda error: context.said.append(str(error.error)))
    yield context
    context.close()


@pytest.fixture(scope="module")
def page(reader):
    return reader.new_page()


@pytest.fixture(scope="module")
def visited(site, reader, page):
    """What each page holds, asks and says, opened once at a phone's width."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        # The page for addresses that are not there is made for a server: its own addresses begin at the root.
        if not name.startswith("_static/") and name != "404.html":
            reader.asked.clear()
            reader.said.clear()
            page.goto(path.as_uri(), wait_until="load")
            pages[name] = page.evaluate(FOUND) | {"asked": [*reader.asked], "said": [*reader.said]}
    assert {f"notebooks/{path.stem}.html" for path in LESSONS} <= set(pages)
    return pages


def test_no_page_asks_another_machine(visited):
    assert {name: page["asked"] for name, page in visited.items() if page["asked"]} == {}


def test_no_page_has_an_error_in_the_console(visited):
    assert {name: page["said"] for name, page in visited.items() if page["said"]} == {}


def test_no_page_scrolls_sideways_on_a_phone(visited):
    assert {name: page["wide"] for name, page in visited.items() if page["wide"] > 0} == {}


def test_links_within_the_site_lead_to_a_file_and_to_a_place_that_is_there(visited, site):
    dead = set()
    for name, page in visited.items():
        for link in page["links"]:
            address, anchor = urldefrag(link)
            if not address.startswith("file:"):
                continue
            target = unquote(address.partition("?")[0]).removeprefix(site.as_uri() + "/")
            places = visited[target]["places"] if target in visited else None
            if places is None and not (site / target).is_file():
                dead.add(f"{name}: {target}")
            elif anchor and places is not None and unquote(anchor) not in places:
                dead.add(f"{name}: {target}#{unquote(anchor)}")
    assert sorted(dead) == []
    assert sum(len(page["links"]) for page in visited.values()) > 1000


@pytest.mark.parametrize("typed", QUESTIONS)
def test_the_search_finds_a_question_in_the_readers_words(site, page, typed):
    page.goto((site / "index.html").as_uri())
    page.get_by_label("Your question").fill(typed)
    page.get_by_label("Your question").press("Enter")
    page.wait_for_url("**/search.html?*")
    links = page.locator("ul.found a, #search-results li a")
    links.first.wait_for()
    page.wait_for_timeout(500)
    found = [link.get_attribute("href") for link in links.all()[:10]]
    assert any(QUESTIONS[typed] in address for address in found), found


READ = ["index", *(f"notebooks/{path.stem}" for path in THREE), "docs/glossary"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", READ)
def test_axe_finds_no_serious_violation(site, page, name, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.set_viewport_size(LAPTOP)
    page.emulate_media(color_scheme=theme)
    page.goto((site / f"{name}.html").as_uri(), wait_until="load")
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    violations = axe.run(page).response["violations"]
    page.set_viewport_size(PHONE)
    serious = {
        one["id"]: [node["html"][:200] for node in one["nodes"][:3]]
        for one in violations
        if one["impact"] in {"serious", "critical"}
    }
    assert serious == {}, json.dumps(serious, indent=1)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_solutions_are_closed_and_open_by_keyboard(site, page, path):
    page.goto((site / "notebooks" / f"{path.stem}.html").as_uri())
    folds = page.locator("details", has=page.locator("summary", has_text="Solution"))
    solved = path.read_text(encoding="utf-8").count('"solution"')
    assert folds.count() >= solved > 0
    fold = folds.first
    code = fold.locator("pre").first
    assert not code.is_visible()
    # From what can be reached before it, by Tab alone.
    page.evaluate(
        "name => { const all = [...document.querySelectorAll('a[href], button, input, summary, [tabindex]')]"
        ".filter(one => one.tabIndex >= 0 && one.checkVisibility());"
        " const place = all.findIndex(one => one.tagName === 'SUMMARY' && one.textContent.includes(name));"
        " all[place - 1].focus() }",
        "Solution",
    )
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Solution"
    page.keyboard.press("Enter")
    code.wait_for(state="visible", timeout=5_000)
