"""Data: sets of images or points, opened without TensorFlow, and the batches drawn from them.

- `open_tfds`: a TFDS image set by name, or the embedded `digits`; `open_folder`: a folder of pictures;
  `from_arrays`: arrays in memory; `toy2d`: points in the plane. Each gives an `Examples`.
- `in_memory`: decodes such a set once and for all.
- `training_batches`, `evaluation_batches`: iterators (`Batches`) over batches `{"x", "cond"}`.
- `prefetch`: brings batches to the device while the step before them runs (`Prefetched`).
- `device_arrays`, `training_indices`, `take`: the same batches of a set that lives on the device.
- `to_unit`, `to_uint8`: bytes to [-1, 1] and back.
- `Digits`, `prepare_digits`: the embedded set as a TFDS builder, and how it gets on disk.
"""

from jaxdiff.data.digits import Digits, prepare_digits
from jaxdiff.data.folder import open_folder
from jaxdiff.data.on_device import device_arrays, take, training_indices
from jaxdiff.data.pipelines import Batches, evaluation_batches, training_batches
from jaxdiff.data.pixels import to_uint8, to_unit
from jaxdiff.data.prefetch import Prefetched, prefetch
from jaxdiff.data.sources import Examples, from_arrays, in_memory
from jaxdiff.data.tfds_sets import open_tfds
from jaxdiff.data.toy import TOYS, toy2d

__all__ = [
    "TOYS",
    "Batches",
    "Digits",
    "Examples",
    "Prefetched",
    "device_arrays",
    "evaluation_batches",
    "from_arrays",
    "in_memory",
    "open_folder",
    "open_tfds",
    "prefetch",
    "prepare_digits",
    "take",
    "to_uint8",
    "to_unit",
    "toy2d",
    "training_batches",
    "training_indices",
]
