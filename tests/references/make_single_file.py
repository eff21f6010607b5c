"""Makes single_file.npz: the names of the single files of Stable Diffusion 1, XL and 3 beside those of diffusers.

    python scripts/benchmark/make_environment.py peers
    .environments/peers/bin/python tests/references/make_single_file.py

diffusers turns names of the first kind into names of the second. The arrays that it is given hold numbers, by which
they are found again. The shapes are those of a reduced network of diffusers, without memory for it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
)

UNET = {"block_out_channels": (32, 32, 64), "layers_per_block": 1, "sample_size": 64, "cross_attention_dim": 64}
UNET |= {"down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 8}
UNET |= {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")}
UNET_XL = {"block_out_channels": (64, 128), "layers_per_block": 1, "sample_size": 128, "cross_attention_dim": 128}
UNET_XL |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": (1, 2)}
UNET_XL |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "transformer_layers_per_block": (1, 2)}
UNET_XL |= {"use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256}
UNET_XL |= {"projection_class_embeddings_input_dim": 64 + 6 * 256}
MMDIT = {"sample_size": 128, "num_layers": 3, "num_attention_heads": 1, "attention_head_dim": 64, "patch_size": 2}
MMDIT |= {"joint_attention_dim": 160, "caption_projection_dim": 64, "pooled_projection_dim": 128, "in_channels": 4}
MMDIT |= {"pos_embed_max_size": 96, "out_channels": 4, "qk_norm": "rms_norm", "dual_attention_layers": (0,)}
VAE = {"block_out_channels": (32, 64), "layers_per_block": 1, "latent_channels": 4, "sample_size": 256}
VAE |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
BOTH = ("weight", "bias")


def residual(name: str) -> list[str]:
    """The layers of a residual block, with a shortcut that not every block has."""
    inside = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection")
    return [f"{name}.{layer}" for layer in inside]


def attention(name: str, depth: int = 1) -> list[str]:
    """The layers of a transformer."""
    parts = [f"{kind}.{part}" for kind in ("attn1", "attn2") for part in ("to_q", "to_k", "to_v", "to_out.0")]
    parts += ["norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"]
    layers = [f"{name}.transformer_blocks.{i}.{part}" for i in range(depth) for part in parts]
    return [*layers, *(f"{name}.{part}" for part in ("norm", "proj_in", "proj_out"))]


def unet_layers() -> list[str]:
    """The layers of the U-Net of the configuration above by the names of its authors."""
    layers = ["time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2"]
    layers += [*residual("middle_block.0"), *attention("middle_block.1"), *residual("middle_block.2")]
    for i, level in ((1, 0), (3, 1), (5, 2)):
        layers += residual(f"input_blocks.{i}.0")
        layers += [*attention(f"input_blocks.{i}.1"), f"input_blocks.{i + 1}.0.op"] if level < 2 else []
    for i, level in enumerate((2, 2, 1, 1, 0, 0)):
        layers += residual(f"output_blocks.{i}.0")
        layers += attention(f"output_blocks.{i}.1") if level < 2 else []
    return [*layers, "output_blocks.1.1.conv", "output_blocks.3.2.conv"]


def unet_xl_layers() -> list[str]:
    """The layers of `UNET_XL` by the names of its authors."""
    layers = ["time_embed.0", "time_embed.2", "label_emb.0.0", "label_emb.0.2", "input_blocks.0.0", "out.0", "out.2"]
    layers += [*residual("middle_block.0"), *attention("middle_block.1", 2), *residual("middle_block.2")]
    layers += [*residual("input_blocks.1.0"), "input_blocks.2.0.op", *residual("input_blocks.3.0")]
    layers += attention("input_blocks.3.1", 2)
    for i in range(4):
        layers += residual(f"output_blocks.{i}.0")
        layers += attention(f"output_blocks.{i}.1", 2) if i < 2 else []
    return [*layers, "output_blocks.1.2.conv"]


def autoencoder_layers() -> list[str]:
    """The layers of the autoencoder of the configuration above by the names of its authors."""
    inside = ("norm1", "conv1", "norm2", "conv2", "nin_shortcut")
    blocks = [f"encoder.down.{level}.block.0" for level in range(2)]
    blocks += [f"decoder.up.{level}.block.{i}" for level in range(2) for i in range(2)]
    blocks += [f"{half}.mid.block_{i}" for half in ("encoder", "decoder") for i in (1, 2)]
    layers = [f"{block}.{layer}" for block in blocks for layer in inside]
    for half in ("encoder", "decoder"):
        layers += [f"{half}.mid.attn_1.{layer}" for layer in ("norm", "q", "k", "v", "proj_out")]
        layers += [f"{half}.{layer}" for layer in ("conv_in", "norm_out", "conv_out")]
    return [*layers, "encoder.down.0.downsample.conv", "decoder.up.1.upsample.conv", "quant_conv", "post_quant_conv"]


def names(model: Any, layers: list[str], prefix: str, convert: Any) -> dict[str, list[Any]]:
    """The name of each array of a model in diffusers: its name in the single file, and its shape."""
    given = [f"{prefix}{layer}.{leaf}" for layer in layers for leaf in BOTH]
    found = convert({name: torch.tensor([float(i)]) for i, name in enumerate(given)}, model.config)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    missing = set(shapes) - set(found)
    assert not missing, missing
    return {name: [given[int(found[name])], shape] for name, shape in shapes.items()}


def mmdit_rows(model: Any) -> dict[str, list[Any]]:
    """The shape of each array of a model in diffusers, and its rows: names in the single file, and numbers of rows."""
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    width, given = MMDIT["caption_projection_dim"], {}
    rows = {"attn.qkv": 3 * width, "attn2.qkv": 3 * width, "mlp.fc1": 4 * width}
    layers = ["x_embedder.proj", "context_embedder", "final_layer.linear", "final_layer.adaLN_modulation.1"]
    layers += [f"{part}_embedder.mlp.{i}" for part in "ty" for i in (0, 2)]
    for i in range(MMDIT["num_layers"]):
        last = i == MMDIT["num_layers"] - 1
        for block, parts in (("x_block", ("attn", "attn2")), ("context_block", ("attn",))):
            names = [f"{part}.{layer}" for part in parts for layer in ("qkv", "proj", "ln_q", "ln_k")]
            names += ["mlp.fc1", "mlp.fc2", "adaLN_modulation.1"]
            skipped = ("attn.proj", "mlp.fc1", "mlp.fc2") if last and block == "context_block" else ()
            layers += [
                f"joint_blocks.{i}.{block}.{name}"
                for name in names
                if name not in skipped and not (i and name.startswith("attn2"))
            ]
    for layer in layers:
        inside = layer.split("block.")[-1]
        length = rows.get(inside, 16 if "final_layer.linear" in layer else width)
        if "adaLN" in layer:
            chunks = (
                2 if "final" in layer or ("context" in layer and ".2." in layer[:16]) else 9 if ".0.x" in layer else 6
            )
            length = chunks * width
        for leaf in ("weight",) if ".ln_" in layer else BOTH:
            given[f"{layer}.{leaf}"] = length
    given["pos_embed"] = 1
    keys = list(given)
    # `convert` reads a width from the shape of one array.
    numbers = {key: (1e5 * i + torch.arange(given[key]))[:, None] * torch.ones(1, 1) for i, key in enumerate(keys)}
    numbers = {
        key: value if key.endswith("weight") or key == "pos_embed" else value[:, 0] for key, value in numbers.items()
    }
    found = convert_sd3_transformer_checkpoint_to_diffusers(
        {f"model.diffusion_model.{k}": v for k, v in numbers.items()}
    )
    made = {}
    for name, shape in shapes.items():
        values = found[name].reshape(-1).long()
        assert len(values) == shape[0], (name, len(values), shape)
        starts = [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1] + 1)]
        ends = [*starts[1:], len(values)]
        made[name] = [
            shape,
            [
                [keys[int(values[a]) // 100_000], int(values[a]) % 100_000, b - a]
                for a, b in zip(starts, ends, strict=True)
            ],
        ]
    return made


def main() -> None:
    """Runs everything."""
    with torch.device("meta"):
        unet, unet_xl, vae = UNet2DConditionModel(**UNET), UNet2DConditionModel(**UNET_XL), AutoencoderKL(**VAE)
    found = {
        "unet": names(unet, unet_layers(), "model.diffusion_model.", convert_ldm_unet_checkpoint),
        "unet_xl": names(unet_xl, unet_xl_layers(), "model.diffusion_model.", convert_ldm_unet_checkpoint),
        "vae": names(vae, autoencoder_layers(), "first_stage_model.", convert_ldm_vae_checkpoint),
    }
    with torch.device("meta"):
        mmdit = SD3Transformer2DModel(**MMDIT)
    found["mmdit"] = mmdit_rows(mmdit)
    models = {"mmdit": mmdit, "unet": unet, "unet_xl": unet_xl, "vae": vae}
    configs = {name: {"_class_name": type(m).__name__, **m.config} for name, m in models.items()}
    path = Path(__file__).with_name("single_file.npz")
    np.savez_compressed(path, names=json.dumps(found), configs=json.dumps(configs))


if __name__ == "__main__":
    main()
