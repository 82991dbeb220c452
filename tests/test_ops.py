"""Every conversion against scikit-learn itself, where differences hide: on knots, beside them, and far away."""

import itertools
import textwrap
import warnings

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist
from sklearn.base import clone, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import serving
from serving import ops as module
from serving import trees
from serving.ops import to_tensorflow

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Loops of OpenMP wait for each other on a busy machine.
threadpool_limits(1)
RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(300, 4)) * [1, 10, 100, 0.1] + [0, 5, 1e4, 0]
SMALL = ROWS / [1, 10, 1e4, 0.1]
MISSING = np.where(RANDOM.random(ROWS.shape) < 0.1, np.nan, ROWS)
BINARY = (ROWS[:, 0] + ROWS[:, 1] / 10 + RANDOM.normal(size=300) / 2 > 0.5).astype(np.int64)
THREE = np.digitize(ROWS[:, 0] + ROWS[:, 1] / 10 + RANDOM.normal(size=300) / 2, [-0.5, 1])
TARGET = np.abs(ROWS[:, 0] * ROWS[:, 1] + ROWS[:, 2] / 100)
STRINGS = np.array(["", "a", "Ä", "b c", "日本", "a"], dtype=object)[RANDOM.integers(0, 6, (300, 2))]
UNKNOWN_STRINGS = np.array([["", "unknown"], ["zz", "Ä"], ["日", "日本"], ["a ", "a"], ["A", "b c"]], object)
NUMBERS = np.where(RANDOM.random((300, 2)) < 0.1, np.nan, RANDOM.integers(-3, 4, (300, 2)) / 2)
# The spacing of floats at 1, and one more for sums of a few.
ULP = 4.5e-16


def fed(ops, X):
    """Return X as the tensors that the ops take."""

    def tensor(values, spec):
        values = np.asarray(values) if spec.dtype == tf.string else np.asarray(values, spec.dtype.as_numpy_dtype)
        return tf.reshape(tf.constant(values.tolist(), spec.dtype), [-1, *spec.shape[1:]])

    return {n: tensor(X[n], s) for n, s in ops.spec.items()} if isinstance(ops.spec, dict) else tensor(X, ops.spec)


def compiled(ops, method):
    return tf.function(getattr(ops, method), input_signature=[ops.spec])


def converted(estimator, X, method="transform"):
    ops = to_tensorflow(estimator)
    return compiled(ops, method)(fed(ops, X)).numpy()


def expected(estimator, X, method="transform"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = getattr(estimator, method)(X)
    answer = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
    if answer.dtype.kind in "OU":
        return np.vectorize(lambda one: one if isinstance(one, bytes) else one.encode(), otypes=[object])(answer)
    return answer


def assert_same(estimator, X, methods=None, atol=0.0, rtol=0.0):
    """Assert that all methods, or some, give what scikit-learn gives: the same bits, unless told for each."""
    ops = to_tensorflow(estimator)
    methods = methods or ops.methods
    call = tf.function(lambda X: [getattr(ops, method)(X) for method in methods], input_signature=[ops.spec])
    for method, ours in zip(methods, call(fed(ops, X)), strict=True):
        ours, theirs = ours.numpy(), expected(estimator, X, method)
        assert ours.shape == theirs.shape
        if theirs.dtype.kind == "f":
            near = [one.get(method, 0) if isinstance(one, dict) else one for one in (atol, rtol)]
            np.testing.assert_allclose(ours, theirs, err_msg=method, atol=near[0], rtol=near[1])
        else:
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs), method


def beside(values):
    """Return values, their neighbours on both sides, and what lies far away."""
    values = np.unique(values[~np.isnan(values)])
    middle = (values[1:] + values[:-1]) / 2
    far = np.array([0.0, -0.0, 1e-200, 1e4, -1e4, 1e8, -1e8, 1e300, -1e300])
    return np.concatenate([values, np.nextafter(values, -np.inf), np.nextafter(values, np.inf), middle, far])


def normal_numbers(values):
    """Return values without those whose neighbours are so near that TensorFlow may count the difference as 0."""
    return np.where(np.abs(values) < 1e-280, 0.0, values)


def columns_beside(X):
    """Return rows whose columns hold what is beside the values of each column."""
    longest = max(len(beside(column)) for column in X.T)
    return normal_numbers(np.stack([np.resize(beside(column), longest) for column in X.T], axis=1))


# --- scalers and the imputer -------------------------------------------------------------------------------------

SCALERS_AND_IMPUTERS = [
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler(feature_range=(-3, 2), clip=True),
    RobustScaler(with_centering=False, quantile_range=(10, 90), unit_variance=True),
    RobustScaler(with_scaling=False),
    make_pipeline(MinMaxScaler(feature_range=(0.1, 0.7)), RobustScaler(), StandardScaler()),
    SimpleImputer(strategy="median", add_indicator=True),
    SimpleImputer(strategy="most_frequent"),
    SimpleImputer(strategy="constant", fill_value=-7.5, keep_empty_features=True, add_indicator=True),
]


