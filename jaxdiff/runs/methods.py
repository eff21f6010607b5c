"""The methods of restoration by name: how a posterior is sampled, with the published settings."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Key

from jaxdiff import posterior, processes, solvers
from jaxdiff.checks import one_of, require
from jaxdiff.denoisers import Denoiser
from jaxdiff.posterior.operators.operator import Operator, Spectral
from jaxdiff.processes import Times
from jaxdiff.sampling import generate
from jaxdiff.solvers import Tableau


class Setting(NamedTuple):
    """Everything that a method needs.

    Attributes:
      key: a single key.
      denoiser: the denoiser of the prior.
      operator: what is seen of the data.
      observation: what was seen.
      std: the standard deviation of its noise.
      times: the time grid.
      tableau: the user's solver on this grid.
      shape: `(count, *event)`, the shape of the samples.
      progress: whether to show a bar on standard error.
    """

    key: Key[Array, ""]
    denoiser: Denoiser
    operator: Operator
    observation: Array
    std: Any
    times: Times
    tableau: Tableau
    shape: tuple[int, ...]
    progress: bool = False

    def followed(self, denoiser: Denoiser, tableau: Tableau | None = None) -> Array:
        """The samples of a denoiser of the posterior, by a tableau or by the user's."""
        solver = self.tableau if tableau is None else tableau
        samples: Array = generate(self.key, denoiser, self.shape, solver=solver, progress=self.progress)
        return samples

    def renoised(self, denoiser: Denoiser, eta: float) -> Array:
        """The samples of a denoiser by `solvers.renoise` on the user's grid."""
        return self.followed(denoiser, solvers.renoise(self.denoiser.process, self.times, eta=eta))

    def drawn(self, sampler: Callable[..., Array]) -> Array:
        """The samples of a sampler with a loop of its own."""
        noise_key, key = jax.random.split(self.key)
        noise = processes.prior_sample(noise_key, self.denoiser.process, self.shape, t=self.times[0])
        return sampler(key, self.denoiser, noise, self.operator, self.observation, self.std, self.times)


class Method(NamedTuple):
    """A method of posterior sampling.

    Attributes:
      samples: the samples, for a setting.
      needs: what the operator must have: "anything", "pseudo_inverse" or "svd".
    """

    samples: Callable[[Setting], Array]
    needs: str = "anything"


METHODS = {
    # Files have little noise, so that one iteration would leave too much of the observation unexplained.
    "mmps": Method(lambda s: s.followed(posterior.mmps(s.denoiser, s.operator, s.observation, s.std, iterations=3))),
    "pigdm": Method(
        lambda s: s.followed(posterior.pigdm(s.denoiser, s.operator, s.observation, s.std)), "pseudo_inverse"
    ),
    "tmpd": Method(lambda s: s.followed(posterior.tmpd(s.denoiser, s.operator, s.observation, s.std))),
    "dps": Method(
        lambda s: s.followed(
            posterior.dps(s.denoiser, s.operator, s.observation, times=s.times),
            solvers.ddpm(s.denoiser.process, s.times),
        )
    ),
    "diffpir": Method(
        lambda s: s.renoised(posterior.diffpir(s.denoiser, s.operator, s.observation, s.std), 0.5), "pseudo_inverse"
    ),
    "ddnm": Method(lambda s: s.renoised(posterior.ddnm(s.denoiser, s.operator, s.observation), 0.85), "pseudo_inverse"),
    "ddnm_plus": Method(lambda s: s.drawn(posterior.ddnm_plus), "svd"),
    "ddrm": Method(lambda s: s.drawn(posterior.ddrm), "svd"),
    "ddrm_jpeg": Method(
        lambda s: s.renoised(posterior.ddrm_jpeg(s.denoiser, s.operator, s.observation), 1.0), "pseudo_inverse"
    ),
}


def samples(method: str, setting: Setting) -> Float[Array, "count *event"]:
    """The samples of a method.

    Raises:
      ValueError: the method is unknown, or does not fit the operator.
    """
    one_of("method", method, METHODS)
    chosen = METHODS[method]
    has = {"anything"}
    has |= {"pseudo_inverse"} if hasattr(setting.operator, "pseudo_inverse") else set()
    has |= {"svd"} if isinstance(setting.operator, Spectral) else set()
    fitting = ", ".join(name for name, one in METHODS.items() if one.needs in has)
    require(chosen.needs in has, "method", method, f"methods that fit this task and this model: {fitting}")
    return chosen.samples(setting)
