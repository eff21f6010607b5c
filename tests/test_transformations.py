"""`grad`, `vmap` and `jit` of a whole sampler, compared with finite differences and loops, in float64.

The differentiated function is a smooth function of the samples of a small network. The finite differences are central,
of fourth order, and along every number of the arguments.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES
from jax.flatten_util import ravel_pytree

import jaxdiff as jd
from jaxdiff import grids, parametrizations, solvers

PROCESS = PROCESSES["vp_cosine"]
KEY = jax.random.key(0)
STEPS = 5


def _apply(params, x, t, cond=0.0):
    hidden = jnp.tanh(x @ params["in"] + jnp.sin(t / 1000)[:, None] * params["time"] + cond)
    return hidden @ params["out"]


def _params():
    rng = np.random.default_rng(1)
    return {"in": rng.normal(size=(2, 6)), "time": rng.normal(size=6), "out": rng.normal(size=(6, 2)) / 2}


def _denoiser(params, cond=0.0):
    return jd.denoisers.from_network(PROCESS, parametrizations.v(), _apply, params, cond)


def _functional(params, tableau):
    """A number that depends on every sample."""
    x = np.random.default_rng(2).normal(size=(3, 2))
    samples = jd.sample(KEY, _denoiser(params), jnp.asarray(x), tableau)
    return jnp.sum(jnp.sin(samples) * jnp.array([1.0, -2.0]) + samples**2)


def _times():
    times = grids.uniform_time(PROCESS, STEPS) * 0.98
    times[-1] = 0.05
    return times


def _check_gradient(function, *at, step=1e-4, rtol=1e-7):
    """Compares `jit(grad(function))` with finite differences along every number of each argument; returns it."""
    flat, rebuild = ravel_pytree(jax.tree.map(jnp.asarray, at))
    assert flat.dtype == jnp.float64
    parts = np.cumsum([ravel_pytree(part)[0].size for part in at])[:-1]

    both = jax.jit(lambda flat: jax.value_and_grad(lambda flat: function(*rebuild(flat)))(flat))

    def difference(i):
        near, far = (both(flat.at[i].add(h))[0] - both(flat.at[i].add(-h))[0] for h in (step, 2 * step))
        return (8 * near - far) / (12 * step)

    differences = np.array([difference(i) for i in range(len(flat))])
    gradient = both(flat)[1]
    for got, want in zip(np.split(gradient, parts), np.split(differences, parts), strict=True):
        scale = np.abs(want).max()
        assert scale > 1e-2
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * scale)
    return rebuild(gradient)


SOLVERS = {
    "ddim": solvers.ddim,
    "ddpm": solvers.ddpm,
    "heun": functools.partial(solvers.heun, coordinate="flow"),
    "dpm_solver_pp 3": functools.partial(solvers.dpm_solver_pp, order=3),
    "sde dpm_solver_pp 2": functools.partial(solvers.dpm_solver_pp, order=2, tau=0.7),
}


@pytest.mark.parametrize("solver", ["heun", "sde dpm_solver_pp 2"])
def test_gradient_of_the_parameters_and_of_the_tableau(solver, x64):
    """With respect to every number of the network and of the tableau. Forward mode agrees with reverse mode."""
    at = jax.tree.map(jnp.asarray, (_params(), SOLVERS[solver](PROCESS, _times())))
    by_params, gradient = _check_gradient(_functional, *at)
    tableau = at[1]
    assert all(np.abs(leaf).max() > 1e-3 for leaf in by_params.values())
    for name in ("times", "state", "history_target"):
        assert np.abs(getattr(gradient, name)).max() > 1e-3, name
    assert np.any(gradient.noise) == bool(tableau.noise.size)
    # Sampling uses the process of the denoiser. The process of the tableau is only compared with it.
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient.process))
    # Along one direction in everything at once.
    flat, rebuild = ravel_pytree(at)
    direction = np.random.default_rng(3).normal(size=flat.shape)
    forward = jax.jit(lambda at: jax.jvp(_functional, at, rebuild(jnp.asarray(direction)))[1])(at)
    reverse = ravel_pytree((by_params, gradient))[0] @ direction
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)


@pytest.mark.parametrize("solver", ["ddpm", "heun", "dpm_solver_pp 3"])
def test_gradient_of_the_times_through_the_solver(solver, x64):
    """Traced times go through the solver, which then computes its coefficients inside `jit`."""
    make, params = SOLVERS[solver], _params()
    _check_gradient(lambda times: _functional(params, make(PROCESS, times)), _times())


@pytest.mark.parametrize("solver", ["ddim", "sde dpm_solver_pp 2"])
def test_gradient_of_the_times_between_singular_ends(solver, x64):
    """From no signal to no noise, where the log-SNR is infinite. The ends are fixed; the times between are differentiated,
    and so are the parameters.
    """
    make = SOLVERS[solver]

    def function(params, inner):
        ends = jnp.array([PROCESS.t_noise]), jnp.array([PROCESS.t_clean])
        return _functional(params, make(PROCESS, jnp.concatenate([ends[0], inner, ends[1]])))

    _check_gradient(function, _params(), _times()[1:-1])


def test_vmap_over_guidance_scales_is_a_loop(x64):
    """One compiled call draws independent samples at every scale, with a key for each."""
    with_cond, without = _denoiser(_params(), np.full(6, 0.5)), _denoiser(_params(), np.zeros(6))
    tableau = solvers.ddpm(PROCESS, _times())
    x = jnp.asarray(np.random.default_rng(4).normal(size=(3, 2)))

    def at(scale, key):
        return jd.sample(key, jd.guidance.classifier_free(with_cond, without, scale), x, tableau)

    scales, keys = jnp.array([0.0, 1.0, 2.5, 7.0]), jax.random.split(KEY, 4)
    one = jax.jit(at)
    alone = np.stack([one(scale, key) for scale, key in zip(scales, keys, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(at))(scales, keys), alone, rtol=1e-12, atol=1e-12)
    assert np.abs(alone[1:] - alone[:-1]).max() > 1e-2


def test_vmap_over_tableaux_is_a_loop(x64):
    """Tableaux of the same shape can be stacked, so that one call tries all of them."""
    x, params = jnp.asarray(np.random.default_rng(5).normal(size=(3, 2))), _params()
    made = [solvers.dpm_solver_pp(PROCESS, _times(), order=2, variant=v) for v in ("exact", "midpoint")]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)

    @jax.jit
    def one(tableau):
        return jd.sample(KEY, _denoiser(params), x, tableau)

    together = jax.jit(jax.vmap(one))(stacked)
    for got, tableau in zip(together, made, strict=True):
        np.testing.assert_allclose(got, one(tableau), rtol=1e-12, atol=1e-12)
    assert np.abs(together[0] - together[1]).max() > 1e-4
