"""Conditions inside a model: how they are dropped, encoded, and what a network is told of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from additions.small import Small
from additions.text import Attending
from models.exact import bind, loaded, moved, start

from jaxdiff import trees
from jaxdiff.codecs import Codec
from jaxdiff.components import Table
from jaxdiff.conditions import Label, Planes, Text, Vector
from jaxdiff.conditions.text import PADDING, read_bytes
from jaxdiff.data import to_floats
from jaxdiff.data.fields import Field
from jaxdiff.models import Diffusion
from jaxdiff.models.conditioned import Conditions
from jaxdiff.networks import MLP, Sinusoidal, TextTransformer, UNet
from jaxdiff.networks.module import Spec
from jaxdiff.objectives import Context, Denoising

FIELDS = Table(
    image=Field("picture", (4, 4, 1), "uint8"),
    label=Field("label", (), "int32", 3),
    caption=Field("text", (), "str"),
    place=Field("values", (2,)),
    number=Field("values", ()),
)
ENCODER = TextTransformer(width=8, depth=1, heads=2, length=10)
KEY = jax.random.key(0)


def text_params(condition, seed=0):
    return moved(jax.jit(condition.init)(jax.random.key(seed)), seed)


def encoded(condition, params, ids):
    return jax.jit(lambda p, ids: condition.encode(p, None, {condition.entry: ids}, None, lambda x: x))(params, ids)


def test_padding_changes_nothing_that_is_visible():
    """The encoder gives the same vectors for a text, however much padding follows it and whatever ids it holds."""
    condition = Text(encoder=ENCODER)
    params = text_params(condition)
    ids = np.stack([read_bytes("abc", 10), read_bytes("", 10)])
    whole = encoded(condition, params, ids)
    assert whole["values"].shape == (2, 10, 8)
    np.testing.assert_array_equal(whole["mask"].sum(axis=1), [5, 2])
    assert np.abs(whole["values"][0, :5]).min() > 0
    np.testing.assert_array_equal(whole["values"][~whole["mask"]], 0)
    encode = jax.jit(ENCODER.apply)
    cut = encode(params, ids[:1, :5], ids[:1, :5] != PADDING)
    np.testing.assert_allclose(cut["values"][0], whole["values"][0, :5], atol=1e-6)
    other = encode(params, np.where(ids == PADDING, 7, ids), ids != PADDING)
    np.testing.assert_allclose(other["values"], whole["values"], atol=1e-6)


@pytest.mark.parametrize(
    "network", [Attending(), UNet(channels=8, multipliers=(1,), num_blocks=0, attention_levels=())]
)
def test_padding_changes_nothing_in_a_network(network):
    """The network's output for a caption does not depend on the vectors of hidden tokens."""
    settings = Diffusion(network=network, conditions={"text": Text(encoder=ENCODER)})
    _, bound, _ = bind(settings, FIELDS)
    params = moved(start(bound))
    tokens = encoded(settings.conditions["text"], params["conditions"]["text"], read_bytes("abc", 10)[None])
    x, t = jax.random.normal(KEY, (2, 4, 4, 1)), jnp.asarray([0.2, 0.7])
    estimate = jax.jit(lambda cond: bound.denoiser(params, cond)(x, t).x0)
    first = estimate({"text": tokens})
    noisy = jnp.where(tokens["mask"][..., None], tokens["values"], 100.0)
    np.testing.assert_allclose(estimate({"text": {**tokens, "values": noisy}}), first, atol=1e-6)
    other = jnp.where(tokens["mask"][..., None], -tokens["values"], 0)
    assert np.abs(estimate({"text": {**tokens, "values": other}}) - first).max() > 1e-3


def test_a_null_caption_is_the_encoding_of_the_empty_text():
    settings = Diffusion(network=Attending(), conditions={"text": Text(encoder=ENCODER, dropout=1.0)})
    entries, bound, frozen = bind(settings, FIELDS)
    params = moved(start(bound))
    entry = settings.conditions["text"].entry
    assert entries[entry].read("abc").tolist() == read_bytes("abc", 10).tolist()
    wanted = encoded(settings.conditions["text"], params["conditions"]["text"], read_bytes("", 10)[None])
    batch = {"image": jnp.zeros((3, 4, 4, 1)), entry: np.stack([read_bytes("abc", 10)] * 3)}
    dropped = bound.prepare(params, frozen, batch, trees.batch_key(KEY, 3))["cond"]["text"]
    model = bound.loaded(params, frozen, {}, None)
    asked = model.encode(bound.conditioning.ask({"text": "abc"}))
    for null in (jax.tree.map(lambda leaf: leaf[1:2], dropped), asked.null["text"]):
        np.testing.assert_allclose(null["values"], wanted["values"], atol=1e-6)
        np.testing.assert_array_equal(null["mask"], wanted["mask"])
    assert np.abs(asked.cond["text"]["values"][0, :2] - wanted["values"][0, :2]).max() > 1e-3


