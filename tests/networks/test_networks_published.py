"""The published U-Nets: their parameters against the published numbers, and against sums written out by hand."""

import math

import jax
import jax.numpy as jnp
import pytest

from jaxdiff.networks import published
from jaxdiff.networks.module import Spec

CLASSES = {"label": Spec("class", classes=1000)}


def text(width):
    return {"text": Spec("tokens", (77, width))}


XL = text(2048) | {"pooled": Spec("vector", (1280,)), "sizes": Spec("vector", (6 * 256,))}
T5 = {"text": Spec("tokens", (256, 4096)), "pooled": Spec("vector", (4096,))}


def value(spec, size):
    if spec.channel == "tokens":
        return {"values": jnp.zeros((1, *spec.shape)), "mask": jnp.ones((1, spec.shape[0]), bool)}
    return jnp.zeros(1, int) if spec.channel == "class" else jnp.zeros((1, *spec.shape))


def count(network, size, channels=3, specs=None):
    """The number of parameters, from shapes alone."""
    told = network.given(specs) if specs else network
    cond = {name: value(spec, size) for name, spec in told.specs} or None
    x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    shapes = jax.eval_shape(told.init, jax.random.key(0), x, jnp.zeros(1), cond)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("network", "arguments", "expected"),
    [
        (published.ddpm(), (32,), 35_746_307),
        (published.ddpm_256(), (64,), 113_673_219),
        (published.stable_diffusion_1(), (16, 4, text(768)), 859_520_964),
        (published.stable_diffusion_2(), (16, 4, text(1024)), 865_910_724),
        (published.stable_diffusion_xl(), (16, 4, XL), 2_567_463_684),
    ],
)
def test_the_number_of_diffusers(network, arguments, expected):
    """The sums over the tensors of the published files, `google/ddpm-*` and `unet` of the Stable Diffusion folders."""
    assert count(network, *arguments) == expected


@pytest.mark.parametrize(
    ("network", "specs", "printed"),
    [
        (published.adm_64(), CLASSES, "296M"),  # Dhariwal & Nichol 2021, table 13
        (published.adm_128(), CLASSES, "422M"),
        (published.adm_256(), CLASSES, "554M"),
        (published.adm_512(), CLASSES, "559M"),
        (published.ddpmpp(), {}, "56M"),  # Karras et al. 2022, table 7
        (published.ncsnpp(), {}, "56M"),
        (published.imagen_64(), T5, "2B"),  # Saharia et al. 2022, section 4.1
        (published.imagen_256(), T5 | {"low": Spec("planes", (64, 64, 3))}, "600M"),
    ],
)
def test_the_rounded_number_of_the_paper(network, specs, printed):
    digits, unit = len(printed.rstrip("0MB")), {"M": 1e6, "B": 1e9}[printed[-1]]
    assert float(f"{count(network, 64, 3, specs):.{digits - 1}e}") == float(printed[:-1]) * unit
