"""How far an edit goes back towards the noise."""

from typing import Any

import numpy as np

from jaxdiff import checks, trees
from jaxdiff.arithmetic import namespace
from jaxdiff.processes import Times


def from_strength(times: Times, strength: Any) -> Times:
    """The grid of an edit: the part of a grid after a share of it, in as many steps.

    The grid begins `strength` of the way from its last level with noise to its first level, counted in steps. A
    strength of 1 is the whole grid, which edits like a sampler that starts from noise. A strength near 0 begins at the
    last level. Every strength has the same number of steps, so that another strength compiles nothing.

        times = jd.posterior.editing.from_strength(jd.grids.karras(process, 20), 0.6)

    The levels between those of the grid are interpolated linearly in time.

    Args:
      times: a grid `[steps + 1]`, decreasing, with two steps or more.
      strength: a number above 0 and up to 1.

    Raises:
      ValueError: `strength` is outside of (0, 1], or the grid has a single step.
    """
    if not trees.traced(strength):
        checks.fraction("strength", strength)
        checks.require(strength > 0, "strength", strength, "numbers above 0 and up to 1; 0 leaves nothing to do")
    times = times if trees.traced(times) else np.asarray(times, np.float64)
    checks.require(
        np.ndim(times) == 1 and len(times) > 2, "times.shape", np.shape(times), "[steps + 1], two steps or more"
    )
    xp, last = namespace(times), len(times) - 2
    # The last step, which may lead to a time of minus infinity, stays whole.
    places = xp.arange(last + 1) * strength + last * (1 - strength)
    inner = xp.interp(places, xp.arange(last + 1) * 1.0, times[:-1])
    return xp.concatenate([inner, times[-1:]])
