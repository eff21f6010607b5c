"""Data: sets of images or points, opened without TensorFlow, and the batches drawn from them.

- `open_tfds`: a TFDS image set by name, or the embedded `digits`; `open_folder`: a folder of pictures;
  `from_arrays`: arrays in memory; `toy2d`: points in the plane. Each gives an `Images`.
- `in_memory`: decodes such a set once and for all.
- `training_batches`, `evaluation_batches`: iterators (`Batches`) over batches `{"x", "cond"}`.
- `prefetch`: brings batches to the device while the step before them runs (`Prefetched`).
- `resident_arrays`, `training_indices`, `take`: the same batches of a set that lives on the device.
- `augment`: EDM's augmentation, with its `AUGMENTATION_LABELS` labels per image.
- `to_unit`, `to_uint8`: bytes to [-1, 1] and back.
- `Digits`, `prepare_digits`: the embedded set as a TFDS builder, and how it gets on disk.
"""

from jaxdiff.data.augmentation import AUGMENTATION_LABELS, augment
from jaxdiff.data.digits import Digits, prepare_digits
from jaxdiff.data.folder import open_folder
from jaxdiff.data.pipelines import Batches, evaluation_batches, training_batches
from jaxdiff.data.pixels import to_uint8, to_unit
from jaxdiff.data.prefetch import Prefetched, prefetch
from jaxdiff.data.resident import resident_arrays, take, training_indices
from jaxdiff.data.sources import Images, from_arrays, in_memory
from jaxdiff.data.tfds_sets import open_tfds
from jaxdiff.data.toy import TOYS, toy2d

__all__ = [
    "AUGMENTATION_LABELS",
    "TOYS",
    "Batches",
    "Digits",
    "Images",
    "Prefetched",
    "augment",
    "evaluation_batches",
    "from_arrays",
    "in_memory",
    "open_folder",
    "open_tfds",
    "prefetch",
    "prepare_digits",
    "resident_arrays",
    "take",
    "to_uint8",
    "to_unit",
    "toy2d",
    "training_batches",
    "training_indices",
]
