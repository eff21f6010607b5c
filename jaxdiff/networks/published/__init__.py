"""Published networks by name: functions without further settings, whose docstrings tell source and size.

`published.ddpm()` is a network like any other: `published.ddpm().clone(dropout=0.0)` changes a setting. The counts of
parameters are those of the network with the conditions that its docstring names.

- `unets`: DDPM, score_sde and EDM, ADM, Stable Diffusion 1 to XL, Imagen
- `edm2`: EDM2, from XS to XXL
- `transformers`: DiT, Stable Diffusion 3 and 3.5, JiT
- `text_encoders`: the encoders of latent diffusion, and one of sentences
"""

from jaxdiff.networks.published.edm2 import edm2_l, edm2_m, edm2_s, edm2_xl, edm2_xs, edm2_xxl
from jaxdiff.networks.published.text_encoders import clip_bigg, clip_h, clip_l, minilm, t5_xxl
from jaxdiff.networks.published.transformers import (
    dit_b,
    dit_l,
    dit_s,
    dit_xl,
    jit_b,
    jit_h,
    jit_l,
    sd3_medium,
    sd35_large,
    sd35_medium,
)
from jaxdiff.networks.published.unets import (
    adm_64,
    adm_128,
    adm_256,
    adm_512,
    ddpm,
    ddpm_256,
    ddpmpp,
    imagen_64,
    imagen_256,
    ncsnpp,
    ncsnpp_256,
    stable_diffusion_1,
    stable_diffusion_2,
    stable_diffusion_xl,
)

__all__ = [
    "adm_64",
    "adm_128",
    "adm_256",
    "adm_512",
    "clip_bigg",
    "clip_h",
    "clip_l",
    "ddpm",
    "ddpm_256",
    "ddpmpp",
    "dit_b",
    "dit_l",
    "dit_s",
    "dit_xl",
    "edm2_l",
    "edm2_m",
    "edm2_s",
    "edm2_xl",
    "edm2_xs",
    "edm2_xxl",
    "imagen_64",
    "imagen_256",
    "jit_b",
    "jit_h",
    "jit_l",
    "minilm",
    "ncsnpp",
    "ncsnpp_256",
    "sd3_medium",
    "sd35_large",
    "sd35_medium",
    "stable_diffusion_1",
    "stable_diffusion_2",
    "stable_diffusion_xl",
    "t5_xxl",
]
