"""Classifiers of clean and of noisy examples, and embeddings of pictures and texts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models.exact import Flat, bind, moved, start

from jaxdiff import processes, trees
from jaxdiff.components import choose
from jaxdiff.conditions import Text
from jaxdiff.conditions.text import read_bytes
from jaxdiff.data import to_floats
from jaxdiff.data.fields import Field
from jaxdiff.models import Classifier, Embedding
from jaxdiff.networks import MLP, Encoder, TextTransformer
from jaxdiff.objectives import Context, Contrastive, CrossEntropy

KEY = jax.random.key(0)
FIELDS = {
    "x": Field("values", (3,)),
    "image": Field("picture", (4, 4, 1), "uint8"),
    "label": Field("label", (), "int32", 4),
    "caption": Field("text", (), "str"),
}
SMALL = MLP(width=16, num_blocks=1)


@pytest.mark.parametrize("process", [None, choose(processes.vp_cosine), choose(processes.edm)])
def test_the_log_probability_of_a_classifier_is_differentiable(process):
    _, bound, frozen = bind(Classifier(network=SMALL, field="x", process=process), FIELDS)
    model = bound.loaded(moved(start(bound)), frozen, {}, None)
    x = jax.random.normal(KEY, (5, 3))
    t = None if process is None else jnp.full(5, 0.5)
    log_p, slope = jax.jit(jax.value_and_grad(lambda x: model.log_probability(x, t)[:, 1].sum()))(x)
    values = model.log_probability(x, t)
    assert values.shape == (5, 4)
    np.testing.assert_allclose(np.exp(values).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(values[:, 1].sum(), log_p, rtol=1e-5)
    h, direction = 1e-2, jax.random.normal(jax.random.key(1), x.shape)
    ends = [model.log_probability(x + sign * h * direction, t)[:, 1] for sign in (1, -1)]
    np.testing.assert_allclose((slope * direction).sum(axis=1), (ends[0] - ends[1]) / (2 * h), rtol=0.02, atol=2e-3)
    if process is not None:
        assert np.abs(model.log_probability(x, 0.9) - values).max() > 1e-3
        # The network sees examples of the scale of the data.
        known = bound.process
        norm = jnp.sqrt(known.alpha(0.5) ** 2 + known.sigma(0.5) ** 2)
        time = jnp.full(5, known.time_input(jnp.asarray(0.5)))
        logits = bound.network.apply(model.params["model"], x / norm, time)
        np.testing.assert_allclose(values, jax.nn.log_softmax(logits), rtol=1e-4, atol=1e-5)
    p = model.classify(np.asarray(x))
    clean = 0.0 if process is None else bound.process.t_min
    np.testing.assert_allclose(p, np.exp(model.log_probability(x, clean)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Classifier(network=SMALL, field="y"), r"model\.field = 'y'; allowed are fields of the data: x, image"),
        (
            Classifier(network=SMALL, field="x", label="class"),
            r"model\.label = 'class'; allowed are fields of the data",
        ),
        (Classifier(network=SMALL, field="x", label="image"), r"model\.label = 'image'; allowed are fields of labels"),
        (Classifier(network=MLP(out_features=3), field="x"), r"model\.network\.out_features = 3; .* 4"),
        (Embedding(network=Encoder(features=3), features=4), r"model\.network\.features = 3; .* 4"),
        (Embedding(text=Text("label", dropout=0.0)), r"model\.text\.field = 'label'"),
        (Embedding(field="y"), r"model\.field = 'y'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(model, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        bind(model, FIELDS)


@pytest.mark.parametrize("process", [None, choose(processes.vp_cosine)])
def test_a_classifier_learns_clean_and_noisy_examples(process):
    """Classes lie at the four corners of a square: the error is small without noise and large with it."""
    _, bound, frozen = bind(Classifier(network=SMALL, field="x", process=process), FIELDS)
    objective = CrossEntropy().make(bound)
    label = jnp.arange(64) % 4
    corners = jnp.stack([2.0 * (label // 2) - 1, 2.0 * (label % 2) - 1, 0 * label], axis=-1)

    def loss(params, key):
        batch = {"x": corners + 0.1 * jax.random.normal(key, (64, 3)), "label": label}
        prepared = bound.prepare(params, frozen, batch, trees.batch_key(key, 64))
        found = objective(params, key, prepared, Context())
        return found.losses.mean(), found.metrics["accuracy"].mean()

    params, accuracy = fitted(loss, start(bound), 100)
    model = bound.loaded(params, frozen, {}, None)
    assert np.argmax(model.classify(np.asarray(corners[:4])), axis=1).tolist() == [0, 1, 2, 3]
    if process is None:
        assert accuracy[-20:].mean() > 0.98
    else:
        assert 0.5 < accuracy[-20:].mean() < 0.98
        # Noise alone says nothing: the classes are then alike.
        noise = np.exp(model.log_probability(jax.random.normal(KEY, (200, 3)), 1.0)).mean(axis=0)
        np.testing.assert_allclose(noise, 0.25, atol=0.12)


def fitted(loss, params, steps, rate=1e-2):
    """Parameters after some steps of Adam, and the second result of the loss at each step."""
    optimizer = optax.adam(rate)

    def step(carry, key):
        params, state = carry
        gradient, shown = jax.grad(loss, has_aux=True)(params, key)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), shown

    run = jax.jit(lambda params, keys: jax.lax.scan(step, (params, optimizer.init(params)), keys))
    (params, _), shown = run(params, jax.random.split(KEY, steps))
    return params, np.asarray(shown)


def test_an_embedding_learns_to_match():
    """Four kinds of pictures and their captions: chance finds one of four, and a trained embedding nearly all."""
    words = ("dark", "light", "left", "right")
    text = Text(dropout=0.0, encoder=TextTransformer(width=16, depth=0, length=8))
    entries, bound, frozen = bind(Embedding(network=Flat(), text=text, features=8), FIELDS)
    assert set(entries) == {"image", text.entry}
    ids = jnp.asarray(np.stack([read_bytes(word, 8) for word in words]))
    bright = np.zeros((4, 4, 4, 1), np.float32)
    bright[1], bright[2, :, :2], bright[3, :, 2:] = 1, 1, 1
    pictures = (30 + 180 * bright).astype(np.uint8)
    objective = Contrastive(temperature=0.2)
    params = {**start(bound), "objective": objective.init(bound, KEY)}
    assert objective.couples
    loss_of = objective.make(bound)

    def loss(params, key):
        noisy = to_floats(pictures) + 0.2 * jax.random.normal(key, pictures.shape)
        prepared = bound.prepare(params, frozen, {"image": noisy, text.entry: ids}, trees.batch_key(key, 4))
        found = loss_of(params, key, prepared, Context())
        return found.losses.mean(), found.metrics["accuracy"].mean()

    params, accuracy = fitted(loss, params, 100)
    assert accuracy[-20:].mean() > 0.9
    model = bound.loaded(params, frozen, {}, None)
    similar = model.similarity(pictures, words)
    assert np.argmax(similar, axis=1).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(np.linalg.norm(model.embed(pictures), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.embed_text(words), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.embed_text("left"), model.embed_text(words)[2:3], atol=1e-6)
    np.testing.assert_allclose(model.embed(to_floats(pictures)), model.embed(pictures), atol=1e-6)
