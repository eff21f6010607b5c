"""Makes pipelines.npz: pipelines of Stable Diffusion XL and 3 of tiny sizes, as diffusers writes them, and outputs.

    python scripts/benchmark/make_environment.py peers
    .environments/peers/bin/python tests/references/make_pipelines.py

All weights are random, also those that start at zero or one. They are stored in float16, one array per folder, and the
outputs were computed in float32 with the stored numbers. The vocabularies are made here.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

TEXT = "a photo of a cat"
LENGTH = 12
CLIP = {"intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": LENGTH}
T5 = {"d_model": 24, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
UNET = {"block_out_channels": (4, 8), "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 8}
UNET |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": (1, 2)}
UNET |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": True}
UNET |= {"cross_attention_dim": 20, "addition_embed_type": "text_time", "addition_time_embed_dim": 4}
UNET |= {"projection_class_embeddings_input_dim": 10 + 6 * 4}
MMDIT = {"sample_size": 8, "patch_size": 2, "in_channels": 2, "out_channels": 2, "num_layers": 2}
MMDIT |= {"attention_head_dim": 4, "num_attention_heads": 2, "joint_attention_dim": 24, "caption_projection_dim": 8}
MMDIT |= {"pooled_projection_dim": 16, "pos_embed_max_size": 7}
VAE = {"block_out_channels": (4, 8), "norm_num_groups": 2, "layers_per_block": 1, "sample_size": 16}
VAE |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
TABLES = ("token_embedding.weight", "position_embedding.weight", "shared.weight")
GENERATOR = torch.Generator().manual_seed(0)


def drawn(model: Any) -> Any:
    """The model with random weights, which float16 holds."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            values = torch.randn(weight.shape, generator=GENERATOR)
            if weight.ndim > 1 and not name.endswith(TABLES):
                values = values / weight[0].numel() ** 0.5
            elif weight.ndim == 1:
                values = 0.1 * values + ("norm" in name and name.endswith("weight"))
            weight.copy_(values.half().float())
    return model.eval()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR).half().float()


