"""A fixed list of requests to a model server, its answers as a file, and the comparison of the local server with it.

What the local server imitates is checked against what TensorFlow Serving answered: on GitHub, by the job `serving` of
the workflow, with the digest of the image that answered; anywhere else, against such a file.

    python tests/record_server.py export MODELS CONFIG     the model 'recorder', and a configuration that serves it, too
    python tests/record_server.py record URL FILE --digest IMAGE@sha256:… --config CONFIG/models.config
    python tests/record_server.py compare FILE             the local server against the file; status 1 if they differ

No answer of a server is written by hand. A file that another program than the real server made has no digest and says
`"fixture"` and which program it was.
"""

import argparse
import base64
import datetime
import json
import math
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import numpy as np

from helpers.notebook import ENVIRONMENT, ROOT
from serving import Client, export, local_server

MODEL, BLOCK = "recorder", '    model_platform: "tensorflow"'
LATEST = "model_version_policy { latest { num_versions: 1 } }"


def make_models(models, config=None):
    """Export versions 1 and 2 of the model, and write the project's configuration with it; version 2 is not served."""
    os.environ.update({**ENVIRONMENT, **os.environ})
    import keras
    import tensorflow as tf

    def finite(x):
        tf.debugging.Assert(~tf.reduce_any(tf.math.is_inf(x)), ["x holds infinity"])
        return tf.reduce_all(tf.math.is_finite(x), axis=1)

    x, word = keras.Input((3,), name="x"), keras.Input((), name="word", dtype="string")
    for version, factor in ((1, 1.0), (2, 10.0)):
        dense = keras.layers.Dense(2, name="sums")
        place = keras.layers.StringLookup(vocabulary=["a", "b", "Köln"], name="place")
        network = keras.Model([x, word], {"sums": dense(x), "place": place(word)})
        dense.set_weights([factor * np.array([[1, 2], [3, 4], [5, 6]]), np.array([0.5, -0.5])])
        post = {
            "upper": lambda word: tf.strings.upper(word),
            "raw_bytes": lambda word: word,
            "finite": finite,
        }
        examples = {"x": [[1.0, 2.0, 3.0], [0.0, 0.0, 0.5]], "word": ["a", "Köln"]}
        export(
            network,
            models / (MODEL if version == 1 else f"{MODEL}_next"),
            post=post,
            examples=examples,
            version=version,
        )
    if config:
        shutil.copytree(
            ROOT / "serving", config, ignore=lambda _, names: [n for n in names if not n.endswith(".config")]
        )
        file = config / "models.config"
        block = f'  config {{\n    name: "{MODEL}"\n    base_path: "/models/{MODEL}"\n{BLOCK}\n    {LATEST}\n  }}\n}}\n'
        file.write_text(file.read_text(encoding="utf-8").rstrip().removesuffix("}") + block, encoding="utf-8")


def requests():
    """Return the list: a name, the method, the path below /v1/models, and the body as it is sent."""
    x, words = [[1.0, 2.0, 3.0], [-0.5, 0.25, 1e-3]], ["a", "Köln"]
    coded, path = {"b64": base64.b64encode("Köln".encode()).decode()}, f"/{MODEL}:predict"
    rows = [{"x": one, "word": word} for one, word in zip(x, words, strict=True)]
    columns = {"x": x, "word": words}
    bodies = {
        "columns": {"inputs": columns},
        "rows": {"instances": rows},
        "signature named": {"inputs": columns, "signature_name": "serving_default"},
        "an input too many": {"inputs": columns | {"z": [1]}},
        "base64": {"inputs": {"x": x[:1], "word": [coded]}},
        "whole numbers for float": {"inputs": {"x": [[1, 2, 3]], "word": ["b"]}},
        "NaN": {"inputs": {"x": [[1.0, math.nan, 3.0]], "word": ["b"]}},
        "infinity, refused by the graph": {"inputs": {"x": [[1.0, math.inf, 3.0]], "word": ["b"]}},
        "null": {"inputs": {"x": [[1.0, None, 3.0]], "word": ["b"]}},
        "text for a number": {"inputs": {"x": [["1", "2", "3"]], "word": ["b"]}},
        "number for text": {"inputs": {"x": x[:1], "word": [1]}},
        "lists of two lengths": {"inputs": {"x": [[1.0, 2.0, 3.0], [1.0]], "word": words}},
        "rows of other keys": {"instances": [rows[0], {"x": x[1]}]},
        "a plain list for two inputs": {"instances": [1.0, 2.0]},
        "no rows": {"instances": []},
        "an input is missing": {"inputs": {"x": x}},
        "both forms": {"inputs": columns, "instances": rows},
        "neither form": {"signature_name": "serving_default"},
        "unknown signature": {"inputs": columns, "signature_name": "predict"},
        "base64 that is none": {"inputs": {"x": x[:1], "word": [{"b64": "?"}]}},
    }
    texts = [(name, "POST", path, json.dumps(body)) for name, body in bodies.items()]
    body = json.dumps({"inputs": columns})
    return [
        *texts,
        ("no JSON", "POST", path, '{"inputs": '),
        ("empty body", "POST", path, ""),
        ("version", "POST", f"/{MODEL}/versions/1:predict", body),
        ("unknown version", "POST", f"/{MODEL}/versions/99:predict", body),
        ("unknown model", "POST", "/nothing:predict", body),
        ("status", "GET", f"/{MODEL}", None),
        ("status of an unknown model", "GET", "/nothing", None),
        ("status of an unknown version", "GET", f"/{MODEL}/versions/99", None),
        ("metadata", "GET", f"/{MODEL}/metadata", None),
        ("metadata of an unknown model", "GET", "/nothing/metadata", None),
        ("GET where POST is meant", "GET", path, None),
        ("POST where GET is meant", "POST", f"/{MODEL}", body),
    ]


