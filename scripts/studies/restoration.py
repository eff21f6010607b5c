"""Restores held-out pictures by every method, and says how well: `python scripts/studies/restoration.py RUN`.

For each task the pictures are degraded, and restored by a classical method and by the methods of `runs.restore`. The
columns of the table are

- `mean`: the PSNR in dB of the mean of the samples, which no single guess can beat on average;
- `sample`: the PSNR and the SSIM of the first samples;
- `distance`: the kernel distance of all samples to the other held-out pictures, with its standard error, on the logits
  of a classifier (`--classifier RUN`, a run of the model `Classifier` on clean pictures), on the features of Tiny
  Darknet (`--tiny-darknet tiny_darknet.npz`), or on pixels;
- `label`: the part of all samples to which the classifier gives the label of the picture;
- `seconds`: the seconds for a sample, with everything compiled.

`--learned box=RUN` adds a run that was trained for a task (box, sr, jpeg, deblur or colorize), as `learned`.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from skimage import metrics, restoration

import jaxdiff as jd
from jaxdiff import data, solvers
from jaxdiff.cli import command_line
from jaxdiff.components import Table, choose
from jaxdiff.evaluation import kernel_distance
from jaxdiff.guidance import ClassifierFree
from jaxdiff.interop.tensors import read_tensors
from jaxdiff.media.pictures import grid, write_png
from jaxdiff.networks import TinyDarknet
from jaxdiff.runs import learned, tasks
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.methods import METHODS
from jaxdiff.runs.restore import restore
from jaxdiff.runs.settings import read_settings
from jaxdiff.runs.tasks import Problem

QUALITY, SCALE, BLUR = 10, 4, 1.5


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The run, the pictures and the methods."""

    run: Path = dataclasses.field(metadata={"positional": True})
    """The run of a diffusion model of pictures."""
    classifier: Path | None = None
    """The run of a classifier of the same pictures."""
    tiny_darknet: Path | None = None
    """The weights of Tiny Darknet, an `.npz` file of `w0`, `b0` to `w15`, `b15`."""
    count: int = 32
    """The number of held-out pictures."""
    samples: int = 4
    """The number of samples of each picture."""
    default_samples: int = 16
    """The number of samples of each picture by the default method, mmps."""
    steps: int = 50
    """The number of steps."""
    methods: tuple[str, ...] = tuple(METHODS)
    """The methods."""
    tasks: tuple[str, ...] = ("box", "random", "sr", "jpeg", "deblur", "colorize")
    """The tasks."""
    learned: dict[str, Path] = dataclasses.field(default_factory=Table)
    """Runs that were trained to restore: TASK=RUN."""
    split: str = "test"
    """The part of the data that training has not seen."""
    part: dict[str, str] = dataclasses.field(default_factory=Table)
    """Where parts of the runs have moved: NAME=PATH."""
    out: Path | None = None
    """A directory for a sheet of pictures of each task."""


def masks(shape: tuple[int, int], task: str) -> np.ndarray:
    """The hidden pixels: a box in the middle of half of both sides, or seven of ten pixels at random."""
    if task == "random":
        return np.random.default_rng(0).uniform(size=shape) < 0.7
    hidden = np.zeros(shape, bool)
    hidden[shape[0] // 4 : -(shape[0] // 4), shape[1] // 4 : -(shape[1] // 4)] = True
    return hidden


def degraded(task: str, x: np.ndarray) -> tuple[Problem, np.ndarray, str, Callable[[np.ndarray], np.ndarray]]:
    """The problem of all pictures, the degraded pictures, and the name and the function of a classical method."""
    hidden = masks(x.shape[1:3], task) if task in ("box", "random") else None
    if hidden is not None:
        problems = [tasks.inpaint(picture, hidden) for picture in x]
        return *_together(problems), "biharmonic", lambda p: restoration.inpaint_biharmonic(p, hidden, channel_axis=-1)
    if task == "sr":
        operator = tasks.operators.bicubic(x.shape[1:3], SCALE)
        problems = [tasks.super_resolve(picture, SCALE) for picture in np.asarray(operator(jnp.asarray(x)))]
        return *_together(problems), "bicubic", lambda p: p
    if task == "jpeg":
        seen = np.asarray(tasks.operators.jpeg(QUALITY)(jnp.asarray(x)))
        problems = [tasks.restore_jpeg(picture, QUALITY) for picture in seen]
        return (
            *_together(problems),
            "non-local means",
            lambda p: restoration.denoise_nl_means(p, h=0.1, channel_axis=-1).reshape(p.shape),
        )
    if task == "deblur":
        kernel = tasks.operators.gaussian_kernel(2 * int(np.ceil(3 * BLUR)) + 1, BLUR)
        reach = kernel.shape[0] // 2
        wide = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="symmetric")
        seen = np.asarray(tasks.operators.blur(kernel)(jnp.asarray(wide)))[:, reach:-reach, reach:-reach]
        problems = [tasks.deblur(picture, BLUR) for picture in seen]

        def wiener(picture: np.ndarray) -> np.ndarray:
            channels = [
                restoration.wiener(picture[..., c], np.asarray(kernel), 1e-3, clip=False)
                for c in range(picture.shape[-1])
            ]
            return np.stack(channels, axis=-1)

        return *_together(problems), "Wiener", wiener
    return *_together([tasks.colorize(picture) for picture in x]), "grey", lambda p: p


def _together(problems: list[Problem]) -> tuple[Problem, np.ndarray]:
    """Problems of one operator as one problem with a row for each picture."""
    shown = np.stack([problem.shown for problem in problems])
    observation = jnp.concatenate([problem.observation for problem in problems])
    return dataclasses.replace(problems[0], observation=observation, shown=shown), shown


