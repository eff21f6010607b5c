"""A learned weight of the loss at each noise level: `u(time)` turns the loss into `loss/e^u + u`."""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxdiff.networks.embeddings import Fourier


class LogVariance(nn.Module):
    """A linear function `u` of random Fourier features of the time input, zero at first.

    The loss `loss/e^u + u` is least at `u = log(expected loss)`, where all noise levels contribute equally: Karras et
    al. 2024 (EDM2, arXiv 2312.02696). The function is trained beside the network and has no use after training.

    Attributes:
      features: number of random frequencies. Each gives a sine and a cosine; EDM2 has 64 of each.
      scale: standard deviation of the frequencies, in cycles per unit of `time`. EDM2 uses 1 for log(sigma)/4, which
        spans 2.65 units. A time input that spans S units, such as 1000 t, needs `2.65 / S`.
    """

    features: int = 64
    scale: float = 1.0

    @nn.compact
    def __call__(self, time: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Returns u `[batch]` of `time` `[batch]`, in float32, or in float64 if `time` is float64.

        Raises:
          ValueError: `features` is not positive.
        """
        features = Fourier(self.scale)(time, self.features)
        return nn.Dense(1, dtype=features.dtype, kernel_init=nn.initializers.zeros, name="linear")(features)[:, 0]
