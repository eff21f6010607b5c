"""One vector per example out of the time input and the condition."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from jaxdiff.networks.embeddings import Fourier, Sinusoidal

Cond = ArrayLike | Mapping[str, ArrayLike] | None


class Conditioning(nn.Module):
    """Sum of a time embedding, a class embedding and a projected vector.

    The label's features go through two dense layers (Ho et al. 2020). Before them a projection of the augmentation
    labels is added, without bias, so that zeros stand for no augmentation (Karras et al. 2022, appendix F.2); after
    them the row of the class and the projected vector (Dhariwal & Nichol 2021). The class table has `num_classes + 1`
    rows: the last, at index `num_classes`, is the null label, which stands for "no class" in classifier-free guidance
    (Ho & Salimans 2022).

    Attributes:
      features: asked of the label's embedding.
      width: of the result.
      embedding: features of the time input.
      num_classes: number of classes, 0 for none.
      vector_features: length of the condition vector, 0 for none.
      augmentation_features: number of augmentation labels, 0 for none.
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
        classes, vector, augmentation = split_cond(cond, time.shape[0], *declared)
        hidden = self.embedding(time, self.features).astype(self.dtype)
        if augmentation is not None:
            features = hidden.shape[-1]
            hidden = hidden + nn.Dense(features, use_bias=False, dtype=self.dtype, name="augmentation")(augmentation)
        hidden = nn.Dense(self.width, dtype=self.dtype, name="time_in")(hidden)
        hidden = nn.Dense(self.width, dtype=self.dtype, name="time_out")(nn.silu(hidden))
        if classes is not None:
            init = nn.initializers.normal(1.0)
            rows = self.num_classes + 1
            table = nn.Embed(rows, self.width, embedding_init=init, dtype=self.dtype, name="label_table")
            hidden = hidden + table(classes)
        if vector is not None:
            hidden = hidden + nn.Dense(self.width, dtype=self.dtype, name="vector")(vector)
        return nn.silu(hidden)


def split_cond(
    cond: Cond, batch: int, num_classes: int, vector_features: int, augmentation_features: int = 0
) -> tuple[Int[Array, " batch"] | None, Float[Array, "batch vector"] | None, Float[Array, "batch augmentation"] | None]:
    """Checks `cond` against what the network declares and splits it into class labels, vector and augmentation labels.

    Args:
      cond: None; class labels, integers `[batch]`; or a mapping with any of `"label"` (such labels), `"vector"`
        (`[batch, vector_features]`) and `"augmentation"` (`[batch, augmentation_features]`).
      batch: number of examples.
      num_classes: number of classes the network knows, 0 for none.
      vector_features: length of the vector the network takes, 0 for none.
      augmentation_features: number of augmentation labels the network takes, 0 for none.

    Returns:
      `(label, vector, augmentation)`, each None where the network does not declare it. A declared label or vector must
      be given: an example without a class carries the null label `num_classes`. Augmentation labels left out are zeros,
      those of an image as it is, which is what one samples.

    Raises:
      ValueError: if a condition is missing, undeclared, or of the wrong shape.
      TypeError: if class labels are not integers.
    """
    given = cond if isinstance(cond, Mapping) else {} if cond is None else {"label": cond}
    if unknown := sorted(set(given) - {"label", "vector", "augmentation"}):
        raise ValueError(f"cond has the entries {unknown}; allowed are 'label', 'vector' and 'augmentation'")
    for entry, field, declared in (
        ("label", "num_classes", num_classes),
        ("vector", "vector_features", vector_features),
        ("augmentation", "augmentation_features", augmentation_features),
    ):
        if entry in given and not declared:
            raise ValueError(f"cond has a {entry}, but the network was made with {field}=0")
        if declared and entry not in given and entry != "augmentation":
            raise ValueError(f"cond={cond!r} lacks the {entry} that a network with {field}={declared} needs")

    label = vector = augmentation = None
    if num_classes:
        label = jnp.asarray(given["label"])
        if not jnp.issubdtype(label.dtype, jnp.integer):
            raise TypeError(f"cond has class labels of dtype {label.dtype}; allowed are integers")
        if label.shape != (batch,):
            raise ValueError(f"cond has class labels of shape {label.shape}; allowed is {(batch,)}")
    if vector_features:
        vector = jnp.asarray(given["vector"])
        if vector.shape != (batch, vector_features):
            raise ValueError(f"cond has a vector of shape {vector.shape}; allowed is {(batch, vector_features)}")
    if augmentation_features:
        shape = (batch, augmentation_features)
        augmentation = jnp.asarray(given.get("augmentation", jnp.zeros(shape)))
        if augmentation.shape != shape:
            raise ValueError(f"cond has augmentation labels of shape {augmentation.shape}; allowed is {shape}")
    return label, vector, augmentation


def check_input(x: Array, time: ArrayLike) -> Array:
    """Returns `time` as an array.

    Raises:
      TypeError: if `x` is not floating; integers are images not yet scaled.
      ValueError: if `time` does not have one entry per example.
    """
    time = jnp.asarray(time)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x has dtype {x.dtype}; allowed are floating types")
    if time.shape != x.shape[:1]:
        raise ValueError(f"time has shape {time.shape}; allowed is {x.shape[:1]}, one time per example")
    return time
