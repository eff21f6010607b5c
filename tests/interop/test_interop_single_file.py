"""Stable Diffusion 1, XL and 3 in a single file: the same model as its folder of diffusers, as a run, and refusals."""

import json
import shutil
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
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CLIP = {"model_type": "clip_text_model", "vocab_size": 65, "hidden_size": 64, "num_hidden_layers": 1}
CLIP |= {"num_attention_heads": 1, "max_position_embeddings": 12, "intermediate_size": 16, "eos_token_id": 64}
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "PNDMScheduler"}


PNDM = {"_class_name": "PNDMScheduler", **BETAS}
EULER = {"_class_name": "EulerDiscreteScheduler", **BETAS, "steps_offset": 1, "timestep_spacing": "leading"}
FIRST, SECOND = "text_encoder", "text_encoder_2"
# The names of OpenCLIP, by those of transformers.
OPEN_CLIP = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers.0": "transformer.resblocks.0",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def text_arrays(random, projection):
    """The arrays of an encoder by the names of transformers."""
    layer = "encoder.layers.0"
    shapes = {"embeddings.token_embedding.weight": (65, 64), "embeddings.position_embedding.weight": (12, 64)}
    for norm in (f"{layer}.layer_norm1", f"{layer}.layer_norm2", "final_layer_norm"):
        shapes |= {f"{norm}.weight": (64,), f"{norm}.bias": (64,)}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes |= {f"{layer}.self_attn.{name}.weight": (64, 64), f"{layer}.self_attn.{name}.bias": (64,)}
    shapes |= {f"{layer}.mlp.fc1.weight": (16, 64), f"{layer}.mlp.fc1.bias": (16,)}
    shapes |= {f"{layer}.mlp.fc2.weight": (64, 16), f"{layer}.mlp.fc2.bias": (64,)}
    shapes = {f"text_model.{name}": shape for name, shape in shapes.items()}
    shapes |= {"text_projection.weight": (64, 64)} if projection else {}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def as_open_clip(arrays):
    """The arrays of OpenCLIP."""
    arrays, made = dict(arrays), {"logit_scale": np.ones(())}
    made["text_projection"] = arrays.pop("text_projection.weight").T
    for leaf in ("weight", "bias"):
        parts = [arrays.pop(f"text_model.encoder.layers.0.self_attn.{part}_proj.{leaf}") for part in "qkv"]
        made[f"transformer.resblocks.0.attn.in_proj_{leaf}"] = np.concatenate(parts)
    for name, array in arrays.items():
        for theirs, ours in OPEN_CLIP.items():
            name = name.replace(theirs, ours)
        made[name] = array
    return made


