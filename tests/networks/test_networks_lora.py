"""Adapters of low rank: they begin as nothing, they merge into the kernels, and they alone are trained."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff import trees
from jaxdiff.networks import MLP, DiT, LoRA, UNet, as_network
from jaxdiff.networks.module import Spec
from jaxdiff.objectives.objective import Group
from jaxdiff.training.optimizers import OptimizerConfig, make_optimizer

LABEL = {"label": Spec("class", classes=3)}
TRANSFORMER = DiT(width=8, depth=2, heads=2, dropout=0.5)
NET = LoRA(TRANSFORMER, rank=2, alpha=6.0).given(LABEL)
X = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 1)), jnp.float32)
TIME, CLASS = jnp.array([3.0, 40.0]), jnp.array([0, 3])


@pytest.fixture(scope="module")
def fresh():
    """Fresh variables, and those of the network alone at random numbers, in its place."""
    variables = jax.jit(NET.init)(jax.random.key(0), X, TIME, CLASS)
    network = trees.normal_like(jax.random.key(1), variables["params"]["network"])
    network = jax.tree.map(lambda leaf: leaf / math.sqrt(leaf.shape[-1]), network)
    return NET.start(variables, {"params": network})


def outputs(params):
    """The outputs with adapters, and those of the network with merged kernels."""
    alone = NET.network.apply({"params": NET.merged(params)}, X, TIME, CLASS)
    return NET.apply({"params": params}, X, TIME, CLASS), alone


def test_fresh_adapters_change_nothing(fresh):
    expected = jax.jit(NET.network.apply)({"params": fresh["params"]["network"]}, X, TIME, CLASS)
    assert jnp.abs(expected).max() > 0.1
    np.testing.assert_allclose(jax.jit(outputs)(fresh["params"])[0], expected, atol=1e-6)
    downs = [leaf for p, leaf in jax.tree_util.tree_leaves_with_path(fresh["params"]) if "down" in trees.name_of(p)]
    assert all(jnp.abs(leaf).min() > 0 for leaf in downs)


def test_every_kernel_has_the_sum_of_the_paper(fresh):
    """W + alpha/r B A with a product per layer, in float64."""
    random = np.random.default_rng(1)
    noise = jax.tree.map(lambda leaf: 0.1 * random.standard_normal(leaf.shape), fresh["params"]["adapters"])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), fresh["params"]) | {"adapters": noise}
    layer, first = (params["network"][name] for name in ("layers", "patch_in"))
    qkv, patch = noise["layers"]["attention"]["qkv"]["kernel"], noise["patch_in"]["kernel"]
    expected = [layer["attention"]["qkv"]["kernel"][i] + 3 * qkv["down"][i] @ qkv["up"][i] for i in range(2)]
    merged = NET.merged(jax.tree.map(jnp.float32, params))
    np.testing.assert_allclose(merged["layers"]["attention"]["qkv"]["kernel"], expected, atol=1e-6)
    expected = first["kernel"] + 3 * np.einsum("hwir,ro->hwio", patch["down"], patch["up"])
    np.testing.assert_allclose(merged["patch_in"]["kernel"], expected, atol=1e-6)
    np.testing.assert_array_equal(merged["patch_in"]["bias"], jnp.float32(first["bias"]))
    found, alone = jax.jit(outputs)(jax.tree.map(jnp.float32, params))
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert jnp.abs(found - jax.jit(outputs)(fresh["params"])[0]).max() > 1e-2


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_the_adapters_are_trained(name, fresh):
    """Weight decay too leaves the network as it is, and the network has no state in the optimiser."""

    def trained(path, leaf):
        return re.search(NET.trained, ".".join(path)) is not None

    config = OptimizerConfig(name=name, learning_rate=0.1, warmup=0, weight_decay=0.1)

    def hidden(path, leaf):
        return re.search(NET.hidden, ".".join(path)) is not None

    optimizer = make_optimizer(config, 10, hidden=hidden, trained=trained, groups=(Group("out.dense", rate=0.5),))
    params = fresh["params"]

    @jax.jit
    def step(params, state):
        # A gradient of ones everywhere, in the frozen network too.
        gradients = jax.tree.map(jnp.ones_like, params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, updates

    moved, state, updates = step(params, optimizer.init(params))
    moved, _, _ = step(moved, state)
    jax.tree.map(np.testing.assert_array_equal, moved["network"], params["network"])
    pairs = [jax.tree.leaves(tree["adapters"]) for tree in (moved, params)]
    assert all(bool((a != b).any()) for a, b in zip(*pairs, strict=True))
    named = [trees.words_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert any("adapters" in words for words in named)
    assert not any("network" in words for words in named)
    # Adam's first step is the rate, whatever the gradient. The clipped norm counts the gradients of adapters alone.
    if name == "adamw":
        up, change = (tree["adapters"]["out"]["modulation"]["dense"]["kernel"]["up"] for tree in (params, updates))
        np.testing.assert_allclose(change, -0.1 * (1 + 0.1 * up), rtol=1e-4)


def test_the_network_inside_says_what_the_network_takes_and_gives():
    assert (NET.takes, NET.gives, NET.specs) == (TRANSFORMER.takes, "example", NET.network.specs)
    assert NET.quiet().network == NET.network.quiet() != NET.network
    assert NET.plain().network == NET.network.plain()
    assert NET.changed(out_channels=2).network.out_channels == 2
    assert LoRA(MLP()).giving(5) == LoRA(MLP(out_features=5))
    assert not LoRA(DiT(attention="cudnn")).forward_mode
    with pytest.raises(ValueError, match=r"setting groups = 3; allowed are those of networks that have it, and DiT"):
        NET.changed(groups=3)


def test_networks_of_ones_own_have_adapters_too():
    pair = (lambda key: {"kernel": jnp.eye(2)}, lambda params, x, time: x @ params["kernel"])
    network = LoRA(as_network(pair), rank=1)
    x = jnp.ones((3, 2))
    variables = network.init(jax.random.key(0), x, jnp.zeros(3))
    np.testing.assert_array_equal(network.evaluate(variables, x, jnp.zeros(3))[0], x)
    variables["params"]["adapters"]["kernel"] = {"down": jnp.array([[1.0], [2.0]]), "up": jnp.array([[1.0, 0.5]])}
    np.testing.assert_allclose(network.apply(variables, x, jnp.zeros(3))[0], [4.0, 2.5])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 0}, "rank = 0; allowed are integers of at least 1"),
        ({"alpha": -1.0}, "alpha = -1.0; allowed are finite numbers above 0"),
        ({"targets": "("}, "targets = '('; allowed are regular expressions"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        LoRA(UNet(), **settings)


def test_targets_have_to_fit_a_kernel():
    with pytest.raises(ValueError, match="targets = 'bias'; allowed are patterns that fit an array of two or more"):
        jax.eval_shape(LoRA(MLP(), targets="bias").init, jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1))
