"""BERT and encoders of sentences of its shape, from a folder of transformers."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff.interop.diffusers.settings import Settings
from jaxdiff.interop.layout import from_foreign
from jaxdiff.interop.text_layout import block_names, first_text
from jaxdiff.networks import BERT

# The pooling layer and heads, which encoders of sentences do not use, and a buffer of positions.
_IGNORED = re.compile(r"(pooler\.|cls\.|embeddings\.position_ids$)")
_PLACES = {
    "token_table.embedding": "embeddings.word_embeddings.weight",
    "type_table.embedding": "embeddings.token_type_embeddings.weight",
    "positions": "embeddings.position_embeddings.weight",
    "norm_in.scale": "embeddings.LayerNorm.weight",
    "norm_in.bias": "embeddings.LayerNorm.bias",
}
_LAYERS = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "in": ("intermediate.dense",),
    "out": ("output.dense",),
    "norm": ("output.LayerNorm",),
}


def bert(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], normalise: bool = True) -> tuple[BERT, PyTree]:
    """The encoder of a `config.json` of transformers and its arrays, and its variables.

    Args:
      config: the settings.
      tensors: the arrays of a `BertModel`, of a model of BERT with a head, or of a sentence encoder of this shape.
      normalise: whether the vectors of texts have the length 1.

    Raises:
      ValueError: a setting is not allowed, or an array is missing, has another shape or has no place in the network.
    """
    settings = Settings(config)
    settings.known("hidden_act", ("gelu",), "gelu")
    settings.known("position_embedding_type", ("absolute",), "absolute")
    network = BERT(
        vocabulary=settings.length("vocab_size", 30522),
        width=settings.length("hidden_size", 768),
        depth=settings.length("num_hidden_layers", 12),
        heads=settings.length("num_attention_heads", 12),
        length=settings.length("max_position_embeddings", 512),
        mlp_width=settings.length("intermediate_size", 3072),
        token_types=settings.length("type_vocab_size", 2),
        normalise=normalise,
        norm_eps=settings.number("layer_norm_eps", 1e-12),
    )
    tensors = {name.removeprefix("bert."): array for name, array in tensors.items()}
    shapes = jax.eval_shape(network.init, jax.random.key(0), *first_text())["params"]
    layout = block_names(_PLACES, "encoder.layer.{}", _LAYERS)
    return network, {"params": from_foreign(shapes, tensors, layout, lambda name: bool(_IGNORED.match(name)))}
