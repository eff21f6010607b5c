"""The training loop: a configuration in, a run directory out; run again, it goes on where it stopped."""

import contextlib
import dataclasses
import os
import warnings
from typing import Any

import jax
import numpy as np

from jaxdiff import averages, data
from jaxdiff.data import Examples
from jaxdiff.distributed import hosts
from jaxdiff.distributed.collectives import broadcast_from_first, on_all
from jaxdiff.distributed.stopping import stopping
from jaxdiff.logging.logger import Logger, SilentLogger, make_logger
from jaxdiff.logging.profiling import Profiler
from jaxdiff.logging.throughput import Meter
from jaxdiff.logging.weights_and_biases import import_wandb
from jaxdiff.media import pictures
from jaxdiff.runs.checkpoints import CheckpointError, Checkpoints
from jaxdiff.runs.compatibility import open_or_create
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.config_json import to_json
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.directory import Run, lock_run, write_config
from jaxdiff.runs.draw import picture
from jaxdiff.runs.load import Model, make_model
from jaxdiff.runs.program import Program, make_batches, make_program
from jaxdiff.runs.provenance import provenance
from jaxdiff.runs.recipe import describe_data, open_data
from jaxdiff.training.state import State

# Calls of the step that the device may be behind. With none it would be idle while the host prepares the next.
_IN_FLIGHT = 2


class DivergedError(ValueError):
    """Too many steps in a row had a loss or a gradient that is not finite."""


