"""`DiTTransformer2DModel` of diffusers as `networks.DiT` and back, and `SD3Transformer2DModel` as `networks.MMDiT`."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import message, require
from jaxdiff.interop.diffusers.settings import LARGEST_PICTURE, MOST, Settings
from jaxdiff.interop.layout import Layout, to_foreign
from jaxdiff.networks import DiT, LearnedPositions, MMDiT, SinCosPositions, Sinusoidal

_EMBEDDERS = "transformer_blocks.0.norm1.emb"
_TABLE = "pos_embed.pos_embed"
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "embedding": "weight"}
_FEED_FORWARD = {"in": "net.0.proj", "out": "net.2"}
# Stored tables in half precision differ from the sines and cosines by this much at most.
_TOLERANCE = 1e-3


def dit(config: Mapping[str, Any]) -> DiT:
    """The network of the `config.json` of a `DiTTransformer2DModel`, without its condition.

    Raises:
      ValueError: the configuration has a value that ours does not.
    """
    settings = Settings(config)
    settings.known("_class_name", ("DiTTransformer2DModel",), "DiTTransformer2DModel")
    heads = settings.length("num_attention_heads", 16)
    patch = settings.length("patch_size", 2)
    settings.known("activation_fn", ("gelu-approximate",), "gelu-approximate")
    settings.known("attention_bias", (True,), True)
    settings.known("norm_type", ("ada_norm_zero",), "ada_norm_zero")
    settings.known("norm_elementwise_affine", (False,), False)
    settings.length("num_embeds_ada_norm", 1000)
    channels = settings.length("in_channels", 4)
    dropout = settings.number("dropout", 0.0)
    if not 0 <= dropout < 1:
        raise settings.refuse("dropout", "numbers from 0 to below 1")
    network = DiT(
        width=_width(settings, heads, 72),
        depth=settings.length("num_layers", 28),
        heads=heads,
        patch=(patch,),
        embedding=Sinusoidal(cos_first=True),
        positions=SinCosPositions(base=(_grid(settings, patch, 32),)),
        norm_eps=1e-6,
        feed_forward_norm_eps=settings.number("norm_eps", 1e-5),
        dropout=dropout,
        out_channels=channels if settings.get("out_channels") is None else settings.length("out_channels"),
    )
    settings.finish(("norm_num_groups", "upcast_attention"))
    return network


def dit_tensors(tensors: Mapping[str, np.ndarray], depth: int) -> dict[str, np.ndarray]:
    """The arrays of a `DiTTransformer2DModel` with the embedders of its first block alone.

    Raises:
      ValueError: a block has other embedders than the first one.
    """
    left = dict(tensors)
    left.pop(_TABLE, None)  # old files hold the sines and cosines
    for first in [name for name in tensors if name.startswith(f"{_EMBEDDERS}.")]:
        for i in range(1, depth):
            name = first.replace("blocks.0.", f"blocks.{i}.", 1)
            equal = name in left and np.array_equal(left.pop(name), tensors[first])
            require(equal, name, "other numbers", "those of the first block: our DiT embeds time and class once")
    return left


def dit_layout() -> Layout:
    """The names in diffusers of the arrays of a `DiT` that is told a class."""
    whole = {
        "patch_in": "pos_embed.proj",
        "conditioning.time_in": f"{_EMBEDDERS}.timestep_embedder.linear_1",
        "conditioning.time_out": f"{_EMBEDDERS}.timestep_embedder.linear_2",
        "conditioning.label_table": f"{_EMBEDDERS}.class_embedder.embedding_table",
        "out.modulation.dense": "proj_out_1",
        "out.dense": "proj_out_2",
    }
    inside = {
        "modulation.dense": ("norm1.linear",),
        "attention.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        "attention.out": ("attn1.to_out.0",),
        **{f"feed_forward.{ours}": (f"ff.{theirs}",) for ours, theirs in _FEED_FORWARD.items()},
    }
    return _layout(whole, inside, {"layers": 0})


def write_dit(network: DiT, params: PyTree, size: int, channels: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The `config.json` and the arrays of a `DiTTransformer2DModel` that equals a DiT.

    Args:
      network: the network, which is told one class under the name `label`.
      params: its parameters.
      size: the height and width of its input.
      channels: the channels of its input.

    Raises:
      ValueError: the network has a setting that `DiTTransformer2DModel` does not.
    """
    told = [(name, spec.channel) for name, spec in network.specs]
    require(told == [("label", "class")], "conditions of the network", told, "one class with the name 'label'")
    eps = network.norm_eps if network.feed_forward_norm_eps is None else network.feed_forward_norm_eps
    out = channels if network.out_channels is None else network.out_channels
    config = {
        "_class_name": "DiTTransformer2DModel",
        "num_attention_heads": network.heads,
        "attention_head_dim": network.width // network.heads,
        "in_channels": channels,
        "out_channels": out,
        "num_layers": network.depth,
        "dropout": network.dropout,
        "attention_bias": True,
        "sample_size": size,
        "patch_size": network.patch[0],
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": network.specs[0][1].classes,
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
        "norm_eps": eps,
    }
    same = dit(config)
    free = {"parent", "name", "specs", *DiT.free}
    # Positions that span the grid are those of a base of the size of the grid.
    grid = size // network.patch[0]
    positions = network.positions if network.positions != SinCosPositions() else SinCosPositions(base=(grid,))
    written = network.clone(
        feed_forward_norm_eps=eps, out_channels=out, positions=positions, patch=network.patch[:1], dtype=None
    )
    for name in DiT.__dataclass_fields__:
        if name not in free and getattr(written, name) != getattr(same, name):
            allowed = f"{getattr(same, name)!r}, as DiTTransformer2DModel has it"
            raise ValueError(message(f"network.{name}", getattr(network, name), allowed))
    tensors = to_foreign(params, dit_layout())
    for name in [name for name in tensors if name.startswith(f"{_EMBEDDERS}.")]:
        for i in range(1, network.depth):
            tensors[name.replace("blocks.0.", f"blocks.{i}.", 1)] = tensors[name]
    return config, tensors


