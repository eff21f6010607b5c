"""Sampling: turning noise into samples.

- `scan`: `sample`, one scan over the rows of a tableau, and its pieces `start`, `advance`, `finish`
"""

from jaxdiff.sampling.scan import State, advance, finish, sample, start

__all__ = ["State", "advance", "finish", "sample", "start"]
