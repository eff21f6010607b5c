"""Dropout whose masks depend on the example and not on the batch."""

import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxdiff import trees
from jaxdiff.checks import require


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014): each entry becomes zero with probability `rate`.

    The remaining entries are divided by `1 - rate`. The mask of an example depends only on the key of the example and
    on the name of the layer. A batch therefore has the same masks when it is split over devices, processes or
    accumulation steps.

    Attributes:
      rate: probability of zero.
    """

    rate: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *event"], keys: Key[Array, " batch"] | None, drops: Bool[Array, ""] | None = None
    ) -> Float[Array, "batch *event"]:
        """Masks `x` `[batch, *event]` with one key per example; `keys = None` means no dropout.

        Args:
          x: the values.
          keys: one key per example; None for no dropout.
          drops: whether there is dropout at all, for one layer of a stack of layers; None for yes.

        Raises:
          ValueError: `rate` is outside of [0, 1).
        """
        require(0 <= self.rate < 1, "dropout", self.rate, "numbers from 0 to below 1")
        if keys is None or self.rate == 0:
            return x
        # Python's own hash of a string would differ between processes.
        layer = zlib.crc32("/".join(self.path).encode())
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(trees.fold_in(keys, layer))
        # The barrier keeps the mask, one byte per entry, for the gradient. Without it XLA draws the mask twice, inside
        # the convolutions before and after, which doubles the hashing and the compile time for TPUs.
        keep = jax.lax.optimization_barrier(keep)
        if drops is None:
            return jnp.where(keep, x / (1 - self.rate), 0)
        return jnp.where(drops, jnp.where(keep, x / (1 - self.rate), 0), x)
