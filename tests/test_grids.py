"""Grids, on every process that they are defined for."""

import jax
import numpy as np
import pytest
from common import NO_SIGNAL_AT_END, PROCESSES
from scipy import stats

import jaxdiff as jd
from jaxdiff import grids, solvers
from jaxdiff.processes import log_snr

FINITE = [
    name for name, p in PROCESSES.items() if p.alpha(np.float64(p.t_max)) > 0 and p.sigma(np.float64(p.t_min)) > 0
]
UNIT_TIME = [name for name, p in PROCESSES.items() if 0 <= p.t_min < p.t_max <= 1]
AT_T_MIN = ("uniform_time", "uniform_log_snr", "polynomial", "polynomial 3", "beta", "beta 2", "shifted", "shifted 0.3")
AT_T_MAX = (*AT_T_MIN, "karras", "exponential", "exponential 3", "trailing", "linspace")


def _ratio(process, times):
    with np.errstate(divide="ignore"):
        return process.sigma(times) / process.alpha(times)


def _made(process, steps):
    """Every grid that the process allows, without options where the process allows this."""
    yield "uniform_time", grids.uniform_time(process, steps)
    yield "polynomial", grids.polynomial(process, steps)
    yield "polynomial 3", grids.polynomial(process, steps, rho=3.0)
    yield "beta", grids.beta(process, steps)
    yield "beta 2", grids.beta(process, steps, alpha=2.0, beta=1.5)
    yield "from_sigmas", grids.from_sigmas(process, np.linspace(1, 0, steps + 1))
    if process.t_max <= 1:
        yield "shifted", grids.shifted(process, steps)
        yield "shifted 0.3", grids.shifted(process, steps, shift=0.3)
    if _ratio(process, np.float64(process.t_max)) >= 14.615:
        yield "align_your_steps", grids.align_your_steps(process, steps)
        yield "align_your_steps sdxl", grids.align_your_steps(process, steps, model="sdxl")
    if process in [PROCESSES[name] for name in FINITE]:
        yield "uniform_log_snr", grids.uniform_log_snr(process, steps)
        yield "karras", grids.karras(process, steps)
        yield "exponential", grids.exponential(process, steps)
        yield "exponential 3", grids.exponential(process, steps, rho=3.0)
    else:
        yield "karras, EDM's ends", grids.karras(process, steps)
        yield "exponential, EDM's ends", grids.exponential(process, steps)
        yield "uniform_log_snr, EDM's ends", grids.uniform_log_snr(process, steps)
    yield "karras, given", grids.karras(process, steps, sigma_min=0.01, sigma_max=40)
    yield "exponential, given", grids.exponential(process, steps, sigma_min=0.01, sigma_max=40)
    yield "uniform_log_snr, given", grids.uniform_log_snr(process, steps, log_snr_min=-7, log_snr_max=8)
    if isinstance(process, jd.processes.VPDiscrete):
        for spacing in ("trailing", "leading", "linspace"):
            yield spacing, grids.discrete(process, steps, spacing=spacing)


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_lengths_types_ends_and_direction(process, steps):
    with np.errstate(all="raise", under="ignore"):
        made = dict(_made(process, steps))
        for name, times in made.items():
            assert isinstance(times, np.ndarray), name
            assert times.dtype == np.float64, name
            assert times.shape == (steps + 1,), name
            assert np.all(np.diff(times) < 0), name
            assert np.isfinite(times[:-1]).all(), name
            if name in AT_T_MAX:
                assert times[0] == process.t_max, name
            assert times[0] <= process.t_max, name
            if name in ("karras", "exponential", "exponential 3") and steps > 1:
                assert times[-2] == process.t_min, name
            if not name.startswith("uniform_log_snr,"):
                assert times[-1] == (process.t_min if name in AT_T_MIN else process.t_clean), name
            for solver in (solvers.ddim, solvers.dpm_solver_pp):
                assert np.isfinite(solver(process, times).state).all(), name
    assert set(made) >= {"uniform_time", "polynomial", "beta", "from_sigmas", "karras, given"}


@pytest.mark.parametrize("name", FINITE)
def test_uniform_log_snr_is_uniform(name):
    process = PROCESSES[name]
    gaps = np.diff(log_snr(process, grids.uniform_log_snr(process, 20)))
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-9)


