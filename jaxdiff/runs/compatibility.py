"""Compatibility: which settings may change when a run is resumed."""

import os
from pathlib import Path
from typing import Any

from jaxdiff.runs.config import Config
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.directory import Run, create_run
from jaxdiff.runs.settings import read_saved, saved_settings


def open_or_create(run_dir: str | os.PathLike[str], config: Config, spec: DataSpec) -> Run:
    """The run directory of a configuration: a new one, or one that holds the same run already.

    Raises:
      ValueError: the directory holds another run, or cannot be used. Nothing in it has been changed.
    """
    run = Run(Path(run_dir).absolute())
    if run.config.exists():
        changed = _differences(read_saved(run), saved_settings(config, spec), _free(config))
        if changed:
            raise ValueError(
                f"run directory {run.directory} holds a run with other settings: {'; '.join(changed)}; "
                "choose another directory"
            )
    return create_run(run.directory)


def _free(config: Config) -> set[tuple[str, ...]]:
    """The settings that may change when a run is resumed.

    They have no effect on the result of the run. Those of `parallel` and the place of the data affect rounding only.
    """
    reports = ("log_every", "sample_every", "checkpoint_every", "snapshot_every", "keep", "keep_every", "keep_best")
    free: set[tuple[str, ...]] = {("train", name) for name in reports}
    free |= {("parallel",), ("log",), ("data", "placement"), ("data", "workers"), ("network", "remat")}
    if config.optimizer.schedule != "cosine":
        # A cosine falls to 0 at the last step, so a longer run would have had other rates from the start.
        free.add(("train", "steps"))
    if config.data.name != "folder":
        free.add(("data", "data_dir"))
    return free


def _differences(before: dict[str, Any], now: dict[str, Any], free: set[tuple[str, ...]]) -> list[str]:
    """The settings that differ and may not differ, each as `name was a, is b`."""

    def flat(tree: Any, path: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
        if isinstance(tree, dict) and tree:
            return {p: v for name, branch in tree.items() for p, v in flat(branch, (*path, name)).items()}
        return {path: tree}

    old, new = flat(before, ()), flat(now, ())
    names = [name for name in {**old, **new} if not free & {name[1:2], name[1:]} and old.get(name) != new.get(name)]
    return [f"{'.'.join(name[1:])} was {old.get(name)}, is {new.get(name)}" for name in names]
