"""Samples from a model: they depend on key, place and label only, and guidance and labels are those asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff.networks import MLP
from jaxdiff.runs import recipe
from jaxdiff.runs.config import Config, DataConfig, DiffusionConfig, SampleConfig
from jaxdiff.runs.draw import draw
from jaxdiff.runs.load import LabelledApply, Model, make_model


@dataclasses.dataclass(frozen=True)
class Certain:
    """A network that predicts each example to be its label divided by the number of classes."""

    def apply(self, params, x, time, cond=None):
        return jnp.zeros_like(x) if cond is None else jnp.broadcast_to(cond[:, None] / params, x.shape)


def known_model(num_classes=4):
    process, names = jd.processes.vp_cosine(), tuple("abcd"[:num_classes])
    apply = LabelledApply(Certain())
    return Model(process, jd.parametrizations.x0(), apply, 4.0, (3,), num_classes, names, 0, Config())


def test_a_sample_depends_on_its_key_its_place_and_its_label_only():
    model, key, labels = known_model(), jax.random.key(0), np.arange(23) % 4
    model = dataclasses.replace(model, apply=lambda params, x, time, cond=None: 0.5 * x + cond[:, None] / params)
    config = SampleConfig("ddpm", steps=5)
    whole = draw(model, key, labels, config)
    assert whole.shape == (23, 3)
    assert len(np.unique(whole)) == 69
    for batch_size in (1, 7):
        np.testing.assert_array_equal(draw(model, key, labels, config, batch_size=batch_size), whole)
    np.testing.assert_array_equal(draw(model, key, labels[:7], config), whole[:7])
    other = np.where(np.arange(23) == 2, (labels + 1) % 4, labels)
    assert np.flatnonzero(np.any(draw(model, key, other, config) != whole, axis=1)).tolist() == [2]


def test_samples_have_the_labels_and_the_guidance_asked_for():
    """The last step of DDIM ends in the estimate: label/4, or with guidance of scale s from the null label 4/4."""
    model, labels = known_model(), np.array([3, 0, 1, 1, 2])
    for scale in (1.0, 0.0, 3.0):
        samples = draw(model, jax.random.key(1), labels, SampleConfig(steps=3, guidance=scale))
        expected = np.repeat(1 + scale * (labels / 4 - 1)[:, None], 3, axis=1)
        np.testing.assert_allclose(samples, expected, atol=0.02)
    nothing = draw(known_model(0), jax.random.key(1), None, SampleConfig(steps=3), count=4)
    np.testing.assert_allclose(nothing, np.zeros((4, 3)), atol=0.02)


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (None, {}, "count = None; allowed are integers of at least 1"),
        (None, {"count": 0}, "count = 0; "),
        (np.zeros(0, int), {}, r"len\(labels\) = 0; "),
    ],
)
def test_drawing_no_samples_is_refused(labels, options, words):
    with pytest.raises(ValueError, match=words):
        draw(known_model(), jax.random.key(0), labels, SampleConfig(), **options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((4,), r"label = 4; allowed are integers from 0 to 3"),
        ((-1,), "label = -1"),
        ((2.0,), r"label = 2\.0"),
        (([[1, 2]],), "label = "),
        (([1, 9],), r"label = \[1, 9\]"),
        ((None, 2.0), r"guidance_scale = 2\.0; allowed are 0 and 1 without a label"),
    ],
)
def test_labels_that_a_model_lacks_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        known_model().denoiser(*arguments)


def test_a_model_without_labels():
    config = Config(
        data=DataConfig("checkerboard"),
        diffusion=DiffusionConfig(process="flow", parametrization="velocity"),
        network=MLP(width=8, num_blocks=1),
        sample=SampleConfig(steps=2),
    )
    spec = recipe.describe_data(config, recipe.open_data(config.data))
    _, initialise = recipe.make_training(config, spec)
    model = make_model(config, spec, jax.jit(initialise)().params, 0)
    assert (model.num_classes, model.class_names, model.shape) == (0, (), (2,))
    samples = draw(model, jax.random.key(0), None, config.sample, count=3)
    assert samples.shape == (3, 2)
    assert np.isfinite(samples).all()
    for arguments, word in (((1,), "label = 1"), ((None, 2.0), r"guidance_scale = 2\.0")):
        with pytest.raises(ValueError, match=f"{word}; .*the model has no classes"):
            model.denoiser(*arguments)
