"""Trains a preset: `python scripts/train.py digits --train.steps 500`. Run again, it goes on where it stopped.

On several hosts the same command is started once on each: `docs/pods.md`.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the presets lie beside this folder

from jaxdiff.training import command_line, compilation_cache, hosts
from jaxdiff.training.config import Config


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """A preset, where to put the run, and the other processes of the job."""

    run_dir: Path | None = None
    """The run directory; `runs/PRESET` by default. Of several hosts, one that all of them see."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, where the launcher does not tell."""
    processes: int | None = None
    """How many processes there are, where the launcher does not tell; 1 to stay alone, whatever it tells."""
    process: int | None = None
    """Which of them this is, from 0."""


def _with_directory(name: str, config: Config) -> Arguments:
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return Arguments(**fields, run_dir=Path("runs") / name)


def _others() -> dict[str, Any]:
    """What the flags say of the other processes. JAX has to know before it computes anything, and presets compute when
    they are made: so these flags are looked at before all others. What is wrong with them is said with the others.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("coordinator", "processes", "process"):
        parser.add_argument(f"--{name}", type=str if name == "coordinator" else int)
    try:
        return vars(parser.parse_known_args()[0])
    except argparse.ArgumentError:
        return {}


def main() -> None:
    compilation_cache.enable()
    with hosts.joined(**_others()):
        from configs import PRESETS

        presets = {
            name: (description, _with_directory(name, config)) for name, (description, config) in PRESETS.items()
        }
        arguments = command_line.parse_preset(presets, prog="train.py")
        config = Config(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Config)})

        # Only now that the command line is known to be good: Grain and TFDS are slow to import.
        from jaxdiff.training.loop import train

        if arguments.run_dir is None:
            raise ValueError("run_dir = None; allowed is a directory")
        train(config, arguments.run_dir)
        if hosts.first():
            print(arguments.run_dir / "samples" / "final.png")


if __name__ == "__main__":
    with command_line.reporting_errors():
        main()
