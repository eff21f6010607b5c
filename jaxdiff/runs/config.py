"""The settings of a training run: frozen dataclasses with typed fields.

A preset is a value of `Config`. The command line replaces single fields, and a run directory keeps all of them as JSON.
The network is the Linen module itself, whose fields are its settings. A name (`process = "vp_cosine"`) is the name of a
function in `jaxdiff`, and `..._options` are the keyword arguments of this function.

A settings class checks its own numbers when it is made, without JAX. `config_checks.check` checks the rest.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal

from jaxdiff import averages, grids, parametrizations, processes, solvers
from jaxdiff.checks import fraction, integer, require
from jaxdiff.distributed.shardings import check_overrides
from jaxdiff.networks import MLP, UNet
from jaxdiff.objectives import times as time_samplers
from jaxdiff.objectives import weightings
from jaxdiff.parametrizations import Parametrization
from jaxdiff.processes import Process
from jaxdiff.solvers import Tableau
from jaxdiff.training.optimizers import OptimizerConfig
from jaxdiff.training.state import MAX_STEPS

SolverName = Literal[
    "ddpm",
    "ddim",
    "euler",
    "heun",
    "dpm_2",
    "euler_ancestral",
    "dpm_2_ancestral",
    "runge_kutta",
    "lms",
    "pndm",
    "ipndm",
    "deis",
    "dpm_solver",
    "dpm_solver_pp",
    "dpm_solver_pp_singlestep",
    "dpmpp_2s_ancestral",
    "uni_pc",
    "sa_solver",
    "exponential",
    "reverse_diffusion",
    "euler_maruyama",
]
GridName = Literal[
    "uniform_time",
    "uniform_log_snr",
    "karras",
    "exponential",
    "polynomial",
    "discrete",
    "beta",
    "shifted",
    "align_your_steps",
]

Options = dict[str, int | float | str]  # in this order, so that the command line reads 3 as an integer


def _call(kind: str, function: Any, *args: Any, options: Mapping[str, Any]) -> Any:
    """Calls a function that the settings name. A wrong option is a one-line error."""
    for name, parameter in inspect.signature(function).parameters.items():
        # The function might notice text late or never: the word "False" is true.
        number, value = isinstance(parameter.default, int | float), options.get(name)
        require(not (number and isinstance(value, str)), f"{kind}_options.{name}", value, "numbers")
    try:
        return function(*args, **options)
    except TypeError as error:
        raise ValueError(f"{kind}_options = {dict(options)}: {error}") from error


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The data set and how it is read."""

    name: str = "digits"
    """A TFDS image set; `digits` from scikit-learn; `folder` for the pictures in data_dir; or a toy set of points."""
    data_dir: str | None = None
    """The directory of the data; None for the TFDS directory. `digits` and the toy sets need none."""
    split: str = "train"
    """A part of the set, in TFDS's notation, such as `train` or `train[:50%]`. `digits` has no slices."""
    size: int | None = None
    """Side in pixels to which the pictures of a folder are resized."""
    flip: bool = False
    """Mirror each image with probability 1/2."""
    augment: float = 0.0
    """Probability of each of EDM's augmentations, which the network is told of."""
    placement: Literal["disk", "memory", "device"] = "memory"
    """Read the set from disk, or decode it once into the memory of the host or of every device."""
    workers: int = 0
    """Processes that read and decode a set on disk; 0 for threads."""

    def __post_init__(self) -> None:
        integer("workers", self.workers, least=0)
        fraction("augment", self.augment)
        require(not (self.flip and self.augment), "flip", self.flip, "False with augment, which mirrors too")
        require(self.workers == 0 or self.placement == "disk", "workers", self.workers, "0 unless placement is 'disk'")
        if self.size is not None:
            integer("size", self.size)
        require(self.size is None or self.name == "folder", "size", self.size, "None unless name is 'folder'")
        require(self.name != "folder" or self.data_dir is not None, "data_dir", None, "paths, with name = 'folder'")


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The process, the network's target, and the weights of the loss."""

    process: Literal[
        "vp_linear", "sub_vp", "vp_cosine", "vp_nichol", "vp_discrete", "ve", "edm", "flow", "trigonometric"
    ] = "vp_cosine"
    process_options: Options = dataclasses.field(default_factory=dict)
    parametrization: Literal["eps", "x0", "v", "velocity", "score", "edm"] = "v"
    parametrization_options: Options = dataclasses.field(default_factory=dict)
    weighting: Literal[
        "output", "eps", "x0", "v", "velocity", "score", "edm", "min_snr", "p2", "sigmoid", "likelihood"
    ] = "output"
    """The squared error of the network's output or of another target, or one of `objectives.weightings`."""
    weighting_options: Options = dataclasses.field(default_factory=dict)
    times: Literal["uniform", "stratified", "logit_normal", "log_normal", "indices"] = "stratified"
    times_options: Options = dataclasses.field(default_factory=dict)
    conditional: bool = True
    """Tell the network the labels, if the data have labels."""
    label_dropout: float = 0.1
    """Probability that a label is dropped, for classifier-free guidance."""
    learned_weighting: bool = False
    """Divide the loss at each noise level by its expected value there, which is learned (EDM2)."""

    def __post_init__(self) -> None:
        fraction("label_dropout", self.label_dropout)

    def make_process(self) -> Process:
        """The process of these settings."""
        return _call("process", getattr(processes, self.process), options=self.process_options)

    def make_parametrization(self) -> Parametrization:
        """The parametrization of these settings."""
        return _call(
            "parametrization", getattr(parametrizations, self.parametrization), options=self.parametrization_options
        )

    def make_weighting(self) -> weightings.Weighting | None:
        """The weighting of these settings; None for the plain error of the output."""
        if self.weighting in ("edm", "min_snr", "p2", "sigmoid"):
            return _call("weighting", getattr(weightings, self.weighting), options=self.weighting_options)
        allowed = f"none with weighting = {self.weighting!r}"
        require(not self.weighting_options, "weighting_options", self.weighting_options, allowed)
        if self.weighting == "output":
            return None
        if self.weighting == "likelihood":
            return weightings.likelihood
        return weightings.uniform(getattr(parametrizations, self.weighting)())

    def make_times(self) -> time_samplers.TimeSampler:
        """The time sampler of these settings."""
        sampler = getattr(time_samplers, self.times)
        if self.times in ("logit_normal", "log_normal"):
            return _call("times", sampler, options=self.times_options)
        require(not self.times_options, "times_options", self.times_options, f"none with times = {self.times!r}")
        return sampler


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The length of training, the averages of the parameters, and the reports."""

    steps: int = 1000
    """Steps of training."""
    batch_size: int = 128
    """Examples in a step, over all devices."""
    seed: int = 0
    """Seed of all random numbers of the run."""
    ema_half_life: int = 50_000
    """Half-life of the averaged parameters in images, at most a twentieth of the images seen so far."""
    ema_widths: tuple[float, ...] = ()
    """Relative widths of power-function averages (EDM2: 0.05 and 0.1). Snapshots of these give all other widths."""
    snapshot_every: int = 0
    """Steps between snapshots of these averages; 0 for no snapshots."""
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 1000
    """Steps between sample grids; 0 for one grid at the end."""
    checkpoint_every: int = 1000
    """Steps between checkpoints. The last step always has a checkpoint."""
    keep: int = 3
    """Number of the newest checkpoints that stay on disk."""
    keep_every: int = 0
    """Steps between checkpoints that stay on disk for good; 0 for none."""
    keep_best: int = 0
    """Number of checkpoints with the lowest loss that stay on disk too."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "ema_half_life", "log_every", "checkpoint_every", "keep"):
            integer(name, getattr(self, name), most=MAX_STEPS)
        for name in ("sample_every", "snapshot_every", "keep_every", "keep_best"):
            integer(name, getattr(self, name), least=0, most=MAX_STEPS)
        integer("seed", self.seed, least=0, most=2**32 - 1)
        for width in self.ema_widths:
            averages.gamma_of_width(width)
        require(len({*self.ema_widths}) == len(self.ema_widths), "ema_widths", self.ema_widths, "different widths")
        require(
            self.ema_widths or not self.snapshot_every, "snapshot_every", self.snapshot_every, "0 without ema_widths"
        )


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """The solver, the time grid and the guidance of samples."""

    solver: SolverName = "ddim"
    solver_options: Options = dataclasses.field(default_factory=dict)
    grid: GridName = "uniform_time"
    grid_options: Options = dataclasses.field(default_factory=dict)
    steps: int = 50
    """Steps of the time grid."""
    guidance: float = 1.0
    """Scale of classifier-free guidance: 1 for no guidance, 0 for unconditional samples."""

    def __post_init__(self) -> None:
        integer("steps", self.steps, most=100_000)
        require(math.isfinite(self.guidance), "guidance", self.guidance, "finite numbers")

    def make_tableau(self, process: Process) -> Tableau:
        """The tableau of these settings for a process.

        Raises:
          ValueError, TypeError: the process does not allow the grid or the solver, or an option is unknown.
        """
        times = _call("grid", getattr(grids, self.grid), process, self.steps, options=self.grid_options)
        return _call("solver", getattr(solvers, self.solver), process, times, options=self.solver_options)


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How a step is spread over devices. These settings affect the result of a run by rounding only."""

    strategy: Literal["auto", "single", "jit", "pmap"] = "auto"
    """`jit` over a mesh of all devices, `pmap` over all devices, or a `single` device. `auto` is `jit`."""
    fsdp: int = 1
    """Devices that share one copy of the parameters, the optimiser state and the averages; `jit` only."""
    overrides: dict[str, str] = dataclasses.field(default_factory=dict)
    """The axis along which a leaf is shared: a pattern of the leaf's name, and the number of an axis or `none`."""
    accumulate: int = 1
    """Parts of a batch that are computed one after another, to save memory."""
    steps_per_call: int = 1
    """Steps that the device makes without the host."""

    def __post_init__(self) -> None:
        for name in ("fsdp", "accumulate", "steps_per_call"):
            integer(name, getattr(self, name), most=MAX_STEPS)
        require(self.fsdp == 1 or self.strategy in ("auto", "jit"), "fsdp", self.fsdp, "1 with this strategy")
        require(not self.overrides or self.strategy != "pmap", "overrides", self.overrides, "none with pmap")
        check_overrides(self.overrides)


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """Reports beside metrics and pictures."""

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

    data: DataConfig = DataConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    network: UNet | MLP = dataclasses.field(default_factory=UNet)
    """A Linen module. The data set determines its number of classes."""
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    parallel: ParallelConfig = ParallelConfig()
    log: LogConfig = LogConfig()
