"""A model that carries its preprocessing, what it expects, and the proof that it still works: one directory.

The gap: a ``.keras`` file holds a model, skops holds fitted scikit-learn parts, and nothing holds the two together,
says which raw inputs they take, or notices that they no longer give what they gave. A bundle does, and `load_bundle`
checks it from the outside in: names and hashes before anything is deserialised, then types, then the schema, and at
last the golden examples, which are predicted again.

    model.keras            without code: a Lambda layer is refused
    preprocessing.skops    if scikit-learn prepares the model's input; of skops's own trusted types and `TRUSTED`
    calibrator.skops       if scikit-learn corrects the model's output, or learns from its features
    golden.json            raw inputs and the probabilities that must come out
    manifest.json          schema, threshold, versions, seed, metrics
    SHA256SUMS             written last; ``sha256sum -c SHA256SUMS`` checks it without Python
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import h5py
import keras
import numpy as np
import pandas as pd
import skops.io
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray
from skops.io.exceptions import UntrustedTypesFoundException

from helpers.decisions import check_probabilities
from helpers.notebook import UserError, first_line, plain_values, shown, some, write_text
from helpers.parity import ParityReport, compare

# What skops may restore beyond its own list. Reviewed by hand: never fill it from `get_untrusted_types`. No trees, as
# nobody checks the indices of their nodes, and forged ones crash the process; where a fingerprint is compared,
# "sklearn.tree._tree.Tree" may be added for one's own forests.
TRUSTED = [
    "numpy.dtype",  # a description of memory; ColumnTransformer keeps those of its columns
    "sklearn.calibration._CalibratedClassifier",  # a fitted classifier beside its calibrators, no code
    "sklearn.calibration._SigmoidCalibration",  # two numbers
    "sklearn.calibration._TemperatureScaling",  # one number
]

FORMAT = 1
# By how much a golden probability may differ: more than float32 models do between processors.
TOLERANCE = 1e-5
MOST_CATEGORIES = 200
# What is read of a bundle at most, in bytes: of files, of archives once unpacked, of weights, of what a layer gives for
# the golden examples; of a text, which takes ten times as much as Python's objects; and objects in a model.
MOST_BYTES, MOST_TEXT, MOST_OBJECTS = 150_000_000, 20_000_000, 10_000
CHUNK = 8192

_MODEL, _BEFORE, _AFTER = "model.keras", "preprocessing.skops", "calibrator.skops"
_GOLDEN, _MANIFEST, _SUMS = "golden.json", "manifest.json", "SHA256SUMS"
_REQUIRED, _OPTIONAL = {_MODEL, _GOLDEN, _MANIFEST}, {_BEFORE, _AFTER}


class BundleError(UserError):
    """A bundle that is not loaded, or rows that it does not take."""


class Field(NamedTuple):
    """One raw input, and what was seen of it in training.

    Attributes
    ----------
    name : str
    kind : {'number', 'category', 'text'}
        Numbers are float64 and finite, the others str.
    missing : bool
        Whether training rows lacked it.
    low, high : float
        The range of numbers, or of the lengths of texts in characters.
    categories : tuple of str
        Empty unless a category.
    """

    name: str
    kind: str
    missing: bool
    low: float = 0.0
    high: float = 0.0
    categories: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """'float64' or 'str'."""
        return "float64" if self.kind == "number" else "str"

    @classmethod
    def of(cls, column: pd.Series[Any]) -> Field:
        """Describe a column of training rows.

        Examples
        --------
        >>> Field.of(pd.Series(["Ulm", None, "Bonn", "Ulm"], name="town"))
        Field(name='town', kind='category', missing=True, low=0.0, high=0.0, categories=('Bonn', 'Ulm'))
        """
        name, kind = str(column.name), "number" if pd.api.types.is_numeric_dtype(column) else "text"
        known = cls(name, kind, True).checked(column).dropna()
        missing, categories = len(known) < len(column), tuple(sorted(set(known))) if kind == "text" else ()
        if kind == "text" and len(categories) <= min(MOST_CATEGORIES, max(20, len(known) / 2)):
            return cls(name, "category", missing, categories=categories)
        sizes = known if kind == "number" else known.map(len).astype(float)
        return cls(name, kind, missing, *sizes.agg(["min", "max"]).fillna(0.0).tolist())

    def checked(self, column: pd.Series[Any]) -> pd.Series[Any]:
        """Return the column in the field's dtype, or raise a `BundleError`; missing values become NaN."""
        number = self.kind == "number"
        values = column.astype(object).where(column.notna(), np.nan)
        bad = [value for value in values.dropna() if not (_is_number(value) if number else _is_text(value))]
        if bad:
            takes, kind = ("finite numbers", "") if number else ("str of valid Unicode", f" ({type(bad[0]).__name__})")
            raise BundleError(f"{self.name!r} takes {takes}; got {bad[0]!r:.60}{kind}.")
        return values.astype(np.float64) if number else values

    def unseen(self, column: pd.Series[Any]) -> str:
        """Say how many checked values are unlike those in training; empty if none.

        Examples
        --------
        >>> Field.of(pd.Series([0, 8], name="wind")).unseen(pd.Series([3.0, np.nan, 1e6, 9]))
        "'wind': 3 outside 0 to 8, such as nan"
        """
        if self.kind == "category":
            unlike, limits = ~column.isin(self.categories), "not among the categories of training"
        else:
            size, unit = (column, "") if self.kind == "number" else (column.map(len, na_action="ignore"), " characters")
            unlike, limits = ~size.between(self.low, self.high), f"outside {self.low:g} to {self.high:g}{unit}"
        unlike &= column.notna() | (not self.missing)
        if not unlike.any():
            return ""
        return f"{self.name!r}: {unlike.sum()} {limits}, such as {shown(column[unlike].tolist()[0])}"


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle; `load_bundle` makes one.

    Attributes
    ----------
    model : keras.Model
    preprocessing, calibrator : scikit-learn estimator or None
    schema : tuple of Field
    golden : DataFrame
        Raw inputs of the golden examples.
    y_prob : ndarray of shape (n,)
        What must come out for them.
    threshold : float
    seed : int or None
    metrics, versions : dict
    fingerprint : str
        SHA-256 over the hashes of all files. Note it where you build a bundle, and hand it to `load_bundle`.
    """

    model: keras.Model
    preprocessing: Any
    calibrator: Any
    schema: tuple[Field, ...]
    golden: pd.DataFrame
    y_prob: NDArray[np.float64]
    threshold: float
    seed: int | None
    metrics: dict[str, Any]
    versions: dict[str, str]
    fingerprint: str

    def check(self, inputs: Any) -> pd.DataFrame:
        """Return raw inputs in the order and dtypes of the schema.

        Parameters
        ----------
        inputs : DataFrame, sequence of dict, or (for one text) sequence of str
            Raw inputs, n rows. Columns may come in any order; those that the schema does not name are left out.

        Returns
        -------
        DataFrame of shape (n, n_fields)

        Raises
        ------
        BundleError
            A column is missing, or holds a value of another kind.
        """
        return _checked(self.schema, inputs)

    def unseen(self, inputs: Any) -> list[str]:
        """Say what in raw inputs was never seen in training, one sentence for each column with such values."""
        rows = self.check(inputs)
        return [sentence for field in self.schema if (sentence := field.unseen(rows[field.name]))]

    def predict(self, inputs: Any) -> NDArray[np.float64]:
        """Return the probability of the positive class for raw inputs.

        Parameters
        ----------
        inputs
            As in `check`.

        Returns
        -------
        ndarray of shape (n,), float64

        Raises
        ------
        BundleError
            As in `check`, or no probability comes out for a row.
        """
        rows = self.check(inputs)
        chunks = [self._predict(rows.iloc[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
        prob = np.concatenate(chunks) if chunks else np.zeros(0)
        wrong = np.flatnonzero(~((prob >= 0) & (prob <= 1)))
        if len(wrong):
            raise BundleError(f"row {wrong[0]} has no probability: {prob[wrong[0]]} came out ({len(wrong)} such rows).")
        return prob

    def replay(self) -> ParityReport:
        """Predict the golden examples again; `load_bundle` does, and a server may do so as its health check."""
        y_prob = self.predict(self.golden)
        return compare(lambda _: self.y_prob, lambda _: y_prob, self.golden, atol=TOLERANCE, rtol=0)

    def _predict(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        output = self.model(self._features(rows), training=False)
        found = np.asarray(output["probability"] if isinstance(output, Mapping) else output, dtype=np.float64)
        found = found[:, np.newaxis] if found.ndim == 1 else found
        if found.shape[:1] != (len(rows),) or (self.calibrator is None and found.shape[1:] != (1,)):
            raise BundleError(f"the model must return one probability a row; {found.shape} came for {len(rows)} rows.")
        if self.calibrator is None:
            return found[:, 0]
        correct = getattr(self.calibrator, "predict_proba", None)
        return np.asarray(correct(found)[:, 1] if correct else self.calibrator.predict(found), dtype=np.float64)

    def _features(self, rows: pd.DataFrame) -> Any:
        """Return what the model takes for checked rows."""
        if self.preprocessing is None:
            # TensorFlow has no missing string.
            rows = rows.fillna(dict.fromkeys(rows.select_dtypes(object), ""))
            batch = {name: tf.constant(column.to_numpy()) for name, column in rows.items()}
            return batch if len(self.model.inputs) > 1 else next(iter(batch.values()))
        # Fitted without names of columns: on one column of texts, as a vectorizer is, or on an array.
        texts = len(self.schema) == 1 and self.schema[0].dtype == "str"
        unnamed = rows.iloc[:, 0].fillna("") if texts else rows.to_numpy()
        batch = self.preprocessing.transform(rows if hasattr(self.preprocessing, "feature_names_in_") else unnamed)
        return batch.toarray() if hasattr(batch, "toarray") else np.asarray(batch)


def save_bundle(
    path: str | Path,
    model: keras.Model,
    *,
    X_train: Any,
    golden: Any,
    y_prob: ArrayLike,
    preprocessing: Any = None,
    calibrator: Any = None,
    threshold: float = 0.5,
    seed: int | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a bundle, load it, and only then give it its name.

    Parameters
    ----------
    path : path-like
        The directory to make. One that exists is refused: a bundle never changes, a new one has a new name.
    model : keras.Model
        Takes raw inputs (a text, or columns by name), or what `preprocessing` makes of them. Returns probabilities of
        shape (n, 1), or a dictionary with them as ``probability``; with a `calibrator`, features of shape (n, k) too.
    X_train : DataFrame or sequence of str
        Raw inputs of the training rows: their names, dtypes and ranges become the schema.
    golden : DataFrame or sequence of str
        Raw inputs, some of every kind that you care for. They are stored as they are: none that is private.
    y_prob : array-like of shape (n,) or (n, 1)
        What the pipeline used in training gives for `golden`; the bundle must give the same to within 1e-5.
    preprocessing : fitted transformer, optional
        scikit-learn's, from the columns of `X_train` to the model's one input. It gets NaN for what is missing,
        None too: fit it on NaN.
    calibrator : fitted classifier or regressor, optional
        scikit-learn's, from the model's probability, shape (n, 1), to a better one; or the next model of a stack, from
        the features that this one returns.
    threshold : float
        From which probability a row is positive, in [0, 1].
    seed : int, optional
    metrics : mapping of str to number, optional
        As measured on held-out rows.

    Returns
    -------
    Bundle
        As loaded from the files.

    Raises
    ------
    BundleError
        Whatever makes `load_bundle` refuse it, or the path exists or cannot be written. Nothing is left behind; only a
        process that is killed while saving leaves a hidden folder, ``.bundle-…``. Delete it: what is in it loads only
        if it is whole and passes every check, but whether it is complete is not to be seen from its name.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model; got {type(model).__name__}.")
    train = _frame(X_train)
    _require(not train.empty, "X_train has no rows or no columns: the schema is made from it.")
    schema = [Field.of(train[name]) for name in train]
    rows, expected = _checked(schema, golden), check_probabilities(y_prob).astype(np.float64)
    examples = {"inputs": rows.astype(object).where(rows.notna(), None).to_dict("list"), "y_prob": expected.tolist()}
    manifest = _manifest(schema, threshold, seed, metrics or {}, _versions())
    path = Path(path).expanduser()
    try:
        _require(not path.exists(), f"{str(path)!r} exists, and a bundle is never overwritten: choose another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".bundle-", ignore_cleanup_errors=True) as scratch:
            draft = Path(scratch, path.name)
            draft.mkdir()
            model.save(draft / _MODEL)
            for name, part in ((_BEFORE, preprocessing), (_AFTER, calibrator)):
                if part is not None:
                    skops.io.dump(part, draft / name)
            for name, content in ((_GOLDEN, examples), (_MANIFEST, manifest)):
                write_text(draft / name, json.dumps(content, indent=1, allow_nan=False) + "\n")
            # Last: without it nothing is a bundle, so one that was torn never loads.
            digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in draft.iterdir()}
            write_text(draft / _SUMS, _sums(digests))
            bundle = load_bundle(draft)
            draft.rename(path)
    except OSError as error:
        raise BundleError(f"{path!s:.200} cannot be written: {error.strerror or error}.") from error
    return bundle


def load_bundle(path: str | Path, *, fingerprint: str | None = None) -> Bundle:
    """Load a bundle if nothing about it has changed and it still predicts what it must.

    Parameters
    ----------
    path : path-like
        The directory. Other files in it, which SHA256SUMS does not name, are not read.
    fingerprint : str, optional
        The one that is expected, 64 hexadecimal digits. Hashes inside a bundle show damage; only a fingerprint from
        elsewhere shows that somebody has replaced all of it.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        No bundle, a file missing or changed, another fingerprint, code or an untrusted type inside, a schema that does
        not fit the model, or golden examples that no longer come out. No other exception comes out of a directory.
    """
    try:
        path = Path(path).expanduser()
        files, found = _verified(path)
        if fingerprint is not None and (expected := str(fingerprint).strip().lower()) != found:
            raise BundleError(f"{path.name} has the fingerprint {found[:12]}…, not the expected {expected[:12]}….")
        bundle = _read(files, found)
        _check_schema(bundle)
        _check_golden(bundle)
    except BundleError:
        raise
    except Exception as error:
        # Whatever a file of another form does to any line above, the bundle is refused.
        raise BundleError(f"{path!s:.200} is no bundle that can be loaded, {_remedy(error)}") from error
    return bundle


def _verified(path: Path) -> tuple[dict[str, bytes], str]:
    """Return the files' bytes, each with the hash that SHA256SUMS names, and the fingerprint.

    Whatever is deserialised later is these bytes: a file that is exchanged meanwhile is not read.
    """
    _require(path.is_dir(), f"no directory is at {str(path)!r}.")
    _require((path / _SUMS).is_file(), f"{path.name} has no {_SUMS}: it is no bundle, or one that was never finished.")
    files = [path / name for name in (_SUMS, *_REQUIRED, *_OPTIONAL)]
    _limit(sum(file.stat().st_size for file in files if file.is_file()), MOST_BYTES, "bytes in all")
    sums = (path / _SUMS).read_bytes()
    listed = {line[66:]: line[:64] for line in sums.decode("ascii", "replace").splitlines()}
    absent = sorted(_REQUIRED - set(listed))
    _require(not absent, f"{_SUMS} of {path.name} is damaged: it does not name {', '.join(absent)}.")
    whole = sums == _sums(listed).encode() and set(listed) <= _REQUIRED | _OPTIONAL
    _require(whole, f"{_SUMS} of {path.name} is damaged: it names files that no bundle has, or has other line ends.")
    found = {}
    for name in listed:
        _require((path / name).is_file(), f"{path.name} lacks {name}, which {_SUMS} names.")
        found[name] = (path / name).read_bytes()
        same = hashlib.sha256(found[name]).hexdigest() == listed[name]
        _require(same, f"{name} of {path.name}, or its line in {_SUMS}, has changed since it was saved.")
    return found, hashlib.sha256(sums).hexdigest()


def _sums(digests: Mapping[str, str]) -> str:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _read(files: Mapping[str, bytes], fingerprint: str) -> Bundle:
    """Make a bundle of the files: first what is plain JSON, then what has to be deserialised."""
    _limit(max(len(files[name]) for name in (_MANIFEST, _GOLDEN)), MOST_TEXT, "bytes in a text")
    manifest, examples = (_made(name, json.loads, files[name]) for name in (_MANIFEST, _GOLDEN))
    types: dict[str, Any] = {"name": str, "kind": str, "missing": bool, "low": float, "high": float}
    types["categories"] = lambda words: tuple(map(str, words))
    schema = [Field(**{name: of(entry[name]) for name, of in types.items()}) for entry in manifest["schema"]]
    rest = {name: manifest[name] for name in ("threshold", "seed", "metrics", "versions")}
    # What the manifest says must be what `save_bundle` writes for the same values: nothing more, in the same types.
    if json.dumps(_manifest(schema, **rest), sort_keys=True) != json.dumps(manifest, sort_keys=True):
        raise ValueError(f"{_MANIFEST} is no manifest of format {FORMAT}")
    golden = _made(f"{_GOLDEN} breaks the schema", _checked, schema, pd.DataFrame(examples["inputs"], dtype=object))
    y_prob = check_probabilities(examples["y_prob"]).astype(np.float64)
    _require(len(golden) == len(y_prob) > 0, f"{_GOLDEN} has {len(golden)} rows and {len(y_prob)} y_prob: one each.")
    before, after = (_part(name, files[name]) if name in files else None for name in (_BEFORE, _AFTER))
    model = _made(_MODEL, _keras_model, files[_MODEL])
    return Bundle(model, before, after, tuple(schema), golden, y_prob, fingerprint=fingerprint, **rest)


def _manifest(schema: Sequence[Field], threshold: Any, seed: Any, metrics: Any, versions: Any) -> dict[str, Any]:
    """Return what manifest.json holds; ValueError or TypeError where a value cannot be."""
    if not (isinstance(threshold, Real) and 0 <= float(threshold) <= 1):
        raise ValueError(f"threshold must lie in [0, 1]; got {threshold!r}.")
    for field in schema:
        if field.kind not in ("number", "category", "text") or not field.low <= field.high:
            raise ValueError(f"{field.name!r} is a {field.kind!r} from {field.low!r} to {field.high!r}")
        _limit(len(field.categories), MOST_CATEGORIES, "categories of a field")
    fields = [{**field._asdict(), "dtype": field.dtype} for field in schema]
    numbers = {"threshold": float(threshold), "seed": None if seed is None else int(seed)}
    known = {"metrics": plain_values(metrics), "versions": {str(name): str(of) for name, of in versions.items()}}
    return {"format": FORMAT, "schema": fields, **numbers, **known}


def _made(what: str, make: Callable[..., Any], *given: Any) -> Any:
    """Call a function; in front of whatever it raises stands what it was about."""
    try:
        return make(*given)
    except Exception as error:
        told = str(error) if isinstance(error, BundleError) else f"it cannot be loaded, {_remedy(error)}"
        raise BundleError(f"{what}: {told}") from error


def _remedy(why: Exception) -> str:
    # Keras wraps one message into another; the innermost names the cause.
    return f"save it again ({type(why).__name__}: {first_line(str(why).split('Exception encountered: ')[-1]):.200})."


def _require(condition: object, message: str) -> None:
    if not condition:
        raise BundleError(message)


def _limit(found: int, most: int, what: str) -> None:
    """Refuse what is too large, before it takes memory."""
    if found > most:
        raise ValueError(f"it has {found:,} {what}, and at most {most:,} are read, see helpers.bundle.MOST_BYTES")


def _measured(content: bytes) -> int:
    """Return how many bytes a file unpacks to, archives in archives included; ValueError if they are too many."""
    if not zipfile.is_zipfile(io.BytesIO(content)):  # Not by its first bytes: an archive may stand behind others.
        _limit(len(content), MOST_BYTES if content.startswith((b"\x93NUMPY", b"\x89HDF")) else MOST_TEXT, "bytes")
        return len(content)
    _limit(content.count(b"PK\1\2"), MOST_OBJECTS, "members in an archive")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        _limit(sum(member.file_size for member in members), MOST_BYTES, "bytes in an archive, unpacked")
        size = sum(_measured(archive.read(member)) for member in members)
    _limit(size, MOST_BYTES, "bytes in an archive, unpacked")
    return size


def _load_model(file: Path) -> Any:
    """Load a model whose weights are measured by their shapes before they are made."""
    make, sizes = keras.layers.Layer.add_weight, list[int]()

    def add_weight(layer: keras.layers.Layer, shape: Any = None, *arguments: Any, **options: Any) -> Any:
        sizes.append(4 * math.prod(shape or ()))
        _limit(sum(sizes), MOST_BYTES, "bytes of weights")
        return make(layer, shape, *arguments, **options)

    with mock.patch.object(keras.layers.Layer, "add_weight", add_weight):
        return keras.saving.load_model(file, compile=False, safe_mode=True)


def _keras_model(content: bytes) -> keras.Model:
    _measured(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        text, weights = archive.read("config.json"), archive.read("model.weights.h5")
    _limit(text.count(b'"class_name"'), MOST_OBJECTS, "objects in its model")
    with h5py.File(io.BytesIO(weights)) as arrays:
        arrays.visititems(lambda _, item: _limit(getattr(item, "nbytes", 0), MOST_BYTES, "bytes in an array"))
    config = json.loads(text)
    # The loss and the optimizer are not loaded.
    config.pop("compile_config", None)
    # Not left to Keras's safe mode: a call elsewhere in the process can switch that off for all.
    if danger := _danger(config):
        raise BundleError(f"it is not loaded, as it holds {danger}.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, _MODEL)
        file.write_bytes(content)
        model = _load_model(file)
    known = isinstance(model, keras.Model) and getattr(model, "inputs", None)
    _require(known, f"it is no model with known inputs, but a {type(model).__name__}.")
    return model


def _danger(config: Any) -> str:
    """Say what in a model's description runs code, reads files from elsewhere or takes long; empty if nothing does."""
    if isinstance(config, Mapping):
        name = str(config.get("class_name", "")).rpartition(".")[2]
        if name in ("Lambda", "__lambda__"):
            return "Python code in a Lambda layer; use a registered layer instead"
        if isinstance(config.get("activation"), Mapping) and "class_name" not in config["activation"]:
            return "a Python function as activation; use one of Keras's, or a registered one"
        if name in ("TFSMLayer", "TorchModuleWrapper"):
            return f"a {name}, which loads code from another place"
        if name == "Sequential" and len(config["config"]["layers"]) > 100:
            return "a Sequential of more than 100 layers, which Keras builds anew at each; use a functional model"
        if isinstance(config.get("vocabulary"), str):
            return f"a vocabulary in another file, {config['vocabulary']!r}; use a list of words instead"
        if config.get("num_oov_indices", 0) > MOST_OBJECTS or config.get("unroll"):
            return "a lookup with too many places for unknown words, or an unrolled recurrent layer (use unroll=False)"
        config = list(config.values())
    return next(filter(None, map(_danger, config)), "") if isinstance(config, list) else ""


