"""The images: tiles cut from two photographs that scikit-image ships."""

import numpy as np
from skimage import data as photographs

from helpers.data import Dataset

CLASSES = ("gravel", "grass")
SIDE, STEP = 64, 32
BANDS = 3


def build() -> Dataset:
    tiles, y, groups = [], [], []
    for label, name in enumerate(CLASSES):
        photograph = getattr(photographs, name)()
        width = photograph.shape[1] // BANDS
        for band in range(BANDS):
            strip = photograph[:, band * width : (band + 1) * width]
            for top in range(0, strip.shape[0] - SIDE + 1, STEP):
                for left in range(0, width - SIDE + 1, STEP):
                    tiles.append(strip[top : top + SIDE, left : left + SIDE])
                    y.append(label)
                    groups.append(f"{name} {band}")
    grey = np.stack(tiles)
    return Dataset(
        name="textures",
        kind="image",
        X=np.repeat(grey[..., None], 3, axis=-1),
        y=np.array(y, dtype=np.int64),
        class_names=CLASSES,
        source="scikit-image, data.gravel and data.grass (photographs from CC0 Textures)",
        licence="CC0 1.0",
        # Tiles of a band overlap: a band goes whole to training or to test.
        groups=np.array(groups),
    )
