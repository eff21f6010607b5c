"""Features of the time time: sinusoids of geometrically spaced frequencies, or of random ones.

Both are frozen dataclasses called as `embedding(time, features)`, so that a network that holds one stays hashable, and
two networks with equal settings compare equal. Neither has parameters.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Sinusoidal:
    """Sinusoids of geometrically spaced frequencies (Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B).

    With `half = features / 2` and `i = 0 .. half - 1`,

        f_i = max_period ** (-i / (half - 1))   if endpoint: the last period is exactly 2 pi max_period
        f_i = max_period ** (-i / half)         otherwise
        out = [sin(time f), cos(time f)]      or [cos, sin] if cos_first

    The defaults are those of DDPM and score_sde; ADM (Dhariwal & Nichol 2021) has `cos_first=True, endpoint=False`. A
    time may have any range: DDPM feeds 0..999, EDM (Karras et al. 2022) ln(sigma)/4.
    """

    cos_first: bool = False
    endpoint: bool = True
    max_period: float = 10_000.0

    def __call__(self, time: Float[Array, " batch"], features: int) -> Float[Array, "batch features"]:
        """Embeds `time` `[batch]` as `[batch, features]`, in float32, or float64 where the time is.

        Raises:
          ValueError: if `features` is odd, or too small for its frequencies to be spaced.
        """
        half = features // 2
        if features % 2 or half - self.endpoint < 1:
            raise ValueError(f"features={features}: must be even and at least {4 if self.endpoint else 2}")
        frequencies = np.exp(-math.log(self.max_period) * np.arange(half) / (half - self.endpoint))
        return _waves(time, frequencies, self.cos_first)


@dataclasses.dataclass(frozen=True)
class Fourier:
    """Random Fourier features (Tancik et al. 2020; Song et al. 2021, appendix C, and its code score_sde).

        f_i ~ N(0, scale^2),  i = 0 .. features - 1
        out = [sin(2 pi time f), cos(2 pi time f)]

    score_sde feeds it ln(sigma), with scale 16. The frequencies are drawn from a fixed seed, by a generator whose
    stream NumPy promises never to change. They are not parameters, which weight decay would shrink whatever their
    gradient.
    """

    scale: float = 16.0
    seed: int = 0

    def __call__(self, time: Float[Array, " batch"], features: int) -> Float[Array, "batch two_features"]:
        """Embeds `time` `[batch]` as `[batch, 2 * features]`, in float32, or float64 where the time is.

        Raises:
          ValueError: if `features` is not positive.
        """
        if features < 1:
            raise ValueError(f"features={features}: must be positive")
        normal = np.random.RandomState(self.seed).standard_normal(features)
        return _waves(time, 2 * np.pi * self.scale * normal, cos_first=False)


def _waves(time: Array, frequencies: np.ndarray, cos_first: bool) -> Array:
    # bfloat16 cannot tell time 999 from 1000, so the phase is never computed in less than float32.
    time = jnp.asarray(time)
    time = time.astype(jnp.promote_types(time.dtype, jnp.float32))
    phase = time[:, None] * jnp.asarray(frequencies, time.dtype)
    waves = (jnp.cos(phase), jnp.sin(phase)) if cos_first else (jnp.sin(phase), jnp.cos(phase))
    return jnp.concatenate(waves, axis=-1)
