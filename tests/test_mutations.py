"""Two thousand mutations of valid input: each ends in the right answer, a note or one sentence, none in silence.

The oracles read the mutated input with other means than the readers: `csv` in its strict mode, `fromisoformat`, `ast`,
and what was drawn. What differs from them must stand in a note; what they cannot read must be refused.
"""

import ast
import csv
import gzip
import io
import json
import re
import warnings
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from helpers.data import open_data, open_series
from helpers.images import open_pairs
from helpers.notebook import UserError, check_parameters, read_schema

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
WORDS = ["", " ", "NA", "?", "nan", "None", "-", "1e400", "inf", "0x1F", "1_000", "1,5", "1.234", "9007199254740993"]
WORDS += ["٣", "12 kg", "True", "007", "7.0", "YES", "Bonn ", "a\nb", "01/02/2013", "2013-01-01", "2013-01-01T00:00Z"]
BITS = [*'",;\t\n\r\0\x0b\x1b\u2028 é|#1.\x1c(', '""']
FORMS = ["binary.png", "binary.jpg", "labels.png", "labels.tif", "labels.jpg", "colours.png", "colours.gif"]
FORMS += ["palette.png", "sixteen.png", "sixteen.tif", "alpha.png", "cropped.png", "photograph.png"]
SCHEMA = """threshold: float = 0.5  # cut, in [0, 1]
seed: int = 0  # of the split, in [0, 1]
mode: str = "mean"  # one of mean, none
quiet: bool = True  # print less
data_path: str = ""  # the reader's table
"""
VALUES = {"threshold": {"'0.5'": 0.5, "'1'": 1.0, "0": 0.0, "1": 1.0, "0.5": 0.5, "1.0": 1.0}}
VALUES |= {"seed": {"'1'": 1, "0": 0, "1": 1}, "mode": {"'mean'": "mean"}, "quiet": {"'True'": True, "True": True}}
VALUES |= {"data_path": {"''": "", "'/'": "/"}}
STAMPS = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+05:30", "%d/%m/%Y %H:%M", "%Y%m%d", "%H:%M"]


# --- mutators -----------------------------------------------------------------------------------------------------


def put_words(rng, rows):
    column, word, share = rng.integers(len(rows[0])), WORDS[rng.integers(len(WORDS))], rng.choice([0.02, 0.3, 1.0])
    for row in rows[1:]:
        row[column] = word if rng.random() < share else row[column]


def add_column(rng, rows):
    """Add what is no feature: a copy of the label, an id, a constant, numbers in another spelling, a name twice."""
    labels = [row[-1] for row in rows[1:]]
    n, first = len(labels), labels[0]
    columns = {"copied": labels, "recoded": ["3" if label == first else "4" for label in labels], "constant": ["5"] * n}
    columns["leaking"] = [f"{(label == first) * 9 + rng.random():.3f}" for label in labels]
    columns["customer"] = [str(1000 + i) for i in rng.permutation(n)]
    columns["account"] = [f"1{i:019}" for i in rng.integers(0, 9, n)]
    columns["price"] = [f"{i:,}".replace(",", ".") for i in rng.integers(100, 2000, n)]
    columns |= {"comma": [f"{i % 20},5" for i in range(n)], "": [str(i) for i in range(n)], rows[0][0]: labels}
    name = list(columns)[rng.integers(len(columns))]
    rows[:] = [[value, *row] for row, value in zip(rows, [name, *columns[name]], strict=True)]


def change_rows(rng, rows):
    """Change, insert or drop one row, make all longer, or rename the first column."""
    place, row = int(rng.integers(len(rows))), list(rows[rng.integers(len(rows))])
    changed = [[*rows[:place], other, *rows[place + 1 :]] for other in (row[:-1], [*row, ""], [*row, "5"], row)]
    changed += [[*rows[:place], other, *rows[place:]] for other in (rows[0], [""] * len(row), row)]
    changed += [rows[1:], [rows[0], *([*other, "5"] for other in rows[1:])]]
    changed += [[[name, *rows[0][1:]], *rows[1:]] for name in (rows[0][-1], rows[0][0].upper(), "", "7", "x" * 300)]
    rows[:] = changed[rng.integers(len(changed))]


def change_text(rng, text):
    place, bit = rng.integers(len(text)), BITS[rng.integers(len(BITS))]
    changed = [text[:place] + bit + text[place:], text[:place] + text[place + 9 :], text[:place], text + text]
    return changed[rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])]


