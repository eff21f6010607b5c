"""First-order samplers: DDIM and its members DDPM and Euler."""

from typing import Any

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process
from jaxdiff.solvers.tableau import Tableau, check_arguments, one_point


def ddim(process: Process, times: Any, *, eta: float = 0.0) -> Tableau:
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
        memory=(alpha[1:] - alpha[:-1] * kept)[:, None],
        noise=sigma[1:] * xp.sqrt(fresh) if eta else None,
    )


def ddpm(process: Process, times: Any) -> Tableau:
    """Ancestral sampling with the exact posterior's variance: `x_s ~ q(x_s | x_t, x0)`; with the true denoiser, DDPM's
    "small" choice.

    Ho et al. 2020 (arXiv 2006.11239), equations 6 and 7, for any process and any grid. It is `ddim` with `eta = 1`.
    """
    return ddim(process, times, eta=1.0)


def euler(process: Process, times: Any) -> Tableau:
    """Euler's method on the probability-flow ODE.

    Karras et al. 2022 (arXiv 2206.00364), algorithm 1 without its second stage: `d(x/alpha)/d(sigma/alpha) = eps`. The
    straight line in any of the coordinates of `solvers.coordinates` ends in the same point, `x_s = alpha_s x0 + sigma_s
    eps`: it is `ddim` with `eta = 0`.
    """
    return ddim(process, times, eta=0.0)
