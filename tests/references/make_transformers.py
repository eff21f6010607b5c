"""Makes transformers.npz: outputs of diffusers' transformers of tiny sizes, with their inputs and weights.

    python scripts/benchmark/make_environment.py peers
    .environments/peers/bin/python tests/references/make_transformers.py

All weights are random, also those that start at zero. They are stored in float16, and the outputs were computed in
float32 with the stored numbers.
"""

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

DIT = {"num_attention_heads": 2, "attention_head_dim": 4, "in_channels": 3, "out_channels": 6, "num_layers": 2}
DIT |= {"sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 5}
SD3 = {"sample_size": 8, "patch_size": 2, "in_channels": 3, "out_channels": 3, "num_layers": 2}
SD3 |= {"attention_head_dim": 4, "num_attention_heads": 2, "joint_attention_dim": 6, "caption_projection_dim": 8}
SD3 |= {"pooled_projection_dim": 5, "pos_embed_max_size": 7}
SD35 = SD3 | {"num_layers": 3, "qk_norm": "rms_norm", "dual_attention_layers": (0,)}


def random_weights(model: Any, seed: int) -> dict[str, torch.Tensor]:
    """Gives a model random weights, which float16 holds, and returns them by name."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 4
            values = torch.randn(weight.shape, generator=generator) / fan_in**0.5
            one = weight.ndim == 1 and "norm_" in name
            weight.copy_((values * 0.3 + 1 if one else values).half().float())
    return dict(model.state_dict())


def main() -> None:
    """Runs everything."""
    generator = torch.Generator().manual_seed(0)
    stored: dict[str, np.ndarray] = {}

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).half().float()

    def store(case: str, weights: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor], out: torch.Tensor) -> None:
        flat = [value.numpy().astype(np.float16).ravel() for value in weights.values()]
        stored[f"{case}/weights"] = np.concatenate(flat)  # one array, since each has a header of its own in the file
        stored[f"{case}/shapes"] = np.array(json.dumps({name: list(value.shape) for name, value in weights.items()}))
        for name, value in inputs.items():
            stored[f"{case}/inputs/{name}"] = value.numpy()
        stored[f"{case}/output"] = out.numpy()

    dit = diffusers.DiTTransformer2DModel(**DIT).eval()
    weights = random_weights(dit, 1)
    with torch.no_grad():  # published files hold equal copies of the embedders, one in each block
        for name, weight in dit.named_parameters():
            if ".norm1.emb." in name:
                weight.copy_(weights["transformer_blocks.0." + name.split(".", 2)[2]])
    weights = {
        n: w for n, w in dit.state_dict().items() if ".norm1.emb." not in n or n.startswith("transformer_blocks.0.")
    }
    inputs = {"x": draw(2, 3, 8, 8), "time": torch.tensor([3.0, 801.0]), "label": torch.tensor([1, 5])}
    with torch.no_grad():
        out = dit(inputs["x"], timestep=inputs["time"], class_labels=inputs["label"]).sample
    store("dit", weights, inputs, out)

    for seed, (case, settings) in enumerate({"sd3": SD3, "sd35": SD35}.items(), start=2):
        model = diffusers.SD3Transformer2DModel(**settings).eval()
        weights = random_weights(model, seed)
        inputs = {"x": draw(2, 3, 8, 12), "time": torch.tensor([3.0, 801.0])}
        inputs |= {"text": draw(2, 4, 6), "pooled": draw(2, 5)}
        with torch.no_grad():
            out = model(
                inputs["x"],
                encoder_hidden_states=inputs["text"],
                pooled_projections=inputs["pooled"],
                timestep=inputs["time"],
            ).sample
        table = weights.pop("pos_embed.pos_embed")
        store(case, weights, inputs | {"table": table}, out)
    np.savez_compressed(Path(__file__).with_name("transformers.npz"), **stored)


if __name__ == "__main__":
    main()
