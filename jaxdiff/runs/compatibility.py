"""Compatibility: which settings may change when a run is resumed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxdiff.components import Component, is_part, to_json, walk
from jaxdiff.runs.checkpoints import manifest, meta, retention
from jaxdiff.runs.config import Config
from jaxdiff.runs.differences import differences
from jaxdiff.runs.directory import Run, create_run, read_config
from jaxdiff.runs.facts import Facts
from jaxdiff.runs.parts import check_parts
from jaxdiff.runs.settings import check_saved, in_file

# These settings do not affect the result of a run, or by rounding only.
_REPORTS = ("log_every", "sample_every", "checkpoint_every", "snapshot_every", "validate_every")
_FREE = {"loading", "parallel", "log", *(f"train.{name}" for name in (*_REPORTS, "keep", "keep_every", "keep_best"))}
# The parts are compared by their checksums, as the data are, and what a run started from is in its checkpoints.
_FREE |= {"train.start_from", "sample"}


def open_or_create(run_dir: str | os.PathLike[str], config: Config, facts: Facts, places: dict[str, Path]) -> Run:
    """The run directory of a configuration: a new one, or one that holds the same run already.

    Raises:
      ValueError: the directory holds another run, or cannot be used. Nothing in it has been changed.
    """
    run = Run.at(run_dir)
    for file, saved in _saved(run):
        with in_file(file):
            check_saved(saved)
            before = Facts.from_json(saved["data"])
        free = free_settings(config)
        other = []
        if before.identity != facts.identity:
            other.append(f"the checksum of the data was {before.identity}, is {facts.identity}")
        elif before.fields != facts.fields:
            other.append("the fields of the data are others")
        else:
            # The same data may lie elsewhere.
            free.add("data")
        changed = differences(saved["config"], to_json(config), free=free) + other
        if changed:
            raise ValueError(
                f"run directory {run.directory} holds a run with other settings: {'; '.join(changed)}; "
                "choose another directory"
            )
        check_parts(before.parts, facts.parts, places)
    return create_run(run.directory)


def _saved(run: Run) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The settings of a run, from each file that holds them: `config.json`, the newest checkpoint, the newest snapshot.

    The first may be lost, or be that of another run. A checkpoint or snapshot whose file is damaged says nothing.
    """
    if run.config.exists():
        yield run.config, read_config(run)
    for directory in (run.checkpoints, run.snapshots):
        for step in reversed(retention.steps_in(directory)):
            checkpoint = directory / str(step)
            if (contents := _contents(checkpoint)) is not None:
                yield checkpoint / "meta.json", contents["config"]
                break


def _contents(checkpoint: Path) -> dict[str, Any] | None:
    """The contents of the `meta.json` of a checkpoint; None if the file is damaged or malformed."""
    if manifest.damage(checkpoint, lambda name: name == "meta.json") is not None:
        return None
    try:
        return meta.read(checkpoint)
    except ValueError:
        return None


def free_settings(config: Config) -> set[str]:
    """The paths of the settings that may change when a run is resumed."""
    free = set(_FREE)
    if config.optimizer.schedule != "cosine":
        # A cosine falls to 0 at the last step, so a longer run would have had other rates from the start.
        free.add("train.steps")
    if not config.train.held_out:
        free.add("validation")
    for path, hint, value, _ in walk(config, Config):
        if is_part(hint):
            free.add(path)
        elif isinstance(value, Component):  # the setting `.kind` of a component
            free.update(f"{path.removesuffix('kind')}{name}" for name in value.free)
    return free
