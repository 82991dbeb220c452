"""Tables of evidence, the scripts that made them, and whether a value that is computed again lies among theirs."""

import os
import runpy
from unittest import mock

import numpy as np
import pandas as pd

from helpers.notebook import ROOT

FOLDER = ROOT / "benchmarks" / "evidence"


def table(name):
    return pd.read_csv(FOLDER / f"{name}.csv", comment="#")


def script(name):
    # A script sets the environment that it measures in; the processes that other tests start inherit ours.
    with mock.patch.dict(os.environ):
        return runpy.run_path(str(FOLDER / f"{name}.py"))


def lies_within(rows, value, least=0.0):
    """Half of the table's own spread is left on both sides; a spread of at least so much."""
    margin = max(np.ptp(rows), least) / 2
    return rows.min() - margin <= value <= rows.max() + margin
