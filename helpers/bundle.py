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
import os
import platform
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import skops.io
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from skops.io.exceptions import UntrustedTypesFoundException

from helpers.decisions import check_probabilities
from helpers.notebook import UserError, first_line, plain_values, some, write_text
from helpers.parity import ParityReport, compare

__all__ = ["TRUSTED", "Bundle", "BundleError", "Field", "load_bundle", "save_bundle"]

TRUSTED = [
    "numpy.dtype",  # a description of memory; ColumnTransformer keeps those of its columns
    "sklearn.calibration._CalibratedClassifier",  # a fitted classifier beside its calibrators, no code
    "sklearn.calibration._SigmoidCalibration",  # two numbers
    "sklearn.calibration._TemperatureScaling",  # one number
    "sklearn.tree._tree.Tree",  # arrays of nodes; scikit-learn checks their form when it restores them
]
"""What skops may restore beyond its own list. Reviewed by hand: never fill it from ``get_untrusted_types``."""

FORMAT = 1
TOLERANCE = 1e-5
"""By how much a golden probability may differ: more than float32 models do between processors."""
MOST_CATEGORIES = 200
MOST_CONFIG = 50_000_000
CHUNK = 8192

_MODEL, _BEFORE, _AFTER = "model.keras", "preprocessing.skops", "calibrator.skops"
_GOLDEN, _MANIFEST, _SUMS = "golden.json", "manifest.json", "SHA256SUMS"
_REQUIRED = (_MODEL, _GOLDEN, _MANIFEST)
_OPTIONAL = (_BEFORE, _AFTER)


class BundleError(UserError):
    """A bundle that is not loaded, or rows that it does not take."""


