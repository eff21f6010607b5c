"""The training step and the sampler of a configuration, lowered for a mesh from shapes alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdiff.checks import one_of
from jaxdiff.distributed import ROWS, Sharded, check_batch
from jaxdiff.runs.config import Config
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.load import make_model
from jaxdiff.runs.recipe import batch_shapes, make_training
from jaxdiff.sampling import sample
from jaxdiff.training.flops import flops_of


class Lowered(NamedTuple):
    """A program for a mesh that is lowered and not yet compiled.

    Attributes:
      program: the lowered program, as `jax.jit(...).lower` returns it.
      flops: the floating-point operations of one run on all devices together, as `flops.flops_of` counts them.
    """

    program: Any
    flops: float


def lower_training(config: Config, spec: DataSpec, mesh: Mesh) -> Lowered:
    """Lowers one call of the training step, which makes `parallel.steps_per_call` steps.

    Args:
      spec: the facts about the data, from `recipe.describe_data`.
      mesh: a mesh with the axes of `distributed.make_mesh`.

    Raises:
      ValueError: the strategy has no mesh, the data set is placed on the device, or the mesh does not divide the batch.
    """
    settings = config.parallel
    one_of("parallel.strategy", settings.strategy, ("auto", "jit"))
    one_of("data.placement", config.data.placement, ("disk", "memory"))
    check_batch(config.train.batch_size, mesh, settings.accumulate)
    strategy = Sharded(mesh, settings.overrides)
    step, initialise = make_training(config, spec, strategy)
    shapes = jax.eval_shape(initialise)
    call = strategy.compile(step, shapes, settings.steps_per_call)
    several = settings.steps_per_call > 1
    rows = PartitionSpec(None, *ROWS) if several else ROWS
    first = (settings.steps_per_call,) if several else ()
    batch = {
        name: jax.ShapeDtypeStruct((*first, *leaf.shape), leaf.dtype, sharding=NamedSharding(mesh, rows))
        for name, leaf in batch_shapes(config, spec).items()
    }
    return _lowered(call, strategy.canonical_shapes(shapes), batch)


def lower_sampling(config: Config, spec: DataSpec, mesh: Mesh) -> Lowered:
    """Lowers the sampler of a configuration for as many samples as a training batch has.

    Every chip holds the whole parameters, as in `draw`.

    Args:
      spec: the facts about the data, from `recipe.describe_data`.
      mesh: a mesh with the axes of `distributed.make_mesh`.
    """
    size, classes = config.train.batch_size, spec.num_classes
    _, initialise = make_training(config, spec)
    params = jax.eval_shape(initialise).params
    model = make_model(config, spec, params, 0)
    denoiser = model.denoiser(np.zeros(size, int), config.sample.guidance) if classes else model.denoiser()
    tableau = config.sample.make_tableau(model.process)

    def spread(leaf: Any, rows: PartitionSpec) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, rows))

    def replicated(tree: Any) -> Any:
        """The shapes of a pytree of which every device has a copy."""
        return jax.tree.map(
            lambda leaf: spread(leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf), PartitionSpec()), tree
        )

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
    noise = jax.ShapeDtypeStruct((size, *spec.shape), jnp.float32)
    return _lowered(jax.jit(sample), spread(keys, ROWS), replicated(denoiser), spread(noise, ROWS), replicated(tableau))


def _lowered(function: Any, *args: Any) -> Lowered:
    return Lowered(function.lower(*args), flops_of(function, *args))
