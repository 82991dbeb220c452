"""The packages of the lessons as files, for laptops without a network.

    python tools/wheels.py                 for this machine, into build/workshop/wheels (`make wheels`)
    python tools/wheels.py windows 3.12    for another system and Python

The gap: `pip download` reads the markers of a lock as they hold here, so for another platform it asks for the wrong
packages; uv resolves them for that platform first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.notebook import ROOT, UserError, shown
from tools.generate import packages

PIP = ("--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:")
PLATFORMS = {
    "windows": ["win_amd64"],
    "linux": [f"manylinux_2_{version}_x86_64" for version in (28, 27, 26, 17)] + ["manylinux2014_x86_64"],
    "macos": [f"macosx_{version}_0_{kind}" for version in (14, 13, 12, 11) for kind in ("arm64", "universal2")],
}
"""What a wheel's name may say of its platform; pip looks for these words, not for older versions of the system."""


def wheels(folder: Path, platform: str = "", python: str = "") -> None:
    """Download the wheels of requirements.txt, for this machine or for another platform and Python.

    Raises
    ------
    UserError
        The platform is not known here, or a package cannot be downloaded.
    """
    if platform and platform not in PLATFORMS:
        raise UserError(f"PLATFORM is one of {', '.join(PLATFORMS)}; got {shown(platform)}.")
    version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    options = [f"--platform={name}" for name in PLATFORMS.get(platform, [])]
    known: set[str] = set()
    # A laptop's Python may be the first or the last of its line, and some pins hang on that.
    for exact in (f"{version}.0", f"{version}.99"):
        with TemporaryDirectory() as scratch:
            lock = Path(scratch) / "lock.txt"
            _resolve(lock, exact, platform)
            blocks = packages(lock.read_text(encoding="utf-8"))
            lock.write_text("".join(block for pin, block in blocks.items() if pin not in known), encoding="utf-8")
            if not known.issuperset(blocks):
                _run("-m", "pip", "download", *PIP, *options, f"--python-version={exact}", "-r", lock, "-d", folder)
            known.update(blocks)


def _resolve(lock: Path, python: str, platform: str) -> None:
    """Write what requirements.txt pins for a platform, without markers."""
    target = [f"--python-platform={platform}"] if platform else []
    options = [*target, f"--python-version={python}", "--output-file", lock]
    _run("-m", "uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", *options, "requirements.txt")


def _run(*command: object) -> None:
    if subprocess.run([sys.executable, *map(str, command)], cwd=ROOT).returncode:
        raise UserError("the wheels are not complete; the reason stands above.")


def main(arguments: Sequence[str]) -> None:
    """Download, and say how much it was."""
    folder = ROOT / "build" / "workshop" / "wheels"
    wheels(folder, *arguments)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"==> {size:.0f} MB of wheels are in {os.path.relpath(folder)}; README.md of a plan says how to use them")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
