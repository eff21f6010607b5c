"""Weights & Biases: one of its runs for each of ours, however often that is stopped and gone on with."""

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.files import write_atomically
from jaxdiff.runs.directory import Run


class WeightsAndBiases:
    """A run in Weights & Biases, the same one for each part of a run on disk."""

    def __init__(self, run: Run, project: str, config: Mapping[str, Any]) -> None:
        self._package = import_wandb(project)
        name = run.directory / "wandb_id"
        if not name.exists():
            write_atomically(name, secrets.token_hex(8).encode())
        try:
            self._run = self._package.init(
                project=project, id=name.read_text(), name=run.directory.name, resume="allow", dir=str(run.directory)
            )
            self._run.config.update(dict(config), allow_val_change=True)
        except self._package.Error as error:
            raise ValueError(
                f"log.wandb = {project!r}: {error}; run `wandb login`, or set WANDB_MODE=offline"
            ) from error
        # It takes no step twice. A run resumed to the bit makes those that it has again.
        self._first = self._run.starting_step

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        if step >= self._first:
            self._run.log(dict(values), step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self.log(step, {name: self._package.Image(image[..., 0] if image.shape[-1] == 1 else image)})

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def import_wandb(project: str) -> Any:
    """The package `wandb`.

    Raises:
        ImportError: it is not installed; one line that tells how to install it.
    """
    try:
        import wandb
    except ImportError as error:
        raise ImportError(f"log.wandb = {project!r} needs the package wandb: pip install 'jaxdiff[wandb]'") from error
    return wandb
