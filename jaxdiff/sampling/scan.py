"""Sampling with a tableau: one scan over its rows.

`solvers.tableau` says what one row does. `sample` calls `start`, `advance` and `finish`, in this order. A user may call
the three instead of `sample`: to stop after some evaluations, to look at the state, to save it, or to go on with
another denoiser. Wherever the tableau is cut, the result is bit for bit the same.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from jaxdiff import loops, trees
from jaxdiff.checks import message
from jaxdiff.denoisers import Denoiser, DenoiserWithMemory, check_denoiser
from jaxdiff.jitted import jitted
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import same_process
from jaxdiff.solvers.tableau import Tableau


@trees.register
@dataclasses.dataclass(frozen=True)
class State:
    """The state of a sampler between two evaluations of the denoiser.

    Attributes:
      key: one key, or one key per example. The key never changes: row i draws its noise with `fold_in(key, i)`.
      index: the number of evaluations made so far.
      points: r pytrees of the shape of the data. The last one is the point of the latest evaluation.
      history: K pytrees of the shape of the data: the remembered estimates, newest first.
      memory: what a `DenoiserWithMemory` remembers; None before its first evaluation and for all other denoisers.
    """

    key: Key[Array, "*batch"]
    index: Int[Array, ""]
    points: tuple[PyTree, ...]
    history: tuple[PyTree, ...]
    memory: PyTree = None


def sample(
    key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, tableau: Tableau, *, trajectory: bool = False
) -> Any:
    """Turns noise into samples by following a tableau.

        noise = jd.prior_sample(key, process, (16, 32, 32, 3))
        images = jax.jit(jd.sample)(key, denoiser, noise, tableau)

    One compiled program serves all parameters, conditions, guidance scales and grids, and all solvers whose tableaux
    have the same shape, with `jax.jit` or without. The functions of a denoiser are static, so they must be pure. The
    state is float32 or wider. The memory does not depend on the number of steps. NumPy arrays are copied to the device
    at every call. If a call takes less than a millisecond, put the tableau and the denoiser on the device once, with
    `jax.device_put`.

    Args:
      key: one key, or one key per example (`key.shape == [batch]`). With one key per example, sample i depends neither
        on the rest of the batch nor on the number of devices. (This holds to the bit if it does for the arithmetic of
        the denoiser. XLA on CPUs chooses by the shape of an array where to fuse multiply-adds, and this can change the
        last bit.)
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `tableau.times[0]`: leaves `[batch, *event]`, usually from `prior_sample`.
      tableau: see `jaxdiff.solvers`.
      trajectory: whether to return also the point and the estimate of every evaluation. This argument is static: jit
        with `static_argnames="trajectory"`.

    Returns:
      The samples, with the shapes of `x`. With `trajectory`: `(samples, (points, estimates))`, where points and
      estimates have leaves `[evaluations, batch, *event]`.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: arguments that do not fit each other, such as a denoiser whose pairs are not consistent and a tableau
        that is not of the form "renoise". A tableau that was made for another kind of process is always refused. A
        tableau for the same kind of process with other numbers is refused only outside `jit`, where the numbers are
        known.
    """
    state, path = scan_rows(denoiser, start(key, x, tableau), tableau, trajectory=trajectory)
    samples = finish(state, tableau)
    return (samples, path) if trajectory else samples


def start(key: Key[Array, "*batch"], x: PyTree, tableau: Tableau) -> State:
    """Returns the state before the first evaluation, in which all points and the whole history are `x`.

    Arguments and errors are those of `sample`.
    """
    if not isinstance(tableau, Tableau):
        raise TypeError(message("tableau", tableau, "the tableaux that solvers return"))
    key, size = trees.as_key(key), trees.batch_size(x)
    if key.ndim and key.shape != (size,):
        raise ValueError(message("key.shape", key.shape, f"() and ({size},), one key per example of x"))
    trees.check_floating("x", x)
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)
    return State(key, jnp.zeros((), jnp.int32), (x,) * tableau.points, (x,) * tableau.history_length)


def advance(denoiser: Denoiser, state: State, tableau: Tableau) -> State:
    """Returns the state after all evaluations of a tableau, or of a piece of a tableau.

    Sampling with one denoiser first and with another one afterwards:

        state = start(key, x, tableau)
        state = advance(denoiser, state, tableau[:5])
        state = advance(another, state, tableau[5:])
        x = finish(state, tableau[5:])

    A denoiser with a memory goes on with the memory of the state, if it has the structure of its own. Otherwise its
    memory begins anew.
    """
    return scan_rows(denoiser, state, tableau)[0]


def finish(state: State, tableau: Tableau) -> PyTree:
    """Returns the samples: the last combination of a tableau, which has no evaluation after it.

    For a piece of a tableau, this is the point at which the next piece would evaluate the denoiser first.
    """
    return _finish(state, tableau.state[-1], tableau.noise[-1])


@jitted
def _finish(state: State, coefficients: Any, noise: Any) -> PyTree:
    return _combine(state, coefficients, noise)[-1]


def _combine(state: State, coefficients: Any, noise: Any) -> tuple[PyTree, ...]:
    """Returns `points' = coefficients (points, history) + noise z` for fresh standard normal z."""
    terms = (*state.points, *state.history)
    rows, columns = coefficients.shape
    if (rows, columns) != (len(state.points), len(terms)):
        raise ValueError(
            f"the tableau has {rows} points and {columns - rows} remembered estimates, but the state has "
            f"{len(state.points)} and {len(state.history)}; pieces must be cut from one tableau"
        )
    if noise.shape[-1]:
        terms = (*terms, trees.normal_like(trees.fold_in(state.key, state.index), state.points[0]))
    table = jnp.concatenate([coefficients, noise], axis=1)
    return tuple(trees.lincomb(list(row), terms) for row in table)


# A change of the point between the combination and the evaluation of a row, `(denoiser, state, x, time) -> x`. It is a
# pytree, as a denoiser is.
Correction = Callable[[Denoiser, State, PyTree, Any], PyTree]


def scan_rows(
    denoiser: Denoiser,
    state: State,
    tableau: Tableau,
    correct: Correction | None = None,
    trajectory: bool = False,
) -> tuple[State, Any]:
    """Combines and evaluates, row by row.

    Args:
      correct: a change of the last point before each evaluation of the denoiser; None changes nothing.
      trajectory: whether to return also the points and estimates of all rows.

    Returns:
      The state after the last evaluation; and `(points, estimates)` with `trajectory`, None without.
    """
    check_denoiser(denoiser, consistent=correct is not None or tableau.form != "renoise")
    if not same_process(denoiser.process, tableau.process):
        allowed = f"denoisers for the process of the tableau, {tableau.process}"
        raise ValueError(message("denoiser.process", denoiser.process, allowed))
    if not len(tableau):
        none = jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), state.points[-1])
        return state, (none, Estimate(none, none)) if trajectory else None
    return _scan_rows(denoiser, state, tableau, correct, trajectory=trajectory)


@jitted
def _scan_rows(
    denoiser: Denoiser, state: State, tableau: Tableau, correct: Correction | None, *, trajectory: bool
) -> tuple[State, Any]:
    first = state.index
    begun = denoiser.start(state.points[-1]) if isinstance(denoiser, DenoiserWithMemory) else None
    if not trees.same_structure(state.memory, begun):
        state = dataclasses.replace(state, memory=begun)

    def evaluate(state: State, _: None) -> tuple[State, Any]:
        # Each row is looked up by its index. A scan over the table itself would copy every slice of it.
        row = state.index - first
        time, coefficients, noise, history_target = (
            jax.lax.dynamic_index_in_dim(jnp.asarray(column), row, keepdims=False)
            for column in (tableau.times, tableau.state, tableau.noise, tableau.history_target)
        )
        points = _combine(state, coefficients, noise)
        if correct is not None:
            points = (*points[:-1], correct(denoiser, state, points[-1], time))
        point = points[-1]
        memory = state.memory
        if isinstance(denoiser, DenoiserWithMemory):
            estimate, memory = denoiser.with_memory(memory, point, time)
        else:
            estimate = denoiser(point, time)
        trees.check_alike("the denoiser's estimate", estimate, Estimate(point, point))
        history = state.history
        if history:
            newest = trees.lincomb((history_target[0], history_target[1]), estimate)
            history = (trees.cast_like(newest, history[0]), *history[:-1])
        return State(state.key, state.index + 1, points, history, memory), (point, estimate) if trajectory else None

    return loops.scan(evaluate, state, length=len(tableau))