def mmdit(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> tuple[MMDiT, dict[str, np.ndarray]]:
    """The network of a `SD3Transformer2DModel`, without its conditions, and the arrays for `mmdit_layout`.

    Its conditions are the tokens `text` and the vector `pooled`. Stored positions that are sines and cosines are left
    out. Others are parameters.

    Raises:
      ValueError: the configuration has a value that ours does not.
    """
    settings = Settings(config)
    settings.known("_class_name", ("SD3Transformer2DModel",), "SD3Transformer2DModel")
    heads, depth = settings.length("num_attention_heads", 18), settings.length("num_layers", 18)
    width = _width(settings, heads, 64)
    patch = settings.length("patch_size", 2)
    table = settings.length("pos_embed_max_size", 96)
    if settings.length("caption_projection_dim", 1152) != width:
        raise settings.refuse("caption_projection_dim", f"{width}, the width of the heads together")
    dual = settings.get("dual_attention_layers") or ()
    if not isinstance(dual, list | tuple) or list(dual) != list(range(len(dual))) or len(dual) >= depth:
        raise settings.refuse("dual_attention_layers", f"the numbers from 0 to fewer than {depth - 1}, in order")
    settings.length("joint_attention_dim", 4096)
    settings.length("pooled_projection_dim", 2048)
    settings.length("in_channels", 16)
    sines = SinCosPositions(base=(_grid(settings, patch, 128),), table=(table,))
    positions: SinCosPositions | LearnedPositions = sines
    left = dict(tensors)
    if (stored := left.pop(_TABLE, None)) is not None:
        shape = (table, table, width)
        good = stored.size == table * table * width
        require(good, f"shape of {_TABLE}", stored.shape, f"(1, {table * table}, {width})")
        stored = stored.reshape(shape)
        if not np.allclose(stored, sines(MMDiT(), shape[:2], width), rtol=0, atol=_TOLERANCE):
            positions, left[_TABLE] = LearnedPositions((table,)), stored
    network = MMDiT(
        width=width,
        depth=depth,
        heads=heads,
        patch=(patch,),
        dual_depth=len(dual),
        qk_norm=settings.known("qk_norm", (None, "rms_norm"), None) is not None,
        positions=positions,
        out_channels=settings.length("out_channels", 16),
    )
    settings.finish(())
    for name in ("norm_out.linear", f"transformer_blocks.{depth - 1}.norm1_context.linear"):
        for leaf in ("weight", "bias"):
            if (array := left.get(f"{name}.{leaf}")) is not None:
                left[f"{name}.{leaf}"] = _shift_first(array)
    return network, left


def mmdit_layout(network: MMDiT) -> Layout:
    """The names in diffusers of the arrays of an `MMDiT` that is told the tokens `text` and the vector `pooled`."""
    whole = {
        "positions": _TABLE,
        "patch_in": "pos_embed.proj",
        "conditioning.time_in": "time_text_embed.timestep_embedder.linear_1",
        "conditioning.time_out": "time_text_embed.timestep_embedder.linear_2",
        "conditioning.pooled.in": "time_text_embed.text_embedder.linear_1",
        "conditioning.pooled.out": "time_text_embed.text_embedder.linear_2",
        "context.text": "context_embedder",
        "out.modulation.dense": "norm_out.linear",
        "out.dense": "proj_out",
    }
    inside = {
        "modulation.dense": ("norm1.linear",),
        "context_modulation.dense": ("norm1_context.linear",),
        "qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "context_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "out": ("attn.to_out.0",),
        "context_out": ("attn.to_add_out",),
        "query_norm": ("attn.norm_q",),
        "key_norm": ("attn.norm_k",),
        "context_query_norm": ("attn.norm_added_q",),
        "context_key_norm": ("attn.norm_added_k",),
        "dual_attention.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
        "dual_attention.out": ("attn2.to_out.0",),
        "dual_attention.query_norm": ("attn2.norm_q",),
        "dual_attention.key_norm": ("attn2.norm_k",),
        **{f"feed_forward.{ours}": (f"ff.{theirs}",) for ours, theirs in _FEED_FORWARD.items()},
        **{f"context_feed_forward.{ours}": (f"ff_context.{theirs}",) for ours, theirs in _FEED_FORWARD.items()},
    }
    return _layout(whole, inside, {"dual_layers": 0, "layers": network.dual_depth, "last_layer": network.depth - 1})


def _width(settings: Settings, heads: int, default: int) -> int:
    """The width of all heads together."""
    width = heads * settings.length("attention_head_dim", default)
    if width > MOST:
        raise settings.refuse("attention_head_dim", f"integers from 1 to {MOST // heads} with {heads} heads")
    return width


def _grid(settings: Settings, patch: int, default: int) -> int:
    """The number of patches to a side of the input of a configuration."""
    size = settings.length("sample_size", default)
    if size % patch or size > LARGEST_PICTURE:
        raise settings.refuse("sample_size", f"multiples of the patch {patch} up to {LARGEST_PICTURE}")
    return size // patch


def _layout(whole: Mapping[str, str], inside: Mapping[str, tuple[str, ...]], first: Mapping[str, int]) -> Layout:
    """The layout of a transformer.

    Args:
      whole: the names there of the layers outside of blocks.
      inside: the names there of the layers of a block.
      first: the number there of the first block of a stack here.
    """

    def names(name: str) -> tuple[str, ...]:
        path, _, leaf = name.rpartition(".")
        if name in whole:
            return (whole[name],)
        if path in whole:
            return (f"{whole[path]}.{_LEAVES[leaf]}",)
        found = re.fullmatch(r"(\w*layers?)\.(?:(\d+)\.)?(.+)", path)
        if found and found[1] in first and found[3] in inside:
            block = f"transformer_blocks.{first[found[1]] + int(found[2] or 0)}"
            return tuple(f"{block}.{part}.{_LEAVES[leaf]}" for part in inside[found[3]])
        raise ValueError(f"the transformer has a layer without a place in diffusers: {path}")

    return names


def _shift_first(array: np.ndarray) -> np.ndarray:
    """A layer that gives a scale and then a shift, as one that gives the shift first."""
    return np.concatenate(np.split(array, 2)[::-1]) if array.ndim and len(array) % 2 == 0 else array
