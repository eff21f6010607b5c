"""Operators: what is observed of the data, as functions that methods of `jaxdiff.posterior` invert.

An operator is called with a batch, `operator(x) -> y`. It is a pytree: masks, kernels and qualities are leaves, so that
another one needs no new compilation. A linear operator also has `adjoint(y)` and `pseudo_inverse(y, damping=0)`, and
most have a singular value decomposition (see `operator.Spectral`), which DDRM needs. Any other function is an operator
too, for the methods that differentiate it.

Linear, on any data:

- `mask`: some of the numbers
- `scaling`, `identity`: all of them
- `random_projection`, `hadamard`: a few random projections
- `linear`: any linear function; `compose`: one operator after another

Linear, on pictures `[batch, height, width, channels]`:

- `box`, `bicubic`: smaller pictures
- `blur`: blurred pictures, by `gaussian_kernel`, `motion_kernel` or any other; `separable`: a matrix along each side
- `grey`: pictures without colour

Not linear:

- `jpeg`: JPEG compression
- `clip`: an exposure that cuts what is bright
- `phase_retrieval`: the magnitudes of a Fourier transform
- `function`: any function
"""

from jaxdiff.posterior.operators.bicubic import bicubic
from jaxdiff.posterior.operators.blur import blur, gaussian_kernel, motion_kernel
from jaxdiff.posterior.operators.box import box
from jaxdiff.posterior.operators.clip import clip
from jaxdiff.posterior.operators.compose import compose
from jaxdiff.posterior.operators.function import function, linear
from jaxdiff.posterior.operators.grey import LUMA, MEAN, grey
from jaxdiff.posterior.operators.hadamard import hadamard
from jaxdiff.posterior.operators.jpeg import jpeg
from jaxdiff.posterior.operators.mask import mask
from jaxdiff.posterior.operators.operator import LinearOperator, Operator, OrthogonalRows, Spectral
from jaxdiff.posterior.operators.phase_retrieval import phase_retrieval
from jaxdiff.posterior.operators.projection import random_projection
from jaxdiff.posterior.operators.scaling import identity, scaling
from jaxdiff.posterior.operators.separable import separable

__all__ = [
    "LUMA",
    "MEAN",
    "LinearOperator",
    "Operator",
    "OrthogonalRows",
    "Spectral",
    "bicubic",
    "blur",
    "box",
    "clip",
    "compose",
    "function",
    "gaussian_kernel",
    "grey",
    "hadamard",
    "identity",
    "jpeg",
    "linear",
    "mask",
    "motion_kernel",
    "phase_retrieval",
    "random_projection",
    "scaling",
    "separable",
]
