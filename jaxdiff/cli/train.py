"""Trains a preset: `jaxdiff train digits --train.steps 500`. The same command again resumes training.

With several hosts, each host starts the same command: see `docs/pods.md`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxdiff.cli import command_line, compilation_cache
from jaxdiff.components import Table
from jaxdiff.distributed import hosts
from jaxdiff.distributed.cpu_devices import divide_cpu
from jaxdiff.distributed.reporting import reporting_errors
from jaxdiff.runs.config import Config
from jaxdiff.runs.directory import Run


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """A preset, the run directory, and the other processes of the job."""

    run_dir: Path | None = None
    """The run directory; None for runs/PRESET. All hosts must see the same directory."""
    part: dict[str, str] = dataclasses.field(default_factory=Table)
    """Where parts of the run have moved: NAME=PATH, the setting that names the part and its new place."""
    coordinator: str | None = None
    """HOST:PORT of process 0; None to ask the launcher."""
    processes: int | None = None
    """The number of processes; None to ask the launcher, 1 to stay alone whatever the launcher says."""
    process: int | None = None
    """The number of this process, from 0; None to ask the launcher."""


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line and trains."""
    compilation_cache.enable()
    with reporting_errors():
        arguments, name = command_line.parse_preset(Arguments, argv, prog="jaxdiff train")
        config = command_line.narrowed(arguments, Config)
        run_dir = Path("runs") / name if arguments.run_dir is None else arguments.run_dir
        divide_cpu(config.parallel.cpu_devices)
        with hosts.joined(arguments.coordinator, arguments.processes, arguments.process):
            compilation_cache.disable_in_jobs_on_cpus()
            # Orbax is slow to import, so a mistake on the command line is reported before.
            from jaxdiff.runs.loop import train

            train(config, run_dir, parts=arguments.part)
            if hosts.first():
                finals = sorted(Run(run_dir).samples.glob("final*"))
                print(*(finals or [run_dir]), sep="\n")
