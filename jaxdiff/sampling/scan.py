"""Sampling: one scan over the rows of a tableau (see `solvers.tableau` for what a row does).

`sample` is all three of `start`, `advance` and `finish`, which are there for sampling in pieces: stop after some
evaluations, look at the state, save it, go on with another denoiser. However it is cut, the result is the same to the
bit.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.parametrizations import Estimate
from jaxdiff.processes import same_process
from jaxdiff.solvers.tableau import Tableau


@trees.register
@dataclasses.dataclass(frozen=True)
class State:
    """Where a sampler stands between two evaluations.

    Attributes:
      key: one key, or one key per example; never advanced: row i draws with `fold_in(key, i)`.
      index: how many evaluations have been made.
      points: r pytrees of the data's shape; the last is where the denoiser was asked last.
      history: K pytrees of the data's shape, the newest first.
    """

    key: Key[Array, "*batch"]
    index: Int[Array, ""]
    points: tuple[PyTree, ...]
    history: tuple[PyTree, ...]


def sample(
    key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, tableau: Tableau, *, trajectory: bool = False
) -> Any:
    """Turns noise into samples.

        images = jax.jit(jd.sample)(key, denoiser, jd.prior_sample(key, process, (16, 32, 32, 3)), tableau)

    Under `jax.jit` nothing is recompiled for other parameters, conditions, guidance scales, grids, or solvers whose
    tableau has the same shape. The state is kept in float32 or wider; memory does not depend on the number of steps.
    NumPy numbers are copied to the device at every call: where a call takes less than a millisecond, put the tableau
    and the denoiser there once, by `jax.device_put`.

    Args:
      key: one key, or one key per example (`key.shape == [batch]`): then sample i does not depend on the batch it is
        drawn in, nor on the number of devices. (To the bit, if the denoiser's arithmetic does not; XLA on CPUs chooses
        by the shape of an array where to fuse multiply-adds, which can move the last bit.)
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `tableau.times[0]`: leaves `[batch, *event]`, usually from `prior_sample`.
      tableau: see `jaxdiff.solvers`.
      trajectory: also return, for every evaluation, where the denoiser was asked and what it said. Static: jit with
        `static_argnames="trajectory"`.

    Returns: the samples, as `x`; with `trajectory`, `(samples, (points, estimates))` with leaves `[evaluations, batch,
      *event]`.

    Raises:
      TypeError, ValueError: arguments that are not what they should be or do not fit each other. A tableau made for
        another kind of process is always refused; one for other numbers of it outside of `jit` only, where they are
        known.
    """
    state, path = advance_corrected(denoiser, start(key, x, tableau), tableau, None, trajectory)
    result = finish(state, tableau)
    return (result, path) if trajectory else result


def start(key: Key[Array, "*batch"], x: PyTree, tableau: Tableau) -> State:
    """The state before the first evaluation: everything is x. Arguments and errors as `sample`."""
    if not isinstance(tableau, Tableau):
        raise TypeError(f"tableau is a {type(tableau).__name__}; allowed is what a solver returns, a Tableau")
    key, size = trees.as_key(key), trees.batch_size(x)
    if key.ndim and key.shape != (size,):
        raise ValueError(f"key has shape {key.shape}; allowed are () and ({size},), one key per example of x")
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"x has a leaf of type {jnp.result_type(leaf)}; allowed are floating-point arrays")
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)
    return State(key, jnp.zeros((), jnp.int32), (x,) * tableau.points, (x,) * tableau.history_length)


def advance(denoiser: Denoiser, state: State, tableau: Tableau) -> State:
    """The state after all evaluations of a tableau, or of a piece of one.

    Sampling with one denoiser at first and then with another:

        state = start(key, x, tableau)
        state = advance(denoiser, state, tableau[:5])
        state = advance(another, state, tableau[5:])
        x = finish(state, tableau[5:])
    """
    return advance_corrected(denoiser, state, tableau, None)[0]


def finish(state: State, tableau: Tableau) -> PyTree:
    """The last combination: the samples at the end of a tableau, or the points at the end of a piece of one."""
    points = _combine(state, tableau.state[-1], tableau.noise[-1])
    return points[-1]


def _combine(state: State, coefficients: Any, noise: Any) -> tuple[PyTree, ...]:
    """`points' = state_i . (points, H) + noise_i z`."""
    parts = (*state.points, *state.history)
    rows, columns = coefficients.shape
    if (rows, columns) != (len(state.points), len(parts)):
        raise ValueError(
            f"the tableau is for {rows} points and {columns - rows} remembered estimates, the state has "
            f"{len(state.points)} and {len(state.history)}; pieces must be cut from one tableau"
        )
    if noise.shape[-1]:
        parts = (*parts, trees.normal_like(trees.fold_in(state.key, state.index), state.points[0]))
    table = jnp.concatenate([coefficients, noise], axis=1)
    return tuple(trees.lincomb(list(row), parts) for row in table)


# What is done to the point between a row's combination and its evaluation: `(row, x, time) -> x`.
Correction = Callable[[Any, PyTree, Any], PyTree]


def advance_corrected(
    denoiser: Denoiser, state: State, tableau: Tableau, correct: Correction | None, trajectory: bool = False
) -> tuple[State, Any]:
    """`advance`, with something done to the last point before every evaluation of it; and the path, if asked for."""
    check_denoiser(denoiser)
    if not same_process(denoiser.process, tableau.process):
        raise ValueError(
            f"the tableau was made for {tableau.process}, the denoiser for {denoiser.process}; use one process"
        )
    if not len(tableau):
        return state, None
    first = state.index

    def evaluate(state: State, _: None) -> tuple[State, Any]:
        # Rows are looked up rather than scanned over: slices of the table would be copies of it.
        row = state.index - first
        time, coefficients, noise, history_target = (
            jax.lax.dynamic_index_in_dim(jnp.asarray(column), row, keepdims=False)
            for column in (tableau.times, tableau.state, tableau.noise, tableau.history_target)
        )
        points = _combine(state, coefficients, noise)
        if correct is not None:
            points = (*points[:-1], correct(state.index, points[-1], time))
        estimate = denoiser(points[-1], time)
        for name, side in zip(Estimate._fields, estimate, strict=True):
            trees.check_alike(f"the denoiser's {name}", side, points[-1])
        history = state.history
        if history:
            newest = trees.lincomb((history_target[0], history_target[1]), estimate)
            newest = jax.tree.map(lambda new, old: new.astype(old.dtype), newest, history[0])
            history = (newest, *history[:-1])
        return State(state.key, state.index + 1, points, history), (points[-1], estimate) if trajectory else None

    return jax.lax.scan(evaluate, state, None, length=len(tableau))
