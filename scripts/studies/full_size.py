"""Networks of diffusers and transformers at full size, with random weights, beside ours: `full_size.py`.

The script runs in the environment that `scripts/benchmark/make_environment.py peers` makes. A process of its own makes
each network, draws all its weights, writes its folder and its outputs on random inputs, and ends. Our network then
reads the folder. The table has the number of parameters, and the largest difference of the outputs in float32 beside
their largest value.
"""

import dataclasses
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff.checks import one_of
from jaxdiff.cli import command_line
from jaxdiff.interop.clip import clip
from jaxdiff.interop.diffusers.folders import weights_of
from jaxdiff.interop.diffusers.networks import denoiser
from jaxdiff.interop.layout import from_foreign
from jaxdiff.interop.pretrained import load_pretrained
from jaxdiff.interop.tensors import read_json
from jaxdiff.networks.module import Spec

NAMES = ("ddpm", "vae", "clip", "dit", "sd1")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The networks."""

    only: tuple[str, ...] = NAMES
    """The U-Net of DDPM, the autoencoder and the text encoder of Stable Diffusion 1, DiT-XL/2, and the U-Net of Stable
    Diffusion 1."""
    make: str | None = None
    """For the script's own use: the network that this process makes."""
    folder: Path = Path()
    """For the script's own use: its folder."""

    def __post_init__(self) -> None:
        for name in self.only:
            one_of("only", name, NAMES)


def main(arguments: Arguments) -> None:
    """Prints a table in Markdown."""
    if arguments.make is not None:
        make(arguments.make, arguments.folder)
        return
    print("| network | parameters | largest difference | largest value |\n|---|---|---|---|", flush=True)
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as directory:
            command = [sys.executable, __file__, "--make", name, "--folder", directory]
            subprocess.run(command, check=True)
            with np.load(Path(directory) / "arrays.npz") as stored:
                count, found, expected = ours(name, Path(directory), dict(stored))
        differences = [np.abs(np.asarray(a) - b).max() for a, b in zip(found, expected, strict=True)]
        largest = max(float(np.abs(b).max()) for b in expected)
        print(f"| {name} | {count:,} | {max(differences):.1e} | {largest:.1f} |", flush=True)


def make(name: str, folder: Path) -> None:
    """Makes a network of a peer, its folder and its outputs."""
    torch, diffusers, transformers = (importlib.import_module(p) for p in ("torch", "diffusers", "transformers"))
    sys.path.append(str(Path(__file__).parents[1] / "benchmark"))
    from peers import ddpm_unet

    torch.manual_seed(0)
    four = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    widths = (320, 640, 1280, 1280)
    makers: dict[str, Any] = {
        "ddpm": lambda: ddpm_unet(diffusers, 32),
        "vae": lambda: diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ),
        "clip": lambda: transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
            )
        ),
        "dit": lambda: diffusers.DiTTransformer2DModel(out_channels=8),
        "sd1": lambda: diffusers.UNet2DConditionModel(
            sample_size=64,
            cross_attention_dim=768,
            attention_head_dim=8,
            block_out_channels=widths,
            down_block_types=four,
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        ),
    }
    with torch.no_grad():
        model = makers[name]().eval()
        for key, parameter in model.named_parameters():
            values = torch.randn(parameter.shape)
            matrix = parameter.ndim > 1
            one = "norm" in key and key.endswith("weight")
            parameter.data = values / parameter[0].numel() ** 0.5 if matrix else 0.1 * values + one
        if name == "dit":  # the published weights have the same embedders in all blocks
            first = model.transformer_blocks[0].norm1.emb.state_dict()
            for block in model.transformer_blocks:
                block.norm1.emb.load_state_dict(first)
        model.save_pretrained(folder)
        t, arrays = torch.tensor([7.0, 600.0]), {}
        if name == "ddpm":
            arrays = {"x": (x := torch.randn(2, 3, 32, 32)), "t": t, "y": model(x, t).sample}
        elif name == "vae":
            latents = model.encode(x := torch.randn(1, 3, 256, 256)).latent_dist.mean
            arrays = {"x": x, "y": latents, "z": model.decode(latents).sample}
        elif name == "clip":
            ids = torch.randint(0, 49000, (2, 77))
            ids[:, -1] = 49407
            told = model(ids)
            arrays = {"x": ids, "y": told.last_hidden_state, "z": told.pooler_output}
        elif name == "dit":
            x, label = torch.randn(2, 4, 32, 32), torch.tensor([3, 999])
            arrays = {"x": x, "t": t, "label": label, "y": model(x, t.long(), label).sample}
        else:
            x, text = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768)
            arrays = {"x": x, "t": t, "text": text, "y": model(x, t, text).sample}
    last = {key: np.moveaxis(a, 1, -1) if (a := value.numpy()).ndim == 4 else a for key, value in arrays.items()}
    np.savez(folder / "arrays.npz", **last)


def ours(name: str, folder: Path, arrays: dict[str, np.ndarray]) -> tuple[int, list[Any], list[np.ndarray]]:
    """The number of parameters, our outputs, and those of the peer."""
    x = arrays["x"]
    if name == "vae":
        model = load_pretrained(folder)
        mean, _ = jax.jit(model.bound.posterior)(model.params, x)
        return _count(model.params), [mean, jax.jit(model.decode)(arrays["y"])], [arrays["y"], arrays["z"]]
    if name == "clip":
        network, variables = clip(read_json(folder / "config.json"), weights_of(folder))
        both = jax.jit(lambda *a: network.apply(*a, method="tokens_and_pooled"))
        tokens, pooled = both(variables, x, np.ones(x.shape, bool))
        return _count(variables), [tokens["values"], pooled], [arrays["y"], arrays["z"]]
    made = denoiser(read_json(folder / "config.json"), lambda: weights_of(folder))
    cond: dict[str, Any] = {}
    specs: dict[str, Spec] = {}
    if name == "dit":
        specs, cond = {"label": Spec("class", classes=1000)}, {"label": arrays["label"]}
    elif name == "sd1":
        text = arrays["text"]
        specs = {"text": Spec("tokens", text.shape[1:])}
        cond = {"text": {"values": text, "mask": np.ones(text.shape[:2], bool)}}
    made_for = made.network.given(specs)
    given = (x, arrays["t"], cond or None)
    shapes = jax.eval_shape(made_for.init, jax.random.key(0), *given)["params"]
    params = {"params": from_foreign(shapes, made.tensors, made.layout)}
    return _count(params), [jax.jit(made_for.apply)(params, *given)], [arrays["y"]]


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    command_line.run(main)
