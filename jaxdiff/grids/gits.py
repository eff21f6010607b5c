"""GITS: the grid that follows the curvature of a model's own trajectories."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import trees
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.grids.checks import check_positive, check_process_and_steps, ratio
from jaxdiff.processes import Process, Times, same_process, time_of_log_snr
from jaxdiff.sampling import sample
from jaxdiff.solvers import Tableau, dpm_solver_pp


def gits(
    process: Process,
    steps: int,
    denoiser: Denoiser,
    x: PyTree,
    *,
    teacher_steps: int = 60,
    coefficient: float = 1.15,
) -> Times:
    """The best `steps` of `teacher_steps` for this denoiser, by dynamic programming.

    A teacher, DPM-Solver++ of order 3, takes `x` from `t_max` to `t_min` over `teacher_steps + 1` points. The cost
    `c_ij` is how far a single Euler step from its point i to the time of its point j lands from its point j, averaged
    over the batch, and the grid is the path `0 = i_0 < i_1 < ... < i_steps = teacher_steps` with the least

        c_{i_0 i_1} + coefficient c_{i_1 i_2} + coefficient^2 c_{i_2 i_3} + ...

    Chen et al. 2024 (arXiv 2405.11326). Two choices are made here so that only the noise levels of a process matter:
    distances are Euclidean in the variance-preserving scale `x/sqrt(alpha^2 + sigma^2)`, and the teacher takes equal
    steps in the angle a with `sigma/alpha = tan(a)^2`, which is finite from no signal to no noise and fine at both.
    The denoiser is called here: not inside of `jit`.

    Args:
      denoiser: what will be sampled, with its guidance. It passes through `jax.jit` as an argument.
      x: noise at `t_max` to try it on, leaves `[n, *event]`, from `prior_sample`; 256 examples in the paper. All that
        is estimated on the way is kept: memory is `2 teacher_steps` times that of x.
      teacher_steps: how many steps there are to choose from; the denoiser is called as often.
      coefficient: above 1, errors late on the path count more.

    Raises:
      TypeError: not a denoiser.
      ValueError: more steps than the teacher's, a coefficient that is not positive, a denoiser of another process or
        one whose estimates are not finite.
    """
    process = check_process_and_steps(process, steps)
    if isinstance(teacher_steps, bool) or not isinstance(teacher_steps, int | np.integer) or teacher_steps < steps:
        raise ValueError(f"teacher_steps = {teacher_steps!r}; allowed are integers of at least steps = {steps}")
    check_positive("coefficient", coefficient)
    check_denoiser(denoiser)
    if not same_process(denoiser.process, process):
        raise ValueError(f"denoiser is for {denoiser.process}; allowed are those for the grid's own process, {process}")
    times = _teacher_times(process, teacher_steps)
    pair = np.stack([process.alpha(times[1:]), process.sigma(times[1:])], axis=-1)
    costs = np.asarray(_costs(denoiser, x, dpm_solver_pp(process, times, order=3), pair), np.float64)
    if not np.isfinite(costs).all():
        raise ValueError(
            f"denoiser = {type(denoiser).__name__} does not give finite estimates all along the teacher's path; "
            "allowed are those that do"
        )
    return times[best_path(costs, steps, coefficient)]


def _teacher_times(process: Process, steps: int) -> Times:
    """`steps + 1` times from `t_max` to `t_min` at equal steps of `arctan sqrt(sigma/alpha)`."""
    first, last = (np.arctan(np.sqrt(ratio(process, t))) for t in (process.t_max, process.t_min))
    inner = np.linspace(first, last, steps + 1)[1:-1]
    return np.concatenate([[process.t_max], time_of_log_snr(process, -4 * np.log(np.tan(inner))), [process.t_min]])


@jax.jit
def _costs(denoiser: Denoiser, x: PyTree, tableau: Tableau, arrivals: Float[Array, "n 2"]) -> Float[Array, "n n"]:
    """`c[i, j]`: the cost of an Euler step from point i to point j + 1 of the teacher's, `i <= j`; 0 elsewhere.

    One pair of points is worked on at a time: nothing larger than the teacher's trajectory is kept.

    Args:
      tableau: the teacher.
      arrivals: `(alpha, sigma)` at its points but the first.
    """
    end, (_, estimates) = sample(jax.random.key(0), denoiser, x, tableau, trajectory=True)
    arrivals, n = jnp.asarray(arrivals), len(arrivals)

    def cost(i: Any, j: Any) -> Any:
        def seen(index: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf[index], estimates)

        alpha, sigma = arrivals[j]
        scale = 1 / jnp.hypot(alpha, sigma)
        point = trees.lincomb((alpha, sigma), seen(jnp.minimum(j + 1, n - 1)))
        point = jax.tree.map(lambda last, inner: jnp.where(j == n - 1, last, inner), end, point)
        missed = trees.lincomb((scale * alpha, scale * sigma, -scale), (*seen(i), point))
        return jnp.mean(jnp.sqrt(trees.mean_square(missed)))

    pairs = np.triu_indices(n)
    return jnp.zeros((n, n)).at[pairs].set(jax.lax.map(lambda pair: cost(*pair), pairs))


def best_path(costs: Float[np.ndarray, "n n"], steps: int, coefficient: float) -> list[int]:
    """The indices `0 = i_0 < ... < i_steps = n` with the least `sum_k coefficient^k costs[i_k, i_{k+1} - 1]`.

    By dynamic programming from the end: `V_1(i) = c_{in}` and `V_k(i) = min_j c_ij + coefficient V_{k-1}(j)`.
    """
    n = len(costs)
    step = np.full((n + 1, n + 1), np.inf)
    step[:-1, 1:] = np.where(np.triu(np.ones((n, n), bool)), costs, np.inf)
    value, choices = step[:, -1], []
    for _ in range(steps - 1):
        total = step + coefficient * value
        choices.append(total.argmin(axis=1))
        value = total.min(axis=1)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return [*path, n]
