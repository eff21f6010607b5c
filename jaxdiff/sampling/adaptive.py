"""Sampling by the probability-flow ODE in steps of adaptive length."""

from typing import Any

from jaxtyping import Array, Int, PyTree

from jaxdiff import probability_flow
from jaxdiff.denoisers import Denoiser


def adaptive(
    denoiser: Denoiser, x: PyTree, *, rtol: Any = 1e-5, atol: Any = 1e-5, end: Any = None, max_steps: int = 4096
) -> tuple[PyTree, Int[Array, ""]]:
    """Turns noise into samples along the probability-flow ODE, in steps as long as the tolerances allow.

        samples, evaluations = jax.jit(jd.sampling.adaptive)(denoiser, noise, rtol=1e-4, atol=1e-4)

    Tsitouras' method of order 5 on `dz/dr = eps - x0` (`jaxdiff.probability_flow`), by diffrax. A step is accepted if
    for every example the root mean square over its coordinates of `error / (atol + rtol |z|)` is below 1, with `z = x /
    (alpha + sigma)`, which is of the size of the data: one number says as much for one example as for a thousand.

    Tolerances may be traced, the result has derivatives in reverse mode (with respect to parameters, conditions and
    noise), and `vmap` gives every element its own steps. Under `jax.jit`, `max_steps` is static.

    Args:
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `t_max`: leaves `[batch, *event]`, usually from `prior_sample`.
      rtol, atol: relative and absolute tolerance of a step, between 0 and 1. In float32 below 1e-6 there is nothing to
        gain.
      end: where to stop, a time from `t_min` on (a traced one is clipped); `t_min` by default. If no noise is left
        there (`sigma = 0`) the denoiser is asked down to `sigma/alpha = 1e-3`, and the rest of the way `x/alpha` is
        kept: for data that is smooth on a scale s, off by `1e-6 |x| / (2 s^2)`.
      max_steps: how many steps are tried at most.

    Returns: the samples, as x in float32 or wider, and how often the denoiser was asked, an integer: 6 times a step,
      accepted or not, and once at the start.

    Raises:
      TypeError, ValueError: arguments that are not what they should be, by name.
      RuntimeError: (at run time, under `jit` too) the end was not reached within `max_steps`.
    """
    arrival = probability_flow.transport(
        denoiser, x, to_noise=False, end=end, rtol=rtol, atol=atol, max_steps=max_steps
    )
    return arrival.x, arrival.evaluations
