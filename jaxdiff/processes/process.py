"""The class of processes, and the functions that work for every process.

A process `x_t = alpha(t) x_0 + sigma(t) eps` is a frozen dataclass with two functions, `alpha(t)` and `sigma(t)`, and
an interval of times `[t_min, t_max]`. Time runs from data to noise. A process is also a pytree. Its numbers are the
leaves, so they can be traced, differentiated and learned. The functions at the end of this file (log-SNR and its
inverse, the SDE, corruption, the prior) need only alpha and sigma. A new process is a subclass of `Process`:

    class Power(Process):
        t_noise = 1.0  # no signal is left there
        power: float

        def alpha(self, t):
            return 1 - t**self.power

        def sigma(self, t):
            return namespace(t).sqrt(1 - self.alpha(t) ** 2)

    process = Power(power=2.0, t_min=1e-3, t_max=0.99)

Both functions compute in the arithmetic of their argument, with the functions of `namespace(t)`. A JAX time gives a JAX
array. A NumPy float64 time gives NumPy float64, even inside a trace and without JAX's x64 mode. Solvers compute their
coefficients in this way.
"""

import dataclasses
from collections.abc import Sequence
from numbers import Integral, Number
from typing import Any, ClassVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import derivative, namespace, root
from jaxdiff.checks import message, require
from jaxdiff.jitted import jitted

# A time grid: times in the units of the process, decreasing from noise to data. A NumPy array, or a traced JAX array.
Times = Float[Any, " steps+1"]


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
class _Numbers(trees.ByValue):
    """The base class that makes every subclass a frozen dataclass and a pytree of its numbers, compared by value."""

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)
        trees.register(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Integral) and not field.metadata.get("static"):
                # An integer leaf would have no derivative, and would be compiled for separately.
                object.__setattr__(self, field.name, float(value))


