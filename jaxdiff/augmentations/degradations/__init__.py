"""Degradations: random changes that make a picture worse, for models that restore pictures.

A degradation is a pure function of a random key and of a picture `[h, w, c]` with values in [-1, 1]. `Degrade` makes a
chain of them.

- `degradation`: the interface
- `reduce`: the mark of the place where the picture is reduced
- `blur`: Gaussian kernels and their relatives
- `sinc`: the low-pass filter that makes edges ring
- `filters`: the parts of both
- `resize`: resampling to a random scale and back
- `noise`: Gaussian and Poisson noise
- `jpeg`: JPEG compression
- `grey`: no colours
- `hide`: boxes, borders and strokes that hide a part of the picture
- `one_of`: a random choice of degradations, for one model of several tasks
- `real_esrgan`: the published chain of Real-ESRGAN
"""

from jaxdiff.augmentations.degradations.blur import Blur
from jaxdiff.augmentations.degradations.degradation import Degradation
from jaxdiff.augmentations.degradations.grey import Grey
from jaxdiff.augmentations.degradations.hide import Hide
from jaxdiff.augmentations.degradations.jpeg import Jpeg
from jaxdiff.augmentations.degradations.noise import Noise
from jaxdiff.augmentations.degradations.one_of import OneOf
from jaxdiff.augmentations.degradations.real_esrgan import real_esrgan
from jaxdiff.augmentations.degradations.reduce import Reduce
from jaxdiff.augmentations.degradations.resize import Resize
from jaxdiff.augmentations.degradations.sinc import Sinc

__all__ = ["Blur", "Degradation", "Grey", "Hide", "Jpeg", "Noise", "OneOf", "Reduce", "Resize", "Sinc", "real_esrgan"]
