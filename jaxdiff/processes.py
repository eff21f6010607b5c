"""Processes: how data turns into noise, `x_t = alpha(t) x_0 + sigma(t) eps`.

A process is a frozen dataclass with two functions, `alpha(t)` and `sigma(t)`, and the interval `[t_min, t_max]` they
are used on; time runs from data to noise. It is a pytree whose leaves are its numbers, so that they may be traced,
differentiated and learned. Everything else (log-SNR and its inverse, the SDE, corruption, the prior) follows from these
two functions and is written once, below, for any process. A new one is a subclass, with the namespace of its argument:

    class Power(Process):
        t_noise = 1.0  # no signal is left there
        power: float

        def alpha(self, t):
            return 1 - t**self.power

        def sigma(self, t):
            return namespace(t).sqrt(1 - self.alpha(t) ** 2)

    process = Power(power=2.0, t_min=1e-3, t_max=0.99)

Both functions compute in the arithmetic of their argument: a NumPy float64 time gives NumPy float64, whatever JAX's
precision flag and inside any trace, which is how solver coefficients are made; a JAX time gives a JAX array.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import derivative, namespace

# --------------------------------------------------------------------------------------- processes


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
class _Numbers:
    """Every subclass is a frozen dataclass of its numbers, and a pytree of them."""

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)
        jax.tree_util.register_dataclass(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, int):  # an integer leaf would have no derivative, and compile anew
                object.__setattr__(self, field.name, float(value))


class Process(_Numbers):
    """`x_t = alpha(t) x_0 + sigma(t) eps` for `t_min <= t <= t_max`, from data to noise.

    Attributes:
      t_min, t_max: the times that are trained on and sampled over, in the process's own units.
      t_clean: the time at which no noise is left (`sigma = 0`); it may lie below `t_min`, and at minus infinity.
      t_noise: the time at which no signal is left (`alpha = 0`); infinity for processes that never get there.
    """

    t_clean: ClassVar[float] = 0.0
    t_noise: ClassVar[float] = np.inf
    t_min: float
    t_max: float

    def alpha(self, t: Any) -> Any:
        """The scale of the data at `t` (any shape)."""
        raise TypeError(f"{type(self).__name__} does not define alpha(t)")

    def sigma(self, t: Any) -> Any:
        """The standard deviation of the noise at `t` (any shape)."""
        raise TypeError(f"{type(self).__name__} does not define sigma(t)")

    def label(self, t: Any) -> Any:
        """What networks of this process are customarily told of `t`; a parametrization may say otherwise."""
        return 1000 * t


class _VariancePreserving(Process):
    """Processes given by log alpha, with `sigma = sqrt(1 - alpha^2)` free of cancellation as alpha nears 1."""

    def log_alpha(self, t: Any) -> Any:
        raise TypeError(f"{type(self).__name__} does not define log_alpha(t)")

    def alpha(self, t: Any) -> Any:
        return namespace(t).exp(self.log_alpha(t))

    def sigma(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.sqrt(-xp.expm1(2 * self.log_alpha(t)))


class VPLinear(_VariancePreserving):
    """See `vp_linear`."""

    beta_min: float
    beta_max: float

    def log_alpha(self, t: Any) -> Any:
        return -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2


class SubVP(VPLinear):
    """See `sub_vp`."""

    def sigma(self, t: Any) -> Any:
        return -namespace(t).expm1(2 * self.log_alpha(t))


class VPCosine(Process):
    """See `vp_cosine`."""

    t_noise: ClassVar[float] = 1.0
    shift: float

    def _sides(self, t: Any) -> tuple[Any, Any, Any]:
        # cos(pi t / 2) as a sine, so that alpha(1) is zero exactly and not 6e-17.
        xp = namespace(t)
        cos, sin = xp.sin(np.pi / 2 * (1 - t)), self.shift * xp.sin(np.pi / 2 * t)
        return cos, sin, xp.sqrt(cos**2 + sin**2)

    def alpha(self, t: Any) -> Any:
        cos, _, norm = self._sides(t)
        return cos / norm

    def sigma(self, t: Any) -> Any:
        _, sin, norm = self._sides(t)
        return sin / norm


class VPNichol(Process):
    """See `vp_nichol`."""

    t_noise: ClassVar[float] = 1.0
    offset: float

    def alpha(self, t: Any) -> Any:
        xp, unit = namespace(t), np.pi / 2 / (1 + self.offset)
        return xp.sin(unit * (1 - t)) / xp.cos(xp.asarray(unit * self.offset))

    def sigma(self, t: Any) -> Any:
        # cos(a)^2 - cos(b)^2 = sin(b - a) sin(b + a): no cancellation near t = 0.
        xp, unit = namespace(t), np.pi / 2 / (1 + self.offset)
        return xp.sqrt(xp.sin(unit * t) * xp.sin(unit * (t + 2 * self.offset))) / xp.cos(xp.asarray(unit * self.offset))


class VPDiscrete(Process):
    """See `vp_discrete`."""

    t_clean: ClassVar[float] = -1.0
    log_snrs: Float[Any, " steps"]

    def _log_snr(self, t: Any) -> Any:
        xp = namespace(t)
        table = xp.asarray(self.log_snrs)
        index = xp.clip(xp.floor(t), 0, len(table) - 2).astype(int)
        within = table[index] + (t - index) * (table[index + 1] - table[index])
        # Below index 0 the ratio sigma/alpha falls linearly to 0 at t = -1, where log-SNR is infinite.
        with np.errstate(divide="ignore"):
            below = table[0] - 2 * xp.log(xp.clip(t + 1, 0, 1))
        return xp.where(t < 0, below, within)

    def alpha(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.exp(-xp.logaddexp(0.0, -self._log_snr(t)) / 2)

    def sigma(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.exp(-xp.logaddexp(0.0, self._log_snr(t)) / 2)

    def label(self, t: Any) -> Any:
        return t


class VE(Process):
    """See `ve`."""

    t_clean: ClassVar[float] = -np.inf
    sigma_min: float
    sigma_max: float

    def alpha(self, t: Any) -> Any:
        return namespace(t).ones_like(t)

    def sigma(self, t: Any) -> Any:
        xp = namespace(t)
        return self.sigma_min * xp.exp(t * xp.log(xp.asarray(self.sigma_max / self.sigma_min)))

    def label(self, t: Any) -> Any:
        return namespace(t).log(self.sigma(t)) / 4


class EDM(Process):
    """See `edm`."""

    def alpha(self, t: Any) -> Any:
        return namespace(t).ones_like(t)

    def sigma(self, t: Any) -> Any:
        return t * namespace(t).ones_like(t)

    def label(self, t: Any) -> Any:
        return namespace(t).log(t) / 4


class Flow(Process):
    """See `flow`."""

    t_noise: ClassVar[float] = 1.0

    def alpha(self, t: Any) -> Any:
        return 1 - t

    def sigma(self, t: Any) -> Any:
        return t * namespace(t).ones_like(t)


class Trigonometric(Process):
    """See `trigonometric`."""

    t_noise: ClassVar[float] = np.pi / 2
    sigma_data: float

    def alpha(self, t: Any) -> Any:
        return namespace(t).sin(np.pi / 2 - t)

    def sigma(self, t: Any) -> Any:
        return self.sigma_data * namespace(t).sin(t)


# ------------------------------------------------------------------------------------------ makers


def _check_interval(t_min: float, t_max: float, low: float = 0.0, high: float = np.inf) -> None:
    if not low <= t_min < t_max <= high:
        raise ValueError(f"t_min = {t_min}, t_max = {t_max}; allowed is {low} <= t_min < t_max <= {high}")


def _check_ordered(low_name: str, low: float, high_name: str, high: float) -> None:
    if not 0 < low < high < np.inf:
        raise ValueError(f"{low_name} = {low}, {high_name} = {high}; allowed is 0 < {low_name} < {high_name}")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise ValueError(f"{name} = {value}; allowed are positive finite numbers")


def vp_linear(beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3, t_max: float = 1.0) -> VPLinear:
    """The variance-preserving SDE with a linear rate: `alpha = exp(-t^2 (beta_max - beta_min)/4 - t beta_min/2)`.

    `sigma = sqrt(1 - alpha^2)`. Song et al. 2021 (arXiv 2011.13456), appendix B; DDPM in continuous time.
    """
    _check_interval(t_min, t_max)
    _check_ordered("beta_min", beta_min, "beta_max", beta_max)
    return VPLinear(beta_min=beta_min, beta_max=beta_max, t_min=t_min, t_max=t_max)


def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3, t_max: float = 1.0) -> SubVP:
    """The sub-VP SDE: `alpha` as `vp_linear`, and `sigma = 1 - alpha^2` with no square root.

    Song et al. 2021 (arXiv 2011.13456), section 3.4 and appendix B.
    """
    _check_interval(t_min, t_max)
    _check_ordered("beta_min", beta_min, "beta_max", beta_max)
    return SubVP(beta_min=beta_min, beta_max=beta_max, t_min=t_min, t_max=t_max)


def vp_cosine(shift: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> VPCosine:
    """The continuous cosine schedule: `sigma/alpha = shift * tan(pi t/2)`, `alpha^2 + sigma^2 = 1`, `t` in [0, 1].

    With `shift = 1`, `alpha = cos(pi t/2)` and `sigma = sin(pi t/2)`. For images of d x d pixels, Hoogeboom et al. 2023
    (simple diffusion, arXiv 2301.11093) move log-SNR by `2 log(64/d)`: that is `shift = d/64`.
    At `t = 1` no signal is left (`alpha = 0`): use the v, velocity, x0 or EDM parametrization there.
    """
    _check_interval(t_min, t_max, high=1.0)
    _check_positive("shift", shift)
    return VPCosine(shift=shift, t_min=t_min, t_max=t_max)


def vp_nichol(offset: float = 0.008, t_min: float = 1e-3, t_max: float = 1.0) -> VPNichol:
    """The cosine schedule with an offset: `alpha = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s))`, `t` in [0, 1].

    Nichol & Dhariwal 2021 (iDDPM, arXiv 2102.09672), equation 17, in continuous time; `sigma = sqrt(1 - alpha^2)`.
    `vp_discrete("cosine")` is the paper's 1000-step form with its cap. At `t = 1`, `alpha = 0`.
    """
    _check_interval(t_min, t_max, high=1.0)
    _check_positive("offset", offset)
    return VPNichol(offset=offset, t_min=t_min, t_max=t_max)


def vp_discrete(schedule: str = "linear", steps: int = 1000) -> VPDiscrete:
    """DDPM's chain: `alpha(i) = sqrt(prod_{j <= i} (1 - beta_j))` at the indices `i = 0..steps-1`.

    Between indices log-SNR is linear. Index -1, where nothing has been corrupted yet, is `t_clean`. Networks are told
    the index.

    Args:
      schedule: "linear" (beta from 1e-4 to 0.02 at 1000 steps; Ho et al. 2020, arXiv 2006.11239, section 4),
        "scaled_linear" (its square root linear from 0.00085 to 0.012; Rombach et al. 2022, arXiv 2112.10752), or
        "cosine" (Nichol & Dhariwal 2021, arXiv 2102.09672, equation 17, betas capped at 0.999).
      steps: the length of the chain; the rates of the first two are scaled by `1000/steps`.

    Raises:
      ValueError: an unknown schedule, fewer than two steps, or rates outside of (0, 1).
    """
    if steps < 2:
        raise ValueError(f"steps = {steps}; allowed are integers of at least 2")
    rate = 1000 / steps
    if schedule == "linear":
        betas = np.linspace(1e-4 * rate, 0.02 * rate, steps)
    elif schedule == "scaled_linear":
        betas = np.linspace(np.sqrt(0.00085 * rate), np.sqrt(0.012 * rate), steps) ** 2
    elif schedule == "cosine":
        level = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - level[1:] / level[:-1], 0.999)
    else:
        raise ValueError(f"schedule = {schedule!r}; allowed are 'linear', 'scaled_linear' and 'cosine'")
    return vp_from_betas(betas)


def vp_from_betas(betas: Any) -> VPDiscrete:
    """DDPM's chain for given rates: `alpha(i)^2 = prod_{j <= i} (1 - betas[j])`. See `vp_discrete`.

    Args:
      betas: `[steps]`, each in (0, 1).
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or len(betas) < 2 or not np.all((betas > 0) & (betas < 1)):
        raise ValueError(f"betas = {betas}; allowed is an array [steps >= 2] of numbers in (0, 1)")
    log_alpha2 = np.cumsum(np.log1p(-betas))
    return VPDiscrete(log_snrs=log_alpha2 - np.log(-np.expm1(log_alpha2)), t_min=0.0, t_max=float(len(betas) - 1))


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0, t_min: float = 0.0, t_max: float = 1.0) -> VE:
    """The variance-exploding SDE: `alpha = 1`, `sigma = sigma_min (sigma_max/sigma_min)^t`, `t` in [0, 1].

    Its prior has standard deviation `sigma_max`. Song et al. 2021 (arXiv 2011.13456), section 3.4.
    """
    _check_interval(t_min, t_max)
    _check_ordered("sigma_min", sigma_min, "sigma_max", sigma_max)
    return VE(sigma_min=sigma_min, sigma_max=sigma_max, t_min=t_min, t_max=t_max)


