"""Make shuttle.csv.gz from the wheel of river 0.26.1 (PyPI); needed only to make it again.

pip download --no-deps river==0.26.1
unzip river-0.26.1-*.whl river/datasets/shuttle.csv.gz
python datasets/shuttle/make.py river/datasets/shuttle.csv.gz
"""

import sys
from pathlib import Path

import pandas as pd

if __name__ == "__main__":
    # The rows as they come; without a time stamp in the archive the same rows give the same bytes.
    pd.read_csv(sys.argv[1]).to_csv(
        Path(__file__).with_name("shuttle.csv.gz"), index=False, compression={"method": "gzip", "mtime": 0}
    )
