"""Sampling: turning noise into samples.

- `scan`: `sample` follows the rows of a tableau in one scan. `start`, `advance` and `finish` do the same in pieces.
- `generate`: noise, grid, solver and `sample` in one call, with defaults for every process

Four samplers are not linear in the denoiser's estimates. Each of them has a loop of its own:

- `learned_variance`: DDPM's steps, with variances that the network predicts
- `predictor_corrector`: the steps of a tableau, with Langevin steps between them
- `adaptive`: the probability-flow ODE, with steps of adaptive length
- `feynman_kac`: products and powers of distributions, with weighted particles

`correctors` holds the Langevin steps: `langevin` and `annealed_langevin`. `particles` holds weighted
particles and their resampling.
"""

from jaxdiff.sampling.adaptive import adaptive
from jaxdiff.sampling.correctors import annealed_langevin, langevin
from jaxdiff.sampling.feynman_kac import feynman_kac
from jaxdiff.sampling.generate import generate
from jaxdiff.sampling.learned_variance import learned_variance
from jaxdiff.sampling.particles import Particles, equally_weighted
from jaxdiff.sampling.predictor_corrector import predictor_corrector
from jaxdiff.sampling.scan import State, advance, finish, sample, start

__all__ = [
    "Particles",
    "State",
    "adaptive",
    "advance",
    "annealed_langevin",
    "equally_weighted",
    "feynman_kac",
    "finish",
    "generate",
    "langevin",
    "learned_variance",
    "predictor_corrector",
    "sample",
    "start",
]
