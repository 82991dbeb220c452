"""Out-of-fold features are scikit-learn's where it has them, and never know their own label."""

import logging

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import (
    KFold,
    RepeatedKFold,
    StratifiedGroupKFold,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers.crossval import out_of_fold_features
from helpers.estimators import KerasBinaryClassifier

logging.getLogger("tensorflow").setLevel(logging.ERROR)
random = np.random.default_rng(0)
X = random.normal(size=(90, 4))
Y = (X[:, 0] + random.normal(size=90) > 0).astype(int)
DAYS = np.arange(90) // 3
LINEAR = LogisticRegression()
FOREST = RandomForestClassifier(5, random_state=0)


def build(n_features):
    model = keras.Sequential([keras.Input((n_features,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("cv", [3, KFold(4, shuffle=True, random_state=1)])
@pytest.mark.parametrize("method", ["predict_proba", "decision_function", "predict"])
@pytest.mark.parametrize("labels", [Y, np.array(["no", "yes"])[Y], np.digitize(X[:, 1], [-0.5, 0.5])])
def test_it_is_cross_val_predict(cv, method, labels):
    ours = out_of_fold_features(LINEAR, X, labels, cv=cv, method=method)
    np.testing.assert_array_equal(ours, cross_val_predict(LINEAR, X, labels, cv=cv, method=method))


@pytest.mark.parametrize("inputs", [pd.DataFrame(X, columns=list("abcd")), sparse.csr_matrix(X)])
def test_it_is_cross_val_predict_of_tables_and_sparse_rows(inputs):
    ours = out_of_fold_features(FOREST, inputs, Y)
    np.testing.assert_array_equal(ours, cross_val_predict(FOREST, inputs, Y, method="predict_proba"))


def test_numbers_are_predicted_too():
    ours = out_of_fold_features(LinearRegression(), X, X[:, 1] ** 2)
    np.testing.assert_array_equal(ours, cross_val_predict(LinearRegression(), X, X[:, 1] ** 2))


def test_groups_stay_whole():
    ours = out_of_fold_features(LINEAR, X, Y, groups=DAYS)
    theirs = cross_val_predict(LINEAR, X, Y, groups=DAYS, cv=StratifiedGroupKFold(5), method="predict_proba")
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_weights_reach_the_last_step(depth):
    model = LINEAR
    for _ in range(depth):
        model = make_pipeline(StandardScaler(), model)
    weight = random.uniform(0.1, 5, 90)
    ours = out_of_fold_features(model, X, Y, cv=3, sample_weight=weight)
    name = "__".join([*["pipeline"] * (depth - 1), *["logisticregression"] * (depth > 0), "sample_weight"])
    theirs = cross_val_predict(model, X, Y, cv=3, method="predict_proba", params={name: weight})
    np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(ours, out_of_fold_features(model, X, Y, cv=3))


def test_a_row_does_not_know_its_label():
    folds = list(KFold(3).split(X))
    before = out_of_fold_features(LINEAR, X, Y, cv=folds)
    flipped = np.where(np.arange(90) == 7, 1 - Y, Y)
    after = out_of_fold_features(LINEAR, X, flipped, cv=folds)
    np.testing.assert_array_equal(before[7], after[7])
    assert not np.array_equal(before, after)


def test_a_class_that_a_fold_has_not_seen_has_no_probability():
    labels = np.array([0, 1, 2] * 30)
    labels[:30] = np.where(labels[:30] == 2, 0, labels[:30])
    rest = (np.arange(30, 90), np.arange(30))
    folds = [rest, rest[::-1]]
    found = out_of_fold_features(LINEAR, X, labels, cv=folds)
    assert (found[30:, 2] == 0).all()
    assert (found[:30, 2] > 0).all()
    with pytest.warns(RuntimeWarning, match="Number of classes in training fold"):
        theirs = cross_val_predict(LINEAR, X, labels, cv=folds, method="predict_proba")
    np.testing.assert_array_equal(found, theirs)
    with pytest.raises(ValueError, match="no training rows of class 2: there is no decision_function"):
        out_of_fold_features(LINEAR, X, labels, cv=folds, method="decision_function")


class Recording(ClassifierMixin, BaseEstimator):
    """Predicts its seed."""

    def __init__(self, random_state=5):
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_, self.rows_ = np.unique(y), len(X)
        return self

    def predict(self, X):
        return np.full(len(X), self.random_state)


def test_each_fold_has_a_seed_of_its_own():
    def seeds(seed):
        found, model = out_of_fold_features(Recording(), X, Y, cv=3, seed=seed, return_estimator=True)
        return {*found.tolist(), model.random_state}

    assert len(seeds(0)) == 4
    assert seeds(0) == seeds(0) != seeds(1)
    assert seeds(None) == {5}
    inside = out_of_fold_features(make_pipeline(Recording()), X, Y, cv=3, seed=0)
    assert len(set(inside.tolist())) == 3


def test_the_model_for_new_rows_has_seen_all():
    done = []
    never_fitted = Recording()
    _, model = out_of_fold_features(
        never_fitted, X, Y, cv=3, return_estimator=True, on_fold=lambda *counts: done.append(counts)
    )
    assert model.rows_ == 90
    assert not hasattr(never_fitted, "rows_")
    assert done == [(1, 3), (2, 3), (3, 3)]


def alike(model, dtype):
    one, two = (out_of_fold_features(model, X, Y, cv=3, seed=1, n_jobs=jobs) for jobs in (1, 2))
    assert one.dtype == two.dtype == dtype
    np.testing.assert_array_equal(one, two)


def autoencoder(n_features):
    layers = [keras.layers.Dense(2, name="latent"), keras.layers.Dense(n_features)]
    model = keras.Sequential([keras.Input((n_features,)), *layers])
    model.compile(optimizer="adam", loss="mse")
    return model


def test_the_number_of_processes_changes_nothing():
    """The processes are kept from call to call, and with them what Keras calculated in last."""
    network = KerasBinaryClassifier(build, epochs=2)
    alike(FOREST, "float64")
    alike(network, "float32")
    before = keras.config.floatx(), keras.config.dtype_policy()
    try:
        keras.config.set_floatx("float64")
        # Layers still have the type of the first one.
        alike(network, "float32")
        keras.config.set_dtype_policy("float64")
        alike(build, "float64")
        latent = stacking.LatentFeatures(autoencoder, epochs=1).fit(X)
        # Frozen inside a frozen route, a network shows none of its parameters.
        alike(make_pipeline(FrozenEstimator(make_pipeline(latent)), LINEAR), "float64")
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
    alike(network, "float32")


def test_a_function_that_builds_a_network_will_do():
    ours = out_of_fold_features(build, X, Y, cv=2)
    np.testing.assert_array_equal(ours, out_of_fold_features(KerasBinaryClassifier(build), X, Y, cv=2))


def test_splits_by_time_leave_the_first_rows_out_and_say_so():
    by_time = TimeSeriesSplit(4)
    with pytest.raises(ValueError, match="cv leaves 18 of 90 rows without a prediction"):
        out_of_fold_features(FOREST, X, Y, cv=by_time)
    found = out_of_fold_features(FOREST, X, Y, cv=by_time, partial=True)
    assert np.isnan(found[:18]).all()
    for train, test in by_time.split(X):
        np.testing.assert_array_equal(found[test], FOREST.fit(X[train], Y[train]).predict_proba(X[test]))
    words = out_of_fold_features(FOREST, X, np.array(["no", "yes"])[Y], cv=by_time, partial=True, method="predict")
    assert pd.isna(words[:18]).all()
    assert set(words[18:]) == {"no", "yes"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"y": Y[1:]}, "inconsistent numbers of samples"),
        ({"cv": [(np.arange(90), np.arange(90))]}, "fold 0 trains on rows that it predicts"),
        ({"cv": list(KFold(3, shuffle=True, random_state=0).split(X)), "groups": DAYS}, "fold 0 trains on the group"),
        ({"cv": RepeatedKFold(n_splits=3, n_repeats=2)}, "predicts 90 rows more than once"),
        ({"method": "transform"}, "axes of its own"),
        ({"method": "score_samples"}, "method must be one of auto, predict_proba"),
    ],
)
def test_folds_and_methods_that_lie_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        out_of_fold_features(**{"estimator": LINEAR, "X": X, "y": Y, **settings})


@pytest.mark.parametrize("method", ["auto", "transform"])
def test_a_transformer_is_refused_with_the_reason(method):
    with pytest.raises(ValueError, match=f"'{method}' is refused: each fold's transformer has axes of its own"):
        out_of_fold_features(StandardScaler(), X, Y, method=method)


def test_predictions_that_are_no_numbers_are_refused():
    class Diverged(DummyClassifier):
        def predict_proba(self, X):
            return super().predict_proba(X) * np.nan

    with pytest.raises(ValueError, match="Diverged predicts values that are not finite"):
        out_of_fold_features(Diverged(), X, Y)


@pytest.mark.parametrize("wrong", [LogisticRegression, "forest", None])
def test_what_is_no_model_is_refused(wrong):
    with pytest.raises(TypeError, match=r"must be a scikit-learn estimator or a function"):
        out_of_fold_features(wrong, X, Y)


def test_a_network_works_where_scikit_learn_stacks_calibrates_and_predicts():
    network = KerasBinaryClassifier(build, epochs=2)
    stack = StackingClassifier([("network", network), ("forest", FOREST)], LINEAR, cv=2)
    assert cross_val_score(stack, X, Y, cv=2, scoring="roc_auc").mean() > 0.6
    assert CalibratedClassifierCV(network, cv=2).fit(X, Y).predict_proba(X).shape == (90, 2)
    route = make_pipeline(StandardScaler(), network)
    assert cross_val_predict(route, X, Y, cv=2, method="predict_proba").shape == (90, 2)


def test_latents_are_found_here_and_load_tensorflow_only_then():
    assert stacking.LatentFeatures.__module__ == "helpers.estimators"
    with pytest.raises(AttributeError, match="no attribute 'Latents'"):
        _ = stacking.Latents
