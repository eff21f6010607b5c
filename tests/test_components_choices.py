"""Every function that a preset can name: which functions they are, their options in JSON and in help, and their use."""

import functools
import inspect
import json
import re
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import mixture

import jaxdiff as jd
from jaxdiff import grids, parametrizations, processes, solvers
from jaxdiff.components import Choices, choose, from_json, options_of, settings_of, to_json
from jaxdiff.files import load_module
from jaxdiff.models.diffusion import ProcessChoice
from jaxdiff.models.sampling import GridChoice
from jaxdiff.objectives import times, weightings
from jaxdiff.parametrizations import ParametrizationChoice
from jaxdiff.solvers import Restart, SolverChoice

KEY = jax.random.key(0)
EDM = processes.edm(0.01, 40.0)
GRID = grids.karras(EDM, 6)

# The homes, with the arguments that the caller gives, and the functions that are shown beside the choices.
HOMES = {
    "solvers": (SolverChoice, {"chain"}),
    "grids": (Annotated[Any, Choices("jaxdiff.grids", ("process", "steps", "denoiser", "x"))], set()),
    "processes": (
        Annotated[Any, Choices("jaxdiff.processes", ("key",))],
        {
            "corrupt", "diffusion", "drift", "enforce_zero_terminal_snr", "log_snr", "on_host", "prior_sample", "same_process", "time_of_log_snr",
        },
    ),
    "parametrizations": (
        ParametrizationChoice,
        {
            "check", "default_time_input", "determinant", "estimate", "log_ratio_time_input", "output_of",
            "raw_time_input", "unscaled",
        },
    ),
    "times": (times.TimesChoice, set()),
    "weightings": (weightings.WeightingChoice, set()),
}  # fmt: skip
MODULES = {
    "solvers": solvers, "grids": grids, "processes": processes, "parametrizations": parametrizations, "times": times,
    "weightings": weightings,
}  # fmt: skip
RESTARTS = (Restart(0.1, 1.0, 2, 3), Restart(0.5, 5.0, 1, 2))
REQUIRED = {
    solvers.churn: {"solver": solvers.heun, "s_churn": 3.0},
    solvers.restarts: {"solver": choose(solvers.ddim, eta=0.5), "restarts": RESTARTS},
    solvers.temperature: {"solver": solvers.dpm_solver_pp, "temperature": 0.9},
    grids.from_sigmas: {"sigmas": (2.0, 1.0, 0.5, 0.0)},
    processes.vp_from_betas: {"betas": (0.1, 0.2, 0.3)},
    weightings.uniform: {"parametrization": choose(parametrizations.v)},
}


def _members(home):
    """The choices of a home. They are found by hand, so that a mistake in `Choices` is seen."""
    module, others = MODULES[home], HOMES[home][1]
    shown = {name: getattr(module, name) for name in module.__all__}
    return {name: f for name, f in shown.items() if inspect.isfunction(f) and name not in others}


MEMBERS = [(home, function) for home in HOMES for function in _members(home).values()]
EVERY = pytest.mark.parametrize(("home", "function"), MEMBERS, ids=[f"{h} {f.__name__}" for h, f in MEMBERS])


def _choices(home):
    return HOMES[home][0].__metadata__[0]


def _again(hint, choice):
    """A choice, written as a file and read again."""
    return from_json(hint, json.loads(json.dumps(to_json(choice), allow_nan=False)))


@pytest.mark.parametrize("home", HOMES)
def test_the_members_of_a_home_are_its_choices_and_no_others(home):
    assert _choices(home).members() == _members(home)


@EVERY
def test_a_choice_comes_back_from_json(home, function):
    choice, hint = choose(function, **REQUIRED.get(function, {})), HOMES[home][0]
    back = _again(hint, choice)
    assert back == choice
    assert hash(back) == hash(choice)
    assert to_json(choice)["kind"] == function.__name__
    if function not in REQUIRED:
        assert from_json(hint, {"kind": function.__name__}) == from_json(hint, function) == choice


def _sentences(owner, section):
    """The sentences of a docstring's section, by name."""
    text = inspect.getdoc(owner).partition(f"{section}:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^  (\w+): (.+)", text, re.MULTILINE)
    return {name: sentence for name, sentence in found if len(sentence.split()) > 1}


@EVERY
def test_every_option_is_documented(home, function):
    """An option is every argument that the caller does not give. Its sentence becomes a line of `--help`."""
    given = _choices(home).given
    options = {name for name in inspect.signature(function).parameters if name not in given}
    assert options <= set(options_of(function))
    assert options <= set(_sentences(function, "Args"))


def test_the_settings_inside_of_options_are_documented():
    for cls in (Restart, solvers.Butcher):
        assert set(settings_of(cls)) == set(_sentences(cls, "Attributes"))


