"""CLIP, T5 and BERT beside transformers: outputs, masks, names of arrays, sizes, and refused folders."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from text_folders import config, inside, stored, weights, write_encoder, write_tokenizer_files

from jaxdiff.interop import text_encoder
from jaxdiff.interop.bert import bert
from jaxdiff.interop.clip import clip
from jaxdiff.interop.t5 import t5
from jaxdiff.networks import published
from jaxdiff.networks.text.t5 import relative_buckets

READERS = {"clip": clip, "clip_projected": clip, "t5": t5, "bert": bert}


@functools.cache
def read(case):
    """The network of a case with its variables, and the inputs and outputs that are stored."""
    network, variables = READERS[case](config(case), weights(case))
    arrays = stored(case)
    given, out = inside(arrays, "inputs/"), inside(arrays, "outputs/")
    types = (given["token_type_ids"],) if "token_type_ids" in given else ()
    return network, variables, (given["input_ids"], given["attention_mask"] == 1, *types), out


@functools.cache
def compiled(case):
    """A function from ids, mask and types to all outputs, by the names of the stored ones."""
    network, variables, *_ = read(case)

    @jax.jit
    def outputs(*given):
        found = {"last": network.apply(variables, *given)["values"]}
        found["pooled"] = network.apply(variables, *given, method="pooled")
        if hasattr(network, "before_last"):
            found["before_last"] = network.clone(before_last=True).apply(variables, *given)["values"]
        return found

    return outputs


@pytest.mark.parametrize("case", READERS)
def test_outputs_are_those_of_transformers(case):
    _, _, given, expected = read(case)
    found = compiled(case)(*given)
    for name, value in expected.items():
        visible = given[1] if value.ndim == 3 else np.ones(len(value), bool)
        assert np.abs(value[visible]).max() > 0.5
        np.testing.assert_allclose(np.asarray(found[name])[visible], value[visible], rtol=0, atol=1e-4)
        assert found[name].dtype == jnp.float32


@pytest.mark.parametrize("case", READERS)
def test_padding_changes_nothing(case):
    """Neither the ids of hidden tokens nor their number, for the tokens and for the vector of a text."""
    ids, mask, *types = read(case)[2]
    length, encode = int(mask[1].sum()), compiled(case)
    whole = encode(ids, mask, *types)
    np.testing.assert_array_equal(whole["last"][~mask], 0)
    other = encode(np.where(mask, ids, 37), mask, *types)
    short = encode(*(array[1:, :length] for array in (ids, mask, *types)))
    # Sums over fewer tokens are rounded in another order: within 16 units of the last place of the largest value.
    for found, row, units in ((other, 1, 0), (short, 0, 16)):
        for name, value in found.items():
            cut = slice(None) if value.ndim == 2 else slice(length)
            expected = np.asarray(whole[name][1, cut])
            rounding = units * np.finfo(np.float32).eps * np.abs(expected).max()
            np.testing.assert_allclose(value[row, cut], expected, rtol=0, atol=rounding)


def test_a_clip_token_sees_only_tokens_before_it():
    ids = read("clip")[2][0]
    mask = np.ones_like(ids, bool)
    first, second = (compiled("clip")(ids - changed, mask)["last"] for changed in (0, np.arange(7) == 3))
    changed = np.abs(first - second).max(axis=(0, 2))
    np.testing.assert_array_equal(changed[:3], 0)
    assert (changed[3:] > 1e-4).all()


def test_the_vector_of_a_sentence_is_the_mean_of_its_tokens():
    network, variables, given, expected = read("bert")
    mean = np.stack([expected["last"][i, given[1][i]].mean(axis=0) for i in range(2)])
    np.testing.assert_allclose(
        compiled("bert")(*given)["pooled"], mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-4
    )
    plain = jax.jit(lambda *given: network.clone(normalise=False).apply(variables, *given, method="pooled"))
    np.testing.assert_allclose(plain(*given), mean, atol=1e-4)


@pytest.mark.parametrize("buckets", ["32_128", "16_20"])
def test_buckets_of_distances_are_those_of_transformers(buckets):
    """The first query sees the distances from 0 on, and the last query those up to 0."""
    number, most = map(int, buckets.split("_"))
    expected = stored("buckets")[buckets]
    found = relative_buckets(201, number, most)
    np.testing.assert_array_equal(found[0], expected[200:])
    np.testing.assert_array_equal(found[-1], expected[:201])


@pytest.mark.parametrize("name", ["clip_l", "clip_h", "clip_bigg", "t5_xxl", "minilm"])
def test_the_number_of_parameters_is_that_of_transformers(name):
    """Of the published configurations; transformers counted them without memory for the arrays."""
    ids = jnp.zeros((1, 1), int)
    shapes = jax.eval_shape(getattr(published, name)().init, jax.random.key(0), ids, ids == 0)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == stored("counts")[name]
    assert f"{int(stored('counts')[name]):,} parameters" in getattr(published, name).__doc__


@pytest.mark.parametrize("case", ["clip", "t5", "bert"])
def test_bfloat16_is_near_float32(case):
    network, variables, given, _ = read(case)
    found = jax.jit(network.clone(dtype="bfloat16").apply)(variables, *given)["values"]
    exact = compiled(case)(*given)["last"]
    assert found.dtype == jnp.float32
    assert 1e-5 < jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact) < 2e-2


def renamed(case):
    """The arrays by the names that other files have, with those that have no place here."""
    tensors = weights(case)
    if case == "clip":
        changed = {f"text_model.{name}": array for name, array in tensors.items()}
        return changed | {"text_model.embeddings.position_ids": np.arange(9), "logit_scale": np.ones((), np.float32)}
    if case == "t5":
        shared = tensors.pop("shared.weight")
        return tensors | {"encoder.embed_tokens.weight": shared, "lm_head.weight": shared}
    changed = {f"bert.{name}": array for name, array in tensors.items()}
    return changed | {"cls.predictions.bias": np.zeros(40, np.float32), "bert.embeddings.position_ids": np.arange(12)}


@pytest.mark.parametrize("case", ["clip", "t5", "bert"])
def test_files_of_whole_models_are_read_too(case):
    network, variables = READERS[case](config(case), renamed(case))
    assert network == read(case)[0]
    jax.tree.map(np.testing.assert_array_equal, variables, read(case)[1])


def test_a_whole_clip_has_its_text_settings_inside():
    whole = {"model_type": "clip", "text_config": config("clip"), "vision_config": {}, "projection_dim": 6}
    vision = {"vision_model.embeddings.class_embedding": np.ones(8, np.float32)}
    assert clip(whole, weights("clip") | vision)[0] == read("clip")[0]


def test_a_folder_is_an_encoder_with_its_tokenizer(tmp_path):
    """Of a pipeline, in which tokenizers have folders of their own."""
    # The stored tokenizer has more ids than the stored encoder.
    arrays, rows = weights("clip_projected"), ((0, 535 - 40), (0, 0))
    name = next(name for name in arrays if name.endswith("token_embedding.weight"))
    arrays[name] = np.pad(arrays[name], rows)
    write_encoder(tmp_path / "text_encoder_2", "clip_projected", arrays, vocab_size=535)
    write_tokenizer_files(tmp_path / "tokenizer_2", "tokens_clip_g")
    encoder = text_encoder(tmp_path / "text_encoder_2")
    network, variables, *_ = read("clip_projected")
    assert encoder.network == network.clone(vocabulary=535)
    table = encoder.variables["params"]["token_table"]
    table["embedding"] = table["embedding"][:40]
    jax.tree.map(np.testing.assert_array_equal, encoder.variables, variables)
    np.testing.assert_array_equal(encoder.read(["", "the cat"], 5)[:, 1], [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])


FIRST = "encoder.layers.0.mlp.fc1.weight"
REFUSED = {
    "no folder": (lambda p: p.rename(p.with_name("moved")), r"folder = '.*'; allowed are folders of text encoders"),
    "no config": (lambda p: (p / "config.json").unlink(), r"file = '.*config\.json'; allowed are files that exist"),
    "no weights": (lambda p: (p / "model.safetensors").unlink(), r"file of weights = '.*'; allowed are files"),
    "a pickle": (
        lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"),
        r"pytorch_model\.bin: a pickle, which can run any program",
    ),
    "no tokenizer": (lambda p: (p / "vocab.json").unlink(), r"folder of a tokenizer = '.*'; allowed are folders that"),
    "config of words": (lambda p: (p / "config.json").write_text("[1"), r"config\.json: cannot be read as JSON"),
    "cut weights": (
        lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:2000]),
        r"model\.safetensors: cannot be read as a file of arrays",
    ),
    **{
        f"{name} = {value!r}": (lambda p, name=name, value=value: write_encoder(p, "clip", **{name: value}), words)
        for name, value, words in (
            ("model_type", "gpt2", r"config\.json: model_type = 'gpt2'; allowed are clip, clip_text_model, t5, bert"),
            ("model_type", None, r"model_type = None"),
            ("hidden_act", "relu", r"hidden_act = 'relu'; allowed are 'quick_gelu', 'gelu'"),
            ("hidden_size", "8", r"hidden_size = '8'; allowed are integers from 1 to"),
            ("hidden_size", 16, r"shape of .* = .*; allowed are those of"),
            ("hidden_size", 10**12, r"hidden_size = 1000000000000; allowed are integers from 1 to"),
            ("vocab_size", -1, r"vocab_size = -1"),
            ("num_hidden_layers", 3, r"no array 'encoder\.layers\.2\."),
            ("num_hidden_layers", 1, r"16 arrays without a place in the network, such as 'encoder\.layers\.1\."),
            ("num_hidden_layers", 10**9, r"num_hidden_layers = 1000000000; allowed are integers from 1 to"),
            ("num_attention_heads", 3, r"heads = 3; allowed are divisors of the width 8"),
            ("layer_norm_eps", -1, r"norm_eps = -1\.0; allowed are finite numbers above 0"),
            ("eos_token_id", [39], r"eos_token_id = \[39\]"),
        )
    },
    **{
        name: (lambda p, change=change: write_encoder(p, "clip", change(weights("clip"))), words)
        for name, change, words in (
            ("an array too few", lambda w: {n: a for n, a in w.items() if n != FIRST}, rf"no array '{FIRST}'"),
            ("an array too many", lambda w: w | {"spare": w[FIRST]}, "1 arrays without a place .* such as 'spare'"),
            ("a wrong shape", lambda w: w | {FIRST: w[FIRST].T}, rf"shape of {FIRST} = \[\(8, 12\)\]"),
            ("a wrong type", lambda w: w | {FIRST: w[FIRST].astype(np.int8)}, rf"type of {FIRST} = int8"),
            (
                "a flat projection",
                lambda w: w | {"text_projection.weight": w[FIRST][0]},
                r"text_projection\.weight = \(",
            ),
        )
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_folders_that_are_refused(tmp_path, name):
    folder = write_tokenizer_files(write_encoder(tmp_path / "encoder", "clip"), "tokens_clip_l")
    change, words = REFUSED[name]
    change(folder)
    with pytest.raises(ValueError, match=words) as error:
        text_encoder(folder)
    assert "\n" not in str(error.value)


def test_other_kinds_of_t5_and_bert_are_refused():
    with pytest.raises(ValueError, match="feed_forward_proj = 'relu'; allowed are 'gated-gelu'"):
        t5(config("t5") | {"feed_forward_proj": "relu"}, weights("t5"))
    other = {"encoder.embed_tokens.weight": np.zeros((40, 8), np.float32)}
    with pytest.raises(
        ValueError, match=r"embed_tokens\.weight = 'another table of tokens'; allowed are arrays that are"
    ):
        t5(config("t5"), weights("t5") | other)
    with pytest.raises(ValueError, match=r"buckets = 6; allowed are multiples of 4"):
        t5(config("t5") | {"relative_attention_num_buckets": 6}, weights("t5"))
    with pytest.raises(ValueError, match=r"max_distance = 4; allowed are integers of at least 5"):
        t5(config("t5") | {"relative_attention_max_distance": 4}, weights("t5"))
    with pytest.raises(ValueError, match="position_embedding_type = 'relative_key'; allowed are 'absolute'"):
        bert(config("bert") | {"position_embedding_type": "relative_key"}, weights("bert"))
