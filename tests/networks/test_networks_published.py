"""The published U-Nets: their numbers of parameters against those of the original code and of the papers."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxdiff.networks import published
from jaxdiff.networks.module import Spec
from jaxdiff.presets import open_preset

CLASSES = {"label": Spec("class", classes=1000)}


def text(width):
    return {"text": Spec("tokens", (77, width))}


XL = text(2048) | {"pooled": Spec("vector", (1280,)), "sizes": Spec("vector", (6 * 256,))}
T5 = {"text": Spec("tokens", (256, 4096)), "pooled": Spec("vector", (4096,))}

# The tensors of `UNet` in NVlabs/edm2 for latents of 4 channels and 1000 classes: 125M to 1523M in table 5 of the paper.
EDM2_COUNTS = [
    (published.edm2_xs(), 124_713_125),
    (published.edm2_s(), 280_212_709),
    (published.edm2_m(), 497_807_653),
    (published.edm2_l(), 777_497_957),
    (published.edm2_xl(), 1_119_283_621),
    (published.edm2_xxl(), 1_523_164_645),
]


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
        (published.ncsnpp_256(), (64,), 65_574_549 - 128),  # the 128 frequencies of time are no parameters of ours
        (published.ddpmpp(), (32,), 55_732_739),
        (published.ncsnpp(), (32,), 56_395_523),
        (published.adm_64(), (64, 3, CLASSES), 295_899_267 + 768),  # our table has a row for the null class
        *((net, (16, 4, CLASSES), total + 4 * net.channels) for net, total in EDM2_COUNTS),  # a row for the null class
        (published.stable_diffusion_1(), (16, 4, text(768)), 859_520_964),
        (published.stable_diffusion_2(), (16, 4, text(1024)), 865_910_724),
        (published.stable_diffusion_xl(), (16, 4, XL), 2_567_463_684),
    ],
)
def test_the_number_of_the_original_code(network, arguments, expected):
    """The tensors of diffusers' `google/ddpm-*`, `google/ncsnpp-*` and Stable Diffusion, and of the code of EDM."""
    assert count(network, *arguments) == expected


@pytest.mark.parametrize(
    ("network", "specs", "printed"),
    [
        (published.adm_128(), CLASSES, "422M"),  # Dhariwal & Nichol 2021, table 13
        (published.adm_256(), CLASSES, "554M"),
        (published.adm_512(), CLASSES, "559M"),
        (published.imagen_64(), T5, "2B"),  # Saharia et al. 2022, section 4.1
        (published.imagen_256(), T5 | {"low": Spec("planes", (64, 64, 3))}, "600M"),
    ],
)
def test_the_rounded_number_of_the_paper(network, specs, printed):
    digits, unit = len(printed.rstrip("0MB")), {"M": 1e6, "B": 1e9}[printed[-1]]
    assert float(f"{count(network, 64, 3, specs):.{digits - 1}e}") == float(printed[:-1]) * unit


def test_the_recipe_of_imagenet_has_the_network_of_adm():
    path = Path(__file__).resolve().parents[2] / "configs" / "imagenet64.py"
    assert open_preset(str(path)).config.model.network == published.adm_64().clone(dtype="bfloat16")
