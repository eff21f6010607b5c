"""Trains a preset: `python scripts/train.py digits --train.steps 500`. Run again, it goes on where it stopped."""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the presets lie beside this folder

from configs import PRESETS
from jaxdiff.training import command_line
from jaxdiff.training.config import Config


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """A preset, and where to put the run."""

    run_dir: Path | None = None
    """The run directory; `runs/PRESET` by default."""


def _with_directory(name: str, config: Config) -> Arguments:
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return Arguments(**fields, run_dir=Path("runs") / name)


def main() -> None:
    presets = {name: (description, _with_directory(name, config)) for name, (description, config) in PRESETS.items()}
    arguments = command_line.parse_preset(presets, prog="train.py")
    config = Config(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Config)})

    # Only now that the command line is known to be good: Grain and TFDS are slow to import.
    from jaxdiff.training.loop import train

    assert arguments.run_dir is not None
    train(config, arguments.run_dir)
    print(arguments.run_dir / "samples" / "final.png")


if __name__ == "__main__":
    with command_line.reporting_errors():
        main()
