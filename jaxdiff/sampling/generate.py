"""Samples in one call: noise, grid, solver and the jitted sampler, with defaults for every process."""

import contextlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from jaxdiff import checks, trees
from jaxdiff.components import function_of
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.extras import needed
from jaxdiff.processes import Process, Times, prior_sample
from jaxdiff.sampling.scan import advance, finish, sample, start
from jaxdiff.solvers.exponential import exponential
from jaxdiff.solvers.tableau import Solver, Tableau, check_solver

# The number of noises with which a grid that depends on the denoiser is made, as in the paper of `grids.gits`.
FOR_GRID = 256


def default_solver(process: Process, times: Any) -> Tableau:
    """The solver of `generate`: the exact method of order 2 in velocity prediction, with a corrector of order 3.

    It makes one evaluation per step, starts without signal and ends without noise. docs/solvers.md has its errors on
    every process.
    """
    return exponential(process, times, order=2, prediction="velocity", corrector_order=3)


def generate(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    shape: PyTree,
    *,
    steps: int = 20,
    solver: Solver | Tableau | None = None,
    grid: Callable[..., Times] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> PyTree:
    """Draws samples.

        images = jd.generate(key, denoiser, (16, 32, 32, 3))

    Noise is drawn for the first time of the grid, and the sampler follows the solver's tableau in a compiled scan. A
    second call with other parameters, conditions, guidance scales or numbers of the solver compiles nothing, as long as
    all shapes are the same. The defaults of `solver` and `grid` are those that docs/solvers.md advises.

    Sample i depends on the key and on i, neither on n nor on `batch_size`. (This holds to the bit if it does for the
    denoiser, see `sample`.) A grid that is made with the denoiser also depends on the first 256 noises.

    Args:
      key: one key, or one key per example (`[n]`).
      denoiser: see `jaxdiff.denoisers`. Its numbers must be known: call `generate` outside of JAX's transformations.
      shape: `(n, *event)`, or a pytree of arrays or of `jax.ShapeDtypeStruct` with such shapes.
      steps: the number of steps of the grid. The default solver makes one evaluation per step.
      solver: a function `(process, times) -> Tableau`, such as `solvers.heun`, `functools.partial(solvers.ddim,
        eta=0.5)` or `choose(solvers.ddim, eta=0.5)`; or a tableau, which takes the place of `steps` and `grid` too.
        None for `solvers.exponential(order=2, prediction="velocity", corrector_order=3)`.
      grid: a function `(process, steps) -> times`, or `(process, steps, denoiser, x) -> times` with noise x at `t_max`,
        such as `grids.karras` or `grids.gits`; None for the solver's own grid: the solver is called with `steps` in
        place of times.
      batch_size: the number of samples drawn at a time, for samples that do not fit the memory of the device together.
        The conditions of the denoiser must then not have a row per example. None for all n at once.
      progress: whether to show a bar on standard error, which counts evaluations. This needs tqdm.

    Returns:
      The samples, with the shapes of `shape` and in float32 or wider: JAX arrays, or with `batch_size` NumPy arrays.

    Raises:
      ImportError: `progress` without tqdm.
      TypeError: an argument of the wrong type, or a denoiser whose process has traced numbers.
      ValueError: arguments that are not allowed or do not fit each other, such as a solver that needs another grid.
    """
    check_denoiser(denoiser, consistent=False)  # `sample` knows whether the tableau needs it
    key, like = trees.as_key(key), jax.eval_shape(lambda: prior_sample(jax.random.key(0), denoiser.process, shape))
    count = size = trees.batch_size(like)
    checks.integer("n", count)
    checks.require(key.shape in ((), (count,)), "key.shape", key.shape, f"() and ({count},), one key per example")
    if batch_size is not None:
        checks.integer("batch_size", batch_size)
        size = min(int(batch_size), count)

    def noise_of(index: np.ndarray, t: Any) -> tuple[Key[Array, " batch"], PyTree]:
        leaves, structure = jax.tree.flatten(like)
        part = tuple(jax.ShapeDtypeStruct((len(index), *leaf.shape[1:]), leaf.dtype) for leaf in leaves)
        return _noise(structure, part, *jax.device_put((key, index, denoiser.process, t)))

    tableau = _tableau(denoiser, steps, solver, grid, lambda t: noise_of(np.arange(min(count, FOR_GRID)), t)[1])
    batches = -(-count // size)
    drawn = []
    with _bar(batches * len(tableau)) if progress else contextlib.nullcontext() as bar:
        for begin in range(0, count, size):
            # The last batch is filled up, so that all batches use the same compiled programs.
            index = np.minimum(np.arange(begin, begin + size), count - 1)
            keys, x = noise_of(index, tableau.times[0])
            # The numbers of the host are put on the device by name, which `jax.transfer_guard` lets pass.
            arguments = jax.device_put((keys, denoiser, x, tableau))
            samples = _sample(*arguments) if bar is None else _watched(keys, denoiser, x, tableau, bar)
            if batch_size is not None:
                samples = jax.tree.map(lambda leaf, left=count - begin: jax.device_get(leaf)[:left], samples)
            drawn.append(samples)
    return drawn[0] if len(drawn) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *drawn)


def _tableau(
    denoiser: Denoiser,
    steps: int,
    solver: Solver | Tableau | None,
    grid: Callable[..., Times] | None,
    noise: Callable[[Any], PyTree],
) -> Tableau:
    """The tableau that `generate` follows; `noise` gives noise at a time, for grids that depend on the denoiser."""
    if isinstance(solver, Tableau):
        checks.require(grid is None, "grid", grid, "none where solver is a tableau, which has its own times")
        return solver
    checks.integer("steps", steps)
    solver = default_solver if solver is None else solver
    check_solver(solver)
    if grid is None:
        return solver(denoiser.process, steps)
    allowed = "functions (process, steps) -> times, such as karras"
    checks.require(callable(grid), "grid", grid, allowed, TypeError)
    parameters = inspect.signature(function_of(grid)).parameters.values()
    given: dict[str, Any] = {}
    if any(parameter.name == "denoiser" and parameter.default is parameter.empty for parameter in parameters):
        given = {"denoiser": denoiser, "x": noise(denoiser.process.t_max)}
    return solver(denoiser.process, grid(denoiser.process, steps, **given))


@partial(jax.jit, static_argnums=(0, 1))
def _noise(
    structure: Any, leaves: tuple[Any, ...], key: Key[Array, "*n"], index: Any, process: Process, t: Any
) -> tuple[Key[Array, " batch"], PyTree]:
    return keyed_noise(key, index, process, jax.tree.unflatten(structure, leaves), t)


def keyed_noise(
    key: Key[Array, "*n"], index: Int[Array, " batch"], process: Process, like: PyTree, t: Any
) -> tuple[Key[Array, " batch"], PyTree]:
    """The keys with which the samples with numbers `index` are drawn, and their noise at time t.

    Args:
      key: one key for all samples, or one key per sample.
      index: the numbers of the samples of this batch.
      process: the process.
      like: the shapes of this batch, as for `prior_sample`.
      t: the time that sampling starts from.
    """
    keys = key[index] if key.ndim else trees.each(key, index)
    noise_key, sample_key = trees.split(keys, 2)
    return sample_key, prior_sample(noise_key, process, like, t=t)


_sample, _begin, _advance, _finish = jax.jit(sample), jax.jit(start), jax.jit(advance), jax.jit(finish)


def _watched(keys: Key[Array, " batch"], denoiser: Denoiser, x: PyTree, tableau: Tableau, bar: Any) -> PyTree:
    """The samples of `sample`, to the bit, with a bar that moves after every evaluation."""
    tableau = jax.device_get(tableau)  # cutting JAX arrays would compile a program for every place
    state = _begin(keys, x, jax.device_put(tableau[:0]))
    for row in range(len(tableau)):
        state = jax.block_until_ready(_advance(denoiser, state, jax.device_put(tableau[row : row + 1])))
        bar.update()
    return _finish(state, jax.device_put(tableau[-1:]))


def _bar(total: int) -> Any:
    """A bar on standard error, a context."""
    with needed("progress = True"):
        from tqdm import tqdm
    return tqdm(total=total, unit="eval", dynamic_ncols=True)
