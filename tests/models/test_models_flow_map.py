"""Flow maps: a network that is told two times."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from additions.small import Small
from models.exact import RAW_V, bind, loaded, moved, start

from jaxdiff import likelihood, parametrizations, processes, trees
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data.fields import Field
from jaxdiff.models import FlowMap
from jaxdiff.networks import MLP
from jaxdiff.networks.module import Network
from jaxdiff.objectives import Denoising
from jaxdiff.training.state import initial_state
from jaxdiff.training.step import make_step

KEY = jax.random.key(0)
FIELDS = {"x": Field("values", (2,)), "label": Field("label", (), "int32", 3)}


class Told(Network):
    """A network whose output is the times that it is told."""

    takes: ClassVar[tuple[str, ...]] = ("class",)

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        return self.param("scale", nn.initializers.ones, ()) * time


def test_the_network_is_told_both_times():
    """Its output, the two times, comes back from the estimate as v = alpha eps - sigma x0."""
    settings = FlowMap(network=Told(), parametrization=RAW_V, field="x")
    model = loaded(settings, FIELDS)
    x, t, s = jax.random.normal(KEY, (3, 2)), jnp.asarray([0.2, 0.5, 0.9]), jnp.asarray([0.1, 0.5, 0.3])
    denoiser = model.denoiser()

    def told(t, *s):
        return parametrizations.output_of(model.process, settings.parametrization(), denoiser(x, t, *s), t)

    np.testing.assert_allclose(told(t, s), np.stack([t, s], -1), atol=1e-6)
    np.testing.assert_allclose(told(0.7, 0.2), [[0.7, 0.2]] * 3, atol=1e-6)
    for one in (told(t), told(t, None)):
        np.testing.assert_allclose(one, np.stack([t, t], -1), atol=1e-6)
    estimate = denoiser(x, t, s)
    noisy = trees.lincomb((model.process.alpha(t), model.process.sigma(t)), estimate)
    np.testing.assert_allclose(noisy, x, atol=1e-6)


MEANS, STD = (0.8, -0.5, 1.2, 0.1), 0.6  # of three classes and of the null class


def ended(process, mean, x, t, s):
    """Where the ODE of Gaussian data leads from t to s: the coordinates keep their quantiles."""
    spread = [jnp.sqrt(process.alpha(u) ** 2 * STD**2 + process.sigma(u) ** 2) for u in (t, s)]
    return process.alpha(s) * mean + spread[1] / spread[0] * (x - process.alpha(t) * mean)


class ExactMap(Network):
    """The exact flow map, with `RAW_V`, of classes whose data are N(mean, STD^2) in every coordinate."""

    takes: ClassVar[tuple[str, ...]] = ("class",)

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        mean = self.param("means", lambda _: jnp.asarray(MEANS))[cond["label"]][:, None]
        process, (t, s) = processes.vp_cosine(), (time[:, :1], time[:, 1:])
        # The pair of data and noise that is x at t and the end at s.
        (a, b), (c, d) = ((process.alpha(u), process.sigma(u)) for u in (t, s))
        end = ended(process, mean, x, t, s)
        pair = parametrizations.Estimate((d * x - b * end) / (a * d - b * c), (a * end - c * x) / (a * d - b * c))
        return parametrizations.output_of(process, parametrizations.v(), pair, time[:, 0])


@pytest.mark.parametrize("scale", [1.0, 0.0, 2.5])
def test_the_exact_flow_map_of_a_gaussian_is_guided_to_the_exact_map_of_another(scale):
    """Maps of Gaussians of one width are affine in the mean, so that guidance of the map moves the mean alone."""
    settings = FlowMap(network=ExactMap(), parametrization=RAW_V, field="x", conditions={"label": Label()})
    model = loaded(settings, FIELDS)
    x, t, s = jax.random.normal(KEY, (3, 2)), jnp.asarray([0.2, 0.5, 0.9]), jnp.asarray([0.1, 0.4, 0.2])
    estimate = model.denoiser(label=[0, 1, 2], guidance=scale)(x, t, s)
    mean = (MEANS[-1] + scale * (np.asarray(MEANS[:-1]) - MEANS[-1]))[:, None]
    found = processes.corrupt(model.process, *estimate, s)
    np.testing.assert_allclose(found, ended(model.process, mean, x, t[:, None], s[:, None]), atol=2e-5)


def test_a_flow_map_is_trained_as_a_denoiser():
    """The loss sees what the denoiser gives at s = t; a step changes the parameters of both times."""
    settings = FlowMap(network=MLP(width=16, num_blocks=1), field="x", conditions={"label": Label()})
    _, bound, frozen = bind(settings, FIELDS)
    params, objective = moved(start(bound)), Denoising().make(bound)
    batch = {"x": jax.random.normal(KEY, (8, 2)), "label": jnp.arange(8) % 3}

    def loss(params, key, batch, context):
        prepared = bound.prepare(params, frozen, batch, trees.batch_key(KEY, 8))
        return objective(params, key, prepared, context)

    optimizer = optax.sgd(0.1)
    state, metrics = jax.jit(make_step(loss, optimizer, {}))(initial_state(params, optimizer, KEY, ()), batch)
    assert np.isfinite(metrics["loss"])
    inner = state.params["model"]["params"]["conditioning"]
    for name in ("time_in", "second_time_in"):
        before = params["model"]["params"]["conditioning"][name]["kernel"]
        assert np.abs(inner[name]["kernel"] - before).max() > 1e-6

    x, t = jax.random.normal(KEY, (4, 2)), jnp.asarray([0.1, 0.4, 0.6, 0.8])
    cond = {"label": jnp.asarray([0, 1, 2, 3])}
    parametrization, process = bound.parametrization, bound.process(params)
    time = parametrization.time_input(process, t)
    output = bound.apply(params, parametrization.scale(process, t)[:, None] * x, time, cond)
    wanted = parametrizations.estimate(process, parametrization, x, output, t)
    np.testing.assert_allclose(bound.denoiser(params, cond)(x, t).x0, wanted.x0, rtol=1e-5, atol=1e-5)


def test_a_flow_map_has_a_likelihood_and_samples():
    network = MLP(width=16, num_blocks=1)
    settings = FlowMap(network=network, process=choose(processes.vp_linear), field="x", conditions={"label": Label()})
    model = loaded(settings, FIELDS)
    x = jax.random.normal(KEY, (3, 2))
    assert np.isfinite(likelihood.continuous_time(KEY, model.denoiser(label=1), x, samples=4).nats).all()
    assert model.sample(KEY, 3, label=1).shape == (3, 2)


def test_a_network_of_one_time_is_refused_by_name():
    _, bound, _ = bind(FlowMap(network=Small(), field="x"), FIELDS)
    with pytest.raises(ValueError, match=r"^model\.network"):
        bound.init(KEY)


def test_a_flow_map_learns_no_variances():
    with pytest.raises(ValueError, match=r"model\.learned_variance = True; allowed are False"):
        bind(FlowMap(field="x", learned_variance=True), FIELDS)
