"""The training loop: a configuration in, a run directory out; run again, it goes on where it stopped."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import data
from jaxdiff.data import Images
from jaxdiff.objectives import denoising
from jaxdiff.training import ema, images, runs
from jaxdiff.training.checkpoints import Checkpoints
from jaxdiff.training.config import Config, DataConfig, to_json
from jaxdiff.training.draw import picture
from jaxdiff.training.load import Model, make_model, make_network
from jaxdiff.training.logs import Logger
from jaxdiff.training.optimizers import make_optimizer
from jaxdiff.training.state import State, initial_state
from jaxdiff.training.step import Step, make_step

# What may change between two parts of one run: how long it is, and what is shown of it.
_FREE = {("train", name) for name in ("steps", "log_every", "sample_every", "checkpoint_every", "keep")}


def open_data(config: DataConfig) -> Images:
    """The data set of a configuration.

    Raises:
      ValueError, OSError: it is not there; one line that says what is.
    """
    if config.name in data.TOYS:
        return data.toy2d(config.name)
    if config.name == "folder":
        opened = data.open_folder(str(config.data_dir), size=config.size)
    else:
        opened = data.open_tfds(config.name, split=config.split, data_dir=config.data_dir)
    return data.in_memory(opened) if config.resident else opened


def describe_data(config: Config, opened: Images) -> dict[str, Any]:
    """What a network and a sampler must know of the data, as `config.json` holds it."""
    labelled = config.diffusion.conditional
    return {
        "shape": list(opened.shape),
        "num_classes": opened.num_classes if labelled else 0,
        "class_names": list(opened.class_names) if labelled else [],
    }


def make_training(config: Config, described: dict[str, Any]) -> tuple[Step, Any]:
    """The pure step of a configuration, and a function that makes its initial state."""
    diffusion, network = config.diffusion, make_network(config, described)
    classes = described["num_classes"]

    def apply(params: Any, x: Any, label: Any, cond: Any = None, *, key: Any) -> Any:
        return network.apply(params, x, label, cond, train=True, rngs={"dropout": key})

    objective = denoising(
        diffusion.make_process(),
        diffusion.make_parametrization(),
        apply,
        weighting=diffusion.make_weighting(),
        times=diffusion.make_times(),
        null=classes or None,
        dropout=diffusion.label_dropout if classes else 0.0,
        with_key=True,
    )
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    averages = {"ema": ema.half_life(config.train.ema_half_life, config.train.batch_size)}

    def initialise() -> State:
        init_key, run_key = jax.random.split(jax.random.key(config.train.seed))
        x, cond = jnp.zeros((1, *described["shape"])), jnp.zeros(1, jnp.int32) if classes else None
        params = network.init(init_key, x, jnp.zeros(1), cond)
        return initial_state(params, optimizer, run_key, averages)

    return make_step(objective, optimizer, averages), initialise


def train(config: Config, run_dir: str | os.PathLike[str]) -> Model:
    """Trains, or goes on training, the run in `run_dir`, and returns its model.

    The directory gets `config.json`, `checkpoints/`, `metrics.jsonl`, TensorBoard events and `samples/*.png` (see `training.runs`). If it holds
    the same run already, training goes on from its newest whole checkpoint, to the bit as if it had not stopped; only its length
    and how often it reports may differ. Interrupted from the keyboard, it saves before it goes.

    Raises:
      ValueError, OSError: settings, data or directory that cannot be used; nothing that was there is harmed.
    """
    opened = open_data(config.data)
    described = describe_data(config, opened)
    batches = data.training_batches(opened, config.train.batch_size, seed=config.train.seed, flip=config.data.flip)
    step, initialise = make_training(config, described)
    run = _claim(run_dir, config, described)
    with runs.lock_run(run), Checkpoints(run.checkpoints, keep=config.train.keep) as checkpoints:
        saved = {"config": to_json(config), "data": described}
        if checkpoints.steps():
            restored = checkpoints.restore(jax.eval_shape(initialise))
            state = restored.state
            batches.set_state(restored.iterator_state)
        else:
            state = jax.jit(initialise)()
        runs.write_config(run, saved)
        first, last = int(state.step), config.train.steps
        if first > last:
            raise ValueError(f"train.steps = {last}; the run in {run.directory} has {first} already: allowed are more")
        with Logger(run.directory, last, first, config.train.batch_size) as logger:
            state = _loop(config, described, jax.jit(step, donate_argnums=0), state, batches, checkpoints, logger, saved)
        model = make_model(config, described, state.ema["ema"], int(state.step))
        images.write_png(run.samples / "final.png", picture(model, _picture_key(config), config.sample))
    return model


def _loop(
    config: Config, described: dict[str, Any], step: Any, state: State, batches: Any, checkpoints: Checkpoints, logger: Logger, saved: Any
) -> State:
    settings, window = config.train, []
    number = int(state.step)
    try:
        while number < settings.steps:
            state, metrics = step(state, next(batches))
            number += 1
            window.append(metrics)
            if number % settings.log_every == 0 or number == settings.steps:
                # The device is waited for here only; what is logged is the mean since the last line.
                columns = jax.device_get(window)
                logger.log(number, {name: np.mean([row[name] for row in columns]) for name in columns[0]})
                window = []
            if settings.sample_every and number % settings.sample_every == 0:
                model = make_model(config, described, state.ema["ema"], number)
                logger.image(number, "samples", picture(model, _picture_key(config), config.sample))
            if number % settings.checkpoint_every == 0 or number == settings.steps:
                checkpoints.save(number, state, batches.get_state(), saved)
    except KeyboardInterrupt:
        # The step under way may have taken the state with it (it is donated); then the last checkpoint stands.
        if not any(leaf.is_deleted() for leaf in jax.tree.leaves(state)) and int(state.step) == number:
            checkpoints.save(number, state, batches.get_state(), saved)
        raise
    return state


def _picture_key(config: Config) -> Any:
    """The same noise for every picture of a run, so that they can be compared."""
    return jax.random.key(config.train.seed + 1)


def _claim(run_dir: str | os.PathLike[str], config: Config, described: dict[str, Any]) -> runs.Run:
    """The run directory, once it is known that it is new or holds this very run."""
    run = runs.Run(Path(run_dir).absolute())
    if run.config.exists():
        before = runs.read_config(run)
        changed = _differences(before, {"config": to_json(config), "data": described})
        if changed:
            raise ValueError(f"run directory {run.directory} holds a run with other settings: {'; '.join(changed)}; choose another directory")
    return runs.create_run(run.directory)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The settings that differ, as `name was a, is b`, without those that may."""

    def flat(tree: Any, path: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
        if isinstance(tree, dict) and tree:
            return {p: v for name, branch in tree.items() for p, v in flat(branch, (*path, name)).items()}
        return {path: tree}

    old, new = flat(before, ()), flat(now, ())
    names = [name for name in {**old, **new} if name[1:] not in _FREE and old.get(name) != new.get(name)]
    return [f"{'.'.join(name[1:])} was {old.get(name)}, is {new.get(name)}" for name in names]
