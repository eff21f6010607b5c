"""A learned weight of the loss at each noise level: `u(time)` turns the loss into `loss/e^u + u`.

The loss `loss/e^u + u` is least at `u = log(expected loss)`, where all noise levels contribute equally: Karras et al.
2024 (EDM2, arXiv 2312.02696). The function is trained beside the network and has no use after training.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff.parametrizations import Parametrization
from jaxdiff.processes import Process

FEATURES = 64
"""The number of random frequencies. Each gives a sine and a cosine, as in EDM2."""

# The range of the time input log(sigma)/4 for which EDM2 chose its random features: sigma from 0.002 to 80.
_EDM_SPAN = np.log(80 / 0.002) / 4


def init() -> dict[str, Array]:
    """The parameters of u, which is zero at first."""
    return {"kernel": jnp.zeros(2 * FEATURES), "bias": jnp.zeros(())}


def log_variance(params: dict[str, Array], time: Float[Array, " batch"], scale: float = 1.0) -> Float[Array, " batch"]:
    """A linear function u of random Fourier features of the time input.

    Args:
      params: see `init`.
      time: the time input of the network.
      scale: the standard deviation of the frequencies, in cycles per unit of `time`.
    """
    # The stream of this generator never changes between versions of NumPy.
    frequencies = 2 * np.pi * scale * np.random.RandomState(0).standard_normal(len(params["kernel"]) // 2)
    angles = time[:, None] * frequencies.astype(time.dtype)
    features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return features @ params["kernel"] + params["bias"]


def scale_of(process: Process, parametrization: Parametrization) -> float:
    """The scale with which u is as smooth over the range of the time input as EDM2's function over its own."""
    # At the ends of the process some time inputs are infinite.
    early, late = (process.t_min * (1 - u) + process.t_max * u for u in (1e-3, 1 - 1e-3))
    span = abs(float(parametrization.time_input(process, late)) - float(parametrization.time_input(process, early)))
    return _EDM_SPAN / span
