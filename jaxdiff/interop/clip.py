"""The text encoder of CLIP, from a folder of transformers."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import require
from jaxdiff.interop.diffusers.settings import Settings
from jaxdiff.interop.layout import from_foreign
from jaxdiff.interop.text_layout import block_names, first_text
from jaxdiff.networks import CLIPText

# Of models with both encoders of CLIP, and buffers of positions.
_IGNORED = re.compile(r"(vision_model\.|visual_projection\.|logit_scale$|(embeddings\.)?position_ids$)")
_PLACES = {
    "token_table.embedding": "embeddings.token_embedding.weight",
    "positions": "embeddings.position_embedding.weight",
    "norm_out.scale": "final_layer_norm.weight",
    "norm_out.bias": "final_layer_norm.bias",
    "project.kernel": "text_projection.weight",
}
_LAYERS = {
    "attention_norm": ("layer_norm1",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.out_proj",),
    "norm": ("layer_norm2",),
    "in": ("mlp.fc1",),
    "out": ("mlp.fc2",),
}
# The id that old configurations say by mistake. The models then take the largest id of a text as its end.
_NO_END = 2


def clip(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> tuple[CLIPText, PyTree]:
    """The text encoder of a `config.json` of transformers and its arrays, and its variables.

    Args:
      config: the settings of a `CLIPTextModel`, of a `CLIPTextModelWithProjection` or of a whole `CLIPModel`.
      tensors: the arrays.

    Raises:
      ValueError: a setting is not allowed, or an array is missing, has another shape or has no place in the network.
    """
    inner = config.get("text_config", config)
    require(isinstance(inner, Mapping), "config.json: text_config", inner, "objects")
    settings = Settings(inner)
    tensors = {name.removeprefix("text_model."): array for name, array in tensors.items()}
    end = settings.length("eos_token_id", 49407)
    projection = tensors.get("text_projection.weight")
    if projection is not None:
        require(projection.ndim == 2, "shape of text_projection.weight", projection.shape, "[out, in]")
    network = CLIPText(
        vocabulary=settings.length("vocab_size", 49408),
        width=settings.length("hidden_size", 512),
        depth=settings.length("num_hidden_layers", 12),
        heads=settings.length("num_attention_heads", 8),
        length=settings.length("max_position_embeddings", 77),
        mlp_width=settings.length("intermediate_size", 2048),
        activation=settings.known("hidden_act", ("quick_gelu", "gelu"), "quick_gelu"),
        projection=None if projection is None else len(projection),
        end_id=None if end == _NO_END else end,
        norm_eps=settings.number("layer_norm_eps", 1e-5),
    )
    shapes = jax.eval_shape(network.init, jax.random.key(0), *first_text())["params"]
    layout = block_names(_PLACES, "encoder.layers.{}", _LAYERS)
    return network, {"params": from_foreign(shapes, tensors, layout, lambda name: bool(_IGNORED.match(name)))}
