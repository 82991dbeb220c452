"""Small files as readers have them, one kind a function: what notebooks are run on."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def write_csv(folder):
    """A small table as readers have them: an index, gaps, a category, a text, a constant, words as labels, a score."""
    rng = np.random.default_rng(0)
    lines = [";age;income;town;score;text;year;label"]
    for row in range(80):
        positive = row % 4 == 0
        age = "" if row % 9 == 0 else f"{rng.normal(50 if positive else 30, 8):.1f}"
        town, label = "Bonn" if row % 2 else "Köln", "yes" if positive else "no"
        score = rng.beta(3, 5) if positive else rng.beta(2, 8)
        text = f"{'gladly' if positive else 'not'} today, says number {row}" if row % 7 else ""
        lines.append(f"{row};{age};{rng.integers(900, 9000)};{town};{score:.4f};{text};2013;{label}")
    (folder / "own.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "own.csv"


def write_images(folder):
    """Photographs of two classes, of many sizes and modes, one on its side."""
    rng = np.random.default_rng(0)
    # So alike that no probability saturates: a small difference between two ways of predicting stays visible.
    for label, low in (("day", 10), ("night", 0)):
        (folder / "own" / label).mkdir(parents=True)
        for number in range(14):
            size = rng.integers(20, 140, 2)
            image = Image.fromarray(rng.integers(low, low + 200, (*size, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 6 if number == 0 else 1
            image.convert(("RGB", "L", "P", "RGBA")[number % 4]).save(
                folder / "own" / label / f"{number}.png", exif=exif
            )
    return folder / "own"


def write_text(folder):
    """Messages, label first; among them an empty one, one that is only punctuation, and one in another script."""
    texts = {
        "ham": ["see you at noon", "thanks for the book", "...", "до завтра"],
        "spam": ["win a prize", "free prize now"],
    }
    lines = [f"{label}\t{texts[label][row % len(texts[label])]} {row}" for row in range(40) for label in texts]
    (folder / "own.txt").write_text("\n".join([*lines, "ham\t ", "ham\t..."]), encoding="utf-8")
    return folder / "own.txt"


def write_pairs(image_dir, mask_dir):
    """Images with masks as readers have them: odd sizes, grey and RGBA, one without an object, one of one pixel."""
    rng = np.random.default_rng(0)
    for made in (image_dir, mask_dir):
        made.mkdir(parents=True)
    for number in range(14):
        height, width = rng.integers(40, 110, 2)
        y, x = np.mgrid[:height, :width]
        labels = np.zeros((height, width), dtype=np.uint8)
        for label in range(1, 6):
            centre, radius = rng.uniform(0, [height, width]), rng.uniform(4, 9)
            labels[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = label
        if number == 0:
            labels[:] = 0
        if number == 1:
            labels[0, 0] = 6
        image = np.clip(60 + 90 * (labels > 0) + rng.normal(0, 20, labels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).convert(("L", "RGBA")[number % 2]).save(image_dir / f"cell {number}.png")
        Image.fromarray(labels).save(mask_dir / f"cell {number}_mask.png")
    return image_dir, mask_dir


def write_series(folder):
    """Hourly values as readers have them: lines out of order, some missing, a gap, a wrong one, a column of words."""
    rng = np.random.default_rng(0)
    level = 50 + 10 * np.sin(2 * np.pi * np.arange(400) / 24) + rng.normal(0, 1, 400)
    level[100] = 500
    hours = np.datetime64("2013-01-01T00") + np.arange(400)
    lines = [f"{hour};{value:.2f};ok" for hour, value in zip(hours, level, strict=True)]
    lines[250] = f"{hours[250]};;ok"
    del lines[300:303]
    (folder / "own.csv").write_text("\n".join(["time;level;state", *lines[200:], *lines[:200]]), encoding="utf-8")
    return folder / "own.csv"


def write_parquet(folder):
    """A table in two files, whose columns are of many types, with gaps, a label and a text."""
    rng = np.random.default_rng(0)
    (folder / "own.parquet").mkdir()
    for number, rows in enumerate((20_000, 7_001)):
        columns = {
            "age": pa.array(rng.integers(18, 90, rows), mask=rng.random(rows) < 0.1),
            "income": rng.normal(3000, 900, rows),
            "town": rng.choice(["Bonn", "Köln"], rows),
            "ratio": rng.random(rows, dtype=np.float32),
            "label": rng.choice(["yes", "no"], rows),
        }
        pq.write_table(pa.table(columns), folder / "own.parquet" / f"{number}.parquet", row_group_size=3000)
    return folder / "own.parquet"


# Words that stand in the comment of `data_path`, and what they announce.
KINDS = {
    "CSV": write_csv,
    "Parquet file": write_parquet,
    "image folder": write_images,
    "text file": write_text,
    "time series": write_series,
}
