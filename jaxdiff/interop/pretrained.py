"""Models of other libraries, as the models that a run gives."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff.checks import require
from jaxdiff.codecs import Latents
from jaxdiff.components import Table
from jaxdiff.conditions import Label, PretrainedText
from jaxdiff.conditions.text_encoder import TextEncoder
from jaxdiff.data.fields import Field
from jaxdiff.guidance import ClassifierFree
from jaxdiff.interop.diffusers.autoencoders import autoencoder
from jaxdiff.interop.diffusers.folders import weights_of
from jaxdiff.interop.diffusers.names import renamed
from jaxdiff.interop.diffusers.schedulers import scheduler
from jaxdiff.interop.diffusers.settings import LARGEST_PICTURE, Settings
from jaxdiff.interop.diffusers.transformers import dit, dit_layout, dit_tensors
from jaxdiff.interop.diffusers.unets import layout, unet
from jaxdiff.interop.hub import local_folder
from jaxdiff.interop.layout import Layout, from_foreign
from jaxdiff.interop.tensors import read_json
from jaxdiff.interop.text_encoders import text_encoder
from jaxdiff.models import Autoencoder, Diffusion, Model, Sampling
from jaxdiff.networks import DiT, UNet

_CODEC, _TEXT = "parts/codec", "parts/text"
# Parts of pipelines that take no part in sampling.
_IGNORED = ("safety_checker", "feature_extractor", "image_encoder", "tokenizer")
# The guidance scale of the pipelines of Stable Diffusion.
_SCALE = 7.5


@dataclasses.dataclass(frozen=True)
class PretrainedEncoder:
    """A text encoder, which a run keeps as the files that it was read from.

    Attributes:
      encoder: the encoder and its tokenizer.
      files: its files, and those of the tokenizer.
    """

    encoder: TextEncoder
    files: tuple[Path, ...]

    def loaded(self) -> TextEncoder:
        """The encoder with its weights."""
        return self.encoder


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model of another library in our terms: all that a run of it holds.

    Attributes:
      model: the settings of the model.
      fields: the fields of its data.
      params: its parameters, as of a run.
      sampling: how samples are drawn.
      extra: mutable values of its objective, such as the statistics of latents.
      parts: the frozen models that it needs, by the paths in its settings.
    """

    model: Model
    fields: Mapping[str, Field]
    params: PyTree
    sampling: Sampling = Sampling()
    extra: PyTree = dataclasses.field(default_factory=dict)
    parts: Mapping[str, "Pretrained | PretrainedEncoder"] = dataclasses.field(default_factory=dict)

    def loaded(self) -> Any:
        """The model with weights, as `jd.load` returns it."""
        frozen = self.model.load(lambda part: self.parts[part].loaded())
        bound = self.model.bind(Table(self.fields), frozen)
        params, extra = jax.tree.map(jnp.asarray, (self.params, self.extra))
        return bound.loaded(params, {**frozen, "guidance": None}, extra, self.sampling)


def load_pretrained(folder: str | os.PathLike[str]) -> Any:
    """Loads a model of diffusers from its folder.

        model = jd.load_pretrained("ddpm-cifar10-32")
        pictures = model.sample(jax.random.key(0), 16)

    Args:
      folder: a folder, or the name of one on the Hugging Face hub, `owner/name`. It holds a pipeline
        (`model_index.json`) with a `UNet2DModel`, a `DiTTransformer2DModel` or, for captions, a `UNet2DConditionModel`
        of Stable Diffusion 1 or 2, and perhaps an autoencoder; an `AutoencoderKL` or an `AutoencoderTiny`; or a network
        alone, which is then taken for one of DDPM. A `DiTTransformer2DModel` is told the class `label`, and a
        `UNet2DConditionModel` the caption `text`.

    Returns:
      The model, as `jd.load` returns it: a pytree whose weights are leaves.

    Raises:
      ValueError: the folder, a file or a configuration is missing or cannot be read, is a pickle, or is of a kind that
        we do not know; or arrays are missing, left over or of another shape.
    """
    return read_pretrained(folder).loaded()


