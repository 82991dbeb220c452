"""Scores of masks against other libraries and brute force, and objects that touch."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.draw import disk, ellipse
from sklearn.metrics import f1_score, jaccard_score

from helpers.masks import ObjectCounts, border_iou, count_objects, dice, iou, split_touching

SCORES = [iou, dice, border_iou]
FULL, EMPTY = np.ones((6, 9), bool), np.zeros((6, 9), bool)


def random_mask(seed, shape=(24, 31), smooth=2):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, smooth) > 0


def drawn(*circles, shape=(40, 60)):
    mask = np.zeros(shape, bool)
    for row, column, radius in circles:
        mask[disk((row, column), radius, shape=shape)] = True
    return mask


# --- scores of masks ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_iou_and_dice_are_those_of_scikit_learn(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=7))
    true, found = (data.draw(arrays(np.int64, shape, elements=st.integers(0, 1))) for _ in range(2))
    empty = not (true.any() or found.any())
    expected = jaccard_score(true.ravel(), found.ravel(), zero_division=1)
    assert iou(true, found) == pytest.approx(1.0 if empty else expected)
    expected = f1_score(true.ravel(), found.ravel(), zero_division=1)
    assert dice(true, found) == pytest.approx(1.0 if empty else expected)


@pytest.mark.parametrize("score", SCORES)
def test_every_score_is_symmetric_and_a_python_float_within_0_and_1(score):
    for seed in range(5):
        a, b = random_mask(seed), random_mask(seed + 100)
        assert type(score(a, b)) is float
        assert 0 <= score(a, b) < 1
        assert score(a, b) == score(b, a)
        assert score(a, a) == 1


@pytest.mark.parametrize("score", SCORES)
def test_empty_and_full_masks(score):
    assert score(EMPTY, EMPTY) == 1
    assert score(FULL, FULL) == 1
    assert score(FULL, EMPTY) == 0, "neither has a border, and they are as different as can be"
    assert score(EMPTY, FULL) == 0
    assert score(random_mask(0), np.zeros((24, 31), bool)) == 0


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint16, list])
def test_masks_of_many_kinds(score, dtype):
    a, b = random_mask(0), random_mask(1)
    given_as = (a.astype(int).tolist(), b.tolist()) if dtype is list else (a.astype(dtype), b.astype(dtype))
    assert score(*given_as) == score(a, b)


def test_what_comes_in_is_not_changed():
    a, b, labels = random_mask(0), random_mask(1), ndimage.label(random_mask(2))[0]
    before = a.copy(), b.copy(), labels.copy()
    iou(a, b), dice(a, b), border_iou(a, b), split_touching(a), split_touching(a, markers=b)
    count_objects(labels, labels)
    for now, then in zip((a, b, labels), before, strict=True):
        assert np.array_equal(now, then)


@pytest.mark.parametrize("score", [*SCORES, lambda a, b: split_touching(a, markers=b)])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((32, 32), bool), np.ones((32, 32, 1), bool), r"shape \(height, width\); got \(32, 32, 1\)"),
        (np.ones((32, 32, 1), bool), np.ones((32, 32), bool), r"shape \(height, width\); got \(32, 32, 1\)"),
        (np.ones(4, bool), np.ones(4, bool), r"got \(4,\)"),
        (np.ones((0, 4), bool), np.ones((0, 4), bool), r"got \(0, 4\)"),
        (np.ones((4, 4), bool), np.ones((4, 1), bool), r"same shape; got \(4, 4\) and \(4, 1\)"),
        (np.ones((4, 4), bool), np.full((4, 4), 0.7), r"mask of 0 and 1; got float64 values, perhaps probabilities"),
        (np.full((4, 4), np.nan), np.ones((4, 4), bool), "perhaps probabilities or logits: cut them first"),
        (np.ones((4, 4), np.float32), np.ones((4, 4), bool), "got float32 values"),
        (np.full((4, 4), 2), np.ones((4, 4), bool), "got int64 values, perhaps labels: compare with 0 first"),
        (np.ones((4, 4), bool), np.full((4, 4), 255, np.uint8), "got uint8 values, perhaps labels"),
        (np.ones((4, 4), bool), np.full((4, 4), -1), "mask of 0 and 1"),
    ],
)
def test_what_is_no_mask_is_refused_with_one_sentence(score, first, second, message):
    with pytest.raises(ValueError, match=message) as caught:
        score(first, second)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("bad", "name"), [(0, "y_true"), (1, "y_pred")])
def test_the_sentence_names_the_argument(bad, name):
    masks = [EMPTY, EMPTY]
    masks[bad] = EMPTY + 0.5
    with pytest.raises(ValueError, match=f"^{name} must be"):
        iou(*masks)


# --- borders -----------------------------------------------------------------------------------------------------


def border_by_erosion(mask, width):
    y, x = np.mgrid[-width : width + 1, -width : width + 1]
    return mask & ~ndimage.binary_erosion(mask, x**2 + y**2 <= width**2, border_value=True)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_border_iou_is_the_iou_of_what_an_erosion_takes_away(width, seed):
    a, b = random_mask(seed), random_mask(seed, smooth=2.3)
    first, second = border_by_erosion(a, width), border_by_erosion(b, width)
    assert border_iou(a, b, width) == (first & second).sum() / (first | second).sum()


def test_the_width_is_two_pixels_unless_told():
    a, b = drawn((20, 20, 12)), drawn((20, 21, 12))
    assert border_iou(a, b) == border_iou(a, b, width=2) != border_iou(a, b, width=1)


def test_a_bad_outline_shows_in_the_border_and_not_in_the_whole():
    a, b = drawn((20, 30, 18)), drawn((20, 30, 16))
    assert iou(a, b) > 0.75
    assert border_iou(a, b) < 0.2


def test_the_edge_of_the_image_is_no_border():
    half = np.zeros((10, 10), bool)
    half[:, :5] = True
    other = half.copy()
    other[:, 4] = False
    assert border_iou(half, other, width=1) == 0, "columns 4 and 3: nothing at the image's edge agrees"


def test_a_full_mask_against_one_with_a_border():
    almost = FULL.copy()
    almost[2, 3] = False
    assert border_iou(FULL, almost) == 0


@pytest.mark.parametrize("width", [0, -1])
def test_a_border_without_width_is_refused(width):
    with pytest.raises(ValueError, match=f"width must be at least 1 pixel; got {width}"):
        border_iou(FULL, FULL, width)


# --- objects that are counted ------------------------------------------------------------------------------------


def count_by_loops(true, found, threshold):
    names_true, names_found = set(true.ravel()) - {0}, set(found.ravel()) - {0}
    tp = 0
    for a, b in product(names_true, names_found):
        both = int(((true == a) & (found == b)).sum())
        either = int(((true == a) | (found == b)).sum())
        tp += both / either > threshold
    return ObjectCounts(tp, len(names_found) - tp, len(names_true) - tp)


def random_labels(seed, jitter=0):
    """Objects that touch, under numbers with gaps."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros((30, 41), int)
    points = rng.integers(0, (30, 41), (12, 2))
    points = np.clip(points + np.random.default_rng(seed + 1 + jitter).integers(-jitter, jitter + 1, (12, 2)), 0, 29)
    seeds[tuple(points.T)] = rng.choice(5000, 12, replace=False) + 1
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    labels = seeds[tuple(nearest)]
    return np.where(ndimage.distance_transform_edt(seeds == 0) < 7, labels, 0)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("seed", range(6))
