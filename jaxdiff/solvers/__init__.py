"""Solvers: functions `(process, times, **options) -> Tableau`, computed on the host in float64.

- `tableau`: what a solver is, and how it is made
- `ddim`: `ddpm`, `ddim`, `euler`: first order
- `heun`: second order, with EDM's churn
- `dpm_solver_pp`: multistep of order 1 to 3, ODE and SDE
- `exponential`: the family they are members of, of any order; the shared quadrature
- `coordinates`: where the ODE is `dz/dr = F`
"""

from jaxdiff.solvers.ddim import ddim, ddpm, euler
from jaxdiff.solvers.dpm_solver_pp import dpm_solver_pp
from jaxdiff.solvers.exponential import exponential
from jaxdiff.solvers.heun import heun
from jaxdiff.solvers.tableau import Tableau

__all__ = ["Tableau", "ddim", "ddpm", "dpm_solver_pp", "euler", "exponential", "heun"]
