"""Rematerialisation changes only what is stored."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import UNet
from jaxdiff.networks.layers.attention import SelfAttention
from jaxdiff.networks.layers.blocks import ResidualBlock
from jaxdiff.networks.remat import rematerialised

POLICIES = ("dots", "blocks")
NET = UNet(channels=8, multipliers=(1,), num_blocks=0, attention_levels=(), norm_groups=2, dropout=0.5)


def signal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def layer(name, remat, channels, batch):
    """A layer of the network, and the arguments it takes after its input."""
    if name == "attention":
        return rematerialised(SelfAttention, remat)(None, 2, 1e-5, 1.0, jnp.float32), ()
    block = rematerialised(ResidualBlock, remat)(channels, 2, 1e-5, False, 0.5, 1.0, jnp.float32)
    return block, (signal(batch, 5, seed=1), jax.random.split(jax.random.key(0), batch))


def close(found, expected):
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    assert size > 1e-2  # the derivatives compared are not all zero
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5 * size)


@pytest.mark.parametrize("name", ["block", "attention"])
def test_derivatives_of_a_layer_are_the_same(random_variables, name):
    """Gradient, and the gradient of a forward-mode derivative."""
    x = signal(2, 6, 8)
    plain, others = layer(name, "none", 8, 2)
    variables = random_variables(plain, x, *others)

    def derivatives(remat):
        def loss(variables, x):
            return jnp.mean(jnp.square(layer(name, remat, 8, 2)[0].apply(variables, x, *others)))

        def both(variables, x):
            value, slope = jax.jvp(loss, (variables, x), (jax.tree.map(jnp.cos, variables), jnp.cos(x)))
            return value + slope, (value, slope)

        return jax.jit(jax.grad(both, argnums=(0, 1), has_aux=True))(variables, x)

    expected = derivatives("none")
    for policy in POLICIES:
        close(derivatives(policy), expected)


def test_parameters_and_gradients_of_the_network_are_the_same_with_dropout(random_variables):
    x, time, key = signal(2, 6, 1), jnp.array([3.0, 40.0]), jax.random.key(5)
    variables = random_variables(NET, x, time)

    def gradient(net):
        return jax.jit(jax.value_and_grad(lambda v: jnp.mean(jnp.square(net.apply(v, x, time, key=key)))))(variables)

    expected, shapes = gradient(NET), jax.eval_shape(NET.init, jax.random.key(0), x, time)
    for policy in POLICIES:
        net = NET.clone(remat=policy)
        assert jax.eval_shape(net.init, jax.random.key(0), x, time) == shapes
        close(gradient(net), expected)


@pytest.mark.parametrize(
    ("name", "dots"),
    [
        ("block", 1),  # the result of the first convolution; nothing but a sum depends on that of the second
        ("attention", 3),  # queries, keys and values
    ],
)
def test_the_arrays_that_are_stored_beside_the_input(name, dots):
    """Arrays of the input's size that the forward pass hands to the backward pass; a compiler may store more."""
    batch, space, channels = 2, 64, 8
    x = jnp.zeros((batch, space, channels))

    def stored(remat):
        module, others = layer(name, remat, channels, batch)
        variables = jax.eval_shape(module.init, jax.random.key(0), x, *others)
        backward = jax.eval_shape(lambda *a: jax.vjp(lambda *a: module.apply(*a, *others), *a)[1], variables, x)
        return sum(leaf.size for leaf in jax.tree.leaves(backward) if leaf.size >= x.size)

    assert stored("blocks") == x.size
    assert stored("dots") == (1 + dots) * x.size
    assert stored("none") > (3 + dots) * x.size
