"""Exponential integrators: the exact solution of diffusion's linear part, with a polynomial for the rest.

Let `l = log(alpha/sigma)`, half the log-SNR, `h = l_s - l_t > 0` for a step from t to s, and `x0(l)` the denoiser's
estimate along the way. For every `tau >= 0` (0: the probability-flow ODE, 1: the reverse SDE) the step is exactly

    x_s = sigma_s/sigma_t e^{-tau^2 h} x_t
        + (1 + tau^2) alpha_s int_{l_t}^{l_s} e^{(1 + tau^2)(l - l_s)} x0(l) dl + sigma_s sqrt(1 - e^{-2 tau^2 h}) z

and a method replaces `x0(l)` by the polynomial through the estimates it remembers. DDIM, DDPM, DPM-Solver++ and
SA-Solver's predictor are members. Xue et al. 2023 (SA-Solver, arXiv 2309.05019), proposition 4.2; Lu et al. 2022
(DPM-Solver++, arXiv 2211.01095), equation 9.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process
from jaxdiff.solvers.tableau import Tableau, check_arguments, one_point

_NODES, _WEIGHTS = (a for a in np.polynomial.legendre.leggauss(24))
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2  # on [0, 1]


def moments(xp: Any, length: Any, count: int) -> Any:
    """`m_j = length int_0^1 e^{-length (1 - v)} v^j dv` for `j < count`: the kernel of a step against powers of its
    progress v.

    By Gauss-Legendre quadrature where the kernel is smooth and by recursion, `m_j = 1 - j/length m_{j-1}`, where it is
    not; both to the last digits of float64, from `length` tiny to infinite.

    Args:
      xp: numpy or jax.numpy.
      length: `[...]`, positive.

    Returns: `[..., count]`.
    """
    short = xp.minimum(length, 4.0)[..., None]
    kernel = short * xp.exp(-short * (1 - _NODES)) * _WEIGHTS
    quadrature = xp.stack([xp.sum(kernel * _NODES**j, axis=-1) for j in range(count)], axis=-1)
    recursion = [-xp.expm1(-length)]
    for j in range(1, count):
        recursion.append(1 - j / xp.maximum(length, 4.0) * recursion[-1])
    smooth = xp.concatenate([recursion[0][..., None], quadrature[..., 1:]], axis=-1)
    return xp.where(length[..., None] < 4.0, smooth, xp.stack(recursion, axis=-1))


def weights(l: Any, order: int, rate: float, lower_final: bool, approximate: Callable[[Any], Any] = lambda m: m) -> Any:
    """What each remembered estimate weighs in `rate int e^{rate (l - l_s)} P(l) dl`, for every step of a grid.

    `P` is the polynomial through the last `order` estimates. Fewer are used where fewer are: on the first steps, next
    to a point without signal (`l = -inf`), and on a step to no noise at all (`l_s = inf`), where a polynomial has no
    limit and the answer is the last estimate.

    Args:
      l: `[steps + 1]`, increasing.
      rate: `1 + tau^2`.
      lower_final: end on estimates of lower order, by one at most: a single step of order q - 1 leaves a method of
        order q.
      approximate: what a published method puts in place of the exact moments `[..., q]`.

    Returns: `[steps, order]`, the newest estimate first.
    """
    xp, steps = namespace(l), len(l) - 1
    index, step = np.arange(steps), l[1:] - l[:-1]
    allowed = np.minimum(index + 1, np.maximum(steps - index, order - 1)) if lower_final else index + 1
    finite = xp.isfinite(l)
    known = xp.where(finite, l, 0.0)  # infinities are kept out of what is differentiated
    result = xp.concatenate([moments(xp, rate * step, 1), xp.zeros((steps, order - 1))], axis=1)
    for q in range(2, order + 1):
        # Where the estimates stand, in steps: v = 0 is the newest, v = 1 is where we go.
        oldest = np.maximum(index - q + 1, 0)
        usable = (allowed >= q) & finite[1:] & finite[:-1] & finite[oldest]
        safe = xp.where(usable, known[1:] - known[:-1], 1.0)
        nodes = xp.stack([known[np.maximum(index - j, 0)] - known[:-1] for j in range(q)], axis=1) / safe[:, None]
        nodes = xp.where(usable[:, None], nodes, -xp.arange(float(q)))
        powers = xp.stack([nodes**j for j in range(q)], axis=1)
        exact = xp.linalg.solve(powers, approximate(moments(xp, rate * safe, q))[..., None])[..., 0]
        exact = xp.concatenate([exact, xp.zeros((steps, order - q))], axis=1)
        result = xp.where(usable[:, None], exact, result)
    return result


def half_log_snr(process: Process, times: Any) -> Any:
    """`l = log(alpha/sigma)` on a grid, infinite at its ends where they are singular, with derivatives that are not."""
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    l = xp.log(xp.where(alpha > 0, alpha, 1.0)) - xp.log(xp.where(sigma > 0, sigma, 1.0))
    return xp.where(sigma <= 0, np.inf, xp.where(alpha <= 0, -np.inf, l))


def exponential(process: Process, times: Any, *, order: int = 2, tau: float = 0.0, lower_final: bool = True) -> Tableau:
    """The exact exponential Adams-Bashforth method in data prediction: the formula at the head of this file, by exact
    quadrature.

    One evaluation a step. The deterministic method (`tau = 0`) converges with order `order`; with `tau > 0` noise is
    added and the marginals are kept.

    Args:
      times: `[steps + 1]`, decreasing.
      order: how many estimates the polynomial goes through, at least 1.
      tau: how much noise is put back; 0 for the ODE, 1 for the reverse SDE.
      lower_final: lower the order by one on the last step: steadier on short grids, and the order stays. A step to no
        noise at all is of order 1 in any case.

    Raises:
      ValueError: a grid that is not one, `order < 1` or `tau < 0`.
    """
    return adams_bashforth(process, times, order, tau, lower_final)


def adams_bashforth(
    process: Process,
    times: Any,
    order: int,
    tau: float,
    lower_final: bool,
    approximate: Callable[[Any], Any] = lambda m: m,
) -> Tableau:
    """`exponential`, with a published method's approximation of the moments (see `weights`)."""
    process, times = check_arguments(process, times)
    if isinstance(order, bool) or not isinstance(order, int | np.integer) or order < 1:
        raise ValueError(f"order = {order!r}; allowed are integers of at least 1")
    if not tau >= 0:
        raise ValueError(f"tau = {tau!r}; allowed are numbers of at least 0")
    xp, l = namespace(times), half_log_snr(process, times)
    alpha, sigma, h = process.alpha(times), process.sigma(times), l[1:] - l[:-1]
    decay = xp.exp(-(tau**2) * h) if tau else 1.0  # 0 times an infinite step is not 0
    return one_point(
        process,
        times,
        x=sigma[1:] / sigma[:-1] * decay,
        memory=alpha[1:, None] * weights(l, order, 1 + tau**2, lower_final, approximate),
        noise=sigma[1:] * xp.sqrt(-xp.expm1(-2 * tau**2 * h)) if tau else None,
    )
