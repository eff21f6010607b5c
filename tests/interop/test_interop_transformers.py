"""DiT and SD3's transformer of diffusers: their outputs on stored inputs, a pipeline, and written back."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop_folders import DIT, NAMES, TRANSFORMERS, stored_dit, stored_weights, write_model, write_pipeline

import jaxdiff as jd
from jaxdiff.cli.main import main
from jaxdiff.interop.diffusers.transformers import dit, mmdit, mmdit_layout, write_dit
from jaxdiff.interop.layout import from_foreign
from jaxdiff.interop.pretrained import load_pretrained, read_pretrained
from jaxdiff.networks import LearnedPositions
from jaxdiff.networks.module import Spec

# The configurations of `make_transformers.py`.
SD3 = {"_class_name": "SD3Transformer2DModel", "sample_size": 8, "patch_size": 2, "in_channels": 3, "out_channels": 3}
SD3 |= {"num_layers": 2, "attention_head_dim": 4, "num_attention_heads": 2, "joint_attention_dim": 6}
SD3 |= {"caption_projection_dim": 8, "pooled_projection_dim": 5, "pos_embed_max_size": 7}
SD35 = SD3 | {"num_layers": 3, "qk_norm": "rms_norm", "dual_attention_layers": [0]}


def inputs_and_output(name):
    """The inputs and the output of a stored transformer, with channels last."""
    inputs = {n: TRANSFORMERS[f"{name}/inputs/{n}"] for n in ("x", "time")}
    more = ("label",) if name == "dit" else ("text", "pooled", "table")
    inputs |= {n: TRANSFORMERS[f"{name}/inputs/{n}"] for n in more}
    inputs["x"] = inputs["x"].transpose(0, 2, 3, 1)
    return inputs, TRANSFORMERS[f"{name}/output"].transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("diffusers") / "dit")


def close(found, expected):
    """Equal outputs to 1e-4, which are of order 1."""
    assert jnp.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_dit_is_that_of_diffusers(folder):
    (inputs, expected), model = inputs_and_output("dit"), load_pretrained(folder)
    x, time, label = (inputs[name] for name in ("x", "time", "label"))
    close(jax.jit(model.bound.network.apply)(model.params["model"], x, time, label), expected)
    assert model.bound.settings.learned_variance
    # The first half of the output is the noise, and classes have the names of the pipeline.
    eps = jax.jit(lambda model, x: model.denoiser(label="cock")(x, 3.0).eps)(model, x[:1])
    close(eps, expected[:1, ..., :3])


def test_a_run_of_a_pipeline_holds_the_same_model(folder, tmp_path):
    main(["convert", str(folder), str(tmp_path / "run")])
    model, again = read_pretrained(folder), jd.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, model.params, again.params)
    assert again.bound.network == model.loaded().bound.network
    assert again.bound.conditioning.names("label") == NAMES


@pytest.mark.parametrize(("name", "config"), [("sd3", SD3), ("sd35", SD35)])
def test_mmdit_is_that_of_diffusers(name, config):
    (inputs, expected), stored = inputs_and_output(name), stored_weights(name)
    told = {"text": Spec("tokens", (4, 6)), "pooled": Spec("vector", (5,))}
    text = {"values": inputs["text"], "mask": np.ones(inputs["text"].shape[:2], bool)}
    arguments = (inputs["x"], inputs["time"], {"text": text, "pooled": inputs["pooled"]})

    def output(weights):
        network, tensors = mmdit(config, weights)
        network = network.given(told)
        shapes = jax.eval_shape(network.init, jax.random.key(0), *arguments)["params"]
        params = from_foreign(shapes, tensors, mmdit_layout(network))
        return network.positions, jax.jit(network.apply)({"params": params}, *arguments)

    close(output(stored | {"pos_embed.pos_embed": inputs["table"]})[1], expected)
    if name == "sd3":  # other positions are parameters; what they have more, the layer before them has less
        more, bias = np.arange(8, dtype=np.float32) / 4, "pos_embed.proj.bias"
        moved = {"pos_embed.pos_embed": inputs["table"] + more, bias: stored[bias] - more}
        positions, found = output(stored | moved)
        assert positions == LearnedPositions((7,))
        close(found, expected)


def test_what_is_written_back_is_identical(tmp_path):
    weights, model = stored_dit(), load_pretrained(write_model(tmp_path / "dit"))
    config, tensors = write_dit(model.bound.network, model.params["model"]["params"], 8, 3)
    assert set(tensors) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(tensors[name], array)
    assert dit(config) == dit(DIT)
    network = model.bound.network.clone(qk_norm=True)
    with pytest.raises(ValueError, match=r"network\.qk_norm = True; allowed are False, as DiTTransformer2DModel"):
        write_dit(network, model.params["model"]["params"], 8, 3)


def test_blocks_with_embedders_of_their_own_are_refused(tmp_path):
    weights = stored_dit()
    name = next(name for name in weights if name.startswith("transformer_blocks.1.norm1.emb."))
    weights[name] = weights[name] + 1
    with pytest.raises(ValueError, match=re.escape(f"{name} = 'other numbers'; allowed are those of the first block")):
        load_pretrained(write_model(tmp_path / "dit", weights))


@pytest.mark.parametrize(
    ("read", "change", "words"),
    [
        (dit, DIT | {"norm_type": "ada_norm"}, "norm_type = 'ada_norm'; allowed are 'ada_norm_zero'"),
        (dit, DIT | {"sample_size": 9}, "sample_size = 9; allowed are multiples of the patch 2"),
        (dit, DIT | {"double_self_attention": True}, "double_self_attention = True; allowed are null"),
        (lambda c: mmdit(c, {}), SD3 | {"dual_attention_layers": [1]}, "dual_attention_layers = [1]; allowed are"),
        (lambda c: mmdit(c, {}), SD3 | {"caption_projection_dim": 9}, "caption_projection_dim = 9; allowed are 8"),
    ],
)
def test_configurations_that_we_do_not_know_are_refused_by_name(read, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        read(change)
