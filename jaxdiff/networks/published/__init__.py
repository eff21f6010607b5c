"""The networks of publications, one function each: settings with their source and the number of their parameters.

- `transformers`: DiT, the transformers of Stable Diffusion 3 and 3.5, and JiT
"""

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

__all__ = [
    "dit_b",
    "dit_l",
    "dit_s",
    "dit_xl",
    "jit_b",
    "jit_h",
    "jit_l",
    "sd3_medium",
    "sd35_large",
    "sd35_medium",
]
