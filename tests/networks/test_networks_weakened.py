"""Layers of the U-Net that are weakened for guidance."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import UNet
from jaxdiff.networks.module import Spec

NET = UNet(channels=8, multipliers=(1, 1), num_blocks=1, attention_levels=(1,))
TOKENS = {"text": Spec("tokens", (3, 4))}
TIME = jnp.array([3.0, 40.0])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


X = normal(2, 6, 3)
GIVEN = {"text": {"values": normal(2, 3, 4, seed=1), "mask": jnp.ones((2, 3), bool)}}


@pytest.mark.parametrize("specs", [{}, TOKENS])
def test_perturbed_attention_is_attention_to_one_position(random_variables, specs):
    """Where the bottom has one position, perturbing changes nothing; where it has several, it does."""
    net = NET.given(specs)
    cond = GIVEN if specs else None
    variables = random_variables(net, X, TIME, cond)
    weak = net.clone(perturbed=("mid_attention", "down_1_attention_0", "up_1_attention_0", "up_1_attention_1"))
    for x, same in ((X, False), (X[:, :2], True)):
        strong, found = (jax.jit(one.apply)(variables, x, TIME, cond) for one in (net, weak))
        gap, size = float(jnp.abs(found - strong).max()), float(jnp.abs(strong).max())
        assert gap < 1e-5 * size if same else gap > 1e-3 * size


@pytest.mark.parametrize("name", ["mid_attention", "up_1_attention_0", "mid_block_0", "down_1_block_0"])
def test_a_skipped_layer_is_a_layer_that_adds_nothing(random_variables, name):
    variables = random_variables(NET, X, TIME)
    last = "out" if "attention" in name else "conv_out"
    layer = variables["params"][name]
    silent = {**layer, last: jax.tree.map(jnp.zeros_like, layer[last])}
    expected = jax.jit(NET.apply)({"params": {**variables["params"], name: silent}}, X, TIME)
    found = jax.jit(NET.clone(skipped=(name,)).apply)(variables, X, TIME)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))
    assert jnp.abs(found - jax.jit(NET.apply)(variables, X, TIME)).max() > 1e-3 * jnp.abs(found).max()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"perturbed": ("mid",)}, "perturbed = 'mid'; allowed are layers of attention: down_1_attention_0, mid_att"),
        ({"skipped": ("conv_in",)}, "skipped = 'conv_in'; allowed are layers that keep the shape: down_1_attention_0"),
        ({"skipped": ("up_1_block_0",)}, "skipped = 'up_1_block_0'; allowed are layers that keep the shape"),
    ],
)
def test_layers_that_cannot_be_weakened_are_refused(settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        jax.eval_shape(NET.clone(**settings).init, jax.random.key(0), X, TIME)
