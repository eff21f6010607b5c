"""EDM2's networks (Karras et al. 2024, arXiv 2312.02696, table 5, and its code).

For latents of 4 channels, of 64 x 64. The counts are those of the code with 1000 classes; ours have one more, for no
class, which adds four times the channels. The networks of ImageNet in 64 x 64 pixels have the same settings.
"""

from jaxdiff.networks.unets.edm2 import EDM2


def edm2_xs() -> EDM2:
    """EDM2-XS: 124,713,125 parameters."""
    return EDM2(channels=128)


def edm2_s() -> EDM2:
    """EDM2-S: 280,212,709 parameters."""
    return EDM2(channels=192)


def edm2_m() -> EDM2:
    """EDM2-M, with a dropout of 0.1: 497,807,653 parameters."""
    return EDM2(channels=256, dropout=0.1)


def edm2_l() -> EDM2:
    """EDM2-L, with a dropout of 0.1: 777,497,957 parameters."""
    return EDM2(channels=320, dropout=0.1)


def edm2_xl() -> EDM2:
    """EDM2-XL, with a dropout of 0.1: 1,119,283,621 parameters."""
    return EDM2(channels=384, dropout=0.1)


def edm2_xxl() -> EDM2:
    """EDM2-XXL, with a dropout of 0.1: 1,523,164,645 parameters."""
    return EDM2(channels=448, dropout=0.1)
