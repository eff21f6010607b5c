"""Blur with random Gaussian kernels and their relatives."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations.degradations.degradation import Degradation, check_range, uniform
from jaxdiff.augmentations.degradations.filters import check_sides, check_sizes, filtered, grid, random_square
from jaxdiff.checks import fraction, positive, require

GENERALISED = (0.5, 4.0)  # the shapes beta of generalised Gaussian kernels
PLATEAU = (1.0, 2.0)  # the shapes beta of kernels with a plateau


@dataclasses.dataclass(frozen=True)
class Blur(Degradation):
    """Blur. The kernel is a Gaussian, or falls off more or less steeply than a Gaussian.

    With `q = v^T Sigma^-1 v`, the kernel is `exp(-q / 2)`, generalised `exp(-q^beta / 2)` with beta from 0.5 to 4, or
    with a plateau `1 / (1 + q^beta)` with beta from 1 to 2. Wang et al. 2021 (Real-ESRGAN, arXiv 2107.10833), section
    3.1 and section 4.1.

    Attributes:
      sigma_min: the least standard deviation of a Gaussian, in pixels.
      sigma_max: the greatest standard deviation, in pixels. All values between are equally probable.
      size_min: the least side of the kernel in pixels, an odd number.
      size_max: the greatest side of the kernel. All odd sides between are equally probable.
      anisotropic: the probability that the kernel has two standard deviations, along axes of a random direction.
      generalised: the probability of a generalised Gaussian kernel.
      plateau: the probability of a kernel with a plateau.
      probability: the probability that the picture is blurred at all.
    """

    sigma_min: float = 0.2
    sigma_max: float = 3.0
    size_min: int = 7
    size_max: int = 21
    anisotropic: float = 0.0
    generalised: float = 0.0
    plateau: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        positive("sigma_min", self.sigma_min)
        check_range("sigma", self.sigma_min, self.sigma_max)
        check_sizes(self.size_min, self.size_max)
        for name in ("anisotropic", "generalised", "plateau", "probability"):
            fraction(name, getattr(self, name))
        fits = self.generalised + self.plateau <= 1
        require(fits, "plateau", self.plateau, f"numbers up to 1 - generalised, {1 - self.generalised}")

    @property
    def task(self) -> str:
        return "deblur"

    def check(self, shape: tuple[int, ...]) -> None:
        check_sides(shape)

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        return filtered(image, self.kernel(key))

    def kernel(self, key: Key[Array, ""]) -> Float[Array, "size_max size_max"]:
        """Draws a kernel. Its entries do not yet sum to 1."""
        size_key, kind_key, first_key, second_key, angle_key, beta_key = jax.random.split(key, 6)
        is_anisotropic, kind = jax.random.uniform(kind_key, (2,))
        first = uniform(first_key, self.sigma_min, self.sigma_max)
        second = uniform(second_key, self.sigma_min, self.sigma_max)
        second = jnp.where(is_anisotropic < self.anisotropic, second, first)
        angle = uniform(angle_key, -jnp.pi, jnp.pi)
        x, y = grid(self.size_max)
        along, across = x * jnp.cos(angle) + y * jnp.sin(angle), y * jnp.cos(angle) - x * jnp.sin(angle)
        q = (along / first) ** 2 + (across / second) ** 2
        has_plateau = kind >= 1 - self.plateau
        generalised, plateau = uniform(beta_key, *GENERALISED), uniform(beta_key, *PLATEAU)
        beta = jnp.where(has_plateau, plateau, jnp.where(kind < self.generalised, generalised, 1.0))
        q = q**beta
        values = jnp.where(has_plateau, 1 / (1 + q), jnp.exp(-q / 2))
        return jnp.where(random_square(size_key, self.size_min, self.size_max), values, 0.0)
