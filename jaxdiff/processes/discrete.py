"""DDPM's chain: a process that is given at the indices of its steps."""

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdiff.arithmetic import namespace
from jaxdiff.checks import integer, one_of, require
from jaxdiff.processes.process import Process


class VPDiscrete(Process):
    """DDPM's chain. `vp_discrete` and `vp_from_betas` make it."""

    t_clean: ClassVar[float] = -1.0
    log_snrs: Float[Any, " steps"]

    def _log_snr(self, t: Any) -> Any:
        xp = namespace(t)
        table = self.log_snrs
        if xp is jnp and isinstance(table, np.ndarray):
            # A copy in JAX's default type. JAX 0.12 converts a captured array once and keeps the result, even when x64
            # is switched on or off afterwards.
            table = table.astype(jnp.result_type(float))
        table = xp.asarray(table)
        index = xp.clip(xp.floor(t), 0, len(table) - 2).astype(int)
        within = table[index] + (t - index) * (table[index + 1] - table[index])
        # Below index 0 the ratio sigma/alpha falls linearly, to 0 at t = -1, where the log-SNR is infinite.
        with np.errstate(divide="ignore"):
            below = table[0] - 2 * xp.log(xp.clip(t + 1, 0, 1))
        return xp.where(t < 0, below, within)

    def alpha(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.exp(-xp.logaddexp(0.0, -self._log_snr(t)) / 2)

    def sigma(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.exp(-xp.logaddexp(0.0, self._log_snr(t)) / 2)

    def time_input(self, t: Any) -> Any:
        return t


def vp_discrete(schedule: Literal["linear", "scaled_linear", "cosine"] = "linear", steps: int = 1000) -> VPDiscrete:
    """DDPM's chain: `alpha(i) = sqrt(prod_{j <= i} (1 - beta_j))` at the indices `i = 0..steps-1`.

    Between indices the log-SNR is linear. At index -1, which is `t_clean`, there is no noise. The default time input of
    networks is the index.

    Args:
      schedule: the betas. "linear" runs from 1e-4 to 0.02 at 1000 steps (Ho et al. 2020, arXiv 2006.11239, section 4).
        "scaled_linear" has a linear square root and runs from 0.00085 to 0.012 at 1000 steps (Rombach et al. 2022,
        arXiv 2112.10752). "cosine" is equation 17 of Nichol & Dhariwal 2021 (arXiv 2102.09672), with betas capped at
        0.999.
      steps: the length of the chain. The betas of the first two schedules are scaled by `1000/steps`.

    Raises:
      ValueError: `schedule` is unknown, `steps` is not an integer from 2 to 1,000,000, or a beta is outside (0, 1).
    """
    one_of("schedule", schedule, ("linear", "scaled_linear", "cosine"))
    integer("steps", steps, least=2, most=1_000_000)
    rate = 1000 / steps
    if schedule == "linear":
        betas = np.linspace(1e-4 * rate, 0.02 * rate, steps)
    elif schedule == "scaled_linear":
        betas = np.linspace(np.sqrt(0.00085 * rate), np.sqrt(0.012 * rate), steps) ** 2
    else:
        level = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - level[1:] / level[:-1], 0.999)
    return vp_from_betas(betas)


def vp_from_betas(betas: tuple[float, ...] | Float[np.ndarray, " steps"]) -> VPDiscrete:
    """DDPM's chain for given betas: `alpha(i)^2 = prod_{j <= i} (1 - betas[j])`. See `vp_discrete`.

    Args:
      betas: the share of the variance that each step replaces by noise: at least 2 numbers, each in (0, 1).

    Raises:
      ValueError: `betas` has another shape, or a beta is outside (0, 1).
    """
    betas = np.asarray(betas, np.float64)
    good = betas.ndim == 1 and len(betas) >= 2 and np.all((betas > 0) & (betas < 1))
    require(good, "betas", betas, "arrays [steps >= 2] of numbers between 0 and 1")
    log_alpha2 = np.cumsum(np.log1p(-betas))
    return VPDiscrete(log_snrs=log_alpha2 - np.log(-np.expm1(log_alpha2)), t_min=0.0, t_max=float(len(betas) - 1))
