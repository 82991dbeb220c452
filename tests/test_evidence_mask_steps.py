"""The table that lesson 50 draws: it is complete, and says what the lesson says; its script does what its names say."""

import numpy as np
import pytest
from skimage.measure import label

from benchmarks.cell_images import SPLITS
from helpers import data, masks


@pytest.fixture(scope="module")
def gains(table):
    f1 = table.set_index(["images", "split", "way"])["F1"].unstack("way")
    return f1.sub(f1["split"], axis=0)


def test_every_way_is_there_for_every_split(table, script):
    assert set(table["images"]) == {"drawings", "photographs"}
    assert not table.duplicated(["images", "split", "way"]).any()
    for (_, split), part in table.groupby(["images", "split"]):
        assert split in SPLITS
        assert part["way"].tolist() == list(script["steps_of"](150.0))
        assert (part["found"] + part["missed"]).nunique() == part["small"].nunique() == 1
    assert (table["small found"] <= table[["small", "found"]].min(axis=1)).all()
    f1 = 2 * table["found"] / (2 * table["found"] + table["false"] + table["missed"])
    assert np.allclose(table["F1"], f1, atol=6e-5)


def test_what_the_lesson_says_of_all_networks(gains):
    assert len(gains) == 6
    first, last = gains["below 1/8 removed, split"], gains["split, below 1/8 removed"]
    assert first.min() > 0.01
    assert (first - last).abs().max() < 0.001
    assert gains["holes filled, split"].max() <= 0
    for way in ("hysteresis 0.9, split", "threshold 0.7, split"):
        assert (gains[way].groupby("images").min() < -0.3).all()


def test_steps_of_a_known_mask_are_those_that_their_names_say(script):
    cells = data.load("cells").y[600:606]
    typical = float(np.median(script["areas_of"](cells)))
    ways = script["steps_of"](typical)
    for y in cells:
        y_prob = np.where(y > 0, 0.95, 0.05)
        y_prob[:4, :4] = 0.05
        y_prob[1, 1] = 0.6  # A faint speck.
        found = {name: way(y_prob) for name, way in ways.items()}
        assert np.array_equal(found["connected components"] > 0, y_prob > 0.5)
        assert found["split"][1, 1] > 0
        for name in (
            "threshold 0.7, split",
            "hysteresis 0.9, split",
            "below 1/8 removed, split",
            "opened by 0.2 r, split",
        ):
            assert found[name][1, 1] == 0
        areas = np.bincount(found["split, below 1/2 removed"].ravel())[1:]
        assert areas[areas > 0].min(initial=typical) >= int(typical / 2)


def test_holes_of_each_object_are_filled_and_no_other_object_is_changed(script):
    labels = np.full((9, 9), 1)
    labels[:, 5:] = 2
    labels[2, 2] = labels[4, 5] = labels[6, 7] = labels[0, 0] = 0
    filled = script["holes_of_each"](labels)
    assert (filled[2, 2], filled[6, 7], filled[0, 0]) == (1, 2, 0)
    assert np.array_equal(filled[labels > 0], labels[labels > 0])
    assert filled[4, 5] == 0, "between two objects"


def test_small_objects_are_counted_by_themselves(script):
    y = np.zeros((20, 20), dtype=int)
    y[:2, :2], y[5:15, 5:15] = 1, 2
    got = script["judge"]([y], [label(y > 0)], 4)
    assert (got["found"], got["small found"], got["small"], got["F1"], got["IoU"]) == (2, 1, 1, 1, 1)
    got = script["judge"]([y], [masks.remove_small_regions(y, 5)], 4)
    assert (got["found"], got["missed"], got["small found"], got["small"]) == (1, 1, 0, 1)
