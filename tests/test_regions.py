"""Regions of masks against scikit-image's labels: by runs and by pixels, whichever would have been chosen."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import measure

from helpers import masks
from helpers.masks import PixelRegions, RunRegions, find_regions

ENGINES = {"runs": 10**9, "pixels": 0}
WHOLE = [np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch):
    monkeypatch.setattr(regions, "DENSE", ENGINES[request.param])
    return request.param


def labelled(mask, connectivity, ndim=2):
    """Labels of all images, numbered through in the order of their first pixels, and the image of each region."""
    labels, of_image = np.zeros(mask.shape, np.int64), []
    for number, image in enumerate(np.ndindex(mask.shape[: mask.ndim - ndim])):
        plain = np.unique(mask[image], return_inverse=True)[1].reshape(mask[image].shape)
        plain = plain + 1 if mask[image].all() else plain
        found = measure.label(plain, connectivity=connectivity)
        # In volumes that are flat, scikit-image counts along other axes.
        names, firsts = np.unique(found[found > 0], return_index=True)
        order = np.zeros(len(names) + 1, np.int64)
        order[names[np.argsort(firsts)]] = np.arange(1, len(names) + 1)
        found = order[found]
        labels[image] = np.where(found, found + len(of_image), 0)
        of_image += [number] * found.max(initial=0)
    return labels, of_image


def check(mask, connectivity, ndim=2):
    labels, of_image = labelled(mask, connectivity, ndim)
    before = mask.copy()
    found = find_regions(mask, connectivity, ndim)
    number = len(of_image)
    assert found.sizes.tolist() == np.bincount(labels.reshape(-1), minlength=number + 1)[1:].tolist()
    assert found.images.tolist() == of_image
    inner = (slice(1, -1),) * ndim
    rim = labels.copy()
    rim[(..., *inner)] = 0
    assert found.at_border.tolist() == np.isin(np.arange(1, number + 1), rim).tolist()
    pixels = np.random.default_rng(number).random(mask.shape) < 0.2
    assert found.containing(pixels).tolist() == np.isin(np.arange(1, number + 1), labels[pixels]).tolist()
    for keep in (np.arange(number) % 2 == 0, np.arange(number) % 5 == 0, np.arange(number) % 5 > 0):
        kept = found.kept(keep)
        assert kept.dtype == mask.dtype
        assert np.array_equal(kept, np.where(np.append(False, keep)[labels], mask, 0))
    assert np.array_equal(mask, before)
    return found


def in_both_engines(mask, connectivity, ndim=2):
    for dense in ENGINES.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(regions, "DENSE", dense)
            check(mask, connectivity, ndim)


def spiral(side):
    mask = np.zeros((side, side), bool)
    row, column, step = 0, 0, (0, 1)
    mask[0, 0] = True
    for _ in range(side * side):
        for _ in range(2):
            ahead = row + step[0], column + step[1]
            beyond = row + 2 * step[0], column + 2 * step[1]
            free = all(0 <= place < side for place in ahead) and not mask[ahead]
            if free and not (all(0 <= place < side for place in beyond) and mask[beyond]):
                break
            step = step[1], -step[0]
        else:
            return mask
        row, column = ahead
        mask[row, column] = True
    return mask


def comb(height, width):
    mask = np.zeros((height, width), bool)
    mask[:, ::2] = True
    mask[-1] = True
    return mask


def rings(side):
    row, column = np.mgrid[:side, :side]
    return (np.maximum(abs(row - side // 2), abs(column - side // 2)) % 2).astype(bool)


def noise(seed, shape, share):
    return np.random.default_rng(seed).random(shape) < share


PLANE = {
    "none": np.zeros((5, 7), bool),
    "all": np.ones((5, 7), bool),
    "one pixel": np.ones((1, 1), bool),
    "no pixel": np.zeros((1, 1), bool),
    "no row": np.zeros((0, 5), bool),
    "no column": np.zeros((5, 0), bool),
    "one row": noise(0, (1, 40), 0.6),
    "one column": noise(1, (40, 1), 0.6),
    "corners": np.outer([1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1]) > 0,
    "border": np.pad(np.zeros((4, 6), bool), 1, constant_values=True),
    "checkerboard": np.indices((8, 9)).sum(axis=0) % 2 > 0,
    "diagonal": np.eye(6, 9, dtype=bool),
    "both diagonals": np.eye(7, dtype=bool) | np.eye(7, dtype=bool)[::-1],
    "end of a row and start of the next": np.array([[0, 0, 1], [1, 0, 0], [0, 0, 1]], bool),
    "comb": comb(12, 31),
    "comb upside down": comb(12, 31)[::-1],
    "comb on its side": comb(31, 12).T,
    "spiral": spiral(25),
    "rings": rings(21),
    "thin noise": noise(2, (40, 50), 0.05),
    "noise": noise(3, (40, 50), 0.4),
    "thick noise": noise(4, (40, 50), 0.6),
    "noise where diagonals percolate": noise(5, (40, 50), 0.45),
    "blobs": ndimage.gaussian_filter(np.random.default_rng(6).normal(size=(60, 70)), 2) > 0,
}


# --- against scikit-image ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("name", PLANE)
def test_regions_of_a_plane_are_those_of_scikit_image(name, connectivity, engine):
    check(PLANE[name], connectivity)


def test_the_spiral_is_one_long_region_and_the_comb_merges_at_its_end():
    assert find_regions(PLANE["spiral"]).sizes.tolist() == [PLANE["spiral"].sum()]
    assert PLANE["spiral"].sum() > 250
    assert find_regions(PLANE["comb"]).sizes.tolist() == [PLANE["comb"].sum()]


@pytest.mark.parametrize("connectivity", [1, 2, 3])
@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 0.9, 1])
def test_regions_of_a_volume_are_those_of_scikit_image(share, connectivity, engine):
    check(noise(7, (7, 8, 9), share), connectivity, ndim=3)
    check(noise(8, (3, 5, 6, 7), share), connectivity, ndim=3)


@pytest.mark.parametrize("connectivity", [1, 2, 3])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (9, 1, 1), (1, 6, 6), (6, 1, 6), (6, 6, 1), (2, 2, 2)]
)
def test_flat_volumes(shape, connectivity, engine):
    for seed in range(6):
        check(noise(seed, shape, 0.5), connectivity, ndim=3)
        check(noise(seed, (3, *shape), 0.5), connectivity, ndim=3)


@pytest.mark.parametrize("offset", list(np.ndindex(3, 3, 3)))
def test_two_voxels_hang_together_by_side_edge_or_corner(offset, engine):
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = mask[offset] = True
    apart = np.abs(np.array(offset) - 1).sum()
    for connectivity in (1, 2, 3):
        assert len(find_regions(mask, connectivity, ndim=3).sizes) == (1 if apart <= connectivity else 2)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_random_masks_and_batches(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    batch = data.draw(st.lists(st.integers(0, 3), max_size=2))
    shape = (*batch, *data.draw(st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim)))
    mask = data.draw(arrays(bool, shape))
    in_both_engines(mask, data.draw(st.integers(1, ndim)), ndim)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_random_label_images_of_all_whole_numbers(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    dtype = data.draw(st.sampled_from(WHOLE[1:]))
    shape = data.draw(st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim + 1))
    values = st.sampled_from([0, 1, 2, np.iinfo(dtype).max])
    check(data.draw(arrays(dtype, shape, elements=values)), data.draw(st.integers(1, ndim)), ndim)


def test_labels_that_touch_are_several_regions_and_a_label_in_two_pieces_is_two():
    labels = np.array([[3, 3, 5, 5, 0, 3], [3, 5, 5, 0, 0, 3]], np.uint8)
    found = check(labels, 1)
    assert found.sizes.tolist() == [3, 4, 2]
    assert found.kept(np.array([False, True, False])).tolist() == [[0, 0, 5, 5, 0, 0], [0, 5, 5, 0, 0, 0]]
    assert check(np.array([[1, 2], [2, 1]]), 1).sizes.tolist() == [1, 1, 1, 1]
    assert check(np.array([[1, 2], [2, 1]]), 2).sizes.tolist() == [2, 2]


# --- batches and memory layouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("connectivity", [1, 2])
def test_nothing_connects_two_images_of_a_batch(connectivity, engine):
    assert find_regions(np.ones((5, 3, 4), bool), connectivity).sizes.tolist() == [12] * 5
    assert find_regions(np.ones((2, 2, 3, 4), bool), connectivity).images.tolist() == [0, 1, 2, 3]
    assert find_regions(np.ones((2, 3, 4), bool), connectivity, ndim=3).sizes.tolist() == [24]
    assert find_regions(np.ones((2, 2, 3, 4), bool), connectivity, ndim=3).sizes.tolist() == [24] * 2
    assert find_regions(np.ones((6, 1, 4), bool), connectivity).sizes.tolist() == [4] * 6
    assert find_regions(np.ones((6, 4, 1), bool), connectivity).sizes.tolist() == [4] * 6


@pytest.mark.parametrize("shape", [(0, 5, 6), (0, 0, 6), (3, 0, 6), (3, 5, 0), (2, 0, 5, 6)])
def test_batches_without_a_pixel(shape, engine):
    for dtype in (bool, np.uint8):
        found = find_regions(np.zeros(shape, dtype))
        assert found.sizes.shape == found.images.shape == found.at_border.shape == (0,)
        assert found.containing(np.zeros(shape, bool)).shape == (0,)
        assert found.kept(np.zeros(0, bool)).shape == shape


def test_images_without_a_region_stand_between_others(engine):
    batch = np.zeros((5, 4, 4), bool)
    batch[1, 1:3, 1] = batch[1, 0, 3] = batch[4, 2, 2] = True
    found = check(batch, 1)
    assert found.images.tolist() == [1, 1, 4]
    assert found.at_border.tolist() == [True, False, False]


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("dtype", WHOLE)
def test_other_memory_layouts_give_the_same(dtype, connectivity, engine):
    plain = noise(9, (4, 9, 12), 0.5).astype(dtype)
    read_only = plain.copy()
    read_only.flags.writeable = False
    wide = np.zeros((4, 9, 24), dtype)
    wide[..., ::2] = plain
    for view in (np.asfortranarray(plain), plain[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1], wide[..., ::2], read_only):
        check(view, connectivity)
    check(plain.transpose(0, 2, 1), connectivity)
    check(np.broadcast_to(plain[:1], plain.shape), connectivity)


def test_the_result_is_a_new_array_that_can_be_written_to(engine):
    mask = noise(9, (9, 12), 0.5)
    mask.flags.writeable = False
    found = find_regions(mask)
    kept = found.kept(np.ones(len(found.sizes), bool))
    assert np.array_equal(kept, mask)
    assert kept.flags.writeable
    assert not np.shares_memory(kept, mask)


# --- which engine, and how it works ------------------------------------------------------------------------------


def test_few_runs_are_found_by_runs_and_dense_noise_by_pixels():
    assert isinstance(find_regions(PLANE["blobs"]), RunRegions)
    assert isinstance(find_regions(noise(0, (200, 200), 0.01)), RunRegions)
    assert isinstance(find_regions(noise(0, (200, 200), 0.4)), PixelRegions)
    pictures = 255 * noise(0, (200, 200), 0.4).astype(np.uint8)
    assert isinstance(find_regions(pictures), PixelRegions)
    pictures[0, :2] = 1, 2
    assert isinstance(find_regions(pictures), RunRegions), "labels may touch"


@settings(deadline=None, max_examples=60)
@given(piece=st.integers(1, 12), seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_pieces_of_any_size_copy_the_same_pixels(piece, seed, share):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "DENSE", ENGINES["runs"])
        patch.setattr(regions, "PIECE", piece)
        check(noise(seed, (6, 7), share), 1)


def far(shape, starts, lengths, region):
    """Runs of a mask that would not fit into memory."""
    mask = np.broadcast_to(np.True_, shape)
    starts = np.array(starts, np.int64)
    return RunRegions(mask, len(shape), starts, starts + np.array(lengths), np.array(region, np.int32))


def test_positions_and_sizes_above_2_to_the_31_are_exact():
    side = 2**17
    lines = np.arange(2**16)
    found = far((side, side), lines * (side + 1), np.full(2**16, side - 1), np.zeros(2**16, int))
    assert found.sizes.tolist() == [2**16 * (side - 1)]
    assert found.sizes[0] > 2**32
    assert found.sizes.dtype == np.int64
    inner = far((side, side), [(side - 3) * (side + 1) + 5, (side - 1) * (side + 1) + 5], [7, 7], [0, 1])
    assert inner.starts.min() > 2**33
    assert inner.at_border.tolist() == [False, True]
    assert inner.images.tolist() == [0, 0]


@pytest.mark.parametrize("connectivity", [1, 2])
def test_neighbours_above_2_to_the_31_are_found(connectivity):
    side = 2**17
    row = (side - 4) * (side + 1)
    starts = np.array([row + 10, row + side + 1 + 12, row + side + 1 + 30, row + 2 * (side + 1) + 34])
    number = regions._components((side, side), 2, connectivity, starts, starts + 4, None)
    assert number.tolist() == [[0, 0, 1, 2], [0, 0, 1, 1]][connectivity - 1]
    starts = np.array([2**40 - 1, 2**40 + 2**20]) * (side + 1)
    assert regions._components((2**30, 2**20, side), 2, connectivity, starts, starts + 4, None).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_positions_are_of_64_bits_for_small_masks_too(dtype):
    found = find_regions(PLANE["blobs"].astype(dtype))
    assert found.starts.dtype == found.ends.dtype == found.sizes.dtype == found.images.dtype == np.int64
    assert find_regions(PLANE["noise"]).sizes.dtype == np.int64


@pytest.mark.parametrize("min_size", [20, 8000, 10**7])
def test_small_regions_of_a_realistic_mask_take_at_most_4_bytes_a_pixel(min_size):
    field = np.random.default_rng(0).normal(size=(2048, 2048)).astype(np.float32)
    mask = ndimage.gaussian_filter(field, 8) > 0.01
    masks.remove_small_regions(mask[:8], 1)
    tracemalloc.start()
    try:
        masks.remove_small_regions(mask, min_size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 4 * mask.size


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connectivity", "ndim"),
    [
        *((wrong, 2) for wrong in (0, 3, -1, 1.0, "1", None, np.nan, [1], np.array([1, 2]))),
        *((1, wrong) for wrong in (1, 4, 2.0, "2", None)),
        (4, 3),
    ],
)
def test_a_connectivity_or_dimension_that_does_not_fit_is_refused(connectivity, ndim):
    with pytest.raises(ValueError, match="connectivity must be in 1 … ndim, and ndim 2 or 3; got ") as caught:
        find_regions(np.ones((3, 4, 5), bool), connectivity, ndim)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_whole_numbers_too():
    assert find_regions(np.eye(3, dtype=bool), np.int64(2), np.uint8(2)).sizes.tolist() == [3]


@pytest.mark.parametrize(("shape", "ndim"), [((5,), 2), ((), 2), ((4, 5), 3)])
def test_too_few_axes_are_refused(shape, ndim):
    with pytest.raises(ValueError, match=f"mask must have at least {ndim} axes; got shape"):
        find_regions(np.ones(shape, bool), 1, ndim)
