"""The conditions of networks: each channel, several of a channel, two times, and refused values."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import MLP, ConvAutoencoder, Fourier, TextTransformer, UNet
from jaxdiff.networks.inputs import read_cond
from jaxdiff.networks.layers.conditioning import Conditioning
from jaxdiff.networks.module import Spec

TINY = {"channels": 8, "multipliers": (1,), "num_blocks": 1, "attention_levels": ()}
TWICE = {
    "label": Spec("class", classes=3),
    "style": Spec("class", classes=2),
    "measured": Spec("vector", (4,)),
    "augmentation": Spec("vector", (9,)),
    "low": Spec("planes", (6, 5, 2)),
    "mask": Spec("planes", (6, 5, 1)),
}
LABEL = {"label": Spec("class", classes=3)}
VECTOR = {"numbers": Spec("vector", (4,))}


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def close(found, expected):
    """The same numbers but for the roundings of a tiny network in float32."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


def differ(found, expected):
    assert jnp.abs(found - expected).max() > 1e-3 * jnp.abs(expected).max()


def test_two_conditions_of_every_channel_matter_to_their_own_example(random_variables):
    net = UNet(**TINY).given(TWICE)
    x, time = jnp.tile(normal(1, 6, 5, 3), (2, 1, 1, 1)), jnp.ones(2)
    given = {"label": jnp.array([1, 1]), "style": jnp.array([0, 0])}
    given |= {name: jnp.zeros((2, *TWICE[name].shape)) for name in ("measured", "augmentation", "low", "mask")}
    variables = random_variables(net, x, time, given)
    params = variables["params"]
    conditioning = params["conditioning"]
    assert conditioning["label_table"]["embedding"].shape == (4, 32)
    assert conditioning["style_table"]["embedding"].shape == (3, 32)
    for name in ("measured", "augmentation"):
        assert {k: v.shape for k, v in conditioning[name].items()} == {"kernel": (*TWICE[name].shape, 8)}
    assert params["conv_in"]["kernel"].shape == (3, 3, 3 + 2 + 1, 8)
    assert params["conv_out"]["kernel"].shape == (3, 3, 8, 3)

    @jax.jit
    def out(changes):
        return net.apply(variables, x, time, given | changes)

    same = out(given)
    close(same[0], same[1])
    for changes in (
        {"label": jnp.array([1, 0])},
        {"label": jnp.array([1, 3])},  # 3 is the null class
        {"style": jnp.array([0, 2])},
        {"measured": given["measured"].at[1, 0].set(1.0)},
        {"augmentation": given["augmentation"].at[1, 4].set(1.0)},
        {"low": given["low"].at[1, 2, 2, 1].set(1.0)},
        {"mask": given["mask"].at[1, 2, 2, 0].set(1.0)},
    ):
        found = out(given | changes)
        close(found[0], same[0])
        differ(found[1], same[1])
    beyond = out(given | {"label": jnp.array([1, 4])})
    assert jnp.isfinite(beyond[0]).all()
    assert jnp.isnan(beyond[1]).all()


def test_the_embedding_of_two_times_two_classes_and_two_vectors_is_its_formula(random_variables):
    embedding = Fourier(1.0)
    specs = {name: TWICE[name] for name in ("label", "measured", "style", "augmentation")}
    layer = Conditioning(3, 5, embedding, tuple(specs.items()), jnp.float32)
    given = {"label": jnp.array([0, 3]), "style": jnp.array([2, 1])}
    given |= {"measured": normal(2, 4), "augmentation": normal(2, 9, seed=1)}
    time = jnp.array([[0.1, 0.9], [0.4, 0.4]])
    variables = random_variables(layer, time, given)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    assert set(p["second_time_in"]) == {"kernel"}

    def silu(a):
        return a / (1 + np.exp(-a))

    first, second = (np.asarray(embedding(time[:, i], 3)) for i in (0, 1))
    h = first + sum(np.asarray(given[name]) @ p[name]["kernel"] for name in ("measured", "augmentation"))
    h = h @ p["time_in"]["kernel"] + p["time_in"]["bias"] + second @ p["second_time_in"]["kernel"]
    h = silu(h) @ p["time_out"]["kernel"] + p["time_out"]["bias"]
    h = h + sum(p[f"{name}_table"]["embedding"][np.asarray(given[name])] for name in ("label", "style"))
    np.testing.assert_allclose(layer.apply(variables, time, given), silu(h), atol=2e-5)


@pytest.mark.parametrize("net", [UNet(**TINY), MLP(width=8, num_blocks=1)])
def test_a_network_depends_on_both_of_two_times(random_variables, net):
    x = normal(2, 6, 3) if isinstance(net, UNet) else normal(2, 3)
    time = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    variables, apply = random_variables(net, x, time), jax.jit(net.apply)
    before = apply(variables, x, time)
    for axis in (0, 1):
        after = apply(variables, x, time.at[1, axis].add(1.0))
        close(after[0], before[0])
        differ(after[1], before[1])


def test_planes_are_more_channels_of_the_input(random_variables):
    """A network that is told planes is a network of wider input, but for the channels of its output."""
    x, planes, time = normal(2, 7, 3), normal(2, 7, 2, seed=1), jnp.ones(2)
    told = UNet(**TINY).given({"low": Spec("planes", (7, 2))})
    variables = random_variables(told, x, time, planes)
    plain = UNet(**TINY, out_channels=3)
    expected = jax.jit(plain.apply)(variables, jnp.concatenate([x, planes], axis=-1), time)
    close(jax.jit(told.apply)(variables, x, time, {"low": planes}), expected)


