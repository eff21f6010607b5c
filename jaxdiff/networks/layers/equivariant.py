"""Layers of graph networks that turn with their points: messages between all pairs of points."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from jaxdiff.networks.layers.dense import Dense


class Messages(nn.Module):
    """A message from every point to every point.

        m_ij = silu(W_out silu(W_receiver h_i + W_sender h_j + W_distances d_ij + b) + c)

    Attributes:
      width: the length of a message.
      dtype: compute type; parameters are float32.
    """

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, h: Float[Array, "batch n width"], distances: Float[Array, "batch n n k"]
    ) -> Float[Array, "batch n n width"]:
        """The messages of the states `h` of the points and of the squared distances `[batch, n, n, k]`."""
        receiver = Dense(self.width, dtype=self.dtype, name="receiver")(h)
        sender = Dense(self.width, use_bias=False, dtype=self.dtype, name="sender")(h)
        apart = Dense(self.width, use_bias=False, dtype=self.dtype, name="distances")(distances)
        hidden = nn.silu(receiver[:, :, None] + sender[:, None] + apart)
        return nn.silu(Dense(self.width, dtype=self.dtype, name="out")(hidden))


class EquivariantLayer(nn.Module):
    """Updates the states of points by messages, and moves the points along their differences.

        h_i = h_i + MLP(h_i, sum_j sigmoid(W_gate m_ij + b) m_ij / scale)                        `sublayers` times
        x_i = x_i + sum_j (x_i - x_j) / (|x_i - x_j| + 1) reach tanh(W_move m_ij) / scale

    Every m_ij is a message of states and of the squared distances, now and at the entrance of the network. `W_move`
    starts at zero. Hoogeboom et al. 2022 (arXiv 2203.17003), equations 12 and appendix B; Satorras et al. 2021 (arXiv
    2102.09844).

    Attributes:
      width: the length of states and messages.
      sublayers: number of updates of the states before the points move.
      reach: the largest factor of a difference.
      scale: the divisor of sums over points.
      dtype: compute type of states and messages; positions are float32 or wider.
    """

    width: int
    sublayers: int
    reach: float
    scale: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "batch n width"],
        x: Float[Array, "batch n d"],
        first: Float[Array, "batch n n"],
        pairs: Bool[Array, "batch n n"],
    ) -> tuple[Float[Array, "batch n width"], Float[Array, "batch n d"]]:
        """Applies the layer.

        Args:
          h: the states of the points.
          x: their positions.
          first: the squared distances at the entrance of the network.
          pairs: the pairs of different points that exist.
        """
        apart = x[:, :, None] - x[:, None]
        squared = jnp.square(apart).sum(axis=-1)
        distances = jnp.stack([squared, first], axis=-1).astype(self.dtype)
        for i in range(self.sublayers):
            m = Messages(self.width, self.dtype, name=f"message_{i}")(h, distances)
            gate = nn.sigmoid(Dense(1, dtype=self.dtype, name=f"gate_{i}")(m))
            told = jnp.where(pairs[..., None], gate * m, 0).sum(axis=2) / self.scale
            hidden = Dense(self.width, dtype=self.dtype, name=f"update_{i}_in")(jnp.concatenate([h, told], axis=-1))
            h = h + Dense(self.width, dtype=self.dtype, name=f"update_{i}_out")(nn.silu(hidden))
        m = Messages(self.width, self.dtype, name="move_message")(h, distances)
        zeros = nn.initializers.zeros
        step = Dense(1, use_bias=False, dtype=x.dtype, kernel_init=zeros, name="move")(m.astype(x.dtype))
        # The root of zero has no derivative.
        direction = apart / (jnp.sqrt(squared + 1e-8) + 1)[..., None]
        moves = jnp.where(pairs[..., None], direction * self.reach * jnp.tanh(step), 0)
        return h, x + moves.sum(axis=2) / self.scale
