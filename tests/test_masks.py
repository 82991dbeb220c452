"""Masks against scikit-image, SciPy, scikit-learn and brute force: steps, splitting, tuning and scores."""

from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.special import expit
from skimage import measure
from skimage.draw import disk, ellipse
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import remove_small_holes, remove_small_objects
from sklearn.metrics import f1_score, jaccard_score
from sklearn.model_selection import ParameterGrid

from helpers import data as datasets
from helpers.masks import (
    BoundaryDistance,
    ObjectCounts,
    apply_pipeline,
    binarize,
    boundary_distance,
    boundary_iou,
    closing,
    count_objects,
    dice,
    fill_holes,
    hysteresis,
    iou,
    opening,
    remove_small_regions,
    split_touching,
    tune,
)

NO_NUMBERS = [np.nan, np.inf, "1", None, [1], True, 1j]
WHOLE = [np.bool_, np.uint8, np.int8, np.uint16, np.int64, np.uint64]
STEPS = {
    "remove_small_regions": partial(remove_small_regions, min_size=4),
    "fill_holes": fill_holes,
    "fill_holes up to a size": partial(fill_holes, max_size=2),
    "opening": partial(opening, radius=1.5),
    "closing": partial(closing, radius=1.5),
}
FULL, EMPTY = np.ones((6, 9), bool), np.zeros((6, 9), bool)
each_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
examples = settings(deadline=None, max_examples=60)


def blobs(seed, shape=(24, 31), smooth=2.0, threshold=0.0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, (0,) * (len(shape) - 2) + (smooth,) * 2) > threshold


def drawn(*circles, shape=(40, 60)):
    mask = np.zeros(shape, bool)
    for row, column, radius in circles:
        mask[disk((row, column), radius, shape=shape)] = True
    return mask


def refused(call, message):
    """Check that a call raises one sentence."""
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


# --- binarize and hysteresis -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 5, 6), (2, 5, 6, 1), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_binarize_takes_probabilities_of_any_shape_and_precision(shape, dtype):
    y_prob = np.random.default_rng(0).random(shape).astype(dtype)
    before = y_prob.copy()
    mask = binarize(y_prob, 0.25)
    assert mask.dtype == bool
    assert np.array_equal(mask, y_prob >= 0.25)
    assert np.array_equal(y_prob, before)
    assert binarize(y_prob, y_prob.max()).sum() == (y_prob == y_prob.max()).sum(), "a value on the threshold counts"


def test_a_map_that_has_saturated_to_0_and_1_is_a_map():
    saturated = expit(np.array([[-120, -110], [20, 30]], np.float32))
    assert set(saturated.ravel()) == {0, 1}
    assert binarize(saturated).tolist() == [[False, False], [True, True]]
    assert hysteresis(saturated, 0.2, 0.8).tolist() == [[False, False], [True, True]]
    assert binarize(np.zeros((0, 3))).shape == (0, 3)


def test_only_four_axes_can_be_a_softmax():
    p = np.random.default_rng(0).random((4, 5))
    pair = np.stack([p, 1 - p], axis=-1)
    assert np.array_equal(binarize(pair), pair >= 0.5), "four images of width 2"
    refused(lambda: binarize(pair[np.newaxis]), "got 2 classes along the last axis, which sum to 1: take argmax")
    refused(lambda: binarize(np.eye(3, dtype=np.float32)[np.zeros((1, 4, 5), int)]), "got 3 classes")
    assert binarize(pair[np.newaxis, ..., :1]).shape == (1, 4, 5, 1)
    two_sigmoids = np.stack([p, p / 2], axis=-1)[np.newaxis]
    assert np.array_equal(binarize(two_sigmoids), two_sigmoids >= 0.5)


@pytest.mark.parametrize("step", [binarize, partial(hysteresis, low=0.3, high=0.6)])
@pytest.mark.parametrize(
    ("y_prob", "message"),
    [
        (np.array([[-3.0, 2.0]]), r"probabilities in \[0, 1\]; got -3 … 2: logits need a sigmoid first"),
        (np.array([[0.3, 1.2]]), "got 0.3 … 1.2: logits"),
        (np.array([[0.3, np.nan, np.nan]]), "got NaN in 2 places"),
        (np.array([[0, 255]], np.uint8), "which are floats; got uint8, perhaps labels, or bytes: divide those by 255"),
        (np.array([[True, False]]), "got bool, perhaps a mask already"),
        (None, "got object"),
        ([[0.3, 0.4], [0.5]], "one array; got rows or images of several shapes"),
    ],
)
def test_what_are_no_probabilities_is_refused(step, y_prob, message):
    refused(lambda: step(y_prob), f"^y_prob must be .*{message}")


@pytest.mark.parametrize("wrong", [-0.1, 1.1, *NO_NUMBERS[:-2], np.True_])
def test_thresholds_that_are_none_are_refused(wrong):
    refused(lambda: binarize([[0.5, 0.2]], wrong), r"^threshold must be a number in \[0, 1\]; got ")
    refused(lambda: hysteresis([[0.5, 0.2]], 0, wrong), r"^high must be a number in \[0, 1\]")
    refused(
        lambda: hysteresis([[0.5, 0.2]], wrong, 1), r"^low must be a number in \[0, 1\], not above high, which is 1"
    )
    refused(lambda: hysteresis([[0.5, 0.2]], 0.6, 0.5), "^low must be .* not above high, which is 0.5; got 0.6")


