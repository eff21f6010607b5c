"""The variational bound in continuous time: VDM's."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.likelihood.bounds import (
    Bound,
    check_arguments,
    error,
    event_sum,
    prior_divergence,
    reconstruction,
)
from jaxdiff.processes import Process, corrupt, time_of_log_snr


def continuous_time(
    key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, *, levels: int | None = None, samples: int = 1
) -> Bound:
    """A bound on `-log p(x)` by infinitely many steps from `t_max` to `t_min`:

        prior = |alpha x|^2/(2 sigma^2) at t_max        reconstruction = -log p(x | x_t) at t_min
        diffusion = 1/2 int (-d log SNR/dt) E|eps - eps_hat|^2 dt

    Kingma et al. 2021 (VDM, arXiv 2107.00630), equations 4 and 11 to 18. The last step is decoded by `p(x | x_t)
    proportional to q(x_t | x)`: the density of `N(x_t/alpha, (sigma/alpha)^2)`, or, with `levels`, probabilities of
    the levels of each coordinate.

    The integral does not depend on the schedule but on the ends of its log-SNR. It is estimated unbiasedly from times
    that are uniform in `w = log(1 + SNR)`, in which it is `1/2 int (alpha^2 + sigma^2) E|(x0 - x0_hat)/sigma|^2 dw`:
    bounded at both ends, and constant for data of unit variance. One key draws them in equal strata over the batch and
    the samples, as VDM's appendix I.1; with a key per example the strata are over the samples of each.

    Args:
      key: one key, or one per example.
      denoiser: its process must leave some noise at `t_min`; the bound is that of the model which ends there.
      x: leaves `[batch, *event]`.
      levels: None if x is continuous: then the bound is on minus the log-density. Otherwise the number of levels, 256
        for pixels, equally spaced in [-1, 1], that each coordinate of `x` is one of: then it is on minus the
        log-probability.
      samples: evaluations of the denoiser per example.

    Returns: nats, `[batch]` each; `nats/(d log 2)` are bits per dimension.

    Raises:
      TypeError, ValueError: arguments that are not what they should be; a process with no noise left at `t_min`, unless
        it is being traced (the bound is not finite then).
    """
    x, key, process = check_arguments(denoiser, x, levels, samples), trees.as_key(key), denoiser.process
    size, dtype = trees.batch_size(x), trees.wide(*jax.tree.leaves(x))
    t_min, t_max = jnp.asarray(process.t_min, dtype), jnp.asarray(process.t_max, dtype)
    if not isinstance(process.sigma(t_min), jax.core.Tracer) and float(process.sigma(t_min)) <= 0:
        raise ValueError(
            f"{type(process).__name__} has t_min = {process.t_min}, where no noise is left and the bound is infinite; "
            "allowed are larger ones, as dataclasses.replace(process, t_min=1e-3)"
        )
    time_key, noise_key, last_key = trees.split(key, 3)
    least, most = _information(process, t_max), _information(process, t_min)
    strata = 0.0 if key.ndim else jnp.arange(size) / (size * samples)
    start = jax.vmap(jax.random.uniform)(time_key) if key.ndim else jax.random.uniform(time_key)

    def add(total: Float[Array, " batch"], j: Any) -> tuple[Float[Array, " batch"], None]:
        # At 0 exactly a process may have no signal, and then no finite log-SNR.
        u = jnp.maximum((start + strata + j / samples) % 1.0, 2.0**-24)
        w = least + u.astype(dtype) * (most - least)
        t = jnp.clip(time_of_log_snr(process, w + jnp.log(-jnp.expm1(-w))), t_min, t_max)
        eps = trees.normal_like(trees.fold_in(noise_key, j), x)
        wrong = error(process, x, eps, denoiser(corrupt(process, x, eps, t), t), t)
        squares = event_sum(jax.tree.map(lambda leaf: leaf**2, wrong))
        return total + (process.alpha(t) ** 2 + process.sigma(t) ** 2) * squares, None

    total, _ = jax.lax.scan(add, jnp.zeros(size, dtype), jnp.arange(samples))
    diffusion = (most - least) / 2 * total / samples
    prior = prior_divergence(process, x, t_max)
    last = reconstruction(last_key, x, process.alpha(t_min), process.sigma(t_min), levels)
    return Bound(prior + last + diffusion, prior, last, diffusion)


def _information(process: Process, t: Any) -> Any:
    """`log(1 + SNR)`, without a pole where there is no signal."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    return jnp.log(alpha**2 + sigma**2) - 2 * jnp.log(sigma)
