"""`jitted`: samplers and likelihoods are compiled once, also where nobody has jitted them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import denoisers, grids, likelihood, parametrizations, posterior, sampling, solvers
from jaxdiff.jitted import jitted

PROCESS = jd.processes.vp_linear()
KEY = jax.random.key(0)
X = jnp.ones((2, 2))
TIMES = grids.uniform_time(PROCESS, 3)
DDPM = solvers.ddpm(PROCESS, TIMES)


def _network(params, x, t):
    return params * x


def _varied(params, x, t):
    return jnp.concatenate([params * x, x], axis=-1)


def _first(x):
    return x[:, 0]


def _denoiser(params, make=denoisers.from_network, network=_network):
    return make(PROCESS, parametrizations.eps(), network, jnp.asarray(params))


CASES = {
    "sample": lambda p: jd.sample(KEY, _denoiser(p), X, DDPM, trajectory=True),
    "predictor_corrector": lambda p: sampling.predictor_corrector(KEY, _denoiser(p), X, DDPM, sampling.langevin()),
    "learned_variance": lambda p: sampling.learned_variance(
        KEY, _denoiser(p, denoisers.from_network_with_variance, _varied), X, TIMES
    ),
    "adaptive": lambda p: sampling.adaptive(_denoiser(p), X, rtol=1e-2, atol=1e-2),
    "log_density": lambda p: likelihood.log_density(_denoiser(p), X, times=TIMES),
    "bits_per_dimension": lambda p: likelihood.bits_per_dimension(KEY, _denoiser(p), X.astype(int), times=TIMES),
    "continuous_time": lambda p: likelihood.continuous_time(KEY, _denoiser(p), X),
    "time_of_log_snr": lambda p: jd.processes.time_of_log_snr(PROCESS, jnp.asarray(p)),
    "discrete_time": lambda p: likelihood.discrete_time(KEY, _denoiser(p), X, TIMES),
    "feynman_kac": lambda p: sampling.feynman_kac(KEY, [_denoiser(0.5)] * 2, X, TIMES, exponents=(p, 1.0)),
    "twisted_smc": lambda p: posterior.twisted_smc(
        KEY, _denoiser(0.5), X, DDPM, posterior.gaussian_twist(PROCESS, jnp.sin, X, p)
    ),
    "steer": lambda p: posterior.steer(KEY, _denoiser(0.5), X, DDPM, _first, scale=p),
    "repaint": lambda p: posterior.repaint(KEY, _denoiser(0.5), X, TIMES, X, np.array([True, False]), std=p),
    "daps": lambda p: posterior.daps(KEY, _denoiser(0.5), X, TIMES, jnp.sin, X, p),
    "invert": lambda p: posterior.editing.invert(_denoiser(p), X, solvers.ddim(PROCESS, TIMES)),
    "flow_edit": lambda p: posterior.editing.flow_edit(KEY, _denoiser(0.5), _denoiser(p), X, TIMES),
    "edit_friendly": lambda p: posterior.editing.edit_friendly(KEY, _denoiser(p), X, DDPM),
}


@pytest.mark.parametrize("name", CASES)
def test_a_second_call_compiles_nothing(name):
    """With other parameters, so that nothing depends on the first ones."""
    compiled = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    first = CASES[name](0.5)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x + 1)(1.0)  # a function that is new is heard
        assert compiled
        compiled.clear()
        second = CASES[name](0.7)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled
    leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


class Plain:
    """A denoiser that is no pytree."""

    process = PROCESS

    def __call__(self, x, t):
        return _denoiser(0.5)(x, t)


@jd.trees.register
@dataclasses.dataclass(frozen=True)
class Unhashable(denoisers.FunctionDenoiser):
    """A denoiser whose static part has no hash."""

    names: list = dataclasses.field(default_factory=list, metadata={"static": True})


@pytest.mark.parametrize("denoiser", [Plain(), Unhashable(PROCESS, lambda x, t: _denoiser(0.5)(x, t).x0)])
def test_denoisers_that_jax_cannot_take_work_too(denoiser):
    np.testing.assert_allclose(
        jd.sample(KEY, denoiser, X, DDPM), jd.sample(KEY, _denoiser(0.5), X, DDPM), rtol=1e-5, atol=1e-5
    )


def test_keyword_arguments_are_static_and_errors_pass():
    traces = []

    @jitted
    def power(x, *, exponent):
        traces.append(exponent)
        if exponent < 0:
            raise ValueError(f"exponent = {exponent}")
        return x**exponent

    assert [float(power(2.0, exponent=n)) for n in (3, 3, 2)] == [8, 8, 4]
    assert traces == [3, 2]
    with pytest.raises(ValueError, match="exponent = -1"):
        power(2.0, exponent=-1)
