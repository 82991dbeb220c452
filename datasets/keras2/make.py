"""Make the models of Keras 2 and what they predict for golden rows; needed only to make them again.

python datasets/keras2/make.py          writes only where there are none
python datasets/keras2/make.py --force  overwrites: two trainings differ

The rows are scikit-learn's digits: the first 1,197 teach, the last 600 are golden rows. `tf-keras` does everything,
in the environment of `environment.py`.
"""

import sys
from pathlib import Path
from typing import Any

import environment
import numpy as np

FOLDER = Path(__file__).parent
GOLDEN = 600


def build(k: Any) -> dict[str, Any]:
    """Return models that classify digits of 8 x 8 pixels, each with something that Keras 3 reads otherwise."""
    layers = k.layers

    @k.utils.register_keras_serializable("digits")
    class Contrast(layers.Layer):  # type: ignore[name-defined]
        def build(self, shape: Any) -> None:
            self.gamma = self.add_weight("gamma", shape[-1:], initializer="ones")

        def call(self, x: Any) -> Any:
            return x ** k.backend.exp(self.gamma - 1)

    def image(*inner: Any) -> Any:
        return k.Sequential([layers.Input((8, 8, 1)), *inner, layers.Dense(10, activation="softmax")])

    flat = layers.Input((64,))
    hidden = layers.Dense(32, activation="relu")(flat)
    gate = layers.Dense(32, activation="hard_sigmoid")(flat)
    gated = layers.Dense(10, activation="softmax")(layers.Multiply()([hidden, gate]))
    rows = [layers.Input((8, 8)), layers.LSTM(24, recurrent_activation="hard_sigmoid")]
    convolution = [layers.Conv2D(16, 3, activation="relu"), layers.BatchNormalization(), layers.DepthwiseConv2D(3)]
    return {
        "gate.h5": k.Model(flat, gated),
        "lstm.h5": k.Sequential([*rows, layers.Dense(10, activation="softmax")]),
        "contrast.h5": k.Sequential([layers.Input((64,)), Contrast(), layers.Dense(10, activation="softmax")]),
        "lambda.h5": k.Sequential([layers.Input((64,)), layers.Lambda(lambda x: 2 * x - 1), layers.Dense(10)]),
        "convolution": image(*convolution, layers.ReLU(), layers.Flatten()),
    }


def train() -> None:
    """Teach, save and predict, in an environment with `tf-keras`."""
    import tf_keras as k

    k.utils.set_random_seed(0)
    golden = np.load(FOLDER / "golden.npz")
    rows = {name: golden[name] for name in golden}
    teach, labels = rows.pop("teach") / np.float32(16), rows.pop("labels")
    X = rows["pixels"] / np.float32(16)

    def focal(y_true: Any, y_pred: Any) -> Any:
        loss = k.losses.sparse_categorical_crossentropy(y_true, y_pred)
        return loss * (1 - k.backend.exp(-loss)) ** 2

    for name, model in build(k).items():
        shape = (-1, *model.input_shape[1:])
        loss = focal if name == "contrast.h5" else "sparse_categorical_crossentropy"
        if name == "lambda.h5":
            loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
        if name == "gate.h5":
            loss, target = "mse", np.eye(10, dtype="float32")[labels]
        else:
            target = labels
        model.compile(k.optimizers.Adam(0.005), loss, metrics=["accuracy"])
        model.fit(teach.reshape(shape), target, epochs=25, batch_size=32, verbose=0)
        model.save(FOLDER / name, **({} if "." in name else {"save_format": "tf", "include_optimizer": False}))
        if name == "gate.h5":
            model.save(FOLDER / "gate.keras")
        rows[name] = model.predict(X.reshape(shape), batch_size=len(X), verbose=0)
        print(f"{name:18} {(rows[name].argmax(axis=1) == rows['digit']).mean():.3f}")
    np.savez_compressed(FOLDER / "golden.npz", **rows)


if __name__ == "__main__":
    target = FOLDER / "golden.npz"
    if "--here" in sys.argv:
        train()
    elif target.exists() and "--force" not in sys.argv:
        sys.exit(f"{target.name} is there already; --force overwrites it and the models.")
    else:
        # Not above: the other environment lacks it.
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels, digit = digits.data.astype("uint8"), digits.target.astype("uint8")
        given = {"teach": pixels[:-GOLDEN], "labels": digit[:-GOLDEN]}
        np.savez_compressed(target, pixels=pixels[-GOLDEN:], digit=digit[-GOLDEN:], **given)
        environment.run(__file__, "--here")
