"""Captions through a frozen text encoder: what is read, encoded, dropped and asked for, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from additions.text import Attending
from text_folders import weights, write_encoder, write_tokenizer_files

from jaxdiff import trees
from jaxdiff.components import Table
from jaxdiff.conditions import PretrainedText
from jaxdiff.data.fields import Field
from jaxdiff.interop import text_encoder
from jaxdiff.models import Diffusion
from jaxdiff.networks.module import Spec

FIELDS = Table(image=Field("picture", (4, 4, 1), "uint8"), caption=Field("text", (), "str"))
TEXTS = ["the cat", "", "a photo of the cat it's here"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny CLIP with a projection, whose table has all ids of the vocabulary."""
    folder = tmp_path_factory.mktemp("clip")
    write_tokenizer_files(folder, "tokens_clip_g")

    table = np.random.default_rng(0).standard_normal((535, 8)).astype(np.float32)
    tensors = weights("clip_projected") | {"text_model.embeddings.token_embedding.weight": table}
    write_encoder(folder, "clip_projected", tensors, vocab_size=535)
    return text_encoder(folder)


def opened(encoder, **settings):
    condition = PretrainedText("clip", length=6, **settings)
    return condition.opened(condition.load({"clip": encoder}.get))


def encoded(condition, encoder, entries):
    return jax.jit(lambda e: condition.encode({}, encoder, {condition.entry: e}, None, lambda x: x))(entries)


def test_captions_are_read_and_encoded_as_the_encoder_does(encoder):
    """Tokens, hidden or visible after the end, and one vector, which sees the text alone either way."""
    condition = opened(encoder)
    entry = condition.entries(FIELDS)[condition.entry]
    entries = np.stack([entry.read(text) for text in TEXTS])
    np.testing.assert_array_equal(entries, encoder.read(TEXTS, 6))
    assert entries[0].shape == entry.spec.shape
    np.testing.assert_array_equal(condition.ask(TEXTS, FIELDS)[condition.entry], entries)
    np.testing.assert_array_equal(condition.null(FIELDS), entries[1])
    ids, mask = entries[:, 0], entries[:, 1] == 1
    for masked, visible in ((True, mask), (False, np.ones_like(mask))):
        found = encoded(opened(encoder, masked=masked), encoder, entries)
        expected = jax.jit(encoder.encode)(ids, visible)
        np.testing.assert_array_equal(found["mask"], visible)
        np.testing.assert_allclose(found["values"], expected["values"], atol=1e-6)
        vector = encoded(opened(encoder, masked=masked, pooled=True), encoder, entries)
        np.testing.assert_allclose(vector, jax.jit(encoder.pooled)(ids, mask), atol=1e-6)
    assert condition.captions({condition.entry: entries}, FIELDS)[:2] == ["the cat", ""]


def test_a_dropped_caption_is_the_encoding_of_the_empty_text(encoder):
    settings = Diffusion(network=Attending(), conditions={"text": PretrainedText("clip", length=6, dropout=1.0)})
    frozen = {"codec": None, "conditions": {"text": encoder}}
    bound = settings.bind(FIELDS, frozen)
    assert bound.network.specs == (("text", Spec("tokens", (6, 8))),)
    condition = bound.settings.conditions["text"]
    entries = np.stack([condition.reads("the cat", 6)] * 3)
    batch = {"image": jnp.zeros((3, 4, 4, 1)), condition.entry: entries}
    tokens = bound.prepare({}, frozen, batch, trees.batch_key(jax.random.key(0), 3))["cond"]["text"]
    wanted = encoded(condition, encoder, condition.null(FIELDS)[None])
    np.testing.assert_allclose(tokens["values"], np.repeat(wanted["values"], 3, axis=0), atol=1e-6)
    quiet = bound.quiet().prepare({}, frozen, batch, trees.batch_key(jax.random.key(0), 3))["cond"]["text"]
    np.testing.assert_allclose(quiet["values"], encoded(condition, encoder, entries)["values"], atol=1e-6)


def test_tokens_and_vector_of_one_encoder_share_what_is_read(encoder):
    first, second = opened(encoder), opened(encoder, pooled=True)
    assert first.entry == second.entry
    assert (first.channel, second.channel) == ("tokens", "vector")
    assert first.entry != PretrainedText("other", length=6).entry != PretrainedText("other", length=7).entry


def test_settings_and_parts_that_do_not_fit_are_refused(encoder):
    with pytest.raises(ValueError, match="length = 2; allowed are integers of at least 3"):
        PretrainedText("clip", length=2)
    with pytest.raises(ValueError, match="length = 77; allowed are integers from 3 to 9"):
        PretrainedText("clip").load(lambda part: encoder)
    with pytest.raises(ValueError, match="encoder = 'clip'; allowed are folders of a text encoder; this one is a dict"):
        PretrainedText("clip").load(lambda part: {})
    with pytest.raises(ValueError, match="tokenizer = None; allowed are conditions that know their encoder"):
        PretrainedText("clip").null(FIELDS)
    condition = opened(encoder)
    with pytest.raises(ValueError, match="field = 'caption'; allowed are fields of text, and not of kind 'label'"):
        condition.check({"caption": Field("label", (), "int32", 3)})
    for given in (3, [], ["a", 3], b"a"):
        with pytest.raises(ValueError, match=r"caption = .*; allowed are text, one or"):
            condition.ask(given, FIELDS)
