"""A degraded copy of a picture, made by a random chain of degradations."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations.augmentation import Augmentation, check_new, find
from jaxdiff.augmentations.degradations import Degradation, Reduce, real_esrgan
from jaxdiff.checks import integer, require
from jaxdiff.components import at
from jaxdiff.data.fields import Field
from jaxdiff.data.pixels import to_floats


@dataclasses.dataclass(frozen=True)
class Degrade(Augmentation):
    """Adds a degraded and reduced copy of each picture, which a model can be trained to restore.

    The steps are done one after another, each with random numbers of its own. The copy is a picture of float32 in
    [-1, 1]. The default chain is that of Real-ESRGAN (`degradations.real_esrgan`).

    Attributes:
      field: the field of the pictures. It stays as it is.
      to: the field of the degraded copies, which is added.
      steps: the degradations in their order. `Reduce` marks the place where the picture is reduced, and names the
        filter. Without this mark the picture is reduced at the end, by the mean over squares.
      factor: the factor by which both sides are reduced.
    """

    field: str = "image"
    to: str = "low"
    steps: tuple[Degradation, ...] = real_esrgan()
    factor: int = 4

    def __post_init__(self) -> None:
        integer("factor", self.factor)
        marks = sum(isinstance(step, Reduce) for step in self.steps)
        require(marks <= 1, "steps", f"{marks} times Reduce", "chains with at most one Reduce")

    def __call__(self, keys: Key[Array, " batch"], batch: Mapping[str, Array]) -> dict[str, Array]:
        return {**batch, self.to: jax.vmap(self.degraded)(keys, to_floats(batch[self.field]))}

    def degraded(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h/factor w/factor c"]:
        """The degraded copy of one picture with values in [-1, 1]."""
        image = image.astype(jnp.float32)
        for i, step in enumerate(self._chain):
            if isinstance(step, Reduce):
                image = step.reduced(image, self.factor)
            else:
                image = step(jax.random.fold_in(key, i), image)
        # Filters and interpolation overshoot at edges.
        return jnp.clip(image, -1, 1)

    def fields(self, fields: Mapping[str, Field]) -> dict[str, Field]:
        field = find(fields, self.field, ("picture",))
        check_new(fields, self.to)
        height, width, channels = field.shape
        divides = height % self.factor == 0 and width % self.factor == 0
        require(divides, "factor", self.factor, f"divisors of the sides of {self.field}, {(height, width)}")
        small = (height // self.factor, width // self.factor, channels)
        shape = field.shape
        for i, step in enumerate(self._chain):
            shape = small if isinstance(step, Reduce) else shape
            with at(f"steps.{i}"):
                step.check(shape)
        return {**fields, self.to: Field("picture", small, "float32")}

    @property
    def _chain(self) -> tuple[Degradation, ...]:
        """The steps, with the place of the reduction."""
        return self.steps if any(isinstance(step, Reduce) for step in self.steps) else (*self.steps, Reduce())
