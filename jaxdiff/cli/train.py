"""Trains a preset, or the file of one: `jaxdiff train digits --train.steps 500`. Run again, training goes on.

Of several hosts, each starts the same command: `docs/pods.md`.
"""

import dataclasses
from pathlib import Path

from jaxdiff.cli import command_line, compilation_cache
from jaxdiff.distributed import hosts
from jaxdiff.distributed.reporting import reporting_errors
from jaxdiff.runs.config import Config


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """A preset, the directory of the run, and the other processes of the job."""

    run_dir: Path | None = None
    """The run directory; `runs/PRESET` by default. All hosts must see the same directory."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where the launcher does not tell it."""
    processes: int | None = None
    """The number of processes, where the launcher does not tell it; 1 to stay alone, whatever it tells."""
    process: int | None = None
    """The number of this process, from 0."""


def main() -> None:
    """Reads the command line and trains."""
    compilation_cache.enable()
    with reporting_errors():
        arguments, name = command_line.parse_preset(Arguments, prog="train.py")
        config = Config(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Config)})
        run_dir = Path("runs") / name if arguments.run_dir is None else arguments.run_dir
        with hosts.joined(arguments.coordinator, arguments.processes, arguments.process):
            # Only now that the command line is known to be good: Grain and TFDS are slow to import.
            from jaxdiff.runs.loop import train

            train(config, run_dir)
            if hosts.first():
                print(run_dir / "samples" / "final.png")