def write_both(place, tokenizers, xl):
    """The same arrays as a folder of diffusers and as a single file, and the folder of the tokenizer."""
    random, folder, single = np.random.default_rng(0), place / "folder", {}
    for part, stored in (("unet", "unet_xl" if xl else "unet"), ("vae", "vae")):
        tensors = {}
        for name, (other, shape) in NAMES[stored].items():
            tensors[name] = array = random.standard_normal(shape).astype(np.float32)
            # The attention of the autoencoder has convolutions with a window of one.
            window = ".attn_1." in other and array.ndim == 2
            single[other] = array[..., None, None] if window else array
        (folder / part).mkdir(parents=True)
        config = CONFIGS[stored] | ({"scaling_factor": 0.13025} if xl and part == "vae" else {})
        (folder / part / "config.json").write_text(json.dumps(config))
        write_tensors(folder / part / "diffusion_pytorch_model.safetensors", tensors)
    begins = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")
    begins = begins if xl else ("cond_stage_model.transformer.",)
    index = {name: ["diffusers", kind] for name, kind in CLASSES.items()}
    for i, begin in enumerate(begins):
        text, name = text_arrays(random, i == 1), (FIRST, SECOND)[i]
        single |= {begin + key: array for key, array in (as_open_clip(text) if i else text).items()}
        config = CLIP | {"hidden_act": "gelu", "projection_dim": 64} if i else CLIP
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        write_tensors(folder / name / "model.safetensors", text)
        tokenizer = name.replace("text_encoder", "tokenizer")
        shutil.copytree(tokenizers / tokenizer, folder / tokenizer)
        kind = "CLIPTextModelWithProjection" if i else "CLIPTextModel"
        index |= {name: ["transformers", kind], tokenizer: ["transformers", "CLIPTokenizer"]}
    single[f"{begins[0]}text_model.embeddings.position_ids"] = np.arange(12)[None]
    single |= {"alphas_cumprod": np.ones(3), "model_ema.decay": np.ones(())}
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(EULER if xl else PNDM))
    (folder / "model_index.json").write_text(json.dumps(index))
    write_tensors(place / "model.safetensors", single)
    return folder, place / "model.safetensors", folder if xl else folder / "tokenizer"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Stable Diffusion 1."""
    place = tmp_path_factory.mktemp("single")
    return write_both(place, write_pipeline(place / "sdxl", "sdxl"), False)


@pytest.fixture(scope="module")
def places_xl(tmp_path_factory):
    """Stable Diffusion XL."""
    place = tmp_path_factory.mktemp("single_xl")
    return write_both(place, write_pipeline(place / "sdxl", "sdxl"), True)


def write_three(place):
    """Stable Diffusion 3 as a folder of diffusers and as a single file."""
    random, single, tensors = np.random.default_rng(0), {}, {}
    folder = write_pipeline(place / "folder", "sd3")
    for part in ("transformer", "vae", FIRST, SECOND, "text_encoder_3"):
        shutil.rmtree(folder / part)
    for name, (shape, rows) in NAMES["mmdit"].items():
        tensors[name] = array = random.standard_normal(shape).astype(np.float32)
        row = 0
        for other, start, count in rows:
            single.setdefault(other, {})[start] = array[row : row + count]
            row += count
    single = {k: np.concatenate([parts[i] for i in sorted(parts)]) for k, parts in single.items()}
    write_part(folder / "transformer", CONFIGS["mmdit"], tensors)
    single = {f"model.diffusion_model.{name}": array for name, array in single.items()}
    config = CONFIGS["vae"] | {"scaling_factor": 1.5305, "shift_factor": 0.0609}
    tensors = {}
    for name, (other, shape) in NAMES["vae"].items():
        if "quant_conv" not in name:
            tensors[name] = array = random.standard_normal(shape).astype(np.float32)
            single[other] = array[..., None, None] if ".attn_1." in other and array.ndim == 2 else array
    write_part(folder / "vae", config | {"use_quant_conv": False, "use_post_quant_conv": False}, tensors)
    for name, begin in ((FIRST, "clip_l"), (SECOND, "clip_g")):
        text = text_arrays(random, True)
        if name == FIRST:
            text["text_projection.weight"] = np.eye(64, dtype=np.float32)  # which the file leaves out
        kept = {k: v for k, v in text.items() if name == SECOND or "projection" not in k}
        single |= {f"text_encoders.{begin}.transformer.{key}": array for key, array in kept.items()}
        more = {"projection_dim": 64, "hidden_act": "quick_gelu" if name == FIRST else "gelu"}
        write_part(folder / name, CLIP | more, text, "model.safetensors")
    inside, width = "encoder.block.0.layer", 160
    shapes = {"shared.weight": (30, width), f"{inside}.0.SelfAttention.relative_attention_bias.weight": (32, 1)}
    shapes |= {f"{inside}.0.SelfAttention.{part}.weight": (64, width) for part in "qkv"}
    shapes |= {f"{inside}.0.SelfAttention.o.weight": (width, 64), "encoder.final_layer_norm.weight": (width,)}
    shapes |= {f"{inside}.{i}.layer_norm.weight": (width,) for i in range(2)}
    shapes |= {f"{inside}.1.DenseReluDense.{part}.weight": (32, width) for part in ("wi_0", "wi_1")}
    shapes |= {f"{inside}.1.DenseReluDense.wo.weight": (width, 32)}
    text = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    single |= {f"text_encoders.t5xxl.transformer.{name}": array for name, array in text.items()}
    config = {"model_type": "t5", "feed_forward_proj": "gated-gelu", "d_model": width, "num_layers": 1, "num_heads": 1}
    write_part(folder / "text_encoder_3", config | {"vocab_size": 30, "d_ff": 32}, text, "model.safetensors")
    write_tensors(place / "model.safetensors", single)
    return folder, place / "model.safetensors"


def write_part(folder, config, tensors, file="diffusion_pytorch_model.safetensors"):
    """Writes a part of a pipeline."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder / file, tensors)