def test_hysteresis_is_that_of_scikit_image():
    for seed in range(8):
        y_prob = ndimage.gaussian_filter(np.random.default_rng(seed).random((40, 50)), 0.7)
        found = hysteresis(y_prob, 0.5, 0.6)
        # No value is equal to a threshold here.
        assert np.array_equal(found, apply_hysteresis_threshold(y_prob, 0.5, 0.6))
        assert (y_prob > 0.6).sum() < found.sum() < (y_prob > 0.5).sum()
    refused(lambda: hysteresis([0.5, 0.2], 0.1, 0.2), r"^y_prob must be of shape \(height, width\) or \(n, height, wid")


@examples
@given(st.data())
def test_hysteresis_with_values_on_the_thresholds_any_connectivity_and_batches(data):
    shape = data.draw(st.lists(st.integers(2, 5), min_size=2, max_size=3))
    y_prob = data.draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.3, 0.55, 0.8])))
    connectivity = data.draw(st.integers(1, 2))
    for image, found in zip(
        *(a.reshape(-1, *shape[-2:]) for a in (y_prob, hysteresis(y_prob, 0.3, 0.55, connectivity)))
    ):
        labels = measure.label(image >= np.float32(0.3), connectivity=connectivity)
        assert np.array_equal(found, np.isin(labels, labels[(image >= np.float32(0.55)) & (labels > 0)]))


# --- small regions and holes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("min_size", [0, 1, 2, 5, 30, 10**6])
def test_small_regions_are_those_of_scikit_image_which_takes_the_largest_that_goes(min_size, connectivity):
    for seed, share in ((0, 0.2), (1, 0.4), (2, 0.6), (3, 0.95)):
        mask = np.random.default_rng(seed).random((50, 61)) < share
        expected = remove_small_objects(mask, max_size=min_size - 1, connectivity=connectivity)
        assert np.array_equal(remove_small_regions(mask, min_size, connectivity), expected)
        assert np.array_equal(remove_small_regions(200 * mask.astype(np.uint8), min_size, connectivity), 200 * expected)


@examples
@given(st.data())
def test_small_regions_of_label_images_of_any_dtype(data):
    dtype = data.draw(st.sampled_from(WHOLE[1:]))
    shape = data.draw(st.lists(st.integers(2, 6), min_size=2, max_size=3))
    labels = data.draw(arrays(dtype, shape, elements=st.sampled_from([0, 1, 2, np.iinfo(dtype).max])))
    connectivity, min_size = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 6))
    found = remove_small_regions(labels, min_size, connectivity)
    assert found.dtype == dtype
    for image, kept in zip(*(a.reshape(-1, *shape[-2:]) for a in (labels, found)), strict=True):
        expected = np.zeros_like(image)
        for value in set(image.ravel().tolist()) - {0}:
            stays = remove_small_objects(image == value, max_size=min_size - 1, connectivity=connectivity)
            expected[stays] = value
        assert np.array_equal(kept, expected)


def test_objects_that_touch_are_several_regions_and_a_label_in_two_parts_is_two():
    labels = np.array([[7, 7, 0, 9, 9], [7, 0, 0, 9, 7], [0, 7, 0, 9, 9]])
    assert remove_small_regions(labels, 2).tolist() == [[7, 7, 0, 9, 9], [7, 0, 0, 9, 0], [0, 0, 0, 9, 9]]
    assert remove_small_regions(labels, 4, connectivity=2)[2, 1] == 7, "connected at a corner"
    assert remove_small_regions([[1, 0, 1, 1]], np.uint8(2)).tolist() == [[0, 0, 1, 1]]


@examples
@given(st.data())
def test_holes_are_those_of_scipy_and_scikit_image(data):
    mask = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=7).flatmap(lambda shape: arrays(bool, shape)))
    connectivity, max_size = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 4))
    expected = ndimage.binary_fill_holes(mask, ndimage.generate_binary_structure(2, connectivity))
    assert np.array_equal(fill_holes(mask, connectivity=connectivity), expected)
    # Scikit-image fills small regions at the border too: in a frame that is larger, they are none.
    framed = remove_small_holes(np.pad(mask, 3), max_size=max_size, connectivity=connectivity)
    assert np.array_equal(fill_holes(mask, max_size, connectivity), framed[3:-3, 3:-3])


def test_holes_of_blobs_and_of_exactly_the_size():
    blob = blobs(0, (60, 70), smooth=1, threshold=-0.2)
    assert np.array_equal(fill_holes(blob), ndimage.binary_fill_holes(blob))
    assert fill_holes(blob).sum() > blob.sum() + 20
    mask = np.full((6, 9), 200, np.uint8)
    mask[2, 2:4] = mask[2:4, 6] = mask[4, 6] = mask[5, 0] = 0
    assert (fill_holes(mask, 2) == 0).sum() == 4
    assert (fill_holes(mask, 3) == 0).sum() == (fill_holes(mask) == 0).sum() == 1
    assert fill_holes(mask)[2, 2] == 200


