"""Ensembles of scikit-learn's trees as TensorFlow ops, with every sum in scikit-learn's order.

The gap: TensorFlow has no op for a tree of scikit-learn, and what converts trees elsewhere takes thresholds and sums to
float32. Here a threshold compares as in scikit-learn, and leaves are added tree by tree in float64.

Two ways lead to a leaf. Small trees (up to 64 leaves: gradient boosting, shallow forests) know no walk: each feature is
looked up once among all thresholds, which gives the leaves that it leaves open in every tree, as bits; the lowest bit
that all features share is the leaf (QuickScorer: Lucchese et al., SIGIR 2015). Large trees are walked level by level,
all at once, which costs some gathers a level: with many rows scikit-learn's compiled loop is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__ = ["Tree", "forest_trees", "gradient_trees", "histogram_trees", "in_chunks", "leaf_sums"]

Array = NDArray[Any]
Leaves = Callable[[tf.Tensor], tf.Tensor]

# Pairs of row and tree at a time: what lies between two ops stays in the processor's cache.
_PAIRS = 1 << 17
# Trees that share a table of thresholds, which grows with the square of their number.
_TOGETHER = 128
_BITS = 64


@dataclass(frozen=True)
class Tree:
    """One binary tree; node 0 is the root, and a row goes left where its feature is at most the threshold.

    Parameters
    ----------
    feature, left, right : ndarray of int of shape (nodes,)
        The column that is asked, and the two children; `left` is negative in a leaf.
    threshold : ndarray of float of shape (nodes,)
    missing_left : ndarray of bool of shape (nodes,)
        Whether NaN goes left.
    value : ndarray of float64 of shape (nodes, outputs)
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    missing_left: Array
    value: Array


def forest_trees(forest: Any) -> list[list[Tree]]:
    """Return the trees of a fitted random forest, one a round, with one value for each class."""
    return [[_tree(one.tree_, one.tree_.value[:, 0, :])] for one in forest.estimators_]


def gradient_trees(model: Any) -> list[list[Tree]]:
    """Return the trees of a fitted `GradientBoostingClassifier` or ``Regressor``, one for each class in a round."""
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0]
    rounds = [
        [_tree(one.tree_, model.learning_rate * one.tree_.value[:, 0, :]) for one in estimators]
        for estimators in model.estimators_
    ]
    return _started(rounds, start)


def histogram_trees(model: Any) -> list[list[Tree]]:
    """Return the trees of a fitted `HistGradientBoostingClassifier` or ``Regressor`` without categorical features."""
    rounds = [[_histogram_tree(one.nodes) for one in predictors] for predictors in model._predictors]
    return _started(rounds, model._baseline_prediction[0])


def _started(rounds: list[list[Tree]], start: Array) -> list[list[Tree]]:
    # The first trees bring the start along, so that sums are rounded in scikit-learn's order.
    first = [replace(tree, value=begin + tree.value) for tree, begin in zip(rounds[0], start, strict=True)]
    return [first, *rounds[1:]]


def _tree(tree: Any, value: Array) -> Tree:
    missing_left = np.asarray(tree.missing_go_to_left, bool)
    return Tree(tree.feature, tree.threshold, tree.children_left, tree.children_right, missing_left, value)


def _histogram_tree(nodes: Array) -> Tree:
    left, right = (nodes[side].astype(np.int64) for side in ("left", "right"))
    left[nodes["is_leaf"] == 1] = -1
    missing_left = nodes["missing_go_to_left"].astype(bool)
    return Tree(nodes["feature_idx"], nodes["num_threshold"], left, right, missing_left, nodes["value"][:, np.newaxis])


