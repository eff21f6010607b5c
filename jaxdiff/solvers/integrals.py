"""The equations of diffusion, solved exactly except for one integral.

For every `tau >= 0` (0 is the probability-flow ODE, 1 the reverse SDE) a step from time t to time s is

    x_s = decay x_t + int kernel(u) F(u) du + noise z

F is the prediction. A method chooses F, and the variable u in which F is approximated by a polynomial. Let
`l = log(alpha/sigma)` (half the log-SNR), `h = l_s - l_t > 0`, `rho = sigma/alpha = e^{-l}`, `c = alpha + sigma`,
`r = sigma/c` and `w = alpha/c = 1 - r`.

Data, `F = x0`. Xue et al. 2023 (SA-Solver, arXiv 2309.05019), proposition 4.2; Lu et al. 2022 (DPM-Solver++, arXiv
2211.01095), equation 9.

    decay    = sigma_s/sigma_t e^{-tau^2 h}
    integral = (1 + tau^2) alpha_s int e^{(1 + tau^2)(l - l_s)} x0 dl
    noise    = sigma_s sqrt(1 - e^{-2 tau^2 h})

Noise, `F = eps`. Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), equation 3.4; Zhang & Chen 2023 (DEIS, arXiv
2204.13902).

    decay    = alpha_s/alpha_t
    integral = (1 + tau^2) alpha_s int eps d rho
    noise    = tau alpha_s sqrt(rho_t^2 - rho_s^2)

Velocity, `F = eps - x0`. Without noise this is rectified flow, `d(x/c)/dr = eps - x0`.

    decay    = c_s/c_t (w_t/w_s)^{tau^2}
    integral = (1 + tau^2) c_s int (w/w_s)^{tau^2} (eps - x0) dr
    noise^2  = 2 tau^2 c_s^2 int_{w_t}^{w_s} (1 - w) w^{2 tau^2 - 1} dw / w_s^{2 tau^2}

The three are one equation: `eps = (x - alpha x0)/sigma` turns each into the others.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from jaxdiff import checks
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times
from jaxdiff.solvers import quadrature
from jaxdiff.solvers.tableau import check_signal

Prediction = Literal["data", "noise", "velocity"]
Variable = Literal["log_snr", "sigma", "time", "index"]


class Integral(NamedTuple):
    """The parts of `x_s = decay x_t + int kernel F du + noise z` for every step of a grid.

    Attributes:
      decay: `[steps]`.
      position: `[steps + 1]`, the variable u. It may be infinite at the ends of the grid.
      moments: `count -> [steps, count]`, the integrals of the kernel against powers of the progress v. On steps from or
        to an infinite position only the first moment has a meaning.
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
    """`l = log(alpha/sigma)` on a grid. It is infinite without signal or noise; its derivatives are always finite."""
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    l = xp.log(xp.where(alpha > 0, alpha, 1.0)) - xp.log(xp.where(sigma > 0, sigma, 1.0))
    return xp.where(sigma <= 0, np.inf, xp.where(alpha <= 0, -np.inf, l))


def data(
    process: Process, times: Times, tau: float = 0.0, variable: Literal["log_snr", "index"] = "log_snr"
) -> Integral:
    """The integral of `x0` over half the log-SNR, with a polynomial in it or in the index of the grid's points.

    Raises:
      ValueError: `variable` is unknown, or `tau < 0`.
    """
    checks.not_negative("tau", tau)
    checks.one_of("variable", variable, ("log_snr", "index"))
    xp, l = namespace(times), half_log_snr(process, times)
    alpha, sigma, h = process.alpha(times), process.sigma(times), l[1:] - l[:-1]
    ratio = sigma[1:] / sigma[:-1]

    def moments(count: int) -> Any:
        even = variable == "index"  # every step weighs the estimates alike
        exact = quadrature.exponential_moments(xp, (1 + tau**2) * h, 1 if even else count)
        return alpha[1:, None] * (exact * quadrature.uniform_moments(count) if even else exact)

    return Integral(
        decay=ratio * xp.exp(-(tau**2) * h) if tau else ratio,  # the product of 0 and an infinite step is not 0
        position=l if variable == "log_snr" else xp.where(xp.isfinite(l), xp.arange(float(len(times))), l),
        moments=moments,
        backward=False,
        noise=sigma[1:] * xp.sqrt(-xp.expm1(-2 * tau**2 * h)) if tau else None,
        target=(1.0, 0.0),
    )


def noise(process: Process, times: Times, tau: float = 0.0, variable: Variable = "log_snr") -> Integral:
    """The integral of `eps` over half the log-SNR, `sigma/alpha`, time, or the index of the grid's points.

    Raises:
      ValueError: `variable` is unknown, `tau < 0`, or the grid begins without signal, where `x/alpha` is infinite.
    """
    checks.not_negative("tau", tau)
    checks.one_of("variable", variable, get_args(Variable))
    check_signal(process, times, "solvers that predict data or velocity")
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    ratio = sigma / alpha
    scale = (1 + tau**2) * alpha[1:]
    change = scale * (ratio[1:] - ratio[:-1])
    backward = False
    if variable == "log_snr":
        # The kernel e^{-(l - l_t)} is largest at the start of a step, so v is counted from the end.
        position, backward = half_log_snr(process, times), True

        def moments(count: int) -> Any:
            return -(scale * ratio[:-1])[:, None] * quadrature.exponential_moments(
                xp, position[1:] - position[:-1], count
            )

    elif variable in ("sigma", "index"):
        position = ratio if variable == "sigma" else xp.arange(float(len(times)))

        def moments(count: int) -> Any:
            return change[:, None] * quadrature.uniform_moments(count)

    else:
        position = times
        finite = xp.isfinite(times[1:])
        step = (xp.where(finite, times[1:], times[:-1] - 1) - times[:-1])[:, None]

        def rho(v: Any) -> Any:
            t = times[:-1, None] + v * step
            return scale[:, None] * process.sigma(t) / process.alpha(t)

        def moments(count: int) -> Any:
            beyond = [quadrature.moments_of_primitive(xp, rho, scale * ratio[1:], count)] if count > 1 else []
            return xp.concatenate([change[:, None], *beyond], axis=-1)

    lost = alpha[1:] * xp.sqrt(ratio[:-1] ** 2 - ratio[1:] ** 2) * tau if tau else None
    return Integral(alpha[1:] / alpha[:-1], position, moments, backward, lost, (0.0, 1.0))


def velocity(process: Process, times: Times, tau: float = 0.0) -> Integral:
    """The integral of `eps - x0` over `r = sigma/(alpha + sigma)`."""
    checks.not_negative("tau", tau)
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


def of_prediction(process: Process, times: Times, prediction: Prediction, tau: float) -> Integral:
    """The integral of the prediction with this name.

    Raises:
      ValueError: `prediction` is unknown, or see `data`, `noise` and `velocity`.
    """
    checks.one_of("prediction", prediction, get_args(Prediction))
    return {"data": data, "noise": noise, "velocity": velocity}[prediction](process, times, tau)