class Process(_Numbers):
    """A process `x_t = alpha(t) x_0 + sigma(t) eps` for `t_min <= t <= t_max`, from data to noise.

    Processes of one class with the same numbers are equal. `same_process` compares to float32's precision.

    Attributes:
      t_min, t_max: the ends of the interval that is used for training and sampling, in the units of the process.
      t_clean: the time without noise (`sigma = 0`). It may lie below `t_min`, and may be minus infinity.
      t_noise: the time without signal (`alpha = 0`). It is infinity for a process that always keeps some signal.
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
        """The default time input of networks for this process. A parametrization may use another one."""
        return 1000 * t


class VariancePreserving(Process):
    """A process given by log alpha, with `sigma = sqrt(1 - alpha^2)` computed without cancellation near `alpha = 1`."""

    def log_alpha(self, t: Any) -> Any:
        """The logarithm of `alpha` at `t` (any shape)."""
        raise TypeError(f"{type(self).__name__} does not define log_alpha(t)")

    def alpha(self, t: Any) -> Any:
        return namespace(t).exp(self.log_alpha(t))

    def sigma(self, t: Any) -> Any:
        return root(-namespace(t).expm1(2 * self.log_alpha(t)))


# -------------------------------------------------------------------- functions of every process


# Where the errors of `check_functions` and `on_host` send the author of a process.
_HOW = "computed with namespace(t) (see jaxdiff.processes.process)"
# The classes whose functions JAX has traced. Tracing takes longer than making a tableau.
_TRACED: set[type[Process]] = set()


def check_functions(process: Process) -> None:
    """Raises a TypeError unless JAX can trace the functions of a process, which `numpy.cos` and the like prevent."""
    kind = type(process)
    if kind in _TRACED:
        return
    for function in (process.alpha, process.sigma, process.time_input):
        try:
            jax.eval_shape(function, jax.ShapeDtypeStruct((1,), jnp.result_type(float)))
        except jax.errors.JAXTypeError as error:
            called = f"{kind.__name__}.{function.__name__}(t) for a JAX time t"
            raise TypeError(message(called, type(error).__name__, f"JAX arrays, {_HOW}")) from error
    _TRACED.add(kind)


def on_host(process: Process) -> Process:
    """The process with NumPy numbers. Grids and tableaux are made with it, on the host and in float64.

    Raises:
      TypeError: `process` is not a process; or JAX is tracing it; or its functions do not return NumPy arrays of the
        shape of their argument, or cannot be traced by JAX.
    """
    require(isinstance(process, Process), "process", process, "processes, such as vp_linear()", TypeError)
    name = type(process).__name__
    if trees.traced(process):
        raise TypeError(
            f"process = {name} with traced numbers; allowed are known numbers: call this outside of JAX's "
            "transformations, or pass the times to the jitted function as an argument"
        )
    process = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[()], process)
    for function in (process.alpha, process.sigma):
        value = function(np.array([process.t_max]))
        called = f"{name}.{function.__name__}(t)"
        numpy_only = f"NumPy arrays for NumPy times, {_HOW}"
        require(not isinstance(value, jax.Array), f"type of {called}", type(value), numpy_only, TypeError)
        require(np.shape(value) == (1,), f"{called}.shape", np.shape(value), "(1,), the shape of t", TypeError)
    check_functions(process)
    return process


def same_process(one: Process, other: Process) -> bool:
    """Whether two processes have the same class and the same numbers to float32's precision.

    Numbers that JAX is tracing are not compared.
    """
    if not trees.same_structure(one, other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    known = (pair for pair in pairs if not trees.traced(pair))
    return all(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in known)


def log_snr(process: Process, t: Any) -> Any:
    """The log-SNR `log(alpha(t)^2 / sigma(t)^2)`. It decreases from infinity (no noise) to minus infinity."""
    xp = namespace(t)
    with np.errstate(divide="ignore"):
        return 2 * (xp.log(process.alpha(t)) - xp.log(process.sigma(t)))


def time_of_log_snr(process: Process, value: Any) -> Any:
    """The time at which the log-SNR is `value`: the inverse of `log_snr`, by bisection.

    NumPy values give times in float64, accurate to the last digit. JAX values give times in their own type, which have
    first derivatives. A log-SNR of infinity gives `t_clean`.

    Args:
      process: the process.
      value: log-SNR, any shape. A JAX value that the process does not reach gives some time near the ends of the
        process, so clip such values.

    Raises:
      ValueError: the process does not reach `value`. Only NumPy values are checked.
    """
    if namespace(value) is not np:
        return _time_on_device(process, value)
    process, value = on_host(process), np.asarray(value, np.float64)
    clean, low, high, halve = _bracket(process, value)
    for i in range(200):  # down to 2^-200 of the bracket, so that tiny times have full relative precision
        before = low, high
        low, high = halve(i, before)
        if np.array_equal(low, before[0]) and np.array_equal(high, before[1]):
            break
    t = (low + high) / 2
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        missed = ~clean & ~np.isclose(log_snr(process, t), value, rtol=1e-6, atol=1e-6)
    if np.any(missed):
        reached = f"values that this {type(process).__name__} reaches"
        raise ValueError(message("log-SNR", value[missed] if value.ndim else value, reached))
    return np.where(clean, process.t_clean, t)


@jitted
def _time_on_device(process: Process, value: Any) -> Any:
    clean, low, high, halve = _bracket(process, value)
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, 64, halve, (low, high)))
    t = (low + high) / 2
    # A Newton step from the solution does not change the value, but gives it the derivative of the inverse function.
    slope = jax.lax.stop_gradient(derivative(lambda s: log_snr(process, s), t))
    return jnp.where(clean, process.t_clean, t - (log_snr(process, t) - value) / slope)


def _bracket(process: Process, value: Any) -> tuple[Any, Any, Any, Any]:
    """Where the value is infinite, the ends of an interval that holds the time, and a function that halves it."""
    xp = namespace(value)
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

    return clean, low, high, halve


def drift(process: Process, t: Any) -> Any:
    """The drift `f(t) = d log alpha / dt` of the SDE `dx = f x dt + g dw`. Without signal it is minus infinity.

    Song et al. 2021 (arXiv 2011.13456), section 3. The form in alpha and sigma is that of Kingma et al. 2021 (VDM,
    arXiv 2107.00630).
    """
    with np.errstate(divide="ignore"):
        return derivative(process.alpha, t) / process.alpha(t)


def diffusion(process: Process, t: Any) -> Any:
    """The diffusion coefficient g(t) of the SDE `dx = f x dt + g dw`: `g^2 = d sigma^2/dt - 2 f sigma^2`.

    The sources are those of `drift`.
    """
    xp = namespace(t)
    sigma = process.sigma(t)
    squared = 2 * sigma * (derivative(process.sigma, t) - drift(process, t) * sigma)
    return xp.sqrt(xp.maximum(squared, 0.0))


def corrupt(process: Process, x0: PyTree, eps: PyTree, t: Any) -> PyTree:
    """The corrupted data `x_t = alpha(t) x0 + sigma(t) eps`, in float32 or wider.

    Args:
      process: the process.
      x0: the data, leaves `[batch, *event]`.
      eps: standard normal noise of the shape of `x0`.
      t: a scalar or `[batch]`.

    Raises:
      TypeError: `x0` is not floating-point, such as a picture in bytes.
    """
    trees.check_floating("x0", x0)
    t = jnp.asarray(t)
    return trees.lincomb((process.alpha(t), process.sigma(t)), (x0, eps))


def prior_sample(key: Key[Array, "*batch"], process: Process, shape: PyTree, *, t: Any = None) -> PyTree:
    """The noise that sampling starts from: normal, with mean 0 and standard deviation `sigma(t_max)`.

    Args:
      key: one key, or one key per example (`[batch]`).
      process: the process.
      shape: `(batch, *event)`, or a pytree of arrays or of `jax.ShapeDtypeStruct` with such shapes.
      t: the time that sampling starts from, if not `t_max`: `times[0]` of a grid that starts elsewhere.

    Returns:
      Noise of this shape, in float32 or the wider type of `shape`. For a tuple, the type is JAX's default float type.

    Raises:
      TypeError: `shape` is a number, or holds one that is no integer, or `key` is not a JAX random key, or JAX cannot
        trace the process.
      ValueError: `shape` is empty, or the shape of `key` is neither `()` nor `[batch]`.
    """
    check_functions(process)
    if isinstance(shape, np.ndarray) and shape.ndim == 1 and shape.dtype.kind in "iu":
        shape = tuple(shape.tolist())
    numbers = isinstance(shape, Sequence) and all(isinstance(n, Number) for n in shape)
    whole = numbers and all(isinstance(n, Integral) and not isinstance(n, bool) for n in shape)
    good = not isinstance(shape, Number) and numbers == whole
    require(good, "shape", shape, "(batch, *event) of integers, and pytrees of arrays", TypeError)
    if numbers:
        require(shape, "shape", shape, "(batch, *event)")
        shape = jax.ShapeDtypeStruct(tuple(map(int, shape)), jnp.result_type(float))
    std = process.sigma(jnp.asarray(process.t_max if t is None else t))
    return trees.lincomb((std,), (trees.normal_like(trees.as_key(key), shape),))
