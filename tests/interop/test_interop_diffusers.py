"""Models of diffusers: their outputs on stored inputs, as models, as runs, and written back; and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop_folders import STORED, Stored
from PIL import Image

import jaxdiff as jd
from jaxdiff import solvers
from jaxdiff.cli.main import main
from jaxdiff.interop.diffusers.schedulers import scheduler
from jaxdiff.interop.diffusers.unets import layout, unet, write_unet
from jaxdiff.interop.layout import from_foreign
from jaxdiff.interop.pretrained import load_pretrained
from jaxdiff.interop.tensors import write_tensors
from jaxdiff.networks.module import Spec

SCHEDULE = {"_class_name": "DDIMScheduler", "num_train_timesteps": 100, "beta_start": 1e-3, "beta_end": 0.2}


def pipeline(folder, vae=False):
    """A pipeline of the stored network, on pixels or on the latents of the stored autoencoder."""
    STORED["ddpm"].write(folder / "unet")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULE))
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pipeline(tmp_path_factory.mktemp("diffusers") / "ddpm")


def close(found, expected):
    """The requirement on all outputs, in float32."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["ddpm", "scale_shift"])
def test_unets_of_pictures_equal_those_of_diffusers(name, tmp_path):
    model = load_pretrained(STORED[name].write(tmp_path / name))
    arrays = STORED[name].arrays
    output = jax.jit(model.bound.network.apply)(model.params["model"], arrays["x"], arrays["t"])
    close(output, arrays["y"])


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_unets_that_read_tokens_equal_those_of_diffusers(name):
    stored = STORED[name]
    arrays = stored.arrays
    cond = {"text": {"values": arrays["e"], "mask": np.ones(arrays["e"].shape[:2], bool)}}
    specs = {"text": Spec("tokens", arrays["e"].shape[1:])}
    if name == "sdxl":
        # Six numbers, each as four sinusoids, after the vector of the text.
        phases = arrays["time_ids"][..., None] * 1e4 ** (-np.arange(2) / 2)
        waves = np.concatenate([np.cos(phases), np.sin(phases)], axis=-1).reshape(2, -1)
        cond["pooled"] = np.concatenate([arrays["text_embeds"], waves], axis=-1).astype(np.float32)
        specs["pooled"] = Spec("vector", cond["pooled"].shape[1:])
    network = unet(stored.config).given(specs)
    arguments = (arrays["x"], arrays["t"], cond)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *arguments)["params"]
    params = from_foreign(shapes, stored.weights, layout(2, context=True))
    close(jax.jit(network.apply)({"params": params}, *arguments), arrays["y"])


def test_autoencoders_equal_those_of_diffusers(tmp_path):
    model, arrays = load_pretrained(STORED["vae"].write(tmp_path / "vae")), STORED["vae"].arrays
    mean, log_variance = jax.jit(model.bound.posterior)(model.params, arrays["x"])
    close(mean, arrays["mean"])
    close(log_variance, arrays["logvar"])
    close(jax.jit(model.decode)(mean), arrays["y"])
    # Diffusion models of diffusers work on (z - shift_factor) scaling_factor.
    np.testing.assert_allclose((mean - model.mean) / model.std, 0.5 * (mean - 0.25), rtol=1e-5, atol=1e-6)


def test_a_pipeline_is_a_model_with_the_process_of_its_scheduler(folder):
    model = load_pretrained(folder)
    betas = np.linspace(1e-3, 0.2, 100)
    np.testing.assert_allclose(model.process.alpha(np.arange(100.0)), np.sqrt(np.cumprod(1 - betas)), rtol=1e-6)
    # The estimate of the noise is the output of the network at the index.
    x = jnp.asarray(STORED["ddpm"].arrays["x"])
    estimates = [model.denoiser()(x, t).eps for t in (7.0, 60.0)]
    close([estimates[0][0], estimates[1][1]], STORED["ddpm"].arrays["y"])
    assert model.sample(jax.random.key(0), 2).shape == (2, 8, 8, 3)


