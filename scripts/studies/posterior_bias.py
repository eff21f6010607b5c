"""The bias of posterior methods on a mixture whose posterior is known: `python scripts/studies/posterior_bias.py`.

The prior is a mixture of three Gaussians in the plane, with its exact denoiser. The observation is two linear
combinations of the two coordinates, with noise. The posterior is again a mixture of three Gaussians. All errors of a
method are therefore its own: its approximation, and the steps of its solver.

The script prints a table in Markdown. The last column is the cost in evaluations of the denoiser and in products with
its transposed derivative.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff as jd
from jaxdiff import checks, posterior, solvers
from jaxdiff.cli import command_line
from jaxdiff.posterior import operators

PROCESS = jd.processes.vp_linear()
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[1.0, 0.6], [-0.8, 0.9], [0.1, -1.2]])
STDS = np.array([0.35, 0.25, 0.4])
MATRIX = np.array([[1.0, 0.5], [-0.3, 0.8]])
OBSERVATION = np.array([0.5, 0.4])
STD = 0.7
# The plane as pictures of two pixels, for which an operator has a decomposition.
EVENT = (2, 1, 1)


def exact() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights, means and covariances of the posterior."""
    weights, means, covariances = [], [], []
    for weight, mean, std in zip(WEIGHTS, MEANS, STDS, strict=True):
        seen = std**2 * MATRIX @ MATRIX.T + STD**2 * np.eye(2)
        gain = std**2 * MATRIX.T @ np.linalg.inv(seen)
        error = OBSERVATION - MATRIX @ mean
        weights.append(weight * np.exp(-error @ np.linalg.solve(seen, error) / 2) / np.sqrt(np.linalg.det(seen)))
        means.append(mean + gain @ error)
        covariances.append(std**2 * (np.eye(2) - gain @ MATRIX))
    return np.array(weights) / np.sum(weights), np.array(means), np.array(covariances)


def draws(seed: int, count: int) -> np.ndarray:
    """Draws from the posterior, `[count, 2]`."""
    weights, means, covariances = exact()
    rng = np.random.default_rng(seed)
    which = rng.choice(len(weights), count, p=weights)
    factors = np.linalg.cholesky(covariances)
    return np.asarray(means[which] + np.einsum("nij,nj->ni", factors[which], rng.normal(size=(count, 2))))


def errors(samples: np.ndarray) -> list[float]:
    """The errors of the mean, the covariance and the weights, and the sliced Wasserstein-2 distance.

    The mean is in units of the posterior's standard deviation. The covariance is in units of its own norm. The weights
    are the mean probabilities of the components, in total variation.
    """
    weights, means, covariances = exact()
    mean = weights @ means
    centred = means - mean
    covariance = np.einsum("k,kij->ij", weights, covariances + centred[:, :, None] * centred[:, None])
    centred = samples - means[:, None]
    squares = np.einsum("kni,kij,knj->kn", centred, np.linalg.inv(covariances), centred)
    log_likelihood = np.log(weights)[:, None] - np.linalg.slogdet(covariances)[1][:, None] / 2 - squares / 2
    probability = np.exp(log_likelihood - np.logaddexp.reduce(log_likelihood))
    angles = np.pi * (np.arange(32) + 0.5) / 32
    sides = np.sort(np.stack([samples, draws(1, len(samples))]) @ np.stack([np.cos(angles), np.sin(angles)]), axis=1)
    return [
        float(np.linalg.norm(samples.mean(0) - mean) / np.sqrt(np.trace(covariance))),
        float(np.linalg.norm(np.cov(samples.T) - covariance) / np.linalg.norm(covariance)),
        float(np.abs(probability.mean(1) - weights).sum() / 2),
        float(np.sqrt(np.mean((sides[0] - sides[1]) ** 2))),
    ]


