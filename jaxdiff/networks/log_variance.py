"""A learned weight of the loss by noise level: `u(time)`, with which the loss becomes `loss/e^u + u`."""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxdiff.networks.embeddings import Fourier


class LogVariance(nn.Module):
    """A linear function of random Fourier features of the time time (`Fourier`), zero at first.

        loss/e^u + u is least at u = log(expected loss)

    where every noise level counts for as much: Karras et al. 2024 (EDM2, arXiv 2312.02696). It is trained beside the
    network, not a part of it, and of no use afterwards.

    Attributes:
      features: random frequencies, of a sine and a cosine each; EDM2 has 128 features in all.
      scale: standard deviation of the frequencies, in cycles per unit of the time: 1 in EDM2, whose time
        log(sigma)/4 spans 2.65 units. A time that spans S units, such as 1000 t, wants `2.65 / S`.
    """

    features: int = 64
    scale: float = 1.0

    @nn.compact
    def __call__(self, time: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """u of each `time` `[batch]`, in float32, or float64 where the time is.

        Raises:
          ValueError: if `features` is not positive.
        """
        features = Fourier(self.scale)(time, self.features)
        return nn.Dense(1, dtype=features.dtype, kernel_init=nn.initializers.zeros, name="linear")(features)[:, 0]
