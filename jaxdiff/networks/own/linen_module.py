"""Linen modules of one's own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import PyTree

from jaxdiff.networks.own.base import OwnNetwork, names_of_arguments, single_key


@dataclasses.dataclass(frozen=True)
class LinenNetwork(OwnNetwork):
    """A Linen module of the user's own. In training it has a random stream `dropout`."""

    module: nn.Module

    @property
    def held(self) -> Any:
        return self.module

    @property
    def arguments(self) -> frozenset[str]:
        return names_of_arguments(type(self.module).__call__)

    def init(self, key: Any, x: PyTree, time: Any, cond: Any = None) -> dict[str, PyTree]:
        """The first variables."""
        keys = {"params": key, "dropout": jax.random.fold_in(key, 1)}
        return dict(self.module.init(keys, x, time, **self.told(cond, None)))

    def call(
        self, variables: Mapping[str, PyTree], key: Any, *args: Any, **given: Any
    ) -> tuple[PyTree, dict[str, PyTree]]:
        if key is None:
            return self.module.apply(dict(variables), *args, **given), {}
        mutable = [name for name in variables if name != "params"]
        streams = {"dropout": single_key(key)}
        output, state = self.module.apply(dict(variables), *args, **given, rngs=streams, mutable=mutable)
        return output, dict(state)
