"""Makes an average of the parameters after training: `python scripts/ema.py runs/digits --width 0.075`."""

from jaxdiff.cli.ema import main

if __name__ == "__main__":
    main()
