"""Denoisers: `(x_t, t) -> Estimate(x0, eps)`, bound to their process.

A denoiser is anything callable in this way that has a `process`: it is what solvers, guidance and posterior sampling
work on. It is also a pytree (parameters, conditions and scales are leaves, functions are static), so that it passes
through `jit`, `vmap`, `grad` and `shard_map` as an argument, and new parameters compile nothing.

Made from a network (`from_network`: any function), or in closed form where the data distribution is known: those are
the oracles that everything else in this library is held against. For Gaussian data N(m, s^2),

    E[x0 | x_t] = m + alpha s^2 / v (x_t - alpha m)      E[eps | x_t] = sigma / v (x_t - alpha m)      v = alpha^2 s^2 +
    sigma^2

and for a mixture the average of its components' answers, weighted by how likely each is to have made `x_t`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import parametrizations, trees
from jaxdiff.parametrizations import Estimate, Parametrization
from jaxdiff.processes import Process


class Denoiser(Protocol):
    """What the rest of the library asks of a denoiser."""

    @property
    def process(self) -> Process:
        """The process whose `x_t` it denoises."""

    def __call__(self, x: PyTree, t: Any) -> Estimate:
        """The estimate at `x = x_t` (leaves `[batch, *event]`) and `t` (a scalar or `[batch]`)."""


def check_denoiser(denoiser: Any) -> None:
    """Refuses what is not callable or has no process."""
    if not callable(denoiser) or not isinstance(getattr(denoiser, "process", None), Process):
        raise TypeError(
            f"denoiser = {denoiser!r}; allowed is a callable with a process, such as denoisers.from_network(...)"
        )


def score(denoiser: Denoiser, x: PyTree, t: Any) -> PyTree:
    """`grad log p_t(x) = -E[eps | x_t = x] / sigma(t)`, of the shape of `x`. Vincent 2011; Song et al. 2021 (arXiv
    2011.13456).
    """
    return trees.lincomb((-1 / denoiser.process.sigma(jnp.asarray(t)),), (denoiser(x, t).eps,))


# ---------------------------------------------------------------------------------- from a network


@trees.register
@dataclasses.dataclass(frozen=True)
class NetworkDenoiser:
    """See `from_network`."""

    process: Process
    params: PyTree
    cond: PyTree
    parametrization: Parametrization = dataclasses.field(metadata={"static": True})
    apply: Callable[..., PyTree] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: PyTree, t: Any) -> Estimate:
        t = jnp.asarray(t)
        output = self.output(x, t)
        trees.check_alike("the network's output", output, x)
        return parametrizations.estimate(self.process, self.parametrization, x, output, t)

    def output(self, x: PyTree, t: Any) -> PyTree:
        """What the network itself says at `x = x_t`."""
        t = jnp.asarray(t)
        time = trees.per_example(self.parametrization.time_input(self.process, t), x)
        scale = self.parametrization.scale(self.process, t)
        arguments = (time,) if self.cond is None else (time, self.cond)
        return self.apply(self.params, trees.lincomb((scale,), (x,)), *arguments)


def from_network(
    process: Process,
    parametrization: Parametrization,
    apply: Callable[..., PyTree],
    params: PyTree,
    cond: PyTree = None,
) -> NetworkDenoiser:
    """The denoiser that a network defines.

    Args:
      process: the process the network was trained on.
      parametrization: what the network is fed and what its output means.
      apply: `apply(params, x, time)`, or `apply(params, x, time, cond)` when `cond` is given: a Linen module's
        `apply`, a function around `nnx.merge`, any function of arrays. `x` has leaves `[batch, *event]`, float32 or
        wider, `time` is `[batch]`; the output has the shapes of `x` and any float type. It is static: give the same
        function object again and nothing is recompiled.
      params: the parameters, any pytree (`None` for a function without).
      cond: conditions, any pytree.

    Raises:
      ValueError: the parametrization is not defined at the noisy end of the process (see `parametrizations.check`);
        when called, an output unlike `x`.
    """
    _check(process, parametrization, apply)
    return NetworkDenoiser(process, params, cond, parametrization, apply)


def _check(process: Process, parametrization: Parametrization, apply: Callable[..., PyTree]) -> None:
    if not callable(apply):
        raise TypeError(f"apply = {apply!r} is not callable; allowed are functions (params, x, time[, cond]) -> output")
    parametrizations.check(process, parametrization)


class VarianceDenoiser(Denoiser, Protocol):
    """A denoiser that also says how much noise its own ancestral step should have."""

    def with_fraction(self, x: PyTree, t: Any) -> tuple[Estimate, PyTree]:
        """The estimate, and where between the smallest and the largest log-variance each coordinate's lies (0 to 1)."""


