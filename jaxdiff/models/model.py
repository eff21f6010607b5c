"""The interface of models: what is trained, and how data reach it."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff import trees
from jaxdiff.checks import message
from jaxdiff.components import Component, Table
from jaxdiff.data.fields import Field
from jaxdiff.data.selection import Entry
from jaxdiff.networks.module import Network


@dataclasses.dataclass(frozen=True)
class Bound:
    """The base of models bound to data: their shapes are known. A bound model is hashable, and holds no arrays.

    The parameters of a run are `{"model", "process", "conditions", "objective"}`. The first three are those of the
    model, as far as it has them.

    Attributes:
      settings: the settings of the model.
      fields: the fields of the data, after augmentations.
      network: the network, which knows the data.
    """

    settings: Any
    fields: Table
    network: Network

    def init(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        """The initial parameters of the model, without those of the objective."""
        raise NotImplementedError

    def state(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        """The first values of `extra["network"]`: what the network changes itself in training, as batch statistics.

        Args:
          key: the key of `init`.
        """
        return {}

    def prepare(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], random: trees.BatchKey
    ) -> dict[str, PyTree]:
        """A batch as the objective takes it, made inside the step.

        Args:
          params: the parameters of the run.
          frozen: the result of `Model.load`.
          batch: the entries of the batch, after augmentations.
          random: the randomness of the batch.
        """
        raise NotImplementedError

    def loaded(self, params: PyTree, frozen: Any, extra: Any, sampling: Any) -> Any:
        """The model with weights, as `jd.load` returns it: a pytree whose weights are leaves.

        A loaded model that has something to show has a method `exhibit(key, examples, mesh)`, as `DiffusionModel` has.

        Args:
          params: the parameters, or an average of them.
          frozen: the result of `Model.load`, with the result of the guidance's `load` under "guidance".
          extra: the mutable values of the objective.
          sampling: how samples are drawn.
        """
        raise NotImplementedError

    def check_sampling(self, sampling: Any) -> None:
        """Raises a ValueError if samples cannot be drawn from this model as `sampling` says."""

    def hidden(self, path: tuple[str, ...], leaf: Any) -> bool:
        """Whether Muon takes a leaf of the parameters; see `training.optimizers.make_optimizer`."""
        return is_hidden(self.network, path, leaf)

    def trained(self, path: tuple[str, ...], leaf: Any) -> bool:
        """Whether a leaf of the parameters is trained; see `Network.trained`."""
        inside = path[:2] == ("model", "params")
        return not inside or re.search(self.network.trained, ".".join(path[2:])) is not None

    def held(self, params: PyTree) -> PyTree:
        """The parameters with those that are not trained as constants, whose gradients are zero."""
        if not self.network.trained:
            return params

        def held(path: Any, leaf: Any) -> Any:
            return leaf if self.trained(trees.words_of(path), leaf) else jax.lax.stop_gradient(leaf)

        return jax.tree_util.tree_map_with_path(held, params)

    def begun(self, model: PyTree, trained: PyTree) -> PyTree:
        """The parameters `params["model"]` of a new run that begins with trained ones.

        Args:
          model: fresh parameters.
          trained: those of a run of the same network, or of one that the network holds (`Network.start`).
        """
        shapes, wanted = (jax.tree.map(jnp.shape, tree) for tree in (trained, model))
        return trained if shapes == wanted else self.network.start(model, trained)

    def project(self, params: PyTree) -> PyTree:
        """The parameters of a run after an update of the optimiser, with those of the network as it projects them."""
        variables = params["model"]
        return {**params, "model": {**variables, "params": self.network.project(variables["params"])}}

    def plain(self) -> Self:
        """The same model without rematerialisation, for counting operations."""
        return dataclasses.replace(self, network=self.network.plain())

    def quiet(self) -> Self:
        """The same model without dropout, of units and of conditions, for validation."""
        return dataclasses.replace(self, network=self.network.quiet())


class Model(Component):
    """The base of models: components that say what is trained."""

    home = "jaxdiff.models"

    def objective(self) -> Any:
        """The usual objective of the model.

        Raises:
          ValueError: the model has no usual objective.
        """
        raise ValueError(message("objective", None, f"objectives of a {type(self).__name__}, which has no usual one"))

    def load(self, open: Callable[[str], Any]) -> Any:
        """The frozen models that the model needs, as a pytree. `open` opens a run or a file of weights."""
        return {}

    def opened(self, frozen: Any) -> Self:
        """The model that knows its frozen models, whose `entries` are asked for.

        Args:
          frozen: the result of `load`, or the shapes of its arrays.
        """
        return self

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        """The entries that the model needs in a batch, and how they are read from the fields of a record.

        Args:
          fields: the fields of the data, after augmentations. Entries of fields that augmentations add are made by
            these, and not read.

        Raises:
          ValueError: the data lack a field, or a field does not fit. The error names the setting.
        """
        raise NotImplementedError

    def bind(self, fields: Mapping[str, Field], frozen: Any) -> Bound:
        """The model on data with these fields.

        Args:
          fields: as for `entries`.
          frozen: the result of `load`, or the shapes of its arrays.

        Raises:
          ValueError, TypeError: the parts of the model do not fit each other or the data. The error names the setting.
        """
        raise NotImplementedError


def with_state(params: PyTree, extra: Any) -> PyTree:
    """The parameters of a run, with what the network itself has changed (`extra["network"]`) among its variables."""
    state = extra.get("network") if isinstance(extra, Mapping) else None
    return {**params, "model": {**params["model"], **state}} if state else params


def is_hidden(network: Network, path: tuple[str, ...], leaf: Any) -> bool:
    """Whether Muon takes a leaf of a network that is `params["model"]`."""
    inside = path[:2] == ("model", "params") and leaf.ndim >= 2
    return inside and re.search(network.hidden, ".".join(path[2:])) is not None
