"""The workshop kit: minutes that add up, copies that tell no answer, slides that fit and need no network."""

import json
import re
import shutil
import subprocess
import sys
import zipfile

import nbformat
import pytest

from helpers.notebook import UserError
from tools import slides, wheels, workshop
from tools.lab import tags
from tools.lesson import LINES_A_MINUTE, WORDS_A_MINUTE, Lesson
from tools.run import notebooks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
in_browser = pytest.mark.skipif(
    not CHROMIUM or sys.platform == "win32", reason="Debian's Chromium is missing: apt-get install chromium"
)
LESSONS = [pytest.param(Lesson(path), id=path.name[:2]) for path in notebooks()]
PLANS = workshop.plan_names()


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """The half day, built once."""
    folder = tmp_path_factory.mktemp("workshop") / "half-day"
    workshop.build("half-day", folder)
    return folder


def a_plan(monkeypatch, **changes):
    plan = {"title": "Two", "audience": "two", "goals": ["add"], "minutes": 90, "steps": [{"lesson": "20"}], **changes}
    monkeypatch.setattr(workshop, "_written_plans", lambda: {"two": plan})


# --- minutes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLANS)
def test_a_schedule_ends_when_the_plan_ends_and_no_row_is_empty(name):
    plan = workshop.read_plan(name)
    assert sum(row.minutes for row in plan.rows) == plan.minutes
    assert [row.start for row in plan.rows[1:]] == [row.end for row in plan.rows[:-1]]
    assert all(row.minutes >= 1 for row in plan.rows)
    assert 1.3 <= plan.factor <= 1.8, "less leaves no time for questions; more is another lesson"


def test_a_plan_of_half_a_day_says_when_each_exercise_starts(kit):
    text = (kit / "schedule.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d\d):(\d\d) \| (\d+) \|.*\*\*Exercise\*\*", text, flags=re.MULTILINE)
    taught = [
        stretch for step in workshop.read_plan("half-day").steps for row in step.rows for stretch in row.stretches
    ]
    assert len(rows) == sum(stretch.exercise for stretch in taught) > 8
    minutes = [60 * int(hour) + int(minute) for hour, minute, _ in rows]
    assert minutes == sorted(minutes)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_minutes_of_a_lesson_follow_from_its_text_and_its_header(lesson):
    cells = [cell for cell in lesson.cells if "instructor" not in tags(cell)]
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    code = [c.source for c in cells if c.cell_type == "code" and not {"parameters", "solution"} & set(tags(c))]
    lines = sum(bool(re.match(r"\s*[^\s#]", line)) for source in code for line in source.splitlines())
    reading = words / WORDS_A_MINUTE + lines / LINES_A_MINUTE
    measured = sum(map(lesson.minutes_of, lesson.stretches))
    assert measured == pytest.approx(reading + sum(lesson.minutes), abs=0.5)
    assert reading == pytest.approx(int(re.search(r"(\d+) minutes to read", lesson.head)[1]), abs=5.5)


def test_neighbouring_exercises_are_two_rows(monkeypatch):
    a_plan(monkeypatch, steps=[{"lesson": "00"}])
    rows = workshop.read_plan("two").rows
    last = [row.what for row in rows if row.what.startswith("**Exercise**")][-2:]
    assert last == ["**Exercise**: a schema of your own", "**Exercise**: a sweep"]


def test_sections_that_are_skipped_take_no_minutes_and_are_named_in_schedule_and_guide(kit):
    plan = workshop.read_plan("half-day")
    (step,) = (step for step in plan.steps if step.lesson and step.lesson.number == "20")
    assert step.skip
    for name in step.skip:
        assert not any(name in row.what for row in plan.rows)
        assert name in (kit / "schedule.md").read_text(encoding="utf-8")
        assert f"## {name}\n\n*In this plan" in (kit / "guide" / "20.md").read_text(encoding="utf-8")


def test_what_cannot_be_planned_is_refused_with_a_remedy(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"no plan 'week'; there are: 90min, half-day, full-day, chapter-1, "):
        workshop.read_plan("week")
    a_plan(monkeypatch, minutes=20)
    with pytest.raises(UserError, match=r"the plan two lasts 20 minutes, its steps need 4\d: skip sections"):
        workshop.read_plan("two")
    a_plan(monkeypatch, steps=[{"lesson": "20", "skip": ["Nowhere"]}])
    with pytest.raises(UserError, match=r"20_decisions\.ipynb has no section 'Nowhere'; there are: .*The naive way"):
        workshop.read_plan("two")
    with pytest.raises(UserError, match="PLATFORM is one of windows, linux, macos; got 'amiga'"):
        wheels.wheels(tmp_path, "amiga")


