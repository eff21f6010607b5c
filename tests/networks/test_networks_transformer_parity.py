"""DiT and MMDiT against diffusers' transformers, with stored inputs, weights and outputs."""

import json
import math
from pathlib import Path

import foreign_transformers as foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import DiT, MMDiT, SinCosPositions, Sinusoidal
from jaxdiff.networks.module import Spec

STORED = np.load(Path(__file__).parents[1] / "references" / "transformers.npz")
TEXT = {"text": Spec("tokens", (4, 6)), "pooled": Spec("vector", (5,))}
SD3 = MMDiT(width=8, depth=2, heads=2, positions=SinCosPositions(base=(4,), table=(7,))).given(TEXT)


def case(name):
    """Weights, inputs and the output, with channels last."""
    parts = {key.removeprefix(f"{name}/"): STORED[key] for key in STORED.files if key.startswith(f"{name}/")}
    inputs = {key.removeprefix("inputs/"): value for key, value in parts.items() if key.startswith("inputs/")}
    shapes = json.loads(str(parts["shapes"]))
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    flat = np.split(parts["weights"].astype(np.float32), ends[:-1])
    weights = {key: values.reshape(shapes[key]) for key, values in zip(shapes, flat, strict=True)}
    inputs["x"] = inputs["x"].transpose(0, 2, 3, 1)
    return weights, inputs, parts["output"].transpose(0, 2, 3, 1)


def assert_the_same(network, params, x, time, cond, expected):
    """Equal structure and shapes, and equal outputs to 1e-4, which are of order 1."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, time, cond)["params"]
    assert jax.tree.map(lambda leaf: leaf.shape, shapes) == jax.tree.map(lambda leaf: leaf.shape, params)
    found = jax.jit(network.apply)({"params": params}, x, time, cond)
    assert jnp.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_dit_is_that_of_diffusers():
    weights, inputs, expected = case("dit")
    network = DiT(
        width=8,
        depth=2,
        heads=2,
        embedding=Sinusoidal(cos_first=True),
        feed_forward_norm_eps=1e-5,
        out_channels=6,
    ).given({"label": Spec("class", classes=5)})
    assert_the_same(network, foreign.dit(weights), inputs["x"], inputs["time"], inputs["label"], expected)


@pytest.mark.parametrize(("name", "network"), [("sd3", SD3), ("sd35", SD3.clone(depth=3, dual_depth=1, qk_norm=True))])
def test_mmdit_is_that_of_diffusers(name, network):
    weights, inputs, expected = case(name)
    mask = np.ones(inputs["text"].shape[:2], bool)
    cond = {"text": {"values": inputs["text"], "mask": mask}, "pooled": inputs["pooled"]}
    params = foreign.sd3(weights, network.dual_depth)
    assert_the_same(network, params, inputs["x"], inputs["time"], cond, expected)
    table = np.asarray(network.positions(None, (7, 7), 8))
    np.testing.assert_allclose(inputs["table"].reshape(7, 7, 8), table, atol=1e-6)
