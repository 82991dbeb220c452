"""Make markers.keras, which `helpers.unet.train` gives for the first 600 drawings: for lessons that load a network.

python datasets/cells/make_network.py --force

The file is overwritten with --force only: two savings differ in their bytes. early.keras, for notebook 50, was stopped
after 60 steps; it is not made anew.
"""

import sys
from pathlib import Path

import keras

from helpers import data, unet

TRAINING = 600
STEPS = 600


def make() -> keras.Model:
    """Train on the first 600 drawings; the others have not been seen."""
    cells = data.load("cells")
    network = unet.train(cells.X[:TRAINING], cells.y[:TRAINING], steps=STEPS, crop=96)
    # Without the optimizer's state and the loss, which prediction does not need.
    return keras.Model(network.inputs[0], network.outputs[0])


if __name__ == "__main__":
    target = Path(__file__).with_name("markers.keras")
    if target.exists() and "--force" not in sys.argv:
        raise SystemExit(f"{target.name} exists: --force makes it anew")
    make().save(target)