def test_a_text_encoder_is_trained_through_the_denoising_loss():
    settings = Diffusion(network=Attending(), conditions={"text": Text(encoder=ENCODER, dropout=0.0)})
    _, bound, frozen = bind(settings, FIELDS)
    params, objective = moved(start(bound)), Denoising().make(bound)
    ids = np.stack([read_bytes(text, 10) for text in ("ab", "c", "", "dog")])
    batch = {"image": np.zeros((4, 4, 4, 1), np.uint8), settings.conditions["text"].entry: ids}

    def loss(params):
        prepared = bound.prepare(params, frozen, batch, trees.batch_key(KEY, 4))
        return objective(params, KEY, prepared, Context()).losses.mean()

    gradient = jax.jit(jax.grad(loss))(params)["conditions"]["text"]["params"]
    used = np.unique(ids[ids != PADDING])
    table = np.abs(gradient["token_table"]["embedding"]).max(axis=1)
    assert set(np.flatnonzero(table > 1e-9)) == set(used.tolist())
    for leaf in jax.tree.leaves(gradient["block_0_attention"]):
        assert np.abs(leaf).max() > 1e-9


def dropped_rows(rate, n, start=0, whole=4096):
    """Which examples, from `start` of a batch on, lose their label."""
    conditions = Conditions({"label": Label(dropout=rate)}, FIELDS)
    random = trees.BatchKey(KEY, jnp.arange(start, start + n), whole)
    values = conditions.encode({}, {}, {"label": jnp.full(n, 1)}, random, lambda x: x)["label"]
    assert set(np.unique(values)) <= {1, 3}
    return np.asarray(values) == 3


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_each_example_is_dropped_with_the_stated_probability(rate):
    n = 4096
    lost = dropped_rows(rate, n)
    # Five standard deviations of a binomial distribution.
    assert abs(lost.sum() - n * rate) <= 5 * np.sqrt(n * rate * (1 - rate))
    if 0 < rate < 1:
        # Neighbours are independent: correlations of 4096 pairs are below five standard deviations, 5/64.
        centred = lost - lost.mean()
        assert abs(np.mean(centred[1:] * centred[:-1]) / centred.var()) < 5 / 64


def test_dropping_depends_on_the_key_of_the_example_alone():
    np.testing.assert_array_equal(dropped_rows(0.5, 64)[24:40], dropped_rows(0.5, 16, start=24))


def test_conditions_are_dropped_independently_even_if_they_share_an_entry():
    conditions = Conditions({"a": Label(dropout=0.5), "b": Label(dropout=0.5), "c": Label(dropout=0.0)}, FIELDS)
    random = trees.batch_key(KEY, 4096)
    values = conditions.encode({}, {}, {"label": jnp.full(4096, 1)}, random, lambda x: x)
    a, b = (np.asarray(values[name]) == 3 for name in "ab")
    assert np.all(values["c"] == 1)
    for rate in (np.mean(a & b), np.mean(a & ~b), np.mean(~a & b)):
        assert abs(rate - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4096)


def test_dropping_happens_before_encoding():
    """A dropped vector is the encoding of zeros, which a network cannot tell from no vector at all."""
    settings = Diffusion(network=MLP(width=8, num_blocks=1), field="place", conditions={"v": Vector("place", 1.0, 3.0)})
    _, bound, frozen = bind(settings, FIELDS)
    params, batch = moved(start(bound)), {"place": jnp.ones((2, 2))}
    cond = bound.prepare(params, frozen, batch, trees.batch_key(KEY, 2))["cond"]
    np.testing.assert_array_equal(cond["v"], np.zeros((2, 2)))
    kept = bound.conditioning.encode(params, {}, batch, None, lambda x: x)
    np.testing.assert_array_equal(kept["v"], np.full((2, 2), 3.0))
    estimate = jax.jit(lambda cond: bound.denoiser(params, cond)(jnp.ones((2, 2)), 0.3).x0)
    np.testing.assert_allclose(estimate(cond), estimate(None), atol=1e-6)
    assert np.abs(estimate(kept) - estimate(cond)).max() > 1e-3
    number = Vector("number", scale=2.0)
    np.testing.assert_array_equal(number.encode({}, None, {"number": jnp.arange(3.0)}, None, None), [[0], [2], [4]])


def test_the_numbers_of_a_vector_may_be_sinusoids():
    """As the sizes of Stable Diffusion XL: cosines before sines, one number after the other."""
    vector = Vector("place", embedding=Sinusoidal(cos_first=True, endpoint=False), features=4)
    sizes = np.array([[512.0, 0.0], [1024.0, 768.0]])
    phases = sizes[:, :, None] * np.array([1.0, 0.01])
    expected = np.concatenate([np.cos(phases), np.sin(phases)], axis=-1).reshape(2, 8)
    found = vector.encode({}, None, {"place": jnp.asarray(sizes, jnp.float32)}, None, None)
    np.testing.assert_allclose(found, expected, atol=1e-4)


