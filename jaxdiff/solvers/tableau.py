"""A tableau: the table of numbers that says how to sample.

Solvers differ in which states and estimates they add up, and with which coefficients. All solvers of this library
(DDPM, DDIM, DPM-Solver++, UniPC, Heun with churn, ...) can therefore be written as a table of coefficients, as a
Runge-Kutta method is written as its Butcher tableau. A sampler reads the table row by row and evaluates the denoiser
once per row.

The sampler keeps two lists of arrays. Each array has the shape of the data, and all start as the initial noise:

    points     r arrays. The denoiser is evaluated at the last one. Most methods have r = 1. A method that needs the
               start of its step again (a Runge-Kutta stage, a corrector) has r = 2: the base and the point.
    history    K arrays: the last K estimates, the newest first.

Row i changes both lists. First it combines their arrays into new points, with fresh standard normal noise z:

    points = state[i] @ (points, history) + noise[i] * z

Then it evaluates the denoiser at the last point:

    x0, eps = denoiser(points[-1], times[i])

Finally it puts the new estimate at the front of the history and drops the oldest one:

    p, q = history_target[i]
    history = (p * x0 + q * eps, history[0], ..., history[K - 2])

After n rows one more combination, with `state[n]` and `noise[n]`, makes the sample: the last point. A table for n
evaluations therefore has n + 1 combinations. In DDIM, for example, r = K = 1 and the history holds x0. The combination
that takes the point from time t to time s has the coefficients

    state[i + 1] = [[sigma_s/sigma_t, alpha_s - alpha_t sigma_s/sigma_t]]

DDIM reads the noise of a point from the point itself, as `eps = (x - alpha_t x0)/sigma_t`. Such a tableau has the form
"solve", and needs denoisers whose pairs are consistent, `x = alpha x0 + sigma eps`. A tableau of the form "renoise"
takes the noise from the estimate alone. Its history holds `alpha_s x0 + sigma_s eps`, and its points have the
coefficient 0 after an evaluation.
"""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Annotated, Any, Literal, SupportsIndex

import numpy as np
from jaxtyping import Float

from jaxdiff import trees
from jaxdiff.arithmetic import namespace
from jaxdiff.checks import message, require
from jaxdiff.components import Choices
from jaxdiff.grids.own import own
from jaxdiff.processes import Process, Times, on_host

# The times of a solver: a grid, or the number of steps of the solver's own grid (`grids.own`). It is no `int`, so that
# NumPy's integers count, and so that it is no setting of a solver in JSON.
Grid = Times | SupportsIndex


@trees.register
@dataclasses.dataclass(frozen=True, eq=False)
class Tableau(trees.ByValue):
    """The coefficients of a solver on a grid, for n evaluations, r points and a history of K estimates.

    A tableau is a pytree of numbers; solvers make them in NumPy float64. It is an argument of the jitted sampler, so
    two tableaux of one shape share one compiled program. `len(tableau)` is the number of evaluations. `tableau[:k]`
    holds the first k evaluations and `tableau[k:]` the others (see `sampling.advance`). Tableaux with the same numbers
    are equal.

    Attributes:
      process: the process that the tableau was made for.
      times: the times at which the denoiser is evaluated. They decrease, except that stages may share a time.
      state: the coefficients of the points and of the history.
      noise: the coefficients of the noise. The last axis is empty for deterministic methods, which draw no noise.
      history_target: `(p, q)`: the history holds `p x0 + q eps`.
      form: "renoise" if the noise comes from the estimates alone, so that their pairs need not be consistent; static.
    """

    process: Process
    times: Float[Any, " n"]
    state: Float[Any, "n+1 r r+K"]
    noise: Float[Any, "n+1 r 0_or_1"]
    history_target: Float[Any, "n 2"]
    form: Literal["solve", "renoise"] = dataclasses.field(default="solve", metadata={"static": True})

    def __len__(self) -> int:
        return len(self.times)

    @property
    def points(self) -> int:
        """r, the number of points."""
        return self.state.shape[1]

    @property
    def history_length(self) -> int:
        """K, the number of estimates in the history."""
        return self.state.shape[2] - self.state.shape[1]

    def __getitem__(self, piece: slice) -> "Tableau":
        """The evaluations of a slice without a stride, as a tableau of their own."""
        if not isinstance(piece, slice) or piece.step not in (None, 1):
            raise TypeError(message("the index of a tableau", piece, "slices without a stride"))
        start, stop, _ = piece.indices(len(self))
        require(
            start <= stop, "the index of a tableau", piece, f"slices from a lower to a higher index, up to {len(self)}"
        )
        rows = slice(start, stop + 1)
        return dataclasses.replace(
            self,
            times=self.times[start:stop],
            state=self.state[rows],
            noise=self.noise[rows],
            history_target=self.history_target[start:stop],
        )

    def __str__(self) -> str:
        """One line per row: the combination, and the time of the evaluation that follows it."""
        names = [f"x{j}" for j in range(self.points)] if self.points > 1 else ["x"]
        names += [f"H{j}" for j in range(self.history_length)]

        def line(i: int) -> str:
            parts = []
            for r in range(self.points):
                terms = [f"{c:+.6g} {n}" for c, n in zip(self.state[i, r], names, strict=True) if c]
                terms += [f"{c:+.6g} z" for c in self.noise[i, r] if c]
                parts.append(f"{names[r]} <- {' '.join(terms) or '0'}")
            return "; ".join(parts)

        rows = [f"{line(i)}   | evaluate at t = {self.times[i]:.6g}" for i in range(len(self))]
        return "\n".join(
            [f"Tableau for {type(self.process).__name__}, {len(self)} evaluations", *rows, line(len(self))]
        )


