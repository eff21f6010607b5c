"""Integration of the probability-flow ODE to a tolerance, by diffrax, which is imported only when it is needed."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdiff import checks, trees
from jaxdiff.probability_flow.variables import Path, Rate, time_at

_STAGES = 6  # the evaluations of one step of Tsit5; its first stage reuses the last evaluation of the step before


class _Counting(diffrax.PIDController):
    """Diffrax's controller of step lengths, which also counts evaluations.

    Until a first step is accepted, every attempt evaluates its first stage anew. Diffrax's own statistics do not tell
    how many such attempts there were.
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
    """Takes `state = (z, integral)` from r = `start` to r = `stop`.

    The method is that of Tsitouras (2011), of order 5 with an error estimate of order 4. A step is accepted if two
    conditions hold for every example. The root mean square of `error / (atol + rtol |z|)` over the coordinates of z is
    below 1, and so is the same ratio for the integral. An example can thus shorten the steps of the other examples in
    its batch, but never lengthen them.

    Args:
      rate: `(t, state, (denoiser, extra)) -> d state / dr`.
      rtol, atol: scalars, which may be traced.
      max_steps: the largest number of attempts. Static.

    Returns:
      The state at `stop`, and the number of evaluations of the denoiser.

    Raises:
      ValueError: a tolerance is not between 0 and 1, or `max_steps` is below 1.
      RuntimeError: `stop` was not reached within `max_steps`. This error is raised at run time, under jit too.
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        checks.require(trees.traced(value) or 0 < value < 1, name, value, "numbers between 0 and 1")
    checks.integer("max_steps", max_steps)
    with jax.transfer_guard("allow"):  # Diffrax makes small constants while JAX traces it
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(_rate_at_r),
            diffrax.Tsit5(),
            t0=start,
            t1=stop,
            dt0=0.01 * (stop - start),
            y0=state,
            args=(_Static(rate), path, extra),
            # Proportional and integral control. With integral control alone, a step whose error estimate happens to
            # vanish is followed by a step ten times as long, and errors reach 90 times the tolerance. With both they
            # reach 10 times the tolerance, with fewer evaluations.
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
    """A function as a static part of a pytree."""

    function: Rate = eqx.field(static=True)


def _rate_at_r(r: Any, state: Any, args: tuple[_Static, Path, Any]) -> Any:
    rate, path, extra = args
    return rate.function(time_at(path, r), state, (path.denoiser, extra))


def _worst_example(errors: tuple[Any, Any]) -> Float[Array, ""]:
    """The norm that decides about a step: the largest error of any example."""
    z, integral = errors
    worst = jnp.sqrt(jnp.max(trees.mean_square(z)))
    return worst if integral is None else jnp.maximum(worst, jnp.max(jnp.abs(integral)))
