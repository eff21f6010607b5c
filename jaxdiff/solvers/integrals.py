"""Diffusion's equations solved exactly but for one integral.

For every `tau >= 0` (0: the probability-flow ODE, 1: the reverse SDE) a step from t to s is

    x_s = decay x_t + int kernel(u) F(u) du + noise z

where F is what is predicted. What is chosen is F, and the variable u in which a method takes F to be a polynomial. With
`l = log(alpha/sigma)`, half the log-SNR, `h = l_s - l_t > 0`, `rho = sigma/alpha = e^{-l}`, and `c = alpha + sigma`,
`r = sigma/c`:

- data, `F = x0`: `decay = sigma_s/sigma_t e^{-tau^2 h}`, the integral is
  `(1 + tau^2) alpha_s int e^{(1 + tau^2)(l - l_s)} x0 dl`, and `noise = sigma_s sqrt(1 - e^{-2 tau^2 h})`.
  Xue et al. 2023 (SA-Solver, arXiv 2309.05019), proposition 4.2; Lu et al. 2022 (DPM-Solver++, arXiv 2211.01095),
  equation 9.
- noise, `F = eps`: `decay = alpha_s/alpha_t`, `(1 + tau^2) alpha_s int eps d rho`, and
  `noise = tau alpha_s sqrt(rho_t^2 - rho_s^2)`. Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), equation 3.4; Zhang &
  Chen 2023 (DEIS, arXiv 2204.13902).
- velocity, `F = eps - x0`: with `w = 1 - r = alpha/c`, `decay = c_s/c_t (w_t/w_s)^{tau^2}`,
  `(1 + tau^2) c_s int (w/w_s)^{tau^2} (eps - x0) dr`, and `noise^2 = 2 tau^2 c_s^2 int_{w_t}^{w_s} (1 - w) w^{2 tau^2 -
  1} dw / w_s^{2 tau^2}`. Without noise it is rectified flow, `d(x/c)/dr = eps - x0`.

The three are one equation: `eps = (x - alpha x0)/sigma` turns each into the others.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times
from jaxdiff.solvers import quadrature

Prediction = Literal["data", "noise", "velocity"]
Variable = Literal["log_snr", "sigma", "time", "index"]


class Integral(NamedTuple):
    """`x_s = decay x_t + int kernel F du + noise z` on every step of a grid.

    Attributes:
      decay: `[steps]`.
      position: `[steps + 1]`, the variable u; infinite where it is.
      moments: `count -> [steps, count]`, the kernel against powers of the progress v; those beyond the first mean
        nothing on steps between infinite positions.
      backward: whether v runs from the end of a step to its start.
      noise: `[steps]`, or None for the ODE.
      target: `(p, q)` of `F = p x0 + q eps`.
    """

    decay: Any
    position: Any
    moments: Callable[[int], Any]
    backward: bool
    noise: Any
    target: tuple[float, float]


def half_log_snr(process: Process, times: Times) -> Any:
    """`l = log(alpha/sigma)` on a grid, infinite at its ends where they are singular, with derivatives that are not."""
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    l = xp.log(xp.where(alpha > 0, alpha, 1.0)) - xp.log(xp.where(sigma > 0, sigma, 1.0))
    return xp.where(sigma <= 0, np.inf, xp.where(alpha <= 0, -np.inf, l))


def check_tau(tau: float) -> None:
    """Refuses a noise level that is not a number of at least 0."""
    if not 0 <= tau < np.inf:
        raise ValueError(f"tau = {tau!r}; allowed are numbers of at least 0")


def data(process: Process, times: Times, tau: float = 0.0) -> Integral:
    """The integral of `x0`, over half log-SNR."""
    check_tau(tau)
    xp, l = namespace(times), half_log_snr(process, times)
    alpha, sigma, h = process.alpha(times), process.sigma(times), l[1:] - l[:-1]
    ratio = sigma[1:] / sigma[:-1]
    return Integral(
        decay=ratio * xp.exp(-(tau**2) * h) if tau else ratio,  # 0 times an infinite step is not 0
        position=l,
        moments=lambda count: alpha[1:, None] * quadrature.exponential_moments(xp, (1 + tau**2) * h, count),
        backward=False,
        noise=sigma[1:] * xp.sqrt(-xp.expm1(-2 * tau**2 * h)) if tau else None,
        target=(1.0, 0.0),
    )


def noise(process: Process, times: Times, tau: float = 0.0, variable: Variable = "log_snr") -> Integral:
    """The integral of `eps`, over half log-SNR, `sigma/alpha`, time, or the index of the grid's points.

    Raises:
      ValueError: an unknown variable, `tau < 0`, or a grid that begins without signal, where `x/alpha` is infinite.
    """
    check_tau(tau)
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    if xp is np and alpha.min() <= 0:
        raise ValueError(
            f"times begin at {times[0]:g}, where alpha = 0: x/alpha, which methods of noise prediction move, is "
            "infinite there; allowed are methods of data or velocity prediction, or a grid that begins later"
        )
    ratio = sigma / alpha
    scale = (1 + tau**2) * alpha[1:]
    change = scale * (ratio[1:] - ratio[:-1])
    backward = False
    if variable == "log_snr":
        # Against e^{-(l - l_t)}, which is largest at the start: the progress is counted from the end.
        position, backward = half_log_snr(process, times), True

        def moments(count: int) -> Any:
            return -(scale * ratio[:-1])[:, None] * quadrature.exponential_moments(
                xp, position[1:] - position[:-1], count
            )

    elif variable in ("sigma", "index"):
        position = ratio if variable == "sigma" else xp.arange(float(len(times)))

        def moments(count: int) -> Any:
            return change[:, None] * quadrature.uniform_moments(count)

    elif variable == "time":
        position = times
        finite = xp.isfinite(times[1:])
        step = (xp.where(finite, times[1:], times[:-1] - 1) - times[:-1])[:, None]

        def rho(v: Any) -> Any:
            t = times[:-1, None] + v * step
            return scale[:, None] * process.sigma(t) / process.alpha(t)

        def moments(count: int) -> Any:
            beyond = [quadrature.moments_of_primitive(xp, rho, scale * ratio[1:], count)] if count > 1 else []
            return xp.concatenate([change[:, None], *beyond], axis=-1)

    else:
        raise ValueError(f"coordinate = {variable!r}; allowed are 'log_snr', 'sigma' and 'time'")
    lost = alpha[1:] * xp.sqrt(ratio[:-1] ** 2 - ratio[1:] ** 2) * tau if tau else None
    return Integral(alpha[1:] / alpha[:-1], position, moments, backward, lost, (0.0, 1.0))


def velocity(process: Process, times: Times, tau: float = 0.0) -> Integral:
    """The integral of `eps - x0`, over `r = sigma/(alpha + sigma)`."""
    check_tau(tau)
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    c = alpha + sigma
    r, w = sigma / c, alpha / c
    decay, change, lost = c[1:] / c[:-1], c[1:] * (r[1:] - r[:-1]), None
    if not tau:
        return Integral(
            decay, r, lambda count: change[:, None] * quadrature.uniform_moments(count), False, None, (-1.0, 1.0)
        )
    power = tau**2
    some = w[:-1] > 0  # q^power has no derivative at 0
    log_q = xp.log(xp.where(some, w[:-1], 1.0)) - xp.log(w[1:])
    kept, kept_twice = (xp.where(some, xp.exp(k * log_q), 0.0) for k in (power, 2 * power))
    q = w[:-1] / w[1:]

    def primitive(v: Any) -> Any:
        progress = q[:, None] + v * (1 - q[:, None])
        return -(c * w)[1:, None] * progress ** (power + 1)

    def moments(count: int) -> Any:
        first = -(c * w)[1:] * (1 - kept * q)
        rest = [quadrature.moments_of_primitive(xp, primitive, -(c * w)[1:], count)] if count > 1 else []
        return xp.concatenate([first[:, None], *rest], axis=-1)

    share = 2 * power / (2 * power + 1) * w[1:]
    lost = c[1:] * xp.sqrt(xp.maximum((1 - kept_twice) - share * (1 - kept_twice * q), 0.0))
    return Integral(decay * kept, r, moments, False, lost, (-1.0, 1.0))


def predicted(process: Process, times: Times, prediction: Prediction, tau: float) -> Integral:
    """The integral of what `prediction` names.

    Raises:
      ValueError: an unknown name, or what the integral cannot be taken of.
    """
    if prediction == "data":
        return data(process, times, tau)
    if prediction == "noise":
        return noise(process, times, tau)
    if prediction == "velocity":
        return velocity(process, times, tau)
    raise ValueError(f"prediction = {prediction!r}; allowed are 'data', 'noise' and 'velocity'")
