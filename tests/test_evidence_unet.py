"""The table that lesson 40 draws, and the network that it loads: both by the lines that the lesson writes out."""

import evidence
import numpy as np
import pytest

from helpers import data, masks
from helpers.notebook import ROOT


def test_another_training_reaches_what_the_table_says(table):
    pytest.importorskip("keras")
    found = {
        (score, at): float(value) for score, _, _, at, value in evidence.script("unet")["of_drawings"]("600 images", 77)
    }
    for score in ("IoU", "boundary IoU", "validation loss"):
        rows = table.query("score == @score and case == '600 images' and at == 600")["value"]
        assert len(rows) == 3
        assert evidence.lies_within(rows, found[score, 600], least=0.02), score


def test_every_case_has_every_row_and_each_quarter_was_judged(table):
    losses = table[table["score"].str.endswith("loss")].groupby(["case", "score", "seed"]).size()
    assert len(losses) == 18 and set(losses) == {12}
    quarters = table[table["score"] == "photograph IoU"].groupby("case")["at"]
    assert all(sorted(part) == [0, 1, 2, 3] for _, part in quarters) and len(quarters) == 3


def test_the_lessons_network_has_not_seen_the_test_images_and_finds_their_cells():
    keras = pytest.importorskip("keras")
    script = evidence.script("unet")["make_script"]()
    train, validation, test = script["split"]()
    assert not set(test) & {*train, *validation} and len(train) == 600
    assert test[:4].tolist() == [1, 5, 8, 14], "the split has changed: the network knows images that count as unseen"
    network, cells = keras.saving.load_model(ROOT / "datasets" / "cells" / "unet.keras"), data.load("cells")
    assert network.count_params() == script["build_unet"]().count_params() == 121_737
    assert [type(layer) for layer in network.layers] == [type(layer) for layer in script["build_unet"]().layers]
    logits = network.predict(np.stack([script["standardize"](cells.X[i]) for i in test]), verbose=0)[..., 0]
    found = np.mean([masks.iou(cells.y[i] > 0, logit > 0) for i, logit in zip(test, logits, strict=True)])
    assert found == pytest.approx(0.949, abs=0.002)
