"""A small tree of components: networks, conditions by name, a list of augmentations, and solvers with options."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn

from jaxdiff.checks import fraction, integer
from jaxdiff.components import Choices, Component, Table, choose

# The kinds.
__all__ = ["Bare", "Class", "Conv", "Crop", "Deep", "Diffusion", "Flip", "Text", "churn", "ddim", "heun"]


class Network(Component):
    """A network."""

    home: ClassVar[str] = __name__


class Conv(nn.Module, Network):
    """A network of convolutions. It has levels.

    Attributes:
      channels: channels of the first
        level. There are more in the others.
      multipliers: factors of the channels, one for each level.
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True)
class Deep(Network):
    """A deep network.

    Attributes:
      depth, heads: numbers of layers, and of heads in each.
      dropout: dropout rate.
    """

    depth: int = 3
    heads: int = 4
    dropout: float = 0.0
    activation: Literal["relu", "gelu"] = "relu"
    """Function between layers."""

    def __post_init__(self) -> None:
        integer("depth", self.depth)
        fraction("dropout", self.dropout)


@dataclasses.dataclass(frozen=True)
class Bare(Network):
    width: int


class Condition(Component):
    """A condition."""

    home: ClassVar[str] = __name__


@dataclasses.dataclass(frozen=True)
class Class(Condition):
    """A class."""

    dropout: float = 0.1
    """Probability that the class is dropped."""


@dataclasses.dataclass(frozen=True)
class Text(Condition):
    """A caption."""

    network: Network = Deep(depth=2)
    """The encoder."""
    length: int = 77
    """Tokens of a caption."""


class Augmentation(Component):
    """A change of a batch."""

    home: ClassVar[str] = __name__


@dataclasses.dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors pictures."""

    probability: float = 0.5
    """Probability that a picture is mirrored."""

    def __post_init__(self) -> None:
        fraction("probability", self.probability)


@dataclasses.dataclass(frozen=True)
class Crop(Augmentation):
    """Cuts pictures."""

    size: tuple[int, int]
    """Height and width."""


def ddim(process: Any, times: Any, *, eta: float = 0.0) -> str:
    """The method DDIM.

    Args:
      process: the process.
      times: the times.
      eta: the share of new noise.
    """
    return f"ddim {eta}"


def heun(process: Any, times: Any, *, order: Literal[1, 2] = 2) -> str:
    """Heun's method.

    Args:
      process: the process.
      times: the times.
      order: the order of the last step.
    """
    return f"heun {order}"


Solver = Annotated[Callable[..., str], Choices(__name__, ("process", "times"))]


def churn(process: Any, times: Any, *, solver: Solver = ddim, s_min: float = 0.0, s_max: float = float("inf")) -> str:
    """A solver with new noise before each step.

    Args:
      process: the process.
      times: the times.
      solver: the solver of each step.
      s_min, s_max: the noise levels between which noise is new.
    """
    return f"{solver} {s_min} {s_max}"


class Model(Component):
    """A model."""

    home: ClassVar[str] = __name__


@dataclasses.dataclass(frozen=True)
class Diffusion(Model):
    """A diffusion model."""

    network: Network = dataclasses.field(default_factory=Conv)
    """The network."""
    conditions: dict[str, Condition] = dataclasses.field(default_factory=lambda: Table(label=Class()))
    """What the network is told."""
    teacher: Network | None = None
    """A second network."""


@dataclasses.dataclass(frozen=True)
class Train:
    """The length of training."""

    steps: int = 100
    """Steps of training."""
    learning_rate: float = 1e-3
    """Learning rate."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """Optimiser."""
    schedule: Literal["cosine", "constant"] | None = None
    """Schedule of the learning rate."""
    resume: bool = True
    """Go on with a run."""
    max_norm: float | None = None
    """Largest norm of the gradients."""
    image_size: tuple[int, int] | None = (8, 8)
    """Height and width."""
    overrides: dict[str, str] = dataclasses.field(default_factory=Table)
    """Axes of leaves by their names."""
    average: float | str | None = "ema"
    """The average of the parameters."""

    def __post_init__(self) -> None:
        integer("steps", self.steps)
        if self.learning_rate < 0:
            raise TypeError("too\n slow")


HEUN = choose(heun)


@dataclasses.dataclass(frozen=True)
class Settings:
    """A small training configuration."""

    model: Model = Diffusion()
    """The model."""
    augmentations: tuple[Augmentation, ...] = ()
    """Changes of batches."""
    solver: Solver = HEUN
    """The solver of samples."""
    train: Train = Train()
    """The training."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        integer("seed", self.seed, least=0)


RICH = Settings(
    model=Diffusion(Deep(), Table(label=Class(), text=Text()), teacher=Conv()),
    augmentations=(Flip(), Crop((4, 4))),
    solver=choose(churn, solver=choose(ddim, eta=0.5)),
)
