"""Parameter counts of the published transformers, against sums written out by hand and published figures."""

import math

import jax
import jax.numpy as jnp
import pytest

from jaxdiff.networks import published
from jaxdiff.networks.module import Spec

LABEL = {"label": Spec("class", classes=1000)}
TEXT = {"text": Spec("tokens", (333, 4096)), "pooled": Spec("vector", (2048,))}


def count(network, size, channels, cond):
    x = jnp.zeros((1, size, size, channels))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1), cond)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def dense(i, o):
    return i * o + o


def embedders(w):
    """Time, and 1001 classes."""
    return dense(256, w) + dense(w, w) + 1001 * w


@pytest.mark.parametrize(
    ("make", "width", "depth", "millions"),
    [
        # The paper's table 4 has the sizes in millions, of networks with a patch of 2.
        (published.dit_s, 384, 12, 33),
        (published.dit_b, 768, 12, 130),
        (published.dit_l, 1024, 24, 458),
        (published.dit_xl, 1152, 28, 675),
    ],
)
@pytest.mark.parametrize("patch", [2, 8])
def test_dit(make, width, depth, millions, patch):
    block = dense(width, 3 * width) + dense(width, width) + dense(width, 4 * width) + dense(4 * width, width)
    block += dense(width, 6 * width)
    total = dense(patch**2 * 4, width) + embedders(width) + depth * block
    total += dense(width, 2 * width) + dense(width, patch**2 * 8)
    found = count(make(patch).given(LABEL), 32, 4, jnp.zeros(1, int))
    assert found == total
    if patch == 2:
        assert f"{found:,}" in make.__doc__
        assert round(found / 1e6) == millions


def test_dit_xl_has_the_number_of_its_code():
    """The code counts the 256 positions of latents of 32 x 32 among the parameters, although they are not trained."""
    assert count(published.dit_xl().given(LABEL), 32, 4, jnp.zeros(1, int)) + 256 * 1152 == 675_129_632


@pytest.mark.parametrize(
    ("make", "width", "depth", "dual", "normed"),
    [
        (published.sd3_medium, 1536, 24, 0, 0),
        (published.sd35_medium, 1536, 24, 13, 1),
        (published.sd35_large, 2432, 38, 0, 1),
    ],
)
def test_sd3(make, width, depth, dual, normed):
    norms, mlp = normed * 2 * 64, dense(width, 4 * width) + dense(4 * width, width)
    stream = dense(width, 6 * width) + dense(width, 3 * width) + norms + dense(width, width) + mlp
    last = stream + dense(width, 2 * width) + dense(width, 3 * width) + norms
    total = (depth - 1) * 2 * stream + last
    total += dual * (dense(width, 3 * width) + dense(width, 3 * width) + norms + dense(width, width))
    total += dense(4 * 16, width) + dense(256, width) + dense(width, width)
    total += dense(2048, width) + dense(width, width) + dense(4096, width)
    total += dense(width, 2 * width) + dense(width, 4 * 16)
    cond = {"text": {"values": jnp.zeros((1, 4, 4096)), "mask": jnp.ones((1, 4), bool)}, "pooled": jnp.zeros((1, 2048))}
    found = count(make().given(TEXT), 128, 16, cond)
    assert found == total
    assert f"{found:,}" in make.__doc__


@pytest.mark.parametrize(
    ("make", "width", "depth", "bottleneck", "millions"),
    [
        # The paper's table of configurations has the sizes in millions.
        (published.jit_b, 768, 12, 128, 131),
        (published.jit_l, 1024, 24, 128, 459),
        (published.jit_h, 1280, 32, 256, 953),
    ],
)
def test_jit(make, width, depth, bottleneck, millions):
    hidden = int(4 * width * 2 / 3)
    heads = 12 if width == 768 else 16
    block = dense(width, 3 * width) + dense(width, width) + 2 * (width // heads) + 2 * width
    block += dense(width, 2 * hidden) + dense(hidden, width) + dense(width, 6 * width)
    total = 16**2 * 3 * bottleneck + dense(bottleneck, width) + embedders(width) + 32 * width + depth * block
    total += width + dense(width, 2 * width) + dense(width, 16**2 * 3)
    found = count(make().given(LABEL), 256, 3, jnp.zeros(1, int))
    assert found == total
    assert f"{found:,}" in make.__doc__
    assert round(found / 1e6) == millions
