"""The exact log density of the model, and the noise that data corresponds to, by the probability-flow ODE."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxdiff import probability_flow, trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.likelihood import divergence as divergences
from jaxdiff.processes import Times


class LogDensity(NamedTuple):
    """See `log_density`.

    Attributes:
      log_density: in nats, one number an example.
      latent: the noise at the other end of the ODE, as x.
      evaluations: how often the denoiser was asked, each time with its divergence.
    """

    log_density: Float[Array, " batch"]
    latent: PyTree
    evaluations: Int[Array, ""]


def log_density(
    denoiser: Denoiser,
    x: PyTree,
    *,
    key: Key[Array, "*batch"] | None = None,
    divergence: Literal["exact", "hutchinson"] = "exact",
    probes: divergences.Probes = "rademacher",
    probe_count: int = 1,
    times: Times | None = None,
    rtol: Any = 1e-5,
    atol: Any = 1e-5,
    max_steps: int = 4096,
) -> LogDensity:
    """`log p(x)` of the distribution that the probability-flow ODE makes of the prior.

        score = jax.jit(jd.likelihood.log_density)(denoiser, x).log_density

    That is the density of x at `t_min`, where sampling ends, for noise N(0, sigma(t_max)^2), from which sampling starts
    (`prior_sample`). (If no noise at all is left at `t_min`, it is the density at `sigma/alpha = 1e-3`: data sharper
    than that needs `times` that end finer.) Along the ODE (`jaxdiff.probability_flow`) `d log p(z)/dr = -div F`, F =
    eps - x0, and `z = x/c` at its ends with `c = alpha + sigma`:

        log p(x) = log N(x_T; 0, sigma_T^2) + d log(c_T / c_min) + int_{r_min}^{r_T} div F dr

    Chen et al. 2018 (arXiv 1806.07366), equation 8; Song et al. 2021 (arXiv 2011.13456), equation 39 and appendix D.2.
    The denoiser must treat the examples of a batch independently and have forward-mode derivatives. With `times` the
    result has derivatives of both modes and can be exported; in adaptive steps, of reverse mode only. Under `jax.jit`
    `divergence`, `probes`, `probe_count` and `max_steps` are static.

    Args:
      x: leaves `[batch, *event]`, data at `t_min`.
      key: for the probes, and only for them: one key, or one key per example.
      divergence: "exact", by d Jacobian-vector products an evaluation, in d dimensions; or "hutchinson", by one a
        probe: then the result is an unbiased estimate, up to the error of the steps. The same probes serve all along.
      probes: "rademacher", signs, exact where the Jacobian is diagonal; or "gaussian".
      probe_count: how many are averaged over.
      times: a grid, decreasing, such as `grids.uniform_log_snr(process, 50)`: fixed steps of the classical Runge-Kutta
        method, four evaluations each. x is then at `times[-1]`, the prior at `times[0]`. Traced or not.
      rtol, atol: without `times`, the tolerances for x and for the log density per dimension; see `sampling.adaptive`.
        Traced or not.
      max_steps: without `times`, the largest number of steps tried.

    Returns: log densities, latents and the number of evaluations.

    Raises:
      TypeError, ValueError: arguments that are not what they should be, by name.
      RuntimeError: (at run time) the tolerances were not met within `max_steps`.
    """
    if divergence not in ("exact", "hutchinson"):
        raise ValueError(f"divergence = {divergence!r}; allowed are 'exact' and 'hutchinson'")
    if probes not in ("rademacher", "gaussian"):
        raise ValueError(f"probes = {probes!r}; allowed are 'rademacher' and 'gaussian'")
    if isinstance(probe_count, bool) or not isinstance(probe_count, int | np.integer) or probe_count < 1:
        raise ValueError(f"probe_count = {probe_count!r}; allowed are integers of at least 1")
    if (key is None) == (divergence == "hutchinson"):
        raise ValueError(
            f"key = {key}, divergence = {divergence!r}; allowed are a key for 'hutchinson', which draws probes, and "
            "None for 'exact', which does not"
        )
    batch, dtype, drawn = trees.batch_size(x), trees.wide(*jax.tree.leaves(x)), None
    if key is not None:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), dtype), x)
        drawn = divergences.draw_probes(trees.as_key(key), shapes, probes, probe_count)
    arrival = probability_flow.transport(
        denoiser,
        x,
        to_noise=True,
        times=times,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        rate=_rate,
        beside=jnp.zeros(batch, dtype),
        extra=drawn,
    )
    noise, data = arrival.path.noise, arrival.path.data
    size = trees.event_size(x)
    stretch = size * (jnp.log(noise.scale / data.scale) + arrival.beside)
    std = denoiser.process.sigma(noise.time)
    prior = -size * (trees.mean_square(arrival.x) / std**2 + jnp.log(2 * jnp.pi * std**2)) / 2
    return LogDensity((prior + stretch).astype(dtype), arrival.x, arrival.evaluations)


def _rate(t: Any, state: tuple[PyTree, Array], args: tuple[Denoiser, PyTree]) -> tuple[PyTree, Array]:
    """`d(z, int div F dr / d)/dr`."""
    z, probes = state[0], args[1]

    def field(z: PyTree) -> PyTree:
        return probability_flow.velocity(args[0], z, t)

    value, div = divergences.exact(field, z) if probes is None else divergences.estimated(field, z, probes)
    return value, (div / trees.event_size(z)).astype(state[1].dtype)


def encode(
    denoiser: Denoiser,
    x: PyTree,
    *,
    times: Times | None = None,
    rtol: Any = 1e-6,
    atol: Any = 1e-6,
    max_steps: int = 4096,
) -> PyTree:
    """The noise at `t_max` that data at `t_min` corresponds to, along the probability-flow ODE. `decode` is its
    inverse, to the accuracy of the steps: at the default tolerances there and back again moves data by some 1e-5.

    Song et al. 2021 (arXiv 2011.13456), section 4.3. Arguments and errors as `log_density`.
    """
    return probability_flow.transport(
        denoiser, x, to_noise=True, times=times, rtol=rtol, atol=atol, max_steps=max_steps
    ).x


def decode(
    denoiser: Denoiser,
    latent: PyTree,
    *,
    times: Times | None = None,
    rtol: Any = 1e-6,
    atol: Any = 1e-6,
    max_steps: int = 4096,
) -> PyTree:
    """The data at `t_min` that noise at `t_max` corresponds to: the inverse of `encode`, given the same `times`.

    Without `times` the samples of `sampling.adaptive`. Arguments and errors as `log_density`.
    """
    return probability_flow.transport(
        denoiser, latent, to_noise=False, times=times, rtol=rtol, atol=atol, max_steps=max_steps
    ).x
