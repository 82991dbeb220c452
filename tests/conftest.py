"""How notebooks are collected: one kernel a notebook, standard error left out of the comparison."""

import os

import pytest

from helpers.machine import ENVIRONMENT

# The tests import TensorFlow and start kernels: both under the environment of every runner.
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.suffix == ".ipynb":
            # Cells of a notebook share a kernel: under xdist they must stay together.
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
            # Log lines of C libraries differ from machine to machine. That none is stored is tested elsewhere.
            if "stderr" not in item.parent.skip_compare:
                item.parent.skip_compare += ("stderr",)
