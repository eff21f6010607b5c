"""Videos: factorised space-time attention, images among videos, and loose images."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.reference import attention, dense, group_norm, in_float64

from jaxdiff.networks import ControlNet, Sinusoidal, UNet
from jaxdiff.networks.layers.temporal import TemporalAttention
from jaxdiff.networks.module import Spec

STILL = {"still": Spec("class", classes=2)}
SPECS = STILL | {"text": Spec("tokens", (3, 4)), "low": Spec("planes", (4, 2, 2, 1)), "fps": Spec("vector", (2,))}
NET = UNet(
    channels=8, multipliers=(1,), num_blocks=0, attention_levels=(0,), temporal=True, loose_images="still"
).given(SPECS)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


VIDEO, TIME = normal(2, 4, 2, 2, 3), jnp.array([[3.0, 1.0], [40.0, 2.0]])
GIVEN = {
    "still": jnp.array([0, 1]),
    "text": {"values": normal(2, 3, 4, seed=1), "mask": jnp.array([[True, True, False], [True, True, True]])},
    "low": normal(2, 4, 2, 2, 1, seed=2),
    "fps": normal(2, 2, seed=3),
}


@pytest.fixture(scope="module")
def trained(random_variables):
    return random_variables(NET, VIDEO, TIME, GIVEN)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * float(jnp.abs(expected).max()))


def differ(found, expected):
    assert jnp.abs(found - expected).max() > 1e-3 * jnp.abs(expected).max()


@pytest.mark.parametrize("loose", [None, (False, True)])
def test_attention_over_frames(random_variables, loose):
    x = normal(2 * 3, 2, 2, 8)
    layer = TemporalAttention(3, 4, 2, 1e-5, jnp.float32)
    arguments = (x, None if loose is None else jnp.array(loose))
    variables = random_variables(layer, *arguments)
    p, expected = in_float64(variables), np.empty((2, 3, 4, 8))
    h = group_norm(p["norm"], np.asarray(x, np.float64), 2, 1e-5).reshape(2, 3, 4, 8)
    for example in range(2):
        for place in range(4):
            alone = loose is not None and loose[example]
            frames = np.zeros(3) if alone else np.arange(3)
            waves = np.asarray(Sinusoidal()(jnp.asarray(frames, jnp.float32), 8))
            query, key, value = np.split(dense(p["qkv"], h[example, :, place] + waves)[None], 3, -1)
            mixed = value if alone else attention(query, key, value, np.ones((1, 3), bool), 4)
            expected[example, :, place] = dense(p["out"], mixed[0])
    np.testing.assert_allclose(layer.apply(variables, *arguments), x + expected.reshape(x.shape), atol=2e-5)


def test_loose_images_and_videos_of_one_frame_are_images(trained):
    """Example 1 of the batch has four loose images; each is what the network makes of an image."""
    apply = jax.jit(NET.apply)
    out = apply(trained, VIDEO, TIME, GIVEN)
    assert out.shape == VIDEO.shape
    told = {
        name: jax.tree.map(lambda leaf: jnp.repeat(leaf[1:], 4, 0), GIVEN[name]) for name in ("still", "text", "fps")
    }
    planes = NET.given(SPECS | {"low": Spec("planes", (2, 2, 1))})
    image = jax.jit(planes.apply)(trained, VIDEO[1], jnp.repeat(TIME[1:], 4, 0), told | {"low": GIVEN["low"][1]})
    assert image.shape == VIDEO[1].shape
    close(out[1], image)
    # A video of one frame is an image, whether it is called loose or not.
    single = {
        "still": jnp.array([0]),
        "text": jax.tree.map(lambda leaf: leaf[:1], GIVEN["text"]),
        "fps": GIVEN["fps"][:1],
    }
    frame = NET.given(SPECS | {"low": Spec("planes", (1, 2, 2, 1))})
    found = jax.jit(frame.apply)(trained, VIDEO[:1, :1], TIME[:1], single | {"low": GIVEN["low"][:1, :1]})
    expected = jax.jit(planes.apply)(trained, VIDEO[:1, 0], TIME[:1], single | {"low": GIVEN["low"][:1, 0]})
    close(found[:, 0], expected)


def test_the_frames_of_a_video_see_each_other_in_their_order(trained):
    apply = jax.jit(NET.apply)
    before = apply(trained, VIDEO, TIME, GIVEN)
    after = apply(trained, VIDEO.at[:, 3].add(1.0), TIME, GIVEN)
    differ(after[0, 0], before[0, 0])
    close(after[1, :3], before[1, :3])  # loose images
    swapped = {**GIVEN, "low": GIVEN["low"][:, ::-1]}
    differ(apply(trained, VIDEO[:, ::-1], TIME, swapped)[0, ::-1], before[0])
    close(apply(trained, VIDEO[:, ::-1], TIME, swapped)[1, ::-1], before[1])


def test_fresh_attention_over_frames_changes_nothing(trained):
    """With the first weights of these layers, a video is a batch of images."""
    params = {
        name: {**layer, "out": jax.tree.map(jnp.zeros_like, layer["out"])} if name.endswith("_temporal") else layer
        for name, layer in trained["params"].items()
    }
    first = jax.eval_shape(NET.init, jax.random.key(0), VIDEO, TIME, GIVEN)["params"]
    assert sum(name.endswith("_temporal") for name in first) == 2  # at the bottom, and on the way up
    apply, videos = jax.jit(NET.apply), GIVEN | {"still": jnp.array([0, 2])}
    out = apply({"params": params}, VIDEO, TIME, videos)
    changed = apply({"params": params}, VIDEO.at[:, 3].add(1.0), TIME, videos)
    np.testing.assert_array_equal(changed[:, :3], out[:, :3])


def test_dropout_of_a_frame_depends_on_example_and_frame(random_variables):
    net = UNet(channels=8, multipliers=(1,), num_blocks=0, attention_levels=(), temporal=True, dropout=0.5)
    x = jnp.tile(normal(1, 1, 2, 2, 3), (2, 3, 1, 1, 1))
    variables = random_variables(net, x, jnp.ones(2))
    keys = jax.random.split(jax.random.key(3), 2)
    out = jax.jit(net.apply)(variables, x, jnp.ones(2), key=keys)
    differ(out[0, 1], out[0, 0])
    differ(out[1, 0], out[0, 0])
    np.testing.assert_array_equal(jax.jit(net.apply)(variables, x, jnp.ones(2), key=keys[::-1]), out[::-1])


def test_a_side_network_of_videos(random_variables):
    net = ControlNet(UNet(channels=8, multipliers=(1,), num_blocks=0, attention_levels=(), temporal=True))
    net = net.given({"hint": Spec("planes", (4, 2, 2, 1))})
    variables = random_variables(net, VIDEO, TIME, GIVEN["low"])
    apply = jax.jit(net.apply)
    before, after = (apply(variables, VIDEO, TIME, {"hint": hint}) for hint in (GIVEN["low"], GIVEN["low"] + 1))
    differ(after, before)


@pytest.mark.parametrize(
    ("net", "x", "words"),
    [
        (UNet(temporal=True), jnp.zeros((2, 8, 3)), "x.shape = (2, 8, 3); allowed are [batch, frames, height, width"),
        (
            UNet(temporal=True, loose_images="still"),
            VIDEO,
            "loose_images = 'still'; allowed are conditions of classes: ",
        ),
    ],
)
def test_what_is_no_video_is_refused(net, x, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        jax.eval_shape(net.init, jax.random.key(0), x, jnp.zeros(2))


def test_loose_images_need_frames():
    with pytest.raises(ValueError, match="loose_images = 'still'; allowed are '' without temporal"):
        UNet(loose_images="still")
