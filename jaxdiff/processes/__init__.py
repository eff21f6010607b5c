"""Processes: how data turns into noise, `x_t = alpha(t) x_0 + sigma(t) eps`.

- `process`: the class `Process`, how to write a process, and the functions that work for every process
- `continuous`: `vp_linear`, `sub_vp`, `vp_cosine`, `vp_nichol`, `ve`, `edm`, `flow`, `trigonometric`
- `discrete`: DDPM's chain, `vp_discrete` and `vp_from_betas`, also without signal at its end
- `learned`: VDM's schedule, a monotone network

Functions such as `vp_linear` check their arguments. The classes do not, because every transformation of JAX makes their
instances anew.
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
from jaxdiff.processes.discrete import VPDiscrete, enforce_zero_terminal_snr, vp_discrete, vp_from_betas
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
    "enforce_zero_terminal_snr",
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
