"""The training step and the sampler of a configuration, lowered for a mesh from shapes alone."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxdiff.checks import message, one_of
from jaxdiff.distributed import ROWS, Sharded, check_batch
from jaxdiff.models import DiffusionModel
from jaxdiff.runs.program import distributed_step
from jaxdiff.runs.recipe import Training
from jaxdiff.sampling import sample
from jaxdiff.training.flops import flops_of

# The frozen models of a run that has none.
NOTHING: dict[str, Any] = {"model": {"codec": None, "conditions": {}}, "objective": None}


class Lowered(NamedTuple):
    """A program for a mesh that is lowered and not yet compiled.

    Attributes:
      program: the lowered program, as `jax.jit(...).lower` returns it.
      flops: the floating-point operations of one run on all devices together, as `flops.flops_of` counts them.
    """

    program: Any
    flops: float


def lower_training(training: Training, mesh: Mesh) -> Lowered:
    """Lowers one call of the training step, which makes `parallel.steps_per_call` steps.

    Args:
      training: the training, from `recipe.make_training`, with the shapes of frozen models.
      mesh: a mesh with the axes of `distributed.make_mesh`.

    Raises:
      ValueError: the strategy has no mesh, the data set is placed on the device, or the mesh does not divide the batch.
    """
    config = training.config
    settings = config.parallel
    one_of("parallel.strategy", settings.strategy, ("auto", "jit"))
    one_of("loading.placement", config.loading.placement, ("disk", "memory"))
    check_batch(config.train.batch_size, mesh, settings.accumulate)
    strategy = Sharded(mesh, settings.overrides)
    shapes = jax.eval_shape(training.initial, NOTHING)
    call = strategy.compile(distributed_step(training, strategy, shapes), shapes, settings.steps_per_call)
    several = settings.steps_per_call > 1
    rows = PartitionSpec(None, *ROWS) if several else ROWS
    first = (settings.steps_per_call,) if several else ()
    batch = {
        name: jax.ShapeDtypeStruct((*first, *leaf.shape), leaf.dtype, sharding=NamedSharding(mesh, rows))
        for name, leaf in training.batch(config.train.batch_size).items()
    }
    return _lowered(call, strategy.canonical_shapes(shapes), batch, NOTHING)


def lower_sampling(training: Training, mesh: Mesh) -> Lowered:
    """Lowers the sampler of a diffusion model for as many samples as a training batch has.

    Every chip holds the whole parameters, as in `models.draw`.

    Args:
      training: the training.
      mesh: a mesh with the axes of `distributed.make_mesh`.

    Raises:
      ValueError: the model is not sampled.
    """
    config, size = training.config, training.config.train.batch_size
    params = jax.eval_shape(training.initial, NOTHING).params
    model = training.bound.loaded(params, NOTHING["model"], {}, config.sample)
    if not isinstance(model, DiffusionModel):
        raise ValueError(message("model.kind", type(config.model).__name__, "models that are sampled"))
    tableau = config.sample.tableau(model.process)

    def denoiser_of(params: PyTree) -> Any:
        shown = dataclasses.replace(model, params=params)
        asked = shown.encode({name: np.repeat(v, size, 0) for name, v in model.bound.conditioning.ask({}).items()})
        return shown.denoiser_of(asked, config.sample.guidance, bool(asked.cond))

    def spread(leaf: Any, rows: PartitionSpec) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, rows))

    def replicated(tree: Any) -> Any:
        """The shapes of a pytree of which every device has a copy."""
        return jax.tree.map(
            lambda leaf: spread(leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf), PartitionSpec()), tree
        )

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
    noise = jax.tree.map(lambda leaf: spread(leaf, ROWS), model.bound.like(size))
    denoiser = replicated(jax.eval_shape(denoiser_of, params))
    return _lowered(jax.jit(sample), spread(keys, ROWS), denoiser, noise, replicated(tableau))


def _lowered(function: Any, *args: Any) -> Lowered:
    return Lowered(function.lower(*args), flops_of(function, *args))
