"""Integration of the probability-flow ODE to a tolerance.

The loop ends when the way is done, and not after a fixed number of steps. JAX has no reverse-mode derivatives of such
loops, so this file has its own: the steps of the way there are taken back one by one.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxdiff import checks, loops, trees
from jaxdiff.probability_flow import tsitouras
from jaxdiff.probability_flow.tsitouras import Derivative
from jaxdiff.probability_flow.variables import Path, Rate, time_at

# Proportional and integral control of the length of steps (Hairer & Wanner 1996, section IV.2). The next step is
# `0.9 ratio^-0.14 before^0.06` times as long. The ratios are those of error to tolerance, of this step and of the last
# accepted step before it. With integral control alone, a step whose error estimate happens to
# vanish is followed by a step ten times as long, and errors reach 90 times the tolerance. With both they reach 10 times
# the tolerance, with fewer evaluations.
_SAFETY, _OF_THIS, _OF_BEFORE = 0.9, (0.3 + 0.4) / 5, 0.3 / 5
_FIRST_STEP = 0.01


def check_options(rtol: Any, atol: Any, max_steps: Any) -> None:
    """Raises a ValueError if a known tolerance is not between 0 and 1, or `max_steps` is below 1."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        checks.require(trees.traced(value) or 0 < value < 1, name, value, "numbers between 0 and 1")
    checks.integer("max_steps", max_steps)


def solve(
    rate: Rate, state: tuple[Any, Any], path: Path, extra: Any, rtol: Any, atol: Any, *, to_noise: bool, max_steps: int
) -> tuple[Any, Int[Array, ""]]:
    """Takes `state = (z, integral)` along a path, from the data to the noise or back.

    The method is that of Tsitouras (2011), of order 5 with an error estimate of order 4. A step is accepted if two
    conditions hold for every example. The root mean square of `error / (atol + rtol |z|)` over the coordinates of z is
    below 1, and so is the same ratio for the integral. An example can thus shorten the steps of the other examples in
    its batch, but never lengthen them. Within `jax.shard_map`, the batch is the whole batch of all devices.

    Reverse-mode derivatives are those of the steps that were taken; the lengths of the steps count as constants. The
    memory for them is that of `2 sqrt(max_steps)` states, and they evaluate the denoiser three times as often.

    Args:
      rate: `(t, state, (denoiser, extra)) -> d state / dr`.
      rtol, atol: scalars, which may be traced.
      max_steps: the largest number of attempts. Static.

    Returns:
      The state at the end, and the number of evaluations of the denoiser.

    Raises:
      RuntimeError: the end was not reached within `max_steps`. This error is raised at run time, under jit too.
    """

    def derivative(operands: tuple[Path, Any], v: Any, state: Any) -> Any:
        # r = data.r + v (noise.r - data.r), which keeps its digits near the data.
        path, extra = operands
        width = path.noise.r - path.data.r
        slope = rate(time_at(path, path.data.r + v * width), state, (path.denoiser, extra))
        return jax.tree.map(lambda k, y: (width * k).astype(y.dtype), slope, state)

    dtype = path.data.r.dtype
    begin, end = (np.asarray(v, dtype) for v in ((0, 1) if to_noise else (1, 0)))
    # Numbers that a function of the user holds are arguments too, so that derivatives with respect to them are right.
    derivative, held = jax.closure_convert(derivative, (path, extra), begin, state)
    leaves, structure = jax.tree.flatten(((path, extra), held))
    smooth = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]
    floats, others = (
        [leaf if one == kind else None for leaf, one in zip(leaves, smooth, strict=True)] for kind in (True, False)
    )

    def at(floats: list[Any], others: list[Any]) -> Derivative:
        merged = [b if a is None else a for a, b in zip(floats, others, strict=True)]
        operands, held = jax.tree.unflatten(structure, merged)
        return lambda v, y: derivative(operands, v, y, *held)

    # The derivative is taken when the functions below are long traced: all arrays that they use are arguments.
    @jax.custom_vjp
    def integrate(floats: list[Any], others: list[Any], state: Any, tolerances: Any) -> tuple[Any, Array]:
        return _forward(at(floats, others), state, begin, end, tolerances, max_steps, None)[0]

    def forward(floats: list[Any], others: list[Any], state: Any, tolerances: Any) -> tuple[Any, Any]:
        marks = math.isqrt(max_steps - 1) + 1
        kept = _Kept(
            jnp.full(max_steps + 1, begin, dtype),
            jax.tree.map(lambda leaf: jnp.zeros((marks, *leaf.shape), leaf.dtype), state),
        )
        arrival, (kept, count) = _forward(at(floats, others), state, begin, end, tolerances, max_steps, kept)
        return arrival, (floats, others, kept, count)

    def backward(saved: Any, slopes: Any) -> tuple[list[Any], None, Any, None]:
        floats, others, kept, count = saved
        of_floats, of_state = _backward(lambda floats: at(floats, others), floats, kept, count, slopes[0])
        return of_floats, None, of_state, None

    integrate.defvjp(forward, backward)
    return integrate(floats, others, state, (jnp.asarray(rtol, dtype), jnp.asarray(atol, dtype)))


