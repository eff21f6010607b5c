"""The names of the program of latent diffusion, in which Stable Diffusion was published, as those of diffusers.

Such a file has no configurations. Widths and numbers of layers are read from the shapes of its arrays. The numbers of
heads and groups, which no shape tells, are those of Stable Diffusion 1 (Rombach et al. 2022, arXiv 2112.10752) and XL
(Podell et al. 2023, arXiv 2307.01952).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.checks import require
from jaxdiff.interop.tensors import array_of

Tensors = Mapping[str, np.ndarray]
_UNET = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
}
_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_AUTOENCODER = {
    "mid.block_1": "mid_block.resnets.0",
    "mid.block_2": "mid_block.resnets.1",
    "mid.attn_1": "mid_block.attentions.0",
    "norm_out": "conv_norm_out",
}
_INSIDE_AUTOENCODER = {"nin_shortcut": "conv_shortcut", "norm": "group_norm", "proj_out": "to_out.0"}
_INSIDE_AUTOENCODER |= {"q": "to_q", "k": "to_k", "v": "to_v"}
# The layers of OpenCLIP by their names in transformers.
_OPEN_CLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_HEADS, _HEAD_WIDTH, _SIZES = 8, 64, 256


def unet_of(tensors: Tensors) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the arrays of a `UNet2DConditionModel`, from arrays without `model.diffusion_model.`.

    A network that is told sizes is that of Stable Diffusion XL, and any other that of Stable Diffusion 1.

    Raises:
      ValueError: an array is missing, or has no place.
    """
    places, widths, depths, counts = dict(_UNET), [0], [0], [0]
    for i in range(1, _count(tensors, r"input_blocks\.(\d+)\.")):
        block, level = f"input_blocks.{i}", len(widths) - 1
        if f"{block}.0.op.weight" in tensors:
            places[f"{block}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            widths, depths, counts = [*widths, 0], [*depths, 0], [*counts, 0]
            continue
        places[f"{block}.0"] = f"down_blocks.{level}.resnets.{counts[-1]}"
        places[f"{block}.1"] = f"down_blocks.{level}.attentions.{counts[-1]}"
        widths[-1] = len(array_of(tensors, f"{block}.0.out_layers.3.weight"))
        depths[-1] = max(depths[-1], _count(tensors, re.escape(block) + r"\.1\.transformer_blocks\.(\d+)\."))
        counts[-1] += 1
    for i in range(_count(tensors, r"output_blocks\.(\d+)\.")):
        level, number = divmod(i, counts[0] + 1)
        places[f"output_blocks.{i}.0"] = f"up_blocks.{level}.resnets.{number}"
        places[f"output_blocks.{i}.1"] = f"up_blocks.{level}.attentions.{number}"
        for place in (1, 2):
            if f"output_blocks.{i}.{place}.conv.weight" in tensors:
                places[f"output_blocks.{i}.{place}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    reads = [name for name in tensors if name.endswith("attn2.to_k.weight")]
    require(reads, "arrays of the U-Net", "none that reads text", "those of Stable Diffusion")
    told_sizes = "label_emb.0.0.weight" in tensors
    config = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128 if told_sizes else 64,
        "in_channels": array_of(tensors, "input_blocks.0.0.weight", 4).shape[1],
        "out_channels": len(array_of(tensors, "out.2.weight")),
        "block_out_channels": widths,
        "layers_per_block": counts[0],
        "down_block_types": ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(depths)],
        "attention_head_dim": _HEADS,
        "cross_attention_dim": array_of(tensors, reads[0], 2).shape[1],
    }
    if told_sizes:
        config |= {
            "attention_head_dim": [max(1, width // _HEAD_WIDTH) for width in widths],
            "transformer_layers_per_block": [max(1, depth) for depth in depths],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _SIZES,
            "projection_class_embeddings_input_dim": array_of(tensors, "label_emb.0.0.weight", 2).shape[1],
        }
    return config, {_renamed(name, places, _RESIDUAL): array for name, array in tensors.items()}


def autoencoder_of(
    tensors: Tensors, scale: float, shift: float | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the arrays of an `AutoencoderKL`, from arrays without `first_stage_model.`.

    `scale` and `shift` are the factor and the mean of the latents, which no array tells.

    Raises:
      ValueError: an array is missing, or has no place.
    """
    tensors = {name: array for name, array in tensors.items() if not name.startswith("loss.")}
    levels = _count(tensors, r"encoder\.down\.(\d+)\.")
    layers = _count(tensors, r"encoder\.down\.0\.block\.(\d+)\.")
    projected = "quant_conv.weight" in tensors or "post_quant_conv.weight" in tensors
    config = {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [
            len(array_of(tensors, f"encoder.down.{level}.block.0.conv2.weight")) for level in range(levels)
        ],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": layers,
        "in_channels": array_of(tensors, "encoder.conv_in.weight", 4).shape[1],
        "out_channels": len(array_of(tensors, "decoder.conv_out.weight")),
        "latent_channels": array_of(tensors, "decoder.conv_in.weight", 4).shape[1],
        "use_quant_conv": projected,
        "use_post_quant_conv": projected,
        "shift_factor": shift,
        "scaling_factor": scale,
    }
    places = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        places |= {f"{half}.{theirs}": f"{half}.{name}" for theirs, name in _AUTOENCODER.items()}
        places |= {f"{half}.{name}": f"{half}.{name}" for name in ("conv_in", "conv_out")}
    for level in range(levels):
        places[f"encoder.down.{level}.downsample"] = f"encoder.down_blocks.{level}.downsamplers.0"
        places[f"decoder.up.{level}.upsample"] = f"decoder.up_blocks.{levels - 1 - level}.upsamplers.0"
        for i in range(layers + 1):
            places[f"encoder.down.{level}.block.{i}"] = f"encoder.down_blocks.{level}.resnets.{i}"
            places[f"decoder.up.{level}.block.{i}"] = f"decoder.up_blocks.{levels - 1 - level}.resnets.{i}"
    return config, {_renamed(name, places, _INSIDE_AUTOENCODER): array for name, array in tensors.items()}


def clip_of(tensors: Tensors) -> dict[str, Any]:
    """The configuration of a `CLIPTextModel`, from its arrays by the names of transformers.

    Raises:
      ValueError: an array is missing.
    """
    table = array_of(tensors, "text_model.embeddings.token_embedding.weight", 2)
    return {
        "model_type": "clip_text_model",
        "vocab_size": len(table),
        "hidden_size": table.shape[1],
        "num_hidden_layers": _count(tensors, r"text_model\.encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(1, table.shape[1] // _HEAD_WIDTH),
        "max_position_embeddings": len(array_of(tensors, "text_model.embeddings.position_embedding.weight")),
        "intermediate_size": len(array_of(tensors, "text_model.encoder.layers.0.mlp.fc1.weight")),
        "hidden_act": "quick_gelu",
        "eos_token_id": len(table) - 1,
    }


def open_clip_of(tensors: Tensors) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the arrays of a `CLIPTextModelWithProjection`, from those of OpenCLIP's text encoder.

    Raises:
      ValueError: an array is missing, has another shape, or has no place.
    """
    table, projection = array_of(tensors, "token_embedding.weight", 2), array_of(tensors, "text_projection", 2)
    found = {
        "text_model.embeddings.token_embedding.weight": table,
        "text_model.embeddings.position_embedding.weight": array_of(tensors, "positional_embedding", 2),
        "text_model.final_layer_norm.weight": array_of(tensors, "ln_final.weight"),
        "text_model.final_layer_norm.bias": array_of(tensors, "ln_final.bias"),
        "text_projection.weight": projection.T,
    }
    whole = {"token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection"}
    for name, array in tensors.items():
        if name in whole or name in ("logit_scale", "attn_mask"):
            continue
        parts = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", name)
        layer = f"text_model.encoder.layers.{parts[1]}" if parts else ""
        if parts and parts[2] == "attn.in_proj":
            thirds = len(array) % 3 == 0 if array.ndim else False
            require(thirds, f"shape of {name}", array.shape, "[3 width, ...]: queries, keys and values")
            for part, values in zip("qkv", np.split(array, 3), strict=True):
                found[f"{layer}.self_attn.{part}_proj.{parts[3]}"] = values
        elif parts and parts[2] in _OPEN_CLIP:
            found[f"{layer}.{_OPEN_CLIP[parts[2]]}.{parts[3]}"] = array
        else:
            raise ValueError(f"the weights have an array without a place in the text encoder: {name!r}")
    return clip_of(found) | {"hidden_act": "gelu", "projection_dim": projection.shape[1]}, found


def _count(tensors: Tensors, pattern: str) -> int:
    """One more than the largest number in names."""
    return max((int(found[1]) + 1 for name in tensors if (found := re.match(pattern, name))), default=0)


def _renamed(name: str, places: Mapping[str, str], inside: Mapping[str, str]) -> str:
    """The name in diffusers of an array, by the longest beginning that has a place."""
    words = name.split(".")
    for length in range(len(words) - 1, 0, -1):
        place = places.get(".".join(words[:length]))
        if place is not None:
            middle = ".".join(words[length:-1])
            return ".".join(filter(None, (place, inside.get(middle, middle), words[-1])))
    raise ValueError(f"the weights have an array without a place in the network: {name!r}")
