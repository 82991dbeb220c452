"""StarDist on the photographs of lesson 42, over the time of its training: the curve beside ours.

python -m venv build/stardist                  an environment of its own: StarDist needs Keras 2
build/stardist/bin/pip install stardist==0.9.2 tf-keras tensorflow-cpu scikit-image
build/stardist/bin/python benchmarks/evidence/stardist_nuclei.py --photographs FOLDER

Splits are those of `mask_architectures.py`; the last 10 of the 70 training images choose StarDist's thresholds, and its
learning rate is halved by its own rule. Its settings were the best of a few on split 0: every second pixel a polygon of
32 rays, a learning rate of 0.001, its own normalisation, crops of 128 pixels in batches of 4, turns, mirrors, exposure.
"""

import argparse
import os
import platform
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.update(TF_USE_LEGACY_KERAS="1", TF_NUM_INTRAOP_THREADS="1", OMP_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")

import numpy as np
from skimage import io

RANDOM = np.random.default_rng(0)
MARKS = (40, 80, 120, 180, 260, 400, 420)
COLUMNS = "split,cpu_seconds,epochs,iou,f1"


def augment(image: Any, labels: Any) -> tuple[Any, Any]:
    """Turn and mirror both; change the exposure of the image."""
    turns, mirrored = int(RANDOM.integers(4)), bool(RANDOM.integers(2))
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if mirrored:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return image * RANDOM.uniform(0.6, 2) + RANDOM.uniform(-0.2, 0.2), labels


def score(model: Any, known: Any, unseen: Any, overlaps: Any) -> tuple[float, float]:
    """Choose both thresholds on known images; return IoU and F1 of objects of unseen ones, pooled."""
    from stardist.matching import matching_dataset

    best = model.optimize_thresholds(*known, nms_threshs=overlaps, save_to_json=False)
    found = [model.predict_instances(x, prob_thresh=best["prob"], nms_thresh=best["nms"])[0] for x in unseen[0]]
    both = sum(int(((y > 0) & (p > 0)).sum()) for y, p in zip(unseen[1], found, strict=True))
    either = sum(int(((y > 0) | (p > 0)).sum()) for y, p in zip(unseen[1], found, strict=True))
    return both / either, matching_dataset(unseen[1], found, thresh=0.5, show_progress=False).f1


def rows_of_split(photographs: Path, split: int, folder: str) -> Iterator[str]:
    """Train once; yield a row at each of the marks, of which scoring takes no part."""
    # Not above: the project's own environment has none of these.
    import tensorflow as tf
    from csbdeep.utils import normalize
    from stardist import fill_label_holes
    from stardist.models import Config2D, StarDist2D

    names = sorted(path.name for path in (photographs / "images").iterdir())
    X = [normalize(io.imread(photographs / "images" / name).astype(np.float32), 1, 99.8) for name in names]
    y = [fill_label_holes(io.imread(photographs / "masks" / name).astype(np.int32)) for name in names]
    order = np.random.default_rng(split).permutation(len(names))
    train, late, test = ([[part[i] for i in rows] for part in (X, y)] for rows in np.split(order, [60, 70]))
    options = {"train_patch_size": (128, 128), "train_batch_size": 4, "train_learning_rate": 1e-3}
    options |= {"train_reduce_lr": {"factor": 0.5, "patience": 40, "min_delta": 0}, "train_tensorboard": False}
    config = Config2D(n_rays=32, grid=(2, 2), train_epochs=1000, train_steps_per_epoch=10, train_checkpoint=None,
                      train_checkpoint_last=None, train_checkpoint_epoch=None, **options)  # fmt: skip
    model, rows, marks = StarDist2D(config, name=str(split), basedir=folder), list[str](), list(MARKS)

    class Score(tf.keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.start = time.process_time()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            passed = (before := time.process_time()) - self.start
            if marks and passed > marks[0]:
                del marks[0]
                iou, f1 = score(model, late, test, [0.3, 0.5] if marks else [0.3, 0.4, 0.5])
                rows.append(f"{split},{passed:.0f},{epoch + 1},{iou:.3f},{f1:.3f}")
                self.start += time.process_time() - before
            self.model.stop_training = not marks

    model.prepare_for_training()
    model.callbacks = [Score(), *(model.callbacks or [])]
    model.train(*train, validation_data=tuple(late), augmenter=augment)
    yield from rows


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--splits", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    photographs, splits = options.photographs, options.splits
    if not photographs:
        return print("nothing is written: it needs an environment of its own, and photographs; see the docstring")
    with TemporaryDirectory() as folder:
        rows = [row for split in splits for row in rows_of_split(photographs, split, folder)]
    versions = ", ".join(f"{name} {version(name)}" for name in ("stardist", "tf-keras", "numpy"))
    head = f"""# seeds: {splits} (split); StarDist draws its weights and crops without one
# budget: {MARKS[-1]} CPU-seconds, of all cores together; on two cores about half
# versions: Python {platform.python_version()}, {versions}
# date: {date.today()}; measured in an environment of its own; 100 photographs of BBBC038 (CC0), 70 to train, 30 to test
"""
    Path(__file__).with_suffix(".csv").write_text(head + "\n".join([COLUMNS, *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
