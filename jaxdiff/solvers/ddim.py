"""First-order samplers: DDIM, and DDPM, Euler and ancestral Euler as members of its family."""

import dataclasses
from typing import Literal

from jaxdiff import checks
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments, one_point


def ddim(process: Process, times: Grid, *, eta: float = 0.0) -> Tableau:
    """DDIM: keep the estimate of the data and a part of the noise, and draw the rest of the noise anew.

        x_s = alpha_s x0 + sqrt(sigma_s^2 - c^2) eps + c z       c = eta sigma_s sqrt(1 - e^{-2h})

    Here h is the step in half the log-SNR. `eta = 0` is deterministic and `eta = 1` is DDPM. Song et al. 2021 (arXiv
    2010.02502), equations 12 and 16.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      eta: the share of noise that is drawn anew, from 0 to 1.

    Raises:
      ValueError: `times` is not a valid grid, or `eta` is outside of [0, 1].
    """
    process, times = check_arguments(process, times)
    checks.fraction("eta", eta)
    alpha, sigma = process.alpha(times), process.sigma(times)
    ratio = sigma[1:] / sigma[:-1]
    decay = ratio * alpha[:-1] / alpha[1:]  # e^{-h}; 0 for steps from no signal and to no noise
    xp, fresh = namespace(times), eta**2 * (1 - decay**2)  # c^2 / sigma_s^2
    kept = ratio * (decay if eta == 1 else xp.sqrt(1 - fresh))  # the coefficient of x, as eps = (x - alpha x0) / sigma
    return one_point(
        process,
        times,
        x=kept,
        history=(alpha[1:] - alpha[:-1] * kept)[:, None],
        noise=sigma[1:] * xp.sqrt(fresh) if eta else None,
    )


def ddpm(process: Process, times: Grid, *, variance: Literal["small", "large"] = "small") -> Tableau:
    """Ancestral sampling: the mean of `q(x_s | x_t, x0)`, and fresh noise of one of two variances.

    "small" is the variance of this posterior, `sigma_s^2 (1 - e^{-2h})`. It is exact for data in one point, and the
    same as `ddim` with `eta = 1`. "large" is the variance of the forward step, `sigma_t^2 - (alpha_t/alpha_s)^2
    sigma_s^2` (DDPM's beta). It is exact for data from N(0, I). A step that ends without noise adds none. Ho et al.
    2020 (arXiv 2006.11239), equations 6 and 7 and section 3.2, here for any process and any grid.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      variance: the variance of the fresh noise, "small" or "large".

    Raises:
      ValueError: `times` is not a valid grid, or `variance` is unknown.
    """
    checks.one_of("variance", variance, ("small", "large"))
    small = ddim(process, times, eta=1.0)
    if variance == "small":
        return small
    process, times = check_arguments(process, times)
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    noisy = sigma[1:] > 0
    forward = sigma[:-1] ** 2 - (alpha[:-1] / alpha[1:] * sigma[1:]) ** 2
    noise = xp.where(noisy, xp.sqrt(forward), 0.0)
    noise = xp.concatenate([xp.zeros(1), noise])[:, None, None]
    return dataclasses.replace(small, noise=noise)


def euler(process: Process, times: Grid) -> Tableau:
    """Euler's method on the probability-flow ODE, `d(x/alpha)/d(sigma/alpha) = eps`.

    The straight line ends in the same point in each of the coordinates of `solvers.coordinates`,
    `x_s = alpha_s x0 + sigma_s eps`. So this is `ddim` with `eta = 0`. Karras et al. 2022 (arXiv 2206.00364), algorithm
    1 without its second stage.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.

    Raises:
      ValueError: `times` is not a valid grid.
    """
    return ddim(process, times, eta=0.0)


def euler_ancestral(process: Process, times: Grid, *, eta: float = 1.0) -> Tableau:
    """k-diffusion's ancestral Euler: an Euler step to less noise than the grid asks for, then fresh noise.

    With `rho = sigma/alpha` the Euler step ends at `rho_down`, and noise of standard deviation `rho_up` is added:

        rho_up = eta rho_s sqrt(1 - rho_s^2/rho_t^2)        rho_down = sqrt(rho_s^2 - rho_up^2)

    This is `ddim` with the same `eta`, and DDPM for `eta = 1`.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      eta: the share of noise that is drawn anew, from 0 to 1.

    Raises:
      ValueError: `times` is not a valid grid, or `eta` is outside of [0, 1].
    """
    return ddim(process, times, eta=eta)
