"""Processes in continuous time."""

from typing import Any, ClassVar

import numpy as np

from jaxdiff.arithmetic import namespace, root
from jaxdiff.checks import message, positive
from jaxdiff.processes.process import Process, VariancePreserving


class VPLinear(VariancePreserving):
    """The variance-preserving SDE with a linear rate. `vp_linear` makes it."""

    beta_min: float
    beta_max: float

    def log_alpha(self, t: Any) -> Any:
        return -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2


class SubVP(VPLinear):
    """The sub-VP SDE. `sub_vp` makes it."""

    def sigma(self, t: Any) -> Any:
        return -namespace(t).expm1(2 * self.log_alpha(t))


class VPCosine(Process):
    """The continuous cosine schedule. `vp_cosine` makes it."""

    t_noise: ClassVar[float] = 1.0
    shift: float

    def _sides(self, t: Any) -> tuple[Any, Any, Any]:
        # cos(pi t / 2) is computed as a sine, so that alpha(1) is exactly 0 and not 6e-17.
        xp = namespace(t)
        cos, sin = xp.sin(np.pi / 2 * (1 - t)), self.shift * xp.sin(np.pi / 2 * t)
        return cos, sin, xp.sqrt(cos**2 + sin**2)

    def alpha(self, t: Any) -> Any:
        cos, _, norm = self._sides(t)
        return cos / norm

    def sigma(self, t: Any) -> Any:
        _, sin, norm = self._sides(t)
        return sin / norm


class VPNichol(Process):
    """The cosine schedule with an offset. `vp_nichol` makes it."""

    t_noise: ClassVar[float] = 1.0
    offset: float

    def alpha(self, t: Any) -> Any:
        xp, unit = namespace(t), np.pi / 2 / (1 + self.offset)
        return xp.sin(unit * (1 - t)) / xp.cos(xp.asarray(unit * self.offset))

    def sigma(self, t: Any) -> Any:
        # cos(a)^2 - cos(b)^2 = sin(b - a) sin(b + a): no cancellation near t = 0.
        xp, unit = namespace(t), np.pi / 2 / (1 + self.offset)
        return root(xp.sin(unit * t) * xp.sin(unit * (t + 2 * self.offset))) / xp.cos(xp.asarray(unit * self.offset))


class VE(Process):
    """The variance-exploding SDE. `ve` makes it."""

    t_clean: ClassVar[float] = -np.inf
    sigma_min: float
    sigma_max: float

    def alpha(self, t: Any) -> Any:
        return namespace(t).ones_like(t)

    def sigma(self, t: Any) -> Any:
        xp = namespace(t)
        noisy = t > -np.inf  # at -inf the derivative with respect to sigma_min and sigma_max would be 0 times infinity
        growth = xp.exp(xp.where(noisy, t, 0.0) * xp.log(xp.asarray(self.sigma_max / self.sigma_min)))
        return xp.where(noisy, self.sigma_min * growth, 0.0)

    def time_input(self, t: Any) -> Any:
        return namespace(t).log(self.sigma(t)) / 4


class EDM(Process):
    """The process of EDM. `edm` makes it."""

    def alpha(self, t: Any) -> Any:
        return namespace(t).ones_like(t)

    def sigma(self, t: Any) -> Any:
        return t * namespace(t).ones_like(t)

    def time_input(self, t: Any) -> Any:
        return namespace(t).log(t) / 4


class Flow(Process):
    """The straight line from data to noise. `flow` makes it."""

    t_noise: ClassVar[float] = 1.0

    def alpha(self, t: Any) -> Any:
        return 1 - t

    def sigma(self, t: Any) -> Any:
        return t * namespace(t).ones_like(t)


class Trigonometric(Process):
    """The process of TrigFlow. `trigonometric` makes it."""

    t_noise: ClassVar[float] = np.pi / 2
    sigma_data: float

    def alpha(self, t: Any) -> Any:
        return namespace(t).sin(np.pi / 2 - t)

    def sigma(self, t: Any) -> Any:
        return self.sigma_data * namespace(t).sin(t)


def _check_interval(t_min: float, t_max: float, low: float = 0.0, high: float = np.inf) -> None:
    if not low <= t_min < t_max <= high:
        raise ValueError(message("(t_min, t_max)", (t_min, t_max), f"{low} <= t_min < t_max <= {high}"))


def _check_ordered(low_name: str, low: float, high_name: str, high: float) -> None:
    if not 0 < low < high < np.inf:
        allowed = f"0 < {low_name} < {high_name} < infinity"
        raise ValueError(message(f"({low_name}, {high_name})", (low, high), allowed))


def vp_linear(beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3, t_max: float = 1.0) -> VPLinear:
    """The variance-preserving SDE with a linear rate. It is DDPM's process in continuous time.

        alpha = exp(-t^2 (beta_max - beta_min)/4 - t beta_min/2)
        sigma = sqrt(1 - alpha^2)

    Song et al. 2021 (arXiv 2011.13456), appendix B.

    Args:
      beta_min: the rate at t = 0, above 0.
      beta_max: the rate at t = 1, above `beta_min`.
      t_min: the first time that is used, near the data.
      t_max: the last time that is used, where sampling starts.

    Raises:
      ValueError: the rates or the times do not increase, or a rate is not above 0.
    """
    _check_interval(t_min, t_max)
    _check_ordered("beta_min", beta_min, "beta_max", beta_max)
    return VPLinear(beta_min=beta_min, beta_max=beta_max, t_min=t_min, t_max=t_max)


