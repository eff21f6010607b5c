"""Super-resolution: the means of blocks are seen."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.checks import integer, require
from jaxdiff.posterior.operators.operator import OrthogonalRows, check_picture


@trees.register
@dataclasses.dataclass(frozen=True)
class Box(OrthogonalRows):
    """The means over square blocks. `box` makes it."""

    factor: int = dataclasses.field(metadata={"static": True})

    @property
    def gain(self) -> Float[Array, ""]:
        return jnp.asarray(1.0 / self.factor)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h/f w/f c"]:
        check_picture(x)
        batch, height, width, channels = x.shape
        fits = height % self.factor == 0 and width % self.factor == 0
        require(fits, "x.shape", x.shape, f"pictures whose sides are multiples of the factor, {self.factor}")
        blocks = x.reshape(batch, height // self.factor, self.factor, width // self.factor, self.factor, channels)
        return blocks.mean((2, 4))

    def adjoint(self, y: Float[Array, "batch h/f w/f c"]) -> Float[Array, "batch h w c"]:
        check_picture(y)
        return y.repeat(self.factor, axis=1).repeat(self.factor, axis=2) / self.factor**2


def box(factor: int) -> Box:
    """Down-sampling of pictures to the means over blocks of `factor x factor` pixels.

    This is the super-resolution of Kawar et al. 2022 (DDRM, arXiv 2201.11793).

    Args:
      factor: the side of a block, an integer. It is static.

    Raises:
      ValueError: `factor` is less than 1. When the operator is called: the sides of x are no multiples of it.
    """
    integer("factor", factor)
    return Box(int(factor))
