"""Time samplers: which noise levels a batch is trained on.

Every sampler is made by a function of its options: `uniform()`, `log_normal(mean, std)`, `importance(process)`. A time
sampler is a function `(key, process, batch) -> (t [batch], weight [batch])`, where `batch` is the number of examples.
The weight multiplies the loss. It is 1 for all samplers but `Importance`: a published density of times is part of the
recipe, and needs no correction.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxdiff import trees
from jaxdiff.checks import integer, message, not_negative
from jaxdiff.components import Choices, function_of
from jaxdiff.jitted import jitted
from jaxdiff.processes import Process, VPDiscrete, log_snr, time_of_log_snr

__all__ = [
    "Importance",
    "TimeSampler",
    "TimesChoice",
    "WeightedTimes",
    "importance",
    "indices",
    "log_normal",
    "logit_normal",
    "stratified",
    "uniform",
]

# Times and the weights of their losses, `[batch]` each.
WeightedTimes = tuple[Float[Array, " batch"], Float[Array, " batch"]]
TimeSampler = Callable[[Key[Array, ""], Process, int], WeightedTimes]
# A time sampler as a setting: a function of this file, with its options, which is called with `process=...`.
TimesChoice = Annotated[Callable[..., TimeSampler], Choices("jaxdiff.objectives.times", ("process",))]

# The ends of a process may be singular. Samplers of continuous times keep this fraction of the interval away from them.
# Much nearer to the ends, float32 could not tell a time from 1, and the squares in the loss would underflow.
_EDGE = 2.0**-23


def _from_unit(process: Process, u: Float[Array, " batch"]) -> WeightedTimes:
    """Returns the times at the fractions u of the interval of a process, each with weight 1."""
    u = jnp.clip(u, _EDGE, 1 - _EDGE)
    return process.t_min * (1 - u) + process.t_max * u, jnp.ones_like(u)


def _count(process: Process) -> int:
    """Returns the number of indices of a discrete process."""
    if not isinstance(process, VPDiscrete):
        allowed = "discrete processes (for others use times.uniform())"
        raise TypeError(message("type(process)", type(process).__name__, allowed))
    return len(process.log_snrs)


def uniform() -> TimeSampler:
    """Independent times, uniform over the process."""
    return lambda key, process, batch: _from_unit(process, jax.random.uniform(key, (batch,)))


def stratified() -> TimeSampler:
    """Times in equal strata, one time in each of `batch` intervals: `t_i = (u + i/batch) mod 1`.

    The loss has less noise than with `uniform`. Kingma et al. 2021 (VDM, arXiv 2107.00630), appendix I.1.
    """
    return lambda key, process, batch: _from_unit(process, (jax.random.uniform(key) + jnp.arange(batch) / batch) % 1.0)


def logit_normal(mean: float = 0.0, std: float = 1.0) -> TimeSampler:
    """Logit-normal times: `t_min + (t_max - t_min) sigmoid(N(mean, std^2))`.

    Esser et al. 2024 (SD3, arXiv 2403.03206), section 3.1.

    Args:
      mean: the mean before the sigmoid. Above 0 there is more noise.
      std: the standard deviation before the sigmoid, at least 0.

    Raises:
      ValueError: `std` is negative.
    """
    not_negative("std", std)
    return lambda key, process, batch: _from_unit(
        process, jax.nn.sigmoid(mean + std * jax.random.normal(key, (batch,)))
    )


def log_normal(mean: float = -1.2, std: float = 1.2) -> TimeSampler:
    """Times at which `log(sigma/alpha) ~ N(mean, std^2)`, clipped to the process.

    Karras et al. 2022 (arXiv 2206.00364), table 1. EDM2 uses (-0.4, 1.0) for latents and (-0.8, 1.6) for images of
    64 x 64 pixels.

    Args:
      mean: the mean of `log(sigma/alpha)`. A larger mean gives more noise.
      std: the standard deviation of `log(sigma/alpha)`, at least 0.

    Raises:
      ValueError: `std` is negative.
    """
    not_negative("std", std)

    def sampler(key: Key[Array, ""], process: Process, batch: int) -> WeightedTimes:
        half = mean + std * jax.random.normal(key, (batch,))
        ends, _ = _from_unit(process, jnp.array([0.0, 1.0]))
        # The levels are clipped before the inversion too, which has no answer beyond the process.
        most, least = log_snr(process, ends)
        t = time_of_log_snr(process, jnp.clip(-2 * half, least, most))
        return jnp.clip(t, ends[0], ends[1]), jnp.ones(batch)

    return sampler


def indices() -> TimeSampler:
    """Independent indices of a discrete process, uniform, as floats. Ho et al. 2020 (arXiv 2006.11239), algorithm 1.

    The sampler raises a TypeError for a process that is not discrete.
    """

    def sampler(key: Key[Array, ""], process: Process, batch: int) -> WeightedTimes:
        t = jax.random.randint(key, (batch,), 0, _count(process))
        return t.astype(jnp.float32), jnp.ones(batch)

    return sampler


def importance(process: Process, *, history: int = 10) -> "Importance":
    """A sampler that prefers the indices with large recent losses: an `Importance` before any loss is recorded.

    Args:
      process: a discrete process.
      history: the number of recent losses that are kept for each index.

    Raises:
      TypeError: the process is not discrete.
      ValueError: `history` is not an integer of at least 1.
    """
    integer("history", history)
    count = _count(process)
    return Importance(jnp.zeros((count, history)), jnp.zeros(count, jnp.int32))


@trees.register
@dataclasses.dataclass(frozen=True)
class Importance:
    """A sampler that prefers the indices with large recent losses, with weights that keep the loss unbiased.

    The probability of index i is proportional to `sqrt(E[L_i^2])`, where L_i are its recent losses. It is mixed with
    0.1% of the uniform distribution, so that every index is drawn now and then. Until every index has been seen
    `history` times, all have the same probability. Nichol & Dhariwal 2021 (iDDPM, arXiv 2102.09672), section 3.3 and
    equation 18.

        times = importance(process)
        losses, metrics = denoising(..., times=times)(params, key, batch)      # inside the step: times is a pytree
        times = times.update(metrics["t"], losses / metrics["time_weight"])

    Attributes:
      losses: the latest losses of each index, `[indices, history]`.
      seen: the number of losses recorded for each index, `[indices]`.
    """

    losses: Float[Array, "indices history"]
    seen: Int[Array, " indices"]

    def probabilities(self) -> Float[Array, " indices"]:
        """Returns the probability of each index."""
        size = jnp.sqrt(jnp.mean(self.losses**2, axis=1)) + 1e-30  # all alike when all losses are 0
        learned = 0.999 * size / jnp.sum(size) + 0.001 / len(size)
        return jnp.where(jnp.all(self.seen >= self.losses.shape[1]), learned, 1 / len(size))

    def __call__(self, key: Key[Array, ""], process: Process, batch: int) -> WeightedTimes:
        """Returns indices `[batch]` as floats, and the weight `1/(n p_i)` of each.

        Raises:
          TypeError: the process is not discrete.
          ValueError: the process has another number of indices than the sampler.
        """
        p, count = self.probabilities(), _count(process)
        if count != len(p):
            raise ValueError(message("indices of process", count, f"those of the sampler's process, {len(p)}"))
        index = jax.random.choice(key, len(p), (batch,), p=p)
        return index.astype(jnp.float32), 1 / (len(p) * p[index])

    @jitted
    def update(self, t: Float[Array, " batch"], losses: Float[Array, " batch"]) -> "Importance":
        """Returns the sampler with the unweighted losses of a batch at indices `t` recorded, instead of the oldest."""

        def record(state: "Importance", item: Any) -> tuple["Importance", None]:
            index, loss = item
            slot = state.seen[index] % state.losses.shape[1]
            return Importance(state.losses.at[index, slot].set(loss), state.seen.at[index].add(1)), None

        return jax.lax.scan(record, self, (t.astype(jnp.int32), losses))[0]


def learns(choice: TimesChoice) -> bool:
    """Whether the losses of a whole batch decide the next times of a sampler: those of `importance` do.

    The examples of a batch then depend on each other (`Objective.couples`).
    """
    return function_of(choice) is importance


def mutable(sampler: TimeSampler) -> dict[str, TimeSampler]:
    """The mutable values of an objective that draws times by `sampler`: the sampler itself if it learns."""
    return {"times": sampler} if isinstance(sampler, Importance) else {}


def current(sampler: TimeSampler, extra: Any) -> TimeSampler:
    """The sampler in the mutable values `extra` of an objective; `sampler` where there is none."""
    return cast(TimeSampler, (extra or {}).get("times", sampler))


def recorded(
    sampler: TimeSampler, t: Float[Array, " batch"], losses: Float[Array, " batch"]
) -> dict[str, TimeSampler] | None:
    """The mutable values after a batch with these times and unweighted losses; None if the sampler does not learn."""
    return {"times": sampler.update(t, losses)} if isinstance(sampler, Importance) else None
