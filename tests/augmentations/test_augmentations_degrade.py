"""Resize and Noise against other implementations and theory, and the chains of Degrade."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from jaxdiff.augmentations import Degrade
from jaxdiff.augmentations.degradations import Blur, Grey, Jpeg, Noise, Reduce, Resize, Sinc, real_esrgan
from jaxdiff.augmentations.degradations.noise import poisson
from jaxdiff.augmentations.degradations.resize import weights
from jaxdiff.data import Field, to_floats

KEYS = jax.random.split(jax.random.key(0), 8)
BYTES = np.random.default_rng(0).integers(0, 256, (8, 16, 24, 3)).astype(np.uint8)


@pytest.mark.parametrize(("old", "new"), [(20, 7), (20, 20), (20, 31), (7, 20)])
@pytest.mark.parametrize(("method", "name"), [(0, "linear"), (1, "cubic")])
def test_interpolation_is_that_of_jax(method, name, old, new):
    expected = jax.image.resize(jnp.eye(old), (new, old), name, antialias=False)
    # Rows and columns to spare, as for other scales.
    ours = np.asarray(jax.jit(weights, static_argnums=(0, 1, 2))(method, 23, 33, old, new))
    np.testing.assert_allclose(ours[:new, :old], expected, atol=1e-5)
    assert not ours[:, old:].any()


@pytest.mark.parametrize(("old", "new"), [(12, 4), (12, 5), (12, 18)])
def test_areas_are_means_of_the_piecewise_constant_signal(old, new):
    signal = np.random.default_rng(1).normal(size=old)
    integral = np.concatenate([[0], np.cumsum(signal)])
    edges = np.interp(np.linspace(0, old, new + 1), np.arange(old + 1), integral)
    np.testing.assert_allclose(weights(2, old, new, old, new) @ signal, np.diff(edges) * new / old, atol=1e-5)


@pytest.mark.parametrize(("method", "name"), [(0, "linear"), (1, "cubic")])
def test_resampling_there_and_back_is_two_resamplings(method, name):
    image = np.random.default_rng(2).normal(size=(20, 20)).astype(np.float32)
    for scale, pixels in ((0.31, 6), (1.0, 20), (1.42, 28)):
        matrix = jax.jit(Resize().there_and_back, static_argnums=0)(20, scale, method)
        small = jax.image.resize(image, (pixels, 20), name, antialias=False)
        back = jax.image.resize(small, (20, 20), "cubic", antialias=False)
        np.testing.assert_allclose(matrix @ image, back, atol=2e-5)


def test_resize_draws_scales_of_both_ranges():
    # The finest stripes tell the scale: they survive enlargement, and hardly a reduction by two.
    stripes = np.broadcast_to((-1.0) ** np.arange(32), (32, 32)).T[..., None].astype(np.float32)
    keys = jax.random.split(jax.random.key(1), 200)
    image = np.concatenate([stripes, np.full_like(stripes, 0.4)], -1)
    out = np.asarray(jax.jit(jax.vmap(Resize(0.3, 1.5, enlarge=0.3), (0, None)))(keys, image))
    power = (out[..., 0] * image[..., 0]).mean((1, 2))
    assert abs((power > 0.55).mean() - 0.3) < 0.2
    assert power.min() < 0.1
    np.testing.assert_allclose(out[..., 1], 0.4, atol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 0.3, 4.0, 9.99, 10.0, 40.0, 256.0])
def test_poisson_counts_are_quantiles(mean):
    z = np.linspace(-4, 4, 2001).astype(np.float32)
    counts = np.asarray(jax.jit(poisson)(z, np.full_like(z, mean)))
    expected = np.maximum(scipy.stats.poisson.ppf(scipy.stats.norm.cdf(z.astype(float)), mean), 0)
    assert np.abs(counts - expected).max() <= 1
    assert (counts != expected).mean() < (0.003 if mean < 10 else 0.05)


def residuals(noise, value, side=64):
    """What 8 keys add to a flat colour: `[8, pixels, 3]`, in grey levels."""
    flat = np.broadcast_to(np.asarray(value, np.float32), (side, side, 3))
    out = np.asarray(jax.jit(jax.vmap(noise, (0, None)))(KEYS, flat))
    return (out - flat).reshape(8, -1, 3) * 127.5


def test_gaussian_noise_has_its_standard_deviation():
    added = residuals(Noise(10.0, 10.0, poisson=0.0, grey=0.0), 0.0)
    assert abs(added.mean()) < 4.5 * 10 / np.sqrt(added.size)
    np.testing.assert_allclose(added.std((1, 2)), 10, rtol=4.5 / np.sqrt(2 * 3 * 64**2))
    assert abs(np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1]) < 4.5 / np.sqrt(8 * 64**2)
    drawn = residuals(Noise(5.0, 20.0, poisson=0.0), 0.0).std((1, 2))
    assert 4.8 < drawn.min() < drawn.max() < 20.5
    assert drawn.std() > 1


@pytest.mark.parametrize("brightness", [0.1, 0.6])
def test_poisson_noise_grows_with_the_root_of_the_brightness(brightness):
    added = residuals(Noise(scale_min=1.5, scale_max=1.5, poisson=1.0, grey=0.0), 2 * brightness - 1)
    expected = 255 * 1.5 * np.sqrt(brightness / 256)
    np.testing.assert_allclose(added.std(), expected, rtol=0.02)
    assert abs(added.mean()) < 4.5 * expected / np.sqrt(added.size) + 0.01


@pytest.mark.parametrize("kind", [0.0, 1.0])
def test_grey_noise_is_the_same_in_all_channels(kind):
    added = residuals(Noise(10.0, 10.0, 1.0, 1.0, poisson=kind, grey=1.0), (0.5, 0.0, -0.5))
    np.testing.assert_allclose(added[..., 0], added[..., 2], atol=1e-3)
    # Poisson noise is that of the luma 0.299 R + 0.587 G + 0.114 B.
    luma = (0.299 * 1.5 + 0.587 + 0.114 * 0.5) / 2
    np.testing.assert_allclose(added.std(), 255 * np.sqrt(luma / 256) if kind else 10, rtol=0.03)


def test_noise_stays_in_the_range():
    out = jax.jit(Noise(100.0, 100.0, poisson=0.0))(jax.random.key(0), jnp.ones((8, 8, 1)))
    assert float(jnp.abs(out).max()) <= 1


@pytest.mark.parametrize("step", [Blur(), Sinc(), Resize(0.2, 1.0), Noise(), Jpeg(10, 20)])
def test_a_degradation_happens_with_its_probability(step):
    image = to_floats(BYTES[0, :16, :16])
    keys = jax.random.split(jax.random.key(2), 100)
    sometimes = type(step)(**{**vars(step), "probability": 0.3})
    out = np.asarray(jax.jit(jax.vmap(sometimes, (0, None)))(keys, image))
    changed = (out != image).any((1, 2, 3))
    assert abs(changed.mean() - 0.3) < 4.5 * np.sqrt(0.21 / 100)
    assert out.shape == (100, 16, 16, 3)


def test_without_steps_the_picture_is_reduced_by_areas():
    out = jax.jit(Degrade(steps=(), factor=4))(KEYS, {"image": BYTES})
    np.testing.assert_allclose(out["low"], to_floats(BYTES).reshape(8, 4, 4, 6, 4, 3).mean((2, 4)), atol=1e-6)
    np.testing.assert_array_equal(out["image"], BYTES)


def test_bicubic_reduction_is_that_of_pillow():
    out = jax.jit(Degrade(steps=(Reduce("bicubic"),), factor=4))(KEYS, {"image": BYTES})
    for picture, low in zip(to_floats(BYTES), np.asarray(out["low"]), strict=True):
        for c in range(3):
            expected = Image.fromarray(np.asarray(picture[..., c])).resize((6, 4), Image.Resampling.BICUBIC)
            np.testing.assert_allclose(low[..., c], np.clip(np.asarray(expected), -1, 1), atol=1e-5)


def test_grey_is_the_brightness_that_pillow_finds():
    out = jax.jit(Degrade(steps=(Grey(),), factor=1))(KEYS, {"image": BYTES})["low"]
    expected = np.stack([np.asarray(Image.fromarray(picture).convert("L")) for picture in BYTES])
    assert np.abs((np.asarray(out) + 1) * 127.5 - expected[..., None]).max() < 0.51  # Pillow rounds to bytes
    whole = jax.jit(Degrade(steps=(Grey(probability=0.0),), factor=1))(KEYS, {"image": BYTES})["low"]
    np.testing.assert_array_equal(whole, to_floats(BYTES))


def test_the_mark_is_the_place_of_the_reduction():
    step = Noise(10.0, 10.0, poisson=0.0)
    before, after = (Degrade(steps=steps, factor=8) for steps in ((step,), (Reduce(), step)))
    flat = np.zeros((8, 64, 64, 1), np.float32)
    # The mean of 64 independent numbers has an eighth of their standard deviation.
    for degrade, expected in ((before, 10 / 8), (after, 10)):
        low = np.asarray(jax.jit(degrade)(KEYS, {"image": flat})["low"])
        assert low.shape == (8, 8, 8, 1)
        np.testing.assert_allclose(low.std() * 127.5, expected, rtol=4.5 / np.sqrt(2 * low.size))


def test_steps_draw_independent_numbers():
    step = Noise(10.0, 10.0, poisson=0.0)
    low = jax.jit(Degrade(steps=(step, step), factor=1))(KEYS, {"image": np.zeros((8, 32, 32, 1), np.float32)})["low"]
    np.testing.assert_allclose(np.std(low) * 127.5, 10 * np.sqrt(2), rtol=4.5 / np.sqrt(2 * low.size))


def test_the_chain_of_real_esrgan():
    degrade = Degrade()
    assert degrade.steps == real_esrgan()
    run = jax.jit(degrade)
    whole = run(KEYS, {"image": BYTES})
    low = np.asarray(whole["low"])
    assert degrade.fields({"image": Field("picture", (16, 24, 3), "uint8")})["low"] == Field(
        "picture", (4, 6, 3), "float32"
    )
    assert (low.shape, low.dtype) == ((8, 4, 6, 3), np.float32)
    assert np.abs(low).max() <= 1
    # An example depends on its own key alone.
    order = np.asarray([5, 5, 0, 7, 3, 1, 1, 2])
    np.testing.assert_allclose(run(KEYS[order], {"image": BYTES[order]})["low"], low[order], atol=1e-5)
    # Other keys make other pictures.
    other = run(jax.random.split(jax.random.key(9), 8), {"image": BYTES})["low"]
    assert (np.abs(low - other).mean((1, 2, 3)) > 0.02).all()
