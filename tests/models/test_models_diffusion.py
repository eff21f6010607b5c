"""Diffusion models: what does not fit is refused by name, and a loaded model is a pytree of weights."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.exact import FIELDS, bind, gaussian, loaded, moved, start

import jaxdiff as jd
from jaxdiff import denoisers, grids, guidance, parametrizations, processes, solvers
from jaxdiff.codecs import Codec
from jaxdiff.components import choose
from jaxdiff.conditions import Label, Text
from jaxdiff.data import Dataset, from_arrays
from jaxdiff.data.fields import Field
from jaxdiff.guidance import ClassifierFree
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import MLP, TextTransformer
from jaxdiff.networks.module import Network
from jaxdiff.runs.config import Config
from jaxdiff.runs.loop import train

KEY = jax.random.key(0)
PICTURES = {
    "image": Field("picture", (4, 4, 1), "uint8"),
    "label": FIELDS["label"],
    "caption": Field("text", (), "str"),
}
SMALL = MLP(width=16, num_blocks=1)


@dataclasses.dataclass(frozen=True)
class Folded(Codec):
    """A codec whose latents are vectors."""

    def encode(self, frozen, x, keys=None):
        return x.reshape(len(x), -1)


MISFITS = [
    (Diffusion(field="picture"), r"model\.field = 'picture'; allowed are fields of the data: image, label, caption"),
    (Diffusion(field=("image", "depth")), r"model\.field = 'depth'"),
    (Diffusion(field="caption"), r"model\.field = 'caption'; allowed are fields of numbers, and not of text"),
    (Diffusion(conditions={"c": Label("class")}), r"model\.conditions\.c\.field = 'class'"),
    (Diffusion(conditions={"c": Text("label")}), r"model\.conditions\.c\.field = 'label'"),
    (
        Diffusion(MLP(), conditions={"c": Text()}),
        r"model\.conditions\.c = tokens; allowed are class, .*the channels of MLP",
    ),
    (
        Diffusion(conditions={"c": Text(pooled=True, encoder=TextTransformer(heads=7))}),
        r"^model\.conditions\.c\.encoder\.heads = 7",
    ),
    (Diffusion(codec=Folded()), r"x\.shape = \(\d+, 16\); allowed are \[batch, \*space, channels\]"),
    (Diffusion(parametrization=choose(parametrizations.eps)), r"model\.parametrization = 'eps'"),
    (Diffusion(process=choose(processes.flow, t_min=2.0)), r"model\.process"),
    (Diffusion(network=SMALL, learned_variance=True), r"model\.learned_variance"),
]


@dataclasses.dataclass(frozen=True)
class Pictures(Dataset):
    """Four pictures."""

    def open(self):
        arrays = {"image": np.zeros((4, 4, 4, 1), np.uint8), "label": np.zeros(4, int), "caption": ["a"] * 4}
        return from_arrays(arrays, fields=PICTURES)


@pytest.mark.parametrize(("model", "message"), MISFITS)
def test_what_does_not_fit_is_refused_before_anything_is_written(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(Config(data=Pictures(), model=model), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_weights_of_a_model_are_leaves():
    """A compiled function of a model serves all of its weights, and a second model of the same run."""
    traces = []

    @jax.jit
    def estimate(model, x):
        traces.append(1)
        return model.denoiser(label=1)(x, 0.5).x0

    settings = dict(network=SMALL, field="x", conditions={"label": Label()})
    model, again = loaded(Diffusion(**settings)), loaded(Diffusion(**settings))
    assert model is not again
    leaves = jax.tree.leaves(model)
    assert len(leaves) == len(jax.tree.leaves(model.params)) > 5
    x = jnp.ones((2, 3))
    first = estimate(model, x)
    other = estimate(dataclasses.replace(again, params=moved(model.params)), x)
    estimate(jax.tree.map(lambda leaf: 2 * leaf, again), x)
    assert np.abs(first - other).max() > 1e-3
    assert len(traces) == 1
    gradient = jax.jit(jax.grad(lambda model: jnp.sum(model.denoiser(label=0)(x, 0.5).x0 ** 2)))(model)
    assert np.abs(gradient.params["model"]["params"]["dense_out"]["kernel"]).max() > 0


def test_the_denoiser_of_what_is_asked_for():
    conditions = {"label": Label()}
    settings = gaussian("vp_cosine", (-1.0, 1.0, 0.0), 0.5, conditions=conditions)
    model = loaded(settings)
    x = jax.random.normal(KEY, (4, 3))
    exact = {y: denoiser_of_mean(y, settings) for y in (-1.0, 0.0, 1.0)}
    for asked, mean in (({"label": 1}, 1.0), ({"label": "low"}, -1.0), ({}, 0.0), ({"label": None}, 0.0)):
        np.testing.assert_allclose(model.denoiser(**asked)(x, 0.4).x0, exact[mean](x, 0.4).x0, rtol=1e-5, atol=1e-5)
    guided = guidance.classifier_free(exact[1.0], exact[0.0], 2.0)(x, 0.4)
    for rule in (2.0, 2, ClassifierFree(2.0)):
        found = model.denoiser(label=1, guidance=rule)(x, 0.4)
        np.testing.assert_allclose(found.x0, guided.x0, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.eps, guided.eps, rtol=1e-4, atol=1e-5)
    each = model.denoiser(label=["low", "high", "high", "low"])(x, 0.4).x0
    np.testing.assert_allclose(each[1:3], exact[1.0](x[1:3], 0.4).x0, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(each[::3], exact[-1.0](x[::3], 0.4).x0, rtol=1e-5, atol=1e-5)
    for given, message in (
        ({"guidance": 2.0}, r"guidance = 2\.0; allowed are 0 and 1, since nothing is asked for"),
        ({"class": 2}, "condition = 'class'; allowed are conditions of the model: label"),
        ({"label": 2}, "label = 2; allowed are integers from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.denoiser(**given)
    bare = loaded(gaussian("vp_cosine"))
    with pytest.raises(ValueError, match=r"scale = 2\.0; allowed are 1, since the model has no conditions"):
        ClassifierFree(2.0)(lambda cond: bare.bound.denoiser(bare.params, cond), bare.encode({}))


def denoiser_of_mean(mean, settings):
    return denoisers.gaussian(settings.process(), mean, settings.network.std)


@pytest.mark.parametrize(
    ("law", "options", "grid", "solver"),
    [
        ("edm", (), choose(grids.karras, sigma_max=2.0), choose(solvers.heun)),
        ("edm", (("sigma_max", 20.0),), choose(grids.karras), choose(solvers.heun)),
        ("vp_cosine", (), choose(grids.uniform_time), choose(solvers.heun, coordinate="flow")),
    ],
)
def test_samples_of_standard_data_are_standard(law, options, grid, solver):
    """Noise of the first time of the grid. With edm and sigma = 2, its deviation is 2 and not 80: the samples of the
    ODE from there have 2/sqrt(1 + 2^2) = 0.894 of the deviation of the data, since the start lacks the data.
    """
    model = loaded(gaussian(law, options=options))
    n = 2000
    found = model.sample(KEY, n, sampling=Sampling(solver, grid, 20), batch_size=n)
    assert found.shape == (n, 3)
    first = grid(process=model.process, steps=20)[0]
    start_at = float(model.process.sigma(first))
    total = float(np.sqrt(model.process.alpha(first) ** 2 + start_at**2))
    # Five standard errors of 6000 numbers are 0.046; the solver adds 0.01.
    np.testing.assert_allclose(found.std(), start_at / total, rtol=0.06)
    assert abs(found.mean()) < 0.07


def test_samples_do_not_depend_on_the_batch_size():
    conditions = {"label": Label()}
    network = Diffusion(network=SMALL, field="x", conditions=conditions)
    model = loaded(network)
    model = dataclasses.replace(model, params=moved(model.params))
    labels = np.arange(11) % 2
    for sampling in (
        Sampling(choose(solvers.ddpm), steps=3, guidance=ClassifierFree(2.0)),
        Sampling(grid=choose(grids.gits, teacher_steps=6), steps=3),
    ):
        whole = model.sample(KEY, 11, label=labels, sampling=sampling)
        scale = np.abs(whole).max()
        for size in (3, 11):
            found = model.sample(KEY, 11, label=labels, sampling=sampling, batch_size=size)
            np.testing.assert_allclose(found / scale, whole / scale, atol=1e-5)
        assert np.unique(whole.round(6), axis=0).shape == (11, 3)


def test_a_grid_that_depends_on_the_model_is_made_of_it():
    """The samples are those of a grid that `grids.gits` makes of the same noise and the same guided denoiser."""
    settings = gaussian("vp_cosine", (-1.0, 1.0, 0.0), 0.2, conditions={"label": Label()})
    grid = choose(grids.gits, teacher_steps=8)
    model = loaded(settings, sampling=Sampling(choose(solvers.ddim), grid, 3, ClassifierFree(1.5)))
    found = model.sample(KEY, 5, label=1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(5))
    noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, 0), 0), (3,)))(keys)
    denoiser = model.denoiser(label=1, guidance=1.5)
    times = grids.gits(model.process, 3, denoiser, noise, teacher_steps=8)
    assert not np.allclose(times, grids.uniform_time(model.process, 3))
    wanted = jax.jit(jd.sample)(KEY, denoiser, noise, solvers.ddim(model.process, times))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


class Both(Network):
    """The exact network of two independent standard fields, with the parametrization v: 0 everywhere."""

    takes: ClassVar[tuple[str, ...]] = ()

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        scale = self.param("scale", nn.initializers.zeros, ())
        return jax.tree.map(lambda leaf: scale * leaf, x)


def test_several_fields_are_a_mapping():
    fields = {"a": Field("values", (2,)), "b": Field("values", (3, 1))}
    model = loaded(Diffusion(network=Both(), field=("a", "b")), fields)
    assert model.shape == {"a": (2,), "b": (3, 1)}
    found = model.sample(KEY, 600, batch_size=300, sampling=Sampling(steps=3))
    assert {name: leaf.shape for name, leaf in found.items()} == {"a": (600, 2), "b": (600, 3, 1)}
    for leaf in found.values():
        # A step of DDIM turns v = 0 by 30 degrees, and keeps the cosine.
        np.testing.assert_allclose(leaf.std(), np.cos(np.pi / 6) ** 3, rtol=0.06)
    assert abs(np.corrcoef(found["a"][:, 0], found["b"][:, 0, 0])[0, 1]) < 0.2
    np.testing.assert_array_equal(model.latents(found)["b"], found["b"])


@pytest.mark.parametrize(
    ("law", "options"), [("vp_cosine", ()), ("flow", ()), ("edm", (("sigma_max", 50.0),)), ("vp_linear", ())]
)
def test_classification_by_the_bound_is_the_exact_posterior(law, options):
    """Two classes N(-1/2, 1) and N(1/2, 1) in three coordinates: the log-odds of x are the sum of its coordinates."""
    settings = gaussian(law, (-0.5, 0.5, 0.0), 1.0, conditions={"label": Label()}, options=options)
    model = loaded(settings)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    # For the exact network the difference of both bounds is that of the likelihoods, in expectation over the noise.
    found = model.classify(KEY, x, samples=2000)
    assert found.shape == (6, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    odds = x.sum(axis=1)
    np.testing.assert_allclose(np.log(found[:, 1] / found[:, 0]), odds, atol=0.15)
    with pytest.raises(ValueError, match="condition = 'class'; allowed are conditions of classes: label"):
        model.classify(KEY, x, condition="class")


def test_a_learned_process_is_trained_and_sampled_with_its_numbers():
    process = choose(processes.learned, hidden=4)
    _, bound, _ = bind(Diffusion(network=SMALL, process=process, field="x"))
    params = start(bound)
    assert set(params["process"]) == {"gamma_min", "gamma_max", "log_slope", "log_inner", "bias", "log_outer"}
    params["process"]["gamma_min"] = jnp.asarray(-7.0)
    model = bound.loaded(params, {"conditions": {}, "codec": None}, {}, Sampling(steps=2))
    np.testing.assert_allclose(processes.on_host(model.process).gamma(np.float64(0)), -7)
    assert np.isfinite(model.sample(KEY, 2)).all()
