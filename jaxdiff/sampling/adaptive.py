"""Sampling by the probability-flow ODE, with steps of adaptive length."""

from typing import Any

from jaxtyping import Array, Int, PyTree

from jaxdiff import probability_flow
from jaxdiff.denoisers import Denoiser


def adaptive(
    denoiser: Denoiser, x: PyTree, *, rtol: Any = 1e-5, atol: Any = 1e-5, end: Any = None, max_steps: int = 4096
) -> tuple[PyTree, Int[Array, ""]]:
    """Turns noise into samples along the probability-flow ODE, in steps as long as the tolerances allow.

        samples, evaluations = jax.jit(jd.sampling.adaptive)(denoiser, noise, rtol=1e-4, atol=1e-4)

    The method is Tsitouras' of order 5, applied to `dz/dr = eps - x0` (see `jaxdiff.probability_flow`). The
    variable `z = x / (alpha + sigma)` is of the size of the data. A step is accepted if, for every example, the root
    mean square of `error / (atol + rtol |z|)` over the coordinates is below 1. A tolerance therefore means the same for
    one example as for a thousand.

    Tolerances may be traced. The samples have reverse-mode derivatives with respect to parameters, conditions and
    noise. Under `vmap` every element has its own steps. Under `jax.jit`, `max_steps` is static.

    Args:
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `t_max`: leaves `[batch, *event]`, usually from `prior_sample`.
      rtol, atol: the relative and the absolute tolerance of a step, between 0 and 1. In float32, values below 1e-6
        bring no further accuracy.
      end: the time to stop at, from `t_min` up to but not including `t_max`; by default `t_min`. A traced value is
        clipped to the process. If no noise is left at `end` (`sigma = 0`), the ODE is followed down to `sigma/alpha =
        1e-3`, and `x/alpha` is kept from there on. For data that is smooth on a scale s, this leaves an error of about
        `1e-6 |x| / (2 s^2)`.
      max_steps: the largest number of steps that are tried.

    Returns:
      The samples, with the shapes of `x` and in float32 or wider; and the number of evaluations of the denoiser, an
      integer: one at the start, and six for every step that is tried.

    Raises:
      TypeError, ValueError: an argument of the wrong type or value.
      RuntimeError: `end` was not reached within `max_steps`. This error is raised at run time, under `jit` too.
    """
    arrival = probability_flow.transport(
        denoiser, x, to_noise=False, end=end, rtol=rtol, atol=atol, max_steps=max_steps
    )
    return arrival.x, arrival.evaluations