@pytest.mark.parametrize("estimator", SCALERS_AND_IMPUTERS, ids=str)
def test_scalers_and_imputers_give_the_same_bits(estimator):
    X = np.column_stack([MISSING, np.full(300, 3.0)])
    assert_same(clone(estimator).fit(X), np.vstack([X, columns_beside(X), np.full((1, 5), np.nan)]))
    if "Imputer" in str(estimator):
        empty = np.column_stack([MISSING, np.full(300, np.nan)])
        assert_same(estimator.fit(empty), empty)


def test_imputers_of_other_marks_and_strings():
    X = np.where(RANDOM.random(ROWS.shape) < 0.2, -1.0, np.round(ROWS))
    imputer = SimpleImputer(missing_values=-1, strategy="most_frequent", add_indicator=True).fit(X)
    assert_same(imputer, X)
    assert_refused_like_scikit_learn(imputer, MISSING)
    whole = np.array([[1, 7], [1, 8], [2, 8]])
    assert_same(SimpleImputer(missing_values=1, strategy="constant", fill_value=9).fit(whole), whole * 1.0)
    imputer = SimpleImputer(missing_values="", strategy="most_frequent").fit(STRINGS)
    assert_same(make_pipeline(imputer, OneHotEncoder()).fit(STRINGS), STRINGS)


# --- quantiles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_quantiles", [1, 2, 100])
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("distribution", "atol"), [("uniform", 0.0), ("normal", 2 * ULP)])
def test_quantiles_on_knots_and_beside_them(n_quantiles, rounded, distribution, atol):
    # Far from 0, what scikit-learn allows at the ends of a normal distribution is below the spacing of floats.
    X = (np.round(MISSING) if rounded else MISSING) + np.array([0, 0, 1e8 * rounded, -1e12 * rounded])
    transformer = QuantileTransformer(n_quantiles=n_quantiles, output_distribution=distribution).fit(X)
    assert_same(transformer, np.vstack([X, columns_beside(transformer.quantiles_), MISSING * 3]), atol=atol, rtol=ULP)


@pytest.mark.parametrize("asked", [np.float32, np.float64])
@pytest.mark.parametrize("fitted", [np.float32, np.float64])
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_quantiles_are_those_of_the_dtype_in_which_they_are_asked(fitted, asked, distribution):
    years = np.random.default_rng(0).choice([2000.0, 2001, 2002, 2003], (300, 1), p=[0.4, 0.2, 0.2, 0.2])
    X = np.hstack([years, np.round(ROWS[:, :1], 1), MISSING[:, 1:2] * 1e6])
    for subsample in (100, None):
        transformer = QuantileTransformer(n_quantiles=50, output_distribution=distribution, subsample=subsample)
        asks = np.vstack([X, transformer.fit(X.astype(fitted)).quantiles_]).astype(asked)
        asks = np.vstack([asks, np.nextafter(asks, asked(np.inf)), np.nextafter(asks, asked(-np.inf)), 2 * asks])
        asks = np.where(np.abs(asks) < 1e-30, 0, asks).astype(asked)
        found = tf.function(to_tensorflow(transformer).transform)(tf.constant(asks)).numpy()
        np.testing.assert_allclose(found, transformer.transform(asks), atol=1e-6 if asked is np.float32 else 2 * ULP)


def test_what_float32_would_change_in_a_pipeline_is_refused_and_a_mark_is_found_in_either_dtype():
    late = make_pipeline(StandardScaler(), ColumnTransformer([("q", QuantileTransformer(n_quantiles=9), [0])])).fit(
        ROWS
    )
    np.testing.assert_allclose(to_tensorflow(late).transform(tf.constant(ROWS)), late.transform(ROWS), atol=1e-15)
    with pytest.raises(ValueError, match="takes float64: fit and ask the Pipeline so"):
        to_tensorflow(late).transform(tf.constant(ROWS, tf.float32))
    with pytest.raises(TypeError, match="takes numbers; got float16"):
        to_tensorflow(QuantileTransformer(n_quantiles=9).fit(ROWS)).transform(tf.constant(ROWS, tf.float16))
    marked = np.where(np.isnan(MISSING), 0.1, np.round(ROWS))
    for kind in (np.float32, np.float64):
        imputer = SimpleImputer(missing_values=0.1, strategy="most_frequent").fit(marked.astype(kind))
        found = to_tensorflow(imputer).transform(tf.constant(marked.astype(kind))).numpy()
        assert np.array_equal(found, imputer.transform(marked.astype(kind)))


# --- encoders ----------------------------------------------------------------------------------------------------

ENCODERS = [
    OneHotEncoder(handle_unknown="ignore", drop="first"),
    OneHotEncoder(drop="if_binary", handle_unknown="ignore", sparse_output=False),
    OneHotEncoder(handle_unknown="ignore", min_frequency=40),
    OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3, drop="first"),
    OneHotEncoder(handle_unknown="warn", max_categories=2),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, min_frequency=40),
    OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=99, max_categories=2, encoded_missing_value=98, dtype=np.int16
    ),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
