"""Measures the samples of a run on digits of any size: `jaxdiff evaluate runs/digits`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff.checks import integer, require
from jaxdiff.cli import command_line, compilation_cache, run_defaults
from jaxdiff.components import Table
from jaxdiff.distributed.reporting import reporting_errors
from jaxdiff.models import Sampling, compressed
from jaxdiff.models.compressed import Weights
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.settings import read_settings


@dataclasses.dataclass(frozen=True)
class Arguments(Sampling):
    """A run of a model of labelled digits, and how it is measured.

    Solver, grid, steps and guidance are those of the run at first.
    """

    run: Path = dataclasses.field(kw_only=True, metadata={"positional": True})
    """The run directory."""
    count: int = 1000
    """The number of samples."""
    data_dir: str | None = None
    """The directory of the data, if it has moved since training."""
    seed: int = 0
    """The seed of the noise."""
    ema: float | str | None = "ema"
    """The average of the parameters: a name, a relative width made from the run's snapshots, or none."""
    weights: Weights = "float32"
    """How the weights are stored: in fewer bits to save memory."""
    part: dict[str, str] = dataclasses.field(default_factory=Table)
    """Where parts of the run have moved: NAME=PATH, the setting that names the part and its new place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        integer("count", self.count)
        integer("seed", self.seed, least=0, most=2**32 - 1)


def evaluate(arguments: Arguments) -> None:
    """Draws samples of all classes in turn, and prints `jaxdiff.evaluation.report` as one JSON object."""
    compilation_cache.enable()

    from jaxdiff import data, evaluation, media
    from jaxdiff.models import DiffusionModel
    from jaxdiff.runs.load import load_at

    config = read_settings(open_run(arguments.run)).config
    step, model = load_at(arguments.run, ema=arguments.ema, parts=arguments.part, guidance=arguments.guidance)
    model = compressed(model, arguments.weights)
    labelled = isinstance(model, DiffusionModel) and "label" in config.model.conditions  # type: ignore[attr-defined]
    require(labelled, "run", str(arguments.run), "runs of a diffusion model with a condition 'label'")
    field = config.model.field  # type: ignore[attr-defined]
    sampling = command_line.narrowed(arguments, Sampling)
    dataset: Any = config.data
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
    """Reads the command line and measures."""
    description = "Draws samples of all classes in turn, and prints what they measure as one JSON object."
    with reporting_errors():
        evaluate(run_defaults.parse(Arguments, argv, prog="jaxdiff evaluate", description=description))
