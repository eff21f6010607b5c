"""Dropout: masks depend on keys and layers alone, have the right rate, and survive transformations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import MLP
from jaxdiff.networks.layers.dropout import Dropout
from jaxdiff.trees import example_keys


def masked(rate, x, key):
    return Dropout(rate, name="layer").apply({}, x, None if key is None else example_keys(key, len(x)))


def test_the_mask_of_an_example_follows_its_key():
    keys = jax.random.split(jax.random.key(0), 5)
    x = jnp.ones((5, 4, 3, 8))
    whole = masked(0.5, x, keys)
    order = jnp.array([3, 1, 4])
    np.testing.assert_array_equal(masked(0.5, x[order], keys[order]), whole[order])
    assert all((whole[0] != other).any() for other in whole[1:])


def test_one_key_is_folded_with_the_index_of_the_example():
    key, x = jax.random.key(7), jnp.ones((4, 16))
    keys = jnp.stack([jax.random.fold_in(key, i) for i in range(4)])
    np.testing.assert_array_equal(masked(0.5, x, key), masked(0.5, x, keys))
    old = jax.random.PRNGKey(7)
    np.testing.assert_array_equal(masked(0.5, x, old), masked(0.5, x, key))
    np.testing.assert_array_equal(masked(0.5, x, jax.random.key_data(keys)), masked(0.5, x, keys))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_expectation(rate):
    n = 200_000
    out = np.asarray(masked(rate, jnp.ones((2, n // 2)), jax.random.key(1)))
    # Five standard deviations of the mean of n Bernoulli variables.
    bound = 5 * np.sqrt(rate * (1 - rate) / n)
    assert abs((out == 0).mean() - rate) < bound
    assert abs(out.mean() - 1) < bound / (1 - rate)
    np.testing.assert_allclose(out[out != 0], 1 / (1 - rate), rtol=1e-6)


def test_the_eight_layers_of_a_network_have_different_masks():
    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x, keys):
            return jnp.stack([Dropout(0.5, name=f"block_{i}_dropout")(x, keys) for i in range(8)])

    out = np.asarray(Layers().apply({}, jnp.ones((3, 1000)), example_keys(jax.random.key(2), 3)))
    pairs = out.reshape(24, 1000)
    agree = (pairs[:, None] == pairs).mean(-1)
    # Independent fair masks agree half of the time; six deviations for the largest of 276 pairs.
    assert np.abs(agree[~np.eye(24, dtype=bool)] - 0.5).max() < 6 * 0.5 / np.sqrt(1000)


def test_nothing_is_drawn_where_nothing_is_dropped():
    x, time = jnp.ones((2, 2)), jnp.ones(2)
    variables = jax.eval_shape(MLP(width=8, num_blocks=1).init, jax.random.key(0), x, time)

    def program(rate, key):
        net = MLP(width=8, num_blocks=1, dropout=rate)
        lowered = jax.jit(lambda variables, key: net.apply(variables, x, time, key=key)).lower(variables, key)
        return lowered.compile().as_text()

    for rate, key in ((0.0, jax.random.key(0)), (0.5, None)):
        np.testing.assert_array_equal(masked(rate, x, key), x)
        assert "threefry" not in program(rate, key)
    assert "threefry" in program(0.5, jax.random.key(0))


def test_under_jit_vmap_and_scan():
    x = jnp.ones((3, 2, 8))
    keys = jax.random.split(jax.random.key(4), (3, 2))
    loop = jnp.stack([masked(0.5, a, key) for a, key in zip(x, keys, strict=True)])
    np.testing.assert_array_equal(jax.jit(lambda x, keys: masked(0.5, x, keys))(x[0], keys[0]), loop[0])
    np.testing.assert_array_equal(jax.vmap(lambda x, keys: masked(0.5, x, keys))(x, keys), loop)
    np.testing.assert_array_equal(jax.lax.scan(lambda c, a: (c, masked(0.5, *a)), 0, (x, keys))[1], loop)


def test_the_type_is_kept():
    assert masked(0.5, jnp.ones((2, 3), jnp.bfloat16), jax.random.key(0)).dtype == jnp.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match=f"dropout = {rate}; allowed are numbers from 0 to below 1"):
        masked(rate, jnp.ones((1, 2)), None)