def train(config: Config, run_dir: str | os.PathLike[str]) -> Model:
    """Trains, or goes on training, the run in `run_dir`, and returns its model.

    The directory gets `config.json`, `checkpoints/`, `metrics.jsonl`, TensorBoard events and `samples/*.png` (see
    `training.runs`). If it holds the same run already, training goes on from its newest whole checkpoint, to the bit as
    if it had not stopped, on whatever devices there are. Only how often it reports may differ, how it is spread over
    devices, where the data lies, and, unless the learning rate falls to the end, how long it is. Interrupted or told to
    terminate, it saves before it goes.

    Of several processes (see `training.hosts`) every one calls it with the same arguments, and a directory that all of
    them see; the first alone writes metrics and pictures.

    Raises:
      ValueError, OSError: settings, data or directory that cannot be used; nothing that was there is harmed.
      ImportError: `log.wandb` without the package.
      DivergedError: the loss or gradient of `optimizer.max_skipped` steps in a row was not finite.
      Stopped: after a signal, once the run is saved.
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
        settings = config.train
        retained = {"keep": settings.keep, "keep_every": settings.keep_every, "keep_best": settings.keep_best}
        checkpoints = stack.enter_context(Checkpoints(run.checkpoints, **retained, version=provenance()))
        snapshots = stack.enter_context(Checkpoints(run.snapshots, keep_every=1, version=provenance()))
        position = Position()
        # As the first process sees it: a file system may show the others less, or later.
        if broadcast_from_first(lambda: len(checkpoints.steps())):
            restored = checkpoints.restore(program.shapes)
            state, first = restored.state, restored.step
            batches.set_state(restored.iterator_state["batches"])
            position = Position(**restored.iterator_state["position"])
        else:
            state, first = program.initialise(), 0
        _check_start(first, config, run)
        saved = saved_settings(config, spec)
        if hosts.first():
            write_config(run, saved)
        logger = make_logger(run.directory, settings.steps, first, wandb=config.log.wandb, config=saved)
        stack.enter_context(logger)
        session = Session(config, spec, program, batches, opened, run, checkpoints, snapshots, logger)
        state = program.strategy.to_canonical(session.run(program.strategy.from_canonical(state), first, position))
        model = make_model(config, spec, state.ema["ema"], settings.steps)
        final = picture(model, _picture_key(config), config.sample, mesh=program.strategy.mesh)
        if hosts.first():
            pictures.write_png(run.samples / "final.png", final)
    return model


def _check_start(first: int, config: Config, run: Run) -> None:
    last, each = config.train.steps, config.parallel.steps_per_call
    if first > last:
        raise ValueError(f"train.steps = {last}; the run in {run.directory} has {first} already: allowed are more")
    if first % each:
        raise ValueError(f"parallel.steps_per_call = {each}; allowed are divisors of the {first} steps made already")


@dataclasses.dataclass
class Position:
    """What a run holds beside its state and its place in the data.

    Attributes:
      window: the metrics of the steps since the last line of metrics.
      loss: of the last line, by which checkpoints are compared; None before the first.
    """

    window: list[Any] = dataclasses.field(default_factory=list)
    loss: float | None = None


@dataclasses.dataclass
class Session:
    """What a process has in hand between the start and the end of a run."""

    config: Config
    spec: DataSpec
    program: Program
    batches: data.Prefetched
    opened: Examples
    on_disk: Run
    checkpoints: Checkpoints
    snapshots: Checkpoints
    logger: Logger | SilentLogger

    def run(self, state: State, first: int, position: Position) -> State:
        """Trains from step `first` to the last."""
        settings, each = self.config.train, self.config.parallel.steps_per_call
        strategy, call, last = self.program.strategy, self.program.call, self.config.train.steps
        resident: tuple[Any, ...] = ()
        if self.config.data.placement == "device":
            resident = (strategy.place_whole(data.device_arrays(self.opened)),)
        meter = None
        traced = self.config.log.profile if hosts.first() else None
        with stopping() as stop, Profiler(self.on_disk.directory / "profile", traced, each) as profiler:
            for number in range(first + each, last + 1, each):
                with profiler.step(number - each + 1, state):
                    state, metrics = call(state, next(self.batches), *resident)
                position.window.append(metrics)
                if len(position.window) > _IN_FLIGHT:
                    # Further ahead of the device the host would only fill its memory with batches.
                    jax.block_until_ready(position.window[-1 - _IN_FLIGHT])
                if number % settings.log_every == 0 or number == last:
                    self._log(number, position, meter)
                told = stop()
                drawn = bool(settings.sample_every) and number % settings.sample_every == 0
                snapped = bool(settings.snapshot_every) and number % settings.snapshot_every == 0
                saved = told or number % settings.checkpoint_every == 0 or number == last
                if drawn or snapped or saved:
                    with meter.pause(state) if meter else contextlib.nullcontext():
                        whole = strategy.to_canonical(state)
                        if drawn:
                            self._draw(number, whole)
                        if snapped:
                            self._snap(number, whole)
                        if saved:
                            self._save(number, whole, position, final=told or number == last)
                if told:
                    raise stop.reason
                if meter is None:
                    # The first call has compiled the step, which is not training.
                    jax.block_until_ready(state)
                    meter = self._meter(number)
        return state

    def _meter(self, number: int) -> Meter:
        devices = list(self.program.strategy.mesh.devices.flat)
        flops = self.program.flops
        meter = Meter(self.config.train.batch_size, number, flops_per_step=flops, devices=devices)
        meter.rates(number, self.batches.waited)
        return meter

    def _log(self, number: int, position: Position, meter: Meter | None) -> None:
        """One line of metrics: means since the last one, over the steps that were not skipped. The device is waited for
        here.
        """
        rows = _numbers(position.window)
        made = [row for row in rows if not row["skipped"]] or rows
        values = {name: float(np.mean([row[name] for row in made])) for name in rows[0]}
        values["skipped"] = sum(row["skipped"] for row in rows)
        position.window, position.loss = [], values["loss"]
        values.pop("consecutive_skips")
        rates = meter.rates(number, self.batches.waited) if meter else {}
        self.logger.log(number, {**values, **rates})
        limit = self.config.optimizer.max_skipped
        if max(row["consecutive_skips"] for row in rows) >= limit:
            raise DivergedError(
                f"optimizer.max_skipped = {limit}; by step {number} the loss or gradient of as many steps in a row was "
                "not finite, and they were left out: lower optimizer.learning_rate, or look at the data"
            )

    def _draw(self, number: int, state: State) -> None:
        model = make_model(self.config, self.spec, state.ema["ema"], number)
        mesh = self.program.strategy.mesh
        self.logger.image(number, "samples", picture(model, _picture_key(self.config), self.config.sample, mesh=mesh))

    def _snap(self, number: int, state: State) -> None:
        # Those that are there are of this very run, from before it was interrupted.
        if number <= broadcast_from_first(lambda: max(self.snapshots.steps(), default=0)):
            return
        names = [averages.power_name(width) for width in self.config.train.ema_widths]
        averages = {name: state.ema[name] for name in names}
        for _ in range(2):
            try:
                self.snapshots.save(number, averages, config=self._saved())
                return
            except CheckpointError as error:  # of this snapshot or of the one before
                _warn(error)

    def _save(self, number: int, state: State, position: Position, *, final: bool) -> None:
        """Saves in the background, or, `final`, before it returns. A disk that is full now may have room later: only
        what must be saved stops the run.
        """
        position.window = _numbers(position.window)
        place = {"batches": self.batches.get_state(), "position": dataclasses.asdict(position)}
        for attempt in range(2):
            try:
                self.checkpoints.save(number, state, place, self._saved(), metric=position.loss)
                if final:
                    self.checkpoints.wait()
                return
            except CheckpointError as error:
                if final and attempt:
                    raise
                _warn(error)

    def _saved(self) -> dict[str, Any]:
        return saved_settings(self.config, self.spec)


def _warn(error: CheckpointError) -> None:
    if hosts.first():
        warnings.warn(f"{error}; training goes on", stacklevel=3)


def saved_settings(config: Config, spec: DataSpec) -> dict[str, Any]:
    """A run's `config.json`."""
    return {"config": to_json(config), "data": spec.to_json()}


def _numbers(window: list[Any]) -> list[dict[str, float]]:
    """Metrics of calls, which may have made several steps, as numbers for each step."""
    rows: list[dict[str, float]] = []
    for call in jax.device_get(window):
        columns = {name: np.atleast_1d(values).tolist() for name, values in call.items()}
        rows += [dict(zip(columns, step, strict=True)) for step in zip(*columns.values(), strict=True)]
    return rows


def _picture_key(config: Config) -> Any:
    """The same noise for every picture of a run, so that they can be compared."""
    return jax.random.key(config.train.seed + 1, impl="threefry2x32")
