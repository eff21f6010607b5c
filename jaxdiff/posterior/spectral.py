"""Samplers whose steps go coordinate by coordinate in the singular vectors of an operator: one scan.

`ddrm` and `ddnm_plus` have a rule each. A rule is a function of one leaf of the coordinates. It says what a step does
for a given singular value. The function is static, and its numbers are leaves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import loops, trees
from jaxdiff.arithmetic import root
from jaxdiff.checks import message
from jaxdiff.denoisers import Denoiser, check_denoiser
from jaxdiff.jitted import jitted
from jaxdiff.posterior.observations import check_observation, check_std, seen
from jaxdiff.posterior.operators.operator import Spectral
from jaxdiff.processes import Times
from jaxdiff.solvers.tableau import check_times


class Step(NamedTuple):
    """The numbers of a step from t to s.

    Attributes:
      alpha, sigma: those of s.
      kept, mean, fresh: the coefficients of x_t, of x0 and of fresh noise in the ancestral step (`solvers.ddpm`).
    """

    alpha: Any
    sigma: Any
    kept: Any
    mean: Any
    fresh: Any


class Coordinates(NamedTuple):
    """One leaf of the coordinates.

    Attributes:
      x: those of x_t.
      x0: those of the estimate of the data.
      eps: those of the estimate of the noise.
      z: those of fresh noise.
      y: `U^T y`, those of the observation times the singular values.
    """

    x: Array
    x0: Array
    eps: Array
    z: Array
    y: Array


# `(numbers, step, singular values, std, coordinates) -> coordinates of x_s`.
Rule = Callable[[tuple[Any, ...], Step, Array, Array, Coordinates], Array]
# `(step, singular values, std, z, y) -> coordinates of the start`, for standard normal z.
Start = Callable[[Step, Array, Array, Array, Array], Array]


def sample(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    operator: Spectral,
    observation: PyTree,
    std: Any,
    times: Times,
    numbers: tuple[Any, ...],
    rule: Rule,
    start: Start | None = None,
) -> PyTree:
    """Checks the arguments and takes all steps.

    Raises:
      TypeError: an argument of the wrong type, or an operator without a singular value decomposition.
      ValueError: arguments that do not fit each other.
    """
    check_denoiser(denoiser)
    if not hasattr(operator, "vt"):
        allowed = "operators with a singular value decomposition, such as operators.mask(...) and operators.blur(...)"
        raise TypeError(message("operator", operator, allowed))
    key, size = trees.as_key(key), trees.batch_size(x)
    if key.ndim and key.shape != (size,):
        raise ValueError(message("key.shape", key.shape, f"() and ({size},), one key per example of x"))
    trees.check_floating("x", x)
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, trees.wide(leaf)), x)
    process, times = check_times(denoiser.process, times)
    alpha, sigma = process.alpha(times), process.sigma(times)
    decay = alpha[:-1] * sigma[1:] / (alpha[1:] * sigma[:-1])  # e^{-h}
    ancestral = (sigma[1:] / sigma[:-1] * decay, alpha[1:] * (1 - decay**2), sigma[1:] * root(1 - decay**2))
    none = np.zeros(())
    first = Step(alpha[0], sigma[0], none, none, none)
    steps = Step(alpha[1:], sigma[1:], *ancestral)
    given = (operator, seen(operator, observation), check_std(std, zero=True))
    return _scan(key, denoiser, x, *given, times[:-1], first, steps, numbers, rule=rule, start=start)


@jitted
def _scan(
    key: Key[Array, "*batch"],
    denoiser: Denoiser,
    x: PyTree,
    operator: Spectral,
    observation: PyTree,
    std: Float[Array, "*batch"],
    times: Any,
    first: Step,
    steps: Step,
    numbers: tuple[Any, ...],
    *,
    rule: Rule,
    start: Start | None,
) -> PyTree:
    times, steps = jax.tree.map(jnp.asarray, (times, steps))
    check_observation(observation, jax.eval_shape(operator, x))
    y = operator.ut(observation)
    values = operator.singular_values(operator.vt(x))

    if start is not None:
        z = operator.vt(trees.lincomb((1 / first.sigma,), (x,)))
        z = jax.tree.map(lambda s, z, y: start(first, s, trees.expand(std, z), z, y), values, z, y)
        x = trees.cast_like(operator.v(z), x)

    def step(x: PyTree, i: Any) -> tuple[PyTree, None]:
        x0, eps = denoiser(x, times[i])
        # The noise of `sample` for the same keys.
        z = trees.normal_like(trees.fold_in(key, i + 1), x)
        sides = [operator.vt(side) for side in (x, x0, eps, z)]
        here = jax.tree.map(lambda column: column[i], steps)

        def moved(s: Array, y: Array, x: Array, x0: Array, eps: Array, z: Array) -> Array:
            return rule(numbers, here, s, trees.expand(std, y), Coordinates(x, x0, eps, z, y))

        return trees.cast_like(operator.v(jax.tree.map(moved, values, y, *sides)), x), None

    return loops.scan(step, x, jnp.arange(len(times)))[0]
