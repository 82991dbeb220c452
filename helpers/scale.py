"""Score a table in several processes or on several hosts: each row exactly once, equal to one process to the bit.

The gap: joblib knows nothing of what is done, and Ray Data repeats what a dead worker left, but its batches follow from
how rows were shared, and a run that is started again begins anew. Here what is shared are numbers of blocks, which
`helpers.scoring` reads, scores and writes: whoever scores a block, and however often, writes the same part.

Ray is not in ``requirements.txt``: ``make scale`` installs it. ``python -m helpers.scale --help`` shows the command.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from helpers.notebook import ENVIRONMENT, ROOT, UserError, first_line, shown
from helpers.scoring import BLOCK_ROWS, Job, finished_blocks, load_scorer, main, plan, read_blocks
from helpers.tables import AnyPath, is_parquet, require

# Read when Ray is imported and started: it reports to nobody, and a slow machine gets its time. Ray nices its workers:
# on a machine that does something else they would hardly get on.
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "60", "RAY_worker_niceness": "0"}
# What jsonschema imports if it is there: a grammar of addresses, built anew for seconds in each of Ray's ten processes,
# for one of which the raylet waits 15 seconds and then ends (ray#65983). Ray asks for no address.
SLOW = "rfc3987_syntax"
TOGETHER = 16
"""Blocks that a worker takes at a time, where there are many: it reads a row group that holds several only once."""


@contextmanager
def ray_cluster(address: str = "", workers: int = 0) -> Iterator[Any]:
    """Join a cluster, or start one on this machine, and leave it at the end of the block.

    Parameters
    ----------
    address : str
        ``host:port`` of a cluster's head, or ``auto``; empty: a cluster of this process's own. If Ray is running in
        this process, it is used as it is and left alone.
    workers : int
        Processors that an own cluster may use; 0: all.

    Yields
    ------
    module
        ``ray``.

    Raises
    ------
    UserError
        Ray is not installed, or no cluster answers.
    """
    _require_listener(address)
    os.environ.update({**RAY, **os.environ})
    with quick_imports() as paths:
        try:
            import ray.data
        except ModuleNotFoundError as error:
            raise UserError(f"{error.name} is missing; `make scale` installs it.") from None
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        logging.getLogger("ray.serve").disabled = True
        ray.data.DataContext.get_current().enable_progress_bars = False
        if ray.is_initialized():
            yield ray
            return
        # Workers find the packages where they are not installed, and compute as every other runner does.
        options: dict[str, Any] = {"runtime_env": {"env_vars": {**ENVIRONMENT, "PYTHONPATH": paths}}}
        options |= {"logging_level": logging.ERROR, "log_to_driver": False}
        options |= {} if address else {"num_cpus": workers or None, "include_dashboard": False}
        for last in (False, True):
            try:
                ray.init(address or "local", **options)
                break
            except Exception as error:  # Of a node that does not start in time Ray raises no other.
                ray.shutdown()
                remedy = "a cluster that asks for a token needs RAY_AUTH_MODE=token here" if address else "try again"
                # On a busy machine Ray's own 15 seconds may not be enough; the files that it reads are then in memory.
                if last or address:
                    raise UserError(f"Ray does not start: {remedy} ({first_line(error)}).") from None
        try:
            yield ray
        finally:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse an address at which nobody listens: Ray itself tries for minutes, and prints its log."""
    if address in ("", "auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        remedy = "start one with `ray start --head`, and give its host:port"
        raise UserError(f"no Ray cluster answers at {shown(address)}: {remedy} ({first_line(error)}).") from None


@contextmanager
def quick_imports() -> Iterator[str]:
    """Keep `SLOW` from being imported, here and in processes that are begun; yield where those find packages."""
    modules: dict[str, Any] = sys.modules
    before = os.environ.get("PYTHONPATH", "")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{SLOW}.py").write_text("raise ImportError", encoding="utf-8")
        hidden = modules.setdefault(SLOW, None) is None
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, str(ROOT), before]))
        try:
            yield os.environ["PYTHONPATH"]
        finally:
            os.environ["PYTHONPATH"] = before
            if hidden:
                del modules[SLOW]


