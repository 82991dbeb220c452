"""The table that lesson 41 draws: rows that are computed again lie in it, and it is whole."""

import evidence
import numpy as np
import pytest

LEFT_BEHIND = "±180°, image alone"


@pytest.fixture(scope="module")
def rates(table):
    best = table[table["part"] == "rates"].sort_values("iou").drop_duplicates("treatment", keep="last")
    return best.set_index("treatment")["rate"].to_dict()


@pytest.mark.parametrize("treatment", ["reference", LEFT_BEHIND])
def test_a_treatment_does_on_twelve_other_drawings_what_the_table_says(table, script, rates, treatment):
    recipe = script["treatments"](rates)[treatment]
    model = script["trained"](recipe, *script["drawings"](12, 99), 99, script["STEPS"])
    rows = table.query("part == 'drawings' and treatment == @treatment and images == 12")["iou"]
    assert evidence.lies_within(rows, script["on_drawings"](model, recipe)["iou"], least=0.06)


def test_every_repetition_has_every_treatment(table, script, rates):
    drawings = table[table["part"] == "drawings"]
    assert set(drawings["treatment"]) == set(script["treatments"](rates))
    assert set(drawings["images"]) == {12, 60, 600} and set(drawings["repeat"]) == set(range(script["REPEATS"]))
    for part in ("drawings", "stopping", "photographs"):
        rows = table[table["part"] == part]
        keys = ["treatment", "images", "repeat"]
        assert len(rows) == np.prod([rows[key].nunique() for key in keys]) and not rows.duplicated(keys).any()
        assert rows["iou"].between(0, 1).all()


def test_each_treatment_takes_the_rate_that_was_chosen_for_it(table, script, rates):
    recipes = script["treatments"](rates)
    for treatment, rows in table[table["part"] == "drawings"].groupby("treatment"):
        assert set(rows["rate"]) == {recipes[treatment].rate}


def test_the_crops_of_paired_augmentations_keep_the_mask_on_the_image(script):
    """Of a mask that is its own image, each paired change leaves both equal; the others do not."""
    from benchmarks.mask_recipes import Recipe, crops

    _, masks = script["drawings"](12, 0)
    masks = list(masks.astype(np.float32))
    for change in ("±10°", "±180°", "elastic"):
        x, y = next(crops(masks, masks, Recipe(change=change), 0).as_numpy_iterator())
        assert np.mean((x > 0.5) != (y > 0.5)) < 0.01
    for change in script["BROKEN"]:
        x, y = next(crops(masks, masks, Recipe(change=change), 0).as_numpy_iterator())
        assert np.mean((x > 0.5) != (y > 0.5)) > 0.01
