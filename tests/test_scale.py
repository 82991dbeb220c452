"""Blocks of scoring on a Ray cluster: on this machine, and on several hosts of which one loses its power."""

import os
import shutil
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import hosts
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import scale, scoring
from helpers.notebook import UserError

ROWS, BLOCK = 20_000, 64
OPTIONS = {"features": ["a", "b"], "id_column": "name", "block_rows": BLOCK}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with rows in two files, a model, and what one process scores."""
    import keras

    folder = tmp_path_factory.mktemp("scale")
    (folder / "rows").mkdir()
    random, start = np.random.default_rng(0), 0
    for name, count, group in (("1.parquet", 7_001, 1000), ("2.parquet", ROWS - 7_001, 50_000)):
        columns = {one: random.standard_normal(count).astype(np.float32) for one in "ba"}
        names = [f"row {row}" for row in range(start, start + count)]
        pq.write_table(pa.table({"name": names, **columns}), folder / "rows" / name, row_group_size=group)
        start += count
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dense(1, "sigmoid")]
    keras.Sequential([keras.Input((2,)), *layers]).save(folder / "model.keras")
    scoring.score_file(folder / "rows", folder / "model.keras", folder / "one", **OPTIONS)
    return folder


@pytest.fixture(scope="module")
def ray(needs_scale):
    with scale.ray_cluster(workers=2) as ray:
        yield ray


def test_workers_report_to_nobody_and_skip_a_grammar_that_ray_never_reads(ray):
    """With it, Ray's parts start late, and on a busy machine the cluster not at all."""

    def look():
        return os.environ["RAY_USAGE_STATS_ENABLED"], "rfc3987_syntax" in sys.modules, os.nice(0)

    assert ray.get(ray.remote(look).remote()) == ("0", False, os.nice(0))
    assert find_spec("rfc3987_syntax"), "it is there for others"


def assert_as_one_process(folder, scores):
    parts = sorted(path.name for path in (folder / "one").glob("part-*"))
    assert sorted(path.name for path in scores.glob("part-*")) == parts
    for name in parts:
        assert pq.read_table(scores / name) == pq.read_table(folder / "one" / name), name
    assert pq.read_table(scores)["name"].to_pylist() == [f"row {row}" for row in range(ROWS)]


def start_killer(scores, name):
    """Kill one process whose command has this in it as soon as five more parts are there; return whom it killed."""
    before, killed = len(list(scores.glob("part-*"))), []

    def kill():
        while len(list(scores.glob("part-*"))) < before + 5:
            time.sleep(0.002)
        for process in psutil.Process().children(recursive=True):
            if name in " ".join(process.cmdline()):
                killed.append(process.pid)
                process.kill()
                return

    threading.Thread(target=kill, daemon=True).start()
    return killed


def test_what_is_missing_or_unsuitable_is_told_before_anything_starts(folder, tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"rows.csv is no Parquet, .*: use score_file, or convert it"):
        scale.score_with_ray(tmp_path / "rows.csv", folder / "model.keras", tmp_path / "scores", ["a", "b"])
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(UserError, match="`make scale` installs"):
        scale.score_with_ray(folder / "rows", folder / "model.keras", tmp_path / "scores", **OPTIONS)


def test_processes_of_joblib_are_killed_and_called_again(folder, tmp_path):
    scores = tmp_path / "scores"
    killed = start_killer(scores, "popen_loky")
    with pytest.raises(RuntimeError, match=r"a process was killed, .*; call again"):
        scale.score_in_processes(folder / "rows", folder / "model.keras", scores, workers=2, **OPTIONS)
    assert killed
    assert not (scores / "_SUCCESS").exists()
    kept = {part: part.stat().st_mtime_ns for part in scores.glob("part-*")}
    assert scale.score_in_processes(folder / "rows", folder / "model.keras", scores, workers=2, **OPTIONS) == ROWS
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    assert_as_one_process(folder, scores)
    assert scale.score_in_processes(folder / "rows", folder / "model.keras", scores, **OPTIONS) == ROWS


