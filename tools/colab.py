"""What the first cell of a copy for Colab calls: the lesson's packages, in the versions of the lock.

Colab moves: its NumPy, pandas and TensorFlow are not those that the lesson was written with, and some are in use before
a notebook's first cell runs. What the lessons import is brought to the lock; what Colab's own kernel stands on is left
as it is. Only the standard library is needed, as packages may be missing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from packaging.requirements import Requirement

from helpers.notebook import ROOT, UserError, check_environment

# JupyterLab is not there, and a kernel whose own packages are replaced while it runs ends.
COLABS_OWN = re.compile(
    r"(ipykernel|ipython|ipywidgets|jupyter.*|nb(client|convert|format)|notebook.*|widgets.*|"
    r"comm|debugpy|matplotlib-inline|prompt-toolkit|psutil|pyzmq|requests|tornado|traitlets|setuptools|uv|wheel)$"
)


def wanted() -> list[str]:
    """Return the names of the packages that lessons ask for on this machine, without what is Colab's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = map(Requirement, [*project["dependencies"], *extras["tensorflow"], *extras["notebooks"]])
    here = [each.name for each in declared if each.marker is None or each.marker.evaluate()]
    return [name for name in here if name != project["name"] and not COLABS_OWN.match(name)]


def pins() -> dict[str, str]:
    """Return the lock's versions for this machine, without what is Colab's own."""
    return {row["package"]: row["pinned"] for row in check_environment() if not COLABS_OWN.match(row["package"])}


def loaded() -> dict[str, str]:
    """Return the versions on disk of the packages that this process has imported."""
    modules = {name.partition(".")[0] for name in sys.modules}
    names = {name for module, found in packages_distributions().items() if module in modules for name in found}
    return versions(names)


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions on disk, empty where there is none; what is installed is looked through once."""
    rows = check_environment("\n".join(f"{name}==0" for name in names))
    return {row["package"]: "" if row["state"] == "missing" else row["installed"] for row in rows}


def installed(name: str) -> str:
    """Return the version on disk, empty if there is none."""
    return versions([name])[name]


def pip(*arguments: str) -> None:
    """Run pip, which talks only if it fails: what it says of Colab's other packages concerns no lesson."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"pip could not install the lesson's packages; run this cell once more. Its reason: {reason}")


def install(*options: str) -> None:
    """Install what is missing or of another version."""
    pinned, names = pins(), [*wanted(), "keras"]
    (build,) = (name for name in names if name.startswith("tensorflow"))
    if installed(build) == pinned[build]:
        names.remove(build)
    else:
        # Both builds hold the same files: the second would be written into the first.
        pip("uninstall", "--yes", "tensorflow", "tensorflow-cpu")
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "pins.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in pinned.items()), encoding="utf-8")
        pip("install", *options, "--constraint", str(constraints), *names)


def prepare() -> None:
    """Make the packages right, `helpers` and `serving` importable, and say if the session has to be restarted."""
    if not (3, 11) <= sys.version_info < (3, 14):
        raise UserError("The lessons need Python 3.11, 3.12 or 3.13: choose one under Runtime > Runtime version.")
    os.environ["PYTHONPATH"] = str(ROOT)
    before = loaded()
    install()
    if before != versions(before):
        raise UserError("Packages in use have been replaced: choose Runtime > Restart session and run all.")
    print("The lesson's packages are ready.")
