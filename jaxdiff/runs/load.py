"""From a run directory to a model."""

import dataclasses
import os
from collections.abc import Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff.averages import power_name
from jaxdiff.checks import one_of, require
from jaxdiff.distributed import all_devices
from jaxdiff.guidance import Guidance
from jaxdiff.models.model import with_state
from jaxdiff.runs import snapshots
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import Run, open_run
from jaxdiff.runs.parts import Parts, check_parts
from jaxdiff.runs.provenance import provenance
from jaxdiff.runs.recipe import bind, initial_values, load_frozen
from jaxdiff.runs.settings import in_file, parts_of, read_settings
from jaxdiff.training.state import averaged


def load(
    run: str | os.PathLike[str],
    *,
    ema: str | float | None = "ema",
    step: int | None = None,
    parts: Mapping[str, str | os.PathLike[str]] | None = None,
    model: Any = None,
    guidance: Guidance | None = None,
) -> Any:
    """Loads a trained run as a model.

        model = jd.load("runs/digits")
        tableau = jd.solvers.ddim(model.process, jd.grids.uniform_time(model.process, 50))
        x = jd.prior_sample(key, model.process, (16, *model.shape))
        digits = jax.jit(jd.sample)(key, model.denoiser(label=3, guidance=2.0), x, tableau)

    Args:
      run: the run directory.
      ema: the name of an average of the parameters; None for the parameters themselves; or a number for the
        power-function average of this relative width, made from the run's snapshots (`training.posthoc_ema`).
      step: the step of the checkpoint or snapshot; None for the newest whole one.
      parts: where the parts of the run have moved, by the path of their setting or its last name.
      model: the model that was trained, or its network: for a run of `jd.fit` with a network of your own, which JSON
        cannot name.
      guidance: the rule by which the model draws samples, with the runs that it names; None for that of the run.

    Returns:
      The model of the run's kind, such as `models.DiffusionModel`: a pytree whose weights are leaves.

    Raises:
      ValueError: the run, the average or the step does not exist, no checkpoint is whole, the snapshots cannot give the
        width, a part is absent or another one, or the model has to be given again or is another one.
    """
    return load_at(run, ema=ema, step=step, parts=parts, model=model, guidance=guidance)[1]


def load_at(
    run: str | os.PathLike[str],
    *,
    ema: str | float | None = "ema",
    step: int | None = None,
    parts: Mapping[str, str | os.PathLike[str]] | None = None,
    model: Any = None,
    guidance: Guidance | None = None,
    above: tuple[Path, ...] = (),
) -> tuple[int, Any]:
    """The step of the weights of a trained run, and its model.

    The arguments and errors are those of `load`. `above` are the runs of which this run is a part.
    """
    opened = open_run(run)
    config, facts, places, _ = read_settings(opened, model)
    trained = parts_of(config)
    if guidance is not None:
        config = dataclasses.replace(config, sample=dataclasses.replace(config.sample, guidance=guidance))
    # A part of another rule of guidance has neither a place nor a checksum yet.
    same = {name for name, value in parts_of(config).items() if trained.get(name) == value}
    places = {name: place for name, place in places.items() if name in same}
    all_devices()
    above = (*above, opened.directory.resolve())
    require(len({*above}) == len(above), "run", str(opened.directory), "runs that are no part of themselves")
    needed = Parts(config, lambda part: load_at(part, above=above)[1], parts, places)
    frozen = load_frozen(config, needed.open)
    guides = config.sample.guidance.load(needed.open)
    found = {name: checksum for name, checksum in needed.checksums().items() if name in same}
    check_parts(facts.parts, found, needed.places)
    with in_file(opened.config):
        bound = bind(config, facts.fields, frozen)
        params, extra = jax.eval_shape(partial(initial_values, config, bound), jax.random.key(0), frozen)
    if isinstance(ema, Real):
        at, params = _reconstructed(opened, config, float(ema), step, averaged(params))
    else:
        at, params = _stored(opened, config, ema, step, params)
    params, extra = jax.tree.map(jnp.asarray, (params, _extra(opened, at, extra)))
    frozen = {**frozen["model"], "guidance": guides}
    return at, bound.loaded(with_state(params, extra), frozen, extra, config.sample)


def _reconstructed(run: Run, config: Config, width: float, step: int | None, shapes: PyTree) -> tuple[int, PyTree]:
    """The step and the average of a width that the snapshots give."""
    at, average, _ = snapshots.reconstruct(run, config.train.ema_widths, width, step)
    good = jax.tree.map(jnp.shape, average) == jax.tree.map(jnp.shape, shapes)
    require(good, "the snapshots", str(run.snapshots), f"averages of the model in {run.config}")
    return at, average


def _stored(run: Run, config: Config, ema: Any, step: int | None, shapes: PyTree) -> tuple[int, PyTree]:
    """The step, and the parameters (`ema` is None) or an average of training or of `snapshots.store`."""
    if ema is None:
        with Checkpoints(run.checkpoints, version=provenance()) as checkpoints:
            return checkpoints.restore_part(["params"], shapes, step)
    trained = ["ema", *map(power_name, config.train.ema_widths), *config.objective.averages()]
    made = snapshots.averages_made(run)
    one_of("ema", ema, trained + made)
    with Checkpoints(run.checkpoints if ema in trained else run.averages / ema, version=provenance()) as checkpoints:
        return checkpoints.restore_part(["ema", ema], averaged(shapes), step)


def _extra(run: Run, step: int | None, shapes: PyTree) -> PyTree:
    """The mutable values of a run at a step, or at the newest step if this step has no checkpoint."""
    if not jax.tree.leaves(shapes):
        return shapes
    with Checkpoints(run.checkpoints, version=provenance()) as checkpoints:
        return checkpoints.restore_part(["extra"], shapes, step if step in checkpoints.steps() else None)[1]
