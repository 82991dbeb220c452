"""Lesson 40's U-Net in repetitions: learning curves, without skip connections, on a photograph: the lesson draws them.

python benchmarks/evidence/unet.py     writes unet.csv beside it, in about a quarter of an hour of one core

Drawings: each seed takes other first weights and other crops; training, validation and test images are the lesson's.
The case of 10 images trains on the first ten of them. Photograph: it is cut into four quarters; each is predicted by a
network trained on the other three, and by a local threshold chosen on them. Masks are the pixels with a logit above 0.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skimage.filters import gaussian

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.evidence_table import write_table
from helpers import data, masks, notebook

SEEDS = range(3)
STEPS = {"drawings": 600, "photograph": 200}
CASES: dict[str, dict[str, Any]] = {"600 images": {}, "10 images": {}, "no skips": {"with_skips": False}}
CELLS = notebook.ROOT / "datasets" / "cells"
Row = tuple[str, int, str, int, str]


def make_script() -> dict[str, Any]:
    """Return the functions with which the lesson's stored network was trained."""
    return runpy.run_path(str(CELLS / "make_unet.py"))


def of_drawings(case: str, seed: int) -> Iterator[Row]:
    """Yield losses every 50 steps, and the mean scores of the test images."""
    import keras

    lesson, cells = make_script(), data.load("cells")
    train, validation, test = lesson["split"]()
    images = [lesson["standardize"](image) for image in cells.X]
    targets = [(labels > 0)[..., np.newaxis].astype("float32") for labels in cells.y]
    chosen = train[:10] if case == "10 images" else train
    unseen = tuple(np.stack([array[i] for i in validation]) for array in (images, targets))
    keras.utils.set_random_seed(seed)
    network = lesson["build_unet"](**CASES[case])
    pairs = [images[i] for i in chosen], [targets[i] for i in chosen]
    history = lesson["fit"](network, *pairs, STEPS["drawings"], seed, validation_data=unseen).history
    for number, (loss, val_loss) in enumerate(zip(history["loss"], history["val_loss"], strict=True), start=1):
        yield "training loss", seed, case, 50 * number, f"{loss:.4f}"
        yield "validation loss", seed, case, 50 * number, f"{val_loss:.4f}"
    logits = network.predict(np.stack([images[i] for i in test]), verbose=0)[..., 0]
    for name, score in (("IoU", masks.iou), ("boundary IoU", masks.boundary_iou)):
        scores = [score(cells.y[i] > 0, found > 0) for i, found in zip(test, logits, strict=True)]
        yield name, seed, case, STEPS["drawings"], f"{np.mean(scores):.4f}"


def of_photograph(seed: int) -> Iterator[Row]:
    """Yield the IoU of each quarter, predicted by networks that were trained on the other three."""
    import keras

    lesson, nuclei = make_script(), data.load("nuclei")
    image, mask = lesson["standardize"](nuclei.X[0]), (nuclei.y[0] > 0)[..., np.newaxis].astype("float32")
    corners = [(slice(top, top + 256), slice(left, left + 256)) for top in (0, 256) for left in (0, 256)]
    smooth, y_true = gaussian(image[..., 0], 1), mask[..., 0] > 0
    above = smooth - gaussian(smooth, 15)
    for quarter, where in enumerate(corners):
        rest = [other for other in corners if other != where]

        def score(cut: float, parts: list[Any]) -> float:
            return float(np.mean([masks.iou(y_true[part], above[part] > cut) for part in parts]))

        cuts = np.arange(-1, 3, 0.1)
        cut = cuts[np.argmax([score(value, rest) for value in cuts])]
        yield "photograph IoU", seed, "local threshold, from the rest", quarter, f"{score(cut, [where]):.4f}"
        others = [[array[other] for other in rest] for array in (image, mask)]
        for case in ("U-Net, trained on the rest", "U-Net, fine-tuned on the rest"):
            keras.utils.set_random_seed(seed)
            network = lesson["build_unet"]()
            if "fine-tuned" in case:
                network.set_weights(keras.saving.load_model(CELLS / "unet.keras").get_weights())
            lesson["fit"](network, *others, STEPS["photograph"], seed)
            found = network.predict(image[where][np.newaxis], verbose=0)[0, ..., 0] > 0
            yield "photograph IoU", seed, case, quarter, f"{masks.iou(y_true[where], found):.4f}"


def main() -> None:
    """Write the table."""
    notebook.setup({}, exact=False)
    every: list[Row] = []
    for seed in notebook.progress(SEEDS, "repetition"):
        for case in CASES:
            every += of_drawings(case, seed)
    every += of_photograph(0)
    table = pd.DataFrame(every, columns=["score", "seed", "case", "at", "value"], dtype=object)
    note = "at: training step, or the photograph's quarter (0 to 3: top left, top right, below)"
    budget = f"{STEPS['drawings']} steps of 8 crops of 64 pixels, {STEPS['photograph']} on the photograph"
    seeds = f"{SEEDS.start} to {SEEDS.stop - 1} (first weights and crops); of the photograph 0"
    write_table(__file__, table, seeds=seeds, budget=budget, note=note)


if __name__ == "__main__":
    main()