# A function `(process, times, **options) -> Tableau`.
Solver = Callable[..., Tableau]

# The solver that another solver is made of, as an option: any function `(process, times) -> Tableau`, such as `heun`,
# `functools.partial(heun, coordinate="flow")` or `choose(heun, coordinate="flow")`.
SolverChoice = Annotated[Solver, Choices("jaxdiff.solvers", ("process", "times"))]


def check_solver(solver: Any) -> None:
    """Raises a TypeError unless `solver` is callable."""
    require(callable(solver), "solver", solver, "functions (process, times) -> Tableau, such as heun", TypeError)


def check_arguments(
    process: Process, times: Grid, *, signal: bool = False, finite: bool = False
) -> tuple[Process, Any]:
    """Checks the arguments of a solver and converts them to NumPy float64, unless the times are traced.

    Args:
      times: `[steps + 1]`, strictly decreasing, the last time may be `process.t_clean`; or a number of steps.
      signal: whether the solver's own grid must begin with some signal.
      finite: whether the solver's own grid must also end at a finite time.

    Returns:
      The process and a copy of the times.

    Raises:
      TypeError: `process` is not a process, or its numbers are traced while the times are not.
      ValueError: `times` is neither a valid grid nor a number of at least 1, or reaches outside the process.
    """
    if isinstance(times, numbers.Integral):
        times = own(process, times, signal=signal, finite=finite)
    return check_times(process, times)


def check_times(process: Process, times: Times) -> tuple[Process, Any]:
    """Checks a grid as `check_arguments` does, and takes no number of steps in its place."""
    valid = "grids of one axis, at least two values, strictly decreasing"
    if trees.traced(times):
        if not isinstance(process, Process):
            raise TypeError(message("process", process, "processes, such as jaxdiff.processes.vp_linear()"))
        require(times.ndim == 1 and len(times) >= 2, "times.shape", times.shape, valid)
        return process, times
    process, times = on_host(process), np.array(times, np.float64)
    good = times.ndim == 1 and len(times) >= 2 and np.all(times[1:] < times[:-1])
    require(good, "times", times, f"{valid} (time runs from noise, {process.t_max}, to data)")
    slack = 1e-5 * (process.t_max - process.t_min)
    low = min(process.t_clean, process.t_min)
    high = min(process.t_max + slack, process.t_noise)
    outside = times[0] > high or times[-1] < max(low - slack, process.t_clean) or np.isinf(times[0])
    allowed = f"times of {type(process).__name__}, from {process.t_max} down to {low}"
    require(not outside, "times", times, allowed)
    return process, times


def check_signal(process: Process, times: Times, instead: str) -> None:
    """Raises a ValueError where the grid begins without signal, for methods that divide by alpha.

    Args:
      process: the process on the host.
      times: the grid. Nothing is known of traced times.
      instead: another choice, as the end of the sentence "without signal use ...".
    """
    if not trees.traced(times) and np.min(process.alpha(times)) <= 0:
        raise ValueError(f"times[0] = {times[0]:g}; allowed are times with alpha > 0; without signal use {instead}")


def one_point(
    process: Process, times: Times, x: Any, history: Any, noise: Any = None, target: tuple[float, float] = (1.0, 0.0)
) -> Tableau:
    """The tableau of a method with one point and one evaluation per step.

        x_{i+1} = x[i] x_i + sum_j history[i, j] H_j + noise[i] z

    Args:
      times: `[steps + 1]`.
      x: `[steps]`, the coefficients of the point.
      history: `[steps, K]`, the coefficients of the history.
      noise: `[steps]`, or None for a deterministic method.
      target: `(p, q)`: the history holds `p x0 + q eps`.
    """
    xp = namespace(times)
    state = xp.concatenate([xp.asarray(x)[:, None], history], axis=1)
    start = xp.eye(1, state.shape[1], dtype=state.dtype)  # the first evaluation is at the initial noise itself
    noise = xp.zeros((len(state), 0)) if noise is None else xp.asarray(noise)[:, None]
    return Tableau(
        process,
        times=times[:-1],
        state=xp.concatenate([start, state])[:, None],
        noise=xp.concatenate([xp.zeros((1, noise.shape[1])), noise])[:, None],
        history_target=xp.ones((len(state), 1)) * xp.asarray([target]),
    )
