"""The names of the program in which Stable Diffusion 3 and 3.5 were published, as those of diffusers.

Such a file has no configurations. Numbers of layers are read from its names, and widths from the shapes of its arrays.
Heads have 64 channels, as in all published sizes (Esser et al. 2024, arXiv 2403.03206).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.checks import require
from jaxdiff.interop.tensors import array_of

Tensors = Mapping[str, np.ndarray]
_HEAD_WIDTH = 64
_WHOLE = {
    "pos_embed": "pos_embed.pos_embed",
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "context_embedder": "context_embedder",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_INSIDE = {
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn.proj": ("attn.to_out.0",),
    "x_block.attn.ln_q": ("attn.norm_q",),
    "x_block.attn.ln_k": ("attn.norm_k",),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "x_block.attn2.ln_q": ("attn2.norm_q",),
    "x_block.attn2.ln_k": ("attn2.norm_k",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "context_block.attn.proj": ("attn.to_add_out",),
    "context_block.attn.ln_q": ("attn.norm_added_q",),
    "context_block.attn.ln_k": ("attn.norm_added_k",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
}


def transformer_of(tensors: Tensors) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the arrays of a `SD3Transformer2DModel`, from arrays without `model.diffusion_model.`.

    Raises:
      ValueError: an array is missing, has another shape, or has no place.
    """
    first, text, pooled, table, last = (
        array_of(tensors, name, axes)
        for name, axes in (
            ("x_embedder.proj.weight", 4),
            ("context_embedder.weight", 2),
            ("y_embedder.mlp.0.weight", 2),
            ("pos_embed", 3),
            ("final_layer.linear.weight", 2),
        )
    )
    width, channels, patch, _ = first.shape
    blocks = {int(found[1]) for name in tensors if (found := re.match(r"joint_blocks\.(\d+)\.", name))}
    depth, side = len(blocks), math.isqrt(table.shape[1])
    good = bool(blocks) and max(blocks) == depth - 1
    require(good, "numbers of joint_blocks", sorted(blocks)[-3:], "all numbers from 0 to the last")
    require(side * side == table.shape[1], "shape of pos_embed", table.shape, "[1, side^2, width]")
    config = {
        "_class_name": "SD3Transformer2DModel",
        "sample_size": 128,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": len(last) // max(1, patch * patch),
        "num_layers": depth,
        "attention_head_dim": _HEAD_WIDTH,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "joint_attention_dim": text.shape[1],
        "caption_projection_dim": width,
        "pooled_projection_dim": pooled.shape[1],
        "pos_embed_max_size": side,
        "dual_attention_layers": [i for i in range(depth) if f"joint_blocks.{i}.x_block.attn2.qkv.weight" in tensors],
        "qk_norm": "rms_norm" if any(".attn.ln_q." in name for name in tensors) else None,
    }
    swapped = ("norm_out.linear", f"transformer_blocks.{depth - 1}.norm1_context.linear")
    made: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        for place, part in _parts(name, array):
            # These layers of diffusers give the scale before the shift.
            halves = place.rpartition(".")[0] in swapped and part.ndim > 0 and len(part) % 2 == 0
            made[place] = np.concatenate(np.split(part, 2)[::-1]) if halves else part
    return config, made


def _parts(name: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The names in diffusers of the parts of an array."""
    if name in _WHOLE:
        return [(_WHOLE[name], array)]
    layer, _, leaf = name.rpartition(".")
    if layer in _WHOLE:
        return [(f"{_WHOLE[layer]}.{leaf}", array)]
    found = re.fullmatch(r"joint_blocks\.(\d+)\.(.+)", layer)
    if found is None or found[2] not in _INSIDE:
        raise ValueError(f"the weights have an array without a place in the network: {name!r}")
    names = _INSIDE[found[2]]
    fits = len(names) == 1 or (array.ndim > 0 and len(array) % len(names) == 0)
    require(fits, f"shape of {name}", array.shape, "[3 width, ...]: queries, keys and values")
    parts = np.split(array, len(names)) if len(names) > 1 else [array]
    return [(f"transformer_blocks.{found[1]}.{place}.{leaf}", part) for place, part in zip(names, parts, strict=True)]


def t5_of(tensors: Tensors) -> dict[str, Any]:
    """The configuration of a `T5EncoderModel` of version 1.1, from its arrays by the names of transformers.

    Raises:
      ValueError: an array is missing.
    """
    inside = "encoder.block.0.layer.0.SelfAttention"
    table, query = array_of(tensors, "shared.weight", 2), array_of(tensors, f"{inside}.q.weight", 2)
    distances = array_of(tensors, f"{inside}.relative_attention_bias.weight", 2)
    blocks = [int(found[1]) for name in tensors if (found := re.match(r"encoder\.block\.(\d+)\.", name))]
    heads = max(1, distances.shape[1])
    return {
        "model_type": "t5",
        "vocab_size": len(table),
        "d_model": table.shape[1],
        "d_kv": max(1, len(query) // heads),
        "d_ff": len(array_of(tensors, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")),
        "num_layers": max(blocks) + 1,
        "num_heads": heads,
        "relative_attention_num_buckets": len(distances),
        "feed_forward_proj": "gated-gelu",
    }