class _Kept(NamedTuple):
    """The steps that were accepted, for the way back.

    Attributes:
      grid: their starts, and the end of the last one: `[max_steps + 1]`.
      marks: the states at the starts of some of them, as many as there are steps between two marks.
    """

    grid: Float[Array, " max_steps+1"]
    marks: PyTree


class _Walk(NamedTuple):
    """The loop between two attempts.

    Attributes:
      v, y: the place, and the state there.
      h: the length of the next attempt.
      slope: the derivative of the state.
      ratio: the error over the tolerance of the last accepted step, 1 at first.
      attempts, accepted: the numbers of steps.
      kept: what is kept for the way back, None for nothing.
    """

    v: Float[Array, ""]
    y: PyTree
    h: Float[Array, ""]
    slope: PyTree
    ratio: Float[Array, ""]
    attempts: Int[Array, ""]
    accepted: Int[Array, ""]
    kept: _Kept | None


def _forward(
    rate: Derivative, y: PyTree, begin: Any, end: Any, tolerances: Any, max_steps: int, kept: _Kept | None
) -> tuple[tuple[PyTree, Array], Any]:
    """Returns the state at the end and the number of evaluations; and what was kept."""

    def attempt(walk: _Walk) -> _Walk:
        left = end - walk.v
        last = jnp.abs(walk.h) > 0.999 * jnp.abs(left)  # no step of a few units in the last place remains
        h = jnp.where(last, left, walk.h)
        y, error, slope = tsitouras.step(rate, walk.v, h, walk.y, walk.slope)
        ratio = _ratio(error, walk.y, y, *tolerances).astype(h.dtype)
        ratio = jnp.where(ratio < jnp.inf, ratio, jnp.inf)  # NaN is an infinite error
        good = ratio < 1
        factor = _SAFETY * ratio**-_OF_THIS * walk.ratio**_OF_BEFORE
        factor = jnp.clip(factor, jnp.where(good, 1.0, 0.2), jnp.where(good, 10.0, _SAFETY))
        v = jnp.where(good, jnp.where(last, end, walk.v + h), walk.v)
        new, old = (y, slope, jnp.where(ratio > 0, ratio, 1.0)), (walk.y, walk.slope, walk.ratio)
        y, slope, ratio = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, old)
        accepted = walk.accepted + good
        kept = walk.kept and _keep(walk.kept, walk, v, accepted)
        return _Walk(v, y, h * factor, slope, ratio, walk.attempts + 1, accepted, kept)

    zero = jnp.zeros((), jnp.int32)
    start, length = jnp.asarray(begin), jnp.asarray(_FIRST_STEP * (end - begin), begin.dtype)
    walk = _Walk(start, y, length, rate(start, y), jnp.ones_like(start), zero, zero, kept)
    walk = loops.while_loop(lambda walk: (walk.v != end) & (walk.attempts < max_steps), attempt, walk)
    evaluations = 1 + tsitouras.STAGES * walk.attempts
    return (_checked(walk.y, walk.v == end, max_steps), evaluations), (walk.kept, walk.accepted)


