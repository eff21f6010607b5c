"""Steps of adaptive length along the probability-flow ODE, by diffrax. Imported only where they are asked for."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdiff import trees
from jaxdiff.probability_flow.variables import Path, Rate, time_at

_STAGES = 6  # evaluations a step of Tsit5 makes; a seventh, the first, is the last of the step before


class _Counting(diffrax.PIDController):
    """Diffrax's controller of step lengths, which also counts evaluations: its own statistics do not tell how many
    attempts were rejected before the first was accepted, each of which evaluates its first stage anew.
    """

    def init(self, *args: Any, **kwargs: Any) -> Any:
        stop, state = super().init(*args, **kwargs)
        return stop, (state, jnp.zeros((), jnp.int32), jnp.asarray(False))

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: Any,
    ) -> Any:
        state, evaluations, begun = controller_state
        accepted, start, stop, jumped, state, result = super().adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, state
        )
        evaluations = evaluations + _STAGES + jnp.where(begun, 0, 1)
        return accepted, start, stop, jumped, (state, evaluations, begun | accepted), result


def solve(
    rate: Rate,
    state: tuple[Any, Any],
    start: Float[Array, ""],
    stop: Float[Array, ""],
    path: Path,
    extra: Any,
    rtol: Any,
    atol: Any,
    max_steps: int,
) -> tuple[Any, Int[Array, ""]]:
    """Takes `state = (z, beside)` from r = `start` to r = `stop`.

    Tsitouras' method of order 5 (2011) with an error estimate of order 4. A step is accepted if for every example the
    root mean square, over its coordinates, of `error / (atol + rtol |z|)` is below 1, and so is what is integrated
    beside it: another example in the batch can shorten the steps, never lengthen them.

    Args:
      rate: `(t, state, (denoiser, extra)) -> d state / dr`.
      rtol, atol: scalars; traced or not.
      max_steps: how many attempts are made at most. Static.

    Returns: the state at `stop`, and how often the denoiser was asked.

    Raises:
      ValueError: tolerances that are not positive, or `max_steps` below 1.
      RuntimeError: (at run time, under jit too) `stop` was not reached within `max_steps`.
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not isinstance(value, jax.core.Tracer) and not 0 < value < 1:
            raise ValueError(f"{name} = {value}; allowed are numbers between 0 and 1")
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(f"max_steps = {max_steps!r}; allowed are integers of at least 1")
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(_at_r),
        diffrax.Tsit5(),
        t0=start,
        t1=stop,
        dt0=0.01 * (stop - start),
        y0=state,
        args=(_Static(rate), path, extra),
        # Proportional and integral: on the integral part alone, a step whose estimate happens to vanish is followed by
        # one ten times as long, and errors reach 90 times the tolerance (10 with both, by fewer evaluations).
        stepsize_controller=_Counting(rtol=rtol, atol=atol, norm=_worst_example, pcoeff=0.3, icoeff=0.4),
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        max_steps=max_steps,
        throw=False,
    )
    reached = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
    reached = eqx.error_if(
        reached,
        solution.result != diffrax.RESULTS.successful,
        f"the adaptive integration did not arrive within max_steps = {max_steps}; allow more steps or larger rtol and "
        "atol, and look whether the denoiser returns NaN",
    )
    return reached, solution.controller_state[1]


class _Static(eqx.Module):
    """A function as a part of a pytree."""

    function: Rate = eqx.field(static=True)


def _at_r(r: Any, state: Any, args: tuple[_Static, Path, Any]) -> Any:
    rate, path, extra = args
    return rate.function(time_at(path, r), state, (path.denoiser, extra))


def _worst_example(errors: tuple[Any, Any]) -> Float[Array, ""]:
    z, beside = errors
    worst = jnp.sqrt(jnp.max(trees.mean_square(z)))
    return worst if beside is None else jnp.maximum(worst, jnp.max(jnp.abs(beside)))
