"""Measures the samples of a run on digits of any size: `jaxdiff evaluate runs/digits`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff.checks import integer, require
from jaxdiff.cli import command_line, compilation_cache
from jaxdiff.components import Table
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.settings import read_settings


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A run of a model of labelled digits, and how it is measured."""

    run: Path = dataclasses.field(metadata={"positional": True})
    """The run directory."""
    count: int = 1000
    """The number of samples."""
    guidance: float | None = None
    """The scale of classifier-free guidance; none for the run's own rule."""
    data_dir: str | None = None
    """The directory of the data, if it has moved since training."""
    seed: int = 0
    """The seed of the noise."""
    ema: float | str | None = "ema"
    """The average of the parameters: a name, a relative width made from the run's snapshots, or none."""
    part: dict[str, str] = dataclasses.field(default_factory=Table)
    """Where parts of the run have moved: NAME=PATH, the setting that names the part and its new place."""

    def __post_init__(self) -> None:
        integer("count", self.count)
        integer("seed", self.seed, least=0, most=2**32 - 1)


def evaluate(arguments: Arguments) -> None:
    """Draws samples of all classes in turn, and prints `jaxdiff.evaluation.report` as one JSON object."""
    compilation_cache.enable()

    from jaxdiff import data, evaluation, media
    from jaxdiff.guidance import ClassifierFree
    from jaxdiff.models import DiffusionModel
    from jaxdiff.runs.load import load_at

    config = read_settings(open_run(arguments.run)).config
    step, model = load_at(arguments.run, ema=arguments.ema, parts=arguments.part)
    labelled = isinstance(model, DiffusionModel) and "label" in config.model.conditions  # type: ignore[attr-defined]
    require(labelled, "run", str(arguments.run), "runs of a diffusion model with a condition 'label'")
    sampling, field = config.sample, config.model.field  # type: ignore[attr-defined]
    dataset: Any = config.data
    if arguments.guidance is not None:
        sampling = dataclasses.replace(sampling, guidance=ClassifierFree(arguments.guidance))
    if arguments.data_dir is not None:
        dataset = dataclasses.replace(dataset, data_dir=arguments.data_dir)

    def read(split: str) -> tuple[Any, Any]:
        examples = dataclasses.replace(dataset, split=split).open()
        batch = next(data.evaluation_batches(data.in_memory(examples), len(examples)))
        return np.asarray(data.to_floats(batch[field])), batch["label"]

    labels = np.arange(arguments.count) % model.bound.fields["label"].classes
    samples = model.sample(jax.random.key(arguments.seed), arguments.count, sampling=sampling, label=labels)
    if lost := media.not_finite({field: samples}):
        raise ValueError(lost)
    found = evaluation.report(samples, labels, read(dataset.split), read("test"))
    figures = {name: round(value, 4) for name, value in dataclasses.asdict(found).items()}
    print(json.dumps({"step": step, **figures}))


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line and runs `evaluate`."""
    command_line.run(evaluate, argv, prog="jaxdiff evaluate")
