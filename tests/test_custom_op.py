"""The C++ op of serving/ against scikit-learn, and why a served model cannot have it without another server."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.cluster import KMeans

from helpers.notebook import ROOT, fresh_process

COMPILER = shutil.which("g++") or shutil.which("clang++")
HEADER = Path(tf.sysconfig.get_include(), "tensorflow", "core", "framework", "op_kernel.h")

pytestmark = pytest.mark.skipif(
    not (COMPILER and HEADER.is_file()), reason="A C++ compiler (g++ or clang++) and TensorFlow's headers are needed."
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    target, source = tmp_path_factory.mktemp("op") / "nearest_centre.so", ROOT / "serving" / "nearest_centre.cc"
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    # -w: the headers of TensorFlow themselves use what they call deprecated.
    subprocess.run([COMPILER, "-w", "-shared", "-fPIC", "-O3", source, "-o", target, *flags], check=True)
    return target


@pytest.fixture(scope="module")
def nearest_centre(library):
    return tf.load_op_library(str(library)).nearest_centre


@pytest.fixture(scope="module")
def kmeans():
    return KMeans(12, n_init=1, random_state=0).fit(np.random.default_rng(0).normal(size=(3000, 16)) + 1e4)


@pytest.mark.parametrize("n", [0, 1, 7, 100_000])
def test_labels_are_those_of_kmeans(nearest_centre, kmeans, n):
    """Around 10,000, where float32 would be wrong, and enough rows for several threads."""
    rows = np.random.default_rng(n).normal(size=(n, 16)) + 1e4
    labels = nearest_centre(rows, kmeans.cluster_centers_)
    assert labels.dtype == tf.int64
    np.testing.assert_array_equal(labels, kmeans.predict(rows) if n else np.zeros(0))


def test_of_centres_equally_near_the_first_is_taken(nearest_centre):
    centres = np.array([[5.0, 5.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [5.0, 5.0]])
    np.testing.assert_array_equal(nearest_centre(rows, centres), [1, 1, 1, 0])


def test_wrong_shapes_and_what_is_no_number_are_refused(nearest_centre):
    for rows, centres, message in [
        (np.zeros(4), np.zeros((2, 4)), "takes embeddings"),
        (np.zeros((3, 4)), np.zeros((2, 2, 4)), "takes embeddings"),
        (np.zeros((3, 4)), np.zeros((2, 5)), "embeddings have 4 columns, centres 5"),
        (np.zeros((3, 4)), np.zeros((0, 4)), "there is no centre"),
        (np.array([[0.0, np.nan]]), np.zeros((2, 2)), "hold NaN or infinity"),
        (np.array([[0.0, -np.inf]]), np.zeros((2, 2)), "hold NaN or infinity"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            nearest_centre(rows, centres)


def test_a_saved_model_with_it_loads_only_where_the_library_is(nearest_centre, kmeans, library, tmp_path):
    module, centres = tf.Module(), tf.constant(kmeans.cluster_centers_)
    spec = tf.TensorSpec((None, 16), tf.float64, name="embedding")
    module.serve = tf.function(
        lambda embedding: {"cluster": nearest_centre(embedding, centres)}, input_signature=[spec]
    )
    assert module.serve.get_concrete_function().structured_outputs["cluster"].shape.as_list() == [None]
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.serve)
    script = tmp_path / "load.py"
    script.write_text(
        "import sys\n"
        "import tensorflow as tf\n"
        "for library in sys.argv[2:]:\n"
        "    tf.load_op_library(library)\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "row = tf.fill((1, 16), tf.constant(1e4, tf.float64))\n"
        "print(model.signatures['serving_default'](embedding=row)['cluster'].numpy())\n",
        encoding="utf-8",
    )
    with pytest.raises(RuntimeError, match="Op type not registered 'NearestCentre'"):
        fresh_process(script, tmp_path / "1")
    assert fresh_process(script, tmp_path / "1", library).strip() == str(kmeans.predict(np.full((1, 16), 1e4)))