@dataclass(frozen=True)
class Field:
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
    def from_json(cls, entry: dict[str, Any]) -> Field:
        """Make a field of what a manifest says; ValueError if it contradicts itself."""
        field = cls(
            name=str(entry["name"]),
            kind=entry["kind"],
            missing=bool(entry["missing"]),
            low=float(entry["low"]),
            high=float(entry["high"]),
            categories=tuple(map(str, entry["categories"])),
        )
        plain = isinstance(entry["missing"], bool) and isinstance(entry["categories"], list)
        if not plain or field.kind not in ("number", "category", "text") or field.dtype != entry["dtype"]:
            raise ValueError(f"{field.name!r} is a {field.kind!r} of dtype {entry['dtype']!r}")
        if not field.low <= field.high:
            raise ValueError(f"the range of {field.name!r} is {field.low} to {field.high}")
        return field

    @classmethod
    def of(cls, column: pd.Series[Any]) -> Field:
        """Describe a checked column of training rows."""
        name, known, missing = str(column.name), column.dropna(), bool(column.isna().any())
        if column.dtype == np.float64:
            low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
            return cls(name, "number", missing, low, high)
        categories = sorted(set(known))
        if len(categories) <= min(MOST_CATEGORIES, max(20, len(known) / 2)):
            return cls(name, "category", missing, categories=tuple(categories))
        lengths = known.map(len)
        return cls(name, "text", missing, float(lengths.min()), float(lengths.max()))

    def checked(self, column: pd.Series[Any]) -> pd.Series[Any]:
        """Return the column in the field's dtype, or raise a `BundleError`; missing values become NaN."""
        if self.kind == "number":
            if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
                column = column.astype(object)
                column = column.where(column.notna(), np.nan)
            bad = [value for value in column if not _is_number(value)] if column.dtype == object else []
            if not bad:
                numbers = pd.Series(column.to_numpy(np.float64, na_value=np.nan), column.index, name=self.name)
                bad = numbers[np.isinf(numbers)].tolist()
            if bad:
                raise BundleError(f"{self.name!r} takes finite numbers; got {bad[0]!r:.60}.")
            return numbers
        bad = [value for value in column.dropna() if not _is_text(value)]
        if bad:
            raise BundleError(
                f"{self.name!r} takes str of valid Unicode; got {bad[0]!r:.60} ({type(bad[0]).__name__})."
            )
        return column.astype(object).where(column.notna(), np.nan)

    def unseen(self, column: pd.Series[Any]) -> str:
        """Say how many checked values are unlike those in training; empty if none."""
        known = column.dropna()
        if self.kind == "category":
            outside, limits = ~known.isin(self.categories), "not among the categories of training"
        else:
            size, unit = (known, "") if self.kind == "number" else (known.map(len), " characters")
            outside, limits = (size < self.low) | (size > self.high), f"outside {self.low:g} to {self.high:g}{unit}"
        parts = []
        if outside.any():
            example = repr(known[outside].tolist()[0])
            parts.append(f"{outside.sum()} {limits}, such as {example[:60]}{'…' if len(example) > 60 else ''}")
        if column.isna().any() and not self.missing:
            parts.append(f"{column.isna().sum()} missing, which none was in training")
        return f"{self.name!r}: {'; '.join(parts)}" if parts else ""


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
        frame = _frame(inputs)
        lacking = [field.name for field in self.schema if field.name not in frame]
        if lacking:
            raise BundleError(
                f"the rows lack {', '.join(map(repr, lacking))}; they have: {', '.join(map(str, frame))}."
            )
        return pd.DataFrame({field.name: field.checked(frame[field.name]) for field in self.schema})

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
        return compare(lambda _: self.y_prob, lambda _: y_prob, self.golden, tolerance=TOLERANCE)

    def _predict(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        batch: Any
        if self.preprocessing is not None:
            batch = rows
            # Fitted without names of columns: on one column of texts, as a vectorizer is, or on an array.
            if not hasattr(self.preprocessing, "feature_names_in_"):
                texts = len(self.schema) == 1 and self.schema[0].dtype == "str"
                batch = rows.iloc[:, 0].fillna("") if texts else rows.to_numpy()
            batch = self.preprocessing.transform(batch)
            batch = batch.toarray() if sparse.issparse(batch) else np.asarray(batch)
        else:
            # TensorFlow has no missing string.
            columns = {field.name: rows[field.name] for field in self.schema}
            batch = {
                name: tf.constant(column if column.dtype == np.float64 else column.fillna("").tolist())
                for name, column in columns.items()
            }
            takes = [tensor.name for tensor in self.model.inputs]
            if len(takes) == 1:
                (batch,) = batch.values()
            elif not isinstance(self.model.input, dict):
                batch = [batch[name] for name in takes]
        output = self.model(batch, training=False)
        if isinstance(output, Mapping):
            if "probability" not in output:
                raise BundleError(f"the model must return 'probability'; it returns {some(list(output))}.")
            output = output["probability"]
        found = np.asarray(output, dtype=np.float64)
        one_each = found.shape in ((len(rows),), (len(rows), 1))
        if self.calibrator is None:
            if not one_each:
                raise BundleError(
                    f"the model must return one probability a row; {found.shape} came for {len(rows)} rows."
                )
            return found.reshape(-1)
        found = found.reshape(-1, 1) if one_each else found
        correct = getattr(self.calibrator, "predict_proba", None)
        return np.asarray(correct(found)[:, 1] if correct else self.calibrator.predict(found), dtype=np.float64)


def save_bundle(
    path: str | os.PathLike[str],
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
        What the path used in training gives for `golden`; the bundle must give the same to within 1e-5.
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
        Whatever makes `load_bundle` refuse it, or the path exists. Nothing is left behind; a process that is killed
        while saving leaves a hidden folder, ``.name.…``, which does not load.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model; got {type(model).__name__}.")
    path = Path(path).expanduser()
    if path.exists():
        raise BundleError(f"{str(path)!r} exists, and a bundle is never overwritten: choose another name.")
    if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
        raise ValueError(f"threshold must lie in [0, 1]; got {threshold!r}.")
    schema = _schema(_frame(X_train))
    expected = check_probabilities(y_prob).astype(np.float64)
    rows = _frame(golden)
    if not len(rows) == len(expected) > 0:
        raise ValueError(f"golden and y_prob must have the same length, at least 1; got {len(rows)}, {len(expected)}.")
    lacking = [field.name for field in schema if field.name not in rows]
    if lacking:
        raise BundleError(f"golden lacks {', '.join(map(repr, lacking))}.")
    columns = {
        field.name: [None if pd.isna(value) else value for value in field.checked(rows[field.name])] for field in schema
    }
    try:
        plain = plain_values(metrics or {})
    except (TypeError, ValueError) as error:
        raise ValueError(f"metrics: {error}") from error
    manifest = {
        "format": FORMAT,
        "schema": [{**vars(field), "dtype": field.dtype} for field in schema],
        "threshold": float(threshold),
        "seed": None if seed is None else int(seed),
        "metrics": plain,
        "versions": _versions(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        model.save(draft / _MODEL)
        for name, part in ((_BEFORE, preprocessing), (_AFTER, calibrator)):
            if part is not None:
                skops.io.dump(part, draft / name)
        write_text(draft / _GOLDEN, _json({"inputs": columns, "y_prob": expected.tolist()}))
        write_text(draft / _MANIFEST, _json(manifest))
        # Last: without it nothing is a bundle, so one that was torn never loads.
        write_text(draft / _SUMS, _sums({file.name: _sha256(file.read_bytes()) for file in draft.iterdir()}))
        bundle = load_bundle(draft)
        draft.chmod(0o755)
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return bundle


def load_bundle(path: str | os.PathLike[str], *, fingerprint: str | None = None) -> Bundle:
    """Load a bundle if nothing about it has changed and it still predicts what it must.

    Parameters
    ----------
    path : path-like
        The directory.
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
        not fit the model, or golden examples that no longer come out.
    """
    path = Path(path).expanduser()
    files, found = _verified(path)
    if fingerprint is not None:
        expected = str(fingerprint).strip().lower()
        if not re.fullmatch("[0-9a-f]{64}", expected):
            raise BundleError(f"a fingerprint has 64 hexadecimal digits; got {fingerprint!r:.80}.")
        if expected != found:
            raise BundleError(f"{path.name} has the fingerprint {found[:12]}…, not the expected {expected[:12]}….")
    try:
        manifest, examples = json.loads(files[_MANIFEST]), json.loads(files[_GOLDEN])
        if manifest["format"] != FORMAT or not 0 <= manifest["threshold"] <= 1 or not examples["y_prob"]:
            raise ValueError("another format, a threshold outside [0, 1], or no golden examples")
        schema = tuple(Field.from_json(entry) for entry in manifest["schema"])
        rows = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in examples["inputs"].items()})
        golden = pd.DataFrame({field.name: field.checked(rows[field.name]) for field in schema})
        y_prob = check_probabilities(examples["y_prob"]).astype(np.float64)
        if len(golden) != len(y_prob):
            raise ValueError(f"{len(golden)} golden inputs and {len(y_prob)} probabilities")
        versions = {str(name): str(was) for name, was in manifest["versions"].items()}
        rest = {name: manifest[name] for name in ("threshold", "seed", "metrics")}
        kinds = {"threshold": (int, float), "seed": (int, type(None)), "metrics": dict}
        for name, kind in kinds.items():
            if not isinstance(rest[name], kind) or isinstance(rest[name], bool):  # type: ignore[arg-type]
                raise ValueError(f"{name} is {rest[name]!r:.60}")
    except Exception as error:
        # Whatever a file of another form does to the lines above, it is refused.
        raise BundleError(f"{path.name} is no bundle of format {FORMAT}: {type(error).__name__}: {error}.") from error
    bundle = Bundle(
        model=_keras_model(files[_MODEL]),
        preprocessing=_part(files, _BEFORE),
        calibrator=_part(files, _AFTER),
        schema=schema,
        golden=golden,
        y_prob=y_prob,
        versions=versions,
        fingerprint=found,
        **rest,
    )
    _check_schema(bundle)
    try:
        report = bundle.replay()
    except BundleError as error:
        raise BundleError(f"the golden examples cannot be predicted: {error}") from error
    except Exception as error:
        raise BundleError(
            f"the golden examples cannot be predicted: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not report.same:
        here = _versions()
        other = [f"{name} {was}, here {here.get(name)}" for name, was in versions.items() if was != here.get(name)]
        hint = f" Saved with {'; '.join(other)}." if other else ""
        raise BundleError(
            f"{len(report.differing)} of {report.rows} golden examples do not come out as stored"
            f" (largest difference {report.max_difference:.3g}, allowed {TOLERANCE:g}).{hint}"
        )
    return bundle


def _verified(path: Path) -> tuple[dict[str, bytes], str]:
    """Return the files' bytes, each with the hash that SHA256SUMS names, and the fingerprint.

    Whatever is deserialised later is these bytes: a file that is exchanged meanwhile is not read.
    """
    if not path.is_dir():
        raise BundleError(f"no directory is at {str(path)!r}.")
    if not (path / _SUMS).is_file():
        raise BundleError(f"{path.name} has no {_SUMS}: it is no bundle, or one that was never finished.")
    sums = (path / _SUMS).read_bytes()
    lines = [line.partition("  ") for line in sums.decode("ascii", "replace").splitlines()]
    listed = {name: digest for digest, _, name in lines}
    if not set(_REQUIRED) <= set(listed) <= {*_REQUIRED, *_OPTIONAL}:
        raise BundleError(
            f"{_SUMS} of {path.name} is damaged: it must name {', '.join(_REQUIRED)}, and beyond them only"
            f" {' or '.join(_OPTIONAL)}."
        )
    files = {}
    for name in listed:
        if not (path / name).is_file():
            raise BundleError(f"{path.name} lacks {name}, which {_SUMS} names.")
        files[name] = (path / name).read_bytes()
        if _sha256(files[name]) != listed[name]:
            raise BundleError(f"{name} of {path.name} has changed since it was saved: its SHA-256 is another one.")
    for name in _OPTIONAL:
        if name not in listed and (path / name).exists():
            raise BundleError(f"{path.name} holds {name}, which {_SUMS} does not name.")
    if sums != _sums(listed).encode():
        raise BundleError(f"{_SUMS} of {path.name} has changed since it was saved.")
    return files, _sha256(sums)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sums(digests: Mapping[str, str]) -> str:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _keras_model(content: bytes) -> keras.Model:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.getinfo("config.json").file_size > MOST_CONFIG:
                raise ValueError("config.json is too large")
            config = json.loads(archive.read("config.json"))
        # The loss and the optimizer are not loaded.
        config.pop("compile_config", None)
        danger = _danger(config)
    except Exception as error:
        # Whatever a file of another form does to the lines above, it is refused.
        raise BundleError(f"{_MODEL} does not load: it is no file of Keras ({type(error).__name__}).") from error
    # Not left to Keras's safe mode: a call elsewhere in the process can switch that off for all.
    if danger:
        raise BundleError(f"{_MODEL} is not loaded: it holds {danger}.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _MODEL
        file.write_bytes(content)
        try:
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
        except Exception as error:
            # Keras wraps one message into another; the innermost names the cause.
            causes = re.findall("Exception encountered: (.+)", str(error))
            reason = causes[-1] if causes else first_line(error) or type(error).__name__
            reason = reason.replace(str(file), _MODEL).partition(". ")[0].rstrip(".")
            raise BundleError(f"{_MODEL} does not load: {reason}.") from error
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise BundleError(f"{_MODEL} is no model with known inputs, but a {type(model).__name__}.")
    return model


def _danger(config: Any) -> str:
    """Say what in a model's description runs code or reads files from elsewhere; empty if nothing does."""
    if isinstance(config, Mapping):
        name = str(config.get("class_name", "")).rpartition(".")[2]
        if name in ("Lambda", "__lambda__"):
            return "Python code in a Lambda layer; use a registered layer instead"
        if name in ("TFSMLayer", "TorchModuleWrapper"):
            return f"a {name}, which loads code from another place"
        if isinstance(config.get("vocabulary"), str):
            return f"a vocabulary in another file, {config['vocabulary']!r}; use a list of words instead"
        config = list(config.values())
    return next(filter(None, map(_danger, config)), "") if isinstance(config, list) else ""


def _part(files: Mapping[str, bytes], name: str) -> Any:
    if name not in files:
        return None
    try:
        return skops.io.loads(files[name], trusted=TRUSTED)
    except UntrustedTypesFoundException as error:
        types = ", ".join(re.findall(r"'([^']+)'", str(error)))
        raise BundleError(
            f"{name} holds {types}, which is not on the list of trusted types, bundle.TRUSTED; it is not loaded."
        ) from error
    except Exception as error:
        raise BundleError(
            f"{name} is no file of skops and is not loaded ({type(error).__name__}); a pickle never is."
        ) from error


def _check_schema(bundle: Bundle) -> None:
    names = [field.name for field in bundle.schema]
    if bundle.preprocessing is not None:
        takes = list(getattr(bundle.preprocessing, "feature_names_in_", names))
        if takes != names:
            raise _misfit("the preprocessing", names, takes)
        return
    wants = {tensor.name: tensor.dtype for tensor in bundle.model.inputs}
    if len(wants) == len(names) == 1:
        # The name of a single input is nobody's business: it is fed without one.
        wants = dict(zip(names, wants.values(), strict=True))
    if set(wants) != set(names):
        raise _misfit("the model", names, list(wants))
    for field in bundle.schema:
        if (wants[field.name] == "string") != (field.dtype == "str"):
            raise BundleError(
                f"the schema does not fit the model: {field.name!r} is {field.dtype}, not {wants[field.name]}."
            )


def _misfit(whose: str, names: Sequence[str], takes: Sequence[str]) -> BundleError:
    return BundleError(f"the schema does not fit {whose}: it names {some(names)}, {whose} takes {some(takes)}.")


def _is_number(value: Any) -> bool:
    """Whether a value is a real number that a float can hold; NaN is."""
    try:
        return isinstance(value, (Real, np.bool_)) and not math.isinf(value)
    except OverflowError:
        return False


def _is_text(value: Any) -> bool:
    """Whether a value is a string that can be encoded; one with half of a surrogate pair cannot."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _frame(inputs: Any) -> pd.DataFrame:
    if isinstance(inputs, pd.DataFrame):
        twice = inputs.columns[inputs.columns.duplicated()]
        if len(twice):
            raise BundleError(f"the column {twice[0]!r} is there twice.")
        return inputs.rename(columns=str)
    if isinstance(inputs, (str, bytes, Mapping)) or not hasattr(inputs, "__len__"):
        raise BundleError(f"raw inputs are a batch: a DataFrame, dicts or texts; got one {type(inputs).__name__}.")
    rows = list(inputs)
    if rows and isinstance(rows[0], Mapping):
        for number, row in enumerate(rows):
            # As a table, a row that lacks a key would borrow the column from its neighbours.
            if not isinstance(row, Mapping) or set(row) != set(rows[0]):
                raise BundleError(f"row {number} has other keys than row 0: send all rows with the same ones.")
        return pd.DataFrame(rows).rename(columns=str)
    return pd.DataFrame({"text": pd.Series(rows, dtype=object)})


def _schema(frame: pd.DataFrame) -> list[Field]:
    fields = []
    for name in frame:
        number = pd.api.types.is_numeric_dtype(frame[name])
        fields.append(Field.of(Field(str(name), "number" if number else "text", False).checked(frame[name])))
    if not fields or frame.empty:
        raise BundleError("X_train has no rows or no columns: the schema is made from it.")
    return fields


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        **{name: version(name) for name in ("keras", "numpy", "scikit-learn", "skops")},
    }


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
