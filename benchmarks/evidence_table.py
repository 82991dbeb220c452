"""How a table of evidence is written: first what a reader has to know of it, as comments, then its rows."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from helpers.notebook import write_text


def write_table(
    script: str,
    rows: pd.DataFrame,
    *,
    seeds: str,
    budget: str,
    note: str,
    packages: Sequence[str] = ("keras", "scikit-learn", "numpy"),
) -> None:
    """Write the rows into a .csv file beside the script, below its seeds, budget, versions and date."""
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
    head = f"seeds: {seeds}\nbudget: {budget}\nversions: {versions}\ndate: {date.today()}; {note}\n"
    comments = "".join(f"# {line}\n" for line in head.splitlines())
    write_text(Path(script).with_suffix(".csv"), comments + rows.to_csv(index=False, lineterminator="\n"))