def read_pretrained(folder: str | os.PathLike[str]) -> Pretrained:
    """Reads a model of diffusers. The arguments and errors are those of `load_pretrained`."""
    path = local_folder(folder)
    require(path.is_dir(), "folder", str(path), "folders of diffusers that exist")
    if (path / "model_index.json").exists():
        return _pipeline(path)
    config = read_json(path / "config.json")
    kind = str(config.get("_class_name", ""))
    readers: dict[str, Callable[[Path], Pretrained]] = {
        "UNet2DModel": lambda path: _diffusion(path, {}, {}),
        "DiTTransformer2DModel": lambda path: _diffusion(path, {}, {}),
        "AutoencoderKL": _autoencoder,
        "AutoencoderTiny": _autoencoder,
    }
    require(kind in readers, f"{path / 'config.json'}: _class_name", kind, ", ".join(readers))
    return readers[kind](path)


def _pipeline(folder: Path) -> Pretrained:
    """A pipeline: a network, a scheduler, and an autoencoder if the network works on latents."""
    index = read_json(folder / "model_index.json")
    parts = {name: value for name, value in index.items() if isinstance(value, list) and value and value[0]}
    unknown = sorted({*parts} - {"unet", "transformer", "scheduler", "vae", "vqvae", "text_encoder", *_IGNORED})
    allowed = "scheduler, vae, text_encoder, tokenizer, and one of unet and transformer"
    where = f"{folder / 'model_index.json'}"
    require(not unknown, f"{where}: parts", unknown, allowed)
    networks = [name for name in ("unet", "transformer") if name in parts]
    require(len(networks) == 1 and "scheduler" in parts, f"{where}: parts", sorted(parts), allowed)
    frozen: dict[str, Pretrained | PretrainedEncoder] = {}
    for name in ("vae", "vqvae"):
        if name in parts:
            frozen[_CODEC] = _autoencoder(folder / name)
    if "text_encoder" in parts:
        frozen[_TEXT] = _encoder(folder / "text_encoder", folder / "tokenizer")
    names = index.get("id2label") or {}
    require(isinstance(names, dict), f"{where}: id2label", type(names).__name__, "objects of names by number")
    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    return _diffusion(folder / networks[0], schedule, frozen, names)


class _Network(NamedTuple):
    """A network of diffusers.

    Attributes:
      network: the network, without its conditions.
      tensors: its arrays by the names of the layout.
      layout: the names.
      classes: the number of classes that the network is told; 0 for a network that is told none.
    """

    network: UNet | DiT
    tensors: Mapping[str, np.ndarray]
    layout: Layout
    classes: int = 0


def _network(config: Mapping[str, Any], folder: Path) -> _Network:
    """The network in a folder, and its arrays."""
    if config.get("_class_name") == "DiTTransformer2DModel":
        transformer, classes = dit(config), Settings(config).length("num_embeds_ada_norm", 1000)
        return _Network(transformer, dit_tensors(weights_of(folder), transformer.depth), dit_layout(), classes)
    network, tensors, given = unet(config), renamed(weights_of(folder)), config.get("num_class_embeds")
    if given is not None:
        # The number of rows bounds the number of classes, which a hostile file could make as large as it likes.
        table = tensors.get("class_embedding.weight", np.zeros(0))
        good = type(given) is int and 0 < given == len(np.atleast_1d(table))
        require(good, f"{folder / 'config.json'}: num_class_embeds", given, "the number of classes in the weights")
        # Our tables have a row for no class. There is none, and zero adds nothing.
        tensors["class_embedding.weight"] = np.concatenate([table, np.zeros_like(table[:1])])
    reads_text = config.get("_class_name") == "UNet2DConditionModel"
    return _Network(network, tensors, layout(len(network.multipliers), context=reads_text), given or 0)


