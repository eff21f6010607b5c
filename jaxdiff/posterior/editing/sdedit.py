"""SDEdit: an edit by noising a picture and denoising it anew."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff import trees
from jaxdiff.checks import message
from jaxdiff.denoisers import Denoiser
from jaxdiff.processes import corrupt
from jaxdiff.sampling.scan import sample
from jaxdiff.solvers.tableau import Tableau


def sdedit(key: Key[Array, "*batch"], denoiser: Denoiser, x: PyTree, tableau: Tableau) -> PyTree:
    """Edits data: noises it to the first level of a tableau, and samples from there.

        times = jd.posterior.editing.from_strength(times, 0.6)
        edited = jd.posterior.editing.sdedit(key, denoiser, picture, jd.solvers.dpm_solver_pp(process, times))

    The level decides how much is kept: above it, what the noise hides is drawn anew by the denoiser. Meng et al. 2022
    (SDEdit, arXiv 2108.01073), algorithm 1.

    Args:
      key: one key, or one key per example.
      denoiser: the denoiser of what the edit leads to, such as a guided one.
      x: the data to edit: leaves `[batch, *event]`.
      tableau: a tableau of any solver, on a grid that begins at the level of the edit.

    Returns:
      The edited data, with the shapes of `x`.

    Raises:
      TypeError, ValueError: see `sampling.sample`.
    """
    if not isinstance(tableau, Tableau):
        raise TypeError(message("tableau", tableau, "the tableaux that solvers return"))
    key = trees.as_key(key)
    for_noise, for_sampling = trees.split(key, 2)
    noise = trees.normal_like(for_noise, jax.tree.map(jnp.asarray, x))
    t: Any = tableau.times[0]
    return sample(for_sampling, denoiser, corrupt(denoiser.process, x, noise, t), tableau)