class Halved(Codec):
    """Means over squares of 2x2, in two channels: a codec that changes the size and the channels of a picture."""

    def encode(self, frozen, x, keys=None):
        means = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))
        return jnp.concatenate([means, 2 * means], axis=-1)

    def decode(self, frozen, z):
        return z[..., :1].repeat(2, 1).repeat(2, 2)


@pytest.mark.parametrize("codec", [None, Halved()])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_low_picture_that_is_asked_for_is_what_the_network_saw_in_training(codec, as_bytes):
    """The picture of the data, reduced by the user, and the reduction in training give the network the same planes."""
    settings = Diffusion(network=Small(), conditions={"low": Planes(factor=2)}, **({"codec": codec} if codec else {}))
    entries, bound, frozen = bind(settings, FIELDS)
    assert list(entries) == ["image"]
    side, channels = (2, 2) if codec else (4, 1)
    assert bound.network.specs == (("low", Spec("planes", (side, side, channels))),)
    rng = np.random.default_rng(0)
    low = rng.integers(0, 256, (3, 2, 2, 1)).astype(np.uint8)
    # In each square of four pixels, two are brighter and two are darker by the same amount.
    by = np.minimum(np.minimum(low, 255 - low), 9).astype(int).repeat(2, 1).repeat(2, 2)
    signs = np.where(np.indices((4, 4)).sum(0) % 2, 1, -1)[None, :, :, None]
    picture = (low.repeat(2, 1).repeat(2, 2) + by * signs).astype(np.uint8)
    trained = bound.prepare({}, frozen, {"image": jnp.asarray(picture)}, trees.batch_key(KEY, 3))["cond"]["low"]
    model = bound.loaded(start(bound), frozen, {}, None)
    given = low if as_bytes else to_floats(low)
    asked = model.encode(bound.conditioning.ask({"low": given}, 3))
    assert asked.cond["low"].shape == (3, side, side, channels)
    np.testing.assert_allclose(asked.cond["low"], trained, atol=1e-6)
    enlarged = jax.image.resize(to_floats(low), (3, 4, 4, 1), "cubic")
    np.testing.assert_allclose(trained, codec.encode(None, enlarged) if codec else enlarged, atol=1e-6)
    assert np.abs(asked.null["low"]).max() < 0.01


def test_planes_of_another_size_are_enlarged_to_the_data():
    fields = Table({**FIELDS, "degraded": Field("picture", (2, 2, 1), "float32")})
    settings = Diffusion(network=Small(), conditions={"low": Planes("degraded", enlarge=2)})
    _, bound, _ = bind(settings, fields)
    assert bound.network.specs[0][1].shape == (4, 4, 1)
    model = loaded(settings, fields)
    given = np.full((2, 2, 1), 0.25, np.float32)
    cond = model.encode(bound.conditioning.ask({"low": given})).cond["low"]
    np.testing.assert_allclose(cond, np.full((1, 4, 4, 1), 0.25), atol=1e-6)


def test_two_networks_inputs_from_one_entry():
    """A label as two conditions: the network has a table for each, and a batch has one entry."""
    settings = Diffusion(network=Small(), conditions={"a": Label(dropout=0.0), "b": Label(dropout=1.0)})
    entries, bound, frozen = bind(settings, FIELDS)
    assert list(entries) == ["image", "label"]
    batch = {"image": jnp.zeros((2, 4, 4, 1)), "label": jnp.asarray([0, 2])}
    cond = bound.prepare({}, frozen, batch, trees.batch_key(KEY, 2))["cond"]
    np.testing.assert_array_equal(cond["a"], [0, 2])
    np.testing.assert_array_equal(cond["b"], [3, 3])
    assert {"a", "b"} <= set(start(bound)["model"]["params"])


def test_noise_augmentation_of_planes():
    """The level is a plane of its own, uniform in its range, and the noise has its variance; samples take one level."""
    condition = Planes(noise=0.8, sampling_noise=0.6)
    batch = {"image": np.full((512, 4, 4, 1), 255, np.uint8)}
    keys = jax.random.split(KEY, 512)
    out = np.asarray(jax.jit(lambda k: condition.encode({}, None, batch, k, lambda x: x))(keys))
    level = out[:, 0, 0, 1]
    assert (out[..., 1] == level[:, None, None]).all()
    assert scipy.stats.kstest(level, "uniform", (0, 0.8)).pvalue > 1e-3
    z = (out[..., 0] - np.sqrt(1 - level**2)[:, None, None]) / level[:, None, None]
    assert scipy.stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    drawn = np.asarray(condition.encode({}, None, batch, None, lambda x: x))
    assert (drawn[..., 1] == np.float32(0.6)).all()
    assert (drawn == drawn[:1]).all()
    assert 0.3 < np.std(drawn[0, ..., 0]) < 0.9
    with pytest.raises(ValueError, match=r"sampling_noise = 0.9; allowed are numbers from 0 to 0.8"):
        Planes(noise=0.8, sampling_noise=0.9)