# ------------------------------------------------------------------------------------------ use


def _same(one, other):
    assert type(one) is type(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def _of_home(home):
    functions = [function for other, function in MEMBERS if other == home]
    return pytest.mark.parametrize("function", functions, ids=[f.__name__ for f in functions])


@_of_home("solvers")
def test_a_chosen_solver_makes_its_tableau(function):
    options = REQUIRED.get(function, {})
    tableau = _again(SolverChoice, choose(function, **options))(process=EDM, times=GRID)
    assert isinstance(tableau, solvers.Tableau)
    _same(tableau, function(EDM, GRID, **options))


@_of_home("grids")
def test_a_chosen_grid_makes_its_times(function):
    process = {
        grids.discrete: processes.vp_discrete(), grids.shifted: processes.flow(), grids.gits: EDM,
    }.get(function, processes.edm())  # fmt: skip
    options = REQUIRED.get(function, {"teacher_steps": 6} if function is grids.gits else {})
    x = jd.prior_sample(KEY, process, (4, 2))
    choice = _again(HOMES["grids"][0], choose(function, **options))
    got = choice(process=process, steps=3, denoiser=mixture(process), x=x)
    assert got.shape == (4,)
    assert np.all(np.diff(got) < 0)
    given = {"process": process, "steps": 3, "denoiser": mixture(process), "x": x}
    taken = inspect.signature(function).parameters
    np.testing.assert_array_equal(got, function(**{k: v for k, v in given.items() if k in taken}, **options))


@_of_home("processes")
def test_a_chosen_process_is_the_process(function):
    options = REQUIRED.get(function, {"hidden": 5} if function is processes.learned else {})
    process = _again(HOMES["processes"][0], choose(function, **options))(key=KEY)
    assert isinstance(process, processes.Process)
    _same(process, function(*([KEY] if function is processes.learned else []), **options))


@_of_home("parametrizations")
def test_a_chosen_parametrization_is_equal_to_the_parametrization(function):
    """So that JAX compiles once for both."""
    assert _again(ParametrizationChoice, choose(function))() == function()
    named = {
        "raw": parametrizations.raw_time_input, "default": parametrizations.default_time_input,
        "log_ratio": parametrizations.log_ratio_time_input,
    }  # fmt: skip
    for name, time_input in named.items():
        made = _again(ParametrizationChoice, choose(function, time_input=name))()
        assert made == function(time_input=name) == function(time_input=time_input)
        assert made.time_input is time_input


@_of_home("times")
def test_a_chosen_time_sampler_draws_times_of_the_process(function):
    process = processes.vp_discrete("cosine", 9)
    sampler = _again(times.TimesChoice, choose(function))(process=process)
    t, weight = sampler(KEY, process, 64)
    assert t.shape == weight.shape == (64,)
    assert np.min(t) >= process.t_min
    assert np.max(t) <= process.t_max
    assert len(np.unique(t)) > 5
    again = function(process) if function is times.importance else function()
    np.testing.assert_array_equal(again(KEY, process, 64)[0], t)


@_of_home("weightings")
def test_a_chosen_weighting_weighs(function):
    options, t = REQUIRED.get(function, {}), jnp.linspace(0.1, 0.9, 5)
    process = processes.vp_linear()
    weight = _again(weightings.WeightingChoice, choose(function, **options))()(process, t)
    assert np.all(weight > 0)
    assert np.all(np.isfinite(weight))
    np.testing.assert_array_equal(weight, function(**options)(process, t))


def test_the_uniform_weighting_takes_a_parametrization_in_every_form():
    process, t = processes.vp_linear(), jnp.linspace(0.1, 0.9, 5)
    want = weightings.uniform(parametrizations.edm(0.6))(process, t)
    choice = choose(parametrizations.edm, sigma_data=0.6)
    for made in (choice, functools.partial(parametrizations.edm, 0.6), lambda: parametrizations.edm(0.6)):
        np.testing.assert_array_equal(weightings.uniform(made)(process, t), want)
    np.testing.assert_allclose(want, weightings.edm(0.6)(process, t), rtol=1e-6)


# ------------------------------------------------------------------------------------------ solvers of solvers


def test_solvers_of_solvers_come_back_from_json():
    """Three deep: the tableau is that of the direct call."""
    churned = choose(solvers.churn, solver=choose(solvers.heun, coordinate="flow"), s_churn=3.0, s_max=10.0)
    restarted = choose(solvers.restarts, solver=churned, restarts=RESTARTS)
    choice = choose(solvers.temperature, solver=restarted, temperature=0.95)
    tree = to_json(choice)
    assert tree["solver"]["solver"]["solver"] == {"kind": "heun", "coordinate": "flow"}
    assert tree["solver"]["restarts"][0] == {"sigma_min": 0.1, "sigma_max": 1.0, "repeats": 2, "steps": 3}
    back = _again(SolverChoice, choice)
    assert back == choice
    assert hash(back) == hash(choice)

    heun = functools.partial(solvers.heun, coordinate="flow")
    churn = functools.partial(solvers.churn, solver=heun, s_churn=3.0, s_max=10.0)
    restarts = functools.partial(solvers.restarts, solver=churn, restarts=RESTARTS)
    direct = solvers.temperature(EDM, GRID, solver=restarts, temperature=0.95)
    _same(back(process=EDM, times=GRID), direct)
    plain = solvers.restarts(EDM, GRID, solver=heun, restarts=RESTARTS)
    assert len(direct) == len(plain)
    assert direct.noise.any(axis=(1, 2)).sum() > plain.noise.any(axis=(1, 2)).sum() == 3


def test_churn_of_restarts_comes_back_from_json():
    """Churn needs a solver whose steps are alike, so that there are no intervals to restart."""
    choice = choose(solvers.churn, solver=choose(solvers.restarts, solver=solvers.dpm_2, restarts=()), s_churn=3.0)
    back = _again(SolverChoice, choice)
    assert back == choice
    restarts = functools.partial(solvers.restarts, solver=solvers.dpm_2, restarts=())
    _same(back(process=EDM, times=GRID), solvers.churn(EDM, GRID, solver=restarts, s_churn=3.0))
    multistep = choose(solvers.churn, solver=solvers.dpm_solver_pp, s_churn=3.0)
    with pytest.raises(ValueError, match="solver = 'dpm_solver_pp'; allowed are one-step solvers"):
        multistep(process=EDM, times=GRID)


@pytest.mark.parametrize("name", ["heun", "midpoint", "ralston", "kutta3", "rk4"])
def test_a_named_butcher_table_is_the_table(name):
    table = getattr(solvers, name.upper())
    for butcher in (name, table):
        choice = _again(SolverChoice, choose(solvers.runge_kutta, butcher=butcher))
        assert dict(choice.options)["butcher"] == butcher
        _same(choice(process=EDM, times=GRID), solvers.runge_kutta(EDM, GRID, butcher=table))


@pytest.mark.parametrize(
    ("hint", "tree"),
    [
        (SolverChoice, {"kind": f"{load_module.__module__}:load_module", "path": "evil.py"}),
        (ProcessChoice, {"kind": f"{load_module.__module__}:load_module", "path": "evil.py"}),
        (GridChoice, {"kind": "builtins:input"}),
        (weightings.WeightingChoice, {"kind": "logging:shutdown"}),
        (SolverChoice, {"kind": "os:abort"}),
    ],
)
def test_a_file_chooses_no_function_that_is_not_meant_for_the_setting(hint, tree):
    """Each of these functions can be called with the arguments that the setting gives, and with options of the file."""
    with pytest.raises(ValueError, match=r"kind = .*; allowed are names in .* of the same kind as"):
        from_json(hint, tree)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: choose(solvers.churn, solver=grids.karras, s_churn=1.0), "churn.solver.kind = 'karras'; allowed are churn, .* functions with such arguments, annotated"),
        (lambda: choose(solvers.churn, solver=solvers.chain, s_churn=1.0), "churn.solver.kind = 'chain'; allowed are churn, ddim"),
        (lambda: choose(solvers.restarts, solver=solvers.ddim, restarts=[{"sigma_min": 1.0, "sigma_max": 0.1, "repeats": 1, "steps": 1}]),
         r"restarts.restarts.0: \(sigma_min, sigma_max\) = \(1.0, 0.1\)"),
        (lambda: choose(solvers.restarts, solver=solvers.ddim, restarts=[{"sigma_min": 0.1, "sigma_max": 1.0, "repeats": 0, "steps": 1}]),
         "restarts.restarts.0.repeats = 0; allowed are integers of at least 1"),
        (lambda: choose(solvers.runge_kutta, butcher="rk5"), "runge_kutta.butcher = 'rk5'; allowed are 'heun', .* and objects"),
        (lambda: choose(solvers.runge_kutta, butcher={"a": [[0]], "b": ["one"], "c": [0]}), "runge_kutta.butcher.b.0 = 'one'"),
        (lambda: choose(parametrizations.v, time_input=lambda process, t: t), "v.time_input = .*; allowed are 'default', 'raw', 'log_ratio'"),
        (lambda: choose(processes.vp_discrete, schedule="cosin"), "vp_discrete.schedule = 'cosin'; .*did you mean 'cosine'"),
        (lambda: choose(grids.from_sigmas, sigmas=3.0), "from_sigmas.sigmas = 3.0; allowed are lists"),
    ],
)  # fmt: skip
def test_wrong_choices(make, message):
    with pytest.raises(ValueError, match=message):
        make()