@pytest.mark.parametrize("wrong", [-1, 2.5, 2.0, np.float64(3), np.True_, *NO_NUMBERS])
def test_sizes_connectivities_and_radii_that_are_none_are_refused(wrong):
    refused(
        lambda: remove_small_regions([[1, 0]], wrong), "^min_size must be a whole number of pixels, at least 0; got"
    )
    if wrong is not None:
        refused(lambda: fill_holes([[1, 0]], wrong), "^max_size must be a whole number of pixels, at least 0")
    for step in (partial(remove_small_regions, min_size=1), fill_holes, partial(hysteresis, low=0, high=0)):
        values = [[0.0, 1.0]] if getattr(step, "func", step) is hysteresis else [[0, 1]]
        refused(lambda: step(values, connectivity=wrong), "^connectivity must be 1 .* or 2 .*; got")  # noqa: B023
        refused(lambda: step(values, connectivity=3), "^connectivity must be 1 .* or 2 .*; got 3")  # noqa: B023
    if wrong == -1 or any(wrong is value for value in NO_NUMBERS):
        for step in (opening, closing):
            refused(lambda: step([[1, 0]], wrong), "^radius must be a finite number, at least 0; got")  # noqa: B023


# --- opening and closing -----------------------------------------------------------------------------------------


def disc(radius, spacing):
    half = [int(radius / size) + 1 for size in spacing]
    y, x = (size * np.arange(-n, n + 1) for size, n in zip(spacing, half, strict=True))
    return y[:, np.newaxis] ** 2 + x**2 <= radius**2


@pytest.mark.parametrize("radius", [0, 0.9, 1, 1.5, 2, 3.3])
@pytest.mark.parametrize("spacing", [(1, 1), (0.7, 1.9)])
def test_opening_and_closing_are_those_by_a_disc_that_may_leave_the_image(spacing, radius):
    structure = disc(radius, spacing)
    for mask in [*(blobs(seed, (30, 41), smooth=1) for seed in range(4)), FULL, EMPTY]:
        eroded = ndimage.binary_erosion(mask, structure, border_value=1)
        opened = opening(mask, radius, spacing=spacing)
        assert np.array_equal(opened, ndimage.binary_dilation(eroded, structure))
        closed = closing(mask, radius, spacing=spacing)
        dilated = ndimage.binary_dilation(mask, structure)
        assert np.array_equal(closed, ndimage.binary_erosion(dilated, structure, border_value=1))
        assert np.array_equal(opening(opened, radius, spacing=spacing), opened)
        assert (opened <= mask).all()
        assert (mask <= closed).all()


def test_one_size_of_a_pixel_scales_the_radius():
    mask = blobs(0, smooth=1)
    assert np.array_equal(opening(mask, 1, spacing=0.5), opening(mask, 2))
    assert np.array_equal(closing(mask, 1, spacing=[0.5, 0.5]), closing(mask, 2))


TAKE_SPACING = [
    partial(opening, radius=1),
    partial(closing, radius=1),
    split_touching,
    partial(boundary_distance, FULL),
]


@pytest.mark.parametrize("step", TAKE_SPACING)
@pytest.mark.parametrize("wrong", [0, -1, (1, 0), (1, np.nan), (1, 2, 3), [], (1, "2"), {1}, *NO_NUMBERS])
def test_a_spacing_that_does_not_fit_is_refused(step, wrong):
    refused(lambda: step(FULL, spacing=wrong), "^spacing must be one size above 0, or one for each of 2 axes; got")


# --- what the steps have in common -------------------------------------------------------------------------------


@each_step
@pytest.mark.parametrize("dtype", WHOLE)
def test_dtype_shape_and_input_are_kept_in_any_layout(step, dtype):
    plain = blobs(0, (3, 14, 17), smooth=1).astype(dtype)
    plain[0, 3:8, 4:9], plain[0, 5, 6] = 1, 0
    plain = plain if dtype is np.bool_ else plain * np.iinfo(dtype).max
    expected = step(plain)
    assert set(np.unique(expected)) <= set(np.unique(plain))
    assert not np.array_equal(expected, plain)
    assert np.array_equal(expected > 0, step(plain > 0)), "the value of a mask does not matter"
    read_only = plain.copy()
    read_only.flags.writeable = False
    for view in (np.asfortranarray(plain), np.repeat(plain, 2, axis=-1)[..., ::2], read_only):
        found = step(view)
        assert found.dtype == dtype
        assert found.flags.writeable
        assert not np.shares_memory(found, view)
        assert np.array_equal(found, expected)
        assert np.array_equal(view, plain)


@each_step
@pytest.mark.parametrize("connectivity", [1, 2])
def test_a_batch_is_a_loop_over_its_images(step, connectivity):
    options = (
        {"connectivity": connectivity} if getattr(step, "func", step) in (remove_small_regions, fill_holes) else {}
    )
    batch = np.stack([blobs(seed, (12, 15), smooth=0.8) for seed in range(6)])
    batch[1], batch[3] = False, True
    for image, found in zip(batch, step(batch, **options), strict=True):
        assert np.array_equal(found, step(image, **options))
    labels = batch * np.random.default_rng(0).integers(1, 4, batch.shape)
    if step is STEPS["remove_small_regions"]:
        for image, found in zip(labels, step(labels, **options), strict=True):
            assert np.array_equal(found, step(image, **options))


@each_step
def test_lists_tables_and_images_at_the_limits(step):
    mask = blobs(1)
    assert np.array_equal(step(mask.tolist()), step(mask))
    assert np.array_equal(step(pd.DataFrame(mask)), step(mask))
    for shape in ((0, 5, 6), (0, 5), (5, 0), (3, 0, 4)):
        for dtype in (bool, np.uint8):
            assert step(np.zeros(shape, dtype)).shape == shape
    for shape in ((4, 1), (1, 9), (6, 7)):
        for value in (False, True):
            assert np.array_equal(step(np.full(shape, value)), np.full(shape, value))


