"""Settings of a training run: frozen dataclasses, every field typed, checked when they are made.

Presets are values of `Config`, in `configs/`; the command line overrides single fields; a run directory keeps them as
JSON. The network is the Linen module itself, whose fields are its settings. Names (`process = "vp_cosine"`) are those
of the functions in `jaxdiff`, and `..._options` their keyword arguments.
"""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal

import dacite
import flax.linen as nn

from jaxdiff import grids, parametrizations, processes, solvers
from jaxdiff.networks import MLP, UNet
from jaxdiff.objectives import times as time_samplers
from jaxdiff.objectives import weightings
from jaxdiff.parametrizations import Parametrization
from jaxdiff.processes import Process
from jaxdiff.solvers import Tableau
from jaxdiff.training import ema, parallel

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
Options = dict[str, int | float | str]  # in this order, so that the command line makes an integer of 3


def _require(name: str, value: Any, allowed: str, good: bool) -> None:
    if not good:
        raise ValueError(f"{name} = {value!r}; allowed are {allowed}")


def _positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(name, value, f"positive {_kind(value)}", 0 < value < _limit(value))


def _not_negative(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(name, value, f"{_kind(value)} of at least 0", 0 <= value < _limit(value))


def _kind(value: float) -> str:
    return "integers below 2**31" if isinstance(value, int) else "finite numbers"


def _limit(value: float) -> float:
    # Steps are counted on the device, in int32.
    return 2**31 if isinstance(value, int) else math.inf


def _call(kind: str, function: Any, *args: Any, options: Mapping[str, Any]) -> Any:
    """Calls a function named in the settings, so that a wrong option is a one-line error."""
    for name, parameter in inspect.signature(function).parameters.items():
        # A function may find out late, or never: the word `False` is true.
        number, value = isinstance(parameter.default, int | float), options.get(name)
        _require(f"{kind}_options: {name}", value, "numbers", not (number and isinstance(value, str)))
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
    resident: Literal["disk", "memory", "device"] = "memory"
    """Where the set lies meanwhile: read as needed, or decoded once into the host's or every device's memory."""
    workers: int = 0
    """Processes that read and decode a set on disk; 0 for threads."""

    def __post_init__(self) -> None:
        _not_negative(self, "workers")
        _require("augment", self.augment, "numbers from 0 to 1", 0 <= self.augment <= 1)
        _require("flip", self.flip, "False with augment, which mirrors by itself", not (self.flip and self.augment))
        _require("workers", self.workers, "0 unless resident is 'disk'", self.workers == 0 or self.resident == "disk")
        _require("size", self.size, "positive integers", self.size is None or self.size > 0)
        _require("size", self.size, "None unless name is 'folder'", self.size is None or self.name == "folder")
        _require(
            "data_dir", self.data_dir, "the folder of pictures", self.name != "folder" or self.data_dir is not None
        )


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
        _require("label_dropout", self.label_dropout, "numbers from 0 to 1", 0 <= self.label_dropout <= 1)
        parametrizations.check(self.make_process(), self.make_parametrization())
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
        _require("weighting_options", self.weighting_options, allowed, not self.weighting_options)
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
        _require("times_options", self.times_options, f"none with times = {self.times!r}", not self.times_options)
        return sampler


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, or Muon with AdamW for what is no matrix."""

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 200
    """Steps of linear warm-up."""
    decay: Literal["constant", "cosine", "inverse_sqrt"] = "constant"
    decay_after: int = 70_000
    """Steps at the full rate before `inverse_sqrt` sets in."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest global norm of the gradient; 0 for no clipping."""
    beta1: float = 0.9
    beta2: float = 0.999
    tolerance: float = 1e-8
    """Adam's epsilon."""
    max_skipped: int = 100
    """Steps in a row whose gradient is not finite, which change nothing, before training stops."""

    def __post_init__(self) -> None:
        _positive(self, "learning_rate", "tolerance", "decay_after", "max_skipped")
        _not_negative(self, "warmup", "weight_decay", "clip")
        for name in ("beta1", "beta2"):
            _require(name, getattr(self, name), "numbers from 0 to below 1", 0 <= getattr(self, name) < 1)


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
        _positive(self, "steps", "batch_size", "ema_half_life", "log_every", "checkpoint_every", "keep")
        _not_negative(self, "seed", "sample_every", "snapshot_every", "keep_every", "keep_best")
        _require("seed", self.seed, "integers below 2**32", self.seed < 2**32)
        for width in self.ema_widths:
            ema.gamma_of_width(width)
        _require("ema_widths", self.ema_widths, "different widths", len({*self.ema_widths}) == len(self.ema_widths))
        _require(
            "snapshot_every",
            self.snapshot_every,
            "0 without ema_widths",
            bool(self.ema_widths) or not self.snapshot_every,
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
        _require("steps", self.steps, "integers from 1 to 100000", 1 <= self.steps <= 100_000)
        _require("guidance", self.guidance, "finite numbers", math.isfinite(self.guidance))

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
        _positive(self, "fsdp", "accumulate", "steps_per_call")
        _require("fsdp", self.fsdp, "1 with this strategy", self.fsdp == 1 or self.strategy in ("auto", "jit"))
        _require("overrides", self.overrides, "none with pmap", not self.overrides or self.strategy != "pmap")
        parallel.check_overrides(self.overrides)


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run tells beside its directory."""

    wandb: str | None = None
    """A project of Weights & Biases to report to."""
    profile: tuple[int, int] | None = None
    """First and last step of a trace of the device, written to `profile/`."""

    def __post_init__(self) -> None:
        _require("wandb", self.wandb, "the name of a project, or None", self.wandb != "")
        _require(
            "profile",
            self.profile,
            "a first step from 1 and a last",
            self.profile is None or 1 <= self.profile[0] <= self.profile[1],
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run is determined by."""

    data: DataConfig = DataConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    network: UNet | MLP = dataclasses.field(default_factory=UNet)
    """A Linen module; its number of classes is set by the data."""
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    parallel: ParallelConfig = ParallelConfig()
    log: LogConfig = LogConfig()

    def __post_init__(self) -> None:
        _check_finite("", to_json(self))
        _check_network(self.network)
        self.sample.make_tableau(self.diffusion.make_process())
        _require(
            "parallel.accumulate",
            self.parallel.accumulate,
            f"divisors of train.batch_size = {self.train.batch_size}",
            self.train.batch_size % self.parallel.accumulate == 0,
        )
        for name in ("steps", "log_every", "sample_every", "checkpoint_every", "snapshot_every"):
            every = getattr(self.train, name)
            allowed = f"multiples of parallel.steps_per_call = {self.parallel.steps_per_call}"
            _require(f"train.{name}", every, allowed, every % self.parallel.steps_per_call == 0)
        profile, last = self.log.profile, self.train.steps
        _require("log.profile", profile, f"steps up to train.steps = {last}", profile is None or profile[0] <= last)


def _check_finite(name: str, value: Any) -> None:
    """Refuses what `config.json` could not hold."""
    for key, item in value.items() if isinstance(value, dict) else ():
        _check_finite(f"{name}.{key}".strip("."), item)
    numbers = value if isinstance(value, list) else [value]
    _require(name, value, "finite numbers", all(math.isfinite(n) for n in numbers if isinstance(n, float)))


def _check_network(network: UNet | MLP) -> None:
    """What would otherwise come to light late or never; the rest a network checks itself, when it is called."""
    fields = {"network." + f.name: getattr(network, f.name) for f in dataclasses.fields(network)}
    for name in ("network.num_classes", "network.augmentation_features", "network.vector_features"):
        _require(name, fields[name], "0: the data tell of them", fields[name] == 0)
    _require("network.num_blocks", network.num_blocks, "integers from 0 to 1000", 0 <= network.num_blocks <= 1000)
    types = ("bfloat16", "float16", "float32", None)
    _require("network.dtype", network.dtype, ", ".join(map(str, types)), network.dtype in types)
    if isinstance(network, UNet):
        _require(
            "network.multipliers", network.multipliers, "positive integers", min(network.multipliers, default=1) > 0
        )
        _require("network.norm_eps", network.norm_eps, "numbers of at least 0", network.norm_eps >= 0)
        _require("network.skip_scale", network.skip_scale, "positive numbers", network.skip_scale > 0)


def to_json(config: Any) -> Any:
    """Settings as JSON can express them: dataclasses and Linen modules become objects."""
    if dataclasses.is_dataclass(config):
        hidden = ("parent", "name") if isinstance(config, nn.Module) else ()
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config) if f.name not in hidden}
    if isinstance(config, list | tuple):
        return [to_json(item) for item in config]
    if isinstance(config, dict):
        return {name: to_json(item) for name, item in config.items()}
    return config


def from_json(values: Mapping[str, Any]) -> Config:
    """The settings that `to_json` wrote.

    Raises:
      ValueError: an unknown key (with the nearest that is known), a value of the wrong type or out of range.
    """
    strict = dacite.Config(cast=[tuple], strict=True)
    try:
        if isinstance(fields := values.get("network"), Mapping):
            # Of a union, dacite could only say that no member fits.
            kind = max((UNet, MLP), key=lambda kind: len(fields.keys() & {f.name for f in dataclasses.fields(kind)}))
            values = {**values, "network": dacite.from_dict(kind, fields, strict)}
        return dacite.from_dict(Config, values, strict)
    except dacite.UnexpectedDataError as error:
        known = {f.name for part in (*_parts(Config()), MLP()) for f in dataclasses.fields(part)}
        near = [match for key in sorted(error.keys) for match in difflib.get_close_matches(key, known, n=1)]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"unknown setting {', '.join(sorted(error.keys))}{hint}") from error
    except dacite.DaciteError as error:
        raise ValueError(str(error)) from error


def _parts(config: Config) -> list[Any]:
    return [config, *(getattr(config, f.name) for f in dataclasses.fields(config))]
