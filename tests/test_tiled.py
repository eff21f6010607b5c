"""Tiles: denoisers that know pictures of one size, on larger pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES

import jaxdiff as jd
from jaxdiff import denoisers

FLOW = PROCESSES["flow"]
X = np.random.default_rng(0).normal(size=(2, 13, 10, 3))


def _means(x, t):
    """Of each tile of 6 x 4 pixels, its mean."""
    assert x.shape == (2, 6, 4, 3)
    return jnp.broadcast_to(jnp.mean(x, axis=(1, 2), keepdims=True), x.shape)


def test_tiles_of_a_pixelwise_denoiser_are_the_whole(x64):
    whole = denoisers.gaussian(FLOW, 0.3, 0.7)
    cut = denoisers.tiled(whole, (6, 4), overlap=2, at_a_time=3)
    for t in (0.4, jnp.array([0.4, 0.8])):
        for got, want in zip(jax.jit(cut.__call__)(jnp.asarray(X), t), whole(jnp.asarray(X), t), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("at_a_time", [1, 5, 30])
def test_estimates_are_weighted_averages_over_the_tiles(x64, at_a_time):
    """An independent reading: squares of pyramids of weights around the middles of the tiles."""
    cut = denoisers.tiled(denoisers.from_function(FLOW, _means), (6, 4), overlap=2, at_a_time=at_a_time)
    got = cut(jnp.asarray(X), 0.5)
    rows, columns = (0, 4, 7), (0, 2, 4, 6)  # even steps, of at most 4 and 2 pixels
    high, wide = np.array([1, 4, 9, 9, 4, 1]), np.array([1, 4, 4, 1])
    sums, total = np.zeros(X.shape), np.zeros((1, 13, 10, 1))
    for i in rows:
        for j in columns:
            here = (slice(None), slice(i, i + 6), slice(j, j + 4))
            weights = np.outer(high, wide)[None, :, :, None]
            sums[here] += weights * X[here].mean(axis=(1, 2), keepdims=True)
            total[here] += weights
    np.testing.assert_allclose(got.x0, sums / total, rtol=1e-12)
    np.testing.assert_allclose(0.5 * got.x0 + 0.5 * got.eps, X, rtol=1e-12, atol=1e-14)


def test_derivatives_and_vmap(x64):
    whole = denoisers.gaussian(FLOW, 0.3, 0.7)
    cut = denoisers.tiled(whole, 6, overlap=3)

    def loss(denoiser, x):
        return jnp.sum(denoiser(x, 0.4).x0 ** 3)

    x = jnp.asarray(X)
    np.testing.assert_allclose(jax.grad(loss, 1)(cut, x), jax.grad(loss, 1)(whole, x), rtol=1e-10)
    both = jax.vmap(lambda x: cut(x[None], 0.4).x0[0])(x)
    np.testing.assert_allclose(both, whole(x, 0.4).x0, rtol=1e-12)


def test_the_memory_of_the_denoiser_does_not_grow_with_the_picture():
    """A denoiser that makes 64 channels of each pixel; four times the picture adds no more than its own tiles."""
    kernel = jnp.ones((1, 1, 1, 64)) / 8

    def wide(x, t):
        for _ in range(4):
            x = jnp.tanh(x @ kernel[0, 0]) @ kernel[0, 0].T
        return x

    def bytes_of(side):
        cut = denoisers.tiled(denoisers.from_function(FLOW, wide), 16, overlap=4, at_a_time=2)
        gradient = jax.jit(jax.grad(lambda x: jnp.sum(cut(x, 0.5).x0)))
        memory = gradient.lower(jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)).compile().memory_analysis()
        return memory.temp_size_in_bytes

    picture = 64 * 64 * 4
    assert bytes_of(64) - bytes_of(32) < 12 * picture  # one activation of the whole picture takes 64


def test_large_pictures_are_sampled(x64):
    """The samples of pixelwise denoisers do not depend on tiles."""
    whole, tableau = denoisers.gaussian(FLOW, 0.3, 0.7), jd.solvers.ddim(FLOW, 4)
    cut = denoisers.tiled(whole, 6, overlap=2)
    key = jax.random.key(0)
    np.testing.assert_allclose(jd.sample(key, cut, X, tableau), jd.sample(key, whole, X, tableau), rtol=1e-10)


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda d: denoisers.tiled(d, 0, overlap=0), "size = 0"),
        (lambda d: denoisers.tiled(d, (6, 4), overlap=4), "overlap = 4; allowed are integers from 0 to 3"),
        (lambda d: denoisers.tiled(d, 6, overlap=0, at_a_time=0), "at_a_time = 0"),
        (lambda d: denoisers.tiled(d, 11, overlap=0)(X, 0.5), "a side of x in pixels = 10; allowed are sides of at"),
        (lambda d: denoisers.tiled(d, 6, overlap=0)(X[0], 0.5), "x.shape"),
    ],
)
def test_misfits_are_refused(use, text):
    with pytest.raises(ValueError, match=text):
        use(denoisers.gaussian(FLOW))
