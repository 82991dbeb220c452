"""Masks against scikit-image, SciPy, scikit-learn and brute force: steps, splitting and scores."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.special import expit
from skimage import filters, measure, morphology
from skimage.draw import disk
from sklearn.metrics import f1_score, jaccard_score

from helpers import data, masks
from helpers.masks import ObjectCounts, binarize, count_objects, fill_holes, hysteresis, iou, opening, split_touching

WHOLE = [np.bool_, np.uint8, np.int8, np.uint16, np.int64, np.uint64]
STEPS = {
    "remove_small_regions": partial(masks.remove_small_regions, min_size=4),
    "fill_holes": fill_holes,
    "fill_holes up to a size": partial(fill_holes, max_size=2),
    "opening": partial(opening, radius=1.5),
    "closing": partial(masks.closing, radius=1.5),
}
SCORES = [iou, masks.dice, masks.boundary_iou]
FULL, EMPTY = np.ones((6, 9), bool), np.zeros((6, 9), bool)
examples = settings(deadline=None, max_examples=60)


def blobs(seed, shape=(24, 31), smooth=2.0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, (0,) * (len(shape) - 2) + (smooth,) * 2) > 0


def drawn(*circles, shape=(40, 60)):
    mask = np.zeros(shape, bool)
    for row, column, radius in circles:
        mask[disk((row, column), radius, shape=shape)] = True
    return mask


def images(*arrays):
    """Return the images of each array side by side, be they batches or not."""
    return zip(*(array.reshape(-1, *array.shape[-2:]) for array in arrays), strict=True)


def refused(call, message):
    """Check that a call raises one sentence."""
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


# --- what is refused ---------------------------------------------------------------------------------------------

NUMBERS = {
    "threshold": (lambda value: binarize([[0.5]], value), [-0.1, 1.1]),
    "high": (lambda value: hysteresis([[0.5]], 0, value), [-0.1, 1.1]),
    "low": (lambda value: hysteresis([[0.5]], value, 0.7), [-0.1, 0.71]),
    "min_size": (lambda value: masks.remove_small_regions([[1]], value), [-1, 2.5, 2.0, np.float64(3)]),
    "max_size": (lambda value: fill_holes([[1]], value), [-1, 2.5]),
    "radius": (lambda value: [opening([[1]], value), masks.closing([[1]], value)], [-1]),
    "connectivity": (lambda value: masks.remove_small_regions([[1]], 1, value), [0, 3, 1.0]),
    "min_depth": (lambda value: split_touching([[1]], min_depth=value), [0, -1]),
    "width": (lambda value: masks.boundary_iou([[1]], [[1]], value), [0, 0.5]),
    "iou_threshold": (lambda value: count_objects([[1]], [[1]], value), [0.49, 1]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_do_not_fit_are_refused(name):
    call, out_of_range = NUMBERS[name]
    for wrong in [*out_of_range, np.nan, np.inf, "1", [1], True, np.True_, 1j] + [None] * (name != "max_size"):
        refused(partial(call, wrong), f"^{name} must be .*; got ")


def test_a_spacing_that_does_not_fit_is_refused():
    for step in (partial(opening, radius=1), split_touching):
        for wrong in [0, -1, (1, 0), (1, np.nan), (1, 2, 3), [], (1, "2"), {1}, np.inf, "1", None, True]:
            refused(partial(step, FULL, spacing=wrong), "^spacing must be one size above 0, or one for each of 2 axes")


NO_MASKS = [
    (FULL * 0.7, "got float64: threshold probabilities by binarize first"),
    (-2 * FULL, "got negative numbers"),
    (FULL.astype(object), "got object[.]$"),
    (FULL[..., None], r"without a channel axis; got \(6, 9, 1\)"),
    *((np.dstack([FULL] * n), rf"without a channel axis; got \(6, 9, {n}\): take one channel") for n in (2, 3, 4)),
    (None, r"got \(\)"),
    ([[1, 0], [1]], "one array; got rows or images of several shapes"),
]


@pytest.mark.parametrize(("wrong", "message"), NO_MASKS)
def test_what_is_no_mask_is_refused_and_the_argument_named(wrong, message):
    for step in (*STEPS.values(), split_touching):
        refused(partial(step, wrong), f"^mask must be .*{message}")
    for score, name in zip((*SCORES, count_objects), ["y"] * 3 + ["labels"], strict=True):
        refused(partial(score, wrong, FULL), f"^{name}_true must be .*{message}")
        refused(partial(score, FULL, wrong), f"^{name}_pred must be .*{message}")
        refused(partial(score, FULL, -1 * FULL), f"^{name}_pred must be .*got negative numbers")
    for step in (*STEPS.values(), split_touching):
        refused(partial(step, -1 * FULL), "^mask must be .*got negative numbers")


def test_single_images_of_one_shape_and_of_0_and_1():
    for call in (*SCORES, lambda a, b: split_touching(b, markers=a), count_objects):
        refused(partial(call, FULL, FULL[:, :1]), r" and .* must have the same shape; got \(6, .\) and \(6, .\)")
        refused(partial(call, FULL[None], FULL[None]), r"of shape \(height, width\), not empty, .* got \(1, 6, 9\)")
        refused(partial(call, FULL[:0], FULL[:0]), r"got \(0, 9\)")
        if call is not count_objects:
            refused(partial(call, FULL * 2, FULL), "must be a mask of 0 and 1; got larger numbers: compare labels with")
    for step in (fill_holes, partial(opening, radius=1), partial(masks.closing, radius=1)):
        refused(partial(step, [[1, 2, 0]]), "^mask must hold 0 and one other value; got labels: do it object by object")


def test_what_are_no_probabilities_is_refused():
    for y_prob, message in [
        (np.array([[-3.0, 2.0]]), r"probabilities in \[0, 1\]; got -3 … 2: logits need a sigmoid first"),
        (np.array([[0.3, np.nan, np.nan]]), "got NaN in 2 places"),
        (np.array([[0, 255]], np.uint8), "which are floats; got uint8, perhaps labels, or bytes: divide those by 255"),
        (np.array([[True, False]]), "got bool, perhaps a mask already"),
        ([[0.3, 0.4], [0.5]], "one array; got rows or images of several shapes"),
    ]:
        for step in (binarize, partial(hysteresis, low=0.3, high=0.6)):
            refused(partial(step, y_prob), f"^y_prob must be .*{message}")


# --- binarize and hysteresis -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 5, 6), (2, 5, 6, 1), (2, 3, 4, 5), (0, 3)])
def test_binarize_takes_probabilities_of_any_shape_and_precision(shape):
    for dtype in (np.float16, np.float32, np.float64):
        y_prob = np.random.default_rng(0).random(shape).astype(dtype)
        assert binarize(y_prob).dtype == bool
        assert np.array_equal(binarize(y_prob, 0.25), y_prob >= 0.25)
        assert binarize(y_prob, y_prob.max(initial=0)).sum() == min(1, y_prob.size), "a value on the threshold counts"


def test_a_saturated_map_is_a_map_and_a_softmax_is_none():
    saturated = expit(np.array([[-120, -110], [20, 30]], np.float32))
    assert set(saturated.ravel()) == {0, 1}
    for mask in (binarize(saturated), hysteresis(saturated, 0.2, 0.8)):
        assert mask.tolist() == [[False, False], [True, True]]
    p = np.random.default_rng(0).random((4, 5))
    pair, two_sigmoids = np.stack([p, 1 - p], axis=-1), np.stack([p, p / 2], axis=-1)[np.newaxis]
    assert np.array_equal(binarize(two_sigmoids), two_sigmoids >= 0.5)
    for softmax in (pair, pair[np.newaxis]):
        refused(lambda softmax=softmax: binarize(softmax), "got 2 classes along the last axis, which sum to 1: take a")


@examples
@given(st.data())
def test_hysteresis_with_values_on_the_thresholds_any_connectivity_and_batches(given):
    shape = (*given.draw(st.lists(st.integers(2, 5), min_size=1, max_size=2)), 5)
    y_prob = given.draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.3, 0.55, 0.8])))
    connectivity = given.draw(st.integers(1, 2))
    for image, found in images(y_prob, hysteresis(y_prob, 0.3, 0.55, connectivity)):
        labels = measure.label(image >= 0.3, connectivity=connectivity)
        assert np.array_equal(found, np.isin(labels, labels[image >= 0.55]))
    refused(lambda: hysteresis([0.5, 0.2], 0.1, 0.2), r"^y_prob must be of shape \(height, width\) or \(n, height, wid")


# --- small regions and holes -------------------------------------------------------------------------------------


@examples
@given(st.data())
def test_small_regions_of_label_images_are_those_of_scikit_image(given):
    dtype = given.draw(st.sampled_from(WHOLE[1:]))
    shape = (*given.draw(st.lists(st.integers(2, 6), min_size=1, max_size=2)), 5)
    labels = given.draw(arrays(dtype, shape, elements=st.sampled_from([0, 1, 2, np.iinfo(dtype).max])))
    connectivity, min_size = given.draw(st.integers(1, 2)), given.draw(st.integers(0, 6))
    for image, kept in images(labels, masks.remove_small_regions(labels, min_size, connectivity)):
        expected = np.zeros_like(image)
        for value in set(image.ravel().tolist()) - {0}:
            options = {"max_size": min_size - 1, "connectivity": connectivity}
            expected[morphology.remove_small_objects(image == value, **options)] = value
        assert np.array_equal(kept, expected)


def test_objects_that_touch_are_several_regions_and_a_label_in_two_parts_is_two():
    labels = np.array([[7, 7, 0, 9, 9], [7, 0, 0, 9, 7], [0, 7, 0, 9, 9]])
    assert masks.remove_small_regions(labels, 2).tolist() == [[7, 7, 0, 9, 9], [7, 0, 0, 9, 0], [0, 0, 0, 9, 9]]


@examples
@given(st.data())
def test_holes_are_those_of_scipy_and_scikit_image(given):
    mask = given.draw(array_shapes(min_dims=2, max_dims=2, max_side=7).flatmap(lambda shape: arrays(bool, shape)))
    connectivity, max_size = given.draw(st.integers(1, 2)), given.draw(st.integers(0, 4))
    expected = ndimage.binary_fill_holes(mask, ndimage.generate_binary_structure(2, connectivity))
    assert np.array_equal(fill_holes(mask, connectivity=connectivity), expected)
    # Scikit-image fills small regions at the border too: in a frame that is larger, they are none.
    framed = morphology.remove_small_holes(np.pad(mask, 3), max_size=max_size, connectivity=connectivity)
    assert np.array_equal(fill_holes(mask, max_size, connectivity), framed[3:-3, 3:-3])


def adversarial():
    """Masks that labelling has failed on: one region of many turns, corners only, rings, noise near percolation."""
    snake = np.arange(33)[:, np.newaxis] % 4 == np.zeros(32, int)
    snake[2::8, -1] = snake[1::8, -1] = snake[3::8, -1] = True
    snake[5::8, 0] = snake[6::8, 0] = snake[7::8, 0] = True
    y, x = np.indices((32, 33))
    away = np.maximum(abs(y - 15), abs(x - 16))
    noise = [np.random.default_rng(round(100 * share)).random((60, 70)) < share for share in (0.2, 0.41, 0.59, 0.9)]
    return [snake, ~snake, (x + y) % 2 == 0, x == y, away % 3 == 0, away % 2 == 0, (x % 2 == 0) | (y == 31), *noise]


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("number", range(11))
def test_steps_of_adversarial_masks_are_those_of_scikit_image(number, connectivity):
    mask = adversarial()[number]
    sizes = np.unique(np.bincount(measure.label(mask, connectivity=connectivity).ravel())[1:])
    for size in {1, 2, 3, *sizes, *(sizes + 1)}:
        kept = morphology.remove_small_objects(mask, max_size=size - 1, connectivity=connectivity)
        # Two images of a batch whose borders touch, of bool and of numbers.
        for batch in (np.stack([mask, mask]), 200 * np.stack([mask, mask]).astype(np.uint8)):
            found = masks.remove_small_regions(batch, int(size), connectivity)
            assert np.array_equal(found, np.where(kept, batch, 0))
        framed = morphology.remove_small_holes(np.pad(mask, 70), max_size=size, connectivity=connectivity)
        assert np.array_equal(fill_holes(mask, int(size), connectivity), framed[70:-70, 70:-70])
    y_prob = np.where(mask, 0.5 + np.random.default_rng(0).random(mask.shape) / 2.5, 0.1)
    expected = filters.apply_hysteresis_threshold(y_prob, 0.4, 0.88)
    assert connectivity == 2 or np.array_equal(hysteresis(y_prob, 0.4, 0.88), expected)


# --- opening and closing -----------------------------------------------------------------------------------------


def disc(radius, spacing):
    y, x = (size * np.arange(-9, 10) for size in spacing)
    return y[:, np.newaxis] ** 2 + x**2 <= radius**2


@pytest.mark.parametrize("radius", [0, 0.9, 1, 1.5, 2, 3.3])
@pytest.mark.parametrize("spacing", [(1, 1), (0.7, 1.9)])
def test_opening_and_closing_are_those_by_a_disc_that_may_leave_the_image(spacing, radius):
    structure = disc(radius, spacing)
    for mask in [*(blobs(seed, (30, 41), smooth=1) for seed in range(4)), FULL, EMPTY]:
        eroded = ndimage.binary_erosion(mask, structure, border_value=1)
        assert np.array_equal(opening(mask, radius, spacing=spacing), ndimage.binary_dilation(eroded, structure))
        closed = ndimage.binary_erosion(ndimage.binary_dilation(mask, structure), structure, border_value=1)
        assert np.array_equal(masks.closing(mask, radius, spacing=spacing), closed)
    assert np.array_equal(opening(blobs(0), 1, spacing=0.5), opening(blobs(0), 2)), "one size of a pixel"


# --- what the steps have in common -------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_dtype_shape_and_input_are_kept_and_images_of_a_batch_are_apart(step):
    mask = np.concatenate([blobs(0, (3, 14, 17), smooth=1), np.ones((1, 14, 17)), np.zeros((1, 14, 17))]) > 0
    mask[0, 3:8, 4:9], mask[0, 5, 6] = True, False
    for dtype in WHOLE:
        plain = mask.astype(dtype) * np.array(dtype is np.bool_ or np.iinfo(dtype).max, dtype)
        plain.flags.writeable = False
        expected = np.stack([step(image.tolist()) for image in mask]) * plain.max()
        assert not np.array_equal(expected, plain)
        for view in (plain, np.asfortranarray(plain), np.repeat(plain, 2, axis=-1)[..., ::2]):
            found = step(view)
            assert found.dtype == dtype
            assert found.flags.writeable
            assert np.array_equal(found, expected)
    for shape, dtype in product([(0, 5, 6), (0, 5), (5, 0), (3, 0, 5)], (bool, np.uint8)):
        assert step(np.zeros(shape, dtype)).shape == shape


# --- objects that touch ------------------------------------------------------------------------------------------

TWO = drawn((20, 20, 10), (20, 36, 10))
CENTRES = drawn((20, 20, 3), (20, 36, 3))
for array in (FULL, EMPTY, TWO, CENTRES):
    array.flags.writeable = False


def split_partition(mask, markers=None, **options):
    """Split, and check that each pixel of the mask, and no other, is in an object 1..n, each connected."""
    objects = split_touching(mask, markers, **options)
    numbers = np.unique(objects[objects > 0])
    assert np.array_equal(objects > 0, np.asarray(mask) > 0)
    assert numbers.tolist() == list(range(1, len(numbers) + 1))
    assert all(ndimage.label(objects == number)[1] == 1 for number in numbers)
    assert objects.dtype == np.int32
    return objects


def test_discs_that_overlap_are_objects_and_the_neck_decides():
    for markers in (None, CENTRES):
        objects = split_partition(TWO, markers)
        assert objects.max() == 2
        assert (objects[:, :27][TWO[:, :27]] == objects[20, 20]).all(), "they meet at column 28"
        assert (objects[:, 30:][TWO[:, 30:]] == objects[20, 36]).all()
    # In the middle of each disc the boundary is 10 pixels away, in the neck 6.
    for min_depth, spacing, number in ((2, 1, 2), (5, 1, 1), (2, 0.5, 1), (1, 0.5, 2), (1, (0.5, 0.5), 2)):
        assert split_touching(TWO, min_depth=min_depth, spacing=spacing).max() == number
    for radius, apart in ((10, 16), (4, 6)):
        objects = split_partition(drawn(*[(20, 12 + apart * place, radius) for place in range(4)], shape=(40, 110)))
        assert [objects[20, 12 + apart * place] for place in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("name", "number", "least"), [("cells", 12, 0.93), ("nuclei", 1, 0.96)])
def test_masks_of_real_and_drawn_cells_are_split_where_the_truth_is(name, number, least):
    truth = list(data.load(name).y[:number])
    found = sum((count_objects(y, split_touching(y > 0)) for y in truth), ObjectCounts(0, 0, 0))
    whole = sum((count_objects(y, ndimage.label(y > 0)[0]) for y in truth), ObjectCounts(0, 0, 0))
    assert found.f1 > max(least, whole.f1 + 0.05)
    assert found.panoptic_quality > 0.88


def test_markers_decide_inside_the_mask_and_a_region_without_one_is_an_object():
    assert split_touching(TWO, drawn((20, 28, 3))).max() == 1
    outside = drawn((3, 3, 3))
    assert np.array_equal(split_touching(TWO, CENTRES | outside), split_touching(TWO, CENTRES))
    objects = split_partition(TWO | drawn((5, 55, 3), (35, 3, 2)), CENTRES)
    assert len({objects[5, 55], objects[35, 3], objects[20, 20], objects[20, 36]}) == objects.max() == 4
    for mask, number in ((EMPTY, 0), (FULL, 1), (np.ones((1, 1), bool), 1), (np.eye(6, 9, dtype=bool), 6)):
        for markers in (None, np.zeros_like(mask), np.ones_like(mask)):
            assert split_partition(mask, markers).max() == number
    # An object whose marker is flooded apart is not left in parts.
    mask = ndimage.gaussian_filter(np.random.default_rng(28).normal(size=(24, 31)), 0.6) > 0
    split_partition(mask, min_depth=0.6, spacing=(1.59202749, 2.11355029))


@pytest.mark.parametrize("spacing", [(1, 1), (1, 3), (2.5, 1)])
def test_each_pixel_goes_to_the_marker_that_is_nearest_in_the_units_of_the_spacing(spacing):
    points, markers = np.array([(5, 5), (8, 33), (30, 20)]), np.zeros((40, 40), bool)
    markers[tuple(points.T)] = True
    objects = split_touching(np.ones((40, 40), bool), markers, spacing=spacing).ravel()
    distances = cdist(np.argwhere(markers | True) * spacing, points * spacing)
    first, second, _ = np.sort(distances, axis=1).T
    clear = second - first > 2 * max(spacing)
    nearest = objects[np.ravel_multi_index(points.T, (40, 40))[distances.argmin(axis=1)]]
    assert clear.sum() > 1000
    assert np.array_equal(objects[clear], nearest[clear])


# --- scores of masks ---------------------------------------------------------------------------------------------


@examples
@given(st.data())
def test_iou_and_dice_are_those_of_scikit_learn(given):
    shape = given.draw(array_shapes(min_dims=2, max_dims=2, max_side=7))
    true, found = (given.draw(arrays(np.int64, shape, elements=st.integers(0, 1))) for _ in range(2))
    for score, oracle in ((iou, jaccard_score), (masks.dice, f1_score)):
        expected = oracle(true.ravel(), found.ravel(), zero_division=1) if true.any() or found.any() else 1
        assert score(true, found) == pytest.approx(expected)


@pytest.mark.parametrize("score", SCORES)
def test_scores_are_symmetric_python_floats_of_masks_of_any_kind(score):
    a, b = blobs(0), blobs(1)
    assert type(score(a, b)) is float
    assert 0 < score(a, b) == score(b, a) < 1 == score(a, a)
    assert score(a.astype(int).tolist(), np.asfortranarray(b)) == score(a, b)
    assert score(EMPTY, EMPTY) == score(FULL, FULL) == 1
    assert score(FULL, EMPTY) == score(EMPTY, FULL) == score(a, a & False) == 0


@pytest.mark.parametrize("score", [*SCORES, count_objects])
def test_pixels_whose_truth_is_not_known_count_for_neither(score):
    true, found, void = blobs(0), blobs(0, smooth=2.3), blobs(2)
    expected = score(true & ~void, found & ~void)
    assert score(np.where(void, -1, true), found) == expected != score(true, found)
    assert (
        score(np.where(void, -1, true), found | void) == expected == score(np.where(void, -1, 0 * void + true), found)
    )
    assert score(np.full(true.shape, -1), found) == score(EMPTY, EMPTY)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_boundary_iou_is_the_iou_of_what_an_erosion_takes_away(width):
    for seed in range(4):
        a, b = blobs(seed), blobs(seed, smooth=2.3)
        first, second = (m & ~ndimage.binary_erosion(m, disc(width, (1, 1)), border_value=1) for m in (a, b))
        assert masks.boundary_iou(a, b, width) == (first & second).sum() / (first | second).sum()
    assert masks.boundary_iou(FULL, np.pad(FULL[1:-1, 1:-1], 1), width) == 0, "the border of the image is none"


# --- objects that are counted ------------------------------------------------------------------------------------


def count_by_loops(true, found, threshold):
    names_true, names_found = set(true.ravel()) - {0}, set(found.ravel()) - {0}
    pairs = [(true == a, found == b) for a, b in product(names_true, names_found)]
    ious = [value for a, b in pairs if (value := (a & b).sum() / (a | b).sum()) > threshold]
    tp = len(ious)
    return ObjectCounts(tp, len(names_found) - tp, len(names_true) - tp, pytest.approx(sum(ious)))


def random_labels(seed, smooth=2.0):
    return 37 * ndimage.label(blobs(seed, (60, 80), smooth))[0]


def test_objects_are_counted_as_by_brute_force():
    total = ObjectCounts(0, 0, 0)
    for seed, threshold in product(range(3), (0.5, 0.6, 0.75, 0.9)):
        true, found = random_labels(seed), random_labels(seed, 2.4)
        expected = count_by_loops(true, found, threshold)
        assert count_objects(true, found, threshold) == expected
        renamed = np.where(true, np.uint64(2**64 - 1) - true.astype(np.uint64), np.uint64(0))
        assert count_objects(renamed, found.astype(np.uint16).tolist(), threshold) == expected, "numbers are only names"
        total += count_objects(true, found, threshold)
    assert min(total.tp, total.fp, total.fn) > 5, "else this is no test"
    assert count_objects([[1, 1, 0]], [[1, 0, 0]]) == ObjectCounts(0, 1, 1), "exactly the threshold is not enough"


def test_precision_recall_f1_and_panoptic_quality():
    def scores(counts):
        return counts.precision, counts.recall, counts.f1, counts.panoptic_quality

    f1 = 2 * 0.75 * 0.6 / (0.75 + 0.6)
    assert scores(ObjectCounts(6, 2, 4, 4.8)) == pytest.approx((0.75, 0.6, f1, 0.8 * f1))
    assert scores(ObjectCounts(0, 0, 0)) == (1, 1, 1, 1)
    assert scores(ObjectCounts(0, 3, 0)) == (0, 1, 0, 0)
    assert scores(ObjectCounts(0, 0, 3)) == (1, 0, 0, 0)
    assert ObjectCounts(1, 2, 3, 0.75) + ObjectCounts(4, 5, 6, 3.5) == ObjectCounts(5, 7, 9, 4.25)