def change_bytes(rng, raw):
    changed = bytearray(raw)
    for place in rng.integers(0, len(raw), rng.integers(1, 4)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed[: rng.integers(len(raw))] if rng.random() < 0.2 else changed)


def mutate(rng, rows, path):
    """Write a table with at most one mutation; return its path, its bytes before packing, and whether it is valid."""
    kind, text = rng.integers(8), io.StringIO()
    if kind < 4:
        (put_words, put_words, add_column, change_rows)[kind](rng, rows)
    style = {"delimiter": rng.choice([",", ";", "\t", "|"]), "lineterminator": rng.choice(["\n", "\r\n"])}
    csv.writer(text, quoting=int(rng.integers(2)), **style).writerows(rows)
    text = change_text(rng, text.getvalue()) if kind in (4, 5) else text.getvalue()
    encodings = ["utf-8", "utf-8-sig", "utf-16", "cp1252" if kind == 6 else "utf-8"]
    raw = text.encode(encodings[rng.integers(4)], errors="replace")
    raw = change_bytes(rng, raw) if kind == 6 else raw
    path = path.with_name(path.name + ".gz" * int(rng.integers(2)))
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path, raw, bool(kind == 7)


# --- oracles: each says what is wrong with an accepted input ------------------------------------------------------


def told(dataset, *words):
    """Say whether a note holds a count, or the first word of a column's name."""
    words = [re.split(r"\W", str(word))[0][:12] for word in words]
    return any(re.search(rf"(?<![^\W_]){word}", note.replace(",", "")) for note in dataset.notes for word in words)


def columns_of(raw, notes):
    """Return the columns that the strictest reader finds; any error if it finds no table, or a note is missing."""
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").lstrip("\r\n")
    first = re.sub('"[^"]*"', "", re.split(r"[\r\n]", text)[0])
    style = {"delimiter": max(",;\t|", key=first.count), "strict": True, "skipinitialspace": True}
    header, *rows = ([field.strip() for field in row] for row in csv.reader(io.StringIO(text, newline=""), **style))
    filled = [row for row in rows if any(row)]
    assert "\0" not in text and header not in rows
    assert all(len(row) >= len(header) and not any(row[len(header) :]) for row in filled), "fields are lost"
    assert len(set(filter(None, header))) == len(list(filter(None, header))), "a name stands twice"
    assert not any("\n" in field for row in filled for field in row) or re.search("line|quot", str(notes))
    assert not any(len(row) > 1 and not any(row) for row in rows) or re.search("empty|left out", str(notes))
    return {name: [row[i] for row in filled] for i, name in enumerate(header)}


def numbers_of(texts):
    return np.array([float(text) if NUMBER.fullmatch(text) else np.nan for text in texts])


def check_feature(dataset, name, values, texts):
    numbers = numbers_of(texts)
    for value, text, number in zip(values, texts, numbers, strict=True):
        lost = value is None or value != value
        same = lost if not text else value in (text, number) or text.lower() == str(bool(value)).lower()
        assert same or told(dataset, name, sum(v is None or v != v for v in values)), f"{text!r} became {value!r}"
        assert value not in (np.inf, -np.inf), f"{text!r} is infinite"
    low, high = (numbers[dataset.y == side] for side in (0, 1))
    if low.max() < high.min() or high.max() < low.min():
        recoded = len(set(texts)) == 2 and told(dataset, name)
        assert recoded or any(re.match(rf"warning:.*{name}", note) for note in dataset.notes), f"{name!r} leaks"
    whole = all(re.fullmatch(r"[+-]?\d+", text, re.ASCII) for text in texts)
    odd = len(set(texts)) == 1 or (whole and (len(set(texts)) == len(texts) or max(map(len, texts)) > 17))
    assert told(dataset, name) or not odd, f"{name!r} is constant, an id or beyond 2^53, and no note says so"


