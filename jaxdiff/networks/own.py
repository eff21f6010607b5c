"""Networks of one's own: a Linen module, an NNX module, or a pair of functions, as networks of a model.

`as_network` adapts all three. An adapted network is called as

    network(x, time, NAME=condition, ...)

with `x` `[batch, *event]` or a mapping of such arrays, the time input `[batch]`, and a condition by its name in the
model: a class as int32 `[batch]` (class n, of classes 0 to n - 1, means no class), a vector `[batch, d]`, tokens
`{"values": [batch, n, d], "mask": [batch, n]}`, planes `[batch, *space, c]`. A network with an argument `cond` is given
all conditions in one mapping instead. Three more arguments are given to those that have them: `train` and its opposite
`deterministic`, whether the network is being trained; and `key`, one random key per example, None outside of training.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import PyTree

from jaxdiff.checks import require
from jaxdiff.components import Component, Opaque
from jaxdiff.networks.module import Apply, Network, Spec, check_specs

_ALLOWED = "networks: components of jaxdiff.networks, Linen modules, NNX modules, and pairs of functions (init, apply)"


def as_network(network: Any) -> Any:
    """A network for a model.

    Args:
      network: a component of `jaxdiff.networks`, which is returned as it is; a Linen module; an NNX module, whose
        values are the first parameters; or a pair of functions: `init(key, x, time, ...) -> params`, or
        `init(key) -> params`, and `apply(params, x, time, ...) -> output`.

    Raises:
      TypeError: it is none of these.
    """
    if isinstance(network, Network | OwnNetwork):
        return network
    if isinstance(network, nn.Module):
        return LinenNetwork(network)
    if isinstance(network, nnx.Module):
        return NNXNetwork.of(network)
    pair = isinstance(network, tuple | list) and len(network) == 2 and all(map(callable, network))
    require(pair, "network", network, _ALLOWED, TypeError)
    return FunctionsNetwork(*network)


@dataclasses.dataclass(frozen=True)
class OwnNetwork(Opaque, Component):
    """The base of adapted networks. It does what `Network` does.

    The variables of a network are `{"params": ...}`, and further collections that the network itself changes in
    training, such as batch statistics. They are the network's state.

    Attributes:
      specs: the conditions that the network is told.
      still: whether the network behaves as outside of training whatever keys it is given, for validation.
    """

    home: ClassVar[str] = "jaxdiff.networks"
    takes: ClassVar[tuple[str, ...]] = ("class", "vector", "tokens", "planes")
    gives: ClassVar[str] = "example"
    hidden: ClassVar[str] = r"(?!)"
    specs: tuple[tuple[str, Spec], ...] = dataclasses.field(default=(), kw_only=True)
    still: bool = dataclasses.field(default=False, kw_only=True)

    @property
    def arguments(self) -> frozenset[str]:
        """The names of the arguments of the user's network."""
        raise NotImplementedError

    def call(
        self, variables: Mapping[str, PyTree], key: Any, *args: Any, **given: Any
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """Calls the user's network with `args` and `given`: in training with a key, else with None.

        Returns:
          The output, and the new state; an empty one outside of training.
        """
        raise NotImplementedError

    @property
    def apply(self) -> Apply:
        """The network as a function of its variables, compared by value."""
        return Apply(self)

    def given(self, specs: Mapping[str, Spec]) -> Self:
        """As `Network.given`."""
        return dataclasses.replace(self, specs=check_specs(specs, self.takes, type(self.held).__name__))

    def giving(self, features: int) -> Self:
        """The network itself. Its own code says how long its output is."""
        return self

    def plain(self) -> Self:
        """The network itself."""
        return self

    def quiet(self) -> Self:
        """The network as outside of training."""
        return dataclasses.replace(self, still=True)

    def evaluate(
        self, variables: Mapping[str, PyTree], x: PyTree, time: Any, cond: Any = None, key: Any = None
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """The output of the network, and its new state if it is being trained."""
        key = None if self.still else key
        return self.call(variables, key, x, time, **self.told(cond, key))

    def told(self, cond: Any, key: Any) -> dict[str, Any]:
        """The arguments of the user's network beside x and time."""
        found = {"cond": cond} if "cond" in self.arguments else dict(cond or {})
        others = {"train": key is not None, "deterministic": key is None, "key": key}
        return found | {name: value for name, value in others.items() if name in self.arguments}


@dataclasses.dataclass(frozen=True)
class LinenNetwork(OwnNetwork):
    """A Linen module of the user's own. In training it has a random stream `dropout`."""

    module: nn.Module

    @property
    def held(self) -> Any:
        return self.module

    @property
    def arguments(self) -> frozenset[str]:
        return _arguments(type(self.module).__call__)

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
        streams = {"dropout": _single(key)}
        output, state = self.module.apply(dict(variables), *args, **given, rngs=streams, mutable=mutable)
        return output, dict(state)


@dataclasses.dataclass(frozen=True)
class NNXNetwork(OwnNetwork):
    """An NNX module of the user's own, split into its graphs, its parameters, its random streams and its other values.

    Attributes:
      graphs: the graphs of the module in training and outside of it.
      first: its first variables, as NumPy arrays.
      forms: the structures of its parameters, streams and other values, and the names of their leaves.
      streams: the shapes of the leaves of its random streams.
      module: the module as it was given.
    """

    graphs: tuple[Any, Any]
    forms: tuple[Any, Any, Any]
    streams: tuple[Any, ...]
    names: frozenset[str]
    code: Any = dataclasses.field(compare=False)
    first: Any = dataclasses.field(compare=False)

    @classmethod
    def of(cls, module: nnx.Module) -> "NNXNetwork":
        """The network of a module, whose values are copied."""
        training, still = nnx.clone(module), nnx.clone(module)
        training.train()
        still.eval()
        graph, *parts = nnx.split(training, nnx.Param, nnx.RngState, ...)
        forms = tuple(_form(part) for part in parts)
        params, state = (jax.tree.map(np.asarray, _nested(part)) for part in (parts[0], parts[2]))
        first = {"params": params, **({"state": state} if state else {})}
        streams = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(parts[1]))
        names = _arguments(type(module).__call__)
        return cls((graph, nnx.split(still)[0]), forms, streams, names, type(module), first)

    @property
    def held(self) -> Any:
        shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), self.first)
        return self.code, self.graphs[0], shapes

    @property
    def arguments(self) -> frozenset[str]:
        return self.names

    def init(self, key: Any, x: PyTree, time: Any, cond: Any = None) -> dict[str, PyTree]:
        """The first variables: the values of the module that was given."""
        return jax.tree.map(jnp.asarray, dict(self.first))

    def call(
        self, variables: Mapping[str, PyTree], key: Any, *args: Any, **given: Any
    ) -> tuple[PyTree, dict[str, PyTree]]:
        values = (variables["params"], None, variables.get("state", {}))
        states = [_state(form, tree) for form, tree in zip(self.forms, values, strict=True) if tree is not None]
        states.insert(1, jax.tree.unflatten(self.forms[1][0], self._streams(key)))
        module = nnx.merge(self.graphs[key is None], *states)
        output = module(*args, **given)
        if key is None or "state" not in variables:
            return output, {}
        return output, {"state": _nested(nnx.split(module, nnx.Param, nnx.RngState, ...)[3])}

    def _streams(self, key: Any) -> list[Any]:
        """The random streams, seeded by a key; outside of training nothing draws from them."""
        single = jax.random.key(0) if key is None else _single(key)
        kinds = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in self.streams]
        return [
            jax.random.fold_in(single, i) if is_key else jnp.zeros(leaf.shape, leaf.dtype)
            for i, (is_key, leaf) in enumerate(zip(kinds, self.streams, strict=True))
        ]


