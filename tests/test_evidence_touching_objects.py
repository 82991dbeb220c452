"""The table that lesson 43 draws: it is complete, and rows that need no training are what the script computes again."""

import keras
import numpy as np
import pytest
from skimage.measure import label

from helpers import data, masks, unet
from helpers.notebook import ROOT

SCORES = ["F1", "IoU", *(f"AP{cut}" for cut in range(50, 100, 5))]
COUNTS = ["objects", "found", "false", "merged", "nothing there", "outline", "circles", "circles found"]


@pytest.fixture(scope="module")
def judged():
    """The drawings that split 0 judges on."""
    cells = data.load("cells")
    return cells.X[600:700], cells.y[600:700]


def row(table, method):
    return table.query("images == 'drawings' and split == 0 and method == @method").squeeze()


def test_what_is_found_if_the_mask_is_known_is_what_the_table_says(table, script, judged):
    every = [script["ceilings"](labels) for labels in judged[1]]
    for method in every[0]:
        again = script["judge"](judged[1], [found[method] for found in every])
        stored = row(table, method)
        assert [again[name] for name in COUNTS] == stored[COUNTS].tolist()
        assert np.allclose([again[name] for name in SCORES], stored[SCORES].astype(float), atol=6e-5)


def test_the_stored_network_finds_what_the_table_says(table, judged):
    network = keras.saving.load_model(ROOT / "datasets" / "cells" / "markers.keras")
    found = [unet.predict_objects(network, image) for image in judged[0]]
    counts = [masks.count_objects(*pair) for pair in zip(judged[1], found, strict=True)]
    total = sum(counts, masks.ObjectCounts(0, 0, 0))
    stored = row(table, "markers.keras")
    assert abs(total.f1 - stored["F1"]) < 0.002
    assert abs(total.tp - stored["found"]) <= 2


def test_every_method_is_there_for_every_split(table):
    assert set(table["images"]) == {"drawings", "photographs"}
    for _, part in table.groupby("images"):
        assert not part.duplicated(["split", "method"]).any()
        assert (part.groupby("method").size() == 3).all()
    assert table[SCORES].stack().between(0, 1).all()
    missed = table["objects"] - table["found"]
    assert (table[["merged", "nothing there", "outline"]].sum(axis=1) == missed).all()
    falling = table[[f"AP{cut}" for cut in range(50, 100, 5)]].diff(axis=1).iloc[:, 1:]
    assert (falling <= 0).to_numpy().all()


def test_each_reason_for_a_miss_is_told_from_the_others(script):
    true = np.zeros((12, 30), dtype=int)
    true[1:6, 1:6], true[1:6, 6:11], true[1:6, 14:19], true[7:12, 20:25] = 1, 2, 3, 4
    found = np.where(np.isin(true, (1, 2)), 7, 0)
    found[1:6, 14:16] = 9
    got = script["judge"]([true], [found])
    assert [got[name] for name in ("objects", "found", "false")] == [4, 0, 2]
    assert [got[name] for name in ("merged", "nothing there", "outline")] == [2, 1, 1]


@pytest.mark.parametrize("network", ["markers, eroded by 1 px", "markers, half of the depth", "border class"])
def test_perfect_outputs_give_every_object(script, judged, network):
    to_targets = script["NETWORKS"][network][0]
    for labels in judged[1][:10]:
        logits = 20.0 * np.asarray(to_targets(labels), dtype=float) - 10
        found = script["objects_of"](network, logits)[network]
        assert masks.count_objects(labels, found).f1 > 0.95
        assert label(labels > 0, connectivity=1).max() <= found.max()