def _part(name: str, content: bytes) -> Any:
    try:
        _measured(content)
        return skops.io.loads(content, trusted=TRUSTED)
    except Exception as error:
        what = f"is no file of skops and is not loaded ({type(error).__name__}); a pickle never is"
        if isinstance(error, UntrustedTypesFoundException):
            types = ", ".join(sorted({*skops.io.get_untrusted_types(data=content)} - {*TRUSTED}))
            what = f"holds {types}, which is not on the list of trusted types, bundle.TRUSTED; it is not loaded"
        raise BundleError(f"{name} {what}.") from error


def _check_schema(bundle: Bundle) -> None:
    names = [field.name for field in bundle.schema]
    whose, takes, hint = "the model", [tensor.name for tensor in bundle.model.inputs], f"; there is no {_BEFORE}"
    # A model is fed by name, and its single input without.
    fits = sorted(takes) == sorted(names) or len(takes) == len(names) == 1
    if bundle.preprocessing is not None:
        whose, takes, hint = "the preprocessing", list(getattr(bundle.preprocessing, "feature_names_in_", names)), ""
        fits = takes == names
    _require(fits, f"the schema does not fit {whose}: it names {some(names)}, {whose} takes {some(takes)}{hint}.")


def _check_golden(bundle: Bundle) -> None:
    # What the model gives on its way is measured on a graph, where sizes that it leaves free are known.
    features = bundle._features(bundle.golden.iloc[:CHUNK])
    traced = tf.function(lambda: bundle.model(features, training=False), autograph=False).get_concrete_function()
    for tensor in (tensor for step in traced.graph.get_operations() for tensor in step.outputs):
        _limit(tensor.dtype.size * (tensor.shape.num_elements() or 0), MOST_BYTES, "bytes in one of its results")
    report, here = bundle.replay(), _versions()
    other = [f"{name} {was}, here {here.get(name)}" for name, was in bundle.versions.items() if here.get(name) != was]
    hint = f" Saved with {'; '.join(other)}." if other else ""
    wrong = f"{len(report.differing)} of {report.rows} golden examples do not come out as stored (largest difference"
    _require(report.same, f"{wrong} {report.max_difference:.3g}, allowed {TOLERANCE:g}).{hint}")


