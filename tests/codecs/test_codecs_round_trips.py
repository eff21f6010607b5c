"""Codecs: what is encoded is decoded again, and latents are standard."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from additions import blobs, latent_diffusion
from models.exact import bind, start

from jaxdiff.codecs import Latents, Pixels, Standardised
from jaxdiff.data.fields import Field
from jaxdiff.models import Autoencoder, Diffusion
from jaxdiff.networks import UNet
from jaxdiff.runs.loop import train

X = np.random.default_rng(0).normal(2.0, 3.0, (5, 4, 4, 3)).astype(np.float32)


def test_pixels_are_left_alone():
    assert Pixels().encode(None, X) is X
    assert Pixels().decode(None, X) is X


@pytest.mark.parametrize(("mean", "std"), [((2.0,), (3.0,)), ((1.0, 2.0, 3.0), (3.0,)), ((2.0,), (1.0, 3.0, 9.0))])
def test_standardised_is_a_shift_and_a_scale(mean, std):
    codec = Standardised(mean, std)
    z = codec.encode(None, X)
    np.testing.assert_allclose(z, (X - np.asarray(mean, np.float32)) / np.asarray(std, np.float32), rtol=1e-6)
    np.testing.assert_allclose(codec.decode(None, z), X, rtol=1e-5, atol=1e-5)
    both = codec.encode(None, {"a": X, "b": X[:, 0]})
    np.testing.assert_array_equal(both["b"], z[:, 0])
    np.testing.assert_allclose(codec.decode(None, both)["a"], X, rtol=1e-5, atol=1e-5)


def test_standardised_refuses_other_channels():
    """Broadcasting would give a picture of one channel three."""
    with pytest.raises(ValueError, match=r"std = 0\.0; allowed are finite numbers above 0"):
        Standardised(std=(1.0, 0.0))
    for codec, name in ((Standardised((0.0, 0.0)), "mean"), (Standardised(std=(1.0, 1.0)), "std")):
        with pytest.raises(ValueError, match=rf"len\({name}\) = 2; allowed are 1 and the channels of the data, 3"):
            codec.encode(None, X)
        fields = {"image": Field("picture", (4, 4, 1), "uint8")}
        with pytest.raises(ValueError, match=rf"model\.codec.*len\({name}\) = 2"):
            bind(Diffusion(network=UNet(), codec=codec), fields)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    """An autoencoder after a short training."""
    config = latent_diffusion.AUTOENCODER
    return train(config, tmp_path_factory.mktemp("autoencoder") / "run")


def test_latents_of_the_training_data_are_standard(autoencoder):
    codec = Latents("run")
    frozen = codec.load({"run": autoencoder}.get)
    examples = blobs.Blobs().open()
    x = autoencoder.bound.prepare(None, None, {"image": np.stack([r["image"] for r in _records(examples)])}, None)["x"]
    z = np.asarray(jax.jit(codec.encode)(frozen, x))
    assert z.shape == (256, *autoencoder.bound.latent) == (256, 4, 4, 3)
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=0.05)
    np.testing.assert_allclose(z.std((0, 1, 2)), 1, atol=0.05)
    # Decoding undoes the standardisation, and then the autoencoder: 0.17 is the variance of the data.
    decoded = np.asarray(jax.jit(codec.decode)(frozen, z))
    np.testing.assert_allclose(decoded, autoencoder.decode(autoencoder.encode(x)), atol=1e-5)
    assert np.mean((decoded - x) ** 2) < 0.3 * np.var(x)


def _records(examples):
    return [examples.source[i] for i in range(len(examples))]


def test_latents_are_scaled_by_the_numbers_of_the_autoencoder(autoencoder):
    mean, std = jnp.asarray([1.0, -2.0, 0.5]), jnp.asarray([2.0, 0.5, 4.0])
    model, x = dataclasses.replace(autoencoder, mean=mean, std=std), jnp.asarray(X[..., :1]).repeat(2, 1).repeat(2, 2)
    z = Latents("run").encode(model, x)
    np.testing.assert_allclose(z * std + mean, model.encode(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(Latents("run").decode(model, z), model.decode(model.encode(x)), rtol=1e-4, atol=1e-5)


def test_a_constant_channel_of_latents_is_not_scaled():
    """Its variance is rounding: a mean square of 4 has about 1e-7 of relative error."""
    network = latent_diffusion.AUTOENCODER.model.network
    _, bound, _ = bind(Autoencoder(network=network), {"image": Field("picture", (8, 8, 1), "uint8")})
    extra = {"mean": np.float32([2.0, 0.0, 1.0]), "square": np.float32([4.0 + 5e-7, 0.0, 10.0])}
    np.testing.assert_allclose(bound.loaded(start(bound), {}, extra, None).std, [1, 1, 3], rtol=1e-6)


def test_latents_of_another_kind_of_run_are_refused():
    with pytest.raises(ValueError, match=r"run = 'r'; allowed are runs of an autoencoder; this one is a dict"):
        Latents("r").load(lambda path: {"e": 1})


def test_latents_of_other_channels_are_refused_by_name(autoencoder):
    fields = {"image": Field("picture", (8, 8, 3), "uint8")}
    with pytest.raises(ValueError, match=r"^model\.codec"):
        bind(Diffusion(network=UNet(), codec=Latents("run")), fields, autoencoder)
