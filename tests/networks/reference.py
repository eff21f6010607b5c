"""Layers of networks in NumPy, written from the papers with loops over examples and heads."""

import jax
import numpy as np
from scipy.special import erf


def in_float64(variables):
    """The parameters of a layer."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)["params"]


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def group_norm(p, x, groups, eps):
    out = np.empty_like(x)
    for example in range(len(x)):
        for members in np.array_split(np.arange(x.shape[-1]), groups):
            part = x[example][..., members]
            out[example][..., members] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return out * p["scale"] + p["bias"]


def layer_norm(p, x, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + eps) * p["scale"] + p["bias"]


def attention(query, key, value, visible, size):
    """One example and one head after the other: `[batch, n, width]` with heads of `size` channels."""
    out = np.zeros_like(query)
    for example in range(len(query)):
        for first in range(0, query.shape[-1], size):
            head = slice(first, first + size)
            keys, values = (a[example][visible[example]][:, head] for a in (key, value))
            logits = query[example][:, head] @ keys.T / np.sqrt(size)
            weights = np.exp(logits - logits.max(1, keepdims=True))
            out[example][:, head] = weights / weights.sum(1, keepdims=True) @ values
    return out