def test_objects_are_counted_as_by_brute_force(seed, threshold):
    true, found = random_labels(seed), random_labels(seed, jitter=3 + seed % 2)
    counts = count_objects(true, found, threshold)
    assert counts == count_by_loops(true, found, threshold)
    assert counts.tp + counts.fn == len(np.unique(true)) - 1


def test_the_random_objects_are_a_test():
    counts = sum((count_objects(random_labels(n), random_labels(n, 3)) for n in range(6)), ObjectCounts(0, 0, 0))
    assert min(counts.tp, counts.fp, counts.fn) > 5


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_objects_of_any_form_are_counted_as_by_brute_force(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=6))
    labels = st.sampled_from([0, 1, 2, 7, 300])
    true, found = (data.draw(arrays(np.int32, shape, elements=labels)) for _ in range(2))
    assert count_objects(true, found) == count_by_loops(true, found, 0.5)


def test_exactly_half_is_not_enough():
    assert count_objects([[1, 1, 0]], [[1, 0, 0]]) == ObjectCounts(0, 1, 1)
    assert count_objects([[1, 1, 1]], [[1, 1, 0]]) == ObjectCounts(1, 0, 0)
    assert count_objects([[1, 1, 1, 1]], [[1, 1, 1, 0]], threshold=0.75) == ObjectCounts(0, 1, 1)


