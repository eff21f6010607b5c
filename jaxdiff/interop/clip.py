"""The text encoder of CLIP, from a folder of transformers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import require
from jaxdiff.interop.folders import Settings, read_folder
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


def read_clip(folder: Path) -> tuple[CLIPText, PyTree]:
    """The text encoder of a folder of transformers, and its variables.

    The folder is that of a `CLIPTextModel`, of a `CLIPTextModelWithProjection` or of a whole `CLIPModel`.

    Raises:
      ValueError: a file is missing or cannot be read, a setting is not allowed, or an array is missing, has another
        shape or has no place in the network.
    """
    return clip(*read_folder(folder))


def clip(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> tuple[CLIPText, PyTree]:
    """The text encoder of the settings and the arrays of transformers. Errors are those of `read_clip`."""
    inner = config.get("text_config", config)
    require(isinstance(inner, Mapping), "text_config in config.json", inner, "objects")
    settings = Settings(inner)
    tensors = {name.removeprefix("text_model."): array for name, array in tensors.items()}
    width, end = settings.integer("hidden_size", 512), settings.integer("eos_token_id", 49407, least=0)
    projection = tensors.get("text_projection.weight")
    network = CLIPText(
        vocabulary=settings.integer("vocab_size", 49408),
        width=width,
        depth=settings.integer("num_hidden_layers", 12, least=0),
        heads=settings.integer("num_attention_heads", 8),
        length=settings.integer("max_position_embeddings", 77),
        mlp_width=settings.integer("intermediate_size", 2048),
        activation=settings.one_of("hidden_act", "quick_gelu", ("quick_gelu", "gelu")),
        projection=None if projection is None else len(projection),
        end_id=None if end == _NO_END else end,
        norm_eps=settings.positive("layer_norm_eps", 1e-5),
    )
    shapes = jax.eval_shape(network.init, jax.random.key(0), *first_text())["params"]
    layout = block_names(_PLACES, "encoder.layers.{}", _LAYERS)
    return network, {"params": from_foreign(shapes, tensors, layout, lambda name: bool(_IGNORED.match(name)))}
