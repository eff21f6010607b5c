"""The steps of training, and the reports between them."""

import contextlib
import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from jaxdiff import data
from jaxdiff.data import Examples
from jaxdiff.distributed import hosts
from jaxdiff.distributed.stopping import stopping
from jaxdiff.logging.logger import Logger, SilentLogger
from jaxdiff.logging.profiling import Profiler
from jaxdiff.logging.throughput import Meter
from jaxdiff.runs.archive import Archive
from jaxdiff.runs.config import Config
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.directory import Run
from jaxdiff.runs.draw import picture
from jaxdiff.runs.load import make_model
from jaxdiff.runs.program import Program
from jaxdiff.runs.window import Window
from jaxdiff.training.state import State

# Calls of the step that the device may have unfinished. Without any, the device would be idle while the host prepares
# the next one; with many, the host would fill its memory with batches.
_IN_FLIGHT = 2


class DivergedError(ValueError):
    """The loss or the gradient of too many consecutive steps was not finite."""


@dataclasses.dataclass
class Trainer:
    """A run that is open and ready to train, in one process."""

    config: Config
    spec: DataSpec
    program: Program
    batches: data.Prefetched
    opened: Examples
    run: Run
    archive: Archive
    logger: Logger | SilentLogger

    def run_steps(self, state: State, first: int, window: Window) -> State:
        """Trains from the end of step `first` to the last step.

        Args:
          state: the state that the compiled step takes.
          window: the metrics of steps that have no line yet.

        Returns:
          The state after the last step.

        Raises:
          DivergedError: in `optimizer.max_skipped` consecutive steps the loss or the gradient was not finite.
          Stopped: a signal asked training to stop, and the run has been saved.
        """
        settings, strategy = self.config.train, self.program.strategy
        last, each = settings.steps, self.config.parallel.steps_per_call
        arrays: tuple[Any, ...] = ()
        if self.config.data.placement == "device":
            arrays = (strategy.place_whole(data.device_arrays(self.opened)),)
        traced = self.config.log.profile if hosts.first() else None
        meter = None
        with stopping() as stop, Profiler(self.run.directory / "profile", traced, each) as profiler:
            for number in range(first + each, last + 1, each):
                with profiler.step(number - each + 1, state):
                    state, metrics = self.program.call(state, next(self.batches), *arrays)
                window.append(metrics, _IN_FLIGHT)
                if _due(number, settings.log_every) or number == last:
                    self._log(number, window, meter)
                stopped = stop()
                drawn, snapped = _due(number, settings.sample_every), _due(number, settings.snapshot_every)
                saved = stopped or _due(number, settings.checkpoint_every) or number == last
                if drawn or snapped or saved:
                    with meter.pause(state) if meter else contextlib.nullcontext():
                        canonical = strategy.to_canonical(state)
                        if drawn:
                            self.logger.media(number, "samples", self.picture(number, canonical))
                        if snapped:
                            self.archive.take_snapshot(number, canonical)
                        if saved:
                            place = {"batches": self.batches.get_state(), "position": window.to_json()}
                            self.archive.save(number, canonical, place, window.loss, final=stopped or number == last)
                if stopped:
                    raise stop.reason
                if meter is None:
                    # The first call has compiled the step, and compilation is no part of the throughput.
                    jax.block_until_ready(state)
                    meter = self._meter(number)
        return state

    def picture(self, number: int, state: State) -> UInt8[np.ndarray, "h w 3"]:
        """Samples of the averaged parameters after step `number`. Every picture of a run begins with the same noise."""
        model = make_model(self.config, self.spec, state.ema["ema"], number)
        key = jax.random.key(self.config.train.seed + 1, impl="threefry2x32")
        return picture(model, key, self.config.sample, mesh=self.program.strategy.mesh)

    def _meter(self, number: int) -> Meter:
        devices = list(self.program.strategy.mesh.devices.flat)
        meter = Meter(self.config.train.batch_size, number, flops_per_step=self.program.flops, devices=devices)
        meter.rates(number, self.batches.waited)
        return meter

    def _log(self, number: int, window: Window, meter: Meter | None) -> None:
        """Writes one line of metrics, and checks that training has not diverged."""
        values = window.close()
        skips, limit = values.pop("consecutive_skips"), self.config.optimizer.max_skipped
        rates = meter.rates(number, self.batches.waited) if meter else {}
        self.logger.log(number, {**values, **rates})
        if skips >= limit:
            raise DivergedError(
                f"the loss or the gradient was not finite in {limit} consecutive steps (optimizer.max_skipped) by step "
                f"{number}: lower optimizer.learning_rate, or check the data"
            )


def _due(number: int, every: int) -> bool:
    """Whether step `number` is a multiple of `every`; never for 0."""
    return bool(every) and number % every == 0
