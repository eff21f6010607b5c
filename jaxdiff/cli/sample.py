"""Draws samples from a run as one picture: `python scripts/sample.py runs/digits --label 3 --guidance 2 --steps 20
--out grid.png`.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

import jaxdiff as jd
from jaxdiff.cli import command_line, compilation_cache
from jaxdiff.runs.config import GridName, SolverName


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
      label: the class; all classes in turn by default.
      guidance: classifier-free guidance, 1 for none; the run's own by default, like the three that follow.
      solver: how to sample. Another solver than the run's takes its own default options.
      grid: the time grid, likewise.
      steps: steps of the grid.
      count: how many.
      columns: pictures in a row.
      seed: of the noise.
      ema: which average of the parameters: a name, a relative width made out of the run's snapshots, or None for none.
      out: the PNG file.
    """
    for name, value in (("count", count), ("columns", columns)):
        if value < 1:
            raise ValueError(f"{name} = {value}; allowed are positive integers")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed = {seed}; allowed are integers from 0 to below 2**32")
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise ValueError(f"out = {out}; allowed is a file in a directory that exists")
    compilation_cache.enable()
    model = jd.load(run, ema=ema)
    config = model.config.sample
    changed: dict[str, Any] = {}
    given: dict[str, Any] = {"solver": solver, "grid": grid, "steps": steps, "guidance": guidance}
    for name, choice in given.items():
        if choice is not None and choice != getattr(config, name):
            changed[name] = choice
            if name in ("solver", "grid"):
                changed[f"{name}_options"] = {}  # those were meant for the other one
    config = dataclasses.replace(config, **changed)

    from jaxdiff.media import pictures
    from jaxdiff.runs import draw

    if label is not None or not model.num_classes:
        model.denoiser(label, 1.0 if guidance is None else guidance)  # refuses what the model does not have
    labels = (
        None
        if not model.num_classes
        else np.full(count, label)
        if label is not None
        else np.arange(count) % model.num_classes
    )
    samples = draw.draw(model, jax.random.key(seed), labels, config, count=count)
    pictures.write_png(
        out, pictures.scatter(samples) if len(model.shape) == 1 else pictures.grid(samples, columns=columns)
    )
    print(out)


def main() -> None:
    """Reads the command line and runs `sample`."""
    command_line.run(sample)
