"""Deblurring: a blurred picture is seen."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxdiff import trees
from jaxdiff.checks import integer, positive, require
from jaxdiff.posterior.operators.operator import Spectral, check_picture


@trees.register
@dataclasses.dataclass(frozen=True)
class Blur(Spectral):
    """The circular convolution with a kernel. `blur` makes it. The coordinates are those of the Fourier transform."""

    kernel: Float[Array, "k l"]
    cutoff: Float[Array, ""]

    def vt(self, x: Float[Array, "batch h w c"]) -> Complex[Array, "batch h w c"]:
        check_picture(x)
        fits = all(side <= of_x for side, of_x in zip(self.kernel.shape, x.shape[1:3], strict=True))
        require(fits, "x.shape", x.shape, f"pictures no smaller than the kernel, {self.kernel.shape}")
        return jnp.fft.fft2(x, axes=(1, 2), norm="ortho")

    def v(self, z: Complex[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
        return jnp.fft.ifft2(z, axes=(1, 2), norm="ortho").real

    def ut(self, y: Float[Array, "batch h w c"]) -> Complex[Array, "batch h w c"]:
        z = self.vt(y)
        return z * self._phase(z).conj()

    def u(self, z: Complex[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
        return self.v(z * self._phase(z))

    def singular_values(self, z: Complex[Array, "batch h w c"]) -> Float[Array, "h w 1"]:
        values = jnp.abs(self._response(z))
        return jnp.where(values > self.cutoff, values, 0.0)

    def _phase(self, z: Complex[Array, "batch h w c"]) -> Complex[Array, "h w 1"]:
        response = self._response(z)
        size = jnp.abs(response)
        return jnp.where(size > 0, response / jnp.where(size > 0, size, 1.0), 1.0)

    def _response(self, z: Complex[Array, "batch h w c"]) -> Complex[Array, "h w 1"]:
        """The factor by which the blur multiplies each frequency."""
        (height, width), (k, l) = z.shape[1:3], self.kernel.shape
        kernel = jnp.pad(self.kernel, ((0, height - k), (0, width - l)))
        return jnp.fft.fft2(jnp.roll(kernel, (-(k // 2), -(l // 2)), (0, 1)))[..., None]


def blur(kernel: Any, *, cutoff: Any = 1e-3) -> Blur:
    """Blur of pictures: the circular convolution of each channel with a kernel, by Fourier transforms.

    The picture continues beyond its border on its opposite side. A picture that does not should be given a margin.

    Args:
      kernel: `[height, width]`, its middle at `[height // 2, width // 2]`: `gaussian_kernel(...)`,
        `motion_kernel(...)` or any other. It is a leaf.
      cutoff: frequencies that the blur multiplies by this or less count as not seen, also in the operator itself. A
        wide blur multiplies many frequencies by less than the rounding of a number, and no inverse could bring them
        back. Kawar et al. 2022 (DDRM, arXiv 2201.11793) take 0.03. It is a leaf.

    Raises:
      ValueError: `kernel` is not a matrix. When the operator is called: x is smaller than the kernel.
    """
    kernel = jnp.asarray(kernel, float)
    require(kernel.ndim == 2, "kernel.shape", kernel.shape, "[height, width]")
    return Blur(kernel, jnp.asarray(cutoff, float))


def gaussian_kernel(size: int, std: Any) -> Float[Array, "size size"]:
    """A Gaussian kernel that sums to 1.

    Args:
      size: the side in pixels. Static.
      std: the standard deviation in pixels: a number, or `[2]` along the height and the width. It may be traced.

    Raises:
      ValueError: `size` is less than 1, or a standard deviation is not above 0.
    """
    integer("size", size)
    good = trees.traced(std) or np.all(np.asarray(std) > 0)
    require(good, "std", std, "numbers above 0")
    along = jnp.arange(size) - size // 2
    rows, columns = (jnp.exp(-((along / s) ** 2) / 2) for s in jnp.broadcast_to(jnp.asarray(std, float), (2,)))
    kernel = rows[:, None] * columns
    return kernel / jnp.sum(kernel)


def motion_kernel(size: int, length: Any, angle: Any = 0.0) -> Float[Array, "size size"]:
    """The kernel of a camera that moves along a straight line while it exposes. It sums to 1.

    The line is one pixel wide, and each pixel has the share of the line's neighbourhood that it covers to first order.

    Args:
      size: the side in pixels. Static.
      length: the length of the line in pixels, at most `size`. It may be traced.
      angle: the direction in radians, from the horizontal axis downwards. It may be traced.

    Raises:
      ValueError: `size` is less than 1, or `length` is not above 0.
    """
    integer("size", size)
    if not trees.traced(length):
        positive("length", length)
    along = jnp.arange(size) - size // 2
    cosine, sine = jnp.cos(jnp.asarray(angle, float)), jnp.sin(jnp.asarray(angle, float))
    x, y = along[None, :], along[:, None]
    beyond = jnp.maximum(jnp.abs(x * cosine + y * sine) - (length - 1) / 2, 0.0)
    distance = jnp.hypot(beyond, y * cosine - x * sine)
    kernel = jnp.maximum(1 - distance, 0.0)
    return kernel / jnp.sum(kernel)
