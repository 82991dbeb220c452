"""Make network.keras, the trained text model that lessons load; needed only to make it again.

python datasets/movie_reviews/make_network.py          writes only where there is none
python datasets/movie_reviews/make_network.py --force  overwrites: two savings of equal weights differ in their bytes

It learns from the first part of `data.split(reviews, seed=0)` and has not seen the other reviews. Strings go in: the
layer that tokenises them was given its vocabulary, so that the file can be loaded again whatever characters the
vocabulary holds. An empty text has a mean of zero by definition, not 0 / 0.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from helpers import data, notebook

MAX_TOKENS, SIZE, STEPS = 6000, 16, 500


def make(X: Any, y: np.ndarray, seed: int = 0) -> Any:
    """Train a small network on texts: an embedding, the mean over the tokens, a logit and its sigmoid, both named."""
    # Not above: TensorFlow reads what `notebook.setup` sets when it is imported.
    import keras
    import tensorflow as tf
    from keras import layers, ops

    keras.utils.set_random_seed(seed)
    texts = tf.constant([str(text) for text in X])
    learned = layers.TextVectorization(max_tokens=MAX_TOKENS, ragged=True)
    learned.adapt(texts)
    # NumPy's strings lose null characters at their end, so a token may be empty, or stand there twice.
    tokens = dict.fromkeys(map(str, learned.get_vocabulary(include_special_tokens=False)))
    vocabulary = [token for token in tokens if token]
    if not vocabulary:
        raise notebook.UserError(f"none of the {len(X)} texts holds a word: there is nothing to learn from.")
    # As long as 19 of 20 texts; what is longer is truncated.
    length = int(np.clip(np.ceil(np.quantile(learned(texts).row_lengths(), 0.95)), 4, 2000))
    vectorize = layers.TextVectorization(vocabulary=vocabulary, output_sequence_length=length)

    text = keras.Input((), dtype="string", name="text")
    ids = vectorize(text)
    is_token = ops.expand_dims(ops.cast(ops.not_equal(ids, 0), "float32"), -1)
    vectors = layers.Dropout(0.5)(layers.Embedding(len(vocabulary) + 2, SIZE)(ids))
    mean = ops.sum(vectors * is_token, axis=1) / ops.maximum(ops.sum(is_token, axis=1), 1)
    logit = layers.Dense(1)(mean)
    network = keras.Model(text, {"logit": logit, "probability": layers.Activation("sigmoid")(logit)})

    core = keras.Model(ids, logit)
    core.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    batch_size = int(np.clip(len(y) // 50, 16, 64))
    epochs = max(1, round(STEPS * batch_size / len(y)))
    core.fit(vectorize(texts), y, batch_size=batch_size, epochs=epochs, verbose=0)
    return network


if __name__ == "__main__":
    notebook.setup({})
    path = Path(__file__).with_name("network.keras")
    if path.exists() and "--force" not in sys.argv:
        sys.exit(f"{path.name} is there already; --force overwrites it.")
    reviews = data.load("movie_reviews")
    train, _ = data.split(reviews, seed=0)
    make(reviews.X[train], reviews.y[train]).save(path)
