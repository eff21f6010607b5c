"""Low-rank adapters of any network: LoRA."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxdiff import trees
from jaxdiff.checks import integer, message, positive
from jaxdiff.networks.layers.compressed import Compressed
from jaxdiff.networks.module import Network, Spec
from jaxdiff.networks.unets.unet import UNet


class LoRA(Network):
    """A frozen network and adapters of low rank, which alone are trained (Hu et al. 2021, arXiv 2106.09685).

        W + alpha/rank down up          down [*window, in, rank],  up [rank, out]

    W is a kernel `[*window, in, out]` of the network whose name fits `targets`. In a stack of layers, every layer has
    an adapter of its own. `down` starts with random numbers and `up` with zeros, so that a fresh adapter changes
    nothing. The parameters are `{"network": those of the network, "adapters": ...}`. `start` fills in those of a
    trained network, and `merged` gives the parameters of a network without adapters.

    The sums of kernels and adapters are computed at every call, and the network is called with them. This serves every
    network and every layer. A step of training costs as much time as one of the whole network. It needs no optimiser
    state for the network.

    Attributes:
      network: the network.
      rank: the rank of the adapters.
      alpha: the factor of the adapters, times the rank; None for the rank, which gives the factor 1.
      targets: a regular expression for the names of the arrays that have an adapter. A name is the path inside the
        parameters of the network, with dots, such as `mid_attention.qkv.kernel`.
    """

    hidden: ClassVar[str] = r"^adapters\..+\.(down|up)$"
    trained: ClassVar[str] = r"^adapters\."

    network: Network = UNet()
    rank: int = 8
    alpha: float | None = None
    targets: str = r"kernel$"

    def __post_init__(self) -> None:
        integer("rank", self.rank)
        if self.alpha is not None:
            positive("alpha", self.alpha)
        try:
            re.compile(self.targets)
        except re.error as error:
            raise ValueError(message("targets", self.targets, f"regular expressions: {error}")) from error
        super().__post_init__()

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        """The channels that the network takes."""
        return self.network.takes

    @property
    def gives(self) -> Any:  # type: ignore[override]
        """The output of the network."""
        return self.network.gives

    @property
    def forward_mode(self) -> bool:
        return self.network.forward_mode

    @property
    def apply(self) -> "Adapted":  # type: ignore[override]
        """The network with its adapters as a function of the variables, compared by value."""
        return Adapted(self)

    def given(self, specs: Mapping[str, Spec]) -> Self:
        network = self.network.given(specs)
        return self.clone(network=network, specs=network.specs)

    def can_be_told(self, name: str, channel: str) -> bool:
        return self.network.can_be_told(name, channel)

    def giving(self, features: int) -> Self:
        return self.clone(network=self.network.giving(features))

    def changed(self, **settings: Any) -> Self:
        return self.clone(network=self.network.changed(**settings))

    def plain(self) -> Self:
        return self.clone(network=self.network.plain())

    def quiet(self) -> Self:
        return self.clone(network=self.network.quiet())

    def init(self, key: Any, *args: Any, **kwargs: Any) -> dict[str, PyTree]:  # type: ignore[override]
        """The first variables. The arguments are those of the network.

        Raises:
          ValueError: no array has a name that fits `targets`, and two axes or more.
        """
        return self._adapted(key, self.network.init(key, *args, **kwargs))

    def init_with_output(self, key: Any, *args: Any, **kwargs: Any) -> tuple[PyTree, dict[str, PyTree]]:  # type: ignore[override]
        """The output of the network and the first variables."""
        output, variables = self.network.init_with_output(key, *args, **kwargs)
        return output, self._adapted(key, variables)

    def evaluate(
        self, variables: Any, x: PyTree, time: Any, cond: Any = None, key: Any = None
    ) -> tuple[PyTree, dict[str, PyTree]]:
        return self.network.evaluate(self._whole(variables), x, time, cond, key)

    def start(self, variables: PyTree, trained: PyTree) -> PyTree:
        """The variables with those of a trained network in its place.

        Args:
          variables: fresh variables of this network.
          trained: variables of the network alone.
        """
        return {**trained, "params": {**variables["params"], "network": trained["params"]}}

    def merged(self, params: PyTree) -> PyTree:
        """The parameters of the network whose kernels hold the adapters.

        Args:
          params: the parameters of this network, `{"network": ..., "adapters": ...}`.
        """
        scale = 1.0 if self.alpha is None else self.alpha / self.rank

        def sum_of(path: Any, kernel: Array) -> Array:
            adapter, words = params["adapters"], trees.words_of(path)
            for word in words:
                adapter = adapter.get(word, {})
            if not adapter:
                return kernel
            product = jax.vmap(jnp.matmul) if trees.is_stacked(words) else jnp.matmul
            return jnp.asarray(kernel) + scale * product(adapter["down"], adapter["up"])

        return jax.tree_util.tree_map_with_path(sum_of, params["network"], is_leaf=lambda x: isinstance(x, Compressed))

    def _whole(self, variables: Any) -> dict[str, PyTree]:
        """The variables of the network alone."""
        return {**variables, "params": self.merged(variables["params"])}

    def _adapted(self, key: Any, variables: Any) -> dict[str, PyTree]:
        """Variables of the network, with fresh adapters."""
        adapters: dict[str, Any] = {}
        for i, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(variables["params"])):
            words = trees.words_of(path)
            first = int(trees.is_stacked(words))
            if leaf.ndim < first + 2 or not re.search(self.targets, ".".join(words)):
                continue
            *rows, columns = leaf.shape[first:]
            shape = (*leaf.shape[:-1], self.rank)
            down = jax.random.normal(jax.random.fold_in(key, i), shape) / math.sqrt(math.prod(rows))
            up = jnp.zeros((*leaf.shape[:first], self.rank, columns))
            functools.reduce(lambda tree, word: tree.setdefault(word, {}), words, adapters).update(down=down, up=up)
        if not adapters:
            raise ValueError(message("targets", self.targets, "patterns that fit an array of two or more axes"))
        return {**variables, "params": {"network": variables["params"], "adapters": adapters}}


@dataclasses.dataclass(frozen=True)
class Adapted:
    """The function `apply` of a network with adapters. Networks with equal fields have equal functions."""

    network: LoRA

    def __call__(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls `apply` of the network alone, with kernels that hold the adapters."""
        return self.network.network.apply(self.network._whole(variables), *args, **kwargs)
