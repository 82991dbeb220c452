"""The tables that lesson 42 draws: complete, and of the networks that their script builds; and the encoder."""

import runpy

import numpy as np
import pytest

from helpers import data, unet
from helpers.notebook import ROOT

FOLDER = ROOT / "datasets" / "encoder"


def test_every_split_has_every_row(table, script):
    runs = table[table["part"] != "cost"]
    assert not runs.duplicated(["part", "architecture", "split", "images", "steps"]).any()
    # One split has the textbook's network, and the longest training.
    alike = (runs["architecture"] != "textbook U-Net") & ~runs["steps"].isin(script["LONG"])
    counted = runs[alike].groupby("split").size()
    assert list(counted.index) == [0, 1, 2] and counted.nunique() == 1
    assert runs[["iou", "f1"]].stack().between(0, 1).all()
    assert set(table.loc[table["part"] == "cost", "architecture"]) == set(script["RECIPES"])


def test_the_networks_have_the_weights_of_the_table(table, script):
    for name in script["RECIPES"]:
        assert (table.loc[table["architecture"] == name, "weights"] == script["build"](name).count_params()).all()


def test_deeplab_gives_objects_in_the_size_of_the_image_and_cannot_be_tiled(script):
    cells, network = data.load("cells"), script["build"]("DeepLabV3+")
    inside, objects = script["objects"](network, cells.X[0])
    assert inside.shape == objects.shape == cells.y[0].shape
    with pytest.raises(ValueError, match="GlobalAveragePooling2D"):
        unet.receptive_field(network)


def test_a_frozen_encoder_learns_nothing_and_a_random_one_knows_nothing(script):
    pre_trained, frozen, random = (script["build"](name) for name in list(script["RECIPES"])[3:])
    assert 2 * len(frozen.trainable_weights) < len(pre_trained.trainable_weights) == len(random.trainable_weights)
    first = [network.get_layer("stem").get_weights()[0] for network in (pre_trained, frozen, random)]
    assert (first[0] == first[1]).all() and (first[0] != first[2]).any()
    assert unet.receptive_field(pre_trained) == (120, 16)


def test_dilation_reads_what_the_encoder_has_always_read(script):
    """Of the finer grid, every second cell is the coarse grid's, where no padding is near."""
    encoder = script["keras"].models.load_model(FOLDER / "encoder.keras")
    image = np.random.default_rng(0).normal(size=(1, 256, 256, 3)).astype(np.float32)
    coarse, fine = (model.predict_on_batch(image)[-1] for model in (encoder, script["dilated"](encoder)))
    # TensorFlow pads a stride of 2 by one less at the start.
    middle = fine[:, 1::2, 1::2]
    assert middle.shape == coarse.shape
    np.testing.assert_allclose(middle[:, 6:-6, 6:-6], coarse[:, 6:-6, 6:-6], atol=1e-4)


def test_the_encoder_is_small_and_has_the_layers_of_its_script():
    keras = pytest.importorskip("keras")
    stored, built = (
        keras.models.load_model(FOLDER / "encoder.keras"),
        runpy.run_path(str(FOLDER / "make.py"))["build"](),
    )
    assert (FOLDER / "encoder.keras").stat().st_size < 600_000
    assert [layer.name for layer in stored.layers] == [layer.name for layer in built.layers]
    assert stored.count_params() == built.count_params() == 76_080
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "| licence | Zlib |" in card and "3. This notice may not be removed" in card


def test_the_encoder_is_blind_to_images_that_were_divided_by_255():
    """It wants standardised images: grey levels that were divided by 255 look black to it, and even."""
    keras = pytest.importorskip("keras")
    encoder, photograph = keras.models.load_model(FOLDER / "encoder.keras"), data.load("nuclei").X[0][:256, :256]
    right = np.repeat(unet.standardize(photograph), 3, axis=-1)
    wrong = (np.repeat(photograph / np.float32(255), 3, axis=-1) - 115) / 60
    for image, (low, high) in ((right, (0.5, 2)), (wrong, (0, 0.02))):
        seen, even = encoder.predict_on_batch(np.stack([image, np.full_like(image, image.mean())]))[2]
        assert low < abs(seen - even).mean() / abs(even).mean() < high
