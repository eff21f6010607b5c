"""First-order samplers: DDIM and its members DDPM, Euler and ancestral Euler."""

import dataclasses
from typing import Literal

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times
from jaxdiff.solvers.tableau import Tableau, check_arguments, one_point


def ddim(process: Process, times: Times, *, eta: float = 0.0) -> Tableau:
    """DDIM: keep the estimate of the data, and the noise in part; draw the rest anew.

        x_s = alpha_s x0 + sqrt(sigma_s^2 - c^2) eps + c z       c = eta sigma_s sqrt(1 - e^{-2h})

    with `h` the step in half log-SNR. `eta = 0` is deterministic, `eta = 1` is DDPM. Song et al. 2021 (arXiv
    2010.02502), equations 12 and 16.

    Args:
      times: `[steps + 1]`, decreasing.
      eta: in [0, 1].

    Raises:
      ValueError: a grid that is not one, or `eta` outside of [0, 1].
    """
    process, times = check_arguments(process, times)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta}; allowed are numbers from 0 to 1")
    alpha, sigma = process.alpha(times), process.sigma(times)
    ratio = sigma[1:] / sigma[:-1]
    decay = ratio * alpha[:-1] / alpha[1:]  # e^{-h}, and 0 from no signal or to no noise
    xp, fresh = namespace(times), eta**2 * (1 - decay**2)  # c^2 / sigma_s^2
    kept = ratio * (decay if eta == 1 else xp.sqrt(1 - fresh))  # of x, since eps = (x - alpha x0) / sigma
    return one_point(
        process,
        times,
        x=kept,
        history=(alpha[1:] - alpha[:-1] * kept)[:, None],
        noise=sigma[1:] * xp.sqrt(fresh) if eta else None,
    )


def ddpm(process: Process, times: Times, *, variance: Literal["small", "large"] = "small") -> Tableau:
    """Ancestral sampling: the mean of `q(x_s | x_t, x0)` and fresh noise of one of two variances.

    "small" is that posterior's own, `sigma_s^2 (1 - e^{-2h})`, exact for data in one point; it is `ddim` with `eta =
    1`. "large" is that of the step forward, `sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2` (DDPM's beta), exact for data
    from N(0, I). A step that ends without noise adds none. Ho et al. 2020 (arXiv 2006.11239), equations 6 and 7 and
    section 3.2, for any process and any grid.

    Raises:
      ValueError: a grid that is not one, or an unknown variance.
    """
    if variance not in ("small", "large"):
        raise ValueError(f"variance = {variance!r}; allowed are 'small' and 'large'")
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


def euler(process: Process, times: Times) -> Tableau:
    """Euler's method on the probability-flow ODE.

    Karras et al. 2022 (arXiv 2206.00364), algorithm 1 without its second stage: `d(x/alpha)/d(sigma/alpha) = eps`. The
    straight line in any of the coordinates of `solvers.coordinates` ends in the same point, `x_s = alpha_s x0 + sigma_s
    eps`: it is `ddim` with `eta = 0`.
    """
    return ddim(process, times, eta=0.0)


def euler_ancestral(process: Process, times: Times, *, eta: float = 1.0) -> Tableau:
    """k-diffusion's ancestral Euler: a step of Euler's method to less noise than the grid asks for, and fresh noise for
    the rest.

    With `rho = sigma/alpha` it steps to `sqrt(rho_s^2 - rho_up^2)` and adds `rho_up = eta rho_s sqrt(1 -
    rho_s^2/rho_t^2)`, which is `ddim` with this `eta`, and for `eta = 1` DDPM.
    """
    return ddim(process, times, eta=eta)
