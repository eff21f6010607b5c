"""The networks of publications, one function each: settings with their source and the number of their parameters.

- `text_encoders`: the encoders of latent diffusion, and one of sentences
"""

from jaxdiff.networks.published.text_encoders import clip_bigg, clip_h, clip_l, minilm, t5_xxl

__all__ = ["clip_bigg", "clip_h", "clip_l", "minilm", "t5_xxl"]
