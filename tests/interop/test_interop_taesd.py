"""The tiny autoencoder beside a reading of its program in float64 NumPy, with arrays by the published names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolution import convolved

from jaxdiff.interop.taesd import taesd

RNG = np.random.default_rng(0)


def block(x, weights, name):
    if f"{name}.pool.0.weight" in weights:
        h = x @ weights[f"{name}.pool.0.weight"][:, :, 0, 0].T
        groups = h.reshape(*h.shape[:2], 4, -1)
        mean, var = (f(groups, axis=(0, 1, 3), keepdims=True) for f in (np.mean, np.var))
        h = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(h.shape)
        h = np.maximum(h * weights[f"{name}.pool.1.weight"] + weights[f"{name}.pool.1.bias"], 0)
        x = x + h @ weights[f"{name}.pool.3.weight"][:, :, 0, 0].T
    h = x
    for i in (0, 2, 4):
        h = convolved(h, weights[f"{name}.conv.{i}.weight"].transpose(2, 3, 1, 0), weights[f"{name}.conv.{i}.bias"])
        h = np.maximum(h, 0) if i < 4 else h
    return np.maximum(h + x, 0)


def sequence(x, weights, program):
    """Runs the layers of a program: pairs of a place and a kind."""
    for place, kind in program:
        if kind == "block":
            x = block(x, weights, str(place))
        elif kind == "double":
            x = x.repeat(2, axis=0).repeat(2, axis=1)
        elif kind == "relu":
            x = np.maximum(x, 0)
        elif kind == "bound":
            x = 3 * np.tanh(x / 3)
        else:
            x = convolved(x, weights[f"{place}.weight"].transpose(2, 3, 1, 0), weights.get(f"{place}.bias", 0.0))[
                :: 2 if kind == "half" else 1, :: 2 if kind == "half" else 1
            ]
    return x


DOWN = ("conv", "block", *(("half", *["block"] * 3) * 3), "conv")
UP = ("bound", "conv", "relu", *((*["block"] * 3, "double", "conv") * 3), "block", "conv")


def drawn(program, first, last, pooled):
    """Random weights by the names of a state dict, with 64 channels inside."""
    weights, places = {}, list(enumerate(program))
    convs = [place for place, kind in places if kind in ("conv", "half")]

    def add(name, shape, scale):
        weights[name] = (scale * RNG.standard_normal(shape)).astype(np.float32)

    for place, kind in places:
        if kind == "block":
            for i in (0, 2, 4):
                add(f"{place}.conv.{i}.weight", (64, 64, 3, 3), 0.04)
                add(f"{place}.conv.{i}.bias", (64,), 0.1)
            if place in pooled:
                add(f"{place}.pool.0.weight", (256, 64, 1, 1), 0.1)
                add(f"{place}.pool.1.weight", (256,), 1.0)
                add(f"{place}.pool.1.bias", (256,), 0.1)
                add(f"{place}.pool.3.weight", (64, 256, 1, 1), 0.05)
        elif place in convs:
            channels = (last if place == convs[-1] else 64, first if place == convs[0] else 64)
            add(f"{place}.weight", (*channels, 3, 3), 0.1)
            if place in (convs[0], convs[-1]):
                add(f"{place}.bias", (channels[0],), 0.1)
    return weights


@pytest.mark.parametrize("variant", ["flux_2", "plain"])
def test_parity_with_a_reading_of_the_published_program(variant):
    pooled = ((11, 12, 13), (3, 4, 5)) if variant == "flux_2" else ((), ())
    encoder, decoder = drawn(DOWN, 3, 4, pooled[0]), drawn(UP, 4, 3, pooled[1])
    network, variables = taesd(encoder, decoder)
    x = RNG.uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    z = sequence((x + 1) / 2, encoder, list(enumerate(DOWN)))
    y = 2 * sequence(z, decoder, list(enumerate(UP))) - 1
    both = jax.jit(lambda x: (network.apply(variables, x, method="encode"), network.apply(variables, x)))
    ours = [np.asarray(part[0]) for part in both(jnp.asarray(x[None]))]
    np.testing.assert_allclose(ours[0], z, rtol=1e-4, atol=1e-4 * np.abs(z).max())
    np.testing.assert_allclose(ours[1], y, rtol=1e-4, atol=1e-4 * np.abs(y).max())


def test_an_array_too_few_too_many_or_of_another_shape_is_named():
    encoder, decoder = drawn(DOWN, 3, 4, ()), drawn(UP, 4, 3, ())
    with pytest.raises(ValueError, match=r"no array '1\.conv\.0\.weight'"):
        taesd({name: array for name, array in encoder.items() if name != "1.conv.0.weight"}, decoder)
    with pytest.raises(ValueError, match=r"1 arrays without a place in the network, such as '99\.weight'"):
        taesd(encoder, {**decoder, "99.weight": encoder["0.bias"]})
    with pytest.raises(
        ValueError, match=r"shape of 0\.bias = \[\(63,\)\]; allowed are those of conv_in\.bias, \(64,\)"
    ):
        taesd({**encoder, "0.bias": encoder["0.bias"][1:]}, decoder)
    with pytest.raises(ValueError, match=r"type of 0\.bias = int32; allowed are floating-point types"):
        taesd({**encoder, "0.bias": encoder["0.bias"].astype(np.int32)}, decoder)
