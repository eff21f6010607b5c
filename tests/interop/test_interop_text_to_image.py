"""A pipeline of Stable Diffusion's kind: captions, latents, and a U-Net that reads tokens, as a model and as a run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import text_folders
from interop_folders import STORED

import jaxdiff as jd
from jaxdiff.cli.main import main
from jaxdiff.components import choose
from jaxdiff.interop.pretrained import load_pretrained

USUAL = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pipeline without its autoencoder, whose stored channels are others."""
    folder = tmp_path_factory.mktemp("pipeline") / "stable"
    STORED["sd1"].write(folder / "unet")
    weights = text_folders.weights("clip")
    table = np.random.default_rng(0).standard_normal((535, 8)).astype(np.float32)
    weights["embeddings.token_embedding.weight"] = table  # as many rows as the tokenizer has ids
    changes = {"vocab_size": 535, "bos_token_id": 533, "eos_token_id": 534}
    text_folders.write_encoder(folder / "text_encoder", "clip", weights, **changes)
    text_folders.write_tokenizer_files(folder / "tokenizer", "tokens_clip_l")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(USUAL))
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "scheduler": ["diffusers", "PNDMScheduler"]}
    parts |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    parts |= {"safety_checker": [None, None], "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}))
    return folder


def test_a_caption_is_encoded_and_read_by_the_network(folder):
    model = load_pretrained(folder)
    encoder = jd.interop.text_encoder(folder / "text_encoder")
    length = model.bound.settings.conditions["text"].length
    ids = encoder.read(["a cat"], length)[:, 0]
    # The pipelines of Stable Diffusion show padding to the encoder and to the network.
    tokens = encoder.encode(jnp.asarray(ids), jnp.ones(ids.shape, bool))
    x = jnp.asarray(STORED["sd1"].arrays["x"][:1])
    eps = model.denoiser(text="a cat", guidance=1.0)(x, 7.0).eps
    output = model.bound.network.apply(model.params["model"], x, jnp.asarray([7.0]), {"text": tokens})
    np.testing.assert_allclose(eps, output, rtol=1e-4, atol=1e-4)
    assert model.sampling.guidance.scale == 7.5
    other = model.denoiser(text="a dog", guidance=1.0)(x, 7.0).eps
    assert np.abs(other - eps).max() > 1e-3


def test_the_run_holds_the_encoder_and_draws_what_the_pipeline_draws(folder, tmp_path):
    main(["convert", str(folder), str(tmp_path / "run")])
    (tmp_path / "run").rename(tmp_path / "moved")
    model, again = load_pretrained(folder), jd.load(tmp_path / "moved")
    sampling = jd.models.Sampling(choose(jd.solvers.ddim), steps=2)
    drawn = [one.sample(jax.random.key(0), 1, text="a cat", sampling=sampling) for one in (model, again)]
    np.testing.assert_array_equal(*drawn)
    main(["sample", str(tmp_path / "moved"), "--ask", "text=a cat", "--steps", "2", "--count", "1",
          "--out", str(tmp_path / "cat.npy")])  # fmt: skip
    assert any(path.name.startswith("cat") for path in tmp_path.iterdir())


def test_a_tokenizer_with_more_ids_than_its_encoder_is_refused(tmp_path):
    text_folders.write_encoder(tmp_path / "text_encoder", "clip")
    text_folders.write_tokenizer_files(tmp_path / "tokenizer", "tokens_clip_l")
    with pytest.raises(ValueError, match=r"number of ids = 535; allowed are at most 40, those of the encoder"):
        jd.interop.text_encoder(tmp_path / "text_encoder")


def test_a_network_that_reads_text_needs_its_encoder(folder, tmp_path):
    lonely = tmp_path / "lonely"
    STORED["sd1"].write(lonely / "unet")
    (lonely / "scheduler").mkdir()
    (lonely / "scheduler/scheduler_config.json").write_text(json.dumps(USUAL))
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("text_encoder", "tokenizer"):
        del index[name]
    (lonely / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"text encoders = 'none'; allowed are text_encoder for this network"):
        load_pretrained(lonely)
