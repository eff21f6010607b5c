"""The command `jaxdiff compile-pod`, for TPU pods: `python scripts/compile_pod.py configs/imagenet64.py`."""

import sys

from jaxdiff.cli.main import main

if __name__ == "__main__":
    main(["compile-pod", *sys.argv[1:]])
