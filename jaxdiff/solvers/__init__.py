"""Solvers: functions `(process, times, **options) -> Tableau`, computed on the host in float64.

A number of steps may take the place of the times: `heun(process, 18)`. The solver then takes the grid of
`jaxdiff.grids.own`.

The common parts:

- `tableau`: the definition of a tableau
- `integrals`: the equations of diffusion, solved exactly except for one integral
- `quadrature`: exact integrals of polynomials against a kernel
- `adams`: multistep methods; `stages`: methods with several evaluations per step
- `coordinates`: coordinates in which the ODE is `dz/dr = F`

The solvers:

- `ddim`: `ddim`, `ddpm`, `euler` and `euler_ancestral`, all of first order
- `runge_kutta`, `heun`, `dpm_2` (and its ancestral form): Runge-Kutta methods
- `dpm_solver`: `dpm_solver`, `dpm_solver_pp_singlestep` and `dpmpp_2s_ancestral`, exponential Runge-Kutta methods
- `exponential`: the multistep family of any order and prediction, with or without noise. Its named members are
  `dpm_solver_pp`, `deis` (with `lms` and `ipndm`), `pndm`, `uni_pc` and `sa_solver`.
- `reverse_sde`: `euler_maruyama` and `reverse_diffusion`
- `renoise`: noise is added to each estimate of the data anew

- `churn`, `restarts` and `temperature`: solvers that are made of a solver, their option `solver`

`chain` makes one tableau from two.
"""

from jaxdiff.solvers.chain import chain
from jaxdiff.solvers.churn import churn
from jaxdiff.solvers.ddim import ddim, ddpm, euler, euler_ancestral
from jaxdiff.solvers.deis import deis, ipndm, lms
from jaxdiff.solvers.dpm_2 import dpm_2, dpm_2_ancestral
from jaxdiff.solvers.dpm_solver import dpm_solver, dpm_solver_pp_singlestep, dpmpp_2s_ancestral
from jaxdiff.solvers.dpm_solver_pp import dpm_solver_pp
from jaxdiff.solvers.exponential import exponential
from jaxdiff.solvers.heun import heun
from jaxdiff.solvers.pndm import pndm
from jaxdiff.solvers.renoise import renoise
from jaxdiff.solvers.restarts import Restart, restarts
from jaxdiff.solvers.reverse_sde import euler_maruyama, reverse_diffusion
from jaxdiff.solvers.runge_kutta import HEUN, KUTTA3, MIDPOINT, RALSTON, RK4, Butcher, runge_kutta
from jaxdiff.solvers.sa_solver import sa_solver
from jaxdiff.solvers.tableau import SolverChoice, Tableau
from jaxdiff.solvers.temperature import temperature
from jaxdiff.solvers.uni_pc import uni_pc

__all__ = [
    "HEUN",
    "KUTTA3",
    "MIDPOINT",
    "RALSTON",
    "RK4",
    "Butcher",
    "Restart",
    "SolverChoice",
    "Tableau",
    "chain",
    "churn",
    "ddim",
    "ddpm",
    "deis",
    "dpm_2",
    "dpm_2_ancestral",
    "dpm_solver",
    "dpm_solver_pp",
    "dpm_solver_pp_singlestep",
    "dpmpp_2s_ancestral",
    "euler",
    "euler_ancestral",
    "euler_maruyama",
    "exponential",
    "heun",
    "ipndm",
    "lms",
    "pndm",
    "renoise",
    "restarts",
    "reverse_diffusion",
    "runge_kutta",
    "sa_solver",
    "temperature",
    "uni_pc",
]
