"""DAPS: decoupled annealing of a posterior, with Langevin steps that are exact."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, loops, trees
from jaxdiff.arithmetic import namespace
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.jitted import as_pytree, jitted
from jaxdiff.parametrizations import Estimate
from jaxdiff.posterior.conditioned import difference, noise_level, seen
from jaxdiff.posterior.operators.operator import Operator
from jaxdiff.processes import time_of_log_snr
from jaxdiff.solvers.tableau import Grid, check_arguments, check_signal


def daps(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    times: Grid,
    operator: Operator,
    observation: PyTree,
    std: Any,
    *,
    ode_steps: int = 5,
    langevin_steps: int = 100,
    step_size: Any = 0.3,
    norm: Any = 1.0,
    data_std: Any = jnp.inf,
) -> PyTree:
    """Draws samples that answer to an observation `y = A(x0) + std z`, by decoupled annealing (DAPS).

        restored = jd.posterior.daps(key, denoiser, noise, times, operator, y, std=0.05)

    At each time, the probability-flow ODE leads from x_t to a guess m of the data. Then x0 is drawn from the product of
    the likelihood and a normal distribution around the guess, and is noised to the next time:

        x0 ~ N(x0; m, r^2) p(y | x0)        1/r^2 = alpha_t^2/sigma_t^2 + 1/data_std^2
        x_s = alpha_s x0 + sigma_s z

    Zhang et al. 2024 (arXiv 2407.01521), algorithm 1, with `r = sigma_t/alpha_t`. Two things differ from the published
    code. The likelihood has the true noise, `|y - A(x0)|^2 / (2 std^2)`. And each Langevin step is accepted or refused
    by Metropolis' rule, for each example, so that any length of the steps leads to the same distribution:

        x0' = x0 - e grad U(x0) + sqrt(2 e) z        e = step_size / (1/r^2 + norm^2/std^2)

    The steps begin at a draw of N(m, r^2), which is right already where nothing is observed. The samples of a Gaussian
    prior N(mu, data_std^2) are exact with `ode_steps=1`, whose m is the posterior mean.

    All is one scan, with `steps * ode_steps` evaluations of the denoiser, and `steps * (langevin_steps + 1)` of the
    operator with its gradient. The state is float32 or wider.

    Args:
      key: one key, or one key per example.
      denoiser: see `jaxdiff.denoisers`.
      x: the noise to start from, at `times[0]`: leaves `[batch, *event]`.
      times: a grid `[steps + 1]`, decreasing, that begins with some signal; or a number of steps. The paper has 200
        steps of `grids.karras`, from `sigma/alpha = 100` to 0.1.
      operator: A, a function of data `[batch, *event]`, differentiable: an operator of `posterior.operators`, or any
        function. A plain function is static.
      observation: y: leaves of the shapes of `operator(x)`, or with one row for all examples.
      std: the standard deviation of the noise of y, in the units of y: a number, or `[batch]`, above 0. It is a leaf.
      ode_steps: the number of Euler steps of the ODE to the guess. Static.
      langevin_steps: the number of Langevin steps for each time. Static.
      step_size: the length of a Langevin step, relative to the longest stable one's half; it may be traced. With many
        coordinates shorter steps are accepted more often.
      norm: the largest factor by which A lengthens a difference of two x0; it may be traced.
      data_std: the standard deviation of the data, roughly: what is known of x0 without its guess. It may be traced.
        Infinity, the default, is the published choice.

    Returns:
      Samples at `times[-1]`, with the shapes of `x`.

    Raises:
      TypeError: an argument of the wrong type.
      ValueError: arguments that do not fit each other, a grid that begins without signal, or `std` not above 0.
    """
    check_denoiser(denoiser)
    key = trees.as_key(key)
    trees.example_keys(key, trees.batch_size(x))
    trees.check_floating("x", x)
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)
    checks.integer("ode_steps", ode_steps)
    checks.integer("langevin_steps", langevin_steps, least=0)
    for name, value in (("step_size", step_size), ("norm", norm)):
        if not trees.traced(value):
            checks.positive(name, value)
    process, times = check_arguments(denoiser.process, times, signal=True)
    check_signal(process, times, "a grid such as grids.karras(process, steps)")

    xp, alpha, sigma = namespace(times), process.alpha(times), process.sigma(times)
    rho = sigma[:-1] / alpha[:-1]
    # The ODE goes down from each level to the lowest one, in equal steps of rho^(1/7), and from there to the data.
    share = xp.linspace(0.0, 1.0, int(ode_steps))
    inner = (rho[:, None] ** (1 / 7) * (1 - share) + rho[-1] ** (1 / 7) * share) ** 7
    inner = time_of_log_snr(process, -2 * xp.log(inner))
    table = (inner, process.alpha(inner), process.sigma(inner), rho, alpha[1:], sigma[1:])
    target = (as_pytree(operator), seen(operator, observation), noise_level(std, zero=False))
    numbers = (step_size, norm, data_std)
    return _run(key, denoiser, x, target, table, numbers, langevin_steps=int(langevin_steps))


@jitted
def _run(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    target: tuple[Any, PyTree, Float[Array, "*batch"]],
    table: tuple[Any, ...],
    numbers: tuple[Any, Any, Any],
    *,
    langevin_steps: int,
) -> PyTree:
    times, alpha, sigma, rho, alpha_next, sigma_next = map(jnp.asarray, table)
    operator, observation, std = target
    step_size, norm, data_std = numbers

    def guess(x: PyTree, i: Any) -> PyTree:
        """The end of the ODE from x at level i."""

        def euler(carry: tuple[PyTree, PyTree], j: Any) -> tuple[tuple[PyTree, PyTree], None]:
            estimate = denoiser(carry[0], times[i, j])
            trees.check_alike("the denoiser's estimate", estimate, Estimate(x, x))
            below = jnp.minimum(j + 1, times.shape[1] - 1)
            moved = trees.lincomb((alpha[i, below], sigma[i, below]), estimate)
            return (trees.cast_like(moved, x), trees.cast_like(estimate.x0, x)), None

        return loops.scan(euler, (x, x), jnp.arange(times.shape[1]))[0][1]

    def level(x: PyTree, i: Any) -> tuple[PyTree, None]:
        own, to_next = trees.split(trees.fold_in(key, i), 2)
        centre = guess(x, i)
        precision = 1 / rho[i] ** 2 + 1 / data_std**2

        def energy(x0: PyTree) -> tuple[Float[Array, " batch"], PyTree]:
            """The negative log-density of each example up to a constant, and its gradient."""

            def total(x0: PyTree) -> tuple[Any, Float[Array, " batch"]]:
                away, missed = trees.lincomb((1.0, -1.0), (x0, centre)), difference(observation, operator(x0))
                each = trees.inner(away, away) * precision / 2 + trees.inner(missed, missed) / (2 * std**2)
                return jnp.sum(each), each

            slope, each = jax.grad(total, has_aux=True)(x0)
            return each, slope

        length = step_size / (precision + (norm / std) ** 2)
        begin = trees.normal_like(trees.fold_in(own, langevin_steps), x)
        begin = trees.cast_like(trees.lincomb((1.0, precision**-0.5), (centre, begin)), x)
        x0, *_ = langevin(own, energy, begin, length, langevin_steps)
        z = trees.normal_like(to_next, x)
        return trees.cast_like(trees.lincomb((alpha_next[i], sigma_next[i]), (x0, z)), x), None

    return loops.scan(level, x, jnp.arange(len(rho)))[0]


def langevin(
    key: Key[Array, "*batch"],
    energy: Callable[[PyTree], tuple[Float[Array, " batch"], PyTree]],
    x: PyTree,
    length: Any,
    steps: int,
) -> tuple[PyTree, Float[Array, " batch"], PyTree]:
    """Langevin steps with Metropolis' rule, for each example of a batch on its own.

        x' = x - e grad U(x) + sqrt(2 e) z
        accepted with probability min(1, exp(U(x) - U(x') + |z|^2/2 - |x - x' + e grad U(x')|^2/(4 e)))

    They keep the density `exp(-U)` exactly. Roberts & Tweedie 1996 (MALA), section 1.4.

    Args:
      key: one key, or one key per example. Step j draws with `fold_in(key, j)`.
      energy: U with its gradient, of each example.
      x: where the steps begin.
      length: the length e, a number or `[batch]`.
      steps: the number of steps.

    Returns:
      The last x, and its energy and gradient.
    """

    def step(carry: Any, j: Any) -> tuple[Any, None]:
        x, value, slope = carry
        for_move, for_choice = trees.split(trees.fold_in(key, j), 2)
        z = trees.normal_like(for_move, x)
        moved = trees.cast_like(trees.lincomb((1.0, -length, jnp.sqrt(2 * length)), (x, slope, z)), x)
        new, new_slope = energy(moved)
        back = trees.lincomb((1.0, -1.0, length), (x, moved, new_slope))
        log_ratio = value - new + trees.inner(z, z) / 2 - trees.inner(back, back) / (4 * length)
        taken = jnp.log(1 - trees.uniform(for_choice, value.shape[0], value.dtype)) < log_ratio
        arrived = moved, new, new_slope
        return jax.tree.map(lambda a, b: jnp.where(trees.expand(taken, a), a, b), arrived, carry), None

    return loops.scan(step, (x, *energy(x)), jnp.arange(steps))[0]