def test_a_kit_that_is_there_is_kept(kit):
    mine = kit / "schedule.md"
    before = mine.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="is there already, perhaps with your changes: move it away first"):
        workshop.build("half-day", kit)
    assert mine.read_text(encoding="utf-8") == before
    assert [path.name for path in kit.parent.iterdir()] == ["half-day"], "what was begun is removed"


def test_without_a_plan_the_plans_are_listed_with_their_minutes(capsys):
    workshop.main([])
    printed = capsys.readouterr().out
    assert re.search(r"^half-day +240 minutes  A saved model", printed, flags=re.MULTILINE)
    assert all(name in printed for name in PLANS)


# --- copies ------------------------------------------------------------------------------------------------------


def secrets(path):
    """Lines of solutions and of stated results that stand nowhere else in the lesson; short ones are no secret."""
    cells = nbformat.read(path, as_version=4).cells
    told = [cell for cell in cells if {"solution", "result"} & set(tags(cell))]
    others = "\n".join(cell.source for cell in cells if not {"solution", "result", "instructor"} & set(tags(cell)))
    lines = [line.strip() for cell in told for line in cell.source.splitlines()]
    return [line for line in lines if len(line) >= 15 and line not in others]


def test_nothing_that_students_get_tells_an_answer(kit):
    with zipfile.ZipFile(kit / "students.zip") as packed:
        texts = {name: packed.read(name).decode("utf-8", "replace") for name in packed.namelist()}
    unpacked = {path.relative_to(kit).as_posix() for path in (kit / "students").rglob("*") if path.is_file()}
    assert {name for name in texts if not name.endswith("/")} == unpacked
    copies = {name: json.loads(text)["cells"] for name, text in texts.items() if name.endswith(".ipynb")}
    assert [name.rpartition("/")[2][:2] for name in sorted(copies)] == ["00", "10", "20", "30"]
    for name, cells in copies.items():
        texts[name] = "\n".join("".join(cell["source"]) for cell in cells)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    everything = "\n".join(texts.values())
    assert "# Your turn" in everything
    answers = [line for path in sorted((kit / "teacher").glob("*.ipynb")) for line in secrets(path)]
    assert len(answers) > 60
    assert [line for line in answers if line in everything] == []
    assert not any(re.search(r"/(tests|guide|teacher)/|recipes|workshop|collect", name) for name in texts)


def test_a_students_copy_has_no_link_that_leads_nowhere(kit):
    for path in (kit / "students" / "notebooks").glob("*.ipynb"):
        sources = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        links = set(re.findall(r"\]\((?!https?:|attachment:|#)([^)#\s]+)", sources))
        assert links and all((path.parent / link).exists() for link in links)


@pytest.mark.whole_run
def test_a_students_folder_runs_a_lesson_and_makes_the_copies_of_make_lab(kit, tmp_path):
    with zipfile.ZipFile(kit / "students.zip") as packed:
        packed.extractall(tmp_path)
    for command in ("tools/lab.py", "tools/run.py 20"):
        done = subprocess.run(
            [sys.executable, *command.split()],
            cwd=tmp_path / "students",
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "students" / "build" / "lab").glob("*.ipynb"))) == 4
    assert "cost_formula_calibrated = 28.56" in done.stdout


