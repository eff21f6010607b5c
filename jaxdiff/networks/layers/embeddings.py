"""Features of the time input: sinusoids of geometrically spaced frequencies, or of random frequencies.

Embeddings are components: frozen dataclasses without parameters, called as `embedding(time, features)`. A network that
holds one is therefore hashable, and two networks with equal settings compare equal.
"""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdiff.checks import integer, positive, require
from jaxdiff.components import Component

_MOST = 1_000_000  # features: their frequencies are computed on the host when a network is made, even if in shape only


class TimeEmbedding(Component):
    """The base of embeddings of the time input."""

    home: ClassVar[str] = "jaxdiff.networks"

    def __call__(self, time: Float[Array, " batch"], features: int) -> Float[Array, "batch width"]:
        """Embeds `time` `[batch]`. The width of the result is `features`, or a multiple that the embedding chooses."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Sinusoidal(TimeEmbedding):
    """Sinusoids of geometrically spaced frequencies (Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B).

    With `half = features / 2` and `i = 0 .. half - 1`,

        f_i = max_period ** (-i / (half - 1))    with endpoint: the last period is exactly 2 pi max_period
        f_i = max_period ** (-i / half)          without endpoint
        out = [sin(time f), cos(time f)]         or [cos, sin] with cos_first

    The defaults are those of DDPM and score_sde. ADM (Dhariwal & Nichol 2021) uses `cos_first=True, endpoint=False`.
    The time input may have any range: 0..999 in DDPM, ln(sigma)/4 in EDM (Karras et al. 2022).

    Attributes:
      cos_first: whether the cosines precede the sines.
      endpoint: whether the lowest frequency is `1 / max_period`.
      max_period: the longest period, divided by 2 pi.
    """

    cos_first: bool = False
    endpoint: bool = True
    max_period: float = 10_000.0

    def __post_init__(self) -> None:
        positive("max_period", self.max_period)

    def __call__(self, time: Float[Array, " batch"], features: int) -> Float[Array, "batch features"]:
        """Embeds `time` `[batch]` as `[batch, features]`, in float32, or in float64 if `time` is float64.

        Raises:
          ValueError: `features` is odd, too small or too large.
        """
        half, least = features // 2, 4 if self.endpoint else 2
        good = features % 2 == 0 and least <= features <= _MOST
        require(good, "features", features, f"even integers from {least} to {_MOST}")
        frequencies = np.exp(-math.log(self.max_period) * np.arange(half) / (half - self.endpoint))
        return _waves(time, frequencies, self.cos_first)


@dataclasses.dataclass(frozen=True)
class Fourier(TimeEmbedding):
    """Random Fourier features (Tancik et al. 2020; Song et al. 2021, appendix C, and its code score_sde).

        f_i ~ N(0, scale^2),  i = 0 .. features - 1
        out = [sin(2 pi time f), cos(2 pi time f)]

    score_sde uses a scale of 16 and the time input ln(sigma). The frequencies come from a NumPy generator whose stream
    never changes between versions. They are not parameters, because weight decay would shrink them.

    Attributes:
      scale: standard deviation of the frequencies, in cycles per unit of `time`.
      seed: seed of the generator.
    """

    scale: float = 16.0
    seed: int = 0

    def __call__(self, time: Float[Array, " batch"], features: int) -> Float[Array, "batch two_features"]:
        """Embeds `time` `[batch]` as `[batch, 2 * features]`, in float32, or in float64 if `time` is float64.

        Raises:
          ValueError: `features` is not positive, or too large.
        """
        integer("features", features, most=_MOST)
        normal = np.random.RandomState(self.seed).standard_normal(features)
        return _waves(time, 2 * np.pi * self.scale * normal, cos_first=False)


@dataclasses.dataclass(frozen=True)
class MPFourier(TimeEmbedding):
    """Random Fourier features of magnitude 1 (Karras et al. 2024, arXiv 2312.02696, equation 75).

        f_i ~ N(0, bandwidth^2),  p_i ~ U(0, 1),  i = 0 .. features - 1
        out = sqrt(2) cos(2 pi (time f + p))

    Frequencies and phases come from a NumPy generator, as those of `Fourier`. EDM2 has the time input ln(sigma)/4.

    Attributes:
      bandwidth: standard deviation of the frequencies, in cycles per unit of `time`.
      seed: seed of the generator.
    """

    bandwidth: float = 1.0
    seed: int = 0

    def __call__(self, time: Float[Array, " batch"], features: int) -> Float[Array, "batch features"]:
        """Embeds `time` `[batch]` as `[batch, features]`, in float32, or in float64 if `time` is float64.

        Raises:
          ValueError: `features` is not positive, or too large.
        """
        integer("features", features, most=_MOST)
        generator = np.random.RandomState(self.seed)
        frequencies, phases = generator.standard_normal(features), generator.random_sample(features)
        time = _wide(time)
        turns = time[:, None] * jnp.asarray(self.bandwidth * frequencies, time.dtype) + jnp.asarray(phases, time.dtype)
        return math.sqrt(2) * jnp.cos(2 * math.pi * turns)


def _wide(time: Array) -> Array:
    # bfloat16 cannot tell time 999 from 1000, so the phase is in float32 or wider.
    time = jnp.asarray(time)
    return time.astype(jnp.promote_types(time.dtype, jnp.float32))


def _waves(time: Array, frequencies: np.ndarray, cos_first: bool) -> Array:
    time = _wide(time)
    phase = time[:, None] * jnp.asarray(frequencies, time.dtype)[None]
    waves = (jnp.cos(phase), jnp.sin(phase)) if cos_first else (jnp.sin(phase), jnp.cos(phase))
    return jnp.concatenate(waves, axis=-1)
