"""NNX modules of one's own."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import PyTree

from jaxdiff.networks.own.base import OwnNetwork, names_of_arguments, single_key

# The structure of an NNX state, and the names of its leaves.
Form = tuple[Any, tuple[tuple[str, ...], ...]]


@dataclasses.dataclass(frozen=True)
class NNXNetwork(OwnNetwork):
    """An NNX module of the user's own, split into its graphs, its parameters, its random streams and its other values.

    Attributes:
      graphs: the graphs of the module in training and outside of it.
      forms: the structures of its parameters, streams and other values, and the names of their leaves.
      streams: the shapes of the leaves of its random streams.
      names: the names of the arguments of its call.
      code: its class.
      first: its first variables, as NumPy arrays.
    """

    graphs: tuple[Any, Any]
    forms: tuple[Form, ...]
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
        names = names_of_arguments(type(module).__call__)
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
        training, still = self.graphs
        module = nnx.merge(still if key is None else training, *states)
        output = module(*args, **given)
        if key is None or "state" not in variables:
            return output, {}
        parts: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
        return output, {"state": _nested(parts[-1])}

    def _streams(self, key: Any) -> list[Any]:
        """The random streams, seeded by a key; outside of training nothing draws from them."""
        single = jax.random.key(0) if key is None else single_key(key)
        kinds = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in self.streams]
        return [
            jax.random.fold_in(single, i) if is_key else jnp.zeros(leaf.shape, leaf.dtype)
            for i, (is_key, leaf) in enumerate(zip(kinds, self.streams, strict=True))
        ]


def _form(state: Any) -> Form:
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


def _state(form: Form, tree: Any) -> Any:
    """The NNX state that `_nested` made mappings of."""
    structure, names = form
    return jax.tree.unflatten(structure, [functools.reduce(lambda t, name: t[name], path, tree) for path in names])


def _words(path: Any) -> tuple[str, ...]:
    """The names on the path of a leaf, without the last entry, which leads from a variable to its value."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path[:-1])
