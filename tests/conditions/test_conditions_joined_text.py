"""Captions through several frozen encoders: what is read, joined, dropped and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from additions.text import Attending
from text_folders import weights, write_encoder, write_tokenizer_files

from jaxdiff import trees
from jaxdiff.components import Table, from_json, to_json
from jaxdiff.conditions import Condition, JoinedText, PretrainedText
from jaxdiff.data.fields import Field
from jaxdiff.interop import text_encoder
from jaxdiff.models import Diffusion
from jaxdiff.networks.module import Spec

FIELDS = Table(image=Field("picture", (4, 4, 1), "uint8"), caption=Field("text", (), "str"))
TEXTS = ["the cat", ""]
A, B = PretrainedText("a", length=6), PretrainedText("b", length=6, masked=False, before_last=True)
C = PretrainedText("a", length=8)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Two tiny encoders of CLIP with other numbers and projections."""
    made = {}
    for seed, name in enumerate(("a", "b")):
        folder = tmp_path_factory.mktemp(name)
        write_tokenizer_files(folder, "tokens_clip_g")
        table = np.random.default_rng(seed).standard_normal((535, 8)).astype(np.float32)
        tensors = weights("clip_projected") | {"text_model.embeddings.token_embedding.weight": table}
        write_encoder(folder, "clip_projected", tensors, vocab_size=535)
        made[name] = text_encoder(folder)
    return made


def opened(encoders, *beside, **settings):
    condition = JoinedText(beside, **settings)
    frozen = condition.load(encoders.get)
    return condition.opened(frozen), frozen


def encoded(condition, frozen, entries):
    return jax.jit(lambda f, e: condition.encode({}, f, {condition.entry: e}, None, lambda x: x))(frozen, entries)


def test_tokens_stand_beside_and_after_each_other(encoders):
    """Those of each encoder are its own, padding is hidden where the encoder hides it, and the rest is zeros."""
    condition, frozen = opened(encoders, A, B, after=(C,), blank=2, width=20)
    entries = condition.ask(TEXTS, FIELDS)[condition.entry]
    entry = condition.entries(FIELDS)[condition.entry]
    np.testing.assert_array_equal(entry.read(TEXTS[0]), entries[0])
    assert entry.spec.shape == entries[0].shape == (2, 6 + 6 + 8)
    found = encoded(condition, frozen, entries)
    single = []
    for one, encoder in zip((A, B, C), frozen, strict=True):
        alone = one.opened(encoder)
        single.append(encoded(alone, encoder, alone.ask(TEXTS, FIELDS)[alone.entry]))
    first, second, third = single
    expected = np.zeros((2, 6 + 8 + 2, 20), np.float32)
    expected[:, :6, :8], expected[:, :6, 8:16], expected[:, 6:14, :8] = (one["values"] for one in single)
    np.testing.assert_allclose(found["values"], expected, atol=1e-6)
    mask = np.concatenate([first["mask"] | second["mask"], third["mask"], np.ones((2, 2), bool)], axis=1)
    np.testing.assert_array_equal(found["mask"], mask)
    assert not mask.all()
    assert np.abs(found["values"][:, :, 8:16]).max() > 0.5
    assert condition.captions({condition.entry: entries}, FIELDS) == TEXTS


def test_vectors_are_those_of_the_pooled_encoders_and_share_what_is_read(encoders):
    pooled = PretrainedText("b", length=6, masked=False, before_last=True, pooled=True)
    told, frozen = opened(encoders, A, pooled)
    tokens, _ = opened(encoders, A, B)
    assert (told.channel, tokens.channel, told.entry) == ("vector", "tokens", tokens.entry)
    assert not jax.tree.leaves(frozen[0])
    entries = tokens.ask(TEXTS, FIELDS)[tokens.entry]
    alone = pooled.opened(frozen[1])
    expected = encoded(alone, frozen[1], entries[:, :, 6:])
    np.testing.assert_allclose(encoded(told, frozen, entries), expected, atol=1e-6)


@pytest.mark.parametrize("zero_null", [False, True])
def test_a_dropped_caption_is_the_empty_one_or_zeros(encoders, zero_null):
    conditions = {"text": JoinedText((A, B), dropout=1.0, zero_null=zero_null)}
    settings = Diffusion(network=Attending(), conditions=conditions)
    frozen = {"codec": None, "conditions": {"text": conditions["text"].load(encoders.get)}}
    bound = settings.bind(FIELDS, frozen)
    assert bound.network.specs == (("text", Spec("tokens", (6, 16))),)
    condition = bound.settings.conditions["text"]
    asked = condition.ask(TEXTS, FIELDS)[condition.entry]
    batch = {"image": jnp.zeros((2, 4, 4, 1)), condition.entry: asked}
    tokens = bound.prepare({}, frozen, batch, trees.batch_key(jax.random.key(0), 2))["cond"]["text"]
    empty = encoded(condition, frozen["conditions"]["text"], asked)
    assert np.abs(empty["values"][1]).max() > 0.5
    expected = np.zeros((2, 6, 16)) if zero_null else np.stack([empty["values"][1]] * 2)
    np.testing.assert_allclose(tokens["values"], expected, atol=1e-6)
    assert tokens["mask"].any(axis=1).all()


def test_a_file_holds_all_settings():
    condition = JoinedText((A, B), (C,), blank=1, width=30, zero_null=True)
    assert from_json(Condition, to_json(condition)) == condition


def test_settings_that_do_not_fit_are_refused(encoders):
    for settings, words in (
        (lambda: JoinedText(()), r"beside = \(\); allowed are at least one encoder"),
        (lambda: JoinedText((A, C)), "length = 8; allowed are 6, that of the encoder beside which it stands"),
        (lambda: JoinedText((A, PretrainedText("b", "words", length=6))), "field = 'words'; allowed are 'caption'"),
        (lambda: JoinedText((A,), blank=-1), "blank = -1; allowed are integers of at least 0"),
    ):
        with pytest.raises(ValueError, match=words):
            settings()
    condition, frozen = opened(encoders, A, B, width=15)
    with pytest.raises(ValueError, match="width = 15; allowed are integers of at least 16"):
        encoded(condition, frozen, condition.null(FIELDS)[None])