def leaf_sums(trees: Sequence[Sequence[Tree]], dtype: tf.DType) -> Leaves:
    """Return the op that adds up the leaves that a row falls into.

    Parameters
    ----------
    trees : sequence of sequence of Tree
        Rounds of trees. The first trees of all rounds are added up in their order, so are the second ones.
    dtype : tf.DType
        What the features are compared in: float32, or float64.

    Returns
    -------
    callable
        From a tensor of shape (n, features) and of `dtype` to one of float64 of shape (n, trees in a round × outputs).
    """
    rounds, width = len(trees), len(trees[0])
    flat = [tree for one in trees for tree in one]
    most = max(int((tree.left < 0).sum()) for tree in flat)
    leaves = _by_bits(flat, dtype) if most <= _BITS else _by_walk(flat, dtype)
    outputs = flat[0].value.shape[1]

    # Tree i of every round adds to sum i.
    place = np.arange(rounds * width, dtype=np.int32) % width

    def sums(x: tf.Tensor) -> tf.Tensor:
        # Of TensorFlow's sums, the one that keeps scikit-learn's order.
        found = tf.math.unsorted_segment_sum(leaves(x), place, width)
        return tf.reshape(tf.transpose(found, (1, 0, 2)), (-1, width * outputs))

    chunk = tf.TensorSpec((None, width * outputs), tf.float64)
    return lambda x: in_chunks(sums, x, max(1, _PAIRS // len(flat)), chunk)


def in_chunks(call: Leaves, x: tf.Tensor, most: int, chunk: tf.TensorSpec) -> tf.Tensor:
    """Return what a call gives for all rows, from some rows at a time: what lies in between stays small.

    Parameters
    ----------
    call : callable
        From some rows of `x` to as many rows of its result.
    x : tensor of shape (n, ...)
    most : int
        Rows at a time.
    chunk : tf.TensorSpec
        What `call` returns, of shape (None, ...).

    Returns
    -------
    tensor of shape (n, ...)

    Examples
    --------
    >>> in_chunks(lambda rows: 2 * rows, tf.range(5), 2, tf.TensorSpec((None,), tf.int32)).numpy()
    array([0, 2, 4, 6, 8], dtype=int32)
    """
    number = -(-tf.shape(x)[0] // most)
    parts = tf.TensorArray(chunk.dtype, number, infer_shape=False, element_shape=chunk.shape)

    def add(at: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        return at + 1, parts.write(at, call(x[at * most : (at + 1) * most]))

    return tf.while_loop(lambda at, _: at < number, add, (0, parts))[1].concat()


def _thresholds(tree: Tree, dtype: tf.DType) -> Array:
    """Return the largest thresholds of `dtype` that compare as the given ones do."""
    rounded = tree.threshold.astype(dtype.as_numpy_dtype)
    down = np.nextafter(rounded, -np.inf, dtype=rounded.dtype)
    return np.where(rounded.astype(np.float64) > tree.threshold, down, rounded)


# --- small trees: bits -------------------------------------------------------------------------------------------


def _by_bits(trees: Sequence[Tree], dtype: tf.DType) -> Leaves:
    groups = [_bit_group(trees[at : at + _TOGETHER], dtype) for at in range(0, len(trees), _TOGETHER)]
    return lambda x: tf.concat([group(x) for group in groups], axis=0)


def _bit_group(trees: Sequence[Tree], dtype: tf.DType) -> Leaves:
    most = max(int((tree.left < 0).sum()) for tree in trees)
    bits = np.dtype(f"u{max(1, int(2 ** np.ceil(np.log2(most))) // 8)}")
    # Whole words of 64 bits hold several trees: one op for all of them.
    padded = -(-len(trees) * bits.itemsize // 8) * 8 // bits.itemsize
    values = np.zeros((len(trees), most, trees[0].value.shape[1]))
    asked: dict[int, list[tuple[Any, int, int, bool]]] = {}
    for at, tree in enumerate(trees):
        threshold = _thresholds(tree, dtype)
        for leaf, node in enumerate(_leaves_below(tree, 0)):
            values[at, leaf] = tree.value[node]
        for node, closed in _closed_leaves(tree).items():
            mask = (1 << bits.itemsize * 8) - 1 - closed
            asked.setdefault(int(tree.feature[node]), []).append(
                (threshold[node], at, mask, bool(tree.missing_left[node]))
            )
    columns, known, tables = sorted(asked), [], []
    for column in columns:
        cuts = np.unique([cut for cut, *_ in asked[column]])
        # A row for each number of thresholds that lie below the value, and one for NaN.
        table = np.full((len(cuts) + 2, padded), (1 << bits.itemsize * 8) - 1, dtype=bits)
        for cut, at, mask, missing_left in asked[column]:
            table[np.searchsorted(cuts, cut) + 1 : -1, at] &= bits.type(mask)
            if not missing_left:
                table[-1, at] &= bits.type(mask)
        known.append(cuts.astype(dtype.as_numpy_dtype))
        tables.append(table.view(np.int64))
    places = (np.arange(len(trees)) * most)[:, np.newaxis]

    def leaves(x: tf.Tensor) -> tf.Tensor:
        open_: tf.Tensor | None = None
        for column, cuts, table in zip(columns, known, tables, strict=True):
            value = x[:, column]
            row = tf.where(tf.math.is_nan(value), len(cuts) + 1, tf.searchsorted(cuts, value))
            words = tf.gather(tf.constant(table), row)
            open_ = words if open_ is None else tf.bitwise.bitwise_and(open_, words)
        if open_ is None:
            leaf = tf.zeros((len(trees), tf.shape(x)[0]), tf.int32)
        else:
            masks = tf.reshape(tf.bitcast(open_, tf.as_dtype(bits)), (-1, padded))[:, : len(trees)]
            below = tf.bitwise.bitwise_and(tf.bitwise.invert(masks), masks - tf.ones((), masks.dtype))
            leaf = tf.cast(tf.transpose(tf.raw_ops.PopulationCount(x=below)), tf.int32)
        flat = tf.constant(values.reshape(-1, values.shape[2]))
        return tf.gather(flat, leaf + tf.constant(places, tf.int32))

    return leaves


def _leaves_below(tree: Tree, node: int) -> list[int]:
    found, stack = [], [node]
    while stack:
        at = stack.pop()
        if tree.left[at] < 0:
            found.append(at)
        else:
            stack += [int(tree.right[at]), int(tree.left[at])]
    return found


def _closed_leaves(tree: Tree) -> dict[int, int]:
    """Return, for each node, the leaves that are out of reach for a row that goes right, as bits."""
    number = {node: at for at, node in enumerate(_leaves_below(tree, 0))}
    return {
        node: sum(1 << number[leaf] for leaf in _leaves_below(tree, int(tree.left[node])))
        for node in range(len(tree.left))
        if tree.left[node] >= 0
    }


# --- large trees: a walk -----------------------------------------------------------------------------------------


def _by_walk(trees: Sequence[Tree], dtype: tf.DType) -> Leaves:
    orders = [_breadth_first(tree) for tree in trees]
    roots = np.cumsum([0, *(len(order) for order, _ in orders)])[:-1].astype(np.int32)
    columns: dict[tuple[int, bool], int] = {}
    feature, threshold, right, value = [], [], [], []
    for tree, root, (order, _) in zip(trees, roots, orders, strict=True):
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order)) + root
        inner = tree.left >= 0
        asked = [
            columns.setdefault((int(f), bool(m)), len(columns) + 1) if i else 0
            for f, m, i in zip(tree.feature, tree.missing_left, inner, strict=True)
        ]
        feature.append(np.asarray(asked, np.int32)[order])
        # A leaf asks a column of zeros, and stays where it is.
        threshold.append(np.where(inner, _thresholds(tree, dtype), np.inf)[order])
        right.append(np.where(inner, place[np.where(inner, tree.right, 0)], place + 1)[order])
        value.append(tree.value[order])
    features, thresholds, rights, values = map(np.concatenate, (feature, threshold, right, value))
    thresholds = thresholds.astype(dtype.as_numpy_dtype)
    depth = max(deep for _, deep in orders)

    def leaves(x: tf.Tensor) -> tf.Tensor:
        n = tf.shape(x)[0]
        asked = [tf.zeros(n, dtype)]
        for column, missing_left in columns:
            one = x[:, column]
            # NaN is not at most a threshold, so it goes right unless it is made small.
            asked.append(tf.where(tf.math.is_nan(one), tf.constant(-np.inf, dtype), one) if missing_left else one)
        flat = tf.concat(asked, axis=0)
        row = tf.range(n)
        node = tf.repeat(tf.constant(roots[:, np.newaxis]), n, axis=1)
        for _ in range(depth):
            seen = tf.gather(flat, tf.gather(tf.constant(features), node) * n + row)
            stays = seen <= tf.gather(tf.constant(thresholds), node)
            # Subtracted, for TensorFlow rewrites "not <=" to ">", which NaN answers otherwise.
            node = tf.gather(tf.constant(rights), node) - tf.cast(stays, tf.int32)
        return tf.gather(tf.constant(values), node)

    return leaves


def _breadth_first(tree: Tree) -> tuple[Array, int]:
    """Return the nodes level by level, so that the right child stands next to the left one, and the depth."""
    order, level, depth = [0], [0], 0
    while level := [
        int(child) for node in level if tree.left[node] >= 0 for child in (tree.left[node], tree.right[node])
    ]:
        order += level
        depth += 1
    return np.asarray(order), depth
