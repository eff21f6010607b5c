"""Codecs: the space in which a model works.

- `codec`: the interface
- `pixels`: the data as they are; `standardised`: with mean 0 and standard deviation 1; `latents`: those of a frozen run
"""

from jaxdiff.codecs.codec import Codec
from jaxdiff.codecs.latents import Latents
from jaxdiff.codecs.pixels import Pixels
from jaxdiff.codecs.standardised import Standardised

__all__ = ["Codec", "Latents", "Pixels", "Standardised"]
