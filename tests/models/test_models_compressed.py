"""Compressed weights: their error, the memory of a sampler, and the networks and models that hold them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import networks
from jaxdiff.models import compressed
from jaxdiff.networks.layers.compressed import Compressed
from jaxdiff.networks.module import Network


class Own(Network):
    """A network of Flax's own layers, as a user writes one."""

    @nn.compact
    def __call__(self, x, time, cond=None, key=None):
        h = nn.Conv(4, (3, 3))(x) + nn.Dense(4)(time[:, None])[:, None, None]
        return nn.Conv(x.shape[-1], (3, 3))(nn.silu(h))


KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
TIME = jnp.array([0.2, 0.9])
SMALL = {
    "UNet": networks.UNet(channels=8, multipliers=(1, 2), num_blocks=1, attention_levels=(1,)),
    "EDM2": networks.EDM2(channels=8, multipliers=(1, 2), num_blocks=1, attention_levels=(1,), head_channels=8),
    "DiT": networks.DiT(width=16, depth=2, heads=2, patch=(2,)),
    "JiT": networks.JiT(width=16, depth=2, heads=2, patch=(2,), bottleneck=8, context_start=0),
    "LoRA": networks.LoRA(networks.DiT(width=16, depth=2, heads=2, patch=(2,)), rank=2),
    "own": Own(),
}


def random(params):
    """Parameters like these, without zeros, so that every layer counts."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    return jax.tree.unflatten(
        tree, [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    )


def stored(tree):
    """The kernels of a compressed tree."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, Compressed))
    return [leaf for leaf in leaves if isinstance(leaf, Compressed)]


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("shape", [(5, 7), (3, 3, 5, 7)])
def test_the_error_of_a_weight_is_half_a_step(weights, shape):
    kernel = jax.random.normal(KEY, shape).at[..., 0].set(0.0)
    (made,) = stored(compressed({"kernel": kernel}, weights))
    assert made.shape == shape
    error = np.abs(np.asarray(jnp.asarray(made)) - kernel)
    axes = tuple(range(len(shape) - 1))
    largest = np.abs(kernel) if weights == "bfloat16" else np.abs(kernel).max(axes, keepdims=True)
    step = 2.0**-8 * largest if weights == "bfloat16" else largest / 254
    assert (error <= step * (1 + 1e-5)).all()
    assert error.max() > 0.5 * step.max()


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("kind", SMALL)
def test_a_network_computes_with_the_expanded_weights(kind, weights):
    network = SMALL[kind]
    params = random(jax.jit(network.init)(KEY, X, TIME))
    apply = jax.jit(network.apply)
    made = compressed(params, weights)
    assert stored(made)
    expanded = jax.tree.map(jnp.asarray, made, is_leaf=lambda leaf: isinstance(leaf, Compressed))
    given, known = apply(made, X, TIME), apply(expanded, X, TIME)
    np.testing.assert_allclose(given, known, atol=1e-5 * np.abs(known).max())
    exact = apply(params, X, TIME)
    assert 0 < np.abs(given - exact).max() < 0.1 * np.abs(exact).max()


def test_derivatives_by_the_input_pass_through():
    network = SMALL["UNet"]
    params = compressed(random(jax.jit(network.init)(KEY, X, TIME)), "int8")
    expanded = jax.tree.map(jnp.asarray, params, is_leaf=lambda leaf: isinstance(leaf, Compressed))

    @jax.jit
    def derivatives(params):
        y, dy = jax.jvp(lambda x: network.apply(params, x, TIME), (X,), (jnp.cos(X),))
        return dy, jax.grad(lambda x: jnp.vdot(network.apply(params, x, TIME), y))(X)

    for given, known in zip(derivatives(params), derivatives(expanded), strict=True):
        np.testing.assert_allclose(given, known, atol=1e-4 * np.abs(known).max())


@pytest.mark.parametrize(("weights", "share"), [("bfloat16", 0.5), ("int8", 0.25)])
def test_a_sampler_never_holds_all_weights_expanded(weights, share):
    network = networks.UNet(channels=16, multipliers=(1, 2, 4, 8), num_blocks=1, attention_levels=())
    x = jnp.ones((1, 8, 8, 3))
    params = jax.eval_shape(network.init, KEY, x, TIME[:1])

    @jax.jit
    def sample(params, x):
        def step(x, t):
            return x - 0.1 * network.apply(params, x, t[None]), None

        return jax.lax.scan(step, x, jnp.linspace(1, 0, 4))[0]

    def memory(params):
        found = sample.lower(params, x).compile().memory_analysis()
        return found.argument_size_in_bytes, found.temp_size_in_bytes

    whole, working = memory(params)
    held, expanded = memory(jax.eval_shape(lambda params: compressed(params, weights), params))
    assert held < 1.05 * share * whole  # norms and biases stay as they are
    assert expanded - working < 0.3 * whole  # the largest kernel has 15% of all weights


def test_the_samples_of_a_model_stay_close():
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1)).astype(np.uint8)
    model = jd.fit(SMALL["UNet"], {"image": images}, steps=20, batch_size=16)
    whole = model.sample(KEY, 4)
    for weights, error in (("bfloat16", 0.05), ("int8", 0.1)):
        small = compressed(model, weights)
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(small)) < 0.65 * sum(
            leaf.nbytes for leaf in jax.tree.leaves(model)
        )
        assert 0 < np.abs(small.sample(KEY, 4) - whole).mean() < error
    assert compressed(model, "float32") is model
    with pytest.raises(ValueError, match="weights = 'int4'; allowed are 'float32', 'bfloat16', 'int8'"):
        compressed(model, "int4")
