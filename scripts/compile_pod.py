"""Compiles a preset for a TPU pod: `python scripts/compile_pod.py configs/imagenet64.py --topology v5e:16x16`."""

from jaxdiff.cli.compile_pod import main

if __name__ == "__main__":
    main()
