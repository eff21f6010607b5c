"""`UNet2DModel` and `UNet2DConditionModel` of diffusers as `networks.UNet`, and the former back."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from jaxdiff.interop.diffusers.names import ATTENTION, LEAVES, RESIDUAL
from jaxdiff.interop.diffusers.settings import Settings
from jaxdiff.interop.layout import Layout, to_foreign
from jaxdiff.networks import Fourier, Sinusoidal, UNet
from jaxdiff.networks.layers.norms import group_count

# Entries that say nothing about the network itself, or that training of diffusers alone reads.
_IGNORED = ("sample_size", "in_channels", "upcast_attention", "num_train_timesteps", "addition_embed_type_num_heads")
_DOWN = {"DownBlock2D": False, "AttnDownBlock2D": True, "CrossAttnDownBlock2D": True}
_UP = {"UpBlock2D": False, "AttnUpBlock2D": True, "CrossAttnUpBlock2D": True}


def unet(config: Mapping[str, Any]) -> UNet:
    """The network of a `config.json`, without its conditions.

    Raises:
      ValueError: the configuration has a value that ours does not.
    """
    settings = Settings(config)
    kind = settings.known("_class_name", ("UNet2DModel", "UNet2DConditionModel"), "UNet2DModel")
    conditional = kind == "UNet2DConditionModel"
    widths = settings.lengths("block_out_channels", (320, 640, 1280, 1280) if conditional else (224, 448, 672, 896))
    if any(width % widths[0] for width in widths):
        raise settings.refuse("block_out_channels", "lists of multiples of their first number")
    downs = settings.kinds("down_block_types")
    levels = len(widths)
    if len(downs) != levels or set(downs) - {*_DOWN}:
        raise settings.refuse("down_block_types", f"{levels} of {', '.join(_DOWN)}")
    attention = tuple(level for level, name in enumerate(downs) if _DOWN[name])
    ups = settings.kinds("up_block_types")
    if [_UP.get(name) for name in reversed(ups)] != [_DOWN[name] for name in downs]:
        raise settings.refuse("up_block_types", "the kinds of down_block_types in reverse order")
    settings.known("act_fn", ("silu", "swish"), "silu")
    settings.known("center_input_sample", (False,), False)
    settings.known("mid_block_scale_factor", (1,), 1)
    settings.known("time_embedding_type", ("positional",), "positional")
    per_level = settings.get("layers_per_block", 2)
    options: dict[str, Any] = {}
    if conditional:
        options |= _attention_of_conditional(settings, levels)
        settings.known("mid_block_type", ("UNetMidBlock2DCrossAttn",), "UNetMidBlock2DCrossAttn")
        settings.known("addition_embed_type", (None, "text_time"), None)
        settings.known("conv_in_kernel", (3,), 3)
        settings.known("conv_out_kernel", (3,), 3)
        settings.known("resnet_out_scale_factor", (1,), 1)
    else:
        heads = settings.get("attention_head_dim", 8)
        options |= {"head_channels": heads, "mid_attention": bool(settings.get("add_attention", True))}
        settings.known("downsample_type", ("conv",), "conv")
        settings.known("upsample_type", ("conv",), "conv")
        settings.known("mid_block_type", ("UNetMidBlock2D",), "UNetMidBlock2D")
        # Without this entry, the attention at the bottom has a norm only if blocks are not scaled and shifted.
        plain = settings.get("resnet_time_scale_shift", "default") == "default"
        groups = settings.get("norm_num_groups", 32)
        settings.known("attn_norm_num_groups", (groups, None) if plain else (groups,), None)
    cos_first = bool(settings.get("flip_sin_to_cos", True))
    endpoint = settings.known("freq_shift", (0, 1), 0) == 1
    padding = settings.known("downsample_padding", (0, 1), 1)
    network = UNet(
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        num_blocks=tuple(per_level) if isinstance(per_level, list) else per_level,
        attention_levels=attention,
        embedding=Sinusoidal(cos_first=cos_first, endpoint=endpoint),
        scale_shift=settings.known("resnet_time_scale_shift", ("default", "scale_shift"), "default") == "scale_shift",
        dropout=settings.number("dropout", 0.0),
        downsample_padding="same" if padding == 0 else "symmetric",
        norm_groups=settings.length("norm_num_groups", 32),
        norm_eps=settings.number("norm_eps", 1e-5),
        out_channels=settings.length("out_channels", 4 if conditional else 3),
        **options,
    )
    settings.known("class_embed_type", (None,), None)
    settings.finish((*_IGNORED, "add_attention", "num_class_embeds", "attention_type"))
    return network


def _attention_of_conditional(settings: Settings, levels: int) -> dict[str, Any]:
    """The settings of attention of `UNet2DConditionModel`, whose `attention_head_dim` is a number of heads."""

    def each(name: str, default: Any) -> tuple[int, ...]:
        value = settings.get(name, default)
        if type(value) is int:
            return (value,) * levels
        good = isinstance(value, list) and len(value) == levels and all(type(one) is int for one in value)
        if not good:
            raise settings.refuse(name, f"an integer or {levels} integers, one per level")
        return tuple(value)

    heads = each("attention_head_dim", 8)
    if settings.get("num_attention_heads") is not None:
        heads = each("num_attention_heads", 8)
    depths = each("transformer_layers_per_block", 1)
    settings.length("cross_attention_dim", 1280)
    settings.get("use_linear_projection")  # a dense layer and a convolution with a window of one are the same
    settings.known("only_cross_attention", (False,), False)
    settings.known("dual_cross_attention", (False,), False)
    vectors: dict[str, Any] = {}
    if settings.get("addition_embed_type") == "text_time":
        settings.length("addition_time_embed_dim")
        settings.length("projection_class_embeddings_input_dim")
        vectors = {"vectors": "output"}
    return {"heads": heads, "transformer_depths": depths, **vectors}


def layout(levels: int, context: bool = False) -> Layout:
    """The names in diffusers of the arrays of a U-Net.

    Args:
      levels: the number of levels.
      context: whether the attention layers are transformers that read tokens.
    """
    whole = {
        "conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out",
        "conditioning.time_in": "time_embedding.linear_1", "conditioning.time_out": "time_embedding.linear_2",
        "conditioning.vector_in": "add_embedding.linear_1", "conditioning.vector_out": "add_embedding.linear_2",
        "conditioning.label_table": "class_embedding",
    }  # fmt: skip
    transformer = {
        "norm": ("norm",), "in": ("proj_in",), "out": ("proj_out",),
        "norm_self": ("norm1",), "norm_cross": ("norm2",), "norm_in": ("norm3",),
        "self.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"), "self.out": ("attn1.to_out.0",),
        "cross.query": ("attn2.to_q",), "cross.key_value": ("attn2.to_k", "attn2.to_v"),
        "cross.out": ("attn2.to_out.0",), "block.in": ("ff.net.0.proj",), "block.out": ("ff.net.2",),
    }  # fmt: skip

    def place(where: str, kind: str, number: str) -> str:
        """The place of a layer of a level."""
        if where == "mid":
            return f"mid_block.{kind}s.{number}"
        side, level = where.split("_")
        block = int(level) if side == "down" else levels - 1 - int(level)
        return f"{side}_blocks.{block}.{kind}s.{number}"

    def names(name: str) -> tuple[str, ...]:
        path, leaf = name.rsplit(".", 1)
        ending = LEAVES[leaf]
        if path in whole:
            return (f"{whole[path]}.{ending}",)
        if found := re.fullmatch(r"(mid|down_\d+|up_\d+)_block_(\d+)\.(\w+)", path):
            return (f"{place(found[1], 'resnet', found[2])}.{RESIDUAL[found[3]]}.{ending}",)
        if found := re.fullmatch(r"(down|up)_(\d+)_resample", path):
            return (f"{place(f'{found[1]}_{found[2]}', f'{found[1]}sampler', '0')}.conv.{ending}",)
        if found := re.fullmatch(r"(mid|down_\d+|up_\d+)_attention(?:_(\d+))?\.(?:block_(\d+)\.)?(.+)", path):
            where, inside = place(found[1], "attention", found[2] or "0"), found[4]
            if not context:
                return tuple(f"{where}.{part}.{ending}" for part in ATTENTION[inside])
            if found[3] is None:
                return tuple(f"{where}.{part}.{ending}" for part in transformer[inside])
            own = f"block.{inside}" if inside in ("in", "out") else inside
            return tuple(f"{where}.transformer_blocks.{found[3]}.{part}.{ending}" for part in transformer[own])
        raise ValueError(f"the U-Net has a layer without a place in diffusers: {path}")

    return names


def write_unet(network: UNet, params: PyTree, size: int, channels: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The `config.json` and the arrays of a `UNet2DModel` that equals a U-Net without conditions.

    Args:
      network: the network.
      params: its parameters.
      size: the height and width of its pictures.
      channels: the channels of its input.

    Raises:
      ValueError: the network has a setting that `UNet2DModel` does not.
    """
    plain = UNet().clone(
        channels=network.channels, multipliers=network.multipliers, num_blocks=network.num_blocks,
        attention_levels=network.attention_levels, mid_attention=network.mid_attention,
        head_channels=network.head_channels, embedding=network.embedding, scale_shift=network.scale_shift,
        dropout=network.dropout, downsample_padding=network.downsample_padding, norm_groups=network.norm_groups,
        norm_eps=network.norm_eps, out_channels=network.out_channels, remat=network.remat, dtype=network.dtype,
    )  # fmt: skip
    for name in UNet.__dataclass_fields__:
        if name not in ("parent", "name") and getattr(network, name) != getattr(plain, name):
            allowed = f"{getattr(plain, name)!r}, as UNet2DModel has it"
            raise ValueError(f"network.{name} = {getattr(network, name)!r}; allowed are {allowed}")
    embedding = network.embedding
    if isinstance(embedding, Fourier) or getattr(embedding, "max_period", 1e4) != 1e4:
        raise ValueError(f"network.embedding = {embedding!r}; allowed are Sinusoidal with its max_period")
    assert isinstance(embedding, Sinusoidal)
    widths = [network.channels * multiplier for multiplier in network.multipliers]
    attends = [level in network.attention_levels for level in range(len(widths))]
    groups = network.norm_groups
    if groups is None:  # the rule of `group_count`, where it gives the same number at every level
        counts = {group_count(width, None) for width in widths}
        if len(counts) > 1:
            raise ValueError(f"network.norm_groups = None; allowed are numbers, as the widths {widths} have several")
        groups = counts.pop()
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels if network.out_channels is None else network.out_channels,
        "block_out_channels": widths,
        "layers_per_block": network.num_blocks,
        "down_block_types": ["AttnDownBlock2D" if attending else "DownBlock2D" for attending in attends],
        "up_block_types": ["AttnUpBlock2D" if attending else "UpBlock2D" for attending in reversed(attends)],
        "add_attention": network.mid_attention,
        "attention_head_dim": network.head_channels,
        "time_embedding_type": "positional",
        "flip_sin_to_cos": embedding.cos_first,
        "freq_shift": int(embedding.endpoint),
        "downsample_padding": 0 if network.downsample_padding == "same" else 1,
        "resnet_time_scale_shift": "scale_shift" if network.scale_shift else "default",
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups,
        "norm_eps": network.norm_eps,
        "dropout": network.dropout,
        "act_fn": "silu",
        "center_input_sample": False,
        "mid_block_scale_factor": 1,
    }

    def window(name: str) -> tuple[int, ...]:
        return (1, 1) if "conv_shortcut" in name else ()

    return config, to_foreign(params, layout(len(widths)), window)