def clip_tokenizer(pad: str) -> Any:
    """Letters and a few merges, with "!" first, as in the published vocabulary."""
    merges = ["t h", "th e</w>", "c a", "ca t</w>", "p h", "ph o", "pho t", "phot o</w>", "o f</w>"]
    letters = ["!", *"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary))
        (Path(folder) / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
        settings = {"model_max_length": LENGTH, "pad_token": pad}
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(settings))
        return transformers.CLIPTokenizer.from_pretrained(folder)


def clip(tokenizer: Any, width: int, projection: int | None, activation: str) -> Any:
    """A text encoder of CLIP for the ids of a tokenizer."""
    size = len(tokenizer)
    config = transformers.CLIPTextConfig(
        **CLIP, hidden_size=width, vocab_size=size, bos_token_id=size - 2, eos_token_id=size - 1, hidden_act=activation,
        pad_token_id=tokenizer.pad_token_id, projection_dim=projection or width,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return drawn(kind(config))


def t5() -> tuple[Any, Any]:
    """An encoder of T5 and its tokenizer of single letters."""
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((letter, -2.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"),
    ]
    tokenizer = transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
    return drawn(transformers.T5EncoderModel(transformers.T5Config(**T5, vocab_size=len(pieces)))), tokenizer


def folder_of(pipeline: Any) -> dict[str, Any]:
    """The files that diffusers writes, with the arrays of a folder as one array."""
    stored: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        pipeline.save_pretrained(name)
        for path in sorted(path for path in Path(name).rglob("*") if path.is_file()):
            place = path.relative_to(name)
            if path.suffix == ".safetensors":
                tensors = load_file(path)
                flat = [value.astype(np.float16).ravel() for value in tensors.values()]
                stored[f"weights/{place}"] = np.concatenate(flat)
                stored[f"shapes/{place}"] = json.dumps({name: value.shape for name, value in tensors.items()})
            else:
                stored[f"files/{place}"] = path.read_text(encoding="utf-8")
    return stored


def stable_diffusion_xl() -> dict[str, Any]:
    """A pipeline, and its guided estimate of the noise."""
    first, second = clip_tokenizer("<|endoftext|>"), clip_tokenizer("!")
    pipe = diffusers.StableDiffusionXLPipeline(
        text_encoder=clip(first, 8, None, "quick_gelu"), text_encoder_2=clip(second, 12, 10, "gelu"),
        tokenizer=first, tokenizer_2=second, unet=drawn(diffusers.UNet2DConditionModel(**UNET)),
        vae=drawn(diffusers.AutoencoderKL(**VAE, latent_channels=4, scaling_factor=0.13025)),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
        ),
        force_zeros_for_empty_prompt=True,
    )  # fmt: skip
    tokens, none, pooled, pooled_none = pipe.encode_prompt(TEXT, device="cpu", do_classifier_free_guidance=True)
    empty, _, pooled_empty, _ = pipe.encode_prompt("", device="cpu", do_classifier_free_guidance=False)
    x, time = draw(1, 4, 8, 8), 801.0
    sizes = pipe._get_add_time_ids((64, 48), (8, 0), (16, 16), torch.float32, 10)

    def noise(tokens: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        added = {"text_embeds": pooled, "time_ids": sizes}
        return pipe.unet(x, torch.tensor([time]), tokens, added_cond_kwargs=added).sample

    with_text, without = noise(tokens, pooled), noise(none, pooled_none)
    out = {"tokens": tokens, "pooled": pooled, "tokens_empty": empty, "pooled_empty": pooled_empty, "x": x}
    out |= {"guided": without + 5 * (with_text - without), "sizes": sizes}
    return folder_of(pipe) | {f"outputs/{name}": last(value) for name, value in out.items()} | {"time": time}


def stable_diffusion_3() -> dict[str, Any]:
    """A pipeline, its picture in two guided steps, and its velocity without T5."""
    first, second = clip_tokenizer("<|endoftext|>"), clip_tokenizer("!")
    encoder, third = t5()
    pipe = diffusers.StableDiffusion3Pipeline(
        text_encoder=clip(first, 8, 6, "quick_gelu"), text_encoder_2=clip(second, 12, 10, "gelu"),
        text_encoder_3=encoder, tokenizer=first, tokenizer_2=second, tokenizer_3=third,
        transformer=drawn(diffusers.SD3Transformer2DModel(**MMDIT)),
        vae=drawn(diffusers.AutoencoderKL(
            **VAE, latent_channels=2, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
            use_post_quant_conv=False,
        )),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    stored = folder_of(pipe)
    x, time = draw(1, 2, 8, 8), 0.75

    def encoded() -> Any:
        return pipe.encode_prompt(TEXT, TEXT, TEXT, device="cpu", do_classifier_free_guidance=False)

    tokens, _, pooled, _ = encoded()
    out = {"tokens": tokens, "pooled": pooled, "x": x}
    latents = pipe(TEXT, num_inference_steps=2, latents=x, output_type="latent", height=16, width=16).images
    out |= {"levels": pipe.scheduler.sigmas, "latents": latents}
    out["picture"] = pipe.vae.decode(latents / 1.5305 + 0.0609).sample
    pipe.text_encoder_3 = pipe.tokenizer_3 = None
    tokens, _, pooled, _ = encoded()
    out["velocity_without_t5"] = pipe.transformer(x, tokens, pooled, torch.tensor([1000 * time])).sample
    return stored | {f"outputs/{name}": last(value) for name, value in out.items()} | {"time": time}


def last(array: torch.Tensor) -> np.ndarray:
    """Channels last, as NumPy."""
    found = array.detach().numpy()
    return np.moveaxis(found, 1, -1) if found.ndim == 4 else found


def main() -> None:
    """Runs everything."""
    with torch.no_grad():
        cases = {"sdxl": stable_diffusion_xl(), "sd3": stable_diffusion_3()}
    stored = {f"{case}/{name}": value for case, arrays in cases.items() for name, value in arrays.items()}
    np.savez_compressed(Path(__file__).with_name("pipelines.npz"), **stored)


if __name__ == "__main__":
    main()
