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
from jaxdiff.checks import one_of, require
from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Parametrization
from jaxdiff.processes import Process
from jaxdiff.runs import snapshots
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.runs.config import Config
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.directory import Run, open_run
from jaxdiff.runs.provenance import provenance
from jaxdiff.runs.settings import read_settings


@dataclasses.dataclass(frozen=True)
class LabelledApply:
    """The function of a network whose condition is a class label. One label may stand for the whole batch.

    Functions of equal networks are equal, so that a second model of a run is not compiled again.

    Attributes:
      network: a Linen module.
    """

    network: Any

    def __call__(self, params: PyTree, x: Any, time: Any, cond: Any = None) -> PyTree:
        return self.network.apply(params, x, time, None if cond is None else jnp.broadcast_to(cond, (len(x),)))


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained network and everything that sampling needs.

    Attributes:
      process: the diffusion process.
      parametrization: the network's inputs and target.
      apply: the network's function, `apply(params, x, time[, cond])`.
      params: the network's parameters, or an average of them.
      shape: the shape of one example.
      num_classes: the number of classes; 0 without labels.
      class_names: the names of the classes in the order of their labels; empty if they have no names.
      step: the number of training steps.
      config: the configuration of the run.
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
          label: an integer; integers `[batch]`; or None for the whole distribution.
          guidance_scale: the scale of classifier-free guidance towards the label; 1 for no guidance.

        Raises:
          ValueError: the model does not have the label, or there is guidance without a label.
        """
        if self.num_classes == 0:
            require(label is None, "label", label, "None, since the model has no classes")
            require(guidance_scale == 1, "guidance_scale", guidance_scale, "1, since the model has no classes")
            return denoisers.from_network(self.process, self.parametrization, self.apply, self.params)
        null = jnp.asarray(self.num_classes, jnp.int32)

        def conditional(cond: Any) -> Denoiser:
            return denoisers.from_network(self.process, self.parametrization, self.apply, self.params, cond)

        if label is None:
            require(guidance_scale in (0, 1), "guidance_scale", guidance_scale, "0 and 1 without a label")
            return conditional(null)
        labels = np.asarray(label)
        good = labels.dtype.kind in "iu" and labels.ndim <= 1 and np.all((labels >= 0) & (labels < self.num_classes))
        require(good, "label", label, f"integers from 0 to {self.num_classes - 1}, one or [batch]")
        towards = conditional(jnp.asarray(labels, jnp.int32))
        if guidance_scale == 1.0:
            return towards
        return guidance.classifier_free(towards, conditional(null), guidance_scale)


def make_model(config: Config, spec: DataSpec, params: PyTree, step: int) -> Model:
    """The model of a configuration, the facts about its data, and parameters after some step."""
    return Model(
        process=config.diffusion.make_process(),
        parametrization=config.diffusion.make_parametrization(),
        apply=LabelledApply(make_network(config, spec)),
        params=params,
        shape=spec.shape,
        num_classes=spec.num_classes,
        class_names=spec.class_names,
        step=step,
        config=config,
    )


def make_network(config: Config, spec: DataSpec) -> Any:
    """The network of a configuration, with the number of classes and augmentation features of the data."""
    facts: dict[str, Any] = {"num_classes": spec.num_classes, "augmentation_features": spec.augmentation_features}
    # A network is hashable, so that models can be compared. A user may have given a list.
    fields = {f.name: getattr(config.network, f.name) for f in dataclasses.fields(config.network)}
    facts |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return config.network.clone(**facts)


def load(run: str | os.PathLike[str], *, ema: str | float | None = "ema", step: int | None = None) -> Model:
    """Loads a trained run as a model to sample from.

        model = jd.load("runs/digits")
        tableau = jd.solvers.ddim(model.process, jd.grids.uniform_time(model.process, 50))
        x = jd.prior_sample(key, model.process, (16, *model.shape))
        digits = jax.jit(jd.sample)(key, model.denoiser(label=3, guidance_scale=2.0), x, tableau)

    Args:
      run: the run directory.
      ema: the name of an average of the parameters; None for the parameters themselves; or a number for the
        power-function average of this relative width, made from the run's snapshots (`training.posthoc_ema`).
      step: the step of the checkpoint or snapshot; None for the newest whole one.

    Raises:
      ValueError: the run, the average or the step does not exist, no checkpoint is whole, or the snapshots cannot give
        the width.
    """
    opened = open_run(run)
    config, spec = read_settings(opened)
    if isinstance(ema, (int, float)):
        at, params, _ = snapshots.reconstruct(opened, config.train.ema_widths, ema, step)
    else:
        at, params = _stored(opened, config, ema, step)
    return make_model(config, spec, jax.tree.map(jnp.asarray, params), at)


def _stored(run: Run, config: Config, ema: str | None, step: int | None) -> tuple[int, PyTree]:
    """The step, and the parameters (`ema` is None) or an average of training or of `snapshots.store`."""
    if ema is None:
        with Checkpoints(run.checkpoints, version=provenance()) as checkpoints:
            at, parts, _ = checkpoints.restore_parts(["params"], step)
        return at, parts["params"]
    trained = ["ema", *map(power_name, config.train.ema_widths)]
    made = snapshots.averages_made(run)
    one_of("ema", ema, trained + made)
    with Checkpoints(run.checkpoints if ema in trained else run.averages / ema, version=provenance()) as checkpoints:
        at, parts, _ = checkpoints.restore_parts(["ema"], step)
    return at, parts["ema"][ema]
