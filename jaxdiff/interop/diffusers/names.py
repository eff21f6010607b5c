"""The names of arrays that the U-Nets and the autoencoders of diffusers share."""

import re
from collections.abc import Mapping

import numpy as np

# The last word of a name: ours, and that of diffusers.
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "embedding": "weight"}
# The layers of a residual block.
RESIDUAL = {
    "norm_in": "norm1", "conv_in": "conv1", "embedding": "time_emb_proj", "norm_out": "norm2", "conv_out": "conv2",
    "shortcut": "conv_shortcut",
}  # fmt: skip
# The layers of self-attention.
ATTENTION = {"norm": ("group_norm",), "qkv": ("to_q", "to_k", "to_v"), "out": ("to_out.0",)}


def renamed(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with the present names of attention layers; old files have others."""
    old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    pattern = re.compile(r"(?<=attentions\.)(\d+)\.(query|key|value|proj_attn)\.(weight|bias)$")
    return {pattern.sub(lambda m: f"{m[1]}.{old[m[2]]}.{m[3]}", name): array for name, array in tensors.items()}
