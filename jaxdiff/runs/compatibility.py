"""What makes two runs the same: the settings that a run directory may be gone on with."""

import os
from pathlib import Path
from typing import Any

from jaxdiff.runs.config import Config
from jaxdiff.runs.config_json import to_json
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.directory import Run, create_run
from jaxdiff.runs.load import read_saved


def open_or_create(run_dir: str | os.PathLike[str], config: Config, spec: DataSpec) -> Run:
    """The run directory, once it is known that it is new or holds this very run.

    Raises:
      ValueError: it holds another run, or cannot be used; nothing has been touched.
    """
    run = Run(Path(run_dir).absolute())
    if run.config.exists():
        changed = _differences(read_saved(run), {"config": to_json(config), "data": spec.to_json()}, _free(config))
        if changed:
            raise ValueError(
                f"run directory {run.directory} holds a run with other settings: {'; '.join(changed)}; "
                "choose another directory"
            )
    return create_run(run.directory)


def _free(config: Config) -> set[tuple[str, ...]]:
    """The settings that may change between two parts of one run: they have no bearing on what it comes to, or, for
    those of `parallel` and the place of the data, none but rounding.
    """
    written = ("log_every", "sample_every", "checkpoint_every", "snapshot_every", "keep", "keep_every", "keep_best")
    free: set[tuple[str, ...]] = {("train", name) for name in written}
    free |= {("parallel",), ("log",), ("data", "placement"), ("data", "workers"), ("network", "remat")}
    if config.optimizer.schedule != "cosine":
        # A cosine falls to 0 at the last step: of a longer run, the steps made already would have been others.
        free.add(("train", "steps"))
    if config.data.name != "folder":
        free.add(("data", "data_dir"))
    return free


def _differences(before: dict[str, Any], now: dict[str, Any], free: set[tuple[str, ...]]) -> list[str]:
    """The settings that differ, as `name was a, is b`, without those that may."""

    def flat(tree: Any, path: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
        if isinstance(tree, dict) and tree:
            return {p: v for name, branch in tree.items() for p, v in flat(branch, (*path, name)).items()}
        return {path: tree}

    old, new = flat(before, ()), flat(now, ())
    names = [name for name in {**old, **new} if not free & {name[1:2], name[1:]} and old.get(name) != new.get(name)]
    return [f"{'.'.join(name[1:])} was {old.get(name)}, is {new.get(name)}" for name in names]
