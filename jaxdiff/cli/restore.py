"""Restores pictures with a trained model: `jaxdiff restore runs/photos cat.png --task inpaint --mask mask.png`."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float32, Key, UInt8
from PIL import Image

from jaxdiff import solvers
from jaxdiff.checks import fraction, integer, not_negative, one_of, require
from jaxdiff.cli import command_line, compilation_cache, run_defaults
from jaxdiff.cli.sample import read_wishes
from jaxdiff.components import Table, at, choose
from jaxdiff.data.picture_files import read_alpha, read_picture
from jaxdiff.data.pixels import to_uint8, to_unit
from jaxdiff.distributed.reporting import reporting_errors
from jaxdiff.files import write_output
from jaxdiff.media.metadata import with_origin
from jaxdiff.media.pictures import grid, png_bytes
from jaxdiff.models import Sampling, compressed
from jaxdiff.models.compressed import Weights
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.settings import read_settings

# The settings of each task, which posterior sampling needs.
OPTIONS: dict[str, tuple[str, ...]] = {
    "inpaint": ("mask",),
    "outpaint": ("pixels",),
    "sr": ("scale",),
    "jpeg": ("quality",),
    "deblur": ("blur",),
    "colorize": (),
    "edit": ("strength",),
}
# The settings that a task needs even if the run was trained for it.
ALWAYS: dict[str, tuple[str, ...]] = {"inpaint": ("mask",), "outpaint": ("pixels",)}
TaskName = Literal["inpaint", "outpaint", "sr", "jpeg", "deblur", "colorize", "edit"]
METHOD = "mmps"  # of posterior sampling, at first


@dataclasses.dataclass(frozen=True)
class Arguments(Sampling):
    """A run, pictures, and a task. Grid, steps and guidance are those of the run at first.

    So is the solver of a run that was trained to restore. For other runs the solver is ddpm at first.
    """

    run: Path = dataclasses.field(kw_only=True, metadata={"positional": True})
    """The run directory of a diffusion model of pictures."""
    images: tuple[Path, ...] = dataclasses.field(kw_only=True, metadata={"positional": True})
    """The pictures: PNG, JPEG, WebP, TIFF, BMP, GIF or PPM files of any size."""
    task: TaskName | None = None
    """The task: inpaint (with a mask), outpaint, sr (super-resolution), jpeg, deblur, colorize, or edit; none for what
    the run was trained to restore."""
    mask: Path | None = None
    """inpaint: a picture of the same size, white where pixels are filled in, and black where they are kept."""
    pixels: int | None = None
    """outpaint: the number of pixels that are added on each side."""
    scale: int | None = None
    """sr: how many times larger both sides become."""
    quality: int | None = None
    """jpeg: the quality of the JPEG file, from 1 to 100."""
    blur: float | None = None
    """deblur: the standard deviation of the Gaussian blur, in pixels."""
    strength: float | None = None
    """edit: how much of the picture is drawn anew, from 0 (nothing) to 1 (everything)."""
    noise: float = 0.0
    """The standard deviation of the noise in the pictures, in grey levels of 255."""
    method: Literal["mmps", "pigdm", "tmpd", "dps", "diffpir", "ddnm", "ddnm_plus", "ddrm", "ddrm_jpeg"] | None = None
    """The method of posterior sampling, mmps at first; none for a run that was trained to restore. docs/posterior.md
    says which method is for what."""
    ask: dict[str, str] = dataclasses.field(default_factory=Table)
    """Values that are asked for, NAME=VALUE by the name of a condition."""
    count: int = 4
    """The number of samples of each picture. The first sample is the restored picture."""
    seed: int = 0
    """The seed of the noise."""
    ema: float | str | None = "ema"
    """The average of the parameters: a name, a relative width made from the run's snapshots, or none."""
    weights: Weights = "float32"
    """How the weights are stored: in fewer bits to save memory."""
    part: dict[str, str] = dataclasses.field(default_factory=Table)
    """Where parts of the run have moved: NAME=PATH, the setting that names the part and its new place."""
    out: Path = Path("restored")
    """The directory of the results. It is made if there is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        integer("count", self.count)
        integer("seed", self.seed, least=0, most=2**32 - 1)
        not_negative("noise", self.noise)
        require(self.images, "images", "none", "the paths of pictures")
        one_of("task", self.task, (*OPTIONS, None))
        own = OPTIONS[self.task] if self.task else ()
        for name in sorted({name for options in OPTIONS.values() for name in options}):
            value = getattr(self, name)
            require(value is None or name in own, name, value, f"none, since the task is {self.task or 'not said'}")
        if self.strength is not None:
            fraction("strength", self.strength)
        stems = [image.stem for image in self.images]
        twice = next((stem for stem in stems if stems.count(stem) > 1), None)
        require(twice is None, "images", f"two pictures {twice!r}", "pictures of different names, as results are")


def restore(arguments: Arguments) -> None:
    """Restores pictures, and writes for each one the restored picture and a sheet for comparison.

    Raises:
      ValueError: an argument does not fit the run or the pictures. Nothing is written then.
    """
    out = arguments.out
    require(out.is_dir() or not out.exists(), "out", out, "directories, or a new path")
    compilation_cache.enable()

    from jaxdiff.runs.learned import learned
    from jaxdiff.runs.load import load_at
    from jaxdiff.runs.origin import origin
    from jaxdiff.runs.restore import check_model

    how = learned(read_settings(open_run(arguments.run)), arguments.ask)
    _check_task(arguments, how)
    step, model = load_at(arguments.run, ema=arguments.ema, parts=arguments.part, guidance=arguments.guidance)
    model = compressed(model, arguments.weights)
    check_model(model)
    told, asked = read_wishes(arguments.ask, model.bound.conditioning)
    channels = model.bound.fields[how.field if how else model.bound.settings.field].shape[-1]
    read = [(path, to_unit(read_picture(path, channels)), read_alpha(path)) for path in arguments.images]
    key = jax.random.key(arguments.seed)
    of = origin(arguments.run, step, seed=arguments.seed, ema=arguments.ema, conditions=told,
                sampling=command_line.narrowed(arguments, Sampling))  # fmt: skip
    options = {name: getattr(arguments, name) for name in OPTIONS.get(arguments.task or "", ())}
    options = {name: value.name if isinstance(value, Path) else value for name, value in options.items()}
    of |= {"task": arguments.task, **options}
    of |= {"condition": how.condition} if how else {"method": arguments.method or METHOD, "noise": arguments.noise}
    files: dict[str, bytes] = {}
    for number, (path, picture, alpha) in enumerate(read):
        made = _restored(jax.random.fold_in(key, number), arguments, model, how, asked, path, picture, alpha)
        named = {path.stem + end: png_bytes(pixels) for end, pixels in made.items()}
        files |= with_origin(named, {**of, "picture": path.name})
    out.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        write_output(out / name, contents)
        print(out / name)


def _check_task(arguments: Arguments, how: Any) -> None:
    """Raises a ValueError unless the run does the task, by posterior sampling or as it was trained (`how`)."""
    task = arguments.task
    if how is None:
        one_of("task", task, OPTIONS)
    else:
        how.check(task, arguments.scale)
        require(arguments.method is None, "method", arguments.method, "none, since the run was trained to restore")
        require(not arguments.noise, "noise", arguments.noise, "0, since the run was trained to restore")
    needed = (OPTIONS if how is None else ALWAYS).get(task or "", ())
    for name in OPTIONS.get(task or "", ()):
        value = getattr(arguments, name)
        require(value is not None or name not in needed, name, "none", f"values, since the task is {task}")
        told = how is None or name in needed or name == "scale"
        require(value is None or told, name, value, f"none, since the run was trained for the task {task}")


def _restored(
    key: Key[Array, ""],
    arguments: Arguments,
    model: Any,
    how: Any,
    asked: dict[str, Any],
    path: Path,
    picture: Float32[np.ndarray, "h w c"],
    alpha: UInt8[np.ndarray, "h w"] | None,
) -> dict[str, np.ndarray]:
    """The pictures that are written for one picture, by the end of their names."""
    with at(str(path)):
        if how is None:
            samples, shown = _by_posterior(key, arguments, model, asked, picture)
        else:
            samples, shown = _as_trained(key, arguments, model, how, asked, picture)
    mean, spread = samples.mean(axis=0), samples.std(axis=0).mean(axis=-1, keepdims=True)
    spread = np.clip(2 * np.repeat(spread, samples.shape[-1], axis=-1) - 1, -1, 1)
    cells = {"input": shown, "mean": mean, "spread": spread}
    cells |= {f"sample {i + 1}": sample for i, sample in enumerate(samples)}
    sheet = grid(np.stack(list(cells.values())), min(len(cells), 4), captions=list(cells))
    return {
        ".png": _with_alpha(to_uint8(samples[0]), alpha, arguments.pixels or 0),
        ".mean.png": to_uint8(mean),
        ".sheet.png": sheet,
    }


def _by_posterior(
    key: Key[Array, ""], arguments: Arguments, model: Any, asked: dict[str, Any], picture: Float32[np.ndarray, "h w c"]
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of the posterior, and the degraded picture in their size."""
    from jaxdiff.runs.restore import edit, restore

    sampling = command_line.narrowed(arguments, Sampling)
    std = 2 * arguments.noise / 255
    scale, border = arguments.scale or 1, arguments.pixels or 0
    height, width = (scale * side + 2 * border for side in picture.shape[:2])
    # A picture that is smaller than those of the model is continued at its right and its lower end.
    least = model.bound.fields[model.bound.settings.field].shape[:2]
    spare = [0 if border else max(0, -(-a // scale) - b) for a, b in zip(least, picture.shape, strict=False)]
    wide = np.pad(picture, ((0, spare[0]), (0, spare[1]), (0, 0)), mode="symmetric")
    if arguments.strength is not None:
        shown, strength = wide, arguments.strength
        samples = edit(key, model, wide, arguments.count, strength=strength, sampling=sampling, asked=asked)
    else:
        problem = _problem(arguments, wide, picture.shape[:2])
        shown, method = problem.shown, arguments.method or METHOD
        samples = restore(
            key, model, problem, arguments.count,
            sampling=sampling, method=method, std=std, progress=sys.stderr.isatty(), asked=asked,
        )  # fmt: skip
    return samples[:, :height, :width], shown[:height, :width]


def _as_trained(
    key: Key[Array, ""],
    arguments: Arguments,
    model: Any,
    how: Any,
    asked: dict[str, Any],
    picture: Float32[np.ndarray, "h w c"],
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a model that is told the degraded picture, and this picture in their size."""
    from jaxdiff.runs import learned

    problem = _problem(arguments, picture, picture.shape[:2]) if arguments.task in ALWAYS else None
    sampling = command_line.narrowed(arguments, Sampling)
    samples = learned.restore(
        key, model, how, picture, arguments.count, sampling=sampling, task=arguments.task, problem=problem, asked=asked
    )
    return samples, learned.shown(problem.shown if problem else picture, samples[0])


def _problem(arguments: Arguments, picture: Float32[np.ndarray, "h w c"], size: tuple[int, int]) -> Any:
    """The task of the arguments, for a picture of which the first `size` pixels are the user's."""
    from jaxdiff.runs import tasks

    if arguments.mask is None:
        task = str(arguments.task)
        return tasks.TASKS[task](picture, **{name: getattr(arguments, name) for name in OPTIONS[task]})
    hidden = read_picture(arguments.mask, 1)[..., 0] > 127
    require(hidden.shape == size, "size of the mask", hidden.shape[::-1], f"{size[::-1]}, that of the picture")
    return tasks.inpaint(picture, np.pad(hidden, [(0, a - b) for a, b in zip(picture.shape, size, strict=False)]))


def _with_alpha(
    picture: UInt8[np.ndarray, "H W c"], alpha: UInt8[np.ndarray, "h w"] | None, border: int
) -> UInt8[np.ndarray, "H W d"]:
    """A picture with the transparency of the user's picture. What is painted around it is opaque."""
    if alpha is None:
        return picture
    height, width = (side - 2 * border for side in picture.shape[:2])
    inner = np.asarray(Image.fromarray(alpha).resize((width, height), Image.Resampling.BICUBIC))
    opaque = np.pad(inner, border, constant_values=255)
    return np.concatenate([np.repeat(picture, 3 // picture.shape[-1], axis=-1), opaque[..., None]], axis=-1)


def _solver(config: Config | None) -> dict[str, Any]:
    """The solver at first, where it is not that of the run: of runs that are told no picture."""
    conditions: Mapping[str, Any] = getattr(config.model, "conditions", {}) if config else {}
    if any(condition.channel == "planes" for condition in conditions.values()):
        return {}
    # The noise of ancestral steps corrects the errors that the methods make at high noise.
    return {"solver": choose(solvers.ddpm)}


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line and restores."""
    description = "Restores and edits pictures with a diffusion model of pictures."
    with reporting_errors():
        restore(run_defaults.parse(Arguments, argv, prog="jaxdiff restore", description=description, others=_solver))
