"""Several estimates of one point in one call of a network."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import integer
from jaxdiff.denoisers import Denoiser, evaluate, is_consistent
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class Together:
    """n estimates of every example, which a denoiser of n times the batch makes in one call."""

    denoiser: Denoiser
    n: int = dataclasses.field(metadata={"static": True})

    @property
    def process(self) -> Process:
        """The process of the denoiser."""
        return self.denoiser.process

    @property
    def consistent(self) -> bool:
        """Whether the estimates are consistent pairs."""
        return is_consistent(self.denoiser)

    def __len__(self) -> int:
        return self.n

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> tuple[Estimate, ...]:
        """All estimates at `x = x_t`."""
        times = (None if u is None else self._repeated(jnp.asarray(u)) for u in (t, s))
        estimate = evaluate(self.denoiser, trees.interleave([x] * self.n), *times)
        return tuple(trees.deinterleave(estimate, self.n))

    def _repeated(self, time: Any) -> Any:
        return trees.interleave([time] * self.n) if time.ndim else time


@trees.register
@dataclasses.dataclass(frozen=True)
class RowDenoiser:
    """One of the estimates that are made together. `both` makes it."""

    together: Together
    index: int = dataclasses.field(metadata={"static": True})

    @property
    def process(self) -> Process:
        """The process of the denoiser."""
        return self.together.process

    @property
    def consistent(self) -> bool:
        """Whether the estimate is a consistent pair."""
        return self.together.consistent

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        return self.together(x, t, s)[self.index]


def both(denoiser: Denoiser, n: int = 2) -> tuple[RowDenoiser, ...]:
    """The conditional and the unconditional denoiser, of one denoiser that is told the conditions of both.

        labels = trees.interleave([label, null])  # [2 batch]: label[0], null[0], label[1], null[1], ...
        conditional, unconditional = both(from_network(process, parametrization, apply, params, labels))
        guided = classifier_free(conditional, unconditional, scale=2.0)

    A rule of this folder that is given all of them calls the network once, with twice the batch. A row alone calls it
    with twice the batch too. The rows of an example stand side by side, so that no data move between devices over which
    the batch is spread.

    Args:
      denoiser: a denoiser of `n batch` examples. Row `n i + j` is told condition j of example i.
      n: the number of estimates of each example.

    Raises:
      ValueError: `n` is not an integer of at least 1.
    """
    integer("n", n)
    together = Together(denoiser, n)
    return tuple(RowDenoiser(together, i) for i in range(n))


@trees.register
@dataclasses.dataclass(frozen=True)
class JoinedDenoiser:
    """The denoiser of several conditions of every example, in the order of `both`.

    The conditions are broadcast to the batch when the denoiser is called, as only then the batch is known.

    Attributes:
      denoiser_of: the denoiser of encoded conditions, a function that is a pytree.
      conditions: n conditions, leaves `[1, ...]` or `[batch, ...]`.
    """

    denoiser_of: Callable[[PyTree], Denoiser]
    conditions: tuple[PyTree, ...]

    @property
    def process(self) -> Process:
        """The process of the model."""
        return self.denoiser_of(self.conditions[0]).process

    @property
    def consistent(self) -> bool:
        """Whether the estimates of the model are consistent pairs."""
        return is_consistent(self.denoiser_of(self.conditions[0]))

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        batch = trees.batch_size(x) // len(self.conditions)
        told = [trees.broadcast_examples(condition, batch) for condition in self.conditions]
        return evaluate(self.denoiser_of(trees.interleave(told)), x, t, s)


def of_conditions(denoiser_of: Callable[[PyTree], Denoiser], *conditions: PyTree) -> tuple[Denoiser, ...]:
    """One denoiser for each of several conditions. A rule that is given all of them calls the network once.

    Args:
      denoiser_of: the denoiser of encoded conditions. If it is no pytree, the denoisers are evaluated one by one.
      conditions: encoded conditions, leaves `[1, ...]` or `[batch, ...]`.
    """
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(denoiser_of)):
        return tuple(map(denoiser_of, conditions))
    return both(JoinedDenoiser(denoiser_of, conditions), len(conditions))
