"""Operators that act on the rows and on the columns of a picture by a matrix each."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.posterior.operators.operator import Spectral, check_picture


@trees.register
@dataclasses.dataclass(frozen=True)
class Side:
    """The singular value decomposition of a matrix that acts along one side of a picture, `left diag(values) right`."""

    left: Float[Array, "new new"]
    values: Float[Array, " old"]
    right: Float[Array, "old old"]


@trees.register
@dataclasses.dataclass(frozen=True)
class Separable(Spectral):
    """A matrix along the height and one along the width of a picture. `separable` makes it.

    The singular values are the products of those of the two matrices.
    """

    rows: Side
    columns: Side

    def vt(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
        check_picture(x)
        wanted = (len(self.rows.right), len(self.columns.right))
        require(x.shape[1:3] == wanted, "x.shape", x.shape, f"pictures of {wanted[0]} by {wanted[1]} pixels")
        return _along(self.rows.right, self.columns.right, x)

    def v(self, z: Float[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
        return _along(self.rows.right.T, self.columns.right.T, z)

    def ut(self, y: Float[Array, "batch new_h new_w c"]) -> Float[Array, "batch h w c"]:
        check_picture(y)
        sides = [(0, len(side.right) - len(side.left)) for side in (self.rows, self.columns)]
        return jnp.pad(_along(self.rows.left.T, self.columns.left.T, y), ((0, 0), *sides, (0, 0)))

    def u(self, z: Float[Array, "batch h w c"]) -> Float[Array, "batch new_h new_w c"]:
        seen = z[:, : len(self.rows.left), : len(self.columns.left)]
        return _along(self.rows.left, self.columns.left, seen)

    def singular_values(self, z: Float[Array, "batch h w c"]) -> Float[Array, "h w 1"]:
        return (self.rows.values[:, None] * self.columns.values)[..., None]


def _along(rows: Array, columns: Array, x: Array) -> Array:
    # By default accelerators would round the pixels to fewer bits.
    x = jnp.einsum("yh,bhwc->bywc", rows, x, precision="highest")
    return jnp.einsum("xw,bywc->byxc", columns, x, precision="highest")


def separable(rows: Any, columns: Any, *, cutoff: float = 1e-4) -> Separable:
    """The operator `rows X columns^T` on each channel X of a picture: scaling, and blur by separable kernels.

    The matrices must be concrete, since their decompositions are computed on the host.

    Args:
      rows: the matrix along the height, `[new_height, height]`, with `new_height` of at most `height`.
      columns: the matrix along the width, `[new_width, width]`.
      cutoff: singular values below this share of the largest one of their matrix count as 0, also in the operator
        itself. Without it the rounding of an observation would grow without limit in the pseudo-inverse.

    Raises:
      ValueError: a matrix has more rows than columns.
    """
    return Separable(_side("rows", rows, cutoff), _side("columns", columns, cutoff))


def _side(name: str, matrix: Any, cutoff: float) -> Side:
    matrix = np.asarray(matrix, np.float64)
    good = matrix.ndim == 2 and 1 <= matrix.shape[0] <= matrix.shape[1]
    require(good, f"{name}.shape", matrix.shape, "[new, old] with new up to old")
    left, values, right = np.linalg.svd(matrix)
    values = np.where(values > cutoff * values.max(), values, 0.0)
    values = np.pad(values, (0, matrix.shape[1] - len(values)))
    return Side(*map(jnp.asarray, (left, values, right)))