@trees.register
@dataclasses.dataclass(frozen=True)
class NetworkVarianceDenoiser(NetworkDenoiser):
    """See `from_network_with_variance`."""

    def __call__(self, x: PyTree, t: Any) -> Estimate:
        return self.with_fraction(x, t)[0]

    def with_fraction(self, x: PyTree, t: Any) -> tuple[Estimate, PyTree]:
        """The estimate and the fraction, leaves as `x`."""
        t = jnp.asarray(t)
        doubled = jax.tree.map(_doubled, x)
        output = self.output(x, t)
        trees.check_alike("the network's output, which should have twice the channels of x,", output, doubled)
        first = jax.tree.map(lambda o: o[..., : o.shape[-1] // 2], output)
        second = jax.tree.map(lambda o: o[..., o.shape[-1] // 2 :], output)
        fraction = jax.tree.map(lambda v: (v.astype(trees.wide(v)) + 1) / 2, second)
        return parametrizations.estimate(self.process, self.parametrization, x, first, t), fraction


def _doubled(leaf: Array) -> jax.ShapeDtypeStruct:
    if leaf.ndim < 2:
        raise ValueError(f"x has a leaf of shape {leaf.shape}; allowed is [batch, ..., channels]")
    return jax.ShapeDtypeStruct((*leaf.shape[:-1], 2 * leaf.shape[-1]), leaf.dtype)


def from_network_with_variance(
    process: Process,
    parametrization: Parametrization,
    apply: Callable[..., PyTree],
    params: PyTree,
    cond: PyTree = None,
) -> NetworkVarianceDenoiser:
    """The denoiser of a network that also learned the variance of its ancestral steps: iDDPM's.

    The output has twice the channels (the last axis) of `x`. The first half is what `parametrization` says; the second,
    `v`, roughly in [-1, 1], is where between the two sensible values the log-variance of a step lies: `log variance = f
    log(large) + (1 - f) log(small)` with `f = (v + 1)/2`. Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 15.

    Called, it is a denoiser like any other; `with_fraction(x, t)` gives the estimate and f. It is what
    `sampling.learned_variance` and `likelihood.discrete_time(variance="learned")` ask for.

    Args: as `from_network`.

    Raises:
      ValueError: as `from_network`; when called, an output that has not twice the channels of `x`.
    """
    _check(process, parametrization, apply)
    return NetworkVarianceDenoiser(process, params, cond, parametrization, apply)


# ---------------------------------------------------------------------------------- in closed form


@trees.register
@dataclasses.dataclass(frozen=True)
class GaussianDenoiser:
    """See `gaussian`."""

    process: Process
    mean: PyTree
    std: PyTree

    def __call__(self, x: PyTree, t: Any) -> Estimate:
        t = jnp.asarray(t)

        def both(x: Array, mean: Array, std: Array) -> Estimate:
            alpha, sigma = trees.expand(self.process.alpha(t), x), trees.expand(self.process.sigma(t), x)
            centred = (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)
            return Estimate(x0=mean + alpha * std**2 * centred, eps=sigma * centred)

        leaves, structure = jax.tree.flatten(x)
        known = (jax.tree.leaves(jax.tree.broadcast(side, x)) for side in (self.mean, self.std))
        pairs = [both(*leaf) for leaf in zip(leaves, *known, strict=True)]
        return Estimate(*(jax.tree.unflatten(structure, side) for side in zip(*pairs, strict=True)))


def gaussian(process: Process, mean: PyTree = 0.0, std: PyTree = 1.0) -> GaussianDenoiser:
    """The exact denoiser of data N(mean, std^2), independent in every coordinate (formulas at the head of this file).

    Args:
      mean, std: scalars for all of the data, or pytrees of its structure with leaves that are scalars or `[*event]`.
    """
    if any(np.any(np.asarray(leaf) < 0) for leaf in jax.tree.leaves(std) if not isinstance(leaf, jax.core.Tracer)):
        raise ValueError(f"std = {std}; allowed are numbers of at least 0")
    return GaussianDenoiser(process, jax.tree.map(jnp.asarray, mean), jax.tree.map(jnp.asarray, std))


@trees.register
@dataclasses.dataclass(frozen=True)
class MixtureDenoiser:
    """See `gaussian_mixture`. Each covariance is `axes diag(variances) axes^T`; `axes` is None when it is isotropic."""

    process: Process
    log_weights: Float[Array, " k"]
    means: Float[Array, "k *event"]
    variances: Float[Array, "k d_or_1"]
    axes: Float[Array, "k d d"] | None

    def __call__(self, x: Float[Array, "batch *event"], t: Any) -> Estimate:
        t, k = jnp.asarray(t), len(self.log_weights)
        if x.shape[1:] != self.means.shape[1:]:
            raise ValueError(
                f"x has shape {x.shape}; allowed is [batch, *event] with event {self.means.shape[1:]}, as `means`"
            )
        flat, means = x.reshape(x.shape[0], -1)[:, None], self.means.reshape(k, -1)
        alpha, sigma = (v[:, None, None] if v.ndim else v for v in (self.process.alpha(t), self.process.sigma(t)))
        total = alpha**2 * self.variances + sigma**2
        centred = flat - alpha * means
        if self.axes is not None:
            centred = _sum(centred[..., :, None] * self.axes, axis=-2)
        scaled = centred / total
        size = flat.shape[-1] // self.variances.shape[-1]  # how many coordinates each variance stands for
        log_likelihood = -(size * _sum(jnp.log(total)) + _sum(centred * scaled)) / 2
        posterior = jax.nn.softmax(self.log_weights + log_likelihood, axis=-1)[..., None]

        def average(values: Array) -> Array:
            if self.axes is not None:
                values = _sum(values[..., None, :] * self.axes)
            return _sum(posterior * values, axis=1)

        x0 = _sum(posterior * means, axis=1) + average(alpha * self.variances * scaled)
        return Estimate(x0=x0.reshape(x.shape), eps=average(sigma * scaled).reshape(x.shape))


def _sum(values: Array, axis: int = -1) -> Array:
    """The sum over an axis by halves, in an order that is written down.

    XLA orders a reduction, and the sums of a matrix product, by the shape of the whole array: an example's result would
    depend on its batch.
    """
    values = jnp.moveaxis(values, axis, 0)
    while len(values) > 1:
        half = len(values) // 2
        folded = values[:half] + values[half : 2 * half]
        values = jnp.concatenate([folded, values[2 * half :]]) if len(values) % 2 else folded
    return values[0]


def gaussian_mixture(process: Process, weights: Any, means: Any, stds: Any) -> MixtureDenoiser:
    """The exact denoiser of data drawn from a mixture of k Gaussians (formulas at the head of this file).

    Args:
      weights: `[k]`, positive; they are normalised. Like the others a concrete array, not a traced one.
      means: `[k, *event]`.
      stds: `[k]`, the standard deviations of isotropic components (0 allowed), or `[k, d, d]`, full covariance matrices
        over the flattened event.

    Raises:
      ValueError: shapes that do not fit, weights that are not positive, covariances that are not symmetric and
        positive.
    """
    weights, means, stds = (np.asarray(array, np.float64) for array in (weights, means, stds))
    k = len(weights) if weights.ndim == 1 else 0
    if not k or not np.all(weights > 0):
        raise ValueError(f"weights = {weights}; allowed are [k] positive numbers")
    if means.ndim < 2 or len(means) != k:
        raise ValueError(f"means has shape {means.shape}; allowed is [k, *event] with k = {k}, as weights")
    size = means[0].size
    if stds.shape == (k,) and np.all(stds >= 0):
        variances, axes = stds[:, None] ** 2, None
    elif stds.shape == (k, size, size) and np.allclose(stds, np.swapaxes(stds, 1, 2)):
        variances, axes = np.linalg.eigh(stds)
        if np.any(variances < -1e-9 * np.max(np.abs(variances))):
            raise ValueError(
                f"stds holds covariances with eigenvalues down to {variances.min():g}; allowed are at least 0"
            )
        variances = np.maximum(variances, 0.0)
    else:
        raise ValueError(
            f"stds has shape {stds.shape}; allowed are [{k}] numbers of at least 0, or symmetric covariances "
            f"[{k}, {size}, {size}]"
        )
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
    """See `empirical`."""

    process: Process
    data: Float[Array, "n *event"]

    def __call__(self, x: Float[Array, "batch *event"], t: Any) -> Estimate:
        t = jnp.asarray(t)
        if x.shape[1:] != self.data.shape[1:]:
            raise ValueError(
                f"x has shape {x.shape}; allowed is [batch, *event] with event {self.data.shape[1:]}, as `data`"
            )
        flat, data = x.reshape(x.shape[0], -1), self.data.reshape(len(self.data), -1)
        alpha, sigma = (jnp.reshape(f(t), (-1, 1)) for f in (self.process.alpha, self.process.sigma))
        # Differences before squares: |x|^2 - 2 x y + |y|^2 would lose every digit at small sigma.
        distances = jnp.sum((flat[:, None] - alpha[..., None] * data) ** 2, axis=-1)
        x0 = jax.nn.softmax(-distances / (2 * sigma**2), axis=-1)
        x0 = jnp.matmul(x0, data, precision="highest")
        return Estimate(x0=x0.reshape(x.shape), eps=((flat - alpha * x0) / sigma).reshape(x.shape))


def empirical(process: Process, data: Any) -> EmpiricalDenoiser:
    """The exact denoiser of a finite data set, each example equally likely: what a network that memorised it would
    compute.

    `E[x0 | x_t] = sum_i softmax_i(-|x_t - alpha y_i|^2 / (2 sigma^2)) y_i`. Karras et al. 2022 (arXiv 2206.00364),
    appendix B.3. Time and memory grow as batch times n.

    Args:
      data: `[n, *event]`.
    """
    data = jnp.asarray(data)
    if data.ndim < 2 or not len(data) or not jnp.issubdtype(data.dtype, jnp.floating):
        raise ValueError(f"data is {data.dtype} of shape {data.shape}; allowed are floats [n >= 1, *event]")
    return EmpiricalDenoiser(process, data)
