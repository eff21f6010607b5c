"""Training: a configuration in, a run directory out. Called again, training resumes."""

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff.checks import require
from jaxdiff.components import Table, at
from jaxdiff.distributed import all_devices, hosts
from jaxdiff.distributed.collectives import on_all
from jaxdiff.logging.logger import make_logger
from jaxdiff.logging.weights_and_biases import import_wandb
from jaxdiff.models.model import with_state
from jaxdiff.runs.archive import open_archive
from jaxdiff.runs.compatibility import open_or_create
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.directory import Run, lock_run, write_config
from jaxdiff.runs.facts import Facts
from jaxdiff.runs.load import load
from jaxdiff.runs.opened import open_entries, open_set
from jaxdiff.runs.parts import Parts
from jaxdiff.runs.program import Program, make_batches, make_program
from jaxdiff.runs.recipe import Training, load_frozen, make_training
from jaxdiff.runs.settings import in_file, saved_settings
from jaxdiff.runs.trainer import Callback, Trainer
from jaxdiff.runs.validation import Validation
from jaxdiff.runs.window import Window


def train(
    config: Config,
    run_dir: str | os.PathLike[str] | None,
    *,
    parts: Mapping[str, str | os.PathLike[str]] | None = None,
    start: PyTree = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Any:
    """Trains the run in `run_dir`, or resumes it, and returns its model.

    The directory gets `config.json`, `checkpoints/`, `metrics.jsonl`, TensorBoard events and `samples/` (see
    `runs.directory`). If it holds the same run already, training resumes from the newest whole checkpoint, on any
    devices, and gives the same bits as a run without interruption. `compatibility` says which settings may differ.
    After Ctrl-C or SIGTERM, the run is saved before `train` raises.

    With several processes (see `distributed.hosts`), every process calls `train` with the same arguments, and all see
    the same directory. Only the first process writes metrics and samples.

    Args:
      config: the configuration.
      run_dir: the run directory; None to write no files.
      parts: where parts of the run have moved, by the path of their setting or its last name.
      start: parameters that a new run begins with, `{"model": ...}`; None for random ones.
      callbacks: functions that are called with every line of metrics, see `trainer.Callback`.
      progress: whether to show progress on standard error.

    Returns:
      The model, as `runs.load` returns it.

    Raises:
      ValueError, OSError: settings, data or the directory cannot be used. Nothing in the directory has been harmed.
      ImportError: `log.wandb` is set and the package is not installed.
      DivergedError: in `optimizer.max_skipped` consecutive steps the loss or the gradient was not finite.
      Stopped: a signal asked training to stop, and the run has been saved.
    """
    check(config)
    all_devices()
    target = None if run_dir is None else Run.at(run_dir)
    if config.log.wandb is not None:
        import_wandb(config.log.wandb)
    needed = Parts(config, load, parts)
    frozen = load_frozen(config, needed.open)
    guides = config.sample.guidance.load(needed.open)
    examples = open_set(config.data)
    training = make_training(config, examples.fields, frozen)
    # A sampler that does not fit the model is refused before anything is written.
    training.bound.check_sampling(config.sample)
    facts = Facts(Table(examples.fields), examples.identity(), needed.checksums())
    opened = open_entries(config, examples, training.entries)
    program = make_program(training, frozen)
    batches = make_batches(config, opened.training, program.strategy)

    def loaded(average: PyTree, extra: PyTree) -> Any:
        average = with_state(average, extra)
        return training.bound.loaded(average, {**frozen["model"], "guidance": guides}, extra, config.sample)

    # A new run is refused before anything is written. A run that goes on may have lost the run that it started from.
    new = target is None or not target.config.exists()
    begin = _start(training, program, start) if new else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(batches))
        run, saved, archive = None, None, None
        if target is not None:
            directory = target.directory
            run = on_all(lambda: open_or_create(directory, config, facts, needed.places))
            on_all(lambda: stack.enter_context(lock_run(run)) if hosts.first() else None)
            saved = saved_settings(config, facts, run, needed.places)
            archive = stack.enter_context(open_archive(run, config, saved))
        if run is not None and archive is not None and (restored := archive.restore(program.shapes)) is not None:
            state, first, place = restored.state, restored.step, restored.iterator_state
            with in_file(run.checkpoints / str(first) / "meta.json"):
                good = isinstance(place, dict) and set(place) == {"batches", "position"}
                require(good, "iterator", place, "objects with 'batches' and 'position'")
                batches.set_state(place["batches"])
                window = Window.from_json(place["position"])
        else:
            begin = begin if new else _start(training, program, start)
            state, first, window = program.initialise(begin), 0, Window()
        _check_start(first, config, run)
        if run is not None and saved is not None and hosts.first():
            write_config(run, saved)
        logger = make_logger(
            None if run is None else run.directory,
            config.train.steps,
            first,
            wandb=config.log.wandb,
            config=saved,
            progress=progress,
        )
        stack.enter_context(logger)
        validation = None
        if config.train.validate_every and opened.validation is not None:
            validation = Validation(training, opened.validation, program.strategy, frozen)
        trainer = Trainer(training, program, batches, opened, validation, run, archive, logger, loaded, callbacks)
        state = trainer.run_steps(program.strategy.from_canonical(state), first, window)
        state = program.strategy.to_canonical(state)
        trainer.show(int(state.step), state, final=True)
    return loaded(state.ema["ema"], state.extra)


def _start(training: Training, program: Program, start: PyTree) -> PyTree:
    """The parameters that a new run begins with; None for random ones.

    Raises:
      ValueError: they are not parameters of the model, or of one that its network holds.
    """
    name, config = "start", training.config
    if config.train.start_from is not None:
        name = "train.start_from"
        with at(name):
            start = load(config.train.start_from).params
    _warn_of_random(training, start)
    if start is None:
        return None
    begun, fresh = dict(start), program.shapes.params
    if "model" in start:
        begun["model"] = jax.eval_shape(training.bound.begun, fresh["model"], start["model"])
    wanted = {group: jax.tree.map(jnp.shape, fresh.get(group)) for group in start}
    good = jax.tree.map(jnp.shape, begun) == wanted
    require(good, name, config.train.start_from or "other parameters", "parameters with the shapes of the model's own")
    return jax.tree.map(jnp.asarray, start)


def _warn_of_random(training: Training, start: PyTree) -> None:
    """Warns of a network that is frozen but for a part, such as the U-Net in a ControlNet, and was never trained."""
    network = training.bound.network
    if network.trained and (start is None or "model" not in start):
        kind = type(network).__name__
        frozen = f"{kind} trains the parameters {network.trained!r} alone, and all others stay random"
        warnings.warn(f"train.start_from is none: {frozen}; name a trained run", stacklevel=3)


def _check_start(first: int, config: Config, run: Run | None) -> None:
    """Raises a ValueError if training cannot go on after `first` finished steps."""
    last, each = config.train.steps, config.parallel.steps_per_call
    if first > last and run is not None:
        raise ValueError(
            f"train.steps = {last}; allowed are integers of at least {first}, the steps in {run.directory}"
        )
    if first % each:
        raise ValueError(f"parallel.steps_per_call = {each}; allowed are divisors of the {first} steps in the run")
