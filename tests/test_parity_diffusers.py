"""Parity with diffusers: stored samples of its schedulers on an exactly denoised mixture, against our tableaux.

`tests/references/README.md` says how the samples were made. Ours agree to 1e-5 with the float32 samples, and to 1e-10
with the float64 samples, where a class allows them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, mixture
from executor import padded, references, run

import jaxdiff as jd
from jaxdiff import grids, processes, solvers
from jaxdiff.solvers import integrals
from jaxdiff.solvers.adams import adams

STORED = references("diffusers")
FLOW, INDEXED = PROCESSES["flow"], PROCESSES["vp_discrete"]
sample = jax.jit(jd.sample)
LEVELS = processes.vp_linear(beta_max=21.0)  # variance-preserving, and reaches their highest noise level


def sa_solver_as_its_authors(process, times, order, corrector_order, tau):
    """SA-Solver as in the code of its authors, which diffusers follows.

    Where two estimates are used, their difference weighs `(1 + tau^2) h/2`, as in UniPC's "bh1", instead of its exact
    integral.
    """
    integral = integrals.data(process, times, tau)
    half = (1 + tau**2) * process.alpha(times[1:]) * np.diff(integral.position) / 2

    def published(moments):
        return moments if moments.shape[-1] != 2 else np.stack([moments[:, 0], half], axis=-1)

    options = {"order": order, "corrector_order": corrector_order, "lower_order": False}
    return adams(process, times, integral, approximate=published, **options)


# Our solvers and the schedulers lower the order at the end by different rules. Such cases were run without lower orders
# on both sides.
dpm, sde = solvers.dpm_solver_pp, functools.partial(solvers.dpm_solver_pp, tau=1.0)
CASES = {
    "ddim trailing": solvers.ddim,
    "ddim leading": solvers.ddim,
    "ddim trailing eta 0.5": functools.partial(solvers.ddim, eta=0.5),
    "ddim trailing eta 1": solvers.ddpm,
    "ddpm small": solvers.ddpm,
    "ddpm large": functools.partial(solvers.ddpm, variance="large"),
    "pndm": solvers.pndm,
    "plms": functools.partial(solvers.pndm, warm_up="heun"),
    "dpm 2m noisy": functools.partial(solvers.exponential, order=2, prediction="noise", lower_order=False),
    "dpm++ singlestep 2": functools.partial(solvers.dpm_solver_pp_singlestep, order=2),
    "dpm++ singlestep 3": functools.partial(solvers.dpm_solver_pp_singlestep, order=3),
    "euler karras": solvers.euler,
    "heun karras": solvers.heun,
    "lms karras": functools.partial(solvers.lms, order=4),
    "flow euler": solvers.euler,
    "flow heun": functools.partial(solvers.heun, coordinate="flow"),
    "flow dpm++ 2m": functools.partial(dpm, order=2, variant="midpoint"),
    "flow unipc": functools.partial(solvers.uni_pc, order=2),
}
for kind in ("midpoint", "heun"):
    for order, grid in ((2, "karras"), (2, "trailing"), (2, "noisy"), (3, "karras"), (3, "noisy")):
        CASES[f"dpm++ {order}m {kind} {grid}"] = functools.partial(dpm, order=order, variant=kind, lower_order=False)
    for grid in ("karras", "noisy"):
        CASES[f"sde-dpm++ 2m {kind} {grid}"] = functools.partial(sde, order=2, variant=kind, lower_order=False)
for order in (1, 2, 3):
    CASES[f"deis {order}"] = functools.partial(solvers.deis, order=order, lower_order=False)
    for variant in ("bh1", "bh2"):
        CASES[f"unipc {order} {variant} noisy"] = functools.partial(
            solvers.uni_pc, order=order, variant=variant, lower_order=False
        )
    if order < 3:
        CASES[f"unipc {order} bh2 karras"] = functools.partial(solvers.uni_pc, order=order, lower_order=False)
for tau in (0.0, 0.6, 1.0):
    CASES[f"sa 1 1 {tau}"] = functools.partial(solvers.sa_solver, predictor_order=1, corrector_order=1, tau=tau)
    for order, corrector in ((2, 2), (3, 4)):
        CASES[f"sa {order} {corrector} {tau}"] = functools.partial(
            sa_solver_as_its_authors, order=order, corrector_order=corrector, tau=tau
        )


def _tableau(name):
    """Our tableau on the stored grid, and the initial noise in the units of our process."""
    levels, x = STORED[name]["levels"], STORED[name]["x"]
    if name == "pndm":
        levels = levels[[0, 4, 8, *range(12, len(levels))]]  # the ends of the steps
    elif name == "plms":
        levels = levels[[0, *range(2, len(levels))]]
    elif name in ("heun karras", "flow heun"):
        levels = levels[[0, *range(1, len(levels), 2)]]
    elif "singlestep" in name:
        levels = levels[:: int(name[-1])]
    if name.startswith("flow"):
        process, times = FLOW, levels
    else:
        process = INDEXED if name.startswith(("ddim", "ddpm", "pndm", "plms")) else LEVELS
        times = grids.from_sigmas(process, levels)
    if name.startswith(("euler", "heun", "lms")):
        x = x / np.sqrt(1 + levels[0] ** 2)  # these classes hold x_0 + sigma eps
    return CASES[name](process, times), x


def test_every_stored_sample_is_compared():
    assert set(STORED) == {"mixture", *CASES}


@pytest.mark.parametrize("name", CASES)
def test_samples_agree(name):
    tableau, x = _tableau(name)
    noisy_rows = np.any(tableau.noise != 0, axis=(1, 2)).sum()
    got = run(tableau, x, STORED["mixture"]["draws"][:noisy_rows])
    assert _rms(got - STORED[name]["result"]) <= 1e-5
    if "result64" in STORED[name]:
        np.testing.assert_allclose(got, STORED[name]["result64"], rtol=0, atol=1e-10 * np.abs(got).max())


@pytest.mark.parametrize("name", [name for name in CASES if not _tableau(name)[0].noise.size])
def test_samples_of_deterministic_solvers_agree_in_float32(name):
    """The jitted sampler in float32. Stochastic solvers would draw other noise than the stored one."""
    tableau, x = _tableau(name)
    if tableau.history_length <= 4:  # one shape for most, so that they share a compilation
        tableau = padded(tableau, 2, 4)
    got = sample(jax.random.key(0), mixture(tableau.process), jnp.asarray(x, jnp.float32), tableau)
    assert _rms(got - STORED[name]["result"]) <= 1e-5


def _rms(difference):
    return np.sqrt(np.mean(np.square(difference)))
