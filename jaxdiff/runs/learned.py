"""Restoration by a model that was trained for it: the degraded picture is one of its conditions (SR3, Palette)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxdiff.augmentations import Degrade
from jaxdiff.augmentations.degradations import Degradation, Grey, Hide, OneOf
from jaxdiff.checks import require
from jaxdiff.models import DiffusionModel, Sampling
from jaxdiff.runs.settings import Settings
from jaxdiff.runs.tasks import Picture, Problem


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a run was trained to restore.

    Attributes:
      condition: the name of the condition that is told the picture.
      field: the field of the pictures of this condition.
      reduction: the part of the scale that the condition itself makes.
      scale: how many times higher and wider the result is than the picture.
      steps: the degradations that the run has learned to undo.
      tasks: the names of the tasks that the run was trained for; empty if the settings of the run do not tell them.
    """

    condition: str
    field: str
    reduction: int
    scale: int
    steps: tuple[Degradation, ...]
    tasks: tuple[str, ...]

    def check(self, task: str | None, scale: int | None) -> None:
        """Raises a ValueError unless the run was trained for a task and for a scale. None is the task of the run."""
        known = ", ".join(self.tasks) or "none"
        require(task is None or task in self.tasks, "task", task, f"{known}, which the run was trained for")
        require(scale in (None, self.scale), "scale", scale, f"{self.scale}, since the run was trained for it")


def learned(settings: Settings, asked: Mapping[str, Any]) -> Learned | None:
    """What a run was trained to restore; None if it is told no picture, or if the picture is asked for by its name.

    Raises:
      ValueError: several conditions of the run are pictures, and more than one of them is not asked for.
    """
    config = settings.config
    conditions: Mapping[str, Any] = getattr(config.model, "conditions", {})
    names = [name for name, one in conditions.items() if one.channel == "planes" and name not in asked]
    if not names:
        return None
    allowed = f"pictures for all but one of the conditions {', '.join(names)}"
    require(len(names) == 1, "ask", ", ".join(asked) or "none", allowed)
    condition = conditions[names[0]]
    reduction = getattr(condition, "factor", 1)
    makers = [made for made in config.augmentations if isinstance(made, Degrade) and made.to == condition.field]
    scale = reduction * (makers[0].factor if makers else 1)
    steps = tuple(_each(makers[0].steps)) if makers else ()
    tasks = tuple(dict.fromkeys(step.task for step in steps if step.task is not None))
    if scale > 1:
        tasks = ("sr",)  # of pictures that are blurred or compressed too
    elif condition.field in settings.facts.fields and condition.field != getattr(config.model, "field", None):
        tasks = ("edit",)  # of pairs of pictures in the data
    return Learned(names[0], condition.field, reduction, scale, steps, tasks)


def _each(steps: Sequence[Degradation]) -> Iterator[Degradation]:
    """The degradations of a chain. Those of a random choice stand for themselves."""
    for step in steps:
        yield from _each(step.steps) if isinstance(step, OneOf) else (step,)


def restore(
    key: Key[Array, ""],
    model: DiffusionModel,
    how: Learned,
    picture: Picture,
    count: int,
    *,
    sampling: Sampling,
    task: str | None = None,
    problem: Problem | None = None,
    asked: Mapping[str, Any] | None = None,
) -> Float[np.ndarray, "count height width channels"]:
    """Samples of the picture that a user wants, in [-1, 1], by a model that is told the degraded picture.

    Saharia et al. 2021 (SR3, arXiv 2104.07636); Saharia et al. 2022 (Palette, arXiv 2111.05826).

    Args:
      key: a single key.
      model: the model.
      how: what the run of the model was trained to restore.
      picture: the degraded picture in [-1, 1], of the size of the pictures that the condition is told.
      count: the number of samples.
      sampling: the solver, the grid, its steps and the guidance.
      task: the task; None for that of the run.
      problem: what is known of the picture, for tasks with hidden pixels. These are covered as in training, and the
        known pixels of the result are those of the picture.
      asked: what else is asked for: one value by the name of a condition.

    Raises:
      ValueError: the picture has another size, or the model has no such condition.
    """
    cover_key, key = jax.random.split(key)
    if problem is not None and problem.kept is not None:
        step = next(step for step in how.steps if isinstance(step, Hide) and step.task == task)
        picture = np.asarray(step.covered(cover_key, jnp.asarray(problem.shown), jnp.asarray(~problem.kept)))
    if task == "colorize" or (task is None and how.tasks == ("colorize",)):
        picture = np.asarray(Grey().apply(cover_key, jnp.asarray(picture)))  # the user's picture may have colours
    height, width, _ = model.bound.fields[how.field].shape
    wanted = (width // how.reduction, height // how.reduction)
    allowed = f"{wanted}, that of the condition {how.condition}"
    require(picture.shape[1::-1] == wanted, "size of the picture", picture.shape[1::-1], allowed)
    told = {**(asked or {}), how.condition: picture}
    x = np.clip(model.sample(key, count, sampling=sampling, **told), -1, 1)
    if problem is not None and problem.kept is not None:
        x = np.where(problem.kept[..., None], problem.shown, x)
    return x


def shown(picture: Picture, like: Float[np.ndarray, "height width channels"]) -> Picture:
    """The picture in the size and the colours of a result, to look at."""
    if picture.shape[-1] != like.shape[-1]:
        picture = np.repeat(picture.mean(axis=-1, keepdims=True), like.shape[-1], axis=-1)
    return picture if picture.shape == like.shape else np.asarray(jax.image.resize(picture, like.shape, "cubic"))
