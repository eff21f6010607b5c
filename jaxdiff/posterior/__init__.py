"""Posteriors: samples of a prior that answer to an observation or a reward, and editing.

A method turns the denoiser of a prior into a denoiser of the posterior, which every solver may follow unless its line
says otherwise. docs/posterior.md says which method to take.

- `operators`: what is observed of the data
- `conditioned`: what the methods share
- `mmps`: moment matching with the denoiser's own covariance, the default
- `tmpd`: the same, with the row sums of a covariance
- `pigdm`: the same, with one variance for all of the data
- `dps`: a step against the gradient of the distance to the observation
- `diffpir`: a compromise with the observation, without a gradient
- `ddnm`, `ddrm_jpeg`: the range of the observation is replaced; for `solvers.renoise` alone

Two methods are samplers, whose noise depends on the observation: `ddrm`, and `ddnm_plus`. `spectral` is their loop.

Samplers with weighted particles (see `sampling.particles`), exact as the number of particles grows:

- `twisted_smc`: `twisted_smc`, particles led by guidance, for a likelihood; `gaussian_twist`
- `steering`: `steer`, particles that copy those of high reward, without derivatives

Other samplers with loops of their own:

- `repaint`: `repaint`, inpainting with jumps back to more noise
- `daps`: `daps`, decoupled annealing with Langevin steps

`editing` has a room of its own: new data that keep something of given data.
"""

from jaxdiff.posterior import editing, operators
from jaxdiff.posterior.daps import daps
from jaxdiff.posterior.ddnm import ddnm
from jaxdiff.posterior.ddnm_plus import ddnm_plus
from jaxdiff.posterior.ddrm import ddrm
from jaxdiff.posterior.ddrm_jpeg import ddrm_jpeg
from jaxdiff.posterior.diffpir import diffpir
from jaxdiff.posterior.dps import dps
from jaxdiff.posterior.mmps import mmps
from jaxdiff.posterior.pigdm import pigdm
from jaxdiff.posterior.repaint import jump_schedule, repaint
from jaxdiff.posterior.steering import steer
from jaxdiff.posterior.tmpd import tmpd
from jaxdiff.posterior.twisted_smc import GaussianTwist, Twist, gaussian_twist, twisted_smc

__all__ = [
    "GaussianTwist",
    "Twist",
    "daps",
    "ddnm",
    "ddnm_plus",
    "ddrm",
    "ddrm_jpeg",
    "diffpir",
    "dps",
    "editing",
    "gaussian_twist",
    "jump_schedule",
    "mmps",
    "operators",
    "pigdm",
    "repaint",
    "steer",
    "tmpd",
    "twisted_smc",
]