@pytest.mark.parametrize("kind", ["strings", "numbers", "two"])
def test_encoders_of_known_and_unknown_values(encoder, kind):
    X, more = {
        "strings": (STRINGS, UNKNOWN_STRINGS),
        "numbers": (NUMBERS, columns_beside(NUMBERS)),
        "two": (np.where(STRINGS == "a", "a", "ß").astype(object), UNKNOWN_STRINGS),
    }[kind]
    encoder, asked = clone(encoder).fit(X), np.vstack([X, more])
    # Whatever dtype an encoder has, the graph gives float64.
    assert np.array_equal(converted(encoder, asked), expected(encoder, asked).astype(np.float64), equal_nan=True)


ORDER = [["b c", "", "日本", "Ä", "a", "never seen"], ["日本", "a", "b c", "Ä", ""]]
LARGE = np.array([[2**60], [2**60 + 1], [2**60 + 2], [5]])
FLAGS, OBJECTS = np.array([[True], [False], [True]]), np.array([[3], [1], [2]], object)
ENCODED = [
    (OneHotEncoder(categories=ORDER), STRINGS, STRINGS),
    (OrdinalEncoder(categories=ORDER), STRINGS, STRINGS),
    (OneHotEncoder(drop=["Ä", "a"]), STRINGS, STRINGS),
    (OneHotEncoder(drop=[np.nan, 0.5]), NUMBERS, NUMBERS),
    (OneHotEncoder(), FLAGS, FLAGS),
    # float64 cannot tell these apart.
    (OrdinalEncoder(), LARGE, LARGE),
    (OrdinalEncoder(categories=[[3, 1, 2]]), OBJECTS, OBJECTS),
    (OneHotEncoder(), np.array([[b"x"], [b"\xff"]], "S1"), np.array([[b"\xff"], [b"x"]], "S1")),
    # NaN is unknown where none was seen.
    (OneHotEncoder(handle_unknown="ignore"), [[1.0], [2.0]], np.array([[np.nan], [1.0]])),
    (OneHotEncoder(handle_unknown="ignore"), [[np.nan], [np.nan]], np.array([[np.nan], [1.0]])),
]


@pytest.mark.parametrize(("encoder", "X", "asked"), ENCODED)
def test_encoders_of_orders_dtypes_and_nan(encoder, X, asked):
    assert_same(encoder.fit(X), asked)
    if X is LARGE:
        table = pd.DataFrame({"id": X[:, 0]})
        assert_same(encoder.fit(table), table)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder(), OneHotEncoder(drop="first")], ids=str)
@pytest.mark.parametrize(("X", "bad"), [(STRINGS, "unknown"), (NUMBERS, 0.75), (NUMBERS[:, 1:], 7.0)])
def test_an_unknown_category_stops_the_graph_where_scikit_learn_raises(encoder, X, bad):
    assert_same(encoder.fit(X), X)
    wrong = X[:5].copy()
    wrong[3, -1] = bad
    with pytest.raises(ValueError, match="Found unknown categories"):
        encoder.transform(wrong)
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf": unknown category in column {X.shape[1] - 1}\."):
        converted(encoder, wrong)


# --- projections, centres, linear models -------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1e4, 1e8])
def test_nearest_centres_are_right_wherever_the_data_lie(offset):
    X = RANDOM.normal(size=(500, 3)) * 4
    kmeans = KMeans(6, random_state=0, n_init=2).fit(X + offset)
    far = X * 2 + offset
    # cdist subtracts and does not multiply: exact however far away.
    distances = cdist(far, kmeans.cluster_centers_)
    assert np.array_equal(converted(kmeans, far, "predict"), distances.argmin(axis=1))
    np.testing.assert_allclose(converted(kmeans, far), distances, rtol=1e-12, atol=2e-7)
    if offset <= 1e4:
        assert_same(kmeans, far, atol=1e-6)
        # float32 rows get the labels that float64 gives them.
        single = far.astype(np.float32)
        labels = to_tensorflow(kmeans).predict(tf.constant(single))
        assert np.array_equal(labels, kmeans.predict(single.astype(np.float64)))


CLASSES = {
    "binary": BINARY,
    "bool": BINARY == 1,
    "float": THREE / 1.0,
    "strings": np.array(["ä", "b", "ccc"])[THREE],
    "objects": np.array(["ä", "b", "ccc"], object)[THREE],
}


@pytest.mark.parametrize("y", CLASSES.values(), ids=CLASSES)
def test_logistic_regression(y):
    model = LogisticRegression(max_iter=500).fit(SMALL, y)
    near = {"decision_function": 1e-9, "predict_proba": 2 * ULP}
    X = np.vstack([ROWS / 10, ROWS * 1e3])
    for one in (model, clone(model).set_params(fit_intercept=False).fit(SMALL, y).sparsify()):
        assert_same(one, X, atol=near, rtol={"decision_function": 1e-14, "predict_proba": 0})


def test_scores_that_tie_go_to_the_class_that_scikit_learn_takes():
    X = np.array([[0.0, 0, 0, 0], [-0.0, 0, 0, 0], [1, 0, 0, 0], [-1, 0, 0, 0]])
    for y, coefficients in ((BINARY, [[1, 0, 0, 0]]), (THREE, [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])):
        model = LogisticRegression().fit(ROWS, y)
        model.coef_[:], model.intercept_[:] = coefficients, 0
        assert_same(model, X, ["predict"])


