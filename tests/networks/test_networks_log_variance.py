"""The learned weight of the loss against its formula and its closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff.networks import MLP, Fourier
from jaxdiff.networks.log_variance import LogVariance


def test_the_learned_weight_starts_at_one_and_is_linear_in_random_features(x64):
    module, time = LogVariance(features=5, scale=0.5), jnp.linspace(-2.0, 2.0, 7)
    params = module.init(jax.random.key(0), time)
    np.testing.assert_array_equal(module.apply(params, time), np.zeros(7))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params)
    frequency = 2 * np.pi * 0.5 * np.random.RandomState(0).standard_normal(5)
    waves = np.concatenate([np.sin(np.outer(time, frequency)), np.cos(np.outer(time, frequency))], axis=1)
    linear = params["params"]["linear"]
    expected = waves @ np.asarray(linear["kernel"])[:, 0] + linear["bias"]
    np.testing.assert_allclose(module.apply(params, time), expected, rtol=1e-12)


def test_the_learned_weight_comes_to_the_logarithm_of_the_expected_loss():
    """Losses are exponentially distributed around a known mean L(time), and L/e^u + u is least at u = log L: there the
    weight is 1/L. The times are EDM's, log(sigma)/4, and L varies by e^3 over them.
    """
    module, optimizer = LogVariance(), optax.adam(optax.cosine_decay_schedule(0.03, 3000))
    params = module.init(jax.random.key(0), jnp.zeros(1))

    def mean(time):
        return jnp.exp(1.5 * jnp.tanh(2 * time) - 1)

    def step(carry, key):
        params, state = carry
        time = jax.random.uniform(key, (256,), minval=-1.5, maxval=1.1)
        loss = mean(time) * jax.random.exponential(jax.random.fold_in(key, 1), (256,))

        def objective(params):
            u = module.apply(params, time)
            return jnp.mean(loss * jnp.exp(-u) + u)

        updates, state = optimizer.update(jax.grad(objective)(params), state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(1), 3000)
    (params, _), _ = jax.jit(lambda: jax.lax.scan(step, (params, optimizer.init(params)), keys))()
    time = jnp.linspace(-1.4, 1.0, 50)
    error = np.asarray(module.apply(params, time) - jnp.log(mean(time)))
    # 128 coefficients from 768,000 losses of relative deviation 1 have an error of (128/768,000)^(1/2) = 0.013; later
    # losses weigh more, so that fewer of them count.
    assert math.sqrt(np.mean(error**2)) < 0.05


def test_networks_ignore_a_collection_beside_their_own():
    network, x, time = MLP(width=4, num_blocks=1, embedding=Fourier()), jnp.ones((3, 2)), jnp.ones(3)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, time)
    variables = jax.tree.map(lambda shape: jnp.full(shape.shape, 0.1), shapes)
    beside = {**variables, "log_variance": LogVariance().init(jax.random.key(0), time)["params"]}
    np.testing.assert_array_equal(network.apply(beside, x, time), network.apply(variables, x, time))
