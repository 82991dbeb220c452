"""Make image.png and mask.png from the wheel of stardist 0.9.2 (PyPI); needed only to make them again.

pip download --no-deps stardist==0.9.2
unzip -j stardist-0.9.2-*.whl 'stardist/data/images/*2d.tif'
python datasets/nuclei/make.py .
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def make(source: Path, target: Path) -> None:
    """Write both as PNG of 8 bits: no value is larger."""
    for old, new in (("img2d.tif", "image.png"), ("mask2d.tif", "mask.png")):
        with Image.open(source / old) as picture:
            values = np.asarray(picture)
        assert values.max() < 256
        Image.fromarray(values.astype(np.uint8)).save(target / new, optimize=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(__file__).parent)
