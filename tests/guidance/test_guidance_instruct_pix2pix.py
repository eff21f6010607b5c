"""InstructPix2Pix: equation 3 of the paper, one call of the network, and a model of planes and labels."""

import dataclasses
import re
from typing import Any, ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES
from guidance.known import Known, drawn, estimates
from models.exact import loaded, moved

import jaxdiff as jd
from jaxdiff import denoisers, guidance
from jaxdiff.conditions import Label, Planes
from jaxdiff.data.fields import Field
from jaxdiff.guidance import InstructPix2Pix, Linear
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks.module import Network

KEY = jax.random.key(0)
SHAPE = (3, 2, 4)
C, P, U, X = (drawn(SHAPE, seed) for seed in range(4))


def equation_3(c, p, u, scale, picture_scale):
    """The estimate of Brooks et al. 2022, term by term."""
    return u + picture_scale * (p - u) + scale * (c - p)


@pytest.mark.parametrize("law", ["flow", "vp_cosine"])
def test_the_rule_is_equation_3_of_the_paper(law, x64):
    process, t = PROCESSES[law], 0.4
    three = [Known(process, jnp.asarray(data)) for data in (C, P, U)]
    told = [estimates(process, data, X, t) for data in (C, P, U)]
    each = jnp.asarray([7.5, 0.0, 1.0])
    schedule = Linear(2.0, 2.0)
    for given, scale in (((7.5, 1.5), 7.5), ((each, schedule), np.reshape(each, (3, 1, 1)))):
        picture_scale = 2.0 if given[1] is schedule else given[1]
        found = guidance.instruct_pix2pix(*three, *given)(jnp.asarray(X), t)
        for side, sides in zip(found, zip(*told, strict=True), strict=True):
            np.testing.assert_allclose(side, equation_3(*sides, scale, picture_scale), rtol=1e-10, atol=1e-12)
    x = jnp.asarray(X)
    alike = guidance.instruct_pix2pix(*three, 3.0, 3.0)(x, t)
    chex.assert_trees_all_close(alike, guidance.classifier_free(three[0], three[2], 3.0)(x, t), rtol=1e-12)


def test_samples_of_gaussians_have_the_mean_of_the_equation(x64):
    """For three Gaussians of one width, the guided law is a Gaussian of this width at every time."""
    process, means = PROCESSES["flow"], (0.9, 0.4, -0.3)
    three = [denoisers.gaussian(process, mean, 0.5) for mean in means]
    want = denoisers.gaussian(process, equation_3(*means, 4.0, 1.5), 0.5)
    x = jax.random.normal(KEY, (4, 2))
    tableau = jd.solvers.ddim(process, jd.grids.uniform_time(process, 8))
    found = jd.sample(KEY, guidance.instruct_pix2pix(*three, 4.0, 1.5), x, tableau)
    np.testing.assert_allclose(found, jd.sample(KEY, want, x, tableau), rtol=1e-9)


# ------------------------------------------------------------------------------------- the component

BATCHES = []
FIELDS = {
    "image": Field("picture", (4, 4, 1), "uint8"),
    "before": Field("picture", (4, 4, 1), "uint8"),
    "label": Field("label", (), "int32", 2, ("left", "right")),
    "style": Field("label", (), "int32", 3),
}


class Told(Network):
    """A convolution of the noise and of the picture, with a shift for each class. It notes its batches."""

    takes: ClassVar[tuple[str, ...]] = ("class", "planes")

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        BATCHES.append(len(x))
        h = nn.Conv(4, (3, 3))(jnp.concatenate([x, cond["before"]], axis=-1))
        for name, spec in self.specs:
            if spec.channel == "class":
                h = h + nn.Embed(spec.classes + 1, 4, name=name)(cond[name])[:, None, None]
        return nn.Conv(1, (3, 3))(nn.tanh(h))


@pytest.fixture(scope="module")
def model():
    conditions = {"before": Planes("before"), "label": Label(), "style": Label("style")}
    made = loaded(Diffusion(network=Told(), conditions=conditions), FIELDS)
    return dataclasses.replace(made, params=moved(made.params))


PICTURE = np.asarray(drawn((4, 4, 1), 7), np.float32)
RULE = InstructPix2Pix("before", "label", 4.0, 1.5)


def test_a_model_is_told_three_conditions_in_one_call(model):
    """A third condition is told in all three estimates."""
    x = jax.random.normal(KEY, (5, 4, 4, 1))
    wishes = ({"before": PICTURE, "label": "right"}, {"before": PICTURE}, {})
    alone = [np.stack(model.denoiser(style=2, **wish)(x, 0.4)).astype(np.float64) for wish in wishes]
    BATCHES.clear()
    found = model.denoiser(style=2, guidance=RULE, **wishes[0])(x, 0.4)
    assert BATCHES == [15]
    np.testing.assert_allclose(np.stack(found), equation_3(*alone, 4.0, 1.5), rtol=2e-4, atol=2e-5)
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    assert np.abs(alone[1] - alone[2]).max() > 0.01
    BATCHES.clear()
    plain = model.denoiser(style=2, guidance=InstructPix2Pix("before", "label", 1.0, 1.0), **wishes[0])(x, 0.4)
    assert BATCHES == [5]
    np.testing.assert_allclose(np.stack(plain), alone[0], rtol=1e-5, atol=1e-6)


def test_each_sample_has_a_picture_and_an_instruction_of_its_own(model):
    pictures = np.asarray(drawn((5, 4, 4, 1), 8), np.float32)
    sampling = Sampling(steps=3, guidance=RULE)
    found = model.sample(KEY, 5, sampling=sampling, before=pictures, label=[0, 1, 0, 1, 1], batch_size=2)
    swapped = pictures[[0, 1, 2, 4, 3]]
    other = model.sample(KEY, 5, sampling=sampling, before=swapped, label=[0, 1, 0, 0, 1], batch_size=2)
    np.testing.assert_allclose(other[:3], found[:3], rtol=1e-4, atol=1e-5)
    assert np.abs(other[3:] - found[3:]).max(axis=(1, 2, 3)).min() > 0.01


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (InstructPix2Pix("befor", "label"), "picture = 'befor'; allowed are conditions of the model: before, label, style"),
        (InstructPix2Pix("before"), "instruction = 'text'; allowed are conditions of the model: before, label, style"),
    ],
)  # fmt: skip
def test_conditions_that_the_model_has_not_are_refused(rule, message, model):
    with pytest.raises(ValueError, match=re.escape(message)):
        model.denoiser(before=PICTURE, guidance=rule)


def test_one_condition_cannot_be_both():
    with pytest.raises(ValueError, match="instruction = 'text'; allowed are another condition than the picture"):
        InstructPix2Pix("text")
