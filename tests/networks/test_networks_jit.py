"""JiT against a reading of its paper and code in NumPy: the loop over blocks, tokens, rotations and patches."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.networks import JiT
from jaxdiff.networks.module import Spec

WIDTH, DEPTH, HEADS, PATCH, START, TOKENS, EPS = 16, 3, 2, 2, 1, 3, 1e-6


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def silu(x):
    return x / (1 + np.exp(-x))


def rms(p, x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * p["scale"]


def sincos(position, entries):
    phase = position / 10_000 ** (2 * np.arange(entries // 2) / entries)
    return np.concatenate([np.sin(phase), np.cos(phase)])


def rotation(row, column, channels):
    """A matrix that rotates the pairs of one head: first those of the rows, then those of the columns."""
    half = channels // 2
    angles = [p / 10_000 ** (2 * i / half) for p in (row, column) for i in range(half // 2)]
    matrix = np.zeros((channels, channels))
    for i, a in enumerate(angles):
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return matrix


def attention(p, x, rotations):
    n, c = len(x), WIDTH // HEADS
    query, key, value = np.split(dense(p["qkv"], x), 3, -1)
    out = np.zeros((n, WIDTH))
    for h in range(HEADS):
        head = slice(h * c, (h + 1) * c)
        q, k = rms(p["query_norm"], query[:, head]), rms(p["key_norm"], key[:, head])
        q, k = (
            np.stack([r @ a for r, a in zip(rotations, q, strict=True)]),
            np.stack([r @ a for r, a in zip(rotations, k, strict=True)]),
        )
        weights = np.exp(q @ k.T / np.sqrt(c))
        out[:, head] = weights / weights.sum(-1, keepdims=True) @ value[:, head]
    return dense(p["out"], out)


def block(p, x, c, rotations):
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = np.split(dense(p["modulation"]["dense"], silu(c)), 6)
    x = x + gate_1 * attention(p["attention"], rms(p["attention_norm"], x) * (1 + scale_1) + shift_1, rotations)
    a, b = np.split(dense(p["feed_forward"]["in"], rms(p["feed_forward_norm"], x) * (1 + scale_2) + shift_2), 2, -1)
    return x + gate_2 * dense(p["feed_forward"]["out"], silu(a) * b)


def network(p, picture, t, label):
    """One picture `[height, width, channels]`."""
    height, width, channels = picture.shape
    phase = t / 10_000 ** (np.arange(4) / 4)
    time = dense(p["conditioning"]["time_in"], np.concatenate([np.cos(phase), np.sin(phase)]))
    y = p["conditioning"]["label_table"]["embedding"][label]
    c = dense(p["conditioning"]["time_out"], silu(time)) + y
    places = list(np.ndindex(height // PATCH, width // PATCH))
    tokens, rotations = [], []
    for row, column in places:
        patch = picture[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
        token = dense(p["bottleneck_in"], np.einsum("ijc,ijcd->d", patch, p["patch_in"]["kernel"]))
        tokens.append(token + np.concatenate([sincos(column, WIDTH // 2), sincos(row, WIDTH // 2)]))
        rotations.append(rotation(row, column, WIDTH // HEADS))
    x = np.stack(tokens)
    for i in range(DEPTH):
        if i == START:
            x = np.concatenate([y + p["context_positions"], x])
            rotations = [np.eye(WIDTH // HEADS)] * TOKENS + rotations
        name, j = ("early_layers", i) if i < START else ("layers", i - START)
        x = block(jax.tree.map(lambda leaf, j=j: leaf[j], p[name]), x, c, rotations)
    shift, scale = np.split(dense(p["out"]["modulation"]["dense"], silu(c)), 2)
    x = dense(p["out"]["dense"], rms(p["out"]["norm"], x[TOKENS:]) * (1 + scale) + shift)
    out = np.zeros(picture.shape)
    for (row, column), values in zip(places, x, strict=True):
        out[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = values.reshape(
            PATCH, PATCH, channels
        )
    return out


def test_jit_is_its_formula(random_variables):
    net = JiT(
        width=WIDTH,
        depth=DEPTH,
        heads=HEADS,
        patch=(PATCH,),
        bottleneck=5,
        context_tokens=TOKENS,
        context_start=START,
        embedding_features=8,
    ).given({"label": Spec("class", classes=4)})
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 3))
    time, label = np.array([0.2, 0.9]), np.array([1, 4])
    variables = random_variables(net, jnp.asarray(x, jnp.float32), jnp.asarray(time, jnp.float32), label)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    expected = np.stack([network(params, *example) for example in zip(x, time, label, strict=True)])
    found = jax.jit(net.apply)(variables, jnp.asarray(x, jnp.float32), jnp.asarray(time, jnp.float32), label)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
