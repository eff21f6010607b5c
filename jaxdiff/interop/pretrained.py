"""Models of other libraries, as the models that a run gives."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdiff.checks import require
from jaxdiff.interop.diffusers.folders import weights_of
from jaxdiff.interop.diffusers.pipelines import diffusion, read_autoencoder, read_pipeline
from jaxdiff.interop.foreign_model import Pretrained
from jaxdiff.interop.hub import local_folder
from jaxdiff.interop.single_file import read_single_file
from jaxdiff.interop.tensors import read_json


def load_pretrained(folder: str | os.PathLike[str], *, tokenizer: str | os.PathLike[str] | None = None) -> Any:
    """Loads a model of diffusers from its folder, or Stable Diffusion from a single file.

        model = jd.load_pretrained("ddpm-cifar10-32")
        pictures = model.sample(jax.random.key(0), 16)

    Args:
      folder: a folder, or the name of one on the Hugging Face hub, `owner/name`. It holds a pipeline
        (`model_index.json`) with a `UNet2DModel`, a `DiTTransformer2DModel` or, for captions, a `UNet2DConditionModel`
        of Stable Diffusion 1, 2 or XL or the `SD3Transformer2DModel` of Stable Diffusion 3, and perhaps an
        autoencoder; an `AutoencoderKL` or an `AutoencoderTiny`; or a network alone, which is then taken for one of
        DDPM. A `DiTTransformer2DModel` is told the class `label`. Models of captions are told `text`, and Stable
        Diffusion XL also `sizes`: height and width of the whole picture, top and left of the crop, height and width of
        the crop. Without `sizes`, they are those of a whole picture. Or a single `.safetensors` file of Stable
        Diffusion 1, XL, 3 or 3.5 by the names of its authors (`model.diffusion_model.*`).
      tokenizer: the folder of the tokenizer of a single file, which holds none; for several text encoders a folder with
        the folders `tokenizer`, `tokenizer_2` and, with T5, `tokenizer_3`.

    Returns:
      The model, as `jd.load` returns it: a pytree whose weights are leaves.

    Raises:
      ValueError: the folder, a file or a configuration is missing or cannot be read, is a pickle, or is of a kind that
        we do not know; or arrays are missing, left over or of another shape.
    """
    return read_pretrained(folder, tokenizer).loaded()


def read_pretrained(folder: str | os.PathLike[str], tokenizer: str | os.PathLike[str] | None = None) -> Pretrained:
    """Reads a model of diffusers. The arguments and errors are those of `load_pretrained`."""
    path = local_folder(folder)
    if path.is_file():
        return read_single_file(path, None if tokenizer is None else Path(tokenizer))
    require(tokenizer is None, "tokenizer", str(tokenizer), "None for a folder, which has its own")
    require(path.is_dir(), "folder", str(path), "folders of diffusers that exist")
    if (path / "model_index.json").exists():
        return read_pipeline(path)
    config = read_json(path / "config.json")
    kind = str(config.get("_class_name", ""))
    readers: dict[str, Callable[[Path], Pretrained]] = {
        "UNet2DModel": lambda path: diffusion(config, lambda: weights_of(path), {}),
        "DiTTransformer2DModel": lambda path: diffusion(config, lambda: weights_of(path), {}),
        "AutoencoderKL": read_autoencoder,
        "AutoencoderTiny": read_autoencoder,
    }
    require(kind in readers, f"{path / 'config.json'}: _class_name", kind, ", ".join(readers))
    return readers[kind](path)
