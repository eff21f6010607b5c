"""Published networks by name: functions without further settings, whose docstrings tell source and size.

`published.ddpm()` is a network like any other: `published.ddpm().clone(dropout=0.0)` changes a setting. The counts of
parameters are those of the network with the conditions that its docstring names.
"""

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
    "ddpm",
    "ddpm_256",
    "ddpmpp",
    "imagen_64",
    "imagen_256",
    "ncsnpp",
    "ncsnpp_256",
    "stable_diffusion_1",
    "stable_diffusion_2",
    "stable_diffusion_xl",
]
