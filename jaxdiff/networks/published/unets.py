"""The published U-Nets. The source and the number of parameters of each stand in its docstring."""

import math

from jaxdiff.networks.layers.embeddings import Fourier, Sinusoidal
from jaxdiff.networks.unets.unet import UNet

_OF_ADM = Sinusoidal(cos_first=True, endpoint=False)
# The residual blocks of score_sde (Song et al. 2021), which EDM took over.
_SCORE_SDE = UNet(decoder_attention="last", resampling="residual", resample_projection=True, skip_scale=math.sqrt(0.5))
_ADM = UNet(
    channels=256,
    num_blocks=2,
    head_channels=64,
    embedding=_OF_ADM,
    scale_shift=True,
    resampling="residual",
    norm_eps=1e-5,
)
_LATENT = UNet(channels=320, embedding=_OF_ADM, downsample_padding="symmetric", norm_eps=1e-5)


def ddpm() -> UNet:
    """DDPM for CIFAR-10 and for `google/ddpm-cifar10-32` of diffusers: 35,746,307 parameters.

    Ho et al. 2020 (arXiv 2006.11239), appendix B. The time input is the step, 0 to 999.
    """
    return UNet(dropout=0.1)


def ddpm_256() -> UNet:
    """DDPM for 256 pixels and for `google/ddpm-celebahq-256` of diffusers: 113,673,219 parameters.

    Ho et al. 2020 (arXiv 2006.11239), appendix B.
    """
    return UNet(multipliers=(1, 1, 2, 2, 4, 4), attention_levels=(4,))


def ddpmpp() -> UNet:
    """EDM's DDPM++ for CIFAR-10: 55,732,739 parameters.

    Karras et al. 2022 (arXiv 2206.00364), table 7, and its code (`SongUNet` with positional embedding).
    """
    return _SCORE_SDE.clone(multipliers=(2, 2, 2), num_blocks=4, dropout=0.13)


def ncsnpp() -> UNet:
    """EDM's NCSN++ for CIFAR-10: 56,395,523 parameters.

    Karras et al. 2022 (arXiv 2206.00364), table 7, and its code (`SongUNet` with Fourier embedding and a residual
    encoder). The time input is ln(sigma)/4.
    """
    return ddpmpp().clone(embedding=Fourier(16.0), resample_filter=(1, 3, 3, 1), input_residual=True)


def ncsnpp_256() -> UNet:
    """NCSN++ for 256 pixels, with input and output skips (`google/ncsnpp-celebahq-256`): 65,574,421.

    Song et al. 2021 (arXiv 2011.13456), appendix H.1, and its code (`ve/celebahq_256_ncsnpp_continuous.py`). The time
    input is ln(sigma).
    """
    return _SCORE_SDE.clone(
        multipliers=(1, 1, 2, 2, 2, 2, 2),
        attention_levels=(4,),
        embedding=Fourier(16.0),
        resample_filter=(1, 3, 3, 1),
        input_skip=True,
        output_skip=True,
    )


def adm_64() -> UNet:
    """ADM for ImageNet-64: 295,131,267 parameters, and 295.9 million with the 1000 classes.

    Dhariwal & Nichol 2021 (arXiv 2105.05233), table 13. Networks with learned variances have `out_channels=6`.
    """
    return _ADM.clone(channels=192, multipliers=(1, 2, 3, 4), num_blocks=3, attention_levels=(1, 2, 3), dropout=0.1)


def adm_128() -> UNet:
    """ADM for ImageNet-128: 422 million parameters with the 1000 classes.

    Dhariwal & Nichol 2021 (arXiv 2105.05233), table 13, and its code: four heads at every level.
    """
    return _ADM.clone(multipliers=(1, 1, 2, 3, 4), attention_levels=(2, 3, 4), head_channels=None, heads=(4,) * 5)


def adm_256() -> UNet:
    """ADM for ImageNet-256: 554 million parameters with the 1000 classes.

    Dhariwal & Nichol 2021 (arXiv 2105.05233), table 13.
    """
    return _ADM.clone(multipliers=(1, 1, 2, 2, 4, 4), attention_levels=(3, 4, 5))


def adm_512() -> UNet:
    """ADM for ImageNet-512: 559 million parameters with the 1000 classes.

    Dhariwal & Nichol 2021 (arXiv 2105.05233), table 13, whose multipliers of 256 channels begin with a half.
    """
    return _ADM.clone(
        channels=128, multipliers=(1, 2, 2, 4, 4, 8, 8), attention_levels=(4, 5, 6), embedding_features=256
    )


def stable_diffusion_1() -> UNet:
    """Stable Diffusion 1.x: 859,520,964 parameters with tokens of width 768 (CLIP L) and latents of 4 channels.

    Rombach et al. 2022 (arXiv 2112.10752); `unet/config.json` of the diffusers folders.
    """
    return _LATENT.clone(multipliers=(1, 2, 4, 4), attention_levels=(0, 1, 2), heads=(8,) * 4)


def stable_diffusion_2() -> UNet:
    """Stable Diffusion 2.x: 865,910,724 parameters with tokens of width 1024 (OpenCLIP H) and latents of 4 channels.

    `unet/config.json` of the diffusers folders.
    """
    return _LATENT.clone(multipliers=(1, 2, 4, 4), attention_levels=(0, 1, 2), head_channels=64)


def stable_diffusion_xl() -> UNet:
    """Stable Diffusion XL: 2,567,463,684 parameters with latents of 4 channels, tokens and two vectors.

    The tokens have the width 2048 (CLIP L and bigG side by side). The vectors are the pooled text (1280) and the
    sinusoids of six sizes (6 * 256), in this order: the names of their conditions have to be in alphabetical order.
    Podell et al. 2023 (arXiv 2307.01952), table 1; `unet/config.json` of the diffusers folders.
    """
    return _LATENT.clone(
        multipliers=(1, 2, 4),
        attention_levels=(1, 2),
        transformer_depths=(1, 2, 10),
        head_channels=64,
        vectors="output",
    )


def imagen_64() -> UNet:
    """Imagen's base network for 64 pixels: 2 billion parameters with tokens and a pooled vector of width 4096 (T5 XXL).

    Saharia et al. 2022 (arXiv 2205.11487), appendix F.1. The pooled vector enters by two dense layers.
    """
    return adm_64().clone(channels=512, dropout=0.0, tokens="joint", context_norm=True, vectors="output")


def imagen_256() -> UNet:
    """Imagen's efficient U-Net from 64 to 256 pixels: 0.6 billion parameters.

    Saharia et al. 2022 (arXiv 2205.11487), appendices B and F.2. The low-resolution image is a condition of planes, and
    the tokens and the pooled vector have the width 4096 (T5 XXL).
    """
    return UNet(
        channels=128,
        multipliers=(1, 2, 4, 8),
        num_blocks=(2, 4, 8, 8),
        attention_levels=(3,),
        mid_attention=False,
        decoder_attention="last",
        heads=(8,) * 4,
        tokens="joint",
        context_norm=True,
        embedding=_OF_ADM,
        vectors="output",
        scale_shift=True,
        concat_scale=math.sqrt(0.5),
        resample_first=True,
    )
