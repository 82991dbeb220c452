"""``python -m helpers``: see `helpers.cli`."""

import sys

try:
    from helpers.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"The package {error.name} is missing; `make clean` and then `make` set everything up anew.")

if __name__ == "__main__":
    sys.exit(main())
