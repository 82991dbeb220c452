"""Models that Keras 2 saved: what converts, what is refused, and that the result predicts as Keras 2 did."""

import runpy
import shutil

import h5py
import keras
import numpy as np
import pytest

from helpers.notebook import ROOT

FOLDER = ROOT / "datasets" / "keras2"
KERAS3 = runpy.run_path(str(FOLDER / "keras3.py"))
convert, cleaned = KERAS3["convert"], KERAS3["cleaned"]


class Contrast(keras.layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones", name="gamma")

    def call(self, x):
        return x ** keras.ops.exp(self.gamma - 1)


def difference(model, name):
    golden = np.load(FOLDER / "golden.npz")
    pixels = (golden["pixels"] / np.float32(16)).reshape(-1, *model.input_shape[1:])
    return np.abs(np.asarray(model(pixels, training=False)) - golden[name.replace(".keras", ".h5")]).max()


@pytest.mark.parametrize("name", ["gate.h5", "gate.keras", "lstm.h5", "contrast.h5", "convolution"])
def test_a_converted_model_predicts_as_keras_2_did_also_after_saving(name, tmp_path):
    objects = {"digits>Contrast": Contrast, "Contrast": Contrast}
    convert(FOLDER / name, objects).save(tmp_path / "new.keras")
    assert difference(keras.saving.load_model(tmp_path / "new.keras", objects), name) < 1e-5


def test_hard_sigmoid_is_another_function_in_keras_3():
    """If this fails, Keras has changed its mind, and the lesson must say so."""
    naive = keras.saving.load_model(FOLDER / "gate.h5", compile=False)
    assert difference(naive, "gate.h5") > 0.1


def test_only_arguments_without_effect_are_dropped_and_old_words_are_translated():
    def config(kind, **arguments):
        return {"class_name": kind, "config": arguments}

    assert cleaned(config("LSTM", units=3, time_major=False)) == config("LSTM", units=3)
    for kept in (
        config("LSTM", time_major=True),
        config("LeakyReLU", alpha=0.1),
        config("Dense", kernel_initializer=0),
    ):
        assert cleaned(kept) == kept
    old, new = config("Dense", batch_input_shape=[None, 12, 1]), config("Dense", input_shape=[12, 1])
    before_2_2_3 = {"class_name": "Sequential", "config": [old]}
    assert cleaned(before_2_2_3) == config("Sequential", name="sequential", layers=[new])
    assert cleaned(config("GRU", units=3)) == config("GRU", units=3, reset_after=False)
    assert cleaned([config("BatchNormalization", axis=[3])]) == [config("BatchNormalization", axis=3)]


def test_calls_of_a_model_in_a_model_are_counted_as_keras_3_counts_them():
    def layer(name, kind, came_from, **config):
        return {"class_name": kind, "config": config, "name": name, "inbound_nodes": came_from}

    def outer(call):
        inner = layer("inner", "Sequential", [[["x", 0, 0, {}]]], layers=[{"class_name": "InputLayer", "config": {}}])
        layers = [layer("x", "InputLayer", []), inner, layer("y", "Dense", [[["inner", call, 0, {}]]])]
        parts = {"layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["y", 0, 0], ["inner", call, 0]]}
        return {"class_name": "Functional", "config": parts}

    assert cleaned(outer(1)) == outer(0)


def test_an_argument_with_an_effect_is_refused_and_the_file_stays_as_it_is(tmp_path):
    path = shutil.copy(FOLDER / "lstm.h5", tmp_path / "old.h5")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"time_major": false', '"time_major": true')
    before = path.read_bytes()
    with pytest.raises(ValueError, match="time_major"):
        convert(path)
    assert path.read_bytes() == before


def test_a_file_without_a_configuration_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "text.h5").write_text("no model")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(tmp_path / "alone.weights.h5")
    for name in ("text.h5", "alone.weights.h5", "missing", "."):
        with pytest.raises(ValueError, match=r"holds no configuration of a model: build the model in Keras 3"):
            convert(tmp_path / name)


def test_code_in_a_file_is_not_run():
    with pytest.raises(ValueError, match="Lambda"):
        convert(FOLDER / "lambda.h5")
