"""What each choice of a training does to a U-Net, over repetitions: the table that lesson 41 draws.

python benchmarks/evidence/mask_training.py     writes mask_training.csv beside it, in about 40 minutes on one core
    --photographs DIR     also on photographs: DIR/images and DIR/masks; without it, their rows stay as they are
    --resume              computes only the rows that the table lacks

Each row changes one thing of the reference, and takes the same number of steps. A repetition has its own training
images (600 are all there are), initial weights and crops, the same for all treatments. Nothing is chosen on the test
images: learning rates and thresholds are chosen on validation drawings.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import logit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.cell_images import SPLITS, parts, pooled
from benchmarks.evidence_table import write_table
from benchmarks.mask_recipes import LOSSES, Recipe, crops, probabilities, restarted, trained
from helpers import data, images, masks, unet

STEPS, REPEATS = 200, 5
CELLS = data.load("cells")
VALIDATION, TEST = range(600, 650), range(700, 800)
KEYS = ["part", "treatment", "images", "repeat"]
Done = set[tuple[Any, ...]]  # the keys of rows that are there, and the rates
HEAD: dict[str, Any] = {
    "seeds": f"""0 to {REPEATS - 1} (training images, weights, crops), 100 (learning rates); splits 0
to {SPLITS.stop - 1}""",
    "budget": f"{STEPS} steps (stopping: 400) of 6 crops of 64 pixels; photographs: 8 of 96",
    "note": """U-Net of helpers.unet; drawings: mean IoU of 100 test drawings, at
0.5 and at a threshold chosen on 50 others; photographs: 100 photographs of BBBC038, image set
of the 2018 Data Science Bowl, CC0: 70 to train, 30 to test, IoU and F1 of objects pooled""",
    "packages": ("tensorflow-cpu", "keras", "scikit-image", "numpy"),
}


GENTLE, STEEP = (0.001, 0.003, 0.01), (0.03, 0.1, 0.3, 1.0)
# What is chosen among learning rates, with a worse one on either side; the rest takes Adam's.
RATES = {
    "reference": (Recipe(), (0.003, 0.01, 0.03)),
    "AdamW": (Recipe(optimizer="AdamW"), (0.003, 0.01, 0.03, 0.1)),
    "SGD with momentum": (Recipe(optimizer="SGD with momentum"), STEEP),
    "no batch norm": (Recipe(batch_norm=False), GENTLE),
    "no batch norm, /255": (Recipe(batch_norm=False, pixels="/255"), GENTLE),
    "no batch norm, raw": (Recipe(batch_norm=False, pixels="raw"), GENTLE),
}
BROKEN = ("±10°, image alone", "±180°, image alone", "±10°, two seeds", "±10°, ignored key")


def treatments(rates: dict[str, float]) -> dict[str, Recipe]:
    """Return all recipes, with the learning rates that were chosen."""
    base = Recipe(rate=rates["reference"])
    found = {name: replace(recipe, rate=rates[name]) for name, (recipe, _) in RATES.items()}
    found |= {loss: replace(base, loss=loss) for loss in list(LOSSES)[1:]}
    found |= {name: replace(base, change=name) for name in ("±10°", "±180°", "brightness", "elastic", *BROKEN)}
    found |= {pixels: replace(base, pixels=pixels) for pixels in ("/255", "raw")}
    found["no augmentation"] = replace(base, turns=False)
    found["whole images"] = replace(base, side=96, batch=3)
    found["dropout 0.3"] = replace(base, dropout=0.3)
    return found | {"weight decay 0.1": replace(base, optimizer="AdamW, decay 0.1", rate=rates["AdamW"])}


def ious(p: Any, y: Any, threshold: float) -> Any:
    """Return the IoU of each image, 1 where both masks are empty."""
    return np.array([masks.iou(true > 0, one > threshold) for true, one in zip(y, p[..., 0], strict=True)])


def on_drawings(model: keras.Model, recipe: Recipe) -> dict[str, float]:
    """Return the mean IoU of the test drawings, at 0.5 and at a threshold chosen on the validation drawings."""
    chosen, judged = (probabilities(model, recipe, CELLS.X[rows]) for rows in (VALIDATION, TEST))
    best = max(np.arange(0.05, 1, 0.05), key=lambda threshold: ious(chosen, CELLS.y[VALIDATION], threshold).mean())
    return {"iou": ious(judged, CELLS.y[TEST], 0.5).mean(), "iou_tuned": ious(judged, CELLS.y[TEST], best).mean()}


def drawings(number: int, repeat: int) -> tuple[Any, Any]:
    """Return so many images and masks to train on, other ones in each repetition."""
    rows = np.random.default_rng(repeat).permutation(600)[:number]
    return CELLS.X[rows], (CELLS.y[rows] > 0)[..., np.newaxis]


def choose_rates(done: Done) -> Iterator[dict[str, Any]]:
    """Yield the validation IoU of each learning rate, once, on 60 images that are no repetition's."""
    for name, (recipe, rates) in RATES.items():
        for rate in rates:
            if ("rates", name, 60, 100, rate) in done:
                continue
            recipe = replace(recipe, rate=rate)
            model = trained(recipe, *drawings(60, 100), 100, STEPS)
            iou = ious(probabilities(model, recipe, CELLS.X[VALIDATION]), CELLS.y[VALIDATION], 0.5).mean()
            row = {"part": "rates", "treatment": name, "images": 60, "repeat": 100}
            yield row | {"rate": rate, "steps": STEPS, "iou": iou}


