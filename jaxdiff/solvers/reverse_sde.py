"""The reverse SDE by plain discretisation, as in score_sde: the baseline of stochastic sampling.

    dx = (f x + (1 + tau^2)/2 g^2 eps/sigma) dt + tau g dw

from noise to data: `tau = 1` is the reverse SDE, `tau = 0` the probability-flow ODE, any other level has the same
marginals. A step that ends without noise adds none. Song et al. 2021 (arXiv 2011.13456), equations 6 and 13, and
appendices D and E.
"""

import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times, diffusion, drift
from jaxdiff.solvers.integrals import check_tau
from jaxdiff.solvers.tableau import Tableau, check_arguments, one_point


def euler_maruyama(process: Process, times: Times, *, tau: float = 1.0) -> Tableau:
    """Euler-Maruyama on the reverse SDE, with `d = t - s > 0`:

        x_s = x_t - (f x_t + (1 + tau^2)/2 g^2 eps/sigma) d + tau g sqrt(d) z

    f, g and sigma are taken at t. Converges with order 1 in distribution; the exact integrators do so with a smaller
    error, and from fewer steps.

    Args:
      times: `[steps + 1]`, decreasing, to a finite time.
      tau: the noise level.

    Raises:
      ValueError: a grid that is not one, `tau < 0`, or one that begins without signal or ends at minus infinity, where
        the drift or the step is infinite.
    """
    check_tau(tau)
    process, times = check_arguments(process, times)
    xp = namespace(times)
    if xp is np and (process.alpha(times[0]) <= 0 or np.isinf(times[-1])):
        raise ValueError(
            f"times run from {times[0]:g} to {times[-1]:g}; allowed for euler_maruyama are a start with some signal, "
            "alpha > 0, and a finite end"
        )
    t, d = times[:-1], times[:-1] - times[1:]
    g = diffusion(process, t)
    return one_point(
        process,
        times,
        x=1 - drift(process, t) * d,
        history=(-(1 + tau**2) / 2 * g**2 / process.sigma(t) * d)[:, None],
        noise=xp.where(process.sigma(times[1:]) > 0, tau * g * xp.sqrt(d), 0.0) if tau else None,
        target=(0.0, 1.0),
    )


def reverse_diffusion(process: Process, times: Times, *, tau: float = 1.0) -> Tableau:
    """The reverse diffusion sampler: the forward chain on the grid, `x_t = a x_s + b z`, turned round.

        x_s = (2 - a) x_t - (1 + tau^2)/2 b^2 eps/sigma_t + tau b z

    with `a = alpha_t/alpha_s` and `b^2 = sigma_t^2 - a^2 sigma_s^2`. Song et al. 2021 (arXiv 2011.13456), appendix E,
    for the chain that each process is on the grid; with `tau = 0` its probability-flow form. Converges with order 1 in
    distribution where `a` comes near 1 on every step; not, below `tau = 1`, on schedules that begin with next to no
    signal ("cosine"), where a step loses most of x however short it is.

    Args:
      times: `[steps + 1]`, decreasing.
      tau: the noise level.

    Raises:
      ValueError: a grid that is not one, or one that begins without signal, or `tau < 0`.
    """
    check_tau(tau)
    process, times = check_arguments(process, times)
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    if xp is np and alpha[0] <= 0:
        raise ValueError(
            f"times begin at {times[0]:g}, where alpha = 0 and the chain's first step loses all of x; allowed for "
            "reverse_diffusion are grids that begin later"
        )
    a = alpha[:-1] / alpha[1:]
    b2 = sigma[:-1] ** 2 - a**2 * sigma[1:] ** 2
    return one_point(
        process,
        times,
        x=2 - a,
        history=(-(1 + tau**2) / 2 * b2 / sigma[:-1])[:, None],
        noise=xp.where(sigma[1:] > 0, tau * xp.sqrt(b2), 0.0) if tau else None,
        target=(0.0, 1.0),
    )
