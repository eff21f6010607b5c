"""The tasks of restoration: what is known of the picture that a user wants, as an operator and an observation.

A task is a function of a picture `[height, width, channels]` in [-1, 1], with settings of its own, and returns a
`Problem`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxdiff.checks import integer, positive, require
from jaxdiff.posterior import operators
from jaxdiff.posterior.operators.operator import Operator

Picture = Float[np.ndarray, "height width channels"]
# The standard deviation of the rounding of pixels in [-1, 1] to bytes.
ROUNDING = 2 / 255 / 12**0.5
# That of the rounding of the coefficients of JPEG files, roughly. Each coefficient has an error of its own.
CODING = 6 / 255


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is known of the picture that a user wants.

    Attributes:
      operator: what an instrument sees of pictures `[batch, *shape]`.
      observation: what it saw, with one row.
      shape: `(height, width, channels)` of the unknown picture.
      shown: the degraded picture in the size of the result, to look at.
      crop: the rows and columns of the unknown picture that are the result.
      kept: the pixels of the result that are known, `[height, width]`; None if no pixel is.
      doubt: the standard deviation that the observation has at least, in [-1, 1]. Files round to bytes.
    """

    operator: Operator
    observation: Array
    shape: tuple[int, int, int]
    shown: Picture
    crop: tuple[slice, slice] = (slice(None), slice(None))
    kept: Bool[np.ndarray, "height width"] | None = None
    doubt: float = ROUNDING


def inpaint(picture: Picture, hidden: Bool[np.ndarray, "height width"]) -> Problem:
    """Fills in the hidden pixels.

    Raises:
      ValueError: `hidden` has another size than the picture, or hides nothing or everything.
    """
    sides = picture.shape[:2]
    require(hidden.shape == sides, "size of the mask", hidden.shape[::-1], f"{sides[::-1]}, that of the picture")
    require(hidden.any(), "mask", "nothing", "masks with white pixels, which are filled in")
    require(not hidden.all(), "mask", "everything", "masks with black pixels, which are kept")
    shown = np.where(hidden[..., None], np.float32(0), picture)
    operator = operators.mask(~hidden[..., None])
    return Problem(operator, jnp.asarray(shown[None]), picture.shape, shown, kept=~hidden)


def outpaint(picture: Picture, pixels: int) -> Problem:
    """Continues the picture by so many pixels on all sides."""
    integer("pixels", pixels, most=4096)
    shown = np.pad(picture, ((pixels, pixels), (pixels, pixels), (0, 0)))
    hidden = np.ones(shown.shape[:2], bool)
    hidden[pixels:-pixels, pixels:-pixels] = False
    return inpaint(shown, hidden)


def super_resolve(picture: Picture, scale: int) -> Problem:
    """Enlarges the picture, which counts as reduced by bicubic interpolation."""
    integer("scale", scale, least=2, most=16)
    height, width, channels = picture.shape
    shape = (scale * height, scale * width, channels)
    operator = operators.bicubic(shape[:2], scale)
    shown = np.asarray(jax.image.resize(picture, shape, "cubic"))
    return Problem(operator, jnp.asarray(picture[None]), shape, shown)


def restore_jpeg(picture: Picture, quality: int, subsampled: bool = True) -> Problem:
    """Undoes the compression of a JPEG file of a known quality."""
    integer("quality", quality, least=1, most=100)
    operator = operators.jpeg(quality, subsampled=subsampled)
    return Problem(operator, jnp.asarray(picture[None]), picture.shape, picture, doubt=CODING)


def deblur(picture: Picture, blur: float) -> Problem:
    """Undoes a Gaussian blur of a known standard deviation in pixels.

    The picture that is looked for has a margin, since the blur brings pixels from beyond the border into the picture.
    """
    positive("blur", blur)
    reach = int(np.ceil(3 * blur))
    height, width, channels = picture.shape
    shape = (height + 2 * reach, width + 2 * reach, channels)
    inside = (slice(reach, reach + height), slice(reach, reach + width))
    mask = np.zeros((*shape[:2], 1), bool)
    mask[inside] = True
    kernel = operators.gaussian_kernel(2 * reach + 1, blur)
    operator = operators.compose(operators.blur(kernel), operators.mask(mask))
    observation = np.zeros(shape, np.float32)
    observation[inside] = picture
    return Problem(operator, jnp.asarray(observation[None]), shape, picture, crop=inside)


def colorize(picture: Picture) -> Problem:
    """Gives colours to a grey picture.

    Raises:
      ValueError: the model has no colours.
    """
    require(picture.shape[-1] == 3, "task", "colorize", "other tasks, since the model has no colours")
    operator = operators.grey()
    observation = operator(jnp.asarray(picture[None]))
    shown = np.repeat(np.asarray(observation[0]), 3, axis=-1)
    return Problem(operator, observation, picture.shape, shown)


TASKS: dict[str, Any] = {
    "inpaint": inpaint,
    "outpaint": outpaint,
    "sr": super_resolve,
    "jpeg": restore_jpeg,
    "deblur": deblur,
    "colorize": colorize,
}