# --- calibration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out_of_bounds", ["nan", "clip"])
@pytest.mark.parametrize("increasing", [True, False])
@pytest.mark.parametrize(
    ("x", "y", "dtype"),
    [
        (np.round(ROWS[:, 1], 1), BINARY, np.float32),
        # So uneven that a slope times a distance misses some of the knots by a bit.
        (*np.sort(np.random.default_rng(1).normal(size=(2, 3000))), np.float64),
        (*np.cumsum(np.random.default_rng(1).lognormal(sigma=2, size=(2, 3000)), axis=1), np.float32),
        (np.array([2.0, 2.0]), np.array([1.0, 4.0]), np.float64),
    ],
)
def test_isotonic_regression_on_knots_and_beside_them(x, y, dtype, increasing, out_of_bounds):
    model = IsotonicRegression(out_of_bounds=out_of_bounds, increasing=increasing).fit(x.astype(dtype), y.astype(dtype))
    asked = beside(model.X_thresholds_)
    asked = np.where(np.abs(asked) < 1e-30, 0, np.clip(asked, -1e30, 1e30)).astype(dtype)
    assert_same(model, asked)


def test_isotonic_regression_refuses_what_is_out_of_bounds():
    model = IsotonicRegression(out_of_bounds="raise").fit([1.0, 2, 3], [1.0, 2, 4])
    with pytest.raises(tf.errors.InvalidArgumentError, match="IsotonicRegression: X holds values outside"):
        converted(model, np.array([1, np.nextafter(3, 4)]), "predict")


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
@pytest.mark.parametrize(
    ("base", "y", "averaged"),
    [
        (LogisticRegression(), CLASSES["strings"], True),
        (make_pipeline(StandardScaler(), LogisticRegression()), CLASSES["bool"], False),
        (RandomForestClassifier(5, random_state=0), CLASSES["strings"], False),
        (RandomForestClassifier(5, random_state=0), CLASSES["bool"], True),
        (FrozenEstimator(GradientBoostingClassifier(n_estimators=5).fit(SMALL, BINARY)), BINARY, True),
    ],
)
def test_calibrated_classifiers(base, y, averaged, method):
    model = CalibratedClassifierCV(base, method=method, ensemble=averaged, cv=2).fit(SMALL, y)
    assert_same(model, np.vstack([SMALL, SMALL * 4, SMALL * 30]), atol=2e-13)


def test_a_row_that_no_class_wants_gets_equal_probabilities():
    model = CalibratedClassifierCV(LogisticRegression(), method="isotonic", ensemble=False, cv=2).fit(SMALL, THREE)
    for curve in model.calibrated_classifiers_[0].calibrators:
        curve.y_thresholds_[:] = 0
        curve._build_f(curve.X_thresholds_, curve.y_thresholds_)
    assert (model.predict_proba(SMALL[:3]) == 1 / 3).all()
    assert_same(model, SMALL[:3])


# --- trees -------------------------------------------------------------------------------------------------------

TREES = [
    RandomForestClassifier(150, max_leaf_nodes=3, random_state=0, criterion="entropy"),
    RandomForestClassifier(9, random_state=0),
    GradientBoostingClassifier(n_estimators=30),
    GradientBoostingClassifier(n_estimators=3, max_depth=9, init="zero"),
    HistGradientBoostingClassifier(max_iter=9, max_leaf_nodes=9),
    HistGradientBoostingClassifier(max_iter=2, max_depth=9, max_leaf_nodes=None, min_samples_leaf=1),
    RandomForestRegressor(30, random_state=0, criterion="poisson"),
    GradientBoostingRegressor(loss="huber", max_depth=8, n_estimators=9),
    GradientBoostingRegressor(loss="quantile", n_estimators=99, init="zero"),
    HistGradientBoostingRegressor(max_iter=3, max_depth=9, max_leaf_nodes=90, min_samples_leaf=1),
    HistGradientBoostingRegressor(loss="absolute_error", max_iter=5),
    HistGradientBoostingRegressor(loss="gamma", max_iter=5),
    GradientBoostingClassifier(loss="exponential", n_estimators=9),
]


def beside_thresholds(model, X):
    """Return rows on the thresholds of the trees and beside them, in float32 where the trees compare so."""
    if hasattr(model, "_predictors"):
        parts = [(tree.nodes["feature_idx"], tree.nodes["num_threshold"]) for one in model._predictors for tree in one]
    else:
        parts = [(one.tree_.feature, one.tree_.threshold) for one in np.ravel(model.estimators_)]
    features, thresholds = map(np.concatenate, zip(*parts, strict=True))
    columns = []
    for column in range(X.shape[1]):
        at = thresholds[(features == column) & np.isfinite(thresholds)]
        near = [np.nextafter(one, one.dtype.type(to)) for one in (at, at.astype("f4")) for to in (-np.inf, np.inf)]
        near += [at, at.astype("f4")]
        columns.append(np.resize(np.concatenate([*near, X[:, column]]).astype(np.float64), 900))
    return RANDOM.permuted(np.stack(columns, axis=1), axis=0)


