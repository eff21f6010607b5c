"""Autoencoders that decode in overlapping tiles: the same picture with less memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from additions import latent_diffusion, small

import jaxdiff as jd
from jaxdiff.models import AutoencoderModel
from jaxdiff.networks import KLAutoencoder, TinyAutoencoder
from jaxdiff.runs.loop import train

KEY = jax.random.key(0)
Z = np.random.default_rng(0).normal(size=(2, 11, 6, 3)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Enlarging:
    """A decoder that repeats every pixel four times along both axes, times its parameter."""

    def decode(self, params, z):
        return params * z.repeat(4, axis=1).repeat(4, axis=2)


@dataclasses.dataclass(frozen=True)
class Network:
    """The decoder of a network."""

    network: KLAutoencoder | TinyAutoencoder

    def decode(self, params, z):
        return self.network.apply(params, z, method="decode")


def model_of(bound, params):
    return AutoencoderModel(params, jnp.zeros(3), jnp.ones(3), bound)


@pytest.mark.parametrize("tile", [4, 6, 8, 20])
def test_a_decoder_of_single_pixels_is_not_changed(tile):
    model = model_of(Enlarging(), jnp.float32(3.0))
    made = jax.jit(lambda model, z: model.decode(z))(model.in_tiles(tile), Z)
    np.testing.assert_allclose(made, model.decode(Z), rtol=1e-6)


def test_inside_of_tiles_the_picture_is_that_of_the_whole():
    """A network without norms and attention sees a few pixels around each: the tiles differ at their borders alone."""
    network = TinyAutoencoder(channels=4, num_blocks=1)
    x = jnp.zeros((1, 16, 16, 3))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(KEY, leaf.shape), jax.jit(network.init)(KEY, x))
    z = jax.random.normal(KEY, (1, 24, 24, network.latent_channels))
    model = model_of(Network(network), params)
    decode = jax.jit(lambda model, z: model.decode(z))
    whole, tiled = decode(model, z), decode(model.in_tiles(16), z)
    assert whole.shape == tiled.shape
    scale = whole.shape[1] // 24
    # The tiles hold the latents 0 to 15 and 8 to 23. The first tile alone has the corner.
    np.testing.assert_allclose(tiled[:, : 4 * scale, : 4 * scale], whole[:, : 4 * scale, : 4 * scale], atol=1e-5)
    assert np.abs(tiled - whole).max() > 0


def test_the_memory_depends_on_the_tile_and_not_on_the_picture():
    network = KLAutoencoder(channels=16, multipliers=(1, 2), num_blocks=1, latent_channels=4)
    params = jax.eval_shape(network.init, KEY, jnp.zeros((1, 8, 8, 3)))
    model, z = model_of(Network(network), params), jax.ShapeDtypeStruct((1, 128, 128, 4), jnp.float32)

    def memory(model):
        return jax.jit(lambda m, z: m.decode(z)).lower(model, z).compile().memory_analysis().temp_size_in_bytes

    assert memory(model.in_tiles(32)) < 0.2 * memory(model)


def test_a_model_of_latents_samples_in_tiles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for config, name in ((latent_diffusion.AUTOENCODER, "autoencoder"), (latent_diffusion.CONFIG, "run")):
        train(dataclasses.replace(config, train=dataclasses.replace(config.train, steps=2)), name)
    model = jd.load("run")
    whole, tiled = model.sample(KEY, 2), model.in_tiles(2).sample(KEY, 2)
    assert tiled.shape == whole.shape == (2, 8, 8, 1)
    assert np.abs(tiled - whole).max() > 0
    np.testing.assert_array_equal(model.in_tiles(4).sample(KEY, 2), whole)  # one tile is the whole picture
    with pytest.raises(ValueError, match="tile = 0; allowed are integers of at least 1"):
        model.in_tiles(0)


def test_a_model_of_pixels_has_no_decoder():
    model = jd.fit(small.NETWORK, {"image": np.zeros((8, 4, 4, 1), np.uint8)}, steps=1, batch_size=2)
    with pytest.raises(ValueError, match="model = 'Pixels'; allowed are models that work in the latents of an auto"):
        model.in_tiles(8)
