"""From a configuration to its data, its pure training step and its initial state."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import averages, data, trees
from jaxdiff.augmentations.edm import AUGMENTATION_FEATURES, augment
from jaxdiff.checks import require
from jaxdiff.data import Examples
from jaxdiff.distributed import Strategy
from jaxdiff.networks.log_variance import LogVariance
from jaxdiff.objectives import denoising
from jaxdiff.objectives.denoising import Losses, Objective
from jaxdiff.runs.config import Config, DataConfig, DiffusionConfig
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.load import make_network
from jaxdiff.training.optimizers import make_optimizer
from jaxdiff.training.state import State, initial_state
from jaxdiff.training.step import Step, make_step

# The range of the time input log(sigma)/4 for which EDM2 chose its random features: sigma from 0.002 to 80.
_EDM_SPAN = math.log(80 / 0.002) / 4


def open_data(config: DataConfig) -> Examples:
    """Opens the data set of a configuration.

    Raises:
      ValueError, OSError: the set does not exist or cannot be read, or it shall be augmented and holds no images.
    """
    if config.name in data.TOYS:
        opened = data.toy2d(config.name)
    elif config.name == "digits":
        opened = data.open_digits(config.split)
    elif config.name == "folder":
        opened = data.open_folder(str(config.data_dir), size=config.size)
    else:
        opened = data.open_tfds(config.name, split=config.split, data_dir=config.data_dir)
    allowed = f"0 for examples of shape {opened.shape}"
    require(not config.augment or len(opened.shape) == 3, "data.augment", config.augment, allowed)
    return opened if config.placement == "disk" else data.in_memory(opened)


def describe_data(config: Config, opened: Examples) -> DataSpec:
    """The facts about a data set that the network and the sampler of a configuration need.

    Raises:
      ValueError: guidance other than 1, but the network is told no labels.
    """
    labelled, scale = config.diffusion.conditional, config.sample.guidance
    require(scale == 1 or (labelled and opened.num_classes), "sample.guidance", scale, "1 without labels")
    return DataSpec(
        shape=tuple(opened.shape),
        num_classes=opened.num_classes if labelled else 0,
        class_names=tuple(opened.class_names) if labelled else (),
        augmentation_features=AUGMENTATION_FEATURES if config.data.augment else 0,
    )


def make_training(config: Config, spec: DataSpec, strategy: Strategy | None = None) -> tuple[Step, Callable[[], State]]:
    """Makes the pure training step of a configuration, and a function that makes its initial state.

    Args:
      config: the configuration.
      spec: the facts about the data, from `describe_data`.
      strategy: the strategy that will compile the step; None for a step that sees the whole batch.
    """
    diffusion, settings = config.diffusion, config.train
    network, log_variance = make_network(config, spec), make_log_variance(diffusion)
    classes = spec.num_classes

    def initialise() -> State:
        # The generator is fixed. With another default (rbg), `vmap` over keys draws all numbers from the first key.
        init_key, run_key = jax.random.split(jax.random.key(settings.seed, impl="threefry2x32"))
        x, cond = jnp.zeros((1, *spec.shape)), jnp.zeros(1, jnp.int32) if classes else None
        params = network.init(init_key, x, jnp.zeros(1), cond)
        if diffusion.learned_weighting:
            # The network ignores a collection that is not its own.
            params = {**params, "log_variance": log_variance.init(init_key, jnp.zeros(1))["params"]}
        return initial_state(params, optimizer, run_key, rules)

    def learned_log_variance(params: PyTree, time: Any) -> Any:
        return log_variance.apply({"params": params["log_variance"]}, time)

    objective = denoising(
        diffusion.make_process(),
        diffusion.make_parametrization(),
        network.apply,
        weighting=diffusion.make_weighting(),
        times=diffusion.make_times(),
        null={"label": classes} if classes else None,
        dropout=diffusion.label_dropout if classes else 0.0,
        log_variance=learned_log_variance if diffusion.learned_weighting else None,
        with_key=True,
    )
    objective = conditioned(objective, labelled=classes > 0, augmentation=config.data.augment)
    optimizer = make_optimizer(config.optimizer, settings.steps)
    rules = {"ema": averages.half_life(settings.ema_half_life, settings.batch_size)}
    rules |= {averages.power_name(width): averages.power(width) for width in settings.ema_widths}
    spread: dict[str, Any] = {}
    if strategy is not None:
        objective = strategy.prepare(objective, jax.eval_shape(initialise))
        spread = {"reduce": strategy.reduce, "places": strategy.places}
    return make_step(objective, optimizer, rules, accumulate=config.parallel.accumulate, **spread), initialise


def make_log_variance(diffusion: DiffusionConfig) -> LogVariance:
    """The network of the learned weighting.

    Its features are scaled so that it is as smooth over the range of the time input as EDM2's network.
    """
    process, parametrization = diffusion.make_process(), diffusion.make_parametrization()
    # At the ends of the process some time inputs are infinite.
    early, late = (process.t_min * (1 - u) + process.t_max * u for u in (1e-3, 1 - 1e-3))
    span = abs(float(parametrization.time_input(process, late)) - float(parametrization.time_input(process, early)))
    return LogVariance(scale=_EDM_SPAN / span)


def conditioned(objective: Objective, *, labelled: bool, augmentation: float) -> Objective:
    """The objective as a function of batches `{"x", "cond"}` from the data set.

    Args:
      objective: an objective of batches `{"x", "cond": {"label", "augmentation"}}`.
      labelled: whether the network is told the labels.
      augmentation: the probability of each of EDM's augmentations, which the network is told; 0 for none.
    """

    def with_conditions(params: PyTree, key: Any, batch: Mapping[str, PyTree]) -> Losses:
        x, cond = batch["x"], {"label": batch["cond"]} if labelled else {}
        if augmentation:
            keys = trees.batch_key(key, trees.batch_size(x)).each(4)
            x, cond["augmentation"] = augment(keys, x, augmentation)
        return objective(params, key, {"x": x, "cond": cond} if cond else {"x": x})

    return with_conditions


def batch_shapes(config: Config, spec: DataSpec) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of a batch for the pure step."""
    size = config.train.batch_size
    shapes = {"x": jax.ShapeDtypeStruct((size, *spec.shape), jnp.float32)}
    return shapes | ({"cond": jax.ShapeDtypeStruct((size,), jnp.int32)} if spec.num_classes else {})