def test_a_bare_value_is_the_only_condition_and_vectors_left_out_are_zero():
    classes = np.array([0, 3])
    for cond in (classes, {"label": classes}):
        np.testing.assert_array_equal(read_cond(cond, tuple(LABEL.items()), 2)["label"], classes)
    both = tuple((LABEL | VECTOR).items())
    found = read_cond({"label": classes}, both, 2)
    np.testing.assert_array_equal(found["numbers"], np.zeros((2, 4)))
    assert read_cond(None, tuple(VECTOR.items()), 2)["numbers"].shape == (2, 4)
    assert read_cond(None, (), 2) == {}


def test_a_vector_that_is_left_out_has_parameters(random_variables):
    net, x, time = MLP(width=8, num_blocks=1).given(VECTOR), normal(2, 3), jnp.ones(2)
    variables = random_variables(net, x, time)
    without, zeros = net.apply(variables, x, time), net.apply(variables, x, time, jnp.zeros((2, 4)))
    np.testing.assert_array_equal(without, zeros)
    differ(net.apply(variables, x, time, jnp.ones((2, 4))), without)


@pytest.mark.parametrize(
    ("specs", "cond", "words"),
    [
        ({}, {"numbers": jnp.zeros((2, 4))}, "entries of cond = ['numbers']; allowed are []"),
        (LABEL, None, "entries of cond = []; allowed are ['label']"),
        (LABEL, {"labels": jnp.zeros(2, int)}, "entries of cond = ['labels']; allowed are ['label']"),
        (LABEL | VECTOR, {"numbers": jnp.zeros((2, 4))}, "allowed are ['label'], with ['numbers'] optional"),
        (LABEL, jnp.zeros(3, int), "cond['label'].shape = (3,); allowed are (2,)"),
        (VECTOR, jnp.zeros((2, 5)), "cond['numbers'].shape = (2, 5); allowed are (2, 4)"),
        ({"low": Spec("planes", (6, 2))}, jnp.zeros((2, 3, 2)), "cond['low'].shape = (2, 3, 2); allowed are (2, 6, 2)"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(specs, cond, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        jax.eval_shape(UNet(**TINY).given(specs).init, jax.random.key(0), jnp.zeros((2, 6, 1)), jnp.zeros(2), cond)


TOKENS = Spec("tokens", (7, 16))


def test_tokens_are_a_mapping_of_values_and_a_mask():
    text = {"values": np.ones((2, 3, 16), np.float32), "mask": np.ones((2, 3), bool)}
    for cond in (text, {"text": text}):
        found = read_cond(cond, (("text", TOKENS),), 2)["text"]
        assert {key: value.shape for key, value in found.items()} == {"values": (2, 3, 16), "mask": (2, 3)}
    for change, words in (
        (
            {"values": np.ones((2, 3, 15), np.float32)},
            "cond['text']['values'].shape = (2, 3, 15); allowed are (2, n, 16)",
        ),
        ({"mask": np.ones((2, 4), bool)}, "cond['text']['mask'].shape = (2, 4); allowed are (2, 3)"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            read_cond({"text": text | change}, (("text", TOKENS),), 2)
    for cond, words in (
        (text | {"values": np.ones((2, 3, 16), int)}, "cond['text']['values'].dtype = int"),
        (text | {"mask": np.ones((2, 3))}, "cond['text']['mask'].dtype = float"),
        (text["values"], "cond['text'] = 'ndarray'; allowed are mappings with the entries"),
    ):
        with pytest.raises(TypeError, match=re.escape(words)):
            read_cond({"text": cond}, (("text", TOKENS),), 2)


@pytest.mark.parametrize(
    ("specs", "cond", "words"),
    [
        (LABEL, np.zeros(2), "cond['label'].dtype = float64; allowed are integer types"),
        (VECTOR, np.zeros((2, 4), int), "cond['numbers'].dtype = int64; allowed are floating-point types"),
        (LABEL | VECTOR, np.zeros(2, int), "type of cond = 'ndarray'; allowed are mappings with the entries ['label']"),
        ({}, np.zeros(2, int), "type of cond = 'ndarray'; allowed are mappings with the entries []"),
    ],
)
def test_conditions_of_wrong_types_are_refused(specs, cond, words, x64):
    with pytest.raises(TypeError, match=re.escape(words)):
        read_cond(cond, tuple(specs.items()), 2)


@pytest.mark.parametrize(
    ("net", "specs", "words"),
    [
        (MLP(), {"text": TOKENS}, "conditions.text = tokens; allowed are class, vector: the channels of MLP"),
        (MLP(), {"low": Spec("planes", (8, 8, 1))}, "conditions.low = planes; allowed are class, vector: the channels"),
        (TextTransformer(), LABEL, "conditions.label = class; allowed are none: the channels of TextTransformer"),
        (ConvAutoencoder(), LABEL, "conditions.label = class; allowed are none: the channels of ConvAutoencoder"),
        (MLP(), {"a": Spec("sound")}, "conditions.a.channel = 'sound'; allowed are 'class', 'vector'"),
        (MLP(), {"a": Spec("vector", (3, 2))}, "conditions.a.shape = (3, 2); allowed are (d,)"),
        (MLP(), {"a": Spec("class")}, "conditions.a.classes = 0; allowed are integers of at least 1"),
        (MLP(), {"a": Spec("vector", (3,), 2)}, "conditions.a.classes = 2; allowed are integers from 0 to 0"),
        (MLP(), {"time_in": Spec("vector", (3,))}, "name of a condition = 'time_in'; allowed are identifiers other"),
    ],
)
def test_specs_that_do_not_fit_are_refused(net, specs, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        net.given(specs)
