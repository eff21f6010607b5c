"""Runs made of models of other libraries."""

import os
from pathlib import Path
from typing import Any

from jaxdiff.checks import require
from jaxdiff.components import Table
from jaxdiff.data import Elsewhere
from jaxdiff.interop.foreign_model import Pretrained, PretrainedEncoder
from jaxdiff.interop.pretrained import read_pretrained
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import Run, create_run, write_config
from jaxdiff.runs.facts import Facts
from jaxdiff.runs.load import load_at
from jaxdiff.runs.parts import Parts
from jaxdiff.runs.provenance import provenance
from jaxdiff.runs.settings import parts_of, saved_settings


def convert(
    folder: str | os.PathLike[str], run: str | os.PathLike[str], tokenizer: str | os.PathLike[str] | None = None
) -> Run:
    """Makes a run directory of a model of diffusers: every command samples it, restores with it or trains on from it.

    Its frozen models, such as an autoencoder, are runs inside of it.

    Args:
      folder: the folder or the file, as of `interop.load_pretrained`.
      run: the run directory, which is empty or absent.
      tokenizer: the folder of the tokenizer of a single file.

    Raises:
      ValueError: the directory is not empty, or as of `load_pretrained`.
    """
    directory = Path(run)
    good = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
    require(good, "run", str(directory), "directories that are empty or absent")
    return write(read_pretrained(folder, tokenizer), directory)


def write(pretrained: Pretrained, directory: Path) -> Run:
    """Writes a model as a run of 0 steps, and its parts as runs inside of it."""
    run = create_run(directory)
    for name, part in pretrained.parts.items():
        if isinstance(part, PretrainedEncoder):
            part.write(run.directory / name)
        else:
            write(part, run.directory / name)
    model: Any = pretrained.model
    config = Config(data=Elsewhere(), model=model, objective=model.objective(), sample=pretrained.sampling)
    places = {setting: run.directory / name for setting, name in parts_of(config).items()}
    parts = Parts(config, lambda place: load_at(place)[1], places=places)
    facts = Facts(Table(pretrained.fields), "", parts.checksums())
    write_config(run, saved_settings(config, facts, run, parts.places))
    state = {"ema": {"ema": pretrained.params}}
    with Checkpoints(run.checkpoints, version=provenance()) as checkpoints:
        checkpoints.save(0, {**state, "extra": pretrained.extra} if pretrained.extra else state)
    return run
