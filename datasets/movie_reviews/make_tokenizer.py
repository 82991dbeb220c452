"""Make tokenizer.json and subwords.keras, which lesson 34 loads; needed only to make them again.

python datasets/movie_reviews/make_tokenizer.py          writes only where there are none
python datasets/movie_reviews/make_tokenizer.py --force  overwrites: two savings of equal weights differ in their bytes

Both learn from the first part of `data.split(reviews, seed=0)` and have not seen the other reviews. `tokenizers` gives
IDs to continuing characters (``##a``) in the order of a hash table, which changes from run to run, and breaks ties by
ID (huggingface/tokenizers#1794): two trainings on the same texts end in two vocabularies. Here these IDs are fixed
before training begins, so tokenizer.json is the same each time.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from helpers import data, notebook

VOCABULARY_SIZE, SIZE, STEPS = 4000, 16, 500
NAMES = "tokenizer.json", "subwords.keras"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def make_tokenizer(X: Any, size: int = VOCABULARY_SIZE) -> Any:
    """Train WordPiece on texts; normaliser, special tokens, truncation and padding are part of what is returned."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    def untrained(model: Any) -> Any:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer

    texts = [str(text) for text in X]
    draft = untrained(models.WordPiece(unk_token="[UNK]"))
    characters = sorted(set().union(*map(draft.normalizer.normalize_str, texts)) - set(" \t\n\r"))
    if not characters:
        raise notebook.UserError(f"none of the {len(texts)} texts holds a character: there is nothing to learn from.")
    # As special tokens they get their IDs first, in this order, and not in that of a hash table.
    first = SPECIAL + [f"##{character}" for character in characters]
    trainer = trainers.WordPieceTrainer(vocab_size=max(size, 2 * len(first)), special_tokens=first, show_progress=False)
    draft.train_from_iterator(texts, trainer)

    tokenizer = untrained(models.WordPiece(draft.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    # As long as 19 of 20 texts; what is longer is truncated.
    lengths = [len(encoded) for encoded in tokenizer.encode_batch(texts)]
    tokenizer.enable_truncation(int(np.clip(np.ceil(np.quantile(lengths, 0.95)), 4, 2000)))
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def make(X: Any, y: np.ndarray, seed: int = 0) -> tuple[Any, Any]:
    """Train a tokenizer, and on its IDs a small network: an embedding, the mean over what is no padding, a logit."""
    # Not above: TensorFlow reads what `notebook.setup` sets when it is imported.
    import keras
    from keras import layers, ops

    keras.utils.set_random_seed(seed)
    tokenizer = make_tokenizer(X)
    encoded = tokenizer.encode_batch([str(text) for text in X])

    ids = keras.Input((None,), dtype="int32", name="ids")
    is_token = ops.expand_dims(ops.cast(ops.not_equal(ids, 0), "float32"), -1)
    vectors = layers.Dropout(0.5)(layers.Embedding(tokenizer.get_vocab_size(), SIZE)(ids))
    mean = ops.sum(vectors * is_token, axis=1) / ops.maximum(ops.sum(is_token, axis=1), 1)
    logit = layers.Dense(1)(mean)
    network = keras.Model(ids, {"logit": logit, "probability": layers.Activation("sigmoid")(logit)})

    core = keras.Model(ids, logit)
    core.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    batch_size = int(np.clip(len(y) // 50, 16, 64))
    epochs = max(1, round(STEPS * batch_size / len(y)))
    core.fit(np.array([one.ids for one in encoded]), y, batch_size=batch_size, epochs=epochs, verbose=0)
    return tokenizer, network


def save(folder: Path, X: Any, y: np.ndarray, seed: int = 0) -> None:
    """Train both on texts, and write their files into a folder."""
    tokenizer, network = make(X, y, seed)
    tokenizer.save(str(folder / NAMES[0]))
    network.save(folder / NAMES[1])


if __name__ == "__main__":
    notebook.setup({})
    here = Path(__file__).parent
    if any((here / name).exists() for name in NAMES) and "--force" not in sys.argv:
        sys.exit(f"{' or '.join(NAMES)} is there already; --force overwrites both.")
    reviews = data.load("movie_reviews")
    train, _ = data.split(reviews, seed=0)
    save(here, reviews.X[train], reviews.y[train])