def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3, t_max: float = 1.0) -> SubVP:
    """The sub-VP SDE: `alpha` is that of `vp_linear`, and `sigma = 1 - alpha^2` without a square root.

    Song et al. 2021 (arXiv 2011.13456), section 3.4 and appendix B.

    Args:
      beta_min: the rate at t = 0, above 0.
      beta_max: the rate at t = 1, above `beta_min`.
      t_min: the first time that is used, near the data.
      t_max: the last time that is used, where sampling starts.

    Raises:
      ValueError: the rates or the times do not increase, or a rate is not above 0.
    """
    _check_interval(t_min, t_max)
    _check_ordered("beta_min", beta_min, "beta_max", beta_max)
    return SubVP(beta_min=beta_min, beta_max=beta_max, t_min=t_min, t_max=t_max)


def vp_cosine(shift: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> VPCosine:
    """The continuous cosine schedule: `sigma/alpha = shift * tan(pi t/2)` and `alpha^2 + sigma^2 = 1`, `t` in [0, 1].

    With `shift = 1`, `alpha = cos(pi t/2)` and `sigma = sin(pi t/2)`. Hoogeboom et al. 2023 (simple diffusion, arXiv
    2301.11093) move the log-SNR by `2 log(64/d)` for images of d x d pixels. That is `shift = d/64`.

    At `t = 1` no signal is left (`alpha = 0`). Use the v, velocity, x0 or EDM parametrization there.

    Args:
      shift: the factor of `sigma/alpha`, above 0.
      t_min: the first time that is used, near the data.
      t_max: the last time that is used, where sampling starts.

    Raises:
      ValueError: `shift` is not positive, or the times do not increase within [0, 1].
    """
    _check_interval(t_min, t_max, high=1.0)
    positive("shift", shift)
    return VPCosine(shift=shift, t_min=t_min, t_max=t_max)


def vp_nichol(offset: float = 0.008, t_min: float = 1e-3, t_max: float = 1.0) -> VPNichol:
    """The cosine schedule with an offset s, `t` in [0, 1].

        alpha = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s))
        sigma = sqrt(1 - alpha^2)

    Nichol & Dhariwal 2021 (iDDPM, arXiv 2102.09672), equation 17, in continuous time. `vp_discrete("cosine")` is the
    form of the paper, with 1000 steps and capped betas. At `t = 1` no signal is left (`alpha = 0`).

    Args:
      offset: the offset s, above 0.
      t_min: the first time that is used, near the data.
      t_max: the last time that is used, where sampling starts.

    Raises:
      ValueError: `offset` is not positive, or the times do not increase within [0, 1].
    """
    _check_interval(t_min, t_max, high=1.0)
    positive("offset", offset)
    return VPNichol(offset=offset, t_min=t_min, t_max=t_max)


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0, t_min: float = 0.0, t_max: float = 1.0) -> VE:
    """The variance-exploding SDE: `alpha = 1` and `sigma = sigma_min (sigma_max/sigma_min)^t`, `t` in [0, 1].

    Its prior has the standard deviation `sigma_max`. Song et al. 2021 (arXiv 2011.13456), section 3.4.

    Args:
      sigma_min: the noise at t = 0, above 0.
      sigma_max: the noise at t = 1, above `sigma_min`.
      t_min: the first time that is used, near the data.
      t_max: the last time that is used, where sampling starts.

    Raises:
      ValueError: the noise or the times do not increase, or `sigma_min` is not above 0.
    """
    _check_interval(t_min, t_max)
    _check_ordered("sigma_min", sigma_min, "sigma_max", sigma_max)
    return VE(sigma_min=sigma_min, sigma_max=sigma_max, t_min=t_min, t_max=t_max)


def edm(sigma_min: float = 0.002, sigma_max: float = 80.0) -> EDM:
    """The process of EDM: `alpha = 1` and `sigma = t`, so that time is the noise level.

    Karras et al. 2022 (arXiv 2206.00364), table 1.

    Args:
      sigma_min: the lowest noise that is used, above 0; it is `t_min`.
      sigma_max: the highest noise that is used, above `sigma_min`; it is `t_max`.

    Raises:
      ValueError: not `0 < sigma_min < sigma_max < inf`.
    """
    _check_ordered("sigma_min", sigma_min, "sigma_max", sigma_max)
    return EDM(t_min=sigma_min, t_max=sigma_max)


def flow(t_min: float = 0.0, t_max: float = 1.0) -> Flow:
    """The straight line from data to noise: `alpha = 1 - t` and `sigma = t`, `t` in [0, 1].

    It is the process of rectified flow (Liu et al. 2023, arXiv 2209.03003) and of flow matching (Lipman et al. 2023,
    arXiv 2210.02747, where time runs the other way). At `t = 1` no signal is left (`alpha = 0`). Use the velocity, v,
    x0 or EDM parametrization there.

    Args:
      t_min: the first time that is used, near the data.
      t_max: the last time that is used, where sampling starts.

    Raises:
      ValueError: the times do not increase within [0, 1].
    """
    _check_interval(t_min, t_max, high=1.0)
    return Flow(t_min=t_min, t_max=t_max)


def trigonometric(sigma_data: float = 1.0, t_min: float = 0.0, t_max: float = np.pi / 2) -> Trigonometric:
    """The process of TrigFlow: `alpha = cos t` and `sigma = sigma_data sin t`, `t` in [0, pi/2].

    Lu & Song 2025 (sCM, arXiv 2410.11081), section 3. At `t = pi/2` no signal is left (`alpha = 0`).

    Args:
      sigma_data: the standard deviation of the data, above 0.
      t_min: the first time that is used, near the data.
      t_max: the last time that is used, where sampling starts.

    Raises:
      ValueError: `sigma_data` is not positive, or the times do not increase within [0, pi/2].
    """
    _check_interval(t_min, t_max, high=np.pi / 2)
    positive("sigma_data", sigma_data)
    return Trigonometric(sigma_data=sigma_data, t_min=t_min, t_max=t_max)
