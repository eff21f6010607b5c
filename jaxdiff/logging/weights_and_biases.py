"""Metrics and pictures for Weights & Biases."""

import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.extras import needed
from jaxdiff.files import write_atomically
from jaxdiff.logging.names import WANDB_ID


class WeightsAndBiases:
    """Reports to one run of Weights & Biases, which a resumed run continues.

    The file `wandb_id` in the run directory holds the identifier of that run.

    Args:
      directory: the run directory.
      project: the project in Weights & Biases.
      config: the settings of the run.

    Raises:
      ImportError: the package `wandb` is not installed.
      ValueError: Weights & Biases refuses the project.
    """

    def __init__(self, directory: Path, project: str, config: Mapping[str, Any]) -> None:
        self._package = import_wandb(project)
        id_file = directory / WANDB_ID
        if not id_file.exists():
            write_atomically(id_file, secrets.token_hex(8).encode())
        try:
            self._run = self._package.init(
                project=project, id=id_file.read_text(), name=directory.name, resume="allow", dir=os.fspath(directory)
            )
            self._run.config.update(dict(config), allow_val_change=True)
        except self._package.Error as error:
            advice = "run `wandb login`, or set WANDB_MODE=offline"
            raise ValueError(f"log.wandb = {project!r}: {error}; {advice}") from error
        # Weights & Biases accepts each step once. A resumed run repeats some of the steps that it has already.
        self._first = self._run.starting_step

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Reports scalars. NaN and infinity are left out."""
        self._log(step, {name: value for name, value in values.items() if math.isfinite(value)})

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Reports a `[height, width, channels]` uint8 image."""
        self._log(step, {name: self._package.Image(image[..., 0] if image.shape[-1] == 1 else image)})

    def close(self, failed: bool) -> None:
        """Ends the run, and reports whether it has failed."""
        self._run.finish(exit_code=int(failed))

    def _log(self, step: int, values: dict[str, Any]) -> None:
        if step >= self._first:
            self._run.log(values, step=step)


def import_wandb(project: str) -> Any:
    """Imports the package `wandb`.

    Raises:
      ImportError: the package is not installed. The error is one line, which says how to install it.
    """
    with needed(f"log.wandb = {project!r}"):
        import wandb
    return wandb
