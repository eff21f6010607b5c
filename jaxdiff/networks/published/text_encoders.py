"""The published text encoders: the configurations in the folders of published weights."""

from jaxdiff.networks.text.bert import BERT
from jaxdiff.networks.text.clip import CLIPText
from jaxdiff.networks.text.t5 import T5Encoder


def clip_l() -> CLIPText:
    """CLIP ViT-L/14 (Radford et al. 2021, arXiv 2103.00020), of Stable Diffusion 1: 123,060,480 parameters.

    Stable Diffusion XL takes its tokens before the last block. Stable Diffusion 3 does so too, and takes the vector
    with a projection to 768, which has 589,824 parameters more.
    """
    return CLIPText()


def clip_h() -> CLIPText:
    """OpenCLIP ViT-H/14 without its last block, as in Stable Diffusion 2: 340,387,840 parameters."""
    return CLIPText(width=1024, depth=23, heads=16, activation="gelu", end_id=None)


def clip_bigg() -> CLIPText:
    """OpenCLIP ViT-bigG/14 with its projection, of Stable Diffusion XL and 3: 694,659,840 parameters.

    Both take its tokens before the last block.
    """
    return CLIPText(width=1280, depth=32, heads=20, activation="gelu", projection=1280, before_last=True, end_id=None)


def t5_xxl() -> T5Encoder:
    """The encoder of T5 v1.1 XXL (Raffel et al. 2020, arXiv 1910.10683), of Imagen: 4,762,310,656 parameters."""
    return T5Encoder()


def minilm() -> BERT:
    """all-MiniLM-L6-v2 (Wang et al. 2020, arXiv 2002.10957) without BERT's pooling layer: 22,565,376 parameters."""
    return BERT()
