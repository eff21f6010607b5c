"""Posteriors: samples of data given an observation of them.

A method is a function from the denoiser of a prior to a denoiser of the posterior, which every solver may follow.

- `operators`: what is observed of the data
- `conditioned`: what the methods share
- `mmps`: moment matching with the denoiser's own covariance, the default
"""

from jaxdiff.posterior import operators
from jaxdiff.posterior.mmps import mmps

__all__ = ["mmps", "operators"]
