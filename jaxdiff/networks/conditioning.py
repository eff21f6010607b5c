"""The embedding of the time input and of the conditions: one vector per example."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from jaxdiff.checks import require
from jaxdiff.networks.embeddings import Fourier, Sinusoidal

Cond = ArrayLike | Mapping[str, ArrayLike] | None


class Conditioning(nn.Module):
    """Sum of a time embedding, a class embedding and a projected condition vector.

    The features of the time input pass through two dense layers (Ho et al. 2020). Before these layers, a projection of
    the augmentation features is added. The projection has no bias, so that zeros mean no augmentation (Karras et al.
    2022, appendix F.2). After these layers, the class embedding and the projected vector are added (Dhariwal & Nichol
    2021). The class table has `num_classes + 1` rows. The last row belongs to the null label `num_classes`, which means
    "no class" in classifier-free guidance (Ho & Salimans 2022).

    Attributes:
      features: width requested from the embedding of the time input.
      width: length of the result.
      embedding: features of the time input.
      num_classes: number of classes, 0 for none.
      vector_features: length of the condition vector, 0 for none.
      augmentation_features: number of augmentation features, 0 for none.
      dtype: compute type; parameters are float32.
    """

    features: int
    width: int
    embedding: Sinusoidal | Fourier
    num_classes: int
    vector_features: int
    augmentation_features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, time: Float[Array, " batch"], cond: Cond) -> Float[Array, "batch width"]:
        """Maps `time` `[batch]` and `cond` to `[batch, width]`, with SiLU applied last."""
        declared = (self.num_classes, self.vector_features, self.augmentation_features)
        label, vector, augmentation = split_cond(cond, time.shape[0], *declared)
        hidden = self.embedding(time, self.features).astype(self.dtype)
        if augmentation is not None:
            features = hidden.shape[-1]
            hidden = hidden + nn.Dense(features, use_bias=False, dtype=self.dtype, name="augmentation")(augmentation)
        hidden = nn.Dense(self.width, dtype=self.dtype, name="time_in")(hidden)
        hidden = nn.Dense(self.width, dtype=self.dtype, name="time_out")(nn.silu(hidden))
        if label is not None:
            init = nn.initializers.normal(1.0)
            rows = self.num_classes + 1
            table = nn.Embed(rows, self.width, embedding_init=init, dtype=self.dtype, name="label_table")
            hidden = hidden + table(label)
        if vector is not None:
            hidden = hidden + nn.Dense(self.width, dtype=self.dtype, name="vector")(vector)
        return nn.silu(hidden)


def split_cond(
    cond: Cond, batch: int, num_classes: int, vector_features: int, augmentation_features: int = 0
) -> tuple[Int[Array, " batch"] | None, Float[Array, "batch vector"] | None, Float[Array, "batch augmentation"] | None]:
    """Checks `cond` against the settings of the network, and splits it into label, vector and augmentation features.

    Args:
      cond: None; class labels, integers `[batch]`; or a mapping with the entries `"label"` (class labels), `"vector"`
        (`[batch, vector_features]`) and `"augmentation"` (`[batch, augmentation_features]`).
      batch: number of examples.
      num_classes: number of classes of the network, 0 for none.
      vector_features: length of the condition vector of the network, 0 for none.
      augmentation_features: number of augmentation features of the network, 0 for none.

    Returns:
      `(label, vector, augmentation)`. Each is None if the network does not take it. The label and the vector of a
      network that takes them are required; the label of an example without a class is the null label `num_classes`.
      Augmentation features may be left out. They are then zero, as for an image that is not augmented.

    Raises:
      ValueError: an entry is missing, unknown, not taken by the network, or of the wrong shape.
      TypeError: class labels are not integers.
    """
    given = cond if isinstance(cond, Mapping) else {} if cond is None else {"label": cond}
    required = [name for name, size in (("label", num_classes), ("vector", vector_features)) if size]
    optional = ["augmentation"] if augmentation_features else []
    allowed = f"{required}, with {optional} optional" if optional else f"{required}"
    settings = f"{num_classes = }, {vector_features = } and {augmentation_features = }"
    fits = set(required) <= set(given) <= {*required, *optional}
    require(fits, "entries of cond", sorted(given), f"{allowed}, for a network with {settings}")

    def entry(name: str, shape: tuple[int, ...]) -> Array:
        value = jnp.asarray(given[name])
        require(value.shape == shape, f"cond[{name!r}].shape", value.shape, f"{shape}")
        return value

    label = vector = augmentation = None
    if num_classes:
        label = entry("label", (batch,))
        integers = jnp.issubdtype(label.dtype, jnp.integer)
        require(integers, "cond['label'].dtype", label.dtype, "integer types", TypeError)
    if vector_features:
        vector = entry("vector", (batch, vector_features))
    if augmentation_features:
        shape = (batch, augmentation_features)
        augmentation = entry("augmentation", shape) if "augmentation" in given else jnp.zeros(shape)
    return label, vector, augmentation


def check_input(x: Array, time: ArrayLike) -> Array:
    """Checks the type of `x` and the shape of `time`, and returns `time` as an array.

    Raises:
      TypeError: `x` is not floating-point; integers are images that have not been scaled.
      ValueError: `time` does not have one entry per example.
    """
    time = jnp.asarray(time)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    require(floating, "x.dtype", x.dtype, "floating-point types", TypeError)
    require(time.shape == x.shape[:1], "time.shape", time.shape, f"{x.shape[:1]}, one time per example")
    return time
