"""Augmentations: random changes to a batch of examples, inside the training step.

- `augmentation`: the interface of the components
- `flip`: mirrored pictures and videos; `crop`: squares at random places
- `edm`: EDM's geometric transformations of images, with the nine augmentation features that tell the network about them
- `degrade`: a degraded copy of a picture, made by the chains of `degradations`
"""

from jaxdiff.augmentations import degradations
from jaxdiff.augmentations.augmentation import Augmentation
from jaxdiff.augmentations.crop import Crop
from jaxdiff.augmentations.degrade import Degrade
from jaxdiff.augmentations.edm import AUGMENTATION_FEATURES, EDM, augment
from jaxdiff.augmentations.flip import Flip

__all__ = ["AUGMENTATION_FEATURES", "EDM", "Augmentation", "Crop", "Degrade", "Flip", "augment", "degradations"]
