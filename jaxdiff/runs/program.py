"""A training prepared for this job's devices: the compiled step, the initial state and the batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff import data, distributed
from jaxdiff.data import Examples
from jaxdiff.objectives.objective import Context, Loss
from jaxdiff.runs.config import Config
from jaxdiff.runs.recipe import Training
from jaxdiff.training.flops import flops_of
from jaxdiff.training.state import State
from jaxdiff.training.step import make_step

# Optimising a program that runs once takes longer than it saves. Only the CPU's compiler is slow for this program.
_RUN_ONCE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Program(NamedTuple):
    """A training prepared for devices.

    Attributes:
      strategy: the use of the devices.
      call: the step `(state, batch, frozen, *arrays) -> (state, metrics)`, compiled at its first call. `arrays` is the
        data set if it is placed on the device.
      frozen: the frozen models on the devices.
      initialise: a function of parameters to begin with, or None, that makes the canonical state.
      shapes: the shapes of the canonical state, with shardings.
      flops: the floating-point operations of the model and its gradient in one step, over all devices.
    """

    strategy: distributed.Strategy
    call: Callable[..., Any]
    frozen: Any
    initialise: Callable[[PyTree], State]
    shapes: State
    flops: float


def make_program(training: Training, frozen: Any) -> Program:
    """Prepares a training for this job's devices.

    Args:
      training: the training.
      frozen: the frozen models, on the host or on any device.

    Raises:
      ValueError, TypeError: the settings do not fit each other or the devices.
    """
    config = training.config
    settings = config.parallel
    strategy = distributed.make_strategy(settings.strategy, settings.fsdp, settings.overrides)
    distributed.check_batch(config.train.batch_size, strategy.mesh, settings.accumulate)
    shapes = jax.eval_shape(training.initial, frozen)
    step = distributed_step(training, strategy, shapes)

    def with_set(state: State, batch: Any, frozen: Any, arrays: Any) -> Any:
        return step(state, data.take(arrays, batch), frozen)

    on_device = config.loading.placement == "device"
    call = strategy.compile(with_set if on_device else step, shapes, settings.steps_per_call)
    held = strategy.canonical_shapes(shapes)
    options = _RUN_ONCE if jax.default_backend() == "cpu" else {}
    host = jax.tree.map(np.asarray, frozen)

    def initialise(start: PyTree) -> State:
        shardings = jax.tree.map(lambda leaf: leaf.sharding, held)
        return jax.jit(training.initial, out_shardings=shardings, compiler_options=options)(host, start)

    return Program(
        strategy, call, strategy.place_frozen(frozen), initialise, held, count_flops(training, shapes, frozen)
    )


def distributed_step(training: Training, strategy: distributed.Strategy, shapes: State) -> Callable[..., Any]:
    """The pure training step in the form that a strategy compiles."""
    return make_step(
        strategy.prepare(training.objective, shapes),
        training.optimizer,
        training.rules,
        accumulate=training.config.parallel.accumulate,
        reduce=strategy.reduce,
        places=strategy.places,
        project=training.bound.project,
    )


def count_flops(training: Training, shapes: State, frozen: Any) -> float:
    """The floating-point operations of the loss and its gradient for one batch, without rematerialisation."""

    def gradient(state: State, batch: Any, frozen: Any) -> PyTree:
        def mean(params: PyTree) -> Any:
            context = Context(state.step, state.ema, frozen, state.extra)
            return Loss(*training.plain(params, state.key, batch, context)).losses.mean()

        return jax.grad(mean)(state.params)

    return flops_of(gradient, shapes, training.batch(training.config.train.batch_size), frozen)


def make_batches(config: Config, examples: Examples, strategy: distributed.Strategy) -> data.Prefetched:
    """The batches of a configuration: this process's rows, on its devices."""
    settings = config.train
    options: dict[str, Any] = {"seed": settings.seed, "rows": strategy.rows(settings.batch_size)}
    if config.loading.placement == "device":
        source = data.training_indices(examples, settings.batch_size, **options)
    else:
        source = data.training_batches(examples, settings.batch_size, **options, workers=config.loading.workers)
    group = config.parallel.steps_per_call
    return data.prefetch(source, lambda batch: strategy.place(batch, stacked=group > 1), group=group)
