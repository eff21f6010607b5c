"""Folders of diffusers' models, made of the stored weights."""

import json
import math
from pathlib import Path

import numpy as np

from jaxdiff.interop.tensors import write_tensors

TRANSFORMERS = np.load(Path(__file__).parent / "references" / "transformers.npz")
# The configuration of `make_transformers.py`.
DIT = {"_class_name": "DiTTransformer2DModel", "num_attention_heads": 2, "attention_head_dim": 4, "in_channels": 3}
DIT |= {"out_channels": 6, "num_layers": 2, "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 5}
SCHEDULE = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear"}
NAMES = ("tench", "cock", "hen", "ostrich", "jay")


def stored_weights(name):
    """The weights of a stored transformer, by their names in diffusers."""
    shapes = json.loads(str(TRANSFORMERS[f"{name}/shapes"]))
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    flat = np.split(TRANSFORMERS[f"{name}/weights"].astype(np.float32), ends[:-1])
    return {key: values.reshape(shapes[key]) for key, values in zip(shapes, flat, strict=True)}


def stored_dit():
    """The weights of the stored DiT, whose blocks have a copy of the embedders each."""
    weights = stored_weights("dit")
    return weights | {k.replace("s.0.", "s.1.", 1): value for k, value in weights.items() if ".norm1.emb." in k}


def write_model(folder, weights=None, config=DIT):
    """A folder of a DiT."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder / "diffusion_pytorch_model.safetensors", stored_dit() if weights is None else weights)
    return folder


def write_pipeline(folder):
    """A folder of a pipeline without an autoencoder."""
    write_model(folder / "transformer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULE))
    index = {"_class_name": "DiTPipeline", "id2label": dict(zip("01234", NAMES, strict=True))}
    index |= {"transformer": ["diffusers", "DiTTransformer2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


class Stored:
    """A stored model: its configuration, its weights by name, and inputs and outputs."""

    def __init__(self, name):
        with np.load(Path(__file__).parent / "references" / f"diffusers_{name}.npz") as file:
            arrays = dict(file)
        self.config = json.loads(str(arrays.pop("config")))
        inside = {key: value for key, value in arrays.items() if key.startswith("weights/")}
        self.weights = {key.removeprefix("weights/"): value.astype(np.float32) for key, value in inside.items()}
        self.arrays = {key: value for key, value in arrays.items() if key not in inside}

    def write(self, folder):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        write_tensors(folder / "diffusion_pytorch_model.safetensors", self.weights)
        return folder


STORED = {name: Stored(name) for name in ("ddpm", "scale_shift", "sd1", "sdxl", "vae")}