@pytest.mark.parametrize("name", FINITE)
def test_karras_is_uniform_in_the_root(name):
    process = PROCESSES[name]
    for rho in (1.0, 7.0):
        ratios = _ratio(process, grids.karras(process, 20, rho=rho)[:-1])
        gaps = np.diff(ratios ** (1 / rho))
        np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-7)
        np.testing.assert_allclose(ratios[-1], _ratio(process, np.float64(process.t_min)), rtol=1e-9)


def test_karras_published_values():
    """Equation 5 of the paper written out, for 18 steps from sigma 80 to 0.002."""
    i = np.arange(18)
    want = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(grids.karras(jd.processes.edm(), 18)[:-1], want, rtol=1e-11)


@pytest.mark.parametrize("name", NO_SIGNAL_AT_END)
def test_a_singular_end_gives_way_to_the_noise_levels_of_edm(name):
    """`sigma/alpha` from 80 to 0.002 (Karras et al. 2022, table 1), or to the noise at t_min if there is some."""
    process = PROCESSES[name]
    low = _ratio(process, np.float64(process.t_min)) or 0.002
    ratios = _ratio(process, grids.uniform_log_snr(process, 9))
    np.testing.assert_allclose(ratios, 80 * (low / 80) ** (np.arange(10) / 9), rtol=1e-7)
    ratios = _ratio(process, grids.exponential(process, 10))
    np.testing.assert_allclose(ratios, [*80 * (low / 80) ** (np.arange(10) / 9), 0], rtol=1e-7)
    i = np.arange(18)
    want = (80 ** (1 / 7) + i / 17 * (low ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(_ratio(process, grids.karras(process, 18)), [*want, 0], rtol=1e-7)
    times = grids.karras(process, 5, sigma_min=0.01, sigma_max=100)
    np.testing.assert_allclose(_ratio(process, times)[[0, -2]], [100, 0.01])
    times = grids.uniform_log_snr(process, 5, log_snr_min=-8, log_snr_max=8)
    np.testing.assert_allclose(log_snr(process, times), np.linspace(-8, 8, 6), atol=1e-8)


def test_every_grid_begins_with_the_right_noise(process):
    """Noise for `times[0]`, followed down the exact ODE of Gaussian data, has the distribution of the data.

    The ODE takes x at a time with variance `v = alpha^2 s^2 + sigma^2` to `m + (x - alpha m) s/sqrt(v)`. The noise
    lacks the signal. At `sigma/alpha = 80` and for s = 0.5 this leaves 2e-5 of the deviation and 1/160 of the mean m.
    """
    m, s = 0.5, 0.5
    for make in (grids.uniform_log_snr, grids.karras, grids.exponential, grids.uniform_time, grids.polynomial):
        t = make(process, 10)[0]
        alpha, sigma = process.alpha(t), process.sigma(t)
        scale = s / np.sqrt(alpha**2 * s**2 + sigma**2)
        noise = np.asarray(jd.prior_sample(jax.random.key(0), process, (1000, 2), t=t), np.float64)
        again = np.asarray(jd.prior_sample(jax.random.key(0), PROCESSES["edm"], (1000, 2), t=1.0), np.float64)
        ends, want = m + (noise - alpha * m) * scale, m + again * s
        assert np.abs(ends - want).max() < 0.02, make  # ratios of 12 and more, which leave up to 1/24 of m


def test_from_sigmas_hits_the_ratios(process):
    sigmas = np.array([3.0, 1.0, 0.3, 0.05, 0.0])
    times = grids.from_sigmas(process, sigmas)
    np.testing.assert_allclose(_ratio(process, times), sigmas, rtol=1e-9)


@pytest.mark.parametrize("name", FINITE)
def test_exponential_ratios_are_geometric(name):
    process = PROCESSES[name]
    low, high = _ratio(process, np.float64(process.t_min)), _ratio(process, np.float64(process.t_max))
    ratios = _ratio(process, grids.exponential(process, 20)[:-1])
    np.testing.assert_allclose(ratios[1:] / ratios[:-1], (low / high) ** (1 / 19), rtol=1e-9)
    np.testing.assert_allclose(ratios[[0, -1]], [high, low], rtol=1e-9)
    # But for the last step it is uniform log-SNR; with rho it is a power of u from 1 to 0.
    np.testing.assert_allclose(ratios, _ratio(process, grids.uniform_log_snr(process, 19)), rtol=1e-9)
    bent = np.log(_ratio(process, grids.exponential(process, 20, rho=2.5)[:-1]) / low) / np.log(high / low)
    np.testing.assert_allclose(bent, (1 - np.arange(20) / 19) ** 2.5, atol=1e-9)


@pytest.mark.parametrize("name", FINITE)
def test_exponential_is_the_limit_of_karras(name):
    """`rho (s^(1/rho) - 1)` tends to `log s`, with an error of order `1/rho`."""
    process = PROCESSES[name]
    limit = _ratio(process, grids.exponential(process, 9)[:-1])
    errors = [np.abs(_ratio(process, grids.karras(process, 9, rho=rho)[:-1]) / limit - 1).max() for rho in (1e3, 1e4)]
    assert errors[1] < 2e-2
    np.testing.assert_allclose(errors[0] / errors[1], 10, rtol=0.1)


@pytest.mark.parametrize("rho", [0.5, 1.0, 2.0, 7.0])
def test_polynomial_is_uniform_in_the_root(process, rho):
    times = grids.polynomial(process, 12, rho=rho)
    roots = times ** (1 / rho)
    want = roots[0] + np.arange(13) / 12 * (roots[-1] - roots[0])
    np.testing.assert_allclose(roots, want, rtol=1e-12, atol=1e-12 * roots[0])


def test_polynomial_and_its_relatives(process):
    np.testing.assert_allclose(grids.polynomial(process, 9, rho=1.0), grids.uniform_time(process, 9), rtol=1e-13)
    if process is PROCESSES["edm"]:
        np.testing.assert_allclose(grids.polynomial(process, 17, rho=7.0), grids.karras(process, 18)[:-1], rtol=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.6), (1.0, 1.0), (3.0, 0.7)])
