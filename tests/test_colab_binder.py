"""Lessons opened without the project: the copies for Colab, and the image that Binder builds."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from helpers.notebook import ROOT, UserError, check_environment
from tools import colab, generate

LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def for_colab(path):
    return generate.for_colab(json.loads(path.read_text(encoding="utf-8")), path.name)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_copy_for_colab_is_the_readers_copy_behind_one_cell_and_no_link_leads_to_a_missing_file(path):
    copy = for_colab(path)
    nbformat.validate(nbformat.reads(json.dumps(copy), as_version=4))
    first, *others = copy["cells"]
    assert "git" in first["source"] and "runpy.run_path" in first["source"]
    assert not any("instructor" in cell["metadata"].get("tags", []) for cell in others)
    assert len({cell["id"] for cell in copy["cells"]}) == len(copy["cells"])
    for cell in others:
        if cell["cell_type"] == "markdown":
            assert re.findall(r"\]\((?!https?:|#|attachment:|mailto:)[^)]*\)", cell["source"]) == []


def test_notebooks_of_the_project_have_no_cell_for_colab():
    assert not any("colab.py" in path.read_text(encoding="utf-8") for path in LESSONS)


@pytest.fixture
def published(tmp_path):
    """A project in Git that stands for the published one: its preparation writes down where it was called."""
    project = tmp_path / "published"
    (project / "notebooks").mkdir(parents=True)
    (project / "notebooks" / "10_lesson.ipynb").touch()
    (project / "tools").mkdir()
    (project / "tools" / "colab.py").write_text("def prepare():\n    print('prepared')\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(project)]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    return project


def test_the_first_cell_fetches_the_project_once_and_goes_to_its_notebooks(published, tmp_path):
    """Run twice in one session, and in a new one: what is there is not fetched again."""
    source = for_colab(LESSONS[0])["cells"][0]["source"]
    repository = re.search(r'"(https://github\.com/[^"]+)"', source).group(1)
    script, alone = tmp_path / "cell.py", tmp_path / "alone"
    cell = source.replace(repository, published.as_uri())
    script.write_text(f"{cell}\n{cell}\nprint(sorted(path.name for path in Path().iterdir()))")
    alone.mkdir()
    for _ in range(2):
        done = subprocess.run([sys.executable, script], cwd=alone, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["prepared", "prepared", "['10_lesson.ipynb']"]
    assert [path.name for path in alone.iterdir()] == [repository.rpartition("/")[2]]


def test_colab_gets_every_package_that_lessons_import_and_keeps_what_its_kernel_stands_on():
    wanted, pins = set(colab.wanted()), colab.pins()
    imported = {"keras", "matplotlib", "numpy", "pandas", "scikit-learn", "scikit-image", "skops", "imbalanced-learn"}
    assert imported - {"keras"} <= wanted and imported <= set(pins)
    assert wanted <= set(pins)
    kernels = {"ipykernel", "ipython", "tornado", "traitlets", "pyzmq", "jupyter-client", "jupyterlab", "ipywidgets"}
    assert not kernels & (wanted | set(pins))


def installing(monkeypatch, tmp_path, states):
    """What pip is called with, where the packages of the lock are in these states."""
    calls = []

    def pip(*arguments):
        calls.append([*arguments])
        if "--constraint" in arguments:
            calls.append(Path(arguments[arguments.index("--constraint") + 1]).read_text().splitlines())

    monkeypatch.setattr(colab, "pip", pip)
    monkeypatch.setattr(colab, "installed", states.get)
    colab.install()
    return calls


def test_the_packages_are_installed_by_the_pins_of_the_lock(monkeypatch, tmp_path):
    (build,) = (name for name in colab.wanted() if name.startswith("tensorflow"))
    right = {build: colab.pins()[build]}
    command, constraints = installing(monkeypatch, tmp_path, right)
    assert command[0] == "install" and build not in command, "another build of the same version is left"
    assert set(constraints) == {f"{name}=={version}" for name, version in colab.pins().items()}


def test_another_tensorflow_is_removed_before_the_pinned_one_is_installed(monkeypatch, tmp_path):
    (build,) = (name for name in colab.wanted() if name.startswith("tensorflow"))
    uninstall, install, _ = installing(monkeypatch, tmp_path, {build: "2.19.0"})
    assert uninstall == ["uninstall", "--yes", "tensorflow", "tensorflow-cpu"]
    assert install[0] == "install" and build in install


@pytest.mark.parametrize("replaced", [True, False])
def test_a_session_that_uses_replaced_packages_has_to_be_restarted_and_no_other(monkeypatch, capsys, replaced):
    assert "numpy" in colab.loaded()
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(colab, "loaded", lambda: {"numpy": "1.26.4" if replaced else colab.installed("numpy")})
    monkeypatch.setattr(colab, "install", lambda: None)
    if replaced:
        with pytest.raises(UserError, match="Restart session"):
            colab.prepare()
    else:
        colab.prepare()
        assert capsys.readouterr().out == "The lesson's packages are ready.\n"
    assert os.environ["PYTHONPATH"] == str(ROOT)


def test_a_failure_of_pip_is_one_sentence_with_its_reason():
    with pytest.raises(UserError, match=r"run this cell once more\. Its reason: .*no-such-package"):
        colab.pip("install", "--no-index", "--dry-run", "no-such-package")


# --- Binder ------------------------------------------------------------------------------------------------------


def binder_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pins,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    return pins


def test_binders_packages_are_resolved_without_a_network_where_they_are_installed(tmp_path):
    """Each pin for this machine, and the project itself, which repo2docker copies before it installs."""
    *pins, project = binder_pins()
    assert project == "-e ."
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join(pins))
    command = [Path(sys.executable).parent / "uv", "pip", "install", "--dry-run", "--offline", "--no-build-isolation"]
    command += ["--python", sys.executable, "-r", requirements, "-e", ROOT]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    states = {row["package"]: row["state"] for row in check_environment("\n".join(pins))}
    assert len(states) > 100 and set(states.values()) == {"right"}
    assert not re.findall(r"^ [-+] (?!tensor-to-decision)\S+", done.stderr, flags=re.MULTILINE)


@pytest.mark.skipif(sys.platform == "win32", reason="Binder's machine is Linux")
def test_after_binders_last_step_both_packages_are_imported_from_any_folder(tmp_path):
    """In a fresh environment, which sees the installed packages but not the project."""
    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh], check=True)
    (packages,) = fresh.glob("lib/python*/site-packages")
    # As path files of the other environment are not read, neither is the one by which the project is installed there.
    (packages / "theirs.pth").write_text(f"{Path(pytest.__file__).parent.parent}\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PATH": f"{fresh / 'bin'}:{os.environ['PATH']}", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    ask = [fresh / "bin" / "python", "-c", "import helpers.notebook, serving; print(helpers.notebook.ROOT)"]
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    assert subprocess.run(ask, **options, check=False).returncode != 0
    done = subprocess.run([ROOT / "postBuild"], **options, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(ask, **options, check=True).stdout.strip() == str(ROOT)
    assert (fresh / "share/jupyter/lab/settings/overrides.json").exists()


def test_the_preparation_of_colab_needs_only_what_lies_beside_it():
    """The cell runs it by its path: a package called `tools`, of somebody else, may be installed there."""
    assert callable(runpy.run_path(str(ROOT / "tools" / "colab.py"))["prepare"])


def test_every_declared_package_of_the_lessons_is_asked_for_or_known_as_colabs_own():
    pins = {Requirement(pin).name for pin in binder_pins()[:-1]}
    assert set(colab.wanted()) <= pins