@dataclasses.dataclass(frozen=True)
class FunctionsNetwork(OwnNetwork):
    """A pair of functions of the user's own."""

    first: Callable[..., PyTree]
    function: Callable[..., PyTree]

    @property
    def held(self) -> Any:
        return self.first, self.function

    @property
    def arguments(self) -> frozenset[str]:
        return _arguments(self.function)

    def init(self, key: Any, x: PyTree, time: Any, cond: Any = None) -> dict[str, PyTree]:
        """The first variables."""
        alone = len(inspect.signature(self.first).parameters) == 1
        return {"params": self.first(key) if alone else self.first(key, x, time, **self.told(cond, None))}

    def call(
        self, variables: Mapping[str, PyTree], key: Any, *args: Any, **given: Any
    ) -> tuple[PyTree, dict[str, PyTree]]:
        return self.function(variables["params"], *args, **given), {}


def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _single(key: Any) -> Any:
    """One key, of one key per example: a network that does not know of examples draws for all at once."""
    return key[0] if key.ndim else key


def _form(state: Any) -> tuple[Any, tuple[tuple[str, ...], ...]]:
    """The structure of an NNX state, and the names of its leaves."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    return structure, tuple(_words(path) for path, _ in leaves)


def _nested(state: Any) -> dict[str, Any]:
    """An NNX state as nested mappings of arrays, for names in checkpoints."""
    found: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        *above, last = _words(path)
        functools.reduce(lambda tree, name: tree.setdefault(name, {}), above, found)[last] = leaf
    return found


def _state(form: tuple[Any, tuple[tuple[str, ...], ...]], tree: Any) -> Any:
    """The NNX state that `_nested` made mappings of."""
    structure, names = form
    return jax.tree.unflatten(structure, [functools.reduce(lambda t, name: t[name], path, tree) for path in names])


def _words(path: Any) -> tuple[str, ...]:
    """The names on the path of a leaf. The last entry, which leads from a variable to its value, has no name."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)
