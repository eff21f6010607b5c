"""Draws samples from a run as one picture: `python scripts/sample.py runs/digits --label 3 --guidance 2 --steps 20`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from jaxdiff.checks import integer, require
from jaxdiff.cli import command_line, compilation_cache
from jaxdiff.runs.config import GridName, SampleConfig, SolverName


def sample(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    label: int | None = None,
    guidance: float | None = None,
    solver: SolverName | None = None,
    grid: GridName | None = None,
    steps: int | None = None,
    count: int = 100,
    columns: int = 10,
    seed: int = 0,
    ema: float | str | None = "ema",
    out: Path = Path("samples.png"),
) -> None:
    """Draws samples from a run.

    Args:
      run: the run directory.
      label: the class; None for all classes in turn.
      guidance: the scale of classifier-free guidance, 1 for no guidance; None for the run's own.
      solver: the solver; None for the run's own. Another solver uses its default options.
      grid: the time grid; None for the run's own. Another grid uses its default options.
      steps: the number of steps of the grid; None for the run's own.
      count: the number of samples.
      columns: the number of samples in a row of the picture.
      seed: the seed of the noise.
      ema: the average of the parameters: a name, a relative width made from the run's snapshots, or None for none.
      out: the PNG file.
    """
    integer("count", count)
    integer("columns", columns)
    integer("seed", seed, least=0, most=2**32 - 1)
    require(not out.is_dir() and out.resolve().parent.is_dir(), "out", out, "files in an existing directory")
    compilation_cache.enable()

    from jaxdiff.media import pictures
    from jaxdiff.runs import draw
    from jaxdiff.runs.load import load

    model = load(run, ema=ema)
    config = _changed(model.config.sample, solver=solver, grid=grid, steps=steps, guidance=guidance)
    labels: np.ndarray | None
    if model.num_classes and label is None:
        labels = np.arange(count) % model.num_classes
    else:
        model.denoiser(label, config.guidance)  # raises if the model does not have the label, or no guidance
        labels = None if label is None else np.full(count, label)
    samples = draw.draw(model, jax.random.key(seed), labels, config, count=count)
    points = len(model.shape) == 1
    pictures.write_png(out, pictures.scatter(samples) if points else pictures.grid(samples, columns=columns))
    print(out)


def _changed(config: SampleConfig, **choices: Any) -> SampleConfig:
    """The configuration with all choices that are not None. Options do not outlive their solver or grid."""
    changes = {name: choice for name, choice in choices.items() if choice is not None}
    for name in ("solver", "grid"):
        if changes.get(name, getattr(config, name)) != getattr(config, name):
            changes[f"{name}_options"] = {}
    return dataclasses.replace(config, **changes)


def main() -> None:
    """Reads the command line and runs `sample`."""
    command_line.run(sample)
