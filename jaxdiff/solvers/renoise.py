"""Renoising: every step adds noise to the estimate of the data, and keeps nothing of the point."""

from jaxdiff import checks
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process
from jaxdiff.solvers.tableau import Grid, Tableau, check_arguments


def renoise(process: Process, times: Grid, *, eta: float = 0.0) -> Tableau:
    """Renoising: the estimate of the data, with the noise of the estimate and fresh noise.

        x_s = alpha_s x0 + sigma_s (sqrt(1 - eta^2) eps + eta z)

    The point enters through the estimate alone, so that the pairs of the denoiser need not be consistent. CFG++ (Chung
    et al. 2024, arXiv 2406.08070, algorithm 1) and DiffPIR (Zhu et al. 2023, arXiv 2305.08995, algorithm 1, with `zeta
    = eta^2`) sample in this way. With `eta = 1` it is the multistep sampling of consistency models (Song et al. 2023,
    arXiv 2303.01469, algorithm 1). For a consistent denoiser, `eta = 0` is `ddim`; `eta = 1` is not `ddpm`, which keeps
    a part of the noise.

    Args:
      times: `[steps + 1]`, decreasing; or a number of steps.
      eta: the share of noise that is drawn anew, from 0 to 1.

    Raises:
      ValueError: `times` is not a valid grid, or `eta` is outside of [0, 1].
    """
    process, times = check_arguments(process, times)
    checks.fraction("eta", eta)
    xp, steps = namespace(times), len(times) - 1
    alpha, sigma = process.alpha(times[1:]), process.sigma(times[1:])
    start, step = xp.asarray([[[1.0, 0.0]]]), xp.asarray([[[0.0, 1.0]]])  # the coefficients of (x, history)
    fresh = xp.concatenate([xp.zeros(1), eta * sigma]) if eta else xp.zeros((steps + 1, 0))
    return Tableau(
        process,
        times=times[:-1],
        state=xp.concatenate([start, *[step] * steps]),
        noise=fresh.reshape(steps + 1, 1, -1),
        history_target=xp.stack([alpha, (1 - eta**2) ** 0.5 * sigma], axis=-1),
        form="renoise",
    )
