"""A Keras model, or scores, inside scikit-learn."""

import logging

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import TunedThresholdClassifierCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import check_class_weight_classifiers, check_estimator

from helpers.estimators import KerasBinaryClassifier, ScoreClassifier

logging.getLogger("tensorflow").setLevel(logging.ERROR)


def build(n_features):
    model = keras.Sequential([keras.Input((n_features,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module")
def table():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), np.array(["malignant", "benign"])[y]


@pytest.mark.filterwarnings("ignore")
def test_it_is_a_scikit_learn_estimator():
    """Weights are not repetitions for stochastic gradient descent, and one epoch of it follows no weight of 1,000."""
    expected = {
        "check_sample_weight_equivalence_on_dense_data": "batches differ",
        "check_class_weight_classifiers": "one epoch is too short",
    }
    results = check_estimator(
        KerasBinaryClassifier(build, epochs=1), expected_failed_checks=expected, on_fail=None, on_skip=None
    )
    assert [result["check_name"] for result in results if result["status"] == "failed"] == []
    assert sum(result["status"] == "passed" for result in results) > 40


@pytest.mark.filterwarnings("ignore")
def test_longer_training_follows_the_weights_of_classes():
    check_class_weight_classifiers("KerasBinaryClassifier", KerasBinaryClassifier(build, epochs=30))


def test_probabilities_labels_and_logits_agree(table):
    X, y = table
    model = KerasBinaryClassifier(build, epochs=3).fit(X, y)
    proba = model.predict_proba(X)
    assert model.classes_.tolist() == ["benign", "malignant"]
    assert proba.shape == (len(X), 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert ((proba[:, 1] >= 0.5) == (model.predict(X) == "malignant")).all()
    assert (model.predict(X) == y).mean() > 0.9


def test_a_fit_starts_afresh_and_the_seed_decides(table):
    X, y = table
    model = KerasBinaryClassifier(build, epochs=1, seed=3)
    first = model.fit(X, y).decision_function(X)
    np.testing.assert_array_equal(model.fit(X, y).decision_function(X), first)
    np.testing.assert_array_equal(clone(model).fit(X, y).decision_function(X), first)
    other = KerasBinaryClassifier(build, epochs=1, seed=4).fit(X, y).decision_function(X)
    assert not np.array_equal(other, first)


def test_weights_reach_the_loss(table):
    X, y = table
    heavy = np.where(y == "malignant", 1, 1e-6)
    model = KerasBinaryClassifier(build, epochs=5)
    plain = (model.fit(X, y).predict(X) == "malignant").mean()
    weighted = (model.fit(X, y, sample_weight=heavy).predict(X) == "malignant").mean()
    assert weighted > plain + 0.1


def test_class_weights_are_weights_of_rows(table):
    X, y = table
    given = np.linspace(0.5, 2, len(y))
    balanced = compute_sample_weight("balanced", y)
    for weight, whole in ((None, balanced), (given, given * balanced)):
        by_class = KerasBinaryClassifier(build, epochs=2, class_weight="balanced").fit(X, y, sample_weight=weight)
        by_row = KerasBinaryClassifier(build, epochs=2).fit(X, y, sample_weight=whole)
        np.testing.assert_array_equal(by_class.decision_function(X), by_row.decision_function(X))
    assert not np.array_equal(
        by_row.decision_function(X), KerasBinaryClassifier(build, epochs=2).fit(X, y).decision_function(X)
    )


def test_it_works_in_the_three_places_where_the_wrapper_of_keras_does_not(table):
    X, y = table
    model = make_pipeline(StandardScaler(), KerasBinaryClassifier(build, epochs=2))
    proba = cross_val_predict(model, X, y, cv=3, method="predict_proba")
    assert ((proba[:, 1] > 0.5) == (y == "malignant")).mean() > 0.9
    tuned = TunedThresholdClassifierCV(model, scoring="balanced_accuracy", cv=3).fit(X, y)
    assert (tuned.predict(X) == y).mean() > 0.9
    calibrated = CalibratedClassifierCV(model, method="temperature", cv=3).fit(X, y)
    assert calibrated.predict_proba(X).shape == (len(X), 2)


@pytest.mark.parametrize("y", [np.zeros(10), np.arange(10) % 3])
def test_two_classes_are_needed(y):
    with pytest.raises(ValueError, match=r"y must hold two classes; got [13] class\(es\)"):
        KerasBinaryClassifier(build).fit(np.ones((10, 2)), y)


def test_scores_stand_for_a_model():
    rng = np.random.default_rng(0)
    truth = rng.random(4000)
    y_true = (rng.random(4000) < truth).astype(int)
    odds = (truth / (1 - truth)) ** 3
    overconfident = (odds / (1 + odds))[:, np.newaxis]
    scores = ScoreClassifier().fit(overconfident, y_true)
    np.testing.assert_allclose(scores.predict_proba(overconfident)[:, 1], overconfident[:, 0])
    repaired = CalibratedClassifierCV(FrozenEstimator(scores), method="temperature").fit(overconfident, y_true)
    assert np.abs(repaired.predict_proba(overconfident)[:, 1] - truth).max() < 0.03


def test_saturated_scores_are_as_certain_as_the_rows_allow_on_both_sides():
    scores = ScoreClassifier().fit([[0.0], [0.0], [0.3], [0.6], [1.0]], [0, 0, 0, 1, 1])
    assert scores.limits_ == (0.1, 0.9)
    low, high = scores.decision_function([[0.0], [1.0]])
    assert low == pytest.approx(-high)
    assert scores.predict([[0.0], [1.0]]).tolist() == [0, 1]
    np.testing.assert_allclose(scores.predict_proba([[0.01], [0.995]])[:, 1], [0.01, 0.995])
    assert ScoreClassifier().fit([[0.0], [0.001], [1.0]], [0, 0, 1]).limits_[0] == 0.001


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ScoreClassifier().fit([[-2.0], [3.0]], [0, 1])
    with pytest.raises(ValueError, match="one column"):
        ScoreClassifier().fit([[0.2, 0.8], [0.3, 0.7]], [0, 1])
