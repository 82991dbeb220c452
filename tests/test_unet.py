"""The U-Net: receptive field, tiles equal to the whole, masks that move with their images, losses, training, export."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import ndimage
from scipy.special import expit

from helpers import masks, unet


def picture(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def trained(model):
    """Weights as after training: batch normalisation does something."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        normal = random.normal(0, 1.5 / math.prod(weight.shape[:-1]) ** 0.5, weight.shape)
        weight.assign(random.uniform(0.5, 2, weight.shape) if len(weight.shape) == 1 else normal)
    return model


@pytest.fixture(scope="module")
def models():
    return {
        "plain": trained(unet.build_unet(base_filters=4)),
        "colour": trained(unet.build_unet((None, None, 3), base_filters=4, n_classes=1)),
    }


# --- the model and its receptive field ---------------------------------------------------------------------------


def test_the_output_has_the_size_of_the_image_and_holds_logits(models):
    for name, channels, classes in (("plain", 1, 2), ("colour", 3, 1)):
        output = models[name](10 * picture(2, 48, 64, channels)).numpy()
        assert output.shape == (2, 48, 64, classes)
        assert output.min() < 0 < 1 < output.max()
    assert unet.build_unet(n_classes=2).count_params() == 109_570


def conv(size=3, **options):
    return layers.Conv2D(2, size, **({"padding": "same"} | options))


def of(function):
    image = keras.Input((None, None, 1))
    return keras.Model(image, function(image))


def textbook(image):
    """Skips that are concatenated, and both ways upwards of most tutorials."""
    first = conv(activation="relu")(layers.Rescaling(0.5)(image))
    second = conv(activation="relu")(layers.MaxPooling2D()(first))
    x = layers.Concatenate()([layers.Conv2DTranspose(2, 2, 2)(conv()(layers.MaxPooling2D()(second))), second])
    x = layers.UpSampling2D(interpolation="bilinear")(layers.Dropout(0.5)(conv()(x)))
    return conv(1, activation="sigmoid")(layers.concatenate([x, first], axis=3))


