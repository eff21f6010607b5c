"""Ancestral sampling with variances that the network predicts: the sampler of iDDPM."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff import loops, trees
from jaxdiff.arithmetic import namespace
from jaxdiff.checks import message
from jaxdiff.denoisers import VarianceDenoiser
from jaxdiff.jitted import jitted
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Times
from jaxdiff.sampling.scan import State, start
from jaxdiff.solvers.ddim import ddpm
from jaxdiff.solvers.tableau import check_times


def learned_variance(key: Key[Array, "*batch"], denoiser: VarianceDenoiser, x: PyTree, times: Times) -> PyTree:
    """Turns noise into samples by DDPM's steps, with a predicted variance v for every coordinate:

        x_s = mean(x_t, x0) + sqrt(v) z
        log v = f log(v_large) + (1 - f) log(v_small)

        v_large = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2
        v_small = v_large sigma_s^2/sigma_t^2

    The mean is that of `solvers.ddpm`; f is the fraction that the network predicts. A step to `t_clean` adds no noise.
    Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 15.

    There is one evaluation per step, in one scan. The state is float32 or wider. The noise is that of `sample` for the
    same keys. With f = 0 everywhere the samples are those of `solvers.ddpm`; with f = 1, those of `solvers.ddpm` with
    `variance="large"`.

    Args:
      key: one key, or one key per example, as for `sample`.
      denoiser: a denoiser with a method `with_fraction`, from `denoisers.from_network_with_variance`.
      x: the noise to start from, at `times[0]`: leaves `[batch, *event]`.
      times: a grid `[steps + 1]`, decreasing. If the denoiser is an argument of a jitted function, `times` may be one
        too.

    Returns:
      The samples, with the shapes of `x`.

    Raises:
      TypeError: an argument of the wrong type, or a denoiser that predicts no variance.
      ValueError: `times` is not a valid grid, or `key` does not fit `x`.
    """
    if not hasattr(denoiser, "with_fraction"):
        allowed = "denoisers that predict a variance, from denoisers.from_network_with_variance"
        raise TypeError(message("type(denoiser)", type(denoiser).__name__, allowed))
    process, times = check_times(denoiser.process, times)
    tableau = ddpm(process, times)
    xp, sigma = namespace(times), process.sigma(times)
    # log(v_large/v_small)/2. At a clean end both variances are multiplied by 0, so any finite number will do.
    stretch = xp.log(sigma[:-1] / xp.where(sigma[1:] > 0, sigma[1:], sigma[:-1]))
    table = (tableau.times, tableau.state[1:, 0, 0], tableau.state[1:, 0, 1], tableau.noise[1:, 0, 0], stretch)
    return _scan(denoiser, start(key, x, tableau), table)


@jitted
def _scan(denoiser: VarianceDenoiser, state: State, table: tuple[Any, ...]) -> PyTree:
    evaluated_at, of_x, of_x0, of_noise, stretch = map(jnp.asarray, table)

    def step(x: PyTree, i: Any) -> tuple[PyTree, None]:
        estimate, fraction = denoiser.with_fraction(x, evaluated_at[i])
        trees.check_alike("the denoiser's (estimate, fraction)", (estimate, fraction), (Estimate(x, x), x))
        # Row 0 of a tableau leads to the first evaluation, so the noise of this step is that of row i + 1.
        z = trees.normal_like(trees.fold_in(state.key, i + 1), x)
        scaled = jax.tree.map(lambda f, z: jnp.exp(f * stretch[i]) * z, fraction, z)
        moved = trees.lincomb((of_x[i], of_x0[i], of_noise[i]), (x, estimate.x0, scaled))
        return trees.cast_like(moved, x), None

    return loops.scan(step, state.points[0], jnp.arange(len(stretch)))[0]
