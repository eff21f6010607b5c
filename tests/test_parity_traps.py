"""Cases where diffusers is wrong: its stored answer, ours and the right one.

`tests/references/README.md` says how the stored answers were made.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, mixture
from executor import ode_end, references, run
from scipy import integrate, stats

import jaxdiff as jd
from jaxdiff import grids, processes, solvers

STORED = references("traps")
INDEXED = PROCESSES["vp_discrete"]
LEVELS = processes.vp_linear(beta_max=21.0)  # variance-preserving, and reaches diffusers' highest noise level


def _orders(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def test_the_quadratic_term_of_the_third_order_sde_solver_has_the_right_sign():
    """If x0 is a function of the log-SNR alone, the mean of the SDE is an integral that SciPy solves.

    In diffusers' sde-dpmsolver++ of order 3 this term has the wrong sign, and the method converges with order one.
    """

    def given(process, x, t):
        l = np.log(process.alpha(t) / process.sigma(t))
        return np.sin(l) * np.ones_like(x), x  # eps is never used

    theirs, published, exact = [], [], []
    for steps in (20, 40, 80):
        case = STORED[f"sde 3 {steps}"]
        times = grids.from_sigmas(LEVELS, case["levels"])
        alpha, sigma = LEVELS.alpha(times), LEVELS.sigma(times)
        l = np.log(alpha / sigma)
        drawn = integrate.quad(lambda u, end: np.exp(2 * (u - end)) * np.sin(u), l[0], l[-1], (l[-1],), epsabs=1e-13)[0]
        right = sigma[-1] / sigma[0] * np.exp(l[0] - l[-1]) + 2 * alpha[-1] * drawn
        silence = np.zeros((steps, 1, 1))
        for variant, errors in (("heun", published), ("exact", exact)):
            tableau = solvers.dpm_solver_pp(LEVELS, times, order=3, variant=variant, tau=1.0, lower_order=False)
            errors.append(abs(run(tableau, np.ones((1, 1)), silence, given).item() - right))
        theirs.append(abs(case["result"].item() - right))
    assert np.all(_orders(theirs) < 1.3)
    assert np.all(_orders(published) > 1.7)
    assert np.all(_orders(exact) > 2.7)
    assert theirs[-1] > 10 * published[-1]


def test_uni_pc_ends_without_noise():
    """diffusers' "bh1" multiplies by the length of the step, and gives NaN for the infinite step to no noise."""
    case = STORED["unipc bh1"]
    assert case["levels"][-1] == 0
    assert np.isnan(case["result"]).all()
    start = case["x"] * np.sqrt(1 + case["levels"][0] ** 2)
    right = ode_end(start, case["levels"][0], 0.0)
    rms = {}
    for steps in (10, 20, 40):
        times = grids.karras(LEVELS, steps, sigma_min=0.01, sigma_max=case["levels"][0])
        for variant in ("bh1", "bh2"):
            got = run(solvers.uni_pc(LEVELS, times, variant=variant), start * LEVELS.alpha(times[0]))
            rms[variant, steps] = np.sqrt(np.mean((got - right) ** 2))
    assert rms["bh1", 10] > rms["bh1", 20] > rms["bh1", 40]
    assert rms["bh1", 40] < 2 * rms["bh2", 40] < 0.02


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_ddim_steps_to_the_next_time_of_its_grid(spacing):
    """For data in one point every state is known: `alpha(t) point + sigma(t) eps`, with the first eps.

    diffusers' DDIM steps by 1000 // 30 = 33 indices on a grid whose steps are 33 and 34 (34 and 35).
    """
    case = STORED[f"ddim {spacing}"]
    times = grids.discrete(INDEXED, 30, spacing=spacing)
    np.testing.assert_array_equal(times[:-1], case["indices"])
    alpha, sigma = (f(times[:-1])[:, None, None] for f in (INDEXED.alpha, INDEXED.sigma))
    start = case["asked"][0]
    right = alpha + sigma * (start - alpha[0]) / sigma[0]
    asked = []

    def point(process, x, t):
        asked.append(x)
        return np.ones_like(x), (x - process.alpha(t)) / process.sigma(t)

    run(solvers.ddim(INDEXED, times), start, denoiser=point)
    np.testing.assert_allclose(asked, right, rtol=0, atol=1e-12)
    assert np.abs(case["asked"] - right).max() > 1e-3


