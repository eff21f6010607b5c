"""Training: a configuration in, a run directory out. Called again, training resumes."""

import contextlib
import os

from jaxdiff.distributed import hosts
from jaxdiff.distributed.collectives import on_all
from jaxdiff.logging.logger import make_logger
from jaxdiff.logging.weights_and_biases import import_wandb
from jaxdiff.media import pictures
from jaxdiff.runs.archive import open_archive
from jaxdiff.runs.compatibility import open_or_create
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.directory import Run, lock_run, write_config
from jaxdiff.runs.load import Model, make_model
from jaxdiff.runs.program import make_batches, make_program
from jaxdiff.runs.recipe import describe_data, open_data
from jaxdiff.runs.settings import saved_settings
from jaxdiff.runs.trainer import Trainer
from jaxdiff.runs.window import Window


def train(config: Config, run_dir: str | os.PathLike[str]) -> Model:
    """Trains the run in `run_dir`, or resumes it, and returns its model.

    The directory gets `config.json`, `checkpoints/`, `metrics.jsonl`, TensorBoard events and `samples/*.png` (see
    `runs.directory`). If it holds the same run already, training resumes from the newest whole checkpoint, on any
    devices, and gives the same bits as a run without interruption. `compatibility` says which settings may differ.
    After Ctrl-C or SIGTERM, the run is saved before `train` raises.

    With several processes (see `distributed.hosts`), every process calls `train` with the same arguments, and all see
    the same directory. Only the first process writes metrics and pictures.

    Raises:
      ValueError, OSError: settings, data or the directory cannot be used. Nothing in the directory has been harmed.
      ImportError: `log.wandb` is set and the package is not installed.
      DivergedError: in `optimizer.max_skipped` consecutive steps the loss or the gradient was not finite.
      Stopped: a signal asked training to stop, and the run has been saved.
    """
    check(config)
    if config.log.wandb is not None:
        import_wandb(config.log.wandb)
    opened = open_data(config.data)
    spec = describe_data(config, opened)
    program = make_program(config, spec)
    batches = make_batches(config, opened, program.strategy)
    run = on_all(lambda: open_or_create(run_dir, config, spec))
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(batches))
        on_all(lambda: stack.enter_context(lock_run(run)) if hosts.first() else None)
        archive = stack.enter_context(open_archive(run, config, spec))
        if (restored := archive.restore(program.shapes)) is not None:
            state, first = restored.state, restored.step
            batches.set_state(restored.iterator_state["batches"])
            window = Window.from_json(restored.iterator_state["position"])
        else:
            state, first, window = program.initialise(), 0, Window()
        _check_start(first, config, run)
        saved = saved_settings(config, spec)
        if hosts.first():
            write_config(run, saved)
        logger = make_logger(run.directory, config.train.steps, first, wandb=config.log.wandb, config=saved)
        stack.enter_context(logger)
        trainer = Trainer(config, spec, program, batches, opened, run, archive, logger)
        state = trainer.run_steps(program.strategy.from_canonical(state), first, window)
        state = program.strategy.to_canonical(state)
        final = trainer.picture(config.train.steps, state)
        if hosts.first():
            pictures.write_png(run.samples / "final.png", final)
    return make_model(config, spec, state.ema["ema"], config.train.steps)


def _check_start(first: int, config: Config, run: Run) -> None:
    """Raises a ValueError if training cannot go on after `first` finished steps."""
    last, each = config.train.steps, config.parallel.steps_per_call
    if first > last:
        raise ValueError(
            f"train.steps = {last}; allowed are integers of at least {first}, the steps in {run.directory}"
        )
    if first % each:
        raise ValueError(f"parallel.steps_per_call = {each}; allowed are divisors of the {first} steps in the run")