PLANE = np.zeros((6, 7), np.int64)
PLANE[2:4, 2:5] = 1


@pytest.mark.parametrize("step", [*STEPS.values(), split_touching], ids=[*STEPS, "split_touching"])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (PLANE * 0.8 + 0.1, "got float64: threshold probabilities by binarize first"),
        (np.where(PLANE, np.nan, 0), "threshold"),
        (PLANE - 1, "got negative numbers"),
        (PLANE.astype(complex), "got complex128[.]$"),
        (PLANE.astype(object), "got object[.]$"),
        (PLANE[..., None], r"without a channel axis; got \(6, 7, 1\)"),
        (PLANE[None, None], r"got \(1, 1, 6, 7\)"),
        (PLANE[0], r"got \(7,\)"),
        (None, r"got \(\)"),
        ([[1, 0], [1]], "one array; got rows or images of several shapes"),
    ],
)
def test_what_is_no_mask_is_refused_by_every_step(step, mask, message):
    refused(lambda: step(mask), f"^(?=mask must ).*{message}")


@pytest.mark.parametrize("step", [fill_holes, partial(opening, radius=1), partial(closing, radius=1)])
def test_label_images_are_refused_where_a_pixel_would_belong_to_none(step):
    refused(lambda: step([[1, 2, 0]]), "^mask must hold 0 and one other value; got labels: do it object by object")
    refused(lambda: step(np.array([[1, 3]], np.uint8)), "got labels")
    assert step(np.full((3, 3), 7)).tolist() == [[7] * 3] * 3


# --- objects that touch ------------------------------------------------------------------------------------------

TWO = drawn((20, 20, 10), (20, 36, 10))
CENTRES = drawn((20, 20, 3), (20, 36, 3))


def is_partition(objects, mask):
    """Each pixel of the mask, and no other, belongs to an object; objects are 1..n and each is connected."""
    numbers = np.unique(objects[objects > 0])
    return (
        np.array_equal(objects > 0, mask)
        and numbers.tolist() == list(range(1, len(numbers) + 1))
        and all(ndimage.label(objects == number)[1] == 1 for number in numbers)
        and objects.dtype == np.int32
    )


@pytest.mark.parametrize("markers", [None, CENTRES, CENTRES.astype(np.uint8)])
def test_two_discs_that_overlap_are_two_objects(markers):
    objects = split_touching(TWO, markers)
    assert is_partition(objects, TWO)
    assert objects.max() == 2
    columns = np.broadcast_to(np.arange(60), TWO.shape)
    assert (objects[TWO & (columns < 27)] == objects[20, 20]).all(), "they meet at column 28"
    assert (objects[TWO & (columns > 29)] == objects[20, 36]).all()


def test_without_markers_the_neck_decides():
    thick = np.round(ndimage.distance_transform_edt(TWO)[20, [20, 28, 36]])
    assert thick.tolist() == [10, 6, 10], "four pixels thinner"
    for min_depth, spacing, number in ((2, 1, 2), (5, 1, 1), (2, 0.5, 1), (1, 0.5, 2), (1, (0.5, 0.5), 2)):
        assert split_touching(TWO, min_depth=min_depth, spacing=spacing).max() == number


@pytest.mark.parametrize(("radius", "apart"), [(10, 16), (8, 13), (5, 8), (4, 6)])
def test_a_row_of_discs(radius, apart):
    mask = drawn(*[(20, 12 + apart * place, radius) for place in range(4)], shape=(40, 110))
    objects = split_touching(mask)
    assert is_partition(objects, mask)
    assert [objects[20, 12 + apart * place] for place in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("radius", "min_depth"), [(6, 0.3), (8, 0.3), (3, 0.5), (10, 0.5)])
def test_a_rod_at_any_angle_and_an_ellipse_are_one_object(radius, min_depth):
    y, x = np.mgrid[:120, :120] - 59.5
    for angle in (0, 0.3, 0.8, 1.2):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        rod = np.hypot(np.maximum(abs(along) - 30, 0), across) <= radius
        assert split_touching(rod, min_depth=min_depth).max() == 1
    mask = np.zeros((40, 60), bool)
    mask[ellipse(20, 30, radius, 2 * radius)] = True
    assert split_touching(mask).max() == 1


@pytest.mark.parametrize(("name", "images", "least"), [("cells", 60, 0.93), ("nuclei", 1, 0.96)])
def test_masks_of_real_and_drawn_cells_are_split_where_the_truth_is(name, images, least):
    truth = list(datasets.load(name).y[:images])
    found = sum((count_objects(y, split_touching(y > 0)) for y in truth), ObjectCounts(0, 0, 0))
    whole = sum((count_objects(y, ndimage.label(y > 0)[0]) for y in truth), ObjectCounts(0, 0, 0))
    assert found.f1 > max(least, whole.f1 + 0.05)
    assert found.panoptic_quality > 0.88


def test_markers_decide_inside_the_mask_and_a_region_without_one_is_an_object():
    assert split_touching(TWO, drawn((20, 28, 3))).max() == 1
    three = split_touching(TWO, drawn((20, 14, 2), (20, 24, 2), (20, 36, 2)))
    assert is_partition(three, TWO)
    assert three.max() == 3
    outside = drawn((3, 3, 3))
    assert np.array_equal(split_touching(TWO, CENTRES | outside), split_touching(TWO, CENTRES))
    assert split_touching(TWO, outside).max() == 1
    assert split_touching([[1, 1, 1, 1, 0]], [[1, 0, 0, 1, 1]]).tolist() == [[1, 1, 2, 2, 0]]
    mask = TWO | drawn((5, 55, 3), (35, 3, 2))
    objects = split_touching(mask, CENTRES)
    assert is_partition(objects, mask)
    assert len({objects[5, 55], objects[35, 3], objects[20, 20], objects[20, 36]}) == objects.max() == 4


