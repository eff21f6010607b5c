"""iDDPM's hybrid loss, by which a network learns the variances of ancestral steps too."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxdiff import checks, parametrizations, processes, trees
from jaxdiff.components import choose
from jaxdiff.likelihood.bounds import error, event_sum, gaussian_decoder
from jaxdiff.objectives import times as samplers
from jaxdiff.objectives.objective import Context, Function, Loss, Objective
from jaxdiff.objectives.times import TimesChoice, indices
from jaxdiff.processes import VPDiscrete


@dataclasses.dataclass(frozen=True)
class Hybrid(Objective):
    """The squared error of the output, plus a term of the variational bound that trains the variances alone.

        loss = mse + weight n vb(t)

    n is the number of indices of the process, and `vb(t)` is the term of index t of the bound in bits per dimension
    (`likelihood.discrete_time`, "learned"), in which the estimate of the data is a constant. Nichol & Dhariwal 2021
    (iDDPM, arXiv 2102.09672), equation 16.

    It asks of the model `process(params)`, discrete, `parametrization`, and a `denoiser` that predicts a variance
    (`Diffusion.learned_variance`). It reports `mse` and `vb`.

    Attributes:
      times: the indices that a batch is trained on.
      weight: the weight of the bound.
      levels: the number of levels of the data, equally spaced in [-1, 1], such as 256 for pixels; None for continuous
        data.
    """

    times: TimesChoice = choose(indices)
    weight: float = 1e-3
    levels: int | None = 256

    def __post_init__(self) -> None:
        checks.not_negative("weight", self.weight)
        if self.levels is not None:
            checks.integer("levels", self.levels, 2)

    @property
    def couples(self) -> bool:
        return samplers.learns(self.times)

    def extra(self, model: Any) -> PyTree:
        return samplers.mutable(self.times(process=model.process({})))

    def make(self, model: Any) -> Function:
        checks.require(hasattr(model, "denoiser"), "model", type(model).__name__, "Diffusion with this objective")
        process = model.process({})
        allowed = "vp_discrete with this objective"
        checks.require(isinstance(process, VPDiscrete), "model.process", type(process).__name__, allowed)
        variance = model.settings.learned_variance
        checks.require(variance, "model.learned_variance", variance, "True with this objective")
        host, parametrization, sampler = (
            cast(VPDiscrete, processes.on_host(process)),
            model.parametrization,
            self.times(process=process),
        )
        count = len(process.log_snrs)
        stretch, gain, log_variances = _tables(host, count)

        def objective(params: PyTree, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            x, cond = batch["x"], batch.get("cond")
            random = trees.batch_key(key, trees.batch_size(x))
            chosen = samplers.current(sampler, context.extra)
            drawn = chosen(jax.random.fold_in(random.key, 0), process, random.size)
            t, time_weight = (value[random.index] for value in drawn)
            eps, index = trees.normal_like(random.each(1), x), t.astype(jnp.int32)
            denoiser = model.denoiser(params, cond, keys=random.each(3))
            estimate, fraction = denoiser.with_fraction(processes.corrupt(process, x, eps, t), t)
            truth = parametrizations.Estimate(x, eps)
            output, target = (parametrizations.output_of(process, parametrization, e, t) for e in (estimate, truth))
            mse = trees.mean_square(trees.lincomb((1.0, -1.0), (output, target)))

            fixed = jax.lax.stop_gradient(estimate)
            wrong = error(process, x, eps, fixed, t)

            def divergence(wrong: Array, fraction: Array) -> Array:
                d = fraction * trees.expand(stretch[index], wrong)
                return (d + jnp.expm1(-d) + trees.expand(gain[index], wrong) * jnp.exp(-d) * wrong**2) / 2

            def decoded(x: Array, x0: Array, fraction: Array) -> Array:
                small, large = log_variances
                return -gaussian_decoder(x, x0, small + fraction * (large - small), self.levels)

            inner = event_sum(jax.tree.map(divergence, wrong, fraction))
            last = event_sum(jax.tree.map(decoded, x, fixed.x0, fraction))
            vb = jnp.where(index == 0, last, inner) / (trees.event_size(x) * math.log(2))
            loss = mse + self.weight * count * vb
            return Loss(loss * time_weight, {"mse": mse, "vb": vb}, samplers.recorded(chosen, t, loss))

        return objective


def _tables(host: VPDiscrete, count: int) -> tuple[Array, Array, tuple[float, float]]:
    """For each index, `log(v_large/v_small)` and the factor of the squared error; and the decoder's log-variances.

    Index 0 has a step to clean data, for which the decoder stands. Its entries are not used and are finite.
    """
    times = np.arange(count, dtype=np.float64)
    alpha, sigma = host.alpha(times), host.sigma(times)
    before = np.concatenate([[0], np.arange(count - 1)])
    stretch = 2 * np.log(sigma / sigma[before])
    gain = (alpha[before] * sigma / sigma[before]) ** 2 - alpha**2
    large = 2 * math.log(sigma[0])
    small = large + math.log1p(-((alpha[1] * sigma[0] / (alpha[0] * sigma[1])) ** 2))
    return jnp.asarray(stretch, jnp.float32), jnp.asarray(gain, jnp.float32), (small, large)
