"""The interface of degradations as components."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff.checks import not_negative, require
from jaxdiff.components import Component


class Degradation(Component):
    """The base of degradations: random changes that make a picture worse and keep its shape.

    Pictures are float32 with values in [-1, 1]. Filters may overshoot this range a little. A kind has a setting
    `probability`, and defines `apply`.
    """

    home = "jaxdiff.augmentations.degradations"
    probability: float

    @property
    def task(self) -> str | None:
        """The task of `jaxdiff restore` that undoes the degradation; None if there is none."""
        return None

    def __call__(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        """The degraded picture, or the picture as it is with probability `1 - probability`."""
        happens_key, key = jax.random.split(key)
        happens = jax.random.bernoulli(happens_key, self.probability)
        return jnp.where(happens, self.apply(key, image), image)

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        """The degraded picture."""
        raise NotImplementedError

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises a ValueError if the degradation does not fit pictures of this shape, `[h, w, c]`."""


def check_range(name: str, low: float, high: float) -> None:
    """Raises a ValueError unless the settings `name_min` and `name_max` are a range of numbers of at least 0."""
    not_negative(f"{name}_min", low)
    not_negative(f"{name}_max", high)
    require(low <= high, f"{name}_max", high, f"numbers of at least {name}_min, {low}")


def uniform(key: Key[Array, ""], low: float, high: float) -> Float[Array, ""]:
    """A random number, all numbers of the range being equally probable."""
    return jax.random.uniform(key, (), minval=low, maxval=high)
