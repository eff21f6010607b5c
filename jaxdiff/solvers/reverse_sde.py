"""The reverse SDE by plain discretisation, as in score_sde: the baseline of stochastic sampling.

From noise to data the equation is

    dx = (f x + (1 + tau^2)/2 g^2 eps/sigma) dt + tau g dw

`tau = 1` is the reverse SDE and `tau = 0` the probability-flow ODE; all levels tau have the same marginals. A step that
ends without noise adds none. Song et al. 2021 (arXiv 2011.13456), equations 6 and 13, and appendices D and E.
"""

import numpy as np

from jaxdiff import checks
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, diffusion, drift
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments, check_signal, one_point


def euler_maruyama(process: Process, times: Grid, *, tau: float = 1.0) -> Tableau:
    """Euler-Maruyama on the reverse SDE, with `d = t - s > 0`.

        x_s = x_t - (f x_t + (1 + tau^2)/2 g^2 eps/sigma) d + tau g sqrt(d) z

    f, g and sigma are those at t. The method converges with order 1 in distribution. The exact integrators do so with
    smaller errors, and already with few steps.

    Args:
      times: `[steps + 1]`, decreasing, with a finite end; or a number of steps.
      tau: the level of the noise that is put back.

    Raises:
      ValueError: `times` is not a valid grid, begins without signal (the drift is infinite) or ends at minus infinity,
        or `tau < 0`.
    """
    checks.not_negative("tau", tau)
    process, times = check_arguments(process, times, signal=True, finite=True)
    check_signal(process, times, "the exact integrators, such as sa_solver")
    xp = namespace(times)
    if xp is np:
        checks.require(np.isfinite(times[-1]), "times[-1]", times[-1], "finite times")
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


def reverse_diffusion(process: Process, times: Grid, *, tau: float = 1.0) -> Tableau:
    """The reverse diffusion sampler: the forward chain on the grid, `x_t = a x_s + b z`, reversed.

        x_s = (2 - a) x_t - (1 + tau^2)/2 b^2 eps/sigma_t + tau b z
        a   = alpha_t/alpha_s        b^2 = sigma_t^2 - a^2 sigma_s^2

    Song et al. 2021 (arXiv 2011.13456), appendix E, for the chain that each process is on the grid; `tau = 0` gives the
    probability-flow form. The method converges with order 1 in distribution where `a` is close to 1 on every step.
    Schedules that begin with almost no signal ("cosine") are different: there a step loses most of x however short it
    is, and the method does not converge for `tau < 1`.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      tau: the level of the noise that is put back.

    Raises:
      ValueError: `times` is not a valid grid or begins without signal (the first step loses all of x), or `tau < 0`.
    """
    checks.not_negative("tau", tau)
    process, times = check_arguments(process, times, signal=True, finite=True)
    check_signal(process, times, "the exact integrators, such as sa_solver")
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
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