def _is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold, and finite."""
    value = value.item() if isinstance(value, np.generic) else value
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def _is_text(value: Any) -> bool:
    """Whether a value is a string, and holds no half of a surrogate pair."""
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value


def _checked(schema: Sequence[Field], inputs: Any) -> pd.DataFrame:
    frame = _frame(inputs)
    lacking = [field.name for field in schema if field.name not in frame]
    _require(not lacking, f"the rows lack {', '.join(map(repr, lacking))}; they have: {', '.join(map(str, frame))}.")
    return pd.DataFrame({field.name: field.checked(frame[field.name]) for field in schema})


def _frame(inputs: Any) -> pd.DataFrame:
    if isinstance(inputs, pd.DataFrame):
        if not inputs.columns.is_unique:
            raise BundleError(f"the column {inputs.columns[inputs.columns.duplicated()][0]!r} is there twice.")
        return inputs.rename(columns=str)
    if isinstance(inputs, (str, bytes, Mapping)) or not hasattr(inputs, "__len__"):
        raise BundleError(f"raw inputs are a batch: a DataFrame, dicts or texts; got one {type(inputs).__name__}.")
    rows = list(inputs)
    if not rows or not isinstance(rows[0], Mapping):
        return pd.DataFrame({"text": pd.Series(rows, dtype=object)})
    # As a table, a row that lacks a key would borrow the column from its neighbours.
    other = [at for at, row in enumerate(rows) if not isinstance(row, Mapping) or set(row) != set(rows[0])]
    if other:
        raise BundleError(f"row {other[0]} has other keys than row 0: send all rows with the same ones.")
    return pd.DataFrame(rows).rename(columns=str)


def _versions() -> dict[str, str]:
    others = {name: version(name) for name in ("keras", "numpy", "scikit-learn", "skops")}
    return {"python": sys.version.split()[0], "tensorflow": tf.__version__, **others}