@pytest.fixture(scope="module")
def found(places):
    """The model of the file."""
    return read_pretrained(*places[1:])


def same(first, second, parts):
    """Both models are the same."""
    assert (first.model, first.fields, first.sampling) == (second.model, second.fields, second.sampling)
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert set(first.parts) == set(second.parts) == {"parts/codec", *parts}
    codecs = [one.parts["parts/codec"] for one in (first, second)]
    assert codecs[0].model == codecs[1].model
    arrays = [(one.params, one.extra) for one in codecs]
    jax.tree.map(np.testing.assert_array_equal, *arrays)
    for part in parts:
        encoders = [one.parts[part].encoder for one in (first, second)]
        jax.tree.map(np.testing.assert_array_equal, *encoders)  # the network and the tokenizer are compared too


def test_a_single_file_is_the_model_of_its_folder(places, found):
    same(read_pretrained(places[0]), found, ("parts/text",))


def test_a_single_file_of_xl_is_the_model_of_its_folder(places_xl, tmp_path):
    folder, file, tokenizers = places_xl
    same(read_pretrained(folder), read_pretrained(file, tokenizers), ("parts/text", "parts/text_2"))
    main(["convert", str(file), str(tmp_path / "run"), "--tokenizer", str(tokenizers)])
    again = jd.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, again.params, read_pretrained(file, tokenizers).params)
    with pytest.raises(ValueError, match="tokenizer = None; allowed are folders that hold the folders tokenizer and"):
        read_pretrained(file)
    tensors, other, begin = read_tensors(file), tmp_path / "other.safetensors", "conditioner.embedders.1.model."
    name = f"{begin}transformer.resblocks.0.attn.in_proj_weight"
    for change, words in (
        ({name: tensors[name][:100]}, r"shape of transformer.resblocks.0.attn.in_proj_weight = \(100, 64\)"),
        ({f"{begin}transformer.resblocks.0.more.weight": np.ones(1)}, "an array without a place in the text encoder"),
        ({f"{begin}text_projection": np.ones(1)}, "shape of text_projection"),
    ):
        write_tensors(other, tensors | change)
        with pytest.raises(ValueError, match=words):
            read_pretrained(other, tokenizers)


def test_a_single_file_of_3_is_the_model_of_its_folder(tmp_path):
    folder, file = write_three(tmp_path)
    same(read_pretrained(folder), read_pretrained(file, folder), ("parts/text", "parts/text_2", "parts/text_3"))
    tensors, other, begin = read_tensors(file), tmp_path / "other.safetensors", "model.diffusion_model."
    for change, words in (
        ({f"{begin}joint_blocks.0.x_block.attn.qkv.weight": np.ones((4, 2))}, "queries, keys and values"),
        ({f"{begin}joint_blocks.0.y_block.more.weight": np.ones(1)}, "an array without a place in the network"),
        ({f"{begin}pos_embed": np.ones((1, 5, 64))}, "shape of pos_embed"),
        ({f"{begin}joint_blocks.999999999.x_block.attn.qkv.weight": np.ones((3, 2))}, "numbers of joint_blocks"),
    ):
        write_tensors(other, tensors | change)
        with pytest.raises(ValueError, match=words) as caught:
            read_pretrained(other, folder)
        assert "\n" not in str(caught.value)
    without = {name: array for name, array in tensors.items() if ".t5xxl." not in name}
    write_tensors(other, without)
    assert set(read_pretrained(other, folder).parts) == {"parts/codec", "parts/text", "parts/text_2"}


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
    for start, kind in (("cond_stage_model.model.x", "Stable Diffusion 2"),):
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
