"""VDM's learned noise schedule: a process that is a monotone network."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxdiff import trees
from jaxdiff.arithmetic import namespace
from jaxdiff.checks import integer, message
from jaxdiff.processes.process import Process


class Learned(Process):
    """VDM's learned noise schedule. `learned` makes it.

    `t_min` and `t_max` are static, because an optimiser of the leaves must not move them.
    """

    t_clean: ClassVar[float] = -np.inf
    t_min: float = dataclasses.field(default=0.0, metadata={"static": True})
    t_max: float = dataclasses.field(default=1.0, metadata={"static": True})
    gamma_min: Float[Any, ""]
    gamma_max: Float[Any, ""]
    log_slope: Float[Any, ""]
    log_inner: Float[Any, " hidden"]
    bias: Float[Any, " hidden"]
    log_outer: Float[Any, " hidden"]

    def progress(self, t: Any) -> Any:
        """The progress `(gamma(t) - gamma_min)/(gamma_max - gamma_min)`. It increases from 0 at t = 0 to 1 at t = 1."""
        xp = namespace(t)
        slope, inner, outer = (xp.exp(xp.asarray(leaf)) for leaf in (self.log_slope, self.log_inner, self.log_outer))
        bias = xp.asarray(self.bias)

        def rise(t: Any) -> Any:
            # g(t) - g(0) of `learned`, with sigmoid(x) = (1 + tanh(x/2))/2, which cannot overflow.
            line = slope * xp.asarray(t)
            i, b, o = (xp.expand_dims(leaf, tuple(range(line.ndim))) for leaf in (inner, bias, outer))
            bent = xp.tanh((i * line[..., None] + b) / 2) - xp.tanh(b / 2)
            return line + xp.sum(o * bent, axis=-1) / 2

        return rise(t) / rise(1.0)

    def gamma(self, t: Any) -> Any:
        """Minus the log-SNR at `t` (any shape)."""
        xp = namespace(t)
        low, high = xp.asarray(self.gamma_min), xp.asarray(self.gamma_max)
        return low + (high - low) * self.progress(t)

    def alpha(self, t: Any) -> Any:
        xp, noisy, t = _split_clean(t)
        return xp.where(noisy, xp.exp(-xp.logaddexp(0.0, self.gamma(t)) / 2), 1.0)

    def sigma(self, t: Any) -> Any:
        xp, noisy, t = _split_clean(t)
        return xp.where(noisy, xp.exp(-xp.logaddexp(0.0, -self.gamma(t)) / 2), 0.0)

    def time_input(self, t: Any) -> Any:
        return 1000 * self.progress(t)


def _split_clean(t: Any) -> tuple[Any, Any, Any]:
    """The namespace of `t`, whether noise is left at `t`, and `t` with -inf replaced by 0.

    At -inf, derivatives with respect to the parameters would be 0 times infinity.
    """
    xp = namespace(t)
    noisy = t > -np.inf
    return xp, noisy, xp.where(noisy, t, 0.0)


def learned(key: Key[Array, ""], gamma_min: float = -13.3, gamma_max: float = 5.0, *, hidden: int = 1024) -> Learned:
    """A noise schedule whose parameters are learned, `t` in [0, 1].

    The schedule is a monotone function gamma, minus the log-SNR:

        alpha^2 = sigmoid(-gamma)
        sigma^2 = sigmoid(gamma)
        gamma(t) = gamma_min + (gamma_max - gamma_min) (g(t) - g(0))/(g(1) - g(0))
        g(t) = l_1(t) + l_3(sigmoid(l_2(l_1(t))))

    `l_1`, `l_2` and `l_3` are linear layers with positive weights, from 1 to 1, from 1 to `hidden` and from `hidden` to
    1 units. The weights are the exponentials of the leaves. The biases of `l_1` and `l_3` are left out, because they
    would not change gamma. Kingma et al. 2021 (VDM, arXiv 2107.00630), appendix H.

    The process is a pytree of the parameters and of both ends of gamma. Differentiate with respect to the process to
    learn it, wherever it is used: in a denoiser, an objective or a bound. The learned process then works like any other
    process, in grids, solvers and samplers. The default time input of networks is 1000 times the progress of gamma from
    0 to 1. It tells the noise level, so it keeps its meaning while the shape of gamma is learned.

    The ends are learned by minimising the variational bound. The shape of gamma between the ends does not change the
    bound in continuous time (section 5.1). It only changes the variance of the estimate of the bound from uniform
    times. The shape is learned by minimising the square of that estimate (appendix I.2).

    Args:
      key: one key, for the initial parameters. The initial gamma is nearly linear in time.
      gamma_min: gamma at t = 0, minus the largest log-SNR.
      gamma_max: gamma at t = 1, minus the smallest log-SNR.
      hidden: the width of the middle layer.

    Raises:
      TypeError: `key` is not a JAX random key.
      ValueError: the ends are not finite and increasing, or `hidden` is not an integer from 1 to 1,000,000.
    """
    ends = gamma_min, gamma_max
    if not trees.traced(ends) and not -np.inf < gamma_min < gamma_max < np.inf:
        raise ValueError(message("(gamma_min, gamma_max)", ends, "finite numbers, gamma_min < gamma_max"))
    integer("hidden", hidden, most=1_000_000)
    centre_key, width_key = trees.split(trees.as_key(key), 2)
    # The units bend at evenly spread times, over widths around a tenth. Their sum is nearly a line.
    centre = (jnp.arange(hidden) + jax.random.uniform(centre_key, (hidden,))) / hidden
    log_inner = np.log(10.0) + jax.random.normal(width_key, (hidden,)) / 2
    return Learned(
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        log_slope=jnp.zeros(()),
        log_inner=log_inner,
        bias=-jnp.exp(log_inner) * centre,
        log_outer=jnp.full((hidden,), -np.log(2.0 * hidden)),
    )
