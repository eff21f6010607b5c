"""Super-resolution: a smaller picture is seen, made by bicubic interpolation."""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxdiff.arithmetic import namespace
from jaxdiff.checks import integer, require
from jaxdiff.posterior.operators.separable import Separable, separable


def bicubic(size: tuple[int, int], factor: int) -> Separable:
    """Down-sampling of pictures by bicubic interpolation with antialiasing.

    The weights are those of Pillow's `resize` for pictures of floats, and of MATLAB's `imresize` away from the border:
    Keys' kernel with a = -1/2 (Keys 1981), stretched by the factor. At the border the weights of pixels that do not
    exist are shared out among the others.

    Args:
      size: the height and the width of x.
      factor: how many times smaller both sides become, an integer that divides them.

    Raises:
      ValueError: `factor` does not divide the sides.
    """
    integer("factor", factor)
    for side in size:
        integer("size", side)
        require(side % factor == 0, "size", size, f"sides that are multiples of the factor, {factor}")
    return separable(*(weights(side, side // factor) for side in size))


def weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """The weights of the old pixels along a side in each new pixel. They sum to 1."""
    factor = old / new
    centre = (np.arange(new)[:, None] + 0.5) * factor
    values = keys_cubic(np.abs(np.arange(old) + 0.5 - centre) / max(factor, 1.0))
    return values / values.sum(1, keepdims=True)


def keys_cubic(s: Any) -> Any:
    """Keys' cubic kernel with a = -1/2 at the distance `s` of at least 0, factored."""
    near = (1 - s) * (1 + s - 1.5 * s**2)
    far = (s - 1) * (s - 2) ** 2 / -2
    xp = namespace(s)
    return xp.where(s < 1, near, xp.where(s < 2, far, 0.0))