def _keep(kept: _Kept, walk: _Walk, v: Array, accepted: Array) -> _Kept:
    """Writes down the end of a step, and now and then the state at its start."""
    between = len(jax.tree.leaves(kept.marks)[0])
    place, marked = walk.accepted // between, walk.accepted % between == 0
    marks = jax.tree.map(lambda all, y: all.at[place].set(jnp.where(marked, y, all[place])), kept.marks, walk.y)
    return _Kept(kept.grid.at[accepted].set(v), marks)


def _backward(
    at: Callable[[list[Array]], Derivative], floats: list[Array], kept: _Kept, count: Int[Array, ""], slope: PyTree
) -> tuple[list[Array], PyTree]:
    """Takes the derivatives with respect to the last state back to the first state and to `floats`."""
    between = len(jax.tree.leaves(kept.marks)[0])

    def step(floats: list[Array], y: PyTree, i: Array) -> PyTree:
        return tsitouras.step_alone(at(floats), kept.grid[i], kept.grid[i + 1] - kept.grid[i], y)

    def stretch(back: Array, carry: Any) -> Any:
        """Goes forward from a mark, with every state kept, and then back to the mark."""
        mark = (count - 1) // between - back
        first = mark * between
        steps = jnp.minimum(count - first, between)

        def onward(i: Array, carry: Any) -> Any:
            y, states = carry
            return step(floats, y, first + i), jax.tree.map(lambda all, y: all.at[i].set(y), states, y)

        y = jax.tree.map(lambda all: all[mark], kept.marks)
        empty = jax.tree.map(jnp.zeros_like, kept.marks)  # as many places as there are marks
        _, states = loops.repeat(steps, onward, (y, empty))

        def home(i: Array, carry: Any) -> Any:
            total, slope = carry
            j = steps - 1 - i
            y = jax.tree.map(lambda all: all[j], states)
            _, pull = jax.vjp(lambda floats, y: step(floats, y, first + j), floats, y)
            of_floats, slope = pull(slope)
            return jax.tree.map(jnp.add, total, of_floats), slope

        return loops.repeat(steps, home, carry)

    zeros = jax.tree.map(jnp.zeros_like, floats)
    return loops.repeat((count + between - 1) // between, stretch, (zeros, slope))


def _ratio(errors: Any, before: Any, after: Any, rtol: Array, atol: Array) -> Float[Array, ""]:
    """The error over the tolerance: the largest of any example, on any device."""

    def scaled(error: Array, before: Array, after: Array) -> Array:
        size = jnp.maximum(jnp.abs(before), jnp.abs(after))
        return error / (atol + rtol * size).astype(error.dtype)

    z, integral = jax.tree.map(scaled, errors, before, after)
    worst = jnp.sqrt(jnp.max(trees.mean_square(z)))
    return loops.largest(worst if integral is None else jnp.maximum(worst, jnp.max(jnp.abs(integral))))


def _checked(state: PyTree, arrived: Bool[Array, ""], max_steps: int) -> PyTree:
    """The state, which is lost with an error unless the way was done."""

    def refuse(arrived: Any) -> np.ndarray:
        if not np.all(arrived):
            raise RuntimeError(
                f"the adaptive integration did not arrive within max_steps = {max_steps}; allow more steps or larger "
                "rtol and atol, and look whether the denoiser returns NaN"
            )
        return np.ones(np.shape(arrived), bool)

    kind = jax.ShapeDtypeStruct((), bool)
    # Under `vmap` both branches run. The host then looks at all elements.
    arrived = jax.lax.cond(
        arrived, lambda a: a, lambda a: jax.pure_callback(refuse, kind, a, vmap_method="broadcast_all"), arrived
    )
    return jax.tree.map(lambda leaf: jnp.where(arrived, leaf, jnp.nan), state)
