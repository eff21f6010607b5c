"""Makes text_encoders.npz: outputs of transformers' text encoders of tiny sizes, and ids of its tokenizers.

    python scripts/benchmark/make_environment.py peers
    .environments/peers/bin/python tests/references/make_text_encoders.py

All weights are random, also those that start at zero or one. They are stored in float16 under the names of the files
that transformers writes, and the outputs were computed in float32 with the stored numbers. The vocabularies are made
here. `counts` are the numbers of parameters of published configurations, without memory for them.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import mixture
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from transformers.models.t5.modeling_t5 import T5Attention

CLIP = {"vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
CLIP |= {"max_position_embeddings": 9, "bos_token_id": 38, "pad_token_id": 0}
T5 = {"vocab_size": 40, "d_model": 8, "d_kv": 3, "d_ff": 12, "num_layers": 2, "num_heads": 2}
T5 |= {"relative_attention_num_buckets": 16, "relative_attention_max_distance": 20, "feed_forward_proj": "gated-gelu"}
BERT = {"vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT |= {"max_position_embeddings": 12, "type_vocab_size": 3}

# The configurations in the folders of published weights.
L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
BIGG = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128}
XXL |= {"feed_forward_proj": "gated-gelu"}
MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}

TEXTS = (
    "a photo of a cat",
    "",
    "   A  PHOTO\tof\n\nthe Cat   ",
    "it's we're they've I'll I'd don't I'm",
    "12345 cats, 6.7% of 89!",
    "café naïve Ångström",
    "cafe\u0301 combined",
    "ﬁne ligature",
    "日本語 の 写真",
    "한국어 사진",
    "Привет мир",
    "emoji 🐱👩‍🚀🏳️‍🌈",
    "<|startoftext|>the cat<|endoftext|>",
    "zero\u200bwidth and no\u00a0break",
    "tabs\t\tand\x07bell\x00nul",
    "İstanbul STRASSE ß",
    "snake_case && ||||  ---- ....",
    "½ ² Ⅳ ٣",
    "\ufffd\ufeff replaced",
    "the the the the the the the the the the the the",
    "[CLS] the [MASK] cat [SEP]",
)
LENGTH = 12


def random_weights(model: Any, seed: int) -> None:
    """Gives a model random weights, which float16 holds."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            fan_in = weight.shape[-1] if weight.ndim > 1 and "embed" not in name else 2
            values = torch.randn(weight.shape, generator=generator) / fan_in**0.5
            one = weight.ndim == 1 and "norm" in name.lower() and "weight" in name
            weight.copy_((values * 0.3 + 1 if one else values).half().float())


def case(model: Any, seed: int, inputs: dict[str, Any], find: Any) -> dict[str, Any]:
    """The folder that transformers writes, the inputs, and what `find` takes of the outputs."""
    random_weights(model.eval(), seed)
    with torch.no_grad():
        given = {name: torch.from_numpy(value) for name, value in inputs.items()}
        out = find(model(**given, output_hidden_states=True))
    stored: dict[str, Any] = {f"inputs/{name}": value for name, value in inputs.items()}
    stored |= {f"outputs/{name}": value.numpy() for name, value in out.items()}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        stored["config"] = (Path(folder) / "config.json").read_text()
        for name, value in load_file(Path(folder) / "model.safetensors").items():
            stored[f"weights/{name}"] = value.astype(np.float16)
    return stored


def encoders() -> dict[str, dict[str, Any]]:
    """The outputs of all encoders."""
    rng = np.random.default_rng(0)
    n = 7
    # The first text ends in the middle, and its padding is the end again; the second is padded with 0, and is masked.
    ids = np.stack([[38, 3, 7, 39, 39, 39, 39], [38, 11, 5, 30, 39, 0, 0]])
    masks = np.stack([[1] * n, [1, 1, 1, 1, 1, 0, 0]])
    clip = {"input_ids": ids, "attention_mask": masks}
    old = transformers.CLIPTextConfig(**CLIP, eos_token_id=2, hidden_act="quick_gelu", projection_dim=6)
    new = transformers.CLIPTextConfig(**CLIP, eos_token_id=39, hidden_act="gelu")
    t5 = {"input_ids": rng.integers(0, 40, (2, 30)), "attention_mask": np.ones((2, 30), int)}
    t5["attention_mask"][1, 20:] = 0
    bert = {"input_ids": rng.integers(0, 40, (2, 9)), "attention_mask": np.ones((2, 9), int)}
    bert["attention_mask"][1, 5:] = 0
    typed = bert | {"token_type_ids": rng.integers(0, 3, (2, 9))}

    def last(out: Any) -> dict[str, Any]:
        return {"last": out.last_hidden_state}

    def both(out: Any) -> dict[str, Any]:
        return {"last": out.last_hidden_state, "before_last": out.hidden_states[-2]}

    return {
        "clip": case(transformers.CLIPTextModel(new), 1, clip, lambda out: both(out) | {"pooled": out.pooler_output}),
        "clip_projected": case(
            transformers.CLIPTextModelWithProjection(old), 2, clip, lambda out: both(out) | {"pooled": out.text_embeds}
        ),
        "t5": case(transformers.T5EncoderModel(transformers.T5Config(**T5)), 3, t5, last),
        "bert": case(transformers.BertModel(transformers.BertConfig(**BERT)), 4, typed, last),
    }


