"""The variational bound in continuous time, of VDM."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, loops, trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.jitted import jitted
from jaxdiff.likelihood.bounds import (
    VariationalBound,
    checked_data,
    error,
    event_sum,
    prior_divergence,
    reconstruction,
)
from jaxdiff.processes import Process, corrupt, time_of_log_snr


def continuous_time(
    key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, *, levels: int | None = None, samples: int = 1
) -> VariationalBound:
    """A bound on `-log p(x)` by infinitely many steps from `t_max` to `t_min`:

        prior = |alpha x|^2/(2 sigma^2) at t_max
        reconstruction = -log p(x | x_t) at t_min
        diffusion = 1/2 int (-d log SNR/dt) E|eps - eps_hat|^2 dt

    Kingma et al. 2021 (VDM, arXiv 2107.00630), equations 4 and 11 to 18. The decoder `p(x | x_t)` of the last step is
    proportional to `q(x_t | x)`. It is the density of `N(x_t/alpha, (sigma/alpha)^2)`, or, with `levels`, a probability
    for each level of each coordinate.

    The diffusion term depends on the schedule only through the ends of its log-SNR. Its estimate is unbiased, and takes
    times that are uniform in `w = log(1 + SNR)`, where it is

        diffusion = 1/2 int (alpha^2 + sigma^2) E|(x0 - x0_hat)/sigma|^2 dw

    This integrand is bounded at both ends, and constant for data of unit variance. One key draws the times in equal
    strata over the batch and the samples (VDM, appendix I.1). With one key per example, the strata are over the samples
    of each example.

    Args:
      key: one key, or one key per example.
      denoiser: a denoiser whose process leaves some noise at `t_min`, where the model ends.
      x: leaves `[batch, *event]`.
      levels: None for continuous x; the bound is then on minus the log-density. Otherwise the number of levels, such as
        256 for pixels; the bound is then on minus the log-probability. Levels are equally spaced in [-1, 1].
      samples: the number of evaluations of the denoiser per example.

    Returns:
      A `VariationalBound` in nats, `[batch]` each. `nats/(d log 2)` are bits per dimension.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: an argument of the wrong value; or a process with no noise left at `t_min`. A traced process is not
        checked, and the bound is then not finite.
    """
    x, key, process = checked_data(denoiser, x, levels, samples), trees.as_key(key), denoiser.process
    noise = process.sigma(jnp.asarray(process.t_min, trees.wide(*jax.tree.leaves(x))))
    allowed = f"times of {type(process).__name__} with some noise left, as dataclasses.replace(process, t_min=1e-3)"
    checks.require(trees.traced(noise) or noise > 0, "process.t_min", process.t_min, allowed)
    return _bound(key, denoiser, x, levels=levels, samples=int(samples))


@jitted
def _bound(
    key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, *, levels: int | None, samples: int
) -> VariationalBound:
    process, size, dtype = denoiser.process, trees.batch_size(x), trees.wide(*jax.tree.leaves(x))
    t_min, t_max = jnp.asarray(process.t_min, dtype), jnp.asarray(process.t_max, dtype)
    time_key, noise_key, last_key = trees.split(key, 3)
    least, most = _information(process, t_max), _information(process, t_min)
    strata = 0.0 if key.ndim else jnp.arange(size) / (size * samples)
    start = jax.vmap(jax.random.uniform)(time_key) if key.ndim else jax.random.uniform(time_key)

    def add(total: Float[Array, " batch"], j: Any) -> tuple[Float[Array, " batch"], None]:
        # At u = 0 exactly, a process may have no signal, and then no finite log-SNR.
        u = jnp.maximum((start + strata + j / samples) % 1.0, 2.0**-24)
        w = least + u.astype(dtype) * (most - least)
        t = jnp.clip(time_of_log_snr(process, w + jnp.log(-jnp.expm1(-w))), t_min, t_max)
        eps = trees.normal_like(trees.fold_in(noise_key, j), x)
        wrong = error(process, x, eps, denoiser(corrupt(process, x, eps, t), t), t)
        squares = event_sum(jax.tree.map(lambda leaf: leaf**2, wrong))
        squares = (process.alpha(t) ** 2 + process.sigma(t) ** 2) * squares
        return (total + squares).astype(dtype), None

    total, _ = loops.scan(add, jnp.zeros(size, dtype), jnp.arange(samples))
    diffusion = ((most - least) / 2 * total / samples).astype(dtype)
    prior = prior_divergence(process, x, t_max).astype(dtype)
    last = reconstruction(last_key, x, process.alpha(t_min), process.sigma(t_min), levels).astype(dtype)
    return VariationalBound(prior + last + diffusion, prior, last, diffusion)


def _information(process: Process, t: Any) -> Any:
    """Returns `log(1 + SNR)`, without a pole where there is no signal."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    return jnp.log(alpha**2 + sigma**2) - 2 * jnp.log(sigma)