def test_the_numbers_of_objects_do_not_matter():
    true, found = random_labels(0), random_labels(0, jitter=1)
    counts = count_objects(true, found)
    assert count_objects(np.where(true, 10**6 - true, 0), found.astype(np.uint16)) == counts
    assert count_objects(true.tolist(), found) == counts
    assert count_objects(found, true) == ObjectCounts(counts.tp, counts.fn, counts.fp)


def test_a_mask_is_one_object_and_images_without_background_are_counted():
    assert count_objects(FULL, FULL) == ObjectCounts(1, 0, 0)
    assert count_objects(FULL, EMPTY) == ObjectCounts(0, 0, 1)
    assert count_objects(EMPTY, FULL) == ObjectCounts(0, 1, 0)
    assert count_objects(EMPTY, EMPTY) == ObjectCounts(0, 0, 0)


def test_counts_of_images_add_up():
    pairs = [(random_labels(n), random_labels(n, 3)) for n in range(4)]
    total = sum((count_objects(*pair) for pair in pairs), ObjectCounts(0, 0, 0))
    side_by_side = count_objects(
        np.hstack([np.where(true, true + 10**4 * n, 0) for n, (true, _) in enumerate(pairs)]),
        np.hstack([np.where(found, found + 10**4 * n, 0) for n, (_, found) in enumerate(pairs)]),
    )
    assert total == side_by_side