def _diffusion(
    folder: Path,
    schedule: Mapping[str, Any],
    frozen: Mapping[str, Pretrained | PretrainedEncoder],
    names: Mapping[str, Any] | None = None,
) -> Pretrained:
    """A diffusion model of a network of diffusers.

    Args:
      folder: the folder of the network.
      schedule: the entries of the configuration of its scheduler.
      frozen: its autoencoder and its text encoder.
      names: the names of the classes by their numbers.
    """
    config = read_json(folder / "config.json")
    network, tensors, names_there, classes = _network(config, folder)
    process, parametrization, sampling = scheduler(schedule)
    usual = 4 if isinstance(network, DiT) else 3
    size, channels = config.get("sample_size"), Settings(config).length("in_channels", usual)
    sizes = size if isinstance(size, list) else [size, size]
    good = len(sizes) == 2 and all(type(length) is int and 0 < length <= LARGEST_PICTURE for length in sizes)
    require(good, f"{folder / 'config.json'}: sample_size", size, f"an integer from 1 to {LARGEST_PICTURE}, or two")
    options: dict[str, Any] = {}
    if isinstance(network, DiT):
        options["learned_variance"] = network.out_channels == 2 * channels
    if _CODEC in frozen:
        codec: Any = frozen[_CODEC]
        settings = codec.model
        factor = 2 ** (len(getattr(settings.network, "multipliers", (1,) * 4)) - 1)
        options["codec"], channels = Latents(_CODEC), settings.network.data_channels
        sizes = [factor * length for length in sizes]
    shape = (*sizes, channels)
    fields = {"image": Field("picture", shape, "uint8")}
    if classes:
        given = [(names or {}).get(str(i)) for i in range(classes)]
        named = tuple(name for name in given if isinstance(name, str))
        fields["label"] = Field("label", (), "int32", classes, named if len(named) == classes else ())
        options["conditions"] = {"label": Label()}
    reads_text = config.get("_class_name") == "UNet2DConditionModel"
    require(
        reads_text == (_TEXT in frozen), f"{folder}: text encoder", _TEXT in frozen, f"{reads_text} for this network"
    )
    if reads_text:
        encoder: Any = frozen[_TEXT].loaded()
        fields["caption"] = Field("text", (), "str")
        length = getattr(encoder.network, "length", None) or 77
        options["conditions"] = {"text": PretrainedText(_TEXT, length=length, masked=False)}
        sampling = dataclasses.replace(sampling, guidance=ClassifierFree(_SCALE))
    model = Diffusion(network, process, parametrization, **options)
    loaded = model.load(lambda part: frozen[part].loaded())
    bound = model.bind(Table(fields), loaded)
    shapes = jax.eval_shape(bound.init, jax.random.key(0))["model"]["params"]
    params = {"model": {"params": from_foreign(shapes, tensors, names_there)}}
    return Pretrained(model, fields, params, sampling, parts=frozen)


def _autoencoder(folder: Path) -> Pretrained:
    """An autoencoder, whose latents have the scale that diffusion models in them expect."""
    config = read_json(folder / "config.json")
    found = autoencoder(config, weights_of(folder))
    network, channels = found.network, found.network.latent_channels
    size = config.get("sample_size", 256)
    size = size if type(size) is int and size > 0 else 256
    fields = {"image": Field("picture", (size, size, network.data_channels), "uint8")}
    # `codecs.Latents` makes (z - mean)/std of a latent.
    mean, std = (np.full(channels, value, np.float32) for value in (found.shift, 1 / found.scale))
    extra = {"mean": mean, "square": mean**2 + std**2}
    return Pretrained(Autoencoder(network), fields, {"model": found.variables}, extra=extra)


def _encoder(folder: Path, tokenizer: Path) -> PretrainedEncoder:
    """A text encoder with its tokenizer."""
    places = (folder, tokenizer) if tokenizer.is_dir() else (folder,)
    found = [path for place in places for path in sorted(place.iterdir()) if path.is_file()]
    kept = (".json", ".safetensors", ".txt", ".model")
    return PretrainedEncoder(text_encoder(folder, places[-1]), tuple(path for path in found if path.suffix in kept))
