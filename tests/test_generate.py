"""`generate` against the exact solution of the ODE; its keys, batches, compilations, solvers, grids, bar and errors."""

import functools
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, mixture
from test_accuracy import exact_mixture

import jaxdiff as jd
from jaxdiff import grids, parametrizations, solvers, trees
from jaxdiff.components import choose
from jaxdiff.sampling.generate import default_solver

KEY = jax.random.key(3)
EDM = PROCESSES["edm"]
EVERY = {**PROCESSES, "learned": jd.processes.learned(jax.random.key(0), hidden=16)}


def _noise(process, times, shape, key=KEY):
    """The noise of `generate`: the sample of a tableau that returns its first point."""
    hold = jd.Tableau(process, times[:1], np.tile([1.0, 0.0], (2, 1, 1)), np.zeros((2, 1, 0)), np.ones((1, 2)))
    return np.asarray(jd.generate(key, mixture(process), shape, solver=hold))


@pytest.mark.parametrize("name", EVERY)
def test_twenty_steps_by_default_are_as_near_to_the_ode_as_the_docs_say(name):
    """The mixture of docs/solvers.md. Its best public samplers have errors of 0.037 on a VP chain and 0.027 on `flow`."""
    process = jd.processes.on_host(EVERY[name])
    tableau = default_solver(process, 20)
    assert len(tableau) == 20
    t = np.float64(tableau.times[0])
    # The noise of `generate` is that of this process, whose sigma is 1 here, times sigma(t).
    noise = process.sigma(t) * _noise(EDM, np.array([1.0]), (200, 2))
    want = exact_mixture.solution(noise, float(process.alpha(t)), float(process.sigma(t)))
    got = jd.generate(KEY, exact_mixture.denoiser(EVERY[name]), (200, 2))
    assert exact_mixture.distance(got, want) < {"edm": 0.045, "ve": 0.035}.get(name, 0.028)