@pytest.mark.parametrize("spacing", [(1, 1), (1, 3), (2.5, 1)])
def test_each_pixel_goes_to_the_marker_that_is_nearest_in_the_units_of_the_spacing(spacing):
    points = np.array([(5, 5), (8, 33), (30, 20)])
    markers = np.zeros((40, 40), bool)
    markers[tuple(points.T)] = True
    objects = split_touching(np.ones((40, 40), bool), markers, spacing=spacing)
    places = np.argwhere(objects > 0)
    distances = cdist(places * spacing, points * spacing)
    nearest = objects[tuple(points[distances.argmin(axis=1)].T)]
    first, second, _ = np.sort(distances, axis=1).T
    clear = second - first > 2 * max(spacing)
    assert clear.sum() > 1000
    assert np.array_equal(objects[tuple(places.T)][clear], nearest[clear])
    wall = np.ones((9, 9), bool)
    wall[:8, 4] = False
    markers = np.zeros((9, 9), bool)
    markers[0, 3] = markers[8, 8] = True
    objects = split_touching(wall, markers, spacing=spacing)
    assert objects[0, 5] == objects[8, 8], "not through the wall"


@pytest.mark.parametrize("markers", [None, False, True])
@pytest.mark.parametrize(
    ("mask", "number"), [(EMPTY, 0), (FULL, 1), (np.ones((1, 1), bool), 1), (np.eye(6, 9, dtype=bool), 6)]
)
def test_splitting_at_the_limits(mask, number, markers):
    objects = split_touching(mask, None if markers is None else np.full(mask.shape, markers))
    assert is_partition(objects, mask)
    assert objects.max() == number


