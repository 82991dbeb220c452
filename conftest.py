"""How notebooks are collected: one kernel a notebook, standard error left out of the comparison."""

import os

from xdist.scheduler import LoadScopeScheduling

from helpers.notebook import ENVIRONMENT

# The tests import TensorFlow and start kernels: both under the environment of every runner.
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)


class CellsTogether(LoadScopeScheduling):
    """Every test on any free worker; on one, those that share something: a notebook's kernel, a browser, a cluster."""

    def _split_scope(self, nodeid):
        file, _, _ = nodeid.partition("::")
        return file if file.endswith((".ipynb", "_browser.py", "_scale.py")) else nodeid


def pytest_xdist_make_scheduler(config, log):
    return CellsTogether(config, log)


def pytest_itemcollected(item):
    # Log lines of C libraries differ from machine to machine. That none is stored is tested elsewhere.
    if item.path.suffix == ".ipynb" and "stderr" not in item.parent.skip_compare:
        item.parent.skip_compare += ("stderr",)
