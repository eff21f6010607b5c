"""jaxdiff: diffusion models as pure functions and plain pytrees.

    process  = jd.processes.vp_linear()
    denoiser = jd.denoisers.from_network(process, jd.parametrizations.v(), unet.apply, params)
    images   = jd.generate(key, denoiser, (16, 32, 32, 3))

The same in its parts, which one changes one by one:

    tableau  = jd.solvers.dpm_solver_pp(process, jd.grids.uniform_log_snr(process, 20), order=2)
    noise    = jd.prior_sample(key, process, (16, 32, 32, 3))
    images   = jax.jit(jd.sample)(key, denoiser, noise, tableau)

Training, on arrays of one's own:

    model    = jd.fit(jd.networks.UNet(channels=32), {"image": images, "label": labels}, steps=2000)

`import jaxdiff` imports JAX, NumPy and SciPy, and nothing heavier. Training, data, networks and all else that needs
Flax, Optax, Orbax or Grain are imported on first use: `jd.training.make_step`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxdiff import (
    denoisers,
    grids,
    guidance,
    likelihood,
    objectives,
    parametrizations,
    posterior,
    processes,
    sampling,
    solvers,
)
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import corrupt, log_snr, prior_sample
from jaxdiff.sampling import generate, sample
from jaxdiff.solvers import Tableau
from jaxdiff.version import __version__ as __version__

if TYPE_CHECKING:
    from jaxdiff import (
        augmentations,
        codecs,
        conditions,
        data,
        evaluation,
        interop,
        media,
        models,
        networks,
        presets,
        training,
    )
    from jaxdiff.interop import load_pretrained
    from jaxdiff.runs.checkpoints import Checkpoints
    from jaxdiff.runs.fit import fit
    from jaxdiff.runs.load import load

__all__ = [
    "Checkpoints",
    "Estimate",
    "Tableau",
    "augmentations",
    "codecs",
    "conditions",
    "corrupt",
    "data",
    "denoisers",
    "evaluation",
    "fit",
    "generate",
    "grids",
    "guidance",
    "interop",
    "likelihood",
    "load",
    "load_pretrained",
    "log_snr",
    "media",
    "models",
    "networks",
    "objectives",
    "parametrizations",
    "posterior",
    "presets",
    "prior_sample",
    "processes",
    "sample",
    "sampling",
    "solvers",
    "training",
]

# Functions and classes that are imported on first use, by the file that holds them. All other names of `__all__` that
# are not imported above are folders.
_HOMES = {
    "Checkpoints": "jaxdiff.runs.checkpoints",
    "fit": "jaxdiff.runs.fit",
    "load": "jaxdiff.runs.load",
    "load_pretrained": "jaxdiff.interop",
}


def __getattr__(name: str) -> Any:
    from jaxdiff.extras import needed

    with needed(f"jaxdiff.{name}"):
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        if name in __all__:
            return importlib.import_module(f"jaxdiff.{name}")
    raise AttributeError(f"module 'jaxdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