def methods() -> dict[str, tuple[Callable[..., Any], str]]:
    """Functions `(key, prior, x, given, times) -> samples`, and their cost for each step."""

    def denoised(make: Callable[..., Any], solver: Callable[..., Any]) -> Callable[..., Any]:
        def run(key: Any, prior: Any, x: Any, given: Any, times: Any) -> Any:
            return jd.sample(key, make(prior, *given), x, solver(PROCESS, times))

        return run

    def dps(key: Any, prior: Any, x: Any, given: Any, times: Any, zeta: float) -> Any:
        denoiser = posterior.dps(prior, *given[:2], times=times, zeta=zeta)
        return jd.sample(key, denoiser, x, solvers.ddpm(PROCESS, times))

    def ddnm(prior: Any, operator: Any, observation: Any, std: Any) -> Any:
        return posterior.ddnm(prior, operator, observation)

    ode = functools.partial(solvers.exponential, order=2, prediction="velocity")
    mmps = functools.partial(posterior.mmps, iterations=2)
    overall = float(np.sqrt(np.mean(WEIGHTS @ (MEANS**2 + STDS[:, None] ** 2) - (WEIGHTS @ MEANS) ** 2)))
    pigdm = functools.partial(posterior.pigdm, data_std=overall)
    renoise = functools.partial(solvers.renoise, eta=0.3**0.5)
    return {
        "mmps, 1 iteration, ODE": (denoised(posterior.mmps, ode), "1 + 1"),
        "mmps, 2 iterations, ODE": (denoised(mmps, ode), "1 + 2"),
        "mmps, 2 iterations, ddpm": (denoised(mmps, solvers.ddpm), "1 + 2"),
        "tmpd, ODE": (denoised(posterior.tmpd, ode), "1 + 2"),
        "pigdm, ODE": (denoised(pigdm, ode), "1 + 1"),
        "dps, zeta = 0.3, ddpm": (functools.partial(dps, zeta=0.3), "1 + 1"),
        "dps, zeta = 1, ddpm": (functools.partial(dps, zeta=1.0), "1 + 1"),
        "diffpir, renoise": (denoised(posterior.diffpir, renoise), "1"),
        "ddnm, renoise": (denoised(ddnm, functools.partial(solvers.renoise, eta=0.85)), "1"),
        "ddnm_plus": (lambda key, prior, x, given, times: posterior.ddnm_plus(key, prior, x, *given, times), "1"),
        "ddrm": (lambda key, prior, x, given, times: posterior.ddrm(key, prior, x, *given, times), "1"),
    }  # fmt: skip


def main(samples: int = 4096, steps: tuple[int, ...] = (10, 40, 160)) -> None:
    """Draws samples by every method, and prints a table in Markdown.

    Args:
      samples: the number of samples of a method.
      steps: the numbers of steps.
    """
    for count in (samples, *steps):
        checks.integer("samples and steps", count)
    prior = jd.denoisers.gaussian_mixture(PROCESS, WEIGHTS, MEANS.reshape(-1, *EVENT), STDS)
    operator = operators.separable(MATRIX, np.ones((1, 1)))
    given = (operator, jnp.asarray(OBSERVATION.reshape(1, *EVENT), float), STD)
    x = jd.prior_sample(jax.random.key(0), PROCESS, (samples, *EVENT))
    print("| method | steps | mean | covariance | weights | distance | cost of a step |\n|---|---|---|---|---|---|---|")
    row(("exact draws", "", draws(2, samples), ""))
    rng = np.random.default_rng(3)
    which = rng.choice(len(WEIGHTS), samples, p=WEIGHTS)
    row(("the prior", "", MEANS[which] + STDS[which, None] * rng.normal(size=(samples, 2)), ""))
    for name, (method, cost) in methods().items():
        for count in steps:
            times = jd.grids.uniform_time(PROCESS, count)
            times[-1] = PROCESS.t_clean
            found = method(jax.random.key(1), prior, x, given, times)
            row((name, count, np.asarray(found, np.float64).reshape(samples, 2), cost))


def row(found: tuple[str, Any, np.ndarray, str]) -> None:
    """Prints the errors of some samples."""
    name, steps, samples, cost = found
    print(f"| {name} | {steps} | {' | '.join(f'{error:.3f}' for error in errors(samples))} | {cost} |", flush=True)


if __name__ == "__main__":
    command_line.run(main)
