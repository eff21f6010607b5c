"""A model of another library in our terms."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdiff.components import Table
from jaxdiff.conditions.text_encoder import TextEncoder
from jaxdiff.data.fields import Field
from jaxdiff.models import Model, Sampling


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
