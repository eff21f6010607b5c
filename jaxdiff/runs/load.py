"""From a run directory to a denoiser."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff import denoisers, guidance
from jaxdiff.averages import power_name
from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Parametrization
from jaxdiff.processes import Process
from jaxdiff.runs import snapshots
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.config_json import from_json
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.directory import Run, open_run, read_config
from jaxdiff.runs.provenance import provenance


@dataclasses.dataclass(frozen=True)
class LabelledApply:
    """A network whose condition is a class label, given one label for the whole batch or one per example."""

    apply: Callable[..., PyTree]

    def __call__(self, params: PyTree, x: Any, time: Any, cond: Any = None) -> PyTree:
        return self.apply(params, x, time, None if cond is None else jnp.broadcast_to(cond, (len(x),)))


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained network and all that is needed to sample from it.

    Attributes:
      process, parametrization: what it was trained on and to predict.
      apply, params: the network; `apply(params, x, time[, cond])`.
      shape: of one example.
      num_classes: 0 for a model without labels.
      class_names: in the order of the labels, or empty.
      step: how long it was trained.
      config: how.
    """

    process: Process
    parametrization: Parametrization
    apply: Callable[..., PyTree]
    params: PyTree
    shape: tuple[int, ...]
    num_classes: int
    class_names: tuple[str, ...]
    step: int
    config: Config

    def denoiser(self, label: Any = None, guidance_scale: float = 1.0) -> Denoiser:
        """The denoiser of one class, of one class per example, or of the whole distribution.

        Args:
          label: an integer, `[batch]` integers, or None for all classes together.
          guidance_scale: classifier-free guidance towards the label; 1 for none.

        Raises:
          ValueError: a label that the model does not have, or guidance without a label.
        """
        if self.num_classes == 0:
            if label is not None or guidance_scale != 1.0:
                given = f"label = {label}, guidance_scale = {guidance_scale}"
                raise ValueError(f"{given}; the model has no classes, and allows None and 1")
            return denoisers.from_network(self.process, self.parametrization, self.apply, self.params)
        null = jnp.asarray(self.num_classes, jnp.int32)

        def conditioned(cond: Any) -> Denoiser:
            return denoisers.from_network(self.process, self.parametrization, self.apply, self.params, cond)

        if label is None:
            if guidance_scale not in (0.0, 1.0):
                raise ValueError(f"guidance_scale = {guidance_scale} needs a label")
            return conditioned(null)
        labels = np.asarray(label)
        if labels.dtype.kind not in "iu" or labels.ndim > 1 or not np.all((labels >= 0) & (labels < self.num_classes)):
            raise ValueError(f"label = {label}; allowed are integers from 0 to {self.num_classes - 1}, one or [batch]")
        cond = conditioned(jnp.asarray(labels, jnp.int32))
        if guidance_scale == 1.0:
            return cond
        return guidance.classifier_free(cond, conditioned(null), guidance_scale)


def make_model(config: Config, spec: DataSpec, params: PyTree, step: int) -> Model:
    """The model of a configuration and the facts about its data."""
    network = make_network(config, spec)
    return Model(
        process=config.diffusion.make_process(),
        parametrization=config.diffusion.make_parametrization(),
        apply=LabelledApply(network.apply),
        params=params,
        shape=spec.shape,
        num_classes=spec.num_classes,
        class_names=spec.class_names,
        step=step,
        config=config,
    )


def make_network(config: Config, spec: DataSpec) -> Any:
    """The network of a configuration, told of as many classes and augmentations as the data has."""
    told = {"num_classes": spec.num_classes, "augmentation_features": spec.augmentation_features}
    return config.network.clone(**told)


def read_settings(run: Run) -> tuple[Config, DataSpec]:
    """The settings of a run and the facts about its data.

    Raises:
      ValueError: `config.json` cannot be read, or does not fit this version.
    """
    saved = read_saved(run)
    try:
        config, spec = from_json(saved["config"]), DataSpec.from_json(saved["data"])
        check(config)
    except ValueError as error:
        raise ValueError(f"{run.config}: {error}") from error
    return config, spec


def read_saved(run: Run) -> dict[str, Any]:
    """A run's `config.json`: its settings under "config", what is known of its data under "data".

    Raises:
      ValueError: it cannot be read, or is something else's.
    """
    saved = read_config(run)
    if set(saved) != {"config", "data"}:
        raise ValueError(f"{run.config}: is not the configuration of a run; allowed are the parts 'config' and 'data'")
    return saved


def load(run: str | os.PathLike[str], *, ema: str | float | None = "ema", step: int | None = None) -> Model:
    """A trained run, ready to sample from.

        model = jd.load("runs/digits")
        tableau = jd.solvers.ddim(model.process, jd.grids.uniform_time(model.process, 50))
        x = jd.prior_sample(key, model.process, (16, *model.shape))
        digits = jax.jit(jd.sample)(key, model.denoiser(label=3, guidance_scale=2.0), x, tableau)

    Args:
      run: the run directory.
      ema: which average of the parameters, by its name; None for the parameters themselves; a number for the
        power-function average of this relative width, made out of the run's snapshots (see `training.averages`).
      step: which checkpoint, or snapshot; None for the newest whole one.

    Raises:
      ValueError: no such run, no such average, no whole checkpoint in it, or a width that its snapshots cannot give;
        one line that says which.
    """
    opened = open_run(run)
    config, spec = read_settings(opened)
    if isinstance(ema, (int, float)):
        at, params, _ = snapshots.reconstruct(opened, config.train.ema_widths, ema, step)
    else:
        at, params = _stored(opened, config, ema, step)
    return make_model(config, spec, jax.tree.map(jnp.asarray, params), at)


def _stored(run: Run, config: Config, ema: str | None, step: int | None) -> tuple[int, PyTree]:
    """The step and the parameters, or the average of this name: one of the training's, or one made afterwards."""
    if ema is None:
        with Checkpoints(run.checkpoints, version=provenance()) as checkpoints:
            at, parts, _ = checkpoints.restore_parts(["params"], step)
        return at, parts["params"]
    trained = ["ema", *map(power_name, config.train.ema_widths)]
    made = snapshots.averages_made(run)
    if ema not in trained + made:
        raise ValueError(f"ema = {ema!r}; the run has {', '.join(trained + made)}")
    with Checkpoints(run.checkpoints if ema in trained else run.averages / ema, version=provenance()) as checkpoints:
        at, parts, _ = checkpoints.restore_parts(["ema"], step)
    return at, parts["ema"][ema]
