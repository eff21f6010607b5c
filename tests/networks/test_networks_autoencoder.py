"""The convolutional autoencoder: shapes, its two halves, locality, training and refused arguments."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.networks import ConvAutoencoder

NET = ConvAutoencoder(channels=8, multipliers=(1, 1, 2), latent_channels=2).giving(3)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(("space", "small"), [((12,), (3,)), ((8, 4), (2, 1)), ((4, 8, 4), (1, 2, 1))])
def test_shapes_of_signals_images_and_volumes(space, small):
    x = jnp.zeros((2, *space, 3))
    out, variables = jax.eval_shape(NET.init_with_output, jax.random.key(0), x)
    assert out.shape == x.shape
    z = jax.eval_shape(lambda v, x: NET.apply(v, x, method="encode"), variables, x)
    assert z.shape == (2, *small, 2)
    assert jax.eval_shape(lambda v, z: NET.apply(v, z, method="decode"), variables, z).shape == x.shape
    half = NET.clone(dtype="bfloat16")
    assert jax.eval_shape(lambda v, x: half.apply(v, x, method="encode"), variables, x).dtype == jnp.float32


def test_a_call_encodes_and_decodes_with_parameters_of_two_halves(random_variables):
    x = normal(2, 8, 3)
    variables = random_variables(NET, x)
    apply = jax.jit(NET.apply, static_argnames="method")
    z = apply(variables, x, method="encode")
    y = apply(variables, z, method="decode")
    np.testing.assert_allclose(apply(variables, x), y, atol=1e-5)
    assert set(variables["params"]) == {"encoder", "decoder"}
    for half, method, given in (("encoder", "encode", x), ("decoder", "decode", z)):
        alone = {"params": {half: variables["params"][half]}}
        np.testing.assert_allclose(apply(alone, given, method=method), z if half == "encoder" else y, atol=1e-5)
    assert jnp.abs(y).max() > 0.1


def test_halves_without_blocks_are_their_convolutions(random_variables):
    """One level and no block leave conv_in, the norm with SiLU, and conv_out, in each half."""
    net = ConvAutoencoder(channels=4, multipliers=(1,), num_blocks=0, latent_channels=2)
    x = normal(2, 5, 1)
    variables = random_variables(net, x)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"]["encoder"])

    def conv(q, a):
        padded = np.pad(a, ((0, 0), (1, 1), (0, 0)))
        parts = [np.einsum("nai,aio->no", padded[:, i : i + 3], q["kernel"]) for i in range(a.shape[1])]
        return np.stack(parts, axis=1) + q["bias"]

    h = conv(p["conv_in"], np.asarray(x))
    h = (h - h.mean((1, 2), keepdims=True)) / np.sqrt(h.var((1, 2), keepdims=True) + 1e-6)
    h = h * p["norm_out"]["scale"] + p["norm_out"]["bias"]
    expected = conv(p["conv_out"], h / (1 + np.exp(-h)))
    np.testing.assert_allclose(net.apply(variables, x, method="encode"), expected, atol=2e-5)


def test_training_reconstructs_sinusoids():
    """Sinusoids have two numbers each, phase and amplitude. Eight latents hold them, and the error falls far below the
    variance of 0.28 that a constant output would leave.
    """
    generator = np.random.default_rng(0)
    phase, size = generator.uniform(0, 2 * np.pi, (64, 1)), generator.uniform(0.5, 1, (64, 1))
    x = jnp.asarray(size * np.sin(2 * np.pi * np.arange(8) / 8 + phase), jnp.float32)[..., None]
    net = ConvAutoencoder(channels=8, multipliers=(1, 1), latent_channels=2)
    optimizer = optax.adam(1e-2)
    variables = net.init(jax.random.key(0), x)

    def loss(variables):
        return jnp.mean(jnp.square(net.apply(variables, x) - x))

    def step(carry, _):
        variables, state = carry
        updates, state = optimizer.update(jax.grad(loss)(variables), state)
        return (optax.apply_updates(variables, updates), state), None

    run = jax.jit(lambda v: jax.lax.scan(step, (v, optimizer.init(v)), None, length=150)[0][0])
    assert loss(run(variables)) < 0.02 < 0.2 < jnp.var(x)


@pytest.mark.parametrize(
    ("method", "shape", "words"),
    [
        ("encode", (2, 6, 4, 3), "x.shape = (2, 6, 4, 3); allowed are [batch, *space, channels] with a space of multiples of 4"),
        ("encode", (2, 8, 2), "x.shape = (2, 8, 2); allowed are [batch, *space, 3]"),
        ("encode", (2, 3), "x.shape = (2, 3); allowed are [batch, *space, channels]"),
        ("decode", (2, 8, 3), "z.shape = (2, 8, 3); allowed are [batch, *space, 2]"),
        ("decode", (2, 2), "z.shape = (2, 2); allowed are [batch, *space, channels]"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(method, shape, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        NET.apply({}, jnp.zeros(shape), method=method)


def test_bytes_and_settings_without_latents_are_refused():
    with pytest.raises(TypeError, match=r"x\.dtype = uint8; allowed are floating-point types"):
        NET.apply({}, jnp.zeros((1, 4, 3), jnp.uint8))
    with pytest.raises(ValueError, match="latent_channels = 0; allowed are integers of at least 1"):
        NET.clone(latent_channels=0).apply({}, jnp.zeros((1, 4, 3)))
