"""Drawings of cells under a microscope, each pixel with the number of its cell: made here, from a seed."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from helpers.data import Dataset

IMAGES = 900
SIDE = 96
SEED = 20261120


def build() -> Dataset:
    random = np.random.default_rng(SEED)
    pairs = [draw(random) for _ in range(IMAGES)]
    return Dataset(
        name="cells",
        kind="mask",
        X=np.stack([image for image, _ in pairs])[..., np.newaxis],
        y=np.stack([labels for _, labels in pairs]),
        class_names=("background", "cell"),
        source="drawn by build.py",
        licence="CC0 1.0",
    )


def draw(random: np.random.Generator, side: int = SIDE) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Draw one image: touching cells, uneven light, debris and fibres brighter than cells, noise.

    Returns
    -------
    image : ndarray of shape (side, side), dtype uint8
    labels : ndarray of shape (side, side), dtype int32
        0 for the background, else the number of the cell.
    """
    y, x = np.mgrid[:side, :side].astype(np.float64)
    many = (side / SIDE) ** 2
    labels, cells = _cells(random, x, y, random.poisson(3.5 * many) + 1)
    # The illumination is up to three times as strong on one side as on the other.
    slope = random.uniform(0.1, 0.5) * np.exp(2j * np.pi * random.uniform())
    image = (0.45 + (slope.real * (x / side - 0.5) + slope.imag * (y / side - 0.5))) * (1 + 0.9 * cells)
    image += 0.08 * gaussian_filter(random.normal(size=labels.shape), 8) * 8
    for _ in range(random.poisson(4 * many)):
        at, width = random.uniform(0, side, 2), random.uniform(0.8, 2)
        image += random.uniform(0.4, 0.8) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * width**2))
    for _ in range(random.poisson(0.8 * many)):
        angle, offset, width = random.uniform(0, np.pi), random.uniform(-0.5, 0.5) * side, random.uniform(0.7, 1.2)
        distance = (x - side / 2) * np.sin(angle) - (y - side / 2) * np.cos(angle) - offset
        image += random.uniform(0.2, 0.5) * np.exp(-(distance**2) / (2 * width**2))
    image = gaussian_filter(image, 0.7) + random.normal(0, random.uniform(0.02, 0.05), labels.shape)
    return (255 * np.clip(image / 1.6, 0, 1)).astype(np.uint8), labels


def _cells(
    random: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64], clusters: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Lay ellipses so that those of a cluster touch; return their numbers and how bright each pixel of them is."""
    labels, light = np.zeros(x.shape, dtype=np.int32), np.zeros(x.shape)
    for _ in range(clusters):
        at, reach = random.uniform(0, x.shape[0], 2), 0.0
        for _ in range(random.integers(1, 5)):
            axes = random.uniform(6, 10) * np.array([1, random.uniform(0.7, 1)])
            # The next cell touches the last one, or presses into it.
            direction = random.uniform(0, 2 * np.pi)
            distance = random.uniform(0.85, 1.05) * (reach + axes.mean()) if reach else 0.0
            at = at + distance * np.array([np.sin(direction), np.cos(direction)])
            reach = float(axes.mean())
            angle = random.uniform(0, np.pi)
            along = (x - at[1]) * np.cos(angle) + (y - at[0]) * np.sin(angle)
            across = (y - at[0]) * np.cos(angle) - (x - at[1]) * np.sin(angle)
            radius = (along / axes[0]) ** 2 + (across / axes[1]) ** 2
            free = (radius < 1) & (labels == 0)
            if free.sum() < 0.6 * np.pi * axes.prod():
                continue
            labels[free] = labels.max() + 1
            light[free] = random.uniform(0.4, 0.8) * (1 - 0.4 * radius[free])
    return labels, light
