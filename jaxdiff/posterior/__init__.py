"""Posteriors: samples of a prior that answer to an observation or a reward, and editing.

Samplers with weighted particles (see `sampling.particles`), exact as the number of particles grows:

- `twisted_smc`: `twisted_smc`, particles led by guidance, for a likelihood; `gaussian_twist`
- `steering`: `steer`, particles that copy those of high reward, without derivatives

Other samplers with loops of their own:

- `repaint`: `repaint`, inpainting with jumps back to more noise
- `daps`: `daps`, decoupled annealing with Langevin steps

`editing` has a room of its own: new data that keep something of given data.

`observations` holds what they have in common.
"""

from jaxdiff.posterior import editing
from jaxdiff.posterior.daps import daps
from jaxdiff.posterior.repaint import jump_schedule, repaint
from jaxdiff.posterior.steering import steer
from jaxdiff.posterior.twisted_smc import GaussianTwist, Twist, gaussian_twist, twisted_smc

__all__ = [
    "GaussianTwist",
    "Twist",
    "daps",
    "editing",
    "gaussian_twist",
    "jump_schedule",
    "repaint",
    "steer",
    "twisted_smc",
]
