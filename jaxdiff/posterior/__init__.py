"""Posteriors: samples of a prior that answer to an observation or a reward, and editing.

A method is a function from the denoiser of a prior to a denoiser of the posterior, which every solver may follow.

- `operators`: what is observed of the data
- `conditioned`: what the methods share
- `mmps`: moment matching with the denoiser's own covariance, the default

Samplers with weighted particles (see `sampling.particles`), exact as the number of particles grows:

- `twisted_smc`: `twisted_smc`, particles led by guidance, for a likelihood; `gaussian_twist`
- `steering`: `steer`, particles that copy those of high reward, without derivatives
"""

from jaxdiff.posterior import operators
from jaxdiff.posterior.mmps import mmps
from jaxdiff.posterior.steering import steer
from jaxdiff.posterior.twisted_smc import GaussianTwist, Twist, gaussian_twist, twisted_smc

__all__ = [
    "GaussianTwist",
    "Twist",
    "gaussian_twist",
    "mmps",
    "operators",
    "steer",
    "twisted_smc",
]