class BlockScorer:
    """Scores blocks by their numbers; ``map_batches`` makes one for each worker, so the model is loaded once."""

    def __init__(self, job: Job) -> None:
        self.job, self.score = job, load_scorer(job.model_path, job.features)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Score and write the blocks with the numbers in ``batch["item"]``; return them as they came."""
        wanted = set(batch["item"].tolist())
        for number, table in read_blocks(self.job.files, self.job.columns, self.job.block_rows, min(wanted)):
            if number in wanted:
                self.job.write(number, table, self.score)
            if number >= max(wanted):
                break
        return batch


def _to_do(job: Job) -> tuple[int, list[int]]:
    """Return the number of rows, and the numbers of the blocks that are not scored yet."""
    for file in job.files:
        before = "in a CSV each worker would read all that stands before its rows"
        require(is_parquet(file), f"{file.name} is no Parquet, and {before}: use score_file, or convert it.")
    rows = sum(pq.read_metadata(file).num_rows for file in job.files)
    done = finished_blocks(job.folder, job.key, job.block_rows)
    every = range(0 if job.finished() else math.ceil(rows / job.block_rows))
    return rows, [number for number in every if number not in done]


def _shared(numbers: list[int], workers: int) -> list[list[int]]:
    """Return the blocks in tasks: several in each, but not so many that one worker has the last ones alone."""
    size = max(1, min(TOGETHER, len(numbers) // (4 * workers)))
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def score_in_processes(
    source: AnyPath,
    model_path: AnyPath,
    folder: AnyPath,
    features: Sequence[str] = (),
    *,
    id_column: str = "",
    block_rows: int = BLOCK_ROWS,
    workers: int = 0,
) -> int:
    """Score Parquet files as `helpers.scoring.score_file` does, in several processes; call again to resume.

    joblib starts them on this machine; under ``joblib.parallel_config(backend="dask")`` they are a cluster's.

    Parameters
    ----------
    source, model_path, folder, features, id_column, block_rows
        As in `helpers.scoring.score_file`; on several hosts, paths that all of them see.
    workers : int
        Processes, each of which loads the model once; 0: as many as there are processors.

    Returns
    -------
    int
        The number of rows, each of which was found exactly once in the parts.

    Raises
    ------
    UserError
        As in `helpers.scoring.score_file`; a file is no Parquet.
    RuntimeError
        A process was killed: what is scored stays.
    """
    job = plan(source, model_path, folder, features, id_column=id_column, block_rows=block_rows)
    rows, numbers = _to_do(job)
    tasks = _shared(numbers, workers or joblib.cpu_count())
    with tqdm(unit=" blocks", total=len(numbers), disable=None) as bar:
        run = joblib.Parallel(workers or -1, return_as="generator_unordered", batch_size=1)
        try:
            for scored in run(joblib.delayed(_score)(job, np.array(task)) for task in tasks):
                bar.update(scored)
        except joblib.externals.loky.process_executor.TerminatedWorkerError:
            raise RuntimeError(
                "a process was killed, perhaps for its memory; call again: what is scored stays."
            ) from None
    return job.finish(rows)


_scorers: dict[str, BlockScorer] = {}


def _score(job: Job, numbers: np.ndarray) -> int:
    """Score in a process that keeps the model for the next call."""
    if job.key not in _scorers:
        _scorers.clear()
        _scorers[job.key] = BlockScorer(job)
    return len(_scorers[job.key]({"item": numbers})["item"])


def score_with_ray(
    source: AnyPath,
    model_path: AnyPath,
    folder: AnyPath,
    features: Sequence[str] = (),
    *,
    id_column: str = "",
    block_rows: int = BLOCK_ROWS,
    workers: int = 0,
    address: str = "",
) -> int:
    """Score Parquet files as `helpers.scoring.score_file` does, on the workers of a Ray cluster; call again to resume.

    Parameters
    ----------
    source, model_path, folder, features, id_column, block_rows
        As in `helpers.scoring.score_file`; on several hosts, paths that all of them see.
    workers : int
        Processes, each of which loads the model once; 0: as many as the cluster has processors.
    address : str
        As in `ray_cluster`.

    Returns
    -------
    int
        The number of rows, each of which was found exactly once in the parts.

    Raises
    ------
    UserError
        As in `helpers.scoring.score_file` and `ray_cluster`; a file is no Parquet.
    """
    job = plan(source, model_path, folder, features, id_column=id_column, block_rows=block_rows)
    rows, numbers = _to_do(job)
    if numbers:
        with ray_cluster(address, workers) as ray, tqdm(unit=" blocks", total=len(numbers), disable=None) as bar:
            workers = workers or int(ray.cluster_resources()["CPU"])
            tasks = _shared(numbers, workers)
            pool = ray.data.ActorPoolStrategy(size=min(workers, len(tasks)))
            blocks = ray.data.from_items(numbers, override_num_blocks=len(tasks))
            scored = blocks.map_batches(BlockScorer, fn_constructor_args=[job], batch_size=len(tasks[0]), compute=pool)
            try:
                for batch in scored.iter_batches(batch_size=None):
                    bar.update(len(batch["item"]))
            except ray.exceptions.RayTaskError as error:
                raise UserError(first_line(error.cause.__cause__ or error.cause)) from error
    return job.finish(rows)


if __name__ == "__main__":
    main(score_with_ray, workers=0, address="")
