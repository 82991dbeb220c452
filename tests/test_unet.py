"""The U-Net: what it sees, tiles without seams, masks that move with their images, what is learnt and exported."""

import math
from itertools import count

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import ndimage
from scipy.special import expit, softmax

from helpers import masks, notebook, unet

# --- the model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {}),
        (3, {"stem": "full", "n_classes": 2}),
        (2, {"bridge": "aspp", "n_classes": 3, "depth": 1}),
        (1, {"stem": "full", "bridge": "aspp", "depth": 3}),
    ],
)
def test_the_answer_has_the_size_of_the_image(channels, options):
    model = unet.build_unet((None, None, channels), base_filters=4, **options)
    for size in ((32, 32), (48, 64)):
        assert model(np.zeros((2, *size, channels), np.float32)).shape == (2, *size, options.get("n_classes", 1))
    assert not model.compiled


def test_a_fixed_size_is_kept():
    assert unet.build_unet((16, 32, 1), base_filters=4).output_shape == (None, 16, 32, 1)


def test_the_number_of_parameters():
    assert unet.build_unet(n_classes=2).count_params() == 109_570
    assert unet.build_unet(n_classes=2, base_filters=4).count_params() < 10_000
    sizes = [unet.build_unet(base_filters=4, depth=depth).count_params() for depth in (1, 2)]
    assert sizes[1] > 3 * sizes[0], "filters double with each level"


def test_half_stem_works_on_a_quarter_of_the_pixels():
    half, full = (unet.build_unet((32, 32, 1), base_filters=4, stem=stem).layers[1].output.shape for stem in STEMS)
    assert (half, full) == ((None, 16, 16, 4), (None, 32, 32, 4))


def test_the_model_returns_logits(seeded):
    model = trained(unet.build_unet(base_filters=4, depth=1))
    answer = model(10 * seeded.normal(size=(1, 32, 32, 1)).astype(np.float32)).numpy()
    assert answer.min() < 0 < 1 < answer.max()


@pytest.mark.parametrize(
    "options",
    [{"base_filters": 0}, {"depth": 0}, {"n_classes": 0}, {"stem": "quarter"}, {"bridge": "none"}, {"depth": -1}],
)
def test_a_model_that_there_is_not(options):
    with pytest.raises(ValueError, match="must be at least 1, stem 'half' or 'full', bridge") as caught:
        unet.build_unet(**options)
    assert repr(next(iter(options.values()))) in str(caught.value)
    assert "\n" not in str(caught.value)


STEMS = ("half", "full")


@pytest.fixture
def seeded():
    keras.utils.set_random_seed(0)
    return np.random.default_rng(0)


