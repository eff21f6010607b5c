"""Settings of a training run: frozen dataclasses, every field typed, checked when they are made.

Presets are values of `Config`, in `configs/`; the command line overrides single fields; a run directory keeps them as
JSON. The network is the Linen module itself, whose fields are its settings. Names (`process = "vp_cosine"`) are those
of the functions in `jaxdiff`, and `..._options` their keyword arguments.
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
MOST = 2**31 - 1  # the device counts steps in int32

Options = dict[str, int | float | str]  # in this order, so that the command line makes an integer of 3


def _call(kind: str, function: Any, *args: Any, options: Mapping[str, Any]) -> Any:
    """Calls a function named in the settings, so that a wrong option is a one-line error."""
    for name, parameter in inspect.signature(function).parameters.items():
        # A function may find out late, or never: the word `False` is true.
        number, value = isinstance(parameter.default, int | float), options.get(name)
        require(not (number and isinstance(value, str)), f"{kind}_options.{name}", value, "numbers")
    try:
        return function(*args, **options)
    except TypeError as error:
        raise ValueError(f"{kind}_options = {dict(options)}: {error}") from error


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is trained on."""

    name: str = "digits"
    """A TFDS image set, the embedded `digits`, `folder` (pictures in data_dir), or a toy set in the plane."""
    data_dir: str | None = None
    """Where it lies; None for the TFDS directory."""
    split: str = "train"
    size: int | None = None
    """Side in pixels that the pictures of a folder are brought to."""
    flip: bool = False
    """Mirror half of the images."""
    augment: float = 0.0
    """How likely each of EDM's augmentations is; the network is told of them."""
    placement: Literal["disk", "memory", "device"] = "memory"
    """Where the set lies meanwhile: read as needed, or decoded once into the host's or every device's memory."""
    workers: int = 0
    """Processes that read and decode a set on disk; 0 for threads."""

    def __post_init__(self) -> None:
        integer("workers", self.workers, least=0)
        fraction("augment", self.augment)
        require(not (self.flip and self.augment), "flip", self.flip, "False with augment, which mirrors by itself")
        require(self.workers == 0 or self.placement == "disk", "workers", self.workers, "0 unless placement is 'disk'")
        if self.size is not None:
            integer("size", self.size)
        require(self.size is None or self.name == "folder", "size", self.size, "None unless name is 'folder'")
        require(self.name != "folder" or self.data_dir is not None, "data_dir", None, "paths, with name = 'folder'")


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The process, what the network predicts, and which errors count."""

    process: Literal[
        "vp_linear", "sub_vp", "vp_cosine", "vp_nichol", "vp_discrete", "ve", "edm", "flow", "trigonometric"
    ] = "vp_cosine"
    process_options: Options = dataclasses.field(default_factory=dict)
    parametrization: Literal["eps", "x0", "v", "velocity", "score", "edm"] = "v"
    parametrization_options: Options = dataclasses.field(default_factory=dict)
    weighting: Literal[
        "output", "eps", "x0", "v", "velocity", "score", "edm", "min_snr", "p2", "sigmoid", "likelihood"
    ] = "output"
    """Squared errors of the network's own output, of another parametrization's, or one of `objectives.weightings`."""
    weighting_options: Options = dataclasses.field(default_factory=dict)
    times: Literal["uniform", "stratified", "logit_normal", "log_normal", "indices"] = "stratified"
    times_options: Options = dataclasses.field(default_factory=dict)
    conditional: bool = True
    """Use the labels, where there are any."""
    label_dropout: float = 0.1
    """How often a label is dropped, for classifier-free guidance."""
    learned_weighting: bool = False
    """Divide the loss by what is expected of it at each noise level, which is learned (EDM2)."""

    def __post_init__(self) -> None:
        fraction("label_dropout", self.label_dropout)
        self.make_process()
        self.make_parametrization()
        self.make_weighting()
        self.make_times()

    def make_process(self) -> Process:
        """The process that is named."""
        return _call("process", getattr(processes, self.process), options=self.process_options)

    def make_parametrization(self) -> Parametrization:
        """The parametrization that is named."""
        return _call(
            "parametrization", getattr(parametrizations, self.parametrization), options=self.parametrization_options
        )

    def make_weighting(self) -> weightings.Weighting | None:
        """The weighting that is named; None for the plain error of the output."""
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
        """The time sampler that is named."""
        sampler = getattr(time_samplers, self.times)
        if self.times in ("logit_normal", "log_normal"):
            return _call("times", sampler, options=self.times_options)
        require(not self.times_options, "times_options", self.times_options, f"none with times = {self.times!r}")
        return sampler


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, and what is kept."""

    steps: int = 1000
    batch_size: int = 128
    seed: int = 0
    ema_half_life: int = 50_000
    """Of the averaged parameters, in images seen; at most a twentieth of those seen so far."""
    ema_widths: tuple[float, ...] = ()
    """Relative widths of power-function averages (EDM2: 0.05 and 0.1), from whose snapshots any other is made."""
    snapshot_every: int = 0
    """Steps between snapshots of those averages; 0 for none."""
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 1000
    """Steps between sample grids; 0 for one at the end only."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; there is one at the end in any case."""
    keep: int = 3
    """How many of the newest checkpoints stay on disk."""
    keep_every: int = 0
    """Checkpoints of every so many steps stay for good; 0 for none."""
    keep_best: int = 0
    """As many checkpoints with the lowest loss stay too; 0 for none."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "ema_half_life", "log_every", "checkpoint_every", "keep"):
            integer(name, getattr(self, name), most=MOST)
        for name in ("sample_every", "snapshot_every", "keep_every", "keep_best"):
            integer(name, getattr(self, name), least=0, most=MOST)
        integer("seed", self.seed, least=0, most=2**32 - 1)
        for width in self.ema_widths:
            averages.gamma_of_width(width)
        require(len({*self.ema_widths}) == len(self.ema_widths), "ema_widths", self.ema_widths, "different widths")
        require(
            self.ema_widths or not self.snapshot_every, "snapshot_every", self.snapshot_every, "0 without ema_widths"
        )


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """How samples are drawn."""

    solver: SolverName = "ddim"
    solver_options: Options = dataclasses.field(default_factory=dict)
    grid: GridName = "uniform_time"
    grid_options: Options = dataclasses.field(default_factory=dict)
    steps: int = 50
    """Steps of the grid."""
    guidance: float = 1.0
    """Classifier-free guidance: 1 for none, 0 for unconditional."""

    def __post_init__(self) -> None:
        integer("steps", self.steps, most=100_000)
        require(math.isfinite(self.guidance), "guidance", self.guidance, "finite numbers")

    def make_tableau(self, process: Process) -> Tableau:
        """The tableau that is named, for a process.

        Raises:
          ValueError, TypeError: a grid or solver that the process does not allow, or options that it does not have.
        """
        times = _call("grid", getattr(grids, self.grid), process, self.steps, options=self.grid_options)
        return _call("solver", getattr(solvers, self.solver), process, times, options=self.solver_options)


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How a step is spread over devices. Nothing here changes what a run comes to, but for rounding."""

    strategy: Literal["auto", "single", "jit", "pmap"] = "auto"
    """`jit` over a mesh, `pmap`, or a `single` device; `auto` is `jit` where there are several devices."""
    fsdp: int = 1
    """Devices that share one copy of parameters, optimiser state and averages; `jit` only."""
    overrides: dict[str, str] = dataclasses.field(default_factory=dict)
    """Which axis of a leaf they share: a pattern of its name, to the number of the axis or `none`."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after the other, to save memory."""
    steps_per_call: int = 1
    """Steps that the device makes without the host."""

    def __post_init__(self) -> None:
        for name in ("fsdp", "accumulate", "steps_per_call"):
            integer(name, getattr(self, name), most=MOST)
        require(self.fsdp == 1 or self.strategy in ("auto", "jit"), "fsdp", self.fsdp, "1 with this strategy")
        require(not self.overrides or self.strategy != "pmap", "overrides", self.overrides, "none with pmap")
        check_overrides(self.overrides)


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run tells beside its directory."""

    wandb: str | None = None
    """A project of Weights & Biases to report to."""
    profile: tuple[int, int] | None = None
    """First and last step of a trace of the device, written to `profile/`."""

    def __post_init__(self) -> None:
        require(self.wandb != "", "wandb", self.wandb, "the name of a project, or None")
        first, last = self.profile or (1, 1)
        require(1 <= first <= last, "profile", self.profile, "pairs of a first step from 1 and a last step")


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run is determined by."""

    data: DataConfig = DataConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    network: UNet | MLP = dataclasses.field(default_factory=UNet)
    """A Linen module; its number of classes is set by the data."""
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    parallel: ParallelConfig = ParallelConfig()
    log: LogConfig = LogConfig()
