"""Posteriors: samples of a prior that answer to an observation or a reward, and editing.

Samplers with weighted particles (see `sampling.particles`), exact as the number of particles grows:

- `twisted_smc`: `twisted_smc`, particles led by guidance, for a likelihood; `gaussian_twist`
- `steering`: `steer`, particles that copy those of high reward, without derivatives
"""

from jaxdiff.posterior.steering import steer
from jaxdiff.posterior.twisted_smc import GaussianTwist, Twist, gaussian_twist, twisted_smc

__all__ = [
    "GaussianTwist",
    "Twist",
    "gaussian_twist",
    "steer",
    "twisted_smc",
]
