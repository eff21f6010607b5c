"""Processes: how data turns into noise, `x_t = alpha(t) x_0 + sigma(t) eps`.

- `process`: what a process is, how to write one, and all that follows from its two functions
- `continuous`: `vp_linear`, `sub_vp`, `vp_cosine`, `vp_nichol`, `ve`, `edm`, `flow`, `trigonometric`
- `discrete`: `vp_discrete`, `vp_from_betas`: DDPM's chain
- `learned`: VDM's schedule, a monotone network

The makers check their arguments; the classes, which every transformation of JAX rebuilds, do not.
"""

from jaxdiff.processes.continuous import (
    EDM,
    VE,
    Flow,
    SubVP,
    Trigonometric,
    VPCosine,
    VPLinear,
    VPNichol,
    edm,
    flow,
    sub_vp,
    trigonometric,
    ve,
    vp_cosine,
    vp_linear,
    vp_nichol,
)
from jaxdiff.processes.discrete import VPDiscrete, vp_discrete, vp_from_betas
from jaxdiff.processes.learned import Learned, learned
from jaxdiff.processes.process import (
    Process,
    Times,
    corrupt,
    diffusion,
    drift,
    log_snr,
    on_host,
    prior_sample,
    same_process,
    time_of_log_snr,
)

__all__ = [
    "EDM",
    "VE",
    "Flow",
    "Learned",
    "Process",
    "SubVP",
    "Times",
    "Trigonometric",
    "VPCosine",
    "VPDiscrete",
    "VPLinear",
    "VPNichol",
    "corrupt",
    "diffusion",
    "drift",
    "edm",
    "flow",
    "learned",
    "log_snr",
    "on_host",
    "prior_sample",
    "same_process",
    "sub_vp",
    "time_of_log_snr",
    "trigonometric",
    "ve",
    "vp_cosine",
    "vp_discrete",
    "vp_from_betas",
    "vp_linear",
    "vp_nichol",
]
