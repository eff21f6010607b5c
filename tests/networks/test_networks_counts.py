"""Parameter counts of published networks, against the published figures and against sums written out by hand."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxdiff.networks import Fourier, Sinusoidal, UNet
from jaxdiff.networks.module import Spec

SCORE_SDE = {
    "num_blocks": 4,
    "decoder_attention": "last",
    "resampling": "residual",
    "resample_projection": True,
    "skip_scale": math.sqrt(0.5),
    "dropout": 0.1,
}
EDM = UNet(**SCORE_SDE | {"multipliers": (2, 2, 2), "dropout": 0.13})
NCSNPP = UNet(**SCORE_SDE, embedding=Fourier(), resample_filter=(1, 3, 3, 1), input_residual=True)
ADM = UNet(
    channels=192,
    multipliers=(1, 2, 3, 4),
    num_blocks=3,
    attention_levels=(1, 2, 3),
    head_channels=64,
    embedding=Sinusoidal(cos_first=True, endpoint=False),
    scale_shift=True,
    resampling="residual",
    norm_eps=1e-5,
)
LABELLED = ADM.given({"label": Spec("class", classes=1000)})


def count(network, size, cond=None):
    x = jnp.zeros((1, size, size, 3))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1), cond)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def dense(i, o):
    return i * o + o


def conv(i, o):
    return 9 * i * o + o


def attention(c):
    return 2 * c + 4 * dense(c, c)


def block(i, o, width, per_channel=1, project=False):
    shortcut = dense(i, o) if project or i != o else 0
    return 2 * i + conv(i, o) + dense(width, per_channel * o) + 2 * o + conv(o, o) + shortcut


def test_ddpm_cifar10_has_the_published_number():
    assert count(UNet(), 32) == 35_746_307


def test_edm_cifar10():
    w = 512
    total = dense(128, w) + dense(w, w) + conv(3, 128)
    total += block(128, 256, w) + 11 * block(256, 256, w)  # down
    total += 2 * block(256, 256, w)  # middle
    total += 14 * block(512, 256, w) + block(384, 256, w)  # up: the last sees the 128 channels of the first convolution
    total += 4 * block(256, 256, w, project=True)  # twice down, twice up
    total += (4 + 1 + 1) * attention(256)
    total += 2 * 256 + conv(256, 3)
    assert count(EDM, 32) == total
    assert round(total / 1e6, 1) == 55.7


def test_ncsnpp_cifar10():
    w = 512
    total = dense(256, w) + dense(w, w) + conv(3, 128)
    total += 4 * block(128, 128, w) + block(128, 256, w) + 11 * block(256, 256, w)  # down
    total += 2 * block(256, 256, w)  # middle
    total += 5 * block(512, 256, w) * 2 + 4 * block(512, 256, w) + block(384, 256, w)  # up: levels 3, 2 and 1
    total += block(384, 128, w) + 4 * block(256, 128, w)  # level 0
    total += block(128, 128, w, project=True) + 5 * block(256, 256, w, project=True)  # three times down, three times up
    total += conv(3, 128) + conv(128, 256) + conv(256, 256)  # the input at every level
    total += (4 + 1 + 1) * attention(256)
    total += 2 * 128 + conv(128, 3)
    assert count(NCSNPP, 32) == total


def test_the_published_preset_has_the_network_of_adm():
    from jaxdiff.presets import open_preset

    path = Path(__file__).resolve().parents[2] / "configs" / "imagenet64.py"
    assert open_preset(str(path)).config.model.network == ADM.clone(dropout=0.1, dtype="bfloat16")


def test_adm_imagenet64():
    w = 768

    def b(i, o):
        return block(i, o, w, per_channel=2)

    total = dense(192, w) + dense(w, w) + 1001 * w + conv(3, 192)
    total += 4 * b(192, 192)  # level 0 with its resampling block
    total += b(192, 384) + 3 * b(384, 384)
    total += b(384, 576) + 3 * b(576, 576)
    total += b(576, 768) + 2 * b(768, 768)
    total += 2 * b(768, 768) + attention(768)  # middle
    total += 3 * b(768 + 768, 768) + b(768 + 576, 768) + b(768, 768)
    total += b(768 + 576, 576) + 2 * b(576 + 576, 576) + b(576 + 384, 576) + b(576, 576)
    total += b(576 + 384, 384) + 2 * b(384 + 384, 384) + b(384 + 192, 384) + b(384, 384)
    total += b(384 + 192, 192) + 3 * b(192 + 192, 192)
    total += (3 + 4) * (attention(384) + attention(576) + attention(768))
    total += 2 * 192 + conv(192, 3)
    assert count(LABELLED, 64, jnp.zeros(1, int)) == total
    assert round(total / 1e6) == 296
    learned_variance = LABELLED.clone(out_channels=6)
    assert count(learned_variance, 64, jnp.zeros(1, int)) == total + 3 * (9 * 192 + 1)