def test_beta_times_have_a_uniform_distribution_function(process, alpha, beta):
    times = grids.beta(process, 16, alpha=alpha, beta=beta)
    span = process.t_max - process.t_min
    levels = stats.beta.cdf((times - process.t_min) / span, alpha, beta)
    np.testing.assert_allclose(levels, 1 - np.arange(17) / 16, atol=1e-9)
    mirrored = grids.beta(process, 16, alpha=beta, beta=alpha)
    np.testing.assert_allclose(times + mirrored[::-1], process.t_min + process.t_max, rtol=1e-9)
    if alpha == beta == 1:
        np.testing.assert_allclose(times, grids.uniform_time(process, 16), atol=1e-12 * span)


def test_beta_is_spread_over_time_and_not_over_the_noise_level():
    """Over the index of Stable Diffusion's chain, both halves of the grid mirror each other.

    If the quantiles were spread over sigma, 9 of 10 steps would be above sigma = 0.2, and half of them above index 870.
    """
    process = jd.processes.vp_discrete("scaled_linear")
    times = grids.beta(process, 10)
    np.testing.assert_allclose(times + times[::-1], 999, rtol=1e-12)
    np.testing.assert_allclose(times[5], 499.5)
    low, high = _ratio(process, np.array([0.0, 999.0]))
    wrong = grids.from_sigmas(process, low + (high - low) * stats.beta.ppf(1 - np.arange(11) / 10, 0.6, 0.6))
    assert wrong[5] > 870
    assert _ratio(process, wrong)[9] > 0.2
    levels = stats.beta.cdf((_ratio(process, times) - low) / (high - low), 0.6, 0.6)
    assert np.abs(levels - (1 - np.arange(11) / 10)).max() > 0.2


@pytest.mark.parametrize("shift", [0.4, 1.0, 3.0, 8.0])
def test_shifted_is_the_equation_of_sd3_once(shift):
    """Every level of uniform time is multiplied by the shift, not by its square."""
    process, steps = jd.processes.flow(), 28
    t = 1 - np.arange(steps + 1) / steps
    times = grids.shifted(process, steps, shift=shift)
    np.testing.assert_allclose(times, shift * t / (1 + (shift - 1) * t), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(_ratio(process, times[1:-1]), shift * t[1:-1] / (1 - t[1:-1]), rtol=1e-12)
    twice = shift * times / (1 + (shift - 1) * times)
    np.testing.assert_allclose(twice, grids.shifted(process, steps, shift=shift**2), rtol=1e-12, atol=1e-15)
    assert shift == 1 or np.abs(twice - times).max() > 0.05


@pytest.mark.parametrize("name", UNIT_TIME)
def test_shifted_is_uniform_once_undone_and_keeps_the_ends(name):
    process, shift = PROCESSES[name], 3.0
    times = grids.shifted(process, 11, shift=shift)
    steps = np.diff(times / (shift - (shift - 1) * times))
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-10)
    assert (times[0], times[-1]) == (process.t_max, process.t_min)
    np.testing.assert_allclose(grids.shifted(process, 11, shift=1.0), grids.uniform_time(process, 11), atol=1e-15)


