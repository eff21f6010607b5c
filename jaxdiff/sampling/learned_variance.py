"""Ancestral sampling with the network's own variance: iDDPM's sampler."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import namespace
from jaxdiff.denoisers import VarianceDenoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Times
from jaxdiff.sampling.scan import start
from jaxdiff.solvers.ddim import ddpm
from jaxdiff.solvers.tableau import check_arguments


def learned_variance(key: Key[Array, "*batch"], denoiser: VarianceDenoiser, x: PyTree, times: Times) -> PyTree:
    """Turns noise into samples by DDPM's steps, each coordinate with a variance of the network's choosing:

        x_s = mean(x_t, x0) + sqrt(v) z        log v = f log(v_large) + (1 - f) log(v_small)

    with the mean and `v_small = sigma_{t|s}^2 sigma_s^2/sigma_t^2` of `solvers.ddpm`, `v_large = sigma_{t|s}^2 =
    sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2`, and f the network's fraction. No noise is added by a step to `t_clean`.
    Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 15.

    One scan, one evaluation a step, the state in float32 or wider. The noise is that of `sample` for the same keys:
    where f is 0 everywhere the samples are those of `solvers.ddpm`, where it is 1, those of its large variance.

    Args:
      key: one key, or one key per example, as for `sample`.
      denoiser: one with `with_fraction`, as `denoisers.from_network_with_variance` makes.
      x: the noise to start from, at `times[0]`: leaves `[batch, *event]`.
      times: `[steps + 1]`, decreasing. Under `jax.jit` an argument like the others, if the denoiser is one.

    Returns: the samples, as `x`.

    Raises:
      TypeError, ValueError: arguments that are not what they should be or do not fit each other.
    """
    if not hasattr(denoiser, "with_fraction"):
        raise TypeError(
            f"denoiser is a {type(denoiser).__name__}; allowed is one that has a variance, as "
            "denoisers.from_network_with_variance makes"
        )
    process, times = check_arguments(denoiser.process, times)
    tableau = ddpm(process, times)
    xp, sigma = namespace(times), process.sigma(times)
    # log(v_large/v_small)/2; at a clean end, where both are multiplied by 0, any finite number.
    stretch = jnp.asarray(xp.log(sigma[:-1] / xp.where(sigma[1:] > 0, sigma[1:], sigma[:-1])))
    state = start(key, x, tableau)
    kept, moved = (jnp.asarray(tableau.state[1:, 0, column]) for column in (0, 1))
    noise, asked = jnp.asarray(tableau.noise[1:, 0, 0]), jnp.asarray(tableau.times)

    def step(x: PyTree, i: Any) -> tuple[PyTree, None]:
        estimate, fraction = denoiser.with_fraction(x, asked[i])
        for name, side in (*zip(Estimate._fields, estimate, strict=True), ("fraction", fraction)):
            trees.check_alike(f"the denoiser's {name}", side, x)
        # Row 0 of a tableau leads to the first evaluation, so this step's noise is that of row i + 1.
        z = trees.normal_like(trees.fold_in(state.key, i + 1), x)
        scaled = jax.tree.map(lambda f, z: jnp.exp(f * stretch[i]) * z, fraction, z)
        moving = trees.lincomb((kept[i], moved[i], noise[i]), (x, estimate.x0, scaled))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), moving, x), None

    return jax.lax.scan(step, state.points[0], jnp.arange(len(tableau)))[0]