def test_a_run_made_of_a_pipeline_samples_as_the_pipeline_does(folder, tmp_path, capsys):
    run = tmp_path / "run"
    main(["convert", str(folder), str(run)])
    assert capsys.readouterr().out.strip() == str(run)
    model, again = load_pretrained(folder), jd.load(run)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), model.params, again.params))
    assert again.sampling == model.sampling
    main(["sample", str(run), "--steps", "2", "--count", "2", "--out", str(tmp_path / "two.png")])
    assert (tmp_path / "two.png").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["convert", str(folder), str(run)])
    assert "directories that are empty or absent" in capsys.readouterr().err


def test_training_goes_on_from_a_converted_run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["convert", str(folder), "runs/given"])
    (tmp_path / "photos").mkdir()
    for i in range(4):
        picture = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / f"photos/{i}.png")
    more = ["--train.steps", "1", "--train.batch-size", "2", "--sample.steps", "2", "--optimizer.learning-rate", "1e-9"]
    main(["train", "runs/given", "--data.kind", "Folder", "--data.path", "photos", *more])
    tuned, before = jd.load("runs/given-tuned", ema=None), jd.load("runs/given")
    assert tuned.sampling.steps == 2
    for one, other in zip(*map(jax.tree.leaves, (tuned.params, before.params)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_a_latent_pipeline_keeps_its_autoencoder_inside_the_run(tmp_path):
    folder = pipeline(tmp_path / "latent")
    stored = Stored("ddpm")
    stored.config |= {"in_channels": 2, "out_channels": 2}
    for name, axis in (("conv_in.weight", 1), ("conv_out.weight", 0), ("conv_out.bias", 0)):
        stored.weights[name] = np.take(stored.weights[name], (0, 1), axis=axis)
    for path in (folder / "unet").iterdir():
        path.unlink()
    (folder / "unet").rmdir()
    stored.write(folder / "unet")
    STORED["vae"].write(folder / "vae")
    index = json.loads((folder / "model_index.json").read_text()) | {"vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    model = load_pretrained(folder)
    main(["convert", str(folder), str(tmp_path / "run")])
    again = jd.load(tmp_path / "run")
    assert model.shape == again.shape == (8, 8, 2)
    z = jnp.asarray(np.random.default_rng(0).standard_normal((1, 8, 8, 2)), jnp.float32)
    vae = load_pretrained(folder / "vae")
    pictures = [np.asarray(one.bound.decoded(one.frozen, z)["image"]) for one in (model, again)]
    np.testing.assert_allclose(pictures[0], vae.decode(z / 0.5 + 0.25), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(*pictures)
    moved = tmp_path / "elsewhere"
    (tmp_path / "run").rename(moved)
    again = jd.load(moved)
    np.testing.assert_array_equal(again.bound.decoded(again.frozen, z)["image"], pictures[0])


@pytest.mark.parametrize("name", ["ddpm", "scale_shift"])
def test_what_is_written_back_is_identical(name, tmp_path):
    stored = STORED[name]
    model = load_pretrained(stored.write(tmp_path / name))
    config, tensors = write_unet(model.bound.network, model.params["model"]["params"], 8, 3)
    assert set(tensors) == set(stored.weights)
    for key, array in stored.weights.items():
        np.testing.assert_array_equal(tensors[key], array)
    assert unet(config) == unet(stored.config)


def test_schedulers_name_process_output_and_solver():
    process, parametrization, sampling = scheduler({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    assert (process().alpha(0.25), parametrization().name) == (0.75, "velocity")
    np.testing.assert_allclose(
        sampling.times(process())[:-1], 3 * np.linspace(1, 0.02, 50) / (1 + 2 * np.linspace(1, 0.02, 50))
    )
    usual = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
    }
    process, parametrization, _ = scheduler({**usual, "rescale_betas_zero_snr": True})
    assert (process().alpha(999.0), parametrization().name) == (0.0, "v")
    assert scheduler({"_class_name": "DPMSolverMultistepScheduler"})[2].solver.function is solvers.dpm_solver_pp


BAD_CONFIGS = {
    "block_out_channels": ([8, 12], "lists of multiples of their first number"),
    "down_block_types": (["DownBlock2D", "SkipDownBlock2D"], "2 of DownBlock2D, AttnDownBlock2D"),
    "up_block_types": (["UpBlock2D", "UpBlock2D"], "in reverse order"),
    "act_fn": ("mish", "'silu'"),
    "layers_per_block": (2, "the weights have no array"),
    "norm_num_groups": ("many", "integers from 1"),
    "dropout": ("none", "numbers"),
    "num_new_things": (3, "our networks have no such setting"),
    "sample_size": (None, "an integer from 1"),
    "_class_name": ("PixArtTransformer2DModel", "UNet2DModel"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_configurations_that_we_do_not_know_are_refused_by_name(name, tmp_path):
    stored, (value, allowed) = Stored("ddpm"), BAD_CONFIGS[name]
    stored.config[name] = value
    with pytest.raises(ValueError, match=allowed) as caught:
        load_pretrained(stored.write(tmp_path / "model"))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or name == "layers_per_block"


def test_files_that_could_run_programs_or_are_not_whole_are_refused(folder, tmp_path):
    path = tmp_path / "model"
    STORED["ddpm"].write(path)
    file = path / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    damaged = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "header": (2**62).to_bytes(8, "little") + whole[8:],
        "words": whole[:8] + b"x" * length + whole[8 + length :],
        "more": whole + b"0000",
    }
    for content in damaged.values():
        file.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as a file of arrays") as caught:
            load_pretrained(path)
        assert "\n" not in str(caught.value)
    file.unlink()
    (path / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(
        ValueError, match=r"a pickle, which can run any program when it is read; allowed are \.safetensors"
    ):
        load_pretrained(path)
    assert not (tmp_path / "owned").exists()
    index = path / "diffusion_pytorch_model.safetensors.index.json"
    for shard in ("../secret.safetensors", "/etc/passwd", "a/b.safetensors", "weights.bin"):
        index.write_text(json.dumps({"weight_map": {"conv_in.weight": shard}}))
        with pytest.raises(ValueError, match=r"names of \.safetensors files in the same folder"):
            load_pretrained(path)
    for content in ("[]", "{", '{"weight_map": [1]}', '{"weight_map": {"conv_in.weight": 3}}'):
        index.write_text(content)
        with pytest.raises(ValueError, match=r"JSON|weight_map"):
            load_pretrained(path)
    with pytest.raises(ValueError, match=r"folder = .*folders of diffusers that exist"):
        load_pretrained(tmp_path / "nowhere")


def test_classes_are_a_condition_and_half_precision_becomes_single(tmp_path):
    stored = Stored("ddpm")
    stored.config["num_class_embeds"] = 3
    rng = np.random.default_rng(0)
    stored.weights["class_embedding.weight"] = rng.standard_normal((3, 32)).astype(np.float32)
    stored.weights = {name: np.asarray(array, jnp.bfloat16) for name, array in stored.weights.items()}
    model = load_pretrained(stored.write(tmp_path / "model"))
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {np.dtype(np.float32)}
    table = model.params["model"]["params"]["conditioning"]["label_table"]["embedding"]
    np.testing.assert_array_equal(table[:3], np.float32(stored.weights["class_embedding.weight"]))
    np.testing.assert_array_equal(table[3], 0)
    assert model.sample(jax.random.key(0), 2, label=1).shape == (2, 8, 8, 3)


def test_shards_are_one_model(tmp_path):
    whole, parts = load_pretrained(STORED["ddpm"].write(tmp_path / "whole")), tmp_path / "parts"
    STORED["ddpm"].write(parts)
    (parts / "diffusion_pytorch_model.safetensors").unlink()
    names = sorted(STORED["ddpm"].weights)
    places = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    for shard in sorted({*places.values()}):
        write_tensors(parts / shard, {name: STORED["ddpm"].weights[name] for name in names if places[name] == shard})
    (parts / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert jax.tree.all(jax.tree.map(np.array_equal, whole.params, load_pretrained(parts).params))
