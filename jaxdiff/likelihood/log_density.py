"""The exact log-density of a model, and the noise that data correspond to, by the probability-flow ODE."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxdiff import checks, probability_flow, trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.likelihood import divergence as divergences
from jaxdiff.processes import Times


class LogDensity(NamedTuple):
    """The result of `log_density`.

    Attributes:
      log_density: in nats, one number per example.
      latent: the noise at the other end of the ODE, with the shapes of the data.
      evaluations: the number of evaluations of the denoiser, each with its divergence.
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
    """The log-density of data under the model, by the probability-flow ODE.

        score = jax.jit(jd.likelihood.log_density)(denoiser, x).log_density

    The model is the distribution at `t_min`, where sampling ends, that the ODE makes of the noise N(0, sigma(t_max)^2),
    from which sampling starts (`prior_sample`). If no noise is left at `t_min`, the density is that at
    `sigma/alpha = 1e-3`. Data that are sharper than this need `times` that end with less noise.

    Along the ODE (`jaxdiff.probability_flow`) the field is `F = eps - x0` and `d log p(z)/dr = -div F`. At its ends
    `z = x/c`, with `c = alpha + sigma`. For data of d dimensions:

        log p(x) = log N(x_T; 0, sigma_T^2) + d log(c_T / c_min) + int_{r_min}^{r_T} div F dr

    Chen et al. 2018 (arXiv 1806.07366), equation 8; Song et al. 2021 (arXiv 2011.13456), equation 39 and appendix D.2.

    The denoiser must treat the examples of a batch independently and have reverse-mode derivatives. With `times` the
    result has derivatives of both modes and can be exported. With adaptive steps it has reverse-mode derivatives only.
    Under `jax.jit`, `divergence`, `probes`, `probe_count` and `max_steps` are static.

    Args:
      x: data at `t_min`, leaves `[batch, *event]`.
      key: the key of the probes, with "hutchinson" only: one key, or one key per example.
      divergence: "exact" takes d Jacobian-vector products per evaluation. "hutchinson" takes one product per probe, and
        the result is an unbiased estimate up to the error of the steps. The probes are the same along the whole path.
      probes: "rademacher" draws signs, which are exact where the Jacobian is diagonal. "gaussian" draws normal numbers.
      probe_count: the number of probes to average over.
      times: a decreasing grid, such as `grids.uniform_log_snr(process, 50)`, which may be traced. The steps are then
        fixed steps of the classical Runge-Kutta method, with four evaluations each. The data are at `times[-1]` and the
        prior is at `times[0]`.
      rtol, atol: without `times`, the tolerances for x and for the log-density per dimension; see `sampling.adaptive`.
        They may be traced.
      max_steps: without `times`, the largest number of steps that are tried.

    Returns:
      A `LogDensity`: log-densities, latents and the number of evaluations.

    Raises:
      TypeError, ValueError: an argument of the wrong type or value.
      RuntimeError: the end was not reached within `max_steps`. This error is raised at run time.
    """
    checks.one_of("divergence", divergence, ("exact", "hutchinson"))
    checks.one_of("probes", probes, ("rademacher", "gaussian"))
    checks.integer("probe_count", probe_count)
    allowed = "a key with divergence = 'hutchinson', which draws probes, and None with 'exact', which draws nothing"
    checks.require((key is None) == (divergence == "exact"), "key", key, allowed)
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
        integral=jnp.zeros(batch, dtype),
        extra=drawn,
    )
    noise, data = arrival.noise, arrival.data
    size = trees.event_size(x)
    stretch = size * (jnp.log(noise.scale / data.scale) + arrival.integral)
    std = denoiser.process.sigma(noise.time)
    prior = -size * (trees.mean_square(arrival.x) / std**2 + jnp.log(2 * jnp.pi * std**2)) / 2
    return LogDensity((prior + stretch).astype(dtype), arrival.x, arrival.evaluations)


def _rate(t: Any, state: tuple[PyTree, Array], args: tuple[Denoiser, PyTree]) -> tuple[PyTree, Array]:
    """Returns `dz/dr` and the divergence per dimension, whose integral is part of the log-density."""
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
    """The noise at `t_max` that data at `t_min` correspond to along the probability-flow ODE.

    Song et al. 2021 (arXiv 2011.13456), section 4.3. `decode` is the inverse, up to the error of the steps: with the
    default tolerances, `decode(encode(x))` differs from x by about 1e-5. Arguments and errors are those of
    `log_density`.
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
    """The data at `t_min` that noise at `t_max` corresponds to: the inverse of `encode` with the same `times`.

    Without `times` these are the samples of `sampling.adaptive`. Arguments and errors are those of `log_density`.
    """
    return probability_flow.transport(
        denoiser, latent, to_noise=False, times=times, rtol=rtol, atol=atol, max_steps=max_steps
    ).x
