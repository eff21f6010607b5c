"""GITS: a grid that follows the curvature of the model's own trajectories."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdiff import checks, trees
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.grids.arguments import host_process, ratio
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
    """The best `steps` out of `teacher_steps` for one denoiser, by dynamic programming.

    A teacher, DPM-Solver++ of order 3, takes `x` from `t_max` to `t_min` over `teacher_steps + 1` points. The cost
    `c_ij` is the distance between point j and the end of a single Euler step from point i to the time of point j,
    averaged over the batch. The grid is the path `0 = i_0 < i_1 < ... < i_steps = teacher_steps` with the least

        c_{i_0 i_1} + coefficient c_{i_1 i_2} + coefficient^2 c_{i_2 i_3} + ...

    Chen et al. 2024 (arXiv 2405.11326). Two choices differ from the paper, so that only the noise levels of a process
    matter. Distances are Euclidean in the variance-preserving scale `x/sqrt(alpha^2 + sigma^2)`. The teacher takes
    equal steps in the angle a with `sigma/alpha = tan(a)^2`. This angle is finite from no signal to no noise, and its
    steps are fine at both ends. The function calls the denoiser, and so cannot be used inside `jit`.

    Args:
      denoiser: the denoiser that will be sampled, with its guidance. It passes through `jax.jit` as an argument.
      x: noise at `t_max` from `prior_sample`, leaves `[n, *event]`; 256 examples in the paper. All estimates of the
        teacher are kept, so the memory is `2 teacher_steps` times the memory of x.
      teacher_steps: the number of steps to choose from, and the number of evaluations of the denoiser.
      coefficient: the factor of the errors from one step of the path to the next. Above 1, late errors count more.

    Raises:
      TypeError: `denoiser` is not a denoiser.
      ValueError: more steps than the teacher has, a coefficient that is not positive, or a denoiser that is made for
        another process or gives estimates that are not finite.
    """
    process = host_process(process, steps)
    checks.integer("teacher_steps", teacher_steps, least=steps)
    checks.positive("coefficient", coefficient)
    check_denoiser(denoiser)
    good = same_process(denoiser.process, process)
    checks.require(good, "denoiser.process", denoiser.process, f"processes like that of the grid, {process}")
    times = _teacher_times(process, teacher_steps)
    scales = np.stack([process.alpha(times[1:]), process.sigma(times[1:])], axis=-1)
    arguments = jax.device_put((denoiser, x, dpm_solver_pp(process, times, order=3), scales))
    costs = np.asarray(jax.device_get(_costs(*arguments)), np.float64)
    allowed = "denoisers with finite estimates along the whole path of the teacher"
    checks.require(np.isfinite(costs).all(), "type(denoiser)", type(denoiser).__name__, allowed)
    return times[best_path(costs, steps, coefficient)]


def _teacher_times(process: Process, steps: int) -> Times:
    """Returns `steps + 1` times from `t_max` to `t_min`, with equal steps of `arctan sqrt(sigma/alpha)`."""
    first, last = (np.arctan(np.sqrt(ratio(process, t))) for t in (process.t_max, process.t_min))
    inner = np.linspace(first, last, steps + 1)[1:-1]
    return np.concatenate([[process.t_max], time_of_log_snr(process, -4 * np.log(np.tan(inner))), [process.t_min]])


@jax.jit
def _costs(denoiser: Denoiser, x: PyTree, tableau: Tableau, scales: Float[Array, "n 2"]) -> Float[Array, "n n"]:
    """Returns `c[i, j]`, the cost of an Euler step from point i to point j + 1 of the teacher, for `i <= j`; else 0.

    One pair of points is worked on at a time, so that nothing larger than the teacher's trajectory is kept.

    Args:
      tableau: the teacher.
      scales: `(alpha, sigma)` at the teacher's points without the first one.
    """
    end, (_, estimates) = sample(jax.random.key(0), denoiser, x, tableau, trajectory=True)
    scales, n = jnp.asarray(scales), len(scales)

    def cost(i: Any, j: Any) -> Any:
        def estimate(index: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf[index], estimates)

        alpha, sigma = scales[j]
        norm = 1 / jnp.hypot(alpha, sigma)
        point = trees.lincomb((alpha, sigma), estimate(jnp.minimum(j + 1, n - 1)))
        point = jax.tree.map(lambda last, inner: jnp.where(j == n - 1, last, inner), end, point)
        difference = trees.lincomb((norm * alpha, norm * sigma, -norm), (*estimate(i), point))
        return jnp.mean(jnp.sqrt(trees.mean_square(difference)))

    pairs = np.triu_indices(n)
    return jnp.zeros((n, n)).at[pairs].set(jax.lax.map(lambda pair: cost(*pair), pairs))


def best_path(costs: Float[np.ndarray, "n n"], steps: int, coefficient: float) -> list[int]:
    """Returns the indices `0 = i_0 < ... < i_steps = n` with the least `sum_k coefficient^k costs[i_k, i_{k+1} - 1]`.

    The dynamic programme runs from the end: `V_1(i) = c_{in}` and `V_k(i) = min_j c_ij + coefficient V_{k-1}(j)`.
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