def as_trained(run: Path, task: str, problem: Problem, arguments: Arguments) -> tuple[np.ndarray, float]:
    """Samples of a run that was trained for a task, `[samples, pictures, h, w, c]`, and the seconds for one of them."""
    name = "inpaint" if task == "box" else task
    settings, model = read_settings(open_run(run)), jd.load(run, parts=arguments.part)
    how = learned.learned(settings, {})
    if how is None:
        raise ValueError(f"--learned {task}={run}: allowed are runs that were trained to restore pictures")
    how.check(name, None)
    sampling = dataclasses.replace(settings.config.sample, steps=arguments.steps)
    observed = np.asarray(problem.observation) if task == "sr" else problem.shown
    rows = []
    for i, picture in enumerate(observed):
        begin = time.monotonic()
        one = dataclasses.replace(problem, shown=problem.shown[i]) if name == "inpaint" else None
        key, count = jax.random.key(i), arguments.samples
        rows.append(learned.restore(key, model, how, picture, count, sampling=sampling, task=name, problem=one))
    return np.stack(rows, axis=1), (time.monotonic() - begin) / arguments.samples


def main(arguments: Arguments) -> None:
    """Prints a table."""
    config = read_settings(open_run(arguments.run)).config
    model = jd.load(arguments.run, parts=arguments.part)
    judge = None if arguments.classifier is None else jd.load(arguments.classifier, parts=arguments.part)
    dataset: Any = config.data
    dataset = dataclasses.replace(dataset, split=arguments.split)
    for place in arguments.part.values():
        dataset = dataclasses.replace(dataset, data_dir=place) if hasattr(dataset, "data_dir") else dataset
    examples = dataset.open()
    wanted = {name for name in (model.bound.settings.field, "label") if name in examples.fields}
    entries = {name: data.Entry(name, None, examples.fields[name]) for name in wanted}
    examples = data.select(examples, entries)
    batch = next(data.evaluation_batches(data.in_memory(examples), min(len(examples), 2000)))
    pictures, labels = np.asarray(data.to_floats(batch[model.bound.settings.field])), np.asarray(batch.get("label"))
    x, reference = pictures[: arguments.count], pictures[arguments.count :]
    own: dict[str, Any] = {"solver": choose(solvers.ddpm), "guidance": ClassifierFree()}  # as of `jaxdiff restore`
    sampling = dataclasses.replace(config.sample, steps=arguments.steps, **own)

    darknet = None
    if arguments.tiny_darknet is not None:
        variables = TinyDarknet.read(read_tensors(arguments.tiny_darknet))
        darknet = jax.jit(lambda x: TinyDarknet().apply(variables, x, method="features"))

    def features(samples: np.ndarray) -> np.ndarray:
        if darknet is not None:
            return np.concatenate([np.asarray(darknet(samples[i : i + 64])) for i in range(0, len(samples), 64)])
        if judge is None:
            return samples.reshape(len(samples), -1)
        return np.asarray(judge.log_probability(jnp.asarray(samples)))

    print(
        "| task | method | mean | sample | SSIM | distance | label | seconds |",
        "|---|---|---|---|---|---|---|---|",
        sep="\n",
    )
    for task in arguments.tasks:
        if task == "colorize" and x.shape[-1] == 1:
            continue
        problem, seen, classical, function = degraded(task, x)
        found = {"degraded": (seen[None], 0.0)}
        begin = time.monotonic()
        baseline = np.stack([function(picture.astype(np.float64)) for picture in seen])[None]
        found[classical] = (np.clip(baseline, -1, 1).astype(np.float32), (time.monotonic() - begin) / len(x))
        for method in arguments.methods:
            drawn = []
            for i in range(arguments.default_samples if method == "mmps" else arguments.samples):
                begin = time.monotonic()
                try:
                    sampled = restore(jax.random.key(i), model, problem, len(x), sampling=sampling, method=method)
                except ValueError:  # a method that needs an inverse, for an operator that has none
                    break
                drawn.append(sampled)
            if drawn:
                found[method] = (np.stack(drawn), (time.monotonic() - begin) / len(x))
        if task in arguments.learned:
            found["learned"] = as_trained(arguments.learned[task], task, problem, arguments)
        for method, (samples, seconds) in found.items():
            first, mean = samples[0], samples.mean(axis=0)
            psnr = [np.mean([metrics.peak_signal_noise_ratio(a, b, data_range=2) for a, b in zip(x, y, strict=True)])
                    for y in (mean, first)]  # fmt: skip
            ssim = np.mean([metrics.structural_similarity(a, b, data_range=2, channel_axis=-1, win_size=7)
                            for a, b in zip(x, first, strict=True)])  # fmt: skip
            told = features(samples.reshape(-1, *x.shape[1:]))
            distance = kernel_distance(told, features(reference))
            label = ""
            if judge is not None and darknet is None:
                label = f"{np.mean(np.argmax(told, axis=1) == np.tile(labels[: len(x)], len(samples))):.2f}"
            print(f"| {task} | {method} | {psnr[0]:.2f} | {psnr[1]:.2f} | {ssim:.3f} | "
                  f"{distance.value:.3g} +- {distance.error:.2g} | {label} | {seconds:.3f} |", flush=True)  # fmt: skip
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            rows = {"truth": x, **{name: samples[0] for name, (samples, _) in found.items()}}
            cells = np.concatenate([row[:8] for row in rows.values()])
            write_png(arguments.out / f"{task}.png", grid(cells, min(8, len(x)), row_captions=list(rows)))


if __name__ == "__main__":
    command_line.run(main)