def edm(sigma_min: float = 0.002, sigma_max: float = 80.0) -> EDM:
    """`alpha = 1`, `sigma = t`: time is the noise level. Karras et al. 2022 (arXiv 2206.00364), table 1."""
    _check_ordered("sigma_min", sigma_min, "sigma_max", sigma_max)
    return EDM(t_min=sigma_min, t_max=sigma_max)


def flow(t_min: float = 0.0, t_max: float = 1.0) -> Flow:
    """The straight line from data to noise: `alpha = 1 - t`, `sigma = t`, `t` in [0, 1].

    Rectified flow (Liu et al. 2023, arXiv 2209.03003), flow matching (Lipman et al. 2023, arXiv 2210.02747; there time
    runs the other way). At `t = 1` no signal is left: use the velocity, v, x0 or EDM parametrization there.
    """
    _check_interval(t_min, t_max, high=1.0)
    return Flow(t_min=t_min, t_max=t_max)


def trigonometric(sigma_data: float = 1.0, t_min: float = 0.0, t_max: float = np.pi / 2) -> Trigonometric:
    """`alpha = cos t`, `sigma = sigma_data sin t`, `t` in [0, pi/2]. TrigFlow: Lu & Song 2025 (sCM, arXiv 2410.11081),
    section 3.
    """
    _check_interval(t_min, t_max, high=np.pi / 2)
    _check_positive("sigma_data", sigma_data)
    return Trigonometric(sigma_data=sigma_data, t_min=t_min, t_max=t_max)


