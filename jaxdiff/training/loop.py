"""The training loop: a configuration in, a run directory out; run again, it goes on where it stopped."""

import contextlib
import difflib
import os
import signal
import threading
from collections.abc import Callable, Iterator
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
from jaxdiff.training.load import Model, make_model, make_network, read_saved
from jaxdiff.training.logs import Logger
from jaxdiff.training.optimizers import make_optimizer
from jaxdiff.training.state import State, initial_state
from jaxdiff.training.step import Step, make_step

# Optimising a program that runs once costs more than it saves. Only the CPU's compiler is slow at this one.
_RUN_ONCE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def open_data(config: DataConfig) -> Images:
    """The data set of a configuration.

    Raises:
      ValueError, OSError: it is not there; one line that says what is.
    """
    if config.name in data.TOYS:
        return data.toy2d(config.name)
    if config.name == "folder":
        opened = data.open_folder(str(config.data_dir), size=config.size)
    elif near := difflib.get_close_matches(config.name, data.TOYS, n=1, cutoff=0.8):
        raise ValueError(f"data.name = {config.name!r}; did you mean {near[0]!r}?")
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
        return network.apply(params, x, label, cond if classes else None, train=True, rngs={"dropout": key})

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

    The directory gets `config.json`, `checkpoints/`, `metrics.jsonl`, TensorBoard events and `samples/*.png` (see
    `training.runs`). If it holds the same run already, training goes on from its newest whole checkpoint, to the bit as
    if it had not stopped. Only how often it reports may differ, where a named data set lies, and, at a constant
    learning rate, how long it is. Interrupted from the keyboard, it saves before it goes.

    Raises:
      ValueError, OSError: settings, data or directory that cannot be used; nothing that was there is harmed.
    """
    opened = open_data(config.data)
    described = describe_data(config, opened)
    batches = data.training_batches(opened, config.train.batch_size, seed=config.train.seed, flip=config.data.flip)
    pure_step, initialise = make_training(config, described)
    step = jax.jit(pure_step, donate_argnums=0)
    shapes = jax.eval_shape(initialise)
    # Settings that do not fit each other come to light here, before anything is written.
    jax.eval_shape(step, shapes, _batch_shapes(opened, config.train.batch_size))
    run = _claim(run_dir, config, described)
    with runs.lock_run(run), Checkpoints(run.checkpoints, keep=config.train.keep) as checkpoints:
        window: list[dict[str, Any]] = []
        if checkpoints.steps():
            restored = checkpoints.restore(shapes)
            state, first = restored.state, restored.step
            batches.set_state(restored.iterator_state["batches"])
            window = restored.iterator_state["window"]
        else:
            options = _RUN_ONCE if jax.default_backend() == "cpu" else {}
            state, first = jax.jit(initialise, compiler_options=options)(), 0
        last = config.train.steps
        if first > last:
            raise ValueError(f"train.steps = {last}; the run in {run.directory} has {first} already: allowed are more")
        saved = {"config": to_json(config), "data": described}
        runs.write_config(run, saved)
        with Logger(run.directory, last, first, config.train.batch_size) as logger:
            state = _loop(config, described, step, state, window, batches, checkpoints, logger, saved)
        model = make_model(config, described, state.ema["ema"], last)
        images.write_png(run.samples / "final.png", picture(model, _picture_key(config), config.sample))
    return model


def _loop(
    config: Config,
    described: dict[str, Any],
    step: Step,
    state: State,
    window: list[dict[str, Any]],
    batches: Any,
    checkpoints: Checkpoints,
    logger: Logger,
    saved: dict[str, Any],
) -> State:
    """Trains to the last step. `window` holds the metrics of the steps since the last line of metrics."""
    settings = config.train
    with _interruption() as interrupted:
        for number in range(int(state.step) + 1, settings.steps + 1):
            state, metrics = step(state, next(batches))
            window.append(metrics)
            if number % settings.log_every == 0 or number == settings.steps:
                # The device is waited for here only; what is logged is the mean since the last line.
                rows = _numbers(window)
                logger.log(number, {name: np.mean([row[name] for row in rows]) for name in rows[0]})
                window = []
            if settings.sample_every and number % settings.sample_every == 0:
                model = make_model(config, described, state.ema["ema"], number)
                logger.image(number, "samples", picture(model, _picture_key(config), config.sample))
            stop = interrupted()
            if stop or number % settings.checkpoint_every == 0 or number == settings.steps:
                position = {"batches": batches.get_state(), "window": _numbers(window)}
                checkpoints.save(number, state, position, saved)
            if stop:
                raise KeyboardInterrupt
    return state


def _numbers(window: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in jax.device_get(window)]


@contextlib.contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Within it a first Ctrl-C is only noted, and told of by the function it gives: raised amid a step, it would leave
    state, data and metrics of different steps. A second one is raised at once.
    """
    noted = threading.Event()
    default = signal.default_int_handler
    # Python hands signals to its main thread; a job in the background may have been told to ignore them.
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is default

    def note(*_: Any) -> None:
        noted.set()
        signal.signal(signal.SIGINT, default)

    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield noted.is_set
    finally:
        if ours:
            signal.signal(signal.SIGINT, default)


def _batch_shapes(opened: Images, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What `training_batches` gives."""
    x = jax.ShapeDtypeStruct((batch_size, *opened.shape), jnp.float32)
    return {"x": x, "cond": jax.ShapeDtypeStruct((batch_size,), jnp.int32)} if opened.num_classes else {"x": x}


def _picture_key(config: Config) -> Any:
    """The same noise for every picture of a run, so that they can be compared."""
    return jax.random.key(config.train.seed + 1)


def _claim(run_dir: str | os.PathLike[str], config: Config, described: dict[str, Any]) -> runs.Run:
    """The run directory, once it is known that it is new or holds this very run."""
    run = runs.Run(Path(run_dir).absolute())
    if run.config.exists():
        changed = _differences(read_saved(run), {"config": to_json(config), "data": described}, _free(config))
        if changed:
            raise ValueError(
                f"run directory {run.directory} holds a run with other settings: {'; '.join(changed)}; "
                "choose another directory"
            )
    return runs.create_run(run.directory)


def _free(config: Config) -> set[tuple[str, ...]]:
    """The settings that may change between two parts of one run: they have no bearing on what it comes to."""
    free: set[tuple[str, ...]] = {("train", name) for name in ("log_every", "sample_every", "checkpoint_every", "keep")}
    if config.optimizer.decay == "constant":
        # A cosine falls to 0 at the last step: of a longer run, the steps made already would have been others.
        free.add(("train", "steps"))
    if config.data.name != "folder":
        free.add(("data", "data_dir"))
    return free


def _differences(before: dict[str, Any], now: dict[str, Any], free: set[tuple[str, ...]]) -> list[str]:
    """The settings that differ, as `name was a, is b`, without those that may."""

    def flat(tree: Any, path: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
        if isinstance(tree, dict) and tree:
            return {p: v for name, branch in tree.items() for p, v in flat(branch, (*path, name)).items()}
        return {path: tree}

    old, new = flat(before, ()), flat(now, ())
    names = [name for name in {**old, **new} if name[1:] not in free and old.get(name) != new.get(name)]
    return [f"{'.'.join(name[1:])} was {old.get(name)}, is {new.get(name)}" for name in names]
