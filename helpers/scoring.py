"""Score tables that are larger than memory, block by block, so that a run that is killed can be resumed.

The gap: libraries read in pieces, and Keras predicts arrays, but nothing between them keeps each row's number, leaves
no half file behind, and goes on after an interruption without scoring a row twice or losing one.

The result is a folder of Parquet files, one for each block of rows. Each is written under a temporary name and renamed,
and carries a key of input, model and block size: the files that are there *are* the state of the run. ``_SUCCESS`` is
written last. Readers of Parquet folders skip names that begin with a dot or an underscore.

``python -m helpers.scoring --help`` shows it as a command.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from tqdm import tqdm

from helpers.notebook import ENVIRONMENT, UserError, first_line, some, write_text
from helpers.tables import AnyPath, existing_path, is_parquet, require

BLOCK_ROWS = 65_536
CSV_BYTES = 1 << 20  # read at a time; a line must fit into it
ROW, KEY, DONE = "row_number", b"scoring_key", "_SUCCESS"
Columns = dict[str, pa.DataType]
Score = Callable[[pa.Table], dict[str, Any]]


def source_files(source: AnyPath) -> list[Path]:
    """Return a file, or a folder's CSV and Parquet files in the order of their names; UserError if there is none."""
    path = existing_path(source, "source")
    files = sorted(file for file in path.glob("[!._]*") if is_parquet(file) or ".csv" in file.suffixes)
    require(files or path.is_file(), f"{path.name} holds no CSV and no Parquet file.")
    return files if path.is_dir() else [path]


def read_header(file: Path) -> tuple[list[str], str]:
    """Return the names of a table's columns and what separates them, from its head alone."""
    if is_parquet(file):
        return list(pq.read_schema(file).names), ""
    with pa.input_stream(file, compression="detect") as stream:
        line = stream.read(CSV_BYTES).decode("utf-8-sig", errors="replace").split("\n")[0].rstrip("\r")
    separator = max(",;\t|", key=line.count)
    return next(csv.reader([line], delimiter=separator)), separator


def numeric_columns(file: Path) -> list[str]:
    """Return the names of the columns that hold numbers; a CSV is judged by its first rows."""
    names, separator = read_header(file)
    if separator:
        parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
        with pa.csv.open_csv(file, pa.csv.ReadOptions(column_names=names, skip_rows=1), parse) as reader:
            schema = reader.schema
    else:
        schema = pq.read_schema(file)
    return [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]


def _pieces(file: Path, columns: Columns) -> Iterator[tuple[int, Iterable[pa.RecordBatch]]]:
    """Yield a number of rows, as far as it is known before they are read, and how to read them."""
    names, separator = read_header(file)
    for name in columns:
        found = names.count(name)
        require(found == 1, f"{file.name} has {found} columns {name!r} and needs one; it has {some(names)}.")
    if separator:
        convert = pa.csv.ConvertOptions(column_types=columns, include_columns=list(columns))
        parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
        yield 0, pa.csv.open_csv(file, pa.csv.ReadOptions(use_threads=False, block_size=CSV_BYTES), parse, convert)
        return
    with pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            yield rows, parquet.iter_batches(BLOCK_ROWS, row_groups=[group], columns=list(columns))


