"""Edit-friendly inversion: the noises with which a sampler would have made given data."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff import loops, trees
from jaxdiff.checks import message, require
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.jitted import jitted
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import same_process
from jaxdiff.sampling.scan import State, finish, scan_rows, start
from jaxdiff.solvers.tableau import Tableau


@trees.register
@dataclasses.dataclass(frozen=True)
class Noises:
    """The path of a sampler that ends at given data. `edit_friendly` makes it.

    Attributes:
      x: the first point, at `tableau.times[0]`: leaves `[batch, *event]`.
      steps: what each combination of the tableau has to add to lead to the next point, the noise times its standard
        deviation: leaves `[evaluations, batch, *event]`.
    """

    x: PyTree
    steps: PyTree


def edit_friendly(key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, tableau: Tableau) -> Noises:
    """Finds noises with which a sampler makes the data x.

        noises = jd.posterior.editing.edit_friendly(key, source, picture, tableau)
        edited = jd.posterior.editing.replay(target, noises, tableau)

    The points of the path are drawn independently of each other, `x_t = alpha_t x + sigma_t eps_t`. The noise of a step
    is what is missing to the next point, `x_s - mean(x_t, x0_hat)`. Unlike the noises of a sampler, the noises of
    successive steps are correlated and larger. They imprint the data more strongly, so that an edit by another denoiser
    keeps its structure. Huberman-Spiegelglas et al. 2023 (arXiv 2304.06140), equations 5 and 6.

    Noise of the solver itself is replaced. Deterministic solvers, and those with a history, therefore work as well.
    A last step to no noise has a residual too, so that the data are reproduced to rounding. Memory grows with the
    number of steps.

    Args:
      key: one key, or one key per example.
      denoiser: the denoiser of the data as it is.
      x: data, leaves `[batch, *event]`.
      tableau: a tableau with one point: from `ddpm`, `ddim`, `dpm_solver_pp`, ...

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: arguments that do not fit each other, or a tableau with more than one point.
    """
    check_one_point(denoiser, tableau)
    state = start(key, x, tableau)
    return _invert(denoiser, state, tableau)


def replay(denoiser: Denoiser, noises: Noises, tableau: Tableau) -> PyTree:
    """Samples with the noises of `edit_friendly`; with the denoiser that made them, this gives the data again.

    A tableau that begins later, for a weaker edit, is made first: with `from_strength`, for both functions.

    Args:
      denoiser: the denoiser of what the edit leads to.
      noises: the result of `edit_friendly`.
      tableau: the tableau that the noises were made for.

    Returns:
      The edited data.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: arguments that do not fit each other.
    """
    if not isinstance(noises, Noises):
        raise TypeError(message("noises", noises, "the results of edit_friendly"))
    check_one_point(denoiser, tableau)
    steps = {len(leaf) for leaf in jax.tree.leaves(noises.steps)}
    require(steps == {len(tableau)}, "number of steps of noises", steps, f"that of the tableau, {len(tableau)}")
    quiet = dataclasses.replace(tableau, noise=tableau.noise[:, :, :0])
    state = start(jax.random.key(0), noises.x, quiet)  # the key is never used
    state, _ = scan_rows(denoiser, state, quiet, _Added(noises.steps))
    last = jax.tree.map(lambda leaf: leaf[-1], noises.steps)
    return trees.lincomb((1.0, 1.0), (finish(state, quiet), last))


@trees.register
@dataclasses.dataclass(frozen=True)
class _Added:
    """The noise of each step, added to the points after the first one."""

    steps: PyTree

    def __call__(self, denoiser: Denoiser, state: State, x: PyTree, t: Any) -> PyTree:
        own = jax.tree.map(lambda leaf: leaf[jnp.maximum(state.index - 1, 0)], self.steps)
        return trees.cast_like(trees.lincomb((1.0, jnp.where(state.index > 0, 1.0, 0.0)), (x, own)), x)


def check_one_point(denoiser: Denoiser, tableau: Tableau) -> None:
    """Raises an error unless `denoiser` and `tableau` are of one process, and the tableau has one point."""
    check_denoiser(denoiser)
    if not isinstance(tableau, Tableau):
        raise TypeError(message("tableau", tableau, "the tableaux that solvers return"))
    require(tableau.points == 1, "tableau.points", tableau.points, "1, the tableaux of solvers such as ddpm")
    same = same_process(denoiser.process, tableau.process)
    require(same, "denoiser.process", denoiser.process, f"the process of the tableau, {tableau.process}")


@jitted
def _invert(denoiser: Denoiser, state: State, tableau: Tableau) -> Noises:
    x, process = state.points[0], denoiser.process
    times, rows, target = map(jnp.asarray, (tableau.times, tableau.state[1:, 0], tableau.history_target))

    def point(i: Any) -> PyTree:
        """The point of row i, and the data themselves after the last row."""
        t = times[jnp.minimum(i, len(times) - 1)]
        noise = trees.normal_like(trees.fold_in(state.key, i), x)
        noisy = trees.lincomb((process.alpha(t), process.sigma(t)), (x, noise))
        return jax.tree.map(lambda a, b: jnp.where(i < len(times), a.astype(b.dtype), b), noisy, x)

    def step(history: tuple[PyTree, ...], i: Any) -> tuple[tuple[PyTree, ...], PyTree]:
        here = point(i)
        estimate = denoiser(here, times[i])
        trees.check_alike("the denoiser's estimate", estimate, Estimate(x, x))
        newest = trees.cast_like(trees.lincomb(list(target[i]), estimate), x)
        history = (newest, *history[:-1]) if history else ()
        mean = trees.lincomb(list(rows[i]), (here, *history))
        return history, trees.cast_like(trees.lincomb((1.0, -1.0), (point(i + 1), mean)), x)

    _, steps = loops.scan(step, state.history, jnp.arange(len(times)))
    return Noises(point(0), steps)
