"""Whole pipelines in one file of arrays."""

from pathlib import Path

import numpy as np

from jaxdiff.checks import message
from jaxdiff.interop.diffusers.captions import FIRST
from jaxdiff.interop.diffusers.pipelines import diffusion, latent_space
from jaxdiff.interop.foreign_model import Pretrained, PretrainedEncoder
from jaxdiff.interop.latent_diffusion import autoencoder_of, clip_of, unet_of
from jaxdiff.interop.tensors import read_tensors
from jaxdiff.interop.text_encoders import encoder_of

_NETWORK, _CODEC, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
# What other models have, in the order in which they are looked for.
_OTHERS = {
    f"{_NETWORK}joint_blocks.": "Stable Diffusion 3",
    "conditioner.embedders.": "Stable Diffusion XL",
    "cond_stage_model.model.": "Stable Diffusion 2",
}
_SCHEDULE = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def read_single_file(path: Path, tokenizer: Path | None) -> Pretrained:
    """The model of a file of Stable Diffusion 1, as its authors published it.

    Args:
      path: the file, which holds the U-Net, the autoencoder and the text encoder.
      tokenizer: the folder of the tokenizer of the text encoder, which the file does not hold.

    Raises:
      ValueError: the file cannot be read, is of another model, or has arrays that do not fit; or there is no tokenizer.
    """
    tensors = read_tensors(path)
    kinds = [kind for start, kind in _OTHERS.items() if any(name.startswith(start) for name in tensors)]
    if kinds or not all(any(name.startswith(start) for name in tensors) for start in (_NETWORK, _CODEC, _TEXT)):
        allowed = f"Stable Diffusion 1, with {_NETWORK}*, {_CODEC}* and {_TEXT}*; others are read from folders"
        raise ValueError(message(f"{path}: model in a single file", kinds[0] if kinds else "none known", allowed))
    if tokenizer is None:
        allowed = "folders of the tokenizer of CLIP (vocab.json and merges.txt, or tokenizer.json): the file has none"
        raise ValueError(message("tokenizer", None, allowed))

    def inside(start: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}

    text, (config, arrays), (codec, latents) = inside(_TEXT), unet_of(inside(_NETWORK)), autoencoder_of(inside(_CODEC))
    settings = clip_of(text)
    encoder = PretrainedEncoder(encoder_of(settings, text, tokenizer), config=settings, tensors=text)
    return diffusion(
        config,
        lambda: arrays,
        _SCHEDULE,
        codec=latent_space(codec, lambda: latents),
        encoders={FIRST: encoder},
    )
