"""DDRM for JPEG: the estimate moves a part of the way to a picture that has the same file."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff import checks, trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.posterior.conditioned import arguments, invertible
from jaxdiff.posterior.ddnm import RangeDenoiser
from jaxdiff.posterior.operators.operator import Operator


def ddrm_jpeg(denoiser: Denoiser, operator: Operator, observation: PyTree, *, eta_b: Any = 0.4) -> RangeDenoiser:
    """Restoration of JPEG pictures, and of what any other operator with a pseudo-inverse leaves.

        x0' = x0 + eta_b (A^+ y - A^+ A(x0))        eps' = eps

    For `operators.jpeg`, `A^+ A(x)` is the picture that is decoded from the file of x. Kawar et al. 2022 (JPEG Artifact
    Correction using Denoising Diffusion Restoration Models, arXiv 2209.11888). The published sampler is
    `solvers.renoise(eta=1)` with 20 steps. It starts at t = 300 of 1,000, from the decoded picture and noise, and the
    published pictures are means of 8 samples. The pair is not consistent, so that `solvers.renoise` has to sample it.

    Each call evaluates the denoiser once.

    Args:
      denoiser: the denoiser of the prior.
      operator: an operator with a `pseudo_inverse`, such as `operators.jpeg`.
      observation: what was seen, `y = A(x_0)`, with `[batch]` rows or one row for all examples: for JPEG the decoded
        picture. It is a leaf.
      eta_b: the part of the way, from 0 to 1. It is a leaf.

    Raises:
      TypeError: `denoiser` is no denoiser, or `operator` has no pseudo-inverse.
      ValueError: `eta_b` is not from 0 to 1. When the result is called: the shapes of the observation are not those of
        the operator's values.
    """
    good = trees.traced(eta_b) or np.all((np.asarray(eta_b) >= 0) & (np.asarray(eta_b) <= 1))
    checks.require(good, "eta_b", eta_b, "numbers from 0 to 1")
    return RangeDenoiser(*arguments(denoiser, invertible(operator), observation), jnp.asarray(eta_b, float))
