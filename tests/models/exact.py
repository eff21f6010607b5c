"""Networks in closed form, and models made of them without a run."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.data.fields import Field
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks.module import Network
from jaxdiff.parametrizations import Estimate

# The time itself is the time input, and v has no pole at either end of a process.
RAW_V = choose(parametrizations.v, time_input="raw")
FIELDS = {"x": Field("values", (3,)), "label": Field("label", (), "int32", 2, ("low", "high"))}


class Gaussian(Network):
    """The exact network, with `RAW_V`, of classes whose data are N(mean, std^2) in every coordinate.

    Attributes:
      law: the name of the process.
      means: the mean of each class, and of the null class; one mean without classes.
      std: the standard deviation.
      options: the options of the process.
    """

    takes: ClassVar[tuple[str, ...]] = ("class",)
    law: str = "vp_cosine"
    means: tuple[float, ...] = (0.0,)
    std: float = 1.0
    options: tuple[tuple[str, float], ...] = ()

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        process = getattr(processes, self.law)(**dict(self.options))
        label = jnp.zeros(len(x), jnp.int32) if not cond else cond["label"]
        shift = self.param("shift", nn.initializers.zeros, ())
        row = (-1,) + (1,) * (x.ndim - 1)
        mean = jnp.asarray(self.means)[label].reshape(row) + shift
        alpha, sigma = process.alpha(time).reshape(row), process.sigma(time).reshape(row)
        centred = (x - alpha * mean) / (alpha**2 * self.std**2 + sigma**2)
        estimate = Estimate(mean + alpha * self.std**2 * centred, sigma * centred)
        return parametrizations.output_of(process, parametrizations.v(), estimate, time)


class Flat(Network):
    """A dense network that gives a vector of pictures.

    Attributes:
      features: the length of the vector.
    """

    gives: ClassVar[str] = "vector"
    output_length: ClassVar[str] = "features"
    features: int | None = None

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        return nn.Dense(self.features)(nn.silu(nn.Dense(16)(x.reshape(len(x), -1))))


def gaussian(law, means=(0.0,), std=1.0, *, conditions=None, options=(), **settings):
    """A diffusion model of Gaussian data with the exact network."""
    process = choose(getattr(processes, law), **dict(options))
    network = Gaussian(law, means, std, options)
    return Diffusion(
        network=network, process=process, parametrization=RAW_V, field="x", conditions=conditions or {}, **settings
    )


def bind(model, fields=FIELDS, opened=None):
    """The entries that a model reads, the model bound to the fields, and its frozen models."""
    frozen = model.load(lambda path: opened)
    return model.entries(fields), model.bind(fields, frozen), frozen


def start(bound, seed=0):
    """The first parameters of a bound model, compiled at once."""
    return jax.jit(bound.init)(jax.random.key(seed))


def loaded(model, fields=FIELDS, sampling=None, opened=None):
    """A model as a run would give it, with its first parameters."""
    _, bound, frozen = bind(model, fields, opened)
    return bound.loaded(start(bound), {**frozen, "guidance": None}, {}, sampling or Sampling(steps=3))


def moved(params, seed=0, size=0.3):
    """Parameters far from the initial ones, where a layer that starts at zero hides those before it."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + size * rng.standard_normal(leaf.shape), leaf.dtype), params)
