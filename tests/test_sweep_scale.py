"""Sweeps on Ray and Dask: the same results to the bit, a killed worker, and nothing that reports to anybody."""

import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import psutil
import pytest
from test_sweep import written

from helpers.scale import ray_cluster
from tools import run
from tools.sweep import _signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ray's processes are killed by signals")
PARAMETERS = "seed: int = 0  # seed\nresults_path: str = ''  # JSON"
# Sums and products that another number of threads would split otherwise.
WORK = """\
import json, os, pathlib, time
import numpy as np
time.sleep(60 if seed == 1 and pathlib.Path("slow").exists() else 0)
x = np.random.default_rng(seed).normal(size=(400, 400))
made = {"norm": float(np.linalg.norm(np.linalg.inv(x) @ x @ x)), "where": os.getcwd()}
made |= {name: os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
pathlib.Path(results_path).write_text(json.dumps(made))
assert seed != 2
"""


@pytest.fixture(scope="module")
def ray(needs_scale):
    """Ray on this machine, started once; sweeps use what is there."""
    with _signals(signal.SIGTERM), ray_cluster(workers=2) as started:
        yield started


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return written(tmp_path / "tiny.ipynb", WORK, parameters=PARAMETERS)


def test_the_results_are_the_same_to_the_bit_on_every_engine(ray, tiny):
    grid = {"seed": "0:4"}
    frames = [
        run.sweep(tiny, grid, engine=engine, output_dir=engine, workers=2) for engine in ("joblib", "dask", "ray")
    ]
    first, *others = [frame.drop(columns="seconds") for frame in frames]
    assert [error.partition(":")[0] for error in first["error"]] == ["", "", "cell 3 in 'Tiny'", ""]
    assert first["norm"].nunique() == 3
    assert set(first["OMP_NUM_THREADS"].dropna()) == {"1"}
    assert set(first["where"].dropna()) == {str(tiny.parent)}
    for other in others:
        pd.testing.assert_frame_equal(other, first, check_exact=True)


def kernels(folder):
    """Return the kernels that work in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(folder) and "ipykernel" in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_a_killed_worker_costs_its_own_run_only_and_is_repeated(ray, tiny, tmp_path, engine):
    def kill():
        """Kill the worker of the run that sleeps, once the others are done."""
        while len(list(tmp_path.glob("out/tiny/*/run.json"))) < 2:
            time.sleep(0.1)
        (kernel,) = kernels(tmp_path)
        os.kill(kernel.ppid(), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    (tmp_path / "slow").touch()
    killer.start()
    grid = {"seed": [1, 0, 3]}
    options = {"engine": engine, "output_dir": "out", "workers": 2}
    frame = run.sweep(tiny, grid, **options)
    killer.join(10)
    assert list(frame["error"]) == ["the process that ran it was killed, perhaps for its memory", "", ""]
    assert frame["norm"].notna().tolist() == [False, True, True]
    for _ in range(50):
        time.sleep(0.1 * bool(kernels(tmp_path)))
    assert not kernels(tmp_path), "a kernel ends with its worker"
    (tmp_path / "slow").unlink()
    seen = []
    frame = run.sweep(tiny, grid, resume=True, on_run=lambda *news: seen.append(news[2]), **options)
    assert [row.get("seed") for row in seen] == [None, 1], "only what was lost is run again"
    assert list(frame["error"]) == ["", "", ""]


@pytest.fixture
def address(needs_scale, tmp_path_factory):
    """A scheduler, and a worker of two threads that was started elsewhere and knows nothing of the project."""
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=0, scheduler_kwargs={"dashboard": False}, silence_logs=50) as cluster:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--nthreads", "2"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        folder = tmp_path_factory.mktemp("elsewhere")
        with (folder / "log").open("w") as log:
            worker = subprocess.Popen(
                [*command, "--no-dashboard"],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield cluster.scheduler_address
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def test_a_cluster_by_its_address_takes_runs(address, tiny, tmp_path):
    frame = run.sweep(tiny, {"seed": [0, 3]}, engine="dask", address=address, output_dir="out")
    assert list(frame["error"]) == ["", ""]
    assert set(frame["where"]) == {str(tmp_path)}


@pytest.mark.parametrize(
    ("engine", "address", "who"),
    [
        ("dask", "tcp://127.0.0.1:9", "Dask scheduler"),
        ("ray", "127.0.0.1:9", "Ray cluster"),
        ("ray", "ray://127.0.0.1:x", "Ray cluster"),
    ],
)
def test_an_address_at_which_nothing_is_is_told_and_nothing_is_written(
    needs_scale, tiny, tmp_path, engine, address, who
):
    with pytest.raises(run.UserError, match=f"no {who} answers at '{address}'"):
        run.sweep(tiny, {"seed": [0]}, engine=engine, address=address, output_dir="other")
    assert not list(tmp_path.glob("other/tiny/[!.]*"))
