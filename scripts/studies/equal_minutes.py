"""Runs that train for equally many minutes, each at its own speed, and the last figures of a run."""

import dataclasses
from pathlib import Path

from processes import lines

from jaxdiff.runs.config import Config
from jaxdiff.runs.loop import train


def steps_within(config: Config, minutes: float, probe: Path) -> int:
    """The number of steps that these minutes allow, without compilation, at the speed of 40 steps.

    Args:
      config: the run.
      minutes: the minutes of training.
      probe: the directory in which the 40 steps are trained.
    """
    short = dataclasses.replace(config.train, steps=40, log_every=20, sample_every=0)
    sampling = dataclasses.replace(config.sample, steps=2)  # a picture is drawn at the end
    train(dataclasses.replace(config, train=short, sample=sampling), probe)
    return int(60 * minutes * last(probe, "images_per_second") / config.train.batch_size)


def last(run: Path, metric: str) -> float:
    """The last logged value of a metric of a run."""
    return [line[metric] for line in lines(run) if metric in line][-1]