def test_a_worker_is_killed_and_every_row_is_there_once_as_from_one_process(folder, tmp_path, ray):
    scores = tmp_path / "scores"
    scores.mkdir()
    # A run that was interrupted has left some; they stay.
    left = [scores / f"part-{number:06}.parquet" for number in (0, 1, 7, 200)]
    for part in left:
        shutil.copy2(folder / "one" / part.name, part)
    when = [path.stat().st_mtime_ns for path in left]

    killed = start_killer(scores, "BlockScorer")
    assert scale.score_with_ray(folder / "rows", folder / "model.keras", scores, **OPTIONS) == ROWS
    assert killed
    assert_as_one_process(folder, scores)
    assert [path.stat().st_mtime_ns for path in left] == when


def test_a_fault_in_a_file_is_one_sentence_and_what_is_scored_stays(folder, tmp_path, ray):
    texts = pa.table({"name": ["x"] * 300, "a": ["1"] * 299 + ["late"], "b": ["2"] * 300})
    pq.write_table(texts, tmp_path / "rows.parquet", row_group_size=100)
    with pytest.raises(UserError, match=r"^rows.parquet, after row 200: .*'late'.*; correct the file\.$"):
        scale.score_with_ray(tmp_path / "rows.parquet", folder / "model.keras", tmp_path / "scores", **OPTIONS)
    assert not (tmp_path / "scores" / "_SUCCESS").exists()


def test_ray_reports_to_nobody(ray, monkeypatch):
    from ray._common.usage import usage_lib

    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    with scale.ray_cluster():
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not usage_lib.usage_stats_enabled()

    @ray.remote
    def enabled():
        from ray._common.usage import usage_lib

        return usage_lib.usage_stats_enabled()

    assert not ray.get(enabled.remote())


def test_a_start_that_fails_is_tried_once_more(needs_scale, monkeypatch):
    import ray

    def init(*arguments, **options):
        tried.append(arguments)
        if len(tried) < needed:
            raise Exception("The current node timed out")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    tried, needed = [], 2
    with scale.ray_cluster():
        assert tried == [("local",)] * 2
    tried, needed = [], 3
    with (
        pytest.raises(UserError, match=r"Ray does not start: try again \(The current node timed out\)"),
        scale.ray_cluster(),
    ):
        pass


@pytest.mark.whole_run
def test_a_host_loses_its_power_and_every_row_is_there_once(folder, tmp_path, needs_scale):
    scores, many = tmp_path / "scores", tmp_path / "rows.parquet"
    table = pq.read_table(folder / "rows")
    pq.write_table(pa.concat_tables([table] * 5), many, row_group_size=10_000)
    command = [sys.executable, "-m", "helpers.scale", many, folder / "model.keras", scores, "--features", "a", "b"]
    command += ["--block-rows", BLOCK]
    with hosts.Cluster(workers=2) as cluster:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        driver = cluster.head.begin(*command, "--address", cluster.address, **options)

        def working():
            """Both workers have loaded the model and score."""
            assert driver.poll() is None, driver.stdout.read()
            names = [[" ".join(psutil.Process(pid).cmdline()) for pid in host.pids()] for host in cluster.workers]
            return all(any("BlockScorer" in name and "submit" in name for name in own) for own in names)

        cluster.wait(working, "the workers do not score".strip)
        cluster.wait(lambda: len(list(scores.glob("part-*"))) > 20, "no parts".strip)
        before = len(list(scores.glob("part-*")))
        cluster.workers[0].kill()
        told, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, told
    assert before < 5 * ROWS / BLOCK, "the host was there to the end"
    assert f"{5 * ROWS:,} rows, each exactly once" in told
    scoring.score_file(many, folder / "model.keras", tmp_path / "one", ["a", "b"], block_rows=BLOCK)
    assert pq.read_table(scores) == pq.read_table(tmp_path / "one")
