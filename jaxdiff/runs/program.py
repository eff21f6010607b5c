"""A configuration prepared for this job's devices: the compiled step, the initial state and the batches."""

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

# Optimising a program that runs once takes longer than it saves. Only the CPU's compiler is slow for this program.
_RUN_ONCE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Program(NamedTuple):
    """A configuration prepared for devices.

    Attributes:
      strategy: the use of the devices.
      call: the step `(state, batch, *arrays) -> (state, metrics)`, compiled at its first call. `arrays` is the data set
        if it is placed on the device.
      initialise: a function that makes the canonical state.
      shapes: the shapes of the canonical state, with shardings.
      flops: the floating-point operations of one step over all devices.
    """

    strategy: distributed.Strategy
    call: Callable[..., Any]
    initialise: Callable[[], State]
    shapes: State
    flops: float


def make_program(config: Config, spec: DataSpec) -> Program:
    """Makes the step and the initial state of a configuration on this job's devices.

    Args:
      config: the configuration.
      spec: the facts about the data, from `recipe.describe_data`.

    Raises:
      ValueError, TypeError: the settings do not fit each other or the devices.
    """
    settings = config.parallel
    strategy = distributed.make_strategy(settings.strategy, settings.fsdp, settings.overrides)
    distributed.check_batch(config.train.batch_size, strategy.mesh, settings.accumulate)
    # Tracing the plain step refuses settings that do not fit each other, before anything is written.
    plain = dataclasses.replace(config, parallel=ParallelConfig())
    if isinstance(config.network, UNet):
        plain = dataclasses.replace(plain, network=config.network.clone(remat="none"))
    step, initialise = make_training(plain, spec)
    shapes = jax.eval_shape(initialise)
    flops = flops_of(step, shapes, batch_shapes(config, spec))

    distributed_step, _ = make_training(config, spec, strategy)

    def with_set(state: State, batch: Any, arrays: Any) -> Any:
        return distributed_step(state, data.take(arrays, batch))

    on_device = config.data.placement == "device"
    call = strategy.compile(with_set if on_device else distributed_step, shapes, settings.steps_per_call)
    held = strategy.canonical_shapes(shapes)
    options = _RUN_ONCE if jax.default_backend() == "cpu" else {}
    initial = jax.jit(
        initialise, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, held), compiler_options=options
    )
    return Program(strategy, call, initial, held, flops)


def make_batches(config: Config, opened: Examples, strategy: distributed.Strategy) -> data.Prefetched:
    """The batches of a configuration: this process's rows, on its devices."""
    settings = config.train
    rows = strategy.rows(settings.batch_size)
    options: dict[str, Any] = {"seed": settings.seed, "flip": config.data.flip, "rows": rows}
    if config.data.placement == "device":
        source = data.training_indices(opened, settings.batch_size, **options)
    else:
        source = data.training_batches(opened, settings.batch_size, **options, workers=config.data.workers)
    group = config.parallel.steps_per_call
    return data.prefetch(source, lambda batch: strategy.place(batch, stacked=group > 1), group=group)
