"""``make store``: execute notebooks and store their outputs, so that a diff shows only what changed.

Execution counts, outputs and one kernel name are kept; timings, runner metadata and the interpreter's version are not.
A cell tagged ``nbval-ignore-output`` shows what depends on the machine (times, versions): its new output alone is no
reason to touch a file, so that storing twice changes no byte.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.notebook import RESULTS_PATH, write_text
from tools.run import notebooks, run_notebook

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def clean(executed: Any) -> Any:
    """Return the notebook without what differs from run to run."""
    notebook = copy.deepcopy(executed)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = _merged(cell.outputs)
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    return notebook


def _merged(outputs: list[Any]) -> list[Any]:
    """Join neighbouring pieces of one stream: where it is cut depends on timing."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def same(new: Any, old: Any) -> bool:
    """Tell whether two notebooks are equal but for the outputs of cells whose output is not compared."""

    def compared(notebook: Any) -> Any:
        notebook = copy.deepcopy(notebook)
        for cell in notebook.cells:
            if "nbval-ignore-output" in cell.metadata.get("tags", []):
                cell.outputs = []
        return notebook

    return compared(new) == compared(old)


def store(path: Path) -> str:
    """Execute one notebook with its own parameters and write it if something changed; return what was done."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_notebook(path, folder, {RESULTS_PATH: ""})
        if run.error:
            raise RuntimeError(f"{path.name} was not stored: {run.error}")
        new = clean(nbformat.read(run.output, as_version=4))
    nbformat.validate(new)
    text = nbformat.writes(new) + "\n"
    old = path.read_text(encoding="utf-8")
    if text == old or same(new, nbformat.reads(old, as_version=4)):
        return "unchanged"
    write_text(path, text)
    return "stored"


def main(prefixes: list[str]) -> int:
    """Store the named notebooks, or all; return the exit status."""
    status = 0
    for path in [path for prefix in prefixes or [""] for path in notebooks(prefix)]:
        print(f"{path.name}: ", end="", flush=True)
        try:
            print(store(path))
        except (RuntimeError, ValueError) as error:
            print(error)
            status = 1
    return status


if __name__ == "__main__":
    os.chdir(tempfile.gettempdir())
    sys.exit(main(sys.argv[1:]))
