"""Predictor-corrector sampling: Langevin steps that mend each noise level's marginal between the steps of a solver."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser
from jaxdiff.sampling.scan import advance_corrected, finish, start
from jaxdiff.solvers.tableau import Tableau


class Corrector(Protocol):
    """A few steps that leave the marginal of time `t` as it is."""

    @property
    def steps(self) -> int:
        """How many times the denoiser is asked."""

    def __call__(self, key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, t: Float[Array, ""]) -> PyTree:
        """`x` after all steps; `key` is one key or one per example, for step j folded with j."""


def predictor_corrector(
    key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, tableau: Tableau, corrector: Corrector
) -> PyTree:
    """Turns noise into samples by a tableau, with a corrector wherever the tableau asks the denoiser.

    At each of its times `t_i` the corrector makes its steps from where the tableau's row has led; then the denoiser is
    asked there, and the next row leads on. Song et al. 2021 (arXiv 2011.13456), algorithms 1 to 3: any solver with one
    point in the place of their predictor. Nothing is corrected after the last row, as in the published code.

    `len(tableau) * (corrector.steps + 1)` evaluations, in one scan. The tableau's own noise is that of `sample` for the
    same keys.

    Args:
      key: one key, or one key per example, as for `sample`.
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `tableau.times[0]`: leaves `[batch, *event]`.
      tableau: of a solver with one point, such as `ddpm`, `euler`, `dpm_solver_pp`; not `heun`, whose stages do not lie
        on one path.
      corrector: `langevin(...)` or `annealed_langevin(...)`.

    Returns: the samples, as `x`.

    Raises:
      TypeError, ValueError: arguments that are not what they should be or do not fit each other; a tableau with more
        than one point.
    """
    state, rows = start(key, x, tableau), len(tableau)
    if not callable(corrector) or not hasattr(corrector, "steps"):
        raise TypeError(f"corrector = {corrector!r}; allowed is what langevin(...) or annealed_langevin(...) returns")
    if tableau.points != 1:
        raise ValueError(f"the tableau has {tableau.points} points; allowed are solvers with one, such as ddpm")

    def correct(row: Any, x: PyTree, t: Any) -> PyTree:
        # Keys beyond those of the rows, so that no noise is drawn twice.
        return corrector(trees.fold_in(state.key, rows + 1 + row), denoiser, x, t)

    return finish(advance_corrected(denoiser, state, tableau, correct)[0], tableau)


# ------------------------------------------------------------------------------------ correctors


@trees.register
@dataclasses.dataclass(frozen=True)
class Langevin:
    """See `langevin`."""

    snr: Any
    steps: int = dataclasses.field(metadata={"static": True})

    def __call__(self, key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, t: Float[Array, ""]) -> PyTree:
        def root(z: PyTree, eps: PyTree) -> Float[Array, " batch"]:
            # Where the score is 0 the published step is infinite; there is nothing to follow, and nothing is done.
            ratio = trees.mean_square(z) / jnp.where(trees.mean_square(eps) > 0, trees.mean_square(eps), jnp.inf)
            return self.snr * jnp.sqrt(ratio)

        return _walk(key, denoiser, x, t, self.steps, root)


@trees.register
@dataclasses.dataclass(frozen=True)
class AnnealedLangevin:
    """See `annealed_langevin`."""

    snr: Any
    steps: int = dataclasses.field(metadata={"static": True})

    def __call__(self, key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, t: Float[Array, ""]) -> PyTree:
        return _walk(key, denoiser, x, t, self.steps, lambda z, eps: self.snr)


def _walk(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    t: Float[Array, ""],
    steps: int,
    root: Callable[[PyTree, PyTree], Any],
) -> PyTree:
    """`x + step score + sqrt(2 step) z` with `step = 2 (root sigma)^2` and `score = -eps/sigma`: nothing is divided by
    sigma.
    """
    sigma = denoiser.process.sigma(t)

    def move(x: PyTree, j: Int[Array, ""]) -> tuple[PyTree, None]:
        z, eps = trees.normal_like(trees.fold_in(key, j), x), denoiser(x, t).eps
        r = root(z, eps)
        moved = trees.lincomb((1.0, -2 * r**2 * sigma, 2 * r * sigma), (x, eps, z))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, x), None

    return jax.lax.scan(move, x, jnp.arange(steps))[0]


def langevin(snr: float = 0.16, steps: int = 1) -> Langevin:
    """Langevin steps of a length set by norms:

        x <- x + e score + sqrt(2 e) z        e = 2 (snr |z|/|score|)^2

    Song et al. 2021 (arXiv 2011.13456), algorithms 4 and 5. Two things differ from the published code. The norms are
    each example's own and not means over the batch, so that a sample does not depend on the batch it is drawn in. And
    their factor for variance-preserving processes, `1 - beta_i` of a chain of 1,000 steps, between 0.98 and 1, is 1 as
    it is for the others: no chain is needed, and `sub_vp` works too.

    The step's length varies with `x` and `z`, so that the marginal is kept to about one part in the number of
    coordinates only: right for images, wrong for a few coordinates, where `annealed_langevin` is not.

    Args:
      snr: the length of the move along the score in terms of the noise's; a number, which may be traced. 0.16 is for
        CIFAR-10 and VE.
      steps: per noise level; static.

    Raises:
      ValueError: a negative `snr`, or `steps` that is not an integer of at least 0.
    """
    _check(snr, steps)
    return Langevin(snr, steps)


def annealed_langevin(snr: float = 0.16, steps: int = 1) -> AnnealedLangevin:
    """Langevin steps of a length set by the noise level:

        x <- x + e score + sqrt(2 e) z        e = 2 (snr sigma)^2

    Song & Ermon 2019 (arXiv 1907.05600), algorithm 1, in the form that Song et al. 2021 (arXiv 2011.13456), appendix G,
    compare with; their factor for variance-preserving processes is 1 here (see `langevin`). The marginal is kept up to
    the discretisation: a Gaussian's variance v becomes `v/(1 - snr^2 sigma^2/v)`.

    Args:
      snr: the length of a step in terms of `sigma`; a number, which may be traced.
      steps: per noise level; static.

    Raises:
      ValueError: a negative `snr`, or `steps` that is not an integer of at least 0.
    """
    _check(snr, steps)
    return AnnealedLangevin(snr, steps)


def _check(snr: Any, steps: Any) -> None:
    if not isinstance(snr, jax.core.Tracer) and not np.all((np.asarray(snr) >= 0) & np.isfinite(snr)):
        raise ValueError(f"snr = {snr!r}; allowed are finite numbers of at least 0")
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
        raise ValueError(f"steps = {steps!r}; allowed are integers of at least 0")
