"""Whole pipelines in one file of arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.checks import message, require
from jaxdiff.interop.diffusers.captions import FIRST, SECOND
from jaxdiff.interop.diffusers.pipelines import diffusion, latent_space
from jaxdiff.interop.foreign_model import Pretrained, PretrainedEncoder
from jaxdiff.interop.latent_diffusion import autoencoder_of, clip_of, open_clip_of, unet_of
from jaxdiff.interop.tensors import read_tensors
from jaxdiff.interop.text_encoders import encoder_of

_NETWORK, _CODEC, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
_TEXTS = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")
# What other models have, in the order in which they are looked for.
_OTHERS = {f"{_NETWORK}joint_blocks.": "Stable Diffusion 3", "cond_stage_model.model.": "Stable Diffusion 2"}
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class _Family(NamedTuple):
    """What no array of a file tells.

    Attributes:
      texts: the beginnings of the names of the text encoders.
      scale: the factor of the latents.
      schedule: the configuration of the scheduler.
    """

    texts: tuple[str, ...]
    scale: float
    schedule: Mapping[str, Any]


_ONE = _Family((_TEXT,), 0.18215, {"_class_name": "PNDMScheduler", **_BETAS})
_XL = _Family(
    _TEXTS,
    0.13025,
    {"_class_name": "EulerDiscreteScheduler", **_BETAS, "steps_offset": 1, "timestep_spacing": "leading"},
)


def read_single_file(path: Path, tokenizer: Path | None) -> Pretrained:
    """The model of a file of Stable Diffusion 1 or XL, as its authors published it.

    Args:
      path: the file, which holds the U-Net, the autoencoder and the text encoders.
      tokenizer: the folder of the tokenizer, which the file does not hold; for Stable Diffusion XL a folder of the
        folders `tokenizer` and `tokenizer_2`, since its two tokenizers pad texts with different words.

    Raises:
      ValueError: the file cannot be read, is of another model, or has arrays that do not fit; or there is no tokenizer.
    """
    tensors = read_tensors(path)
    family = _family(path, tensors)

    def inside(start: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}

    encoders = {}
    if family is _ONE:
        folder = _folder(tokenizer, "folders of the tokenizer of CLIP (vocab.json and merges.txt, or tokenizer.json)")
        text = inside(_TEXT)
        encoders[FIRST] = _encoder(clip_of(text), text, folder)
    else:
        folder = _folder(tokenizer, "folders that hold the folders tokenizer and tokenizer_2")
        first, (settings, second) = inside(_TEXTS[0]), open_clip_of(inside(_TEXTS[1]))
        encoders[FIRST] = _encoder(clip_of(first), first, folder / "tokenizer")
        encoders[SECOND] = _encoder(settings, second, folder / "tokenizer_2")
    (config, arrays), (codec, latents) = unet_of(inside(_NETWORK)), autoencoder_of(inside(_CODEC), family.scale)
    return diffusion(
        config,
        lambda: arrays,
        family.schedule,
        codec=latent_space(codec, lambda: latents),
        encoders=encoders,
    )


def _family(path: Path, tensors: Mapping[str, np.ndarray]) -> _Family:
    """The family of a file, by the names of its arrays."""

    def has(start: str) -> bool:
        return any(name.startswith(start) for name in tensors)

    others = [kind for start, kind in _OTHERS.items() if has(start)]
    families = [family for family in (_ONE, _XL) if all(map(has, (_NETWORK, _CODEC, *family.texts)))]
    if others or not families:
        allowed = f"Stable Diffusion 1 and XL, with {_NETWORK}*, {_CODEC}*, and {_TEXT}* or {'* and '.join(_TEXTS)}*"
        found = others[0] if others else "none known"
        raise ValueError(message(f"{path}: model in a single file", found, f"{allowed}; others are read from folders"))
    return families[0]


def _folder(tokenizer: Path | None, allowed: str) -> Path:
    if tokenizer is None:
        raise ValueError(message("tokenizer", None, f"{allowed}: the file has none"))
    require(tokenizer.is_dir(), "tokenizer", str(tokenizer), f"{allowed}: the file has none")
    return tokenizer


def _encoder(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], tokenizer: Path) -> PretrainedEncoder:
    return PretrainedEncoder(encoder_of(config, tensors, tokenizer), config=config, tensors=tensors)