# ----------------------------------------------------------------------- what follows from the two


def on_host(process: Process) -> Process:
    """The process with NumPy numbers, for grids and tableaux, which are made on the host in float64.

    Raises:
      TypeError: not a process, one whose numbers are being traced, or one that does not keep to NumPy (see the head of
        this file).
    """
    if not isinstance(process, Process):
        raise TypeError(f"process = {process!r}; allowed is a Process, such as jaxdiff.processes.vp_linear()")
    name = type(process).__name__
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(process)):
        raise TypeError(
            f"process is a {name} whose numbers are being traced; pass times as a JAX array, or do this outside of jit"
        )
    process = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[()], process)
    if isinstance(process.alpha(np.float64(process.t_max)), jax.Array):
        raise TypeError(
            f"alpha(t) of {name} makes a JAX array of NumPy times; compute in namespace(t) (see jaxdiff.processes)"
        )
    return process


def same_process(one: Process, other: Process) -> bool:
    """Whether two processes are of one kind and, where it can be told, of the same numbers to float32's precision."""
    if not trees.same_structure(one, other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    known = ((a, b) for a, b in pairs if not isinstance(a, jax.core.Tracer) and not isinstance(b, jax.core.Tracer))
    return all(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in known)


def log_snr(process: Process, t: Any) -> Any:
    """`log(alpha(t)^2 / sigma(t)^2)`: decreasing in `t`, infinite without noise, minus infinity without signal."""
    xp = namespace(t)
    with np.errstate(divide="ignore"):
        return 2 * (xp.log(process.alpha(t)) - xp.log(process.sigma(t)))


def time_of_log_snr(process: Process, value: Any) -> Any:
    """The time at which `log_snr` takes `value`: its inverse, by bisection, for any process.

    In float64 for NumPy values, to the last digit; for JAX values in their own arithmetic, with first derivatives. Plus
    infinity gives `t_clean`.

    Args:
      value: log-SNR, any shape. A JAX value that the process does not reach gives some time near its ends: clip.

    Raises:
      ValueError: (NumPy only) the process does not reach `value`.
    """
    xp = namespace(value)
    if xp is np:
        process, value = on_host(process), np.asarray(value, np.float64)
    clean = value == np.inf
    value = xp.where(clean, 0.0, value)
    span = process.t_max - process.t_min
    low = process.t_clean if np.isfinite(process.t_clean) else process.t_min - 8 * span
    high = xp.minimum(process.t_noise, process.t_max + 8 * span)
    low, high = low * xp.ones_like(value), high * xp.ones_like(value)

    def halve(_: Any, bracket: tuple[Any, Any]) -> tuple[Any, Any]:
        middle = (bracket[0] + bracket[1]) / 2
        above = log_snr(process, middle) > value
        return xp.where(above, middle, bracket[0]), xp.where(above, bracket[1], middle)

    if xp is np:
        for i in range(200):  # an absolute 2^-200 of the bracket: relative precision down to tiny times
            low, high = halve(i, (low, high))
        t = (low + high) / 2
        with np.errstate(invalid="ignore"):  # infinity from infinity
            missed = ~clean & ~np.isclose(log_snr(process, t), value, rtol=1e-6, atol=1e-6)
        if np.any(missed):
            raise ValueError(f"log-SNR {value[missed] if value.ndim else value} is out of the reach of {process}")
        return np.where(clean, process.t_clean, t)
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, 64, halve, (low, high)))
    t = (low + high) / 2
    # One Newton step from the solution: it changes nothing but gives the derivative of the inverse function.
    slope = jax.lax.stop_gradient(derivative(lambda s: log_snr(process, s), t))
    return jnp.where(clean, process.t_clean, t - (log_snr(process, t) - value) / slope)


