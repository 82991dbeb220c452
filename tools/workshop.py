"""The workshop kit: for a plan a folder with schedule, guide, slides, and copies for students and for the teacher.

    python tools/workshop.py              the plans, with their minutes
    python tools/workshop.py half-day     into build/workshop/half-day (`make workshop PLAN=half-day`)

The plans are data, docs/workshop/plans.toml. Minutes come from the lessons: reading at a stated speed, running and
exercises as their headers state them; what a plan has beyond that is time for questions.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.notebook import ROOT, UserError, shown, write_text
from tools import slides
from tools.generate import CHAPTERS
from tools.lab import for_student
from tools.lesson import LINES_A_MINUTE, WORDS_A_MINUTE, Lesson, Stretch
from tools.run import notebooks

TEXTS = ROOT / "docs" / "workshop"
IN_A_ROOM = 1.5
"""How much longer a room takes than one reader, where a plan's length is not given."""
TOO_SHORT = 0.7
"""Minutes: what is said after an exercise and takes less belongs to it."""
# What a student's folder needs to run: all but tests, recipes, builders of tables, and what makes copies with answers.
FOR_STUDENTS = [
    *("Makefile", "pyproject.toml", "requirements.txt", "LICENSE", "LICENSE-prose", "pipeline.png"),
    *("helpers/*.py", "serving/**/*", "datasets/**/*", "benchmarks/evidence/*.csv", "docs/glossary.md"),
    *("tools/run.py", "tools/lab.py", "tools/check.py", "tools/overrides.json", "notebooks/ruff.toml"),
]


@dataclass
class Row:
    """One line of the schedule."""

    what: str
    measured: float
    lesson: Lesson | None = None
    stretches: list[Stretch] = field(default_factory=list)
    start: str = ""
    end: str = ""
    minutes: int = 0

    @property
    def questions(self) -> int:
        """Minutes that are not needed if nobody asks."""
        return max(0, self.minutes - math.ceil(self.measured)) if self.lesson else 0


@dataclass
class Step:
    """A lesson, or something else with its minutes."""

    what: str = ""
    minutes: int = 0
    lesson: Lesson | None = None
    skip: list[str] = field(default_factory=list)

    @cached_property
    def rows(self) -> list[Row]:
        """What is talked through until the next exercise is one row, and so is the exercise."""
        if self.lesson is None:
            return [Row(self.what, self.minutes)]
        rows: list[Row] = []
        named: set[str] = set()
        for key, together in itertools.groupby(self.lesson.taught(self.skip), key=_together):
            stretches = list(together)
            names = list(dict.fromkeys(stretch.title if key else stretch.section for stretch in stretches))
            what = ("**Exercise**: " if key else "") + " · ".join([n for n in names if n not in named] or names)
            named.update(names)
            measured = sum(map(self.lesson.minutes_of, stretches))
            if rows and not key and measured < TOO_SHORT:
                rows[-1].measured += measured
                rows[-1].stretches += stretches
                continue
            rows.append(Row(what.replace("Your turn: ", ""), measured, self.lesson, stretches))
        return rows


