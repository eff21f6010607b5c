"""The settings of a training run: a tree of components and of frozen dataclasses.

A preset is a value of `Config`. The command line replaces single settings, and a run directory keeps all of them as
JSON (`jaxdiff.components`).

A settings class checks its own numbers when it is made, without JAX. `config_checks.check` checks the rest.
"""

import dataclasses
from typing import Literal

from jaxdiff import averages
from jaxdiff.augmentations import Augmentation
from jaxdiff.checks import integer, require
from jaxdiff.components import Table
from jaxdiff.data import Dataset, Digits
from jaxdiff.distributed.shardings import check_overrides
from jaxdiff.models import Diffusion, Model, Sampling
from jaxdiff.objectives import Denoising, Objective
from jaxdiff.training.optimizers import OptimizerConfig
from jaxdiff.training.state import MAX_STEPS


@dataclasses.dataclass(frozen=True)
class LoadingConfig:
    """How the data set is read. These settings do not affect the result of a run."""

    placement: Literal["disk", "memory", "device"] = "memory"
    """Read the set from disk, or decode it once into the memory of the host or of every device."""
    workers: int = 0
    """Processes that read and decode a set on disk; 0 for threads."""

    def __post_init__(self) -> None:
        integer("workers", self.workers, least=0)
        require(self.workers == 0 or self.placement == "disk", "workers", self.workers, "0 unless placement is 'disk'")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The length of training, the averages of the parameters, validation, and the reports."""

    steps: int = 1000
    """Steps of training."""
    batch_size: int = 128
    """Examples in a step, over all devices."""
    seed: int = 0
    """Seed of all random numbers of the run."""
    start_from: str | None = None
    """A run whose averaged parameters this run begins with; None for random parameters."""
    ema_half_life: int = 50_000
    """Half-life of the averaged parameters in examples, at most a twentieth of the examples seen so far."""
    ema_widths: tuple[float, ...] = ()
    """Relative widths of power-function averages (EDM2: 0.05 and 0.1). Snapshots of these give all other widths."""
    snapshot_every: int = 0
    """Steps between snapshots of these averages; 0 for no snapshots."""
    held_out: int = 0
    """Examples that training never sees, and that validation uses."""
    validate_every: int = 0
    """Steps between validations, by the loss of the averaged parameters with fixed noise; 0 for none."""
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 1000
    """Steps between samples to look at; 0 for those at the end alone."""
    checkpoint_every: int = 1000
    """Steps between checkpoints. The last step always has a checkpoint."""
    keep: int = 3
    """Number of the newest checkpoints that stay on disk."""
    keep_every: int = 0
    """Steps between checkpoints that stay on disk for good; 0 for none."""
    keep_best: int = 0
    """Number of checkpoints with the lowest loss that stay on disk too: of validation, or else of training."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "ema_half_life", "log_every", "checkpoint_every", "keep"):
            integer(name, getattr(self, name), most=MAX_STEPS)
        for name in ("sample_every", "snapshot_every", "keep_every", "keep_best", "held_out", "validate_every"):
            integer(name, getattr(self, name), least=0, most=MAX_STEPS)
        integer("seed", self.seed, least=0, most=2**32 - 1)
        for width in self.ema_widths:
            averages.gamma_of_width(width)
        require(len({*self.ema_widths}) == len(self.ema_widths), "ema_widths", self.ema_widths, "different widths")
        require(
            self.ema_widths or not self.snapshot_every, "snapshot_every", self.snapshot_every, "0 without ema_widths"
        )


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How a step is spread over devices. These settings affect the result of a run by rounding only."""

    strategy: Literal["auto", "single", "jit", "pmap"] = "auto"
    """`jit` over a mesh of all devices, `pmap` over all devices, or a `single` device. `auto` is `jit`."""
    fsdp: int = 1
    """Devices that share one copy of the parameters, the optimiser state and the averages; `jit` only."""
    overrides: dict[str, str] = dataclasses.field(default_factory=Table)
    """The axis along which a leaf is shared: a pattern of the leaf's name, and the number of an axis or `none`."""
    accumulate: int = 1
    """Parts of a batch that are computed one after another, to save memory."""
    steps_per_call: int = 1
    """Steps that the device makes without the host."""
    cpu_devices: int = 1
    """Devices that `jaxdiff train` makes of a CPU. Layers of few channels use one core of each device."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "overrides", Table(self.overrides))
        for name in ("fsdp", "accumulate", "steps_per_call", "cpu_devices"):
            integer(name, getattr(self, name), most=MAX_STEPS)
        require(self.fsdp == 1 or self.strategy in ("auto", "jit"), "fsdp", self.fsdp, "1 with this strategy")
        require(not self.overrides or self.strategy != "pmap", "overrides", self.overrides, "none with pmap")
        check_overrides(self.overrides)


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """Reports beside metrics and samples."""

    wandb: str | None = None
    """A project of Weights & Biases that gets the metrics and pictures too."""
    profile: tuple[int, int] | None = None
    """First and last step of a trace of the device, which is written to `profile/`."""

    def __post_init__(self) -> None:
        require(self.wandb != "", "wandb", self.wandb, "the name of a project, or None")
        first, last = self.profile or (1, 1)
        require(1 <= first <= last, "profile", self.profile, "pairs of a first step from 1 and a last step")


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: Dataset = Digits()
    """The examples that are learned from."""
    validation: Dataset | None = None
    """The examples of validation; None for those that `train.held_out` keeps from the data."""
    loading: LoadingConfig = LoadingConfig()
    """How the data are read."""
    augmentations: tuple[Augmentation, ...] = ()
    """Functions that change every batch, one after the other."""
    model: Model = dataclasses.field(default_factory=Diffusion)
    """The model that is trained."""
    objective: Objective = Denoising()
    """The loss."""
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    """The optimiser."""
    train: TrainConfig = TrainConfig()
    """The length of training and the reports."""
    sample: Sampling = Sampling()
    """How samples are drawn."""
    parallel: ParallelConfig = ParallelConfig()
    """The use of the devices."""
    log: LogConfig = LogConfig()
    """Reports beside metrics and samples."""
