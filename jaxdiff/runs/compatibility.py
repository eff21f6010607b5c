"""Compatibility: which settings may change when a run is resumed."""

import itertools
import os
from pathlib import Path
from typing import Any

from jaxdiff.components import Component, at, is_part, to_json, walk
from jaxdiff.components.paths import join
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import Run, create_run
from jaxdiff.runs.facts import Facts
from jaxdiff.runs.parts import check_parts
from jaxdiff.runs.settings import read_saved

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
    run = Run(Path(run_dir).absolute())
    if run.config.exists():
        saved = read_saved(run)
        with at(str(run.config)):
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
        changed = _differences(saved["config"], to_json(config), free) + other
        if changed:
            raise ValueError(
                f"run directory {run.directory} holds a run with other settings: {'; '.join(changed)}; "
                "choose another directory"
            )
        check_parts(before.parts, facts.parts, places)
    return create_run(run.directory)


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


def _differences(before: Any, now: Any, free: set[str], path: str = "") -> list[str]:
    """The settings that differ and may not differ, each as `name was a, is b`.

    Of a part whose kind differs, the settings are others anyway, and the kind alone is told.
    """
    if path in free or before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        names = ["kind"] if before.get("kind") != now.get("kind") else list({**before, **now})
        pairs = [(name, before.get(name), now.get(name)) for name in names]
    elif isinstance(before, list) and isinstance(now, list) and any(isinstance(item, dict) for item in before + now):
        pairs = [(str(i), *pair) for i, pair in enumerate(itertools.zip_longest(before, now))]
    else:
        return [f"{path} was {_shown(before)}, is {_shown(now)}"]
    return [text for name, old, new in pairs for text in _differences(old, new, free, join(path, name))]


def _shown(value: Any) -> str:
    """A JSON value in the words of a flag: a part by its kind, and nothing as `none`."""
    if isinstance(value, dict):
        return str(value.get("kind") or value or "none")
    return "none" if value in (None, []) else str(value)
