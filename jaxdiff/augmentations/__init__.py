"""Augmentations: random changes to a batch of examples.

- `edm`: EDM's geometric transformations of images, with the nine augmentation features that tell the network about them
"""

from jaxdiff.augmentations.edm import AUGMENTATION_FEATURES, augment

__all__ = ["AUGMENTATION_FEATURES", "augment"]
