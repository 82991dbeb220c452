"""What the tables of chapters 4 and 5 share: splits of images of cells, scores of all together, one kind made anew."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.evidence_table import write_table
from helpers import data, images, masks, notebook

SPLITS = range(3)
CROPS = {"drawings": 96, "photographs": 128}
Rows = NDArray[np.int64]


def parts(kind: str, cells: Any, k: int) -> tuple[Rows, Rows]:
    """Return the rows to train and to judge on: of photographs 70 and the rest, of the drawings 300 and 100 others."""
    order = np.random.default_rng(k).permutation(600 if kind == "drawings" else len(cells))
    return (order[:300], np.arange(600, 700) + 100 * k) if kind == "drawings" else (order[:70], order[70:])


def pooled(true: Sequence[Any], inside: Sequence[Any], objects: Sequence[Any]) -> dict[str, float]:
    """Return IoU of the masks and F1 of the objects, of all images together."""
    pairs = [(y > 0, mask) for y, mask in zip(true, inside, strict=True)]
    both, either = (sum(int(of(*pair).sum()) for pair in pairs) for of in (np.logical_and, np.logical_or))
    counts = map(masks.count_objects, true, objects)
    return {"iou": both / either, "f1": sum(counts, masks.ObjectCounts(0, 0, 0)).f1}


def write_by_kind(
    script: str, repetition: Callable[[str, Any, int], Iterable[dict[str, Any]]], *, budget: str, note: str
) -> None:
    """Make the rows of one kind of images anew, keep the others, and write the table after each split."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", default="", help="a folder with the folders images and masks")
    folder = parser.parse_args().photographs
    notebook.setup({}, exact=False)
    kind = "photographs" if folder else "drawings"
    cells = images.open_pairs(f"{folder}/images", f"{folder}/masks") if folder else data.load("cells")
    table = Path(script).with_suffix(".csv")
    rows = pd.read_csv(table, comment="#").query("images != @kind") if table.exists() else pd.DataFrame()
    rows = rows.convert_dtypes()  # Whole numbers that may be missing stay whole.
    for k in notebook.progress(list(SPLITS), f"{kind}, split"):
        rows = pd.concat([rows, pd.DataFrame(repetition(kind, cells, k)).convert_dtypes()]).round(4)
        write_table(
            script,
            rows.sort_values(["images", "split"], kind="stable"),
            seeds=f"splits and networks {SPLITS.start} to {SPLITS.stop - 1}",
            budget=f"{budget} (128 px of photographs, 96 px of drawings) for each network",
            note=note,
            packages=("keras", "scikit-image", "numpy"),
        )
