"""BERT and encoders of sentences of its shape, from a folder of transformers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff.interop.folders import Settings, read_folder
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


def read_bert(folder: Path, normalise: bool = True) -> tuple[BERT, PyTree]:
    """The encoder of a folder of transformers, and its variables.

    Args:
      folder: the folder of a `BertModel`, of a model of BERT with a head, or of a sentence encoder of this shape.
      normalise: whether the vectors of texts have the length 1.

    Raises:
      ValueError: a file is missing or cannot be read, a setting is not allowed, or an array is missing, has another
        shape or has no place in the network.
    """
    return bert(*read_folder(folder), normalise)


def bert(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], normalise: bool = True) -> tuple[BERT, PyTree]:
    """The encoder of the settings and the arrays of transformers. Errors are those of `read_bert`."""
    settings = Settings(config)
    settings.one_of("hidden_act", "gelu", ("gelu",))
    settings.one_of("position_embedding_type", "absolute", ("absolute",))
    network = BERT(
        vocabulary=settings.integer("vocab_size", 30522),
        width=settings.integer("hidden_size", 768),
        depth=settings.integer("num_hidden_layers", 12, least=0),
        heads=settings.integer("num_attention_heads", 12),
        length=settings.integer("max_position_embeddings", 512),
        mlp_width=settings.integer("intermediate_size", 3072),
        token_types=settings.integer("type_vocab_size", 2),
        normalise=normalise,
        norm_eps=settings.positive("layer_norm_eps", 1e-12),
    )
    tensors = {name.removeprefix("bert."): array for name, array in tensors.items()}
    shapes = jax.eval_shape(network.init, jax.random.key(0), *first_text())["params"]
    layout = block_names(_PLACES, "encoder.layer.{}", _LAYERS)
    return network, {"params": from_foreign(shapes, tensors, layout, lambda name: bool(_IGNORED.match(name)))}