def _batches(files: Sequence[Path], columns: Columns, start: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows from number `start` on, their columns by name and in the given types."""
    seen = 0
    for file in files:
        try:
            for rows, batches in _pieces(file, columns):
                if 0 < rows <= start - seen:
                    seen += rows
                    continue
                for batch in batches:
                    if seen + len(batch) > start:
                        late = batch.slice(max(0, start - seen))
                        cast = [late[name].cast(kind, safe=False) for name, kind in columns.items()]
                        yield pa.RecordBatch.from_arrays(cast, names=list(columns))
                    seen += len(batch)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError) as error:
            raise UserError(f"{file.name}, after row {seen}: {first_line(error)}; correct the file.") from None


def read_blocks(
    files: Sequence[Path], columns: Columns, block_rows: int = BLOCK_ROWS, first: int = 0
) -> Iterator[tuple[int, pa.Table]]:
    """Read tables as blocks of equal length, which go across row groups and files.

    Parameters
    ----------
    files : sequence of Path
        CSV or Parquet, one after the other; rows are counted from 0 on through all of them.
    columns : dict of str to pyarrow.DataType
        What is read, by name, and as what: columns may stand in another order, or have another type, in each file.
    block_rows : int
    first : int
        The block to begin with. Row groups of Parquet before it are not read; a CSV is read from its beginning.

    Yields
    ------
    tuple of int and pyarrow.Table
        The number of a block, and its rows.

    Raises
    ------
    UserError
        A column is missing, or a value is not of its type.
    """
    held, number = list[pa.RecordBatch](), first
    for batch in _batches(files, columns, first * block_rows):
        held.append(batch)
        while sum(map(len, held)) >= block_rows:
            table = pa.Table.from_batches(held)
            yield number, table.slice(0, block_rows)
            held, number = table.slice(block_rows).to_batches(), number + 1
    if any(map(len, held)):
        yield number, pa.Table.from_batches(held)


def read_ahead(items: Iterable[Any]) -> Iterator[Any]:
    """Yield items, the next one being made in a thread meanwhile: ``prefetch(1)`` of tf.data, which changes errors."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, iterator, end)
            yield item


def load_scorer(model_path: AnyPath, features: Sequence[str]) -> Score:
    """Return a compiled function from a table to the model's outputs, one column each.

    Raises
    ------
    UserError
        The model does not take as many numbers as there are features.
    """
    os.environ.update({**ENVIRONMENT, **os.environ})
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(existing_path(model_path, "model_path"), compile=False)
    given = getattr(model, "input", 0)  # A list or a dict of one input is called with such a one.
    shapes, needed = [tuple(one.shape) for one in model.inputs], f"{len(features)} features are given"
    require(shapes == [(None, len(features))], f"the model takes {shapes}, {needed}: name those that it has learnt.")

    # Columns lie one after the other in memory: TensorFlow turns them into rows, faster than NumPy does.
    @tf.function(input_signature=[tf.TensorSpec((len(features), None))])
    def compiled(columns: Any) -> Any:
        rows = tf.transpose(columns)
        outputs = model(keras.tree.pack_sequence_as(given, [rows]), training=False)
        if isinstance(outputs, (list, tuple)):
            outputs = {f"prediction_{number}": value for number, value in enumerate(outputs)}
        named = outputs if isinstance(outputs, dict) else {"prediction": outputs}
        return {name: tf.reshape(value, (tf.shape(value)[0], -1)) for name, value in named.items()}

    def score(table: pa.Table) -> dict[str, Any]:
        outputs = compiled(np.stack([table[name].to_numpy() for name in features]))
        flat = {name: value.numpy().T for name, value in outputs.items()}
        return {
            name if len(rows) == 1 else f"{name}_{number}": row
            for name, rows in flat.items()
            for number, row in enumerate(rows)
        }

    return score


def finished_blocks(folder: Path, key: str, block_rows: int) -> set[int]:
    """Return the numbers of the blocks that are there, whole; UserError if they are of another input or model."""
    found = set()
    for part in folder.glob("part-*.parquet"):
        try:
            footer = pq.read_metadata(part)
        except (OSError, pa.ArrowInvalid):
            continue  # Cut off by a disk that was full, or copied in part: it is scored again.
        theirs = json.loads(dict(footer.metadata or {}).get(KEY, b"{}"))
        differs = [name for name, value in json.loads(key).items() if theirs.get(name) != value]
        other = f"{folder.name} holds scores of another run (other {', '.join(differs)})"
        require(not differs, f"{other}: name another folder, or empty this one to start anew.")
        if footer.num_rows == block_rows:
            found.add(int(part.stem.removeprefix("part-")))
    return found


def write_part(folder: Path, number: int, table: pa.Table, key: str) -> None:
    """Write the scores of one block, whole or not at all."""
    part = folder / f"part-{number:06}.parquet"
    draft = part.with_name(f".{part.name}.{uuid.uuid4().hex}")  # Two hosts may have processes of one number.
    try:
        pq.write_table(table.replace_schema_metadata({KEY: key}), draft, use_dictionary=False)
        os.replace(draft, part)
    finally:
        draft.unlink(missing_ok=True)


def count_rows(folder: AnyPath) -> int:
    """Count the rows of all parts; RuntimeError if a row number is missing, or stands there twice."""
    rows = 0
    for part in sorted(existing_path(folder, "folder").glob("part-*.parquet")):
        numbers = pq.read_table(part, columns=[ROW])[ROW].to_numpy()
        if not np.array_equal(numbers, np.arange(rows, rows + len(numbers))):
            raise RuntimeError(f"{part.name} does not begin with row {rows}, or skips one: score again.")
        rows += len(numbers)
    return rows


def run_key(files: Sequence[Path], model_path: AnyPath, columns: Columns, block_rows: int) -> str:
    """Return, as JSON, what must be equal for parts of two runs to belong together.

    Of a file its name, size and time of change are compared, for reading it all would take as long as scoring it.
    """
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(existing_path(model_path, "model_path").read_bytes()).hexdigest()
    types = [(name, str(kind)) for name, kind in columns.items()]
    return json.dumps({"input": stats, "model": digest, "columns": types, "block_rows": block_rows})


@dataclass(frozen=True)
class Job:
    """What a run scores, and where its parts go: all that a worker has to know, in this process or on another host.

    Attributes
    ----------
    files : list of Path
    model_path, folder : Path
    features : list of str
        In the model's order.
    columns : dict of str to pyarrow.DataType
        What is read: the features, and the id if there is one.
    id_column : str
    block_rows : int
    key : str
        As from `run_key`.
    """

    files: list[Path]
    model_path: Path
    folder: Path
    features: list[str]
    columns: Columns
    id_column: str
    block_rows: int
    key: str

    def finished(self) -> bool:
        """Tell whether such a run came to its end in this folder."""
        mark = self.folder / DONE
        return mark.exists() and mark.read_text(encoding="utf-8") == self.key

    def write(self, number: int, table: pa.Table, score: Score) -> None:
        """Score a block, and write its part."""
        scored = {ROW: np.arange(len(table)) + number * self.block_rows, **score(table)}
        if self.id_column:
            scored[self.id_column] = table[self.id_column]
        write_part(self.folder, number, pa.table(scored), self.key)

    def finish(self, expected: int | None = None) -> int:
        """Count the rows as `count_rows` does, compare with what is expected, and mark the folder as finished."""
        rows = count_rows(self.folder)
        if expected not in (None, rows):
            raise RuntimeError(f"{self.folder.name} has {rows} of {expected} rows: score again.")
        write_text(self.folder / DONE, self.key)
        return rows


def plan(
    source: AnyPath,
    model_path: AnyPath,
    folder: AnyPath,
    features: Sequence[str] = (),
    *,
    id_column: str = "",
    block_rows: int = BLOCK_ROWS,
) -> Job:
    """Return what `score_file` would do, its parameters and errors; the folder is made."""
    files, folder = source_files(source), Path(folder).expanduser().absolute()
    features = list(features) or [name for name in numeric_columns(files[0]) if name != id_column]
    columns = dict.fromkeys(features, pa.float32())
    if id_column:
        known = pq.read_schema(files[0]) if is_parquet(files[0]) else pa.schema([])
        columns[id_column] = dict(zip(known.names, known.types, strict=True)).get(id_column, pa.string())
    key = run_key(files, model_path, columns, block_rows)
    folder.mkdir(parents=True, exist_ok=True)
    files, model_path = [file.absolute() for file in files], existing_path(model_path).absolute()
    return Job(files, model_path, folder, features, columns, id_column, block_rows, key)


def score_file(
    source: AnyPath,
    model_path: AnyPath,
    folder: AnyPath,
    features: Sequence[str] = (),
    *,
    id_column: str = "",
    block_rows: int = BLOCK_ROWS,
) -> int:
    """Score a CSV or Parquet file, or a folder of them, into a folder of Parquet files; call again to resume.

    Parameters
    ----------
    source, model_path : path-like
        The tables, and a ``.keras`` file whose one input takes the features.
    folder : path-like
        Receives the scores; made if it is missing. Parts of the same run that are there are kept.
    features : sequence of str
        The columns that the model takes, in the order in which it has learnt them; empty: all `numeric_columns` of the
        first file but the id.
    id_column : str
        A column that is copied beside the scores; empty: none but the row's number.
    block_rows : int
        Rows that are scored at once. Memory grows with it, and float32 outputs depend on it in their last digits.

    Returns
    -------
    int
        The number of rows, each of which was found exactly once in the parts.

    Raises
    ------
    UserError
        As in `read_blocks` and `load_scorer`; the folder holds parts of another run.
    """
    job = plan(source, model_path, folder, features, id_column=id_column, block_rows=block_rows)
    done = finished_blocks(job.folder, job.key, job.block_rows)
    if not job.finished():
        score = load_scorer(job.model_path, job.features)
        first = next(number for number in range(len(done) + 1) if number not in done)
        blocks = read_ahead(read_blocks(job.files, job.columns, job.block_rows, first))
        # Silent where nobody looks: in a file, a notebook, a job.
        with tqdm(unit=" rows", unit_scale=True, initial=first * job.block_rows, disable=None) as bar:
            for number, table in blocks:
                if number not in done:
                    job.write(number, table, score)
                bar.update(len(table))
    return job.finish()


def main(score: Callable[..., int] = score_file, **more: Any) -> None:
    """Score from the command line; `more` are options with their defaults."""
    parser = argparse.ArgumentParser(description=(score.__doc__ or "").split("\n")[0])
    for name in ("source", "model_path", "folder"):
        parser.add_argument(name)
    parser.add_argument("--features", nargs="*", default=[], metavar="COLUMN", help="in the model's order")
    parser.add_argument("--id-column", default="", metavar="COLUMN")
    for name, default in {"block_rows": BLOCK_ROWS, **more}.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    try:
        print(f"{score(**vars(parser.parse_args())):,} rows, each exactly once")
    except (OSError, UserError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