def drift(process: Process, t: Any) -> Any:
    """`f(t) = d log alpha / dt` of the SDE `dx = f x dt + g dw`; minus infinity where no signal is left.

    Song et al. 2021 (arXiv 2011.13456), section 3; in terms of alpha and sigma, Kingma et al. 2021 (VDM, arXiv
    2107.00630).
    """
    with np.errstate(divide="ignore"):
        return derivative(process.alpha, t) / process.alpha(t)


def diffusion(process: Process, t: Any) -> Any:
    """`g(t)` of the SDE `dx = f x dt + g dw`: `g^2 = d sigma^2/dt - 2 f sigma^2`. Source as `drift`."""
    xp = namespace(t)
    sigma = process.sigma(t)
    squared = 2 * sigma * (derivative(process.sigma, t) - drift(process, t) * sigma)
    return xp.sqrt(xp.maximum(squared, 0.0))


def corrupt(process: Process, x0: PyTree, eps: PyTree, t: Any) -> PyTree:
    """`x_t = alpha(t) x0 + sigma(t) eps`.

    Args:
      x0, eps: data and standard normal noise, leaves `[batch, *event]`.
      t: a scalar or `[batch]`.
    """
    t = jnp.asarray(t)
    return trees.lincomb((process.alpha(t), process.sigma(t)), (x0, eps))


def prior_sample(key: Key[Array, "*batch"], process: Process, shape: PyTree) -> PyTree:
    """Noise to start sampling from: normal with mean 0 and standard deviation `sigma(t_max)`.

    Args:
      key: one key, or one key per example (`[batch]`).
      shape: `(batch, *event)`, or a pytree of arrays or `jax.ShapeDtypeStruct` of such shapes.

    Returns: noise in float32, or float64 where that is JAX's default or the type asked for.
    """
    if isinstance(shape, int):
        raise TypeError(f"shape = {shape}; allowed is (batch, *event), or a pytree of arrays")
    if isinstance(shape, Sequence) and all(isinstance(n, int | np.integer) for n in shape):
        shape = jax.ShapeDtypeStruct(tuple(shape), jnp.result_type(float))
    return trees.lincomb((process.sigma(jnp.asarray(process.t_max)),), (trees.normal_like(trees.as_key(key), shape),))