def ask(url):
    """Return the answer to each request: status and JSON, or the text of what is none."""
    answers = []
    with httpx.Client(base_url=f"{url}/v1/models", trust_env=False, timeout=60) as http:
        for name, method, path, body in requests():
            reply = http.request(method, path, content=body)
            try:
                answer = reply.json()
            except ValueError:
                answer = reply.text
            answers.append({"request": name, "status": reply.status_code, "answer": answer})
    return answers


def server_name(url):
    """Return which program answers, by what it says of itself."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        kserve, metrics = http.get("/v2"), http.get("/monitoring/prometheus/metrics")
        ours = http.get(f"/v1/models/{MODEL}").headers.get("server", "unknown")
    if kserve.is_success:
        return kserve.json()["name"]
    return "TensorFlow Serving" if ":tensorflow:" in metrics.text else ours


def labels(url, config, models):
    """Serve two versions with labels, move the canary back, and return which version each label led to."""
    before = config.read_text(encoding="utf-8")
    (models / f"{MODEL}_next" / "2").rename(models / MODEL / "2")
    found, both = [], "model_version_policy { specific { versions: 1 versions: 2 } }"
    for step in ({"stable": 1, "canary": 2}, {"stable": 1, "canary": 1}, {"stable": 2, "canary": 2}):
        lines = "".join(f'\n    version_labels {{ key: "{name}" value: {number} }}' for name, number in step.items())
        head, _, tail = before.rpartition(LATEST)
        config.write_text(head + both + lines + tail, encoding="utf-8")
        for _ in range(300):
            pages = [httpx.get(f"{url}/v1/models/{MODEL}/labels/{name}/metadata", trust_env=False) for name in step]
            led = [int(page.json()["model_spec"]["version"]) if page.is_success else None for page in pages]
            if led == list(step.values()):
                break
            time.sleep(0.2)
        found.append({"labels": step, "led to": dict(zip(step, led, strict=True))})
    config.write_text(before, encoding="utf-8")
    return found


def record(url, digest="", fixture=""):
    """Return the answers of the server with its name and the digest of its image; a fixture says what made it."""
    if bool(digest) == bool(fixture):
        raise ValueError("a record has the digest of the image that answered, or says that it is a fixture")
    head = {"fixture": True, "made by": fixture} if fixture else {"fixture": False, "image": digest}
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {**head, "server": server_name(url), "date": day, "answers": ask(url)}


def differences(answers, recorded):
    """Yield a sentence for each answer that is not as recorded: another status, other outputs, other metadata."""
    found = {one["request"]: one for one in answers}
    if list(found) != [one["request"] for one in recorded["answers"]]:
        yield "the requests are not those that were recorded"
        return
    for one in recorded["answers"]:
        name, here = one["request"], found[one["request"]]
        if here["status"] != one["status"]:
            yield f"{name}: status {here['status']}, recorded {one['status']}"
        elif one["status"] == 200 and not alike(reduced(here["answer"]), reduced(one["answer"])):
            yield f"{name}: {here['answer']}, recorded {one['answer']}"
        elif one["status"] != 200 and "error" not in here["answer"]:
            yield f"{name}: no sentence under 'error'"


def reduced(answer):
    """Return what is compared: outputs whole, of a signature names, types and shapes, of a status the state."""
    if "metadata" in answer:
        signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
        kinds = {kind: signature[kind].items() for kind in ("inputs", "outputs")}
        sizes = {
            kind: {
                name: [one["dtype"], *(str(dim["size"]) for dim in one["tensor_shape"]["dim"])] for name, one in both
            }
            for kind, both in kinds.items()
        }
        return {"version": answer["model_spec"]["version"], **sizes}
    if "model_version_status" in answer:
        return {one["version"]: one["state"] for one in answer["model_version_status"] if one["state"] == "AVAILABLE"}
    return answer


def alike(one, other):
    """Whether two answers are equal, numbers to six digits; NaN is equal to NaN, and true is not 1."""
    if isinstance(one, float) and isinstance(other, float | int) and not isinstance(other, bool):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6) or (math.isnan(one) and math.isnan(other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other


def compared(recorded):
    """Start the local server on the model and return how its answers differ from the record."""
    with tempfile.TemporaryDirectory() as folder:
        make_models(Path(folder))
        with local_server.running({MODEL: Path(folder) / MODEL}) as url:
            return list(differences(ask(url), recorded))


def main():
    parser = argparse.ArgumentParser(prog="python tests/record_server.py")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("export")
    command.add_argument("models", type=Path)
    command.add_argument("config", type=Path)
    command = commands.add_parser("record")
    command.add_argument("url")
    command.add_argument("file", type=Path)
    command.add_argument("--digest", required=True)
    command.add_argument("--config", type=Path, required=True)
    command.add_argument("--models", type=Path, required=True)
    commands.add_parser("compare").add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "export":
        make_models(options.models, options.config)
    elif options.command == "record":
        Client(options.url, patience=60).status(MODEL)  # waits until it answers
        found = record(options.url, options.digest)
        if found["server"] != "TensorFlow Serving" or "@sha256:" not in options.digest:
            sys.exit(f"{found['server']} answered, of {options.digest!r}: TensorFlow Serving, by its digest, is meant")
        found["labels"] = labels(options.url, options.config, options.models)
        options.file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if any(one["labels"] != one["led to"] for one in found["labels"]):
            sys.exit(f"a label did not lead where it should: {found['labels']}")
    else:
        if found := compared(json.loads(options.file.read_text(encoding="utf-8"))):
            sys.exit("the local server differs:\n" + "\n".join(found))
        print("the local server answers as recorded")


if __name__ == "__main__":
    main()
