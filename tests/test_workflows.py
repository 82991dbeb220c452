"""What keeps the project alive: what runs each night and each week, and what its steps do, with a `gh` of our own."""

import datetime
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import yaml

from helpers.notebook import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the workflows' steps run on Linux")
WORKFLOWS = {
    # YAML 1.1 takes the key `on` for a truth value.
    path.stem: {str(key).replace("True", "on"): value for key, value in yaml.safe_load(path.read_text()).items()}
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"].values()]
STEPS = [(name, step) for name, job in JOBS for step in job["steps"]]
SCRIPTS = ROOT / ".github" / "steps"


def commands(name):
    return "\n".join(step.get("run", "") for owner, step in STEPS if owner == name)


def test_every_night_the_newest_releases_are_tested_and_one_issue_tells():
    nightly = WORKFLOWS["nightly"]
    (when,) = nightly["on"]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", when["cron"])
    assert re.search(r"make lock .*&& make test", commands("nightly"))
    report = nightly["jobs"]["report"]
    assert report["needs"] == "newest" and report["if"].startswith("always()"), "it reports what went red"
    assert report["permissions"] == {"contents": "write", "issues": "write"}


def test_every_week_links_are_followed_and_an_issue_tells():
    (when,) = WORKFLOWS["links"]["on"]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", when["cron"])
    assert "-b linkcheck" in commands("links") and "issue.sh" in commands("links")
    (issue,) = [step for name, step in STEPS if name == "links" and step.get("name") == "The issue"]
    assert issue["if"].startswith("always()")


def test_what_main_holds_is_published():
    assert WORKFLOWS["site"]["on"]["push"]["branches"] == ["main"]
    assert re.search(r"make site .*\n.*publish\.sh build/site", commands("site"))


def test_changes_are_tested_by_the_lock_and_not_by_what_is_newest_today():
    assert "schedule" not in WORKFLOWS["test"]["on"] and "make lock" not in commands("test")
    assert {"push", "pull_request"} <= set(WORKFLOWS["test"]["on"])


def test_actions_are_githubs_own_and_only_what_must_may_write():
    assert {step["uses"].partition("/")[0] for _, step in STEPS if "uses" in step} == {"actions"}
    assert {name for name, workflow in WORKFLOWS.items() if workflow["permissions"].get("contents") == "write"} == {
        "site"
    }
    assert all("timeout-minutes" in job for name, job in JOBS if name in {"test", "links", "site"})


def test_every_step_is_bash_and_every_script_it_calls_is_there():
    for name, step in STEPS:
        text = re.sub(r"\$\{\{.*?\}\}", "value", step.get("run", ""))
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (name, done.stderr)
        for script in re.findall(r"\.github/steps/\S+\.sh", text):
            assert os.access(ROOT / script, os.X_OK), script


# --- the steps ---------------------------------------------------------------------------------------------------

GH = """#!/usr/bin/env bash
echo "$@" >> "$CALLS"
case "$1 $2" in
    "issue list") jq -r "${@: -1}" "$ISSUES" 2>/dev/null || python3 "$FILTER" "${@: -1}" "$ISSUES";;
esac
for last; do :; done
[ ! -f "$last" ] || cat "$last" >> "$CALLS"
"""
# In the place of jq, where it is missing: the number of the issue of the title that the filter names.
FILTER = """import json, re, sys
title = re.search(r'== "(.*)"\\)', sys.argv[1]).group(1)
print(*[one["number"] for one in json.load(open(sys.argv[2])) if one["title"] == title][:1])
"""


@pytest.fixture
def watch(tmp_path):
    """A function that calls issue.sh with a `gh` that knows some issues; it returns what `gh` was called with."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "gh").write_text(GH)
    (tools / "gh").chmod(0o755)
    (tmp_path / "filter.py").write_text(FILTER)
    settings = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "ISSUES": str(tmp_path / "issues.json"),
        "FILTER": str(tmp_path / "filter.py"),
        "GITHUB_SERVER_URL": "https://host",
        "GITHUB_REPOSITORY": "owner/name",
        "GITHUB_RUN_ID": "7",
    }

    def called(issues, *arguments):
        (tmp_path / "issues.json").write_text(issues)
        (tmp_path / "calls").write_text("")
        subprocess.run([SCRIPTS / "issue.sh", *arguments], env={**os.environ, **settings}, check=True)
        _, *calls = (tmp_path / "calls").read_text().splitlines()
        return calls

    return called


OTHER = '{"number": 3, "title": "The nightly run is red, says Ann"}'
OPEN = f'[{OTHER}, {{"number": 12, "title": "The nightly run is red"}}]'
TITLE = "The nightly run is red"


def test_a_red_run_opens_one_issue_with_the_failing_tests_and_later_ones_add_to_it(watch, tmp_path):
    findings = tmp_path / "findings.txt"
    findings.write_text("FAILED tests/test_masks.py::test_holes\n")
    opened = watch(f"[{OTHER}]", TITLE, "failure", findings)
    assert opened[0].startswith(f"issue create --title {TITLE} --body-file")
    assert "FAILED tests/test_masks.py::test_holes" in opened
    assert any("https://host/owner/name/actions/runs/7" in line for line in opened)
    again = watch(OPEN, TITLE, "failure", findings)
    assert again[0].startswith("issue comment 12 --body-file")


def test_a_green_run_closes_the_issue_and_says_nothing_where_none_is_open(watch):
    (closed,) = watch(OPEN, TITLE, "success")
    assert closed.startswith("issue close 12 --comment Green again: https://host")
    assert watch(f"[{OTHER}]", TITLE, "success") == []


def test_findings_are_the_failing_tests_or_the_last_lines_of_what_stopped_earlier(tmp_path):
    red, stopped = tmp_path / "newest-3.11.log", tmp_path / "newest-3.13.log"
    red.write_text("x\nFAILED tests/a.py::b - no\nERROR tests/c.py\nFAILED tests/a.py::b - no\n1 failed\n")
    stopped.write_text("".join(f"line {n}\n" for n in range(99)) + "No solution found\n")
    done = subprocess.run([SCRIPTS / "findings.sh", red, stopped], capture_output=True, text=True, check=True)
    first, second = done.stdout.split("# newest-")[1:]
    assert first.splitlines() == ["3.11", "ERROR tests/c.py", "FAILED tests/a.py::b - no"]
    assert second.splitlines()[-1] == "No solution found" and "line 9\n" not in second


def test_the_badge_shows_the_date_of_the_last_green_run_also_while_it_is_red(tmp_path):
    def badge(outcome):
        subprocess.run([SCRIPTS / "badge.sh", outcome, tmp_path], check=True)
        image = ET.parse(tmp_path / "nightly.svg").getroot()
        return image.get("aria-label"), re.findall(r'fill="(#\w{6})"', (tmp_path / "nightly.svg").read_text())

    assert badge("failure")[0] == "last green run: never"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    label, green = badge("success")
    assert label == f"last green run: {today}"
    (tmp_path / "last-green.txt").write_text("2026-01-31\n")
    label, red = badge("failure")
    assert label == "last green run: 2026-01-31" and red != green


def test_readme_shows_the_badge_that_is_published():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (badge,) = re.findall(r"/gh-pages/(badges/\S+\.svg)\)", readme)
    assert badge == "badges/nightly.svg"
    assert "publish.sh build/badges badges" in commands("nightly") and "badge.sh" in commands("nightly")


def test_publishing_replaces_the_site_and_keeps_the_badge_without_growing_the_branch(tmp_path):
    project, remote, pages = tmp_path / "project", tmp_path / "remote.git", tmp_path / "pages"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q", "--bare", remote], ["init", "-q", "-b", "main", project]):
        subprocess.run([*git, *command], check=True)
    (project / "README.md").touch()
    for command in (["add", "-A"], ["commit", "-qm", "all"], ["remote", "add", "origin", remote]):
        subprocess.run([*git, "-C", project, *command], check=True)

    def publish(files, *folder):
        shutil.rmtree(tmp_path / "built", ignore_errors=True)
        for name in files:
            (tmp_path / "built" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "built" / name).write_text(name)
        subprocess.run([SCRIPTS / "publish.sh", tmp_path / "built", *folder], cwd=project, check=True)
        shutil.rmtree(pages, ignore_errors=True)
        subprocess.run([*git, "clone", "-q", "-b", "gh-pages", remote, pages], check=True)
        return {
            path.relative_to(pages).as_posix()
            for path in pages.rglob("*")
            if path.is_file() and ".git" not in path.parts
        }

    assert publish(["index.html", "_static/old.js"]) == {".nojekyll", "index.html", "_static/old.js"}
    assert publish(["nightly.svg"], "badges") == {".nojekyll", "index.html", "_static/old.js", "badges/nightly.svg"}
    assert publish(["index.html", "new.html"]) == {".nojekyll", "index.html", "new.html", "badges/nightly.svg"}
    count = subprocess.run(
        [*git, "-C", pages, "rev-list", "--count", "HEAD"], capture_output=True, text=True, check=True
    )
    assert count.stdout.strip() == "1"
    listed = subprocess.run([*git, "-C", project, "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1, "nothing is left behind"