def check_table(dataset, raw, text, group):
    columns = columns_of(raw, dataset.notes)
    labels = columns.pop("label")
    names, numbers = sorted(set(labels)), numbers_of(sorted(set(labels)))
    assert "" not in names and len({name.casefold() for name in names}) == len(names) == 2 and np.ptp(numbers) != 0
    assert not any(name in columns.get(name, labels) for name in ("label", text, group)), "the header is data"
    positive = names[int(not numbers[0] > numbers[1])]
    assert dataset.class_names[1] == positive and dataset.y.tolist() == [label == positive for label in labels]
    if text:
        assert list(dataset.X) == columns[text] or told(dataset, text, "rows without")
    elif group:
        groups = [name or row for row, name in enumerate(columns.pop(group))]
        pairs = set(zip(groups, dataset.groups, strict=True))
        assert len(pairs) == len(set(groups)) == len(set(dataset.groups)), "groups are split or merged"
    for name, texts in columns.items() if not text else ():
        if name in dataset.feature_names:
            check_feature(dataset, name, dataset.column(name).tolist(), texts)
        else:
            assert not any(texts) or told(dataset, name), f"{name!r} is left out without a note"


def check_series(dataset, raw):
    columns = columns_of(raw, dataset.notes)
    texts, stamps = columns[dataset.feature_names[0]], next(c for c in columns.values() if c[0].count("-") > 1)
    times = [datetime.fromisoformat(stamp) for stamp in stamps]
    local = [np.datetime64(time.replace(tzinfo=None), "s") for time in times]
    utc = [time - np.timedelta64(zone.utcoffset() or timedelta()) for time, zone in zip(local, times, strict=True)]
    read = {time: value for time, value in zip(dataset.X, dataset.y[:, 0], strict=True) if value == value}
    expected = [{time: v for time, v in zip(each, numbers_of(texts), strict=True) if v == v} for each in (utc, local)]
    assert read in expected or told(dataset, dataset.feature_names[0]), "other times or values"
    assert len(set(utc)) == len(utc), "a time stands twice"
    added, words = len(dataset.X) - len(utc), sum(not NUMBER.fullmatch(text) and text != "" for text in texts)
    assert not added or told(dataset, added, "weekend"), f"{added} steps are NaN without a note"
    assert not words or told(dataset, dataset.feature_names[0], words), f"{words} words are NaN without a note"


def check_masks(dataset, drawn, unknown):
    for number, (found, labels) in enumerate(zip(dataset.y, drawn, strict=True)):
        pairs = np.unique([found.ravel(), labels.ravel()], axis=1)
        right = len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1] and np.array_equal(found > 0, labels > 0)
        assert right or number == unknown, f"mask {number} differs"


def check_schema(found, source):
    body = ast.parse(source).body
    defaults = {node.target.id: ast.literal_eval(node.value) for node in body}
    assert len(body) == len(found) == len(defaults), "a name stands twice"
    for node, parameter in zip(body, found.values(), strict=True):
        default = defaults[node.target.id]
        assert type(default).__name__ in (parameter.type.__name__, "int" * (parameter.type is float)), "of another type"
        assert parameter.default == default and ast.unparse(node.annotation) == parameter.type.__name__


# --- cases: what is called, how its answer is checked, whether it must be read ------------------------------------


