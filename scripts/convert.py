"""The command `jaxdiff convert`, for models of diffusers: `python scripts/convert.py FOLDER runs/ddpm`."""

import sys

from jaxdiff.cli.main import main

if __name__ == "__main__":
    main(["convert", *sys.argv[1:]])
