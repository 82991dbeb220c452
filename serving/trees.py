"""Ensembles of scikit-learn's trees as TensorFlow ops, with every sum in scikit-learn's order.

The gap: TensorFlow has no op for a tree of scikit-learn, and what converts trees elsewhere takes thresholds and sums to
float32. Here a threshold compares as in scikit-learn, and leaves are added tree by tree in float64.

All rows walk down all trees at once, one level at a time, with some gathers a level. From some hundred rows on,
scikit-learn's compiled loop is faster, and so is a py_function around it: a row leaves that loop at its leaf. Where
trees times levels are more than 1,000, the conversion warns.

To add an ensemble: write a function that returns its trees as `Tree`, grouped by round, and a conversion in
`serving.ops` that calls `leaf_sums` with them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Array = NDArray[Any]
Op = Callable[[tf.Tensor], tf.Tensor]

# Pairs of row and tree that are walked at a time: memory does not grow with the number of rows.
_PAIRS = 1 << 17


class Tree(NamedTuple):
    """One binary tree; node 0 is the root, and a row goes left where its feature is at most the threshold.

    Parameters
    ----------
    feature, left, right : ndarray of int of shape (nodes,)
        The column that is compared, and the two children. A leaf is its own child on both sides, whatever it compares.
    threshold : ndarray of float of shape (nodes,)
    missing_left : ndarray of bool of shape (nodes,)
        Whether NaN goes left.
    value : ndarray of float64 of shape (nodes, outputs)
    depth : int
        Steps from the root to the deepest leaf.
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    missing_left: Array
    value: Array
    depth: int


def forest_trees(forest: Any) -> list[list[Tree]]:
    """Return the trees of a fitted random forest, one a round, with one value for each class."""
    return [[_tree(one.tree_)] for one in forest.estimators_]


def gradient_trees(model: Any) -> list[list[Tree]]:
    """Return the trees of a fitted `GradientBoostingClassifier` or ``Regressor``, one for each class in a round."""
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0]
    rounds = [[_tree(one.tree_, model.learning_rate) for one in estimators] for estimators in model.estimators_]
    return _started(rounds, start)


def histogram_trees(model: Any) -> list[list[Tree]]:
    """Return the trees of a fitted `HistGradientBoostingClassifier` or ``Regressor`` without categorical features."""
    rounds = [[_histogram_tree(one.nodes) for one in predictors] for predictors in model._predictors]
    return _started(rounds, model._baseline_prediction[0])


def _started(rounds: list[list[Tree]], start: Array) -> list[list[Tree]]:
    # The first trees bring the start along, so that sums are rounded in scikit-learn's order.
    first = [tree._replace(value=begin + tree.value) for tree, begin in zip(rounds[0], start, strict=True)]
    return [first, *rounds[1:]]


def _tree(tree: Any, factor: float = 1.0) -> Tree:
    leaf, here = tree.children_left < 0, np.arange(tree.node_count)
    left, right = np.where(leaf, here, tree.children_left), np.where(leaf, here, tree.children_right)
    missing_left, value = np.asarray(tree.missing_go_to_left, bool), factor * tree.value[:, 0, :]
    return Tree(np.where(leaf, 0, tree.feature), tree.threshold, left, right, missing_left, value, tree.max_depth)


def _histogram_tree(nodes: Array) -> Tree:
    here = np.arange(len(nodes))
    left, right = (np.where(nodes["is_leaf"] == 1, here, nodes[side]) for side in ("left", "right"))
    missing_left, value = nodes["missing_go_to_left"].astype(bool), nodes["value"][:, np.newaxis]
    return Tree(nodes["feature_idx"], nodes["num_threshold"], left, right, missing_left, value, nodes["depth"].max())


def leaf_sums(trees: Sequence[Sequence[Tree]]) -> Op:
    """Return the op that adds up the leaves that a row falls into.

    Parameters
    ----------
    trees : sequence of sequence of Tree
        Rounds of trees. The first trees of all rounds are added up in their order, so are the second ones.

    Returns
    -------
    callable
        From a tensor of shape (n, features), whose dtype is the one that scikit-learn compares in, to one of float64 of
        shape (n, trees in a round × outputs), or (n,) if that is 1.
    """
    width, flat = len(trees[0]), [tree for one in trees for tree in one]
    roots = np.cumsum([0, *(len(tree.left) for tree in flat[:-1])]).astype(np.int32)
    columns = zip(*(tree[:-1] for tree in flat), strict=True)
    features, thresholds, _, _, missing_left, values = map(np.concatenate, columns)
    children = [np.stack([tree.right, tree.left], axis=1) + root for tree, root in zip(flat, roots, strict=True)]
    child = np.concatenate(children).ravel().astype(np.int32)
    depth, outputs = max(tree.depth for tree in flat), width * values.shape[1]
    shape = () if outputs == 1 else (outputs,)

    def sums(x: tf.Tensor) -> tf.Tensor:
        n, x = tf.shape(x)[0], tf.cast(x, tf.float64)
        # NaN is at most no threshold, so it goes right unless it is made small.
        small = tf.where(tf.math.is_nan(x), tf.constant(-np.inf, tf.float64), x)
        cells = tf.reshape(tf.concat([tf.transpose(x), tf.transpose(small)], axis=0), [-1])
        column = tf.constant(features + x.shape[1] * missing_left, tf.int32)
        node = tf.repeat(roots[:, np.newaxis], n, axis=1)
        for _ in range(depth):
            value = tf.gather(cells, tf.gather(column, node) * n + tf.range(n))
            goes_left = value <= tf.gather(tf.constant(thresholds), node)
            node = tf.gather(tf.constant(child), 2 * node + tf.cast(goes_left, tf.int32))
        # Of TensorFlow's sums, the one that keeps scikit-learn's order. Tree i of every round adds to sum i.
        found = tf.math.unsorted_segment_sum(tf.gather(tf.constant(values), node), np.arange(len(flat)) % width, width)
        return tf.reshape(tf.transpose(found, (1, 0, 2)), (-1, *shape))

    # Below, it is some milliseconds at 1,000 rows.
    if len(flat) * depth > 1000:
        slow = "as a graph they take longer than scikit-learn, and than a py_function, from some hundred rows on"
        # Without the depth and the caller's line: equal forests, as those in a calibration, are then told of once.
        warnings.warn(f"{len(flat)} trees: {slow}.", stacklevel=1)

    return lambda x: in_chunks(sums, x, max(1, _PAIRS // len(flat)), shape)


def in_chunks(call: Op, x: tf.Tensor, rows: int, shape: Sequence[int], dtype: Any = tf.float64) -> tf.Tensor:
    """Return what a call gives for all rows, of this shape and dtype for each, from some rows at a time."""
    number = -(-tf.shape(x)[0] // rows)
    parts = tf.TensorArray(dtype, number, infer_shape=False, element_shape=(None, *shape))

    def add(at: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        return at + 1, parts.write(at, call(x[at * rows : (at + 1) * rows]))

    return tf.while_loop(lambda at, _: at < number, add, (0, parts))[1].concat()