def table_case(rng, path, kind):
    labels = [("no", "yes"), ("0", "1"), ("9", "10"), ("churn", "stay")][rng.integers(4)]
    columns = {"height": [f"{value:.3f}" for value in rng.normal(170, 9, 56)], "visits": [*"0123", "", *"124"] * 7}
    columns |= {"town": ["Bonn", "Köln", "NA", "007"] * 14} if kind == "words" else {}
    columns |= {"review": [f'good, or "{i}"' for i in range(56)]} if kind == "text" else {}
    columns |= {"patient": ["NA", "?", "07", "7", "P1", "p2", "null", "None"] * 7} if kind == "group" else {}
    columns["label"] = [labels[i // 8 % 2] for i in range(56)]
    rows = [list(row) for row in zip(*([name, *values] for name, values in columns.items()), strict=True)]
    path, raw, valid = mutate(rng, rows, path / "a.csv")
    text, group = "review" * (kind == "text"), "patient" * (kind == "group")
    call = partial(open_data, path, text_column=text, group_column=group, words=kind == "words")
    return call, partial(check_table, raw=raw, text=text, group=group), valid


def series_case(rng, path, _):
    stamp, step = STAMPS[max(0, rng.integers(-8, len(STAMPS)))], timedelta(hours=int(rng.choice([1, 24])))
    times = [(datetime(2013, 3, 30) + i * step).strftime(stamp) for i in range(70)]
    if odd := rng.integers(6) == 0:
        times[9] = [times[8], "2013-05-09T00:00:01", "2013-05", ""][rng.integers(4)]
    rows = [[time, f"{rng.normal():.2f}"] for time in times]
    rows = [["time", "load"], *(rows if rng.integers(9) else rng.permutation(rows).tolist())]
    path, raw, valid = mutate(rng, rows, path / "a.csv")
    return partial(open_series, path), partial(check_series, raw=raw), valid and not odd and stamp in STAMPS[:2]


def masks_case(rng, path, _):
    """Six images of noise, and masks of squares that do not touch, in one of many forms; one file may be damaged."""
    drawn = [ndimage.label(np.kron(rng.random((6, 5)) < 0.4, np.pad(np.ones((4, 4), int), 2)))[0] for _ in range(6)]
    colours = rng.permutation([[red, green, 40] for red in (40, 90, 140, 190, 240) for green in range(0, 240, 40)])
    colours = np.concatenate([[[0, 0, 0]], colours]).astype(np.uint8)
    (content, ending), damaged = FORMS[rng.integers(len(FORMS))].split("."), int(rng.integers(-12, 6))
    for number, labels in enumerate(drawn):
        noise, binary = rng.integers(1, 250, labels.shape, dtype=np.uint8), np.uint8(labels > 0) * 255
        pixels = {"labels": np.uint8(labels), "sixteen": np.uint16(labels * 999), "colours": colours[labels]}
        pixels |= {"alpha": np.dstack([0 * binary, binary]), "cropped": binary[1:], "photograph": noise}
        image = Image.fromarray(pixels.get(content, colours[labels] if content == "palette" else binary))
        image = image.quantize(32) if content == "palette" or ending == "gif" else image
        image.save(file := path / f"{number}_mask.{ending}")
        Image.fromarray(noise).save(path / f"{number}_img.png")
        if number == damaged:
            file.write_bytes(change_bytes(rng, file.read_bytes()))
    unfit = content in ("cropped", "photograph")
    # No mask agrees with an empty list: what is unfit must be refused.
    check = partial(check_masks, drawn=[] if unfit else drawn, unknown=damaged if ending != "png" else -1)
    return partial(open_pairs, path, path), check, not unfit and damaged < 0 and ending != "jpg"


def value_case(rng, path, _):
    values = ["", "x", "mean", "0.5", "1", "True", "nan", "1e400", "9" * 5000, "~nobody/x", "a" * 300, "x/" * 3000]
    values += ["a\0b", "\ud800", "/", 0, 1, -1, 0.5, 1.0, 10**400, np.nan, np.inf, True, None, [1]]
    name, value = [*VALUES, "treshold", "y" * 5000][rng.integers(len(VALUES) + 2)], values[rng.integers(len(values))]
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": SCHEMA}
    (path / "a.ipynb").write_text(json.dumps({"cells": [cell]}))
    right = VALUES.get(name, {}).get(repr(value))
    check = partial(np.testing.assert_equal, {name: right} if right is not None else "a refusal")
    return partial(check_parameters, path / "a.ipynb", {name: value}), check, right is not None


def schema_case(rng, path, _):
    source = SCHEMA
    for _ in range(changes := rng.integers(4)):
        source = change_text(rng, source)
    return partial(read_schema, source), partial(check_schema, source=source), bool(changes == 0)


CASES = [(table_case, kind, 180) for kind in ("numbers", "words", "text", "group")]
CASES += [(series_case, "series", 250), (masks_case, "masks", 180)]
CASES += [(value_case, "values", 450), (schema_case, "schema", 450)]


@pytest.mark.parametrize(("make", "kind", "count"), CASES, ids=[kind for _, kind, _ in CASES])
def test_no_mutation_is_silently_wrong(tmp_path, capfd, make, kind, count):
    faults, refusals = [], (ValueError if kind == "schema" else UserError, FileNotFoundError)
    for seed in range(count):
        (folder := tmp_path / str(seed)).mkdir()
        call, check, valid = make(np.random.default_rng(seed), folder, kind)
        try:
            with warnings.catch_warnings(action="error"):
                answer = call()
        except Exception as error:
            clear = isinstance(error, refusals) and len(str(error)) <= 600 and "\n" not in str(error)
            if valid or not clear:
                faults.append(f"{seed}: {type(error).__name__}{', though valid' if valid else ''}: {str(error)[:200]}")
            continue
        try:
            check(answer)
        except Exception as error:
            faults.append(f"{seed}: accepted, but {type(error).__name__}: {str(error).splitlines()[:1]}")
    assert not faults, "\n".join([f"{len(faults)} of {count}", *faults[:20]])
    assert not capfd.readouterr().err
