"""Processes compared with their formulas, evaluated independently, and with the identities that they obey."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from common import PROCESSES, inner_times
from scipy import stats

import jaxdiff as jd
from jaxdiff import grids, processes, trees
from jaxdiff.arithmetic import derivative, namespace
from jaxdiff.processes import diffusion, drift, log_snr, time_of_log_snr

mpmath.mp.dps = 40


def _exact(name, t):
    """(alpha, sigma) at t with forty digits, from the formulas as the papers print them."""
    m = mpmath.mpf
    t = m(float(t))
    if name in ("vp_linear", "sub_vp"):
        alpha = mpmath.exp(-(t**2) * (m(20) - m("0.1")) / 4 - t * m("0.1") / 2)
        return alpha, 1 - alpha**2 if name == "sub_vp" else mpmath.sqrt(1 - alpha**2)
    if name == "vp_cosine":
        return mpmath.cos(mpmath.pi * t / 2), mpmath.sin(mpmath.pi * t / 2)
    if name == "vp_cosine_shifted":
        ratio = 4 * mpmath.tan(mpmath.pi * t / 2)
        return 1 / mpmath.sqrt(1 + ratio**2), ratio / mpmath.sqrt(1 + ratio**2)
    if name == "vp_nichol":
        s = m("0.008")
        alpha = mpmath.cos((t + s) / (1 + s) * mpmath.pi / 2) / mpmath.cos(s / (1 + s) * mpmath.pi / 2)
        return alpha, mpmath.sqrt(1 - alpha**2)
    if name == "ve":
        return m(1), m("0.01") * (m(50) / m("0.01")) ** t
    return {"edm": (m(1), t), "flow": (1 - t, t), "trigonometric": (mpmath.cos(t), mpmath.sin(t) / 2)}[name]


@pytest.mark.parametrize("name", [name for name in PROCESSES if "discrete" not in name])
def test_formulas_in_both_arithmetics(name):
    process = PROCESSES[name]
    times = np.append(inner_times(process), process.t_min + 1e-6 * (process.t_max - process.t_min))
    exact = np.array([[float(v) for v in _exact(name, t)] for t in times])
    for i, function in enumerate((process.alpha, process.sigma)):
        host, device = function(times), function(jnp.asarray(times, jnp.float32))
        assert host.dtype == np.float64
        assert isinstance(device, jax.Array)
        assert device.dtype == jnp.float32
        np.testing.assert_allclose(host, exact[:, i], rtol=3e-14)
        # In float32 the argument itself is rounded: compare at the rounded times.
        rounded = np.array([float(_exact(name, t)[i]) for t in np.asarray(times, np.float32)])
        np.testing.assert_allclose(device, rounded, rtol=2e-6)


@pytest.mark.parametrize(("schedule", "last"), [("linear", 4.04e-5), ("scaled_linear", 4.66e-3)])
def test_discrete_is_the_product_of_its_betas(schedule, last):
    process = processes.vp_discrete(schedule)
    ends = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}[schedule]
    ramp = np.linspace(*np.sqrt(ends), 1000) ** 2 if schedule == "scaled_linear" else np.linspace(*ends, 1000)
    bars = np.cumprod(1 - ramp)
    indices = np.arange(1000.0)
    np.testing.assert_allclose(process.alpha(indices) ** 2, bars, rtol=1e-11)
    np.testing.assert_allclose(process.sigma(indices) ** 2, 1 - bars, rtol=1e-11)
    # The published ends of DDPM's and latent diffusion's chains.
    np.testing.assert_allclose(process.alpha(999.0) ** 2, last, rtol=2e-3)


def test_discrete_between_and_beyond_the_indices():
    process = processes.vp_discrete()
    assert process.alpha(-1.0) == 1.0
    assert process.sigma(-1.0) == 0.0
    np.testing.assert_allclose(log_snr(process, 10.5), (log_snr(process, 10.0) + log_snr(process, 11.0)) / 2)
    ratio = process.sigma(-0.5) / process.alpha(-0.5)
    np.testing.assert_allclose(ratio, process.sigma(0.0) / process.alpha(0.0) / 2)
    assert process.time_input(7.0) == 7.0


def test_betas_of_no_terminal_signal_shift_and_scale_alpha():
    """Lin et al. 2024, algorithm 1, and a sampler from the last index, where x is the noise."""
    chain, process = (processes.vp_discrete("scaled_linear", zero_terminal_snr=zero) for zero in (False, True))
    indices = np.arange(1000.0)
    alpha = chain.alpha(indices)
    np.testing.assert_allclose(process.alpha(indices), (alpha - alpha[-1]) / (1 - alpha[-1] / alpha[0]), rtol=1e-9)
    assert (process.alpha(999.0), process.sigma(999.0), process.t_noise) == (0, 1, 999)
    # Between the last two indices alpha/sigma falls linearly, and so does alpha, up to sigma's distance from 1.
    np.testing.assert_allclose(process.alpha(998.25), 0.75 * process.alpha(998.0), rtol=1e-6)
    np.testing.assert_allclose(derivative(process.alpha, np.array([998.0, 999.0])), -process.alpha(998.0), rtol=1e-6)
    times = np.linspace(-0.9, 998.9, 50)
    np.testing.assert_allclose(time_of_log_snr(process, log_snr(process, times)), times, rtol=1e-9)


def test_a_chain_without_terminal_signal_is_sampled_from_noise():
    """A denoiser in v begins at the last index of the chain; there a denoiser in eps knows nothing of the data."""
    process, v = processes.vp_discrete("cosine", zero_terminal_snr=True), jd.parametrizations.v()
    exact = jd.denoisers.gaussian(process, 1.0, 0.5)

    def network(params, x, t):
        return jd.parametrizations.output_of(process, v, exact(x, t), t)

    got = jd.generate(jax.random.key(0), jd.denoisers.from_network(process, v, network, None), (4000, 1), steps=10)
    np.testing.assert_allclose([got.mean(), got.std()], [1.0, 0.5], atol=0.04)
    with pytest.raises(ValueError, match=r"parametrization = 'eps'; .* no signal at t_max = 999"):
        jd.denoisers.from_network(process, jd.parametrizations.eps(), network, None)


def test_ends_are_exact():
    for name in ("vp_cosine", "vp_cosine_shifted", "vp_nichol", "flow", "trigonometric"):
        process = PROCESSES[name]
        assert process.alpha(np.float64(process.t_max)) == 0.0, name
        assert process.sigma(np.float64(process.t_clean)) == 0.0, name
        assert process.alpha(np.float64(process.t_clean)) == 1.0, name
    assert processes.ve().sigma(np.float64(-np.inf)) == 0.0
    np.testing.assert_allclose(processes.ve(0.02, 30.0).sigma(np.array([0.0, 1.0])), [0.02, 30.0])


def test_log_snr_decreases_and_its_inverse_inverts(process):
    times = inner_times(process, 33)
    values = log_snr(process, times)
    assert np.all(np.diff(values) < 0)
    np.testing.assert_allclose(time_of_log_snr(process, values), times, rtol=1e-12)
    single = jax.jit(lambda values: time_of_log_snr(process, values))(jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(single, times, atol=3e-6 * (process.t_max - process.t_min))
    assert time_of_log_snr(process, np.inf) == process.t_clean


def test_inverse_near_clean_data_keeps_relative_precision():
    process = processes.edm()
    np.testing.assert_allclose(time_of_log_snr(process, -2 * np.log([1e-12, 1e-30])), [1e-12, 1e-30], rtol=1e-12)


def test_inverse_beyond_the_process_is_refused():
    with pytest.raises(ValueError, match=r"log-SNR = \[-1000.\]; allowed are values that this VE reaches"):
        time_of_log_snr(processes.ve(), np.array([0.0, -1e3]))


def test_inverse_is_differentiable(x64):
    """By the value, `dt/dvalue = 1 / (d log_snr / dt)`; by the numbers of the process, a finite difference."""

    def time(value, beta_max):
        return time_of_log_snr(processes.VPLinear(beta_min=0.1, beta_max=beta_max, t_min=1e-3, t_max=1.0), value)

    inverse = jax.jit(jax.value_and_grad(time, (0, 1)))
    t, (by_value, by_number) = inverse(1.3, 20.0)
    slope = derivative(lambda t: log_snr(processes.vp_linear(), t), np.float64(t))
    np.testing.assert_allclose(by_value, 1 / slope, rtol=1e-9)
    numeric = (inverse(1.3, 20.0 + 1e-4)[0] - inverse(1.3, 20.0 - 1e-4)[0]) / 2e-4
    np.testing.assert_allclose(by_number, numeric, rtol=1e-6)


def test_sde_has_the_marginals_of_the_process(process):
    """The integrals of `m' = f m` and `v' = 2 f v + g^2` are alpha and sigma^2 again."""
    times = inner_times(process, 4001, margin=0.05)
    f, g = drift(process, times), diffusion(process, times)
    assert f.dtype == g.dtype == np.float64
    log_alpha = np.log(process.alpha(times))
    area = np.concatenate([[0], np.cumsum((f[1:] + f[:-1]) / 2 * np.diff(times))])
    np.testing.assert_allclose(area, log_alpha - log_alpha[0], atol=2e-4)
    # (sigma/alpha)^2 grows by g^2/alpha^2.
    rate = g**2 / process.alpha(times) ** 2
    ratio = (process.sigma(times) / process.alpha(times)) ** 2
    area = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(times))])
    np.testing.assert_allclose(area, ratio - ratio[0], rtol=3e-3, atol=1e-3)


def test_vp_linear_sde_is_the_published_one():
    t = np.linspace(0.1, 1, 4001)  # as many as in the test above, which compiles for them
    beta = 0.1 + t * (20 - 0.1)
    process = processes.vp_linear()
    np.testing.assert_allclose(drift(process, t), -beta / 2, rtol=1e-12)
    np.testing.assert_allclose(diffusion(process, t) ** 2, beta, rtol=1e-9)
    # sub-VP: the same drift, and less noise (Song et al. 2021, equation 29).
    sub = processes.sub_vp()
    np.testing.assert_allclose(drift(sub, t), -beta / 2, rtol=1e-12)
    area = 0.1 * t + t**2 / 2 * (20 - 0.1)
    np.testing.assert_allclose(diffusion(sub, t) ** 2, beta * (1 - np.exp(-2 * area)), rtol=1e-9)


def test_host_arithmetic_stays_float64_inside_a_trace():
    process = processes.vp_linear()
    seen = []

    @jax.jit
    def traced(x):
        seen.append(drift(process, np.float64(0.5)))
        return x + seen[-1]

    traced(1.0)
    assert isinstance(seen[0], np.ndarray | np.float64)
    np.testing.assert_allclose(seen[0], -(0.1 + 0.5 * 19.9) / 2, rtol=1e-14)


def test_processes_are_pytrees_of_their_numbers():
    process = processes.vp_linear()
    assert len(jax.tree.leaves(process)) == 4
    gradient = jax.grad(lambda p: p.sigma(jnp.asarray(0.3)))(process)
    h = 1e-6
    numeric = (processes.vp_linear(beta_max=20 + h).sigma(0.3) - processes.vp_linear(beta_max=20 - h).sigma(0.3)) / (
        2 * h
    )
    np.testing.assert_allclose(gradient.beta_max, numeric, rtol=1e-4)


@pytest.mark.parametrize("name", ["ve", "vp_linear", "edm", "sub_vp", "trigonometric"])
def test_prior_is_the_marginal_of_noise(name):
    process = PROCESSES[name]
    x = jd.prior_sample(jax.random.key(0), process, (20_000, 1))
    std = float(process.sigma(np.float64(process.t_max)))
    assert {"ve": 50.0, "edm": 80.0, "trigonometric": 0.5}.get(name, std) == pytest.approx(std)
    assert stats.kstest(np.asarray(x)[:, 0] / std, "norm").pvalue > 1e-3


def test_prior_of_a_pytree_with_a_key_for_each_example():
    shape = {"image": jax.ShapeDtypeStruct((3, 4, 4, 1), jnp.float32), "label": jnp.zeros((3, 5))}
    keys = jax.random.split(jax.random.key(1), 3)
    x = jd.prior_sample(keys, processes.edm(), shape)
    assert jax.tree.map(jnp.shape, x) == {"image": (3, 4, 4, 1), "label": (3, 5)}
    noise = trees.normal_like(keys, shape)
    np.testing.assert_allclose(x["image"], 80 * noise["image"], rtol=1e-6)
    np.testing.assert_allclose(x["label"], 80 * noise["label"], rtol=1e-6)


def test_corrupt_has_the_moments_it_should():
    process = processes.vp_linear()
    x0 = jnp.full((50_000, 1), 2.0)
    eps = jax.random.normal(jax.random.key(0), x0.shape)
    x = np.asarray(jd.corrupt(process, x0, eps, 0.3))
    np.testing.assert_allclose(x.mean(), 2 * process.alpha(0.3), atol=4 * process.sigma(0.3) / np.sqrt(50_000))
    np.testing.assert_allclose(x.std(), process.sigma(0.3), rtol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: processes.vp_linear(beta_min=-1), r"\(beta_min, beta_max\) = \(-1, 20.0\)"),
        (lambda: processes.ve(sigma_min=2, sigma_max=1), r"\(sigma_min, sigma_max\) = \(2, 1\)"),
        (lambda: processes.flow(t_max=1.5), r"\(t_min, t_max\) = \(0.0, 1.5\)"),
        (lambda: processes.edm(sigma_min=0), r"\(sigma_min, sigma_max\) = \(0, 80.0\)"),
        (lambda: processes.vp_cosine(shift=0), "shift = 0"),
        (lambda: processes.vp_discrete("cosin"), "'cosin'.*did you mean 'cosine'"),
        (lambda: processes.vp_discrete(steps=10), "steps of schedule 'linear' = 10; allowed are integers from 21"),
        (lambda: processes.vp_discrete("scaled_linear", 12), "steps of schedule 'scaled_linear' = 12; .* from 13"),
        (lambda: processes.vp_discrete("cosine", 1), "steps of schedule 'cosine' = 1; allowed .* from 2"),
        (lambda: processes.vp_from_betas([0.1, 1.5]), r"betas = \[0.1 1.5\]"),
        (lambda: processes.enforce_zero_terminal_snr([0.1, 1.0, 0.2]), r"betas = \[0.1 1. 0.2\].*the last may be 1"),
        (lambda: jd.prior_sample(jax.random.split(jax.random.key(0), 3), processes.edm(), (4, 2)), r"\(3,\).*\(4,\)"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape", [np.array([4, 2]), (np.int64(4), 2), [4, 2]])
def test_a_shape_is_any_sequence_of_integers(shape):
    assert jd.prior_sample(jax.random.key(0), processes.edm(), shape).shape == (4, 2)


@pytest.mark.parametrize("shape", [(4 / 2, 2), (True, 2), 5, 5.0, ()])
def test_other_numbers_are_no_shape(shape):
    with pytest.raises((TypeError, ValueError), match=r"shape = .*; allowed are \(batch, \*event\)"):
        jd.prior_sample(jax.random.key(0), processes.edm(), shape)


def test_bytes_are_no_data():
    """Pictures in bytes would be corrupted as if 255 were a usual value."""
    process, key, x = processes.edm(), jax.random.key(0), jnp.full((2, 3), 200, jnp.uint8)
    loss = jd.objectives.denoising(process, jd.parametrizations.x0(), lambda params, x, t: x)
    for call in (
        lambda: jd.corrupt(process, x, jnp.zeros((2, 3)), 1.0),
        lambda: loss(None, key, {"x": x}),
        lambda: jd.objectives.implicit(lambda x: -x, key, x),
        lambda: jd.objectives.sliced(lambda x: -x, key, x),
    ):
        with pytest.raises(TypeError, match=r"x.*\.dtype = uint8; allowed are floating-point types"):
            call()


def test_a_number_is_refused_as_a_key():
    with pytest.raises(TypeError, match=r"key = 0.*jax\.random\.key"):
        jd.prior_sample(0, processes.edm(), (4, 2))


@pytest.mark.parametrize("make", [processes.edm, processes.vp_discrete, lambda: processes.learned(jax.random.key(0))])
def test_processes_compare_by_value(make):
    process, twin = make(), make()
    other = jax.tree.map(lambda leaf: leaf * 1.001, process)
    assert process == twin
    assert hash(process) == hash(twin)
    assert process != other
    assert processes.flow(t_min=0.1) != processes.vp_cosine(t_min=0.1)


def test_an_equal_process_is_the_same_static_argument():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def sigma(process, t):
        traces.append(process)
        return process.sigma(t)

    for process in (processes.ve(), processes.ve(), processes.ve(sigma_max=2.0)):
        np.testing.assert_allclose(sigma(process, 1.0), process.sigma_max, rtol=1e-6)
    assert len(traces) == 2


def test_a_traced_process_is_equal_to_itself_alone():
    @jax.jit
    def compare(a, b):
        assert a == a
        assert a != b
        assert hash(a) == hash(b)
        return a

    assert compare(processes.vp_linear(), processes.vp_linear()).t_max == 1


class Power(processes.Process):
    """The example at the head of jaxdiff/processes/process.py."""

    t_noise = 1.0
    power: float

    def alpha(self, t):
        return 1 - t**self.power

    def sigma(self, t):
        return namespace(t).sqrt(1 - self.alpha(t) ** 2)


def test_a_process_of_ones_own_works_everywhere():
    process = Power(power=2, t_min=1e-3, t_max=0.99)
    times = jd.grids.uniform_log_snr(process, 40)
    # 1 - alpha^2 loses six digits at t_min, where sigma^2 is 2e-6.
    np.testing.assert_allclose(time_of_log_snr(process, log_snr(process, times)), times, rtol=1e-9)
    denoiser = jd.denoisers.from_network(
        process, jd.parametrizations.velocity(), lambda p, x, t: jnp.zeros_like(x), None
    )
    assert np.isfinite(denoiser(jnp.ones((2, 2)), 0.5).x0).all()
    exact = jd.denoisers.gaussian(process, 1.0, 0.5)
    x = jd.prior_sample(jax.random.key(0), process, (4000, 1))
    got = jax.jit(jd.sample)(jax.random.key(1), exact, x, jd.solvers.dpm_solver_pp(process, times))
    np.testing.assert_allclose([got.mean(), got.std()], [1.0, 0.5], atol=0.04)
    assert jax.tree.leaves(process) == [1e-3, 0.99, 2.0]
    assert all(isinstance(leaf, float) for leaf in jax.tree.leaves(process))


class Jaxed(processes.Process):
    def alpha(self, t):
        return jnp.cos(t)

    def sigma(self, t):
        return jnp.sin(t)


def test_a_process_that_does_not_keep_to_numpy_is_refused():
    with pytest.raises(TypeError, match=r"Jaxed\.alpha\(t\).*namespace"):
        jd.grids.uniform_time(Jaxed(t_min=0.1, t_max=1.5), 4)


class Numpyed(processes.Process):
    def alpha(self, t):
        return np.cos(t)

    def sigma(self, t):
        return np.sin(t)


@pytest.mark.parametrize(
    "use",
    [
        lambda process: jd.grids.uniform_time(process, 4),
        lambda process: jd.prior_sample(jax.random.key(0), process, (2, 2)),
        lambda process: jd.generate(jax.random.key(0), jd.denoisers.gaussian(process), (2, 2)),
        lambda process: jd.likelihood.log_density(jd.denoisers.gaussian(process), jnp.ones((2, 2))),
    ],
)
def test_a_process_that_jax_cannot_trace_is_refused(use):
    with pytest.raises(TypeError, match=r"Numpyed\.alpha\(t\) for a JAX time.*namespace\(t\)"):
        use(Numpyed(t_min=0.1, t_max=1.5))


def test_numbers_held_by_jax_make_the_same_tableau():
    """After a checkpoint or a jitted function the numbers are JAX arrays. Coefficients are still made in float64."""
    process = processes.ve()
    held = jax.tree.map(jnp.asarray, process)
    times = jd.grids.uniform_log_snr(process, 9)
    for made in (
        jd.solvers.dpm_solver_pp(held, times, order=3),
        jax.jit(lambda x: x)(jd.solvers.dpm_solver_pp(held, times)),
    ):
        assert made.state.shape[0] == 10
    assert jd.solvers.dpm_solver_pp(held, times, order=3).state.dtype == np.float64
    np.testing.assert_allclose(jd.solvers.ddim(held, times).state, jd.solvers.ddim(process, times).state, rtol=1e-6)


def test_a_traced_process_is_refused_on_the_host_by_name():
    with pytest.raises(TypeError, match="process = VPLinear with traced numbers"):
        jax.jit(lambda p: jd.grids.uniform_time(p, 4))(processes.vp_linear())
    x = jnp.ones((2, 2))
    got = jax.jit(lambda p: jd.corrupt(p, x, x, 0.3))(processes.vp_linear())
    np.testing.assert_allclose(got, jd.corrupt(processes.vp_linear(), x, x, 0.3), rtol=1e-6)


@pytest.mark.parametrize("t", [jnp.ones(3), jnp.ones((4, 1))])
def test_a_time_of_another_shape_is_refused(t):
    with pytest.raises(ValueError, match=r"time or coefficient = .*\(4,\)"):
        jd.corrupt(processes.edm(), jnp.ones((4, 2)), jnp.ones((4, 2)), t)


def test_prior_of_a_grid_that_begins_below_t_max():
    process = processes.edm()
    times = grids.karras(process, 5, sigma_max=10.0)
    x = processes.prior_sample(jax.random.key(0), process, (20_000,), t=times[0])
    np.testing.assert_allclose(np.std(x), 10.0, rtol=0.02)


def test_a_process_that_ignores_the_shape_of_its_times_is_refused():
    class Flat(processes.Process):
        def alpha(self, t):
            return 1.0

        def sigma(self, t):
            return t

    with pytest.raises(TypeError, match=r"Flat\.alpha\(t\)\.shape = \(\); allowed are \(1,\)"):
        grids.uniform_time(Flat(t_min=0.1, t_max=1.0), 3)


def test_a_chain_in_both_precisions_in_one_program():
    """A table that a float32 program has captured stays float64 for a float64 program that is compiled later."""
    process = processes.vp_discrete()
    t = 123.456

    def alpha():
        return jax.jit(lambda t: process.alpha(t))(jnp.asarray(t))

    np.testing.assert_allclose(alpha(), process.alpha(np.float64(t)), rtol=1e-4)
    with jax.enable_x64(True):
        np.testing.assert_allclose(alpha(), process.alpha(np.float64(t)), rtol=1e-14)
