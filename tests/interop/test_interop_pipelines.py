"""Pipelines of Stable Diffusion XL and 3 beside diffusers: captions, guided estimates, a picture, runs, refusals."""

import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import text_folders
from pipeline_folders import TEXT, change, outputs, tensors, write_pipeline

import jaxdiff as jd
from jaxdiff.cli.main import main
from jaxdiff.interop.pretrained import load_pretrained, read_pretrained
from jaxdiff.interop.tensors import write_tensors
from jaxdiff.solvers import ddim

CASES = ("sdxl", "sd3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("pipelines")
    return {case: write_pipeline(place / case, case) for case in CASES}


@pytest.fixture(scope="module")
def models(folders):
    return {case: load_pretrained(folder) for case, folder in folders.items()}


def close(found, expected):
    """The requirement on all outputs, in float32; they are of order 1."""
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@jax.jit
def encoded(model, entries):
    asked = model.encode(entries)
    return asked.cond, asked.null


@partial(jax.jit, static_argnames="scale")
def estimate(model, entries, x, t, scale=1.0):
    return model.denoiser_of(model.encode(entries), scale)(x, t)


def asked(model, **given):
    return model.bound.conditioning.ask({"text": TEXT, **given})


@pytest.mark.parametrize("case", CASES)
def test_captions_are_told_as_diffusers_tells_them(case, models):
    stored, (cond, _) = outputs(case), encoded(models[case], asked(models[case]))
    close(cond["text"]["values"], stored["tokens"])
    close(cond["pooled"], stored["pooled"])
    assert cond["text"]["mask"].all()


def test_the_guided_noise_of_xl_is_that_of_diffusers(models):
    """Sizes are asked for here, and the unconditional estimate is told them too."""
    model, stored = models["sdxl"], outputs("sdxl")
    entries = asked(model, sizes=stored["sizes"][0])
    assert model.sampling.guidance.scale == 5.0
    close(estimate(model, entries, stored["x"], stored["time"], 5.0).eps, stored["guided"])


def test_no_caption_is_zeros_for_xl_and_the_empty_one_is_not(models):
    model, stored = models["sdxl"], outputs("sdxl")
    cond, null = encoded(model, asked(model, text=""))
    close(cond["text"]["values"], stored["tokens_empty"])
    close(cond["pooled"], stored["pooled_empty"])
    np.testing.assert_array_equal(null["text"]["values"], 0)
    np.testing.assert_array_equal(null["pooled"], 0)
    assert null["text"]["mask"].all()


def test_sizes_are_those_of_a_whole_picture_unless_asked_for(models):
    model = models["sdxl"]
    sides = model.bound.fields["image"].shape[:2]
    np.testing.assert_array_equal(asked(model)["sizes"], [[*sides, 0, 0, *sides]])
    for given in ((64, 48, 8, 0, 16, 16), "64,48,8,0,16,16"):
        np.testing.assert_array_equal(asked(model, sizes=given)["sizes"], [[64, 48, 8, 0, 16, 16]])


def test_a_picture_of_3_is_that_of_diffusers(models):
    """From the same noise, at the noise levels of its scheduler, through the autoencoder."""
    model, stored = models["sd3"], outputs("sd3")
    tableau = ddim(model.process, stored["levels"].astype(float))
    assert model.sampling.guidance.scale == 7.0
    denoiser = model.denoiser(text=TEXT, guidance=7.0)
    latents = jax.jit(jd.sample)(jax.random.key(0), denoiser, jnp.asarray(stored["x"]), tableau)
    close(latents, stored["latents"])
    close(jax.jit(lambda m, z: m.bound.decoded(m.frozen, z)["image"])(model, latents), stored["picture"])


def without_t5(folder):
    """Takes T5 out of a pipeline."""
    shutil.rmtree(folder / "text_encoder_3")
    shutil.rmtree(folder / "tokenizer_3")
    change(folder / "model_index.json", text_encoder_3=[None, None], tokenizer_3=[None, None])
    return folder


def test_without_t5_its_tokens_are_zeros(tmp_path):
    model, stored = load_pretrained(without_t5(write_pipeline(tmp_path / "sd3", "sd3"))), outputs("sd3")
    assert model.bound.network.specs[1][1].shape == (12 + 256, 24)
    found = estimate(model, asked(model), stored["x"], stored["time"])
    close(found.eps - found.x0, stored["velocity_without_t5"])


@pytest.mark.parametrize("case", CASES)
def test_a_run_of_a_pipeline_holds_its_parts_and_draws(case, folders, models, tmp_path):
    main(["convert", str(folders[case]), str(tmp_path / "run")])
    (tmp_path / "run").rename(tmp_path / "moved")
    model, again = models[case], jd.load(tmp_path / "moved")
    assert (model.bound, model.sampling) == (again.bound, again.sampling)
    jax.tree.map(np.testing.assert_array_equal, (model.params, model.frozen), (again.params, again.frozen))
    out = tmp_path / "cat.png"
    main(
        ["sample", str(tmp_path / "moved"), "--ask", f"text={TEXT}", "--steps", "1", "--count", "1", "--out", str(out)]
    )
    assert out.exists()


def other_array(folder, name, length):
    """Cuts an array of a text encoder."""
    path = f"{name}/model.safetensors"
    found = tensors("sdxl", path)
    write_tensors(folder / path, found | {"text_projection.weight": found["text_projection.weight"][:length]})


def bert_tokenizer(folder, name):
    """Gives a text encoder the tokenizer of another kind of encoders, of few ids."""
    shutil.rmtree(folder / name)
    text_folders.write_tokenizer_files(folder / name, "tokens_bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"]
    (folder / name / "vocab.txt").write_text("\n".join(words))


def as_t5(folder, name):
    """Puts T5 in the place of another encoder."""
    for kind in ("text_encoder", "tokenizer"):
        shutil.rmtree(folder / f"{kind}{name}")
        shutil.copytree(folder / f"{kind}_3", folder / f"{kind}{name}")


REFUSED = {
    "an encoder is not named": (
        "sdxl",
        lambda folder: change(folder / "model_index.json", text_encoder=[None, None]),
        r"text encoders = 'text_encoder_2'; allowed are text_encoder, text_encoder_2 for this network",
    ),
    "an encoder too many": (
        "sdxl",
        lambda folder: (
            shutil.copytree(folder / "text_encoder", folder / "text_encoder_3"),
            shutil.copytree(folder / "tokenizer", folder / "tokenizer_3"),
            change(folder / "model_index.json", text_encoder_3=["transformers", "CLIPTextModel"]),
        ),
        r"text encoders = 'text_encoder, text_encoder_2, text_encoder_3'; allowed are text_encoder, text_encoder_2",
    ),
    "a folder of an encoder is missing": (
        "sdxl",
        lambda folder: shutil.rmtree(folder / "text_encoder_2"),
        r"folder = '.*text_encoder_2'; allowed are folders of text encoders that exist",
    ),
    "a tokenizer is missing": (
        "sd3",
        lambda folder: shutil.rmtree(folder / "tokenizer_2"),
        r"folder of a tokenizer = '.*tokenizer_2'; allowed are folders that hold tokenizer\.json",
    ),
    "a tokenizer of another kind": (
        "sdxl",
        lambda folder: bert_tokenizer(folder, "tokenizer_2"),
        r"text_encoder_2: end of the texts of its tokenizer = 3; allowed are 64, that of the encoder",
    ),
    "an encoder of another kind": (
        "sd3",
        lambda folder: as_t5(folder, "_2"),
        r"text_encoder_2 = 'T5Encoder'; allowed are CLIPText with the array text_projection\.weight",
    ),
    "an encoder without its projection": (
        "sdxl",
        lambda folder: write_tensors(
            folder / "text_encoder_2/model.safetensors",
            {n: a for n, a in tensors("sdxl", "text_encoder_2/model.safetensors").items() if "projection" not in n},
        ),
        r"text_encoder_2 = 'CLIPText'; allowed are CLIPText with the array text_projection\.weight",
    ),
    "another width of the tokens": (
        "sdxl",
        lambda folder: change(folder / "unet/config.json", cross_attention_dim=24),
        r"cross_attention_dim = 24; allowed are 20, which the text encoders give",
    ),
    "another width of the vector": (
        "sdxl",
        lambda folder: other_array(folder, "text_encoder_2", 9),
        r"projection_class_embeddings_input_dim = 34; allowed are 33, which the text encoders give",
    ),
    "another width of T5": (
        "sd3",
        lambda folder: change(folder / "transformer/config.json", joint_attention_dim=32),
        r"joint_attention_dim = 32; allowed are 24, which the text encoders give",
    ),
    "tokens wider than those of the network": (
        "sd3",
        lambda folder: change(without_t5(folder) / "transformer/config.json", joint_attention_dim=16),
        r"joint_attention_dim = 16; allowed are at least 20, the width of text_encoder and text_encoder_2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_parts_that_do_not_fit_are_refused(name, folders, tmp_path):
    case, damage, words = REFUSED[name]
    folder = shutil.copytree(folders[case], tmp_path / "model")
    damage(folder)
    with pytest.raises(ValueError, match=words) as caught:
        read_pretrained(folder)
    assert "\n" not in str(caught.value)
