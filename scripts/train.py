"""Trains a preset: `python scripts/train.py digits --train.steps 500`. Run again, it goes on where it stopped.

On several hosts the same command is started once on each: `docs/pods.md`.
"""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the presets lie beside this folder

from configs import PRESETS
from jaxdiff.training import command_line
from jaxdiff.training.config import Config


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """A preset, where to put the run, and the other processes of the job."""

    run_dir: Path | None = None
    """The run directory; `runs/PRESET` by default. Of several hosts, one that all of them see."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, where the launcher does not tell."""
    processes: int | None = None
    """How many processes there are, likewise,"""
    process: int | None = None
    """and which this is, from 0."""


def _with_directory(name: str, config: Config) -> Arguments:
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return Arguments(**fields, run_dir=Path("runs") / name)


def main() -> None:
    presets = {name: (description, _with_directory(name, config)) for name, (description, config) in PRESETS.items()}
    arguments = command_line.parse_preset(presets, prog="train.py")
    config = Config(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Config)})

    # Only now that the command line is known to be good: Grain and TFDS are slow to import.
    from jaxdiff.training import compilation_cache, hosts
    from jaxdiff.training.loop import train

    assert arguments.run_dir is not None
    compilation_cache.enable()
    with hosts.joined(arguments.coordinator, arguments.processes, arguments.process):
        train(config, arguments.run_dir)
        if hosts.first():
            print(arguments.run_dir / "samples" / "final.png")


if __name__ == "__main__":
    with command_line.reporting_errors():
        main()
