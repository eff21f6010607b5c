"""The learned weight of the loss against its formula and its closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff.objectives import log_variance


def test_the_learned_weight_starts_at_one_and_is_linear_in_random_features(x64):
    time, rng = jnp.linspace(-2.0, 2.0, 7), np.random.default_rng(0)
    np.testing.assert_array_equal(log_variance.log_variance(log_variance.init(), time), np.zeros(7))
    params = {"kernel": jnp.asarray(rng.standard_normal(10)), "bias": jnp.asarray(0.3)}
    frequency = 2 * np.pi * 0.5 * np.random.RandomState(0).standard_normal(5)
    waves = np.concatenate([np.sin(np.outer(time, frequency)), np.cos(np.outer(time, frequency))], axis=1)
    expected = waves @ np.asarray(params["kernel"]) + 0.3
    np.testing.assert_allclose(log_variance.log_variance(params, time, scale=0.5), expected, rtol=1e-12)


def test_the_learned_weight_comes_to_the_logarithm_of_the_expected_loss():
    """Losses are exponentially distributed around a known mean L(time), and L/e^u + u is least at u = log L: there the
    weight is 1/L. The times are EDM's, log(sigma)/4, and L varies by e^3 over them.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, 3000))
    params = log_variance.init()

    def mean(time):
        return jnp.exp(1.5 * jnp.tanh(2 * time) - 1)

    def step(carry, key):
        params, state = carry
        time = jax.random.uniform(key, (256,), minval=-1.5, maxval=1.1)
        loss = mean(time) * jax.random.exponential(jax.random.fold_in(key, 1), (256,))

        def objective(params):
            u = log_variance.log_variance(params, time)
            return jnp.mean(loss * jnp.exp(-u) + u)

        updates, state = optimizer.update(jax.grad(objective)(params), state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(1), 3000)
    (params, _), _ = jax.jit(lambda: jax.lax.scan(step, (params, optimizer.init(params)), keys))()
    time = jnp.linspace(-1.4, 1.0, 50)
    error = np.asarray(log_variance.log_variance(params, time) - jnp.log(mean(time)))
    # 128 coefficients from 768,000 losses of relative deviation 1 have an error of (128/768,000)^(1/2) = 0.013; later
    # losses weigh more, so that fewer of them count.
    assert math.sqrt(np.mean(error**2)) < 0.05
