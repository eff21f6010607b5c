"""The steps of training, and the reports between them."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff import data, media
from jaxdiff.checks import one_line, takes
from jaxdiff.distributed import hosts
from jaxdiff.distributed.collectives import broadcast_from_first
from jaxdiff.distributed.stopping import stopping
from jaxdiff.logging.logger import Logger, SilentLogger
from jaxdiff.logging.profiling import Profiler
from jaxdiff.logging.throughput import Meter
from jaxdiff.runs.archive import Archive
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import Run
from jaxdiff.runs.opened import Opened
from jaxdiff.runs.origin import origin
from jaxdiff.runs.program import Program
from jaxdiff.runs.recipe import Training
from jaxdiff.runs.validation import Validation
from jaxdiff.runs.window import Window
from jaxdiff.training.state import State

# Calls of the step that the device may have unfinished. Without any, the device would be idle while the host prepares
# the next one; with many, the host would fill its memory with batches.
_IN_FLIGHT = 2


# A function `(step, metrics)` or `(step, metrics, model)` of the user's. `metrics` are those of the line, by name, and
# `model()` is the model so far, with averaged parameters, as `jd.load` returns it. Training ends if it returns true.
Callback = Callable[..., Any]


class DivergedError(ValueError):
    """The loss or the gradient of too many consecutive steps was not finite."""


@dataclasses.dataclass
class Trainer:
    """A run that is open and ready to train, in one process."""

    training: Training
    program: Program
    batches: data.Prefetched
    opened: Opened
    validation: Validation | None
    run: Run | None
    """Where files are written; None for no files, and then there is no archive either."""
    archive: Archive | None
    logger: Logger | SilentLogger
    loaded: Callable[[PyTree, PyTree], Any]
    """Makes the model that is shown, of an average and the mutable values of the objective."""
    callbacks: Sequence[Callback] = ()
    """The user's functions, which are called with every line of metrics."""

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.training.config

    def run_steps(self, state: State, first: int, window: Window) -> State:
        """Trains from the end of step `first` to the last step.

        Args:
          state: the state that the compiled step takes.
          window: the metrics of steps that have no line yet.

        Returns:
          The state after the last step.

        Raises:
          DivergedError: in `optimizer.max_skipped` consecutive steps the loss or the gradient was not finite.
          RunError: the run directory has been moved or deleted.
          Stopped: a signal asked training to stop, and the run has been saved.
        """
        settings, strategy = self.config.train, self.program.strategy
        last, each = settings.steps, self.config.parallel.steps_per_call
        arrays: tuple[Any, ...] = ()
        if self.config.loading.placement == "device":
            arrays = (strategy.place_whole(data.device_arrays(self.opened.training)),)
        traced = self.config.log.profile if hosts.first() and self.run is not None else None
        meter = None
        directory = "profile" if self.run is None else self.run.directory / "profile"
        with stopping() as stop, Profiler(directory, traced, each) as profiler:
            for number in range(first + each, last + 1, each):
                with profiler.step(number - each + 1, state):
                    state, metrics = self.program.call(state, next(self.batches), self.program.frozen, *arrays)
                window.append(metrics, _IN_FLIGHT)
                validation = self.validation if _due(number, settings.validate_every) else None
                enough = False
                if _due(number, settings.log_every) or number == last or validation:
                    with meter.pause(state) if meter and validation else contextlib.nullcontext():
                        validated = validation(strategy.to_canonical(state)) if validation else {}
                    values = self._log(number, window, meter, validated)
                    enough = self._call_back(number, values, state)
                last = number if enough else last
                stopped = stop()
                drawn, snapped = _due(number, settings.sample_every), _due(number, settings.snapshot_every)
                saved = stopped or _due(number, settings.checkpoint_every) or number == last
                if drawn or snapped or saved:
                    if self.archive is not None:
                        self.archive.require_in_place()
                    with meter.pause(state) if meter else contextlib.nullcontext():
                        canonical = strategy.to_canonical(state)
                        if drawn:
                            self.show(number, canonical)
                        if snapped and self.archive is not None:
                            self.archive.take_snapshot(number, canonical)
                        if saved and self.archive is not None:
                            place = {"batches": self.batches.get_state(), "position": window.to_json()}
                            self.archive.save(number, canonical, place, window.judged, final=stopped or number == last)
                if stopped:
                    raise stop.reason
                if enough:
                    break
                if meter is None:
                    # The first call has compiled the step, and compilation is no part of the throughput.
                    jax.block_until_ready(state)
                    meter = self._meter(number)
        return state

    def show(self, number: int, state: State, *, final: bool = False) -> None:
        """Shows the averaged parameters after step `number`, in files. Every exhibit of a run has the same noise.

        A model that has nothing to show gives no files. An error is a warning, and does not end the run.

        Args:
          number: the number of finished steps.
          state: the canonical state.
          final: whether the files are those of the end of the run, `samples/final*`.
        """
        if self.run is None:
            return
        try:
            model = self.loaded(state.ema["ema"], state.extra)
            if hasattr(model, "exhibit"):
                seed = self.config.train.seed + 1
                key = jax.random.key(seed, impl="threefry2x32")
                x, captions = model.exhibit(key, self.opened.shown, self.program.strategy.mesh)
                if (lost := media.not_finite(x)) and hosts.first():
                    warnings.warn(f"step {number}: {lost}", stacklevel=2)
                files = self.config.data.show(x, self.training.bound.fields, captions)
                different = list(dict.fromkeys(captions))
                sampling = getattr(model, "sampling", None)
                of = origin(self.run.directory, number, seed=seed, ema="ema", conditions=different, sampling=sampling)
                files = media.with_origin(files, of)
                if not final:
                    self.logger.media(number, files)
                elif hosts.first():
                    named = {name.replace("samples", "final", 1): contents for name, contents in files.items()}
                    media.write(self.run.samples, named)
        except Exception as error:
            if hosts.first():
                warnings.warn(f"step {number} cannot be shown: {type(error).__name__}: {one_line(error)}", stacklevel=2)

    def _meter(self, number: int) -> Meter:
        devices = list(self.program.strategy.mesh.devices.flat)
        # A loss of the user's own may have no products of matrices at all.
        flops = self.program.flops or None
        meter = Meter(self.config.train.batch_size, number, flops_per_step=flops, devices=devices)
        meter.rates(number, self.batches.waited)
        return meter

    def _log(self, number: int, window: Window, meter: Meter | None, validated: dict[str, float]) -> dict[str, float]:
        """Writes one line of metrics, checks that training has not diverged, and returns the metrics."""
        values = window.close() | validated
        window.validation = validated.get("validation_loss", window.validation)
        skips, limit = values.pop("consecutive_skips"), self.config.optimizer.max_skipped
        rates = meter.rates(number, self.batches.waited) if meter else {}
        values |= rates
        self.logger.log(number, values)
        if skips >= limit:
            raise DivergedError(
                f"the loss or the gradient was not finite in {limit} consecutive steps (optimizer.max_skipped) by step "
                f"{number}: lower optimizer.learning_rate, or check the data"
            )
        return values

    def _call_back(self, number: int, values: dict[str, float], state: State) -> bool:
        """Calls the user's functions, and returns whether training shall end. The first process decides."""
        if not self.callbacks:
            return False

        def model() -> Any:
            # The step takes the buffers of the state for its own, and the user may keep the model.
            copied = jax.tree.map(jnp.copy, self.program.strategy.to_canonical(state))
            return self.loaded(copied.ema["ema"], copied.extra)

        given = (number, dict(values), model)
        enough = [bool(f(*given) if takes(f, 3) else f(*given[:2])) for f in self.callbacks]
        return bool(broadcast_from_first(lambda: int(any(enough))))


def _due(number: int, every: int) -> bool:
    """Whether step `number` is a multiple of `every`; never for 0."""
    return bool(every) and number % every == 0