@dataclass
class Plan:
    """What plans.toml says of a workshop."""

    name: str
    title: str
    audience: str
    goals: list[str]
    steps: list[Step]
    minutes: int = 0
    start: str = "09:00"

    def __post_init__(self) -> None:
        """Set a length where none is given, and the times of all rows.

        Raises
        ------
        UserError
            The steps take longer than the plan lasts.
        """
        fixed = sum(step.minutes for step in self.steps)
        self.minutes = self.minutes or 5 * math.ceil((fixed + IN_A_ROOM * self.measured) / 5)
        if self.minutes < fixed + self.measured:
            need = math.ceil(fixed + self.measured)
            raise UserError(f"the plan {self.name} lasts {self.minutes} minutes, its steps need {need}: skip sections.")
        self.factor = (self.minutes - fixed) / self.measured
        self._set_times()

    @property
    def measured(self) -> float:
        """Minutes of what is taught."""
        return sum(row.measured for row in self.rows if row.lesson)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the schedule."""
        return [row for step in self.steps for row in step.rows]

    @property
    def lessons(self) -> list[Lesson]:
        """The lessons that are taught."""
        return [step.lesson for step in self.steps if step.lesson]

    @property
    def copied(self) -> list[Lesson]:
        """The lessons that students get: also the one that tells whether the machine works."""
        first = [Lesson(path) for path in notebooks("00")]
        return [lesson for lesson in first if lesson.path not in {one.path for one in self.lessons}] + self.lessons

    def _set_times(self) -> None:
        # Sums are rounded, not rows: the last one ends when the plan ends.
        hours, minutes = map(int, self.start.split(":"))
        begin = 60 * hours + minutes
        spent = itertools.accumulate(row.measured * (self.factor if row.lesson else 1) for row in self.rows)
        ends = [begin + round(total) for total in spent]
        for row, start, end in zip(self.rows, [begin, *ends], ends, strict=False):
            row.start, row.end, row.minutes = _clock(start), _clock(end), end - start


def plan_names() -> list[str]:
    """Return the plans in plans.toml, then one for each chapter."""
    chapters = dict.fromkeys(path.name[0] for path in notebooks() if path.name[0] != "0")
    return [*_written_plans(), *(f"chapter-{chapter}" for chapter in chapters)]


def read_plan(name: str) -> Plan:
    """Return a plan.

    Raises
    ------
    UserError
        There is no such plan, or its lessons take longer than it lasts.
    """
    if name not in plan_names():
        raise UserError(f"there is no plan {shown(name)}; there are: {', '.join(plan_names())}.")
    given = _written_plans().get(name) or _chapter_plan(name[-1])
    return Plan(**{**given, "name": name, "steps": [_step(**step) for step in given["steps"]]})


def _written_plans() -> dict[str, dict[str, Any]]:
    return tomllib.loads((TEXTS / "plans.toml").read_text(encoding="utf-8"))


def _chapter_plan(chapter: str) -> dict[str, Any]:
    """Every lesson of a chapter, whole, with a break between two, and lunch in the middle of a long one."""
    lessons = [Lesson(path) for path in notebooks(chapter)]
    steps: list[dict[str, Any]] = [{"what": "Arrive: `make check` on each laptop, `make lab` opens", "minutes": 15}]
    for number, lesson in enumerate(lessons, start=1):
        lunch = len(lessons) > 3 and number == len(lessons) // 2
        steps += [{"lesson": lesson.number}, {"what": "Lunch" if lunch else "Break", "minutes": 60 if lunch else 15}]
    steps[-1] = {"what": "Feedback form", "minutes": 5}
    goals = [lesson.objectives[0] for lesson in lessons]
    title = f"Chapter {chapter}: {CHAPTERS[chapter]}"
    return {"title": title, "audience": "a group that takes up one subject", "goals": goals, "steps": steps}


def _step(lesson: str = "", what: str = "", minutes: int = 0, skip: Sequence[str] = ()) -> Step:
    found = Lesson(notebooks(lesson)[0]) if lesson else None
    return Step(f"**{found.number} · {found.title}**" if found else what, minutes, found, list(skip))


def _together(stretch: Stretch) -> int:
    """The same for neighbours that are one row of the schedule: an exercise is one of its own."""
    return id(stretch) if stretch.exercise else 0


def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def build(name: str, folder: Path) -> None:
    """Write the folder of a plan, whole or not at all.

    Raises
    ------
    UserError
        The folder is there already: it may hold somebody's changes.
    """
    plan = read_plan(name)
    if folder.exists():
        raise UserError(f"{folder} is there already, perhaps with your changes: move it away first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        made = Path(scratch) / "made"
        _write_students(plan, made / "students")
        shutil.make_archive(str(made / "students"), "zip", made, "students")
        _write_teacher(plan, made, folder)
        made.rename(folder)


def _write_students(plan: Plan, folder: Path) -> None:
    """Write a project of its own that holds only the students' copies."""
    for pattern in FOR_STUDENTS:
        for source in ROOT.glob(pattern):
            if source.is_file() and "__pycache__" not in source.parts:
                target = folder / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    names = {lesson.path.name for lesson in plan.copied}
    for lesson in plan.copied:
        copy = for_student(json.loads(lesson.path.read_text(encoding="utf-8")))
        text = json.dumps(copy, indent=1, ensure_ascii=False) + "\n"
        write_text(folder / "notebooks" / lesson.path.name, _linked(text, names))
    write_text(folder / "README.md", _render("students.md", plan=plan, lessons=plan.copied))