def test_precision_recall_and_f1():
    counts = ObjectCounts(tp=6, fp=2, fn=4)
    assert (counts.precision, counts.recall) == (0.75, 0.6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    nothing = ObjectCounts(0, 0, 0)
    assert (nothing.precision, nothing.recall, nothing.f1) == (1, 1, 1)
    invented = ObjectCounts(0, 3, 0)
    assert (invented.precision, invented.recall, invented.f1) == (0, 1, 0)
    missed = ObjectCounts(0, 0, 3)
    assert (missed.precision, missed.recall, missed.f1) == (1, 0, 0)


@pytest.mark.parametrize(
    ("true", "found", "options", "message"),
    [
        (EMPTY, EMPTY, {"threshold": 0.49}, r"threshold must lie in \[0.5, 1\); got 0.49"),
        (EMPTY, EMPTY, {"threshold": 1}, r"threshold must lie in \[0.5, 1\); got 1"),
        (EMPTY, EMPTY, {"threshold": np.nan}, "threshold"),
        (EMPTY, EMPTY[:, :1], {}, r"same shape; got \(6, 9\) and \(6, 1\)"),
        (EMPTY, EMPTY[..., None], {}, "labels_pred must be whole numbers"),
        (EMPTY[..., None], EMPTY, {}, r"labels_true must be .* got bool of shape \(6, 9, 1\)"),
        (EMPTY, EMPTY + 0.5, {}, "labels_pred must be whole numbers from 0 .* got float64"),
        (EMPTY - 1, EMPTY, {}, "labels_true must be whole numbers from 0"),
    ],
)
def test_what_are_no_labels_is_refused_with_one_sentence(true, found, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        count_objects(true, found, **options)
    assert "\n" not in str(caught.value)


# --- objects that touch ------------------------------------------------------------------------------------------

TWO = drawn((20, 20, 10), (20, 36, 10))
CENTRES = drawn((20, 20, 3), (20, 36, 3))


def is_partition(objects, mask):
    """Each pixel of the mask, and no other, belongs to an object; objects are 1..n and each in one piece."""
    numbers = np.unique(objects[objects > 0])
    return (
        np.array_equal(objects > 0, mask)
        and numbers.tolist() == list(range(1, len(numbers) + 1))
        and all(ndimage.label(objects == number)[1] == 1 for number in numbers)
        and objects.dtype == np.int32
    )


@pytest.mark.parametrize("markers", [None, CENTRES, CENTRES.astype(np.uint8)])
def test_two_discs_that_overlap_are_two_objects(markers):
    assert ndimage.label(TWO)[1] == 1
    objects = split_touching(TWO, markers)
    assert is_partition(objects, TWO)
    assert objects.max() == 2
    columns = np.broadcast_to(np.arange(60), TWO.shape)
    left, right = objects[20, 20], objects[20, 36]
    assert left != right
    assert (objects[TWO & (columns < 27)] == left).all(), "the cut is where they meet, at column 28"
    assert (objects[TWO & (columns > 29)] == right).all()


def test_without_markers_near_points_are_one_object():
    assert split_touching(TWO, min_distance=4).max() == 2
    assert split_touching(TWO, min_distance=20).max() == 1


@pytest.mark.parametrize("axes", [(5, 12), (6, 15), (8, 8), (3, 3)])
def test_a_lone_ellipse_is_one_object(axes):
    mask = np.zeros((40, 60), bool)
    mask[ellipse(20, 30, *axes)] = True
    assert split_touching(mask).max() == 1


def test_markers_decide_against_the_form():
    assert split_touching(TWO, drawn((20, 28, 3))).max() == 1
    three = split_touching(TWO, drawn((20, 14, 2), (20, 24, 2), (20, 36, 2)))
    assert three.max() == 3
    assert is_partition(three, TWO)


def test_each_pixel_goes_to_the_marker_that_is_nearest_within_the_mask():
    strip = np.ones((1, 21), bool)
    markers = np.zeros((1, 21), bool)
    markers[0, [2, 12]] = True
    objects = split_touching(strip, markers)
    assert objects[0, :7].tolist() == [1] * 7
    assert objects[0, 8:].tolist() == [2] * 13
    wall = np.ones((9, 9), bool)
    wall[:8, 4] = False
    markers = np.zeros((9, 9), bool)
    markers[0, 3] = markers[8, 8] = True
    assert split_touching(wall, markers)[0, 5] == split_touching(wall, markers)[8, 8], "not through the wall"


def test_a_region_without_a_marker_is_an_object_of_its_own():
    mask = drawn((20, 20, 10), (20, 36, 10), (5, 55, 3), (35, 3, 2))
    objects = split_touching(mask, CENTRES)
    assert is_partition(objects, mask)
    assert objects.max() == 4
    assert len({objects[5, 55], objects[35, 3], objects[20, 20], objects[20, 36]}) == 4


def test_markers_outside_the_mask_are_ignored():
    outside = drawn((3, 3, 3))
    assert np.array_equal(split_touching(TWO, CENTRES | outside), split_touching(TWO, CENTRES))
    objects = split_touching(TWO, outside)
    assert objects.max() == 1
    assert is_partition(objects, TWO)


def test_a_marker_that_leaves_the_mask_counts_where_it_is_inside():
    assert split_touching([[1, 1, 1, 1, 0]], [[1, 0, 0, 1, 1]]).tolist() == [[1, 1, 2, 2, 0]]
    assert split_touching([[1, 0, 1]], [[1, 1, 1]]).tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("markers", [None, "none", "all"])
@pytest.mark.parametrize(
    ("mask", "number"),
    [
        (EMPTY, 0),
        (FULL, 1),
        (np.ones((1, 1), bool), 1),
        (np.zeros((1, 1), bool), 0),
        (np.eye(6, 9, dtype=bool), 6),
        (drawn((3, 3, 0.5), (3, 8, 0.5), shape=(6, 12)), 2),
    ],
    ids=["empty", "full", "one pixel", "no pixel", "diagonal", "two pixels"],
)
def test_masks_at_the_limits(mask, number, markers):
    if markers is not None:
        markers = np.full(mask.shape, markers == "all")
    objects = split_touching(mask, markers)
    assert is_partition(objects, mask)
    assert objects.max(initial=0) == number


@pytest.mark.parametrize("seed", range(8))
def test_every_pixel_of_any_mask_gets_an_object(seed):
    mask = random_mask(seed, smooth=1 + seed % 3)
    cores = random_mask(seed + 50, smooth=1)
    assert is_partition(split_touching(mask), mask)
    objects = split_touching(mask, cores)
    assert is_partition(objects, mask)
    regions, number = ndimage.label(mask)
    for region in range(1, number + 1):
        expected = max(ndimage.label(cores & (regions == region))[1], 1)
        assert len(np.unique(objects[regions == region])) == expected


def test_points_closer_than_a_pixel_are_refused():
    with pytest.raises(ValueError, match="min_distance must be at least 1 pixel; got 0"):
        split_touching(TWO, min_distance=0)
