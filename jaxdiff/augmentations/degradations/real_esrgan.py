"""The chain of degradations of Real-ESRGAN."""

from jaxdiff.augmentations.degradations.blur import Blur
from jaxdiff.augmentations.degradations.degradation import Degradation
from jaxdiff.augmentations.degradations.jpeg import Jpeg
from jaxdiff.augmentations.degradations.noise import Noise
from jaxdiff.augmentations.degradations.reduce import Reduce
from jaxdiff.augmentations.degradations.resize import Resize
from jaxdiff.augmentations.degradations.sinc import Sinc


def real_esrgan() -> tuple[Degradation, ...]:
    """The steps of Real-ESRGAN's degradation: blur, resampling, noise and JPEG twice, and a sinc filter last.

    Wang et al. 2021 (arXiv 2107.10833), section 3 and section 4.1; the probabilities of resampling are those of the
    published configuration `train_realesrgan_x4plus`. The picture is reduced after the second blur, so that the second
    resampling, noise and compression act on the small picture, as they do there. Three things differ from the paper:

    - Resampling returns to the old grid at once (see `Resize`).
    - A sinc filter replaces a blur with probability 0.1 in the paper. Here the two are drawn independently.
    - The last sinc filter and the last compression change places at random in the paper. Here the filter is last.
    """
    return (
        Blur(0.2, 3.0, anisotropic=0.3, generalised=0.15, plateau=0.15, probability=0.9),
        Sinc(probability=0.1),
        Resize(0.15, 1.5, enlarge=2 / 9, probability=0.9),
        Noise(1.0, 30.0, 0.05, 3.0, poisson=0.5, grey=0.4),
        Jpeg(30, 95),
        Blur(0.2, 1.5, anisotropic=0.3, generalised=0.15, plateau=0.15, probability=0.8 * 0.9),
        Sinc(probability=0.8 * 0.1),
        Reduce(),
        Resize(0.3, 1.2, enlarge=3 / 7, probability=0.7),
        Noise(1.0, 25.0, 0.05, 2.5, poisson=0.5, grey=0.4),
        Jpeg(30, 95),
        Sinc(probability=0.8),
    )
