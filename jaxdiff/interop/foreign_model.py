"""A model of another library in our terms."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff.components import Table
from jaxdiff.conditions.text_encoder import TextEncoder
from jaxdiff.data.fields import Field
from jaxdiff.interop.tensors import write_tensors
from jaxdiff.interop.tokenizers import write_tokenizer
from jaxdiff.models import Model, Sampling


@dataclasses.dataclass(frozen=True)
class PretrainedEncoder:
    """A text encoder, which a run keeps as the files that it was read from.

    Attributes:
      encoder: the encoder and its tokenizer.
      files: its files, and those of the tokenizer; empty for an encoder that is part of a larger file.
      config: the entries of the configuration of an encoder without files of its own.
      tensors: the arrays of an encoder without files of its own.
    """

    encoder: TextEncoder
    files: tuple[Path, ...] = ()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tensors: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def loaded(self) -> TextEncoder:
        """The encoder with its weights."""
        return self.encoder

    def write(self, directory: Path) -> None:
        """Writes the encoder and its tokenizer into a new directory, as a folder of transformers."""
        directory.mkdir(parents=True)
        for file in self.files:
            shutil.copyfile(file, directory / file.name)
        if not self.files:
            (directory / "config.json").write_text(json.dumps(self.config))
            write_tensors(directory / "model.safetensors", self.tensors)
            write_tokenizer(self.encoder.tokenizer, directory)


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
