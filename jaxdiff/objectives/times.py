"""Time samplers: which noise levels a batch is trained on.

A time sampler is a function `(key, process, batch) -> (t [batch], weight [batch])`. The weight multiplies the loss; it
is 1 for all but `Importance`, since a published density of times is part of the recipe and nothing to correct for.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxdiff import trees
from jaxdiff.processes import Process, VPDiscrete, log_snr, time_of_log_snr

Draw = tuple[Float[Array, " batch"], Float[Array, " batch"]]
TimeSampler = Callable[[Key[Array, ""], Process, int], Draw]


# The ends of a process may be singular, so no sampler but those of indices comes nearer to them than this fraction of
# the interval. Much nearer, and float32 could not tell a time from 1, and the squares in the loss would underflow.
_EDGE = 2.0**-23


def _between(process: Process, u: Float[Array, " batch"]) -> Draw:
    u = jnp.clip(u, _EDGE, 1 - _EDGE)
    return process.t_min * (1 - u) + process.t_max * u, jnp.ones_like(u)


def _count(process: Process, name: str) -> int:
    if not isinstance(process, VPDiscrete):
        raise TypeError(f"times.{name} needs a discrete process, not {type(process).__name__}; `uniform` is for others")
    return len(process.log_snrs)


def uniform(key: Key[Array, ""], process: Process, batch: int) -> Draw:
    """Uniform in time, independently."""
    return _between(process, jax.random.uniform(key, (batch,)))


def stratified(key: Key[Array, ""], process: Process, batch: int) -> Draw:
    """Uniform in time, one in each of `batch` equal intervals: `t_i = (u + i/batch) mod 1`, less noise in the loss.

    Kingma et al. 2021 (VDM, arXiv 2107.00630), appendix I.1.
    """
    return _between(process, (jax.random.uniform(key) + jnp.arange(batch) / batch) % 1.0)


def logit_normal(mean: float = 0.0, std: float = 1.0) -> TimeSampler:
    """`t_min + (t_max - t_min) sigmoid(N(mean, std^2))`. Esser et al. 2024 (SD3, arXiv 2403.03206), section 3.1."""
    return lambda key, process, batch: _between(process, jax.nn.sigmoid(mean + std * jax.random.normal(key, (batch,))))


def log_normal(mean: float = -1.2, std: float = 1.2) -> TimeSampler:
    """`log(sigma/alpha) ~ N(mean, std^2)`, kept within the process. Karras et al. 2022 (arXiv 2206.00364), table 1.

    EDM2 has (-0.4, 1.0) for latents and (-0.8, 1.6) for 64 x 64 pixels.
    """

    def sampler(key: Key[Array, ""], process: Process, batch: int) -> Draw:
        half = mean + std * jax.random.normal(key, (batch,))
        ends, _ = _between(process, jnp.array([0.0, 1.0]))
        # Before the inversion too: it has no answer beyond the reach of the process.
        most, least = log_snr(process, ends)
        t = time_of_log_snr(process, jnp.clip(-2 * half, least, most))
        return jnp.clip(t, ends[0], ends[1]), jnp.ones(batch)

    return sampler


def indices(key: Key[Array, ""], process: Process, batch: int) -> Draw:
    """Uniform over the indices of a discrete process, as floats. Ho et al. 2020 (arXiv 2006.11239), algorithm 1."""
    t = jax.random.randint(key, (batch,), 0, _count(process, "indices"))
    return t.astype(jnp.float32), jnp.ones(batch)


@trees.register
@dataclasses.dataclass(frozen=True)
class Importance:
    """Indices drawn as often as their recent losses are large, with weights that keep the loss unbiased.

    `p_i ~ sqrt(E[L_i^2])`, uniform until every index has been seen `history` times; `p_i` is mixed with 0.1% uniform so
    that none dies out. Nichol & Dhariwal 2021 (iDDPM, arXiv 2102.09672), section 3.3 and equation 18.

        times = Importance.start(process)
        losses, metrics = denoising(..., times=times)(params, key, batch)      # inside the step: times is a pytree
        times = times.update(metrics["t"], losses / metrics["time_weight"])

    Attributes:
      losses: the last losses of each index, `[indices, history]`.
      seen: how many have been recorded for each, `[indices]`.
    """

    losses: Float[Array, "indices history"]
    seen: Int[Array, " indices"]

    @classmethod
    def start(cls, process: VPDiscrete, history: int = 10) -> "Importance":
        """An empty history of the losses of a discrete process, `history` for each of its indices."""
        if history < 1:
            raise ValueError(f"history = {history}; allowed are integers of at least 1")
        count = _count(process, "Importance")
        return cls(jnp.zeros((count, history)), jnp.zeros(count, jnp.int32))

    def probabilities(self) -> Float[Array, " indices"]:
        """How likely each index is to be drawn."""
        size = jnp.sqrt(jnp.mean(self.losses**2, axis=1)) + 1e-30  # all alike when all losses are 0
        learned = 0.999 * size / jnp.sum(size) + 0.001 / len(size)
        return jnp.where(jnp.all(self.seen >= self.losses.shape[1]), learned, 1 / len(size))

    def __call__(self, key: Key[Array, ""], process: Process, batch: int) -> Draw:
        """Indices `[batch]` as floats, and `1/(n p_i)` for each.

        Raises:
          TypeError: a process that is not discrete.
          ValueError: another number of indices than the history has.
        """
        p = self.probabilities()
        if (count := _count(process, "Importance")) != len(p):
            raise ValueError(f"times holds the losses of {len(p)} indices; process has {count}")
        index = jax.random.choice(key, len(p), (batch,), p=p)
        return index.astype(jnp.float32), 1 / (len(p) * p[index])

    def update(self, t: Float[Array, " batch"], losses: Float[Array, " batch"]) -> "Importance":
        """The history with a batch's unweighted losses at indices `t` added, the oldest dropped."""

        def record(state: "Importance", item: Any) -> tuple["Importance", None]:
            index, loss = item
            slot = state.seen[index] % state.losses.shape[1]
            return Importance(state.losses.at[index, slot].set(loss), state.seen.at[index].add(1)), None

        return jax.lax.scan(record, self, (t.astype(jnp.int32), losses))[0]