@pytest.mark.parametrize("model", TREES, ids=str)
@pytest.mark.parametrize("kind", ["bool", "strings"])
def test_trees_on_thresholds_and_beside_them(model, kind):
    loss = getattr(model, "loss", "")
    y = TARGET + 1 if is_regressor(model) else CLASSES["bool" if loss == "exponential" else kind]
    model.fit(ROWS, y)
    asked = np.vstack([ROWS * 1.1, beside_thresholds(model, ROWS)])
    near = 2 * ULP if hasattr(model, "decision_function") else 0
    assert_same(model, asked, atol={"predict_proba": near}, rtol={"predict": 2 * ULP if loss == "gamma" else 0})


def test_scores_and_probabilities_of_trees_that_tie():
    X, tied = np.zeros((20, 1)), np.tile([0, 1], 10)
    for model in (GradientBoostingClassifier(n_estimators=1), HistGradientBoostingClassifier(max_iter=1)):
        assert (model.fit(X, tied).decision_function(X) == 0).all()
        assert_same(model, X)
    model = RandomForestClassifier(4, bootstrap=False, max_depth=1, random_state=0).fit(
        [[0.0], [0.0], [1.0]], [2, 0, 1]
    )
    assert_same(model, np.array([[0.0], [1.0]]))


def test_trees_that_never_split_and_a_forest_of_one_class():
    X = np.zeros((20, 1))
    boosted = GradientBoostingRegressor(n_estimators=3), HistGradientBoostingRegressor(max_iter=3)
    for model in (RandomForestRegressor(3), *boosted):
        assert_same(model.fit(X, np.arange(20.0)), X + 1, ["predict"])
    assert_same(RandomForestClassifier(3).fit(X, np.full(20, 7)), X + 1)


@pytest.mark.parametrize(
    "model", [RandomForestClassifier(9, random_state=0), HistGradientBoostingClassifier(max_iter=2)], ids=str
)
@pytest.mark.parametrize("seen", [True, False])
def test_missing_values_go_where_scikit_learn_sends_them(model, seen):
    holes = np.where(RANDOM.random(ROWS.shape) < 0.3, np.nan, ROWS)
    # Here it says much whether a value is missing: a threshold is infinity.
    holes[:, 3] = np.where(THREE == 1, np.nan, 0.5)
    asked = np.vstack([holes, np.full((1, 4), np.nan), np.full((1, 4), 1e30)])
    boosted = isinstance(model, HistGradientBoostingClassifier)
    if boosted:
        asked = np.vstack([asked, np.full((1, 4), np.inf), np.full((1, 4), -np.inf), [[np.inf, 0, np.nan, np.inf]]])
    model.fit(holes if seen else ROWS, THREE)
    assert_same(model, asked, atol={"predict_proba": 2 * ULP if boosted else 0})


def test_only_deep_ensembles_are_said_to_be_slow():
    with warnings.catch_warnings(action="error"):
        to_tensorflow(GradientBoostingClassifier(n_estimators=100).fit(ROWS, BINARY))
    deep = RandomForestClassifier(200, random_state=0).fit(ROWS, BINARY)
    with pytest.warns(UserWarning, match="^200 trees: as a graph they take longer than scikit-learn"):
        to_tensorflow(deep)


def test_equal_deep_ensembles_are_warned_of_once():
    forests = CalibratedClassifierCV(RandomForestClassifier(200, random_state=0), cv=2).fit(ROWS, BINARY)
    with warnings.catch_warnings(record=True, action="default") as caught:
        to_tensorflow(forests)
    assert [str(warning.message).partition(":")[0] for warning in caught] == ["200 trees"]


@pytest.mark.parametrize("clusters", [1, 5, 40])
def test_clusters_in_chunks_are_the_clusters_at_once(clusters):
    rows = np.random.default_rng(0).normal(size=((1 << 15) * 2 + 3, 2))
    kmeans = KMeans(clusters, n_init=1, max_iter=3, random_state=0).fit(rows[:999])
    for n in (0, 1, 1 << 15, len(rows)):
        labels = compiled(to_tensorflow(kmeans), "predict")(rows[:n])
        assert np.array_equal(labels, kmeans.predict(rows[:n]) if n else [])


def test_rows_in_chunks_are_the_rows_at_once(monkeypatch):
    monkeypatch.setattr(trees, "_PAIRS", 10 * 7)
    model = RandomForestClassifier(10, max_depth=3, random_state=0).fit(ROWS, THREE)
    call = compiled(to_tensorflow(model), "predict_proba")
    for n in (1, 6, 7, 8, 14, 50):
        assert np.array_equal(call(ROWS[:n]), model.predict_proba(ROWS[:n]))


# --- compositions ------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame(
    {
        "width": MISSING[:, 0],
        "height": ROWS[:, 1].astype(np.float32),
        "town": STRINGS[:, 0],
        "floor": RANDOM.integers(0, 4, 300),
        "lift": RANDOM.random(300) > 0.5,
        "street": STRINGS[:, 1],
    }
)


