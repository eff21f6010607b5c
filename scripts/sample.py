"""Draws samples from a run: `python scripts/sample.py runs/digits --ask label=3`."""

from jaxdiff.cli.sample import main

if __name__ == "__main__":
    main()
