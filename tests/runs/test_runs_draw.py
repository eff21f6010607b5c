"""Samples from a model: they depend on key, place and conditions only, and guidance and labels are those asked for."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import distributed, parametrizations, processes, solvers
from jaxdiff.components import choose
from jaxdiff.conditions import Label, Vector
from jaxdiff.data.fields import Field
from jaxdiff.guidance import ClassifierFree
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks.module import Network

FIELDS = {
    "x": Field("values", (3,)),
    "label": Field("label", (), "int32", 4, tuple("abcd")),
    "place": Field("values", (2,)),
}


class Certain(Network):
    """A network that predicts each example to be its label, and a share of its input.

    Attributes:
      share: the share.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector")
    share: float = 0.0

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        scale = self.param("scale", nn.initializers.ones, ())
        label = 0 if not cond or "label" not in cond else cond["label"][:, None]
        return scale * (self.share * x + label / 4)


def known_model(sampling=None, *, share=0.0, conditions=None):
    conditions = {"label": Label()} if conditions is None else conditions
    settings = Diffusion(
        network=Certain(share=share), parametrization=choose(parametrizations.x0), field="x", conditions=conditions
    )
    frozen = settings.load(lambda path: None)
    bound = settings.bind(FIELDS, frozen)
    return bound.loaded(bound.init(jax.random.key(0)), frozen, {}, sampling or Sampling(steps=3))


def test_a_sample_depends_on_its_key_its_place_and_its_label_only():
    model = known_model(Sampling(solver=choose(solvers.ddpm), steps=5), share=0.5)
    key, labels = jax.random.key(0), np.arange(23) % 4
    whole = model.sample(key, 23, label=labels)
    assert whole.shape == (23, 3)
    assert len(np.unique(whole)) == 69
    for batch_size in (1, 7):
        np.testing.assert_array_equal(model.sample(key, 23, label=labels, batch_size=batch_size), whole)
    np.testing.assert_array_equal(model.sample(key, 7, label=labels[:7]), whole[:7])
    other = np.where(np.arange(23) == 2, (labels + 1) % 4, labels)
    assert np.flatnonzero(np.any(model.sample(key, 23, label=other) != whole, axis=1)).tolist() == [2]
    # One value stands for all samples, and a class has a number and a name.
    same = model.sample(key, 23, label=np.full(23, 1))
    for one in (1, "b"):
        np.testing.assert_array_equal(model.sample(key, 23, label=one), same)
    assert np.any(model.sample(jax.random.key(1), 23, label=labels) != whole, axis=1).all()


def test_a_sample_does_not_depend_on_the_default_generator():
    key = jax.random.key(5, impl="threefry2x32")
    model = known_model(Sampling(solver=choose(solvers.ddpm), steps=2), share=0.5)
    whole = model.sample(key, 5)
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(model.sample(key, 5), whole)


def test_samples_have_the_labels_and_the_guidance_asked_for():
    """The last step of DDIM ends in the estimate: label/4, or with guidance of scale s from the null label 4/4."""
    model, labels = known_model(), np.array([3, 0, 1, 1, 2])
    for scale in (1.0, 0.0, 3.0):
        sampling = Sampling(steps=3, guidance=ClassifierFree(scale))
        samples = model.sample(jax.random.key(1), 5, label=labels, sampling=sampling)
        expected = np.repeat(1 + scale * (labels / 4 - 1)[:, None], 3, axis=1)
        np.testing.assert_allclose(samples, expected, atol=0.02)
    # Nothing is asked for, whatever the scale.
    nothing = model.sample(jax.random.key(1), 4, sampling=Sampling(steps=3, guidance=ClassifierFree(3.0)))
    np.testing.assert_allclose(nothing, np.ones((4, 3)), atol=0.02)
    without = known_model(conditions={})
    np.testing.assert_allclose(without.sample(jax.random.key(1), 4), np.zeros((4, 3)), atol=0.02)


def test_samples_to_look_at_go_through_all_classes():
    model = known_model()
    found, captions = model.exhibit(jax.random.key(0), {}, distributed.make_mesh())
    assert found["x"].shape == (16, 3)
    assert captions == list("abcd") * 4
    np.testing.assert_allclose(found["x"], np.repeat(np.arange(16) % 4 / 4, 3).reshape(16, 3), atol=0.02)


@pytest.mark.parametrize("count", [0, -1, 2.0, None])
def test_drawing_no_samples_is_refused(count):
    with pytest.raises(ValueError, match=rf"count = {count}; allowed are integers of at least 1"):
        known_model().sample(jax.random.key(0), count)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"label": 4}, r"label = 4; allowed are integers from 0 to 3"),
        ({"label": -1}, "label = -1"),
        ({"label": 2.0}, r"label = 2\.0"),
        ({"label": [[1, 2]]}, "label = "),
        ({"label": [1, 9]}, r"label = \[1, 9\]"),
        ({"label": "e"}, r"label = 'e'; allowed are names of classes: a, b, c, d"),
        ({"lable": 1}, r"condition = 'lable'; .*label, place; did you mean 'label'\?"),
        ({"place": [1.0]}, "place"),
        ({"guidance": 2.0}, r"guidance = 2\.0; allowed are 0 and 1"),
    ],
)
def test_conditions_that_a_model_lacks_are_refused(asked, words):
    model = known_model(conditions={"label": Label(), "place": Vector("place")})
    with pytest.raises(ValueError, match=words) as error:
        model.denoiser(**asked)
    assert "\n" not in str(error.value)


def test_another_number_of_labels_than_of_samples_is_refused():
    with pytest.raises(ValueError, match="number of values of label = 2; allowed are 1 and 3"):
        known_model().sample(jax.random.key(0), 3, label=[0, 1])


def test_a_model_without_conditions_says_so():
    model = known_model(conditions={})
    assert model.shape == (3,)
    with pytest.raises(ValueError, match="condition = 'label'; allowed are conditions of the model: none"):
        model.denoiser(label=1)
    assert isinstance(model.process, type(processes.vp_cosine()))
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(model.denoiser()(x, 0.5).x0, jnp.zeros((2, 3)))
