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
    target = ["--python-platform", platform] if platform else []
    options = [f"--platform={name}" for name in PLATFORMS.get(platform, [])]
    options += ["--python-version", version] if platform else []
    with TemporaryDirectory() as scratch:
        # pip would read the markers of the lock as they hold for this machine.
        lock = Path(scratch) / "requirements.txt"
        lock_options = ["--python-version", version, *target, "requirements.txt", "--output-file", lock]
        uv = [Path(sys.executable).parent / "uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        options += ["--only-binary", ":all:", "-r", str(lock), "-d", str(folder)]
        for command in ([*uv, *lock_options], [*pip, *options]):
            if subprocess.run(list(map(str, command)), cwd=ROOT).returncode:
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