def on_numbers(rates: dict[str, float], done: Done) -> Iterator[dict[str, Any]]:
    """Yield each treatment on 12, 60 and 600 drawings."""
    for repeat in range(REPEATS):
        for name, recipe in treatments(rates).items():
            for number in (12, 60, 600):
                if ("drawings", name, number, repeat, recipe.rate) in done:
                    continue
                model = trained(recipe, *drawings(number, repeat), repeat, STEPS)
                row = {"part": "drawings", "treatment": name, "images": number, "repeat": repeat, "rate": recipe.rate}
                yield row | {"steps": STEPS} | on_drawings(model, recipe)


class Rule(keras.callbacks.EarlyStopping):
    """Keras's own, but that the training goes on for the other rules."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Decide, until it has stopped."""
        if not self.stopped_epoch:
            super().on_epoch_end(epoch, logs)
            self.model.stop_training = False

    on_train_end = keras.callbacks.Callback.on_train_end


def stopping(done: Done, epochs: int = 40) -> Iterator[dict[str, Any]]:
    """Yield what each rule of stopping keeps of a training at a constant rate, and the whole of one that falls."""
    recipe, few = Recipe(rate=0.003), range(600, 640)
    judges = unet.standardize(CELLS.X[few]), (CELLS.y[few] > 0)[..., np.newaxis].astype(np.float32)
    for repeat in range(REPEATS):
        for number in (12, 60, 600):
            if ("stopping", "falling rate, all steps", number, repeat, 0.01) in done:
                continue
            row = {"part": "stopping", "images": number, "repeat": repeat, "rate": recipe.rate}
            X, Y = drawings(number, repeat)
            watched = itertools.product([("val_loss", "min"), ("val_iou_metric", "max")], (2, 5, 10))
            rules = [Rule(name, mode=mode, patience=n, restore_best_weights=True) for (name, mode), n in watched]
            model, stream = restarted(recipe, repeat, 0), crops(list(unet.standardize(X)), Y, recipe, repeat)
            options = {"steps_per_epoch": 10, "epochs": epochs, "verbose": 0, "shuffle": False}
            model.fit(stream, validation_data=judges, callbacks=rules, **options)
            yield row | {"treatment": "constant rate, all steps", "steps": 10 * epochs} | on_drawings(model, recipe)
            for rule in rules:
                model.set_weights(rule.best_weights)
                name = f"{rule.monitor}, patience {rule.patience}"
                steps = 10 * (rule.stopped_epoch + 1 if rule.stopped_epoch else epochs)
                yield row | {"treatment": name, "steps": steps} | on_drawings(model, recipe)
            found = on_drawings(trained(Recipe(), X, Y, repeat, 10 * epochs), recipe)
            yield row | {"treatment": "falling rate, all steps", "rate": 0.01, "steps": 10 * epochs} | found


def on_photographs(folder: Path, rates: dict[str, float], done: Done) -> Iterator[dict[str, Any]]:
    """Yield the main treatments on 70 photographs, judged on 30 others by pooled IoU and F1 of objects."""
    photographs = images.open_pairs(folder / "images", folder / "masks")
    names = ["reference", "weighted BCE", "BCE + Dice", "SGD with momentum", "/255", "no augmentation", "±180°"]
    for split in SPLITS:
        train, test = parts("photographs", photographs, split)
        for name in [*names, BROKEN[0]]:
            recipe = replace(treatments(rates)[name], channels=2, side=96, batch=8)
            if ("photographs", name, 70, split, recipe.rate) in done:
                continue
            X, labels = ([values[i] for i in train] for values in (photographs.X, photographs.y))
            model = trained(recipe, X, [unet.targets(of) for of in labels], split, STEPS)
            p = probabilities(model, recipe, [photographs.X[i] for i in test])
            found = [unet.find_objects(logit(one)) for one in p]
            row = {"part": "photographs", "treatment": name, "images": 70, "repeat": split, "rate": recipe.rate}
            yield row | {"steps": STEPS} | pooled([photographs.y[i] for i in test], p[..., 0] > 0.5, found)


def main() -> None:
    """Write the table, row by row: a run that is cut keeps what it has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--resume", action="store_true")
    options, path = parser.parse_args(), Path(__file__).with_suffix(".csv")
    old = pd.read_csv(path, comment="#") if path.exists() else pd.DataFrame(columns=KEYS)
    # Whoever has no photographs keeps the rows that were made of them.
    stays = options.resume or (old["part"] == "photographs") & (options.photographs is None)
    rows: list[Any] = old[np.broadcast_to(stays, len(old))].to_dict("records")
    done = {tuple(row[key] for key in [*KEYS, "rate"]) for row in rows if options.resume}
    columns = [*KEYS, "rate", "steps", "iou", "iou_tuned", "f1"]

    def keep(found: Iterator[dict[str, Any]]) -> None:
        for row in found:
            rows.append(row)
            table = pd.DataFrame(rows).reindex(columns=columns).drop_duplicates([*KEYS, "rate"], keep="last")
            table = table.sort_values(KEYS[:1] + KEYS[2:], kind="stable").astype({"steps": int})
            write_table(__file__, table.round(4), **HEAD)

    keep(choose_rates(done))
    tried = pd.DataFrame([row for row in rows if row["part"] == "rates"]).sort_values("iou")
    rates: Any = tried.drop_duplicates("treatment", keep="last").set_index("treatment")["rate"].to_dict()
    keep(on_numbers(rates, done))
    keep(stopping(done))
    if options.photographs:
        keep(on_photographs(options.photographs, rates, done))


if __name__ == "__main__":
    main()
