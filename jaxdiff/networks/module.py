"""The base class of the networks: a Linen module whose `apply` compares by value."""

import dataclasses
from typing import Any

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class Apply:
    """`module.apply` as a value: equal, and of equal hash, for modules with equal fields."""

    module: nn.Module

    def __call__(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """`flax.linen.Module.apply` of the module."""
        return nn.Module.apply(self.module, variables, *args, **kwargs)


class Network(nn.Module):
    """Linen module to derive networks from.

    Python compares bound methods by the identity of their object. `jax.jit` finds its compiled functions by comparing
    static arguments, such as a denoiser's `apply`, and would compile again for a network made anew with equal fields.
    """

    @property
    def apply(self) -> Apply:
        """As `flax.linen.Module.apply`, but compared by the fields of the module."""
        return Apply(self)