def test_twice_the_steps_hold_every_time_of_half_as_many(process):
    """Equal steps are nested: every second of 2n steps is one of n steps. The last, clean step is left out."""
    for make in (
        grids.uniform_time,
        grids.polynomial,
        grids.beta,
        *([grids.uniform_log_snr] if process in [PROCESSES[name] for name in FINITE] else []),
        *([grids.shifted] if process.t_max <= 1 else []),
    ):
        np.testing.assert_allclose(make(process, 24)[::2], make(process, 12), rtol=1e-9, atol=1e-12)
    for make in (grids.karras, grids.exponential):
        fine, coarse = (make(process, n, sigma_min=0.01, sigma_max=40)[:-1] for n in (25, 13))
        np.testing.assert_allclose(fine[::2], coarse, rtol=1e-9)


@pytest.mark.parametrize("rho", [0.5, 2.0, 7.0])
def test_grids_of_levels_do_not_depend_on_the_process(rho):
    for make in (grids.karras, grids.exponential):
        want = grids.from_sigmas(PROCESSES["edm"], make(PROCESSES["edm"], 8, sigma_min=0.02, sigma_max=30, rho=rho))
        for process in PROCESSES.values():
            times = make(process, 8, sigma_min=0.02, sigma_max=30, rho=rho)
            np.testing.assert_allclose(_ratio(process, times), want, rtol=1e-9)


AYS_INDICES = {
    "sd15": [999, 850, 736, 645, 545, 455, 343, 233, 124, 24],
    "sdxl": [999, 845, 730, 587, 443, 310, 193, 116, 53, 13],
}


@pytest.mark.parametrize("model", AYS_INDICES)
def test_align_your_steps_are_the_published_indices(model):
    """The authors also publish indices of Stable Diffusion's chain. They are next to our times."""
    times = grids.align_your_steps(jd.processes.vp_discrete("scaled_linear"), 10, model=model)
    np.testing.assert_array_less(np.abs(times[:-1] - AYS_INDICES[model]), 1.0)
    assert times[0] <= 999
    assert times[-1] == -1


