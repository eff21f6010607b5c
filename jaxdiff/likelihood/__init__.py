"""Likelihoods: how probable data are to a model.

- `log_density`: the exact `log_density` by the probability-flow ODE; `encode` and `decode` along the same ODE
- `bits`: `bits_per_dimension` of data in levels, such as pixels
- `divergence`: the divergence of a vector field, exact or estimated
- `bounds_continuous`: `continuous_time`, the variational bound of VDM
- `bounds_discrete`: `discrete_time`, the variational bound of DDPM and iDDPM
- `bounds`: the terms that both bounds have
"""

from jaxdiff.likelihood.bits import bits_per_dimension, dequantize
from jaxdiff.likelihood.bounds import VariationalBound
from jaxdiff.likelihood.bounds_continuous import continuous_time
from jaxdiff.likelihood.bounds_discrete import discrete_time
from jaxdiff.likelihood.log_density import LogDensity, decode, encode, log_density

__all__ = [
    "LogDensity",
    "VariationalBound",
    "bits_per_dimension",
    "continuous_time",
    "decode",
    "dequantize",
    "discrete_time",
    "encode",
    "log_density",
]