@examples
@given(st.data())
def test_objects_of_noise_are_a_partition_and_each_marker_gets_one(data):
    shape = data.draw(st.sampled_from([(9, 11), (1, 20), (24, 31)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    mask = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2)) > rng.uniform(-0.3, 0.1)
    min_depth = data.draw(st.sampled_from([0.01, 0.1, 0.3, 0.6, 2.0]))
    assert is_partition(split_touching(mask, min_depth=min_depth, spacing=rng.uniform(0.3, 3, 2)), mask)
    markers = rng.random(shape) < 0.1
    objects = split_touching(mask, markers)
    assert is_partition(objects, mask)
    regions, number = ndimage.label(mask)
    for region in range(1, number + 1):
        expected = max(ndimage.label(markers & (regions == region))[1], 1)
        assert len(np.unique(objects[regions == region])) == expected


def test_an_object_whose_marker_is_flooded_apart_is_not_left_in_parts():
    mask = ndimage.gaussian_filter(np.random.default_rng(28).normal(size=(24, 31)), 0.6) > 0
    assert is_partition(split_touching(mask, min_depth=0.6, spacing=(1.59202749, 2.11355029)), mask)


@pytest.mark.parametrize("wrong", [0, -1, *NO_NUMBERS])
def test_a_depth_that_is_none_is_refused(wrong):
    refused(lambda: split_touching(TWO, min_depth=wrong), "^min_depth must be a finite number above 0; got")


# --- pipelines ---------------------------------------------------------------------------------------------------


def probabilities(seed, shape=(24, 30)):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    noise = np.random.default_rng(seed + 100).normal(0, 0.8, shape)
    return expit(30 * field + noise), field > 0.02


Y_PROB, Y_TRUE = map(list, zip(*map(probabilities, range(5)), strict=True))
PIPELINE = [binarize, remove_small_regions, fill_holes]
GRID = {
    "remove_small_regions__min_size": [1, 5, 20],
    "binarize__threshold": [0.3, 0.5, 0.7],
    "fill_holes__max_size": [0, 3, 20],
    "remove_small_regions__connectivity": [1, 2],
}


def one_by_one(choice, image):
    """Return the result of one candidate, with nothing shared."""
    size, connectivity = choice["remove_small_regions__min_size"], choice["remove_small_regions__connectivity"]
    large = remove_small_regions(binarize(image, choice["binarize__threshold"]), size, connectivity)
    return fill_holes(large, choice["fill_holes__max_size"])


@pytest.mark.parametrize("metric", [iou, lambda truth, result: -abs(int(truth.sum()) - int(result.sum()))])
def test_tune_gives_what_trying_everything_gives(metric):
    tuned = tune(PIPELINE, GRID, metric, Y_TRUE, Y_PROB)
    assert sorted(map(str, map(sorted, map(dict.items, tuned.candidates)))) == sorted(
        map(str, map(sorted, map(dict.items, ParameterGrid(GRID))))
    )
    for choice, scores in zip(tuned.candidates, tuned.scores, strict=True):
        assert scores.tolist() == [metric(t, one_by_one(choice, p)) for t, p in zip(Y_TRUE, Y_PROB, strict=True)]
    means = tuned.scores.mean(axis=1)
    assert type(tuned.score) is float
    assert tuned.score == means.max() == means[tuned.candidates.index(tuned.parameters)]
    assert tuned.parameters == tuned.candidates[means.argmax()], "of equal ones the first"
    again = [metric(t, apply_pipeline(tuned.pipeline, p)) for t, p in zip(Y_TRUE, Y_PROB, strict=True)]
    assert np.mean(again) == tuned.score


def test_each_step_runs_once_for_each_choice_before_it():
    calls = {"first": 0, "second": 0, "third": 0}

    def first(image, a):
        calls["first"] += 1
        return image + a

    def second(image):
        calls["second"] += 1
        return image * 2

    def third(image, b, c):
        calls["third"] += 1
        return image + b * c

    grid = {"third__b": [1, 2, 3], "first__a": [10, 20], "third__c": [5, 7]}
    images = [np.ones((2, 2)), np.zeros((2, 2))]
    tuned = tune([first, second, third], grid, lambda truth, result: -result.sum(), images, images)
    assert calls == {"first": 2 * 2, "second": 2 * 2, "third": 2 * 2 * 6}
    assert tuned.parameters == {"first__a": 10, "third__b": 1, "third__c": 5}


def test_partials_and_objects_are_steps_and_a_name_may_stand_twice_if_it_is_not_tuned():
    class Cut:
        def __call__(self, image, at=0.5):
            return image >= at

    opens = partial(partial(opening, spacing=0.5), radius=0.5)
    tuned = tune([Cut(), opens, fill_holes, opens], {"Cut__at": [0.4, 0.5]}, iou, np.stack(Y_TRUE), np.stack(Y_PROB))
    twice = opening(fill_holes(opening(Y_PROB[0] >= tuned.parameters["Cut__at"], 1)), 1)
    assert np.array_equal(apply_pipeline(tuned.pipeline, Y_PROB[0]), twice)
    tuned = tune([partial(hysteresis, high=0.8), opens], {"hysteresis__low": [0.2, 0.6]}, iou, Y_TRUE, Y_PROB)
    assert tuned.pipeline[0].keywords == {"high": 0.8, "low": tuned.parameters["hysteresis__low"]}
    empty = tune([binarize], {}, iou, Y_TRUE, Y_PROB)
    assert (empty.candidates, empty.pipeline, empty.scores.shape) == ([{}], [binarize], (1, 5))
    assert apply_pipeline([], Y_PROB[0]) is Y_PROB[0]


@pytest.mark.parametrize(
    ("pipeline", "grid", "message"),
    [
        (PIPELINE, {"binarise__threshold": [0.5]}, r"the grid's names .* 'binarize', .*; got 'binarise__threshold'"),
        (PIPELINE, {"threshold": [0.5]}, "got 'threshold'"),
        (PIPELINE, {"binarize": [0.5]}, "got 'binarize'"),
        ([binarize, fill_holes, fill_holes], {"fill_holes__max_size": [1]}, "with one step of the pipeline"),
        (PIPELINE, {"binarize__threshold": []}, "'binarize__threshold' need.* non-empty sequence"),
        (PIPELINE, {"binarize__threshold": 0.5}, "'binarize__threshold' needs to be a list"),
    ],
)
def test_a_grid_that_fits_no_step_is_refused_before_anything_runs(pipeline, grid, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tune([lambda image: pytest.fail("ran"), *pipeline], grid, iou, Y_TRUE, Y_PROB)


def test_images_that_do_not_fit_and_metrics_without_a_number_are_refused():
    for n_true, n_prob in ((0, 0), (2, 3), (3, 0)):
        message = f"^y_true and y_prob must be of one length, at least 1; got {n_true} and {n_prob}"
        refused(lambda: tune([binarize], {}, iou, Y_TRUE[:n_true], Y_PROB[:n_prob]), message)  # noqa: B023
    for score in (np.nan, np.inf):
        metric = lambda truth, result: score if truth is Y_TRUE[3] else 0.5  # noqa: B023, E731
        refused(lambda: tune(PIPELINE, GRID, metric, Y_TRUE, Y_PROB), "^the metric must give a finite number for each")  # noqa: B023
    refused(lambda: tune(PIPELINE, {}, iou, Y_PROB, Y_TRUE), "^y_prob must be probabilities")


# --- scores of masks ---------------------------------------------------------------------------------------------

SCORES = [iou, dice, boundary_iou]
each_score = pytest.mark.parametrize("score", SCORES)


@examples
@given(st.data())
def test_iou_and_dice_are_those_of_scikit_learn(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=7))
    true, found = (data.draw(arrays(np.int64, shape, elements=st.integers(0, 1))) for _ in range(2))
    empty = not (true.any() or found.any())
    for score, oracle in ((iou, jaccard_score), (dice, f1_score)):
        expected = 1.0 if empty else oracle(true.ravel(), found.ravel(), zero_division=1)
        assert score(true, found) == pytest.approx(expected)


@each_score
def test_scores_are_symmetric_python_floats_of_masks_of_any_kind(score):
    a, b = blobs(0), blobs(1)
    assert type(score(a, b)) is float
    assert 0 < score(a, b) == score(b, a) < 1 == score(a, a)
    for kind in (np.uint8, np.int64, np.uint16):
        assert score(a.astype(kind), b.astype(kind)) == score(a, b)
    assert score(a.astype(int).tolist(), np.asfortranarray(b)) == score(a, b)
    assert score(EMPTY, EMPTY) == score(FULL, FULL) == 1
    assert score(FULL, EMPTY) == score(EMPTY, FULL) == score(a, a & False) == 0


@pytest.mark.parametrize("score", [*SCORES, boundary_distance, lambda a, b: split_touching(a, markers=b)])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (FULL, FULL[..., None], r"of shape \(height, width\), not empty, without a channel axis; got \(6, 9, 1\)"),
        (FULL[None], FULL[None], r"got \(1, 6, 9\)"),
        (FULL[0], FULL[0], r"got \(9,\)"),
        (FULL[:0], FULL[:0], r"got \(0, 9\)"),
        (FULL, FULL[:, :1], r"must have the same shape; got \(6, 9\) and \(6, 1\)"),
        (FULL, FULL * 0.7, "mask of 0 and 1; got float64: threshold probabilities by binarize first"),
        (FULL.astype(np.float32), FULL, "got float32"),
        (FULL * 2, FULL, "got larger numbers: compare labels with 0 first"),
        (FULL, -1 * FULL, "mask of 0 and 1; got negative numbers"),
        (FULL, FULL.astype(object), "got object[.]$"),
        ([[1, 0], [1]], FULL, "must be one array; got rows or images of several shapes"),
        (None, FULL, r"got \(\)"),
    ],
)
def test_what_is_no_mask_is_refused_by_every_score(score, first, second, message):
    refused(lambda: score(first, second), message)


