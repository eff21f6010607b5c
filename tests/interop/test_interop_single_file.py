"""Stable Diffusion 1 in a single file: the same model as its folder of diffusers, as a run, and refusals."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from pipeline_folders import write_pipeline

import jaxdiff as jd
from jaxdiff.cli.main import main
from jaxdiff.interop.pretrained import read_pretrained
from jaxdiff.interop.tensors import read_tensors, write_tensors

REFERENCE = np.load(Path(__file__).parents[1] / "references" / "single_file.npz")
NAMES, CONFIGS = (json.loads(str(REFERENCE[name])) for name in ("names", "configs"))
SCHEDULE = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CLIP = {"model_type": "clip_text_model", "vocab_size": 65, "hidden_size": 64, "num_hidden_layers": 1}
CLIP |= {"num_attention_heads": 1, "max_position_embeddings": 12, "intermediate_size": 16, "eos_token_id": 64}
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "PNDMScheduler"}


def text_arrays():
    """The arrays of the encoder by the names of transformers."""
    layer = "encoder.layers.0"
    shapes = {"embeddings.token_embedding.weight": (65, 64), "embeddings.position_embedding.weight": (12, 64)}
    for norm in (f"{layer}.layer_norm1", f"{layer}.layer_norm2", "final_layer_norm"):
        shapes |= {f"{norm}.weight": (64,), f"{norm}.bias": (64,)}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes |= {f"{layer}.self_attn.{name}.weight": (64, 64), f"{layer}.self_attn.{name}.bias": (64,)}
    shapes |= {f"{layer}.mlp.fc1.weight": (16, 64), f"{layer}.mlp.fc1.bias": (16,)}
    shapes |= {f"{layer}.mlp.fc2.weight": (64, 16), f"{layer}.mlp.fc2.bias": (64,)}
    return {f"text_model.{name}": shape for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The same arrays as a folder of diffusers and as a single file, and the folder of the tokenizer."""
    place, random = tmp_path_factory.mktemp("single"), np.random.default_rng(0)
    folder, single = place / "folder", {}
    for part, names in NAMES.items():
        tensors = {}
        for name, (other, shape) in names.items():
            tensors[name] = array = random.standard_normal(shape).astype(np.float32)
            # The attention of the autoencoder has convolutions with a window of one.
            window = ".attn_1." in other and array.ndim == 2
            single[other] = array[..., None, None] if window else array
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(CONFIGS[part]))
        write_tensors(folder / part / "diffusion_pytorch_model.safetensors", tensors)
    text = {name: random.standard_normal(shape).astype(np.float32) for name, shape in text_arrays().items()}
    single |= {f"cond_stage_model.transformer.{name}": array for name, array in text.items()}
    positions = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    single |= {positions: np.arange(12)[None], "alphas_cumprod": np.ones(3), "model_ema.decay": np.ones(())}
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder/config.json").write_text(json.dumps(CLIP))
    write_tensors(folder / "text_encoder/model.safetensors", text)
    tokenizer = write_pipeline(place / "sdxl", "sdxl") / "tokenizer"
    tokenizer.rename(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULE))
    index = {name: ["diffusers", kind] for name, kind in CLASSES.items()}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    write_tensors(place / "model.safetensors", single)
    return folder, place / "model.safetensors", folder / "tokenizer"


@pytest.fixture(scope="module")
def found(places):
    """The model of the file."""
    return read_pretrained(*places[1:])


def test_a_single_file_is_the_model_of_its_folder(places, found):
    first, second = read_pretrained(places[0]), found
    assert (first.model, first.fields, first.sampling) == (second.model, second.fields, second.sampling)
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert set(first.parts) == set(second.parts) == {"parts/codec", "parts/text"}
    codecs = [one.parts["parts/codec"] for one in (first, second)]
    assert codecs[0].model == codecs[1].model
    arrays = [(one.params, one.extra) for one in codecs]
    jax.tree.map(np.testing.assert_array_equal, *arrays)
    encoders = [one.parts["parts/text"].encoder for one in (first, second)]
    jax.tree.map(np.testing.assert_array_equal, *encoders)  # the network and the tokenizer are compared too


def test_a_run_of_a_single_file_holds_its_encoder_and_tokenizer(places, found, tmp_path):
    _, file, tokenizer = places
    main(["convert", str(file), str(tmp_path / "run"), "--tokenizer", str(tokenizer)])
    again = jd.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, found.params, again.params)
    encoder = found.parts["parts/text"].encoder
    jax.tree.map(np.testing.assert_array_equal, encoder, again.frozen["conditions"]["text"])


def test_what_a_single_file_lacks_is_said(places, tmp_path):
    folder, file, tokenizer = places
    with pytest.raises(ValueError, match="tokenizer = None; allowed are folders of the tokenizer of CLIP"):
        read_pretrained(file)
    with pytest.raises(ValueError, match=r"tokenizer = .*; allowed are None for a folder"):
        read_pretrained(folder, tokenizer)
    tensors, other = read_tensors(file), tmp_path / "other.safetensors"
    for start, kind in (
        ("conditioner.embedders.0.x", "Stable Diffusion XL"),
        ("cond_stage_model.model.x", "Stable Diffusion 2"),
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
    ):
        write_tensors(other, {start: np.ones(1)})
        with pytest.raises(ValueError, match=rf"model in a single file = '{kind}'; allowed are Stable Diffusion 1"):
            read_pretrained(other, tokenizer)
    for change, words in (
        ({}, "none known"),
        (dict(list(tensors.items())[5:]) | {"model.diffusion_model.more.weight": np.ones(1)}, "array"),
        ({n: a for n, a in tensors.items() if not n.endswith("input_blocks.0.0.weight")}, "no array 'input_blocks.0.0"),
        ({n: a for n, a in tensors.items() if "post_quant_conv" not in n}, "no array 'post_quant_conv"),
        ({n: a for n, a in tensors.items() if "token_embedding" not in n}, "no array 'text_model.emb"),
    ):
        write_tensors(other, change)
        with pytest.raises(ValueError, match=words) as caught:
            read_pretrained(other, tokenizer)
        assert "\n" not in str(caught.value)
