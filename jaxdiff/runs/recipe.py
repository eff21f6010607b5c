"""From a configuration to what is trained: its data, its pure step and its initial state."""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import averages, data, trees
from jaxdiff.augmentations.edm import AUGMENTATION_FEATURES, augment
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

# Of the labels log(sigma)/4 that EDM2's random features are made for, with sigma from 0.002 to 80.
_EDM_SPAN = math.log(80 / 0.002) / 4


def open_data(config: DataConfig) -> Examples:
    """The data set of a configuration.

    Raises:
      ValueError, OSError: it is not there; one line that says what is. Or it is to be augmented, and holds no images.
    """
    if config.name in data.TOYS:
        opened = data.toy2d(config.name)
    elif config.name == "folder":
        opened = data.open_folder(str(config.data_dir), size=config.size)
    elif near := difflib.get_close_matches(config.name, data.TOYS, n=1, cutoff=0.8):
        raise ValueError(f"data.name = {config.name!r}; did you mean {near[0]!r}?")
    else:
        opened = data.open_tfds(config.name, split=config.split, data_dir=config.data_dir)
    if config.augment and len(opened.shape) != 3:
        raise ValueError(f"data.augment = {config.augment}; allowed for examples of shape {opened.shape} is 0")
    return opened if config.placement == "disk" else data.in_memory(opened)


def describe_data(config: Config, opened: Examples) -> DataSpec:
    """What a network and a sampler must know of the data, as `config.json` holds it.

    Raises:
      ValueError: guidance towards labels that there are not.
    """
    labelled = config.diffusion.conditional
    if config.sample.guidance != 1 and not (labelled and opened.num_classes):
        raise ValueError(f"sample.guidance = {config.sample.guidance}; allowed without labels is 1")
    return DataSpec(
        shape=tuple(opened.shape),
        num_classes=opened.num_classes if labelled else 0,
        class_names=tuple(opened.class_names) if labelled else (),
        augmentation_features=AUGMENTATION_FEATURES if config.data.augment else 0,
    )


def make_training(config: Config, spec: DataSpec, strategy: Strategy | None = None) -> tuple[Step, Callable[[], State]]:
    """The pure step of a configuration, and a function that makes its initial state.

    Args:
      spec: of the data, by `describe_data`.
      strategy: how the step will be spread over devices; None for one that sees the whole batch.
    """
    diffusion, settings = config.diffusion, config.train
    network, log_variance = make_network(config, spec), make_log_variance(diffusion)
    classes = spec.num_classes

    def initialise() -> State:
        # Whatever JAX's default is: others, asked for many keys at once, draw by the first of them alone (rbg).
        init_key, run_key = jax.random.split(jax.random.key(settings.seed, impl="threefry2x32"))
        x, cond = jnp.zeros((1, *spec.shape)), jnp.zeros(1, jnp.int32) if classes else None
        params = network.init(init_key, x, jnp.zeros(1), cond)
        if diffusion.learned_weighting:
            # A collection of its own beside the network's, which ignores it.
            params = {**params, "log_variance": log_variance.init(init_key, jnp.zeros(1))["params"]}
        return initial_state(params, optimizer, run_key, rules)

    def expected(params: PyTree, time: Any) -> Any:
        return log_variance.apply({"params": params["log_variance"]}, time)

    objective = denoising(
        diffusion.make_process(),
        diffusion.make_parametrization(),
        network.apply,
        weighting=diffusion.make_weighting(),
        times=diffusion.make_times(),
        null={"label": classes} if classes else None,
        dropout=diffusion.label_dropout if classes else 0.0,
        log_variance=expected if diffusion.learned_weighting else None,
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
    """The network of the learned weighting, as smooth over the labels in use as EDM2's is over its own."""
    process, parametrization = diffusion.make_process(), diffusion.make_parametrization()
    # At the very ends some labels are infinite.
    early, late = (process.t_min * (1 - u) + process.t_max * u for u in (1e-3, 1 - 1e-3))
    span = abs(float(parametrization.time_input(process, late)) - float(parametrization.time_input(process, early)))
    return LogVariance(scale=_EDM_SPAN / span)


def conditioned(objective: Objective, *, labelled: bool, augmentation: float) -> Objective:
    """The objective on batches as the data gives them: labels only if they are wanted, images augmented.

    Args:
      labelled: whether the network is told of the label.
      augmentation: how likely each of EDM's augmentations is, which the network is told of; 0 for none.
    """

    def with_conditions(params: PyTree, key: Any, batch: Mapping[str, PyTree]) -> Losses:
        x, cond = batch["x"], {"label": batch["cond"]} if labelled else {}
        if augmentation:
            keys = trees.batch_key(key, trees.batch_size(x)).each(4)
            x, told = augment(keys, x, augmentation)
            cond["augmentation"] = told
        return objective(params, key, {"x": x, "cond": cond} if cond else {"x": x})

    return with_conditions


def batch_shapes(config: Config, spec: DataSpec) -> dict[str, jax.ShapeDtypeStruct]:
    """What the pure step is given."""
    size = config.train.batch_size
    shapes = {"x": jax.ShapeDtypeStruct((size, *spec.shape), jnp.float32)}
    return shapes | ({"cond": jax.ShapeDtypeStruct((size,), jnp.int32)} if spec.num_classes else {})
