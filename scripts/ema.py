"""The command `jaxdiff ema`, for averages after training: `python scripts/ema.py runs/digits --width 0.075`."""

import sys

from jaxdiff.cli.main import main

if __name__ == "__main__":
    main(["ema", *sys.argv[1:]])
