import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import scoring
from helpers.notebook import UserError, fresh_process

TWO = {"a": pa.float32(), "b": pa.float32()}
ROWS, BLOCK = 1000, 64


def network(path, width=2, outputs=1):
    import keras

    keras.utils.set_random_seed(outputs)
    given = keras.Input((width,))
    tops = [keras.layers.Dense(number + 1, "sigmoid")(given) for number in range(outputs)]
    keras.Model(given, tops[0] if outputs == 1 else {f"out{n}": top for n, top in enumerate(tops)}).save(path)
    return path


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    columns = {name: random.standard_normal(ROWS).astype(np.float32) for name in ("b", "a")}
    return pa.table({"name": [f"{row:05}" for row in range(ROWS)], **columns})


@pytest.fixture
def source(tmp_path, table):
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=150)
    return tmp_path / "rows.parquet"


@pytest.fixture
def model(tmp_path):
    return network(tmp_path / "model.keras")


def test_blocks_go_across_row_groups_and_files_and_lose_no_row(tmp_path, table):
    folder = tmp_path / "year"
    folder.mkdir()
    pq.write_table(table.slice(0, 333), folder / "1.parquet", row_group_size=100)
    pa.csv.write_csv(table.slice(333, 1).append_column("more", [["x"]]), folder / "2.csv")
    pq.write_table(table.slice(334).select(["a", "b"]), folder / "3.parquet")
    (folder / "_SUCCESS").touch()
    files = scoring.source_files(folder)
    blocks = list(scoring.read_blocks(files, TWO, BLOCK))
    assert [number for number, _ in blocks] == list(range(16))
    assert {len(block) for _, block in blocks[:-1]} == {BLOCK}
    assert pa.concat_tables(block for _, block in blocks).combine_chunks() == table.select(["a", "b"]).combine_chunks()
    later = list(scoring.read_blocks(files, TWO, BLOCK, first=9))
    assert later[0][0] == 9
    assert later[0][1].combine_chunks() == blocks[9][1].combine_chunks()


@pytest.mark.parametrize(
    "text",
    [
        "a,b,note\n0.5,1,x\n,2,y\n",
        "\ufeffb;note;a\n1;x;0.5\n2;y;\n",
        '"b"\t"a"\t"no\tte"\r\n1\t0.5\t"two\nlines"\r\n2\tNA\ty\r\n',
    ],
)
def test_a_csv_is_read_by_name_whatever_its_separator_order_and_marks(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode())
    ((_, block),) = scoring.read_blocks([tmp_path / "t.csv"], TWO)
    assert block.to_pydict() == {"a": [0.5, None], "b": [1, 2]}
    assert sorted(scoring.numeric_columns(tmp_path / "t.csv")) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,c\n1,2\n", "has 0 columns 'b' and needs one; it has 'a', 'c'"),
        ("a,b,b\n1,2,3\n", "has 2 columns 'b'"),
        ("a,b\n1,2\na,b\n3,4\n", "invalid value 'a'; correct the file"),
        ("a,b\n1,2\n1,2,3\n", "Expected 2 columns, got 3"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        list(scoring.read_blocks([tmp_path / "t.csv"], TWO))
    assert "\n" not in str(caught.value)


def test_a_value_that_is_no_number_in_a_later_file_names_the_rows_before_it(tmp_path, table):
    pq.write_table(table.select(["b", "a"]), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1, 2], "b": ["7", "late"]}), tmp_path / "2.parquet")
    with pytest.raises(UserError, match=rf"2.parquet, after row {ROWS}: .*'late'.*; correct the file"):
        list(scoring.read_blocks(scoring.source_files(tmp_path), TWO, BLOCK))


def test_a_run_that_is_stopped_again_and_again_gives_what_one_run_gives(tmp_path, source, model, monkeypatch):
    options = {"features": ["a", "b"], "id_column": "name", "block_rows": BLOCK}
    assert scoring.score_file(source, model, tmp_path / "once", **options) == ROWS
    write, written = scoring.write_part, []

    def interrupted(folder, number, *more):
        if len(written) % 4 == 3:
            written.append(None)
            raise KeyboardInterrupt
        write(folder, number, *more)
        written.append(number)

    monkeypatch.setattr(scoring, "write_part", interrupted)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            scoring.score_file(source, model, tmp_path / "often", **options)
        assert not (tmp_path / "often" / "_SUCCESS").exists()
    assert scoring.score_file(source, model, tmp_path / "often", **options) == ROWS
    numbers = [number for number in written if number is not None]
    assert numbers == list(range(16)), "no block is scored twice"
    assert pq.read_table(tmp_path / "often") == pq.read_table(tmp_path / "once")
    assert pq.read_table(tmp_path / "once")["name"].to_pylist() == [f"{row:05}" for row in range(ROWS)]
    assert scoring.score_file(source, model, tmp_path / "often", **options) == ROWS
    assert len(numbers) == len([number for number in written if number is not None]), "what is done stays"