@pytest.mark.parametrize("progress", [False, True])
def test_samples_are_noise_and_sample_with_the_keys_of_the_examples(progress):
    """Example i draws its noise with the key `fold_in(fold_in(key, i), 0)`, and the solver's with `..., 1)`."""
    tableau, denoiser = solvers.ddpm(EDM, 6), mixture(EDM)
    noise_keys, keys = trees.split(trees.example_keys(KEY, 8), 2)
    noise = jd.prior_sample(noise_keys, EDM, (8, 2), t=tableau.times[0])
    want = np.asarray(jax.jit(jd.sample)(keys, denoiser, noise, tableau))
    got = jd.generate(KEY, denoiser, (8, 2), steps=6, solver=solvers.ddpm, progress=progress)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    each = jd.generate(trees.example_keys(KEY, 8)[2:5], denoiser, (3, 2), solver=tableau, progress=progress)
    np.testing.assert_allclose(each, want[2:5], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keys", [False, True])
def test_a_sample_with_a_key_of_rbg_does_not_depend_on_the_others(keys):
    key = jax.random.key(0, impl="rbg")
    given = (lambda n: jax.random.split(key, 5)[:n]) if keys else (lambda n: key)
    some, all_ = (jd.generate(given(n), mixture(EDM), (n, 2), steps=3, solver=solvers.ddpm) for n in (3, 5))
    np.testing.assert_allclose(some, all_[:3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", [solvers.heun, solvers.sa_solver])
def test_the_bar_changes_no_bit_and_counts_evaluations(solver, capsys):
    plain = jd.generate(KEY, mixture(EDM), (5, 2), steps=4, solver=solver, batch_size=3)
    watched = jd.generate(KEY, mixture(EDM), (5, 2), steps=4, solver=solver, batch_size=3, progress=True)
    np.testing.assert_array_equal(watched, plain)
    evaluations = 2 * len(solver(EDM, 4))
    assert f"{evaluations}/{evaluations}" in capsys.readouterr().err


def test_batches_are_parts_of_the_whole_on_the_host():
    shape = {"a": jax.ShapeDtypeStruct((7, 3), jnp.float32), "b": jax.ShapeDtypeStruct((7, 2, 2), jnp.bfloat16)}
    denoiser = jd.denoisers.gaussian(EDM, {"a": 1.0, "b": -1.0}, 0.5)
    whole = jd.generate(KEY, denoiser, shape, steps=3, solver=solvers.ddpm)
    chex.assert_shape([whole["a"], whole["b"]], [(7, 3), (7, 2, 2)])
    for size in (1, 3, np.int64(7), 100):
        parts = jd.generate(KEY, denoiser, shape, steps=3, solver=solvers.ddpm, batch_size=size)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(parts))
        chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_other_parameters_scales_grids_and_numbers_of_samples_compile_nothing():
    traced = []

    def apply(params, x, t, cond):
        traced.append(None)
        return params * x + cond

    def draw(parameter, scale, **options):
        made = [jd.denoisers.from_network(EDM, parametrizations.v(), apply, parameter, c) for c in (0.0, 1.0)]
        guided = jd.guidance.classifier_free(*made, scale)
        return np.asarray(jd.generate(KEY, guided, (4, 2), steps=5, batch_size=4, **options))

    first = draw(0.1, 1.5)
    compiled, once = [], len(traced)
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    others = draw(0.2, 1.5), draw(0.1, 2.5), draw(0.1, 1.5, grid=functools.partial(grids.karras, rho=5.0))
    assert len(traced) == once
    assert compiled == []
    for other in others:
        assert np.abs(other - first).max() > 1e-3
    draw(0.1, 1.5, solver=solvers.heun)
    assert compiled  # so that the counter is known to count


def test_solvers_and_grids_in_every_form():
    denoiser, shape = mixture(EDM), (4, 2)
    want = jd.generate(KEY, denoiser, shape, steps=5, solver=functools.partial(solvers.ddim, eta=0.5))
    for solver in (
        choose(solvers.ddim, eta=0.5),
        lambda process, times: solvers.ddim(process, times, eta=0.5),
        solvers.ddim(EDM, 5, eta=0.5),
    ):
        np.testing.assert_array_equal(jd.generate(KEY, denoiser, shape, steps=5, solver=solver), want)
    want = jd.generate(KEY, denoiser, shape, solver=solvers.ddim(EDM, grids.karras(EDM, 5, rho=3.0)))
    for grid in (functools.partial(grids.karras, rho=3.0), choose(grids.karras, rho=3.0)):
        got = jd.generate(KEY, denoiser, shape, steps=5, solver=solvers.ddim, grid=grid)
        np.testing.assert_array_equal(got, want)


def test_a_grid_that_is_made_with_the_denoiser():
    denoiser = mixture(EDM)
    times = grids.gits(EDM, 4, denoiser, _noise(EDM, np.array([EDM.t_max]), (16, 2)), teacher_steps=8)
    want = jd.generate(KEY, denoiser, (16, 2), solver=solvers.ddim(EDM, times))
    for gits in (functools.partial(grids.gits, teacher_steps=8), choose(grids.gits, teacher_steps=8)):
        got = jd.generate(KEY, denoiser, (16, 2), steps=4, solver=solvers.ddim, grid=gits)
        np.testing.assert_array_equal(got, want)


def test_the_noise_of_a_grid_that_begins_below_t_max():
    """Where signal is left the noise is that of the first time. At t_max of `flow` it would be 1.2 per cent larger."""
    process = PROCESSES["flow"]
    first = _noise(process, grids.karras(process, 5), (4, 2))
    np.testing.assert_allclose(first, _noise(process, np.array([1.0]), (4, 2)) * 80 / 81, rtol=1e-6)


def test_a_bar_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"progress = True needs the package tqdm; pip install 'jaxdiff\[train\]'"):
        jd.generate(KEY, mixture(EDM), (4, 2), progress=True)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, mixture(EDM), (4, 2)), {}, TypeError, "key = 0"),
        ((jax.random.split(KEY, 3), mixture(EDM), (4, 2)), {}, ValueError, r"key.shape = \(3,\); allowed are .*\(4,\)"),
        ((KEY, lambda x, t: x, (4, 2)), {}, TypeError, "callables with a process"),
        ((KEY, mixture(EDM), 4), {}, TypeError, r"shape = 4; allowed are \(batch, \*event\)"),
        ((KEY, mixture(EDM), (0, 2)), {}, ValueError, "n = 0"),
        ((KEY, mixture(EDM), (4, 2)), {"steps": 2.0}, ValueError, "steps = 2.0"),
        ((KEY, mixture(EDM), (4, 2)), {"steps": 0}, ValueError, "steps = 0"),
        ((KEY, mixture(EDM), (4, 2)), {"batch_size": 0}, ValueError, "batch_size = 0"),
        ((KEY, mixture(EDM), (4, 2)), {"solver": "heun"}, TypeError, "solver = 'heun'"),
        ((KEY, mixture(EDM), (4, 2)), {"grid": "karras"}, TypeError, "grid = 'karras'"),
        ((KEY, mixture(EDM), (4, 2)), {"solver": solvers.ddim(EDM, 3), "grid": grids.karras}, ValueError, "grid = .*none"),
        ((KEY, mixture(EDM), (4, 2)), {"solver": solvers.ddim(PROCESSES["flow"], 3)}, ValueError, "denoiser.process = "),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        jd.generate(*arguments, **options)
