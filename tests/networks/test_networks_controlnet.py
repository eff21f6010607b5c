"""The side network in the manner of ControlNet."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import ControlNet, UNet, published
from jaxdiff.networks.module import Spec

INNER = UNet(channels=8, multipliers=(1, 2), num_blocks=0, attention_levels=())
SPECS = {"hint": Spec("planes", (12, 2)), "label": Spec("class", classes=3)}
OTHERS = {"label": SPECS["label"]}
NET = ControlNet(INNER, hint_channels=(4, 6)).given(SPECS)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


X, TIME = normal(2, 6, 3), jnp.array([3.0, 40.0])
TOLD = {"label": jnp.array([0, 3])}
HINT = {"hint": normal(2, 12, 2, seed=2)}


def test_a_fresh_side_network_changes_nothing_and_its_parts_are_copies(random_variables):
    trained = random_variables(INNER.given(OTHERS), X, TIME, TOLD)
    fresh = jax.jit(NET.init)(jax.random.key(0), X, TIME, TOLD | HINT)
    variables = NET.start(fresh, trained)
    expected = jax.jit(INNER.given(OTHERS).apply)(trained, X, TIME, TOLD)
    found = jax.jit(NET.apply)(variables, X, TIME, TOLD | HINT)
    np.testing.assert_allclose(found, expected, atol=1e-6 * float(jnp.abs(expected).max()))
    params = variables["params"]
    own = {name for name in params["side"] if name.startswith(("hint_", "zero_"))}
    for name in set(params["side"]) - own:
        jax.tree.map(np.testing.assert_array_equal, params["side"][name], trained["params"][name])
    assert own == {"hint_in", "hint_0", "hint_0_resample", "hint_out", "zero_0", "zero_1", "zero_mid"}


def test_the_hint_and_every_part_of_the_side_network_matter(random_variables):
    variables = random_variables(NET, X, TIME, TOLD | HINT)
    shapes = jax.eval_shape(NET.init, jax.random.key(0), X, TIME, TOLD | HINT)
    assert jax.tree.structure(shapes) == jax.tree.structure(variables)

    @jax.jit
    def slopes(params, hint):
        def loss(params, hint):
            return jnp.mean(jnp.square(NET.apply({"params": params}, X, TIME, TOLD | {"hint": hint})))

        return jax.grad(loss, argnums=(0, 1))(params, hint)

    of_params, of_hint = slopes(variables["params"], HINT["hint"])
    assert jnp.abs(of_hint).max() > 0
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(of_params["side"]))


def test_the_number_of_parameters_is_that_of_the_published_network():
    """The tensors of `lllyasviel/sd-controlnet-canny` (ControlNetModel of diffusers)."""
    net = ControlNet(published.stable_diffusion_1(), hint_channels=(16, 32, 96, 256))
    net = net.given({"hint": Spec("planes", (128, 128, 3)), "text": Spec("tokens", (77, 768))})
    cond = {"hint": jnp.zeros((1, 128, 128, 3))}
    cond |= {"text": {"values": jnp.zeros((1, 77, 768)), "mask": jnp.ones((1, 77), bool)}}
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 4)), jnp.zeros(1), cond)["params"]
    sizes = {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part)) for name, part in shapes.items()}
    assert sizes == {"network": 859_520_964, "side": 361_279_120}


@pytest.mark.parametrize(
    ("cond", "words"),
    [
        (TOLD, "entries of cond = ['label']; allowed are mappings with the hint 'hint'"),
        (TOLD | {"hint": normal(2, 6, 2)}, "cond['hint'].shape = (2, 6, 2); allowed are (2, 12, 'c')"),
    ],
)
def test_hints_that_do_not_fit_are_refused(cond, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        jax.eval_shape(NET.init, jax.random.key(0), X, TIME, cond)


def test_a_side_network_needs_a_hint():
    with pytest.raises(ValueError, match="hint = 'hint'; allowed are conditions of planes: low"):
        ControlNet().given({"low": Spec("planes", (4, 1))})


def test_validation_is_without_dropout():
    assert ControlNet(UNet(dropout=0.1, remat="dots")).quiet().plain() == ControlNet(UNet())
