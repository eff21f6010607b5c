"""Whole pipelines in one file of arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.checks import message, require
from jaxdiff.interop.diffusers.captions import FIRST, SECOND, THIRD
from jaxdiff.interop.diffusers.pipelines import diffusion, latent_space
from jaxdiff.interop.foreign_model import Pretrained, PretrainedEncoder
from jaxdiff.interop.latent_diffusion import autoencoder_of, clip_of, open_clip_of, unet_of
from jaxdiff.interop.stable_diffusion_3 import t5_of, transformer_of
from jaxdiff.interop.tensors import read_tensors
from jaxdiff.interop.text_encoders import encoder_of

_NETWORK, _CODEC, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
_TEXTS = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")
_THREE = ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.")
_T5 = "text_encoders.t5xxl.transformer."
# What other models have.
_OTHERS = {"cond_stage_model.model.": "Stable Diffusion 2"}
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class _Family(NamedTuple):
    """What no array of a file tells.

    Attributes:
      texts: the beginnings of the names of the text encoders.
      schedule: the configuration of the scheduler.
      scale: the factor of the latents.
      shift: the mean of the latents; None for 0.
    """

    texts: tuple[str, ...]
    schedule: Mapping[str, Any]
    scale: float
    shift: float | None = None


_EULER = {"_class_name": "EulerDiscreteScheduler", **_BETAS, "steps_offset": 1, "timestep_spacing": "leading"}
_ONE = _Family((_TEXT,), {"_class_name": "PNDMScheduler", **_BETAS}, 0.18215)
_XL = _Family(_TEXTS, _EULER, 0.13025)
_SD3 = _Family(_THREE, {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, 1.5305, 0.0609)


def read_single_file(path: Path, tokenizer: Path | None) -> Pretrained:
    """The model of a file of Stable Diffusion 1, XL, 3 or 3.5, as its authors published it.

    Args:
      path: the file, which holds the network, the autoencoder and the text encoders. T5 may be left out.
      tokenizer: the folder of the tokenizer, which the file does not hold; for several encoders a folder of the folders
        `tokenizer`, `tokenizer_2` and, with T5, `tokenizer_3`, as the tokenizers pad texts with different words.

    Raises:
      ValueError: the file cannot be read, is of another model, or has arrays that do not fit; or there is no tokenizer.
    """
    tensors = read_tensors(path)
    family = _family(path, tensors)

    def inside(start: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}

    encoders: dict[str, PretrainedEncoder] = {}
    if family is _ONE:
        folder = _folder(tokenizer, "folders of the tokenizer of CLIP (vocab.json and merges.txt, or tokenizer.json)")
        text = inside(_TEXT)
        encoders[FIRST] = _encoder(clip_of(text), text, folder)
    else:
        folder = _folder(tokenizer, "folders that hold the folders tokenizer and tokenizer_2, and tokenizer_3 with T5")
        first, second = map(inside, family.texts)
        settings = clip_of(second) | {"hidden_act": "gelu"} if family is _SD3 else None
        if settings is None:
            settings, second = open_clip_of(second)
        else:
            # The first encoder of Stable Diffusion 3 gives its vector as it is. Files leave the projection out.
            width = int(clip_of(first)["hidden_size"])
            first.setdefault("text_projection.weight", np.eye(width, dtype=np.float32))
        encoders[FIRST] = _encoder(clip_of(first), first, folder / "tokenizer")
        encoders[SECOND] = _encoder(settings, second, folder / "tokenizer_2")
        if third := inside(_T5):
            encoders[THIRD] = _encoder(t5_of(third), third, folder / "tokenizer_3")
    config, arrays = transformer_of(inside(_NETWORK)) if family is _SD3 else unet_of(inside(_NETWORK))
    codec, latents = autoencoder_of(inside(_CODEC), family.scale, family.shift)
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
    families = [family for family in (_ONE, _XL, _SD3) if all(map(has, (_NETWORK, _CODEC, *family.texts)))]
    if others or not families:
        texts = " or ".join("* and ".join(family.texts) + "*" for family in (_ONE, _XL, _SD3))
        allowed = f"Stable Diffusion 1, XL and 3, with {_NETWORK}*, {_CODEC}*, and {texts}"
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
