"""The machine under a notebook: the environment that every runner shares, the packages, a process of its own.

The gap: stored, compared and run outputs agree only where threads, oneDNN and log level do, and each runner would set
them in its own way; ``pip check`` does not know the lock; and no library runs a script in a clean process and returns
one sentence when it fails. Next to nothing is imported here, so that the check works where packages are missing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["ENVIRONMENT", "ROOT", "check_environment", "fresh_process"]

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the project: datasets and notebooks are found from here, whatever the working directory is."""

ENVIRONMENT = {
    # The same kernels on every processor, so that stored and compared outputs agree.
    "TF_ENABLE_ONEDNN_OPTS": "0",
    # Fixed, not the number of cores: sums are split by threads.
    "TF_NUM_INTRAOP_THREADS": "2",
    "TF_NUM_INTEROP_THREADS": "2",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
}
"""What every runner shares; TensorFlow reads it when it is imported. A value that is already set wins."""

# The two builds of TensorFlow hold the same modules: either satisfies the pin of the other.
_TWINS = {"tensorflow": "tensorflow-cpu", "tensorflow-cpu": "tensorflow"}


def fresh_process(script: str | os.PathLike[str], *arguments: object) -> str:
    """Run a Python script in a process that shares nothing with this one, and return what it printed.

    The gap: a model that is loaded where it was made finds every custom function and layer still in memory, so a test
    in the same kernel passes falsely.

    Parameters
    ----------
    script : path-like
        The file.
    *arguments : object
        Its command line, each as ``str``.

    Returns
    -------
    str
        Standard output.

    Raises
    ------
    RuntimeError
        The script failed; the message is the last exception that it named.
    """
    command = [sys.executable, os.fspath(script), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env={**ENVIRONMENT, **os.environ}, check=False
    )
    if done.returncode:
        # The traceback's last line at the left margin names the exception; what follows it explains at length.
        errors = re.findall(r"^[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*", done.stderr, flags=re.MULTILINE)
        reason = (errors or done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{Path(script).name} ended with status {done.returncode}: {reason}")
    return done.stdout


def check_environment(lock: str | None = None) -> list[dict[str, str]]:
    """Compare what is installed with what the lock pins for this machine.

    Parameters
    ----------
    lock : str, optional
        The text of a requirements file; the project's own when left out.

    Returns
    -------
    list of dict
        For each package ``package``, ``pinned``, ``installed``, ``state`` ('right', 'wrong version' or 'missing') and
        ``mend``, the line that mends it in a cell (empty when right).

    Examples
    --------
    >>> [row["state"] for row in check_environment("no-such-package==1.0")]
    ['missing']
    """
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8") if lock is None else lock
    rows = []
    for line in re.findall(r"^[A-Za-z0-9][^\\#\n]*", text, flags=re.MULTILINE):
        requirement = Requirement(line.strip())
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        pinned, found = str(requirement.specifier).removeprefix("=="), _installed(requirement.name)
        state = "missing" if not found else "right" if found == pinned else "wrong version"
        mend = "" if state == "right" else f"%pip install {requirement.name}=={pinned}"
        rows.append(
            {"package": requirement.name, "pinned": pinned, "installed": found or "-", "state": state, "mend": mend}
        )
    return rows


def _installed(name: str) -> str:
    for candidate in (name, _TWINS.get(name, name)):
        try:
            return version(candidate)
        except PackageNotFoundError:
            continue
    return ""
