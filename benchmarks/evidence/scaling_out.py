"""Notebook 80: what Ray gave, for readers who have not installed it.

The lesson's own cells are run, and what each of its calls of Ray gave is written as JSON.
"""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pandas as pd

from benchmarks.evidence_table import write_table
from helpers.notebook import ROOT, UserError

LESSON = ROOT / "notebooks" / "80_scaling_out.ipynb"


def run_lesson() -> dict[str, Any]:
    """Run the cells of the lesson as they stand; return its names."""
    # Ray sends classes of this name as they are; those of a module it would expect workers to find.
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, LESSON.name, "exec"), names)
    if names["ray"] is None:
        raise UserError("Ray is missing: `make scale` installs it.")
    return names


def main() -> None:
    """Run the lesson, and write the table."""
    measured = run_lesson()["measured"]
    rows = pd.DataFrame({"what": list(measured), "gave": [json.dumps(gave) for gave in measured.values()]})
    write_table(
        __file__,
        rows,
        seeds="0",
        budget="one run with two workers, on two cores shared with other work, which the seconds contain",
        note="what each call of Ray in the lesson gave, as JSON",
        packages=("ray", "tensorflow-cpu", "keras", "pyarrow"),
    )


if __name__ == "__main__":
    main()
