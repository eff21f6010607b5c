"""Perturbed-attention and skip-layer guidance: the formula, the calls of the network, and the components."""

import dataclasses
from typing import Any, ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.exact import Gaussian, gaussian, loaded

from jaxdiff import denoisers, guidance, processes
from jaxdiff.conditions import Label
from jaxdiff.guidance import Linear, PerturbedAttention, SkipLayer, both
from jaxdiff.models import Sampling

PROCESS = processes.vp_cosine()
X = jax.random.normal(jax.random.key(0), (4, 3))
MEANS = (-1.0, 1.0, 0.2)
BATCHES = []


class Layered(Gaussian):
    """The exact network, whose law is wider without its layer "wide" and shifted if "shift" is perturbed."""

    perturbed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    takes: ClassVar[tuple[str, ...]] = ("class",)

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        BATCHES.append((len(x), self.perturbed, self.skipped))
        means = tuple(mean + ("shift" in self.perturbed) for mean in self.means)
        std = self.std * (2 if "wide" in self.skipped else 1)
        return Gaussian(self.law, means, std, name="exact")(x, time, cond, key)


def layered(means=MEANS, **settings):
    model = gaussian("vp_cosine", means, 0.5, **settings)
    return loaded(dataclasses.replace(model, network=Layered("vp_cosine", means, 0.5)))


@pytest.fixture(scope="module")
def model():
    return layered(conditions={"label": Label()})


def pair(mean, std=0.5, t=0.4):
    """The estimate of Gaussian data in float64."""
    alpha, sigma = (float(f(np.float64(t))) for f in (PROCESS.alpha, PROCESS.sigma))
    centred = (np.asarray(X, np.float64) - alpha * mean) / (alpha**2 * std**2 + sigma**2)
    return np.stack([mean + alpha * std**2 * centred, sigma * centred])


@pytest.mark.parametrize(
    ("rule", "weak"),
    [
        (PerturbedAttention(("shift",), 2.0, condition_scale=1.5), pair(2.0)),
        (PerturbedAttention(("shift",), 2.0), pair(2.0)),
        (SkipLayer(("wide",), 0.7, condition_scale=3.0, negative={"label": "low"}), pair(1.0, 1.0)),
        (SkipLayer(("wide",), Linear(0.7, 0.7), condition_scale=Linear(3.0, 3.0)), pair(1.0, 1.0)),
    ],
)
def test_a_rule_is_its_formula_and_calls_the_network_twice(rule, weak, model):
    scales = [s if isinstance(s, float) else s.first for s in (rule.scale, rule.condition_scale)]
    c, u = pair(1.0), pair(-1.0 if rule.negative else 0.2)
    expected = u + scales[1] * (c - u) + scales[0] * (c - weak)
    BATCHES.clear()
    found = model.denoiser(label="high", guidance=rule)(X, 0.4)
    np.testing.assert_allclose(np.stack(found), expected, rtol=2e-4, atol=2e-5)
    layers = (rule.layers, ()) if isinstance(rule, PerturbedAttention) else ((), rule.layers)
    assert sorted(BATCHES) == sorted([(4 if scales[1] == 1 else 8, (), ()), (4, *layers)])


def test_the_functions_are_the_same_formula_of_any_denoisers():
    c, u, w = (denoisers.gaussian(PROCESS, mean, std) for mean, std in ((1.0, 0.5), (0.2, 0.5), (1.0, 1.0)))
    expected = pair(0.2) + 1.5 * (pair(1.0) - pair(0.2)) + 2.0 * (pair(1.0) - pair(1.0, 1.0))
    for function in (guidance.perturbed_attention, guidance.skip_layer):
        found = function(c, w, 2.0, unconditional=u, condition_scale=jnp.full(4, 1.5))(X, 0.4)
        np.testing.assert_allclose(np.stack(found), expected, rtol=2e-4, atol=2e-5)
        chex.assert_trees_all_close(function(c, w, 0.0)(X, 0.4), c(X, 0.4), rtol=1e-6)
    together = denoisers.gaussian(PROCESS, jnp.tile(jnp.array([1.0, 0.2]), 4)[:, None], 0.5)
    rows = both(together)
    found = guidance.perturbed_attention(rows[0], w, 2.0, unconditional=rows[1], condition_scale=1.5)
    np.testing.assert_allclose(np.stack(found(X, 0.4)), expected, rtol=2e-4, atol=2e-5)
    assert len(found.sources) == 3


def test_samples_are_drawn_with_and_without_a_wish(model):
    rule = PerturbedAttention(("shift",), 0.5, condition_scale=2.0)
    assert rule.unasked() == PerturbedAttention(("shift",), 0.5)
    sampling = Sampling(steps=3, guidance=rule)
    asked, free = model.sample(jax.random.key(1), 5, label=1, sampling=sampling), None
    free = model.sample(jax.random.key(1), 5, sampling=sampling)
    assert np.isfinite(asked).all()
    assert np.isfinite(free).all()
    layered((0.0,)).bound.check_sampling(sampling)


def test_networks_without_such_layers_are_refused(model):
    bare = loaded(gaussian("vp_cosine", MEANS, 0.5, conditions={"label": Label()}))
    with pytest.raises(ValueError, match=r"setting perturbed = \('a',\); allowed are .* Gaussian has not"):
        bare.denoiser(label=1, guidance=PerturbedAttention(("a",)))
    asked = guidance.Asked({}, {})
    with pytest.raises(
        ValueError, match=r"layers = .*; allowed are none, since the denoiser does not show its network"
    ):
        SkipLayer(("a",))(lambda cond: denoisers.gaussian(PROCESS, 0.0, 1.0), asked)
    with pytest.raises(ValueError, match=r"layers = \(\); allowed are names of at least one layer"):
        SkipLayer(())
    with pytest.raises(ValueError, match=r"condition_scale = 2\.0; allowed are 1, since the model has no conditions"):
        layered((0.0,)).denoiser(guidance=SkipLayer(("wide",), condition_scale=2.0))
