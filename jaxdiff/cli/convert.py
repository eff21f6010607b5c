"""Makes a run of a model of diffusers: `jaxdiff convert ddpm-cifar10-32 runs/ddpm`.

Every command then samples the run, restores with it or trains on from it (`--train.start-from runs/ddpm`).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxdiff.cli import command_line


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The model and the run."""

    folder: Path = dataclasses.field(metadata={"positional": True})
    """A folder of diffusers, or its name on the hub: a pipeline, a network or an autoencoder, in files of the type
    .safetensors; or a single file of Stable Diffusion 1, XL, 3 or 3.5."""
    run: Path = dataclasses.field(metadata={"positional": True})
    """The run directory that is made. It is empty or absent."""
    tokenizer: Path | None = None
    """The folder of the tokenizer of a single file; for several text encoders one with the folders tokenizer,
    tokenizer_2 and, with T5, tokenizer_3."""


def convert_folder(arguments: Arguments) -> None:
    """Makes a run of a model of another library, and prints its directory."""
    from jaxdiff.distributed import all_devices
    from jaxdiff.runs.convert import convert

    all_devices()
    print(convert(arguments.folder, arguments.run, arguments.tokenizer).directory)


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line and runs `convert_folder`."""
    command_line.run(convert_folder, argv, prog="jaxdiff convert")