def trained(model, seed=0):
    """Weights as after training: no batch normalisation does nothing."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            shape = weights[0].shape
            weights = [
                random.uniform(0.5, 2, shape),
                random.normal(0, 0.5, shape),
                random.normal(0, 0.5, shape),
                random.uniform(0.5, 2, shape),
            ]
        elif weights:
            weights = [random.normal(0, 1.5 / math.sqrt(max(w.size / w.shape[-1], 1)), w.shape) for w in weights]
        layer.set_weights(weights)
    return model


# --- what it sees ------------------------------------------------------------------------------------------------


def conv(size=3, filters=2, **options):
    return layers.Conv2D(filters, size, **({"padding": "same"} | options))


def sequence(*parts):
    def build():
        image = x = keras.Input((None, None, 1))
        for part in parts:
            x = part()(x)
        return keras.Model(image, x)

    return build


def textbook(up):
    """Skips that are concatenated, pooling without padding, as in most tutorials."""

    def build():
        image = keras.Input((None, None, 1))
        first = conv(activation="relu")(conv(activation="relu")(image))
        second = conv(activation="relu")(layers.MaxPooling2D((2, 2))(first))
        lowest = conv(activation="relu")(layers.Dropout(0.5)(layers.MaxPooling2D((2, 2))(second)))
        x = layers.Concatenate()([up()(lowest), second])
        x = layers.concatenate([up()(conv(activation="relu")(x)), first], axis=3)
        return keras.Model(image, conv(1, activation="sigmoid")(conv(activation="relu")(x)))

    return build


def up(size, stride, **options):
    return lambda: layers.Conv2DTranspose(2, size, strides=stride, **({"padding": "same"} | options))


def resized(size, interpolation):
    return lambda: layers.UpSampling2D(size, interpolation=interpolation)


def of_unet(**options):
    return lambda: unet.build_unet(base_filters=2, **options)


def halves_and_thirds():
    image = keras.Input((None, None, 1))
    x = resized(2, "nearest")()(layers.MaxPooling2D(2)(image))
    return keras.Model(image, resized(3, "nearest")()(layers.AveragePooling2D(3)(x)))


def beside(part, first):
    """The image and what one layer makes of it, which sees farther on one side than on the other."""

    def build():
        image = keras.Input((None, None, 1))
        return keras.Model(image, layers.Concatenate()([part()(image), image][:: 1 if first else -1]))

    return build


MODELS = {
    "more above": beside(up(4, 1), True),
    "more above, second": beside(up(4, 1), False),
    "more below": beside(lambda: conv(4), True),
    "more below, second": beside(lambda: conv(4), False),
    "plain, half, depth 1": of_unet(depth=1),
    "plain, half, depth 2": of_unet(depth=2),
    "plain, half, depth 3": of_unet(depth=3),
    "plain, full, depth 1": of_unet(depth=1, stem="full"),
    "plain, full, depth 2": of_unet(depth=2, stem="full"),
    "aspp, half, depth 1": of_unet(depth=1, bridge="aspp"),
    "aspp, full, depth 2": of_unet(depth=2, bridge="aspp", stem="full"),
    "textbook, transposed": textbook(up(2, 2)),
    "textbook, valid transposed": textbook(up(2, 2, padding="valid")),
    "textbook, nearest": textbook(resized(2, "nearest")),
    "textbook, bilinear": textbook(resized(2, "bilinear")),
    "each pixel": sequence(lambda: conv(1), layers.ReLU),
    "dilated": sequence(lambda: conv(3, dilation_rate=5)),
    "oblong": sequence(lambda: conv((1, 5))),
    "even": sequence(lambda: conv(4)),
    "dilated on one side": sequence(lambda: conv(3, dilation_rate=(1, 4))),
    "depthwise": sequence(lambda: layers.DepthwiseConv2D(5, padding="same")),
    "separable": sequence(lambda: layers.SeparableConv2D(2, 7, padding="same")),
    "strided by 5 pixels": sequence(lambda: conv(5, strides=2), up(2, 2)),
    "strided by 1 pixel": sequence(lambda: conv(1, strides=2), up(2, 2)),
    "strided by 3": sequence(lambda: conv(7, strides=3), up(3, 3)),
    "transposed by 3 pixels": sequence(lambda: conv(3, strides=2), up(3, 2)),
    "transposed by 4 pixels": sequence(lambda: conv(3, strides=2), up(4, 2)),
    "transposed by 7 pixels": sequence(lambda: conv(3, strides=2), up(7, 2)),
    "average": sequence(lambda: layers.AveragePooling2D(2), conv, resized(2, "nearest")),
    "pooled by 3 pixels": sequence(lambda: layers.MaxPooling2D(3, strides=2, padding="same"), up(2, 2)),
    "pooled without stride": sequence(lambda: layers.MaxPooling2D(3, strides=1, padding="same")),
    "bilinear by 4": sequence(lambda: layers.MaxPooling2D(4), resized(4, "bilinear")),
    "upwards first": sequence(resized(2, "bilinear"), conv, lambda: layers.AveragePooling2D(2)),
    "halves and thirds": halves_and_thirds,
    "Sequential": lambda: keras.Sequential([keras.Input((None, None, 1)), conv(), layers.BatchNormalization(), conv()]),
}


def alive(model, random):
    """Positive weights and a positive image: no ReLU is silent, and each pixel that can matter does."""
    for layer in model.layers:
        if not isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1, w.shape) / math.prod(w.shape[:-1]) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("name", MODELS)
def test_what_lies_beyond_the_radius_changes_nothing_and_what_lies_within_does(name, seeded):
    model = alive(MODELS[name](), seeded)
    radius, stride = unet.receptive_field(model)
    side = -(-(2 * (radius + stride) + 2) // stride) * stride
    image = seeded.uniform(1, 2, (1, side, side, 1)).astype(np.float32)
    # Along a diagonal, each phase of the stride.
    probes = [side // 2 // stride * stride + phase for phase in range(stride)]
    far = np.repeat(image, stride, axis=0)
    rim = far.copy()
    for number, probe in enumerate(probes):
        away = np.abs(np.arange(side) - probe)
        distance = np.maximum(away[:, None], away)
        assert (distance > radius).any()
        far[number, distance > radius] = 0
        rim[number, (distance <= radius) & (distance > radius - 2 * stride)] += 50
    answers = (model(np.ascontiguousarray(batch)).numpy() for batch in (np.repeat(image, stride, axis=0), far, rim))
    before, after_far, after_rim = (
        np.stack([answer[number, probe, probe] for number, probe in enumerate(probes)]) for answer in answers
    )
    assert np.array_equal(before, after_far)
    assert not np.array_equal(before, after_rim), "the radius is more than two strides larger than needed"


@pytest.mark.parametrize("name", MODELS)
def test_a_shift_by_the_stride_shifts_the_answer_and_a_smaller_one_does_not(name, seeded):
    model = alive(MODELS[name](), seeded)
    radius, stride = unet.receptive_field(model)
    side = -(-(2 * radius + 4 * stride + 8) // stride) * stride
    image = seeded.uniform(1, 2, (side, side, 1)).astype(np.float32)

    def inner(answer, shift):
        return answer[radius + shift : side - radius - stride + shift, radius + shift : side - radius - stride + shift]

    def shifted_alike(shift):
        moved = np.roll(image, shift, axis=(0, 1))
        whole, answer = model(np.stack([image, moved])).numpy()
        return np.array_equal(inner(whole, 0), inner(answer, shift))

    assert shifted_alike(stride)
    assert not any(shifted_alike(shift) for shift in range(1, stride))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (sequence(conv), (1, 1)),
        (sequence(lambda: conv(1)), (0, 1)),
        (sequence(conv, lambda: conv(3, dilation_rate=4)), (5, 1)),
        (sequence(lambda: conv((5, 1))), (2, 1)),
        (sequence(up(3, 1, dilation_rate=3)), (3, 1)),
        (sequence(lambda: conv((1, 5))), (2, 1)),
        (sequence(lambda: layers.MaxPooling2D(2), resized(2, "nearest")), (1, 2)),
        (halves_and_thirds, (3, 6)),
        (lambda: unet.build_unet(base_filters=4), (48, 8)),
    ],
)
def test_the_radius_and_the_stride_of_models_that_one_can_work_out(build, expected):
    assert unet.receptive_field(build()) == expected


def joined(*sizes):
    def build():
        image = keras.Input((None, None, 1))
        return keras.Model(image, layers.Concatenate()([layers.MaxPooling2D(size)(image) for size in sizes]))

    return build


def used_twice():
    image, relu = keras.Input((None, None, 1)), layers.ReLU(name="shared")
    return keras.Model(image, conv()(relu(conv()(relu(image)))))


def used_twice_at_the_end():
    image, relu = keras.Input((None, None, 1)), layers.ReLU(name="shared")
    return keras.Model(image, relu(conv()(relu(image))))


def of_tensors(function):
    def build():
        image = keras.Input((None, None, 1))
        return keras.Model(image, function(image))

    return build


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (sequence(lambda: layers.GlobalAveragePooling2D(keepdims=True, name="mean")), "layer 'mean' .* sees all"),
        (sequence(lambda: layers.Dense(1, name="dense")), r"layer 'dense' \(Dense\)"),
        (sequence(lambda: layers.Resizing(8, 8, name="resized")), r"layer 'resized' \(Resizing\)"),
        (sequence(lambda: layers.Lambda(lambda x: x, name="anything")), r"layer 'anything' \(Lambda\)"),
        (sequence(lambda: layers.GroupNormalization(1, name="group")), "layer 'group'"),
        (sequence(lambda: layers.Softmax(axis=1, name="rows")), "layer 'rows'"),
        (sequence(lambda: resized(2, "bicubic")(), lambda: layers.MaxPooling2D(2)), "up_sampling2d.* is not known"),
        (sequence(lambda: layers.Conv2D(1, 3, name="valid")), "'valid' makes the image smaller .* must be 'same'"),
        (
            sequence(lambda: layers.MaxPooling2D(3, strides=2, name="valid"), up(2, 2)),
            "'valid' makes the image smaller",
        ),
        (sequence(lambda: conv(2, strides=2), up(3, 2, padding="valid", name="valid")), "'valid'"),
        (sequence(lambda: layers.MaxPooling2D((2, 1), name="flat")), "'flat' changes height and width by different"),
        (sequence(lambda: conv(1, strides=(1, 2), name="flat")), "'flat' changes height and width by different"),
        (sequence(lambda: layers.UpSampling2D((2, 1), name="tall")), "'tall' changes height and width by different"),
        (sequence(lambda: layers.MaxPooling2D(2)), "must have the size of its input; one of its pixels covers 2"),
        (sequence(lambda: layers.UpSampling2D(2)), "must have the size of its input; one of its pixels covers 0.5"),
        (joined(1, 2), "'concatenate.*' joins images of different sizes"),
        (of_tensors(lambda x: layers.Concatenate(axis=1, name="above")([x, x])), "'above' works along axis 1"),
        (of_tensors(lambda x: x + conv(filters=1)(x)), r"layer 'add.*' \(Add\)"),
        (of_tensors(unet.build_unet(base_filters=2, depth=1)), "layer 'functional.*' is a model"),
        (used_twice, "stands? in several places"),
        (used_twice_at_the_end, "stands in several places"),
        (of_tensors(lambda x: [conv()(x), conv()(x)]), "one input and one output; it has 1 and 2"),
    ],
)
def test_models_that_cannot_be_cut_are_refused_with_one_sentence(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        unet.receptive_field(build())
    assert "\n" not in str(caught.value)


def test_normalisation_along_another_axis_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.BatchNormalization(axis=1, name="rows")])
    with pytest.raises(ValueError, match="layer 'rows' works along axis 1"):
        unet.receptive_field(model)


# --- prediction, tile by tile ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models():
    return {
        "plain": trained(unet.build_unet(base_filters=4, depth=1, n_classes=2)),
        "aspp": trained(unet.build_unet((None, None, 3), base_filters=4, depth=1, stem="full", bridge="aspp")),
    }


@pytest.fixture(scope="module")
def probabilities(models):
    plain = models["plain"]
    return keras.Model(plain.input, layers.Activation("sigmoid")(plain.output))


def picture(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def whole(model, image):
    """The prediction of the image in one piece, continued by reflection as a reader would."""
    _, stride = unet.receptive_field(model)
    missing = [(0, -size % stride) for size in image.shape[:2]]
    padded = np.pad(image, [*missing, (0, 0)], mode="reflect")
    return model.predict_on_batch(padded[None].astype(np.float32))[0][: image.shape[0], : image.shape[1]]


SIZES = [(1, 1), (5, 7), (8, 8), (37, 53), (100, 131), (160, 96)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["plain", "aspp"])
def test_tiles_leave_no_seams_to_the_bit(models, name, size):
    model = models[name]
    image = picture(*size, model.input_shape[-1])
    expected = whole(model, image)
    for tile, batch_size in ((8, 3), (13, 2), (24, 1), (64, 2), (512, 1)):
        answer = unet.predict_tiled(model, image, tile=tile, batch_size=batch_size)
        assert answer.dtype == np.float32
        assert np.array_equal(answer, expected), (tile, batch_size)


@pytest.mark.parametrize("name", ["plain", "aspp"])
def test_without_a_halo_there_are_seams_and_a_larger_one_changes_nothing(models, name):
    model = models[name]
    image = picture(100, 131, model.input_shape[-1])
    expected = whole(model, image)
    radius, _ = unet.receptive_field(model)
    assert not np.allclose(unet.predict_tiled(model, image, tile=32, halo=0), expected, atol=0.01)
    for halo in (radius, radius + 1, radius + 30):
        assert np.array_equal(unet.predict_tiled(model, image, tile=32, halo=halo), expected)


def test_the_image_may_be_of_any_kind(models):
    image = np.random.default_rng(0).integers(0, 255, (37, 53, 1), dtype=np.uint8)
    expected = whole(models["plain"], image)
    for same in (image, image.tolist(), image.astype(np.uint16), image.astype(np.float64), image[::-1][::-1]):
        assert np.array_equal(unet.predict_tiled(models["plain"], same, tile=16), expected)


def test_each_piece_is_prepared(models):
    image = np.random.default_rng(0).integers(0, 65535, (37, 53, 1), dtype=np.uint16)
    before = image.copy()
    shift, spread = image.mean(), image.std()
    answer = unet.predict_tiled(models["plain"], image, tile=16, preprocess=lambda piece: (piece - shift) / spread)
    assert np.array_equal(answer, whole(models["plain"], (image - shift) / spread))
    assert not np.allclose(answer, whole(models["plain"], image))
    assert np.array_equal(image, before)


def test_probabilities_as_bytes(models, probabilities):
    image = 3 * picture(37, 53, 1)
    answer = unet.predict_tiled(probabilities, image, tile=16, dtype="uint8")
    assert answer.dtype == np.uint8
    assert np.array_equal(answer, np.rint(255 * whole(probabilities, image)).astype(np.uint8))
    assert answer.min() < 40 < 215 < answer.max()
    with pytest.raises(ValueError, match=r"dtype 'uint8' is for probabilities; the model's output is not within"):
        unet.predict_tiled(models["plain"], image, tile=16, dtype="uint8")
    with pytest.raises(ValueError, match="is for probabilities"):
        unet.predict_tiled(probabilities, np.full((8, 8, 1), np.nan), dtype="uint8")


def test_images_and_answers_on_the_disk(models, tmp_path):
    image = np.memmap(tmp_path / "image", np.uint16, "w+", shape=(90, 70, 1))
    image[:] = np.random.default_rng(0).integers(0, 3, image.shape)
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=(90, 70, 2))
    out[:] = np.nan
    answer = unet.predict_tiled(models["plain"], image, tile=16, out=out)
    assert answer is out
    out.flush()
    stored = np.memmap(tmp_path / "out", np.float32, "r", shape=(90, 70, 2))
    assert np.array_equal(stored, whole(models["plain"], image))


class Reads:
    """An image that knows how much of it is read at once."""

    def __init__(self, image):
        self.image, self.shape, self.most = image, image.shape, 0

    def __getitem__(self, where):
        self.most = max(self.most, self.image[where].size)
        return self.image[where]


@pytest.mark.parametrize(("tile", "batch_size", "halo"), [(16, 1, None), (16, 3, None), (40, 2, 8), (13, 4, 1)])
def test_memory_is_that_of_a_tile(models, monkeypatch, tile, batch_size, halo):
    model, passed = models["plain"], []
    predict = model.predict_on_batch
    monkeypatch.setattr(model, "predict_on_batch", lambda batch: passed.append(batch.shape) or predict(batch))
    image = Reads(picture(200, 150, 1))
    unet.predict_tiled(model, image, tile=tile, batch_size=batch_size, halo=halo)
    radius, stride = unet.receptive_field(model)
    halo, side = (-(-n // stride) * stride for n in (radius if halo is None else halo, tile))
    assert {shape[1:3] for shape in passed} == {(side + 2 * halo,) * 2}, "of one size, so that it is traced once"
    assert {shape[0] for shape in passed[:-1]} == {batch_size}
    assert sum(shape[0] for shape in passed) == math.ceil(200 / side) * math.ceil(150 / side)
    assert image.most <= (side + 2 * halo) ** 2


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((8, 8)), {}, r"image must be of shape \(height, width, 1\); got \(8, 8\)"),
        (np.zeros((1, 8, 8, 1)), {}, r"got \(1, 8, 8, 1\)"),
        (np.zeros((8, 8, 3)), {}, r"image must be of shape \(height, width, 1\); got \(8, 8, 3\)"),
        (np.zeros((0, 8, 1)), {}, r"got \(0, 8, 1\)"),
        (np.zeros((8, 8, 1)), {"tile": 0}, "tile and batch_size must be at least 1.*got 0, 1, None, 'float32'"),
        (np.zeros((8, 8, 1)), {"batch_size": 0}, "tile and batch_size must be at least 1"),
        (np.zeros((8, 8, 1)), {"halo": -1}, "halo at least 0"),
        (np.zeros((8, 8, 1)), {"dtype": "float64"}, "dtype 'float32' or 'uint8'.*'float64'"),
        (np.zeros((8, 8, 1)), {"out": np.zeros((8, 8, 1), np.float32)}, r"out must be of shape \(8, 8, 2\)"),
        (np.zeros((8, 8, 1)), {"out": np.zeros((8, 8, 2))}, "float32; got float64 of shape"),
        (np.zeros((8, 8, 1)), {"out": np.zeros((8, 8, 2), np.float32), "dtype": "uint8"}, "uint8; got float32"),
    ],
)
def test_what_cannot_be_predicted_is_refused_with_one_sentence(models, image, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        unet.predict_tiled(models["plain"], image, **options)
    assert "\n" not in str(caught.value)


def test_a_model_that_sees_the_whole_image_is_refused():
    with pytest.raises(ValueError, match=r"layer 'mean'"):
        unet.predict_tiled(
            sequence(lambda: layers.GlobalAveragePooling2D(keepdims=True, name="mean"))(), np.zeros((8, 8, 1))
        )


def test_a_bar_is_shown_only_when_asked_for(models, capsys):
    unet.predict_tiled(models["plain"], np.zeros((40, 40, 1)), tile=16)
    assert capsys.readouterr().out == ""
    answer = unet.predict_tiled(models["plain"], np.zeros((40, 40, 1)), tile=16, progress=True)
    assert "100%" in capsys.readouterr().out
    assert answer.shape == (40, 40, 2)


def test_the_mean_of_eight_positions():
    image = picture(5, 8, 2)
    assert np.allclose(unet.predict_tta(lambda x: x, image), image, atol=1e-6)
    assert unet.predict_tta(lambda x: x[..., :1], image.tolist()).shape == (5, 8, 1)
    seen = []
    unet.predict_tta(lambda x: seen.append(x.copy()) or x, image)
    assert len({(x.shape, x.tobytes()) for x in seen}) == 8


def test_a_turned_image_gives_the_turned_answer():
    kernel = np.random.default_rng(0).normal(size=(3, 3))

    def crooked(image):
        return ndimage.correlate(image[..., 0], kernel, mode="constant")[..., None] ** 2

    image = picture(6, 9, 1)
    answer = unet.predict_tta(crooked, image)
    assert not np.allclose(crooked(np.rot90(image)), np.rot90(crooked(image)))
    for turn in (np.rot90, np.flipud, np.fliplr, lambda x: np.rot90(x, 2), lambda x: np.swapaxes(x, 0, 1)):
        assert np.allclose(unet.predict_tta(crooked, turn(image)), turn(answer))


# --- targets -----------------------------------------------------------------------------------------------------


def two_that_touch():
    labels = np.zeros((20, 30), np.int32)
    labels[4:16, 3:14], labels[4:16, 14:27] = 7, 300
    return labels


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_cores_do_not_touch_where_objects_do(radius):
    labels = two_that_touch()
    # A corner is cut off, as a disc does not erode what runs aslant as a square would.
    labels[4:16, 14:27][np.add.outer(np.arange(12), np.arange(13)) < 5] = 0
    mask, cores = np.moveaxis(unet.targets(labels, radius), -1, 0)
    assert np.array_equal(mask, labels > 0)
    assert ndimage.label(mask)[1] == 1
    assert ndimage.label(cores, np.ones((3, 3)))[1] == 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    alone = sum(ndimage.binary_erosion(labels == n, disk, border_value=True) for n in (7, 300))
    assert np.array_equal(cores, alone)
    assert (np.flatnonzero(cores[12]) == [*range(3 + radius, 14 - radius), *range(14 + radius, 27 - radius)]).all()


def test_small_objects_have_no_core_and_the_edge_of_the_image_takes_nothing_away():
    labels = np.zeros((9, 9), np.uint8)
    labels[4, 4] = 1
    assert unet.targets(labels).sum(axis=(0, 1)).tolist() == [1, 0]
    assert unet.targets(np.ones((9, 9), int), radius=3).all()
    assert unet.targets(np.zeros((9, 9), int)).sum() == 0
    assert np.array_equal(unet.targets(labels, radius=0)[..., 0], unet.targets(labels, radius=0)[..., 1])


def test_targets_of_a_batch_are_those_of_each():
    labels = np.stack([two_that_touch(), np.roll(two_that_touch(), 3, axis=0), np.ones((20, 30), np.int32)])
    answer = unet.targets(labels)
    assert (answer.dtype, answer.shape) == (np.uint8, (3, 20, 30, 2))
    assert np.array_equal(answer, np.stack([unet.targets(image) for image in labels]))
    assert np.array_equal(unet.targets(labels[0].tolist()), answer[0])
    assert np.array_equal(unet.targets(labels == 7)[..., 0], labels == 7)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros((4, 4)), {}, "labels must be whole numbers .* got float64"),
        (np.zeros((1, 4, 4, 1), int), {}, r"got int64 of shape \(1, 4, 4, 1\)"),
        (np.zeros(4, int), {}, r"shape \(4,\)"),
        (np.zeros((4, 4), int), {"radius": -1}, "radius must be at least 0 pixels; got -1"),
    ],
)
def test_labels_that_are_none_are_refused(labels, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        unet.targets(labels, **options)
    assert "\n" not in str(caught.value)


# --- standardize -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_each_channel_has_mean_0_and_deviation_1(dtype):
    image = np.random.default_rng(0).integers(0, 255, (2, 20, 30, 3)).astype(dtype)
    image[..., 1] //= 7
    answer = unet.standardize(image)
    assert (answer.dtype, answer.shape) == (np.float32, image.shape)
    assert np.allclose(answer.mean(axis=(1, 2)), 0, atol=1e-6)
    assert np.allclose(answer.std(axis=(1, 2)), 1, atol=1e-6)
    assert np.allclose(answer[1], unet.standardize(image[1]), atol=0), "each image of a batch for itself"


def test_exposure_and_bit_depth_do_not_matter():
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 1), dtype=np.uint8)
    expected = unet.standardize(image)
    assert np.allclose(unet.standardize(image.astype(np.uint16) * 257), expected, atol=1e-5)
    assert np.allclose(unet.standardize(image / 255), expected, atol=1e-5)
    assert np.allclose(unet.standardize(image * 3.5 + 1000), expected, atol=1e-4)
    assert np.allclose(expected, (image - image.mean(dtype=float)) / image.std(dtype=float), atol=1e-5)


@pytest.mark.parametrize("value", [0, 255, 65535, 0.1, 1 / 3, 0.7, 123.456, 1e-6])
@pytest.mark.parametrize("side", [1, 7, 30, 101])
def test_a_constant_channel_becomes_0(value, side):
    image = np.stack([np.full((side, side), value), np.arange(side * side).reshape(side, side)], axis=-1)
    answer = unet.standardize(image)
    assert (answer[..., 0] == 0).all()
    assert np.isfinite(answer).all()


@pytest.mark.parametrize("shape", [(4, 4), (4,), (0, 4, 1)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"image must be of shape \(..., height, width, channels\); got \("):
        unet.standardize(np.zeros(shape))


# --- pieces of images --------------------------------------------------------------------------------------------


def numbered(*sizes, channels=1):
    """Images in which each pixel has its own value."""
    start = count(step=10_000)
    return [(next(start) + np.arange(math.prod(size) * channels)).reshape(*size, channels) for size in sizes]


def batches(dataset, number):
    return [tuple(tensor.numpy() for tensor in pair) for pair in dataset.take(number)]


def test_pieces_keep_image_and_mask_together_and_every_image_comes_once_a_round():
    images = numbered((40, 50), (16, 16), (9, 30), (5, 6), (1, 1))
    shown, occurring = [], set()
    for image, mask in batches(unet.random_crops(images, [image % 7 for image in images], 16, batch_size=4), 30):
        assert image.shape == mask.shape == (4, 16, 16, 1)
        assert image.dtype == mask.dtype == np.float32
        assert np.array_equal(image % 7, mask)
        numbers = image // 10_000
        assert (numbers == numbers[:, :1, :1]).all(), "a piece is of one image"
        shown.extend(numbers[:, 0, 0, 0].astype(int).tolist())
        occurring |= {int(piece.min()) for piece in image[numbers[:, 0, 0, 0] == 0]}
    rounds = np.reshape(shown, (-1, 5))
    assert (np.sort(rounds, axis=1) == np.arange(5)).all()
    assert len({tuple(one) for one in rounds.tolist()}) > 5, "in another order each round"
    assert len(occurring) > 10, "cut anywhere"


def test_pieces_reach_every_edge():
    image = numbered((12, 13))
    seen = np.unique(np.concatenate([x for x, _ in batches(unet.random_crops(image, image, 8, batch_size=64), 8)]))
    assert len(seen) == 12 * 13


def test_small_images_are_continued_by_reflection():
    image = numbered((5, 6))
    whole_piece = np.pad(image[0], ((0, 4), (0, 3), (0, 0)), mode="reflect")
    (pieces, _), *_ = batches(unet.random_crops(image, image, 9, batch_size=32), 1)
    allowed = {
        np.rot90(x, turn).astype(np.float32).tobytes() for x in (whole_piece, whole_piece[:, ::-1]) for turn in range(4)
    }
    assert {piece.tobytes() for piece in pieces} <= allowed


def test_all_eight_positions_occur():
    image = numbered((8, 8))
    (pieces, same), *_ = batches(unet.random_crops(image, image, 8, batch_size=96), 1)
    occurring = {piece.tobytes() for piece in pieces}
    x = image[0].astype(np.float32)
    assert occurring == {np.rot90(y, turn).tobytes() for y in (x, x[:, ::-1]) for turn in range(4)}
    assert np.array_equal(pieces, same)


def test_the_seed_decides():
    images = numbered((40, 50), (20, 30), channels=2)
    one, again, other = (batches(unet.random_crops(images, images, 16, 3, seed=seed), 3) for seed in (1, 1, 2))
    for (x, _), (y, _), (z, _) in zip(one, again, other, strict=True):
        assert np.array_equal(x, y)
        assert not np.array_equal(x, z)
    assert not np.array_equal(one[0][0], one[1][0])
    dataset = unet.random_crops(images, images, 16, 3)
    assert np.array_equal(batches(dataset, 1)[0][0], batches(dataset, 1)[0][0])


@pytest.mark.parametrize(
    ("images", "masks_", "options", "message"),
    [
        ([], [], {}, "there are 0 images and 0 masks"),
        (numbered((8, 8), (8, 8)), numbered((8, 8)), {}, "there are 2 images and 1 masks; one mask for each"),
        (numbered((8, 8), (8, 8)), numbered((8, 8), (8, 9)), {}, r"image and mask 1 .* \(8, 8, 1\) and \(8, 9, 1\)"),
        ([np.zeros((8, 8))], numbered((8, 8)), {}, r"image and mask 0 must be of shape .* got \(8, 8\) and"),
        (numbered((8, 8)), [np.zeros((8, 8))], {}, r"and \(8, 8\)"),
        (numbered((8, 8)) + numbered((8, 8), channels=3), numbered((8, 8), (8, 8)), {}, "1 must .* as many channels"),
        (numbered((8, 8), (8, 8)), numbered((8, 8)) + numbered((8, 8), channels=2), {}, "1 must .* as many channels"),
        (numbered((0, 8)), numbered((0, 8)), {}, "0 must have pixels"),
        (numbered((8, 8)), numbered((8, 8)), {"side": 0}, "side and batch_size must be at least 1; got 0 and 8"),
        (numbered((8, 8)), numbered((8, 8)), {"batch_size": 0}, "side and batch_size must be at least 1"),
    ],
)
def test_pairs_that_are_none_are_refused_with_one_sentence(images, masks_, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        unet.random_crops(images, masks_, **({"side": 8} | options))
    assert "\n" not in str(caught.value)


# --- images and masks that move together -------------------------------------------------------------------------


def blobs(number=8, side=64):
    """Masks with discs off the centre; images that are their masks."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    discs = [
        sum((y - b) ** 2 + (x - a) ** 2 < r**2 for b, a, r in random.uniform((16, 16, 8), (48, 48, 14), (2, 3))) > 0
        for _ in range(number)
    ]
    return np.stack(discs)[..., None].astype(np.float32)


