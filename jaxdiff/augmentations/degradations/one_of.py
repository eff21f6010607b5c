"""A random choice of degradations."""

import dataclasses

import jax
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations.degradations.degradation import Degradation
from jaxdiff.augmentations.degradations.hide import Hide
from jaxdiff.checks import fraction, integer


@dataclasses.dataclass(frozen=True)
class OneOf(Degradation):
    """One of several degradations, each as probable as the others: for one model of several tasks.

    Attributes:
      steps: the degradations.
      probability: the probability that any of them happens.
    """

    steps: tuple[Degradation, ...] = (Hide(), Hide("border"))
    probability: float = 1.0

    def __post_init__(self) -> None:
        integer("number of steps", len(self.steps))
        fraction("probability", self.probability)

    def check(self, shape: tuple[int, ...]) -> None:
        for step in self.steps:
            step.check(shape)

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        choice_key, key = jax.random.split(key)
        which = jax.random.randint(choice_key, (), 0, len(self.steps))
        return jax.lax.switch(which, self.steps, key, image)
