"""The command `jaxdiff restore`, which restores pictures: `python scripts/restore.py RUN cat.png --task colorize`."""

import sys

from jaxdiff.cli.main import main

if __name__ == "__main__":
    main(["restore", *sys.argv[1:]])
