"""Make early.keras: the network of notebook 40, after few steps only, for notebook 50; needed only to make it again.

python datasets/cells/make_network.py
"""

from pathlib import Path

import keras

from helpers import data, unet

TRAINING = 600
STEPS = 60


def make() -> keras.Model:
    """Train on the first 600 drawings; the others have not been seen."""
    keras.utils.set_random_seed(0)
    cells = data.load("cells")
    images = [unet.standardize(image) for image in cells.X[:TRAINING]]
    targets = [unet.targets(labels) for labels in cells.y[:TRAINING]]
    network = unet.build_unet((None, None, 1), n_classes=2)
    unet.compile_model(network, unet.bce_jaccard)
    network.fit(
        unet.random_crops(images, targets, cells.X.shape[1], batch_size=6, seed=0),
        steps_per_epoch=STEPS,
        verbose=0,
        shuffle=False,
        callbacks=[unet.OneCycle(1.5e-2)],
    )
    # Without the optimizer's state and the loss, which prediction does not need.
    return keras.Model(network.inputs, network.outputs)


if __name__ == "__main__":
    make().save(Path(__file__).with_name("early.keras"))