def test_align_your_steps_is_log_linear_between_the_levels():
    process = jd.processes.edm(0.002, 700.0)
    ten = grids.align_your_steps(process, 10, model="svd")
    np.testing.assert_allclose(ten[[0, 1, 5, 9, 10]], [700.0, 54.5, 1.789, 0.034, 0.0], rtol=1e-12)
    twenty, five = (grids.align_your_steps(process, n, model="svd") for n in (20, 5))
    np.testing.assert_allclose(twenty[:-1:2], ten[:-1], rtol=1e-12)
    np.testing.assert_allclose(twenty[1:-2:2], np.sqrt(ten[:-2] * ten[1:-1]), rtol=1e-12)
    np.testing.assert_allclose(twenty[-2], np.sqrt(0.034 * 0.002), rtol=1e-12)
    np.testing.assert_allclose(five[:-1], ten[:-1:2], rtol=1e-12)
    assert twenty[-1] == five[-1] == 0


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 300, 999, 1000])
def test_discrete_spacings(steps):
    """Also where `steps` does not divide the chain, which shifts the steps of other libraries."""
    process = jd.processes.vp_discrete()
    trailing = grids.discrete(process, steps)
    assert trailing[0] == 999
    np.testing.assert_allclose(-np.diff(trailing), 1000 / steps, atol=1.0)
    leading = grids.discrete(process, steps, spacing="leading")
    assert leading[-2] == 0
    np.testing.assert_array_equal(-np.diff(leading[:-1]), 1000 // steps)
    linspace = grids.discrete(process, steps, spacing="linspace")
    assert linspace[0] == 999
    assert steps == 1 or linspace[-2] == 0


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("count", [2, 7, 10, 64, 1000])
def test_discrete_indices_are_distinct_whatever_the_number_of_steps(count, spacing):
    """No index occurs twice, and gaps differ by rounding alone, whether or not `steps` divides the chain."""
    process = jd.processes.vp_from_betas(np.full(count, 0.01))
    for steps in range(1, count + 1):
        times = grids.discrete(process, steps, spacing=spacing)
        assert len(times) == steps + 1
        np.testing.assert_array_equal(times, np.round(times))
        gaps = -np.diff(times[:-1])
        assert np.all(gaps >= 1)
        assert steps < 3 or gaps.max() - gaps.min() <= 1
        assert 0 <= times[-2] <= times[0] <= count - 1
        assert times[-1] == -1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: grids.uniform_time(jd.processes.edm(), 0), ValueError, "steps = 0"),
        (lambda: grids.uniform_time(jd.processes.edm(), 2.5), ValueError, "steps = 2.5"),
        (lambda: grids.karras(jd.processes.edm(), 5, rho=0), ValueError, "rho = 0"),
        (lambda: grids.from_sigmas(jd.processes.edm(), [1, 2]), ValueError, "sigmas"),
        (lambda: grids.from_sigmas(jd.processes.edm(), [1, -1]), ValueError, "sigmas"),
        (lambda: grids.from_sigmas(jd.processes.edm(), [81, 1, 0]), ValueError, "sigmas = .*at most 80"),
        (lambda: grids.from_sigmas(jd.processes.flow(), [1e300, 1, 0]), ValueError, "sigmas = .*log-SNR"),
        (lambda: grids.karras(jd.processes.edm(), 5, sigma_max=100), ValueError, "sigma_max = 100.*at most 80"),
        (lambda: grids.karras(jd.processes.edm(), 5, sigma_min=90), ValueError, "sigma_min = 90"),
        (lambda: grids.exponential(jd.processes.edm(), 5, sigma_min=-1), ValueError, "sigma_min = -1"),
        (lambda: grids.exponential(jd.processes.edm(), 5, rho=np.inf), ValueError, "rho = inf"),
        (lambda: grids.exponential(jd.processes.edm(), 50, rho=1e4), ValueError, "rho = 10000.0 with steps = 50"),
        (lambda: grids.uniform_log_snr(jd.processes.edm(), 5, log_snr_min=-20), ValueError, "log_snr_min = -20.*-8.76"),
        (lambda: grids.polynomial(jd.processes.edm(), 5, rho=-1), ValueError, "rho = -1"),
        (lambda: grids.polynomial(jd.processes.flow(), 50, rho=1e4), ValueError, "rho = 10000.0 with steps = 50"),
        (lambda: grids.polynomial(jd.processes.ve(), 1000, rho=7), ValueError, "rho = 7 with steps = 1000"),
        (lambda: grids.polynomial(jd.processes.EDM(t_min=-1.0, t_max=1.0), 5), ValueError, "EDM with t_min = -1"),
        (lambda: grids.beta(jd.processes.flow(), 5, alpha=0), ValueError, "alpha = 0"),
        (lambda: grids.beta(jd.processes.flow(), 5, beta=np.nan), ValueError, "beta = nan"),
        (lambda: grids.beta(jd.processes.flow(), 50, alpha=1e-3), ValueError, "alpha = 0.001"),
        (lambda: grids.shifted(jd.processes.flow(), 5, shift=0), ValueError, "shift = 0"),
        (lambda: grids.shifted(jd.processes.flow(), 5, shift=1e300), ValueError, "shift = 1e"),
        (lambda: grids.shifted(jd.processes.edm(), 5), ValueError, "EDM.*0.002 to 80"),
        (lambda: grids.shifted(jd.processes.trigonometric(), 5), ValueError, "Trigonometric"),
        (lambda: grids.shifted(jd.processes.vp_discrete(), 5), ValueError, "VPDiscrete"),
        (
            lambda: grids.align_your_steps(jd.processes.edm(), 5, model="svd"),
            ValueError,
            "EDM with.*80 at t_max.*700.*'svd'",
        ),
        (lambda: grids.align_your_steps(jd.processes.edm(), 5, model="sd"), ValueError, "'sd'.*'sd15', 'sdxl', 'svd'"),
        (lambda: grids.align_your_steps("edm", 5), TypeError, "'edm'"),
        (lambda: grids.discrete(jd.processes.edm(), 5), TypeError, "EDM"),
        (lambda: grids.discrete(jd.processes.vp_discrete(), 1001), ValueError, "steps = 1001"),
        (lambda: grids.discrete(jd.processes.vp_discrete(), 5, spacing="trail"), ValueError, "'trail'.*'trailing'"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
