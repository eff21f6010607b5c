"""Pipelines of diffusers: a network, a scheduler, and perhaps an autoencoder and text encoders."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff.checks import require
from jaxdiff.codecs import Latents
from jaxdiff.components import Table
from jaxdiff.conditions import Label
from jaxdiff.data.fields import Field
from jaxdiff.guidance import ClassifierFree
from jaxdiff.interop.diffusers.autoencoders import autoencoder
from jaxdiff.interop.diffusers.captions import ENCODERS, captions, part_of
from jaxdiff.interop.diffusers.folders import weights_of
from jaxdiff.interop.diffusers.networks import Denoiser, Weights, denoiser
from jaxdiff.interop.diffusers.schedulers import scheduler
from jaxdiff.interop.diffusers.settings import LARGEST_PICTURE
from jaxdiff.interop.foreign_model import Pretrained, PretrainedEncoder
from jaxdiff.interop.layout import from_foreign
from jaxdiff.interop.tensors import read_json
from jaxdiff.interop.text_encoders import text_encoder
from jaxdiff.models import Autoencoder, Diffusion

_CODEC = "parts/codec"
_NETWORKS, _AUTOENCODERS = ("unet", "transformer"), ("vae", "vqvae")
# Parts of pipelines that take no part in sampling, or that are read with another part.
_IGNORED = ("safety_checker", "feature_extractor", "image_encoder", "tokenizer", "tokenizer_2", "tokenizer_3")


def read_pipeline(folder: Path) -> Pretrained:
    """The model of a folder with a `model_index.json`.

    Raises:
      ValueError: a part is missing, unknown, cannot be read, or does not fit the others.
    """
    where = f"{folder / 'model_index.json'}"
    index = read_json(folder / "model_index.json")
    parts = {name for name, value in index.items() if isinstance(value, list) and value and value[0]}
    unknown = sorted(parts - {*_NETWORKS, *_AUTOENCODERS, *ENCODERS, *_IGNORED, "scheduler"})
    allowed = f"scheduler, vae, {', '.join(ENCODERS)}, their tokenizers, and one of {' and '.join(_NETWORKS)}"
    require(not unknown, f"{where}: parts", unknown, allowed)
    networks = [name for name in _NETWORKS if name in parts]
    require(len(networks) == 1 and "scheduler" in parts, f"{where}: parts", sorted(parts), allowed)
    names = index.get("id2label") or {}
    require(isinstance(names, dict), f"{where}: id2label", type(names).__name__, "objects of names by number")
    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    codecs = [read_autoencoder(folder / name) for name in _AUTOENCODERS if name in parts]
    encoders = {
        name: _encoder(folder / name, folder / name.replace("text_encoder", "tokenizer"))
        for name in ENCODERS
        if name in parts
    }
    place = folder / networks[0]
    return diffusion(
        read_json(place / "config.json"),
        lambda: weights_of(place),
        schedule,
        codec=codecs[0] if codecs else None,
        encoders=encoders,
        names=names,
        zero_null=bool(index.get("force_zeros_for_empty_prompt", True)),
    )


def diffusion(
    config: Mapping[str, Any],
    weights: Weights,
    schedule: Mapping[str, Any],
    *,
    codec: Pretrained | None = None,
    encoders: Mapping[str, PretrainedEncoder] | None = None,
    names: Mapping[str, Any] | None = None,
    zero_null: bool = True,
) -> Pretrained:
    """A diffusion model of a network of diffusers.

    Args:
      config: the entries of the configuration of the network.
      weights: gives its arrays.
      schedule: the entries of the configuration of its scheduler.
      codec: its autoencoder; None for a model of pixels.
      encoders: its text encoders, by their names in pipelines.
      names: the names of its classes by their numbers.
      zero_null: whether Stable Diffusion XL is told zeros where no caption is asked for.

    Raises:
      ValueError: a configuration has a value that ours does not, or the parts or the arrays do not fit.
    """
    encoders = dict(encoders or {})
    found = denoiser(config, weights)
    process, parametrization, sampling = scheduler(schedule)
    size, channels = _size(config), found.channels
    options: dict[str, Any] = {"learned_variance": found.network.out_channels == 2 * channels}
    parts: dict[str, Pretrained | PretrainedEncoder] = {part_of(name): one for name, one in encoders.items()}
    if codec is not None:
        network = codec.model.network  # type: ignore[attr-defined]
        factor = 2 ** (len(getattr(network, "multipliers", (1,) * 4)) - 1)
        size, channels = (factor * size[0], factor * size[1]), network.data_channels
        options["codec"], parts[_CODEC] = Latents(_CODEC), codec
    fields = {"image": Field("picture", (*size, channels), "uint8")}
    if found.classes:
        fields["label"] = _label(found.classes, names or {})
        options["conditions"] = {"label": Label()}
    told = captions(config, {name: one.encoder for name, one in encoders.items()}, size, zero_null)
    if told is not None:
        fields |= told.fields
        options["conditions"] = told.conditions
        sampling = dataclasses.replace(sampling, guidance=ClassifierFree(told.scale))
    model = Diffusion(found.network, process, parametrization, **options)
    params = _parameters(model, fields, parts, found)
    return Pretrained(model, fields, params, sampling, parts=parts)


def read_autoencoder(folder: Path) -> Pretrained:
    """An autoencoder, whose latents have the scale that diffusion models in them expect."""
    return latent_space(read_json(folder / "config.json"), lambda: weights_of(folder))


def latent_space(config: Mapping[str, Any], weights: Weights) -> Pretrained:
    """The autoencoder of a configuration and its arrays."""
    found = autoencoder(config, weights())
    network, channels = found.network, found.network.latent_channels
    size = config.get("sample_size", 256)
    size = size if type(size) is int and size > 0 else 256
    fields = {"image": Field("picture", (size, size, network.data_channels), "uint8")}
    # `codecs.Latents` makes (z - mean)/std of a latent.
    mean, std = (np.full(channels, value, np.float32) for value in (found.shift, 1 / found.scale))
    extra = {"mean": mean, "square": mean**2 + std**2}
    return Pretrained(Autoencoder(network), fields, {"model": found.variables}, extra=extra)


def _parameters(
    model: Diffusion, fields: Mapping[str, Field], parts: Mapping[str, Any], found: Denoiser
) -> dict[str, Any]:
    """The parameters of a run of a model."""
    bound = model.bind(Table(fields), model.load(lambda part: parts[part].loaded()))
    shapes = jax.eval_shape(bound.init, jax.random.key(0))["model"]["params"]
    return {"model": {"params": from_foreign(shapes, found.tensors, found.layout)}}


def _size(config: Mapping[str, Any]) -> tuple[int, int]:
    """The height and the width of the input of a network."""
    size: Any = config.get("sample_size")
    sizes: list[Any] = size if isinstance(size, list) else [size, size]
    good = len(sizes) == 2 and all(type(length) is int and 0 < length <= LARGEST_PICTURE for length in sizes)
    require(good, "config.json: sample_size", size, f"an integer from 1 to {LARGEST_PICTURE}, or two")
    return sizes[0], sizes[1]


def _label(classes: int, names: Mapping[str, Any]) -> Field:
    """The field of classes, with their names if all have one."""
    given = [names.get(str(i)) for i in range(classes)]
    named = tuple(name for name in given if isinstance(name, str))
    return Field("label", (), "int32", classes, named if len(named) == classes else ())


def _encoder(folder: Path, tokenizer: Path) -> PretrainedEncoder:
    """A text encoder with its tokenizer."""
    encoder = text_encoder(folder, tokenizer if tokenizer.is_dir() else None)
    found = [path for place in (folder, tokenizer) if place.is_dir() for path in sorted(place.iterdir())]
    kept = (".json", ".safetensors", ".txt", ".model")
    return PretrainedEncoder(encoder, tuple(path for path in found if path.is_file() and path.suffix in kept))
