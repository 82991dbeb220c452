"""The C++ op of serving/ against scikit-learn, and why a served model cannot have it without another server."""

import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from sklearn.cluster import KMeans

import serving
from helpers.notebook import ROOT

COMPILER = shutil.which("g++") or shutil.which("clang++")
# Around 10,000, where float32 would be wrong, and enough rows for several threads.
ROWS = np.random.default_rng(0).normal(size=(100_000, 16)) + 1e4
KMEANS = KMeans(12, n_init=1, random_state=0).fit(ROWS[:3000])

pytestmark = pytest.mark.skipif(COMPILER is None, reason="A C++ compiler (g++ or clang++) is needed.")


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    target, source = tmp_path_factory.mktemp("op") / "nearest_centre.so", ROOT / "serving" / "nearest_centre.cc"
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    # -w: the headers of TensorFlow themselves use what they call deprecated.
    subprocess.run([COMPILER, "-w", "-shared", "-fPIC", "-O3", source, "-o", target, *flags], check=True)
    return target


def test_labels_are_those_of_kmeans_and_wrong_input_is_refused(library):
    nearest_centre = tf.load_op_library(str(library)).nearest_centre
    labels = KMEANS.predict(ROWS).astype(np.int64)
    for n in (0, 1, 7, len(ROWS)):
        np.testing.assert_array_equal(nearest_centre(ROWS[:n], KMEANS.cluster_centers_), labels[:n], strict=True)
    # Of centres that are equally near, the first is taken.
    np.testing.assert_array_equal(nearest_centre([[0.0], [1.0], [5.0]], [[5.0], [1.0], [-1.0], [1.0]]), [1, 1, 0])
    for shape, centres, value, message in [
        ((3, 4), (2, 2, 4), 0.0, "takes embeddings"),
        ((3, 4), (2, 5), 0.0, "embeddings have 4 columns, centres 5"),
        ((3, 4), (0, 4), 0.0, "there is no centre"),
        ((3, 4), (2, 4), np.nan, "hold NaN or infinity"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            nearest_centre(np.full(shape, value), np.zeros(centres))


def test_a_saved_model_with_it_runs_only_where_the_library_is(library, tmp_path):
    nearest_centre, centres = tf.load_op_library(str(library)).nearest_centre, tf.constant(KMEANS.cluster_centers_)
    module, spec = tf.Module(), tf.TensorSpec((None, 16), tf.float64, name="embedding")
    module.serve = tf.function(lambda embedding: {"cluster": nearest_centre(embedding, centres)}, [spec])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.serve)
    # Although this process has loaded it; and no note: the batch axis is known.
    (finding,) = serving.audit(tmp_path / "1")
    assert finding.level == "error" and "NearestCentre" in finding.message and "built with it" in finding.message
    with pytest.raises(RuntimeError, match="Op type not registered 'NearestCentre'"):
        serving.run_without_python(tmp_path / "1", {"embedding": ROWS[:9]})
    answer = tf.saved_model.load(tmp_path / "1").signatures["serving_default"](embedding=ROWS[:9])
    np.testing.assert_array_equal(answer["cluster"], KMEANS.predict(ROWS[:9]))