def test_the_teachers_copy_is_the_lesson_and_links_of_the_kit_lead_somewhere(kit):
    ours, theirs = (
        nbformat.read(f, as_version=4) for f in (kit / "teacher" / "20_decisions.ipynb", notebooks("20")[0])
    )
    assert [cell.get("outputs") for cell in ours.cells] == [cell.get("outputs") for cell in theirs.cells]
    pages = {page: page.read_text(encoding="utf-8") for page in [*kit.glob("*.md"), *kit.glob("guide/*.md")]}
    for path in kit.glob("teacher/*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        pages[path] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for page, text in pages.items():
        for link in re.findall(r"\]\((?!https?:|attachment:|#)([^)#\s]+)", text):
            assert (page.parent / link).exists() or re.match(r"\d\d_\w+\.ipynb", link), f"{page.name}: {link}"


# --- guide -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["10", "20", "30"])
def test_a_guide_holds_what_stands_in_the_notebook(kit, number):
    lesson, text = Lesson(notebooks(number)[0]), (kit / "guide" / f"{number}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {number} · {lesson.title}\n")
    for note in [lesson.answer, *lesson.objectives, *lesson.notes.values()]:
        assert note in text
    exercises = [stretch for stretch in lesson.stretches if stretch.exercise]
    assert len(exercises) >= 4
    for stretch in exercises:
        assert stretch.first("solution").source in text
        assert stretch.prose in text
        assert stretch.output and stretch.output in text
        assert all(said.replace("|", "\\|") in text for _, said in stretch.wrong)
    assert all(said in text for stretch in lesson.stretches[1:] for said in stretch.results)


# --- slides ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    """The slides of every lesson."""
    folder = tmp_path_factory.mktemp("slides")
    slides.copy_assets(folder / "assets")
    for path in notebooks():
        lesson = Lesson(path)
        minutes = {stretch.title: 5 for stretch in lesson.stretches}
        (folder / f"{lesson.number}.html").write_text(workshop.slide_page(lesson, [], minutes), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def page(decks):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.asked, page.faults = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        yield page
        browser.close()


SHOW_EACH = """() => Reveal.getSlides().map(slide => {
    const at = Reveal.getIndices(slide);
    Reveal.slide(at.h, at.v);
    const shown = [...slide.querySelectorAll("img")];
    return {
        title: slide.querySelector("h1, h2").innerText, below: at.v > 0,
        fits: slide.scrollHeight <= 720 && slide.scrollWidth <= 1280,
        large: shown.every(img => img.naturalWidth > 0 && img.getBoundingClientRect().height >= 250),
        described: shown.every(img => img.alt.length > 20), pictures: shown.length,
    };
})"""


def open_deck(page, decks, number):
    page.goto((decks / f"{number}.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")


@in_browser
@pytest.mark.parametrize("number", [path.name[:2] for path in notebooks()])
def test_every_slide_fits_the_screen_and_asks_no_network(page, decks, number):
    page.asked.clear(), page.faults.clear()
    open_deck(page, decks, number)
    shown = page.evaluate(SHOW_EACH)
    assert [slide["title"] for slide in shown if not slide["fits"]] == []
    assert [slide["title"] for slide in shown if not (slide["large"] and slide["described"])] == []
    assert sum(slide["pictures"] for slide in shown) >= 1 and len(shown) >= 15
    assert shown[0]["title"] == Lesson(notebooks(number)[0]).title.replace("*", "").replace("`", "")
    assert [slide["title"] for slide in shown[-2:]] == ["The answer", "What to remember"]
    assert [slide["title"] for slide in shown if slide["below"]] == ["Solution"] * sum(s["below"] for s in shown)
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.asked)
    assert page.faults == []


@in_browser
def test_arrow_right_passes_a_solution_by_and_arrow_down_shows_it(page, decks):
    open_deck(page, decks, "20")
    task = "Reveal.getSlides().find(slide => slide.querySelector('h2')?.innerText.startsWith('Your turn'))"
    page.evaluate(f"Reveal.slide(Reveal.getIndices({task}).h)")
    task = page.evaluate("Reveal.getCurrentSlide().innerText")
    assert "Your turn" in task and "own_" not in task
    page.keyboard.press("ArrowDown")
    assert "own_" in page.evaluate("Reveal.getCurrentSlide().innerText")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert "own_" not in page.evaluate("Reveal.getCurrentSlide().innerText")


@in_browser
def test_notes_for_teachers_are_on_no_slide_but_in_the_speakers_view(page, decks):
    open_deck(page, decks, "20")
    assert "Skip first" in page.evaluate("Reveal.getSlideNotes()")
    assert page.get_by_text("Skip first").first.is_hidden()
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    popup.value.get_by_text("Skip first").first.wait_for(timeout=20_000)


@in_browser
def test_formulas_are_set_without_a_network(page, decks):
    number = next(
        path.stem for path in sorted(decks.glob("*.html")) if "tex-svg.js" in path.read_text(encoding="utf-8")
    )
    open_deck(page, decks, number)
    page.wait_for_selector("mjx-container svg", state="attached", timeout=20_000)
    assert "$" not in page.evaluate(
        "[...document.querySelectorAll('section section > p')].map(p => p.innerText).join()"
    )
