"""RePaint: inpainting by pasting the known region, with jumps back to more noise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key, PyTree

from jaxdiff import checks, loops, trees
from jaxdiff.arithmetic import namespace, root
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.jitted import jitted
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.conditioned import noise_level
from jaxdiff.solvers.ddim import ddim
from jaxdiff.solvers.tableau import Grid, check_arguments


def jump_schedule(
    steps: int, *, jump_length: int = 10, resamplings: int = 10
) -> tuple[Int[np.ndarray, " moves"], Bool[np.ndarray, " moves"]]:
    """The moves of RePaint on a grid: where each move begins, and whether it goes down, to less noise.

    Time runs down the grid. At every `jump_length`-th level from the end, except at the last ones before the noise, it
    jumps up by `jump_length` levels and comes down again, `resamplings - 1` times. Lugmayr et al. 2022 (arXiv
    2201.09865), appendix, algorithm of the time schedule. With 250 steps, jumps of 10 and 10 resamplings there are
    2,410 moves down, each an evaluation, and 2,160 up.

    Args:
      steps: the number of steps of the grid.
      jump_length: the number of levels of a jump.
      resamplings: how often each stretch is walked down; 1 for no jumps.

    Returns:
      `(places, down)`: move k leads from `times[places[k]]` to the next time if `down[k]`, to the one before if not.

    Raises:
      ValueError: an argument is not an integer of at least 1.
    """
    for name, value in (("steps", steps), ("jump_length", jump_length), ("resamplings", resamplings)):
        checks.integer(name, value)
    left = {steps - 1 - j: resamplings - 1 for j in range(0, steps - jump_length, jump_length)}
    places: list[int] = []
    down: list[bool] = []
    place = 0
    while place < steps:
        if left.get(place, 0):
            left[place] -= 1
            places += range(place, place - jump_length, -1)
            down += [False] * jump_length
            place -= jump_length
        places.append(place)
        down.append(True)
        place += 1
    return np.array(places), np.array(down)


def repaint(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    times: Grid,
    observation: PyTree,
    mask: PyTree,
    *,
    std: Any = 0.0,
    eta: float = 1.0,
    jump_length: int = 10,
    resamplings: int = 10,
) -> PyTree:
    """Fills in what a mask hides, by RePaint.

        restored = jd.posterior.repaint(key, denoiser, noise, times, picture, mask)

    Before each evaluation the known region takes the values of the observation with the noise of that time. To let the
    hidden region agree with it, the samples are noised again for a few levels and denoised anew, many times:

        down    x_known = alpha_t y + sigma_t z,  x = mask ? x_known : x,  then a step of DDPM
        up      x_t = (alpha_t/alpha_s) x_s + sqrt(sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2) z

    Lugmayr et al. 2022 (arXiv 2201.09865), algorithm 1; `jump_schedule` has the order of the moves. The known region of
    the result is that of the observation. RePaint is no exact sampler of the posterior.

    An observation with noise of its own, `std > 0`, is noised up to the level of x only, and where it has more noise
    than x, x is left alone. The result is then a guess of the clean known region too.

    All is one scan, with one evaluation for each move down. The state is float32 or wider.

    Args:
      key: one key, or one key per example.
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `times[0]`: leaves `[batch, *event]`.
      times: a grid `[steps + 1]`, decreasing; or a number of steps. The paper has 250 steps.
      observation: y, the known data: leaves `[batch, *event]`, or `[1, *event]` for all examples. Its hidden values do
        not matter.
      mask: true, or not 0, where the data is known: leaves that broadcast to those of `x`. It is traced, as y is.
      std: the standard deviation of the noise of the observation, in the units of the data: a number, or `[batch]`.
      eta: the share of noise that is drawn anew in steps down, as in `solvers.ddim`; 1 is DDPM.
      jump_length, resamplings: see `jump_schedule`. Static.

    Returns:
      The filled-in data, with the shapes of `x`, at `times[-1]`.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: arguments that do not fit each other, or a negative `std`.
    """
    check_denoiser(denoiser)
    key = trees.as_key(key)
    trees.check_floating("x", x)
    trees.check_floating("observation", observation)
    trees.example_keys(key, trees.batch_size(x))
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)
    std = noise_level(std)
    observation, mask = fit("observation", observation, x), fit("mask", mask, x)

    process, times = check_arguments(denoiser.process, times)
    tableau = ddim(process, times, eta=eta)
    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    places, down = jump_schedule(len(times) - 1, jump_length=int(jump_length), resamplings=int(resamplings))
    # The move up from level k leads to level k - 1. Level 0 has none.
    shrink = xp.concatenate([xp.ones(1), alpha[:-1] / xp.where(alpha[1:] > 0, alpha[1:], 1.0)])
    before = xp.concatenate([sigma[:1], sigma[:-1]])
    spread = root(before**2 - (shrink * sigma) ** 2)
    noise = tableau.noise[1:, 0] if tableau.noise.shape[-1] else xp.zeros((len(times) - 1, 1))
    rows = xp.concatenate([tableau.state[1:, 0], noise], axis=1)
    table = (times, alpha, sigma, shrink, spread, rows)
    return _run(key, denoiser, x, observation, mask, std, table, (places, down))


def fit(name: str, tree: PyTree, x: PyTree) -> PyTree:
    """Returns `tree` as arrays whose leaves broadcast to those of x.

    Raises:
      ValueError: `tree` has another structure, or leaves that do not broadcast.
    """
    structures = jax.tree.structure(tree), jax.tree.structure(x)
    checks.require(trees.same_structure(tree, x), f"structure of {name}", structures[0], f"{structures[1]}, as x")

    def one(leaf: Any, like: Array) -> Array:
        leaf = jnp.asarray(leaf)
        wide = (1,) * (like.ndim - leaf.ndim) + leaf.shape
        good = leaf.ndim <= like.ndim and all(n in (1, m) for n, m in zip(wide, like.shape, strict=True))
        checks.require(good, f"{name}.shape", leaf.shape, f"those that broadcast to {like.shape}, as x")
        return leaf

    return jax.tree.map(one, tree, x)


@jitted
def _run(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    observation: PyTree,
    mask: PyTree,
    std: Any,
    table: tuple[Any, ...],
    moves: tuple[Any, Any],
) -> PyTree:
    times, alpha, sigma, shrink, spread, rows = map(jnp.asarray, table)
    places, down = map(jnp.asarray, moves)

    def paste(x: PyTree, k: Any, z: PyTree) -> PyTree:
        """x at level k, with the known region noised to this level where the observation has less noise."""
        given = jax.tree.map(lambda y, leaf: jnp.broadcast_to(y, leaf.shape), observation, x)
        missing = sigma[k] ** 2 - (alpha[k] * std) ** 2
        known = trees.lincomb((alpha[k], root(missing)), (given, z))
        good = missing >= 0

        def choose(mask: Array, known: Array, leaf: Array) -> Array:
            return jnp.where((mask != 0) & trees.expand(good, leaf), known.astype(leaf.dtype), leaf)

        return jax.tree.map(choose, mask, known, x)

    def go_down(x: PyTree, k: Any, key: Any) -> PyTree:
        for_paste, for_step = trees.split(key, 2)
        x = paste(x, k, trees.normal_like(for_paste, x))
        estimate = denoiser(x, times[k])
        trees.check_alike("the denoiser's estimate", estimate, Estimate(x, x))
        z = trees.normal_like(for_step, x)
        return trees.cast_like(trees.lincomb(list(rows[k]), (x, estimate.x0, z)), x)

    def go_up(x: PyTree, k: Any, key: Any) -> PyTree:
        z = trees.normal_like(key, x)
        return trees.cast_like(trees.lincomb((shrink[k], spread[k]), (x, z)), x)

    def move(x: PyTree, i: Any) -> tuple[PyTree, None]:
        return jax.lax.cond(down[i], go_down, go_up, x, places[i], trees.fold_in(key, i)), None

    x, _ = loops.scan(move, x, jnp.arange(len(down)))
    return paste(x, len(times) - 1, trees.normal_like(trees.fold_in(key, len(down)), x))
