"""The steps from probabilities to objects against scikit-image, SciPy and brute force, and how they are tuned."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import measure
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import remove_small_holes, remove_small_objects
from sklearn.model_selection import ParameterGrid

from helpers import masks
from helpers.masks import (
    apply_pipeline,
    binarize,
    closing,
    dice,
    fill_holes,
    hysteresis,
    iou,
    keep_largest,
    opening,
    remove_small_regions,
    split_touching,
    tune,
)

WHOLE = [np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]
STEPS = {
    "remove_small_regions": partial(remove_small_regions, min_size=4),
    "keep_largest": partial(keep_largest),
    "fill_holes": partial(fill_holes),
    "fill_holes up to a size": partial(fill_holes, max_size=2),
    "opening": partial(opening, radius=1.5),
    "closing": partial(closing, radius=1.5),
}


@pytest.fixture(params=["runs", "pixels"])
def engine(request, monkeypatch):
    monkeypatch.setattr(regions, "DENSE", 0 if request.param == "pixels" else 10**9)


def engines():
    """Yield with each way to find regions in force; the fixture cannot do it for examples that are drawn."""
    for dense in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(regions, "DENSE", dense)
            yield


def blobs(seed, shape=(30, 41), smooth=1.0, threshold=0.0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), smooth) > threshold


def random_masks(ndim=2, sides=6):
    shapes = st.lists(st.integers(1, sides), min_size=ndim, max_size=ndim).map(tuple)
    return shapes.flatmap(lambda shape: arrays(bool, shape))


def one_sentence(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")


# --- binarize and hysteresis -------------------------------------------------------------------------------------


def test_binarize_cuts_at_the_threshold_which_counts_as_reached():
    assert binarize([[0.2, 0.5, 0.9]]).tolist() == [[False, True, True]]
    assert binarize([[0.2, 0.5, 0.9]], 0.2).all()
    assert binarize([[0.2, 0.5, 0.9]], 1).tolist() == [[False] * 3]
    assert binarize(np.zeros((2, 3))).tolist() == [[False] * 3] * 2, "no class anywhere is no mask that is cut already"
    assert binarize(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 5, 6), (5, 6, 1), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_of_any_shape_and_precision(shape, dtype):
    y_prob = np.random.default_rng(0).random(shape).astype(dtype)
    before = y_prob.copy()
    cut = binarize(y_prob, 0.25)
    assert cut.dtype == bool
    assert np.array_equal(cut, y_prob >= 0.25)
    assert np.array_equal(y_prob, before)


@pytest.mark.parametrize("step", [binarize, partial(hysteresis, low=0.3, high=0.6)])
@pytest.mark.parametrize(
    ("y_prob", "message"),
    [
        (np.array([[-3.0, 2.0]]), r"probabilities in \[0, 1\]; got -3 … 2: logits need a sigmoid first"),
        (np.array([[0.3, 1.2]]), "got 0.3 … 1.2: logits"),
        (np.array([[0.3, np.nan, np.nan]]), "got NaN in 2 places"),
        (np.array([[0.3, np.inf]]), "got 0.3 … inf"),
        (np.array([[0, 1]]), "which are floats; got int64, perhaps labels, or bytes: divide those by 255"),
        (np.array([[0, 255]], np.uint8), "got uint8, perhaps labels, or bytes"),
        (np.array([[True, False]]), "got bool, perhaps a mask that is cut already"),
        (np.array([[0.0, 1.0]]), "got 0 and 1 only, a mask that is cut already"),
        (np.full((4, 5, 3), 1 / 3), "got 3 classes along the last axis, which sum to 1"),
        (np.array([[0.3 + 0j]]), "got complex128"),
        (np.array([[0.3, None]]), "got object"),
        (np.array([["0.3"]]), "got <U3"),
        (None, "got object"),
        ([[0.3, 0.4], [0.5]], "one array; got rows or images of several shapes"),
    ],
)
def test_what_are_no_probabilities_is_refused_with_one_sentence(step, y_prob, message):
    one_sentence(lambda: step(y_prob), f"^y_prob must be .*{message}")


def test_one_hot_classes_are_named():
    one_hot = np.eye(3)[np.random.default_rng(0).integers(0, 3, (4, 5))]
    one_sentence(lambda: binarize(one_hot), "a mask that is cut already")
    softmax = one_hot * 0.7 + 0.1
    one_sentence(lambda: binarize(softmax.astype(np.float32)), "3 classes along the last axis")
    assert binarize(softmax[..., 1]).shape == (4, 5)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan, np.inf, "0.5", None, [0.5], True, 0.5j])
def test_a_threshold_that_is_none_is_refused(threshold):
    one_sentence(lambda: binarize([[0.5, 0.2]], threshold), "^threshold must")


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        *((wrong, 0.5, "low and high") for wrong in (-0.1, 0.6)),
        *((wrong, 0.5, "low") for wrong in (np.nan, "0.1", None, [0.1], True)),
        *((0.1, wrong, "high") for wrong in (np.nan, "0.1", None, [0.1], True, np.inf)),
        (0.5, 1.1, "low and high"),
    ],
)
def test_thresholds_of_hysteresis_that_are_none_are_refused(low, high, name):
    one_sentence(lambda: hysteresis([[0.5, 0.2]], low, high), f"^{name} must")


def test_hysteresis_wants_images(engine):
    one_sentence(lambda: hysteresis([0.5, 0.2], 0.1, 0.2), r"^y_prob must be of shape \(..., height, width\)")
    one_sentence(lambda: hysteresis(np.full((4, 5, 1), 0.2), 0.1, 0.2), r"without a channel axis; got \(4, 5, 1\)")
    one_sentence(lambda: hysteresis(np.full((4, 5), 0.2), 0.1, 0.2, ndim=3), r"\(..., depth, height, width\)")


@pytest.mark.parametrize("shape", [(40, 50), (9, 10, 11)])
def test_hysteresis_is_that_of_scikit_image(shape, engine):
    for seed in range(8):
        y_prob = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 0.7)
        found = hysteresis(y_prob, 0.5, 0.6, ndim=len(shape))
        # No value is equal to a threshold here.
        assert np.array_equal(found, apply_hysteresis_threshold(y_prob, 0.5, 0.6))
        assert (y_prob > 0.6).sum() < found.sum() < (y_prob > 0.5).sum()


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_hysteresis_with_values_on_the_thresholds_and_any_connectivity(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    shape = data.draw(st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim))
    y_prob = data.draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.3, 0.55, 0.8])))
    connectivity = data.draw(st.integers(1, ndim))
    labels = measure.label(y_prob >= 0.3, connectivity=connectivity)
    expected = np.isin(labels, labels[(y_prob >= 0.55) & (labels > 0)])
    for _ in engines():
        assert np.array_equal(hysteresis(y_prob, 0.3, 0.55, connectivity, ndim=ndim), expected)


# --- small and large regions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("min_size", [0, 1, 2, 5, 30, 10**6])
def test_small_regions_are_those_of_scikit_image_which_takes_the_largest_that_goes(min_size, connectivity, engine):
    for seed, share in ((0, 0.2), (1, 0.4), (2, 0.6), (3, 0.95)):
        mask = np.random.default_rng(seed).random((50, 61)) < share
        found = remove_small_regions(mask, min_size, connectivity)
        assert np.array_equal(found, remove_small_objects(mask, max_size=min_size - 1, connectivity=connectivity))


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_small_regions_of_random_masks_and_volumes(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    mask = data.draw(random_masks(ndim))
    connectivity, min_size = data.draw(st.integers(1, ndim)), data.draw(st.integers(1, 6))
    expected = remove_small_objects(mask, max_size=min_size - 1, connectivity=connectivity)
    for _ in engines():
        assert np.array_equal(remove_small_regions(mask, min_size, connectivity, ndim=ndim), expected)


@pytest.mark.parametrize("dtype", WHOLE[1:])
def test_each_piece_of_a_label_is_a_region_of_its_own(dtype):
    labels = np.array([[7, 7, 0, 9, 9], [7, 0, 0, 9, 7], [0, 7, 0, 9, 9]], dtype)
    found = remove_small_regions(labels, 2)
    assert found.tolist() == [[7, 7, 0, 9, 9], [7, 0, 0, 9, 0], [0, 0, 0, 9, 9]]
    assert found.dtype == dtype
    assert remove_small_regions(labels, 4).tolist() == [[0, 0, 0, 9, 9], [0, 0, 0, 9, 0], [0, 0, 0, 9, 9]]
    assert remove_small_regions(labels, 4, connectivity=2)[2, 1] == 7, "hangs together at a corner"


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("connectivity", [1, 2])
def test_the_largest_region_of_each_image_is_kept_and_of_equal_ones_the_first(ndim, connectivity, engine):
    for seed in range(6):
        batch = np.random.default_rng(seed).random((5, *(8,) * ndim)) < 0.3
        batch[seed % 5] = False
        found = keep_largest(batch, connectivity, ndim=ndim)
        for image, kept in zip(batch, found, strict=True):
            labels = measure.label(image, connectivity=connectivity)
            largest = [region.label for region in measure.regionprops(labels)]
            largest.sort(key=lambda number: (-(labels == number).sum(), np.flatnonzero(labels == number)[0]))
            assert np.array_equal(kept, labels == largest[0] if largest else image)


@pytest.mark.parametrize("min_size", [-1, 2.5, 2.0, True, "3", None, np.nan, np.float64(3), [3], np.True_])
def test_a_size_that_is_no_whole_number_is_refused(min_size):
    one_sentence(lambda: remove_small_regions([[1, 0]], min_size), "^min_size must be a whole number of pixels, at lea")
    if min_size is not None:
        one_sentence(lambda: fill_holes([[1, 0]], min_size), "^max_size must be a whole number of pixels, at least 0")


def test_sizes_of_numpy_are_taken():
    assert remove_small_regions([[1, 0, 1, 1]], np.uint8(2)).tolist() == [[0, 0, 1, 1]]


# --- holes -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_holes_are_those_of_scipy_and_scikit_image(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    mask = data.draw(random_masks(ndim))
    connectivity, max_size = data.draw(st.integers(1, ndim)), data.draw(st.integers(0, 4))
    structure = ndimage.generate_binary_structure(ndim, connectivity)
    all_filled = ndimage.binary_fill_holes(mask, structure)
    # Scikit-image fills small regions at the border too: in a frame that is larger, they are none.
    framed = np.pad(mask, 3)
    some_filled = remove_small_holes(framed, max_size=max_size, connectivity=connectivity)[(slice(3, -3),) * ndim]
    for _ in engines():
        assert np.array_equal(fill_holes(mask, connectivity=connectivity, ndim=ndim), all_filled)
        assert np.array_equal(fill_holes(mask, max_size, connectivity, ndim=ndim), some_filled)


@pytest.mark.parametrize("seed", range(4))
def test_holes_of_blobs(seed, engine):
    mask = blobs(seed, (60, 70), threshold=-0.2)
    filled = fill_holes(mask)
    assert np.array_equal(filled, ndimage.binary_fill_holes(mask))
    assert filled.sum() > mask.sum() + 20


def test_a_hole_of_exactly_the_size_is_filled_and_a_bay_is_not():
    mask = np.ones((6, 9), np.uint8) * 200
    mask[2, 2:4] = mask[2:4, 6] = mask[4, 6] = mask[5, 0] = 0
    assert (fill_holes(mask, 2) == 0).sum() == 4
    assert (fill_holes(mask, 3) == 0).sum() == 1
    assert (fill_holes(mask) == 0).sum() == 1
    assert fill_holes(mask)[2, 2] == 200


@pytest.mark.parametrize("step", [fill_holes, partial(opening, radius=1), partial(closing, radius=1)])
def test_label_images_are_refused_where_a_pixel_would_belong_to_none(step):
    one_sentence(lambda: step([[1, 2, 0]]), "^mask must hold 0 and one other value; got labels: do it object by object")
    one_sentence(lambda: step(np.array([[1, 3]], np.uint8)), "got labels")
    assert step(np.full((3, 3), 7)).tolist() == [[7] * 3] * 3
    assert step(np.zeros((3, 3), np.int8)).tolist() == [[0] * 3] * 3


# --- opening and closing -----------------------------------------------------------------------------------------


def ball(radius, spacing):
    half = [int(radius / size) + 1 for size in spacing]
    axes = np.meshgrid(*(size * np.arange(-n, n + 1) for size, n in zip(spacing, half, strict=True)), indexing="ij")
    return sum(axis**2 for axis in axes) <= radius**2


@pytest.mark.parametrize("radius", [0, 0.9, 1, 1.5, 2, 3.3])
@pytest.mark.parametrize(("shape", "spacing"), [((30, 41), (1, 1)), ((30, 41), (0.7, 1.9)), ((9, 10, 12), (2, 1, 0.6))])
def test_opening_and_closing_are_those_by_a_disc_that_may_leave_the_image(shape, spacing, radius):
    structure = ball(radius, spacing)
    for seed in range(4):
        mask = blobs(seed, shape)
        eroded = ndimage.binary_erosion(mask, structure, border_value=1)
        opened = opening(mask, radius, spacing=spacing, ndim=len(shape))
        assert np.array_equal(opened, ndimage.binary_dilation(eroded, structure))
        dilated = ndimage.binary_dilation(mask, structure)
        closed = closing(mask, radius, spacing=spacing, ndim=len(shape))
        assert np.array_equal(closed, ndimage.binary_erosion(dilated, structure, border_value=1))


@settings(deadline=None, max_examples=60)
@given(random_masks(), st.sampled_from([1, 1.5, 2, 3, 50]))
def test_opening_and_closing_of_random_masks(mask, radius):
    opened, closed = opening(mask, radius), closing(mask, radius)
    structure = ball(min(radius, 12), (1, 1))
    eroded = ndimage.binary_erosion(mask, structure, border_value=1)
    assert np.array_equal(opened, ndimage.binary_dilation(eroded, structure))
    assert np.array_equal(opening(opened, radius), opened)
    assert np.array_equal(closing(closed, radius), closed)
    assert (opened <= mask).all()
    assert (mask <= closed).all()


def test_one_size_of_a_pixel_scales_the_radius():
    mask = blobs(0)
    assert np.array_equal(opening(mask, 1, spacing=0.5), opening(mask, 2))
    assert np.array_equal(closing(mask, 1, spacing=[0.5, 0.5]), closing(mask, 2))


@pytest.mark.parametrize("step", [opening, closing])
@pytest.mark.parametrize("radius", [-1, np.nan, np.inf, "1", None, [1, 2], 1j, True])
def test_a_radius_that_is_none_is_refused(step, radius):
    one_sentence(lambda: step([[1, 0]], radius), "^radius must be (at least 0|a finite number); got")


@pytest.mark.parametrize(
    "step",
    [
        partial(opening, radius=1),
        partial(closing, radius=1),
        split_touching,
        lambda mask, **options: masks.boundary_distance(mask, mask, **options),
    ],
)
@pytest.mark.parametrize(
    "spacing",
    [0, -1, np.nan, np.inf, (1, 0), (1, np.nan), (1, 2, 3), [1], [], [[1, 2]], "1", None, True, (1, "2"), 1j, {1}],
)
def test_a_spacing_that_does_not_fit_is_refused(step, spacing):
    one_sentence(
        lambda: step([[1, 0]], spacing=spacing), "^spacing must be one size above 0, or one for each of 2 axes"
    )


# --- what all steps have in common -------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("dtype", WHOLE)
def test_dtype_shape_and_input_are_kept_in_any_layout(step, dtype, engine):
    plain = blobs(0, (3, 14, 17)).astype(dtype)
    plain[0, 3:8, 4:9], plain[0, 5, 6] = 1, 0
    if dtype is not np.bool_:
        plain *= np.iinfo(dtype).max
    expected = step(plain)
    assert set(np.unique(expected)) <= set(np.unique(plain))
    assert not np.array_equal(expected, plain)
    wide = np.repeat(plain, 2, axis=-1)
    read_only = plain.copy()
    read_only.flags.writeable = False
    for view in (plain, np.asfortranarray(plain), wide[..., ::2], read_only, plain[:, ::-1].copy()[:, ::-1]):
        before = view.copy()
        found = step(view)
        assert found.dtype == dtype
        assert found.shape == view.shape
        assert found.flags.writeable
        assert not np.shares_memory(found, view)
        assert np.array_equal(found, expected)
        assert np.array_equal(view, before)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_values_of_a_mask_do_not_matter(step, engine):
    mask = blobs(1)
    assert np.array_equal(step(mask.astype(np.uint8) * 255), step(mask).astype(np.uint8) * 255)
    assert np.array_equal(step(mask.tolist()), step(mask))
    assert np.array_equal(step(pd.DataFrame(mask)), step(mask))


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("connectivity", [1, 2])
def test_a_batch_is_a_loop_over_its_images(step, connectivity, engine):
    options = {} if "radius" in step.keywords else {"connectivity": connectivity}
    batch = np.stack([blobs(seed, (12, 15), smooth=0.8) for seed in range(6)]).reshape(2, 3, 12, 15)
    batch[0, 1], batch[1, 0] = False, True
    found = step(batch, **options)
    for place in np.ndindex(2, 3):
        assert np.array_equal(found[place], step(batch[place], **options))
    volumes = step(batch, ndim=3, **options)
    for volume, expected in zip(volumes, batch, strict=True):
        assert np.array_equal(volume, step(expected, ndim=3, **options))
    assert not np.array_equal(volumes, found)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("shape", [(0, 5, 6), (0, 5), (5, 0), (3, 0, 4), (2, 0, 5, 6)])
def test_nothing_in_nothing_out(step, shape, engine):
    for dtype in (bool, np.uint8):
        assert step(np.zeros(shape, dtype)).shape == shape


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (6, 7)])
def test_all_and_none_stay_as_they_are(step, shape, engine):
    for value in (False, True):
        mask = np.full(shape, value)
        if value and step is STEPS["remove_small_regions"] and mask.size < 4:
            continue
        assert np.array_equal(step(mask), mask)


PLANE = np.zeros((6, 7), np.int64)
PLANE[2:4, 2:5] = 1


@pytest.mark.parametrize("step", [*STEPS.values(), split_touching], ids=[*STEPS, "split_touching"])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (PLANE * 0.8 + 0.1, "cut"),
        (PLANE * 8.0 - 4, "cut"),
        (np.where(PLANE, np.nan, 0), "cut"),
        (np.stack([PLANE, 1 - PLANE], axis=-1) * 0.9 + 0.05, "cut"),
        (PLANE.astype(np.float16), "float16"),
        (PLANE - 1, ""),
        (PLANE.astype(complex), "complex128"),
        (PLANE.astype(object), "object"),
        (PLANE.astype(str), "<U21"),
        (PLANE.astype("M8[s]"), "datetime64"),
        (PLANE[..., None], r"without a channel axis; got \(6, 7, 1\)"),
        (PLANE[0], r"got \(7,\)"),
        (1, r"got \(\)"),
        (None, "got "),
        ([[1, 0], [1]], "mask must be one array; got rows or images of several shapes"),
        ([np.ones((3, 4), int), np.ones((4, 3), int)], "several shapes"),
    ],
)
def test_what_is_no_mask_is_refused_by_every_step_with_one_sentence(step, mask, message):
    one_sentence(lambda: step(mask), f"^(?=mask must ).*{message}")


@pytest.mark.parametrize("step", [name for name in STEPS if "ing" not in name])
@pytest.mark.parametrize("connectivity", [0, 3, -1, 1.0, "1", None, np.nan, [1], np.array([1, 2])])
def test_a_connectivity_that_does_not_fit_is_refused(step, connectivity):
    one_sentence(lambda: STEPS[step](PLANE, connectivity=connectivity), "^connectivity must be in 1 … ndim")
    one_sentence(lambda: hysteresis(PLANE / 3, 0.1, 0.2, connectivity), "^connectivity must be in 1 … ndim")


@pytest.mark.parametrize("step", [*STEPS.values(), partial(hysteresis, low=0.1, high=0.2)], ids=[*STEPS, "hysteresis"])
@pytest.mark.parametrize("ndim", [0, 1, 4, -2, 2.0, "2", None, True])
def test_images_have_two_or_three_axes(step, ndim):
    values = PLANE / 3 if step.func is hysteresis else PLANE
    one_sentence(lambda: step(values, ndim=ndim), f"^ndim must be 2 or 3; got {ndim!r}")
    one_sentence(lambda: step(values, ndim=3), r"must be of shape \(..., depth, height, width\), .* got \(6, 7\)")


# --- chains ------------------------------------------------------------------------------------------------------


def probabilities(seed, shape=(24, 30)):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    truth = field > 0.02
    noise = np.random.default_rng(seed + 100).normal(0, 0.8, shape)
    return 1 / (1 + np.exp(-(30 * field + noise))), truth


Y_PROB, Y_TRUE = map(list, zip(*map(probabilities, range(5)), strict=True))
CHAIN = [binarize, remove_small_regions, fill_holes]
GRID = {
    "remove_small_regions__min_size": [1, 5, 20],
    "binarize__threshold": [0.3, 0.5, 0.7],
    "fill_holes__max_size": [0, 3, 20],
    "remove_small_regions__connectivity": [1, 2],
}


def brute_force(metric, y_prob, y_true):
    """Each combination of the whole grid, one after the other, with nothing shared."""
    scores = {}
    for choice in ParameterGrid(GRID):
        results = [
            fill_holes(
                remove_small_regions(
                    binarize(image, choice["binarize__threshold"]),
                    choice["remove_small_regions__min_size"],
                    choice["remove_small_regions__connectivity"],
                ),
                choice["fill_holes__max_size"],
            )
            for image in y_prob
        ]
        scores[tuple(sorted(choice.items()))] = [metric(*pair) for pair in zip(y_true, results, strict=True)]
    return scores


@pytest.mark.parametrize("metric", [iou, dice, lambda truth, result: -abs(int(truth.sum()) - int(result.sum()))])
def test_tune_gives_what_trying_everything_gives(metric):
    expected = brute_force(metric, Y_PROB, Y_TRUE)
    tuned = tune(CHAIN, GRID, metric, Y_PROB, Y_TRUE)
    found = {tuple(sorted(c.items())): list(s) for c, s in zip(tuned.candidates, tuned.scores, strict=True)}
    assert found == expected
    assert len(tuned.candidates) == 54
    means = {choice: np.mean(scores) for choice, scores in expected.items()}
    assert tuned.score == max(means.values()) == means[tuple(sorted(tuned.parameters.items()))]
    assert type(tuned.score) is float


def test_the_chain_that_comes_back_gives_the_score():
    tuned = tune(CHAIN, GRID, iou, Y_PROB, Y_TRUE)
    again = [iou(truth, apply_pipeline(tuned.chain, image)) for image, truth in zip(Y_PROB, Y_TRUE, strict=True)]
    assert np.mean(again) == tuned.score
    assert tuned.score > np.mean([iou(t, binarize(p)) for p, t in zip(Y_PROB, Y_TRUE, strict=True)])
    new, _ = probabilities(77)
    assert apply_pipeline(tuned.chain, new).shape == new.shape


def test_each_step_runs_once_for_each_choice_before_it():
    calls = {"first": [], "second": [], "third": []}

    def first(image, a):
        calls["first"].append(a)
        return image + a

    def second(image):
        calls["second"].append(None)
        return image * 2

    def third(image, b, c):
        calls["third"].append((b, c))
        return image + b * c

    grid = {"third__b": [1, 2, 3], "first__a": [10, 20], "third__c": [5, 7]}
    images = [np.ones((2, 2)), np.zeros((2, 2))]
    tune([first, second, third], grid, lambda truth, result: result.sum(), images, images)
    assert len(calls["first"]) == 2 * 2
    assert len(calls["second"]) == 2 * 2
    assert len(calls["third"]) == 2 * 2 * 6


def test_of_equal_ones_the_first_is_taken():
    for values in ([3, 1, 2], [1, 2, 3]):
        grid = {"remove_small_regions__min_size": values}
        tuned = tune([remove_small_regions], grid, lambda truth, result: 0.5, [PLANE], [PLANE])
        assert tuned.parameters == {"remove_small_regions__min_size": values[0]}
        assert [*map(dict.popitem, tuned.candidates)] == [("remove_small_regions__min_size", value) for value in values]


def test_the_mean_over_the_images_decides():
    def cut(image, at):
        return image > at

    metric = {True: 0.9, False: 0.0}
    tuned = tune(
        [cut], {"cut__at": [0, 5]}, lambda truth, found: metric[found == truth], [1, 7, 8], [True, False, False]
    )
    assert tuned.scores.tolist() == [[0.9, 0, 0], [0, 0, 0]]
    assert tuned.score == pytest.approx(0.3)


def test_partials_keep_what_they_bind_and_have_the_name_of_their_function():
    chain = [partial(hysteresis, high=0.8), partial(partial(opening, spacing=0.5), radius=9), keep_largest]
    grid = {"hysteresis__low": [0.2, 0.6], "opening__radius": [0, 0.5]}
    tuned = tune(chain, grid, iou, Y_PROB, Y_TRUE)
    low, radius = tuned.parameters["hysteresis__low"], tuned.parameters["opening__radius"]
    expected = keep_largest(opening(hysteresis(Y_PROB[0], low, 0.8), radius, spacing=0.5))
    assert np.array_equal(apply_pipeline(tuned.chain, Y_PROB[0]), expected)
    assert len(tuned.candidates) == 4


def test_callable_objects_and_steps_of_one_name_that_are_not_tuned_are_fine():
    class Cut:
        def __call__(self, image, at=0.5):
            return image >= at

    opens = partial(opening, radius=1)
    tuned = tune([Cut(), opens, fill_holes, opens], {"Cut__at": [0.4, 0.5]}, iou, Y_PROB, Y_TRUE)
    twice = opening(fill_holes(opening(Y_PROB[0] >= tuned.parameters["Cut__at"], 1)), 1)
    assert np.array_equal(apply_pipeline(tuned.chain, Y_PROB[0]), twice)


def test_a_batch_is_a_sequence_of_images_and_an_empty_grid_one_candidate():
    tuned = tune([binarize], {}, iou, np.stack(Y_PROB), np.stack(Y_TRUE))
    assert tuned.candidates == [{}]
    assert tuned.parameters == {}
    assert tuned.chain == [binarize]
    assert tuned.scores.shape == (1, 5)


def test_inputs_of_tune_are_not_changed():
    before = np.stack(Y_PROB), np.stack(Y_TRUE)
    grid = {name: list(values) for name, values in GRID.items()}
    tune(CHAIN, grid, iou, Y_PROB, Y_TRUE)
    assert np.array_equal(before[0], Y_PROB)
    assert np.array_equal(before[1], Y_TRUE)
    assert grid == GRID


@pytest.mark.parametrize(
    ("chain", "grid", "message"),
    [
        (
            CHAIN,
            {"binarise__threshold": [0.5]},
            r"the grid's names must be .* 'binarize', .*; got 'binarise__threshold'",
        ),
        (CHAIN, {"threshold": [0.5]}, "got 'threshold'"),
        (CHAIN, {"binarize_threshold": [0.5], "binarize__threshold": [0.5]}, "got 'binarize_threshold'"),
        ([binarize, fill_holes, fill_holes], {"fill_holes__max_size": [1]}, "got 'fill_holes__max_size'"),
        ([lambda image: image] * 2, {"<lambda>__a": [1]}, "with one step of the chain"),
        ([], {"binarize__threshold": [0.5]}, "got 'binarize__threshold'"),
        (CHAIN, {"binarize__threshold": []}, "'binarize__threshold' need.* non-empty sequence"),
        (CHAIN, {"binarize__threshold": 0.5}, "'binarize__threshold' needs to be a list"),
        (CHAIN, {"binarize__threshold": "0.5"}, "'binarize__threshold' needs to be a list"),
    ],
)
def test_a_grid_that_fits_no_step_is_refused_before_anything_runs(chain, grid, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tune([lambda image: pytest.fail("ran"), *chain], grid, iou, Y_PROB, Y_TRUE)


@pytest.mark.parametrize(("n_prob", "n_true"), [(0, 0), (2, 3), (3, 0)])
def test_images_and_truths_are_as_many_and_at_least_one(n_prob, n_true):
    one_sentence(
        lambda: tune([binarize], {}, iou, Y_PROB[:n_prob], Y_TRUE[:n_true]),
        f"^y_prob and y_true must be of one length, at least 1; got {n_prob} and {n_true}",
    )


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_metric_without_a_number_is_refused(score):
    def metric(truth, result):
        return score if truth is Y_TRUE[3] else 0.5

    one_sentence(lambda: tune(CHAIN, GRID, metric, Y_PROB, Y_TRUE), "^the metric must give a finite number for each")


def test_errors_of_a_step_come_through():
    one_sentence(lambda: tune(CHAIN, {}, iou, Y_TRUE, Y_TRUE), "^y_prob must be probabilities")


def test_a_chain_without_steps_returns_what_came():
    assert apply_pipeline([], Y_PROB[0]) is Y_PROB[0]
    assert np.array_equal(apply_pipeline([binarize, keep_largest], Y_PROB[0]), keep_largest(binarize(Y_PROB[0])))
