"""jaxdiff: diffusion models as pure functions and plain pytrees.

    process  = jd.processes.vp_linear()
    denoiser = jd.denoisers.from_network(process, jd.parametrizations.v(), unet.apply, params)
    tableau  = jd.solvers.dpm_solver_pp(process, jd.grids.uniform_log_snr(process, 20), order=2)
    noise    = jd.prior_sample(key, process, (16, 32, 32, 3))
    images   = jax.jit(jd.sample)(key, denoiser, noise, tableau)

`import jaxdiff` imports JAX and NumPy, and nothing heavier. `jaxdiff.networks`, `jaxdiff.training`,
`jaxdiff.data` and `jaxdiff.evaluation` must be imported by name.
"""

from typing import TYPE_CHECKING, Any

from jaxdiff import denoisers, grids, guidance, likelihood, objectives, parametrizations, processes, sampling, solvers
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import corrupt, log_snr, prior_sample
from jaxdiff.sampling import sample
from jaxdiff.solvers import Tableau
from jaxdiff.version import __version__ as __version__

if TYPE_CHECKING:
    from jaxdiff.runs.load import load

__all__ = [
    "Estimate",
    "Tableau",
    "corrupt",
    "denoisers",
    "grids",
    "guidance",
    "likelihood",
    "load",
    "log_snr",
    "objectives",
    "parametrizations",
    "prior_sample",
    "processes",
    "sample",
    "sampling",
    "solvers",
]


def __getattr__(name: str) -> Any:
    if name == "load":  # imported on first use, because it imports Flax and Orbax
        from jaxdiff.extras import needed

        with needed("jaxdiff.load"):
            from jaxdiff.runs.load import load
        return load
    raise AttributeError(f"module 'jaxdiff' has no attribute {name!r}")