def test_scores_are_the_models_and_keep_the_names_of_its_outputs(tmp_path, source, table):
    import keras

    path = network(tmp_path / "two.keras", outputs=2)
    scoring.score_file(source, path, tmp_path / "scores", ["a", "b"])
    scores = pq.read_table(tmp_path / "scores")
    assert scores.column_names == ["row_number", "out0", "out1_0", "out1_1"]
    X = np.stack([table["a"].to_numpy(), table["b"].to_numpy()], axis=1)
    expected = keras.saving.load_model(path)(X)
    np.testing.assert_allclose(scores["out0"], expected["out0"][:, 0], atol=1e-6)
    np.testing.assert_allclose(scores["out1_1"], expected["out1"][:, 1], atol=1e-6)


def test_parts_of_another_run_are_not_taken_over(tmp_path, source, model):
    scoring.score_file(source, model, tmp_path / "scores", ["a", "b"], block_rows=BLOCK)
    for change, options in {"columns": {"features": ["b", "a"]}, "block_rows": {"block_rows": 2 * BLOCK}}.items():
        given = {"features": ["a", "b"], "block_rows": BLOCK, **options}
        with pytest.raises(UserError, match=rf"another run \(other {change}\): name another folder"):
            scoring.score_file(source, model, tmp_path / "scores", **given)
    with pytest.raises(UserError, match=r"\(other model\)"):
        other = network(tmp_path / "other.keras", outputs=2)
        scoring.score_file(source, other, tmp_path / "scores", ["a", "b"], block_rows=BLOCK)
    os.utime(source, ns=(0, 0))
    with pytest.raises(UserError, match=r"\(other input\)"):
        scoring.score_file(source, model, tmp_path / "scores", ["a", "b"], block_rows=BLOCK)


def test_a_part_that_is_cut_off_is_scored_again_and_a_draft_is_no_part(tmp_path, source, model):
    folder = tmp_path / "scores"
    scoring.score_file(source, model, folder, ["a", "b"], block_rows=BLOCK)
    expected = pq.read_table(folder)
    (folder / "_SUCCESS").unlink()
    part = folder / "part-000003.parquet"
    part.write_bytes(part.read_bytes()[:100])
    (folder / ".part-000099.parquet.7").write_bytes(b"half")
    assert scoring.score_file(source, model, folder, ["a", "b"], block_rows=BLOCK) == ROWS
    assert pq.read_table(folder) == expected


@pytest.mark.parametrize("rows", [[0, 1, 1, 3], [0, 1, 3, 4], [0, 2, 1, 3]])
def test_a_row_that_is_missing_or_there_twice_is_noticed(tmp_path, rows):
    scoring.write_part(tmp_path, 0, pa.table({"row_number": rows}), json.dumps({}))
    with pytest.raises(RuntimeError, match="does not begin with row 0, or skips one"):
        scoring.count_rows(tmp_path)


def test_a_model_of_another_width_is_refused(tmp_path, source, model):
    with pytest.raises(UserError, match="3 features are given"):
        scoring.score_file(source, model, tmp_path / "scores", ["a", "b", "a2"])


def test_it_is_a_command_that_says_what_is_wrong(tmp_path, source, model):
    script = scoring.__file__
    told = fresh_process(script, source, model, tmp_path / "scores", "--features", "a", "b", "--id-column", "name")
    assert told == "1,000 rows, each exactly once\n"
    with pytest.raises(RuntimeError, match="nothing is at"):
        fresh_process(script, tmp_path / "none.csv", model, tmp_path / "scores")


def test_what_comes_ahead_keeps_its_order_and_its_errors():
    def numbers():
        yield from range(3)
        raise UserError("the fourth is missing")

    items = scoring.read_ahead(numbers())
    assert [next(items), next(items), next(items)] == [0, 1, 2]
    with pytest.raises(UserError, match="the fourth"):
        next(items)
    assert list(scoring.read_ahead(range(5))) == [0, 1, 2, 3, 4]
