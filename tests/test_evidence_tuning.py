"""The table that lesson 51 draws: it is complete, and some of its rows are what the script computes again."""

import keras
import numpy as np
import pytest
from scipy.special import expit

from helpers import masks, unet
from helpers.notebook import ROOT

GRIDS = {"split, remove": {"wide", "threshold", "default", "half", "order"}, "remove, split": {"half", "order"}}


@pytest.fixture(scope="module")
def some(script):
    """The first five drawings of the pool, with what the noisy network predicts."""
    drawn = [script["draw"](number) for number in range(5)]
    network = keras.saving.load_model(ROOT / "datasets" / "cells" / "early.keras")
    X = np.stack([unet.standardize(image[..., np.newaxis]) for image, _ in drawn])
    return [labels for _, labels in drawn], expit(network.predict(X, verbose=0)[..., 0].astype(float))


@pytest.mark.parametrize("order", ["split, remove", "remove, split"])
def test_counts_are_those_of_the_helpers(script, some, order):
    true, prob = some[0][0], some[1][0]
    counts = script["counts"](true, prob, order)
    places = [(2, 0, 5), (2, 1, 0), (3, 0, 10), (3, 1, 4)]
    for i, j, k in [*places, (0, 0, 0), (2, 2, 0), (4, 3, 10)] if order == "split, remove" else places:
        setting = script["setting"]((i, j, k))
        found = masks.binarize(prob, setting["threshold"])
        if order == "remove, split":
            found = masks.remove_small_regions(found, setting["min_size"])
        found = masks.split_touching(found, min_depth=setting["min_depth"])
        if order == "split, remove":
            found = masks.remove_small_regions(found, setting["min_size"])
        again = masks.count_objects(true, found)
        assert counts[i, j, k].tolist() == [again.tp, again.fp, again.fn]


@pytest.mark.parametrize("order", ["split, remove", "remove, split"])
def test_a_draw_chooses_what_the_table_says(table, script, some, order):
    scores = script["f1"](np.stack([script["counts"](*pair, order) for pair in zip(*some, strict=True)], axis=-2))
    rows = table.query("network == 'early' and order == @order and images == 5 and draw == 0").set_index("grid")
    # A probability on the threshold may be rounded otherwise here: one of forty objects is 0.03.
    for grid in GRIDS[order] - {"half", "default"}:
        assert abs(scores[script["best_of"](scores, grid)] - rows.loc[grid, "validation"]) < 0.03
    for grid, place in {"half": "HALF", "default": "DEFAULT"}.items():
        assert grid not in GRIDS[order] or abs(scores[script[place]] - rows.loc[grid, "validation"]) < 0.03


def test_every_draw_is_there_with_every_grid(table, script):
    for plan, (every, _) in script["PLAN"].items():
        part = table[(table["network"] == plan[0]) & (table["order"] == plan[1])]
        for images in script["AMOUNTS"]:
            draws = part[(part["images"] == images) & part["grid"].isin(GRIDS["split, remove"])]
            assert set(draws["draw"]) == set(range(min(every // images, script["MOST"])))
            assert (draws.groupby("draw")["grid"].agg(set) == GRIDS[plan[1]]).all()
    assert table[["validation", "test"]].stack().between(0, 1).all()
    assert not table.duplicated(["network", "order", "images", "draw", "grid"]).any()


def test_the_best_of_more_settings_promises_more(table):
    promised = table.pivot_table("validation", ["network", "order", "images", "draw"], "grid")
    draws = promised.dropna(subset=["wide"])
    assert (draws["wide"] >= draws["threshold"]).all() and (draws["threshold"] >= draws["default"]).all()
    on_test = table.pivot_table("test", ["network", "order"], "grid")
    assert (on_test["best"] >= on_test[["all", "default", "half"]].max(axis=1)).all()


def test_the_first_of_equal_settings_is_chosen(script):
    scores = np.zeros((5, 4, 11))
    assert script["best_of"](scores, "wide") == (0, 0, 0)
    assert script["best_of"](scores, "threshold") == (0, *script["DEFAULT"][1:])
    scores[1, 3, 7] = 1
    assert script["best_of"](scores, "wide") == (1, 3, 7)
