"""GITS: the dynamic programme against every subset, its costs against a loop in NumPy, and its error."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, mixture
from executor import estimate

import jaxdiff as jd
from jaxdiff import grids, solvers
from jaxdiff.grids.gits import _teacher_times, best_path
from jaxdiff.processes import time_of_log_snr

sample = jax.jit(jd.sample)


def _ratio(process, times):
    with np.errstate(divide="ignore"):
        return process.sigma(times) / process.alpha(times)


def _noise(process, n=256, seed=1):
    return jd.prior_sample(jax.random.key(seed), process, (n, 2))


def _total(costs, path, coefficient):
    return sum(coefficient**k * costs[i, j - 1] for k, (i, j) in enumerate(itertools.pairwise(path)))


def _paths(n, steps):
    return [(0, *inner, n) for inner in itertools.combinations(range(1, n), steps - 1)]


@pytest.mark.parametrize("coefficient", [0.7, 1.0, 1.15])
@pytest.mark.parametrize("steps", range(1, 10))
def test_the_best_path_is_the_best_of_all_subsets(steps, coefficient):
    costs = np.random.default_rng(steps).exponential(size=(9, 9))
    path = best_path(costs, steps, coefficient)
    assert path in [list(each) for each in _paths(9, steps)]
    least = min(_total(costs, each, coefficient) for each in _paths(9, steps))
    np.testing.assert_allclose(_total(costs, path, coefficient), least, rtol=1e-12)


@pytest.mark.parametrize("name", ["edm", "flow", "vp_discrete"])
def test_the_grid_is_the_best_subset_by_costs_written_out(name, x64):
    """In NumPy: the teacher's points, an Euler step between every two of them, and every subset of the points."""
    process, n, coefficient = PROCESSES[name], 8, 1.15
    first, last = np.arctan(np.sqrt(_ratio(process, np.array([process.t_max, process.t_min]))))
    angles = first + np.arange(n + 1) / n * (last - first)
    times = time_of_log_snr(process, -4 * np.log(np.tan(angles[1:-1])))
    times = np.concatenate([[process.t_max], times, [process.t_min]])
    alpha, sigma = process.alpha(times), process.sigma(times)

    x = np.asarray(_noise(process, 64))
    tableau = solvers.dpm_solver_pp(process, times, order=3)
    points, remembered = [x], []
    for i in range(n):
        remembered.insert(0, estimate(process, points[i], times[i])[0])
        row = tableau.state[i + 1, 0]
        points.append(row[0] * points[i] + sum(c * h for c, h in zip(row[1:], remembered, strict=False)))

    costs = np.full((n, n), np.nan)
    for i, j in itertools.combinations(range(n + 1), 2):
        x0, eps = estimate(process, points[i], times[i])
        missed = alpha[j] * x0 + sigma[j] * eps - points[j]
        costs[i, j - 1] = np.mean(np.linalg.norm(missed, axis=1)) / np.sqrt(alpha[j] ** 2 + sigma[j] ** 2)
    for steps in (1, 2, 3, 5, 8):
        got = grids.gits(process, steps, mixture(process), x, teacher_steps=n, coefficient=coefficient)
        totals = {path: _total(costs, path, coefficient) for path in _paths(n, steps)}
        np.testing.assert_allclose(got, times[list(min(totals, key=totals.get))], rtol=1e-9, atol=1e-12)
        assert (got[0], got[-1]) == (process.t_max, process.t_min)


@functools.cache
def _reference(name):
    """Noise that the grid has not seen, and the end of the ODE from there, by 1000 steps of order 3."""
    process = PROCESSES[name]
    x = _noise(process, 1000, seed=2)
    fine = grids.uniform_time(process, 1000)
    if process.alpha(np.float64(process.t_max)) > 0 and process.sigma(np.float64(process.t_min)) > 0:
        fine = grids.uniform_log_snr(process, 1000)
    return x, np.asarray(sample(jax.random.key(0), mixture(process), x, solvers.exponential(process, fine, order=3)))


@pytest.mark.parametrize(
    ("name", "steps"),
    [("vp_linear", 5), ("vp_discrete", 6), ("ve", 5), ("edm", 5), ("edm", 6), ("flow", 6), ("vp_cosine", 5)],
)
def test_ddim_is_closer_to_the_ode_on_it(name, steps):
    """The error is at most three quarters of that on the grids of log-SNR and Karras.

    Where the process has no finite ends, these grids are given levels.
    """
    process = PROCESSES[name]
    x, end = _reference(name)

    def error(times):
        got = sample(jax.random.key(0), mixture(process), x, solvers.ddim(process, times))
        return float(np.sqrt(np.mean((np.asarray(got) - end) ** 2)))

    if name in ("flow", "vp_cosine"):
        levels = time_of_log_snr(process, np.linspace(-8, 8, steps + 1))
        others = {
            "uniform_log_snr": np.concatenate([[process.t_max], levels[1:-1], [process.t_min]]),
            "karras": grids.karras(process, steps, sigma_min=0.01, sigma_max=80),
        }
    else:
        others = {"uniform_log_snr": grids.uniform_log_snr(process, steps), "karras": grids.karras(process, steps)}
    errors = {name: error(times) for name, times in others.items()}
    ours = error(grids.gits(process, steps, mixture(process), _noise(process)))
    print(f"| {name} | {steps} | {ours:.3f} | {errors['uniform_log_snr']:.3f} | {errors['karras']:.3f} |")
    assert ours < 0.75 * min(errors.values())


