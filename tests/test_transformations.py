"""`grad`, `vmap` and `jit` of a whole sampler, against finite differences and loops, in float64.

The functional is a smooth function of the samples of a small network. Finite differences are central ones of fourth
order, along every number of what is differentiated.
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
    """A number that every sample has a part in."""
    x = np.random.default_rng(2).normal(size=(3, 2))
    samples = jd.sample(KEY, _denoiser(params), jnp.asarray(x), tableau)
    return jnp.sum(jnp.sin(samples) * jnp.array([1.0, -2.0]) + samples**2)


def _times(end=None):
    times = grids.uniform_time(PROCESS, STEPS) * 0.98
    times[-1] = 0.05 if end is None else end
    return times


def _check_gradient(function, at, step=1e-4, rtol=1e-7):
    """Holds `jit(grad(function))` at a pytree against finite differences along every one of its numbers."""
    flat, rebuild = ravel_pytree(jax.tree.map(jnp.asarray, at))
    assert flat.dtype == jnp.float64

    both = jax.jit(lambda flat: jax.value_and_grad(lambda flat: function(rebuild(flat)))(flat))

    def difference(i):
        near, far = (both(flat.at[i].add(h))[0] - both(flat.at[i].add(-h))[0] for h in (step, 2 * step))
        return (8 * near - far) / (12 * step)

    differences = np.array([difference(i) for i in range(len(flat))])
    gradient = both(flat)[1]
    scale = np.abs(differences).max()
    assert scale > 1e-2
    np.testing.assert_allclose(gradient, differences, rtol=rtol, atol=rtol * scale)
    return rebuild(gradient)


SOLVERS = {
    "ddim": solvers.ddim,
    "ddpm": solvers.ddpm,
    "heun": functools.partial(solvers.heun, coordinate="flow"),
    "dpm_solver_pp 3": functools.partial(solvers.dpm_solver_pp, order=3),
    "sde dpm_solver_pp 2": functools.partial(solvers.dpm_solver_pp, order=2, tau=0.7),
}


@pytest.mark.parametrize("solver", ["heun", "sde dpm_solver_pp 2"])
def test_gradient_of_the_tableau(solver, x64):
    """With respect to all of its numbers: points, memory, noise, what is remembered, and where the denoiser is asked."""
    tableau = SOLVERS[solver](PROCESS, _times())
    gradient = _check_gradient(functools.partial(_functional, _params()), tableau)
    for name in ("times", "state", "history_target"):
        assert np.abs(getattr(gradient, name)).max() > 1e-3, name
    assert np.any(gradient.noise) == bool(tableau.noise.size)
    # The numbers of the process are the denoiser's to use, not the tableau's.
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient.process))


@pytest.mark.parametrize("solver", ["ddpm", "heun", "dpm_solver_pp 3"])
def test_gradient_of_the_times_through_the_solver(solver, x64):
    """Learning a grid: traced times through the solver, which makes its coefficients inside of `jit`."""
    make, params = SOLVERS[solver], _params()
    _check_gradient(lambda times: _functional(params, make(PROCESS, times)), _times())


@pytest.mark.parametrize("solver", ["ddim", "sde dpm_solver_pp 2"])
def test_gradient_of_the_times_between_singular_ends(solver, x64):
    """From no signal to no noise, where log-SNR is infinite: the ends are held, the times between have derivatives."""
    make, params = SOLVERS[solver], _params()

    def of_inner(inner):
        ends = jnp.array([PROCESS.t_noise]), jnp.array([PROCESS.t_clean])
        return _functional(params, make(PROCESS, jnp.concatenate([ends[0], inner, ends[1]])))

    _check_gradient(of_inner, _times()[1:-1])


@pytest.mark.parametrize("solver", ["ddpm", "heun"])
def test_gradient_of_the_parameters(solver, x64):
    tableau = SOLVERS[solver](PROCESS, _times(PROCESS.t_clean))
    gradient = _check_gradient(lambda params: _functional(params, tableau), _params())
    assert all(np.abs(leaf).max() > 1e-3 for leaf in gradient.values())


def test_forward_and_reverse_mode_agree(x64):
    """Along one direction in everything at once."""
    at = jax.tree.map(jnp.asarray, (_params(), solvers.dpm_solver_pp(PROCESS, _times(), order=2)))
    flat, rebuild = ravel_pytree(at)
    direction = rebuild(jnp.asarray(np.random.default_rng(3).normal(size=flat.shape)))

    def line(s):
        return _functional(*jax.tree.map(lambda a, d: a + s * d, at, direction))

    forward = jax.jit(lambda s: jax.jvp(line, (s,), (1.0,))[1])(0.0)
    np.testing.assert_allclose(forward, jax.jit(jax.grad(line))(0.0), rtol=1e-12)


def test_vmap_over_guidance_scales_is_a_loop(x64):
    """In one compiled call; over keys as well, for independent samples at every scale."""
    cond, uncond = _denoiser(_params(), np.full(6, 0.5)), _denoiser(_params(), np.zeros(6))
    tableau = solvers.ddpm(PROCESS, _times())
    x = jnp.asarray(np.random.default_rng(4).normal(size=(3, 2)))

    def at(scale, key):
        return jd.sample(key, jd.guidance.classifier_free(cond, uncond, scale), x, tableau)

    scales, keys = jnp.array([0.0, 1.0, 2.5, 7.0]), jax.random.split(KEY, 4)
    one = jax.jit(at)
    alone = np.stack([one(scale, key) for scale, key in zip(scales, keys, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(at))(scales, keys), alone, rtol=1e-12, atol=1e-12)
    assert np.abs(alone[1:] - alone[:-1]).max() > 1e-2


def test_vmap_over_tableaux_is_a_loop(x64):
    """Solvers of one shape, stacked: a search over them is one call."""
    x, params = jnp.asarray(np.random.default_rng(5).normal(size=(3, 2))), _params()
    made = [solvers.dpm_solver_pp(PROCESS, _times(), order=2, variant=v) for v in ("exact", "midpoint")]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)
    together = jax.jit(jax.vmap(lambda tableau: jd.sample(KEY, _denoiser(params), x, tableau)))(stacked)
    for got, tableau in zip(together, made, strict=True):
        np.testing.assert_allclose(got, jd.sample(KEY, _denoiser(params), x, tableau), rtol=1e-12, atol=1e-12)
    assert np.abs(together[0] - together[1]).max() > 1e-4