def byte_letters() -> list[str]:
    """The letter of each byte in byte-level vocabularies, in the order of those that stand for themselves first."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in own] + [chr(256 + i) for i in range(256 - len(own))]


def clip_files() -> dict[str, str]:
    """A vocabulary of bytes and a few merges."""
    merges = ["t h", "th e</w>", "c a", "ca t</w>", "p h", "ph o", "pho t", "phot o</w>", "o f</w>", "Ã ©", "Ã ©</w>"]
    merges += ["æ Ĺ", "æĹ ¥", "ð Ł", "' s</w>", "1 2", "- -", "- -</w>", "-- --</w>", "i n", "in g</w>"]
    letters = byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }


def bert_files() -> dict[str, str]:
    """A vocabulary of letters and a few words."""
    letters = sorted({letter for text in TEXTS for letter in text.lower() if letter.isalnum() and ord(letter) < 0x500})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words += ["the", "cat", "##s", "photo", "of", "日", "!", ",", "'", ".", "%", "[", "]"]
    return {"vocab.txt": "\n".join(dict.fromkeys(words)) + "\n"}


def tokens(kind: Any, files: dict[str, str], **settings: Any) -> dict[str, Any]:
    """The files of a tokenizer, and its ids and masks of all texts."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH, **settings}))
        tokenizer = kind.from_pretrained(folder)
        found = tokenizer(list(TEXTS), padding="max_length", truncation=True, max_length=LENGTH)
    stored: dict[str, Any] = {f"files/{name}": text for name, text in files.items()}
    return stored | {
        "files/tokenizer_config.json": json.dumps(settings),
        "ids": np.asarray(found["input_ids"], np.int32),
        "mask": np.asarray(found["attention_mask"], bool),
    }


def counts() -> dict[str, Any]:
    """The numbers of parameters of published configurations."""
    t = transformers
    # Defaults of the class are 49408 ids and 77 tokens; BERT's 30522 and 512.
    made = {
        "clip_l": lambda: t.CLIPTextModel(t.CLIPTextConfig(**L)),
        "clip_h": lambda: t.CLIPTextModel(t.CLIPTextConfig(**H)),
        "clip_bigg": lambda: t.CLIPTextModelWithProjection(t.CLIPTextConfig(**BIGG, projection_dim=1280)),
        "t5_xxl": lambda: t.T5EncoderModel(t.T5Config(**XXL)),
        "minilm": lambda: t.BertModel(t.BertConfig(**MINILM), add_pooling_layer=False),
    }
    with torch.device("meta"):
        return {name: sum(weight.numel() for weight in make().parameters()) for name, make in made.items()}


def main() -> None:
    """Runs everything."""
    cases = encoders()
    cases["tokens_clip_l"] = tokens(transformers.CLIPTokenizer, clip_files(), pad_token="<|endoftext|>")
    cases["tokens_clip_g"] = tokens(transformers.CLIPTokenizer, clip_files(), pad_token="!")
    cases["tokens_bert"] = tokens(transformers.BertTokenizer, bert_files(), do_lower_case=True)
    cases["texts"] = {"texts": np.asarray(TEXTS, np.str_)}
    distances = torch.arange(-200, 201)
    cases["buckets"] = {
        f"{buckets}_{most}": T5Attention._relative_position_bucket(distances, True, buckets, most).numpy()
        for buckets, most in ((32, 128), (16, 20))
    }
    cases["counts"] = counts()
    mixture.save("text_encoders", cases)


if __name__ == "__main__":
    main()