def agreement(images, moved):
    """The smallest agreement of an image with its mask."""
    pairs = zip(np.asarray(images)[..., 0] > 0.5, np.asarray(moved)[..., 0] > 0.5, strict=True)
    return min(masks.iou(mask, image) for image, mask in pairs)


GEOMETRIC = {
    "flip": lambda: layers.RandomFlip("horizontal_and_vertical"),
    "rotation": lambda: layers.RandomRotation(0.4),
    "translation": lambda: layers.RandomTranslation(0.25, 0.25),
    "zoom": lambda: layers.RandomZoom((-0.4, 0.2), (-0.4, 0.2)),
    "shear": lambda: layers.RandomShear(0.4, 0.4),
    "perspective": lambda: layers.RandomPerspective(1.0, 0.4),
    "crop": lambda: layers.RandomCrop(48, 48),
}
PHOTOMETRIC = {
    "brightness": lambda: layers.RandomBrightness(0.4, value_range=(0, 1)),
    "contrast": lambda: layers.RandomContrast(0.4, value_range=(0, 1)),
    "blur": lambda: layers.RandomGaussianBlur(1.0, 3, sigma=1.0, value_range=(0, 1)),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_masks_move_with_their_images(name, seeded):
    mask = blobs()
    images, moved = unet.augment_pairs(GEOMETRIC[name]())(mask, mask)
    assert set(np.unique(moved)) <= {0, 1}
    assert agreement(images, moved) > 0.9
    assert images.shape == moved.shape
    if name != "crop":
        assert agreement(mask, moved) < 0.75, "nothing moved, so nothing is shown"


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_masks_do_not_change_when_only_the_light_does(name, seeded):
    mask = blobs()
    images, same = unet.augment_pairs(PHOTOMETRIC[name]())(mask / 2 + 0.2, mask)
    assert np.array_equal(same, mask)
    assert not np.allclose(images, mask / 2 + 0.2)


@pytest.mark.parametrize("name", [name for name in GEOMETRIC if name != "crop"])
def test_the_usual_mistakes_would_be_found(name, seeded):
    mask = blobs()
    layer = GEOMETRIC[name]()
    assert agreement(layer(mask, training=True), mask) < 0.75, "only the images"
    assert agreement(layer(mask, training=True), layer(mask, training=True)) < 0.75, "one after the other"
    wrong = layer({"images": tf.constant(mask), "masks": tf.constant(mask)}, training=True)
    assert agreement(wrong["images"], wrong["masks"]) < 0.75, "another key"


def test_what_keras_draws_twice_is_refused(seeded):
    mask = blobs()
    layer = layers.RandomElasticTransform(1.0, (0.5, 1.0), value_range=(0, 1))
    both = layer({"images": tf.constant(mask), "segmentation_masks": tf.constant(mask)}, training=True)
    assert agreement(both["images"], both["segmentation_masks"]) < 0.9, "else it need not be refused any longer"
    with pytest.raises(ValueError, match="RandomElasticTransform moves a mask otherwise than its image"):
        unet.augment_pairs(layers.RandomFlip(), layer)


def test_several_layers_one_after_the_other(seeded):
    mask = blobs()
    change = unet.augment_pairs(
        *(GEOMETRIC[name]() for name in ("flip", "rotation", "zoom")), PHOTOMETRIC["brightness"]()
    )
    images, moved = change(mask / 2 + 0.2, mask)
    inside, outside = np.asarray(images)[np.asarray(moved) > 0.5], np.asarray(images)[np.asarray(moved) < 0.5]
    assert np.median(inside) > np.median(outside)
    assert set(np.unique(moved)) <= {0, 1}


def test_each_batch_of_a_dataset_is_changed_anew(seeded):
    mask = blobs()
    change = unet.augment_pairs(layers.RandomFlip(), layers.RandomRotation(0.4))
    dataset = tf.data.Dataset.from_tensors((mask, mask)).repeat(4).map(change)
    seen = [(images.numpy(), moved.numpy()) for images, moved in dataset]
    for images, moved in seen:
        assert agreement(images, moved) > 0.8
    assert len({moved.tobytes() for _, moved in seen}) == 4
    turned = [unet.augment_pairs(layers.RandomFlip())(mask, mask)[1].numpy().tobytes() for _ in range(2)]
    assert turned[0] != turned[1]


def test_masks_of_several_classes_and_of_whole_numbers(seeded):
    mask = np.concatenate([blobs(), 1 - blobs()], axis=-1)
    images, moved = unet.augment_pairs(layers.RandomFlip(), layers.RandomRotation(0.4))(
        mask[..., :1], mask.astype(np.uint8)
    )
    assert agreement(images, moved) > 0.8
    assert (np.asarray(moved).sum(axis=-1) == 1).all()


# --- losses ------------------------------------------------------------------------------------------------------


def logits_and_masks():
    random = np.random.default_rng(0)
    true = (random.uniform(size=(3, 8, 9, 2)) > 0.6).astype(np.float32)
    true[1, ..., 0] = 0
    return true, random.normal(0, 2, true.shape).astype(np.float32)


def numpy_bce(true, logits, weight=1.0):
    p = expit(logits.astype(float))
    return -(weight * true * np.log(p) + (1 - true) * np.log(1 - p)).mean(axis=(1, 2))


def numpy_dice(true, logits):
    p = expit(logits.astype(float))
    return 1 - (2 * (true * p).sum(axis=(1, 2)) + 1) / (true.sum(axis=(1, 2)) + p.sum(axis=(1, 2)) + 1)


def numpy_jaccard(true, logits):
    p = expit(logits.astype(float))
    both = (true * p).sum(axis=(1, 2))
    return 1 - (both + 1) / ((true + p - true * p).sum(axis=(1, 2)) + 1)


LOSSES = {
    "dice_loss": (unet.dice_loss, numpy_dice),
    "bce_dice": (unet.bce_dice, lambda *pair: numpy_bce(*pair) + numpy_dice(*pair)),
    "bce_jaccard": (unet.bce_jaccard, lambda *pair: numpy_bce(*pair) + numpy_jaccard(*pair)),
    "weighted_bce(1)": (unet.weighted_bce(1), numpy_bce),
    "weighted_bce(5)": (unet.weighted_bce(5.0), lambda *pair: numpy_bce(*pair, weight=5)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_numpy_for_each_image_and_channel(name):
    loss, expected = LOSSES[name]
    true, logits = logits_and_masks()
    assert loss(true, logits).shape == (3, 2)
    np.testing.assert_allclose(loss(true, logits), expected(true, logits), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_right_costs_nothing_and_what_is_wrong_costs(name):
    loss, _ = LOSSES[name]
    true, _ = logits_and_masks()
    np.testing.assert_allclose(loss(true, 40 * true - 20), 0, atol=1e-4)
    assert (np.asarray(loss(true, 20 - 40 * true)) > 0.8).all()
    empty = np.zeros_like(true)
    np.testing.assert_allclose(loss(empty, empty - 20), 0, atol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, 50.0])
def test_extreme_logits_and_their_gradients_are_finite(name, size):
    loss, _ = LOSSES[name]
    true, logits = logits_and_masks()
    for extreme in (size * np.sign(logits), np.full_like(logits, size), np.full_like(logits, -size), 0 * logits):
        values = tf.Variable(extreme)
        with tf.GradientTape() as tape:
            cost = loss(true, values)
        assert np.isfinite(cost).all()
        assert np.isfinite(tape.gradient(cost, values)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_mask_teaches_too(name):
    loss, _ = LOSSES[name]
    values = tf.Variable(np.zeros((1, 8, 8, 1), np.float32))
    with tf.GradientTape() as tape:
        cost = loss(np.zeros((1, 8, 8, 1), np.float32), values)
    assert (tape.gradient(cost, values).numpy() > 1e-4).all()


def test_the_metric_is_the_iou_of_each_image():
    true, logits = logits_and_masks()
    expected = [masks.iou(a[..., 0] > 0, b[..., 0] > 0) for a, b in zip(true, logits, strict=True)]
    np.testing.assert_allclose(unet.iou_metric(true, logits), expected, rtol=1e-6)
    empty = np.zeros((2, 8, 8, 1), np.float32)
    assert unet.iou_metric(empty, empty - 1).numpy().tolist() == [1, 1]
    assert unet.iou_metric(empty, empty + 1).numpy().tolist() == [0, 0]
    assert unet.iou_metric(empty + 1, empty - 1).numpy().tolist() == [0, 0]
    assert unet.iou_metric(empty, empty).numpy().tolist() == [1, 1], "a logit of 0 is no object"


# --- training ----------------------------------------------------------------------------------------------------


class Rates(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


@pytest.fixture(scope="module")
def compiled():
    """A model of its own, and how often its loss was traced."""
    traced = []

    def loss(y_true, logits):
        traced.append(1)
        return unet.bce_dice(y_true, logits)

    model = unet.build_unet((16, 16, 1), base_filters=4, depth=1)
    unet.compile_model(model, loss)
    return model, traced


X = picture(8, 16, 16, 1, seed=3)
Y = (ndimage.gaussian_filter(X, (0, 2, 2, 0)) > 0).astype(np.float32)


def fit(model, **options):
    return model.fit(X, Y, **({"batch_size": 4, "epochs": 2, "verbose": 0} | options))


def test_a_restart_is_a_new_beginning_and_traces_nothing(compiled):
    model, traced = compiled
    assert not model.optimizer.iterations.numpy()
    assert model.optimizer.variables, "made before the first step"
    runs = []
    for seed in (1, 2, 1):
        unet.reset_weights(model, seed)
        start = model.get_weights()
        assert model.optimizer.iterations == 0
        assert all(not np.any(v) for v in model.optimizer.variables if "moment" in v.path or "velocity" in v.path)
        history = fit(model, callbacks=[unet.OneCycle()]).history
        assert model.optimizer.iterations == 4
        assert not np.allclose(start[0], model.get_weights()[0])
        notebook.append((start, model.get_weights(), history["loss"]))
        if len(runs) == 1:
            once = len(traced)
    assert len(traced) == once > 0
    (start, end, losses), (other_start, other_end, _), (start_again, end_again, losses_again) = runs
    assert all(np.array_equal(a, b) for a, b in zip(start, start_again, strict=True))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(end, end_again, strict=True))
    assert losses == pytest.approx(losses_again, rel=1e-5)
    assert not np.allclose(start[0], other_start[0])
    assert not np.allclose(end[0], other_end[0])


@pytest.mark.parametrize(
    "loss", [unet.bce_dice, unet.weighted_bce(3.0), keras.losses.BinaryCrossentropy(from_logits=True)]
)
def test_a_restart_needs_nothing_of_the_loss(loss):
    model = unet.build_unet((16, 16, 1), base_filters=4, depth=1)
    unet.compile_model(model, loss)
    before = model.get_weights()
    unet.reset_weights(model, 0)
    after = model.get_weights()
    assert [w.shape for w in before] == [w.shape for w in after]
    assert not np.allclose(before[0], after[0])


def test_the_metric_has_its_name_in_a_fit(compiled):
    model, _ = compiled
    history = fit(model, epochs=1, validation_data=(X, Y)).history
    assert {"loss", "iou_metric", "val_loss", "val_iou_metric"} <= set(history)
    expected = np.mean(
        [masks.iou(y[..., 0] > 0, z[..., 0] > 0) for y, z in zip(Y, model.predict_on_batch(X), strict=True)]
    )
    assert history["val_iou_metric"][0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("epochs", [1, 4])
def test_the_rate_rises_and_falls_once_over_the_whole_fit(compiled, epochs):
    model, _ = compiled
    rates = Rates()
    cycle = unet.OneCycle(0.02)
    fit(model, epochs=epochs, batch_size=1, callbacks=[cycle, rates])
    assert len(rates.rates) == 8 * epochs
    peak = int(np.argmax(rates.rates))
    assert rates.rates[peak] == pytest.approx(0.02)
    assert peak <= 8 * epochs // 10
    assert (np.diff(rates.rates[: peak + 1]) > 0).all()
    assert (np.diff(rates.rates[peak:]) < 0).all()
    assert 0 < rates.rates[-1] < 0.02 / 15
    assert rates.rates[0] > 0
    first = rates.rates
    fit(model, epochs=epochs, batch_size=1, callbacks=[cycle, rates])
    assert rates.rates == first, "the same callback in a second fit"


def test_after_a_cycle_the_rate_is_what_it_was(compiled):
    model, _ = compiled
    model.optimizer.learning_rate.assign(0.003)
    fit(model, callbacks=[unet.OneCycle()])
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.003)


def test_a_cycle_must_know_its_steps(compiled):
    model, _ = compiled
    endless = unet.random_crops([np.zeros((16, 16, 1))], [np.zeros((16, 16, 1))], 16)
    with pytest.raises(ValueError, match="give fit its steps_per_epoch"):
        model.fit(endless, verbose=0, shuffle=False, callbacks=[unet.OneCycle()])


def test_a_rate_is_highest_after_a_tenth():
    cycle = unet.OneCycle()
    rates = [cycle.rate(step, 200) for step in range(201)]
    assert rates[0] == 0
    assert rates[20] == max(rates) == 0.01
    assert rates[10] == pytest.approx(0.005)
    assert rates[110] == pytest.approx(0.005)
    assert rates[200] == pytest.approx(0)
    assert all(np.isfinite(unet.OneCycle().rate(step, steps)) for steps in range(1, 5) for step in range(steps + 1))


def test_the_network_learns(compiled):
    model, _ = compiled
    unet.reset_weights(model, 0)
    losses = fit(model, epochs=25, callbacks=[unet.OneCycle()]).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


# --- export ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    folders = {}
    for name, activation in (("plain", "sigmoid"), ("plain", "softmax"), ("aspp", "sigmoid")):
        folders[name, activation] = tmp_path_factory.mktemp("exported") / f"{name}_{activation}"
        unet.export(models[name], folders[name, activation], activation)
    return folders


@pytest.fixture(scope="module")
def served(exported):
    signatures = {key: tf.saved_model.load(str(folder)).signatures["serve"] for key, folder in exported.items()}

    def serve(images, scale=1.0, key=("plain", "sigmoid")):
        answer = signatures[key](images=tf.constant(images, tf.float32), scale=tf.constant(scale, tf.float32))
        assert list(answer) == ["probabilities"]
        return answer["probabilities"].numpy()

    return serve


@pytest.mark.parametrize("size", [(37, 53), (8, 8), (16, 30), (5, 7), (64, 41)], ids=str)
@pytest.mark.parametrize("name", ["plain", "aspp"])
def test_what_is_exported_gives_what_the_helpers_give(models, served, name, size):
    images = np.random.default_rng(0).integers(0, 65535, (3, *size, models[name].input_shape[-1]))
    images[1] //= 300
    answer = served(images, key=(name, "sigmoid"))
    expected = np.stack([expit(unet.predict_tiled(models[name], unet.standardize(image))) for image in images])
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    np.testing.assert_allclose(served(images[1:2], key=(name, "sigmoid")), expected[1:2], atol=1e-5)


def test_classes_that_exclude_each_other(models, served):
    images = np.random.default_rng(0).integers(0, 255, (2, 21, 30, 1))
    answer = served(images, key=("plain", "softmax"))
    np.testing.assert_allclose(answer.sum(axis=-1), 1, atol=1e-6)
    logits = np.stack([unet.predict_tiled(models["plain"], unet.standardize(image)) for image in images])
    np.testing.assert_allclose(answer, softmax(logits, axis=-1), atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.7, 2.0])
@pytest.mark.parametrize("value", [0.0, 0.1, 65535.0])
def test_constant_images_are_as_empty_as_a_black_one(served, value, scale):
    answer = served(np.full((1, 37, 53, 1), value), scale)
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer, served(np.zeros((1, 37, 53, 1)), scale), atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_an_image_of_another_scale_is_resized_and_its_answer_back(models, served, scale):
    smooth = ndimage.gaussian_filter(picture(2, 64, 48, 1), (0, 3, 3, 0))
    answer = served(smooth, scale)
    assert answer.shape == (2, 64, 48, 2)
    scaled = tf.image.resize(smooth, (int(64 * scale), int(48 * scale)), antialias=True).numpy()
    expected = [expit(unet.predict_tiled(models["plain"], unet.standardize(image))) for image in scaled]
    np.testing.assert_allclose(answer, tf.image.resize(np.stack(expected), (64, 48), antialias=True), atol=1e-5)
    assert not np.allclose(answer, served(smooth), atol=0.05)


@pytest.mark.parametrize(("size", "scale"), [((37, 53), 0.5), ((9, 9), 0.1), ((30, 31), 1.3)])
def test_an_answer_has_the_size_of_its_image(served, size, scale):
    answer = served(picture(1, *size, 1), scale)
    assert answer.shape == (1, *size, 2)
    assert ((answer >= 0) & (answer <= 1)).all()


def test_a_model_is_not_written_over_another(models, exported, tmp_path):
    before = sorted((path.name, path.stat().st_size) for path in exported["plain", "sigmoid"].rglob("*"))
    with pytest.raises(ValueError, match="exists: a model is never written over another"):
        unet.export(models["plain"], exported["plain", "sigmoid"])
    assert sorted((path.name, path.stat().st_size) for path in exported["plain", "sigmoid"].rglob("*")) == before
    with pytest.raises(ValueError, match=r"activation must be 'sigmoid' or 'softmax'; got 'tanh'"):
        unet.export(models["plain"], tmp_path / "new", activation="tanh")
    mean = sequence(lambda: layers.GlobalAveragePooling2D(keepdims=True, name="mean"))()
    with pytest.raises(ValueError, match="layer 'mean'"):
        unet.export(mean, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_process_without_the_helpers_serves_it(models, exported, tmp_path):
    image = np.random.default_rng(0).integers(0, 65535, (1, 21, 30, 1))
    np.save(tmp_path / "image.npy", image)
    script = tmp_path / "serve.py"
    script.write_text(
        "import sys\n"
        "import numpy as np\n"
        "import tensorflow as tf\n"
        "serve = tf.saved_model.load(sys.argv[1]).signatures['serve']\n"
        "images = tf.constant(np.load(sys.argv[2]), tf.float32)\n"
        "answer = serve(images=images, scale=tf.constant(1.0))['probabilities'].numpy()\n"
        "np.save(sys.argv[3], answer)\n"
        "print(any(name.split('.')[0] == 'helpers' for name in sys.modules))\n",
        encoding="utf-8",
    )
    folder = exported["plain", "sigmoid"]
    printed = notebook.fresh_process(script, folder, tmp_path / "image.npy", tmp_path / "answer.npy")
    assert printed.strip() == "False"
    expected = expit(unet.predict_tiled(models["plain"], unet.standardize(image[0])))
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy")[0], expected, atol=1e-5)
