"""Autoencoders: a smaller space for other models to work in."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import tiles, trees
from jaxdiff.checks import integer, require
from jaxdiff.components import Table, at
from jaxdiff.data.fields import Field, check_known
from jaxdiff.data.pixels import to_floats
from jaxdiff.data.selection import Entry
from jaxdiff.models.model import Bound, Model
from jaxdiff.networks import ConvAutoencoder, TinyDarknet
from jaxdiff.networks.discriminator import PatchDiscriminator
from jaxdiff.networks.module import Network
from jaxdiff.objectives import KLReconstruction, Reconstruction


@dataclasses.dataclass(frozen=True)
class Autoencoder(Model):
    """An autoencoder, whose latents another run can model through the codec `Latents`.

    Attributes:
      network: a network with `encode` and `decode`.
      field: the field that is encoded.
    """

    network: Network = dataclasses.field(default_factory=ConvAutoencoder)
    field: str = "image"

    def objective(self) -> Any:
        return KLReconstruction() if hasattr(self.network, "posterior") else Reconstruction()

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        check_known(fields, self.field, "model.field")
        return {self.field: Entry(self.field, None, fields[self.field])}

    def bind(self, fields: Mapping[str, Field], frozen: Any) -> "BoundAutoencoder":
        good = hasattr(self.network, "encode") and hasattr(self.network, "decode")
        require(good, "model.network.kind", type(self.network).__name__, "networks that encode and decode")
        shape = fields[self.field].shape
        with at("model.network"):
            network = self.network.given({}).giving(shape[-1])
            x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
            z = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x, method="encode")[0], x)
        return BoundAutoencoder(self, Table(fields), network, tuple(z.shape[1:]))


@dataclasses.dataclass(frozen=True)
class BoundAutoencoder(Bound):
    """An autoencoder on data whose shapes are known. `Autoencoder.bind` makes it.

    Attributes:
      latent: the shape of the latents of one example.
    """

    settings: Autoencoder
    latent: tuple[int, ...]

    def init(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        with at("model.network"):
            return {"model": self.network.init(key, jnp.zeros((1, *self.fields[self.settings.field].shape)))}

    def prepare(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], random: trees.BatchKey
    ) -> dict[str, PyTree]:
        return {"x": to_floats(batch[self.settings.field])}

    @property
    def has_posterior(self) -> bool:
        """Whether the network gives a normal distribution of the latents, as `KLAutoencoder` does."""
        return hasattr(self.network, "posterior")

    def encode(self, params: PyTree, x: Array) -> Array:
        """The latents of data in floats; their mean, if they have a distribution."""
        return self.network.apply(params["model"], x, method="encode")

    def posterior(self, params: PyTree, x: Array) -> tuple[Array, Array]:
        """The mean of the latents, and the logarithm of their variance."""
        return self.network.apply(params["model"], x, method="posterior")

    def decode(self, params: PyTree, z: Array) -> Array:
        """The data of latents."""
        return self.network.apply(params["model"], z, method="decode")

    def discriminator(self, channels: int, levels: int) -> Network:
        """A network that tells data from reconstructions, for objectives."""
        return PatchDiscriminator(channels=channels, levels=levels)

    def hidden_states(self, arrays: Mapping[str, Any], x: Array) -> tuple[Array, ...]:
        """The hidden states of pictures in Tiny Darknet, by the arrays of its file of weights, for objectives."""
        states: tuple[Array, ...] = TinyDarknet().apply(TinyDarknet.read(arrays), x, method="compared")
        return states

    def loaded(self, params: PyTree, frozen: Any, extra: Any, sampling: Any) -> "AutoencoderModel":
        mean, square = jnp.asarray(extra["mean"]), jnp.asarray(extra["square"])
        variance = square - mean**2
        # A channel that is constant up to rounding says nothing, and must not be divided by 0.
        std = jnp.where(variance > 1e-6 * square, jnp.sqrt(jnp.maximum(variance, 0)), 1)
        return AutoencoderModel(params, mean, std, self)


@trees.register
@dataclasses.dataclass(frozen=True)
class AutoencoderModel:
    """A trained autoencoder. Its weights are leaves.

    Attributes:
      params: the parameters, or an average of them.
      mean: the mean of each channel of the latents of the training data.
      std: the standard deviation of each channel.
      bound: the model on its data: functions, fields and shapes.
      tile: the side of the overlapping tiles in which latents of larger pictures are decoded, in latents; None to
        decode them whole.
    """

    params: PyTree
    mean: Float[Array, " channels"]
    std: Float[Array, " channels"]
    bound: BoundAutoencoder = dataclasses.field(metadata={"static": True})
    tile: int | None = dataclasses.field(default=None, metadata={"static": True})

    def encode(self, x: Any, keys: Key[Array, " batch"] | None = None) -> Array:
        """The latents of data `[batch, *event]`: bytes, or floats in [-1, 1].

        Args:
          x: the data.
          keys: one key per example, to draw latents that have a distribution; None for their mean.
        """
        if keys is None or not self.bound.has_posterior:
            return self.bound.encode(self.params, to_floats(x))
        mean, log_variance = self.bound.posterior(self.params, to_floats(x))
        return mean + jnp.exp(log_variance / 2) * trees.normal_like(keys, mean)

    def decode(self, z: Any) -> Array:
        """The data of latents `[batch, *event]`.

        With a `tile`, neighbours share a quarter of their sides and are blended. Norms and attention see a single tile,
        so that the result is not quite that of the whole picture.
        """
        if self.tile is None or z.ndim != 4 or max(z.shape[1:3]) <= self.tile:
            return self.bound.decode(self.params, z)
        size = min(self.tile, z.shape[1]), min(self.tile, z.shape[2])
        tile = jax.eval_shape(lambda z: self.bound.decode(self.params, z), z[:, : size[0], : size[1]])
        decode, scale = partial(self.bound.decode, self.params), tile.shape[1] // size[0]
        decoded: Array = tiles.blended(decode, z, size, overlap=min(size) // 4, scale=scale)
        return decoded

    def in_tiles(self, tile: int) -> Self:
        """The autoencoder that decodes large pictures in tiles of `tile` latents a side, with less memory."""
        integer("tile", tile)
        return dataclasses.replace(self, tile=tile)

    def exhibit(self, key: Key[Array, ""], examples: Any, mesh: Any) -> tuple[dict[str, Any], list[str]]:
        """Examples, each beside its reconstruction, and captions."""
        field = self.bound.settings.field
        x = np.asarray(to_floats(np.asarray(examples[field])[:50]))
        decoded = np.asarray(_reconstructed(self, jnp.asarray(x)))
        pairs = np.stack([x, decoded], 1).reshape(-1, *x.shape[1:])
        return {field: pairs}, ["data", "decoded"] * len(x)


@jax.jit
def _reconstructed(model: AutoencoderModel, x: Array) -> Array:
    return model.decode(model.encode(x))
