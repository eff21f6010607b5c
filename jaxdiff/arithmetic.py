"""Formulas that run on the host and on devices: NumPy float64 stays NumPy float64, JAX arrays stay JAX arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def namespace(t: Any) -> Any:
    """The module to compute with: `jax.numpy` for JAX arrays and tracers, `numpy` for everything else."""
    return t.__array_namespace__() if isinstance(t, jax.Array) else np


def root(x: Any) -> Any:
    """`sqrt(x)` for `x > 0`, and 0 elsewhere. The derivative is 0 where the value is 0, and not infinite."""
    xp = namespace(x)
    positive = x > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, x, 1.0)), 0.0)


def quotient(a: Any, b: Any) -> Any:
    """`a/b`, and 0 where `b = 0`. The derivative is 0 where b is 0, and not undefined."""
    ratio = a / namespace(b).where(b != 0, b, 1)
    return namespace(ratio).where(b != 0, ratio, 0)


def derivative(function: Callable[[Any], Any], t: Any) -> Any:
    """The elementwise derivative `d function / dt` by automatic differentiation, in the arithmetic of `t`."""
    if isinstance(t, jax.Array):
        t = t.astype(jnp.promote_types(t.dtype, jnp.float32))
        return jax.jvp(function, (t,), (jnp.ones_like(t),))[1]
    # In float64, outside of any trace, and on the CPU if there is one: TPUs have no float64. A user's transfer guard is
    # not meant for these few numbers.
    with (
        jax.enable_x64(True),
        jax.ensure_compile_time_eval(),
        jax.default_device(_cpu()),
        jax.transfer_guard("allow"),
    ):
        t = jnp.asarray(t, jnp.float64)
        return np.asarray(jax.jvp(function, (t,), (jnp.ones_like(t),))[1])


def _cpu() -> Any:
    """The CPU as a JAX device; None, which means the default device, where JAX was told not to use the CPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
