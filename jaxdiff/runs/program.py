"""A configuration made ready for this job's devices: the compiled step, the initial state, the batches."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxdiff import data, distributed
from jaxdiff.data import Examples
from jaxdiff.networks import UNet
from jaxdiff.runs.config import Config, ParallelConfig
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.recipe import batch_shapes, make_training
from jaxdiff.training.flops import flops_of
from jaxdiff.training.state import State

# Optimising a program that runs once costs more than it saves. Only the CPU's compiler is slow at this one.
_RUN_ONCE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Program(NamedTuple):
    """A configuration made ready for devices.

    Attributes:
      strategy: how the devices are used.
      call: `(state, batch, *resident) -> (state, metrics)`, compiled when first called.
      initialise: makes the canonical state.
      shapes: of the canonical state, with shardings.
      flops: of one step, over all devices.
    """

    strategy: distributed.Strategy
    call: Callable[..., Any]
    initialise: Callable[[], State]
    shapes: State
    flops: float


def make_program(config: Config, spec: DataSpec) -> Program:
    """The step and the initial state of a configuration on this job's devices.

    Args:
      spec: of the data, by `recipe.describe_data`.

    Raises:
      ValueError, TypeError: settings that do not fit each other or the devices.
    """
    settings = config.parallel
    strategy = distributed.make_strategy(settings.strategy, settings.fsdp, settings.overrides)
    distributed.check_batch(config.train.batch_size, strategy.mesh, settings.accumulate)
    # The plain step first: settings that do not fit each other come to light here, before anything is written.
    plain = dataclasses.replace(config, parallel=ParallelConfig())
    if isinstance(config.network, UNet):
        plain = dataclasses.replace(plain, network=config.network.clone(remat="none"))
    step, initialise = make_training(plain, spec)
    shapes = jax.eval_shape(initialise)
    flops = flops_of(step, shapes, batch_shapes(config, spec))

    spread, _ = make_training(config, spec, strategy)

    def with_set(state: State, batch: Any, arrays: Any) -> Any:
        return spread(state, data.take(arrays, batch))

    on_device = config.data.placement == "device"
    call = strategy.compile(with_set if on_device else spread, shapes, settings.steps_per_call)
    held = strategy.canonical_shapes(shapes)
    options = _RUN_ONCE if jax.default_backend() == "cpu" else {}
    made = jax.jit(initialise, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, held), compiler_options=options)
    return Program(strategy, call, made, held, flops)


def make_batches(config: Config, opened: Examples, strategy: distributed.Strategy) -> data.Prefetched:
    """This process's part of the batches, on its devices."""
    settings = config.train
    drawn: dict[str, Any] = {
        "seed": settings.seed,
        "flip": config.data.flip,
        "rows": strategy.rows(settings.batch_size),
    }
    if config.data.placement == "device":
        source = data.training_indices(opened, settings.batch_size, **drawn)
    else:
        source = data.training_batches(opened, settings.batch_size, **drawn, workers=config.data.workers)
    group = config.parallel.steps_per_call
    return data.prefetch(source, lambda batch: strategy.place(batch, stacked=group > 1), group=group)
