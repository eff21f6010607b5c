"""Parametrizations: round trips, and each parametrization compared with the closed form on a mixture."""

import jax.numpy as jnp
import numpy as np
import pytest
from common import NO_SIGNAL_AT_END, PROCESSES, inner_times, mixture

import jaxdiff as jd
from jaxdiff import parametrizations
from jaxdiff.parametrizations import Estimate, check, determinant, estimate, output_of, raw_time_input

ALL = {
    "eps": parametrizations.eps(),
    "x0": parametrizations.x0(),
    "v": parametrizations.v(),
    "velocity": parametrizations.velocity(),
    "score": parametrizations.score(),
    "edm": parametrizations.edm(0.7, time_input=raw_time_input),
}


def test_exact_output_gives_the_closed_form_back(process, x64):
    """The network that outputs the exact F is the exact denoiser, for every target and at every noise level."""
    exact = mixture(process)
    times = jnp.asarray(inner_times(process))
    std = np.asarray(process.alpha(times) + process.sigma(times))[:, None]
    x = jnp.asarray(std * np.random.default_rng(0).normal(size=(len(times), 2)))
    want = exact(x, times)
    for name, parametrization in ALL.items():

        def network(params, x, time, parametrization=parametrization):
            scale = parametrization.scale(process, times)[:, None]
            return output_of(process, parametrization, exact(x / scale, times), times)

        # Made without the check at t_max: between the ends every parametrization is defined.
        got = jd.denoisers.NetworkDenoiser(process, None, None, parametrization, network)(x, times)
        np.testing.assert_allclose(got.x0, want.x0, rtol=1e-8, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(got.eps, want.eps, rtol=1e-8, atol=1e-9, err_msg=name)


def test_estimate_inverts_output_and_is_consistent(process, x64):
    rng = np.random.default_rng(1)
    times = inner_times(process)
    pair = Estimate(*(jnp.asarray(rng.normal(size=(len(times), 2))) for _ in range(2)))
    x = jd.corrupt(process, *pair, times)
    for name, parametrization in ALL.items():
        back = estimate(process, parametrization, x, output_of(process, parametrization, pair, times), times)
        np.testing.assert_allclose(back.x0, pair.x0, rtol=1e-6, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(back.eps, pair.eps, rtol=1e-6, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(jd.corrupt(process, *back, times), x, rtol=1e-7, atol=1e-8, err_msg=name)


def test_edm_is_karras_table_1():
    process, sd = jd.processes.edm(), 0.5
    sigma = np.geomspace(0.002, 80, 11)
    c_in = 1 / np.sqrt(sigma**2 + sd**2)
    c_skip, c_out = sd**2 / (sigma**2 + sd**2), sigma * sd / np.sqrt(sigma**2 + sd**2)
    p = parametrizations.edm(sd)
    np.testing.assert_allclose(p.scale(process, sigma), c_in, rtol=1e-14)
    np.testing.assert_allclose(p.time_input(process, sigma), np.log(sigma) / 4, rtol=1e-13)
    rng = np.random.default_rng(0)
    x, f = rng.normal(size=(2, 11, 4))
    x = x * sigma[:, None]
    got = estimate(process, p, x, f, sigma).x0
    want = c_skip[:, None] * x + c_out[:, None] * f
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_velocity_is_the_derivative_of_the_path(process):
    times = inner_times(process)
    h = 1e-6 * (process.t_max - process.t_min)
    # Central differences, away from the indices of a chain, where its interpolation has kinks.
    times_off = np.where(np.isclose(times % 1, 0, atol=10 * h), times + 0.5, times) if process.t_max > 100 else times
    p, q = parametrizations.velocity().target(process, times_off)
    for got, function in ((p, process.alpha), (q, process.sigma)):
        np.testing.assert_allclose(
            got, (function(times_off + h) - function(times_off - h)) / (2 * h), rtol=1e-4, atol=1e-6
        )
    assert p.dtype == np.float64


def test_flow_velocity_is_noise_minus_data():
    p, q = parametrizations.velocity().target(jd.processes.flow(), np.linspace(0, 1, 5))
    np.testing.assert_array_equal(p, -1)
    np.testing.assert_array_equal(q, 1)


@pytest.mark.parametrize("process_name", NO_SIGNAL_AT_END)
def test_where_no_signal_is_left(process_name):
    """At alpha = 0, eps and score are refused. With the other targets an output still determines data and noise."""
    process = PROCESSES[process_name]
    t = np.float64(process.t_max)
    for name in ("eps", "score"):
        with pytest.raises(ValueError, match=f"'{name}'.*'v'.*no signal"):
            check(process, ALL[name])
    pair = Estimate(jnp.array([[1.0, -2.0]]), jnp.array([[0.3, 0.4]]))
    x = jd.corrupt(process, *pair, t)
    for name in ("v", "velocity", "x0", "edm"):
        check(process, ALL[name])
        assert abs(determinant(process, ALL[name], t)) > 0.1
        back = estimate(process, ALL[name], x, output_of(process, ALL[name], pair, t), t)
        np.testing.assert_allclose(back.x0, pair.x0, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(back.eps, pair.eps, rtol=1e-5, err_msg=name)


def test_infinite_time_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"time input of parametrization 'edm' = inf.*raw_time_input"):
        check(jd.processes.flow(), parametrizations.edm())


def test_parametrizations_compare_by_their_settings():
    assert parametrizations.edm(0.5) == parametrizations.edm(0.5)
    assert hash(parametrizations.edm(0.5)) == hash(parametrizations.edm(0.5))
    assert parametrizations.edm(0.5) != parametrizations.edm(0.6)
    assert parametrizations.v() == parametrizations.v() != parametrizations.eps()


def test_wrong_sigma_data():
    with pytest.raises(ValueError, match="sigma_data = 0"):
        parametrizations.edm(0)
