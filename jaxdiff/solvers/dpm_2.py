"""DPM2: the midpoint rule between geometric means of the noise level, and its ancestral form."""

from jaxdiff.processes import Process, Times
from jaxdiff.solvers.dpm_solver import NOISE, singlestep
from jaxdiff.solvers.tableau import Tableau


def dpm_2(process: Process, times: Times) -> Tableau:
    """The second-order method of k-diffusion (Crowson 2022, after Karras et al. 2022, arXiv 2206.00364).

    In the ratio `rho = sigma/alpha`, with `z = x/alpha`, two evaluations a step from t to s, the second at the ratio
    `rho_m = sqrt(rho_t rho_s)`:

        z_m = z_t + (rho_m - rho_t) eps(z_t)        z_s = z_t + (rho_s - rho_t) eps(z_m)

    but one, Euler's, when the step ends without noise. The geometric mean of two ratios is the middle of the step in
    log-SNR: it is `dpm_solver` of order 2, for any process.

    Args:
      times: `[steps + 1]`, decreasing.

    Raises:
      ValueError: a grid that is not one, or one that starts where no signal is left.
    """
    return singlestep(process, times, 2, NOISE)


def dpm_2_ancestral(process: Process, times: Times, *, eta: float = 1.0) -> Tableau:
    """`dpm_2` down to less noise than the step's end has, and then noise: two evaluations a step.

    In the ratio `rho = sigma/alpha` each step goes from `rho_t` to `rho_down` by `dpm_2`, and adds noise of standard
    deviation `rho_up`:

        rho_up = eta rho_s sqrt(1 - rho_s^2/rho_t^2)        rho_down = sqrt(rho_s^2 - rho_up^2)

    k-diffusion's sampler of this name (Crowson 2022), for any process.

    Args:
      times: `[steps + 1]`, decreasing.
      eta: in [0, 1]; 0 is `dpm_2`.

    Raises:
      ValueError: a grid that is not one, one that starts where no signal is left, or `eta` outside of [0, 1].
    """
    return singlestep(process, times, 2, NOISE, eta)
