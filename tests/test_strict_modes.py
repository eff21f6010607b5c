"""JAX's strict modes: no implicit promotion of ranks, and no implicit transfer between host and device."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, mixture

import jaxdiff as jd
from jaxdiff import denoisers, grids, likelihood, networks, objectives, parametrizations, solvers
from jaxdiff.guidance import classifier_free

KEY = jax.random.key(0)
FLOW, EDM = PROCESSES["flow"], PROCESSES["edm"]
OPTIONS = {
    "churn": {"solver": solvers.heun, "s_churn": 5.0},
    "temperature": {"solver": solvers.dpm_solver_pp, "temperature": 0.9},
}
# `restarts` takes no traced times.
SOLVERS = [
    functools.partial(solver, **OPTIONS.get(name, {}))
    for name, solver in vars(solvers).items()
    if name in solvers.__all__ and inspect.isfunction(solver) and "times" in inspect.signature(solver).parameters
    if name != "restarts"
]


@pytest.fixture
def same_ranks():
    with jax.numpy_rank_promotion("raise"):
        yield


def test_solvers_promote_no_rank(same_ranks):
    """NumPy has no such mode, so the times are traced."""
    times = jnp.asarray(grids.uniform_log_snr(EDM, 5), jnp.float32)
    for solver in SOLVERS:
        tableau = jax.eval_shape(functools.partial(solver, EDM), times)
        jax.eval_shape(jd.sample, KEY, jd.denoisers.gaussian(EDM), jnp.ones((2, 3)), tableau)


def test_denoisers_promote_no_rank(same_ranks):
    learned = jd.processes.learned(KEY, hidden=4)
    covariances = [np.eye(2)] * 2
    for denoiser in (
        mixture(learned),
        denoisers.gaussian_mixture(EDM, [0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], covariances),
        denoisers.empirical(EDM, jnp.ones((3, 2))),
    ):
        for t in (jnp.float32(0.5), jnp.full(4, 0.5)):
            jax.eval_shape(denoiser, jnp.ones((4, 2)), t)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (networks.MLP(width=8, embedding=networks.Fourier()), (2, 3)),
        (networks.UNet(channels=8, multipliers=(1, 2), attention_levels=(1,), dropout=0.1), (2, 8, 8, 3)),
    ],
)
def test_networks_promote_no_rank(network, shape, same_ranks):
    x, time = jnp.ones(shape), jnp.ones(2)
    params = jax.eval_shape(network.init, KEY, x, time)
    jax.eval_shape(functools.partial(network.apply, key=KEY), params, x, time)


def test_samples_need_no_implicit_transfer():
    denoiser, gits = jd.denoisers.gaussian(FLOW, 1.0, 0.5), functools.partial(grids.gits, teacher_steps=4)
    for options in ({}, {"batch_size": 2}, {"progress": True}, {"grid": gits}):
        with jax.transfer_guard("disallow"):
            samples = jd.generate(KEY, denoiser, (3, 2), steps=3, **options)
        assert np.isfinite(samples).all()


def test_the_numbers_of_the_host_need_no_transfer():
    """Both differentiate alpha and sigma on the host."""
    with jax.transfer_guard("disallow"):
        solvers.euler_maruyama(EDM, 4)
        denoisers.from_network(FLOW, parametrizations.velocity(), lambda params, x, t: x, None)


def test_traced_functions_need_no_implicit_transfer():
    """What a program needs beside its arguments is made while it is traced."""
    x, params, scale = jnp.ones((2, 3)), jnp.float32(0.5), jnp.float32(2.0)
    a, b = jd.denoisers.gaussian(FLOW, 1.0), jd.denoisers.gaussian(FLOW, 0.0)
    tableau = solvers.heun(FLOW, 3)
    loss = objectives.denoising(FLOW, parametrizations.velocity(), lambda params, x, t: params * x)
    with jax.transfer_guard("disallow"):
        jax.eval_shape(lambda a, b, s, x: jd.sample(KEY, classifier_free(a, b, s), x, tableau), a, b, scale, x)
        jax.eval_shape(likelihood.log_density, a, x)
        jax.eval_shape(likelihood.continuous_time, KEY, a, x)
        jax.eval_shape(lambda p, x: jax.grad(lambda p: jnp.sum(loss(p, KEY, {"x": x})[0]))(p), params, x)
