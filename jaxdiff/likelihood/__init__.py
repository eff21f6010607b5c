"""Likelihoods: how probable data is to the model.

- `log_density`: `log_density`, exact by the probability-flow ODE; `encode` and `decode` along it
- `bits`: `bits_per_dimension` of data in levels, such as pixels
- `divergence`: exact, or estimated by probes
- `bounds_continuous`, `bounds_discrete`: the variational bounds of VDM, `continuous_time`, and of DDPM and iDDPM,
  `discrete_time`; what they share is in `bounds`
"""

from jaxdiff.likelihood.bits import bits_per_dimension, dequantize
from jaxdiff.likelihood.bounds import Bound
from jaxdiff.likelihood.bounds_continuous import continuous_time
from jaxdiff.likelihood.bounds_discrete import discrete_time
from jaxdiff.likelihood.log_density import LogDensity, decode, encode, log_density

__all__ = [
    "Bound",
    "LogDensity",
    "bits_per_dimension",
    "continuous_time",
    "decode",
    "dequantize",
    "discrete_time",
    "encode",
    "log_density",
]
