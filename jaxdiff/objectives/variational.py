"""VDM's training: the variational bound itself, by which the noise schedule is learned too."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import checks, trees
from jaxdiff.arithmetic import derivative, namespace
from jaxdiff.likelihood.bounds import prior_divergence, reconstruction
from jaxdiff.objectives.objective import Context, Function, Loss, Objective
from jaxdiff.processes import Learned, Process, corrupt, log_snr, on_host
from jaxdiff.processes.process import VariancePreserving


class InLogSNR(VariancePreserving):
    """The variance-preserving process whose time is minus the log-SNR, from `t_min` to `t_max`.

    Every variance-preserving process is this one in another time. The time input is 1000 times the progress from
    `t_min` to `t_max`, as that of `processes.learned`. Clean data have the time -inf.
    """

    t_clean: ClassVar[float] = -math.inf

    def log_alpha(self, t: Any) -> Any:
        return -namespace(t).logaddexp(0.0, t) / 2

    def sigma(self, t: Any) -> Any:
        xp = namespace(t)
        return xp.exp(-xp.logaddexp(0.0, -t) / 2)

    def time_input(self, t: Any) -> Any:
        return 1000 * (t - self.t_min) / (self.t_max - self.t_min)


@dataclasses.dataclass(frozen=True)
class Variational(Objective):
    """The variational bound in continuous time, in bits per dimension.

    For times t that are uniform in [0, 1], in equal strata over the batch, and `gamma = -log SNR`,

        loss = (prior + reconstruction + 1/2 gamma'(t) |eps - eps_hat|^2)/(d log 2)

    Kingma et al. 2021 (VDM, arXiv 2107.00630), equations 11 and 17. The network and both ends of a learned gamma lower
    the bound. The bound does not depend on the shape of gamma between its ends, which instead lowers the variance of
    the last term: the shape follows the gradient of the squared loss (appendix I.2). One backward pass gives both
    gradients.

    It asks of the model `process(params)`, with some noise left at `t_min`, and `denoiser`. It reports `prior`,
    `reconstruction` and `diffusion`, in bits per dimension.

    Attributes:
      levels: the number of levels of the data, equally spaced in [-1, 1], such as 256 for pixels; None for continuous
        data, whose bound is on the density.
    """

    levels: int | None = 256

    def __post_init__(self) -> None:
        if self.levels is not None:
            checks.integer("levels", self.levels, 2)

    def make(self, model: Any) -> Function:
        checks.require(hasattr(model, "denoiser"), "model", type(model).__name__, "Diffusion with this objective")
        first = on_host(model.process({}))
        noise = float(first.sigma(np.float64(first.t_min)))
        allowed = "processes with some noise at t_min, where the bound ends; a larger t_min"
        checks.require(noise > 0, "model.process", type(first).__name__, allowed)

        def objective(params: PyTree, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            x, cond = batch["x"], batch.get("cond")
            random = trees.batch_key(key, trees.batch_size(x))
            process, bits = model.process(params), 1 / (trees.event_size(x) * math.log(2))
            start = jax.random.uniform(jax.random.fold_in(random.key, 0))
            u = (start + random.index / random.size) % 1.0
            t = process.t_min * (1 - u) + process.t_max * u
            eps, keys = trees.normal_like(random.each(1), x), random.each(3)

            def term(own: Process, rest: PyTree, at: Any, slope: Any) -> Float[Array, " batch"]:
                params, cond = rest
                estimate = model.denoiser(params, cond, process=own, keys=keys)(corrupt(own, x, eps, at), at)
                wrong = trees.lincomb((1.0, -1.0), (eps, estimate.eps))
                return bits / 2 * slope * trees.inner(wrong, wrong)

            if isinstance(process, Learned):

                def diffusion_of(rest: PyTree, shape: PyTree) -> Float[Array, " batch"]:
                    (low, high), rest = rest
                    progress, rate = shape
                    ends = InLogSNR(t_min=low, t_max=high)
                    return term(ends, rest, low + (high - low) * progress, (high - low) * rate)

                rest = ((process.gamma_min, process.gamma_max), (params, cond))
                shape = process.progress(t), derivative(process.progress, t)
                diffusion = _by_variance(diffusion_of, rest, shape)
                process = InLogSNR(t_min=process.gamma_min, t_max=process.gamma_max)
            else:
                slope = -derivative(lambda t: log_snr(process, t), t)
                diffusion = term(process, (params, cond), t, (process.t_max - process.t_min) * slope)
            first, last = (jnp.asarray(end, jnp.float32) for end in (process.t_min, process.t_max))
            prior = bits * prior_divergence(process, x, last)
            alpha, sigma = process.alpha(first), process.sigma(first)
            decoded = bits * reconstruction(random.each(2), x, alpha, sigma, self.levels)
            terms = {"prior": prior, "reconstruction": decoded, "diffusion": diffusion}
            return Loss(prior + decoded + diffusion, terms)

        return objective


def _by_variance(
    losses_of: Callable[[PyTree, PyTree], Float[Array, " batch"]], rest: PyTree, shape: PyTree
) -> Float[Array, " batch"]:
    """Returns `losses_of(rest, shape)`, whose derivative by `shape` is that of the squares of the losses.

    Args:
      losses_of: a function of which loss i depends on `shape` through the numbers i of its leaves alone.
      rest: everything else that is differentiated.
      shape: leaves `[batch]`.
    """

    @jax.custom_vjp
    def losses(rest: PyTree, shape: PyTree) -> Float[Array, " batch"]:
        return losses_of(rest, shape)

    def forward(rest: PyTree, shape: PyTree) -> Any:
        values, back = jax.vjp(losses_of, rest, shape)
        return values, (values, back)

    def backward(saved: Any, cotangents: Any) -> Any:
        values, back = saved
        of_rest, of_shape = back(cotangents)
        return of_rest, jax.tree.map(lambda leaf: 2 * values * leaf, of_shape)

    losses.defvjp(forward, backward)
    return losses(rest, shape)
