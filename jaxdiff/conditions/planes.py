"""Pictures as planes beside the model's own: for super-resolution, restoration and colourisation."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxdiff import trees
from jaxdiff.checks import fraction, integer, require
from jaxdiff.conditions.condition import Condition, Encode, as_array
from jaxdiff.data.fields import Field
from jaxdiff.data.pixels import reduced, to_floats


@dataclasses.dataclass(frozen=True)
class Planes(Condition):
    """A picture that the network sees beside its input, such as one of lower resolution.

    With a factor, the picture of the data is reduced by the mean over squares, and a user gives the reduced picture.
    The picture is enlarged to the size of the data, and passes through the codec of the model, so that it fits latents
    too.

    With noise augmentation, a cascade's model does not trust the picture blindly. In training the picture y becomes
    `sqrt(1 - s^2) y + s z`, with a level s that is uniform from 0 to `noise`, and the network sees s as one more plane.
    Samples are drawn with the level `sampling_noise`. Ho et al. 2022 (CDM, arXiv 2106.15282), section 4; Saharia et al.
    2022 (Imagen, arXiv 2205.11487), section 2.3.

    Attributes:
      field: the field of the pictures: the pictures themselves, or degraded ones that an augmentation has added.
      dropout: the probability that an example loses its picture in training. Grey (zeros) means no picture.
      factor: the factor by which both sides of the pictures of the data are reduced; 1 to leave them as they are.
      enlarge: the factor by which both sides are enlarged afterwards; None for `factor`.
      noise: the greatest level of the noise that is added to the picture in training; 0 for no noise augmentation.
      sampling_noise: the level at which samples are drawn, up to `noise`. All samples get the same noise.
    """

    channel: ClassVar[Literal["planes"]] = "planes"
    field: str = "image"
    dropout: float = 0.0
    factor: int = 1
    enlarge: int | None = None
    noise: float = 0.0
    sampling_noise: float = 0.0

    def __post_init__(self) -> None:
        fraction("dropout", self.dropout)
        integer("factor", self.factor)
        if self.enlarge is not None:
            integer("enlarge", self.enlarge)
        fraction("noise", self.noise)
        good = 0 <= self.sampling_noise <= self.noise
        require(good, "sampling_noise", self.sampling_noise, f"numbers from 0 to {self.noise}, the noise of training")

    @property
    def entry(self) -> str:
        # A dropped picture is grey for the network only, and not for the loss.
        return self.field

    def check(self, fields: Mapping[str, Field]) -> None:
        super().check(fields)
        field = fields[self.field]
        require(field.kind == "picture", "field", self.field, f"fields of pictures, and not of kind {field.kind!r}")
        divides = all(side % self.factor == 0 for side in field.shape[:2])
        require(divides, "factor", self.factor, f"divisors of the sides of {self.field}, {field.shape[:2]}")

    def null(self, fields: Mapping[str, Field]) -> np.ndarray:
        field = fields[self.field]
        # Bytes have no exact grey: 127.5 would be 0. The nearest byte is off by 0.004.
        return np.full(field.shape, 128 if field.dtype == "uint8" else 0, field.dtype)

    def encode(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], keys: Key[Array, " batch"] | None, codec: Encode
    ) -> PyTree:
        small = reduced(to_floats(batch[self.field]), self.factor)
        n, height, width, channels = small.shape
        by = self.factor if self.enlarge is None else self.enlarge
        large = codec(jax.image.resize(small, (n, by * height, by * width, channels), "cubic") if by > 1 else small)
        return self._noisy(large, keys) if self.noise else large

    def _noisy(self, large: Array, keys: Key[Array, " batch"] | None) -> Array:
        """The picture with noise, and the level of the noise as one more plane."""
        count = len(large)
        if keys is None:
            # The noise of a sample must not depend on the place of the sample in its batch.
            level = jnp.full(count, self.sampling_noise, large.dtype)
            keys = jnp.repeat(jax.random.key(0, impl="threefry2x32")[None], count)
        else:
            level = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), maxval=self.noise))(keys)
            keys = trees.fold_in(keys, 1)
        noisy = trees.lincomb((jnp.sqrt(1 - level**2), level), (large, trees.normal_like(keys, large)))
        plane = jnp.broadcast_to(level[:, None, None, None], (*large.shape[:-1], 1))
        return jnp.concatenate([noisy, plane.astype(noisy.dtype)], axis=-1)

    def ask(self, given: Any, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
        height, width, channels = fields[self.field].shape
        wanted = (height // self.factor, width // self.factor, channels)
        pictures = as_array(self.field, given, f"pictures {wanted}, one or [batch]")
        require(pictures.dtype == np.uint8 or pictures.dtype.kind == "f", f"{self.field}.dtype", pictures.dtype,
                "uint8 and floating-point types")  # fmt: skip
        pictures = pictures[None] if pictures.shape == wanted else pictures
        allowed = f"{wanted} and [batch, *{wanted}]"
        require(pictures.ndim == 4 and pictures.shape[1:] == wanted, f"{self.field}.shape", pictures.shape, allowed)
        require(pictures.dtype == np.uint8 or np.isfinite(pictures).all(), self.field, np.nan, "finite numbers")
        # The mean over squares of a picture whose pixels are repeated is the picture again.
        return {self.field: to_floats(pictures).repeat(self.factor, axis=1).repeat(self.factor, axis=2)}
