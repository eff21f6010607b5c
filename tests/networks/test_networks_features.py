"""Tiny Darknet beside a reading of its description in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolution import convolved

from jaxdiff.networks import TinyDarknet
from jaxdiff.objectives.kl_reconstruction import perceptual_distance

RNG = np.random.default_rng(0)
WIDTHS = (16, 32, 16, 128, 16, 128, 32, 256, 32, 256, 64, 512, 64, 512, 128, 1000)
ONES = (2, 4, 6, 8, 10, 12, 14, 15)  # the convolutions with a window of one


def drawn():
    arrays, before = {}, 3
    for i, width in enumerate(WIDTHS):
        window = 1 if i in ONES else 3
        arrays[f"w{i}"] = (RNG.standard_normal((window, window, before, width)) / np.sqrt(before * window**2)).astype(
            np.float16
        )
        arrays[f"b{i}"], before = (0.1 * RNG.standard_normal(width)).astype(np.float16), width
    return arrays


ARRAYS = drawn()
VARIABLES = TinyDarknet.read(ARRAYS)


@pytest.fixture(scope="module")
def network():
    return jax.jit(
        lambda x: (
            TinyDarknet().apply(VARIABLES, x, method="states"),
            TinyDarknet().apply(VARIABLES, x),
            TinyDarknet().apply(VARIABLES, x, method="features"),
        )
    )


def test_parity_with_a_reading(network):
    x = RNG.uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    states, logits, features = network(jnp.asarray(x[None]))
    h = (x + 1) / 2
    for i in range(16):
        h = convolved(h, ARRAYS[f"w{i}"], np.float64(ARRAYS[f"b{i}"]))
        h = np.where(h > 0, h, 0.1 * h) if i < 15 else h
        np.testing.assert_allclose(states[i][0], h, rtol=1e-4, atol=1e-4 * np.abs(h).max())
        if i == 14:
            np.testing.assert_allclose(features[0], h.mean(axis=(0, 1)), rtol=1e-4, atol=1e-4)
        if i in (0, 1, 5, 9):
            h = h.reshape(h.shape[0] // 2, 2, h.shape[1] // 2, 2, -1).max(axis=(1, 3))
    np.testing.assert_allclose(logits[0], h.mean(axis=(0, 1)), rtol=1e-4, atol=1e-4)


def test_the_perceptual_distance_is_that_of_directions(network):
    x, y = RNG.uniform(-1, 1, (2, 1, 32, 32, 3)).astype(np.float32)
    expected = 0.0
    for i in (0, 1, 5, 9, 13):
        a, b = (np.asarray(network(jnp.asarray(part))[0][i][0], np.float64) for part in (x, y))
        a, b = (part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (a, b))
        expected += np.mean(np.sum((a - b) ** 2, axis=-1))
    distance = jax.jit(
        lambda *pair: perceptual_distance(*(TinyDarknet().apply(VARIABLES, x, method="compared") for x in pair))
    )
    np.testing.assert_allclose(distance(x, y), [expected], rtol=1e-4)
    np.testing.assert_allclose(distance(x, x), [0.0], atol=1e-6)


def test_an_array_that_is_missing_or_misshapen_is_named():
    with pytest.raises(ValueError, match=r"shape of b3 = \(127,\); allowed are \(128,\)"):
        TinyDarknet.read({**ARRAYS, "b3": ARRAYS["b3"][1:]})
    with pytest.raises(ValueError, match=r"names of arrays = .*allowed are w0, b0"):
        TinyDarknet.read({name: array for name, array in ARRAYS.items() if name != "w7"})
    with pytest.raises(ValueError, match="multiples of 16"):
        TinyDarknet().apply(VARIABLES, jnp.zeros((1, 24, 32, 3)))
