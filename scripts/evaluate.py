"""The command `jaxdiff evaluate`, which measures the samples of a run: `python scripts/evaluate.py runs/digits`."""

import sys

from jaxdiff.cli.main import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
