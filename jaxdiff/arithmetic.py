"""One formula for the host and for devices: NumPy float64 stays NumPy float64, JAX arrays stay JAX arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def namespace(t: Any) -> Any:
    """`jax.numpy` for JAX arrays and tracers, `numpy` for everything else."""
    return t.__array_namespace__() if isinstance(t, jax.Array) else np


def derivative(function: Any, t: Any) -> Any:
    """`d function / dt` elementwise, by automatic differentiation, in the arithmetic of `t`."""
    if isinstance(t, jax.Array):
        return jax.jvp(function, (t,), (jnp.ones_like(t),))[1]
    # On the host: float64 at once and outside of any trace that may be under way.
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        t = jnp.asarray(t, jnp.float64)
        return np.asarray(jax.jvp(function, (t,), (jnp.ones_like(t),))[1])
