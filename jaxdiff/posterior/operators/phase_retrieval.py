"""Phase retrieval: the magnitudes of a Fourier transform are seen."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.arithmetic import root
from jaxdiff.checks import not_negative
from jaxdiff.posterior.operators.operator import check_picture


@trees.register
@dataclasses.dataclass(frozen=True)
class PhaseRetrieval:
    """The magnitudes of the Fourier transform of a picture with a dark margin. `phase_retrieval` makes it."""

    margin: float = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch H W c"]:
        """The observation of `x`."""
        check_picture(x)
        sides = [(round(self.margin * side),) * 2 for side in x.shape[1:3]]
        z = jnp.fft.fft2(jnp.pad(x, ((0, 0), *sides, (0, 0))), axes=(1, 2), norm="ortho")
        return root(z.real**2 + z.imag**2)


def phase_retrieval(oversampling: float = 2.0) -> PhaseRetrieval:
    """The magnitudes of the orthonormal Fourier transform of each channel, with a margin of zeros. It is not linear.

    Several pictures have the same magnitudes: a picture and its mirror image through its centre, for example. Chung et
    al. 2023 (DPS, arXiv 2209.14687) restore pictures from them.

    Args:
      oversampling: the margin on each side is `oversampling / 8` of the side of x, as in the published code. Static.

    Raises:
      ValueError: `oversampling` is negative.
    """
    not_negative("oversampling", oversampling)
    return PhaseRetrieval(oversampling / 8)
