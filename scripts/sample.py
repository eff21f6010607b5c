"""The command `jaxdiff sample`, which draws samples: `python scripts/sample.py runs/digits --ask label=3`."""

import sys

from jaxdiff.cli.main import main

if __name__ == "__main__":
    main(["sample", *sys.argv[1:]])
