"""The command `jaxdiff train`, which trains a preset: `python scripts/train.py digits`."""

import sys

from jaxdiff.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
