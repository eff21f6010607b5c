"""Exact denoisers of data of a known distribution, in closed form.

For Gaussian data N(m, s^2), with `v = alpha^2 s^2 + sigma^2`,

    E[x0 | x_t] = m + alpha s^2 / v (x_t - alpha m)
    E[eps | x_t] = sigma / v (x_t - alpha m)

For a mixture, the exact estimate is the average of the estimates of its components. The weight of a component is the
posterior probability that it made `x_t`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.arithmetic import quotient
from jaxdiff.checks import message, require
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import Process


@trees.register
@dataclasses.dataclass(frozen=True)
class GaussianDenoiser:
    """The exact denoiser of Gaussian data. `gaussian` makes it."""

    process: Process
    mean: PyTree
    std: PyTree

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> Estimate:
        t = jnp.asarray(t)

        def both(x: Array, mean: Array, std: Array) -> Estimate:
            alpha, sigma = trees.expand(self.process.alpha(t), x), trees.expand(self.process.sigma(t), x)
            variance = alpha**2 * std**2 + sigma**2
            # Without variance x is the mean, and no noise is in it.
            centred = quotient(x - alpha * mean, variance)
            return Estimate(x0=mean + alpha * std**2 * centred, eps=sigma * centred)

        leaves, structure = jax.tree.flatten(x)
        known = (jax.tree.leaves(jax.tree.broadcast(side, x)) for side in (self.mean, self.std))
        pairs = [both(*leaf) for leaf in zip(leaves, *known, strict=True)]
        return Estimate(*(jax.tree.unflatten(structure, side) for side in zip(*pairs, strict=True)))


def gaussian(process: Process, mean: PyTree = 0.0, std: PyTree = 1.0) -> GaussianDenoiser:
    """The exact denoiser of data N(mean, std^2) with independent coordinates. The formulas are at the top of this file.

    Args:
      process: the process that corrupts the data.
      mean, std: scalars for all of the data, or pytrees of its structure with leaves that are scalars or `[*event]`.

    Raises:
      ValueError: a standard deviation is negative.
    """
    good = all(trees.traced(leaf) or np.all(np.asarray(leaf) >= 0) for leaf in jax.tree.leaves(std))
    require(good, "std", std, "numbers of at least 0")
    return GaussianDenoiser(process, jax.tree.map(jnp.asarray, mean), jax.tree.map(jnp.asarray, std))


@trees.register
@dataclasses.dataclass(frozen=True)
class MixtureDenoiser:
    """The exact denoiser of a mixture of Gaussians. `gaussian_mixture` makes it.

    The covariance of a component is `axes diag(variances) axes^T`. `axes` is None if the covariances are isotropic.
    """

    process: Process
    log_weights: Float[Array, " k"]
    means: Float[Array, "k *event"]
    variances: Float[Array, "k d_or_1"]
    axes: Float[Array, "k d d"] | None

    def __call__(self, x: Float[Array, "batch *event"], t: Any, s: Any = None) -> Estimate:
        t, k = jnp.asarray(t), len(self.log_weights)
        _check_event(x, self.means, "means")
        flat, means = x.reshape(x.shape[0], -1)[:, None], self.means.reshape(1, k, -1)
        alpha, sigma = (v[:, None, None] if v.ndim else v for v in (self.process.alpha(t), self.process.sigma(t)))
        # Without noise a component without variance is the nearest point, or has no weight.
        total = jnp.maximum(alpha**2 * self.variances[None] + sigma**2, _least(flat))
        centred = flat - alpha * means
        if self.axes is not None:
            centred = _sum(centred[..., :, None] * self.axes[None], axis=-2)
        scaled = centred / total
        size = flat.shape[-1] // self.variances.shape[-1]  # the number of coordinates that share a variance
        log_likelihood = -(size * _sum(jnp.log(total)) + _sum(centred * scaled)) / 2
        posterior = jax.nn.softmax(self.log_weights[None] + log_likelihood, axis=-1)[..., None]

        def average(values: Array) -> Array:
            if self.axes is not None:
                values = _sum(values[..., None, :] * self.axes[None])
            return _sum(posterior * values, axis=1)

        x0 = _sum(posterior * means, axis=1) + average(alpha * self.variances[None] * scaled)
        return Estimate(x0=x0.reshape(x.shape), eps=average(sigma * scaled).reshape(x.shape))


def _check_event(x: Array, data: Array, name: str) -> None:
    event = data.shape[1:]
    require(x.shape[1:] == event, "x.shape", x.shape, f"[batch, *event] with event {event}, as {name}")


def _least(values: Array) -> float:
    """A variance that is nearly 0, by which squares of usual sizes may still be divided."""
    return float(jnp.finfo(values.dtype).tiny) ** 0.5


def _sum(values: Array, axis: int = -1) -> Array:
    """The sum over an axis by repeated halving, which fixes the order of the additions.

    XLA chooses the order of a reduction, and of the sums in a matrix product, by the shape of the whole array. The
    result of an example would then depend on the size of its batch.
    """
    values = jnp.moveaxis(values, axis, 0)
    while len(values) > 1:
        half = len(values) // 2
        folded = values[:half] + values[half : 2 * half]
        values = jnp.concatenate([folded, values[2 * half :]]) if len(values) % 2 else folded
    return values[0]


def gaussian_mixture(process: Process, weights: Any, means: Any, stds: Any) -> MixtureDenoiser:
    """The exact denoiser of a mixture of k Gaussians. The formulas are at the top of this file.

    The arrays must be concrete: JAX must not be tracing them.

    Args:
      process: the process that corrupts the data.
      weights: the weights of the components, `[k]`, positive. They are normalised.
      means: the means, `[k, *event]`.
      stds: the standard deviations of isotropic components, `[k]`, at least 0; or full covariance matrices of the
        flattened event, `[k, d, d]`.

    Raises:
      ValueError: the shapes do not fit together, a weight is not positive, or a covariance is not symmetric and
        positive semidefinite.
    """
    weights, means, stds = (np.asarray(array, np.float64) for array in (weights, means, stds))
    k = len(weights) if weights.ndim == 1 else 0
    require(k and np.all(weights > 0), "weights", weights, "positive numbers [k]")
    require(means.ndim >= 2 and len(means) == k, "means.shape", means.shape, f"[{k}, *event], as weights")
    size = means[0].size
    if stds.shape == (k,) and np.all(stds >= 0):
        variances, axes = stds[:, None] ** 2, None
    elif stds.shape == (k, size, size) and np.allclose(stds, np.swapaxes(stds, 1, 2)):
        variances, axes = np.linalg.eigh(stds)
        good = np.all(variances >= -1e-9 * np.max(np.abs(variances)))  # up to the rounding of `eigh`
        require(good, "smallest eigenvalue of stds", variances.min(), "numbers of at least 0")
        variances = np.maximum(variances, 0.0)
    else:
        allowed = f"numbers of at least 0 [{k}], and symmetric covariances [{k}, {size}, {size}]"
        raise ValueError(message("stds", stds, allowed))
    return MixtureDenoiser(
        process,
        log_weights=jnp.asarray(np.log(weights / weights.sum())),
        means=jnp.asarray(means),
        variances=jnp.asarray(variances),
        axes=None if axes is None else jnp.asarray(axes),
    )


@trees.register
@dataclasses.dataclass(frozen=True)
class EmpiricalDenoiser:
    """The exact denoiser of a finite data set. `empirical` makes it."""

    process: Process
    data: Float[Array, "n *event"]

    def __call__(self, x: Float[Array, "batch *event"], t: Any, s: Any = None) -> Estimate:
        t = jnp.asarray(t)
        _check_event(x, self.data, "data")
        flat, data = x.reshape(x.shape[0], -1), self.data.reshape(len(self.data), -1)
        alpha, sigma = (jnp.reshape(f(t), (-1, 1)) for f in (self.process.alpha, self.process.sigma))
        # The difference is taken before the square: |x|^2 - 2 x y + |y|^2 would lose every digit at small sigma.
        distances = jnp.sum((flat[:, None] - alpha[..., None] * data[None]) ** 2, axis=-1)
        # Without noise the estimate is the nearest point.
        x0 = jax.nn.softmax(-distances / (2 * jnp.maximum(sigma**2, _least(flat))), axis=-1)
        x0 = jnp.matmul(x0, data, precision="highest")
        eps = quotient(flat - alpha * x0, sigma)
        return Estimate(x0=x0.reshape(x.shape), eps=eps.reshape(x.shape))


def empirical(process: Process, data: Any) -> EmpiricalDenoiser:
    """The exact denoiser of a finite data set whose examples y_i are equally likely.

    A network that had memorised the data set would compute this estimate:

        E[x0 | x_t] = sum_i softmax_i(-|x_t - alpha y_i|^2 / (2 sigma^2)) y_i

    Karras et al. 2022 (arXiv 2206.00364), appendix B.3. Time and memory grow as the batch size times n.

    Args:
      process: the process that corrupts the data.
      data: the examples, `[n, *event]`, floating-point.

    Raises:
      TypeError: `data` is not floating-point.
      ValueError: `data` is empty or has no event axis.
    """
    data = jnp.asarray(data)
    require(jnp.issubdtype(data.dtype, jnp.floating), "data.dtype", data.dtype, "floating-point types", TypeError)
    require(data.ndim >= 2 and len(data), "data.shape", data.shape, "[n, *event] with n of at least 1")
    return EmpiricalDenoiser(process, data)
