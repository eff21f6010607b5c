"""Denoisers: functions `(x_t, t, s=None) -> Estimate(x0, eps)` of a process.

A denoiser is anything that can be called in this way and has an attribute `process`. The time s is that to which a flow
map goes (`models.FlowMap`). All other denoisers ignore s, and may lack it. Solvers, guidance and likelihoods work on
denoisers. A denoiser is also a pytree: parameters, conditions and guidance scales are leaves, functions are static. It
can therefore be an argument of functions under `jit`, `vmap`, `grad` and `shard_map`, and new parameters do not cause a
new compilation.

`from_network` makes a denoiser of any network, and `from_function` of a function `(x, t) -> x0`. For data of a known
distribution, the exact denoiser has a closed form. The tests compare the rest of the library with these closed forms.

- `denoiser`: the interface, also of denoisers with a memory, its evaluation, and the score
- `network`: `from_network`, and `from_network_with_variance`
- `function`: `from_function`
- `forward_mode`: the refusal of networks without forward-mode derivatives
- `tiled`: a denoiser of larger pictures than those which a denoiser knows
- `exact`: `gaussian`, `gaussian_mixture`, and `empirical` for a finite data set
"""

from jaxdiff.denoisers.denoiser import Denoiser, DenoiserWithMemory, check_denoiser, evaluate, is_consistent, score
from jaxdiff.denoisers.exact import (
    EmpiricalDenoiser,
    GaussianDenoiser,
    MixtureDenoiser,
    empirical,
    gaussian,
    gaussian_mixture,
)
from jaxdiff.denoisers.forward_mode import require_forward_mode
from jaxdiff.denoisers.function import FunctionDenoiser, from_function
from jaxdiff.denoisers.network import (
    NetworkDenoiser,
    NetworkVarianceDenoiser,
    VarianceDenoiser,
    from_network,
    from_network_with_variance,
)
from jaxdiff.denoisers.tiled import TiledDenoiser, tiled

__all__ = [
    "Denoiser",
    "DenoiserWithMemory",
    "EmpiricalDenoiser",
    "FunctionDenoiser",
    "GaussianDenoiser",
    "MixtureDenoiser",
    "NetworkDenoiser",
    "NetworkVarianceDenoiser",
    "TiledDenoiser",
    "VarianceDenoiser",
    "check_denoiser",
    "empirical",
    "evaluate",
    "from_function",
    "from_network",
    "from_network_with_variance",
    "gaussian",
    "gaussian_mixture",
    "is_consistent",
    "require_forward_mode",
    "score",
    "tiled",
]
