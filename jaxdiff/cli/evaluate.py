"""Measures the samples of a run on digits of any size: `python scripts/evaluate.py runs/digits`."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from jaxdiff.checks import integer, require
from jaxdiff.cli import command_line, compilation_cache


def evaluate(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    count: int = 1000,
    guidance: float | None = None,
    data_dir: str | None = None,
    seed: int = 0,
    ema: float | str | None = "ema",
) -> None:
    """Draws samples of all classes in turn, and prints `jaxdiff.evaluation.report` as one JSON object.

    Args:
      run: the run directory of a model of labelled digits.
      count: the number of samples.
      guidance: the scale of classifier-free guidance; None for the run's own.
      data_dir: the directory of the data, if it has moved since training.
      seed: the seed of the noise.
      ema: the average of the parameters: a name, a relative width made from the run's snapshots, or None for none.
    """
    integer("count", count)
    integer("seed", seed, least=0, most=2**32 - 1)
    compilation_cache.enable()

    from jaxdiff import data, evaluation
    from jaxdiff.runs import draw, recipe
    from jaxdiff.runs.load import load

    model = load(run, ema=ema)
    require(model.num_classes, "run", str(run), "runs of a model with labels")
    sampling, data_config = model.config.sample, model.config.data
    if guidance is not None:
        sampling = dataclasses.replace(sampling, guidance=guidance)
    if data_dir is not None:
        data_config = dataclasses.replace(data_config, data_dir=data_dir)

    def read(split: str) -> tuple[Any, Any]:
        examples = recipe.open_data(dataclasses.replace(data_config, split=split))
        batch = next(data.evaluation_batches(examples, len(examples)))
        return batch["x"], batch["cond"]

    labels = np.arange(count) % model.num_classes
    samples = draw.draw(model, jax.random.key(seed), labels, sampling)
    found = evaluation.report(samples, labels, read(data_config.split), read("test"))
    print(json.dumps({"step": model.step, **{k: round(v, 4) for k, v in dataclasses.asdict(found).items()}}))


def main() -> None:
    """Reads the command line and runs `evaluate`."""
    command_line.run(evaluate)
