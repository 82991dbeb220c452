"""From a model's output to a decision: probabilities, log-odds, thresholds.

scikit-learn tunes and applies thresholds inside its own estimators (``TunedThresholdClassifierCV``,
``FixedThresholdClassifier``). The gap that is closed here is the array that a TensorFlow model returns, which may hold
logits, two columns or NaN, and which NumPy compares with any threshold without a word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

__all__ = ["apply_threshold", "check_probabilities", "log_odds"]


def check_probabilities(y_prob: ArrayLike, name: str = "y_prob") -> NDArray[np.floating]:
    """Return the positive class's probabilities as a vector, or say what they are instead.

    Parameters
    ----------
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of the positive class, as a one-unit sigmoid model returns them.
    name : str
        The argument's name, for the messages.

    Returns
    -------
    ndarray of shape (n,)
        The same values and dtype; integers and booleans become float64.

    Raises
    ------
    TypeError
        The values are not real numbers.
    ValueError
        Another shape (two softmax columns among them), NaN, or values outside [0, 1] (logits among them).

    Examples
    --------
    >>> check_probabilities([[0.25], [0.75]])
    array([0.25, 0.75])
    """
    values = np.asarray(y_prob)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got dtype {values.dtype}.")
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    if values.ndim == 2 and values.shape[1] == 2:
        raise ValueError(
            f"{name} has two columns, one for each class: pass the positive class's, {name}[:, 1]; got {values.shape}."
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{name} must have the shape (n,) or (n, 1); got {values.shape}.")
    if (missing := int(np.isnan(values).sum())) > 0:
        raise ValueError(f"{name} holds {missing} NaN among {len(values)} values: a NaN is no probability.")
    if values.size and (values.min() < 0 or values.max() > 1):
        raise ValueError(
            f"{name} must lie in [0, 1]; got values from {values.min():.4g} to {values.max():.4g}."
            " If they are logits, apply a sigmoid first."
        )
    return values


def log_odds(y_prob: ArrayLike) -> NDArray[np.floating]:
    """Log-odds, log(p / (1 - p)), of probabilities that have not saturated.

    The gap: ``scipy.special.logit`` returns ±inf where a float32 sigmoid has rounded to exactly 0 or 1 (from a logit
    of about 16.65 on). What the logit was cannot be told from the probability, so this is refused: keep the logits.

    Parameters
    ----------
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of the positive class.

    Returns
    -------
    ndarray of shape (n,)
        Natural logarithms of the odds, same floating dtype.

    Raises
    ------
    TypeError, ValueError
        As in `check_probabilities`, or a probability is exactly 0 or 1.

    Examples
    --------
    >>> log_odds([0.5, 0.75]).round(3)
    array([0.   , 1.099])
    """
    p = check_probabilities(y_prob)
    if (saturated := int(((p == 0) | (p == 1)).sum())) > 0:
        raise ValueError(
            f"y_prob holds {saturated} of {len(p)} values that are exactly 0 or 1, whose log-odds are lost:"
            " let the model return its logits, they are the log-odds."
        )
    return logit(p)


def apply_threshold(y_prob: ArrayLike, threshold: float = 0.5) -> NDArray[np.int64]:
    """Label 1 where the probability reaches the threshold, else 0.

    Parameters
    ----------
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of the positive class.
    threshold : float
        In [0, 1]. A probability equal to it is positive, as in scikit-learn's ``FixedThresholdClassifier``.

    Returns
    -------
    ndarray of shape (n,), dtype int64
        A vector also for (n, 1): a column compared with ``y_true`` of shape (n,) would broadcast to (n, n).

    Raises
    ------
    TypeError, ValueError
        As in `check_probabilities`, or a threshold that is no number in [0, 1].

    Examples
    --------
    >>> apply_threshold([0.2, 0.5, 0.9])
    array([0, 1, 1])
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.integer, np.floating)):
        raise TypeError(f"threshold must be one number in [0, 1]; got {threshold!r}.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1]; got {threshold}.")
    # As a Python float it is rounded to the dtype of the probabilities: a float32 0.7 reaches the threshold 0.7.
    return (check_probabilities(y_prob) >= float(threshold)).astype(np.int64)