def test_messages_name_the_argument():
    refused(lambda: iou(EMPTY + 0.5, EMPTY), "^y_true must be")
    refused(lambda: iou(EMPTY, EMPTY + 0.5), "^y_pred must be")
    refused(lambda: iou(EMPTY, EMPTY[:1]), "^y_true and y_pred must have the same shape")
    refused(lambda: split_touching(EMPTY, EMPTY[:1]), "^mask and markers must have the same shape")


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_boundary_iou_is_the_iou_of_what_an_erosion_takes_away(width):
    for seed in range(4):
        a, b = blobs(seed), blobs(seed, smooth=2.3)
        first, second = (m & ~ndimage.binary_erosion(m, disc(width, (1, 1)), border_value=1) for m in (a, b))
        assert boundary_iou(a, b, width) == (first & second).sum() / (first | second).sum()
    assert boundary_iou(a, b) == boundary_iou(a, b, 2)


def test_a_bad_outline_shows_in_the_boundary_and_the_border_of_the_image_is_none():
    a, b = drawn((20, 30, 18)), drawn((20, 30, 16))
    assert iou(a, b) > 0.75
    assert boundary_iou(a, b) < 0.2
    half = np.arange(10) < np.full((10, 1), 5)
    assert boundary_iou(half, np.roll(half, -1, axis=1) & half, width=1) == 0
    almost = FULL.copy()
    almost[2, 3] = False
    assert boundary_iou(FULL, almost) == 0
    for wrong in (0, -1, 0.5, *NO_NUMBERS):
        refused(lambda: boundary_iou(FULL, FULL, wrong), "^width must be at least 1 pixel; got ")  # noqa: B023


def distances_by_pairs(a, b, spacing):
    """Return what all pixels of one boundary against all of the other give."""
    pixels = []
    for mask in (a, b):
        framed = np.pad(mask, 1)
        sides = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
        pixels.append(np.argwhere(mask & ~sides) * spacing)
    pairs = cdist(*pixels)
    forward, backward = pairs.min(axis=1), pairs.min(axis=0)
    every = np.concatenate([forward, backward])
    hd95 = max(np.percentile(forward, 95), np.percentile(backward, 95))
    return [pytest.approx(value, rel=1e-12, abs=1e-12) for value in (hd95, every.mean(), every.max())]


@examples
@given(st.data())
def test_boundary_distances_are_those_of_all_pairs_of_boundary_pixels(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=7))
    a, b = (data.draw(arrays(bool, shape)) for _ in range(2))
    for first, second in ((a, b), (blobs(int(a.sum())), blobs(int(b.sum()) + 30))):
        if first.any() and second.any():
            spacing = data.draw(st.sampled_from([1.0, 0.25, [0.7, 1.9]]))
            found = boundary_distance(first, second, spacing=spacing)
            assert [found.hd95, found.mean, found.maximum] == distances_by_pairs(first, second, spacing)
            assert {type(value) for value in vars(found).values()} == {float}
            assert boundary_distance(np.asfortranarray(second), first, spacing=spacing).hd95 == found.hd95


def test_boundary_distances_of_a_shift_of_empty_masks_and_of_one_far_speck():
    a, b = drawn((20, 20, 9)), drawn((20, 26, 9))
    assert boundary_distance(a, b, spacing=0.5).maximum == 3
    for same in (a, EMPTY, FULL):
        assert boundary_distance(same, same) == BoundaryDistance(0, 0, 0)
    for pair in ((EMPTY, FULL), (FULL, EMPTY)):
        assert boundary_distance(*pair) == BoundaryDistance(np.inf, np.inf, np.inf)
    a, b = np.zeros((3, 210), bool), np.zeros((3, 210), bool)
    a[1, :100] = b[1, :101] = b[1, 200] = True
    assert boundary_distance(a, b) == BoundaryDistance(0, 102 / 202, 101)
    b[1, 180:200] = True
    assert boundary_distance(a, b).hd95 > 90, "the larger of both directions"


# --- objects that are counted ------------------------------------------------------------------------------------


