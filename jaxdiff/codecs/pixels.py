"""No codec: the model works on the data themselves."""

import dataclasses

from jaxdiff.codecs.codec import Codec


@dataclasses.dataclass(frozen=True)
class Pixels(Codec):
    """The data as they are: pictures in [-1, 1], all other fields in their own units."""
