"""Validation: the loss on examples that training never sees."""

from typing import Any

import jax
import numpy as np

from jaxdiff import data, distributed, trees
from jaxdiff.checks import require
from jaxdiff.data import Examples
from jaxdiff.distributed.mesh import place_rows
from jaxdiff.objectives.objective import Context, Loss
from jaxdiff.runs.recipe import Training
from jaxdiff.training.state import State, whole_average


class Validation:
    """The loss of the averaged parameters on examples that training never sees, with fixed noise and without dropout.

    Augmentations stay, since they may add fields that the model needs. Their noise is fixed too.

    Args:
      training: the training.
      examples: the examples.
      strategy: the use of the devices.
      frozen: the frozen models.

    Raises:
      ValueError: there are fewer examples than devices.
    """

    def __init__(self, training: Training, examples: Examples, strategy: distributed.Strategy, frozen: Any) -> None:
        self._mesh = strategy.mesh
        size = min(training.config.train.batch_size, len(examples)) // self._mesh.size * self._mesh.size
        allowed = f"at least {self._mesh.size}, one for each device"
        require(size, "number of examples of validation", len(examples), allowed)
        self._size, self._examples = size, examples
        self._rows = distributed.process_rows(self._mesh, size)
        self._frozen = distributed.Sharded(self._mesh).place_whole(frozen)

        @jax.jit
        def losses(state: State, batch: Any, frozen: Any, number: Any) -> Any:
            # The generator is fixed, and so is the noise of each batch.
            key = jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), number)
            context = Context(state.step, state.ema, frozen, state.extra)
            own = whole_average(state.params, state.ema["ema"])
            loss = Loss(*training.quiet(own, key, batch, context))
            return jax.tree.map(lambda leaf: leaf.mean(), {"loss": loss.losses, **loss.metrics})

        self._losses = losses

    def __call__(self, state: State) -> dict[str, float]:
        """The means of the loss and of the metrics over all whole batches, named `validation_...`."""
        found = []
        for number, batch in enumerate(data.evaluation_batches(self._examples, self._size)):
            if trees.batch_size(batch) == self._size:
                mine = place_rows(self._mesh, {name: leaf[self._rows] for name, leaf in batch.items()})
                found.append(self._losses(state, mine, self._frozen, number))
        values = jax.device_get(found)
        return {f"validation_{name}": float(np.mean([np.float64(v[name]) for v in values])) for name in values[0]}
