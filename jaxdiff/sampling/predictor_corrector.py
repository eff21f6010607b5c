"""Predictor-corrector sampling: Langevin steps at each noise level, between the steps of a solver."""

import dataclasses
from typing import Any

from jaxtyping import Array, Key, PyTree

from jaxdiff import trees
from jaxdiff.checks import message
from jaxdiff.denoisers import Denoiser
from jaxdiff.sampling.correctors import Corrector
from jaxdiff.sampling.scan import State, finish, scan_rows, start
from jaxdiff.solvers.tableau import Tableau


def predictor_corrector(
    key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, tableau: Tableau, corrector: Corrector
) -> PyTree:
    """Turns noise into samples by a tableau, with a corrector before each evaluation of the tableau.

    At each time `t_i` of the tableau, its row gives a point, and the corrector takes its steps from this point. Then
    the tableau evaluates the denoiser at the corrected point. Song et al. 2021 (arXiv 2011.13456), algorithms 1 to 3.
    Any solver with one point may be the predictor. As in the published code, nothing is corrected after the last row.

    The number of evaluations is `len(tableau) * (corrector.steps + 1)`, all in one scan. The tableau's own noise is
    that of `sample` for the same keys.

    Args:
      key: one key, or one key per example, as for `sample`.
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `tableau.times[0]`: leaves `[batch, *event]`.
      tableau: a tableau with one point, from solvers such as `ddpm`, `euler` or `dpm_solver_pp`. `heun` is refused: its
        stages do not lie on one path.
      corrector: `langevin(...)` or `annealed_langevin(...)`.

    Returns:
      The samples, with the shapes of `x`.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: arguments that do not fit each other, or a tableau with more than one point.
    """
    state = start(key, x, tableau)
    if not callable(corrector) or not hasattr(corrector, "steps"):
        raise TypeError(message("corrector", corrector, "those that langevin(...) and annealed_langevin(...) return"))
    if tableau.points != 1:
        raise ValueError(message("tableau.points", tableau.points, "1, the tableaux of solvers such as ddpm"))

    return finish(scan_rows(denoiser, state, tableau, _Correction(corrector, len(tableau)))[0], tableau)


@trees.register
@dataclasses.dataclass(frozen=True)
class _Correction:
    """The corrector as a change of the points of a tableau with so many rows."""

    corrector: Corrector
    rows: int = dataclasses.field(metadata={"static": True})

    def __call__(self, denoiser: Denoiser, state: State, x: PyTree, t: Any) -> PyTree:
        # The rows draw with the keys 0 to `rows`. The corrector takes the keys after them: no noise is drawn twice.
        return self.corrector(trees.fold_in(state.key, self.rows + 1 + state.index), denoiser, x, t)