@pytest.mark.parametrize("name", ["DEISMultistep", "SASolver"])
def test_grids_do_not_end_twice(name):
    """diffusers' DEIS and SA-Solver on Karras' grid make their last step from noise 0.01 to noise 0.01."""
    theirs = STORED[f"{name} karras"]["levels"]
    assert theirs[-1] == theirs[-2] > 0.009
    times = grids.karras(LEVELS, 10, sigma_min=theirs[-2], sigma_max=theirs[0])
    ours = LEVELS.sigma(times) / LEVELS.alpha(times)
    np.testing.assert_allclose(ours[:-1], theirs[:-1], rtol=1e-5)
    assert ours[-1] == 0


def test_deis_in_float32_does_not_get_worse_with_more_steps():
    """diffusers computes the coefficients of DEIS in float32, where differences cancel. Ours are computed in float64."""
    theirs, ours = [], []
    denoiser = mixture(LEVELS)
    for steps in (20, 100, 500):
        case = STORED[f"deis 3 {steps}"]
        levels, x = case["levels"], case["x"]
        times = grids.from_sigmas(LEVELS, levels)
        right = ode_end(x / LEVELS.alpha(times[0]), levels[0], levels[-1]) * LEVELS.alpha(times[-1])
        tableau = solvers.deis(LEVELS, times, order=3, lower_order=False)
        got = jax.jit(jd.sample)(jax.random.key(0), denoiser, jnp.asarray(x, jnp.float32), tableau)
        theirs.append(np.sqrt(np.mean((case["result"] - right) ** 2)))
        ours.append(np.sqrt(np.mean((np.asarray(got) - right) ** 2)))
    assert theirs[2] > 2 * theirs[1]
    assert ours[0] > ours[1] > ours[2]
    assert ours[2] < 1e-4


def test_beta_quantiles_are_spread_over_time():
    """Lee et al. 2024 spread the quantiles of a Beta distribution over time.

    diffusers spreads them over sigma/alpha, so that most of 20 steps are in the noisiest quarter of time.
    """
    distribution = stats.beta(0.6, 0.6)
    theirs = STORED["beta"]["timesteps"] / 999
    ours = grids.beta(INDEXED, 20)[:-1] / 999
    even = np.linspace(1, 0, 21)[:-1]
    np.testing.assert_allclose(distribution.cdf(ours), even, atol=1e-9)
    levels = STORED["beta"]["levels"][:-1]
    spread = (levels - levels[-1]) / (levels[0] - levels[-1])
    np.testing.assert_allclose(distribution.cdf(spread), np.linspace(1, 0, 20), atol=1e-3)
    assert np.mean(theirs > 0.75) > 0.75
    assert np.mean(ours > 0.75) < 0.5


def test_karras_steps_on_the_cosine_schedule_are_all_different():
    """diffusers rounds the times to indices, and the first ones are then equal."""
    assert len(np.unique(STORED["cosine karras"]["timesteps"])) < 30
    process = PROCESSES["vp_discrete_cosine"]
    times = grids.karras(process, 30)
    assert np.all(np.diff(times) < 0)
    ours = process.sigma(times) / process.alpha(times)
    np.testing.assert_allclose(ours, STORED["cosine karras"]["levels"], rtol=2e-3)


def test_time_is_shifted_once():
    """Esser et al. 2024, equation 23. diffusers shifts the ends of its grid twice."""
    flow = processes.flow(t_min=0.001)

    def shift(t):
        return 3 * t / (1 + 2 * t)

    theirs = STORED["flow shift"]["levels"]
    np.testing.assert_allclose(theirs[-2], shift(shift(0.001)), rtol=1e-5)
    ours = grids.shifted(flow, 9, shift=3.0)
    assert ours[-1] == 0.001
    # uniform in the time before the shift
    before = ours / (3 - 2 * ours)
    np.testing.assert_allclose(np.diff(before, 2), 0, atol=1e-15)


def test_sa_solver_integrates_what_the_paper_says():
    """Without noise and with two estimates, the exact integral is closer to the ODE than the authors' approximation.

    diffusers follows the authors' code.
    """
    case = references("diffusers")["sa 2 2 0.0"]
    levels, x = case["levels"], case["x"]
    times = grids.from_sigmas(LEVELS, levels)
    right = ode_end(x / LEVELS.alpha(times[0]), levels[0], levels[-1]) * LEVELS.alpha(times[-1])
    orders = {"predictor_order": 2, "corrector_order": 2}
    tableau = solvers.sa_solver(LEVELS, times, **orders, tau=0.0, variable="log_snr", lower_order=False)
    ours, theirs = (np.sqrt(np.mean((result - right) ** 2)) for result in (run(tableau, x), case["result"]))
    print(ours, theirs)
    assert ours < theirs / 2
