"""Judges a run's samples: `python scripts/evaluate.py runs/digits`. For digits of any size; see
`jaxdiff.evaluation.report`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

import jaxdiff as jd
from jaxdiff.cli import command_line, compilation_cache


def evaluate(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    count: int = 1000,
    guidance: float | None = None,
    data_dir: str | None = None,
    seed: int = 0,
    ema: float | str | None = "ema",
) -> None:
    """Draws samples of every class in turn and prints one JSON object.

    Args:
      run: the run directory of a model of labelled digits.
      count: how many samples.
      guidance: classifier-free guidance; the run's own by default.
      data_dir: where the data lies, if no longer where the run was trained on.
      seed: of the noise.
      ema: which average of the parameters: a name, a relative width made out of the run's snapshots, or None for none.
    """
    from jaxdiff import data, evaluation
    from jaxdiff.runs import draw, recipe

    if count < 1:
        raise ValueError(f"count = {count}; allowed are positive integers")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed = {seed}; allowed are integers from 0 to below 2**32")
    compilation_cache.enable()
    model = jd.load(run, ema=ema)
    if not model.num_classes:
        raise ValueError(f"run = {run}; its model has no labels to judge by")
    config = (
        model.config
        if data_dir is None
        else dataclasses.replace(model.config, data=dataclasses.replace(model.config.data, data_dir=data_dir))
    )
    sampling = config.sample if guidance is None else dataclasses.replace(config.sample, guidance=guidance)

    def read(split: str) -> tuple[Any, Any]:
        opened = recipe.open_data(dataclasses.replace(config.data, split=split))
        whole = next(data.evaluation_batches(opened, len(opened)))
        return whole["x"], whole["cond"]

    labels = np.arange(count) % model.num_classes
    samples = draw.draw(model, jax.random.key(seed), labels, sampling)
    found = evaluation.report(samples, labels, read(config.data.split), read("test"))
    print(json.dumps({"step": model.step, **{k: round(v, 4) for k, v in dataclasses.asdict(found).items()}}))


def main() -> None:
    """Reads the command line and runs `evaluate`."""
    command_line.run(evaluate)
