"""Parity with azula: guidance and posterior denoisers of the mixture in float64.

`tests/references/README.md` says how the arrays were made.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from common import MEANS, STDS, mixture
from executor import references

import jaxdiff as jd
from jaxdiff import posterior

STORED = references("azula")
SETTING, RESULT = STORED["setting"], STORED["result"]
PROCESS = jd.processes.flow()
TIMES, AFTER, STD = SETTING["times"], float(SETTING["next"]), float(SETTING["std"])


def prior():
    return mixture(PROCESS)


def operator():
    matrix = jnp.asarray(SETTING["matrix"])
    return posterior.operators.linear(lambda matrix, x: x @ matrix.T, (2,), matrix)


def seen(name, **options):
    return getattr(posterior, name)(prior(), operator(), jnp.asarray(SETTING["seen"]), **options)


def component():
    return jd.denoisers.gaussian_mixture(PROCESS, np.ones(1), MEANS[:1], STDS[:1])


def step(x, estimate, t, noise):
    """The mean of a step to `AFTER`, of which `noise` is the part of eps that is drawn anew."""
    tau = noise * (1 - ((1 - t) / (1 - AFTER) * AFTER / t) ** 2)
    return (1 - AFTER) * estimate.x0 + AFTER * np.sqrt(1 - tau) * (x - (1 - t) * estimate.x0) / t


OURS = {
    "mmps gmres 1": lambda: seen("mmps", std=STD),
    "mmps gmres 2": lambda: seen("mmps", std=STD, iterations=2),
    "mmps cg 2": lambda: seen("mmps", std=STD, iterations=2, solver="cg"),
    "tmpd": lambda: seen("tmpd", std=STD),
    "diffpir": lambda: seen("diffpir", std=STD, strength=0.7),
    "cfg": lambda: jd.guidance.classifier_free(component(), prior(), 2.5),
}


def test_every_stored_array_is_compared():
    assert set(RESULT) == {f"{name}, {t}" for name in (*OURS, "dps", "pgdm") for t in TIMES}


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("name", OURS)
def test_estimates_agree_to_eight_digits(name, t, x64):
    estimate = OURS[name]()(jnp.asarray(SETTING["x"]), t)
    np.testing.assert_allclose(estimate.x0, RESULT[f"{name}, {t}"], atol=1e-8)


@pytest.mark.parametrize("t", TIMES)
def test_a_step_of_dps_agrees(t, x64):
    x = jnp.asarray(SETTING["x"])
    estimate = seen("dps", times=np.array([t, AFTER]), zeta=0.4)(x, t)
    np.testing.assert_allclose(step(x, estimate, t, 1.0), RESULT[f"dps, {t}"], atol=1e-8)


@pytest.mark.parametrize("t", TIMES)
def test_the_correction_of_pigdm_agrees(t, x64):
    """azula adds `alpha_s alpha_t` times the correction to a step; ours is a score, with the variance of the paper."""
    x = jnp.asarray(SETTING["x"])
    before, after = prior()(x, t), seen("pigdm", std=0.0)(x, t)
    gradient = (after.x0 - before.x0) * (1 - t) / ((1 - t) ** 2 + t**2)
    expected = step(x, before, t, 0.0) + (1 - AFTER) * (1 - t) * gradient
    np.testing.assert_allclose(expected, RESULT[f"pgdm, {t}"], atol=1e-8)
