"""Restoration: samples of a picture, given what is known of it, from a trained diffusion model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxdiff import denoisers, posterior
from jaxdiff.checks import fraction, require
from jaxdiff.codecs import Pixels
from jaxdiff.denoisers import Denoiser
from jaxdiff.models import DiffusionModel, Sampling
from jaxdiff.posterior import operators
from jaxdiff.runs.methods import Setting, samples
from jaxdiff.runs.tasks import Problem

# The part of the shorter side of a tile that neighbouring tiles share.
SHARED = 3 / 8


def restore(
    key: Key[Array, ""],
    model: DiffusionModel,
    problem: Problem,
    count: int,
    *,
    sampling: Sampling,
    method: str = "mmps",
    std: float = 0.0,
    progress: bool = False,
    asked: Mapping[str, Any] | None = None,
) -> Float[np.ndarray, "count height width channels"]:
    """Samples of the picture that a user wants, in [-1, 1].

    A picture that is larger than those of the model is sampled in overlapping tiles (`denoisers.tiled`). A model with
    a codec is sampled in the space of the codec, with gradients through its decoder.

    Args:
      key: a single key.
      model: a diffusion model of one field, pictures.
      problem: what is known of the picture (`runs.tasks`).
      count: the number of samples.
      sampling: the solver, the grid, its steps and the guidance.
      method: the method, a name in `runs.methods`.
      std: the standard deviation of the observation's noise, in [-1, 1]; at least the problem's `doubt` counts.
      progress: whether to show a bar on standard error.
      asked: what is asked for: one value by the name of a condition.

    Raises:
      ValueError: the model is no model of pictures, the picture is smaller than the pictures of the model, or the
        method is unknown or does not fit the task.
    """
    check_model(model, problem.shape[-1])
    operator, process = problem.operator, model.process
    like = jax.eval_shape(model.latents, jax.ShapeDtypeStruct((1, *problem.shape), jnp.float32))
    if model.bound.settings.codec != Pixels():
        operator = operators.compose(operators.function(_Decode(model.bound), model.frozen), operator)
    denoiser = fitted(_denoiser(model, sampling, asked or {}), model.shape, like.shape[1:])
    times = sampling.times(process, denoiser)
    tableau = sampling.solver(process=process, times=times)
    shape = (count, *like.shape[1:])
    doubt = max(std, problem.doubt)
    setting = Setting(key, denoiser, operator, problem.observation, doubt, times, tableau, shape, progress)
    z = samples(method, setting)
    x = np.clip(np.asarray(_decode(model, z)), -1, 1)[:, problem.crop[0], problem.crop[1]]
    if problem.kept is not None and std <= problem.doubt:
        x = np.where(problem.kept[..., None], problem.shown, x)
    return x


def edit(
    key: Key[Array, ""],
    model: DiffusionModel,
    picture: Float[np.ndarray, "height width channels"],
    count: int,
    *,
    strength: float,
    sampling: Sampling,
    asked: Mapping[str, Any] | None = None,
) -> Float[np.ndarray, "count height width channels"]:
    """Samples that keep what noise leaves of a picture (SDEdit).

    Args:
      picture: a picture in [-1, 1].
      strength: how much is drawn anew, from 0 (nothing) to 1 (everything); see `posterior.editing.from_strength`.
      key, model, count, sampling, asked: as for `restore`.

    Raises:
      ValueError: as `restore`, or `strength` is outside of [0, 1].
    """
    fraction("strength", strength)
    check_model(model, picture.shape[-1])
    if strength == 0:
        return np.repeat(picture[None], count, axis=0)
    z = model.latents(jnp.asarray(picture[None], jnp.float32))
    denoiser = fitted(_denoiser(model, sampling, asked or {}), model.shape, z.shape[1:])
    times = posterior.editing.from_strength(sampling.times(model.process, denoiser), strength)
    drawn = posterior.editing.sdedit(key, denoiser, jnp.repeat(z, count, axis=0), sampling.solver(model.process, times))
    return np.clip(np.asarray(_decode(model, drawn)), -1, 1)


def _denoiser(model: DiffusionModel, sampling: Sampling, asked: Mapping[str, Any]) -> Denoiser:
    return model.denoiser(guidance=sampling.guidance if asked else sampling.guidance.unasked(), **asked)


def check_model(model: Any, channels: int | None = None) -> None:
    """Raises a ValueError unless a model draws pictures of one field, of so many channels."""
    good = isinstance(model, DiffusionModel) and isinstance(model.bound.settings.field, str)
    kind = type(model).__name__
    require(good and _channels(model) is not None, "run", kind, "runs of a diffusion model of pictures")
    wanted = _channels(model)
    require(channels in (None, wanted), "channels of the picture", channels, f"{wanted}, as the model")


def _channels(model: DiffusionModel) -> int | None:
    field = model.bound.fields[model.bound.settings.field]
    return field.shape[-1] if field.kind == "picture" else None


def fitted(denoiser: Denoiser, size: tuple[int, ...], wanted: tuple[int, ...]) -> Denoiser:
    """The denoiser of pictures of another size: itself, or one of overlapping tiles."""
    if wanted[:2] == size[:2]:
        return denoiser
    return denoisers.tiled(denoiser, (size[0], size[1]), overlap=int(SHARED * min(size[:2])))


@jax.jit
def _decode(model: DiffusionModel, z: Array) -> Array:
    return _Decode(model.bound)(model.frozen, z)


@dataclasses.dataclass(frozen=True)
class _Decode:
    """The decoder of a codec, as a function of its frozen parameters that is compared by value."""

    bound: Any

    def __call__(self, frozen: Any, z: Array) -> Array:
        decoded: Array = self.bound.decoded(frozen, z)[self.bound.settings.field]
        return decoded
