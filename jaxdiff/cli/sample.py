"""Draws samples from a run: `jaxdiff sample runs/digits --ask label=3 --guidance.scale 2 --steps 20`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff.checks import integer, require
from jaxdiff.cli import command_line, compilation_cache, run_defaults
from jaxdiff.components import Table
from jaxdiff.data.picture_files import SUFFIXES, read_header, read_picture
from jaxdiff.distributed.reporting import reporting_errors
from jaxdiff.files import write_output
from jaxdiff.models import DiffusionModel, Sampling, compressed
from jaxdiff.models.compressed import Weights
from jaxdiff.models.conditioned import Conditions
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.settings import read_settings


@dataclasses.dataclass(frozen=True)
class Arguments(Sampling):
    """A run, and the samples to draw. Solver, grid, steps and guidance are those of the run at first."""

    run: Path = dataclasses.field(kw_only=True, metadata={"positional": True})
    """The run directory."""
    ask: dict[str, str] = dataclasses.field(default_factory=Table)
    """Values that are asked for, NAME=VALUE by the name of a condition: a number, the name of a class, a text, or the
    path of a picture."""
    count: int = 100
    """The number of samples."""
    seed: int = 0
    """The seed of the noise."""
    ema: float | str | None = "ema"
    """The average of the parameters: a name, a relative width made from the run's snapshots, or none."""
    weights: Weights = "float32"
    """How the weights are stored: in fewer bits to save memory."""
    tile: int | None = None
    """The side of the overlapping tiles in which an autoencoder decodes large pictures, in latents; none for whole
    pictures."""
    part: dict[str, str] = dataclasses.field(default_factory=Table)
    """Where parts of the run have moved: NAME=PATH, the setting that names the part and its new place."""
    out: Path = Path("samples.png")
    """The first file that is written; other files get its name, and an ending of their own. A device or a FIFO takes
    the contents of the first file alone."""
    watermark: bool = False
    """Mark the pictures invisibly as made by jaxdiff. This needs the extra `watermark`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        integer("count", self.count)
        integer("seed", self.seed, least=0, most=2**32 - 1)


def sample(arguments: Arguments) -> None:
    """Draws samples from a run, and writes them as files to look at or listen to.

    Raises:
      ValueError: an argument does not fit the run; or samples, which are written all the same, are not finite.
    """
    out = arguments.out
    require(not out.is_dir() and out.resolve().parent.is_dir(), "out", out, "files in an existing directory")
    compilation_cache.enable()

    from jaxdiff import media
    from jaxdiff.media import watermark
    from jaxdiff.runs.load import load_at
    from jaxdiff.runs.origin import origin

    if arguments.watermark:
        watermark.import_library()
    config = read_settings(open_run(arguments.run)).config
    rule = arguments.guidance
    step, model = load_at(arguments.run, ema=arguments.ema, parts=arguments.part, guidance=rule)
    require(isinstance(model, DiffusionModel), "run", str(arguments.run), "runs of a model that is sampled")
    model = compressed(model, arguments.weights)
    model = model if arguments.tile is None else model.in_tiles(arguments.tile)
    sampling = command_line.narrowed(arguments, Sampling)
    conditions = model.bound.conditioning
    told, asked = _wishes(arguments, conditions)
    allowed = f"{config.sample.guidance}, that of the run, since nothing is asked for"
    require(asked or rule == config.sample.guidance or rule.unasked(), "guidance", rule, allowed)
    entries = {
        name: np.broadcast_to(value, (arguments.count, *value.shape[1:]))
        for name, value in conditions.ask(asked, arguments.count).items()
    }
    captions = conditions.captions(entries)
    if len(set(captions)) <= 1:  # the same words above every sample would say nothing
        captions = []
    field, fields = config.model.field, model.bound.fields  # type: ignore[attr-defined]
    names = (field,) if isinstance(field, str) else field
    if arguments.watermark:
        blank = {name: np.zeros((arguments.count, *fields[name].shape), np.float32) for name in names}
        watermark.check(config.data.show(blank, fields, captions))
    x = model.sample(jax.random.key(arguments.seed), arguments.count, sampling=sampling, **asked)
    drawn = {field: x} if isinstance(field, str) else x
    files = config.data.show(drawn, fields, captions)
    if arguments.watermark:
        files = watermark.marked(files)
    of = origin(arguments.run, step, seed=arguments.seed, ema=arguments.ema, conditions=told, sampling=sampling)
    if arguments.weights != "float32":
        of |= {"weights": arguments.weights}
    files = media.with_origin(files, of)
    print(*_write(out, files), sep="\n")
    if lost := media.not_finite(drawn):
        raise ValueError(f"{lost}; weaker guidance, more steps or another solver may help")


def _write(out: Path, files: dict[str, bytes]) -> list[Path]:
    """Writes files under the name of `out`, and returns their paths."""
    if out.exists() and not out.is_file():
        write_output(out, next(iter(files.values())))
        return [out]
    named = {out.parent / name.replace("samples", out.stem, 1): contents for name, contents in files.items()}
    for path, contents in named.items():
        write_output(path, contents)
    return list(named)


def read_value(text: str) -> Any:
    """A value as the user wrote it: an integer, a number, a picture by its path, or text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    path = Path(text)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        _, grey = read_header(path)
        return read_picture(path, 1 if grey else 3)
    return text


def _wishes(arguments: Arguments, conditions: Conditions) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values that are asked for, by the name of a condition: as JSON values, and one for all samples or for each.

    Where nothing is asked for, labels go through all classes in turn.
    """
    told, asked = read_wishes(arguments.ask, conditions)
    if asked:
        return told, asked
    for name, condition in conditions.by_name.items():
        if condition.channel == "class":
            told[name] = list(range(condition.classes(conditions.fields)))
    return told, {name: np.resize(classes, arguments.count) for name, classes in told.items()}


def read_wishes(ask: Mapping[str, str], conditions: Conditions) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of `--ask`, by the name of a condition: as JSON values, and as `Conditions.ask` takes them.

    A picture is told by its name. A class whose name is a number is the class of this name, and not of this index.
    """
    asked = {name: read_value(text) for name, text in ask.items()}
    for name, text in ask.items():
        names = conditions.names(name)
        if text in names and not isinstance(asked[name], str):
            asked[name] = names.index(text)
    told: dict[str, Any] = {}
    for name, value in asked.items():
        told[name] = value if isinstance(value, int | float | str) else Path(ask[name]).name
    return told, asked


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line and draws."""
    with reporting_errors():
        sample(run_defaults.parse(Arguments, argv, prog="jaxdiff sample", description="Draws samples from a run."))
