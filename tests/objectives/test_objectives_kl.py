"""The loss of latent diffusion's autoencoders beside its parts, computed apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import trees
from jaxdiff.data.fields import Field
from jaxdiff.models import Autoencoder
from jaxdiff.networks import ConvAutoencoder, KLAutoencoder
from jaxdiff.objectives import Context, KLReconstruction

FIELDS = {"image": Field("picture", (16, 16, 1), "uint8")}
SETTINGS = KLReconstruction(
    kl=0.1, adversarial=0.5, adversarial_from=3, discriminator_channels=4, discriminator_levels=1
)
MODEL = Autoencoder(KLAutoencoder(channels=4, multipliers=(1, 2), num_blocks=1, latent_channels=2))
BOUND = MODEL.bind(FIELDS, {})


@pytest.fixture(scope="module")
def params(random_values):
    first = BOUND.init(jax.random.key(0)) | {"objective": SETTINGS.init(BOUND, jax.random.key(1))}
    return random_values(first)


@pytest.fixture(scope="module")
def random_values():
    def values(tree):
        rng = np.random.default_rng(0)
        return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), tree)

    return values


X = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (3, 16, 16, 1)), jnp.float32)
KEY = jax.random.key(2)


def parts(params):
    """The drawn latents, the reconstruction, the divergence, and the discriminator's numbers, without stops."""
    mean, log_variance = BOUND.posterior(params, X)
    noise = trees.normal_like(trees.batch_key(KEY, 3).each(0), mean)
    y = BOUND.decode(params, mean + jnp.exp(log_variance / 2) * noise)
    variance = jnp.exp(log_variance)
    # The divergence of normal distributions, log(s2/s1) + (s1^2 + (m1 - m2)^2)/(2 s2^2) - 1/2, with m2 = 0 and s2 = 1.
    divergence = jnp.mean(-0.5 * jnp.log(variance) + (variance + mean**2) / 2 - 0.5, axis=(1, 2, 3))
    judge = lambda x: BOUND.discriminator(4, 1).apply(params["objective"]["discriminator"], x).reshape(3, -1)  # noqa: E731
    return y, divergence, judge


def test_the_gradients_are_those_of_two_losses_of_two_players(params):
    objective = jax.jit(
        lambda p, step: SETTINGS.make(BOUND)(p, KEY, {"x": X}, Context(step, {}, None, SETTINGS.extra(BOUND)))
    )
    gradient = jax.jit(
        jax.grad(
            lambda p, step: jnp.mean(
                SETTINGS.make(BOUND)(p, KEY, {"x": X}, Context(step, {}, None, SETTINGS.extra(BOUND))).losses
            )
        )
    )

    def of_autoencoder(p, seen):
        y, divergence, judge = parts(p)
        return jnp.mean(jnp.abs(y - X)) + 0.1 * jnp.mean(divergence) - 0.5 * seen * jnp.mean(judge(y))

    def of_discriminator(p):
        y, _, judge = parts(p)
        y = jax.lax.stop_gradient(y)
        return 0.5 * jnp.mean(jax.nn.relu(1 - judge(X)) + jax.nn.relu(1 + judge(y)))

    expected = jax.jit(jax.grad(of_autoencoder)), jax.jit(jax.grad(of_discriminator))
    for step, seen in ((2, 0.0), (3, 1.0)):
        found = gradient(params, step)
        for name, reference in (("model", expected[0](params, seen)), ("objective", expected[1](params))):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found[name], reference[name]
            )
    loss = objective(params, 3)
    y, divergence, judge = parts(params)
    np.testing.assert_allclose(loss.metrics["kl"], divergence, rtol=1e-4)
    np.testing.assert_allclose(loss.metrics["error"], jnp.mean(jnp.abs(y - X), axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(loss.metrics["realism"], judge(y).mean(axis=1), rtol=1e-3, atol=1e-5)


def test_latents_are_drawn_from_the_posterior(params):
    model = BOUND.loaded(params, {}, SETTINGS.extra(BOUND), None)
    mean, log_variance = BOUND.posterior(params, X[:1])
    draw = jax.jit(lambda keys: jax.vmap(lambda key: model.encode(X[:1], key[None])[0])(keys))
    drawn = np.asarray(draw(jax.random.split(jax.random.key(3), 4096)))
    std = np.exp(np.asarray(log_variance[0]) / 2)
    np.testing.assert_allclose((drawn.mean(axis=0) - mean[0]) / std, 0, atol=5 / 64)
    np.testing.assert_allclose(drawn.std(axis=0) / std, 1, atol=5 / 90)
    np.testing.assert_array_equal(model.encode(X[:1]), mean)


def test_what_does_not_fit_is_refused():
    plain = Autoencoder(ConvAutoencoder(channels=4)).bind(FIELDS, {})
    with pytest.raises(ValueError, match=r"network\.kind = 'ConvAutoencoder'; allowed are KLAutoencoder"):
        SETTINGS.make(plain)
    with pytest.raises(ValueError, match=r"features = 'file'; allowed are files of arrays"):
        dataclasses.replace(SETTINGS, features="file").load(lambda path: "no mapping")
    with pytest.raises(ValueError, match=r"kl = -1"):
        KLReconstruction(kl=-1)