def table_steps(**options):
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    steps = [
        ("numbers", numbers, ["width", "height"]),
        ("town", OneHotEncoder(drop="first", handle_unknown="ignore"), ["town", "floor"]),
        ("lift", "passthrough", ["lift"]),
    ]
    return ColumnTransformer(steps, **options)


TABLE_STEPS = {
    "weights": table_steps(transformer_weights={"numbers": 0.3, "lift": 2.0}, remainder=OrdinalEncoder()),
    "positions": ColumnTransformer([("a", StandardScaler(), [1, 0]), ("b", OrdinalEncoder(), slice(2, 4))]),
    "selector": ColumnTransformer([("a", SimpleImputer(), make_column_selector(dtype_include="number"))]),
    "twice": ColumnTransformer([("a", OneHotEncoder(), ["floor"]), ("b", StandardScaler(), ["floor", "height"])]),
    "nested": ColumnTransformer([("a", table_steps(), ["lift", "width", "height", "floor", "town"])]),
}


@pytest.mark.parametrize("steps", TABLE_STEPS.values(), ids=TABLE_STEPS)
def test_tables(steps):
    steps.fit(TABLE)
    asked = TABLE.iloc[::-1][[*TABLE.columns[::-1]]]
    assert_same(steps, asked)
    ops = to_tensorflow(steps)
    assert all((spec.dtype == tf.string) == (name in ("town", "street")) for name, spec in ops.spec.items())
    as_columns = {name: tensor[:, tf.newaxis] for name, tensor in fed(ops, asked).items()}
    assert np.array_equal(ops.transform(as_columns), expected(steps, asked), equal_nan=True)


def test_a_table_goes_through_to_a_label_and_asks_for_the_columns_that_are_needed():
    model = make_pipeline(table_steps(), HistGradientBoostingClassifier(max_iter=3)).fit(TABLE, CLASSES["strings"])
    assert_same(model, TABLE, ["decision_function", "predict"])
    assert set(to_tensorflow(model).spec) == {"width", "height", "town", "floor", "lift"}


def test_arrays_by_position():
    steps = ColumnTransformer([("a", StandardScaler(), [3, 1]), ("b", "passthrough", [-2])], remainder=PCA(1)).fit(ROWS)
    assert_same(steps, ROWS, atol=1e-12)
    scaler = StandardScaler().fit(TABLE[["floor", "lift"]].to_numpy(float))
    # Whatever comes in is computed in float64.
    for kind in (np.float64, np.float32, np.int8, bool):
        matrix = TABLE[["floor", "lift"]].to_numpy(kind)
        assert np.array_equal(to_tensorflow(scaler).transform(matrix), scaler.transform(matrix.astype(np.float64)))
    assert_same(ColumnTransformer([("a", OneHotEncoder(), [1])], remainder=OrdinalEncoder()).fit(STRINGS), STRINGS)


def test_pipelines_hand_on_tables_and_skip_what_does_nothing():
    tables = ColumnTransformer([("a", StandardScaler(), ["height", "floor"])]).set_output(transform="pandas")
    later = ColumnTransformer([("b", MinMaxScaler(), ["a__floor"])], remainder="passthrough")
    assert_same(make_pipeline(tables, later).fit(TABLE), TABLE)
    steps = [("a", "passthrough"), ("b", StandardScaler()), ("c", None), ("d", PCA(2)), ("e", "passthrough")]
    assert_same(Pipeline(steps).fit(ROWS), ROWS, atol=1e-12)
    assert to_tensorflow(make_pipeline(KMeans(2), "passthrough").fit(ROWS)).methods == ("transform",)
    assert_same(make_pipeline(FunctionTransformer(), StandardScaler()).fit(ROWS), ROWS)


# --- what every conversion promises ------------------------------------------------------------------------------

