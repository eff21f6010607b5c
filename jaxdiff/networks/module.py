"""The base class of the networks: a Linen module whose `apply` is compared by value."""

import dataclasses
from typing import Any

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class Apply:
    """The function `module.apply`. Modules with equal fields have equal functions with equal hashes."""

    module: nn.Module

    def __call__(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls `flax.linen.Module.apply`."""
        return nn.Module.apply(self.module, variables, *args, **kwargs)


class Network(nn.Module):
    """The base class of networks.

    Python compares bound methods by the identity of their object. `jax.jit` compares static arguments, such as the
    `apply` of a denoiser, to find a compiled function. With bound methods, `jax.jit` would compile again for a second
    network with equal fields.
    """

    @property
    def apply(self) -> Apply:
        """`flax.linen.Module.apply`, compared by the fields of the module."""
        return Apply(self)
