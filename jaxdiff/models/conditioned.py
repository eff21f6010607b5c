"""The conditions of a model together: what they read, how they are dropped, encoded and asked for."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxdiff import trees
from jaxdiff.checks import did_you_mean, require
from jaxdiff.components import Table, at
from jaxdiff.conditions import Condition
from jaxdiff.data.selection import Entry
from jaxdiff.guidance import Asked
from jaxdiff.networks.module import Spec

Encode = Callable[[PyTree], PyTree]


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The conditions of a model on data with some fields.

    Attributes:
      by_name: the conditions.
      fields: the fields of the data, after augmentations.
    """

    by_name: Mapping[str, Condition]
    fields: Table

    def entries(self) -> dict[str, Entry]:
        """The entries that batches need for the conditions.

        Raises:
          ValueError: the data do not fit a condition.
        """
        found: dict[str, Entry] = {}
        for name, condition in self._sorted():
            with at(f"model.conditions.{name}"):
                condition.check(self.fields)
                found |= condition.entries(self.fields)
        return found

    def load(self, open: Callable[[str], Any]) -> dict[str, Any]:
        """The frozen models of the conditions, by name."""
        return {name: condition.load(open) for name, condition in self._sorted()}

    def init(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        """The parameters of the conditions, by name; of those only that have parameters."""
        made = {}
        for i, (name, condition) in enumerate(self._sorted()):
            with at(f"model.conditions.{name}"):
                made[name] = condition.init(jax.random.fold_in(key, i))
        return {name: params for name, params in made.items() if jax.tree.leaves(params)}

    def specs(self, frozen: Mapping[str, Any], codec: Encode) -> dict[str, Spec]:
        """What the network is told of each condition."""
        params = jax.eval_shape(lambda: self.init(jax.random.key(0, impl="threefry2x32")))
        nulls = {entry: jax.ShapeDtypeStruct((1, *value.shape), value.dtype) for entry, value in self._nulls().items()}
        found = {}
        for name, condition in self._sorted():
            with at(f"model.conditions.{name}"):
                value = jax.eval_shape(
                    lambda p, f, b, c=condition: c.encode(p, f, b, None, codec),
                    params.get(name, {}), frozen.get(name), nulls,
                )  # fmt: skip
            shape = value["values"].shape if condition.channel == "tokens" else value.shape
            found[name] = Spec(condition.channel, tuple(shape[1:]), condition.classes(self.fields))
        return found

    def encode(
        self,
        params: PyTree,
        frozen: Mapping[str, Any],
        batch: Mapping[str, Array],
        random: trees.BatchKey | None,
        codec: Encode,
    ) -> dict[str, PyTree]:
        """The values of all channels, by the name of the condition.

        Args:
          params: the parameters of the run.
          frozen: the frozen models of the conditions.
          batch: the entries of a batch.
          random: the randomness of a training batch, in which conditions are dropped; None to drop nothing.
          codec: maps pictures to the space of the model.
        """
        values = {}
        for i, (name, condition) in enumerate(self._sorted()):
            own: Mapping[str, Any] = batch
            if random is not None and condition.dropout:
                entry, null = condition.entry, jnp.asarray(condition.null(self.fields))
                dropped = jax.vmap(lambda k, c=condition: jax.random.bernoulli(k, c.dropout))(random.each(2 * i))
                kept = jnp.asarray(batch[entry])
                own = {**batch, entry: jnp.where(trees.expand(dropped, kept), null.astype(kept.dtype), kept)}
            keys = None if random is None else random.each(2 * i + 1)
            inner = params.get("conditions", {}).get(name, {})
            values[name] = condition.encode(inner, frozen.get(name), own, keys, codec)
        return values

    def ask(
        self, given: Mapping[str, Any], count: int | None = None, others: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The entries that a user asks for, and null entries for all other conditions.

        Conditions that share an entry are asked together: a value for one of them is a value for all.

        Args:
          given: values by the name of the condition.
          count: the number of samples; None for any.
          others: entries in the place of null entries.

        Raises:
          ValueError: there is no such condition, or it does not allow the value or their number.
        """
        for name in given:
            known = f"conditions of the model: {', '.join(self.by_name) or 'none'}"
            require(name in self.by_name, "condition", name, known + did_you_mean(name, self.by_name))
        found: dict[str, np.ndarray] = {}
        for name, value in given.items():
            if value is None:
                continue
            asked = self.by_name[name].ask(value, self.fields)
            for values in asked.values():
                good = count is None or len(values) in (1, count)
                require(good, f"number of values of {name}", len(values), f"1 and {count}, one for each sample")
            for entry, values in asked.items():
                good = entry not in found or np.array_equal(found[entry], values)
                require(good, name, value, "the value of the other condition that reads the same field")
            found |= asked
        return {entry: value[None] for entry, value in self._nulls().items()} | dict(others or {}) | found

    def wish(self, values: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`ask` for settings. A class whose name is a number is the class of this name, and not of this index."""
        named = {}
        for condition, value in values.items():
            names = self.names(condition)
            named[condition] = names.index(str(value)) if str(value) in names else value
        return self.ask(named, others=others)

    def names(self, condition: str) -> tuple[str, ...]:
        """The names of the classes of a condition; empty for a condition without classes, and for no condition."""
        known = self.by_name.get(condition)
        return self.fields[known.field].names if known is not None and known.channel == "class" else ()

    def asked(self, params: PyTree, frozen: Mapping[str, Any], entries: Mapping[str, Any], codec: Encode) -> Asked:
        """The encoded conditions of samples, and those of samples for which nothing is asked.

        A condition of which all examples ask alike has the leading axis 1.
        """

        def encoded(entries: Mapping[str, Any]) -> dict[str, PyTree]:
            arrays = {entry: jnp.asarray(value) for entry, value in entries.items()}
            return self.encode(params, frozen, arrays, None, codec)

        kept = {c.entry: entries[c.entry] for _, c in self._sorted() if not c.guided and c.entry in entries}
        null = encoded(self.ask({}, others=kept))
        return Asked(encoded(entries), null, entries, lambda wishes: encoded(self.wish(wishes, kept)))

    def captions(self, entries: Mapping[str, np.ndarray]) -> list[str]:
        """What each example asks for, in words: the captions of all conditions, separated by commas."""
        # Conditions that share an entry have the same words.
        sharing = {condition.entry: condition for _, condition in self._sorted()}
        found = [condition.captions(entries, self.fields) for condition in sharing.values()]
        found = [texts for texts in found if texts]
        return [", ".join(filter(None, texts)) for texts in zip(*found, strict=False)]

    def _sorted(self) -> list[tuple[str, Condition]]:
        return sorted(self.by_name.items())

    def _nulls(self) -> dict[str, np.ndarray]:
        return {condition.entry: condition.null(self.fields) for _, condition in self._sorted()}