# Converges also where columns are of several sizes.
LOGISTIC = LogisticRegression(solver="newton-cholesky")
NUMERIC = {
    "StandardScaler": StandardScaler().fit(ROWS),
    "MinMaxScaler": MinMaxScaler(clip=True).fit(ROWS),
    "RobustScaler": RobustScaler().fit(ROWS),
    "uniform": QuantileTransformer(n_quantiles=50).fit(ROWS),
    "normal": QuantileTransformer(n_quantiles=50, output_distribution="normal").fit(ROWS),
    "SimpleImputer": SimpleImputer(add_indicator=True).fit(MISSING),
    "OneHotEncoder": OneHotEncoder(handle_unknown="ignore").fit(ROWS[:20]),
    "OrdinalEncoder": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(ROWS[:20]),
    "PCA": PCA(2).fit(ROWS),
    "whitened": PCA(3, whiten=True).fit(ROWS.astype(np.float32)),
    "KMeans": KMeans(3, random_state=0).fit(ROWS),
    "LogisticRegression": clone(LOGISTIC).fit(ROWS, CLASSES["strings"]),
    "sigmoid": CalibratedClassifierCV(LOGISTIC, cv=2).fit(ROWS, THREE),
    "isotonic": CalibratedClassifierCV(LOGISTIC, cv=2, method="isotonic").fit(ROWS, BINARY),
    "temperature": CalibratedClassifierCV(LOGISTIC, cv=2, method="temperature").fit(ROWS, THREE),
    "RandomForestClassifier": RandomForestClassifier(10, random_state=0).fit(ROWS, THREE),
    "RandomForestRegressor": RandomForestRegressor(10, max_depth=3, random_state=0).fit(ROWS, TARGET),
    "GradientBoostingClassifier": GradientBoostingClassifier(n_estimators=9).fit(ROWS, THREE),
    "GradientBoostingRegressor": GradientBoostingRegressor(n_estimators=9).fit(ROWS, TARGET),
    "HistGradientBoostingClassifier": HistGradientBoostingClassifier(max_iter=5).fit(ROWS, BINARY),
    "HistGradientBoostingRegressor": HistGradientBoostingRegressor(max_iter=5).fit(ROWS, TARGET),
    "Pipeline": make_pipeline(SimpleImputer(), StandardScaler(), PCA(2), KMeans(3, random_state=0)).fit(MISSING),
    "ColumnTransformer": ColumnTransformer([("a", StandardScaler(), [0])], remainder="passthrough").fit(ROWS),
}


def assert_refused_like_scikit_learn(estimator, *bad):
    """Assert that each method's graph stops where scikit-learn raises, and nowhere else; return the graphs."""
    ops = to_tensorflow(estimator)
    calls = {method: compiled(ops, method) for method in ops.methods}
    for (method, call), X in itertools.product(calls.items(), bad):
        try:
            expected(estimator, X, method)
        except ValueError:
            with pytest.raises(tf.errors.InvalidArgumentError, match=r": X holds (NaN or )?infinity\."):
                call(X)
        else:
            call(X)
    return calls


@pytest.mark.parametrize("estimator", NUMERIC.values(), ids=NUMERIC)
def test_one_graph_for_every_number_of_rows_that_stops_where_scikit_learn_raises(estimator):
    ops, bad = to_tensorflow(estimator), []
    # The last is too large for float32, in which some trees compare.
    for value in (np.nan, np.inf, -np.inf, 1e39):
        bad.append(ROWS[:6].copy())
        bad[-1][4, 0] = value
    for method, call in assert_refused_like_scikit_learn(estimator, *bad).items():
        theirs = expected(estimator, ROWS, method)
        answers = {n: call(ROWS[:n]) for n in (300, 1, 0, 7)}
        assert call.experimental_get_tracing_count() == 1
        for n, ours in [*answers.items(), (5, getattr(ops, method)(ROWS[:5]))]:
            assert ours.shape == (n, *theirs.shape[1:])
            assert np.array_equal(ours, theirs[:n]) if theirs.dtype.kind != "f" else np.allclose(ours, theirs[:n])


def test_the_c_runtime_gives_the_same_bits(tmp_path):
    some = "normal", "OneHotEncoder", "KMeans", "RandomForestRegressor"
    numeric = {name: to_tensorflow(NUMERIC[name]) for name in some}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float64, "X")])
    def serve(X):
        return {name: getattr(ops, ops.methods[0])(X) for name, ops in numeric.items()}

    saved = tf.Module()
    saved.serve = serve
    tf.saved_model.save(saved, str(tmp_path / "1"), signatures=serve)
    assert serving.python_ops(tmp_path / "1") == []
    there, here = serving.run_without_python(tmp_path / "1", {"X": ROWS}), serve(tf.constant(ROWS))
    assert there.keys() == here.keys()
    for name, tensor in here.items():
        assert np.array_equal(there[name], tensor.numpy(), equal_nan=True), name
    with pytest.raises(RuntimeError, match="X holds NaN or infinity"):
        serving.run_without_python(tmp_path / "1", {"X": MISSING})


# --- extension ---------------------------------------------------------------------------------------------------


def test_an_estimator_is_added_as_the_module_says():
    names = [cls.__name__ for cls in to_tensorflow.registry if cls not in (object, MaxAbsScaler)]
    assert [name for name in names if f"`{name}`" not in to_tensorflow.__doc__] == []
    scaler = make_pipeline(MaxAbsScaler(), StandardScaler()).fit(MISSING)
    with pytest.raises(TypeError, match=r"^MaxAbsScaler has no exact conversion"):
        to_tensorflow(scaler)
    example = module.__doc__.partition("::\n\n")[2].partition("\n\nUse")[0]
    exec(textwrap.dedent(example), {**vars(module), "MaxAbsScaler": MaxAbsScaler})
    assert_same(scaler, np.vstack([MISSING, columns_beside(MISSING)]))
    with pytest.raises(ValueError, match="MaxAbsScaler with clip=True is not converted"):
        to_tensorflow(MaxAbsScaler(clip=True).fit(ROWS))


# --- what is refused ---------------------------------------------------------------------------------------------


class Tripled(StandardScaler):
    def transform(self, X, copy=None):
        return 3 * super().transform(X)


