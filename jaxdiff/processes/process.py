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
from jaxdiff.arithmetic import derivative, namespace, root

# A time grid: decreasing from noise to data, in the units of the process. NumPy, or a JAX array where it is traced.
Times = Float[Any, " steps+1"]


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
class _Numbers:
    """Every subclass is a frozen dataclass of its numbers, and a pytree of them."""

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)
        trees.register(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, int) and not field.metadata.get("static"):
                # An integer leaf would have no derivative, and compile anew.
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

    def time_input(self, t: Any) -> Any:
        """What networks of this process are customarily told of `t`; a parametrization may say otherwise."""
        return 1000 * t


class VariancePreserving(Process):
    """Processes given by log alpha, with `sigma = sqrt(1 - alpha^2)` free of cancellation as alpha nears 1."""

    def log_alpha(self, t: Any) -> Any:
        raise TypeError(f"{type(self).__name__} does not define log_alpha(t)")

    def alpha(self, t: Any) -> Any:
        return namespace(t).exp(self.log_alpha(t))

    def sigma(self, t: Any) -> Any:
        return root(-namespace(t).expm1(2 * self.log_alpha(t)))


# ------------------------------------------------------------------ what follows from alpha and sigma


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
            f"process is a {name} whose numbers are being traced; do this outside of transformations, or inside of "
            "jax.jit with times as an argument of the function"
        )
    process = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[()], process)
    for function in (process.alpha, process.sigma):
        made = function(np.array([process.t_max]))
        if isinstance(made, jax.Array):
            raise TypeError(
                f"{function.__name__}(t) of {name} makes a JAX array of NumPy times; compute in namespace(t) (see "
                "jaxdiff.processes)"
            )
        if np.shape(made) != (1,):
            raise TypeError(
                f"{function.__name__}(t) of {name} has shape {np.shape(made)} for times of shape (1,); allowed is "
                "theirs"
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
            before = low, high
            low, high = halve(i, before)
            if np.array_equal(low, before[0]) and np.array_equal(high, before[1]):
                break
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


def prior_sample(key: Key[Array, "*batch"], process: Process, shape: PyTree, *, t: Any = None) -> PyTree:
    """Noise to start sampling from: normal with mean 0 and standard deviation `sigma(t_max)`.

    Args:
      key: one key, or one key per example (`[batch]`).
      shape: `(batch, *event)`, or a pytree of arrays or `jax.ShapeDtypeStruct` of such shapes.
      t: where sampling starts, if not at `t_max`: `times[0]` of a grid that begins elsewhere.

    Returns: noise in float32, or float64 where that is JAX's default or the type asked for.
    """
    if isinstance(shape, int):
        raise TypeError(f"shape = {shape}; allowed is (batch, *event), or a pytree of arrays")
    if isinstance(shape, Sequence) and all(isinstance(n, int | np.integer) for n in shape):
        shape = jax.ShapeDtypeStruct(tuple(shape), jnp.result_type(float))
    std = process.sigma(jnp.asarray(process.t_max if t is None else t))
    return trees.lincomb((std,), (trees.normal_like(trees.as_key(key), shape),))
