"""The tableau: how to sample, as a table of numbers.

A solver is linear in what it has seen, so that all of it (DDPM, DDIM, DPM-Solver++, UniPC, Heun with churn, ...) is the
coefficients of a few linear combinations, as a Butcher tableau is a Runge-Kutta method. One row is one evaluation of
the denoiser. The state is a few arrays of the shape of the data, all starting from x_T,

    points   r of them; the last is where the denoiser is asked. r = 1 for one-stage methods; a method that
             must also keep where its step began (a Runge-Kutta stage, a corrector) has r = 2: (base, point)
    H        the last K remembered estimates

and row i, with fresh noise z ~ N(0, I) if the method is stochastic, does

    points'  = state_i . (points, H_0, ..., H_{K-1}) + noise_i z        combine ...
    estimate = denoiser(points'[-1], times_i)                           ... then evaluate
    H'       = (p_i estimate.x0 + q_i estimate.eps, H_0, ..., H_{K-2})  (p_i, q_i) = history_target_i

One more combination, the last, gives the sample: n evaluations have n + 1 combinations.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxdiff import trees
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Process, Times, on_host


@trees.register
@dataclasses.dataclass(frozen=True, eq=False)
class Tableau:
    """The coefficients of a solver over a grid, for `n` evaluations, `r` points and `K` remembered estimates.

    A pytree of numbers, float64 NumPy as the solvers make it. It is an argument of the jitted sampler: two tableaux of
    one shape share one executable. `len(tableau)` is the number of evaluations. `tableau[:k]` stops after k of them,
    before the next combination's denoiser call, and `tableau[k:]` goes on (see `sampling.advance`).

    Attributes:
      process: the process it was made for.
      times: where the denoiser is asked, decreasing but for repeated stages.
      state: the coefficients of the deterministic part.
      noise: the coefficients of the noise; its last axis is empty for deterministic methods, which then draw none.
      history_target: `(p, q)` of what is remembered.
    """

    process: Process
    times: Float[Any, " n"]
    state: Float[Any, "n+1 r r+K"]
    noise: Float[Any, "n+1 r 0_or_1"]
    history_target: Float[Any, "n 2"]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def points(self) -> int:
        """r: how many points the state has."""
        return self.state.shape[1]

    @property
    def history_length(self) -> int:
        """K: how many estimates are remembered."""
        return self.state.shape[2] - self.state.shape[1]

    def __getitem__(self, piece: slice) -> "Tableau":
        """The evaluations of a slice without a stride, as a tableau of their own."""
        if not isinstance(piece, slice) or piece.step not in (None, 1):
            raise TypeError(f"tableau[{piece}]; allowed are slices without a stride")
        start, stop, _ = piece.indices(len(self))
        if stop < start:
            raise ValueError(f"tableau[{piece}] is empty backwards; the tableau has {len(self)} evaluations")
        rows = slice(start, stop + 1)
        return Tableau(
            self.process, self.times[start:stop], self.state[rows], self.noise[rows], self.history_target[start:stop]
        )

    def __str__(self) -> str:
        """One line a row: the combinations that lead to each evaluation."""
        names = [f"x{j}" for j in range(self.points)] if self.points > 1 else ["x"]
        names += [f"H{j}" for j in range(self.history_length)]

        def line(i: int) -> str:
            parts = []
            for r in range(self.points):
                terms = [f"{c:+.6g} {n}" for c, n in zip(self.state[i, r], names, strict=True) if c]
                terms += [f"{c:+.6g} z" for c in self.noise[i, r] if c]
                parts.append(f"{names[r]} <- {' '.join(terms) or '0'}")
            return "; ".join(parts)

        rows = [f"{line(i)}   | ask at t = {self.times[i]:.6g}" for i in range(len(self))]
        return "\n".join(
            [f"Tableau for {type(self.process).__name__}, {len(self)} evaluations", *rows, line(len(self))]
        )


def check_arguments(process: Process, times: Times) -> tuple[Process, Any]:
    """What a solver was given, as it computes with it: in NumPy float64, unless the times are being traced.

    Args:
      times: `[steps + 1]`, strictly decreasing; the last may be `process.t_clean`. Copied.

    Raises:
      TypeError: `process` is not a process, or is being traced when the times are not.
      ValueError: not one axis of at least two times, not decreasing, or outside of the process.
    """
    if isinstance(times, jax.core.Tracer):
        if not isinstance(process, Process):
            raise TypeError(f"process = {process!r}; allowed is a Process, such as jaxdiff.processes.vp_linear()")
    else:
        process, times = on_host(process), np.array(times, np.float64)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times has shape {times.shape}; allowed is [steps + 1] with at least 1 step")
    if isinstance(times, jax.core.Tracer):
        return process, times
    if not np.all(times[1:] < times[:-1]):
        raise ValueError(f"times = {times} do not decrease; time runs from noise to data: {process.t_max} down")
    slack = 1e-5 * (process.t_max - process.t_min)
    low = min(process.t_clean, process.t_min)
    high = min(process.t_max + slack, process.t_noise)
    if times[0] > high or times[-1] < max(low - slack, process.t_clean) or np.isinf(times[0]):
        raise ValueError(
            f"times run from {times[0]} to {times[-1]}; {type(process).__name__} allows {process.t_max} to {low}"
        )
    return process, times


def one_point(
    process: Process, times: Times, x: Any, history: Any, noise: Any = None, target: Any = (1.0, 0.0)
) -> Tableau:
    """The tableau of a method with one point and one evaluation a step, `x_{i+1} = x_i c_i + sum_j memory_ij H_j +
    noise_i z`.

    Args:
      times: `[steps + 1]`.
      x: `[steps]`, the coefficients c.
      history: `[steps, K]`.
      noise: `[steps]`, or None for a deterministic method.
      target: `(p, q)`, constant.
    """
    xp = namespace(times)
    state = xp.concatenate([xp.asarray(x)[:, None], history], axis=1)
    start = xp.eye(1, state.shape[1], dtype=state.dtype)  # the first evaluation is at x_T itself
    noise = xp.zeros((len(state), 0)) if noise is None else xp.asarray(noise)[:, None]
    return Tableau(
        process,
        times=times[:-1],
        state=xp.concatenate([start, state])[:, None],
        noise=xp.concatenate([xp.zeros((1, noise.shape[1])), noise])[:, None],
        history_target=xp.ones((len(state), 1)) * xp.asarray(target),
    )
