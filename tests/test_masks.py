"""Scores of masks against other libraries and brute force, and objects that touch."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.draw import disk, ellipse
from sklearn.metrics import f1_score, jaccard_score

from helpers import data as datasets
from helpers.masks import (
    BoundaryDistance,
    ObjectCounts,
    boundary_distance,
    boundary_iou,
    count_objects,
    dice,
    iou,
    split_touching,
)

SCORES = [iou, dice, boundary_iou]
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
    shape = data.draw(array_shapes(min_dims=2, max_dims=3, max_side=7).filter(lambda shape: shape[2:] != (1,)))
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
    for array in (a, b, labels):
        array.flags.writeable = False
    iou(a, b), dice(a, b), boundary_iou(a, b), split_touching(a), split_touching(a, markers=b)
    count_objects(labels, labels), boundary_distance(a, b)
    for now, then in zip((a, b, labels), before, strict=True):
        assert np.array_equal(now, then)


@pytest.mark.parametrize("score", [*SCORES, boundary_distance])
def test_layout_in_memory_does_not_matter(score):
    a, b = random_mask(0, (20, 21)), random_mask(1, (20, 21))
    wide = np.repeat(b, 2, axis=1)
    assert score(np.asfortranarray(a), wide[:, ::2]) == score(a, b)


@pytest.mark.parametrize("score", SCORES)
def test_a_volume_of_copies_of_one_slice_scores_as_the_slice(score):
    a, b = random_mask(0), random_mask(1)
    assert score(np.stack([a] * 3), np.stack([b] * 3)) == score(a, b) == score(a[np.newaxis], b[np.newaxis])


@pytest.mark.parametrize("score", [*SCORES, boundary_distance, lambda a, b: split_touching(a, markers=b)])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((32, 32), bool), np.ones((32, 32, 1), bool), r"without a channel axis; got \(32, 32, 1\)"),
        (np.ones((32, 32, 1), bool), np.ones((32, 32), bool), r"without a channel axis; got \(32, 32, 1\)"),
        (np.ones(4, bool), np.ones(4, bool), r"got \(4,\)"),
        (np.ones((0, 4), bool), np.ones((0, 4), bool), r"got \(0, 4\)"),
        (np.ones((4, 4), bool), np.ones((4, 1), bool), r"same shape; got \(4, 4\) and \(4, 1\)"),
        (np.ones((4, 4), bool), np.full((4, 4), 0.7), r"mask of 0 and 1; got float64 values, perhaps probabilities"),
        (np.full((4, 4), np.nan), np.ones((4, 4), bool), "perhaps probabilities or logits: cut them first"),
        (np.ones((4, 4), np.float32), np.ones((4, 4), bool), "got float32 values"),
        (np.full((4, 4), 2), np.ones((4, 4), bool), "got int64 values, perhaps labels: compare with 0 first"),
        (np.ones((4, 4), bool), np.full((4, 4), 255, np.uint8), "got uint8 values, perhaps labels"),
        (np.ones((4, 4), bool), np.full((4, 4), -1), "mask of 0 and 1"),
        (np.ones((4, 4), bool), np.ones((4, 4), complex), "got complex128 values[.]$"),
        (np.ones((4, 4), object), np.ones((4, 4), bool), "got object values[.]$"),
        (np.ones((4, 4), bool), np.ones((4, 4), bool).astype(str), "got <U5 values[.]$"),
        (np.ones((1, 4, 4, 4), bool), np.ones((1, 4, 4, 4), bool), r"got \(1, 4, 4, 4\)"),
        (np.ones((2, 4, 4), bool), np.ones((4, 4), bool), r"same shape; got \(2, 4, 4\) and \(4, 4\)"),
        ([[1, 0], [1]], np.ones((2, 2), bool), "must be one array; got rows or images of several shapes"),
        (None, np.ones((2, 2), bool), r"got \(\)"),
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
    assert boundary_iou(a, b, width) == (first & second).sum() / (first | second).sum()


def test_the_width_is_two_pixels_unless_told():
    a, b = drawn((20, 20, 12)), drawn((20, 21, 12))
    assert boundary_iou(a, b) == boundary_iou(a, b, width=2) != boundary_iou(a, b, width=1)


def test_a_bad_outline_shows_in_the_border_and_not_in_the_whole():
    a, b = drawn((20, 30, 18)), drawn((20, 30, 16))
    assert iou(a, b) > 0.75
    assert boundary_iou(a, b) < 0.2


def test_the_edge_of_the_image_is_no_border():
    half = np.zeros((10, 10), bool)
    half[:, :5] = True
    other = half.copy()
    other[:, 4] = False
    assert boundary_iou(half, other, width=1) == 0, "columns 4 and 3: nothing at the image's edge agrees"


def test_a_full_mask_against_one_with_a_border():
    almost = FULL.copy()
    almost[2, 3] = False
    assert boundary_iou(FULL, almost) == 0


@pytest.mark.parametrize("seed", range(3))
def test_borders_of_volumes(seed):
    a, b = (random_mask(n, (9, 10, 12), smooth=1.5) for n in (seed, seed + 50))
    offsets = np.indices((5, 5, 5)) - 2
    sphere = (offsets**2).sum(axis=0) <= 4
    first, second = (mask & ~ndimage.binary_erosion(mask, sphere, border_value=True) for mask in (a, b))
    assert boundary_iou(a, b) == (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("width", [0, -1, 0.5, np.nan, np.inf, "2", None, True, [2]])
def test_a_border_without_width_is_refused(width):
    with pytest.raises(ValueError, match=r"^width must be (at least 1 pixel|a finite number); got "):
        boundary_iou(FULL, FULL, width)


# --- distances of boundaries -------------------------------------------------------------------------------------


def rim_by_loops(mask):
    """Pixels of the mask with a side neighbour that is not in it, or not in the image."""
    rim = []
    for place in np.argwhere(mask):
        for axis, step in product(range(mask.ndim), (-1, 1)):
            beside = place.copy()
            beside[axis] += step
            outside = not 0 <= beside[axis] < mask.shape[axis]
            if outside or not mask[tuple(beside)]:
                rim.append(place)
                break
    return np.array(rim)


def distances_by_pairs(a, b, spacing):
    """All pixels of one boundary against all of the other."""
    pairs = cdist(rim_by_loops(a) * spacing, rim_by_loops(b) * spacing)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    both = np.concatenate([there, back])
    return BoundaryDistance(max(np.percentile(there, 95), np.percentile(back, 95)), both.mean(), both.max())


def assert_same(found, expected):
    assert found.hd95 == pytest.approx(expected.hd95, rel=1e-12, abs=1e-12)
    assert found.mean == pytest.approx(expected.mean, rel=1e-12, abs=1e-12)
    assert found.maximum == pytest.approx(expected.maximum, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((24, 31), 1.0), ((24, 31), 0.25), ((24, 31), (0.7, 1.9)), ((8, 9, 11), 1.0), ((8, 9, 11), (2.5, 1, 0.6))],
)
def test_distances_are_those_of_all_pairs_of_boundary_pixels(shape, spacing):
    for seed in range(4):
        a, b = random_mask(seed, shape), random_mask(seed + 30, shape)
        found = boundary_distance(a, b, spacing=spacing)
        assert_same(found, distances_by_pairs(a, b, spacing))
        assert_same(boundary_distance(b, a, spacing=spacing), found)
        assert 0 < found.mean < found.hd95 < found.maximum
        assert {type(number) for number in (found.hd95, found.mean, found.maximum)} == {float}


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_distances_of_masks_of_any_form(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=3, max_side=6).filter(lambda shape: shape[2:] != (1,)))
    a, b = (data.draw(arrays(bool, shape)) for _ in range(2))
    if a.any() and b.any():
        spacing = data.draw(st.sampled_from([1.0, [0.5, 3, 1.5][: len(shape)]]))
        assert_same(boundary_distance(a, b, spacing=spacing), distances_by_pairs(a, b, spacing))


def test_the_percentile_is_taken_in_both_directions_and_the_larger_counts():
    a, b = np.zeros((3, 210), bool), np.zeros((3, 210), bool)
    a[1, :100] = True
    b[1, :101] = b[1, 200] = True
    found = boundary_distance(a, b)
    there, back = np.zeros(100), np.append(np.zeros(100), [1, 101])
    assert found.hd95 == max(np.percentile(there, 95), np.percentile(back, 95)) == 0
    assert found.maximum == 101
    assert found.mean == 102 / 202
    b[1, 180:200] = True
    assert boundary_distance(a, b).hd95 == np.percentile(np.append(np.zeros(100), [1, *range(81, 102)]), 95) > 90


def test_a_shift_is_as_far_as_it_is():
    a, b = drawn((20, 20, 9)), drawn((20, 26, 9))
    assert boundary_distance(a, b, spacing=0.5).maximum == 3
    assert boundary_distance(a, a) == BoundaryDistance(0, 0, 0)


def test_empty_masks_and_distances():
    assert boundary_distance(EMPTY, EMPTY) == BoundaryDistance(0, 0, 0)
    for pair in ((EMPTY, FULL), (FULL, EMPTY)):
        assert boundary_distance(*pair) == BoundaryDistance(np.inf, np.inf, np.inf)
    assert boundary_distance(FULL, FULL) == BoundaryDistance(0, 0, 0)


# --- objects that are counted ------------------------------------------------------------------------------------


def count_by_loops(true, found, threshold):
    names_true, names_found = set(true.ravel()) - {0}, set(found.ravel()) - {0}
    overlaps = []
    for a, b in product(names_true, names_found):
        both = int(((true == a) & (found == b)).sum())
        either = int(((true == a) | (found == b)).sum())
        overlaps += [both / either] * (both / either > threshold)
    tp = len(overlaps)
    return ObjectCounts(tp, len(names_found) - tp, len(names_true) - tp, pytest.approx(sum(overlaps)))


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
    expected = count_by_loops(true, found, threshold)
    assert counts == expected
    quality = expected.iou_sum.expected / (counts.tp + counts.fp / 2 + counts.fn / 2)
    assert counts.panoptic_quality == pytest.approx(quality)
    assert counts.tp + counts.fn == len(np.unique(true)) - 1


def test_the_random_objects_are_a_test():
    counts = sum((count_objects(random_labels(n), random_labels(n, 3)) for n in range(6)), ObjectCounts(0, 0, 0))
    assert min(counts.tp, counts.fp, counts.fn) > 5


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_objects_of_any_form_are_counted_as_by_brute_force(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=3, max_side=6).filter(lambda shape: shape[2:] != (1,)))
    labels = st.sampled_from([0, 1, 2, 7, 300])
    true, found = (data.draw(arrays(np.int32, shape, elements=labels)) for _ in range(2))
    assert count_objects(true, found) == count_by_loops(true, found, 0.5)


def test_exactly_half_is_not_enough():
    assert count_objects([[1, 1, 0]], [[1, 0, 0]]) == ObjectCounts(0, 1, 1)
    assert count_objects([[1, 1, 1]], [[1, 1, 0]]) == ObjectCounts(1, 0, 0, 2 / 3)
    assert count_objects([[1, 1, 1, 1]], [[1, 1, 1, 0]], threshold=0.75) == ObjectCounts(0, 1, 1)


def near(counts):
    return ObjectCounts(counts.tp, counts.fp, counts.fn, pytest.approx(counts.iou_sum))


def test_the_numbers_of_objects_do_not_matter():
    true, found = random_labels(0), random_labels(0, jitter=1)
    counts = count_objects(true, found)
    assert count_objects(np.where(true, 10**6 - true, 0), found.astype(np.uint16)) == near(counts)
    huge = np.where(true, np.uint64(2**64 - 1) - true.astype(np.uint64), np.uint64(0))
    assert count_objects(huge, found) == near(counts)
    assert count_objects(true.tolist(), found) == counts
    assert count_objects(np.asfortranarray(true), found) == counts
    assert count_objects(found, true) == near(ObjectCounts(counts.tp, counts.fn, counts.fp, counts.iou_sum))


def test_a_mask_is_one_object_and_images_without_background_are_counted():
    assert count_objects(FULL, FULL) == ObjectCounts(1, 0, 0, 1.0)
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
    assert total == near(side_by_side)
    assert total.iou_sum > total.tp / 2


def test_precision_recall_f1_and_panoptic_quality():
    counts = ObjectCounts(tp=6, fp=2, fn=4, iou_sum=4.8)
    assert (counts.precision, counts.recall) == (0.75, 0.6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert counts.panoptic_quality == pytest.approx(counts.f1 * 0.8)
    nothing = ObjectCounts(0, 0, 0)
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.panoptic_quality) == (1, 1, 1, 1)
    assert ObjectCounts(0, 1, 0).panoptic_quality == ObjectCounts(0, 0, 1).panoptic_quality == 0
    invented = ObjectCounts(0, 3, 0)
    assert (invented.precision, invented.recall, invented.f1) == (0, 1, 0)
    missed = ObjectCounts(0, 0, 3)
    assert (missed.precision, missed.recall, missed.f1) == (1, 0, 0)


@pytest.mark.parametrize(
    ("true", "found", "options", "message"),
    [
        (EMPTY, EMPTY, {"threshold": 0.49}, r"threshold must lie in \[0.5, 1\); got 0.49"),
        (EMPTY, EMPTY, {"threshold": 1}, r"threshold must lie in \[0.5, 1\); got 1"),
        (EMPTY, EMPTY, {"threshold": np.nan}, "threshold must be a finite number; got nan"),
        (EMPTY, EMPTY, {"threshold": "0.5"}, "threshold must be a finite number; got '0.5'"),
        (EMPTY, EMPTY, {"threshold": None}, "threshold must be a finite number; got None"),
        (EMPTY, EMPTY[:, :1], {}, r"same shape; got \(6, 9\) and \(6, 1\)"),
        (EMPTY, EMPTY[..., None], {}, r"labels_pred must be .* without a channel axis; got \(6, 9, 1\)"),
        (EMPTY[..., None], EMPTY, {}, r"labels_true must be .* without a channel axis; got \(6, 9, 1\)"),
        (EMPTY, EMPTY + 0.5, {}, "labels_pred must be a label image of whole numbers from 0; got float64"),
        (EMPTY - 1, EMPTY, {}, "labels_true must be .* from 0; got int64 with negative numbers"),
        (EMPTY, EMPTY.astype(complex), {}, "labels_pred must be .* got complex128"),
        (EMPTY, EMPTY.astype(object), {}, "labels_pred must be .* got object"),
        (EMPTY.astype(str), EMPTY, {}, "labels_true must be .* got <U5"),
        (EMPTY[:0], EMPTY[:0], {}, r"labels_true must be of shape .* got \(0, 9\)"),
        (EMPTY[0], EMPTY[0], {}, r"labels_true must be of shape .* got \(9,\)"),
        ([[1], [1, 2]], EMPTY, {}, "labels_true must be one array"),
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


def test_without_markers_the_neck_decides():
    thick = np.round(ndimage.distance_transform_edt(TWO)[20, [20, 28, 36]])
    assert thick.tolist() == [10, 6, 10], "four pixels thinner"
    assert split_touching(TWO, min_depth=2).max() == 2
    assert split_touching(TWO, min_depth=5).max() == 1
    assert split_touching(TWO, min_depth=2, spacing=0.5).max() == 1, "a neck of two units"
    assert split_touching(TWO, min_depth=1, spacing=0.5).max() == 2


@pytest.mark.parametrize("number", [2, 3, 4, 5])
@pytest.mark.parametrize(("radius", "apart"), [(10, 16), (10, 18), (8, 13), (6, 10), (5, 8), (4, 6)])
def test_a_chain_of_discs(number, radius, apart):
    mask = drawn(*[(20, 12 + apart * place, radius) for place in range(number)], shape=(40, 110))
    objects = split_touching(mask)
    assert is_partition(objects, mask)
    assert [objects[20, 12 + apart * place] for place in range(number)] == list(range(1, number + 1))


def rod(radius, angle, length=60):
    y, x = np.mgrid[:120, :120] - 59.5
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.hypot(np.maximum(abs(along) - length / 2, 0), across) <= radius


@pytest.mark.parametrize("radius", [6, 8])
@pytest.mark.parametrize("angle", [0, 0.3, 0.8, 1.2])
def test_a_rod_is_one_object(radius, angle):
    assert split_touching(rod(radius, angle)).max() == 1


@pytest.mark.parametrize("radius", [3, 6, 8, 10])
def test_with_more_depth_a_rod_at_any_angle_is_one_object(radius):
    for angle in np.linspace(0, np.pi, 21):
        assert split_touching(rod(radius, angle, length=80), min_depth=0.5).max() == 1


def test_balls_that_touch_in_a_volume_of_any_spacing():
    z, y, x = np.ogrid[:30, :30, :50]
    mask = np.minimum((x - 15) ** 2, (x - 28) ** 2) + (y - 15) ** 2 + (z - 15) ** 2 <= 8**2
    assert ndimage.label(mask)[1] == 1
    objects = split_touching(mask)
    assert is_partition(objects, mask)
    assert objects.max() == 2
    assert objects[15, 15, 15] != objects[15, 15, 28]
    assert split_touching(mask[::2], spacing=(2, 1, 1)).max() == 2
    flat = np.repeat(mask, 2, axis=0)
    assert split_touching(flat, spacing=(0.5, 1, 1)).max() == 2
    markers = np.zeros(mask.shape, bool)
    markers[15, 15, 10] = markers[15, 15, 30] = True
    assert is_partition(split_touching(mask, markers), mask)
    assert split_touching(mask, markers).max() == 2


@pytest.mark.parametrize(("name", "images", "least"), [("cells", 60, 0.93), ("nuclei", 1, 0.96)])
def test_masks_of_real_and_drawn_cells_are_cut_where_the_truth_is(name, images, least):
    truth = list(datasets.load(name).y[:images])
    found = sum((count_objects(y, split_touching(y > 0)) for y in truth), ObjectCounts(0, 0, 0))
    uncut = sum((count_objects(y, ndimage.label(y > 0)[0]) for y in truth), ObjectCounts(0, 0, 0))
    assert found.f1 > least
    assert found.f1 > uncut.f1 + 0.05
    assert found.panoptic_quality > 0.88


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


@pytest.mark.parametrize("spacing", [(1, 1), (1, 3), (2.5, 1)])
def test_nearest_is_meant_in_the_units_of_the_spacing(spacing):
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


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_objects_of_noise_are_a_partition_too(data):
    shape = data.draw(st.sampled_from([(9, 11), (1, 20), (4, 5, 6), (24, 31)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    mask = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2)) > rng.uniform(-0.3, 0.1)
    min_depth = data.draw(st.sampled_from([0.01, 0.1, 0.3, 0.6, 2.0]))
    assert is_partition(split_touching(mask, min_depth=min_depth, spacing=rng.uniform(0.3, 3, len(shape))), mask)
    assert is_partition(split_touching(mask, rng.random(shape) < 0.1), mask)


def test_an_object_whose_top_is_flooded_apart_is_not_left_in_pieces():
    rng = np.random.default_rng(28)
    mask = ndimage.gaussian_filter(rng.normal(size=(24, 31)), 0.6) > 0
    spacing = (1.59202749, 2.11355029)
    assert is_partition(split_touching(mask, min_depth=0.6, spacing=spacing), mask)


@pytest.mark.parametrize("min_depth", [0, -1, np.nan, np.inf, "1", None, [1], True])
def test_a_depth_that_is_none_is_refused(min_depth):
    with pytest.raises(ValueError, match=r"^min_depth must be (above 0|a finite number); got"):
        split_touching(TWO, min_depth=min_depth)
