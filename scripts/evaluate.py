"""Measures the samples of a run: `python scripts/evaluate.py runs/digits`."""

from jaxdiff.cli.evaluate import main

if __name__ == "__main__":
    main()
