"""Objectives against NumPy: cross-entropy, InfoNCE, reconstruction, denoising; and what they return."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.exact import bind, gaussian, start
from scipy import special

from jaxdiff import objectives, processes, trees
from jaxdiff.components import choose
from jaxdiff.data.fields import Field
from jaxdiff.models import Classifier, Diffusion
from jaxdiff.networks import MLP
from jaxdiff.objectives import (
    Context,
    Contrastive,
    CrossEntropy,
    Denoising,
    Hybrid,
    Loss,
    Reconstruction,
    Variational,
    times,
    weightings,
)
from jaxdiff.objectives import log_variance as learned_weights
from jaxdiff.objectives.contrastive import info_nce
from jaxdiff.objectives.cross_entropy import cross_entropy

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_cross_entropy(smoothing):
    logits, labels = 3 * RNG.standard_normal((6, 4)), RNG.integers(0, 4, 6)
    log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
    wanted = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    found = cross_entropy(jnp.asarray(logits), jnp.asarray(labels), smoothing)
    np.testing.assert_allclose(found, -np.sum(wanted * log_p, axis=1), rtol=1e-5)


def test_info_nce():
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in RNG.standard_normal((2, 5, 3)))
    logits = 7.0 * a @ b.T
    rows = np.diag(logits) - special.logsumexp(logits, axis=1)
    columns = np.diag(logits) - special.logsumexp(logits, axis=0)
    np.testing.assert_allclose(info_nce(jnp.asarray(a), jnp.asarray(b), 7.0), -(rows + columns) / 2, rtol=1e-5)


def test_contrastive_learns_its_temperature_up_to_a_limit():
    vectors = jnp.eye(3)
    model = types.SimpleNamespace(
        of_pictures=lambda params, x, keys: vectors[jnp.asarray([0, 2, 1])], of_texts=lambda params, ids: vectors
    )
    objective = Contrastive(temperature=0.1)
    batch = {"x": vectors, "ids": jnp.zeros((3, 2), jnp.int32)}
    own = objective.init(model, KEY)
    found = objective.make(model)({"objective": own}, KEY, batch, Context())
    np.testing.assert_allclose(found.metrics["temperature"], 0.1, rtol=1e-6)
    np.testing.assert_array_equal(found.metrics["accuracy"], [1, 0, 0])
    np.testing.assert_allclose(found.losses[0], np.log1p(2 * np.exp(-10.0)), rtol=1e-3)
    np.testing.assert_allclose(found.losses[1], np.log(2 + np.exp(10.0)), rtol=1e-5)
    cold = objective.make(model)({"objective": {"log_scale": jnp.asarray(9.0)}}, KEY, batch, Context())
    np.testing.assert_allclose(cold.metrics["temperature"], 0.01, rtol=1e-6)


def test_cross_entropy_of_a_noisy_classifier_is_that_of_noisy_examples():
    """The times, the noise and the accuracy are those of the random numbers of each example."""
    fields = {"x": Field("values", (3,)), "label": Field("label", (), "int32", 2)}
    network = MLP(width=8, num_blocks=1)
    _, bound, _ = bind(Classifier(network=network, field="x", process=choose(processes.vp_linear)), fields)
    params, batch = start(bound), {"x": jnp.asarray(RNG.standard_normal((4, 3))), "label": jnp.asarray([0, 1, 1, 0])}
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    found = jax.jit(CrossEntropy(smoothing=0.1).make(bound))(params, KEY, batch, Context())
    random = trees.batch_key(KEY, 4)
    t, _ = times.stratified()(jax.random.fold_in(KEY, 0), bound.process, 4)
    noisy = processes.corrupt(bound.process, batch["x"], trees.normal_like(random.each(1), batch["x"]), t)
    logits = bound.logits(params, noisy, t)
    np.testing.assert_allclose(found.losses, cross_entropy(logits, batch["label"], 0.1), rtol=1e-4)
    np.testing.assert_array_equal(found.metrics["accuracy"], np.argmax(logits, 1) == batch["label"])


def linear(latent=(2,)):
    """An autoencoder of numbers: two latents, of which decoding forgets the second."""
    return types.SimpleNamespace(
        encode=lambda params, x: params["model"] * jnp.stack([x[:, 0] + x[:, 1], x[:, 0] - 3], axis=-1),
        decode=lambda params, z: jnp.stack([z[:, 0] / 2, z[:, 0] / 2], axis=-1),
        latent=latent,
    )


@pytest.mark.parametrize("error", ["square", "magnitude"])
def test_reconstruction_and_its_metrics(error):
    x = RNG.standard_normal((5, 2)).astype(np.float32)
    objective = Reconstruction(error=error, penalty=0.5)
    extra = objective.extra(linear())
    found = objective.make(linear())({"model": 1.0}, KEY, {"x": jnp.asarray(x)}, Context(0, {}, None, extra))
    z = np.stack([x.sum(1), x[:, 0] - 3], -1)
    wrong = x.mean(axis=1, keepdims=True) - x
    size = (wrong**2).mean(1) if error == "square" else np.abs(wrong).mean(1)
    square = (z**2).mean(1)
    assert set(found.metrics) == {"error", "latent_square"}
    np.testing.assert_allclose(found.metrics["error"], size, rtol=1e-5)
    np.testing.assert_allclose(found.metrics["latent_square"], square, rtol=1e-5)
    np.testing.assert_allclose(found.losses, size + 0.5 * square, rtol=1e-5)
    # After the first step the statistics are those of its batch.
    np.testing.assert_allclose(found.updates["mean"], z.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.updates["square"], (z**2).mean(0), rtol=1e-5)


def test_the_statistics_of_latents_are_averages_over_the_last_steps():
    """Of a run whose data change, the beginning is forgotten: at most a tenth of the steps is remembered."""
    objective = Reconstruction(memory=20)
    loss, extra = objective.make(linear()), objective.extra(linear())
    step = jax.jit(lambda x, at, extra: loss({"model": 1.0}, KEY, {"x": x}, Context(at, {}, None, extra)).updates)
    weights, rng = [], np.random.default_rng(1)
    for at in range(400):
        shift = 10.0 if at < 100 else 0.0
        x = shift + rng.standard_normal((32, 2)).astype(np.float32)
        weight = 1 / min(1 + at / 10, 20)
        weights = [w * (1 - weight) for w in weights] + [weight]
        extra = step(x, at, extra)
    assert sum(weights[:100]) < 1e-4
    # Of 32 examples each, some 40 steps count: the standard error of a mean of variance 2 is 0.04.
    np.testing.assert_allclose(extra["mean"], [0, -3], atol=0.2)
    np.testing.assert_allclose(extra["square"], [2, 10], rtol=0.15)


def test_the_learned_weighting_of_denoising_is_that_of_the_function():
    """With parameters that are not zero, losses and gradients are those of `denoising(log_variance=...)`."""
    _, bound, _ = bind(Diffusion(network=MLP(width=8, num_blocks=1), field="x"))
    objective = Denoising(learned_weighting=True, weighting=choose(weightings.likelihood))
    params = {**start(bound), "objective": objective.init(bound, KEY)}
    assert not np.any(params["objective"]["log_variance"]["kernel"])
    kernel = jnp.asarray(0.1 * RNG.standard_normal(2 * learned_weights.FEATURES), jnp.float32)
    params["objective"] = {"log_variance": {"kernel": kernel, "bias": jnp.asarray(0.3)}}
    process, parametrization = bound.process(params), bound.parametrization
    scale = learned_weights.scale_of(process, parametrization)

    def u(params, time):
        return learned_weights.log_variance(params["objective"]["log_variance"], time, scale)

    function = objectives.denoising(
        process, parametrization, bound.apply, weighting=weightings.likelihood(), times=times.stratified(),
        log_variance=u, with_key=True,
    )  # fmt: skip
    x = jnp.asarray(RNG.standard_normal((6, 3)), jnp.float32)
    made = objective.make(bound)
    first = jax.jit(lambda p: made(p, KEY, {"x": x}, Context()))(params)
    losses, metrics = jax.jit(lambda p: function(p, KEY, {"x": x}))(params)
    assert isinstance(first, Loss)
    np.testing.assert_allclose(first.losses, losses, rtol=1e-5)
    assert set(first.metrics) == {"mse"}
    np.testing.assert_allclose(first.metrics["mse"], metrics["mse"], rtol=1e-5)
    assert first.updates is None
    slope = jax.jit(jax.grad(lambda p: made(p, KEY, {"x": x}, Context()).losses.mean()))(params)
    # The loss is l/e^u + u: its slope by the bias is the mean of 1 - l/e^u.
    bias = slope["objective"]["log_variance"]["bias"]
    np.testing.assert_allclose(
        bias, 1 - np.mean(losses - u_of(params, metrics["t"], bound, scale)), rtol=1e-4, atol=1e-4
    )
    unweighted = Denoising(weighting=choose(weightings.likelihood)).make(bound)
    plain = jax.jit(lambda p: unweighted(p, KEY, {"x": x}, Context()))(params)
    weight = u_of(params, metrics["t"], bound, scale)
    np.testing.assert_allclose(plain.losses * np.exp(-weight) + weight, losses, rtol=1e-4)


def u_of(params, t, bound, scale):
    time = bound.parametrization.time_input(bound.process(params), t)
    return np.asarray(learned_weights.log_variance(params["objective"]["log_variance"], time, scale))


def test_importance_sampling_keeps_its_losses_in_extra():
    """The sampler of the last step draws the times; the update records the unweighted losses at these times."""
    model = Diffusion(
        network=MLP(width=8, num_blocks=1), process=choose(processes.vp_discrete, schedule="cosine", steps=4), field="x"
    )
    _, bound, _ = bind(model)
    objective = Denoising(times=choose(times.importance, history=2))
    assert objective.couples
    assert not Denoising().couples
    params, extra, made = start(bound), objective.extra(bound), jax.jit(objective.make(bound))
    x = jnp.asarray(RNG.standard_normal((16, 3)), jnp.float32)
    found = made(params, KEY, {"x": x}, Context(0, {}, None, extra))
    assert jax.tree.structure(found.updates) == jax.tree.structure(extra)
    assert found.updates["times"].seen.sum() == 16
    # A zero output has the square of the target as its error, and uniform indices have the weight 1.
    np.testing.assert_allclose(found.losses, found.metrics["mse"], rtol=1e-6)
    kept = np.asarray(found.updates["times"].losses).ravel()
    assert np.isclose(kept[kept > 0][:, None], np.asarray(found.losses)[None], rtol=1e-5).any(axis=1).all()
    again = made(params, KEY, {"x": x}, Context(1, {}, None, found.updates))
    assert again.updates["times"].seen.sum() == 32


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Denoising(), "allowed are Diffusion with this objective"),
        (Hybrid(), "allowed are Diffusion with this objective"),
        (Variational(), "allowed are Diffusion with this objective"),
        (CrossEntropy(), "allowed are Classifier with this objective"),
        (Contrastive(), "allowed are Embedding with this objective"),
        (Reconstruction(), "allowed are Autoencoder with this objective"),
    ],
)
def test_an_objective_refuses_another_model(objective, message):
    with pytest.raises(ValueError, match=f"model = 'SimpleNamespace'; {message}"):
        objective.make(types.SimpleNamespace())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Hybrid(weight=-1.0), "weight = -1.0"),
        (lambda: Hybrid(levels=1), "levels = 1"),
        (lambda: Variational(levels=1), "levels = 1"),
        (lambda: CrossEntropy(smoothing=2.0), "smoothing = 2.0"),
        (lambda: Contrastive(temperature=0.0), "temperature = 0.0"),
        (lambda: Reconstruction(penalty=-1.0), "penalty = -1.0"),
        (lambda: Reconstruction(memory=0), "memory = 0"),
        (lambda: Hybrid().make(bind(gaussian("vp_linear"))[1]), "model.process = 'VPLinear'; allowed are vp_discrete"),
        (lambda: Hybrid().make(bind(gaussian("vp_discrete"))[1]), "model.learned_variance = False; allowed are True"),
        (lambda: Variational().make(bind(gaussian("vp_cosine"))[1]), "model.process = 'VPCosine'; .* with some noise"),
    ],
)
def test_wrong_settings(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