def _linked(text: str, names: set[str]) -> str:
    """Return a notebook's text in which what leads to a file that is not there is no link."""
    kept = "|".join(map(re.escape, sorted(names)))
    kept = rf"(?:{kept})[^)]*|#[^)]*|\w+:[^)]*|\.\./(?:docs/glossary|datasets|serving|pipeline)[^)]*"
    return re.sub(rf"(?<!!)\[([^\]\n]+)\]\((?!(?:{kept})\))[^)\s\"]+\)", r"\1", text)


def _write_teacher(plan: Plan, folder: Path, final: Path) -> None:
    for step in plan.steps:
        if step.lesson:
            _write_lesson(plan, step, step.lesson, folder)
    slides.copy_assets(folder / "slides" / "assets")
    write_text(folder / "schedule.md", _render("schedule.md", plan=plan, words=WORDS_A_MINUTE, lines=LINES_A_MINUTE))
    for name in ("profiles.md", "feedback.md"):
        _copy(TEXTS / name, folder / name, final)
    for lesson in plan.copied:
        _copy(lesson.path, folder / "teacher" / lesson.path.name, final / "teacher")
    size = math.ceil((folder / "students.zip").stat().st_size / 1e6)
    readme = _render("README.md", plan=plan, lessons=plan.lessons, zip_mb=size, folder=os.path.relpath(final, ROOT))
    write_text(folder / "README.md", readme)


def _copy(source: Path, target: Path, final: Path) -> None:
    """Copy a text; its links lead to the project from where it will be, too."""
    up, root = os.path.relpath(ROOT, source.parent), os.path.relpath(ROOT, final)
    text = source.read_text(encoding="utf-8").replace(f"]({Path(up).as_posix()}/", f"]({Path(root).as_posix()}/")
    write_text(target, text)


def _write_lesson(plan: Plan, step: Step, lesson: Lesson, folder: Path) -> None:
    minutes = {stretch.title: row.minutes for row in step.rows for stretch in row.stretches if stretch.exercise}
    text = _render("guide.md", lesson=lesson, plan=plan, rows=step.rows, minutes=minutes, skip=step.skip)
    write_text(folder / "guide" / f"{lesson.number}.md", re.sub(r"\n{3,}", "\n\n", text))
    write_text(folder / "slides" / f"{lesson.number}.html", slide_page(lesson, step.skip, minutes))


def slide_page(lesson: Lesson, skip: list[str], minutes: Mapping[str, int]) -> str:
    """Return the page of a lesson's slides, without the sections that are skipped; see `slides.stacks`."""
    stacks = list(slides.stacks(lesson, lesson.taught(skip), minutes))
    maths = any(re.search(r"\$[^$]+\$", slide.body) for stack in stacks for slide in stack)
    return _render("slides.html", lesson=lesson, stacks=stacks, code_style=slides.code_style(), maths=maths)


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEXTS / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{template}.j2").render(**values)


def main(arguments: Sequence[str]) -> None:
    """Build a plan, or list the plans."""
    if not arguments:
        for name in plan_names():
            plan = read_plan(name)
            print(f"{name:10} {plan.minutes:4} minutes  {plan.title}")
        print("==> make workshop PLAN=half-day builds one of them")
    else:
        folder = ROOT / "build" / "workshop" / arguments[0]
        build(arguments[0], folder)
        print(f"==> begin with {os.path.relpath(folder / 'README.md')}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