def count_by_loops(true, found, threshold):
    names_true, names_found = set(true.ravel()) - {0}, set(found.ravel()) - {0}
    ious = [jaccard_score((true == a).ravel(), (found == b).ravel()) for a, b in product(names_true, names_found)]
    ious = [value for value in ious if value > threshold]
    tp = len(ious)
    return ObjectCounts(tp, len(names_found) - tp, len(names_true) - tp, pytest.approx(sum(ious)))


def random_labels(seed, jitter=0):
    """Draw objects that touch, under numbers with gaps."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, (30, 41), (12, 2))
    points = np.clip(points + np.random.default_rng(seed + 1 + jitter).integers(-jitter, jitter + 1, (12, 2)), 0, 29)
    seeds = np.zeros((30, 41), int)
    seeds[tuple(points.T)] = rng.choice(5000, 12, replace=False) + 1
    distance, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    return np.where(distance < 7, seeds[tuple(nearest)], 0)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.75, 0.9])
def test_objects_are_counted_as_by_brute_force(threshold):
    total = ObjectCounts(0, 0, 0)
    for seed in range(6):
        true, found = random_labels(seed), random_labels(seed, jitter=3)
        counts = count_objects(true, found, threshold)
        assert counts == count_by_loops(true, found, threshold)
        assert counts.tp + counts.fn == len(np.unique(true)) - 1
        total += counts
    assert min(total.fp, total.fn, total.tp + 6 * (threshold > 0.7)) > 5, "else this is no test"


@examples
@given(st.data())
def test_objects_of_any_form_are_counted_as_by_brute_force(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=6))
    labels = st.sampled_from([0, 1, 2, 7, 300])
    true, found = (data.draw(arrays(np.int32, shape, elements=labels)) for _ in range(2))
    assert count_objects(true, found) == count_by_loops(true, found, 0.5)


def test_the_numbers_of_objects_do_not_matter_and_exactly_the_threshold_is_not_enough():
    true, found = random_labels(0), random_labels(0, jitter=1)
    counts = count_objects(true, found)
    counts = ObjectCounts(counts.tp, counts.fp, counts.fn, pytest.approx(counts.iou_sum))
    assert count_objects(np.where(true, 10**6 - true, 0), found.astype(np.uint16)) == counts
    huge = np.where(true, np.uint64(2**64 - 1) - true.astype(np.uint64), np.uint64(0))
    assert count_objects(huge, np.asfortranarray(found)) == count_objects(true.tolist(), found) == counts
    assert count_objects([[1, 1, 0]], [[1, 0, 0]]) == ObjectCounts(0, 1, 1)
    assert count_objects([[1, 1, 1, 1]], [[1, 1, 1, 0]], iou_threshold=0.75) == ObjectCounts(0, 1, 1)
    assert count_objects(FULL, FULL) == ObjectCounts(1, 0, 0, 1.0)
    assert count_objects(FULL, EMPTY) == ObjectCounts(0, 0, 1)
    assert count_objects(EMPTY, FULL) == ObjectCounts(0, 1, 0)


def test_precision_recall_f1_and_panoptic_quality():
    def scores(counts):
        return counts.precision, counts.recall, counts.f1, counts.panoptic_quality

    expected = (0.75, 0.6, 2 * 0.75 * 0.6 / (0.75 + 0.6), 2 * 0.75 * 0.6 / (0.75 + 0.6) * 0.8)
    assert scores(ObjectCounts(6, 2, 4, 4.8)) == pytest.approx(expected)
    assert scores(ObjectCounts(0, 0, 0)) == (1, 1, 1, 1)
    assert scores(ObjectCounts(0, 3, 0)) == (0, 1, 0, 0)
    assert scores(ObjectCounts(0, 0, 3)) == (1, 0, 0, 0)
    assert ObjectCounts(1, 2, 3, 0.75) + ObjectCounts(4, 5, 6, 3.5) == ObjectCounts(5, 7, 9, 4.25)


@pytest.mark.parametrize(
    ("true", "found", "options", "message"),
    [
        (EMPTY, EMPTY, {"iou_threshold": 0.49}, r"iou_threshold must be a number in \[0.5, 1\); got 0.49"),
        (EMPTY, EMPTY, {"iou_threshold": 1}, r"iou_threshold must be a number in \[0.5, 1\); got 1"),
        *((EMPTY, EMPTY, {"iou_threshold": wrong}, "^iou_threshold must be a number") for wrong in NO_NUMBERS),
        (EMPTY, EMPTY[:, :1], {}, r"labels_true and labels_pred must have the same shape; got \(6, 9\) and \(6, 1\)"),
        (EMPTY, EMPTY[..., None], {}, r"labels_pred must be .* without a channel axis; got \(6, 9, 1\)"),
        (EMPTY, EMPTY + 0.5, {}, "labels_pred must be bool or whole numbers from 0; got float64"),
        (EMPTY - 1, EMPTY, {}, "labels_true must be .* from 0; got negative numbers"),
        (EMPTY[:0], EMPTY[:0], {}, r"labels_true must be of shape .* got \(0, 9\)"),
    ],
)
def test_what_are_no_labels_is_refused(true, found, options, message):
    refused(lambda: count_objects(true, found, **options), message)


def test_scores_and_splitting_do_not_change_what_comes_in():
    a, b = blobs(0), blobs(1)
    before = a.copy(), b.copy()
    for array in (a, b):
        array.flags.writeable = False
    iou(a, b), dice(a, b), boundary_iou(a, b), boundary_distance(a, b), count_objects(a, b)
    split_touching(a), split_touching(a, markers=b)
    assert np.array_equal([a, b], before)
