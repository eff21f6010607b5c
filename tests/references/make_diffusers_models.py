"""Makes `diffusers_*.npz`: small models of diffusers with random weights, their inputs and their outputs.

Run it where PyTorch and diffusers are installed: `python tests/references/make_diffusers_models.py`. The stored files
are of diffusers 0.42.1 and torch 2.14.1.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel

HERE = Path(__file__).parent
RNG = np.random.default_rng(0)


def drawn(model):
    """The model with random weights everywhere, also where it begins with zeros."""
    for name, parameter in model.named_parameters():
        values = RNG.standard_normal(parameter.shape)
        if parameter.ndim > 1:
            values /= np.sqrt(parameter[0].numel())
        else:
            values = 0.1 * values + ("norm" in name and name.endswith("weight"))
        parameter.data = torch.from_numpy(values.astype(np.float16)).float()  # which compresses well
    return model.eval()


def last(array):
    """Channels last, as NumPy."""
    array = array.detach().numpy()
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def store(name, model, **arrays):
    weights = {f"weights/{key}": value.numpy().astype(np.float16) for key, value in model.state_dict().items()}
    config = json.dumps({"_class_name": type(model).__name__, **model.config})
    np.savez_compressed(
        HERE / f"diffusers_{name}.npz", config=config, **weights, **{k: last(v) for k, v in arrays.items()}
    )


TWO = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
torch.manual_seed(0)
with torch.no_grad():
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([7.0, 60.0])
    for name, options in {
        "ddpm": {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "attention_head_dim": None},
        "scale_shift": {
            "resnet_time_scale_shift": "scale_shift",
            "attention_head_dim": 4,
            "norm_eps": 1e-6,
            "attn_norm_num_groups": 4,
        },
    }.items():
        net = UNet2DModel(
            sample_size=8, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"), **TWO, **options,
        )  # fmt: skip
        store(name, drawn(net), x=x, t=t, y=net(x, t).sample)

    x, e = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 8)
    pooled, ids = torch.randn(2, 10), torch.tensor([[64.0, 48, 0, 8, 64, 64], [32, 32, 4, 0, 32, 32]])
    for name, options, added in (
        ("sd1", {"attention_head_dim": (2, 4), "transformer_layers_per_block": 1}, None),
        (
            "sdxl",
            {"attention_head_dim": (2, 4), "transformer_layers_per_block": (1, 2), "use_linear_projection": True,
             "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
             "projection_class_embeddings_input_dim": 10 + 6 * 4},
            {"text_embeds": pooled, "time_ids": ids},
        ),
    ):  # fmt: skip
        net = UNet2DConditionModel(
            sample_size=8, cross_attention_dim=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **TWO, **options,
        )  # fmt: skip
        y = drawn(net)(x, t, e, added_cond_kwargs=added).sample
        store(name, net, x=x, t=t, e=e, y=y, **({} if added is None else added))

    x = 2 * torch.rand(1, 3, 16, 16) - 1
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=2,
        sample_size=16, scaling_factor=0.5, shift_factor=0.25, **TWO,
    )  # fmt: skip
    posterior = drawn(vae).encode(x).latent_dist
    store("vae", vae, x=x, mean=posterior.mean, logvar=posterior.logvar, y=vae.decode(posterior.mean).sample)