def test_only_the_noise_levels_matter():
    """Three processes from no signal to no noise have one grid of ratios; so have two with the same finite ends."""
    seen = {}
    for name in ("flow", "vp_cosine", "trigonometric"):
        process = PROCESSES[name]
        seen[name] = _ratio(process, grids.gits(process, 6, mixture(process), _noise(process)))
    np.testing.assert_allclose(seen["vp_cosine"], seen["flow"], rtol=1e-6)
    np.testing.assert_allclose(seen["trigonometric"][1:], seen["flow"][1:], rtol=1e-6)

    process = PROCESSES["vp_linear"]
    ends = np.array([process.t_min, process.t_max])
    low, high = _ratio(process, ends)
    other = jd.processes.edm(low, high)
    x = _noise(process)
    levels = _ratio(process, grids.gits(process, 6, mixture(process), x))
    moved = grids.gits(other, 6, mixture(other), x / process.alpha(ends[1]))
    np.testing.assert_allclose(moved, levels, rtol=1e-6)


@pytest.mark.parametrize("teacher_steps", [1, 2, 8])
def test_the_teacher_takes_equal_steps_in_its_angle(process, teacher_steps):
    times = _teacher_times(process, teacher_steps)
    assert times.dtype == np.float64
    angles = np.arctan(np.sqrt(_ratio(process, times)))
    np.testing.assert_allclose(np.diff(angles), (angles[-1] - angles[0]) / teacher_steps, rtol=1e-6)
    assert (times[0], times[-1]) == (process.t_max, process.t_min)
    assert np.all(np.diff(times) < 0)


@pytest.mark.parametrize(("name", "steps"), [("edm", 1), ("edm", 2), ("flow", 8)])
def test_with_as_many_steps_as_the_teacher_the_grid_is_the_teachers(name, steps):
    process = PROCESSES[name]
    times = grids.gits(process, steps, mixture(process), _noise(process, 64), teacher_steps=steps)
    np.testing.assert_array_equal(times, _teacher_times(process, steps))


def test_nothing_to_choose_by():
    """Data in one point have straight trajectories. Every cost is 0 up to rounding, and the grid is still valid."""
    process = PROCESSES["flow"]
    denoiser = jd.denoisers.gaussian(process, 0.3, 0.0)
    times = grids.gits(process, 5, denoiser, _noise(process, 8))
    assert np.all(np.diff(times) < 0)
    assert np.isfinite(times).all()


def test_pytrees_are_as_their_leaves_side_by_side():
    process = PROCESSES["edm"]
    mean, std = np.array([0.5, -1.0, 0.2], np.float32), np.array([0.3, 1.0, 0.1], np.float32)
    x = jd.prior_sample(jax.random.key(0), process, (32, 3))
    flat = grids.gits(process, 4, jd.denoisers.gaussian(process, mean, std), x)

    def split(a):
        return {"one": a[..., 0], "two": a[..., 1:]}

    denoiser = jd.denoisers.gaussian(process, split(mean), split(std))
    np.testing.assert_array_equal(grids.gits(process, 4, denoiser, split(x)), flat)


def test_errors_late_on_the_path_count_more_with_a_larger_coefficient():
    """Smaller steps at the end, larger at the start."""
    process = PROCESSES["edm"]
    seen = [grids.gits(process, 6, mixture(process), _noise(process), coefficient=c) for c in (0.5, 1.0, 2.0)]
    assert np.all(np.diff([times[1:-1] for times in seen], axis=0) < 0)


@jax.tree_util.register_static
class _Broken:
    process = PROCESSES["edm"]

    def __call__(self, x, t):
        return jd.Estimate(x0=x / 0, eps=x * jnp.nan)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 61}, ValueError, "teacher_steps = 60.*at least 61"),
        ({"teacher_steps": 10.0}, ValueError, "teacher_steps = 10.0"),
        ({"coefficient": 0.0}, ValueError, "coefficient = 0.0"),
        ({"denoiser": None}, TypeError, "denoiser = None"),
        ({"denoiser": mixture(PROCESSES["flow"])}, ValueError, "denoiser.process = Flow"),
        ({"denoiser": mixture(jd.processes.edm(0.01, 10.0))}, ValueError, "denoiser.process = EDM"),
        ({"denoiser": _Broken()}, ValueError, "'_Broken'.*finite"),
    ],
)
def test_wrong_arguments(options, error, message):
    process = PROCESSES["edm"]
    given = {"process": process, "steps": 5, "denoiser": mixture(process), "x": np.ones((3, 2), np.float32)}
    with pytest.raises(error, match=message):
        grids.gits(**{**given, **options})
