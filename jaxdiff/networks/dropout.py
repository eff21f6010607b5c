"""Dropout whose masks belong to the examples, not to the batch."""

import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff import trees


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014): entries are zero with probability `rate`, the others divided by `1 - rate`.

    The mask of an example is a function of that example's key and of the layer's name alone. A batch that is split over
    devices, processes or accumulation steps, each part with its keys, has the masks of the whole batch.

    Attributes:
      rate: probability of zero.
    """

    rate: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *event"], keys: Key[Array, " batch"] | None
    ) -> Float[Array, "batch *event"]:
        """Masks `x` by `keys`, one for each example; None for no dropout.

        Raises:
          ValueError: if `rate` is negative, or not below 1.
        """
        if not 0 <= self.rate < 1:
            raise ValueError(f"dropout={self.rate}; allowed is 0 <= dropout < 1")
        if keys is None or self.rate == 0:
            return x
        # Python's own hash of a string differs between processes.
        layer = zlib.crc32("/".join(self.path).encode())
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(trees.fold_in(keys, layer))
        # A byte an entry is kept for the gradient. XLA would rather draw it again, within the convolutions on both
        # sides, which doubles the hashing and the time that its TPU compiler takes.
        keep = jax.lax.optimization_barrier(keep)
        return jnp.where(keep, x / (1 - self.rate), 0)
