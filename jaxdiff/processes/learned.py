"""VDM's learned noise schedule: a monotone network as a process."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxdiff import trees
from jaxdiff.arithmetic import namespace
from jaxdiff.processes.process import Process


class Learned(Process):
    """See `learned`. `t_min` and `t_max` are static: an optimiser of the leaves must not move them."""

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
        """`(gamma(t) - gamma_min)/(gamma_max - gamma_min)`: from 0 to 1, increasing."""
        xp = namespace(t)
        slope, inner, outer = (xp.exp(xp.asarray(leaf)) for leaf in (self.log_slope, self.log_inner, self.log_outer))
        bias = xp.asarray(self.bias)

        def risen(t: Any) -> Any:
            # From its value at 0, with sigmoid(x) = (1 + tanh(x/2))/2, which overflows nowhere.
            line = slope * xp.asarray(t)
            bent = xp.tanh((inner * line[..., None] + bias) / 2) - xp.tanh(bias / 2)
            return line + xp.sum(outer * bent, axis=-1) / 2

        return risen(t) / risen(1.0)

    def gamma(self, t: Any) -> Any:
        """Minus the log-SNR."""
        xp = namespace(t)
        low, high = xp.asarray(self.gamma_min), xp.asarray(self.gamma_max)
        return low + (high - low) * self.progress(t)

    def alpha(self, t: Any) -> Any:
        xp, noisy, t = _known(t)
        return xp.where(noisy, xp.exp(-xp.logaddexp(0.0, self.gamma(t)) / 2), 1.0)

    def sigma(self, t: Any) -> Any:
        xp, noisy, t = _known(t)
        return xp.where(noisy, xp.exp(-xp.logaddexp(0.0, -self.gamma(t)) / 2), 0.0)

    def time_input(self, t: Any) -> Any:
        return 1000 * self.progress(t)


def _known(t: Any) -> tuple[Any, Any, Any]:
    """The namespace, where noise is left, and a finite time elsewhere: at -inf derivatives by the parameters would be 0
    times infinity.
    """
    xp = namespace(t)
    noisy = t > -np.inf
    return xp, noisy, xp.where(noisy, t, 0.0)


def learned(key: Key[Array, ""], gamma_min: float = -13.3, gamma_max: float = 5.0, *, hidden: int = 1024) -> Learned:
    """A noise schedule with parameters to learn: `log SNR = -gamma(t)`, `alpha^2 = sigmoid(-gamma)`, `sigma^2 =
    sigmoid(gamma)`, `t` in [0, 1].

        g(t) = l_1(t) + l_3(sigmoid(l_2(l_1(t))))
        gamma(t) = gamma_min + (gamma_max - gamma_min) (g(t) - g(0))/(g(1) - g(0))

    with linear layers of positive weights, 1 to 1, 1 to `hidden` and `hidden` to 1. (The weights are exponentials of
    the leaves; the biases of `l_1` and `l_3` would change nothing and are left out.) Kingma et al. 2021 (VDM, arXiv
    2107.00630), appendix H.

    It is a pytree of its parameters and both ends: take gradients with respect to it wherever a process goes (a
    denoiser's `process`, an objective, a bound), and then use it as any other for grids, solvers and samples. Networks
    are told 1000 times how far gamma has come, so that what they learn does not depend on the inside of the schedule.
    Neither does the variational bound in continuous time (section 5.1), only the variance of its estimate from uniform
    times: the inside is learned by minimising the square of that (appendix I.2), the ends by minimising the bound.

    Args:
      key: initialises the network, near a gamma that is linear in time.
      gamma_min, gamma_max: gamma at 0 and at 1: minus the largest and the smallest log-SNR.
      hidden: the width of the middle layer.

    Raises:
      ValueError: ends that are not finite and increasing, or a width below 1.
    """
    traced = any(isinstance(end, jax.core.Tracer) for end in (gamma_min, gamma_max))
    if not traced and not -np.inf < gamma_min < gamma_max < np.inf:
        raise ValueError(f"gamma_min = {gamma_min}, gamma_max = {gamma_max}; allowed is gamma_min < gamma_max, finite")
    if isinstance(hidden, bool) or not isinstance(hidden, int | np.integer) or hidden < 1:
        raise ValueError(f"hidden = {hidden!r}; allowed are integers of at least 1")
    centre_key, width_key = trees.split(trees.as_key(key), 2)
    # Bends of all widths around a tenth, spread evenly: their sum is nearly a line, and there is one wherever it is
    # needed.
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
