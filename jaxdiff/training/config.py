"""Settings of a training run: frozen dataclasses, every field typed, checked when they are made.

Presets are values of `Config`, in `configs/`; the command line overrides single fields; a run directory keeps them as
JSON. The network is the Linen module itself, whose fields are its settings. Names (`process = "vp_cosine"`) are those
of the functions in `jaxdiff`, and `..._options` their keyword arguments.
"""

import dataclasses
import difflib
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
        _require(name, value, "positive finite numbers", 0 < value < math.inf)


def _not_negative(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(name, value, "finite numbers of at least 0", 0 <= value < math.inf)


def _call(kind: str, function: Any, *args: Any, options: Mapping[str, Any]) -> Any:
    """Calls a function named in the settings, so that a wrong option is a one-line error."""
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
    resident: bool = True
    """Decode the whole set into memory once."""

    def __post_init__(self) -> None:
        _require("size", self.size, "positive integers", self.size is None or self.size > 0)
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
        if self.weighting == "output":
            return None
        if self.weighting == "likelihood":
            return weightings.likelihood
        if self.weighting in ("edm", "min_snr", "p2", "sigmoid"):
            return _call("weighting", getattr(weightings, self.weighting), options=self.weighting_options)
        return weightings.uniform(getattr(parametrizations, self.weighting)())

    def make_times(self) -> time_samplers.TimeSampler:
        """The time sampler that is named."""
        sampler = getattr(time_samplers, self.times)
        return (
            sampler
            if self.times in ("uniform", "stratified", "indices")
            else _call("times", sampler, options=self.times_options)
        )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW."""

    learning_rate: float = 1e-3
    warmup: int = 200
    """Steps of linear warm-up."""
    decay: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest global norm of the gradient; 0 for no clipping."""
    beta1: float = 0.9
    beta2: float = 0.999
    tolerance: float = 1e-8
    """Adam's epsilon."""

    def __post_init__(self) -> None:
        _positive(self, "learning_rate", "tolerance")
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
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 1000
    """Steps between sample grids; 0 for one at the end only."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; there is one at the end in any case."""
    keep: int = 3
    """Checkpoints that stay on disk."""

    def __post_init__(self) -> None:
        _positive(self, "steps", "batch_size", "ema_half_life", "log_every", "checkpoint_every", "keep")
        _not_negative(self, "seed", "sample_every")
        _require("seed", self.seed, "integers below 2**32", self.seed < 2**32)


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
        _positive(self, "steps")
        _require("guidance", self.guidance, "finite numbers", math.isfinite(self.guidance))

    def make_tableau(self, process: Process) -> Tableau:
        """The tableau that is named, for a process.

        Raises:
          ValueError, TypeError: a grid or solver that the process does not allow, or options that it does not have.
        """
        times = _call("grid", getattr(grids, self.grid), process, self.steps, options=self.grid_options)
        return _call("solver", getattr(solvers, self.solver), process, times, options=self.solver_options)


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

    def __post_init__(self) -> None:
        self.sample.make_tableau(self.diffusion.make_process())


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
