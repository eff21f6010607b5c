"""Sampling: turning noise into samples.

- `scan`: `sample`, one scan over the rows of a tableau, and its pieces `start`, `advance`, `finish`

What is not linear in what the denoiser says has a loop of its own:

- `learned_variance`: DDPM's steps with the network's own variance
- `predictor_corrector`: a tableau with `langevin` or `annealed_langevin` steps at each of its times
- `adaptive`: the probability-flow ODE to a tolerance
"""

from jaxdiff.sampling.adaptive import adaptive
from jaxdiff.sampling.learned_variance import learned_variance
from jaxdiff.sampling.predictor_corrector import annealed_langevin, langevin, predictor_corrector
from jaxdiff.sampling.scan import State, advance, finish, sample, start

__all__ = [
    "State",
    "adaptive",
    "advance",
    "annealed_langevin",
    "finish",
    "langevin",
    "learned_variance",
    "predictor_corrector",
    "sample",
    "start",
]
