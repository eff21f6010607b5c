"""FlowEdit: an edit along the difference of two velocities, without inversion."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff import checks, loops, trees
from jaxdiff.arithmetic import namespace
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.jitted import jitted
from jaxdiff.probability_flow import velocity
from jaxdiff.processes import same_process
from jaxdiff.solvers.tableau import Grid, check_arguments


def flow_edit(
    key: Key[Array, "*batch"], source: Denoiser, target: Denoiser, x: PyTree, times: Grid, *, draws: int = 1
) -> PyTree:
    """Edits data by the difference of two denoisers, that of what it is and that of what it shall be.

        times = jd.posterior.editing.from_strength(times, 0.8)
        edited = jd.posterior.editing.flow_edit(key, cat, dog, pictures, times)

    With `r = sigma/(alpha + sigma)`, the noise level of a flow, a sample moves by `dz/dr = eps - x0` (see
    `jaxdiff.probability_flow`). FlowEdit moves the data itself, by the mean over noises of the difference:

        source   z_r = (1 - r) x + r eps
        target   z'_r = edited + z_r - x
        d edited/dr = E[velocity_target(z'_r) - velocity_source(z_r)]

    from the first level of the grid to the last one, by Euler steps, with fresh noise at each step. Kulikov et al. 2024
    (arXiv 2412.08629), equations 12 to 14 and algorithm 1, there for flows, here for any process. Where both denoisers
    agree, nothing moves. Between Gaussians of one covariance the data moves by the difference of their means, whatever
    the noises are.

    Each step evaluates both denoisers `draws` times. All is one scan; the state is float32 or wider.

    Args:
      key: one key, or one key per example.
      source: the denoiser of the data as it is, such as that of its own label or text.
      target: the denoiser of what the edit leads to, of the same process.
      x: the data to edit: leaves `[batch, *event]`.
      times: a grid `[steps + 1]`, decreasing, from the level of the edit down (`from_strength`); or a number of steps.
      draws: the number of noises to average over at each step. Static.

    Returns:
      The edited data, with the shapes of `x`.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: the denoisers have different processes, or arguments that do not fit each other.
    """
    check_denoiser(source)
    check_denoiser(target)
    same = same_process(target.process, source.process)
    checks.require(same, "target.process", target.process, f"the process of source, {source.process}")
    checks.integer("draws", draws)
    key = trees.as_key(key)
    trees.example_keys(key, trees.batch_size(x))
    trees.check_floating("x", x)
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)
    process, times = check_arguments(source.process, times)
    xp, sigma = namespace(times), process.sigma(times)
    r = sigma / (process.alpha(times) + sigma)
    return _run(key, source, target, x, (times[:-1], r[:-1], xp.diff(r)), draws=int(draws))


@jitted
def _run(
    key: Key[Array, "*batch"], source: Denoiser, target: Denoiser, x: PyTree, table: tuple[Any, ...], *, draws: int
) -> PyTree:
    times, levels, lengths = map(jnp.asarray, table)

    def step(edited: PyTree, i: Any) -> tuple[PyTree, None]:
        t, r = times[i], levels[i]

        def draw(total: PyTree, j: Any) -> tuple[PyTree, None]:
            noise = trees.normal_like(trees.fold_in(key, i * draws + j), x)
            before = trees.cast_like(trees.lincomb((1 - r, r), (x, noise)), x)
            after = trees.cast_like(trees.lincomb((1.0, -1.0, 1.0), (edited, x, before)), x)
            moves = velocity(target, after, t), velocity(source, before, t)
            return trees.cast_like(trees.lincomb((1.0, 1.0, -1.0), (total, *moves)), total), None

        total, _ = loops.scan(draw, jax.tree.map(jnp.zeros_like, x), jnp.arange(draws))
        return trees.cast_like(trees.lincomb((1.0, lengths[i] / draws), (edited, total)), edited), None

    return loops.scan(step, x, jnp.arange(len(times)))[0]