CATEGORY = pd.DataFrame({"c": pd.Categorical(np.where(BINARY == 1, "x", "y")), "n": ROWS[:, 0]})
MIXED = np.column_stack([STRINGS[:, 0], np.arange(300)]).astype(object)
NO_STRING = np.where(STRINGS == "a", np.nan, STRINGS)
OTHER_START = GradientBoostingRegressor(n_estimators=1, init=RandomForestRegressor(2))
TWO_DTYPES = ColumnTransformer([("a", OneHotEncoder(), ["town"]), ("b", "passthrough", ["town"])])
MIXED_INPUT = ColumnTransformer([("a", OneHotEncoder(), [0]), ("b", StandardScaler(), [1])])
UNKNOWN, UNFITTED = "has no exact conversion to TensorFlow ops; there is one for", "instance is not fitted yet"
REFUSED = [
    (f"^MiniBatchKMeans {UNKNOWN}", MiniBatchKMeans(2).fit(ROWS)),
    (f"^Tripled {UNKNOWN}", Tripled().fit(ROWS)),
    (f"^LinearSVC {UNKNOWN}", CalibratedClassifierCV(LinearSVC(), cv=2).fit(SMALL, BINARY)),
    (f"^StandardScaler {UNKNOWN}", StandardScaler),
    (f"KMeans {UNFITTED}", KMeans()),
    (f"Pipeline {UNFITTED}", Pipeline([("a", PCA())])),
    (f"FrozenEstimator {UNFITTED}", FrozenEstimator(PCA())),
    (
        r"put OneHotEncoder\(sparse_output=False\) before it in a pipeline and set categorical_features=None",
        HistGradientBoostingClassifier(max_iter=1).fit(CATEGORY, THREE),
    ),
    ("RandomForestRegressor with 2 outputs is not", RandomForestRegressor(2).fit(ROWS, ROWS[:, :2])),
    ("GradientBoostingRegressor with init=RandomForestRegressor is not", OTHER_START.fit(ROWS, TARGET)),
    ("Pipeline with no step that does anything is not", Pipeline([("a", "passthrough")]).fit(ROWS)),
    ("FunctionTransformer with a function is not", make_pipeline(FunctionTransformer(np.abs), PCA()).fit(ROWS)),
    ("ColumnTransformer with column 2 as string and as float64 is not", TWO_DTYPES.fit(TABLE)),
    ("Imputer was fitted on strings, .* not nan, and", SimpleImputer(strategy="most_frequent").fit(NO_STRING)),
    ("OneHotEncoder: column 0 holds strings and nan, which no tensor holds; fill", OneHotEncoder().fit(NO_STRING)),
    ("OneHotEncoder takes strings and numbers, and no tensor holds both; fit it", OneHotEncoder().fit(MIXED)),
    ("ColumnTransformer takes strings and numbers, and no tensor holds both; fit it", MIXED_INPUT.fit(MIXED)),
]


@pytest.mark.parametrize(("sentence", "estimator"), REFUSED)
def test_what_cannot_be_converted_is_refused_with_one_sentence(sentence, estimator):
    with pytest.raises(TypeError if UNKNOWN in sentence else ValueError, match=sentence):
        to_tensorflow(estimator)


MIXED_OUTPUT = ColumnTransformer(
    [("a", SimpleImputer(missing_values="", strategy="most_frequent"), ["town"]), ("b", StandardScaler(), ["height"])]
)
SCALER = StandardScaler().fit(ROWS)
BAD_INPUT = [
    (SCALER, ROWS[:, :3], ValueError, r"StandardScaler takes shape \(n, 4\); got \(300, 3\)\."),
    (SCALER, [["a"] * 4], TypeError, r"StandardScaler takes numbers; got string\."),
    (SCALER, {"a": [1.0]}, TypeError, "StandardScaler was fitted without names of columns; "),
    (OneHotEncoder().fit(STRINGS), ROWS[:, :2], TypeError, r"OneHotEncoder: column 0 holds strings; got float64\."),
    (
        table_steps().fit(TABLE),
        {"width": [1.0]},
        ValueError,
        "ColumnTransformer misses column 'height'; it got 'width'",
    ),
    (MIXED_OUTPUT.fit(TABLE), TABLE, TypeError, "ColumnTransformer would return strings beside numbers, and no tensor"),
    (PCA(1).fit(TABLE[["height", "floor"]]), {"height": [1.0], "floor": [1], "x": [1]}, ValueError, "PCA .* 'x'"),
]


@pytest.mark.parametrize(("estimator", "X", "error", "sentence"), BAD_INPUT)
def test_bad_input_is_refused_with_one_sentence(estimator, X, error, sentence):
    ops = to_tensorflow(estimator)
    with pytest.raises(error, match=f"^{sentence}[^\n]*$"):
        ops.transform(fed(ops, X) if X is TABLE else X)


def test_a_method_that_the_estimator_lacks_is_missing():
    ops = to_tensorflow(NUMERIC["KMeans"])
    with pytest.raises(AttributeError, match="KMeans has no 'fit'; it has: predict, transform"):
        ops.fit(ROWS)
