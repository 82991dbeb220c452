"""``make lab``: copies of the notebooks in build/lab, so that reading one changes no tracked file.

A copy that was changed is the reader's and is never overwritten; one that was not follows its original.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.notebook import ROOT, write_text


def copy(originals: Path, folder: Path) -> list[str]:
    """Bring `folder` up to date; return a message for each original that is newer than the reader's changed copy.

    Links to other folders of the project get the levels that the copies lie deeper.
    """
    record = folder / ".copied.json"
    copied: dict[str, str] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    deeper = "../" * (len(folder.relative_to(ROOT).parts) - len(originals.relative_to(ROOT).parts))
    messages = []
    for original in sorted(originals.glob("[0-9]*.ipynb")):
        text = original.read_text(encoding="utf-8").replace("](../", f"](../{deeper}")
        there, digest = folder / original.name, hashlib.sha256(text.encode()).hexdigest()
        if there.exists() and hashlib.sha256(there.read_bytes()).hexdigest() != copied.get(original.name):
            if digest != copied.get(original.name):
                messages.append(f"{original.name}: your changed copy is kept; the original is newer.")
            continue
        write_text(there, text)
        copied[original.name] = digest
    write_text(record, json.dumps(copied, indent=1))
    return messages


if __name__ == "__main__":
    for message in copy(ROOT / "notebooks", ROOT / "build" / "lab"):
        print(message)
    print("==> copies of the notebooks are in build/lab; they are yours. `make lab-edit` opens the originals.")
