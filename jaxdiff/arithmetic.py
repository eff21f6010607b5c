"""One formula for the host and for devices: NumPy float64 stays NumPy float64, JAX arrays stay JAX arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def namespace(t: Any) -> Any:
    """`jax.numpy` for JAX arrays and tracers, `numpy` for everything else."""
    return t.__array_namespace__() if isinstance(t, jax.Array) else np


def root(x: Any) -> Any:
    """`sqrt(x)` for `x > 0` and 0 elsewhere, with a derivative of 0 there and not an infinite one."""
    xp = namespace(x)
    positive = x > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, x, 1.0)), 0.0)


def derivative(function: Any, t: Any) -> Any:
    """`d function / dt` elementwise, by automatic differentiation, in the arithmetic of `t`."""
    if isinstance(t, jax.Array):
        t = t.astype(jnp.promote_types(t.dtype, jnp.float32))
        return jax.jvp(function, (t,), (jnp.ones_like(t),))[1]
    # In float64, outside of any trace that may be under way, and on the CPU where there is one: TPUs have no float64.
    with jax.enable_x64(True), jax.ensure_compile_time_eval(), jax.default_device(_cpu()):
        t = jnp.asarray(t, jnp.float64)
        return np.asarray(jax.jvp(function, (t,), (jnp.ones_like(t),))[1])


def _cpu() -> Any:
    """The host as a JAX device; None, the default device, where JAX was told to leave it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
