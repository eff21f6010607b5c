"""The encoder of T5 version 1.1, from a folder of transformers."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import require
from jaxdiff.interop.diffusers.settings import Settings
from jaxdiff.interop.layout import from_foreign
from jaxdiff.interop.text_layout import block_names, first_text
from jaxdiff.networks import T5Encoder

# The table of tokens has two names, since the decoder shares it.
_SHARED, _OWN = "shared.weight", "encoder.embed_tokens.weight"
_PLACES = {
    "token_table.embedding": _SHARED,
    "distance_table.embedding": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "norm_out.scale": "encoder.final_layer_norm.weight",
}
_LAYERS = {
    "attention_norm": ("layer.0.layer_norm",),
    "attention.qkv": ("layer.0.SelfAttention.q", "layer.0.SelfAttention.k", "layer.0.SelfAttention.v"),
    "attention.out": ("layer.0.SelfAttention.o",),
    "norm": ("layer.1.layer_norm",),
    "in": ("layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"),
    "out": ("layer.1.DenseReluDense.wo",),
}
# Of whole models.
_IGNORED = ("decoder.", "lm_head.")


def t5(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> tuple[T5Encoder, PyTree]:
    """The encoder of a `config.json` of transformers and its arrays, and its variables.

    Args:
      config: the settings of a T5 with gated feed-forward layers (v1.1, Flan-T5).
      tensors: the arrays of a `T5EncoderModel` or of a whole model.

    Raises:
      ValueError: a setting is not allowed, or an array is missing, has another shape or has no place in the network.
    """
    settings = Settings(config)
    settings.known("feed_forward_proj", ("gated-gelu",), "relu")
    tensors = dict(tensors)
    own = tensors.pop(_OWN, None)
    if own is not None:
        same = np.array_equal(tensors.setdefault(_SHARED, own), own)
        require(same, _OWN, "another table of tokens", f"arrays that are {_SHARED}")
    network = T5Encoder(
        vocabulary=settings.length("vocab_size", 32128),
        width=settings.length("d_model", 512),
        depth=settings.length("num_layers", 6),
        heads=settings.length("num_heads", 8),
        head_width=settings.length("d_kv", 64),
        mlp_width=settings.length("d_ff", 2048),
        buckets=settings.length("relative_attention_num_buckets", 32),
        max_distance=settings.length("relative_attention_max_distance", 128),
        norm_eps=settings.number("layer_norm_epsilon", 1e-6),
    )
    shapes = jax.eval_shape(network.init, jax.random.key(0), *first_text())["params"]
    layout = block_names(_PLACES, "encoder.block.{}", _LAYERS)
    return network, {"params": from_foreign(shapes, tensors, layout, lambda name: name.startswith(_IGNORED))}
