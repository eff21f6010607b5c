"""Time grids: `grid(process, steps, ...) -> times`, `[steps + 1]`, float64 NumPy, decreasing from noise to data.

A sampler evaluates the denoiser at all times but the last. It starts from noise at the first time: where this is not
`t_max`, draw the noise with `prior_sample(..., t=times[0])`. Some grids end at `t_min`. Others end at `t_clean`, where
no noise is left, and the last step then returns the denoiser's estimate of the data.

    grid              equal steps in                            ends at  for
    uniform_time      t                                         t_min    every process
    uniform_log_snr   log(alpha^2/sigma^2)                      t_min    every process; DPM-Solver++, UniPC
    polynomial        t^(1/rho)                                 t_min    time from 0 or above; DEIS
    beta              the quantile of t in a Beta distribution  t_min    every process; made for `vp_discrete`
    shifted           u, t = s u/(1 + (s - 1) u)                t_min    time in [0, 1]; made for `flow`
    gits              nothing: the least error of a denoiser    t_min    every process and a denoiser; few steps
    karras            (sigma/alpha)^(1/rho)                     t_clean  every process; Euler, Heun
    exponential       log(sigma/alpha), its power for rho != 1  t_clean  every process
    align_your_steps  nothing: published noise levels           t_clean  SD 1.5, SDXL, Stable Video Diffusion
    discrete          the index, rounded                        t_clean  `vp_discrete`, at the indices it was trained on
    from_sigmas       nothing: given noise levels               given    every process

Some processes have no signal left at `t_max`, or no noise left at `t_min`: `flow`, `vp_cosine`, `vp_nichol` and
`trigonometric`. There `uniform_log_snr`, `karras` and `exponential` begin at `sigma/alpha = 80` and come down to
`sigma/alpha = 0.002`, the noise levels of EDM, unless they are given other ends.

`own` is the grid that a solver takes for a number of steps.
"""

from jaxdiff.grids.discrete import discrete
from jaxdiff.grids.gits import gits
from jaxdiff.grids.noise_levels import exponential, from_sigmas, karras
from jaxdiff.grids.published import align_your_steps
from jaxdiff.grids.time_changes import beta, polynomial, shifted
from jaxdiff.grids.uniform import uniform_log_snr, uniform_time

__all__ = [
    "align_your_steps",
    "beta",
    "discrete",
    "exponential",
    "from_sigmas",
    "gits",
    "karras",
    "polynomial",
    "shifted",
    "uniform_log_snr",
    "uniform_time",
]
