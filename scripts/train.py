"""Trains a preset: `python scripts/train.py digits`."""

from jaxdiff.cli.train import main

if __name__ == "__main__":
    main()