MODELS = {
    "plain": (lambda: unet.build_unet(base_filters=2), (48, 8)),
    "textbook": (lambda: of(textbook), (14, 4)),
    "wide": (lambda: of(lambda x: conv(3, dilation_rate=4)(conv((1, 4))(x))), (6, 1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_receptive_field_is_what_the_network_shows(name):
    model, expected, random = MODELS[name][0](), MODELS[name][1], np.random.default_rng(0)
    # Positive weights and a positive image: no ReLU is silent, and each pixel that can matter does.
    for layer in model.layers:
        if not isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1, w.shape) / math.prod(w.shape[:-1]) for w in layer.get_weights()])
    radius, stride = unet.receptive_field(model)
    assert (radius, stride) == expected
    side = -(-(2 * radius + 4 * stride + 8) // stride) * stride
    image = random.uniform(1, 2, (1, side, side, 1)).astype(np.float32)
    before = model(image).numpy()
    # Along a diagonal, each phase of the stride.
    for probe in range(side // 2 // stride * stride, side // 2 // stride * stride + stride):
        distance = np.abs(np.indices((side, side)) - probe).max(axis=0)[None, ..., None]
        beyond = model(np.where(distance > radius, 0, image)).numpy()
        assert np.array_equal(beyond[0, probe, probe], before[0, probe, probe])
        within = np.where((distance <= radius) & (distance > radius - 2 * stride), image + 50, image)
        assert not np.array_equal(model(within).numpy()[0, probe, probe], before[0, probe, probe])


# --- prediction, tile by tile ------------------------------------------------------------------------------------


def whole(model, image):
    """The prediction of the image at once, continued by reflection as a reader would."""
    missing = [(0, -size % 8) for size in image.shape[:2]]
    padded = np.pad(image, [*missing, (0, 0)], mode="reflect")
    return model.predict_on_batch(padded[None].astype(np.float32))[0][: image.shape[0], : image.shape[1]]


@pytest.mark.parametrize("name", ["plain", "colour"])
def test_tiles_are_equal_to_the_whole_up_to_rounding(models, name):
    for size in ((1, 1), (37, 53), (160, 131)):
        image = picture(*size, models[name].input_shape[-1])
        expected = whole(models[name], image)
        for options in ({"tile": 13}, {"tile": 24}, {"tile": 64, "halo": 70}, {}):
            # On some processors the sums of a convolution depend on the size of the image, in the last places.
            tiled = unet.predict_tiled(models[name], image, **options)
            np.testing.assert_allclose(tiled, expected, rtol=0, atol=2e-4, err_msg=str(options))
    assert not np.allclose(unet.predict_tiled(models[name], image, tile=32, halo=0), expected, atol=0.01)


def test_preprocessing_bytes_lists_and_disk(models, tmp_path):
    model = models["plain"]
    image = np.memmap(tmp_path / "image", np.uint16, "w+", shape=(90, 70, 1))
    image[:] = np.random.default_rng(0).integers(0, 9, image.shape)
    np.testing.assert_allclose(
        unet.predict_tiled(model, image.tolist(), tile=16), whole(model, image), rtol=0, atol=2e-4
    )
    probabilities = keras.Model(model.inputs, layers.Activation("sigmoid")(model.outputs[0]))
    out = np.memmap(tmp_path / "out", np.uint8, "w+", shape=(90, 70, 2))
    unet.predict_tiled(probabilities, image, tile=16, preprocess=lambda x: (x - 4) / 2.5, dtype="uint8", out=out)
    np.testing.assert_allclose(out, 255 * whole(probabilities, (image - 4) / 2.5), rtol=0, atol=0.501)


def test_memory_is_that_of_a_tile_and_all_tiles_have_one_shape(models, monkeypatch):
    passed, model = [], models["plain"]
    monkeypatch.setattr(model, "predict_on_batch", lambda x: passed.append(x.shape) or np.zeros((*x.shape[:3], 2)))
    unet.predict_tiled(model, picture(200, 150, 1), tile=13, halo=1)
    assert passed == [(1, 32, 32, 1)] * (math.ceil(200 / 16) * math.ceil(150 / 16))


def test_the_mean_of_eight_orientations_turns_with_the_image():
    image, crooked = picture(6, 9, 1), lambda image: np.cumsum(image, axis=0) ** 2
    for turn in (np.rot90, np.flipud, np.fliplr, lambda x: np.swapaxes(x, 0, 1)):
        assert np.allclose(unet.predict_tta(crooked, turn(image)), turn(unet.predict_tta(crooked, image)))
    assert np.allclose(unet.predict_tta(lambda x: x, image), image, atol=1e-6)


# --- targets and standardize -------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 0.5, 0.8])
def test_markers_are_the_middles_of_objects_and_do_not_touch(depth):
    labels = np.zeros((20, 30), np.int32)
    labels[4:16, 3:14], labels[0:16, 14:27], labels[18, 5] = 7, 300, 2
    answer = unet.targets(np.stack([labels, np.ones_like(labels)]), depth)
    assert (answer.dtype, answer.shape) == (np.int8, (2, 20, 30, 2))
    far = {n: ndimage.distance_transform_edt(np.pad(labels == n, 1))[1:-1, 1:-1] for n in (2, 7, 300)}
    expected = sum(distance > depth * distance.max() for distance in far.values())
    assert np.array_equal(answer[0], np.stack([labels > 0, expected], axis=-1))
    assert answer[0, 18, 5].all(), "a single pixel is a marker, too"
    assert ndimage.label(answer[0, ..., 1])[1] == (2 if depth == 0 else 3), "at 0, objects that touch are one"
    void = np.where(np.indices(labels.shape)[1] > 20, -1, labels)
    assert (unet.targets(void, depth)[void < 0] == -1).all()
    assert np.array_equal(unet.targets(void, depth)[..., 0][void >= 0], labels[void >= 0] > 0)


def test_each_channel_of_each_image_has_mean_0_and_deviation_1():
    image = np.random.default_rng(0).integers(0, 255, (2, 20, 30, 3)).astype(np.uint16)
    answer = unet.standardize(image)
    expected = (image - image.mean(axis=(1, 2), keepdims=True)) / image.std(axis=(1, 2), keepdims=True)
    assert answer.dtype == np.float32
    assert np.allclose(answer, expected, atol=1e-6)
    assert np.allclose(answer, unet.standardize(image * 3.5 + 1000), atol=1e-4), "exposure does not matter"
    constant = (np.full((n, n, 1), value) for n in (1, 7, 101) for value in (0, 255, 65535, 0.1, 1 / 3))
    assert not any(unet.standardize(image).any() for image in constant)


# --- crops of images ---------------------------------------------------------------------------------------------


def numbered(*sizes, channels=1):
    """Images in which each pixel has its own value."""
    return [10_000 * n + np.arange(math.prod(s) * channels).reshape(*s, channels) for n, s in enumerate(sizes)]


def test_crops_keep_image_and_mask_together_and_every_image_comes_once_a_round():
    images, shown = numbered((40, 50), (16, 16), (9, 30), (5, 6), (1, 1)), []
    pairs = [np.concatenate([image % 7, image % 5], axis=-1) for image in images]
    for image, mask in unet.random_crops(images, pairs, 16, batch_size=4).take(30).as_numpy_iterator():
        assert (image.shape, image.dtype, mask.dtype) == ((4, 16, 16, 1), np.float32, np.float32)
        assert np.array_equal(np.concatenate([image % 7, image % 5], axis=-1), mask)
        shown.extend(image[:, 0, 0, 0].astype(int) // 10_000)
    rounds = np.reshape(shown, (-1, 5))
    assert (np.sort(rounds, axis=1) == np.arange(5)).all()
    assert len({tuple(one) for one in rounds}) > 5, "in another order each round"


@pytest.mark.parametrize("size", [(9, 9), (5, 6)])
def test_all_eight_orientations_occur_and_small_images_are_reflected(size):
    image = numbered(size)
    crops, _ = next(unet.random_crops(image, image, 9, batch_size=96).as_numpy_iterator())
    x = np.pad(image[0], ((0, 9 - size[0]), (0, 9 - size[1]), (0, 0)), mode="reflect").astype(np.float32)
    expected = {np.rot90(y, turn).tobytes() for y in (x, x[:, ::-1]) for turn in range(4)}
    assert {crop.tobytes() for crop in crops} == expected


def test_the_seed_decides_as_it_always_did():
    images = numbered((40, 50), (20, 30), channels=2)
    batches = [next(unet.random_crops(images, images, 16, 3, seed=s).as_numpy_iterator()) for s in (1, 1, 2)]
    corners = [images[:, 0, 0, 0].tolist() for images, _ in batches]
    # Numbers that notebooks compare depend on these draws.
    assert corners[0] == corners[1] == [1866, 10268, 3658] != corners[2]


IMAGES = numbered((8, 8), (8, 8))


def bare():
    """Masks without an axis of channels, and logits."""
    return np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8, 1), np.float32)


REFUSED = {
    r"\(height, width, 1\); got \(8, 8, 3\)": lambda m: unet.predict_tiled(m, np.ones((8, 8, 3))),
    "tile must be at least 1.*got 0, 48, 'float32'": lambda m: unet.predict_tiled(m, IMAGES[0], tile=0),
    r"out must be of shape \(8, 8, 2\) and float32; got": lambda m: unet.predict_tiled(m, IMAGES[0], out=IMAGES[0]),
    r"dtype 'uint8' is .* not within \[0, 1\]": lambda m: unet.predict_tiled(m, IMAGES[0] - 30, dtype="uint8"),
    "weights must be 2 numbers": lambda _: unet.random_crops(IMAGES, IMAGES, 8, weights=[1]),
    r"depth must be in \[0, 1\); got 1": lambda _: unet.targets(np.zeros((4, 4), int), 1),
    "base_filters and n_classes must be at least 1; got 0 and 2": lambda _: unet.build_unet(base_filters=0),
    "a label image hold an object; got 5 steps": lambda _: unet.train(IMAGES, np.zeros((2, 8, 8), int), steps=5),
    "labels must be whole numbers.*got float64": lambda _: unet.targets(np.zeros((4, 4))),
    r"got int64 of \(8, 9, 3\), which looks like channels": lambda _: unet.targets(np.zeros((8, 9, 3), int)),
    "whole numbers from -1": lambda _: unet.targets(np.full((8, 9), -2)),
    r"one shape; got \(8, 8, 1\) and \(1, 8, 8, 1\)": lambda _: unet.bce_jaccard(IMAGES[0], IMAGES[0][None] / 9),
    r"one shape; got \(1, 8, 8\) and \(1, 8, 8, 1\)": lambda _: unet.bce_jaccard(*bare()),
    r"one shape; got \(1, 8, 1\) and": lambda _: unet.iou_metric(*bare()),
    "there are 2 images and 1 masks; one mask": lambda _: unet.random_crops(IMAGES, IMAGES[:1], 8),
    r"mask 0 must .* \(8, 8, 1\) and \(8, 9, 1\)": lambda _: unet.random_crops(IMAGES[:1], numbered((8, 9)), 8),
    "RandomElasticTransform moves a mask differently": lambda _: unet.augment_pairs(layers.RandomElasticTransform()),
    "exists: a model is never written over another": lambda m: unet.export(m, "."),
}
UNKNOWN = {
    r"layer 'mean' \(Global.*is not known: use": layers.GlobalAveragePooling2D(keepdims=True, name="mean"),
    "layer 'valid'.*with padding='same'": layers.Conv2D(1, 3, name="valid"),
    "no layer twice": lambda x: (relu := layers.ReLU())(conv()(relu(x))),
}


@pytest.mark.parametrize("message", [*REFUSED, *UNKNOWN])
def test_bad_input_gets_one_clear_sentence(models, message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message](models["plain"]) if message in REFUSED else unet.receptive_field(of(UNKNOWN[message]))


# --- images and masks that move together -------------------------------------------------------------------------


def blobs():
    keras.utils.set_random_seed(0)
    return (ndimage.gaussian_filter(picture(8, 64, 64, 1), (0, 4, 4, 0)) > 0).astype(np.float32)


def agreement(*pair):
    return masks.iou(*(np.vstack(np.asarray(part)[..., 0]) > 0.5 for part in pair))


def test_masks_move_with_their_images_and_light_changes_none():
    mask = blobs()
    for layer in (layers.RandomFlip(), layers.RandomRotation(0.4), layers.RandomShear(0.4, 0.4)):
        images, moved = unet.augment_pairs(layer)(mask, mask)
        assert set(np.unique(moved)) <= {0, 1}
        assert agreement(images, moved) > 0.9
        assert agreement(images, mask) < 0.75, "they have moved"
    light = unet.augment_pairs(layers.RandomBrightness(0.4, value_range=(0, 1)))
    for images, same in tf.data.Dataset.from_tensors((mask / 2 + 0.2, mask)).map(light):
        assert np.array_equal(same, mask) and not np.allclose(images, mask / 2 + 0.2)


# --- losses ------------------------------------------------------------------------------------------------------


def logits_and_masks():
    random = np.random.default_rng(0)
    true = (random.uniform(size=(3, 8, 9, 2)) > 0.6).astype(np.float32)
    true[1, ..., 0] = 0
    return true, random.normal(0, 2, true.shape).astype(np.float32)


def test_the_loss_is_that_of_numpy_teaches_from_empty_masks_and_stays_finite():
    true, logits = logits_and_masks()
    p, axes = expit(logits.astype(float)), (1, 2)
    bce = -(true * np.log(p) + (1 - true) * np.log(1 - p)).mean(axes)
    both, total = (true * p).sum(axes), (true + p).sum(axes)
    np.testing.assert_allclose(unet.bce_jaccard(true, logits), bce + 1 - (both + 1) / (total - both + 1), rtol=1e-5)
    np.testing.assert_allclose(unet.bce_jaccard(true, 40 * true - 20), 0, atol=1e-4)
    empty = np.zeros_like(true)
    for y_true, values in ((true, 1e4 * np.sign(logits)), (true, empty - 50), (empty, empty)):
        variable = tf.Variable(values)
        with tf.GradientTape() as tape:
            cost = unet.bce_jaccard(y_true, variable)
        gradient = tape.gradient(cost, variable).numpy()
        assert np.isfinite([*np.ravel(cost), *np.ravel(gradient)]).all()
    assert (gradient > 1e-4).all()


@pytest.mark.parametrize("loss", [unet.bce_jaccard, unet.iou_metric])
def test_pixels_that_are_not_known_weigh_nothing(loss):
    true, logits = logits_and_masks()
    void = np.zeros_like(true)
    void[:, 2:5], void[2] = 1, 1
    masked, other = np.where(void, -1, true), tf.Variable(np.where(void, 30, logits))
    with tf.GradientTape() as tape:
        cost = loss(masked, other)
    np.testing.assert_array_equal(cost, loss(masked, tf.constant(logits)))
    cropped = [np.delete(array[:2], range(2, 5), axis=1) for array in (true, logits)]
    np.testing.assert_allclose(cost[:2], loss(*cropped), rtol=1e-5)
    assert np.isfinite(cost).all()
    if loss is not unet.iou_metric:
        gradient = tape.gradient(cost, other).numpy()
        assert not gradient[void > 0].any() and gradient[void == 0].all()


def test_the_metric_is_the_iou_of_each_image():
    true, logits = logits_and_masks()
    logits[1, ..., 0] = -1
    expected = [masks.iou(a[..., 0] > 0, b[..., 0] > 0) for a, b in zip(true, logits, strict=True)]
    np.testing.assert_allclose(unet.iou_metric(true, logits), expected, rtol=1e-6)


# --- training ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def discs():
    """Images of touching discs on a dark ground, and their labels."""
    random, images, labels = np.random.default_rng(0), [], []
    y, x = np.mgrid[:64, :64]
    for _ in range(8):
        label = np.zeros((64, 64), np.int32)
        for at in random.uniform(8, 48, (3, 2)):
            for shift in (0, 11):
                label[np.hypot(y - at[0], x - at[1] - shift) < 6] = label.max() + 1
        images.append((40 + 60 * (label > 0) + random.normal(0, 6, label.shape)).astype(np.uint8)[..., None])
        labels.append(label)
    return images, labels


def counted(true, found):
    none = masks.ObjectCounts(0, 0, 0)
    return sum((masks.count_objects(*pair) for pair in zip(true, found, strict=True)), none)


def test_a_marker_of_fewer_than_four_pixels_is_no_object():
    logits = np.full((20, 30, 2), -5.0)
    logits[2:8, 2:8, 0] = logits[2:8, 12:18, 0] = logits[12:18, 2:8, 0] = 5
    logits[4:6, 4:6, 1] = logits[4, 13:16, 1] = 5
    objects = unet.find_objects(logits)
    assert objects.max() == 1 and (objects > 0).sum() == 36 and objects[4, 4] == 1


def test_training_finds_objects_that_touch_and_reports_each_epoch(discs):
    images, labels = discs
    history = keras.callbacks.History()
    model = unet.train(images[:6], labels[:6], steps=100, crop=60, callbacks=[history])
    assert len(history.history["iou_metric"]) == 2
    assert history.history["loss"][-1] < history.history["loss"][0]
    found = [unet.predict_objects(model, image) for image in images[6:]]
    assert all(image.dtype == np.int32 and image.shape == (64, 64) for image in found)
    counts = counted(labels[6:], found)
    assert counts.f1 > 0.8
    joined = [ndimage.label(image > 0)[0] for image in found]
    apart = counted(labels[6:], joined)
    assert apart.f1 < counts.f1, "without markers, those that touch are one"
    odd = unet.predict_objects(model, images[7][:41, :53])
    assert odd.shape == (41, 53) and odd.max() == len(np.unique(odd)) - 1


def test_every_step_is_taken_and_the_rate_rises_once_and_falls_to_0():
    model, rates = of(lambda x: layers.Conv2D(2, 1)(conv()(x))), []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    crops = unet.random_crops(IMAGES, [np.repeat(image % 2, 2, axis=-1) for image in IMAGES], 8)
    for epochs in (1, 3):
        rates.clear()
        unet.fit(model, crops, 40, epochs=epochs, rate=0.02, callbacks=[note])
        assert len(rates) == 40 // epochs * epochs
        assert max(rates) == rates[3] == pytest.approx(0.02)
        assert (np.diff(np.sign(np.diff(rates))) != 0).sum() == 1
        assert rates[-1] < 0.02 / 100


def test_images_with_more_weight_are_shown_more_often():
    images = numbered((16, 16), (16, 16))
    crops = unet.random_crops(images, images, 16, batch_size=8, weights=[1, 3]).take(100)
    second = np.mean([image[:, 0, 0, 0] >= 10_000 for image, _ in crops.as_numpy_iterator()])
    assert 0.7 < second < 0.8


# --- export ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "plain"
    unet.export(models["plain"], folder)
    loaded = tf.saved_model.load(str(folder))

    def serve(images, scale=1.0):
        served = loaded.signatures["serving_default"](images=tf.constant(images, tf.float32), scale=tf.constant(scale))
        return served["probabilities"].numpy()

    return serve


def by_helpers(model, images):
    return np.stack([expit(unet.predict_tiled(model, unet.standardize(image))) for image in images])


@pytest.mark.parametrize("scale", [0.5, 0.7, 2.0])
def test_what_is_exported_gives_what_the_helpers_give_at_any_scale(models, served, scale):
    for size in ((37, 53), (8, 8)):
        images = np.random.default_rng(0).integers(0, 65535, (2, *size, 1)) // [[[[1]]], [[[300]]]]
        np.testing.assert_allclose(served(images), by_helpers(models["plain"], images), atol=3e-5)
    smooth = ndimage.gaussian_filter(picture(2, 60, 50, 1), (0, 3, 3, 0))
    scaled = smooth
    for by in (scale**0.5, scale):
        scaled = tf.image.resize(scaled, (round(60 * by), round(50 * by))).numpy()
    answer = served(smooth, scale)
    expected = tf.image.resize(by_helpers(models["plain"], scaled), (60, 50))
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert not np.allclose(answer, served(smooth), atol=0.05)
    blank = np.zeros((1, 37, 53, 1))
    np.testing.assert_allclose(served(blank + 0.1, scale), served(blank, scale), atol=1e-5)
