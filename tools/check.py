"""Is this machine ready for a workshop? One screen, in seconds, without the network.

    make check                       or, where there is no make,
    .venv/bin/python tools/check.py  (Windows: .venv\\Scripts\\python)

The exit status is 1 if something is missing; the line that says so names the remedy.
"""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PYTHON = (3, 11), (3, 14)
DISK_GB, MEMORY_GB = 1, 2
REPAIR = "type `make`; without make, `pip install -r requirements.txt` in .venv"


class NotReadyError(RuntimeError):
    """What is missing, with its remedy."""


def require(holds: bool, fault: str) -> None:
    if not holds:
        raise NotReadyError(fault)


def python() -> str:
    here, needed = platform.python_version(), "set up .venv with Python 3.11, 3.12 or 3.13: `make PYTHON=python3.12`"
    require(PYTHON[0] <= sys.version_info[:2] < PYTHON[1], f"{here}: {needed}")
    return here


def disk() -> str:
    free = shutil.disk_usage(ROOT).free / 1e9
    require(free >= DISK_GB, f"{free:.1f} GB free, {DISK_GB} are needed: delete files, or move the project")
    tempfile.TemporaryFile(dir=ROOT).close()
    return f"{free:.0f} GB free, and files can be written"


def memory() -> str:
    import psutil

    free = psutil.virtual_memory().available / 1e9
    require(free >= MEMORY_GB, f"{free:.1f} GB free, {MEMORY_GB} are needed: close other programs")
    return f"{free:.1f} GB free"


def packages() -> str:
    from helpers.notebook import check_environment

    rows = check_environment()
    wrong = [f"{row['package']} {row['installed']}" for row in rows if row["state"] != "right"]
    named = ", ".join(wrong[:3]) + ", …" * (len(wrong) > 3)
    require(not wrong, f"{len(wrong)} of {len(rows)} are missing or have another version ({named}): {REPAIR}")
    return f"all {len(rows)} as in the lock"


def model() -> str:
    from helpers.notebook import fresh_process

    with tempfile.TemporaryDirectory() as folder:
        fresh_process(__file__, "train", folder)
        fresh_process(__file__, "load", folder)
    return "trained, saved, loaded in another process: it predicts the same"


def jupyter() -> str:
    from importlib.metadata import version

    from jupyter_client.manager import run_kernel

    lab = version("jupyterlab")
    # A firewall may stop what a notebook and its kernel say to each other on this machine.
    with run_kernel(kernel_name="python3", stderr=subprocess.DEVNULL) as client:
        cast(Any, client).execute("1", reply=True, timeout=60)
    with socket.socket() as free:
        taken = free.connect_ex(("127.0.0.1", 8888)) == 0
    return f"JupyterLab {lab}, and a kernel answers" + "; port 8888 is in use, it takes the next" * taken


LOOKS = (python, disk, memory, packages, model, jupyter)


def train(folder: Path) -> None:
    """Train a small network, and save it with some rows and what it predicts for them."""
    import keras
    import numpy as np

    X = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    network.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    network.fit(X, X[:, 0] > 0, epochs=2, verbose=0)
    network.save(folder / "network.keras")
    np.savez(folder / "rows.npz", X=X, logit=network.predict(X, verbose=0))


def load(folder: Path) -> None:
    """Load the network, and exit if it predicts something else."""
    import keras
    import numpy as np

    rows, network = np.load(folder / "rows.npz"), keras.saving.load_model(folder / "network.keras")
    if not np.allclose(network.predict(rows["X"], verbose=0), rows["logit"], atol=1e-5):
        raise RuntimeError("the loaded model predicts something else")


def told(look: Callable[[], str]) -> tuple[bool, str]:
    """Return whether what is looked at is ready, and a line on it."""
    try:
        return True, look()
    except ModuleNotFoundError as error:
        return False, f"the package {error.name} is missing: {REPAIR}"
    except Exception as error:  # Whatever a broken installation raises, the other lines are shown.
        return False, (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def main(arguments: Sequence[str] = ()) -> int:
    """Print a line for each thing that is looked at, and whether the machine is ready; return the exit status."""
    if len(arguments) == 2:
        {"train": train, "load": load}[arguments[0]](Path(arguments[1]))
        return 0
    started, missing = time.monotonic(), []
    print("Is this machine ready? (a quarter of a minute)", flush=True)
    for look in LOOKS:
        ready, line = told(look)
        print(f"  {'ok' if ready else 'NO'}  {look.__name__:9} {line}", flush=True)
        missing += [look.__name__] * (not ready)
    seconds = f"({time.monotonic() - started:.0f} seconds)"
    print(f"not ready: {', '.join(missing)} {seconds}; what to do stands above" if missing else f"ready {seconds}")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
