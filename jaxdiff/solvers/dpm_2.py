"""DPM2, the midpoint rule in log-SNR, and its ancestral form."""

from jaxdiff.processes import Process
from jaxdiff.solvers.dpm_solver import NOISE, singlestep
from jaxdiff.solvers.tableau import Grid, Tableau


def dpm_2(process: Process, times: Grid) -> Tableau:
    """k-diffusion's second-order method (Crowson 2022, after Karras et al. 2022, arXiv 2206.00364).

    Let `rho = sigma/alpha` and `z = x/alpha`. A step from t to s makes two evaluations, the second one at the ratio
    `rho_m = sqrt(rho_t rho_s)`:

        z_m = z_t + (rho_m - rho_t) eps(z_t)        z_s = z_t + (rho_s - rho_t) eps(z_m)

    A step that ends without noise makes one evaluation and is Euler's. The geometric mean of two ratios is the middle
    of the step in log-SNR, so this is `dpm_solver` of order 2.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.

    Raises:
      ValueError: `times` is not a valid grid, or begins without signal.
    """
    return singlestep(process, times, 2, NOISE)


def dpm_2_ancestral(process: Process, times: Grid, *, eta: float = 1.0) -> Tableau:
    """Ancestral `dpm_2`: each step goes to less noise than the grid asks for, then adds fresh noise.

    With `rho = sigma/alpha` each step goes from `rho_t` to `rho_down` by `dpm_2`, in two evaluations. Then noise of
    standard deviation `rho_up` is added:

        rho_up = eta rho_s sqrt(1 - rho_s^2/rho_t^2)        rho_down = sqrt(rho_s^2 - rho_up^2)

    This is k-diffusion's sampler of the same name (Crowson 2022), for any process.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      eta: the share of noise that is drawn anew, from 0 to 1; 0 is `dpm_2`.

    Raises:
      ValueError: `times` is not a valid grid or begins without signal, or `eta` is outside of [0, 1].
    """
    return singlestep(process, times, 2, NOISE, eta)
