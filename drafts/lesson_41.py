md("# Which loss, optimizer, regularisation, augmentation and stopping rule?")
md("""
ANSWER
""", ["result"])
md("""
**After this lesson you can** read a table of treatments by its paired intervals · choose a loss, and know what Keras's `Dice` does by default · move a mask with its image, and see when it was left behind · stop a training by a rule that waits long enough · say which choices matter on your images, and how you would find out.

**You need** a U-Net, a loss and a learning curve ([40](40_unet_masks.ipynb)); for your own images, a folder of them and one of masks. **Time**: 20 minutes to read, 40 seconds to run, 25 minutes of exercises.
""")
md("""
**For teachers**: 45 minutes without *Optimizers* and *On photographs*; 75 with them. **Show of hands** before the first figure: does the loss matter more, or the augmentation? Ask again at the end. **In pairs** at *Three ways to leave the mask behind*: which of the three stands in your own code? **Answers**: below each solution. **Common wrong answers**: a sample deviation with `ddof=0`; Student's factor for n and not n - 1 degrees of freedom; two generators with one seed but two orders of files; `mode="min"` for an IoU. **Skip first**: *Optimizers*. **Fast pairs**: how many repetitions would halve an interval?
""", ["instructor"])
code("""
image_dir: str = ""  # folder with your images; empty: embedded
mask_dir: str = ""  # folder with your masks, named as the images are; empty: embedded
steps: int = 200  # training steps of six crops each, in [20, 100000]
seed: int = 0  # seed of split, weights and crops, in [0, 4294967295]
results_path: str = ""  # JSON file for the headline numbers; empty: none is written
""", ["parameters"])
code("""
import numpy as np
import pandas as pd

try:
    from helpers import crossval, data, images, masks, notebook, plots
except ModuleNotFoundError:
    message = "helpers is missing: use `make lab`, or type `%pip install --no-deps -e ..`"
    raise ModuleNotFoundError(message) from None

if bool(image_dir) != bool(mask_dir):
    raise notebook.ParameterError("name both image_dir and mask_dir, or none.")
notebook.setup(globals(), exact=False)
""")
md("""
## One recipe, and what may be changed in it

The reference trains the U-Net of lesson 40 on drawings of cells: each image [**standardised**](../docs/glossary.md#standardisation), six random crops of 64 pixels a step, turned by quarters and mirrored, binary cross-entropy (BCE), Adam with a learning rate that rises to 0.01 and falls to 0, 200 steps. Everything else in this lesson is *one* change of it, for the same number of steps.
""")
code("""
own = bool(image_dir)
cells = images.open_pairs(image_dir, mask_dir) if own else data.load("cells")
rest, test = data.split(cells, test_size=2 / 9, seed=seed)
shuffled = np.random.default_rng(seed).permutation(rest)
cut = max(2, len(rest) // 10)
validation, train = shuffled[:cut], shuffled[cut:]
judged = test[:60]
few = [i for i in train if (cells.y[i] > 0).any()][:12]  # the scarce case
if not few:
    raise notebook.UserError("no image for training holds an object: try another seed.")
print(cells)
print(len(train), "to train,", len(validation), "to validate,", len(test), "to test")
""")
code("""
import keras
from keras import layers

from helpers import unet

X = [unet.standardize(image) for image in cells.X]
Y = [(labels > 0)[..., np.newaxis] for labels in cells.y]  # not known counts as background


def crops_of(rows, batch_size=6, seed=seed):
    pairs = [X[i] for i in rows], [Y[i] for i in rows]
    return unet.random_crops(*pairs, 64, batch_size, seed)


image, mask = next(crops_of(few).as_numpy_iterator())
titles = [f"crop {n + 1}" for n in range(5)]
plots.show(plots.outlines(image[:5], {"mask": mask[:5]}, titles))
""")
code("""
def compiled(rate):
    keras.utils.set_random_seed(seed)
    model = unet.build_unet((None, None, X[0].shape[-1]), n_classes=1)
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), bce, metrics=[unet.iou_metric])
    return model


def train_unet(crops):
    up = steps // 10
    schedule = keras.optimizers.schedules.CosineDecay
    model = compiled(schedule(0.0, steps - up, warmup_target=1e-2, warmup_steps=up))
    model.fit(crops, steps_per_epoch=steps, verbose=0, shuffle=False)
    return model


def mean_iou(model, rows=judged):
    found = [unet.predict_tiled(model, X[i])[..., 0] > 0 for i in rows]
    return np.mean([masks.iou(Y[i][..., 0], of) for i, of in zip(rows, found, strict=True)])
""")
md("""
One run, on twelve images: seconds, and a number.
""")
code("""
reference = train_unet(crops_of(few))
iou_reference = mean_iou(reference)
print(f"{len(few)} images, {steps} steps: IoU {iou_reference:.3f} on {len(judged)} others")
""", ["nbval-ignore-output"])
md("""
## The naive way: one run of each

Most advice on losses comes from runs like this one: one with each, and the best is taken. Below are such runs from a table that took longer than a lesson may, [`mask_training.csv`](../benchmarks/evidence/mask_training.csv), made by the script beside it: the same recipe with 12, 60 and 600 drawings, several **repetitions**, each with its own training images, initial weights and crops. The IoU is that of 100 test drawings.
""")
code("""
folder = notebook.ROOT / "benchmarks" / "evidence"
table = pd.read_csv(folder / "mask_training.csv", comment="#")
LOSSES = ["weighted BCE", "Dice, per batch", "Dice, per image"]
LOSSES += ["BCE + Dice", "focal", "boundary-weighted BCE"]
sixty = table.query("part == 'drawings' and images == 60")
runs = sixty.pivot(index="repeat", columns="treatment", values="iou")
print(runs[["reference", *LOSSES]].T.round(3).to_string())
print("the best:", ", ".join(runs[["reference", *LOSSES]].idxmax(axis=1)))
""")
md("""
NAIVE
""", ["result"])
md("""
What can be compared is the **paired difference**: treatment minus reference, of the same repetition, so that easy and hard training images cancel. Its 95 % [**confidence interval**](../docs/glossary.md#confidence-interval) is mean ± Student's factor × standard deviation / √n. Where it holds 0, nothing is clear.

### Your turn: the interval of one difference

Compute mean, low and high of `difference`, by hand. (Four lines.)

<details><summary>Hint</summary>

`scipy.stats.t.ppf(0.975, n - 1)` is the factor for n values; the standard deviation is that of a sample, `ddof=1`.

</details>
""")
code("""
difference = (runs["weighted BCE"] - runs["reference"]).to_numpy()
print(difference.round(3))
# Your turn
own_interval = ..., ..., ...
""")
code("""
from scipy import stats

own_n, own_mean = len(difference), difference.mean()
own_factor = stats.t.ppf(0.975, own_n - 1)
own_reach = own_factor * difference.std(ddof=1) / np.sqrt(own_n)
own_interval = own_mean, own_mean - own_reach, own_mean + own_reach
print("mean {:.3f}, from {:.3f} to {:.3f}".format(*own_interval))
""", ["solution"])
code("""
notebook.check(
    own_interval,
    lambda own: np.allclose(own, crossval.draw_interval(difference), atol=6e-4),
    wrong=lambda own: "mean, low, high: ddof=1, and n - 1 degrees of freedom",
)
""")
md("""
`crossval.draw_interval` does the same. A function for all treatments, in **points** (hundredths of IoU), and a figure whose text names what is clear:
""")
code("""
def gains(treatments, score="iou"):
    panels = {}
    for number in (12, 60, 600):
        rows = table[(table["part"] == "drawings") & (table["images"] == number)]
        wide = rows.pivot(index="repeat", columns="treatment", values=score)
        minus = 100 * wide.sub(wide["reference"], axis=0)
        panels[f"{number} drawings"] = {
            name: crossval.draw_interval(minus[name]) for name in treatments
        }
    return panels


def show_gains(panels, title):
    told = "Mean difference in points, where the interval is without 0"
    for of, rows in panels.items():
        clear = [f"{name} {gain.mean:+.1f}" for name, gain in rows.items() if gain.low * gain.high > 0]
        told += f"; {of}: {', '.join(clear) or 'none'}"
    plots.show(plots.intervals(panels, f"{told}.", reference=0, title=title))
""")
md("""
## Losses

Cells cover a seventh of the pixels. A loss may weigh them more, or reward overlap. The [**Dice loss**](../docs/glossary.md#dice-loss) is 1 - 2 |A ∩ B| / (|A| + |B|), with probabilities in place of the predicted mask; `keras.losses.Dice` has it.

**Predict before you run.** Two crops: one holds a cell of 100 pixels that is predicted perfectly; the other is empty, and 20 of its pixels are predicted wrongly as cell. What is the Dice loss of the batch as a whole, about? And the mean over the two crops?
""")
code("""
y, p = np.zeros((2, 16, 16, 1), "float32"), np.zeros((2, 16, 16, 1), "float32")
y[0, :10, :10] = p[0, :10, :10] = 1
p[1, :4, :5] = 1


def dice_loss(a, b):
    return 1 - 2 * (a * b).sum() / (a.sum() + b.sum())


each = [dice_loss(a, b) for a, b in zip(y, p, strict=True)]
print(f"by hand: batch {dice_loss(y, p):.3f}, crops {each[0]:.0f} and {each[1]:.0f}")
per_batch, per_image = keras.losses.Dice(), keras.losses.Dice(axis=(1, 2, 3))
print(f"Keras: default {per_batch(y, p):.3f}, axis=(1, 2, 3) {per_image(y, p):.3f}")
print(f"a tenth of the error in the empty crop: {per_image(y[1:], p[1:] / 10):.0f}")
""")
md("""
By default Keras makes one score of the whole batch, in which large objects dominate and empty crops count little. Per image, an empty crop costs 1 whatever is predicted there, so that it teaches nothing. Both want probabilities: `from_logits` does not exist. The others in code, each a function of masks and logits:
""")
code("""
import tensorflow as tf
from keras import ops

losses = {
    "weighted BCE": lambda y, z: tf.nn.weighted_cross_entropy_with_logits(y, z, 6.0),
    "Dice, per batch": lambda y, z: per_batch(y, ops.sigmoid(z)),
    "Dice, per image": lambda y, z: per_image(y, ops.sigmoid(z)),
    "BCE + Dice": lambda y, z: (
        ops.binary_crossentropy(y, z, from_logits=True) + per_batch(y, ops.sigmoid(z))
    ),
    "focal": keras.losses.BinaryFocalCrossentropy(from_logits=True),
}
logits = ops.convert_to_tensor(8 * p - 4)
for name, loss in losses.items():
    print(f"{name:16} {float(ops.mean(loss(y, logits))):.3f}")
""")
md("""
### Your turn: weigh the boundary

The U-Net paper weighs pixels near boundaries more. Compute weights for the mask `y[0, ..., 0]`: 5 where a pixel lies within 2 pixels of the mask's boundary, on either side, else 1. (Four lines.)

<details><summary>Hint</summary>

`scipy.ndimage.maximum_filter(values, 5)` and `minimum_filter(values, 5)` look at 5 × 5 pixels; they differ near a boundary only.

</details>
""")
code("""
# Your turn
own_weights = ...
""")
code("""
from scipy import ndimage

own_mask = y[0, ..., 0]
own_largest = ndimage.maximum_filter(own_mask, 5)
own_near = own_largest > ndimage.minimum_filter(own_mask, 5)
own_weights = 1 + 4 * own_near
print(own_weights[:, 0], own_weights.sum())
""", ["solution"])
code("""
near = ops.max_pool(y[:1], 5, 1, "same") + ops.max_pool(-y[:1], 5, 1, "same")
notebook.check(
    own_weights,
    lambda own: np.array_equal(own, 1 + 4 * np.asarray(near)[0, ..., 0]),
    wrong=lambda own: f"pixels of weight 5: {np.sum(own == 5)} of {int(near.numpy().sum())}",
)
""")
code("""
show_gains(gains(LOSSES), "Threshold 0.5: points of IoU, minus BCE's")
show_gains(gains(LOSSES, "iou_tuned"), "Threshold chosen on validation: points of IoU, minus BCE's")
""")
md("""
LOSSES
""", ["result"])
md("""
## Optimizers, regularisation, normalisation

An optimizer is only as good as its **learning rate**, and each needs its own: the same three tries for each, judged on validation drawings, on training images that are no repetition's.
""")
code("""
rates = table[table["part"] == "rates"].pivot(
    index="treatment", columns="rate", values="iou"
)
print(rates.round(3).to_string(na_rep=""))
""")
md("""
[**Dropout**](../docs/glossary.md#dropout) (`0.3`, after each pooling) and [**weight decay**](../docs/glossary.md#weight-decay) (AdamW: `0.004` by default, or `0.1`) are to keep a network from learning its images by heart. [**Batch normalisation**](../docs/glossary.md#batch-normalisation) standardises what a layer gives, over the batch. Images may be standardised, divided by 255, or left raw.
""")
code("""
choices = ["AdamW", "SGD with momentum", "dropout 0.3", "weight decay 0.1", "/255", "raw"]
choices += ["no batch norm", "no batch norm, /255", "no batch norm, raw"]
show_gains(gains(choices), "Points of IoU, minus the reference's (Adam, batch norm, z-score)")
""")
md("""
CHOICES
""", ["result"])
md("""
## Augmentation, paired

[**Augmentation**](../docs/glossary.md#augmentation) shows the network changed copies of its images. What moves pixels has to move the mask by the same amount, and to the nearest pixel. Keras does it under one name of a key, `segmentation_masks`; `unet.augment_pairs` writes it for you. An elastic transform is drawn by hand, as Keras's `RandomElasticTransform` draws one field of displacements for the image and another for the mask.
""")
code("""
from scipy.ndimage import gaussian_filter, map_coordinates


def rotate(degrees, seed=seed):
    return layers.RandomRotation(degrees / 360, fill_mode="reflect", seed=seed)


def paired(layer):
    def apply(x, y):
        both = layer({"images": x, "segmentation_masks": y}, training=True)
        return both["images"], both["segmentation_masks"]

    return apply


def elastic(x, y, width=8, reach=2.0):
    noise = np.random.default_rng(seed).normal(size=(2, *x.shape[:2]))
    field = np.stack([gaussian_filter(of, width) for of in noise])
    where = np.indices(x.shape[:2]) + reach * field / field.std()
    channels = [*np.moveaxis(x, -1, 0), y[..., 0]]
    orders = [*[1] * x.shape[-1], 0]  # the mask: the nearest pixel
    moved = [map_coordinates(of, where, order=k, mode="reflect") for of, k in zip(channels, orders, strict=True)]
    return np.stack(moved[:-1], axis=-1), moved[-1][..., np.newaxis]
""")
code("""
one, its = image[:1], mask[:1]
changed = {"as it is": (one, its), "mirrored": (one[:, :, ::-1], its[:, :, ::-1])}
changed["±10°"] = paired(rotate(10))(one, its)
changed["±180°"] = paired(rotate(180))(one, its)
changed["elastic"] = [of[np.newaxis] for of in elastic(one[0], its[0])]
pictures, outline = (
    [np.asarray(pair[side])[0] for pair in changed.values()] for side in (0, 1)
)
plots.show(plots.outlines(pictures, {"mask": outline}, list(changed)))
""")
md("""
After a z-score of the whole image, a change of brightness or contrast that came before it would be undone to the last bit: brightness is changed here after it. Each of the others comes on top of quarter turns and mirrors; *no augmentation* leaves these out.
""")
code("""
copies = ["no augmentation", "±10°", "±180°", "brightness", "elastic", "whole images"]
show_gains(gains(copies), "Points of IoU, minus the reference's (crops, turned and mirrored)")
""")
md("""
COPIES
""", ["result"])
md("""
## Three ways to leave the mask behind

None of them raises an error: a `RandomRotation` in front of the model; two generators that turn image and mask with different seeds; a dictionary whose key Keras does not know, and ignores.
""")
code("""
def image_alone(x, y):
    return rotate_10(x, training=True), y


def two_seeds(x, y):
    return rotate_10(x, training=True), other_10(y, training=True)


def ignored_key(x, y):
    both = rotate_10({"images": x, "masks": y}, training=True)
    return both["images"], both["masks"]


rotate_10, other_10 = rotate(10, seed=seed + 10), rotate(10, seed=seed + 5)
ways = {"image alone": image_alone, "two seeds": two_seeds, "ignored key": ignored_key}
ways["segmentation_masks"] = paired(rotate_10)
left = {name: [np.asarray(of)[0] for of in way(one, its)] for name, way in ways.items()}
pictures, outline = ([pair[side] for pair in left.values()] for side in (0, 1))
plots.show(plots.outlines(pictures, {"mask": outline}, list(left)))
""")
md("""
How far apart are they? Take the mask *as* the image: after the augmentation both should still be one.
""")
code("""
for name, way in ways.items():
    batches = crops_of(few).take(5).map(lambda x, y, way=way: way(y, y))
    overlaps = [
        masks.iou(of > 0.5, its_mask > 0.5)
        for x, y in batches.as_numpy_iterator()
        for of, its_mask in zip(x[..., 0], y[..., 0], strict=True)
    ]
    print(f"{name:18} image and mask agree: IoU {np.mean(overlaps):.1f}")
""")
md("""
An overlap like that looks harmless in a picture. **Predict before you run.** The network is trained on it, on the same twelve images for as many steps. How much of its IoU is lost: nothing, a twentieth, a half?
""")
code("""
behind = train_unet(crops_of(few).map(image_alone))
iou_behind = mean_iou(behind)
print(f"IoU {iou_behind:.3f}, of the reference {iou_reference:.3f}")
""", ["nbval-ignore-output"])
code("""
broken = ["±10°, image alone", "±10°, two seeds", "±10°, ignored key"]
show_gains(gains([*broken, "±180°, image alone"]), "Masks left behind: points of IoU, minus the reference's")
""")
md("""
BROKEN
""", ["result"])
md("""
### Your turn: repair two generators

Old tutorials use `ImageDataGenerator`, which is legacy, and still copied: one generator turns the images, one the masks. Below their seeds differ. Make `own_pairs`, a list of two arrays: the turned masks *as images*, and the turned masks, which agree. (Three lines.)

<details><summary>Hint</summary>

The same `seed=` in both calls of `flow`, and no shuffling of one alone.

</details>
""")
code("""
from tensorflow.keras.preprocessing.image import ImageDataGenerator

generator = ImageDataGenerator(rotation_range=10, fill_mode="reflect")
flows = [generator.flow(mask, batch_size=6, shuffle=False, seed=n) for n in (1, 2)]
wrong = [next(flow)[..., 0] for flow in flows]
print(f"IoU {masks.iou(*(np.vstack(turned) > 0.5 for turned in wrong)):.1f}")
# Your turn
own_pairs = ...
""")
code("""
own_flows = [
    generator.flow(mask, batch_size=6, shuffle=False, seed=1)
    for _ in ("images", "masks")
]
own_pairs = [next(own_flow)[..., 0] for own_flow in own_flows]
own_fractions = (own_pairs[1] > 0) & (own_pairs[1] < 1)
print("equal:", np.array_equal(*own_pairs))
print("values between 0 and 1:", bool(own_fractions.any()))
""", ["solution"])
code("""
notebook.check(
    own_pairs,
    lambda own: np.array_equal(*own) and own[0].shape == wrong[0].shape,
    wrong=lambda own: "the two arrays differ, or are not six turned masks",
)
""")
md("""
A mask of values between 0 and 1 remains: the generator interpolates it. `segmentation_masks` takes the nearest pixel.

## When to stop

[**Early stopping**](../docs/glossary.md#early-stopping) watches a number on [**validation**](../docs/glossary.md#validation-set) images after each epoch, stops when it has not improved for `patience` epochs, and restores the best weights. Tutorials write a patience of 2 or 3. Here are both, with Keras's own callback, on twelve images at a constant rate; an epoch has 10 steps.
""")
code("""
def stopped_by(rule, epochs=40):
    model, judges = compiled(3e-3), crops_of(validation, 8, seed=1)
    options = {"steps_per_epoch": 10, "validation_steps": 5, "verbose": 0, "shuffle": False}
    options |= {"validation_data": judges, "epochs": epochs, "callbacks": [rule]}
    return model, model.fit(crops_of(few), **options).history


EarlyStopping = keras.callbacks.EarlyStopping
hasty = EarlyStopping("val_loss", patience=2, restore_best_weights=True)
patient = EarlyStopping("val_iou_metric", mode="max", patience=10, restore_best_weights=True)
""")
code("""
kept = {}
for name, rule in {"val_loss, patience 2": hasty, "val_iou, patience 10": patient}.items():
    model, curve = stopped_by(rule)
    kept[name] = len(curve["loss"]), rule.best_epoch + 1, mean_iou(model)
    print(name, "stopped after epoch {}, kept {}: IoU {:.3f}".format(*kept[name]))
""", ["nbval-ignore-output"])
code("""
epochs, judged_iou = np.arange(1, len(curve["loss"]) + 1), np.array(curve["val_iou_metric"])
seen = {"validation loss": curve["val_loss"], "validation IoU": judged_iou}
low, falls = (judged_iou < 0.05).sum(), (np.diff(judged_iou) < 0).sum()
told = f"The validation IoU is below 0.05 in {low} epochs, and falls {falls} times; at most "
told += f"it is {judged_iou.max():.2f}."
axes = "epoch of 10 steps", "loss, IoU", told
plots.show(plots.lines(epochs, seen, *axes, title="What the patient rule has seen"))
""", ["nbval-ignore-output"])
md("""
Repeated, with 12, 60 and 600 drawings, for each rule the steps that it took and the IoU of the weights that it kept, beside all 400 steps:
""")
code("""
stopping = table[table["part"] == "stopping"]
both = stopping.groupby(["treatment", "images"])[["steps", "iou"]].mean().unstack()
both["steps"] = both["steps"].round()
print(both.round(3).to_string())
""")
md("""
STOPPING
""", ["result"])
md("""
### Your turn: a rule that waits

Write a rule for `stopped_by`: it watches `val_iou_metric`, more is better, with a patience of 5 epochs that begin to count after the first 10, and gives back the best weights. (One call, five arguments and the name.)

<details><summary>Hint</summary>

`start_from_epoch`. `stopped_by(own_rule)` trains with it, if you want to see it.

</details>
""")
code("""
# Your turn
own_rule = ...
""")
code("""
own_rule = EarlyStopping(
    monitor="val_iou_metric",
    mode="max",
    patience=5,
    start_from_epoch=10,
    restore_best_weights=True,
)
print(own_rule.patience, own_rule.start_from_epoch)
""", ["solution"])
code("""
wanted = {"monitor": "val_iou_metric", "mode": "max", "patience": 5}
wanted |= {"start_from_epoch": 10, "restore_best_weights": True}
notebook.check(
    own_rule,
    lambda own: all(getattr(own, name) == value for name, value in wanted.items()),
    wrong=lambda own: f"wanted are {wanted}",
)
""")
md("""
## On photographs

Drawings are easy. The same on 100 photographs of nuclei (BBBC038, of the Data Science Bowl 2018), 70 to train and 30 to test, three splits: IoU and F1 of objects pooled over the test images. The splits overlap, so that the interval is [**corrected**](../docs/glossary.md#corrected-resampled-t-test), and wide.
""")
code("""
photographs = table[table["part"] == "photographs"]
folds = [(np.arange(70), np.arange(30))] * photographs["repeat"].nunique()
panels = {}
for score, label in {"iou": "IoU, points", "f1": "F1 of objects, points"}.items():
    wide = photographs.pivot(index="repeat", columns="treatment", values=score)
    print(f"{label.split(',')[0]} of the reference: {wide['reference'].mean():.3f}")
    minus = 100 * wide.drop(columns="reference").sub(wide["reference"], axis=0)
    panels[label] = {name: crossval.fold_interval(minus[name], folds) for name in minus}
show_gains(panels, "Photographs: points, minus the reference's")
""")
md("""
PHOTOGRAPHS
""", ["result"])
md("""
## When it goes wrong

**A rule that cannot decide.** Without `mode`, Keras does not know whether more of a home-made metric is better; with a name that does not exist, it only warns, and never stops.
""")
code("""
import warnings

try:
    stopped_by(EarlyStopping("val_iou_metric", patience=1), epochs=1)
except ValueError as error:
    print(notebook.first_line(error))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    stopped_by(EarlyStopping("val_iou", mode="max", patience=1), epochs=1)
print(str(caught[-1].message).partition(" Available")[0])
""")
md("""
## In production

- **GPU**: the same code trains ten to fifty times as fast; then repeat more, do not tune more. `nvidia-smi` shows whether it waits for crops: let `tf.data` make them in parallel (`num_parallel_calls`).
- **Mixed precision**: `keras.mixed_precision.set_dtype_policy("mixed_float16")` on GPUs with tensor cores, `"mixed_bfloat16"` on TPUs and new processors; keep the last layer in float32, as a loss of float16 logits overflows. On an older processor it is slower.
- **Keep the run**: recipe, seed and validation curve in MLflow or Weights & Biases; `keras.callbacks.BackupAndRestore` for a machine that may go away.
- **Search**: KerasTuner or Optuna, on validation images, each candidate with several seeds.

## Results
""")
code("""
headline = {"mask_left_behind": broken[0], "bce_and_dice": "BCE + Dice", "sgd": choices[1]}
twelve = gains(headline.values())["12 drawings"]
results = {f"points_{name}": round(twelve[of].mean, 1) for name, of in headline.items()}
results |= {"repetitions": len(runs), "steps": steps, "seed": seed}
results["mask_left_behind_is_worse_here"] = bool(iou_behind < iou_reference)
notebook.write_results(results, results_path)
""")
md("""
REMEMBER

**References**: Ronneberger, Fischer and Brox (2015), [*U-Net*](https://arxiv.org/abs/1505.04597); Isensee et al. (2021), *nnU-Net*, doi 10.1038/s41592-020-01008-z; Nadeau and Bengio (2003), *Inference for the generalization error*, doi 10.1023/A:1024068626366; [Keras, `EarlyStopping`](https://keras.io/api/callbacks/early_stopping/); [Keras, image augmentation layers](https://keras.io/api/layers/preprocessing_layers/image_augmentation/). **Next**: [42, U-Net, DeepLab, a pre-trained encoder, Mask R-CNN: which one?](42_mask_architectures.ipynb)
""")
code("""
notebook.open_exercises()
""")
