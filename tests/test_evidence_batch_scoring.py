import pandas as pd

from benchmarks.evidence.batch_scoring import measure, write_flights
from helpers.notebook import ROOT

TABLE = ROOT / "benchmarks" / "evidence" / "batch_scoring.csv"


def peaks():
    table = pd.read_csv(TABLE, comment="#")
    return table.pivot(index=["file", "rows"], columns="way", values="peak_mb")


def test_all_at_once_grows_with_the_rows_and_in_blocks_hardly():
    for _, of_file in peaks().groupby("file"):
        grown = of_file.iloc[-1] - of_file.iloc[0]
        assert grown["all at once"] > 800
        assert grown["in blocks"] < 120


def test_a_row_of_the_table_comes_out_again(tmp_path):
    write_flights(tmp_path / "flights.parquet", 300_000)
    found = measure("in blocks", tmp_path / "flights.parquet")
    assert abs(found["peak_mb"] / peaks().loc[("parquet", 300_000), "in blocks"] - 1) < 0.25
