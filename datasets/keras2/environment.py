"""An environment of its own for Keras 2, and a script run in it.

`tf-keras` brings a second TensorFlow, so it is in no lock of this project. What needs it runs in a process of its own,
in an environment that is made for it once and kept under the reader's cache.
"""

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ["tf-keras==2.21.0", "tensorflow==2.21.0"]
FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "keras2-environment-2.21"


def python() -> Path:
    """Return the interpreter of the environment, which is made at the first call (1.5 GB, some minutes)."""
    found = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = FOLDER / "ready"
    if not ready.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, str(FOLDER)], check=True)
        subprocess.run([*uv, "pip", "install", "--python", str(found), *PACKAGES], check=True)
        ready.touch()
    return found


def run(script: str, *arguments: str) -> None:
    """Run a script there; TensorFlow's `tf.keras` is Keras 2 in it."""
    # PYTHONPATH would lend it this project's packages.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([str(python()), script, *arguments], env=environment, check=False)
    if done.returncode:
        sys.exit(f"{Path(script).name} failed in the environment of Keras 2: see the message above.")
