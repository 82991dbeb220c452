"""Read a model of Keras 2 with Keras 2, and write what Keras 3 needs to take it over.

python datasets/keras2/convert.py OLD FOLDER [ROWS.npz]

OLD is an .h5 file, a SavedModel folder or a .keras file. A class of its author's is not known here, and such a model is
refused with its name. FOLDER, which must not exist, receives `model.h5` and `golden.npz`: rows as x0, x1, … (those of
ROWS.npz, or random ones) and what Keras 2 predicts for them as y0, y1, … Lesson 15 takes both, as `model_path` and
`data_path`. Keras 2 runs in the environment of `environment.py`.
"""

import sys
from pathlib import Path
from typing import Any

import environment
import numpy as np

ROWS = 64


def random_rows(model: Any) -> list[np.ndarray]:
    """Return rows of the model's shapes and types; a free dimension becomes 32."""
    rng, made = np.random.default_rng(0), []
    for tensor in model.inputs:
        shape = [ROWS, *(size or 32 for size in tensor.shape[1:])]
        if tensor.dtype.is_integer:
            made.append(rng.integers(0, 2, shape).astype(tensor.dtype.as_numpy_dtype))
        elif tensor.dtype.is_floating:
            made.append(rng.random(shape).astype("float32"))
        else:
            sys.exit(f"an input of type {tensor.dtype.name} takes no random rows: name a file of rows.")
    return made


def convert(old: str, folder: Path, rows: str = "") -> None:
    """Write `model.h5` and `golden.npz`, in an environment with `tf-keras`."""
    import tf_keras as k

    try:
        model = k.models.load_model(old, compile=False)
    except Exception as error:
        sys.exit(f"Keras 2 cannot read {old}: {str(error).splitlines()[0]}")
    if not hasattr(model, "inputs") or not model.inputs:
        sys.exit(f"{old} has no inputs that are known before it is called: only TFSMLayer can run it.")
    inputs = list(np.load(rows).values()) if rows else random_rows(model)
    outputs = model.predict(inputs, verbose=0)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    folder.mkdir(parents=True)
    try:
        model.save(folder / "model.h5", include_optimizer=False)
    except NotImplementedError:
        print("Its classes are written in Python, so no .h5 can hold it: build it anew, and take over the weights.")
        np.savez(folder / "weights.npz", **{weight.name: weight.numpy() for weight in model.weights})
    named: dict[str, Any] = {f"x{number}": value for number, value in enumerate(inputs)}
    named |= {f"y{number}": value for number, value in enumerate(outputs)}
    np.savez_compressed(folder / "golden.npz", **named)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


if __name__ == "__main__":
    here, arguments = "--here" in sys.argv, [text for text in sys.argv[1:] if text != "--here"]
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    for path in (arguments[0], *arguments[2:]):
        if not Path(path).exists():
            sys.exit(f"nothing is at {path}.")
    if Path(arguments[1]).exists():
        sys.exit(f"{arguments[1]} is there already: name a new folder.")
    if here:
        convert(arguments[0], Path(arguments[1]), *arguments[2:])
    else:
        environment.run(__file__, "--here", *arguments)
